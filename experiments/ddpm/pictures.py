"""Diffusion models of pictures, asked for by class."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ddpm import models
from gamedyn import data, diffusion, metrics, nets, train
from gamedyn.data import ImageSet
from gamedyn.diffusion import samplers, schedules
from gamedyn.recipes import pictures as _images

_AT_ONCE = 500  # pictures


class Setup(NamedTuple):
    """What the options stand for."""

    training: ImageSet
    held_out: ImageSet
    model: models.Model
    conditional: bool


def setup(config: Any) -> Setup:
    """Load the data, build network, game and rule.

    Raises:
        FileNotFoundError: as `_images.load`.
        ValueError: as `_images.load`, or if a name is unknown.
    """
    training, held_out = _images.load(config)
    conditional = training.num_classes > 1
    shape = training.images.shape[1:]
    # Pictures of one class have a label and a null label all the same.
    net = models.picture_net(config.net, shape, config.width, training.num_classes)
    if config.dtype != "float32":
        net = _coarse(net, config.dtype)
    made = models.model(config, net, clip=(-1.0, 1.0), num_classes=training.num_classes)
    return Setup(training, held_out, made, conditional)


def _coarse(net: nets.Net, dtype: str) -> nets.Net:
    """Compute in bfloat16, which tells steps beyond 256 apart as integers only."""
    inner = nets.compute_in(net, dtype)

    def apply(params: Any, x: jax.Array, t: jax.Array, *labels: Any) -> jax.Array:
        return inner.apply(params, x, jnp.round(t).astype(jnp.int32), *labels)

    return nets.from_function(inner.init, apply)


def fit(config: Any, made: Setup) -> train.TrainState:
    """Train, with grids of samples by DDIM in 50 steps at most."""
    model = made.model
    steps = min(50, config.chain)
    table = samplers.ddim(schedules.respace(model.chain, steps))
    augment = data.augment.policy(config.augment) if config.augment else None

    def build(pictures: jax.Array, labels: Any, key: jax.Array) -> diffusion.Batch:
        if augment is not None:
            key, own = jax.random.split(key)
            pictures = augment(own, pictures)
        if labels is None:
            labels = jnp.zeros(len(pictures), jnp.int32)
        return diffusion.Batch(pictures, key, labels)

    def sampler(params: Any, labels: Any) -> jax.Array:
        if labels is None:
            labels = jnp.zeros(64, jnp.int32)
        shape = (64, *made.training.images.shape[1:])
        return model.draw(params[0], jax.random.key(config.seed), table, labels, shape)

    record = diffusion.monitor(model.game, num_bins=4)
    start = models.start(config, model.net)
    return _images.fit(
        config, made, model.game, model.rule, start, build, sampler, record
    )


def generate(made: Setup, theta: Any, number: int, seed: int, labels: Any) -> Any:
    """Draw pictures, uint8: the same bits for the same number and seed."""
    at_once = min(number, _AT_ONCE)
    shape = (at_once, *made.training.images.shape[1:])
    asked = np.zeros(number, np.int32) if labels is None else np.asarray(labels)
    asked = np.resize(asked.astype(np.int32), -(-number // at_once) * at_once)
    key, parts = jax.random.key(seed), []
    for index, own in enumerate(asked.reshape(-1, at_once)):
        drawn = made.model.draw(
            theta, jax.random.fold_in(key, index), made.model.sampler, own, shape
        )
        parts.append(metrics.quantise(drawn, made.training.maximum))
    return np.concatenate(parts)[:number]


def measure(config: Any, made: Setup, theta: Any) -> _images.Metrics:
    """Measure samples, see `experiments._images.measure`."""

    def draw(number: int, seed: int, labels: Any) -> np.ndarray:
        return generate(made, theta, number, seed, labels)

    return _images.measure(made, draw, min(config.samples, 10_000))


COMMANDS = _images.commands(setup, fit, generate, measure)
