"""A problem: a game with its start, its solutions and what is known of it."""

import dataclasses
import inspect
import reprlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.tree_util import Partial

from gamedyn._moved import forward
from gamedyn.checks import check_function, described
from gamedyn.game import Batch, Game, Params
from gamedyn.geometry import Geometry, euclidean, per_player


@dataclasses.dataclass(frozen=True)
class Info:
    """What is known about a problem, static under jit.

    Attributes:
        name: the registered name.
        summary: one line in words.
        source: authors, year, arXiv id.
        num_components: the number n of components of a finite sum, whose batches are
            index arrays into `range(n)`; `None` if the problem is not one.
        has_mean: whether the losses at the batch `None` are the expectation over the
            batches that `sample` draws, though these are no finite sum.
        shows: what the game is good for, in a few words.
        solution: what the known solutions are, a key of `SOLUTIONS`; "" if unsaid.
    """

    name: str = "game"
    summary: str = ""
    source: str = ""
    num_components: int | None = None
    has_mean: bool = False
    shows: str = ""
    solution: str = ""


# What never stands in for a part of a problem where jax takes one apart, but is given
# by mistake.
_NO_STANDINS = (tuple, list, dict, str, jax.Array, np.ndarray)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("game", "init", "solutions", "sample"),
    meta_fields=("geometry", "info"),
)
@dataclasses.dataclass(frozen=True)
class Problem:
    """A game with its start, solutions, domains and sampler: a pytree of arrays.

    Attributes:
        game: the losses.
        init: `init(key) -> params` draws a start; `init(None)` is the standard one.
        solutions: known equilibria, each a tuple of one pytree per player; empty where
            none is known.
        geometry: one for all players, or a tuple of one each.
        sample: `sample(key) -> batch`, or `None` in a deterministic game.
        info: facts.

    Raises:
        TypeError: if the game is none, `init` or `sample` no function of a key, a
            solution no tuple, or a geometry none.
        ValueError: if a solution or the geometries are for another number of players.
    """

    game: Game
    init: Callable[[Any], Params]
    solutions: tuple[Params, ...] = ()
    geometry: Geometry | tuple[Geometry, ...] = euclidean
    sample: Callable[[jax.Array], Batch] | None = None
    info: Info = Info()

    def __post_init__(self) -> None:
        """Turn plain functions into pytrees, so that the problem passes through jit."""
        # Only what users give: jax rebuilds pytrees with whatever stands in.
        if isinstance(self.game, _NO_STANDINS) or inspect.isfunction(self.game):
            raise TypeError(
                "game must be a Game, as gamedyn.zero_sum makes one, got "
                f"{described(self.game)}"
            )
        for name in ("init", "sample"):
            function = getattr(self, name)
            if isinstance(function, (*_NO_STANDINS, Game)):
                hint = ""
                if isinstance(function, (tuple, list)) and name == "init":
                    hint = f": lambda key: {reprlib.repr(tuple(function))}"
                raise TypeError(
                    f"{name} must be a function of a key, got "
                    f"{described(function)}{hint}"
                )
            if callable(function) and not isinstance(function, Partial):
                check_function(name, function, "key")
                object.__setattr__(self, name, Partial(function))
        if isinstance(self.game, Game):
            self._check_players(self.game.num_players)

    def _check_players(self, num_players: int) -> None:
        """Check that solutions and geometries are those of so many players."""
        per_player(self.geometry, num_players, "geometry")
        if isinstance(self.solutions, list):
            object.__setattr__(self, "solutions", tuple(self.solutions))
        for solution in self.solutions if isinstance(self.solutions, tuple) else ():
            if isinstance(solution, (list, dict, float, jax.Array, np.ndarray)):
                raise TypeError(
                    "solutions must be a tuple of solutions, each a tuple of one "
                    f"pytree per player, got {described(solution)} among them: a "
                    "single one is ((x, y),)"
                )
            if isinstance(solution, tuple) and len(solution) != num_players:
                raise ValueError(
                    f"a solution has the parameters of {num_players} players, got "
                    f"{len(solution)}"
                )


SOLUTIONS = {
    "Nash": "nobody gains by moving alone",
    "local Nash": "nobody gains by a small move alone",
    "minimax": "locally optimal for who moves first, but no local Nash point",
    "stationary": "the field vanishes, but a player gains by moving alone",
    "none": "no solution is known, or none is finite",
}
"""What a problem's known solutions are."""


def domain_of(problem: Problem) -> str:
    """Name the domains of a problem's players, in one word if they are alike."""
    num_players = problem.game.num_players
    geometries = per_player(problem.geometry, num_players, "geometry")
    return ", ".join(dict.fromkeys(geometry.domain for geometry in geometries))


if not TYPE_CHECKING:  # old names
    __getattr__ = forward(__name__, "gamedyn.games.registry")
