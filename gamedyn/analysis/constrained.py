"""Equilibria of games on constrained domains: natural residual and best responses."""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn._moved import renamed
from gamedyn.analysis.flow import with_rule
from gamedyn.analysis.gaps import nash_conv, variational_gap
from gamedyn.analysis.jacobians import game_jacobian
from gamedyn.analysis.local import (
    MANY,
    check_not_negative,
    default_tolerance,
    in_float64,
    ratio,
    spectral_norm,
)
from gamedyn.analysis.verdicts import Dynamics, Stability, number, plain
from gamedyn.fields import Field, as_field, gradient
from gamedyn.game import Batch, Game, Params
from gamedyn.geometry import (
    Geometry,
    entropic,
    natural_residual,
    per_player,
    simplex,
)
from gamedyn.rules.base import Rule, project
from gamedyn.trees import norm, norm_on_host, size

_MANY_PROFILES = 10_000  # pure profiles up to which a game's loss arrays are formed
_MULTILINEAR = 1e-10  # relative deviation of multilinear losses, by rounding


class ConstrainedVerdict(enum.Enum):
    """What follows for a point of a game on constrained domains."""

    INFEASIBLE = "the point is outside of a player's domain; nothing else is concluded"
    NASH_EQUILIBRIUM = "a Nash equilibrium within tolerance: nobody gains by moving"
    NOT_AN_EQUILIBRIUM = "no Nash equilibrium: a player gains by moving alone"
    FIRST_ORDER = "meets the first-order conditions; second-order ones were not tested"
    NOT_STATIONARY = "not a stationary point on the players' domains"


@dataclasses.dataclass(frozen=True)
class ConstrainedReport:
    r"""What is known of a point where the players' parameters are constrained.

    `str(report)` says it in words and numbers, `report.to_json()` in plain values.

    Attributes:
        verdict: what the findings allow to conclude.
        infeasibility: the distance of the point from the domains.
        natural_residual: $|w - P(w - F(w))|$.
        relative: the largest $|w_i - P(w_i - F_i(w)/|J_i|_2)| / \max(1, |w_i|)$ of all
            players, invariant to scaling their losses.
        tolerance: what it was compared with.
        nash_conv: what best responses would gain, all players together, where the
            losses are multilinear and all domains simplices; else `None`.
        exploitability: the same per player.
        gain_tolerance: what the NashConv was compared with, the tolerance in units of
            the most that one player's choice makes of a difference to their loss.
        variational_gap: where all domains are bounded and their best responses known,
            as on simplices, boxes, balls and treeplexes; else `None`.
        update_radius: spectral radius per step of the rule's update map, on the domains
            that the rule was built with, or `None`.
        update_stability: what follows for the rule.
        update_remark: what limits or explains the finding on the rule, in words.
        update_eigenvalues: of the rule's update map over one period, or `None`.
        eigenvalues: of J, constraints left aside: no stability is concluded from them;
            `None` above 1000 parameters.
        not_tested: what was left out, in words.
        params: the point, in float64.
    """

    verdict: ConstrainedVerdict
    infeasibility: float
    natural_residual: float
    relative: float
    tolerance: float
    nash_conv: float | None = None
    exploitability: float | None = None
    gain_tolerance: float | None = None
    variational_gap: float | None = None
    update_radius: float | None = None
    update_stability: Stability = Stability.UNKNOWN
    update_remark: str = ""
    update_eigenvalues: tuple[complex, ...] | None = None
    eigenvalues: tuple[complex, ...] | None = None
    not_tested: str = ""
    params: Params | None = dataclasses.field(default=None, repr=False)

    def __str__(self) -> str:
        """Say it in words and numbers."""
        lines = [
            f"verdict: {self.verdict.name}, {self.verdict.value}",
            f"feasible: distance from the domains {number(self.infeasibility)}",
            f"stationary: natural residual {number(self.natural_residual)}; relative "
            f"{number(self.relative)}, tolerance {number(self.tolerance)}",
        ]
        if self.nash_conv is not None:
            lines.append(
                f"exploitability: NashConv {self.nash_conv:.6g}, per player "
                f"{self.exploitability:.6g}, tolerance {self.gain_tolerance:.6g}"
            )
        if self.variational_gap is not None:
            lines.append(f"variational gap: {number(self.variational_gap)}")
        if self.update_radius is not None:
            lines.append(
                f"rule: {_RULE_WORDS[self.update_stability]}: spectral radius "
                f"{self.update_radius:.12g}, on the domains it was built with"
            )
        elif self.update_remark:
            lines.append(f"rule: {self.update_remark}")
        lines.append(f"not tested: {self.not_tested}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give everything but the point as dicts, lists, numbers and strings.

        Enums become their names, complex numbers pairs, and what is not finite `None`.
        """
        return {**plain(self), "explanation": self.verdict.value}


_RULE_WORDS = {
    Stability.STABLE: "converges locally",
    Stability.UNSTABLE: "diverges",
    Stability.NON_HYPERBOLIC: "is marginal",
    Stability.UNKNOWN: "was not decided",
}


def is_constrained(geometry: Geometry | tuple[Geometry, ...], num_players: int) -> bool:
    """Whether the domain of some player is not the whole space.

    Args:
        geometry: one for all players, or one each.
        num_players: the number of players.

    Returns:
        Whether one is constrained.

    Raises:
        ValueError: if the number of geometries is neither 1 nor that of the players.
    """
    domains = per_player(geometry, num_players, "geometry")
    return any(domain.kind != "euclidean" for domain in domains)


@renamed(own_cost_convex="own_loss_convex")
def certify_constrained(
    game: Game,
    params: Params,
    batch: Batch = None,
    *,
    geometry: Geometry | tuple[Geometry, ...],
    tolerance: float | None = None,
    rule: Rule | None = None,
    rule_field: Callable[[Game], Field] = gradient,
    own_loss_convex: bool = False,
    eigenvalues: bool | None = None,
    chunk: int | None = None,
) -> ConstrainedReport:
    r"""Report what is known of a point of a game on constrained domains.

    On the boundary of a domain F need not vanish, and the second-order tests of
    `certify` do not apply. Tested are feasibility, the first-order condition and, where
    the losses are multilinear on simplices, the best responses:

    $$|w - P(w)| \approx 0, \qquad
      \max_i \frac{|w_i - P(w_i - F_i(w) / |J_i|_2)|}{\max(1, |w_i|)} \le t, \qquad
      \sum_i \Big( \ell_i(w) - \min_a \ell_i(a, w_{-i}) \Big)
      \le t \max_{i, a} |\ell_i(a)|,$$

    P the projection onto the domains and t the tolerance. The last condition decides
    alone where it can be tested; else the second one makes the point a Nash
    equilibrium only if every loss is known to be convex in its own parameters.

    Called outside jit, in float64 also where jax computes in float32. `certify` with
    the keyword `geometry` calls it.

    Args:
        game: the game.
        params: the point w, one pytree per player.
        batch: the fixed batch of a stochastic game, without keys.
        geometry: the players' domains, one for all or one each.
        tolerance: t; by default sqrt(eps) of the precision of the point.
        rule: an update rule whose local convergence is to be reported; it steps on the
            domains by its own geometry.
        rule_field: makes the field that the rule descends.
        own_loss_convex: assume that every loss is convex in its own parameters.
        eigenvalues: whether to compute the spectral radius of the rule's update map; by
            default up to 1000 parameters.
        chunk: columns of J computed at a time; all if `None`.

    Returns:
        The report; `print` it, or take `to_json()`.

    Raises:
        ValueError: if the point is not finite, the losses are not differentiable twice
            there, the number of geometries is wrong, a key is left in the batch, or
            the tolerance is negative.
        TypeError: if the game, or a parameter, is of the wrong type.

    Example:
        >>> import gamedyn as gd
        >>> problem = gd.games.prisoners_dilemma()
        >>> report = certify_constrained(
        ...     problem.game, problem.solutions[0], geometry=problem.geometry
        ... )
        >>> report.verdict.name, report.nash_conv
        ('NASH_EQUILIBRIUM', 0.0)

    References:
        Facchinei, Pang, "Finite-dimensional variational inequalities and
        complementarity problems", 2003, chapter 1 (the natural map).
    """
    check_not_negative("tolerance", tolerance)
    with in_float64(game, params, batch) as (game, params, batch, dtype):
        if tolerance is None:
            tolerance = default_tolerance(dtype)
        size = max(1.0, float(np.linalg.norm(ravel_pytree(params)[0])))

        # How far the point is from the domains, and from being stationary on them.
        order = _first_order(game, params, batch, geometry, chunk)
        relative = order.relative

        # What best responses would gain.
        gains, domains = {}, per_player(geometry, len(params), "geometry")
        feasible = order.infeasibility <= tolerance * size
        if feasible and all(domain.respond for domain in domains):
            inside = project(domains, params)  # off by the tolerance, it would gain
            gap = variational_gap(inside, order.direction, domains)
            gains["variational_gap"] = float(gap)
            if _on_simplices(params, domains):
                gains |= _best_response_gains(game, inside, batch, tolerance)

        # The rule's own update map: its Jacobian is not that of a smooth map of F
        # alone, so that nothing is proved by the matrix.
        dynamics = Dynamics()
        if rule is not None:
            field = rule_field(game)
            dynamics = with_rule(
                dynamics, field, rule, params, batch, eigenvalues, low=True
            )

    # From all of them follows the verdict.
    if not feasible:
        verdict = ConstrainedVerdict.INFEASIBLE
    elif "nash_conv" in gains:
        verdict = (
            ConstrainedVerdict.NASH_EQUILIBRIUM
            if gains["nash_conv"] <= gains["gain_tolerance"]
            else ConstrainedVerdict.NOT_AN_EQUILIBRIUM
        )
    elif relative > tolerance:
        verdict = ConstrainedVerdict.NOT_STATIONARY
    elif own_loss_convex:
        verdict = ConstrainedVerdict.NASH_EQUILIBRIUM
    else:
        verdict = ConstrainedVerdict.FIRST_ORDER
    not_tested = (
        "own curvature, stability of the flow and Stackelberg conditions: these are "
        "tests in the interior, and the players are constrained"
    )
    if "nash_conv" not in gains:
        not_tested += "; exploitability, which needs multilinear losses on simplices"
    spectrum = None
    if len(order.jacobian) <= MANY:
        spectrum = tuple(map(complex, np.linalg.eigvals(order.jacobian)))
    return ConstrainedReport(
        verdict,
        order.infeasibility,
        order.residual,
        relative,
        tolerance,
        update_radius=dynamics.update_radius,
        update_stability=dynamics.update_stability,
        update_remark=dynamics.update_remark,
        update_eigenvalues=dynamics.update_eigenvalues,
        eigenvalues=spectrum,
        not_tested=not_tested,
        params=jax.tree.map(np.asarray, params),
        **gains,
    )


class _FirstOrder(NamedTuple):
    """Field, Jacobian, distance from the domains, both natural residuals."""

    direction: Params
    jacobian: np.ndarray
    infeasibility: float
    residual: float
    relative: float


def _first_order(
    game: Game,
    params: Params,
    batch: Batch,
    geometry: Geometry | tuple[Geometry, ...],
    chunk: int | None,
) -> _FirstOrder:
    direction, matrix, distance, residual = _derivatives(
        game, params, batch, geometry=geometry, chunk=chunk
    )
    slope, matrix = np.asarray(ravel_pytree(direction)[0]), np.asarray(matrix)
    if not (np.isfinite(slope).all() and np.isfinite(matrix).all()):
        raise ValueError(
            "the players' losses are not differentiable twice at this point"
        )
    # In units of every player's own losses, and of their own point.
    domains = per_player(geometry, len(params), "geometry")
    relative, first = 0.0, 0
    for own, ascent, domain in zip(params, direction, domains, strict=True):
        part = slice(first, first + size(own))
        scale = spectral_norm(matrix[part]) or norm_on_host(slope[part]) or 1.0
        scaled = jax.tree.map(lambda leaf, by=scale: leaf / by, ascent)
        missed = float(natural_residual((own,), (scaled,), domain))
        relative = max(relative, missed / max(1.0, float(norm(own))))
        first = part.stop
    return _FirstOrder(direction, matrix, float(distance), float(residual), relative)


@functools.partial(jax.jit, static_argnames=("geometry", "chunk"))
def _derivatives(
    game: Game, params: Params, batch: Batch, *, geometry: Any, chunk: int | None
) -> tuple[Params, jax.Array, jax.Array, jax.Array]:
    """The field, its Jacobian, the distance from the domains, the natural residual."""
    direction = as_field(game)(params, batch)
    domains = per_player(geometry, len(params), "geometry")
    moved = tuple(
        jax.tree.map(jnp.subtract, own, domain.project(own))
        for own, domain in zip(params, domains, strict=True)
    )
    return (
        direction,
        game_jacobian(game, params, batch, chunk=chunk),
        norm(moved),
        natural_residual(params, direction, geometry),
    )


def _on_simplices(params: Params, domains: tuple[Geometry, ...]) -> bool:
    """Whether every player has one vector, on the probability simplex."""
    leaves = [jax.tree.leaves(own) for own in params]
    return all(
        domain in (simplex(), entropic) and len(own) == 1 and np.ndim(own[0]) == 1
        for domain, own in zip(domains, leaves, strict=True)
    )


def _best_response_gains(
    game: Game, params: Params, batch: Batch, tolerance: float
) -> dict[str, float]:
    """NashConv where the losses are multilinear, with its tolerance; else nothing."""
    losses = _loss_arrays(game, params, batch)
    if losses is None:
        return {}
    strategies = [jax.tree.leaves(own)[0] for own in params]
    gain = float(nash_conv(losses, strategies))
    spreads = [float(np.ptp(loss, axis=i).max()) for i, loss in enumerate(losses)]
    return {
        "nash_conv": gain,
        "exploitability": gain / len(params),
        "gain_tolerance": tolerance * max(spreads),
    }


def _loss_arrays(
    game: Game, params: Params, batch: Batch
) -> tuple[np.ndarray, ...] | None:
    """All players' losses at the pure profiles; `None` if they are not multilinear.

    Tested at random interior points; also `None` above 10,000 profiles.
    """
    flats = [jax.tree.leaves(own)[0] for own in params]
    structures = [jax.tree.structure(own) for own in params]
    shape = tuple(flat.size for flat in flats)
    if math.prod(shape) > _MANY_PROFILES:
        return None

    @jax.jit
    @jax.vmap
    def at(strategies):
        pairs = zip(structures, strategies, strict=True)
        return game(tuple(jax.tree.unflatten(s, [own]) for s, own in pairs), batch)

    profiles = np.indices(shape).reshape(len(shape), -1)
    corners = [np.eye(k)[index] for k, index in zip(shape, profiles, strict=True)]
    losses = [np.asarray(loss).reshape(shape) for loss in at(corners)]
    random = np.random.default_rng(0)
    trials = [random.dirichlet(np.ones(k), 5) for k in shape]
    for loss, values in zip(losses, map(np.asarray, at(trials)), strict=True):
        for trial, value in enumerate(values):
            expected = loss
            for strategies in trials:
                expected = np.tensordot(strategies[trial], expected, (0, 0))
            gap = abs(float(expected) - float(value))
            if not ratio(gap, float(np.abs(loss).max())) <= _MULTILINEAR:
                return None
    return tuple(losses)
