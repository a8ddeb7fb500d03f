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

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from gamedyn.nets.correlation import correlate
from gamedyn.nets.padding import (
    Padding,
    Pads,
    Two,
    forward_padding,
    output_sizes,
    pair,
    transposed_padding,
    transposed_sizes,
    window_of,
)
from gamedyn.nets.padding import output_padding_for as output_padding_for
from gamedyn.nets.padding import output_size as output_size
from gamedyn.nets.padding import same_padding as same_padding
from gamedyn.nets.padding import transposed_output_size as transposed_output_size
from gamedyn.nets.patches import Window, col2im, im2col

Impl = Literal["auto", "matmul", "direct", "xla"]
Layout = Literal["NHWC", "CHWN"]


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
    window, strides = window_of(kernel), pair("stride", stride)
    pads = forward_padding(padding, size, window, strides)
    output_sizes(size, window, strides, pads)  # raises if nothing is left
    if impl == "direct":
        return _directly(x, kernel, pads, layout, strides)
    if impl == "xla":
        return lax.conv_general_dilated(
            x, kernel, strides, pads, dimension_numbers=(layout, "HWIO", layout)
        )
    x = swap_layout(x) if layout == "NHWC" else x
    patches = im2col(x, window=Window(window, strides, pads, size))
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
        padding: what the transposed convolution A adds, and so is cut off here;
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
    window, strides = window_of(kernel), pair("stride", stride)
    pads, extra = transposed_padding(padding, output_padding, window, strides)
    size = transposed_sizes(reduced, window, strides, pads, extra)
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
    x = swap_layout(x) if layout == "NHWC" else x
    weights = kernel[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, kernel.shape[2])
    y = col2im(_product(weights, x), window=Window(window, strides, reach, size))
    return swap_layout(y) if layout == "NHWC" else y


def _directly(
    x: jax.Array, kernel: jax.Array, pads: Pads, layout: str, strides: Two = (1, 1)
) -> jax.Array:
    if layout == "NHWC":
        return correlate(x, kernel, pads, strides)
    return swap_layout(correlate(swap_layout(x), kernel, pads, strides))


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


def _settled(impl: Impl) -> Impl:
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {get_args(Impl)}, got {impl!r}")
    if impl != "auto":
        return impl
    return "matmul" if jax.default_backend() == "cpu" else "xla"


def _check_operands(name: str, x: jax.Array, kernel: jax.Array, layout: str) -> Two:
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


def _torch_weight(weight: ArrayLike) -> jax.Array:
    array = jnp.asarray(weight)
    if array.ndim != 4:
        raise ValueError(
            f"a two-dimensional torch convolution has a weight of four axes, got shape "
            f"{array.shape}"
        )
    return array
