"""Differential Stackelberg equilibria: one player leads, the other answers."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.certificates import UNIT, certify_symmetric, symmetrise
from gamedyn.analysis.curvature import player_curvature
from gamedyn.analysis.jacobians import dense_jacobian
from gamedyn.analysis.local import Local, Values, ratio, spectral_norm, weaken
from gamedyn.analysis.verdicts import (
    Curvature,
    PlayerCurvature,
    Stackelberg,
    StackelbergVerdict,
)
from gamedyn.game import Batch, Game, Params
from gamedyn.trees import norm_on_host

_STEEPEST = 1e100
"""Slopes of the follower's answer beyond which products of them overflow."""


def stackelberg_finding(
    leader: int,
    values: Values,
    local: Local,
    game: Game,
    params: Params,
    batch: Batch,
    tolerance: float,
    dtype: np.dtype,
    error: float,
    finding: PlayerCurvature | None = None,
) -> Stackelberg:
    r"""Judge a point as a differential Stackelberg equilibrium.

    Say x leads, y follows, and the follower answers r(x), $D_y \ell_2(x, r(x)) = 0$:

    $$r' = -(D_{yy} \ell_2)^{-1} D_{yx} \ell_2, \qquad
      \mu = -(D_{yy} \ell_2)^{-1} D_y \ell_1, \qquad
      L(x, y) = \ell_1(x, y) + \mu \cdot D_y \ell_2(x, y).$$

    The derivatives of $x \mapsto \ell_1(x, r(x))$ are $D_x L$ and $B^\top D^2 L\, B$
    with $B = (I; r')$: the term $D_y \ell_1 \cdot r''$ of general-sum games sits in
    $\mu \cdot D^2 D_y \ell_2$. The point need not be stationary for both players, only
    for the follower and in the leader's total gradient. In a zero-sum game the total
    Hessian is the Schur complement of J, and a positive definite one makes the point
    a strict local minimax point.

    Args:
        leader: the leader's index.
        values: the game at the point.
        local: what limits the trust in it.
        game: the game, its arrays in float64.
        params: the point, in float64.
        batch: the batch.
        tolerance: largest stationary residual.
        dtype: the precision that the point was computed in.
        error: absolute bound on the error of differentiation, in the spectral norm.
        finding: what is known of the follower's own Hessian, if it is.

    Returns:
        The finding.

    References:
        Fiez, Chasnov, Ratliff, "Convergence of learning dynamics in Stackelberg games",
        2019, arXiv:1906.01217.
        Jin, Netrapalli, Jordan, "What is local optimality in nonconvex-nonconcave
        minimax optimization?", 2019, arXiv:1902.00618.
    """
    # Does the follower answer best: stationary, and positive definite?
    follower = 1 - leader
    part = values.slices[follower]
    own, mixed = values.block(follower, follower), values.block(follower, leader)
    answer = ratio(
        norm_on_host(values.field[part]),
        values.yardstick(values.jacobian[part], dtype),
    )
    if finding is None:
        low = local.low.get(follower)
        finding = player_curvature(own, follower, low, error, exact=False)
    common = {"leader": leader, "tolerance": tolerance, "follower": finding.curvature}
    if answer > tolerance:
        return Stackelberg(
            verdict=StackelbergVerdict.NOT_STATIONARY,
            residual=answer,
            remark="the follower does not answer best",
            **common,
        )
    if finding.curvature is Curvature.NOT_PSD_CERTIFIED:
        return Stackelberg(
            verdict=StackelbergVerdict.REFUTED_DSE,
            residual=answer,
            remark="the follower has negative own curvature",
            **common,
        )
    if finding.curvature is Curvature.INCONCLUSIVE:
        words = "the second-order test is silent" if finding.silent else "it is open"
        return Stackelberg(
            verdict=StackelbergVerdict.INCONCLUSIVE,
            residual=answer,
            remark=f"whether the follower's answer is unique: {words}",
            **common,
        )

    # How the answer moves with the leader, and the leader's total derivatives.
    response = -np.linalg.solve(own, mixed)
    if not np.abs(response).max(initial=0) < _STEEPEST:
        return Stackelberg(
            verdict=StackelbergVerdict.INCONCLUSIVE,
            residual=answer,
            remark="the follower's answer moves too fast to be followed",
            **common,
        )
    gradient, hessian, rows = _total(
        leader, response, values, game, params, batch, local.chunk
    )
    total, rounding = symmetrise(hessian.total)
    proof = certify_symmetric(
        total, error=rounding + hessian.error + error * hessian.growth
    )

    # The verdict by both.
    norm = norm_on_host(gradient)
    residual = max(answer, ratio(norm, values.yardstick(rows, dtype)))
    curvature = proof.curvature
    if local.low:
        curvature = weaken(curvature)
    if residual > tolerance:
        verdict, remark = StackelbergVerdict.NOT_STATIONARY, "total gradient not 0"
    elif (
        curvature is Curvature.PD_CERTIFIED
        and finding.curvature is Curvature.PD_CERTIFIED
    ):
        verdict, remark = StackelbergVerdict.CERTIFIED_DSE, ""
        if game.zero_sum:
            remark = "a strict local " + ("minimax" if leader == 0 else "maximin")
            remark += " point"
    elif curvature is Curvature.NOT_PSD_CERTIFIED:
        verdict = StackelbergVerdict.REFUTED_DSE
        remark = "the leader's total Hessian has negative curvature"
    else:
        verdict, remark = StackelbergVerdict.INCONCLUSIVE, ""
    return Stackelberg(
        verdict=verdict,
        residual=residual,
        total_gradient=norm,
        total=curvature,
        smallest=float(proof.smallest),
        bound=float(
            proof.allowance
            if proof.curvature is Curvature.NOT_PSD_CERTIFIED
            else proof.shift
        ),
        total_hessian=total,
        remark=remark,
        **common,
    )


class _TotalHessian(NamedTuple):
    """A leader's total Hessian, the error in it, and what multiplies `error` there."""

    total: np.ndarray
    error: float
    growth: float


@functools.partial(jax.jit, static_argnames=("leader", "chunk"))
def _lagrangian(
    game: Game,
    params: Params,
    batch: Batch,
    own: jax.Array,
    leader: int,
    chunk: int | None,
) -> tuple[jax.Array, ...]:
    """Differentiate the leader's loss, and twice it and the Lagrangian."""
    point, unravel = ravel_pytree(params)
    size = ravel_pytree(params[0])[0].size
    follow = slice(size, None) if leader == 0 else slice(0, size)

    def gradient(player: int) -> Callable[[jax.Array], jax.Array]:
        return jax.grad(lambda vector: game(unravel(vector), batch)[player])

    leading, following = gradient(leader), gradient(1 - leader)
    multiplier = -jnp.linalg.solve(own, leading(point)[follow])
    tangents = jnp.zeros_like(point).at[follow].set(multiplier)

    def both(vector: jax.Array) -> jax.Array:
        bent = jax.jvp(following, (vector,), (tangents,))[1]
        return jnp.concatenate([leading(vector), leading(vector) + bent])

    hessians = dense_jacobian(both, point, chunk=chunk)
    return leading(point), *jnp.split(hessians, 2)


def _total(
    leader: int,
    response: np.ndarray,
    values: Values,
    game: Game,
    params: Params,
    batch: Batch,
    chunk: int | None,
) -> tuple[np.ndarray, _TotalHessian, np.ndarray]:
    follower = 1 - leader
    lead, follow = values.slices[leader], values.slices[follower]
    own, mixed = values.block(follower, follower), values.block(follower, leader)
    if game.zero_sum:
        # f_1 = -f_2, so the multiplier is the residual itself: D_y f_1 = -D_y f_2.
        signs = np.ones(len(values.point))
        signs[follow] = -1
        leading, hessian = signs * values.field, signs[:, None] * values.jacobian
        lagrangian = hessian
    else:
        leading, hessian, lagrangian = map(
            np.asarray, _lagrangian(game, params, batch, own, leader, chunk)
        )
    basis = np.zeros((len(values.point), response.shape[1]))
    basis[lead], basis[follow] = np.eye(response.shape[1]), response
    gradient = leading[lead] + response.T @ leading[follow]
    total = basis.T @ lagrangian @ basis
    # The response is off by at most |D_yy r' + D_yx| / lambda_min(D_yy).
    magnitude = np.abs(own) @ np.abs(response) + np.abs(mixed)
    rounding = (len(values.point) + 2) * UNIT
    residual = norm_on_host(own @ response + mixed)
    residual += rounding * norm_on_host(magnitude)
    off = 1.01 * residual / max(_lowest(own), np.finfo(float).tiny)
    sides = spectral_norm((lagrangian @ basis)[follow])
    inner = spectral_norm(lagrangian[follow, follow])
    error = 2 * off * sides + off**2 * inner
    absolute = np.abs(basis)
    error += 2.02 * rounding * spectral_norm(absolute.T @ np.abs(lagrangian) @ absolute)
    growth = spectral_norm(basis) ** 2
    return (
        gradient,
        _TotalHessian(total, float(error), growth),
        basis.T @ hessian,
    )


def _lowest(own: np.ndarray) -> float:
    """Bound the smallest eigenvalue of a positive definite matrix from below."""
    if not own.size:
        return float("inf")
    matrix, asymmetry = symmetrise(own)
    half = float(np.linalg.eigvalsh(matrix)[0]) / 2
    shifted = matrix - half * np.eye(len(matrix))
    rounding = 2 * UNIT * float(np.abs(matrix).max())
    proof = certify_symmetric(shifted, error=asymmetry + rounding)
    return half if proof.positive else 0.0
