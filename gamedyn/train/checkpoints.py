"""Checkpoints: written atomically, verified by checksums before they are used.

A checkpoint is a folder `checkpoints/<step>`: the arrays as a plain nested dictionary
(orbax), `metadata.json`, and `manifest.json` with the size and SHA-256 of every other
file. It is written under a temporary name and then renamed, so that a crash at any
moment leaves no half-written checkpoint under its name.
"""

import errno
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gamedyn.game import PyTree
from gamedyn.train.describe import names, structure

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
METADATA = "metadata.json"
ARRAYS = "arrays"
FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or no intact one could be read."""


class Checkpoint(NamedTuple):
    """The stored state of a run.

    Attributes:
        step: the number of steps done.
        arrays: nested dictionaries of numpy arrays: "step", "params", "rule_state", and
            "average" where there is one; PRNG keys as their data, uint32. Tuples, lists
            and NamedTuples are dictionaries too: `arrays["params"]["0"]` is player 0.
        metadata: JSON values: "format", "step", "structure" (shape and dtype of every
            array), "about" (what the run depends on, compared on resume), "seconds",
            "rows" (the number of rows logged) and "score".
    """

    step: int
    arrays: dict[str, Any]
    metadata: dict[str, Any]


def load(directory: str | os.PathLike[str], step: int | None = None) -> Checkpoint:
    """Read a checkpoint, without the code that made it.

    Args:
        directory: the directory of the run.
        step: the step of the checkpoint; if `None`, the newest intact one is read, with
            a warning about every damaged one after it.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: if there is no checkpoint, or none of that step.
        CheckpointError: if the checkpoint of that step, or every checkpoint, is
            damaged.
    """
    folder = Path(directory) / FOLDER
    if step is None:
        checkpoint = newest(folder)
        if checkpoint is None:
            raise FileNotFoundError(f"no checkpoint in {folder}")
        return checkpoint
    if step not in steps(folder):
        raise FileNotFoundError(
            f"no checkpoint of step {step} in {folder}, expected one of {steps(folder)}"
        )
    return read(place(folder, step))


def newest(folder: Path) -> Checkpoint | None:
    """Read the newest intact checkpoint, with a warning about every damaged one.

    Args:
        folder: the folder of the checkpoints.

    Returns:
        The checkpoint; `None` if the folder has no checkpoints.

    Raises:
        CheckpointError: if the folder has checkpoints and all are damaged.
    """
    reasons = []
    for step in reversed(steps(folder)):
        try:
            checkpoint = read(place(folder, step))
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warnings.warn(f"{reason}; using that of step {step}", stacklevel=3)
        return checkpoint
    if reasons:
        raise CheckpointError("every checkpoint is damaged: " + "; ".join(reasons))
    return None


def steps(folder: Path) -> list[int]:
    """List the steps of the checkpoints in a folder, intact or not, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


def place(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return folder / f"{step:09d}"


def read(path: Path) -> Checkpoint:
    """Read one checkpoint, after verifying it.

    Args:
        path: the folder of the checkpoint.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: if it is damaged, or of another format.
    """
    verify(path)
    metadata = json.loads((path / METADATA).read_text("utf-8"))
    if metadata["format"] != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {metadata['format']}, expected {FORMAT}"
        )
    leaves = metadata["structure"]
    with _orbax() as reader:
        arrays = reader.restore((path / ARRAYS).absolute())
    # Arrays without entries are not stored (see `_nested`): make them anew.
    for name, (shape, dtype) in leaves.items():
        if 0 in shape:
            _put(arrays, name.split("/"), np.zeros(shape, jax.numpy.dtype(dtype)))
    return Checkpoint(metadata["step"], arrays, metadata)


def verify(path: Path) -> None:
    """Check the size and SHA-256 of every file of a checkpoint against its manifest.

    Args:
        path: the folder of the checkpoint.

    Raises:
        CheckpointError: if a file is missing, truncated or changed.
    """

    def damaged(reason: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {path} is damaged: {reason}")

    try:
        files = json.loads((path / MANIFEST).read_bytes())["files"]
        expected = {str(k): (int(v["bytes"]), v["sha256"]) for k, v in files.items()}
    except FileNotFoundError:
        raise damaged(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged(f"{MANIFEST} cannot be read") from None
    if METADATA not in expected:
        raise damaged(f"{MANIFEST} does not list {METADATA}")
    for name, (size, code) in expected.items():
        file = path / name
        if not file.is_file():
            raise damaged(f"{name} is missing")
        if file.stat().st_size != size:
            raise damaged(f"{name} has {file.stat().st_size} bytes, expected {size}")
        if _sha256(file) != code:
            raise damaged(f"{name} does not have the content that was written")


def write(path: Path, arrays: PyTree, metadata: dict[str, Any]) -> None:
    """Write one checkpoint atomically.

    Args:
        path: the folder to write; its parent is created.
        arrays: a pytree of numpy arrays.
        metadata: JSON values with the "step"; format and structure are added.

    Raises:
        CheckpointError: if it cannot be written; what was written of it is removed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with _orbax() as writer:
            writer.save((partial / ARRAYS).absolute(), _nested(arrays))
        about = {"format": FORMAT, **metadata, "structure": structure(arrays)}
        (partial / METADATA).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
        files = {
            str(file.relative_to(partial)): {
                "bytes": file.stat().st_size,
                "sha256": _sha256(file),
            }
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        (partial / MANIFEST).write_text(json.dumps({"files": files}) + "\n", "utf-8")
        # Force all to the disk before the new name appears there, so that a checkpoint
        # that has its name is complete even after a loss of power.
        for file in partial.rglob("*"):
            _sync(file)
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    except Exception as error:
        _remove(partial)
        raise CheckpointError(_why(path, error)) from error


def _remove(path: Path) -> None:
    """Remove a folder into which orbax's threads may still be writing."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.05)
        if not path.exists():
            return


def _why(path: Path, error: Exception) -> str:
    text = str(error)
    # orbax may pass the error of the system on as text only.
    full = os.strerror(errno.ENOSPC)
    if getattr(error, "errno", None) == errno.ENOSPC or full in text:
        text = "the disk is full"
    intact = [step for step in steps(path.parent) if place(path.parent, step) != path]
    earlier = (
        f"those of steps {intact} are untouched" if intact else "there is none yet"
    )
    return f"checkpoint {path} could not be written: {text}; {earlier}"


class Store:
    """The checkpoints of a run: writes new ones in a thread and removes old ones.

    Args:
        folder: the folder of the checkpoints.
        keep_last: how many of the newest to keep.
        best_sign: +1 also keeps the one with the lowest score, -1 that with the
            highest; 0 keeps none for its score.
    """

    def __init__(self, folder: Path, keep_last: int, best_sign: int):
        """Create the store; files are touched by `clean` and `save` only."""
        self.folder, self.keep_last, self.best_sign = folder, keep_last, best_sign
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._scores: dict[int, float] = {}

    def clean(self, after: int) -> None:
        """Prepare the folder for a run that starts at a step.

        Temporary files that a crash left are removed. Checkpoints of later steps are
        damaged, or the run would start from them; they are renamed to `*.damaged`.

        Args:
            after: the step at which the run starts.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
        for step in steps(self.folder):
            path = place(self.folder, step)
            if step > after:
                aside = path.with_name(f"{path.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            elif self.best_sign:
                self._remember(path, step)

    def save(self, step: int, arrays: PyTree, metadata: dict[str, Any]) -> None:
        """Write a checkpoint in the background, once the previous one is written.

        Args:
            step: the number of steps done.
            arrays: a pytree of numpy arrays, not to be changed afterwards.
            metadata: JSON values; a number under "score" serves to find the best.

        Raises:
            CheckpointError: if the previous one could not be written.
        """
        self.wait()
        self._pending = self._thread.submit(self._save, step, arrays, metadata)

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            CheckpointError: if it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self, wait: bool) -> None:
        """End the thread; `wait` says whether the last checkpoint is finished first."""
        self._thread.shutdown(wait=wait, cancel_futures=not wait)

    def _save(self, step: int, arrays: PyTree, metadata: dict[str, Any]) -> None:
        path = place(self.folder, step)
        if path.exists():  # by an earlier run to this step: it has the same state
            return
        write(path, arrays, {"step": step, **metadata})
        score = metadata.get("score")
        if score is not None:
            self._scores[step] = score
        self._remove(steps(self.folder))

    def _remove(self, present: list[int]) -> None:
        kept = set(present[-self.keep_last :])
        scores = {s: v for s, v in self._scores.items() if s in present}
        if self.best_sign and scores:
            kept.add(min(scores, key=lambda step: self.best_sign * scores[step]))
        for step in set(present) - kept:
            path = place(self.folder, step)
            # Rename it first, so that a crash amid the removal does not leave a part of
            # it under its name, which would be reported as damaged.
            going = path.with_name(f".{path.name}.going")
            path.rename(going)
            shutil.rmtree(going, ignore_errors=True)

    def _remember(self, path: Path, step: int) -> None:
        try:
            score = json.loads((path / METADATA).read_text("utf-8")).get("score")
        except (OSError, ValueError):
            return
        if score is not None:
            self._scores[step] = score


def fill(like: PyTree, arrays: dict[str, Any]) -> PyTree:
    """Put stored arrays into a tree's structure.

    Args:
        like: a tree whose leaves are all stored.
        arrays: the stored arrays, as nested dictionaries.

    Returns:
        A tree of the structure of `like`, of numpy arrays.
    """

    def pick(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        del leaf
        node: Any = arrays
        for name in names(path):
            node = node[name]
        return node

    return jax.tree_util.tree_map_with_path(pick, like)


def _nested(tree: PyTree) -> dict[str, Any]:
    """Turn any tree into nested dictionaries.

    Arrays without entries are left out, since orbax does not store them.
    """
    nested: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if leaf.size:
            _put(nested, names(path), leaf)
    return nested


def _put(nested: dict[str, Any], path: Iterable[str], leaf: Any) -> None:
    *parents, last = path
    for name in parents:
        nested = nested.setdefault(name, {})
    nested[last] = leaf


def _orbax() -> Any:
    """Make orbax's writer of plain arrays for this process alone.

    By default orbax waits for all processes, but only process 0 comes here.
    """
    import orbax.checkpoint as ocp

    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
