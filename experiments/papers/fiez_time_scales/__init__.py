"""Descent whose second player is tau times as fast.

tau* is where the smallest real part of the eigenvalues of J, the second player's rows
times tau, changes its sign, found by refinement. Games: ridge 1, -3x^2 - y^2 + 4xy, and
ridge 3, whose 0 is a strict local minimax point that repels plain descent; ridge 2,
3x^2 + y^2 + 4xy, whose 0 is none and attracts it; and -a^2/2 + b^2/4 - a c - c^2/4 +
b d - d^2/2 with the first player at (a, b), the second at (c, d), where 0 is minimax
and no Nash point. The runs take 2000 steps of 0.01 (times tau) on ridge 3 from (0.1,
0.1).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import iterates, panels, radius, scalars


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps the runs take."""

    num_steps: int = 2000


SMALL = Config()


def four_parameters(x, y):
    """A quadratic with a minimax point at 0 that is not Nash."""
    (a, b), (c, d) = x, y
    return -(a**2) / 2 + b**2 / 4 - a * c - c**2 / 4 + b * d - d**2 / 2


def threshold(game, point, low: float, high: float) -> float:
    """The tau between two at which the flow's stability changes, by refinement."""
    for _ in range(4):
        taus = np.linspace(low, high, 100)
        found = gd.analysis.timescale_stability(game, point, taus.tolist())
        stable = np.array([item.min_real_part > 0 for item in found])
        change = int(np.argmax(stable != stable[0]))
        low, high = taus[change - 1], taus[change]
    return (low + high) / 2


def measure(config: Config) -> Measured:
    """Measure thresholds, and runs on both sides of one."""
    zero, zeros = scalars(0.0, 0.0), (jnp.zeros(2), jnp.zeros(2))
    ridges = gd.games.ridge_1(), gd.games.ridge_2(), gd.games.ridge_3()
    first, second, third = (problem.game for problem in ridges)
    quadratic = gd.zero_sum(four_parameters)
    found = {
        "ridge 1, minimax at 0: tau*": threshold(first, zero, 0.1, 20),
        "ridge 3, minimax at 0: tau*": threshold(third, zero, 0.1, 20),
        "four parameters, minimax at 0: tau*": threshold(quadratic, zeros, 0.1, 20),
        "ridge 2, no minimax at 0: tau beyond which it repels": threshold(
            second, zero, 0.1, 20
        ),
    }

    def rule(tau):
        return gd.simultaneous(optax.sgd(0.01), optax.sgd(0.01 * tau))

    for tau in (1, 4):
        name = f"ridge 1, tau = {tau}, h = 0.01: radius"
        found[name] = radius(first, rule(tau), zero)
    lines = {}
    for tau in (1, 4, 6, 10):
        path = iterates(third, rule(tau), scalars(0.1, 0.1), config.num_steps)
        far = np.linalg.norm(path, axis=1)
        lines[f"tau = {tau}"] = far / far[0]
    for tau in (1, 10):
        words = f"ridge 3 from (0.1, 0.1), tau = {tau}, 2000 steps of 0.01"
        found[f"{words}: distance over the first"] = lines[f"tau = {tau}"][-1]
    return Measured(found, lines)


def draw(lines):
    """Draw distances over steps."""
    figure, (axis,) = panels(1, 6.0, 3.6)
    plot(
        axis,
        {name: np.maximum(line, 1e-14) for name, line in lines.items()},
        xlabel="steps",
        ylabel="distance / first distance",
        title="ridge 3, where tau* = 5",
    )
    return figure
