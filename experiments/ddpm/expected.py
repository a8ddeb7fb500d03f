"""What runs with the default options must reach: the lines of `expected.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LINES: dict[str, dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_name("expected.json").read_text()
)


def missed(data: str, summary: Mapping[str, Any]) -> list[str]:
    """List the lines that a summary does not reach.

    Args:
        data: a name of `LINES`.
        summary: of a run.

    Returns:
        One sentence for each, none if all are reached.
    """
    sentences = []
    for name, line in LINES[data].items():
        unit = summary[line["times"]] if "times" in line else 1
        low = line.get("at least", float("-inf")) * unit
        high = line.get("at most", float("inf")) * unit
        if not low <= summary[name] <= high:
            sentences.append(f"{name}: {summary[name]}, expected {low} to {high}")
    return sentences
