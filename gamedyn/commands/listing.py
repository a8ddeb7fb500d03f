"""`gamedyn list`: the registries in words."""

import dataclasses
from typing import Annotated, Literal

import tyro

from gamedyn.commands.shared import PluginFiles, console, load_plugins


@dataclasses.dataclass(frozen=True)
class List:
    """Print a registry: names, one line each, and the source."""

    what: Annotated[
        Literal[
            "games",
            "rules",
            "fields",
            "methods",
            "losses",
            "penalties",
            "schedules",
            "samplers",
            "recipes",
        ],
        tyro.conf.Positional,
    ]
    """Which registry."""

    plugins: PluginFiles = ()
    """A file that registers entries of your own."""


def run(config: List) -> None:
    """Print the table of a registry.

    Args:
        config: the options.
    """
    from rich.table import Table
    from rich.text import Text

    load_plugins(config.plugins)
    shown = Table(box=None, header_style="bold")
    shown.add_column("name", no_wrap=True)
    if config.what == "recipes":
        from gamedyn import recipes

        shown.add_column("what it is", overflow="fold")
        for name, summary in recipes.summaries().items():
            shown.add_row(name, summary)
        console().print(shown)
        return

    from gamedyn import tables

    table = tables.make(config.what)
    if table.columns == tables.METHOD_COLUMNS:
        # Nine columns are too many for a terminal: all words stand in one.
        shown.add_column("what it is", overflow="fold")
        for title in ("gradients", "products", "flops"):
            shown.add_column(title, overflow="fold", max_width=14)
        for name, summary, formula, *costs, needs, proven, source in table.rows:
            lines = [formula, f"proven: {proven}", f"needs: {needs}" * bool(needs)]
            rest = "\n".join(line for line in (*lines, source) if line)
            words = Text.assemble(summary, "\n", (rest, "dim"), "\n")
            shown.add_row(name, words, *costs)
    else:
        for title in table.columns[1:]:
            shown.add_column(title, overflow="fold")
        for name, *cells in table.rows:
            shown.add_row(name, *cells)
    console().print(shown)
    for line in table.legend:
        print(line)
