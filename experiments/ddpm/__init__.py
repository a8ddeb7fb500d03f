"""Diffusion models of points of the plane and of pictures, with classes and guidance.

Command:

    gamedyn train ddpm [--data ring8] [--rule extragradient] [--steps 2000] [--smoke]
    gamedyn sample RUN [--number 64] [--sampler ddim --sampling-steps 50 --guidance 1]
    gamedyn evaluate RUN [--sampler ddim --sampling-steps 50]

The lecture's loss, |eps - eps_theta(a x0 + s eps, t)|^2, a game of one player, by any
rule. `data` is a set of points, compared with its exact denoiser; or digits, mnist,
fashion_mnist, cifar10 or pictures of one's own, asked for by class.

Papers: J. Ho, A. Jain and P. Abbeel, Denoising Diffusion Probabilistic Models, 2020,
arXiv:2006.11239; DDIM, arXiv:2010.02502; classifier-free guidance, arXiv:2207.12598;
v-prediction, arXiv:2202.00512.

Expected, default options, seed 0 (`README.md` has other seeds; the lines that must be
reached are in `expected.json`): ring8, excess over the exact denoiser .00086, sliced W1
.0159 (true points: .0144); digits, classified as asked .997, recall .644, Frechet
distance 14.9 (real pictures: 12.6). Training with compiling takes 48 s and 128 s on one
core of a 2-core x86-64 server, the core shared with other work.

The run's folder gets checkpoints, `metrics.jsonl`, samples and `summary.json`.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import jax
import optax

import gamedyn as gd
from gamedyn import diffusion, nets
from gamedyn.diffusion import samplers, schedules
from gamedyn.recipes import Commands, diffusion_pictures, diffusion_points, pictures
from gamedyn.recipes.diffusion_models import Model, compute_in, drawing
from gamedyn.recipes.rules import named_rule


@dataclasses.dataclass(frozen=True)
class Config(pictures.Options):
    """The options, beside those of `Options`.

    Where 0 or "" stands, what suits the data is taken: see `SUITED`.

    Attributes:
        data: ring8, grid25 or a name of `gamedyn.data.mixtures`; or pictures as in the
            other recipes.
        decay: "cosine" to zero over the steps, or "constant"; a run with the former
            cannot be prolonged.
    """

    out: Path = Path("results/ddpm")  # the folder of the run
    steps: int = 0  # of the rule
    batch_size: int = 0  # examples of one evaluation
    width: int = 0  # of the network's layers
    average: float = 0.0  # decay of the moving average that is sampled
    rule: str = "simultaneous"  # a registered rule; if it takes an optimizer, with Adam
    learning_rate: float = 0.0  # Adam's
    decay: Literal["", "cosine", "constant"] = ""
    warmup: int = 0  # steps over which the learning rate rises, if constant
    net: Literal["", "mlp", "dit", "unet"] = ""  # mlp, dit or unet
    schedule: str = ""  # a registered schedule
    chain: int = 1000  # its length
    prediction: Literal["", "eps", "x0", "v"] = ""  # what the network predicts
    weighting: str = "plain"  # of the squared errors, see `gamedyn.diffusion.game`
    dropout: float = 0.1  # share of the conditions that training drops
    augment: str = ""  # augmentation of the data, "flip" for example
    sampler: str = "ddpm"  # a registered sampler
    sampling_steps: int = 0  # of the chain, evenly spaced; 0: all of them
    guidance: float = 0.0  # w in (1 + w) eps_c - w eps_u, 0 without
    samples: int = 20_000  # points measured, for each seed; or pictures, to 10,000
    seeds: int = 4  # of the samples that are measured, points only


SMOKE = Config(
    steps=20,
    width=16,
    checkpoint_every=10,
    sample_every=10,
    sampler="ddim",
    sampling_steps=5,
    samples=500,
    seeds=2,
)

SUITED: dict[str, dict[str, Any]] = {
    "points": {
        "net": "mlp",
        "width": 128,
        "steps": 12_000,
        "batch_size": 512,
        "learning_rate": 2e-3,
        "decay": "cosine",
        "average": 0.999,
        "schedule": "linear",
        "prediction": "eps",
    },
    "digits": {
        "net": "mlp",
        "width": 512,
        "steps": 8000,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "decay": "cosine",
        "average": 0.999,
        "schedule": "cosine",
        "prediction": "v",
    },
    "pictures": {
        "net": "unet",
        "width": 32,
        "steps": 20_000,
        "batch_size": 128,
        "learning_rate": 2e-4,
        "decay": "constant",
        "warmup": 500,
        "average": 0.999,
        "schedule": "cosine",
        "prediction": "v",
    },
    "cifar10": {
        "net": "unet",
        "width": 128,
        "steps": 800_000,
        "batch_size": 128,
        "learning_rate": 2e-4,
        "decay": "constant",
        "warmup": 5000,
        "average": 0.9999,
        "schedule": "linear",
        "prediction": "eps",
        "augment": "flip",
    },
}
"""What is taken where nothing is said; the last row is that of Ho et al. 2020."""


def complete(config: Config) -> Config:
    """Fill in what suits the data where the options say nothing."""
    name = config.data.replace("-", "_").partition(":")[0]
    kind = "points" if diffusion_points.known(config.data) else name
    table = SUITED.get(kind, SUITED["pictures"])
    silent = {name: value for name, value in table.items() if not getattr(config, name)}
    return dataclasses.replace(config, **silent)


def setup(config: Config) -> diffusion_points.Setup | diffusion_pictures.Setup:
    """Load the data, build network, game, rule and sampler.

    Args:
        config: the options, completed.

    Raises:
        FileNotFoundError: if the data are not there; the message says how to get them.
        ValueError: if a name is unknown, an option does not fit the data, or pictures
            of one's own do not fit.
    """
    if diffusion_points.known(config.data):
        if config.net != "mlp":
            raise ValueError(f"points need the net mlp, got {config.net!r}")
        points = diffusion_points.point_set(config.data)
        net = perceptron((2,), config.width)
        return diffusion_points.Setup(points, model(config, net, clip=None))

    training, held_out = pictures.load(config)
    # Pictures of one class have a label and a null label all the same.
    classes, shape = training.num_classes, training.images.shape[1:]
    net = picture_net(config.net, shape, config.width, classes)
    if config.dtype != "float32":
        net = compute_in(net, config.dtype)
    made = model(config, net, clip=(-1.0, 1.0), num_classes=classes)
    return diffusion_pictures.Setup(training, held_out, made, classes > 1)


def model(config: Config, net: nets.Net, *, clip: Any, num_classes: int = 0) -> Model:
    """Build what trains a network and what draws with it.

    Args:
        config: the options.
        net: the network.
        clip: the range of the data, or `None`.
        num_classes: of the conditions; the null class comes after them. 0: none.

    Raises:
        ValueError: if a name is unknown.
    """
    # The game of one player: the squared error of what the network predicts.
    chain = schedules.make(config.schedule, config.chain)
    null = {"condition_dropout": config.dropout, "null": num_classes}
    game = diffusion.game(
        net,
        chain,
        prediction=config.prediction,
        weighting=config.weighting,
        **(null if num_classes else {}),
    )

    # The sampler, on as many steps of the chain as are asked for.
    steps = config.sampling_steps or config.chain
    sampler = samplers.make(config.sampler, schedules.respace(chain, steps))
    draw = drawing(net, config, clip=clip, num_classes=num_classes)
    return Model(net, chain, game, make_rule(config), sampler, draw)


def make_rule(config: Config) -> gd.Rule:
    """Make the rule, with Adam if it takes a transformation."""

    def adam(learning_rate: Any) -> optax.GradientTransformation:
        if config.decay == "cosine":
            rate = optax.cosine_decay_schedule(learning_rate, config.steps)
            return optax.adam(rate)
        rate = learning_rate
        if config.warmup:
            rate = optax.linear_schedule(0.0, learning_rate, config.warmup)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    return named_rule(config.rule, config.learning_rate, adam, num_players=1)


def perceptron(shape: tuple[int, ...], width: int, num_classes: int = 0) -> nets.Net:
    """Make a perceptron of points, or of small pictures as rows of pixels."""
    size, depth = math.prod(shape), 3 if len(shape) == 1 else 4
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
    heights = [height]
    while len(heights) < 4 and height % 2 == width % 2 == 0 and min(height, width) >= 8:
        height, width = height // 2, width // 2
        heights.append(height)
    return heights


def _commands(config: Config) -> Commands:
    points = diffusion_points.known(config.data)
    return (diffusion_points if points else diffusion_pictures).commands(setup)


def main(config: Config) -> dict[str, Any]:
    """Train, then measure."""
    return _commands(config).main(complete(config))


def sample(config: Config, number: int, seed: int) -> tuple[Path, ...]:
    """Draw samples of a run: a picture, and an array."""
    return _commands(config).sample(complete(config), number, seed)


def evaluate(config: Config) -> dict[str, Any]:
    """Measure what a run has trained so far."""
    return _commands(config).evaluate(complete(config))
