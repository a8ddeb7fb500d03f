"""A deep convolutional GAN on digits, MNIST, Fashion-MNIST or CIFAR-10.

Command:

    gamedyn train dcgan [--data mnist] [--rule extragradient] [--steps 2000] [--smoke]

The lecture's alternating algorithm by default. The run's folder gets checkpoints,
`metrics.jsonl`, grids of samples, `training.gif` and `summary.json`.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments import _image_gans


@dataclasses.dataclass(frozen=True)
class Config(_image_gans.Config):
    """The options, those of `experiments._image_gans`."""

    out: Path = Path("results/dcgan")


SMOKE = Config(steps=20, width=8, checkpoint_every=10, sample_every=10)


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    return _image_gans.run(config, conditional=False)


def sample(config: Config, number: int, seed: int) -> tuple[Path, Path]:
    """Draw samples of a run."""
    return _image_gans.sample(config, number, seed, conditional=False)


def evaluate(config: Config) -> dict[str, float]:
    """Measure what a run has trained."""
    return _image_gans.evaluate(config, conditional=False)
