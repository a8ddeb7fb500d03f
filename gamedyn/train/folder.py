"""Opening a run's directory: afresh, or where an earlier run left off."""

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
    """Where a run begins, all of it arrays and numbers.

    Attributes:
        carry: the state, on the host.
        seconds: spent so far.
        steps_per_call: how the run is cut into calls.
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
    """Find where a run begins.

    Args:
        folder: the run's directory.
        fresh: where it begins if nothing is stored.
        about: what the run is made of; a stored one must agree with it.
        num_steps: in the end.
        resume: whether to go on from what is stored; "anyway" if `about` differs.
        overwrite: whether to remove what is stored.

    Returns:
        The origin.

    Raises:
        ValueError: if something is stored and neither is wanted, or it differs.
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
                f"to go on with it, or overwrite=True to remove it"
            )
        return fresh
    found = checkpoints.newest(stored)
    if found is None:
        return fresh
    lines = differences(found.metadata["structure"], structure(fresh.carry))
    if resume != "anyway":
        earlier = found.metadata["about"]
        chosen = {name: earlier.get(name) for name in about}
        lines += differences(chosen, json.loads(json.dumps(about)))
    if lines:
        more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise ValueError(
            f"the run in {folder} cannot be resumed, it differs in\n  "
            + "\n  ".join(lines[:_SHOWN] + more)
        )
    if found.step > num_steps:
        raise ValueError(
            f"the run in {folder} has done {found.step} steps, more than "
            f"num_steps={num_steps}"
        )
    return origin_of(found, fresh.carry)


def origin_of(found: Checkpoint, like: Carry) -> Origin:
    """Begin at a checkpoint."""
    about = found.metadata
    return Origin(
        checkpoints.fill(like, found.arrays),
        about["seconds"],
        about["about"]["steps_per_call"],
        about["rows"],
    )


def from_first(make: Callable[[], Result], like: Result) -> Result:
    """Let process 0 make something of arrays, and give it to all processes.

    Args:
        make: called in process 0.
        like: a tree of the same structure and shapes.

    Raises:
        CheckpointError: in the other processes, when process 0 raises anything.
    """
    if jax.process_count() == 1:
        return make()
    from jax.experimental import multihost_utils

    made, problem = like, None
    if jax.process_index() == 0:
        try:
            made = make()
        except Exception as error:  # the others wait for word
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
