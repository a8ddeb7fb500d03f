"""Gaps of constrained and matrix games: how far a point is from an equilibrium.

Matrix games are given by all players' **losses**: `losses[i]` has one axis per player
and holds what player i pays when everyone plays a pure action. Mixed strategies are
vectors on the simplex. Reference values of small games are in
`gamedyn.games.equilibria`.

A gap is one of points in the players' domains. Elsewhere the formulas give numbers,
too, which mean nothing: where it is seen, such a point is a `ValueError`, and under jit
its gap is NaN. A point is taken to be inside if it misses no equation or inequality by
more than the cube root of its dtype's rounding, the step of a central difference: 6e-6
in float64, 5e-3 in float32.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn import trees
from gamedyn.checks import is_known
from gamedyn.game import Params, PyTree
from gamedyn.geometry import Geometry, box, miss, per_player, simplex, treeplex
from gamedyn.treeplex import Treeplex

Response = Callable[[PyTree], PyTree]
"""`response(direction)` minimises <direction, u> over one player's domain."""


@dataclasses.dataclass(frozen=True)
class DomainResponse:
    """The best response on a known domain, on which gaps check their points.

    Attributes:
        domain: the geometry.
    """

    domain: Geometry

    def __call__(self, direction: PyTree) -> PyTree:
        """Minimise <direction, u> over the domain.

        Args:
            direction: the slopes, a pytree of the structure of the player's parameters.

        Returns:
            The best point: a vertex, the first one of several, where there are such.

        Raises:
            ValueError: if no best point is known on the domain, or there may be none.
        """
        if self.domain.respond is None:
            raise ValueError(
                "a gap needs a domain whose best responses are known, such as a "
                "simplex, box, ball or treeplex; got a geometry that is "
                f"{self.domain.kind}, on {self.domain.domain}"
            )
        return self.domain.respond(direction)


def variational_gap(
    params: Params,
    direction: Params,
    response: Geometry | Response | tuple[Geometry | Response, ...],
) -> jax.Array:
    r"""Measure by how much a point fails the variational inequality.

    $$g(w) = \max_{u \in K} \langle F(w), w - u \rangle \ge 0,$$

    zero exactly at the solutions, on a bounded domain K. In a zero-sum matrix game it
    is the duality gap. Beside it stands `geometry.natural_residual`, which needs no
    bounded domain.

    Args:
        params: the point w in K, one pytree per player.
        direction: the field there, F(w).
        response: the domain, a geometry such as a problem's; or a function that
            minimises a linear function over it, on which w is not checked unless it is
            a `DomainResponse`; one for all or one each.

    Returns:
        The gap, a scalar; differentiable wherever the maximiser is unique. NaN where w
        turns out not to lie in K.

    Raises:
        ValueError: if the number of responses is neither 1 nor that of the players, a
            direction has another structure or shape than the point, a domain has no
            response, or w is seen not to lie in K.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x @ jnp.array([[0.0, 1.0], [1.0, 0.0]]) @ y)
        >>> point = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
        >>> direction = gd.fields.gradient(game)(point)
        >>> variational_gap(point, direction, gd.geometry.simplex()).item()
        0.5
    """
    responses = per_player(response, len(params), "response")
    total = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
    known: Any = [
        (r, r.domain)
        if isinstance(r, DomainResponse)
        else (DomainResponse(r), r)
        if isinstance(r, Geometry)
        else (r, None)
        for r in responses
    ]
    fine = jnp.array(True)
    players = zip(params, direction, known, strict=True)
    for player, (point, slope, (minimise, domain)) in enumerate(players):
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (point, slope)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the direction of player {player} must have the structure and shapes "
                f"of their point, {shapes[0]}, got {shapes[1]}"
            )
        if domain is not None:
            fine &= _inside(player, point, domain)
        if domain is not None and domain.gap is not None:
            gap = domain.gap(point, slope)
        else:
            away = jax.tree.map(jnp.subtract, point, minimise(slope))
            gap = trees.inner(slope, away)
        total = total + gap.astype(total.dtype)
    return jnp.where(fine, total, jnp.nan)


def _inside(player: int, point: PyTree, domain: Geometry) -> jax.Array:
    """Whether a point lies in its domain; where it is seen not to, `ValueError`."""
    point = jax.tree.map(jnp.asarray, point)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(point)]
    rounding = max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
    off = miss(point, domain)
    inside = off <= rounding ** (1 / 3)
    if is_known(inside) and not bool(inside):
        raise ValueError(
            f"player {player} is not on the {domain.domain}, off by {float(off):.3g}; "
            f"a gap is one of points in the domain"
        )
    return inside


simplex_response = DomainResponse(simplex())
"""Minimise a linear function over the unit simplex: the vertex of the least slope.

All leaves of a player's parameters together are one simplex, as `geometry.simplex`
projects them. Of several vertices it is the first one.
"""


def box_response(lower: float, upper: float) -> DomainResponse:
    """Minimise linear functions over the box `[lower, upper]` in every coordinate.

    Args:
        lower: the lower end.
        upper: the upper end.

    Returns:
        The response.

    Raises:
        ValueError: if `lower` exceeds `upper`.
    """
    return DomainResponse(box(lower, upper))


def treeplex_response(tree: Treeplex) -> DomainResponse:
    """Minimise linear functions over the strategies of a sequential game.

    Args:
        tree: the player's decision points.

    Returns:
        The response, a deterministic strategy in sequence form.
    """
    return DomainResponse(treeplex(tree))


def deviation_losses(
    losses: Sequence[Any], strategies: Sequence[Any]
) -> tuple[jax.Array, ...]:
    r"""Compute the loss of every pure action against the other players' strategies.

    $$d_i[a] = \ell_i(a, w_{-i}).$$

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player, shape `(actions,)`.

    Returns:
        One vector per player, of the shape of their strategy; NaN where a strategy
        turns out to be none.

    Raises:
        ValueError: if the shapes do not fit, or a strategy is seen to be off the
            simplex.
    """
    losses, strategies, fine = _matrix_game(losses, strategies)
    return tuple(
        jnp.where(fine, _deviations(player, loss, strategies), jnp.nan)
        for player, loss in enumerate(losses)
    )


def _matrix_game(
    losses: Sequence[Any], strategies: Sequence[Any]
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...], jax.Array]:
    """Check losses and strategies; and whether these are on simplices, the last."""
    losses, strategies = (
        tuple(map(_floating, given)) for given in (losses, strategies)
    )
    if len(losses) != len(strategies) or any(s.ndim != 1 for s in strategies):
        raise ValueError(
            f"expected one array of losses and one vector per player, got "
            f"{len(losses)} arrays and shapes {[s.shape for s in strategies]}"
        )
    shape = tuple(s.size for s in strategies)
    for player, loss in enumerate(losses):
        if loss.shape != shape:
            raise ValueError(
                f"the losses of player {player} must have one axis per player, {shape},"
                f" got {loss.shape}"
            )
    fine = jnp.array(True)
    for player, strategy in enumerate(strategies):
        fine &= _inside(player, strategy, simplex())
    return losses, strategies, fine


def _floating(array: Any) -> jax.Array:
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _deviations(
    player: int, loss: jax.Array, strategies: Sequence[jax.Array]
) -> jax.Array:
    # From the last axis on, so that the numbers of the earlier ones stay.
    for axis in reversed(range(len(strategies))):
        if axis != player:
            loss = jnp.tensordot(loss, strategies[axis], axes=(axis, 0))
    return loss


def best_responses(losses: Sequence[Any], strategies: Sequence[Any]) -> Params:
    """Find every player's best pure response to the others' mixed strategies.

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player.

    Returns:
        One vertex of the simplex per player, the first one of several; NaN where a
        strategy turns out to be none.

    Raises:
        ValueError: as `deviation_losses`.
    """
    losses, strategies, fine = _matrix_game(losses, strategies)
    return tuple(
        jnp.where(fine, simplex_response(d), jnp.nan)
        for d in _above_least(losses, strategies)
    )


def _above_least(
    losses: Sequence[jax.Array], strategies: Sequence[jax.Array]
) -> list[jax.Array]:
    """The deviation losses less the least one.

    What the others' actions add to all of a player's losses is taken off first, so that
    no digits are lost to it.
    """
    results = []
    for player, loss in enumerate(losses):
        loss = loss - jnp.min(loss, axis=player, keepdims=True)
        deviations = _deviations(player, loss, strategies)
        results.append(deviations - jnp.min(deviations))
    return results


def nash_conv(losses: Sequence[Any], strategies: Sequence[Any]) -> jax.Array:
    r"""Compute NashConv: what best responses would gain, summed over the players.

    $$\sum_i \Big( \ell_i(w) - \min_{a} \ell_i(a, w_{-i}) \Big) \ge 0,$$

    zero exactly at the Nash equilibria; in a zero-sum game the duality gap. jit-, vmap-
    and grad-able (a subgradient where best responses tie).

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player.

    Returns:
        A scalar; NaN where a strategy turns out to be none.

    Raises:
        ValueError: as `deviation_losses`.

    Example:
        >>> import jax.numpy as jnp
        >>> pennies = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
        >>> point = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
        >>> nash_conv((pennies, -pennies), point).item()
        1.0
    """
    losses, strategies, fine = _matrix_game(losses, strategies)
    excess = _above_least(losses, strategies)
    gains = [d @ s.astype(d.dtype) for d, s in zip(excess, strategies, strict=True)]
    return jnp.where(fine, sum(gains[1:], gains[0]), jnp.nan)


def exploitability(losses: Sequence[Any], strategies: Sequence[Any]) -> jax.Array:
    """Compute the exploitability, NashConv divided by the number of players.

    Args:
        losses: one array per player, each with one axis per player.
        strategies: one mixed strategy per player.

    Returns:
        A scalar, zero exactly at the Nash equilibria; NaN where a strategy turns out to
        be none.

    Raises:
        ValueError: as `deviation_losses`.
    """
    return nash_conv(losses, strategies) / len(strategies)
