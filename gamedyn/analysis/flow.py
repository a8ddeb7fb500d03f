"""Stability of a game's gradient flow, with one or two time scales, and of a rule."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.certificates import (
    UNIT,
    StabilityCertificate,
    certify_symmetric,
    lyapunov_certificate,
    stein_certificate,
    symmetrise,
)
from gamedyn.analysis.local import (
    MANY,
    Local,
    Values,
    in_float64,
    spectral_norm,
    weaken,
)
from gamedyn.analysis.updates import update_jacobian
from gamedyn.analysis.verdicts import (
    Curvature,
    Dynamics,
    PlayerCurvature,
    Stability,
    TimescaleStability,
)
from gamedyn.checks import described, is_real_scalar
from gamedyn.fields import Field
from gamedyn.game import Batch, Game, Params
from gamedyn.rules.base import Rule
from gamedyn.solve import Status

_LYAPUNOV = 300
"""Dimension above which Lyapunov's and Stein's equations are left out."""


def timescale_stability(
    game: Game,
    params: Params,
    taus: Sequence[float],
    batch: Batch = None,
    *,
    fast: int = 1,
    chunk: int | None = None,
) -> tuple[TimescaleStability, ...]:
    r"""Test for which ratios of time scales the gradient flow is stable at a point.

    $$\dot w = -\operatorname{diag}(I, \tau I)\, F(w), \qquad
      \text{stable} \Leftrightarrow
      \operatorname{Re} \lambda(\operatorname{diag}(I, \tau I)\, J) > 0,$$

    $\tau$ multiplying the rows of the fast player. In a zero-sum game the points that
    are stable for every large enough $\tau$ are the strict local minimax points, up to
    degeneracy. Called outside jit, in float64 also where jax computes in float32.
    Whether the point is stationary is tested by `certify`.

    Args:
        game: the game.
        params: the point, one pytree per player.
        taus: the ratios, all positive.
        batch: the fixed batch of a stochastic game, without keys.
        fast: the index of the fast player.
        chunk: columns of J computed at a time.

    Returns:
        One finding per ratio.

    Raises:
        ValueError: if a ratio is not positive, `fast` is no player, or as in `certify`.
        TypeError: if the game, or a parameter, is of the wrong type.

    Example:
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: -3 * x**2 + 4 * x * y - y**2)
        >>> results = timescale_stability(game, (0.0, 0.0), [1, 3, 4])
        >>> [item.stability.name for item in results]
        ['UNSTABLE', 'NON_HYPERBOLIC', 'STABLE']

    References:
        Jin, Netrapalli, Jordan, "What is local optimality in nonconvex-nonconcave
        minimax optimization?", 2019, arXiv:1902.00618.
        Fiez, Ratliff, "Gradient descent-ascent provably converges to strict local
        minmax equilibria with a finite timescale separation", 2020, arXiv:2009.14820.
    """
    if not hasattr(taus, "__iter__") or not all(map(is_real_scalar, taus)):
        raise TypeError(f"taus must be a sequence of numbers, got {described(taus)}")
    for tau in taus:
        if not (np.isfinite(tau) and tau > 0):
            raise ValueError(f"every tau must be positive and finite, got {tau}")
    with in_float64(game, params, batch) as (game, params, batch, _):
        if not 0 <= fast < game.num_players:
            raise ValueError(
                f"fast must be a player's index below {game.num_players}, got {fast}"
            )
        local = Local.make(game, params, batch, chunk)
        values = local.at(game, params, batch)

    def finding(tau: float) -> TimescaleStability:
        scale = np.ones(len(values.jacobian))
        scale[local.slices[fast]] = tau
        matrix = scale[:, None] * values.jacobian
        # Rounding of the product, unless tau is a power of two.
        error = float(UNIT * np.linalg.norm(matrix))
        stability, certified, _, spectrum, margin = _flow(matrix, error)
        return TimescaleStability(
            float(tau),
            stability,
            certified and not local.low,
            float(spectrum[0].real),
            margin,
            tuple(complex(value) for value in spectrum),
        )

    return tuple(finding(tau) for tau in taus)


def flow_dynamics(
    values: Values,
    local: Local,
    players: tuple[PlayerCurvature, ...],
    error: float,
    eigenvalues: bool | None,
) -> Dynamics:
    r"""Test whether the flow $\dot w = -F(w)$ is stable at a stationary point.

    Proved, where S or a solution of Lyapunov's equation proves it; else read off the
    computed eigenvalues of J, outside the margin $\sqrt{d u} |J|_2$. In a zero-sum game
    S is block diagonal, and what is known of its blocks is used.

    Args:
        values: the game at the point.
        local: what limits the trust in it.
        players: the findings on the own Hessians.
        error: absolute bound on the error of differentiation, in the spectral norm.
        eigenvalues: whether to compute them; `None`: up to 1000 parameters.

    Returns:
        The finding.
    """
    # The symmetric part S: where it is positive definite, the flow is stable.
    matrix = values.jacobian
    size = len(matrix)
    symmetric, rounding = symmetrise((matrix + matrix.T) / 2)
    if not np.array_equal(matrix, matrix.T):
        rounding += float(1.01 * UNIT * np.linalg.norm(symmetric))
    off_diagonal = symmetric.copy()
    for part in values.slices:
        off_diagonal[part, part] = 0
    if off_diagonal.any():
        proof = certify_symmetric(symmetric, error=error + rounding)
        curvature, smallest = proof.curvature, float(proof.smallest)
        bound = float(proof.shift)
        if curvature is Curvature.NOT_PSD_CERTIFIED:
            bound = float(proof.allowance)
    else:
        # Zero-sum: S is block diagonal, its blocks are the own Hessians.
        worst = min(players, key=lambda player: player.smallest)
        smallest, bound = worst.smallest, worst.bound
        curvature = Curvature.INCONCLUSIVE
        kinds = {player.curvature for player in players if player.dimension}
        if Curvature.NOT_PSD_CERTIFIED in kinds:
            curvature = Curvature.NOT_PSD_CERTIFIED
        elif kinds == {Curvature.PD_CERTIFIED}:
            curvature = Curvature.PD_CERTIFIED
    if local.low:
        curvature = weaken(curvature)
    antisymmetric = (matrix - matrix.T) / 2
    common = {
        "smallest_symmetric": smallest,
        "symmetric": curvature,
        "symmetric_bound": bound,
        "symmetric_norm": float(np.linalg.norm(symmetric)),
        "antisymmetric_norm": float(np.linalg.norm(antisymmetric)),
    }

    # What S decides alone, and else the eigenvalues of J.
    if curvature is Curvature.PD_CERTIFIED:
        decided = (Stability.STABLE, True, "S is positive definite")
    elif curvature is Curvature.NOT_PSD_CERTIFIED and not antisymmetric.any():
        decided = (
            Stability.UNSTABLE,
            True,
            "J is symmetric with a negative eigenvalue",
        )
    else:
        decided = None
    if not (eigenvalues if eigenvalues is not None else size <= MANY):
        if decided is None:
            decided = (Stability.UNKNOWN, False, f"eigenvalues left out at {size}")
        return Dynamics(*decided, **common)
    stability, certified, method, spectrum, margin = _flow(matrix, error, decided)
    return Dynamics(
        stability,
        certified and not local.low,
        method,
        min_real_part=float(spectrum[0].real),
        margin=margin,
        eigenvalues=tuple(complex(value) for value in spectrum),
        **common,
    )


def with_rule(
    dynamics: Dynamics,
    field: Field,
    rule: Rule,
    params: Params,
    batch: Batch,
    eigenvalues: bool | None,
    low: bool,
) -> Dynamics:
    """Add what is known of a rule's update map to a finding on the flow.

    Args:
        dynamics: the finding on the flow.
        field: the field that the rule descends, its arrays in float64.
        rule: the update rule.
        params: the point, in float64.
        batch: the batch of every evaluation.
        eigenvalues: whether to compute them; `None`: up to 1000 parameters.
        low: whether the losses compute in a lower precision, so nothing is proved.

    Returns:
        The finding on both.
    """
    size = ravel_pytree(params)[0].size
    if not (eigenvalues if eigenvalues is not None else size <= MANY):
        return dataclasses.replace(
            dynamics, update_remark=f"spectral radius left out at {size} parameters"
        )
    matrix, status, period = update_jacobian(field, rule, params, batch)
    if status != Status.OK:
        return dataclasses.replace(
            dynamics, update_remark=f"{status.name}: {status.message}"
        )
    spectrum = np.linalg.eigvals(matrix)
    radius = float(np.abs(spectrum).max())
    margin = float(np.sqrt(len(matrix) * UNIT) * max(1.0, spectral_norm(matrix)))
    proof = StabilityCertificate(False, False)
    if len(matrix) <= _LYAPUNOV and not low:
        proof = stein_certificate(matrix)
    if proof.stable or (radius < 1 - margin and not proof.unstable):
        stability = Stability.STABLE
    elif proof.unstable or radius > 1 + margin:
        stability = Stability.UNSTABLE
    else:
        stability = Stability.NON_HYPERBOLIC
    return dataclasses.replace(
        dynamics,
        update_radius=radius ** (1 / period),
        update_stability=stability,
        update_certified=proof.stable or proof.unstable,
        update_eigenvalues=tuple(map(complex, spectrum)),
    )


def _flow(
    matrix: np.ndarray,
    error: float,
    decided: tuple[Stability, bool, str] | None = None,
) -> tuple[Stability, bool, str, np.ndarray, float]:
    """Decide the stability of w' = -Jw: by proof, else by computed eigenvalues."""
    size = len(matrix)
    symmetric = np.array_equal(matrix, matrix.T)
    spectrum = np.linalg.eigvalsh(matrix) if symmetric else np.linalg.eigvals(matrix)
    spectrum = spectrum[np.lexsort((spectrum.imag, spectrum.real))]
    # A defective eigenvalue moves by a root of the rounding error.
    margin = float(np.sqrt(size * UNIT) * spectral_norm(matrix) + error)
    if decided is None:
        decided = _prove_flow(matrix, error, float(spectrum[0].real), margin)
    return *decided, spectrum, margin


def _prove_flow(
    matrix: np.ndarray, error: float, smallest: float, margin: float
) -> tuple[Stability, bool, str]:
    proof = StabilityCertificate(False, False)
    if len(matrix) <= _LYAPUNOV:
        proof = lyapunov_certificate(matrix, error=error)
        if not proof.stable and not proof.unstable and smallest < -margin:
            # Eigenvalues l and -l make Lyapunov's equation singular. If J + sI with
            # s > 0 is unstable, J is. s is far from rational multiples of l.
            shift = -smallest / np.pi
            shifted = matrix + shift * np.eye(len(matrix))
            rounding = 2 * UNIT * float(np.abs(np.diagonal(shifted)).max() + shift)
            again = lyapunov_certificate(shifted, error=error + rounding)
            proof = StabilityCertificate(False, again.unstable)
    if proof.stable:
        return Stability.STABLE, True, "Lyapunov certificate"
    if proof.unstable:
        return Stability.UNSTABLE, True, "Lyapunov certificate"
    if smallest > margin:
        return Stability.STABLE, False, "computed eigenvalues"
    if smallest < -margin:
        return Stability.UNSTABLE, False, "computed eigenvalues"
    return Stability.NON_HYPERBOLIC, False, "computed eigenvalues"
