"""Equilibria of matrix, bimatrix and sequence-form games: reference values.

Matrix games are given by all players' **losses**: `losses[i]` has one axis per player
and holds what player i pays when everyone plays a pure action. A source that writes
payoffs is converted at the edge, loss = -payoff. Mixed strategies are vectors on the
simplex. Everything here is float64 numpy, called outside jit; how far a point is from
an equilibrium is measured by the gaps of `gamedyn.analysis`.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from gamedyn.games import programmes
from gamedyn.games.rationals import on_grid, to_integers
from gamedyn.games.vertices import Vertex, vertices
from gamedyn.treeplex import Treeplex


class MatrixGameValue(NamedTuple):
    """The solution of a zero-sum matrix game.

    Attributes:
        value: what the row player pays under optimal play.
        row: an optimal strategy of the row player, shape `(m,)`.
        column: one of the column player, shape `(n,)`.
        gap: the duality gap of the two, what best responses would gain, both players
            together: of the size of rounding.
        relative_gap: the gap in units of the spread of the entries, which is the
            largest less the smallest, in sequence form the largest absolute one.
    """

    value: float
    row: np.ndarray
    column: np.ndarray
    gap: float
    relative_gap: float


def zero_sum_value(matrix: Any) -> MatrixGameValue:
    r"""Solve $\min_x \max_y x^\top A y$ over two simplices by linear programming.

    The reference that iterative methods are compared with. Games of up to about 30
    actions each are solved by the simplex method in fractions: the value is the right
    one of these floats to the last digit, whatever their size, offset or range. Larger
    ones are scaled and solved by HiGHS in float64. In both cases best responses to the
    strategies returned are taken, and what they would gain is the gap. Called outside
    jit.

    Args:
        matrix: A, what the row player pays, shape `(m, n)`.

    Returns:
        The value with a pair of optimal strategies, each a vertex of all of them.

    Raises:
        ValueError: if the matrix is not two-dimensional, finite and non-empty, or
            HiGHS left a gap above 1e-9 of what is at stake under the strategies.

    Example:
        >>> solved = zero_sum_value([[0.0, 1e-9], [2e-9, 0.0]])
        >>> print(f"{solved.value:.4g}, gap {solved.gap:.0f}")
        6.667e-10, gap 0

    References:
        von Neumann, Zur Theorie der Gesellschaftsspiele, 1928.
        Edmonds, Systems of distinct representatives and linear algebra, 1967 (pivots in
        whole numbers).
    """
    matrix = _matrix("matrix", matrix)
    row, column = (Treeplex((-1,), (size,)) for size in matrix.shape)
    return MatrixGameValue(*programmes.solve(matrix, row, column))


def minimax_strategy(matrix: Any) -> np.ndarray:
    """Find the row player's part of `zero_sum_value`.

    Args:
        matrix: what the row player pays, shape `(m, n)`.

    Returns:
        A vertex solution, shape `(m,)`, non-negative with sum 1.

    Raises:
        ValueError: as `zero_sum_value`.
    """
    return zero_sum_value(matrix).row


def sequence_form_value(
    matrix: Any, row: Treeplex, column: Treeplex
) -> MatrixGameValue:
    r"""Solve $\min_x \max_y x^\top A y$ over two treeplexes by linear programming.

    With the treeplexes $Ex = e$ and $Fy = h$ the dual of the inner maximum leaves

    $$\min_{x, v} h^\top v \quad \text{subject to} \quad F^\top v \ge A^\top x,
      \ Ex = e,\ x \ge 0,$$

    whose multipliers are y. Solved and checked as in `zero_sum_value`; called outside
    jit.

    Args:
        matrix: A, what the row player pays for every pair of sequences.
        row: the row player's decision points.
        column: those of the column player.

    Returns:
        The value with a pair of optimal strategies in sequence form.

    Raises:
        ValueError: if the matrix does not fit the treeplexes, or HiGHS left a gap above
            1e-9 of what is at stake under the strategies.

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
    return MatrixGameValue(*programmes.solve(matrix, row, column))


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
        tolerance: what counts as zero, relative to the spread: by how much, at most, a
            player's losses differ that the other's action leaves them.

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
    # What an action of the other's adds to all of a player's losses decides nothing,
    # but it may have rounded them.
    a, *scales_a = _centred(a)
    b, *scales_b = _centred(b.T)
    b, scales = b.T, (scales_a, scales_b)
    slack = [
        tolerance + 2 * _rounding(loss) * largest / spread
        for loss, (spread, largest) in zip(losses, scales, strict=True)
    ]
    rows, columns = a @ y, x @ b
    best_rows = np.flatnonzero(rows <= rows.min() + slack[0])
    best_columns = np.flatnonzero(columns <= columns.min() + slack[1])
    played_rows = np.flatnonzero(x > tolerance)
    played_columns = np.flatnonzero(y > tolerance)
    gains = x @ (rows - rows.min()), (columns - columns.min()) @ y
    return BimatrixCheck(
        equilibrium=set(played_rows) <= set(best_rows)
        and set(played_columns) <= set(best_columns),
        vertex=_determined(b[played_rows][:, best_columns], slack[1])
        and _determined(a[best_rows][:, played_columns].T, slack[0]),
        nash_conv=float(sum(g * s for g, (s, _) in zip(gains, scales, strict=True))),
        supports=(_integers(played_rows), _integers(played_columns)),
        best=(_integers(best_rows), _integers(best_columns)),
    )


class Equilibria(tuple[tuple[np.ndarray, np.ndarray], ...]):
    """The extreme equilibria of a bimatrix game: a tuple of pairs of strategies.

    Attributes:
        complete: whether no extreme equilibrium is missing.
        degenerate: whether some strategy has more best responses than it plays actions,
            as in games with ties.
    """

    complete: bool
    degenerate: bool

    def __new__(
        cls,
        pairs: Iterable[tuple[np.ndarray, np.ndarray]] = (),
        *,
        complete: bool,
        degenerate: bool,
    ) -> "Equilibria":
        """Join pairs and what is known of them."""
        self = super().__new__(cls, pairs)
        self.complete, self.degenerate = complete, degenerate
        return self

    def __getnewargs_ex__(self) -> tuple[Any, dict[str, bool]]:
        """Copies and pickles are alike."""
        known = {"complete": self.complete, "degenerate": self.degenerate}
        return (tuple(self),), known

    @property
    def continuum(self) -> bool:
        """Whether there are infinitely many equilibria.

        Where two extreme equilibria share one player's strategy, all mixtures of the
        other's are equilibria, too; and so are those of any set of which each row
        strategy goes with each column strategy.
        """
        return any(
            len({strategy.tobytes() for strategy in own}) < len(self)
            for own in zip(*self, strict=True)
        )


def bimatrix_equilibria(
    losses: Sequence[Any],
    *,
    tolerance: float | None = None,
    max_supports: int = 200_000,
) -> Equilibria:
    """Find all extreme equilibria of a small bimatrix game, degenerate or not.

    A strategy is extreme if it is a vertex of its polytope of best responses; all
    vertices are enumerated in whole numbers, and the pairs are kept in which every
    action is unplayed or a best response. A non-degenerate game has no other equilibria
    and an odd number of these; all equilibria of a degenerate one are mixtures of
    extreme ones, see `Equilibria.continuum`. Called outside jit.

    What an action of the other player's adds to all of a player's losses, and each
    player's unit, change no equilibrium, and so neither do they here: where all
    losses of a player are multiples of one unit to within their rounding, as those of
    0.1 and 1e9 + 0.1 are, these multiples are meant.

    Args:
        losses: A and B, shape `(m, n)` each.
        tolerance: by how much the losses may be rounded, relative to the largest one of
            an action of the other player; that of their dtype if `None`.
        max_supports: the most pairs of supports of one size, a measure of the game.

    Returns:
        The equilibria in float64, those that play the fewest actions (pure ones) first,
        and among these the first actions first.

    Raises:
        ValueError: if the shapes do not fit, or there are more pairs of supports.

    Example:
        >>> coordination = [[-2.0, 0.0], [0.0, -1.0]]
        >>> len(bimatrix_equilibria((coordination, coordination)))
        3
        >>> careless = bimatrix_equilibria((coordination, [[0.0, 0.0], [0.0, 0.0]]))
        >>> len(careless), careless.continuum
        (4, True)

    References:
        Avis, Rosenberg, Savani, von Stengel, "Enumeration of Nash equilibria for
        two-player games", 2010.
    """
    a, b = _bimatrix(losses)
    m, n = a.shape
    pairs = sum(math.comb(m, k) * math.comb(n, k) for k in range(1, min(m, n) + 1))
    if pairs > max_supports:
        raise ValueError(
            f"a game of shape ({m}, {n}) has {pairs} pairs of supports, more than "
            f"max_supports={max_supports}"
        )
    roundings = [_rounding(loss) if tolerance is None else tolerance for loss in losses]
    columns = vertices(_payoffs(a, roundings[0]).T)  # y, cut by what the rows lose
    rows = vertices(_payoffs(b.T, roundings[1]).T)
    # The column player's labels are the same numbers in another order: columns first.
    row_labels = np.array([vertex.labels for vertex in rows])
    everything = (1 << (m + n)) - 1
    found = [
        (_shares(rows[i]), _shares(other))
        for other in columns
        for i in np.flatnonzero(row_labels | _turned(other.labels, n, m) == everything)
    ]
    return Equilibria(
        sorted(found, key=_fewest_actions),
        complete=True,
        degenerate=any(v.labels.bit_count() > m for v in rows)
        or any(v.labels.bit_count() > n for v in columns),
    )


def _turned(labels: int, own: int, other: int) -> int:
    """Put the labels of a player's own actions behind those of the other's."""
    return labels >> own | (labels & (1 << own) - 1) << other


def _shares(vertex: Vertex) -> np.ndarray:
    total = sum(vertex.shares)
    return np.array([float(Fraction(share, total)) for share in vertex.shares])


def _fewest_actions(pair: tuple[np.ndarray, np.ndarray]) -> tuple[Any, ...]:
    played = [tuple(np.flatnonzero(strategy)) for strategy in pair]
    return sum(map(len, played)), *played, *(tuple(strategy) for strategy in pair)


def _rounding(losses: Any) -> float:
    """How far off entries may be, in units of the largest one: a few roundings."""
    dtype = np.asarray(losses).dtype
    return 8 * float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _payoffs(losses: np.ndarray, rounding: float) -> np.ndarray:
    """Positive whole numbers that order the rows in each column as the losses do."""
    numbers, unit = to_integers(losses)
    largest = np.abs(numbers).max(axis=0)
    # The smallest float, too, has been rounded to.
    smallest = Fraction(math.ulp(0.0)) / unit
    errors = largest * Fraction(rounding) + smallest
    numbers = numbers - numbers.min(axis=0)
    numbers = on_grid(numbers, np.broadcast_to(errors, numbers.shape))
    numbers = numbers.max() + 1 - numbers
    return numbers // math.gcd(*numbers.ravel())


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


def _centred(losses: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Each column's losses above its least, in units of the largest; these units.

    Also the largest absolute loss.
    """
    power = math.frexp(np.abs(losses).max())[1]
    losses = np.ldexp(losses, -power)  # so that no difference over- or underflows
    above = losses - losses.min(axis=0)
    spread = float(above.max()) or 1.0
    units = np.ldexp([spread, np.abs(losses).max()], power)
    return above / spread, float(units[0]), float(units[1])


def _determined(block: np.ndarray, tolerance: float) -> bool:
    """Whether x is the only one with x @ block equal in all columns and sum(x) = 1."""
    # Unknowns: the played entries of x and the common loss, which may be any number.
    equations = np.vstack([block.T, np.ones(len(block))])
    loss = np.append(-np.ones(block.shape[1]), 0.0)
    matrix = np.column_stack([equations, loss])
    return bool(np.linalg.matrix_rank(matrix, tol=tolerance) == matrix.shape[1])
