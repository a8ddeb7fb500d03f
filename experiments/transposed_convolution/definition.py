"""The transposed convolution by its definition, and the convolution it transposes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class Setting(NamedTuple):
    """A layer: kernel size k, stride s, padding p, output padding."""

    kernel: int
    stride: int
    padding: int
    output_padding: int


def output_size(setting: Setting, size: int) -> int:
    """Count the rows of the large picture."""
    k, s, p, e = setting
    return (size - 1) * s + k - 2 * p + e


def scatter(x: np.ndarray, weight: np.ndarray, setting: Setting) -> np.ndarray:
    """Paint the kernel once for every pixel, weighted with it: the definition.

    Args:
        x: pictures, (B, n, n, I).
        weight: of a torch layer, (I, O, k, k).
        setting: the layer.

    Returns:
        The large pictures, (B, m, m, O).
    """
    k, s, p, _ = setting
    rows = output_size(setting, x.shape[1])
    # What is painted beyond the padded canvas' edges is cut off.
    canvas = np.zeros((len(x), rows + 2 * p, rows + 2 * p, weight.shape[1]))
    for i, j in np.ndindex(x.shape[1:3]):
        patch = np.einsum("bc,coij->bijo", x[:, i, j], weight)
        canvas[:, i * s : i * s + k, j * s : j * s + k] += patch
    return canvas[:, p : p + rows, p : p + rows]


def convolution(u: jax.Array, weight: jax.Array, setting: Setting) -> jax.Array:
    """Apply A, the convolution that the layer transposes, to large pictures."""
    kernel = weight.transpose(2, 3, 1, 0)
    pads = [(setting.padding, setting.padding)] * 2
    strides = (setting.stride, setting.stride)
    return lax.conv_general_dilated(
        u, kernel, strides, pads, dimension_numbers=DIMENSIONS
    )


def matrix(setting: Setting, kernel: np.ndarray, size: int) -> np.ndarray:
    """Write out the matrix A of a one-channel convolution of size x size pictures."""
    weight = jnp.asarray(kernel, jnp.float32)[None, None]
    picture = jnp.zeros((1, size, size, 1), jnp.float32)
    jacobian = jax.jacfwd(lambda u: convolution(u, weight, setting))(picture)
    return np.asarray(jacobian.reshape(-1, size * size))


def overlaps(setting: Setting, size: int) -> np.ndarray:
    """Count how often every large pixel is painted: ones, painted with ones."""
    ones = np.ones((1, size, size, 1)), np.ones((1, 1, setting.kernel, setting.kernel))
    return scatter(*ones, setting)[0, :, :, 0]


def interior_counts(setting: Setting, size: int = 13) -> list[int]:
    """List the different counts, away from the edges."""
    edge = setting.kernel + setting.stride
    inside = overlaps(setting, size)[edge:-edge, edge:-edge]
    return sorted({int(count) for count in inside.flat})
