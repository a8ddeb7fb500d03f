"""A page: what a paper claims, what we measure, and whether the two agree.

A page is a package of this folder with

- a docstring: a title, then the setting, as plain text for the page's `README.md`;
- `Config`, the frozen dataclass of its sizes, and `SMALL`, one for the tests;
- `measure(config) -> Measured`: numbers by quantity, and curves for the picture;
- `draw(curves) -> Figure`;
- `expected.json`: the claim, its source, and one row per quantity.

A row holds `quantity` and either `expected` with `tolerance`, or `at_least` or
`at_most`; `basis`, a key of `BASES`, says what the number rests on; a row with
`only_in_full` is about a run too long for the tests. Running a page writes
`measured.json`, `curve.png` and `README.md` beside it.
"""

import dataclasses
import importlib
import json
import math
import textwrap
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

FOLDER = Path(__file__).parent

BASES = {
    "published": "a formula or number of the paper",
    "closed form": "derived for this setting",
    "two methods": "measured in float64 by two methods before",
    "claim": "a claim in words, made an inequality before the first run",
}
"""What an expected number rests on."""

HEAD = (
    "| quantity | expected | measured | deviation | rests on | holds |\n"
    "|---|---|---|---|---|---|\n"
)
OVERVIEW = (
    "| page | claim | expected | measured | deviation | rows that hold | seconds |\n"
    "|---|---|---|---|---|---|---|\n"
)


class Measured(NamedTuple):
    """What a page finds: `numbers` by quantity, and `curves` for its picture."""

    numbers: dict[str, float]
    curves: Any


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity held against what is expected of it.

    Attributes:
        quantity: its name.
        expected: the number with its tolerance, or the bound, in words.
        measured: our number, NaN if there is none.
        deviation: measured minus expected; for a bound, minus the bound.
        basis: what the expected number rests on.
        holds: whether the number is within the tolerance, or on its side of the bound.
        explained: why it does not, "" if unsaid.
    """

    quantity: str
    expected: str
    measured: float
    deviation: float
    basis: str
    holds: bool
    explained: str = ""


def names() -> tuple[str, ...]:
    """Name all pages, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/expected.json")))


def load(name: str) -> types.ModuleType:
    """Import a page.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in names():
        raise ValueError(f"unknown page {name!r}; expected one of {', '.join(names())}")
    return importlib.import_module(f"experiments.papers.{name}")


def expected(name: str) -> dict[str, Any]:
    """Read what a page expects."""
    return json.loads((FOLDER / name / "expected.json").read_text())


def check(
    claims: Mapping[str, Any], numbers: Mapping[str, float], *, full: bool = True
) -> list[Row]:
    """Hold numbers against what is expected; a number that is missing does not hold.

    Args:
        claims: the content of `expected.json`.
        numbers: what was measured, by quantity.
        full: whether the run was a full one, else rows `only_in_full` are left out.

    Returns:
        One finding for each row.
    """
    return [
        _row(line, float(numbers.get(line["quantity"], math.nan)))
        for line in claims["rows"]
        if full or not line.get("only_in_full")
    ]


def _row(line: Mapping[str, Any], number: float) -> Row:
    if "expected" in line:
        goal, tolerance = line["expected"], line["tolerance"]
        words, deviation = f"{goal:.10g} ± {tolerance:.2g}", number - goal
        holds = abs(deviation) <= tolerance
    elif "at_least" in line:
        words, deviation = f"≥ {line['at_least']:.10g}", number - line["at_least"]
        holds = deviation >= 0
    else:
        words, deviation = f"≤ {line['at_most']:.10g}", number - line["at_most"]
        holds = deviation <= 0
    why = line.get("explained", "")
    return Row(line["quantity"], words, number, deviation, line["basis"], holds, why)


def run(name: str, *, small: bool = False) -> tuple[dict[str, Any], Any]:
    """Measure a page in float64.

    Args:
        name: of the page.
        small: whether to run it in the size of the tests.

    Returns:
        What goes into `measured.json`, and the curves.
    """
    module = load(name)
    begin = time.perf_counter()
    with jax.enable_x64(True):
        numbers, curves = module.measure(module.SMALL if small else module.Config())
    seconds = time.perf_counter() - begin
    return {
        "full": not small,
        "seconds": round(seconds, 1),
        "versions": {"jax": jax.__version__},
        "numbers": {key: float(f"{value:.13g}") for key, value in numbers.items()},
    }, curves


def write(name: str, measured: Mapping[str, Any], curves: Any, folder: Path) -> None:
    """Write a page: numbers, picture, and the table that compares.

    Args:
        name: of the page.
        measured: what `run` returned.
        curves: what it returned beside.
        folder: the page's folder, made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(measured, indent=1, ensure_ascii=False)
    (folder / "measured.json").write_text(text + "\n")
    figure = load(name).draw(curves)
    figure.savefig(folder / "curve.png", dpi=85, pil_kwargs={"optimize": True})
    (folder / "README.md").write_text(page(name, measured))


def page(name: str, measured: Mapping[str, Any]) -> str:
    """Write the text of a page."""
    claims = expected(name)
    title, _, setting = (load(name).__doc__ or "").partition("\n")
    rows = check(claims, measured["numbers"], full=measured["full"])
    missed = [row for row in rows if not row.holds]
    verdict = (
        f"{len(rows) - len(missed)} of {len(rows)} rows hold. {measured['seconds']} "
        f"seconds on one CPU core."
    )
    cells = "".join(_line(*_cells(row)) for row in rows)
    used = dict.fromkeys(row.basis for row in rows)
    notes = "; ".join(f"*{basis}*: {BASES[basis]}" for basis in used)
    parts = [
        f"# {title.rstrip('.')}",
        _filled(f"**Claim.** {claims['claim']}"),
        _filled(f"**Source.** {cite(claims['source'])}"),
        setting.strip(),
        _filled(verdict),
        f"{HEAD}{cells}".rstrip(),
        _filled(f"{notes}. Deviations from a bound are measured minus bound."),
        *(_filled(f"Not held: {r.quantity}. {r.explained}") for r in missed),
        f"![{title.rstrip('.')}](curve.png)",
        f"To run it again: `python -m experiments.papers {name}`",
    ]
    return "\n\n".join(parts) + "\n"


def overview(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the table over pages, its most telling row of each, and what was missed.

    Args:
        measured: the content of `measured.json` by page.

    Returns:
        The table and a list, in Markdown.
    """
    lines, missed = [], []
    for name, found in measured.items():
        claims = expected(name)
        rows = check(claims, found["numbers"], full=found["full"])
        row = next((r for r in rows if r.quantity == claims["headline"]), rows[0])
        title = (load(name).__doc__ or "").partition("\n")[0].rstrip(".")
        goal, number, deviation = _cells(row)[1:4]
        holding = sum(r.holds for r in rows)
        for r in rows:
            if not r.holds:
                goal_of, number_of = _cells(r)[1:3]
                words = f"{r.quantity}: {number_of}, expected {goal_of}. {r.explained}"
                missed.append(_filled(f"- {name}, {words}", indent="  "))
        lines.append(
            _line(
                f"[{name}]({name}/README.md)",
                f"{title}. {row.quantity}",
                goal,
                number,
                deviation,
                f"{holding} of {len(rows)}",
                f"{found['seconds']}",
            )
        )
    table = OVERVIEW + "".join(lines)
    if missed:
        table += "\nRows that do not hold:\n\n" + "\n".join(missed) + "\n"
    return table


def cite(source: Mapping[str, Any]) -> str:
    """Write a source in one line."""
    return (
        f"{source['authors']}, {source['title']}, {source['year']}, "
        f"arXiv:{source['arxiv']}: {source['where']}."
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.quantity,
        row.expected,
        "none" if math.isnan(row.measured) else f"{row.measured:.10g}",
        "" if math.isnan(row.deviation) else f"{row.deviation:.1e}",
        row.basis,
        "yes" if row.holds else "**no**",
    )


def _line(*cells: str) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        88,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
