"""Sequential games: poker in sequence form, a dilemma played again and again."""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params, zero_sum
from gamedyn.games import _forms
from gamedyn.games.equilibria import sequence_form_value
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import dilated_entropic, treeplex
from gamedyn.treeplex import Treeplex, entropic_step, from_behaviour, uniform

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
    "leduc_poker",
    summary="poker with six cards, two rounds and raises, in sequence form; value "
    ".0856 to the second",
    source="Southey et al., 2005, arXiv:1207.1411",
    shows="scale: 144 decision points each, treeplexes of depth six",
    solution="Nash",
    zero_sum=True,
    domain="treeplex",
)
def leduc_poker(*, entropic: bool = False, solve: bool = True) -> Problem:
    r"""Build Leduc hold'em, bilinear over the strategies in sequence form.

    $$f(x, y) = x^\top A y,$$

    the expected loss of the first player, .085606424 under optimal play. The deck holds
    two jacks, two queens and two kings. Both players ante 1 and get one card each;
    after a round of bets of 2 a common card is laid open, and a round of bets of 4
    follows.
    In both rounds the first player begins, and there are at most two raises. Who pairs
    the common card wins, else who has the higher card; equal cards share.

    The standard start plays all actions with equal probability; with a key these are
    random.

    Args:
        entropic: whether steps are entropic (dilated), instead of projections.
        solve: whether to solve the linear programme for the problem's solution, one of
            many.

    Returns:
        The problem, with params of shape `(336,)` each, on `leduc_treeplexes()`.

    References:
        Southey, Bowling, Larson, Piccione, Burch, Billings, Rayner, "Bayes' bluff:
        opponent modelling in poker", 2005.
    """
    losses, trees = _leduc()
    make = dilated_entropic if entropic else treeplex
    start = tuple(jnp.asarray(uniform(tree), float) for tree in trees)
    return Problem(
        zero_sum(Partial(_forms.bilinear, jnp.asarray(losses, float))),
        Partial(_leduc_start, start),
        (tuple(jnp.asarray(s, float) for s in _leduc_solution()),) if solve else (),
        geometry=(make(trees[0]), make(trees[1])),
        info=Info(solution="" if solve else "none"),
    )


def leduc_treeplexes() -> tuple[Treeplex, Treeplex]:
    """The decision points of both players of Leduc poker, cards of one rank alike."""
    return _leduc()[1]


@functools.cache
def _leduc_solution() -> tuple[np.ndarray, np.ndarray]:
    losses, trees = _leduc()
    solved = sequence_form_value(losses, *trees)
    return solved.row, solved.column


def _leduc_start(standard: Params, key: Any) -> Params:
    if key is None:
        return standard
    noise = _forms.normal_start(standard, key)
    return tuple(map(entropic_step, leduc_treeplexes(), standard, noise))


@functools.cache
def _leduc() -> tuple[np.ndarray, tuple[Treeplex, Treeplex]]:
    """What the first player loses for every pair of sequences, and both treeplexes."""
    points = [_Points([], [], {}) for _ in range(2)]
    outcomes: list[tuple[int, int, float]] = []
    for deal in itertools.product(range(3), repeat=3):
        # Two cards of each rank, drawn one after the other.
        ways = math.prod(2 - deal[:i].count(card) for i, card in enumerate(deal))
        if ways:
            _play(deal, ways / 120, [(), ()], (-1, -1), [1, 1], points, outcomes)
    losses = np.zeros([sum(own.sizes) for own in points])
    for one, two, loss in outcomes:
        losses[one, two] += loss
    trees = tuple(Treeplex(tuple(own.parents), tuple(own.sizes)) for own in points)
    return losses, (trees[0], trees[1])


class _Points(NamedTuple):
    """A player's decision points as they are met.

    Attributes:
        parents: the sequence that leads to each.
        sizes: the number of actions of each.
        starts: the first sequence of each, by what the player knows there.
    """

    parents: list[int]
    sizes: list[int]
    starts: dict[Any, int]

    def visit(self, known: Any, parent: int, size: int) -> int:
        """Give the first sequence of a decision point, which may be a new one."""
        if known not in self.starts:
            self.starts[known] = sum(self.sizes)
            self.parents.append(parent)
            self.sizes.append(size)
        return self.starts[known]


def _play(deal, chance, history, sequences, stakes, points, outcomes) -> None:
    """Walk on from a node of Leduc poker's tree, and note the outcomes below it.

    `history` holds the moves of both rounds: "c" for check or call, "r" for raise.
    """
    second = _closed(history[0])
    moves = history[second]
    if second and _closed(moves):
        own, other, common = deal
        ranks = [3 * (card == common) + card for card in (own, other)]
        won = stakes[0] * ((ranks[0] > ranks[1]) - (ranks[0] < ranks[1]))
        outcomes.append((*sequences, -chance * won))
        return
    player = len(moves) % 2
    behind = stakes[player] < stakes[1 - player]
    actions = ["f"] * behind + ["c"] + ["r"] * (moves.count("r") < 2)
    known = (deal[player], deal[2] if second else None, tuple(history))
    first = points[player].visit(known, sequences[player], len(actions))
    for number, action in enumerate(actions):
        after = list(sequences)
        after[player] = first + number
        if action == "f":
            won = -stakes[0] if player == 0 else stakes[1]
            outcomes.append((*after, -chance * won))
            continue
        bets = list(stakes)
        bets[player] = stakes[1 - player] + (action == "r") * (4 if second else 2)
        moved = [*history]
        moved[second] = (*moves, action)
        _play(deal, chance, moved, after, bets, points, outcomes)


def _closed(moves: tuple[str, ...]) -> bool:
    """Whether a round is over: both have moved, and the last move raised nothing."""
    return len(moves) > 1 and moves[-1] == "c"


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
