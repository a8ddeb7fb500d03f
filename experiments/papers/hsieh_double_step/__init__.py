"""Extragradient that explores with long steps and moves with short ones.

Two random games of 50 parameters for each player, from (1, ..., 1): bilinear with
singular values in [1, 2], and quadratic-bilinear, whose own Hessians have eigenvalues
in [1, 2] besides. The field is observed with noise N(0, 0.25 I), afresh in each
evaluation; 10000 steps, means of ten runs. Steps, t = 0, 1, ...: double step size,
look-ahead 1, update 2/(t+20); one step size, 2/(t+20) for both; Hamiltonian, 2/(t+20)
on two independent samples; anchored, 0.3/t^0.7 with a pull of 0.3/t^0.9. On the second
game, whose L is 2.7, the first and the last of them, and a look-ahead step of 0.3, less
than 1/L. The exponent is that of the mean squared distance between steps 1000 and
10000.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.papers.page import Measured
from experiments.papers.tools import curves as plot
from experiments.papers.tools import flat, panels

NOISE = 0.5


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes: steps, runs, parameters of each player, which games."""

    num_steps: int = 10_000
    runs: int = 10
    dim: int = 50
    games: tuple[str, ...] = ("bilinear", "quadratic-bilinear")


SMALL = Config(num_steps=2000, runs=4, dim=8, games=("bilinear",))


def schedule(count):
    """2 / (t + 20)."""
    return 2 / (count.astype(float) + 20)


def double_step(ahead: float) -> gd.Rule:
    """Look ahead with a constant step, move with a decreasing one."""
    return gd.extragradient(
        optax.sgd(schedule), extrapolation=optax.sgd(ahead), resample=True
    )


RULES = {
    "double step size": lambda: double_step(1.0),
    "one step size": lambda: gd.extragradient(
        optax.sgd(schedule), extrapolation=optax.sgd(schedule), resample=True
    ),
    "Hamiltonian": lambda: gd.rules.stochastic_hamiltonian(optax.sgd(schedule)),
    "anchored": lambda: gd.rules.make("anchored_descent", 0.3),
}


def games(dim: int) -> dict[str, gd.games.Problem]:
    """The two games; their matrices have evenly spaced spectra in [1, 2]."""
    random = np.random.default_rng(0)
    left, right = np.linalg.qr(random.normal(size=(2, dim, dim)))[0]
    matrix = jnp.asarray((left * np.linspace(1, 2, dim)) @ right.T)
    return {
        "bilinear": gd.games.bilinear(matrix),
        "quadratic-bilinear": gd.games.quadratic_bilinear(dim, mu=1.0, smoothness=2.0),
    }


def mean_squares(problem, rule, config: Config) -> np.ndarray:
    """Mean squared distances from 0, at 100 times."""
    field = gd.fields.noisy(gd.fields.gradient(problem.game), NOISE)
    ones = jnp.ones(config.dim)

    def run(seed):
        solution = gd.solve(
            field,
            rule,
            (ones, ones),
            config.num_steps,
            key=jax.random.key(seed),
            record=lambda params, *_: jnp.sum(flat(params) ** 2),
            every=config.num_steps // 100,
        )
        return jnp.append(solution.trace, jnp.sum(flat(solution.params) ** 2))

    squares = jax.jit(lambda seeds: gd.sweep(run, seeds))(jnp.arange(config.runs))
    return np.asarray(squares).mean(axis=0)


def measure(config: Config) -> Measured:
    """Measure mean squared distances of four methods on two games."""
    found: dict[str, float] = {}
    lines = {
        game: {
            name: mean_squares(problem, RULES[name](), config)
            for name in (
                RULES if game == "bilinear" else ("double step size", "anchored")
            )
        }
        for game, problem in games(config.dim).items()
        if game in config.games
    }
    if "quadratic-bilinear" in lines:
        line = mean_squares(
            games(config.dim)["quadratic-bilinear"], double_step(0.3), config
        )
        lines["quadratic-bilinear"]["look-ahead 0.3"] = line
        words = "squared distance at the end, look-ahead step 0.3, over anchored"
        anchored = lines["quadratic-bilinear"]["anchored"]
        found[f"quadratic-bilinear: {words}"] = line[-1] / anchored[-1]
    line = lines["bilinear"]["double step size"]
    exponent = np.log10(line[-1] / line[10])
    found["bilinear: exponent of the squared distance, double step size"] = exponent
    for game, others in (
        ("bilinear", ("anchored", "one step size", "Hamiltonian")),
        ("quadratic-bilinear", ("anchored",)),
    ):
        ends = {name: line[-1] for name, line in lines.get(game, {}).items()}
        for name in others if ends else ():
            words = f"squared distance at the end, double step size over {name}"
            found[f"{game}: {words}"] = ends["double step size"] / ends[name]
    times = np.arange(101) * (config.num_steps // 100)
    return Measured(found, (times, lines))


def draw(curves):
    """Draw mean squared distances over steps, double logarithmically."""
    times, lines = curves
    figure, axes = panels(len(lines))
    for axis, (game, each) in zip(axes, lines.items(), strict=True):
        plot(
            axis,
            {name: (times[1:], line[1:]) for name, line in each.items()},
            xlabel="steps",
            ylabel="mean squared distance",
            title=game,
            scale=("log", "log"),
        )
    return figure
