"""The state of a run: as it is carried from step to step, and as callers see it."""

import enum
from typing import Any, NamedTuple

import jax

from gamedyn.game import Params
from gamedyn.rules.base import RuleState
from gamedyn.solve import Status


class Ending(enum.IntEnum):
    """How training ended; a member equals the `gamedyn.Status` of the same name.

    INTERRUPTED and STOPPED occur in training only, and equal no `Status`: a signal, or
    a callback's `STOP`, ended the run before `num_steps`.
    """

    OK = Status.OK.value
    NON_FINITE = Status.NON_FINITE.value
    INNER_SOLVER = Status.INNER_SOLVER.value
    INTERRUPTED = 8
    STOPPED = 9

    @property
    def message(self) -> str:
        """The ending in one sentence."""
        return _MESSAGES[self]


_MESSAGES = {
    Ending.OK: Status.OK.message,
    Ending.NON_FINITE: "the run became non-finite; the last good state is kept",
    Ending.INNER_SOLVER: Status.INNER_SOLVER.message,
    Ending.INTERRUPTED: "a signal ended the run before its last step",
    Ending.STOPPED: "a callback ended the run",
}


class TrainState(NamedTuple):
    """The state of a run after some steps.

    Attributes:
        step: the number of steps done.
        params: the current parameters, one pytree per player.
        rule_state: the rule's state.
        average: the average of the outputs, or `None` if the run has no average.
        key: the run's PRNG key; step k draws from `fold_in(key, k)`.
        output: the point the rule reports (an average, the slow weights, or `params`).
        status: an `Ending`; OK while the run goes on.
        history: the logged rows, oldest first; on process 0 including those before a
            resume.
        signal: the number of the signal that came during the run, 0 if none did. It
            ended the run if `status` is INTERRUPTED; it may also have come in the last
            call, of a run that is complete. By convention the exit status of a command
            is then 128 more.
        saved: the step of the newest complete checkpoint in the run's directory; `None`
            without any, and in processes other than 0.
    """

    step: int
    params: Params
    rule_state: RuleState
    average: Params | None
    key: jax.Array
    output: Params
    status: Ending
    history: list[dict[str, Any]]
    signal: int = 0
    saved: int | None = None

    @property
    def averaged(self) -> Params:
        """The average if the run has one, else the point the rule reports."""
        return self.output if self.average is None else self.average


def averaged_params(state: TrainState) -> Params:
    """Return the parameters to sample from and evaluate: `state.averaged`."""
    return state.averaged


class Carry(NamedTuple):
    """What a step passes to the next one, and what a checkpoint stores.

    Attributes:
        step: the number of steps done, an int32 scalar.
        params: the current parameters, one pytree per player.
        rule_state: the rule's state.
        average: the average of the outputs, or `None`.
    """

    step: Any
    params: Params
    rule_state: RuleState
    average: Params | None
