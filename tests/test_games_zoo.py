"""The losses of the zoo against naive forms, and the facts that are known of it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import gamedyn as gd
from gamedyn import games
from gamedyn.games import real_data
from gamedyn.games.bimatrix import ordinal_games

RANDOM = np.random.default_rng(5)


@jax.jit
def _losses(problem, params, batch=None):
    return problem.game(params, batch)


@jax.jit
def _jacobian(problem, params):
    return gd.analysis.game_jacobian(problem.game, params)


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def trade(x, y):
    return (y**4 / (1 + x**2) - x**4 / (1 + y**2)) / 4


def hidden(x, y, s=0.01):
    r2 = x**2 + y**2
    if r2 >= s**2:
        return (r2 - s**2) / 2
    return (y**2 - 3 * x**2) * (r2 - s**2) / (2 * s**2)


def saddle(payoff):
    return lambda x, y: (payoff(x, y), -payoff(x, y))


def matrix(A):
    return saddle(
        lambda x, y: sum(x[i] * A[i, j] * y[j] for i, j in np.ndindex(*A.shape))
    )


def bimatrix(A, B):
    return lambda x, y: (x @ np.array(A, float) @ y, x @ np.array(B, float) @ y)


def half_pennies(*logits):
    p = sigmoid(np.array(logits))
    match = [
        -(a * b + (1 - a) * (1 - b) - a * (1 - b) - (1 - a) * b)
        for a, b in zip(p, np.roll(p, -1), strict=True)
    ]
    return (*match[:-1], -match[-1])


def tullock(*x):
    return tuple(own - own / sum(x) for own in x)


def kelly(*x):
    total = 100 + sum(x)
    return tuple(
        own - g * 1000 * own / total
        for g, own in zip((1.8, 2, 2.2, 2.4), x, strict=True)
    )


def resources(*x):
    gains = [(1.8, 2.0), (2.0, 2.4), (2.2, 2.1)]
    losses = []
    for i, own in enumerate(x):
        loss = 0
        for r, (quantity, reserve) in enumerate(((10, 1), (30, 2))):
            total = reserve + sum(other[r] for other in x)
            loss += own[r] - gains[i][r] * quantity * own[r] / total
        losses.append(loss)
    return tuple(losses)


def blotto_matrix():
    plans = [p for p in itertools.product(range(6), repeat=3) if sum(p) == 5]
    return np.array(
        [[sum(np.sign(b - a) for a, b in zip(p, q)) for q in plans] for p in plans]  # noqa: B905
    )


def dilemma(one, two, gamma=0.96, rounds=3000):
    """Play it, round by round, with the probabilities of all outcomes."""
    p, q = sigmoid(one), sigmoid(two)
    move = lambda s: np.array(  # noqa: E731
        [p[s] * q[s], p[s] * (1 - q[s]), (1 - p[s]) * q[s], (1 - p[s]) * (1 - q[s])]
    )
    outcome, total, weight = move(0), np.zeros(2), 1.0
    costs = np.array([[1, 3, 0, 2], [1, 0, 3, 2]])
    for _ in range(rounds):
        total += weight * costs @ outcome
        outcome = sum(outcome[s] * move(s + 1) for s in range(4))
        weight *= gamma
    return tuple(total)


def torus(a, b):
    return -np.cos(a) / 2 + np.cos(a - b), -np.cos(b) / 2 + np.cos(b - a)


def worst_case(x, y):
    d = len(x)
    A = np.zeros((d, d))
    for i in range(d):
        A[i, d - 1 - i] = 0.25
        if i < d - 1:
            A[i, d - 2 - i] = -0.25
    h = np.zeros(d)
    h[-1] = 0.25
    f = x @ A.T @ A @ x - h @ x - (A @ x - 0.25) @ y
    return f, -f


def market_with_minimum(x, y):
    return (
        x**6 / 6 - x**2 + hidden(x, y) + x * y + trade(x, y),
        y**6 / 6 - hidden(x, y) - x * y - trade(x, y),
    )


PENNIES = np.array([[1, -1], [-1, 1]])
CYCLE = np.array([[0, 3, -2], [-3, 0, 1], [2, -1, 0]])
DILEMMA = np.array([[1, 3], [0, 2]])
STAG, CHICKEN = np.array([[4, 1], [3, 2]]), np.array([[3, 2], [4, 1]])
SHAPLEY = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
NAIVE = {
    "balduzzi_two_player": lambda x, y: (0.05 * x**2 + x * y, 0.05 * y**2 - x * y),
    "tandem": lambda x, y: ((x + y) ** 2 - 2 * x, (x + y) ** 2 - 2 * y),
    "constrained_bilinear": lambda x, y: (0.05 * x**2 + x * y, 0.05 * y**2 - x * y),
    "scaled_bilinear": saddle(
        lambda x, y: 0.2 * 3 * (x - 1) * (y - 1) + 0.8 * 0.5 * x * y
    ),
    "worst_case": worst_case,
    "impossibility": saddle(
        lambda x, y: x * y - x**2 / 2 + y**2 / 2 + x**4 / 4 - y**4 / 4
    ),
    "market": lambda x, y: (
        x * y - x**2 / 2 + x**6 / 6 + trade(x, y),
        -x * y - y**2 / 2 + y**6 / 6 - trade(x, y),
    ),
    "market_with_minimum": market_with_minimum,
    "seesaw": saddle(lambda x, y: -0.95 * y * np.sin(0.95 * np.pi * x)),
    "two_sided_pl": saddle(
        lambda x, y: (
            x**2 + 3 * np.sin(x) ** 2 * np.sin(y) ** 2 - 4 * y**2 - 10 * np.sin(y) ** 2
        )
    ),
    "ridge_1": saddle(lambda x, y: -3 * x**2 - y**2 + 4 * x * y),
    "ridge_2": saddle(lambda x, y: 3 * x**2 + y**2 + 4 * x * y),
    "ridge_3": saddle(
        lambda x, y: (
            (4 * x**2 - (y - 3 * x + 0.05 * x**3) ** 2 - 0.1 * y**4)
            * np.exp(-0.01 * (x**2 + y**2))
        )
    ),
    "torus": torus,
    "ratio_game": saddle(
        lambda x, y: (-1.2 * x * y + 0.9 * y - 0.3) / (0.1 * x + 0.4 * y + 0.4)
    ),
    "mean_wgan": saddle(lambda t, w: w @ (np.array([3, 4]) - t)),
    "covariance_wgan": saddle(
        lambda V, W: np.trace(W.T @ (np.array([[2, 0.5], [0.5, 1]]) - V @ V.T))
    ),
    "variance_gan": saddle(lambda t, p: 2 * p - p * t**2),
    "weighted_rock_paper_scissors": matrix(CYCLE),
    "random_matrix": matrix(np.random.default_rng(0).normal(size=(10, 10))),
    "matching_pennies_logits": saddle(
        lambda x, y: (
            np.array([sigmoid(x), 1 - sigmoid(x)])
            @ PENNIES
            @ np.array([sigmoid(y), 1 - sigmoid(y)])
        )
    ),
    "blotto": matrix(blotto_matrix()),
    "bimatrix_game": bimatrix(
        *(lambda r: [r.normal(size=(3, 4)) for _ in range(2)])(np.random.default_rng(0))
    ),
    "shapley": bimatrix(-SHAPLEY, -np.eye(3)),
    "prisoners_dilemma": bimatrix(DILEMMA, DILEMMA.T),
    "stag_hunt": bimatrix(-STAG, -STAG.T),
    "chicken": bimatrix(-CHICKEN, -CHICKEN.T),
    "battle_of_the_sexes": bimatrix(-np.diag([2, 1]), -np.diag([1, 2])),
    "ordinal_game": bimatrix(*(-payoffs for payoffs in ordinal_games()[0])),
    "half_matching_pennies": half_pennies,
    "iterated_prisoners_dilemma": dilemma,
    "tullock": tullock,
    "kelly": kelly,
    "resource_allocation": resources,
}


@pytest.mark.parametrize("name", NAIVE)
def test_losses_against_a_naive_form(name):
    problem = games.make(name)
    for number in range(3):
        point = problem.init(jax.random.key(number))
        found = np.array(_losses(problem, point))
        expected = np.array(NAIVE[name](*map(np.asarray, point)))
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, atol=1e-11 * scale, rtol=1e-11)


def test_inside_the_disc_of_the_market():
    problem = games.market_with_minimum(2.0)
    for x, y in RANDOM.normal(size=(5, 2)) / 2:
        expected = (
            x**6 / 6 - x**2 + hidden(x, y, 2.0) + x * y + trade(x, y),
            y**6 / 6 - hidden(x, y, 2.0) - x * y - trade(x, y),
        )
        np.testing.assert_allclose(
            _losses(problem, (jnp.array(x), jnp.array(y))), expected
        )


def test_components_of_the_scaled_bilinear_game():
    problem = games.scaled_bilinear()
    x, y = 0.3, -1.2
    losses = [
        _losses(problem, (jnp.array(x), jnp.array(y)), jnp.array([i]))[0]
        for i in range(5)
    ]
    expected = [3 * (x - 1) * (y - 1), *4 * [0.5 * x * y]]
    np.testing.assert_allclose(losses, expected, rtol=1e-14)
    jacobian = _jacobian(problem, problem.solutions[0])
    np.testing.assert_allclose(jacobian, [[0, 1], [-1, 0]], atol=1e-15)


@pytest.mark.parametrize("name", ["mean_wgan", "covariance_wgan"])
def test_samples_of_the_gaussian_gans(name):
    """A batch's loss is that of the samples, and its mean that of the expectation."""
    problem = games.make(name, batch_size=4000)
    point = problem.init(jax.random.key(0))
    batch = problem.sample(jax.random.key(1))
    real, latent = map(np.asarray, batch)
    first, second = map(np.asarray, point)
    if name == "mean_wgan":
        real, fake = real + np.array([3, 4]), latent + first
        expected = np.mean(real @ second) - np.mean(fake @ second)
    else:
        root = np.linalg.cholesky(np.array([[2, 0.5], [0.5, 1]]))
        real, fake = real @ root.T, latent @ first.T
        expected = np.mean([x @ second @ x for x in real]) - np.mean(
            [x @ second @ x for x in fake]
        )
    loss = _losses(problem, point, batch)[0]
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    assert abs(loss - _losses(problem, point)[0]) < 0.5
    assert abs(loss - _losses(problem, point)[0]) > 1e-6


def test_mlp_gan_against_numpy():
    problem = games.mlp_gan(width=3)
    generator, discriminator = problem.init(jax.random.key(0))
    latents = np.asarray(problem.game.losses.args[0][0].args[0])
    real = np.asarray(problem.game.losses.args[0][1].args[0])

    def network(layers, x):
        for number, (matrix, offset) in enumerate(layers):
            x = x @ np.asarray(matrix) + np.asarray(offset)
            x = np.tanh(x) if number < len(layers) - 1 else x
        return x

    chosen = np.array([3, 77, 3])
    fake = network(discriminator, network(generator, latents[chosen]))
    true = network(discriminator, real[chosen])
    expected = (
        -np.log(sigmoid(fake)).mean(),
        -np.log(sigmoid(true)).mean() - np.log(1 - sigmoid(fake)).mean(),
    )
    losses = _losses(problem, (generator, discriminator), jnp.asarray(chosen))
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert np.abs(np.linalg.norm(real, axis=1) - 1).max() < 0.1


def _eigenvalues(problem, params=None):
    params = problem.solutions[0] if params is None else params
    return np.linalg.eigvals(_jacobian(problem, params))


EIGENVALUES = [
    ("balduzzi_two_player", {"epsilon": -0.3}, [-0.3 - 1j, -0.3 + 1j], 1e-12),
    ("tandem", {}, [0, 4], 1e-12),
    ("constrained_bilinear", {}, [0.1 - 1j, 0.1 + 1j], 1e-12),
    ("impossibility", {}, [-1 - 1j, -1 + 1j], 1e-12),
    ("market", {}, [-1 - 1j, -1 + 1j], 1e-12),
    ("market_with_minimum", {}, [1 - 1j, 1 + 1j], 1e-12),
    ("ridge_1", {}, [-2, -2], 1e-6),
    ("ridge_2", {}, [2, 2], 1e-6),
    ("ridge_3", {}, [-4, -4], 1e-6),
    ("ratio_game", {}, [-2.328342j, 2.328342j], 1e-6),
    ("seesaw", {}, [-0.9025j * np.pi, 0.9025j * np.pi], 1e-12),
    ("two_sided_pl", {}, [2, 28], 1e-12),
    ("matching_pennies_logits", {}, [-0.25j, 0.25j], 1e-12),
    (
        "half_matching_pennies",
        {},
        [np.exp(1j * np.pi * (2 * k + 1) / 4) / 4 for k in range(4)],
        1e-12,
    ),
]


@pytest.mark.parametrize(("name", "options", "expected", "tolerance"), EIGENVALUES)
def test_eigenvalues_of_the_jacobian(name, options, expected, tolerance):
    found = _eigenvalues(games.make(name, **options))
    gaps = np.abs(found[:, None] - np.asarray(expected, complex)[None])
    rows, columns = scipy.optimize.linear_sum_assignment(gaps)
    assert gaps[rows, columns].max() < tolerance


def test_schur_complements_of_the_ridges():
    for name, expected in (("ridge_1", 2), ("ridge_2", -2), ("ridge_3", 8)):
        problem = games.make(name)
        # J holds -f_yx and -f_yy in its second row.
        (xx, xy), (_, yy) = np.asarray(_jacobian(problem, problem.solutions[0]))
        assert xx + xy**2 / yy == pytest.approx(expected)


def test_ratio_game_solution():
    problem = games.ratio_game()
    x, y = (float(z) for z in problem.solutions[0])
    np.testing.assert_allclose((x, y), (0.95194102, 0.05048525), atol=5e-9)
    payoff = NAIVE["ratio_game"]
    assert payoff(x, y)[0] == pytest.approx(-0.60582305, abs=5e-9)
    grid = np.linspace(0, 1, 201)
    assert payoff(grid, y)[0].min() > payoff(x, y)[0] - 1e-12
    assert payoff(x, grid)[0].max() < payoff(x, y)[0] + 1e-12
    jacobian = np.asarray(_jacobian(problem, problem.solutions[0]))
    np.testing.assert_allclose(np.diagonal(jacobian), 0, atol=1e-12)


def test_local_nash_points_of_the_torus():
    problem = games.torus()
    found = np.array(problem.solutions)
    angle = np.arccos(1 / 4)
    expected = [(-angle, angle), (0, np.pi), (angle, -angle), (np.pi, 0)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    least = [_eigenvalues(problem, z).real.min() for z in problem.solutions]
    assert [value > 0 for value in least] == [True, False, True, False]
    other = games.torus(weights=(1.0, 1.5), phases=(0.0, np.pi / 8))
    assert len(other.solutions) >= 1


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_solution_of_the_worst_case(dim):
    problem = games.worst_case(dim)
    x, y = problem.solutions[0]
    np.testing.assert_allclose(x, np.arange(1, dim + 1), rtol=1e-12)
    h = problem.game.losses.args[0].args[2]
    assert h[-1] == 0.25
    assert np.count_nonzero(h) == 1


def test_tandem_solutions_form_a_line():
    problem = games.tandem()
    field = gd.fields.gradient(problem.game)
    for x in (-1.0, 0.0, 2.5):
        point = jnp.array(x), jnp.array(1 - x)
        np.testing.assert_allclose(field(point), 0, atol=1e-15)
        assert sum(_losses(problem, point)) == pytest.approx(0, abs=1e-15)


RANGES = {
    "simultaneous": (1.0707, 1.2517),
    "alternating": (1.0667, 1.2499),
    "extragradient": (1.0683, 1.2448),
    "optimistic": (1.0683, 1.2450),
}


@pytest.mark.parametrize("name", RANGES)
def test_every_usual_method_cycles_in_the_impossibility_game(name):
    problem = games.impossibility()
    rule = gd.rules.make(name, 0.01)
    starts = jnp.array([[0.5, 0.3], [1.0, 1.0]])

    @jax.jit
    def radii(starts):
        def one(start):
            return gd.solve(
                problem.game,
                rule,
                (start[0], start[1]),
                3000,
                record=lambda z, *rest: jnp.hypot(*z),
            ).trace[-1000:]

        return gd.sweep(one, starts)

    for late in radii(starts):
        np.testing.assert_allclose((late.min(), late.max()), RANGES[name], atol=1e-3)


class TestBimatrixGames:
    def test_equilibria_of_the_named_games(self):
        expected = {
            "prisoners_dilemma": [(0, 0)],
            "stag_hunt": [(1, 1), (0, 0), (1 / 2, 1 / 2)],
            "chicken": [(1, 0), (0, 1), (1 / 2, 1 / 2)],
            "battle_of_the_sexes": [(1, 1), (0, 0), (2 / 3, 1 / 3)],
            "shapley": [(1 / 3, 1 / 3)],
            "matching_pennies": [(1 / 2, 1 / 2)],
        }
        for name, first in expected.items():
            solutions = games.make(name).solutions
            found = sorted((float(x[0]), float(y[0])) for x, y in solutions)
            np.testing.assert_allclose(found, sorted(first), atol=1e-12, err_msg=name)

    def test_there_are_144_ordinal_games_and_78_up_to_the_players(self):
        found = ordinal_games()
        assert len(found) == 144

        def key(row, column):
            return tuple(map(tuple, (row.ravel(), column.ravel())))

        def renamed(row, column):
            for rows, columns in itertools.product(((0, 1), (1, 0)), repeat=2):
                at = np.ix_(rows, columns)
                yield key(row[at], column[at])

        # Every pair of rankings is a renamed form of exactly one of them.
        orbits = [set(renamed(*pair)) for pair in found]
        assert all(len(orbit) == 4 for orbit in orbits)
        everything = set().union(*orbits)
        rankings = list(itertools.permutations((1, 2, 3, 4)))
        assert everything == set(itertools.product(rankings, rankings))
        assert len(everything) == 24**2 == sum(map(len, orbits))
        # Exchanging the players turns rows into columns.
        merged = {
            frozenset(orbit | set(renamed(column.T, row.T)))
            for orbit, (row, column) in zip(orbits, found, strict=True)
        }
        assert len(merged) == 78
        # A game is its own exchange exactly if it is symmetric: 2 * 78 - 144.
        assert sum(len(orbit) == 4 for orbit in merged) == 12

    def test_named_games_are_among_them(self):
        def known(row, column):
            wanted = np.array(row), np.array(column)
            return any(
                all(
                    np.array_equal(payoffs[np.ix_(r, c)], given)
                    for payoffs, given in zip(pair, wanted, strict=True)
                )
                for pair in ordinal_games()
                for r in ((0, 1), (1, 0))
                for c in ((0, 1), (1, 0))
            )

        for payoffs in (
            np.array([[3, 1], [4, 2]]),  # the prisoner's dilemma
            np.array([[4, 1], [3, 2]]),  # the stag hunt
            np.array([[3, 2], [4, 1]]),  # chicken
        ):
            assert known(payoffs, payoffs.T)
        # The battle of the sexes, its misses ranked.
        assert known([[4, 2], [1, 3]], [[3, 2], [1, 4]])

    def test_equilibria_of_all_ordinal_games(self):
        """One equilibrium or three; the counts of pure ones are classical."""
        pure = []
        for row, column in ordinal_games():
            # A pure equilibrium is best in its column for the row player, and so on.
            stable = (row == row.max(axis=0)) & (column == column.max(axis=1)[:, None])
            pure.append(int(stable.sum()))
            if len(pure) % 8:
                continue
            problem = games.ordinal_game(len(pure) - 1)
            whole = [x for x, _ in problem.solutions if float(x.max()) == 1]
            assert len(whole) == pure[-1]
            assert len(problem.solutions) == {0: 1, 1: 1, 2: 3}[pure[-1]]
            for z in problem.solutions:
                assert gd.analysis.nash_conv((-1.0 * row, -1.0 * column), z) < 1e-14
        assert [pure.count(number) for number in (0, 1, 2)] == [18, 108, 18]

    def test_blotto(self):
        problem = games.blotto(2, 3)
        A = np.asarray(problem.game.losses.args[0].args[0])
        np.testing.assert_array_equal(A, -A.T)
        assert A.shape == (4, 4)
        assert games.blotto(3, 5).init(None)[0].shape == (21,)
        x, y = games.blotto().solutions[0]
        assert abs(float(_losses(games.blotto(), (x, y))[0])) < 1e-12

    def test_random_matrices_are_solved(self):
        problem = games.random_matrix(4, 9, seed=3)
        A = np.asarray(problem.game.losses.args[0].args[0])
        x, y = problem.solutions[0]
        assert np.max(x @ A) - np.min(A @ y) < 1e-12


class TestIteratedDilemma:
    def losses(self, one, two):
        """(1 - gamma) times the losses of two policies, given as probabilities."""
        with np.errstate(divide="ignore"):
            logits = [
                jnp.asarray(np.clip(np.log(p) - np.log1p(-np.array(p)), -60, 60))
                for p in map(np.array, (one, two))
            ]
        return 0.04 * np.array(
            _losses(games.iterated_prisoners_dilemma(), tuple(logits))
        )

    def test_the_textbook_pairs(self):
        # In player 1's order, player 2 repeats what player 1 did: C after CC and CD.
        tit_for_tat = [1, 1, 0, 1, 0], [1, 1, 1, 0, 0]
        defect, cooperate = np.zeros(5), np.ones(5)
        np.testing.assert_allclose(self.losses(*tit_for_tat), (1, 1), atol=1e-12)
        np.testing.assert_allclose(self.losses(defect, defect), (2, 2), atol=1e-12)
        np.testing.assert_allclose(self.losses(cooperate, defect), (3, 0), atol=1e-12)
        np.testing.assert_allclose(self.losses(np.full(5, 0.5), np.full(5, 0.5)), 1.5)
        # Player 1's policy in player 2's place is another one.
        swapped = self.losses(tit_for_tat[0], tit_for_tat[0])
        against = self.losses(np.array([0, 0, 0, 0, 0]), tit_for_tat[1])
        assert against[1] == pytest.approx(2 + 0.04)  # betrayed once
        assert swapped == pytest.approx([1, 1], abs=1e-12)

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999999])
    def test_against_a_dense_solve(self, gamma):
        problem = games.iterated_prisoners_dilemma(gamma)
        one, two = problem.init(jax.random.key(0))
        p, q = sigmoid(np.asarray(one)), sigmoid(np.asarray(two))
        moves = np.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], axis=1)
        visits = np.linalg.solve(np.eye(4) - gamma * moves[1:].T, moves[0])
        expected = [visits @ (1, 3, 0, 2), visits @ (1, 0, 3, 2)]
        np.testing.assert_allclose(_losses(problem, (one, two)), expected, rtol=1e-9)


class TestEconomics:
    def test_kelly_solution(self):
        solution = np.array(games.kelly().solutions[0])
        expected = 185.760202, 326.150234, 441.014806, 536.735282
        np.testing.assert_allclose(solution, expected, atol=5e-7)
        assert solution.sum() + 100 == pytest.approx(1589.660523, abs=5e-7)
        jacobian = np.asarray(_jacobian(games.kelly(), games.kelly().solutions[0]))
        least = np.linalg.eigvalsh((jacobian + jacobian.T) / 2).min()
        assert least == pytest.approx(7.4e-4, abs=5e-6)

    @pytest.mark.parametrize("name", ["kelly", "tullock", "resource_allocation"])
    def test_solutions_are_best_responses(self, name):
        problem = games.make(name)
        solution = [np.atleast_1d(z) for z in problem.solutions[0]]
        naive = NAIVE[name]
        for i, own in enumerate(solution):

            def loss(z, i=i, own=own):
                point = [s.copy() for s in solution]
                point[i] = np.reshape(z, own.shape)
                shaped = point if own.size > 1 else [float(s[0]) for s in point]
                return naive(*shaped)[i]

            found = scipy.optimize.minimize(
                loss, 1.3 * own, bounds=[(1e-9, None)] * own.size, tol=1e-14
            )
            np.testing.assert_allclose(found.x, own, rtol=1e-3)
            assert loss(own) <= found.fun + 1e-9 * abs(found.fun)

    def test_smooth_market_is_zero_sum_in_pairs(self):
        problem = games.smooth_market(4, dim=3, curvature=0.7, seed=2)
        point = problem.init(jax.random.key(0))
        mu, trades, offsets = map(np.asarray, problem.game.losses.args)
        own = [
            0.35 * np.sum(z**2) + b @ z
            for z, b in zip(map(np.asarray, point), offsets, strict=True)
        ]
        losses = _losses(problem, point)
        assert sum(losses) == pytest.approx(sum(own))
        expected = own[1] + sum(
            point[1] @ trades[1, j] @ point[j] for j in range(4) if j != 1
        )
        assert losses[1] == pytest.approx(float(expected))
        jacobian = np.asarray(_jacobian(problem, point))
        np.testing.assert_allclose(jacobian + jacobian.T, 1.4 * np.eye(12), atol=1e-12)


class TestLinearQuadraticGames:
    @pytest.mark.parametrize("seed", range(3))
    def test_every_gain_is_the_optimal_regulator_against_the_others(self, seed):
        """Against scipy's solution of the single Riccati equation."""
        random = np.random.default_rng(seed)
        d, sizes = 3, (1, 2, 1)
        A = random.normal(size=(d, d)) / 2
        B = [random.normal(size=(d, m)) for m in sizes]
        roots = random.normal(size=(3, d, d))
        Q = [root @ root.T / d for root in roots]
        R = [np.eye(m) * (1 + random.uniform()) for m in sizes]
        problem = games.linear_quadratic_game(A, B, Q, R)
        gains = [np.asarray(gain) for gain in problem.solutions[0]]
        closed = A - sum(b @ k for b, k in zip(B, gains, strict=True))
        assert np.abs(np.linalg.eigvals(closed)).max() < 1
        for i, gain in enumerate(gains):
            others = closed + B[i] @ gain
            P = scipy.linalg.solve_discrete_are(others, B[i], Q[i], R[i])
            best = np.linalg.solve(R[i] + B[i].T @ P @ B[i], B[i].T @ P @ others)
            np.testing.assert_allclose(gain, best, atol=1e-9)
            loss = _losses(problem, problem.solutions[0])[i]
            np.testing.assert_allclose(loss, np.trace(P), rtol=1e-10)

    def test_loss_against_a_simulation_and_lyapunov(self):
        problem = games.linear_quadratic_game()
        A, B, costs = problem.game.losses.args
        point = problem.init(jax.random.key(1))
        closed = np.asarray(A - sum(b @ k for b, k in zip(B, point, strict=True)))
        power, total = np.eye(2), np.zeros((2, 2))
        for _ in range(500):
            total, power = total + power @ power.T, closed @ power
        exact = scipy.linalg.solve_discrete_lyapunov(closed, np.eye(2))
        np.testing.assert_allclose(total, exact, rtol=1e-10)
        for loss, (q, r), k in zip(_losses(problem, point), costs, point, strict=True):
            expected = np.sum(np.asarray(q + k.T @ r @ k) * total)
            np.testing.assert_allclose(loss, expected, rtol=1e-10)

    def test_the_policy_gradient_leaves_the_nash_point_of_the_default(self):
        problem = games.linear_quadratic_game()
        jacobian = np.asarray(_jacobian(problem, problem.solutions[0]))
        assert sum(np.linalg.eigvals(jacobian).real < -0.2) == 2
        for block in (jacobian[:2, :2], jacobian[2:, 2:]):
            assert np.linalg.eigvalsh(block).min() > 0

    def test_gains_that_do_not_stabilise_are_reported(self):
        problem = games.linear_quadratic_game()
        unstable = jax.tree.map(lambda gain: gain + 9, problem.solutions[0])
        assert not np.isfinite(_losses(problem, unstable)[0])
        run = jax.jit(
            lambda z: gd.solve(problem.game, gd.rules.make("simultaneous", 0.1), z, 5)
        )
        assert gd.Status(int(run(unstable).status)) == gd.Status.NON_FINITE

    def test_unsolved_or_unsolvable(self):
        one = ([np.eye(2)], [np.eye(2)], [np.eye(2)])
        assert games.linear_quadratic_game(np.eye(2), *one, solve=False).solutions == ()
        hopeless = games.linear_quadratic_game(
            2 * np.eye(2), [np.zeros((2, 1))], [np.eye(2)], [np.eye(1)]
        )
        assert hopeless.solutions == ()
        assert hopeless.info.solution == "none"


class TestLearning:
    def test_inner_maximum_of_robust_least_squares(self):
        problem = games.robust_least_squares(penalty=2.5, seed=1)
        A, y0, _ = map(np.asarray, problem.game.losses.args[0].args)
        x = RANDOM.normal(size=5)

        def payoff(y):
            return np.sum((A @ x - y) ** 2) - 2.5 * np.sum((y - y0) ** 2)

        y = RANDOM.normal(size=20)
        point = jnp.asarray(x), jnp.asarray(y)
        np.testing.assert_allclose(_losses(problem, point)[0], payoff(y))
        best = scipy.optimize.minimize(lambda y: -payoff(y), y0, tol=1e-12).x
        np.testing.assert_allclose(best, y0 + (y0 - A @ x) / 1.5, atol=1e-5)
        worst = 2.5 / 1.5 * np.sum((A @ x - y0) ** 2)
        assert payoff(best) == pytest.approx(worst)
        solution = np.linalg.lstsq(A, y0, rcond=None)[0]
        np.testing.assert_allclose(problem.solutions[0][0], solution, rtol=1e-10)

    @pytest.mark.parametrize("seed", [None, 0, 1])
    def test_constrained_optimisation_against_slsqp(self, seed):
        if seed is None:
            problem = games.constrained_optimisation()
        else:
            random = np.random.default_rng(seed)
            root = random.normal(size=(4, 4))
            problem = games.constrained_optimisation(
                root @ root.T + np.eye(4),
                3 * random.normal(size=4),
                random.normal(size=(5, 4)),
                random.uniform(size=5),
            )
        P, q, G, h = map(np.asarray, problem.game.losses.args[0].args)
        found = scipy.optimize.minimize(
            lambda x: x @ P @ x / 2 + q @ x,
            np.zeros(len(q)),
            jac=lambda x: P @ x + q,
            constraints={
                "type": "ineq",
                "fun": lambda x: h - G @ x,
                "jac": lambda x: -G,
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        x, multipliers = map(np.asarray, problem.solutions[0])
        np.testing.assert_allclose(x, found.x, atol=1e-5)
        assert multipliers.max() > 0.1
        assert (multipliers == 0).any()
        np.testing.assert_allclose(_losses(problem, (x, multipliers))[0], found.fun)

    def test_group_robust_solution_against_slsqp(self):
        """The epigraph form: minimise t above all groups' losses."""
        features, labels = real_data._breast_cancer()
        groups = real_data.breast_cancer_groups()
        rows = -labels[:, None] * features

        def parts(w):
            scores = rows @ w
            losses = np.logaddexp(0, scores)
            slopes = rows * sigmoid(scores)[:, None]
            at = [groups == g for g in range(4)]
            return (
                np.array([losses[m].mean() for m in at]),
                np.array([slopes[m].mean(axis=0) for m in at]),
            )

        found = scipy.optimize.minimize(
            lambda z: z[-1] + 0.005 * z[:-1] @ z[:-1],
            np.append(np.zeros(30), 1.0),
            jac=lambda z: np.append(0.01 * z[:-1], 1.0),
            constraints={
                "type": "ineq",
                "fun": lambda z: z[-1] - parts(z[:-1])[0],
                "jac": lambda z: np.hstack([-parts(z[:-1])[1], np.ones((4, 1))]),
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        problem = games.group_robust_logistic()
        w, p = problem.solutions[0]
        np.testing.assert_allclose(w, found.x[:-1], atol=1e-4)
        value = float(_losses(problem, (w, p))[0])
        assert value == pytest.approx(found.fun, abs=1e-8)
        losses = parts(np.asarray(w))[0]
        np.testing.assert_allclose(losses[np.asarray(p) > 0], losses.max(), rtol=1e-10)
        point = jnp.asarray(RANDOM.normal(size=30)), jnp.array([0.1, 0.2, 0.3, 0.4])
        naive = point[1] @ parts(np.asarray(point[0]))[0] + 0.005 * point[0] @ point[0]
        assert _losses(problem, point)[0] == pytest.approx(float(naive))


BAD = {
    "epsilon": (lambda: games.constrained_bilinear(-1), "epsilon must be positive"),
    "dim": (lambda: games.worst_case(0), "dim must be a positive integer"),
    "radius": (lambda: games.market_with_minimum(0), "radius must be positive"),
    "phases": (lambda: games.torus(phases=(1.0,)), r"phases must have shape \(2,\)"),
    "mean": (lambda: games.mean_wgan(1.0), "mean must be .* 1 dimensions"),
    "covariance": (
        lambda: games.covariance_wgan([[1, 2], [2, 1]]),
        "positive definite",
    ),
    "asymmetric": (lambda: games.covariance_wgan([[1, 0.5], [0, 1]]), "symmetric"),
    "variance": (lambda: games.variance_gan(4), r"variance must be in \(0, 4\)"),
    "points": (lambda: games.mlp_gan([[1.0, 2, 3]]), r"shape \(1, 2\) in the plane"),
    "width": (lambda: games.mlp_gan(width=0), "width must be a positive integer"),
    "weights": (
        lambda: games.weighted_rock_paper_scissors((1, 0, 1)),
        "weights must be positive",
    ),
    "columns": (lambda: games.bimatrix_game(np.eye(2), np.eye(3)), "like row_losses"),
    "index": (lambda: games.ordinal_game(144), "index must be in 0 to 143"),
    "half": (lambda: games.ordinal_game(0.5), "index must be an integer"),
    "alone": (lambda: games.half_matching_pennies(1), "an integer above 1"),
    "discount": (lambda: games.iterated_prisoners_dilemma(1.0), r"in \[0, 1\)"),
    "prize": (lambda: games.tullock(2, prize=-1), "prize > 0"),
    "monopoly": (lambda: games.tullock(1), "two players or more"),
    "unequal": (lambda: games.kelly((1.0, 9.0), reserve=1000), "a player does not bid"),
    "reserve": (lambda: games.kelly(reserve=-1), "positive gains"),
    "penalty": (lambda: games.robust_least_squares(penalty=1), "penalty must exceed 1"),
    "half a programme": (lambda: games.constrained_optimisation(np.eye(2)), "all of P"),
    "flat": (
        lambda: games.constrained_optimisation([[0.0]], [1.0], [[1.0]], [1.0]),
        "positive definite",
    ),
    "inputs": (
        lambda: games.linear_quadratic_game(np.eye(2), [], [], []),
        "one B, one Q and one R per player",
    ),
    "input": (
        lambda: games.linear_quadratic_game(
            np.eye(2), [np.ones((3, 1))], [np.eye(2)], [np.eye(1)]
        ),
        r"B\[0\] must have shape \(2, 1\)",
    ),
    "some data": (lambda: games.group_robust_logistic(np.eye(2)), "all of features"),
    "labels": (
        lambda: games.group_robust_logistic(np.eye(2), [0, 1], np.array([0, 1])),
        "labels must be -1 or 1",
    ),
    "gap": (
        lambda: games.group_robust_logistic(np.eye(2), [-1, 1], np.array([0, 2])),
        "without gaps",
    ),
    "soldiers": (lambda: games.blotto(3, 0), "num_soldiers must be a positive"),
    "kind": (
        lambda: games.register("new", summary="", source="", solution="nash"),
        "unknown kind of solution",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_mistakes_are_named(mistake):
    call, message = BAD[mistake]
    with pytest.raises(ValueError, match=message):
        call()
