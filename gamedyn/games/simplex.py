"""Matrix games played with mixed strategies."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.checks import check_positive_integer
from gamedyn.game import Params, zero_sum
from gamedyn.games import _forms
from gamedyn.games.equilibria import zero_sum_value
from gamedyn.games.problem import Problem
from gamedyn.games.registry import register
from gamedyn.geometry import simplex


@register(
    "matching_pennies",
    summary="match or mismatch a coin, mixed strategies; value 0",
    source="classical",
    shows="last against average iterate",
    solution="Nash",
    zero_sum=True,
    domain="simplex",
)
def matching_pennies() -> Problem:
    r"""Build matching pennies: $f = x^\top A y$, A = [[1, -1], [-1, 1]].

    Both players' solution is (1/2, 1/2). The standard start is x = (0.9, 0.1),
    y = (0.2, 0.8).

    Returns:
        The problem, both players on the simplex.
    """
    matrix = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    start = jnp.array([0.9, 0.1]), jnp.array([0.2, 0.8])
    return _played(matrix, start, (_uniform(2),))


@register(
    "rock_paper_scissors",
    summary="rock, paper, scissors, mixed strategies; value 0",
    source="classical",
    shows="last against average iterate, exploitability",
    solution="Nash",
    zero_sum=True,
    domain="simplex",
)
def rock_paper_scissors() -> Problem:
    r"""Build rock-paper-scissors: $f = x^\top A y$, A antisymmetric, x loses 1 to y.

    Both players' solution is (1/3, 1/3, 1/3). The standard start is
    x = (1, 2, 3)/6, y = (3, 2, 1)/6.

    Returns:
        The problem, both players on the simplex.
    """
    matrix = jnp.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    return _played(matrix, (_forms.ramp(3), _forms.ramp(3)[::-1]), (_uniform(3),))


@register(
    "matrix_game",
    summary="any payoff matrix in mixed strategies; by default random, 5 x 7",
    source="von Neumann, 1928",
    shows="your own payoff matrix, against its linear programme",
    solution="Nash",
    zero_sum=True,
    domain="simplex",
)
def matrix_game(matrix: Any = None, *, solve: bool = True, seed: int = 0) -> Problem:
    r"""Build the zero-sum game of a payoff matrix, played with mixed strategies.

    $$\min_{x \in \Delta_m} \max_{y \in \Delta_n} x^\top A y.$$

    The row player x pays. A constant that exceeds all differences of the payoffs is
    left out of the derivatives: on simplices it moves nobody, and would round what
    does. In the standard start the entries of x grow like 1, 2, ..., m
    and those of y fall like n, ..., 1: strictly inside, and not the uniform point.

    Args:
        matrix: A, shape `(m, n)`; standard normal entries of shape (5, 7) if `None`.
        solve: whether to solve the linear programme for the problem's solution (not
            under tracing). Where there are several solutions it is one of them.
        seed: of the default matrix, drawn by NumPy.

    Returns:
        The problem, both players on the simplex.

    Raises:
        ValueError: if the matrix is not two-dimensional, or an entry is not a finite
            real number.

    References:
        von Neumann, Zur Theorie der Gesellschaftsspiele, 1928.
    """
    if matrix is None:
        matrix = np.random.default_rng(seed).normal(size=(5, 7)).tolist()
    matrix = _forms.as_array("matrix", matrix, 2)
    (m, n), dtype = matrix.shape, matrix.dtype
    start = _forms.ramp(m, dtype), _forms.ramp(n, dtype)[::-1]
    solutions = (_optimal_strategies(matrix),) if solve and _forms.known(matrix) else ()
    return _played(matrix, start, solutions)


@register(
    "random_matrix",
    summary="any size of random payoff matrix in mixed strategies; by default 10 x 10",
    source="von Neumann, 1928",
    shows="scale, and full supports against sparse ones",
    solution="Nash",
    zero_sum=True,
    domain="simplex",
)
def random_matrix(
    num_rows: int = 10, num_columns: int = 10, *, solve: bool = True, seed: int = 0
) -> Problem:
    """Build the `matrix_game` of standard normal payoffs.

    Args:
        num_rows: the number of actions of the row player, who pays.
        num_columns: that of the column player.
        solve: whether to solve the linear programme for the problem's solution.
        seed: of the matrix, drawn by NumPy.

    Returns:
        The problem, both players on the simplex.

    Raises:
        ValueError: if a number of actions is not a positive integer.
    """
    check_positive_integer("num_rows", num_rows)
    check_positive_integer("num_columns", num_columns)
    payoffs = np.random.default_rng(seed).normal(size=(num_rows, num_columns))
    return matrix_game(payoffs.tolist(), solve=solve)


@register(
    "weighted_rock_paper_scissors",
    summary="rock, paper, scissors for unequal stakes; value 0, a mixture of your "
    "choice",
    source="classical",
    shows="as rock-paper-scissors, without its symmetry",
    solution="Nash",
    zero_sum=True,
    domain="simplex",
)
def weighted_rock_paper_scissors(weights: Any = (1.0, 2.0, 3.0)) -> Problem:
    r"""Build rock-paper-scissors whose solution is proportional to given weights.

    $$f = x^\top A y, \qquad A = \begin{pmatrix}
      0 & c & -b \\ -c & 0 & a \\ b & -a & 0 \end{pmatrix}, \qquad
      x^* = y^* = \frac{(a, b, c)}{a + b + c}.$$

    The standard start is uniform for x, and (1, 2, 3)/6 reversed for y.

    Args:
        weights: (a, b, c), positive: two actions meet for the third one's weight.

    Returns:
        The problem, both players on the simplex.

    Raises:
        ValueError: if there are not three positive weights.
    """
    given = _forms.as_array("weights", weights, 1)
    _forms.check_shape("weights", given, (3,), "for three actions")
    if _forms.known(given) and not bool(jnp.all(given > 0)):
        raise ValueError(f"weights must be positive, got {weights}")
    a, b, c = jnp.unstack(given)
    zero = jnp.zeros_like(a)
    rows = [zero, c, -b], [-c, zero, a], [b, -a, zero]
    matrix = jnp.stack([jnp.stack(row) for row in rows])
    mixture = given / jnp.sum(given)
    start = jnp.full_like(given, 1 / 3), _forms.ramp(3, given.dtype)[::-1]
    return _played(matrix, start, ((mixture, jnp.copy(mixture)),))


@register(
    "matching_pennies_logits",
    summary="matching pennies, each player a logit; value 0",
    source="classical",
    shows="rotation that slows down where policies saturate",
    solution="Nash",
    zero_sum=True,
)
def matching_pennies_logits() -> Problem:
    r"""Build matching pennies with logits: $f = (2p - 1)(2q - 1)$, sigmoid policies.

    The solution is 0, where the eigenvalues of J are $\pm i/4$. The standard start is
    (1, 0.5).

    Returns:
        The problem, with scalar params.
    """
    start = jnp.array(1.0, float), jnp.array(0.5, float)
    zero = jnp.zeros((), float)
    return Problem(
        zero_sum(_pennies), Partial(_forms.normal_start, start), ((zero, zero),)
    )


def _pennies(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.tanh(x / 2) * jnp.tanh(y / 2)  # 2 sigmoid(x) - 1 = tanh(x / 2)


@register(
    "blotto",
    summary="divide soldiers over battlefields, each won by the larger number; value 0",
    source="Borel, 1921",
    shows="scale: a large matrix with many solutions",
    solution="Nash",
    zero_sum=True,
    domain="simplex",
)
def blotto(
    num_fields: int = 3, num_soldiers: int = 5, *, solve: bool = True
) -> Problem:
    r"""Build Colonel Blotto's game, played with mixed strategies.

    An action divides k soldiers over n fields; x pays the number of fields on which y
    has more soldiers, less the number of those on which x has. There are
    $\binom{k + n - 1}{n - 1}$ actions, in lexicographic order.

    Args:
        num_fields: n.
        num_soldiers: k, the same for both players.
        solve: whether to solve the linear programme for the problem's solution, one of
            many.

    Returns:
        The problem, both players on the simplex.

    Raises:
        ValueError: if a number is not a positive integer.
    """
    check_positive_integer("num_fields", num_fields)
    check_positive_integer("num_soldiers", num_soldiers)
    actions = np.array(list(_divisions(num_soldiers, num_fields)))
    won = np.sign(actions[None, :, :] - actions[:, None, :]).sum(axis=-1)
    return matrix_game(won.astype(float).tolist(), solve=solve)


def _divisions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as an ordered sum."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _divisions(total - first, parts - 1):
            yield (first, *rest)


def _played(matrix: jax.Array, start: Params, solutions: tuple[Params, ...]) -> Problem:
    constant, payoff = _forms.offset(matrix), Partial(_forms.bilinear, matrix)
    if constant is not None:
        constant = jnp.asarray(constant)
        payoff = Partial(_forms.bilinear_beside, matrix - constant, constant)
    return Problem(
        zero_sum(payoff),
        Partial(_forms.interior_start, start),
        solutions,
        geometry=simplex(),
    )


def _uniform(size: int) -> Params:
    point = jnp.full(size, 1 / size)
    return point, point


def _optimal_strategies(matrix: jax.Array) -> Params:
    solved = zero_sum_value(matrix)
    return jnp.asarray(solved.row, matrix.dtype), jnp.asarray(
        solved.column, matrix.dtype
    )
