"""The gradient with a penalty on the others' gradient norm."""

from typing import Any

import jax
from jax.tree_util import Partial

from gamedyn.checks import check_positive
from gamedyn.fields.base import Field, Static, as_field
from gamedyn.fields.registry import register, without_step
from gamedyn.game import Batch, Game, Params, check_params
from gamedyn.trees import add_scaled, scale


def penalised(
    game_or_field: Game | Field, weight: Any = 0.002, *, payer: int = 1
) -> Field:
    r"""Let one player also keep the others' gradients small (ODE-GAN).

    $$F_j + \lambda \nabla_{z_j} \sum_{i \ne j} \|F_i\|^2 \quad \text{for the player } j
      \text{ who pays}, \qquad F_i \text{ for the others}.$$

    The published choice is the discriminator, with Runge-Kutta steps. One
    vector-Jacobian product.

    Args:
        game_or_field: a game of two players at least, or such a field F.
        weight: lambda, positive; .002 as published for CIFAR-10.
        payer: the index j of the player who pays.

    Returns:
        The field.

    Raises:
        ValueError: if the weight is not positive, or at evaluation if there is no such
            player or no other one.

    References:
        Qin et al., Training generative adversarial networks by solving ordinary
        differential equations, 2020, arXiv:2010.15040.
    """
    check_positive("weight", weight)
    return Partial(_penalised, as_field(game_or_field), weight, Static(payer))


def _penalised(
    field: Field, weight: Any, payer: Static, params: Params, batch: Batch = None
) -> Params:
    check_params(params)
    j = payer.value
    if len(params) < 2 or not 0 <= j < len(params):
        raise ValueError(
            f"penalised needs a payer and another player, got {len(params)} players "
            f"and payer={j}"
        )

    def others(own):
        direction = field(params[:j] + (own,) + params[j + 1 :], batch)
        return direction[:j] + direction[j + 1 :]

    values, pull = jax.vjp(others, params[j])
    own = add_scaled(field(params, batch)[j], weight, pull(scale(2, values))[0])
    return values[:j] + (own,) + values[j:]


# The registered fields.

register(
    "penalised",
    without_step(penalised),
    family="corrected by the Jacobian",
    summary="the second player also keeps the others' gradients small (ODE-GAN)",
    formula="F_1; F_2 + w d/dy |F_1|^2, w = .002",
    source="Qin et al. 2020, arXiv:2010.15040",
    guarantee="keeps the zeros of F; damps the second player's rotation",
    products=1,
    work=1.65,
    needs=("several players",),
)
