"""What several commands share: plugins, the console, folders, positive numbers."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

_NARROWEST = 40  # columns; in fewer a table has no room for words
_LONGEST = 400  # letters of a value of a summary

PluginFiles = Annotated[
    tyro.conf.UseAppendAction[tuple[Path, ...]],
    tyro.conf.arg(name="plugin", metavar="FILE.py"),
]
"""The option `--plugin`, which may be given several times."""


def load_plugins(files: tuple[Path, ...]) -> None:
    """Load all plugins; say on stderr which of the installed ones fail.

    To be called once the process is configured, since a plugin may compute something,
    and before names are looked up.

    Raises:
        ValueError: if one of the files fails to load.
    """
    from gamedyn import plugins

    for failure in plugins.load(files):
        print(f"gamedyn: warning: {failure}", file=sys.stderr)


def console() -> Any:
    """A console that is wide enough for the tables where it leads into a pipe."""
    from rich.console import Console

    if not sys.stdout.isatty():
        return Console(width=126)
    shown = Console()
    return shown if shown.width >= _NARROWEST else Console(width=_NARROWEST)


def print_summary(summary: dict[str, Any]) -> None:
    """Print names and values in two columns, of a metric its value alone."""
    from rich.markup import escape
    from rich.table import Table

    from gamedyn.metrics import Measurement

    if not isinstance(summary, Mapping):
        return
    table = Table(box=None, show_header=False)
    for name, value in summary.items():
        table.add_row(escape(str(name)), escape(_shown(value, Measurement)))
    console().print(table)


def _shown(value: Any, measurement: type) -> str:
    """Write a value of a summary in one short line."""
    if isinstance(value, measurement):
        value = value.value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a scalar of jax or numpy
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def free_folder(name: str) -> Path:
    """The first folder of results/NAME, results/NAME-2, ... that is still free."""
    root, number = Path("results"), 1
    while True:
        path = root / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
        number += 1


def positive(option: str, text: str, otherwise: str = "") -> float:
    """Read a positive number.

    Args:
        option: the option, for messages.
        text: its value.
        otherwise: what else the option takes, "auto or ", for messages.

    Returns:
        The number.

    Raises:
        ValueError: if it is no number, or not positive and finite.
    """
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{option} must be {otherwise}a number, got {text}") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{option} must be positive and finite, got {text}")
    return value
