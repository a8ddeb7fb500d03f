"""Mode collapse counted: three random digits as the channels of a picture, 1,000 modes.

Command:

    gamedyn train stacked_mnist [--data mnist] [--pack 2] [--smoke]

A DCGAN on stacks of the 8 x 8 digits, or of MNIST's with `--data mnist`. As in the
protocol of PacGAN, 25,600 samples are classified channel by channel; a mode is a triple
of classes. `summary.json` tells how many of the 1,000 the samples show, and the reverse
divergence KL(p || uniform) of their shares p, in nats, both also for real stacks. The
classifier is the project's own, and so are the networks: figures compare with one
another, not with published ones.

Papers: Z. Lin, A. Khetan, G. Fanti and S. Oh, PacGAN, 2018, arXiv:1712.04086;
A. Srivastava et al., VEEGAN, 2017, arXiv:1705.07761.

Expected, digits and default options, seed 0: 938 modes, a reverse divergence of .90;
held-out stacks 1000 and .08. 3.5 minutes of training on one core of a 2-core x86-64
server, the core shared with other work.

The run's folder gets checkpoints, `metrics.jsonl`, grids of samples, `training.gif` and
`summary.json`.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import optax

import gamedyn as gd
from gamedyn import data, gan, metrics, nets
from gamedyn.data import sets
from gamedyn.recipes import image_gans, pictures
from gamedyn.recipes.rules import named_rule


@dataclasses.dataclass(frozen=True)
class Config(pictures.Options):
    """The options; those of data and the run's folder are `Options`."""

    out: Path = Path("results/stacked_mnist")  # the folder of the run
    stacks: int = 128_000  # how many to train on, as in the published protocol
    samples: int = 25_600  # how many to classify
    steps: int = 1500  # of the generator
    batch_size: int = 64  # real examples, and fakes, of one evaluation
    width: int = 32  # channels of the widest pictures inside the networks
    rule: str = "alternating"  # a registered rule; if it takes an optimizer, with Adam
    loss: str = "non_saturating"  # a registered loss
    learning_rates: tuple[float, float] = (2e-4, 2e-4)  # generator's, discriminator's
    b1: float = 0.5  # Adam's first decay
    b2: float = 0.999  # Adam's second decay
    n_critic: int = 1  # discriminator steps for one of the generator, if alternating
    norm: str = "batch"  # of the discriminator: batch, layer, spectral or none
    penalties: str = ""  # "r1,r2" say, on the discriminator; not with batch norm
    penalty_weight: float = 10.0  # of each penalty
    augment: str = ""  # differentiable augmentation, "translation,cutout" for example
    pack: int = 1  # how many pictures the discriminator sees at once (PacGAN)


SMOKE = Config(
    steps=20, width=8, checkpoint_every=10, sample_every=10, stacks=2000, samples=500
)


def load(config: Config) -> pictures.Sets:
    """Stack training digits to train on, held-out ones to compare with."""
    training, held_out = pictures.load(config)
    return (
        sets.stacked(training, config.stacks, seed=config.seed),
        sets.stacked(held_out, config.samples, seed=config.seed),
    )


def setup(config: Config) -> image_gans.Setup:
    """Load the data, build networks, game and rule.

    Raises:
        FileNotFoundError: if the data are not there; the message says how to get them.
        ValueError: if a name is unknown, or pictures of one's own do not fit.
    """
    training, held_out = load(config)
    size, channels = image_gans.square(training, config.data)

    # Networks. The discriminator sees `pack` pictures on top of one another.
    generator = nets.dcgan_generator(
        size,
        channels=channels,
        latent=image_gans.LATENT_SIZE,
        width=config.width,
    )
    discriminator = nets.dcgan_discriminator(
        size,
        channels=config.pack * channels,
        width=config.width,
        norm=config.norm,
    )
    if config.dtype != "float32":
        generator = nets.compute_in(generator, config.dtype)
        discriminator = nets.compute_in(discriminator, config.dtype)

    # The game: the loss of each network, plus penalties for the discriminator.
    game = gan.game(
        generator,
        discriminator,
        config.loss,
        latent=image_gans.LATENT,
        penalties=image_gans.gradient_penalties(
            config.penalties, config.penalty_weight
        ),
        pack=config.pack,
        augment=data.augment.policy(config.augment) if config.augment else None,
    )

    # The rule (Goodfellow et al. 2014, algorithm 1): `n_critic` steps of the
    # discriminator, each on fresh examples, then one of the generator against it.
    adam = functools.partial(optax.adam, b1=config.b1, b2=config.b2)
    if config.rule == "alternating":
        order = (1,) * config.n_critic + (0,)
        steps = map(adam, config.learning_rates)
        rule = gd.alternating(*steps, order=order, resample=True)
    else:
        rule = named_rule(config.rule, config.learning_rates, adam)
    return image_gans.Setup(training, held_out, generator, discriminator, game, rule)


def measure(config: Config, made: image_gans.Setup, theta: Any) -> pictures.Metrics:
    """Count the modes of samples, and of as many held-out stacks."""
    extractor = metrics.classifier(*pictures.load(config))
    samples = image_gans.generate(made, theta, config.samples, 0, None)
    summary: pictures.Metrics = {}
    for kind, generator, images in (
        ("", "ema", samples),
        (", real", "real", made.held_out.images),
    ):
        probabilities = metrics.classify_channels(images, extractor)
        coverage = metrics.stacked_coverage(probabilities)
        for name, value, protocol in (
            ("modes of 1,000", coverage.covered, "of one sample or more"),
            ("reverse divergence", coverage.reverse_kl, "against uniform, in nats"),
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


main, sample, evaluate = image_gans.commands(setup, measure)
