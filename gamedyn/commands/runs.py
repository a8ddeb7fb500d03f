"""The run that a command reads, with options of its recipe given anew."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from gamedyn.commands.shared import NUMBERS, parsing

Files = dict[str, tuple[int, int]]
"""When files were written and how large they are, by their paths in the folder."""


def read_run(
    command: str, run: Path, recipe: str | None, options: list[str]
) -> tuple[Any, Any]:
    """Read the recipe of a run, and its options.

    Args:
        command: the name of the command, for its help.
        run: the folder.
        recipe: the run's recipe, where that is not a registered one.
        options: options of the recipe that take the place of those of the run.

    Returns:
        The recipe's module, and an instance of its `Config`.
    """
    from gamedyn import recipes

    module, stored = recipes.read_record(run, recipe)
    if not options:
        return module, stored
    with parsing(options):
        given = tyro.cli(
            module.Config,
            prog=f"gamedyn {command} {run}",
            description="Options of the recipe, given anew.",
            args=options,
            default=stored,
            registry=NUMBERS,
        )
    if given.out != stored.out:
        raise ValueError(f"--out is the folder of the run, {run}, got {given.out}")
    return module, given


def files_of(folder: Path) -> Files:
    """Look at the files of a folder, hidden ones left out; there may be none."""
    found: Files = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = Path(root, name)
                with contextlib.suppress(OSError):
                    status = path.stat()
                    short = path.relative_to(folder).as_posix()
                    found[short] = status.st_mtime_ns, status.st_size
    return found


def saved(folder: Path, before: Files, again: str, resumable: bool) -> str:
    """Say what an interrupted training has left, as the folder has it.

    Args:
        folder: of the run.
        before: what was there at the start.
        again: the command that goes on, but for the folder.
        resumable: whether the recipe can go on.

    Returns:
        The end of a sentence.
    """
    from gamedyn.recipes import RECORD
    from gamedyn.train import checkpoints

    after = files_of(folder)
    place = shlex.quote(str(folder))
    how = f"; go on with: {again} {place}" if resumable and RECORD in after else ""
    # A recipe of several parts keeps one run for each, in folders of its own.
    homes = [folder / checkpoints.FOLDER, *folder.glob(f"*/{checkpoints.FOLDER}")]
    steps = {home: found for home in homes if (found := checkpoints.steps(home))}
    if steps:
        home = max(steps, key=lambda home: home.stat().st_mtime_ns)
        part = "" if home.parent == folder else f" of {home.parent.name}"
        return (
            f"the checkpoint of step {steps[home][-1]}{part} is saved in {place}{how}"
        )
    if after == before:
        return "nothing was written"
    return f"what was done so far is in {place}{how}"


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """Have an interruption say which files of a folder were written, if any."""
    before = files_of(folder)
    try:
        yield
    except KeyboardInterrupt as error:
        after = files_of(folder)
        new = sorted(name for name in after if after[name] != before.get(name))
        if new:
            error.add_note(f"written to {folder} so far: {', '.join(new)}")
        else:
            error.add_note("nothing was written")
        raise
