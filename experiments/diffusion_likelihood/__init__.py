r"""Likelihoods of diffusion models: where the truth is known, and of a trained one.

Command:

    gamedyn train diffusion_likelihood [--out DIR] [--smoke]

1. The perfect model of the ring of eight Gaussians, whose log density is known. Bits
   per dimension by the variational bound, by number of steps, schedule and variance;
   and by the probability-flow ODE, with the exact divergence and with Hutchinson's
   estimate (`exact.png`). The mean of the truth is the entropy.
2. A perceptron trained on scikit-learn's digits (8 x 8, 17 grey levels), v and learned
   variance together (the hybrid loss), by `gamedyn.train.fit`: bits per
   dimension of dequantised held-out digits by both ways, beside three simple models
   (`digits.png`), and the terms of both bounds (`terms.png`).

Expected: the bound is above the truth at every number of steps, and, once the variance
of its last step fits, falls towards it; the ODE is within 1e-3 bits of it. On the
digits both ways beat a normal law with the digits' own covariance, and the learned
variance gives the lowest bound. `README.md` beside this file has the numbers, `Config`
the limits; the run checks itself.
"""

import dataclasses
import functools
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn import data, diffusion, nets, train
from gamedyn.diffusion import exact, likelihood, process, schedules
from gamedyn.seeds import seed_key

_DTYPE = jnp.float32
LEVELS = 17
SIZE = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    # An empty folder for what comes out.
    out: Path = Path("results/diffusion_likelihood")
    seed: int = 0  # of samples, networks and noise
    number: int = 4000  # points of the ring
    # Schedules of the bounds on the ring.
    chains: tuple[str, ...] = ("linear", "cosine")
    steps: tuple[int, ...] = (10, 30, 100, 300, 1000)  # of them, respaced from 1,000
    flow_steps: tuple[int, ...] = (10, 25, 50, 100)  # Runge-Kutta steps on the ring
    num_steps: int = 24_000  # of training on the digits
    batch_size: int = 128  # digits in each of them
    width: int = 384  # hidden units in each of three layers
    learning_rate: float = 1e-3  # Adam's first, falling to zero along a cosine
    held_out: int = 360  # held-out digits to judge, and as many of the training set
    draws: int = 1  # of the dequantising noise for each
    digit_steps: int = 200  # Runge-Kutta steps on the digits
    exact_digits: int = 20  # of how many the divergence is also computed exactly
    probes: int = 50  # of Hutchinson's estimate for these
    flow_error: float = 1e-3  # largest of the ODE on the ring, in bits per dimension
    bound_gap: float = 0.05  # largest of the best bound on the ring, likewise
    better: float = 0.1  # least lead of the digits' model over the normal law, likewise
    learned_slack: float = 0.0  # most that the learned variance may lose by


SMOKE = Config(
    number=500,
    chains=("linear",),
    steps=(10, 100),
    flow_steps=(50,),
    num_steps=300,
    width=64,
    held_out=40,
    draws=1,
    digit_steps=10,
    exact_digits=4,
    probes=10,
    bound_gap=0.4,
    better=-20.0,
    learned_slack=1.0,
)
"""A short run: it learns only that digits are no noise."""


def ring() -> exact.GaussianMixture:
    """Make the ring: eight modes of deviation .2 at radius 2, weights 1 to 8."""
    angles = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return exact.mixture(centres, 0.2, np.arange(1, 9))


def bits(nats: Any, size: int) -> float:
    """Turn a mean in nats into bits per dimension."""
    return float(np.mean(np.asarray(nats, np.float64))) / (size * math.log(2))


# 1. The ring.


class Ring(NamedTuple):
    """What was found about the ring, in bits per dimension.

    Attributes:
        truth: of the very points that are judged.
        bounds: by (schedule, variance), for each number of steps; "best decoder" is
            beta with the variance of the last step that fits best, in place of that
            of the step before.
        terms: of the longest chain of the first schedule, by variance, (T,), nats.
        flow: by divergence and prior, for each number of Runge-Kutta steps.
        worst: the largest error of one point by the ODE with the exact prior.
    """

    truth: float
    bounds: dict[str, list[float]]
    terms: dict[str, np.ndarray]
    flow: dict[str, list[float]]
    worst: float


def with_best_decoder(bound: likelihood.Bound, chain: schedules.Schedule) -> float:
    r"""Return the mean bound of points in the plane with another last variance.

    $L_0 = \log(2 \pi v) + r^2 / (2 v)$, least at $v = r^2 / 2$.
    """
    variance = math.exp(chain.log_small[0])
    last = float(np.mean(np.asarray(bound.terms[0], np.float64)))
    square = 2 * variance * (last - math.log(2 * math.pi * variance))
    best = math.log(math.pi * square) + 1
    return float(np.mean(np.asarray(bound.total, np.float64))) - last + best


def on_ring(config: Config) -> Ring:
    """Judge points of the ring by bound and by ODE, with the exact network."""
    law = ring()
    of_points, of_bound, of_probes = jax.random.split(seed_key(config.seed), 3)
    x = exact.draw(law, of_points, config.number, _DTYPE)
    log_truth = np.asarray(exact.log_density(law, x))
    bounds, terms = {}, {}
    for name in config.chains:
        full = schedules.make(name, 1000)
        model = exact.model(law, full)
        for variance in ("small", "large"):
            run = jax.jit(
                functools.partial(
                    likelihood.bound,
                    model=model,
                    variance=variance,
                    decoder="gaussian",
                )
            )
            row, best = [], []
            for number in config.steps:
                chain = schedules.respace(full, number)
                bound = run(of_bound, x0=x, schedule=chain)
                row.append(bits(bound.total, 2))
                best.append(bits(with_best_decoder(bound, chain), 2))
                if name == config.chains[0]:
                    terms[variance] = np.asarray(jnp.mean(bound.terms, axis=1))
            bounds[f"{name}, {variance}"] = row
        bounds[f"{name}, best decoder"] = best
    flows = {}
    denoise = exact.model(law, None, "x0")
    prior = functools.partial(exact.log_density, law, signal=1.0, noise=80.0)
    worst = math.inf
    for name, options in {
        "exact divergence and prior": {"prior": prior},
        "exact divergence, normal prior": {},
        "one probe, exact prior": {"prior": prior, "key": of_probes},
    }.items():
        row = []
        for number in config.flow_steps:
            estimate = jax.jit(
                functools.partial(
                    likelihood.flow_log_likelihood, denoise, num_steps=number, **options
                )
            )(x)
            row.append(bits(-estimate.log_likelihood, 2))
            if name == "exact divergence and prior":
                gaps = np.asarray(estimate.log_likelihood) - log_truth
                worst = float(np.abs(gaps).max()) / (2 * math.log(2))
        flows[name] = row
    return Ring(bits(-log_truth, 2), bounds, terms, flows, worst)


# 2. The digits.


def dequantised(pictures: jax.Array, key: jax.Array) -> jax.Array:
    """Spread grey levels 0 to 16 over bins that fill [-1, 1]."""
    levels = pictures.reshape(len(pictures), SIZE).astype(_DTYPE)
    noise = jax.random.uniform(key, levels.shape, _DTYPE)
    return 2 * (levels + noise) / LEVELS - 1


def of_levels(nats_per_dimension: Any) -> Any:
    """Turn minus log densities of dequantised pictures into bits of their levels."""
    return np.asarray(nats_per_dimension) / math.log(2) - math.log2(2 / LEVELS)


def network(config: Config) -> nets.Net:
    """Make the perceptron, which returns v and variance."""
    # Slower sines: the ODE asks at times between the steps of training.
    widths = (config.width,) * 3
    return nets.point_mlp(SIZE, widths=widths, learned_variance=True, time_scale=0.1)


def train_on_digits(config: Config, folder: Path) -> tuple[Any, float]:
    """Train by the hybrid loss.

    Returns:
        The averaged parameters, and the seconds of processor time it took.
    """
    begin = time.process_time()
    net, chain = network(config), schedules.linear(1000)
    game = diffusion.game(
        net, chain, prediction="v", objective="hybrid", decoder="gaussian"
    )
    pictures = data.load("digits", split="train").images

    def build(rows, key):
        of_bins, of_loss = jax.random.split(key)
        return diffusion.Batch(dequantised(rows, of_bins), of_loss)

    rate = optax.cosine_decay_schedule(config.learning_rate, config.num_steps)
    rule = gd.simultaneous(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    )
    of_params, of_run = jax.random.split(seed_key(config.seed))
    state = train.fit(
        game,
        rule,
        (jax.jit(net.init)(of_params),),
        train.from_arrays(pictures, config.batch_size, build, on_device=True),
        num_steps=config.num_steps,
        key=of_run,
        steps_per_call=min(100, config.num_steps),
        directory=folder,
        log_every=max(config.num_steps // 40, 1),
        average=train.ema(0.998),
        progress=False,
    )
    return state.averaged[0], time.process_time() - begin


class Digits(NamedTuple):
    """What was found about the digits, in bits per dimension.

    Attributes:
        baselines: of three simple models, on the held-out digits.
        by_set: by set and method.
        errors: standard errors of the means over the held-out digits.
        medians: over the held-out digits.
        terms: of the held-out digits by variance, shape (T,), nats.
        exact: the ODE's on a few digits, exact divergence and many probes, and the
            standard error of the latter.
        seconds: processor time of training.
    """

    baselines: dict[str, float]
    by_set: dict[str, dict[str, float]]
    errors: dict[str, float]
    medians: dict[str, float]
    terms: dict[str, np.ndarray]
    exact: tuple[float, float, float]
    seconds: float


def simple_models(train_set: np.ndarray, test_set: np.ndarray) -> dict[str, float]:
    """Judge held-out levels by a uniform law, by pixels alone, and by a normal law."""
    counts = np.stack([np.bincount(column, minlength=LEVELS) for column in train_set.T])
    shares = (counts + 0.5) / (counts + 0.5).sum(1, keepdims=True)
    alone = -np.log2(shares[np.arange(SIZE), test_set]).mean()
    rng = np.random.default_rng(0)

    def spread(levels):
        return 2 * (levels + rng.uniform(size=levels.shape)) / LEVELS - 1

    x = np.concatenate([spread(train_set) for _ in range(10)])
    y = np.concatenate([spread(test_set) for _ in range(10)])
    mean, covariance = x.mean(0), np.cov(x.T)
    residual = y - mean
    squares = np.sum(residual * np.linalg.solve(covariance, residual.T).T, axis=1)
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    nats = (squares.mean() + log_determinant) / 2 / SIZE
    return {
        "uniform": math.log2(LEVELS),
        "every pixel alone": float(alone),
        "normal law": float(of_levels(nats)),
    }


def on_digits(config: Config, folder: Path) -> Digits:
    """Train, and judge held-out and training digits by bound and by ODE."""
    params, seconds = train_on_digits(config, folder)
    net, chain = network(config), schedules.linear(1000)

    def both(x, t):
        return net.apply(params, x, t)

    def mean_only(x, t):
        return jnp.split(both(x, t), 2, axis=-1)[0]

    # With v the noise is x itself where no signal is left: the ODE stays. With eps
    # a perceptron may answer more than x outside the shell that it was trained on, and
    # paths run away.
    denoise = process.variance_exploding(mean_only, chain, "v")
    low, high = (float(schedules.sigmas(chain)[i]) for i in (0, -1))
    judge = {
        f"bound, {variance}": jax.jit(
            functools.partial(
                likelihood.bound,
                model=both if variance == "learned" else mean_only,
                schedule=chain,
                prediction="v",
                variance=variance,
                decoder="gaussian",
            )
        )
        for variance in process.VARIANCES
    }
    integrate = functools.partial(
        likelihood.flow_log_likelihood,
        denoise,
        num_steps=config.digit_steps,
        low=low,
        high=high,
    )
    by_flow = jax.jit(lambda key, x0: integrate(x0, key=key))

    sets = {
        name: data.load("digits", split=split).images[: config.held_out]
        for name, split in (("held out", "test"), ("training", "train"))
    }
    by_set: dict[str, dict[str, float]] = {name: {} for name in sets}
    errors, medians, terms = {}, {}, {}
    for name, pictures in sets.items():
        nats: dict[str, list[np.ndarray]] = {}
        for draw in range(config.draws):
            key = jax.random.fold_in(seed_key(config.seed, 1), draw)
            of_bins, of_method = jax.random.split(key)
            x = dequantised(jnp.asarray(pictures), of_bins)
            for method, run in judge.items():
                bound = run(of_method, x0=x)
                nats.setdefault(method, []).append(np.asarray(bound.total))
                if name == "held out":
                    mean = np.asarray(jnp.mean(bound.terms, axis=1))
                    terms[method] = terms.get(method, 0) + mean / config.draws
            flowed = -np.asarray(by_flow(of_method, x).log_likelihood)
            nats.setdefault("ODE", []).append(flowed)
        for method, values in nats.items():
            per_picture = of_levels(np.mean(values, axis=0) / SIZE)
            by_set[name][method] = float(per_picture.mean())
            if name == "held out":
                medians[method] = float(np.median(per_picture))
                errors[method] = float(per_picture.std() / math.sqrt(len(pictures)))
    few = dequantised(
        jnp.asarray(sets["held out"][: config.exact_digits]), jax.random.key(7)
    )
    truth = jax.jit(integrate)(few).log_likelihood
    probed = np.stack(
        [
            by_flow(jax.random.fold_in(jax.random.key(8), i), few).log_likelihood
            for i in range(config.probes)
        ]
    )
    probe_error = probed.mean(1).std() / math.sqrt(config.probes) / SIZE / math.log(2)
    levels = {
        split: data.load("digits", split=split).images.reshape(-1, SIZE)
        for split in ("train", "test")
    }
    return Digits(
        simple_models(levels["train"], levels["test"][: config.held_out]),
        by_set,
        errors,
        medians,
        terms,
        (
            float(of_levels(-np.asarray(truth).mean() / SIZE)),
            float(of_levels(-probed.mean() / SIZE)),
            float(probe_error),
        ),
        seconds,
    )


def check(config: Config, of_ring: Ring, of_digits: Digits) -> dict[str, bool]:
    """Compare with what the module's docstring expects."""
    bounds = [value for row in of_ring.bounds.values() for value in row]
    ode = of_ring.flow["exact divergence and prior"][-1]
    held_out = of_digits.by_set["held out"]
    best, normal = held_out["bound, learned"], of_digits.baselines["normal law"]
    one, two, error = of_digits.exact
    return {
        "the bound is above the truth": min(bounds) > of_ring.truth,
        "and with the best decoder falls with the number of steps": all(
            row == sorted(row, reverse=True)
            for name, row in of_ring.bounds.items()
            if name.endswith("best decoder")
        ),
        "to near it": min(bounds) - of_ring.truth < config.bound_gap,
        "the ODE finds the truth": abs(ode - of_ring.truth) < config.flow_error,
        "digits: both ways beat the normal law": max(best, held_out["ODE"])
        < normal - config.better,
        "digits: the learned variance bounds best": best
        < min(held_out["bound, small"], held_out["bound, large"])
        + config.learned_slack,
        "digits: probes estimate the exact divergence": abs(one - two)
        < 4 * error + 1e-4,
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment and write `config.out`.

    Args:
        config: what to run.

    Returns:
        The summary: bits per dimension by model and method, checks.

    Raises:
        FileExistsError: if the folder holds anything already.
    """
    import tempfile

    from gamedyn import files

    from . import pictures

    with files.folder(config.out) as out:
        of_ring = on_ring(config)
        with tempfile.TemporaryDirectory() as folder:
            of_digits = on_digits(config, Path(folder))
        for name, figure in {
            "exact.png": pictures.exact(config, of_ring),
            "terms.png": pictures.terms(of_ring, of_digits),
            "digits.png": pictures.digits(of_digits),
        }.items():
            figure.savefig(out / name, dpi=80)

    def rounded(tree: Any) -> Any:
        return jax.tree.map(lambda value: round(float(value), 5), tree)

    return {
        "ring, bits per dimension": {
            "truth": round(of_ring.truth, 5),
            "steps": list(config.steps),
            "bound": rounded(of_ring.bounds),
            "Runge-Kutta steps": list(config.flow_steps),
            "ODE": rounded(of_ring.flow),
            "largest error of a point": float(f"{of_ring.worst:.2e}"),
        },
        "digits, bits per dimension": {
            **rounded(of_digits.by_set),
            "standard errors": rounded(of_digits.errors),
            "medians": rounded(of_digits.medians),
            "simple models": rounded(of_digits.baselines),
            "ODE of a few, exact divergence": round(of_digits.exact[0], 5),
            "ODE of a few, by probes": round(of_digits.exact[1], 5),
            "standard error of the probes": round(of_digits.exact[2], 5),
        },
        "processor seconds of training": round(of_digits.seconds, 1),
        "checks": check(config, of_ring, of_digits),
    }
