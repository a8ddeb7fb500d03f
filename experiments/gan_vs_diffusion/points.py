"""Ring and grid: GANs as in `mixture_gan`, diffusion as in `ddpm`."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn import divergences
from gamedyn.diffusion import exact, likelihood, process, schedules
from gamedyn.recipes import diffusion_points as diffused

from .. import ddpm, mixture_gan
from ..mixture_gan import protocols, training
from ..mixture_gan.setting import LATENTS, Setting, networks
from .rows import (
    Cost,
    Sampling,
    row,
    size,
    timed,
    trained,
)

_HELD_OUT = 1000  # points whose likelihood is taken
_FLOW_STEPS = 200


def gans(config: Any, name: str) -> dict[str, tuple[Setting, Any, int]]:
    """Say what is trained: settings, rules (or their own), gradients of a step.

    The Wasserstein GAN has the networks, batches and length of the other; five steps
    of the critic to one of the generator, Adam with b1 = 0 and b2 = .9, and lambda =
    .1, as its authors have on such data.
    """
    chosen = mixture_gan.Config(tiny=config.tiny).setting(name)
    steps = chosen.num_steps // 3  # of six gradients where the other has two
    wasserstein = dataclasses.replace(
        chosen,
        loss="wasserstein",
        penalties=("gradient_penalty",),
        weight=0.1,
        last_weight=0.1,
        learning_rate=1e-3,
        num_steps=steps - steps % chosen.stages,
    )

    # Five copies of a step in one program take long to compile.
    critic = 1 if config.tiny else 5

    def critic_first(learning_rate: Any, num_steps: int) -> gd.Rule:
        players = (
            optax.adam(
                optax.cosine_decay_schedule(learning_rate, moves * num_steps),
                b1=0.0,
                b2=0.9,
            )
            for moves in (1, critic)
        )
        return gd.alternating(*players, order=(1,) * critic + (0,), resample=True)

    return {
        "GAN, Adam + R1 + R2": (chosen, None, 2),
        "WGAN-GP": (wasserstein, critic_first, critic + 1),
    }


def compare(
    config: Any, name: str, samplings: list[Sampling]
) -> tuple[list[dict[str, Any]], Any]:
    """Train and sample every model on one mixture.

    Returns:
        The rows, and a figure of samples.
    """
    protocol, rows, shown = protocols.PROTOCOLS[name], [], {}
    law = diffused.point_set(protocol.data).law
    assert law is not None
    scale = float(np.asarray(protocol.mixture().centres).std())
    for method, (setting, rule, moves) in gans(config, name).items():
        runs = training.train(
            protocol, setting, training.points(setting, config.seeds), rule
        )
        generator, critic = networks(setting)
        theta, phi = (net.init(jax.random.key(0)) for net in (generator, critic))
        cost = Cost(
            size(theta, phi),
            setting.num_steps * moves,
            runs.seconds / len(config.seeds),
        )
        latent, apply = LATENTS[setting.latent](2), jax.jit(generator.apply)
        z = latent(jax.random.key(0), protocols.SAMPLES, jnp.float32)
        # How long it takes does not depend on the values.
        seconds = timed(functools.partial(apply, theta, z), protocols.SAMPLES)
        samples = runs.samples[:, -1]
        quality = judge(protocol, law, samples / scale)
        rows.append(row(name, method, cost, 1, seconds, quality))
        shown[method] = samples[0] / scale
        print(rows[-1], flush=True)
    drawn, cost, made = diffusion(config, protocol.data, samplings)
    for sampling, (samples, seconds, evaluations, density) in drawn.items():
        quality = judge(protocol, law, samples) | {"- log p(held-out)": density}
        rows.append(row(name, sampling.title, cost, evaluations, seconds, quality))
        shown[sampling.title] = samples[0]
        print(rows[-1], flush=True)
    true = np.stack(
        [
            diffused.true_points(made.points, protocols.SAMPLES, seed)
            for seed in config.seeds
        ]
    )
    best = exact.model(law, made.model.chain)
    likely = log_likelihood(made, lambda theta, x, t: best(x, t))
    densities = [-likely((), held_out(made, seed)) for seed in config.seeds]
    quality = judge(protocol, law, true) | {"- log p(held-out)": densities}
    rows.append(row(name, "true points", Cost(0, 0, 0.0), 0, 0.0, quality))
    shown["true points"] = true[0]
    return rows, figure(name, shown, made.points)


def diffusion(
    config: Any, data: str, samplings: list[Sampling]
) -> tuple[dict[Sampling, Any], Cost, diffused.Setup]:
    """Train one model for each seed, and draw from it by every sampler."""
    base = ddpm.Config(data=data)
    if config.tiny:
        base = dataclasses.replace(base, width=16, steps=60, batch_size=32, chain=50)
    samples: dict[Sampling, list[np.ndarray]] = {s: [] for s in samplings}
    densities, seconds, costs, evaluations = [], {}, [], {}
    base = ddpm.complete(base)
    made = ddpm.setup(base)
    drawing = {
        sampling: ddpm.setup(
            dataclasses.replace(
                base, sampler=sampling.sampler, sampling_steps=sampling.steps
            )
        )
        for sampling in samplings
    }
    likely = log_likelihood(made, made.model.net.apply)
    for seed in config.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = dataclasses.replace(base, seed=seed, out=Path(folder) / "run")
            state, spent = trained(functools.partial(diffused.fit, run, made))
        theta = state.averaged[0]
        cost = Cost(size(theta), run.steps, spent)
        costs.append(cost)
        for sampling, other in drawing.items():
            draw = functools.partial(
                diffused.generate, other, theta, protocols.SAMPLES, seed
            )
            samples[sampling].append(draw())
            if sampling not in seconds:
                seconds[sampling] = timed(draw, protocols.SAMPLES)
            evaluations[sampling] = other.model.sampler.num_evaluations
        densities.append(-likely(theta, held_out(made, seed)))
    mean = Cost(
        costs[0].parameters,
        costs[0].gradients,
        float(np.mean([cost.seconds for cost in costs])),
    )
    drawn = {
        s: (np.stack(samples[s]), seconds[s], evaluations[s], densities)
        for s in samplings
    }
    return drawn, mean, made


def held_out(made: diffused.Setup, seed: int) -> np.ndarray:
    """Draw the points whose likelihood is taken."""
    return diffused.true_points(made.points, _HELD_OUT, 1000 + seed)


def log_likelihood(made: diffused.Setup, apply: Any) -> Any:
    """Make the mean log density by the probability-flow ODE of the chain, in nats.

    From the chain's least noise-to-signal ratio to its greatest, where N(0, sigma^2)
    takes over: what is less than the former is not told apart.

    Args:
        made: the chain.
        apply: `apply(theta, x, t)`, which predicts the noise.

    Returns:
        `log_likelihood(theta, x)`, compiled once.
    """
    chain = made.model.chain
    low, *_, high = map(float, schedules.sigmas(chain))

    @jax.jit
    def of_each(theta: Any, x: jax.Array) -> jax.Array:
        network = functools.partial(apply, theta)
        denoise = process.variance_exploding(network, chain, "eps")
        estimate = likelihood.flow_log_likelihood(
            denoise, x, num_steps=_FLOW_STEPS, low=low, high=high
        )
        return estimate.log_likelihood

    return lambda theta, x: float(
        np.mean(np.asarray(of_each(theta, jnp.asarray(x)), np.float64))
    )


def judge(
    protocol: protocols.Protocol, law: exact.GaussianMixture, samples: np.ndarray
) -> dict[str, Any]:
    """Judge sets of samples, shape (seeds, n, 2), on data of variance one.

    Returns:
        By name a number for each set.
    """
    scale = float(np.asarray(protocol.mixture().centres).std())
    scores = protocols.evaluate(protocol, samples * scale)

    keys = jax.random.split(jax.random.key(0), len(samples))
    return {
        "modes": scores.modes,
        "high quality": scores.quality,
        "reverse KL": scores.reverse_kl,
        "sliced W1": [
            float(_distance(law, jnp.asarray(x, jnp.float32), key))
            for x, key in zip(samples, keys, strict=True)
        ],
    }


@jax.jit
def _distance(law: exact.GaussianMixture, x: jax.Array, key: jax.Array) -> jax.Array:
    """Compare points with as many drawn from their law, in the sliced distance."""
    y = exact.draw(law, key, len(x))
    key = jax.random.fold_in(key, 1)
    return divergences.sliced_wasserstein(key, x, y, p=1, num_directions=64)


def figure(name: str, shown: dict[str, np.ndarray], points: Any) -> Any:
    """Draw the first seed's samples side by side."""
    from matplotlib.figure import Figure

    lines = -(-len(shown) // 3)
    drawing = Figure(figsize=(9.6, 3.4 * lines + 0.4), layout="constrained")
    reach = 1.25 * np.abs(np.asarray(points.law.means)).max()
    grid = drawing.subplots(lines, 3, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for axes, (title, x) in zip(grid.flat, shown.items(), strict=False):
        axes.plot(*np.asarray(x).T, ".", ms=1.5, alpha=0.6)
        axes.set(
            title=title,
            xlabel="$x_1$",
            ylabel="$x_2$",
            xlim=(-reach, reach),
            ylim=(-reach, reach),
            aspect="equal",
        )
        axes.title.set_fontsize(10)
    drawing.suptitle(f"{name}: {protocols.SAMPLES:,} samples of one run each")
    return drawing
