"""Best responses, regrets and magnets against the values of matrix games."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from scipy.optimize import linprog

import gamedyn as gd

MATRIX = np.random.default_rng(0).normal(size=(5, 7))


def _payoff(matrix, x, y):
    return x @ matrix @ y


def played(matrix, dtype=jnp.float64):
    return gd.zero_sum(Partial(_payoff, jnp.asarray(matrix, dtype)))


def value(matrix):
    """The value of min_x max_y x'Ay, by HiGHS."""
    m, n = matrix.shape
    bound = np.hstack([matrix.T, -np.ones((n, 1))])
    done = linprog(
        np.append(np.zeros(m), 1),
        A_ub=bound,
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(m), 0)[None],
        b_eq=[1],
        bounds=[(0, None)] * m + [(None, None)],
        method="highs",
    )
    return done.fun


@functools.partial(jax.jit, static_argnums=(1, 3))
def solve(game, rule, params, num_steps):
    return gd.solve(game, rule, params, num_steps)


def start(m, n, dtype=jnp.float64):
    x, y = (np.arange(1.0, k + 1) for k in (m, n))
    return jnp.asarray(x / x.sum(), dtype), jnp.asarray(y / y.sum(), dtype)


# The gap that the output's average must have reached after 4,000 steps.
GAPS = {
    "regret_matching": 0.03,
    "regret_matching_plus": 0.01,
    "predictive_regret_matching_plus": 2e-3,
    "fictitious_play": 0.1,
    "frank_wolfe": 0.2,
    "optimistic_mirror_descent": 1e-3,
}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", GAPS)
def test_the_value_of_a_matrix_game(name, dtype):
    rule = gd.rules.make(name, 0.5)  # only mirror descent has a step
    solution = solve(played(MATRIX, dtype), rule, start(5, 7, dtype), 4000)
    x, y = (np.asarray(own, float) for own in solution.output)
    for own in (x, y):
        np.testing.assert_allclose(own.sum(), 1, rtol=1e-4)
        assert own.min() >= 0
    high, low = np.max(x @ MATRIX), np.min(MATRIX @ y)
    assert low - 1e-5 <= value(MATRIX) <= high + 1e-5
    assert high - low < GAPS[name]


def test_regrets_by_hand():
    """Five simultaneous rounds against plain numpy."""
    for variant in ("plain", "plus", "predictive"):
        rule = gd.rules.regret_matching(variant=variant)
        x, y = (np.asarray(own) for own in start(5, 7))
        params, state = (jnp.asarray(x), jnp.asarray(y)), rule.init(start(5, 7))
        totals = [np.zeros(5), np.zeros(7)]
        for _ in range(5):
            slopes = MATRIX @ y, -MATRIX.T @ x
            plays = []
            for i, (own, slope) in enumerate(zip((x, y), slopes, strict=True)):
                regret = own @ slope - slope
                totals[i] = totals[i] + regret
                if variant != "plain":
                    totals[i] = np.maximum(totals[i], 0)
                play = totals[i] + (regret if variant == "predictive" else 0)
                play = np.maximum(play, 0)
                plays.append(
                    play / play.sum() if play.sum() > 0 else play * 0 + 1 / len(play)
                )
            x, y = plays
            params, state = rule.update(
                gd.fields.gradient(played(MATRIX)), params, state, (None,)
            )
            np.testing.assert_allclose(params[0], x, atol=1e-13)
            np.testing.assert_allclose(params[1], y, atol=1e-13)


def test_no_regrets_play_uniformly():
    rule = gd.rules.regret_matching()
    game = played(np.zeros((2, 3)))
    params, _ = rule.update(
        gd.fields.gradient(game), start(2, 3), rule.init(start(2, 3)), (None,)
    )
    np.testing.assert_allclose(params[0], 1 / 2)
    np.testing.assert_allclose(params[1], 1 / 3)


def test_fictitious_play_is_an_average_of_best_responses():
    rule = gd.rules.fictitious_play()
    x, y = (np.asarray(own) for own in start(5, 7))
    plays = [(x, y)]
    for _ in range(30):
        mean_x, mean_y = (np.mean([p[i] for p in plays], axis=0) for i in (0, 1))
        best = np.argmin(MATRIX @ mean_y), np.argmax(mean_x @ MATRIX)
        plays.append((np.eye(5)[best[0]], np.eye(7)[best[1]]))
    ours = solve(played(MATRIX), rule, start(5, 7), 30).params
    for i in (0, 1):
        due = np.mean([p[i] for p in plays], axis=0)
        np.testing.assert_allclose(ours[i], due, atol=1e-13)


def test_frank_wolfe_on_a_strongly_convex_game():
    """Known saddle point inside: min_x max_y |x - a|^2 - |y - b|^2 + small coupling."""
    a, b = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    game = gd.zero_sum(
        lambda x, y: (
            jnp.sum((x - a) ** 2) - jnp.sum((y - b) ** 2) + 0.1 * (x - a) @ (y - b)
        )
    )
    end = solve(game, gd.rules.make("frank_wolfe", 1.0), start(3, 3), 4000).params
    np.testing.assert_allclose(end[0], a, atol=2e-3)
    np.testing.assert_allclose(end[1], b, atol=2e-3)


def test_magnetic_mirror_descent_finds_the_quantal_response():
    matrix = np.array([[3.0, -1.0], [-1.0, 1.0]])
    rule = gd.rules.make("magnetic_mirror_descent", 0.1)
    x, y = solve(played(matrix), rule, start(2, 2), 4000).params
    np.testing.assert_allclose(x, (0.30080099, 0.69919901), atol=1e-8)
    np.testing.assert_allclose(y, (0.40362388, 0.59637612), atol=1e-8)
    np.testing.assert_allclose(x, jax.nn.softmax(-matrix @ y / 0.5), atol=1e-8)


def test_magnets_other_than_uniform():
    """x ~ r exp(-g / alpha) at the end, and one step in the published form."""
    magnet = start(5, 7)
    rule = gd.rules.magnetic_mirror_descent(0.2, temperature=0.7, magnet=magnet)
    begin = jnp.full(5, 1 / 5), jnp.full(7, 1 / 7)
    x, y = solve(played(MATRIX), rule, begin, 3000).params
    due = magnet[0] * np.exp(-MATRIX @ y / 0.7)
    np.testing.assert_allclose(x, due / due.sum(), atol=1e-9)
    due = magnet[1] * np.exp(x @ MATRIX / 0.7)
    np.testing.assert_allclose(y, due / due.sum(), atol=1e-9)
    first = solve(played(MATRIX), rule, begin, 1).params[0]
    slope = MATRIX @ begin[1]
    due = begin[0] * np.exp(-0.2 * slope) * magnet[0] ** (0.2 * 0.7)
    due = due ** (1 / (1 + 0.2 * 0.7))
    np.testing.assert_allclose(first, due / due.sum(), atol=1e-13)


def test_replicator_is_the_flow():
    """Small Euler steps conserve sum log x + sum log y on rock-paper-scissors."""
    matrix = np.array([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    begin = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.2, 0.6])

    def volume(params):
        return sum(np.sum(np.log(own)) for own in params)

    drifts = []
    for step_size, num_steps in ((1e-2, 1000), (1e-3, 10_000)):
        rule = gd.rules.make("replicator", step_size)
        end = solve(played(matrix), rule, begin, num_steps).params
        np.testing.assert_allclose(end[0].sum(), 1, rtol=1e-12)
        assert np.abs(end[0] - begin[0]).max() > 0.05  # it has moved
        drifts.append(abs(volume(end) - volume(begin)))
    assert drifts[1] < 0.12 * drifts[0] < 0.02


@pytest.mark.parametrize(
    "name", [n for n, e in gd.rules.entries().items() if e.on_simplex]
)
def test_off_the_simplex_is_an_error(name):
    rule = gd.rules.make(name, 0.1)
    with pytest.raises(ValueError, match="expected a point of the simplex"):
        rule.init((jnp.array([0.5, 0.5]), jnp.array([1.5, -0.5])))
    with pytest.raises(ValueError, match="expected a point of the simplex"):
        rule.init((jnp.array([0.5, 0.5]), jnp.array([0.5, 0.6])))
    assert rule.init((jnp.array([0.5, 0.5]), jnp.array([0.4, 0.6]))) is not None


HALF = [0.5, 0.5]
# Inside, outside twice, and on the border, which is no place outside.
STARTS = [[0.4, 0.6], HALF, HALF, HALF], [HALF, [1.5, -0.5], [0.5, 0.6], [1.0, 0.0]]


def statuses(run):
    """Of runs from several points whose values are not seen."""
    points = tuple(map(jnp.array, STARTS))
    return jax.jit(jax.vmap(lambda params: run(params).status))(points).tolist()


@pytest.mark.parametrize(
    "name", [n for n, e in gd.rules.entries().items() if e.on_simplex]
)
def test_off_the_simplex_is_a_status_where_it_is_not_seen(name):
    game, rule = played([[1.0, 2.0], [-1.0, 0.5]]), gd.rules.make(name, 0.1)
    inside, *outside, border = statuses(lambda z: gd.solve(game, rule, z, 2))
    assert inside == gd.Status.OK
    assert outside == [gd.Status.INFEASIBLE] * 2
    assert border != gd.Status.INFEASIBLE


def test_wrappers_and_the_other_solver_keep_the_domain():
    game, step = played([[1.0, 2.0], [-1.0, 0.5]]), optax.sgd(0.1)
    rule = gd.alternating(step, geometry=(gd.geometry.simplex(), gd.geometry.entropic))
    rule = gd.rules.restarted(rule, period=3)
    rule = gd.averaged(gd.lookahead(rule, period=2, strength=0.5))
    found = statuses(
        lambda z: gd.solve_until(game, rule, z, tolerance=1e-12, max_steps=3)
    )
    assert found == [gd.Status.MAX_STEPS, *[gd.Status.INFEASIBLE] * 2, found[3]]
    assert found[3] != gd.Status.INFEASIBLE
    assert gd.alternating(step).domain is None
    nan = gd.solve(game, rule, (jnp.full(2, 0.5), jnp.full(2, jnp.nan)), 3)
    assert nan.status == gd.Status.NON_FINITE


def test_a_run_that_goes_on_has_started_inside():
    rule, game = gd.rules.make("multiplicative_weights", 0.1), played(jnp.eye(2))
    middle = solve(game, rule, (jnp.array([0.4, 0.6]),) * 2, 3)

    @jax.jit
    def go_on(params, state):
        return gd.solve(game, rule, params, 3, rule_state=state, start=3).status

    assert go_on(middle.params, middle.rule_state) == gd.Status.OK


@pytest.mark.parametrize(
    "name", [n for n, e in gd.rules.entries().items() if e.on_simplex]
)
def test_multiplicative_steps_start_inside(name):
    """A share of zero would stay zero for ever; the others may start at a vertex."""
    vertex = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    rule = gd.rules.make(name, 0.1)
    if gd.rules.entries()[name].family != "entropic steps":
        moved = solve(played(jnp.eye(2)), rule, vertex, 3)
        assert int(moved.status) == gd.Status.OK
        return
    with pytest.raises(ValueError, match="a share of 0 stays 0: player 0 starts"):
        gd.solve(played(jnp.eye(2)), rule, vertex, 3)


def test_any_rule_with_entropic_steps_starts_inside():
    rule = gd.extragradient(optax.sgd(0.1), geometry=gd.geometry.entropic)
    with pytest.raises(ValueError, match="a share of 0 stays 0: player 1 starts"):
        rule.init((jnp.array([0.5, 0.5]), jnp.array([0.0, 1.0])))


def test_a_vertex_may_be_looked_at():
    """There are no logarithms at a vertex: a status says so, not an error."""
    problem = gd.games.make("prisoners_dilemma")
    (vertex,) = problem.solutions
    rule = gd.rules.make("multiplicative_weights", 0.25)
    radius = gd.analysis.spectral_radius(problem.game, rule, vertex)
    assert np.isnan(radius)
    assert radius.status == gd.Status.NOT_DIFFERENTIABLE


def test_options_are_checked():
    with pytest.raises(ValueError, match="variant must be plain"):
        gd.rules.regret_matching(variant="minus")
    with pytest.raises(ValueError, match="temperature must be positive"):
        gd.rules.magnetic_mirror_descent(0.1, temperature=0.0)
    with pytest.raises(ValueError, match="only defined on entropic"):
        gd.rules.magnetic_mirror_descent(0.1, geometry=gd.geometry.euclidean)
    for builder in (gd.rules.replicator, gd.rules.magnetic_mirror_descent):
        with pytest.raises(TypeError, match="one positive number"):
            builder("0.1")
