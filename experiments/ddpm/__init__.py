"""Diffusion models of points of the plane and of pictures, with classes and guidance.

Command:

    gamedyn train ddpm [--data ring8] [--rule extragradient] [--steps 2000] [--smoke]
    gamedyn sample RUN [--number 64] [--sampler ddim --sampling-steps 50 --guidance 1]
    gamedyn evaluate RUN [--sampler ddim --sampling-steps 50]

The lecture's loss, |eps - eps_theta(a x0 + s eps, t)|^2, a game of one player, by any
rule. `data` is a set of points, compared with its exact denoiser; or digits, mnist,
fashion_mnist, cifar10 or pictures of one's own, asked for by class.

The run's folder gets checkpoints, `metrics.jsonl`, samples and `summary.json`.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from experiments.ddpm import pictures, points
from gamedyn.recipes import pictures as _images


@dataclasses.dataclass(frozen=True)
class Config(_images.Options):
    """The options, beside those of `experiments._images`.

    Where 0 or "" stands, what suits the data is taken: see `SUITED`.

    Attributes:
        data: ring8, grid25 or a name of `gamedyn.data.mixtures`; or pictures as in the
            other recipes.
        steps: of the rule.
        batch_size: examples of one evaluation.
        width: of the network's layers.
        average: decay of the moving average that is sampled.
        rule: a registered rule; those that take a transformation get Adam.
        learning_rate: Adam's.
        decay: "cosine" to zero over the steps, or "constant"; a run with the former
            cannot be prolonged.
        warmup: steps over which the learning rate rises, if constant.
        net: mlp, dit or unet.
        schedule: a registered schedule.
        chain: its length.
        prediction: what the network predicts: eps, x0 or v.
        weighting: of the squared errors, see `gamedyn.diffusion.game`.
        dropout: share of the conditions that training drops.
        augment: policies of augmentation of the data, "flip" say.
        sampler: a registered sampler.
        sampling_steps: of the chain, evenly spaced; 0: all of them.
        guidance: w in (1 + w) eps_c - w eps_u, 0 without.
        samples: points that are measured, for each seed; or pictures, at most 10,000.
        seeds: of the samples that are measured, points only.
    """

    out: Path = Path("results/ddpm")
    steps: int = 0
    batch_size: int = 0
    width: int = 0
    average: float = 0.0
    rule: str = "simultaneous"
    learning_rate: float = 0.0
    decay: Literal["", "cosine", "constant"] = ""
    warmup: int = 0
    net: Literal["", "mlp", "dit", "unet"] = ""
    schedule: str = ""
    chain: int = 1000
    prediction: Literal["", "eps", "x0", "v"] = ""
    weighting: str = "plain"
    dropout: float = 0.1
    augment: str = ""
    sampler: str = "ddpm"
    sampling_steps: int = 0
    guidance: float = 0.0
    samples: int = 20_000
    seeds: int = 4


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
    kind = "points" if points.known(config.data) else name
    table = SUITED.get(kind, SUITED["pictures"])
    silent = {name: value for name, value in table.items() if not getattr(config, name)}
    return dataclasses.replace(config, **silent)


def _commands(config: Config) -> Any:
    return points.COMMANDS if points.known(config.data) else pictures.COMMANDS


def main(config: Config) -> dict[str, Any]:
    """Train, then measure."""
    return _commands(config)[0](complete(config))


def sample(config: Config, number: int, seed: int) -> tuple[Path, Path]:
    """Draw samples of a run: a picture, and an array."""
    return _commands(config)[1](complete(config), number, seed)


def evaluate(config: Config) -> dict[str, Any]:
    """Measure what a run has trained so far."""
    return _commands(config)[2](complete(config))
