"""Wasserstein GANs of pictures: weight clipping, gradient penalty, spectral norm.

Command:

    gamedyn train wgan [--variant clip] [--data mnist] [--steps 1000] [--smoke]

Three ways to keep the critic Lipschitz, each with its paper's kind of optimizer:

- clip (Arjovsky et al. 2017): every step of the critic is projected onto the box
  [-c, c], the geometry of that player; RMSProp, batch norm in the critic;
- gradient_penalty (Gulrajani et al. 2017): lambda E (|grad D| - 1)^2 between real and
  fake examples; Adam, layer norm, since batch norm couples the examples;
- spectral (Miyato et al. 2018): every kernel divided by its largest singular value;
  Adam, hinge loss.

The critic steps five times for one step of the generator. The run's folder gets
checkpoints, `metrics.jsonl`, grids of samples, `training.gif` and `summary.json`.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import optax

import gamedyn as gd
from experiments import _image_gans
from experiments._image_gans import LATENT
from gamedyn import gan


class Variant(NamedTuple):
    """What a paper says.

    Attributes:
        loss: a registered loss.
        norm: the critic's normalisation.
        optimizer: from a learning rate to a transformation, for both players.
    """

    loss: str
    norm: str
    optimizer: Callable[[float], optax.GradientTransformation]


_RMSPROP = functools.partial(optax.rmsprop, decay=0.99, eps_in_sqrt=False)
_ADAM = functools.partial(optax.adam, b1=0.0, b2=0.9)
VARIANTS = {
    "clip": Variant("wasserstein", "batch", _RMSPROP),
    "gradient_penalty": Variant("wasserstein", "layer", _ADAM),
    "spectral": Variant("hinge", "spectral", _ADAM),
}


@dataclasses.dataclass(frozen=True)
class Config(_image_gans.Options):
    """The options, beside those of `experiments._image_gans`.

    Attributes:
        variant: how the critic is kept Lipschitz.
        clip: c, of the variant clip.
        penalty_weight: lambda, of the variant gradient_penalty.
        learning_rate: of both players; the paper of clip has 5e-5, and far more steps.
        n_critic: steps of the critic for one of the generator.
    """

    out: Path = Path("results/wgan")
    variant: Literal["clip", "gradient_penalty", "spectral"] = "gradient_penalty"
    clip: float = 0.01
    penalty_weight: float = 10.0
    learning_rate: float = 2e-4
    n_critic: int = 5
    steps: int = 1000
    average: float = 0.99
    batch_size: int = 64
    width: int = 32


SMOKE = Config(steps=10, width=8, checkpoint_every=10, sample_every=10)


def setup(config: Config) -> _image_gans.Setup:
    """Load the data, build networks, game and rule."""
    if config.variant not in VARIANTS:
        raise ValueError(
            f"variant must be one of {', '.join(VARIANTS)}, got {config.variant!r}"
        )
    variant = VARIANTS[config.variant]
    training, held_out = _image_gans.load(config)
    generator, critic = _image_gans.networks(config, training, norm=variant.norm)
    penalties = ""
    geometry = gd.geometry.euclidean
    if config.variant == "gradient_penalty":
        penalties = "gradient_penalty"
    elif config.variant == "clip":
        box = gd.geometry.box(-config.clip, config.clip)
        geometry = (gd.geometry.euclidean, box)
    game = gan.game(
        generator,
        critic,
        variant.loss,
        latent=LATENT,
        penalties=_image_gans.gradient_penalties(penalties, config.penalty_weight),
    )
    step = variant.optimizer(config.learning_rate)
    order = (1,) * config.n_critic + (0,)
    rule = gd.alternating(step, order=order, resample=True, geometry=geometry)
    return _image_gans.Setup(training, held_out, generator, critic, game, rule)


main, sample, evaluate = _image_gans.recipe(setup)
