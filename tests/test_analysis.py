"""Analysis: Jacobians against differences, radii against closed forms, fitted rates."""

import functools
import importlib.util
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rule_cases
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn import Status
from gamedyn.analysis import (
    game_jacobian,
    measured_rate,
    spectral_radius,
    update_jacobian,
)
from gamedyn.rules import InnerSolve
from gamedyn.transformations import complex_momentum, negative_momentum

ZERO = jnp.array(0.0), jnp.array(0.0)
XY = gd.zero_sum(lambda x, y: x * y)


class TestGameJacobian:
    def test_quadratic_game(self):
        rng = np.random.default_rng(0)
        p, q = rng.normal(size=(2, 2)), rng.normal(size=(3, 3))
        p, q = p + p.T, q + q.T
        a, b = rng.normal(size=(2, 2, 3))
        game = gd.general_sum(
            lambda x, y: x @ p @ x / 2 + x @ a @ y,
            lambda x, y: y @ q @ y / 2 + x @ b @ y,
        )
        params = jnp.asarray(rng.normal(size=2)), jnp.asarray(rng.normal(size=3))
        expected = np.block([[p, a], [b.T, q]])
        np.testing.assert_allclose(game_jacobian(game, params), expected, rtol=1e-12)

    def test_pytrees_three_players_and_finite_differences(self):
        def loss(weights, *params):
            z = ravel_pytree(params)[0]
            return jnp.sum(jnp.sin(weights @ z) * jnp.cos(z))

        rng = np.random.default_rng(1)
        weights = jnp.asarray(rng.normal(size=(3, 5, 5)))
        game = gd.general_sum(*(functools.partial(loss, w) for w in weights))
        params = (
            {"b": jnp.array(0.3), "a": jnp.array([0.1, -0.7])},
            jnp.array(1.1),
            jnp.array([[0.4]]),
        )
        flat, unravel = ravel_pytree(params)
        field = jax.jit(gd.fields.gradient(game))

        def evaluate(z):
            return np.asarray(ravel_pytree(field(unravel(z)))[0])

        h = 1e-6
        expected = np.stack(
            [
                (evaluate(flat + h * e) - evaluate(flat - h * e)) / (2 * h)
                for e in np.eye(5)
            ],
            axis=1,
        )
        np.testing.assert_allclose(game_jacobian(game, params), expected, atol=1e-8)

    def test_batch_and_field(self):
        game = gd.zero_sum(lambda x, y, batch: batch * x * y, stochastic=True)
        expected = [[0.0, 3.0], [-3.0, 0.0]]
        batch = jnp.array(3.0)
        assert game_jacobian(game, ZERO, batch).tolist() == expected
        field = gd.fields.gradient(game)
        assert jax.jit(game_jacobian)(field, ZERO, batch).tolist() == expected

    def test_errors(self):
        with pytest.raises(ValueError, match="2 players, got 1"):
            game_jacobian(XY, ZERO[:1])
        with pytest.raises(TypeError, match="floating-point"):
            game_jacobian(XY, (0, 0))


def payoff(x, y):
    return jnp.sin(x["a"]) * y[0] + 0.3 * x["a"] ** 2 * y[1] + jnp.cosh(x["a"]) - y @ y


# A smooth game with no symmetry, and a point that is no equilibrium of it.
SMOOTH = gd.general_sum(
    lambda x, y: payoff(x, y), lambda x, y: -payoff(x, y) + 0.2 * jnp.sin(y[0] * x["a"])
)
POINT = {"a": jnp.array(0.4)}, jnp.array([-0.3, 0.8])
NOT_SMOOTH = {
    "anderson",  # least squares over differences that vanish
    "adaptive_golden_ratio",
    "fictitious_play",  # best responses jump
    "frank_wolfe",
}
ON_SIMPLEX = {name for name, entry in gd.rules.entries().items() if entry.on_simplex}
SIMPLEX_GAME = gd.zero_sum(
    lambda x, y: x @ jnp.array([[1.0, -0.5], [0.2, 2.0]]) @ y + jnp.sum(x**3) * y[0]
)
SIMPLEX_POINT = jnp.array([0.3, 0.7]), jnp.array([0.6, 0.4])


def is_opaque(leaf):
    """What an inner solver reports, and keys."""
    return isinstance(leaf, InnerSolve) or jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def split_inexact(tree):
    """The floating leaves as one real numpy vector, and the way back.

    Written apart from the library's: what an inner solver reports is left out.
    """
    leaves, treedef = jax.tree.flatten(
        tree, is_leaf=lambda node: isinstance(node, InnerSolve)
    )
    leaves = [leaf if is_opaque(leaf) else np.asarray(leaf) for leaf in leaves]
    moving = [
        i
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fc"
    ]

    def parts(leaf):
        return [leaf.real, leaf.imag] if leaf.dtype.kind == "c" else [leaf]

    vector = np.concatenate([part.ravel() for i in moving for part in parts(leaves[i])])

    def rebuild(vector):
        filled, first = list(leaves), 0
        for i in moving:
            leaf, pieces = leaves[i], []
            for _ in parts(leaf):
                piece = vector[first : first + leaf.size].reshape(leaf.shape)
                pieces.append(piece)
                first += leaf.size
            value = pieces[0] + 1j * pieces[1] if len(pieces) == 2 else pieces[0]
            filled[i] = jnp.asarray(value, leaf.dtype)
        return jax.tree.unflatten(treedef, filled)

    return vector, rebuild


def differences(game, rule, params, warmup, batch=None):
    """The Jacobian of one cycle, by central differences of jitted single steps."""
    field = gd.fields.gradient(game)
    step = jax.jit(
        lambda params, state: rule.update(
            field, params, state, (batch,) * rule.num_batches
        )
    )
    state = rule.init(params)
    for _ in range(-(-warmup // rule.period) * rule.period):
        state = step(params, state)[1]
    vector, rebuild = split_inexact((params, state))

    def cycle(vector):
        current = rebuild(vector)
        for _ in range(rule.period):
            current = step(*current)
        return split_inexact(current)[0]

    h = 1e-6
    columns = [
        (cycle(vector + h * e) - cycle(vector - h * e)) / (2 * h)
        for e in np.eye(vector.size)
    ]
    return np.stack(columns, axis=1)


def check_against_differences(game, rule, params, warmup=10, batch=None, atol=2e-8):
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        found = update_jacobian(game, rule, params, batch, warmup=warmup)
        expected = differences(game, rule, params, warmup, batch)
    assert found.period == rule.period
    assert found.matrix.shape == expected.shape
    np.testing.assert_allclose(found.matrix, expected, rtol=2e-6, atol=atol)
    return found


NAMES = rule_cases.one_of_each_kind(n for n in gd.rules.names() if n not in NOT_SMOOTH)


def batch_for(name):
    return rule_cases.batches(name, rule_cases.make(name, 0.1))[0]


class TestUpdateJacobian:
    @pytest.mark.parametrize("name", NAMES)
    def test_equals_finite_differences(self, name):
        if name in ON_SIMPLEX:
            rule = gd.rules.make(name, 0.1, geometry=gd.geometry.entropic)
            check_against_differences(SIMPLEX_GAME, rule, SIMPLEX_POINT)
        else:
            rule = rule_cases.make(name, 0.1)
            # An inner solver stops early by more than differences can bear.
            atol = 5e-6 if "competitive" in name else 2e-8
            batch = batch_for(name)
            check_against_differences(SMOOTH, rule, POINT, batch=batch, atol=atol)

    # Standing still, the adaptive step has a kink: whichever bound is the smaller one
    # depends on the direction of the perturbation.
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "name", [n for n in gd.rules.names() if n not in NOT_SMOOTH]
    )
    def test_equals_finite_differences_elsewhere(self, name):
        point = {"a": jnp.array(-0.9)}, jnp.array([0.5, -0.2])
        game = SMOOTH
        if name in ON_SIMPLEX:
            game, point = SIMPLEX_GAME, (jnp.array([0.8, 0.2]), jnp.array([0.1, 0.9]))
        rule = rule_cases.make(name, 0.3)
        batch = batch_for(name)
        check_against_differences(game, rule, point, warmup=3, batch=batch)

    @pytest.mark.parametrize(
        "rule",
        [
            gd.lookahead(
                gd.lookahead(gd.optimistic(optax.sgd(0.1)), period=2, strength=0.7),
                period=3,
                strength=0.4,
            ),
            gd.averaged(gd.simultaneous(optax.sgd(0.1)), kind="exponential", decay=0.8),
            gd.simultaneous(complex_momentum(0.05), negative_momentum(0.1)),
            gd.alternating(optax.sgd(0.1), order=(1, 1, 0)),
            gd.simultaneous(optax.sgd(0.1), geometry=gd.geometry.l2_ball(0.5)),
        ],
        ids=["nested", "average", "momenta", "word", "projected"],
    )
    def test_composed_rules(self, rule):
        check_against_differences(SMOOTH, rule, POINT)

    def test_shape_counts_complex_memory_twice(self):
        rule = gd.simultaneous(complex_momentum(0.05))
        assert update_jacobian(XY, rule, ZERO).matrix.shape == (6, 6)
        rule = gd.optimistic(optax.sgd(0.05))
        assert update_jacobian(XY, rule, ZERO).matrix.shape == (4, 4)

    def test_the_period_is_one_cycle(self):
        rule = gd.lookahead(gd.simultaneous(optax.sgd(0.2)), period=3, strength=0.5)
        found = update_jacobian(XY, rule, ZERO)
        assert found.period == 3
        # Fast weights start a cycle at the slow ones: both columns add up to the cycle.
        step = np.array([[1, -0.2], [0.2, 1]])
        cycle = 0.5 * np.eye(2) + 0.5 * np.linalg.matrix_power(step, 3)
        both = found.matrix[:2, :2] + found.matrix[:2, 2:]
        np.testing.assert_allclose(both, cycle, rtol=1e-13)

    def test_float32(self):
        zero = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
        found = update_jacobian(XY, gd.extragradient(optax.sgd(0.1)), zero)
        assert found.matrix.dtype == np.float32
        np.testing.assert_allclose(found.matrix, [[0.99, -0.1], [0.1, 0.99]], rtol=1e-6)

    def test_batch(self):
        game = gd.zero_sum(lambda x, y, batch: batch * x * y, stochastic=True)
        rule = gd.simultaneous(optax.sgd(0.1))
        found = update_jacobian(game, rule, ZERO, jnp.array(3.0))
        np.testing.assert_allclose(found.matrix, [[1, -0.3], [0.3, 1]], rtol=1e-13)

    @pytest.mark.parametrize("warmup", [0, -1, 2.5])
    def test_warmup(self, warmup):
        with pytest.raises(ValueError, match="warmup must be a positive integer"):
            update_jacobian(XY, gd.simultaneous(optax.sgd(0.1)), ZERO, warmup=warmup)

    def test_params(self):
        with pytest.raises(TypeError, match="params must be a tuple"):
            update_jacobian(XY, gd.simultaneous(optax.sgd(0.1)), list(ZERO))


def lookahead_radius(step_size, period, strength):
    cycle = 1 - strength + strength * (1 + 1j * step_size) ** period
    return abs(cycle) ** (1 / period)


def runge_kutta_radius(a, order):
    # The stability polynomial: exp cut off.
    z = 1j * a
    return abs(sum(z**n / (1, 1, 2, 6, 24)[n] for n in range(order + 1)))


def optimistic_radius(a):
    # z+ = z - 2 i a z + i a z-
    return max(abs(np.roots([1, -(1 - 2j * a), -1j * a])))


make = gd.rules.make
# On xy: name, step size, expected radius, tolerance.
RADII = [
    ("simultaneous", 0.1, np.sqrt(1.01), 1e-9),
    ("alternating", 0.1, 1, 1e-9),
    ("alternating", 2.01, 1.221301093165, 1e-9),
    ("extragradient", 0.1, np.sqrt(1 - 0.1**2 + 0.1**4), 1e-9),
    ("past_extragradient", 0.1, 0.994936153005, 1e-9),
    ("projected_reflected_gradient", 0.1, 0.994936153005, 1e-9),
    ("optimistic", 0.1, 0.994936153005, 1e-9),
    ("optimistic", 0.5, 0.707106781187, 1e-7),
    ("forward_backward_forward", 0.1, 0.995037687728, 1e-9),
    ("proximal_point", 0.1, 1 / np.sqrt(1.01), 1e-9),
    ("negative_momentum", 0.5, 0.971286707778, 1e-9),
    ("alex_gda", 0.5, 0.771844506346, 1e-9),
    ("runge_kutta_2", 0.5, runge_kutta_radius(0.5, 2), 1e-9),
    ("runge_kutta_4", 2 * np.sqrt(2), 1, 1e-9),
    ("complex_momentum", 0.05, 0.98569, 5e-6),
    ("lookahead", 0.1, lookahead_radius(0.1, 5, 0.5), 1e-9),
    # w = (1 - i a) z, z+ = z - i a/2 w
    ("extragradient_plus", 0.4, abs(1 - 0.2j * (1 - 0.4j)), 1e-9),
]
MORE_RADII = [
    ("alternating", 1.9, 1, 1e-9),
    ("extragradient", np.sqrt(0.5), 0.866025403784, 1e-9),
    ("extragradient", 1.1, np.sqrt(1 - 1.1**2 + 1.1**4), 1e-9),
    ("stochastic_extragradient", 0.1, 0.995037687728, 1e-9),
    ("forward_reflected_backward", 0.1, 0.994936153005, 1e-9),
    ("optimistic", 0.3, optimistic_radius(0.3), 1e-9),
    ("optimistic", 0.57, 0.980710790081, 1e-9),
    ("optimistic", 0.58, 1.006860949782, 1e-9),
    ("negative_momentum", 0.1, 0.998887446348, 1e-9),
    ("negative_momentum", 1.0, 0.872175357025, 1e-9),
    ("alex_gda", 0.1, 0.990001020094, 1e-9),
    ("alex_gda", 0.9, 2.343384435657, 1e-9),
    ("runge_kutta_4", 0.5, runge_kutta_radius(0.5, 4), 1e-9),
    ("complex_momentum", 0.1, 1.05298, 5e-6),
    ("lookahead", 0.6, lookahead_radius(0.6, 5, 0.5), 1e-9),
]
RADII += [pytest.param(*row, marks=pytest.mark.slow) for row in MORE_RADII]


class TestSpectralRadius:
    @pytest.mark.parametrize(("name", "step_size", "expected", "tolerance"), RADII)
    def test_on_xy(self, name, step_size, expected, tolerance):
        radius = spectral_radius(XY, make(name, step_size), ZERO)
        assert radius.status is Status.OK
        assert isinstance(radius, float)
        np.testing.assert_allclose(radius, expected, rtol=0, atol=tolerance)

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            (gd.alternating(negative_momentum(0.5)), 0.962543703197),
            (gd.rules.alex_gda(optax.sgd(0.1), delta=1.0), np.sqrt(0.99)),
            (gd.rules.alex_gda(optax.sgd(0.3), gamma=1.0, delta=1.0), 1.0),
        ],
    )
    def test_other_members_of_the_families_on_xy(self, rule, expected):
        np.testing.assert_allclose(spectral_radius(XY, rule, ZERO), expected, atol=1e-8)

    def test_nested_lookahead_at_an_equilibrium(self):
        inner = gd.lookahead(gd.simultaneous(optax.sgd(0.2)), period=2, strength=0.7)
        rule = gd.lookahead(inner, period=6, strength=0.4)
        cycle = 0.3 + 0.7 * (1 + 0.2j) ** 2
        cycle = 0.6 + 0.4 * cycle**3
        radius = spectral_radius(XY, rule, ZERO)
        assert radius.status is Status.OK
        np.testing.assert_allclose(radius, abs(cycle) ** (1 / 6), rtol=1e-12)

    def test_of_a_matrix_game_is_that_of_its_worst_singular_value(self):
        matrix = np.random.default_rng(0).normal(size=(3, 3))
        game = gd.zero_sum(lambda x, y: x @ matrix @ y)
        a = 0.1 * np.linalg.svd(matrix, compute_uv=False)
        rule = gd.extragradient(optax.sgd(0.1))
        radius = spectral_radius(game, rule, (jnp.zeros(3), jnp.zeros(3)))
        np.testing.assert_allclose(radius, np.sqrt(1 - a**2 + a**4).max(), rtol=1e-12)

    @pytest.mark.parametrize(
        "step_size", [0.3, pytest.param(0.1, marks=pytest.mark.slow)]
    )
    def test_optax_optimistic_transformation_has_the_radius_of_the_rule(
        self, step_size
    ):
        rule = gd.simultaneous(optax.optimistic_gradient_descent(step_size))
        radius = spectral_radius(XY, rule, ZERO)
        expected = spectral_radius(XY, make("optimistic", step_size), ZERO)
        np.testing.assert_allclose(radius, expected, rtol=1e-9)
        # Without a step taken before, its memory would still be empty.
        assert abs(expected - np.hypot(1, step_size)) > 1e-3

    @pytest.mark.parametrize(
        "name",
        [
            "feg",
            "averaged_extragradient",
            "double_step_extragradient",
            *(
                pytest.param(name, marks=pytest.mark.slow)
                for name in ("eag_c", "eag_v", "anchored_popov", "halpern")
            ),
        ],
    )
    def test_maps_that_change_in_time(self, name):
        radius = spectral_radius(XY, make(name, 0.1), ZERO)
        assert np.isnan(radius)
        assert radius.status is Status.NOT_AUTONOMOUS

    def test_schedules(self):
        slow = optax.sgd(optax.polynomial_schedule(0.1, 0.09, 1, 100_000))
        radius = spectral_radius(XY, gd.extragradient(slow), ZERO)
        assert radius.status is Status.NOT_AUTONOMOUS
        constant = optax.sgd(optax.constant_schedule(0.1))
        radius = spectral_radius(XY, gd.extragradient(constant), ZERO)
        np.testing.assert_allclose(radius, 0.995037687728, atol=1e-9)

    @pytest.mark.parametrize("name", ["adam", "optimistic_adam", "extra_adam"])
    def test_adam_at_its_fixed_point(self, name):
        with jax.numpy_dtype_promotion("standard"):
            radius = spectral_radius(XY, make(name, 0.1), ZERO)
        assert np.isnan(radius)
        assert radius.status is Status.NOT_DIFFERENTIABLE

    def test_adam_with_a_rounded_root_after_its_bias_correction(self):
        # Then it is momentum: m' = .5 m + .5 g, z' = z - h / (sqrt(e) + eps) m'.
        step_size, root, eps = 0.01, 1e-4, 1e-8
        optimizer = optax.adam(step_size, b1=0.5, b2=0.9, eps=eps, eps_root=root)
        rule = gd.simultaneous(optimizer)
        with jax.numpy_dtype_promotion("standard"):
            early = spectral_radius(XY, rule, ZERO)
            late = spectral_radius(XY, rule, ZERO, warmup=1000)
        assert early.status is Status.NOT_AUTONOMOUS
        assert late.status is Status.OK
        a = step_size / (np.sqrt(root) + eps)
        # z' = z - a m', m' = (m + i z) / 2 on the eigenvector of J with eigenvalue i.
        matrix = np.array([[1 - a * 0.5j, -a * 0.5], [0.5j, 0.5]])
        expected = max(abs(np.linalg.eigvals(matrix)).max(), 0.9)
        np.testing.assert_allclose(late, expected, rtol=1e-9)

    def test_predicts_a_run(self):
        rule = make("optimistic", 0.2)
        start = jnp.array(1.0), jnp.array(0.3)
        run = jax.jit(lambda n: gd.solve(XY, rule, start, n).params, static_argnums=0)
        ratio = optax.tree.norm(run(400)) / optax.tree.norm(run(300))
        radius = spectral_radius(XY, rule, ZERO)
        np.testing.assert_allclose(ratio ** (1 / 100), radius, rtol=1e-9)


class TestMeasuredRate:
    STEPS = np.arange(1000)

    @pytest.mark.parametrize("rate", [0.9, 0.999, 1.0, 1.01])
    def test_geometric(self, rate):
        found = measured_rate(7 * rate**self.STEPS, self.STEPS)
        np.testing.assert_allclose(found.rate, rate, rtol=1e-12)
        expected = int(np.ceil(np.log(1e-12) / np.log(rate))) if rate == 0.9 else 999
        assert found.evaluations == expected
        assert found.reached is (rate == 0.9)

    def test_per_evaluation_not_per_step(self):
        found = measured_rate(0.9**self.STEPS, 4 * self.STEPS)
        np.testing.assert_allclose(found.rate, 0.9**0.25, rtol=1e-12)

    def test_below_the_floor_is_rounding(self):
        noise = np.random.default_rng(0).uniform(1, 2, size=1000)
        curve = np.maximum(0.9**self.STEPS, 1e-15 * noise)
        found = measured_rate(curve, self.STEPS)
        np.testing.assert_allclose(found.rate, 0.9, rtol=1e-12)
        assert found.reached
        assert found.evaluations == 263  # 0.9^263 is the first below 1e-12

    def test_exactly_zero_at_last(self):
        curve = np.where(self.STEPS < 50, 0.8**self.STEPS, 0.0)
        found = measured_rate(curve, self.STEPS)
        np.testing.assert_allclose(found.rate, 0.8, rtol=1e-12)
        assert found.evaluations == 50

    def test_own_floor(self):
        found = measured_rate(0.9**self.STEPS, self.STEPS, floor=1e-3)
        assert found.evaluations == 66

    def test_the_first_half_is_transient(self):
        curve = np.where(self.STEPS < 500, 2.0, 2.0 * 0.99 ** (self.STEPS - 500.0))
        found = measured_rate(curve, self.STEPS)
        np.testing.assert_allclose(found.rate, 0.99, rtol=1e-4)
        np.testing.assert_allclose(found.change, found.rate**499, rtol=1e-9)

    def test_least_squares_over_the_second_half(self):
        rng = np.random.default_rng(0)
        logs = -0.01 * self.STEPS + 0.1 * rng.normal(size=1000)
        x, y = self.STEPS[500:], logs[500:]
        slope = np.cov(x, y)[0, 1] / np.var(x, ddof=1)
        found = measured_rate(np.exp(logs), self.STEPS)
        np.testing.assert_allclose(found.rate, np.exp(slope), rtol=1e-12)
        np.testing.assert_allclose(found.spread, np.exp(y.max() - y.min()), rtol=1e-10)

    @pytest.mark.parametrize("tail", [np.nan, np.inf])
    def test_what_follows_the_first_non_finite_is_left_out(self, tail):
        curve = 1.1**self.STEPS
        curve[400:] = tail
        curve[500:] = 1.0
        found = measured_rate(curve, self.STEPS)
        np.testing.assert_allclose(found.rate, 1.1, rtol=1e-12)
        assert found.evaluations == 399

    @pytest.mark.parametrize("length", [0, 1, 2, 4])
    def test_too_short(self, length):
        found = measured_rate(0.5 ** np.arange(length), np.arange(length))
        assert np.isnan(found.rate)
        assert found.reached is False

    def test_starting_at_the_solution_or_nowhere(self):
        assert np.isnan(measured_rate(np.zeros(100), np.arange(100)).rate)
        assert np.isnan(measured_rate(np.full(100, np.nan), np.arange(100)).rate)

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
            measured_rate(np.ones(3), np.arange(4))
        with pytest.raises(ValueError, match="vectors of one length"):
            measured_rate(np.ones((3, 2)), np.ones((3, 2)))


@pytest.mark.parametrize("package", [gd.analysis, gd.divergences])
def test_no_public_name_is_hidden_by_a_module(package):
    """`package.name` the function and `package/name.py` would be one path for two."""
    for name in package.__all__:
        module = importlib.util.find_spec(f"{package.__name__}.{name}")
        assert (module is not None) == inspect.ismodule(getattr(package, name)), name
