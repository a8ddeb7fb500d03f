"""What users give, a game and its start or a rule, in one form or refused clearly."""

from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gamedyn.game import Game, Params, check_params
from gamedyn.games import Problem, make


def by_name(game: Problem | Game | str) -> Problem | Game:
    """Make the registered game of a name; leave everything else as it is."""
    return make(game) if isinstance(game, str) else game


def as_problem(
    game: Problem | Game,
    start: Params | None = None,
    *,
    caller: str,
    argument: str = "start",
) -> Problem:
    """Make a problem of a game and its start; leave a problem as it is.

    Args:
        game: a problem, or a deterministic game.
        start: where the game starts, one pytree per player. Further seeds start at
            standard normal distances from it.
        caller: the name of the function that was given these, for messages.
        argument: the name of its argument for the start, for messages.

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
                f"{caller} takes a start with a Game; a Problem has its own, and what "
                f"else there is to name comes as one list: {caller}(problem, [...])"
            )
        return game
    if not isinstance(game, Game):
        raise TypeError(
            f"{caller} takes a Problem, the name of a registered game, or a Game and a "
            f"point, got {type(game).__name__}"
        )
    if not isinstance(start, tuple):
        raise TypeError(
            f"{caller} needs a point of the Game: {caller}(game, {argument}, ...) with "
            f"{argument} a tuple of {game.num_players} pytrees, one per player"
        )
    check_params(start, game.num_players)
    return Problem(game, Partial(_near, start))


def _near(start: Params, key: Any) -> Params:
    """Start at the given point, or with a key in its neighbourhood."""
    flat, unravel = ravel_pytree(start)
    if key is None:
        return unravel(flat)
    return unravel(flat + jax.random.normal(key, flat.shape, flat.dtype))


def no_rule(expected: str, given: Any) -> TypeError:
    """The error about something that is no rule; of a builder it says what to do."""
    what = type(given).__name__
    if callable(given):
        what = (
            f"the {what} {getattr(given, '__name__', '')}: build the rule first, as in "
            "gd.extragradient(optax.sgd(0.1)), or give its name"
        )
    return TypeError(f"{expected}, got {what}")
