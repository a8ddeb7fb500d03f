"""Lookahead on bilinear games, with all samples and with one.

xy, and the stochastic bilinear game of n = d = 100 components. The published figure has
20000 passes, steps h of 0.05 to 0.1, strengths a of 0.3 to 0.4 and periods k of 450 to
2450; here h = 0.1, a = 0.4, k = 2450, and 2000 passes (82 cycles of one sample a step),
after which lookahead has reached the noise. Five runs. The factor of a cycle of a run
is measured on the mean field, with the default start.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import flat, panels, radius, scalars

PERIOD, STRENGTH, STEP, N = 2450, 0.4, 0.1, 100


@dataclasses.dataclass(frozen=True)
class Config:
    """How long the stochastic runs are, in passes, and how many."""

    passes: int = 2000
    runs: int = 5


SMALL = Config(passes=250, runs=3)


def lookahead(step: float, period: int, strength: float) -> gd.Rule:
    """Lookahead over simultaneous descent."""
    return gd.lookahead(
        gd.simultaneous(optax.sgd(step)), period=period, strength=strength
    )


def distances(problem, rule, num_steps: int, runs: int, sample) -> np.ndarray:
    """Distances over the first one, after every 50 steps, of several runs."""
    goal = flat(problem.solutions[0])

    def run(seed):
        solution = gd.solve(
            problem.game,
            rule,
            problem.init(None),
            num_steps,
            key=jax.random.key(seed),
            sample=sample,
            record=lambda params, state, *_: jnp.linalg.norm(
                flat(rule.output(params, state)) - goal
            ),
            every=50,
        )
        last = jnp.linalg.norm(flat(solution.output) - goal)
        return jnp.append(solution.trace, last)

    far = np.asarray(jax.jit(lambda s: gd.sweep(run, s))(jnp.arange(runs)))
    return far / far[:, :1]


def measure(config: Config) -> Measured:
    """Measure factors of a cycle, and runs on single samples."""
    found = {}
    xy = gd.zero_sum(lambda x, y: x * y)
    for h, k, a in ((0.5, 6, 0.5), (0.1, 20, 0.4)):
        value = radius(xy, lookahead(h, k, a), scalars(0.0, 0.0)) ** k
        found[f"xy, h = {h}, k = {k}, a = {a}: factor of a cycle"] = value
    problem = gd.games.stochastic_bilinear(N)
    rule = lookahead(STEP, PERIOD, STRENGTH)
    mean = distances(problem, rule, 2 * PERIOD, 1, lambda key: jnp.arange(N))[0]
    words = f"all samples, n = {N}, h = {STEP}, k = {PERIOD}, a = {STRENGTH}"
    cycle = PERIOD // 50
    found[f"{words}: factor of a cycle of a run"] = mean[2 * cycle] / mean[cycle]

    steps = config.passes * N
    lines = {
        name: distances(problem, each, steps, config.runs, problem.sample).mean(axis=0)
        for name, each in {
            "lookahead": rule,
            "plain descent": gd.simultaneous(optax.sgd(STEP)),
        }.items()
    }
    for passes in (250, 2000):
        if passes <= config.passes:
            for name, line in lines.items():
                words = f"one sample, {passes} passes: distance of {name}"
                found[f"{words} over the first"] = line[passes * N // 50]
    return Measured(found, (np.arange(steps // 50 + 1) * 50 / N, lines))


def draw(curves):
    """Draw mean distances over passes."""
    passes, lines = curves
    figure, (axis,) = panels(1, 6.0, 3.6)
    thin = max(1, len(passes) // 500)
    shown = {
        name: (passes[::thin], np.where(line < 1e2, line, np.nan)[::thin])
        for name, line in lines.items()
    }
    plot(
        axis,
        shown,
        xlabel="passes through the data",
        ylabel="mean distance / first distance",
        title="stochastic bilinear game, n = d = 100, one component at a time",
    )
    return figure
