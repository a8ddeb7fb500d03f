"""Run recipes, leaving a record of what was run, and read it again."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from gamedyn.files import write_whole
from gamedyn.recipes.lookup import load, locate, named_after, names, reference

RECORD = "run.json"


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
        "recipe": reference(module),
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


def read_record(run: Path, recipe: str | None = None) -> tuple[types.ModuleType, Any]:
    """Read the recipe and the options of a run, wherever its folder lies now.

    Args:
        run: its folder.
        recipe: the name or path of a recipe, in place of the one it was made by.

    Returns:
        The recipe's module, and an instance of its `Config` whose `out` is `run`.

    Raises:
        ValueError: if the folder holds no run, its recipe is not where it was, or its
            record does not fit the recipe.
    """
    recorded, options = _read(Path(run))
    if recipe is None and not _exists(recorded):
        raise ValueError(
            f"{run} was made by the recipe {recorded}, which is not there now: name "
            f"where it is by --recipe, for example "
            f"--recipe {named_after(Path(recorded)).name}"
        )
    module = load(recipe or recorded)
    return module, from_json(module.Config, {**options, "out": str(run)})


def resume(run: Path, recipe: str) -> tuple[types.ModuleType, Any]:
    """Read the options of a run that is to go on.

    Args:
        run: its folder.
        recipe: the name or path of its recipe, which may have moved.

    Returns:
        The recipe's module, and an instance of its `Config` whose `out` is `run` and
        whose `resume` is true.

    Raises:
        ValueError: as `read_record`; if the run was made by another recipe that is
            still there; or if the recipe cannot resume.
    """
    recorded, _ = _read(Path(run))
    if _exists(recorded) and locate(recorded) != locate(recipe):
        raise ValueError(f"{run} is a run of {recorded}, not of {recipe}")
    module, config = read_record(run, recipe)
    if not hasattr(config, "resume"):
        raise ValueError(f"{recipe} cannot resume a run")
    return module, dataclasses.replace(config, resume=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or not there.

    Args:
        path: the file, replaced if it exists.
        content: what JSON can hold.

    Raises:
        OSError: if it cannot be written.
    """
    write_whole(path, json.dumps(content, indent=1) + "\n")


def to_json(config: Any) -> dict[str, Any]:
    """Convert the options of a recipe to what JSON can hold."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return {
        field.name: plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
    }


def from_json(config_type: type, values: dict[str, Any]) -> Any:
    """Rebuild the options of a recipe from JSON.

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


def _read(run: Path) -> tuple[str, dict[str, Any]]:
    """Read by which recipe a run was made, and with which options."""
    path = run / RECORD
    if not path.is_file():
        raise ValueError(f"{run} is not the folder of a run: it has no {RECORD}")
    try:
        content = json.loads(path.read_text())
        return str(content["recipe"]), dict(content["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _exists(recorded: str) -> bool:
    """Say whether a recorded recipe is one of the package's, or still in its place.

    Paths are recorded whole. Anything else is no path: what lies in the current folder
    must not be run in the place of a recipe.
    """
    return recorded in names() or (
        Path(recorded).is_absolute() and Path(recorded).exists()
    )


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
