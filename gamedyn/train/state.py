"""The state of a run, on the device and as callers see it."""

import enum
from typing import Any, NamedTuple

import jax

from gamedyn.game import Params
from gamedyn.rules.base import RuleState
from gamedyn.solve import Status


class Ending(enum.IntEnum):
    """How training ended; equal to the `gamedyn.Status` of the same name.

    INTERRUPTED and STOPPED are training's own, and equal to no `Status`: a signal, or a
    callback's `STOP`, ended the run before `num_steps`.
    """

    OK = Status.OK.value
    NON_FINITE = Status.NON_FINITE.value
    INNER_SOLVER = Status.INNER_SOLVER.value
    INTERRUPTED = 8
    STOPPED = 9

    @property
    def message(self) -> str:
        """One sentence for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Ending.OK: Status.OK.message,
    Ending.NON_FINITE: "the run became non-finite; the last good state is kept",
    Ending.INNER_SOLVER: Status.INNER_SOLVER.message,
    Ending.INTERRUPTED: "a signal ended the run; it can be resumed",
    Ending.STOPPED: "a callback ended the run",
}


class TrainState(NamedTuple):
    """Where a run stands.

    Attributes:
        step: the number of steps done.
        params: the current point, one pytree per player.
        rule_state: the rule's state.
        average: the average of the outputs, or `None` if none is kept.
        key: the run's key; step k draws from `fold_in(key, k)`.
        output: the point the rule reports (an average, the slow weights, or `params`).
        status: an `Ending`; OK while the run goes on.
        history: the rows logged, oldest first; on process 0 those before a resume, too.
    """

    step: int
    params: Params
    rule_state: RuleState
    average: Params | None
    key: jax.Array
    output: Params
    status: Ending
    history: list[dict[str, Any]]

    @property
    def averaged(self) -> Params:
        """The average where one is kept, else what the rule reports."""
        return self.output if self.average is None else self.average


def averaged_params(state: TrainState) -> Params:
    """Return the parameters to evaluate: see `TrainState.averaged`."""
    return state.averaged


class Carry(NamedTuple):
    """What a step hands to the next one: all that a checkpoint must hold, and a key."""

    step: Any
    params: Params
    rule_state: RuleState
    average: Params | None
