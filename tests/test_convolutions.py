"""Convolutions: every implementation against XLA's, and against torch's definition."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gamedyn import nets
from gamedyn.nets import correlation

# Kernel, stride, padding, size of the larger picture (odd and even).
SETTINGS = [
    (4, 2, 1, 6),
    (4, 2, 1, 7),
    (3, 1, 1, 5),
    (3, 2, 1, 6),
    (3, 2, 1, 7),
    (5, 2, 2, 7),
    (1, 1, 0, 4),
    (4, 1, 0, 4),
    (2, 3, 0, 8),
    (1, 3, 0, 8),
    (3, 3, 1, 9),
    (5, 1, 4, 3),
    (5, 2, 4, 5),
    ((2, 4), (1, 3), ((0, 2), 1), 8),
    ((3, 4), 2, "SAME", 7),
    (4, 2, "SAME", 6),
    (2, 3, "SAME", 7),
    (3, 2, "VALID", 8),
    (2, 3, "VALID", 8),
]
TORCH = [  # kernel, stride, padding, output padding
    (4, 2, 1, 0),
    (4, 1, 0, 0),
    (5, 2, 2, 1),
    (3, 2, 1, 1),
    (3, 1, 1, 0),
    (7, 1, 0, 0),
    (2, 2, 0, 0),
    (6, 2, 2, 0),
    (5, 3, 1, 0),
    (2, 3, 0, 2),  # rows that no weight reaches
    (2, 3, 1, 2),  # an output padding above the padding
]
KINDS = ["convolve", "convolve_transposed"]

# Compiling is what these tests take their time for.
quick_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Take the form for one device, which merges axes; the tests have two."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)


def _normal(seed, shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _pair(value):
    return value if isinstance(value, tuple) else (value, value)


def _problem(kind, setting, dtype=np.float64, batch=3):
    """Pictures, kernel and `layer(x, kernel, impl, layout)` of one setting."""
    kernel_size, stride, padding, size = setting
    options = {"stride": stride, "padding": padding}
    shape = (size, size)
    if kind == "convolve_transposed":
        shape = nets.convolve(
            jnp.zeros((1, size, size, 1)), jnp.zeros((*_pair(kernel_size), 1, 1)),
            **options,
        ).shape[1:3]  # fmt: skip
        if padding not in ("SAME", "VALID") and isinstance(padding, int):
            options["output_padding"] = nets.output_padding_for(
                size, kernel_size, stride=stride, padding=padding
            )
    x = _normal(0, (batch, *shape, 2), dtype)
    kernel = _normal(1, (*_pair(kernel_size), 2, 4), dtype)

    def layer(x, kernel, impl, layout="NHWC"):
        return getattr(nets, kind)(x, kernel, impl=impl, layout=layout, **options)

    return x, kernel, layer


def _assert_close(got, expected, tolerance=1e-12):
    def check(a, b):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = max(np.max(np.abs(b), initial=0.0), 1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)

    jax.tree.map(check, got, expected)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_matrix_product_equals_xla(kind, setting):
    x, kernel, layer = _problem(kind, setting)
    expected = layer(x, kernel, "xla")
    _assert_close(quick_jit(layer, static_argnums=2)(x, kernel, "matmul"), expected)


@pytest.mark.parametrize("impl", ["matmul", "xla"])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_last(kind, impl):
    x, kernel, layer = _problem(kind, SETTINGS[13])
    last = quick_jit(layer, static_argnums=(2, 3))
    y = last(nets.swap_layout(x), kernel, impl, "CHWN")
    _assert_close(nets.swap_layout(y), layer(x, kernel, "xla"))


@pytest.mark.parametrize("setting", SETTINGS[:6], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision(kind, setting):
    x, kernel, layer = _problem(kind, setting, np.float32)
    exact = layer(x.astype(np.float64), kernel.astype(np.float64), "xla")
    contraction = kernel.size // kernel.shape[-1]
    run = quick_jit(layer, static_argnums=2)
    for impl in ("matmul", "xla"):
        y = run(x, kernel, impl)
        assert y.dtype == np.float32
        tolerance = 4 * np.finfo(np.float32).eps * contraction**0.5
        _assert_close(y.astype(np.float64), exact, tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_several_devices_multiply_alike(kind, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    x, kernel, layer = _problem(kind, SETTINGS[0])

    def pulled(impl):
        y, back = jax.vjp(functools.partial(layer, impl=impl), x, kernel)
        return y, back(jnp.cos(y))

    _assert_close(pulled("matmul"), pulled("xla"))


@pytest.mark.parametrize("kind", KINDS)
def test_eager_equals_jit(kind):
    x, kernel, layer = _problem(kind, SETTINGS[1])
    run = jax.jit(layer, static_argnums=2)
    _assert_close(layer(x, kernel, "matmul"), run(x, kernel, "matmul"))


def _derivatives(layer, x, kernel, impl):
    """Every derivative that a game asks of a layer, of first and second order."""
    f = functools.partial(layer, impl=impl)
    point, direction = (x, kernel), (_normal(2, x.shape), _normal(3, kernel.shape))
    y = f(x, kernel)
    weight = _normal(4, y.shape)

    def loss(x, kernel):
        return jnp.sum(weight * jnp.sin(f(x, kernel)))

    def penalty(kernel):  # gradient penalty: second derivatives, both in reverse
        return jnp.sum(jax.grad(loss)(x, kernel) ** 2)

    gradient = jax.grad(loss, (0, 1))

    def slope(point):
        pieces = jax.tree.map(jnp.vdot, gradient(*point), direction)
        return sum(pieces)

    return {
        "jvp": jax.jvp(f, point, direction),
        "vjp": jax.vjp(f, *point)[1](weight),
        "jvp of grad": jax.jvp(gradient, point, direction)[1],
        "grad of slope": jax.grad(slope)(point),
        "grad of penalty": jax.grad(penalty)(kernel),
    }


@pytest.mark.parametrize(
    "setting",
    [
        *SETTINGS[1:3],
        *(pytest.param(each, marks=pytest.mark.slow) for each in SETTINGS[3:5]),
        SETTINGS[5],
        pytest.param(SETTINGS[0], marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_equal_those_of_xla(kind, setting):
    x, kernel, layer = _problem(kind, setting)
    run = quick_jit(_derivatives, static_argnums=(0, 3))
    expected = run(layer, x, kernel, "xla")
    _assert_close(run(layer, x, kernel, "matmul"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_match_finite_differences(kind):
    x, kernel, layer = _problem(kind, (3, 2, 1, 6))
    f = jax.jit(functools.partial(layer, impl="matmul"))
    direction = (_normal(2, x.shape), _normal(3, kernel.shape))
    _, tangent = jax.jvp(f, (x, kernel), direction)
    step = (
        1e-3  # the layer is quadratic: central differences have no error but rounding
    )
    ahead = f(x + step * direction[0], kernel + step * direction[1])
    behind = f(x - step * direction[0], kernel - step * direction[1])
    _assert_close(tangent, (ahead - behind) / (2 * step), 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_full_jacobians(kind):
    x, kernel, layer = _problem(kind, (3, 2, 1, 4), batch=1)
    for mode in (jax.jacfwd, jax.jacrev):
        run = quick_jit(mode(layer, (0, 1)), static_argnums=2)
        _assert_close(run(x, kernel, "matmul"), run(x, kernel, "xla"))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (2, -1)])
@pytest.mark.parametrize("kind", KINDS)
def test_vmap_equals_a_loop(kind, axes):
    x, kernel, layer = _problem(kind, (3, 2, 1, 7))
    f = functools.partial(layer, impl="matmul")
    runs = 3
    many = [
        value
        if axis is None
        else jnp.moveaxis(_normal(5 + i, (runs, *value.shape)), 0, axis)
        for i, (value, axis) in enumerate(zip((x, kernel), axes, strict=True))
    ]
    pairs = list(zip(many, axes, strict=True))
    one = [
        [v if axis is None else jnp.take(v, i, axis) for v, axis in pairs]
        for i in range(runs)
    ]

    def gradient(x, kernel):
        return jax.grad(lambda *z: jnp.sum(jnp.sin(f(*z))), (0, 1))(x, kernel)

    def both(x, kernel):
        return f(x, kernel), gradient(x, kernel)

    run = quick_jit(both)
    expected = jax.tree.map(lambda *z: np.stack(z), *[run(*each) for each in one])
    _assert_close(quick_jit(jax.vmap(both, in_axes=axes))(*many), expected)


def test_vmap_twice():
    x, kernel, layer = _problem("convolve", (3, 2, 1, 6))
    many = _normal(6, (2, 5, *x.shape))
    f = functools.partial(layer, kernel=kernel, impl="matmul")
    expected = layer(many.reshape(-1, *x.shape[1:]), kernel, "xla")
    got = jax.vmap(jax.vmap(f))(many)
    _assert_close(got.reshape(expected.shape), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_scan_equals_a_loop(kind):
    x, kernel, layer = _problem(kind, (4, 2, 1, 6))

    def step(kernel, _, impl):
        loss, slope = jax.value_and_grad(
            lambda kernel: jnp.mean(jnp.tanh(layer(x, kernel, impl)))
        )(kernel)
        return kernel - 0.1 * slope, loss

    run = functools.partial(step, impl="matmul")
    got = jax.jit(lambda kernel: lax.scan(run, kernel, None, length=4))(kernel)
    losses = []
    for _ in range(4):
        kernel, loss = step(kernel, None, "xla")
        losses.append(loss)
    _assert_close(got, (kernel, jnp.stack(losses)))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_transposed_convolution_is_the_vjp_of_the_convolution(setting):
    x, kernel, layer = _problem("convolve_transposed", setting)
    y = quick_jit(layer, static_argnums=2)(x, kernel, "matmul")
    _, stride, padding, _ = setting
    if setting[:3] == (2, 3, "VALID"):
        padding = 0
    backwards = kernel[::-1, ::-1].transpose(0, 1, 3, 2)

    def convolution(u):
        return nets.convolve(u, backwards, stride=stride, padding=padding, impl="xla")

    u = _normal(7, y.shape)

    @quick_jit
    def run(u, x):
        out, vjp = jax.vjp(convolution, u)
        return out, vjp(x)[0]

    out, transposed = run(u, x)
    _assert_close(y, transposed)
    _assert_close(jnp.vdot(out, x), jnp.vdot(u, y), 1e-11)


def _torch_transposed(x, weight, stride, padding, output_padding):
    """Scatter every pixel, as torch's documentation defines it (NCHW)."""
    (batch, _, height, width), (_, outputs, kh, kw) = x.shape, weight.shape
    full = np.zeros(
        (
            batch,
            outputs,
            (height - 1) * stride + kh + output_padding,
            (width - 1) * stride + kw + output_padding,
        )
    )
    for i in range(height):
        for j in range(width):
            piece = np.einsum("bi,ioac->boac", x[:, :, i, j], weight)
            top, left = i * stride, j * stride
            full[:, :, top : top + kh, left : left + kw] += piece
    rows, columns = full.shape[2] - padding, full.shape[3] - padding
    return full[:, :, padding:rows, padding:columns]


def _torch_convolution(x, weight, stride, padding):
    """Cross-correlate every window, as torch's documentation defines it (NCHW)."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kh, kw = weight.shape[2:]
    rows, columns = (
        (n - k) // stride + 1 for n, k in zip(x.shape[2:], (kh, kw), strict=True)
    )
    y = np.zeros((x.shape[0], weight.shape[0], rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride, j * stride
            patch = x[:, :, top : top + kh, left : left + kw]
            y[:, :, i, j] = np.einsum("biac,oiac->bo", patch, weight)
    return y


@pytest.mark.parametrize(("size", "stride", "padding", "extra"), TORCH)
def test_torch_transposed_layout(size, stride, padding, extra):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 3, 5, 6)), rng.normal(size=(3, 4, size, size))
    layer = functools.partial(
        nets.convolve_transposed,
        stride=stride,
        padding=padding,
        output_padding=extra,
    )
    kernel = nets.from_torch_conv_transpose2d(weight)
    expected = _torch_transposed(x, weight, stride, padding, extra)
    pictures = jnp.asarray(x.transpose(0, 2, 3, 1))
    y = quick_jit(functools.partial(layer, impl="matmul"))(pictures, kernel)
    _assert_close(y, expected.transpose(0, 2, 3, 1))
    _assert_close(layer(pictures, kernel, impl="xla"), expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(("size", "stride", "padding"), [row[:3] for row in TORCH])
def test_torch_layout(size, stride, padding):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 3, 8, 7)), rng.normal(size=(4, 3, size, size))
    layer = functools.partial(
        nets.convolve, stride=stride, padding=padding, impl="matmul"
    )
    kernel = nets.from_torch_conv2d(weight)
    y = quick_jit(layer)(jnp.asarray(x.transpose(0, 2, 3, 1)), kernel)
    expected = _torch_convolution(x, weight, stride, padding)
    _assert_close(y, expected.transpose(0, 2, 3, 1))


def test_torch_layouts_of_oblong_kernels():
    weight = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    kernel = nets.from_torch_conv2d(weight)
    assert kernel.shape == (4, 5, 3, 2)
    assert kernel.dtype == np.float32
    assert kernel[1, 2, 0, 1] == weight[1, 0, 1, 2]
    kernel = nets.from_torch_conv_transpose2d(weight)
    assert kernel.shape == (4, 5, 2, 3)
    assert kernel[1, 2, 0, 1] == weight[0, 1, 4 - 1 - 1, 5 - 1 - 2]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_named_paddings_are_those_of_jax(kernel_size, stride, padding):
    x, kernel = _normal(0, (2, 5, 6, 2)), _normal(1, (kernel_size, kernel_size, 2, 3))
    expected = lax.conv_general_dilated(
        x, kernel, (stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    options = {"stride": stride, "padding": padding}
    y = quick_jit(functools.partial(nets.convolve, impl="matmul", **options))(x, kernel)
    _assert_close(y, expected)
    assert nets.output_size(5, kernel_size, **options) == expected.shape[1]

    expected = lax.conv_transpose(x, kernel, (stride,) * 2, padding)
    layer = functools.partial(nets.convolve_transposed, impl="matmul", **options)
    _assert_close(quick_jit(layer)(x, kernel), expected)
    assert nets.transposed_output_size(6, kernel_size, **options) == expected.shape[2]


@pytest.mark.parametrize(("size", "stride", "padding", "_"), TORCH)
def test_output_padding_restores_even_and_odd_sizes(size, stride, padding, _):
    for rows in range(7, 14):
        options = {"stride": stride, "padding": padding}
        reduced = nets.output_size(rows, size, **options)
        options["output_padding"] = nets.output_padding_for(rows, size, **options)
        assert nets.transposed_output_size(reduced, size, **options) == rows


# "direct": a convolution of stride 1 with transposes of its own.

DIRECT = [(3, 1, 1, 5), (5, 1, 4, 3), (1, 1, 0, 4), ((2, 3), 1, ((0, 1), 2), 5)]


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
@pytest.mark.parametrize("setting", [*DIRECT, *SETTINGS[:2], SETTINGS[13]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_direct_equals_xla(kind, setting, layout):
    x, kernel, layer = _problem(kind, setting)
    expected = layer(x, kernel, "xla")
    to = nets.swap_layout if layout == "CHWN" else lambda x: x
    _assert_close(to(layer(to(x), kernel, "direct", layout)), expected)


@pytest.mark.parametrize("setting", [*DIRECT[:2], SETTINGS[4]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_of_direct_equal_those_of_xla(kind, setting, monkeypatch):
    """The kernel's gradient as the sum over parts of the batch, too."""
    monkeypatch.setattr(correlation, "_PART", 1)
    x, kernel, layer = _problem(kind, setting)
    run = quick_jit(_derivatives, static_argnums=(0, 3))
    expected = run(layer, x, kernel, "xla")
    _assert_close(run(layer, x, kernel, "direct"), expected)


@pytest.mark.parametrize("axes", [(0, None), (None, 2), (1, -1)])
def test_vmap_of_direct(axes):
    x, kernel, layer = _problem("convolve", DIRECT[0])

    def both(impl, x, kernel):
        y, back = jax.vjp(functools.partial(layer, impl=impl), x, kernel)
        return y, back(jnp.sin(y))

    many = [
        value if axis is None else jnp.stack([value, 2 * value, -value], axis)
        for value, axis in zip((x, kernel), axes, strict=True)
    ]
    direct, xla = (
        quick_jit(jax.vmap(functools.partial(both, impl), in_axes=axes))(*many)
        for impl in ("direct", "xla")
    )
    _assert_close(direct, xla)


def test_direct_has_one_form_of_convolution_in_scans():
    """XLA leaves other orders of axes in loops to code a thousand times slower."""
    x, kernel, layer = _problem("convolve", DIRECT[0], np.float32)

    def step(point, _):
        loss = lambda x, kernel: jnp.sum(layer(x, kernel, "direct") ** 2)  # noqa: E731
        slopes = jax.grad(loss, (0, 1))(*point)
        return jax.tree.map(lambda p, s: p - s / 100, point, slopes), None

    def run(x, kernel):
        return lax.scan(step, (x, kernel), None, length=3)[0]

    text = jax.jit(run).lower(x, kernel).compile().as_text()
    forms = set(re.findall(r"convolution\(.*dim_labels=(\S+?)[,\s]", text))
    assert forms == {"b01f_01io->b01f"}


def test_auto_takes_matrix_products_on_the_cpu(monkeypatch):
    x, kernel, layer = _problem("convolve", (3, 1, 1, 5))

    def primitives():
        return str(jax.make_jaxpr(lambda x: layer(x, kernel, "auto"))(x))

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert "im2col" in primitives()
    assert nets.preferred_layout() == "CHWN"
    for backend in ("gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert "im2col" not in primitives()
        assert "conv_general_dilated" in primitives()
        assert nets.preferred_layout() == "NHWC"
    assert nets.preferred_layout("matmul") == "CHWN"


def test_second_call_does_not_trace_again():
    traces = []
    kernel = jnp.ones((3, 3, 1, 1))

    @jax.jit
    def f(x):
        traces.append(x)
        return nets.convolve(x, kernel, stride=2, padding=1, impl="matmul")

    f(jnp.ones((2, 6, 6, 1)))
    f(jnp.zeros((2, 6, 6, 1)))
    assert len(traces) == 1


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("impl", ["matmul", "xla"])
@pytest.mark.parametrize("kind", KINDS)
def test_lowers_for_every_platform(kind, impl, platform):
    x, kernel, layer = _problem(kind, (4, 2, 1, 6), np.float32)

    def gradient(x, kernel):
        return jax.grad(lambda *z: jnp.sum(jnp.sin(layer(*z, impl))), (0, 1))(x, kernel)

    exported = jax.export.export(jax.jit(gradient), platforms=[platform])(x, kernel)
    assert exported.platforms == (platform,)
    assert [out.shape for out in exported.out_avals] == [x.shape, kernel.shape]


@pytest.mark.parametrize("kind", KINDS)
def test_batch_shards_over_devices(kind):
    x, kernel, layer = _problem(kind, (4, 2, 1, 6), batch=4)
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    by_batch = jax.sharding.PartitionSpec("data")

    def loss(x, kernel):
        return jnp.sum(jnp.sin(layer(x, kernel, "matmul")))

    gradient = quick_jit(jax.grad(loss, (0, 1)))
    expected = gradient(x, kernel)
    sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, by_batch))
    _assert_close(gradient(sharded, kernel), expected)

    @quick_jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(by_batch, jax.sharding.PartitionSpec()),
        out_specs=(by_batch, jax.sharding.PartitionSpec()),
    )
    def parallel(x, kernel):
        return jax.grad(loss, (0, 1))(x, kernel)

    _assert_close(parallel(x, kernel), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments(kind):
    layer = getattr(nets, kind)
    x, kernel = jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 4))
    for bad_x, bad_kernel, message in [
        (x[0], kernel, r"four axes.*\(5, 5, 3\)"),
        (x, kernel[0], r"four axes.*\(3, 3, 4\)"),
        (x, kernel[:, :, :2], r"\(kh, kw, 3, outputs\).*got \(3, 3, 2, 4\)"),
        (x[:, :0], kernel, "no empty axis"),
        (x, kernel[:0], "no empty axis"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(bad_x, bad_kernel)
    for bad_x in (x.astype(np.float32), x.astype(int)):
        with pytest.raises(TypeError, match=f"{bad_x.dtype} and float64"):
            layer(bad_x, kernel)
    with pytest.raises(TypeError, match="floating"):
        layer(x.astype(int), kernel.astype(int))
    for option, value, message in [
        ("impl", "fast", r"impl must be one of.*'fast'"),
        ("layout", "NCHW", r"layout must be one of.*'NCHW'"),
        ("stride", 0, "stride must be a positive integer, got 0"),
        ("stride", 1.5, "stride must be a positive integer, got 1.5"),
        ("stride", (1, 2, 3), "stride must be one integer or two"),
        ("padding", -1, "padding must be"),
        ("padding", "same", "padding must be.*'same'"),
        ("padding", (1, 1, 1), "padding must be"),
        ("padding", ((1, 2, 3), 1), "padding must be"),
        ("padding", (("a", "b"), 1), "padding must be"),
        ("padding", None, "padding must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            layer(x, kernel, **{option: value})


def test_bad_sizes():
    x, kernel = jnp.ones((2, 2, 2, 1)), jnp.ones((3, 3, 1, 1))
    with pytest.raises(ValueError, match="no larger than the padded picture"):
        nets.convolve(x, kernel)
    with pytest.raises(ValueError, match="leaves part of the result"):
        nets.convolve_transposed(x, kernel, padding=2)
    for extra in (2, -1, 0.5, (1, 2), (1, 1, 1)):
        with pytest.raises(ValueError, match="output_padding must be one integer"):
            nets.convolve_transposed(x, kernel, stride=2, output_padding=extra)
    with pytest.raises(ValueError, match="must be 0 with padding 'SAME'"):
        nets.convolve_transposed(x, kernel, stride=2, padding="SAME", output_padding=1)
    with pytest.raises(ValueError, match="padding in numbers"):
        nets.output_padding_for(7, 3, stride=2, padding="SAME")
    with pytest.raises(ValueError, match="size must be a positive integer"):
        nets.output_size(0, 3)
    for convert in (nets.from_torch_conv2d, nets.from_torch_conv_transpose2d):
        with pytest.raises(ValueError, match=r"four axes, got shape \(3, 3\)"):
            convert(np.ones((3, 3)))
