"""Files and folders that are written atomically: complete, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
        path: the new folder; it must not exist, or be empty.

    Yields:
        A temporary folder in the same parent, to write the files into.

    Raises:
        FileExistsError: if the folder is not empty, or `path` is a file.
        OSError: if its parent cannot be written to.
    """
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} already holds results; choose another --out")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; --out names a folder")
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is not writable")
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        os.replace(partial, path)  # fails if results have appeared meanwhile
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # another process has put something there
            for parent in missing:
                parent.rmdir()
        if isinstance(error, KeyboardInterrupt):
            error.add_note("nothing was written")
        raise


def named(error: OSError, path: Path) -> OSError:
    """Return an error of the same kind whose message names the file.

    The system's own error of a full disk does not.
    """
    return OSError(error.errno, f"{error.strerror}: {path}")
