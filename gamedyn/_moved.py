"""Old paths of modules that moved, kept for one version as thin re-exports."""

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any


def forward(old: str, *homes: str, call: str | None = None) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose names now live elsewhere.

    `from gamedyn.race import race` goes on working and warns where `race` is now.

    Args:
        old: the module's own name, `__name__`.
        *homes: the modules that its names moved to, searched in this order.
        call: the function of the first home that the package offers under this module's
            own name (`gamedyn.compare` the function beside `gamedyn.compare` the
            module). Importing the module puts it where the function was, so it can be
            called like it.

    Returns:
        A function of a name that returns what the name stands for.
    """
    if call is not None:

        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            del self
            return getattr(importlib.import_module(homes[0]), call)(*args, **kwargs)

        members = {"__call__": called}
        sys.modules[old].__class__ = type("Moved", (types.ModuleType,), members)

    def get(name: str) -> Any:
        home = _home(old, homes, name)
        message = f"{old}.{name} has moved to {home}.{name}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), name)

    return get


def _home(old: str, homes: tuple[str, ...], name: str) -> str:
    if not name.startswith("__"):
        for home in homes:
            if hasattr(importlib.import_module(home), name):
                return home
    raise AttributeError(f"module {old!r} has no attribute {name!r}")
