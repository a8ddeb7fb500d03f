"""Convolutions of stride 1 whose gradients are convolutions of the same form.

A convolution of stride 1, NHWC by HWIO, is linear in either argument, and each of its
transposes is such a convolution again, of arrays with other axes in front. Automatic
differentiation of XLA's own gives them in other orders of axes, in which XLA's loops on
the CPU are up to a thousand times slower inside `scan`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from gamedyn.nets.linear import materialise
from gamedyn.nets.padding import Pads, Two, positions, window_of

# Size of the parts of the pictures over which the kernel's gradient is summed: beyond a
# few megabytes each number takes several times as long.
_PART = 2**18

correlate_p = Primitive("correlate")


def correlate(
    x: jax.Array, kernel: jax.Array, pads: Pads, strides: Two = (1, 1)
) -> jax.Array:
    r"""Convolve NHWC pictures with an HWIO kernel, see `convolutions.convolve`.

    $$y_{b,i,j,o} = \sum_{a,c,d} x_{b,\, is + a - l,\, js + c - l',\, d} K_{a,c,d,o}.$$

    Args:
        x: the pictures, (B, H, W, I).
        kernel: the weights, (kh, kw, I, O).
        pads: zeros before and after, for rows and for columns; may be negative.
        strides: of rows and columns.

    Returns:
        Pictures, (B, H', W', O).
    """
    if strides != (1, 1):
        x, kernel, pads = _without_strides(x, kernel, pads, strides)
    # Both gradients read what each of them would compute for itself.
    return materialise(correlate_p.bind(materialise(x), kernel, pads=pads))


def _without_strides(
    x: jax.Array, kernel: jax.Array, pads: Pads, strides: Two
) -> tuple[jax.Array, jax.Array, Pads]:
    """Make every s-th row and column, with each offset, channels of their own."""
    (sh, sw), zero = strides, jnp.zeros((), x.dtype)
    rows, columns = positions(x.shape[1:3], window_of(kernel), strides, pads)
    tall, wide = (-(-k // s) for k, s in zip(window_of(kernel), strides, strict=True))
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


def _correlate(x: jax.Array, kernel: jax.Array, *, pads: Pads) -> jax.Array:
    if _is_product(kernel, pads):
        return x @ kernel[0, 0]
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _is_product(kernel: Any, pads: Pads) -> bool:
    return window_of(kernel) == (1, 1) and pads == ((0, 0), (0, 0))


def _correlate_shape(x: Any, kernel: Any, *, pads: Pads) -> Any:
    rows, columns = positions(x.shape[1:3], kernel.shape[:2], (1, 1), pads)
    shape = (x.shape[0], rows, columns, kernel.shape[3])
    return x.update(shape=shape, weak_type=False)


def _of_pictures(g: jax.Array, x: Any, kernel: jax.Array, *, pads: Pads) -> jax.Array:
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


def _of_kernel(g: jax.Array, x: jax.Array, kernel: Any, *, pads: Pads) -> jax.Array:
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
    gradients = [
        correlate_p.bind(a.transpose(3, 1, 2, 0), b.transpose(1, 2, 0, 3), pads=pads)
        for a, b in parts
    ]
    return functools.reduce(jnp.add, gradients).transpose(1, 2, 0, 3)


def _correlate_batched(operands: Any, axes: Any, *, pads: Pads) -> Any:
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
