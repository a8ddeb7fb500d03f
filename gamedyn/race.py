"""Races: one method on one problem, at many step sizes from many starts, in one sweep.

What `gamedyn compare` and a leaderboard are made of: a method is built with the options
that the problem asks for, runs as many steps as a budget of field evaluations allows,
and its natural residual, its distance to the known solutions and, if asked for, another
measure are recorded on the way.
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
from gamedyn.solve import solve
from gamedyn.sweep import sweep

_MAX_ROWS = {32: 4000, math.inf: 400}  # recorded points, up to so many dimensions
_POINTS_UP_TO = 8  # dimensions up to which whole trajectories are kept
_CHUNK = 256  # runs held in memory at a time


@dataclasses.dataclass(frozen=True)
class Race:
    """All runs of one method on one problem: step sizes x seeds.

    Attributes:
        entry: what is known of the method.
        varies: whether the evaluations of a step depend on the dimension.
        num_batches: independent batches of a step.
        period: the update map is so many steps long.
        cost: joint field evaluations of a step.
        stochastic: whether batches or noise are drawn.
        evaluations: spent before each recorded point, shape `(m,)`.
        residual: the natural residual of the output, shape `(steps, seeds, m)`.
        distance: its distance to the nearest known solution, likewise, or `None`.
        measure: what was asked for, a pytree of arrays of that shape, or `None`.
        points: the outputs of the first seed, shape `(steps, m, d)`, or `None`.
        ends: the last outputs, shape `(steps, seeds, d)`.
        status: the solver's, shape `(steps, seeds)`.
    """

    entry: MethodEntry
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


def race(
    problem: Problem,
    name: str,
    starts: Params,
    steps: np.ndarray,
    budget: int,
    keys: jax.Array,
    *,
    sampled: bool = False,
    noise: float = 0.0,
    measure: Callable[[Params, Params], Any] | None = None,
    points: bool = True,
    rows: int | None = None,
) -> Race:
    """Run one method at all step sizes from all starts, in one jitted sweep.

    Args:
        problem: the problem.
        name: a method that is defined on it, see `misfit`.
        starts: stacked along one leading axis, the seeds.
        steps: the step sizes.
        budget: of joint field evaluations for every run.
        keys: a key for the randomness of each seed.
        sampled: whether the field is evaluated on the problem's minibatches; on all of
            a finite sum otherwise.
        noise: standard deviation of Gaussian noise on every coordinate of the field.
        measure: what else to record, `measure(output, direction)` with the field at the
            output, a pytree.
        points: whether the first seed's outputs are recorded too, up to 8 dimensions.
        rows: how many points to record at most; 4000, or 400 above 32 dimensions, if
            `None`.

    Returns:
        What was recorded.

    Raises:
        ValueError: if the name is unknown, or the method is not for this problem.
    """
    found, zero_sum = methods.entry(name), problem.game.zero_sum
    _, shape = build(name, problem, 1.0)
    seeds = len(jax.tree.leaves(starts)[0])
    size = sum(leaf[0].size for leaf in jax.tree.leaves(starts))
    cost = found.evaluations(size, zero_sum=zero_sum)
    num_steps = max(1, budget // cost)
    if rows is None:
        rows = next(most for limit, most in _MAX_ROWS.items() if size <= limit)
    stride = max(1, -(-num_steps // rows))
    stride = -(-stride // shape.period) * shape.period
    num_steps = max(1, num_steps // stride) * stride
    stochastic = sampled or noise > 0
    keep_points = points and size <= _POINTS_UP_TO
    sample = problem.sample if sampled else None
    field, batch = full_field(problem)

    def observe(problem, field, rule, params, state):
        output = rule.output(params, state)
        direction = field(output)
        residual = norm(natural_map(output, direction, problem.geometry))
        distance = _distance(output, problem.solutions)
        other = None if measure is None else measure(output, direction)
        point = ravel_pytree(output)[0] if keep_points else None
        return residual, distance, other, point

    # The problem and its field are arguments: their arrays are not compiled in.
    @jax.jit
    def run(problem, field, batch, sample, grid):
        def one(point):
            step, start, key = point
            descended, rule = build(name, problem, step)
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
    grid = (
        jnp.repeat(jnp.asarray(steps, dtype), seeds),
        jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(steps)), starts),
        jnp.concatenate([keys] * len(steps)),
    )
    curves, status, ends = run(problem, field, batch, sample, grid)
    residual, distance, other, path = curves

    def shaped(array):
        array = np.asarray(array)
        return array.reshape(len(steps), seeds, *array.shape[1:])

    return Race(
        entry=found,
        varies=found.evaluations(1, zero_sum=zero_sum)
        != found.evaluations(2, zero_sum=zero_sum),
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


def _distance(point: Params, solutions: tuple[Params, ...]) -> jax.Array:
    """The distance to the nearest known solution; NaN where none is known."""
    if not solutions:
        return jnp.full((), jnp.nan, jnp.result_type(*jax.tree.leaves(point)))
    gaps = [norm(jax.tree.map(jnp.subtract, point, solution)) for solution in solutions]
    return jnp.min(jnp.stack(gaps))


def norm(tree: Params) -> jax.Array:
    """The Euclidean norm, free of overflow: runs are followed while they explode."""
    flat = ravel_pytree(tree)[0]
    limit = float(jnp.finfo(flat.dtype).max)
    huge = jnp.max(jnp.abs(flat)) > limit**0.49
    # Not divided by the largest entry: the reciprocal of a huge one is flushed to 0.
    norms = jnp.linalg.norm(flat), jnp.linalg.norm(flat * limit**-0.505) * limit**0.505
    return jnp.where(huge, norms[1], norms[0])


def draw_starts(problem: Problem, seeds: int, seed: int) -> Params:
    """Stack the starts: the problem's own, then random ones."""
    keys = jax.random.split(jax.random.key(seed), seeds)
    drawn = [problem.init(None)] + [problem.init(key) for key in keys[1:]]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def full_field(problem: Problem) -> tuple[Field, Any]:
    """The deterministic field: over all components of a finite sum, or the mean one."""
    field = gradient(problem.game)
    if problem.info.num_components is not None:
        batch = jnp.arange(problem.info.num_components)
    elif problem.sample is not None and not problem.info.has_mean:
        # An endless stream: one fixed batch stands for it in what is measured.
        batch = problem.sample(jax.random.key(0))
    else:
        return field, None
    return at_batch(field, batch), batch


def build(name: str, problem: Problem, step: Any) -> tuple[Field, Rule]:
    """Field and rule of a method, with the options that this problem asks for."""
    options = {}
    if "finite sum" in methods.entry(name).needs:
        options["num_components"] = problem.info.num_components
    return methods.make(name, problem.game, step, geometry=problem.geometry, **options)


def misfit(name: str, problem: Problem, num_players: int) -> str | None:
    """Say why a rule, or another method, is not defined on a problem.

    Args:
        name: its name.
        problem: the problem.
        num_players: its number of players.

    Returns:
        The end of a sentence on the rule, or `None` where it is defined.
    """
    found, reason = methods.entry(name), methods.misfit(name, problem.game)
    geometries = per_player(problem.geometry, num_players, "geometry")
    if "constraints" in found.needs:
        return "needs inequality constraints, which problems do not state"
    if "zero-sum" in found.needs and not problem.game.zero_sum:
        return "is for zero-sum games, this one is not"
    if "finite sum" in found.needs and problem.info.num_components is None:
        return "is for finite sums, this game has no components"
    if reason is not None:
        return reason
    if found.on_simplex:
        if all(g in (simplex(), entropic) for g in geometries):
            return None
        return "is for simplices: every player needs a probability simplex"
    kinds = {g.kind for g in geometries}
    if not kinds <= set(found.geometries):
        return f"is not defined on {' and '.join(sorted(kinds))} geometry"
    return None
