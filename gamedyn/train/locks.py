"""A lock on a run's folder, which the system releases when its process ends."""

import contextlib
import errno
import os
import socket
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

from gamedyn import files
from gamedyn.text import for_terminal
from gamedyn.train.checkpoints import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
_FAR = 2**30  # Windows locks bytes: one beyond the text, which others are to read
_held: set[int] = set()


class LockedError(CheckpointError):
    """Another run, in this process or another one, writes into the folder."""


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep every other run out of a folder, in this process and in others.

    The lock is the system's, on the file `.lock`: it ends with the process, however the
    process ends, so that a killed run leaves none behind. Reading needs no lock.
    `gamedyn.train.fit` takes it for its directory; it is not to be taken around it.

    Args:
        folder: the folder, made if it does not exist.

    Yields:
        Nothing.

    Raises:
        LockedError: if the folder is locked; the message names the process.
        OSError: if the folder cannot be written to, or `.lock` is no plain file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    number = _taken(path)
    _held.add(number)
    try:
        os.ftruncate(number, 0)
        os.write(number, f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        _held.discard(number)
        if fcntl is not None:  # Windows removes no open file
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(number)


def _taken(path: Path) -> int:
    """Open and lock the file; return its descriptor."""
    while True:
        flags = os.O_RDWR | os.O_CREAT
        number = os.open(path, flags | files.CAREFUL, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise OSError(errno.EINVAL, "not a plain file", str(path))
            try:
                _lock(number)
            except BlockingIOError:
                holder = os.read(number, 200).decode(errors="replace").strip()
                raise LockedError(
                    f"{path.parent} is in use by another run, process "
                    f"{for_terminal(holder) or 'unknown'}: wait until it ends, or "
                    f"choose another directory"
                ) from None
            except OSError as error:
                # Some network file systems have no locks.
                warnings.warn(
                    f"{path.parent} cannot be locked ({error.strerror}): see to it "
                    f"that no other process writes there",
                    stacklevel=4,
                )
                return number
            # Whoever held it until now has removed it: then this is no longer the file.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(number), path.lstat()):
                    return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _lock(number: int) -> None:
    if fcntl is not None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt  # pragma: no cover

    os.lseek(number, _FAR, os.SEEK_SET)
    try:
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)  # pyright: ignore
    except OSError as error:
        raise BlockingIOError(error.errno, error.strerror) from error
    finally:
        os.lseek(number, 0, os.SEEK_SET)


def _let_go() -> None:
    """Close a forked child's copies, which would outlive the process that locks."""
    for number in _held:
        with contextlib.suppress(OSError):
            os.close(number)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
