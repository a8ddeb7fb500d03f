r"""Convolutions and transposed convolutions that are fast on every backend.

Both layers keep their kernel as `(kh, kw, inputs, outputs)`, HWIO, where inputs and
outputs are those of the layer itself. Along each axis, with stride s, kernel size k and
padding (l, h),

$$\text{convolve:}\quad y_i = \sum_a x_{is + a - l} K_a, \qquad
\text{transposed:}\quad y_{is + a - l} \mathrel{+}= x_i K_{k-1-a}.$$

So the transposed layer holds its kernel flipped in space, as `jax.lax.conv_transpose`
and flax do; its stride and padding are those of the convolution it transposes, as in
torch. On the CPU each layer is one matrix product beside a gathering of patches
(`im2col`) or its transpose, a scattering of them (`col2im`), with the batch as the
last, contiguous axis; elsewhere it is XLA's own convolution. A third form, "direct", is
for many layers of 3 x 3 pixels on the CPU: XLA's convolution of stride 1, whose
gradients are convolutions of the same form.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike

from gamedyn.checks import check_positive_integer
from gamedyn.nets.linear import materialise, transposes

Impl = Literal["auto", "matmul", "direct", "xla"]
Layout = Literal["NHWC", "CHWN"]
Padding = int | str | Sequence[int | Sequence[int]]
AxisPadding = int | str | Sequence[int]

_Two = tuple[int, int]
_Pads = tuple[_Two, _Two]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    impl: Impl = "auto",
    layout: Layout = "NHWC",
) -> jax.Array:
    r"""Convolve pictures with a kernel (cross-correlation, as in every library).

    $$y_{b,i,j,o} = \sum_{a,c,d} x_{b,\, is + a - l,\, js + c - l',\, d} K_{a,c,d,o},$$

    where x is zero outside, s is the stride, and l, l' are the paddings before the
    first row and column. Every implementation gives the same numbers up to rounding
    and is differentiable any number of times in both modes, inside `vmap` and `scan`.

    Args:
        x: the pictures, (B, H, W, I), or (I, H, W, B) with `layout="CHWN"`.
        kernel: the weights, (kh, kw, I, O), of the dtype of x. From torch:
            `from_torch_conv2d`.
        stride: one for both axes, or (height, width).
        padding: zeros around the picture: one number for all sides (torch's meaning),
            or one entry per axis, each a number or (before, after); or "VALID" (none),
            or "SAME" (see `same_padding`: not torch's padding on every size).
        impl: "matmul" (one matrix product), "xla" (XLA's convolution), or "auto",
            which takes the first on the CPU and the second elsewhere, decided by
            `jax.default_backend()` when the function is traced; or "direct" (XLA's
            convolution of NHWC pictures, with gradients that are fast on the CPU, too;
            transposed with a stride it is "matmul").
        layout: "NHWC", or "CHWN" to go in and out with the batch last; a stack of
            layers in `preferred_layout()` saves the transpositions between them.

    Returns:
        Pictures of `output_size` rows and columns with O channels, in the same layout.

    Raises:
        TypeError: if x and kernel differ in dtype, or are not floating point.
        ValueError: if shapes do not fit together, the kernel exceeds the padded
            picture, or an option is not one of those above.

    Example:
        >>> pictures = jnp.ones((2, 28, 28, 1))
        >>> convolve(pictures, jnp.ones((4, 4, 1, 64)), stride=2, padding=1).shape
        (2, 14, 14, 64)

    References:
        Chellapilla, Puri, Simard, "High performance convolutional neural networks for
        document processing", IWFHR 2006,
        [inria-00112631](https://inria.hal.science/inria-00112631).
    """
    impl = _settled(impl)
    size = _check_operands("convolve", x, kernel, layout)
    window, strides = _window(kernel), _pair("stride", stride)
    pads = _forward_padding(padding, size, window, strides)
    _output_sizes(size, window, strides, pads)  # raises if nothing is left
    if impl == "direct":
        return _directly(x, kernel, pads, layout, strides)
    if impl == "xla":
        return lax.conv_general_dilated(
            x, kernel, strides, pads, dimension_numbers=(layout, "HWIO", layout)
        )
    geometry = _Geometry(window, strides, pads, size)
    x = swap_layout(x) if layout == "NHWC" else x
    patches = _bind_im2col(x, geometry=geometry)
    y = _product(kernel.reshape(-1, kernel.shape[-1]).T, patches)
    return swap_layout(y) if layout == "NHWC" else y


def convolve_transposed(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    impl: Impl = "auto",
    layout: Layout = "NHWC",
) -> jax.Array:
    r"""Apply a transposed convolution, the layer that enlarges pictures.

    $$y_{b,\, is + a - l,\, js + c - l',\, o} \mathrel{+}=
    \sum_d x_{b,i,j,d} K_{kh-1-a,\, kw-1-c,\, d,\, o}.$$

    It is the transpose of the convolution A with the same stride and padding and the
    kernel $\tilde K_{a,c,o,d} = K_{kh-1-a,\, kw-1-c,\, d,\, o}$, which takes pictures
    of the size of y to those of the size of x: $\langle Au, x \rangle = \langle u,
    y \rangle$ for all u, so that y is the gradient of $\langle Au, x \rangle$ with
    respect to u. It is not an inverse.

    Args:
        x: the pictures, (B, H, W, I), or (I, H, W, B) with `layout="CHWN"`.
        kernel: the weights, (kh, kw, I, O), of the dtype of x, flipped in space as in
            flax (with its default `transpose_kernel=False`). From torch:
            `from_torch_conv_transpose2d`.
        stride: one for both axes, or (height, width).
        padding: what the transposed convolution A adds, thus what is cut off here;
            forms as in `convolve`, and torch's meaning. "SAME" and "VALID" are those
            of `jax.lax.conv_transpose`: results of H s, and of (H - 1) s + max(k, s),
            rows.
        output_padding: rows and columns more at the end, less than the stride: A maps
            as many sizes to the size of x, and this chooses one
            (`output_padding_for`). With a named padding it must be 0.
        impl: as in `convolve`.
        layout: as in `convolve`.

    Returns:
        Pictures of `transposed_output_size` rows and columns with O channels, in the
        same layout.

    Raises:
        TypeError: if x and kernel differ in dtype, or are not floating point.
        ValueError: if shapes do not fit together, nothing of the result remains, or an
            option is not one of those above.

    Example:
        >>> latents = jnp.ones((2, 7, 7, 128))
        >>> kernel = jnp.ones((4, 4, 128, 64))
        >>> convolve_transposed(latents, kernel, stride=2, padding=1).shape
        (2, 14, 14, 64)

    References:
        Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", 2016,
        [arXiv:1603.07285](https://arxiv.org/abs/1603.07285).
    """
    impl = _settled(impl)
    reduced = _check_operands("convolve_transposed", x, kernel, layout)
    window, strides = _window(kernel), _pair("stride", stride)
    pads, extra = _transposed_padding(padding, output_padding, window, strides)
    size = _transposed_sizes(reduced, window, strides, pads, extra)
    (up, down), (before, after) = (
        (k - 1 - low, k - 1 - high + more)
        for k, (low, high), more in zip(window, pads, extra, strict=True)
    )
    around = (up, down), (before, after)
    if impl == "direct" and strides == (1, 1):
        return _directly(x, kernel, around, layout)
    if impl == "xla":
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            around,
            lhs_dilation=strides,
            dimension_numbers=(layout, "HWIO", layout),
        )
    # What the transposed convolution adds after the end of its larger picture; rows
    # that it would not reach at all make this negative.
    (top, bottom), (left, right) = pads
    reach = (top, bottom - extra[0]), (left, right - extra[1])
    geometry = _Geometry(window, strides, reach, size)
    x = swap_layout(x) if layout == "NHWC" else x
    weights = kernel[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, kernel.shape[2])
    y = _bind_col2im(_product(weights, x), geometry=geometry)
    return swap_layout(y) if layout == "NHWC" else y


def _product(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """Multiply the first axis of x by a matrix."""
    if jax.device_count() > 1:
        # Merged with rows and columns, a batch that is shared out would be gathered.
        return lax.dot_general(matrix, x, (((1,), (0,)), ((), ())))
    # XLA transposes what has more axes, in the gradients: 1.5 times the step's time.
    y = matrix @ x.reshape(x.shape[0], -1)
    return y.reshape(len(matrix), *x.shape[1:])


def swap_layout(x: jax.Array) -> jax.Array:
    """Turn NHWC pictures into CHWN ones or back, being its own inverse.

    Args:
        x: pictures, (B, H, W, C) or (C, H, W, B).

    Returns:
        The same numbers with the first and last axes exchanged.
    """
    return x.transpose(3, 1, 2, 0)


def preferred_layout(impl: Impl = "auto") -> Layout:
    """Name the layout in which a stack of these layers is fastest.

    Args:
        impl: as in `convolve`.

    Returns:
        "CHWN" where the layers are matrix products, "NHWC" where they are XLA's own.

    Raises:
        ValueError: if `impl` is not known.
    """
    return "CHWN" if _settled(impl) == "matmul" else "NHWC"


def same_padding(size: int, kernel_size: int, stride: int = 1) -> tuple[int, int]:
    r"""Find the padding with which a convolution returns $\lceil n / s \rceil$ rows.

    $$l + h = \max((\lceil n/s \rceil - 1) s + k - n,\, 0), \qquad
    l = \lfloor (l + h) / 2 \rfloor.$$

    It depends on the size n, and an odd total puts the surplus row at the end, so that
    a net built with torch's fixed padding needs numbers instead: k = 4, s = 2 is
    torch's padding 1 on even sizes only, and k = 3, s = 2 or k = 5, s = 2 have the
    shape of torch's padding 1 or 2 there, but not its numbers.

    Args:
        size: rows of the picture, n.
        kernel_size: k.
        stride: s.

    Returns:
        The zeros before and after, (l, h).

    Raises:
        ValueError: if an argument is not a positive integer.

    Example:
        >>> same_padding(28, 4, 2), same_padding(7, 4, 2), same_padding(28, 3, 2)
        ((1, 1), (1, 2), (0, 1))
    """
    _check_sizes(size, kernel_size, stride)
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def output_size(
    size: int, kernel_size: int, *, stride: int = 1, padding: AxisPadding = 0
) -> int:
    r"""Count the rows after a convolution, $\lfloor (n + l + h - k) / s \rfloor + 1$.

    Args:
        size: rows of the picture, n.
        kernel_size: k.
        stride: s.
        padding: a number, (before, after), "SAME" or "VALID".

    Returns:
        The number of rows.

    Raises:
        ValueError: if an argument is out of range or no row is left.

    Example:
        >>> output_size(28, 4, stride=2, padding=1)
        14
    """
    _check_sizes(size, kernel_size, stride)
    window, strides = (kernel_size, kernel_size), (stride, stride)
    pads = _forward_padding(_both(padding), (size, size), window, strides)
    return _output_sizes((size, size), window, strides, pads)[0]


def transposed_output_size(
    size: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: AxisPadding = 0,
    output_padding: int = 0,
) -> int:
    r"""Count the rows after a transposed one, $(n - 1) s + k - l - h + e$.

    Args:
        size: rows of the picture, n.
        kernel_size: k.
        stride: s.
        padding: a number, (before, after), "SAME" or "VALID".
        output_padding: e.

    Returns:
        The number of rows.

    Raises:
        ValueError: if an argument is out of range or no row is left.

    Example:
        >>> transposed_output_size(7, 4, stride=2, padding=1)
        14
    """
    _check_sizes(size, kernel_size, stride)
    window, strides = (kernel_size, kernel_size), (stride, stride)
    pads, extra = _transposed_padding(_both(padding), output_padding, window, strides)
    return _transposed_sizes((size, size), window, strides, pads, extra)[0]


def output_padding_for(
    size: int, kernel_size: int, *, stride: int = 1, padding: AxisPadding = 0
) -> int:
    r"""Find the output padding with which a transposed layer restores a size.

    A convolution takes s neighbouring sizes to the same one; back from there,
    $e = (n + l + h - k) \bmod s$ leads to n. Even and odd sizes differ in it.

    Args:
        size: rows of the larger picture, n.
        kernel_size: k.
        stride: s.
        padding: a number or (before, after).

    Returns:
        The output padding e of `convolve_transposed`, less than s.

    Raises:
        ValueError: if an argument is out of range, the padding is named, or the
            convolution leaves no row.

    Example:
        >>> output_padding_for(14, 3, stride=2, padding=1)
        1
        >>> output_padding_for(13, 3, stride=2, padding=1)
        0
    """
    if isinstance(padding, str):
        raise ValueError(
            f"expected padding in numbers, got {padding!r}: a named padding settles "
            f"the size of the result itself"
        )
    output_size(size, kernel_size, stride=stride, padding=padding)
    ((low, high), _) = _numeric_padding(_both(padding))
    return (size + low + high - kernel_size) % stride


def from_torch_conv2d(weight: ArrayLike) -> jax.Array:
    """Bring the weight of a torch `Conv2d` into the layout of `convolve`.

    The layer's stride and padding carry over as they are. Groups and dilation, which
    the shape of a weight does not show, must be 1.

    Args:
        weight: (O, I, kh, kw), an array: `layer.weight.detach().numpy()`.

    Returns:
        The kernel, (kh, kw, I, O), of the same dtype.

    Raises:
        ValueError: if the weight does not have four axes.
    """
    return _torch_weight(weight).transpose(2, 3, 1, 0)


def from_torch_conv_transpose2d(weight: ArrayLike) -> jax.Array:
    """Bring the weight of a torch `ConvTranspose2d` into that of `convolve_transposed`.

    The layer's stride, padding and output padding carry over as they are. Besides the
    order of the axes the kernel is flipped in space; without that the shape would be
    right and the numbers wrong. Groups and dilation must be 1.

    Args:
        weight: (I, O, kh, kw), an array: `layer.weight.detach().numpy()`.

    Returns:
        The kernel, (kh, kw, I, O), of the same dtype.

    Raises:
        ValueError: if the weight does not have four axes.
    """
    return _torch_weight(weight).transpose(2, 3, 0, 1)[::-1, ::-1]


# The gathering of patches and its transpose. Automatic differentiation would transpose
# the first into one padded array per patch position, all added up; as a pair both stay
# in the form that is fast. All pictures are CHWN here.


class _Geometry(NamedTuple):
    window: _Two
    strides: _Two
    pads: _Pads  # negative: rows that no patch reaches
    size: _Two  # of the larger picture

    @property
    def reduced(self) -> _Two:
        """Positions of the window, per axis."""
        return _positions(self.size, self.window, self.strides, self.pads)


def _im2col(x: jax.Array, *, geometry: _Geometry) -> jax.Array:
    """Gather the patches, (C, H, W, B) -> (kh kw C, H', W', B)."""
    (kh, kw), (sh, sw), pads, _ = geometry
    rows, columns = geometry.reduced
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
    # Columns first, then rows: kh + kw pieces instead of kh kw.
    width, height = (columns - 1) * sw + 1, (rows - 1) * sh + 1
    x = jnp.concatenate([x[:, :, c : c + width : sw] for c in range(kw)], axis=0)
    return jnp.concatenate([x[:, a : a + height : sh] for a in range(kh)], axis=0)


def _col2im(y: jax.Array, *, geometry: _Geometry) -> jax.Array:
    """Add patches up where they came from, (kh kw C, H', W', B) -> (C, H, W, B)."""
    (kh, kw), (sh, sw), ((top, _), (left, _)), (height, width) = geometry
    rows, columns = -(-height // sh), -(-width // sw)
    y = y.reshape(kh, kw, -1, *y.shape[1:])
    zero = jnp.zeros((), y.dtype)
    # Rows of equal remainder modulo the stride, one whole picture each.
    phases = []
    for row in range(sh):
        for column in range(sw):
            down = _shifts(row + top, kh, sh, geometry.reduced[0], rows)
            right = _shifts(column + left, kw, sw, geometry.reduced[1], columns)
            pieces = [
                lax.pad(y[a, c], zero, [(0, 0, 0), vertical, horizontal, (0, 0, 0)])
                for a, vertical in down
                for c, horizontal in right
            ]
            empty = jnp.zeros((y.shape[2], rows, columns, y.shape[-1]), y.dtype)
            phases.append(functools.reduce(jnp.add, pieces) if pieces else empty)
    if len(phases) == 1:
        return phases[0]
    # Columns first, then rows, as concatenations: a transposition in their place would
    # be done anew, slowly, inside of every function of the result.
    lines = []
    for row in range(sh):
        line = jnp.stack(phases[row * sw : (row + 1) * sw], axis=3)
        lines.append(line.reshape(*line.shape[:2], columns * sw, -1))
    x = jnp.stack(lines, axis=2).reshape(-1, rows * sh, columns * sw, y.shape[-1])
    return x[:, :height, :width]


def _shifts(
    start: int, window: int, stride: int, given: int, wanted: int
) -> list[tuple[int, tuple[int, int, int]]]:
    """List the offsets in the window that reach a phase, with how to shift each."""
    shifts = []
    for a in range(window):
        shift, remainder = divmod(start - a, stride)
        if remainder == 0 and -wanted < shift < given:
            shifts.append((a, (-shift, wanted + shift - given, 0)))
    return shifts


_bind_im2col, _bind_col2im = transposes(_im2col, _col2im, axis=3)


# A convolution of stride 1, NHWC by HWIO, is linear in either argument, and each of its
# transposes is such a convolution again, of arrays with other axes in front. Automatic
# differentiation of XLA's own gives them in other orders of axes, in which XLA's loops
# on the CPU are up to a thousand times slower inside `scan`.

# Numbers of a part of the pictures, of which the kernel's gradient is the sum: beyond a
# few megabytes it takes several times as long for each.
_PART = 2**18

correlate_p = Primitive("correlate")


def _directly(
    x: jax.Array,
    kernel: jax.Array,
    pads: _Pads,
    layout: str,
    strides: _Two = (1, 1),
) -> jax.Array:
    x = swap_layout(x) if layout == "CHWN" else x
    if strides != (1, 1):
        x, kernel, pads = _without_strides(x, kernel, pads, strides)
    # Both gradients read what each of them would compute for itself.
    y = materialise(correlate_p.bind(materialise(x), kernel, pads=pads))
    return swap_layout(y) if layout == "CHWN" else y


def _without_strides(
    x: jax.Array, kernel: jax.Array, pads: _Pads, strides: _Two
) -> tuple[jax.Array, jax.Array, _Pads]:
    """Make every s-th row and column, with each offset, channels of their own."""
    (sh, sw), zero = strides, jnp.zeros((), x.dtype)
    rows, columns = _positions(x.shape[1:3], _window(kernel), strides, pads)
    tall, wide = (-(-k // s) for k, s in zip(_window(kernel), strides, strict=True))
    height, width = rows - 1 + tall, columns - 1 + wide
    (top, _), (left, _) = pads
    (_, before, across, channels), outputs = x.shape, kernel.shape[3]
    around = (
        (top, height * sh - top - before, 0),
        (left, width * sw - left - across, 0),
    )
    x = lax.pad(x, zero, [(0, 0, 0), *around, (0, 0, 0)])
    x = x.reshape(-1, height, sh, width, sw, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, height, width, sh * sw * channels)
    more = tall * sh - kernel.shape[0], wide * sw - kernel.shape[1]
    kernel = jnp.pad(kernel, [*((0, extra) for extra in more), (0, 0), (0, 0)])
    kernel = kernel.reshape(tall, sh, wide, sw, channels, outputs)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(tall, wide, -1, outputs)
    return x, kernel, ((0, 0), (0, 0))


def _correlate(x: jax.Array, kernel: jax.Array, *, pads: _Pads) -> jax.Array:
    if _is_product(kernel, pads):
        return x @ kernel[0, 0]
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _is_product(kernel: Any, pads: _Pads) -> bool:
    return _window(kernel) == (1, 1) and pads == ((0, 0), (0, 0))


def _correlate_shape(x: Any, kernel: Any, *, pads: _Pads) -> Any:
    rows, columns = _positions(x.shape[1:3], kernel.shape[:2], (1, 1), pads)
    shape = (x.shape[0], rows, columns, kernel.shape[3])
    return x.update(shape=shape, weak_type=False)


def _of_pictures(g: jax.Array, x: Any, kernel: jax.Array, *, pads: _Pads) -> jax.Array:
    """Transpose in x: spread every pixel over the window that saw it."""
    del x
    (top, bottom), (left, right) = pads
    vertical, horizontal = (size - 1 for size in kernel.shape[:2])
    around = (
        (vertical - top, vertical - bottom),
        (horizontal - left, horizontal - right),
    )
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return correlate_p.bind(g, flipped, pads=around)


def _of_kernel(g: jax.Array, x: jax.Array, kernel: Any, *, pads: _Pads) -> jax.Array:
    """Transpose in the kernel: examples in place of channels, g as the window."""
    if _is_product(kernel.aval, pads):
        rows, of_rows = (a.reshape(-1, a.shape[3]) for a in (x, g))
        return (rows.T @ of_rows)[None, None]
    number = 1
    if jax.device_count() == 1:  # else the batch may be shared out
        counts = range(1, len(x) + 1)
        divisors = [n for n in counts if len(x) % n == 0 and x.size <= n * _PART]
        number = divisors[0] if divisors else len(x)
    parts = zip(jnp.split(x, number), jnp.split(g, number), strict=True)
    found = [
        correlate_p.bind(a.transpose(3, 1, 2, 0), b.transpose(1, 2, 0, 3), pads=pads)
        for a, b in parts
    ]
    return functools.reduce(jnp.add, found).transpose(1, 2, 0, 3)


def _correlate_batched(operands: Any, axes: Any, *, pads: _Pads) -> Any:
    (x, kernel), (of_x, of_kernel) = operands, axes
    if of_kernel is None:  # the mapped axis joins the batch
        x = jnp.moveaxis(x, of_x, 0)
        runs, batch = x.shape[:2]
        y = correlate_p.bind(x.reshape(runs * batch, *x.shape[2:]), kernel, pads=pads)
        return y.reshape(runs, batch, *y.shape[1:]), 0
    if of_x is None:  # or the channels of the result
        kernel = jnp.moveaxis(kernel, of_kernel, 3)
        runs, outputs = kernel.shape[3:]
        kernel = kernel.reshape(*kernel.shape[:3], runs * outputs)
        y = correlate_p.bind(x, kernel, pads=pads)
        return y.reshape(*y.shape[:3], runs, outputs), 3
    pairs = jnp.moveaxis(x, of_x, 0), jnp.moveaxis(kernel, of_kernel, 0)
    one = functools.partial(correlate_p.bind, pads=pads)
    return lax.map(lambda pair: one(*pair), pairs), 0


correlate_p.def_impl(jax.jit(_correlate, static_argnames="pads"))
correlate_p.def_abstract_eval(_correlate_shape)
ad.defbilinear(correlate_p, _of_pictures, _of_kernel)
batching.primitive_batchers[correlate_p] = _correlate_batched
mlir.register_lowering(correlate_p, mlir.lower_fun(_correlate, multiple_results=False))


# Checks and sizes. Everything below is static.


def _settled(impl: Impl) -> Impl:
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {get_args(Impl)}, got {impl!r}")
    if impl != "auto":
        return impl
    return "matmul" if jax.default_backend() == "cpu" else "xla"


def _check_operands(name: str, x: jax.Array, kernel: jax.Array, layout: str) -> _Two:
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"{name} expected pictures of four axes, {layout}, and a kernel of four "
            f"axes, HWIO, got shapes {x.shape} and {kernel.shape}"
        )
    if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name} expected pictures and kernel of one floating dtype, got "
            f"{x.dtype} and {kernel.dtype}"
        )
    channels = x.shape[layout.index("C")]
    if channels != kernel.shape[2]:
        raise ValueError(
            f"{name} expected a kernel (kh, kw, {channels}, outputs) for {channels} "
            f"input channels ({layout}, {x.shape}), got {kernel.shape}"
        )
    if 0 in kernel.shape or 0 in x.shape[1:3]:
        raise ValueError(
            f"{name} expected no empty axis, got shapes {x.shape} and {kernel.shape}"
        )
    return x.shape[1], x.shape[2]


def _window(kernel: jax.Array) -> _Two:
    return kernel.shape[0], kernel.shape[1]


def _check_sizes(size: int, kernel_size: int, stride: int) -> None:
    check_positive_integer("size", size)
    check_positive_integer("kernel_size", kernel_size)
    check_positive_integer("stride", stride)


def _spread(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value, value)


def _pair(name: str, value: int | Sequence[int]) -> _Two:
    values = _spread(value)
    if len(values) != 2:
        raise ValueError(f"{name} must be one integer or two, got {value!r}")
    for each in values:
        check_positive_integer(name, each)
    return int(values[0]), int(values[1])


def _is_count(value: Any) -> bool:
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
    return is_integer and value >= 0


def _both(padding: AxisPadding) -> Padding:
    """Spread the padding of one axis over two."""
    if isinstance(padding, str) or not isinstance(padding, Sequence):
        return padding
    return padding, padding


def _numeric_padding(padding: Padding) -> _Pads:
    axes = padding if isinstance(padding, Sequence) else (padding, padding)
    pads = [each if isinstance(each, Sequence) else (each, each) for each in axes]
    if (
        isinstance(padding, str)
        or len(pads) != 2
        or any(len(pad) != 2 or not all(map(_is_count, pad)) for pad in pads)
    ):
        raise ValueError(
            f'padding must be "SAME", "VALID", a non-negative integer, or one entry '
            f"per axis (each an integer or a pair), got {padding!r}"
        )
    (top, bottom), (left, right) = pads
    return (int(top), int(bottom)), (int(left), int(right))


def _forward_padding(
    padding: Padding,
    size: _Two,
    window: _Two,
    strides: _Two,
) -> _Pads:
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        vertical, horizontal = map(same_padding, size, window, strides)
        return vertical, horizontal
    return _numeric_padding(padding)


def _transposed_padding(
    padding: Padding,
    output_padding: int | Sequence[int],
    window: _Two,
    strides: _Two,
) -> tuple[_Pads, _Two]:
    extra = _spread(output_padding)
    if len(extra) != 2 or not all(
        _is_count(e) and e < s for e, s in zip(extra, strides, strict=True)
    ):
        raise ValueError(
            f"output_padding must be one integer or two, from 0 to the stride "
            f"{strides} less 1, got {output_padding!r}"
        )
    if padding not in ("SAME", "VALID"):
        return _numeric_padding(padding), (int(extra[0]), int(extra[1]))
    if extra != (0, 0):
        raise ValueError(
            f"output_padding must be 0 with padding {padding!r}, got {output_padding!r}"
        )
    vertical, horizontal = (max(s - k, 0) for k, s in zip(window, strides, strict=True))
    # Any multiple of the stride has the padding that "SAME" takes on the way there.
    pads = _forward_padding(padding, strides, window, strides)
    return pads, (vertical, horizontal)


def _positions(
    size: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[_Two],
) -> _Two:
    rows, columns = (
        (n + low + high - k) // s + 1
        for n, k, s, (low, high) in zip(size, window, strides, pads, strict=True)
    )
    return rows, columns


def _output_sizes(
    size: _Two,
    window: _Two,
    strides: _Two,
    pads: _Pads,
) -> _Two:
    sizes = _positions(size, window, strides, pads)
    if min(sizes) < 1:
        raise ValueError(
            f"expected a kernel no larger than the padded picture, got a kernel of "
            f"{window} for pictures of {size} with padding {pads}"
        )
    return sizes


def _transposed_sizes(
    size: _Two,
    window: _Two,
    strides: _Two,
    pads: _Pads,
    extra: _Two,
) -> _Two:
    rows, columns = (
        (n - 1) * s + k - low - high + e
        for n, k, s, (low, high), e in zip(
            size, window, strides, pads, extra, strict=True
        )
    )
    if min(rows, columns) < 1:
        raise ValueError(
            f"expected a padding that leaves part of the result, got padding {pads} "
            f"for pictures of {size}, a kernel of {window} and strides {strides}"
        )
    return rows, columns


def _torch_weight(weight: ArrayLike) -> jax.Array:
    array = jnp.asarray(weight)
    if array.ndim != 4:
        raise ValueError(
            f"a two-dimensional torch convolution has a weight of four axes, got shape "
            f"{array.shape}"
        )
    return array
