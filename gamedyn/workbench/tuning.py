"""Tuning: the best of a range of step sizes, which is widened where it ends too early.

Dimensions as in `gamedyn.workbench.race`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gamedyn.solve import Status
from gamedyn.workbench import curves as course
from gamedyn.workbench.curves import Precision
from gamedyn.workbench.race import Race

GRID = np.logspace(-3, 1, 41)
"""The step sizes that `auto` tries, in units of 1/L."""

WIDER = {
    "below": np.logspace(-6, -3, 31)[:-1],
    "above": np.logspace(1, 4, 31)[1:],
}
"""What it tries next where the best of them was the first or the last."""

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
        widen: whether to try three more decades where the best is the first or the
            last. A first one is not the best of something where the runs have hardly
            moved in their budget: smaller steps would move still less.

    Returns:
        The runs at the best step size.
    """
    runs = run(grid)
    best, contracts, moved = choose(runs, judge)
    notes: tuple[str, ...] = ()
    side = ""
    rest = (runs.residual[..., 0] <= judge.rounding).all()
    widen = widen and not rest
    if widen and best == len(grid) - 1:
        side = "above"
    elif widen and best == 0 and moved:
        side = "below"
    if side:
        notes = ("wider",)
        further = WIDER[side] * grid[0] / GRID[0]
        parts = [(runs, grid), (run(further), further)]
        (first, low), (second, high) = parts if side == "above" else parts[::-1]
        runs, grid = first.beside(second), np.append(low, high)
        best, contracts, _ = choose(runs, judge)
        if best == (len(grid) - 1 if side == "above" else 0):
            notes = ("wider", "edge")
    return Tuned(runs.only(best), float(grid[best]), contracts, notes)


def choose(race: Race, judge: Judge) -> tuple[int, bool, bool]:
    """Choose the best step size.

    The fewest evaluations win from which on the residual stays below its tolerance;
    where none gets there the smallest maximum over the last eighth of the run, the
    median of the last quarter in stochastic ones. Ties go to the smallest step.

    Args:
        race: the runs.
        judge: what they are judged by.

    Returns:
        Its index; whether any step size contracts; and whether the runs at the first
        one have left their level.
    """
    residual = np.where(np.isfinite(race.residual), race.residual, np.inf)
    whole = residual = residual.astype(np.float64)
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
    reached = np.where(diverged, np.inf, reached)
    tops = course.maxima(residual, race.evaluations, 8)
    final = tops[..., -1]
    if race.stochastic:
        tail = course.last_quarter(residual, race.evaluations)
        final = np.median(tail, axis=-1)
    with np.errstate(all="ignore"):
        final = np.where(diverged, np.inf, np.log(np.maximum(final, judge.rounding)))
        level = np.median(final - np.log(start[..., 0]), axis=1)
    reached, final = np.median(reached, axis=1), np.median(final, axis=1)
    order = np.lexsort((np.arange(len(race.ends)), reached))
    if not np.isfinite(reached).any():
        order = np.argsort(final, kind="stable")
    early = course.maxima(whole, race.evaluations, 4)[..., 0]
    shrinks = tops[..., 6:].max(axis=-1) < 0.5 * early
    contracts = np.median(shrinks & ~diverged, axis=1) > 0.5
    contracts = bool(contracts.any() or np.isfinite(reached).any())
    return int(order[0]), contracts, bool(not abs(level[0]) < 0.35)
