"""The less usual methods: published numbers, and second implementations in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import linprog, minimize

import gamedyn as gd
from gamedyn.analysis import spectral_radius, update_jacobian

sgd = optax.sgd
XY = gd.zero_sum(lambda x, y: x * y)
ORIGIN = (jnp.float64(0), jnp.float64(0))
DIAGONAL = jnp.diag(jnp.array([1.0, 2.0]))
SPECTRUM = gd.zero_sum(lambda x, y: x @ DIAGONAL @ y)
ORIGIN_2 = (jnp.zeros(2), jnp.zeros(2))
GOLDEN = (1 + 5**0.5) / 2


def point(*values, dtype=jnp.float64):
    return tuple(jnp.asarray(value, dtype) for value in values)


@functools.partial(jax.jit, static_argnums=(1, 3))
def path(game, rule, params, num_steps):
    """All iterates, the start first, as an array (num_steps + 1, d)."""

    def record(params, *_):
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])

    solution = gd.solve(game, rule, params, num_steps, record=record)
    return jnp.concatenate([solution.trace, record(solution.params)[None]])


def norms(iterates):
    return np.linalg.norm(iterates, axis=1)


# A monotone field for the runs in numpy, and the same as a game.

MATRIX = np.array([[0.3, 1.0], [-1.0, 0.1]])
AFFINE = gd.general_sum(
    lambda x, y: 0.15 * x**2 + x * y - x, lambda x, y: 0.05 * y**2 - x * y + 0.5 * y
)
START = np.array([1.0, -0.5])


def field(z):
    return MATRIX @ z + np.array([-1.0, 0.5])


def clip(z):
    return np.clip(z, -0.4, 0.6)


BOX = gd.geometry.box(-0.4, 0.6)


def agrees(rule, expected, tolerance=1e-12):
    """Compare a run on the affine game with iterates made otherwise."""
    got = path(AFFINE, rule, point(*START), len(expected) - 1)
    np.testing.assert_allclose(got, expected, atol=tolerance)


# Optimistic relatives.


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (3.0, (1.74766961, 0.57153805, 0.28616756)),
        (5.0, (0.56683019, 0.01798810, 0.00225578)),
        (2.1, (3.567158, 3.341650, 3.120380)),
    ],
)
def test_fast_optimistic_on_xy(alpha, expected):
    rule = gd.rules.fast_optimistic(1 / 8, alpha=alpha)
    k = np.array([100, 1000, 4000])
    got = k * norms(path(XY, rule, point(1.0, 0.0), 4000))[k]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_generalised_optimistic():
    """Equal weights are OGDA; on xy the characteristic polynomial is the published."""
    equal = gd.rules.make("generalised_optimistic", 0.1, ratio=1.0)
    agrees(equal, path(AFFINE, gd.optimistic(sgd(0.1)), point(*START), 30))
    alpha, beta = 0.3, 0.2
    rule = gd.rules.make("generalised_optimistic", alpha, ratio=beta / alpha)
    factor = np.array([1, -(1 - 1j * (alpha + beta)), -1j * beta])
    expected = np.real(np.polymul(factor, factor.conj()))
    matrix = update_jacobian(XY, rule, ORIGIN).matrix
    np.testing.assert_allclose(np.poly(matrix), expected, atol=1e-12)


def test_best_generalised_optimistic_over_a_spectrum():
    """Free weights reach at least .94245 for singular values in [1, 2]."""

    def worst(weights):
        alpha, beta = weights
        sigma = np.linspace(1, 2, 41)
        roots = [
            np.roots([1, -(1 - 1j * (alpha + beta) * s), -1j * beta * s]) for s in sigma
        ]
        return np.abs(roots).max()

    best = minimize(worst, (0.3, 0.3), method="Nelder-Mead", options={"xatol": 1e-7})
    assert best.fun <= 0.94246
    alpha, beta = best.x
    rule = gd.rules.make("generalised_optimistic", alpha, ratio=beta / alpha)
    radius = spectral_radius(SPECTRUM, rule, ORIGIN_2)
    assert radius <= best.fun + 1e-9


def test_best_alternating_optimistic_over_a_spectrum():
    """alpha = sqrt 2 / s1, past weight sqrt 2 s1 / (s1^2 + sn^2) in x only."""
    alpha, past = 2**0.5 / 2, 2**0.5 * 2 / (4 + 1)
    rule = gd.rules.make("alternating_optimistic", alpha, ratio=past / alpha)
    radius = spectral_radius(SPECTRUM, rule, ORIGIN_2)
    np.testing.assert_allclose(radius, (3 / 5) ** 0.5, rtol=1e-7)
    # In its own words: x' = x - alpha s y + beta s y-, y' = y + alpha s x'.
    iterates = path(XY, rule, point(1.0, 0.5), 20)
    x, y, last = 1.0, 0.5, 0.5
    for k in range(20):
        x, last = x - alpha * y + past * last, y
        y = y + alpha * x
        np.testing.assert_allclose(iterates[k + 1], (x, y), atol=1e-13)


def test_best_alternating_heavy_ball_over_a_spectrum():
    """Free momenta and steps reach at least .92171 for singular values 1 to 2."""

    def rule(weights):
        step, first, second = weights
        return gd.alternating(sgd(step, momentum=first), sgd(step, momentum=second))

    def worst(weights):
        step, first, second = weights
        moduli = []
        for a in step * np.linspace(1, 2, 21):
            # z+ = z - h g + b (z - z-), in turn; state (x, y, x-, y-).
            x = np.array([1 + first, -a, -first, 0])
            y = a * x + np.array([0, 1 + second, 0, -second])
            moduli += [np.linalg.eigvals([x, y, [1, 0, 0, 0], [0, 1, 0, 0]])]
        return np.abs(moduli).max()

    options = {"maxiter": 400, "xatol": 1e-6, "fatol": 1e-9}
    starts = [(0.7, -0.3, -0.1), (0.9, -0.5, 0.2)]
    found = [minimize(worst, s, method="Nelder-Mead", options=options) for s in starts]
    best = min(found, key=lambda result: result.fun)
    assert best.fun <= 0.92172
    radius = spectral_radius(SPECTRUM, rule(best.x), ORIGIN_2)
    assert radius <= best.fun + 1e-9


def test_momentum_extragradient():
    rule = gd.rules.make("momentum_extragradient", 0.2, momentum=-0.3)
    z, last, expected = START, START, [START]
    for _ in range(30):
        moved = z - 0.2 * field(z - 0.2 * field(z)) - 0.3 * (z - last)
        z, last = moved, z
        expected.append(z)
    agrees(rule, expected)


# Weak Minty.


def weak_minty(rho):
    """The quadratic on which <F, z> = rho |F|^2 holds with equality, L = 1."""
    c, d = np.sqrt(1 - rho**2), rho
    return gd.zero_sum(lambda x, y: c * x * y + d / 2 * (x**2 - y**2))


def test_a_single_projection_is_none_without_constraints():
    one = gd.rules.half_step_extragradient(0.3, weight=0.5)
    agrees(
        one, path(AFFINE, gd.rules.make("extragradient_plus", 0.3), point(*START), 30)
    )
    projected = gd.rules.half_step_extragradient(0.3, weight=0.25, geometry=BOX)
    z, expected = START, [START]
    for _ in range(30):
        ahead = z - 0.3 * field(z)
        z = z - 0.25 * (ahead - clip(ahead) + 0.3 * field(clip(ahead)))
        expected.append(z)
    agrees(projected, expected)


@pytest.mark.parametrize("weight", [0.5, 0.25])
def test_threshold_of_the_half_step(weight):
    """On the weak Minty quadratic exactly rho = -(1 - alpha) / 2."""
    rule = gd.rules.half_step_extragradient(1.0, weight=weight)
    edge = -(1 - weight) / 2
    for rho, sign in ((edge, 0), (edge + 0.01, -1), (edge - 0.01, 1)):
        radius = spectral_radius(weak_minty(rho), rule, ORIGIN)
        assert np.sign(np.round(radius - 1, 12)) == sign


def test_curvature_extragradient_by_hand():
    rule = gd.rules.curvature_extragradient(
        3.0, relaxation=1.5, weak_minty=-0.1, shrink=0.7
    )
    z, expected = START, [START]
    for _ in range(20):
        gamma, slope = 3.0, field(z)
        while gamma * np.linalg.norm(MATRIX @ (gamma * slope)) > 0.99 * np.linalg.norm(
            gamma * slope
        ):
            gamma *= 0.7
        ahead = field(z - gamma * slope)
        ratio = -0.1 + slope @ ahead / (ahead @ ahead)
        z = z - 1.5 * ratio * gamma * ahead
        expected.append(z)
    agrees(rule, expected)


@pytest.mark.parametrize("name", ["adaptive", "curvature"])
def test_curvature_extragradient_beyond_a_fixed_half_step(name):
    """At rho = -.4 the half step of EG+ diverges; delta = -.45 converges."""
    game = weak_minty(-0.4)
    step_size = 0.99 if name == "adaptive" else 50.0  # found by the line search
    rule = gd.rules.make(f"{name}_extragradient_plus", step_size, weak_minty=-0.45)
    far = norms(path(game, rule, point(1.0, 1.0), 2000))
    assert far[-1] < 1e-6
    plus = gd.rules.make("extragradient_plus", 1.0)
    assert spectral_radius(game, plus, ORIGIN) > 1.05


def test_curvature_extragradient_at_a_solution():
    rule = gd.rules.make("curvature_extragradient_plus", 1.0)
    assert np.all(path(XY, rule, ORIGIN, 5) == 0)


def test_stochastic_plus_moves_ever_less():
    """On independent samples, here the same, with weights 1/2, 1/4, 1/6, ..."""
    rule = gd.rules.make("stochastic_extragradient_plus", 0.3)
    assert rule.num_batches == 2
    z, expected = START, [START]
    for t in range(10):
        z = z - 0.3 * 0.5 / (t + 1) * field(z - 0.3 * field(z))
        expected.append(z)
    agrees(rule, expected)


# Anchors.


def test_decaying_anchor():
    rule = gd.rules.decaying_anchor_extragradient(0.3, alpha=2.5, beta=3.0)
    z, expected = START, [START]
    for k in range(30):
        pulls = 2.5 / (k + 3), 2.5 / (k + 4)
        ahead = z - pulls[0] * (z - START) - 0.3 * field(z)
        z = START + (z - START - 0.3 * field(ahead)) / (1 + pulls[1])
        expected.append(z)
    agrees(rule, expected)


def test_decaying_anchor_rate():
    """k |F| stays bounded, and z tends to the solution nearest to the start."""
    game = gd.zero_sum(lambda x, y: x[0] * y)  # x[1] is free
    rule = gd.rules.decaying_anchor_extragradient(0.5, alpha=3.0)
    start = (jnp.array([1.0, 2.0]), jnp.float64(1))
    iterates = path(game, rule, start, 4000)
    slopes = np.hypot(iterates[:, 0], iterates[:, 2])
    scaled = slopes * np.arange(4001)
    assert scaled[2000:].max() <= scaled.max()
    assert scaled[-1] < 20
    np.testing.assert_allclose(iterates[-1], (0, 2, 0), atol=5e-3)


def test_anchored_descent():
    rule = gd.rules.make("anchored_descent", 0.3)
    z, expected = START, [START]
    for k in range(1, 31):
        z = z - 0.3 / k**0.7 * field(z) + 0.3 / k**0.9 * (START - z)
        expected.append(z)
    agrees(rule, expected)
    # It converges where plain descent cannot.
    assert norms(path(XY, rule, point(1.0, 1.0), 20_000))[-1] < 0.25


def test_restarts_make_anchored_steps_linear():
    rule = gd.rules.make("restarted_feg", 0.9)
    assert rule.period == 20
    inner = gd.rules.make("feg", 0.9)
    z, expected = point(1.0, 0.5), []
    for _ in range(3):
        iterates = path(XY, inner, z, 20)
        expected += [iterates[:-1]]
        z = point(*iterates[-1])
    ours = path(XY, rule, point(1.0, 0.5), 60)
    np.testing.assert_allclose(ours[:-1], np.concatenate(expected), atol=1e-15)
    far = norms(path(XY, rule, point(1.0, 0.5), 400))
    assert far[400] < 1e-10
    assert norms(path(XY, inner, point(1.0, 0.5), 400))[400] > 1e-4
    radius = spectral_radius(XY, rule, ORIGIN)
    np.testing.assert_allclose(far[400] / far[380], radius**20, rtol=1e-6)


# Adaptive steps.


def test_golden_ratio():
    for geometry, project in ((gd.geometry.euclidean, lambda z: z), (BOX, clip)):
        rule = gd.rules.golden_ratio(0.4, geometry=geometry)
        z, mean, expected = START, START, [START]
        for _ in range(30):
            mean = ((GOLDEN - 1) * z + mean) / GOLDEN
            z = project(mean - 0.4 * field(z))
            expected.append(z)
        agrees(rule, expected)


def test_golden_ratio_converges_up_to_its_bound():
    """For monotone fields lambda = phi / (2 L) is allowed."""
    rule = gd.rules.golden_ratio(GOLDEN / 2)
    assert spectral_radius(XY, rule, ORIGIN) < 0.9
    # On xy the map is z' = m' - h J z, m' = (1 - 1/p) z + m/p: in numpy, beyond it too.
    share, skew = 1 / GOLDEN, np.array([[0.0, 1.0], [-1.0, 0.0]])
    one = np.eye(2)
    for h in (0.3, 1.0, 1.3):
        means = np.hstack([(1 - share) * one, share * one])
        matrix = np.vstack([means - np.hstack([h * skew, 0 * one]), means])
        expected = np.abs(np.linalg.eigvals(matrix)).max()
        radius = spectral_radius(XY, gd.rules.golden_ratio(h), ORIGIN)
        np.testing.assert_allclose(radius, expected, rtol=1e-9)


def adaptive_run(step_of, gain, weight_of, project=lambda z: z):
    """Extragradient in numpy with steps from a running total; also its average."""
    z, total, expected, middles, weights = START, 0.0, [START], [], []
    for _ in range(40):
        eta = step_of(total)
        slope = field(z)
        middle = project(z - eta * slope)
        end = project(z - eta * field(middle))
        total += gain(z, middle, end, field(middle) - slope, eta)
        middles.append(middle)
        weights.append(weight_of(eta))
        z = end
        expected.append(z)
    return expected, np.average(middles, axis=0, weights=weights)


@pytest.mark.parametrize("constrained", [False, True])
def test_adaptive_extragradients(constrained):
    geometry = BOX if constrained else gd.geometry.euclidean
    project = clip if constrained else lambda z: z
    runs = {
        # The published run: D = sqrt 2 and G_0^2 = 2.
        "universal_mirror_prox": adaptive_run(
            lambda total: 2**0.5 / np.sqrt(2 + total),
            lambda z, middle, end, change, eta: (
                (np.sum((middle - end) ** 2) + np.sum((middle - z) ** 2)) / (5 * eta**2)
            ),
            lambda eta: 1.0,
            project,
        ),
        "adaptive_mirror_prox": adaptive_run(
            lambda total: 1 / np.sqrt(1 + total),
            lambda z, middle, end, change, eta: change @ change,
            lambda eta: eta,
            project,
        ),
    }
    for name, (expected, average) in runs.items():
        rule = gd.rules.make(name, 1.0, geometry=geometry)
        agrees(rule, expected)
        solve = jax.jit(lambda z, rule=rule: gd.solve(AFFINE, rule, z, 40).output)
        np.testing.assert_allclose(solve(point(*START)), average, atol=1e-12)


# Mixing, slingshots, primal and dual.


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (gd.alternating(sgd(0.1)), (1.4135416542, 1.4111867183, 0)),
        (gd.extragradient(sgd(0.1)), (1.4071957931, 1.4002121480, 0)),
        (gd.simultaneous(sgd(0.1)), (1.4212670404,) * 3),
    ],
)
def test_anderson_mixing_on_xy(inner, expected):
    rule = gd.rules.anderson(inner, memory=2)
    got = norms(path(XY, rule, point(1.0, 1.0), 3))[1:]
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_anderson_mixing_is_exact_on_linear_maps():
    generator = np.random.default_rng(0)
    matrix = jnp.asarray(generator.normal(size=(2, 3)))
    game = gd.zero_sum(lambda x, y: x @ matrix @ y + jnp.sum(x**2) - jnp.sum(y**2))
    start = tuple(jnp.asarray(generator.normal(size=n)) for n in (2, 3))
    rule = gd.rules.make("anderson", 0.1, memory=5)
    far = norms(path(game, rule, start, 7))
    assert far[5] > 1e-3
    assert far[6] < 1e-9
    with pytest.raises(TypeError, match="takes a Rule"):
        gd.rules.anderson(sgd(0.1))
    with pytest.raises(ValueError, match="memory must be a positive integer"):
        gd.rules.anderson(gd.simultaneous(sgd(0.1)), memory=0)


def test_two_slingshots_are_a_contraction():
    """(h, -h), then (-h, h): exactly 1 - h^2 s^2."""
    for h in (0.1, 0.3, 1.0):
        rule = gd.rules.make("slingshot", h)
        two = update_jacobian(XY, rule, ORIGIN)
        assert two.period == 2
        np.testing.assert_allclose(two.matrix, (1 - h**2) * np.eye(2), atol=1e-15)
    iterates = path(SPECTRUM, gd.rules.make("slingshot", 0.3), (jnp.ones(2),) * 2, 2)
    np.testing.assert_allclose(iterates[2], [0.91, 0.64, 0.91, 0.64], atol=1e-15)


def test_primal_dual_on_xy():
    for a in (0.1, 0.5, 0.9):
        radius = spectral_radius(XY, gd.rules.make("primal_dual", a), ORIGIN)
        np.testing.assert_allclose(radius, np.sqrt(1 - a**2), rtol=1e-9)
    iterates = path(XY, gd.rules.make("primal_dual", 1.0), point(1.0, 1.0), 2)
    np.testing.assert_allclose(iterates[2], 0, atol=1e-15)


def test_primal_dual_solves_a_linear_programme():
    """min |x|_1 with A x = b, against HiGHS."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(4, 10))
    b = a @ (generator.normal(size=10) * (generator.random(10) < 0.3))
    programme = linprog(np.ones(20), A_eq=np.hstack([a, -a]), b_eq=b, method="highs")
    game = gd.zero_sum(lambda x, y: y @ (jnp.asarray(a) @ x - jnp.asarray(b)))

    def identity(point, step):
        del step
        return point

    rule = gd.rules.make(
        "primal_dual",
        0.9 / np.linalg.norm(a, 2),
        prox=(gd.geometry.soft_threshold, identity),
    )
    start = (jnp.zeros(10), jnp.zeros(4))
    x = np.asarray(path(game, rule, start, 4000)[-1][:10])
    np.testing.assert_allclose(a @ x, b, atol=1e-8)
    np.testing.assert_allclose(np.abs(x).sum(), programme.fun, rtol=1e-8)
    np.testing.assert_allclose(x, programme.x[:10] - programme.x[10:], atol=1e-7)


def test_proximal_maps():
    """Of the l1 norm: the trap of an unsquared norm would give (0, 0)."""
    for dtype in (jnp.float32, jnp.float64):
        got = gd.geometry.soft_threshold(jnp.array([3.0, 0.5, -2.0], dtype), 1.0)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, [2.0, 0.0, -1.0])
    v = np.random.default_rng(0).normal(size=3)

    def objective(w):
        return 0.4 * np.abs(w).sum() + 0.5 * np.sum((w - v) ** 2)

    ours = np.asarray(gd.geometry.soft_threshold(jnp.asarray(v), 0.4))
    brute = minimize(objective, v, method="Nelder-Mead", options={"xatol": 1e-10})
    np.testing.assert_allclose(ours, brute.x, atol=1e-4)
    assert objective(ours) <= brute.fun + 1e-12
    domain = gd.geometry.proximal(gd.geometry.soft_threshold, 0.4)
    moved = domain.apply(jnp.asarray(v), jnp.zeros(3))
    np.testing.assert_allclose(moved, ours, rtol=1e-15)
    # At a solution of min |x|_1 + (x - 3)^2 / 2 the natural residual vanishes.
    at = (jnp.array(2.0),)
    residual = gd.geometry.natural_residual(at, (jnp.array(-1.0),), domain)
    assert residual < 1e-15
    with pytest.raises(TypeError, match="proximal map must be a function"):
        gd.geometry.proximal(1.0, 0.1)
    with pytest.raises(ValueError, match="step_size must be positive"):
        gd.geometry.proximal(gd.geometry.soft_threshold, 0.0)


# One line each: what they are made of.

COMPOSED = {
    "inner_steps": gd.alternating(sgd(0.1), order=(1, 1, 1, 1, 1, 0)),
    "two_time_scales": gd.simultaneous(sgd(0.1), sgd(0.4)),
    "nested_lookahead": gd.lookahead(
        gd.lookahead(gd.simultaneous(sgd(0.1)), period=5, strength=0.5),
        period=50,
        strength=0.5,
    ),
    "exponentially_averaged_extragradient": gd.extragradient(sgd(0.1)),
    "restarted_feg": gd.rules.restarted(
        gd.rules.anchored_extragradient(0.1, variant="feg"), period=20
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_compositions(name):
    expected = path(AFFINE, COMPOSED[name], point(*START), 60)
    agrees(gd.rules.make(name, 0.1), expected, 1e-13)


def test_linear_averages():
    rule = gd.averaged(gd.extragradient(sgd(0.3)), kind="linear")
    iterates = path(AFFINE, rule, point(*START), 25)
    solve = jax.jit(lambda z: gd.solve(AFFINE, rule, z, 25).output)
    expected = np.average(iterates, axis=0, weights=np.arange(1, 27))
    np.testing.assert_allclose(solve(point(*START)), expected, atol=1e-14)


# Projected methods against linear programming.

SOLVES = {
    "golden_ratio": (0.7, 1e-6),
    "half_step_extragradient": (0.9, 1e-6),
    "primal_dual": (0.9, 1e-6),
    "restarted_feg": (0.9, 1e-5),
    "universal_mirror_prox": (1.0, 1e-2),
    "adaptive_mirror_prox": (1.0, 1e-2),
}


@pytest.mark.parametrize("name", SOLVES)
def test_projected_methods_solve_a_matrix_game(name):
    matrix = np.random.default_rng(0).normal(size=(5, 7))
    step, gap = SOLVES[name]
    rule = gd.rules.make(
        name, step / np.linalg.norm(matrix, 2), geometry=gd.geometry.simplex()
    )
    game = gd.zero_sum(lambda x, y: x @ jnp.asarray(matrix) @ y)
    start = jnp.full(5, 1 / 5), jnp.full(7, 1 / 7)
    x, y = jax.jit(lambda z: gd.solve(game, rule, z, 10_000).output)(start)
    high, low = np.max(x @ matrix), np.min(matrix @ y)
    assert high - low < gap
    assert low - 1e-9 <= -0.044277052429 <= high + 1e-9


# The interior-point method.


def solve_inside(game, constraints, start, num_steps=49, **options):
    rule = gd.rules.interior_point(12.5, constraints=constraints, **options)
    return jax.jit(lambda z: gd.solve(game, rule, z, num_steps))(start)


def test_interior_point_on_a_box():
    """Against projected extragradient, which knows the box as a set."""
    generator = np.random.default_rng(2)
    matrix = jnp.asarray(generator.normal(size=(3, 2)))
    offset = jnp.asarray(3 * generator.normal(size=3))
    game = gd.zero_sum(
        lambda x, y: x @ matrix @ y + offset @ x + 0.5 * jnp.sum(x**2) - jnp.sum(y**2)
    )
    start = jnp.zeros(3), jnp.zeros(2)
    rule = gd.extragradient(sgd(0.2), geometry=gd.geometry.box(-0.5, 0.5))
    expected = path(game, rule, start, 3000)[-1]
    assert np.any(np.abs(expected) == 0.5)
    assert np.any(np.abs(expected) < 0.49)
    solution = solve_inside(
        game,
        lambda z: jax.tree.map(lambda leaf: (leaf - 0.5, -leaf - 0.5), z),
        start,
        num_steps=600,
    )
    assert int(solution.status) == gd.Status.OK
    got = np.concatenate(solution.output)
    assert np.all(np.abs(got) < 0.5)  # strictly inside
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_interior_point_on_a_coupled_constraint():
    """A disc over both players' parameters: the variational solution by its KKT."""
    game = gd.zero_sum(lambda x, y: (x + 2) * (y - 1))
    solution = solve_inside(
        game, lambda z: z[0] ** 2 + z[1] ** 2 - 1, point(0.1, 0.1), num_steps=600
    )
    x, y = map(float, solution.output)
    assert x**2 + y**2 < 1
    # F(z) + lambda * 2 z = 0 with a non-negative lambda, on the circle.
    slope = np.array([y - 1, -(x + 2)])
    z = np.array([x, y])
    np.testing.assert_allclose(x**2 + y**2, 1, atol=1e-5)
    multiplier = -slope @ z
    assert multiplier > 0
    np.testing.assert_allclose(slope + multiplier * z, 0, atol=1e-4)


def test_interior_point_where_projected_steps_cycle():
    """A bilinear game around (1, 1) in a box: alternation goes round, inside or not."""
    quadrant = gd.geometry.box(0.05, 4.0)
    cycle = gd.alternating(sgd(0.1), geometry=quadrant)
    shifted = gd.zero_sum(lambda x, y: (x - 1) * (y - 1))
    late = path(shifted, cycle, point(1.5, 1.5), 2000)[-200:]
    assert np.ptp(late, axis=0).min() > 0.5
    solution = solve_inside(
        shifted,
        lambda z: [0.05 - z[0], 0.05 - z[1], z[0] - 4, z[1] - 4],
        point(1.5, 1.5),
        num_steps=400,
    )
    np.testing.assert_allclose(solution.output, (1, 1), atol=1e-4)


def test_interior_point_checks_its_input():
    with pytest.raises(ValueError, match="needs inequality constraints"):
        gd.rules.interior_point(1.0)
    with pytest.raises(TypeError, match="constraints must be a function"):
        gd.rules.interior_point(1.0, constraints=3)
    rule = gd.rules.interior_point(1.0, constraints=lambda z: z[0] - 1)
    with pytest.raises(ValueError, match="strictly inside: a constraint is 0.5"):
        rule.init(point(1.5, 0.0))
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="barrier_decay must lie in"):
            gd.rules.interior_point(1.0, constraints=abs, barrier_decay=wrong)


def test_options_are_checked():
    with pytest.raises(ValueError, match="alpha must be above 2"):
        gd.rules.fast_optimistic(0.1, alpha=2.0)
    with pytest.raises(ValueError, match="expected 0 < alpha <= beta"):
        gd.rules.decaying_anchor_extragradient(0.1, alpha=3.0, beta=2.0)
    with pytest.raises(ValueError, match="pull must be positive"):
        gd.rules.anchored_descent(0.1, pull=0.0)
    with pytest.raises(ValueError, match="diameter must be positive"):
        gd.rules.universal_mirror_prox(0.1, diameter=0.0)
    for builder in (
        gd.rules.half_step_extragradient,
        gd.rules.bias_corrected_extragradient,
    ):
        for wrong in (0.0, 1.5):
            with pytest.raises(ValueError, match="weight must lie in"):
                builder(0.1, weight=wrong)
    for name, wrong in (
        ("relaxation", 2.0),
        ("safety", 1.0),
        ("shrink", 0.0),
        ("weak_minty", -0.5),
    ):
        with pytest.raises(ValueError, match=f"{name} must lie in"):
            gd.rules.curvature_extragradient(0.1, **{name: wrong})
    with pytest.raises(TypeError, match="takes a Rule"):
        gd.rules.restarted(sgd(0.1), period=2)
    with pytest.raises(ValueError, match="period must be a positive integer"):
        gd.rules.restarted(gd.simultaneous(sgd(0.1)), period=0)
