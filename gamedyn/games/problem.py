"""A problem: a game with its start, its solutions and what is known of it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
from jax.tree_util import Partial

from gamedyn._moved import forward
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
        TypeError: if `init` is a start, not a function that draws one.
    """

    game: Game
    init: Callable[[Any], Params]
    solutions: tuple[Params, ...] = ()
    geometry: Geometry | tuple[Geometry, ...] = euclidean
    sample: Callable[[jax.Array], Batch] | None = None
    info: Info = Info()

    def __post_init__(self) -> None:
        """Turn plain functions into pytrees, so that the problem passes through jit."""
        # Not whether it is callable: jax rebuilds pytrees with whatever stands in.
        if isinstance(self.init, (tuple, list)):
            raise TypeError(
                "init must be a function of a key that draws the start: "
                f"lambda key: {self.init!r}"
            )
        for name in ("init", "sample"):
            function = getattr(self, name)
            if callable(function) and not isinstance(function, Partial):
                object.__setattr__(self, name, Partial(function))


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
