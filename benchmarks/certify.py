"""Hessian and Jacobian products, and certificates: dense and by Lanczos."""

import contextlib
import tempfile
from functools import partial
from pathlib import Path

import _measure
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.analysis import certify, certify_large, lanczos
from gamedyn.analysis.operators import (
    jacobian,
    jacobian_transposed,
    own_hessian,
    symmetric_part,
)

WIDTHS = (64, 217)  # discriminators of 4 417 and 48 175 parameters
DENSE_WIDTH = 6  # both networks together: 225 parameters
NUM_STEPS, NUM_PAIRS = 50, 2
PEER_STEPS = 100  # steps of PyHessian's density, and of Lanczos in that comparison
HVP_TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
VALUES_TOLERANCE = 1e-3
INSTALL_TORCH = (
    "Torch's Hessian libraries are left out. Put them into an environment of their "
    "own, `python -m venv torchenv && torchenv/bin/pip install torch==2.13.0 "
    "curvlinops-for-pytorch==3.0.1 pyhessian==0.1`, and give `--torch-python "
    "torchenv/bin/python`."
)


# The game: tanh networks 16-h-h-2 and 2-h-h-1, non-saturating, batch 256 + 256.
def network(weights, x):
    *hidden, (matrix, offset) = weights
    for inner, shift in hidden:
        x = jnp.tanh(x @ inner + shift)
    return x @ matrix + offset


def generator_loss(g, d, batch):
    return jnp.mean(jax.nn.softplus(-network(d, network(g, batch[1]))))


def discriminator_loss(g, d, batch):
    real, fake = network(d, batch[0]), network(d, network(g, batch[1]))
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


GAME = gd.general_sum(generator_loss, discriminator_loss, stochastic=True)


def gan(width, dtype):
    rng = np.random.default_rng(0)

    def layers(*sizes):
        pairs = zip(sizes, sizes[1:], strict=False)
        return [(rng.normal(size=(m, n)) / m**0.5, np.zeros(n)) for m, n in pairs]

    params = layers(16, width, width, 2), layers(2, width, width, 1)
    angle = rng.uniform(0, 2 * np.pi, 256)
    real = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    batch = real, rng.normal(size=(256, 16))
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), (params, batch))


@jax.jit
def apply(operator, vector):
    return operator(vector)


@partial(jax.jit, static_argnames="count")
def products(operator, vector, count):
    """Compute `count` products in a row, each with the last one, normalised."""
    flat, unravel = ravel_pytree(vector)

    def body(vector, _):
        image = ravel_pytree(operator(unravel(vector)))[0]
        return image / jnp.linalg.norm(image), None

    return jax.lax.scan(body, flat / jnp.linalg.norm(flat), length=count)[0]


def diagonal(entries, vector):
    return entries * vector


def ends(operator, like, **options):
    return lanczos(
        operator, like, jax.random.key(0), num_steps=NUM_STEPS, **options
    ).values


def eigsh(operator, like, tolerance):
    """Return a run of scipy's ARPACK on the same compiled product, and its calls."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    flat, unravel = ravel_pytree(like)
    calls = []

    @jax.jit
    def product(operator, vector):
        return ravel_pytree(operator(unravel(vector)))[0]

    def matvec(vector):
        calls.append(0)
        return np.asarray(product(operator, np.ravel(vector)))

    size, dtype = flat.size, np.dtype(flat.dtype)
    start = np.random.default_rng(0).normal(size=size).astype(dtype)
    linear = LinearOperator((size, size), matvec=matvec, dtype=dtype)

    def run():
        calls.clear()
        values = eigsh(
            linear,
            k=2,
            which="BE",
            tol=tolerance,
            v0=start,
            return_eigenvectors=False,
        )
        return np.sort(values)

    return run, calls


class Torch(_measure.Worker):
    """Torch's Hessian libraries on the discriminator's loss, in their own process."""

    def __init__(self, python, params, batch, vector):
        super().__init__(python, "_torch_hessian.py")
        inputs = jnp.concatenate([batch[0], network(params[0], batch[1])])
        targets = (jnp.arange(len(inputs)) < len(batch[0])).astype(inputs.dtype)
        arrays = {"inputs": inputs, "targets": targets[:, None], "vector": vector}
        leaves = jax.tree.leaves(params[1])
        arrays |= {f"leaf {i}": leaf for i, leaf in enumerate(leaves)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.npz"
            np.savez(path, **jax.tree.map(np.asarray, arrays))
            answer = self.ask(str(path))
        self.versions, self.tasks = answer["versions"], answer["tasks"]

    def __call__(self, task, **options):
        answer = self.ask([task, options])
        result = np.array(answer["values"]), answer["products"]
        return _measure.Sample(result, answer["wall"], answer["cpu"])


def main(smoke: bool, torch_python: str | None = None) -> _measure.Report:
    _measure.prepare()
    report = _measure.Report(__file__, __doc__)
    rounds = 3 if smoke else 9
    widths = (DENSE_WIDTH,) if smoke else WIDTHS
    dtypes = ("float32",) if smoke else ("float32", "float64")
    cases = [(width, dtype) for width in widths for dtype in dtypes]
    report.table(
        "One product, in units of the gradient it differentiates",
        ["parameters", "dtype", "own gradient, ms", "hvp", "hvp in a scan"]
        + ["F, ms", "J v", "J' v", "S v"],
        [_products(report, *case, rounds) for case in cases],
    )
    report.table(
        f"Lanczos, {NUM_STEPS} steps, both ends, discriminator's own Hessian",
        ["parameters", "dtype", "first, s", "Lanczos, ms", "products in a scan, ms"]
        + ["diagonal operator, ms", "ratio", "target"],
        [_cost(report, *case, rounds) for case in cases],
    )
    report.table(
        "Lanczos that stops early against scipy's eigsh, same operator and tolerance",
        ["parameters", "dtype", "Lanczos, ms (products)", "eigsh, ms (products)"]
        + ["ratio", "target", "error, Lanczos", "error, eigsh"],
        [_peer(report, *case, rounds) for case in cases],
    )
    if torch_python is None:
        report.notes.append(INSTALL_TORCH)
    else:
        report.table(
            "Torch's Hessian libraries, same network, batch and precision",
            ["parameters", "dtype", "what", "candidate", "first, s", "warm, ms"]
            + ["products", "gamedyn is faster by", "per product", "error"],
            [r for case in cases for r in _torch(report, *case, rounds, torch_python)],
        )
        report.notes.append(
            "PyHessian keeps the graph of the gradient and differentiates only that; "
            "its density has one start. torch's first calls do not include its import. "
            "Errors are relative to the norm: of a product against gamedyn's, of "
            f"eigenvalues against {PEER_STEPS} Lanczos steps in float64, the same as "
            "gamedyn's in one row."
        )
    if not smoke:  # compilation takes long
        report.table(
            "The whole certificate, warm",
            ["parameters", "dtype", "dense, ms (first, s)", "Lanczos, ms (first, s)"],
            [_certificates(report, rounds)],
        )
    report.notes += [
        "Medians of interleaved rounds on one pinned core. The target of the second "
        f"table is 1.1 times {NUM_STEPS} + {NUM_PAIRS} + 2 products in a scan, plus "
        "the Lanczos run on a diagonal operator of the same size, which measures the "
        "cost of orthogonalisation and of the host.",
        "In the third table both stop at a relative residual of sqrt(eps); errors are "
        "relative to the norm, against 100 Lanczos steps in float64.",
    ]
    return report


def _products(report, width, dtype, rounds):
    params, batch = gan(width, dtype)
    operator = own_hessian(GAME, params, batch, player=1)
    vector, size = operator.like, ravel_pytree(operator.like)[0].size
    field = gd.fields.gradient(GAME)
    own = jax.jit(lambda params, batch: field(params, batch)[1])
    repeats = 20
    candidates = {
        "own gradient": partial(own, params, batch),
        "hvp": partial(apply, operator, vector),
        "hvps in a scan": partial(products, operator, vector, repeats),
        "F": partial(jax.jit(field), params, batch),
        "J v": partial(apply, jacobian(GAME, params, batch), params),
        "J' v": partial(apply, jacobian_transposed(GAME, params, batch), params),
        "S v": partial(apply, symmetric_part(GAME, params, batch), params),
    }
    timings = _measure.interleave(candidates, rounds=rounds)
    case = {"parameters": size, "dtype": dtype}
    for name, timing in timings.items():
        report.measurement(name, timing, **case)
    seconds = {name: timing.median for name, timing in timings.items()}
    seconds["hvps in a scan"] /= repeats

    def ratio(name, base):
        value = seconds[name] / seconds[base]
        report.finding(f"{name} / {base}", value, **case)
        return f"{value:.2f}"

    return (
        str(size),
        dtype,
        f"{1e3 * seconds['own gradient']:.2f}",
        ratio("hvp", "own gradient"),
        ratio("hvps in a scan", "own gradient"),
        f"{1e3 * seconds['F']:.2f}",
        *(ratio(name, "F") for name in ("J v", "J' v", "S v")),
    )


def _cost(report, width, dtype, rounds):
    params, batch = gan(width, dtype)
    operator = own_hessian(GAME, params, batch, player=1)
    like, flat = operator.like, ravel_pytree(operator.like)[0]
    entries = jnp.linspace(-1, 1, flat.size, dtype=dtype)
    count = NUM_STEPS + NUM_PAIRS + 2
    candidates = {
        "Lanczos": partial(ends, operator, like, tolerance=0.0),
        "products in a scan": partial(products, operator, like, count),
        "diagonal operator": partial(
            ends, Partial(diagonal, entries), entries, tolerance=0.0
        ),
    }
    timings = _measure.interleave(candidates, rounds=rounds)
    case = {"parameters": flat.size, "dtype": dtype}
    for name, timing in timings.items():
        report.measurement(name, timing, **case)
    ours, scan, floor = (timing.median for timing in timings.values())
    value = (ours - floor) / scan
    goal = report.target(
        "(Lanczos - diagonal operator) / products in a scan", value, at_most=1.1, **case
    )
    return (
        str(flat.size),
        dtype,
        f"{timings['Lanczos'].first:.1f}",
        *(f"{1e3 * seconds:.1f}" for seconds in (ours, scan, floor)),
        f"{value:.2f}",
        goal,
    )


def _peer(report, width, dtype, rounds):
    params, batch = gan(width, dtype)
    operator = own_hessian(GAME, params, batch, player=1)
    like = operator.like
    tolerance = float(np.sqrt(np.finfo(dtype).eps))
    arpack, calls = eigsh(operator, like, tolerance)
    candidates = {"Lanczos": partial(ends, operator, like), "eigsh": arpack}
    timings = _measure.interleave(candidates, rounds=rounds)
    steps = lanczos(operator, like, jax.random.key(0), num_steps=NUM_STEPS).steps
    size = ravel_pytree(like)[0].size
    case = {"parameters": size, "dtype": dtype}
    for name, timing in timings.items():
        report.measurement(name, timing, **case)
    exact = jax.tree.map(lambda x: x.astype("float64"), operator)
    exact = lanczos(
        exact, exact.like, jax.random.key(0), num_steps=100, tolerance=0.0
    ).values
    ours, theirs = timings["Lanczos"], timings["eigsh"]
    value = ours.median / theirs.median
    goal = report.target("time Lanczos / eigsh", value, at_most=1.0, **case)
    norm = np.abs(exact).max()
    errors = [np.abs(t.result - exact).max() / norm for t in (ours, theirs)]
    for name, error in zip(candidates, errors, strict=True):
        report.finding(f"error of {name}", float(error), **case)
    return (
        str(size),
        dtype,
        f"{1e3 * ours.median:.1f} ({steps + NUM_PAIRS})",
        f"{1e3 * theirs.median:.1f} ({len(calls)})",
        f"{value:.2f}",
        goal,
        *(f"{error:.0e}" for error in errors),
    )


def _torch(report, width, dtype, rounds, python):
    params, batch = gan(width, dtype)
    operator = own_hessian(GAME, params, batch, player=1)
    like, size = operator.like, ravel_pytree(operator.like)[0].size
    tolerance = float(np.sqrt(np.finfo(dtype).eps))
    num_steps = min(PEER_STEPS, size)

    # The tasks, and who does them: functions here, options for torch's process.
    rng = np.random.default_rng(1)
    vector = jnp.asarray(rng.normal(size=size) / size**0.5, dtype)
    direction = ravel_pytree(like)[1](vector)

    def extremes(**options):
        spectrum = lanczos(operator, like, jax.random.key(0), **options)
        return spectrum.values, spectrum.matvecs

    groups = {
        "hvp": {
            "gamedyn": lambda: (apply(operator, direction), 1),
            "PyHessian hvp": {},
            "curvlinops hvp": {},
        },
        f"Lanczos, {num_steps} steps": {
            "gamedyn": partial(extremes, num_steps=num_steps, tolerance=0.0),
            "PyHessian density": {"num_steps": num_steps},
        },
        f"both ends to {tolerance:.0e}": {
            "gamedyn": partial(extremes, num_steps=NUM_STEPS),
            "curvlinops + eigsh": {"tolerance": tolerance},
        },
    }

    # The eigenvalues to compare with, in float64.
    exact = jax.tree.map(lambda x: x.astype("float64"), operator)
    exact = lanczos(
        exact, exact.like, jax.random.key(0), num_steps=PEER_STEPS, tolerance=0.0
    ).values

    # Time each task, and record time and error of every candidate.
    rows = []
    with contextlib.ExitStack() as stack:
        torch = Torch(python, params, batch, vector)
        stack.callback(torch.close)
        report.records.append({"kind": "versions", **torch.versions})
        for what, group in groups.items():
            candidates = {
                name: call if callable(call) else partial(torch, name, **call)
                for name, call in group.items()
                if callable(call) or name in torch.tasks
            }
            jax.clear_caches()  # so that the first call compiles
            timings = _measure.interleave(candidates, rounds=rounds)
            ours = timings["gamedyn"]
            for name, timing in timings.items():
                case = {"parameters": size, "dtype": dtype, "group": what}
                report.measurement(name, timing, **case)
                values, products = timing.result
                if what == "hvp":
                    expected = ravel_pytree(ours.result[0])[0]
                    actual = ravel_pytree(values)[0]
                    limit = HVP_TOLERANCE[dtype]
                else:
                    expected, actual, limit = exact, values, VALUES_TOLERANCE
                error = _measure.difference(actual, expected)
                agrees = report.agreement("error", error, limit, candidate=name, **case)
                ratio = timing.median / ours.median
                single = ratio * ours.result[1] / products
                if name != "gamedyn":
                    report.finding(
                        "gamedyn is faster by",
                        ratio,
                        per_product=single,
                        candidate=name,
                        **case,
                    )
                rows.append(
                    (
                        str(size),
                        dtype,
                        what,
                        name,
                        f"{timing.first:.2f}",
                        f"{1e3 * timing.median:.2f}",
                        str(products),
                        *(
                            ("", "")
                            if name == "gamedyn"
                            else (f"{ratio:.2f}", f"{single:.2f}")
                        ),
                        "" if what == "hvp" and name == "gamedyn" else agrees,
                    )
                )
    return rows


def _certificates(report, rounds):
    params, batch = gan(DENSE_WIDTH, "float64")
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    candidates = {
        "dense": lambda: certify(GAME, params, batch, tolerance=1.0).verdict.value,
        "Lanczos": lambda: (
            certify_large(
                GAME, params, batch, jax.random.key(0), tolerance=1.0
            ).verdict.value
        ),
    }
    timings = _measure.interleave(candidates, rounds=min(rounds, 3), least=0)
    case = {"parameters": size, "dtype": "float64"}
    for name, timing in timings.items():
        report.measurement(f"{name} certificate", timing, **case)
    cells = [f"{1e3 * t.median:.0f} ({t.first:.1f})" for t in timings.values()]
    return str(size), "float64", *cells


if __name__ == "__main__":
    _measure.command(main)
