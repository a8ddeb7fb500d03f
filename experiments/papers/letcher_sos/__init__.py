"""Stable opponent shaping in the tandem game and the iterated prisoner's dilemma.

As published: tandem, 100 runs of 30 epochs from N(0, 0.01), all step sizes 0.1; the
dilemma with a discount of 0.96, 50 runs of 100 epochs from N(0, 1), step sizes 1, and
the mean over runs and players of (1 - 0.96) times the loss. a = 0.5, b = 0.1.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import panels

METHODS = {
    "simultaneous": lambda game, step: gd.fields.gradient(game),
    "look-ahead": gd.fields.opponent_lookahead,
    "LOLA": gd.fields.lola,
    "stable opponent shaping": gd.fields.stable_opponent_shaping,
}
SURE = 20.0  # a logit
# Cooperating at first, and after CC, CD, DC, DD, the first player's action first.
PAIRS = {
    "tit for tat": ((1, 1, -1, 1, -1), (1, 1, 1, -1, -1)),
    "all defect": ((-1,) * 5, (-1,) * 5),
    "uniform": ((0,) * 5, (0,) * 5),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """How many runs of each game are made, and by which methods in the dilemma."""

    tandem_runs: int = 100
    dilemma_runs: int = 50
    dilemma_methods: tuple[str, ...] = tuple(METHODS)


SMALL = Config(dilemma_methods=("stable opponent shaping",))


def play(game, field, starts, step: float, epochs: int):
    """Run a method from many starts; give all points, shape (runs, epochs + 1, d)."""
    rule = gd.simultaneous(optax.sgd(step))

    def run(start):
        solution = gd.solve(
            field, rule, start, epochs, record=lambda params, *_: params
        )
        return jax.tree.map(
            lambda rows, last: jnp.concatenate([rows, last[None]]),
            solution.trace,
            solution.params,
        )

    def losses(point):
        return jnp.stack(game(point, None))

    @jax.jit
    def everything(starts):
        points = gd.sweep(run, starts)
        return points, jax.vmap(jax.vmap(losses))(points)

    return everything(starts)


def measure(config: Config) -> Measured:
    """Measure ends in the tandem game, and losses over epochs in the dilemma."""
    found, lines = {}, {"tandem": {}, "dilemma": {}}
    problem, keys = gd.games.tandem(), jax.random.split(jax.random.key(0), 4)
    starts = tuple(
        0.1 * jax.random.normal(key, (config.tandem_runs,)) for key in keys[:2]
    )
    for name, field in METHODS.items():
        points, losses = play(problem.game, field(problem.game, 0.1), starts, 0.1, 30)
        lines["tandem"][name] = np.asarray(losses.sum(axis=2).mean(axis=0))
        total = f"tandem, {name}: mean x + y after 30 epochs"
        found[total] = float((points[0] + points[1])[:, -1].mean())
        words = f"tandem, {name}: mean total loss after 30 epochs"
        found[words] = float(lines["tandem"][name][-1])
    # The LOLA field is linear in x + y, and the same for both.
    lola = jax.jit(gd.fields.lola(problem.game, 0.1))
    at = [float(lola((jnp.array(s), jnp.array(0.0)))[0]) for s in (0.0, 1.0)]
    found["tandem, LOLA: fixed line, x + y"] = at[0] / (at[0] - at[1])

    problem = gd.games.iterated_prisoners_dilemma(0.96)
    losses_of = jax.jit(lambda policies: problem.game(policies, None))
    for words, pair in PAIRS.items():
        policies = tuple(SURE * jnp.asarray(signs, float) for signs in pair)
        loss = 0.04 * max(map(float, losses_of(policies)))
        found[f"dilemma, {words}: loss of a round"] = loss
    starts = tuple(jax.random.normal(key, (config.dilemma_runs, 5)) for key in keys[2:])
    for name in config.dilemma_methods:
        field = METHODS[name]
        _, losses = play(problem.game, field(problem.game, 1.0), starts, 1.0, 100)
        line = 0.04 * np.asarray(losses.mean(axis=(0, 2)))
        lines["dilemma"][name] = line
        found[f"dilemma, {name}: mean loss after 100 epochs"] = line[-1]
    return Measured(found, lines)


def draw(lines):
    """Draw mean losses over epochs."""
    figure, axes = panels(2)
    titles = {"tandem": "tandem: total loss", "dilemma": "dilemma: loss of a round"}
    for axis, (game, each) in zip(axes, lines.items(), strict=True):
        labels = {"xlabel": "epochs", "ylabel": "mean over runs"}
        plot(axis, each, **labels, title=titles[game], scale=("linear", "linear"))
    axes[0].set_ylim(-0.6, 1.2)
    return figure
