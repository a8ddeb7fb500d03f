r"""Linear programmes of zero-sum games: exact for small ones, in floating point beyond.

A matrix game is the case of one decision point each, so that one programme is solved
for all games in sequence form. With the treeplexes $Ex = e$ and $Fy = h$,

$$\min_{x, v} h^\top v \quad \text{subject to} \quad
  w = F^\top v - A^\top x \ge 0, \ Ex = e,\ x \ge 0.$$

A float is a fraction, so that a small game is solved in whole numbers, right to the
last digit whatever its units and however unlike its entries. Larger ones are scaled,
given to HiGHS, and checked by best responses.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from gamedyn.games.rationals import to_integers
from gamedyn.treeplex import Treeplex, constraints

# Seconds that whole numbers may take, by a rough count; beyond them HiGHS is asked.
_PATIENCE = 0.5
# The largest gap of floating-point strategies, relative to what is at stake in play.
_ACCEPTED = Fraction(1, 10**9)


class Saddle(NamedTuple):
    """A pair of optimal strategies, with what shows that they are.

    Attributes:
        value: x'Ay.
        row: x, float64.
        column: y, float64.
        gap: what best responses to the two would gain, both players together.
        relative: the gap in units of the spread of the entries, A's largest one less
            its smallest, in sequence form its largest absolute one.
    """

    value: float
    row: np.ndarray
    column: np.ndarray
    gap: float
    relative: float


def solve(matrix: np.ndarray, row: Treeplex, column: Treeplex) -> Saddle:
    """Solve a zero-sum game in sequence form.

    Args:
        matrix: A, what the row player pays, finite, float64.
        row: the row player's decision points.
        column: those of the column player.

    Returns:
        The value with a pair of optimal strategies, each a vertex.

    Raises:
        ValueError: if floating point does not reach the value.
    """
    numbers, unit = to_integers(matrix)
    offset = Fraction(0)
    simplices = len(row.sizes) == len(column.sizes) == 1
    if simplices:
        # On simplices a constant changes the value alone. The median: entries near it
        # keep their digits beside a huge one.
        middle = np.sort(numbers, axis=None)[numbers.size // 2]
        numbers, offset = numbers - middle, middle * unit
    divisor = max(1, math.gcd(*numbers.ravel()))
    numbers, unit = numbers // divisor, unit * divisor
    scale = max(1, np.abs(numbers).max())
    exact = _seconds(numbers, row, column) < _PATIENCE
    if exact:
        value, *ends = _in_integers(numbers, scale, row, column)
        x, y = (np.array([float(share) for share in end]) for end in ends)
    else:
        payoffs = np.array(numbers / scale, np.float64)
        value, (x, y) = Fraction(0), _in_floats(payoffs, row, column)
    # What is returned is rounded, and so is measured itself, without more rounding.
    upper = _bound(numbers.T, x, row, column, max)
    lower = _bound(numbers, y, column, row, min)
    gap = max(upper - lower, Fraction(0))
    if not exact:
        value = (upper + lower) / 2
        # What is at stake in play: beside an entry that is never met, nothing is large.
        centre = round(value) if simplices else 0
        (p, one), (q, two) = to_integers(x), to_integers(y)
        stake = p.dot(np.abs(numbers - centre)).dot(q) * one * two
        if gap > _ACCEPTED * stake:
            raise ValueError(
                f"the linear programme was not solved: best responses gain "
                f"{float(gap * unit):.3g}, more than {float(_ACCEPTED):g} of "
                f"{float(stake * unit):.3g}, what is at stake in play"
            )
    spread = max(1, numbers.max() - numbers.min() if simplices else scale)
    value = value * unit + offset
    return Saddle(float(value), x, y, float(gap * unit), float(gap / spread))


def _bound(
    payoffs: np.ndarray,
    strategy: np.ndarray,
    own: Treeplex,
    other: Treeplex,
    choose: Callable[..., Any],
) -> Fraction:
    """What the other's best response makes of a strategy, exactly."""
    shares, unit = to_integers(strategy)
    if len(own.sizes) == 1:  # rounded, it does not quite sum to 1
        unit = Fraction(1, sum(shares))
    return _best(other, payoffs.dot(shares), choose) * unit


def _seconds(numbers: np.ndarray, row: Treeplex, column: Treeplex) -> float:
    """Roughly how long whole numbers take, which grow with every pivot."""
    basic = len(row.sizes) + column.num_sequences
    free = row.num_sequences - len(row.sizes) + len(column.sizes)
    pivots = min(basic, free)
    words = int(np.abs(numbers).max()).bit_length() * pivots / 60
    return basic * free * pivots * (4e-6 + 3e-8 * words**1.6)


def _on(tree: Treeplex, strategy: np.ndarray) -> np.ndarray:
    """The strategy of the same probabilities that fulfils the equations."""
    strategy = np.maximum(strategy, 0)
    result = strategy.copy()
    for point, parent in enumerate(tree.parents):
        block = tree.block(point)
        mass = result[parent] if parent >= 0 else 1.0
        total = strategy[block].sum()
        if total > 0:
            result[block] = strategy[block] * (mass / total)
        else:
            result[block] = 0
            result[block.start] = mass
    return result


def _best(tree: Treeplex, slopes: np.ndarray, choose: Callable[..., Any]) -> Any:
    """The best value of a linear function over a treeplex, from the leaves up."""
    slopes, value = slopes.copy(), 0
    for point in reversed(range(len(tree.sizes))):
        best, parent = choose(slopes[tree.block(point)]), tree.parents[point]
        if parent < 0:
            value += best
        else:
            slopes[parent] += best
    return value


# In floating point.


def _in_floats(
    payoffs: np.ndarray, row: Treeplex, column: Treeplex
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the programme by HiGHS's simplex method: x, and y from its multipliers.

    HiGHS forgets coefficients below 1e-9 beside others of size 1, so that lines and
    columns are brought to one size first, by powers of two.
    """
    from scipy.optimize import linprog  # costs a third of jax's import time

    (E, e), (F, h) = constraints(row), constraints(column)
    size = row.num_sequences
    lines, columns = _balance(np.abs(payoffs))
    # The usual ones among them are the units of the payoffs.
    x_units, y_units = lines / np.median(lines), columns / np.median(columns)
    programme = linprog(
        np.append(np.zeros(size), h),
        A_ub=np.column_stack(
            [(payoffs * lines[:, None] * columns).T, -(F * y_units).T]
        ),
        b_ub=np.zeros(column.num_sequences),
        A_eq=np.column_stack([E * x_units, np.zeros((len(e), len(h)))]),
        b_eq=e,
        bounds=[(0, None)] * size + [(None, None)] * len(h),
        method="highs-ds",  # a vertex; the interior method ends beside it
    )
    if not programme.success:
        raise ValueError(f"the linear programme was not solved: {programme.message}")
    y = -programme.ineqlin.marginals * y_units
    return _on(row, programme.x[:size] * x_units), _on(column, y)


def _balance(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Powers of two that bring the largest entries of rows and columns near 1."""
    lines = _power(sizes.max(axis=1))
    return lines, _power((sizes * lines[:, None]).max(axis=0))


def _power(largest: np.ndarray) -> np.ndarray:
    known = largest > 0
    return 2.0 ** -np.round(np.log2(np.where(known, largest, 1)))


# In whole numbers.


def _in_integers(
    numbers: np.ndarray, scale: int, row: Treeplex, column: Treeplex
) -> tuple[Fraction, list[Fraction], list[Fraction]]:
    """Solve the programme exactly, from a pure strategy and the best response to it.

    All basic variables are `table[:, 0] + table[:, 1:] @ nonbasic`, over one common
    denominator: every entry is a minor of the programme's matrix, so that the division
    in a pivot leaves no remainder. The last line is the objective. Variable i < m is
    x_i, variable m + j is w_j.
    """
    (m, n), denominator, stalled = numbers.shape, 1, 0
    table, basic, nonbasic = _start(numbers, row, column)
    while True:
        # A slack is of the size of the payoffs, a share of 1.
        costs = {
            c: table[-1, c] * (1 if variable < m else scale)
            for c, variable in enumerate(nonbasic, 1)
            if table[-1, c] < 0
        }
        if not costs:
            break
        # The steepest column is fast; in a tie that lasts only the first one ends.
        stuck = stalled > len(basic)
        enter = min(costs, key=lambda c: nonbasic[c - 1] if stuck else costs[c])
        distance, _, leave = min(
            (Fraction(table[r, 0], -table[r, enter]), variable, r)
            for r, variable in enumerate(basic)
            if table[r, enter] < 0
        )
        stalled = 0 if distance else stalled + 1
        denominator = _pivot(table, leave, enter, denominator)
        basic[leave], nonbasic[enter - 1] = nonbasic[enter - 1], basic[leave]
    x, y = [Fraction(0)] * m, [Fraction(0)] * n
    for r, variable in enumerate(basic):
        if variable < m:
            x[variable] = Fraction(table[r, 0], denominator)
    for c, variable in enumerate(nonbasic, 1):
        if variable >= m:  # the multiplier of its inequality
            y[variable - m] = Fraction(table[-1, c], denominator)
    return Fraction(table[-1, 0], denominator), x, y


def _pivot(table: np.ndarray, leave: int, enter: int, denominator: int) -> int:
    """Exchange a basic and a nonbasic variable in place; give the new denominator."""
    pivot, line, column = (
        table[leave, enter],
        table[leave].copy(),
        table[:, enter].copy(),
    )
    table *= pivot
    table -= np.outer(column, line)
    table //= denominator
    table[:, enter], table[leave] = column, -line
    table[leave, enter] = denominator
    if pivot < 0:
        np.negative(table, out=table)
    return abs(pivot)


def _start(
    numbers: np.ndarray, row: Treeplex, column: Treeplex
) -> tuple[np.ndarray, list[int], list[int]]:
    """The table at a pure strategy, its basic and its nonbasic variables."""
    (m, n), firsts = numbers.shape, list(row.starts)
    others = [i for i in range(m) if i not in set(firsts)]
    width = 1 + len(others) + len(column.sizes)
    # The first actions are played; their shares are what the others leave.
    shares = np.zeros((m, width), object)
    shares[others, range(1, len(others) + 1)] = 1
    for point, parent in enumerate(row.parents):
        block = row.block(point)
        mass = np.eye(1, width, dtype=object)[0] if parent < 0 else shares[parent]
        shares[block.start] = mass - shares[block.start + 1 : block.stop].sum(axis=0)
    # From the leaves up, v is what the best response gains, plus that one's slack.
    lines, objective, best = numbers.T.dot(shares), np.zeros(width, object), []
    for point in reversed(range(len(column.sizes))):
        block = range(n)[column.block(point)]
        best.append(max(block, key=lambda j: lines[j, 0]))
        value = lines[best[-1]].copy()
        value[1 + len(others) + len(best) - 1] += 1
        lines[block] = value - lines[block]
        parent = column.parents[point]
        if parent < 0:
            objective += value
        else:
            lines[parent] += value
    slacks = [j for j in range(n) if j not in set(best)]
    table = np.vstack([shares[firsts], lines[slacks], objective])
    basic = [*firsts, *(m + j for j in slacks)]
    return table, basic, [*others, *(m + j for j in best)]
