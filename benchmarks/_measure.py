"""Measure candidates side by side on one core, and report the results.

Importing this module pins the process: import it before anything that computes.
"""

import argparse
import dataclasses
import inspect
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _pin  # noqa: F401  (first: thread pools are sized when their library loads)
import jax
import jax.numpy as jnp
import numpy as np

from gamedyn import runtime

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One timed call. A candidate in another process returns one, measured there."""

    result: Any
    wall: float
    cpu: float


@dataclasses.dataclass
class Timing:
    """The seconds per call of one candidate."""

    result: Any
    first: float
    calls: int  # calls in a row that make up one sample
    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def cpu_median(self) -> float:
        return statistics.median(self.cpu)


def prepare() -> None:
    """Configure jax, and stop if it computes wrong numbers on this machine."""
    runtime.configure(x64=True)
    # jax 0.10.2 got half of these rows wrong (jax-ml/jax#39103).
    rows = np.random.default_rng(0).normal(size=(32_768, 3))
    matrix = jnp.eye(3)
    actual = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    if not np.allclose(actual, (rows**2).sum(axis=1), rtol=1e-12):
        raise SystemExit(f"jax {jax.__version__} computes wrong numbers on this CPU")


def interleave(
    candidates: dict[str, Callable[[], Any]],
    *,
    rounds: int,
    least: float = 0.01,
) -> dict[str, Timing]:
    """Time the candidates in turn, A B C A B C.

    Args:
        candidates: functions that return what they computed.
        rounds: the number of samples of each.
        least: the shortest duration of a sample in seconds, reached by calling several
            times; 0 for a single call, without a warm call to count them.

    Returns:
        The timing of each; `first` is the first call, which includes compilation.
    """
    before = os.getloadavg()[0]
    timings = {}
    for name, call in candidates.items():
        first = _once(call)
        calls = max(1, round(least / _once(call).wall)) if least else 1
        timings[name] = Timing(first.result, first.wall, calls)
    for _ in range(rounds):
        for name, call in candidates.items():
            samples = [_once(call) for _ in range(timings[name].calls)]
            timings[name].wall.append(statistics.fmean(s.wall for s in samples))
            timings[name].cpu.append(statistics.fmean(s.cpu for s in samples))
    for timing in timings.values():
        timing.load = before, os.getloadavg()[0]
    return timings


def _once(call: Callable[[], Any]) -> Sample:
    wall, cpu = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(call())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return result if isinstance(result, Sample) else Sample(result, wall, cpu)


def difference(actual: Any, expected: Any) -> float:
    """The largest difference of two results, relative to the largest entry expected."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    differences, sizes = [], []
    for a, e in pairs:
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        differences.append(np.max(np.abs(a - e)))
        sizes.append(np.max(np.abs(e)))
    return float(max(differences) / max(sizes))


class Worker:
    """A script of this folder in its own process; it answers lines of JSON."""

    def __init__(self, python: str, script: str):
        self.script = script
        self.process = subprocess.Popen(
            [python, Path(__file__).with_name(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: Any) -> Any:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.script} has ended; see its message above")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Report:
    """The results of a script: records for programs, tables for readers."""

    def __init__(self, script: str, summary: str):
        self.script, self.summary = Path(script).stem, summary
        self.records: list[dict[str, Any]] = []
        self.tables: list[tuple[str, Sequence[str], list[Sequence[str]]]] = []
        self.notes: list[str] = []

    def measurement(self, candidate: str, timing: Timing, **case: Any) -> None:
        self.records.append(
            {
                "kind": "measurement",
                "candidate": candidate,
                **case,
                "first_s": timing.first,
                "median_s": timing.median,
                "minimum_s": min(timing.wall),
                "cpu_median_s": timing.cpu_median,
                "rounds": len(timing.wall),
                "calls_per_round": timing.calls,
                "load_before": round(timing.load[0], 2),
                "load_after": round(timing.load[1], 2),
            }
        )

    def finding(self, what: str, value: float, **case: Any) -> None:
        self.records.append({"kind": "finding", "what": what, "value": value, **case})

    def target(
        self,
        what: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        **case: Any,
    ) -> str:
        """Record a value with its target; returns the verdict for a table."""
        reached = value >= at_least if at_most is None else value <= at_most
        goal = {"at_least": at_least} if at_most is None else {"at_most": at_most}
        self.records.append(
            {
                "kind": "target",
                "what": what,
                "value": value,
                **goal,
                "reached": bool(reached),
                **case,
            }
        )
        sign, limit = ("≥", at_least) if at_most is None else ("≤", at_most)
        return f"{sign} {limit:g} {'reached' if reached else 'MISSED'}"

    def agreement(self, what: str, value: float, tolerance: float, **case: Any) -> str:
        """Record how far results differ; stop if it exceeds the tolerance.

        Timings of candidates that compute different things are not comparable.
        """
        self.finding(what, value, tolerance=tolerance, **case)
        if not value <= tolerance:
            raise SystemExit(f"{what}: {value:.1e} > {tolerance:.0e} in {case}")
        return f"{value:.0e}"

    def table(
        self, title: str, columns: Sequence[str], rows: list[Sequence[str]]
    ) -> None:
        self.tables.append((title, columns, rows))

    def print(self) -> None:
        from rich.console import Console
        from rich.table import Table

        console = Console(width=None if sys.stdout.isatty() else 140)
        for title, columns, rows in self.tables:
            table = Table(title=title, title_justify="left")
            for column in columns:
                table.add_column(column, justify="right")
            for row in rows:
                table.add_row(*row)
            console.print(table)
        for line in (*self.notes, *self.verdict()):
            console.print(line, highlight=False)

    def verdict(self) -> list[str]:
        targets = [r for r in self.records if r["kind"] == "target"]
        reached = sum(r["reached"] for r in targets)
        return [f"Targets reached: {reached} of {len(targets)}."] if targets else []

    def write(self, folder: Path, *, smoke: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**runtime.environment(), "smoke": smoke}
        records = [{"kind": "environment", **environment}, *self.records]
        lines = [json.dumps({"script": self.script, **record}) for record in records]
        _write(folder / f"{self.script}.jsonl", "\n".join(lines) + "\n")
        _write(folder / f"{self.script}.md", self._markdown(environment))

    def _markdown(self, environment: dict[str, Any]) -> str:
        parts = [f"# {self.script}", self.summary]
        if environment["smoke"]:
            parts.append("**A smoke run: sizes and rounds too small to quote.**")
        for title, columns, rows in self.tables:
            lines = [columns, ["--:"] * len(columns), *rows]
            table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
            parts += [f"## {title}", table]
        parts += [*self.notes, *self.verdict(), "## Environment"]
        parts.append(
            "\n".join(f"- {key}: {value}" for key, value in environment.items())
        )
        return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def command(main: Callable[..., Report]) -> None:
    """Run a benchmark from the command line; its keyword arguments become options."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, no results")
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.name}/ beside it")
    options = list(inspect.signature(main).parameters)[1:]
    for option in options:
        parser.add_argument(f"--{option.replace('_', '-')}", metavar="PATH")
    arguments = parser.parse_args()
    report = main(arguments.smoke, **{o: getattr(arguments, o) for o in options})
    report.print()
    folder = arguments.out or (None if arguments.smoke else RESULTS)
    if folder is not None:
        report.write(folder, smoke=arguments.smoke)
