"""Look ahead before moving: extragradient and past extragradient."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean
from gamedyn.rules.base import Rule, build, stepper
from gamedyn.rules.registry import from_transformations, register


class ExtragradientState(NamedTuple):
    """The state of extragradient.

    Attributes:
        update: every player's state of the transformation of the second half step.
        extrapolation: that of the first half step, `None` where they share one.
    """

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
        moments: "last": moments, counters and schedules advance with the second half
            step only; "both": they advance in both halves.
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
        # From `params`: a step on from `middle` would be two steps of descent.
        return last.apply(params, updates), ExtragradientState(states, own)

    num_batches = 2 if resample else 1
    return build(init, update, num_batches=num_batches, domain=last.domain)


class PastExtragradientState(NamedTuple):
    """The state of past extragradient.

    Attributes:
        optimizer: every player's transformation state.
        past: the field at the last half point.
        first: whether no step has been done yet.
    """

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
        # The next step looks ahead with this one, not with the field at `params`.
        current = field(middle, batch)
        states = seen if moments == "both" else states
        updates, states = steps.updates(current, states, params)
        params = steps.apply(params, updates)
        return params, PastExtragradientState(states, current, jnp.array(False))

    return build(init, update, domain=steps.domain)


# The registered rules.

register(
    "extragradient",
    from_transformations(extragradient),
    family="looking ahead",
    summary="look ahead, then step from the original point",
    formula="w = z - h F(z); z' = z - h F(w)",
    source="Korpelevich 1976",
    guarantee="monotone: last iterate converges for h < 1/L; strongly monotone: linear",
    evaluations=2,
)
register(
    "stochastic_extragradient",
    from_transformations(extragradient, resample=True),
    family="looking ahead",
    summary="extragradient with an independent batch in each half step",
    formula="w = z - h F_i(z); z' = z - h F_j(w)",
    source="Juditsky et al. 2011, arXiv:0809.0815",
    guarantee="strongly monotone: up to a ball of noise; unbiased for linear fields",
    evaluations=2,
    needs=("independent batches",),
)


@register(
    "extragradient_plus",
    family="looking ahead",
    summary="extragradient that moves half as far as it looks ahead (EG+)",
    formula="w = z - h F(z); z' = z - h/2 F(w)",
    source="Diakonikolas et al. 2021, arXiv:2011.00364",
    guarantee="weak Minty, rho > -1/(8L): best |F|^2 in O(1/k) for h = 1/L",
    evaluations=2,
)
def _extragradient_plus(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players
    return extragradient(
        optax.sgd(0.5 * step_size),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **options,
    )


@register(
    "double_step_extragradient",
    family="looking ahead",
    summary="extragradient with a constant look-ahead and ever smaller moves (DSEG)",
    formula="w = z - h F(z); z' = z - h_t F(w), h_t = 2h/(t + 20)",
    source="Hsieh et al. 2020, arXiv:2003.10162",
    guarantee="noisy monotone with an error bound: converges almost surely",
    evaluations=2,
)
def _double_step(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players

    def schedule(count: Any) -> jax.Array:
        dtype = jnp.result_type(float)
        decay = 2 / (count.astype(dtype) + 20)  # .1 * 20 / (t + 20)
        return jnp.asarray(step_size, dtype) * decay

    return extragradient(
        optax.sgd(schedule),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **options,
    )


register(
    "extra_adam",
    from_transformations(extragradient, optax.adam, moments="both"),
    family="looking ahead",
    summary="extragradient with Adam, its moments advanced in both half steps",
    formula="w = z - h adam(F(z)); z' = z - h adam(F(w))",
    source="Gidel et al. 2019, arXiv:1802.10551",
    guarantee="none with adaptive steps",
    evaluations=2,
)
register(
    "past_extragradient",
    from_transformations(past_extragradient),
    family="looking ahead",
    summary="extragradient that looks ahead with the past half point's field (Popov)",
    formula="w = z - h F(w-); z' = z - h F(w)",
    source="Popov 1980; Gidel et al. 2019, arXiv:1802.10551",
    guarantee="monotone: last iterate converges for h <= 1/(3L); strongly: linear",
)
register(
    "past_extra_adam",
    from_transformations(past_extragradient, optax.adam, moments="both"),
    family="looking ahead",
    summary="past extragradient with Adam, its moments advanced in both half steps",
    formula="w = z - h adam(F(w-)); z' = z - h adam(F(w))",
    source="Gidel et al. 2019, arXiv:1802.10551",
    guarantee="none with adaptive steps",
)


@register(
    "momentum_extragradient",
    family="looking ahead",
    summary="extragradient with momentum, -.1 by default",
    formula="w = z - h F(z); z' = z - h F(w) + b(z - z-)",
    source="Azizian et al. 2020, arXiv:2001.00602; Kim et al. 2022, arXiv:2211.04659",
    guarantee="accelerated on quadratic games whose spectrum is known",
    evaluations=2,
)
def _momentum_extragradient(
    step_size, *, num_players=2, geometry=euclidean, momentum=-0.1, **options
):
    del num_players
    return extragradient(
        optax.sgd(step_size, momentum=momentum),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **options,
    )


@register(
    "stochastic_extragradient_plus",
    family="looking ahead",
    summary="EG+ on independent samples, its moves ever smaller (SEG+)",
    formula="w = z - h F_i(z); z' = z - h_t F_j(w), h_t = h/(2(t + 1))",
    source="Pethick et al. 2023, arXiv:2302.09029",
    guarantee="affine weak Minty: converges almost surely",
    evaluations=2,
    needs=("independent batches",),
)
def _stochastic_plus(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players

    def schedule(count: Any) -> jax.Array:
        dtype = jnp.result_type(float)
        return jnp.asarray(step_size, dtype) * (0.5 / (count.astype(dtype) + 1))

    return extragradient(
        optax.sgd(schedule),
        extrapolation=optax.sgd(step_size),
        geometry=geometry,
        **{"resample": True, **options},
    )
