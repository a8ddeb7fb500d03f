"""What is trained on a protocol's points: the networks, the game, the rules."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import optax

import gamedyn as gd
from gamedyn import gan, nets
from gamedyn.gan import penalties

MakeRule = Callable[[Any, int], gd.Rule]
"""`make_rule(learning_rate, num_steps)`; the learning rate may be traced."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained, and for how long."""

    rule: str = "alternating"  # a name of `RULES`
    loss: str = "non_saturating"  # a registered loss
    penalties: tuple[str, ...] = ("r1", "r2")  # registered ones, all of one weight
    weight: float = 0.2  # of the penalties, in the first stage
    last_weight: float = 2e-4  # in the last one; it falls geometrically between them
    learning_rate: float = 2e-3  # Adam's first, falling to zero along a cosine
    num_steps: int = 6000  # of the rule
    stages: int = 10  # samples are drawn after each; divides `num_steps`
    batch_size: int = 128  # real examples of every move
    latent: Literal["normal", "uniform"] = "uniform"  # law of z, 2 dimensions
    width: int = 128  # hidden units in each layer, of both networks
    depth: int = 3  # hidden layers, ReLU, of both networks
    pack: int = 1  # how many points the discriminator sees at once


LATENTS = {"normal": gan.normal, "uniform": gan.uniform}
"""Laws of z; uniform: on [-1, 1)."""


def networks(setting: Setting) -> tuple[nets.Net, nets.Net]:
    """Build the generator and the discriminator."""
    hidden = (setting.width,) * setting.depth
    mlp = functools.partial(nets.mlp, initializer=jax.nn.initializers.he_normal())
    generator = mlp((2, *hidden, 2))
    return generator, mlp((2 * setting.pack, *hidden, 1), output_shape=())


def game(
    setting: Setting, generator: nets.Net, discriminator: nets.Net, weight: Any
) -> gd.Game:
    """Make the game of two networks, its penalties of a weight that may be traced."""
    return gan.game(
        generator,
        discriminator,
        setting.loss,
        latent=LATENTS[setting.latent](2),
        penalties=tuple(
            functools.partial(penalties.entry(name).penalty, weight=weight)
            for name in setting.penalties
        ),
        pack=setting.pack,
    )


def adam(learning_rate: Any, num_steps: int) -> optax.GradientTransformation:
    """Make the Adam of these experiments: beta1 .5, along a cosine to zero."""
    schedule = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.adam(schedule, b1=0.5)


def alternating(learning_rate: Any, num_steps: int) -> gd.Rule:
    """Make the lecture's algorithm: D moves, then G, each on fresh examples."""
    optimizer = adam(learning_rate, num_steps)
    return gd.alternating(optimizer, order=(1, 0), resample=True)


def extra_adam(learning_rate: Any, num_steps: int) -> gd.Rule:
    """Make extragradient with Adam, its moments and its cosine moving twice a step."""
    return gd.extragradient(adam(learning_rate, 2 * num_steps), moments="both")


class Choice(NamedTuple):
    """A rule to choose, and its gradient evaluations (of both players) per step."""

    make: MakeRule
    evaluations: int


RULES = {"alternating": Choice(alternating, 1), "extra_adam": Choice(extra_adam, 2)}
