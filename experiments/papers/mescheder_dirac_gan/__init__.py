"""The Dirac-GAN with and without a gradient penalty.

Eigenvalues are those of the Jacobian J of F at the solution, so that stable means a
positive real part; the paper prints those of the flow -F. The runs take 500 steps of
0.1 from (1, 1), all players at once or in turn.
"""

import dataclasses

import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import iterates, panels


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps the runs take."""

    num_steps: int = 500


SMALL = Config()


def eigenvalues(kind: str, gamma: float) -> np.ndarray:
    """Those of J at the solution, by growing real part."""
    problem = gd.games.dirac_gan(kind, gamma)
    jacobian = gd.analysis.game_jacobian(problem.game, problem.solutions[0])
    values = np.linalg.eigvals(np.asarray(jacobian))
    return values[np.lexsort((-values.imag, values.real))]


def measure(config: Config) -> Measured:
    """Measure eigenvalues, and how far four runs get."""
    found = {}
    for gamma in (0, 0.3):
        value = eigenvalues("minimax", gamma)[0]
        found[f"gamma = {gamma}: real part"] = value.real
        found[f"gamma = {gamma}: imaginary part"] = abs(value.imag)
    for gamma in (1, 2):
        small, large = eigenvalues("minimax", gamma)
        found[f"gamma = {gamma}: smaller eigenvalue"] = small.real
        found[f"gamma = {gamma}: larger eigenvalue"] = large.real
    value = eigenvalues("non_saturating", 0.3)[0]
    found["non-saturating, gamma = 0.3: real part"] = value.real
    value = eigenvalues("wasserstein", 0.3)[0]
    found["Wasserstein, gamma = 0.3: imaginary part"] = abs(value.imag)

    sgd, paths = optax.sgd(0.1), {}
    for words, gamma in (("no penalty", 0.0), ("gamma = 1", 1.0)):
        problem = gd.games.dirac_gan("minimax", gamma)
        for who, rule in (
            ("simultaneous", gd.simultaneous(sgd)),
            ("in turn", gd.alternating(sgd)),
        ):
            start = problem.init(None)
            path = iterates(problem.game, rule, start, config.num_steps)
            paths[f"{who}, {words}"] = path
            far = np.linalg.norm(path, axis=1) / np.linalg.norm(path[0])
            run = f"{who}, {words}, 500 steps of 0.1"
            if (who, gamma) == ("in turn", 0.0):
                over = "distance of the last 100 steps over the first"
                found[f"{run}: smallest {over}"] = far[-100:].min()
                found[f"{run}: largest {over}"] = far[-100:].max()
            else:
                found[f"{run}: distance over the first"] = far[-1]
    return Measured(found, paths)


def draw(paths):
    """Draw the paths of generator and discriminator."""
    figure, axes = panels(2)
    for axis, words in zip(axes, ("no penalty", "gamma = 1"), strict=True):
        for style, who in (("-", "simultaneous"), ("--", "in turn")):
            axis.plot(*paths[f"{who}, {words}"].T, style, lw=1, label=who)
        axis.plot(0, 0, "k+")
        axis.set_aspect("equal", "datalim")
        axis.set_title(f"Dirac-GAN, {words}", fontsize=9)
        axis.set_xlabel("generator theta", fontsize=9)
        axis.set_ylabel("discriminator psi", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[1].legend(fontsize=7)
    return figure
