"""The run that a command reads, with options of its recipe given anew."""

from pathlib import Path
from typing import Any

import tyro

from gamedyn.commands.shared import NUMBERS, literal_errors


def read_run(
    command: str, run: Path, recipe: str | None, options: list[str]
) -> tuple[Any, Any]:
    """Read the recipe of a run, and its options.

    Args:
        command: the name of the command, for its help.
        run: the folder.
        recipe: the recipe in place of the recorded one, if that has moved.
        options: options of the recipe that take the place of those of the run.

    Returns:
        The recipe's module, and an instance of its `Config`.
    """
    from gamedyn import recipes

    module, stored = recipes.read_record(run, recipe)
    if not options:
        return module, stored
    with literal_errors(options):
        given = tyro.cli(
            module.Config,
            prog=f"gamedyn {command} {run}",
            description="Options of the recipe, given anew.",
            args=options,
            default=stored,
            registry=NUMBERS,
        )
    return module, given
