"""Look ahead before moving: extragradient and its single-call relatives."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.checks import is_known
from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean
from gamedyn.rules.base import (
    Rule,
    add,
    build,
    check_geometry,
    check_step_size,
    scale,
    select,
    stepper,
    subtract,
    working_dtype,
)


class ExtragradientState(NamedTuple):
    """The states of the update's transformation and of the extrapolation's own."""

    update: tuple[Any, ...]
    extrapolation: tuple[Any, ...] | None


def extragradient(
    *optimizers: optax.GradientTransformation,
    extrapolation: Any = None,
    resample: bool = False,
    moments: Literal["last", "both"] = "last",
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Evaluate the field at an extrapolated point, move from the original one.

    $$\bar z = z - \gamma F(z), \qquad z^+ = z - \eta F(\bar z).$$

    With one step size, $\rho^2 = 1 - a^2 + a^4$, $a = \eta\sigma$, on a bilinear game:
    stable for $a < 1$. With two it is EG+ or, with schedules, the double step size
    method (DSEG, $\gamma_t \ge \eta_t$); with Adam and `moments="both"` it is
    ExtraAdam; with entropic geometry mirror-prox. Two field evaluations per step.

    Args:
        *optimizers: one optax transformation for all players, or one each.
        extrapolation: the transformation of the first half step, or a tuple of one
            each, where it differs (its state then advances once per step).
        resample: `False` uses the same batch in both halves, `True` an independent one
            each.
        moments: "last": the first half step uses the current state and forgets what
            it learned; "both": moments, counters and schedules advance in both halves.
        geometry: one for all players, or a tuple of one each. Only scalar step sizes
            give the published projected or mirror method; other transformations are
            allowed there and unproven.

    Returns:
        The rule, with `num_batches = 2` if `resample`.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if `moments` is unknown, or "both" together with `extrapolation`.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> rule = gd.extragradient(optax.sgd(0.5))
        >>> solution = gd.solve(game, rule, (jnp.array(1.0), jnp.array(1.0)), 200)
        >>> bool(optax.tree.norm(solution.params) < 1e-8)
        True

    References:
        Korpelevich, 1976; two step sizes: Hsieh et al., 2020, arXiv:2003.10162;
        Diakonikolas et al., 2021, arXiv:2011.00364; ExtraAdam: Gidel et al., 2019,
        arXiv:1802.10551.
    """
    if moments not in ("last", "both"):
        raise ValueError(f"moments must be 'last' or 'both', got {moments!r}")
    if moments == "both" and extrapolation is not None:
        raise ValueError(
            "moments='both' shares one transformation between the half steps; "
            "it cannot be combined with an extrapolation of its own"
        )
    last = stepper(optimizers, geometry, rule="extragradient")
    ahead = last
    if extrapolation is not None:
        # An optax transformation is a tuple itself: only a plain tuple is one each.
        each = extrapolation if type(extrapolation) is tuple else (extrapolation,)
        ahead = stepper(each, geometry, rule="extragradient")

    def init(params):
        own = None if extrapolation is None else ahead.init(params)
        return ExtragradientState(last.init(params), own)

    def update(field, params, rule_state, batches):
        states, own = rule_state
        start = states if own is None else own
        updates, seen = ahead.updates(field(params, batches[0]), start, params)
        middle = ahead.apply(params, updates)
        if own is not None:
            own = seen
        elif moments == "both":
            states = seen
        updates, states = last.updates(field(middle, batches[-1]), states, params)
        return last.apply(params, updates), ExtragradientState(states, own)

    num_batches = 2 if resample else 1
    return build(init, update, num_batches=num_batches, domain=last.domain)


class PastExtragradientState(NamedTuple):
    """Transformation states, the field at the last half point, a first-step flag."""

    optimizer: tuple[Any, ...]
    past: Params
    first: jax.Array


def past_extragradient(
    *optimizers: optax.GradientTransformation,
    moments: Literal["last", "both"] = "last",
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extrapolate with the field of the past half point (Popov's method).

    $$\bar z_t = z_t - \eta F(\bar z_{t-1}), \qquad z_{t+1} = z_t - \eta F(\bar z_t),
      \qquad \bar z_{-1} = z_0.$$

    Its half points are the iterates of `optimistic`, one step ahead. One field
    evaluation per step (two in the first one, where there is no past).

    Args:
        *optimizers: one optax transformation for all players, or one each.
        moments: as in `extragradient`.
        geometry: one for all players, or a tuple of one each; entropic gives
            optimistic mirror descent.

    Returns:
        The rule.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if `moments` is unknown.

    References:
        Popov, 1980; Gidel et al., 2019, arXiv:1802.10551.
    """
    if moments not in ("last", "both"):
        raise ValueError(f"moments must be 'last' or 'both', got {moments!r}")
    steps = stepper(optimizers, geometry, rule="past_extragradient")

    def init(params):
        return PastExtragradientState(
            steps.init(params), jax.tree.map(jnp.zeros_like, params), jnp.array(True)
        )

    def update(field, params, rule_state, batches):
        (batch,) = batches
        states, past, first = rule_state
        # Only the first step evaluates the field twice: a branch, not a select.
        past = jax.lax.cond(first, lambda: field(params, batch), lambda: past)
        updates, seen = steps.updates(past, states, params)
        middle = steps.apply(params, updates)
        current = field(middle, batch)
        states = seen if moments == "both" else states
        updates, states = steps.updates(current, states, params)
        params = steps.apply(params, updates)
        return params, PastExtragradientState(states, current, jnp.array(False))

    return build(init, update, domain=steps.domain)


class OptimisticState(NamedTuple):
    """Transformation states, the last update, and a first-step flag."""

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
        last = select(first, updates, last)
        ahead = jax.tree.map(lambda u, v: u + optimism * (u - v), updates, last)
        params = steps.apply(params, ahead)
        return params, OptimisticState(states, updates, jnp.array(False))

    return build(init, update, domain=steps.domain)


class FastOptimisticState(NamedTuple):
    """The point before, the field at the last middle point, and the step count."""

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
    check_geometry(geometry, ("euclidean",), "fast_optimistic")
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
