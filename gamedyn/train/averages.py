"""Running averages of the players' parameters, for sampling and evaluation."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive
from gamedyn.game import Params, PyTree


class Average(NamedTuple):
    r"""A running average of the point that a rule reports, kept by `fit`.

    After t steps it is $a_t = (1 - w_t)\, a_{t-1} + w_t\, z_t$, where z is that point.

    Attributes:
        weight: `weight(t) -> w_t`, of floating-point scalars. At weight 1 the average
            is the current point.
    """

    weight: Callable[[jax.Array], Any]

    def init(self, output: Params) -> Params:
        """Start with a copy of the initial point.

        Args:
            output: the point that the rule reports before the first step.

        Returns:
            The average, in at least 32 bits: in bfloat16 small weights would be lost.
        """
        return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=_wide(leaf)), output)

    def update(self, average: Params, output: Params, count: jax.Array) -> Params:
        """Include the point after `count` steps.

        Args:
            average: the average after `count - 1` steps.
            output: the point that the rule reports after `count` steps.
            count: t, an integer scalar, from 1 on.

        Returns:
            The new average, in the dtypes of the old one.
        """
        # Compute the weight in the widest dtype that is averaged, to be as exact.
        dtypes = [jnp.dtype(jnp.float32), *map(_wide, jax.tree.leaves(average))]
        widest = max(dtypes, key=lambda dtype: dtype.itemsize)
        weight = jnp.asarray(self.weight(count.astype(widest)))

        def mix(mean: jax.Array, leaf: jax.Array) -> jax.Array:
            share = weight.astype(mean.dtype)
            return (1 - share) * mean + share * leaf.astype(mean.dtype)

        return jax.tree.map(mix, average, output)


def ema(decay: float, start: int = 0, *, warmup: bool = False) -> Average:
    r"""Average exponentially: $a_t = \beta_t\, a_{t-1} + (1 - \beta_t)\, z_t$.

    By default $\beta_t$ is the constant `decay`, and the average starts at the initial
    parameters $a_0 = z_0$, whose weight after t steps is $\beta^t$: at .999, still 67 %
    after 400 steps. In a run that is not many times longer than $1 / (1 - \beta)$ steps
    use `warmup`, which forgets the start and tends to the same average:

    $$\beta_t = \min\Bigl(\beta, \frac{1 + t}{10 + t}\Bigr).$$

    Until it reaches `decay` (at .999 after 8,990 steps), this is polynomial-decay
    averaging over about the last tenth of the steps, and the weight of the start falls
    like $t^{-9}$.

    Args:
        decay: $\beta$, in [0, 1): .999 in short runs, .9999 in long ones.
        start: s, the number of steps before averaging begins. Up to then the average is
            the current point, and t in the warm-up is counted from s.
        warmup: whether the decay grows to `decay` as above.

    Returns:
        The average.

    Raises:
        ValueError: if `decay` is not in [0, 1) or `start` negative.

    References:
        Y. Yazıcı et al., The unusual effectiveness of averaging in GAN training, 2019.
        <https://arxiv.org/abs/1806.04498>
        TensorFlow, `tf.train.ExponentialMovingAverage` with `num_updates`, for the
        warm-up. <https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage>
        O. Shamir, T. Zhang, Stochastic gradient descent for non-smooth optimization:
        convergence results and optimal averaging schemes, 2013, for polynomial decay.
        <https://arxiv.org/abs/1212.1824>
    """
    _check_start(start)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    if not warmup:
        return Average(lambda count: jnp.where(count > start, 1.0 - decay, 1.0))

    def weight(count: jax.Array) -> jax.Array:
        since = jnp.maximum(count - start, 0)
        # 1 - (1 + t) / (10 + t), in the form that does not cancel.
        growing = jnp.maximum(1.0 - decay, 9 / (10 + since))
        return jnp.where(since > 0, growing, 1.0)

    return Average(weight)


def ema_half_life(
    half_life: float, batch_size: int, *, ramp: float | None = None
) -> Average:
    r"""Average exponentially, with a memory given in training examples.

    $$\beta_t = 2^{-B/h_t}, \qquad h_t = \min(h, \text{ramp} \cdot t B):$$

    the weight of a point halves over the next $h_t$ examples. With a `ramp` the memory
    is short at first, so that the average forgets the start.

    Args:
        half_life: h, in examples.
        batch_size: B, examples per step.
        ramp: the largest half-life as a share of the examples seen so far, .05 in
            StyleGAN2; if `None`, the half-life is h from the start.

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
        # 1 - 2^(-1 / memory), exact also where the memory is long.
        return -jnp.expm1(-math.log(2) / jnp.asarray(memory, count.dtype))

    return Average(weight)


def uniform(start: int = 0) -> Average:
    r"""Average all points after step s equally.

    $$a_t = \frac{1}{t - s} \sum_{i=s+1}^t z_i .$$

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
    """Return the dtype in which a leaf is averaged: its own, of at least 32 bits."""
    dtype = jnp.result_type(leaf)
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
