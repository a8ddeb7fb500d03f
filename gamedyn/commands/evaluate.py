"""`gamedyn evaluate`: measure what a run has trained."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from gamedyn.commands.runs import read_run, told
from gamedyn.commands.shared import PluginFiles, load_plugins, print_summary
from gamedyn.text import for_terminal


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure what a run has trained by the metrics of its recipe.

    Options of the recipe may follow the folder, in place of those of the run. The
    metrics are written to evaluation-1.json in the folder, the next time to
    evaluation-2.json, with the options. A recipe of your own is named again:
    --recipe my_recipe.py.

    Examples:
        gamedyn evaluate results/dcgan
        gamedyn evaluate results/ddpm --guidance 1
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""

    recipe: str | None = None
    """The path of the run's recipe, where that is not a registered one."""

    plugins: PluginFiles = ()
    """A file that registers what the recipe needs of your own."""


def run(config: Evaluate, options: list[str], command: str) -> None:
    """Measure, print the metrics, and write them beside the earlier ones.

    Args:
        config: the run.
        options: options of the recipe, in place of those of the run.
        command: the command line, for the record.
    """
    from gamedyn import recipes

    load_plugins(config.plugins)
    module, chosen = read_run("evaluate", config.run, config.recipe, options)
    if not hasattr(module, "evaluate"):
        raise ValueError(f"the recipe of {config.run} has no metrics")
    with told(config.run):
        summary, path = recipes.evaluate(module, chosen, command=command)
        print_summary(summary)
        print(for_terminal(f"written to {path}"))
