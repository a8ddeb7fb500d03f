"""What the recipes for diffusion models of pictures share, asked for by class."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn import data, diffusion, metrics, train
from gamedyn.data import ImageSet
from gamedyn.diffusion import samplers, schedules
from gamedyn.recipes import pictures
from gamedyn.recipes.diffusion_models import Model, start
from gamedyn.recipes.lookup import Commands
from gamedyn.seeds import seed_key

_AT_ONCE = 500  # pictures


class Setup(NamedTuple):
    """What a recipe's `setup` returns."""

    training: ImageSet
    held_out: ImageSet
    model: Model
    conditional: bool


def fit(config: Any, made: Setup) -> train.TrainState:
    """Train, with grids of samples by DDIM in 50 steps at most."""
    model = made.model
    steps = min(50, config.chain)
    table = samplers.ddim(schedules.respace(model.chain, steps))
    augment = data.augment.policy(config.augment) if config.augment else None

    def build(images: jax.Array, labels: Any, key: jax.Array) -> diffusion.Batch:
        if augment is not None:
            key, own = jax.random.split(key)
            images = augment(own, images)
        if labels is None:
            labels = jnp.zeros(len(images), jnp.int32)
        return diffusion.Batch(images, key, labels)

    def sampler(params: Any, labels: Any) -> jax.Array:
        if labels is None:
            labels = jnp.zeros(64, jnp.int32)
        shape = (64, *made.training.images.shape[1:])
        return model.draw(params[0], seed_key(config.seed), table, labels, shape)

    record = diffusion.monitor(model.game, num_bins=4)
    params = start(config, model.net)
    return pictures.fit(
        config, made, model.game, model.rule, params, build, sampler, record
    )


def generate(made: Setup, theta: Any, number: int, seed: int, labels: Any) -> Any:
    """Draw pictures, uint8: the same bits for the same number and seed."""
    at_once = min(number, _AT_ONCE)
    shape = (at_once, *made.training.images.shape[1:])
    asked = np.zeros(number, np.int32) if labels is None else np.asarray(labels)
    asked = np.resize(asked.astype(np.int32), -(-number // at_once) * at_once)
    key, parts = seed_key(seed), []
    for index, own in enumerate(asked.reshape(-1, at_once)):
        drawn = made.model.draw(
            theta, jax.random.fold_in(key, index), made.model.sampler, own, shape
        )
        parts.append(metrics.quantise(drawn, made.training.maximum))
    return np.concatenate(parts)[:number]


def measure(config: Any, made: Setup, theta: Any) -> pictures.Metrics:
    """Measure samples, see `gamedyn.recipes.pictures.measure`."""

    def draw(number: int, seed: int, labels: Any) -> np.ndarray:
        return generate(made, theta, number, seed, labels)

    return pictures.measure(made, draw, min(config.samples, 10_000))


def commands(setup: Callable[[Any], Setup]) -> Commands:
    """Make the commands of a recipe, of how its options are set up.

    Args:
        setup: `setup(config)` loads the data and builds network, game and rule.

    Returns:
        `main`, `sample` and `evaluate`, see `gamedyn.recipes`.
    """
    return pictures.commands(setup, fit, generate, measure)
