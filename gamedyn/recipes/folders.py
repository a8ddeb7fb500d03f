"""The folder of a run, which may come from anybody: read as data, never followed out.

It holds files and folders. What leads out of it (a link, which a later file of the run
would be written through) or is no file (a device, which reading would wait for) is
refused before anything is opened.
"""

import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from gamedyn.files import parse_json, read_plain

RECORD = "run.json"
_LARGEST = 2**24  # bytes of a record


class Record(NamedTuple):
    """What a run's record says, its types checked.

    Attributes:
        recipe: the name of a registered recipe, or the path of another one.
        digest: the SHA-256 of the recipe; `None` in records of earlier versions.
        config: the options by name.
        content: all of the record.
    """

    recipe: str
    digest: str | None
    config: dict[str, Any]
    content: dict[str, Any]


def read(run: Path) -> Record:
    """Read the record of a run.

    Args:
        run: its folder.

    Returns:
        The record.

    Raises:
        ValueError: if the folder is not that of a run, something in it leads out of it
            or is no file, or the record is damaged.
    """
    path = run / RECORD
    if not os.path.lexists(path):
        raise ValueError(f"{run} is not the folder of a run: it has no {RECORD}")
    check(run)
    content = read_json(path)
    for name, kind in (("recipe", str), ("config", dict)):
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ValueError(f"{path} is damaged: it has no {name}")
    digest, later = content.get("recipe_sha256"), content.get("continuations", [])
    if not isinstance(digest, str | None):
        raise ValueError(f"{path} is damaged: recipe_sha256 is not a string")
    if not isinstance(later, list):
        raise ValueError(f"{path} is damaged: continuations is not a list")
    return Record(content["recipe"], digest, content["config"], content)


def check(run: Path) -> None:
    """Check that a run's folder holds files and folders only.

    Args:
        run: the folder; it may be a link itself.

    Raises:
        ValueError: if something in it is a link that leads out of it, or neither a file
            nor a folder.
    """
    home = run.resolve()
    for root, folders, files in os.walk(home):
        for name in folders + files:
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                try:
                    target = path.resolve()
                except (OSError, RuntimeError):  # a circle of links
                    target = Path(path.anchor)
                if not target.is_relative_to(home):
                    raise ValueError(
                        f"{run / path.relative_to(home)} is a link that leads out of "
                        f"the run's folder: put what it stands for in its place"
                    )
            elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise ValueError(
                    f"{run / path.relative_to(home)} is neither a file nor a folder"
                )


def read_json(path: Path) -> Any:
    """Read a JSON file that may come from anybody.

    Raises:
        ValueError: if it is larger than 16 MB, or no JSON, see `files.parse_json`.
        OSError: if it cannot be read, or is a link or no file.
    """
    try:
        return parse_json(read_plain(path, _LARGEST))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
