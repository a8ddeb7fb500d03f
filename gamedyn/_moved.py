"""Old paths of modules and old keywords, kept for one version."""

import functools
import importlib
import inspect
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def forward(old: str, *homes: str, call: str | None = None) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose names now live elsewhere.

    `from gamedyn.race import race` goes on working and warns where `race` is now. A
    module that has nothing else left shows the names of its homes, to `dir` and `*`.

    Args:
        old: the module's own name, `__name__`.
        *homes: the modules that its names moved to, searched in this order.
        call: the function of the first home that the package offers under this module's
            own name (`gamedyn.compare` the function beside `gamedyn.compare` the
            module). Importing the module puts it where the function was, so it can be
            called like it, has its signature and documentation, and is pickled as it.

    Returns:
        A function of a name that returns what the name stands for.
    """
    module = sys.modules[old]
    if call is not None:
        module.__class__ = _callable(homes[0], call)
    emptied = not _public(old)
    if emptied:
        vars(module)["__dir__"] = lambda: sorted(set().union(*map(_public, homes)))

    def get(name: str) -> Any:
        if name == "__all__" and emptied:
            return dir(module)
        home = _home(old, homes, name)
        message = f"{old}.{name} has moved to {home}.{name}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), name)

    return get


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take keywords by their old names, with a warning.

    Args:
        **names: the present keyword, by the old one.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            for old in names.keys() & kwargs.keys():
                new = names[old]
                what = f"{function.__name__}: the keyword {old} is now {new}"
                if new in kwargs:
                    raise TypeError(f"{what}, got both")
                warnings.warn(what, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def _function(home: str, name: str) -> Any:
    return getattr(importlib.import_module(home), name)


def _callable(home: str, name: str) -> type[types.ModuleType]:
    """The class of a module that stands for a function, which is loaded when needed."""

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        del self
        return _function(home, name)(*args, **kwargs)

    members = {
        "__call__": called,
        "__doc__": property(lambda self: _function(home, name).__doc__),
        "__signature__": property(lambda self: inspect.signature(self.__wrapped__)),
        "__wrapped__": property(lambda self: _function(home, name)),
        "__reduce__": lambda self: (_function, (home, name)),
    }
    return type("Moved", (types.ModuleType,), members)


def _public(module: str) -> set[str]:
    """What a module offers: what it says, or all but its imports and private names."""
    names = vars(importlib.import_module(module))
    return set(names.get("__all__", ())) or {
        name
        for name, value in names.items()
        if name[0] != "_" and getattr(value, "__module__", module) == module
        if not isinstance(value, types.ModuleType)
    }


def _home(old: str, homes: tuple[str, ...], name: str) -> str:
    if not name.startswith("__"):
        for home in homes:
            if hasattr(importlib.import_module(home), name):
                return home
    raise AttributeError(f"module {old!r} has no attribute {name!r}")
