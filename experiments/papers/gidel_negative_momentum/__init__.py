"""Negative momentum on bilinear games.

Heavy balls m' = b m + F, z' = z - h m', all at once or in turn, on the game xy, where
s_min = s_max = 1. The bound is held against radii at twenty steps h between 0.05 and 1;
simultaneous descent is tried with every pair of nineteen momenta and seven steps.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import iterates, panels, radius, scalars


@dataclasses.dataclass(frozen=True)
class Config:
    """How many steps the runs in the picture take."""

    num_steps: int = 200


SMALL = Config()


def in_turn(h: float, first: float, second: float) -> gd.Rule:
    """Heavy balls of momenta for both players, who move in turn."""
    balls = (
        gd.transformations.negative_momentum(h, momentum=m) if m else optax.sgd(h)
        for m in (first, second)
    )
    return gd.alternating(*balls)


def heavy_ball_radii(game, rule_of, points) -> np.ndarray:
    """Radii of a rule on a linear game for many parameters, in one compiled program.

    The update is linear, so its matrix is read off the images of the unit vectors.
    """

    def matrix(parameters):
        rule = rule_of(*parameters)
        zero = scalars(0.0, 0.0)
        start, rebuild = jax.flatten_util.ravel_pytree((zero, rule.init(zero)))

        def step(vector):
            params, state = rebuild(vector)
            after = rule.update(gd.fields.gradient(game), params, state, (None,))
            return jax.flatten_util.ravel_pytree(after)[0]

        return jax.vmap(step)(jnp.eye(len(start))).T

    matrices = jax.jit(lambda p: gd.sweep(matrix, p))(points)
    return np.abs(np.linalg.eigvals(np.asarray(matrices))).max(axis=1)


def measure(config: Config) -> Measured:
    """Measure radii of heavy balls, and where twenty steps lead."""
    game, zero = gd.zero_sum(lambda x, y: x * y), scalars(0.0, 0.0)
    found = {}
    for h, momenta in (
        (0.1, ((0, 0), (-0.5, 0), (-0.5, -0.5))),
        (0.5, ((-0.5, 0), (-0.5, -0.5))),
        (1, ((-0.5, 0), (-0.5, -0.5))),
    ):
        for pair in momenta:
            value = radius(game, in_turn(h, *pair), zero)
            words = {
                (0, 0): "no momentum",
                (-0.5, 0): "momenta (-1/2, 0)",
                (-0.5, -0.5): "momenta (-1/2, -1/2)",
            }[pair]
            found[f"in turn, {words}, h = {h}: radius"] = value
    squared = found.pop("in turn, momenta (-1/2, 0), h = 1: radius") ** 2
    found["in turn, momenta (-1/2, 0), h = 1: squared radius"] = squared

    steps = np.linspace(0.05, 1, 20)
    radii = heavy_ball_radii(game, lambda h: in_turn(h, -0.5, 0), (jnp.array(steps),))
    ratio = (radii**2 / np.maximum(0.5, 1 - steps**2 / 16)).max()
    one = "in turn, momenta (-1/2, 0)"
    found[f"{one}: largest ratio of the squared radius to the bound"] = ratio

    betas = np.linspace(-0.9, 0.9, 19)
    grid = np.array([(h, b) for h in np.geomspace(1e-3, 1, 7) for b in betas])
    together = heavy_ball_radii(
        game,
        lambda h, b: gd.simultaneous(optax.sgd(h, momentum=b)),
        tuple(jnp.array(column) for column in grid.T),
    )
    name = "momenta from -0.9 to 0.9 and steps from 0.001 to 1"
    found[f"simultaneous: smallest radius over {name}"] = together.min()

    points = iterates(game, in_turn(0.5, -0.5, 0), scalars(1.0, 1.0), 20)
    for axis, value in zip("xy", points[-1], strict=True):
        found[f"{one}, h = 0.5, from (1, 1): {axis} after 20 steps"] = value

    cases = {
        "all at once": gd.simultaneous(optax.sgd(0.2)),
        "all at once, momentum -1/2": gd.simultaneous(optax.sgd(0.2, momentum=-0.5)),
        "in turn": in_turn(0.2, 0, 0),
        "in turn, momenta (-1/2, 0)": in_turn(0.2, -0.5, 0),
    }
    lines = {
        name: np.linalg.norm(
            iterates(game, rule, scalars(1.0, 1.0), config.num_steps), axis=1
        )
        for name, rule in cases.items()
    }
    return Measured(found, (lines, steps, radii))


def draw(curves):
    """Draw distances of four runs, and the squared radius below its bound."""
    lines, steps, radii = curves
    figure, (left, right) = panels(2)
    plot(left, lines, xlabel="steps", ylabel="distance from 0", title="xy, h = 0.2")
    both = {
        "squared radius": (steps, radii**2),
        "bound": (steps, np.maximum(0.5, 1 - steps**2 / 16)),
    }
    plot(
        right,
        both,
        xlabel="step size h",
        ylabel="factor of the squared distance",
        title="in turn, momenta (-1/2, 0)",
        scale=("linear", "linear"),
    )
    return figure
