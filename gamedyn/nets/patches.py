"""The gathering of patches and its transpose, of which convolutions are made.

Automatic differentiation would transpose the gathering into one padded array per patch
position, all added up; as a pair, each the transpose of the other, both stay in the
form that is fast. All pictures are CHWN here.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from gamedyn.nets.linear import transposes
from gamedyn.nets.padding import Pads, Two, positions


class Window(NamedTuple):
    """A window that moves over a picture: each of its positions is a patch.

    Attributes:
        size: its height and width.
        strides: from position to position.
        pads: zeros around the picture; negative for rows that no patch reaches.
        picture: height and width of the picture, the larger one.
    """

    size: Two
    strides: Two
    pads: Pads
    picture: Two

    @property
    def positions(self) -> Two:
        """How many there are along each axis, height and width of the smaller one."""
        return positions(self.picture, self.size, self.strides, self.pads)


def _im2col(x: jax.Array, *, window: Window) -> jax.Array:
    """Gather the patches, (C, H, W, B) -> (kh kw C, H', W', B)."""
    (kh, kw), (sh, sw), pads, _ = window
    rows, columns = window.positions
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, [(0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)])
    # Columns first, then rows: kh + kw pieces instead of kh kw.
    width, height = (columns - 1) * sw + 1, (rows - 1) * sh + 1
    x = jnp.concatenate([x[:, :, c : c + width : sw] for c in range(kw)], axis=0)
    return jnp.concatenate([x[:, a : a + height : sh] for a in range(kh)], axis=0)


def _col2im(y: jax.Array, *, window: Window) -> jax.Array:
    """Add patches up where they came from, (kh kw C, H', W', B) -> (C, H, W, B)."""
    (kh, kw), (sh, sw), ((top, _), (left, _)), (height, width) = window
    rows, columns = -(-height // sh), -(-width // sw)
    y = y.reshape(kh, kw, -1, *y.shape[1:])
    zero = jnp.zeros((), y.dtype)
    # Rows of equal remainder modulo the stride, one whole picture each.
    phases = []
    for row in range(sh):
        for column in range(sw):
            down = _shifts(row + top, kh, sh, window.positions[0], rows)
            right = _shifts(column + left, kw, sw, window.positions[1], columns)
            pieces = [
                lax.pad(y[a, c], zero, [(0, 0, 0), vertical, horizontal, (0, 0, 0)])
                for a, vertical in down
                for c, horizontal in right
            ]
            empty = jnp.zeros((y.shape[2], rows, columns, y.shape[-1]), y.dtype)
            phases.append(functools.reduce(jnp.add, pieces) if pieces else empty)
    if len(phases) == 1:
        return phases[0]
    # Columns first, then rows, as concatenations: XLA would repeat a
    # transposition, slowly, inside every function of the result.
    lines = []
    for row in range(sh):
        line = jnp.stack(phases[row * sw : (row + 1) * sw], axis=3)
        lines.append(line.reshape(*line.shape[:2], columns * sw, -1))
    x = jnp.stack(lines, axis=2).reshape(-1, rows * sh, columns * sw, y.shape[-1])
    return x[:, :height, :width]


def _shifts(
    start: int, length: int, stride: int, given: int, wanted: int
) -> list[tuple[int, tuple[int, int, int]]]:
    """List the offsets in the window that reach a phase, with how to shift each."""
    shifts = []
    for a in range(length):
        shift, remainder = divmod(start - a, stride)
        if remainder == 0 and -wanted < shift < given:
            shifts.append((a, (-shift, wanted + shift - given, 0)))
    return shifts


im2col, col2im = transposes(_im2col, _col2im, axis=3)
"""`im2col(x, window=)` gathers patches, `col2im(y, window=)` adds them up."""
