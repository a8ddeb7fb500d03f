"""Which line of a user's own file an error comes from."""

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

_homes: dict[Path, None] = {}  # files and folders of users' code, in order


def belongs_to_user(path: Path) -> None:
    """Remember that a file, or all in a folder, is a user's own."""
    _homes[path.resolve()] = None


def words(error: BaseException) -> str:
    """Say the type of an error and what it says, in one line."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    return f"{kind}: {text}" if text else kind


def place(error: BaseException, file: Path | None = None) -> str:
    """Say where in a user's file an error comes from.

    Args:
        error: the error, with its traceback.
        file: a file of the user's whose name need not be repeated.

    Returns:
        " (FILE, line 3, in main)", of the innermost frame that is the user's own; for
        `file` itself without its name. "" if there is none.
    """
    homes = list(_homes)
    if file is not None:
        homes.append(file if file.parent in _libraries() else file.parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if _is_own(path, homes):
            name = "" if path == file else f"{path}, "
            inside = "" if frame.name == "<module>" else f", in {frame.name}"
            return f" ({name}line {frame.lineno}{inside})"
    return ""


def _is_own(path: Path, homes: list[Path]) -> bool:
    if not path.is_absolute() or path.is_relative_to(_PACKAGE):
        return False
    # A folder of one's own may hold an environment, or lie in one.
    inner = [home for home in homes if path.is_relative_to(home)]
    around = [folder for folder in _libraries() if path.is_relative_to(folder)]
    return any(all(home.is_relative_to(each) for each in around) for home in inner)


def _libraries() -> list[Path]:
    words = ("stdlib", "platstdlib", "purelib", "platlib")
    return [Path(sysconfig.get_path(word)).resolve() for word in words]
