"""Curvature operators of a game: products with Hessians and Jacobians, no matrix."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn import fields
from gamedyn.fields import Field
from gamedyn.game import Batch, Game, Params, PyTree, check_params


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("game_or_field", "params", "batch", "weights"),
    meta_fields=("kind", "player"),
)
@dataclasses.dataclass(frozen=True)
class Operator:
    """A linear map on one player's or all players' parameters, `operator(vector)`.

    A pytree: the point and the batch are leaves, so that an operator passes through
    `jax.jit` as an argument and a new point or batch does not retrace. Build one with
    `own_hessian`, `jacobian`, `jacobian_transposed` or `symmetric_part`.

    Attributes:
        game_or_field: what is differentiated.
        params: the point z, one pytree per player.
        batch: the fixed batch; with `weights`, several along a leading axis.
        weights: of the batches in the mean, shape `(m,)`, or `None`: one batch.
        kind: which of the four maps this is.
        player: whose own Hessian, or `None`.
    """

    game_or_field: Any
    params: Params
    batch: Batch
    weights: jax.Array | None
    kind: str
    player: int | None

    @property
    def like(self) -> PyTree:
        """The point that the vectors have the structure of."""
        return self.params if self.player is None else self.params[self.player]

    def __call__(self, vector: PyTree) -> PyTree:
        """Multiply with a vector.

        Args:
            vector: of the structure of `like`.

        Returns:
            The product, of the same structure.
        """
        if self.weights is None:
            return self._at(self.batch, vector)

        # One batch at a time: the graph of an epoch is never alive.
        def add(total, weighted):
            weight, batch = weighted
            product = self._at(batch, vector)
            return jax.tree.map(
                lambda t, p: t + weight.astype(p.dtype) * p, total, product
            ), None

        zero = jax.tree.map(jnp.zeros_like, vector)
        return jax.lax.scan(add, zero, (self.weights, self.batch))[0]

    def _at(self, batch: Batch, vector: PyTree) -> PyTree:
        game, params = self.game_or_field, self.params
        zero_sum = isinstance(game, Game) and game.zero_sum
        if self.kind == "own_hessian":
            return _own_product(game, params, batch, self.player, vector)
        if self.kind == "symmetric_part" and zero_sum:
            return tuple(
                _own_product(game, params, batch, player, part)
                for player, part in enumerate(vector)
            )
        if self.kind != "symmetric_part" and zero_sum:
            # J = P H and J' = H P with P = diag(I, -I): one loss instead of two.
            if self.kind == "jacobian":
                return _flip(_payoff_product(game, params, batch, vector))
            return _payoff_product(game, params, batch, _flip(vector))
        field = fields.as_field(game)
        if self.kind == "jacobian":
            return fields.jvp(field, params, vector, batch)
        transposed = fields.vjp(field, params, vector, batch)
        if self.kind == "jacobian_transposed":
            return transposed
        forward = fields.jvp(field, params, vector, batch)
        return jax.tree.map(lambda a, b: (a + b) / 2, forward, transposed)


def own_hessian(
    game: Game, params: Params, batch: Batch = None, *, player: int
) -> Operator:
    r"""Give the product with one player's own Hessian, $v \mapsto J_{ii} v$.

    $$J_{ii} = \nabla^2_{z_i} \ell_i(z), \qquad
      J_{ii} v = \tfrac{d}{dt} \nabla_{z_i} \ell_i(z_i + t v, z_{-i}) |_{t=0}.$$

    Args:
        game: the game.
        params: the point z, one pytree per player.
        batch: the fixed batch.
        player: i.

    Returns:
        The operator on player i's parameters.

    Raises:
        ValueError: if there is no such player, or the number of players is wrong.
        TypeError: if `game` is not a game.
    """
    if not isinstance(game, Game):
        raise TypeError(f"own Hessians need a Game, got {type(game).__name__}")
    if not 0 <= player < game.num_players:
        raise ValueError(
            f"expected a player from 0 to {game.num_players - 1}, got {player}"
        )
    return _operator(game, params, batch, "own_hessian", int(player))


def jacobian(
    game_or_field: Game | Field, params: Params, batch: Batch = None
) -> Operator:
    r"""Give the product with the game Jacobian, $v \mapsto J v$, $J = DF$.

    In a two-player zero-sum game J = P H, H the Hessian of the payoff and P = diag(I,
    -I).

    Args:
        game_or_field: a game, or any field F.
        params: the point z, one pytree per player.
        batch: the fixed batch.

    Returns:
        The operator on all players' parameters.
    """
    return _operator(game_or_field, params, batch, "jacobian")


def jacobian_transposed(
    game_or_field: Game | Field, params: Params, batch: Batch = None
) -> Operator:
    r"""Give the product with the transposed game Jacobian, $v \mapsto J^\top v$.

    Args:
        game_or_field: a game, or any field F.
        params: the point z, one pytree per player.
        batch: the fixed batch.

    Returns:
        The operator on all players' parameters.
    """
    return _operator(game_or_field, params, batch, "jacobian_transposed")


def symmetric_part(
    game_or_field: Game | Field, params: Params, batch: Batch = None
) -> Operator:
    r"""Give the product with $S = (J + J^\top)/2$.

    If S is positive definite, so is every own Hessian, and every eigenvalue of J has a
    positive real part. In a two-player zero-sum game S is block diagonal, its blocks
    the own Hessians.

    Args:
        game_or_field: a game, or any field F.
        params: the point z, one pytree per player.
        batch: the fixed batch.

    Returns:
        The operator on all players' parameters.
    """
    return _operator(game_or_field, params, batch, "symmetric_part")


def full_data(
    operator: Operator, batches: Batch, weights: Any | None = None
) -> Operator:
    r"""Average an operator over batches, one batch at a time.

    $$v \mapsto \sum_b w_b\, H_b\, v, \qquad \textstyle\sum_b w_b = 1.$$

    With equal batches that make up a data set and losses that are means, this is the
    operator of the whole data set.

    Args:
        operator: what to average; its own batch is replaced.
        batches: the batches along a leading axis of every leaf; keys too.
        weights: of the batches, shape `(m,)`, for batches of unequal weight; they are
            divided by their sum. Equal if `None`.

    Returns:
        The averaged operator.

    Raises:
        ValueError: if there is no batch, or the leading axes differ.
        TypeError: if `operator` is none of this module's.
    """
    if not isinstance(operator, Operator):
        raise TypeError(
            f"expected an operator such as own_hessian(game, params, player=0), "
            f"got {type(operator).__name__}"
        )
    batches = jax.tree.map(jnp.asarray, batches)
    dtype = jnp.result_type(*jax.tree.leaves(operator.like))
    if weights is None:
        sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(batches)}
        if len(sizes) != 1 or sizes & {(), (0,)}:
            raise ValueError(
                f"the leaves of batches must share one leading axis of at least one "
                f"batch, got {sorted(sizes)}"
            )
        ((count,),) = sizes
        weights = jnp.ones(count, dtype)
    weights = jnp.asarray(weights, dtype)
    wrong = [x.shape for x in jax.tree.leaves(batches) if x.shape[:1] != weights.shape]
    if weights.ndim != 1 or not weights.size or wrong:
        raise ValueError(
            f"expected one weight per batch, got weights of shape {weights.shape} and "
            f"leaves of shapes {wrong}"
        )
    weights = weights / jnp.sum(weights)
    return dataclasses.replace(operator, batch=batches, weights=weights)


def as_callable(operator: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    """Make an operator a pytree, so that it passes through `jax.jit` as an argument.

    Raises:
        TypeError: if it is not callable.
    """
    if not callable(operator):
        raise TypeError(
            f"an operator must be a function of a vector, got {type(operator).__name__}"
        )
    if any(leaf is operator for leaf in jax.tree.leaves(operator)):
        return Partial(operator)
    return operator


def _operator(
    game: Any, params: Params, batch: Batch, kind: str, player: int | None = None
) -> Operator:
    check_params(params, game.num_players if isinstance(game, Game) else None)
    game = game if isinstance(game, Game) else as_callable(fields.as_field(game))
    params = jax.tree.map(jnp.asarray, params)
    return Operator(game, params, batch, None, kind, player)


def _own_product(game, params, batch, player, vector):
    def loss(own):
        return game(params[:player] + (own,) + params[player + 1 :], batch)[player]

    return jax.jvp(jax.grad(loss), (params[player],), (vector,))[1]


def _payoff_product(game, params, batch, vector):
    slope = jax.grad(lambda params: game(params, batch)[0])
    return jax.jvp(slope, (params,), (vector,))[1]


def _flip(vector: PyTree) -> PyTree:
    return vector[0], jax.tree.map(jnp.negative, vector[1])
