"""Inequality constraints without a projection: an interior-point method."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive, check_positive_integer, is_known
from gamedyn.game import Params, PyTree
from gamedyn.geometry import Geometry, euclidean
from gamedyn.loops import bounded_while
from gamedyn.rules.base import (
    EUCLIDEAN,
    InnerSolve,
    Rule,
    build,
    check_geometry,
    check_step_size,
)
from gamedyn.rules.integrators import default_tolerance, newton_evaluations, resolvent
from gamedyn.rules.registry import owned, register
from gamedyn.trees import add, flatten, norm, scale, subtract, unflatten, working_dtype

_NEWTON_STEPS = 200
_HALVINGS = 40


class InteriorState(NamedTuple):
    """The state of the interior-point method.

    Attributes:
        inside: y, the copy of the parameters that stays strictly inside.
        dual: lambda, the multiplier of x = y.
        num_steps: the number of steps done.
        report: the inner solver's report on the implicit step for x.
    """

    inside: Params
    dual: Params
    num_steps: jax.Array
    report: InnerSolve


def interior_point(
    step_size: float | jax.Array,
    *,
    constraints: Callable[[Params], PyTree] | None = None,
    barrier: float = 1e-5,
    barrier_decay: float = 0.5,
    outer_steps: int = 20,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Alternate an implicit step with a barrier step on a copy that is inside (ACVI).

    $$x^+ + \tfrac1\beta F(x^+) = y - \tfrac1\beta\lambda, \qquad
      y^+ = \arg\min_y -\mu \sum_i \log(-\varphi_i(y)) +
      \tfrac\beta2 \|y - x^+ - \tfrac1\beta\lambda\|^2,$$
    $$\lambda^+ = \lambda + \beta (x^+ - y^+).$$

    For games on $\varphi(z) \le 0$, $\varphi$ convex; converges on monotone games, also
    where projected descent and extragradient cycle on the border. The weight $\mu$ of
    the barrier is multiplied by $\delta$ before each of the first steps. Both inner
    problems are solved by Newton's method with dense matrices: for up to a few hundred
    parameters. One implicit step costs what `proximal_point` costs. The Jacobian of the
    update can be had in forward mode only.

    Args:
        step_size: 1 / beta, one positive number for all players; 12.5 as published.
        constraints: `constraints(params)`, a pytree of arrays that must be negative,
            convex functions of all players' parameters together.
        barrier: the first mu, before any decrease.
        barrier_decay: delta in (0, 1].
        outer_steps: how many steps decrease mu.
        geometry: euclidean only; the domain is in the constraints.

    Returns:
        The rule; its output is y, which satisfies the constraints strictly.

    Raises:
        TypeError: if `step_size` is not a real scalar, or `constraints` no function.
        ValueError: if there are no constraints, a number is out of range, the geometry
            is not euclidean, or, at `init`, the start is seen not to be strictly
            inside.

    References:
        Yang, Jordan and Chavdarova, Solving constrained variational inequalities via a
        first-order interior point-based method, 2023, arXiv:2206.10575.
    """
    # Check the arguments.
    if constraints is None:
        raise ValueError(
            "interior_point needs inequality constraints: give constraints=, a "
            "function of the parameters whose values must be negative"
        )
    if not callable(constraints):
        raise TypeError(
            f"constraints must be a function of the parameters, "
            f"got {type(constraints).__name__}"
        )
    check_step_size(step_size, "interior_point")
    check_geometry(geometry, EUCLIDEAN, "interior_point")
    check_positive("barrier", barrier)
    check_positive_integer("outer_steps", outer_steps)
    if is_known(barrier_decay) and not 0 < barrier_decay <= 1:
        raise ValueError(f"barrier_decay must lie in (0, 1], got {barrier_decay}")

    def init(params):
        values = flatten(constraints(params))
        if is_known(values) and (largest := float(np.max(values))) >= 0:
            raise ValueError(
                f"the start must lie strictly inside: a constraint is {largest:.3g}, "
                f"expected below 0"
            )
        zero = jnp.zeros((), working_dtype(params))
        report = InnerSolve(zero, jnp.zeros((), jnp.int32), jnp.array(False))
        dual = jax.tree.map(jnp.zeros_like, params)
        return InteriorState(params, dual, jnp.zeros((), jnp.int32), report)

    def update(field, params, rule_state, batches):
        (batch,) = batches
        inside, dual, num_steps, report = rule_state

        # The weight mu of the barrier, lowered before each of the first steps.
        dtype = working_dtype(params)
        step = jnp.asarray(step_size, dtype)
        rounds = jnp.minimum(num_steps + 1, outer_steps).astype(dtype)
        mu = jnp.asarray(barrier, dtype) * jnp.asarray(barrier_decay, dtype) ** rounds

        # x: an implicit step from y, shifted by the multiplier.
        goal = default_tolerance(params)
        params, residual, inner_steps = resolvent(
            lambda point: field(point, batch),
            subtract(inside, scale(step, dual)),
            step,
            tolerance=goal,
            max_steps=20,
            guess=params,
        )

        # y: strictly inside, near x.
        centre = flatten(add(params, scale(step, dual)))
        moved = _barrier_step(
            lambda y: flatten(constraints(unflatten(y, params))),
            flatten(inside),
            centre,
            mu * step,
        )
        inside = unflatten(moved, params)

        # lambda: pulls the two together.
        dual = add(dual, scale(1 / step, subtract(params, inside)))
        failed = report.failed | ~(residual <= goal)
        report = InnerSolve(residual, inner_steps, failed)
        return params, InteriorState(inside, dual, num_steps + 1, report)

    return build(init, update, output=lambda params, rule_state: rule_state.inside)


def _barrier_step(constraints, start, centre, weight):
    """Minimise |y - centre|^2 / 2 - weight sum log(-constraints(y)) from the inside.

    Newton's method along the central path: begun with a weight that keeps y away from
    the border, lowered whenever y is near the minimiser of the current one. With a
    small weight from the outset, y would run into the border and creep along it.
    """
    eps = float(jnp.finfo(start.dtype).eps)
    tolerance = 4 * eps
    # Below this, the room that is left to the border would be rounding.
    weight = jnp.maximum(weight, 64 * eps)

    def value(y, weight):
        room = -constraints(y)
        inside = jnp.min(room) > 0
        logs = jnp.sum(jnp.log(jnp.where(inside, room, 1)))
        total = 0.5 * jnp.sum((y - centre) ** 2) - weight * logs
        return jnp.where(inside, total, jnp.inf)

    def unfinished(iterate):
        y, current, moved = iterate
        far = norm(moved) > tolerance * (1 + norm(y))
        return (current > weight) | far

    def newton(iterate):
        y, current, _ = iterate
        slope = jax.grad(value)(y, current)
        direction = -jnp.linalg.solve(jax.hessian(value)(y, current), slope)
        decrement = -jnp.vdot(slope, direction) / current
        room, height = -constraints(y), value(y, current)

        def rejected(size):
            there = y + size * direction
            # Keep a hundredth of the way to the border, and do not climb.
            kept = jnp.all(-constraints(there) >= 0.01 * room)
            slack = tolerance * (1 + jnp.abs(height))
            ok = kept & (value(there, current) <= height + slack)
            return ~ok

        one = jnp.ones((), y.dtype)
        size, halvings = bounded_while(rejected, lambda s: 0.5 * s, one, _HALVINGS)
        moved = jnp.where(halvings < _HALVINGS, size, 0) * direction
        lower = jnp.maximum(weight, 0.1 * current)
        current = jnp.where(decrement < 0.25, lower, current)
        return y + moved, current, moved

    first = jnp.maximum(weight, jnp.sum((start - centre) ** 2))
    everywhere = jnp.full_like(start, jnp.inf)
    iterate = start, first, everywhere
    (y, _, _), _ = bounded_while(unfinished, newton, iterate, _NEWTON_STEPS)
    return y


# The registered rules.

register(
    "interior_point",
    owned(interior_point),
    family="field and constraint split",
    summary="implicit steps coupled with a copy kept inside by a barrier (ACVI)",
    formula="x' + h F(x') = y - h l; y' = barrier step to x' + h l; "
    "l' = l + (x' - y')/h",
    source="Yang et al. 2023, arXiv:2206.10575",
    guarantee="monotone: O(1/sqrt(K)) gap of the last iterate",
    evaluations=newton_evaluations,
    geometries=EUCLIDEAN,
    flops=float("nan"),
    needs=("constraints",),
)
