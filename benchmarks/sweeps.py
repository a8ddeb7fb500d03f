"""Many extragradient runs at once: the public sweep against hand-written batches."""

import math
from functools import partial

import _measure
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd

CASES = (  # dimension, step sizes, starts, steps
    (2, 25, 40, 1_000),
    (2, 250, 400, 100),
    (100, 25, 40, 20),
)
CHUNK = 32  # runs per chunk, so few that they stay in the core's first cache
SINGLE_RUNS = 20  # points in the loop over single runs; its time is extrapolated to all
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


def grid(d, num_sizes, num_starts, dtype):
    """Return the matrix, and all pairs of a step size and a start."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(d, d)) / math.sqrt(d)
    starts = rng.normal(size=(2, num_starts, d))
    sizes = np.geomspace(1e-3, 0.1, num_sizes)
    size, start = (i.ravel() for i in np.indices((num_sizes, num_starts)))
    points = sizes[size], starts[0][start], starts[1][start]
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), (matrix, points))


def composed(problem, point, num_steps):
    step_size, x, y = point
    rule = gd.extragradient(optax.sgd(step_size))
    return optax.global_norm(gd.solve(problem.game, rule, (x, y), num_steps).params)


def public_sweep(problem, points, num_steps, chunk=None):
    run = partial(composed, problem, num_steps=num_steps)
    return gd.sweep(run, points, chunk=chunk)


def by_hand(field, step_size, z, num_steps):
    """Extragradient on a tuple of arrays, by hand."""

    def move(z, g):
        return tuple(p - step_size * q for p, q in zip(z, g, strict=True))

    def body(z, _):
        return move(z, field(move(z, field(z)))), None

    return jax.lax.scan(body, z, length=num_steps)[0]


def struct_of_arrays(matrix, points, num_steps):
    """All runs with one array per coordinate, for two-dimensional games."""
    step_size, x, y = points
    (a, b), (c, d) = matrix

    def field(z):
        x0, x1, y0, y1 = z
        return a * y0 + b * y1, c * y0 + d * y1, -(a * x0 + c * x1), -(b * x0 + d * x1)

    z = by_hand(field, step_size, (*x.T, *y.T), num_steps)
    return jnp.sqrt(sum(p * p for p in z))


def batched_products(matrix, points, num_steps):
    """All runs with one matrix product per evaluation."""
    step_size, x, y = points

    def field(z):
        return z[1] @ matrix.T, -(z[0] @ matrix)

    z = by_hand(field, step_size[:, None], (x, y), num_steps)
    return jnp.sqrt(sum(jnp.sum(p * p, axis=1) for p in z))


def vmapped_product(matrix, points, num_steps):
    """The hand-written run of one point, on x @ A @ y, under vmap."""

    def payoff(x, y):
        return x @ matrix @ y

    def field(z):
        gx, gy = jax.grad(payoff, argnums=(0, 1))(*z)
        return gx, -gy

    def run(step_size, x, y):
        return optax.global_norm(by_hand(field, step_size, (x, y), num_steps))

    return jax.vmap(run)(*points)


def one_by_one(single, problem, points):
    return jnp.stack(
        [
            single(problem, jax.tree.map(lambda leaf, i=i: leaf[i], points))
            for i in range(SINGLE_RUNS)
        ]
    )


def main(smoke: bool) -> _measure.Report:
    _measure.prepare()
    report = _measure.Report(__file__, __doc__)
    rows = []
    for d, num_sizes, num_starts, num_steps in CASES:
        if smoke:
            if d > 2 or num_starts > 40:
                continue
            num_steps = 50
        for dtype in ("float64",) if smoke else ("float32", "float64"):
            rows += _case(report, d, num_sizes, num_starts, num_steps, dtype, smoke)
    report.table(
        "Nanoseconds per run and step",
        ["d", "points", "steps", "dtype", "candidate", "first, s", "ns"]
        + ["CPU ns", "time / sweep", "target", "difference"],
        rows,
    )
    report.table(
        "Memory of a sweep that keeps every run's trace, d = 2, float64",
        ["points", "steps", "chunk", "peak of temporaries, MB", "target"],
        _memory(report, smoke),
    )
    report.notes.append(
        "Step sizes x starts of extragradient; each run returns its final norm. "
        "Medians of interleaved rounds on one pinned core. The loop over single runs "
        f"is measured on {SINGLE_RUNS} points and extrapolated to all. `sweep` does "
        f"all points at once, `sweep in chunks` {CHUNK} at a time; the targets are for "
        "the faster of both. The difference is relative to the largest norm; tolerance "
        f"{TOLERANCE['float32']:g} in float32, {TOLERANCE['float64']:g} in float64."
    )
    return report


def _case(report, d, num_sizes, num_starts, num_steps, dtype, smoke):
    """Time all candidates on one case; return the rows of the table."""
    matrix, points = grid(d, num_sizes, num_starts, dtype)
    problem = gd.games.bilinear(matrix)
    num_points = num_sizes * num_starts
    single = jax.jit(partial(composed, num_steps=num_steps))

    # Time the candidates in turn.
    jitted = {
        "sweep": (partial(public_sweep, num_steps=num_steps), problem),
        "hand-written": (
            partial(
                struct_of_arrays if d == 2 else batched_products, num_steps=num_steps
            ),
            matrix,
        ),
        "vmapped x @ A @ y": (partial(vmapped_product, num_steps=num_steps), matrix),
    }
    in_chunks = partial(public_sweep, num_steps=num_steps, chunk=CHUNK)
    jitted["sweep in chunks"] = in_chunks, problem
    candidates = {
        name: partial(jax.jit(function), subject, points)
        for name, (function, subject) in jitted.items()
    }
    candidates["one by one"] = partial(one_by_one, single, problem, points)
    timings = _measure.interleave(candidates, rounds=3 if smoke else 9)

    # The cost of each per run and step; the sweep is compared by its faster form.
    case = {"d": d, "points": num_points, "num_steps": num_steps, "dtype": dtype}
    scale = {name: num_points * num_steps for name in timings}
    scale["one by one"] = SINGLE_RUNS * num_steps
    for name, timing in timings.items():
        report.measurement(name, timing, runs_and_steps=scale[name], **case)
    cost = {name: timing.median / scale[name] for name, timing in timings.items()}
    chosen = min(
        (name for name in cost if name.startswith("sweep")), key=cost.__getitem__
    )

    # Compare with the hand-written batches, in time and in the final norms.
    rows = []
    for name, timing in timings.items():
        verdict, ratio = "", cost[name] / cost[chosen]
        if d == 2 and name == "hand-written":
            verdict = report.target(
                "time of the sweep / struct of arrays", 1 / ratio, at_most=1.3, **case
            )
        elif d == 2 and name == "vmapped x @ A @ y":
            verdict = report.target(
                "speed of the sweep / vmapped x @ A @ y", ratio, at_least=10, **case
            )
        expected = timings["hand-written"].result[: len(timing.result)]
        agrees = report.agreement(
            f"difference {name} - hand-written",
            _measure.difference(timing.result, expected),
            TOLERANCE[dtype],
            **case,
        )
        rows.append(
            (
                str(d),
                f"{num_points:,}",
                str(num_steps),
                dtype,
                name + (" (extrapolated)" if name == "one by one" else ""),
                f"{timing.first:.2f}",
                f"{cost[name] * 1e9:.2f}",
                f"{timing.cpu_median / scale[name] * 1e9:.2f}",
                f"{ratio:.2f}",
                verdict,
                agrees,
            )
        )
    return rows


def _memory(report, smoke):
    """Measure the memory that the compiled sweep allocates for temporaries."""
    num_points, num_steps = (1_000, 100) if smoke else (100_000, 1_000)
    chunk = num_points // 100
    problem = gd.games.bilinear(np.eye(2))
    points = (jnp.full(num_points, 0.1), *jnp.ones((2, num_points, 2)))

    def run(problem, point):
        solution = gd.solve(
            problem.game,
            gd.extragradient(optax.sgd(point[0])),
            point[1:],
            num_steps,
            record=lambda params, *_: optax.global_norm(params),
        )
        return jnp.median(solution.trace)

    peaks = {}
    for size in (None, chunk):
        sweep = jax.jit(
            lambda problem, points, size=size: gd.sweep(
                partial(run, problem), points, chunk=size
            )
        )
        analysis = sweep.lower(problem, points).compile().memory_analysis()
        peaks[size] = analysis.temp_size_in_bytes
        case = {"points": num_points, "num_steps": num_steps, "chunk": size}
        report.finding("bytes of temporaries", peaks[size], **case)
    verdict = report.target(
        "memory in chunks / all at once", peaks[chunk] / peaks[None], at_most=0.05
    )
    return [
        (
            f"{num_points:,}",
            str(num_steps),
            "all" if size is None else f"{size:,}",
            f"{peak / 1e6:,.1f}",
            "" if size is None else verdict,
        )
        for size, peak in peaks.items()
    ]


if __name__ == "__main__":
    _measure.command(main)
