"""A problem: a game together with where to start, where it ends, and what is known."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.registry import Registry


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
    """

    game: Game
    init: Callable[[Any], Params]
    solutions: tuple[Params, ...] = ()
    geometry: Geometry | tuple[Geometry, ...] = euclidean
    sample: Callable[[jax.Array], Batch] | None = None
    info: Info = Info()

    def __post_init__(self) -> None:
        """Turn plain functions into pytrees, so that the problem passes through jit."""
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


@dataclasses.dataclass(frozen=True)
class GameEntry:
    """A registered game: its builder and the facts of what that builds by default.

    Attributes:
        make: the builder.
        summary: one line in words.
        source: authors, year, arXiv id.
        shows: what the game is good for, in a few words.
        solution: what its known solutions are, a key of `SOLUTIONS`.
        num_players: the number of players.
        zero_sum: whether the losses of two players add up to zero.
        domain: the domains of the players' geometries, all in one word if alike.
        finite_sum: whether it is a finite sum, with batches of indices.
        files: the named data set whose files it needs; "" if it needs none.
    """

    make: Callable[..., Problem]
    summary: str
    source: str
    shows: str = ""
    solution: str = ""
    num_players: int = 2
    zero_sum: bool = False
    domain: str = "unconstrained"
    finite_sum: bool = False
    files: str = ""


REGISTRY: Registry[GameEntry] = Registry("game")


def register(
    summary: str,
    source: str,
    *,
    shows: str,
    solution: str,
    num_players: int = 2,
    zero_sum: bool = False,
    domain: str = "unconstrained",
    finite_sum: bool = False,
    files: str = "",
) -> Callable[[Callable[..., Problem]], Callable[..., Problem]]:
    """Register a builder under its own name and stamp what it builds with the facts.

    A builder whose arguments change what the solutions are says so in its own
    `info.solution`, which is kept.

    Args:
        summary: one line in words.
        source: authors, year, arXiv id.
        shows: what the game is good for, in a few words.
        solution: what the known solutions are, a key of `SOLUTIONS`.
        num_players: the number of players, by default.
        zero_sum: whether the losses add up to zero, by default.
        domain: the domains of the geometries, by default.
        finite_sum: whether it is a finite sum.
        files: the named data set whose files it needs.

    Returns:
        A decorator. The builder must work without arguments.

    Raises:
        ValueError: if the kind of solution is unknown.
    """
    if solution not in SOLUTIONS:
        raise ValueError(
            f"unknown kind of solution {solution!r}; known: {', '.join(SOLUTIONS)}"
        )

    def decorate(builder: Callable[..., Problem]) -> Callable[..., Problem]:
        name = getattr(builder, "__name__", "game")

        @functools.wraps(builder)
        def stamped(*args: Any, **kwargs: Any) -> Problem:
            problem = builder(*args, **kwargs)
            facts = dataclasses.replace(
                problem.info,
                name=name,
                summary=summary,
                source=source,
                shows=shows,
                solution=problem.info.solution or solution,
            )
            return dataclasses.replace(problem, info=facts)

        entry = GameEntry(
            stamped,
            summary,
            source,
            shows,
            solution,
            num_players,
            zero_sum,
            domain,
            finite_sum,
            files,
        )
        REGISTRY.add(name, entry)
        return stamped

    return decorate


def domain_of(problem: Problem) -> str:
    """Name the domains of a problem's players, in one word if they are alike."""
    num_players = problem.game.num_players
    geometries = per_player(problem.geometry, num_players, "geometry")
    return ", ".join(dict.fromkeys(geometry.domain for geometry in geometries))
