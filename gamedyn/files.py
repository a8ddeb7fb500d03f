"""Files and folders written atomically, complete or not at all, and read with care."""

import errno
import json
import math
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

# Follow no link, and do not wait for whoever writes into a pipe.
CAREFUL = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_DEEPEST = 100  # containers within one another
_MOST_CONTAINERS, _MOST_VALUES = 2**20, 2**22  # in one document


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new one.

    Several processes may write the same file; the last one wins.

    Args:
        path: the file, replaced if it exists; its folder is created if necessary.
        content: the content; text is encoded as UTF-8.

    Raises:
        OSError: if it cannot be written; the message names the file. An earlier file is
            unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    try:
        number, partial = tempfile.mkstemp(".tmp", f".{path.name}-", path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)  # mkstemp lets only the owner read it
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise named(error, path) from error


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Write a new folder atomically: it appears complete, or not at all.

    Args:
        path: the new folder; it must not exist, or be empty. Where it is a link, what
            the link names.

    Yields:
        A temporary folder in the same parent, to write the files into.

    Raises:
        FileExistsError: if the folder is not empty, or `path` is a file.
        OSError: if its parent cannot be written to.
    """
    if path.is_symlink():  # no folder could be put in its place
        path = path.resolve()
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} already holds results; choose another --out")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; --out names a folder")
    missing = [parent for parent in path.parents if not parent.exists()]
    # A signal may come at any moment: the name is known before there is such a folder.
    partial = path.parent / f".{path.name}-{uuid.uuid4().hex[:12]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not os.access(path, os.W_OK):
            raise PermissionError(f"{path} is not writable")
        partial.mkdir(0o700)
        yield partial
        partial.chmod(0o755)
        os.replace(partial, path)  # fails if results have appeared meanwhile
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # another process has put something there
            for parent in missing:
                parent.rmdir()
        if isinstance(error, KeyboardInterrupt) and not path.exists():
            error.add_note("nothing was written")
        raise


def named(error: OSError, path: Path) -> OSError:
    """Return an error of the same kind whose message names the file.

    The system's own error of a full disk does not.
    """
    return OSError(error.errno, f"{error.strerror}: {path}")


@contextmanager
def plain_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of a folder that others may have made, to read it.

    Args:
        path: the file.

    Yields:
        The file, unbuffered.

    Raises:
        OSError: if it is missing, a link, or no plain file (a pipe or a device, which
            could block for ever).
    """
    _check_plain(path.lstat(), path)  # to open a device is too much already
    number = os.open(path, os.O_RDONLY | CAREFUL)
    try:
        _check_plain(os.fstat(number), path)
    except OSError:
        os.close(number)
        raise
    with os.fdopen(number, "rb", buffering=0) as file:
        yield file


def _check_plain(found: os.stat_result, path: Path) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "it is a link", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))


def read_plain(path: Path, limit: int) -> bytes:
    """Read a whole file of a folder that others may have made.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Returns:
        The content.

    Raises:
        OSError: as `plain_file`.
        ValueError: if it is larger.
    """
    with plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{path.name} has more than {limit} bytes")
        # No more than it had then: it may be growing.
        parts, left = [], size
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def parse_json(data: bytes) -> Any:
    """Parse JSON strictly, and with memory in proportion to its size.

    Args:
        data: the document, UTF-8.

    Returns:
        Its value.

    Raises:
        ValueError: if it is no JSON (NaN and infinities are none), has a key twice, is
            nested more than 100 deep, or has more than a million containers.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise ValueError("a key occurs twice")
        return table

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"the number {text[:20]} is none of JSON's")
        return number

    containers = data.count(b"[") + data.count(b"{")
    if containers > _MOST_CONTAINERS or data.count(b",") > _MOST_VALUES:
        raise ValueError("it has too many values")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=once,
            parse_float=finite,
            parse_constant=finite,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    layer = [value]
    for _ in range(_DEEPEST + 1):
        layer = [
            part
            for each in layer
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, dict | list)
        ]
        if not layer:
            return value
    raise ValueError("it is nested too deeply")
