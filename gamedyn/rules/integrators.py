"""Follow the flow of the field more closely: Runge-Kutta and implicit steps."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.fields.linear import least_residual
from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.loops import bounded_while
from gamedyn.rules.base import (
    EUCLIDEAN,
    InnerSolve,
    Rule,
    build,
    check_geometry,
    check_step_size,
    stepper,
)
from gamedyn.rules.registry import from_transformations, owned, register
from gamedyn.trees import add, flatten, norm, scale, unflatten, working_dtype

# For each order, where the later stages are evaluated, as a share of a full step along
# the stage before, and the weights of all stages.
_TABLEAUS = {
    2: ((1.0,), (1 / 2, 1 / 2)),
    4: ((1 / 2, 1 / 2, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


def runge_kutta(
    *optimizers: optax.GradientTransformation,
    order: Literal[2, 4] = 4,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Step along the field averaged over the step, by Heun or the classical rule.

    $$k_1 = F(z), \quad k_2 = F(z - \eta k_1), \quad
      z^+ = z - \tfrac{\eta}{2}(k_1 + k_2); \qquad
      k_1, \; k_2 = F(z - \tfrac{\eta}{2} k_1), \; k_3 = F(z - \tfrac{\eta}{2} k_2), \;
      k_4 = F(z - \eta k_3), \quad z^+ = z - \tfrac{\eta}{6}(k_1 + 2k_2 + 2k_3 + k_4).$$

    On a linear game a mode of J with eigenvalue $\lambda$ is multiplied by
    $\sum_{n \le p} (-\eta\lambda)^n / n!$: on a bilinear game order 2 diverges for
    every step size, order 4 is stable for $\eta\sigma < 2\sqrt 2$. Two or four field
    evaluations per step.

    Args:
        *optimizers: one optax transformation T for all players, or one each. Stage
            points are $z + c\,T(k)$ with a state that is then forgotten; T's state
            advances with the last, weighted direction.
        order: 2 (Heun) or 4 (classical).
        geometry: euclidean only: the scheme has no projected form.

    Returns:
        The rule.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if `order` is neither 2 nor 4, or the geometry is not euclidean.

    References:
        Qin et al., Training generative adversarial networks by solving ordinary
        differential equations, 2020, arXiv:2010.15040.
    """
    if order not in _TABLEAUS:
        raise ValueError(f"order must be 2 or 4, got {order!r}")
    nodes, weights = _TABLEAUS[order]
    steps = stepper(optimizers, geometry, supports=EUCLIDEAN, rule="runge_kutta")

    def update(field, params, rule_state, batches):
        (batch,) = batches
        stages = [field(params, batch)]
        for node in nodes:
            change, _ = steps.updates(stages[-1], rule_state, params)
            stages.append(field(steps.apply(params, scale(node, change)), batch))
        mean = add(*(scale(w, k) for w, k in zip(weights, stages, strict=True)))
        change, rule_state = steps.updates(mean, rule_state, params)
        return steps.apply(params, change), rule_state

    return build(steps.init, update)


_DENSE = 128  # up to so many parameters the Newton systems are solved by LU


def proximal_point(
    step_size: float | jax.Array,
    *,
    tolerance: float | None = None,
    max_steps: int = 20,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Step along the field of the point that is reached: the implicit method.

    $$z^+ = z - \eta F(z^+).$$

    On a bilinear game $\rho = 1/\sqrt{1 + \eta^2\sigma^2}$, with strong monotonicity mu
    at most $1/(1 + \eta\mu)$: any step size converges. Newton's method solves
    $G(w) = w - z + \eta F(w) = 0$ from $w = z$, with the dense Jacobian up to 128
    parameters (d + 2 field evaluations for the single step a linear game needs), and
    matrix-free by GMRES above. Derivatives of the update, forward and reverse, are
    those of the implicit equation and do not run through the iterations.

    Args:
        step_size: eta, one positive number for all players. The scheme owns its step,
            so there is no optax transformation.
        tolerance: Newton stops when $\|G(w)\|$ is at most this times
            $\|z\| + \eta\|F(z)\|$; by default $\varepsilon^{3/4}$, with the machine
            precision of the coarsest parameter. At least one step is always done.
        max_steps: the largest number of Newton steps.
        geometry: euclidean only.

    Returns:
        The rule; its state is an `InnerSolve` with the relative residual. A solve that
        misses the tolerance makes `solve` end with `Status.INNER_SOLVER`.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it, `tolerance` or `max_steps` is not positive, or the geometry
            is not euclidean.

    References:
        Martinet, 1970; Rockafellar, Monotone operators and the proximal point
        algorithm, 1976.
    """
    check_step_size(step_size, "proximal_point")
    check_geometry(geometry, EUCLIDEAN, "proximal_point")
    if tolerance is not None:
        check_positive("tolerance", tolerance)
    check_positive_integer("max_steps", max_steps)

    def init(params):
        per_player(geometry, len(params), "geometry")
        zero = jnp.zeros((), working_dtype(params))
        return InnerSolve(zero, jnp.zeros((), jnp.int32), jnp.array(False))

    def update(field, params, rule_state, batches):
        (batch,) = batches
        goal = default_tolerance(params) if tolerance is None else tolerance
        point, residual, inner_steps = resolvent(
            lambda point: field(point, batch),
            params,
            step_size,
            tolerance=goal,
            max_steps=max_steps,
        )
        # Not `residual > goal`: a NaN is a failure, too.
        failed = rule_state.failed | ~(residual <= goal)
        return point, InnerSolve(residual, inner_steps, failed)

    return build(init, update)


def resolvent(
    slope: Callable[[Params], Params],
    params: Params,
    step_size: Any,
    *,
    tolerance: float,
    max_steps: int,
    guess: Params | None = None,
) -> tuple[Params, jax.Array, jax.Array]:
    r"""Solve $w + \eta F(w) = z$ by Newton's method.

    Args:
        slope: the field F.
        params: the point z.
        step_size: eta.
        tolerance: of the residual relative to $\|z\| + \eta\|F(z)\|$.
        max_steps: the largest number of Newton steps; at least one is done.
        guess: where to begin; at z if `None`.

    Returns:
        The point w, the relative residual and the number of steps. Derivatives are
        those of the equation.
    """
    start = flatten(params)
    eta = jnp.asarray(step_size, start.dtype)

    def gap(point):
        return point - start + eta * flatten(slope(unflatten(point, params)))

    # Newton's method: the fixed-point iteration w <- z - eta F(w) converges only for
    # eta L < 1.
    newton = functools.partial(_newton, tolerance=tolerance, max_steps=max_steps)
    tangent_solve = functools.partial(_linear_solve, tolerance=tolerance)
    point, (residual, inner_steps) = jax.lax.custom_root(
        gap,
        start if guess is None else flatten(guess),
        newton,
        tangent_solve,
        has_aux=True,
    )
    return unflatten(point, params), residual, inner_steps.astype(jnp.int32)


def _newton(function, start, *, tolerance, max_steps):
    """Find a root near `start`; also return the relative residual and the steps."""
    value = function(start)
    size = norm(start) + norm(value)
    size = jnp.where(size > 0, size, 1)

    def missed(iterate):
        return norm(iterate[1]) > tolerance * size

    def step(iterate):
        point, value = iterate
        _, tangent = jax.linearize(function, point)
        loose = jnp.finfo(point.dtype).eps ** 0.5
        point = point - _linear_solve(tangent, value, tolerance=loose)
        return point, function(point)

    # One step at least: near a solution far from the origin the start may be within
    # the tolerance, and the iteration would stand still.
    (point, value), count = bounded_while(
        missed, step, (start, value), max_steps, at_least=1
    )
    # custom_root cannot differentiate beside an integer: the count leaves as a float.
    return point, (norm(value) / size, count.astype(value.dtype))


def _linear_solve(tangent, right, *, tolerance):
    """Solve `tangent(x) = right` for a linear map; linear in `right`, transposable."""
    if right.size <= _DENSE:
        matrix = jax.vmap(tangent, out_axes=1)(jnp.eye(right.size, dtype=right.dtype))
        return jnp.linalg.solve(matrix, right)

    def krylov(matvec, right):
        return least_residual(matvec, right, tolerance)

    # The iterations alone cannot be transposed: they depend on the right-hand side.
    return jax.lax.custom_linear_solve(tangent, right, krylov, krylov)


def default_tolerance(params: Params) -> float:
    """The three-quarter power of the machine precision of the coarsest parameter."""
    leaves = jax.tree.leaves(params)
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves) ** 0.75


# The registered rules.

# One Newton step with one step of its inner solver, in joint gradients: values,
# linearisation, products, updates.
NEWTON_FLOPS = 6.7


def newton_evaluations(size: int) -> int:
    """Count one Newton step: its residual before and after, and a dense Jacobian."""
    return size + 2


register(
    "runge_kutta_2",
    from_transformations(runge_kutta, order=2),
    family="following the flow",
    summary="Heun's method, average of the field at both ends of the step",
    formula="w = z - h F(z); z' = z - h/2 (F(z) + F(w))",
    source="Qin et al. 2020, arXiv:2010.15040",
    guarantee="follows the flow to second order; diverges on every bilinear game",
    evaluations=2,
    geometries=EUCLIDEAN,
)
register(
    "runge_kutta_4",
    from_transformations(runge_kutta, order=4),
    family="following the flow",
    summary="the classical Runge-Kutta method (ODE-GAN)",
    formula="z' = z - h/6 (k1 + 2 k2 + 2 k3 + k4)",
    source="Qin et al. 2020, arXiv:2010.15040",
    guarantee="follows the flow to fourth order; bilinear: linear for h < 2 sqrt(2)/L",
    evaluations=4,
    geometries=EUCLIDEAN,
)
register(
    "proximal_point",
    owned(proximal_point),
    family="following the flow",
    summary="step along the field of the point reached (implicit, by Newton's method)",
    formula="z' = z - h F(z')",
    source="Martinet 1970; Rockafellar 1976",
    guarantee="monotone: converges for every h; strongly monotone: factor 1/(1 + h mu)",
    evaluations=newton_evaluations,
    geometries=EUCLIDEAN,
    flops=NEWTON_FLOPS,
)
