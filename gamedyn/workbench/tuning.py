"""Tuning: the best of a range of step sizes, which is widened where it ends too early.

Dimensions as in `gamedyn.workbench.race`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gamedyn.solve import Status
from gamedyn.workbench import curves as course
from gamedyn.workbench.curves import Precision
from gamedyn.workbench.race import Race

GRID = np.logspace(-3, 1, 41)
"""The step sizes that `auto` tries, in units of 1/L."""

DECADES = 3
"""How many decades more it tries, one by one, where the best is the first or last."""

_GAIN = 0.05  # by how much a decade has to gain for the next to be tried

_FAR = {False: 1.0, True: 10.0}  # of the starting distance; and along a continuum


class Tuned(NamedTuple):
    """The runs at the best step size.

    Attributes:
        race: the runs at that step size alone.
        step_size: the step size.
        contracts: whether any step size contracts.
        notes: what there is to say, keys of `NOTES`.
    """

    race: Race
    step_size: float
    contracts: bool
    notes: tuple[str, ...]


class Judge(NamedTuple):
    """What runs are judged by.

    Attributes:
        to: what the dtype can reach.
        rounding: the residual below which rounding is all there is.
        bounded: whether all domains are, so that nobody gets lost far away.
        continuum: whether the known solutions go on.
    """

    to: Precision
    rounding: float
    bounded: bool
    continuum: bool


def tune(
    run: Callable[[np.ndarray], Race], grid: np.ndarray, judge: Judge, *, widen: bool
) -> Tuned:
    """Run at all step sizes and choose the best.

    Args:
        run: makes the race at given step sizes.
        grid: the step sizes, increasing; with `widen` in the proportions of `GRID`.
        judge: what runs are judged by.
        widen: whether to try more decades, as long as they gain something, where the
            best is the first or the last. A first one is not the best of something
            where the runs have hardly moved in their budget: smaller steps would move
            still less.

    Returns:
        The runs at the best step size.
    """
    runs = run(grid)
    choice = choose(runs, judge)
    notes: tuple[str, ...] = ()
    side = ""
    if (runs.residual[..., 0] <= judge.rounding).all() or not choice.better:
        widen = False
    if widen and choice.best == len(grid) - 1:
        side = "above"
    elif widen and choice.best == 0 and choice.moved:
        side = "below"
    ratio = grid[-1] / grid[-2] if side else 1.0
    for _ in range(DECADES if side else 0):
        notes, past = ("wider",), choice
        powers = ratio ** np.arange(1, round(np.log(10) / np.log(ratio)) + 1)
        if side == "above":
            further = grid[-1] * powers
            runs, grid = runs.beside(run(further)), np.append(grid, further)
        else:
            further = grid[0] / powers[::-1]
            runs, grid = run(further).beside(runs), np.append(further, grid)
        choice = choose(runs, judge)
        inside = choice.best != (len(grid) - 1 if side == "above" else 0)
        if inside or not choice.better or not choice.gains_on(past):
            break
    else:
        notes = ("wider", "edge") if side else ()
    best = choice.best
    return Tuned(runs.only(best), float(grid[best]), choice.contracts, notes)


class Choice(NamedTuple):
    """Which step size is best, and how sure that is.

    Attributes:
        best: its index.
        contracts: whether any step size contracts.
        better: whether it is better than its neighbours, not only as good.
        moved: whether the runs at the first one have left their level.
        reached: the evaluations that it takes to the tolerance, or infinity.
        final: the logarithm of how far down it gets.
    """

    best: int
    contracts: bool
    better: bool
    moved: bool
    reached: float
    final: float

    def gains_on(self, other: "Choice") -> bool:
        """Whether it is better than another choice by more than a trifle."""
        if math.isfinite(other.reached):
            return self.reached < (1 - _GAIN) * other.reached
        return math.isfinite(self.reached) or self.final < other.final - _GAIN


def choose(race: Race, judge: Judge) -> Choice:
    """Choose the best step size.

    The fewest evaluations win from which on the residual stays below its tolerance;
    where none gets there the smallest maximum over the last eighth of the run, among
    those that contract if any do, the median of the last quarter in stochastic ones.
    Ties go to the smallest step.

    Args:
        race: the runs.
        judge: what they are judged by.

    Returns:
        The choice.
    """
    residual = np.where(np.isfinite(race.residual), race.residual, np.inf)
    residual = residual.astype(np.float64)
    start = residual[..., :1]
    diverged = race.status == Status.NON_FINITE
    if race.distance is not None and not judge.bounded:
        # A field may also vanish far away, where a network saturates: that is no
        # solution, so a point farther away than the start does not count.
        near = race.distance <= _FAR[judge.continuum] * race.distance[..., :1]
        residual = np.where(near, residual, np.inf)
    with np.errstate(all="ignore"):
        rounding = np.nan_to_num(judge.rounding / start, nan=0.0, posinf=0.0)
    tolerance = np.maximum(judge.to.tolerance, rounding)
    reached = course.solved(residual, race.evaluations, tolerance)
    reached = np.median(np.where(diverged, np.inf, reached), axis=1)
    solved = np.isfinite(reached)

    # How far down each run gets, relative to its start.
    final = course.maxima(residual, race.evaluations, 8)[..., -1]
    if race.stochastic:
        tail = course.last_quarter(residual, race.evaluations)
        final = np.median(tail, axis=-1)
    with np.errstate(all="ignore"):
        final = np.log(np.maximum(final, judge.rounding)) - np.log(start[..., 0])
    final = np.median(np.where(diverged, np.inf, final), axis=1)
    contracts = solved | _contract(race, final, judge)
    score = np.where(solved, reached, np.inf)
    if not solved.any():
        score = np.where(contracts, final, np.inf) if contracts.any() else final
    # What an inner solver has given up on is no update of this rule.
    gave_up = (race.status == Status.INNER_SOLVER).any(axis=1)
    if np.isfinite(score[~gave_up]).any():
        score = np.where(gave_up, np.inf, score)
    best = int(np.argmin(score))
    beside = score[max(best - 1, 0) : best + 2]
    better = bool((np.delete(beside, min(best, 1)) > score[best]).all())
    return Choice(
        best,
        bool(contracts.any()),
        better,
        moved=bool(not abs(final[0]) < 0.35),
        reached=float(reached[best]),
        final=float(final[best]),
    )


def _contract(race: Race, final: np.ndarray, judge: Judge) -> np.ndarray:
    """Which step sizes contract: residual, and distance, fall to half and go on."""
    falls = final < np.log(0.5)
    if race.stochastic:
        return falls
    far = None if judge.continuum else race.distance
    for index in np.flatnonzero(falls):
        # An excursion at the beginning, beyond the start, is none of the end's.
        curves = [race.residual[index]] + ([] if far is None else [far[index]])
        words = {course.direction(curve, race.evaluations) for curve in curves}
        falls[index] = words <= {"converging", "too short"}
    return falls
