"""Rules made of rules: lookahead and averaging."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.game import Params
from gamedyn.rules.base import Rule, build, select


class LookaheadState(NamedTuple):
    """The inner rule's state, the slow weights, and the steps since the last sync."""

    inner: Any
    slow: Params
    num_steps: jax.Array


def lookahead(rule: Rule, *, period: int, strength: float) -> Rule:
    r"""Every `period` steps, go back part of the way to where the cycle began.

    $$\tilde z \leftarrow \tilde z + \alpha (z - \tilde z), \qquad z \leftarrow \tilde z
      \qquad \text{every } k \text{ steps},$$

    for all players together. Over simultaneous descent on a bilinear game one cycle
    multiplies by $1 - \alpha + \alpha(1 + i\eta\sigma)^k$. May be nested; an outer
    backtrack resets the slow weights inside. The inner rule keeps its state.

    Args:
        rule: the rule that makes the k fast steps.
        period: k, counted in steps of `rule`.
        strength: alpha in (0, 1], the share of the way that is kept; 1 changes nothing.

    Returns:
        The rule; its output is the slow weights.

    Raises:
        ValueError: if `period` is not a positive integer or `strength` outside (0, 1].

    References:
        Chavdarova et al., Taming GANs with lookahead-minmax, 2021, arXiv:2006.14567.
    """
    check_positive_integer("period", period)
    if is_known(strength) and not 0 < strength <= 1:
        raise ValueError(f"strength must lie in (0, 1], got {strength}")

    def init(params):
        return LookaheadState(rule.init(params), params, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        inner, slow, count = rule_state
        fast, inner = rule.update(field, params, inner, batches)
        count = (count + 1) % period
        synced = jax.tree.map(lambda s, f: s + strength * (f - s), slow, fast)
        due = count == 0
        slow = select(due, synced, slow)
        fast = select(due, synced, fast)
        return fast, LookaheadState(_backtrack(inner, fast, due), slow, count)

    return build(
        init,
        update,
        num_batches=rule.num_batches,
        output=lambda params, rule_state: rule_state.slow,
        period=math.lcm(rule.period, period),
    )


def _backtrack(inner: Any, params: Params, due: jax.Array) -> Any:
    """Let nested slow weights follow the backtrack of the level above."""
    if not isinstance(inner, LookaheadState):
        return inner
    slow = select(due, params, inner.slow)
    return inner._replace(slow=slow, inner=_backtrack(inner.inner, params, due))


class AveragedState(NamedTuple):
    """The inner rule's state, the average, and the number of points it holds."""

    inner: Any
    average: Params
    num_steps: jax.Array


def averaged(
    rule: Rule,
    *,
    kind: Literal["uniform", "exponential"] = "uniform",
    decay: float | None = None,
) -> Rule:
    r"""Report the average of the iterates; the dynamics stay as they are.

    $$\text{uniform: } w_t = w_{t-1} + \frac{z_t - w_{t-1}}{t + 1}, \qquad
      \text{exponential: } w_t = \beta w_{t-1} + (1 - \beta) z_t, \qquad w_0 = z_0.$$

    Uniform averages of extragradient and mirror-prox have an O(1/T) gap in
    convex-concave games.

    Args:
        rule: the rule whose output is averaged.
        kind: "uniform" or "exponential".
        decay: beta in [0, 1), for the exponential average only.

    Returns:
        The rule; its output is the average.

    Raises:
        ValueError: if `kind` is unknown, or `decay` missing, superfluous or not in
            [0, 1).

    References:
        Nemirovski, 2004; for GANs: Yazici et al., 2019, arXiv:1806.04498.
    """
    if kind not in ("uniform", "exponential"):
        raise ValueError(f"kind must be 'uniform' or 'exponential', got {kind!r}")
    if (decay is None) != (kind == "uniform"):
        raise ValueError(f"a {kind} average was given decay={decay}")
    if decay is not None and not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")

    def init(params):
        return AveragedState(rule.init(params), params, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        inner, average, count = rule_state
        params, inner = rule.update(field, params, inner, batches)
        count = count + 1

        def blend(mean, point):
            weight = 1 / (count + 1).astype(mean.dtype) if decay is None else 1 - decay
            return mean + weight * (point - mean)

        average = jax.tree.map(blend, average, rule.output(params, inner))
        return params, AveragedState(inner, average, count)

    return build(
        init,
        update,
        num_batches=rule.num_batches,
        output=lambda params, rule_state: rule_state.average,
        period=rule.period,
    )
