"""Values of zero-sum games by linear programming, for every unit and offset."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gamedyn.games import KUHN, kuhn_poker, programmes
from gamedyn.games.equilibria import (
    minimax_strategy,
    sequence_form_value,
    zero_sum_value,
)
from gamedyn.treeplex import Treeplex, constraints

PENNIES = np.array([[1.0, -1.0], [-1.0, 1.0]])


def bounds(matrix, found):
    """What the strategies guarantee, in fractions."""
    x, y = ([Fraction(s) for s in z.tolist()] for z in (found.row, found.column))
    entries = [[Fraction(e) for e in line] for line in np.asarray(matrix).tolist()]
    columns = [
        sum(s * e for s, e in zip(x, c, strict=True))
        for c in zip(*entries, strict=True)
    ]
    rows = [sum(s * e for s, e in zip(y, line, strict=True)) for line in entries]
    return max(columns) / sum(x), min(rows) / sum(y)


def check(matrix, found):
    """Both guarantees meet at the value, up to the rounding of the strategies."""
    upper, lower = bounds(matrix, found)
    spread = Fraction(np.max(matrix)) - Fraction(np.min(matrix))
    assert found.row.min() >= 0
    assert found.column.min() >= 0
    assert upper - lower <= Fraction(1, 10**12) * spread
    assert abs(Fraction(found.value) - upper) <= spread / 10**12 + max(
        abs(upper) / 10**15, Fraction(5e-324)
    )
    np.testing.assert_allclose(found.gap, float(upper - lower), rtol=1e-6, atol=1e-323)
    assert found.relative_gap <= 1e-12


@pytest.mark.parametrize("power", [*range(-320, 301, 31), -307, -9, 0, 15, 150, 307])
def test_units_scale_the_value(power):
    for matrix, value in (
        (PENNIES, 0),
        (np.array([[0, 1.0], [2.0, 0]]), 2 / 3),
        (np.array([[0.0, 1], [3, 2]]), 1),
    ):
        scaled = matrix * 10.0**power
        found = zero_sum_value(scaled)
        check(scaled, found)
        np.testing.assert_allclose(
            found.value, value * 10.0**power, rtol=1e-12 if power > -300 else 0.01
        )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(-150, 150),
    st.floats(-1e9, 1e9),
    st.booleans(),
)
def test_units_constants_and_order_change_only_what_they_should(
    seed, power, constant, whole
):
    random = np.random.default_rng(seed)
    shape = random.integers(1, 7, size=2)
    matrix = random.normal(size=shape)
    if whole:
        matrix = random.integers(-3, 4, size=shape).astype(float)
    assume(np.ptp(matrix) > 0)
    value = zero_sum_value(matrix).value
    unit = 10.0**power
    moved = unit * (matrix + constant * np.ptp(matrix))
    found = zero_sum_value(moved)
    check(moved, found)
    expected = unit * (value + constant * np.ptp(matrix))
    room = 1e-6 * unit * np.ptp(matrix)
    assert abs(found.value - expected) <= room
    rows, columns = (random.permutation([*range(k), 0]) for k in shape)
    again = zero_sum_value(matrix[np.ix_(rows, columns)])
    np.testing.assert_allclose(again.value, value, rtol=1e-14, atol=1e-16)
    turned = zero_sum_value(-matrix.T)
    np.testing.assert_allclose(turned.value, -value, rtol=1e-14, atol=1e-16)


@given(st.integers(0, 2**32 - 1))
def test_rows_and_columns_of_very_unequal_size(seed):
    random = np.random.default_rng(seed)
    m, n = random.integers(2, 6, size=2)
    lines, columns = (10.0 ** random.integers(-15, 16, size=k) for k in (m, n))
    matrix = random.normal(size=(m, n)) * lines[:, None] * columns
    found = zero_sum_value(matrix)
    upper, lower = bounds(matrix, found)
    # To the rounding of the strategies, some of which are as small as 1e-30.
    sizes = np.abs(matrix)
    reach = max((found.row @ sizes).max(), (sizes @ found.column).max())
    assert upper - lower <= 1e-14 * Fraction(reach)
    assert lower - Fraction(reach) / 10**14 <= found.value
    assert found.value <= upper + Fraction(reach) / 10**14


def test_dominated_strategies_of_another_size_do_not_matter():
    for huge in (1e15, 1e100, 1e300):
        matrix = np.array([[1.0, -1.0, -huge], [-1.0, 1.5, -huge], [huge, huge, huge]])
        found = zero_sum_value(matrix)
        np.testing.assert_allclose(found.value, 1 / 9, rtol=1e-15)
        np.testing.assert_allclose(found.row, [5 / 9, 4 / 9, 0], rtol=1e-15)


@pytest.mark.parametrize("shape", [(60, 60), (3, 400), (120, 80)])
@pytest.mark.parametrize("power", [-150, 0, 150])
def test_large_games_are_scaled_and_checked(shape, power):
    matrix = np.random.default_rng(0).normal(size=shape)
    found = zero_sum_value(10.0**power * matrix + 10.0 ** (power + 9))
    plain = zero_sum_value(matrix)
    assert plain.relative_gap < 1e-12
    np.testing.assert_allclose(found.row, plain.row, atol=1e-6)
    np.testing.assert_allclose(found.value / 10.0**power - 1e9, plain.value, atol=1e-6)
    best = (found.row @ (matrix - plain.value)).max()
    assert best < 1e-6


@pytest.mark.parametrize("huge", [1e6, 1e15, 1e300])
def test_large_games_with_a_line_of_another_size(huge):
    """Right, or refused: not the value of another game."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(60, 60))
    value = zero_sum_value(matrix).value
    line = huge * random.uniform(1, 2, size=60)
    for wild in (np.vstack([matrix, line]), np.column_stack([matrix, -line])):
        found = zero_sum_value(wild)
        np.testing.assert_allclose(found.value, value, atol=1e-9)
        assert found.gap < 1e-9


def test_a_programme_that_floats_do_not_solve_is_an_error(monkeypatch):
    monkeypatch.setattr(programmes, "_PATIENCE", 0)
    wrong = np.array([1.0, 0.0])
    monkeypatch.setattr(programmes, "_in_floats", lambda *_: (wrong, wrong))
    with pytest.raises(
        ValueError, match="best responses gain 2e-09, more than 1e-09 of"
    ):
        zero_sum_value(1e-9 * PENNIES)


@pytest.mark.parametrize("patience", [0, 10])
@pytest.mark.parametrize("power", [-150, -9, 0, 9, 150])
def test_the_units_of_a_sequence_form(monkeypatch, patience, power):
    monkeypatch.setattr(programmes, "_PATIENCE", patience)
    unit = 10.0**power
    matrix = unit * np.asarray(kuhn_poker().game.losses.args[0].args[0])
    found = sequence_form_value(matrix, *KUHN)
    np.testing.assert_allclose(found.value, unit / 18, rtol=1e-12)
    assert found.relative_gap < 1e-14
    assert found.gap <= unit * 1e-14
    for tree, strategy in zip(KUHN, (found.row, found.column), strict=True):
        equations, right = constraints(tree)
        np.testing.assert_allclose(equations @ strategy, right, atol=1e-15)
    coin = Treeplex((-1,), (2,))
    pair = sequence_form_value(unit * np.array([[0, 1.0], [2, 0]]), coin, coin)
    np.testing.assert_allclose(pair.value, unit * 2 / 3, rtol=1e-14)


def test_whole_numbers_and_floats_agree(monkeypatch):
    random = np.random.default_rng(0)
    games = [random.integers(-3, 4, size=(6, 8)) for _ in range(10)]
    exact = [zero_sum_value(game).value for game in games]
    monkeypatch.setattr(programmes, "_PATIENCE", 0)
    for game, value in zip(games, exact, strict=True):
        assert zero_sum_value(game).value == pytest.approx(value, abs=1e-13)
        row = minimax_strategy(game)
        assert (row @ game).max() == pytest.approx(value, abs=1e-13)
