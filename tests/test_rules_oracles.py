"""Closed forms and published numbers that the rules must reproduce."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.analysis import spectral_radius, update_jacobian
from gamedyn.transformations import complex_momentum, negative_momentum

sgd = optax.sgd
XY = gd.zero_sum(lambda x, y: x * y)
ORIGIN = (jnp.float64(0), jnp.float64(0))
GOLDEN = (1 + 5**0.5) / 2


def alternating(step_size, first=0.0, second=0.0):
    """Alternating heavy ball with a momentum for each player."""
    return gd.alternating(
        negative_momentum(step_size, first), negative_momentum(step_size, second)
    )


def alex(step_size, gamma=2.0, delta=2.0):
    return gd.rules.alex_gda(sgd(step_size), gamma=gamma, delta=delta)


def named(name):
    return lambda step_size: gd.rules.make(name, step_size)


def optimistic_radius(a):
    if a <= 0.5:
        return np.sqrt((1 + np.sqrt(1 - 4 * a**2)) / 2)
    return 0.5 * np.sqrt(1 + (2 * a + np.sqrt(4 * a**2 - 1)) ** 2)


def point(*values, dtype=jnp.float64):
    return tuple(jnp.asarray(value, dtype) for value in values)


def norm(params):
    return float(optax.tree.norm(params))


@functools.partial(jax.jit, static_argnums=(1, 3))
def solve(game, rule, params, num_steps):
    return gd.solve(game, rule, params, num_steps)


@functools.partial(jax.jit, static_argnums=(1, 3))
def path(game, rule, params, num_steps):
    """All iterates, the start first, as an array (num_steps + 1, d)."""

    def record(params, *_):
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])

    solution = gd.solve(game, rule, params, num_steps, record=record)
    return jnp.concatenate([solution.trace, record(solution.params)[None]])


# Spectral radii on the game xy.

MOMENTUM_BOTH = functools.partial(alternating, first=-0.5, second=-0.5)
PDHG = functools.partial(alex, gamma=2.0, delta=1.0)

RADII = [
    (named("simultaneous"), 0.1, 1.004987562112),
    (named("alternating"), 0.1, 1.0),
    (named("alternating"), 1.9, 1.0),
    (named("alternating"), 2.01, 1.221301093165),
    (named("extragradient"), 0.1, 0.995037687728),
    (named("stochastic_extragradient"), 0.1, 0.995037687728),
    (named("forward_backward_forward"), 0.1, 0.995037687728),
    (named("optimistic"), 0.1, 0.994936153005),
    (named("past_extragradient"), 0.1, 0.994936153005),
    (named("forward_reflected_backward"), 0.1, 0.994936153005),
    (named("projected_reflected_gradient"), 0.1, 0.994936153005),
    (named("proximal_point"), 0.1, 0.995037190210),
    (named("negative_momentum"), 0.1, 0.998887446348),
    (named("negative_momentum"), 0.5, 0.971286707778),
    (named("negative_momentum"), 1.0, 0.872175357025),
    (MOMENTUM_BOTH, 0.1, 0.998517789101),
    (MOMENTUM_BOTH, 0.5, 0.962543703197),
    (MOMENTUM_BOTH, 1.0, 1.0),
    (alex, 0.1, 0.990001020094),
    (alex, 0.5, 0.771844506346),
    (alex, 0.9, 2.343384435657),
    (PDHG, 0.1, 0.994987437107),
    (PDHG, 0.5, 0.866025403784),
    (named("extragradient"), 2**-0.5, 0.866025403784),
    (named("optimistic"), 0.57, 0.980710790081),
    (named("optimistic"), 0.58, 1.006860949782),
]


@pytest.mark.parametrize(
    ("make", "step_size", "expected", "dtype"),
    [(*case, jnp.float64) for case in RADII]
    + [
        pytest.param(*case, jnp.float32, marks=[pytest.mark.slow] if number % 8 else [])
        for number, case in enumerate(RADII)
    ],
)
def test_radius_on_xy(make, step_size, expected, dtype):
    tolerance = 1e-9 if dtype == jnp.float64 else 20 * jnp.finfo(dtype).eps
    radius = spectral_radius(XY, make(step_size), point(0, 0, dtype=dtype))
    np.testing.assert_allclose(radius, expected, rtol=tolerance)


@pytest.mark.parametrize(
    ("make", "step_size", "expected", "tolerance"),
    [
        (alex, 2**-0.75, 2**-0.5, 1e-9),  # the best
        (alex, 0.594470, 0.70718999, 1e-6),  # as found on a grid of six digits
        # A double root loses half of the digits, a triple root two thirds.
        (named("optimistic"), 0.5, 2**-0.5, 1e-7),
        (PDHG, 1.0, 0.0, 4 * np.finfo(float).eps ** (1 / 3)),
    ],
)
def test_best_radius_on_xy(make, step_size, expected, tolerance):
    radius = spectral_radius(XY, make(step_size), ORIGIN)
    np.testing.assert_allclose(radius, expected, atol=tolerance)


@pytest.mark.parametrize(
    ("make", "best"),
    [(named("extragradient"), 2**-0.5), (named("optimistic"), 0.5), (alex, 2**-0.75)],
)
def test_other_steps_are_worse(make, best):
    left, at, right = (
        spectral_radius(XY, make(factor * best), ORIGIN) for factor in (0.99, 1, 1.01)
    )
    assert at < min(left, right)


@pytest.mark.parametrize(
    "a", [0.45, 0.55, *(pytest.param(a, marks=pytest.mark.slow) for a in (0.05, 0.9))]
)
def test_radius_closed_forms(a):
    """Along the curves, not only at the published points."""
    forms = {
        "simultaneous": np.sqrt(1 + a**2),
        "alternating": 1.0,
        "extragradient": np.sqrt(1 - a**2 + a**4),
        "optimistic": optimistic_radius(a),
        "proximal_point": 1 / np.sqrt(1 + a**2),
        "runge_kutta_2": abs(sum((-1j * a) ** n / f for n, f in enumerate((1, 1, 2)))),
        "runge_kutta_4": abs(
            sum((-1j * a) ** n / f for n, f in enumerate((1, 1, 2, 6, 24)))
        ),
        "alex_gda": np.abs(np.roots([1, -(2 - 4 * a**2), 1 - 4 * a**2, a**2])).max(),
    }
    for name, expected in forms.items():
        radius = spectral_radius(XY, gd.rules.make(name, a), ORIGIN)
        np.testing.assert_allclose(radius, expected, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        ("extragradient", 1.0),
        ("optimistic", 3**-0.5),
        ("runge_kutta_4", 8**0.5),
    ],
)
def test_stability_threshold(name, threshold):
    below = spectral_radius(XY, gd.rules.make(name, 0.999 * threshold), ORIGIN)
    above = spectral_radius(XY, gd.rules.make(name, 1.001 * threshold), ORIGIN)
    assert below < 1 - 1e-5
    assert above > 1 + 1e-5


def test_thresholds_of_pdhg_and_of_what_never_converges():
    edge = 2 / 3**0.5
    assert spectral_radius(XY, PDHG(0.999 * edge), ORIGIN) < 1
    assert spectral_radius(XY, PDHG(1.001 * edge), ORIGIN) > 1
    for a in (0.01, 0.1, 1.0, 2.0):
        assert spectral_radius(XY, gd.rules.make("runge_kutta_2", a), ORIGIN) > 1


def test_no_real_momentum_makes_simultaneous_steps_converge():
    """On a grid, the companion matrix in numpy; the rule at some of its points."""

    def radius(a, momentum):
        step = (1 + momentum) * np.eye(2) - a * np.array([[0, 1], [-1, 0]])
        rows = [[step, -momentum * np.eye(2)], [np.eye(2), np.zeros((2, 2))]]
        return np.abs(np.linalg.eigvals(np.block(rows))).max()

    steps, momenta = np.geomspace(0.02, 2, 20), np.linspace(-0.95, 0.95, 39)
    least = min(radius(a, b) for a in steps for b in momenta)
    np.testing.assert_allclose(least, 1.0000013, atol=5e-8)
    for a, momentum in ((0.02, -0.95), (0.1, -0.5), (1.0, 0.5)):
        rule = gd.simultaneous(negative_momentum(a, momentum))
        found = spectral_radius(XY, rule, ORIGIN)
        np.testing.assert_allclose(found, radius(a, momentum), rtol=1e-12)
        assert found > 1


def test_pdhg_is_nilpotent():
    x, y = solve(XY, PDHG(1.0), point(1.0, 1.0), 2).params
    assert abs(x) < 1e-15
    assert abs(y) < 1e-15


def weak_minty(rho):
    """The quadratic on which <F, z> = rho |F|^2 holds with equality, L = 1."""
    c, d = np.sqrt(1 - rho**2), rho
    return gd.zero_sum(lambda x, y: c * x * y + d / 2 * (x**2 - y**2))


@pytest.mark.parametrize(("alpha", "rho"), [(0.5, -0.25), (0.25, -0.375)])
def test_extragradient_plus_on_weak_minty(alpha, rho):
    """Converges exactly for rho > -(1 - alpha) / (2 L)."""
    rule = gd.extragradient(sgd(alpha), extrapolation=sgd(1.0))
    assert spectral_radius(weak_minty(rho + 0.01), rule, ORIGIN) < 1
    assert spectral_radius(weak_minty(rho - 0.01), rule, ORIGIN) > 1
    at = spectral_radius(weak_minty(rho), rule, ORIGIN)
    np.testing.assert_allclose(at, 1, rtol=1e-12)
    if alpha == 0.5:
        registered = gd.rules.make("extragradient_plus", 1.0)
        assert spectral_radius(weak_minty(rho), registered, ORIGIN) == at


def test_complex_momentum_converges_in_the_simultaneous_scheme():
    for alpha, expected in ((0.05, 0.98569), (0.1, 1.05298)):
        rule = gd.simultaneous(complex_momentum(alpha))
        np.testing.assert_allclose(
            spectral_radius(XY, rule, ORIGIN), expected, atol=1e-5
        )
    for alpha in (0.01, 0.05, 0.5):
        beta = 0.5 * np.exp(1j * np.pi / 8)
        rule = gd.simultaneous(complex_momentum(alpha, beta))
        assert spectral_radius(XY, rule, ORIGIN) > 1
    # The trap: without its buffer the map looks like plain simultaneous steps.
    rule = gd.simultaneous(complex_momentum(0.05))
    block = update_jacobian(XY, rule, ORIGIN).matrix[:2, :2]
    np.testing.assert_allclose(
        np.abs(np.linalg.eigvals(block)).max(), 1.00125, atol=1e-5
    )


# Rates over a spectrum.

DIAGONAL = jnp.diag(jnp.array([1.0, 2.0]))
SPECTRUM = gd.zero_sum(lambda x, y: x @ DIAGONAL @ y)
ORIGIN_2 = (jnp.zeros(2), jnp.zeros(2))


def test_best_extragradient_over_a_spectrum():
    best = 0.447213595500
    radius = spectral_radius(SPECTRUM, gd.extragradient(sgd(best)), ORIGIN_2)
    np.testing.assert_allclose(radius, 0.916515138991, rtol=1e-9)
    for other in (best - 0.01, best + 0.01):
        rule = gd.extragradient(sgd(other))
        assert spectral_radius(SPECTRUM, rule, ORIGIN_2) > radius


def test_two_step_sizes_reach_the_rate_of_the_hamiltonian():
    """eta -> 0 with gamma eta = 2 / (s_min^2 + s_max^2): (k^2 - 1) / (k^2 + 1)."""
    small = 1e-6
    rule = gd.extragradient(sgd(small), extrapolation=sgd(0.4 / small))
    np.testing.assert_allclose(
        spectral_radius(SPECTRUM, rule, ORIGIN_2), 0.6, rtol=1e-9
    )


def test_best_optimistic_over_a_spectrum():
    grid = np.linspace(0.27, 0.29, 20_001)
    radii = [max(optimistic_radius(a), optimistic_radius(2 * a)) for a in grid]
    best = grid[np.argmin(radii)]
    radius = spectral_radius(SPECTRUM, gd.optimistic(sgd(best)), ORIGIN_2)
    np.testing.assert_allclose(radius, min(radii), rtol=1e-9)
    np.testing.assert_allclose(radius, 0.956017, atol=1e-6)
    assert 1 - 1 / (6 * 2**2) - 0.005 < radius < 0.95643  # found on a coarser grid


# Exact identities.


def _nonlinear(a, b, x, y):
    coupled = jnp.tanh(x) @ a @ jnp.sin(y)
    return coupled + 0.1 * jnp.sum(x**4) - 0.2 * jnp.sum(jnp.cos(b * y) * y**2)


@functools.cache
def nonlinear(seed):
    generator = np.random.default_rng(seed)
    a = jnp.asarray(generator.normal(size=(3, 4)))
    b = jnp.asarray(generator.normal(size=4))
    start = tuple(jnp.asarray(0.5 * generator.normal(size=n)) for n in (3, 4))
    return gd.zero_sum(Partial(_nonlinear, a, b)), start


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("forward_backward_forward", "extragradient"),
        ("forward_reflected_backward", "optimistic"),
    ],
)
def test_splitting_without_constraint(left, right, seed):
    game, start = nonlinear(seed)
    paths = [path(game, gd.rules.make(n, 0.1), start, 40) for n in (left, right)]
    np.testing.assert_allclose(*paths, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_alex_gda_without_extrapolation_is_alternating(seed):
    game, start = nonlinear(seed)
    ours = path(game, alex(0.1, 1.0, 1.0), start, 40)
    theirs = path(game, gd.alternating(sgd(0.1)), start, 40)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_half_points_of_past_extragradient_are_optimistic(seed):
    game, start = nonlinear(seed)
    step_size = 0.1
    rule = gd.past_extragradient(sgd(step_size))

    def record(params, state, *_):
        # The half point of this step, from the field at the past one.
        gradient = gd.fields.gradient(game)(params)
        past = jax.tree.map(
            lambda f, p: jnp.where(state.first, f, p), gradient, state.past
        )
        half = jax.tree.map(lambda z, p: z - step_size * p, params, past)
        return jnp.concatenate(half)

    half = jax.jit(lambda z: gd.solve(game, rule, z, 40, record=record).trace)(start)
    theirs = path(game, gd.optimistic(sgd(step_size)), start, 40)[1:]
    np.testing.assert_allclose(half, theirs, rtol=0, atol=1e-12)


def test_characteristic_polynomials_of_the_optimistic_family():
    expected = [1, -2, 1.36, -0.36, 0.09]
    rules = {
        "optimistic": gd.optimistic(sgd(0.3)),
        "past": gd.past_extragradient(sgd(0.3)),
        "reflected": gd.rules.projected_reflected_gradient(sgd(0.3)),
        "optax": gd.simultaneous(optax.optimistic_gradient_descent(0.3)),
    }
    for name, rule in rules.items():
        matrix = update_jacobian(XY, rule, ORIGIN).matrix
        np.testing.assert_allclose(np.poly(matrix), expected, atol=1e-12, err_msg=name)


def test_optimistic_is_the_transformation_of_optax():
    """Also the first step: the missing past gradient is the first one."""
    game, start = nonlinear(0)
    ours = path(game, gd.optimistic(sgd(0.1)), start, 40)
    theirs = gd.simultaneous(optax.optimistic_gradient_descent(0.1))
    np.testing.assert_allclose(ours, path(game, theirs, start, 40), atol=1e-12)
    plain = path(game, gd.simultaneous(sgd(0.1)), start, 1)
    np.testing.assert_allclose(ours[:2], plain, atol=1e-15)


@pytest.mark.parametrize("extrapolation", [1.0, 2.0])
def test_pdhg_in_its_own_words(extrapolation):
    """Projected gamma = 2, delta = 1 is the primal-dual hybrid gradient method."""
    matrix = np.random.default_rng(0).normal(size=(3, 4))
    game = gd.zero_sum(lambda x, y: x @ jnp.asarray(matrix) @ y)
    box = gd.geometry.box(-0.3, 0.7)
    start = (jnp.full(3, 0.5), jnp.full(4, -0.2))
    rule = gd.rules.alex_gda(sgd(0.2), sgd(0.1), gamma=2.0, delta=1.0, geometry=box)
    ours = path(game, rule, start, 30)[-1]
    x, y = np.full(3, 0.5), np.full(4, -0.2)
    for _ in range(30):
        new = np.clip(x - 0.2 * matrix @ y, -0.3, 0.7)
        y = np.clip(
            y + 0.1 * matrix.T @ (new + (extrapolation - 1) * (new - x)), -0.3, 0.7
        )
        x = new
    gap = np.max(np.abs(ours - np.concatenate([x, y])))
    assert gap < 1e-12 if extrapolation == 2.0 else gap > 1e-3


@pytest.mark.parametrize(
    "rule",
    [
        gd.rules.make("negative_momentum", 0.5),
        gd.alternating(sgd(0.5, momentum=-0.5), sgd(0.5)),
    ],
    ids=["registered", "of optax"],
)
def test_negative_momentum_run(rule):
    x, y = solve(XY, rule, point(1.0, 1.0), 20).params
    expected = (-0.5563915383954736, 0.2980330315303945)
    np.testing.assert_allclose((x, y), expected, rtol=1e-12)


def test_negative_momentum_bound():
    radius = spectral_radius(XY, gd.rules.make("negative_momentum", 1.0), ORIGIN)
    np.testing.assert_allclose(radius**2, 0.760689853402, rtol=1e-9)
    assert radius**2 <= 1 - 1 / 16


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("simultaneous", lambda a: 1 + a**2),
        ("extragradient", lambda a: 1 - a**2 + a**4),
        ("proximal_point", lambda a: 1 / (1 + a**2)),
    ],
)
def test_normal_update_maps_shrink_mode_by_mode(name, factor):
    generator = np.random.default_rng(3)
    matrix = generator.normal(size=(3, 3))
    x, y = generator.normal(size=(2, 3))
    game = gd.zero_sum(lambda x, y: x @ jnp.asarray(matrix) @ y)
    rule = gd.rules.make(name, 0.2)
    end = solve(game, rule, (jnp.asarray(x), jnp.asarray(y)), 500).params
    u, s, vt = np.linalg.svd(matrix)
    expected = factor(0.2 * s) ** 500 @ ((u.T @ x) ** 2 + (vt @ y) ** 2)
    np.testing.assert_allclose(norm(end) ** 2, expected, rtol=1e-11)


def test_proximal_point_is_the_resolvent():
    matrix = np.random.default_rng(0).normal(size=(3, 4))
    game = gd.zero_sum(lambda x, y: x @ jnp.asarray(matrix) @ y)
    zero = (jnp.zeros(3), jnp.zeros(4))
    jacobian = np.block([[np.zeros((3, 3)), matrix], [-matrix.T, np.zeros((4, 4))]])
    ours = update_jacobian(game, gd.rules.proximal_point(0.3), zero).matrix
    np.testing.assert_allclose(
        ours, np.linalg.inv(np.eye(7) + 0.3 * jacobian), atol=1e-14
    )


@pytest.mark.parametrize("size", [3, 80])
def test_proximal_point_solves_and_differentiates_implicitly(size):
    """Dense below 128 parameters, matrix-free above; both modes of derivative."""
    generator = np.random.default_rng(1)
    matrix = jnp.asarray(generator.normal(size=(size, size)) / size**0.5)
    game = gd.zero_sum(
        lambda x, y: x @ matrix @ y + 0.1 * jnp.sum(jnp.tanh(x) ** 2 - y**4)
    )
    field = gd.fields.gradient(game)
    start = (jnp.ones(size), jnp.full(size, 0.5))
    rule = gd.rules.proximal_point(0.3)

    direction = tuple(jnp.asarray(v) for v in generator.normal(size=(2, size)))

    @jax.jit
    def step_and_derivatives(params):
        def step(params):
            return rule.update(field, params, rule.init(params), (None,))

        _, tangent = jax.jvp(lambda z: step(z)[0], (params,), (direction,))
        _, pullback, report = jax.vjp(step, params, has_aux=True)
        return *step(params), tangent, pullback(direction)[0], report

    (x, y), report, tangent, cotangent, _ = step_and_derivatives(start)
    assert not report.failed
    assert 1 <= report.inner_steps <= 5
    slope = field((x, y))
    np.testing.assert_allclose(x + 0.3 * slope[0], start[0], atol=1e-11)
    np.testing.assert_allclose(y + 0.3 * slope[1], start[1], atol=1e-11)

    back = jax.tree.map(
        lambda t, j: t + 0.3 * j, tangent, gd.fields.jvp(field, (x, y), tangent)
    )
    np.testing.assert_allclose(back, direction, atol=1e-10)
    left = sum(jnp.vdot(a, b) for a, b in zip(cotangent, direction, strict=True))
    right = sum(jnp.vdot(a, b) for a, b in zip(direction, tangent, strict=True))
    np.testing.assert_allclose(left, right, rtol=1e-9)


def test_proximal_point_reports_a_missed_tolerance():
    game = gd.zero_sum(lambda x, y: jnp.sinh(3 * x) * jnp.sinh(3 * y))
    start = point(1.0, 1.0)
    missed = solve(game, gd.rules.proximal_point(1.0, max_steps=1), start, 3)
    assert int(missed.status) == gd.Status.INNER_SOLVER
    assert missed.rule_state.failed
    fine = solve(game, gd.rules.proximal_point(0.01), start, 3)
    assert int(fine.status) == gd.Status.OK
    assert 0 < fine.rule_state.residual < 2e-12
    mixed = gd.rules.halpern(gd.rules.proximal_point(1.0, max_steps=1))
    assert int(solve(game, mixed, start, 3).status) == gd.Status.INNER_SOLVER


def test_proximal_point_takes_noise_and_reaches_offsets():
    """The batch is frozen in a step; the solution is met to the last digit."""
    game = gd.zero_sum(lambda x, y: (x - 1e4) * (y + 3e4))
    end = solve(game, gd.rules.proximal_point(2.0), point(0.0, 0.0), 100).params
    np.testing.assert_allclose(end, (1e4, -3e4), rtol=1e-15)

    noisy = gd.fields.noisy(gd.fields.gradient(XY), 0.1)
    rule, start, key = gd.rules.proximal_point(0.5), point(1.0, 1.0), jax.random.key(0)
    after, report = rule.update(noisy, start, rule.init(start), (key,))
    slope = noisy(after, key)
    for new, old, f in zip(after, start, slope, strict=True):
        np.testing.assert_allclose(new + 0.5 * f, old, atol=1e-14)
    assert not report.failed


# The anchored family.

FIRST_STEP = {
    "eag_c": 1 / 8,
    "eag_v": 0.618,
    "feg": 1.0,
    "anchored_popov": 1 / (2 * 3**0.5),
}

ANCHORED = {
    "eag_c": (
        (0.984375, 0.125),
        (0.963785807292, 0.205078125),
        (0.8868004021, 0.0452101634, 0.0079895810),
    ),
    "eag_v": (
        (0.618076, 0.618),
        (0.394383453085, 0.628954940933),
        (0.1797447905, 0.0225918027, 0.0022875454),
    ),
    "feg": ((1, 1), (0, 1), (0.2, 0, 0)),
    "anchored_popov": (
        (0.958333333333, 0.288675134595),
        (0.887345679012, 0.420761828125),
        (0.6799213668, 0.0485890497, 0.0046430318),
    ),
}


def anchored(name):
    return gd.rules.make(name, FIRST_STEP[name])


@pytest.mark.parametrize("name", ANCHORED)
def test_anchored_iterates_on_xy(name):
    first, second, norms = ANCHORED[name]
    iterates = path(XY, anchored(name), point(1.0, 0.0), 1000)
    np.testing.assert_allclose(iterates[1], first, atol=1e-9)
    np.testing.assert_allclose(iterates[2], second, atol=1e-9)
    got = np.linalg.norm(iterates, axis=1)[[10, 100, 1000]]
    np.testing.assert_allclose(got, norms, atol=1e-9)

    single = path(XY, anchored(name), point(1.0, 0.0, dtype=jnp.float32), 10)
    eps = jnp.finfo(jnp.float32).eps
    np.testing.assert_allclose(single, iterates[:11], atol=40 * eps)


def test_fast_extragradient_closed_form():
    """|z_k| = |1 - i^k| |z_0| / k, so the bound 4 / k^2 is an equality at k = 2, 6."""
    norms = np.linalg.norm(path(XY, anchored("feg"), point(1.0, 0.0), 40), axis=1)
    k = np.arange(1, 41)
    np.testing.assert_allclose(norms[1:], np.abs(1 - 1j**k) / k, atol=1e-15)
    np.testing.assert_allclose(norms[[2, 6, 10]] ** 2, 4 / np.array([2, 6, 10]) ** 2)


@pytest.mark.parametrize(
    ("name", "expected", "limit", "tolerance"),
    [
        (
            "eag_v",
            [
                0.618,
                0.490707654075,
                0.471253207588,
                0.462284362347,
                0.457049179383,
                0.453601030163,
            ],
            0.4365412200,
            1e-10,
        ),
        (
            "anchored_popov",
            [0.288675134595, 0.240562612162, 0.231505284897, 0.227293770785],
            0.215113,
            5e-7,
        ),
    ],
)
def test_anchored_step_sizes(name, expected, limit, tolerance):
    rule = anchored(name)

    @jax.jit
    def ratios(params):
        def record(params, state, *_):
            return state.ratio

        solution = (
            gd.solve(XY, rule, params, 200_000, record=record, every=20),
            gd.solve(XY, rule, params, 6, record=record),
        )
        return solution[1].trace, solution[0].rule_state.ratio

    first, last = ratios(point(1.0, 0.0))
    steps = FIRST_STEP[name] * first[: len(expected)]
    np.testing.assert_allclose(steps, expected, atol=1e-11)
    np.testing.assert_allclose(FIRST_STEP[name] * last, limit, atol=tolerance)


def linear_game(jacobian):
    """The field z -> J z, split into two players."""
    half = jacobian.shape[0] // 2

    def field(params, batch=None):
        del batch
        moved = jacobian @ jnp.concatenate(params)
        return moved[:half], moved[half:]

    return field


BOUNDS = {
    "eag_c": lambda k: 260 / (k + 1) ** 2,
    "eag_v": lambda k: 27 / ((k + 1) * (k + 2)),
    "feg": lambda k: 4 / k**2,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_anchored_bounds_on_random_monotone_problems(name):
    generator = np.random.default_rng(0)
    skew = generator.normal(size=(30, 10, 10))
    own = generator.normal(size=(30, 10, 10)) * (np.arange(30) % 2)[:, None, None]
    jacobians = skew - skew.transpose(0, 2, 1) + 0.3 * own @ own.transpose(0, 2, 1)
    jacobians /= np.linalg.norm(jacobians, 2, axis=(1, 2))[:, None, None]
    starts = generator.normal(size=(30, 10))

    def squares(jacobian, start):
        field = linear_game(jacobian)

        def record(params, *_):
            return optax.tree.norm(field(params), squared=True)

        start = start[:5], start[5:]
        return gd.solve(field, anchored(name), start, 301, record=record).trace

    got = jax.jit(jax.vmap(squares))(jnp.asarray(jacobians), jnp.asarray(starts))
    distance = np.sum(starts**2, axis=1)
    k = np.arange(1, 301)
    assert np.all(got[:, 1:] <= BOUNDS[name](k) * distance[:, None] * (1 + 1e-9))


ILL_CONDITIONED = {
    "eag_c": (5.3303596e-2, 4.7650106e-3, 8.5347084e-5),
    "eag_v": (1.6894479e-2, 4.3297586e-4, 8.4820121e-6),
    "feg": (5.6849561e-3, 1.1092246e-4, 1.6106714e-6),
    "extragradient": (2.4122714e-2, 2.7764215e-3, 2.4894487e-4),
}


@pytest.mark.parametrize("name", ILL_CONDITIONED)
def test_anchored_on_an_ill_conditioned_bilinear_game(name):
    scales = jnp.geomspace(1e-3, 1, 200)
    game = gd.zero_sum(lambda x, y: jnp.sum(scales * x * y))
    start = np.random.default_rng(0).normal(size=400)
    rule = gd.rules.make(name, FIRST_STEP.get(name, 0.5))

    @jax.jit
    def squares(params):
        def record(params, *_):
            direction = gd.fields.gradient(game)(params)
            return optax.tree.norm(direction, squared=True)

        return gd.solve(game, rule, params, 2000, record=record).trace

    got = squares((jnp.asarray(start[:200]), jnp.asarray(start[200:])))
    got = np.asarray(got) / np.sum(start**2)
    np.testing.assert_allclose(got[[10, 100, 1000]], ILL_CONDITIONED[name], rtol=1e-6)
    if name == "extragradient":  # no 1/k^2 rate
        k = np.arange(2000)
        np.testing.assert_allclose(np.max(k**2 * got), 555.9, atol=0.01)


def test_halpern_of_the_resolvent():
    """On xy, T is a fixed 2x2 matrix: compare with numpy, and the 1/k^2 rate."""
    rule = gd.rules.make("halpern", 1.0)
    iterates = path(XY, rule, point(1.0, 0.0), 200)
    resolvent = np.linalg.inv([[1.0, 1.0], [-1.0, 1.0]])
    anchor = z = np.array([1.0, 0.0])
    for k in range(200):
        z = anchor / (k + 2) + (k + 1) / (k + 2) * resolvent @ z
        np.testing.assert_allclose(iterates[k + 1], z, atol=1e-13)
    gaps = np.linalg.norm(iterates - iterates @ resolvent.T, axis=1)
    assert np.max(np.arange(201) * gaps) < 2.0


# Four players.


def _four(epsilon, params, batch):
    del batch
    return tuple(
        epsilon / 2 * w**2
        + sum((w * v for v in params[i + 1 :]), 0 * w)
        - sum((w * v for v in params[:i]), 0 * w)
        for i, w in enumerate(params)
    )


FOUR_PLAYERS = gd.Game(Partial(_four, 0.01), 4)


@pytest.mark.parametrize(
    ("name", "step_size", "expected"),
    [
        ("simultaneous", 0.1, 1.027757399023),
        ("extragradient", 0.1, 0.998141665771),
        ("optimistic", 0.1, 0.998138712981),
        ("simultaneous", 0.4, 1.387286682687),
        ("extragradient", 0.4, 0.982410846351),
        ("optimistic", 0.4, 1.857993501141),
    ],
)
def test_four_player_radii(name, step_size, expected):
    rule = gd.rules.make(name, step_size, num_players=4)
    radius = spectral_radius(FOUR_PLAYERS, rule, point(0, 0, 0, 0))
    np.testing.assert_allclose(radius, expected, rtol=1e-9)


# Nonconvex runs.


def polar(a):
    """A common potential plus a bilinear game: the flow's cycle is r = 1."""

    def potential(x, y):
        s = x**2 + y**2
        return a / 32 * (16 / 3 * s**3 - 25 / 2 * s**2 + 9 * s)

    return gd.general_sum(
        lambda x, y: potential(x, y) - x * y, lambda x, y: potential(x, y) + x * y
    )


@pytest.mark.parametrize("start", [0.9, 0.6])
@pytest.mark.parametrize(
    ("a", "step_size", "radius"),
    [
        (1 / 3, 0.1, 0.0),
        (1 / 3, 0.01, 0.980978),
        (3.0, 0.1, 0.967827),
        (3.0, 0.01, 0.997975),
    ],
)
def test_polar_game(a, step_size, radius, start):
    rule = gd.extragradient(sgd(step_size))
    end = solve(polar(a), rule, point(start, start), 20_000).params
    np.testing.assert_allclose(norm(end), radius, atol=2e-6)


@pytest.mark.parametrize("name", ["extragradient", "extragradient_plus"])
def test_forsaken_ends_on_a_cycle(name):
    def phi(z):
        return z**2 / 4 - z**4 / 2 + z**6 / 6

    game = gd.zero_sum(lambda x, y: x * (y - 0.45) + phi(x) - phi(y))
    late = path(game, gd.rules.make(name, 0.1), point(0.5, 0.5), 20_000)[-2000:]
    assert np.all(np.isfinite(late))
    assert np.all(np.ptp(late, axis=0) > 0.5)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("simultaneous", 1.0707, 1.2517),
        ("alternating", 1.0667, 1.2499),
        ("extragradient", 1.0683, 1.2448),
        ("optimistic", 1.0683, 1.2450),
    ],
)
def test_impossibility_game_makes_everybody_cycle(name, low, high):
    game = gd.zero_sum(lambda x, y: x * y - x**2 / 2 + y**2 / 2 + x**4 / 4 - y**4 / 4)
    for start in ((0.5, 0.3), (1.0, 1.0)):
        iterates = path(game, gd.rules.make(name, 0.01), point(*start), 3000)
        late = np.linalg.norm(iterates[-1000:], axis=1)
        np.testing.assert_allclose((late.min(), late.max()), (low, high), atol=1e-3)


# Adaptive and reflected runs.


@pytest.mark.parametrize(
    ("start", "final"), [((1.0, 1.0), 2.7e-14), ((1.0, 0.0), 1.9e-14)]
)
def test_adaptive_golden_ratio_on_xy(start, final):
    rule = gd.rules.adaptive_golden_ratio(0.1)
    solution = jax.jit(
        lambda z: gd.solve(XY, rule, z, 301, record=lambda z, s, *_: s.step_size)
    )(point(*start))
    steps = np.append(solution.trace, solution.rule_state.step_size)
    growth = 0.1 * (10 / 9) ** np.arange(4)
    np.testing.assert_allclose(steps[1:5], growth, rtol=1e-12)
    cycle = [0.740274, 0.822526, 0.759854, 0.683869]
    at = np.argmin(np.abs(steps[290:294] - cycle[0]))
    np.testing.assert_allclose(steps[290 + at : 294 + at], cycle, atol=1e-6)
    mean = np.exp(np.mean(np.log(steps[290 + at : 294 + at])))
    np.testing.assert_allclose(mean, 0.75, rtol=1e-6)  # half of phi
    np.testing.assert_allclose(norm(solution.params), final, rtol=0.05)


def test_adaptive_golden_ratio_at_the_golden_ratio_never_grows():
    rule = gd.rules.adaptive_golden_ratio(0.1, golden_ratio=GOLDEN)
    solution = solve(XY, rule, point(1.0, 1.0), 301)
    np.testing.assert_allclose(solution.rule_state.step_size, 0.1, rtol=1e-12)
    np.testing.assert_allclose(norm(solution.params), 0.866, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_adaptive_golden_ratio_is_finite_at_a_fixed_point(dtype):
    """0/0 neither in the state nor in a derivative, however long it stands still."""
    rule = gd.rules.adaptive_golden_ratio(0.1)

    @jax.jit
    def final(params):
        solution = gd.solve(XY, rule, params, 400)
        return solution.params, solution.rule_state

    start = point(0, 0, dtype=dtype)
    params, state = final(start)
    assert norm(params) == 0
    assert state.step_size == 1e6

    @jax.jit
    def derivative(start):
        one = jnp.ones((), dtype)
        return jax.jvp(
            lambda z: rule.update(gd.fields.gradient(XY), z, rule.init(z), (None,)),
            (start,),
            ((one, one),),
        )[1]

    matrix = update_jacobian(XY, rule, start).matrix
    assert np.all(np.isfinite(matrix))
    moved = jax.tree.leaves(derivative(start))
    assert all(np.all(np.isfinite(leaf)) for leaf in moved if leaf.dtype == dtype)


def test_adaptive_golden_ratio_is_scale_free_in_float32():
    """Squared norms of a start of 1e-25 underflow; the steps must not notice."""
    rule = gd.rules.adaptive_golden_ratio(0.1)
    record = lambda z, s, *_: s.step_size  # noqa: E731

    @jax.jit
    def steps(params):
        return gd.solve(XY, rule, params, 40, record=record).trace

    tiny = steps(point(1e-25, 1e-25, dtype=jnp.float32))
    usual = steps(point(1.0, 1.0, dtype=jnp.float32))
    np.testing.assert_allclose(tiny, usual, rtol=1e-4)


def test_forward_reflected_backward_run_and_its_wrong_sign():
    rule = gd.rules.make("forward_reflected_backward", 0.2)
    end = solve(XY, rule, point(1.0, 1.0), 300).params
    np.testing.assert_allclose(norm(end), 2.46715476e-3, rtol=1e-8)
    # The published mistake, 2F(z) + F(z_-), explodes.
    jacobian = np.array([[0.0, 1.0], [-1.0, 0.0]])
    z = np.ones(2)
    last = jacobian @ z
    for _ in range(300):
        slope = jacobian @ z
        z, last = z - 0.2 * (2 * slope + last), slope
    np.testing.assert_allclose(np.linalg.norm(z), 4.14e24, rtol=1e-3)


# Simplices.

PENNIES = jnp.array([[1.0, -1.0], [-1.0, 1.0]])


def on_simplices(matrix):
    return gd.zero_sum(Partial(lambda a, x, y: x @ a @ y, matrix))


def test_multiplicative_weights_on_matching_pennies():
    game = on_simplices(PENNIES)
    rule = gd.rules.make("optimistic_multiplicative_weights", 0.1)
    start = (jnp.array([0.9, 0.1]), jnp.array([0.2, 0.8]))
    for own in solve(game, rule, start, 4000).params:
        np.testing.assert_allclose(own, 0.5, atol=1e-6)

    plain = gd.rules.make("multiplicative_weights", 0.1)
    start = (jnp.array([0.6, 0.4]), jnp.array([0.5, 0.5]))
    _, y = solve(game, plain, start, 1000).params
    np.testing.assert_allclose(np.max(y), 0.99649, atol=1e-5)  # near the boundary


@pytest.mark.parametrize("name", ["optimistic_multiplicative_weights", "mirror_prox"])
def test_rock_paper_scissors(name):
    matrix = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    start = (jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.2, 0.6]))
    params = solve(on_simplices(matrix), gd.rules.make(name, 0.1), start, 8000).params
    for own in params:
        np.testing.assert_allclose(own, 1 / 3, atol=1e-6)
    assert abs(params[0] @ matrix @ params[1]) < 1e-9


# In units of 1/L, inside what each method's theory allows.
RELATIVE_STEP = {
    "extragradient": 0.7,
    "past_extragradient": 0.45,
    "forward_backward_forward": 0.7,
    "forward_reflected_backward": 0.45,
    "projected_reflected_gradient": 0.4,
    "adaptive_golden_ratio": 0.3,
    "alex_gda": 0.3,
    "eag_c": 0.125,
    "feg": 0.9,
}


@pytest.mark.parametrize("name", RELATIVE_STEP)
def test_projected_methods_solve_a_matrix_game(name):
    """A 5 x 7 game on simplices; its value comes from a linear programme."""
    matrix = np.random.default_rng(0).normal(size=(5, 7))
    simplex = gd.geometry.simplex()
    # Anchored methods pay in 1/k, the others converge linearly.
    slow = name in ("eag_c", "feg")
    lipschitz = np.linalg.norm(matrix, 2)
    step_size = RELATIVE_STEP[name] / lipschitz
    rule = gd.rules.make(name, step_size, geometry=simplex)
    start = (jnp.full(5, 1 / 5), jnp.full(7, 1 / 7))
    solution = solve(on_simplices(jnp.asarray(matrix)), rule, start, 10_000)
    x, y = map(np.asarray, solution.output)
    np.testing.assert_allclose((x.sum(), y.sum()), 1, rtol=1e-12)
    high, low = np.max(x @ matrix), np.min(matrix @ y)
    assert high - low < (1e-2 if slow else 1e-6)
    assert low - 1e-9 <= -0.044277052429 <= high + 1e-9


# The numbers of optax's documentation.

AFTER = [1, 4, 16, 64, 256, 1024]

DOCUMENTED = [
    (
        gd.simultaneous(optax.optimistic_gradient_descent(0.1)),
        (2.247, 2.214, 2.083, 1.632, 0.616, 0.012),
    ),
    (gd.optimistic(sgd(0.1)), (2.247, 2.214, 2.083, 1.632, 0.616, 0.012)),
    (
        gd.simultaneous(optax.optimistic_adam_v2(1.0, alpha=0.01, beta=1.0)),
        (2.2427, 2.1953, 2.1605, 2.0545, 0.7955, 0.0010),
    ),
    (
        gd.simultaneous(optax.optimistic_adam_v2(0.01)),
        (2.243, 2.256, 2.317, 2.573, 1.606, 2.100),
    ),
    (
        gd.simultaneous(optax.adam(0.01)),
        (2.2406, 2.2546, 2.3161, 2.5802, 1.6621, 2.3071),
    ),
]


def test_the_deprecated_optimistic_adam_has_other_words_for_the_same():
    with pytest.warns(DeprecationWarning, match="optimistic_adam_v2"):
        older = optax.optimistic_adam(0.01, 1.0)
    newer = optax.optimistic_adam_v2(1.0, alpha=0.01, beta=1.0)
    with jax.numpy_dtype_promotion("standard"):
        paths = [
            path(XY, gd.simultaneous(steps), point(1.0, 2.0), 64)
            for steps in (older, newer)
        ]
    np.testing.assert_allclose(*paths, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("rule", "expected"), DOCUMENTED)
def test_optax_documentation(rule, expected):
    with jax.numpy_dtype_promotion("standard"):
        iterates = path(XY, rule, point(1.0, 2.0), 1024)
    got = np.linalg.norm(iterates, axis=1)[AFTER]
    np.testing.assert_allclose(got, expected, atol=5.1e-4)


@pytest.mark.parametrize(
    ("optimism", "theirs"),
    [
        # The same weight on both terms, as published: the rate is the step size.
        (1.0, optax.optimistic_adam_v2(0.01)),
        # What optax's older name did: only the correction has weight one.
        (100.0, optax.optimistic_adam_v2(1.0, alpha=0.01, beta=1.0)),
    ],
)
def test_optimistic_adam_is_the_transformation_of_optax(optimism, theirs):
    ours = gd.optimistic(optax.adam(0.01, nesterov=True), optimism=optimism)
    with jax.numpy_dtype_promotion("standard"):
        left = path(XY, ours, point(1.0, 2.0), 100)
        right = path(XY, gd.simultaneous(theirs), point(1.0, 2.0), 100)
    np.testing.assert_allclose(left, right, rtol=1e-10)
