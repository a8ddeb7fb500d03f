"""The theory of the GAN game: the optimal discriminator and its value."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.divergences import checks, jensen_shannon


def optimal_discriminator(p: Any, q: Any) -> jax.Array:
    r"""Compute the discriminator that is optimal against a fixed generator.

    $$D^*(x) = \frac{p(x)}{p(x) + q(x)},$$

    the probability that x is real when half of the examples are; 1/2 where neither
    distribution has mass, and any value would do.

    Args:
        p: probabilities or densities of the data, any shape.
        q: those of the generator at the same points, same shape and dtype.

    Returns:
        The probabilities, same shape.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if the dtypes differ or are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn.gan import theory
        >>> theory.optimal_discriminator(jnp.array([0.3, 0.0]), jnp.array([0.1, 0.2]))
        Array([0.75, 0.  ], ...)

    References:
        I. Goodfellow et al., Generative Adversarial Networks, 2014, proposition 1.
        <https://arxiv.org/abs/1406.2661>
    """
    p, q = checks.floating(p=p, q=q)
    checks.same_shape(p=p, q=q)
    somewhere = p + q > 0
    return jnp.where(somewhere, p / jnp.where(somewhere, p + q, 1), 0.5)


def optimal_logit(log_p: Any, log_q: Any) -> jax.Array:
    r"""Compute the logit of the optimal discriminator, $\log p(x) - \log q(x)$.

    Args:
        log_p: log densities of the data, `-inf` outside their support, any shape.
        log_q: those of the generator at the same points, same shape and dtype.

    Returns:
        The logits, same shape; 0 where both are `-inf`.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if the dtypes differ or are not floating-point.
    """
    log_p, log_q = checks.floating(log_p=log_p, log_q=log_q)
    checks.same_shape(log_p=log_p, log_q=log_q)
    neither = (log_p == -jnp.inf) & (log_q == -jnp.inf)
    return jnp.where(neither, 0, jnp.where(neither, 0, log_p) - log_q)


def optimal_discriminator_from_log(log_p: Any, log_q: Any) -> jax.Array:
    r"""Compute $D^*(x) = \sigma(\log p(x) - \log q(x))$, safe in the tails.

    Args:
        log_p: as in `optimal_logit`.
        log_q: as in `optimal_logit`.

    Returns:
        The probabilities, same shape; 1/2 where both are `-inf`.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if the dtypes differ or are not floating-point.
    """
    return jax.nn.sigmoid(optimal_logit(log_p, log_q))


def value(discriminator: Any, p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute the value of the GAN game, which the discriminator maximises.

    $$V(D, G) = E_{x \sim p} \log D(x) + E_{x \sim q} \log (1 - D(x)).$$

    Args:
        discriminator: probabilities D at the points of the support, shape (..., n).
        p: probabilities of the data there, same shape; with a `measure`, densities.
        q: those of the generator.
        measure: weights of a quadrature, same shape; the counting measure if `None`.

    Returns:
        The value, shape (...): at most $-\log 4 + 2\, \mathrm{JS}(p, q)$; $-\infty$ if
        D is certain and wrong somewhere.

    Raises:
        ValueError: if the shapes differ, a known p or q is no distribution, or a known
            D leaves [0, 1].
        TypeError: if the dtypes differ or are not floating-point.

    References:
        I. Goodfellow et al., Generative Adversarial Networks, 2014, equation 1.
        <https://arxiv.org/abs/1406.2661>
    """
    discriminator, p, q = checks.floating(discriminator=discriminator, p=p, q=q)
    checks.unit_interval("discriminator", discriminator)
    return _value(
        _masked_log(discriminator),
        _masked_log(1 - discriminator),
        (discriminator, p, q, measure),
    )


def value_of_logits(logits: Any, p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute the value of the game from $D = \sigma(\text{logit})$, without overflow.

    $\log D = -\mathrm{softplus}(-\text{logit})$ and
    $\log (1 - D) = -\mathrm{softplus}(\text{logit})$.

    Args:
        logits: at the points of the support, shape (..., n).
        p: as in `value`.
        q: as in `value`.
        measure: as in `value`.

    Returns:
        The value, shape (...).

    Raises:
        ValueError: if the shapes differ, or a known p or q is no distribution.
        TypeError: if the dtypes differ or are not floating-point.
    """
    logits, p, q = checks.floating(logits=logits, p=p, q=q)
    return _value(
        -jax.nn.softplus(-logits), -jax.nn.softplus(logits), (logits, p, q, measure)
    )


def value_at_optimum(p: Any, q: Any, *, measure: Any = None) -> jax.Array:
    r"""Compute the value of the game at the optimal discriminator.

    $$V(D^*, G) = -\log 4 + 2\, \mathrm{JS}(p, q),$$

    which the generator minimises: $-\log 4$ if and only if q = p.

    Args:
        p: probabilities of the data, shape (..., n); with a `measure`, densities.
        q: those of the generator, same shape and dtype.
        measure: weights of a quadrature, same shape; the counting measure if `None`.

    Returns:
        The value, shape (...).

    Raises:
        ValueError: as `gamedyn.divergences.jensen_shannon`.
        TypeError: as `gamedyn.divergences.jensen_shannon`.

    References:
        I. Goodfellow et al., Generative Adversarial Networks, 2014, theorem 1.
        <https://arxiv.org/abs/1406.2661>
    """
    return 2 * jensen_shannon(p, q, measure=measure) - math.log(4)


def _masked_log(values: jax.Array) -> jax.Array:
    positive = values > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, values, 1)), -jnp.inf)


def _value(log_real: jax.Array, log_fake: jax.Array, given: tuple) -> jax.Array:
    first, p, q, measure = given
    checks.same_shape(discriminator=first, p=p, q=q)
    if measure is not None:
        p, measure = checks.floating(p=p, measure=measure)
        checks.same_shape(p=p, measure=measure)
    checks.probabilities("p", p, measure)
    checks.probabilities("q", q, measure)
    if measure is not None:
        p, q = p * measure, q * measure
    # Where a distribution has no mass the other's certainty costs nothing.
    real = jnp.where(p > 0, p * jnp.where(p > 0, log_real, 0), 0)
    fake = jnp.where(q > 0, q * jnp.where(q > 0, log_fake, 0), 0)
    return jnp.sum(real + fake, axis=-1)
