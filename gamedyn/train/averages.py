"""Averages of the players' parameters along a run, for sampling and evaluation."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive
from gamedyn.game import Params, PyTree


class Average(NamedTuple):
    """How the average of what a rule reports moves; its state is the average itself.

    Attributes:
        weight: `weight(count) -> w` after `count` steps, a floating-point scalar: the
            new average is `(1 - w) average + w output`. At weight 1 it is the output.
    """

    weight: Callable[[jax.Array], Any]

    def init(self, output: Params) -> Params:
        """Begin with a copy, of at least 32 bits: small steps must not be lost."""
        return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=_wide(leaf)), output)

    def update(self, average: Params, output: Params, count: jax.Array) -> Params:
        """Take in the output after `count` steps."""
        # The count is a float, so that the weight is as exact as what it weighs.
        dtypes = [jnp.dtype(jnp.float32), *map(_wide, jax.tree.leaves(average))]
        widest = max(dtypes, key=lambda dtype: dtype.itemsize)
        weight = jnp.asarray(self.weight(count.astype(widest)))

        def mix(mean: jax.Array, leaf: jax.Array) -> jax.Array:
            share = weight.astype(mean.dtype)
            return (1 - share) * mean + share * leaf.astype(mean.dtype)

        return jax.tree.map(mix, average, output)


def ema(decay: float, start: int = 0) -> Average:
    r"""Average exponentially: $a_t = \beta\, a_{t-1} + (1 - \beta)\, z_t$.

    Before and at step `start` the average is the current point, so a warm-up leaves no
    trace; with `start=0` it begins at the initial parameters.

    Args:
        decay: $\beta$, in [0, 1): .999 in short runs, .9999 in long ones.
        start: the number of steps after which averaging begins.

    Returns:
        The average.

    Raises:
        ValueError: if `decay` is not in [0, 1) or `start` negative.

    References:
        Y. Yazıcı et al., The unusual effectiveness of averaging in GAN training, 2019.
        <https://arxiv.org/abs/1806.04498>
    """
    _check_start(start)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    return Average(lambda count: jnp.where(count > start, 1.0 - decay, 1.0))


def ema_half_life(
    half_life: float, batch_size: int, *, ramp: float | None = None
) -> Average:
    r"""Average exponentially, the memory given in examples seen.

    $$\beta = 2^{-B/h}, \qquad h_t = \min(h, \text{ramp} \cdot t B),$$

    so that an example's step counts half after h more examples, and early on the
    average forgets the start.

    Args:
        half_life: h, in examples.
        batch_size: B, the examples of one step.
        ramp: the largest half-life as a share of the examples seen, .05 in StyleGAN2;
            no ramp if `None`.

    Returns:
        The average.

    Raises:
        ValueError: if a number is not positive.

    References:
        T. Karras et al., Analyzing and improving the image quality of StyleGAN, 2020.
        <https://arxiv.org/abs/1912.04958>
    """
    check_positive("half_life", half_life)
    check_positive("batch_size", batch_size)
    if ramp is not None:
        check_positive("ramp", ramp)

    def weight(count: jax.Array) -> jax.Array:
        memory = half_life / batch_size  # in steps
        if ramp is not None:
            memory = jnp.minimum(memory, ramp * count)
        return -jnp.expm1(-math.log(2) / jnp.asarray(memory, count.dtype))

    return Average(weight)


def uniform(start: int = 0) -> Average:
    r"""Average all points after `start` steps equally: $a_t = \frac{1}{t - s} \sum z$.

    Args:
        start: s; up to then the average is the current point.

    Returns:
        The average.

    Raises:
        ValueError: if `start` is negative.
    """
    _check_start(start)
    return Average(lambda count: 1 / jnp.maximum(count - start, 1))


def _check_start(start: int) -> None:
    if isinstance(start, bool) or not hasattr(start, "__index__") or start < 0:
        raise ValueError(f"start must be a whole number of steps, got {start!r}")


def _wide(leaf: PyTree) -> Any:
    dtype = jnp.result_type(leaf)
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
