"""A user's own game and its start as a problem."""

from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gamedyn.game import Game, Params, check_params
from gamedyn.games import Problem


def as_problem(
    game: Problem | Game, start: Params | None = None, *, caller: str
) -> Problem:
    """Make a problem of a game and its start; leave a problem as it is.

    Args:
        game: a problem, or a deterministic game.
        start: where the game starts, one pytree per player. Further seeds start at
            standard normal distances from it.
        caller: the name of the function that was given these, for messages.

    Returns:
        The problem.

    Raises:
        TypeError: if a game has no start, a problem is given one, the first argument is
            neither, or the start is no tuple of floating-point pytrees.
        ValueError: if the start is for another number of players.
    """
    if isinstance(game, Problem):
        if start is not None:
            raise TypeError(
                f"{caller} takes a start with a Game; a Problem has its own"
            )
        return game
    if not isinstance(game, Game):
        raise TypeError(
            f"{caller} takes a Problem (gd.games.make(NAME)), or a Game and its start, "
            f"got {type(game).__name__}"
        )
    if not isinstance(start, tuple):
        raise TypeError(
            f"{caller} needs the start of a Game: {caller}(game, start, ...) with "
            f"start a tuple of {game.num_players} pytrees, one per player"
        )
    check_params(start, game.num_players)
    return Problem(game, Partial(_near, start))


def _near(start: Params, key: Any) -> Params:
    """Start at the given point, or with a key in its neighbourhood."""
    flat, unravel = ravel_pytree(start)
    if key is None:
        return unravel(flat)
    return unravel(flat + jax.random.normal(key, flat.shape, flat.dtype))
