"""Summarise the runs of one rule: measured rate, predicted rate, behaviour, notes.

Dimensions as in `gamedyn.workbench.race`.
"""

import math
from typing import NamedTuple

import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis import MeasuredRate, measured_rate, update_jacobian
from gamedyn.analysis.constrained import is_constrained
from gamedyn.fields import Field
from gamedyn.games import Problem
from gamedyn.rules import Rule
from gamedyn.solve import Status
from gamedyn.workbench import curves as course
from gamedyn.workbench.curves import Precision
from gamedyn.workbench.mean_field import full_field, standard_error
from gamedyn.workbench.points import Scales, Target
from gamedyn.workbench.race import Race, build
from gamedyn.workbench.results import Curve, Row, log_rate, rates_agree

_FEW = 40  # evaluations too few to fit a rate to
_FAST = 0.2  # a predicted rate too fast to fit one
_ERRORS = 3  # standard errors below which a residual is not told from 0


class Entrant(NamedTuple):
    """One row to be: what runs, under which label, on which batches.

    Attributes:
        label: the row's name.
        method: a registered name, or a rule of the caller's own.
        sampled: whether it runs on minibatches.
    """

    label: str
    method: str | Rule
    sampled: bool = False


class Prediction(NamedTuple):
    """What the update map says of the rate at the solution.

    Attributes:
        rate: the spectral radius per evaluation; `None` where there is none.
        note: why there is no rate, a key of `NOTES`, or `None`.
    """

    rate: float | None = None
    note: str | None = None


def summarise(
    entrant: Entrant,
    race: Race,
    step_size: float,
    problem: Problem,
    field: Field,
    target: Target,
    scale: Scales,
    to: Precision,
    notes: tuple[str, ...] = (),
) -> tuple[Row, Curve]:
    r"""Summarise the runs of one rule at one step size.

    The measured rate r is the slope of $\log d_k$, fitted as in
    `analysis.measured_rate`; the predicted one is $\rho(D\Phi(z^*))^{1/e}$, $\Phi$ the
    rule's own update map and e the evaluations it takes.

    Args:
        entrant: what ran.
        race: its runs at one step size.
        step_size: that step size.
        problem: the problem.
        field: the deterministic field.
        target: where to linearise.
        scale: the problem's scales.
        to: what the dtype can reach.
        notes: what is known already, keys of `NOTES`.

    Returns:
        The row and the curve.
    """
    told = None if race.distance is None or not target.distance else race.distance[0]
    curve = Curve(
        evaluations=race.evaluations,
        residual=race.residual[0].astype(np.float64),
        distance=None if told is None else told.astype(np.float64),
        points=None if race.points is None else race.points[0],
    )
    status = Status(int(race.status[0].max()))
    diverged = status == Status.NON_FINITE
    error = _error(race, problem, field) if race.stochastic else 0.0
    rest = bool((curve.residual[:, 0] <= scale.rounding).all())

    # How the numbers came about.
    noted = list(notes)
    if race.entry is None:
        noted.append("own")
        if is_constrained(problem.geometry, problem.game.num_players):
            noted.append("domains")
    if rest:
        noted.append("rest")
    if diverged:
        noted.append("diverged")
    if race.period > 1:
        noted.append("period")
    if race.varies:
        noted.append("implicit")
    elif race.entry is not None and race.entry.field != "gradient":
        noted.append("corrected")
    if race.stochastic:
        noted.append("stochastic")
    if error:
        noted.append("estimated")

    # What theory predicts.
    prediction = Prediction()
    if not race.stochastic:
        noted += () if rest else target.notes
        prediction = _predict(entrant.method, race, step_size, problem, target)
    if prediction.note is not None:
        noted.append(prediction.note)
    predicted = prediction.rate

    # From where on the tolerance is met, and whether it was met before in passing. What
    # the field's standard error hides is not claimed.
    judged = np.maximum(curve.residual, _ERRORS * error)
    rounding = _ratio(scale.rounding, judged[:, 0])
    tolerance = np.maximum(to.tolerance, rounding)[:, None]
    met = course.solved(judged, race.evaluations, tolerance)
    solved = bool(np.isfinite(met).all())
    small = judged <= tolerance * judged[:, :1]
    if not (solved or rest or race.stochastic) and small.any(axis=1).all():
        noted.append("passes")

    # What was measured, of the residual where no distance means anything.
    floors = np.maximum(to.floor, rounding)
    done = np.isfinite(course.solved(judged, race.evaluations, floors[:, None])).all()
    followed = judged
    if curve.distance is not None:
        followed = curve.distance
        floors = [_floor(problem, one, to, done=bool(done)) for one in followed]
    rates = [
        measured_rate(one, race.evaluations, floor=float(floor))
        for one, floor in zip(followed, floors, strict=True)
    ]
    rate = _median([fit.rate for fit in rates])
    spent = int(np.median([fit.evaluations for fit in rates]))
    reached = all(fit.reached for fit in rates)
    few = spent < _FEW or (predicted is not None and predicted < _FAST)
    quick = reached and few and not rest
    blank = quick or rest or race.stochastic or diverged or math.isnan(rate)

    # Where the two cannot meet: a solution left because it repels.
    marginal = predicted is not None and abs(log_rate(predicted)) < to.marginal
    repelled = (
        predicted is not None
        and log_rate(predicted) > 0
        and not (marginal or blank or rates_agree(rate, predicted, spent))
    )
    if repelled:
        noted.append("repelled")

    # In a word.
    if rest and not diverged:
        behaviour = "at rest"
    elif diverged:
        behaviour = "diverging"
    elif solved or done:
        behaviour = "converging"
    elif race.stochastic:
        behaviour = _noisy(judged, race.evaluations)
    else:
        behaviour = course.direction(curve.residual, race.evaluations)
        if curve.distance is not None and behaviour == "converging":
            # A slow cycle passes where the field is small, and where losses saturate it
            # vanishes far away: the distance has to follow.
            behaviour = course.direction(curve.distance, race.evaluations)
        if behaviour != "too short" and not repelled and not math.isnan(rate):
            behaviour = _explained(behaviour, rates, predicted, marginal, spent)

    name = entrant.method if isinstance(entrant.method, str) else None
    row = Row(
        name=entrant.label,
        rule=name,
        step_size=None if name is None else step_size,
        evaluations=int(race.evaluations[-1]),
        evaluations_per_step=race.cost,
        to_tolerance=int(np.median(met)) if solved else None,
        residual=_final(curve.residual, race),
        distance=None if curve.distance is None else _final(curve.distance, race),
        measured=None if blank else rate,
        predicted=predicted,
        fitted=spent,
        solved_in=spent if quick else None,
        behaviour=behaviour,
        status="DIVERGED" if diverged else status.name,
        notes=tuple(dict.fromkeys(noted)),
        error=_spread(curve.residual, race, error) if race.stochastic else None,
        resolution=to.marginal,
    )
    return row, curve


def _explained(
    behaviour: str,
    rates: list[MeasuredRate],
    predicted: float | None,
    marginal: bool,
    spent: int,
) -> str:
    """Let the map say what a drift is that a run of this length hardly shows."""
    rate = _median([fit.rate for fit in rates])
    if predicted is None:
        return behaviour
    if marginal:
        slow = _median([fit.spread for fit in rates]) < 10
        return "marginal" if slow else behaviour
    expected = "converging" if log_rate(predicted) < 0 else "diverging"
    if (rate < 1) == (predicted < 1) and rates_agree(rate, predicted, spent):
        return expected
    return behaviour


def _noisy(curves: np.ndarray, evaluations: np.ndarray) -> str:
    """Say where a run on batches or with noise is going.

    A floor is a level that is kept. Runs that still fall when they end are called
    converging only far below their start: others may be on their way to a floor.
    """
    if curves.shape[1] < 16:
        return "too short"
    with np.errstate(all="ignore"):
        relative = np.log(curves / curves[:, :1])
    parts = np.split(relative, course.pieces(evaluations, 8)[1:], axis=1)
    levels = np.median([np.median(part, axis=1) for part in parts], axis=1)
    if not np.isfinite(levels).all():
        return "converging" if np.isneginf(levels[-1]) else "diverging"
    # Of a level that is kept the pieces' medians differ by chance, in either sense: the
    # last two have to be on one side of the four before.
    before, after, steps = levels[2:6], levels[6:], np.diff(levels[3:])
    if after.min() > before.max() + 0.35 and after.min() > 0:
        return "diverging"
    early, late = levels[5] - levels[3], levels[7] - levels[5]
    lasting = late < -0.02 and late < early / 2 and bool((steps < 0).all())
    if after.max() < before.min() - 0.35 or lasting:
        return "converging" if levels[7] < math.log(1e-4) else "too short"
    return "noise floor"


def _predict(
    method: str | Rule,
    race: Race,
    step_size: float,
    problem: Problem,
    target: Target,
) -> Prediction:
    """Predict the rate per evaluation at the solution, or say why there is none."""
    if target.point is None:
        return Prediction(note="no_solution")
    descended, rule = build(method, problem, step_size)
    _, batch = full_field(problem)
    matrix, status, period = update_jacobian(descended, rule, target.point, batch)
    if status != Status.OK:
        return Prediction(note=status.name.lower())

    # Its spectral radius. Along a continuum of solutions every map stands still: as
    # many eigenvalues nearest to 1 are left out.
    eigenvalues = np.linalg.eigvals(np.asarray(matrix, np.float64))
    kept = np.argsort(np.abs(eigenvalues - 1))[target.nullity :]
    radius = np.abs(eigenvalues[kept]).max(initial=0.0)
    return Prediction(float(radius) ** (1 / (period * race.cost)))


def _floor(
    problem: Problem, distance: np.ndarray, to: Precision, *, done: bool
) -> float:
    """Where rounding of the distance begins, relative to the start.

    A run that stands while its distance does not vanish tells how well the solution is
    known.
    """
    flat = np.asarray(ravel_pytree(problem.solutions[0])[0], np.float64)
    known = 100 * to.eps * float(np.abs(flat).max(initial=0))
    if done:
        known = max(known, 3 * course.end(distance))
    return max(to.floor, float(_ratio(known, distance[0])))


def _ratio(part: float, whole: np.ndarray) -> np.ndarray:
    """Divide where that is possible; 0 elsewhere."""
    with np.errstate(all="ignore"):
        return np.nan_to_num(part / whole, nan=0.0, posinf=0.0)


def _final(curves: np.ndarray, race: Race) -> float:
    """The median over the seeds of the runs' ends (or of the last quarter)."""
    if not race.stochastic:
        return _median([course.end(one) for one in curves])
    ends = []
    for one in curves:
        kept = np.isfinite(one)
        tail = course.last_quarter(one[kept], race.evaluations[kept])
        ends.append(np.median(tail))
    return _median(ends)


def _error(race: Race, problem: Problem, field: Field) -> float:
    """The standard error of the field where the first run ended."""
    _, unravel = ravel_pytree(problem.init(None))
    end = race.ends[0, 0]
    return standard_error(field, unravel(end)) if np.isfinite(end).all() else 0.0


def _spread(curves: np.ndarray, race: Race, error: float) -> float:
    """The standard error of a floor: of eight pieces' medians, and of the field."""
    each = []
    for one in curves:
        kept = np.isfinite(one)
        tail = course.last_quarter(one[kept], race.evaluations[kept])
        parts = [np.median(part) for part in np.array_split(tail, min(8, len(tail)))]
        each.append(np.std(parts, ddof=1) / len(parts) ** 0.5 if len(parts) > 1 else 0)
    return float(np.hypot(_median(each) / len(curves) ** 0.5, error))


def _median(values: list[float]) -> float:
    return float(np.median(values))
