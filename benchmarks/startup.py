"""Import, first call, and second start with the compilation cache, in new processes."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import _measure

IMPORT = """
import json, time
start = time.perf_counter()
{imports}
print(json.dumps(dict(import_s=time.perf_counter() - start)))
"""
FIRST_CALL = """
import json, time
start = time.perf_counter()
import jax, jax.numpy as jnp, optax
import gamedyn as gd
from gamedyn import runtime
imported = time.perf_counter()
runtime.configure(compilation_cache={cache!r})
game = gd.zero_sum(lambda x, y: x @ y)
rule = gd.extragradient(optax.sgd(0.1))
run = jax.jit(lambda z: gd.solve(game, rule, z, 1_000))
z = jnp.ones(2), jnp.ones(2)
jax.block_until_ready(run(z))
called = time.perf_counter()
jax.block_until_ready(run(z))
print(json.dumps(dict(
    import_s=imported - start,
    first_call_s=called - imported,
    warm_call_s=time.perf_counter() - called,
)))
"""
COLUMNS = ("import_s", "first_call_s", "warm_call_s")


def fresh(code: str) -> _measure.Sample:
    """Run code in a new interpreter; return what it prints, its wall and CPU time."""
    import resource
    import time

    def children():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    wall, cpu = time.perf_counter(), children()
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        # XLA mistakes its own tuning preferences (+prefer-no-gather) for missing
        # features of the processor, and warns for every program loaded from the cache.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    cpu, wall = children() - cpu, time.perf_counter() - wall
    return _measure.Sample(json.loads(done.stdout.splitlines()[-1]), wall, cpu)


def main(smoke: bool) -> _measure.Report:
    report = _measure.Report(__file__, __doc__)
    rounds = 1 if smoke else 10

    # Time the processes in turn; each also reports the times it measured itself.
    with tempfile.TemporaryDirectory() as folder:
        inside: dict[str, list[dict[str, float]]] = {}

        def candidate(name, code, cache=None):
            inside[name] = []

            def call():
                chosen = cache
                if cache == "new":
                    chosen = str(Path(folder, f"new-{len(inside[name])}"))
                sample = fresh(code.replace("{cache!r}", repr(chosen)))
                inside[name].append(sample.result)
                return sample

            return call

        def imports(line):
            return IMPORT.replace("{imports}", line)

        kept = str(Path(folder, "kept"))
        candidates = {
            name: candidate(name, *arguments)
            for name, arguments in {
                "import jax, optax": (imports("import jax, optax"),),
                "import gamedyn": (imports("import gamedyn"),),
                "first call, no cache": (FIRST_CALL,),
                "first call, empty cache": (FIRST_CALL, "new"),
                "second start, filled cache": (FIRST_CALL, kept),
            }.items()
        }
        if smoke:
            del candidates["first call, no cache"]
            del candidates["first call, empty cache"]
        # The call before the rounds, not counted, writes bytecode and fills the cache.
        timings = _measure.interleave(candidates, rounds=rounds, least=0)

    # The medians of what the processes reported, without that first call.
    rows, medians = [], {}
    for name, timing in timings.items():
        report.measurement(name, timing)
        medians[name] = {
            key: statistics.median(run[key] for run in inside[name][-rounds:])
            for key in inside[name][-1]
        }
        for key, value in medians[name].items():
            report.finding(f"median {key}", value, candidate=name)
        parts = [medians[name].get(column) for column in COLUMNS]
        rows.append(
            (
                name,
                *("" if part is None else f"{part:.4f}" for part in parts),
                f"{timing.median:.3f}",
                f"{timing.cpu_median:.3f}",
            )
        )
    report.table(
        f"Seconds in a fresh process, medians of {rounds}",
        ["process", "import", "first call", "warm call", "whole process", "its CPU"],
        rows,
    )

    # The target.
    ratio = (
        medians["import gamedyn"]["import_s"] / medians["import jax, optax"]["import_s"]
    )
    verdict = report.target("import gamedyn / import jax, optax", ratio, at_most=1.15)
    report.notes.append(
        f"import gamedyn / import jax, optax = {ratio:.3f} ({verdict}). The first call "
        "starts the backend, compiles and runs 1,000 extragradient steps; the warm "
        "call is the second one in the same process. The processes take turns on one "
        "pinned core."
    )
    return report


if __name__ == "__main__":
    _measure.command(main)
