"""Run recipes, leaving a true record of what was run, and read it again."""

import contextlib
import dataclasses
import json
import re
import shlex
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gamedyn.files import write_whole
from gamedyn.recipes import folders, origin
from gamedyn.recipes.folders import RECORD
from gamedyn.recipes.lookup import load, locate, names, plugins, reference
from gamedyn.recipes.values import (
    converted_and_unfit,
    from_json,
    to_json,
    warn_of,
)

SUMMARY = "summary.json"
_SHOWN = 12  # digits of a hash in a message


def run(
    module: types.ModuleType,
    config: Any,
    *,
    command: str | None = None,
    report: Callable[[dict[str, Any]], Any] | None = None,
) -> dict[str, Any]:
    """Run a recipe, leaving a record of what was run beside its results.

    The record is written when the run is accepted: once `gamedyn.train.fit` has checked
    options, data and what is stored, or the recipe says `started()`; else when `main`
    is done. A run that is refused leaves the folder as it was. Going on with a run adds
    to its record, see `gamedyn.recipes`.

    Args:
        module: the recipe.
        config: an instance of its `Config`.
        command: the command line, for the record.
        report: called with the summary before that is written.

    Returns:
        What its `main` returns; also written to `summary.json`, see
        `gamedyn.recipes.values.plain`.

    Raises:
        ValueError: if the folder holds something already, and the run does not go on
            with it.
        OSError: if the folder cannot be written.
    """
    from gamedyn.train import watch

    if hasattr(module, "complete"):
        config = module.complete(config)
    out, resumable = Path(config.out), hasattr(config, "resume")
    resumed = resumable and bool(config.resume)
    if resumed:
        folders.read(out)
    elif resumable and _visible(out):
        raise ValueError(
            f"{out} holds something already: give another --out, or --resume it"
        )
    made = origin.made(_file(module), command)
    new = _create(out) if resumable else []
    accepted = False

    def accept(folder: Path | None, step: int, about: dict[str, Any]) -> None:
        nonlocal accepted
        if not accepted and _writes():
            content = _content(module, config, made, about)
            if resumed:
                content = _continued(folders.read(out).content, content, step)
            write_json(out / RECORD, content)
        accepted = True

    # A study that cannot go on makes its folder whole, at the end.
    watcher = watch.Watcher(started=accept) if resumable else watch.Watcher()
    try:
        with watch.watching(watcher):
            summary = module.main(config)
    except BaseException:
        # What a recipe without `fit` has left can be gone on with.
        if resumable and not resumed and _visible(out):
            accept(out, 0, {})
        for folder in new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        raise
    accept(out, 0, {})
    try:
        if report is not None:
            report(summary)
    finally:
        if _writes():
            write_values(out / SUMMARY, summary)
    return summary


def started(step: int = 0) -> None:
    """Say that a run is accepted, in a recipe that does not call `gamedyn.train.fit`.

    To be called by the `main` of a recipe that can go on with its folder, once options,
    data and what is stored have passed every check: from then on the folder has its
    record and can be resumed, whatever ends the run.

    Args:
        step: how much is done already, in the recipe's own count.
    """
    from gamedyn.train import watch

    watch.started(None, step, {})


def evaluate(
    module: types.ModuleType, config: Any, *, command: str | None = None
) -> tuple[dict[str, Any], Path]:
    """Measure a run, leaving a record of it beside the earlier ones.

    Args:
        module: the recipe.
        config: its options, `out` the folder of the run.
        command: the command line, for the record.

    Returns:
        What the recipe's `evaluate` returns, and the new file `evaluation-1.json`, or
        the next number: it holds that with the options, those that differ from the
        run's by name, the recipe's hash, date, versions and commit.

    Raises:
        OSError: if the file cannot be written.
    """
    out = Path(config.out)
    record = folders.read(out)
    made = origin.made(_file(module), command)
    summary = module.evaluate(config)
    content = _content(module, config, made, {})
    del content["data"]
    content["changed"] = _changed(record.config, content["config"])
    path = beside(out / "evaluation-1.json")
    write_values(path, {**content, "summary": summary})
    return summary, path


def beside(path: Path) -> Path:
    """Return the first path that is free: NAME.json, NAME-2.json, NAME-3.json ...

    Args:
        path: the first of them; a number at its end is counted on.
    """
    stem, number = path.stem, 1
    if counted := re.fullmatch(r"(.+)-(\d+)", stem):
        stem, number = counted[1], int(counted[2])
    present = {other.name for other in path.parent.glob(f"*{path.suffix}")}
    while path.name in present:
        number += 1
        path = path.with_name(f"{stem}-{number}{path.suffix}")
    return path


def read_record(run: Path, recipe: str | None = None) -> tuple[types.ModuleType, Any]:
    """Read the recipe and the options of a run, wherever its folder lies now.

    The folder may come from anybody: no recipe is imported but a registered one of the
    recorded name, the one given here, or a file that is loaded as a plugin anyway.

    Args:
        run: its folder.
        recipe: the name or path of its recipe; needed where that is not registered.

    Returns:
        The recipe's module, and an instance of its `Config` whose `out` is `run`.

    Raises:
        ValueError: if the folder holds no run, or something that leads out of it; if
            its recipe is not registered and none is given, or another one is; or if its
            record does not fit the recipe.

    Warns:
        UserWarning: if the recipe has changed since the run.
    """
    run = Path(run)
    record = folders.read(run)
    module = load(_chosen(run, record, recipe))
    return module, from_json(module.Config, {**record.config, "out": str(run)})


def resume(run: Path, recipe: str) -> tuple[types.ModuleType, Any]:
    """Read the options of a run that is to go on.

    Args:
        run: its folder.
        recipe: the name or path of its recipe, which may have moved.

    Returns:
        The recipe's module, and an instance of its `Config` whose `out` is `run` and
        whose `resume` is true.

    Raises:
        ValueError: as `read_record`; or if the recipe cannot resume.
    """
    module, config = read_record(run, recipe)
    if not hasattr(config, "resume"):
        raise ValueError(f"{recipe} cannot resume a run")
    return module, dataclasses.replace(config, resume=True)


def write_values(path: Path, values: Any) -> None:
    """Write values of any type as JSON, see `gamedyn.recipes.values.plain`.

    Args:
        path: the file, replaced if it exists.
        values: what to write.

    Raises:
        OSError: if it cannot be written.

    Warns:
        UserWarning: names what JSON cannot hold, once the rest is written.
    """
    converted, unfit = converted_and_unfit(values)
    write_json(path, converted)
    warn_of(unfit, path.name)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or not there; a link is replaced.

    Args:
        path: the file, replaced if it exists.
        content: what JSON can hold.

    Raises:
        OSError: if it cannot be written.
        ValueError: if it holds NaN or infinity; `values.plain` makes strings of them.
    """
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _chosen(run: Path, record: folders.Record, recipe: str | None) -> str:
    """Choose what to import, without importing it.

    Raises:
        ValueError: if nothing may be.
    """
    registered = record.recipe in names()
    if recipe is None and not registered and record.recipe not in plugins:
        again = shlex.quote(record.recipe)
        raise ValueError(
            f"{run} was made by the recipe {record.recipe}, which is not registered "
            f"here and is run only where it is named: --recipe {again}, or where it is "
            f"now"
        )
    chosen = record.recipe if recipe is None else recipe
    file = locate(chosen)
    if file is None:
        return chosen  # `load` says what there is
    if registered and file != locate(record.recipe):
        raise ValueError(f"{run} is a run of {record.recipe}, not of {recipe}")
    if record.digest is not None and record.digest != (now := origin.digest(file)):
        warnings.warn(
            f"the recipe {chosen} has changed since {run} was made: its hash was "
            f"{record.digest[:_SHOWN]} and is {now[:_SHOWN]}",
            stacklevel=3,
        )
    return chosen


def _content(
    module: types.ModuleType, config: Any, made: dict[str, Any], about: dict[str, Any]
) -> dict[str, Any]:
    options = to_json(config)
    if "resume" in options:
        options["resume"] = False
    return {
        "recipe": reference(module),
        "recipe_sha256": origin.digest(_file(module)),
        "config": options,
        **made,
        "data": (about.get("data") or {}).get("fingerprint"),
    }


def _continued(
    earlier: dict[str, Any], now: dict[str, Any], step: int
) -> dict[str, Any]:
    """Add to a record that its run goes on, perhaps with other options."""
    facts = ("command", "date", "environment", "commit", "data")
    told = ("recipe", "recipe_sha256")
    entry = {
        "step": step,
        **{name: now[name] for name in facts},
        "changed": _changed(earlier["config"], now["config"])
        | _changed(
            {name: earlier.get(name) for name in told},
            {name: now[name] for name in told},
        ),
    }
    entries = [*earlier.get("continuations", []), entry]
    return {**earlier, **now, **{name: earlier.get(name) for name in facts}} | {
        "continuations": entries
    }


def _changed(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return what differs, as pairs of before and after; the folder is none."""
    return {
        name: [earlier.get(name), now.get(name)]
        for name in sorted(earlier.keys() | now.keys())
        if name not in ("out", "resume") and earlier.get(name) != now.get(name)
    }


def _create(folder: Path) -> list[Path]:
    """Create a folder; return those that were missing, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _file(module: types.ModuleType) -> Path:
    return Path(str(module.__file__)).resolve()


def _visible(folder: Path) -> set[str]:
    """Return what a folder holds, hidden files and a record alone left out."""
    if not folder.is_dir():
        return set()
    shown = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return shown - {RECORD}


def _writes() -> bool:
    import jax

    return jax.process_index() == 0
