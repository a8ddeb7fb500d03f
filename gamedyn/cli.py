"""The `gamedyn` command: which command, with which options."""

import argparse
import itertools
import shlex
import sys

import tyro

from gamedyn._moved import forward
from gamedyn.commands import (
    analyse,
    compare,
    ending,
    evaluate,
    listing,
    sample,
    train,
)
from gamedyn.commands.analyse import Analyse
from gamedyn.commands.compare import Compare
from gamedyn.commands.evaluate import Evaluate
from gamedyn.commands.listing import List
from gamedyn.commands.sample import Sample
from gamedyn.commands.shared import NUMBERS, parsing
from gamedyn.commands.train import Train

_COMMANDS = {
    "compare": Compare,
    "analyse": Analyse,
    "train": Train,
    "sample": Sample,
    "evaluate": Evaluate,
    "list": List,
}
_TRACE = "--traceback"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; whatever fails prints one line, with `--traceback` all of it.

    Args:
        arguments: the command line without the program's name; from `sys.argv` if
            `None`.

    Returns:
        The exit code: 0; 2 for bad input; 1 for an error that nobody foresaw; 128 and
        the number of the signal that ended it.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = shlex.join(["gamedyn", *arguments])
    traced = _TRACE in arguments
    arguments = [word for word in arguments if word != _TRACE]
    with ending.streams(), ending.signals():
        try:
            try:
                _run(arguments, command)
            finally:
                sys.stdout.flush()  # while what fails here can still be said
        except (Exception, KeyboardInterrupt) as error:
            return ending.say(error, traced)
    return 0


def _run(arguments: list[str], command: str) -> None:
    """Read the command line and do what it says."""
    own, of_recipe = _split(arguments)
    with parsing(own):
        config = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="gamedyn",
            description="Game dynamics: compare optimizers, analyse equilibria, train. "
            f"{_TRACE}, anywhere, shows where an error comes from.",
            args=own,
            registry=NUMBERS,
        )
    match config:
        case List():
            listing.run(config)
        case Analyse():
            analyse.run(config, command)
        case Compare():
            compare.run(config, command)
        case Train():
            train.run(config, of_recipe, command)
        case Sample():
            sample.run(config, of_recipe)
        case Evaluate():
            evaluate.run(config, of_recipe, command)


# The options of the commands that hand all others to a recipe; of `train` the general
# ones, too, go with the recipe's, whose help tells them.
_OWN = {
    "train": (),
    "sample": ("number", "seed", "prompt", "recipe"),
    "evaluate": ("recipe",),
}


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Tell the command's own options from those that are the recipe's business."""
    if not arguments or arguments[0] not in _OWN:
        return arguments, []
    # Plugins may stand anywhere, also before the recipe or the run.
    plugins = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    plugins.add_argument("--plugin", action="append", default=[])
    files, (command, *words) = plugins.parse_known_args(arguments)
    if not words or words[0].startswith("-"):
        return arguments, []
    what, *options = words
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    if command != "train":
        known.add_argument("-h", "--help", action="store_true")
    for name in _OWN[command]:
        known.add_argument(f"--{name}")
    given, others = known.parse_known_args(options)
    if command != "train" and given.help:
        return [command, "--help"], []
    pairs = [(name, getattr(given, name)) for name in _OWN[command]]
    pairs += [("plugin", file) for file in files.plugin]
    own = [(f"--{name}", value) for name, value in pairs if value is not None]
    return [command, what, *itertools.chain(*own)], others


__getattr__ = forward(__name__, "gamedyn.commands.problems", "gamedyn.commands.analyse")


if __name__ == "__main__":
    sys.exit(main())
