"""Units, offsets and dtypes decide nothing: verdicts stay, values are scaled."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn import divergences, metrics, trees
from gamedyn.analysis import certificates, certify, certify_large, lanczos, path_angle
from gamedyn.analysis.bounds import spectrum_bounds
from gamedyn.analysis.spectra import arnoldi, spectral_density, trace
from gamedyn.analysis.updates import balanced
from gamedyn.fields import linear
from gamedyn.fields.linear import Krylov

KEY = jax.random.key(0)
DOUBLE, SINGLE = jnp.float64, jnp.float32
EXTREMES = [
    *((SINGLE, s) for s in (1e-30, 1e-19, 1e19, 1e30)),
    *((DOUBLE, s) for s in (1e-300, 1e-160, 1e200, 1e300)),
]
FEW = [
    pytest.param(*one, marks=[pytest.mark.slow] * (number > 0))
    for number, one in enumerate(EXTREMES[::3])
]


def multiply(entries, vector):
    return entries * vector


# Norms and their like.


@hypothesis.given(
    exponent=st.floats(-290, 290), values=st.lists(st.floats(-1, 1), min_size=1)
)
def test_norms_know_no_unit(exponent, values):
    values = np.array(values)
    scaled = values * 10.0**exponent
    expected = np.linalg.norm(values)
    hypothesis.assume(expected > 1e-9)
    for norm in (trees.norm, trees.norm_on_host):
        got = float(norm(scaled)) / 10.0**exponent
        np.testing.assert_allclose(got, expected, rtol=1e-9)
    single = np.array(values * 10.0 ** (exponent / 10), np.float32)
    np.testing.assert_allclose(
        float(trees.norm(single)), np.linalg.norm(single.astype(float)), rtol=1e-5
    )


def test_norms_of_nothing_and_of_what_is_no_number():
    for bad, same in ((np.nan, np.isnan), (np.inf, np.isinf)):
        assert same(float(trees.norm(jnp.array([1.0, bad]))))
        assert same(trees.norm_on_host(np.array([1.0, bad])))
    assert float(trees.norm((jnp.zeros(3), jnp.zeros(0)))) == 0
    # Where the compiler knows the numbers, too.
    for size in (0.0, 1e-300, 1e-200, 1e200, 1e300):
        vector = size * np.array([3.0, 4.0])
        known = jax.jit(lambda v=vector: trees.norm(jnp.asarray(v)))()
        np.testing.assert_allclose(known, 5 * size, rtol=1e-14)
        known = jax.jit(lambda v=vector: _line(v[:, None], 0 * v[:, None], p=3))()
        np.testing.assert_allclose(known, size * 45.5 ** (1 / 3), rtol=1e-14)
    assert jax.grad(trees.norm)(jnp.zeros(2)).tolist() == [0, 0]
    for size in (1e-200, 1e200):
        slope = jax.grad(trees.norm)(size * jnp.array([3.0, 4.0]))
        np.testing.assert_allclose(slope, [0.6, 0.8], rtol=1e-14)


# Krylov spaces.


@pytest.mark.parametrize(("dtype", "size"), EXTREMES)
def test_spectra_of_any_unit(dtype, size):
    entries = jnp.linspace(-1, 2, 30)
    operator = Partial(multiply, (entries * size).astype(dtype))
    like = jnp.zeros(30, dtype)
    eps = float(jnp.finfo(dtype).eps)
    one = lanczos(Partial(multiply, entries.astype(dtype)), like, KEY)
    ends = lanczos(operator, like, KEY)
    assert (ends.steps, ends.exhausted) == (one.steps, one.exhausted)
    assert ends.converged.tolist() == one.converged.tolist()
    np.testing.assert_allclose(
        ends.values / size, [-1, 2], rtol=1e-5 if eps > 1e-9 else 1e-13
    )
    assert ends.matvecs <= one.matvecs + 1
    estimates = arnoldi(operator, like, KEY)
    assert estimates.converged.all()
    np.testing.assert_allclose(estimates.values[0] / size, -1, rtol=100 * eps)
    density = spectral_density(operator, like, KEY, num_starts=2)
    area = np.trapezoid(density.density * size, density.grid / size)
    assert abs(area - 1) < 1e-5
    assert np.all(np.isfinite(density.spread))
    np.testing.assert_allclose(
        trace(operator, like, KEY, num_samples=4).value / size, 15, rtol=100 * eps
    )


@hypothesis.given(exponent=st.integers(-900, 900))
def test_powers_of_two_change_no_digit(exponent):
    entries = jnp.linspace(-1, 2, 30)
    one = lanczos(Partial(multiply, entries), entries, KEY)
    scaled = jnp.asarray(np.ldexp(np.asarray(entries), exponent))
    other = lanczos(Partial(multiply, scaled), entries, KEY)
    np.testing.assert_array_equal(np.ldexp(other.ritz, -exponent), one.ritz)
    np.testing.assert_array_equal(np.ldexp(other.residuals, -exponent), one.residuals)
    bounds = [
        spectrum_bounds(r.diagonal[:9], r.off_diagonal[:9], 100) for r in (one, other)
    ]
    np.testing.assert_allclose(
        np.ldexp(bounds[1][:4], -exponent), bounds[0][:4], rtol=1e-12
    )


def test_simple_operators_in_any_unit():
    like = jnp.ones(40)
    for size in (1.0, 1e-250, 1e250):
        ends = lanczos(Partial(multiply, size * like), like, KEY)
        assert (ends.steps, ends.exhausted) == (1, True)
        np.testing.assert_allclose(ends.smallest, size, rtol=1e-14)
    zero = lanczos(Partial(multiply, 0 * like), like, KEY)
    assert (zero.steps, zero.exhausted, zero.smallest, zero.largest) == (1, True, 0, 0)
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(FloatingPointError, match="not finite"):
            lanczos(Partial(multiply, bad * like), like, KEY)
        with pytest.raises(FloatingPointError, match="not finite"):
            arnoldi(Partial(multiply, bad * like), like, KEY)
    with pytest.raises(ValueError, match="start must be finite"):
        lanczos(Partial(multiply, like), like, KEY, start=0 * like)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize(
    "spectrum",
    [
        np.ones(650),
        np.zeros(650),
        -1e-200 * np.ones(650),
        1e9 + np.linspace(0, 1, 650),
        1e9 + 1e-6 * np.linspace(0, 1, 650),
        1 + 1e-13 * np.linspace(0, 1, 650),
        np.repeat([-1.0, 3.0], 325),
        1e150 * np.repeat([-1.0, 3.0], 325),
    ],
    ids=str,
)
def test_densities_integrate_to_one(spectrum, dtype):
    if dtype == SINGLE and np.abs(spectrum).max() > 1e30:
        pytest.skip("beyond float32")
    entries = jnp.asarray(spectrum, dtype)
    density = spectral_density(Partial(multiply, entries), entries, KEY, num_starts=2)
    unit = np.abs(spectrum).max() or 1.0
    area = np.trapezoid(density.density * unit, density.grid / unit)
    assert abs(area - 1) < 1e-5


def test_densities_of_a_small_width_are_resolved():
    entries = jnp.linspace(0, 1, 30)
    density = spectral_density(Partial(multiply, entries), entries, KEY, width=1e-3)
    assert abs(np.trapezoid(density.density, density.grid) - 1) < 1e-3


# Certificates.


def rotating(k, x, y):
    return k * (x @ x / 2 + 2 * (x @ y) - y @ y / 2)


def saddle(k, x, y):
    return k * (-(x @ x) / 2 + 3 * (x @ y) - 2 * (y @ y))


def silent(k, x, y):
    return k * (x @ y)


def tilted(k, x, y):
    return k * (x @ x / 2 - y @ y / 2 + 0.001 * x[0])


LOSSES = (rotating, saddle, silent, tilted)
ORIGIN = (jnp.zeros(2), jnp.zeros(2))


def findings(report):
    """What a report says, without its numbers."""
    flow = report.dynamics
    return (
        report.verdict,
        [player.curvature for player in report.players],
        flow and (flow.stability, flow.certified, flow.symmetric),
        flow and (flow.update_stability, flow.update_certified),
        [finding.verdict for finding in report.stackelberg],
        report.nash,
    )


@functools.cache
def plain(loss):
    return findings(certify(gd.zero_sum(Partial(loss, jnp.array(1.0))), ORIGIN))


@hypothesis.given(
    loss=st.sampled_from(LOSSES),
    exponent=st.integers(-150, 150),
    constant=st.floats(-1e9, 1e9),
)
def test_certificates_know_no_unit_and_no_constant(loss, exponent, constant):
    k = jnp.array(10.0**exponent)
    report = certify(
        gd.zero_sum(Partial(_plus, Partial(loss), k, k * constant)), ORIGIN
    )
    assert findings(report) == plain(loss)
    if report.stationarity.norms[0]:
        np.testing.assert_allclose(report.stationarity.residual, 0.001, rtol=1e-6)


def _plus(loss, k, constant, x, y):
    return loss(k, x, y) + constant


@hypothesis.given(loss=st.sampled_from(LOSSES), seed=st.integers(0, 2**31))
def test_certificates_know_no_coordinates(loss, seed):
    random = np.random.default_rng(seed)
    turns = [jnp.asarray(np.linalg.qr(random.normal(size=(2, 2)))[0]) for _ in "xy"]
    turned = Partial(_turned, Partial(loss), *turns)
    found, expected = findings(certify(gd.zero_sum(turned), ORIGIN)), plain(loss)
    assert found[:2] == expected[:2]
    assert found[4:] == expected[4:]


def _turned(loss, turn_x, turn_y, x, y):
    return loss(1.0, turn_x @ x, turn_y @ y)


def tilted_far_away(k, x, y):
    return k * (x**2 / 2 + x / 2)


def settled_far_away(k, x, y):
    return k * (y - 1e9) ** 2 / 2


def _swapped(loss, k, x, y):
    return loss(k, y, x)


@hypothesis.given(exponents=st.tuples(st.integers(-150, 150), st.integers(-150, 150)))
def test_each_player_is_judged_in_units_of_their_own(exponents):
    one, other = (10.0**exponent for exponent in exponents)
    game = gd.general_sum(
        Partial(tilted_far_away, one), Partial(settled_far_away, other)
    )
    report = certify(game, (0.0, 1e9))
    assert report.verdict.name == "NOT_STATIONARY"
    np.testing.assert_allclose(report.stationarity.residuals, [0.5, 0], rtol=1e-12)
    swapped = gd.general_sum(
        Partial(_swapped, Partial(settled_far_away), other),
        Partial(_swapped, Partial(tilted_far_away), one),
    )
    report = certify(swapped, (1e9, 0.0))
    np.testing.assert_allclose(report.stationarity.residuals, [0, 0.5], rtol=1e-12)


def test_a_far_parameter_excuses_no_gradient_of_another():
    def loss(x):
        return x[0] ** 2 / 2 + x[0] / 2 + (x[1] - 1e9) ** 2 / 2

    game, point = gd.single_player(loss), (jnp.array([0.0, 1e9]),)
    assert certify(game, point).verdict.name == "NOT_STATIONARY"
    report = certify_large(game, point, None, KEY)
    assert report.verdict.name == "NOT_STATIONARY"
    # Far from the origin the last digits of the point are all there is.
    there = (jnp.array([-0.5, 1e9 * (1 + 2e-16)]),)
    assert certify(game, there).verdict.name == "CERTIFIED_DNE"


@pytest.mark.parametrize(("dtype", "size"), FEW)
def test_network_certificates_of_any_unit(dtype, size):
    z = tuple(jnp.zeros(2, dtype) for _ in "xy")
    for loss in (rotating, saddle, silent):
        reports = [
            certify_large(
                gd.zero_sum(Partial(loss, jnp.asarray(k, dtype))), z, None, KEY
            )
            for k in (1, size)
        ]
        assert findings(reports[1]) == findings(reports[0])


def test_tiny_negative_curvature_is_negative():
    entries = jnp.linspace(-1, 2, 30).astype(SINGLE) * SINGLE(1e-19)
    game = gd.single_player(Partial(lambda d, x: jnp.sum(d * x**2) / 2, entries))
    report = certify_large(game, (jnp.zeros(30, SINGLE),), None, KEY)
    assert report.players[0].curvature.name == "NOT_PSD_CERTIFIED"
    np.testing.assert_allclose(report.players[0].smallest, -1e-19, rtol=1e-4)


@pytest.mark.parametrize("exponent", [-150, 150])
def test_rules_are_judged_whatever_their_memory_is_measured_in(exponent):
    k = 10.0**exponent
    game = gd.zero_sum(Partial(rotating, jnp.array(k)))
    report = certify(game, ORIGIN, rule=gd.optimistic(optax.sgd(0.1 / k)))
    assert report.dynamics.update_stability.name == "STABLE"
    assert report.dynamics.update_certified
    np.testing.assert_allclose(report.dynamics.update_radius, 0.885092247, rtol=1e-8)


def test_proofs_know_no_unit():
    for size in (1e-290, 1e-160, 1.0, 1e160, 1e290):
        jacobian = size * np.array([[-1.0, 3.0], [-3.0, 4.0]])
        assert certificates.lyapunov_certificate(jacobian) == (True, False)
        lopsided = size * np.array([[2.0, 1.0 + 1e-13], [1.0, 2.0]])
        symmetric, error = certificates.symmetrise(lopsided)
        assert 0 < error < 1e-12 * size
        assert certificates.certify_symmetric(symmetric, error=error).positive
    matrix = np.array([[0.5, 1e-200], [1e180, 0.2]])
    np.testing.assert_allclose(
        np.linalg.eigvals(balanced(matrix)), [0.5, 0.2], rtol=1e-9
    )
    assert certificates.stein_certificate(balanced(matrix)).stable


def test_path_angles_of_any_unit():
    for dtype, size in ((SINGLE, 1e-25), (SINGLE, 1e25), (DOUBLE, 1e-200)):
        game = gd.zero_sum(lambda x, y, k=size: k * (x**2 / 2 + 2 * x * y - y**2 / 2))
        first, second = (jnp.array(v, dtype) for v in (1.0, 0.0))
        angle = path_angle(game, (first, second), (second, second))
        np.testing.assert_allclose(angle.cosines[0], 5**-0.5, rtol=1e-5)


# Solvers and rules.


@pytest.mark.parametrize(("dtype", "size"), FEW)
def test_linear_systems_of_any_unit(dtype, size):
    # Solutions are of the size of the right-hand side over that of the system.
    size = size**0.5
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
    right = np.array([1.0, -2.0, 0.5])
    expected = np.linalg.solve(matrix, right)
    how, rtol = Krylov(), 1e-4 if dtype == SINGLE else 1e-9
    for of_matrix, of_right in ((size, 1.0), (1.0, size), (size, size)):
        a, b = (
            jnp.asarray(of_matrix * matrix, dtype),
            jnp.asarray(of_right * right, dtype),
        )
        solutions = (
            linear.solve_definite(lambda v, a=a: a @ v, b, how).solution,
            linear.solve_square(
                lambda v, a=a: a @ v, lambda v, a=a: a.T @ v, b, how
            ).solution,
            linear.least_residual(lambda v, a=a: a @ v, b, how.goal(b)),
        )
        for solution in solutions:
            np.testing.assert_allclose(
                np.asarray(solution, float) / (of_right / of_matrix),
                expected,
                rtol=rtol,
            )


def bilinear(k, x, y):
    return k * ((x @ jnp.array([[2, 1], [0, 1]], x.dtype)) @ y + x @ x / 4)


SCALED_RULES = {
    "curvature_extragradient": lambda h: gd.rules.curvature_extragradient(h),
    "adaptive_golden_ratio": lambda h: gd.adaptive_golden_ratio(h, max_step=1e6 * h),
    "universal_mirror_prox": lambda h: gd.rules.universal_mirror_prox(h),
    "proximal_point": lambda h: gd.proximal_point(h),
}


@pytest.mark.parametrize("name", SCALED_RULES)
def test_line_searches_of_any_unit(name):
    start = (jnp.array([1.0, -2.0], SINGLE), jnp.array([0.5, 1.0], SINGLE))

    @jax.jit
    def run(k, h):
        game = gd.zero_sum(Partial(bilinear, k))
        return gd.solve(game, SCALED_RULES[name](h), start, 20).params

    one = run(SINGLE(1), SINGLE(0.3))
    for k in (2.0**-80, 2.0**80):
        other = run(SINGLE(k), SINGLE(0.3 / k))
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3), other, one
        )


def test_a_small_field_is_not_a_solution():
    for dtype, size, tolerance in (
        (SINGLE, 1e-23, 1e-30),
        (SINGLE, 1e25, 1e20),
        (DOUBLE, 1e-200, 1e-250),
        (DOUBLE, 1e200, 1e100),
    ):
        field = lambda z, batch=None, k=size: (jnp.full_like(z[0], k),)  # noqa: E731
        rule = gd.simultaneous(optax.sgd(1e-3 / size))
        z = (jnp.ones(2, dtype),)
        solution = gd.solve_until(field, rule, z, tolerance=tolerance, max_steps=3)
        assert gd.Status(int(solution.status)).name == "MAX_STEPS"
        assert int(solution.num_steps) == 3


def test_steps_are_counted_in_the_range_of_their_index():
    rule, z = gd.simultaneous(optax.sgd(0.1)), (jnp.ones(2),)
    game = gd.single_player(lambda x: x @ x / 2)
    most = 2**31 - 1
    with pytest.raises(ValueError, match=r"2\*\*31 - 1.*start=2147483643 and 10 steps"):
        gd.solve(game, rule, z, 10, start=2**31 - 5)
    with pytest.raises(ValueError, match="start=-1"):
        gd.solve(game, rule, z, 10, start=-1)
    with pytest.raises(ValueError, match=r"2\*\*31 - 1"):
        gd.solve_until(game, rule, z, tolerance=1e-3, max_steps=10, start=2**31 - 5)
    assert int(gd.solve(game, rule, z, 5, start=most - 5).num_steps) == most
    for every in (1, 4):
        last = jax.jit(
            lambda start, every=every: (
                gd.solve_until(
                    game,
                    rule,
                    z,
                    tolerance=1e-300,
                    max_steps=10,
                    start=start,
                    check_every=every,
                ).num_steps
            )
        )
        assert int(last(most - 5)) == most
    with pytest.raises(TypeError, match="num_steps must .* traced"):
        jax.jit(lambda n: gd.solve(game, rule, z, n).params)(3)


# Transport and divergences.


def test_sinkhorn_avoids_forbidden_pairs():
    cost = jnp.array([[0, jnp.inf], [jnp.inf, 0]])
    for solve in (divergences.sinkhorn, jax.jit(divergences.sinkhorn)):
        solved = solve(cost, epsilon=0.1)
        assert bool(solved.converged)
        assert float(solved.transport_cost) == 0
        np.testing.assert_allclose(solved.plan, np.eye(2) / 2, atol=1e-12)
    slopes = jax.grad(lambda c: divergences.sinkhorn(c, epsilon=0.1).transport_cost)(
        jnp.array([[0.1, jnp.inf, 0.3], [jnp.inf, 0.2, 0.1], [0.5, 0.0, 0.7]])
    )
    assert np.all(np.isfinite(slopes))
    stuck = divergences.sinkhorn(jnp.array([[jnp.inf, jnp.inf], [0, 1]]), epsilon=0.1)
    assert not bool(stuck.converged)
    assert float(stuck.transport_cost) == np.inf
    # Two points that may only go to one of half their mass.
    crowded = jnp.array([[0, jnp.inf, jnp.inf], [0, jnp.inf, jnp.inf], [1, 1, 1]])
    solved = divergences.sinkhorn(crowded, epsilon=0.1, max_iterations=200)
    assert not bool(solved.converged)
    assert float(solved.marginal_error) > 0.1
    spare = divergences.sinkhorn(
        jnp.array([[0, 1.0], [jnp.inf, jnp.inf]]), jnp.array([1.0, 0.0]), epsilon=0.1
    )
    np.testing.assert_allclose(float(spare.transport_cost), 0.5)
    assert np.isnan(float(divergences.sinkhorn(cost * jnp.nan, epsilon=0.1)[0]))


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_entropic_transport_of_any_unit_and_offset(size):
    random = np.random.default_rng(0)
    cost = random.uniform(size=(4, 5))
    one = divergences.sinkhorn(cost, epsilon=0.1)
    other = divergences.sinkhorn(size * cost, epsilon=0.1 * size)
    assert int(one.num_iterations) == int(other.num_iterations)
    np.testing.assert_allclose(other.plan, one.plan, rtol=1e-9)
    np.testing.assert_allclose(
        other.transport_cost / size, one.transport_cost, rtol=1e-9
    )
    offset = 1e9 * (1 + random.uniform(size=(4, 1)))
    moved = divergences.sinkhorn(cost + offset, epsilon=0.1)
    assert bool(moved.converged)
    np.testing.assert_allclose(moved.plan, one.plan, rtol=1e-5)


@hypothesis.given(
    seed=st.integers(0, 2**31), exponent=st.integers(-150, 150), far=st.integers(0, 15)
)
def test_exact_transport_of_any_unit_and_range(seed, exponent, far):
    random = np.random.default_rng(seed)
    n, m = random.integers(2, 5, 2)
    a, b = random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m))
    cost = random.uniform(size=(n, m))
    row, column = random.integers(n), random.integers(m)
    # An entry that can be avoided, if all of its row has room elsewhere.
    hypothesis.assume(a[row] <= 1 - b[column] - 1e-3)
    cost[row, column] = 1e3
    expected = divergences.optimal_transport(cost, a, b).value
    hypothesis.assume(expected < 1)
    cost[row, column] = 10.0**far * 1e3
    size = 10.0**exponent
    for value in (
        divergences.optimal_transport(size * cost, a, b).value,
        divergences.optimal_transport_dual(size * cost, a, b).value,
        divergences.optimal_transport(size * cost.T, b, a).value,
        divergences.optimal_transport(size * (cost + 1e4), a, b).value - 1e4 * size,
    ):
        np.testing.assert_allclose(value / size, expected, rtol=1e-6)


@hypothesis.given(seed=st.integers(0, 2**31 - 1))
@hypothesis.settings(max_examples=20)
@hypothesis.example(77)
@hypothesis.example(460)
@hypothesis.example(810)
def test_exact_transport_of_small_masses(seed):
    random = np.random.default_rng(seed)
    n, m = random.integers(2, 9, 2)
    x, y = np.sort(random.normal(size=n)), np.sort(random.normal(size=m))
    a, b = (random.dirichlet(np.full(size, 0.2)) for size in (n, m))
    # On the line, what is behind every point crosses it.
    ends = np.concatenate([x, y])
    order = np.argsort(ends)
    behind = np.cumsum(np.concatenate([a, -b])[order])[:-1]
    expected = np.abs(behind) @ np.diff(ends[order])
    cost = np.abs(x[:, None] - y[None, :])
    for solve in (divergences.optimal_transport, divergences.optimal_transport_dual):
        np.testing.assert_allclose(solve(cost, a, b).value, expected, rtol=1e-6)


def test_exact_transport_beside_one_huge_cost():
    cost = np.array([[0.1, 1e15], [1.0, 0.2]])
    a, b = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    for rows in ([0, 1], [1, 0]):
        for columns in ([0, 1], [1, 0]):
            part = np.ix_(rows, columns)
            values = [
                solve(cost[part], a[rows], b[columns]).value
                for solve in (
                    divergences.optimal_transport,
                    divergences.optimal_transport_dual,
                )
            ]
            np.testing.assert_allclose(values, 0.05 + 0.4 + 0.02, rtol=1e-9)
    forbidden = np.where(cost > 1e9, np.inf, cost)
    np.testing.assert_allclose(
        divergences.optimal_transport(forbidden, a, b).value, 0.47, rtol=1e-9
    )
    np.testing.assert_allclose(
        divergences.optimal_transport_dual(forbidden, a, b).value, 0.47, rtol=1e-9
    )
    # An assignment, and one that cannot be.
    assert divergences.optimal_transport([[0, np.inf], [np.inf, 0.0]]).value == 0
    for weights in (None, np.array([0.7, 0.3])):
        with pytest.raises(ValueError, match="forbidden"):
            divergences.optimal_transport([[np.inf, np.inf], [1.0, 0]], weights)
    with pytest.raises(ValueError, match="NaN"):
        divergences.optimal_transport([[np.nan, 1.0], [1.0, 0]])


def _line(x, y, **options):
    return divergences.wasserstein_1d(x[:, 0], y[:, 0], **options)


POWERS = {  # by which power of the unit of length a distance is scaled
    "line": (1, functools.partial(_line, p=1)),
    "line, p = 3": (1, functools.partial(_line, p=3)),
    "sliced": (1, functools.partial(divergences.sliced_wasserstein, KEY)),
    "wasserstein": (1, functools.partial(divergences.wasserstein, p=3)),
    "kantorovich_rubinstein": (
        1,
        lambda x, y: divergences.kantorovich_rubinstein(x, y).value,
    ),
    "cost": (1, lambda x, y: jnp.sum(divergences.cost_matrix(x, y))),
    "energy": (1, divergences.energy_distance_squared),
    "precision": (
        0,
        lambda x, y: (
            divergences.precision_recall(
                generated=x, reference=y, num_neighbours=1
            ).precision
        ),
    ),
    "squares": (2, divergences.frechet_squared),
    "density": (
        0,
        lambda x, y: (
            metrics.prdc(
                generated=x, reference=y, num_neighbours=1, num_neighbours_coverage=2
            ).density
        ),
    ),
    "nearest": (
        1,
        lambda x, y: metrics.nearest_neighbour_distances(
            generated=x, reference=y
        ).distances.sum(),
    ),
}


@pytest.mark.parametrize("name", POWERS)
def test_distances_of_any_unit_and_origin(name):
    power, distance = POWERS[name]
    random = np.random.default_rng(1)
    x, y = random.normal(size=(7, 2)), 0.5 + random.normal(size=(6, 2))
    x[1] = x[0]  # duplicates
    one = float(distance(x, y))
    for size in (1e-140, 1e140) if power == 2 else (1e-300, 1e-160, 1e160, 1e290):
        got = float(distance(size * x, size * y)) / size**power
        np.testing.assert_allclose(got, one, rtol=1e-9)
    moved = float(distance(x + 1e9, y + 1e9))
    np.testing.assert_allclose(moved, one, rtol=1e-5)


def test_kernels_of_any_unit():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(7, 2)), 0.5 + random.normal(size=(6, 2))
    values = [
        float(
            divergences.maximum_mean_discrepancy_squared(
                size * x, size * y, divergences.rbf_kernel(size)
            )
        )
        for size in (1.0, 1e-200, 1e200)
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-10)


def test_no_number_is_made_of_what_is_none():
    p, q = jnp.array([0.5, jnp.nan]), jnp.array([0.5, 0.5])
    for name in ("kullback_leibler", "jensen_shannon", "total_variation"):
        divergence = getattr(divergences, name)
        with pytest.raises(ValueError, match="negative"):
            divergence(p, q)
        for pair in ((p, q), (q, p)):
            assert np.isnan(float(jax.jit(divergence)(*pair))), name
    x, y = jnp.ones((6, 2)).at[2, 1].set(jnp.nan), jnp.arange(12.0).reshape(6, 2)
    for name in ("line, p = 3", "sliced", "cost", "energy", "precision", "squares"):
        for pair in ((x, y), (y, x)):
            got = float(POWERS[name][1](*(z[:, ::-1] for z in pair)))
            assert np.isnan(got), name


# Precisions.


MATRIX = np.array([[1.0, 2.0], [0.0, 1.0]]) / 3


CONSTANTS = {
    "numpy array": lambda: (lambda m: lambda x, y: x @ m @ y)(MATRIX.copy()),
    "made inside": lambda: lambda x, y: x @ (np.eye(2) * MATRIX[0, 0]) @ y,
    "in a jitted function": lambda: (lambda f: lambda x, y: f(x) @ y)(
        jax.jit((lambda m: lambda x: x @ m)(MATRIX.copy()))
    ),
    "Partial": lambda: Partial(lambda m, x, y: x @ m @ y, MATRIX.copy()),
    "jax array": lambda: (lambda m: lambda x, y: x @ m.astype(x.dtype) @ y)(
        jnp.asarray(MATRIX)
    ),
}


CONSTANTS_QUICK = ("numpy array", "in a jitted function")


def _in_single_precision(game):
    """Everything a user does with a game in float32."""
    rule = gd.extragradient(optax.sgd(0.1))
    with jax.enable_x64(False):
        z = (jnp.ones(2, SINGLE), jnp.ones(2, SINGLE))
        values = [game(z)[0], jax.jit(game)(z)[0]]
        values += jax.tree.leaves(gd.fields.gradient(game)(z))
        values += jax.jit(lambda z: gd.solve(game, rule, z, 3).params)(z)
    assert all(np.asarray(value).dtype == SINGLE for value in values)
    return values


@pytest.mark.parametrize("order", ["certified first", "certified later"])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] * (kind not in CONSTANTS_QUICK))
        for kind in CONSTANTS
    ],
)
def test_constants_of_a_loss_live_in_both_precisions(kind, order):
    game = gd.zero_sum(CONSTANTS[kind]())
    zeros = (np.zeros(2, SINGLE), np.zeros(2, SINGLE))
    if order == "certified later":
        kept = _in_single_precision(game)
    with jax.enable_x64(False):
        report = certify(game, zeros, rule=gd.optimistic(optax.sgd(0.1)))
        certify_large(game, tuple(map(jnp.asarray, zeros)), None, KEY)
    expected = MATRIX if kind != "made inside" else np.eye(2) * MATRIX[0, 0]
    norm = float(np.linalg.norm(expected, 2))
    np.testing.assert_allclose(report.stationarity.scales, norm, rtol=1e-14)
    assert not report.notes
    values = _in_single_precision(game)
    np.testing.assert_allclose(float(values[0]), expected.sum(), rtol=1e-6)
    if order == "certified later":
        for a, b in zip(values, kept, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_model_of_another_dtype_is_named():
    from gamedyn import diffusion, gan

    chain = diffusion.schedules.linear(200)
    sampler = diffusion.samplers.ddim(diffusion.schedules.respace(chain, 3))
    draw = functools.partial(diffusion.sample, KEY, sampler=sampler, shape=(2, 1))
    other = jnp.bfloat16
    outputs = {
        "dtype float32, got bfloat16": lambda x: x.astype(other),
        "got int32": lambda x: jnp.zeros(x.shape, jnp.int32),
        "got complex64": lambda x: jax.lax.complex(x, x),
        "array, got NoneType": lambda x: None,
    }
    theta = (jnp.ones((), SINGLE),)
    batch = diffusion.Batch(jnp.ones((4, 2), SINGLE), KEY)
    real = gan.Batch(jnp.ones((4, 2), SINGLE), KEY)
    for message, output in outputs.items():
        model = lambda x, t, f=output: f(x)  # noqa: E731
        with pytest.raises(TypeError, match=f"the model must return .*{message}"):
            jax.jit(functools.partial(diffusion.sample, KEY, model, shape=(2, 1)))(
                sampler=sampler
            )
        for game in (diffusion.game, diffusion.edm_game):
            args = (chain,) if game is diffusion.game else ()
            made = game(lambda theta, x, t, f=output: f(x), *args)
            with pytest.raises(TypeError, match=f"the network must .*{message}"):
                made(theta, batch)
        made = gan.game(
            lambda theta, z, f=output: f(z),
            lambda phi, x: x.sum(axis=1),
            "non_saturating",
            latent=gan.sampling.normal(2),
        )
        with pytest.raises(TypeError, match=f"the generator must .*{message}"):
            made(2 * theta, real)
    with pytest.raises(ValueError, match="must return"):
        diffusion.edm_game(lambda theta, x, t: x[:, :1])(theta, batch)
    for options in ({"dtype": int}, {"start": jnp.ones((2, 1), int), "shape": None}):
        with pytest.raises(TypeError, match="floating-point"):
            draw(lambda x, t: x, **options)
    # What is known too late to be refused has a status.
    silent = diffusion.samplers.ddim(diffusion.schedules.zero_terminal_snr(chain))
    with pytest.raises(ValueError, match="zero terminal SNR"):
        diffusion.sample(KEY, lambda x, t: x, silent, (2, 1))
    run = jax.jit(lambda s: diffusion.sample(KEY, lambda x, t: x, s, (2, 1)))
    assert int(run(silent).status) == gd.Status.NON_FINITE
    assert int(run(sampler).status) == gd.Status.OK


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda x, y: None, TypeError, "got None: "),
        (lambda x, y: {}, TypeError, "got dict"),
        (lambda x, y: (x, y), ValueError, r"got an array of shape \(2,\)"),
        (lambda x, y: x > y, TypeError, "got dtype bool"),
        (lambda x, y: jnp.int32(1), TypeError, "got dtype int32"),
        (lambda x, y: jax.lax.complex(x, y), TypeError, "got dtype complex"),
        (lambda x, y: jnp.stack([x, y]), ValueError, r"got an array of shape \(2,\)"),
    ],
)
def test_a_loss_that_is_no_number_is_named(loss, error, message):
    z = (jnp.ones(()), jnp.ones(()))
    rule = gd.simultaneous(optax.sgd(0.1))
    match = f"the loss of player 0,? must .*{message}"
    for game in (gd.zero_sum(loss), gd.general_sum(loss, loss)):
        for call in (
            lambda game=game: game(z),
            lambda game=game: gd.solve(game, rule, z, 3),
            lambda game=game: gd.solve_until(game, rule, z, tolerance=1, max_steps=3),
            lambda game=game: gd.sweep(lambda z: game((z, z)), jnp.ones(2)),
            lambda game=game: certify_large(game, z, None, KEY),
        ):
            with pytest.raises(error, match=match):
                call()
        with pytest.raises(ValueError, match=match):
            certify(game, z)


def test_a_field_of_another_kind_is_named():
    z, rule = (jnp.ones(2), jnp.ones(2)), gd.simultaneous(optax.sgd(0.1))
    for field in (
        lambda z, batch=None: (z[0].astype(SINGLE), z[1]),
        lambda z, batch=None: (z[0][:1], z[1]),
        lambda z, batch=None: list(z),
        lambda z, batch=None: None,
    ):
        with pytest.raises(TypeError, match="the field must return"):
            gd.solve(field, rule, z, 3)
        with pytest.raises(TypeError, match="the field must return"):
            gd.solve_until(field, rule, z, tolerance=1e-3, max_steps=3)


def test_no_verdict_on_a_loss_that_is_no_number():
    z = (jnp.ones(()), jnp.ones(()))
    game = gd.zero_sum(lambda x, y: x * y * jnp.nan)
    with pytest.raises(ValueError, match="nan"):
        certify(game, z)
    with pytest.raises(ValueError, match="not finite"):
        certify_large(game, z, None, KEY)
    solution = gd.solve(game, gd.simultaneous(optax.sgd(0.1)), z, 3)
    assert int(solution.status) == gd.Status.NON_FINITE
