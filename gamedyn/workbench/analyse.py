"""Analyse points of one problem: what they are, and what a rule does near them.

This is the engine of `gamedyn analyse`; the mathematics is in `gamedyn.analysis`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gamedyn import methods, rules
from gamedyn._moved import renamed
from gamedyn.analysis import (
    ConstrainedReport,
    EquilibriumReport,
    Region,
    TimescaleStability,
    certify,
    game_jacobian,
    mode_radii,
    modewise,
    stability_region,
    timescale_stability,
)
from gamedyn.analysis.constrained import is_constrained
from gamedyn.analysis.local import MANY, in_float64
from gamedyn.checks import check_positive, described
from gamedyn.fields import Field, gradient
from gamedyn.game import Batch, Game, Params
from gamedyn.games import Problem
from gamedyn.rules import Rule
from gamedyn.workbench.mean_field import fixed_batch
from gamedyn.workbench.problems import as_problem, by_name, no_rule
from gamedyn.workbench.race import misfit

_AGREEMENT = 1e-5  # relative, of spectral radii that differ by rounding only


@dataclasses.dataclass(frozen=True, eq=False)
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
        caption: a remark on the plane, in words.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """Everything known about one point.

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
        """The lines of the text, as pairs of a title and what follows it."""
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


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """What is known about the points of a problem.

    `str(analysis)` is what the command prints, `to_json()` what it saves, beside the
    pictures of the findings' spectra.

    Attributes:
        problem: the problem.
        settings: what was asked for, as JSON values.
        findings: one per point.
    """

    problem: Problem
    settings: dict[str, Any]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Say it in words and numbers, point by point."""
        info = self.problem.info
        head = f"{info.name}: {info.summary}" if info.summary else info.name
        parts = [f"{finding.label}\n{finding}" for finding in self.findings]
        return "\n\n".join([head, *parts])

    def to_json(self) -> dict[str, Any]:
        """Give settings and findings as plain values."""
        points = [finding.to_json() for finding in self.findings]
        return {"settings": self.settings, "points": points}


@renamed(own_cost_convex="own_loss_convex")
def analyse(
    problem: Problem | Game | str,
    at: Params | Sequence[tuple[str, Params]] | None = None,
    *,
    rule: str | Rule | None = None,
    step_size: float | None = None,
    error: float = 0.0,
    polish: int = 0,
    taus: Sequence[float] = (),
    own_loss_convex: bool = False,
) -> Analysis:
    r"""Report what points of a problem are, and what a rule does near them.

    Of every point z, the field $F = (\nabla_{z_1} \ell_1, \dots, \nabla_{z_n} \ell_n)$
    and its Jacobian $J = DF$,

    $$F(z) = 0, \qquad J_{ii}(z) \succ 0, \qquad
      \operatorname{Re} \lambda(J(z)) > 0, \qquad
      \rho\big(\partial(z_{t+1}, s_{t+1}) / \partial(z_t, s_t)\big) < 1:$$

    whether it is stationary, a differential Nash equilibrium, stable under the flow
    $\dot z = -F(z)$ and under the rule with its state s; that is `analysis.certify`
    with the problem's geometry. On constrained domains the first three are replaced by
    the natural residual and, where the losses are multilinear on simplices, by the
    best responses. Beside the report stands what a picture of the eigenvalues shows.

    Args:
        problem: the problem; the name of a registered game; or an unconstrained game
            without batches. Of a finite sum, all components are used.
        at: the point, one pytree per player, or a list of pairs of a label and a point;
            all known solutions of the problem if `None`.
        rule: a registered rule, or another method, by name; or a `Rule`, which steps on
            the gradient field and on the domains that it was built with, whatever those
            of the problem are.
        step_size: the step size that a named rule is made with. Beside a `Rule`, the
            one it has: without it no stability region is drawn.
        error: see `analysis.certify`.
        polish: see `analysis.certify`.
        taus: ratios of time scales, see `analysis.timescale_stability`.
        own_loss_convex: see `analysis.certify`.

    Returns:
        The findings, one per point.

    Raises:
        ValueError: if no point is given and none known, the rule is unknown or not
            defined on the problem, an option is out of range or does not fit the
            domains, or as in `analysis.certify`.
        TypeError: if the problem or the rule is of the wrong type, or a game is given
            no point.

    Example:
        >>> import gamedyn as gd
        >>> result = gd.analyse("quadratic", rule="extragradient", step_size=0.05)
        >>> report = result.findings[0].report
        >>> report.verdict.name, report.dynamics.update_stability.name
        ('CERTIFIED_DNE', 'STABLE')
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> print(gd.analyse(game, (0.0, 0.0)))
        game
        <BLANKLINE>
        the point given
        verdict: INCONCLUSIVE, the second-order test is silent...
    """
    # One form of everything: a problem, labelled points, a method at a step size.
    problem = by_name(problem)
    points = _points(problem, at)
    start = points[0][1] if isinstance(problem, Game) and points else None
    problem = as_problem(problem, start, caller="analyse", argument="at")
    n = problem.game.num_players
    near = _near(problem, rule, step_size)
    constrained = is_constrained(problem.geometry, n)
    if taus and n < 2:
        raise ValueError("ratios of time scales need at least two players, got one")
    if constrained and (error or polish or len(taus)):
        raise ValueError(
            "error, polish and taus belong to the unconstrained tests; the players of "
            f"{problem.info.name} are constrained"
        )

    # The fixed batch that stands for a stochastic game.
    batch = fixed_batch(problem)
    notes = []
    if problem.info.num_components is not None:
        notes.append(f"all {problem.info.num_components} components of the finite sum")
    elif batch is not None:
        notes.append("a stochastic game: the findings are about one fixed batch")
    if constrained and near is not None and near.given is not None:
        notes.append(
            f"{near.name} keeps to the domains it was built with, whatever the "
            "problem's are"
        )

    # The report of every point, and what its picture shows.
    findings = []
    for label, params in points:
        report = certify(
            problem.game,
            params,
            batch,
            geometry=problem.geometry,
            error=error,
            polish=polish,
            rule=None if near is None else near.build(problem.game)[1],
            rule_field=gradient if near is None else near.field,
            own_loss_convex=own_loss_convex,
        )
        point = params if report.params is None else report.params
        scales = ()
        if taus:
            scales = timescale_stability(problem.game, point, taus, batch)
        if isinstance(report, ConstrainedReport):
            spectrum, more = _constrained_spectrum(report, near), ()
        else:
            spectrum, more = _spectrum(problem.game, point, batch, near, report)
        findings.append(
            Finding(label, point, report, scales, spectrum, (*notes, *more))
        )
    settings = {
        "rule": None if near is None else near.name,
        "step_size": step_size,
        "error": error,
        "polish": polish,
        "taus": list(taus),
        "own_loss_convex": own_loss_convex,
        "full_batch": problem.info.num_components,
    }
    return Analysis(problem, settings, tuple(findings))


def _points(problem: Any, at: Any) -> Sequence[tuple[str, Params]]:
    """Label the points: those given, or all known solutions."""
    if at is None:
        if not isinstance(problem, Problem):
            return ()
        if not problem.solutions:
            raise ValueError(
                f"no solution of {problem.info.name} is known; give a point"
            )
        if len(problem.solutions) == 1:
            return [("the known solution", problem.solutions[0])]
        return [(f"solution {k}", point) for k, point in enumerate(problem.solutions)]
    if _labelled(at):
        return at
    # A list of numbers is one point in the wrong form, for which there is an error.
    nested = type(at) is list and any(isinstance(z, list | tuple) for z in at)
    if nested or isinstance(at, dict | str):
        raise TypeError(
            "several points are a list of pairs of a label and a point, "
            f'[("a", z), ...], got {described(at)}; one point is a tuple'
        )
    point: Any = at
    return [("the point given", point)]


def _labelled(at: Any) -> bool:
    return isinstance(at, list | tuple) and all(
        isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        for item in at
    )


@dataclasses.dataclass(frozen=True)
class _Near:
    """A method at one step size, whose steps near a point are examined."""

    name: str
    step_size: float | None
    problem: Problem
    given: Rule | None = None

    def build(self, game: Game) -> tuple[Field, Rule]:
        if self.given is not None:
            return gradient(game), self.given
        return methods.make(
            self.name, game, self.step_size, geometry=self.problem.geometry
        )

    def field(self, game: Game) -> Field:
        return self.build(game)[0]

    def rule(self, num_players: int) -> Rule:
        """The rule without constraints, for a number of players."""
        if self.given is not None:
            return self.given
        return rules.make(self.name, self.step_size, num_players=num_players)

    def __str__(self) -> str:
        name = self.name.replace("-", "_")
        return (
            name if self.step_size is None else f"{name}, step size {self.step_size:g}"
        )


def _near(problem: Problem, rule: Any, step_size: float | None) -> _Near | None:
    """Check the rule with its step size."""
    if step_size is not None:
        check_positive("step_size", step_size)
    if isinstance(rule, Rule):
        return _Near("the given rule", step_size, problem, rule)
    if rule is not None and not isinstance(rule, str):
        raise no_rule("a rule is a name or a Rule", rule)
    if (rule is None) != (step_size is None):
        raise ValueError("a rule and its step size belong together, got only one")
    if rule is None:
        return None
    reason = misfit(rule, problem, problem.game.num_players)
    if reason is not None:
        raise ValueError(f"the rule {rule!r} {reason}")
    return _Near(rule, step_size, problem)


def _spectrum(
    game: Game,
    params: Params,
    batch: Batch,
    near: _Near | None,
    report: EquilibriumReport,
) -> tuple[Spectrum | None, tuple[str, ...]]:
    """Collect what the picture of an unconstrained point shows, and notes on it."""
    if report.dimension > MANY:
        note = f"no picture: eigenvalues are left out at {report.dimension} parameters"
        return None, (note,)

    # The eigenvalues of J.
    dynamics = report.dynamics
    if dynamics is not None and dynamics.eigenvalues is not None:
        values = np.array(dynamics.eigenvalues)
    else:
        with in_float64(game, params, batch) as (game, params, batch, _):
            matrix = jax.jit(game_jacobian)(game, params, batch)
            values = np.linalg.eigvals(np.asarray(matrix))
    limits = _limits(values, near)
    if dynamics is None:
        # Away from a zero of F the eigenvalues decide no stability.
        caption = "not a stationary point: stability is not concluded"
        return Spectrum(values, limits, flow=False, caption=caption), ()
    if near is None:
        return Spectrum(values, limits), ()
    if dynamics.update_eigenvalues is None or dynamics.update_radius is None:
        caption = f"{near.name}: {dynamics.update_remark}"
        return Spectrum(values, limits, caption=caption), ()

    # The eigenvalues of the rule's update map, and its region if it has one.
    region, inside, caption = _region(values, limits, near, dynamics.update_radius)
    notes = (f"picture: {caption}; the update map is drawn instead",) if caption else ()
    spectrum = Spectrum(
        values,
        limits,
        str(near),
        region,
        inside,
        np.array(dynamics.update_eigenvalues),
        near.build(game)[1].period,
        caption=caption,
    )
    return spectrum, notes


def _region(
    values: np.ndarray,
    limits: tuple[float, float, float],
    near: _Near,
    update_radius: float,
) -> tuple[Region | None, int | None, str]:
    """The rule's stability region, how many eigenvalues it holds; or why there is none.

    A rule has one if its rate depends on the eigenvalues of J alone.
    """
    n = near.problem.game.num_players
    if near.given is None and near.name.replace("-", "_") not in rules.names():
        return None, None, f"no region: {near.name} is more than a rule on the gradient"
    if near.step_size is None:
        return None, None, f"no region: the step size of {near.name} is not known"
    if near.given is not None and n > 2:
        return None, None, f"no region: {near.name} is for {n} players, not for two"
    shown = near.rule(min(2, n))
    if not modewise(near.rule(n), shown, n, near.step_size):
        return (
            None,
            None,
            f"no region: {near.name} depends on more than eigenvalues of J",
        )
    radii = mode_radii(shown, values, n)
    if abs(radii.max() - update_radius) > _AGREEMENT * max(1.0, radii.max()):
        return None, None, f"no region: {near.name} has memory that is no mode of J"
    inside = int(np.sum(radii < 1 - 1e-9))
    return stability_region(shown, limits, n), inside, ""


def _constrained_spectrum(
    report: ConstrainedReport, near: _Near | None
) -> Spectrum | None:
    """Collect what the picture of a point on constrained domains shows."""
    if report.eigenvalues is None:
        return None
    values, update = np.array(report.eigenvalues), report.update_eigenvalues
    return Spectrum(
        values,
        _limits(values, None),
        "" if near is None else str(near),
        update=None if update is None else np.array(update),
        period=1 if near is None else near.build(near.problem.game)[1].period,
        flow=False,
        caption="without the constraints: stability is not concluded",
    )


def _limits(eigenvalues: np.ndarray, near: _Near | None) -> tuple[float, float, float]:
    """Show every eigenvalue, and as much of the region as leaves them visible."""
    largest = float(np.abs(eigenvalues).max(initial=0.0))
    step_size = None if near is None else near.step_size
    natural = 1.0 if step_size is None else 3 / step_size
    extent = max(1.5 * largest, min(natural, 5 * largest)) if largest else natural
    left = min(-0.75 * extent, float(np.real(eigenvalues).min()) - 0.2 * extent)
    right = max(1.25 * extent, float(np.real(eigenvalues).max()) + 0.2 * extent)
    return left, right, extent


def _pairs(values: Any) -> list[list[float]]:
    return [[float(value.real), float(value.imag)] for value in values]
