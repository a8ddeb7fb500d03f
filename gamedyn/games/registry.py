"""The registry of games: builders by name, with the facts of what they build."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, overload

from gamedyn.games.problem import SOLUTIONS, Problem
from gamedyn.registry import Registry, normalised

Builder = Callable[..., Problem]


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

    make: Builder
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


def names() -> tuple[str, ...]:
    """The names of all registered games, in alphabetical order."""
    return tuple(sorted(REGISTRY))


def entries() -> dict[str, GameEntry]:
    """All registered games by name, in alphabetical order."""
    return {name: REGISTRY[name] for name in names()}


def entry(name: str) -> GameEntry:
    """Look a game up; an unknown name raises `ValueError` with the nearest ones."""
    return REGISTRY[name]


def make(name: str, **options: Any) -> Problem:
    """Build a registered game.

    Args:
        name: a name from `names()`; hyphens are accepted.
        **options: arguments of the builder.

    Returns:
        The problem.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.
    """
    return entry(name).make(**options)


@overload
def register(
    name: str,
    builder: Builder,
    *,
    summary: str,
    source: str,
    shows: str = "",
    solution: str = "",
    num_players: int = 2,
    zero_sum: bool = False,
    domain: str = "unconstrained",
    finite_sum: bool = False,
    files: str = "",
) -> Builder: ...


@overload
def register(
    name: str,
    *,
    summary: str,
    source: str,
    shows: str = "",
    solution: str = "",
    num_players: int = 2,
    zero_sum: bool = False,
    domain: str = "unconstrained",
    finite_sum: bool = False,
    files: str = "",
) -> Callable[[Builder], Builder]: ...


def register(
    name: str,
    builder: Builder | None = None,
    *,
    summary: str,
    source: str,
    shows: str = "",
    solution: str = "",
    num_players: int = 2,
    zero_sum: bool = False,
    domain: str = "unconstrained",
    finite_sum: bool = False,
    files: str = "",
) -> Any:
    """Register a builder, by a call or as a decorator, and stamp what it builds.

    Name, summary, source, `shows` and `solution` go into the `info` of every problem
    that the builder returns; a builder whose arguments change what the solutions are
    says so in its own `info.solution`, which is kept.

    Args:
        name: the name, in snake case.
        builder: returns a `Problem`; must work without arguments.
        summary: one line in words.
        source: authors, year, arXiv id.
        shows: what the game is good for, in a few words.
        solution: what the known solutions are, a key of `SOLUTIONS`; "" if unsaid.
        num_players: the number of players, by default.
        zero_sum: whether the losses add up to zero, by default.
        domain: the domains of the geometries, by default.
        finite_sum: whether it is a finite sum.
        files: the named data set whose files it needs.

    Returns:
        The builder, now stamping; or the decorator that makes it so.

    Raises:
        TypeError: if the builder is not a function; when it is called, if it returns no
            `Problem`.
        ValueError: if the name is taken, or the kind of solution unknown.

    Example:
        >>> import gamedyn as gd
        >>> @gd.games.register("saddle", summary="a saddle", source="this page")
        ... def saddle(strength=1.0):
        ...     game = gd.zero_sum(lambda x, y: x**2 - y**2 + strength * x * y)
        ...     return gd.games.Problem(game, lambda key: (1.0, 1.0))
        >>> gd.games.make("saddle", strength=2.0).info.summary
        'a saddle'
        >>> gd.games.unregister("saddle")
    """
    if solution and solution not in SOLUTIONS:
        raise ValueError(
            f"unknown kind of solution {solution!r}; known: {', '.join(SOLUTIONS)}"
        )
    told = {"summary": summary, "source": source, "shows": shows}
    describe = functools.partial(
        GameEntry,
        **told,
        solution=solution,
        num_players=num_players,
        zero_sum=zero_sum,
        domain=domain,
        finite_sum=finite_sum,
        files=files,
    )

    def add(builder: Builder) -> Builder:
        REGISTRY.check(name, builder)

        @functools.wraps(builder)
        def stamped(*args: Any, **kwargs: Any) -> Problem:
            problem = builder(*args, **kwargs)
            if not isinstance(problem, Problem):
                raise TypeError(
                    f"the builder of the game {name!r} must return a Problem, "
                    f"got {type(problem).__name__}"
                )
            own = problem.info.solution or solution
            info = dataclasses.replace(
                problem.info, name=normalised(name), **told, solution=own
            )
            return dataclasses.replace(problem, info=info)

        return REGISTRY.register(name, describe, stamped)

    return add if builder is None else add(builder)


def unregister(name: str) -> None:
    """Take a game out of the registry again; an unknown name raises `ValueError`."""
    REGISTRY.remove(name)
