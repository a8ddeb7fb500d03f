"""Divergences of discrete distributions, and of densities given on a quadrature."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.divergences import checks


def kullback_leibler(p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute the Kullback-Leibler divergence of two discrete distributions.

    $$\mathrm{KL}(p \| q) = \sum_{x: p(x) > 0} p(x) \log \frac{p(x)}{q(x)},$$

    $+\infty$ where $q(x) = 0 < p(x)$; no constant is added anywhere. Its gradient is
    finite everywhere: entries with $p = 0$ (where the slope is $-\infty$) and those
    with $q = 0 < p$ contribute zero.

    Args:
        p: probabilities along the last axis, shape (..., n).
        q: same shape and dtype.
        measure: weights of a quadrature, same shape: p and q are then densities at
            its nodes, and the sum is the integral. The counting measure if `None`.

    Returns:
        The divergence in nats, shape (...).

    Raises:
        ValueError: if the shapes differ, or known inputs are negative or do not sum
            to 1 (with a quadrature, to 1e-3). Under `jit` nothing is checked and
            nothing renormalised: the formula is applied as it stands.
        TypeError: if the dtypes differ or are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn import divergences
        >>> p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.25, 0.5])
        >>> f"{divergences.kullback_leibler(p, q):.4f}"
        '0.6931'
        >>> f"{divergences.kullback_leibler(q, p):.4f}"
        'inf'

    References:
        S. Kullback and R. A. Leibler, On Information and Sufficiency, 1951.
        <https://doi.org/10.1214/aoms/1177729694>
    """
    p, q, measure = _prepare(p, q, measure)
    both = (p > 0) & (q > 0)
    safe_p, safe_q = jnp.where(both, p, 1), jnp.where(both, q, 1)
    terms = jnp.where(both, p * (jnp.log(safe_p) - jnp.log(safe_q)), 0)
    terms = jnp.where((p > 0) & (q == 0), jnp.inf, terms)
    return _total(_or_nan(terms, p, q), measure)


def reverse_kullback_leibler(p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute $\mathrm{KL}(q \| p)$, which punishes mass of q outside p.

    Args:
        p: as in `kullback_leibler`, the data.
        q: as in `kullback_leibler`, the model.
        measure: as in `kullback_leibler`.

    Returns:
        The divergence in nats, shape (...).

    Raises:
        ValueError: as `kullback_leibler`.
        TypeError: as `kullback_leibler`.
    """
    return kullback_leibler(q, p, measure=measure)


def jensen_shannon(p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute the Jensen-Shannon divergence, what a GAN's generator minimises.

    $$\mathrm{JS}(p, q) = \tfrac12 \mathrm{KL}(p \| m) + \tfrac12 \mathrm{KL}(q \| m),
    \qquad m = \tfrac12 (p + q),$$

    between 0 and $\log 2$, which disjoint supports reach. The logarithms are those of
    $1 + (p-q)/(p+q)$, exact also for nearly equal inputs.

    Args:
        p: as in `kullback_leibler`.
        q: as in `kullback_leibler`.
        measure: as in `kullback_leibler`.

    Returns:
        The divergence in nats, shape (...); its gradient is finite everywhere, as that
        of `kullback_leibler`.

    Raises:
        ValueError: as `kullback_leibler`.
        TypeError: as `kullback_leibler`.

    References:
        J. Lin, Divergence measures based on the Shannon entropy, 1991.
        <https://doi.org/10.1109/18.61115>
    """
    p, q, measure = _prepare(p, q, measure)

    def half(p, q):
        inside = p > 0
        p, q = jnp.where(inside, p, 1), jnp.where(inside, q, 1)
        ratio = (p - q) / (p + q)
        near = ratio > -0.5  # far off, the ratio may round to -1
        far = jnp.log(p) - jnp.log(p + q) + math.log(2)
        logs = jnp.where(near, jnp.log1p(jnp.where(near, ratio, 0)), far)
        return jnp.where(inside, p * logs, 0)

    return _total(_or_nan((half(p, q) + half(q, p)) / 2, p, q), measure)


def total_variation(p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute the total variation distance $\tfrac12 \sum_x |p(x) - q(x)|$.

    The largest difference of the two probabilities of one event.

    Args:
        p: as in `kullback_leibler`.
        q: as in `kullback_leibler`.
        measure: as in `kullback_leibler`.

    Returns:
        The distance, between 0 and 1, shape (...).

    Raises:
        ValueError: as `kullback_leibler`.
        TypeError: as `kullback_leibler`.
    """
    p, q, measure = _prepare(p, q, measure)
    return _total(jnp.abs(p - q) / 2, measure)


def _prepare(
    p: Any, q: Any, measure: Any
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    if measure is None:
        p, q = checks.floating(p=p, q=q)
        checks.same_shape(p=p, q=q)
    else:
        p, q, measure = checks.floating(p=p, q=q, measure=measure)
        checks.same_shape(p=p, q=q, measure=measure)
    checks.probabilities("p", p, measure)
    checks.probabilities("q", q, measure)
    return p, q, measure


def _or_nan(terms: jax.Array, p: jax.Array, q: jax.Array) -> jax.Array:
    """Under jit nothing is refused; then a NaN must not pass for a zero."""
    return jnp.where(jnp.isnan(p) | jnp.isnan(q), jnp.nan, terms)


def _total(terms: jax.Array, measure: jax.Array | None) -> jax.Array:
    if measure is not None:
        # A node of weight zero is left out, even where its term is infinite.
        terms = jnp.where(measure == 0, 0, terms * measure)
    return jnp.sum(terms, axis=-1)
