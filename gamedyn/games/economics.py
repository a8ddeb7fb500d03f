"""Games of n players from economics; utilities appear with a minus, as losses."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.checks import check_positive_integer
from gamedyn.game import Batch, Game, Params
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import non_negative


@register(
    "cournot",
    summary="firms choose quantities, the price falls with their sum",
    source="Cournot, 1838",
    shows="a potential game of n players",
    solution="Nash",
    num_players=3,
)
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


@register(
    "tullock",
    summary="rivals spend for a prize that goes to one, in proportion to the spending",
    source="Tullock, 1980",
    shows="n players on the orthant, with a singular corner",
    solution="Nash",
    num_players=3,
    domain="non-negative",
)
def tullock(num_players: int = 3, *, prize: float = 1.0) -> Problem:
    r"""Build Tullock's contest.

    $$\ell_i(x) = x_i - V \frac{x_i}{\sum_j x_j}, \qquad x_i \ge 0, \qquad
      x_i^* = V \frac{n - 1}{n^2}.$$

    The losses have no value where nobody spends anything: start inside. In the standard
    start player i spends 1 + i times as much as in the solution, i = 0, ..., n-1.

    Args:
        num_players: n, at least 2.
        prize: V, positive.

    Returns:
        The problem, with one scalar per player.

    Raises:
        ValueError: if there are fewer than two players, or the prize is not positive.
    """
    n = num_players
    check_positive_integer("num_players", n)
    value = _forms.as_array("prize", prize, 0)
    if n < 2 or (_forms.known(value) and not value > 0):
        raise ValueError(
            f"expected two players or more and prize > 0, got {n} and {prize}"
        )
    effort = value * (n - 1) / n**2
    return Problem(
        Game(Partial(_tullock, value), num_players=n),
        Partial(_forms.positive_start, tuple((1.0 + i) * effort for i in range(n))),
        ((jnp.copy(effort),) * n,),
        geometry=non_negative(),
    )


def _tullock(prize, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    total = sum(params)
    return tuple(effort - prize * effort / total for effort in params)


@register(
    "kelly",
    summary="bidders share a divisible good in proportion to what they pay",
    source="Kelly, 1997",
    shows="badly scaled, weakly monotone, with n players",
    solution="Nash",
    num_players=4,
    domain="non-negative",
)
def kelly(
    gains: Sequence[float] = (1.8, 2.0, 2.2, 2.4),
    *,
    quantity: float = 1000.0,
    reserve: float = 100.0,
) -> Problem:
    r"""Build Kelly's auction of a divisible good.

    $$\ell_i(x) = x_i - G_i Q \frac{x_i}{Z + \sum_j x_j}, \qquad x_i \ge 0.$$

    Inside, with $S = Z + \sum_j x_j$ and $c = \sum_i G_i^{-1} / Q$,

    $$S = \frac{(n - 1) + \sqrt{(n - 1)^2 + 4cZ}}{2c}, \qquad
      x_i = S - \frac{S^2}{G_i Q}.$$

    In the standard start player i pays 100 (1 + i), i = 0, ..., n-1, in the defaults'
    units: a tenth of Q.

    Args:
        gains: what a unit is worth to each player, $G_i$, positive.
        quantity: Q, positive.
        reserve: Z, positive.

    Returns:
        The problem, with one scalar per player.

    Raises:
        ValueError: if a number is not positive, or a player would not bid at all.
    """
    dtype = _forms.widest(gains, quantity, reserve)
    worth = _forms.as_array("gains", gains, 1, dtype)
    Q, Z = (
        _forms.as_array(name, x, 0, worth.dtype)
        for name, x in (("quantity", quantity), ("reserve", reserve))
    )
    known = _forms.known(worth, Q, Z)
    if known and not (worth.min() > 0 and Q > 0 and Z > 0):
        raise ValueError(
            f"expected positive gains, quantity and reserve, got {gains}, {quantity} "
            f"and {reserve}"
        )
    bids = _kelly_bids(worth, Q, Z)
    if known and not bids.min() > 0:
        raise ValueError(
            f"with gains {gains}, quantity {quantity} and reserve {reserve} a player "
            "does not bid; expected gains closer to one another or a smaller reserve"
        )
    n = worth.shape[0]
    return Problem(
        Game(Partial(_kelly, worth, Q, Z), num_players=n),
        Partial(_forms.positive_start, tuple(Q * (1 + i) / 10 for i in range(n))),
        (tuple(jnp.unstack(bids)),),
        geometry=non_negative(),
    )


def _kelly_bids(gains: jax.Array, Q: jax.Array, Z: jax.Array) -> jax.Array:
    """The interior solution, from the total; one column per resource."""
    n = gains.shape[0]
    c = jnp.sum(1 / gains, axis=0) / Q
    total = (n - 1 + jnp.sqrt((n - 1) ** 2 + 4 * c * Z)) / (2 * c)
    return total - total**2 / (gains * Q)


def _kelly(gains, Q, Z, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    total = Z + sum(params)
    return tuple(
        bid - gain * Q * bid / total
        for gain, bid in zip(jnp.unstack(gains), params, strict=True)
    )


@register(
    "resource_allocation",
    summary="bidders share several divisible goods, each as in Kelly's auction",
    source="Kelly, 1997; Johari and Tsitsiklis, 2004",
    shows="vectors for every player, resources of different scale",
    solution="Nash",
    num_players=3,
    domain="non-negative",
)
def resource_allocation(
    gains: Any = ((1.8, 2.0), (2.0, 2.4), (2.2, 2.1)),
    *,
    quantities: Sequence[float] = (10.0, 30.0),
    reserves: Sequence[float] = (1.0, 2.0),
) -> Problem:
    r"""Build the auction of several divisible goods.

    $$\ell_i(x) = \sum_r x_{ir} - G_{ir} Q_r \frac{x_{ir}}{Z_r + \sum_j x_{jr}}, \qquad
      x_{ir} \ge 0.$$

    The solution is that of `kelly` for each resource. In the standard start player i
    pays (1 + i) tenths of Q for each.

    Args:
        gains: what a unit of resource r is worth to player i, shape `(n, m)`, positive.
        quantities: $Q_r$, shape `(m,)`, positive.
        reserves: $Z_r$, shape `(m,)`, positive.

    Returns:
        The problem, with params of shape `(m,)`.

    Raises:
        ValueError: if a number is not positive, shapes do not fit, or a player would
            not bid for a resource.
    """
    dtype = _forms.widest(gains, quantities, reserves)
    worth = _forms.as_array("gains", gains, 2, dtype)
    n, m = worth.shape
    Q, Z = (
        _forms.as_array(name, x, 1, worth.dtype)
        for name, x in (("quantities", quantities), ("reserves", reserves))
    )
    for name, array in (("quantities", Q), ("reserves", Z)):
        _forms.check_shape(name, array, (m,), "like the columns of gains")
    known = _forms.known(worth, Q, Z)
    if known and not min(worth.min(), Q.min(), Z.min()) > 0:
        raise ValueError(
            f"expected positive gains, quantities and reserves, got {gains}, "
            f"{quantities} and {reserves}"
        )
    bids = jax.vmap(_kelly_bids, in_axes=(1, 0, 0), out_axes=1)(worth, Q, Z)
    if known and not bids.min() > 0:
        raise ValueError("a player does not bid for a resource: expected closer gains")
    return Problem(
        Game(Partial(_resources, worth, Q, Z), num_players=n),
        Partial(_forms.positive_start, tuple(Q * (1 + i) / 10 for i in range(n))),
        (tuple(bids),),
        geometry=non_negative(),
    )


def _resources(gains, Q, Z, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    total = Z + sum(params)
    return tuple(
        jnp.sum(bid - worth * Q * bid / total)
        for worth, bid in zip(gains, params, strict=True)
    )


@register(
    "smooth_market",
    summary="firms with costs of their own and trades that are zero-sum for each pair",
    source="Balduzzi et al., 2020, arXiv:2001.04678",
    shows="sums of pairwise zero-sum games, stable for any number of players",
    solution="Nash",
    num_players=5,
)
def smooth_market(
    num_players: int = 5, *, dim: int = 2, curvature: float = 0.1, seed: int = 0
) -> Problem:
    r"""Build a smooth market: own costs plus pairwise zero-sum trades.

    $$\ell_i(w) = \tfrac \mu 2 \|w_i\|^2 + b_i^\top w_i
      + \sum_{j \ne i} g_{ij}(w_i, w_j), \qquad
      g_{ij} = w_i^\top A_{ij} w_j = -g_{ji}.$$

    $A_{ji} = -A_{ij}^\top$ are random, $b_i$ too. J is $\mu I$ plus an antisymmetric
    matrix. The standard start is 0.

    Args:
        num_players: n.
        dim: the number of parameters of each player.
        curvature: mu, positive.
        seed: of A and b, drawn by NumPy.

    Returns:
        The problem, with params of shape `(dim,)`, and the solution of F = 0.

    Raises:
        ValueError: if a number is not positive.
    """
    check_positive_integer("num_players", num_players)
    check_positive_integer("dim", dim)
    mu = _forms.as_array("curvature", curvature, 0)
    if _forms.known(mu) and not mu > 0:
        raise ValueError(f"curvature must be positive, got {curvature}")
    random = np.random.default_rng(seed)
    n, dtype = num_players, mu.dtype
    trades = random.normal(size=(n, n, dim, dim))
    trades = np.triu(np.ones((n, n)), 1)[..., None, None] * trades
    trades = trades - trades.transpose(1, 0, 3, 2)
    offsets = random.normal(size=(n, dim))
    solutions: tuple[Params, ...] = ()
    if _forms.known(mu):
        matrix = trades.transpose(0, 2, 1, 3).reshape(n * dim, n * dim)
        system = float(mu) * np.eye(n * dim) + matrix
        point = np.linalg.solve(system, -offsets.ravel()).reshape(n, dim)
        solutions = (tuple(jnp.asarray(own, dtype) for own in point),)
    arrays = jnp.asarray(trades, dtype), jnp.asarray(offsets, dtype)
    return Problem(
        Game(Partial(_smooth_market, mu, *arrays), num_players=n),
        Partial(_forms.normal_start, tuple(jnp.zeros(dim, dtype) for _ in range(n))),
        solutions,
        info=Info(solution="" if solutions else "none"),
    )


def _smooth_market(mu, trades, offsets, params: Params, batch: Batch):
    del batch
    together = jnp.stack(params)
    return tuple(
        0.5 * mu * jnp.sum(own**2)
        + jnp.sum(offset * own)
        + jnp.sum(own[None, :, None] * matrices * together[:, None, :])
        for own, offset, matrices in zip(params, offsets, trades, strict=True)
    )
