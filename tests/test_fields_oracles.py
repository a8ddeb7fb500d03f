"""Closed forms and published numbers that the fields must reproduce."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from polynomial_game import PolynomialGame

import gamedyn as gd
from gamedyn.analysis import game_jacobian, spectral_radius, update_jacobian

XY = gd.zero_sum(lambda x, y: x * y)
ORIGIN = (jnp.float64(0), jnp.float64(0))


def steps(step_size):
    return gd.simultaneous(optax.sgd(step_size))


def radius(name, step_size, game=XY, point=ORIGIN, **options):
    field, rule = gd.methods.make(name, game, step_size, **options)
    return spectral_radius(field, rule, point)


def matrix(field, rule, point):
    """The Jacobian of the parameters' own update."""
    size = sum(leaf.size for leaf in point)
    return update_jacobian(field, rule, point).matrix[:size, :size]


@functools.partial(jax.jit, static_argnums=(1, 3))
def run(field, rule, start, num_steps):
    return gd.solve(field, rule, start, num_steps)


# Spectral radii on the game xy.

RADII = [
    ("opponent_lookahead", 0.1, 0.995037687728, {}),
    ("level_k", 0.1, 1.004987562112, {"level": 1}),
    ("level_k", 0.1, 0.995037687728, {"level": 2}),
    ("competitive", 0.1, 0.995037190210, {}),
    ("competitive_gradient", 0.1, 0.995037190210, {}),
    ("symplectic", 0.1, 0.905538513814, {}),
    ("consensus", 0.1, 0.905538513814, {}),
    ("hamiltonian", 0.1, 0.9, {}),
    ("unrolled", 0.1, 0.994987437107, {"num_steps": 1}),
    ("unrolled", 0.1, 0.953939201417, {"num_steps": 5}),
    ("symplectic", 0.5, 2**-0.5, {}),  # the best step
    ("symplectic", 1.0, 1.0, {}),  # the largest
    ("symplectic_aligned", 0.1, 0.905538513814, {}),
]


@pytest.mark.parametrize(
    "dtype", [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("name", "step_size", "expected", "options"), RADII)
def test_radius_on_xy(name, step_size, expected, options, dtype):
    tolerance = 1e-9 if dtype == jnp.float64 else 20 * jnp.finfo(dtype).eps
    if dtype == jnp.float32 and "competitive" in name:
        tolerance = 1e-5  # of the inner solver
    point = tuple(leaf.astype(dtype) for leaf in ORIGIN)
    got = radius(name, step_size, point=point, **options)
    np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_symplectic_is_stable_below_one_and_best_at_a_half():
    assert radius("symplectic", 0.999) < 1 < radius("symplectic", 1.001)
    best = radius("symplectic", 0.5)
    assert all(best < radius("symplectic", h) for h in (0.45, 0.55))


@pytest.mark.parametrize("eta", [0.2, 0.9])
def test_unrolled_closed_form(eta):
    for k in (2, 3):
        got = radius("unrolled", eta, num_steps=k)
        determinant = 1 - (2 * k - 1) * eta**2
        trace = 2 - 2 * k * eta**2
        expected = np.abs(np.roots([1, -trace, determinant])).max()
        np.testing.assert_allclose(got, expected, rtol=1e-7)


# Exact identities.


def bilinear(shape, seed=0):
    random = np.random.default_rng(seed)
    payoff = Partial(lambda a, x, y: x @ a @ y, jnp.asarray(random.normal(size=shape)))
    return gd.zero_sum(payoff), (jnp.zeros(shape[0]), jnp.zeros(shape[1]))


def quadratic(dimensions=(3, 2), seed=0):
    """A random zero-sum quadratic, the follower's own curvature positive."""
    random = np.random.default_rng(seed)
    d = sum(dimensions)
    hessian = random.normal(size=(d, d))
    hessian = hessian + hessian.T
    hessian[dimensions[0] :, dimensions[0] :] -= 6 * np.eye(dimensions[1])

    def payoff(h, x, y):
        z = jnp.concatenate([x, y])
        return z @ h @ z / 2

    game = gd.zero_sum(Partial(payoff, jnp.asarray(hessian)))
    return game, tuple(jnp.zeros(size) for size in dimensions), hessian


def test_normal_update_maps_shrink_mode_by_mode():
    """On x'Ay the maps are polynomials of a skew J, so that squared norms add up."""
    forms = {
        "hamiltonian": lambda h, s: (1 - h * s**2) ** 2,
        "consensus": lambda h, s: (1 - h * s**2) ** 2 + (h * s) ** 2,
        "symplectic": lambda h, s: (1 - h * s**2) ** 2 + (h * s) ** 2,
    }
    random = np.random.default_rng(3)
    payoff, (x, y) = random.normal(size=(3, 3)), random.normal(size=(2, 3))
    game = gd.zero_sum(lambda x, y: x @ jnp.asarray(payoff) @ y)
    u, s, vt = np.linalg.svd(payoff)
    h = 0.5 / s[0] ** 2

    @jax.jit
    def ends(params):
        return [
            gd.solve(gd.fields.make(n, game), steps(h), params, 500).params
            for n in forms
        ]

    found = ends((jnp.asarray(x), jnp.asarray(y)))
    for end, (name, factor) in zip(found, forms.items(), strict=True):
        expected = factor(h, s) ** 500 @ ((u.T @ x) ** 2 + (vt @ y) ** 2)
        got = float(optax.tree.norm(end, squared=True))
        np.testing.assert_allclose(got, expected, rtol=1e-11, err_msg=name)


def test_the_hamiltonian_reaches_the_two_step_rate():
    """h = 2 / (s_min^2 + s_max^2): (k^2 - 1) / (k^2 + 1)."""
    game = gd.zero_sum(lambda x, y: x[0] * y[0] + 2 * x[1] * y[1])
    got = radius("hamiltonian", 0.4, game, (jnp.zeros(2), jnp.zeros(2)))
    np.testing.assert_allclose(got, 0.6, rtol=1e-12)


@pytest.mark.parametrize("shape", ["two pytrees", "three pytrees"])
def test_halves_of_the_jacobian(shape):
    """A'F = (J'F - JF) / 2, and J'F is the slope of |F|^2 / 2."""
    case = PolynomialGame(shape)
    gradient = gd.fields.gradient(case.game)

    @jax.jit
    def both(z):
        field = gradient(z)
        back = gd.fields.vjp(gradient, z, field)
        ahead = gd.fields.jvp(gradient, z, field)
        turned = jax.tree.map(lambda b, a: (b - a) / 2, back, ahead)
        slope = jax.grad(lambda z: optax.tree.norm(gradient(z), squared=True) / 2)(z)
        adjusted = gd.fields.symplectic(case.game)(z)
        added = jax.tree.map(jnp.subtract, adjusted, field)
        pairs = (added, turned), (gd.fields.hamiltonian(case.game)(z), slope)
        return [[ravel_pytree(part)[0] for part in pair] for pair in pairs]

    for ours, other in both(case.params):
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-12 * abs(other).max())


@pytest.mark.parametrize(
    "shape",
    [(2, 4), *(pytest.param(s, marks=pytest.mark.slow) for s in ((3, 3), (4, 1)))],
)
def test_competitive_descent_is_the_proximal_point_method_on_bilinear_games(shape):
    game, zero = bilinear(shape)
    for eta in (0.3, 2.0):
        implicit = matrix(game, gd.proximal_point(eta), zero)
        cold = matrix(gd.fields.competitive(game, eta), steps(eta), zero)
        warm = matrix(game, gd.rules.competitive_gradient(eta), zero)
        np.testing.assert_allclose(cold, implicit, atol=1e-12)
        np.testing.assert_allclose(warm, implicit, atol=1e-12)


def test_lookahead_and_level_two_are_extragradient_without_own_curvature():
    game, zero = bilinear((3, 3))
    expected = matrix(game, gd.extragradient(optax.sgd(0.3)), zero)
    looking = gd.fields.opponent_lookahead(game, 0.3)
    second = gd.fields.level_k(game, 0.3, level=2)
    for field in (looking, second):
        np.testing.assert_allclose(
            matrix(field, steps(0.3), zero), expected, atol=1e-14
        )
    curved, zero, _ = quadratic()
    expected = matrix(curved, gd.extragradient(optax.sgd(0.1)), zero)
    for field in (
        gd.fields.opponent_lookahead(curved, 0.1),
        gd.fields.level_k(curved, 0.1, level=2),
    ):
        gap = matrix(field, steps(0.1), zero) - expected
        assert np.abs(gap).max() > 1e-2


@pytest.mark.slow
def test_levels_lead_from_simultaneous_descent_to_the_proximal_point_method():
    game, zero = bilinear((2, 2))
    norm = np.linalg.norm(game_jacobian(game, zero), 2)
    eta = 0.3 / norm
    first = matrix(gd.fields.level_k(game, eta, level=1), steps(eta), zero)
    np.testing.assert_allclose(first, matrix(game, steps(eta), zero), atol=1e-15)
    high = matrix(gd.fields.level_k(game, eta, level=60), steps(eta), zero)
    implicit = matrix(game, gd.proximal_point(eta), zero)
    np.testing.assert_allclose(high, implicit, atol=1e-14)


@pytest.mark.slow
def test_on_antisymmetric_jacobians():
    game, _ = bilinear((3, 2))
    random = np.random.default_rng(5)
    point = jnp.asarray(random.normal(size=3)), jnp.asarray(random.normal(size=2))
    jacobian = np.asarray(game_jacobian(game, point))

    def at(field):
        return np.asarray(ravel_pytree(jax.jit(field)(point))[0])

    plain = at(gd.fields.gradient(game))
    for weight in (0.5, 2.0):
        symplectic = at(gd.fields.symplectic(game, weight))
        np.testing.assert_allclose(
            symplectic, at(gd.fields.consensus(game, weight)), rtol=1e-13
        )
        general = gd.fields.symplectic(lambda z, b=None: gd.fields.gradient(game)(z, b))
        np.testing.assert_allclose(
            at(general), at(gd.fields.symplectic(game)), rtol=1e-13
        )
    slope = at(gd.fields.hamiltonian(game))
    np.testing.assert_allclose(slope, jacobian.T @ plain, rtol=1e-13)
    # An odd number of dimensions: J is singular, and the field still vanishes.
    np.testing.assert_allclose(
        at(gd.fields.local_symplectic_surgery(game)), 0, atol=1e-11
    )


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))]
)
def test_eigenvalues_of_follow_the_ridge(seed):
    game, zero, h = quadratic(seed=seed)
    ratio = 1.7
    field = gd.fields.follow_the_ridge(game, ratio=ratio)
    jacobian = np.asarray(game_jacobian(field, zero))
    x, y = slice(0, 3), slice(3, 5)
    schur = h[x, x] - h[x, y] @ np.linalg.solve(h[y, y], h[y, x])
    expected = np.concatenate(
        [np.linalg.eigvalsh(schur), ratio * np.linalg.eigvalsh(-h[y, y])]
    )
    got = np.linalg.eigvals(jacobian)
    np.testing.assert_allclose(got.imag, 0, atol=1e-9)
    np.testing.assert_allclose(np.sort(got.real), np.sort(expected), atol=1e-9)


@pytest.mark.slow
def test_newton_types_converge_at_their_published_rates():
    """Unit steps of complete Newton solve a quadratic, and square errors elsewhere."""
    game, zero, _ = quadratic()
    start = tuple(leaf + 1 for leaf in zero)
    field, rule = gd.methods.make("complete_newton", game, 1.0)
    solved = run(field, rule, start, 2).params
    np.testing.assert_allclose(ravel_pytree(solved)[0], 0, atol=1e-10)
    # The leader of GD-Newton descends along the ridge: I - eta Schur.
    game, zero, h = quadratic(seed=1)
    x, y = slice(0, 3), slice(3, 5)
    schur = h[x, x] - h[x, y] @ np.linalg.solve(h[y, y], h[y, x])
    field, rule = gd.methods.make("gradient_descent_newton", game, 0.1)
    got = spectral_radius(field, rule, zero)
    expected = np.abs(1 - 0.1 * np.linalg.eigvalsh(schur)).max()
    np.testing.assert_allclose(got, expected, rtol=1e-6)

    curved = gd.zero_sum(
        lambda x, y: jnp.cosh(x) + 2 * x * y - y**2 + x**3 / 3 - y**4 / 4
    )
    field, rule = gd.methods.make("complete_newton", curved, 1.0)
    point, sizes = (jnp.float64(0.2), jnp.float64(0.2)), []
    for _ in range(6):
        point = run(field, rule, point, 1).params
        sizes.append(float(optax.tree.norm(point)))
    # The leader's step is as good as the ridge that the follower reached before.
    assert all(sizes[k + 2] < 10 * sizes[k] ** 2 for k in range(3))
    assert sizes[-1] < 1e-12


RIDGES = {
    "ridge 1": (lambda x, y: -3 * x**2 - y**2 + 4 * x * y, (-2, -2), 2.0),
    "ridge 2": (lambda x, y: 3 * x**2 + y**2 + 4 * x * y, (2, 2), -2.0),
    "ridge 3": (
        lambda x, y: (
            (4 * x**2 - (y - 3 * x + 0.05 * x**3) ** 2 - 0.1 * y**4)
            * jnp.exp(-0.01 * (x**2 + y**2))
        ),
        (-4, -4),
        8.0,
    ),
}


@pytest.mark.parametrize(
    "name",
    ["ridge 1", *(pytest.param(n, marks=pytest.mark.slow) for n in list(RIDGES)[1:])],
)
def test_only_local_minimax_points_attract_the_ridge(name):
    payoff, flow, schur = RIDGES[name]
    game = gd.zero_sum(payoff)
    plain = np.linalg.eigvals(np.asarray(game_jacobian(game, ORIGIN)))
    np.testing.assert_allclose(plain, flow, atol=1e-6)  # defective
    field = gd.fields.follow_the_ridge(game)
    values = np.linalg.eigvals(np.asarray(game_jacobian(field, ORIGIN)))
    assert np.isclose(values, schur, atol=1e-9).any()
    minimax = name != "ridge 2"
    assert (spectral_radius(game, steps(0.05), ORIGIN) < 1) == (not minimax)
    assert (spectral_radius(field, steps(0.05), ORIGIN) < 1) == minimax


# Balduzzi's four players.


@pytest.mark.parametrize(
    ("step_size", "expected"), [(0.1, 0.982698681077), (0.4, 1.642317246515)]
)
def test_symplectic_four_players(step_size, expected):
    problem = gd.games.make("symplectic_four_player")
    zero = problem.solutions[0]
    for name in ("symplectic", "symplectic_aligned"):
        got = radius(name, step_size, problem.game, zero)
        np.testing.assert_allclose(got, expected, rtol=1e-9)
    best = radius("symplectic", 0.285536, problem.game, zero)
    np.testing.assert_allclose(best, 0.955357, atol=1e-6)


@pytest.mark.parametrize("epsilon", [pytest.param(0.01, marks=pytest.mark.slow), -0.01])
def test_alignment_leaves_unstable_points(epsilon):
    problem = gd.games.make("symplectic_four_player", epsilon=epsilon)
    zero = problem.solutions[0]
    near = tuple(leaf + 1e-3 * (k + 1) for k, leaf in enumerate(zero))
    far = tuple(10 * (k + 1) + leaf for k, leaf in enumerate(zero))

    def growth(alignment, start, num_steps):
        field = gd.fields.symplectic(problem.game, alignment=alignment)
        end = run(field, steps(0.1), start, num_steps).params
        return float(optax.tree.norm(end) / optax.tree.norm(start))

    assert growth(None, near, 1000) < 1e-6, "the fixed sign is attracted in both games"
    assert growth(None, far, 1000) < 1e-6
    for alignment, start in ((0.0, near), (0.0, far), (0.1, far)):
        if epsilon > 0:
            assert growth(alignment, start, 1000) < 1e-6
        else:
            assert growth(alignment, start, 100) > 10
    # Where the gradients are small, a positive epsilon decides alone.
    assert growth(0.1, near, 1000) < 1e-6
    # What it has converged to is told by the spectrum of J, not by the iterates.
    values = np.linalg.eigvals(np.asarray(game_jacobian(problem.game, zero)))
    assert (values.real.min() > 0) == (epsilon > 0)


# Nonconvex games.


@pytest.mark.parametrize("start", [(0.5, 0.3), (1.0, 1.0)])
@pytest.mark.parametrize(
    ("make", "low", "high"),
    [
        (lambda g: gd.fields.consensus(g, 0.02), 1.0570, 1.2375),
        (lambda g: gd.fields.symplectic(g, alignment=0.0), 0.8419, 1.2265),
        (lambda g: gd.fields.competitive(g, 0.01), 1.0661, 1.2446),
        (lambda g: gd.fields.opponent_lookahead(g, 0.01), 1.0661, 1.2446),
    ],
    ids=["consensus", "symplectic", "competitive", "lookahead"],
)
def test_every_reasonable_field_cycles_on_the_impossibility_game(
    make, low, high, start
):
    low, high = _cycle(make, start) - np.array([low, high])
    assert abs(low) < 1e-3
    assert abs(high) < 1e-3


@pytest.mark.parametrize("name", ["lola", "stable_opponent_shaping"])
def test_shaping_cycles_on_the_impossibility_game_too(name):
    """As published, without numbers."""
    low, high = _cycle(lambda g: gd.fields.make(name, g, 0.01), (0.5, 0.3))
    assert 0.5 < low < high < 2


def _cycle(make, start):
    game = gd.zero_sum(lambda x, y: x * y - x**2 / 2 + y**2 / 2 + x**4 / 4 - y**4 / 4)

    @jax.jit
    def sizes(point):
        solution = gd.solve(
            make(game),
            steps(0.01),
            point,
            3000,
            record=lambda z, *_: jnp.hypot(z[0], z[1]),
        )
        return solution.trace[-1000:]

    trace = sizes(tuple(map(jnp.float64, start)))
    return np.array([trace.min(), trace.max()])


# Shaping.

TANDEM = gd.general_sum(
    lambda x, y: (x + y) ** 2 - 2 * x, lambda x, y: (x + y) ** 2 - 2 * y
)


@pytest.mark.parametrize(
    ("name", "total", "loss"),
    [
        ("opponent_lookahead", 1.0, 0.0),
        ("stable_opponent_shaping", 1.0, 0.0),
        ("lola", 4 / 3, 8 / 9),
    ],
)
def test_tandem(name, total, loss):
    field = gd.fields.make(name, TANDEM, 0.1)
    start = jnp.float64(0.05), jnp.float64(-0.13)
    end = run(field, steps(0.1), start, 2000).params
    np.testing.assert_allclose(end[0] + end[1], total, rtol=1e-6)
    np.testing.assert_allclose(sum(TANDEM(end)), loss, atol=1e-6)


def test_lola_is_the_first_order_form():
    """At x + y = .7 both components are -.76; exact differentiation gives -.784."""
    field = jax.jit(lambda alpha, x, y: gd.fields.lola(TANDEM, alpha)((x, y)))
    np.testing.assert_allclose(field(0.1, 0.5, 0.2), -0.76, rtol=1e-12)

    def exact(x, y):
        moved = y - 0.1 * jax.grad(lambda y: TANDEM((x, y))[1])(y)
        return TANDEM((x, moved))[0]

    np.testing.assert_allclose(jax.jit(jax.grad(exact))(0.5, 0.2), -0.784, rtol=1e-12)
    # 2 s (1 - 4 alpha) - 2 (1 - 2 alpha) with s = x + y, for both.
    for alpha, x, y in np.abs(np.random.default_rng(0).normal(size=(5, 3))):
        due = 2 * (x + y) * (1 - 4 * alpha) - 2 * (1 - 2 * alpha)
        np.testing.assert_allclose(field(alpha, x, y), due, atol=1e-13)


# Traps.


def test_another_learning_rate_makes_competitive_descent_another_method():
    """With coefficient and step apart it is no proximal point method any more."""
    field = gd.fields.competitive(XY, 1.0)
    same = spectral_radius(field, steps(1.0), ORIGIN)
    np.testing.assert_allclose(same, 2**-0.5, rtol=1e-11)
    other = spectral_radius(field, steps(0.5), ORIGIN)
    assert abs(other - 1 / np.sqrt(1 + 0.5**2)) > 0.05
    needs = gd.fields.entry("competitive").needs
    assert "the rule's step size" in needs


# Rules with memory.


def wide_game(size=12):
    """A bilinear game with as many different singular values as dimensions."""
    values = jnp.linspace(0.2, 3.0, size)
    game = gd.zero_sum(Partial(lambda s, x, y: jnp.sum(s * x * y), values))
    random = np.random.default_rng(0)
    return game, tuple(jnp.asarray(random.normal(size=size)) for _ in range(2))


@pytest.mark.parametrize(
    "zero_sum", [True, pytest.param(False, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "make",
    [
        gd.rules.competitive_gradient,
        pytest.param(gd.rules.adaptive_competitive_gradient, marks=pytest.mark.slow),
    ],
)
def test_a_missed_tolerance_is_reported(make, zero_sum):
    game, start = wide_game()
    if not zero_sum:  # nothing is known of it, so that it is solved the other way
        game = gd.Game(game.losses, 2)
    for max_steps, expected in ((200, gd.Status.OK), (2, gd.Status.INNER_SOLVER)):
        rule = make(1.0, max_steps=max_steps, warm_start=False)
        solution = run(gd.fields.as_field(game), rule, start, 5)
        assert gd.Status(int(solution.status)) is expected
        inner = solution.rule_state.inner
        assert bool(inner.failed) == (max_steps == 2)
        assert (inner.residual > 1e-10) == (max_steps == 2)
        assert inner.inner_steps <= max_steps
        loose = make(1.0, max_steps=max_steps, tolerance=100.0)
        solution = run(gd.fields.as_field(game), loose, start, 5)
        assert gd.Status(int(solution.status)) is gd.Status.OK
    with_while = jax.jit(
        lambda z: (
            gd.solve_until(
                game, make(1.0, max_steps=2), z, tolerance=1e-9, max_steps=20
            ).status
        )
    )(start)
    assert gd.Status(int(with_while)) is gd.Status.INNER_SOLVER


def test_warm_starts_change_nothing_and_save_all_steps_where_nothing_moves():
    game, start = wide_game()
    field = gd.fields.gradient(game)
    ends = {}
    for warm in (True, False):
        rule = gd.rules.competitive_gradient(0.3, warm_start=warm)
        ends[warm] = ravel_pytree(run(field, rule, start, 50).params)[0]
        update = jax.jit(lambda s, r=rule: r.update(field, start, s, (None,))[1])
        once = update(rule.init(start))
        twice = update(once)
        assert once.inner.inner_steps >= 10
        assert twice.inner.inner_steps == (0 if warm else once.inner.inner_steps)
    np.testing.assert_allclose(ends[True], ends[False], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "zero_sum", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_where_the_inner_solver_starts_changes_no_derivative(zero_sum):
    game, point = wide_game(3)
    game = game if zero_sum else gd.Game(game.losses, 2)
    rule, field = gd.rules.competitive_gradient(0.3), gd.fields.gradient(game)
    state = rule.init(point)
    one = jax.tree.map(jnp.ones_like, point)

    @jax.jit
    def slope(start, direction):
        def step(start):
            return rule.update(field, point, state._replace(start=start), (None,))[0]

        return jax.jvp(step, (start,), (direction,))[1]

    for start in (point, jax.tree.map(lambda leaf: 1e-3 * leaf, point)):
        assert all(np.all(leaf == 0) for leaf in slope(start, one))


@pytest.mark.slow
def test_the_reported_residual_is_that_of_the_system():
    game, start = wide_game()
    for zero_sum in (True, False):
        played = game if zero_sum else gd.Game(game.losses, 2)
        rule = gd.rules.competitive_gradient(1.0, max_steps=3, warm_start=False)
        state = rule.init(start)
        after, state = jax.jit(
            lambda z, s, r=rule, g=played: r.update(
                gd.fields.gradient(g), z, s, (None,)
            )
        )(start, state)
        z, w = (np.asarray(ravel_pytree(point)[0]) for point in (start, after))
        jacobian = np.asarray(game_jacobian(game, start))
        right = jacobian @ z
        left = (np.eye(len(z)) + jacobian) @ (z - w)
        sizes = [np.linalg.norm(right)]
        if zero_sum:  # relative to the larger of the two right-hand sides
            n = len(z) // 2
            sizes.append(np.linalg.norm(right[:n] - jacobian[:n, n:] @ right[n:]))
        expected = np.linalg.norm(left - right) / max(sizes)
        np.testing.assert_allclose(state.inner.residual, expected, rtol=1e-9)


def test_adaptive_competitive_descent_against_dense_algebra():
    """Ten steps in numpy, with the bias correction."""
    game = PolynomialGame("three pytrees", own=6.0)
    rule = gd.rules.adaptive_competitive_gradient(0.05, decay=0.9, eps=1e-3)
    got = run(gd.fields.gradient(game.game), rule, game.params, 10)
    z, v = game.z, np.zeros(game.size)
    for t in range(1, 11):
        field = game.gradient(z)
        v = 0.9 * v + 0.1 * field**2
        root = np.sqrt(0.05 / (np.sqrt(v / (1 - 0.9**t)) + 1e-3))
        _, cross = game.parts_of_jacobian(z)
        system = np.eye(len(z)) + root[:, None] * cross * root
        z = z - root * np.linalg.solve(system, root * field)
    np.testing.assert_allclose(ravel_pytree(got.params)[0], z, rtol=1e-9, atol=1e-10)
    assert int(got.status) == gd.Status.OK
