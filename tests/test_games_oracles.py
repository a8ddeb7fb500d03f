"""The games against numbers computed by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn import games
from gamedyn.games import real_data


def _eigenvalues(problem, params=None):
    params = problem.solutions[0] if params is None else params
    values = np.linalg.eigvals(gd.analysis.game_jacobian(problem.game, params))
    return np.sort_complex(values)


def _field(problem, *params):
    return gd.fields.gradient(problem.game)(tuple(map(jnp.asarray, params)))


ROOT = np.sqrt(2)
EIGENVALUES = [
    ("dirac_gan", {}, [-0.5j, 0.5j], 1e-12),
    ("dirac_gan", {"kind": "non_saturating"}, [-0.5j, 0.5j], 1e-12),
    ("dirac_gan", {"kind": "wasserstein"}, [-1j, 1j], 1e-12),
    (
        "dirac_gan",
        {"regularisation": 0.3},
        [0.15 - 0.476969601j, 0.15 + 0.476969601j],
        1e-9,
    ),
    ("dirac_gan", {"regularisation": 1.0}, [0.5, 0.5], 1e-7),
    ("dirac_gan", {"regularisation": 2.0}, [0.133974596, 1.866025404], 1e-9),
    ("dirac_gan", {"kind": "wasserstein", "regularisation": 2.0}, [1, 1], 1e-7),
    ("bilinear", {}, [-1j, 1j], 1e-12),
    ("quadratic", {}, [1 - 10j, 1 + 10j], 1e-12),
    ("polar", {"a": 1 / 3}, [9 / 48 - 1j, 9 / 48 + 1j], 1e-12),
    ("polar", {"a": 3.0}, [27 / 16 - 1j, 27 / 16 + 1j], 1e-12),
    ("global_forsaken", {}, [2 / 3 - 1j, 2 / 3 + 1j], 1e-12),
    ("weak_minty", {"L": 2.0, "rho": -0.3}, [-1.2 - 1.6j, -1.2 + 1.6j], 1e-12),
    ("cournot", {"slope": 2.0}, [2, 2, 8], 1e-12),
    (
        "symplectic_four_player",
        {},
        [0.01 + s * (ROOT + t) * 1j for s, t in ((-1, 1), (-1, -1), (1, -1), (1, 1))],
        1e-12,
    ),
]


@pytest.mark.parametrize(("name", "options", "expected", "tolerance"), EIGENVALUES)
def test_eigenvalues_of_the_jacobian(name, options, expected, tolerance):
    found = _eigenvalues(games.make(name, **options))
    expected = np.sort_complex(np.asarray(expected, complex))
    # Sorting is by real part first, which rounding may swap: compare both ways.
    by_imaginary = [v[np.argsort(v.imag, kind="stable")] for v in (found, expected)]
    close = [np.abs(found - expected).max(), np.abs(np.subtract(*by_imaginary)).max()]
    assert min(close) < tolerance


RADII = {
    0.1: (1.027757399023, 0.998141665771, 0.998138712981),
    0.4: (1.387286682687, 0.982410846351, 1.857993501141),
}


@pytest.mark.parametrize("step_size", RADII)
def test_four_player_radii(step_size):
    problem = games.symplectic_four_player(0.01)
    for name, expected in zip(
        ("simultaneous", "extragradient", "optimistic"), RADII[step_size], strict=True
    ):
        rule = gd.rules.make(name, step_size, num_players=4)
        found = gd.analysis.spectral_radius(problem.game, rule, problem.solutions[0])
        assert abs(float(found) - expected) < 1e-9


@pytest.mark.parametrize(("L", "rho"), [(1.0, -0.1), (2.0, -0.3), (0.5, 1.0)])
def test_weak_minty_identities(L, rho):
    problem = games.weak_minty(L, rho)
    z, _ = ravel_pytree(problem.init(jax.random.key(0)))
    field, _ = ravel_pytree(_field(problem, *z))
    np.testing.assert_allclose(jnp.linalg.norm(field), L * jnp.linalg.norm(z))
    np.testing.assert_allclose(field @ z, rho * field @ field, rtol=1e-10)


def test_polar_field():
    a, x, y = 0.7, 0.4, -1.1

    def psi(x, y):
        square = x**2 + y**2
        return a / 16 * x * (square - 1) * (16 * square - 9)

    field = _field(games.polar(a), x, y)
    np.testing.assert_allclose(field, (psi(x, y) - y, psi(y, x) + x), rtol=1e-12)
    # On the cycles r = 1 and r = 3/4 there is rotation only.
    for radius in (1.0, 0.75):
        field = _field(games.polar(a), radius * 0.6, radius * 0.8)
        np.testing.assert_allclose(field, (-radius * 0.8, radius * 0.6), atol=1e-12)


def test_dirac_losses():
    theta, psi, gamma = 0.7, -0.4, 0.3

    def h(t):
        return -np.log(1 + np.exp(-t))

    def slope(t):
        return 1 / (1 + np.exp(t))

    point = (jnp.array(theta), jnp.array(psi))
    t = theta * psi
    critic = -h(t) - h(0) + gamma / 2 * psi**2
    minimax = games.dirac_gan("minimax", gamma)
    heuristic = games.dirac_gan("non_saturating", gamma)
    wasserstein = games.dirac_gan("wasserstein", gamma)
    np.testing.assert_allclose(minimax.game(point)[1], critic)
    np.testing.assert_allclose(heuristic.game(point), (-h(-t), critic))
    np.testing.assert_allclose(wasserstein.game(point)[1], -t + gamma / 2 * psi**2)
    pull = gamma * psi - theta * slope(t)
    np.testing.assert_allclose(_field(minimax, *point), (psi * slope(t), pull))
    np.testing.assert_allclose(_field(heuristic, *point), (psi * slope(-t), pull))
    np.testing.assert_allclose(_field(wasserstein, *point), (psi, gamma * psi - theta))


def test_forsaken_has_one_critical_point_and_it_attracts():
    slope = np.polynomial.Polynomial([0, 0.5, 0, -2, 0, 1])
    y = np.polynomial.Polynomial([0, 1])
    roots = (y - 0.45 + slope(slope)).roots()
    real = roots[np.abs(roots.imag) < 1e-9].real
    problem = games.forsaken()
    solution = np.array(problem.solutions[0])
    assert np.abs(solution - [slope(solution[1]), solution[1]]).max() < 1e-14
    assert np.abs(real - solution[1]).min() < 1e-9
    inside = [root for root in real if slope(root) ** 2 + root**2 < 4]
    assert len(inside) == 1
    assert _eigenvalues(problem).real.min() > 0.04


@pytest.mark.parametrize("own", [0.1, 0.05])
def test_forsaken_cycles_under_extragradient(own):
    problem = games.forsaken()
    rule = gd.extragradient(optax.sgd(own), extrapolation=optax.sgd(0.1))

    @jax.jit
    def run(params):
        return gd.solve(
            problem.game,
            rule,
            params,
            20_000,
            record=lambda params, *rest: jnp.stack(params),
            every=10,
        ).trace

    late = run(problem.init(None))[-500:] - jnp.stack(problem.solutions[0])[None]
    assert jnp.linalg.norm(late, axis=1).min() > 0.1
    assert jnp.ptp(late[:, 0]) > 0.5


POLAR = [
    (1 / 3, 0.1, 0),
    (1 / 3, 0.01, 0.980978),
    (3, 0.1, 0.967827),
    (3, 0.01, 0.997975),
]


@pytest.mark.parametrize(("a", "step_size", "radius"), POLAR)
def test_polar_under_extragradient(a, step_size, radius):
    problem = games.polar(a)
    rule = gd.extragradient(optax.sgd(step_size))
    run = jax.jit(lambda z: gd.solve(problem.game, rule, z, 20_000).params)
    for start in (0.9, 0.6):
        end = run((jnp.array(start), jnp.array(start)))
        assert abs(float(optax.tree.norm(end)) - radius) < 1e-6


VALUES = [
    -0.044277052429,
    0.389831246302,
    0.153585999836,
    0.305147261023,
    0.339362567514,
]


@pytest.mark.parametrize(("seed", "value"), list(enumerate(VALUES)))
def test_values_of_random_matrices(seed, value):
    matrix = np.random.default_rng(seed).normal(size=(5, 7))
    for problem in (games.matrix_game(matrix), games.matrix_game(seed=seed)):
        x, y = problem.solutions[0]
        assert abs(problem.game((x, y))[0] - value) < 1e-11
        assert np.max(matrix.T @ x) - np.min(matrix @ y) < 1e-12
        assert abs(x.sum() - 1) < 1e-14 > abs(y.sum() - 1)


@pytest.mark.parametrize("name", ["matching_pennies", "rock_paper_scissors"])
def test_values_of_named_matrices(name):
    problem = games.make(name)
    x, y = problem.solutions[0]
    assert problem.game((x, y))[0] == 0
    np.testing.assert_allclose(x, 1 / x.size, rtol=1e-15)
    matrix = problem.game.losses.args[0].args[0]
    solved = games.matrix_game(matrix).solutions[0]
    np.testing.assert_allclose(solved, (x, y), atol=1e-12)


def test_matrix_game_may_be_left_unsolved():
    assert games.matrix_game(np.ones((300, 300)), solve=False).solutions == ()


def test_cournot_solution_is_the_best_response():
    problem = games.cournot(4, demand=12.0, slope=0.5, cost=2.0)
    quantity = float(problem.solutions[0][0])
    assert quantity == pytest.approx((12 - 2) / (0.5 * 5))

    def loss(own):
        return -own * (12 - 0.5 * (own + 3 * quantity)) + 2 * own

    assert scipy.optimize.minimize_scalar(loss).x == pytest.approx(quantity, abs=1e-6)
    assert problem.game(problem.solutions[0])[0] == pytest.approx(loss(quantity))


def test_stochastic_bilinear_against_explicit_matrices():
    n = 5
    problem = games.stochastic_bilinear(n, seed=3)
    b, c = np.random.default_rng(3).normal(size=(2, n, n)) / np.sqrt(n)
    x, y = np.random.default_rng(4).normal(size=(2, n))
    for i in range(n):
        matrix = np.zeros((n, n))
        matrix[i, i] = 1
        loss = problem.game((jnp.asarray(x), jnp.asarray(y)), jnp.array([i]))[0]
        np.testing.assert_allclose(loss, x @ matrix @ y + b[i] @ x + c[i] @ y)
    jacobian = gd.analysis.game_jacobian(problem.game, problem.solutions[0])
    np.testing.assert_allclose(jacobian[:n, n:], np.eye(n) / n, atol=1e-15)
    np.testing.assert_allclose(problem.solutions[0][1], -n * b.mean(axis=0))


def test_quadratic_bilinear_spectra():
    problem = games.quadratic_bilinear(8, mu=0.5, smoothness=3.0, seed=1)
    jacobian = jax.jit(lambda z: gd.analysis.game_jacobian(problem.game, z))
    jacobian = np.asarray(jacobian(problem.init(None)))
    expected = np.linspace(0.5, 3, 8)
    for block in (jacobian[:8, :8], jacobian[8:, 8:]):
        np.testing.assert_allclose(np.linalg.eigvalsh(block), expected)
    singular = np.linalg.svd(jacobian[:8, 8:], compute_uv=False)
    np.testing.assert_allclose(singular[::-1], expected)
    assert np.linalg.eigvalsh(jacobian + jacobian.T).min() >= 1 - 1e-12


def test_auc_facts():
    mu = 0.01
    problem = games.breast_cancer_auc(mu)
    features, labels = real_data._breast_cancer()
    own, alpha = problem.solutions[0]
    scores = features @ np.asarray(own["w"])
    positive, negative = scores[labels > 0], scores[labels < 0]
    assert len(positive) == 212
    assert len(negative) == 357
    np.testing.assert_allclose(own["a"], positive.mean(), rtol=1e-12)
    np.testing.assert_allclose(own["b"], negative.mean(), rtol=1e-12)
    np.testing.assert_allclose(alpha, own["b"] - own["a"], rtol=1e-12)
    share = 212 / 569
    pairs = (1 - positive[:, None] + negative[None]) ** 2
    penalty = mu / 2 * np.sum(np.asarray(own["w"]) ** 2)
    expected = share * (1 - share) * (pairs.mean() - 1) + penalty
    np.testing.assert_allclose(problem.game(problem.solutions[0])[0], expected)
    # It ranks well: the share of pairs in the right order.
    assert np.mean(positive[:, None] > negative[None]) > 0.98


@pytest.mark.parametrize(("mu", "rho"), [(0.01, 1.0), (0.1, 0.05)])
def test_robust_solution_against_a_general_minimiser(mu, rho):
    """L-BFGS on the maximum over p; rho = 0.05 puts some p at zero."""
    features, labels = real_data._breast_cancer()
    rows, n = -labels[:, None] * features, len(labels)

    def worst_case(w):
        losses = np.logaddexp(0, rows @ w)
        raised = 1 / n + losses / (rho * n)
        shift = scipy.optimize.brentq(
            lambda s: np.maximum(raised - s, 0).sum() - 1, -1, raised.max()
        )
        p = np.maximum(raised - shift, 0)
        value = p @ losses + mu / 2 * w @ w - rho * n / 2 * np.sum((p - 1 / n) ** 2)
        return value, rows.T @ (p / (1 + np.exp(-rows @ w))) + mu * w

    found = scipy.optimize.minimize(
        worst_case,
        np.zeros(30),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000, "maxfun": 5000},
    )
    problem = games.breast_cancer_logistic(mu, rho)
    w, u = problem.solutions[0]
    np.testing.assert_allclose(w, found.x, atol=1e-5)
    np.testing.assert_allclose(problem.game((w, u))[0], found.fun, rtol=1e-9)
    assert (u == 0).any() == (rho < 1)


def test_robust_scale_is_a_change_of_variables():
    plain = games.breast_cancer_logistic(scale=1.0)
    scaled = games.breast_cancer_logistic()
    w, u = plain.init(jax.random.key(0))
    np.testing.assert_allclose(u.sum(), 1)
    root = np.sqrt(569)
    losses = [plain.game((w, u)), scaled.game((w, root * u))]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    np.testing.assert_allclose(plain.solutions[0][1] * root, scaled.solutions[0][1])


def test_robust_logistic_is_solved_by_descent():
    """The default step sizes of both players suit one another."""
    problem = games.breast_cancer_logistic()
    rule = gd.simultaneous(optax.sgd(0.5), geometry=problem.geometry)
    solution = jax.jit(
        lambda problem, params: gd.solve(problem.game, rule, params, 3000)
    )(problem, problem.init(None))
    gap = jax.tree.map(jnp.subtract, solution.params, problem.solutions[0])
    assert optax.tree.norm(gap) < 1e-4
