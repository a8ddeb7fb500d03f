"""Who moves when: simultaneous and alternating updates."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import optax

from gamedyn.geometry import Geometry, euclidean
from gamedyn.rules.base import EUCLIDEAN, Rule, build, check_geometry, stepper
from gamedyn.rules.registry import each, from_transformations, register
from gamedyn.transformations import complex_momentum, negative_momentum


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
        # At the old point for all: players who see the others' moves are `alternating`.
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
        The rule, with `num_batches = len(order)` if `resample`; its state is the tuple
        of the players' transformation states.

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
            # Evaluated anew for every move; once before the loop is `simultaneous`.
            direction = field(params, batch)[player]
            change, states[player] = steps.update(
                player, direction, states[player], params
            )
            moved = steps.apply_one(player, params, change)
            params = params[:player] + (moved,) + params[player + 1 :]
        return params, tuple(states)

    num_batches = len(order) if resample else 1
    return build(init, update, num_batches=num_batches, domain=steps.domain)


# The registered rules.

# A partial gradient runs through its own forward pass: those of two players cost more
# than their joint gradient.
IN_TURN_FLOPS = 1.21


register(
    "simultaneous",
    from_transformations(simultaneous),
    family="moves in turn or at once",
    summary="all players step at once along their own gradients",
    formula="z' = z - h F(z)",
    source="classical",
    guarantee="strongly monotone: linear for h < 2 mu/L^2; bilinear: diverges",
)


@register(
    "alternating",
    family="moves in turn or at once",
    summary="the players step in turn, each seeing the moves before",
    formula="x' = x - h F1(x, y); y' = y - h F2(x', y)",
    source="Goodfellow et al. 2014, arXiv:1406.2661",
    guarantee="bilinear: bounded cycles for h <= 2/L; strongly convex-concave: linear",
    flops=IN_TURN_FLOPS,
)
def _alternating(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    **options,
):
    options = {"order": tuple(range(num_players)), **options}
    return alternating(*each(transformation, step_size), geometry=geometry, **options)


@register(
    "negative_momentum",
    family="moves in turn or at once",
    summary="alternation with momentum -1/2 for the first player",
    formula="m' = -m/2 + F1(x, y); x' = x - h m'; y' = y - h F2(x', y)",
    source="Gidel et al. 2019, arXiv:1807.04740",
    guarantee="bilinear: linear for h <= 1/L",
    num_players=2,
    flops=IN_TURN_FLOPS,
)
def _negative_momentum(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players
    optimizers = negative_momentum(step_size), optax.sgd(step_size)
    return alternating(*optimizers, geometry=geometry, **options)


register(
    "complex_momentum",
    from_transformations(simultaneous, complex_momentum),
    family="moves in turn or at once",
    summary="simultaneous steps with the complex momentum .9 exp(i pi/8)",
    formula="m' = b m - F(z); z' = z + Re(h m')",
    source="Lorraine et al. 2022, arXiv:2102.08431",
    guarantee="bilinear: linear for small h",
)
register(
    "adam",
    from_transformations(simultaneous, optax.adam),
    family="moves in turn or at once",
    summary="simultaneous Adam",
    formula="z' = z - h adam(F(z))",
    source="Kingma and Ba 2015, arXiv:1412.6980",
    guarantee="none in games",
)


@register(
    "inner_steps",
    family="moves in turn or at once",
    summary="five steps of the second player before each one of the first "
    "(WGAN's critic)",
    formula="5 times y' = y - h F2(x, y); x' = x - h F1(x, y')",
    source="Arjovsky et al. 2017, arXiv:1701.07875",
    guarantee="none in general; the more inner steps, the nearer to a best response",
    evaluations=3,
    num_players=2,
    flops=3.4,
)
def _inner_steps(
    step_size,
    *,
    num_players=2,
    geometry=euclidean,
    transformation=optax.sgd,
    steps=5,
    **options,
):
    del num_players
    order = (1,) * steps + (0,)
    return alternating(
        *each(transformation, step_size), order=order, geometry=geometry, **options
    )


def _time_scales(plain):
    """Take simultaneous steps, `ratio` being the second player's over the first's."""

    def make(step_size, *, num_players=2, geometry=euclidean, ratio=4.0, **options):
        del num_players
        steps = plain(step_size), plain(step_size * ratio)
        return simultaneous(*steps, geometry=geometry, **options)

    return make


register(
    "two_time_scales",
    _time_scales(optax.sgd),
    family="moves in turn or at once",
    summary="simultaneous steps, the second player's four times as long (tau-GDA)",
    formula="x' = x - h F1(x, y); y' = y - 4h F2(x, y)",
    source="Heusel et al. 2017, arXiv:1706.08500; "
    "Fiez and Ratliff 2021, arXiv:2009.14820",
    guarantee="differential Stackelberg: local for large ratios; diverges on bilinear",
    num_players=2,
)
register(
    "two_time_scale_adam",
    _time_scales(optax.adam),
    family="moves in turn or at once",
    summary="simultaneous Adam, the second player's steps four times as long (TTUR)",
    formula="x' = x - h adam(F1(x, y)); y' = y - 4h adam(F2(x, y))",
    source="Heusel et al. 2017, arXiv:1706.08500",
    guarantee="to local equilibria with vanishing steps, under assumptions on the flow",
    num_players=2,
)


@register(
    "slingshot",
    family="moves in turn or at once",
    summary="steps of both signs, (h, -h) and (-h, h) by turns",
    formula="z' = z - (h, -h) F(z); z'' = z' - (-h, h) F(z')",
    source="Shugart and Altschuler 2025, arXiv:2505.01423",
    guarantee="bilinear: two steps multiply by 1 - h^2 s^2, linear for h < sqrt(2)/L",
    geometries=EUCLIDEAN,
    num_players=2,
)
def _slingshot(step_size, *, num_players=2, geometry=euclidean, **options):
    del num_players
    check_geometry(geometry, EUCLIDEAN, "slingshot")

    def alternately(sign):
        def schedule(count: Any) -> Any:
            return jnp.where(count % 2 == 0, sign, -sign) * step_size

        return optax.sgd(schedule)

    rule = simultaneous(
        alternately(1.0), alternately(-1.0), geometry=geometry, **options
    )
    return rule._replace(period=2)
