"""Findings on the players' own Hessians."""

import dataclasses

import numpy as np

from gamedyn.analysis.certificates import UNIT, certify_symmetric, symmetrise
from gamedyn.analysis.local import Local, Values, spectral_norm, weaken
from gamedyn.analysis.precision import Limits
from gamedyn.analysis.verdicts import Curvature, PlayerCurvature


def curvatures(
    values: Values, local: Local, error: float, exact: bool
) -> tuple[PlayerCurvature, ...]:
    """Test for every player whether the own Hessian is positive definite.

    Args:
        values: the game at the point.
        local: what limits the trust in it.
        error: absolute bound on the error of differentiation, in the spectral norm.
        exact: whether small open cases are settled in exact arithmetic.

    Returns:
        One finding per player.
    """
    return tuple(
        _doubted(
            player_curvature(values.block(i, i), i, local.low.get(i), error, exact),
            values.scales[i],
        )
        for i in range(len(values.slices))
    )


def player_curvature(
    block: np.ndarray, player: int, low: Limits | None, error: float, exact: bool
) -> PlayerCurvature:
    r"""Test whether one own Hessian is positive definite.

    Its asymmetry enters the error; a loss that computes in a lower precision of unit
    roundoff u adds the estimate $n u |H|_2$, and what it proves is only probable.

    Args:
        block: H, shape `(n, n)`.
        player: the player's index.
        low: the low precision that the loss computes in, or `None`.
        error: absolute bound on the error of differentiation, in the spectral norm.
        exact: whether a small open case is settled in exact arithmetic.

    Returns:
        The finding.
    """
    matrix, asymmetry = symmetrise(block)
    remarks = []
    if asymmetry:
        remarks.append(f"asymmetry {asymmetry:.3g} allowed for")
    estimate = 0.0
    if low is not None and low.casts:
        estimate = len(block) * low.unit * spectral_norm(matrix)
        remarks.append(f"rounding estimated as {estimate:.3g}")
    proof = certify_symmetric(matrix, error=error + asymmetry + estimate, exact=exact)
    curvature = proof.curvature
    if low is not None:
        remarks.append(f"the loss {low.words}")
        if curvature is Curvature.NOT_PSD_CERTIFIED:
            remarks.append("negative curvature is likely, not certified")
        curvature = weaken(curvature)
    quotient = float(proof.quotient)
    refuted = curvature is Curvature.NOT_PSD_CERTIFIED and quotient < 0
    method = "shifted Cholesky factorisation"
    if curvature is Curvature.NOT_PSD_CERTIFIED:
        method = "explicit witness"
    if exact and error + asymmetry + estimate == 0 and len(block) <= 20:
        method += " or exact rational arithmetic"
    return PlayerCurvature(
        player=player,
        curvature=curvature,
        smallest=float(proof.smallest),
        largest=float(proof.largest),
        bound=float(proof.allowance if refuted else proof.shift),
        method=method,
        dtype="float64",
        dimension=len(block),
        witness=proof.witness if refuted else None,
        quotient=quotient if refuted else None,
        remark="; ".join(remarks),
    )


def _doubted(finding: PlayerCurvature, scale: float) -> PlayerCurvature:
    """Add a remark where a curvature is no larger than the error of differentiation."""
    estimate = finding.dimension * UNIT * scale
    decided = finding.curvature is not Curvature.INCONCLUSIVE
    if not decided or not finding.dimension or abs(finding.smallest) > estimate:
        return finding
    remark = (
        f"differentiation may err by about {estimate:.3g}, as much as this curvature: "
        "allow for it by `error`"
    )
    remark = "; ".join(filter(None, [finding.remark, remark]))
    return dataclasses.replace(finding, remark=remark)
