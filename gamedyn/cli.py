"""The `gamedyn` command: which command, with which options, and how it ends."""

import argparse
import itertools
import shlex
import sys

import tyro

from gamedyn._moved import forward
from gamedyn.commands import analyse, compare, evaluate, listing, sample, train
from gamedyn.commands.analyse import Analyse
from gamedyn.commands.compare import Compare
from gamedyn.commands.evaluate import Evaluate
from gamedyn.commands.listing import List
from gamedyn.commands.sample import Sample
from gamedyn.commands.shared import NUMBERS, literal_errors
from gamedyn.commands.train import Train
from gamedyn.text import for_terminal

_COMMANDS = {
    "compare": Compare,
    "analyse": Analyse,
    "train": Train,
    "sample": Sample,
    "evaluate": Evaluate,
    "list": List,
}
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command; bad input prints one line and gives exit code 2.

    Args:
        arguments: the command line without the program's name; from `sys.argv` if
            `None`.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["gamedyn", *arguments])
    own, of_recipe = _split(arguments)
    with literal_errors(own):
        config = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="gamedyn",
            description="Game dynamics: compare optimizers, analyse equilibria, train.",
            args=own,
            registry=NUMBERS,
        )
    try:
        match config:
            case List():
                listing.run(config)
            case Analyse():
                analyse.run(config, command)
            case Compare():
                compare.run(config, command)
            case Train():
                train.run(config, of_recipe)
            case Sample():
                sample.run(config, of_recipe)
            case Evaluate():
                evaluate.run(config, of_recipe)
    except KeyboardInterrupt:
        print("gamedyn: interrupted, nothing was written", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        message = " ".join(str(error).split())
        print(for_terminal(f"gamedyn: error: {message}"), file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


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
