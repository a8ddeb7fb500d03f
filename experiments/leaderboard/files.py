"""The files of a board: one for each pair, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from gamedyn.files import write_whole

from .pairs import Pair, Settings

SETTINGS = "settings.json"
"""The file that workers read what they compute from."""


def write_settings(folder: Path, settings: Settings) -> None:
    """Leave the settings for the workers."""
    write_whole(folder / SETTINGS, json.dumps(settings._asdict(), indent=1) + "\n")


def read_settings(folder: Path) -> Settings:
    """Read them back."""
    values: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
    for name in ("grid", "tune_seeds", "report_seeds"):
        values[name] = tuple(values[name])
    values["versions"] = tuple(map(tuple, values["versions"]))
    return Settings(**values)


def path_of(folder: Path, pair: Pair) -> Path:
    """Say where a pair's result lies."""
    return folder / "pairs" / pair.track / pair.game / f"{pair.method}.json"


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write one result."""
    pair = Pair(result["track"], result["game"], result["method"])
    write_whole(path_of(folder, pair), json.dumps(result, allow_nan=False) + "\n")


def read_result(folder: Path, pair: Pair, digest: str) -> dict[str, Any] | None:
    """Read one result; `None` if it is not there, damaged, or of other settings."""
    try:
        result = json.loads(path_of(folder, pair).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(result, dict) or result.get("settings") != digest:
        return None
    return result


def sweep_up(folder: Path) -> None:
    """Remove what processes that were killed had half written."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)
