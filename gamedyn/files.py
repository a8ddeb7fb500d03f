"""Files that are written atomically: complete, or not at all."""

import os
import tempfile
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


def named(error: OSError, path: Path) -> OSError:
    """Return an error of the same kind whose message names the file.

    The system's own error of a full disk does not.
    """
    return OSError(error.errno, f"{error.strerror}: {path}")
