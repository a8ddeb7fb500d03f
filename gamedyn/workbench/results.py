"""What a comparison returns: rows, curves, and the same in words.

Dimensions as in `gamedyn.workbench.race`.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from gamedyn import methods
from gamedyn.games import Problem
from gamedyn.workbench.curves import precision

TOLERANCE = precision("float64").tolerance
"""The residual, relative to its start, whose cost in evaluations `auto` minimises, in
float64; see `curves.precision`."""

NOTES = {
    "own": "a rule of the caller's own, run as it is; its evaluations per step are "
    "counted in its program",
    "domains": "it keeps to the domains it was built with, whatever the problem's are",
    "no_contraction": "no step size contracts; shown at extragradient's tuned step",
    "wider": "the best of the usual step sizes was at their end: more were tried, up "
    "to three decades",
    "edge": "the best step size lies at the end of all that were tried: a better one "
    "may lie beyond",
    "not_autonomous": "its update map changes from step to step: no spectral radius",
    "not_differentiable": "the update map has no Jacobian at the solution",
    "no_solution": "no solution known and none reached: nothing to linearise at",
    "polished": "no solution is known: linearised at the point that a run reached, "
    "polished by Newton's method",
    "elsewhere": "converged to another solution than the known ones: linearised there, "
    "no distance",
    "continuum": "the solutions form a continuum: no distance, rates are of the "
    "residual, and directions along it are left out of the prediction",
    "rest": "started at a solution: nothing to measure",
    "stochastic": "stochastic: residual and distance are medians over the last "
    "quarter, the noise floor",
    "estimated": "measured against a mean over many frozen batches, since the problem "
    "declares none; a residual below three standard errors of it is given as such",
    "implicit": "implicit: evaluations count one Newton step with a dense Jacobian, or "
    "as many steps of a Krylov method as there are parameters",
    "corrected": "corrected field: its evaluations count as many gradients as it takes "
    "operations on a game of networks",
    "period": "measured at multiples of its period",
    "passes": "passed through the solution and left it again: its residual is that of "
    "the upper envelope",
    "repelled": "the solution repels in some direction: the run follows others, or "
    "ends elsewhere, on no predicted rate",
    "diverged": "became non-finite; the last finite block is shown",
}
"""What the notes of a row say."""

_COLUMNS = (
    ("rule", "rule"),
    ("step size", "step_size"),
    ("spent", "evaluations"),
    ("to {}", "to_tolerance"),
    ("residual", "residual"),
    ("distance", "distance"),
    ("measured", "measured"),
    ("predicted", "predicted"),
    ("behaviour", "behaviour"),
    ("status", "status"),
)

LEGEND = (
    "Rates are per gradient evaluation. ✓: measured and predicted rate agree within "
    "2 % of the logarithm and 2/n; ✗: they do not."
)
"""What the columns leave open."""

OWN = "rules of one's own"
"""The family of rules that are in no registry."""

_TINY = float(np.finfo(float).tiny)


@dataclasses.dataclass(frozen=True)
class Row:
    """The runs of one rule in numbers.

    Attributes:
        name: the registered name or the given label, with "(sampled)" behind it for
            minibatches.
        rule: the registered name of the rule, or of another method; `None` for a rule
            of the caller's own.
        step_size: the step size it is shown at; `None` for a rule of the caller's own.
        evaluations: joint field evaluations spent.
        evaluations_per_step: of one step.
        to_tolerance: evaluations from which on the natural residual was below the
            tolerance, 1e-10 of its start in float64, to the end.
        residual: the final natural residual of the rule's output, in units of L (see
            `race`); where it goes up and down, the largest of the last few.
        distance: its final distance to the nearest known solution, likewise; `None`
            where none is known or the known ones are not all.
        measured: the fitted rate per evaluation.
        predicted: the spectral radius of the update map, per evaluation.
        fitted: n, the evaluations until the distance fell below 1e-12 of its start for
            good (all if it never did); the rate is fitted to their second half.
        solved_in: evaluations to 1e-12 of the starting distance, where there are too
            few of them to fit a rate.
        behaviour: "converging", "marginal", "diverging", "unclear", "too short",
            "noise floor" or "at rest", of the upper envelope.
        status: the name of the solver's status; NON_FINITE is shown as DIVERGED.
        notes: keys of `NOTES`.
        error: the standard error of a stochastic row's residual, `None` in others.
        resolution: the |log| of a predicted rate below which that is 1 up to rounding.
    """

    name: str
    rule: str | None
    step_size: float | None
    evaluations: int
    evaluations_per_step: int
    to_tolerance: int | None
    residual: float
    distance: float | None
    measured: float | None
    predicted: float | None
    fitted: int
    solved_in: int | None
    behaviour: str
    status: str
    notes: tuple[str, ...]
    error: float | None = None
    resolution: float = precision("float64").marginal

    @property
    def agrees(self) -> bool | None:
        r"""Whether measurement and theory agree; `None` where either is missing.

        $|\log r - \log p| \le .02\,|\log p| + 2/n$; a marginal map
        ($|\log p| < 10^{-9}$ in float64) must keep the distance within a factor of 10.
        """
        if self.predicted is None or self.measured is None or "repelled" in self.notes:
            return None
        if abs(log_rate(self.predicted)) < self.resolution:
            return self.behaviour == "marginal"
        return rates_agree(self.measured, self.predicted, self.fitted)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The course of one rule's runs.

    Attributes:
        evaluations: field evaluations spent before each recorded point, shape `(m,)`.
        residual: natural residual of the output, shape `(s, m)`.
        distance: distance to the nearest known solution, shape `(s, m)`, or `None`.
        points: the outputs of the first seed, flattened, shape `(m, d)`, in games of
            few dimensions.
    """

    evaluations: np.ndarray
    residual: np.ndarray
    distance: np.ndarray | None
    points: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """The result of a comparison; `print` shows it as a table.

    Attributes:
        problem: the problem.
        settings: the options, and the Lipschitz estimate, as JSON values.
        rows: one per rule, in the order asked for.
        curves: by row name.
    """

    problem: Problem
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    curves: dict[str, Curve]

    def families(self) -> dict[str, list[str]]:
        """Give the rows' names by the family of their rules."""
        families: dict[str, list[str]] = {}
        for row in self.rows:
            family = OWN if row.rule is None else methods.entry(row.rule).family
            families.setdefault(family, []).append(row.name)
        return families

    def __str__(self) -> str:
        """Give the table that the command prints, with its notes."""
        numbers = footnotes(self.rows)
        lines = [
            [title for title, _ in columns(self)],
            *(cells(row, numbers) for row in self.rows),
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        notes = [f"[{number}] {NOTES[key]}" for key, number in numbers.items()]
        return "\n".join([headline(self), "", *table, "", LEGEND, *notes])

    __repr__ = __str__


def columns(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Headings of the table, and the attribute of `Row` below each."""
    mantissa, exponent = f"{comparison.settings['tolerance']:.0e}".split("e")
    tolerance = f"{mantissa}e{int(exponent)}"
    return tuple((title.format(tolerance), name) for title, name in _COLUMNS)


def rates_agree(measured: float, predicted: float, evaluations: int) -> bool:
    """Compare two rates, one of them fitted over a number of evaluations."""
    due = log_rate(predicted)
    return abs(math.log(measured) - due) <= 0.02 * abs(due) + 2 / evaluations


def log_rate(rate: float) -> float:
    """The logarithm of a predicted rate, which may be 0."""
    return math.log(max(rate, _TINY))


def footnotes(rows: tuple[Row, ...]) -> dict[str, int]:
    """Number the notes that occur, in the order in which they do."""
    keys = dict.fromkeys(key for row in rows for key in row.notes)
    return {key: number for number, key in enumerate(keys, start=1)}


def cells(row: Row, numbers: dict[str, int]) -> list[str]:
    """Format one row of the table, in the order of `columns`.

    Args:
        row: the row.
        numbers: the number of every note, from `footnotes`.

    Returns:
        One text per column.
    """
    marks = ",".join(str(numbers[key]) for key in row.notes)
    solved = row.solved_in is not None
    measured = f"solved in {row.solved_in}" if solved else _rate(row.measured)
    return [
        row.name + (f" [{marks}]" if marks else ""),
        "" if row.step_size is None else f"{row.step_size:.3g}",
        str(row.evaluations),
        "" if row.to_tolerance is None else str(row.to_tolerance),
        _with_error(row),
        "" if row.distance is None else f"{row.distance:.1e}",
        measured,
        _rate(row.predicted) + {True: " ✓", False: " ✗", None: ""}[row.agrees],
        row.behaviour,
        row.status,
    ]


def headline(comparison: Comparison) -> str:
    """Say in one sentence what was compared, and how fairly."""
    s = comparison.settings
    if all(row.rule is None for row in comparison.rows):
        tuned = ""
    elif s["step_size"] == "auto":
        tuned = (
            f", each registered rule tuned over 41 step sizes from 1e-3/L to 10/L (L = "
            f"{s['lipschitz']:.4g}) with {s['evaluations']} evaluations each"
        )
    else:
        tuned = f", step size {s['step_size']:g} for each registered rule"
    noise = f", noise {s['noise']:g}" if s["noise"] else ""
    seeds = f", median of {s['seeds']} starts" if s["seeds"] > 1 else ""
    return (
        f"{s['game']} in {s['dimension']} dimensions, {s['dtype']}; "
        f"{s['evaluations']} gradient evaluations per rule{tuned}{noise}{seeds}"
    )


def _with_error(row: Row) -> str:
    """The residual, with its standard error in stochastic rows."""
    if row.error is None:
        return f"{row.residual:.1e}"
    if "estimated" in row.notes and row.residual < 3 * row.error:
        return f"<{3 * row.error:.1e}"
    return f"{row.residual:.1e} ± {row.error:.0e}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
