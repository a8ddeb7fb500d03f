"""Named sets of points in the plane: rings, grids and curves.

"Eight Gaussians" differ from paper to paper. So a set is named by its shape and the
protocol of a paper, and results are comparable only under the same name.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

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
class PlaneMixture:
    r"""An equal mixture of K round Gaussians in the plane: a pytree of arrays.

    $$p = \frac 1K \sum_k N(c_k, \sigma^2 I).$$

    `gamedyn.diffusion.exact.GaussianMixture` has any dimension, weights and
    covariances.

    Attributes:
        centres: the modes c, shape `(modes, 2)`.
        sigma: the standard deviation of each mode, shape `()`.
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
        """Draw points, a pure function of the key; see `sample_with_modes`.

        Args:
            key: a PRNG key.
            number: how many, static.

        Returns:
            Points of shape `(number, 2)`, in the centres' dtype.

        Raises:
            ValueError: if `number` is not a positive integer.
        """
        return sample_with_modes(self, key, number)[0]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("draw",),
    meta_fields=("name", "summary", "source", "points"),
)
@dataclasses.dataclass(frozen=True)
class Curve:
    """Points along a noisy curve in the plane: no modes, no density in closed form.

    Attributes:
        draw: `draw(key, number) -> points`, of shape `(number, 2)`.
        name: the registered name.
        summary: one line in words.
        source: where the numbers come from.
        points: as in `PlaneMixture`.
    """

    draw: Callable[[jax.Array, int], jax.Array]
    name: str = "curve"
    summary: str = ""
    source: str = ""
    points: int | None = None

    def sample(self, key: jax.Array, number: int) -> jax.Array:
        """Draw points, a pure function of the key.

        Args:
            key: a PRNG key.
            number: how many, static.

        Returns:
            Points of shape `(number, 2)`.

        Raises:
            ValueError: if `number` is not a positive integer.
        """
        check_positive_integer("number", number)
        return self.draw(key, number)


Mixture = PlaneMixture  # its earlier name


def mixture(centres: Any, sigma: float, **facts: Any) -> PlaneMixture:
    """Build an equal mixture of round Gaussians in the plane.

    Args:
        centres: the modes, shape `(modes, 2)`.
        sigma: the standard deviation, positive.
        **facts: `name`, `summary`, `source`, `points` of `PlaneMixture`.

    Returns:
        The mixture, in jax's default float dtype.

    Raises:
        ValueError: if `centres` has another shape or `sigma` is not positive.
    """
    check_positive("sigma", sigma)
    array = jnp.asarray(centres, float)
    if array.ndim != 2 or array.shape[1] != 2 or not array.shape[0]:
        raise ValueError(f"centres must have the shape (modes, 2), got {array.shape}")
    return PlaneMixture(array, jnp.asarray(sigma, float), **facts)


def curve(function: Callable[..., jax.Array], *numbers: float, **facts: Any) -> Curve:
    """Build a noisy curve in the plane.

    Args:
        function: `function(*numbers, key, number) -> points` of shape `(number, 2)`, a
            pure function at module level.
        *numbers: parameters of the curve, which become arrays of jax's default float
            dtype.
        **facts: `name`, `summary`, `source`, `points` of `Curve`.

    Returns:
        The curve.
    """
    arrays = [jnp.asarray(number, float) for number in numbers]
    return Curve(Partial(function, *arrays), **facts)


def sample_with_modes(
    mixture: PlaneMixture, key: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Draw points, and return the mode that each comes from.

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


def _squared_distances(mixture: PlaneMixture, points: jax.Array) -> jax.Array:
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"points must have the shape (..., 2), got {points.shape}")
    centres = jnp.reshape(mixture.centres, (1,) * (points.ndim - 1) + (-1, 2))
    return jnp.sum((points[..., None, :] - centres) ** 2, axis=-1)


def log_density(mixture: PlaneMixture, points: jax.Array) -> jax.Array:
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


def assign(mixture: PlaneMixture, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Assign each point to its nearest mode.

    A sample counts as of high quality if the distance is below 3.

    Args:
        mixture: the mixture.
        points: shape `(..., 2)`, of the centres' dtype.

    Returns:
        The modes, shape `(...)`, int32, and the distances to their centres in standard
        deviations, shape `(...)`. A NaN point has distance NaN, so it is never of high
        quality.

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
    """Place centres on a circle around 0, at the angles 2 pi i / modes.

    Args:
        modes: the number of centres.
        radius: of the circle.

    Returns:
        The centres, shape `(modes, 2)`, float64.
    """
    angles = 2 * np.pi * np.arange(modes) / modes
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def grid(side: int, spacing: float) -> np.ndarray:
    """Place centres on a square grid around 0.

    Args:
        side: centres along one side.
        spacing: the distance between neighbours.

    Returns:
        The centres, shape `(side**2, 2)`, float64.
    """
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
    # The root makes the points nearly uniform along the curve: its length is like r^2.
    radii = jnp.sqrt(jax.random.uniform(of_angle, (number,), noise.dtype))
    angles = 2 * jnp.pi * turns * radii
    points = jnp.stack([radii * jnp.cos(angles), radii * jnp.sin(angles)], axis=-1)
    return points + noise * jax.random.normal(of_noise, (number, 2), noise.dtype)


@dataclasses.dataclass(frozen=True)
class PlaneEntry:
    """A registered set of points.

    Attributes:
        build: `build() -> PlaneMixture | Curve`.
        summary: one line in words.
        source: where the numbers come from.
        points: as in `PlaneMixture`.
    """

    build: Callable[[], PlaneMixture | Curve]
    summary: str
    source: str
    points: int | None = None


_REGISTRY: Registry[PlaneEntry] = Registry("plane set", parts=2)


def register(
    name: str,
    build: Callable[[], PlaneMixture | Curve] | None = None,
    *,
    summary: str,
    source: str,
    points: int | None = None,
) -> Any:
    """Register a set of points in the plane.

    Args:
        name: "shape/protocol", such as "ring8/pacgan".
        build: `build() -> PlaneMixture | Curve`; if `None`, a decorator is returned. It
            is called by `make`, so that arrays have the float dtype of that moment.
        summary: one line in words.
        source: where the numbers come from.
        points: the size of the protocol's fixed training set; `None` if fresh points
            are drawn for every batch.

    Returns:
        `build`, or the decorator.

    Raises:
        ValueError: if the name is taken.

    Example:
        >>> @register("pair/mine", summary="two modes", source="a notebook")
        ... def pair():
        ...     return mixture([[-1.0, 0.0], [1.0, 0.0]], 0.1)
        >>> make("pair/mine").summary
        'two modes'
        >>> unregister("pair/mine")
    """
    facts = {"summary": summary, "source": source, "points": points}
    return _REGISTRY.register(name, lambda build: PlaneEntry(build, **facts), build)


def unregister(name: str) -> None:
    """Take a set out of the table again.

    Args:
        name: a name from `names()`.

    Raises:
        ValueError: if the name is unknown.
    """
    _REGISTRY.remove(name)


def names() -> tuple[str, ...]:
    """The names of all registered sets, in order of registration."""
    return _REGISTRY.names()


def entries() -> dict[str, PlaneEntry]:
    """All registered sets by name."""
    return _REGISTRY.entries()


def entry(name: str) -> PlaneEntry:
    """Look up a registered set.

    Args:
        name: a name from `names()`.

    Returns:
        The entry.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.
    """
    return _REGISTRY[name]


def make(name: str) -> PlaneMixture | Curve:
    """Build a registered set.

    Args:
        name: a name from `names()`.

    Returns:
        A `PlaneMixture`, or a `Curve`, which has neither modes nor a density.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.
    """
    chosen = entry(name)
    return dataclasses.replace(
        chosen.build(),
        name=name,
        summary=chosen.summary,
        source=chosen.source,
        points=chosen.points,
    )


_PACGAN = "Lin et al., 2018, PacGAN, arXiv:1712.04086"
_WGANGP = "Gulrajani et al., 2017, arXiv:1704.00028, and its published code"

register(
    "ring8/pacgan",
    partial(mixture, ring(8, 1.0), 0.01),
    summary="eight modes on the unit circle, standard deviation .01",
    source=_PACGAN,
    points=100_000,
)
register(
    "ring8/wgangp",
    partial(mixture, ring(8, 2.0) / 1.414, 0.02 / 1.414),
    summary="eight modes at radius 2, standard deviation .02, all divided by 1.414",
    source=_WGANGP,
)
register(
    "grid25/pacgan",
    partial(mixture, grid(5, 2.0), 0.05),
    summary="25 modes at {-4, -2, 0, 2, 4}^2, standard deviation .05",
    source=_PACGAN,
    points=100_000,
)
register(
    "grid25/wgangp",
    partial(mixture, grid(5, 2.0) / 2.828, 0.05 / 2.828),
    summary="25 modes at {-4, -2, 0, 2, 4}^2, standard deviation .05, all divided by "
    "2.828",
    source=_WGANGP,
)
register(
    "swissroll/wgangp",
    partial(curve, _swiss_roll, 0.25, 7.5),
    summary="t (cos t, sin t), t uniform in [1.5 pi, 4.5 pi], noise .25, all divided "
    "by 7.5",
    source=_WGANGP,
)
register(
    "spiral/archimedean",
    partial(curve, _spiral, 0.02, 1.5),
    summary="r (cos 3 pi r, sin 3 pi r), r the root of a uniform number, noise .02",
    source="this library",
)
