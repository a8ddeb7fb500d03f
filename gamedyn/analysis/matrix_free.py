"""Certificates of equilibria for networks, by products with Hessians only."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.bounds import (
    RayleighQuotient,
    SpectrumBounds,
    rayleigh_quotient,
    spectrum_bounds,
)
from gamedyn.analysis.krylov import LanczosResult, lanczos, pairs_converged
from gamedyn.analysis.local import (
    check_not_negative,
    check_point,
    default_tolerance,
    known_digits,
    ratio,
)
from gamedyn.analysis.operators import (
    Operator,
    full_data,
    jacobian,
    jacobian_transposed,
    own_hessian,
    symmetric_part,
)
from gamedyn.analysis.precision import check_finite, float64, inspect, point_dtype
from gamedyn.analysis.spectra import update_spectrum
from gamedyn.analysis.verdicts import (
    Curvature,
    Dynamics,
    EquilibriumReport,
    PlayerCurvature,
    Stability,
    Stationarity,
    conclude,
)
from gamedyn.checks import check_positive_integer
from gamedyn.fields import as_field
from gamedyn.game import Batch, Game, Params, PyTree
from gamedyn.rules.base import Rule
from gamedyn.trees import norm, norm_on_host, size
from gamedyn.x64 import enable_x64

_POWER_STEPS = 3  # of the estimate of |J_i|, where the own Hessian does not decide


class Examination(NamedTuple):
    """The sign of a symmetric operator, as far as Lanczos decides it.

    Attributes:
        curvature: the finding.
        ends: the Lanczos run.
        bounds: what its random start says about the eigenvalues beyond.
        again: the curvature along the smallest Ritz vector, evaluated again.
        matvecs: products spent in all.
        remark: what limits or explains the finding, in words.
    """

    curvature: Curvature
    ends: LanczosResult
    bounds: SpectrumBounds
    again: RayleighQuotient
    matvecs: int
    remark: str


def certify_large(
    game: Game,
    params: Params,
    batch: Batch,
    key: jax.Array,
    *,
    num_steps: int = 50,
    tolerance: float | None = None,
    null_directions: Sequence[Sequence[PyTree] | None] | None = None,
    delta: float = 1e-6,
    batches: Batch = None,
    rule: Rule | None = None,
) -> EquilibriumReport:
    r"""Report what products with Hessians prove about a point of a large game.

    The matrix-free form of `certify`, in memory for `num_steps` vectors. Per player the
    ends of the own Hessian's spectrum by `lanczos`, in the precision of the parameters,
    and from them

    - NOT_PSD_CERTIFIED, where the smallest Ritz vector v is a witness: v'Hv evaluated
      again in float64 is negative by more than its error bound;
    - PD_PROBABLE, where the smallest pair has converged and `spectrum_bounds` keeps the
      smallest eigenvalue positive with probability 1 - 3 delta over the random start;
      no finite number of products can certify it;
    - INCONCLUSIVE otherwise, in particular where the smallest eigenvalues crowd at 0,
      as those of trained networks do. What is proved then is in the remark: no
      curvature below the bound, with that probability.

    The same is done for S, the symmetric part of the game Jacobian; in a two-player
    zero-sum game S consists of the own Hessians. The field is evaluated in float64; in
    `Stationarity` the largest Ritz magnitude of the own Hessian stands for |J_i|, and
    where that leaves the residual above the tolerance, power steps on J' J improve it.
    Unlike that of `certify` the report of a point that is not stationary holds the
    findings too: they are about the curvature there.

    The findings are about the game with this fixed batch, not about the population.
    Called outside jit.

    Args:
        game: the game.
        params: the point, one pytree per player.
        batch: the fixed batch. With a PRNG key in it the report is about what that key
            draws, and stays in the precision of the parameters.
        key: a PRNG key for the starts of Lanczos.
        num_steps: the most Lanczos steps per operator; fewer where both ends have
            converged and the sign is decided. 100 make the bounds about four times
            tighter.
        tolerance: largest stationary residual; by default sqrt(eps) of the precision of
            the point, as in `certify`.
        null_directions: per player known null directions of the own Hessian (from
            symmetries of the network), or `None`; the findings hold modulo these.
        delta: the probability of failure of each statement in the bounds.
        batches: batches along a leading axis, in place of `batch`: losses are averaged
            over them, one batch in memory at a time.
        rule: an update rule whose spectral radius is to be estimated (`arnoldi`).

    Returns:
        The report.

    Raises:
        ValueError: if the point is not finite, a derivative is not finite (a non-smooth
            loss), both `batch` and `batches` are given, or an option is out of range.
        TypeError: if the game, or a parameter, is of the wrong type.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import gamedyn as gd
        >>> from gamedyn.analysis import certify_large
        >>> game = gd.zero_sum(lambda x, y: x @ x + 2 * x @ y - y @ y / 2)
        >>> zero = jnp.zeros(100)
        >>> report = certify_large(game, (zero, zero), None, jax.random.key(0))
        >>> report.verdict.name, [p.curvature.name for p in report.players]
        ('INCONCLUSIVE', ['PD_PROBABLE', 'PD_PROBABLE'])

    References:
        Kuczynski, Wozniakowski, "Estimating the largest eigenvalue by the power and
        Lanczos algorithms with a random start", SIAM J. Matrix Anal. Appl. 13, 1992.
        Royer, O'Neill, Wright, "A Newton-CG algorithm with complexity guarantees for
        smooth unconstrained optimization", 2018, arXiv:1803.02924.
    """
    # Arguments, keys, and operators averaged over the batches where there are several.
    _check(game, params, batch, batches, null_directions, num_steps, tolerance, delta)
    params = jax.tree.map(jnp.asarray, params)
    check_finite(params)
    dtype = point_dtype(params)
    if tolerance is None:
        tolerance = default_tolerance(dtype)
    nulls = null_directions or (None,) * game.num_players
    *player_keys, key_s, key_scale, key_rule = jax.random.split(
        key, game.num_players + 3
    )
    notes: list[str] = []

    def prepared(operator: Operator) -> Operator:
        return operator if batches is None else full_data(operator, batches)

    # The own Hessian of every player by Lanczos.
    examinations = tuple(
        examine(
            prepared(own_hessian(game, params, batch, player=player)),
            player_keys[player],
            num_steps=num_steps,
            delta=delta,
            null_directions=nulls[player],
            what=f"the own Hessian of player {player}",
        )
        for player in range(game.num_players)
    )
    players = tuple(map(_player, range(game.num_players), examinations))

    # Whether the field vanishes, in units of the own Hessians just examined.
    norms, precision = _norms(prepared(jacobian(game, params, batch)))
    for player, norm_of_field in enumerate(norms):
        if not np.isfinite(norm_of_field):
            raise ValueError(
                f"the gradient of player {player} is not finite at this point: the "
                "loss is not smooth there, so no derivative test applies"
            )
    stationarity, spent = _stationarity(
        norms,
        [e.ends.scale for e in examinations],
        params,
        tolerance,
        [prepared(f(game, params, batch)) for f in (jacobian, jacobian_transposed)],
        key_scale,
    )

    # The flow by the symmetric part of J, and the rule by its update map.
    if game.zero_sum:
        dynamics = _zero_sum_dynamics(examinations)
    else:
        dynamics = _dynamics(
            examine(
                prepared(symmetric_part(game, params, batch)),
                key_s,
                num_steps=num_steps,
                delta=delta,
                what="the symmetric part of the game Jacobian",
            )
        )
    if rule is not None:
        if batches is None:
            dynamics = _with_rule(dynamics, game, rule, params, batch, key_rule)
        else:
            notes.append("the rule was left out: its update map needs a single batch")

    # What limits the findings.
    if precision != "float64":
        notes.append(
            "the losses draw random numbers: the findings are about what the fixed key "
            f"draws, in {precision}"
        )
    if batches is None and batch is not None:
        notes.append("the findings are about the fixed batch, not the population")
    for player, finding in enumerate(players):
        if finding.converged is False:
            notes.append(
                f"the smallest pair of player {player} has not converged after "
                f"{examinations[player].ends.steps} steps: residual "
                f"{finding.residual:.3g}"
            )
    return EquilibriumReport(
        verdict=conclude(stationarity, players),
        stationarity=stationarity,
        players=players,
        dynamics=dynamics,
        notes=tuple(notes),
        dtype=examinations[0].ends.dtype,
        point_dtype=dtype.name,
        dimension=size(params),
        method="matrix-free",
        params=params,
        matvecs=sum(e.matvecs for e in examinations) + spent + dynamics.matvecs,
        batch_size=_batch_size(batch if batches is None else batches, batches),
    )


def examine(
    operator: Operator,
    key: jax.Array,
    *,
    num_steps: int = 50,
    delta: float = 1e-6,
    null_directions: Sequence[PyTree] | None = None,
    what: str = "the operator",
) -> Examination:
    """Decide the sign of a symmetric operator as far as Lanczos can.

    Args:
        operator: the operator.
        key: a PRNG key for the start.
        num_steps: the most Lanczos steps.
        delta: the probability of failure of each statement in the bounds.
        null_directions: known null directions, deflated.
        what: its name, for messages.

    Returns:
        The finding, with all that it rests on.

    Raises:
        ValueError: if a product is not finite.
    """
    # Lanczos until both ends have converged and the sign of the lower one is decided.
    like = operator.like
    eps = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(like))).eps)
    entries = size(like)
    dimension = entries - len(null_directions or ())

    def rounding(steps, scale):
        return 10 * eps * np.sqrt(steps) * scale

    def decided(diagonal, off_diagonal, scale):
        if not pairs_converged(diagonal, off_diagonal, (1, 1), np.sqrt(eps) * scale):
            return False
        slack = rounding(len(diagonal), scale)
        bounds = spectrum_bounds(
            diagonal, off_diagonal, max(dimension, 1), delta=delta, allowance=slack
        )
        below = np.linalg.eigvalsh(_tridiagonal(diagonal, off_diagonal))[0]
        return bool(bounds.lower > 0 or below < -1e-3 * scale)

    try:
        ends = lanczos(
            operator,
            like,
            key,
            num_steps=num_steps,
            null_directions=null_directions,
            stop=decided,
        )
    except FloatingPointError as reason:
        raise ValueError(
            f"products with {what} are not finite at this point: the loss is not "
            "smooth there, so no second-order test applies"
        ) from reason

    # The lowest direction again in float64, and bounds on what lies beyond it.
    again = rayleigh_quotient(
        operator, like, ends.vectors[0], scale=ends.scale, image=ends.images[0]
    )
    bounds = spectrum_bounds(
        ends.diagonal,
        ends.off_diagonal,
        ends.dimension,
        delta=delta,
        allowance=rounding(ends.steps, ends.scale) + 10 * again.noise,
    )

    # The finding, and in words what it rests on.
    remarks = [again.remark] if again.remark else []
    tight = ends.null_residual <= np.sqrt(eps) * ends.scale
    if null_directions:
        modulo = entries - ends.dimension
        remarks.append(f"modulo {modulo} known null directions")
        if not tight:
            remarks.append(
                f"which are none: |Hv| is up to {ends.null_residual:.3g}, so nothing "
                "positive follows"
            )
    if again.negative:
        curvature = Curvature.NOT_PSD_CERTIFIED
    elif bounds.lower > 0 and bool(ends.converged[0]) and tight:
        curvature = Curvature.PD_PROBABLE
    else:
        curvature = Curvature.INCONCLUSIVE
        if not again.trusted and not again.remark:
            remarks.append("float64 and the working precision disagree")
    if curvature is not Curvature.PD_PROBABLE:
        remarks.append(
            f"no curvature below {bounds.lower:.6g}, with probability "
            f"{bounds.probability:.8g}"
        )
    return Examination(
        curvature, ends, bounds, again, ends.matvecs + again.matvecs, "; ".join(remarks)
    )


def _check(game, params, batch, batches, nulls, num_steps, tolerance, delta) -> None:
    check_point(game, params, batch)
    check_positive_integer("num_steps", num_steps)
    if batch is not None and batches is not None:
        raise ValueError("give either a batch or batches to average over, not both")
    check_not_negative("tolerance", tolerance)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    if nulls is not None and len(nulls) != game.num_players:
        raise ValueError(
            f"expected null directions for each of the {game.num_players} players, or "
            f"None, got {len(nulls)}"
        )


def _player(player: int, examination: Examination) -> PlayerCurvature:
    ends, again, bounds = examination.ends, examination.again, examination.bounds
    negative = examination.curvature is Curvature.NOT_PSD_CERTIFIED
    probable = examination.curvature is Curvature.PD_PROBABLE
    return PlayerCurvature(
        player=player,
        curvature=examination.curvature,
        smallest=ends.smallest,
        largest=ends.largest,
        bound=again.error if negative else ends.smallest - bounds.lower,
        method="Lanczos",
        dtype=ends.dtype
        if again.dtype == ends.dtype
        else f"{ends.dtype}, checked in {again.dtype}",
        dimension=ends.dimension,
        matvecs=examination.matvecs,
        witness=_unit(ends.vectors[0]) if negative else None,
        quotient=again.quotient if negative else None,
        probability=bounds.probability if probable else None,
        residual=float(ends.residuals[0]),
        converged=bool(ends.converged[0]),
        remark=examination.remark,
    )


def _unit(vector: jax.Array) -> np.ndarray:
    direction = np.asarray(vector, np.float64)
    return direction / norm_on_host(direction)


def _zero_sum_dynamics(examinations: tuple[Examination, ...]) -> Dynamics:
    """S is block diagonal: its finding is the worse one of the own Hessians'."""
    lowest = min(examinations, key=lambda e: e.ends.smallest)
    curvatures = {e.curvature for e in examinations}
    curvature = Curvature.INCONCLUSIVE
    if Curvature.NOT_PSD_CERTIFIED in curvatures:
        curvature = Curvature.NOT_PSD_CERTIFIED
    elif curvatures == {Curvature.PD_PROBABLE}:
        curvature = Curvature.PD_PROBABLE
    lower = min(e.bounds.lower for e in examinations)
    return _flow(curvature, lowest.ends.smallest, lower, lowest, 0)


def _dynamics(examination: Examination) -> Dynamics:
    return _flow(
        examination.curvature,
        examination.ends.smallest,
        examination.bounds.lower,
        examination,
        examination.matvecs,
    )


def _flow(
    curvature: Curvature,
    smallest: float,
    lower: float,
    examination: Examination,
    spent: int,
) -> Dynamics:
    positive = curvature is Curvature.PD_PROBABLE
    negative = curvature is Curvature.NOT_PSD_CERTIFIED
    return Dynamics(
        stability=Stability.STABLE if positive else Stability.UNKNOWN,
        certified=False,
        method="S is probably positive definite" if positive else "",
        smallest_symmetric=smallest,
        symmetric=curvature,
        symmetric_bound=examination.again.error if negative else smallest - lower,
        matvecs=spent,
    )


def _with_rule(dynamics, game, rule, params, batch, key) -> Dynamics:
    """Add the estimated spectral radius of the rule's update map."""
    try:
        estimate = update_spectrum(game, rule, params, batch, key, num_pairs=1)
    except FloatingPointError:
        remark = "the update map has no finite Jacobian at this point"
        return dataclasses.replace(dynamics, update_remark=remark)
    modulus = float(abs(estimate.values[0]))
    # A small residual does not bound the error of a non-normal map's eigenvalue.
    margin = max(
        float(estimate.residuals[0]), 10 * float(jnp.finfo(estimate.dtype).eps)
    )
    stability = Stability.UNKNOWN
    if estimate.converged[0]:
        stability = Stability.NON_HYPERBOLIC
        if abs(modulus - 1) > margin:
            stability = Stability.STABLE if modulus < 1 else Stability.UNSTABLE
    return dataclasses.replace(
        dynamics,
        update_radius=modulus ** (1 / rule.period),
        update_stability=stability,
        update_remark=f"estimated by Arnoldi, residual {estimate.residuals[0]:.3g}"
        + ("" if estimate.converged[0] else ", not converged"),
        matvecs=dynamics.matvecs + estimate.matvecs,
    )


def _norms(operator: Operator) -> tuple[list[float], str]:
    """Compute |F_i| of every player, in float64 unless random numbers are drawn."""
    dtype = point_dtype(operator.params)
    traced = _gradient_norms.trace(operator)
    if dtype == np.float64 or inspect(traced.jaxpr).draws:
        return [float(x) for x in _gradient_norms(operator)], dtype.name
    with enable_x64(True), jax.numpy_dtype_promotion("standard"):
        return [float(x) for x in _gradient_norms(float64(operator))], "float64"


@jax.jit
def _gradient_norms(operator: Operator) -> list[jax.Array]:
    field = as_field(operator.game_or_field)
    if operator.weights is None:
        total = field(operator.params, operator.batch)
    else:

        def add(total, weighted):
            weight, batch = weighted
            return jax.tree.map(
                lambda t, f: t + weight.astype(f.dtype) * f,
                total,
                field(operator.params, batch),
            ), None

        zero = jax.tree.map(jnp.zeros_like, operator.params)
        total = jax.lax.scan(add, zero, (operator.weights, operator.batch))[0]
    return [norm(part) for part in total]


def _stationarity(
    norms: list[float],
    scales: list[float],
    params: Params,
    tolerance: float,
    jacobians: list[Operator],
    key: jax.Array,
) -> tuple[Stationarity, int]:
    residuals = tuple(map(ratio, norms, scales))
    method, spent = "largest Ritz magnitude of the own Hessian", 0
    if not max(residuals) <= tolerance:
        # Blocks of the other players may be larger, or the own Hessian 0; and F_i is no
        # better known than the digits of the point allow.
        key_rows, key_signs = jax.random.split(key)
        rows = map(float, _row_norms(*jacobians, key_rows))
        scales = [max(pair) for pair in zip(scales, rows, strict=True)]
        digits = known_digits(point_dtype(params))
        blurs = [digits * float(blur) for blur in _blurs(jacobians[0], key_signs)]
        residuals = tuple(map(ratio, norms, map(max, scales, blurs)))
        method += ", power steps on every J_i'J_i"
        spent = len(norms) * (2 * _POWER_STEPS + 1) + 1
    worst = max(residuals)
    return Stationarity(
        worst <= tolerance,
        worst,
        tolerance,
        residuals,
        tuple(norms),
        tuple(scales),
        method,
    ), spent


@jax.jit
def _row_norms(forward: Operator, transposed: Operator, key: jax.Array) -> jax.Array:
    """Estimate |J_i| from below: |J_i v| for a vector v that power steps on it made."""
    flat, unravel = ravel_pytree(forward.params)
    sizes = [size(part) for part in forward.params]
    owners = jnp.repeat(
        jnp.arange(len(sizes)), np.array(sizes), total_repeat_length=flat.size
    )

    def normalised(vector: jax.Array) -> jax.Array:
        length = norm(vector).astype(vector.dtype)
        return vector / jnp.where(length > 0, length, 1)

    def one(player: jax.Array) -> jax.Array:
        def row(vector: jax.Array) -> jax.Array:
            image = ravel_pytree(forward(unravel(vector)))[0]
            return jnp.where(owners == player, image, 0)

        def step(vector: jax.Array, _: Any) -> tuple[jax.Array, None]:
            back = transposed(unravel(normalised(row(vector))))
            return normalised(ravel_pytree(back)[0]), None

        start = normalised(jax.random.normal(key, flat.shape, flat.dtype))
        return norm(row(jax.lax.scan(step, start, length=_POWER_STEPS)[0]))

    return jax.lax.map(one, jnp.arange(len(sizes)))


@jax.jit
def _blurs(operator: Operator, key: jax.Array) -> list[jax.Array]:
    """Estimate |J_i diag(w)|_F by random signs: what relative errors of w do to F."""
    flat, unravel = ravel_pytree(operator.params)
    signs = jax.random.rademacher(key, flat.shape, flat.dtype)
    return [norm(part) for part in operator(unravel(signs * flat))]


def _tridiagonal(diagonal: np.ndarray, off_diagonal: np.ndarray) -> np.ndarray:
    inner = off_diagonal[:-1]
    return np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1)


def _batch_size(batch: Any, stacked: Any) -> int | None:
    leaves = [
        leaf
        for leaf in jax.tree.leaves(batch)
        if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    ]
    axes = 1 if stacked is None else 2
    sizes = {leaf.shape[:axes] for leaf in leaves if np.ndim(leaf) >= axes}
    return int(np.prod(sizes.pop())) if len(sizes) == 1 else None
