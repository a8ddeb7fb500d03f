"""Extragradient anchored at its start.

EAG-C and EAG-V, and their relatives FEG (Lee and Kim 2021, arXiv:2106.02326), whose
bound is 4/k^2 and on xy an equality at k = 2, 6, 10, ..., and anchored Popov (Tran-Dinh
and Luo 2021, arXiv:2110.08150). Three settings: the game xy from (1, 0); the
ill-conditioned bilinear game x'diag(s)y of 200 singular values from 0.001 to 1, from a
normal start; and ten random monotone fields Az + b, A antisymmetric plus positive
semidefinite, of ten parameters. L is the norm of the field's matrix, D the distance of
the start from the solution. Extragradient takes steps of 1/(2L).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import flat, iterates, panels, scalars

STEPS = {
    "EAG-C": ("eag_c", 1 / 8),
    "EAG-V": ("eag_v", 0.618),
    "FEG": ("feg", 1.0),
    "anchored Popov": ("anchored_popov", 1 / 12**0.5),
}
BOUNDS = {
    "EAG-C": ("260/(k+1)^2", lambda k: 260 / (k + 1) ** 2),
    "EAG-V": ("27/((k+1)(k+2))", lambda k: 27 / ((k + 1) * (k + 2))),
    "FEG": ("4/k^2", lambda k: 4 / np.maximum(k, 1) ** 2),
}
"""Published, of |F(z_k)|^2 / (L D)^2, k = 1, 2, ..."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes: steps of extragradient on the ill-conditioned game, and on random ones."""

    num_steps: int = 2000
    random_steps: int = 300


SMALL = Config(num_steps=1000, random_steps=60)


def step_sizes(name: str, num_steps: int) -> tuple[np.ndarray, float]:
    """The first six for L = 1 and the last, read off the rule's state."""
    variant, first = STEPS[name]
    game = gd.zero_sum(lambda x, y: x * y)
    rule, start = gd.rules.make(variant, first), scalars(1.0, 0.0)

    def ratio(params, state, batches, step):
        del params, batches, step
        return state.ratio

    @jax.jit
    def run(start):
        few = gd.solve(game, rule, start, 6, record=ratio).trace
        return few, gd.solve(game, rule, start, num_steps).rule_state.ratio

    few, last = run(start)
    return first * np.asarray(few), first * float(last)


def affine(matrix: jax.Array, offset: jax.Array):
    """The field Az + b of two players with half of the parameters each."""

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
    for name in ("EAG-V", "anchored Popov"):
        few, last = step_sizes(name, 200_000)
        for k, step in enumerate(few):
            found[f"{name}, L = 1: step size {k}"] = step
        found[f"{name}, L = 1: step size 200000"] = last

    xy = gd.zero_sum(lambda x, y: x * y)
    for name, (rule, step) in STEPS.items():
        path = iterates(xy, gd.rules.make(rule, step), scalars(1.0, 0.0), 1000)
        for k in (1, 2):
            for axis, value in zip("xy", path[k], strict=True):
                found[f"{name} on xy: {axis} of z_{k}"] = value
        for k in (10, 100, 1000):
            found[f"{name} on xy: |z_{k}|"] = np.linalg.norm(path[k])
        if name == "FEG":
            squares = (path[1:] ** 2).sum(axis=1) * np.arange(1, 1001) ** 2 / 4
            found["FEG on xy: largest |F|^2/(L D)^2 over 4/k^2"] = squares.max()

    values = np.geomspace(1e-3, 1, 200)
    game = gd.games.bilinear(jnp.diag(jnp.asarray(values))).game
    z = np.random.default_rng(0).normal(size=400)
    start = jnp.asarray(z[:200]), jnp.asarray(z[200:])
    rules = {name: gd.rules.make(*STEPS[name]) for name in BOUNDS}
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

    for name, (words, bound) in BOUNDS.items():
        ratio = (lines[name][1:] / bound(k[1:])).max()
        over = f"largest |F|^2/(L D)^2 over {words}"
        found[f"{name}, ill-conditioned: {over}"] = ratio
        worst = used_on_random(name, config.random_steps)
        found[f"{name}, 10 random monotone games: {over}"] = worst
    return Measured(found, lines)


def used_on_random(name: str, num_steps: int) -> float:
    """The largest share of the bound that runs on ten random fields need."""
    variant, step = STEPS[name]
    matrices, offsets = map(
        np.stack, zip(*map(random_monotone, range(10)), strict=True)
    )
    lipschitz = np.linalg.norm(matrices, 2, axis=(1, 2))
    distances = np.linalg.norm(np.linalg.solve(matrices, offsets[:, :, None]), axis=1)

    def squares(game):
        matrix, offset, h = game
        field = affine(matrix, offset)
        solution = gd.solve(
            field,
            gd.rules.make(variant, h),
            (jnp.zeros(5), jnp.zeros(5)),
            num_steps + 1,
            record=lambda params, *_: jnp.sum(flat(field(params)) ** 2),
        )
        return solution.trace

    games = jax.tree.map(jnp.asarray, (matrices, offsets, step / lipschitz))
    slopes = np.asarray(jax.jit(lambda games: gd.sweep(squares, games))(games))
    shares = slopes / (lipschitz[:, None] * distances) ** 2
    return float((shares[:, 1:] / BOUNDS[name][1](np.arange(1, num_steps + 1))).max())


def draw(lines):
    """Draw squared norms of F on the ill-conditioned game, and the two bounds."""
    figure, (axis,) = panels(1, 6.0, 3.6)
    k = np.arange(1, len(next(iter(lines.values()))))
    drawn = {name: (k, line[1:]) for name, line in lines.items()}
    drawn |= {f"bound of {name}": (k, bound(k)) for name, (_, bound) in BOUNDS.items()}
    plot(
        axis,
        drawn,
        xlabel="steps k",
        ylabel="|F(z_k)|² / (L D)²",
        title="x'diag(s)y, 200 singular values from 0.001 to 1",
        scale=("log", "log"),
    )
    return figure
