"""Equilibria of matrix, bimatrix and sequence-form games: reference values.

Matrix games are given by all players' **losses**: `losses[i]` has one axis per player
and holds what player i pays when everyone plays a pure action. A source that writes
payoffs is converted at the edge, loss = -payoff. Mixed strategies are vectors on the
simplex. Everything here is float64 numpy, called outside jit; how far a point is from
an equilibrium is measured by the gaps of `gamedyn.analysis`.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gamedyn.treeplex import Treeplex, constraints


class MatrixGameValue(NamedTuple):
    """The solution of a zero-sum matrix game.

    Attributes:
        value: what the row player pays under optimal play.
        row: an optimal strategy of the row player, shape `(m,)`.
        column: one of the column player, shape `(n,)`.
        gap: the duality gap of the two, of the size of rounding.
    """

    value: float
    row: np.ndarray
    column: np.ndarray
    gap: float


def zero_sum_value(matrix: Any) -> MatrixGameValue:
    r"""Solve $\min_x \max_y x^\top A y$ over two simplices by linear programming.

    HiGHS's simplex method in float64: a vertex, exact up to rounding. The reference
    that iterative methods are compared with; called outside jit.

    Args:
        matrix: A, what the row player pays, shape `(m, n)`.

    Returns:
        The value with a pair of optimal strategies.

    Raises:
        ValueError: if the matrix is not two-dimensional, finite and non-empty, or the
            programme was not solved.

    Example:
        >>> print(f"{zero_sum_value([[1.0, -1.0], [-1.0, 1.0]]).value:.1f}")
        0.0

    References:
        von Neumann, Zur Theorie der Gesellschaftsspiele, 1928.
    """
    matrix = _matrix("matrix", matrix)
    row, column = minimax_strategy(matrix), minimax_strategy(-matrix.T)
    upper, lower = float(np.max(row @ matrix)), float(np.min(matrix @ column))
    # Adding zero turns -0.0 into 0.0.
    return MatrixGameValue((upper + lower) / 2 + 0.0, row, column, upper - lower)


def minimax_strategy(matrix: np.ndarray) -> np.ndarray:
    """Find the x on the simplex of least v with `matrix.T @ x <= v`, by simplex steps.

    Args:
        matrix: the payoffs, shape `(m, n)`, float64.

    Returns:
        A vertex solution, shape `(m,)`, non-negative with sum 1.

    Raises:
        ValueError: if the linear programme was not solved.
    """
    from scipy.optimize import linprog  # costs a third of jax's import time

    m, n = matrix.shape
    programme = linprog(
        np.append(np.zeros(m), 1.0),
        A_ub=np.column_stack([matrix.T, -np.ones(n)]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(m), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * m + [(None, None)],
        method="highs-ds",  # a vertex, exact to rounding; the interior method is not
    )
    if not programme.success:
        raise ValueError(f"the linear programme was not solved: {programme.message}")
    x = np.maximum(programme.x[:m], 0.0)
    return x / x.sum()


def sequence_form_value(
    matrix: Any, row: Treeplex, column: Treeplex
) -> MatrixGameValue:
    r"""Solve $\min_x \max_y x^\top A y$ over two treeplexes by linear programming.

    With the treeplexes $Ex = e$ and $Fy = h$ the dual of the inner maximum leaves

    $$\min_{x, v} h^\top v \quad \text{subject to} \quad F^\top v \ge A^\top x,
      \ Ex = e,\ x \ge 0.$$

    HiGHS's simplex method in float64; called outside jit.

    Args:
        matrix: A, what the row player pays for every pair of sequences.
        row: the row player's decision points.
        column: those of the column player.

    Returns:
        The value with a pair of optimal strategies in sequence form; the gap is what
        best responses would gain, both players together.

    Raises:
        ValueError: if the matrix does not fit the treeplexes, or a programme was not
            solved.

    Example:
        >>> coin = Treeplex(parents=(-1,), sizes=(2,))
        >>> value = sequence_form_value([[1.0, -1.0], [-1.0, 1.0]], coin, coin).value
        >>> print(f"{value:.1f}")
        0.0

    References:
        Koller, Megiddo, von Stengel, "Fast algorithms for finding randomized strategies
        in game trees", 1994.
    """
    matrix = _matrix("matrix", matrix)
    shape = row.num_sequences, column.num_sequences
    if matrix.shape != shape:
        raise ValueError(
            f"matrix must have shape {shape}, one entry per pair of sequences, got "
            f"{matrix.shape}"
        )
    x, upper = _sequence_form(matrix, row, column)
    y, lower = _sequence_form(-matrix.T, column, row)
    # Adding zero turns -0.0 into 0.0.
    return MatrixGameValue((upper - lower) / 2 + 0.0, x, y, upper + lower)


def _sequence_form(matrix, own: Treeplex, other: Treeplex) -> tuple[np.ndarray, float]:
    from scipy.optimize import linprog  # costs a third of jax's import time

    (E, e), (F, h) = constraints(own), constraints(other)
    size = own.num_sequences
    programme = linprog(
        np.append(np.zeros(size), h),
        A_ub=np.column_stack([matrix.T, -F.T]),
        b_ub=np.zeros(other.num_sequences),
        A_eq=np.column_stack([E, np.zeros((len(e), len(h)))]),
        b_eq=e,
        bounds=[(0, None)] * size + [(None, None)] * len(h),
        method="highs-ds",
    )
    if not programme.success:
        raise ValueError(f"the linear programme was not solved: {programme.message}")
    return np.maximum(programme.x[:size], 0.0), float(programme.fun)


class BimatrixCheck(NamedTuple):
    """What a pair of mixed strategies is in a bimatrix game.

    Attributes:
        equilibrium: whether each action of a player is either unplayed or a best
            response, to `tolerance`: every label of Lemke and Howson is there.
        vertex: whether both strategies are vertices of the polyhedra of best responses;
            an equilibrium that is none lies inside a continuum of equilibria.
        nash_conv: what best responses would gain, both players together.
        supports: the actions played, one tuple per player.
        best: the best responses, one tuple per player.
    """

    equilibrium: bool
    vertex: bool
    nash_conv: float
    supports: tuple[tuple[int, ...], tuple[int, ...]]
    best: tuple[tuple[int, ...], tuple[int, ...]]


def check_bimatrix(
    losses: Sequence[Any], strategies: Sequence[Any], *, tolerance: float = 1e-9
) -> BimatrixCheck:
    r"""Check whether a pair of strategies is an equilibrium, and a vertex.

    With A and B the losses, (x, y) is an equilibrium exactly if

    $$x_i > 0 \Rightarrow (A y)_i = \min A y, \qquad
      y_j > 0 \Rightarrow (x B)_j = \min x B .$$

    x is a vertex of its polyhedron where the constraints it meets with equality
    (unplayed actions, the other player's best responses) determine it. Called outside
    jit.

    Args:
        losses: A and B, shape `(m, n)` each.
        strategies: x and y.
        tolerance: what counts as zero, relative to the largest loss.

    Returns:
        The findings.

    Raises:
        ValueError: if the shapes do not fit, or a strategy is not on the simplex.

    References:
        Lemke, Howson, "Equilibrium points of bimatrix games", 1964.
        von Stengel, "Computing equilibria for two-person games", 2002.
    """
    a, b, (x, y) = *_bimatrix(losses), (np.asarray(s, np.float64) for s in strategies)
    for name, strategy, size in (("row", x, a.shape[0]), ("column", y, a.shape[1])):
        if strategy.shape != (size,):
            raise ValueError(
                f"the {name} strategy must have shape ({size},), got {strategy.shape}"
            )
        if strategy.min() < -tolerance or abs(strategy.sum() - 1) > tolerance * size:
            raise ValueError(
                f"the {name} strategy is not on the simplex: {strategy.tolist()}"
            )
    rows, columns = a @ y, x @ b
    scales = [max(float(np.abs(m).max()), 1e-300) for m in (a, b)]
    best_rows = np.flatnonzero(rows <= rows.min() + tolerance * scales[0])
    best_columns = np.flatnonzero(columns <= columns.min() + tolerance * scales[1])
    played_rows = np.flatnonzero(x > tolerance)
    played_columns = np.flatnonzero(y > tolerance)
    conv = x @ rows - rows.min() + columns @ y - columns.min()
    return BimatrixCheck(
        equilibrium=set(played_rows) <= set(best_rows)
        and set(played_columns) <= set(best_columns),
        vertex=_determined(b[played_rows][:, best_columns], scales[1])
        and _determined(a[best_rows][:, played_columns].T, scales[0]),
        nash_conv=float(conv),
        supports=(_integers(played_rows), _integers(played_columns)),
        best=(_integers(best_rows), _integers(best_columns)),
    )


def bimatrix_equilibria(
    losses: Sequence[Any], *, tolerance: float = 1e-9, max_supports: int = 200_000
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Find all equilibria of a small bimatrix game that are vertices.

    Support enumeration: every pair of supports of one size gives one linear system for
    each player's strategy. A non-degenerate game has finitely many equilibria, an odd
    number, and all are found; a degenerate one may have others beside and between them.
    Called outside jit.

    Args:
        losses: A and B, shape `(m, n)` each.
        tolerance: what counts as zero, relative to the largest loss.
        max_supports: the most pairs of supports to try.

    Returns:
        The equilibria, pure ones first.

    Raises:
        ValueError: if the shapes do not fit, or there are more pairs of supports.

    Example:
        >>> coordination = [[-2.0, 0.0], [0.0, -1.0]]
        >>> len(bimatrix_equilibria((coordination, coordination)))
        3
    """
    a, b = _bimatrix(losses)
    m, n = a.shape
    supports = (
        {
            count: [list(itertools.combinations(range(size), count)) for size in (m, n)]
            for count in range(1, min(m, n) + 1)
        }
        if 2 ** (m + n) <= 16 * max_supports
        else {}
    )
    pairs = sum(len(rows) * len(columns) for rows, columns in supports.values())
    if not supports or pairs > max_supports:
        raise ValueError(
            f"a game of shape ({m}, {n}) has more than max_supports={max_supports} "
            "pairs of supports"
        )
    equilibria: list[tuple[np.ndarray, np.ndarray]] = []
    for all_rows, all_columns in supports.values():
        for rows, columns in itertools.product(all_rows, all_columns):
            block = np.ix_(rows, columns)
            x, y = _indifferent(b[block].T), _indifferent(a[block])
            if x is None or y is None or min(x.min(), y.min()) < -tolerance:
                continue
            pair = np.zeros(m), np.zeros(n)
            pair[0][list(rows)], pair[1][list(columns)] = x, y
            pair = tuple(np.maximum(s, 0) / np.maximum(s, 0).sum() for s in pair)
            if not check_bimatrix((a, b), pair, tolerance=tolerance).equilibrium:
                continue
            known = any(
                max(np.abs(p - q).max() for p, q in zip(pair, other, strict=True))
                < 1e-7
                for other in equilibria
            )
            if not known:
                equilibria.append((pair[0], pair[1]))
    return tuple(equilibria)


def _integers(indices: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in indices)


def _matrix(name: str, value: Any) -> np.ndarray:
    matrix = np.asarray(value, np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.all(np.isfinite(matrix)):
        raise ValueError(
            f"{name} must be a finite, non-empty matrix, got shape {matrix.shape}"
        )
    return matrix


def _bimatrix(losses: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    if len(losses) != 2:
        raise ValueError(f"expected the losses of two players, got {len(losses)}")
    a, b = (_matrix(f"losses[{i}]", loss) for i, loss in enumerate(losses))
    if a.shape != b.shape:
        raise ValueError(
            f"both players' losses must have one shape, got {a.shape} and {b.shape}"
        )
    return a, b


def _determined(block: np.ndarray, scale: float) -> bool:
    """Whether x is the only one with x @ block equal in all columns and sum(x) = 1."""
    # Unknowns: the played entries of x and the common loss, which may be any number.
    equations = np.vstack([block.T / scale, np.ones(len(block))])
    loss = np.append(-np.ones(block.shape[1]), 0.0)
    matrix = np.column_stack([equations, loss])
    return bool(np.linalg.matrix_rank(matrix, tol=1e-9) == matrix.shape[1])


def _indifferent(block: np.ndarray) -> np.ndarray | None:
    """The strategy that makes all rows of a square block cost the same, if unique."""
    size = len(block)
    matrix = np.zeros((size + 1, size + 1))
    matrix[:size, :size], matrix[:size, size], matrix[size, :size] = block, -1, 1
    if np.linalg.cond(matrix) > 1e12:
        return None
    return np.linalg.solve(matrix, np.append(np.zeros(size), 1.0))[:size]
