"""Networks for diffusion: published sizes, numpy's numbers, conditions, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from gamedyn import nets
from gamedyn.nets import attention, layers

# Compiling is what these tests take their time for.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
RNG = np.random.default_rng(0)
BATCH, CLASSES, WIDTH = 3, 4, 5
UNET = {"width": 4, "multipliers": (1, 2), "blocks": 1, "groups": 2, "heads": 2}
DIT = {"width": 8, "depth": 2, "heads": 2, "expansion": 2}
SMALL = {
    "unet": (functools.partial(nets.unet, 2, **UNET), (4, 6, 2)),
    "dit": (functools.partial(nets.dit, 2, **DIT), (4, 6, 2)),
    "points": (
        functools.partial(nets.point_mlp, 2, widths=(8, 8), frequencies=6),
        (2,),
    ),
}
CONDITIONS = {
    "class": {"num_classes": CLASSES},
    "vector": {"condition_width": WIDTH},
    "tokens": {"condition_width": WIDTH},
}
CASES = [
    (name, condition)
    for name in SMALL
    for condition in (None, *CONDITIONS)
    if (name, condition) != ("points", "tokens")
]


def make(name, condition=None, **options):
    build, _ = SMALL[name]
    return build(condition=condition, **CONDITIONS.get(condition, {}), **options)


def draw(net, scale=0.3):
    """Parameters of which none is zero, in float64."""
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(scale * rng.normal(size=s.shape)), shapes)


def batch(name, condition=None, dtype=jnp.float64):
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(BATCH, *SMALL[name][1])), dtype)
    t = jnp.asarray([0.0, 17.0, 999.0], dtype)
    given = {
        None: (),
        "class": (jnp.array([0, 2, CLASSES]),),
        "vector": (jnp.asarray(rng.normal(size=(BATCH, WIDTH)), dtype),),
        "tokens": (jnp.asarray(rng.normal(size=(BATCH, 2, WIDTH)), dtype),),
    }
    return x, t, *given[condition]


@functools.cache
def case(name, condition=None):
    net = make(name, condition)
    return net, draw(net), batch(name, condition), quick_jit(net.apply)


def close(actual, expected, tolerance=1e-10):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# Sizes.


def _count(net):
    return nets.count_parameters(jax.eval_shape(net.init, jax.random.key(0)))


DIGITS = {"channels": 1, "multipliers": (1, 2, 2), "groups": 8}


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({}, 35_746_307),
        ({"width": 64}, 8_952_067),
        ({"width": 32}, 2_245_763),
        ({**DIGITS, "width": 64}, 6_469_889),
        ({**DIGITS, "width": 32}, 1_623_169),
        ({**DIGITS, "width": 32, "blocks": 1}, 1_112_801),
        ({**DIGITS, "width": 16, "blocks": 1, "attention_levels": ()}, 267_313),
        ({"multipliers": (1, 1, 2, 2, 4, 4), "attention_levels": (4,)}, 113_673_219),
    ],
)
def test_published_counts_of_unets(options, number):
    assert _count(nets.unet(**options)) == number


@pytest.mark.parametrize(
    ("width", "depth", "heads", "number"),
    [
        (384, 12, 6, 32_865_056),
        (768, 12, 12, 130_315_808),
        (1024, 24, 16, 457_840_672),
        (1152, 28, 16, 674_834_720),
    ],
)
def test_published_counts_of_transformers(width, depth, heads, number):
    options = {"condition": "class", "num_classes": 1000, "learned_variance": True}
    net = nets.dit(width=width, depth=depth, heads=heads, **options)
    assert _count(net) == number


def test_count_of_a_transformer_of_digits():
    net = nets.dit(1, patch=4, condition="class", num_classes=10)
    assert _count(net) == 32_478_736


@pytest.mark.parametrize(
    ("net", "shape", "gflop"),
    [
        (nets.unet(impl="xla"), (32, 32, 3), 11.66),
        (nets.unet(width=32, impl="xla"), (32, 32, 3), 0.803),
        (nets.unet(**DIGITS, width=64, impl="xla"), (28, 28, 1), 2.25),
        (nets.unet(**DIGITS, width=32, impl="xla"), (28, 28, 1), 0.593),
        (nets.unet(**DIGITS, width=32, blocks=1, impl="xla"), (28, 28, 1), 0.400),
        (nets.dit(unroll=True), (32, 32, 4), 12.1),
        (nets.dit(1, patch=4, unroll=True), (28, 28, 1), 2.15),
        (nets.unet(width=64, impl="xla"), (32, 32, 3), 3.01),
        (
            nets.unet(**DIGITS, width=16, blocks=1, attention_levels=(), impl="xla"),
            (28, 28, 1),
            0.089,
        ),
        pytest.param(
            nets.unet(
                multipliers=(1, 1, 2, 2, 4, 4), attention_levels=(4,), impl="xla"
            ),
            (256, 256, 3),
            492,
            marks=pytest.mark.slow,
        ),
        *(
            pytest.param(
                nets.dit(
                    width=width,
                    depth=depth,
                    heads=heads,
                    learned_variance=True,
                    condition="class",
                    num_classes=1000,
                    unroll=True,
                ),
                (32, 32, 4),
                gflop,
                marks=pytest.mark.slow,
            )
            for width, depth, heads, gflop in (
                (768, 12, 12, 46.0),
                (1024, 24, 16, 161),
                (1152, 28, 16, 237),
            )
        ),
    ],
)
def test_flops(net, shape, gflop):
    """As XLA counts them, with its own convolutions."""
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    labels = [jax.ShapeDtypeStruct((1,), jnp.int32)]
    given = labels if "classes" in params["embedding"] else []
    counted = jax.jit(net.apply).lower(params, x, t, *given).cost_analysis()["flops"]
    assert abs(counted / (gflop * 1e9) - 1) < 0.03


# Layers against numpy.


@pytest.mark.parametrize("width", [4, 10])
@pytest.mark.parametrize("endpoint", [False, True])
def test_sinusoidal(width, endpoint):
    t = np.array([0, 3, 999])
    half = width // 2
    rates = [1e4 ** (-i / (half - 1 if endpoint else half)) for i in range(half)]
    expected = [[f(s * w) for f in (np.sin, np.cos) for w in rates] for s in t]
    actual = nets.sinusoidal(
        jnp.asarray(t), width, endpoint=endpoint, dtype=jnp.float64
    )
    close(actual, expected, 1e-12)
    single = nets.sinusoidal(jnp.asarray(t, jnp.float32), width, endpoint=endpoint)
    assert single.dtype == jnp.float32
    close(single, expected, 2e-4)  # 999 has an error of 3e-5 already


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)]
)
@pytest.mark.parametrize("axis", [0, -1])
def test_group_norm(axis, dtype, tolerance):
    x = RNG.normal(3.0, 2.0, size=(2, 4, 5, 6))  # NHWC
    scale, offset = RNG.normal(size=(2, 6))
    grouped = x.reshape(2, 20, 3, 2)
    mean = grouped.mean((1, 3), keepdims=True)
    y = (grouped - mean) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-6)
    expected = y.reshape(x.shape) * scale + offset
    params = {"scale": jnp.asarray(scale, dtype), "offset": jnp.asarray(offset, dtype)}
    given = jnp.asarray(x if axis else x.transpose(3, 1, 2, 0), dtype)
    actual = layers.group_norm(params, given, 3, axis)
    assert actual.dtype == dtype
    close(actual if axis else actual.transpose(3, 1, 2, 0), expected, tolerance)
    with pytest.raises(ValueError, match="divisor of 6 channels, got 4"):
        layers.group_norm(params, given, 4, axis)


def _attend(q, k, v, heads):
    batch, n, channels = q.shape
    y, inside = np.zeros(q.shape), channels // heads
    for b in range(batch):
        for h in range(heads):
            own = slice(h * inside, (h + 1) * inside)
            for i in range(n):
                scores = np.exp(k[b, :, own] @ q[b, i, own] / np.sqrt(inside))
                y[b, i, own] = scores @ v[b, :, own] / scores.sum()
    return y


@pytest.mark.parametrize("heads", [1, 3])
def test_attend(heads):
    q, k, v = (RNG.normal(size=(2, n, 6)) for n in (4, 5, 5))
    actual = attention.attend(*map(jnp.asarray, (q, k, v)), heads)
    close(actual, _attend(q, k, v, heads), 1e-12)
    with pytest.raises(ValueError, match="divisor of 6 channels, got 4 heads"):
        attention.attend(q, k, v, 4)


@pytest.mark.parametrize("impl", ["auto", "direct"])
@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_convolution_of_upsampled(layout, impl):
    x = jnp.asarray(RNG.normal(size=(2, 3, 4, 5)))
    inputs = 5 if layout == "NHWC" else 2
    kernel, bias = RNG.normal(size=(3, 3, inputs, 3)), RNG.normal(size=3)
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    actual = layers.conv_of_upsampled(params, x, layout=layout, impl=impl)
    expected = layers.conv(params, layers.upsample(x), padding=1, layout=layout)
    close(actual, expected, 1e-12)


# The whole U-Net once more, with loops over pixels.


def _silu(x):
    return x / (1 + np.exp(-x))


def _dense(params, x):
    return x @ params["kernel"] + params["bias"]


def _conv(params, x, stride=1):
    kernel = params["kernel"]
    pad = len(kernel) // 2
    padded = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    rows, columns = x.shape[1] // stride, x.shape[2] // stride
    y = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride, j * stride
            patch = padded[:, top : top + len(kernel), left : left + len(kernel)]
            y[:, i, j] = np.tensordot(patch, kernel, 3)
    return y + params["bias"]


def _norm(params, x, groups=2):
    grouped = x.reshape(len(x), -1, groups, x.shape[3] // groups)
    grouped = grouped - grouped.mean((1, 3), keepdims=True)
    y = grouped / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-6)
    return y.reshape(x.shape) * params["scale"] + params["offset"]


def _unit(stage, i, x, e, tokens, scaling):
    block = stage[f"block{i}"]
    y = _conv(block["conv0"], _silu(_norm(block["norm0"], x)))
    change = _dense(block["time"], e)[:, None, None]
    if scaling:
        scale, shift = np.split(change, 2, axis=-1)
        y = _norm(block["norm1"], y) * (1 + scale) + shift
    else:
        y = _norm(block["norm1"], y + change)
    x = _conv(block["conv1"], _silu(y)) + (
        _conv(block["skip"], x) if "skip" in block else x
    )
    if f"attention{i}" in stage:
        found = stage[f"attention{i}"]
        rows = _norm(found["norm"], x).reshape(len(x), -1, x.shape[3])
        q, k, v = np.split(_dense(found["qkv"], rows), 3, axis=-1)
        if tokens is not None:
            more = np.split(_dense(found["tokens"], tokens), 2, axis=-1)
            k, v = (np.concatenate(two, 1) for two in zip((k, v), more, strict=True))
        x = x + _dense(found["out"], _attend(q, k, v, 2)).reshape(x.shape)
    return x


def _unet(params, x, t, tokens=None, *, scaling=False):
    """Two levels, one block each, attention on the second."""
    embedding = params["embedding"]
    angles = t[:, None] * np.array([1, 1e-4])
    e = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    e = _dense(embedding["dense1"], _silu(_dense(embedding["dense0"], e)))
    if tokens is not None:
        e = e + _dense(embedding["condition"], tokens.mean(1))
    unit = functools.partial(_unit, e=_silu(e), tokens=tokens, scaling=scaling)
    stem = _conv(params["stem"], x)
    fine = unit(params["down0"], 0, stem)
    halved = _conv(params["down0"]["resize"], fine, 2)
    coarse = unit(params["down1"], 0, halved)
    y = unit(params["middle"], 1, unit(params["middle"], 0, coarse))
    for i, left in enumerate((coarse, halved)):
        y = unit(params["up1"], i, np.concatenate([y, left], axis=-1))
    y = _conv(params["up1"]["resize"], y.repeat(2, 1).repeat(2, 2))
    for i, left in enumerate((fine, stem)):
        y = unit(params["up0"], i, np.concatenate([y, left], axis=-1))
    return _conv(params["conv"], _silu(_norm(params["norm"], y)))


@pytest.mark.parametrize(
    ("condition", "modulation", "impl"),
    [
        pytest.param(*form, impl, marks=[] if impl in quick else [pytest.mark.slow])
        for form, quick in (
            ((None, "shift"), ("direct",)),
            (("tokens", "scale_shift"), ("xla", "matmul")),
        )
        for impl in ("xla", "matmul", "direct")
    ],
)
def test_unet_against_numpy(condition, modulation, impl):
    net = make("unet", condition, modulation=modulation, impl=impl)
    params, inputs = draw(net), batch("unet", condition)
    scaling = modulation == "scale_shift"
    expected = _unet(*jax.tree.map(np.asarray, (params, *inputs)), scaling=scaling)
    close(quick_jit(net.apply)(params, *inputs), expected)


def test_implementations_agree():
    """In gradients, too."""
    x, t = batch("unet")
    found = []
    for impl in ("xla", "direct"):
        net = make("unet", impl=impl)
        loss = lambda p, x, net=net: jnp.sum(jnp.sin(net.apply(p, x, t)))  # noqa: E731
        found.append(quick_jit(jax.grad(loss, argnums=(0, 1)))(draw(net), x))
    jax.tree.map(close, *found)


def _rows(x):
    """Layer normalisation."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def _gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_dit_against_numpy():
    _, params, inputs, run = case("dit", "class")
    actual = run(params, *inputs)
    params, x, t, labels = jax.tree.map(np.asarray, (params, *inputs))
    embedding = params["embedding"]
    angles = t[:, None] * 1e4 ** (-np.arange(128) / 128)
    e = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    e = _dense(embedding["dense1"], _silu(_dense(embedding["dense0"], e)))
    e = _silu(e + embedding["classes"]["kernel"][labels])[:, None]
    places = [(i, j) for i in range(2) for j in range(3)]
    patches = [x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i, j in places]
    y = np.stack([_dense(params["stem"], p.reshape(len(x), -1)) for p in patches], 1)
    turns = np.array([1, 1e-2])
    for row, (i, j) in enumerate(places):
        angles = [f(turns * a) for a in (i, j) for f in (np.sin, np.cos)]
        y[:, row] += np.concatenate(angles)
    for index in range(2):
        block = jax.tree.map(lambda leaf, index=index: leaf[index], params["blocks"])
        o, s, g, o1, s1, g1 = np.split(_dense(block["modulation"], e), 6, axis=-1)
        q, k, v = np.split(
            _dense(block["attention"]["qkv"], (1 + s) * _rows(y) + o), 3, axis=-1
        )
        y = y + g * _dense(block["attention"]["out"], _attend(q, k, v, 2))
        hidden = _gelu(_dense(block["dense0"], (1 + s1) * _rows(y) + o1))
        y = y + g1 * _dense(block["dense1"], hidden)
    o, s = np.split(_dense(params["modulation"], e), 2, axis=-1)
    y = _dense(params["dense"], (1 + s) * _rows(y) + o)
    expected = np.zeros(x.shape)
    for row, (i, j) in enumerate(places):
        patch = y[:, row].reshape(len(x), 2, 2, 2)
        expected[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = patch
    close(actual, expected)


# What training and guidance rely on.


# XLA's own convolutions compile in half the time; `test_implementations_agree`.
QUICK = {"unet": {"impl": "xla"}}


@pytest.mark.parametrize("name", SMALL)
def test_first_prediction_is_zero(name):
    net = make(name, learned_variance=True, **QUICK.get(name, {}))
    params = quick_jit(net.init)(jax.random.key(0))
    x, t = batch(name, dtype=jnp.float32)

    @quick_jit
    def values_and_slopes(params):
        y, pull = jax.vjp(lambda params: net.apply(params, x, t), params)
        return y, *pull(y - 1)

    y, slopes = values_and_slopes(params)
    assert y.shape == (*x.shape[:-1], 4)
    assert not y.any()
    assert any(leaf.any() for leaf in jax.tree.leaves(slopes))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtypes_are_those_asked_for(name, dtype):
    net = make(name, dtype=dtype, learned_variance=True)
    params = jax.eval_shape(net.init, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    x, t = batch(name, dtype=dtype)
    assert jax.eval_shape(net.apply, params, x, t).dtype == dtype


@pytest.mark.parametrize(("name", "condition"), CASES)
def test_examples_are_apart(name, condition):
    """Permuted examples and conditions give permuted predictions."""
    _, params, inputs, run = case(name, condition)
    y = run(params, *inputs)
    order = jnp.array([2, 0, 1])
    close(run(params, *(a[order] for a in inputs)), y[order])
    for place in range(1, len(inputs)):  # time and condition matter
        changed = [a[order] if i == place else a for i, a in enumerate(inputs)]
        assert float(jnp.min(jnp.max(jnp.abs(run(params, *changed) - y), -1))) > 1e-9


@pytest.mark.parametrize("name", SMALL)
def test_null_class(name):
    """It is a class of its own, and its row gets gradients of its own."""
    net, params, (x, t, labels), run = case(name, "class")
    null = jnp.full_like(labels, CLASSES)
    y, of_null = run(params, x, t, labels), run(params, x, t, null)
    close(of_null[2], y[2])
    assert float(jnp.abs(of_null[:2] - y[:2]).max()) > 1e-6
    if name != "points":
        assert params["embedding"]["classes"]["kernel"].shape[0] == CLASSES + 1


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_tokens_matter_one_by_one(name):
    """Attention sees more of tokens than their mean, but not their order."""
    _, params, (x, t, tokens), run = case(name, "tokens")
    y = run(params, x, t, tokens)
    close(run(params, x, t, tokens[:, ::-1]), y)
    mean = jnp.broadcast_to(tokens.mean(1, keepdims=True), tokens.shape)
    assert float(jnp.abs(run(params, x, t, mean) - y).max()) > 1e-6


@pytest.mark.parametrize(
    ("name", "impl"),
    [
        pytest.param("unet", "xla", marks=pytest.mark.slow),
        pytest.param("unet", "matmul", marks=pytest.mark.slow),
        ("dit", None),
        ("points", None),
    ],
)
def test_derivatives(name, impl):
    """Products with the Hessian against differences of gradients; vmap."""
    net = make(name, **({} if impl is None else {"impl": impl}))
    params, (x, t) = draw(net), batch(name)
    flat, unravel = ravel_pytree(params)
    direction = jnp.asarray(RNG.normal(size=flat.shape))

    def loss(flat):
        return jnp.mean(jnp.sin(net.apply(unravel(flat), x, t)))

    # The gradient comes with its derivative: one program does for both.
    @quick_jit
    @jax.vmap
    def along(flat):
        return jax.jvp(jax.grad(loss), (flat,), (direction,))

    steps = jnp.array([[1e-5], [0.0], [-1e-5]])
    slopes, products = along(flat[None] + steps * direction[None])
    difference = (slopes[0] - slopes[2]) / 2e-5
    product = products[1]
    size = float(jnp.abs(product).max())
    close(product / size, difference / size, 1e-6)


@pytest.mark.parametrize(
    "name",
    [pytest.param("unet", marks=pytest.mark.slow), *sorted(SMALL.keys() - {"unet"})],
)
def test_dtypes(name):
    """float32 is float64 rounded, and bfloat16 comes near with integer times."""
    net, params, (x, t), run = case(name)
    y = np.asarray(run(params, x, t))
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    x, t = x.astype(jnp.float32), t.astype(jnp.int32)
    of_single = run(single, x, t)
    assert of_single.dtype == jnp.float32
    close(of_single, y, 2e-4 * np.abs(y).max())
    half = quick_jit(nets.compute_in(net, jnp.bfloat16).apply)(single, x, t)
    assert half.dtype == jnp.float32
    assert 1e-5 < np.abs(np.asarray(half) - y).max() / np.abs(y).max() < 0.15


@pytest.mark.parametrize("name", SMALL)
def test_lowers_for_tpu(name):
    condition = "class" if name == "points" else "tokens"
    net = make(name, condition, **({"impl": "xla"} if name == "unet" else {}))
    params = jax.eval_shape(net.init, jax.random.key(0))

    def loss(params, *inputs):
        return jnp.mean(net.apply(params, *inputs) ** 2)

    inputs = batch(name, condition, jnp.float32)
    traced = jax.jit(jax.grad(loss)).trace(params, *inputs)
    assert "stablehlo" in traced.lower(lowering_platforms=("tpu",)).as_text()


def test_time_scale_and_inputs():
    """Times in [0, 1]; a picture as condition is more channels of the input."""
    x, t = batch("unet")
    plain, params, _, run = case("unet")
    scaled = make("unet", time_scale=1000.0)
    close(quick_jit(scaled.apply)(params, x, t / 1000), run(params, x, t))
    wide = make("unet", in_channels=3)
    shapes = jax.eval_shape(wide.init, jax.random.key(0))
    x, t = batch("unet", dtype=jnp.float32)
    more = jnp.concatenate([x, x[..., :1]], axis=-1)
    assert jax.eval_shape(wide.apply, shapes, more, t).shape == x.shape


def test_errors():
    with pytest.raises(ValueError, match="expected a number for num_classes, got None"):
        nets.unet(condition="class")
    with pytest.raises(ValueError, match="expected none for condition_width, got 3"):
        nets.dit(condition="class", num_classes=2, condition_width=3)
    with pytest.raises(ValueError, match="did you mean 'tokens'"):
        nets.dit(condition="token", condition_width=3)
    with pytest.raises(ValueError, match="one of None, 'class', 'vector'"):
        nets.point_mlp(condition="tokens", condition_width=3)
    with pytest.raises(ValueError, match="divide the width 48, got 32"):
        nets.unet(width=48)
    with pytest.raises(ValueError, match=r"attention_levels from 0 to 1, got \(2,\)"):
        nets.unet(multipliers=(1, 1), attention_levels=(2,))
    with pytest.raises(ValueError, match="384 channels, got 7 heads"):
        nets.dit(heads=7)
    with pytest.raises(ValueError, match="even width of 4 or more, got 3"):
        nets.sinusoidal(jnp.zeros(2), 3)
    net, params, (x, t), _ = case("unet")
    with pytest.raises(ValueError, match="divisible by 2.* got 3 x 6"):
        net.apply(params, x[:, 1:], t)
    with pytest.raises(ValueError, match=r"pictures of shape \(B, H, W, 2\)"):
        net.apply(params, x[..., :1], t)
    with pytest.raises(ValueError, match=r"times of shape \(3,\), got \(2,\)"):
        net.apply(params, x, t[1:])
    with pytest.raises(TypeError, match="expected no labels"):
        net.apply(params, x, t, jnp.zeros(3, int))
    with pytest.raises(ValueError, match="expected no statistics"):
        net.apply(params, x, t, statistics={})
    net, params, (x, t, tokens), _ = case("unet", "tokens")
    with pytest.raises(TypeError, match=r"of shape \(3, n, 5\), got none"):
        net.apply(params, x, t)
    with pytest.raises(ValueError, match=r"\(3, n, 5\), got \(3, 5\)"):
        net.apply(params, x, t, tokens[:, 0])
