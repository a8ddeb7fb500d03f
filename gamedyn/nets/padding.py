"""Sizes and paddings of convolutions, counted before anything is computed."""

from collections.abc import Sequence
from typing import Any

import jax

from gamedyn.checks import check_positive_integer

Padding = int | str | Sequence[int | Sequence[int]]
AxisPadding = int | str | Sequence[int]

Two = tuple[int, int]
"""One number for the rows, one for the columns."""

Pads = tuple[Two, Two]
"""Zeros before and after, for rows and for columns."""


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
    pads = forward_padding(_both(padding), (size, size), window, strides)
    return output_sizes((size, size), window, strides, pads)[0]


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
    pads, extra = transposed_padding(_both(padding), output_padding, window, strides)
    return transposed_sizes((size, size), window, strides, pads, extra)[0]


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


def window_of(kernel: jax.Array) -> Two:
    """Return the height and width of a kernel, HWIO."""
    return kernel.shape[0], kernel.shape[1]


def _check_sizes(size: int, kernel_size: int, stride: int) -> None:
    check_positive_integer("size", size)
    check_positive_integer("kernel_size", kernel_size)
    check_positive_integer("stride", stride)


def _spread(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value, value)


def pair(name: str, value: int | Sequence[int]) -> Two:
    """Return two positive integers, one given for both perhaps, or `ValueError`."""
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


def _numeric_padding(padding: Padding) -> Pads:
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


def forward_padding(
    padding: Padding,
    size: Two,
    window: Two,
    strides: Two,
) -> Pads:
    """Return the zeros that a convolution adds around pictures of a size."""
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        vertical, horizontal = map(same_padding, size, window, strides)
        return vertical, horizontal
    return _numeric_padding(padding)


def transposed_padding(
    padding: Padding,
    output_padding: int | Sequence[int],
    window: Two,
    strides: Two,
) -> tuple[Pads, Two]:
    """Return the zeros that a transposed layer cuts off, and its output padding."""
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
    pads = forward_padding(padding, strides, window, strides)
    return pads, (vertical, horizontal)


def positions(
    size: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[Two],
) -> Two:
    """Count the positions of a window in a padded picture, per axis."""
    rows, columns = (
        (n + low + high - k) // s + 1
        for n, k, s, (low, high) in zip(size, window, strides, pads, strict=True)
    )
    return rows, columns


def output_sizes(
    size: Two,
    window: Two,
    strides: Two,
    pads: Pads,
) -> Two:
    """Count the rows and columns after a convolution; `ValueError` if none is left."""
    sizes = positions(size, window, strides, pads)
    if min(sizes) < 1:
        raise ValueError(
            f"expected a kernel no larger than the padded picture, got a kernel of "
            f"{window} for pictures of {size} with padding {pads}"
        )
    return sizes


def transposed_sizes(
    size: Two,
    window: Two,
    strides: Two,
    pads: Pads,
    extra: Two,
) -> Two:
    """Count those after a transposed one; `ValueError` if none is left."""
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
