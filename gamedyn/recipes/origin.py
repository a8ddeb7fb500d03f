"""Where a run comes from: the recipe's content, its commit, date and versions."""

import datetime
import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PATIENCE = 0.1  # seconds that git may take: a run does not wait for its record


def made(file: Path, command: str | None) -> dict[str, Any]:
    """Describe how, when and with what something is made by a recipe.

    Args:
        file: the recipe's source, `__init__.py` if it is a package.
        command: the command line, if there is one.

    Returns:
        JSON values: date (UTC), command, commit of the recipe, environment.
    """
    from gamedyn import runtime

    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": now.isoformat(timespec="seconds"),
        "command": command,
        "commit": commit(file),
        "environment": runtime.environment(),
    }


def digest(file: Path) -> str:
    """Hash a recipe: its file, or the Python files of its package.

    Args:
        file: its source, `__init__.py` if it is a package.

    Returns:
        The SHA-256, in hexadecimal digits; of a package that of the list of its files
        (of folders inside it those that are packages) and theirs.

    Raises:
        OSError: if a file cannot be read.
    """
    if file.name != "__init__.py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}\n"
        for name, path in sorted(_modules(file.parent))
    ]
    return hashlib.sha256("".join(lines).encode("utf8", "surrogateescape")).hexdigest()


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    for root, folders, files in os.walk(package):
        folders[:] = [f for f in folders if Path(root, f, "__init__.py").is_file()]
        for name in files:
            path = Path(root, name)
            if path.suffix == ".py" and path.is_file():
                yield path.relative_to(package).as_posix(), path


def commit(file: Path, patience: float = _PATIENCE) -> dict[str, Any] | None:
    """Return the commit that a file's checkout is at.

    Args:
        file: the file.
        patience: how many seconds git may take.

    Returns:
        `{"hash": ..., "dirty": whether files of the checkout differ from it}`; `None`
        if the file is part of no checkout, or git is missing, refuses or takes too
        long.
    """
    if not any((parent / ".git").exists() for parent in file.parents):
        return None
    until = time.monotonic() + patience
    try:
        # A package may be installed in a folder inside somebody's checkout.
        _git(file.parent, until, "ls-files", "--error-unmatch", "--", file.name)
        words = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
        lines = _git(file.parent, until, *words).splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    start = b"# branch.oid "
    found = [line.removeprefix(start) for line in lines if line.startswith(start)]
    if not found or found[0] == b"(initial)":
        return None
    dirty = any(not line.startswith(b"#") for line in lines)
    return {"hash": found[0].decode("ascii", "replace"), "dirty": dirty}


def _git(folder: Path, until: float, *words: str) -> bytes:
    # No program that the checkout's own settings name is run for a status.
    asked = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", *words]
    left = max(until - time.monotonic(), 0)
    done = subprocess.run(
        asked, cwd=folder, capture_output=True, timeout=left, check=True
    )
    return done.stdout
