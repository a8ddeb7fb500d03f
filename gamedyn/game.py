"""Games: every player's loss as a pure function of all players' parameters."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

PyTree = Any
Params = tuple[PyTree, ...]
Batch = Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("losses",),
    meta_fields=("num_players", "zero_sum"),
)
@dataclasses.dataclass(frozen=True)
class Game:
    """The losses of `num_players` players, each of whom minimises their own.

    A game is a pytree: the arrays inside its losses (a payoff matrix, say) are
    leaves, so a game passes through `jax.jit` as an argument and can be mapped
    over. Build one with `zero_sum`, `general_sum` or `single_player`.

    Attributes:
        losses: `losses(params, batch)` returns one scalar per player; `params` is
            a tuple with one pytree per player, `batch` any pytree (data, a key,
            both, or `None` in a deterministic game).
        num_players: the number of players, n.
        zero_sum: whether the losses of two players always add up to zero.
    """

    losses: Partial
    num_players: int
    zero_sum: bool = False

    def __call__(self, params: Params, batch: Batch = None) -> tuple[jax.Array, ...]:
        """Evaluate all losses.

        Args:
            params: one pytree per player.
            batch: the batch of a stochastic game, or `None`.

        Returns:
            One scalar per player.

        Raises:
            ValueError: if the number of players or of losses is wrong, or a loss
                is not a scalar.
            TypeError: if a loss or a parameter is not a real floating-point number.
        """
        check_params(params, self.num_players)
        losses = self.losses(params, batch)
        if not isinstance(losses, tuple | list):
            raise TypeError(
                f"expected a tuple of losses, one per player, "
                f"got {type(losses).__name__}"
            )
        if len(losses) != self.num_players:
            raise ValueError(
                f"expected {self.num_players} losses, one per player, got {len(losses)}"
            )
        return tuple(map(_checked, losses, range(self.num_players)))


def check_params(params: Params, num_players: int | None = None) -> None:
    """Check that `params` is a tuple of floating-point pytrees, one per player.

    Args:
        params: what to check.
        num_players: the number of players expected; any if `None`.

    Raises:
        ValueError: if the number of players differs.
        TypeError: if `params` is not a tuple, or a leaf is not real and floating.
    """
    if not isinstance(params, tuple):
        raise TypeError(
            f"params must be a tuple with one pytree per player, "
            f"got {type(params).__name__}"
        )
    if num_players is not None and len(params) != num_players:
        raise ValueError(
            f"expected the parameters of {num_players} players, got {len(params)}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"parameters must be real floating-point numbers, got dtype {dtype} "
                f"at params{jax.tree_util.keystr(path)}"
            )


def zero_sum(payoff: Callable[..., jax.Array], *, stochastic: bool = False) -> Game:
    r"""Make the two-player game in which player 0 minimises what player 1 maximises.

    $$\min_x \max_y f(x, y), \qquad \text{losses } (f, -f).$$

    Args:
        payoff: `payoff(x, y)`, or `payoff(x, y, batch)` if `stochastic`, returns
            the scalar f. Arrays held by a `jax.tree_util.Partial` become leaves of
            the game; arrays closed over are constants.
        stochastic: whether the payoff takes a batch.

    Returns:
        The game with losses `(f, -f)`.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> game((jnp.array(2.0), jnp.array(3.0)))[1].item()
        -6.0
    """
    losses = Partial(
        _zero_sum_stochastic if stochastic else _zero_sum, _as_partial(payoff)
    )
    return Game(losses, num_players=2, zero_sum=True)


def general_sum(*losses: Callable[..., jax.Array], stochastic: bool = False) -> Game:
    r"""Make the game in which player i minimises `losses[i]`.

    $$\text{player } i: \quad \min_{z_i} \ell_i(z_1, \dots, z_n).$$

    The loss of a player who maximises a utility u is -u; u itself would be minimised.

    Args:
        *losses: `losses[i](*params)`, or `losses[i](*params, batch)` if
            `stochastic`, returns the scalar loss of player i.
        stochastic: whether the losses take a batch.

    Returns:
        The game of `len(losses)` players.

    Raises:
        ValueError: if no loss is given.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.general_sum(lambda x, y: x**2 + x * y, lambda x, y: y**2 - x)
        >>> [loss.item() for loss in game((jnp.array(1.0), jnp.array(2.0)))]
        [3.0, 3.0]
    """
    if not losses:
        raise ValueError("a game needs at least one loss, got none")
    partials = tuple(_as_partial(loss) for loss in losses)
    combined = Partial(
        _general_sum_stochastic if stochastic else _general_sum, partials
    )
    return Game(combined, num_players=len(losses))


def single_player(loss: Callable[..., jax.Array], *, stochastic: bool = False) -> Game:
    """Make the one-player game, an ordinary minimisation of `loss(x[, batch])`.

    Args:
        loss: the scalar to be minimised.
        stochastic: whether the loss takes a batch.

    Returns:
        The game of one player; its params are the tuple `(x,)`.
    """
    return general_sum(loss, stochastic=stochastic)


def _checked(loss: Any, player: int) -> jax.Array:
    """Make an array of what a loss returned, if it is a scalar."""
    try:
        array = None if loss is None else jnp.asarray(loss)
    except (TypeError, ValueError):
        array = None
    if array is None:
        got = "None: does it return?" if loss is None else type(loss).__name__
        raise TypeError(f"the loss of player {player} must be a scalar, got {got}")
    if array.shape != ():
        raise ValueError(
            f"the loss of player {player} must be a scalar, "
            f"got an array of shape {array.shape}"
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"the loss of player {player} must be a real floating-point "
            f"number, got dtype {array.dtype}"
        )
    return array


# The losses below are module-level so that two games of the same kind have the same
# tree structure: an inner closure would make jit retrace for every payoff matrix.


def _as_partial(function: Callable[..., Any]) -> Partial:
    if not callable(function):
        raise TypeError(
            f"a loss must be a function of the players' parameters, "
            f"got {type(function).__name__}"
        )
    return function if isinstance(function, Partial) else Partial(function)


def _zero_sum(payoff: Partial, params: Params, batch: Batch) -> tuple[Any, Any]:
    del batch
    value = _checked(payoff(*params), 0)
    return value, -value


def _zero_sum_stochastic(
    payoff: Partial, params: Params, batch: Batch
) -> tuple[Any, Any]:
    value = _checked(payoff(*params, batch), 0)
    return value, -value


def _general_sum(
    losses: tuple[Partial, ...], params: Params, batch: Batch
) -> tuple[Any, ...]:
    del batch
    return tuple(loss(*params) for loss in losses)


def _general_sum_stochastic(
    losses: tuple[Partial, ...], params: Params, batch: Batch
) -> tuple[Any, ...]:
    return tuple(loss(*params, batch) for loss in losses)
