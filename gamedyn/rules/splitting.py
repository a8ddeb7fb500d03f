"""Split the field from the constraint: one projection or one evaluation per step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.checks import check_positive
from gamedyn.game import Params, PyTree
from gamedyn.geometry import Geometry, euclidean, per_player, proximal
from gamedyn.rules.base import (
    PROJECTED,
    Rule,
    apply_updates,
    build,
    check_geometry,
    check_step_size,
    projected_output,
    stepper,
)
from gamedyn.rules.optimistic import optimistic
from gamedyn.rules.registry import from_transformations, owned, register
from gamedyn.rules.turns import IN_TURN_FLOPS
from gamedyn.trees import add, copy, norm, scale, subtract, working_dtype


def forward_backward_forward(
    *optimizers: optax.GradientTransformation,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Project the look-ahead point only, and correct it by a second forward step.

    $$\bar z = P(z - \eta F(z)), \qquad z^+ = \bar z - \eta\,(F(\bar z) - F(z)).$$

    Without constraints this is extragradient exactly. Converges on monotone games for
    $\eta < 1/L$. Two field evaluations and one projection per step.

    Args:
        *optimizers: one optax transformation T for all players, or one each, in place
            of $-\eta F$; its state advances with the second half step only. Only
            scalar step sizes are covered by the theory.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule. Its iterates may leave the domain; its output is projected.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if the geometry is entropic.

    References:
        Tseng, A modified forward-backward splitting method for maximal monotone
        mappings, 2000.
    """
    steps = stepper(
        optimizers, geometry, supports=PROJECTED, rule="forward_backward_forward"
    )

    def update(field, params, rule_state, batches):
        (batch,) = batches
        first, _ = steps.updates(field(params, batch), rule_state, params)
        middle = steps.apply(params, first)
        second, rule_state = steps.updates(field(middle, batch), rule_state, params)
        # The correction is added to `middle`, not to `params`.
        return optax.apply_updates(middle, subtract(second, first)), rule_state

    return build(steps.init, update, output=projected_output(geometry))


def forward_reflected_backward(
    *optimizers: optax.GradientTransformation,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Correct the step by its last change, then project: `optimistic`, constrained.

    $$z^+ = P(z - 2\eta F(z) + \eta F(z_-)), \qquad F(z_-) := F(z_0) \text{ at first}.$$

    Mind the sign: the past field is subtracted from twice the current one; with
    $-2\eta F(z) - \eta F(z_-)$ the method diverges on xy.

    Without constraints this is OGDA exactly. Converges on monotone games for
    $\eta < 1/(2L)$. One field evaluation and one projection per step.

    Args:
        *optimizers: one optax transformation for all players, or one each.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if the geometry is entropic.

    References:
        Malitsky and Tam, A forward-backward splitting method for monotone inclusions
        without cocoercivity, 2020, arXiv:1808.04162.
    """
    check_geometry(geometry, PROJECTED, "forward_reflected_backward")
    return optimistic(*optimizers, geometry=geometry)


class ReflectedState(NamedTuple):
    """The state of the projected reflected gradient method.

    Attributes:
        optimizer: every player's transformation state.
        previous: the point before the current one.
    """

    optimizer: tuple[Any, ...]
    previous: Params


def projected_reflected_gradient(
    *optimizers: optax.GradientTransformation,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Evaluate the field at the point reflected through the current one.

    $$z^+ = P(z - \eta F(2z - z_-)), \qquad z_{-1} = z_0.$$

    On linear games without constraints it has OGDA's spectrum. Converges on monotone
    games for $\eta < (\sqrt 2 - 1)/L$. One field evaluation (outside the domain, it may
    be) and one projection per step.

    Args:
        *optimizers: one optax transformation for all players, or one each.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if the geometry is entropic.

    References:
        Malitsky, Projected reflected gradient methods for monotone variational
        inequalities, 2015, arXiv:1502.04968.
    """
    steps = stepper(
        optimizers, geometry, supports=PROJECTED, rule="projected_reflected_gradient"
    )

    def init(params):
        return ReflectedState(steps.init(params), copy(params))

    def update(field, params, rule_state, batches):
        states, previous = rule_state
        reflected = add(params, subtract(params, previous))
        changes, states = steps.updates(field(reflected, batches[0]), states, params)
        return steps.apply(params, changes), ReflectedState(states, params)

    return build(init, update)


class GoldenRatioState(NamedTuple):
    """The state of the adaptive golden ratio algorithm.

    Attributes:
        average: the averaged point of the step before.
        previous: the point before the current one.
        past: the field there.
        step_size: lambda of the step before.
        growth: theta, phi times the last two step sizes' ratio.
        first: whether no step has been done yet.
    """

    average: Params
    previous: Params
    past: Params
    step_size: jax.Array
    growth: jax.Array
    first: jax.Array


def adaptive_golden_ratio(
    initial_step: float | jax.Array,
    *,
    golden_ratio: float = 1.5,
    max_step: float = 1e6,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Let the step size follow the local Lipschitz constant (aGRAAL).

    $$\lambda_k = \min\Bigl\{
      \Bigl(\frac1\varphi + \frac1{\varphi^2}\Bigr)\lambda_{k-1},\;
      \frac{\varphi\,\theta_{k-1}}{4\lambda_{k-1}}
      \frac{\|z_k - z_{k-1}\|^2}{\|F(z_k) - F(z_{k-1})\|^2},\; \lambda_{\max}\Bigr\},
      \qquad \theta_k = \varphi\frac{\lambda_k}{\lambda_{k-1}},$$
    $$\bar z_k = \frac{(\varphi - 1) z_k + \bar z_{k-1}}{\varphi}, \qquad
      z_{k+1} = P(\bar z_k - \lambda_k F(z_k)),$$

    started by $z_1 = P(z_0 - \lambda_0 F(z_0))$, $\bar z_0 = z_0$, $\theta_0 = 1$.
    Norms run over all players together. No Lipschitz constant need be known, not even
    globally exist; converges on monotone games. One field evaluation and one
    projection per step.

    Args:
        initial_step: lambda_0, one positive number. It may grow by the factor
            $1/\varphi + 1/\varphi^2$ per step, so small is safe.
        golden_ratio: phi in (1, (1 + sqrt 5)/2]; 1.5 as published. At the upper end
            the step can never grow.
        max_step: the largest step size allowed.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule.

    Raises:
        TypeError: if `initial_step` is not a real scalar.
        ValueError: if it or `max_step` is not positive, `golden_ratio` is out of range,
            or the geometry is entropic.

    References:
        Malitsky, Golden ratio algorithms for variational inequalities, 2020,
        arXiv:1803.08832.
    """
    check_step_size(initial_step, "adaptive_golden_ratio")
    check_geometry(geometry, PROJECTED, "adaptive_golden_ratio")
    phi = golden_ratio
    if not 1 < phi <= (1 + 5**0.5) / 2:
        raise ValueError(f"golden_ratio must lie in (1, (1 + sqrt 5)/2], got {phi}")
    check_positive("max_step", max_step)

    def init(params):
        per_player(geometry, len(params), "geometry")
        dtype = working_dtype(params)
        return GoldenRatioState(
            average=params,
            previous=copy(params),
            past=jax.tree.map(jnp.zeros_like, params),
            step_size=jnp.asarray(initial_step, dtype),
            growth=jnp.ones((), dtype),
            first=jnp.array(True),
        )

    def update(field, params, rule_state, batches):
        average, previous, past, last, growth, first = rule_state
        direction = field(params, batches[0])
        moved = norm(subtract(params, previous)).astype(last.dtype)
        turned = norm(subtract(direction, past)).astype(last.dtype)
        # Nothing is divided unless the quotient is a proper number: at a fixed point
        # it is 0/0, and its derivative must be finite too.
        known = (moved > 0) & (turned > 0)
        radius = jnp.where(known, moved, 1) / jnp.where(known, turned, 1)
        local = phi * growth / 4 * radius * (radius / last)
        local = jnp.where(known & (local < max_step), local, max_step)
        step = jnp.minimum((1 / phi + 1 / phi**2) * last, local)
        step = jnp.clip(step, jnp.finfo(step.dtype).tiny, max_step)
        step = jnp.where(first, last, step)
        growth = jnp.where(first, growth, phi * step / last)
        average = add(average, scale(1 - 1 / phi, subtract(params, average)))
        moved_on = apply_updates(geometry, average, scale(-step, direction))
        state = GoldenRatioState(
            average, params, direction, step, growth, jnp.array(False)
        )
        return moved_on, state

    return build(init, update)


class AlexState(NamedTuple):
    """The state of alternation with extrapolated moves.

    Attributes:
        optimizer: every player's transformation state.
        ahead: the extrapolated point of player 1.
    """

    optimizer: tuple[Any, ...]
    ahead: PyTree


def alex_gda(
    *optimizers: optax.GradientTransformation,
    gamma: float = 2.0,
    delta: float = 2.0,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Alternate, each of the two players answering an extrapolated move of the other.

    $$x^+ = P(x - \alpha\,\partial_x \ell_1(x, \tilde y)), \qquad
      \tilde x^+ = x + \gamma\,(x^+ - x),$$
    $$y^+ = P(y - \beta\,\partial_y \ell_2(\tilde x^+, y)), \qquad
      \tilde y^+ = y + \delta\,(y^+ - y), \qquad \tilde y_0 = y_0.$$

    With $\gamma = \delta = 1$ it is `alternating`; with $\gamma = 2$, $\delta = 1$ the
    primal-dual hybrid gradient method of Chambolle and Pock (PDHG). With
    $\gamma = \delta = 2$ it needs $O(\kappa)$ steps on strongly convex-concave games,
    where alternation needs $O(\kappa^{3/2})$. One joint field evaluation per step.

    Args:
        *optimizers: one optax transformation for both players, or one each.
        gamma: the extrapolation of player 0.
        delta: the extrapolation of player 1.
        geometry: euclidean or projected, one for both players, or a tuple of one each.
            Extrapolated points may leave the domain, as they do in PDHG.

    Returns:
        The rule, for two players.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if the geometry is entropic, or at `init` if there are not exactly
            two players.

    References:
        Lee, Cho and Yun, Fundamental benefit of alternating updates in minimax
        optimization, 2024, arXiv:2402.10475; Chambolle and Pock, A first-order
        primal-dual algorithm for convex problems with applications to imaging, 2011.
    """
    steps = stepper(optimizers, geometry, supports=PROJECTED, rule="alex_gda")

    def init(params):
        if len(params) != 2:
            raise ValueError(f"alex_gda is for 2 players, got {len(params)}")
        return AlexState(steps.init(params), copy(params[1]))

    def move(player, direction, state, params, reach):
        change, state = steps.update(player, direction, state, params)
        own, moved = params[player], steps.apply_one(player, params, change)
        return moved, add(own, scale(reach, subtract(moved, own))), state

    def update(field, params, rule_state, batches):
        (batch,) = batches
        (first, second), ahead = rule_state
        x, y = params
        # Each mover stands at their own current point and sees the other ahead.
        slope = field((x, ahead), batch)[0]
        x, x_ahead, first = move(0, slope, first, params, gamma)
        slope = field((x_ahead, y), batch)[1]
        y, ahead, second = move(1, slope, second, params, delta)
        return (x, y), AlexState((first, second), ahead)

    return build(init, update)


# The registered rules.

register(
    "forward_backward_forward",
    from_transformations(forward_backward_forward),
    family="field and constraint split",
    summary="look ahead and project, then correct without projecting (Tseng)",
    formula="w = P(z - h F(z)); z' = w - h (F(w) - F(z))",
    source="Tseng 2000",
    guarantee="monotone: converges for h < 1/L",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "forward_reflected_backward",
    from_transformations(forward_reflected_backward),
    family="field and constraint split",
    summary="optimistic steps, projected once",
    formula="z' = P(z - 2h F(z) + h F(z-))",
    source="Malitsky and Tam 2020, arXiv:1808.04162",
    guarantee="monotone: converges for h < 1/(2L)",
    geometries=PROJECTED,
)
register(
    "projected_reflected_gradient",
    from_transformations(projected_reflected_gradient),
    family="field and constraint split",
    summary="step along the field of the reflected point",
    formula="z' = P(z - h F(2z - z-))",
    source="Malitsky 2015, arXiv:1502.04968",
    guarantee="monotone: converges for h < (sqrt(2) - 1)/L",
    geometries=PROJECTED,
)
register(
    "adaptive_golden_ratio",
    owned(adaptive_golden_ratio),
    family="field and constraint split",
    summary="steps from an averaged point, "
    "their size following the local curvature (aGRAAL)",
    formula="w = (z + 2 w-)/3; z' = P(w - h_k F(z)), h_0 = h",
    source="Malitsky 2020, arXiv:1803.08832",
    guarantee="monotone, locally Lipschitz: converges without knowing L",
    geometries=PROJECTED,
)
register(
    "alex_gda",
    from_transformations(alex_gda),
    family="moves in turn or at once",
    summary="alternation in which each answers an extrapolated move of the other",
    formula="x' = x - h F1(x, v); y' = y - h F2(2x' - x, y); v' = 2y' - y",
    source="Lee et al. 2024, arXiv:2402.10475",
    guarantee="strongly convex-concave: linear, O(kappa) steps",
    geometries=PROJECTED,
    num_players=2,
    flops=IN_TURN_FLOPS,
)


@register(
    "primal_dual",
    family="moves in turn or at once",
    summary="primal-dual hybrid gradient, with proximal maps if given "
    "(PDHG, Chambolle-Pock)",
    formula="x' = prox(x - h F1(x, y)); y' = prox(y - h F2(2x' - x, y))",
    source="Chambolle and Pock 2011",
    guarantee="bilinear plus convex: O(1/T) gap of the average for h < 1/|A|",
    geometries=PROJECTED,
    num_players=2,
    flops=IN_TURN_FLOPS,
)
def _primal_dual(
    step_size, *, num_players=2, geometry=euclidean, ratio=1.0, prox=None, **options
):
    """PDHG: steps h and `ratio` times h, and `prox`, one `prox(point, step)` each."""
    del num_players
    sizes = step_size, step_size * ratio
    if prox is not None:
        pairs = zip(per_player(prox, 2, "proximal map"), sizes, strict=True)
        geometry = tuple(proximal(one, size) for one, size in pairs)
    optimizers = map(optax.sgd, sizes)
    return alex_gda(*optimizers, gamma=2.0, delta=1.0, geometry=geometry, **options)
