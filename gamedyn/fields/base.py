"""The gradient field, products with its Jacobian, and the parts of that Jacobian."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.fields.registry import register, without_step
from gamedyn.game import Batch, Game, Params, check_params, no_game

Field = Callable[..., Params]
"""`field(params, batch=None) -> direction`, of the structure of `params`; no memory."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """A hashable option that jit must not trace, though the field is a pytree."""

    value: Any


def gradient(game: Game) -> Field:
    r"""Let every player follow the gradient of their own loss.

    $$F(z) = (\nabla_{z_1} \ell_1(z), \dots, \nabla_{z_n} \ell_n(z)).$$

    Each component is its own `jax.grad` (in a zero-sum game of two, they are one with a
    sign): under jit the shared forward passes are merged, and a rule that uses only one
    component pays only for that one. Always call under jit; eagerly the unused losses
    are computed too.

    Args:
        game: the game.

    Returns:
        The simultaneous gradient, a pytree whose leaves are the game's arrays.

    Raises:
        TypeError: if it is not given a game.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> field = gd.fields.gradient(gd.zero_sum(lambda x, y: x * y))
        >>> [leaf.item() for leaf in field((jnp.array(2.0), jnp.array(3.0)))]
        [3.0, -2.0]
    """
    return Partial(_gradient, check_game(game, "gradient"))


def _gradient(game: Game, params: Params, batch: Batch = None) -> Params:
    check_params(params, game.num_players)
    # The other players' parameters stay ordinary variables (no stop_gradient): the
    # Jacobian of the field needs their mixed derivatives.
    # Everybody's component is the gradient of a loss, to be descended: that of player 1
    # in a zero-sum game is minus the gradient of the payoff.
    if game.zero_sum:
        # One reverse pass through the one payoff: no cheaper by itself, but products
        # with the transposed Jacobian then run through it once, not once per player.
        leader, follower = jax.grad(lambda z: game(z, batch)[0])(params)
        return leader, jax.tree.map(jnp.negative, follower)

    def own_loss(own, player):
        return game(params[:player] + (own,) + params[player + 1 :], batch)[player]

    return tuple(jax.grad(own_loss)(own, i) for i, own in enumerate(params))


def as_field(game_or_field: Game | Field) -> Field:
    """Turn a game into its gradient field; leave a field as it is.

    Raises:
        TypeError: if given neither.
    """
    if isinstance(game_or_field, Game):
        return gradient(game_or_field)
    if callable(game_or_field):
        return game_or_field
    raise no_game("expected a Game or a field(params, batch)", game_or_field)


def jvp(field: Field, params: Params, tangents: Params, batch: Batch = None) -> Params:
    r"""Multiply the field's Jacobian with a vector: $J(z)\,v$, $J = DF$.

    Args:
        field: the field F.
        params: the point z.
        tangents: the vector v, of the structure of `params`.
        batch: the batch of this evaluation.

    Returns:
        The product, of the structure of `params`.
    """
    return jax.jvp(lambda z: field(z, batch), (params,), (tangents,))[1]


def vjp(
    field: Field, params: Params, cotangents: Params, batch: Batch = None
) -> Params:
    r"""Multiply the field's transposed Jacobian with a vector: $J(z)^\top v$.

    Args:
        field: the field F.
        params: the point z.
        cotangents: the vector v, of the structure of `params`.
        batch: the batch of this evaluation.

    Returns:
        The product, of the structure of `params`.
    """
    return jax.vjp(lambda z: field(z, batch), params)[1](cotangents)[0]


def noisy(field: Field, scale: float) -> Field:
    r"""Add Gaussian noise: $F(z) + \sigma \xi$, $\xi \sim N(0, I)$.

    Args:
        field: a deterministic field F.
        scale: the standard deviation sigma of every coordinate.

    Returns:
        A stochastic field whose batch is a PRNG key.
    """
    return Partial(_noisy, field, scale)


def _noisy(field: Field, scale: float, params: Params, batch: Batch) -> Params:
    leaves, treedef = jax.tree.flatten(field(params, None))
    keys = jax.random.split(batch, len(leaves))
    noise = [
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(
        treedef,
        [leaf + scale * xi for leaf, xi in zip(leaves, noise, strict=True)],
    )


def at_batch(field: Field, batch: Batch) -> Field:
    """Fix the batch of a field; the batch it is given later is ignored.

    Args:
        field: a field.
        batch: the batch.

    Returns:
        A deterministic field.
    """
    return Partial(_at_batch, field, batch)


def _at_batch(field: Field, fixed: Batch, params: Params, batch: Batch = None):
    del batch
    return field(params, fixed)


def is_zero_sum(game_or_field: Game | Field) -> bool:
    """Whether this is known to be a zero-sum game of two, or the gradient of one.

    The gradient may be evaluated at a fixed batch, or with noise. Of any other function
    nothing is known.
    """
    if isinstance(game_or_field, Game):
        return game_or_field.zero_sum
    if isinstance(game_or_field, Partial):
        transparent = game_or_field.func in (_gradient, _at_batch, _noisy)
        return transparent and is_zero_sum(game_or_field.args[0])
    return False


def check_game(game: Any, field: str) -> Game:
    """Check that a field that is made of losses is given a game.

    Args:
        game: what was given.
        field: the name of the field to be built.

    Returns:
        The game.

    Raises:
        TypeError: if it is not one.
    """
    if not isinstance(game, Game):
        raise no_game(f"{field} is made of losses: expected a Game", game)
    return game


def check_num_players(params: Params, expected: int, field: str) -> None:
    """Raise `ValueError` unless there are as many players as a field is for."""
    if len(params) != expected:
        raise ValueError(f"{field} is for {expected} players, got {len(params)}")


# J = H_d + H_o: own Hessians on the diagonal, and cross blocks. H_o is the Jacobian of
# the map below, in which a player's own parameters are constant; they are constant in
# that map only, so that derivatives of a field made of it are exact.


def coupling(field: Field, params: Params, batch: Batch = None) -> Callable[..., Any]:
    """The field as a function of the others: its Jacobian at `params` is H_o.

    Args:
        field: the field F.
        params: the point z, where everybody keeps their own parameters.
        batch: the batch of this evaluation.

    Returns:
        The map from w to $(F_i(z_i, w_{-i}))_i$.
    """
    check_params(params)

    def others(point: Params) -> Params:
        return tuple(
            field(point[:i] + (own,) + point[i + 1 :], batch)[i]
            for i, own in enumerate(params)
        )

    return others


def cross_jvp(
    field: Field, params: Params, tangents: Params, batch: Batch = None
) -> Params:
    """Multiply the cross blocks H_o of the Jacobian with a vector; see `coupling`."""
    return jax.jvp(coupling(field, params, batch), (params,), (tangents,))[1]


# The registered fields.

register(
    "gradient",
    without_step(gradient),
    family="gradient",
    summary="everybody's gradient of their own loss",
    formula="F",
    source="classical",
    guarantee="stable where J's eigenvalues have positive real part, for small steps",
    work=1.0,
)
