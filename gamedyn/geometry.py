"""Geometries: how a step is applied on a player's domain."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from gamedyn import trees
from gamedyn.checks import (
    check_function,
    check_positive,
    described,
    is_known,
    is_real_scalar,
)
from gamedyn.game import Params, PyTree
from gamedyn.registry import missing as _missing
from gamedyn.trees import norm

if TYPE_CHECKING:  # sequential games alone load it
    from gamedyn.treeplex import Treeplex


class Geometry(NamedTuple):
    """A domain together with the way to step on it.

    Attributes:
        apply: `apply(point, update)` moves one player's point by an update and
            ends inside the domain.
        project: the Euclidean projection onto the domain, used by the natural
            residual (also where steps are not projections).
        kind: "euclidean", "projected" or "entropic"; rules whose theory needs a
            kind check it when they are built.
        domain: the domain in a word, for tables.
        miss: `miss(point)` is how far a point is from the domain, 0 inside: where its
            equations or inequalities fail, the most that any of them does, NaN for NaN;
            `None` where only the projection tells.
        respond: `respond(slope)` minimises <slope, u> over the domain; `None` where
            that is not known, or where there is no least value.
        gap: `gap(point, slope)` is the most that <slope, point - u> can be over the
            domain's points u, exact to rounding where slopes have a common part that
            does not count; `None` where it is measured at the response.
    """

    apply: Callable[[PyTree, PyTree], PyTree]
    project: Callable[[PyTree], PyTree]
    kind: str
    domain: str = "a set"
    miss: Callable[[PyTree], jax.Array] | None = None
    respond: Callable[[PyTree], PyTree] | None = None
    gap: Callable[[PyTree, PyTree], jax.Array] | None = None


def _identity(point: PyTree) -> PyTree:
    return point


euclidean = Geometry(optax.apply_updates, _identity, "euclidean", "unconstrained")
"""No constraint: a step is `z + u`."""


def projected(projection: Callable[[PyTree], PyTree]) -> Geometry:
    r"""Project every step back onto a set: $z^+ = P_C(z + u)$.

    Args:
        projection: the Euclidean projection of one player's parameters onto their
            set C, such as `optax.projections.projection_l2_ball`. The named sets
            of this module (`box`, `simplex`, ...) cover the usual ones.

    Returns:
        The projected geometry.

    Raises:
        TypeError: if `projection` is not a function.
    """
    hint = ": it is a geometry already" if isinstance(projection, Geometry) else ""
    check_function("a projection", projection, "point", hint=hint)
    return _projected(projection)


# This and the named sets are cached: equal arguments give the identical geometry, so
# that a rule or problem built twice does not retrace.


@functools.cache
def _projected(projection: Callable[[PyTree], PyTree]) -> Geometry:
    def apply(point: PyTree, update: PyTree) -> PyTree:
        return projection(optax.apply_updates(point, update))

    return Geometry(apply, projection, "projected")


def _named(
    domain: str, projection: Callable[[PyTree], PyTree], **more: Callable[..., Any]
) -> Geometry:
    return _projected(projection)._replace(domain=domain, **more)


def box(lower: float, upper: float) -> Geometry:
    """Project every coordinate onto `[lower, upper]` (weight clipping).

    Bounds that differ by coordinate are `projected(lambda x: jnp.clip(x, l, u))`.

    Args:
        lower: one number for all coordinates, which may be -inf.
        upper: one number for all coordinates, which may be inf.

    Returns:
        The projected geometry.

    Raises:
        TypeError: if a bound is not one known number.
        ValueError: if `lower` exceeds `upper`.
    """
    hint = "; bounds by coordinate: geometry.projected(lambda x: jnp.clip(x, l, u))"
    lower = _one_number("lower", lower, hint)
    upper = _one_number("upper", upper, hint)
    if not lower <= upper:
        raise ValueError(f"a box needs lower <= upper, got [{lower}, {upper}]")
    return _box(lower, upper)


def _one_number(name: str, value: Any, hint: str = "") -> float:
    """Turn a known real scalar, of any type, into a number that caches can hold.

    Raises:
        TypeError: if it is anything else.
    """
    if not is_real_scalar(value) or not is_known(value):
        got = described(value) if is_known(value) else "a traced value"
        raise TypeError(f"{name} must be one known number, got {got}{hint}")
    return value if isinstance(value, int | float) else float(value)


@functools.cache
def _box(lower: float, upper: float) -> Geometry:
    def respond(slope: PyTree) -> PyTree:
        def corner(s: jax.Array) -> jax.Array:
            return jnp.where(s > 0, *(jnp.asarray(end, s.dtype) for end in ends))

        return jax.tree.map(corner, slope)

    ends = lower, upper
    return _named(
        "box",
        lambda point: jax.tree.map(lambda x: jnp.clip(x, lower, upper), point),
        **({"respond": respond} if np.isfinite(ends).all() else {}),
    )


@functools.cache
def non_negative() -> Geometry:
    """Project every coordinate onto `[0, inf)`."""
    return _named("non-negative", optax.projections.projection_non_negative)


def simplex(scale: float = 1.0) -> Geometry:
    """Project onto the points with non-negative entries that sum to `scale`.

    All leaves of a player's parameters together are one simplex.

    Args:
        scale: the sum, one positive number.

    Returns:
        The projected geometry; equal arguments give the identical one.

    Raises:
        TypeError: if `scale` is not one known number.
        ValueError: if it is not positive.
    """
    return _simplex(_size("scale", scale))


def _size(name: str, value: Any) -> float:
    value = _one_number(name, value)
    check_positive(name, value)
    return value


@functools.cache
def _simplex(scale: float) -> Geometry:
    return _named(
        "simplex",
        lambda point: _project_simplex(point, scale),
        miss=lambda point: _simplex_miss(point, scale),
        respond=lambda slope: _simplex_respond(slope, scale),
        gap=_simplex_gap,
    )


def l1_ball(radius: float = 1.0) -> Geometry:
    """Project onto points whose absolute entries sum to at most `radius` in all.

    Args:
        radius: one positive number.

    Returns:
        The projected geometry; equal arguments give the identical one.

    Raises:
        TypeError: if `radius` is not one known number.
        ValueError: if it is not positive.
    """
    return _l1_ball(_size("radius", radius))


@functools.cache
def _l1_ball(radius: float) -> Geometry:
    def respond(slope: PyTree) -> PyTree:
        values = trees.flatten(slope)
        best = jnp.argmax(jnp.abs(values))
        vertex = jnp.zeros_like(values).at[best].set(-radius * jnp.sign(values[best]))
        return trees.unflatten(vertex, slope)

    return _named(
        "l1 ball", lambda point: _project_l1_ball(point, radius), respond=respond
    )


def l2_ball(radius: float = 1.0) -> Geometry:
    """Project onto points of Euclidean norm at most `radius`, all leaves together.

    Args:
        radius: one positive number.

    Returns:
        The projected geometry; equal arguments give the identical one.

    Raises:
        TypeError: if `radius` is not one known number.
        ValueError: if it is not positive.
    """
    return _l2_ball(_size("radius", radius))


@functools.cache
def _l2_ball(radius: float) -> Geometry:
    def respond(slope: PyTree) -> PyTree:
        values = trees.flatten(slope)
        largest = jnp.max(jnp.abs(values))
        values = values / jnp.where(largest > 0, largest, 1)
        length = jnp.sqrt(jnp.sum(values**2))
        ball = -radius * values / jnp.where(length > 0, length, 1)
        return trees.unflatten(ball, slope)

    return _named(
        "l2 ball",
        lambda point: optax.projections.projection_l2_ball(point, radius),
        respond=respond,
    )


def proximal(
    prox: Callable[[PyTree, Any], PyTree], step_size: float | jax.Array
) -> Geometry:
    r"""Let every step end in the proximal map of a convex function g of the player's.

    $$z^+ = \operatorname{prox}_{\eta g}(z + u), \qquad
      \operatorname{prox}_{\eta g}(v) = \arg\min_w g(w) + \frac{\|w - v\|^2}{2\eta}.$$

    The player then minimises their loss plus g. With the indicator of a set it is the
    projection. Note the square: the minimiser of $g(w) + \|w - v\|/\eta$ is another.

    Args:
        prox: `prox(point, step)`, the proximal map of `step` times g.
        step_size: eta, that of the player's steps.

    Returns:
        A projected geometry whose `project` is the proximal map for a step of one, so
        that the natural residual vanishes exactly at the solutions.

    Raises:
        TypeError: if `prox` is not a function.
        ValueError: if `step_size` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> lasso = gd.geometry.proximal(gd.geometry.soft_threshold, 1.0)
        >>> lasso.apply(jnp.array([3.0, 0.5]), jnp.zeros(2)).tolist()
        [2.0, 0.0]
    """
    check_function("a proximal map", prox, "point", "step")
    check_positive("step_size", step_size)

    def apply(point: PyTree, update: PyTree) -> PyTree:
        return prox(optax.apply_updates(point, update), step_size)

    return Geometry(apply, lambda point: prox(point, 1.0), "projected")


def soft_threshold(point: PyTree, step: float | jax.Array) -> PyTree:
    r"""Compute the proximal map of the l1 norm: shrink every entry by `step`.

    $$\operatorname{prox}_{\eta\|\cdot\|_1}(v)_i = \operatorname{sign}(v_i)
      \max(|v_i| - \eta, 0).$$

    Args:
        point: the point v.
        step: eta, the step size times the weight of the norm.

    Returns:
        The shrunken point.
    """
    return jax.tree.map(
        lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - jnp.asarray(step, x.dtype), 0),
        point,
    )


# Optax's own two lift float32 to float64 where that is enabled, and fail under strict
# dtype promotion.


def _project_simplex(point: PyTree, scale: float = 1.0) -> PyTree:
    values, unravel = ravel_pytree(point)
    values = values - jnp.max(values)  # changes nothing but the rounding
    ranked = jnp.sort(values, descending=True)
    ranks = jnp.arange(1, values.size + 1, dtype=values.dtype)
    thresholds = (jnp.cumsum(ranked) - scale) / ranks
    support = jnp.count_nonzero(ranked > thresholds)
    return unravel(jnp.maximum(values - thresholds[support - 1], 0))


def _project_l1_ball(point: PyTree, radius: float) -> PyTree:
    values, unravel = ravel_pytree(point)
    sizes = jnp.abs(values)
    on_sphere = jnp.sign(values) * _project_simplex(sizes, radius)
    return unravel(jnp.where(jnp.sum(sizes) <= radius, values, on_sphere))


def _entropic_apply(point: PyTree, update: PyTree) -> PyTree:
    logits = jax.tree.map(lambda x, u: jnp.log(x) + u, point, update)
    leaves = jax.tree.leaves(logits)
    largest = functools.reduce(
        jnp.maximum, (jnp.max(leaf, initial=-jnp.inf) for leaf in leaves)
    )
    weights = jax.tree.map(lambda leaf: jnp.exp(leaf - largest), logits)
    # Divided, not subtracted inside the exponential: beside a huge logit, the logarithm
    # of the sum would be lost.
    total = functools.reduce(jnp.add, map(jnp.sum, jax.tree.leaves(weights)))
    return jax.tree.map(lambda leaf: leaf / total, weights)


def _simplex_miss(point: PyTree, scale: float = 1.0) -> jax.Array:
    shares = trees.flatten(point) / scale
    # The minimum of what holds a NaN is NaN, and so is the larger of it and a number.
    return jnp.maximum(jnp.abs(jnp.sum(shares) - 1), -jnp.min(shares, initial=0))


def _simplex_respond(slope: PyTree, scale: float = 1.0) -> PyTree:
    values = trees.flatten(slope)
    vertex = jax.nn.one_hot(jnp.argmin(values), values.size, dtype=values.dtype)
    return trees.unflatten(scale * vertex, slope)


def _simplex_gap(point: PyTree, slope: PyTree) -> jax.Array:
    values = trees.flatten(slope)
    return jnp.sum(trees.flatten(point) * (values - jnp.min(values)))


entropic = Geometry(
    _entropic_apply,
    _project_simplex,
    "entropic",
    "simplex",
    _simplex_miss,
    _simplex_respond,
    _simplex_gap,
)
r"""The unit simplex with entropic steps: $x^+_i \propto x_i e^{u_i}$.

With `u = -step * gradient` this is mirror descent with the negative entropy, the
multiplicative weights update (Nemirovski and Yudin, 1983). The start must be strictly
inside: a coordinate that is zero stays zero.
"""


@functools.cache
def treeplex(tree: "Treeplex") -> Geometry:
    """Project onto the strategies of a sequential game, in sequence form.

    Args:
        tree: the player's decision points.

    Returns:
        The geometry of one array of shape `(tree.num_sequences,)`.
    """
    from gamedyn.treeplex import best_response, gap, miss, project

    return _named(
        "treeplex",
        lambda point: project(tree, point),
        miss=lambda point: miss(tree, point),
        respond=lambda slope: best_response(tree, slope),
        gap=lambda point, slope: gap(tree, point, slope),
    )


@functools.cache
def dilated_entropic(tree: "Treeplex") -> Geometry:
    r"""Take entropic steps at all decision points of a sequential game.

    With `u = -step * gradient` this is mirror descent with the dilated entropy, see
    `treeplex.entropic_step`. The start must be strictly inside.

    Args:
        tree: the player's decision points.

    Returns:
        The geometry of one array of shape `(tree.num_sequences,)`.
    """
    from gamedyn.treeplex import entropic_step

    def apply(point: PyTree, update: PyTree) -> PyTree:
        return entropic_step(tree, point, update)

    return treeplex(tree)._replace(apply=apply, kind="entropic")


def miss(point: PyTree, geometry: Geometry) -> jax.Array:
    """Measure how far a player's point is from their domain.

    Args:
        point: the player's parameters.
        geometry: the domain.

    Returns:
        By how much the point fails the domain's equations and inequalities at most, or
        where these are not known how far an entry is from the projection's, in units of
        1 or the largest entry; 0 inside, NaN for NaN. A scalar.
    """
    if geometry.miss is not None:
        return geometry.miss(point)
    if geometry.kind == "euclidean":
        return jnp.where(jnp.isfinite(_largest(point)), 0.0, jnp.nan)
    moved = jax.tree.map(jnp.subtract, point, geometry.project(point))
    return _largest(moved) / jnp.maximum(1, _largest(point))


def _largest(tree: PyTree) -> jax.Array:
    return jnp.max(jnp.abs(trees.flatten(tree)), initial=0)


def natural_map(
    params: Params, direction: Params, geometry: Geometry | tuple[Geometry, ...]
) -> Params:
    r"""Compute $z - P_C(z - F(z))$, zero exactly at the solutions of the game.

    Args:
        params: the point z, one pytree per player.
        direction: the field at that point, F(z).
        geometry: one for all players, or one each.

    Returns:
        A tuple of the structure of `params`; without constraints it is F(z).
    """
    geometries = per_player(geometry, len(params), "geometry")

    def gap(point: PyTree, slope: PyTree, domain: Geometry) -> PyTree:
        if domain.kind == "euclidean":
            return slope  # exactly z - (z - F), without the cancellation
        moved = domain.project(jax.tree.map(jnp.subtract, point, slope))
        return jax.tree.map(jnp.subtract, point, moved)

    return tuple(map(gap, params, direction, geometries))


def natural_residual(
    params: Params, direction: Params, geometry: Geometry | tuple[Geometry, ...]
) -> jax.Array:
    r"""Measure stationarity on the players' domains.

    $$r(z) = \| z - P_C(z - F(z)) \|,$$

    zero exactly at the solutions of the variational inequality; without constraints
    it is the norm of the field.

    Args:
        params: the point z, one pytree per player.
        direction: the field at that point, F(z).
        geometry: one for all players, or one each.

    Returns:
        The norm over all players together, a scalar.
    """
    return norm(natural_map(params, direction, geometry))


def check_is_geometry(given: Any, expected: str = "expected a Geometry") -> None:
    """Check that something is a `Geometry`.

    Args:
        given: what was given.
        expected: the start of the message.

    Raises:
        TypeError: if it is anything else, such as a function that makes one.
    """
    if isinstance(given, Geometry):
        return
    hint = ""
    if callable(given):
        hint = f": call it, {getattr(given, '__name__', 'simplex')}(...)"
    elif isinstance(given, list):
        hint = ": several are a tuple"
    raise TypeError(
        f"{expected}, as geometry.simplex() makes one, got {described(given)}{hint}"
    )


def per_player(given: Any, num_players: int, what: str) -> tuple[Any, ...]:
    """Spread one thing over all players, or check that there is one each.

    Args:
        given: the thing, or a tuple (not a NamedTuple) of one per player.
        num_players: the number of players, n.
        what: its name, for the error message; what is a "geometry" must be one.

    Returns:
        A tuple of n.

    Raises:
        TypeError: if a geometry is no `Geometry`.
        ValueError: if a tuple of another length than 1 or n was given.
    """
    given = given if type(given) is tuple else (given,)
    if len(given) not in (1, num_players):
        raise ValueError(
            f"expected one {what} for all, or one for each of the {num_players} "
            f"players, got {len(given)}"
        )
    for one in given if what == "geometry" else ():
        check_is_geometry(one)
    return given * num_players if len(given) == 1 else given


if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
