"""Callbacks: functions called on the host during a run, which may stop it."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from gamedyn.checks import check_function, check_positive_integer, described


class _Answer(enum.Enum):
    STOP = "stop"

    def __repr__(self) -> str:
        return "STOP"


STOP = _Answer.STOP
"""A callback that returns it ends the run after the current step, with a checkpoint."""


class Callback(NamedTuple):
    """A function that is called on the host during a run.

    Attributes:
        function: `function(state, metrics)` gets the `TrainState` and the metrics of
            the last step. The state's arrays are valid until the function returns (the
            next step overwrites them): copy what is to be kept. It may return `STOP`,
            or a dictionary of further metrics, which are logged. With several processes
            it is called in each of them.
        every: steps between two calls; if `None`, as often as the run logs.
    """

    function: Callable[[Any, dict[str, Any]], Any]
    every: int | None = None


def as_callback(callback: Any, log_every: int) -> Callback:
    """Return a `Callback` with a period, by default the logging period.

    Raises:
        TypeError: if it is no function of two arguments.
        ValueError: if its period is not a positive integer.
    """
    if not isinstance(callback, Callback):
        callback = Callback(callback)
    check_function("a callback", callback.function, "state", "metrics")
    every = log_every if callback.every is None else callback.every
    check_positive_integer("every", every)
    return Callback(callback.function, every)


def metrics_of(answer: Any) -> dict[str, Any]:
    """Return the further metrics in a callback's answer, as plain numbers.

    Raises:
        TypeError: if the answer is neither `None`, `STOP` nor a dictionary, or a metric
            is an array of several numbers.
    """
    if answer is None or answer is STOP:
        return {}
    if not isinstance(answer, dict):
        raise TypeError(
            f"a callback returns None, STOP or a dictionary of metrics, got {answer!r}"
        )
    for name, value in answer.items():
        if getattr(value, "size", 1) != 1:
            got = described(value)
            raise TypeError(f"a callback's metric {name!r} must be a number, got {got}")
    # Plain numbers, since the row becomes a line of JSON.
    return {
        name: value.item() if hasattr(value, "item") else value
        for name, value in answer.items()
    }
