"""A leaderboard: every method on every game, tuned alike, counted in gradients.

Commands:

    gamedyn train leaderboard --processes 4 [--out results/leaderboard] [--smoke]
    gamedyn train leaderboard --resume results/leaderboard

Every pair of a method and a game is one jitted sweep over step sizes and seeds, and one
file; killed at any moment, the rest is computed when it resumes.

Expected (`README.md` beside this file has the protocol, the numbers and the pictures):
competitive gradient descent solves 88 % of the runs on the 25 scored games, optimistic
74 %, extragradient 71 %, simultaneous descent 34 %. 2,510 s of processor time on a
2-core x86-64 server busy with other work; `--smoke` 10 s.
"""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    out: Path = Path("results/leaderboard")  # the folder of the run
    resume: bool = False  # go on with what is in `out`
    processes: int = 2  # how many pairs are computed at once, each on one core
    tracks: tuple[str, ...] = ("deterministic", "stochastic")  # or one of them
    games: tuple[str, ...] = ()  # names of `games.TRACKS`, all if empty
    methods: tuple[str, ...] = ()  # names of methods, all if empty
    budget: int = 4000  # joint gradient evaluations of every run
    step_sizes: int = 17  # how many are tried, from 1e-3/L to 10/L in equal ratios
    tune_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # to choose the step size on
    report_seeds: tuple[int, ...] = tuple(range(100, 110))  # for the chosen one
    tolerance: float = 1e-6  # of the deterministic track, relative to the start
    noisy_tolerance: float = 0.1  # of the stochastic track


SMOKE = Config(
    games=("bilinear", "matching_pennies"),
    methods=("extragradient", "halpern"),
    budget=400,
    step_sizes=4,
    tune_seeds=(0,),
    report_seeds=(100, 101),
)
"""Two games, two methods."""


def main(config: Config) -> dict[str, Any]:
    """Compute what is missing, then write the tables, the pictures and the page.

    Args:
        config: what to run.

    Returns:
        The summary.

    Raises:
        ValueError: if a name is unknown or a number out of range.
        RuntimeError: if a process that computes pairs dies.
    """
    from gamedyn import recipes

    from . import files, pairs

    settings = settings_of(config)
    plan = pairs.plan(config.tracks, config.games, config.methods)
    recipes.started()
    config.out.mkdir(parents=True, exist_ok=True)
    files.sweep_up(config.out)
    files.write_settings(config.out, settings)
    missing = [
        pair
        for pair in plan
        if files.read_result(config.out, pair, settings.digest()) is None
    ]
    if missing:
        compute(config.out, missing, config.processes)
    return publish(config, settings, plan)


def settings_of(config: Config) -> Any:
    """Turn the options into the settings of the pairs.

    Raises:
        ValueError: if a number is out of range.
    """
    from . import pairs

    for name in ("processes", "budget", "step_sizes"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")
    for name in ("tolerance", "noisy_tolerance"):
        if not 0 < getattr(config, name) < 1:
            raise ValueError(
                f"{name} must be between 0 and 1, got {getattr(config, name)}"
            )
    for name in ("tune_seeds", "report_seeds"):
        if not getattr(config, name):
            raise ValueError(f"{name} must name at least one seed, got none")
    if shared := set(config.tune_seeds) & set(config.report_seeds):
        raise ValueError(f"seeds must not be tuned and reported both: {sorted(shared)}")
    return pairs.Settings(
        budget=config.budget,
        grid=tuple(float(f"{h:.6g}") for h in np.logspace(-3, 1, config.step_sizes)),
        tune_seeds=config.tune_seeds,
        report_seeds=config.report_seeds,
        tolerance=config.tolerance,
        noisy_tolerance=config.noisy_tolerance,
        versions=pairs.versions(),
    )


def compute(folder: Path, missing: Sequence[Any], processes: int) -> None:
    """Have processes compute pairs, each given the next one when it is done with one.

    Args:
        folder: of the run.
        missing: the pairs.
        processes: how many.

    Raises:
        RuntimeError: if one of them dies; what is done stays.
    """
    from .pairs import FLAGS

    # The workers import this package as it is named here, whatever lies in the current
    # folder (`-P` leaves that out).
    root = str(Path(__file__).parents[__name__.count(".") + 1])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "XLA_FLAGS": FLAGS,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root]),
    }
    # Of jax's own settings none is inherited but these: results must not depend on it.
    for name in list(environment):
        if name.startswith("JAX_") and name != "JAX_PLATFORMS":
            del environment[name]
    todo, lock, failed = iter(missing), threading.Lock(), []
    done = 0

    def drive(core: int) -> None:
        nonlocal done
        command = [sys.executable, "-P", "-m", f"{__name__}.worker"]
        with subprocess.Popen(
            [*command, str(folder), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            while not failed:
                with lock:
                    pair = next(todo, None)
                if pair is None:
                    break
                try:
                    worker.stdin.write(json.dumps(pair) + "\n")
                    worker.stdin.flush()
                    answer = worker.stdout.readline()
                except BrokenPipeError:
                    answer = ""
                if not answer:
                    failed.append(pair)
                    break
                with lock, (folder / "seconds.jsonl").open("a") as log:
                    log.write(json.dumps([*pair, json.loads(answer)]) + "\n")
                    done += 1
                    if done % 100 == 0 or done == len(missing):
                        print(f"{done} of {len(missing)} pairs", flush=True)

    threads = [
        threading.Thread(target=drive, args=(core,), daemon=True)
        for core in range(min(processes, len(missing)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(f"a process died over {failed[0]}: see its message above")


def publish(config: Config, settings: Any, plan: Sequence[Any]) -> dict[str, Any]:
    """Write tables, pictures and page from the results that are there.

    Args:
        config: the options.
        settings: the settings.
        plan: the pairs, all there.

    Returns:
        The summary.
    """
    import jax

    from gamedyn import runtime
    from gamedyn.files import write_whole

    from . import files, page, pictures, scores

    digest = settings.digest()
    results = {}
    for pair in plan:
        result = files.read_result(config.out, pair, digest)
        assert result is not None
        results[tuple(pair)] = result
    board = scores.Board(settings, results)
    tables = {"pairs": scores.pair_rows(board), "runs": scores.run_rows(board)}
    for name, rows in tables.items():
        write_whole(config.out / f"{name}.csv", as_csv(rows))
    profiles = pictures.as_png(pictures.profiles(board))
    outcomes = pictures.as_png(pictures.outcome_map(board))
    write_whole(config.out / "profiles.png", profiles)
    write_whole(config.out / "outcomes.png", outcomes)
    seconds = _seconds(config.out)
    environment = runtime.environment()
    made = {
        **dict(settings.versions),
        "XLA_FLAGS": settings.flags,
        "x64": True,
        "python": environment["python"],
        "platform": environment["platform"],
        "processor": environment["processor"],
        "processor_seconds": seconds,
    }
    with jax.enable_x64(True):
        shown = {"Performance profiles": profiles}
        text = page.page(board, shown, command(config), made)
        rows = scores.game_rows(board)
    write_whole(config.out / "leaderboard.html", text)
    counted = [r for r in results.values() if r["inapplicable"] is None]
    return {
        "methods": len(board.methods()),
        "games": len(rows),
        "pairs": len(counted),
        "not_applicable": len(results) - len(counted),
        "runs": len(counted) * len(settings.report_seeds),
        "games_solved": sum(row["solvers"] > 0 for row in rows),
        "processor_seconds": seconds,
    }


def command(config: Config) -> str:
    """The command that makes the board again; options that are the default are left."""
    words = ["gamedyn train leaderboard"]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in ("out", "resume") or value == field.default:
            continue
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words.append(f"--{field.name.replace('_', '-')} {shown}")
    return " ".join(words)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows of the same or fewer columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _seconds(folder: Path) -> float:
    """The processor seconds spent on all pairs, those of earlier attempts included."""
    log = folder / "seconds.jsonl"
    total = 0.0
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            total += float(json.loads(line)[-1])
        except ValueError:
            continue  # cut off by a kill
    return round(total, 1)
