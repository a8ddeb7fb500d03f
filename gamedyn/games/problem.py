"""A problem: a game together with where to start, where it ends, and what is known."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params
from gamedyn.geometry import Geometry, euclidean
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
    """

    name: str = "game"
    summary: str = ""
    source: str = ""
    num_components: int | None = None


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


@dataclasses.dataclass(frozen=True)
class GameEntry:
    """A registered game: its builder, one line, and the source."""

    make: Callable[..., Problem]
    summary: str
    source: str


REGISTRY: Registry[GameEntry] = Registry("game")


def register(
    summary: str, source: str
) -> Callable[[Callable[..., Problem]], Callable[..., Problem]]:
    """Register a builder under its own name and stamp what it builds with the facts.

    Args:
        summary: one line in words.
        source: authors, year, arXiv id.

    Returns:
        A decorator. The builder must work without arguments.
    """

    def decorate(builder: Callable[..., Problem]) -> Callable[..., Problem]:
        name = getattr(builder, "__name__", "game")

        @functools.wraps(builder)
        def stamped(*args: Any, **kwargs: Any) -> Problem:
            problem = builder(*args, **kwargs)
            facts = dataclasses.replace(
                problem.info, name=name, summary=summary, source=source
            )
            return dataclasses.replace(problem, info=facts)

        REGISTRY.add(name, GameEntry(stamped, summary, source))
        return stamped

    return decorate
