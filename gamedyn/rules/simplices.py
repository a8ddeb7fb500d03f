"""Rules on probability simplices: best responses, regrets, magnets."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gamedyn.checks import check_positive
from gamedyn.game import Params, PyTree
from gamedyn.geometry import Geometry, entropic
from gamedyn.rules.base import (
    Rule,
    StepCount,
    build,
    check_start,
    check_step_size,
    on_simplices,
)
from gamedyn.rules.registry import register
from gamedyn.rules.turns import simultaneous
from gamedyn.rules.wrappers import averaged


def _check_all(params: Params, rule: str, *, inside: bool = False) -> None:
    for player, own in enumerate(params):
        check_start(player, own, entropic, rule, inside=inside)


def frank_wolfe(*, weight: Callable[[jax.Array], jax.Array] | None = None) -> Rule:
    r"""Move towards the vertices that are best against the others (Frank-Wolfe).

    $$s = \arg\min_{s \in \Delta} \langle F(z), s \rangle, \qquad
      z_{t+1} = (1 - \gamma_t) z_t + \gamma_t s, \qquad \gamma_t = \frac{2}{t + 2}.$$

    With $\gamma_t = 1/(t + 2)$ on a matrix game it is fictitious play: z is then the
    average of the start and all best responses. Ties go to the first vertex. There is
    no step size. One field evaluation per step.

    Args:
        weight: $\gamma_t$ as a function of t, the number of steps done.

    Returns:
        The rule, for players on probability simplices; at `init` it raises `ValueError`
        where a start is seen not to lie there.

    References:
        Frank and Wolfe, 1956; Gidel, Jebara and Lacoste-Julien, Frank-Wolfe algorithms
        for saddle point problems, 2017, arXiv:1610.07797; fictitious play: Brown, 1951.
    """

    def init(params):
        _check_all(params, "frank_wolfe")
        return StepCount(jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        if weight is None:
            share = 2 / (rule_state.num_steps.astype(jnp.result_type(float)) + 2)
        else:
            share = weight(rule_state.num_steps)

        def move(own, slope):
            values, unravel = ravel_pytree(slope)
            best = jax.nn.one_hot(jnp.argmin(values), values.size, dtype=values.dtype)
            return jax.tree.map(
                lambda x, s: x + jnp.asarray(share, x.dtype) * (s - x),
                own,
                unravel(best),
            )

        moved = tuple(map(move, params, field(params, batches[0])))
        return moved, StepCount(rule_state.num_steps + 1)

    return build(init, update, domain=on_simplices)


def fictitious_play() -> Rule:
    r"""Answer the average of all past play with a best response.

    $$z_{t+1} = z_t + \frac{s - z_t}{t + 2}, \qquad
      s = \arg\min_{s \in \Delta} \langle F(z_t), s \rangle,$$

    z being the average. Converges in two-player zero-sum matrix games, slowly.

    Returns:
        The rule, for players on probability simplices.

    References:
        Brown, Iterative solution of games by fictitious play, 1951; Robinson, 1951.
    """
    return frank_wolfe(
        weight=lambda step: 1 / (step.astype(jnp.result_type(float)) + 2)
    )


def replicator(step_size: float | jax.Array) -> Rule:
    r"""Let shares grow by how much better than the mean they do (replicator dynamics).

    $$x_i^+ = x_i + \eta\, x_i \bigl(\langle x, g \rangle - g_i\bigr),$$

    g being the player's loss gradient: Euler steps of the replicator flow. Entries stay
    positive while $\eta$ times the range of g is below one. One field evaluation per
    step.

    Args:
        step_size: eta, one positive number for all players.

    Returns:
        The rule, for players on probability simplices.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive.

    References:
        Taylor and Jonker, Evolutionary stable strategies and game dynamics, 1978.
    """
    check_step_size(step_size, "replicator")

    def init(params):
        _check_all(params, "replicator", inside=True)
        return ()

    def update(field, params, rule_state, batches):
        def move(own, slope):
            (shares, unravel), (values, _) = ravel_pytree(own), ravel_pytree(slope)
            better = jnp.vdot(shares, values) - values
            eta = jnp.asarray(step_size, shares.dtype)
            return unravel(shares + eta * shares * better)

        return tuple(map(move, params, field(params, batches[0]))), rule_state

    return build(init, update, domain=on_simplices)


def magnetic_mirror_descent(
    step_size: float | jax.Array,
    *,
    temperature: float | jax.Array = 0.5,
    magnet: Params | None = None,
    geometry: Geometry | tuple[Geometry, ...] = entropic,
) -> Rule:
    r"""Descend with entropic steps while a magnet pulls: quantal response.

    $$x^+ \propto \bigl(x\, e^{-\eta g}\, r^{\eta\alpha}\bigr)^{1/(1 + \eta\alpha)}.$$

    It is an entropic step of length $\eta / (1 + \eta\alpha)$ along
    $g + \alpha \log(x / r)$. Converges linearly to the quantal response
    $x \propto r\, e^{-g/\alpha}$, the equilibrium of the game with the regulariser
    $\alpha\, KL(x, r)$. One field evaluation per step.

    Args:
        step_size: eta, one positive number for all players.
        temperature: alpha, positive; small comes near the Nash equilibrium.
        magnet: r, of the structure of the parameters; uniform if `None`.
        geometry: entropic only.

    Returns:
        The rule, for players on probability simplices, strictly inside.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it or `temperature` is not positive, or the geometry another.

    References:
        Sokota et al., A unified approach to reinforcement learning, quantal response
        equilibria, and two-player zero-sum games, 2023, arXiv:2206.05825.
    """
    check_step_size(step_size, "magnetic_mirror_descent")
    check_positive("temperature", temperature)
    if geometry is not entropic:
        raise ValueError("magnetic_mirror_descent is only defined on entropic geometry")
    length = step_size / (1 + step_size * temperature)
    inner = simultaneous(optax.sgd(length), geometry=entropic)

    def init(params):
        _check_all(params, "magnetic_mirror_descent", inside=True)
        return inner.init(params)

    def update(field, params, rule_state, batches):
        def pull(x, r):
            # A constant shift of the logarithms changes nothing: uniform is r = 1.
            log_ratio = jnp.log(x) if r is None else jnp.log(x) - jnp.log(r)
            return jnp.asarray(temperature, x.dtype) * log_ratio

        def magnetic(point, batch):
            if magnet is None:
                pulls = jax.tree.map(lambda x: pull(x, None), point)
            else:
                pulls = jax.tree.map(pull, point, magnet)
            return jax.tree.map(jnp.add, field(point, batch), pulls)

        return inner.update(magnetic, params, rule_state, batches)

    return build(init, update, domain=on_simplices)


class RegretState(NamedTuple):
    """The state of regret matching.

    Attributes:
        regrets: the cumulative regrets, of the structure of the parameters.
    """

    regrets: Params


def regret_matching(
    *, variant: Literal["plain", "plus", "predictive"] = "plain"
) -> Rule:
    r"""Play in proportion to how much one regrets not having played.

    $$r = \langle x, g \rangle 1 - g, \qquad
      \begin{cases} R^+ = R + r, & x^+ \propto [R^+]_+ \quad\text{(plain)},\\
      R^+ = [R + r]_+, & x^+ \propto R^+ \quad\text{(plus)},\\
      R^+ = [R + r]_+, & x^+ \propto [R^+ + r]_+ \quad\text{(predictive)},
      \end{cases}$$

    uniform where nothing is regretted. There is no step size. What converges in
    two-player zero-sum games is the average: wrap the rule in `averaged`. One field
    evaluation per step.

    Args:
        variant: "plain" (RM), "plus" (RM+) or "predictive" (PRM+, which counts on the
            last regret once more).

    Returns:
        The rule, for players on probability simplices.

    Raises:
        ValueError: if `variant` is unknown.

    References:
        Hart and Mas-Colell, 2000; plus: Tammelin, 2014, arXiv:1407.5042; predictive:
        Farina, Kroer and Sandholm, 2021, arXiv:2007.14358.
    """
    if variant not in ("plain", "plus", "predictive"):
        raise ValueError(f"variant must be plain, plus or predictive, got {variant!r}")

    def init(params):
        _check_all(params, "regret_matching")
        return RegretState(jax.tree.map(jnp.zeros_like, params))

    def move(own: PyTree, slope: PyTree, past: PyTree) -> tuple[PyTree, PyTree]:
        (shares, unravel), (values, _) = ravel_pytree(own), ravel_pytree(slope)
        # Of losses: an action is regretted that would have cost less. With payoffs the
        # sign is the other one.
        regret = jnp.vdot(shares, values) - values
        total = ravel_pytree(past)[0] + regret
        if variant != "plain":
            total = jnp.maximum(total, 0)
        play = total + regret if variant == "predictive" else total
        return unravel(_proportional(play)), unravel(total)

    def update(field, params, rule_state, batches):
        slopes = field(params, batches[0])
        pairs: list[Any] = list(map(move, params, slopes, rule_state.regrets))
        moved, regrets = (tuple(pair[i] for pair in pairs) for i in (0, 1))
        return moved, RegretState(regrets)

    return build(init, update, domain=on_simplices)


def _proportional(weights: jax.Array) -> jax.Array:
    """Normalise the positive parts; uniform where there are none."""
    positive = jnp.maximum(weights, 0)
    total = jnp.sum(positive)
    uniform = jnp.full_like(positive, 1 / max(1, positive.size))
    return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1), uniform)


def _with_step(builder):
    """Make a rule on simplices from its step size, whatever the geometry."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del num_players, geometry
        return builder(step_size, **options)

    return make


def _without_step(builder, average=None):
    """Make a rule on simplices that has no step size: the number is ignored."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del step_size, num_players, geometry
        rule = builder(**options)
        return rule if average is None else averaged(rule, kind=average)

    return make


# The registered rules.

register(
    "replicator",
    _with_step(replicator),
    family="entropic steps",
    summary="Euler steps of the replicator flow",
    formula="x'_i = x_i + h x_i (<x, g> - g_i)",
    source="Taylor and Jonker 1978",
    guarantee="zero-sum: the flow cycles around an interior solution",
    on_simplex=True,
)
register(
    "magnetic_mirror_descent",
    _with_step(magnetic_mirror_descent),
    family="entropic steps",
    summary="entropic steps with a pull to the uniform point: quantal response",
    formula="x' ~ (x exp(-h g) r^(ha))^(1/(1 + ha)), a = 1/2",
    source="Sokota et al. 2023, arXiv:2206.05825",
    guarantee="zero-sum: linear to the quantal response for small h",
    on_simplex=True,
)
register(
    "frank_wolfe",
    _without_step(frank_wolfe),
    family="best responses and regrets",
    summary="steps 2/(t+2) towards the best vertices",
    formula="z' = z + 2/(t+2) (s - z), s = argmin <F(z), s>",
    source="Gidel et al. 2017, arXiv:1610.07797",
    guarantee="strongly convex-concave with interior solution: linear with line search",
    on_simplex=True,
)
register(
    "fictitious_play",
    _without_step(fictitious_play),
    family="best responses and regrets",
    summary="best responses to the average of past play, averaged",
    formula="z' = z + (s - z)/(t+2), s = argmin <F(z), s>",
    source="Brown 1951; Robinson 1951",
    guarantee="zero-sum matrix games: converges",
    on_simplex=True,
)
register(
    "regret_matching",
    _without_step(regret_matching, "uniform"),
    family="best responses and regrets",
    summary="play in proportion to the positive regrets; averaged",
    formula="R' = R + <x, g> - g; x' ~ [R']+",
    source="Hart and Mas-Colell 2000",
    guarantee="zero-sum: gap of the average in O(1/sqrt(T))",
    on_simplex=True,
)
register(
    "regret_matching_plus",
    _without_step(lambda: regret_matching(variant="plus"), "linear"),
    family="best responses and regrets",
    summary="regret matching that forgets negative regrets; linearly averaged (RM+)",
    formula="R' = [R + <x, g> - g]+; x' ~ R'",
    source="Tammelin 2014, arXiv:1407.5042",
    guarantee="zero-sum: gap of the average in O(1/sqrt(T))",
    on_simplex=True,
)
register(
    "predictive_regret_matching_plus",
    _without_step(lambda: regret_matching(variant="predictive"), "linear"),
    family="best responses and regrets",
    summary="RM+ that counts the last regret once more; linearly averaged (PRM+)",
    formula="R' = [R + r]+, r = <x, g> - g; x' ~ [R' + r]+",
    source="Farina et al. 2021, arXiv:2007.14358",
    guarantee="zero-sum: gap of the average in O(1/sqrt(T)), in practice far faster",
    on_simplex=True,
)
