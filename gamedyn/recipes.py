"""Recipes: modules that train something whole, found by name or path, run by command.

A recipe is a module with

- `main(config) -> summary`, which trains into the folder `config.out` and returns what
  is to be printed, a mapping of names to values;
- `Config`, the frozen dataclass of its options, each with a default; among them
  `out: Path`, and `resume: bool` if it can go on with what is in that folder;
- if it has samples and metrics, `sample(config, number, seed) -> paths` and
  `evaluate(config) -> summary`, both for the run in `config.out`; `sample` may take a
  fourth argument, `prompt=None`, the words of what is to be shown;
- optionally `SMOKE`, a `Config` of a few seconds;
- optionally `complete(config) -> config`, which fills in what the options leave open,
  before they are stored.

The folder of a run holds `run.json`: which recipe, its options, the environment; at
the end also `summary.json`, what `main` returned.
"""

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from gamedyn.files import write_whole

RECORD = "run.json"


def _roots() -> tuple[Path, Path]:
    """Where `experiments/` may lie: here, or in the checkout this package is from."""
    return Path.cwd(), Path(__file__).parents[1]


def names() -> tuple[str, ...]:
    """Name the recipes under `experiments/` of the checkout."""
    found = {
        module.parent.name if module.name == "__init__.py" else module.stem
        for root in _roots()
        for pattern in ("experiments/*/__init__.py", "experiments/*.py")
        for module in root.glob(pattern)
        if not (module.name == "__init__.py" and module.parent.name == "experiments")
    }
    return tuple(sorted(name for name in found if not name.startswith("_")))


def summaries() -> dict[str, str]:
    """Say of each recipe under `experiments/`, without running it, what it is."""
    found = {}
    for name in names():
        path = _locate(name)
        source = path / "__init__.py" if path.is_dir() else path
        text = ast.get_docstring(ast.parse(source.read_text())) or ""
        found[name] = text.partition("\n")[0]
    return found


def load(recipe: str) -> types.ModuleType:
    """Import a recipe.

    Args:
        recipe: a name under `experiments/` of the checkout (hyphens are accepted), or
            the path of a module, `my_recipe.py`, or of a package's folder.

    Returns:
        The module.

    Raises:
        ValueError: if there is none of that name or path, it has no `main` and
            `Config`, or importing it fails.
    """
    path = Path(recipe)
    name = recipe.replace("-", "_")
    if name in names():
        root = _locate(name).parents[1]
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        module = importlib.import_module(f"experiments.{name}")
    elif path.exists():
        module = import_path(path.resolve())
    else:
        nearest = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(
            f"unknown recipe {recipe!r}{hint}; expected one of "
            f"{', '.join(names()) or 'none (there is no experiments/ here)'}, or the "
            f"path of a module with main(config) and Config"
        )
    for needed in ("main", "Config"):
        if not hasattr(module, needed):
            raise ValueError(f"{recipe} is no recipe: it has no {needed}")
    if not dataclasses.is_dataclass(module.Config):
        raise ValueError(f"{recipe} is no recipe: its Config is not a dataclass")
    return module


def run(module: types.ModuleType, config: Any) -> dict[str, Any]:
    """Run a recipe, leaving a record of what was run beside its results.

    Args:
        module: the recipe.
        config: an instance of its `Config`.

    Returns:
        What its `main` returns; also written to `summary.json`.

    Raises:
        OSError: if the folder cannot be written.
    """
    from gamedyn import runtime

    if hasattr(module, "complete"):
        config = module.complete(config)
    content = {
        "recipe": _reference(module),
        "config": to_json(config),
        "environment": runtime.environment(),
    }
    # What can be resumed needs its record from the start.
    resumable = hasattr(config, "resume")
    if resumable:
        content["config"]["resume"] = False
        config.out.mkdir(parents=True, exist_ok=True)
        # A record alone is of a run whose options were refused.
        present = {path.name for path in config.out.iterdir()}
        if not config.resume and present - {RECORD}:
            raise ValueError(
                f"{config.out} holds something already: give another --out, or "
                f"--resume it"
            )
        write_json(config.out / RECORD, content)
    summary = module.main(config)
    if not resumable:
        config.out.mkdir(parents=True, exist_ok=True)
        write_json(config.out / RECORD, content)
    write_json(config.out / "summary.json", summary)
    return summary


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or not there.

    Args:
        path: the file, replaced if it exists.
        content: what JSON can hold.

    Raises:
        OSError: if it cannot be written.
    """
    write_whole(path, json.dumps(content, indent=1) + "\n")


def read_record(run: Path) -> tuple[types.ModuleType, Any]:
    """Read the recipe and the options of a run.

    Args:
        run: its folder.

    Returns:
        The recipe's module, and an instance of its `Config` whose `out` is `run`.

    Raises:
        ValueError: if the folder holds no run, or its record does not fit the recipe.
    """
    path = Path(run) / RECORD
    if not path.is_file():
        raise ValueError(f"{run} is not the folder of a run: it has no {RECORD}")
    try:
        content = json.loads(path.read_text())
        recipe, options = content["recipe"], dict(content["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    module = load(recipe)
    return module, from_json(module.Config, {**options, "out": str(run)})


def to_json(config: Any) -> dict[str, Any]:
    """Turn the options of a recipe into what JSON can hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return {
        field.name: plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
    }


def from_json(config_type: type, values: dict[str, Any]) -> Any:
    """Turn them back.

    Args:
        config_type: the recipe's `Config`.
        values: its options by name.

    Returns:
        An instance.

    Raises:
        ValueError: if an option is unknown.
    """
    hints = typing.get_type_hints(config_type)
    known = {field.name for field in dataclasses.fields(config_type)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"the run has options that the recipe does not know: {', '.join(unknown)}"
        )

    def typed(value: Any, hint: Any) -> Any:
        kinds = typing.get_args(hint) if _is_union(hint) else (hint,)
        if isinstance(value, list):
            return tuple(value)
        return Path(value) if isinstance(value, str) and Path in kinds else value

    return config_type(**{name: typed(values[name], hints[name]) for name in values})


def _locate(name: str) -> Path:
    return next(
        path
        for root in _roots()
        for path in (root / "experiments" / name, root / "experiments" / f"{name}.py")
        if path.exists()
    )


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _reference(module: types.ModuleType) -> str:
    """Name a recipe so that `load` finds it again."""
    package, _, name = module.__name__.rpartition(".")
    return name if package == "experiments" else str(module.__file__)


def import_path(path: Path) -> types.ModuleType:
    """Import a Python file, or a package's folder, from wherever it lies.

    Args:
        path: `module.py`, or a folder with `__init__.py`.

    Returns:
        The module; it may import its neighbours.

    Raises:
        ValueError: if it is neither, or fails to load.
    """
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    name = path.name if path.is_dir() else path.stem
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(path)] if path.is_dir() else None
    )
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name, and it may import its neighbours.
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        kind = type(error).__name__
        raise ValueError(f"{file} fails to load: {kind}: {error}") from error
    return module
