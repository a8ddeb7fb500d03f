"""Callbacks: functions called on the host during a run, which may stop it."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from gamedyn.checks import check_positive_integer


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
        TypeError: if it is not a function.
        ValueError: if its period is not a positive integer.
    """
    if not isinstance(callback, Callback):
        callback = Callback(callback)
    if not callable(callback.function):
        raise TypeError(
            f"a callback is a function of (state, metrics), "
            f"got {type(callback.function).__name__}"
        )
    every = log_every if callback.every is None else callback.every
    check_positive_integer("every", every)
    return Callback(callback.function, every)


def metrics_of(answer: Any) -> dict[str, Any]:
    """Return the further metrics in a callback's answer, as plain numbers.

    Raises:
        TypeError: if the answer is neither `None`, `STOP` nor a dictionary.
    """
    if answer is None or answer is STOP:
        return {}
    if not isinstance(answer, dict):
        raise TypeError(
            f"a callback returns None, STOP or a dictionary of metrics, got {answer!r}"
        )
    # Plain numbers, since the row becomes a line of JSON.
    return {
        name: value.item() if hasattr(value, "item") else value
        for name, value in answer.items()
    }
