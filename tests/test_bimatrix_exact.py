"""All extreme equilibria of bimatrix games, against a second exact enumeration."""

import copy
import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamedyn.games.equilibria import bimatrix_equilibria, check_bimatrix


def brute_vertices(losses):
    """Vertices of {(x, v): x on the simplex, x @ losses >= v}, whole-number entries.

    Every choice of as many tight inequalities as there are actions, by Cramer's rule;
    the determinants are small enough to be rounded to the right whole number.
    """
    size, others = losses.shape
    # Rows: x_i = 0, then (x @ losses)_j - v = 0, and last the sum of x.
    tight = np.vstack(
        [np.eye(size, size + 1), np.column_stack([losses.T, -np.ones(others)])]
    )
    choices = np.array(list(itertools.combinations(range(size + others), size)))
    total = np.append(np.ones(size), 0.0)
    systems = np.concatenate(
        [tight[choices], np.broadcast_to(total, (len(choices), 1, size + 1))], axis=1
    )
    below = np.rint(np.linalg.det(systems))
    right = np.append(np.zeros(size), 1.0)
    numerators = []
    for i in range(size + 1):
        replaced = systems.copy()
        replaced[:, :, i] = right
        numerators.append(np.rint(np.linalg.det(replaced)))
    above = np.stack(numerators, axis=1) * np.sign(below)[:, None]
    below = np.abs(below)
    solved = below > 0
    x, v = above[solved, :-1], above[solved, -1]
    inside = np.all(x >= 0, axis=1) & np.all(x @ losses >= v[:, None], axis=1)
    pairs = zip(x[inside].astype(int), below[solved][inside].astype(int), strict=True)
    return sorted({tuple(Fraction(int(a), int(b)) for a in p) for p, b in pairs})


def mixed(losses, strategy):
    """The losses of every row against a mixed strategy, in fractions."""
    return [
        sum(int(e) * s for e, s in zip(line, strategy, strict=True)) for line in losses
    ]


def brute_equilibria(a, b):
    """Pairs of vertices in which nobody gains, as pairs of tuples of floats."""
    return {
        (tuple(map(float, x)), tuple(map(float, y)))
        for x, y in itertools.product(brute_vertices(b), brute_vertices(a.T))
        if nobody_gains(x, mixed(a, y)) and nobody_gains(y, mixed(b.T, x))
    }


def nobody_gains(strategy, losses):
    return all(
        not s or own == min(losses) for s, own in zip(strategy, losses, strict=True)
    )


def as_set(equilibria):
    found = {tuple(tuple(s.tolist()) for s in pair) for pair in equilibria}
    assert len(found) == len(equilibria)
    return found


def random_games(count, seed, sizes=(2, 5), entries=(-3, 4)):
    random = np.random.default_rng(seed)
    for _ in range(count):
        m, n = random.integers(*sizes, size=2)
        yield random.integers(*entries, size=(2, m, n))


@pytest.mark.parametrize(
    ("count", "seed"), [(300, 0), pytest.param(2000, 1, marks=pytest.mark.slow)]
)
def test_all_extreme_equilibria_of_random_whole_number_games(count, seed):
    degenerate = 0
    for a, b in random_games(count, seed):
        found = bimatrix_equilibria((a, b))
        assert as_set(found) == brute_equilibria(a, b), (a, b)
        assert found.complete
        assert found.degenerate or len(found) % 2 == 1
        assert found.degenerate or not found.continuum
        degenerate += found.degenerate
        for pair in found:
            check = check_bimatrix((a, b), pair)
            assert check.equilibrium
            assert check.vertex
    assert 0.2 * count < degenerate < 0.9 * count


def test_a_player_who_does_not_care():
    found = bimatrix_equilibria(([[-1, 0], [0, -1]], np.zeros((2, 2))))
    # Every y goes with its best responses, which are both at (1/2, 1/2).
    half = (0.5, 0.5)
    assert as_set(found) == {
        *(((1, 0), (1, 0)), ((0, 1), (0, 1))),
        *(((1, 0), half), ((0, 1), half)),
    }
    assert found.degenerate
    assert found.continuum
    assert [len(np.flatnonzero(y)) for _, y in found] == [1, 1, 2, 2]


def test_nobody_cares():
    found = bimatrix_equilibria(np.zeros((2, 3, 4)))
    assert as_set(found) == {(tuple(x), tuple(y)) for x in np.eye(3) for y in np.eye(4)}
    assert found.continuum


def test_the_list_is_a_tuple_that_copies_with_what_is_known():
    found = bimatrix_equilibria(([[0, 1]], [[1, 0]]))
    assert isinstance(found, tuple)
    for other in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert as_set(other) == as_set(found)
        assert (other.complete, other.degenerate) == (True, found.degenerate)


def supports(equilibria):
    """What does not change with the units: who plays what."""
    return sorted(
        tuple(tuple(np.flatnonzero(s).tolist()) for s in pair) for pair in equilibria
    )


games = st.builds(lambda seed: next(random_games(1, seed)), st.integers(0, 2**32 - 1))


@given(
    games,
    st.tuples(st.integers(-300, 300), st.integers(-300, 300)),
    st.sampled_from([1.0, 0.1, 1 / 3, np.pi]),
)
def test_units_change_no_equilibrium(game, powers, unit):
    expected = bimatrix_equilibria(game)
    scaled = [loss * unit * 10.0**k for loss, k in zip(game, powers, strict=True)]
    found = bimatrix_equilibria(scaled)
    assert as_set(found) == as_set(expected)
    assert found.degenerate == expected.degenerate
    for pair in found:
        assert check_bimatrix(scaled, pair).equilibrium


@given(games, st.floats(0, 9), st.sampled_from([1.0, 0.1, 0.3]), st.integers(0, 99))
def test_constants_change_no_equilibrium(game, power, unit, seed):
    a, b = game
    random = np.random.default_rng(seed)
    most = unit * max(1, np.ptp(a), np.ptp(b)) * 10**power
    a_moved = unit * a + random.uniform(-most, most, size=(1, a.shape[1]))
    b_moved = unit * b + random.uniform(-most, most, size=(b.shape[0], 1))
    found = bimatrix_equilibria((a_moved, b_moved))
    assert as_set(found) == as_set(bimatrix_equilibria(game))
    for pair in found:
        assert check_bimatrix((a_moved, b_moved), pair).equilibrium


@given(games, st.integers(0, 99))
def test_the_order_of_players_and_actions_changes_no_equilibrium(game, seed):
    a, b = game
    random = np.random.default_rng(seed)
    rows, columns = (random.permutation(k) for k in a.shape)
    expected = as_set(bimatrix_equilibria(game))
    turned = bimatrix_equilibria((b.T, a.T))
    assert {(x, y) for y, x in as_set(turned)} == expected
    block = np.ix_(rows, columns)
    moved = bimatrix_equilibria((a[block], b[block]))
    assert as_set(moved) == {
        (tuple(np.array(x)[rows]), tuple(np.array(y)[columns])) for x, y in expected
    }


@given(games, st.integers(0, 99))
def test_a_duplicated_action_is_played_in_either_place(game, seed):
    a, b = game
    random = np.random.default_rng(seed)
    twin = random.integers(a.shape[0])
    order = [*range(a.shape[0]), twin]
    expected = set()
    for x, y in as_set(bimatrix_equilibria(game)):
        expected.add(((*x, 0.0), y))
        moved = [*x, x[twin]]
        moved[twin] = 0.0
        expected.add((tuple(moved), y))
    found = bimatrix_equilibria((a[order], b[order]))
    assert as_set(found) >= expected
    assert as_set(found) == brute_equilibria(a[order], b[order])


def test_single_precision_ties_are_ties():
    a, b = np.array([[1, 2], [2, 3], [3, 1]]), np.array([[2, 1], [1, 2], [3, 3]])
    expected = bimatrix_equilibria((a, b))
    single = [np.float32(0.1) * z.astype(np.float32) + np.float32(7) for z in (a, b)]
    found = bimatrix_equilibria(single)
    assert as_set(found) == as_set(expected)
    assert found.degenerate == expected.degenerate


def test_small_entries_beside_large_ones_count():
    # No unit is common to all: the entries are what they are.
    a = np.array([[0.1, -0.1, 0.0], [-0.1, 0.1, 1e15]])
    b = np.array([[-0.1, 0.1, 1.0], [0.1, -0.1, 1.0]])
    ((x, y),) = bimatrix_equilibria((a, b))
    np.testing.assert_array_equal(x, [0.5, 0.5])
    np.testing.assert_array_equal(y, [0.5, 0.5, 0])


def test_checks_are_relative_to_the_spread():
    pennies = np.array([[1.0, -1.0], [-1.0, 1.0]])
    for unit in (1e-150, 1e-30, 1.0, 1e30, 1e150):
        for constant in (0.0, 1e6 * unit, -1e9 * unit):
            losses = unit * pennies + constant, -unit * pennies - constant
            assert check_bimatrix(losses, ([0.5, 0.5], [0.5, 0.5])).equilibrium
            off = check_bimatrix(losses, ([0.5, 0.5], [0.6, 0.4]))
            assert not off.equilibrium
            assert off.best == ((1,), (0, 1))
            np.testing.assert_allclose(off.nash_conv, 0.2 * unit, rtol=1e-6)
