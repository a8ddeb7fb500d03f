"""Fields that foresee the opponents' learning steps: look-ahead, LOLA, SOS, level-k.

All but level-k are first-order (Taylor) forms: the opponents' steps enter through
products with the Jacobian whose vectors are held constant. Differentiating a loss at
the opponents' next point exactly differs by the square of the step size.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import check_positive, check_positive_integer, is_known
from gamedyn.fields.base import (
    Field,
    Static,
    as_field,
    check_game,
    coupling,
    cross_jvp,
    gradient,
)
from gamedyn.fields.registry import register
from gamedyn.game import Batch, Game, Params
from gamedyn.trees import add_scaled, norm, scale, share


def opponent_lookahead(game_or_field: Game | Field, step_size: Any) -> Field:
    r"""Follow the own gradient at the opponents' next point, to first order.

    $$(I - \alpha H_o) F, \qquad \text{player } i: \quad \nabla_i \ell_i -
      \alpha \sum_{j \ne i} (\nabla_i \nabla_j \ell_i) \nabla_j \ell_j.$$

    Where own Hessians vanish, in bilinear games say, a step of size alpha is one of
    extragradient. Keeps the zeros of F.

    Args:
        game_or_field: a game, or any field F.
        step_size: alpha, the opponents' step.

    Returns:
        The field.

    References:
        Zhang, Lesser, Multi-agent learning with policy prediction, 2010.
    """
    check_positive("step_size", step_size)
    return Partial(_opponent_lookahead, as_field(game_or_field), step_size)


def _opponent_lookahead(
    field: Field, step_size: Any, params: Params, batch: Batch = None
) -> Params:
    direction = field(params, batch)
    # The cross blocks only: with all of J the own step is foreseen as well.
    shift = cross_jvp(field, params, direction, batch)
    return add_scaled(direction, -jnp.asarray(step_size), shift)


def lola(game: Game, step_size: Any) -> Field:
    r"""Shape the opponents' learning step: LOLA, first-order (Taylor) form.

    $$(I - \alpha H_o) F - \alpha \chi, \qquad
      \chi_i = \sum_{j \ne i} (\nabla_j \nabla_i \ell_j)^\top \nabla_j \ell_i.$$

    It may leave the zeros of F; `stable_opponent_shaping` keeps them.

    Args:
        game: a game; a field does not tell what others' moves do to a loss.
        step_size: alpha, the opponents' step; 1 on the iterated prisoner's dilemma.

    Returns:
        The field.

    Raises:
        TypeError: if it is not given a game.
        ValueError: if `step_size` is not positive.

    References:
        Foerster et al., Learning with opponent-learning awareness, 2018,
        arXiv:1709.04326.
    """
    check_positive("step_size", step_size)
    return Partial(_lola, check_game(game, "lola"), step_size)


def _lola(game: Game, step_size: Any, params: Params, batch: Batch = None) -> Params:
    looking, shaping = _shaped(game, step_size, params, batch)
    return add_scaled(looking, 1, shaping)


def stable_opponent_shaping(
    game: Game, step_size: Any, *, a: float = 0.5, b: float = 0.1
) -> Field:
    r"""Shape the opponents' step as far as that is safe (SOS).

    $$\xi_0 - p \alpha \chi, \qquad \xi_0 = (I - \alpha H_o) F,$$

    with LOLA's chi and p the smaller of

    $$p_1 = \min\Big(1, \frac{-a \|\xi_0\|^2}{\langle -\alpha\chi, \xi_0 \rangle}\Big)
      \text{ where the product is negative, else } 1; \qquad
      p_2 = \|F\|^2 \text{ where } \|F\| < b, \text{ else } 1,$$

    all norms over all players together. Keeps the zeros of F, and avoids strict
    saddles.

    Args:
        game: a game.
        step_size: alpha.
        a: how far shaping may turn the direction, in (0, 1).
        b: the size of F below which shaping fades away, positive.

    Returns:
        The field.

    Raises:
        TypeError: if it is not given a game.
        ValueError: if a number is out of range.

    References:
        Letcher et al., Stable opponent shaping in differentiable games, 2019,
        arXiv:1811.08469.
    """
    check_positive("step_size", step_size)
    if is_known(a) and not 0 < a < 1:
        raise ValueError(f"a must lie in (0, 1), got {a}")
    check_positive("b", b)
    check_game(game, "stable_opponent_shaping")
    return Partial(_stable_opponent_shaping, game, step_size, a, b)


def _stable_opponent_shaping(
    game: Game, step_size: Any, a: Any, b: Any, params: Params, batch: Batch = None
) -> Params:
    looking, shaping = _shaped(game, step_size, params, batch)
    # <shaping, looking> / |looking|^2: where it is negative, the two disagree.
    along = share(shaping, looking)
    dtype = along.dtype
    against = along < 0
    most = jnp.asarray(a, dtype) / jnp.where(against, -along, 1)
    p1 = jnp.where(against, jnp.minimum(most, 1), 1)
    length = norm(gradient(game)(params, batch))
    near = length < jnp.asarray(b, dtype)
    p2 = jnp.where(near, jnp.where(near, length, 1) ** 2, 1)
    return add_scaled(looking, jnp.minimum(p1, p2), shaping)


def _shaped(
    game: Game, step_size: Any, params: Params, batch: Batch
) -> tuple[Params, Params]:
    """The look-ahead field, and the shaping term -alpha chi."""
    field = gradient(game)
    looking = _opponent_lookahead(field, step_size, params, batch)

    def shaping(i):
        # The derivatives of i's loss by the others' parameters: constant cotangents.
        others = [j for j in range(len(params)) if j != i]
        slopes = jax.grad(lambda z: game(z, batch)[i])(params)

        def answers(own):
            direction = field(params[:i] + (own,) + params[i + 1 :], batch)
            return [direction[j] for j in others]

        _, pull = jax.vjp(answers, params[i])
        return pull([slopes[j] for j in others])[0]

    chi = tuple(map(shaping, range(len(params))))
    return looking, scale(-jnp.asarray(step_size), chi)


def level_k(game_or_field: Game | Field, step_size: Any, *, level: int = 3) -> Field:
    r"""Answer the opponents' answers, `level` deep: level-k gradient play.

    $$F_i(z_i, z_{-i}^{(k-1)}), \qquad z^{(0)} = z, \quad
      z_i^{(m)} = z_i - \eta F_i(z_i, z_{-i}^{(m-1)}).$$

    With a step of the same size, level 1 is simultaneous descent, level 2 is
    extragradient and a high level the proximal point method, the latter two where own
    Hessians vanish and $\eta L < 1$. Keeps the zeros of F. Costs `level` evaluations.

    Args:
        game_or_field: a game, or any field F.
        step_size: eta, the steps that are foreseen.
        level: k, a positive integer.

    Returns:
        The field.

    References:
        Liu, Pavel, Recursive reasoning in minimax games: a level k gradient play
        method, 2022, arXiv:2210.16482.
    """
    check_positive("step_size", step_size)
    check_positive_integer("level", level)
    return Partial(_level_k, as_field(game_or_field), step_size, Static(level))


def _level_k(
    field: Field, step_size: Any, level: Static, params: Params, batch: Batch = None
) -> Params:
    answer = coupling(field, params, batch)
    direction = field(params, batch)
    for _ in range(level.value - 1):
        direction = answer(add_scaled(params, -jnp.asarray(step_size), direction))
    return direction


# The registered fields.

register(
    "opponent_lookahead",
    opponent_lookahead,
    family="opponents foreseen",
    summary="the own gradient at the opponents' next point, to first order",
    formula="(I - h H_o) F",
    source="Zhang and Lesser 2010",
    guarantee="keeps the zeros of F; bilinear: extragradient",
    products=1,
    work=2.3,
)
register(
    "lola",
    lola,
    family="opponents foreseen",
    summary="look-ahead that also shapes the opponents' step, first-order (LOLA)",
    formula="(I - h H_o) F - h chi, chi_i = sum_j (D_ij l_j)' D_j l_i",
    source="Foerster et al. 2018, arXiv:1709.04326",
    guarantee="none: it may leave the zeros of F",
    products=2,
    work=3.8,
    needs=("losses",),
)
register(
    "stable_opponent_shaping",
    stable_opponent_shaping,
    family="opponents foreseen",
    summary="shaping as far as it does not turn the direction (SOS)",
    formula="(I - h H_o) F - p h chi, p by two criteria",
    source="Letcher et al. 2019, arXiv:1811.08469",
    guarantee="converges to stable zeros of F, avoids strict saddles",
    products=2,
    work=3.8,
    needs=("losses",),
)
register(
    "level_k",
    level_k,
    family="opponents foreseen",
    summary="answers to the opponents' answers, three deep",
    formula="F_i(z_i, w_-i), w = two foreseen steps",
    source="Liu and Pavel 2022, arXiv:2210.16482",
    guarantee="bilinear: level 2 is extragradient, "
    "a high one the proximal point method",
    gradients=3,
    work=2.75,
)
