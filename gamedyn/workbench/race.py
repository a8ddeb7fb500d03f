"""Races: one method on one problem, at many step sizes from many starts, in one sweep.

What `compare` and a leaderboard are made of: a method is built with the options that
the problem asks for and runs as many steps as a budget of field evaluations allows; its
natural residual, its distance to the known solutions and, if asked for, another measure
are recorded on the way.

Dimensions, here and in `compare`:

| letter | counts |
|---|---|
| p | step sizes |
| s | seeds: starts, each with its own randomness |
| m | recorded points of a run, the start and the end included |
| d | scalar parameters of all players |
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn import methods
from gamedyn.fields import Field, at_batch, gradient, noisy
from gamedyn.game import Params
from gamedyn.games import Problem
from gamedyn.geometry import entropic, natural_map, per_player, simplex
from gamedyn.methods import MethodEntry
from gamedyn.rules import Rule
from gamedyn.seeds import seed_key
from gamedyn.solve import solve
from gamedyn.sweep import sweep
from gamedyn.workbench.evaluations import count_evaluations
from gamedyn.workbench.mean_field import full_field, num_batches

_MAX_ROWS = {32: 4000, math.inf: 400}  # recorded points at most, by dimension up to
_ROWS_OF_A_MEAN = 100  # where what is recorded is a mean over many batches
_POINTS_UP_TO = 8  # dimensions up to which whole trajectories are kept
_CHUNK = 256  # runs held in memory at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Race:
    """All runs of one method on one problem: step sizes x seeds.

    Attributes:
        entry: the facts of a registered method; `None` for a rule of the caller's own.
        varies: whether the evaluations of a step depend on the dimension.
        num_batches: number of independent batches of a step.
        period: number of steps after which the update map repeats.
        cost: joint field evaluations of a step.
        stochastic: whether batches or noise are drawn.
        evaluations: spent before each recorded point, shape `(m,)`.
        residual: the natural residual of the output, shape `(p, s, m)`.
        distance: its distance to the nearest known solution, shape `(p, s, m)`, or
            `None`.
        measure: the measure asked for, a pytree of arrays `(p, s, m, ...)`, or `None`.
        points: the outputs of the first seed, shape `(p, m, d)`, or `None`.
        ends: the last outputs, shape `(p, s, d)`.
        status: the solver's, shape `(p, s)`.
    """

    entry: MethodEntry | None
    varies: bool
    num_batches: int
    period: int
    cost: int
    stochastic: bool
    evaluations: np.ndarray
    residual: np.ndarray
    distance: np.ndarray | None
    measure: Any
    points: np.ndarray | None
    ends: np.ndarray
    status: np.ndarray

    def only(self, index: int) -> "Race":
        """Give the runs at one step size, with the first axis of length 1."""
        return self._over_steps(lambda leaf: leaf[index : index + 1])

    def beside(self, other: "Race") -> "Race":
        """Put the runs of the same method at further step sizes behind these."""
        return self._over_steps(lambda a, b: np.concatenate([a, b]), other)

    def _over_steps(self, function: Callable[..., Any], *others: "Race") -> "Race":
        names = ("residual", "distance", "measure", "points", "ends", "status")
        parts = ([getattr(race, name) for name in names] for race in (self, *others))
        done = jax.tree.map(function, *parts)
        return dataclasses.replace(self, **dict(zip(names, done, strict=True)))


def race(
    problem: Problem,
    method: str | Rule,
    starts: Params,
    steps: np.ndarray,
    budget: int,
    keys: jax.Array,
    **options: Any,
) -> Race:
    """Run one method at all step sizes from all starts, in one jitted sweep.

    Args:
        problem: the problem.
        method: as in `racer`.
        starts: as in `racer`.
        steps: the step sizes, shape `(p,)`.
        budget: as in `racer`.
        keys: as in `racer`.
        **options: as in `racer`.

    Returns:
        The recorded curves, with the costs they are counted in.

    Raises:
        ValueError: if the name is unknown, or the method is not for this problem.
    """
    return racer(problem, method, starts, budget, keys, **options)(steps)


def racer(
    problem: Problem,
    method: str | Rule,
    starts: Params,
    budget: int,
    keys: jax.Array,
    *,
    sampled: bool = False,
    noise: float = 0.0,
    measure: Callable[[Params, Params], Any] | None = None,
    points: bool = True,
    rows: int | None = None,
    unit: float = 1.0,
) -> Callable[[np.ndarray], Race]:
    r"""Prepare the races of one method, which compile once for all step sizes.

    The natural residual of an output z is $u\,|z - P(z - F(z)/u)|$, F the field on the
    whole problem, P the projection onto the players' domains and u a unit of F.

    Args:
        problem: the problem.
        method: a registered method that is defined on the problem, see `misfit`; or a
            rule, which runs as it is on the gradient field, whatever the step sizes.
        starts: one per seed, stacked along a leading axis of length s.
        budget: joint field evaluations of every run.
        keys: a key for the randomness of each seed, shape `(s,)`.
        sampled: whether the field is evaluated on the problem's minibatches; on all of
            a finite sum otherwise.
        noise: standard deviation of Gaussian noise on every coordinate of the field.
        measure: what else to record, `measure(output, direction)` with the field at the
            output, a pytree.
        points: whether the first seed's outputs are recorded too, up to 8 dimensions.
        rows: the most points to record; if `None` 4000, or 400 above 32 dimensions, or
            100 where the field is a mean over many batches, a prime number of periods
            apart, so that no orbit of few steps is seen in one phase only.
        unit: u, which makes a difference on constrained domains only.

    Returns:
        A function of the step sizes, shape `(p,)`, which returns the race.

    Raises:
        ValueError: if the name is unknown, or the method is not for this problem.
    """
    # The method's shape, and what a step of it costs.
    _, shape = build(method, problem, 1.0)
    seeds = len(jax.tree.leaves(starts)[0])
    size = sum(leaf[0].size for leaf in jax.tree.leaves(starts))
    entry, cost, varies = _costs(method, problem, size)

    # What is measured: the output, by the field on the whole problem.
    stochastic = sampled or noise > 0
    keep_points = points and size <= _POINTS_UP_TO
    sample = problem.sample if sampled else None
    field, batch = full_field(problem)

    # As many steps as the budget allows, recorded every `stride` steps: a multiple of
    # the method's period, so that all rows show the same phase of it.
    num_steps = max(1, budget // cost)
    if rows is None:
        rows = next(most for limit, most in _MAX_ROWS.items() if size <= limit)
        rows = rows if num_batches(field) is None else min(rows, _ROWS_OF_A_MEAN)
        stride = shape.period * _prime(-(-num_steps // (rows * shape.period)))
    else:
        stride = -(-max(1, -(-num_steps // rows)) // shape.period) * shape.period
    num_steps = max(1, num_steps // stride) * stride

    def observe(problem, field, rule, params, state):
        output = rule.output(params, state)
        direction = field(output)
        residual = norm(natural(output, direction, problem.geometry, unit))
        distance = _distance(output, problem.solutions)
        other = None if measure is None else measure(output, direction)
        point = ravel_pytree(output)[0] if keep_points else None
        return residual, distance, other, point

    # The sweep. The problem and its field are arguments: their arrays are not compiled
    # in.
    @jax.jit
    def run(problem, field, batch, sample, grid):
        def one(point):
            step, start, key = point
            descended, rule = build(method, problem, step)
            if not sampled and batch is not None:
                descended = at_batch(descended, batch)
            if noise:
                descended = noisy(descended, noise)
            solution = solve(
                descended,
                rule,
                start,
                num_steps,
                key=key if stochastic else None,
                sample=sample,
                record=lambda params, state, batches, index: observe(
                    problem, field, rule, params, state
                ),
                every=stride,
            )
            last = observe(problem, field, rule, solution.params, solution.rule_state)
            curves = jax.tree.map(
                lambda rows, end: jnp.concatenate([rows, end[None]]),
                solution.trace,
                last,
            )
            output = rule.output(solution.params, solution.rule_state)
            return curves, solution.status, ravel_pytree(output)[0]

        return sweep(one, grid, chunk=_CHUNK)

    dtype = jnp.result_type(*jax.tree.leaves(starts))
    width = 0

    def at(steps: np.ndarray) -> Race:
        # As many runs as ever before: fewer are filled up, so that nothing is compiled
        # a second time.
        nonlocal width
        width = max(width, len(steps))
        filled = np.append(steps, np.repeat(steps[-1:], width - len(steps)))
        grid = (
            jnp.repeat(jnp.asarray(filled, dtype), seeds),
            jax.tree.map(lambda leaf: jnp.concatenate([leaf] * width), starts),
            jnp.concatenate([keys] * width),
        )
        curves, status, ends = run(problem, field, batch, sample, grid)

        # On the host, with one axis for the step sizes and one for the seeds.
        residual, distance, other, path = curves

        def shaped(array):
            array = np.asarray(array)
            return array.reshape(width, seeds, *array.shape[1:])[: len(steps)]

        return Race(
            entry=entry,
            varies=varies,
            num_batches=shape.num_batches,
            period=shape.period,
            cost=cost,
            stochastic=stochastic,
            evaluations=cost * stride * np.arange(num_steps // stride + 1),
            residual=shaped(residual),
            distance=shaped(distance) if problem.solutions else None,
            measure=jax.tree.map(shaped, other),
            points=shaped(path)[:, 0] if keep_points else None,
            ends=shaped(ends),
            status=shaped(status),
        )

    return at


def _prime(least: int) -> int:
    """The first prime number from there on, 7 at least, or 1 itself."""
    if least <= 1:
        return 1
    number = max(least, 7)
    while any(number % factor == 0 for factor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


def _costs(
    method: str | Rule, problem: Problem, size: int
) -> tuple[MethodEntry | None, int, bool]:
    """Registered facts, evaluations per step, and whether these vary with the size."""
    if isinstance(method, Rule):
        return None, count_evaluations(method, problem), False
    entry, zero_sum = methods.entry(method), problem.game.zero_sum
    at = [entry.evaluations(d, zero_sum=zero_sum) for d in (size, 1, 2)]
    return entry, at[0], at[1] != at[2]


def _distance(point: Params, solutions: tuple[Params, ...]) -> jax.Array:
    """The distance to the nearest known solution; NaN where none is known."""
    if not solutions:
        return jnp.full((), jnp.nan, jnp.result_type(*jax.tree.leaves(point)))
    gaps = [norm(jax.tree.map(jnp.subtract, point, solution)) for solution in solutions]
    return jnp.min(jnp.stack(gaps))


def natural(
    params: Params, direction: Params, geometry: Any, unit: float = 1.0
) -> Params:
    r"""Compute $u\,(z - P(z - F(z)/u))$, the natural map of a field in units of u.

    Args:
        params: the point z.
        direction: the field there, F(z).
        geometry: the domains, one for all players or one each.
        unit: u, positive: with that of the field, multiplying all losses by a number
            multiplies the map by it, too.

    Returns:
        A tuple of the structure of `params`; without constraints it is F(z).
    """
    scaled = jax.tree.map(lambda leaf: leaf / jnp.asarray(unit, leaf.dtype), direction)
    gaps = natural_map(params, scaled, geometry)
    geometries = per_player(geometry, len(params), "geometry")
    return tuple(
        slope
        if domain.kind == "euclidean"
        else jax.tree.map(lambda leaf: leaf * jnp.asarray(unit, leaf.dtype), gap)
        for slope, gap, domain in zip(direction, gaps, geometries, strict=True)
    )


def norm(tree: Params) -> jax.Array:
    """The Euclidean norm, without over- and underflow of the squares.

    Diverging runs are followed far out, and losses may be in any unit.
    """
    flat = ravel_pytree(tree)[0]
    limit = float(jnp.finfo(flat.dtype).max)
    top = jnp.max(jnp.abs(flat), initial=0)
    # Not divided by the largest entry: the reciprocal of a huge one is flushed to 0.
    scale = jnp.where(top > limit**0.49, limit**-0.505, 1.0).astype(flat.dtype)
    scale = jnp.where(top < limit**-0.35, limit**0.7, scale).astype(flat.dtype)
    back = jnp.where(top > limit**0.49, limit**0.505, 1.0).astype(flat.dtype)
    back = jnp.where(top < limit**-0.35, limit**-0.7, back).astype(flat.dtype)
    return jnp.linalg.norm(flat * scale) * back


def draw_starts(problem: Problem, seeds: int, seed: int) -> Params:
    """Stack the starts: the problem's own, then random ones."""
    keys = jax.random.split(seed_key(seed), seeds)
    drawn = [problem.init(None)] + [problem.init(key) for key in keys[1:]]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def build(method: str | Rule, problem: Problem, step_size: Any) -> tuple[Field, Rule]:
    """Build field and rule of a method, with the options that a problem asks for.

    Args:
        method: a registered method; or a rule, for the gradient field.
        problem: the problem.
        step_size: the step size, may be traced; of no effect on a rule, which has its
            own.

    Returns:
        The field and the rule.
    """
    if isinstance(method, Rule):
        return gradient(problem.game), method
    options = {}
    if "finite sum" in methods.entry(method).needs:
        options["num_components"] = problem.info.num_components
    geometry = problem.geometry
    return methods.make(method, problem.game, step_size, geometry=geometry, **options)


def misfit(name: str, problem: Problem, num_players: int) -> str | None:
    """Say why a rule, or another method, is not defined on a problem.

    Args:
        name: its name.
        problem: the problem.
        num_players: its number of players.

    Returns:
        The end of a sentence on the rule, or `None` where it is defined.
    """
    entry, reason = methods.entry(name), methods.misfit(name, problem.game)
    geometries = per_player(problem.geometry, num_players, "geometry")
    if "constraints" in entry.needs:
        return "needs inequality constraints, which problems do not state"
    if "zero-sum" in entry.needs and not problem.game.zero_sum:
        return "is for zero-sum games, this one is not"
    if "finite sum" in entry.needs and problem.info.num_components is None:
        return "is for finite sums, this game has no components"
    if reason is not None:
        return reason
    if entry.on_simplex:
        if all(g in (simplex(), entropic) for g in geometries):
            return None
        return "is for simplices: every player needs a probability simplex"
    kinds = {g.kind for g in geometries}
    if not kinds <= set(entry.geometries):
        return f"is not defined on {' and '.join(sorted(kinds))} geometry"
    return None
