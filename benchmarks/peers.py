"""Speed on a bilinear game: gamedyn against its alternatives."""

import contextlib
import importlib.util
import math
import subprocess
import sys
from functools import partial

import _measure
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd

STEP_SIZE = 0.25
NUM_STEPS = {2: 10_000, 100: 10_000, 1000: 500}
SLOW_STEPS = {2: 200, 100: 200, 1000: 50}  # for loops in Python
COMPETITIVE_STEPS = 1000  # after more, the point is so small that its square underflows
INNER = 1e-7  # relative residual of the competitive system; jax-cgd's default
TOLERANCE = 1e-9
# The tolerance where inner solvers stop at 1e-6 (CGDs) and 1e-7.
INEXACT = {"float32": 1e-5, "float64": 3e-6}
SWEEPS = {2: (25, 40, 1000), 100: (25, 40, 50)}  # d: step sizes, starts, steps
CHUNK = 32  # runs per chunk of the sweep
SWEEP_TOLERANCE = {"float32": 1e-3, "float64": 1e-9}
INSTALL_TORCH = (
    "torch is not installed, its row is left out. Put it into an environment of its "
    "own, `python -m venv torchenv && torchenv/bin/pip install torch==2.13.0 numpy`, "
    "and give `--torch-python torchenv/bin/python`; with `CGDs==0.4.5` in it that "
    "package's rows are there, too."
)
INSTALL_JAX_CGD = (
    "jax-cgd's rows are left out. Put it into an environment of its own, `python -m "
    "venv cgdenv && cgdenv/bin/pip install jax==0.10.1 jax-cgd==1.0.4`, and give "
    "`--jax-cgd-python cgdenv/bin/python`."
)


def setting(d):
    """A = U diag(linspace(1, 2, d)) V', the start 1/sqrt(d) in every entry."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    return left @ np.diag(np.linspace(1, 2, d)) @ right.T, np.full(d, d**-0.5)


def gamedyn(rule, num_steps, problem, start):
    return gd.solve(problem.game, rule, start, num_steps).params


def numpy_loop(matrix, x, y, num_steps):
    for _ in range(num_steps):
        ahead_x = x - STEP_SIZE * (matrix @ y)
        ahead_y = y + STEP_SIZE * (x @ matrix)
        x = x - STEP_SIZE * (matrix @ ahead_y)
        y = y + STEP_SIZE * (ahead_x @ matrix)
    return x, y


def field(matrix, z):
    """The simultaneous gradient as written without a library for games."""
    return jax.grad(lambda x: x @ matrix @ z[1])(z[0]), jax.grad(
        lambda y: -(z[0] @ matrix @ y)
    )(z[1])


@jax.jit
def jitted_step(matrix, z):
    def move(z, g):
        return jax.tree.map(lambda p, q: p - STEP_SIZE * q, z, g)

    return move(z, field(matrix, move(z, field(matrix, z))))


def python_loop(matrix, z, num_steps):
    for _ in range(num_steps):
        z = jitted_step(matrix, z)
    return z


def optax_scan(num_steps, matrix, z):
    optimizer = optax.optimistic_gradient_descent(STEP_SIZE)

    def body(carry, _):
        z, state = carry
        updates, state = optimizer.update(field(matrix, z), state, z)
        return (optax.apply_updates(z, updates), state), None

    return jax.lax.scan(body, (z, optimizer.init(z)), length=num_steps)[0][0]


def dense_competitive(matrix, x, y, num_steps):
    """Competitive gradient descent by dense solves.

    Both own Hessians of a bilinear game are zero, so a step is one linear map.
    """
    d = len(x)
    system = np.block(
        [[np.eye(d), STEP_SIZE * matrix], [-STEP_SIZE * matrix.T, np.eye(d)]]
    )
    z = np.linalg.matrix_power(np.linalg.inv(system), num_steps) @ np.hstack([x, y])
    return z[:d], z[d:]


def competitive(num_steps, problem, start):
    field = gd.fields.competitive(problem.game, STEP_SIZE, tolerance=INNER)
    rule = gd.simultaneous(optax.sgd(STEP_SIZE))
    return gd.solve(field, rule, start, num_steps).params


class Peer(_measure.Worker):
    """A candidate in its own process."""

    def __init__(self, python, script, matrix, x, y):
        super().__init__(python, script)
        numbers = {"matrix": matrix.tolist(), "x": x.tolist(), "y": y.tolist()}
        dtype = str(matrix.dtype)
        answer = self.ask({**numbers, "step_size": STEP_SIZE, "dtype": dtype})
        self.version = answer["version"]

    def __call__(self, question):
        answer = self.ask(question)
        return _measure.Sample(
            tuple(np.array(player) for player in answer["result"]),
            answer["wall"],
            answer["cpu"],
        )


def main(
    smoke: bool, torch_python: str | None = None, jax_cgd_python: str | None = None
) -> _measure.Report:
    _measure.prepare()
    report = _measure.Report(__file__, __doc__)
    if torch_python is None and importlib.util.find_spec("torch"):
        torch_python = sys.executable
    if torch_python is None:
        report.notes.append(INSTALL_TORCH)
    if jax_cgd_python is None:
        report.notes.append(INSTALL_JAX_CGD)
    rows, competitive_rows, sweep_rows = [], [], []
    for d in (2,) if smoke else NUM_STEPS:
        for dtype in ("float64",) if smoke else ("float32", "float64"):
            rows += _measure_size(report, d, dtype, torch_python, smoke)
            if d <= 100:
                pythons = torch_python, jax_cgd_python
                competitive_rows += _competitive(report, d, dtype, *pythons, smoke)
                sweep_rows += _sweep(report, d, dtype, smoke)
    columns = ["candidate", "steps", "first, s", "steps/s", "of CPU time"]
    columns += ["gamedyn is faster by", "target", "difference"]
    report.table("Steps per second", ["d", "dtype", "method", *columns], rows)
    report.table(
        "Competitive gradient descent, steps per second",
        ["d", "dtype", *columns],
        competitive_rows,
    )
    report.table(
        "1000 runs of extragradient at once",
        ["d", "dtype", "candidate", "steps", "first, s", "ns per run and step"]
        + ["CPU ns", "gamedyn is faster by", "target", "difference"],
        sweep_rows,
    )
    report.notes += [
        "min_x max_y x'Ay, A = U diag(linspace(1, 2, d)) V', start 1/sqrt(d), step "
        "size 1/4; medians of interleaved rounds on one pinned core, final state only. "
        "Loops in Python do fewer steps per call. An optimistic step evaluates the "
        "field once, an extragradient step twice: compare within a method. The torch "
        "row includes autograd. At d = 1000 all are limited by memory bandwidth.",
        "The difference is that of the final points in float64 after the candidate's "
        f"steps, relative to the largest entry; tolerance {TOLERANCE:g}. In gamedyn's "
        "row it is the difference from numpy after all steps.",
        "Competitive gradient descent: gamedyn solves the inner system to a relative "
        f"residual of {INNER:g}, jax-cgd to the same, CGDs to 1e-6, their defaults; "
        "the differences from CGDs and jax-cgd must be at most "
        f"{INEXACT['float32']:g} in float32 and {INEXACT['float64']:g} in float64. "
        "CGDs as published starts its inner solver from its last solution and then "
        "allows it one step fewer than there are unknowns, one at d = 2, which does "
        "not solve the system: its difference there is shown, without a tolerance. "
        "jax-cgd compiles in every step unless its caller jits it: the last row.",
        "The sweep: 25 step sizes from .001 to .1 x 40 random starts; each run returns "
        "its final norm. numpy has one array per coordinate, or one row per run; "
        f"gamedyn does all runs at once, or {CHUNK} at a time; the target compares the "
        "faster of each. The difference is relative to the largest "
        f"norm; tolerance {SWEEP_TOLERANCE['float32']:g} in float32, "
        f"{SWEEP_TOLERANCE['float64']:g} in float64.",
    ]
    return report


def _has(python, package):
    """Whether an interpreter can import a package."""
    command = [python, "-c", f"import {package}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _measure_size(report, d, dtype, torch_python, smoke):
    """Time all candidates for one size and dtype; return the rows of the table."""
    # The game, and the compiled runs.
    exact, ones = setting(d)
    matrix, x = exact.astype(dtype), ones.astype(dtype)
    many, few = (300, 100) if smoke else (NUM_STEPS[d], SLOW_STEPS[d])
    start = jnp.asarray(x), jnp.asarray(x)
    device_matrix = jnp.asarray(matrix)
    problem = gd.games.bilinear(device_matrix)
    rules = {
        "extragradient": gd.extragradient(optax.sgd(STEP_SIZE)),
        "optimistic": gd.optimistic(optax.sgd(STEP_SIZE)),
    }
    ours = {
        method: jax.jit(partial(gamedyn, rule), static_argnums=0)
        for method, rule in rules.items()
    }
    optax_run = jax.jit(optax_scan, static_argnums=0)
    python_run = partial(python_loop, device_matrix, start)

    # Time the candidates in turn.
    candidates = {  # (method, name): (steps per call, call)
        ("extragradient", "gamedyn"): (
            many,
            partial(ours["extragradient"], many, problem, start),
        ),
        ("extragradient", "numpy loop"): (few, partial(numpy_loop, matrix, x, x, few)),
        ("extragradient", "jitted step, Python loop"): (few, partial(python_run, few)),
        ("optimistic", "gamedyn"): (
            many,
            partial(ours["optimistic"], many, problem, start),
        ),
        ("optimistic", "optax in a scan"): (
            many,
            partial(optax_run, many, device_matrix, start),
        ),
    }
    with contextlib.ExitStack() as stack:
        if torch_python is not None:
            torch = Peer(torch_python, "_torch_peer.py", matrix, x, x)
            stack.callback(torch.close)
            candidates["extragradient", torch.version] = few, partial(torch, few)
        timings = _measure.interleave(
            {key: call for key, (_, call) in candidates.items()},
            rounds=3 if smoke else 9,
        )

    # Compare every candidate with gamedyn, in time and in the final point.
    rows = []
    for key in sorted(candidates, key=lambda key: key[0]):
        (method, name), num_steps, timing = key, candidates[key][0], timings[key]
        case = {"d": d, "dtype": dtype, "method": method, "num_steps": num_steps}
        report.measurement(name, timing, **case)
        best = timings[method, "gamedyn"].median / many
        ratio = timing.median / num_steps / best
        agrees = target = ""
        if name != "gamedyn":
            report.finding("gamedyn is faster by", ratio, candidate=name, **case)
            if d == 2 and "Python loop" in name:
                target = report.target(
                    f"speed of gamedyn / {name}", ratio, at_least=100, **case
                )
            if dtype == "float64":
                expected = ours[method](num_steps, problem, start)
                gap = _measure.difference(timing.result, expected)
                agrees = report.agreement(
                    f"difference gamedyn - {name}", gap, TOLERANCE, **case
                )
        elif dtype == "float64":
            norm = float(np.linalg.norm(np.concatenate(timing.result)))
            report.finding("final |z|", norm, **case)
            if method == "extragradient":  # compare with numpy after all steps
                gap = _measure.difference(timing.result, numpy_loop(matrix, x, x, many))
                agrees = report.agreement(
                    "difference gamedyn - numpy, full length", gap, TOLERANCE, **case
                )
        rows.append(
            (
                str(d),
                dtype,
                method,
                name,
                str(num_steps),
                f"{timing.first:.2f}",
                f"{num_steps / timing.median:,.0f}",
                f"{num_steps / timing.cpu_median:,.0f}",
                "" if name == "gamedyn" else f"{ratio:,.2f}",
                target,
                agrees,
            )
        )
    return rows


def _competitive(report, d, dtype, torch_python, jax_cgd_python, smoke):
    """Time competitive gradient descent, a second-order method with an inner solver."""
    # The game, and gamedyn's compiled runs.
    exact, ones = setting(d)
    matrix, x = exact.astype(dtype), ones.astype(dtype)
    problem, start = gd.games.bilinear(jnp.asarray(matrix)), (jnp.asarray(x),) * 2
    many, few = (100, 5) if smoke else (COMPETITIVE_STEPS, 50)
    run = jax.jit(competitive, static_argnums=0)
    step = jax.jit(partial(competitive, 1))

    def loop(count):
        point = start
        for _ in range(count):
            point = step(problem, point)
        return point

    # Time the candidates in turn.
    candidates = {  # name: (steps per call, call, least ratio)
        "gamedyn": (many, partial(run, many, problem, start), None),
        "gamedyn's jitted step, Python loop": (few, partial(loop, few), None),
    }
    with contextlib.ExitStack() as stack:

        def peer(python, script):
            made = Peer(python, script, matrix, x, x)
            stack.callback(made.close)
            return made

        if torch_python is not None and _has(torch_python, "CGDs"):
            torch = peer(torch_python, "_torch_cgd_peer.py")
            for words, warm in (("", True), (", cold", False)):
                call = partial(torch, [few, warm])
                candidates[f"{torch.version}{words}"] = few, call, 50
        if jax_cgd_python is not None:
            other = peer(jax_cgd_python, "_jax_cgd_peer.py")
            candidates[other.version] = 1, partial(other, [1, False]), 50
            call = partial(other, [few, True])
            candidates[f"{other.version}, jitted by its caller"] = few, call, None
        timings = _measure.interleave(
            {name: call for name, (_, call, _) in candidates.items()},
            rounds=3 if smoke else 9,
        )

    # Compare every candidate with gamedyn, and gamedyn with dense solves.
    rows = []
    for name, (num_steps, _, least) in candidates.items():
        timing = timings[name]
        case = {"d": d, "dtype": dtype, "method": "competitive", "num_steps": num_steps}
        report.measurement(name, timing, **case)
        ratio = timing.median / num_steps * many / timings["gamedyn"].median
        target = agrees = ""
        if name == "gamedyn":
            if dtype == "float64":
                expected = dense_competitive(exact, ones, ones, many)
                agrees = report.agreement(
                    "difference gamedyn - dense solves, full length",
                    _measure.difference(timing.result, expected),
                    many * INNER,
                    **case,
                )
        else:
            report.finding("gamedyn is faster by", ratio, candidate=name, **case)
            gap = _measure.difference(timing.result, run(num_steps, problem, start))
            what = f"difference gamedyn - {name}"
            if d == 2 and name.startswith("CGDs") and not name.endswith("cold"):
                report.finding(what, gap, **case)
                agrees = f"{gap:.0e}"
            else:
                agrees = report.agreement(what, gap, INEXACT[dtype], **case)
        if least is not None:
            target = report.target(
                f"speed of gamedyn / {name}", ratio, at_least=least, **case
            )
        rows.append(
            (
                str(d),
                dtype,
                name,
                str(num_steps),
                f"{timing.first:.2f}",
                f"{num_steps / timing.median:,.1f}",
                f"{num_steps / timing.cpu_median:,.1f}",
                "" if name == "gamedyn" else f"{ratio:,.1f}",
                target,
                agrees,
            )
        )
    return rows


def sweep_grid(d, num_sizes, num_starts, dtype):
    """Return the matrix, and all pairs of a step size and a start."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(d, d)) / math.sqrt(d)
    starts = rng.normal(size=(2, num_starts, d))
    sizes = np.geomspace(1e-3, 0.1, num_sizes)
    size, start = (i.ravel() for i in np.indices((num_sizes, num_starts)))
    points = sizes[size], starts[0][start], starts[1][start]
    return matrix.astype(dtype), tuple(array.astype(dtype) for array in points)


def gamedyn_sweep(problem, points, num_steps, chunk=None):
    def run(point):
        rule = gd.extragradient(optax.sgd(point[0]))
        params = gd.solve(problem.game, rule, point[1:], num_steps).params
        return optax.global_norm(params)

    return gd.sweep(run, points, chunk=chunk)


def numpy_rows(matrix, points, num_steps):
    """Extragradient with one row per run."""
    sizes, x, y = points
    sizes = sizes[:, None]
    for _ in range(num_steps):
        ahead_x, ahead_y = x - sizes * (y @ matrix.T), y + sizes * (x @ matrix)
        x, y = x - sizes * (ahead_y @ matrix.T), y + sizes * (ahead_x @ matrix)
    return np.sqrt((x**2).sum(1) + (y**2).sum(1))


def numpy_coordinates(matrix, points, num_steps):
    """Extragradient with one array per coordinate, for two-dimensional games."""
    h, x, y = points
    (a, b), (c, d) = matrix
    (p, q), (r, s) = x.T.copy(), y.T.copy()
    for _ in range(num_steps):
        u, v = p - h * (a * r + b * s), q - h * (c * r + d * s)
        f, g = r + h * (a * p + c * q), s + h * (b * p + d * q)
        p, q = p - h * (a * f + b * g), q - h * (c * f + d * g)
        r, s = r + h * (a * u + c * v), s + h * (b * u + d * v)
    return np.sqrt(p**2 + q**2 + r**2 + s**2)


def _sweep(report, d, dtype, smoke):
    num_sizes, num_starts, num_steps = (5, 4, 50) if smoke else SWEEPS[d]
    matrix, points = sweep_grid(d, num_sizes, num_starts, dtype)
    problem, device = gd.games.bilinear(jnp.asarray(matrix)), jax.device_put(points)
    candidates = {}
    for words, chunk in (("", None), (f", {CHUNK} at a time", CHUNK)):
        run = jax.jit(partial(gamedyn_sweep, num_steps=num_steps, chunk=chunk))
        candidates[f"gamedyn{words}"] = partial(run, problem, device)
    candidates["numpy, one row per run"] = partial(
        numpy_rows, matrix, points, num_steps
    )
    if d == 2:
        candidates["numpy, one array per coordinate"] = partial(
            numpy_coordinates, matrix, points, num_steps
        )
    timings = _measure.interleave(candidates, rounds=3 if smoke else 9)
    best = {
        side: min(
            (name for name in timings if name.startswith(side)),
            key=lambda name: timings[name].median,
        )
        for side in ("gamedyn", "numpy")
    }
    num_points = num_sizes * num_starts
    case = {"d": d, "dtype": dtype, "points": num_points, "num_steps": num_steps}
    rows = []
    for name, timing in timings.items():
        report.measurement(name, timing, method="sweep", **case)
        ratio = timing.median / timings[best["gamedyn"]].median
        target = ""
        if name == best["numpy"]:
            target = report.target(
                "speed of the sweep / hand-vectorised numpy", ratio, at_least=1, **case
            )
        agrees = report.agreement(
            f"difference {name} - numpy",
            _measure.difference(timing.result, timings[best["numpy"]].result),
            SWEEP_TOLERANCE[dtype],
            **case,
        )
        per = 1e9 / (num_points * num_steps)
        rows.append(
            (
                str(d),
                dtype,
                name,
                str(num_steps),
                f"{timing.first:.2f}",
                f"{timing.median * per:.2f}",
                f"{timing.cpu_median * per:.2f}",
                f"{ratio:.2f}",
                target,
                agrees,
            )
        )
    return rows


if __name__ == "__main__":
    _measure.command(main)
