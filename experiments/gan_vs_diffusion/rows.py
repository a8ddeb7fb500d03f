"""Rows of the table: what a model is, what it costs, how long drawing takes."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from gamedyn import train


class Sampling(NamedTuple):
    """A sampler of the diffusion model, and its steps."""

    sampler: str
    steps: int

    @classmethod
    def parse(cls, text: str) -> "Sampling":
        """Read a text such as "ddim-50".

        Raises:
            ValueError: if it is none.
        """
        name, _, steps = text.rpartition("-")
        if not name or not steps.isdecimal() or int(steps) < 1:
            raise ValueError(f"expected a sampling such as ddim-50, got {text!r}")
        return cls(name, int(steps))

    @property
    def title(self) -> str:
        """What to call it."""
        return f"diffusion, {self.sampler.upper()}-{self.steps}"


class Cost(NamedTuple):
    """What training costs.

    Attributes:
        parameters: of all players.
        gradients: evaluations of the gradient of one player's loss.
        seconds: without compiling.
    """

    parameters: int
    gradients: int
    seconds: float


def row(
    data: str,
    method: str,
    cost: Cost,
    evaluations: int,
    seconds: float,
    quality: dict[str, Any],
) -> dict[str, Any]:
    """Put a row together.

    Args:
        data: the name of the data.
        method: what to call the model.
        cost: of training.
        evaluations: of the network that draws, for one sample.
        seconds: for 1,000 samples.
        quality: measures by name, each the mean of its list.

    Returns:
        The row.
    """
    return {
        "data": data,
        "method": method,
        "parameters": cost.parameters,
        "gradient evaluations": cost.gradients,
        "training seconds": rounded(cost.seconds),
        "evaluations per sample": evaluations,
        "seconds per 1,000 samples": rounded(seconds),
    } | {name: rounded(np.mean(values)) for name, values in quality.items()}


def size(*params: Any) -> int:
    """Count parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def timed(draw: Callable[[], Any], number: int) -> float:
    """Time drawing, compiled: processor seconds for 1,000 of `number` samples."""
    jax.block_until_ready(draw())
    begin, rounds = time.process_time(), 0
    while rounds < 3 or (time.process_time() - begin < 0.5 and rounds < 100):
        jax.block_until_ready(draw())
        rounds += 1
        if time.process_time() - begin > 20:
            break
    return (time.process_time() - begin) / rounds * 1000 / number


def trained(fit: Callable[[], train.TrainState]) -> tuple[train.TrainState, float]:
    """Train, and say how many processor seconds that took without compiling.

    Raises:
        RuntimeError: if training did not do all its steps.
    """
    begin = time.process_time()
    state = fit()
    if state.status != train.Ending.OK:
        raise RuntimeError(train.Ending(state.status).message)
    return state, (time.process_time() - begin) * steady_share(state)


def steady_share(state: train.TrainState) -> float:
    """Say what part of a run's time its steps take, going by all but the first row."""
    first, last = state.history[0], state.history[-1]
    done = last["step"] - first["step"]
    if not done:
        return 1.0
    steady = (last["seconds"] - first["seconds"]) / done * last["step"]
    return steady / last["seconds"]


def rounded(value: Any) -> float | None:
    """Round to four digits; JSON knows no NaN."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
