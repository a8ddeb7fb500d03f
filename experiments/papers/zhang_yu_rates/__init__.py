"""The best rates of first-order methods on bilinear games.

Games x'diag(s)y with s in [1, kappa]. Every radius is that of the rule's own update
map, its memory included. The extragradient limit is taken at an update step of 1e-5.
Where no formula is known, optimistic steps of free weights (simultaneous) and heavy
balls of free momenta (in turn), the best parameters are searched on the characteristic
polynomials and then handed to the rule: upper bounds of the optimum.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import iterates, panels, radius


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps the runs take, and which kappa have a row."""

    num_steps: int = 120
    kappas: tuple[int, ...] = (2, 10)


SMALL = Config(kappas=(2,))


def bilinear(kappa: float):
    """Singular values 1, (1 + kappa)/2, kappa."""
    return gd.games.bilinear(jnp.diag(jnp.linspace(1.0, kappa, 3)))


def two_steps(kappa: float, update: float = 1e-5) -> gd.Rule:
    """Extragradient whose two step sizes have the best product."""
    ahead = 2 / (1 + kappa**2) / update
    return gd.extragradient(optax.sgd(update), extrapolation=optax.sgd(ahead))


def optimistic_in_turn(kappa: float) -> gd.Rule:
    """The step sqrt(2)/kappa, and its published past weight."""
    step, past = 2**0.5 / kappa, 2**0.5 * kappa / (1 + kappa**2)
    return gd.rules.make("alternating_optimistic", step, ratio=past / step)


def worst_optimistic(weights) -> float:
    """The radius over s in [1, 2] of z' = z - (a + b) F + b F_before."""
    a, b = weights
    modes = np.linspace(1, 2, 41)
    roots = [np.roots([1, -(1 - 1j * (a + b) * s), -1j * b * s]) for s in modes]
    return np.abs(roots).max()


def worst_heavy_ball(weights) -> float:
    """The radius over s in [1, 2] of heavy balls in turn."""
    step, first, second = weights
    moduli = []
    for a in step * np.linspace(1, 2, 21):
        x = np.array([1 + first, -a, -first, 0])  # of (x, y, x-, y-)
        y = a * x + np.array([0, 1 + second, 0, -second])
        moduli += [np.linalg.eigvals([x, y, [1, 0, 0, 0], [0, 1, 0, 0]])]
    return np.abs(moduli).max()


def measure(config: Config) -> Measured:
    """Measure radii at the published and at the searched parameters."""
    from scipy.optimize import minimize, minimize_scalar

    found, rules = {}, {}
    for kappa in config.kappas:
        game, zero = (p := bilinear(kappa)).game, p.solutions[0]
        hamiltonian = gd.fields.hamiltonian(game)
        plain = gd.simultaneous(optax.sgd(2 / (1 + kappa**2)))
        cases = {
            "extragradient with two step sizes": (game, two_steps(kappa)),
            "Hamiltonian": (hamiltonian, plain),
            "optimistic in turn": (game, optimistic_in_turn(kappa)),
        }
        for name, (field, rule) in cases.items():
            found[f"{name}, kappa = {kappa}: radius"] = radius(field, rule, zero)
        rules = rules or cases

    problem = bilinear(2)
    equal = minimize_scalar(
        lambda h: worst_optimistic((h, h)), bounds=(0.05, 0.3), options={"xatol": 1e-8}
    )
    free = minimize(
        worst_optimistic, (0.3, 0.3), method="Nelder-Mead", options={"xatol": 1e-7}
    )
    ball = minimize(
        worst_heavy_ball,
        (0.9, -0.5, 0.2),
        method="Nelder-Mead",
        options={"maxiter": 400, "xatol": 1e-6, "fatol": 1e-9},
    )
    (a, b), (step, first, second) = free.x, ball.x
    searched = {
        "optimistic descent, best step": gd.optimistic(optax.sgd(float(equal.x))),
        "generalised optimistic, searched": gd.rules.make(
            "generalised_optimistic", float(a), ratio=float(b / a)
        ),
        "heavy ball in turn, searched": gd.alternating(
            optax.sgd(float(step), momentum=float(first)),
            optax.sgd(float(step), momentum=float(second)),
        ),
    }
    for name, rule in searched.items():
        value = radius(problem.game, rule, problem.solutions[0])
        found[f"{name}, kappa = 2: radius"] = value
        rules[name] = problem.game, rule
    best = "optimistic descent, best step, kappa = 2: radius"
    found[f"{best} / (1 - 1/(6 kappa^2))"] = found[best] / (1 - 1 / 24)

    lines = {}
    for name, (field, rule) in rules.items():
        points = iterates(field, rule, problem.init(None), config.num_steps)
        lines[name] = np.linalg.norm(points, axis=1) / np.linalg.norm(points[0])
    run = lines["optimistic in turn"]
    factor = (run[-1] / run[40]) ** (1 / (config.num_steps - 40))
    found["optimistic in turn, kappa = 2: factor per step of a run"] = factor
    return Measured(found, lines)


def draw(lines):
    """Draw the distance to the solution over steps."""
    figure, (axis,) = panels(1, 6.5, 3.6)
    lines = {name: np.maximum(line, 1e-17) for name, line in lines.items()}
    title = "x'diag(s)y, s in [1, 2]: best parameters of each method"
    plot(axis, lines, xlabel="steps", ylabel="distance / first distance", title=title)
    return figure
