"""Treeplexes: projection, entropic steps and best responses; Kuhn poker."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import gamedyn as gd
from gamedyn import treeplex
from gamedyn.analysis import gaps
from gamedyn.games import KUHN, equilibria, kuhn_poker
from gamedyn.treeplex import Treeplex

SIMPLEX = Treeplex((-1,), (4,))
# Two roots, actions with no, one and two decision points behind them, three levels.
UNEVEN = Treeplex((-1, 1, 1, -1, 4, 9), (2, 3, 2, 3, 2, 2))
TREES = {"simplex": SIMPLEX, "uneven": UNEVEN, "kuhn": KUHN[0]}
OPERATIONS = {
    name: jax.jit(function, static_argnums=0)
    for name, function in (
        ("project", treeplex.project),
        ("entropic_step", treeplex.entropic_step),
        ("best_response", treeplex.best_response),
    )
}

every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


def random_strategy(tree, random):
    """By hand: mass times probabilities, from the roots on."""
    strategy = np.zeros(tree.num_sequences)
    for point, parent in enumerate(tree.parents):
        mass = 1.0 if parent < 0 else strategy[parent]
        weights = random.uniform(0.1, 1, size=tree.sizes[point])
        strategy[tree.block(point)] = mass * weights / weights.sum()
    return strategy


def vertices(tree):
    """All deterministic strategies, by trying every choice at every decision point."""
    for choice in np.ndindex(*tree.sizes):
        strategy = np.zeros(tree.num_sequences)
        for point, parent in enumerate(tree.parents):
            mass = 1.0 if parent < 0 else strategy[parent]
            strategy[tree.starts[point] + choice[point]] = mass
        yield strategy


@every_tree
def test_constraints_describe_the_strategies(tree):
    matrix, right = treeplex.constraints(tree)
    random = np.random.default_rng(0)
    for strategy in (random_strategy(tree, random), treeplex.uniform(tree)):
        np.testing.assert_allclose(matrix @ strategy, right, atol=1e-15)
    behaviour = np.repeat(1 / np.array(tree.sizes), tree.sizes)
    np.testing.assert_allclose(
        treeplex.from_behaviour(tree, behaviour), treeplex.uniform(tree), rtol=1e-15
    )


@every_tree
def test_projection_solves_the_quadratic_programme(tree):
    matrix, right = treeplex.constraints(tree)
    random = np.random.default_rng(1)
    size = tree.num_sequences
    for scale in (0.2, 1.0, 1.0, 5.0, 50.0):
        point = scale * random.normal(size=size)
        found = np.asarray(OPERATIONS["project"](tree, point))
        np.testing.assert_allclose(matrix @ found, right, atol=1e-13 * scale + 1e-14)
        assert found.min() >= 0
        solved = scipy.optimize.minimize(
            lambda x, point=point: np.sum((x - point) ** 2) / 2,
            treeplex.uniform(tree),
            jac=lambda x, point=point: x - point,
            bounds=[(0, None)] * size,
            constraints={
                "type": "eq",
                "fun": lambda x: matrix @ x - right,
                "jac": lambda x: matrix,
            },
            method="SLSQP",
            options={"ftol": 1e-15, "maxiter": 1000},
        )
        np.testing.assert_allclose(found, solved.x, atol=1e-5 * max(1, scale))
        # The conditions of optimality, against every vertex: <c - x, v - x> <= 0.
        gains = [(point - found) @ (v - found) for v in vertices(tree)]
        assert max(gains) < 1e-11 * max(1, scale**2)


def test_projection_of_a_strategy_is_itself():
    strategy = random_strategy(UNEVEN, np.random.default_rng(2))
    np.testing.assert_allclose(
        OPERATIONS["project"](UNEVEN, strategy), strategy, atol=1e-15
    )
    tied = jnp.zeros(UNEVEN.num_sequences)
    found = np.asarray(OPERATIONS["project"](UNEVEN, tied))
    np.testing.assert_allclose(found[[5, 6]], found[1] / 2, atol=1e-15)


def test_on_one_decision_point_it_is_the_simplex():
    random = np.random.default_rng(3)
    point, start = random.normal(size=4), random_strategy(SIMPLEX, random)
    for found, expected in (
        (OPERATIONS["project"](SIMPLEX, point), gd.geometry.simplex().project(point)),
        (
            OPERATIONS["entropic_step"](SIMPLEX, start, point),
            gd.geometry.entropic.apply(start, point),
        ),
        (
            OPERATIONS["best_response"](SIMPLEX, point),
            gaps.simplex_response(jnp.asarray(point)),
        ),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-15)


@every_tree
def test_best_response_is_the_best_vertex(tree):
    random = np.random.default_rng(4)
    for _ in range(5):
        slope = random.normal(size=tree.num_sequences)
        found = np.asarray(OPERATIONS["best_response"](tree, slope))
        best = min(vertices(tree), key=lambda v, slope=slope: slope @ v)
        np.testing.assert_array_equal(found, best)


def test_entropic_step_maximises_what_it_says():
    """Against Nelder and Mead's method on the probabilities at the decision points."""
    tree = Treeplex((-1, 1), (2, 2))
    random = np.random.default_rng(5)
    start, update = random_strategy(tree, random), random.normal(size=4)

    def unpack(logits):
        p, q = 1 / (1 + np.exp(-np.asarray(logits)))
        return np.array([1 - p, p, p * (1 - q), p * q])

    def objective(logits):
        x = unpack(logits)
        masses = np.array([1, 1, x[1], x[1]])
        before = start / np.array([1, 1, start[1], start[1]])
        return -(update @ x) + np.sum(x * np.log(x / masses / before))

    found = scipy.optimize.minimize(
        objective,
        [0.0, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-15},
    )
    np.testing.assert_allclose(
        treeplex.entropic_step(tree, jnp.asarray(start), jnp.asarray(update)),
        unpack(found.x),
        atol=1e-7,
    )


def test_entropic_steps_keep_what_is_never_reached_finite():
    tree = Treeplex((-1, 1), (2, 2))
    start = jnp.array([1.0, 0.0, 0.0, 0.0])
    moved = treeplex.entropic_step(tree, start, jnp.arange(4.0))
    np.testing.assert_array_equal(moved, start)
    slopes = jax.grad(lambda u: treeplex.entropic_step(tree, start, u)[0])(start)
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtypes_vmap_and_derivatives(dtype):
    tree = Treeplex((-1, 1), (2, 2))
    random = np.random.default_rng(6)
    points, tangents = jnp.asarray(random.normal(size=(2, 3, 4)), dtype)
    starts = jnp.asarray([random_strategy(tree, random) for _ in range(3)], dtype)
    domains = gd.geometry.treeplex(tree), gd.geometry.dilated_entropic(tree)
    matrix, right = treeplex.constraints(tree)
    for domain in domains:
        apply = jax.jit(
            jax.vmap(lambda x, u, v, f=domain.apply: jax.jvp(f, (x, u), (0 * x, v)))
        )
        moved, slopes = apply(starts, points, tangents)
        assert moved.dtype == slopes.dtype == dtype
        rounding = 20 * jnp.finfo(dtype).eps
        np.testing.assert_allclose(
            matrix @ np.asarray(moved).T,
            right[:, None] + np.zeros((2, 3)),
            atol=rounding,
        )
        if dtype == jnp.float64:
            ahead, behind = (
                apply(starts, points + s * tangents, tangents)[0] for s in (1e-6, -1e-6)
            )
            np.testing.assert_allclose(slopes, (ahead - behind) / 2e-6, atol=1e-8)


def test_geometries_are_cached():
    same = Treeplex((-1, 1), (2, 3)), Treeplex((-1, 1), (2, 3))
    for make in (gd.geometry.treeplex, gd.geometry.dilated_entropic):
        assert make(same[0]) is make(same[1])
        assert make(same[0]).domain == "treeplex"


BAD = {
    "lengths": ((-1, 0), (2,), "one parent and one size"),
    "none": ((), (), "one parent and one size"),
    "no action": ((-1,), (0,), "decision point 0 has 0 actions"),
    "later": ((-1, 3), (2, 2), "below 2, or -1; got 3"),
    "own": ((0,), (2,), "parent of decision point 0"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_mistakes_are_named(mistake):
    parents, sizes, message = BAD[mistake]
    with pytest.raises(ValueError, match=message):
        Treeplex(parents, sizes)


def test_wrong_shapes_are_named():
    for call in (
        lambda: treeplex.project(SIMPLEX, jnp.ones(3)),
        lambda: treeplex.best_response(SIMPLEX, jnp.ones(5)),
        lambda: treeplex.entropic_step(SIMPLEX, jnp.ones(4), jnp.ones(3)),
        lambda: equilibria.sequence_form_value(np.eye(3), SIMPLEX, SIMPLEX),
    ):
        with pytest.raises(ValueError, match=r"shape \(4,|shape \(4, 4\)"):
            call()


class TestKuhnPoker:
    MATRIX = np.asarray(kuhn_poker().game.losses.args[0].args[0])

    def test_losses_by_playing_out_every_deal(self):
        """Walk the tree of moves with probabilities at the decision points."""
        problem = kuhn_poker()
        x, y = (np.asarray(z) for z in problem.init(jax.random.key(0)))
        loss = 0.0
        for mine in range(3):
            for theirs in range(3):
                if mine == theirs:
                    continue
                wins = 1 if mine > theirs else -1
                bet = x[2 * mine + 1]
                check = x[2 * mine]
                call = x[7 + 2 * mine] / check
                their_bet = y[2 * theirs + 1]
                their_call = y[7 + 2 * theirs]
                payoff = bet * (their_call * 2 * wins + (1 - their_call))
                payoff += check * (1 - their_bet) * wins
                payoff += check * their_bet * (call * 2 * wins - (1 - call))
                loss -= payoff / 6
        np.testing.assert_allclose(problem.game((x, y))[0], loss, rtol=1e-13)

    def test_value_by_linear_programming(self):
        solved = equilibria.sequence_form_value(self.MATRIX, *KUHN)
        assert solved.value == pytest.approx(1 / 18, abs=1e-12)
        assert abs(solved.gap) < 1e-12
        # Best responses agree: neither player does better.
        x, y = jnp.asarray(solved.row), jnp.asarray(solved.column)
        worst = -x @ self.MATRIX @ treeplex.best_response(KUHN[1], -(x @ self.MATRIX))
        least = y @ self.MATRIX.T @ treeplex.best_response(KUHN[0], self.MATRIX @ y)
        assert -worst == pytest.approx(1 / 18, abs=1e-12)
        assert least == pytest.approx(1 / 18, abs=1e-12)

    def test_value_of_the_normal_form(self):
        """All 64 against all 64 deterministic strategies, as one matrix."""
        rows, columns = (np.array(list(vertices(tree))) for tree in KUHN)
        value = equilibria.zero_sum_value(rows @ self.MATRIX @ columns.T).value
        assert value == pytest.approx(1 / 18, abs=1e-12)

    def test_the_known_solutions_cannot_be_exploited(self):
        problem = kuhn_poker()
        responses = tuple(map(gaps.treeplex_response, KUHN))
        for solution in problem.solutions:
            assert problem.game(solution)[0] == pytest.approx(1 / 18, abs=1e-14)
            field = gd.fields.gradient(problem.game)(solution)
            gap = gaps.variational_gap(solution, field, responses)
            assert abs(float(gap)) < 1e-14

    @pytest.mark.parametrize("entropic", [False, True])
    def test_optimistic_steps_find_it(self, entropic):
        problem = kuhn_poker(entropic=entropic)
        responses = tuple(map(gaps.treeplex_response, KUHN))
        step_size = 4.0 if entropic else 0.5
        rule = gd.optimistic(optax.sgd(step_size), geometry=problem.geometry)

        @jax.jit
        def run(params):
            end = gd.solve(problem.game, rule, params, 2000).params
            field = gd.fields.gradient(problem.game)(end)
            value = problem.game(end)[0]
            return end, value, gaps.variational_gap(end, field, responses)

        end, value, gap = run(problem.init(None))
        assert gap < 1e-4
        assert value == pytest.approx(1 / 18, abs=1e-4)
        for tree, z in zip(KUHN, end, strict=True):
            matrix, right = treeplex.constraints(tree)
            np.testing.assert_allclose(matrix @ z, right, atol=1e-12)
