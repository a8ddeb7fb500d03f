"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader finds the old content or the new one.

    Several processes may write the same file; the last one wins.

    Args:
        path: the file, replaced if it exists; its folder is made if need be.
        content: what is to be in it; text as UTF-8.

    Raises:
        OSError: if it cannot be written, naming the file: a full disk does not. What
            was there is still there.
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
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise named(error, path) from error


def named(error: OSError, path: Path) -> OSError:
    """Say which file could not be written."""
    return OSError(error.errno, f"{error.strerror}: {path}")
