"""Games of n players from economics; utilities appear with a minus, as losses."""

from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params
from gamedyn.games import _forms
from gamedyn.games.problem import Problem, register


@register("firms choose quantities, the price falls with their sum", "Cournot, 1838")
def cournot(
    num_players: int = 3, *, demand: float = 10.0, slope: float = 1.0, cost: float = 1.0
) -> Problem:
    r"""Build Cournot's oligopoly, a potential game with an affine field.

    $$\ell_i(q) = -q_i \big(A - b \textstyle\sum_j q_j\big) + c\, q_i, \qquad
      q_i^* = \frac{A - c}{b (n + 1)}.$$

    Quantities are not constrained: the solution is inside. In the standard start
    firm i produces 1 + i times as much as in the solution, i = 0, ..., n-1.

    Args:
        num_players: the number n of firms.
        demand: the price A at which nothing is sold, above the cost.
        slope: the loss b of price per unit sold, positive.
        cost: the cost c of a unit.

    Returns:
        The problem, with one scalar per player.

    Raises:
        ValueError: if `num_players` is not a positive integer, `slope` is not
            positive, or `demand` does not exceed `cost`.

    Example:
        >>> from gamedyn import games
        >>> [quantity.item() for quantity in games.cournot(2).solutions[0]]
        [3.0, 3.0]

    References:
        Cournot, Recherches sur les principes mathématiques de la théorie des richesses,
        1838.
    """
    n = num_players
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"num_players must be a positive integer, got {n!r}")
    dtype = _forms.widest(demand, slope, cost)
    given = {"demand": demand, "slope": slope, "cost": cost}
    numbers = [_forms.as_array(name, x, 0, dtype) for name, x in given.items()]
    top, fall, unit = numbers
    if _forms.known(*numbers) and not (fall > 0 and top > unit):
        raise ValueError(
            f"expected slope > 0 and demand > cost, "
            f"got slope={slope}, demand={demand}, cost={cost}"
        )
    quantity = (top - unit) / (fall * (n + 1))
    return Problem(
        Game(Partial(_cournot, *numbers), num_players=n),
        Partial(_forms.normal_start, tuple((1.0 + i) * quantity for i in range(n))),
        ((jnp.copy(quantity),) * n,),
    )


def _cournot(demand, slope, cost, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    price = demand - slope * sum(params)
    return tuple((cost - price) * quantity for quantity in params)
