r"""The theory of GANs, run: what the optimal discriminator is, and what it is worth.

Command:

    gamedyn train gan_theory [--out results/gan_theory] [--smoke]
    python -m experiments.gan_theory      # in a checkout: exit code 1 if a check fails

Paper: I. Goodfellow et al., Generative Adversarial Networks, 2014, arXiv:1406.2661.

1. Against a fixed generator a discriminator, trained by gamedyn's own rules on samples,
   approaches $D^* = p/(p+q)$, on two pairs of mixtures on the line and one in the
   plane (`discriminator.png`).
2. What it attains approaches $-\log 4 + 2\,\mathrm{JS}(p, q)$ from below; both by
   quadrature (`value.png`).
3. Between two parallel lines the JS divergence is $\log 2$ at every distance but zero,
   while $W_1$ is the distance (`parallel_lines.png`).
4. Where D is confident, the saturating generator loss has no gradient and the
   non-saturating one has (`generator_gradient.png`).

Expected: the largest error of D over the region that holds 99 % of the mass falls below
0.15 and to less than a quarter of what it was (seeds 0 to 2: 0.015 to 0.02, 0.055 to
0.06, and 0.05 to 0.12 in the plane, from 0.45 to 0.7); the value ends within 0.003 of
its limit (1e-4 to 7e-4) and never exceeds it; JS is log 2 to 1e-12 at every distance
above zero, $W_1$ the distance to 1e-10 by primal and dual. `Config` holds the limits,
and the run checks itself against them. 40 seconds on one CPU core; `--smoke`
10 seconds, with looser limits.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn import divergences
from gamedyn.gan import theory
from gamedyn.seeds import seed_key

from .laws import (
    DTYPE,
    Pair,
    Trained,
    draw,
    log_densities,
    mixture,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    out: Path = Path("results/gan_theory")  # an empty folder for what comes out
    seed: int = 0  # of the networks and the samples
    num_steps: int = 20_000  # of training, for every pair
    records: int = 100  # how often D is looked at; divides `num_steps`
    batch_size: int = 512  # samples of each distribution per step
    width: int = 64  # hidden units in each of the two layers
    learning_rate: float = 1e-2  # Adam's first, falling to zero along a cosine
    points_per_line: int = 40  # of the two parallel lines
    sup_error: float = 0.15  # largest final error of D
    fall: float = 1 / 4  # largest ratio of the final to the first error of D
    value_gap: float = 3e-3  # largest final distance of the value from its limit


SMOKE = Config(
    num_steps=600,
    records=20,
    width=32,
    points_per_line=15,
    sup_error=0.35,
    fall=0.6,
    value_gap=0.02,
)
"""A short run: the discriminator gets only part of the way."""


def pairs() -> dict[str, Pair]:
    """Give the three cases: a blurred generator, a missed mode, and the plane."""
    line = jnp.linspace(-8, 8, 1601, dtype=DTYPE)[:, None]
    side = jnp.linspace(-5, 5, 101, dtype=DTYPE)
    plane = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    on_line = jnp.full(len(line), 0.01, DTYPE)
    on_plane = jnp.full(len(plane), 0.01, DTYPE)
    corners = [(1.5, 1.5), (-1.5, 1.5), (-1.5, -1.5), (1.5, -1.5)]
    return {
        "blurred generator": Pair(
            mixture([0.5, 0.5], [-1.5, 1.5], [0.5, 0.5]),
            mixture([1.0], [0.0], [1.5]),
            line,
            on_line,
        ),
        "missed mode": Pair(
            mixture([0.3, 0.4, 0.3], [-2.5, 0.0, 2.5], [0.5, 0.5, 0.5]),
            mixture([0.5, 0.5], [-2.3, 0.4], [0.6, 0.7]),
            line,
            on_line,
        ),
        "four modes in the plane": Pair(
            mixture([0.25] * 4, corners, [0.6] * 4),
            mixture([0.5, 0.5], [(1.0, 1.0), (-0.5, -0.5)], [0.8, 1.2]),
            plane,
            on_plane,
        ),
    }


def init(key: jax.Array, sizes: tuple[int, ...]) -> list[dict[str, jax.Array]]:
    """Draw the layers of a network with the given numbers of units."""
    layers = []
    for k, (rows, columns) in zip(
        jax.random.split(key, len(sizes) - 1),
        zip(sizes[:-1], sizes[1:], strict=True),
        strict=True,
    ):
        weight = jax.random.normal(k, (rows, columns), DTYPE) / rows**0.5
        layers.append({"weight": weight, "bias": jnp.zeros(columns, DTYPE)})
    return layers


def logits(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    """Apply the tanh network to points, shape (n, d) -> (n,)."""
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer["weight"] + layer["bias"][None, :])
    return (x @ layers[-1]["weight"])[:, 0] + layers[-1]["bias"]


def discriminator_loss(
    layers: list[dict[str, jax.Array]], batch: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Minus the value of the game, on samples of both laws."""
    real, fake = (logits(layers, x) for x in batch)
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def train(config: Config, pair: Pair) -> Trained:
    """Train a discriminator against a fixed generator, and watch it on the grid."""
    log_p, log_q = (log_densities(law, pair.points) for law in (pair.p, pair.q))

    def record(params, rule_state, batches, step):
        del rule_state, batches
        at_grid = logits(params[0], pair.points)
        return step, at_grid

    def sample(key):
        key_p, key_q = jax.random.split(key)
        size = config.batch_size
        return draw(pair.p, key_p, size), draw(pair.q, key_q, size)

    schedule = optax.cosine_decay_schedule(config.learning_rate, config.num_steps)
    rule = gd.simultaneous(optax.adam(schedule))
    game = gd.single_player(discriminator_loss, stochastic=True)
    start_key, key = jax.random.split(seed_key(config.seed))
    dimension = pair.points.shape[1]
    params = (init(start_key, (dimension, config.width, config.width, 1)),)
    solution = jax.jit(
        lambda params: gd.solve(
            game,
            rule,
            params,
            config.num_steps,
            key=key,
            sample=sample,
            record=record,
            every=config.num_steps // config.records,
        )
    )(params)
    steps, at_grid = solution.trace
    steps = np.append(np.asarray(steps), config.num_steps)
    at_end = jax.jit(logits)(solution.params[0], pair.points)
    # The last digits of the values matter: in float64.
    at_grid = np.append(np.asarray(at_grid), np.asarray(at_end)[None], axis=0)
    with jax.enable_x64(True):
        return Trained(
            steps,
            *(
                np.asarray(z)
                for z in _assess(*map(_wide, (at_grid, log_p, log_q, pair.measure)))
            ),
        )


def _wide(array: Any) -> np.ndarray:
    return np.asarray(array, np.float64)


@jax.jit
def _assess(at_grid, log_p, log_q, measure):
    """Compare recorded logits with the optimum; the fields of `Trained` but steps."""
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    best = theory.optimal_discriminator_from_log(log_p, log_q)
    probabilities = jax.nn.sigmoid(at_grid)
    gaps = jnp.abs(probabilities - best[None])
    errors = jnp.max(jnp.where(holds_mass(p + q)[None], gaps, 0), axis=1)
    values = jax.vmap(lambda z: theory.value_of_logits(z, p, q, measure=measure))(
        at_grid
    )
    limit = theory.value_at_optimum(p, q, measure=measure)
    js = divergences.jensen_shannon(p, q, measure=measure)
    return probabilities, errors, values, best, limit, js


def holds_mass(density: jax.Array) -> jax.Array:
    """Mark the smallest region that holds 99 % of the mass."""
    rank = jnp.argsort(density, descending=True)
    before = jnp.cumsum(density[rank]) - density[rank]
    inside = before < 0.99 * jnp.sum(density)
    return jnp.zeros(density.shape, bool).at[rank].set(inside)


def parallel_lines(num_points: int) -> dict[str, np.ndarray]:
    """Compare two copies of a line, `distance` apart: exact W1, JS and TV."""
    distances = np.linspace(-1, 1, 41)
    heights = np.linspace(0, 1, num_points)
    columns: dict[str, list[float]] = {
        name: [] for name in ("js", "total variation", "primal", "dual", "lipschitz")
    }
    for distance in distances:
        real = np.stack([np.zeros(num_points), heights], axis=1)
        fake = np.stack([np.full(num_points, distance), heights], axis=1)
        critic = divergences.kantorovich_rubinstein(real, fake)
        columns["primal"].append(divergences.wasserstein(real, fake))
        columns["dual"].append(critic.value)
        columns["lipschitz"].append(critic.lipschitz)
        # As distributions on the union of the supports.
        union, index = np.unique(
            np.concatenate([real, fake]), axis=0, return_inverse=True
        )
        masses = np.zeros((2, len(union)))
        np.add.at(masses, (np.repeat([0, 1], num_points), index), 1 / num_points)
        with jax.enable_x64(True):
            p, q = jnp.asarray(masses)
            columns["js"].append(divergences.jensen_shannon(p, q).item())
            columns["total variation"].append(divergences.total_variation(p, q).item())
    return {"distance": distances} | {k: np.array(v) for k, v in columns.items()}


def saturating(logit: jax.Array) -> jax.Array:
    """The generator's loss in the minimax game, log(1 - D)."""
    return -jax.nn.softplus(logit)


def non_saturating(logit: jax.Array) -> jax.Array:
    """The generator's loss in practice, -log D."""
    return jax.nn.softplus(-logit)


def generator_gradients() -> dict[str, np.ndarray]:
    """Compare the two losses: by D's logit, and of a generator that is t away.

    The generator's law is N(t, 1), the data's N(0, 1), the discriminator optimal:
    its logit is t^2/2 - t x. The gradient in t holds the discriminator fixed.
    """
    with jax.enable_x64(True):
        at = jnp.linspace(-8.0, 8.0, 161)
        shifts = jnp.linspace(0.0, 8.0, 81)
        noise, step = jnp.linspace(-8.0, 8.0, 2001, retstep=True)
        masses = step * jnp.exp(-(noise**2) / 2) / math.sqrt(2 * math.pi)

        def gradient(loss: Callable[[jax.Array], jax.Array], shift: jax.Array):
            def expected(t):
                logit = theory.optimal_logit(
                    jax.scipy.stats.norm.logpdf(t + noise),
                    jax.scipy.stats.norm.logpdf(t + noise, shift),
                )
                return jnp.sum(masses * loss(logit))

            return jax.grad(expected)(shift)

        results = {"logit": at, "shift": shifts}
        for name, loss in (
            ("saturating", saturating),
            ("non-saturating", non_saturating),
        ):
            results[f"{name} loss"] = loss(at)
            results[f"{name} slope"] = jax.jit(jax.vmap(jax.grad(loss)))(at)
            results[f"{name} gradient"] = jax.jit(
                jax.vmap(functools.partial(gradient, loss))
            )(shifts)
        return {name: np.asarray(array) for name, array in results.items()}


def findings(
    trained: dict[str, Trained], lines: dict, gradients: dict
) -> dict[str, dict[str, float]]:
    """Condense what was found to the numbers that the expectations speak of."""
    numbers: dict[str, dict[str, float]] = {}
    for name, run in trained.items():
        numbers[name] = {
            "js": float(run.js),
            "limit of the value": float(run.limit),
            "final value": float(run.values[-1]),
            "largest value": float(run.values.max()),
            "first sup error": float(run.errors[0]),
            "final sup error": float(run.errors[-1]),
        }
    apart = lines["distance"] != 0
    size = np.abs(lines["distance"])
    numbers["parallel lines"] = {
        "largest |JS - log 2| apart": np.abs(lines["js"][apart] - math.log(2)).max(),
        "JS at distance 0": lines["js"][~apart].max(),
        "largest |primal - distance|": np.abs(lines["primal"] - size).max(),
        "largest |dual - distance|": np.abs(lines["dual"] - size).max(),
        "largest slope of a critic": lines["lipschitz"].max(),
    }
    confident = np.argmin(gradients["logit"])
    numbers["generator gradient"] = {
        "D": float(1 / (1 + np.exp(-gradients["logit"][confident]))),
        "saturating slope": abs(gradients["saturating slope"][confident]),
        "non-saturating slope": abs(gradients["non-saturating slope"][confident]),
        "saturating gradient at shift 8": abs(gradients["saturating gradient"][-1]),
        "non-saturating gradient at shift 8": abs(
            gradients["non-saturating gradient"][-1]
        ),
    }
    return {
        name: {key: float(f"{value:.6g}") for key, value in row.items()}
        for name, row in numbers.items()
    }


def check(config: Config, measured: dict[str, dict[str, float]]) -> dict[str, bool]:
    """Compare with what the module's docstring expects."""
    runs = [measured[name] for name in pairs()]
    lines, gradient = measured["parallel lines"], measured["generator gradient"]
    return {
        "D approaches D*": all(
            run["final sup error"] < config.sup_error
            and run["final sup error"] < config.fall * run["first sup error"]
            for run in runs
        ),
        "the value approaches -log 4 + 2 JS": all(
            abs(run["final value"] - run["limit of the value"]) < config.value_gap
            for run in runs
        ),
        "and never exceeds it": all(
            run["largest value"] <= run["limit of the value"] + 1e-6 for run in runs
        ),
        "JS is blind to the distance": lines["largest |JS - log 2| apart"] < 1e-12
        and lines["JS at distance 0"] == 0,
        "W1 is the distance": lines["largest |primal - distance|"] < 1e-10
        and lines["largest |dual - distance|"] < 1e-10,
        "critics are 1-Lipschitz": lines["largest slope of a critic"] < 1 + 1e-9,
        "only the saturating gradient vanishes": gradient["saturating slope"] < 1e-3
        and gradient["non-saturating slope"] > 0.99
        and gradient["saturating gradient at shift 8"] < 1e-2
        and gradient["non-saturating gradient at shift 8"] > 1,
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment and write `config.out`.

    Args:
        config: what to run.

    Returns:
        The summary, as written to `summary.json`: settings, findings, checks, seconds.

    Raises:
        FileExistsError: if the folder holds anything already.
    """
    from gamedyn import files

    from . import pictures

    begin = time.perf_counter()
    with files.folder(config.out) as out:
        cases = pairs()
        trained = {name: train(config, pair) for name, pair in cases.items()}
        lines, gradients = parallel_lines(config.points_per_line), generator_gradients()
        measured = findings(trained, lines, gradients)
        for name, figure in {
            "discriminator.png": pictures.discriminator(cases, trained),
            "value.png": pictures.value(trained),
            "parallel_lines.png": pictures.parallel_lines(lines),
            "generator_gradient.png": pictures.generator_gradient(gradients),
        }.items():
            figure.savefig(out / name, dpi=130)
        settings = dataclasses.asdict(config) | {"out": str(config.out)}
        summary = {
            "settings": settings,
            "findings": measured,
            "checks": check(config, measured),
            "jax": jax.__version__,
            "seconds": round(time.perf_counter() - begin, 1),
        }
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary
