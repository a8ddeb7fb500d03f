"""Divergences of densities by Monte Carlo, each with its standard error."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer

LogDensity = Callable[[Any], jax.Array]
Sampler = Callable[[jax.Array], Any]


class Estimate(NamedTuple):
    """A Monte Carlo estimate with its standard error.

    Attributes:
        value: the mean over the samples.
        standard_error: of that mean; infinite where the value is.
        num_samples: the number of samples from each distribution that was sampled.
    """

    value: jax.Array
    standard_error: jax.Array
    num_samples: int


def estimate_kullback_leibler(
    key: jax.Array,
    log_p: LogDensity,
    log_q: LogDensity,
    sample_p: Sampler,
    *,
    num_samples: int,
) -> Estimate:
    r"""Estimate $\mathrm{KL}(p \| q) = E_{x \sim p} [\log p(x) - \log q(x)]$.

    Unbiased. The value is infinite as soon as a sample of p has no density under q;
    a finite value does not rule out that the truth is infinite. Differentiable in
    whatever the densities and the sampler close over (by reparametrisation: the
    sampler must be differentiable in the parameters of p).

    Args:
        key: a PRNG key.
        log_p: the log density of p at one point, a scalar.
        log_q: the log density of q at one point; `-inf` outside its support.
        sample_p: draws one point from p, given a key.
        num_samples: how many, at least 2.

    Returns:
        The estimate.

    Raises:
        ValueError: if `num_samples` is not a static integer above 1, or a log density
            is not a scalar.

    Example:
        >>> import jax
        >>> from jax.scipy.stats import norm
        >>> from gamedyn import divergences
        >>> estimate = divergences.estimate_kullback_leibler(
        ...     jax.random.key(0),
        ...     norm.logpdf,
        ...     lambda x: norm.logpdf(x, 1.0, 2.0),
        ...     jax.random.normal,
        ...     num_samples=100_000,
        ... )
        >>> abs(estimate.value.item() - 0.4431) < 4 * estimate.standard_error.item()
        True
    """
    at_p = _log_densities(key, sample_p, num_samples, log_p, log_q)
    return _estimate(at_p[0] - at_p[1])


def estimate_jensen_shannon(
    key: jax.Array,
    log_p: LogDensity,
    log_q: LogDensity,
    sample_p: Sampler,
    sample_q: Sampler,
    *,
    num_samples: int,
) -> Estimate:
    r"""Estimate the Jensen-Shannon divergence from samples of both distributions.

    $$\mathrm{JS}(p, q) = \tfrac12 E_p \log \frac{2p}{p+q}
    + \tfrac12 E_q \log \frac{2q}{p+q},$$

    unbiased, every term at most $\log 2$.

    Args:
        key: a PRNG key.
        log_p: the log density of p at one point, `-inf` outside its support.
        log_q: the log density of q at one point, likewise.
        sample_p: draws one point from p, given a key.
        sample_q: draws one point from q, given a key.
        num_samples: how many from each, at least 2.

    Returns:
        The estimate.

    Raises:
        ValueError: as `estimate_kullback_leibler`.
    """

    def term(own, other):
        return jnp.log(jnp.asarray(2, own.dtype)) - jax.nn.softplus(other - own)

    return _from_both(
        term, key, log_p, log_q, sample_p, sample_q, num_samples=num_samples
    )


def estimate_total_variation(
    key: jax.Array,
    log_p: LogDensity,
    log_q: LogDensity,
    sample_p: Sampler,
    sample_q: Sampler,
    *,
    num_samples: int,
) -> Estimate:
    r"""Estimate the total variation distance from samples of both distributions.

    $$\mathrm{TV}(p, q) = \tfrac12 E_p (1 - q/p)_+ + \tfrac12 E_q (1 - p/q)_+,$$

    either expectation being the distance itself; unbiased, every term in [0, 1].

    Args:
        key: as in `estimate_jensen_shannon`.
        log_p: as in `estimate_jensen_shannon`.
        log_q: as in `estimate_jensen_shannon`.
        sample_p: as in `estimate_jensen_shannon`.
        sample_q: as in `estimate_jensen_shannon`.
        num_samples: as in `estimate_jensen_shannon`.

    Returns:
        The estimate.

    Raises:
        ValueError: as `estimate_kullback_leibler`.
    """

    def term(own, other):
        return -jnp.expm1(jnp.minimum(other - own, 0))

    return _from_both(
        term, key, log_p, log_q, sample_p, sample_q, num_samples=num_samples
    )


def _from_both(term, key, log_p, log_q, sample_p, sample_q, *, num_samples) -> Estimate:
    key_p, key_q = jax.random.split(key)
    p_at_p, q_at_p = _log_densities(key_p, sample_p, num_samples, log_p, log_q)
    p_at_q, q_at_q = _log_densities(key_q, sample_q, num_samples, log_p, log_q)
    # The two samples are independent, so the halves' variances add up.
    first, second = _estimate(term(p_at_p, q_at_p)), _estimate(term(q_at_q, p_at_q))
    return Estimate(
        (first.value + second.value) / 2,
        jnp.hypot(first.standard_error, second.standard_error) / 2,
        num_samples,
    )


def _log_densities(
    key: jax.Array, sample: Sampler, num_samples: int, *logs: LogDensity
) -> list[jax.Array]:
    check_positive_integer("num_samples", num_samples)
    if num_samples < 2:
        raise ValueError(f"a standard error needs 2 samples, got {num_samples}")
    drawn = jax.vmap(sample)(jax.random.split(key, num_samples))
    values = [jax.vmap(log)(drawn) for log in logs]
    for value in values:
        if value.shape != (num_samples,):
            raise ValueError(
                f"a log density must give a scalar at one point, "
                f"got shape {value.shape[1:]}"
            )
    return values


def _estimate(terms: jax.Array) -> Estimate:
    n = len(terms)
    value = jnp.mean(terms)
    finite = jnp.isfinite(value)
    spread = jnp.where(finite, terms - jnp.where(finite, value, 0), 0)
    variance = jnp.sum(spread**2) / (n - 1)
    scatters = variance > 0  # the root has no slope at zero
    error = jnp.sqrt(jnp.where(scatters, variance, 1) / n)
    error = jnp.where(scatters, error, 0)
    return Estimate(value, jnp.where(finite, error, jnp.inf), n)
