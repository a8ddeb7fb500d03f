"""The predicted radius of every rule on every smooth game, and the growth that is seen.

A run that starts beside the solution is followed through 2,000 true updates; after each
of them its distance, that of the rule's memory included, is brought back to what it
was. The second half counts.
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
# Nearly all of the time is compilation.
COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def geometry_of(problem):
    """Whether all players are free, and whether all live on a simplex."""
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    free = all(g.kind == "euclidean" for g in geometries)
    return free, all(g in (simplex(), entropic) for g in geometries)


@functools.cache
def smooth_games():
    """Deterministic games with a solution around which nothing is constrained."""
    found = {}
    for name, entry in gd.games.entries().items():
        if entry.finite_sum or entry.files or entry.solution == "none":
            continue
        problem = gd.games.make(name)
        if problem.sample is not None or not problem.solutions:
            continue
        free, on_simplex = geometry_of(problem)
        shares = [ravel_pytree(own)[0] for own in problem.solutions[0]]
        inside = on_simplex and all(x.min() * x.size > MARGIN for x in shares)
        if free or inside:
            found[name] = problem
    return found


@functools.cache
def solution_of(game_name):
    """The solution, by Newton steps where it is free, and the norm of the Jacobian."""
    problem = smooth_games()[game_name]
    solution, field = problem.solutions[0], gd.fields.gradient(problem.game)
    vector, unravel = ravel_pytree(solution)
    jacobian = np.asarray(game_jacobian(field, solution))
    if geometry_of(problem)[0]:
        slope = ravel_pytree(field(solution))[0]
        vector = vector - np.linalg.lstsq(jacobian, slope, rcond=1e-10)[0]
        solution = unravel(jnp.asarray(vector))
    gap = gd.geometry.natural_residual(solution, field(solution), problem.geometry)
    assert gap < 1e-9
    return solution, float(np.linalg.norm(jacobian, 2))


def fits(rule_name, game_name):
    entry, problem = ENTRIES[rule_name], smooth_games()[game_name]
    free, on_simplex = geometry_of(problem)
    return (
        entry.num_players in (None, problem.game.num_players)
        and not {"finite sum", "constraints"} & set(entry.needs)
        and ("zero-sum" not in entry.needs or problem.game.zero_sum)
        and (on_simplex if entry.on_simplex else free)
    )


def families(rule_name):
    """The games that fit a rule, those of equal shapes together."""
    found = {}
    for name, problem in smooth_games().items():
        if fits(rule_name, name):
            shapes = jax.tree.map(jnp.shape, problem.solutions[0])
            key = str((shapes, geometry_of(problem)))
            found.setdefault(key, []).append(name)
    return sorted(map(tuple, found.values()), key=len)


def a_tenth(rule_name):
    """A tenth of a rule's games, one at the least, of one family: one program."""
    groups = families(rule_name)
    number = -(-sum(map(len, groups)) // 10)
    place = gd.rules.names().index(rule_name)
    fitting = [group for group in groups if len(group) >= number] or groups[-1:]
    group = fitting[place % len(fitting)]
    return tuple(
        group[(place + i) % len(group)] for i in range(min(number, len(group)))
    )


def build(rule_name, problem, step_size):
    return rule_cases.make(
        rule_name, step_size, problem.game.num_players, geometry=problem.geometry
    )


@functools.partial(jax.jit, static_argnums=0, compiler_options=COMPILE)
def observe(rule_name, problems, which, solution, step_size, change):
    """The Jacobian of a cycle after ten updates and seven cycles later; the growth.

    All problems have equal shapes; `which` is the one that is played.
    """
    rule = build(rule_name, problems[0], step_size)
    batches = (None,) * rule.num_batches
    fields = [gd.fields.gradient(problem.game) for problem in problems]

    def field(params, batch=None):
        return jax.lax.switch(which, fields, params, batch)

    def settle(state, count):
        state = settled(field, rule, solution, state, batches, count)
        return state, cycle_jacobian(field, rule, solution, state, batches)

    warmup = -(-10 // rule.period) * rule.period
    counts = jnp.array([warmup, 7 * rule.period])
    _, jacobians = jax.lax.scan(settle, rule.init(solution), counts)

    def vector(params, state):
        return moving_parts((params, state))[0]

    def step(carry, _):
        """Update the solution and what is beside it side by side."""
        state, change = carry
        here, rebuild = moving_parts((solution, state))
        both = jax.vmap(rebuild)(jnp.stack([here, here + change]))
        after = jax.vmap(lambda z, s: rule.update(field, z, s, batches))(*both)
        base, beside = jax.vmap(vector)(*after)
        moved = beside - base
        size = jnp.linalg.norm(moved)
        state = jax.tree.map(lambda leaf: leaf[0], after[1])
        return (state, LENGTH * moved / jnp.where(size > 0, size, 1)), size

    # The run begins like any other: what the rule remembers is made from the start.
    flat, unravel = ravel_pytree(solution)
    beside = unravel(flat + LENGTH * change)
    state = rule.init(solution)
    start = vector(beside, rule.init(beside)) - vector(solution, state)
    _, sizes = jax.lax.scan(step, (state, start), length=STEPS)
    return jacobians, jnp.mean(jnp.log(sizes[STEPS // 2 :] / LENGTH))


def is_curved_at_any_length(rule_name, problem, solution, step_size, change, jacobian):
    """Whether quotients do not tend to what the Jacobian says, however short the move.

    Then the map has no derivative there, and the Jacobian predicts nothing.
    """
    rule = build(rule_name, problem, step_size)
    field, batches = gd.fields.gradient(problem.game), (None,) * rule.num_batches

    @jax.jit
    def quotient(length):
        state = settled(field, rule, solution, rule.init(solution), batches, 10)
        vector, rebuild = moving_parts((solution, state))
        moved = vector.at[: change.size].add(length * change)
        after = [rule.update(field, *rebuild(v), batches) for v in (vector, moved)]
        return (moving_parts(after[1])[0] - moving_parts(after[0])[0]) / length

    expected = jacobian[:, : change.size] @ change
    gaps = [np.linalg.norm(quotient(s) - expected) for s in (1e-4, 1e-6, 1e-8)]
    return min(gaps) > 1e-3 and max(gaps) < 1.2 * min(gaps)


def examine(rule_name, game_names):
    """Predict, measure, and say for every game which of the reasons explains a gap."""
    problems = tuple(smooth_games()[name] for name in game_names)
    for which, (name, problem) in enumerate(zip(game_names, problems, strict=True)):
        solution, bound = solution_of(name)
        step_size = jnp.float64(RELATIVE_STEP / bound)
        change = direction(problem, solution)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
            arguments = problems, which, solution, step_size, change
            (first, later), growth = observe(rule_name, *arguments)
            rule = build(rule_name, problem, step_size)
            coins = rule_cases.has_keys(rule.init(solution))
        growth, first, later = float(growth), np.asarray(first), np.asarray(later)
        if not (np.isfinite(first).all() and np.isfinite(later).all()):
            yield name, "no Jacobian"
        elif coins or np.abs(later - first).max() > 1e-9 * max(1, np.abs(first).max()):
            yield name, "not autonomous"
        else:
            radius = np.abs(np.linalg.eigvals(first)).max() ** (1 / rule.period)
            due = math.log(max(radius, 1e-300))
            arguments = problem, solution, step_size, change, first
            if abs(growth - due) <= 0.02 * abs(due) + 2e-3:
                yield name, "agrees"
            elif rule.period == 1 and is_curved_at_any_length(rule_name, *arguments):
                yield name, "not differentiable"
            else:
                yield name, f"predicted {radius:.6f}, seen {math.exp(growth):.6f}"


def direction(problem, solution):
    """A random direction of length one; on simplices in their planes."""
    random = np.random.default_rng(0)
    parts = [random.normal(size=ravel_pytree(own)[0].size) for own in solution]
    if geometry_of(problem)[1]:
        parts = [part - part.mean() for part in parts]
    whole = np.concatenate(parts)
    return jnp.asarray(whole / np.linalg.norm(whole))


EXPLAINED = ("agrees", "not autonomous", "no Jacobian", "not differentiable")
# Not autonomous anywhere: anchors, schedules, averages, steps that adapt, coins.
CHANGING = (
    "adaptive_golden_ratio",
    "adaptive_mirror_prox",
    "anchored_descent",
    "anchored_popov",
    "averaged_extragradient",
    "bias_corrected_extragradient",
    "decaying_anchor_extragradient",
    "diana",
    "double_step_extragradient",
    "eag_c",
    "eag_v",
    "fast_optimistic",
    "feg",
    "fictitious_play",
    "frank_wolfe",
    "halpern",
    "predictive_regret_matching_plus",
    "quantised_descent",
    "regret_matching",
    "regret_matching_plus",
    "stochastic_extragradient_plus",
    "universal_mirror_prox",
)
# Without a Jacobian at solutions: square roots and quotients of what vanishes there.
SINGULAR = (
    "adaptive_competitive_gradient",
    "adam",
    "anderson",
    "extra_adam",
    "optimistic_adam",
    "past_extra_adam",
    "two_time_scale_adam",
)
# Maps that stay the same, in some games with a matrix that is no derivative.
KINKED = ("adaptive_extragradient_plus", "curvature_extragradient_plus")
NAMES = [
    name
    for name, entry in ENTRIES.items()
    if not {"finite sum", "constraints"} & set(entry.needs)
]


def check(rule_name, game_names):
    found = dict(examine(rule_name, game_names))
    assert set(found.values()) <= set(EXPLAINED), found
    return set(found.values())


@pytest.mark.parametrize("rule_name", [n for n in NAMES if n not in CHANGING])
def test_growth_is_the_predicted_radius(rule_name):
    found = check(rule_name, a_tenth(rule_name))
    # The reasons do not explain everything away.
    if rule_name in SINGULAR:
        assert "no Jacobian" in found
        assert found <= {"no Jacobian", "not autonomous"}
    elif rule_name in KINKED:
        assert found <= {"agrees", "not differentiable"}
    else:
        assert found == {"agrees"}


@pytest.mark.slow
@pytest.mark.parametrize("rule_name", NAMES)
def test_growth_is_the_predicted_radius_everywhere(rule_name):
    for group in families(rule_name):
        found = check(rule_name, group)
        if rule_name in CHANGING:
            assert found == {"not autonomous"}
