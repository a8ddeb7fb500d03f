"""What the recipes for diffusion models of points share, held to the exact denoiser."""

import functools
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn import diffusion, divergences, metrics, train
from gamedyn.data import mixtures
from gamedyn.diffusion import exact
from gamedyn.files import write_whole
from gamedyn.recipes import pictures
from gamedyn.recipes.diffusion_models import Model, start
from gamedyn.recipes.lookup import Commands
from gamedyn.seeds import seed_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AT_ONCE = 2500  # points
_DRAWS = 100_000  # noisy points to compare denoisers on
_DIRECTIONS = 64

ALIASES = {"grid25": "grid25/pacgan", "swissroll": "swissroll/wgangp"}


class PointSet(NamedTuple):
    """Points of the plane.

    Attributes:
        draw: `draw(key, number)` returns float32 points, shape (number, 2).
        law: their law, `None` where it has no closed form.
    """

    draw: Callable[[jax.Array, int], jax.Array]
    law: exact.GaussianMixture | None


def known(name: str) -> bool:
    """Say whether data are points."""
    name = name.replace("-", "_")
    return name == "ring8" or name in ALIASES or name in mixtures.names()


def point_set(name: str) -> PointSet:
    """Make a set of points.

    `ring8` has radius 2, standard deviation .2 and weights in proportion to 1, ..., 8;
    those of `gamedyn.data.mixtures` are divided by the standard deviation of their
    centres' coordinates.
    """
    name = name.replace("-", "_")
    if name == "ring8":
        law = exact.mixture(mixtures.ring(8, 2.0), 0.2, np.arange(1, 9))
        return PointSet(functools.partial(exact.draw, law), law)
    made = mixtures.make(ALIASES.get(name, name))
    if isinstance(made, mixtures.PlaneMixture):
        centres = np.asarray(made.centres, np.float64)
        scale = centres.std()
        law = exact.mixture(centres / scale, float(made.sigma) / scale)
        return PointSet(functools.partial(exact.draw, law), law)

    def draw(key: jax.Array, number: int) -> jax.Array:
        return made.sample(key, number).astype(jnp.float32)

    return PointSet(draw, None)


class Setup(NamedTuple):
    """What a recipe's `setup` returns."""

    points: PointSet
    model: Model


def fit(config: Any, made: Setup) -> train.TrainState:
    """Train on fresh points in every step."""

    def batches(key: jax.Array) -> diffusion.Batch:
        of_points, of_noise = jax.random.split(key)
        return diffusion.Batch(made.points.draw(of_points, config.batch_size), of_noise)

    return train.fit(
        made.model.game,
        made.model.rule,
        start(config, made.model.net),
        batches,
        num_steps=config.steps,
        key=jax.random.fold_in(seed_key(config.seed), 3),
        # One compiled loop does many steps: each is a few small matrix products.
        steps_per_call=500,
        directory=config.out,
        checkpoint_every=min(config.checkpoint_every, config.steps),
        resume=config.resume,
        record=diffusion.monitor(made.model.game, num_bins=4),
        log_every=min(500, config.steps),
        average=train.ema(config.average),
        mesh=pictures.mesh(config),
    )


def generate(made: Setup, theta: Any, number: int, seed: int) -> np.ndarray:
    """Draw points: the same bits for the same number and seed."""
    at_once = min(number, _AT_ONCE)
    key, parts = seed_key(seed), []
    for index in range(-(-number // at_once)):
        own = jax.random.fold_in(key, index)
        drawn = made.model.draw(theta, own, made.model.sampler, None, (at_once, 2))
        parts.append(np.asarray(drawn))
    return np.concatenate(parts)[:number]


def true_points(points: PointSet, number: int, seed: int) -> np.ndarray:
    """Draw points of the data, other ones than training sees."""
    key = jax.random.fold_in(seed_key(seed), 2**31 - 1)
    return np.asarray(points.draw(key, number))


def measure(config: Any, made: Setup, theta: Any) -> dict[str, Any]:
    """Measure samples and the network itself against the exact law.

    Every number of samples is a mean over the seeds; beside it stands the same of true
    points in their place.
    """
    drawn = [
        generate(made, theta, config.samples, seed) for seed in range(config.seeds)
    ]
    summary: dict[str, Any] = {}
    if made.points.law is not None:
        summary |= compare(config, made, theta)
    for kind, sets in (
        ("", drawn),
        (
            ", true points",
            [
                true_points(made.points, config.samples, config.seeds + seed)
                for seed in range(config.seeds)
            ],
        ),
    ):
        rows = [judge(made.points, points, seed) for seed, points in enumerate(sets)]
        for name in rows[0]:
            summary[f"{name}{kind}"] = float(np.mean([row[name] for row in rows]))
        distances = [row["sliced W1"] for row in rows]
        if len(rows) > 1:
            spread = float(np.std(distances, ddof=1))
            summary[f"sliced W1, standard deviation of a seed{kind}"] = spread
    return summary | {"points": config.samples, "seeds": config.seeds}


def compare(config: Any, made: Setup, theta: Any) -> dict[str, float]:
    """Compare the network with the best one, on the same draws of points and noise.

    The excess is E |eps_theta - eps*|^2 over the dimension: what is above the floor of
    the squared error, without the noise of the latter.
    """
    law, chain = made.points.law, made.model.chain
    assert law is not None
    best = exact.model(law, chain, config.prediction)

    @jax.jit
    def errors(theta: Any, key: jax.Array) -> jax.Array:
        of_points, of_times, of_noise = jax.random.split(key, 3)
        x0 = made.points.draw(of_points, _DRAWS // 10)
        t = jax.random.randint(of_times, x0.shape[:1], 0, config.chain, jnp.int32)
        noise = jax.random.normal(of_noise, x0.shape, x0.dtype)
        x = diffusion.process.q_sample(chain, x0, t, noise)
        a, s = (jnp.asarray(leaf, x.dtype)[t] for leaf in (chain.signal, chain.noise))
        times = jnp.asarray(chain.times, x.dtype)[t]
        said, known = (
            diffusion.process.convert(f(x, times), x, a, s, config.prediction, "eps")
            for f in (lambda x, t: made.model.net.apply(theta, x, t), best)
        )
        gaps = (said - known, said - noise, known - noise)
        return jnp.stack([jnp.mean(jnp.square(gap)) for gap in gaps])

    keys = jax.random.split(seed_key(config.seed, 1), 10)
    excess, error, floor = np.mean([errors(theta, key) for key in keys], axis=0)
    return {
        "excess over the exact denoiser": float(excess),
        "squared error of the noise": float(error),
        "squared error of the noise, exact denoiser": float(floor),
    }


def judge(points: PointSet, samples: np.ndarray, seed: int) -> dict[str, float]:
    """Judge one set of samples by the law, and by true points."""
    reference = true_points(points, len(samples), 10_000 + seed)
    distance = _sliced(jax.random.key(0), samples, reference)
    scores = {"sliced W1": float(distance)}
    law = points.law
    if law is None:
        return scores
    means, weights = np.asarray(law.means), np.asarray(law.weights)
    y = samples.astype(np.float64)
    nearest = np.argmin(np.sum((y[:, None] - means[None]) ** 2, axis=2), axis=1)
    counts = np.bincount(nearest, minlength=len(means))
    squares, own = 0.0, 0
    for mode in np.flatnonzero(counts > 1):
        inside = y[nearest == mode]
        squares += float(np.sum((inside - inside.mean(axis=0)) ** 2))
        own += 2 * (len(inside) - 1)
    sigma = math.sqrt(float(law.variances[0, 0]))
    coverage = metrics.mode_coverage(y, means, sigma)
    density = exact.log_density(law, jnp.asarray(samples))
    return scores | {
        "within-mode standard deviation": math.sqrt(squares / max(own, 1)),
        "mode weights, total variation": float(
            np.abs(counts / len(y) - weights).sum() / 2
        ),
        "modes": float(coverage.covered_at(max(1, round(weights.min() * len(y) / 4)))),
        "high quality": coverage.high_quality,
        "- log p": float(-np.mean(np.asarray(density, np.float64))),
    }


@jax.jit
def _sliced(key: jax.Array, x: Any, y: Any) -> jax.Array:
    return divergences.sliced_wasserstein(key, x, y, p=1, num_directions=_DIRECTIONS)


def commands(setup: Callable[[Any], Setup]) -> Commands:
    """Make the commands of a recipe, of how its options are set up.

    Args:
        setup: `setup(config)` makes the set of points and builds network, game and
            rule.

    Returns:
        `main`, `sample` and `evaluate`, see `gamedyn.recipes`.
    """

    def main(config: Any) -> dict[str, Any]:
        """Train, then measure."""
        made = setup(config)
        state = fit(config, made)
        summary = pictures.ending(state)
        if pictures.over(state):
            return summary
        theta = state.averaged[0]
        number = min(5000, config.samples)
        shown = {
            "data": true_points(made.points, number, config.seed),
            _title(config): generate(made, theta, number, config.seed),
        }
        save(figure(made.points, shown), config.out / "samples.png")
        return summary | measure(config, made, theta)

    def sample(config: Any, number: int, seed: int) -> tuple[Path, Path]:
        """Draw points of a run: a picture, and an array."""
        made = setup(config)
        drawn = generate(made, pictures.stored(config), number, seed)
        image, array = (config.out / f"sample-{seed}.{kind}" for kind in ("png", "npz"))
        save(figure(made.points, {_title(config): drawn}), image)
        pictures.write_npz(array, points=drawn)
        return image, array

    def evaluate(config: Any) -> dict[str, Any]:
        """Measure what a run has trained so far."""
        return measure(config, setup(config), pictures.stored(config))

    return Commands(main, sample, evaluate)


def figure(points: PointSet, shown: Mapping[str, np.ndarray]) -> "Figure":
    """Draw sets of points side by side, and the modes of the data as circles."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(4 * len(shown), 4.2), layout="constrained")
    reach = 1.1 * max(np.quantile(np.abs(x), 0.999) for x in shown.values())
    line = drawing.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, x) in zip(line, shown.items(), strict=True):
        axes.plot(*x.T, ".", ms=1.5, alpha=0.5)
        if points.law is not None:
            circle = {"s": 90, "lw": 0.8, "facecolors": "none", "edgecolors": "black"}
            axes.scatter(*np.asarray(points.law.means).T, **circle)
        axes.set(
            title=f"{title}, {len(x):,} points",
            xlabel="$x_1$",
            ylabel="$x_2$",
            xlim=(-reach, reach),
            ylim=(-reach, reach),
            aspect="equal",
        )
    return drawing


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all; a link is replaced."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, format="png")
    write_whole(path, buffer.getvalue())


def _title(config: Any) -> str:
    return f"{config.sampler.upper()}, {config.sampling_steps or config.chain} steps"
