"""Summarise the runs of one rule: measured rate, predicted rate, behaviour, notes.

Dimensions as in `gamedyn.workbench.race`.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis import MeasuredRate, game_jacobian, measured_rate, update_jacobian
from gamedyn.analysis.constrained import is_constrained
from gamedyn.fields import Field
from gamedyn.games import Problem
from gamedyn.rules import Rule
from gamedyn.solve import Status
from gamedyn.workbench.race import Race, build, full_field
from gamedyn.workbench.results import (
    TOLERANCE,
    Curve,
    Row,
    is_marginal,
    log_rate,
    rates_agree,
)

FLOOR = 1e-12
"""The distance, relative to its start, below which curves are rounding."""

_DRIFT = 0.35  # a smaller change of the log distance over half a run counts as none
_FEW = 40  # evaluations too few to fit a rate to
_FAST = 0.2  # a predicted rate too fast to fit one


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
        continuum: whether the solutions form a continuum.
        note: why there is no rate, a key of `NOTES`, or `None`.
    """

    rate: float | None = None
    continuum: bool = False
    note: str | None = None


def summarise(
    entrant: Entrant,
    race: Race,
    best: int,
    step_size: float,
    problem: Problem,
    field: Field,
    notes: tuple[str, ...] = (),
) -> tuple[Row, Curve]:
    r"""Summarise the runs of one rule at one step size.

    The measured rate r is the slope of $\log d_k$, fitted as in
    `analysis.measured_rate`; the predicted one is $\rho(D\Phi(z^*))^{1/e}$, $\Phi$ the
    rule's own update map and e the evaluations it takes.

    Args:
        entrant: what ran.
        race: its runs at all step sizes.
        best: the index of the step size to show.
        step_size: that step size.
        problem: the problem.
        field: the deterministic field.
        notes: what is known already, keys of `NOTES`.

    Returns:
        The row and the curve.
    """
    curve = Curve(
        evaluations=race.evaluations,
        residual=race.residual[best],
        distance=None if race.distance is None else race.distance[best],
        points=None if race.points is None else race.points[best],
    )
    status = Status(int(race.status[best].max()))
    diverged = status == Status.NON_FINITE

    # How the numbers came about.
    noted = list(notes)
    if race.entry is None:
        noted.append("own")
        if is_constrained(problem.geometry, problem.game.num_players):
            noted.append("domains")
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

    # What theory predicts.
    prediction = Prediction()
    if not race.stochastic:
        prediction = _predict(entrant.method, race, step_size, problem, field, curve)
    if prediction.note is not None:
        noted.append(prediction.note)
    if prediction.continuum:
        noted.append("continuum")
    predicted = prediction.rate

    # What was measured, of the residual where solutions form a continuum.
    followed = curve.residual
    if curve.distance is not None and not prediction.continuum:
        followed = curve.distance
    rates = [
        measured_rate(
            one, race.evaluations, floor=_floor(problem, one[0], prediction.continuum)
        )
        for one in followed
    ]
    rate = _median([fit.rate for fit in rates])
    spent = int(np.median([fit.evaluations for fit in rates]))
    reached = all(fit.reached for fit in rates)
    few = spent < _FEW or (predicted is not None and predicted < _FAST)
    quick = reached and few
    blank = quick or race.stochastic or diverged or math.isnan(rate)

    # Where the two cannot meet: a solution passed through, or left because it repels.
    small = curve.residual <= TOLERANCE * curve.residual[:, :1]
    if reached and not small[:, -1].all():
        noted.append("passes")
    repelled = (
        predicted is not None
        and log_rate(predicted) > 0
        and not is_marginal(predicted)
        and not blank
        and not rates_agree(rate, predicted, spent)
    )
    if repelled:
        noted.append("repelled")

    behaviour = "noise floor"
    if diverged or not race.stochastic:
        behaviour = _behaviour(rates, None if repelled else predicted, diverged)
    name = entrant.method if isinstance(entrant.method, str) else None
    row = Row(
        name=entrant.label,
        rule=name,
        step_size=None if name is None else step_size,
        evaluations=int(race.evaluations[-1]),
        evaluations_per_step=race.cost,
        to_tolerance=int(np.median(race.evaluations[small.argmax(axis=1)]))
        if small.any(axis=1).all()
        else None,
        residual=_final(curve.residual, race.stochastic),
        distance=None
        if curve.distance is None
        else _final(curve.distance, race.stochastic),
        measured=None if blank else rate,
        predicted=predicted,
        fitted=spent,
        solved_in=spent if quick else None,
        behaviour=behaviour,
        status="DIVERGED" if diverged else status.name,
        notes=tuple(noted),
    )
    return row, curve


def quarters(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the first and the last quarter of curves, along their last axis."""
    quarter = max(1, curve.shape[-1] // 4)
    return curve[..., :quarter], curve[..., -quarter:]


def _behaviour(
    rates: list[MeasuredRate], predicted: float | None, diverged: bool
) -> str:
    """Say in a word what the distance did over the fitted half."""
    if diverged:
        return "diverging"
    if all(fit.reached for fit in rates):
        return "converging"
    rate = _median([fit.rate for fit in rates])
    spread = _median([fit.spread for fit in rates])
    change = _median([fit.change for fit in rates])
    if math.isnan(rate):
        return "too short"
    if predicted is None:
        return "marginal" if abs(math.log(change)) < _DRIFT else _direction(rate)
    # The map says whether a slow drift is one: then the sign is the rate's own.
    if is_marginal(predicted) and spread < 10:
        return "marginal"
    return _direction(rate)


def _direction(rate: float) -> str:
    return "converging" if rate < 1 else "diverging"


def _predict(
    method: str | Rule,
    race: Race,
    step_size: float,
    problem: Problem,
    field: Field,
    curve: Curve,
) -> Prediction:
    """Predict the rate per evaluation at the solution, or say why there is none."""
    if not problem.solutions:
        return Prediction(note="no_solution")

    # The known solution nearest to where the run ended.
    solution = problem.solutions[0]
    if len(problem.solutions) > 1 and curve.points is not None:
        end = curve.points[np.isfinite(curve.points).all(axis=1)][-1]
        gaps = [np.linalg.norm(end - ravel_pytree(s)[0]) for s in problem.solutions]
        solution = problem.solutions[int(np.argmin(gaps))]

    # The update map there, and the directions along which solutions go on.
    descended, rule = build(method, problem, step_size)
    _, batch = full_field(problem)
    matrix, status, period = update_jacobian(descended, rule, solution, batch)
    nullity = 0
    if not is_constrained(problem.geometry, problem.game.num_players):
        jacobian = np.asarray(game_jacobian(field, solution))
        values = np.linalg.svd(jacobian, compute_uv=False)
        nullity = int(np.sum(values <= 1e-10 * values.max(initial=0)))
    if status != Status.OK:
        return Prediction(continuum=nullity > 0, note=status.name.lower())

    # Its spectral radius. Along a continuum of solutions every map stands still: as
    # many eigenvalues nearest to 1 are left out.
    eigenvalues = np.linalg.eigvals(matrix)
    kept = np.argsort(np.abs(eigenvalues - 1))[nullity:]
    radius = np.abs(eigenvalues[kept]).max(initial=0.0)
    return Prediction(float(radius) ** (1 / (period * race.cost)), nullity > 0)


def _floor(problem: Problem, start: float, of_residual: bool) -> float:
    """Where rounding begins, relative to the start."""
    if not problem.solutions or of_residual or not start > 0:
        return FLOOR
    flat = ravel_pytree(problem.solutions[0])[0]
    rounding = 100 * float(jnp.finfo(flat.dtype).eps * jnp.max(jnp.abs(flat)))
    return max(FLOOR, rounding / float(start))


def _final(curves: np.ndarray, stochastic: bool) -> float:
    """The median over the seeds of the last finite value (or of the last quarter)."""
    ends = []
    for curve in curves:
        finite = curve[np.isfinite(curve)]
        tail = quarters(finite)[1] if stochastic else finite[-1:]
        ends.append(np.median(tail))
    return float(np.median(ends))


def _median(values: list[float]) -> float:
    return float(np.median(values))
