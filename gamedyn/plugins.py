"""Plugins: modules that register rules, fields, games and more of a user's own.

A plugin is a Python file, or an installed module, that calls `register` of the kinds it
adds to: `gd.rules.register`, `gd.games.register`, `gd.recipes.register` and so on. What
it registers has a name like everything else: in `gamedyn compare GAME --rules NAME`, in
`gamedyn list`, in `gd.compare(problem, NAME)` and in the recipes.

- A file is named on the command line, `--plugin FILE.py`, or given to `load`.
- A package announces its own under the entry-point group `gamedyn.plugins`. The
  commands know its names as soon as it is installed, a notebook or script after
  `gd.plugins.load()`:

  ```toml
  [project.entry-points."gamedyn.plugins"]
  my_rules = "my_package.rules"             # a module: importing it registers
  my_games = "my_package.games:register"    # or a function without arguments
  ```
"""

import importlib.util
import os
import types
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from gamedyn.registry import undone_on_failure

GROUP = "gamedyn.plugins"
"""The entry-point group under which packages announce their plugins."""

_LOADED: set[str] = set()  # files and entry points of this process


def load(files: Iterable[str | os.PathLike[str]] = ()) -> tuple[str, ...]:
    """Load the plugins of installed packages, then those of files, each only once.

    The commands do this before they look a name up; a notebook or script calls it.

    Args:
        files: Python files, or folders with `__init__.py`; a single path will do.

    Returns:
        One line for each installed plugin that fails to load, with the line of its own
        code; the others work. Nothing that it registered stays, and it is tried again
        at the next call.

    Raises:
        ValueError: if a file does not exist or fails to load; the message names the
            file, the type of the error, what it says, and the line. Nothing that the
            file registered stays.

    Example:
        >>> import pathlib, tempfile
        >>> import gamedyn as gd
        >>> text = '''
        ... import gamedyn as gd
        ... gd.rules.entries()  # here gd.rules.register(...)
        ... '''
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "my_rules.py")
        ...     _ = path.write_text(text)
        ...     gd.plugins.load([path])
        ()
    """
    from gamedyn import recipes
    from gamedyn.recipes import frames, lookup

    failures = []
    for point in metadata.entry_points(group=GROUP):
        if point.value in _LOADED:
            continue
        if (home := _home(point.module)) is not None:
            frames.belongs_to_user(home)
        try:
            with undone_on_failure():
                plugin = point.load()
                if not isinstance(plugin, types.ModuleType):
                    plugin()
        except (Exception, SystemExit) as error:
            failures.append(
                f"the plugin {point.name} ({point.value}) fails to load: "
                f"{frames.words(error)}{frames.place(error)}"
            )
        else:
            _LOADED.add(point.value)

    for file in [files] if isinstance(files, str | os.PathLike) else files:
        path = Path(file).resolve()
        if str(path) not in _LOADED:
            recipes.import_path(path)
            lookup.plugins.add(str(path))
            _LOADED.add(str(path))
    return tuple(failures)


def _home(module: str) -> Path | None:
    """Return where an installed plugin's code lies: the folder of its package, a file.

    `None` if there is no such module; loading it says so.
    """
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    return file.parent if file.name == "__init__.py" else file
