"""Steps per second on one bilinear game: gamedyn against what one would use instead."""

import contextlib
import importlib.util
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
TOLERANCE = 1e-9
INSTALL_TORCH = (
    "torch is not installed, its row is left out. Put it into an environment of its "
    "own, `python -m venv torchenv && torchenv/bin/pip install torch==2.13.0 numpy`, "
    "and give `--torch-python torchenv/bin/python`."
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
    """The simultaneous gradient as one writes it without a library of games."""
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


class Torch(_measure.Worker):
    """The torch candidate, in a process of its own."""

    def __init__(self, python, matrix, x, y, num_steps):
        super().__init__(python, "_torch_peer.py")
        self.num_steps = num_steps
        numbers = {"matrix": matrix.tolist(), "x": x.tolist(), "y": y.tolist()}
        dtype = str(matrix.dtype)
        self.version = self.ask({**numbers, "step_size": STEP_SIZE, "dtype": dtype})

    def __call__(self):
        answer = self.ask(self.num_steps)
        return _measure.Sample(
            tuple(np.array(player) for player in answer["result"]),
            answer["wall"],
            answer["cpu"],
        )


def main(smoke: bool, torch_python: str | None = None) -> _measure.Report:
    _measure.prepare()
    report = _measure.Report(__file__, __doc__)
    if torch_python is None and importlib.util.find_spec("torch"):
        torch_python = sys.executable
    if torch_python is None:
        report.notes.append(INSTALL_TORCH)
    rows = []
    for d in (2,) if smoke else NUM_STEPS:
        for dtype in ("float64",) if smoke else ("float32", "float64"):
            rows += _measure_size(report, d, dtype, torch_python, smoke)
    report.table(
        "Steps per second",
        ["d", "dtype", "method", "candidate", "steps", "first, s", "steps/s"]
        + ["of CPU time", "gamedyn is faster by", "difference"],
        rows,
    )
    report.notes += [
        "min_x max_y x'Ay, A = U diag(linspace(1, 2, d)) V', start 1/sqrt(d), step "
        "size 1/4; medians of interleaved rounds on one pinned core, final state only. "
        "Loops in Python do fewer steps per call. An optimistic step evaluates the "
        "field once, an extragradient step twice: compare within a method. The torch "
        "row includes autograd. At d = 1000 everyone is bound by memory.",
        "The difference is that of the final points in float64 after the candidate's "
        f"steps, relative to the largest entry; tolerance {TOLERANCE:g}. In gamedyn's "
        "row it is the one to numpy in full length.",
    ]
    return report


def _measure_size(report, d, dtype, torch_python, smoke):
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
            torch = Torch(torch_python, matrix, x, x, few)
            stack.callback(torch.close)
            name = f"torch {torch.version['torch']}"
            candidates["extragradient", name] = few, torch
        timings = _measure.interleave(
            {key: call for key, (_, call) in candidates.items()},
            rounds=3 if smoke else 9,
        )
    rows = []
    for key in sorted(candidates, key=lambda key: key[0]):
        (method, name), num_steps, timing = key, candidates[key][0], timings[key]
        case = {"d": d, "dtype": dtype, "method": method, "num_steps": num_steps}
        report.measurement(name, timing, **case)
        best = timings[method, "gamedyn"].median / many
        ratio = timing.median / num_steps / best
        agrees = ""
        if name != "gamedyn":
            report.finding("gamedyn is faster by", ratio, candidate=name, **case)
            if dtype == "float64":
                expected = ours[method](num_steps, problem, start)
                gap = _measure.difference(timing.result, expected)
                agrees = report.agreement(
                    f"difference gamedyn - {name}", gap, TOLERANCE, **case
                )
        elif dtype == "float64":
            norm = float(np.linalg.norm(np.concatenate(timing.result)))
            report.finding("final |z|", norm, **case)
            if method == "extragradient":  # in full length, against numpy
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
                agrees,
            )
        )
    return rows


if __name__ == "__main__":
    _measure.command(main)
