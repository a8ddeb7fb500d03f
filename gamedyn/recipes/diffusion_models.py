"""What the recipes for diffusion models share: a model, and how samples are drawn."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import gamedyn as gd
from gamedyn import diffusion, nets
from gamedyn.diffusion import guidance, samplers, schedules
from gamedyn.seeds import seed_key


class Model(NamedTuple):
    """A network, what trains it and what draws with it.

    Attributes:
        net: the network.
        chain: the noise schedule.
        game: the loss.
        rule: how it is descended.
        sampler: the table of the sampler asked for.
        draw: `draw(theta, key, sampler, labels, shape)` returns samples, see `drawing`.
    """

    net: nets.Net
    chain: schedules.Schedule
    game: gd.Game
    rule: gd.Rule
    sampler: samplers.Sampler
    draw: Callable[..., jax.Array]


def drawing(
    net: nets.Net, config: Any, *, clip: tuple[float, float] | None, num_classes: int
) -> Callable[..., jax.Array]:
    """Make the function that draws samples with a network.

    Args:
        net: the network.
        config: the recipe's options: prediction, guidance, dropout.
        clip: the range of the data, or `None`.
        num_classes: of the conditions.

    Returns:
        `draw(theta, key, sampler, labels, shape)`, compiled once for all samplers of as
        many evaluations; `labels` is `None` where there are no conditions.
    """

    @functools.partial(jax.jit, static_argnames="shape")
    def draw(theta: Any, key: Any, table: Any, labels: Any, shape: Any) -> jax.Array:
        def network(x: jax.Array, t: jax.Array, *labels: jax.Array) -> jax.Array:
            return net.apply(theta, x, t, *labels)

        if labels is None:
            predict = network
        elif config.guidance:
            predict = guidance.classifier_free(
                network,
                labels,
                num_classes,
                guidance=config.guidance,
                condition_dropout=config.dropout,
            )
        else:
            predict = guidance.conditioned(network, labels)
        drawn = diffusion.sample(
            key, predict, table, shape, prediction=config.prediction, clip=clip
        )
        return drawn.x

    return draw


def compute_in(net: nets.Net, dtype: str) -> nets.Net:
    """Compute in bfloat16, which tells steps beyond 256 apart as integers only."""
    inner = nets.compute_in(net, dtype)

    def apply(params: Any, x: jax.Array, t: jax.Array, *labels: Any) -> jax.Array:
        return inner.apply(params, x, jnp.round(t).astype(jnp.int32), *labels)

    return nets.from_function(inner.init, apply)


def start(config: Any, net: nets.Net) -> tuple[Any, ...]:
    """Draw the initial parameters."""
    return (jax.jit(net.init)(seed_key(config.seed)),)
