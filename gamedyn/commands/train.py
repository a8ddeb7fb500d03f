"""`gamedyn train`: run a recipe."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import tyro

from gamedyn.commands.ending import Interrupted, Unwritable
from gamedyn.commands.runs import files_of, saved
from gamedyn.commands.shared import (
    NUMBERS,
    PluginFiles,
    free_folder,
    load_plugins,
    parsing,
    print_summary,
)
from gamedyn.text import for_terminal


@dataclasses.dataclass(frozen=True)
class Train:
    """Train by a recipe: one of `gamedyn list recipes`, or the path of your own module.

    Every recipe has options of its own: `gamedyn train RECIPE --help`. All of them take

        --resume DIR   go on with the run in DIR, with its options unless given anew
        --smoke        a run of a few seconds

    Your own module needs a dataclass Config, with `out: Path`, and main(config).

    Examples:
        gamedyn train dcgan --data mnist --rule extragradient --steps 2000
        gamedyn train dcgan --resume results/dcgan --steps 4000
        gamedyn train my_recipe.py --out results/mine
    """

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """The recipe."""

    plugins: PluginFiles = ()
    """A file that registers what the recipe needs of your own."""


def run(config: Train, options: list[str], command: str) -> None:
    """Train by a recipe and print its summary.

    Args:
        config: the recipe and the plugins.
        options: the options of the recipe, and the general ones.
        command: the command line, for the record.

    Raises:
        KeyboardInterrupt: if a signal ended the run, also where that is saved; its
            notes say what is.
    """
    import argparse

    from gamedyn import recipes, runtime
    from gamedyn.train import watch

    general = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    general.add_argument("--resume", type=Path)
    general.add_argument("--smoke", action="store_true")
    given, own = general.parse_known_args(options)
    runtime.configure(keep_memory=True, eigen_products=True)
    load_plugins(config.plugins)

    # The defaults: those of the run to be resumed, of the short run, or the recipe's.
    recipe = config.recipe
    if given.resume is not None:
        module, default = recipes.resume(given.resume, recipe)
    else:
        module = recipes.load(recipe)
        default = module.Config()
        if given.smoke:
            if not hasattr(module, "SMOKE"):
                raise ValueError(f"{recipe} has no short run")
            default = module.SMOKE
        name = recipes.named_after(Path(str(module.__file__))).stem
        default = dataclasses.replace(default, out=free_folder(name))

    # The options given anew, and the run.
    description = f"""{module.__doc__ or recipe}

    --resume DIR goes on with the run in DIR; --smoke is a run of a few seconds;
    --plugin FILE registers rules, losses ... of your own."""
    with parsing(own):
        chosen = tyro.cli(
            module.Config,
            prog=f"gamedyn train {recipe}",
            description=description,
            args=own,
            default=default,
            registry=NUMBERS,
        )
    signals: list[int] = []
    watcher = watch.Watcher(ended=lambda state: signals.append(state.signal))
    before = files_of(chosen.out)
    try:
        try:
            with watch.watching(watcher):
                recipes.run(module, chosen, command=command, report=print_summary)
        except Unwritable:  # a terminal that is gone says so by SIGHUP
            if not any(signals):
                raise
        if any(signals):
            raise Interrupted(max(signals))
    except KeyboardInterrupt as error:
        again = f"gamedyn train {shlex.quote(recipe)} --resume"
        error.add_note(saved(chosen.out, before, again, hasattr(chosen, "resume")))
        raise
    print(for_terminal(f"the run: {chosen.out}"))
