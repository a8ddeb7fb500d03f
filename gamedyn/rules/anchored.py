"""Pull back to the start while looking ahead: anchored methods."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive, is_known
from gamedyn.game import Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.rules.base import (
    EUCLIDEAN,
    PROJECTED,
    Rule,
    apply_updates,
    build,
    check_geometry,
    check_step_size,
    of_a_rule,
)
from gamedyn.rules.registry import owned, register
from gamedyn.trees import add, copy, scale, subtract, working_dtype


class _Variant(NamedTuple):
    """The settings in which the anchored methods differ.

    Attributes:
        offset: the pull to the anchor is `beta_k = 1 / (k + offset)`.
        damped: whether the first half step is shortened to `(1 - beta_k) eta_k`.
        past: whether the first half step uses the field of the past half point.
        decay: `decay(k, beta_k, squared) -> eta_{k+1} / eta_k`, where `squared` is
            `(eta_k / eta_0)^2`.
    """

    offset: int
    damped: bool
    past: bool
    decay: Callable[[jax.Array, jax.Array, jax.Array], Any]


def _constant(k: jax.Array, beta: jax.Array, squared: jax.Array) -> float:
    del k, beta, squared
    return 1.0


def _eag_v(k: jax.Array, beta: jax.Array, squared: jax.Array) -> jax.Array:
    del beta
    a = 0.618**2 * squared  # (eta_k L)^2, as eta_0 = 0.618 / L
    return 1 - a / ((k + 1) * (k + 3) * (1 - a))


def _popov(k: jax.Array, beta: jax.Array, squared: jax.Array) -> jax.Array:
    a = squared / 3  # 4 (eta_k L)^2, as eta_0 = 1 / (2 sqrt(3) L)
    return (1 - beta**2 - a) / ((k + 3) * (1 - a) * (1 - beta) * beta)


_VARIANTS = {
    "eag_c": _Variant(offset=2, damped=False, past=False, decay=_constant),
    "eag_v": _Variant(offset=2, damped=False, past=False, decay=_eag_v),
    "feg": _Variant(offset=1, damped=True, past=False, decay=_constant),
    "popov": _Variant(offset=2, damped=True, past=True, decay=_popov),
}


class AnchoredState(NamedTuple):
    """The state of an anchored method.

    Attributes:
        anchor: the start z_0.
        num_steps: the number k of steps done.
        ratio: the step size of the next step over the first one, eta_k / eta_0.
        past: the field at the last half point (anchored Popov), else `None`.
    """

    anchor: Params
    num_steps: jax.Array
    ratio: jax.Array
    past: Params | None


def anchored_extragradient(
    step_size: float | jax.Array,
    *,
    variant: Literal["eag_c", "eag_v", "feg", "popov"] = "eag_c",
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extragradient with a vanishing pull back to its start.

    $$\bar z = z_k + \beta_k (z_0 - z_k) - \gamma_k F, \qquad
      z_{k+1} = z_k + \beta_k (z_0 - z_k) - \eta_k F(\bar z).$$

    | variant | $\beta_k$ | $\gamma_k$ | first $F$ at | $\eta_0$ | bound |
    |---|---|---|---|---|---|
    | `eag_c` | $1/(k+2)$ | $\eta_0$ | $z_k$ | $1/(8L)$ | $260/(k+1)^2$ |
    | `eag_v` | $1/(k+2)$ | $\eta_k$ | $z_k$ | $.618/L$ | $27/((k+1)(k+2))$ |
    | `feg` | $1/(k+1)$ | $(1-\beta_k)\eta_0$ | $z_k$ | $1/L$ | $4/k^2$ |
    | `popov` | $1/(k+2)$ | $(1-\beta_k)\eta_k$ | $\bar z_{k-1}$ | $.289/L$ | - |

    The bound is on $\|F(z_k)\|^2 / (LD)^2$ in monotone games, with the Lipschitz
    constant L and the distance D of the start from a solution; extragradient's last
    iterate has only $O(1/k)$, but is faster in strongly monotone games. The decreasing
    step sizes are, with L recovered from the given $\eta_0$ ($.289 = 1/(2\sqrt3)$),

    $$\text{eag\_v: } \eta_{k+1} = \eta_k \Bigl(1 -
      \frac{\eta_k^2 L^2}{(k+1)(k+3)(1 - \eta_k^2 L^2)}\Bigr), \qquad
      \text{popov: } \eta_{k+1} = \eta_k
      \frac{\beta_{k+1}(1 - \beta_k^2 - 4L^2\eta_k^2)}
      {(1 - 4L^2\eta_k^2)(1 - \beta_k)\beta_k}.$$

    Two field evaluations per step; `popov` one (two in the first step, where
    $\bar z_{-1} = z_0$). A step draws one batch; the theory is deterministic.

    Args:
        step_size: eta_0, one positive number for all players. The scheme owns its
            step, so there is no optax transformation.
        variant: a row of the table.
        geometry: one for all players, or a tuple of one each. On projected geometry
            both points are projected, which for `eag_c` is the published constrained
            method (Cai, Oikonomou and Zheng), for the others unproven.

    Returns:
        The rule.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `variant` is unknown, or the geometry is
            entropic.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> rule = gd.rules.anchored_extragradient(1.0, variant="feg")
        >>> x, y = gd.solve(game, rule, (jnp.array(1.0), jnp.array(0.0)), 2).params
        >>> print(f"{x:.1f} {y:.1f}")
        0.0 1.0

    References:
        Yoon and Ryu, Accelerated algorithms for smooth convex-concave minimax problems
        with O(1/k^2) rate on squared gradient norm, 2021, arXiv:2102.07922; Lee and
        Kim, Fast extra gradient methods for smooth structured nonconvex-nonconcave
        minimax problems, 2021, arXiv:2106.02326; Tran-Dinh and Luo, Halpern-type
        accelerated and splitting algorithms for monotone inclusions, 2021,
        arXiv:2110.08150; Cai, Oikonomou and Zheng, Accelerated algorithms for
        constrained nonconvex-nonconcave min-max optimization and comonotone
        inclusion, 2022, arXiv:2206.05248.
    """
    check_step_size(step_size, "anchored_extragradient")
    check_geometry(geometry, PROJECTED, "anchored_extragradient")
    if variant not in _VARIANTS:
        raise ValueError(
            f"variant must be one of {', '.join(_VARIANTS)}, got {variant!r}"
        )
    offset, damped, reuse, decay = _VARIANTS[variant]

    def init(params):
        per_player(geometry, len(params), "geometry")
        return AnchoredState(
            anchor=params,
            num_steps=jnp.zeros((), jnp.int32),
            ratio=jnp.ones((), working_dtype(params)),
            past=jax.tree.map(jnp.zeros_like, params) if reuse else None,
        )

    def update(field, params, rule_state, batches):
        (batch,) = batches
        anchor, num_steps, ratio, past = rule_state
        k = num_steps.astype(ratio.dtype)
        beta = 1 / (k + offset)
        eta = jnp.asarray(step_size, ratio.dtype) * ratio
        # Towards z_0, the start of the run, in both half steps.
        pull = scale(beta, subtract(anchor, params))

        def move(direction, length):
            return apply_updates(geometry, params, add(pull, scale(-length, direction)))

        if reuse:
            # Only the first step evaluates the field twice: a branch, not a select.
            ahead = jax.lax.cond(
                num_steps == 0, lambda: field(params, batch), lambda: past
            )
        else:
            ahead = field(params, batch)
        current = field(move(ahead, (1 - beta) * eta if damped else eta), batch)
        state = AnchoredState(
            anchor, num_steps + 1, ratio * decay(k, beta, ratio**2), current
        )
        return move(current, eta), state if reuse else state._replace(past=None)

    return build(init, update)


class DecayingState(NamedTuple):
    """The state of a method with a decaying pull.

    Attributes:
        anchor: the start z_0.
        num_steps: the number k of steps done.
    """

    anchor: Params
    num_steps: jax.Array


def decaying_anchor_extragradient(
    step_size: float | jax.Array,
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extragradient on the field plus a vanishing pull, taken implicitly.

    $$\bar z = z - \eta\varepsilon_k (z - z_0) - \eta F(z), \qquad
      z^+ = z_0 + \frac{z - z_0 - \eta F(\bar z)}{1 + \eta\varepsilon_{k+1}}, \qquad
      \eta\varepsilon_k = \frac{\alpha}{k + \beta}.$$

    The general anchored extragradient method: a flow with Tikhonov regularisation,
    discretised. Two field evaluations per step.

    Args:
        step_size: eta, one positive number for all players, below 1/L.
        alpha: how slowly the pull vanishes, positive.
        beta: when it begins to, at least alpha.
        geometry: euclidean only.

    Returns:
        The rule.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, not $0 < \alpha \le \beta$, or the geometry
            is not euclidean.

    References:
        Bot and Chenchene, Extra-gradient method with flexible anchoring: strong
        convergence and fast residual decay, 2024, arXiv:2410.14369.
    """
    check_step_size(step_size, "decaying_anchor_extragradient")
    check_geometry(geometry, EUCLIDEAN, "decaying_anchor_extragradient")
    if is_known(alpha) and is_known(beta) and not 0 < alpha <= beta:
        raise ValueError(f"expected 0 < alpha <= beta, got {alpha} and {beta}")

    def init(params):
        return DecayingState(params, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        (batch,) = batches
        anchor, num_steps = rule_state
        k = num_steps.astype(working_dtype(params))
        away = subtract(params, anchor)
        pull = scale(-alpha / (k + beta), away)
        ahead = add(params, pull, scale(-step_size, field(params, batch)))
        moved = subtract(away, scale(step_size, field(ahead, batch)))
        moved = add(anchor, scale(1 / (1 + alpha / (k + 1 + beta)), moved))
        return moved, DecayingState(anchor, num_steps + 1)

    return build(init, update)


def anchored_descent(
    step_size: float | jax.Array,
    *,
    pull: float = 0.3,
    step_decay: float = 0.7,
    pull_decay: float = 0.9,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Descend simultaneously with ever smaller steps, pulled back to the start.

    $$z_{k+1} = P\bigl(z_k - \eta_k F(z_k) + r_k (z_0 - z_k)\bigr), \qquad
      \eta_k = \frac{\eta}{k^p}, \quad r_k = \frac{r}{k^q}, \quad k = 1, 2, \dots$$

    The pull makes plain descent converge on monotone games, also under noise. One field
    evaluation per step.

    Args:
        step_size: eta, one positive number for all players; .3 as published.
        pull: r, positive.
        step_decay: p.
        pull_decay: q, above p for the pull to die out first.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it or `pull` is not positive, or the geometry is entropic.

    References:
        Ryu, Yuan and Yin, ODE analysis of stochastic gradient methods with optimism and
        anchoring for minimax problems, 2019, arXiv:1905.10899.
    """
    check_step_size(step_size, "anchored_descent")
    check_geometry(geometry, PROJECTED, "anchored_descent")
    check_positive("pull", pull)

    def init(params):
        per_player(geometry, len(params), "geometry")
        return DecayingState(params, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        anchor, num_steps = rule_state
        k = num_steps.astype(working_dtype(params)) + 1
        eta = jnp.asarray(step_size, k.dtype) / k**step_decay
        back = scale(pull / k**pull_decay, subtract(anchor, params))
        step = add(back, scale(-eta, field(params, batches[0])))
        moved = apply_updates(geometry, params, step)
        return moved, DecayingState(anchor, num_steps + 1)

    return build(init, update)


class HalpernState(NamedTuple):
    """The state of Halpern's iteration.

    Attributes:
        inner: the inner rule's state.
        anchor: the start z_0.
        num_steps: the number k of steps done.
    """

    inner: Any
    anchor: Params
    num_steps: jax.Array


@of_a_rule
def halpern(rule: Rule) -> Rule:
    r"""Mix every step of a rule with the start, whose weight vanishes.

    $$z_{k+1} = \frac{1}{k+2}\, z_0 + \frac{k+1}{k+2}\, T(z_k),$$

    T being one step of `rule`. If T is nonexpansive, as the proximal point step of a
    monotone game is, $\|z - T(z)\|^2$ falls with $1/k^2$; explicit rules are in general
    not nonexpansive, and then nothing is proven. Costs what a step of `rule` costs.

    Args:
        rule: the rule that makes the step T.

    Returns:
        The rule; its output is the inner rule's.

    Raises:
        TypeError: if `rule` is not a `Rule`.

    References:
        Halpern, 1967; Diakonikolas, Halpern iteration for near-optimal and
        parameter-free monotone inclusion, 2020, arXiv:2002.08872.
    """

    def init(params):
        return HalpernState(rule.init(params), copy(params), jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        inner, anchor, num_steps = rule_state
        stepped, inner = rule.update(field, params, inner, batches)
        beta = 1 / (num_steps.astype(working_dtype(params)) + 2)
        params = add(stepped, scale(beta, subtract(anchor, stepped)))
        return params, HalpernState(inner, anchor, num_steps + 1)

    return build(
        init,
        update,
        num_batches=rule.num_batches,
        output=lambda params, rule_state: rule.output(params, rule_state.inner),
        period=rule.period,
    )


# The registered rules.

register(
    "eag_c",
    owned(anchored_extragradient, variant="eag_c"),
    family="anchored to the start",
    summary="extragradient pulled back to the start, constant step; h = 1/(8L)",
    formula="w = z + (z0 - z)/(k+2) - h F(z); z' = z + (z0 - z)/(k+2) - h F(w)",
    source="Yoon and Ryu 2021, arXiv:2102.07922",
    guarantee="monotone: |F(z_k)|^2 <= 260 L^2 D^2/(k+1)^2",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "eag_v",
    owned(anchored_extragradient, variant="eag_v"),
    family="anchored to the start",
    summary="extragradient pulled back to the start, slowly decreasing step; "
    "h = .618/L",
    formula="w = z + (z0 - z)/(k+2) - h_k F(z); z' = z + (z0 - z)/(k+2) - h_k F(w)",
    source="Yoon and Ryu 2021, arXiv:2102.07922",
    guarantee="monotone: |F(z_k)|^2 <= 27 L^2 D^2/((k+1)(k+2))",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "feg",
    owned(anchored_extragradient, variant="feg"),
    family="anchored to the start",
    summary="fast extragradient, anchored with a shortened look-ahead; h = 1/L",
    formula="b = 1/(k+1): w = z + b(z0 - z) - (1-b) h F(z); "
    "z' = z + b(z0 - z) - h F(w)",
    source="Lee and Kim 2021, arXiv:2106.02326",
    guarantee="monotone: |F(z_k)|^2 <= 4 L^2 D^2/k^2",
    evaluations=2,
    geometries=PROJECTED,
)
register(
    "anchored_popov",
    owned(anchored_extragradient, variant="popov"),
    family="anchored to the start",
    summary="anchored, looking ahead with the past half point's field; "
    "h = 1/(2 sqrt(3) L)",
    formula="b = 1/(k+2): w = z + b(z0 - z) - (1-b) h_k F(w-); "
    "z' = z + b(z0 - z) - h_k F(w)",
    source="Tran-Dinh and Luo 2021, arXiv:2110.08150",
    guarantee="monotone: |F(z_k)|^2 in O(1/k^2)",
    geometries=PROJECTED,
)
register(
    "decaying_anchor_extragradient",
    owned(decaying_anchor_extragradient),
    family="anchored to the start",
    summary="extragradient on the field plus a vanishing pull to the start",
    formula="w = z - e_k (z - z0) - h F(z); z' = z0 + (z - z0 - h F(w))/(1 + e_{k+1})",
    source="Bot and Chenchene 2024, arXiv:2410.14369",
    guarantee="monotone: |F(z_k)| in O(1/k), strongly to the nearest solution",
    evaluations=2,
    geometries=EUCLIDEAN,
)
register(
    "anchored_descent",
    owned(anchored_descent),
    family="anchored to the start",
    summary="simultaneous steps, ever smaller, with a pull to the start",
    formula="z' = z - h/k^.7 F(z) + .3/k^.9 (z0 - z)",
    source="Ryu et al. 2019, arXiv:1905.10899",
    guarantee="monotone, also noisy: converges, |F|^2 in O(1/k^(2 - 2p))",
    geometries=PROJECTED,
)
