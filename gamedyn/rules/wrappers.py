"""Rules made of rules: lookahead, averaging, restarts and Anderson mixing."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, check_share
from gamedyn.game import Params
from gamedyn.rules.base import Rule, build, of_a_rule
from gamedyn.trees import flatten, select, unflatten


class LookaheadState(NamedTuple):
    """The state of lookahead.

    Attributes:
        inner: the inner rule's state.
        slow: the slow weights.
        num_steps: the number of steps since the slow weights moved.
    """

    inner: Any
    slow: Params
    num_steps: jax.Array


@of_a_rule
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
        TypeError: if `rule` is not a `Rule`.
        ValueError: if `period` is not a positive integer or `strength` outside (0, 1].

    References:
        Chavdarova et al., Taming GANs with lookahead-minmax, 2021, arXiv:2006.14567.
    """
    check_positive_integer("period", period)
    check_share("strength", strength, zero=False, one=True)

    def init(params):
        return LookaheadState(rule.init(params), params, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        inner, slow, count = rule_state
        fast, inner = rule.update(field, params, inner, batches)
        count = (count + 1) % period
        # All players go back together: one after the other would be another method.
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
        domain=rule.domain,
    )


def _backtrack(inner: Any, params: Params, due: jax.Array) -> Any:
    """Let nested slow weights follow the backtrack of the level above."""
    if not isinstance(inner, LookaheadState):
        return inner
    slow = select(due, params, inner.slow)
    return inner._replace(slow=slow, inner=_backtrack(inner.inner, params, due))


class AveragedState(NamedTuple):
    """The state of an averaged rule.

    Attributes:
        inner: the inner rule's state.
        average: the average of the start and all iterates.
        num_steps: the number of steps done.
    """

    inner: Any
    average: Params
    num_steps: jax.Array


@of_a_rule
def averaged(
    rule: Rule,
    *,
    kind: Literal["uniform", "linear", "exponential"] = "uniform",
    decay: float | None = None,
) -> Rule:
    r"""Report the average of the iterates; the dynamics stay as they are.

    $$\text{uniform: } w_t = w_{t-1} + \frac{z_t - w_{t-1}}{t + 1}, \qquad
      \text{linear: } w_t = w_{t-1} + \frac{2 (z_t - w_{t-1})}{t + 2},$$
    $$\text{exponential: } w_t = \beta w_{t-1} + (1 - \beta) z_t, \qquad w_0 = z_0.$$

    In convex-concave games the uniform average of the *middle* points of extragradient
    and mirror-prox has an O(1/T) gap; averaged here are the iterates. Linear averages
    give $z_t$ the weight t + 1, so that the start is forgotten sooner.

    Args:
        rule: the rule whose output is averaged.
        kind: "uniform", "linear" or "exponential".
        decay: beta in [0, 1), for the exponential average only.

    Returns:
        The rule; its output is the average.

    Raises:
        TypeError: if `rule` is not a `Rule`.
        ValueError: if `kind` is unknown, or `decay` missing, superfluous or not in
            [0, 1).

    References:
        Nemirovski, 2004; for GANs: Yazici et al., 2019, arXiv:1806.04498.
    """
    if kind not in ("uniform", "linear", "exponential"):
        raise ValueError(
            f"kind must be 'uniform', 'linear' or 'exponential', got {kind!r}"
        )
    if (decay is None) != (kind != "exponential"):
        raise ValueError(f"a {kind} average was given decay={decay}")
    if decay is not None:
        check_share("decay", decay, zero=True, one=False)

    def init(params):
        return AveragedState(rule.init(params), params, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        inner, average, count = rule_state
        params, inner = rule.update(field, params, inner, batches)
        count = count + 1

        def blend(mean, point):
            if decay is not None:
                weight = 1 - decay
            elif kind == "linear":
                weight = 2 / (count + 2).astype(mean.dtype)
            else:
                weight = 1 / (count + 1).astype(mean.dtype)
            return mean + weight * (point - mean)

        average = jax.tree.map(blend, average, rule.output(params, inner))
        return params, AveragedState(inner, average, count)

    return build(
        init,
        update,
        num_batches=rule.num_batches,
        output=lambda params, rule_state: rule_state.average,
        period=rule.period,
        domain=rule.domain,
    )


class RestartedState(NamedTuple):
    """The state of a restarted rule.

    Attributes:
        inner: the inner rule's state.
        num_steps: the number of steps since the last restart.
    """

    inner: Any
    num_steps: jax.Array


@of_a_rule
def restarted(rule: Rule, *, period: int) -> Rule:
    r"""Start a rule anew from where it is, every `period` steps.

    $$s \leftarrow \text{init}(z) \qquad \text{every } k \text{ steps},$$

    s being all that the rule remembers: an anchored method gets a new anchor and counts
    from zero. On problems that grow sharply away from the solution this turns a rate of
    1/k into a linear one. Keys in the state start anew as well, so that a rule that
    tosses coins repeats them: give such rules a long period.

    Args:
        rule: the rule.
        period: k, the number of steps between two restarts.

    Returns:
        The rule.

    Raises:
        TypeError: if `rule` is not a `Rule`.
        ValueError: if `period` is not a positive integer.

    References:
        Roulet and d'Aspremont, Sharpness, restart and acceleration, 2017,
        arXiv:1702.03828.
    """
    check_positive_integer("period", period)

    def init(params):
        return RestartedState(rule.init(params), jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        inner, count = rule_state
        params, inner = rule.update(field, params, inner, batches)
        count = (count + 1) % period
        inner = select(count == 0, rule.init(params), inner)
        return params, RestartedState(inner, count)

    return build(
        init,
        update,
        num_batches=rule.num_batches,
        output=lambda params, rule_state: rule.output(params, rule_state.inner),
        period=math.lcm(rule.period, period),
        domain=rule.domain,
    )


class AndersonState(NamedTuple):
    """The state of Anderson mixing.

    Attributes:
        inner: the inner rule's state.
        point: the point before, as one vector.
        gap: the inner rule's update there, as one vector.
        points: the last m differences of points, the newest first, shape `(m, d)`.
        gaps: the last m differences of gaps.
        first: whether no step has been done yet.
    """

    inner: Any
    point: jax.Array
    gap: jax.Array
    points: jax.Array
    gaps: jax.Array
    first: jax.Array


@of_a_rule
def anderson(rule: Rule, *, memory: int = 10) -> Rule:
    r"""Mix the last steps of a rule by least squares (GDA-AM over descent).

    $$f_k = G(z_k) - z_k, \qquad \gamma = \arg\min \|f_k - \Delta F \gamma\|, \qquad
      z_{k+1} = z_k + f_k - (\Delta Z + \Delta F)\gamma,$$

    G being one step of the rule, and the columns of $\Delta Z$, $\Delta F$ the last m
    differences of points and of f. On a linear map of d parameters it is exact after
    d + 1 steps for $m \ge d$, unless it stagnates, as it does over simultaneous descent
    on a bilinear game: mix `alternating` or `extragradient`. The least squares problem
    is solved for all players together, with its singular values below rounding cut off.
    Costs what the rule costs, and m vectors twice.

    Args:
        rule: the rule that makes the map G.
        memory: m, the number of differences kept.

    Returns:
        The rule.

    Raises:
        TypeError: if `rule` is not a `Rule`.
        ValueError: if `memory` is not a positive integer.

    References:
        He, Zhao, Xi, Ho and Saad, GDA-AM: on the effectiveness of solving minimax
        optimization via Anderson acceleration, 2022, arXiv:2110.02457.
    """
    check_positive_integer("memory", memory)

    def init(params):
        point = flatten(params)
        none = jnp.zeros((memory, point.size), point.dtype)
        return AndersonState(
            rule.init(params),
            point,
            jnp.zeros_like(point),
            none,
            jnp.copy(none),
            jnp.array(True),
        )

    def update(field, params, rule_state, batches):
        inner, last_point, last_gap, points, gaps, first = rule_state
        stepped, inner = rule.update(field, params, inner, batches)
        point = flatten(params)
        gap = flatten(stepped) - point

        def remember(rows, change):
            change = jnp.where(first, jnp.zeros_like(change), change)
            return jnp.concatenate([change[None], rows[:-1]])

        points = remember(points, point - last_point)
        gaps = remember(gaps, gap - last_gap)
        # Differences of equal points are rounding: cut them off well above it.
        rcond = 32 * max(gaps.shape) * float(jnp.finfo(gap.dtype).eps)
        weights = jnp.linalg.lstsq(gaps.T, gap, rcond=rcond)[0]
        moved = point + gap - weights @ (points + gaps)
        state = AndersonState(inner, point, gap, points, gaps, jnp.array(False))
        return unflatten(moved, params), state

    return build(init, update, num_batches=rule.num_batches, period=rule.period)
