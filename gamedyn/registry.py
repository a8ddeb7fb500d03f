"""Registries: one table of named things that feeds tests, docs and the command line."""

import contextlib
import difflib
import importlib
import re
import reprlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from gamedyn.checks import described

Entry = TypeVar("Entry")

_WORD = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN = 12  # names in a message, where none is like the one given


class Registry(Generic[Entry]):
    """An ordered table from snake_case names to entries; hyphens are accepted.

    Args:
        kind: what is registered ("game", "rule"), for error messages.
        families: where entries have a `family`, the order of these; entries of other
            families come last, within a family the order is that of registration.
        things: the type of what is registered.
        beside: a table of another kind; a name of it, or of those that it stands
            beside, is taken here, too, and the other way round.
        parts: how many words a name may have, with "/" between them.
    """

    def __init__(
        self,
        kind: str,
        families: tuple[str, ...] = (),
        *,
        things: Any = Callable,
        beside: "Registry[Any] | None" = None,
        parts: int = 1,
    ):
        """Start empty."""
        self.kind = kind
        self._things = things
        self._parts = parts
        self._tables: list[Registry[Any]] = [] if beside is None else beside._tables
        self._tables.append(self)
        self._places = {family: place for place, family in enumerate(families)}
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry, *, above: str | None = None) -> None:
        """Register `entry` under `name`.

        Args:
            name: the name, in snake case; hyphens are underscores.
            entry: the entry.
            above: a name of the tables beside this one that the entry may share.

        Raises:
            ValueError: if the name is taken or not in snake case.
        """
        key = normalised(name)
        words = key.split("/")
        snake = isinstance(name, str) and all(map(_WORD.fullmatch, words))
        if not snake or len(words) > self._parts:
            like = "/".join(("my_name", "my_protocol")[: self._parts])
            raise ValueError(
                f"the name of a {self.kind} must be in snake case, like {like!r}, "
                f"got {name!r}"
            )
        for table in self._tables:
            shared = table is not self and above and key == normalised(above)
            if key in table and not shared:
                raise ValueError(f"the {table.kind} {key!r} is registered already")
        self._entries[key] = entry
        _additions.append((self, key, _executed_module()))

    def check(self, name: str, thing: Any) -> None:
        """Check the type of what is to be registered.

        Raises:
            TypeError: if it is of another type.
        """
        if not isinstance(thing, self._things):
            raise TypeError(
                f"the {self.kind} {name!r} must be a {self._things.__name__}, "
                f"got {type(thing).__name__}"
            )

    def register(
        self,
        name: str,
        describe: Callable[[Any], Entry],
        thing: Any = None,
        *,
        above: str | None = None,
    ) -> Any:
        """Register a thing now, or return the decorator that registers it.

        Every kind's own `register(name, thing=None, *, facts...)` ends in this call,
        so that all are used alike: as one call beside the builder, or above it as
        `@register(name, facts...)`.

        Args:
            name: the name, in snake case.
            describe: makes the entry of the thing.
            thing: what is registered; if `None`, the one that is decorated.
            above: see `add`.

        Returns:
            The thing, unchanged, or a decorator that returns it unchanged.

        Raises:
            TypeError: if the thing is of another type than the table's.
            ValueError: if the name is taken or not in snake case.
        """

        def add(thing: Any) -> Any:
            self.check(name, thing)
            self.add(name, describe(thing), above=above)
            return thing

        return add if thing is None else add(thing)

    def remove(self, name: str) -> None:
        """Take an entry out again.

        Raises:
            ValueError: if the name is unknown.
        """
        self[name]
        del self._entries[normalised(name)]

    def names(self) -> tuple[str, ...]:
        """All names, in the order of families and of registration."""
        return tuple(self.entries())

    def entries(self) -> dict[str, Entry]:
        """All entries by name, in the order of families and of registration."""

        def place(item: tuple[str, Entry]) -> int:
            family = getattr(item[1], "family", "")
            return self._places.get(family, len(self._places))

        return dict(sorted(self._entries.items(), key=place))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        """Whether an entry has this name."""
        return normalised(name) in self._entries

    def __getitem__(self, name: str) -> Entry:
        """Look an entry up.

        Raises:
            ValueError: if the name is unknown; the message names the nearest ones.
        """
        key = normalised(name)
        if key not in self._entries:
            raise unknown(self.kind, name, self.names())
        return self._entries[key]


def normalised(name: object) -> str:
    """The form in which names are kept: underscores for hyphens."""
    return str(name).replace("-", "_")


@contextlib.contextmanager
def undone_on_failure() -> Iterator[None]:
    """Take out again what is registered inside, if that ends with an exception.

    Modules that were imported on the way and did not fail keep what they registered:
    they are not executed again.
    """
    known, start = set(sys.modules), len(_additions)
    try:
        yield
    except BaseException:
        for registry, name, module in _additions[start:]:
            if module in known or module not in sys.modules:
                registry._entries.pop(name, None)
        del _additions[start:]
        raise


_additions: list[tuple[Registry[Any], str, str]] = []  # where, what, by which module


def _executed_module() -> str:
    """Return the name of the module whose import is running now, the innermost one."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame.f_globals.get("__name__", "")


def missing(module: str, *, beside: Sequence[str] = ()) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module that suggests its nearest public names.

    Args:
        module: the module's own name, `__name__`.
        beside: names of modules in which one would look for a name, too.

    Returns:
        A function of a name that raises `AttributeError`.
    """

    def get(name: str) -> Any:
        message = f"module {module!r} has no attribute {name!r}"
        # Python itself, and tools that look at everything, ask for names with bars.
        if name.startswith("_"):
            raise AttributeError(message)
        for home in (module, *beside):
            other = importlib.import_module(home)
            if home != module and name in _public(other):
                raise AttributeError(f"{message}; there is {home}.{name}")
            if "names" in vars(other) and name in other.names():
                raise AttributeError(f"{message}; there is {home}.make({name!r}, ...)")
        own = {word.lower(): word for word in _public(sys.modules[module])}
        near = difflib.get_close_matches(name.lower(), own, n=3, cutoff=0.6)
        words = ", ".join(own[word] for word in near)
        raise AttributeError(message + f"; did you mean {words}?" * bool(near))

    return get


def _public(module: Any) -> list[str]:
    """The public names of a module: those listed, or all but foreign ones."""

    def is_own(value: Any) -> bool:
        home = value.__name__ if isinstance(value, types.ModuleType) else None
        home = home or getattr(value, "__module__", None) or "gamedyn"
        return home.split(".")[0] == "gamedyn"

    own = [name for name, value in vars(module).items() if is_own(value)]
    listed = getattr(module, "__all__", own)
    return [name for name in listed if name[0] != "_"]


def unknown(kind: str, name: str, known: Sequence[str]) -> ValueError:
    """Make the error of an unknown name, which suggests the nearest known ones."""
    if not isinstance(name, str):
        given = described(name) if hasattr(name, "__dict__") else reprlib.repr(name)
        return ValueError(f"unknown {kind} {given}; expected a name")
    near = difflib.get_close_matches(normalised(name), known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {', '.join(near)}?"
    else:
        more = len(known) - _SHOWN
        hint = "known: " + ", ".join(known[:_SHOWN]) + f" and {more} more" * (more > 0)
    return ValueError(f"unknown {kind} {name!r}; {hint}")
