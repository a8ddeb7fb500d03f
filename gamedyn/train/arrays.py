"""The arrays of a checkpoint: orbax writes them, what reads them trusts nothing.

Each is a folder `arrays/<number>` of two files: `.zarray`, which describes it, and its
one chunk, uncompressed, in row-major order, the lowest byte first.
"""

import contextlib
import hashlib
import logging
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from gamedyn import files

ARRAYS = "arrays"
"""The folder of the arrays, within that of the checkpoint."""

_HEADER, _NOTE = 2**16, 2**26  # bytes of one description; of a note of orbax's
_NOTES = re.compile(rf"{ARRAYS}/[A-Za-z0-9_.]{{1,100}}")  # what orbax writes beside

# What an array may be made of: numbers, of a size that the name tells.
DTYPES = {
    np.dtype(kind).name: np.dtype(kind)
    for kind in [
        *(np.bool_, np.float16, np.float32, np.float64, np.complex64, np.complex128),
        *(np.int8, np.int16, np.int32, np.int64),
        *(np.uint8, np.uint16, np.uint32, np.uint64),
        *(
            kind
            for kind in vars(ml_dtypes).values()
            if isinstance(kind, type) and issubclass(kind, np.generic)
        ),
    ]
}

Entry = tuple[int, str]
"""The size and SHA-256 of a file."""


def read(
    path: Path,
    expected: dict[str, Entry],
    leaves: Iterable[tuple[tuple[int, ...], np.dtype]],
) -> list[np.ndarray]:
    """Read the arrays of a checkpoint.

    Args:
        path: the folder of the checkpoint.
        expected: what its files should be, by name; those of the arrays, and what orbax
            writes beside them, are checked and taken out.
        leaves: the shape and dtype of every array.

    Returns:
        The arrays.

    Raises:
        OSError: if a file is missing, a link, or cannot be read.
        ValueError: if anything is not as described.
    """
    arrays = []
    for index, (shape, dtype) in enumerate(leaves):
        if 0 in shape:  # not stored, see `write`
            arrays.append(np.empty(shape, dtype))
            continue
        header, chunk = _files_of(index, shape)
        described = files.parse_json(_read(path, header, _HEADER, expected))
        if described != _zarr(shape, dtype):
            raise ValueError(f"{header} is not what the structure says")
        entry = expected.pop(chunk, None)
        arrays.append(_chunk(path / chunk, chunk, entry, shape, dtype))
    for name in [name for name in expected if _NOTES.fullmatch(name)]:
        _read(path, name, _NOTE, expected)
    return arrays


def _read(path: Path, name: str, limit: int, expected: dict[str, Entry]) -> bytes:
    """Read a small file, out of folders that are folders, not links to some."""
    for folder in ((path / name).parent, (path / name).parent.parent):
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise ValueError(f"{folder.name} is no folder")
    data = files.read_plain(path / name, limit)
    compare(name, expected.pop(name, None), len(data), hashed(data))
    return data


def _chunk(
    file: Path, name: str, entry: Entry | None, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Read the one chunk of an array."""
    with files.plain_file(file) as stream:
        # The size on the disk bounds that of the array, whatever the structure says.
        size = os.fstat(stream.fileno()).st_size
        compare(name, entry, size)
        needed = math.prod(shape) * dtype.itemsize
        if size != needed:
            raise ValueError(f"{name} has {size} bytes, the structure has {needed}")
        array = np.empty(shape, dtype)
        room, done = memoryview(array.reshape(-1).view(np.uint8)), 0  # pyright: ignore
        while done < len(room):
            count = stream.readinto(room[done:])  # pyright: ignore
            if not count:
                raise ValueError(f"{name} ends early")
            done += count
    compare(name, entry, size, hashed(room))
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        raise ValueError(f"{name} has truth values beyond 0 and 1")
    return array


def _files_of(index: int, shape: tuple[int, ...]) -> tuple[str, str]:
    """Return the names of the description and of the one chunk of a stored array."""
    chunk = ".".join("0" for _ in shape) or "0"
    return f"{ARRAYS}/{index}/.zarray", f"{ARRAYS}/{index}/{chunk}"


def _zarr(shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """Describe an array of one uncompressed chunk, as version 2 of zarr does."""
    return {
        "chunks": list(shape),
        "compressor": None,
        "dimension_separator": ".",
        "dtype": dtype.name if dtype.kind == "V" else dtype.newbyteorder("<").str,
        "fill_value": None,
        "filters": None,
        "order": "C",
        "shape": list(shape),
        "zarr_format": 2,
    }


def hashed(data: bytes | memoryview) -> str:
    """Return the SHA-256 of data."""
    return hashlib.sha256(data).hexdigest()


def compare(name: str, entry: Entry | None, size: int, code: str | None = None) -> None:
    """Compare a file with what the manifest says of it.

    Raises:
        ValueError: if it is not listed, or another.
    """
    if entry is None:
        raise ValueError(f"the manifest does not list {name}")
    if size != entry[0]:
        raise ValueError(f"{name} has {size} bytes, expected {entry[0]}")
    if code is not None and code != entry[1]:
        raise ValueError(f"{name} does not have the content that was written")


def write(folder: Path, leaves: list[np.ndarray]) -> None:
    """Have orbax write arrays; those without entries it does not store.

    Args:
        folder: the folder of the checkpoint, existing.
        leaves: the arrays.

    Raises:
        TypeError: if one is made of anything but numbers.
        RuntimeError: if orbax stores arrays in a way that `read` does not know.
    """
    import orbax.checkpoint as ocp

    for leaf in leaves:
        if DTYPES.get(leaf.dtype.name) != leaf.dtype:
            raise TypeError(f"arrays of {leaf.dtype} cannot be stored")
    stored = {index: leaf for index, leaf in enumerate(leaves) if leaf.size}
    if not stored:
        return
    # For this process alone: by default orbax waits for all, but only 0 comes here.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False,
        use_zarr3=False,
        use_compression=False,
        multiprocessing_options=alone,
    )
    checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)
    with _quiet(), checkpointer as writer:
        tree = {str(index): leaf for index, leaf in stored.items()}
        writer.save((folder / ARRAYS).absolute(), tree)
    # Where another version of orbax writes otherwise, nobody could read it.
    for index, leaf in stored.items():
        header, chunk = _files_of(index, leaf.shape)
        described = files.parse_json((folder / header).read_bytes())
        size = (folder / chunk).stat().st_size
        if described != _zarr(leaf.shape, leaf.dtype) or size != leaf.nbytes:
            raise RuntimeError(f"orbax {ocp.__version__} stores arrays in another way")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep orbax from telling the terminal what it skips, and what it raises anyway."""

    def others(record: logging.LogRecord) -> bool:
        return "orbax" not in Path(record.pathname).parts

    logger = logging.getLogger("absl")
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
