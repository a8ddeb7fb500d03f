"""A deep convolutional GAN on digits, MNIST, Fashion-MNIST, CIFAR-10 or own pictures.

Command:

    gamedyn train dcgan [--data mnist] [--rule extragradient] [--steps 2000] [--smoke]

Paper: A. Radford, L. Metz and S. Chintala, Unsupervised Representation Learning with
Deep Convolutional Generative Adversarial Networks, 2016, arXiv:1511.06434; trained by
the alternating algorithm of Goodfellow et al. 2014, or by any registered rule.

Expected, digits and default options: Fréchet distances of 18.2, 18.7 and 21.1 on seeds
0, 1 and 2; 12.6 for real pictures, 91.9 for the mean picture of each class. `README.md`
has the other data. 1 minute of training on one core of a 2-core x86-64 server.

The run's folder gets checkpoints, `metrics.jsonl`, grids of samples, `training.gif` and
`summary.json`.
"""

import dataclasses
import functools
from pathlib import Path

import optax

import gamedyn as gd
from gamedyn import data, gan, nets
from gamedyn.recipes import image_gans, pictures
from gamedyn.recipes.rules import named_rule


@dataclasses.dataclass(frozen=True)
class Config(pictures.Options):
    """The options; those of data, lengths and the run's folder are `Options`."""

    out: Path = Path("results/dcgan")  # the folder of the run
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


SMOKE = Config(steps=20, width=8, checkpoint_every=10, sample_every=10)


def setup(config: Config) -> image_gans.Setup:
    """Load the data, build networks, game and rule.

    Raises:
        FileNotFoundError: if the data are not there; the message says how to get them.
        ValueError: if a name is unknown, or pictures of one's own do not fit.
    """
    training, held_out = pictures.load(config)
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


main, sample, evaluate = image_gans.commands(setup)
