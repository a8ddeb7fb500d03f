"""Networks: published sizes, second implementations, and what training relies on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import gamedyn as gd
from gamedyn import gan, nets

# Compiling is what these tests take their time for.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)

CLASSES = {"num_classes": 3}


def _dcgan(size, generator=None, discriminator=None, **options):
    """A small pair; conditions by name."""
    options = {"width": 2, **options}

    def build(make, condition):
        classes = {} if condition is None else CLASSES
        return functools.partial(make, size, condition=condition, **classes, **options)

    return (
        functools.partial(build(nets.dcgan_generator, generator), latent=5),
        build(nets.dcgan_discriminator, discriminator),
        (size, size, options.get("channels", 1)),
    )


def _sngan(condition):
    classes = CLASSES if condition else {}
    return (
        functools.partial(
            nets.sngan_generator,
            latent=5,
            width=3,
            condition="batch_norm" if condition else None,
            **classes,
        ),
        functools.partial(
            nets.sngan_discriminator,
            width=3,
            condition="projection" if condition else None,
            **classes,
        ),
        (32, 32, 3),
    )


def _mlp(**options):
    inputs = 5, 4
    return (
        functools.partial(nets.mlp, (inputs[0], 7, 2), batch_norm=True, **options),
        functools.partial(nets.mlp, (2, 7, 1), output_shape=(), **options),
        (2,),
    )


def _mostly_slow(names, *quick):
    slow = pytest.mark.slow
    return [n if n in quick else pytest.param(n, marks=slow) for n in names]


# Builders of generator and discriminator, and the shape of an example.
CONVOLUTIONAL = {
    "dcgan8": _dcgan(8),
    "dcgan8, layer": _dcgan(8, norm="layer", channels=3),
    "dcgan8, spectral": _dcgan(8, norm="spectral"),
    "dcgan8, none": _dcgan(8, norm="none", bias=False),
    "dcgan8, one_hot": _dcgan(8, "one_hot", "one_hot"),
    "dcgan8, embedding": _dcgan(8, "embedding", "embedding", norm="layer"),
    "dcgan8, projection": _dcgan(8, "batch_norm", "projection"),
    "dcgan8, auxiliary": _dcgan(8, "one_hot", "auxiliary"),
    "dcgan28": _dcgan(28),
    "dcgan32": _dcgan(32, channels=3),
    "dcgan64": _dcgan(64, channels=3),
    "sngan": _sngan(False),
    "sngan, classes": _sngan(True),
}
PLAIN = {
    "mlp": _mlp(),
    "mlp, one_hot": _mlp(condition="one_hot", **CLASSES),
    "pacgan": (
        functools.partial(nets.pacgan_generator, latent=5, width=6),
        functools.partial(nets.pacgan_discriminator, width=4, pieces=3),
        (2,),
    ),
    "mirza_osindero": (
        functools.partial(
            nets.mirza_osindero_generator, latent=5, output_shape=(4, 4, 1), **CLASSES
        ),
        functools.partial(
            nets.mirza_osindero_discriminator, input_shape=(4, 4, 1), **CLASSES
        ),
        (4, 4, 1),
    ),
}
PAIRS = CONVOLUTIONAL | PLAIN
CONDITIONAL = [
    "dcgan8, one_hot",
    "dcgan8, embedding",
    "dcgan8, projection",
    "dcgan8, auxiliary",
    "sngan, classes",
    "mlp, one_hot",
    "mirza_osindero",
]
SMALL = ["dcgan8, projection", "mlp, one_hot"]


class Case:
    """A pair with parameters and inputs."""

    def __init__(self, name, dtype=jnp.float64, batch=4, **options):
        make_generator, make_discriminator, self.shape = PAIRS[name]
        if name in CONVOLUTIONAL:
            options = {"impl": "xla", **options}  # compiles fastest
        self.generator = make_generator(dtype=dtype, **options)
        self.discriminator = make_discriminator(dtype=dtype, **options)
        random = np.random.default_rng(1)
        self.z = jnp.asarray(random.normal(size=(batch, 5)), dtype)
        self.x = jnp.asarray(random.normal(size=(batch, *self.shape)), dtype)
        labels = jnp.asarray(np.arange(batch) % 3, jnp.int32)
        self.labels = (labels,) if name in CONDITIONAL else ()
        self.d_labels = () if name.endswith("auxiliary") else self.labels

    def init(self, key):
        keys = jax.random.split(key)
        return self.generator.init(keys[0]), self.discriminator.init(keys[1])

    @functools.cached_property
    def params(self):
        return quick_jit(self.init)(jax.random.key(0))

    @functools.cached_property
    def moved(self):
        """Kernels of N(0, .02^2) leave little to compare, and classes start alike."""
        random = np.random.default_rng(0)

        def move(leaf):
            larger = (8 if leaf.ndim > 1 else 1) * np.asarray(leaf)
            return jnp.asarray(larger + 0.1 * random.normal(size=leaf.shape))

        return jax.tree.map(move, self.params)

    def outputs(self, params, z=None, x=None, *labels):
        """Fakes, the discriminator's view of x, and that of the fakes."""
        g, d = params
        fake = self.generator.apply(
            g, self.z if z is None else z, *labels or self.labels
        )
        seen = labels[: len(self.d_labels)] or self.d_labels
        real = self.discriminator.apply(d, self.x if x is None else x, *seen)
        return fake, real, self.discriminator.apply(d, fake, *seen)

    def loss(self, params):
        fake, *logits = self.outputs(params)
        terms = jax.tree.map(lambda v: jnp.mean(jnp.square(v - 1)), (fake, logits))
        return sum(jax.tree.leaves(terms))


@functools.cache
def _case(name):
    """In float64, with its outputs compiled."""
    case = Case(name)
    case.run = quick_jit(case.outputs)
    return case


def _close(a, b, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        a, b,
    )  # fmt: skip


# Shapes, sizes, dtypes.


@pytest.mark.parametrize("name", PAIRS)
def test_shapes_dtypes_and_no_stop_gradient(name):
    case = Case(name, jnp.float32)
    params = jax.eval_shape(case.init, jax.random.key(0))
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == jnp.float32
    jaxpr, shapes = jax.make_jaxpr(case.outputs, return_shape=True)(params)
    assert "stop_gradient" not in str(jaxpr)
    fake, real, _ = shapes
    assert (fake.shape, fake.dtype) == ((4, *case.shape), jnp.float32)
    logits, *classes = real if name.endswith("auxiliary") else (real,)
    assert (logits.shape, logits.dtype) == ((4,), jnp.float32)
    assert [c.shape for c in classes] == [(4, 3)] * len(classes)


def _init(net):
    return quick_jit(net.init)(jax.random.key(0))


def _count(net):
    return nets.count_parameters(jax.eval_shape(net.init, jax.random.key(0)))


def test_float64_starts_where_float32_does():
    small = _init(nets.dcgan_generator(8, width=2))
    large = _init(nets.dcgan_generator(8, width=2, dtype=jnp.float64))
    jax.tree.map(np.testing.assert_array_equal, small, large)


def test_initial_distribution():
    params = _init(nets.dcgan_generator(28))
    kernel, scale = params["dense"]["kernel"], params["norm0"]["scale"]
    assert abs(float(jnp.std(kernel)) - 0.02) < 1e-4
    assert abs(float(jnp.mean(scale)) - 1) < 0.01
    assert 0.015 < float(jnp.std(scale)) < 0.025
    block = _init(nets.sngan_generator(width=64))["block0"]
    # Uniform on +-gain sqrt(6 / (fan in + fan out)), fans with the pixels.
    limit = (6 / (2 * 9 * 64)) ** 0.5
    largest = float(jnp.max(jnp.abs(block["conv0"]["kernel"])))
    assert 0.99 * 2**0.5 * limit < largest <= 2**0.5 * limit * (1 + 1e-6)


def test_published_counts():
    """Torch's DCGAN example, and SNGAN for CIFAR-10."""
    options = {"channels": 3, "bias": False}
    assert _count(nets.dcgan_generator(64, latent=100, **options)) == 3_576_704
    assert _count(nets.dcgan_discriminator(64, **options)) == 2_765_568
    assert _count(nets.sngan_generator()) == 4_276_739
    assert _count(nets.sngan_discriminator()) == 1_053_825


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("size", "widths", "base", "latent"),
    [(8, [128, 64], 2, 128), (28, [128, 64], 7, 100), (32, [256, 128, 64], 4, 128)],
)
def test_dcgan_counts(size, widths, base, latent, bias):
    """Kernels, scale and offset of every normalisation, biases elsewhere."""
    chain = [*widths, 1]
    kernels = sum(16 * a * b for a, b in zip(chain, chain[1:], strict=False))
    generator = latent * base**2 * widths[0] + kernels + 2 * sum(widths) + bias
    assert _count(nets.dcgan_generator(size, latent=latent, bias=bias)) == generator
    dense = base**2 * widths[0]
    discriminator = kernels + dense + 2 * sum(widths[:-1]) + bias * (widths[-1] + 1)
    assert _count(nets.dcgan_discriminator(size, bias=bias)) == discriminator


def test_other_counts():
    classes = {"num_classes": 10}
    generator = _count(nets.dcgan_generator(28))
    for condition, more in [
        ("one_hot", 10 * 6272),
        ("embedding", 128 * 6272 + 10 * 128),
        ("batch_norm", 9 * 2 * (128 + 64)),
    ]:
        net = nets.dcgan_generator(28, condition=condition, **classes)
        assert _count(net) - generator == more
    discriminator = _count(nets.dcgan_discriminator(28))
    for condition, more in [
        ("one_hot", 10 * 16 * 64),
        ("embedding", 16 * 64 + 10 * 784),
        ("projection", 10 * 6272),
        ("auxiliary", 10 * 6272 + 10),
    ]:
        net = nets.dcgan_discriminator(28, condition=condition, **classes)
        assert _count(net) - discriminator == more
    # In the generator's last normalisation the classes are alike.
    net = nets.sngan_generator(condition="batch_norm", **classes)
    assert _count(net) == 4_276_739 + 9 * 6 * 512
    net = nets.sngan_discriminator(condition="projection", **classes)
    assert _count(net) == 1_053_825 + 10 * 128
    assert _count(nets.mlp((2, 128, 128, 1))) == 3 * 128 + 129 * 128 + 129
    assert _count(nets.mlp((2, 8, 1), condition="one_hot", **classes)) == 13 * 8 + 9
    # Kernels, scales and offsets, and the only bias.
    assert _count(nets.pacgan_generator()) == 800 + 3 * 400**2 + 800 + 4 * 800 + 2
    assert _count(nets.pacgan_discriminator()) == 3000 + 2 * 201_000 + 201
    assert _count(nets.mirza_osindero_generator()) == (
        101 * 200 + 11 * 1000 + 1201 * 1200 + 1201 * 784
    )
    assert _count(nets.mirza_osindero_discriminator()) == (
        785 * 1200 + 11 * 250 + 291 * 960 + 241
    )


# What training and analysis rely on.


@pytest.mark.parametrize("name", _mostly_slow(CONVOLUTIONAL, "dcgan8, projection"))
def test_implementations_agree(name):
    """In outputs and gradients."""

    def results(impl):
        case = Case(name, impl=impl)
        run = quick_jit(lambda p: (case.outputs(p), jax.grad(case.loss)(p)))
        return run(_case(name).moved)

    _close(results("matmul"), results("xla"), 1e-10)


@pytest.mark.parametrize(
    "name", _mostly_slow(["dcgan28", "sngan, classes"], "sngan, classes")
)
def test_outputs_of_implementations_agree(name):
    other = quick_jit(Case(name, impl="matmul").outputs)(_case(name).moved)
    case = _case(name)
    _close(other, case.run(case.moved, case.z, case.x, *case.labels), 1e-10)


@pytest.mark.parametrize("name", _mostly_slow(PAIRS, *CONDITIONAL, "dcgan28", "mlp"))
def test_labels_matter_and_examples_are_exchangeable(name):
    """Permuting examples, and labels with them, permutes the outputs."""
    case = _case(name)
    inputs = (case.z, case.x, *case.labels)
    outputs = case.run(case.moved, *inputs)
    order = np.array([2, 0, 3, 1])
    permuted = case.run(case.moved, *(each[order] for each in inputs))
    _close(permuted, jax.tree.map(lambda leaf: leaf[order], outputs), 1e-10)
    if case.labels:
        other = case.run(case.moved, case.z, case.x, (case.labels[0] + 1) % 3)
        fakes = np.abs(np.asarray(outputs[0] - other[0])).reshape(4, -1)
        assert fakes.max(axis=1).min() > 1e-6
    if case.d_labels:
        assert np.abs(np.asarray(outputs[1] - other[1])).min() > 1e-9


@pytest.mark.parametrize("name", SMALL)
def test_second_derivatives(name):
    """The jvp of the gradient against central differences of the gradient."""
    case = _case(name)
    params = case.moved
    random = np.random.default_rng(2)
    tangent = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape)), params)
    step = 1e-6

    @quick_jit
    def both(params, tangent):
        gradient, product = jax.jvp(jax.grad(case.loss), (params,), (tangent,))
        return gradient, product

    def gradient(sign):
        at = jax.tree.map(lambda p, t: p + sign * step * t, params, tangent)
        return both(at, tangent)[0]

    exact = both(params, tangent)[1]
    numeric = jax.tree.map(lambda a, b: (a - b) / (2 * step), gradient(1), gradient(-1))
    size = optax.tree.norm(exact)
    assert size > 1e-3
    assert optax.tree.norm(jax.tree.map(jnp.subtract, exact, numeric)) < 1e-6 * size


@pytest.mark.parametrize("name", SMALL)
def test_vmap_over_parameters(name):
    case = _case(name)
    several = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p]), case.moved)
    mapped = quick_jit(jax.vmap(case.outputs))(several)
    inputs = (case.z, case.x, *case.labels)
    for i, factor in enumerate([1.0, 0.5]):
        single = case.run(jax.tree.map(lambda p, f=factor: f * p, case.moved), *inputs)
        _close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), single, 1e-10)


def test_no_retrace():
    case = Case("dcgan8, projection", jnp.float32)
    traces = []

    @quick_jit
    def loss(params):
        traces.append(0)
        return case.loss(params)

    loss(case.params)
    loss(jax.tree.map(lambda p: 2 * p, case.params))
    assert len(traces) == 1
    assert isinstance(hash(case.generator), int)


def test_flag_of_batch_statistics():
    assert nets.dcgan_generator(8).batch_statistics
    assert nets.dcgan_generator(8).statistics is not None
    for norm in ("layer", "none", "spectral"):
        net = nets.dcgan_discriminator(8, norm=norm)
        assert not net.batch_statistics
        assert net.statistics is None
    assert not nets.sngan_discriminator().batch_statistics


def test_lowers_for_tpu():
    generator = nets.dcgan_generator(28, impl="xla")
    discriminator = nets.dcgan_discriminator(28, impl="xla")
    keys = jax.random.split(jax.random.key(0))
    g, d = (
        jax.eval_shape(net.init, key)
        for net, key in zip((generator, discriminator), keys, strict=True)
    )

    def loss(g, d, z):
        return jnp.mean(discriminator.apply(d, generator.apply(g, z)))

    z = jax.ShapeDtypeStruct((8, 128), jnp.float32)
    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(g, d, z)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.convolution" in text


# Second implementations, written after the tables with XLA's convolutions in NHWC.


def _conv(params, x, stride=1, padding=1):
    y = lax.conv_general_dilated(
        x, params["kernel"], (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return y + params.get("bias", jnp.zeros(y.shape[-1]))[None, None, None]


def _batch_norm(params, x, labels=None):
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    scale, offset = params["scale"], params["offset"]
    if labels is not None:
        scale, offset = scale[labels], offset[labels]
    shape = (-1, *[1] * (x.ndim - 2), x.shape[-1])
    x = (x - mean) / jnp.sqrt(variance + 1e-5)
    return x * scale.reshape(shape) + offset.reshape(shape)


def _repeated(x):
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def _pooled(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def test_sngan_against_the_table():
    case = _case("sngan, classes")
    (g, d), (labels,) = case.moved, case.labels
    dense = g["dense"]
    x = (case.z @ dense["kernel"] + dense["bias"][None]).reshape(-1, 4, 4, 3)
    for i in range(3):
        block = g[f"block{i}"]
        y = jax.nn.relu(_batch_norm(block["norm0"], x, labels))
        y = _conv(block["conv0"], _repeated(y))
        y = jax.nn.relu(_batch_norm(block["norm1"], y, labels))
        x = _conv(block["skip"], _repeated(x), padding=0) + _conv(block["conv1"], y)
    fake = jnp.tanh(_conv(g["conv"], jax.nn.relu(_batch_norm(g["norm"], x))))

    def normalised(leaf):
        if leaf.ndim < 2:
            return leaf
        return leaf / jnp.linalg.norm(leaf.reshape(-1, leaf.shape[-1]), 2)

    d = jax.tree.map(normalised, d)
    x = case.x
    for i in range(4):
        block = d[f"block{i}"]
        y = _conv(block["conv0"], jax.nn.relu(x) if i else x)
        y = _conv(block["conv1"], jax.nn.relu(y))
        if "skip" in block:
            x, y = _pooled(_conv(block["skip"], x, padding=0)), _pooled(y)
        x = x + y
    h = jax.nn.relu(x).sum((1, 2))
    real = (h @ d["dense"]["kernel"])[:, 0] + d["dense"]["bias"]
    real = real + (h * d["classes"]["kernel"][labels]).sum(1)

    outputs = case.run(case.moved, case.z, case.x, labels)
    _close(outputs[0], fake, 1e-10)
    # The estimate of the spectral norms is the difference.
    _close(outputs[1], real, 1e-6)


def test_dcgan_with_weights_from_torch():
    """A torch state, carried over, gives what torch's definition gives."""
    random = np.random.default_rng(0)
    state = {
        "project.weight": random.normal(size=(4 * 2 * 2, 5)),  # rows in order C, H, W
        "up0.weight": random.normal(size=(4, 2, 4, 4)),
        "up1.weight": random.normal(size=(2, 1, 4, 4)),
        "up1.bias": random.normal(size=1),
        "norm0.weight": random.normal(size=4),
        "norm0.bias": random.normal(size=4),
        "norm1.weight": random.normal(size=2),
        "norm1.bias": random.normal(size=2),
    }
    net = nets.dcgan_generator(8, latent=5, width=2, dtype=jnp.float64)
    dense = state["project.weight"].reshape(4, 2, 2, 5).transpose(3, 1, 2, 0)
    params = {"dense": {"kernel": jnp.asarray(dense.reshape(5, 16))}}
    for i in range(2):
        params[f"norm{i}"] = {
            "scale": jnp.asarray(state[f"norm{i}.weight"]),
            "offset": jnp.asarray(state[f"norm{i}.bias"]),
        }
        weight = state[f"up{i}.weight"]
        params[f"conv{i}"] = {"kernel": nets.from_torch_conv_transpose2d(weight)}
    params["conv1"]["bias"] = jnp.asarray(state["up1.bias"])
    start = _init(net)
    assert jax.tree.structure(params) == jax.tree.structure(start)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, start)

    z = random.normal(size=(3, 5))
    x = (z @ state["project.weight"].T).reshape(3, 4, 2, 2)  # NCHW
    for i in range(2):
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        x = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
        x = x * state[f"norm{i}.weight"][:, None, None]
        x = np.maximum(x + state[f"norm{i}.bias"][:, None, None], 0)
        rows = x.shape[2]
        y = np.zeros((3, state[f"up{i}.weight"].shape[1], 2 * rows + 2, 2 * rows + 2))
        for r in range(rows):
            for c in range(rows):
                y[:, :, 2 * r : 2 * r + 4, 2 * c : 2 * c + 4] += np.einsum(
                    "ni,iokl->nokl", x[:, :, r, c], state[f"up{i}.weight"]
                )
        x = y[:, :, 1:-1, 1:-1]
    x = np.tanh(x + state["up1.bias"][:, None, None])
    _close(net.apply(params, jnp.asarray(z)), x.transpose(0, 2, 3, 1), 1e-12)


def test_mlp_against_numpy():
    case = _case("mlp, one_hot")
    (g, d), labels = jax.tree.map(np.asarray, (case.moved, case.labels[0]))
    classes = np.eye(3)[labels]
    h = np.concatenate([case.z, classes], axis=1) @ g["dense0"]["kernel"]
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    h = np.maximum(h * g["norm0"]["scale"] + g["norm0"]["offset"], 0)
    fake = h @ g["dense1"]["kernel"] + g["dense1"]["bias"]
    h = np.concatenate([case.x, classes], axis=1) @ d["dense0"]["kernel"]
    h = np.maximum(h + d["dense0"]["bias"], 0)
    real = (h @ d["dense1"]["kernel"] + d["dense1"]["bias"])[:, 0]
    _close(case.outputs(case.moved)[:2], (fake, real), 1e-12)


def test_mirza_osindero_against_numpy():
    case = _case("mirza_osindero")
    (g, d), labels = jax.tree.map(np.asarray, (case.moved, case.labels[0]))

    def affine(layer, x):
        return np.asarray(x) @ layer["kernel"] + layer["bias"]

    def maxout(layer, x, pieces):
        y = np.asarray(affine(layer, x))
        return np.stack([y[:, j::pieces] for j in range(pieces)]).max(0)

    classes = np.eye(3)[labels]
    h = [affine(g["latent"], case.z), affine(g["classes"], classes)]
    h = affine(g["joint"], np.maximum(np.concatenate(h, axis=1), 0))
    fake = np.tanh(affine(g["dense"], np.maximum(h, 0)) / 2).reshape(4, 4, 4, 1)
    h = [
        maxout(d["picture"], np.asarray(case.x).reshape(4, -1), 5),
        maxout(d["classes"], classes, 5),
    ]
    h = maxout(d["joint"], np.concatenate(h, axis=1), 4)
    real = affine(d["dense"], h)[:, 0]
    _close(case.outputs(case.moved)[:2], (fake, real), 1e-10)


def test_pacgan_takes_packs():
    net = nets.pacgan_discriminator(inputs=6, width=4)
    params = _init(net)
    x = jax.random.normal(jax.random.key(1), (5, 3, 2), jnp.float32)
    _close(net.apply(params, x), net.apply(params, x.reshape(5, 6)), 0)


# Wrappers.


def test_compute_in_bfloat16():
    case = Case("dcgan8", jnp.float32, batch=64)
    generator = nets.compute_in(case.generator, jnp.bfloat16)
    discriminator = nets.compute_in(case.discriminator, jnp.bfloat16)
    (g, d) = case.params
    dtypes = []

    def loss(g):
        fake = generator.apply(g, case.z)
        logits = discriminator.apply(d, fake)
        dtypes.extend([fake.dtype, logits.dtype])
        return jnp.mean(logits)

    gradient = quick_jit(jax.grad(loss))(g)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((g, gradient)))
    assert dtypes == [jnp.float32, jnp.float32]
    jaxpr = str(jax.make_jaxpr(generator.apply)(g, case.z))
    assert jaxpr.count("bf16[") > 10
    exact, rough = (quick_jit(n.apply)(g, case.z) for n in (case.generator, generator))
    difference = jnp.max(jnp.abs(exact - rough)) / jnp.max(jnp.abs(exact))
    assert 0 < difference < 0.05
    standing = jax.eval_shape(generator.statistics, g, case.z[None])
    for leaf in jax.tree.leaves(standing):
        assert leaf.dtype == jnp.float32
    sampled = jax.eval_shape(
        lambda s: generator.apply(g, case.z, statistics=s), standing
    )
    assert sampled.dtype == jnp.float32
    assert generator.batch_statistics


def test_compute_in_keeps_labels_and_pairs():
    net = nets.compute_in(
        nets.dcgan_discriminator(8, width=2, condition="auxiliary", **CLASSES),
        jnp.bfloat16,
    )
    params = _init(net)
    x = jnp.ones((2, 8, 8, 1), jnp.float32)
    logits, classes = jax.eval_shape(net.apply, params, x)
    assert logits.dtype == classes.dtype == jnp.float32
    with pytest.raises(TypeError, match="floating-point"):
        nets.compute_in(net, jnp.int32)
    line = nets.from_function(lambda key: jnp.ones(2, int), lambda w, x: x)
    with pytest.raises(TypeError, match="floating-point array"):
        nets.compute_in(line, jnp.bfloat16).apply(jnp.ones(2, int), jnp.ones(2))


def test_concatenate_condition():
    inner = nets.mlp((3, 5, 2), batch_norm=True)
    net = nets.concatenate_condition(inner)
    params = _init(net)
    x, c = jnp.ones((4, 1), jnp.float32), jnp.eye(4, 2, dtype=jnp.float32)
    joined = jnp.concatenate([x, c], axis=-1)
    _close(net.apply(params, x, c), inner.apply(params, joined), 1e-6)
    standing = net.statistics(params, (x[None], c[None]))
    _close(standing, inner.statistics(params, joined[None]), 1e-6)
    with pytest.raises(ValueError, match="last axis"):
        net.apply(params, x, c[:3])


def test_two_steps_of_training():
    case = Case("mlp, one_hot", jnp.float32)

    def generator_loss(g, d):
        return -jnp.mean(case.outputs((g, d))[2])

    def discriminator_loss(g, d):
        _, real, fake = case.outputs((g, d))
        return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))

    game = gd.general_sum(generator_loss, discriminator_loss)
    rule = gd.alternating(optax.sgd(0.1))
    end = quick_jit(lambda p: gd.solve(game, rule, p, 2).params)(case.params)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), case.params, end)
    assert min(jax.tree.leaves(moved)) > 0


# Patches.


def test_patches():
    """The published size, and what a logit sees."""
    net = nets.patch_discriminator(channels=6)
    params = jax.eval_shape(net.init, jax.random.key(0))
    assert nets.count_parameters(params) == 2_768_705
    pictures = jax.ShapeDtypeStruct((2, 256, 256, 6), jnp.float32)
    assert jax.eval_shape(net.apply, params, pictures).shape == (2, 30, 30)
    assert net.batch_statistics

    options = {"channels": 2, "width": 2, "num_halvings": 1, "norm": "instance"}
    random = np.random.default_rng(0)

    def drawn(net):
        shapes = jax.eval_shape(net.init, jax.random.key(0))
        return jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)

    x = jnp.asarray(random.normal(size=(2, 32, 32, 2)))
    free, instance = (
        nets.patch_discriminator(**{**options, "norm": norm}, impl="xla")
        for norm in ("none", "instance")
    )
    assert not instance.batch_statistics
    seen = quick_jit(jax.grad(lambda x, p: free.apply(p, x)[0, 7, 7]))(x, drawn(free))
    assert [np.ptp(where) + 1 for where in np.nonzero(seen[0])[:2]] == [16, 16]
    assert not np.any(seen[1])
    params = drawn(instance)
    logits = [
        quick_jit(nets.patch_discriminator(**options, impl=impl).apply)(params, x)
        for impl in ("xla", "matmul")
    ]
    _close(*logits, 1e-10)
    with pytest.raises(ValueError, match=r"shape \(B, H, W, 2\), got \(2, 32, 32, 1\)"):
        instance.apply(params, x[..., :1])


def test_pictures_to_pictures_by_patches():
    """A game with conditions that are pictures, judged in pairs by patches."""
    generator = nets.from_function(
        lambda key: jnp.zeros(()), lambda theta, z, picture: theta + picture
    )
    discriminator = nets.concatenate_condition(
        nets.patch_discriminator(channels=2, width=2, num_halvings=1, dtype=jnp.float64)
    )
    game = gan.game(
        generator,
        discriminator,
        "least_squares",
        latent=gan.normal(1),
        conditional=gan.conditional.pictures(reconstruction=3.0),
    )
    shapes = jax.eval_shape(discriminator.init, jax.random.key(0))
    phi = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    phi["conv2"]["bias"] += 0.25
    real = jnp.full((3, 16, 16, 1), 2.0)
    batch = gan.Batch(real, jax.random.key(0), jnp.ones((3, 16, 16, 1)))
    own, critic = quick_jit(game)((jnp.asarray(0.5), phi), batch)
    # Every logit is .25, every pixel of G is 1.5 where the data have 2.
    np.testing.assert_allclose(own, 0.5 * 0.75**2 + 3 * 0.5)
    np.testing.assert_allclose(critic, 0.5 * 0.75**2 + 0.5 * 0.25**2)


# Errors.


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nets.patch_discriminator(norm="layer"), "norm must be one of"),
        (lambda: nets.dcgan_generator(30), "one of 8, 28, 32, 64, got 30"),
        (lambda: nets.dcgan_generator(norm="bach"), "did you mean 'batch'"),
        (lambda: nets.dcgan_generator(width=0), "width must be a positive integer"),
        (lambda: nets.dcgan_generator(condition="onehot"), "did you mean 'one_hot'"),
        (lambda: nets.dcgan_generator(condition="one_hot"), "num_classes"),
        (lambda: nets.dcgan_discriminator(num_classes=3), "num_classes"),
        (
            lambda: nets.dcgan_generator(
                norm="none", condition="batch_norm", num_classes=3
            ),
            "expected norm 'batch', got 'none'",
        ),
        (lambda: nets.sngan_discriminator(condition="one_hot"), "'projection'"),
        (lambda: nets.mlp((3,)), "inputs and outputs"),
        (lambda: nets.mlp((3, 4), output_shape=(2, 3)), "expected 4 outputs"),
        (lambda: nets.mlp((3, 4), condition="label"), "condition must be one of"),
        (lambda: nets.mirza_osindero_generator(latent=0), "latent must be"),
    ],
)
def test_build_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_call_errors():
    net = nets.dcgan_discriminator(8, width=2, condition="projection", **CLASSES)
    params = _init(net)
    x = jnp.ones((2, 8, 8, 1), jnp.float32)
    with pytest.raises(ValueError, match=r"expected pictures of shape \(B, 8, 8, 1\)"):
        net.apply(params, x[:, :4], jnp.zeros(2, jnp.int32))
    with pytest.raises(TypeError, match="expected labels of 3 classes"):
        net.apply(params, x)
    with pytest.raises(TypeError, match="integer dtype, got float32"):
        net.apply(params, x, jnp.zeros(2, jnp.float32))
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        net.apply(params, x, jnp.zeros(3, jnp.int32))
    plain = nets.mlp((2, 1))
    params = _init(plain)
    with pytest.raises(TypeError, match="expected no labels"):
        plain.apply(params, jnp.ones((2, 2), jnp.float32), jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="expected no statistics"):
        plain.apply(params, jnp.ones((2, 2), jnp.float32), statistics={})
