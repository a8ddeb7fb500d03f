"""What the recipes for GANs of pictures share: networks, games, rules, samples.

A recipe names its options, a dataclass, and says by `setup(config)` what they stand
for; `recipe(setup)` makes its commands.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments import _images
from experiments._images import Command, Found, Options, Sets, load
from gamedyn import data, gan, metrics, nets, train
from gamedyn.data import ImageSet

LATENT_SIZE = 64
LATENT = gan.normal(LATENT_SIZE)
_SIZES = (8, 28, 32, 64)


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """The options of a recipe that leaves loss, rule and penalties open.

    Attributes:
        rule: a registered rule; those that take a transformation get Adam.
        loss: a registered loss.
        learning_rates: of the generator and of the discriminator.
        b1: Adam's first decay.
        b2: Adam's second decay.
        n_critic: steps of the discriminator for one of the generator, if alternating.
        norm: the discriminator's normalisation: batch, layer, spectral or none.
        penalties: on the discriminator's gradients, "r1,r2" say; not with batch norm.
        penalty_weight: of each.
        augment: policies of differentiable augmentation, "translation,cutout" say.
        pack: how many pictures the discriminator sees at once (PacGAN).
    """

    rule: str = "alternating"
    loss: str = "non_saturating"
    learning_rates: tuple[float, float] = (2e-4, 2e-4)
    b1: float = 0.5
    b2: float = 0.999
    n_critic: int = 1
    norm: str = "batch"
    penalties: str = ""
    penalty_weight: float = 10.0
    augment: str = ""
    pack: int = 1


class Setup(NamedTuple):
    """What the options stand for."""

    training: ImageSet
    held_out: ImageSet
    generator: nets.Net
    discriminator: nets.Net
    game: gd.Game
    rule: gd.Rule
    conditional: bool = False


def networks(
    options: Options,
    training: ImageSet,
    *,
    norm: str,
    conditional: bool = False,
    pack: int = 1,
) -> tuple[nets.Net, nets.Net]:
    """Make generator and discriminator for the pictures of a set.

    Raises:
        ValueError: if there are no networks for their size.
    """
    _, height, size, channels = training.images.shape
    if height != size or size not in _SIZES:
        raise ValueError(
            f"{options.data} has pictures of {height} x {size} pixels, expected "
            f"squares of {', '.join(map(str, _SIZES))}"
        )
    classes = training.num_classes if conditional else None
    generator = nets.dcgan_generator(
        size,
        channels=channels,
        latent=LATENT_SIZE,
        width=options.width,
        condition="one_hot" if conditional else None,
        num_classes=classes,
    )
    discriminator = nets.dcgan_discriminator(
        size,
        channels=pack * channels,
        width=options.width,
        norm=norm,
        condition="projection" if conditional else None,
        num_classes=classes,
    )
    if options.dtype == "float32":
        return generator, discriminator
    return (
        nets.compute_in(generator, options.dtype),
        nets.compute_in(discriminator, options.dtype),
    )


def setup(
    config: Config,
    *,
    conditional: bool = False,
    load: Callable[[Any], Sets] = load,
) -> Setup:
    """Load the data, build networks, game and rule.

    Raises:
        FileNotFoundError: as `load`.
        ValueError: as `load` and `networks`, or if a name is unknown.
    """
    training, held_out = load(config)
    generator, discriminator = networks(
        config,
        training,
        norm=config.norm,
        conditional=conditional,
        pack=config.pack,
    )
    classes = training.num_classes
    game = gan.game(
        generator,
        discriminator,
        config.loss,
        latent=LATENT,
        penalties=gradient_penalties(config.penalties, config.penalty_weight),
        conditional=gan.conditional.classes(classes) if conditional else None,
        pack=config.pack,
        augment=data.augment.policy(config.augment) if config.augment else None,
    )
    rule = make_rule(config)
    return Setup(training, held_out, generator, discriminator, game, rule, conditional)


def gradient_penalties(names: str, weight: float) -> list[Callable[..., jax.Array]]:
    """Look penalties up, their names separated by commas, and give each a weight.

    Raises:
        ValueError: if one is unknown, or does not penalise gradients.
    """
    found = []
    for name in filter(None, names.split(",")):
        entry = gan.penalties.entry(name.strip())
        if not entry.differentiates:
            raise ValueError(f"penalties are those of gradients, got {name}")
        found.append(functools.partial(entry.penalty, weight=weight))
    return found


def make_rule(config: Config) -> gd.Rule:
    """Make the rule: the lecture's algorithm unless another is asked for.

    Goodfellow et al. 2014, algorithm 1: `n_critic` steps of the discriminator, each on
    fresh examples, then one of the generator against the new discriminator.
    """
    adam = functools.partial(optax.adam, b1=config.b1, b2=config.b2)
    if config.rule == "alternating":
        order = (1,) * config.n_critic + (0,)
        steps = map(adam, config.learning_rates)
        return gd.alternating(*steps, order=order, resample=True)
    entries = gd.rules.entries()
    if config.rule in entries and not entries[config.rule].takes_transformation:
        return gd.rules.make(config.rule, config.learning_rates[0])
    return gd.rules.make(config.rule, config.learning_rates, transformation=adam)


def fit(config: Options, made: Setup) -> train.TrainState:
    """Train, see `experiments._images.fit`."""
    key = jax.random.key(config.seed)
    start = tuple(
        net.init(jax.random.fold_in(key, player))
        for player, net in enumerate((made.generator, made.discriminator))
    )
    latents = LATENT(jax.random.fold_in(key, 2), 64, jnp.float32)

    def build(pictures: jax.Array, labels: Any, key: jax.Array) -> gan.Batch:
        return gan.Batch(pictures, key, labels)

    def sampler(params: Any, labels: Any) -> jax.Array:
        asked = () if labels is None else (labels,)
        return made.generator.apply(params[0], latents, *asked)

    record = gan.monitor(made.game)
    return _images.fit(
        config, made, made.game, made.rule, start, build, sampler, record
    )


def generate(made: Setup, theta: Any, number: int, seed: int, labels: Any) -> Any:
    """Draw pictures, uint8, with standing statistics of batch normalisation."""
    key, statistics = jax.random.key(seed), None
    if made.generator.statistics is not None:
        inputs = LATENT(jax.random.fold_in(key, 1), 2000, jnp.float32)
        batches = inputs.reshape(20, 100, LATENT_SIZE)
        if made.conditional:
            classes = np.arange(2000) % made.training.num_classes
            batches = batches, jnp.asarray(classes.reshape(20, 100))
        statistics = jax.jit(made.generator.statistics)(theta, batches)
    pictures = gan.samples(
        made.generator,
        theta,
        key,
        number,
        latent=LATENT,
        labels=labels if made.conditional else None,
        statistics=statistics,
    )
    return metrics.quantise(pictures, made.training.maximum)


def measure(config: Options, made: Setup, theta: Any) -> Found:
    """Measure a generator, see `experiments._images.measure`."""
    del config
    return _images.measure(made, functools.partial(generate, made, theta))


def recipe(
    setup: Callable[[Any], Setup], measure: Command = measure
) -> tuple[Command, Command, Command]:
    """Make the commands of a recipe, of how its options are set up and measured.

    Args:
        setup: `setup(config)` loads the data and builds networks, game and rule.
        measure: `measure(config, made, theta)` returns the metrics of a generator.

    Returns:
        `main`, `sample` and `evaluate`, see `gamedyn.recipes`.
    """
    return _images.recipe(setup, fit, generate, measure)
