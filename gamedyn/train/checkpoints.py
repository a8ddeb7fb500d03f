"""Checkpoints: written atomically, verified by checksums before they are used.

A checkpoint is a folder `checkpoints/<step>`, the step in at least nine digits.
`arrays` holds the arrays as orbax writes them, each as a plain, uncompressed zarr array
of one chunk, so that other tools read them, too. `metadata.json` lists their names,
shapes and dtypes under "structure", array i of it lies in `arrays/<i>`; so the size of
every array is known before any is read. `manifest.json` has the size and SHA-256 of all
other files. A checkpoint is written under a temporary name and then renamed, so that a
crash at any moment leaves no half-written one under its name.

Reading one takes it for what it may be, a stranger's: no file is opened but those that
the structure asks for, no link is followed, nothing is inflated, and memory is taken in
proportion to the bytes on the disk.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gamedyn import files
from gamedyn.game import PyTree
from gamedyn.text import for_terminal
from gamedyn.train import arrays
from gamedyn.train.describe import names, parts, structure

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
METADATA = "metadata.json"
FORMAT = 2
LARGEST = 2**26  # bytes of metadata: 500,000 arrays, say
_DEEPEST, _MOST_FOLDERS = 100, 2**20  # dictionaries that names of arrays may ask for

# The names under which a checkpoint is being written or removed.
_OWN = re.compile(r"\.[0-9]{9,}\.(partial|going)")
# Of any alphabet, and as many as the largest number of steps has.
_NUMBER = re.compile(r"\d{1,19}")


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
            array by its path, in which "/" of a name is "~1" and "~" is "~0"), "about"
            (what the run depends on, compared on resume), "versions" and "devices"
            (where it ran, a change of which is said), "seconds", "rows" (the number of
            rows logged) and "score".
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
        TypeError: if the step is no integer.
        CheckpointError: if the checkpoint of that step, or every checkpoint, is
            damaged.
    """
    folder = Path(directory) / FOLDER
    if step is None:
        checkpoint = newest(folder)
        if checkpoint is None:
            raise FileNotFoundError(f"no checkpoint in {folder}")
        return checkpoint
    if isinstance(step, bool) or not hasattr(step, "__index__"):
        raise TypeError(f"step must be an integer or None, got {step!r}")
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
        CheckpointError: if the folder has checkpoints and all are damaged, or it cannot
            be listed or is a link.
    """
    reasons = []
    for step, path in reversed(listed(folder)):
        try:
            if path != place(folder, step):
                raise CheckpointError(
                    f"checkpoint {for_terminal(path)} is damaged: its name "
                    f"should be {place(folder, step).name}"
                )
            checkpoint = read(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warnings.warn(
                f"{reason}; using that of step {checkpoint.step}", stacklevel=3
            )
        return checkpoint
    if reasons:
        raise CheckpointError("every checkpoint is damaged: " + "; ".join(reasons))
    return None


def listed(folder: Path) -> list[tuple[int, Path]]:
    """List what claims to be a checkpoint: whatever has a step for its name.

    Args:
        folder: the folder of the checkpoints; it need not exist.

    Returns:
        The steps and paths, in the order of the steps.

    Raises:
        CheckpointError: if the folder cannot be listed or is a link.
    """
    try:
        if folder.is_symlink():
            raise CheckpointError(f"{folder} is a link, expected a folder")
        found = [p for p in folder.iterdir() if _NUMBER.fullmatch(p.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted((int(path.name), path) for path in found)


def steps(folder: Path) -> list[int]:
    """List the steps of the checkpoints in a folder, intact or not, in order.

    Raises:
        CheckpointError: as `listed`.
    """
    return [step for step, path in listed(folder) if path == place(folder, step)]


def place(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return folder / f"{step:09d}"


def read(path: Path) -> Checkpoint:
    """Read one checkpoint, and verify all of it.

    Args:
        path: the folder of the checkpoint.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: if it is damaged in whatever way, or of another format.
    """
    with _damage_of(path):
        expected, metadata = _described(path)
        leaves = _leaves(metadata["structure"])
        kinds = [(shape, dtype) for _, shape, dtype in leaves]
        found = arrays.read(path, expected, kinds)
        if expected:
            raise ValueError(f"{MANIFEST} lists {_shown(next(iter(expected)))}")
        nested: dict[str, Any] = {}
        for (name, *_), array in zip(leaves, found, strict=True):
            _put(nested, parts(name), array)
        step = nested.get("step", np.int64(metadata["step"]))
        if isinstance(step, dict) or step.shape or step != metadata["step"]:
            raise ValueError(f"its state is not of step {metadata['step']}")
    return Checkpoint(metadata["step"], nested, metadata)


@contextlib.contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a checkpoint into a `CheckpointError`."""
    try:
        yield
    except OSError as error:
        file = os.path.relpath(error.filename or path, path)
        missing = isinstance(error, FileNotFoundError)
        reason = "is missing" if missing else f"cannot be read: {error.strerror}"
        raise CheckpointError(
            f"checkpoint {path} is damaged: {file} {reason}"
        ) from error
    except (ValueError, OverflowError, MemoryError) as error:
        reason = str(error) or "it does not fit into memory"
        raise CheckpointError(f"checkpoint {path} is damaged: {reason}") from error


def _described(path: Path) -> tuple[dict[str, arrays.Entry], dict[str, Any]]:
    """Read the manifest, and the metadata, of the types that they ought to have.

    Returns:
        What the manifest says of the other files, and the metadata.
    """
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise ValueError("it is no folder")
    expected = _manifest(files.read_plain(path / MANIFEST, LARGEST))
    if METADATA not in expected:
        raise ValueError(f"{MANIFEST} does not list {METADATA}")
    data = files.read_plain(path / METADATA, LARGEST)
    entry = expected.pop(METADATA)
    arrays.compare(METADATA, entry, len(data), arrays.hashed(data))
    try:
        metadata = files.parse_json(data)
    except ValueError as error:
        raise ValueError(f"{METADATA} cannot be read: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{METADATA} is no table")
    if metadata.get("format") != FORMAT:
        advice = "; gamedyn.train.convert rewrites it, if you trust the folder"
        raise CheckpointError(
            f"checkpoint {path} has format {_shown(metadata.get('format'))}, expected "
            f"{FORMAT}{advice if metadata.get('format') == 1 else ''}"
        )
    _check_kinds(metadata)
    if path.name.isdecimal() and int(path.name) != metadata["step"]:
        raise ValueError(f"it says that it is of step {metadata['step']}")
    return expected, metadata


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _finite(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


_KINDS = {
    "step": (_whole, "a number of steps"),
    "structure": (lambda value: isinstance(value, dict), "a table"),
    "about": (lambda value: isinstance(value, dict), "a table"),
    "seconds": (lambda value: _finite(value) and value >= 0, "a number of seconds"),
    "rows": (_whole, "a number of rows"),
    "score": (lambda value: value is None or _finite(value), "a number or null"),
}


def _check_kinds(metadata: dict[str, Any]) -> None:
    for name, (fits, kind) in _KINDS.items():
        if name not in metadata:
            raise ValueError(f"{METADATA} does not have {name!r}")
        if not fits(metadata[name]):
            got = _shown(metadata[name])
            raise ValueError(f"{name!r} in {METADATA} must be {kind}, got {got}")


def _manifest(data: bytes) -> dict[str, arrays.Entry]:
    try:
        table = files.parse_json(data)["files"]
        expected = {name: (v["bytes"], v["sha256"]) for name, v in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{MANIFEST} cannot be read") from None
    for size, code in expected.values():
        if not (_whole(size) and isinstance(code, str)):
            raise ValueError(f"{MANIFEST} cannot be read")
    return expected


def _leaves(table: dict[str, Any]) -> list[tuple[str, tuple[int, ...], np.dtype]]:
    """Return the name, shape and dtype of each array, in the order on the disk."""
    leaves = []
    for name, entry in table.items():
        try:
            shape, kind = entry
            dtype = arrays.DTYPES[kind]
            if not (isinstance(shape, list) and all(map(_whole, shape))):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            got = f"{_shown(name)}: {_shown(entry)}"
            raise ValueError(f"no shape and dtype in the structure: {got}") from None
        leaves.append((name, tuple(shape), dtype))
    slashes = [name.count("/") for name in table]
    if sum(slashes) > _MOST_FOLDERS or max(slashes, default=0) > _DEEPEST:
        raise ValueError("the names in the structure are too deep")
    return leaves


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def write(path: Path, state: PyTree, metadata: dict[str, Any]) -> None:
    """Write one checkpoint atomically.

    Args:
        path: the folder to write; its parent is created.
        state: a pytree of numpy arrays.
        metadata: JSON values with the "step"; format and structure are added.

    Raises:
        CheckpointError: if it cannot be written; what was written of it is removed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        discard(partial)
        partial.mkdir()
        about = _DEFAULTS | metadata
        about = {"format": FORMAT, **about, "structure": structure(state)}
        text = json.dumps(about, indent=1, allow_nan=False).encode() + b"\n"
        # What could not be read must not be written.
        _check_kinds(files.parse_json(text))
        if len(text) > LARGEST:
            raise ValueError(f"the metadata have more than {LARGEST} bytes")
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        if len(about["structure"]) < len(leaves):
            raise ValueError("two arrays have one name")
        arrays.write(partial, leaves)
        (partial / METADATA).write_bytes(text)
        table = {
            file.relative_to(partial).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": _hash_of(file),
            }
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        (partial / MANIFEST).write_text(json.dumps({"files": table}) + "\n", "utf-8")
        # All is on the disk before the new name appears there, so that a checkpoint
        # that has its name is complete even after a loss of power.
        for file in (*partial.rglob("*"), partial):
            _sync(file)
        os.replace(partial, path)
        _sync(path.parent)
    except Exception as error:
        _discard_later(partial)
        raise CheckpointError(_why(path, error)) from error


_DEFAULTS = {"about": {}, "seconds": 0.0, "rows": 0, "score": None}


def _hash_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _discard_later(path: Path) -> None:
    """Remove a folder into which orbax's threads may still be writing."""
    for _ in range(20):
        discard(path)
        time.sleep(0.05)
        if not path.exists():
            return


def discard(path: Path) -> None:
    """Remove a folder, file or link, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _why(path: Path, error: Exception) -> str:
    text = str(error)
    # orbax may pass the error of the system on as text only.
    if (
        getattr(error, "errno", None) == errno.ENOSPC
        or os.strerror(errno.ENOSPC) in text
    ):
        text = "the disk is full"
    elif isinstance(error, OSError):
        text = error.strerror or text
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

    Attributes:
        saved: the step of the newest checkpoint that is complete; `None` without any.
    """

    def __init__(self, folder: Path, keep_last: int, best_sign: int):
        """Create the store; files are touched by `clean` and `save` only."""
        self.folder, self.keep_last, self.best_sign = folder, keep_last, best_sign
        self.saved: int | None = None
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
            if _OWN.fullmatch(path.name):
                discard(path)
        for step, path in listed(self.folder):
            if step > after:
                aside = path.with_name(f"{path.name}.damaged")
                discard(aside)
                path.rename(aside)
            elif step == after:
                self.saved = step
            if self.best_sign and step <= after:
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
        pending = self._pending
        try:
            if pending is not None:
                pending.result()
        finally:  # it may be interrupted, and waited for again
            if pending is not None and pending.done():
                self._pending = None

    def close(self) -> None:
        """End the thread, once what it does is done."""
        self._thread.shutdown(wait=False)

    def _save(self, step: int, arrays: PyTree, metadata: dict[str, Any]) -> None:
        path = place(self.folder, step)
        if path.exists():  # by an earlier run to this step: it has the same state
            return
        write(path, arrays, {"step": step, **metadata})
        self.saved = step
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
            discard(going)

    def _remember(self, path: Path, step: int) -> None:
        with contextlib.suppress(CheckpointError), _damage_of(path):
            score = _described(path)[1]["score"]
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


def _put(nested: dict[str, Any], path: Iterable[str], leaf: Any) -> None:
    *parents, last = path
    for name in parents:
        nested = nested.setdefault(name, {})
        if not isinstance(nested, dict):
            raise ValueError(f"the structure has arrays in the array {_shown(name)}")
    if last in nested:
        raise ValueError(f"the structure has arrays in the array {_shown(last)}")
    nested[last] = leaf


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folder
        return
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
