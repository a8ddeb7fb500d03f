"""Scores: performance profiles, costs with their intervals, tables."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gamedyn import methods

from . import games
from .pairs import OUTCOMES, Settings

LEVEL = 0.95
"""Of all intervals."""

RESAMPLES = 2000
"""Of the games, for the intervals of shares."""


def profile(costs: np.ndarray, ratios: Sequence[float] | np.ndarray) -> np.ndarray:
    r"""Compute the performance profile of Dolan and More.

    $$\rho_s(\tau) = \frac1{|P|} \big|\{p : t_{ps} \le \tau \min_s t_{ps}\}\big|.$$

    Args:
        costs: of each method on each problem, shape `(methods, problems)`; infinite
            where unsolved. NaN where a method is not for a problem: that problem is not
            counted for this method.
        ratios: the values of tau.

    Returns:
        Shares, shape `(methods, ratios)`; NaN for a method that is for no problem. A
        problem that no method solves counts as unsolved for all, at every tau.
    """
    measured = performance_ratios(costs)
    counted = ~np.isnan(costs)
    within = (measured[..., None] <= np.asarray(ratios, float)) & counted[..., None]
    number = counted.sum(axis=1)
    return np.where(
        number[:, None] > 0, within.sum(axis=1) / np.maximum(number, 1)[:, None], np.nan
    )


def performance_ratios(costs: np.ndarray) -> np.ndarray:
    """Divide costs by the least on each problem; infinite where it is unsolved."""
    best = np.min(np.where(np.isnan(costs), np.inf, costs), axis=0)
    usable = np.isfinite(costs) & np.isfinite(best)
    return np.where(usable, costs / np.where(np.isfinite(best), best, 1.0), np.inf)


class Interval(NamedTuple):
    """A median over seeds with its confidence interval."""

    median: float
    low: float
    high: float


def median_interval(values: Iterable[float]) -> Interval:
    """Give the median of independent values and an interval by their order.

    The k-th smallest and k-th largest hold the median of the distribution with
    probability 1 - 2 P(Binomial(n, 1/2) < k), whatever it is, and runs that did not
    finish are simply infinite. The largest k that leaves 95 % is taken (k = 2 for ten
    values, 97.9 %); of fewer than six values it is their range, which holds less.

    Args:
        values: the values, infinite where censored.

    Returns:
        Median and interval.
    """
    ordered = sorted(values)
    n = len(ordered)
    k, outside = 1, 2 * 0.5**n
    while k < n // 2:
        outside += 2 * math.comb(n, k) * 0.5**n
        if outside > 1 - LEVEL:
            break
        k += 1
    middle = ordered[(n - 1) // 2], ordered[n // 2]
    median = middle[0] if middle[0] == middle[1] else sum(middle) / 2
    return Interval(median, ordered[k - 1], ordered[n - k])


class Board(NamedTuple):
    """All results, by track, game and method."""

    settings: Settings
    results: dict[tuple[str, str, str], dict[str, Any]]

    def methods(self) -> list[str]:
        """The methods, in the order of the registry."""
        present = {name for _, _, name in self.results}
        return [name for name in methods.names() if name in present]

    def games_of(self, group: str) -> list[games.Entry]:
        """The games of a group."""
        present = {key[:2] for key in self.results}
        return [
            entry
            for track, entries in games.TRACKS.items()
            for entry in entries
            if entry.group == group and (track, entry.name) in present
        ]

    def groups(self) -> list[str]:
        """The groups that have games here."""
        return [group for group in games.GROUPS if self.games_of(group)]

    def result(self, entry: games.Entry, method: str) -> dict[str, Any]:
        """The result of one pair."""
        return self.results[track_of(entry), entry.name, method]

    def costs(self, group: str) -> np.ndarray:
        """Evaluations of every method on every game and seed, in that order.

        Returns:
            Shape `(methods, games, seeds)`; infinite if unsolved, NaN if n/a.
        """
        seeds = len(self.settings.report_seeds)
        return np.array(
            [
                [
                    _costs(self.result(entry, name), seeds)
                    for entry in self.games_of(group)
                ]
                for name in self.methods()
            ]
        )


def _costs(result: dict[str, Any], seeds: int) -> list[float]:
    if result["inapplicable"] is not None:
        return [math.nan] * seeds
    return [math.inf if cost is None else float(cost) for cost in result["costs"]]


def track_of(entry: games.Entry) -> str:
    """Name the track of a game."""
    return "stochastic" if entry.group == "noisy" else "deterministic"


def pair_rows(board: Board) -> list[dict[str, Any]]:
    """One row for every pair: the tidy table of the board."""
    rows = []
    for (track, game, method), result in board.results.items():
        entry = games.entry(track, game)
        row = {
            "track": track,
            "group": entry.group,
            "game": game,
            "method": method,
            "inapplicable": result["inapplicable"] or "",
        }
        if result["inapplicable"] is None:
            seeds = len(board.settings.report_seeds)
            cost = median_interval(_costs(result, seeds))
            outcomes = {
                kind.replace(" ", "_"): result["outcomes"].count(kind)
                for kind in OUTCOMES
            }
            row |= {
                "step_size": f"{result['step_size']:.4g}",
                "evaluations_per_step": result["cost_per_step"],
                "evaluations": _number(cost.median),
                "evaluations_low": _number(cost.low),
                "evaluations_high": _number(cost.high),
                "steps": _number(cost.median / result["cost_per_step"]),
                "final": f"{np.median(result['final']):.3g}",
                **outcomes,
                "solving_steps": sum(n > seeds / 2 for n in result["solving_steps"]),
            }
        rows.append(row)
    return rows


def run_rows(board: Board) -> list[dict[str, Any]]:
    """One row for every reported run."""
    rows = []
    for (track, game, method), result in board.results.items():
        if result["inapplicable"] is not None:
            continue
        for seed, cost, final, outcome in zip(
            board.settings.report_seeds,
            result["costs"],
            result["final"],
            result["outcomes"],
            strict=True,
        ):
            steps = "inf" if cost is None else _number(cost / result["cost_per_step"])
            rows.append(
                {
                    "track": track,
                    "game": game,
                    "method": method,
                    "seed": seed,
                    "evaluations": "inf" if cost is None else cost,
                    "steps": steps,
                    "final": f"{final:.3g}",
                    "outcome": outcome,
                }
            )
    return rows


def method_rows(board: Board, groups: Sequence[str]) -> list[dict[str, Any]]:
    """One row for every method that is for some game of these groups, the best first.

    A share is a mean over games, of the share of seeds.
    """
    names = board.methods()
    listed = [entry for group in groups for entry in board.games_of(group)]
    costs = np.concatenate([board.costs(group) for group in groups], axis=1)
    flat = costs.reshape(len(names), -1)
    ratios = performance_ratios(flat).reshape(costs.shape)
    seeds = costs.shape[-1]
    rows = []
    for index, name in enumerate(names):
        there = ~np.isnan(costs[index, :, 0])
        if not there.any():
            continue
        mine = [board.result(g, name) for g, k in zip(listed, there, strict=True) if k]
        solved = np.isfinite(costs[index, there]).mean(axis=1)
        low, high = share_interval(solved)
        ended = [kind for result in mine for kind in result["outcomes"]]
        grid = [np.mean(np.array(r["solving_steps"]) > seeds / 2) for r in mine]
        rows.append(
            {
                "method": name,
                "games": int(there.sum()),
                "solved": float(solved.mean()),
                "solved_low": low,
                "solved_high": high,
                "within_2": float((ratios[index, there] <= 2).mean()),
                "within_10": float((ratios[index, there] <= 10).mean()),
                "best": float((ratios[index, there] <= 1).mean()),
                "steps_that_solve": float(np.mean(grid)),
                **{kind: ended.count(kind) / len(ended) for kind in OUTCOMES},
            }
        )
    return sorted(rows, key=lambda r: (-r["solved"], -r["within_10"], r["method"]))


def share_interval(shares: np.ndarray) -> tuple[float, float]:
    """Bootstrap the mean of one share per game, over the games."""
    draws = np.random.default_rng(0).integers(
        len(shares), size=(RESAMPLES, len(shares))
    )
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(shares[draws].mean(axis=1), (tail, 100 - tail))
    return float(low), float(high)


def game_rows(board: Board) -> list[dict[str, Any]]:
    """One row for every game: what it is, what is measured, who is best."""
    rows, names = [], board.methods()
    for group in board.groups():
        costs = board.costs(group)
        for index, entry in enumerate(board.games_of(group)):
            facts = games.facts(entry)
            medians = {
                name: median_interval(row).median
                for name, row in zip(names, costs[:, index], strict=True)
                if not np.isnan(row[0])
            }
            least = min(medians.values())
            best = [name for name, cost in medians.items() if cost == least < math.inf]
            solvers = [n for n, cost in medians.items() if cost < math.inf]
            start = facts.problem.init(None)
            rows.append(
                {
                    "track": track_of(entry),
                    "group": group,
                    "game": entry.name,
                    "options": ", ".join(f"{k}={v}" for k, v in entry.options),
                    "players": facts.problem.game.num_players,
                    "dimension": sum(np.size(leaf) for leaf in _leaves(start)),
                    "domain": games.domain(facts.problem),
                    "measure": entry.measure,
                    "tolerance": board.settings.noisy_tolerance
                    if group == "noisy"
                    else board.settings.tolerance,
                    "target": facts.problem.info.solution,
                    "lipschitz": f"{facts.lipschitz:.4g}",
                    "noise": _noise(entry, facts),
                    "methods": len(medians),
                    "solvers": len(solvers),
                    "best": best,
                    "evaluations": _number(least),
                }
            )
    return rows


def _noise(entry: games.Entry, facts: games.Facts) -> str:
    if entry.group != "noisy":
        return ""
    return f"Gaussian, {facts.noise:.3g}" if entry.noise else "minibatches"


def _leaves(tree: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(tree)


def _number(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:g}"
