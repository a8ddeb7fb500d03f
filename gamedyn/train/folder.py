"""Open the directory of a run: start afresh, or continue an earlier run."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gamedyn.train import checkpoints
from gamedyn.train.checkpoints import Checkpoint
from gamedyn.train.describe import differences, structure
from gamedyn.train.state import Carry

METRICS = "metrics.jsonl"
_SHOWN = 12  # differences named in an error


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
    identity: Callable[[], str],
    around: dict[str, Any],
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
        identity: returns what identifies the program of a step; that of a stored run is
            compared where versions and devices are equal and nothing else differs,
            since a program of other arguments might not even be traced.
        around: that of where it runs; another one is warned of.
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
        checkpoints.discard(stored)
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
    stored_about = checkpoint.metadata["about"]
    earlier = {name: checkpoint.metadata.get(name, {}) for name in around}
    elsewhere = differences(earlier, around)
    lines = differences(checkpoint.metadata["structure"], structure(fresh.carry))
    if resume != "anyway":
        lines += differences({k: stored_about.get(k) for k in about}, about)
        # Other versions may trace the same functions differently.
        if not (lines or elsewhere):
            programs = (stored_about.get("program"), identity())
            lines += differences(*programs, "the program of a step")
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
    if elsewhere:
        warnings.warn(
            f"the run in {folder} goes on elsewhere, and not bit for bit as one that "
            f"never ended: {'; '.join(elsewhere)}",
            stacklevel=3,
        )
    return origin_of(checkpoint, fresh)


def origin_of(checkpoint: Checkpoint, like: Origin) -> Origin:
    """Start at a checkpoint, its arrays in the structure of those of `like`."""
    metadata = checkpoint.metadata
    steps_per_call = metadata["about"].get("steps_per_call")
    if type(steps_per_call) is not int or not 0 < steps_per_call < 2**31:
        steps_per_call = like.steps_per_call
    return Origin(
        checkpoints.fill(like.carry, checkpoint.arrays),
        float(metadata["seconds"]),
        steps_per_call,
        metadata["rows"],
    )
