"""One pair, a method on a game: tuned on some seeds, reported on others."""

import functools
import hashlib
import importlib.metadata as metadata
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn import methods
from gamedyn.analysis import Verdict, certify
from gamedyn.game import Params
from gamedyn.seeds import seed_key
from gamedyn.workbench.curves import reached
from gamedyn.workbench.mean_field import full_field
from gamedyn.workbench.race import misfit, race

from . import games

OUTCOMES = {
    "solved": "fell below the tolerance and stayed there",
    "slow": "still falling when the budget was spent",
    "other Nash": "reached a certified Nash point that is not the known solution",
    "not Nash": "reached a stationary point that is certified to be no Nash point",
    "stationary": "reached a stationary point on which the certificate is silent",
    "noise": "moves about in the noise below half its start, above the tolerance",
    "cycled": "keeps moving without coming nearer",
    "stalled": "stands still, at no solution",
    "diverged": "became infinite, or ended at more than twice its start",
}
"""What a run may end as; the first that is true holds, from the bottom up after
"solved"."""

ROWS = 1000
"""Points recorded of each run, at most: costs are known to a thousandth."""

FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
"""How the programs of the board are compiled: quickly, for one thread."""

if jax.__version_info__ < (0, 11):  # later versions end at a flag that they have lost
    FLAGS += " --xla_cpu_use_fusion_emitters=false"


class Settings(NamedTuple):
    """What a pair's result depends on, beside its name.

    Attributes:
        budget: joint field evaluations of every run.
        grid: the step sizes, in units of 1/L.
        tune_seeds: on which the step size is chosen.
        report_seeds: on which it is reported.
        tolerance: the deterministic track's, relative to the measure at the start.
        noisy_tolerance: the stochastic track's.
        versions: of what computes.
        flags: of the compiler.
    """

    budget: int
    grid: tuple[float, ...]
    tune_seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]
    tolerance: float
    noisy_tolerance: float
    versions: tuple[tuple[str, str], ...] = ()
    flags: str = FLAGS

    def digest(self) -> str:
        """Give a name to these settings: results of others are not mixed in."""
        text = json.dumps(self._asdict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> tuple[tuple[str, str], ...]:
    """Name the versions that the numbers depend on."""
    own = (("gamedyn", gd.__version__),)
    packages = ("jax", "jaxlib", "optax", "numpy")
    return own + tuple((name, metadata.version(name)) for name in packages)


class Pair(NamedTuple):
    """The name of one result."""

    track: str
    game: str
    method: str


def inapplicable(pair: Pair) -> str | None:
    """Say why a method is not for a game; the end of a sentence, or `None`."""
    facts = games.facts(games.entry(pair.track, pair.game))
    problem, needs = facts.problem, methods.entry(pair.method).needs
    reason = misfit(pair.method, problem, problem.game.num_players)
    if reason is not None:
        return reason
    if "own curvature" in needs and not facts.curved[1]:
        return "needs curvature of the second player's own loss, which here has none"
    if "invertible Jacobian" in needs and not facts.regular:
        return "needs an invertible Jacobian, singular at this game's solution"
    if "finite sum" in needs and pair.track == "deterministic":
        return "is for minibatches of a finite sum: in the stochastic track"
    if "independent batches" in needs and pair.track == "deterministic":
        return "differs from its parent only where there is noise"
    return None


@functools.lru_cache(maxsize=2)
def _starts(entry: games.Entry, seeds: tuple[int, ...]) -> tuple[Params, jax.Array]:
    """Draw the start and the key of every seed."""
    problem = games.facts(entry).problem
    keys = [seed_key(seed) for seed in seeds]
    starts = [problem.init(key) for key in keys]
    own = jnp.stack([jax.random.fold_in(key, 1) for key in keys])
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), own


def play(pair: Pair, settings: Settings) -> dict[str, Any]:
    """Compute one pair: a pure function of its name and the settings.

    Args:
        pair: the pair.
        settings: the settings.

    Returns:
        Plain numbers, as JSON holds them.
    """
    head = {**pair._asdict(), "settings": settings.digest()}
    reason = inapplicable(pair)
    if reason is not None:
        return {**head, "inapplicable": reason}
    entry = games.entry(pair.track, pair.game)
    facts = games.facts(entry)
    seeds = settings.tune_seeds + settings.report_seeds
    starts, keys = _starts(entry, seeds)
    gap = games.gap(entry, facts.problem)
    size = sum(leaf[0].size for leaf in jax.tree.leaves(starts))
    # One coordinate in general position says whether a run moves.
    across = jnp.asarray(np.random.default_rng(0).normal(size=size))

    def observe(output: Params, direction: Params) -> dict[str, jax.Array]:
        position = ravel_pytree(output)[0] @ across
        extra = {} if gap is None else {"gap": gap(output, direction)}
        return {"position": position, **extra}

    run = race(
        facts.problem,
        pair.method,
        starts,
        np.asarray(settings.grid) / facts.lipschitz,
        settings.budget,
        keys,
        sampled=pair.track == "stochastic" and not entry.noise,
        noise=facts.noise,
        measure=observe,
        points=False,
        rows=ROWS,
    )
    curves = {"distance": run.distance, "residual": run.residual}
    curve = run.measure["gap"] if gap is not None else curves[entry.measure]
    noisy = pair.track == "stochastic"
    if noisy:
        curve = smooth(curve, ROWS // 20)
    tolerance = settings.noisy_tolerance if noisy else settings.tolerance
    costs = reached(curve, run.evaluations, tolerance)
    tuning = len(settings.tune_seeds)
    best = tune(costs[:, :tuning], curve[:, :tuning], settings.budget)
    outcomes, costs_here = [], costs[best, tuning:].copy()
    verdicts: dict[tuple[float, ...], str] = {}
    for seed in range(tuning, len(seeds)):
        kind = _outcome(
            run.residual[best, seed],
            curve[best, seed],
            run.measure["position"][best, seed],
            solved=bool(np.isfinite(costs[best, seed])),
            noisy=noisy,
        )
        near = entry.measure == "distance" and curve[best, seed, -1] < (
            0.05 * curve[best, seed, 0]
        )
        if not noisy and _stands(run.residual[best, seed], kind, near=near):
            kind = _certified(entry, run.ends[best, seed], kind, verdicts)
        if kind != "solved":
            costs_here[seed - tuning] = np.inf
        outcomes.append(kind)
    return {
        **head,
        "inapplicable": None,
        "cost_per_step": run.cost,
        "step_size": float(settings.grid[best] / facts.lipschitz),
        "grid_index": best,
        "costs": [int(c) if np.isfinite(c) else None for c in costs_here],
        "final": [_relative(curve[best, s]) for s in range(tuning, len(seeds))],
        "outcomes": outcomes,
        "solving_steps": [int(np.isfinite(row).sum()) for row in costs[:, tuning:]],
    }


def smooth(curve: np.ndarray, window: int) -> np.ndarray:
    """Take geometric means over the last so many points, or all since the start.

    Args:
        curve: not negative, the last axis along the run.
        window: how many points.

    Returns:
        The means, of the same shape; the first point stays what it is.
    """
    with np.errstate(all="ignore"):
        logs = np.log(np.maximum(curve, np.finfo(float).tiny))
        sums = np.cumsum(logs, axis=-1)
        sums[..., window:] -= sums[..., :-window].copy()
        counts = np.minimum(np.arange(1, curve.shape[-1] + 1), window)
        return np.exp(sums / counts)


def tune(costs: np.ndarray, curve: np.ndarray, budget: int) -> int:
    """Choose a step size: the least mean cost, twice the budget if unsolved.

    Ties, as where nothing is solved, go to the smaller median of the measure at the
    end, then to the smaller step.

    Args:
        costs: shape `(steps, seeds)`.
        curve: the measure, shape `(steps, seeds, points)`.
        budget: evaluations of each run.

    Returns:
        The index.
    """
    mean = np.where(np.isfinite(costs), costs, 2 * budget).mean(axis=1)
    ratios = curve[..., -1] / curve[..., 0]
    final = np.median(np.where(np.isfinite(ratios), ratios, np.inf), axis=1)
    order = np.lexsort((np.arange(len(mean)), final, mean))
    return int(order[0])


def _outcome(
    residual: np.ndarray,
    curve: np.ndarray,
    position: np.ndarray,
    *,
    solved: bool,
    noisy: bool,
) -> str:
    """Name what a run did, before any certificate."""
    if solved:
        return "solved"
    if not np.isfinite(np.concatenate([residual, curve, position])).all():
        return "diverged"
    quarter = max(1, len(curve) // 4)
    third, last = curve[-2 * quarter : -quarter], curve[-quarter:]
    before, now = np.median(third), np.median(last)
    if now > 2 * curve[0]:
        return "diverged"
    if noisy and now < curve[0] / 2:
        return "noise" if now > 0.8 * before else "slow"
    if now < 0.95 * before:
        return "slow"
    # A run that goes round covers as much of its way at the end as ever.
    if np.ptp(position[-quarter:]) >= 1e-2 * np.ptp(position):
        return "cycled"
    return "stalled"


def _stands(residual: np.ndarray, kind: str, *, near: bool) -> bool:
    """Whether a run's end is worth a certificate: it stands, and not on its way."""
    if kind == "diverged" or (kind != "solved" and near):
        return False
    return bool(residual[-1] <= 1e-4 * residual[0])


def _certified(
    entry: games.Entry,
    end: np.ndarray,
    kind: str,
    verdicts: dict[tuple[float, ...], str],
) -> str:
    """Correct the name of a run by the certificate of the point where it stands."""
    problem = games.facts(entry).problem
    if not games.unconstrained(problem):
        return kind
    if kind == "solved" and entry.measure == "distance":
        # The run is as near as asked for: what it is near to is certified.
        solutions = [np.asarray(ravel_pytree(z)[0]) for z in problem.solutions]
        nearest = np.argmin([np.linalg.norm(z - end) for z in solutions])
        stands = _known(entry, int(nearest))
    else:
        place = tuple(np.round(end, 3).tolist())
        if place not in verdicts:
            verdicts[place] = verdict(entry, end)
        stands = verdicts[place]
    nash = problem.info.solution in ("Nash", "local Nash")
    if kind == "solved":
        refuted = stands == Verdict.REFUTED_DNE.name
        wanted = nash or entry.group == "traps"
        return "not Nash" if refuted and wanted else kind
    return {
        Verdict.CERTIFIED_DNE.name: "other Nash",
        Verdict.REFUTED_DNE.name: "not Nash",
        Verdict.INCONCLUSIVE.name: "stationary",
    }.get(stands, kind)


@functools.cache
def _known(entry: games.Entry, index: int) -> str:
    """Certify a known solution, once."""
    solution = games.facts(entry).problem.solutions[index]
    return verdict(entry, np.asarray(ravel_pytree(solution)[0]))


def verdict(entry: games.Entry, end: np.ndarray) -> str:
    """Certify a point, flat, of an unconstrained game; the verdict's name.

    Curvature below a thousandth of L counts for nothing: the point is only near to
    where the field vanishes.
    """
    facts = games.facts(entry)
    _, unravel = ravel_pytree(facts.problem.init(None))
    _, batch = full_field(facts.problem)
    report = certify(
        facts.problem.game,
        unravel(jnp.asarray(end)),
        batch,
        error=1e-3 * facts.lipschitz,
        tolerance=1e-3,
        eigenvalues=False,
    )
    return report.verdict.name


def _relative(curve: np.ndarray) -> float:
    """The last finite value in units of the first, to three digits."""
    last = curve[np.isfinite(curve)][-1]
    return float(f"{min(last / curve[0], 1e300):.3g}")


def plan(
    tracks: Sequence[str], only_games: Sequence[str], only_methods: Sequence[str]
) -> list[Pair]:
    """List the pairs, in the order of the registries; all games or methods if empty.

    Raises:
        ValueError: if a name is unknown.
    """
    chosen = [methods.entry(name) and name.replace("-", "_") for name in only_methods]
    names = chosen or list(methods.names())
    if unknown := set(tracks) - set(games.TRACKS):
        raise ValueError(f"tracks are {list(games.TRACKS)}, got {sorted(unknown)}")
    known = {entry.name for track in tracks for entry in games.TRACKS[track]}
    if unknown := {name.replace("-", "_") for name in only_games} - known:
        raise ValueError(
            f"games of the board are {sorted(known)}, got {sorted(unknown)}"
        )
    wanted = {name.replace("-", "_") for name in only_games} or known
    return [
        Pair(track, entry.name, name)
        for track in tracks
        for entry in games.TRACKS[track]
        if entry.name in wanted
        for name in names
    ]
