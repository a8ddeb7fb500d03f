"""The laws of data and generator, and what training a discriminator records."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DTYPE = jnp.float32


class Mixture(NamedTuple):
    """A mixture of isotropic Gaussians: weights (k,), means (k, d), deviations (k,)."""

    weights: jax.Array
    means: jax.Array
    deviations: jax.Array


class Pair(NamedTuple):
    """A law of the data, a fixed generator's law, and a quadrature for both."""

    p: Mixture
    q: Mixture
    points: jax.Array
    measure: jax.Array


class Trained(NamedTuple):
    """What training recorded: steps (r,), and per record D, its error, its value."""

    steps: np.ndarray
    probabilities: np.ndarray
    errors: np.ndarray
    values: np.ndarray
    best: np.ndarray
    limit: np.ndarray
    js: np.ndarray


def mixture(weights: Any, means: Any, deviations: Any) -> Mixture:
    """Make a mixture of lists; means on the line are numbers."""
    means = np.asarray(means, np.float64)
    means = means[:, None] if means.ndim == 1 else means
    return Mixture(*(jnp.asarray(x, DTYPE) for x in (weights, means, deviations)))


def log_density(law: Mixture, x: jax.Array) -> jax.Array:
    """Compute a mixture's log density at one point, shape (d,)."""
    squares = jnp.sum((x[None, :] - law.means) ** 2, axis=1) / law.deviations**2
    logs = -squares / 2 - x.size * jnp.log(law.deviations * math.sqrt(2 * math.pi))
    return jax.nn.logsumexp(logs, b=law.weights)


log_densities = jax.jit(jax.vmap(log_density, in_axes=(None, 0)))


def draw(law: Mixture, key: jax.Array, size: int) -> jax.Array:
    """Draw points from a mixture, shape (size, d)."""
    which, noise = jax.random.split(key)
    chosen = jax.random.choice(which, len(law.weights), (size,), p=law.weights)
    normal = jax.random.normal(noise, (size, law.means.shape[1]), DTYPE)
    return law.means[chosen] + law.deviations[chosen][:, None] * normal
