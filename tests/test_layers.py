"""Layers, normalisations and flax modules against numpy and against one another."""

import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gamedyn as gd
from gamedyn import nets
from gamedyn.nets import layers, normalisation, spectral

quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def _normal(seed, *shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _init(net):
    return quick_jit(net.init)(jax.random.key(0))


def _to(layout, x):
    return nets.swap_layout(x) if layout == "CHWN" else x


def _equal(a, b, tolerance=1e-12):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        a, b,
    )  # fmt: skip


# Layers.


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_dense_layers_of_pictures(layout):
    params = {"kernel": _normal(0, 5, 2 * 3 * 4), "bias": _normal(1, 24)}
    z = _normal(2, 7, 5)
    flat = np.asarray(z @ params["kernel"]) + np.asarray(params["bias"])
    y = layers.dense_to_picture(params, z, (2, 3, 4), layout)
    _equal(_to(layout, y), flat.reshape(7, 2, 3, 4))
    params = {"kernel": _normal(3, 24, 6), "bias": _normal(4, 6)}
    x = _normal(5, 7, 2, 3, 4)
    product = np.asarray(x).reshape(7, -1) @ np.asarray(params["kernel"])
    expected = product + np.asarray(params["bias"])
    _equal(layers.dense_of_picture(params, _to(layout, x), layout), expected)
    params.pop("bias")
    y = layers.dense_of_picture(params, _to(layout, x), layout)
    _equal(y, product)


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_pixels(layout):
    x = np.asarray(_normal(0, 5, 2, 4, 3))
    repeated = np.kron(x, np.ones((1, 2, 2, 1)))
    _equal(_to(layout, layers.upsample(_to(layout, jnp.asarray(x)))), repeated)
    averages = x.reshape(5, 1, 2, 2, 2, 3).mean((2, 4))
    _equal(_to(layout, layers.average_pool(_to(layout, jnp.asarray(x)))), averages)
    values = np.asarray(_normal(1, 5, 3))
    planes = _to(layout, layers.label_planes(jnp.asarray(values), (2, 4), layout))
    assert planes.shape == (5, 2, 4, 3)
    for row in range(2):
        for column in range(4):
            _equal(planes[:, row, column], values, 0)


def test_maxout():
    params = {"kernel": _normal(0, 3, 8), "bias": _normal(1, 8)}
    x = _normal(2, 5, 3)
    y = np.asarray(x @ params["kernel"]) + np.asarray(params["bias"])
    expected = [[row[2 * u : 2 * u + 2].max() for u in range(4)] for row in y]
    _equal(layers.maxout(params, x, 2), np.array(expected))


# Normalisation.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_batch_moments_and_standardise(layout, dtype):
    x = 3 + 2 * _normal(0, 16, 3, 5, 4, dtype=dtype)
    axis = 0 if layout == "CHWN" else -1
    moments = normalisation.batch_moments(_to(layout, x), axis)
    exact = np.asarray(x, np.float64)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    _equal(moments["mean"], exact.mean((0, 1, 2)), tolerance)
    _equal(moments["variance"], exact.var((0, 1, 2)), tolerance)
    y = _to(layout, normalisation.standardise(_to(layout, x), moments, axis))
    assert y.dtype == dtype
    _equal(np.mean(y, (0, 1, 2)), np.zeros(4), 10 * tolerance)
    _equal(np.var(y, (0, 1, 2)), exact.var((0, 1, 2)) / (exact.var((0, 1, 2)) + 1e-5),
           10 * tolerance)  # fmt: skip


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_batch_normalisation_and_its_derivatives(layout):
    """The closed form against differentiation of the definition, in all modes."""
    axis = 0 if layout == "CHWN" else -1
    others = (1, 2, 3) if layout == "CHWN" else (0, 1, 2)
    x = _to(layout, 3 + 2 * _normal(0, 4, 2, 3, 2))
    point = x, 1 + _normal(1, 2), _normal(2, 2)

    def by_definition(x, scale, offset):
        centred = x - jnp.mean(x, others, keepdims=True)
        variance = jnp.mean(centred**2, others, keepdims=True)
        y = centred / jnp.sqrt(variance + 1e-5)
        return y * normalisation.spread(scale, 4, axis) + normalisation.spread(
            offset, 4, axis
        )

    def ours(*point):
        return normalisation.normalise_batch(*point, axis)

    move = tuple(_normal(3 + i, *leaf.shape) for i, leaf in enumerate(point))
    weights = _normal(6, *x.shape)

    @quick_jit
    def everything(*point):
        def loss(function):
            return lambda *point: jnp.sum(weights * jnp.sin(function(*point)))

        def of(function):
            gradient = jax.grad(loss(function), (0, 1, 2))
            stacked = tuple(jnp.stack([leaf, 2 * leaf]) for leaf in point)
            return (
                function(*point),
                jax.jvp(function, point, move)[1],
                gradient(*point),
                jax.jvp(gradient, point, move)[1],
                jax.jacfwd(function, 1)(*point),
                jax.vmap(gradient)(*stacked),
                jax.grad(lambda *p: sum(map(jnp.vdot, gradient(*p), move)))(*point),
            )

        return of(ours), of(by_definition)

    _equal(*everything(*point), 1e-10)


def test_moments_of_bfloat16_are_float32():
    x = jnp.full((4096, 2), 1.0, jnp.bfloat16).at[0].set(257.0)
    moments = normalisation.batch_moments(x)
    assert moments["mean"].dtype == jnp.float32
    # bfloat16 has eight digits: its own sum would lose the small ones.
    _equal(moments["mean"], np.full(2, 1 + 256 / 4096), 1e-3)
    assert normalisation.standardise(x, moments).dtype == jnp.bfloat16


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm(groups, layout):
    """One group: layer normalisation; a group for each channel: instance."""
    x = np.asarray(1 + _normal(0, 4, 3, 5, 6))
    split = x.reshape(4, 3, 5, groups, 6 // groups)
    mean = split.mean((1, 2, 4), keepdims=True)
    variance = split.var((1, 2, 4), keepdims=True)
    expected = ((split - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    axis = 0 if layout == "CHWN" else -1
    y = normalisation.group_norm(_to(layout, jnp.asarray(x)), groups, axis)
    _equal(_to(layout, y), expected)


def test_group_norm_of_vectors_and_errors():
    x = _normal(0, 4, 6)
    exact = np.asarray(x)
    expected = exact - exact.mean(1, keepdims=True)
    expected = expected / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    _equal(normalisation.group_norm(x, 1), expected)
    with pytest.raises(ValueError, match="divisor of 6 channels, got 4"):
        normalisation.group_norm(x, 4)


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_every_class_has_its_scale(layout):
    params = {"scale": _normal(0, 3, 2), "offset": _normal(1, 3, 2)}
    x, labels = _normal(2, 4, 5, 6, 2), jnp.array([2, 0, 0, 1])
    axis = 0 if layout == "CHWN" else -1
    y = normalisation.scale_and_shift(params, _to(layout, x), axis, labels=labels)
    for example, label in enumerate(labels):
        expected = np.asarray(x[example]) * np.asarray(params["scale"][label])
        expected = expected + np.asarray(params["offset"][label])
        _equal(_to(layout, y)[example], expected)
    start = normalisation.init_scale_and_shift(2, num_classes=3)
    _equal(start, {"scale": np.ones((3, 2)), "offset": np.zeros((3, 2))}, 0)


def test_standing_statistics_by_hand():
    """Of two layers: the second sees what the first normalises batch by batch."""

    def forward(normalise, params, x):
        x = normalise("first", x, -1) @ params
        return normalise("second", jnp.tanh(x), -1)

    net = nets.normalisation.normalising(lambda key: jnp.ones((3, 2)), forward)
    weights, batches = _normal(0, 3, 2), np.array(2 + 3 * _normal(1, 5, 8, 3))
    batches += np.arange(5)[:, None, None]
    standing = net.statistics(weights, jnp.asarray(batches))
    union = batches.reshape(-1, 3)
    _equal(standing["first"], {"mean": union.mean(0), "variance": union.var(0)})
    hidden = []
    for batch in batches:
        y = (batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-5)
        hidden.append(np.tanh(y @ np.asarray(weights)))
    means = np.array([h.mean(0) for h in hidden])
    variance = np.mean([h.var(0) for h in hidden], axis=0)
    variance = variance + ((means - means.mean(0)) ** 2).mean(0)
    _equal(standing["second"], {"mean": means.mean(0), "variance": variance})


@pytest.mark.parametrize("condition", [None, "batch_norm"])
def test_statistics_free_examples_from_their_batch(condition):
    classes = {} if condition is None else {"num_classes": 3}
    net = nets.dcgan_generator(
        8, latent=3, width=2, condition=condition, impl="xla", dtype=jnp.float64,
        **classes,
    )  # fmt: skip
    params, z = _init(net), _normal(0, 6, 4, 3)
    labels = jnp.asarray(np.arange(24).reshape(6, 4) % 3, jnp.int32)
    batches = z if condition is None else (z, labels)
    standing = quick_jit(net.statistics)(params, batches)
    assert set(standing) == {"norm0", "norm1"}
    flat = jax.tree.map(lambda x: x.reshape(24, *x.shape[2:]), batches)
    flat = flat if isinstance(flat, tuple) else (flat,)

    apply = quick_jit(net.apply)

    def together(*args):
        return apply(params, *args, statistics=standing)

    whole = together(*flat)
    part = together(*(each[1:3] for each in flat))
    _equal(part, whole[1:3])
    # In training they do depend on it.
    two, all_ = apply(params, *(each[1:3] for each in flat)), apply(params, *flat)
    assert float(jnp.max(jnp.abs(two - all_[1:3]))) > 1e-4
    # One batch's own statistics give that batch's output.
    own = quick_jit(net.statistics)(params, tuple(each[None] for each in flat))
    _equal(apply(params, *flat, statistics=own), all_)


def test_statistics_need_batches():
    net = nets.mlp((2, 3, 1), batch_norm=True)
    params = _init(net)
    with pytest.raises(ValueError, match="one leading axis"):
        net.statistics(params, (jnp.ones((2, 4, 2)), jnp.ones((3, 4))))
    with pytest.raises(ValueError, match="one leading axis"):
        net.statistics(params, jnp.ones((0, 4, 2)))


# Spectral normalisation.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (4, 4, 3, 64), (200, 1), (10, 128)])
def test_spectral_norm_against_numpy(shape, dtype):
    kernel = _normal(0, *shape, dtype=dtype)
    largest = np.linalg.norm(np.asarray(kernel, np.float64).reshape(-1, shape[-1]), 2)
    estimate = spectral.spectral_norm(kernel)
    assert estimate.dtype == dtype
    assert (1 - 1e-3) * largest < float(estimate) < (1 + 1e-6) * largest
    exact = spectral.spectral_norm(kernel, squarings=None)
    _equal(exact, largest, 1e-12 * largest if dtype == np.float64 else 1e-6 * largest)


def test_spectral_norm_is_power_iteration():
    kernel = np.asarray(_normal(0, 7, 5))
    v = np.random.default_rng(0).normal(size=5)
    for _ in range(2**3):
        v = kernel.T @ (kernel @ v)
        v = v / np.linalg.norm(v)
    estimate = spectral.spectral_norm(jnp.asarray(kernel), squarings=3)
    _equal(estimate, np.linalg.norm(kernel @ v), 1e-10)


@pytest.mark.parametrize("squarings", [0, 2, 8, None])
def test_spectral_norm_differentiates_itself(squarings):
    kernel, tangent = _normal(0, 3, 3, 2, 4), _normal(1, 3, 3, 2, 4)
    norm = functools.partial(spectral.spectral_norm, squarings=squarings)
    slope = float(jnp.vdot(jax.grad(norm)(kernel), tangent))
    step = 1e-6
    numeric = norm(kernel + step * tangent) - norm(kernel - step * tangent)
    assert abs(slope - float(numeric) / (2 * step)) < 1e-7
    assert "stop_gradient" not in str(jax.make_jaxpr(norm)(kernel))


def test_spectral_norm_of_zeros_and_of_large_numbers():
    zeros = jnp.zeros((3, 2), jnp.float32)
    slope = quick_jit(jax.grad(lambda k: jnp.sum(k / spectral.spectral_norm(k))))
    _equal(slope(zeros), np.ones((3, 2)), 0)
    for size in (1e-8, 1e8):
        kernel = size * _normal(0, 6, 4, dtype=np.float32)
        largest = np.linalg.norm(np.asarray(kernel), 2)
        assert abs(float(spectral.spectral_norm(kernel)) / largest - 1) < 1e-3


def test_spectral_norm_errors():
    with pytest.raises(ValueError, match=r"two axes or more, got \(3,\)"):
        spectral.spectral_norm(jnp.ones(3))
    with pytest.raises(ValueError, match="no negative number of squarings, got -1"):
        spectral.spectral_norm(jnp.ones((3, 3)), squarings=-1)


def test_spectrally_normalised_divides_kernels_only():
    inner = nets.mlp((3, 5, 2), batch_norm=True, dtype=jnp.float64)
    net = nets.spectrally_normalised(inner, squarings=None)
    params, x = _init(net), _normal(0, 4, 3)

    def divide(leaf):
        return leaf / np.linalg.norm(leaf, 2) if leaf.ndim == 2 else leaf

    divided = jax.tree.map(divide, params)
    _equal(net.apply(params, x), inner.apply(divided, x))
    _equal(net.statistics(params, x[None]), inner.statistics(divided, x[None]))
    # The scale of a kernel does not matter.
    larger = jax.tree.map(lambda p: 3 * p if p.ndim == 2 else p, params)
    _equal(net.apply(larger, x), net.apply(params, x))


# Flax.


class LinenNet(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x, train=True):
        x = flax.linen.Dense(7, use_bias=False, name="dense0")(x)
        x = flax.linen.BatchNorm(use_running_average=not train, name="norm0")(x)
        return flax.linen.Dense(2, name="dense1")(flax.linen.relu(x))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.dense0 = nnx.Linear(3, 7, use_bias=False, rngs=rngs)
        self.norm0 = nnx.BatchNorm(7, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(7, 2, rngs=rngs)])

    def __call__(self, x):
        return self.rest[0](nnx.relu(self.norm0(self.dense0(x))))


def _flax_net(kind):
    """A network, and how our own parameters of the same net are called in it."""
    if kind == "linen":
        example = jax.ShapeDtypeStruct((1, 3), jnp.float32)
        net = nets.from_linen(LinenNet(), example, evaluation={"train": False})
        return net, lambda p: p
    net = nets.from_nnx(NnxNet)
    return net, lambda p: {
        **{k: v for k, v in p.items() if k != "dense1"}, "rest": {0: p["dense1"]},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_flax_equals_own_layers(kind):
    net, rename = _flax_net(kind)
    own = nets.mlp((3, 7, 2), batch_norm=True)
    params = _init(own)
    params["norm0"] = {
        "scale": _normal(0, 7, dtype=np.float32),
        "offset": _normal(1, 7, dtype=np.float32),
    }
    theirs = dict(params, norm0={"scale": params["norm0"]["scale"],
                                 "bias": params["norm0"]["offset"]})  # fmt: skip
    theirs = rename(theirs)
    start = net.init(jax.random.key(0))
    assert jax.tree.structure(start) == jax.tree.structure(theirs)
    assert net.batch_statistics
    x = 1 + _normal(2, 4, 16, 3, dtype=np.float32)
    _equal(net.apply(theirs, x[0]), own.apply(params, x[0]), 1e-5)
    standing, expected = net.statistics(theirs, x), own.statistics(params, x)
    _equal(standing, expected, 1e-5)
    _equal(
        net.apply(theirs, x[0, :3], statistics=standing),
        own.apply(params, x[0, :3], statistics=expected),
        1e-5,
    )


def test_flax_convolutions_equal_own():
    """Flax's transposed convolution with our weights, through the adapter."""

    class Generator(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, z):
            around = ((2, 2), (2, 2))
            options = {"strides": (2, 2), "padding": around}
            x = flax.linen.Dense(2 * 2 * 4, name="dense")(z).reshape(-1, 2, 2, 4)
            x = flax.linen.ConvTranspose(2, (4, 4), name="conv0", **options)(
                flax.linen.relu(x)
            )
            x = flax.linen.ConvTranspose(1, (4, 4), name="conv1", **options)(
                flax.linen.relu(x)
            )
            return flax.linen.tanh(x)

    own = nets.dcgan_generator(8, latent=3, width=2, norm="none", impl="matmul")
    net = nets.from_linen(Generator(), jnp.ones((1, 3), jnp.float32))
    params = jax.tree.map(lambda p: 8 * p, _init(own))
    assert not net.batch_statistics
    assert net.statistics is None
    z = _normal(0, 5, 3, dtype=np.float32)
    _equal(net.apply(params, z), own.apply(params, z), 1e-5)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_flax_modules_train(kind):
    generator, _ = _flax_net(kind)
    discriminator = nets.mlp((2, 4, 1), output_shape=())
    keys = jax.random.split(jax.random.key(0))
    params = generator.init(keys[0]), discriminator.init(keys[1])
    for leaf in jax.tree.leaves(params):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
    assert type(params[0]["dense0"]) is dict
    z, x = _normal(0, 8, 3, dtype=np.float32), _normal(1, 8, 2, dtype=np.float32)

    def payoff(g, d):
        real, fake = (
            discriminator.apply(d, x),
            discriminator.apply(d, generator.apply(g, z)),
        )
        return jnp.mean(real) - jnp.mean(fake)

    game, rule = gd.zero_sum(payoff), gd.simultaneous(optax.sgd(0.1))
    end = quick_jit(lambda p: gd.solve(game, rule, p, 2).params)(params)
    for before, after in zip(*map(jax.tree.leaves, (params, end)), strict=True):
        assert before.shape == after.shape
    assert float(jnp.max(jnp.abs(end[0]["dense0"]["kernel"]
                                 - params[0]["dense0"]["kernel"]))) > 0  # fmt: skip


def test_nnx_module_instead_of_a_function():
    module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    net = nets.from_nnx(module)
    params = net.init(jax.random.key(5))
    _equal(params["kernel"], module.kernel[...], 0)
    x = jnp.ones((1, 2), jnp.float32)
    _equal(net.apply(params, x), module(x), 1e-6)
    with pytest.raises(ValueError, match="expected no statistics"):
        net.apply(params, x, statistics={})


def test_random_flax_modules_are_refused():
    class Noisy(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            return flax.linen.Dropout(0.5, deterministic=False)(x)

    with pytest.raises(ValueError, match="no random numbers; pass noise as an input"):
        nets.from_linen(Noisy(), jnp.ones((1, 3), jnp.float32))
    with pytest.raises(ValueError, match="pass noise as an input"):
        nets.from_nnx(lambda rngs: nnx.Dropout(0.5, rngs=rngs))


def test_other_state_of_flax_modules_is_refused():
    class Counting(flax.linen.Module):
        @flax.linen.compact
        def __call__(self, x):
            count = self.variable("counts", "calls", lambda: jnp.zeros(1, jnp.float32))
            return x + count.value[None]

    with pytest.raises(ValueError, match="no state but that of BatchNorm"):
        nets.from_linen(Counting(), jnp.ones((1, 3), jnp.float32))

    class Remembering(nnx.Module):
        def __init__(self, rngs):
            self.last = nnx.Variable(jnp.zeros(3))

        def __call__(self, x):
            return x

    with pytest.raises(ValueError, match=r"BatchNorm, got \['last'\]"):
        nets.from_nnx(Remembering)
