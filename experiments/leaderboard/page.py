"""The page: one file that needs no other, with tables that sort."""

import base64
import html
import json
import math
import re
from typing import Any

from gamedyn import methods

from . import games, pictures
from .pairs import OUTCOMES
from .scores import (
    LEVEL,
    Board,
    Interval,
    game_rows,
    median_interval,
    method_rows,
)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1500px;
       padding: 0 1.5em; color: #222; }
.wide { overflow-x: auto; margin: 1em 0; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: .2em .5em; text-align: right; border-bottom: 1px solid #ddd; }
td { white-space: nowrap; }
thead th { cursor: pointer; border-bottom: 2px solid #888; vertical-align: bottom; }
thead th:hover { background: #eef; }
th[data-up="1"]::after { content: " \\25B2"; }
th[data-up="0"]::after { content: " \\25BC"; }
td:first-child, th:first-child, .text { text-align: left; }
.map thead th { writing-mode: vertical-rl; text-align: left; padding: .5em .1em; }
.map td { padding: .1em .3em; font-size: 11px; } .map small { opacity: .75; }
.n { color: #999; } code, pre { font-size: 12px; }
dt { font-weight: bold; margin-top: .7em; } pre { white-space: pre-wrap; }
"""

SCRIPT = """
function value(row, column) {
  const text = row.cells[column].textContent.trim(), number = parseFloat(text);
  return Number.isNaN(number) ? text : number;
}
function order(a, b) {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a === 'number') return -1;
  if (typeof b === 'number') return 1;
  return a.localeCompare(b);
}
document.querySelectorAll('table.sorts').forEach(function (table) {
  const heads = Array.from(table.tHead.rows[0].cells), body = table.tBodies[0];
  heads.forEach(function (head, column) {
    head.addEventListener('click', function () {
      const up = head.dataset.up !== '1';
      heads.forEach(function (other) { delete other.dataset.up; });
      head.dataset.up = up ? '1' : '0';
      const rows = Array.from(body.rows);
      rows.sort(function (a, b) {
        const sign = order(value(a, column), value(b, column));
        return up ? sign : -sign;
      });
      rows.forEach(function (row) { body.append(row); });
    });
  });
});
"""

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")


def page(
    board: Board, images: dict[str, bytes], command: str, environment: dict[str, Any]
) -> str:
    """Write the page.

    Args:
        board: the results.
        images: PNGs, by caption.
        command: what makes it again.
        environment: what it was made with.

    Returns:
        HTML that loads nothing.
    """
    colours = "".join(
        f".{_class(kind)} {{ background: {colour}90; }}"
        for kind, colour in pictures.COLOURS.items()
    )
    scored = [g for g in board.groups() if g not in ("traps", "noisy")]
    parts = [_head(board)]
    parts += [f"<h2>{_text(name)}</h2>{_image(i)}" for name, i in images.items()]
    if scored:
        parts.append("<h2>Deterministic track</h2>" + _leaderboard(board, scored))
    if "noisy" in board.groups():
        parts.append("<h2>Stochastic track</h2>" + _leaderboard(board, ["noisy"]))
    parts.append("<h2>Games, and the best method on each</h2>" + _games(board))
    parts.append(_legend())
    parts += [_map(board, group) for group in board.groups()]
    parts.append(_methods(board))
    made = json.dumps(environment, indent=1)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>gamedyn leaderboard</title>
<style>{STYLE}{colours}</style></head><body>
<h1>Methods and games: a leaderboard</h1>
{"".join(parts)}
<h2>How it was made</h2>
<pre>{_text(command)}

{_text(made)}</pre>
<script>{SCRIPT}</script>
</body></html>
"""


def _head(board: Board) -> str:
    s = board.settings
    counts = [len(board.games_of(group)) for group in board.groups()]
    groups = "".join(
        f"<li><b>{group}</b>: {_text(games.GROUPS[group])} ({count})</li>"
        for group, count in zip(board.groups(), counts, strict=True)
    )
    measures = "".join(
        f"<li><b>{name}</b>: {_text(what)}</li>"
        for name, what in games.MEASURES.items()
    )
    tuned_on = ", ".join(map(str, s.tune_seeds))
    seeds = f"{s.report_seeds[0]} to {s.report_seeds[-1]}"
    return f"""
<p>{len(board.methods())} methods on {sum(counts)} games ({len(board.results)} pairs).
Every method has {s.budget} joint gradient evaluations on every game, for every step
size and seed: a step costs what the registry says, a corrected field or an inner solver
as many gradients as its operations are worth, so that dearer methods take fewer
steps.</p>
<p><b>Tuning</b>, the same for all: one number, the step size, out of {len(s.grid)} from
{s.grid[0]:g}/L to {s.grid[-1]:g}/L in equal ratios (L: the spectral norm of the
Jacobian at the standard start), on the seeds {tuned_on}: the least mean cost, an
unsolved run counting twice the budget; ties go to the smaller final measure, then to
the smaller step. Tuning thus spends
{len(s.grid) * len(s.tune_seeds) * s.budget} evaluations for every pair. All other
parameters are the registry's. <b>Reported</b> are the seeds {seeds}, with starts
(and noise) of their own.</p>
<p><b>Solved</b>: the game's measure, on the deterministic field, falls below
{s.tolerance:g} of its start ({s.noisy_tolerance:g} in the stochastic track) and stays
there until the budget is spent; the cost is what was spent when it last came below. In
the stochastic track the measure is the geometric mean over the last twentieth. A
run whose end point is certified to be no Nash point has not solved a game whose target
is one. Measures:</p><ul>{measures}</ul>
<p><b>Noise</b> in the stochastic track: the problem's minibatches, or Gaussian noise on
each coordinate of the direction, of {games.NOISE:g} of the field's root mean square at
the standard start. A corrected field is corrected first.</p>
<p>Games are scored in groups:</p><ul>{groups}</ul>
<p>A method that is not for a game (n/a, with the reason) is not charged for it: shares
are of the games it is for, and profiles show only methods that are for a whole
group. <b>Costs</b> are medians over the {len(s.report_seeds)} seeds; their intervals
are by order statistics, whatever the distribution, runs that did not finish being
infinite (ten seeds: second smallest to second largest, 97.9 %). Intervals of shares
are bootstrapped over games, {LEVEL:.0%}. Click a heading to sort.</p>"""


def _leaderboard(board: Board, groups: list[str]) -> str:
    heads = (
        "method",
        "family",
        "games",
        "solved %",
        f"{LEVEL:.0%} interval",
        "best %",
        "within 2 x best %",
        "within 10 x best %",
        "step sizes that solve %",
        *(f"{kind} %" for kind in OUTCOMES if kind != "solved"),
        "needs",
    )
    rows = []
    for row in method_rows(board, groups):
        entry = methods.entry(row["method"])
        low, high = 100 * row["solved_low"], 100 * row["solved_high"]
        rows.append(
            [
                _link(row["method"]),
                entry.family,
                str(row["games"]),
                _percent(row["solved"]),
                f"{low:.0f} – {high:.0f}",
                *(
                    _percent(row[key])
                    for key in ("best", "within_2", "within_10", "steps_that_solve")
                ),
                *(_percent(row[kind]) for kind in OUTCOMES if kind != "solved"),
                ", ".join(entry.needs),
            ]
        )
    return _table(heads, rows)


def _games(board: Board) -> str:
    heads = (
        "game",
        "group",
        "players",
        "dimension",
        "domain",
        "measure",
        "tolerance",
        "target",
        "L",
        "noise",
        "methods",
        "solved by",
        "least evaluations",
        "best method",
    )
    rows = []
    for row in game_rows(board):
        best = ", ".join(_link(name).text for name in row["best"][:4])
        more = len(row["best"]) - 4
        rows.append(
            [
                row["game"].replace("_", " ")
                + (f" ({row['options']})" if row["options"] else ""),
                row["group"],
                str(row["players"]),
                str(row["dimension"]),
                row["domain"],
                row["measure"],
                f"{row['tolerance']:g}",
                row["target"],
                row["lipschitz"],
                row["noise"],
                str(row["methods"]),
                str(row["solvers"]),
                row["evaluations"].replace("inf", "–"),
                _Html((best or "none") + (f" and {more} more" if more > 0 else "")),
            ]
        )
    return _table(heads, rows)


def _legend() -> str:
    kinds = "".join(
        f'<tr><td class="{_class(kind)}">{kind}</td><td class="text">{_text(what)}</td>'
        "</tr>"
        for kind, what in OUTCOMES.items()
    )
    return (
        "<h2>Evaluations to tolerance, and failures</h2><p>Where at least half the "
        "seeds solve the game: the median of the evaluations, its interval, and the "
        "median of the steps behind a slash. Elsewhere the most frequent outcome, and "
        "how many seeds solved it if some did. Nash and no Nash are findings of "
        f"certificates at the end points.</p><table>{kinds}</table>"
    )


def _map(board: Board, group: str) -> str:
    listed = board.games_of(group)
    heads = ["method", *(entry.name.replace("_", " ") for entry in listed)]
    reasons: dict[str, int] = {}
    rows, nowhere = [], {}
    for name in board.methods():
        results = [board.result(entry, name) for entry in listed]
        why = [result["inapplicable"] for result in results]
        if all(why):
            nowhere.setdefault("; ".join(dict.fromkeys(why)), []).append(name)
            continue
        cells = [f"<td>{_link(name).text}</td>"]
        for result in results:
            reason = result["inapplicable"]
            if reason is not None:
                number = reasons.setdefault(reason, len(reasons) + 1)
                cells.append(f"<td class=n>n/a<sup>{number}</sup></td>")
            else:
                cells.append(_cell(result))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{_text(title)}</th>" for title in heads)
    notes = "".join(f"<li>{_text(reason)}</li>" for reason in reasons)
    others = "".join(
        f"<li>{', '.join(_link(name).text for name in names)}: {_text(reason)}</li>"
        for reason, names in nowhere.items()
    )
    after = f"<p>n/a: the method</p><ol>{notes}</ol>" if notes else ""
    if others:
        after += f"<p>n/a on the whole group:</p><ul>{others}</ul>"
    return (
        f"<h3>{group}: {_text(games.GROUPS[group])}</h3>"
        f'<div class="wide"><table class="sorts map"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{after}"
    )


def _cell(result: dict[str, Any]) -> str:
    outcomes = result["outcomes"]
    cost = median_interval(math.inf if c is None else c for c in result["costs"])
    solved = outcomes.count("solved")
    if math.isfinite(cost.median):
        steps = cost.median / result["cost_per_step"]
        words = f"{_count(cost.median)} <small>{_span(cost)} / {_count(steps)}</small>"
        return f"<td class=solved>{words}</td>"
    kind = pictures.commonest([k for k in outcomes if k != "solved"])
    share = f" <small>{solved}/{len(outcomes)}</small>" if solved else ""
    return f"<td class={_class(kind)}>{kind}{share}</td>"


def _span(cost: Interval) -> str:
    high = "∞" if math.isinf(cost.high) else _count(cost.high)
    return f"{_count(cost.low)}–{high}"


def _count(value: float) -> str:
    return f"{value:.0f}"


def _methods(board: Board) -> str:
    """Formula and source of every method, from the registry."""
    items = []
    for name in board.methods():
        entry = methods.entry(name)
        parts = (
            f"{_text(entry.summary)}. <code>{_text(entry.formula)}</code>",
            f"Cost of a step: {entry.evaluations(2)} evaluations in 2 dimensions, "
            f"{entry.evaluations(20)} in 20.",
            f"Needs: {_text(', '.join(entry.needs))}." if entry.needs else "",
            _source(entry.source),
        )
        words = " ".join(filter(None, parts))
        items.append(f'<dt id="{name}">{_text(name)}</dt><dd>{words}</dd>')
    return f"<h2>Methods</h2><dl>{''.join(items)}</dl>"


def _source(source: str) -> str:
    return _ARXIV.sub(
        lambda match: f'<a href="https://arxiv.org/abs/{match[1]}">{match[0]}</a>',
        _text(source),
    )


class _Html:
    """Text that is HTML already."""

    def __init__(self, text: str) -> None:
        self.text = text


def _link(name: str) -> _Html:
    return _Html(f'<a href="#{name}">{_text(name.replace("_", " "))}</a>')


def _table(heads: tuple[str, ...], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{_text(title)}</th>" for title in heads)
    body = []
    for row in rows:
        cells = []
        for item in row:
            if isinstance(item, _Html):
                cells.append(f"<td>{item.text}</td>")
            else:
                cells.append(f"<td>{_text(item)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="sorts"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _image(image: bytes) -> str:
    data = base64.b64encode(image).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'


def _class(kind: str) -> str:
    return kind.replace(" ", "-").lower()


def _text(words: str) -> str:
    return html.escape(words)
