"""Composed game, rule and solver against a hand-written scan, in steps per second."""

from functools import partial

import _measure
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd

STEP_SIZE = 1e-4  # so small that no run diverges or reaches denormal numbers
NUM_STEPS = {1: 200_000, 2: 200_000, 10: 100_000, 100: 5_000, 1000: 100}
TOLERANCE = {"float32": 1e-2, "float64": 1e-9}


# The field of x'Ay in three forms. All forms that make sense for a size are timed, and
# gamedyn is compared with the fastest.
def scalars(matrix, x, y):
    m, n = matrix.shape
    gx = [sum(matrix[i, j] * y[j] for j in range(n)) for i in range(m)]
    gy = [-sum(matrix[i, j] * x[i] for i in range(m)) for j in range(n)]
    return jnp.stack(gx), jnp.stack(gy)


def sums(matrix, x, y):
    return jnp.sum(matrix * y, axis=1), -jnp.sum(matrix * x[:, None], axis=0)


def products(matrix, x, y):
    return matrix @ y, -(x @ matrix)


def forms(d):
    return ([scalars] if d <= 2 else []) + ([sums] if d <= 10 else []) + [products]


# One hand-written step of each method, on the carry (x, y, state of x, state of y).
def _move(optimizer, gradient, state, point):
    update, state = optimizer.update(gradient, state, point)
    return optax.apply_updates(point, update), state


def simultaneous(field, optimizer, carry):
    x, y, state_x, state_y = carry
    gx, gy = field(x, y)
    x, state_x = _move(optimizer, gx, state_x, x)
    y, state_y = _move(optimizer, gy, state_y, y)
    return x, y, state_x, state_y


def alternating(field, optimizer, carry):
    x, y, state_x, state_y = carry
    x, state_x = _move(optimizer, field(x, y)[0], state_x, x)
    y, state_y = _move(optimizer, field(x, y)[1], state_y, y)
    return x, y, state_x, state_y


def extragradient(field, optimizer, carry):
    x, y, state_x, state_y = carry
    gx, gy = field(x, y)
    middle = _move(optimizer, gx, state_x, x)[0], _move(optimizer, gy, state_y, y)[0]
    gx, gy = field(*middle)
    x, state_x = _move(optimizer, gx, state_x, x)
    y, state_y = _move(optimizer, gy, state_y, y)
    return x, y, state_x, state_y


def hand_written(step, optimizer, form, num_steps):
    @jax.jit
    def run(matrix, x, y):
        def body(carry, _):
            return step(lambda x, y: form(matrix, x, y), optimizer, carry), None

        carry = x, y, optimizer.init(x), optimizer.init(y)
        return jax.lax.scan(body, carry, length=num_steps)[0][:2]

    return run


def hand_written_joint(optimizer, form, num_steps):
    """One state for both players: correct only for elementwise transformations."""

    @jax.jit
    def run(matrix, x, y):
        def body(carry, _):
            z, state = carry
            return _move(optimizer, form(matrix, *z), state, z), None

        carry = (x, y), optimizer.init((x, y))
        return jax.lax.scan(body, carry, length=num_steps)[0][0]

    return run


def hand_written_optimistic(form, num_steps):
    r"""z - 2 eta g + eta g_, with g_{-1} = g_0."""

    @jax.jit
    def run(matrix, x, y):
        def body(carry, _):
            x, y, past_x, past_y = carry
            gx, gy = form(matrix, x, y)
            x = x - 2 * STEP_SIZE * gx + STEP_SIZE * past_x
            y = y - 2 * STEP_SIZE * gy + STEP_SIZE * past_y
            return (x, y, gx, gy), None

        carry = x, y, *form(matrix, x, y)
        return jax.lax.scan(body, carry, length=num_steps)[0][:2]

    return run


SGD, ADAM = optax.sgd(STEP_SIZE), optax.adam(STEP_SIZE)
METHODS = {  # the rule, and its hand-written run from the form of the field
    "simultaneous SGD": (
        gd.simultaneous(SGD),
        lambda form, n: hand_written(simultaneous, SGD, form, n),
    ),
    "alternating SGD": (
        gd.alternating(SGD),
        lambda form, n: hand_written(alternating, SGD, form, n),
    ),
    "extragradient SGD": (
        gd.extragradient(SGD),
        lambda form, n: hand_written(extragradient, SGD, form, n),
    ),
    "simultaneous Adam": (
        gd.simultaneous(ADAM),
        lambda form, n: hand_written(simultaneous, ADAM, form, n),
    ),
    "Adam, joint by hand": (
        gd.simultaneous(ADAM),
        lambda form, n: hand_written_joint(ADAM, form, n),
    ),
    "optimistic SGD": (gd.optimistic(SGD), hand_written_optimistic),
}


def goal(method, d):
    """Return the target of the ratio; `None` where it is shown without a target."""
    if method in ("simultaneous Adam", "optimistic SGD"):
        return 0.9 if d == 2 else None
    if method == "Adam, joint by hand":
        return None
    return 0.95 if d >= 100 else 0.85


def composed(rule, num_steps):
    return jax.jit(
        lambda problem, start: gd.solve(problem.game, rule, start, num_steps).params
    )


def game(d, dtype):
    entries = np.random.default_rng(0).normal(size=(d, d)) / np.sqrt(d)
    matrix = jnp.asarray(entries, dtype)
    start = jnp.ones(d, dtype), jnp.ones(d, dtype)
    return gd.games.bilinear(matrix), matrix, start


def main(smoke: bool) -> _measure.Report:
    _measure.prepare()
    report = _measure.Report(__file__, __doc__)
    sizes = (1, 2) if smoke else (1, 2, 10, 100, 1000)
    dtypes = ("float64",) if smoke else ("float32", "float64")
    rounds = 3 if smoke else 15
    rows = []
    for d in sizes:
        for dtype in dtypes:
            problem, matrix, start = game(d, dtype)
            for method, (rule, by_hand) in METHODS.items():
                num_steps = 1_000 if smoke else NUM_STEPS[d]
                if "Adam" in method:  # slower, and in float32 the runs separate sooner
                    num_steps //= 4
                ours = composed(rule, num_steps)
                candidates = {"composed": partial(ours, problem, start)}
                for form in forms(d):
                    run = by_hand(form, num_steps)
                    candidates[form.__name__] = partial(run, matrix, *start)
                timings = _measure.interleave(candidates, rounds=rounds)
                case = {"d": d, "dtype": dtype, "method": method}
                for name, timing in timings.items():
                    report.measurement(name, timing, **case, num_steps=num_steps)
                rows.append(_row(report, timings, case, num_steps))
    report.table(
        "Nanoseconds per step, and speed composed / hand-written",
        ["d", "dtype", "method", "form", "first, s", "hand, ns", "composed, ns"]
        + ["ratio", "CPU ratio", "target", "difference"],
        rows,
    )
    report.table(
        "Linear in the number of steps: extragradient, composed, float64",
        ["d", "steps", "seconds", "4 times as many", "ratio", "target"],
        [_linear(report, d, smoke, rounds) for d in sizes],
    )
    report.notes += [
        "Medians of interleaved rounds on one pinned core; final state only. `form` is "
        "the fastest hand-written field: unstacked scalars, elementwise sums, or "
        "products `A @ y`, `x @ A`. The difference is relative to the largest entry; "
        f"the tolerance is {TOLERANCE['float32']:g} in float32, "
        f"{TOLERANCE['float64']:g} in float64.",
        "Each player has their own optimizer state, in the hand-written scan too. If "
        "one joint state is enough (an elementwise transformation, simultaneous "
        "moves), it saves Adam one of two bias corrections: the rows 'joint by hand', "
        "without a target.",
    ]
    return report


def _row(report, timings, case, num_steps):
    ours = timings["composed"]
    hands = {name: t for name, t in timings.items() if name != "composed"}
    form = min(hands, key=lambda name: hands[name].median)
    hand = hands[form]
    ratio, cpu_ratio = hand.median / ours.median, hand.cpu_median / ours.cpu_median
    wanted = goal(case["method"], case["d"])
    what = "speed composed / hand-written"
    if wanted is None:
        report.finding(what, ratio, form=form, **case)
        verdict = ""
    else:
        verdict = report.target(what, ratio, at_least=wanted, form=form, **case)
    agrees = report.agreement(
        "difference composed - hand-written",
        max(_measure.difference(ours.result, hand.result) for hand in hands.values()),
        TOLERANCE[case["dtype"]],
        **case,
    )
    return (
        str(case["d"]),
        case["dtype"],
        case["method"],
        form,
        f"{ours.first:.2f}",
        f"{hand.median / num_steps * 1e9:.1f}",
        f"{ours.median / num_steps * 1e9:.1f}",
        f"{ratio:.3f}",
        f"{cpu_ratio:.3f}",
        verdict,
        agrees,
    )


def _linear(report, d, smoke, rounds):
    """Check that four times the steps take four times as long.

    Otherwise the compiler would have optimised steps away.
    """
    problem, _, start = game(d, "float64")
    num_steps = 1_000 if smoke else NUM_STEPS[d]
    runs = {n: composed(gd.extragradient(SGD), n) for n in (num_steps, 4 * num_steps)}
    timings = _measure.interleave(
        {str(n): partial(run, problem, start) for n, run in runs.items()},
        rounds=rounds,
    )
    once, fourfold = timings.values()
    for name, timing in timings.items():
        report.measurement(
            "composed", timing, d=d, dtype="float64", num_steps=int(name)
        )
    ratio = fourfold.median / once.median
    verdict = report.target("time of 4n steps / n steps", ratio, at_least=3.4, d=d)
    return (
        str(d),
        str(num_steps),
        f"{once.median:.2g}",
        f"{fourfold.median:.2g}",
        f"{ratio:.2f}",
        verdict,
    )


if __name__ == "__main__":
    _measure.command(main)
