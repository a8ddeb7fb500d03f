"""Who moves when: simultaneous and alternating updates."""

from collections.abc import Sequence

import optax

from gamedyn.geometry import Geometry, euclidean
from gamedyn.rules.base import Rule, build, stepper


def simultaneous(
    *optimizers: optax.GradientTransformation,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Move all players at once, each along their own direction.

    $$z^+ = z - \eta F(z).$$

    On a bilinear game it always diverges, $\rho = \sqrt{1 + \eta^2\sigma^2}$; with
    entropic geometry it is multiplicative weights. One field evaluation per step.

    Args:
        *optimizers: one optax transformation for all players (each with its own
            state), or one each.
        geometry: one for all players, or a tuple of one each.

    Returns:
        The rule; its state is the tuple of the players' transformation states.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: at `init`, if the number of optimizers or geometries does not fit.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> rule = gd.simultaneous(optax.sgd(0.1))
        >>> start = (jnp.array(1.0), jnp.array(1.0))
        >>> x, y = gd.solve(game, rule, start, 1).params
        >>> print(f"{x:.1f} {y:.1f}")
        0.9 1.1
    """
    steps = stepper(optimizers, geometry, rule="simultaneous")

    def update(field, params, rule_state, batches):
        updates, rule_state = steps.updates(
            field(params, batches[0]), rule_state, params
        )
        return steps.apply(params, updates), rule_state

    return build(steps.init, update, domain=steps.domain)


def alternating(
    *optimizers: optax.GradientTransformation,
    order: Sequence[int] = (0, 1),
    resample: bool = False,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Move one player after the other, each seeing the moves made before.

    $$x^+ = x - \eta\,\partial_x \ell_1(x, y), \qquad
      y^+ = y - \eta\,\partial_y \ell_2(x^+, y).$$

    `order` is the word of moves of one step; k critic steps before each generator step
    are `order=(1,) * k + (0,)`. On a bilinear game $\rho = 1$ exactly for
    $\eta\sigma \le 2$: it cycles. One evaluation of each mover's own component per
    move, so one joint field evaluation per step for the default word.

    Args:
        *optimizers: one optax transformation for all players, or one each; a player's
            schedule advances with that player's moves.
        order: the players in the order of their moves; everyone must appear (freeze a
            player with `optax.set_to_zero()`).
        resample: whether every move draws its own batch.
        geometry: one for all players, or a tuple of one each.

    Returns:
        The rule, with `num_batches = len(order)` if `resample`.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if the word is empty, or at `init` if a player is missing from it
            or does not exist.

    References:
        Goodfellow et al., Generative adversarial nets, 2014, arXiv:1406.2661; the
        cycle: Gidel et al., Negative momentum for improved game dynamics, 2019,
        arXiv:1807.04740.
    """
    steps = stepper(optimizers, geometry, rule="alternating")
    order = tuple(order)
    if not order:
        raise ValueError("alternating needs at least one move in its order, got none")

    def init(params):
        if set(order) != set(range(len(params))):
            raise ValueError(
                f"the order of moves must name each of the players "
                f"{tuple(range(len(params)))}, got {order}"
            )
        return steps.init(params)

    def update(field, params, rule_state, batches):
        states = list(rule_state)
        for move, player in enumerate(order):
            batch = batches[move if resample else 0]
            direction = field(params, batch)[player]
            change, states[player] = steps.update(
                player, direction, states[player], params
            )
            moved = steps.apply_one(player, params, change)
            params = params[:player] + (moved,) + params[player + 1 :]
        return params, tuple(states)

    num_batches = len(order) if resample else 1
    return build(init, update, num_batches=num_batches, domain=steps.domain)
