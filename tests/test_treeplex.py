"""Treeplexes: projection, entropic steps and best responses; Kuhn poker."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rule_cases
import scipy.optimize

import gamedyn as gd
from gamedyn import treeplex
from gamedyn.analysis import gaps
from gamedyn.games import KUHN, equilibria, kuhn_poker, leduc_poker, leduc_treeplexes
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


def random_tree(random, points=5):
    """Several roots, shared parents, sizes 1 to 4, any depth."""
    parents, sizes = [], []
    for _ in range(points):
        known = sum(sizes)
        free = random.uniform() < 0.3 or not known
        parents.append(-1 if free else int(random.integers(known)))
        sizes.append(int(random.integers(1, 5)))
    return Treeplex(tuple(parents), tuple(sizes))


@pytest.mark.parametrize("seed", range(3))
def test_gaps_are_measured_on_the_treeplex(seed):
    random = np.random.default_rng(seed)
    tree = random_tree(random, 6)
    x = jnp.asarray(random_strategy(tree, random))

    @jax.jit
    def measure(x, slope):
        best = treeplex.best_response(tree, slope)
        return best, treeplex.gap(tree, x, slope), treeplex.miss(tree, x)

    matrix, right = treeplex.constraints(tree)
    for size in (1e-150, 1.0, 1e150):
        slope = size * random.normal(size=tree.num_sequences)
        best, gap, off = measure(x, slope)
        np.testing.assert_allclose(gap, slope @ (x - best), rtol=1e-12)
        assert off < 1e-15
        # Constants at the decision points, on top of their parents', change nothing.
        constants = 1e9 * size * random.normal(size=len(tree.sizes))
        moved = measure(x, slope + constants @ matrix)[1]
        np.testing.assert_allclose(moved, gap, rtol=1e-4)
    point = random.normal(size=tree.num_sequences)
    expected = max(np.abs(matrix @ point - right).max(), -point.min())
    np.testing.assert_allclose(measure(point, point)[2], expected, rtol=1e-12)
    assert np.isnan(measure(np.full_like(point, np.nan), point)[2])


DILATED = [
    name
    for name, entry in gd.rules.entries().items()
    if "entropic" in entry.geometries and not entry.on_simplex
]


QUICK = {"adam", "extragradient", "optimistic", "lookahead"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in DILATED],
)
def test_every_rule_steps_on_random_treeplexes(name):
    """Both eagerly checked and under jit it starts, and stays inside."""
    random = np.random.default_rng(DILATED.index(name))
    trees = [random_tree(random, points) for points in (3, 4)]
    matrix = random.normal(size=[tree.num_sequences for tree in trees])
    game = gd.zero_sum(lambda x, y: x @ (jnp.asarray(matrix) @ y))
    geometry = tuple(map(gd.geometry.dilated_entropic, trees))
    rule = rule_cases.make(name, 0.1, geometry=geometry)
    start = tuple(jnp.asarray(random_strategy(tree, random)) for tree in trees)
    key = jax.random.key(0) if "finite sum" in rule_cases.ENTRIES[name].needs else None

    def sample(key):
        return jax.random.randint(key, (2,), 0, rule_cases.COMPONENTS)

    rule.init(start)  # where values are seen

    @jax.jit
    def run(start):
        found = gd.solve(
            game, rule, start, 300, key=key, sample=None if key is None else sample
        )
        field = gd.fields.gradient(game)
        gap = [
            gaps.variational_gap(z, field(z), geometry) for z in (start, found.output)
        ]
        return found.params, found.status, jnp.stack(gap)

    with jax.numpy_dtype_promotion("standard"):  # for optax's Adam
        end, status, (before, after) = run(start)
    assert status in (gd.Status.OK, gd.Status.MAX_STEPS)
    for tree, z in zip(trees, end, strict=True):
        equations, right = treeplex.constraints(tree)
        np.testing.assert_allclose(equations @ z, right, atol=1e-12)
        assert np.all(z > 0)
    assert np.isfinite(after)
    if name in ("extragradient", "optimistic", "past_extragradient"):
        assert after < before


def test_starts_off_a_treeplex_are_named():
    tree = Treeplex((-1, 1, -1), (2, 3, 2))
    geometry = gd.geometry.dilated_entropic(tree)
    rule = gd.simultaneous(optax.sgd(0.1), geometry=geometry)
    game = gd.Game(lambda params, batch: (jnp.sum(params[0]),), num_players=1)
    inside = jnp.asarray(treeplex.uniform(tree))
    run = jax.jit(lambda z: gd.solve(game, rule, (z,), 2).status)
    assert run(inside) == gd.Status.OK
    for off, words in (
        (inside / 2, "treeplex: player 0 .* its equations off by 0.5"),
        (inside.at[2].add(0.1).at[0].add(-0.1), "off by 0.1"),
        (inside.at[0].set(-0.5).at[1].set(1.5), "-0.5 as the smallest entry"),
        (inside.at[0].set(0.0).at[1].set(1.0), "off by 0.5"),
    ):
        with pytest.raises(ValueError, match=words):
            rule.init((off,))
        assert run(off) == gd.Status.INFEASIBLE
    pure = jnp.array([1.0, 0, 0, 0, 0, 0.5, 0.5])
    with pytest.raises(ValueError, match="a share of 0 stays 0"):
        rule.init((pure,))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_entropic_steps_of_any_size(dtype):
    """Against a softmax from the leaves up, by hand; nothing is lost for ever."""
    random = np.random.default_rng(7)
    tree = random_tree(random, 6)
    step = OPERATIONS["entropic_step"]
    matrix, right = treeplex.constraints(tree)
    start = jnp.asarray(random_strategy(tree, random), dtype)
    eps = float(jnp.finfo(dtype).eps)
    for size in (1e-30, 1.0, 1e3, 1e30):
        update = size * random.normal(size=tree.num_sequences)
        moved = np.asarray(step(tree, start, jnp.asarray(update, dtype)))
        np.testing.assert_allclose(matrix @ moved, right, atol=20 * eps)
        assert np.all(moved > 0)
        values = np.asarray(update, dtype).astype(float)
        expected = np.zeros(tree.num_sequences)
        behaviour = {}
        for point in reversed(range(len(tree.sizes))):
            own = np.asarray(start, float)[tree.block(point)]
            logits = np.log(own / own.sum()) + values[tree.block(point)]
            top = logits.max()
            weights = np.exp(logits - top)
            behaviour[point] = weights / weights.sum()
            if tree.parents[point] >= 0:
                values[tree.parents[point]] += top + np.log(weights.sum())
        for point, parent in enumerate(tree.parents):
            mass = 1 if parent < 0 else expected[parent]
            expected[tree.block(point)] = mass * behaviour[point]
        np.testing.assert_allclose(moved, expected, atol=20 * eps)
        # What fell to nothing comes back when it is good.
        back = step(tree, jnp.asarray(moved), jnp.asarray(-update, dtype))
        assert np.isfinite(back).all()
    best = treeplex.best_response(tree, jnp.asarray(-update))
    again = step(tree, jnp.asarray(back), jnp.asarray(update, dtype))
    np.testing.assert_allclose(again, best, atol=20 * eps)
    # But not what never was.
    none = jnp.asarray(best, dtype)
    np.testing.assert_array_equal(step(tree, none, jnp.asarray(update, dtype)), none)


class TestLeducPoker:
    TREES = leduc_treeplexes()
    MATRIX = np.asarray(leduc_poker(solve=False).game.losses.args[0].args[0])

    def test_its_decision_points(self):
        """By hand: 3 histories in a round for each player, 5 that lead to the next."""
        for tree in self.TREES:
            assert len(tree.sizes) == 3 * 3 + 3 * 3 * 5 * 3
            assert tree.num_sequences == 3 * 7 + 3 * 3 * 5 * 7
        # Every card told apart, it is the usual number of information sets.
        assert 2 * (6 * 3 + 6 * 5 * 5 * 3) == 936
        # Chips are neither made nor lost in any deal: the most that is won is 13.
        assert np.abs(self.MATRIX).max() <= 13

    def test_value_and_uniform_play(self):
        solved = equilibria.sequence_form_value(self.MATRIX, *self.TREES)
        assert solved.value == pytest.approx(0.085606424, abs=1e-9)
        assert solved.relative_gap < 1e-12
        x, y = (jnp.asarray(treeplex.uniform(tree)) for tree in self.TREES)
        field = jnp.asarray(self.MATRIX) @ y, -(x @ jnp.asarray(self.MATRIX))
        responses = tuple(map(gaps.treeplex_response, self.TREES))
        gap = jax.jit(lambda z, f: gaps.variational_gap(z, f, responses))((x, y), field)
        assert gap / 2 == pytest.approx(2.373611, abs=1e-6)
        small = equilibria.sequence_form_value(1e-30 * self.MATRIX, *self.TREES)
        assert small.value == pytest.approx(0.085606424e-30, rel=1e-7)

    @pytest.mark.parametrize(
        ("steps", "below"),
        [(600, 0.1), pytest.param(12_000, 1e-3, marks=pytest.mark.slow)],
    )
    def test_dilated_extragradient_solves_it(self, steps, below):
        """Linearly averaged; 20,000 evaluations to a gap of 1e-3."""
        problem = leduc_poker(entropic=True, solve=False)
        rule = gd.averaged(
            gd.extragradient(optax.sgd(8.0), geometry=problem.geometry), kind="linear"
        )

        @jax.jit
        def run(start):
            found = gd.solve(problem.game, rule, start, steps)
            field = gd.fields.gradient(problem.game)(found.output)
            gap = gaps.variational_gap(found.output, field, problem.geometry)
            return found.status, problem.game(found.output)[0], gap

        status, value, gap = run(problem.init(None))
        assert status == gd.Status.OK
        assert gap < below
        assert value == pytest.approx(0.085606424, abs=below)
