"""Extragradient on cycles without a critical point.

The polar game: F = (psi(x, y) - y, psi(y, x) + x), psi(x, y) = (a/16) x (r^2 - 1)
(16 r^2 - 9), r = |z|. For the flow 0 attracts, the cycle r = 3/4 repels and r = 1
attracts. The flow is followed by Runge-Kutta steps of 0.01; extragradient takes 20000
steps of 0.1 or 0.01.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import iterates, panels, scalars


@dataclasses.dataclass(frozen=True)
class Config:
    """The step sizes of extragradient."""

    steps: tuple[float, ...] = (0.1, 0.01)


SMALL = Config(steps=(0.1,))
STARTS = ((0.9, 0.9), (0.6, 0.6))


def measure(config: Config) -> Measured:
    """Measure where extragradient and the flow end."""
    found, lines = {}, {}
    for words, a in (("1/3", 1 / 3), ("3", 3.0)):
        game = gd.games.polar(a).game
        for h in config.steps:
            for start in STARTS:
                rule = gd.rules.make("extragradient", h)
                path = iterates(game, rule, scalars(*start), 20_000, every=10)
                radii = np.linalg.norm(path, axis=1)
                name = f"a = {words}, extragradient, h = {h}, from {start}"
                found[f"{name}: |z| after 20000 steps"] = radii[-1]
                lines[f"a = {words}, h = {h}, from {start}"] = (
                    np.arange(2001) * 10 * h,
                    radii,
                )
    problem = gd.games.polar(3.0)
    flow = gd.rules.make("runge_kutta_4", 0.01)
    for r in (0.8, 0.7):
        end = iterates(problem.game, flow, scalars(r, 0.0), 20_000, every=20_000)[-1]
        found[f"a = 3, flow from |z| = {r}: |z| at time 200"] = np.linalg.norm(end)
    weak = gd.games.polar(1 / 3)
    jacobian = gd.analysis.game_jacobian(weak.game, weak.solutions[0])
    values = jnp.linalg.eigvals(jacobian)
    name = "a = 1/3: real part of the eigenvalues at 0"
    found[name] = float(values.real.min())
    return Measured(found, lines)


def draw(lines):
    """Draw the radius over time, which is the step size times the steps."""
    figure, axes = panels(2)
    for axis, a in zip(axes, ("1/3", "3"), strict=True):
        own = {
            name.partition(", ")[2]: line
            for name, line in lines.items()
            if name.startswith(f"a = {a},")
        }
        title = f"extragradient on the polar game, a = {a}"
        labels = {"xlabel": "h times steps", "ylabel": "|z|"}
        plot(axis, own, **labels, title=title, scale=("linear", "linear"))
        axis.axhline(1, color="0.6", lw=0.8)
        axis.axhline(0.75, color="0.6", lw=0.8, ls=":")
        axis.set_xlim(0, 60)
    return figure
