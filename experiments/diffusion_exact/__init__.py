r"""Diffusion with the perfect network: the chain, and every sampler against the truth.

Command:

    gamedyn train diffusion_exact [--out results/diffusion_exact] [--smoke]

For Gaussians and their mixtures the best prediction of the noise is known in closed
form. With it in the place of the network, what a sampler gets wrong is the sampler's
own error. `README.md` beside this file shows the results.

1. The chain of the lecture (`chain.png`): eight modes on a ring are noised step by step
   and denoised back, by DDPM and by DDIM, over the exact densities of every step.
2. One Gaussian, N(1, .5^2), without any sampling (`gaussian.png`): there every sampler
   is affine, so mean and deviation of its outcome follow by recursion.
3. The ring, 20,000 samples on each of four seeds (`mixture.png`, `samplers.csv`):
   sliced W1 distance to true samples, the width of the modes (true .2), and minus the
   mean log density under the truth, by the number of network evaluations.

Expected: the published-schedule values of `GAUSSIAN` to 1e-6 and of `RING` within what
20,000 samples scatter by; 1,000 ancestral steps at a sliced W1 of .02 or less (true
samples: .013); Euler's error of first and Heun's of second order in the step; reverse
and forward chain equal in law at every step shown. `Config` holds the limits, and the
run checks itself. 80 s of processor time on one x86-64 core; `--smoke` 10 s.

Papers: DDPM, arXiv:2006.11239; DDIM, arXiv:2010.02502; EDM, arXiv:2206.00364;
DPM-Solver++, arXiv:2211.01095.
"""

import csv
import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.diffusion import exact, samplers, sampling, schedules
from gamedyn.seeds import seed_key

_DTYPE = jnp.float32
LENGTH = 1000

GAUSSIAN = {
    ("ddpm", "linear", 1000): (0.999990, 0.496110),
    ("ddpm, beta", "linear", 1000): (0.999990, 0.500752),
    ("ddim", "linear", 1000): (0.996833, 0.498495),
    ("ddpm", "linear", 50): (0.999990, 0.444100),
    ("ddpm, beta", "linear", 50): (0.999990, 0.511719),
    ("ddim", "linear", 50): (0.997005, 0.471403),
    ("ddpm", "cosine", 1000): (1.000000, 0.497993),
    ("ddim", "cosine", 1000): (0.999975, 0.499189),
    ("ddpm", "cosine", 50): (1.000000, 0.467744),
    ("ddim", "cosine", 50): (0.999976, 0.484450),
    ("heun", "edm", 10): (0.992378, 0.609798),
    ("heun", "edm", 40): (0.993689, 0.504877),
}
"""Mean and deviation by sampler, schedule and steps, from a program of its own."""

RING = {
    ("ddpm", 1000): (0.0105, 0.1971, 1.527),
    ("ddpm, beta", 1000): (0.0104, 0.2016, 1.572),
    ("ddpm", 50): (0.0354, 0.1716, 1.284),
    ("ddim", 50): (0.0228, 0.1893, 1.453),
    ("ddim", 10): (0.0779, 0.2172, 1.723),
    ("dpm_solver", 10): (0.0445, 0.1952, 1.502),
    ("dpm_solver", 20): (0.0382, 0.1575, 1.175),
    ("dpm_solver", 50): (0.0170, 0.1843, 1.404),
    ("euler", 10): (0.1484, 0.2797, 2.495),
    ("heun", 10): (0.1232, 0.2539, 2.180),
    ("heun", 40): (0.0172, 0.2014, 1.574),
}
"""Sliced W1, width and -log p by sampler and steps, likewise."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    out: Path = Path("results/diffusion_exact")  # an empty folder for what comes out
    seed: int = 0  # the first of the seeds
    seeds: int = 4  # how many times every sampler is run on the ring
    number: int = 20_000  # samples of each run
    steps: tuple[int, ...] = (5, 10, 20, 40, 50, 100, 250, 1000)  # on the ring
    # Numbers of steps for the Gaussian.
    gaussian_steps: tuple[int, ...] = (5, 10, 20, 40, 50, 100, 200, 400, 1000)
    shown: tuple[int, ...] = (49, 149, 299, 499, 999)  # steps of the chain, of 1,000
    points: int = 20_000  # samples in every panel of the chain
    pass_line: float = 0.02  # largest mean sliced W1 of 1,000 ancestral steps
    slack: tuple[float, float, float] = (0.012, 0.003, 0.04)  # of W1, width, -log p
    marginal: float = 0.024  # largest sliced W1 of forward to reverse chain


SMOKE = Config(
    seeds=1,
    number=4000,
    steps=(10,),
    gaussian_steps=(10, 40, 50, 100, 200),
    points=2000,
    slack=(0.04, 0.008, 0.12),
    marginal=0.08,
)
"""A short run, with what fewer samples scatter by."""


class Scores(NamedTuple):
    """How far samples are from the ring.

    Attributes:
        distance: sliced W1 to true samples, over 64 fixed directions.
        width: the standard deviation around the nearest centre.
        surprise: minus the mean log density under the truth, nats.
        missing: total variation of the shares of the modes.
    """

    distance: float
    width: float
    surprise: float
    missing: float


def ring() -> exact.GaussianMixture:
    """Make the ring: eight modes of deviation .2 at radius 2, weights 1 to 8."""
    angles = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return exact.mixture(centres, 0.2, np.arange(1, 9))


def chain_of(schedule: str) -> schedules.Schedule:
    """Make a chain of 1,000 steps."""
    return schedules.make(schedule, LENGTH)


def build(name: str, schedule: str, number: int) -> samplers.Sampler:
    """Make a sampler of a number of steps, each on the grid it is published with."""
    if schedule == "edm":
        return samplers.make(name, samplers.edm_levels(schedules.edm_sigmas(number)))
    name, _, variance = name.partition(", ")
    spacing = "multistep" if name == "dpm_solver" and number < LENGTH else "trailing"
    chain = schedules.respace(chain_of(schedule), number, spacing=spacing)
    options = {"variance": "large"} if variance else {}
    return samplers.make(name, chain, **options)


SAMPLERS = {
    "ddpm": "linear",
    "ddpm, beta": "linear",
    "ddim": "linear",
    "dpm_solver": "linear",
    "euler": "edm",
    "heun": "edm",
    "predictor_corrector": "linear",
}
"""What is compared, and on which noise levels."""


# 1. The chain.


class Chain(NamedTuple):
    """What is shown of the chain: for each step the points of the three rows."""

    shown: tuple[int, ...]
    forward: np.ndarray
    ddpm: np.ndarray
    ddim: np.ndarray
    distances: dict[str, list[float]]


def run_chain(config: Config) -> Chain:
    """Noise the ring and denoise it back; data themselves come first."""
    law, chain = ring(), chain_of("linear")
    start, noise, of_ddpm, of_ddim, other = jax.random.split(seed_key(config.seed), 5)
    x0 = exact.draw(law, start, config.points, _DTYPE)

    def forward(x0, key):
        """Step by step: x_t from x_{t-1}, as the chain is defined."""

        def step(x, inputs):
            beta, index = inputs
            z = jax.random.normal(jax.random.fold_in(key, index), x.shape, x.dtype)
            x = jnp.sqrt(1 - beta) * x + jnp.sqrt(beta) * z
            return x, x

        betas = jnp.asarray(chain.betas, _DTYPE)
        steps = jnp.arange(LENGTH, dtype=jnp.int32)
        return jax.lax.scan(step, x0, (betas, steps))[1][jnp.asarray(config.shown)]

    # Row i of a sampler leaves step 999 - i and reaches the one below.
    rows = np.array([LENGTH - 2 - t for t in config.shown if t < LENGTH - 1])

    @jax.jit
    def reverse(key, sampler):
        shape = config.points, 2
        model = exact.model(law, chain)
        drawn = sampling.sample(key, model, sampler, shape, dtype=_DTYPE, record=True)
        assert drawn.trajectory is not None
        first = jax.random.normal(jax.random.fold_in(key, LENGTH), shape, _DTYPE)
        kept = drawn.trajectory[jnp.asarray(rows)]
        parts = [drawn.x[None], kept]
        if config.shown[-1] == LENGTH - 1:
            parts.append(first[None])
        return jnp.concatenate(parts)

    noised = np.asarray(jax.jit(forward)(x0, noise))
    truth = np.concatenate([np.asarray(x0)[None], noised])
    fresh = np.asarray(
        jax.jit(forward)(exact.draw(law, other, config.points, _DTYPE), other)
    )
    sets = {
        name: np.asarray(reverse(key, samplers.make(name, chain)))
        for name, key in (("ddpm", of_ddpm), ("ddim", of_ddim))
    }
    distances = {
        name: [sliced(a, b) for a, b in zip(truth, points, strict=True)]
        for name, points in sets.items()
    }
    distances["floor"] = [sliced(a, b) for a, b in zip(noised, fresh, strict=True)]
    return Chain((-1, *config.shown), truth, sets["ddpm"], sets["ddim"], distances)


# 2. One Gaussian.


def gaussian(config: Config) -> dict[str, dict[str, list[float]]]:
    """Follow every affine sampler of N(1, .5^2) by recursion."""
    curves: dict[str, dict[str, list[float]]] = {}
    for name, schedule in SAMPLERS.items():
        if name == "predictor_corrector":
            continue
        for of in ("linear", "cosine") if schedule == "linear" else ("edm",):
            rows: dict[str, list[float]] = {
                "steps": [],
                "evaluations": [],
                "mean": [],
                "deviation": [],
                "gain error": [],
            }
            for number in config.gaussian_steps:
                sampler = build(name, of, number)
                start = float(sampler.start)
                moved = exact.affine_map(sampler, 1.0, 0.5)
                mean, deviation = moved.moments(0.0, start)
                a = float(sampler.rows.signal[0])
                gain, _ = exact.flow(1.0, 0.5, a, float(sampler.rows.noise[0]))
                rows["steps"].append(number)
                rows["evaluations"].append(sampler.num_evaluations)
                rows["mean"].append(mean)
                rows["deviation"].append(deviation)
                rows["gain error"].append(abs(moved.gain / gain - 1))
            curves[f"{name}, {of}"] = rows
    return curves


def order(rows: dict[str, list[float]]) -> float:
    """Fit the order of a solver to the error of its gain, from 100 to 400 steps.

    Beyond, the last step, from .002 to no noise in any case, is a part of the error.
    """
    steps = np.array(rows["steps"])
    chosen = (steps >= 100) & (steps <= 400)
    errors = np.array(rows["gain error"])[chosen]
    return float(-np.polyfit(np.log(steps[chosen]), np.log(errors), 1)[0])


# 3. The ring.


@functools.cache
def _directions() -> np.ndarray:
    directions = np.random.default_rng(0).normal(size=(64, 2))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def sliced(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean distance of sorted projections on 64 fixed directions."""
    ours, theirs = (np.sort(v @ _directions().T, axis=0) for v in (x, y))
    return float(np.abs(ours - theirs).mean())


@functools.cache
def _log_densities() -> Any:
    law = ring()
    return jax.jit(lambda x: exact.log_density(law, x))


def score(x: np.ndarray, truth: np.ndarray) -> Scores:
    """Compare samples with the ring."""
    law = ring()
    near = ((x[:, None] - law.means[None]) ** 2).sum(-1).argmin(1)
    shares = np.bincount(near, minlength=8) / len(x)
    return Scores(
        sliced(x, truth),
        float(np.sqrt(((x - law.means[near]) ** 2).mean())),
        -float(_log_densities()(jnp.asarray(x, _DTYPE)).mean()),
        float(np.abs(shares - law.weights).sum() / 2),
    )


class Row(NamedTuple):
    """A sampler on the ring: means over the seeds."""

    sampler: str
    steps: int
    evaluations: int
    scores: Scores
    scatter: float


def on_ring(config: Config) -> list[Row]:
    """Run every sampler on the ring, and true samples in its place."""
    law, chain = ring(), chain_of("linear")
    models = {
        "linear": (exact.model(law, chain), "eps"),
        "edm": (exact.model(law, None, "x0"), "x0"),
    }

    @functools.partial(jax.jit, static_argnames="levels")
    def run(key, sampler, levels):
        model, prediction = models[levels]
        shape = config.number, 2
        return sampling.sample(
            key, model, sampler, shape, prediction=prediction, dtype=_DTYPE
        ).x

    keys = jax.random.split(seed_key(config.seed, 1), 2 * config.seeds)
    truths = [np.asarray(exact.draw(law, key, config.number)) for key in keys]
    rows = []

    def add(name: str, steps: int, evaluations: int, samples: list[np.ndarray]) -> None:
        pairs = zip(samples, truths, strict=False)
        scores = [score(x, truth) for x, truth in pairs]
        means = Scores(*(float(v) for v in np.mean(scores, axis=0)))
        scatter = float(np.std([s.distance for s in scores]))
        rows.append(Row(name, steps, evaluations, means, scatter))

    add("true samples", 0, 0, truths[config.seeds :])
    for name, levels in SAMPLERS.items():
        for steps in config.steps:
            if levels == "edm" and steps > 100:
                continue
            if name == "predictor_corrector" and steps > 250:
                continue
            sampler = build(name, levels, steps)
            scores = [
                np.asarray(run(jax.random.fold_in(key, steps), sampler, levels))
                for key in keys[: config.seeds]
            ]
            add(name, steps, sampler.num_evaluations, scores)
    return rows


def entropy() -> float:
    """Integrate the entropy of the ring on a fine grid."""
    side = np.linspace(-4, 4, 801)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    logs = np.asarray(_log_densities()(jnp.asarray(points, _DTYPE)), np.float64)
    return float(-np.sum(np.exp(logs) * logs) * (side[1] - side[0]) ** 2)


def check(
    config: Config,
    chain: Chain,
    of_gaussian: dict[str, dict[str, list[float]]],
    rows: list[Row],
) -> dict[str, bool]:
    """Compare with what the module's docstring expects."""
    by_name = {(row.sampler, row.steps): row.scores for row in rows}
    known = [
        (curve[column][curve["steps"].index(steps)], expected)
        for (name, schedule, steps), values in GAUSSIAN.items()
        for column, expected in zip(("mean", "deviation"), values, strict=True)
        for curve in [of_gaussian[f"{name}, {schedule}"]]
        if steps in curve["steps"]
    ]
    near = [
        abs(value - expected) < slack
        for key, expectations in RING.items()
        if key in by_name
        for value, expected, slack in zip(
            by_name[key], expectations, config.slack, strict=False
        )
    ]
    checks = {
        "mean and deviation of the Gaussian": len(known) > 5
        and all(abs(value - expected) < 1e-6 for value, expected in known),
        "Euler is of first order, Heun of second": abs(
            order(of_gaussian["euler, edm"]) - 1
        )
        < 0.1
        and abs(order(of_gaussian["heun, edm"]) - 2) < 0.2,
        "samplers on the ring": len(near) > 5 and all(near),
        "reverse and forward chain agree at every step": max(
            chain.distances["ddpm"] + chain.distances["ddim"]
        )
        < config.marginal,
        "ten steps of no sampler are exact": all(
            row.scores.distance > by_name["true samples", 0].distance
            for row in rows
            if row.steps == 10
        ),
    }
    if ("ddpm", LENGTH) in by_name:
        ancestral = [by_name[name, LENGTH] for name in ("ddpm", "ddpm, beta")]
        checks["1,000 ancestral steps pass"] = all(
            scores.distance <= config.pass_line for scores in ancestral
        )
        checks["beta-tilde and beta bracket the width"] = (
            ancestral[0].width < 0.2 < ancestral[1].width
        )
    return checks


def main(config: Config) -> dict[str, Any]:
    """Run the experiment and write `config.out`.

    Args:
        config: what to run.

    Returns:
        The summary: scores by sampler and steps, orders, distances, checks.

    Raises:
        FileExistsError: if the folder holds anything already.
    """
    from gamedyn import files

    from . import pictures

    with files.folder(config.out) as out:
        chain = run_chain(config)
        of_gaussian = gaussian(config)
        rows = on_ring(config)
        for name, figure in {
            "chain.png": pictures.chain(chain, ring(), chain_of("linear")),
            "gaussian.png": pictures.gaussian(of_gaussian),
            "mixture.png": pictures.mixture(rows, entropy()),
        }.items():
            figure.savefig(out / name, dpi=80)
        table = [
            {
                "sampler": row.sampler,
                "steps": row.steps,
                "evaluations": row.evaluations,
                "sliced W1": round(row.scores.distance, 4),
                "scatter": round(row.scatter, 4),
                "width": round(row.scores.width, 4),
                "-log p": round(row.scores.surprise, 3),
                "mode TV": round(row.scores.missing, 4),
            }
            for row in rows
        ]
        with (out / "samplers.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    for row in table:
        print(*(f"{value!s:>19}" for value in row.values()))
    return {
        "entropy": round(entropy(), 4),
        "orders": {
            name: round(order(of_gaussian[f"{name}, edm"]), 3)
            for name in ("euler", "heun")
        },
        "sliced W1 of the chain": {
            name: [round(v, 4) for v in values]
            for name, values in chain.distances.items()
        },
        "gaussian": {
            name: {
                str(steps): [round(mean, 6), round(deviation, 6)]
                for steps, mean, deviation in zip(
                    curve["steps"], curve["mean"], curve["deviation"], strict=True
                )
            }
            for name, curve in of_gaussian.items()
        },
        "checks": check(config, chain, of_gaussian, rows),
    }
