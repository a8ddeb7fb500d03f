"""Symplectic gradient adjustment in a rotation of four players.

The losses are e w_i^2/2 + w_i (sum of later players - sum of earlier ones), e = 0.01.
Radii are those of the rules' update maps at 0; best steps are searched between 0.01
and 0.5. For e = -0.01, where 0 repels, the adjustment starts from (1, 1, 1, 1), with
lambda = 1 fixed, or with its sign aligned by the published rule at an alignment of 0.
"""

import dataclasses

import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import iterates, panels, radius


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps the runs in the picture take, and the step sizes of the table."""

    num_steps: int = 1000
    step_sizes: tuple[float, ...] = (0.1, 0.4)


SMALL = Config(num_steps=200, step_sizes=(0.1,))


def best_step(modes: np.ndarray, factor) -> float:
    """The step with the smallest radius, by the factor of every mode."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda h: np.abs(factor(h, modes)).max(),
        bounds=(0.01, 0.5),
        options={"xatol": 1e-9},
    )
    return float(found.x)


def symplectic_factor(h, modes):
    """1 - h (m + (conj m - m)/2 m): J is normal, its modes m = e + i s."""
    return 1 - h * (modes + (modes.conj() - modes) / 2 * modes)


def optimistic_factor(h, modes):
    """Roots of z^2 = z - 2 h m z + h m."""
    return np.array([np.roots([1, 2 * h * m - 1, -h * m]) for m in modes])


def measure(config: Config) -> Measured:
    """Measure eigenvalues and radii, and run the repelling game."""
    problem = gd.games.symplectic_four_player(0.01)
    game, zero = problem.game, problem.solutions[0]
    jacobian = np.asarray(gd.analysis.game_jacobian(game, zero))
    modes = np.linalg.eigvals(jacobian)
    worst = max(abs(modes.real - 0.01))
    large, small = np.sort(abs(modes.imag))[[-1, 0]]
    found = {
        "epsilon = 0.01: real part of all eigenvalues": 0.01 + worst,
        "epsilon = 0.01: larger imaginary part": large,
        "epsilon = 0.01: smaller imaginary part": small,
    }
    adjusted = gd.fields.symplectic(game, alignment=None)
    methods = {
        "simultaneous": (game, lambda h: gd.simultaneous(optax.sgd(h))),
        "extragradient": (game, lambda h: gd.extragradient(optax.sgd(h))),
        "optimistic": (game, lambda h: gd.optimistic(optax.sgd(h))),
        "symplectic": (adjusted, lambda h: gd.simultaneous(optax.sgd(h))),
    }
    for name, (field, rule) in methods.items():
        for h in config.step_sizes:
            found[f"{name}, h = {h}: radius"] = radius(field, rule(h), zero)
    best = {
        "symplectic": best_step(modes, symplectic_factor),
        "optimistic": best_step(modes, optimistic_factor),
    }
    radii = {
        name: radius(methods[name][0], methods[name][1](h), zero)
        for name, h in best.items()
    }
    found["symplectic, best step: radius"] = radii["symplectic"]
    found["symplectic, best step: step size"] = best["symplectic"]
    step = gd.simultaneous(optax.sgd(0.285536))
    found["symplectic, h = 0.285536: radius"] = radius(adjusted, step, zero)
    ratio = np.log(radii["symplectic"]) / np.log(radii["optimistic"])
    found["log radius at the best step, symplectic over optimistic"] = ratio

    lines = {}
    for name, h in {"simultaneous": 0.1, "extragradient": 0.4, **best}.items():
        field, rule = methods[name]
        points = iterates(field, rule(h), problem.init(None), config.num_steps)
        lines[f"{name}, h = {h:.3g}"] = np.linalg.norm(points, axis=1) / 2

    repelling = gd.games.symplectic_four_player(-0.01)
    plain, start = gd.simultaneous(optax.sgd(0.1)), repelling.init(None)
    for words, alignment, steps in (("fixed sign", None, 2000), ("aligned", 0.0, 100)):
        field = gd.fields.symplectic(repelling.game, alignment=alignment)
        points = iterates(field, plain, start, steps)
        name = f"epsilon = -0.01, h = 0.1, {words}, {steps} steps"
        found[f"{name}: distance from 0 over the first"] = (
            np.linalg.norm(points[-1]) / 2
        )
    return Measured(found, lines)


def draw(lines):
    """Draw distances over steps."""
    figure, (axis,) = panels(1, 6.0, 3.6)
    plot(
        axis,
        {
            name: np.where(line < 1e3, np.maximum(line, 1e-16), np.nan)
            for name, line in lines.items()
        },
        xlabel="steps",
        ylabel="distance / first distance",
        title="four players, epsilon = 0.01",
    )
    return figure
