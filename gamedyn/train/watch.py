"""Who ordered a run is told when it starts and how it ends, whoever calls `fit`.

A recipe calls `fit` with whatever it likes; what runs the recipe needs to know when
the run is accepted (its options, data and stored state passed every check) and whether
a signal ended it.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Watcher(NamedTuple):
    """Functions that `fit` calls in every process.

    Attributes:
        started: `started(folder, step, about)`: the run in this folder (`None` if it
            has none) is accepted and goes on from this step; `about` describes it.
        ended: `ended(state)`, with what `fit` returns.
    """

    started: Callable[[Path | None, int, dict[str, Any]], Any] = lambda *_: None
    ended: Callable[[Any], Any] = lambda _: None


_watchers: list[Watcher] = []


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of every run inside."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def started(folder: Path | None, step: int, about: dict[str, Any]) -> None:
    """Say that a run is accepted.

    Args:
        folder: where it is kept.
        step: the steps that it has done already.
        about: what it depends on, JSON values.
    """
    for watcher in tuple(_watchers):
        watcher.started(folder, step, about)


def ended(state: Any) -> Any:
    """Say how a run ended, and return its state."""
    for watcher in tuple(_watchers):
        watcher.ended(state)
    return state
