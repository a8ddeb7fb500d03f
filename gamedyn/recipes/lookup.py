"""Find recipes: those that come with the package by name, others by path."""

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gamedyn.recipes import frames
from gamedyn.registry import Registry, normalised, undone_on_failure


class Commands(NamedTuple):
    """What a recipe can do, see `gamedyn.recipes`.

    Attributes:
        main: `main(config)` trains and returns a summary.
        sample: `sample(config, number, seed)` draws from a run, and returns paths.
        evaluate: `evaluate(config)` measures a run and returns a summary.
    """

    main: Callable[[Any], dict[str, Any]]
    sample: Callable[..., tuple[Path, ...]]
    evaluate: Callable[[Any], dict[str, Any]]


def shipped() -> Path:
    """Return the folder of the recipes: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    homes = (package / "experiments", package.parent / "experiments")
    return next((home for home in homes if (home / "__init__.py").is_file()), homes[0])


plugins: set[str] = set()
"""The whole paths of the files that were loaded as plugins, which may be recipes."""

_registered: Registry[str] = Registry("recipe")
"""The names of the modules of recipes that plugins add."""


def register(name: str, module: types.ModuleType | str) -> None:
    """Register a recipe, in a plugin.

    It is then known by its name like those that come with the package, and a run that
    it has made can be sampled, measured and resumed without naming it again.

    Args:
        name: the name, in snake case.
        module: the recipe, or the name of its module, which is imported when it is
            used: "my_package.my_recipe".

    Raises:
        TypeError: if it is neither.
        ValueError: if the name is taken or not in snake case.
    """
    if not isinstance(module, types.ModuleType | str):
        raise TypeError(
            f"the recipe {name!r} must be a module or the name of one, "
            f"got {type(module).__name__}"
        )
    if normalised(name) in _sources():
        raise ValueError(f"the recipe {name!r} comes with gamedyn")
    _registered.add(name, module if isinstance(module, str) else module.__name__)


def unregister(name: str) -> None:
    """Take a recipe that was registered out again.

    Raises:
        ValueError: if the name is unknown.
    """
    _registered.remove(name)


def names() -> tuple[str, ...]:
    """Return the names of the recipes of the package and of plugins, sorted."""
    return tuple(sorted({*_sources(), *_registered}))


def summaries() -> dict[str, str]:
    """Return the first line of every recipe's docstring, without importing it.

    Warns:
        UserWarning: names a recipe whose source cannot be read; the others are there.
    """
    lines = {}
    for name in names():
        try:
            file = locate(name)
            data = b"" if file is None else file.read_bytes()
            tree = ast.parse(importlib.util.decode_source(data))
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
            kind = type(error).__name__
            warnings.warn(f"the recipe {name} is broken: {kind}: {error}", stacklevel=2)
            continue
        lines[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return lines


def load(recipe: str) -> types.ModuleType:
    """Import a recipe.

    Args:
        recipe: the name of one that comes with the package (hyphens are accepted); or
            the path of a module, `my_recipe.py`, or of a package's folder. A name
            stands for the package's own recipe, whatever lies in the current folder.

    Returns:
        The module.

    Raises:
        ValueError: if there is none of that name or path, it has no `main` and
            `Config`, or importing it fails.
    """
    file = locate(recipe)
    if file is None:
        name = normalised(recipe)
        nearest = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(
            f"unknown recipe {recipe!r}{hint}; expected one of {', '.join(names())}, "
            f"or the path of a module with main(config) and Config"
        )
    name = normalised(recipe)
    if name in _registered:
        module = _imported(name, _registered[name], file)
    elif (name := _name(file)) is not None:
        module = _imported(name, f"{_package()}.{name}", file)
    else:
        module = import_path(file)
    for needed in ("main", "Config"):
        if not hasattr(module, needed):
            raise ValueError(f"{recipe} is no recipe: it has no {needed}")
    if not dataclasses.is_dataclass(module.Config):
        raise ValueError(f"{recipe} is no recipe: its Config is not a dataclass")
    return module


def _imported(name: str, module: str, file: Path) -> types.ModuleType:
    """Import the module of a recipe that is known by its name."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        what = f"{frames.words(error)}{frames.place(error, file)}"
        raise ValueError(f"the recipe {name} fails to load: {what}") from error


def locate(recipe: str) -> Path | None:
    """Return the source file of a recipe, `None` if there is none.

    Args:
        recipe: a name or a path, see `load`.
    """
    name = normalised(recipe)
    if name in _sources():
        return _sources()[name]
    if name in _registered:
        return _origin(_registered[name])
    path = Path(recipe).resolve()
    if path.is_dir():
        path /= "__init__.py"
    return path if path.is_file() else None


def reference(module: types.ModuleType) -> str:
    """Return the name, or else the whole path, by which `load` finds a recipe again."""
    file = Path(str(module.__file__)).resolve()
    for name, registered in _registered.entries().items():
        if module.__name__ == registered:
            return name
    return _name(file) or str(file)


def named_after(file: Path) -> Path:
    """Return what a recipe has its name from: a file, or the folder of a package.

    Args:
        file: its source, `__init__.py` if it is a package.
    """
    file = file.resolve()
    return file.parent if file.name == "__init__.py" else file


def import_path(path: Path) -> types.ModuleType:
    """Import a Python file, or a package's folder, from wherever it lies.

    A file that is imported already and has not changed since is not executed again;
    one that fails leaves nothing registered.

    Args:
        path: `module.py`, or a folder with `__init__.py`.

    Returns:
        The module; it may import its neighbours. It has the name of the file, with an
        underscore where a module of Python's own or another one has that.

    Raises:
        ValueError: if it is neither, or fails to load.
    """
    file = path.resolve()
    if file.is_dir():
        file /= "__init__.py"
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    home = named_after(file)
    name = _free_name(home.stem, file)
    present = sys.modules.get(name)
    if present is not None and _VERSIONS.get(name, _version(file)) == _version(file):
        return present
    # Its neighbours come first while it is executed; afterwards last, so that none of
    # them stands in for an installed module.
    frames.belongs_to_user(home.parent)
    folder = str(home.parent)
    if folder in sys.path:
        return _execute(name, file)
    sys.path.insert(0, folder)
    try:
        return _execute(name, file)
    finally:
        sys.path[:] = [*(path for path in sys.path if path != folder), folder]


_VERSIONS: dict[str, tuple[int, int]] = {}  # of the files, by the modules' names


def _version(file: Path) -> tuple[int, int]:
    """Return what changes with a file's content: the time it was written, its size."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _sources() -> dict[str, Path]:
    """Return the source file of every recipe that comes with the package, by name."""
    packages = {file.parent.name: file for file in shipped().glob("[!_]*/__init__.py")}
    modules = {file.stem: file for file in shipped().glob("[!_]*.py")}
    return packages | modules


def _origin(module: str) -> Path | None:
    """Return the source of a module without importing it, but for its parents."""
    present = sys.modules.get(module)
    spec = None if present is None else present.__spec__
    if spec is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve()


def _name(file: Path) -> str | None:
    """Return the name of the recipe that comes with the package from a file."""
    return {source: name for name, source in _sources().items()}.get(file)


def _package() -> str:
    """Return the name of the package of recipes, which can be imported then.

    It is a part of this package where that is installed. In a checkout it lies beside
    and is loaded from there, whatever `sys.path` holds.

    Raises:
        ValueError: if another package `experiments` is imported already.
    """
    home = shipped()
    if (home.parent / "__init__.py").is_file():
        return "gamedyn.experiments"
    present = sys.modules.get("experiments")
    if present is None:
        _execute("experiments", home / "__init__.py")
        return "experiments"
    folders = [Path(folder).resolve() for folder in getattr(present, "__path__", ())]
    if folders != [home]:
        where = ", ".join(map(str, folders)) or getattr(present, "__file__", None)
        raise ValueError(
            f"an 'experiments' other than gamedyn's is imported already, from {where}: "
            f"rename it"
        )
    return "experiments"


def _free_name(name: str, file: Path) -> str:
    """Append underscores until a name is that of no other module, loaded or not."""
    taken = sys.modules.get(name)
    if taken is not None:
        free = getattr(taken, "__file__", None) == str(file)
    elif "." in name:
        free = True  # no import statement finds it
    else:
        spec = importlib.util.find_spec(name)
        free = spec is None or spec.origin in (None, str(file))
    return name if free else _free_name(f"{name}_", file)


def _execute(name: str, file: Path) -> types.ModuleType:
    """Import a file, or the package whose `__init__.py` it is, under a name."""
    folder = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=folder
    )
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[name] = module
    _VERSIONS[name] = _version(file)
    try:
        with undone_on_failure():
            try:
                spec.loader.exec_module(module)
            except BaseException:
                sys.modules.pop(name, None)
                raise
    except (Exception, SystemExit) as error:
        where = frames.place(error, file)
        raise ValueError(
            f"{file} fails to load: {frames.words(error)}{where}"
        ) from error
    return module
