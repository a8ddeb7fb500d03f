"""Gaps, best responses, exploitability and equilibria of matrix games."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gamedyn as gd
from gamedyn.analysis.gaps import (
    best_responses,
    box_response,
    deviation_losses,
    exploitability,
    nash_conv,
    simplex_response,
    variational_gap,
)
from gamedyn.games.equilibria import (
    bimatrix_equilibria,
    check_bimatrix,
    zero_sum_value,
)
from gamedyn.geometry import natural_residual

# The row player maximises x'Ay: the losses are (-A, A).
PAYOFF = jnp.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
LOSSES = -PAYOFF, PAYOFF
POINT = jnp.array([0.5, 0.25, 0.25]), jnp.array([0.2, 0.3, 0.5])
EQUILIBRIUM = jnp.array([1 / 4, 5 / 12, 1 / 3]), jnp.array([1 / 3, 5 / 12, 1 / 4])


def test_the_textbook_numbers():
    x, y = POINT
    rows, columns = deviation_losses(LOSSES, POINT)
    np.testing.assert_allclose(x @ PAYOFF @ y, 0.3, rtol=1e-12)
    np.testing.assert_allclose(-rows, [0.7, -0.3, 0.1], atol=1e-15)
    np.testing.assert_allclose(columns, [0, -0.25, 0.75], atol=1e-15)
    np.testing.assert_allclose(nash_conv(LOSSES, POINT), 0.95, rtol=1e-12)
    np.testing.assert_allclose(exploitability(LOSSES, POINT), 0.475, rtol=1e-12)
    best = best_responses(LOSSES, POINT)
    assert [b.tolist() for b in best] == [[1, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(nash_conv(LOSSES, EQUILIBRIUM), 0, atol=1e-15)


def test_linear_programme_finds_the_value():
    found = zero_sum_value(-PAYOFF)
    np.testing.assert_allclose(-found.value, 1 / 12, rtol=1e-12)
    np.testing.assert_allclose(found.row, EQUILIBRIUM[0], atol=1e-12)
    np.testing.assert_allclose(found.column, EQUILIBRIUM[1], atol=1e-12)
    assert abs(found.gap) < 1e-14
    rng = np.random.default_rng(0)
    for shape in ((1, 4), (5, 7), (30, 20)):
        matrix = rng.normal(size=shape)
        found = zero_sum_value(matrix)
        assert abs(found.gap) < 1e-12
        strategies = jnp.asarray(found.row), jnp.asarray(found.column)
        assert abs(nash_conv((matrix, -matrix), strategies)) < 1e-12
    for bad in (np.zeros(3), np.zeros((0, 2)), [[np.nan]]):
        with pytest.raises(ValueError, match="finite, non-empty matrix"):
            zero_sum_value(bad)


def test_nash_conv_is_the_variational_gap_on_simplices():
    game = gd.zero_sum(lambda x, y: -x @ PAYOFF @ y)
    direction = gd.fields.gradient(game)(POINT)
    gap = variational_gap(POINT, direction, simplex_response)
    np.testing.assert_allclose(gap, 0.95, rtol=1e-12)
    at_rest = gd.fields.gradient(game)(EQUILIBRIUM)
    simplices = gd.geometry.simplex()
    assert natural_residual(POINT, direction, simplices) > 0.1
    np.testing.assert_allclose(
        natural_residual(EQUILIBRIUM, at_rest, simplices), 0, atol=1e-15
    )


def test_gap_on_boxes_where_plain_stationarity_is_wrong():
    # Descent on x over [0, 1] with slope 1 ends at 0: solved, and |F| = 1.
    point, direction = (jnp.array([0.0, 0.5]),), (jnp.array([1.0, 0.0]),)
    response = box_response(0.0, 1.0)
    assert variational_gap(point, direction, response) == 0
    assert natural_residual(point, direction, gd.geometry.box(0.0, 1.0)) == 0
    slopes = (jnp.array([1.0, -2.0]),)
    assert variational_gap(point, slopes, response) == 1.0
    with pytest.raises(ValueError, match="lower <= upper"):
        box_response(1.0, 0.0)
    with pytest.raises(ValueError, match="response"):
        variational_gap(point, direction, (response, response))


def test_transformations():
    rng = np.random.default_rng(0)
    matrices = jnp.asarray(rng.normal(size=(6, 3, 4)))
    x, y = (jnp.asarray(rng.dirichlet(np.ones(n), size=6)) for n in (3, 4))
    together = jax.jit(jax.vmap(lambda m, x, y: nash_conv((m, -m), (x, y))))
    values = together(matrices, x, y)
    for i in range(6):
        alone = nash_conv((matrices[i], -matrices[i]), (x[i], y[i]))
        np.testing.assert_allclose(values[i], alone, rtol=1e-12)
    assert np.all(values > 0)
    gradient = jax.grad(lambda x: nash_conv(LOSSES, (x, POINT[1])))(POINT[0])
    step = 1e-6 * np.eye(3)
    difference = [
        (nash_conv(LOSSES, (POINT[0] + s, POINT[1])) - nash_conv(LOSSES, POINT)) / 1e-6
        for s in step
    ]
    np.testing.assert_allclose(gradient, difference, atol=1e-7)
    f32 = [jnp.asarray(m, jnp.float32) for m in LOSSES]
    point = [jnp.asarray(s, jnp.float32) for s in POINT]
    assert exploitability(f32, point).dtype == jnp.float32


def test_three_players():
    rng = np.random.default_rng(0)
    losses = [rng.normal(size=(2, 3, 4)) for _ in range(3)]
    strategies = [rng.dirichlet(np.ones(n)) for n in (2, 3, 4)]
    expected = 0
    for i, loss in enumerate(losses):
        value = np.einsum("abc,a,b,c", loss, *strategies)
        others = [s for j, s in enumerate(strategies) if j != i]
        letters = "abc".replace("abc"[i], "")
        pure = np.einsum(f"abc,{','.join(letters)}->{'abc'[i]}", loss, *others)
        expected += value - pure.min()
    np.testing.assert_allclose(nash_conv(losses, strategies), expected, rtol=1e-12)
    np.testing.assert_allclose(
        exploitability(losses, strategies), expected / 3, rtol=1e-12
    )
    with pytest.raises(ValueError, match="player 1"):
        nash_conv([losses[0], losses[1][:1], losses[2]], strategies)
    with pytest.raises(ValueError, match="one vector per player"):
        nash_conv(losses[:2], strategies)


def test_check_of_the_known_equilibrium():
    found = check_bimatrix(LOSSES, EQUILIBRIUM)
    assert found.equilibrium
    assert found.vertex
    assert found.supports == ((0, 1, 2), (0, 1, 2))
    assert abs(found.nash_conv) < 1e-15
    found = check_bimatrix(LOSSES, POINT)
    assert not found.equilibrium
    assert found.best == ((0,), (1,))
    np.testing.assert_allclose(found.nash_conv, 0.95, rtol=1e-12)


def test_equilibria_that_are_no_vertices():
    # The column player never cares: every y goes with the row player's best response.
    losses = np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((2, 2))
    inside = check_bimatrix(losses, ([1.0, 0.0], [0.3, 0.7]))
    assert inside.equilibrium
    assert not inside.vertex
    corner = check_bimatrix(losses, ([1.0, 0.0], [0.0, 1.0]))
    assert corner.equilibrium
    assert corner.vertex


def test_all_equilibria_of_textbook_games():
    # Battle of the sexes: payoffs (2, 1), (1, 2) on the diagonal.
    a, b = -np.array([[2.0, 0], [0, 1]]), -np.array([[1.0, 0], [0, 2]])
    found = bimatrix_equilibria((a, b))
    assert len(found) == 3
    np.testing.assert_allclose(found[2][0], [2 / 3, 1 / 3])
    np.testing.assert_allclose(found[2][1], [1 / 3, 2 / 3])
    # The prisoners' dilemma has one, rock-paper-scissors a mixed one.
    years = np.array([[1.0, 3], [0, 2]])
    (only,) = bimatrix_equilibria((years, years.T))
    assert [s.tolist() for s in only] == [[0, 1], [0, 1]]
    (only,) = bimatrix_equilibria(LOSSES)
    np.testing.assert_allclose(only[0], EQUILIBRIUM[0], atol=1e-12)


def test_random_games_have_an_odd_number_of_equilibria():
    rng = np.random.default_rng(0)
    for shape in [(3, 3), (4, 3), (4, 4)] * 3:
        losses = rng.normal(size=(2, *shape))
        found = bimatrix_equilibria(losses)
        assert len(found) % 2 == 1
        for pair in found:
            check = check_bimatrix(losses, pair)
            assert check.equilibrium
            assert check.vertex
            assert abs(check.nash_conv) < 1e-9


def test_bad_bimatrix_games():
    with pytest.raises(ValueError, match="two players"):
        bimatrix_equilibria(LOSSES[:1])
    with pytest.raises(ValueError, match="one shape"):
        bimatrix_equilibria((np.zeros((2, 2)), np.zeros((2, 3))))
    for size in (12, 40):
        with pytest.raises(ValueError, match="pairs of supports"):
            bimatrix_equilibria(np.zeros((2, size, size)))
    with pytest.raises(ValueError, match="not on the simplex"):
        check_bimatrix(LOSSES, ([1.0, 1.0, 0.0], EQUILIBRIUM[1]))
    with pytest.raises(ValueError, match="shape"):
        check_bimatrix(LOSSES, ([1.0, 0.0], EQUILIBRIUM[1]))


def flat_gap(matrix, x, y):
    return np.max(x @ matrix) - np.min(matrix @ y)


def test_one_simplex_of_several_leaves():
    """All leaves together, as the geometry projects them."""
    matrix = jnp.array([[1.0, 2.0], [3.0, 4.0]])

    def lose(x, y):
        return jnp.concatenate([x["a"], x["b"]]) @ matrix @ y

    game = gd.zero_sum(lose)
    point = {"a": jnp.array([0.5]), "b": jnp.array([0.5])}, jnp.array([0.5, 0.5])
    direction = gd.fields.gradient(game)(point)
    expected = flat_gap(matrix, np.full(2, 0.5), point[1])
    for response in (simplex_response, gd.geometry.simplex(), gd.geometry.entropic):
        assert variational_gap(point, direction, response) == pytest.approx(expected)
    best = simplex_response(direction[0])
    assert [best[k].tolist() for k in "ab"] == [[1], [0]]
    np.testing.assert_array_equal(
        np.concatenate(jax.tree.leaves(gd.geometry.simplex().project(best))), [1, 0]
    )


@pytest.mark.parametrize(
    ("domain", "norm"),
    [
        (gd.geometry.simplex(3.0), None),
        (gd.geometry.box(-1.0, 2.0), None),
        (gd.geometry.l1_ball(2.0), np.inf),
        (gd.geometry.l2_ball(2.0), 2),
    ],
)
def test_responses_of_every_bounded_domain(domain, norm):
    random = np.random.default_rng(0)
    slope = {"a": jnp.asarray(random.normal(size=3)), "b": jnp.asarray([[0.3, -2.0]])}
    best = domain.respond(slope)
    assert gd.geometry.miss(best, domain) < 1e-14
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slope)])
    least = sum(
        float(np.sum(s * b))
        for s, b in zip(jax.tree.leaves(slope), jax.tree.leaves(best), strict=True)
    )
    if norm:
        assert least == pytest.approx(-2 * np.linalg.norm(flat, norm))
    for _ in range(20):
        tried = jax.tree.map(lambda s: jnp.asarray(random.normal(size=s.shape)), slope)
        tried = domain.project(tried)
        value = sum(
            jax.tree.leaves(jax.tree.map(lambda s, u: (s * u).sum(), slope, tried))
        )
        assert value >= least - 1e-12
        gap = variational_gap((tried,), (slope,), domain)
        np.testing.assert_allclose(gap, value - least, atol=1e-12)


def test_gaps_need_a_bounded_domain():
    point, slope = (jnp.ones(2),), (jnp.ones(2),)
    for domain in (gd.geometry.euclidean, gd.geometry.box(0.0, np.inf)):
        with pytest.raises(ValueError, match="best responses are known"):
            variational_gap(point, slope, domain)
    with pytest.raises(ValueError, match="structure and shapes"):
        variational_gap(point, ({"a": jnp.ones(2)},), simplex_response)


OFF = ([0.0, 0.0], [5.0, 5.0], [np.nan, 1.0], [1.5, -0.5], [0.5, 0.6])


@pytest.mark.parametrize("off", OFF, ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_what_is_no_strategy_has_no_gap(off, dtype):
    pennies = jnp.array([[1.0, -1.0], [-1.0, 1.0]], dtype)
    losses, half = (pennies, -pennies), jnp.full(2, 0.5, dtype)
    point = jnp.asarray(off, dtype), half
    measures = [
        lambda z: exploitability(losses, z),
        lambda z: nash_conv(losses, z),
        lambda z: deviation_losses(losses, z)[1][0],
        lambda z: best_responses(losses, z)[1][0],
        lambda z: variational_gap(z, (half, half), simplex_response),
    ]
    for measure in measures:
        with pytest.raises(ValueError, match="player 0 is not on the simplex"):
            measure(point)
    unseen = jax.jit(lambda z: jnp.stack([measure(z) for measure in measures]))
    assert np.isnan(unseen(point)).all()
    assert np.isfinite(unseen((half, half))).all()
    with pytest.raises(ValueError, match="one axis per player"):
        nash_conv(losses, (half, jnp.ones(3, dtype) / 3))
    # A box and a treeplex are looked at, too.
    if not np.isfinite(off).all() or max(off) > 2:
        with pytest.raises(ValueError, match="not on the box"):
            variational_gap(point, (half, half), box_response(0.0, 2.0))


def test_whole_numbers_are_strategies():
    losses = np.array([[1, -1], [-1, 1]])
    assert nash_conv((losses, -losses), ([1, 0], [0, 1])) == 2.0


@given(
    st.integers(0, 2**32 - 1),
    st.integers(-150, 150),
    st.floats(-1e9, 1e9),
)
def test_gaps_keep_their_digits(seed, power, constant):
    """Under units, constants, another order and duplicated strategies."""
    random = np.random.default_rng(seed)
    unit = 10.0**power
    losses = random.integers(-9, 10, size=(2, 3, 4)) / 8
    point = tuple(random.dirichlet(np.ones(k)) for k in (3, 4))
    expected = nash_conv(losses, point)
    np.testing.assert_allclose(
        exploitability(unit * losses, point), unit * expected / 2, rtol=1e-12
    )
    # What the other's action adds, of a size that leaves the losses some digits.
    constants = constant * random.normal(size=(2, 4))
    moved = np.round(8 * constants) / 8
    a = losses[0] + moved[0]
    b = losses[1] + moved[1][:3, None]
    np.testing.assert_allclose(nash_conv((a, b), point), expected, rtol=1e-6)
    order = [[2, 0, 1, 0], [1, 3, 0, 2]]
    again = [p[o].copy() for p, o in zip(point, order, strict=True)]
    again[0][[1, 3]] /= 2
    block = np.ix_(*order)
    np.testing.assert_allclose(
        nash_conv((a[block], b[block]), again), expected, rtol=1e-6
    )


@pytest.mark.parametrize(("unit", "constant"), [(1e-9, 0.0), (1.0, 1e9), (1e100, 1e6)])
def test_certificates_on_simplices_know_no_units(unit, constant):
    pennies = np.array([[1.0, -1.0], [-1.0, 1.0]])
    problem = gd.games.matrix_game(unit * (pennies + constant))
    half, off = jnp.full(2, 0.5), jnp.array([0.9, 0.1])
    for point, verdict in (
        (problem.solutions[0], "NASH_EQUILIBRIUM"),
        ((half, off), "NOT_AN_EQUILIBRIUM"),
    ):
        report = gd.analysis.certify(problem.game, point, geometry=problem.geometry)
        assert report.verdict.name == verdict
