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

_MAX_ROWS = {32: 4000, math.inf: 400}  # recorded points at most, by dimension up to
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


def race(
    problem: Problem,
    method: str | Rule,
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
    r"""Run one method at all step sizes from all starts, in one jitted sweep.

    The natural residual of an output z is $|z - P(z - F(z))|$, F the field on the whole
    problem and P the projection onto the players' domains.

    Args:
        problem: the problem.
        method: a registered method that is defined on the problem, see `misfit`; or a
            rule, which runs as it is on the gradient field, whatever the step sizes.
        starts: one per seed, stacked along a leading axis of length s.
        steps: the step sizes, shape `(p,)`.
        budget: joint field evaluations of every run.
        keys: a key for the randomness of each seed, shape `(s,)`.
        sampled: whether the field is evaluated on the problem's minibatches; on all of
            a finite sum otherwise.
        noise: standard deviation of Gaussian noise on every coordinate of the field.
        measure: what else to record, `measure(output, direction)` with the field at the
            output, a pytree.
        points: whether the first seed's outputs are recorded too, up to 8 dimensions.
        rows: the most points to record; 4000, or 400 above 32 dimensions, if `None`.

    Returns:
        The recorded curves, with the costs they are counted in.

    Raises:
        ValueError: if the name is unknown, or the method is not for this problem.
    """
    # The method's shape, and what a step of it costs.
    _, shape = build(method, problem, 1.0)
    seeds = len(jax.tree.leaves(starts)[0])
    size = sum(leaf[0].size for leaf in jax.tree.leaves(starts))
    entry, cost, varies = _costs(method, problem, size)

    # As many steps as the budget allows, recorded every `stride` steps: a multiple of
    # the method's period, so that all rows show the same phase of it.
    num_steps = max(1, budget // cost)
    if rows is None:
        rows = next(most for limit, most in _MAX_ROWS.items() if size <= limit)
    stride = max(1, -(-num_steps // rows))
    stride = -(-stride // shape.period) * shape.period
    num_steps = max(1, num_steps // stride) * stride

    # What is measured: the output, by the field on the whole problem.
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
    grid = (
        jnp.repeat(jnp.asarray(steps, dtype), seeds),
        jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(steps)), starts),
        jnp.concatenate([keys] * len(steps)),
    )
    curves, status, ends = run(problem, field, batch, sample, grid)

    # On the host, with one axis for the step sizes and one for the seeds.
    residual, distance, other, path = curves

    def shaped(array):
        array = np.asarray(array)
        return array.reshape(len(steps), seeds, *array.shape[1:])

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


def norm(tree: Params) -> jax.Array:
    """The Euclidean norm, without overflow: diverging runs are followed far out."""
    flat = ravel_pytree(tree)[0]
    limit = float(jnp.finfo(flat.dtype).max)
    huge = jnp.max(jnp.abs(flat)) > limit**0.49
    # Not divided by the largest entry: the reciprocal of a huge one is flushed to 0.
    norms = jnp.linalg.norm(flat), jnp.linalg.norm(flat * limit**-0.505) * limit**0.505
    return jnp.where(huge, norms[1], norms[0])


def draw_starts(problem: Problem, seeds: int, seed: int) -> Params:
    """Stack the starts: the problem's own, then random ones."""
    keys = jax.random.split(seed_key(seed), seeds)
    drawn = [problem.init(None)] + [problem.init(key) for key in keys[1:]]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def full_field(problem: Problem) -> tuple[Field, Any]:
    """The deterministic field of a problem, and the batch it is evaluated at.

    Args:
        problem: the problem.

    Returns:
        The gradient field, and `None`, where the losses need no batch or have a mean;
        the field over all components of a finite sum, and their indices; else the field
        at one fixed batch, which stands for an endless stream in what is measured.
    """
    field = gradient(problem.game)
    if problem.info.num_components is not None:
        batch = jnp.arange(problem.info.num_components)
    elif problem.sample is not None and not problem.info.has_mean:
        batch = problem.sample(jax.random.key(0))
    else:
        return field, None
    return at_batch(field, batch), batch


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
