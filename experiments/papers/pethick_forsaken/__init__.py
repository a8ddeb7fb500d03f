"""Forsaken: an attracting solution that extragradient does not find.

Forsaken from (0.5, 0.5): extragradient with steps of 0.1, EG+ with steps of 0.1 and
0.05, and CurvatureEG+, whose look-ahead step is searched from 1 downwards, with
delta = -gamma/2.5. GlobalForsaken from (1, 1), EG+ with steps of 0.1 and 0.05. 20000
steps each.
"""

import dataclasses

import numpy as np

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import flat, iterates, panels


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps are taken."""

    num_steps: int = 20_000


SMALL = Config()


def measure(config: Config) -> Measured:
    """Measure the distances from the solution at the end."""
    problem, found, paths = gd.games.forsaken(), {}, {}
    solution = problem.solutions[0]
    jacobian = np.asarray(gd.analysis.game_jacobian(problem.game, solution))
    smallest = np.linalg.eigvals(jacobian).real.min()
    found["smallest real part of the eigenvalues of J"] = smallest
    rules = {
        "extragradient": gd.rules.make("extragradient", 0.1),
        "EG+": gd.rules.make("extragradient_plus", 0.1),
        "CurvatureEG+": gd.rules.make(
            "curvature_extragradient_plus", 1.0, weak_minty=-0.4
        ),
    }
    goal, steps = np.asarray(flat(solution)), config.num_steps
    for name, rule in rules.items():
        path = iterates(problem.game, rule, problem.init(None), steps)
        paths[name] = path
        far = np.linalg.norm(path - goal, axis=1)
        if name == "CurvatureEG+":
            found[f"{name}, {steps} steps: distance"] = far[-1]
        else:
            words = f"{name}, last 1000 of {steps} steps: smallest distance"
            found[words] = far[-1000:].min()
    easy = gd.games.global_forsaken()
    path = iterates(easy.game, rules["EG+"], easy.init(None), steps)
    end = np.linalg.norm(path[-1])
    found[f"GlobalForsaken, EG+, {steps} steps: distance"] = end
    return Measured(found, (paths, goal, path))


def draw(curves):
    """Draw the paths: the last ones of those that cycle, all of those that do not."""
    paths, goal, other = curves
    figure, (left, right) = panels(2)
    for number, (name, path) in enumerate(paths.items()):
        shown = path[:400] if name == "CurvatureEG+" else path[-1000:]
        left.plot(*shown.T, lw=1, ls=("-", "--", "-")[number], label=name)
    left.plot(*goal, "k+")
    left.set_title("Forsaken", fontsize=9)
    right.plot(*other[:1000].T, lw=1, color="C1", label="EG+")
    right.plot(0, 0, "k+")
    right.set_title("GlobalForsaken", fontsize=9)
    for axis in (left, right):
        axis.set_aspect("equal", "datalim")
        axis.set_xlabel("x", fontsize=9)
        axis.set_ylabel("y", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, loc="center", bbox_to_anchor=(0.5, 0.3))
    return figure
