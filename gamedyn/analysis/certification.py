"""Certificates of equilibria by dense float64 arithmetic, up to 2000 parameters."""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn._moved import renamed
from gamedyn.analysis.certificates import UNIT
from gamedyn.analysis.constrained import (
    ConstrainedReport,
    certify_constrained,
    is_constrained,
)
from gamedyn.analysis.curvature import curvatures
from gamedyn.analysis.flow import flow_dynamics, with_rule
from gamedyn.analysis.local import (
    Local,
    Values,
    check_not_negative,
    check_point,
    default_tolerance,
    in_float64,
    ratio,
    spectral_norm,
)
from gamedyn.analysis.stackelberg import stackelberg_finding
from gamedyn.analysis.verdicts import (
    Curvature,
    EquilibriumReport,
    PlayerCurvature,
    Stationarity,
    Verdict,
    conclude,
)
from gamedyn.fields import Field, gradient
from gamedyn.game import Batch, Game, Params
from gamedyn.geometry import Geometry, euclidean
from gamedyn.rules.base import Rule, check_rule


class _Options(TypedDict, total=False):
    """The options of `certify` on every domain."""

    error: float
    tolerance: float | None
    polish: int
    rule: Rule | None
    rule_field: Callable[[Game], Field]
    own_loss_convex: bool
    lipschitz: float | None
    eigenvalues: bool | None
    exact: bool
    chunk: int | None


@overload
def certify(
    game: Game, params: Params, batch: Batch = None, **options: Unpack[_Options]
) -> EquilibriumReport: ...


@overload
def certify(
    game: Game,
    params: Params,
    batch: Batch = None,
    *,
    geometry: Geometry | tuple[Geometry, ...],
    **options: Unpack[_Options],
) -> EquilibriumReport | ConstrainedReport: ...


@renamed(own_cost_convex="own_loss_convex")
def certify(
    game: Game,
    params: Params,
    batch: Batch = None,
    *,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
    error: float = 0.0,
    tolerance: float | None = None,
    polish: int = 0,
    rule: Rule | None = None,
    rule_field: Callable[[Game], Field] = gradient,
    own_loss_convex: bool = False,
    lipschitz: float | None = None,
    eigenvalues: bool | None = None,
    exact: bool = False,
    chunk: int | None = None,
) -> EquilibriumReport | ConstrainedReport:
    r"""Report what can be proved about a point of a game.

    Three findings: whether the field F vanishes; per player whether the own Hessian
    $J_{ii} = \nabla^2_{z_i} \ell_i$ is positive definite (a shifted Cholesky
    factorisation proves it, an explicit direction of negative curvature refutes it, see
    `certify_symmetric`); and the stability of the flow $\dot w = -F(w)$ and of a rule.
    From them follows the verdict (`conclude`): a differential Nash equilibrium (DNE) is
    certified, refuted, or left open. Where the own Hessians vanish, as in every
    bilinear game, the second-order test is silent and the verdict INCONCLUSIVE.

    On constrained domains, given by `geometry`, F need not vanish and these tests do
    not apply: reported are the natural residual and what best responses would gain, see
    `certify_constrained`.

    Called outside jit. The point, the batch and the game's arrays are cast to float64,
    which is exact, and the losses traced again, also where jax computes in float32: the
    report is about that point. It covers the matrices that automatic differentiation
    returned; for the rounding errors of differentiation itself there is `error`. All
    matrices are dense: up to about 2000 parameters.

    Args:
        game: the game.
        params: the point, one pytree per player.
        batch: the fixed batch of a stochastic game, its randomness drawn beforehand:
            arrays, no key, since float64 would draw other numbers.
        geometry: the players' domains, one for all or one each.
        error: what to allow for errors of differentiation: an absolute bound in the
            spectral norm, on every own Hessian and on J. It scales with the losses.
        tolerance: largest stationary residual, see `Stationarity`; by default
            sqrt(eps) of the precision the point was computed in (1.5e-8 in float64,
            3.5e-4 in float32).
        polish: the most Newton steps on F = 0 to take beforehand, in float64, as long
            as they make |F| smaller; the report says how far they moved the point.
        rule: an update rule whose local convergence is to be reported.
        rule_field: makes the field that the rule descends, `fields.consensus` say.
        own_loss_convex: assume that every loss is convex in its own parameters: a
            stationary point is then a Nash equilibrium.
        lipschitz: a Lipschitz constant L of J near the point, in the spectral norm.
            With beta = |J^-1| and eta = |J^-1 F|, beta L eta <= 1/2 proves a zero of F
            within 2 eta (Newton-Kantorovich), and 2 L eta is added to `error`: the
            verdict is then about that zero. INCONCLUSIVE if the test fails.
        eigenvalues: whether to compute eigenvalues of J and the rule's spectral radius;
            by default up to 1000 parameters.
        exact: whether to settle own Hessians of at most 20 parameters that stay open in
            exact rational arithmetic, where `error` is 0.
        chunk: columns of J computed at a time; all, or 128 above 1000 parameters.

    Returns:
        The report; `print` it, or take `to_json()`. A `ConstrainedReport` if a domain
        is constrained.

    Raises:
        ValueError: if the point is not finite or the losses cannot be evaluated there
            (wrong structure, a missing batch), a key is left in the batch, the losses
            draw random numbers, a derivative is not finite (a non-smooth loss), an own
            Hessian is not symmetric (a faulty custom derivative), or an option is out
            of range or does not fit the domains.
        TypeError: if the game, or a parameter, is of the wrong type.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x**2 / 2 + 2 * x * y - y**2 / 2)
        >>> report = certify(game, (jnp.array(0.0), jnp.array(0.0)))
        >>> report.verdict.name, report.dynamics.stability.name
        ('CERTIFIED_DNE', 'STABLE')
        >>> silent = certify(gd.zero_sum(lambda x, y: x * y), (0.0, 0.0))
        >>> silent.verdict.name, silent.silent
        ('INCONCLUSIVE', True)
        >>> dilemma = gd.games.prisoners_dilemma()
        >>> point, = dilemma.solutions
        >>> certify(dilemma.game, point, geometry=dilemma.geometry).verdict.name
        'NASH_EQUILIBRIUM'

    References:
        Ratliff, Burden, Sastry, "On the characterization of local Nash equilibria in
        continuous games", 2014, arXiv:1411.2168.
        Berard et al., "A closer look at the optimization landscapes of generative
        adversarial networks", 2019, arXiv:1906.04848.
    """
    # On constrained domains other conditions are tested.
    _check_options(error, tolerance, polish, lipschitz)
    check_point(game, params, batch)
    if rule is not None:
        check_rule(rule, "certify")
    if is_constrained(geometry, game.num_players):
        if error or polish or lipschitz is not None or exact:
            raise ValueError(
                "error, polish, lipschitz and exact belong to the unconstrained tests; "
                "the players are constrained"
            )
        return certify_constrained(
            game,
            params,
            batch,
            geometry=geometry,
            tolerance=tolerance,
            rule=rule,
            rule_field=rule_field,
            own_loss_convex=own_loss_convex,
            eigenvalues=eigenvalues,
            chunk=chunk,
        )
    with in_float64(game, params, batch) as (game, params, batch, dtype):
        # The point, after Newton steps if any were asked for, and the game there.
        local = Local.make(game, params, batch, chunk)
        notes = list(local.notes)
        params, distance, steps = _polish(local, game, params, batch, polish, notes)
        if steps:
            dtype = np.dtype(np.float64)
        values = local.at(game, params, batch)

        # Is it stationary, and how far is a zero of F?
        if tolerance is None:
            tolerance = default_tolerance(dtype)
        stationarity = _stationarity(values, tolerance)
        newton, radius, extra = _nearby_zero(values, lipschitz, notes)

        # The own Hessians, the flow and the rule, at a stationary point only.
        players, dynamics = (), None
        if stationarity.stationary:
            players = curvatures(values, local, error + extra, exact)
            dynamics = flow_dynamics(values, local, players, error + extra, eigenvalues)
            if rule is not None:
                dynamics = with_rule(
                    dynamics,
                    rule_field(game),
                    rule,
                    params,
                    batch,
                    eigenvalues,
                    bool(local.low),
                )

        # Each of two players as the leader: stationary in another sense.
        stackelberg = ()
        if game.num_players == 2:
            stackelberg = tuple(
                stackelberg_finding(
                    leader,
                    values,
                    local,
                    game,
                    params,
                    batch,
                    tolerance,
                    error,
                    players[1 - leader] if players else None,
                )
                for leader in range(2)
            )

        # The verdict.
        verdict = conclude(stationarity, players)
        if lipschitz is not None and radius is None and players:
            verdict = Verdict.INCONCLUSIVE
        nash = _nash(own_loss_convex, stationarity, players, notes)
        return EquilibriumReport(
            verdict=verdict,
            stationarity=stationarity,
            players=players,
            dynamics=dynamics,
            stackelberg=stackelberg,
            notes=tuple(notes),
            dtype="float64",
            point_dtype=dtype.name,
            dimension=values.point.size,
            method="dense",
            nash=nash,
            newton_distance=newton,
            zero_radius=radius,
            polish_steps=steps,
            polish_distance=distance,
            params=jax.tree.map(np.asarray, params),
            batch_size=_batch_size(batch),
        )


def _check_options(
    error: float, tolerance: float | None, polish: int, lipschitz: float | None
) -> None:
    check_not_negative("error", error)
    check_not_negative("tolerance", tolerance)
    check_not_negative("lipschitz", lipschitz)
    if isinstance(polish, bool) or not hasattr(polish, "__index__") or polish < 0:
        raise ValueError(f"polish must be a number of Newton steps, got {polish!r}")


def _stationarity(values: Values, tolerance: float) -> Stationarity:
    norms = tuple(float(np.linalg.norm(values.field[part])) for part in values.slices)
    size = max(1.0, float(np.linalg.norm(values.point)))
    residuals = tuple(
        ratio(norm, scale * size)
        for norm, scale in zip(norms, values.scales, strict=True)
    )
    worst = max(residuals)
    return Stationarity(
        worst <= tolerance, worst, tolerance, residuals, norms, values.scales
    )


def _polish(
    local: Local,
    game: Game,
    params: Params,
    batch: Batch,
    most: int,
    notes: list[str],
) -> tuple[Params, float, int]:
    """Take Newton steps on F = 0 while they make |F| smaller."""
    if not most:
        return params, 0.0, 0
    start, unravel = ravel_pytree(params)
    values, steps = local.at(game, params, batch), 0
    while steps < most and values.field.any():
        try:
            step = np.linalg.solve(values.jacobian, values.field)
        except np.linalg.LinAlgError:
            step = np.linalg.lstsq(values.jacobian, values.field)[0]
        moved = unravel(jnp.asarray(values.point - step))
        if not np.all(np.isfinite(step)):
            break
        later = local.at(game, moved, batch)
        if not np.linalg.norm(later.field) < np.linalg.norm(values.field):
            break
        params, values, steps = moved, later, steps + 1
    if steps < most and values.field.any():
        notes.append(
            f"polish stopped after {steps} of {most} Newton steps: the next one does "
            "not make |F| smaller"
        )
    return params, float(np.linalg.norm(values.point - np.asarray(start))), steps


def _nearby_zero(
    values: Values, lipschitz: float | None, notes: list[str]
) -> tuple[float | None, float | None, float]:
    """Return |J^-1 F|, a radius that surely holds a zero, and what it adds to err."""
    try:
        eta = float(np.linalg.norm(np.linalg.solve(values.jacobian, values.field)))
    except np.linalg.LinAlgError:
        eta = float("inf")
    newton = eta if np.isfinite(eta) else None
    if newton is None:
        notes.append("J is singular: a zero of F here need not be isolated")
    if lipschitz is None:
        return newton, None, 0.0
    smallest = np.linalg.svd(values.jacobian, compute_uv=False)[-1]
    floor = len(values.jacobian) * UNIT * spectral_norm(values.jacobian)
    if newton is None or smallest <= 2 * floor:
        notes.append(
            "the Newton-Kantorovich test failed: J is singular within rounding"
        )
        return newton, None, 0.0
    if lipschitz * newton / (smallest - floor) > 0.5:
        notes.append(
            "the Newton-Kantorovich test failed: beta L eta = "
            f"{lipschitz * newton / smallest:.3g} exceeds 1/2, no zero of F is proved"
        )
        return newton, None, 0.0
    return newton, 2 * newton, 2 * lipschitz * newton


def _nash(
    convex: bool,
    stationarity: Stationarity,
    players: tuple[PlayerCurvature, ...],
    notes: list[str],
) -> bool | None:
    if not convex or not stationarity.stationary:
        return None
    for player in players:
        if player.curvature is Curvature.NOT_PSD_CERTIFIED:
            notes.append(
                f"own_loss_convex=True is wrong: player {player.player} has the own "
                f"curvature {player.quotient:.6g} along a witness"
            )
            return False
    return True


def _batch_size(batch: Any) -> int | None:
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(batch) if np.ndim(leaf)}
    return sizes.pop() if len(sizes) == 1 else None
