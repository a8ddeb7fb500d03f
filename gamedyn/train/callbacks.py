"""What a run tells its caller, and what the caller may answer."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from gamedyn.checks import check_positive_integer


class _Answer(enum.Enum):
    STOP = "stop"

    def __repr__(self) -> str:
        return "STOP"


STOP = _Answer.STOP
"""Returned by a callback, ends the run after the current step, as if it were done."""


class Callback(NamedTuple):
    """A function called on the host while a run goes on.

    Attributes:
        function: `function(state, metrics)`: the `TrainState`, whose arrays live until
            the function returns (the next step overwrites them), and the metrics of
            the last step. It may return `STOP`, or a dictionary of further metrics,
            which are logged. With several processes it is called in each of them.
        every: call it each such number of steps; wherever the run logs, if `None`.
    """

    function: Callable[[Any, dict[str, Any]], Any]
    every: int | None = None


def as_callback(callback: Any, log_every: int) -> Callback:
    """Give a function the logging period, check the period of a `Callback`."""
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
    """The further metrics in a callback's answer, as plain numbers.

    Raises:
        TypeError: if the answer is of no known kind.
    """
    if answer is None or answer is STOP:
        return {}
    if not isinstance(answer, dict):
        raise TypeError(
            f"a callback returns None, STOP or a dictionary of metrics, got {answer!r}"
        )
    return {
        name: value.item() if hasattr(value, "item") else value
        for name, value in answer.items()
    }
