"""The points that a comparison looks at: scales at the start, solutions at the end."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis import game_jacobian
from gamedyn.fields import Field
from gamedyn.game import Params
from gamedyn.games import Problem
from gamedyn.geometry import Geometry, per_player
from gamedyn.workbench import curves as course
from gamedyn.workbench.curves import Precision
from gamedyn.workbench.race import Race, natural

_WHOLE = ("unconstrained", "box", "non-negative", "l1 ball", "l2 ball")
_BOUNDED = ("box", "simplex", "treeplex", "l1 ball", "l2 ball")
_NEAR = 1e-3  # of the starting residual: a run that ends there has reached something
_LARGE = 2000  # dimensions above which a player's affine hull is not looked for
_NEWTON = 20  # steps at most
_NULL = 1e-8  # singular values below this, relative to the largest, are none


class Scales(NamedTuple):
    """The units of a problem, at its start.

    Attributes:
        lipschitz: L, the spectral norm of the field's Jacobian along the domains.
        unit: that of the field in natural residuals: L, or 1 where a proximal map is in
            place of a projection.
        rounding: the residual below which rounding is all there is.
    """

    lipschitz: float
    unit: float
    rounding: float


class Target(NamedTuple):
    """Where a rule is linearised, and what is known of the place.

    Attributes:
        point: a solution; `None` where there is none.
        nullity: the number of directions along which solutions go on.
        distance: whether distances to the known solutions mean something.
        notes: what there is to say, keys of `NOTES`.
    """

    point: Params | None
    nullity: int = 0
    distance: bool = True
    notes: tuple[str, ...] = ()


class Known(NamedTuple):
    """What is known of a problem's solutions.

    Attributes:
        solutions: the known ones.
        nullity: for each the number of directions along which solutions go on.
        bounded: whether all domains are, so that no run gets lost far away.
    """

    solutions: tuple[Params, ...]
    nullity: tuple[int, ...]
    bounded: bool

    @property
    def continuum(self) -> bool:
        """Whether solutions go on in some direction."""
        return any(self.nullity)


def known_solutions(
    problem: Problem, field: Field, scale: Scales, to: Precision
) -> Known:
    """Look at the known solutions of a problem.

    Args:
        problem: the problem.
        field: the field on the whole problem.
        scale: the problem's scales.
        to: what the dtype can reach.

    Returns:
        What is known of them.
    """
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    nullity = (singular(problem, field, z, scale, to) for z in problem.solutions)
    bounded = all(geometry.domain in _BOUNDED for geometry in geometries)
    return Known(problem.solutions, tuple(nullity), bounded)


def scales(problem: Problem, field: Field, start: Params, to: Precision) -> Scales:
    r"""Measure a problem's Lipschitz constant and rounding at a start.

    $$L = \|T\,DF(z)\,T\|_2,$$

    T the orthogonal projection onto the directions of the domains' affine hull: on
    simplices it takes the constants out of every row and column of a payoff matrix,
    which move nobody.

    Args:
        problem: the problem.
        field: the field on the whole problem.
        start: the point z.
        to: what the dtype can reach.

    Returns:
        The scales. L is never 0: where the Jacobian vanishes it is what moves the start
        by its own size (by 1 where that is 0).

    Raises:
        ValueError: if the field or its Jacobian is not finite there.
    """
    jacobian = np.asarray(game_jacobian(field, start), np.float64)
    slope = np.asarray(ravel_pytree(field(start))[0], np.float64)
    if not np.isfinite(jacobian).all():
        raise ValueError("the game's Jacobian at the start is not finite")
    if not np.isfinite(slope).all():
        raise ValueError("the game's field at the start is not finite")
    point = np.asarray(ravel_pytree(start)[0], np.float64)
    length = _norm(point) or 1.0
    whole, along = _spectral(jacobian), tangent(problem, start)
    bound = whole if along is None else _spectral(along @ jacobian @ along)
    if bound <= 1e3 * to.eps * whole or not bound:
        if along is not None:
            slope = along @ slope
        bound = _norm(slope) / length or 1.0
    steepest = float(np.abs(np.asarray(ravel_pytree(field(start))[0])).max(initial=0))
    largest = whole * float(np.abs(point).max(initial=0))
    rounding = 4 * to.eps * math.sqrt(point.size) * max(steepest, largest)
    unit = bound if _projects(problem, start, to) else 1.0
    return Scales(bound, unit, rounding)


def _projects(problem: Problem, start: Params, to: Precision) -> bool:
    """Whether all domains' maps are projections: once more changes nothing."""
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    for own, geometry in zip(start, geometries, strict=True):
        if geometry.domain != "a set":
            continue
        flat, unravel = ravel_pytree(own)
        random = np.random.default_rng(0).normal(size=flat.size)
        once = geometry.project(unravel(flat + jnp.asarray(3 * random, flat.dtype)))
        twice = ravel_pytree(geometry.project(once))[0] - ravel_pytree(once)[0]
        size = _norm(np.asarray(ravel_pytree(once)[0], np.float64))
        if _norm(np.asarray(twice, np.float64)) > 1e3 * to.eps * size:
            return False
    return True


def tangent(problem: Problem, start: Params) -> np.ndarray | None:
    """Project onto the directions of the domains' affine hull.

    The hull is found by projecting random points onto the domain, so that it is that of
    any projection, a user's own included.

    Args:
        problem: the problem.
        start: a point, of which the structure counts.

    Returns:
        The matrix of the orthogonal projection, shape `(d, d)`; `None` where it is the
        identity.
    """
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    if all(geometry.domain in _WHOLE for geometry in geometries):
        return None
    blocks = [_hull(*pair) for pair in zip(start, geometries, strict=True)]
    sizes = np.cumsum([0, *(len(block) for block in blocks)])
    whole = np.zeros((sizes[-1], sizes[-1]))
    for block, begin, end in zip(blocks, sizes, sizes[1:], strict=False):
        whole[begin:end, begin:end] = block
    return whole


def _hull(point: Params, geometry: Geometry) -> np.ndarray:
    flat, unravel = ravel_pytree(point)
    size = flat.size
    if geometry.domain in _WHOLE or size > _LARGE:
        return np.eye(size)
    random = np.random.default_rng(0).normal(size=(2, size + 1, size))
    spread = np.array([1.0, 100.0])[:, None, None]  # a proximal map may hold its ground
    points = jnp.asarray((spread * random).reshape(-1, size), flat.dtype)
    project = jax.jit(jax.vmap(lambda z: ravel_pytree(geometry.project(unravel(z)))[0]))
    there = np.asarray(project(points), np.float64)
    there = there - there.mean(axis=0)
    _, values, directions = np.linalg.svd(there, full_matrices=False)
    eps = float(jnp.finfo(flat.dtype).eps)
    kept = directions[values > 1e3 * eps * values.max(initial=0)]
    return kept.T @ kept


def singular(
    problem: Problem, field: Field, point: Params, scale: Scales, to: Precision
) -> int:
    """Count the directions along which a solution may go on.

    They are the null directions of the Jacobian of the natural map, on the domains'
    affine hull; without constraints, of that of the field.

    Args:
        problem: the problem.
        field: the field on the whole problem.
        point: a solution.
        scale: the problem's scales.
        to: what the dtype can reach.

    Returns:
        Their number; 0 where the Jacobian is not finite.
    """
    slope = _natural_jacobian(problem, field, scale.unit)
    matrix = np.asarray(slope(ravel_pytree(point)[0]), np.float64)
    if not np.isfinite(matrix).all():
        return 0
    along = tangent(problem, point)
    if along is not None:
        # Off the hull the map is the identity.
        rest = np.eye(len(along)) - along
        matrix = along @ matrix @ along + _spectral(matrix) * rest
    values = np.linalg.svd(matrix, compute_uv=False)
    return int(np.sum(values <= max(_NULL, 1e3 * to.eps) * values.max(initial=0)))


def polish(
    problem: Problem,
    field: Field,
    end: np.ndarray,
    start: Params,
    scale: Scales,
    to: Precision,
) -> Params | None:
    r"""Move the end of a run onto the solution beside it, by Newton's method.

    $$z \leftarrow z - G'(z)^+ G(z), \qquad G(z) = z - P(z - F(z)),$$

    G the natural map, the field itself without constraints, and $^+$ the pseudo-
    inverse, so that a continuum of solutions is met at its nearest point.

    Args:
        problem: the problem.
        field: the field on the whole problem.
        end: where a run ended, flat.
        start: where it started.
        scale: the problem's scales.
        to: what the dtype can reach.

    Returns:
        The solution; `None` if none is found to rounding, or none near the end: nearer
        than a hundredth of the way from the start, and of the size of the end itself.
    """
    flat, unravel = ravel_pytree(start)
    if not np.isfinite(end).all():
        return None
    residual = jax.jit(_natural(problem, field, scale.unit))
    slope = _natural_jacobian(problem, field, scale.unit)
    goal = max(scale.rounding, to.eps * _norm(np.asarray(residual(flat))))
    best, least = None, math.inf
    point = np.asarray(end, np.float64)
    for _ in range(_NEWTON):
        at = jnp.asarray(point, flat.dtype)
        value = np.asarray(residual(at), np.float64)
        size = _norm(value)
        if not np.isfinite(value).all() or size >= least:
            break
        best, least = at, size
        if not size:
            break
        matrix = np.asarray(slope(at), np.float64)
        if not np.isfinite(matrix).all():
            break
        move = np.linalg.pinv(matrix, rcond=max(_NULL, 1e3 * to.eps)) @ value
        point = _feasible(problem, unravel, point - move)
    if best is None or least > goal:
        return None
    moved = _norm(np.asarray(best, np.float64) - np.asarray(end, np.float64))
    way = _norm(np.asarray(end, np.float64) - np.asarray(flat, np.float64))
    rounding = 1e3 * to.eps * _norm(np.asarray(end, np.float64))
    return unravel(best) if moved <= max(0.01 * way, rounding) else None


def nearest(points: Sequence[Params], end: np.ndarray) -> tuple[int, float]:
    """Find the nearest of some points to a flat one, and how near it is."""
    gaps = [
        _norm(np.asarray(ravel_pytree(point)[0], np.float64) - end) for point in points
    ]
    index = int(np.argmin(gaps))
    return index, gaps[index]


def targets(
    problem: Problem,
    field: Field,
    start: Params,
    known: Known,
    races: Sequence[Race],
    scale: Scales,
    to: Precision,
) -> list[Target]:
    """Find for every race, at one step size, where it is to be linearised.

    That is its nearest known solution; where it went elsewhere, or none is known, the
    point that it reached; else one that another reached.

    Args:
        problem: the problem.
        field: the field on the whole problem.
        start: where it starts.
        known: what is known of its solutions.
        races: the runs.
        scale: the problem's scales.
        to: what the dtype can reach.

    Returns:
        One target for each.
    """
    ends = [np.asarray(race.ends[0, 0], np.float64) for race in races]
    own = [
        _own(problem, field, start, race, end, scale, to)
        for race, end in zip(races, ends, strict=True)
    ]
    reached = [point for point in own if point is not None]
    nullity = {
        id(point): singular(problem, field, point, scale, to) for point in reached
    }
    # Solutions go on there, too: then no distance means anything.
    continuum = known.continuum or any(nullity.values())
    notes = ("continuum",) if continuum else ()

    def target(end: np.ndarray, point: Params | None) -> Target:
        if point is not None:
            kind = "elsewhere" if known.solutions else "polished"
            return Target(point, nullity[id(point)], False, (kind, *notes))
        if known.solutions:
            index, _ = nearest(known.solutions, end)
            solution, free = known.solutions[index], known.nullity[index]
            return Target(solution, free, not continuum, notes)
        if reached:
            point = reached[nearest(reached, end)[0]]
            return Target(point, nullity[id(point)], False, ("polished", *notes))
        return Target(None, 0, False, notes)

    return [target(*pair) for pair in zip(ends, own, strict=True)]


def _own(
    problem: Problem,
    field: Field,
    start: Params,
    race: Race,
    end: np.ndarray,
    scale: Scales,
    to: Precision,
) -> Params | None:
    """The solution that a run reached, unless it is a known one."""
    if race.stochastic or race.status.any() or not np.isfinite(end).all():
        return None
    residual = race.residual[0, 0].astype(np.float64)
    if not course.end(residual) <= max(_NEAR * residual[0], scale.rounding):
        return None
    if not problem.solutions:
        return polish(problem, field, end, start, scale, to)
    index, gap = nearest(problem.solutions, end)
    way = _norm(np.asarray(ravel_pytree(start)[0], np.float64) - end)
    if gap <= math.sqrt(to.floor) * max(_norm(end), way):
        return None
    # It may be on its way still, or the solution be known to a few digits only.
    point = polish(problem, field, end, start, scale, to)
    if point is None or nearest([problem.solutions[index]], _flat(point))[1] < gap / 2:
        return None
    solution = _flat(problem.solutions[index])
    exact = polish(problem, field, solution, start, scale, to)
    if exact is not None and nearest([exact], _flat(point))[1] < gap / 2:
        return None
    return point


def _flat(point: Params) -> np.ndarray:
    return np.asarray(ravel_pytree(point)[0], np.float64)


def _feasible(problem: Problem, unravel: Callable, point: np.ndarray) -> np.ndarray:
    params = unravel(jnp.asarray(point))
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    inside = tuple(
        geometry.project(own) for own, geometry in zip(params, geometries, strict=True)
    )
    return np.asarray(ravel_pytree(inside)[0], np.float64)


def _natural(
    problem: Problem, field: Field, unit: float
) -> Callable[[jax.Array], jax.Array]:
    _, unravel = ravel_pytree(problem.init(None))

    def residual(flat: jax.Array) -> jax.Array:
        point = unravel(flat)
        return ravel_pytree(natural(point, field(point), problem.geometry, unit))[0]

    return residual


def _natural_jacobian(problem: Problem, field: Field, unit: float) -> Callable:
    return jax.jit(jax.jacfwd(_natural(problem, field, unit)))


def _spectral(matrix: np.ndarray) -> float:
    """The largest singular value, also where squares over- or underflow."""
    top = float(np.abs(matrix).max(initial=0))
    return top * float(np.linalg.norm(matrix / top, 2)) if top else 0.0


def _norm(vector: np.ndarray) -> float:
    top = float(np.abs(vector).max(initial=0))
    if not top or not np.isfinite(top):
        return top
    return top * float(np.linalg.norm(vector / top))
