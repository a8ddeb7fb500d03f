"""A zero-sum game on which every reasonable method cycles.

f = xy - x^2/2 + y^2/2 + x^4/4 - y^4/4; 3000 steps of 0.01 from (0.5, 0.3), from (1, 1),
and for all methods together from 20 starts N(0, 1). Consensus with a weight of 0.02
(0.01 on the squared norm), symplectic adjustment aligned with an alignment of 0,
look-ahead, LOLA and SOS (a = b = 0.5) with opponents' steps of 0.01.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import flat, panels, scalars

STEP = 0.01


@dataclasses.dataclass(frozen=True)
class Config:
    """How many random starts there are."""

    starts: int = 20


SMALL = Config(starts=0)


def methods(game):
    """Each method's field and rule."""
    sgd, fields = optax.sgd(STEP), gd.fields
    plain = gd.simultaneous(sgd)
    shaping = fields.stable_opponent_shaping(game, STEP, a=0.5, b=0.5)
    return {
        "simultaneous": (game, plain),
        "in turn": (game, gd.alternating(sgd)),
        "extragradient": (game, gd.extragradient(sgd)),
        "optimistic": (game, gd.optimistic(sgd)),
        "consensus": (fields.consensus(game, 0.02), plain),
        "symplectic, aligned": (fields.symplectic(game, alignment=0.0), plain),
        "look-ahead": (fields.opponent_lookahead(game, STEP), plain),
        "competitive": (fields.competitive(game, STEP), plain),
        "LOLA": (fields.lola(game, STEP), plain),
        "stable opponent shaping": (shaping, plain),
    }


def paths(field, rule, starts) -> np.ndarray:
    """Points of all steps from all starts, shape (starts, 3001, 2)."""

    def run(start):
        solution = gd.solve(
            field, rule, start, 3000, record=lambda params, *_: flat(params)
        )
        return jnp.concatenate([solution.trace, flat(solution.params)[None]])

    return np.asarray(jax.jit(lambda z: gd.sweep(run, z))(starts))


def measure(config: Config) -> Measured:
    """Measure eigenvalues at 0, and between which radii methods end."""
    problem = gd.games.impossibility()
    jacobian = gd.analysis.game_jacobian(problem.game, problem.solutions[0])
    values = np.linalg.eigvals(np.asarray(jacobian))
    found = {
        "real part of the eigenvalues of J at 0": values.real.max(),
        "imaginary part of the eigenvalues of J at 0": values.imag.max(),
    }
    drawn = np.random.default_rng(0).normal(size=(config.starts, 2))
    starts = np.concatenate([[[0.5, 0.3], [1.0, 1.0]], drawn])
    lines, gaps, lowest = {}, [], []
    for name, (field, rule) in methods(problem.game).items():
        path = paths(field, rule, scalars(*starts.T))
        radii = np.linalg.norm(path, axis=2)[:, -1000:]
        low, high = radii.min(axis=1), radii.max(axis=1)
        found[f"{name}: smallest |z| of the last 1000 steps"] = low[0]
        found[f"{name}: largest |z| of the last 1000 steps"] = high[0]
        gaps += [abs(low[1] - low[0]), abs(high[1] - high[0])]
        lowest.append(low.min())
        lines[name] = path[0]
    words = "largest difference of a range from (1, 1) and from (0.5, 0.3)"
    found[words] = max(gaps)
    if config.starts:
        words = f"all methods, {config.starts} starts N(0, 1)"
        found[f"{words}: smallest |z| of the last 1000 steps"] = min(lowest)
    return Measured(found, lines)


def draw(lines):
    """Draw the last 1000 points of every method."""
    figure, axes = panels(2, 3.4, 3.3)
    shown = list(lines.items())
    for axis, half in zip(axes, (shown[:5], shown[5:]), strict=True):
        for number, (name, path) in enumerate(half):
            style = ("-", "--", "-.", ":")[number % 4]
            axis.plot(*path[-1000:].T, ls=style, label=name)
        axis.plot(0, 0, "k+")
        axis.set_aspect("equal")
        axis.set_xlabel("x", fontsize=9)
        axis.set_ylabel("y", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=6.5, loc="center")
    figure.suptitle("the last 1000 of 3000 steps of 0.01", fontsize=9)
    return figure
