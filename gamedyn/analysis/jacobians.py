"""Dense Jacobians of a game's field, own Hessians, and what follows from them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gamedyn.checks import check_positive_integer
from gamedyn.fields import Field, as_field
from gamedyn.game import Batch, Game, Params, check_params


class Split(NamedTuple):
    """A matrix as the sum of a symmetric and an antisymmetric one.

    Attributes:
        symmetric: S = (J + J')/2, of the shape of J.
        antisymmetric: A = (J - J')/2.
    """

    symmetric: jax.Array
    antisymmetric: jax.Array


def game_jacobian(
    game_or_field: Game | Field,
    params: Params,
    batch: Batch = None,
    *,
    chunk: int | None = None,
) -> jax.Array:
    r"""Compute the Jacobian of the simultaneous gradient as a dense matrix.

    $$J(z) = DF(z), \qquad J_{ij} = \nabla_{z_j} \nabla_{z_i} \ell_i(z).$$

    Forward mode over the flattened parameters, players in order: d Jacobian-vector
    products for d scalar parameters, all at once or `chunk` of them at a time, which
    bounds the memory. A two-player zero-sum game differentiates its one payoff only.

    Args:
        game_or_field: a game, or any field.
        params: the point z, one pytree per player.
        batch: the batch at which to differentiate.
        chunk: how many products at a time; all if `None`.

    Returns:
        The matrix of shape `(d, d)`, in the dtype of the parameters.

    Raises:
        ValueError: if the number of players or of losses is wrong, or `chunk` is not a
            positive integer.
        TypeError: if a parameter is not a real floating-point number.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x**2 + x * y - y**2)
        >>> gd.analysis.game_jacobian(game, (jnp.array(1.0), jnp.array(1.0))).tolist()
        [[2.0, 1.0], [-1.0, 2.0]]
    """
    check_params(params)
    flat_field, point = flat(game_or_field, params, batch)
    return dense_jacobian(flat_field, point, chunk=chunk)


def own_hessians(
    game: Game, params: Params, batch: Batch = None, *, chunk: int | None = None
) -> tuple[jax.Array, ...]:
    r"""Compute every player's Hessian of their own loss in their own parameters.

    $$J_{ii}(z) = \nabla^2_{z_i} \ell_i(z),$$

    the diagonal blocks of the game Jacobian, without the mixed ones.

    Args:
        game: the game.
        params: the point z, one pytree per player.
        batch: the batch at which to differentiate.
        chunk: how many Hessian-vector products at a time; all if `None`.

    Returns:
        One matrix of shape `(d_i, d_i)` per player, over the flattened parameters.

    Raises:
        ValueError: if the number of players or of losses is wrong, or `chunk` is not a
            positive integer.
        TypeError: if a parameter is not a real floating-point number.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x**2 + x * y - y**2)
        >>> point = (jnp.array(1.0), jnp.array(1.0))
        >>> [block.tolist() for block in own_hessians(game, point)]
        [[[2.0]], [[2.0]]]
    """
    check_params(params, game.num_players)

    def own_hessian(player: int) -> jax.Array:
        point, unravel = ravel_pytree(params[player])

        def loss(own):
            others = params[:player], params[player + 1 :]
            return game(others[0] + (unravel(own),) + others[1], batch)[player]

        return dense_jacobian(jax.grad(loss), point, chunk=chunk)

    return tuple(own_hessian(player) for player in range(game.num_players))


def split(jacobian: jax.Array) -> Split:
    r"""Split a matrix into its symmetric and its antisymmetric part.

    $$J = S + A, \qquad S = \tfrac12 (J + J^\top), \quad A = \tfrac12 (J - J^\top).$$

    A = 0: a potential game; S = 0: a Hamiltonian game. If S is positive definite, so is
    every own Hessian, and the flow $\dot w = -F(w)$ is stable.

    Args:
        jacobian: shape `(..., d, d)`.

    Returns:
        The two parts.

    Raises:
        ValueError: if the matrix is not square.

    References:
        Balduzzi et al., "The mechanics of n-player differentiable games", 2018,
        arXiv:1802.05642.
    """
    shape = jnp.shape(jacobian)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"expected a square matrix, got shape {shape}")
    transpose = jnp.swapaxes(jacobian, -1, -2)
    return Split((jacobian + transpose) / 2, (jacobian - transpose) / 2)


def hamiltonian(
    game_or_field: Game | Field, params: Params, batch: Batch = None
) -> jax.Array:
    r"""Evaluate the Hamiltonian of a game, half the squared norm of its field.

    $$h(z) = \tfrac12 |F(z)|_2^2, \qquad \nabla h = J^\top F.$$

    Args:
        game_or_field: a game, or any field.
        params: the point z, one pytree per player.
        batch: the batch of this evaluation.

    Returns:
        The scalar h, zero exactly where the field vanishes.

    References:
        Balduzzi et al., "The mechanics of n-player differentiable games", 2018,
        arXiv:1802.05642.
    """
    check_params(params)
    direction = ravel_pytree(as_field(game_or_field)(params, batch))[0]
    return jnp.sum(direction**2) / 2


def flat(
    game_or_field: Game | Field, params: Params, batch: Batch
) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    r"""Write a field as a function of one vector.

    The field of a two-player zero-sum game is $(\nabla_x f, -\nabla_y f)$, one gradient
    of one loss.

    Args:
        game_or_field: a game, or any field.
        params: the point, one pytree per player.
        batch: the batch of every evaluation.

    Returns:
        The field as a function from shape `(d,)` to shape `(d,)`, and the flat point.
    """
    point, unravel = ravel_pytree(params)
    if (
        isinstance(game_or_field, Game)
        and game_or_field.zero_sum
        and game_or_field.num_players == 2
    ):
        game, size = game_or_field, ravel_pytree(params[0])[0].size
        signs = jnp.where(jnp.arange(point.size) < size, 1, -1).astype(point.dtype)
        payoff = jax.grad(lambda vector: game(unravel(vector), batch)[0])
        return lambda vector: signs * payoff(vector), point
    field = as_field(game_or_field)
    return lambda vector: ravel_pytree(field(unravel(vector), batch))[0], point


def dense_jacobian(
    function: Callable[[jax.Array], jax.Array],
    point: jax.Array,
    *,
    chunk: int | None = None,
) -> jax.Array:
    """Differentiate a function of one vector forward, `chunk` columns at a time.

    Args:
        function: from shape `(d,)` to shape `(m,)`.
        point: where, shape `(d,)`.
        chunk: how many columns at a time; all if `None`.

    Returns:
        The matrix of shape `(m, d)`.

    Raises:
        ValueError: if `chunk` is not a positive integer.
    """
    if chunk is None:
        return jax.jacfwd(function)(point)
    check_positive_integer("chunk", chunk)

    def column(index):
        direction = (jnp.arange(point.size) == index).astype(point.dtype)
        return jax.jvp(function, (point,), (direction,))[1]

    return jax.lax.map(column, jnp.arange(point.size), batch_size=chunk).T
