"""Sequential games: poker in sequence form, a dilemma played again and again."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Problem
from gamedyn.games.registry import register
from gamedyn.geometry import dilated_entropic, treeplex
from gamedyn.treeplex import Treeplex, from_behaviour, uniform

KUHN = (
    # After a check that was answered by a bet, the first player decides once more.
    Treeplex(parents=(-1, -1, -1, 0, 2, 4), sizes=(2,) * 6),
    Treeplex(parents=(-1,) * 6, sizes=(2,) * 6),
)
"""The decision points of both players of Kuhn poker.

Sequences 2c and 2c + 1 are check and bet with card c (0, 1, 2: jack, queen, king) as
long as nobody has bet, 6 + 2c and 7 + 2c are fold and call once the other has.
"""


@register(
    "kuhn_poker",
    summary="poker with three cards and one bet, in sequence form; value 1/18 to the "
    "second",
    source="Kuhn, 1950",
    shows="imperfect information: bluffing on treeplexes",
    solution="Nash",
    zero_sum=True,
    domain="treeplex",
)
def kuhn_poker(*, entropic: bool = False) -> Problem:
    r"""Build Kuhn poker, bilinear over the strategies in sequence form.

    $$f(x, y) = x^\top A y,$$

    the expected loss of the first player, 1/18 under optimal play. Both ante 1 and get
    one of three cards. The first player checks or bets 1; the second checks or bets,
    or folds or calls; after check and bet the first player folds or calls. The higher
    card wins.

    In the solutions the first player bluffs the jack with probability
    $\alpha \in [0, 1/3]$, calls with the queen with $\alpha + 1/3$ and bets the king
    with $3\alpha$; the second bluffs the jack and calls with the queen with 1/3 each.
    In the standard start all actions are equally likely.

    Args:
        entropic: whether steps are entropic (dilated), instead of projections.

    Returns:
        The problem, with params of shape `(12,)` each, see `KUHN`, and the solutions of
        alpha = 0, 1/6 and 1/3.

    References:
        Kuhn, "A simplified two-person poker", 1950.
    """
    matrix = jnp.asarray(_kuhn_losses(), float)
    make = dilated_entropic if entropic else treeplex
    start = tuple(jnp.asarray(uniform(tree), float) for tree in KUHN)
    return Problem(
        zero_sum(Partial(_forms.bilinear, matrix)),
        Partial(_kuhn_start, start),
        tuple(_kuhn_solution(alpha) for alpha in (0, 1 / 6, 1 / 3)),
        geometry=(make(KUHN[0]), make(KUHN[1])),
    )


def _kuhn_losses() -> np.ndarray:
    """What the first player loses in expectation, for every pair of sequences."""
    losses = np.zeros((12, 12))
    for own, other in itertools.permutations(range(3), 2):
        wins = 1 if own > other else -1
        check, bet, fold, call = 2 * own, 2 * own + 1, 6 + 2 * own, 7 + 2 * own
        their_check, their_bet = 2 * other, 2 * other + 1
        their_fold, their_call = 6 + 2 * other, 7 + 2 * other
        for mine, theirs, payoff in (
            (check, their_check, wins),
            (fold, their_bet, -1),
            (call, their_bet, 2 * wins),
            (bet, their_fold, 1),
            (bet, their_call, 2 * wins),
        ):
            losses[mine, theirs] -= payoff / 6
    return losses


def _kuhn_solution(alpha: float) -> Params:
    bets = (alpha, 0, 3 * alpha, 0, alpha + 1 / 3, 1), (1 / 3, 0, 1, 0, 1 / 3, 1)
    pairs = (np.stack([1 - np.array(b), np.array(b)], axis=1).ravel() for b in bets)
    return tuple(
        jnp.asarray(from_behaviour(tree, pair), float)
        for tree, pair in zip(KUHN, pairs, strict=True)
    )


def _kuhn_start(standard: Params, key: Any) -> Params:
    if key is None:
        return standard

    def draw(tree, point):
        pairs = jax.nn.softmax(point.reshape(-1, 2), axis=1)
        return from_behaviour(tree, pairs.ravel())

    return tuple(map(draw, KUHN, _forms.normal_start(standard, key)))


@register(
    "iterated_prisoners_dilemma",
    summary="the prisoner's dilemma for ever, each player remembering one round",
    source="Foerster et al., 2018, arXiv:1709.04326",
    shows="opponent shaping: cooperation by reciprocity",
    solution="none",
)
def iterated_prisoners_dilemma(discount: float = 0.96) -> Problem:
    r"""Build the iterated prisoner's dilemma with exact discounted losses.

    A policy is five logits of cooperating: at first, and after CC, CD, DC, DD, player
    1's action first for **both** players. With $p_0$ the distribution of the first
    outcome and P that of the next one after each,

    $$\ell_i = -\, p_0^\top (I - \gamma P)^{-1} r_i, \qquad
      r_1 = (-1, -3, 0, -2), \quad r_2 = (-1, 0, -3, -2).$$

    $(1 - \gamma) \ell_i$ is the loss of a round: 1 for a pair that plays tit for tat,
    2 if all defect, 1.5 in the standard start, all logits 0. Mutual defection for ever
    is an equilibrium, at infinity in the logits.

    Args:
        discount: gamma, in [0, 1).

    Returns:
        The problem, with params of shape `(5,)` each.

    Raises:
        ValueError: if the discount is not in [0, 1).
    """
    gamma = _forms.as_array("discount", discount, 0)
    if _forms.known(gamma) and not 0 <= gamma < 1:
        raise ValueError(f"discount must be in [0, 1), got {discount}")
    zeros = jnp.zeros(5, gamma.dtype)
    return Problem(
        Game(Partial(_dilemma, gamma), num_players=2),
        Partial(_forms.normal_start, (zeros, jnp.copy(zeros))),
    )


def _dilemma(gamma: jax.Array, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    one, two = map(jax.nn.sigmoid, params)
    outcomes = jnp.stack(
        [one * two, one * (1 - two), (1 - one) * two, (1 - one) * (1 - two)], axis=1
    )
    first, transition = outcomes[0], outcomes[1:]
    rows = jnp.eye(4, dtype=first.dtype) - gamma * transition.T
    visits = _solve_dominant(rows, first)
    losses = jnp.array([[1.0, 3.0, 0.0, 2.0], [1.0, 0.0, 3.0, 2.0]], first.dtype)
    return jnp.sum(losses[0] * visits), jnp.sum(losses[1] * visits)


def _solve_dominant(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Gauss and Jordan's elimination, for columns that the diagonal dominates.

    Such columns need no pivoting; and of many small games side by side nothing is a
    call of a library.
    """
    rows = list(jnp.concatenate([matrix, right[:, None]], axis=1))
    for i, pivot in enumerate(rows):
        rows[i] = pivot = rows[i] / rows[i][i]
        for j, row in enumerate(rows):
            if j != i:
                rows[j] = row - row[i] * pivot
    return jnp.stack([row[-1] for row in rows])
