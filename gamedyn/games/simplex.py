"""Matrix games played with mixed strategies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Params, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Problem, register
from gamedyn.geometry import simplex


@register("match or mismatch a coin, mixed strategies; value 0", "classical")
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


@register("rock, paper, scissors, mixed strategies; value 0", "classical")
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
    "any payoff matrix in mixed strategies; by default random, 5 x 7",
    "von Neumann, 1928",
)
def matrix_game(matrix: Any = None, *, solve: bool = True, seed: int = 0) -> Problem:
    r"""Build the zero-sum game of a payoff matrix, played with mixed strategies.

    $$\min_{x \in \Delta_m} \max_{y \in \Delta_n} x^\top A y.$$

    The row player x pays. In the standard start the entries of x grow like 1, 2, ..., m
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


def _played(matrix: jax.Array, start: Params, solutions: tuple[Params, ...]) -> Problem:
    return Problem(
        zero_sum(Partial(_forms.bilinear, matrix)),
        Partial(_forms.interior_start, start),
        solutions,
        geometry=simplex(),
    )


def _uniform(size: int) -> Params:
    point = jnp.full(size, 1 / size)
    return point, point


def _optimal_strategies(matrix: jax.Array) -> Params:
    dense = np.asarray(matrix, np.float64)
    x, y = minimax_strategy(dense), minimax_strategy(-dense.T)
    return jnp.asarray(x, matrix.dtype), jnp.asarray(y, matrix.dtype)


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
