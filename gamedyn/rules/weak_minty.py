"""Extragradient with two step sizes for problems that are not monotone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.loops import bounded_while
from gamedyn.rules.base import (
    EUCLIDEAN,
    PROJECTED,
    Rule,
    StepCount,
    build,
    check_geometry,
    check_step_size,
    project,
    projected_output,
)
from gamedyn.rules.registry import owned, register
from gamedyn.trees import add, copy, norm, scale, share, subtract, working_dtype

Weight = float | Callable[[jax.Array], Any]


def half_step_extragradient(
    step_size: float | jax.Array,
    *,
    weight: Weight = 0.5,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Move less far than one looks ahead, with a single projection (EG+).

    $$h = z - \gamma F(z), \qquad \bar z = P(h), \qquad
      z^+ = z - \alpha\,(h - \bar z + \gamma F(\bar z)).$$

    Without constraints it is `extragradient` with the step sizes $\alpha\gamma$ and
    $\gamma$. On problems whose solution satisfies the weak Minty inequality
    $\langle F(z), z - z^* \rangle \ge \rho \|F(z)\|^2$ it converges for
    $\gamma = 1/L$ if $\rho > -(1 - \alpha)/(2L)$ at the least for quadratics. Two field
    evaluations and one projection per step.

    Args:
        step_size: gamma, one positive number for all players.
        weight: alpha, a number in (0, 1] or a function of the number of steps done.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule. Its iterates may leave the domain; its output is projected.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `weight` is a number outside (0, 1], or the
            geometry is entropic.

    References:
        Diakonikolas, Daskalakis and Jordan, Efficient methods for structured
        nonconvex-nonconcave min-max optimization, 2021, arXiv:2011.00364; the single
        projection: Pethick et al., 2022, arXiv:2302.09831.
    """
    check_step_size(step_size, "half_step_extragradient")
    check_geometry(geometry, PROJECTED, "half_step_extragradient")
    _check_weight(weight)

    def init(params):
        per_player(geometry, len(params), "geometry")
        return StepCount(jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        (batch,) = batches
        dtype = working_dtype(params)
        ahead = subtract(params, scale(step_size, field(params, batch)))
        middle = project(geometry, ahead)
        pull = scale(step_size, field(middle, batch))
        alpha = _weight_at(weight, rule_state.num_steps, dtype)
        move = add(subtract(ahead, middle), pull)
        moved = subtract(params, scale(alpha, move))
        return moved, StepCount(rule_state.num_steps + 1)

    return build(init, update, output=projected_output(geometry))


class CorrectedState(NamedTuple):
    """The state of bias-corrected extragradient.

    Attributes:
        previous: the point before the current one.
        ahead: its look-ahead point, before projecting.
        num_steps: the number of steps done.
    """

    previous: Params
    ahead: Params
    num_steps: jax.Array


def bias_corrected_extragradient(
    step_size: float | jax.Array,
    *,
    weight: Weight | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Look ahead with an average of past noise, so that its bias dies out (BCSEG+).

    $$h = z - \gamma \hat F_\xi(z) + (1 - \alpha_t)\,(h_- - z_- +
      \gamma \hat F_\xi(z_-)), \qquad \bar z = P(h),$$
    $$z^+ = z - \alpha_t\,(h - \bar z + \gamma \hat F_{\xi'}(\bar z)), \qquad
      z_{-1} = h_{-1} = z_0.$$

    The same sample at z and at the point before, a fresh one at the middle. The
    look-ahead step stays constant, which problems that are not monotone need. Three
    field evaluations per step, on two independent batches.

    Args:
        step_size: gamma, one positive number for all players; below 1/L.
        weight: alpha_t, a number in (0, 1] or a decreasing function of the number t of
            steps done; $1 / (1 + t/100)^{1/2}$ halved, if `None`.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule, with `num_batches = 2`. Its iterates may leave the domain; its output
        is projected.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `weight` is a number outside (0, 1], or the
            geometry is entropic.

    References:
        Pethick, Fercoq, Latafat, Patrinos and Cevher, Solving stochastic weak Minty
        variational inequalities without increasing batch size, 2023, arXiv:2302.09029.
    """
    check_step_size(step_size, "bias_corrected_extragradient")
    check_geometry(geometry, PROJECTED, "bias_corrected_extragradient")
    weight = _half_decaying if weight is None else weight
    _check_weight(weight)

    def init(params):
        per_player(geometry, len(params), "geometry")
        return CorrectedState(params, copy(params), jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        shared, fresh = batches
        previous, ahead, num_steps = rule_state
        alpha = _weight_at(weight, num_steps, working_dtype(params))
        # One sample for both: with two, the difference would not cancel the noise.
        now, before = field(params, shared), field(previous, shared)
        noise = add(subtract(ahead, previous), scale(step_size, before))
        ahead = subtract(params, scale(step_size, now))
        ahead = add(ahead, scale(1 - alpha, noise))
        middle = project(geometry, ahead)
        move = add(subtract(ahead, middle), scale(step_size, field(middle, fresh)))
        moved = subtract(params, scale(alpha, move))
        return moved, CorrectedState(params, ahead, num_steps + 1)

    return build(init, update, num_batches=2, output=projected_output(geometry))


def _half_decaying(num_steps: jax.Array) -> jax.Array:
    return 0.5 / jnp.sqrt(1 + num_steps.astype(jnp.result_type(float)) / 100)


def curvature_extragradient(
    step_size: float | jax.Array,
    *,
    relaxation: float = 1.0,
    weak_minty: float = 0.0,
    line_search: bool = True,
    safety: float = 0.99,
    shrink: float = 0.7,
    max_trials: int = 60,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Move onto the separating half-space, looking ahead as far as curvature allows.

    $$\bar z = z - \gamma F(z), \qquad \alpha = \frac\delta\gamma +
      \frac{\langle F(z), F(\bar z)\rangle}{\|F(\bar z)\|^2}, \qquad
      z^+ = z - \lambda\alpha\gamma F(\bar z).$$

    The largest $\gamma = q^m \gamma_{\max}$, m = 0, 1, ..., is taken with
    $\gamma\|F(\bar z) - F(z)\| \le \nu \|\bar z - z\|$ (CurvatureEG+); without line
    search it is fixed (AdaptiveEG+). Norms run over all players. Converges on weak
    Minty problems for $\rho \ge \delta$, $\delta > -\gamma/2$. Two field evaluations
    per step, one more for every trial that fails.

    Args:
        step_size: gamma_max, one positive number for all players.
        relaxation: lambda in (0, 2).
        weak_minty: delta / gamma in (-1/2, 0]; 0 for monotone games, the more negative,
            the more general and the slower.
        line_search: whether gamma is searched.
        safety: nu in (0, 1), the share of the inverse local Lipschitz constant.
        shrink: q in (0, 1).
        max_trials: the largest m.
        geometry: euclidean only.

    Returns:
        The rule.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if an argument is outside its range, or the geometry not euclidean.

    References:
        Pethick, Latafat, Patrinos, Fercoq and Cevher, Escaping limit cycles: global
        convergence for constrained nonconvex-nonconcave minimax problems, 2022,
        arXiv:2302.09831.
    """
    check_step_size(step_size, "curvature_extragradient")
    check_geometry(geometry, EUCLIDEAN, "curvature_extragradient")
    check_positive_integer("max_trials", max_trials)
    for name, value, low, high in (
        ("relaxation", relaxation, 0, 2),
        ("safety", safety, 0, 1),
        ("shrink", shrink, 0, 1),
    ):
        if is_known(value) and not low < value < high:
            raise ValueError(f"{name} must lie in ({low}, {high}), got {value}")
    if is_known(weak_minty) and not -0.5 < weak_minty <= 0:
        raise ValueError(f"weak_minty must lie in (-1/2, 0], got {weak_minty}")

    def init(params):
        del params
        return ()

    def update(field, params, rule_state, batches):
        (batch,) = batches
        dtype = working_dtype(params)
        slope = field(params, batch)

        def look(gamma):
            return field(subtract(params, scale(gamma, slope)), batch)

        def too_far(trial):
            _, ahead = trial
            # Both sides of the condition hold gamma, as |w - z| = gamma |F(z)|.
            turned = subtract(ahead, slope)
            return norm(turned) > jnp.asarray(safety, dtype) * norm(slope)

        def retry(trial):
            gamma = trial[0] * jnp.asarray(shrink, dtype)
            return gamma, look(gamma)

        gamma = jnp.asarray(step_size, dtype)
        trial = gamma, look(gamma)
        if line_search:
            trial, _ = bounded_while(too_far, retry, trial, max_trials)
        gamma, ahead = trial
        # Where the field ahead vanishes there is nowhere to move: the ratio is 0.
        ratio = share(slope, ahead)
        length = jnp.asarray(relaxation, dtype) * gamma * (weak_minty + ratio)
        return subtract(params, scale(length, ahead)), rule_state

    return build(init, update)


def _check_weight(weight: Weight) -> None:
    if not callable(weight) and is_known(weight) and not 0 < weight <= 1:
        raise ValueError(f"weight must lie in (0, 1], got {weight}")


def _weight_at(weight: Weight, num_steps: jax.Array, dtype: Any) -> jax.Array:
    return jnp.asarray(weight(num_steps) if callable(weight) else weight, dtype)


# The registered rules.

register(
    "half_step_extragradient",
    owned(half_step_extragradient),
    family="looking ahead",
    summary="EG+ with a single projection",
    formula="u = z - h F(z); w = P(u); z' = z - (u - w + h F(w))/2",
    source="Diakonikolas et al. 2021, arXiv:2011.00364; "
    "Pethick et al. 2022, arXiv:2302.09831",
    guarantee="weak Minty, rho > -1/(4L): best |F|^2 in O(1/k)",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "adaptive_extragradient_plus",
    owned(curvature_extragradient, line_search=False),
    family="looking ahead",
    summary="EG+ that moves onto the separating half-space (AdaptiveEG+)",
    formula="w = z - h F(z); z' = z - a h F(w), a = <F(z), F(w)>/|F(w)|^2",
    source="Pethick et al. 2022, arXiv:2302.09831",
    guarantee="weak Minty, rho >= d > -h/2 for h < 1/L: best |F|^2 in O(1/k)",
    evaluations=2,
    geometries=EUCLIDEAN,
)
register(
    "curvature_extragradient_plus",
    owned(curvature_extragradient),
    family="looking ahead",
    summary="AdaptiveEG+ that looks ahead as far as local curvature allows "
    "(CurvatureEG+)",
    formula="the largest g <= h with g |F(w) - F(z)| <= .99 |w - z|, "
    "then as AdaptiveEG+",
    source="Pethick et al. 2022, arXiv:2302.09831",
    guarantee="weak Minty, rho >= d > -g/2: converges without knowing L",
    evaluations=2,
    geometries=EUCLIDEAN,
    flops=3,
)
register(
    "bias_corrected_extragradient",
    owned(bias_corrected_extragradient),
    family="looking ahead",
    summary="SEG+ that looks ahead with an average of past noise (BCSEG+)",
    formula="w = z - h F_i(z) + (1-a)(w- - z- + h F_i(z-)); z' = z - a h F_j(w)",
    source="Pethick et al. 2023, arXiv:2302.09029",
    guarantee="weak Minty: converges with a constant look-ahead, also under noise",
    evaluations=3,
    geometries=PROJECTED,
    needs=("independent batches",),
)
