"""Games of control: several players steer one linear system by linear feedback."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, Game, Params
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register


@register(
    "linear_quadratic_game",
    summary="several players steer one linear system, each by a gain for a quadratic "
    "cost",
    source="Mazumdar et al., 2020, arXiv:1907.03712",
    shows="policy gradients that may avoid the Nash point",
    solution="Nash",
)
def linear_quadratic_game(
    A: Any = None,
    B: Sequence[Any] | None = None,
    Q: Sequence[Any] | None = None,
    R: Sequence[Any] | None = None,
    *,
    solve: bool = True,
) -> Problem:
    r"""Build the linear-quadratic game in the players' gains (LQR for one player).

    $$s_{t+1} = A s_t + \sum_i B_i u_i, \quad u_i = -K_i s_t, \qquad
      \ell_i(K) = \mathbb E \sum_{t \ge 0} s_t^\top Q_i s_t + u_i^\top R_i u_i,
      \quad \mathbb E s_0 s_0^\top = I.$$

    With $\bar A = A - \sum_j B_j K_j$ and the states' total covariance
    $\Sigma = \sum_t \bar A^t \bar A^{\top t}$, summed by doubling over the first
    $2^{24}$ steps, $\ell_i = \langle Q_i + K_i^\top R_i K_i, \Sigma \rangle$. Gains
    that do not stabilise the system have a loss and a gradient that are not finite: a
    run that gets there is reported as diverged.

    The solution is the one that the coupled Riccati equations of ever longer horizons
    reach: every $K_i$ is the gain of the optimal regulator against the others. The
    standard start is half of the solution; a drawn one perturbs the solution by 1 % of
    its largest gain. By default two players with a scalar input each steer two states.

    Args:
        A: the system, shape `(d, d)`.
        B: the inputs, one matrix of shape `(d, m_i)` per player.
        Q: the costs of the states, symmetric, shape `(d, d)` each.
        R: the costs of the inputs, symmetric positive definite, `(m_i, m_i)` each.
        solve: whether to solve the coupled Riccati equations. Where they are not
            solved, and under tracing, the start is K = 0.

    Returns:
        The problem, with params of shape `(m_i, d)`.

    Raises:
        ValueError: if shapes do not fit, the numbers of inputs and costs differ, or
            some but not all matrices are given.

    References:
        Basar, Olsder, Dynamic Noncooperative Game Theory, 1999, section 6.2.
    """
    given = (A, B, Q, R)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError("expected all of A, B, Q and R, or none of them")
    if A is None or B is None or Q is None or R is None:
        A, B, Q, R = _DEFAULT_A, _DEFAULT_B, _DEFAULT_Q, _DEFAULT_R
    n = len(B)
    if not len(Q) == len(R) == n > 0:
        raise ValueError(
            f"expected one B, one Q and one R per player, got {n}, {len(Q)}, {len(R)}"
        )
    dtype = _forms.widest(A, *B, *Q, *R)
    A = _forms.as_array("A", A, 2, dtype)
    d, dtype = A.shape[0], A.dtype
    _forms.check_shape("A", A, (d, d), "")
    arrays = []
    for i, (b, q, r) in enumerate(zip(B, Q, R, strict=True)):
        b = _forms.as_array(f"B[{i}]", b, 2, dtype)
        q = _forms.as_array(f"Q[{i}]", q, 2, dtype)
        r = _forms.as_array(f"R[{i}]", r, 2, dtype)
        m = b.shape[1]
        _forms.check_shape(f"B[{i}]", b, (d, m), "to fit A")
        _forms.check_shape(f"Q[{i}]", q, (d, d), "to fit A")
        _forms.check_shape(f"R[{i}]", r, (m, m), f"to fit B[{i}]")
        arrays.append((b, q, r))
    inputs = tuple(b for b, _, _ in arrays)
    costs = tuple((q, r) for _, q, r in arrays)
    solutions: tuple[Params, ...] = ()
    if solve and _forms.known(A, *jax.tree.leaves((inputs, costs))):
        gains = coupled_riccati(A, inputs, *zip(*costs, strict=True))
        if gains is not None:
            solutions = (tuple(jnp.asarray(gain, dtype) for gain in gains),)
    zeros = tuple(jnp.zeros((b.shape[1], d), dtype) for b in inputs)
    centre = solutions[0] if solutions else zeros
    return Problem(
        Game(Partial(_regulate, A, inputs, costs), num_players=n),
        Partial(_gain_start, centre),
        solutions,
        info=Info(solution="" if solutions else "none"),
    )


# Found by drawing such games at random: the policy gradient's J has two negative
# eigenvalues at the Nash point, -0.77 and -0.21.
_DEFAULT_A = [[0.47, 0.96], [-0.06, 0.42]]
_DEFAULT_B = ([[1.0], [1.0]], [[0.0], [1.0]])
_DEFAULT_Q = ([[0.071, 0.0], [0.0, 1.756]], [[2.608, 0.0], [0.0, 0.004]])
_DEFAULT_R = ([[0.435]], [[0.019]])


_DOUBLINGS = 24


def _regulate(A, inputs, costs, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    closed = A - sum(b @ gain for b, gain in zip(inputs, params, strict=True))

    def double(carry, _):
        # The first 2^k terms of the sum of closed^t closed'^t, and closed^(2^k).
        total, power = carry
        return (total + power @ total @ power.T, power @ power), None

    identity = jnp.eye(A.shape[0], dtype=A.dtype)
    (total, _), _ = jax.lax.scan(double, (identity, closed), length=_DOUBLINGS)
    return tuple(
        jnp.sum((q + gain.T @ r @ gain) * total)
        for (q, r), gain in zip(costs, params, strict=True)
    )


def _gain_start(centre: Params, key: Any) -> Params:
    if key is None:
        return jax.tree.map(lambda gain: gain / 2, centre)
    largest = jax.tree.reduce(
        jnp.maximum, jax.tree.map(lambda g: jnp.max(jnp.abs(g)), centre)
    )
    return jax.tree.map(
        lambda gain, drawn: gain + 0.01 * largest * drawn,
        centre,
        _forms.normal_start(centre, key),
    )


def coupled_riccati(
    A: Any, B: Any, Q: Any, R: Any, *, max_steps: int = 100_000
) -> tuple[np.ndarray, ...] | None:
    r"""Solve the coupled Riccati equations of a linear-quadratic game.

    $$(R_i + B_i^\top P_i B_i) K_i = B_i^\top P_i \Big(A - \sum_{j \ne i} B_j K_j\Big),
      \qquad P_i = Q_i + K_i^\top R_i K_i + \bar A^\top P_i \bar A,$$

    by value iteration from $P_i = Q_i$, the solution of ever longer finite horizons:
    the first equations are one linear system for all gains.

    Args:
        A: the system, shape `(d, d)`.
        B: the inputs, shape `(d, m_i)`.
        Q: the costs of the states.
        R: the costs of the inputs.
        max_steps: the longest horizon.

    Returns:
        The gains, of shape `(m_i, d)`, float64; `None` if the iteration does not settle
        on stabilising ones.
    """
    A = np.asarray(A, np.float64)
    B, Q, R = ([np.asarray(m, np.float64) for m in each] for each in (B, Q, R))
    values = list(Q)
    ends = np.cumsum([b.shape[1] for b in B])[:-1]
    joint = np.hstack(B)
    gains, change = np.zeros((joint.shape[1], len(A))), np.inf
    for _ in range(max_steps):
        rows = [b.T @ p for b, p in zip(B, values, strict=True)]
        system = np.vstack([row @ joint for row in rows])
        start = 0
        for r in R:
            block = slice(start, start + len(r))
            system[block, block] += r
            start += len(r)
        new = np.linalg.solve(system, np.vstack([row @ A for row in rows]))
        closed = A - joint @ new
        values = [
            q + k.T @ r @ k + closed.T @ p @ closed
            for q, r, k, p in zip(Q, R, np.split(new, ends), values, strict=True)
        ]
        last, change = change, np.abs(new - gains).max()
        gains = new
        if not np.isfinite(change):
            return None
        # Until rounding is all that changes: then no step is smaller than the last.
        if change <= 1e-13 * max(1.0, np.abs(new).max()) and change >= last:
            break
    stable = np.abs(np.linalg.eigvals(A - joint @ gains)).max() < 1
    settled = change <= 1e-12 * max(1.0, np.abs(gains).max())
    return tuple(np.split(gains, ends)) if stable and settled else None
