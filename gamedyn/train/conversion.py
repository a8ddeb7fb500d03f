"""Checkpoints of the first format, which are compressed, made into those of today."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from gamedyn import files
from gamedyn.train import arrays as arrays_of
from gamedyn.train import checkpoints
from gamedyn.train.checkpoints import CheckpointError
from gamedyn.train.describe import structure


def convert(directory: str | os.PathLike[str]) -> list[int]:
    """Rewrite a run's checkpoints of format 1, so that they can be read again.

    Only for folders that you trust, your own: what is in them is given to orbax, which
    takes as much memory as the files ask for and opens whatever they name. The earlier
    ones are kept as `checkpoints/<step>.format1`.

    What a run depends on was described in less detail then: to continue it, pass
    `resume="anyway"` to `fit`.

    Args:
        directory: the directory of the run; nothing may run in it.

    Returns:
        The steps of the checkpoints that were converted.

    Raises:
        CheckpointError: if one of format 1 is damaged; those before it are converted.
        ImportError: if orbax-checkpoint is not installed.
    """
    folder = Path(directory) / checkpoints.FOLDER
    done = []
    for step in checkpoints.steps(folder):
        path = checkpoints.place(folder, step)
        try:
            metadata = files.parse_json((path / checkpoints.METADATA).read_bytes())
            if metadata["format"] != 1:
                continue
            _verify(path)
            arrays = _restored(path, metadata["structure"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"checkpoint {path} is damaged: {error}") from error
        kept = {k: v for k, v in metadata.items() if k not in ("format", "structure")}
        earlier = path.rename(path.with_name(f"{path.name}.format1"))
        try:
            checkpoints.write(path, arrays, kept)
        except BaseException:
            earlier.rename(path)
            raise
        done.append(step)
    return done


def _verify(path: Path) -> None:
    manifest = files.parse_json((path / checkpoints.MANIFEST).read_bytes())
    for name, entry in manifest["files"].items():
        if hashlib.sha256((path / name).read_bytes()).hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} does not have the content that was written")


def _restored(path: Path, described: dict[str, Any]) -> dict[str, Any]:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            "checkpoints of format 1 are read by the package orbax-checkpoint, which "
            "is not installed"
        ) from error
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        arrays = reader.restore((path / "arrays").absolute())
    # Arrays without entries were not stored.
    for name, (shape, dtype) in described.items():
        if 0 in shape:
            *parents, last = name.split("/")
            node = arrays
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = np.zeros(shape, arrays_of.DTYPES[dtype])
    kinds = [sorted(map(str, t.values())) for t in (structure(arrays), described)]
    if kinds[0] != kinds[1]:
        raise ValueError("its arrays are not those of its structure")
    return arrays
