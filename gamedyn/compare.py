"""Compare update rules on one problem: tune, run, measure, and predict."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn import methods, rules
from gamedyn.analysis import MeasuredRate, game_jacobian, measured_rate, update_jacobian
from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.fields import Field
from gamedyn.games import Problem
from gamedyn.geometry import per_player
from gamedyn.race import Race, build, draw_starts, full_field, misfit, race
from gamedyn.solve import Status

GRID = np.logspace(-3, 1, 41)
"""The step sizes that `auto` tries, in units of 1/L."""

TOLERANCE = 1e-10
"""The residual, relative to its start, whose cost in evaluations `auto` minimises."""

FLOOR = 1e-12
"""The distance, relative to its start, below which curves are rounding."""

REFERENCE = "extragradient"
"""At whose tuned step a rule is shown that no step size makes contract."""

NOTES = {
    "no_contraction": "no step size contracts; shown at extragradient's tuned step",
    "not_autonomous": "its update map changes from step to step: no spectral radius",
    "not_differentiable": "the update map has no Jacobian at the solution",
    "no_solution": "no solution known and none reached: nothing to linearise at",
    "at_end": "no solution known: linearised at the end point",
    "continuum": "the solutions form a continuum: rates are of the residual, and "
    "directions along it are left out of the prediction",
    "stochastic": "stochastic: residual and distance are medians over the last "
    "quarter, the noise floor",
    "implicit": "implicit: evaluations count one Newton step with a dense Jacobian, or "
    "as many steps of a Krylov method as there are parameters",
    "corrected": "corrected field: its evaluations count as many gradients as it takes "
    "operations on a game of networks",
    "period": "measured at multiples of its period",
    "passes": "passed through the solution and left it again",
    "repelled": "the solution repels: the run ends elsewhere, on no predicted rate",
    "diverged": "became non-finite; the last finite block is shown",
}

_DRIFT = 0.35
"""A smaller change of the log distance over half a run counts as none."""

_TINY = float(np.finfo(float).tiny)

SAMPLED = (
    "simultaneous",
    "alternating",
    "extragradient",
    "stochastic_extragradient",
    "averaged_extragradient",
    "optimistic",
    "adam",
    "extra_adam",
)
"""The rules that are also run on minibatches of a finite sum, if none are named."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one rule did.

    Attributes:
        name: the registered name, with "(sampled)" behind it for minibatches.
        rule: the registered name of the rule, or of another method.
        step_size: the step size it is shown at.
        evaluations: joint field evaluations spent.
        evaluations_per_step: of one step.
        to_tolerance: evaluations until the natural residual was 1e-10 of its start.
        residual: the final natural residual of the rule's output.
        distance: its final distance to the nearest known solution.
        measured: the fitted rate per evaluation.
        predicted: the spectral radius of the update map, per evaluation.
        fitted: n, the evaluations until the distance first fell below 1e-12 of its
            start (all if it never did); the rate is fitted to their second half.
        solved_in: evaluations to 1e-12 of the starting distance, where there are too
            few of them to fit a rate.
        behaviour: "converging", "marginal", "diverging" or "noise floor".
        status: the name of the solver's status; NON_FINITE is shown as DIVERGED.
        notes: keys of `NOTES`.
    """

    name: str
    rule: str
    step_size: float
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

    @property
    def agrees(self) -> bool | None:
        r"""Whether measurement and theory agree; `None` where either is missing.

        $|\log r - \log p| \le .02\,|\log p| + 2/n$; a marginal map
        ($|\log p| < 10^{-9}$) must keep the distance within a factor of 10.
        """
        if self.predicted is None or self.measured is None or "repelled" in self.notes:
            return None
        if abs(math.log(max(self.predicted, _TINY))) < 1e-9:
            return self.behaviour == "marginal"
        return _within(self.measured, self.predicted, self.fitted)


@dataclasses.dataclass(frozen=True)
class Curve:
    """The course of one rule's runs.

    Attributes:
        evaluations: field evaluations spent before each recorded point, shape `(m,)`.
        residual: natural residual of the output, shape `(seeds, m)`.
        distance: distance to the nearest known solution, shape `(seeds, m)`, or `None`.
        points: the outputs of the first seed, flattened, shape `(m, d)`, in games of
            few dimensions.
    """

    evaluations: np.ndarray
    residual: np.ndarray
    distance: np.ndarray | None
    points: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Everything that a comparison found.

    Attributes:
        problem: the problem.
        settings: what was asked for, and the Lipschitz estimate, as JSON values.
        rows: one per rule, in the order asked for.
        curves: by row name.
    """

    problem: Problem
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    curves: dict[str, Curve]


def applicable(problem: Problem, num_players: int) -> tuple[str, ...]:
    """Name the registered rules that are defined on a problem's domains.

    Args:
        problem: the problem.
        num_players: its number of players.

    Returns:
        Names, in the order of the registry.
    """
    return tuple(
        name for name in rules.names() if misfit(name, problem, num_players) is None
    )


def compare(
    problem: Problem,
    names: Sequence[str] | None = None,
    *,
    evaluations: int = 4000,
    step_size: float | Literal["auto"] = "auto",
    seeds: int = 1,
    noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Run rules side by side on a problem, with equal budgets of field evaluations.

    With `step_size="auto"` every rule is tuned by one vmapped sweep over the 41 step
    sizes `GRID / L`, L the spectral norm of the game's Jacobian at the start, each with
    the full budget: the fewest evaluations until the natural residual is 1e-10 of its
    start win (where none gets there, the smallest final residual), ties go to the
    smallest step. Tuning uses the median over the seeds.

    Args:
        problem: the problem.
        names: registered rules or other methods (`methods.names()`); all rules that
            apply if `None`.
        evaluations: the budget of joint field evaluations for each rule.
        step_size: one positive number for all, or "auto".
        seeds: the number of starts (and noise sequences); numbers are their medians.
            The first start is the problem's own.
        noise: standard deviation of Gaussian noise added to every coordinate of the
            field.
        seed: the seed of the random keys.
        progress: called with each rule's name before it runs.

    Returns:
        The comparison.

    Raises:
        ValueError: if a name is unknown or not defined on the problem, or a number is
            not positive.
    """
    check_positive_integer("evaluations", evaluations)
    check_positive_integer("seeds", seeds)
    if step_size != "auto":
        check_positive("step_size", step_size)
    if not noise >= 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    if noise and problem.sample is not None:
        raise ValueError("noise is for deterministic games; this one is stochastic")
    starts = draw_starts(problem, seeds, seed)
    first = jax.tree.map(lambda leaf: leaf[0], starts)
    field, batch = full_field(problem)
    bound = float(np.linalg.norm(np.asarray(game_jacobian(field, first)), 2))
    if not np.isfinite(bound):
        raise ValueError("the game's Jacobian at the start is not finite")
    bound = bound or 1.0
    steps = GRID / bound if step_size == "auto" else np.array([float(step_size)])
    plan = _plan(problem, names, len(first), noisy=noise > 0)

    keys = jax.random.split(jax.random.key(seed), seeds)

    def run_all(name: str, sampled: bool) -> Race:
        return race(
            problem,
            name,
            starts,
            steps,
            evaluations,
            keys,
            sampled=sampled,
            noise=noise,
        )

    tuned: dict[bool, int] = {}

    def reference_step(sampled: bool) -> int:
        """The index of extragradient's tuned step, found when first asked for."""
        if sampled not in tuned:
            tuned[sampled] = _tune(run_all(REFERENCE, sampled=sampled))[0]
        return tuned[sampled]

    rows, curves = [], {}
    for name, sampled in plan:
        label = f"{name} (sampled)" if sampled else name
        progress(label)
        found = run_all(name, sampled=sampled)
        best, contracts = _tune(found)
        if name == REFERENCE:
            tuned[sampled] = best
        notes = []
        if not contracts and step_size == "auto":
            notes.append("no_contraction")
            best = reference_step(sampled)
        row, curve = _row(
            label, name, found, best, float(steps[best]), problem, field, notes
        )
        rows.append(row)
        curves[label] = curve
    settings = {
        "game": problem.info.name,
        "evaluations": evaluations,
        "step_size": step_size,
        "seeds": seeds,
        "noise": noise,
        "seed": seed,
        "lipschitz": bound,
        "dimension": int(sum(leaf.size for leaf in jax.tree.leaves(first))),
        "dtype": str(ravel_pytree(first)[0].dtype),
        "full_batch": None if batch is None else int(jax.tree.leaves(batch)[0].size),
    }
    return Comparison(problem, settings, tuple(rows), curves)


def _tune(race: Race) -> tuple[int, bool]:
    """Choose the best step size; say whether any step size contracts."""
    residual = np.where(np.isfinite(race.residual), race.residual, np.inf)
    if race.distance is not None:
        # A field may also vanish far away, where a network saturates: that is no
        # solution, so a point farther away than the start does not count.
        far = ~(race.distance <= race.distance[..., :1])
        residual = np.where(far, np.inf, residual)
    small = residual <= TOLERANCE * residual[..., :1]
    reached = np.where(
        small.any(axis=-1), race.evaluations[small.argmax(axis=-1)], np.inf
    )
    first, last = _quarters(residual)
    final = np.median(last, axis=-1) if race.stochastic else residual[..., -1]
    diverged = race.status == Status.NON_FINITE
    final = np.where(diverged, np.inf, np.maximum(final, np.finfo(float).tiny))
    reached, final = np.median(reached, axis=1), np.median(np.log(final), axis=1)
    best = np.argmin(reached if np.isfinite(reached).any() else final)
    shrinks = last.max(axis=-1) < 0.5 * first.max(axis=-1)
    contracts = np.median(shrinks & ~diverged, axis=1) > 0.5
    return int(best), bool(contracts.any() or np.isfinite(reached).any())


def _quarters(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    quarter = max(1, curve.shape[-1] // 4)
    return curve[..., :quarter], curve[..., -quarter:]


def _row(
    label: str,
    name: str,
    race: Race,
    best: int,
    step: float,
    problem: Problem,
    field: Field,
    notes: list[str],
) -> tuple[Row, Curve]:
    """Summarise the runs of one rule at one step size."""
    curve = Curve(
        evaluations=race.evaluations,
        residual=race.residual[best],
        distance=None if race.distance is None else race.distance[best],
        points=None if race.points is None else race.points[best],
    )
    status = Status(int(race.status[best].max()))
    diverged = status == Status.NON_FINITE
    if diverged:
        notes.append("diverged")
    if race.period > 1:
        notes.append("period")
    if race.varies:
        notes.append("implicit")
    elif race.entry.field != "gradient":
        notes.append("corrected")
    if race.stochastic:
        notes.append("stochastic")
    predicted, degenerate, why = (
        (None, False, None)
        if race.stochastic
        else _predict(name, race, step, problem, field, curve)
    )
    if why is not None:
        notes.append(why)
    if degenerate:
        notes.append("continuum")
    followed = (
        curve.residual if curve.distance is None or degenerate else curve.distance
    )
    rates = [
        measured_rate(one, race.evaluations, floor=_floor(problem, one[0], degenerate))
        for one in followed
    ]
    rate = _median([fit.rate for fit in rates])
    spent = int(np.median([fit.evaluations for fit in rates]))
    reached = all(fit.reached for fit in rates)
    quick = reached and (spent < 40 or (predicted is not None and predicted < 0.2))
    small = curve.residual <= TOLERANCE * curve.residual[:, :1]
    if reached and not small[:, -1].all():
        notes.append("passes")
    blank = quick or race.stochastic or diverged
    # What leaves an unstable solution leaves the neighbourhood the prediction is for.
    repelled = (
        predicted is not None
        and math.log(max(predicted, _TINY)) > 1e-9
        and not (blank or math.isnan(rate))
        and not _within(rate, predicted, spent)
    )
    if repelled:
        notes.append("repelled")
    row = Row(
        name=label,
        rule=name,
        step_size=step,
        evaluations=int(race.evaluations[-1]),
        evaluations_per_step=race.cost,
        to_tolerance=int(np.median(race.evaluations[small.argmax(axis=1)]))
        if small.any(axis=1).all()
        else None,
        residual=_final(curve.residual, race.stochastic),
        distance=None
        if curve.distance is None
        else _final(curve.distance, race.stochastic),
        measured=None if blank or math.isnan(rate) else rate,
        predicted=predicted,
        fitted=spent,
        solved_in=spent if quick else None,
        behaviour="noise floor"
        if race.stochastic and not diverged
        else _behaviour(rates, None if repelled else predicted, diverged),
        status="DIVERGED" if diverged else status.name,
        notes=tuple(notes),
    )
    return row, curve


def _within(measured: float, predicted: float, evaluations: int) -> bool:
    """The bound on the gap between two rates, fitted over so many evaluations."""
    due = math.log(max(predicted, _TINY))
    return abs(math.log(measured) - due) <= 0.02 * abs(due) + 2 / evaluations


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
    if abs(math.log(max(predicted, _TINY))) < 1e-9 and spread < 10:
        return "marginal"
    return _direction(rate)


def _direction(rate: float) -> str:
    return "converging" if rate < 1 else "diverging"


def _predict(
    name: str,
    race: Race,
    step: float,
    problem: Problem,
    field: Field,
    curve: Curve,
) -> tuple[float | None, bool, str | None]:
    """Predict the rate per evaluation at the solution; or say why there is none.

    Returns:
        The rate or `None`, whether the solutions form a continuum, and a note or
        `None`.
    """
    if not problem.solutions:
        return None, False, "no_solution"
    solution = problem.solutions[0]
    if len(problem.solutions) > 1 and curve.points is not None:
        end = curve.points[np.isfinite(curve.points).all(axis=1)][-1]
        gaps = [np.linalg.norm(end - ravel_pytree(s)[0]) for s in problem.solutions]
        solution = problem.solutions[int(np.argmin(gaps))]
    descended, rule = build(name, problem, step)
    _, batch = full_field(problem)
    matrix, status, period = update_jacobian(descended, rule, solution, batch)
    nullity = 0
    if _unconstrained(problem):
        jacobian = np.asarray(game_jacobian(field, solution))
        values = np.linalg.svd(jacobian, compute_uv=False)
        nullity = int(np.sum(values <= 1e-10 * values.max(initial=0)))
    if status != Status.OK:
        return None, nullity > 0, status.name.lower()
    eigenvalues = np.linalg.eigvals(matrix)
    # Along a continuum of solutions every map stands still: eigenvalue 1.
    kept = np.argsort(np.abs(eigenvalues - 1))[nullity:]
    radius = np.abs(eigenvalues[kept]).max(initial=0.0)
    return float(radius) ** (1 / (period * race.cost)), nullity > 0, None


def _unconstrained(problem: Problem) -> bool:
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    return all(geometry.kind == "euclidean" for geometry in geometries)


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
        tail = _quarters(finite)[1] if stochastic else finite[-1:]
        ends.append(np.median(tail))
    return float(np.median(ends))


def _median(values: list[float]) -> float:
    return float(np.median(values))


def _plan(
    problem: Problem, names: Sequence[str] | None, num_players: int, *, noisy: bool
) -> list[tuple[str, bool]]:
    """Which rules to run, and which of them on minibatches."""
    chosen = [name.replace("-", "_") for name in names or ()]
    for name in chosen:
        reason = misfit(name, problem, num_players)
        if reason is not None:
            raise ValueError(f"the rule {name!r} {reason}")
    if not chosen:
        chosen = list(applicable(problem, num_players))
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"a rule is named twice in {', '.join(chosen)}")
    # Independent samples make a difference only where there is something to sample.
    stochastic = noisy or problem.sample is not None
    needs = {name: methods.entry(name).needs for name in chosen}
    several = [name for name in chosen if "independent batches" in needs[name]]
    sums = [name for name in chosen if "finite sum" in needs[name]]
    plan = [
        (name, False)
        for name in chosen
        if name not in sums
        and (noisy or name not in several or (names and not stochastic))
    ]
    if problem.sample is not None:
        sampled = (*SAMPLED, *sums)
        plan += [(name, True) for name in chosen if names or name in sampled]
    return plan
