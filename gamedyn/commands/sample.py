"""`gamedyn sample`: draw from what a run has trained."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from gamedyn.commands.runs import read_run, told
from gamedyn.commands.shared import PluginFiles, load_plugins
from gamedyn.seeds import check_seed
from gamedyn.text import for_terminal


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples from what a run has trained: pictures and an array.

    Options of the recipe may follow the folder, in place of those of the run. A recipe
    of your own is named again: --recipe my_recipe.py.

    Examples:
        gamedyn sample results/dcgan --number 100
        gamedyn sample results/ddpm --sampler ddim --sampling-steps 50
        gamedyn sample results/text_to_image --prompt "one red cross at the top"
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""

    number: int = 64
    """The number of samples."""

    seed: int = 0
    """The seed of the latents."""

    prompt: str | None = None
    """The words of what they are to show, for recipes that understand words."""

    recipe: str | None = None
    """The path of the run's recipe, where that is not a registered one."""

    plugins: PluginFiles = ()
    """A file that registers what the recipe needs of your own."""


def run(config: Sample, options: list[str]) -> None:
    """Draw samples and print their paths.

    Args:
        config: the run, and what to draw.
        options: options of the recipe, in place of those of the run.
    """
    import inspect

    if config.number < 1:
        raise ValueError(f"--number must be positive, got {config.number}")
    check_seed("--seed", config.seed)
    load_plugins(config.plugins)
    module, chosen = read_run("sample", config.run, config.recipe, options)
    if not hasattr(module, "sample"):
        raise ValueError(f"the recipe of {config.run} draws no samples")
    asked = {}
    if config.prompt is not None:
        if "prompt" not in inspect.signature(module.sample).parameters:
            raise ValueError(f"the recipe of {config.run} understands no words")
        asked["prompt"] = config.prompt
    with told(config.run):
        for path in module.sample(chosen, config.number, config.seed, **asked):
            print(for_terminal(path))
