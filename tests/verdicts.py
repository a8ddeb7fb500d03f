"""An independent judge of comparisons: plain runs of twice the budget."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn.fields import at_batch
from gamedyn.geometry import natural_map

JUDGED = ("converging", "marginal", "diverging")


def field_of(problem, field):
    """The field on the whole of a finite sum."""
    if problem.info.num_components is None:
        return field
    return at_batch(field, jnp.arange(problem.info.num_components))


def run_longer(problem, row, evaluations):
    """Run a row's rule for that many evaluations; residual and distance on the way."""
    field, rule = gd.methods.make(
        row.rule, problem.game, row.step_size, geometry=problem.geometry
    )
    field = field_of(problem, field)
    gradient = field_of(problem, gd.fields.gradient(problem.game))

    def record(params, state, batches, step):
        output = rule.output(params, state)
        gap = natural_map(output, gradient(output), problem.geometry)
        flat = ravel_pytree(gap)[0]
        gaps = [
            jnp.max(jnp.abs(ravel_pytree(output)[0] - ravel_pytree(z)[0]))
            for z in problem.solutions
        ]
        nearest = jnp.min(jnp.stack(gaps)) if gaps else jnp.zeros(())
        return jnp.max(jnp.abs(flat)), nearest

    period = rule.period
    steps = evaluations // row.evaluations_per_step // period * period
    run = functools.partial(
        gd.solve, field, rule, num_steps=steps, every=period, record=record
    )
    solution = jax.jit(run)(problem.init(None))
    residual, distance = map(np.asarray, solution.trace)
    spent = period * row.evaluations_per_step * np.arange(len(residual))
    return spent, residual, distance, gd.Status(int(solution.status))


def judge(problem, row, evaluations, tolerance=1e-10):
    """Say what is wrong with a row's verdict; "" if nothing is."""
    if row.behaviour not in JUDGED and row.to_tolerance is None:
        return ""
    spent, residual, distance, status = run_longer(problem, row, 2 * evaluations)
    if row.to_tolerance is not None:
        later = residual[spent >= row.to_tolerance]
        # The judge's norm and unit are others than the table's, by a factor at most.
        if not (later <= 100 * tolerance * residual[0]).all():
            worst = np.nanmax(later) / residual[0]
            return f"{row.name}: met the tolerance, and then {worst:.1e}"

    def top(curve, begin, end):
        return curve[
            (spent >= begin * evaluations) & (spent <= end * evaluations)
        ].max()

    finite = np.isfinite(residual).all() and status != gd.Status.NON_FINITE
    if row.behaviour == "diverging":
        grows = not finite or any(
            top(curve, 1.5, 2) > top(curve, 0.5, 1) for curve in (residual, distance)
        )
        return "" if grows else f"{row.name}: diverging, and does not grow"
    if not finite:
        return f"{row.name}: {row.behaviour}, and not finite"
    before, after = top(residual, 0.5, 1), top(residual, 1.5, 2)
    said = f"{row.name}: {row.behaviour}, {before:.2e} becomes {after:.2e}"
    size = max(
        np.abs(
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(problem.init(None))])
        ).max(),
        1,
    )
    if row.behaviour == "converging":
        rounding = 1e-12 * residual[0] + 1e-13 * size
        return "" if after < before or after <= rounding else said
    return "" if before / 5 < after < 5 * before else said
