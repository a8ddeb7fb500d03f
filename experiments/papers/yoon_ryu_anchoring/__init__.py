"""Extragradient anchored at its start.

Three settings: the game xy from (1, 0); the ill-conditioned bilinear game
x'diag(s)y of 200 singular values from 0.001 to 1, from a normal start; and ten random
monotone fields Az + b, A antisymmetric plus positive semidefinite, of ten parameters. L
is the norm of the field's matrix, D the distance of the start from the solution.
Extragradient takes steps of 1/(2L).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import iterates, panels, scalars

STEPS = {"EAG-C": ("eag_c", 1 / 8), "EAG-V": ("eag_v", 0.618)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes: steps of extragradient on the ill-conditioned game, and on random ones."""

    num_steps: int = 2000
    random_steps: int = 300


SMALL = Config(num_steps=1000, random_steps=60)


def bounds(name: str, k: np.ndarray) -> np.ndarray:
    """The published bound of |F(z_k)|^2 / (L D)^2."""
    return 260 / (k + 1) ** 2 if name == "EAG-C" else 27 / ((k + 1) * (k + 2))


def step_sizes(count: int) -> list[float]:
    """Those of EAG-V for L = 1, read off the rule's state."""
    rule, params = gd.rules.make("eag_v", 0.618), scalars(1.0, 0.0)
    field = gd.fields.gradient(gd.zero_sum(lambda x, y: x * y))
    state, found = rule.init(params), []
    update = jax.jit(lambda p, s: rule.update(field, p, s, (None,)))
    for _ in range(count):
        found.append(0.618 * float(state.ratio))
        params, state = update(params, state)
    return found


def affine(matrix: np.ndarray, offset: np.ndarray):
    """The field Az + b of two players with half of the parameters each."""
    matrix, offset = jnp.asarray(matrix), jnp.asarray(offset)

    def field(params, batch=None):
        del batch
        return tuple(jnp.split(matrix @ jnp.concatenate(params) + offset, 2))

    return field


def random_monotone(seed: int, size: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """A monotone matrix, sometimes singular in its symmetric part, and an offset."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, size, size))
    b[:, : seed % size] = 0
    return a - a.T + 0.1 * b @ b.T, random.normal(size=size)


def measure(config: Config) -> Measured:
    """Measure steps, iterates, and how much of the bounds is used."""
    found = {}
    for k, step in enumerate(step_sizes(6)):
        found[f"EAG-V, L = 1: step size {k}"] = step

    xy = gd.zero_sum(lambda x, y: x * y)
    for name, (rule, step) in STEPS.items():
        path = iterates(xy, gd.rules.make(rule, step), scalars(1.0, 0.0), 1000)
        for k in (1, 2):
            for axis, value in zip("xy", path[k], strict=True):
                found[f"{name} on xy: {axis} of z_{k}"] = value
        for k in (10, 100, 1000):
            found[f"{name} on xy: |z_{k}|"] = np.linalg.norm(path[k])

    values = np.geomspace(1e-3, 1, 200)
    game = gd.games.bilinear(jnp.diag(jnp.asarray(values))).game
    z = np.random.default_rng(0).normal(size=400)
    start = jnp.asarray(z[:200]), jnp.asarray(z[200:])
    rules = {name: gd.rules.make(*pair) for name, pair in STEPS.items()}
    rules["extragradient"] = gd.extragradient(optax.sgd(0.5))
    lines = {}
    for name, rule in rules.items():
        path = iterates(game, rule, start, config.num_steps)
        squares = (path * np.tile(values, 2)) ** 2  # |F| = |diag(s) z|
        lines[name] = squares.sum(axis=1) / (z @ z)
        for k in (10, 100, 1000):
            words = f"{name}, ill-conditioned: |F|^2/|z_0|^2 at k = {k}"
            found[words] = lines[name][k]
    k = np.arange(config.num_steps + 1)
    if config.num_steps >= 2000:
        largest = (k**2 * lines["extragradient"])[:2000].max()  # it still grows
        words = "largest k^2 |F|^2/(L D)^2 of the 2000 points z_0 to z_1999"
        found[f"extragradient, ill-conditioned: {words}"] = largest

    words = {"EAG-C": "260/(k+1)^2", "EAG-V": "27/((k+1)(k+2))"}
    for name in STEPS:
        ratio = (lines[name] / bounds(name, k)).max()
        over = f"largest |F|^2/(L D)^2 over {words[name]}"
        found[f"{name}, ill-conditioned: {over}"] = ratio
        worst = max(used_on_random(name, seed, config.random_steps) for seed in SEEDS)
        found[f"{name}, 10 random monotone games: {over}"] = worst
    return Measured(found, lines)


SEEDS = range(10)


def used_on_random(name: str, seed: int, num_steps: int) -> float:
    """The largest share of the bound that a run on a random field needs."""
    matrix, offset = random_monotone(seed)
    lipschitz = np.linalg.norm(matrix, 2)
    rule, step = STEPS[name]
    start = jnp.zeros(5), jnp.zeros(5)
    path = iterates(
        affine(matrix, offset), gd.rules.make(rule, step / lipschitz), start, num_steps
    )
    squares = ((path @ matrix.T + offset) ** 2).sum(axis=1)
    distance = np.linalg.norm(np.linalg.solve(matrix, offset))
    share = squares / (lipschitz * distance) ** 2
    return float((share / bounds(name, np.arange(num_steps + 1))).max())


def draw(lines):
    """Draw squared norms of F on the ill-conditioned game, and the two bounds."""
    figure, (axis,) = panels(1, 6.0, 3.6)
    k = np.arange(1, len(next(iter(lines.values()))))
    drawn = {name: (k, line[1:]) for name, line in lines.items()}
    drawn |= {f"bound of {name}": (k, bounds(name, k)) for name in STEPS}
    plot(
        axis,
        drawn,
        xlabel="steps k",
        ylabel="|F(z_k)|² / (L D)²",
        title="x'diag(s)y, 200 singular values from 0.001 to 1",
        scale=("log", "log"),
    )
    return figure
