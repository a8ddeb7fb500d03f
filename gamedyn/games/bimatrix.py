"""General-sum matrix games: bimatrix games, all ordinal 2x2 ones, pennies in a ring."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params, general_sum
from gamedyn.games import _forms
from gamedyn.games.equilibria import bimatrix_equilibria
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import simplex


@register(
    "bimatrix_game",
    summary="any two matrices of losses in mixed strategies; by default random, 3 x 4",
    source="Nash, 1951",
    shows="your own bimatrix game, with all its equilibria",
    solution="Nash",
    domain="simplex",
)
def bimatrix_game(
    row_losses: Any = None,
    column_losses: Any = None,
    *,
    solve: bool = True,
    seed: int = 0,
) -> Problem:
    r"""Build a game of two matrices, played with mixed strategies.

    $$\ell_1 = x^\top A y, \qquad \ell_2 = x^\top B y,$$

    A and B being what the row and the column player pay: payoffs with the opposite
    sign. In the standard start the entries of x grow like 1, 2, ..., m and those of y
    fall like n, ..., 1.

    Args:
        row_losses: A, shape `(m, n)`; standard normal of shape (3, 4) if `None`.
        column_losses: B, of the same shape; standard normal if `None`.
        solve: whether to find the equilibria, by exact enumeration up to 8 actions
            each (not under tracing).
        seed: of the default matrices, drawn by NumPy.

    Returns:
        The problem, both players on the simplex, with all extreme equilibria as
        solutions.

    Raises:
        ValueError: if the matrices are not two-dimensional, differ in shape, or hold
            entries that are not finite real numbers.
    """
    random = np.random.default_rng(seed)
    if row_losses is None:
        row_losses = random.normal(size=(3, 4)).tolist()
    dtype = _forms.widest(row_losses, column_losses)
    A = _forms.as_array("row_losses", row_losses, 2, dtype)
    if column_losses is None:
        column_losses = random.normal(size=A.shape).tolist()
    B = _forms.as_array("column_losses", column_losses, 2, A.dtype)
    _forms.check_shape("column_losses", B, A.shape, "like row_losses")
    solutions: tuple[Params, ...] = ()
    if solve and _forms.known(A, B) and max(A.shape) <= 8:
        solutions = tuple(
            (jnp.asarray(x, A.dtype), jnp.asarray(y, A.dtype))
            for x, y in bimatrix_equilibria((A, B))
        )
    return _played(A, B, solutions)


def _played(A: jax.Array, B: jax.Array, solutions: tuple[Params, ...]) -> Problem:
    (m, n), dtype = A.shape, A.dtype
    start = _forms.ramp(m, dtype), _forms.ramp(n, dtype)[::-1]
    losses = []
    for matrix, axis in ((A, 0), (B, 1)):
        constants, loss = _forms.offset(matrix, axis), Partial(_forms.bilinear, matrix)
        if constants is not None:
            constants = jnp.asarray(constants)
            loss = Partial(_forms.bilinear_beside, matrix - constants, constants)
        losses.append(loss)
    return Problem(
        general_sum(*losses),
        Partial(_forms.interior_start, start),
        solutions,
        geometry=simplex(),
        info=Info(solution="" if solutions else "none"),
    )


@register(
    "shapley",
    summary="three actions in a cycle that the players chase each other around",
    source="Shapley, 1964",
    shows="fictitious play and multiplicative weights that cycle",
    solution="Nash",
    domain="simplex",
)
def shapley() -> Problem:
    """Build Shapley's 3x3 game.

    The row player wins 1 where the columns are one ahead of the rows, the column player
    where they are level, nobody else anything. The only equilibrium is uniform.

    Returns:
        The problem, both players on the simplex.
    """
    return bimatrix_game(-np.roll(np.eye(3), 1, axis=1), -np.eye(3))


def _two_by_two(row_payoffs: Any) -> Problem:
    """The symmetric game of one matrix of payoffs."""
    payoffs = np.asarray(row_payoffs, float)
    return bimatrix_game((-payoffs).tolist(), (-payoffs.T).tolist())


@register(
    "prisoners_dilemma",
    summary="cooperate or defect; defection dominates, to the damage of both",
    source="Tucker, 1950",
    shows="a dominant strategy, no dilemma for gradients",
    solution="Nash",
    domain="simplex",
)
def prisoners_dilemma() -> Problem:
    """Build the prisoner's dilemma: payoffs -1 and -2, 0 and -3 for betrayal.

    The only equilibrium is (0, 1) for both: mutual defection.

    Returns:
        The problem, both players on the simplex, with actions cooperate and defect.
    """
    return _two_by_two([[-1.0, -3.0], [0.0, -2.0]])


@register(
    "stag_hunt",
    summary="hunt a stag together or a hare alone: two pure equilibria, one mixed",
    source="Rousseau, 1755; Skyrms, 2004",
    shows="basins: the better or the safer equilibrium",
    solution="Nash",
    domain="simplex",
)
def stag_hunt() -> Problem:
    """Build the stag hunt: 4 for the shared stag, 1 for hunting it alone.

    A hare is worth 3 beside a hunter of the stag and 2 beside another one of hares.
    Equilibria: both hunt the stag, both the hare, or each the stag with probability
    1/2.

    Returns:
        The problem, both players on the simplex, with actions stag and hare.
    """
    return _two_by_two([[4.0, 1.0], [3.0, 2.0]])


@register(
    "chicken",
    summary="swerve or drive on: two pure equilibria that each player likes for one",
    source="Maynard Smith and Price, 1973",
    shows="basins of two unequal equilibria, an unstable mixed one",
    solution="Nash",
    domain="simplex",
)
def chicken() -> Problem:
    """Build chicken: 3 each for swerving, 4 and 2 if one does, 1 each for a crash.

    Equilibria: either one swerves, or both with probability 1/2.

    Returns:
        The problem, both players on the simplex, with actions swerve and drive on.
    """
    return _two_by_two([[3.0, 2.0], [4.0, 1.0]])


@register(
    "battle_of_the_sexes",
    summary="meet at one of two places, each the favourite of one player",
    source="Luce and Raiffa, 1957",
    shows="coordination with opposed interests",
    solution="Nash",
    domain="simplex",
)
def battle_of_the_sexes() -> Problem:
    """Build the battle of the sexes: 2 and 1 for meeting, 0 for missing one another.

    Equilibria: both meet at either place, or (2/3, 1/3) against (1/3, 2/3).

    Returns:
        The problem, both players on the simplex.
    """
    row = np.diag([2.0, 1.0])
    column = np.diag([1.0, 2.0])
    return bimatrix_game((-row).tolist(), (-column).tolist())


@functools.cache
def ordinal_games() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Generate all strictly ordinal 2x2 games: both players rank four outcomes.

    Of the 24 * 24 pairs of rankings, those that turn into one another by renaming rows
    or columns are one game; the first of them in lexicographic order stands for it.

    Returns:
        144 pairs of payoff matrices of the row and the column player, with entries 1 to
        4, in lexicographic order.

    References:
        Rapoport, Guyer, "A taxonomy of 2x2 games", 1966; Robinson, Goforth, The
        Topology of the 2x2 Games, 2005.
    """
    rankings = [
        np.array(order).reshape(2, 2) for order in itertools.permutations((1, 2, 3, 4))
    ]
    firsts = {}
    for row, column in itertools.product(rankings, rankings):
        renamed = [
            (row[rows, columns], column[rows, columns])
            for rows in np.s_[:, ::-1]
            for columns in np.s_[:, ::-1]
        ]
        first = min(renamed, key=_key)
        firsts[_key(first)] = first
    return tuple(firsts[key] for key in sorted(firsts))


def _key(pair: tuple[np.ndarray, np.ndarray]) -> tuple[int, ...]:
    return tuple(int(entry) for matrix in pair for entry in matrix.ravel())


@register(
    "ordinal_game",
    summary="any of the 144 games in which two players rank the outcomes of two "
    "actions",
    source="Rapoport and Guyer, 1966",
    shows="every 2x2 situation there is",
    solution="Nash",
    domain="simplex",
)
def ordinal_game(index: int = 0) -> Problem:
    """Build one of the strictly ordinal 2x2 games, payoffs being the ranks 1 to 4.

    Args:
        index: its number, 0 to 143, in the order of `ordinal_games`.

    Returns:
        The problem, both players on the simplex, with all its equilibria.

    Raises:
        ValueError: if there is no such number.
    """
    games = ordinal_games()
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise ValueError(f"index must be an integer, got {index!r}")
    if not 0 <= index < len(games):
        raise ValueError(f"index must be in 0 to {len(games) - 1}, got {index}")
    row, column = games[index]
    return bimatrix_game((-row).tolist(), (-column).tolist())


@register(
    "half_matching_pennies",
    summary="four players with a coin each: all match their neighbour but the last",
    source="Balduzzi et al., 2018, arXiv:1802.05642",
    shows="cycling of n players around an unstable solution",
    solution="Nash",
    num_players=4,
)
def half_matching_pennies(num_players: int = 4) -> Problem:
    r"""Build matching pennies around a ring, each player a logit.

    $$\ell_i = -s_i s_{i+1} \ (i < n), \qquad \ell_n = s_n s_1, \qquad
      s_i = 2 \sigma(w_i) - 1 :$$

    player i wants to match the next one, the last one to mismatch the first. At the
    solution 0, all coins fair, the eigenvalues of J solve
    $(4\lambda)^n = (-1)^{n-1}$. The standard start is (1, 0.9, 0.8, ...).

    Args:
        num_players: n, at least 2.

    Returns:
        The problem, with one scalar per player.

    Raises:
        ValueError: if `num_players` is not an integer above 1.
    """
    n = num_players
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 2:
        raise ValueError(f"num_players must be an integer above 1, got {n!r}")
    start = tuple(jnp.array(1 - 0.1 * i, float) for i in range(n))
    return Problem(
        Game(Partial(_ring), num_players=n),
        Partial(_forms.normal_start, start),
        ((jnp.zeros((), float),) * n,),
    )


def _ring(params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    sides = [jnp.tanh(logit / 2) for logit in params]
    matched = [-own * after for own, after in zip(sides, sides[1:], strict=False)]
    return (*matched, sides[-1] * sides[0])
