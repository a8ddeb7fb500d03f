"""Registries: one table of named things that feeds tests, docs and the command line."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")

_SHOWN = 12  # names in a message, where none is like the one given


class Registry(Generic[Entry]):
    """An ordered table from snake_case names to entries; hyphens are accepted.

    Args:
        kind: what is registered ("game", "rule"), for error messages.
    """

    def __init__(self, kind: str):
        """Start empty."""
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Register `entry` under `name`.

        Raises:
            ValueError: if the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"the {self.kind} {name!r} is registered already")
        self._entries[name] = entry

    def register(
        self, name: str, describe: Callable[[Any], Entry], thing: Any = None
    ) -> Any:
        """Register a thing now, or return the decorator that registers it.

        Every kind's own `register(name, thing=None, *, facts...)` ends in this call,
        so that all are used alike: as one call beside the builder, or above it as
        `@register(name, facts...)`.

        Args:
            name: the name, in snake case.
            describe: makes the entry of the thing.
            thing: what is registered; if `None`, the one that is decorated.

        Returns:
            The thing, unchanged, or a decorator that returns it unchanged.

        Raises:
            ValueError: if the name is taken.
        """

        def add(thing: Any) -> Any:
            self.add(name, describe(thing))
            return thing

        return add if thing is None else add(thing)

    def remove(self, name: str) -> None:
        """Take an entry out again.

        Raises:
            ValueError: if the name is unknown.
        """
        self[name]
        del self._entries[name.replace("-", "_")]

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._entries)

    def entries(self) -> dict[str, Entry]:
        """All entries by name, in order of registration."""
        return dict(self._entries)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """Look an entry up.

        Raises:
            ValueError: if the name is unknown; the message names the nearest ones.
        """
        key = name.replace("-", "_")
        if key not in self._entries:
            near = difflib.get_close_matches(key, self._entries, n=3, cutoff=0.5)
            if near:
                hint = f"did you mean {', '.join(near)}?"
            else:
                some = list(self._entries)[:_SHOWN]
                more = len(self._entries) - len(some)
                hint = "known: " + ", ".join(some) + f" and {more} more" * bool(more)
            raise ValueError(f"unknown {self.kind} {name!r}; {hint}")
        return self._entries[key]
