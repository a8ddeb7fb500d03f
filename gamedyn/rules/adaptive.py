"""Golden-ratio steps, and extragradient with adaptive step sizes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive
from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.rules.base import (
    PROJECTED,
    Rule,
    apply_updates,
    build,
    check_geometry,
    check_step_size,
)
from gamedyn.rules.registry import owned, register
from gamedyn.trees import add, copy, inner, norm, scale, subtract, working_dtype

_GOLDEN = (1 + 5**0.5) / 2


class GoldenState(NamedTuple):
    """The state of the golden ratio algorithm.

    Attributes:
        average: the averaged point of the step before.
    """

    average: Params


def golden_ratio(
    step_size: float | jax.Array,
    *,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Step from an averaged point along the field of the current one (GRAAL).

    $$\bar z = \frac{(\varphi - 1) z + \bar z_-}{\varphi}, \qquad
      z^+ = P(\bar z - \lambda F(z)), \qquad \varphi = \frac{1 + \sqrt 5}2, \quad
      \bar z_{-1} = z_0.$$

    Converges on monotone games for $\lambda \le \varphi / (2L)$. One field evaluation
    and one projection per step; `adaptive_golden_ratio` needs no L.

    Args:
        step_size: lambda, one positive number for all players.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, or the geometry is entropic.

    References:
        Malitsky, Golden ratio algorithms for variational inequalities, 2020,
        arXiv:1803.08832.
    """
    check_step_size(step_size, "golden_ratio")
    check_geometry(geometry, PROJECTED, "golden_ratio")

    def init(params):
        per_player(geometry, len(params), "geometry")
        return GoldenState(params)

    def update(field, params, rule_state, batches):
        gap = subtract(params, rule_state.average)
        average = add(rule_state.average, scale(1 - 1 / _GOLDEN, gap))
        # The field at the iterate, the step from the average: not both at one point.
        step = scale(-step_size, field(params, batches[0]))
        return apply_updates(geometry, average, step), GoldenState(average)

    return build(init, update)


class AdaptiveState(NamedTuple):
    """The state of an adaptive extragradient method.

    Attributes:
        total: the sum that the step size falls with.
        average: the weighted average of the middle points.
        weight: the sum of their weights.
    """

    total: jax.Array
    average: Params
    weight: jax.Array


def universal_mirror_prox(
    step_size: float | jax.Array,
    *,
    diameter: float = 2**0.5,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extragradient whose step falls with the distances it has moved.

    $$\eta_t = D \Bigl(G_0^2 + \sum_{s<t} Z_s^2\Bigr)^{-1/2}, \qquad Z_t^2 =
      \frac{\|\bar z - z^+\|^2 + \|\bar z - z\|^2}{5\eta_t^2},$$

    with extragradient's $\bar z = P(z - \eta_t F(z))$, $z^+ = P(z - \eta_t F(\bar z))$.
    The gap of the average of the middle points falls with 1/T in smooth games, with
    $1/\sqrt T$ in others and under noise, without knowing which. Two field evaluations
    per step.

    Args:
        step_size: eta_0 = D / G_0, one positive number; that of extragradient or more.
        diameter: D, a bound on the distance of the start from a solution.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule; its output is the average of the middle points.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it or `diameter` is not positive, or the geometry is entropic.

    References:
        Bach and Levy, A universal algorithm for variational inequalities adaptive to
        smoothness and noise, 2019, arXiv:1902.01637.
    """
    check_positive("diameter", diameter)

    def step_and_gain(total, dtype):
        # The total in units of G_0^2 = (D / eta_0)^2: what is left are ratios, and no
        # unit of the losses can overflow.
        ratio = 1 / jnp.sqrt(1 + total)
        eta = jnp.asarray(step_size, dtype) * ratio

        def gain(start, middle, end, change):
            del change
            steps = subtract(middle, end), subtract(middle, start)
            return (norm(steps).astype(dtype) / (diameter * ratio)) ** 2 / 5

        return eta, jnp.ones((), dtype), gain

    return _adaptive("universal_mirror_prox", step_size, geometry, step_and_gain)


def adaptive_mirror_prox(
    step_size: float | jax.Array = 1.0,
    *,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extragradient whose step falls with how much the field has turned (AdaProx).

    $$\eta_t = \eta_0 \Bigl(1 + \sum_{s<t} \|F(\bar z_s) - F(z_s)\|^2\Bigr)^{-1/2},$$

    with extragradient's two half steps. No constant need be known, and the field may be
    singular at the border. Two field evaluations per step.

    Args:
        step_size: eta_0, one positive number; 1 as published.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule; its output is the average of the middle points, weighted by the steps.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, or the geometry is entropic.

    References:
        Antonakopoulos, Belmega and Mertikopoulos, Adaptive extra-gradient methods for
        min-max optimization and games, 2021, arXiv:2010.12100; Kavis et al., UniXGrad,
        2019, arXiv:1910.13857.
    """

    def step_and_gain(total, dtype):
        eta = jnp.asarray(step_size, dtype) / jnp.sqrt(1 + total)

        def gain(start, middle, end, change):
            del start, middle, end
            return inner(change, change, dtype)

        return eta, eta, gain

    return _adaptive("adaptive_mirror_prox", step_size, geometry, step_and_gain)


def _adaptive(name, step_size, geometry, step_and_gain) -> Rule:
    """Make extragradient with a step from `step_and_gain(total, dtype)`.

    That returns the step size, the weight of the middle point in the average, and the
    function of the start, the middle, the end and the change of the field that gives
    what is added to the total.
    """
    check_step_size(step_size, name)
    check_geometry(geometry, PROJECTED, name)

    def init(params):
        per_player(geometry, len(params), "geometry")
        zero = jnp.zeros((), working_dtype(params))
        return AdaptiveState(zero, params, copy(zero))

    def update(field, params, rule_state, batches):
        (batch,) = batches
        total, average, weight = rule_state
        eta, share, gain = step_and_gain(total, total.dtype)
        slope = field(params, batch)
        middle = apply_updates(geometry, params, scale(-eta, slope))
        ahead = field(middle, batch)
        end = apply_updates(geometry, params, scale(-eta, ahead))
        total = total + gain(params, middle, end, subtract(ahead, slope))
        weight = weight + share
        average = add(average, scale(share / weight, subtract(middle, average)))
        return end, AdaptiveState(total, average, weight)

    return build(init, update, output=lambda params, rule_state: rule_state.average)


# The registered rules.

register(
    "golden_ratio",
    owned(golden_ratio),
    family="field and constraint split",
    summary="steps from a golden-ratio average of the iterates (GRAAL)",
    formula="w = ((p - 1) z + w-)/p; z' = P(w - h F(z)), p = 1.618",
    source="Malitsky 2020, arXiv:1803.08832",
    guarantee="monotone: converges for h <= 1.618/(2L)",
    geometries=PROJECTED,
)
register(
    "universal_mirror_prox",
    owned(universal_mirror_prox),
    family="field and constraint split",
    summary="extragradient whose step falls with the distances moved; averaged",
    formula="h_t = D/sqrt(D^2/h^2 + sum Z_s^2)",
    source="Bach and Levy 2019, arXiv:1902.01637",
    guarantee="monotone on a compact set: O(1/T) gap, O(1/sqrt(T)) if rough or noisy",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "adaptive_mirror_prox",
    owned(adaptive_mirror_prox),
    family="field and constraint split",
    summary="extragradient whose step falls with how the field turns; "
    "averaged (AdaProx)",
    formula="h_t = h/sqrt(1 + sum |F(w_s) - F(z_s)|^2)",
    source="Antonakopoulos et al. 2021, arXiv:2010.12100; "
    "Kavis et al. 2019, arXiv:1910.13857",
    guarantee="monotone: O(1/T) gap if smooth, O(1/sqrt(T)) if not, without constants",
    evaluations=2,
    geometries=PROJECTED,
)
