r"""Normalisation of activations: over the batch, over an example, per class.

Activations have their channels on `axis` and the batch on the opposite end: axis -1 for
vectors, (B, C), and NHWC pictures, axis 0 for CHWN ones. Batch normalisation keeps no
running state. In training it takes the moments of the batch at hand; for sampling,
moments are collected afterwards from many batches and passed in.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.nets.net import (
    Net,
    Params,
    Statistics,
    at_least_float32,
    from_function,
)

Moments = dict[str, jax.Array]
# normalise(name, x, axis, params=None, labels=None) of the batch normalisation called
# `name`.
Normalise = Callable[..., jax.Array]


def batch_moments(x: jax.Array, axis: int = -1) -> Moments:
    r"""Compute mean and variance per channel over everything else.

    $$\mu_c = E\, x_c, \qquad \sigma_c^2 = E\, (x_c - \mu_c)^2,$$

    the biased variance, in float32 at least.

    Args:
        x: activations of any number of axes.
        axis: that of the channels, 0 or -1.

    Returns:
        A dict of `mean` and `variance`, each (C,).
    """
    x = at_least_float32(x)
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    return {"mean": jnp.mean(x, others), "variance": jnp.var(x, others)}


def standardise(
    x: jax.Array, moments: Moments, axis: int = -1, *, epsilon: float = 1e-5
) -> jax.Array:
    r"""Subtract a mean per channel and divide by a standard deviation.

    $$y_c = (x_c - \mu_c) / \sqrt{\sigma_c^2 + \epsilon}.$$

    Args:
        x: activations.
        moments: `mean` and `variance`, each (C,), of the batch or standing.
        axis: that of the channels, 0 or -1.
        epsilon: added to the variance; 1e-5 in torch and flax.

    Returns:
        The same shape and dtype.
    """
    mean = spread(moments["mean"], x.ndim, axis)
    factor = spread(jax.lax.rsqrt(moments["variance"] + epsilon), x.ndim, axis)
    return ((at_least_float32(x) - mean) * factor).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def normalise_batch(
    x: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    axis: int = -1,
    epsilon: float = 1e-5,
) -> jax.Array:
    r"""Standardise with the batch's own moments, then scale and shift every channel.

    $$\hat x_c = (x_c - \mu_c) / \sqrt{\sigma_c^2 + \epsilon}, \qquad
      y_c = \gamma_c \hat x_c + \beta_c.$$

    Its derivative is given in closed form, with $a = \gamma / \sqrt{\sigma^2 +
    \epsilon}$,

    $$\dot y = a \dot x + (\dot \beta - a\, E \dot x)
      + \hat x\, (\dot \gamma - a\, E\, \hat x \dot x),$$

    so that the reverse mode takes two sums over the batch in place of five. Both modes
    go through it any number of times.

    Args:
        x: activations.
        scale: gamma, shape (C,).
        offset: beta, shape (C,).
        axis: that of the channels, 0 or -1.
        epsilon: added to the variance.

    Returns:
        The same shape and dtype.

    References:
        S. Ioffe and C. Szegedy, Batch Normalization, 2015.
        <https://arxiv.org/abs/1502.03167>
    """
    y = standardise(x, batch_moments(x, axis), axis, epsilon=epsilon)
    return scale_and_shift({"scale": scale, "offset": offset}, y, axis)


@normalise_batch.defjvp
def _normalise_batch_jvp(
    axis: int, epsilon: float, primals: tuple[jax.Array, ...], tangents: Any
) -> tuple[jax.Array, jax.Array]:
    x, scale, offset = primals
    moments = batch_moments(x, axis)
    y = standardise(x, moments, axis, epsilon=epsilon)
    moved_x, moved_scale, moved_offset = map(at_least_float32, tangents)
    factor = at_least_float32(scale) * jax.lax.rsqrt(moments["variance"] + epsilon)
    wide = at_least_float32(y)
    shift = moved_offset - factor * _mean(moved_x, axis)
    gain = moved_scale - factor * _mean(wide * moved_x, axis)
    moved = spread(factor, x.ndim, axis) * moved_x + spread(shift, x.ndim, axis)
    moved += wide * spread(gain, x.ndim, axis)
    scaled = scale_and_shift({"scale": scale, "offset": offset}, y, axis)
    return scaled, moved.astype(scaled.dtype)


def _mean(x: jax.Array, axis: int) -> jax.Array:
    return jnp.mean(x, tuple(a for a in range(x.ndim) if a != axis % x.ndim))


def group_norm(
    x: jax.Array, groups: int, axis: int = -1, *, epsilon: float = 1e-5
) -> jax.Array:
    r"""Standardise every example by itself, in groups of channels.

    One group is layer normalisation (over all rows, columns and channels), a group for
    each channel instance normalisation. Nothing couples the examples, so that these go
    with gradient penalties.

    Args:
        x: activations.
        groups: number of groups, a divisor of C.
        axis: that of the channels, 0 or -1.
        epsilon: added to the variance.

    Returns:
        The same shape and dtype.

    Raises:
        ValueError: if the number of channels is not divisible by `groups`.

    References:
        Y. Wu and K. He, Group Normalization, 2018. <https://arxiv.org/abs/1803.08494>
    """
    channels, last = x.shape[axis], axis % x.ndim == x.ndim - 1
    if groups < 1 or channels % groups:
        raise ValueError(f"expected a divisor of {channels} channels, got {groups}")
    inside = channels // groups
    if last:
        grouped, others = (*x.shape[:-1], groups, inside), (*range(1, x.ndim - 1), -1)
    else:
        grouped, others = (groups, inside, *x.shape[1:]), tuple(range(1, x.ndim))
    y = at_least_float32(x).reshape(grouped)
    mean = jnp.mean(y, others, keepdims=True)
    variance = jnp.var(y, others, keepdims=True)
    y = (y - mean) * jax.lax.rsqrt(variance + epsilon)
    return y.reshape(x.shape).astype(x.dtype)


def scale_and_shift(
    params: Params, x: jax.Array, axis: int = -1, *, labels: Any = None
) -> jax.Array:
    r"""Scale and shift every channel, by the class's own numbers if there are labels.

    $$y_c = \gamma_c x_c + \beta_c, \qquad\text{or}\qquad
    y_{b,c} = \gamma_{k_b,c}\, x_{b,c} + \beta_{k_b,c}.$$

    After `standardise` the second is conditional batch normalisation.

    Args:
        params: `scale` and `offset`, each (C,), or (classes, C) with labels.
        x: activations.
        axis: that of the channels, 0 or -1.
        labels: the classes k, (B,) and integer.

    Returns:
        The same shape and dtype.

    References:
        V. Dumoulin, J. Shlens and M. Kudlur, A Learned Representation For Artistic
        Style, 2017. <https://arxiv.org/abs/1610.07629>
    """
    scale, offset = params["scale"], params["offset"]
    if labels is not None:
        scale, offset = scale[labels], offset[labels]
    return x * spread(scale, x.ndim, axis) + spread(offset, x.ndim, axis)


def init_scale_and_shift(
    channels: int,
    *,
    num_classes: int | None = None,
    key: jax.Array | None = None,
    deviation: float = 0.0,
    dtype: Any = jnp.float32,
) -> Params:
    """Start scales at 1, or at N(1, deviation^2), and offsets at 0.

    Args:
        channels: C.
        num_classes: number of classes, each with its own scales and offsets, or `None`.
        key: a PRNG key, needed if the deviation is not zero.
        deviation: that of the scales; .02 in DCGAN.
        dtype: of the parameters.

    Returns:
        A dict of `scale` and `offset`.
    """
    shape = (channels,) if num_classes is None else (num_classes, channels)
    scale = jnp.ones(shape, jnp.float32)
    if key is not None:
        scale += deviation * jax.random.normal(key, shape, jnp.float32)
    return {"scale": scale.astype(dtype), "offset": jnp.zeros(shape, dtype)}


def normalising(
    init: Callable[[jax.Array], Params],
    forward: Callable[..., Any],
    *,
    batch_norm: bool = True,
) -> Net:
    """Make a network of a function that calls for batch normalisation by name.

    Args:
        init: `init(key)` returns the parameters.
        forward: `forward(normalise, params, x, *args)` returns the output. It calls
            `normalise(name, x, axis, params=None, labels=None)` wherever activations
            are to be standardised over the batch, with a name for each place; with
            `params`, they are scaled and shifted too, see `scale_and_shift`.
        batch_norm: whether `forward` makes use of its first argument.

    Returns:
        The network.

    Example:
        >>> def forward(normalise, params, x):
        ...     return jnp.tanh(normalise("input", x, -1) @ params)
        >>> net = normalising(lambda key: jnp.ones(2), forward)
        >>> x = jnp.array([[1.0, 0.0], [3.0, 2.0]])
        >>> standing = net.statistics(jnp.ones(2), x[None])
        >>> standing["input"]["mean"].tolist()
        [2.0, 1.0]
        >>> print(f"{net.apply(jnp.ones(2), x[:1], statistics=standing)[0]:.2f}")
        -0.96
    """
    if not batch_norm:
        return from_function(init, lambda *args: forward(None, *args))

    def run(params: Params, args: Any, statistics: Statistics) -> Any:
        used = {}

        def normalise(
            name: str,
            x: jax.Array,
            axis: int,
            params: Params = None,
            labels: Any = None,
        ) -> jax.Array:
            if statistics is not None:
                y = standardise(x, statistics[name], axis)
            else:
                used[name] = batch_moments(x, axis)
                if params is not None and labels is None:
                    return normalise_batch(x, params["scale"], params["offset"], axis)
                ones = jnp.ones(x.shape[axis], x.dtype)
                y = normalise_batch(x, ones, 0 * ones, axis)
            if params is None:
                return y
            return scale_and_shift(params, y, axis, labels=labels)

        return forward(normalise, params, *args), used

    def apply(params: Params, x: Any, *args: Any, statistics: Any = None) -> Any:
        return run(params, (x, *args), statistics)[0]

    def collect(params: Params, batches: Any) -> Statistics:
        return standing_statistics(lambda *args: run(params, args, None)[1], batches)

    return Net(init, apply, collect, batch_statistics=True)


def standing_statistics(
    moments: Callable[..., dict[str, Moments]], batches: Any
) -> dict[str, Moments]:
    r"""Combine the moments of many batches into those of all of them.

    $$\mu = E_i\, \mu_i, \qquad \sigma^2 = E_i\, \sigma_i^2 + \mathrm{Var}_i\, \mu_i,$$

    i the batch: for equal batches the moments of the union. A network's own
    `statistics(params, batches)` is this function over its batch normalisations, every
    batch normalised by itself as in training.

    Args:
        moments: `moments(x, *args)` returns, for one batch, a dict of `batch_moments`.
        batches: x of all batches, with one more leading axis, (n, B, ...); or the tuple
            `(x, *args)` of such arrays. The batches are gone through one by one.

    Returns:
        The same dict with the combined moments.

    Raises:
        ValueError: if the leading axes differ or there is no batch.

    References:
        A. Brock, J. Donahue and K. Simonyan, Large Scale GAN Training for High Fidelity
        Natural Image Synthesis, 2019, section 4.1 ("standing statistics").
        <https://arxiv.org/abs/1809.11096>
    """
    args = batches if isinstance(batches, tuple) else (batches,)
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(args)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"expected batches stacked along one leading axis, "
            f"got shapes {[leaf.shape for leaf in jax.tree.leaves(args)]}"
        )
    every = jax.lax.map(lambda each: moments(*each), args)
    return {
        name: {
            "mean": jnp.mean(each["mean"], 0),
            "variance": jnp.mean(each["variance"], 0) + jnp.var(each["mean"], 0),
        }
        for name, each in every.items()
    }


def spread(values: jax.Array, ndim: int, axis: int = -1) -> jax.Array:
    """Bring (C,), or (B, C), to a shape that broadcasts against activations.

    Args:
        values: numbers per channel, or per example and channel.
        ndim: how many axes the activations have.
        axis: that of their channels, 0 or -1.

    Returns:
        The same numbers with `ndim` axes.
    """
    channels, batch = values.shape[-1], values.shape[:-1] or (1,)
    middle = (1,) * (ndim - 2)
    if axis % ndim == ndim - 1:
        return values.reshape(*batch, *middle, channels)
    return values.T.reshape(channels, *middle, *batch)
