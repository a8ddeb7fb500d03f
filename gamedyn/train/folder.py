"""Open the directory of a run: start afresh, or continue an earlier run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from gamedyn.train import checkpoints
from gamedyn.train.checkpoints import Checkpoint, CheckpointError
from gamedyn.train.describe import differences, structure
from gamedyn.train.state import Carry

METRICS = "metrics.jsonl"
_SHOWN = 12  # differences named in an error

Result = TypeVar("Result")


class Origin(NamedTuple):
    """Where a run starts. Arrays and numbers only: it is broadcast between processes.

    Attributes:
        carry: the state, on the host.
        seconds: time spent on the run so far.
        steps_per_call: steps in one compiled call.
        rows: the number of rows logged so far.
    """

    carry: Carry
    seconds: float
    steps_per_call: int
    rows: int


def opened(
    folder: Path,
    fresh: Origin,
    about: dict[str, Any],
    num_steps: int,
    *,
    resume: Any,
    overwrite: bool,
) -> Origin:
    """Open a run's directory, and find where the run starts.

    Args:
        folder: the run's directory.
        fresh: where it starts if nothing is stored.
        about: the description of the run; that of a stored run must be equal.
        num_steps: total number of steps.
        resume: whether to continue a stored run; "anyway" even if `about` differs.
        overwrite: whether to remove a stored run.

    Returns:
        Where the run starts: `fresh`, or the newest intact checkpoint.

    Raises:
        ValueError: if a run is stored and neither `resume` nor `overwrite` is given, or
            the stored run differs or has done more than `num_steps` steps.
        CheckpointError: if all checkpoints are damaged.
    """
    stored = folder / checkpoints.FOLDER
    if overwrite:
        shutil.rmtree(stored, ignore_errors=True)
        (folder / METRICS).unlink(missing_ok=True)
    if not resume:
        if checkpoints.steps(stored) or (folder / METRICS).exists():
            raise ValueError(
                f"{folder} holds a run already: choose another directory, resume=True "
                f"to continue it, or overwrite=True to remove it"
            )
        return fresh
    checkpoint = checkpoints.newest(stored)
    if checkpoint is None:
        return fresh
    lines = differences(checkpoint.metadata["structure"], structure(fresh.carry))
    if resume != "anyway":
        earlier = checkpoint.metadata["about"]
        chosen = {name: earlier.get(name) for name in about}
        # Through JSON, as the stored description went: tuples become lists.
        lines += differences(chosen, json.loads(json.dumps(about)))
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise ValueError(
            f"the run in {folder} cannot be resumed, it differs in\n  "
            + "\n  ".join(lines[:_SHOWN] + more)
        )
    if checkpoint.step > num_steps:
        raise ValueError(
            f"the run in {folder} has done {checkpoint.step} steps, more than "
            f"num_steps={num_steps}"
        )
    return origin_of(checkpoint, fresh.carry)


def origin_of(checkpoint: Checkpoint, like: Carry) -> Origin:
    """Start at a checkpoint, its arrays in the structure of `like`."""
    metadata = checkpoint.metadata
    return Origin(
        checkpoints.fill(like, checkpoint.arrays),
        metadata["seconds"],
        metadata["about"]["steps_per_call"],
        metadata["rows"],
    )


def from_first(make: Callable[[], Result], like: Result) -> Result:
    """Call a function in process 0 only, and broadcast its result to all processes.

    Args:
        make: returns a tree of arrays.
        like: a tree of the same structure, shapes and dtypes.

    Returns:
        The tree that process 0 made, in every process.

    Raises:
        Exception: in process 0, what `make` raises.
        CheckpointError: in the other processes, when process 0 raises anything.
    """
    if jax.process_count() == 1:
        return make()
    from jax.experimental import multihost_utils

    made, problem = like, None
    if jax.process_index() == 0:
        try:
            made = make()
        except Exception as error:  # raised below: the other processes wait here
            problem = error
    fine = multihost_utils.broadcast_one_to_all(np.array(problem is None))
    if problem is not None:
        raise problem
    if not fine:
        raise CheckpointError("process 0 could not open the run's directory")
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(made))


def any_process(flag: bool) -> bool:
    """Whether a flag is set in any process."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
