"""The predicted radius of every rule on every smooth game, and the growth that is seen.

A perturbation of the solution, and of the rule's memory there, is followed through
2,000 true updates and brought back to its length after each; the second half counts.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rule_cases
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn.analysis import game_jacobian
from gamedyn.analysis.updates import cycle_jacobian, moving_parts, settled
from gamedyn.geometry import entropic, per_player, simplex

ENTRIES = gd.rules.entries()
LENGTH = 1e-6
STEPS = 2000
RELATIVE_STEP = 0.3  # in units of 1/L
MARGIN = 0.05  # from the borders of a simplex, in units of the uniform share


@functools.cache
def smooth_games():
    """Deterministic games with a solution around which nothing is constrained."""
    found = {}
    for name in gd.games.names():
        problem = gd.games.make(name)
        if problem.sample is None and problem.solutions:
            solution, residual = polished(problem, problem.solutions[0])
            if is_inside(problem, solution) and residual < 1e-9:
                found[name] = problem, solution
    return found


def kinds(problem):
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    on_simplex = [g in (simplex(), entropic) for g in geometries]
    free = [g.kind == "euclidean" for g in geometries]
    return geometries, on_simplex, free


def is_inside(problem, solution):
    _, on_simplex, free = kinds(problem)
    if all(free):
        return True
    flat = [ravel_pytree(own)[0] for own in solution]
    return all(on_simplex) and all(x.min() * x.size > MARGIN for x in flat)


def polished(problem, solution):
    """Newton steps where there are no constraints; the residual that is left."""
    field = gd.fields.gradient(problem.game)
    geometries, _, free = kinds(problem)
    if all(free):
        vector, unravel = ravel_pytree(solution)
        for _ in range(3):
            slope = ravel_pytree(field(unravel(vector)))[0]
            jacobian = np.asarray(game_jacobian(field, unravel(vector)))
            vector = vector - np.linalg.lstsq(jacobian, slope, rcond=1e-10)[0]
        solution = unravel(jnp.asarray(vector))
    residual = gd.geometry.natural_residual(solution, field(solution), geometries)
    return solution, float(residual)


def fits(rule_name, game_name):
    entry = ENTRIES[rule_name]
    problem, _ = smooth_games()[game_name]
    _, on_simplex, free = kinds(problem)
    return (
        entry.num_players in (None, problem.game.num_players)
        and not {"finite sum", "constraints"} & set(entry.needs)
        and ("zero-sum" not in entry.needs or problem.game.zero_sum)
        and (all(on_simplex) if entry.on_simplex else all(free))
    )


PAIRS = [(r, g) for r in gd.rules.names() for g in smooth_games() if fits(r, g)]


def a_tenth():
    """A tenth of the pairs, every rule at least once, every game in turn."""
    chosen = []
    for place, rule_name in enumerate(gd.rules.names()):
        own = [pair for pair in PAIRS if pair[0] == rule_name]
        count = -(-len(own) // 10)
        chosen += [own[(place + 7 * i) % len(own)] for i in range(count)]
    return sorted(set(chosen))


def build(rule_name, problem, step_size):
    return rule_cases.make(
        rule_name, step_size, problem.game.num_players, geometry=problem.geometry
    )


@functools.partial(jax.jit, static_argnums=0)
def observe(rule_name, problem, solution, step_size, direction):
    """The Jacobians that make the prediction, the growth, and a test of the first.

    Returns:
        The Jacobian of a cycle after ten updates and seven cycles later; the logarithm
        of the growth per step; and difference quotients at two lengths, less what the
        Jacobian gives.
    """
    rule = build(rule_name, problem, step_size)
    field = gd.fields.gradient(problem.game)
    batches = (None,) * rule.num_batches

    def settle(state, steps):
        return settled(field, rule, solution, state, batches, steps)

    warmup = -(-10 // rule.period) * rule.period
    state = settle(rule.init(solution), warmup)
    first = cycle_jacobian(field, rule, solution, state, batches)
    later_state = settle(state, 7 * rule.period)
    later = cycle_jacobian(field, rule, solution, later_state, batches)

    def cycle(start, steps):
        if steps == 1:
            return rule.update(field, *start, batches)
        return jax.lax.fori_loop(
            0, steps, lambda _, carry: rule.update(field, *carry, batches), start
        )

    def away(state, change):
        vector, rebuild = moving_parts((solution, state))
        return rebuild(vector + change)

    def follow(start, change, steps):
        """Where a change leads, less where the solution itself leads."""
        there = moving_parts(cycle(away(start, change), steps))[0]
        here = moving_parts(cycle((solution, start), steps))[0]
        return there - here

    def step(carry, _):
        state, change = carry
        moved = follow(state, change, 1)
        size = jnp.linalg.norm(moved)
        kept = LENGTH * moved / jnp.where(size > 0, size, 1)
        state = rule.update(field, solution, state, batches)[1]
        return (state, kept), jnp.log(size / LENGTH)

    size = moving_parts((solution, state))[0].size
    change = jnp.zeros(size).at[: direction.size].set(direction)
    change = LENGTH * change / jnp.linalg.norm(change)
    _, growth = jax.lax.scan(step, (state, change), length=STEPS)
    quotients = [
        jnp.linalg.norm(follow(state, s * change, rule.period) / s - first @ change)
        / LENGTH
        for s in (1.0, 1e-3)
    ]
    half = growth[STEPS // 2 :]
    return first, later, jnp.mean(half), jnp.stack(quotients)


def examine(rule_name, game_name):
    """Predict, measure, and say which of the reasons explains a gap.

    Returns:
        "agrees"; "not autonomous" or "no Jacobian", by the library's own tests of the
        Jacobian; "not differentiable", where difference quotients do not tend to the
        Jacobian however short the perturbation; else "differs", with the numbers.
    """
    problem, solution = smooth_games()[game_name]
    field = gd.fields.gradient(problem.game)
    bound = np.linalg.norm(np.asarray(game_jacobian(field, solution)), 2)
    random = np.random.default_rng(len(rule_name) + 100 * len(game_name))
    direction = random.normal(size=ravel_pytree(solution)[0].size)
    _, on_simplex, _ = kinds(problem)
    if all(on_simplex):
        direction = tangent(solution, direction)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        first, later, growth, quotients = map(
            np.asarray,
            observe(
                rule_name,
                problem,
                solution,
                jnp.float64(RELATIVE_STEP / bound),
                jnp.asarray(direction),
            ),
        )
        period = build(rule_name, problem, 0.1).period
    if not (np.isfinite(first).all() and np.isfinite(later).all()):
        return "no Jacobian"
    if np.abs(later - first).max() > 1e-9 * max(1, np.abs(first).max()):
        return "not autonomous"
    if rule_cases.has_keys(build(rule_name, problem, 0.1).init(solution)):
        return "not autonomous"
    radius = np.abs(np.linalg.eigvals(first)).max() ** (1 / period)
    due = math.log(max(radius, 1e-300))
    if abs(growth - due) <= 0.02 * abs(due) + 2e-3:
        return "agrees"
    if quotients.min() > 1e-3:
        return "not differentiable"
    return f"differs: predicted {radius:.6f}, seen {math.exp(growth):.6f}"


def tangent(solution, direction):
    """Take the mean of every player's part away: stay in the plane of the simplex."""
    parts, first = [], 0
    for own in solution:
        size = ravel_pytree(own)[0].size
        part = direction[first : first + size]
        parts.append(part - part.mean())
        first += size
    return np.concatenate(parts)


EXPLAINED = ("agrees", "not autonomous", "no Jacobian", "not differentiable")


@pytest.mark.parametrize(("rule_name", "game_name"), a_tenth())
def test_growth_is_the_predicted_radius(rule_name, game_name):
    assert examine(rule_name, game_name) in EXPLAINED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule_name", "game_name"), [pair for pair in PAIRS if pair not in a_tenth()]
)
def test_growth_is_the_predicted_radius_everywhere(rule_name, game_name):
    assert examine(rule_name, game_name) in EXPLAINED
