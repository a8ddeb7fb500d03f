"""Write a comparison or an analysis: numbers, curves, pictures, one HTML page."""

import base64
import csv
import dataclasses
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gamedyn import methods, runtime
from gamedyn.fields import Field
from gamedyn.games import Problem
from gamedyn.text import for_html, for_mathtext, for_terminal
from gamedyn.workbench import plot
from gamedyn.workbench.analyse import Analysis
from gamedyn.workbench.results import (
    COLUMNS,
    LEGEND,
    NOTES,
    Comparison,
    Row,
    cells,
    footnotes,
    headline,
)


def write(comparison: Comparison, out: Path, field: Field, command: str) -> None:
    """Write every file of a comparison.

    Args:
        comparison: the comparison.
        out: the folder, existing.
        field: the deterministic field, for the phase portrait.
        command: the command line that made it.
    """
    pictures = {"convergence.png": plot.convergence(comparison)}
    if comparison.settings["dimension"] == 2:
        pictures["phase.png"] = plot.phase(
            comparison,
            field,
            title=for_mathtext(comparison.settings["game"])
            + ": trajectories, tabulated step sizes",
        )
    images = _write_pictures(pictures, out)
    _write_csv(comparison.rows, out / "table.csv")
    summary = _summary(comparison, command)
    _write_json(summary, out / "summary.json")
    _write_npz(comparison, out / "trajectories.npz")
    (out / "report.html").write_text(_page(comparison, summary, images), "utf-8")


def write_analysis(analysis: Analysis, out: Path, command: str) -> None:
    """Write every file of an analysis.

    Args:
        analysis: the analysis.
        out: the folder, existing.
        command: the command line that made it.
    """
    name, several = analysis.problem.info.name, len(analysis.findings) > 1
    pictures = {}
    for number, finding in enumerate(analysis.findings):
        if finding.spectrum is not None:
            file = f"spectrum-{number}.png" if several else "spectrum.png"
            title = f"{name}: {finding.label}" if several else name
            pictures[file] = plot.spectrum(finding.spectrum, for_mathtext(title))
    images = _write_pictures(pictures, out)
    summary = {
        **_made(analysis.problem, command),
        "settings": analysis.settings,
        "points": [_jsonable(finding.to_json()) for finding in analysis.findings],
    }
    _write_json(summary, out / "report.json")
    body = []
    for finding in analysis.findings:
        rows = "".join(
            f'<tr><td class="key">{for_html(key)}</td>'
            f'<td class="text">{for_html(text)}</td></tr>'
            for key, text in finding.lines()
        )
        body.append(f"<h2>{for_html(finding.label)}</h2><table>{rows}</table>")
    page = _shell("analyse", summary, "".join(body), images)
    (out / "report.html").write_text(page, "utf-8")


def _made(problem: Problem, command: str) -> dict[str, Any]:
    """The command, environment and game of a report."""
    info = problem.info
    return {
        "command": command,
        "environment": runtime.environment(),
        "game": {"name": info.name, "summary": info.summary, "source": info.source},
    }


def _write_pictures(pictures: dict[str, Figure], out: Path) -> dict[str, bytes]:
    images = {}
    for name, figure in pictures.items():
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # Of letters that the font lacks, as a name may have: boxes are drawn.
            warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
            figure.savefig(buffer, dpi=130, format="png")
        images[name] = buffer.getvalue()
        (out / name).write_bytes(images[name])
    return images


def _write_json(summary: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")


def _write_csv(rows: tuple[Row, ...], path: Path) -> None:
    records = [_record(row) for row in rows]
    # What UTF-8 cannot hold, bytes of a name that were no text, is written in escapes.
    with path.open(
        "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow(records[0])
        for record in records:
            values = (record | {"notes": " ".join(record["notes"])}).values()
            writer.writerow(["" if value is None else value for value in values])


def _record(row: Row) -> dict[str, Any]:
    return dataclasses.asdict(row) | {"agrees": row.agrees}


def _summary(comparison: Comparison, command: str) -> dict[str, Any]:
    return {
        **_made(comparison.problem, command),
        "settings": comparison.settings,
        "rows": [_jsonable(_record(row)) for row in comparison.rows],
        "notes": {key: NOTES[key] for key in footnotes(comparison.rows)},
        "sources": {
            row.rule: methods.entry(row.rule).source
            for row in comparison.rows
            if row.rule is not None
        },
    }


def _jsonable(value: Any) -> Any:
    """JSON has no infinity: it is written as a string, so that the file stays valid."""
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _write_npz(comparison: Comparison, path: Path) -> None:
    arrays = {}
    for name, curve in comparison.curves.items():
        for field in dataclasses.fields(curve):
            value = getattr(curve, field.name)
            if value is not None:
                arrays[f"{for_terminal(name)}/{field.name}"] = value
    np.savez_compressed(path, **arrays)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1250px; margin: 2em auto;
       padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { padding: .3em .6em; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th:first-child, td:first-child, .text { text-align: left; }
.text { white-space: normal; } .key { font-weight: bold; vertical-align: top; }
th { border-bottom: 2px solid #888; }
.converging { color: #1a7f37; } .diverging { color: #b3261e; }
.marginal, .noise { color: #9a6700; }
img { max-width: 100%; } ol, pre { font-size: 13px; } pre { white-space: pre-wrap; }
"""


def _page(
    comparison: Comparison, summary: dict[str, Any], images: dict[str, bytes]
) -> str:
    numbers = footnotes(comparison.rows)
    head = "".join(f"<th>{for_html(title)}</th>" for title, _ in COLUMNS)
    body = []
    for row in comparison.rows:
        values = cells(row, numbers)
        tags = "".join(
            f'<td class="{row.behaviour}">{for_html(value)}</td>'
            if attribute == "behaviour"
            else f"<td>{for_html(value)}</td>"
            for value, (_, attribute) in zip(values, COLUMNS, strict=True)
        )
        body.append(f"<tr>{tags}</tr>")
    notes = "".join(f"<li>{for_html(NOTES[key])}</li>" for key in numbers)
    sources = "".join(
        f"<li><b>{for_html(name)}</b>: {for_html(methods.entry(name).summary)}"
        f" ({for_html(source)})</li>"
        for name, source in summary["sources"].items()
    )
    table = f"""<p>{for_html(headline(comparison))}.</p>
<p>{LEGEND} The measured rate is fitted to the distance, the predicted one is the
spectral radius of the rule's own update map.
"spent" and "to 1e-10" are gradient evaluations, all of them and those until the natural
residual was 1e-10 of its start.</p>
<table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>
<ol>{notes}</ol>"""
    return _shell(
        "compare", summary, table, images, f"<h2>Rules</h2><ul>{sources}</ul>"
    )


def _shell(
    what: str,
    summary: dict[str, Any],
    body: str,
    images: dict[str, bytes],
    appendix: str = "",
) -> str:
    """A self-contained page: its game, a body, the pictures, how it was made."""
    game = summary["game"]
    heading = {"compare": "Rules compared on", "analyse": "Analysis of"}[what]
    figures = "".join(
        f'<h2>{name.removesuffix(".png").capitalize()}</h2><img alt="{name}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for name, data in images.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<title>gamedyn {what} {for_html(game["name"])}</title>
<style>{_STYLE}</style></head><body>
<h1>{heading} {for_html(game["name"])}</h1>
<p>{for_html(game["summary"])} ({for_html(game["source"])})</p>
{body}
{figures}
{appendix}
<h2>How it was made</h2>
<pre>{for_html(summary["command"])}

{for_html(json.dumps(summary["environment"], indent=1), lines=True)}</pre>
</body></html>
"""
