"""The registries as tables, for `gamedyn list` and for the documentation."""

import html
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gamedyn import fields, games, methods, rules


class Table(NamedTuple):
    """A registry as rows of text.

    Attributes:
        columns: their titles; the first holds the name, the second what it is.
        rows: one for each entry, in the registry's order.
        legend: explanations below the table, one line each.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[str, ...] = ()


METHOD_COLUMNS = (
    "name",
    "what it is",
    "formula",
    "gradients",
    "products",
    "flops",
    "needs",
    "proven",
    "source",
)
"""The columns of rules, fields and methods, in this order."""

_COSTS = (
    "gradients: evaluations of the field per step (of a field: of the joint gradient "
    "F); products: of vectors with its Jacobian J, or the transpose or a half of it; d "
    "is the number of parameters",
    "flops: floating-point operations per step on a game of two networks, in units of "
    "one joint gradient; of inner loops one turn is counted",
    "h step size, L Lipschitz constant, mu strong monotonicity, s singular value",
)


def names() -> tuple[str, ...]:
    """The names of all tables."""
    return tuple(_TABLES)


def make(name: str) -> Table:
    """Make a table of what is registered now.

    Args:
        name: a name from `names()`.

    Returns:
        The table.

    Raises:
        ValueError: if there is none of that name.

    Example:
        >>> from gamedyn import tables
        >>> tables.make("fields").rows[0][:3]
        ('gradient', "everybody's gradient of their own loss", 'F')
    """
    if name not in _TABLES:
        raise ValueError(f"unknown table {name!r}; known: {', '.join(_TABLES)}")
    return _TABLES[name]()


def markdown(name: str, *, link: str = "") -> str:
    """Make a table in Markdown, its legend below.

    Args:
        name: a name from `names()`.
        link: where the names lead to, the name itself being put in for `{}`.

    Returns:
        The text.
    """
    table = make(name)
    # Nine columns are too many for a page: formula and source go below the words.
    below = ("formula", "source") if table.columns == METHOD_COLUMNS else ("formula",)
    titles = [title for title in table.columns if title not in below]
    lines = [titles, ["---"] * len(titles)]
    for row in table.rows:
        cells = dict(zip(table.columns, map(_plain, row), strict=True))
        for title in below:
            text = cells.pop(title, "")
            shown = f"<code>{text}</code>" if title == "formula" else text
            cells["what it is"] += f"<br>{shown}" * bool(text)
        shown = f"`{row[0]}`"
        cells["name"] = f"[{shown}]({link.format(row[0])})" if link else shown
        lines.append(list(cells.values()))
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text + "".join(f"\n{_plain(line)}.\n" for line in table.legend)


def _plain(text: str) -> str:
    """Escape the characters that mean something in Markdown."""
    text = html.escape(text, quote=False)
    for sign in "\\`*_[]|~^$":
        text = text.replace(sign, f"&#{ord(sign)};")
    return text


def _methods(names: Iterable[str]) -> Table:
    """Make the table of some methods; a rule is one on the gradient field."""
    rows = [
        (
            name,
            entry.summary,
            entry.formula,
            _by_size(entry.gradients),
            _by_size(entry.products),
            _number(entry.flops),
            ", ".join(entry.needs),
            entry.guarantee,
            entry.source,
        )
        for name, entry in ((name, methods.entry(name)) for name in names)
    ]
    return Table(METHOD_COLUMNS, tuple(rows), _COSTS)


def _combinations() -> list[str]:
    """The methods that are neither a rule nor a field."""
    alone = {*rules.names(), *fields.names()}
    return [name for name in methods.names() if name not in alone]


def _fields() -> Table:
    rows = []
    for name, entry in fields.entries().items():
        flops = _work(entry.work)
        if entry.general is not None:
            flops += f"; general-sum {_work(entry.general)}"
        rows.append(
            (
                name,
                entry.summary,
                entry.formula,
                str(entry.gradients),
                str(entry.products),
                flops,
                ", ".join(entry.needs),
                entry.guarantee,
                entry.source,
            )
        )
    return Table(METHOD_COLUMNS, tuple(rows), _COSTS)


def _games() -> Table:
    columns = "name", "what it is", "players", "domain", "solution", "what it shows"
    rows = []
    for name, entry in games.entries().items():
        kind = "zero-sum" if entry.zero_sum else "general"
        players = f"{entry.num_players} {kind}" + ", finite sum" * entry.finite_sum
        summary = entry.summary + f"; needs the files of {entry.files}" * bool(
            entry.files
        )
        facts = players, entry.domain, entry.solution, entry.shows, entry.source
        rows.append((name, summary, *facts))
    legend = tuple(f"{kind}: {words}" for kind, words in games.SOLUTIONS.items())
    return Table((*columns, "source"), tuple(rows), legend)


def _losses() -> Table:
    from gamedyn.gan import losses

    columns = "name", "what it is", "formula", "at the solution", "source"
    rows = []
    for name, entry in losses.entries().items():
        values = entry.generator_value, entry.discriminator_value
        at = ", ".join("any" if v is None else _number(v) for v in values)
        rows.append((name, entry.summary, entry.formula, at, entry.source))
    legend = (
        "r and f are the logits of real and fake examples, E the mean, sp the "
        "softplus; at the solution: the generator's and the discriminator's loss where "
        "the generator has the distribution of the data",
    )
    return Table(columns, tuple(rows), legend)


def _penalties() -> Table:
    from gamedyn.gan import penalties

    columns = "name", "what it is", "formula", "looks at", "source"
    rows = []
    for name, entry in penalties.entries().items():
        at = "real and fake examples" if entry.uses_fake else "real examples"
        at += ", gradients of single logits" * entry.differentiates
        rows.append((name, entry.summary, entry.formula, at, entry.source))
    return Table(columns, tuple(rows))


def _samplers() -> Table:
    from gamedyn.diffusion import samplers

    columns = "name", "what it is", "fresh noise", "source"
    rows = [
        (name, entry.summary, "yes" if entry.stochastic else "no", entry.source)
        for name, entry in samplers.entries().items()
    ]
    return Table(columns, tuple(rows))


def _schedules() -> Table:
    from gamedyn.diffusion import schedules

    rows = [
        (name, entry.summary, entry.source)
        for name, entry in schedules.entries().items()
    ]
    return Table(("name", "what it is", "source"), tuple(rows))


_TABLES: dict[str, Callable[[], Table]] = {
    "games": _games,
    "rules": lambda: _methods(rules.names()),
    "fields": _fields,
    "methods": lambda: _methods(methods.names()),
    "combinations": lambda: _methods(_combinations()),
    "losses": _losses,
    "penalties": _penalties,
    "schedules": _schedules,
    "samplers": _samplers,
}


def _by_size(count: Callable[[int], int]) -> str:
    """Write a count that may grow with the number d of parameters."""
    fixed, many = count(0), 10**9
    slope = count(1) - fixed
    if not slope:
        return str(fixed)
    words = "d" if slope == 1 else f"{slope}d"
    words += f" + {fixed}" * bool(fixed)
    most = count(many)
    return words if most == fixed + slope * many else f"{words}, at most {most}"


def _number(value: float) -> str:
    return "dense" if math.isnan(value) else f"{value:.3g}"


def _work(work: Any) -> str:
    more = f" + {_number(work.inner)} for each further turn" if work.inner else ""
    return _number(work.flops) + more
