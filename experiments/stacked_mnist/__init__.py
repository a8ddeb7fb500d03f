"""Mode collapse counted: three random digits as the channels of a picture, 1,000 modes.

Command:

    gamedyn train stacked_mnist [--data mnist] [--pack 2] [--smoke]

A DCGAN on stacks of the 8 x 8 digits, or of MNIST's with `--data mnist`. As in the
protocol of PacGAN (Lin et al. 2018, arXiv:1712.04086), 25,600 samples are classified
channel by channel; a mode is a triple of classes. `summary.json` tells how many of the
1,000 were found, and the reverse divergence KL(p || uniform) of their shares p, in
nats, both also for real stacks. The classifier is the project's own, and so are the
networks: figures compare with one another, not with published ones.

The run's folder gets checkpoints, `metrics.jsonl`, grids of samples, `training.gif` and
`summary.json`.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from experiments import _image_gans
from gamedyn import metrics
from gamedyn.data import sets


@dataclasses.dataclass(frozen=True)
class Config(_image_gans.Config):
    """The options, beside those of `experiments._image_gans`.

    Attributes:
        stacks: how many to train on; 128,000 in the published protocol.
        samples: how many to classify.
    """

    out: Path = Path("results/stacked_mnist")
    stacks: int = 128_000
    samples: int = 25_600
    steps: int = 1500
    batch_size: int = 64
    width: int = 32


SMOKE = Config(
    steps=20, width=8, checkpoint_every=10, sample_every=10, stacks=2000, samples=500
)


def load(config: Config) -> _image_gans.Sets:
    """Stack training digits to train on, held-out ones to compare with."""
    training, held_out = _image_gans.load(config)
    return (
        sets.stacked(training, config.stacks, seed=config.seed),
        sets.stacked(held_out, config.samples, seed=config.seed),
    )


def measure(config: Config, made: _image_gans.Setup, theta: Any) -> _image_gans.Found:
    """Count the modes of samples, and of as many held-out stacks."""
    extractor = metrics.classifier(*_image_gans.load(config))
    pictures = _image_gans.generate(made, theta, config.samples, 0, None)
    summary: _image_gans.Found = {}
    for kind, generator, images in (
        ("", "ema", pictures),
        (", real", "real", made.held_out.images),
    ):
        probabilities = metrics.classify_channels(images, extractor)
        found = metrics.stacked_coverage(probabilities)
        for name, value, protocol in (
            ("modes of 1,000", found.covered, "of one sample or more"),
            ("reverse divergence", found.reverse_kl, "against uniform, in nats"),
        ):
            summary[f"{name}{kind}"] = metrics.measurement(
                name,
                value,
                extractor,
                n_generated=len(images),
                generator=generator,
                protocol=protocol,
            )
    assert extractor.test_accuracy is not None  # it is a classifier
    return summary | {
        "classifier's test accuracy": extractor.test_accuracy,
        "pictures": config.samples,
    }


setup = functools.partial(_image_gans.setup, load=load)
main, sample, evaluate = _image_gans.recipe(setup, measure)
