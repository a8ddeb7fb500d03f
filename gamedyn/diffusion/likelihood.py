"""Likelihood: the variational bound, term by term, and the probability-flow ODE."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.diffusion.process import (
    at,
    estimate,
    log_variance,
    posterior,
    q_sample,
)
from gamedyn.diffusion.sampling import Clip, Model, as_clip, check_range
from gamedyn.diffusion.schedules import Schedule
from gamedyn.nets.net import check_choice

DECODERS = ("discretised", "gaussian")
"""The last term of the bound: for 8-bit pictures in [-1, 1], or for real numbers."""


class Bound(NamedTuple):
    """The variational bound on the negative log likelihood, in nats per example.

    Attributes:
        prior: the divergence of q(x_T | x_0) from the standard normal law, shape (B,).
        terms: shape (T, B): the decoder's negative log likelihood at t = 0, divergences
            of the steps after it.
        total: their sum, shape (B,).
        bits_per_dimension: the total over log 2 and the number of dimensions, (B,).
    """

    prior: jax.Array
    terms: jax.Array
    total: jax.Array
    bits_per_dimension: jax.Array


def bound(
    key: jax.Array,
    model: Model,
    x0: jax.Array,
    schedule: Schedule,
    *,
    prediction: str = "eps",
    variance: str = "small",
    decoder: str = "discretised",
    clip: Clip | tuple | None = None,
) -> Bound:
    r"""Estimate the variational bound with one draw of noise per step.

    $$-\log p(x_0) \le \mathrm{KL}(q(x_T | x_0) \| N(0, I)) + \sum_{t \ge 1}
      E\, \mathrm{KL}(q(x_{t-1} | x_t, x_0) \| p(x_{t-1} | x_t)) -
      E \log p(x_0 | x_{t=0}) .$$

    Args:
        key: a PRNG key; step t draws from `fold_in(key, t)`.
        model: `model(x, t)`, t in the schedule's times.
        x0: data, shape (B, ...).
        schedule: the chain; a respaced one is bounded as the model that it is.
        prediction: one of `process.PREDICTIONS`.
        variance: one of `process.VARIANCES`; "learned" splits the last axis.
        decoder: "discretised": bins of width 2/255 on [-1, 1], a probability;
            "gaussian": a density.
        clip: the range to which estimated data are clipped.

    Returns:
        The terms.

    Raises:
        ValueError: if a name is unknown, or the data are outside the decoder's or the
            clipping's range.

    References:
        J. Ho, A. Jain and P. Abbeel, 2020. <https://arxiv.org/abs/2006.11239>
    """
    check_choice("decoder", decoder, DECODERS)
    clip = as_clip(clip)
    x0 = jnp.asarray(x0)
    check_range("x0", x0, clip)
    check_decoder(x0, decoder)
    number, axes = len(schedule.times), tuple(range(1, x0.ndim))
    times = jnp.asarray(schedule.times, x0.dtype)

    def term(index):
        noise = jax.random.normal(jax.random.fold_in(key, index), x0.shape, x0.dtype)
        t = jnp.full(x0.shape[:1], index)
        x = q_sample(schedule, x0, t, noise)
        output = model(x, jnp.full(x0.shape[:1], times[index]))
        return bound_term(
            schedule,
            x0,
            x,
            t,
            output,
            prediction=prediction,
            variance=variance,
            decoder=decoder,
            clip=clip,
        )

    terms = jax.lax.map(term, jnp.arange(number, dtype=jnp.int32))
    last = jnp.full(x0.shape[:1], number - 1)
    a, s = at(schedule.signal, last, x0), at(schedule.noise, last, x0)
    prior = jnp.sum((s**2 + (a * x0) ** 2 - 1) / 2 - jnp.log(s), axis=axes)
    total = prior + jnp.sum(terms, axis=0)
    return Bound(prior, terms, total, bits_per_dimension(total, x0[0].size))


def bound_term(
    schedule: Schedule,
    x0: jax.Array,
    x: jax.Array,
    t: jax.Array,
    output: jax.Array,
    *,
    prediction: str = "eps",
    variance: str = "small",
    decoder: str = "discretised",
    clip: Clip | None = None,
    detach_mean: bool = False,
) -> jax.Array:
    r"""Return one term of the bound per example, in nats.

    $$\tfrac12 \sum \Bigl(-1 + l_2 - l_1 + e^{l_1 - l_2} + (\mu_1 - \mu_2)^2 e^{-l_2}
      \Bigr), \qquad t \ge 1,$$

    1 the true posterior, 2 the model's step, l logarithms of variances; at t = 0 the
    negative log likelihood of the decoder.

    Args:
        schedule: the chain.
        x0: data, shape (B, ...).
        x: $x_t$.
        t: indices, shape (B,).
        output: of the network.
        prediction: one of `process.PREDICTIONS`.
        variance: one of `process.VARIANCES`.
        decoder: one of `DECODERS`.
        clip: the range of the estimated data.
        detach_mean: whether the gradient leaves the mean out, so that only a learned
            variance is trained.

    Returns:
        Shape (B,).
    """
    nu = None
    if variance == "learned":
        output, nu = jnp.split(output, 2, axis=-1)
    a, s = (
        jnp.asarray(table, x.dtype)[t] for table in (schedule.signal, schedule.noise)
    )
    guess = estimate(output, x, a, s, prediction).x0
    if clip is not None:
        guess = clip(guess)
    truth = posterior(schedule, x0, x, t)
    mean = posterior(schedule, guess, x, t).mean
    if detach_mean:
        # By its definition the hybrid loss trains the mean by its first term alone
        # (Nichol and Dhariwal 2021): the library's one use of stop_gradient.
        mean = jax.lax.stop_gradient(mean)
    log_model = log_variance(schedule, t, x, variance, nu)
    log_true = truth.log_variance
    squares = (truth.mean - mean) ** 2 * jnp.exp(-log_model)
    divergence = (log_model - log_true + jnp.exp(log_true - log_model) + squares) / 2
    divergence = divergence - 0.5
    log_model = jnp.broadcast_to(log_model, x.shape)
    if decoder == "gaussian":
        surprise = ((x0 - mean) ** 2 * jnp.exp(-log_model) + log_model) / 2
        surprise = surprise + 0.5 * jnp.asarray(np.log(2 * np.pi), x.dtype)
    else:
        surprise = -discretised_log_likelihood(x0, mean, log_model)
    first = (t == 0).reshape(-1, *(1,) * (x.ndim - 1))
    axes = tuple(range(1, x.ndim))
    return jnp.sum(jnp.where(first, surprise, divergence), axis=axes)


def discretised_log_likelihood(
    x0: jax.Array, mean: jax.Array, log_variance: jax.Array
) -> jax.Array:
    r"""Return the log probability of 8-bit values under a normal law.

    The bins have the width 2/255 around the values -1, ..., 1; the outer ones are open.

    Args:
        x0: data in [-1, 1].
        mean: of the normal law, of the same shape.
        log_variance: its logarithm of variance.

    Returns:
        Of the same shape, in nats.

    References:
        J. Ho, A. Jain and P. Abbeel, 2020, section 3.3.
        <https://arxiv.org/abs/2006.11239>
    """
    inverse = jnp.exp(-log_variance / 2)
    half = 1 / 255
    upper, lower = (x0 + half - mean) * inverse, (x0 - half - mean) * inverse
    upper = jnp.where(x0 > 0.999, jnp.inf, upper)
    lower = jnp.where(x0 < -0.999, -jnp.inf, lower)
    # By symmetry every bin can lie in the lower tail, where differences keep digits.
    flip = upper + lower > 0
    upper, lower = jnp.where(flip, -lower, upper), jnp.where(flip, -upper, lower)
    top = jax.scipy.special.log_ndtr(upper)
    open_below = jnp.isneginf(lower)
    bottom = jax.scipy.special.log_ndtr(jnp.where(open_below, upper - 1, lower))
    inside = top + jnp.log(-jnp.expm1(bottom - top))
    return jnp.where(open_below, top, inside)


def check_decoder(x0: jax.Array, decoder: str) -> None:
    """Raise `ValueError` if known data are outside the discretised decoder's range."""
    if decoder == "discretised":
        try:
            check_range("x0", x0, Clip())
        except ValueError:
            raise ValueError(
                "the discretised decoder knows pictures in [-1, 1]; scale the data, or "
                "choose decoder='gaussian'"
            ) from None


def bits_per_dimension(
    nats: jax.Array, size: int, *, dequantised: bool = False
) -> jax.Array:
    r"""Turn negative log likelihoods in nats into bits per dimension.

    $$\frac{L}{D \log 2}, \qquad \text{dequantised: } + 7,$$

    for densities of 8-bit values on [-1, 1]: 8 bits, less one for the width of 2.

    Args:
        nats: any shape.
        size: the number of dimensions, D.
        dequantised: whether `nats` are of a density of dequantised pictures.

    Returns:
        Of the shape of `nats`.
    """
    bits = nats / jnp.asarray(size * np.log(2), nats.dtype)
    return bits + 7 if dequantised else bits


class FlowLikelihood(NamedTuple):
    """The result of integrating the probability-flow ODE.

    Attributes:
        log_likelihood: log density of the data, shape (B,), nats.
        latent: where the data flow to, shape (B, ...).
    """

    log_likelihood: jax.Array
    latent: jax.Array


def flow_log_likelihood(
    denoise: Model,
    x0: jax.Array,
    *,
    num_steps: int = 100,
    low: Any = 1e-3,
    high: Any = 80.0,
    prior: Callable[[jax.Array], jax.Array] | None = None,
    key: jax.Array | None = None,
    num_probes: int = 1,
    gaussian_probes: bool = False,
) -> FlowLikelihood:
    r"""Integrate the log density along the probability-flow ODE.

    With $u = \log \sigma$ and $x = x_0 + \sigma \epsilon$,

    $$\frac{dx}{du} = -\sigma^2 \nabla \log p_\sigma(x) = x - D(x, \sigma), \qquad
      \log p(x_0) = \log p_{\sigma_{\max}}(x_T) + \int \mathrm{div}\, du,$$

    by the classical Runge-Kutta method, four evaluations per step. The divergence is
    exact without a key: one derivative per dimension, for few dimensions; with one, it
    is Hutchinson's unbiased estimate $v^T (\partial f / \partial x)\, v$, the probes v
    fixed along the path. Exact and with the normal prior, the error is of order
    $|x||\mu| / \sigma_{\max}$, however many steps: the prior ignores means.

    Args:
        denoise: `denoise(x, sigma)`, E[x0 | x], each example's without regard to the
            others: `process.variance_exploding` makes it of a network of a chain.
        x0: data, shape (B, ...).
        num_steps: equal steps in log sigma.
        low: the sigma where the data are taken to be.
        high: the sigma where the prior takes over.
        prior: log density there, `prior(x) -> (B,)`; $N(0, \sigma_{\max}^2 I)$ by
            default.
        key: a PRNG key for probes; `None`: the exact divergence.
        num_probes: how many; the estimate's variance falls with their number.
        gaussian_probes: normal numbers instead of signs.

    Returns:
        The log likelihood and the latent. Other values of `low` and `high` need
        no recompilation.

    Raises:
        ValueError: if a number is not a positive integer.

    References:
        Y. Song et al., 2021. <https://arxiv.org/abs/2011.13456>

        W. Grathwohl et al., FFJORD: Free-form Continuous Dynamics for Scalable
        Reversible Generative Models, 2019. <https://arxiv.org/abs/1810.01367>
    """
    check_positive_integer("num_steps", num_steps)
    check_positive_integer("num_probes", num_probes)
    x0 = jnp.asarray(x0)
    dtype, size = x0.dtype, x0[0].size
    if key is None:
        # All examples at once: example b's derivative does not depend on the others.
        units = jnp.eye(size, dtype=dtype).reshape(size, 1, *x0.shape[1:])
        probes, weight = jnp.broadcast_to(units, (size, *x0.shape)), 1.0
    else:
        shape = (num_probes, *x0.shape)
        draw = jax.random.normal if gaussian_probes else jax.random.rademacher
        probes, weight = draw(key, shape, dtype=dtype), 1 / num_probes

    def drift(x: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        sigma = jnp.full(x.shape[:1], jnp.exp(u))

        def function(x):
            return x - denoise(x, sigma)

        def along(probe):
            moved, turned = jax.jvp(function, (x,), (probe,))
            return moved, jnp.sum((probe * turned).reshape(x.shape[0], -1), axis=1)

        moved, parts = jax.vmap(along, out_axes=(None, 0))(probes)
        return moved, jnp.asarray(weight, dtype) * jnp.sum(parts, axis=0)

    first, last = (jnp.log(jnp.asarray(end, dtype)) for end in (low, high))
    h = (last - first) / num_steps

    def step(carry, index):
        x, log_change = carry
        u = first + h * index
        dx1, dl1 = drift(x, u)
        dx2, dl2 = drift(x + h / 2 * dx1, u + h / 2)
        dx3, dl3 = drift(x + h / 2 * dx2, u + h / 2)
        dx4, dl4 = drift(x + h * dx3, u + h)
        x = x + h / 6 * (dx1 + 2 * dx2 + 2 * dx3 + dx4)
        return (x, log_change + h / 6 * (dl1 + 2 * dl2 + 2 * dl3 + dl4)), None

    start = x0, jnp.zeros(x0.shape[:1], dtype)
    (x, change), _ = jax.lax.scan(step, start, jnp.arange(num_steps, dtype=dtype))
    if prior is None:
        variance = jnp.exp(2 * last)
        constant = size / 2 * jnp.log(2 * jnp.pi * variance)
        squares = jnp.sum((x**2).reshape(x.shape[0], -1), axis=1)
        return FlowLikelihood(change - squares / (2 * variance) - constant, x)
    return FlowLikelihood(change + prior(x), x)
