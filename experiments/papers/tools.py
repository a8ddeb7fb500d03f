"""What several pages need: iterates, radii, one figure."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import gamedyn as gd


def flat(params: Any) -> jax.Array:
    """Put the parameters of all players into one vector."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])


def iterates(
    game_or_field: Any,
    rule: gd.Rule,
    start: Any,
    num_steps: int,
    *,
    every: int = 1,
    key: jax.Array | None = None,
    sample: Callable[[jax.Array], Any] | None = None,
) -> np.ndarray:
    """Run a rule; return the points that it reports, the first and the last included.

    Args:
        game_or_field: a game, or a field.
        rule: the rule.
        start: where it starts.
        num_steps: how many steps.
        every: how many steps lie between two points.
        key: for a stochastic game.
        sample: draws its batches.

    Returns:
        An array of shape `(num_steps / every + 1, d)`.
    """

    def report(params, state, batches, step):
        del batches, step
        return flat(rule.output(params, state))

    @jax.jit
    def run(start, key):
        solution = gd.solve(
            game_or_field,
            rule,
            start,
            num_steps,
            key=key,
            sample=sample,
            record=report,
            every=every,
        )
        return jnp.concatenate([solution.trace, flat(solution.output)[None]])

    return np.asarray(run(start, key))


def radius(game_or_field: Any, rule: gd.Rule, point: Any) -> float:
    """Give the spectral radius of a rule's update map at a point, memory included."""
    return float(gd.analysis.spectral_radius(game_or_field, rule, point))


def scalars(*values: float) -> tuple[jax.Array, ...]:
    """Make one scalar parameter for each player."""
    return tuple(jnp.asarray(value, float) for value in values)


def panels(count: int, width: float = 3.6, height: float = 3.1) -> tuple[Figure, Any]:
    """Make a figure of some panels in a row."""
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def curves(
    axis: Any,
    lines: dict[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    scale: Sequence[str] = ("linear", "log"),
) -> None:
    """Draw named curves, arrays of y or pairs of x and y, with a legend."""
    for number, (name, line) in enumerate(lines.items()):
        x, y = line if isinstance(line, tuple) else (np.arange(len(line)), line)
        axis.plot(x, y, label=name, lw=1.3, ls=("-", "--", "-.", ":")[number % 4])
    axis.set_xscale(scale[0])
    axis.set_yscale(scale[1])
    axis.set_xlabel(xlabel, fontsize=9)
    axis.set_ylabel(ylabel, fontsize=9)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7)
