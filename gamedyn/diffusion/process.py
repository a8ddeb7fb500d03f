"""The forward process, its posterior, and the kinds of prediction."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_output, is_known
from gamedyn.diffusion.schedules import Schedule
from gamedyn.nets.net import check_choice

PREDICTIONS = ("eps", "x0", "v", "score")
"""What a network may predict: the noise, the data, v = a eps - s x0, or the score."""

VARIANCES = ("small", "large", "learned")
"""Variances of a reverse step: beta-tilde, beta, or between them by the network."""


class Estimate(NamedTuple):
    """Data and noise of a noisy example, estimated from a prediction.

    Attributes:
        x0: the data.
        eps: the noise.
    """

    x0: jax.Array
    eps: jax.Array


class Posterior(NamedTuple):
    """The normal law q(x_{t-1} | x_t, x0).

    Attributes:
        mean: shape (B, ...).
        variance: beta-tilde, zero at t = 0; shape (B, 1, ...), one per example.
        log_variance: its logarithm, at t = 0 that of t = 1.
    """

    mean: jax.Array
    variance: jax.Array
    log_variance: jax.Array


def at(table: Any, t: Any, x: jax.Array) -> jax.Array:
    """Look a table up at every example's step, shaped to multiply `x`.

    Args:
        table: shape (T,).
        t: indices, shape (B,), integers.
        x: examples, shape (B, ...), whose dtype the result has.

    Returns:
        Shape (B, 1, ..., 1).

    Raises:
        ValueError: if `t` has another shape, or known indices are outside the table.
        TypeError: if `t` does not hold integers.
    """
    t = jnp.asarray(t)
    if not jnp.issubdtype(t.dtype, jnp.integer):
        raise TypeError(f"time steps index tables: expected integers, got {t.dtype}")
    if t.shape != x.shape[:1]:
        raise ValueError(
            f"expected one time step per example, shape {x.shape[:1]}, got {t.shape}"
        )
    if is_known(t) and t.size and (t.min() < 0 or t.max() >= len(table)):
        raise ValueError(
            f"time steps must lie in 0 ... {len(table) - 1}, got {t.min()} to {t.max()}"
        )
    return per_example(jnp.asarray(table, x.dtype)[t], x)


def per_example(value: Any, x: jax.Array) -> jax.Array:
    """Shape a scalar, or one number per example, so that it multiplies `x`."""
    value = jnp.asarray(value, x.dtype)
    return value.reshape(value.shape + (1,) * (x.ndim - 1)) if value.ndim else value


def q_sample(schedule: Schedule, x0: jax.Array, t: Any, noise: jax.Array) -> jax.Array:
    r"""Noise data: $x_t = a_t x_0 + s_t \epsilon$.

    Args:
        schedule: the chain.
        x0: data, shape (B, ...).
        t: indices, shape (B,).
        noise: standard normal, of the shape and dtype of `x0`.

    Returns:
        $x_t$, shape (B, ...).

    References:
        J. Ho, A. Jain and P. Abbeel, 2020. <https://arxiv.org/abs/2006.11239>
    """
    return at(schedule.signal, t, x0) * x0 + at(schedule.noise, t, x0) * noise


def posterior(schedule: Schedule, x0: jax.Array, x: jax.Array, t: Any) -> Posterior:
    r"""Return the law of the step before, given the data.

    $$q(x_{t-1} | x_t, x_0) = N\Bigl(
      \frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1 - \bar\alpha_t} x_0 +
      \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t,\
      \tilde\beta_t\Bigr).$$

    Args:
        schedule: the chain; respaced, its own betas count.
        x0: data, or an estimate of them, shape (B, ...).
        x: $x_t$, of the same shape.
        t: indices, shape (B,).

    Returns:
        Mean, variance and its logarithm.
    """
    mean = at(schedule.posterior_x0, t, x) * x0 + at(schedule.posterior_x, t, x) * x
    return Posterior(
        mean,
        at(schedule.posterior_variance, t, x),
        at(schedule.log_small, t, x),
    )


def log_variance(
    schedule: Schedule,
    t: Any,
    x: jax.Array,
    variance: str = "small",
    nu: jax.Array | None = None,
) -> jax.Array:
    r"""Return the logarithm of the variance of a reverse step.

    "small" is $\log \tilde\beta_t$, "large" $\log \beta_t$, and "learned"

    $$\tfrac{1 + \nu}2 \log \beta_t + \tfrac{1 - \nu}2 \log \tilde\beta_t .$$

    Args:
        schedule: the chain.
        t: indices, shape (B,).
        x: examples, for shape and dtype.
        variance: one of `VARIANCES`.
        nu: the second half of the output, of the shape of `x`, about in [-1, 1].

    Returns:
        Shape (B, 1, ...), or that of `x` where it is learned.

    Raises:
        ValueError: if the variance is unknown.

    References:
        A. Nichol and P. Dhariwal, 2021. <https://arxiv.org/abs/2102.09672>
    """
    check_choice("variance", variance, VARIANCES)
    if variance == "small":
        return at(schedule.log_small, t, x)
    if variance == "large":
        return at(schedule.log_large, t, x)
    if nu is None:
        raise ValueError("a learned variance needs nu, the network's second half")
    low, high = at(schedule.log_small, t, x), at(schedule.log_betas, t, x)
    return interpolated(nu, low, high)


def interpolated(nu: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Return log variances between two, at `nu` in [-1, 1]."""
    return (1 + nu) / 2 * high + (1 - nu) / 2 * low


def estimate(
    output: jax.Array, x: jax.Array, signal: Any, noise: Any, prediction: str
) -> Estimate:
    r"""Convert a prediction into estimates of the data and of the noise.

    | prediction | x0 | eps |
    |---|---|---|
    | eps | $(x - s \epsilon)/a$ | $\epsilon$ |
    | x0 | $x_0$ | $(x - a x_0)/s$ |
    | v | $a x - s v$ (for $a^2 + s^2 = 1$) | $s x + a v$ |
    | score | $(x + s^2 g)/a$ | $-s g$ |

    Args:
        output: what the network predicts, of the shape of `x`.
        x: the noisy examples.
        signal: a, a scalar or one per example, shape (B,).
        noise: s, likewise.
        prediction: one of `PREDICTIONS`.

    Returns:
        Estimates of the shape of `x`. Where `a` is not on the unit circle (the
        variance-exploding processes), v is of the process scaled onto it.

    Raises:
        ValueError: if the prediction is unknown, or the shapes differ.
        TypeError: if the dtypes differ.

    References:
        T. Salimans and J. Ho, Progressive Distillation for Fast Sampling of Diffusion
        Models, 2022. <https://arxiv.org/abs/2202.00512>
    """
    check_choice("prediction", prediction, PREDICTIONS)
    check_output("the network", output, x.dtype)
    if output.shape != x.shape:
        raise ValueError(
            f"the network must predict the shape of its input {x.shape}, got "
            f"{output.shape}; twice the channels need learned_variance=True or "
            f"variance='learned'"
        )
    a, s = per_example(signal, x), per_example(noise, x)
    if prediction == "eps":
        return Estimate((x - s * output) / a, output)
    if prediction == "x0":
        return Estimate(output, (x - a * output) / s)
    if prediction == "score":
        return Estimate((x + s**2 * output) / a, -s * output)
    square = a**2 + s**2
    root = jnp.sqrt(square)
    return Estimate(
        (a * x / root - s * output) / root, (s * x / root + a * output) / root
    )


def convert(
    output: jax.Array,
    x: jax.Array,
    signal: Any,
    noise: Any,
    source: str,
    target: str,
) -> jax.Array:
    """Convert one kind of prediction into another, by the table of `estimate`.

    Args:
        output: a prediction of the kind `source`.
        x: the noisy examples.
        signal: a, a scalar or one per example.
        noise: s, likewise.
        source: one of `PREDICTIONS`.
        target: one of `PREDICTIONS`.

    Returns:
        The prediction of the kind `target`.

    Raises:
        ValueError: if a kind is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> x, eps = jnp.array([1.0]), jnp.array([0.5])
        >>> float(convert(eps, x, 0.6, 0.8, "eps", "x0")[0])  # (1 - .8 .5) / .6
        1.0
    """
    check_choice("target", target, PREDICTIONS)
    x0, eps = estimate(output, x, signal, noise, source)
    a, s = per_example(signal, x), per_example(noise, x)
    if target == "eps":
        return eps
    if target == "x0":
        return x0
    if target == "score":
        return -eps / s
    return (a * eps - s * x0) / jnp.sqrt(a**2 + s**2)


def variance_exploding(model: Any, schedule: Schedule, prediction: str) -> Any:
    r"""Convert a network of a discrete chain into a denoiser for EDM's samplers.

    $$D(x, \sigma) = x - \sigma\, \epsilon\bigl(x / \sqrt{1 + \sigma^2},\
      t(\sigma)\bigr), \qquad \sigma_t = s_t / a_t,$$

    with t interpolated linearly in $\log \sigma$ between the chain's steps.

    Args:
        model: `model(x, t)`, which predicts about the chain.
        schedule: the chain; without a step of zero signal.
        prediction: one of `PREDICTIONS`.

    Returns:
        `denoise(x, sigma) -> x0`, sigma of shape (B,): a prediction "x0" of the process
        x = x0 + sigma eps.
    """
    check_choice("prediction", prediction, PREDICTIONS)
    log_sigmas = jnp.log(jnp.asarray(schedule.noise)) - jnp.log(
        jnp.asarray(schedule.signal)
    )
    times = jnp.asarray(schedule.times)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        dtype = x.dtype
        t = jnp.interp(jnp.log(sigma), log_sigmas.astype(dtype), times.astype(dtype))
        a = 1 / jnp.sqrt(1 + sigma**2)
        inside = per_example(a, x) * x
        return estimate(model(inside, t), inside, a, sigma * a, prediction).x0

    return denoise
