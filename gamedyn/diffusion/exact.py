"""Optimal denoisers of Gaussian mixtures in closed form, and samplers under them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.diffusion.process import PREDICTIONS, per_example
from gamedyn.diffusion.rows import Sampler
from gamedyn.diffusion.schedules import Schedule
from gamedyn.nets.net import check_choice


class GaussianMixture(NamedTuple):
    """A mixture of K Gaussians in d dimensions; one component is a Gaussian.

    Attributes:
        weights: shape (K,).
        means: shape (K, d).
        variances: of each component along its own axes, shape (K, d).
        rotations: these axes, orthonormal columns, shape (K, d, d); `None`: those of
            the coordinates.
    """

    weights: Any
    means: Any
    variances: Any
    rotations: Any = None


Mixture = GaussianMixture  # its earlier name


def mixture(means: Any, deviations: Any, weights: Any = None) -> GaussianMixture:
    r"""Make $p(x) = \sum_k w_k N(x; \mu_k, \Sigma_k)$.

    Args:
        means: shape (K, d).
        deviations: a standard deviation for all; one per component, shape (K,); or the
            covariance matrices, shape (K, d, d).
        weights: shape (K,), positive; normalised here; equal by default.

    Returns:
        The mixture, in float64.

    Raises:
        ValueError: if a shape is another, or a variance or weight not positive.
    """
    means = np.asarray(means, np.float64)
    if means.ndim != 2 or not means.size:
        raise ValueError(f"means must have the shape (K, d), got {means.shape}")
    number, size = means.shape
    widths = np.asarray(deviations, np.float64)
    rotations = None
    if widths.ndim == 3:
        if widths.shape != (number, size, size):
            raise ValueError(
                f"expected covariances of shape {(number, size, size)}, got "
                f"{widths.shape}"
            )
        if not np.allclose(widths, widths.swapaxes(1, 2)):
            raise ValueError("covariances must be symmetric")
        variances, rotations = np.linalg.eigh(widths)
    elif widths.shape in ((), (number,)):
        if not np.all(widths > 0):
            raise ValueError(f"deviations must be positive, got {widths}")
        variances = np.broadcast_to(widths.reshape(-1, 1) ** 2, means.shape)
    else:
        raise ValueError(
            f"deviations must be a number or have the shape ({number},) or "
            f"{(number, size, size)}, got {widths.shape}"
        )
    if not np.all(variances > 0):
        raise ValueError(f"variances must be positive, got {variances.min()}")
    shares = np.ones(number) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (number,) or not np.all(shares > 0):
        raise ValueError(f"expected {number} positive weights, got {shares}")
    return GaussianMixture(shares / shares.sum(), means, np.array(variances), rotations)


def draw(
    law: GaussianMixture, key: jax.Array, number: int, dtype: Any = jnp.float32
) -> Any:
    """Draw points of a mixture, shape (number, d)."""
    of_mode, of_noise = jax.random.split(key)
    law = _cast(law, dtype)
    modes = jax.random.categorical(of_mode, jnp.log(law.weights), shape=(number,))
    z = jax.random.normal(of_noise, (number, law.means.shape[1]), dtype)
    z = jnp.sqrt(law.variances[modes]) * z
    if law.rotations is not None:
        z = jnp.einsum("nde,ne->nd", law.rotations[modes], z)
    return law.means[modes] + z


def log_density(
    law: GaussianMixture, x: jax.Array, signal: Any = 1.0, noise: Any = 0.0
) -> jax.Array:
    r"""Return the log density of the mixture, or of its noised marginal.

    $$\log \sum_k w_k N(x; a \mu_k, a^2 \Sigma_k + s^2 I) .$$

    Args:
        law: the mixture.
        x: points, shape (B, d), whose dtype is computed in.
        signal: a, a scalar or one per point.
        noise: s, likewise.

    Returns:
        Shape (B,), in nats.
    """
    logs, _, _ = _components(law, x, signal, noise)
    constant = x.shape[-1] / 2 * np.log(2 * np.pi)
    return jax.nn.logsumexp(logs, axis=-1) - jnp.asarray(constant, x.dtype)


def denoise(law: GaussianMixture, x: jax.Array, signal: Any, noise: Any) -> jax.Array:
    r"""Return the best estimate of the data, $E[x_0 | x]$ for $x = a x_0 + s \epsilon$.

    $$\sum_k r_k \bigl(\mu_k + a \Sigma_k (a^2 \Sigma_k + s^2 I)^{-1} (x - a \mu_k)
      \bigr), \qquad r_k \propto w_k N(x; a \mu_k, a^2 \Sigma_k + s^2 I).$$

    Args:
        law: the mixture.
        x: points, shape (B, d).
        signal: a, a scalar or one per point.
        noise: s, likewise.

    Returns:
        Shape (B, d).
    """
    a = _wide(signal, x)

    def pull(law, scaled):
        return law.means[None] + _turned(law, a * law.variances[None] * scaled)

    return _averaged(law, x, signal, noise, pull)


def score(law: GaussianMixture, x: jax.Array, signal: Any, noise: Any) -> jax.Array:
    r"""Return the gradient of the noised log density.

    $$\nabla \log p(x) = - \sum_k r_k (a^2 \Sigma_k + s^2 I)^{-1} (x - a \mu_k)
      = -\epsilon^* / s .$$

    Args:
        law: the mixture.
        x: points, shape (B, d).
        signal: a, a scalar or one per point.
        noise: s, likewise; zero is allowed.

    Returns:
        Shape (B, d).
    """

    def pull(law, scaled):
        return -_turned(law, scaled)

    return _averaged(law, x, signal, noise, pull)


def predict(
    law: GaussianMixture, x: jax.Array, signal: Any, noise: Any, prediction: str = "eps"
) -> jax.Array:
    """Return the optimal prediction of any kind, at any noise level.

    Args:
        law: the mixture.
        x: points, shape (B, d).
        signal: a, a scalar or one per point.
        noise: s, likewise.
        prediction: one of `process.PREDICTIONS`.

    Returns:
        Shape (B, d).

    Raises:
        ValueError: if the prediction is unknown.
    """
    check_choice("prediction", prediction, PREDICTIONS)
    if prediction == "x0":
        return denoise(law, x, signal, noise)
    if prediction == "score":
        return score(law, x, signal, noise)
    a, s = per_example(signal, x), per_example(noise, x)
    eps = -s * score(law, x, signal, noise)
    if prediction == "eps":
        return eps
    x0 = denoise(law, x, signal, noise)
    return (a * eps - s * x0) / jnp.sqrt(a**2 + s**2)


def model(
    law: GaussianMixture, schedule: Schedule | None = None, prediction: str = "eps"
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Make the perfectly trained network.

    Args:
        law: the data.
        schedule: the chain it was trained on, the original one where samplers use a
            respaced one; `None`: the process x = x0 + sigma eps, with sigma as time.
        prediction: what it predicts.

    Returns:
        `model(x, t)`, t of shape (B,): steps of the chain (rounded), or sigma.

    Raises:
        ValueError: if the prediction is unknown.
    """
    check_choice("prediction", prediction, PREDICTIONS)
    if schedule is None:
        return lambda x, sigma: predict(law, x, jnp.ones_like(sigma), sigma, prediction)

    def network(x: jax.Array, t: jax.Array) -> jax.Array:
        index = jnp.round(t).astype(jnp.int32)
        signal = jnp.asarray(schedule.signal, x.dtype)[index]
        noise = jnp.asarray(schedule.noise, x.dtype)[index]
        return predict(law, x, signal, noise, prediction)

    return network


class Affine(NamedTuple):
    """The effect of a sampler on a number: x -> gain x + offset, plus noise.

    Attributes:
        gain: factor of the start.
        offset: the rest of the mean.
        variance: of the fresh noise at the end.
    """

    gain: float
    offset: float
    variance: float

    def moments(self, mean: float, deviation: float) -> tuple[float, float]:
        """Return mean and standard deviation of the outcome, from those of the start.

        Args:
            mean: of the start.
            deviation: of the start.

        Returns:
            Mean and standard deviation.
        """
        variance = self.gain**2 * deviation**2 + self.variance
        return self.gain * mean + self.offset, float(np.sqrt(variance))


def affine_map(sampler: Sampler, mean: float, deviation: float) -> Affine:
    r"""Follow an affine sampler with the exact network of $N(m, \sigma_d^2)$.

    There $\hat\epsilon = s (x - a m) / (a^2 \sigma_d^2 + s^2)$ is affine, so the law of
    a normal start stays normal: mean and covariance of (x and what is remembered of the
    row before) follow by recursion, without sampling. Independent directions of a
    Gaussian in more dimensions follow it one by one.

    Args:
        sampler: with the smaller of its variances, if the network is to choose one.
        mean: m.
        deviation: $\sigma_d$.

    Returns:
        Gain, offset and added variance, in float64.

    Raises:
        ValueError: if the sampler is not affine (a Langevin corrector), or its variance
            is learned.

    Example:
        >>> from gamedyn.diffusion import samplers, schedules
        >>> ddpm = samplers.ddpm(schedules.linear(1000))
        >>> mean, deviation = affine_map(ddpm, 1.0, 0.5).moments(0.0, 1.0)
        >>> print(f"{mean:.4f} {deviation:.4f}")
        1.0000 0.4961
    """
    rows = sampler.rows
    if rows.langevin is not None or rows.log_range is not None:
        raise ValueError(
            "expected an affine sampler: no Langevin corrections, no learned variance"
        )
    # The state is (x, kept x, kept x0, kept eps); gain and offset are vectors.
    gain, offset, spread = np.array([1.0, 0, 0, 0]), np.zeros(4), np.zeros((4, 4))
    for index in range(sampler.num_evaluations):
        row = jax.tree.map(lambda leaf, index=index: float(leaf[index]), rows)
        if row.lift is not None:
            lift = np.diag([row.lift, 1, 1, 1])
            gain, offset, spread = lift @ gain, lift @ offset, lift @ spread @ lift
            spread[0, 0] += row.spread**2
        a, s = row.signal, row.noise
        pull = 1 / (a**2 * deviation**2 + s**2)
        eps = np.array([s * pull, -s * pull * a * mean])
        x0 = a * deviation**2 * pull
        x0 = np.array([x0, mean - x0 * a * mean])
        one = np.array([1.0, 0.0])
        now = row.now.x * one + row.now.x0 * x0 + row.now.eps * eps
        before = np.zeros(3) if row.kept is None else np.array(row.kept)
        matrix = np.zeros((4, 4))
        matrix[0] = now[0], *before
        matrix[1:, 0] = one[0], x0[0], eps[0]
        shift = np.array([now[1], 0.0, x0[1], eps[1]])
        gain, offset = matrix @ gain, matrix @ offset + shift
        spread = matrix @ spread @ matrix.T
        spread[0, 0] += 0.0 if row.deviation is None else row.deviation**2
    return Affine(float(gain[0]), float(offset[0]), float(spread[0, 0]))


def flow(
    mean: float, deviation: float, signal: float, noise: float
) -> tuple[float, float]:
    r"""Return gain and offset of the probability-flow ODE from a level to the data.

    $$x_0 = m + \frac{\sigma_d}{\sqrt{a^2 \sigma_d^2 + s^2}} (x - a m),$$

    where every deterministic sampler of $N(m, \sigma_d^2)$ goes with many steps.

    Args:
        mean: m.
        deviation: $\sigma_d$.
        signal: a of the start.
        noise: s of the start.

    Returns:
        Gain and offset.
    """
    gain = deviation / float(np.sqrt(signal**2 * deviation**2 + noise**2))
    return gain, mean * (1 - gain * signal)


def noise_floor(schedule: Schedule, deviation: float) -> np.ndarray:
    r"""Return the least mean squared error of eps at every step, for a Gaussian.

    $$\frac{\bar\alpha \sigma_d^2}{\bar\alpha \sigma_d^2 + 1 - \bar\alpha} .$$

    Args:
        schedule: the chain.
        deviation: of the data.

    Returns:
        Shape (T,).
    """
    kept = np.asarray(schedule.signal) ** 2 * deviation**2
    return kept / (kept + np.asarray(schedule.noise) ** 2)


class GaussianBound(NamedTuple):
    """The terms of the variational bound of a Gaussian under the exact network, nats.

    Attributes:
        prior: the divergence of the last marginal from the standard normal law.
        steps: the divergences of the steps t = 1, ..., T-1, shape (T-1,).
        decoder: the expected negative log likelihood of the last step.
        entropy: of the data, which no total is below.
    """

    prior: float
    steps: np.ndarray
    decoder: float
    entropy: float

    @property
    def total(self) -> float:
        """The bound on the expected negative log likelihood."""
        return self.prior + float(self.steps.sum()) + self.decoder


def gaussian_bound(
    schedule: Schedule,
    mean: float,
    deviation: float,
    variance: str = "small",
    decoder_variance: float | None = None,
) -> GaussianBound:
    r"""Return the variational bound of $N(m, \sigma_d^2)$ in closed form.

    $$L_t = \tfrac12 \Bigl(\ln \frac{\sigma_t^2}{\tilde\beta_t} + \frac{\tilde\beta_t +
      k_t^2 \mathrm{Var}[x_0 | x_t]}{\sigma_t^2} - 1\Bigr), \qquad
      \mathrm{Var}[x_0 | x_t] = \frac1{\sigma_d^{-2} + \mathrm{SNR}_t},$$

    with k the factor of $x_0$ in the posterior mean.

    Args:
        schedule: the chain.
        mean: m.
        deviation: $\sigma_d$.
        variance: "small" or "large".
        decoder_variance: of the last step; by default $\tilde\beta_1$. The optimal one
            is $\mathrm{Var}[x_0 | x_{t=0}]$.

    Returns:
        The terms.

    Raises:
        ValueError: if the variance is another.
    """
    check_choice("variance", variance, ("small", "large"))
    left = 1 / (deviation**-2 + np.asarray(schedule.snr))
    log_model = schedule.log_small if variance == "small" else schedule.log_large
    log_true, log_model = np.asarray(schedule.log_small)[1:], np.asarray(log_model)[1:]
    pulled = np.asarray(schedule.posterior_x0)[1:] ** 2 * left[1:]
    ratio = (np.exp(log_true) + pulled) / np.exp(log_model)
    steps = 0.5 * (log_model - log_true + ratio - 1)
    a, s = float(schedule.signal[-1]), float(schedule.noise[-1])
    prior = 0.5 * (s**2 + a**2 * (mean**2 + deviation**2) - 1 - np.log(s**2))
    if decoder_variance is None:
        decoder_variance = float(np.exp(schedule.log_small[0]))
    decoder = 0.5 * (np.log(2 * np.pi * decoder_variance) + left[0] / decoder_variance)
    entropy = 0.5 * np.log(2 * np.pi * np.e * deviation**2)
    return GaussianBound(float(prior), steps, float(decoder), float(entropy))


def _cast(law: GaussianMixture, dtype: Any) -> GaussianMixture:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), law)


def _wide(value: Any, x: jax.Array) -> jax.Array:
    """Shape a level so that it multiplies (B, K, d)."""
    value = jnp.asarray(value, x.dtype)
    return value.reshape(-1, 1, 1)


def _components(law: GaussianMixture, x: jax.Array, signal: Any, noise: Any) -> Any:
    """Return log of weight times density (but for the constant), and the residuals.

    The residuals, (x - a mu) in the axes of each component over its variance there,
    have the shape (B, K, d).
    """
    if x.ndim != 2 or x.shape[1] != law.means.shape[1]:
        raise ValueError(
            f"expected points of shape (B, {law.means.shape[1]}), got {x.shape}"
        )
    law = _cast(law, x.dtype)
    a, s = _wide(signal, x), _wide(noise, x)
    residual = x[:, None, :] - a * law.means[None]
    if law.rotations is not None:
        residual = jnp.einsum("bkd,kde->bke", residual, law.rotations)
    total = a**2 * law.variances[None] + s**2
    scaled = residual / total
    exponent = jnp.sum(residual * scaled + jnp.log(total), axis=-1)
    return jnp.log(law.weights)[None] - exponent / 2, scaled, law


def _turned(law: GaussianMixture, along: jax.Array) -> jax.Array:
    """Turn vectors from the axes of each component to those of the coordinates."""
    if law.rotations is None:
        return along
    return jnp.einsum("bke,kde->bkd", along, law.rotations)


def _averaged(
    law: GaussianMixture, x: Any, signal: Any, noise: Any, pull: Any
) -> jax.Array:
    """Average a vector of each component by their responsibilities."""
    logs, scaled, law = _components(law, x, signal, noise)
    shares = jax.nn.softmax(logs, axis=-1)
    return jnp.sum(shares[:, :, None] * pull(law, scaled), axis=1)
