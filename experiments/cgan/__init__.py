"""A class-conditional DCGAN on digits, MNIST, Fashion-MNIST, CIFAR-10 or own ones.

Command:

    gamedyn train cgan [--data mnist] [--rule extragradient] [--steps 2000] [--smoke]

The generator takes the class one-hot beside the latents, the discriminator judges by
projection; `summary.json` tells how many samples are classified as asked.

The lecture's alternating algorithm by default. The run's folder gets checkpoints,
`metrics.jsonl`, grids of samples, `training.gif` and `summary.json`.
"""

import dataclasses
import functools
from pathlib import Path

from experiments import _image_gans


@dataclasses.dataclass(frozen=True)
class Config(_image_gans.Config):
    """The options, those of `experiments._image_gans`."""

    out: Path = Path("results/cgan")


SMOKE = Config(steps=20, width=8, checkpoint_every=10, sample_every=10)

setup = functools.partial(_image_gans.setup, conditional=True)
main, sample, evaluate = _image_gans.recipe(setup)
