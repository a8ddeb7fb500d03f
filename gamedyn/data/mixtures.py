"""Points of the plane by named protocol: rings, grids and curves.

"Eight Gaussians" differ from paper to paper, so a set is named by shape and protocol,
and results are comparable within one name only.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.registry import Registry


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("centres", "sigma"),
    meta_fields=("name", "summary", "source", "points"),
)
@dataclasses.dataclass(frozen=True)
class Mixture:
    """Equally likely round normal distributions in the plane: a pytree of arrays.

    Attributes:
        centres: the modes, shape `(modes, 2)`.
        sigma: their standard deviation, a scalar.
        name: the registered name.
        summary: one line in words.
        source: where the numbers come from.
        points: the size of the protocol's fixed training set; `None` if fresh points
            are drawn for every batch.
    """

    centres: jax.Array
    sigma: jax.Array
    name: str = "mixture"
    summary: str = ""
    source: str = ""
    points: int | None = None

    def sample(self, key: jax.Array, number: int) -> jax.Array:
        """Draw points, a pure function of the key; see `sample_with_modes`."""
        return sample_with_modes(self, key, number)[0]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("draw",),
    meta_fields=("name", "summary", "source", "points"),
)
@dataclasses.dataclass(frozen=True)
class Curve:
    """A noisy curve in the plane: no modes, and no density in closed form.

    Attributes:
        draw: `draw(key, number) -> points`, of shape `(number, 2)`.
        name: the registered name.
        summary: one line in words.
        source: where the numbers come from.
        points: as in `Mixture`.
    """

    draw: Callable[[jax.Array, int], jax.Array]
    name: str = "curve"
    summary: str = ""
    source: str = ""
    points: int | None = None

    def sample(self, key: jax.Array, number: int) -> jax.Array:
        """Draw points of shape `(number, 2)`, a pure function of the key."""
        check_positive_integer("number", number)
        return self.draw(key, number)


def mixture(centres: jax.Array | np.ndarray, sigma: float, **facts) -> Mixture:
    """Build a mixture of one's own.

    Args:
        centres: shape `(modes, 2)`.
        sigma: the standard deviation, positive.
        **facts: `name`, `summary`, `source`, `points` of `Mixture`.

    Returns:
        The mixture, in jax's default float dtype.

    Raises:
        ValueError: if `centres` has another shape or `sigma` is not positive.
    """
    check_positive("sigma", sigma)
    array = jnp.asarray(centres, float)
    if array.ndim != 2 or array.shape[1] != 2 or not array.shape[0]:
        raise ValueError(f"centres must have the shape (modes, 2), got {array.shape}")
    return Mixture(array, jnp.asarray(sigma, float), **facts)


def sample_with_modes(
    mixture: Mixture, key: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Draw points together with the modes they come from.

    Args:
        mixture: the mixture.
        key: a key of `jax.random`.
        number: how many, static.

    Returns:
        Points of shape `(number, 2)`, in the centres' dtype, and modes of shape
        `(number,)`, int32.

    Raises:
        ValueError: if `number` is not a positive integer.
    """
    check_positive_integer("number", number)
    of_mode, of_noise = jax.random.split(key)
    centres = mixture.centres
    modes = jax.random.randint(of_mode, (number,), 0, centres.shape[0], jnp.int32)
    noise = jax.random.normal(of_noise, (number, 2), centres.dtype)
    return centres[modes] + mixture.sigma * noise, modes


def _squared_distances(mixture: Mixture, points: jax.Array) -> jax.Array:
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points must have the shape (..., 2), got {points.shape}")
    centres = jnp.reshape(mixture.centres, (1,) * (points.ndim - 1) + (-1, 2))
    return jnp.sum((points[..., None, :] - centres) ** 2, axis=-1)


def log_density(mixture: Mixture, points: jax.Array) -> jax.Array:
    r"""Evaluate the logarithm of the density.

    $$\log p(x) = \log \frac 1K \sum_k \frac 1{2 \pi \sigma^2}
      e^{-\|x - c_k\|^2 / (2 \sigma^2)}.$$

    Args:
        mixture: the mixture.
        points: shape `(..., 2)`, of the centres' dtype.

    Returns:
        Shape `(...)`.

    Raises:
        ValueError: if the last axis of `points` is not 2.
    """
    variance = mixture.sigma**2
    exponents = -_squared_distances(mixture, points) / (2 * variance)
    modes = mixture.centres.shape[0]
    constant = jnp.log(2 * jnp.pi * modes * variance)
    return jax.nn.logsumexp(exponents, axis=-1) - constant


def assign(mixture: Mixture, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Assign each point to its nearest mode.

    A sample counts as high-quality where the distance is below 3.

    Args:
        mixture: the mixture.
        points: shape `(..., 2)`, of the centres' dtype.

    Returns:
        The modes, shape `(...)`, int32, and the distances to their centres in standard
        deviations, shape `(...)`. A point that is not a number has a distance that is
        not one either, so it is never of high quality.

    Raises:
        ValueError: if the last axis of `points` is not 2.

    Example:
        >>> import jax.numpy as jnp
        >>> mode, distance = assign(make("ring8/pacgan"), jnp.array([0.0, 1.02]))
        >>> int(mode), round(float(distance), 2)
        (2, 2.0)
    """
    squares = _squared_distances(mixture, points)
    modes = jnp.argmin(squares, axis=-1).astype(jnp.int32)
    return modes, jnp.sqrt(jnp.min(squares, axis=-1)) / mixture.sigma


def ring(modes: int, radius: float) -> np.ndarray:
    """Place centres at the angles 2 pi i / modes of a circle, shape `(modes, 2)`."""
    angles = 2 * np.pi * np.arange(modes) / modes
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def grid(side: int, spacing: float) -> np.ndarray:
    """Place centres on a square grid around 0, shape `(side**2, 2)`."""
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)


def _swiss_roll(noise, scale, key: jax.Array, number: int) -> jax.Array:
    of_angle, of_noise = jax.random.split(key)
    share = jax.random.uniform(of_angle, (number,), noise.dtype)
    angles = 1.5 * jnp.pi * (1 + 2 * share)
    points = jnp.stack([angles * jnp.cos(angles), angles * jnp.sin(angles)], axis=-1)
    points = points + noise * jax.random.normal(of_noise, (number, 2), noise.dtype)
    return points / scale


def _spiral(noise, turns, key: jax.Array, number: int) -> jax.Array:
    of_angle, of_noise = jax.random.split(key)
    radii = jnp.sqrt(jax.random.uniform(of_angle, (number,), noise.dtype))
    angles = 2 * jnp.pi * turns * radii
    points = jnp.stack([radii * jnp.cos(angles), radii * jnp.sin(angles)], axis=-1)
    return points + noise * jax.random.normal(of_noise, (number, 2), noise.dtype)


REGISTRY: Registry[Callable[[], Mixture | Curve]] = Registry("plane set")

_PACGAN = "Lin et al., 2018, PacGAN, arXiv:1712.04086"
_WGANGP = "Gulrajani et al., 2017, arXiv:1704.00028, and its published code"


def _register_mixture(name, centres, sigma, summary, source, points=None) -> None:
    facts = {"name": name, "summary": summary, "source": source, "points": points}
    REGISTRY.add(name, partial(mixture, centres, sigma, **facts))


def _register_curve(name, function, numbers, summary, source) -> None:
    def build() -> Curve:
        arrays = [jnp.asarray(number, float) for number in numbers]
        return Curve(Partial(function, *arrays), name, summary, source)

    REGISTRY.add(name, build)


_register_mixture(
    "ring8/pacgan",
    ring(8, 1.0),
    0.01,
    "eight modes on the unit circle, standard deviation .01",
    _PACGAN,
    100_000,
)
_register_mixture(
    "ring8/wgangp",
    ring(8, 2.0) / 1.414,
    0.02 / 1.414,
    "eight modes at radius 2, standard deviation .02, all divided by 1.414",
    _WGANGP,
)
_register_mixture(
    "grid25/pacgan",
    grid(5, 2.0),
    0.05,
    "25 modes at {-4, -2, 0, 2, 4}^2, standard deviation .05",
    _PACGAN,
    100_000,
)
_register_mixture(
    "grid25/wgangp",
    grid(5, 2.0) / 2.828,
    0.05 / 2.828,
    "25 modes at {-4, -2, 0, 2, 4}^2, standard deviation .05, all divided by 2.828",
    _WGANGP,
)
_register_curve(
    "swissroll/wgangp",
    _swiss_roll,
    (0.25, 7.5),
    "t (cos t, sin t), t uniform in [1.5 pi, 4.5 pi], noise .25, all divided by 7.5",
    _WGANGP,
)
_register_curve(
    "spiral/archimedean",
    _spiral,
    (0.02, 1.5),
    "r (cos 3 pi r, sin 3 pi r), r the root of a uniform number, noise .02",
    "this library",
)


def names() -> tuple[str, ...]:
    """The names of all registered sets."""
    return REGISTRY.names()


def make(name: str) -> Mixture | Curve:
    """Build a registered set.

    Args:
        name: a name from `names()`.

    Returns:
        A `Mixture`, or a `Curve`, which has neither modes nor a density.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.
    """
    return REGISTRY[name]()
