"""Runs: the loops do what a Python loop does, and stop where they say."""

import importlib
import itertools
import logging
from functools import partial

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn import Status
from gamedyn.rules import InnerSolve
from gamedyn.rules.base import build
from gamedyn.solve import all_finite

solve_module = importlib.import_module("gamedyn.solve")

ONE = jnp.array(1.0)
START = {"a": jnp.array([1.0, -0.5])}, jnp.array(0.7)
XY = gd.zero_sum(lambda x, y: x * y)


@gd.zero_sum
def smooth(x, y):
    return jnp.sum(jnp.sin(x["a"]) * y) + 0.2 * jnp.sum(x["a"] ** 2) - 0.3 * y**2


def _noisy_payoff(x, y, batch):
    return jnp.dot(x["a"], batch["n"]) * y + 0.5 * jnp.sum(x["a"] ** 2) - 0.5 * y**2


NOISY = gd.zero_sum(_noisy_payoff, stochastic=True)


def sample(key):
    return {"n": 1 + jax.random.normal(key, (2,))}


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def points(trace):
    """A trace of params, one flat row per recorded step."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(trace)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def assert_same(one, other):
    """Bitwise."""
    one, other = jax.tree.leaves(one), jax.tree.leaves(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def python_loop(game, rule, params, num_steps, key=None, start=0):
    """All points from the first to the one after `num_steps` steps."""
    update = jax.jit(partial(rule.update, gd.fields.gradient(game)))
    state = rule.init(params)
    trajectory = [flat(params)]
    for step in range(start, start + num_steps):
        batches = (None,) * rule.num_batches
        if key is not None:
            keys = jax.random.split(jax.random.fold_in(key, step), rule.num_batches)
            batches = tuple(sample(k) for k in keys)
        params, state = update(params, state, batches)
        trajectory.append(flat(params))
    return np.stack(trajectory)


def record_params(params, rule_state, batches, step):
    return params


def scalars(value=1.0, dtype=jnp.float64):
    return jnp.asarray(value, dtype), jnp.asarray(value, dtype)


RULES = {
    "optimistic": gd.optimistic(optax.sgd(0.1)),
    "momentum": gd.simultaneous(optax.sgd(0.05, momentum=0.5), optax.sgd(0.1)),
    "fresh batches": gd.extragradient(optax.sgd(0.1), resample=True),
    "lookahead": gd.lookahead(gd.alternating(optax.sgd(0.1)), period=3, strength=0.5),
}


class TestSolveEqualsAPythonLoop:
    @pytest.mark.parametrize(
        "name",
        [
            *("optimistic", "lookahead"),
            *(
                pytest.param(name, marks=pytest.mark.slow)
                for name in ("momentum", "fresh batches")
            ),
        ],
    )
    def test_deterministic(self, name):
        rule = RULES[name]
        run = jax.jit(lambda z: gd.solve(smooth, rule, z, 37, record=record_params))
        solution = run(START)
        expected = python_loop(smooth, rule, START, 37)
        np.testing.assert_allclose(points(solution.trace), expected[:-1], rtol=1e-12)
        np.testing.assert_allclose(flat(solution.params), expected[-1], rtol=1e-12)
        assert Status(int(solution.status)) is Status.OK
        assert int(solution.num_steps) == 37

    @pytest.mark.parametrize(
        "name", ["fresh batches", pytest.param("optimistic", marks=pytest.mark.slow)]
    )
    def test_stochastic(self, name):
        rule, key = RULES[name], jax.random.key(3)
        run = jax.jit(
            lambda z, key: gd.solve(
                NOISY, rule, z, 23, key=key, sample=sample, record=record_params
            )
        )
        solution = run(START, key)
        expected = python_loop(NOISY, rule, START, 23, key)
        np.testing.assert_allclose(points(solution.trace), expected[:-1], rtol=1e-12)
        np.testing.assert_allclose(flat(solution.params), expected[-1], rtol=1e-12)

    def test_output_is_the_rules_own(self):
        rule = gd.averaged(RULES["optimistic"])
        solution = jax.jit(lambda z: gd.solve(smooth, rule, z, 20))(START)
        trajectory = python_loop(smooth, rule, START, 20)
        np.testing.assert_allclose(flat(solution.params), trajectory[-1], rtol=1e-12)
        np.testing.assert_allclose(
            flat(solution.output), trajectory.mean(0), rtol=1e-12
        )

    def test_a_field_instead_of_a_game(self):
        rule = RULES["optimistic"]
        field = gd.fields.gradient(smooth)
        one, other = (
            jax.jit(lambda z, f=f: gd.solve(f, rule, z, 10).params)(START)
            for f in (smooth, field)
        )
        assert_same(one, other)

    def test_eagerly_too(self):
        rule = RULES["optimistic"]
        eager = gd.solve(smooth, rule, START, 3).params
        jitted = jax.jit(lambda z: gd.solve(smooth, rule, z, 3).params)(START)
        np.testing.assert_allclose(flat(eager), flat(jitted), rtol=1e-14)

    def test_python_numbers_as_params(self):
        solution = gd.solve(XY, gd.simultaneous(optax.sgd(0.1)), (1.0, 2.0), 1)
        np.testing.assert_allclose(flat(solution.params), [0.8, 2.1], rtol=1e-14)


# Steps and strides: below, at and above the block of 100, divisible and prime; strides
# that fit into a block, do not divide it, and exceed it.
LENGTHS = [
    *((1, 1), (7, 7), (97, 1), (100, 50), (679, 7), (693, 231), (997, 1), (1000, 8)),
    *(
        pytest.param(*pair, marks=pytest.mark.slow)
        for pair in [
            *((7, 1), (97, 97), (100, 1), (100, 4), (250, 1), (250, 50), (250, 125)),
            *((997, 997), (1000, 1), (1000, 50), (1000, 1000)),
        ]
    ),
]


class TestRecord:
    @pytest.mark.parametrize(("num_steps", "every"), LENGTHS)
    def test_every_length_and_stride(self, num_steps, every):
        def record(params, rule_state, batches, step):
            return {"step": step, "params": params}

        run = jax.jit(
            lambda z: gd.solve(
                XY,
                gd.simultaneous(optax.sgd(0.05)),
                z,
                num_steps,
                record=record,
                every=every,
            )
        )
        solution = run(scalars())
        # x - i y is multiplied by 1 - .05 i in each step.
        powers = (1 - 1j) * (1 - 0.05j) ** np.arange(num_steps + 1)
        expected = np.stack([powers.real, -powers.imag], axis=1)
        steps = np.arange(0, num_steps, every)
        np.testing.assert_array_equal(solution.trace["step"], steps)
        np.testing.assert_allclose(
            points(solution.trace["params"]), expected[steps], rtol=1e-10, atol=1e-11
        )
        np.testing.assert_allclose(
            flat(solution.params), expected[-1], rtol=1e-10, atol=1e-11
        )
        assert int(solution.num_steps) == num_steps

    def test_before_the_update_with_its_state_and_batches(self):
        rule, key = RULES["optimistic"], jax.random.key(0)

        def record(params, rule_state, batches, step):
            return params, rule_state, batches, step

        solution = jax.jit(
            lambda: gd.solve(
                NOISY, rule, START, 6, key=key, sample=sample, record=record
            )
        )()
        first = jax.tree.map(lambda leaf: leaf[0], solution.trace)
        assert_same(first[0], START)
        assert_same(first[1], rule.init(START))
        update = jax.jit(partial(rule.update, gd.fields.gradient(NOISY)))
        for step in range(5):
            params, state, batches, index = jax.tree.map(
                lambda leaf, step=step: leaf[step], solution.trace
            )
            assert int(index) == step
            after = update(params, state, batches)
            following = jax.tree.map(
                lambda leaf, step=step: leaf[step + 1], solution.trace
            )
            np.testing.assert_allclose(
                flat(following[0]), flat(after[0]), rtol=1e-13, atol=1e-15
            )

    def test_nothing_by_default(self):
        solution = gd.solve(XY, gd.simultaneous(optax.sgd(0.1)), scalars(), 4, every=2)
        assert solution.trace is None

    def test_empty_leaves(self):
        start = {"a": jnp.ones(2), "none": jnp.zeros((0, 3))}, jnp.ones(())

        def payoff(x, y, batch):
            return jnp.sum(x["a"]) * y + jnp.sum(batch["none"])

        solution = gd.solve(
            gd.zero_sum(payoff, stochastic=True),
            gd.simultaneous(optax.sgd(0.1)),
            start,
            202,
            key=jax.random.key(0),
            sample=lambda key: {"none": jnp.zeros(0)},
            record=record_params,
        )
        assert solution.trace[0]["a"].shape == (202, 2)
        assert solution.trace[0]["none"].shape == (202, 0, 3)

    def test_integers_flags_and_keys(self):
        def record(params, rule_state, batches, step):
            return step, params[0] > 0, batches[0]

        key = jax.random.key(0)
        rule = gd.simultaneous(optax.sgd(10.0))
        solution = gd.solve(XY, rule, scalars(), 700, key=key, record=record)
        assert Status(int(solution.status)) is Status.NON_FINITE
        assert [leaf.shape for leaf in solution.trace] == [(700,)] * 3
        assert solution.trace[0].dtype == jnp.int32
        assert not np.any(solution.trace[0][-100:])


class TestBatches:
    THREE = build(
        lambda params: (),
        lambda field, params, rule_state, batches: (params, rule_state),
        num_batches=3,
    )

    @pytest.mark.parametrize(("start", "ahead"), [(0, True), (5, True), (5, False)])
    def test_keys_are_split_from_the_folded_key(self, monkeypatch, ahead, start):
        if not ahead:
            monkeypatch.setattr(solve_module, "_DRAW_AHEAD_BYTES", 0)
        key = jax.random.key(42)

        def record(params, rule_state, batches, step):
            return [jax.random.key_data(batch) for batch in batches]

        solution = gd.solve(
            XY, self.THREE, scalars(), 104, key=key, record=record, start=start
        )
        for step in (0, 1, 57, 99, 100, 103):
            keys = jax.random.split(jax.random.fold_in(key, start + step), 3)
            for j in range(3):
                np.testing.assert_array_equal(
                    solution.trace[j][step], jax.random.key_data(keys[j])
                )

    def test_sample_gets_those_keys(self):
        key = jax.random.key(7)
        solution = gd.solve(
            XY,
            self.THREE,
            scalars(),
            5,
            key=key,
            sample=lambda key: jax.random.normal(key, (2,)),
            record=lambda params, rule_state, batches, step: jnp.stack(batches),
        )
        keys = jax.random.split(jax.random.fold_in(key, 4), 3)
        expected = [jax.random.normal(k, (2,)) for k in keys]
        np.testing.assert_allclose(solution.trace[4], jnp.stack(expected), rtol=1e-14)

    def test_old_style_keys(self):
        one = gd.solve(
            NOISY,
            RULES["optimistic"],
            START,
            5,
            key=jax.random.PRNGKey(1),
            sample=sample,
        )
        other = gd.solve(
            NOISY, RULES["optimistic"], START, 5, key=jax.random.key(1), sample=sample
        )
        assert_same(one.params, other.params)

    def test_without_a_key_batches_are_none(self):
        seen = []

        def record(params, rule_state, batches, step):
            seen.append(batches)

        gd.solve(XY, self.THREE, scalars(), 2, record=record)
        assert seen[0] == (None, None, None)

    @pytest.mark.parametrize(("num_steps", "every"), [(150, 10), (103, 1)])
    def test_drawn_ahead_or_in_the_step_is_the_same(
        self, monkeypatch, num_steps, every
    ):
        def run(z, key):
            return gd.solve(
                NOISY,
                RULES["fresh batches"],
                z,
                num_steps,
                key=key,
                sample=sample,
                record=record_params,
                every=every,
            )

        assert _draws_inside_the_loop(run) is False
        ahead = jax.jit(lambda z, key: run(z, key))(START, jax.random.key(2))
        monkeypatch.setattr(solve_module, "_DRAW_AHEAD_BYTES", 0)
        assert _draws_inside_the_loop(run) is True
        inside = jax.jit(lambda z, key: run(z, key))(START, jax.random.key(2))
        # Two programs: the compiler may round their sums differently.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14),
            ahead,
            inside,
        )

    def test_no_key_is_used_twice(self):
        with jax.debug_key_reuse(True):
            solution = gd.solve(
                NOISY,
                RULES["fresh batches"],
                START,
                104,
                key=jax.random.key(0),
                sample=sample,
            )
        assert Status(int(solution.status)) is Status.OK


def _draws_inside_the_loop(run):
    """Whether the innermost scan of a run holds a random generator."""
    # A new function each time: traces are cached.
    traced = jax.make_jaxpr(lambda *args: run(*args))(START, jax.random.key(0))

    def scans(jaxpr):
        for equation in jaxpr.eqns:
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                found = list(scans(inner))
                yield from found
                if equation.primitive.name == "scan" and not found:
                    yield str(inner)

    return any("random_" in text for text in scans(traced.jaxpr))


class TestContinuation:
    @pytest.mark.parametrize(
        "name",
        [
            "fresh batches",
            "lookahead",
            pytest.param("optimistic", marks=pytest.mark.slow),
        ],
    )
    def test_equals_the_uninterrupted_run(self, name):
        rule, key = RULES[name], jax.random.key(9)

        @partial(jax.jit, static_argnums=2)
        def run(z, state, num_steps, start):
            return gd.solve(
                NOISY,
                rule,
                z,
                num_steps,
                key=key,
                sample=sample,
                record=record_params,
                rule_state=state,
                start=start,
            )

        whole = run(START, rule.init(START), 300, 0)
        first = run(START, rule.init(START), 100, 0)
        second = run(first.params, first.rule_state, 200, first.num_steps)
        assert int(second.num_steps) == 300
        # Runs of other lengths are other programs: where multiply-adds are fused, their
        # roundings differ, and so do the last digits of entries that pass zero.
        joined = np.concatenate([points(first.trace), points(second.trace)])
        for one, other in (
            (whole.params, second.params),
            (whole.rule_state, second.rule_state),
            (points(whole.trace), joined),
        ):
            chex.assert_trees_all_close(one, other, rtol=1e-11, atol=1e-24)

    def test_starting_over_would_be_noticed(self):
        rule, key = RULES["optimistic"], jax.random.key(9)
        run = partial(gd.solve, NOISY, rule, key=key, sample=sample)
        first = run(START, 10)
        right = run(first.params, 10, rule_state=first.rule_state, start=10)
        no_state = run(first.params, 10, start=10)
        no_start = run(first.params, 10, rule_state=first.rule_state)
        for wrong in (no_state, no_start):
            assert np.abs(flat(right.params) - flat(wrong.params)).max() > 1e-6

    def test_the_step_index_goes_on(self):
        solution = gd.solve(
            XY,
            gd.simultaneous(optax.sgd(0.1)),
            scalars(),
            6,
            every=3,
            start=50,
            record=lambda params, rule_state, batches, step: step,
        )
        assert solution.trace.tolist() == [50, 53]
        assert int(solution.num_steps) == 56


class TestNonFinite:
    # Simultaneous descent on xy at 10 grows by sqrt(101) per step: beyond float64's
    # 1.8e308 after 307 steps, beyond float32's 3.4e38 after 38.
    RULE = gd.simultaneous(optax.sgd(10.0))

    def run(self, num_steps, **options):
        return jax.jit(lambda z: gd.solve(XY, self.RULE, z, num_steps, **options))(
            scalars()
        )

    @pytest.mark.parametrize(("num_steps", "kept"), [(1000, 300), (997, 300)])
    def test_ends_at_the_last_finite_block(self, num_steps, kept):
        solution = self.run(num_steps)
        done = int(solution.num_steps)
        assert Status(int(solution.status)) is Status.NON_FINITE
        assert np.all(np.isfinite(flat(solution.params)))
        assert bool(all_finite(solution.rule_state))
        # The point is that of a run of exactly so many steps.
        assert_same(solution.params, self.run(done).params)
        assert done == kept

    def test_trace(self):
        trace = points(self.run(1000, record=record_params).trace)
        powers = np.abs((1 - 1j) * (1 - 10j) ** np.arange(300.0))
        np.testing.assert_allclose(
            np.linalg.norm(trace[:300] / powers[:, None], axis=1), 1, rtol=1e-10
        )
        # The block in which it happened shows how; later ones are blank.
        assert np.all(np.isfinite(trace[300:306]))
        assert not np.all(np.isfinite(trace[300:400]))
        assert np.all(np.isnan(trace[400:]))

    def test_float32(self):
        solution = jax.jit(lambda z: gd.solve(XY, self.RULE, z, 200))(
            scalars(dtype=jnp.float32)
        )
        assert Status(int(solution.status)) is Status.NON_FINITE
        assert int(solution.num_steps) == 0
        assert solution.params[0].dtype == jnp.float32
        assert_same(solution.params, scalars(dtype=jnp.float32))

    def test_a_start_that_is_not_finite(self):
        solution = gd.solve(XY, self.RULE, (ONE, jnp.array(jnp.nan)), 5)
        assert Status(int(solution.status)) is Status.NON_FINITE
        assert int(solution.num_steps) == 0

    def test_only_the_state_is_not_finite(self):
        rule = build(
            lambda params: jnp.zeros(()),
            lambda field, params, state, batches: (
                params,
                jnp.where(state == 150, jnp.nan, state + 1),
            ),
        )
        solution = gd.solve(XY, rule, scalars(), 400)
        assert Status(int(solution.status)) is Status.NON_FINITE
        assert int(solution.num_steps) == 100
        assert float(solution.rule_state) == 100.0

    def test_a_diverging_neighbour_does_no_harm(self):
        step_sizes = jnp.array([0.1, 10.0, 0.3, 100.0])

        def run(step_size):
            rule = gd.extragradient(optax.sgd(step_size))
            return gd.solve(XY, rule, scalars(), 400, record=record_params, every=4)

        together = jax.jit(jax.vmap(run))(step_sizes)
        statuses = [Status(int(s)).name for s in together.status]
        assert statuses == ["OK", "NON_FINITE", "OK", "NON_FINITE"]
        assert together.num_steps.tolist() == [400, 100, 400, 0]
        alone = jax.jit(run)
        for i, step_size in enumerate(step_sizes):
            expected = alone(step_size)
            np.testing.assert_allclose(
                flat(jax.tree.map(lambda leaf, i=i: leaf[i], together.params)),
                flat(expected.params),
                rtol=1e-9,
            )
            np.testing.assert_allclose(
                points(jax.tree.map(lambda leaf, i=i: leaf[i], together.trace)),
                points(expected.trace),
                rtol=1e-9,
            )
        # rho^2 = 1 - a^2 + a^4
        for i, a in ((0, 0.1), (2, 0.3)):
            expected = np.sqrt(2) * (1 - a**2 + a**4) ** 200
            distance = np.hypot(together.params[0][i], together.params[1][i])
            np.testing.assert_allclose(distance, expected, rtol=1e-9)


class TestInnerSolver:
    @staticmethod
    def rule(failing_step):
        """Its inner solver misses its tolerance in one step."""

        def init(params):
            return {
                "count": jnp.zeros((), jnp.int32),
                "inner": InnerSolve(
                    jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.array(False)
                ),
            }

        def update(field, params, state, batches):
            failed = state["inner"].failed | (state["count"] == failing_step)
            inner = state["inner"]._replace(failed=failed)
            params = jax.tree.map(lambda z: z / 2, params)
            return params, {"count": state["count"] + 1, "inner": inner}

        return build(init, update)

    @pytest.mark.parametrize(
        ("failing_step", "expected"), [(3, "INNER_SOLVER"), (50, "OK")]
    )
    def test_solve(self, failing_step, expected):
        solution = gd.solve(XY, self.rule(failing_step), scalars(), 20)
        assert Status(int(solution.status)).name == expected
        assert int(solution.num_steps) == 20

    def test_inside_another_rule(self):
        rule = gd.averaged(gd.lookahead(self.rule(3), period=2, strength=0.5))
        solution = gd.solve(XY, rule, scalars(), 20)
        assert Status(int(solution.status)) is Status.INNER_SOLVER

    @pytest.mark.parametrize(
        ("failing_step", "expected"), [(3, "INNER_SOLVER"), (50, "CONVERGED")]
    )
    def test_solve_until(self, failing_step, expected):
        solution = gd.solve_until(
            XY, self.rule(failing_step), scalars(), tolerance=1e-3, max_steps=100
        )
        assert Status(int(solution.status)).name == expected
        assert int(solution.num_steps) == 11  # sqrt(2) / 2^11 < 1e-3

    def test_non_finite_wins(self):
        def field(params, batch=None):
            return jax.tree.map(lambda z: jnp.log(-jnp.abs(z)), params)

        rule = gd.simultaneous(optax.sgd(0.1))
        solution = gd.solve_until(field, rule, scalars(), tolerance=0.1, max_steps=9)
        assert Status(int(solution.status)) is Status.NON_FINITE


class TestDerivative:
    @staticmethod
    def distance(step_size, num_steps=120):
        rule = gd.extragradient(optax.sgd(step_size))
        return optax.tree.norm(gd.solve(XY, rule, scalars(), num_steps).params)

    def test_of_the_distance_by_the_step_size(self):
        a, n = 0.3, 120
        square = 1 - a**2 + a**4
        value = np.sqrt(2) * square ** (n / 2)
        slope = value * n / 2 * (-2 * a + 4 * a**3) / square
        found, reverse = jax.jit(jax.value_and_grad(self.distance))(a)
        np.testing.assert_allclose(found, value, rtol=1e-11)
        np.testing.assert_allclose(reverse, slope, rtol=1e-10)
        forward = jax.jit(jax.jacfwd(self.distance))(a)
        np.testing.assert_allclose(forward, slope, rtol=1e-10)

    def test_of_a_nonlinear_stochastic_run(self):
        key = jax.random.key(0)

        @jax.jit
        def final(step_size):
            rule = gd.optimistic(optax.sgd(step_size, momentum=0.3))
            solution = gd.solve(NOISY, rule, START, 12, key=key, sample=sample)
            return optax.tree.norm(solution.params)

        h = 1e-5
        expected = (final(0.1 + h) - final(0.1 - h)) / (2 * h)
        np.testing.assert_allclose(jax.grad(final)(0.1), expected, rtol=1e-7)


def until_by_hand(game, rule, params, tolerance, max_steps, check_every=1):
    """Where to stop, found on the whole trajectory."""
    trajectory = python_loop(game, rule, params, max_steps)
    field = jax.jit(gd.fields.gradient(game))
    unravel = ravel_pytree(params)[1]
    for step in [*range(0, max_steps, check_every), max_steps]:
        slope = flat(field(unravel(jnp.asarray(trajectory[step]))))
        if np.linalg.norm(slope) <= tolerance:
            return step, "CONVERGED", trajectory[step]
    return max_steps, "MAX_STEPS", trajectory[max_steps]


@pytest.fixture(scope="module")
def run():
    @partial(jax.jit, static_argnames="check_every")
    def run(params, tolerance, max_steps, check_every=1):
        return gd.solve_until(
            smooth,
            RULES["optimistic"],
            params,
            tolerance=tolerance,
            max_steps=max_steps,
            check_every=check_every,
        )

    return run


class TestSolveUntil:
    RULE = RULES["optimistic"]

    @pytest.mark.parametrize("check_every", [1, 7, 40])
    @pytest.mark.parametrize(
        ("tolerance", "max_steps"), [(1e-2, 120), (1e-2, 20), (3e-2, 35), (1e9, 9)]
    )
    def test_equals_a_python_loop(self, run, tolerance, max_steps, check_every):
        solution = run(START, tolerance, max_steps, check_every=check_every)
        steps, status, point = until_by_hand(
            smooth, self.RULE, START, tolerance, max_steps, check_every
        )
        assert int(solution.num_steps) == steps
        assert Status(int(solution.status)).name == status
        np.testing.assert_allclose(flat(solution.params), point, rtol=1e-11)
        assert solution.trace is None

    @pytest.mark.parametrize("check_every", [1, 7, 40])
    def test_max_steps_is_exact(self, run, check_every):
        for max_steps in (1, 13, 41):
            solution = run(START, 1e-300, max_steps, check_every=check_every)
            assert int(solution.num_steps) == max_steps
            assert Status(int(solution.status)) is Status.MAX_STEPS
            expected = python_loop(smooth, self.RULE, START, max_steps)[-1]
            np.testing.assert_allclose(flat(solution.params), expected, rtol=1e-11)

    def test_converged_at_the_start(self, run):
        zero = {"a": jnp.zeros(2)}, jnp.zeros(())
        solution = run(zero, 1e-8, 100)
        assert int(solution.num_steps) == 0
        assert Status(int(solution.status)) is Status.CONVERGED
        assert_same(solution.params, zero)

    def test_converged_by_the_very_last_step(self, run):
        steps, *_ = until_by_hand(smooth, self.RULE, START, 1e-2, 200)
        assert Status(int(run(START, 1e-2, steps).status)) is Status.CONVERGED
        assert Status(int(run(START, 1e-2, steps - 1).status)) is Status.MAX_STEPS

    def test_max_steps_as_an_array_of_any_integer_type(self, run):
        for dtype in (jnp.int32, jnp.int64):
            solution = run(START, 1e-300, jnp.array(5, dtype))
            assert int(solution.num_steps) == 5

    @pytest.mark.parametrize("check_every", [1, 50])
    def test_non_finite(self, check_every):
        rule = gd.simultaneous(optax.sgd(10.0))
        solution = gd.solve_until(
            XY,
            rule,
            scalars(),
            tolerance=1e-6,
            max_steps=1000,
            check_every=check_every,
        )
        assert Status(int(solution.status)) is Status.NON_FINITE
        steps = int(solution.num_steps)
        assert steps == (300 if check_every == 50 else 307)
        powers = (1 - 1j) * (1 - 10j) ** steps
        np.testing.assert_allclose(
            flat(solution.params), [powers.real, -powers.imag], rtol=1e-10
        )

    def test_a_start_that_is_not_finite(self, run):
        solution = run(({"a": jnp.array([1.0, jnp.inf])}, ONE), 1e-2, 10)
        assert Status(int(solution.status)) is Status.NON_FINITE
        assert int(solution.num_steps) == 0

    def test_own_residual(self):
        def residual(params, direction):
            # The direction is the field at the point.
            return jnp.abs(params[0]) + 0 * direction[0]

        solution = gd.solve_until(
            gd.single_player(lambda x: x**2 / 2),
            gd.simultaneous(optax.sgd(0.5)),
            (ONE,),
            tolerance=0.1,
            max_steps=100,
            residual=residual,
        )
        assert int(solution.num_steps) == 4

    def test_on_simplices_the_field_need_not_vanish(self):
        # Matching pennies with a value: the solution is known, F is not zero there.
        matrix = jnp.array([[3.0, 1.0], [1.0, 3.0]])
        game = gd.zero_sum(lambda x, y: x @ matrix @ y)
        simplex = gd.geometry.simplex()
        rule = gd.extragradient(optax.sgd(0.2), geometry=simplex)
        start = jnp.array([0.9, 0.1]), jnp.array([0.2, 0.8])
        run = partial(gd.solve_until, game, rule, start, tolerance=1e-9, max_steps=2000)
        solution = run(geometry=simplex)
        assert Status(int(solution.status)) is Status.CONVERGED
        np.testing.assert_allclose(flat(solution.params), 0.5, atol=1e-8)
        euclidean = run()
        assert Status(int(euclidean.status)) is Status.MAX_STEPS

    def test_stochastic_and_continued(self):
        rule, key = RULES["fresh batches"], jax.random.key(4)
        run = partial(
            gd.solve_until, NOISY, rule, tolerance=1e-300, key=key, sample=sample
        )
        whole = run(START, max_steps=12)
        first = run(START, max_steps=5)
        second = run(
            first.params,
            max_steps=7,
            rule_state=first.rule_state,
            start=first.num_steps,
        )
        assert int(second.num_steps) == 12
        assert_same(whole.params, second.params)
        expected = python_loop(NOISY, rule, START, 12, key)[-1]
        np.testing.assert_allclose(flat(whole.params), expected, rtol=1e-11)

    def test_output_is_the_rules_own(self):
        rule = gd.averaged(self.RULE)
        solution = gd.solve_until(smooth, rule, START, tolerance=1e-300, max_steps=4)
        expected = python_loop(smooth, self.RULE, START, 4).mean(axis=0)
        np.testing.assert_allclose(flat(solution.output), expected, rtol=1e-11)

    def test_vmapped_runs_stop_each_at_their_own_step(self):
        def run(step_size):
            rule = gd.extragradient(optax.sgd(step_size))
            return gd.solve_until(XY, rule, scalars(), tolerance=0.1, max_steps=2000)

        step_sizes = jnp.array([0.1, 0.3, 0.5])
        together = jax.jit(jax.vmap(run))(step_sizes)
        rho = np.sqrt(1 - np.asarray(step_sizes) ** 2 + np.asarray(step_sizes) ** 4)
        expected = np.ceil(np.log(0.1 / np.sqrt(2)) / np.log(rho))
        assert together.num_steps.tolist() == expected.tolist()


class TestErrors:
    RULE = gd.simultaneous(optax.sgd(0.1))

    @pytest.mark.parametrize("num_steps", [0, -1, 2.0, True, "3", None])
    def test_num_steps(self, num_steps):
        with pytest.raises(ValueError, match="num_steps must be a positive integer"):
            gd.solve(XY, self.RULE, scalars(), num_steps)

    @pytest.mark.parametrize("every", [0, -1, 2.0])
    def test_every(self, every):
        with pytest.raises(ValueError, match="every must be a positive integer"):
            gd.solve(XY, self.RULE, scalars(), 4, every=every)

    def test_every_does_not_divide(self):
        with pytest.raises(ValueError, match="every=3 does not divide num_steps=10"):
            gd.solve(XY, self.RULE, scalars(), 10, every=3)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("tolerance", value) for value in (0.0, -1.0, float("nan"))),
            *(("max_steps", value) for value in (0, -3, 2.5)),
            *(("check_every", value) for value in (0, 1.5)),
        ],
    )
    def test_solve_until(self, name, value):
        options = {"tolerance": 0.1, "max_steps": 5} | {name: value}
        with pytest.raises(ValueError, match=f"{name} must be"):
            gd.solve_until(XY, self.RULE, scalars(), **options)

    @pytest.mark.parametrize(
        "run",
        [
            partial(gd.solve, num_steps=4),
            partial(gd.solve_until, tolerance=0.1, max_steps=4),
        ],
    )
    def test_both(self, run):
        with pytest.raises(ValueError, match="sample was given without a key"):
            run(NOISY, self.RULE, START, sample=sample)
        for rule in (optax.sgd(0.1), gd.simultaneous, None):
            with pytest.raises(TypeError, match="expected a Rule"):
                run(XY, rule, scalars())
        with pytest.raises(TypeError, match="params must be a tuple"):
            run(XY, self.RULE, list(scalars()))
        with pytest.raises(TypeError, match="real floating-point"):
            run(XY, self.RULE, (jnp.array(1), jnp.array(1)))
        with pytest.raises(ValueError, match="of 2 players, got 3"):
            run(XY, self.RULE, (ONE, ONE, ONE))
        with pytest.raises(ValueError, match="optimizer.*2 players, got 3"):
            run(XY, gd.simultaneous(*[optax.sgd(0.1)] * 3), scalars())
        with pytest.raises(TypeError, match="expected a Game or a field"):
            run("xy", self.RULE, scalars())
        with pytest.raises(ValueError, match="must be a scalar"):
            run(gd.zero_sum(lambda x, y: x[None] * y), self.RULE, scalars())

    def test_every_status_has_a_message(self):
        messages = [status.message for status in Status]
        assert len(set(messages)) == len(messages)
        assert all(messages)


def _bilinear(matrix, x, y):
    return x @ matrix @ y


class TestCompilations:
    def test_once_for_all_step_sizes_seeds_and_matrices(self, caplog):
        traces = []

        @jax.jit
        def run(matrix, step_size, key):
            traces.append(None)
            game = gd.zero_sum(Partial(_bilinear, matrix))
            field = gd.fields.noisy(gd.fields.gradient(game), 0.1)
            rule = gd.extragradient(optax.sgd(step_size))
            start = jnp.ones(2), jnp.ones(3)
            return gd.solve(field, rule, start, 200, key=key).params

        matrices = np.random.default_rng(0).normal(size=(2, 2, 3))
        keys = jax.random.split(jax.random.key(0), 2)
        finals = set()
        arguments = list(
            itertools.product(map(jnp.asarray, matrices), (0.1, 0.2), keys)
        )
        finals.add(float(run(*arguments[0])[0][0]))
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            for more in arguments[1:]:
                finals.add(float(run(*more)[0][0]))
        assert len(finals) == 8
        assert len(traces) == 1
        assert not [r for r in caplog.messages if "compil" in r and "run" in r]

    def test_a_game_as_an_argument(self, caplog):
        rule = gd.optimistic(optax.sgd(0.1))
        run = jax.jit(lambda game, z: gd.solve(game, rule, z, 10).params)
        start = jnp.ones(2), jnp.ones(3)
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            for seed in range(3):
                matrix = np.random.default_rng(seed).normal(size=(2, 3))
                run(gd.zero_sum(Partial(_bilinear, jnp.asarray(matrix))), start)
        compiled = [
            message
            for message in caplog.messages
            if "Finished XLA compilation of jit(<lambda>)" in message
        ]
        assert len(compiled) == 1


# Two small networks, as a GAN has them; the batch is data and a key.


def _network(params, x):
    for weights, bias in params[:-1]:
        x = jnp.tanh(x @ weights + bias[None])
    weights, bias = params[-1]
    return x @ weights + bias[None]


def _init_network(seed, sizes):
    rng = np.random.default_rng(seed)
    return [
        (
            jnp.asarray(rng.normal(size=(m, n)) / np.sqrt(m), jnp.float32),
            jnp.zeros(n, jnp.float32),
        )
        for m, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def _gan_scores(generator, discriminator, batch):
    latents = jax.random.normal(batch["key"], (32, 16), jnp.float32)
    fake = _network(discriminator, _network(generator, latents))
    real = _network(discriminator, batch["real"])
    return fake, real


GAN = gd.general_sum(
    lambda g, d, batch: jax.nn.softplus(-_gan_scores(g, d, batch)[0]).mean(),
    lambda g, d, batch: (
        jax.nn.softplus(_gan_scores(g, d, batch)[0]).mean()
        + jax.nn.softplus(-_gan_scores(g, d, batch)[1]).mean()
    ),
    stochastic=True,
)


def _gan_sample(key):
    key_real, key = jax.random.split(key)
    return {"real": jax.random.normal(key_real, (32, 8), jnp.float32), "key": key}


def _adam():
    return optax.adam(2e-4, b1=0.5)


class TestLowersForTpu:
    def test_solve(self):
        rule = gd.optimistic(optax.sgd(0.1))
        run = jax.jit(
            lambda z: gd.solve(XY, rule, z, 300, record=record_params, every=3)
        )
        exported = jax.export.export(run, platforms=["tpu"])(scalars(dtype=jnp.float32))
        assert exported.platforms == ("tpu",)
        assert "stablehlo.while" in exported.mlir_module()

    def test_solve_until(self):
        rule = gd.extragradient(optax.sgd(0.1), geometry=gd.geometry.simplex())
        game = gd.zero_sum(lambda x, y: jnp.dot(x, y))
        run = jax.jit(
            lambda z: gd.solve_until(
                game,
                rule,
                z,
                tolerance=1e-3,
                max_steps=10,
                geometry=gd.geometry.simplex(),
            )
        )
        start = jnp.ones(3, jnp.float32), jnp.ones(3, jnp.float32)
        exported = jax.export.export(run, platforms=["tpu"])(start)
        assert exported.platforms == ("tpu",)

    @pytest.mark.parametrize(
        "rule",
        [
            gd.extragradient(_adam(), moments="both"),
            gd.alternating(_adam(), order=(1, 1, 1, 0), resample=True),
            pytest.param(
                gd.lookahead(gd.simultaneous(_adam()), period=5, strength=0.5),
                marks=pytest.mark.slow,
            ),
        ],
        ids=["extra adam", "three critic steps", "lookahead"],
    )
    def test_a_step_of_a_gan(self, rule):
        params = _init_network(0, (16, 64, 8)), _init_network(1, (8, 64, 1))
        field = gd.fields.gradient(GAN)

        def step(params, state, key):
            keys = jax.random.split(key, rule.num_batches)
            return rule.update(field, params, state, tuple(map(_gan_sample, keys)))

        # Optax's Adam mixes its integer count with floats.
        with jax.numpy_dtype_promotion("standard"):
            state = rule.init(params)
            exported = jax.export.export(jax.jit(step), platforms=["tpu"])(
                params, state, jax.random.key(0)
            )
            after, _ = jax.jit(step)(params, state, jax.random.key(0))
        assert exported.platforms == ("tpu",)
        assert exported.mlir_module().count("stablehlo.dot_general") >= 10
        moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), after, params)
        assert all(0 < size < 1e-2 for size in jax.tree.leaves(moved))
