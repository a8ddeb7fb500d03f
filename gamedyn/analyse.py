"""Analyse points of one problem: what they are, and what a rule does near them.

This is the engine of `gamedyn analyse`. For losses of your own nothing of it is needed:
`analysis.certify` takes any game and point.

Example:
    >>> import gamedyn as gd
    >>> game = gd.general_sum(
    ...     lambda x, y: x**2 + 3 * x * y, lambda x, y: y**2 - 3 * x * y
    ... )
    >>> report = gd.analysis.certify(
    ...     game, (0.0, 0.0), rule=gd.rules.make("extragradient", 0.1)
    ... )
    >>> report.verdict.name, report.dynamics.update_stability.name
    ('CERTIFIED_DNE', 'STABLE')
    >>> print(report)
    verdict: CERTIFIED_DNE, a differential Nash equilibrium...
"""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn import methods, rules
from gamedyn.analysis import (
    EquilibriumReport,
    Stability,
    TimescaleStability,
    certify,
    game_jacobian,
    nash_conv,
    timescale_stability,
    update_jacobian,
    variational_gap,
)
from gamedyn.analysis.local import MANY, in_float64, ratio, spectral_norm
from gamedyn.analysis.matrix_games import simplex_response
from gamedyn.analysis.updates import cycle_jacobian, settled
from gamedyn.checks import check_positive
from gamedyn.fields import Field, as_field
from gamedyn.game import Batch, Game, Params
from gamedyn.games import Problem
from gamedyn.geometry import (
    entropic,
    natural_residual,
    per_player,
    simplex,
)
from gamedyn.rules.base import Rule
from gamedyn.solve import Status
from gamedyn.workbench.race import full_field, misfit

_POINTS = 121  # of the region's grid, along the upper half of the imaginary axis
_CHUNK = 2048  # linear games in one compiled call
_WARMUP = 10
_AGREEMENT = 1e-5  # of spectral radii; a defective eigenvalue 0 moves by 1e-16 ** (1/3)
_MANY_PROFILES = 10_000  # pure profiles up to which a game's loss arrays are formed


class Region(NamedTuple):
    r"""Where in the plane of $\lambda(J)$ a rule converges.

    Attributes:
        real: the grid's real parts, shape `(n,)`.
        imaginary: the grid's imaginary parts, shape `(m,)`.
        radius: spectral radius per step of the rule's update map on the linear game
            whose J has the eigenvalues $\lambda, \bar\lambda$, shape `(m, n)`.
    """

    real: np.ndarray
    imaginary: np.ndarray
    radius: np.ndarray


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """What the picture of a point shows.

    Attributes:
        eigenvalues: of J.
        limits: of the picture: left, right, and upper end.
        rule: the rule and its step size in words, or "".
        region: where the rule converges, if that depends on the eigenvalues alone.
        inside: how many of the eigenvalues lie in it.
        update: eigenvalues of the rule's own update map, or `None`.
        period: the number of steps of that map.
        flow: whether the half plane in which the flow is stable is shown.
        caption: what is to be said of the plane, in words.
    """

    eigenvalues: np.ndarray
    limits: tuple[float, float, float]
    rule: str = ""
    region: Region | None = None
    inside: int | None = None
    update: np.ndarray | None = None
    period: int = 1
    flow: bool = True
    caption: str = ""


class ConstrainedVerdict(enum.Enum):
    """What follows for a point of a game on bounded or otherwise limited domains."""

    INFEASIBLE = "the point is outside of a player's domain; nothing else is concluded"
    NASH_EQUILIBRIUM = "a Nash equilibrium within tolerance: nobody gains by moving"
    NOT_AN_EQUILIBRIUM = "no Nash equilibrium: a player gains by moving alone"
    FIRST_ORDER = "meets the first-order conditions; second-order ones were not tested"
    NOT_STATIONARY = "not a stationary point on the players' domains"


@dataclasses.dataclass(frozen=True)
class ConstrainedReport:
    r"""What is known of a point where the players' parameters are constrained.

    Attributes:
        verdict: what the findings allow to conclude.
        infeasibility: the distance of the point from the domains.
        natural_residual: $|w - P(w - F(w))|$.
        relative: $|w - P(w - F(w)/|J|_2)| / \max(1, |w|)$, which scaling the losses
            leaves alone.
        tolerance: what it was compared with.
        nash_conv: what best responses would gain, all players together, where the
            losses are multilinear and all domains simplices; else `None`.
        exploitability: the same per player.
        gain_tolerance: what the NashConv was compared with.
        variational_gap: where all domains are simplices; else `None`.
        update_radius: spectral radius per step of the rule's update map, constraints
            included, or `None`.
        update_stability: what follows for the rule.
        update_remark: what is to be said of it, in words.
        not_tested: what was left out, in words.
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
    not_tested: str = ""

    def __str__(self) -> str:
        """Say it in words and numbers."""
        lines = [
            f"verdict: {self.verdict.name}, {self.verdict.value}",
            f"feasible: distance from the domains {self.infeasibility:.6g}",
            f"stationary: natural residual {self.natural_residual:.6g}; relative "
            f"{self.relative:.6g}, tolerance {self.tolerance:.6g}",
        ]
        if self.nash_conv is not None:
            lines.append(
                f"exploitability: NashConv {self.nash_conv:.6g}, per player "
                f"{self.exploitability:.6g}, tolerance {self.gain_tolerance:.6g}"
            )
        if self.variational_gap is not None:
            lines.append(f"variational gap: {self.variational_gap:.6g}")
        if self.update_radius is not None:
            lines.append(
                f"rule: {_RULE_WORDS[self.update_stability]}: spectral radius "
                f"{self.update_radius:.12g}, constraints included"
            )
        elif self.update_remark:
            lines.append(f"rule: {self.update_remark}")
        lines.append(f"not tested: {self.not_tested}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain values, enums as their names."""
        values = dataclasses.asdict(self)
        return {
            key: value.name if isinstance(value, enum.Enum) else value
            for key, value in values.items()
        } | {"explanation": self.verdict.value}


_RULE_WORDS = {
    Stability.STABLE: "converges locally",
    Stability.UNSTABLE: "diverges",
    Stability.NON_HYPERBOLIC: "is marginal",
    Stability.UNKNOWN: "was not decided",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Everything found about one point.

    Attributes:
        label: where the point comes from, in words.
        params: the point that the report is about, after polishing.
        report: the findings, of the kind that the domains allow.
        timescales: stability of the flow with two time scales, one per ratio.
        spectrum: what the picture shows; `None` where there is none.
        notes: further remarks.
    """

    label: str
    params: Params
    report: EquilibriumReport | ConstrainedReport
    timescales: tuple[TimescaleStability, ...] = ()
    spectrum: Spectrum | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in words and numbers."""
        lines = [str(self.report)]
        for item in self.timescales:
            certainty = "certified" if item.certified else "computed eigenvalues"
            lines.append(
                f"tau {item.tau:g}: {item.stability.name}, {certainty}; smallest real "
                f"part {item.min_real_part:.6g}, margin {item.margin:.6g}"
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def lines(self) -> list[tuple[str, str]]:
        """Give the lines of the text as pairs of what and how."""
        pairs = [line.partition(": ") for line in str(self).split("\n")]
        return [(key, text) for key, _, text in pairs]

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain values; what is not finite may be among them."""
        spectrum = self.spectrum
        update = None if spectrum is None else spectrum.update
        return {
            "label": self.label,
            "point": [
                [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(own)]
                for own in self.params
            ],
            "constrained": isinstance(self.report, ConstrainedReport),
            "report": self.report.to_json(),
            "timescales": [
                dataclasses.asdict(item)
                | {
                    "stability": item.stability.name,
                    "eigenvalues": _pairs(item.eigenvalues),
                }
                for item in self.timescales
            ],
            "eigenvalues": None if spectrum is None else _pairs(spectrum.eigenvalues),
            "update_eigenvalues": None if update is None else _pairs(update),
            "notes": list(self.notes),
        }


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What was found about the points of a problem.

    Attributes:
        problem: the problem.
        settings: what was asked for, as JSON values.
        findings: one per point.
    """

    problem: Problem
    settings: dict[str, Any]
    findings: tuple[Finding, ...]


def analyse(
    problem: Problem,
    points: Sequence[tuple[str, Params]],
    *,
    rule: str | None = None,
    step_size: float | None = None,
    error: float = 0.0,
    polish: int = 0,
    taus: Sequence[float] = (),
    own_cost_convex: bool = False,
) -> Analysis:
    """Report what points of a problem are, and what a rule does near them.

    Without constraints that is `analysis.certify`. On constrained domains its
    second-order tests do not apply: reported are the natural residual and, where the
    losses are multilinear on simplices, the exploitability.

    Args:
        problem: the problem; of a finite sum, all components are used.
        points: what to call each point, and the point.
        rule: a registered rule, or another method.
        step_size: its step size.
        error: see `analysis.certify`.
        polish: see `analysis.certify`.
        taus: ratios of time scales, see `analysis.timescale_stability`.
        own_cost_convex: see `analysis.certify`.

    Returns:
        The findings.

    Raises:
        ValueError: if the rule is unknown or not defined on the problem, an option is
            out of range or does not fit the domains, or as in `analysis.certify`.
    """
    if (rule is None) != (step_size is None):
        raise ValueError("a rule and its step size belong together, got only one")
    n = problem.game.num_players
    near = None
    if rule is not None and step_size is not None:
        check_positive("step_size", step_size)
        reason = misfit(rule, problem, n)
        if reason is not None:
            raise ValueError(f"the rule {rule!r} {reason}")
        near = _Near(rule, step_size, problem)
    constrained = any(
        geometry.kind != "euclidean"
        for geometry in per_player(problem.geometry, n, "geometry")
    )
    if taus and n < 2:
        raise ValueError("ratios of time scales need at least two players, got one")
    if constrained and (error or polish or len(taus)):
        raise ValueError(
            "error, polish and taus belong to the unconstrained tests; the players of "
            f"{problem.info.name} are constrained"
        )
    _, batch = full_field(problem)
    notes = []
    if problem.info.num_components is not None:
        notes.append(f"all {problem.info.num_components} components of the finite sum")
    elif batch is not None:
        notes.append("a stochastic game: the findings are about one fixed batch")

    findings = []
    for label, params in points:
        if constrained:
            found = _on_domains(problem, label, params, batch, near, own_cost_convex)
        else:
            report = certify(
                problem.game,
                params,
                batch,
                error=error,
                polish=polish,
                rule=None if near is None else near.build(problem.game)[1],
                rule_field=as_field if near is None else near.field,
                own_cost_convex=own_cost_convex,
            )
            point = params if report.params is None else report.params
            scales = ()
            if taus:
                scales = timescale_stability(problem.game, point, taus, batch)
            spectrum, more = _spectrum(problem.game, point, batch, near, report)
            found = Finding(label, point, report, scales, spectrum, more)
        findings.append(dataclasses.replace(found, notes=(*notes, *found.notes)))
    settings = {
        "rule": rule,
        "step_size": step_size,
        "error": error,
        "polish": polish,
        "taus": list(taus),
        "own_cost_convex": own_cost_convex,
        "full_batch": problem.info.num_components,
    }
    return Analysis(problem, settings, tuple(findings))


@dataclasses.dataclass(frozen=True)
class _Near:
    """A registered rule of given step size, to be looked at near a point."""

    name: str
    step_size: float
    problem: Problem

    def build(self, game: Game) -> tuple[Field, Rule]:
        return methods.make(
            self.name, game, self.step_size, geometry=self.problem.geometry
        )

    def field(self, game: Game) -> Field:
        return self.build(game)[0]

    def rule(self, num_players: int) -> Rule:
        return rules.make(
            self.name,
            self.step_size,
            num_players=num_players,
            geometry=self.problem.geometry,
        )

    def __str__(self) -> str:
        return f"{self.name.replace('-', '_')}, step size {self.step_size:g}"


def _spectrum(
    game: Game,
    params: Params,
    batch: Batch,
    near: _Near | None,
    report: EquilibriumReport,
) -> tuple[Spectrum | None, tuple[str, ...]]:
    """Collect what the picture of an unconstrained point shows."""
    if report.dimension > MANY:
        note = f"no picture: eigenvalues are left out at {report.dimension} parameters"
        return None, (note,)
    with in_float64(game, params, batch) as (game, params, batch, _):
        if report.dynamics is not None and report.dynamics.eigenvalues is not None:
            values = np.array(report.dynamics.eigenvalues)
        else:
            matrix = jax.jit(game_jacobian)(game, params, batch)
            values = np.linalg.eigvals(np.asarray(matrix))
        limits = _limits(values, near)
        if report.dynamics is None:
            # The eigenvalues are those of a matrix, but of nobody's stability.
            caption = "not a stationary point: stability is not concluded"
            return Spectrum(values, limits, flow=False, caption=caption), ()
        if near is None:
            return Spectrum(values, limits), ()
        update, period, remark = _update(game, near, params, batch)
    if update is None:
        caption = f"{near.name}: {remark}"
        return Spectrum(values, limits, caption=caption), ()
    region, inside, caption = None, None, ""
    n = game.num_players
    if near.name.replace("-", "_") not in rules.names():
        caption = f"no region: {near.name} is more than a rule on the gradient"
    elif not modewise(near.rule(n), near.rule(min(2, n)), n, near.step_size):
        caption = f"no region: {near.name} depends on more than eigenvalues of J"
    else:
        shown = near.rule(min(2, n))
        radii = mode_radii(shown, values, n)
        gap = abs(radii.max() - np.abs(update).max() ** (1 / period))
        if gap <= _AGREEMENT * max(1.0, radii.max()):
            region = stability_region(shown, limits, n)
            inside = int(np.sum(radii < 1 - 1e-9))
        else:
            caption = f"no region: {near.name} has memory that is no mode of J"
    notes = (f"picture: {caption}; the update map is drawn instead",) if caption else ()
    found = Spectrum(
        values, limits, str(near), region, inside, update, period, caption=caption
    )
    return found, notes


def _update(
    game: Game, near: _Near, params: Params, batch: Batch
) -> tuple[np.ndarray | None, int, str]:
    """Eigenvalues of the rule's own update map, its period, or why there are none."""
    matrix, status, period = update_jacobian(*near.build(game), params, batch)
    if status != Status.OK:
        return None, period, f"{status.name}, {status.message}"
    return np.linalg.eigvals(matrix), period, ""


def _limits(eigenvalues: np.ndarray, near: _Near | None) -> tuple[float, float, float]:
    """Show every eigenvalue, and as much of the region as leaves them visible."""
    largest = float(np.abs(eigenvalues).max(initial=0.0))
    natural = 1.0 if near is None else 3 / near.step_size
    extent = max(1.5 * largest, min(natural, 5 * largest)) if largest else natural
    left = min(-0.75 * extent, float(np.real(eigenvalues).min()) - 0.2 * extent)
    right = max(1.25 * extent, float(np.real(eigenvalues).max()) + 0.2 * extent)
    return left, right, extent


def stability_region(
    rule: Rule, limits: tuple[float, float, float], num_players: int = 2
) -> Region:
    """Evaluate a rule's own update map over a grid of eigenvalues.

    Args:
        rule: the rule, for two players, or for one if there is only one.
        limits: left, right, and upper end; the lower half mirrors the upper one.
        num_players: of the game.

    Returns:
        The region. It is about other games too only if `modewise`.
    """
    left, right, top = limits
    upper = np.linspace(0.0, top, _POINTS)
    real = np.linspace(left, right, round((right - left) / top * (_POINTS - 1)) + 1)
    grid = real[None, :] + 1j * upper[:, None]
    half = mode_radii(rule, grid.ravel(), num_players).reshape(grid.shape)
    return Region(
        real,
        np.concatenate([-upper[:0:-1], upper]),
        np.concatenate([half[:0:-1], half]),
    )


def mode_radii(rule: Rule, eigenvalues: Any, num_players: int = 2) -> np.ndarray:
    r"""Compute a rule's rate on the linear games of given eigenvalues.

    Of two scalar players, or one player of two parameters, with

    $$J = \begin{pmatrix} a & -b \\ b & a \end{pmatrix}, \qquad \lambda = a \pm b i,$$

    the spectral radius of the Jacobian of the rule's own update map, all of them in one
    compiled call.

    Args:
        rule: the rule, for as many players.
        eigenvalues: one $\lambda$ per game, complex, shape `(n,)`.
        num_players: 1, or anything above for two.

    Returns:
        The radii per step, shape `(n,)`; infinite where the map has no finite Jacobian.
    """
    values = np.asarray(eigenvalues, complex)
    padded = np.pad(values, (0, -len(values) % _CHUNK))  # one shape, compiled once
    shapes = ((2,),) if num_players == 1 else ((), ())
    chunks = np.split(
        _rotations(np.real(padded), np.imag(padded)), len(padded) // _CHUNK
    )
    radii = [_linear_radii(rule, shapes, chunk) for chunk in chunks]
    return np.concatenate(radii)[: len(values)]


def _rotations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrices with the eigenvalues a + ib and a - ib."""
    return np.stack([np.stack([a, -b], -1), np.stack([b, a], -1)], -2)


def _linear_radii(
    rule: Rule, shapes: tuple[tuple[int, ...], ...], matrices: np.ndarray
) -> np.ndarray:
    """Spectral radii per step at the zero of linear fields, all in one jit."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        jacobians = np.asarray(_linear_jacobians(rule, shapes)(jnp.asarray(matrices)))
    finite = np.isfinite(jacobians).all(axis=(-2, -1))
    radii = np.full(len(jacobians), np.inf)
    moduli = np.abs(np.linalg.eigvals(jacobians[finite]))
    radii[finite] = moduli.max(axis=-1) ** (1 / rule.period)
    return radii


@functools.lru_cache(maxsize=8)
def _linear_jacobians(
    rule: Rule, shapes: tuple[tuple[int, ...], ...]
) -> Callable[[jax.Array], jax.Array]:
    """Compile the Jacobians of a rule's update map at the zero of linear fields."""
    warmup = -(-_WARMUP // rule.period) * rule.period

    def jacobian(matrix):
        start = tuple(jnp.zeros(shape, matrix.dtype) for shape in shapes)
        unravel = ravel_pytree(start)[1]

        def field(params, batch=None):
            del batch
            return unravel(matrix @ ravel_pytree(params)[0])

        batches = (None,) * rule.num_batches
        state = settled(field, rule, start, rule.init(start), batches, warmup)
        return cycle_jacobian(field, rule, start, state, batches)

    return jax.jit(jax.vmap(jacobian))


def modewise(
    rule: Rule, shown: Rule, num_players: int, step_size: float, *, trials: int = 4
) -> bool:
    """Test whether a rule's rate on a linear game depends on J's eigenvalues alone.

    Found out by experiment: its update map on random games that mix all players has to
    have the spectral radius that the eigenvalues of J give one by one. Rules in which
    the players differ or take turns fail.

    Args:
        rule: the rule.
        shown: the same for two players, or for one if there is only one.
        num_players: of the game.
        step_size: sets the scale of the random games.
        trials: how many to try.

    Returns:
        Whether all agree.
    """
    random = np.random.default_rng(0)
    n, size = num_players, 2 * num_players
    modes = random.uniform(-1, 1, (trials, n, 2)) / step_size
    # Of every scale: where h is small against 1/|J|, all rules look alike.
    modes *= np.logspace(-1, 0.3, trials)[:, None, None]
    matrices = np.zeros((trials, size, size))
    for k, (a, b) in enumerate(np.moveaxis(modes, 1, 0).swapaxes(1, 2)):
        part = slice(2 * k, 2 * k + 2)
        matrices[:, part, part] = _rotations(a, b)
    mix = np.eye(size) + 0.5 * random.normal(size=(trials, size, size)) / math.sqrt(
        size
    )
    matrices = mix @ matrices @ np.linalg.inv(mix)
    together = _linear_radii(rule, ((2,),) * n, matrices)
    values = (modes[..., 0] + 1j * modes[..., 1]).ravel()
    alone = mode_radii(shown, values, n).reshape(trials, n).max(axis=1)
    return bool(np.allclose(together, alone, rtol=_AGREEMENT, atol=_AGREEMENT))


def _on_domains(
    problem: Problem,
    label: str,
    params: Params,
    batch: Batch,
    near: _Near | None,
    own_cost_convex: bool,
) -> Finding:
    """Report what is known of a point of a constrained game."""
    geometry, n = problem.geometry, problem.game.num_players
    domains = per_player(geometry, n, "geometry")
    with in_float64(problem.game, params, batch) as (game, params, batch, dtype):
        tolerance = math.sqrt(float(jnp.finfo(dtype).eps))
        size = max(1.0, float(np.linalg.norm(ravel_pytree(params)[0])))
        direction, matrix, gap, residual = _derivatives(game, params, batch, geometry)
        slope, matrix = np.asarray(ravel_pytree(direction)[0]), np.asarray(matrix)
        if not (np.isfinite(slope).all() and np.isfinite(matrix).all()):
            raise ValueError(
                "the players' losses are not differentiable twice at this point"
            )
        infeasibility, residual = float(gap), float(residual)
        scale = spectral_norm(matrix) or float(np.linalg.norm(slope)) or 1.0
        scaled = jax.tree.map(lambda leaf: leaf / scale, direction)
        relative = float(natural_residual(params, scaled, geometry)) / size
        values = {}
        simplices = all(
            domain in (simplex(), entropic)
            and len(jax.tree.leaves(own)) == 1
            and np.ndim(jax.tree.leaves(own)[0]) == 1
            for domain, own in zip(domains, params, strict=True)
        )
        multilinear = False
        if simplices:
            gap = variational_gap(params, direction, simplex_response)
            values["variational_gap"] = float(gap)
            losses = _loss_arrays(game, params, batch)
            if losses is not None:
                strategies = [jax.tree.leaves(own)[0] for own in params]
                gain = float(nash_conv(losses, strategies))
                largest = max(float(np.abs(loss).max()) for loss in losses)
                values["nash_conv"] = gain
                values["exploitability"] = gain / n
                values["gain_tolerance"] = tolerance * largest
                multilinear = True
        update = None
        period = 1
        if near is not None:
            update, period, remark = _update(game, near, params, batch)
            values["update_remark"] = remark
    if update is not None:
        radius = float(np.abs(update).max())
        margin = math.sqrt(len(update) * np.finfo(float).eps)
        values["update_radius"] = radius ** (1 / period)
        values["update_stability"] = (
            Stability.STABLE
            if radius < 1 - margin
            else Stability.UNSTABLE
            if radius > 1 + margin
            else Stability.NON_HYPERBOLIC
        )
    if infeasibility > tolerance * size:
        verdict = ConstrainedVerdict.INFEASIBLE
    elif multilinear:
        equilibrium = values["nash_conv"] <= values["gain_tolerance"]
        verdict = (
            ConstrainedVerdict.NASH_EQUILIBRIUM
            if equilibrium
            else ConstrainedVerdict.NOT_AN_EQUILIBRIUM
        )
    elif relative > tolerance:
        verdict = ConstrainedVerdict.NOT_STATIONARY
    elif own_cost_convex:
        verdict = ConstrainedVerdict.NASH_EQUILIBRIUM
    else:
        verdict = ConstrainedVerdict.FIRST_ORDER
    untested = (
        "own curvature, stability of the flow and Stackelberg conditions: these are "
        "tests in the interior, and the players are constrained"
    )
    if not multilinear:
        untested += "; exploitability, which needs multilinear losses on simplices"
    report = ConstrainedReport(
        verdict,
        infeasibility,
        residual,
        relative,
        tolerance,
        not_tested=untested,
        **values,
    )
    spectrum = None
    if len(matrix) <= MANY:
        eigenvalues = np.linalg.eigvals(matrix)
        spectrum = Spectrum(
            eigenvalues,
            _limits(eigenvalues, None),
            "" if near is None else str(near),
            update=update,
            period=period,
            flow=False,
            caption="without the constraints: stability is not concluded",
        )
    return Finding(label, jax.tree.map(np.asarray, params), report, (), spectrum)


@functools.partial(jax.jit, static_argnames="geometry")
def _derivatives(
    game: Game, params: Params, batch: Batch, geometry: Any
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
        game_jacobian(game, params, batch),
        jnp.linalg.norm(ravel_pytree(moved)[0]),
        natural_residual(params, direction, geometry),
    )


def _loss_arrays(
    game: Game, params: Params, batch: Batch
) -> tuple[np.ndarray, ...] | None:
    """Everybody's losses at all pure profiles; `None` if that is not the whole game.

    Whether the losses are multilinear is tried out at random interior points.
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
    tries = [random.dirichlet(np.ones(k), 5) for k in shape]
    for loss, values in zip(losses, map(np.asarray, at(tries)), strict=True):
        for trial, value in enumerate(values):
            expected = loss
            for strategies in tries:
                expected = np.tensordot(strategies[trial], expected, (0, 0))
            gap = abs(float(expected) - float(value))
            if not ratio(gap, float(np.abs(loss).max())) <= 1e-10:
                return None
    return tuple(losses)


def _pairs(values: Any) -> list[list[float]]:
    return [[float(value.real), float(value.imag)] for value in values]
