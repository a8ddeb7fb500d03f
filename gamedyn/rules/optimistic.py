"""Correct every step by the last change: optimistic rules."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.checks import is_known
from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean
from gamedyn.rules.base import (
    EUCLIDEAN,
    Rule,
    build,
    check_geometry,
    check_step_size,
    stepper,
)
from gamedyn.rules.registry import each, from_transformations, owned, register
from gamedyn.rules.turns import IN_TURN_FLOPS, alternating
from gamedyn.trees import add, scale, select, subtract, working_dtype


class OptimisticState(NamedTuple):
    """The state of the optimistic rule.

    Attributes:
        optimizer: every player's transformation state.
        last: the last update, before its correction.
        first: whether no step has been done yet.
    """

    optimizer: tuple[Any, ...]
    last: Params
    first: jax.Array


def optimistic(
    *optimizers: optax.GradientTransformation,
    optimism: float = 1.0,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Correct every update by its change since the last one.

    $$z_{t+1} = z_t + u_t + \beta\,(u_t - u_{t-1}), \qquad u_t = T(F(z_t)),
      \quad u_{-1} = u_0.$$

    With `optax.sgd` this is optimistic gradient descent (OGDA),
    $z^+ = z - 2\eta F(z) + \eta F(z_-)$, with `optax.adam` optimistic Adam, with
    projected geometry forward-reflected-backward, with entropic geometry optimistic
    multiplicative weights. Stable on a bilinear game for $\eta\sigma < 1/\sqrt 3$. One
    field evaluation per step; the first step is a plain one.

    Args:
        *optimizers: one optax transformation T for all players, or one each.
        optimism: the weight beta of the correction; 1 is the published method.
        geometry: one for all players, or a tuple of one each.

    Returns:
        The rule.

    Raises:
        TypeError: if an optimizer is not an optax transformation.

    References:
        Daskalakis et al., 2018, arXiv:1711.00141; Malitsky and Tam, 2020,
        arXiv:1808.04162 (projected); Daskalakis and Panageas, 2019, arXiv:1807.04252
        (entropic).
    """
    steps = stepper(optimizers, geometry, rule="optimistic")

    def init(params):
        return OptimisticState(
            steps.init(params), jax.tree.map(jnp.zeros_like, params), jnp.array(True)
        )

    def update(field, params, rule_state, batches):
        states, last, first = rule_state
        updates, states = steps.updates(field(params, batches[0]), states, params)
        # Minus the last update: with a plus, z - 2h F(z) - h F(z-), it diverges on
        # every bilinear game. The first step is a plain one, not twice as long.
        last = select(first, updates, last)
        ahead = jax.tree.map(lambda u, v: u + optimism * (u - v), updates, last)
        params = steps.apply(params, ahead)
        return params, OptimisticState(states, updates, jnp.array(False))

    return build(init, update, domain=steps.domain)


class FastOptimisticState(NamedTuple):
    """The state of fast OGDA.

    Attributes:
        previous: the point before the current one.
        past: the field at the last middle point.
        num_steps: the number of steps done.
    """

    previous: Params
    past: Params
    num_steps: jax.Array


def fast_optimistic(
    step_size: float | jax.Array,
    *,
    alpha: float = 3.0,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Combine optimistic steps with vanishing friction (fast OGDA, explicit).

    $$\bar z_k = z_k + \frac{k}{k + \alpha}(z_k - z_{k-1}) -
      \frac{s\alpha}{k + \alpha} F(\bar z_{k-1}), \qquad
      z_{k+1} = \bar z_k - s\,\frac{2k + \alpha}{k + \alpha}
      \bigl(F(\bar z_k) - F(\bar z_{k-1})\bigr),$$

    k = 1, 2, ..., started by $z_0 = z_1$, $\bar z_0 = z_1$. The residual falls faster
    than 1/k on monotone games. One field evaluation per step (two in the first one).

    Args:
        step_size: s, one positive number for all players; below 1/(8L).
        alpha: the friction, above 2.
        geometry: euclidean only.

    Returns:
        The rule.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `alpha` not above 2, or the geometry is not
            euclidean.

    References:
        Bot, Csetnek and Nguyen, Fast OGDA in continuous and discrete time, 2023,
        arXiv:2203.10947.
    """
    check_step_size(step_size, "fast_optimistic")
    check_geometry(geometry, EUCLIDEAN, "fast_optimistic")
    if is_known(alpha) and not alpha > 2:
        raise ValueError(f"alpha must be above 2, got {alpha}")

    def init(params):
        past = jax.tree.map(jnp.zeros_like, params)
        return FastOptimisticState(params, past, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        (batch,) = batches
        previous, past, num_steps = rule_state
        # Only the first step evaluates the field twice: a branch, not a select.
        past = jax.lax.cond(num_steps == 0, lambda: field(params, batch), lambda: past)
        k = num_steps.astype(working_dtype(params)) + 1
        step = jnp.asarray(step_size, k.dtype)
        middle = add(
            params,
            scale(k / (k + alpha), subtract(params, previous)),
            scale(-step * alpha / (k + alpha), past),
        )
        current = field(middle, batch)
        weight = -step * (2 * k + alpha) / (k + alpha)
        moved = add(middle, scale(weight, subtract(current, past)))
        return moved, FastOptimisticState(params, current, num_steps + 1)

    return build(init, update)


# The registered rules.

register(
    "optimistic",
    from_transformations(optimistic),
    family="looking ahead",
    summary="gradient steps corrected by their last change (OGDA)",
    formula="z' = z - 2h F(z) + h F(z-)",
    source="Daskalakis et al. 2018, arXiv:1711.00141",
    guarantee="monotone: last iterate converges for h < 1/(2L); strongly: linear",
)
register(
    "optimistic_adam",
    from_transformations(optimistic, optax.adam),
    family="looking ahead",
    summary="Adam steps corrected by their last change",
    formula="z' = z - 2h d + h d-, d = adam(F(z))",
    source="Daskalakis et al. 2018, arXiv:1711.00141",
    guarantee="none with adaptive steps",
)


@register(
    "generalised_optimistic",
    family="looking ahead",
    summary="optimistic steps with a correction of another weight, 3/4 of the step",
    formula="z' = z - (h + b) F(z) + b F(z-), b = 3h/4",
    source="Peng et al. 2020; Mokhtari et al. 2020, arXiv:1901.08511",
    guarantee="bilinear: linear for small h if b > h/2",
)
def _generalised_optimistic(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    ratio=0.75,
    **options,
):
    del num_players
    steps = each(transformation, step_size)
    return optimistic(*steps, optimism=ratio, geometry=geometry, **options)


@register(
    "alternating_optimistic",
    family="looking ahead",
    summary="in turn, the first player with an optimistic correction (Gauss-Seidel)",
    formula="x' = x - h F1(x, y) + h/2 F1(x-, y-); y' = y - h F2(x', y)",
    source="Zhang and Yu 2020, arXiv:1908.05699",
    guarantee="bilinear: linear; the best steps reach sqrt((k^2 - 1)/(k^2 + 1))",
    num_players=2,
    flops=IN_TURN_FLOPS,
)
def _alternating_optimistic(
    step_size, *, num_players=2, geometry=euclidean, ratio=0.5, **options
):
    """In turn; the first player's past weight is `ratio` times the step."""
    del num_players
    first = optax.optimistic_gradient_descent(step_size, alpha=1 - ratio, beta=ratio)
    return alternating(first, optax.sgd(step_size), geometry=geometry, **options)


register(
    "fast_optimistic",
    owned(fast_optimistic),
    family="looking ahead",
    summary="optimistic steps with vanishing friction (fast OGDA)",
    formula="w = z + k/(k+3)(z - z-) - 3h/(k+3) F(w-); "
    "z' = w - h(2k+3)/(k+3)(F(w) - F(w-))",
    source="Bot et al. 2023, arXiv:2203.10947",
    guarantee="monotone: |F(z_k)| in o(1/k) for h < 1/(8L)",
    geometries=EUCLIDEAN,
)
