"""Optimism in a Wasserstein GAN that learns a mean.

The data is N(v, I), v = (3, 4), the generator theta + z, the critic w'x: the expected
game is <w, v - theta>. Steps of 0.1 from theta = 0, w = (1, 1), with the expectation,
or with 64 samples of data and latents each.
"""

import dataclasses

import jax
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import flat, iterates, panels, radius


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps the runs take."""

    num_steps: int = 1000


SMALL = Config()


def measure(config: Config) -> Measured:
    """Measure radii at the solution, and how far runs get."""
    problem, sgd = gd.games.mean_wgan((3.0, 4.0)), optax.sgd(0.1)
    start, solution = problem.init(None), problem.solutions[0]
    rules = {
        "simultaneous": gd.simultaneous(sgd),
        "in turn": gd.alternating(sgd),
        "five critic steps": gd.rules.make("inner_steps", 0.1, steps=5),
        "optimistic": gd.optimistic(sgd),
    }
    found, lines, samples = {}, {}, {}
    for name in ("simultaneous", "in turn", "optimistic"):
        value = radius(problem.game, rules[name], solution)
        found[f"{name}, h = 0.1: radius"] = value
    goal, length = np.asarray(flat(solution)), f"{config.num_steps} steps"
    for name, rule in rules.items():
        points = iterates(problem.game, rule, start, config.num_steps)
        far = np.linalg.norm(points - goal, axis=1)
        lines[name] = far / far[0]
        if name in ("simultaneous", "optimistic"):
            found[f"{name}, {length}: distance over the first"] = lines[name][-1]
        else:
            words = f"{name}, {length}: smallest distance of the last 100 steps"
            found[f"{words} over the first"] = lines[name][-100:].min()
    for name in ("simultaneous", "optimistic"):
        points = iterates(
            problem.game,
            rules[name],
            start,
            config.num_steps,
            key=jax.random.key(0),
            sample=problem.sample,
        )
        far = np.linalg.norm(points - goal, axis=1)
        samples[f"{name}, on samples"] = far / far[0]
    line = samples["simultaneous, on samples"]
    found[f"simultaneous on samples, {length}: distance over the first"] = line[-1]
    half = config.num_steps // 2
    words = f"last {half} of {length}: mean distance over the first"
    line = samples["optimistic, on samples"]
    found[f"optimistic on samples, {words}"] = line[half:].mean()
    return Measured(found, lines | samples)


def draw(lines):
    """Draw distances over steps."""
    figure, (axis,) = panels(1, 6.5, 3.6)
    plot(
        axis,
        lines,
        xlabel="steps",
        ylabel="distance / first distance",
        title="mean WGAN, h = 0.1",
    )
    return figure
