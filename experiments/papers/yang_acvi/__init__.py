"""An interior-point method against projected ones.

Four games: a rotation on the quadrant, the ratio game on [0, 1]^2, Forsaken on the disc
of radius 2, and the GAN of a variance, on the disc of radius 2. 49 steps each: ACVI
with 1/beta = 12.5, a barrier of 1e-5 halved for 20 steps and constant for 29; projected
descent, extragradient, optimistic descent and lookahead (four steps, half of the way)
with steps of 0.1. The library's domains belong to one player each, so projected methods
have the box [-2, 2]^2 around the disc. Distances are to the nearest solution.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import flat, iterates, panels


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps are taken."""

    num_steps: int = 49


SMALL = Config()


def quadrant(params):
    """x, y >= 0."""
    return -jnp.stack(params)


def square(params):
    """0 <= x, y <= 1."""
    z = jnp.stack(params)
    return jnp.concatenate([-z, z - 1])


def disc(params):
    """x^2 + y^2 <= 4."""
    x, y = params
    return x**2 + y**2 - 4


def games():
    """Each game's problem, domain of the projected methods, and constraints."""
    box = gd.geometry.box(-2.0, 2.0)
    rotation, ratio = gd.games.constrained_bilinear(), gd.games.ratio_game()
    forsaken, variance = gd.games.forsaken(), gd.games.variance_gan()
    return {
        "constrained bilinear": (rotation, rotation.geometry, quadrant),
        "ratio": (ratio, ratio.geometry, square),
        "Forsaken": (forsaken, box, disc),
        "variance GAN": (variance, box, disc),
    }


def methods(domain):
    """The projected methods."""
    sgd = optax.sgd(0.1)
    descent = gd.simultaneous(sgd, geometry=domain)
    return {
        "projected descent": descent,
        "extragradient": gd.extragradient(sgd, geometry=domain),
        "optimistic": gd.optimistic(sgd, geometry=domain),
        "lookahead": gd.lookahead(descent, period=4, strength=0.5),
    }


def measure(config: Config) -> Measured:
    """Measure the distances from the solution after 49 steps."""
    found, lines = {}, {}
    for game, (problem, domain, constraints) in games().items():
        interior = gd.rules.interior_point(12.5, constraints=constraints)
        goals = np.array([flat(solution) for solution in problem.solutions])
        lines[game] = {}
        for name, rule in {"interior point": interior, **methods(domain)}.items():
            path = iterates(problem.game, rule, problem.init(None), config.num_steps)
            far = np.linalg.norm(path[:, None] - goals[None], axis=2).min(axis=1)
            lines[game][name] = far
        ends = {name: line[-1] for name, line in lines[game].items()}
        own = ends.pop("interior point")
        words = "distance of the interior-point method after 49 steps"
        found[f"{game}: {words}"] = own
        words = "distance of the best projected method over that of the interior-point"
        found[f"{game}: {words} method"] = min(ends.values()) / max(own, 1e-16)
        if game == "constrained bilinear":
            words = "smallest distance of a projected method after 49 steps"
            found[f"{game}: {words}"] = min(ends.values())
    return Measured(found, lines)


def draw(lines):
    """Draw distances over steps."""
    figure, axes = panels(4, 2.9, 2.9)
    for axis, (game, each) in zip(axes, lines.items(), strict=True):
        each = {name: np.maximum(line, 1e-12) for name, line in each.items()}
        plot(axis, each, xlabel="steps", ylabel="", title=game)
    axes[0].set_ylabel("distance from the nearest solution", fontsize=9)
    for axis in axes[1:]:
        axis.get_legend().remove()
    return figure
