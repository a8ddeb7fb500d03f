"""What several commands share: plugins, the console, folders, positive numbers."""

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from gamedyn.commands.ending import wide_enough
from gamedyn.text import file_name, for_terminal, integer, number

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
        print(for_terminal(f"gamedyn: warning: {failure}"), file=sys.stderr)


def console() -> Any:
    """A console that shows text as it is: no markup, no emoji, no control characters.

    Where it leads into a pipe it is wide enough for the tables.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Literal(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            # Control segments are rich's own.
            for segment in super().render(renderable, options):
                text, style, control = segment
                if not control:
                    segment = Segment(for_terminal(text, lines=True), style)
                yield segment

    shown = Literal(markup=False, emoji=False, highlight=False)
    shown.width = max(shown.width, _NARROWEST) if sys.stdout.isatty() else 126
    return shown


@contextlib.contextmanager
def parsing(arguments: list[str]) -> Iterator[None]:
    """Let a parser say what it says of arguments: escaped, and in lines wide enough."""
    with wide_enough():
        if all(for_terminal(argument) == argument for argument in arguments):
            yield
            return
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                yield
        finally:
            print(for_terminal(said.getvalue(), lines=True), end="", file=sys.stderr)


def print_summary(summary: dict[str, Any]) -> None:
    """Print names and values in two columns, of a metric its value alone."""
    from rich.table import Table

    from gamedyn.metrics import Measurement

    if not isinstance(summary, Mapping):
        return
    table = Table(box=None, show_header=False)
    for name, value in summary.items():
        table.add_row(str(name), _shown(value, Measurement))
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
    root, name, count = Path("results"), file_name(name), 1
    while True:
        path = root / (name if count == 1 else f"{name}-{count}")
        if not path.exists():
            return path
        count += 1


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
    if text.strip().lstrip("+-").lower() in ("nan", "inf", "infinity"):
        raise ValueError(f"{option} must be positive and finite, got {text}")
    try:
        value = number(text)
    except ValueError as error:
        raise ValueError(
            f"{option} must be {otherwise}a number, got {text}: {error}"
        ) from None
    if value <= 0:
        raise ValueError(f"{option} must be positive and finite, got {text}")
    return value


NUMBERS = tyro.constructors.ConstructorRegistry()
"""How options are read that are numbers: as `text.number` and `text.integer` do."""


@NUMBERS.primitive_rule
def _numbers(info: Any) -> Any:
    read = {int: integer, float: number}.get(info.type)
    if read is None:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=info.type.__name__.upper(),
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: (
            isinstance(value, (int, info.type)) and not isinstance(value, bool)
        ),
        str_from_instance=lambda value: [str(value)],
    )
