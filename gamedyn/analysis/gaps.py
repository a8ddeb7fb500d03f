"""Gaps of constrained and matrix games: how far a point is from an equilibrium.

Matrix games are given by all players' **losses**: `losses[i]` has one axis per player
and holds what player i pays when everyone plays a pure action. Mixed strategies are
vectors on the simplex. Reference values of small games are in
`gamedyn.games.equilibria`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.game import Params, PyTree
from gamedyn.geometry import per_player
from gamedyn.treeplex import Treeplex, best_response

Response = Callable[[PyTree], PyTree]
"""`response(direction)` minimises <direction, u> over one player's domain."""


def variational_gap(
    params: Params, direction: Params, response: Response | tuple[Response, ...]
) -> jax.Array:
    r"""Measure by how much a point fails the variational inequality.

    $$g(w) = \max_{u \in K} \langle F(w), w - u \rangle \ge 0,$$

    zero exactly at the solutions, on a bounded domain K. In a zero-sum matrix game it
    is the duality gap. Beside it stands `geometry.natural_residual`, which needs no
    bounded domain.

    Args:
        params: the point w in K, one pytree per player.
        direction: the field there, F(w).
        response: `simplex_response`, `box_response(lower, upper)`, or any function that
            minimises a linear function over a player's domain; one for all or one each.

    Returns:
        The gap, a scalar; differentiable wherever the maximiser is unique.

    Raises:
        ValueError: if the number of responses is neither 1 nor that of the players.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x @ jnp.array([[0.0, 1.0], [1.0, 0.0]]) @ y)
        >>> point = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
        >>> direction = gd.fields.gradient(game)(point)
        >>> variational_gap(point, direction, simplex_response).item()
        0.5
    """
    responses = per_player(response, len(params), "response")
    total = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
    for point, slope, minimise in zip(params, direction, responses, strict=True):
        products = jax.tree.map(
            lambda s, w, u: jnp.sum(s * (w - u)), slope, point, minimise(slope)
        )
        total = sum(jax.tree.leaves(products), total)
    return total


def simplex_response(direction: PyTree) -> PyTree:
    """Minimise a linear function over the unit simplex of each leaf: a vertex.

    Args:
        direction: the slopes.

    Returns:
        The vertex of the least slope, the first one of several.
    """

    def vertex(slope: jax.Array) -> jax.Array:
        best = jax.nn.one_hot(jnp.argmin(slope), slope.size, dtype=slope.dtype)
        return best.reshape(slope.shape)

    return jax.tree.map(vertex, direction)


def box_response(lower: float, upper: float) -> Response:
    """Minimise linear functions over the box `[lower, upper]` in every coordinate.

    Args:
        lower: the lower end.
        upper: the upper end.

    Returns:
        The response.

    Raises:
        ValueError: if `lower` exceeds `upper`.
    """
    if not lower <= upper:
        raise ValueError(f"a box needs lower <= upper, got [{lower}, {upper}]")

    def response(direction: PyTree) -> PyTree:
        def corner(slope: jax.Array) -> jax.Array:
            ends = jnp.asarray(lower, slope.dtype), jnp.asarray(upper, slope.dtype)
            return jnp.where(slope > 0, *ends)

        return jax.tree.map(corner, direction)

    return response


def treeplex_response(tree: Treeplex) -> Response:
    """Minimise linear functions over the strategies of a sequential game.

    Args:
        tree: the player's decision points.

    Returns:
        The response, a deterministic strategy in sequence form.
    """

    def response(direction: PyTree) -> PyTree:
        return best_response(tree, direction)

    return response


def deviation_losses(
    losses: Sequence[Any], strategies: Sequence[Any]
) -> tuple[jax.Array, ...]:
    r"""Compute the loss of every pure action against the other players' strategies.

    $$d_i[a] = \ell_i(a, w_{-i}).$$

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player, shape `(actions,)`.

    Returns:
        One vector per player, of the shape of their strategy.

    Raises:
        ValueError: if the shapes do not fit.
    """
    strategies = tuple(map(jnp.asarray, strategies))
    shape = tuple(s.size for s in strategies)
    if len(losses) != len(strategies) or any(s.ndim != 1 for s in strategies):
        raise ValueError(
            f"expected one array of losses and one vector per player, got "
            f"{len(losses)} arrays and shapes {[s.shape for s in strategies]}"
        )
    results = []
    for player, loss in enumerate(map(jnp.asarray, losses)):
        if loss.shape != shape:
            raise ValueError(
                f"the losses of player {player} must have one axis per player, {shape},"
                f" got {loss.shape}"
            )
        # From the last axis on, so that the numbers of the earlier ones stay.
        for axis in reversed(range(len(strategies))):
            if axis != player:
                loss = jnp.tensordot(loss, strategies[axis], axes=(axis, 0))
        results.append(loss)
    return tuple(results)


def best_responses(losses: Sequence[Any], strategies: Sequence[Any]) -> Params:
    """Find every player's best pure response to the others' mixed strategies.

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player.

    Returns:
        One vertex of the simplex per player, the first one of several.
    """
    return tuple(map(simplex_response, deviation_losses(losses, strategies)))


def nash_conv(losses: Sequence[Any], strategies: Sequence[Any]) -> jax.Array:
    r"""Compute NashConv: what best responses would gain, summed over the players.

    $$\sum_i \Big( \ell_i(w) - \min_{a} \ell_i(a, w_{-i}) \Big) \ge 0,$$

    zero exactly at the Nash equilibria; in a zero-sum game the duality gap. jit-, vmap-
    and grad-able (a subgradient where best responses tie).

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player.

    Returns:
        A scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> pennies = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
        >>> point = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
        >>> nash_conv((pennies, -pennies), point).item()
        1.0
    """
    deviations = deviation_losses(losses, strategies)
    gains = [
        d @ jnp.asarray(s) - jnp.min(d)
        for d, s in zip(deviations, strategies, strict=True)
    ]
    return sum(gains[1:], gains[0])


def exploitability(losses: Sequence[Any], strategies: Sequence[Any]) -> jax.Array:
    """Compute the exploitability, NashConv divided by the number of players.

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player.

    Returns:
        A scalar, zero exactly at the Nash equilibria.
    """
    return nash_conv(losses, strategies) / len(strategies)
