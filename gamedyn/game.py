"""Games: every player's loss as a pure function of all players' parameters."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import check_function, described, dtype_of

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
            TypeError: if a loss or a parameter is not a real floating-point number, or
                a loss takes other arguments.
        """
        check_params(params, self.num_players)
        check_losses(self)
        try:
            losses = self.losses(params, batch)
        except _UNTRACEABLE as error:
            raise TypeError(
                "a loss takes the value of what jax traces, by float(), an if, numpy "
                "or .item(): write it in jax.numpy, jnp.where for an if"
            ) from error
        if not isinstance(losses, tuple | list):
            raise TypeError(
                f"expected a tuple of losses, one per player, "
                f"got {type(losses).__name__}"
            )
        if len(losses) != self.num_players:
            raise ValueError(
                f"expected {self.num_players} losses, one per player, got {len(losses)}"
            )
        return tuple(
            _scalar(loss, f"the loss of player {player}")
            for player, loss in enumerate(losses)
        )


# What jax raises where a function asks for values that are traced.
_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)


def no_game(expected: str, given: Any) -> TypeError:
    """Make the error of something that is no game; it says where there is one."""
    hint = ""
    if isinstance(getattr(given, "game", None), Game):
        hint = ": a Problem's game is problem.game, its start problem.init(None)"
    elif isinstance(given, str):
        hint = f": a registered one is gamedyn.games.make({given!r}).game"
    elif callable(given):
        hint = ": gamedyn.zero_sum or gamedyn.general_sum makes one of losses"
    return TypeError(f"{expected}, got {described(given)}{hint}")


def _scalar(loss: Any, what: str) -> jax.Array:
    """Check that a loss is a real scalar.

    Raises:
        ValueError: if it has another shape.
        TypeError: if it is no number, or not a real one of floating point.
    """
    if loss is None:
        raise TypeError(f"{what} must be a scalar, got None: does its function return?")
    try:
        loss = jnp.asarray(loss)
    except (TypeError, ValueError):
        loss = described(loss)
    if isinstance(loss, str):
        raise TypeError(f"{what} must be a scalar, got {loss}")
    if loss.shape != ():
        raise ValueError(f"{what} must be a scalar, got an array of shape {loss.shape}")
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(
            f"{what} must be a real floating-point number, got dtype {loss.dtype}"
        )
    return loss


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
        hint = ": write (x, y), not [x, y]" if isinstance(params, list) else ""
        if num_players == 1 and not hint:
            hint = ": that of one player is (x,)"
        raise TypeError(
            f"params must be a tuple with one pytree per player, "
            f"got {described(params)}{hint}"
        )
    if type(params).__name__ == "Solution":
        raise TypeError("params are a Solution, expected its solution.params")
    if num_players is not None and len(params) != num_players:
        raise ValueError(
            f"expected the parameters of {num_players} players, got {len(params)}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = dtype_of(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            got = described(leaf) if dtype is None else f"dtype {dtype}"
            hint = ": write 1.0, not 1" if isinstance(leaf, int) else ""
            raise TypeError(
                f"parameters must be real floating-point numbers, got {got} "
                f"at params{jax.tree_util.keystr(path)}{hint}"
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

    Raises:
        TypeError: if `payoff` is no function. Its arguments are checked when the game
            is first evaluated.

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
        TypeError: if a loss is no function. Their arguments are checked when the game
            is first evaluated.

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


# The losses below are module-level so that two games of the same kind have the same
# tree structure: an inner closure would make jit retrace for every payoff matrix.


def _as_partial(function: Callable[..., Any]) -> Partial:
    if not callable(function):
        raise TypeError(
            f"a loss must be a function of the players' parameters, "
            f"got {described(function)}"
        )
    return function if isinstance(function, Partial) else Partial(function)


def check_losses(game: Game) -> None:
    """Check that a game's losses take what they will be given; none is evaluated.

    Raises:
        TypeError: if one takes other arguments, a batch too many or too few, say.
    """
    kind = getattr(game.losses, "func", None)
    batch = ("batch",) * is_stochastic(game)
    hint = ": there is one function per player, each of everybody's parameters"
    if batch:
        hint += ", and with stochastic=True of a batch"
    else:
        hint += "; one that also takes a batch needs stochastic=True"
    if kind in (_zero_sum, _zero_sum_stochastic):
        (payoff,) = game.losses.args
        check_function("the payoff", payoff, "x", "y", *batch, hint=hint)
    elif kind in (_general_sum, _general_sum_stochastic):
        names = [f"z{player}" for player in range(game.num_players)]
        for player, loss in enumerate(game.losses.args[0]):
            what = f"the loss of player {player}"
            check_function(what, loss, *names, *batch, hint=hint)


def is_stochastic(game: Game) -> bool:
    """Whether a game was made with `stochastic=True`."""
    return getattr(game.losses, "func", None) in (
        _zero_sum_stochastic,
        _general_sum_stochastic,
    )


_PAYOFF = "the payoff, the loss of player 0,"


def _zero_sum(payoff: Partial, params: Params, batch: Batch) -> tuple[Any, Any]:
    del batch
    value = _scalar(payoff(*params), _PAYOFF)
    return value, -value


def _zero_sum_stochastic(
    payoff: Partial, params: Params, batch: Batch
) -> tuple[Any, Any]:
    value = _scalar(payoff(*params, batch), _PAYOFF)
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
