"""Networks, chain, game, rule and sampler of the options."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

import gamedyn as gd
from gamedyn import diffusion, nets
from gamedyn.diffusion import guidance, samplers, schedules


class Model(NamedTuple):
    """A network, what trains it and what draws with it.

    Attributes:
        net: the network.
        chain: the noise schedule.
        game: the loss.
        rule: how it is descended.
        sampler: the table of the sampler asked for.
        draw: `draw(theta, key, sampler, labels, shape)` returns samples; compiled once
            for all samplers of as many evaluations.
    """

    net: nets.Net
    chain: schedules.Schedule
    game: gd.Game
    rule: gd.Rule
    sampler: samplers.Sampler
    draw: Callable[..., jax.Array]


def model(config: Any, net: nets.Net, *, clip: Any, num_classes: int = 0) -> Model:
    """Put a network's game together.

    Args:
        config: the options.
        net: the network.
        clip: the range of the data, or `None`.
        num_classes: of the conditions; the null class comes after them. 0: none.

    Returns:
        The model.

    Raises:
        ValueError: if a name is unknown.
    """
    chain = schedules.make(config.schedule, config.chain)
    null = {"condition_dropout": config.dropout, "null": num_classes}
    game = diffusion.game(
        net,
        chain,
        prediction=config.prediction,
        weighting=config.weighting,
        **(null if num_classes else {}),
    )

    @functools.partial(jax.jit, static_argnames="shape")
    def draw(theta: Any, key: Any, table: Any, labels: Any, shape: Any) -> jax.Array:
        def network(x, t, *labels):
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
        found = diffusion.sample(
            key, predict, table, shape, prediction=config.prediction, clip=clip
        )
        return found.x

    table = make_sampler(config, chain)
    return Model(net, chain, game, make_rule(config), table, draw)


def make_sampler(config: Any, chain: schedules.Schedule) -> samplers.Sampler:
    """Look the sampler up, on as many steps of the chain as are asked for."""
    steps = config.sampling_steps or config.chain
    return samplers.make(config.sampler, schedules.respace(chain, steps))


def make_rule(config: Any) -> gd.Rule:
    """Make the rule, with Adam if it takes a transformation."""
    entries = gd.rules.entries()
    if config.rule in entries and not entries[config.rule].takes_transformation:
        return gd.rules.make(config.rule, config.learning_rate, num_players=1)

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        if config.decay == "cosine":
            rate = optax.cosine_decay_schedule(learning_rate, config.steps)
            return optax.adam(rate)
        rate = learning_rate
        if config.warmup:
            rate = optax.linear_schedule(0.0, learning_rate, config.warmup)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    return gd.rules.make(
        config.rule, config.learning_rate, num_players=1, transformation=adam
    )


def start(config: Any, net: nets.Net) -> tuple[Any, ...]:
    """Draw the initial parameters."""
    return (jax.jit(net.init)(jax.random.key(config.seed)),)


def perceptron(shape: tuple[int, ...], width: int, num_classes: int = 0) -> nets.Net:
    """Make a perceptron of points, or of small pictures as rows of pixels."""
    size, depth = 1, 3 if len(shape) == 1 else 4
    for length in shape:
        size *= length
    condition = {"condition": "class", "num_classes": num_classes}
    net = nets.point_mlp(
        size, widths=(width,) * depth, **(condition if num_classes else {})
    )

    def apply(params: Any, x: jax.Array, t: jax.Array, *labels: Any) -> jax.Array:
        rows = x.reshape(len(x), size)
        return net.apply(params, rows, t, *labels).reshape(x.shape)

    return nets.from_function(net.init, apply)


def picture_net(
    kind: str, shape: tuple[int, ...], width: int, num_classes: int
) -> nets.Net:
    """Make the network of the options for pictures of a shape (H, W, C).

    Raises:
        ValueError: if the kind is unknown.
    """
    height, _, channels = shape
    condition = {"condition": "class", "num_classes": num_classes}
    if kind == "mlp":
        return perceptron(shape, width, num_classes)
    if kind == "dit":
        patch = 2 if height <= 16 else 4
        unroll = jax.default_backend() == "cpu"
        return nets.dit(
            channels,
            patch=patch,
            width=width,
            depth=4,
            heads=4,
            unroll=unroll,
            **condition,
        )
    if kind == "unet":
        sizes = levels(*shape[:2])
        return nets.unet(
            channels,
            width=width,
            multipliers=(1,) + (2,) * (len(sizes) - 1),
            blocks=2 if len(sizes) > 2 else 1,
            attention_levels=[i for i, size in enumerate(sizes) if 8 < size <= 16],
            groups=min(32, width // 4),
            **condition,
        )
    raise ValueError(f"net must be mlp, dit or unet, got {kind!r}")


def levels(height: int, width: int) -> list[int]:
    """List the heights of a U-Net's levels: four at most, none below 4 pixels.

    Example:
        >>> levels(28, 28), levels(32, 32), levels(8, 8)
        ([28, 14, 7], [32, 16, 8, 4], [8, 4])
    """
    found = [height]
    while len(found) < 4 and height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width = height // 2, width // 2
        found.append(height)
    return found
