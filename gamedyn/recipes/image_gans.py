"""What the recipes for GANs of pictures share: latents, training, samples, metrics.

A recipe has a dataclass of options and `setup(config)`, which loads the data and builds
networks, game and rule; `commands(setup)` makes what it can do.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gamedyn as gd
from gamedyn import gan, metrics, nets, train
from gamedyn.data import ImageSet
from gamedyn.recipes import pictures
from gamedyn.recipes.lookup import Commands
from gamedyn.recipes.pictures import Metrics, Options
from gamedyn.seeds import seed_key

LATENT_SIZE = 64
LATENT = gan.normal(LATENT_SIZE)
_SIZES = (8, 28, 32, 64)


class Setup(NamedTuple):
    """What a recipe's `setup` returns."""

    training: ImageSet
    held_out: ImageSet
    generator: nets.Net
    discriminator: nets.Net
    game: gd.Game
    rule: gd.Rule
    conditional: bool = False


def square(images: ImageSet, name: str) -> tuple[int, int]:
    """Return size and channels of square pictures that there are DCGANs for.

    Args:
        images: the pictures.
        name: what to call them in the message.

    Raises:
        ValueError: if there are no networks for their size.
    """
    _, height, size, channels = images.images.shape
    if height != size or size not in _SIZES:
        raise ValueError(
            f"{name} has pictures of {height} x {size} pixels, expected "
            f"squares of {', '.join(map(str, _SIZES))}"
        )
    return size, channels


def gradient_penalties(names: str, weight: float) -> list[Callable[..., jax.Array]]:
    """Look penalties up, their names separated by commas, and give each a weight.

    Raises:
        ValueError: if one is unknown, or does not penalise gradients.
    """
    terms = []
    for name in filter(None, names.split(",")):
        entry = gan.penalties.entry(name.strip())
        if not entry.differentiates:
            raise ValueError(f"penalties are those of gradients, got {name}")
        terms.append(functools.partial(entry.penalty, weight=weight))
    return terms


def fit(config: Options, made: Setup) -> train.TrainState:
    """Train, see `gamedyn.recipes.pictures.fit`."""
    key = seed_key(config.seed)
    start = tuple(
        net.init(jax.random.fold_in(key, player))
        for player, net in enumerate((made.generator, made.discriminator))
    )
    latents = LATENT(jax.random.fold_in(key, 2), 64, jnp.float32)

    def build(images: jax.Array, labels: Any, key: jax.Array) -> gan.Batch:
        return gan.Batch(images, key, labels)

    def sampler(params: Any, labels: Any) -> jax.Array:
        asked = () if labels is None else (labels,)
        return made.generator.apply(params[0], latents, *asked)

    record = gan.monitor(made.game)
    return pictures.fit(
        config, made, made.game, made.rule, start, build, sampler, record
    )


def generate(made: Setup, theta: Any, number: int, seed: int, labels: Any) -> Any:
    """Draw pictures, uint8, with standing statistics of batch normalisation."""
    key, statistics = seed_key(seed), None
    if made.generator.statistics is not None:
        inputs = LATENT(jax.random.fold_in(key, 1), 2000, jnp.float32)
        batches = inputs.reshape(20, 100, LATENT_SIZE)
        if made.conditional:
            classes = np.arange(2000) % made.training.num_classes
            batches = batches, jnp.asarray(classes.reshape(20, 100))
        statistics = jax.jit(made.generator.statistics)(theta, batches)
    drawn = gan.samples(
        made.generator,
        theta,
        key,
        number,
        latent=LATENT,
        labels=labels if made.conditional else None,
        statistics=statistics,
    )
    return metrics.quantise(drawn, made.training.maximum)


def measure(config: Options, made: Setup, theta: Any) -> Metrics:
    """Measure a generator, see `gamedyn.recipes.pictures.measure`."""
    del config
    return pictures.measure(made, functools.partial(generate, made, theta))


def commands(
    setup: Callable[[Any], Setup], measure: Callable[..., Metrics] = measure
) -> Commands:
    """Make the commands of a recipe, of how its options are set up and measured.

    Args:
        setup: `setup(config)` loads the data and builds networks, game and rule.
        measure: `measure(config, made, theta)` returns the metrics of a generator.

    Returns:
        `main`, `sample` and `evaluate`, see `gamedyn.recipes`.
    """
    return pictures.commands(setup, fit, generate, measure)
