"""What is known about a point: three separate findings, and the verdict they allow."""

import dataclasses
import enum
import math
from typing import Any

import numpy as np

from gamedyn.game import Params


class Curvature(enum.Enum):
    """What is known of one player's own Hessian.

    Always of the matrix that automatic differentiation returned.
    """

    PD_CERTIFIED = "positive definite, certified"
    PD_PROBABLE = "probably positive definite, not certified"
    NOT_PSD_CERTIFIED = "has negative curvature, certified by a witness"
    INCONCLUSIVE = "inconclusive"


class Verdict(enum.Enum):
    """What follows for a point; DNE stands for differential Nash equilibrium."""

    CERTIFIED_DNE = "a differential Nash equilibrium"
    REFUTED_DNE = "no local Nash equilibrium: a player gains by moving alone"
    INCONCLUSIVE = "undecided by second-order information"
    NOT_STATIONARY = "not a stationary point; nothing else is concluded"


class Stability(enum.Enum):
    """How a linear flow or map behaves near its fixed point."""

    STABLE = "stable"
    UNSTABLE = "unstable"
    NON_HYPERBOLIC = "non-hyperbolic"
    UNKNOWN = "not computed"


class StackelbergVerdict(enum.Enum):
    """What follows for a leader; DSE: differential Stackelberg equilibrium."""

    CERTIFIED_DSE = "a differential Stackelberg equilibrium"
    REFUTED_DSE = "not a differential Stackelberg equilibrium"
    INCONCLUSIVE = "undecided by second-order information"
    NOT_STATIONARY = "not stationary for this leader; nothing else is concluded"


@dataclasses.dataclass(frozen=True)
class Stationarity:
    r"""Whether the field vanishes, in a form invariant to scaling anybody's loss.

    $$r_i = \frac{|F_i|_2}{\max\big(|J_i|_2,
      4 \sqrt\epsilon\, |J_i \operatorname{diag}(w)|_F\big)},$$

    J_i the block row of player i in the game Jacobian (0/0 counts as 0), eps that of
    the precision of w. The first is the length of a Newton step, about; the second only
    counts far from the origin, where w has no more digits: a parameter that the player
    does not depend on does not excuse their gradient, however large it is.

    Attributes:
        stationary: whether `residual <= tolerance`.
        residual: the largest r_i.
        tolerance: what it was compared with.
        residuals: r_i of every player.
        norms: the raw |F_i|_2 of every player.
        scales: |J_i|_2 of every player, or its estimate.
        method: how |J_i|_2 was computed, in words.
    """

    stationary: bool
    residual: float
    tolerance: float
    residuals: tuple[float, ...]
    norms: tuple[float, ...]
    scales: tuple[float, ...]
    method: str = "dense"

    def __str__(self) -> str:
        """Say it in one line."""
        sign = "<=" if self.stationary else ">"
        norms = ", ".join(number(norm) for norm in self.norms)
        return (
            f"{'yes' if self.stationary else 'no'}: residual "
            f"{number(self.residual)} {sign} tolerance {number(self.tolerance)}; "
            f"raw norms of the players' gradients: {norms}"
        )


@dataclasses.dataclass(frozen=True)
class PlayerCurvature:
    """The finding on one player's own Hessian.

    Attributes:
        player: the player's index.
        curvature: the finding.
        smallest: estimate of the smallest eigenvalue.
        largest: estimate of the largest eigenvalue, if known.
        bound: how far from 0 the smallest eigenvalue must be for a finding: the shift
            of the Cholesky certificate, or the matrix-free bound.
        method: how it was computed, in words.
        dtype: the precision of the arithmetic.
        dimension: the number of the player's scalar parameters.
        matvecs: Hessian-vector products spent.
        witness: a unit direction of certified negative curvature, flat, or `None`.
        quotient: the curvature v'Hv along the witness, or `None`.
        probability: what `PD_PROBABLE` holds with, if it is known.
        residual: |Hy - theta y| of the smallest pair, where it was computed.
        converged: whether the smallest pair met its tolerance; `None` where dense.
        remark: what limits or explains the finding, in words.
    """

    player: int
    curvature: Curvature
    smallest: float
    bound: float
    method: str
    dtype: str
    dimension: int = 0
    matvecs: int = 0
    largest: float | None = None
    witness: np.ndarray | None = None
    quotient: float | None = None
    probability: float | None = None
    residual: float | None = None
    converged: bool | None = None
    remark: str = ""

    @property
    def silent(self) -> bool:
        """Whether the own Hessian is 0 within its bound, as in a bilinear game."""
        return (
            self.curvature is Curvature.INCONCLUSIVE
            and self.largest is not None
            and max(abs(self.smallest), abs(self.largest)) <= self.bound
        )

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [
            f"{self.curvature.name}: smallest own curvature {number(self.smallest)}, "
            f"bound {number(self.bound)}"
        ]
        if self.silent:
            parts.append(
                "the second-order test is silent (own Hessian 0 within its bound)"
            )
        if self.quotient is not None:
            parts.append(f"curvature {number(self.quotient)} along the witness")
        if self.probability is not None:
            parts.append(f"with probability at least {self.probability:.8g}")
        if self.residual is not None:
            parts.append(f"residual {number(self.residual)}")
        if self.converged is False:
            parts.append("not converged")
        if self.remark:
            parts.append(self.remark)
        how = f"{self.method}, {self.dtype}"
        if self.matvecs:
            how += f", {self.matvecs} products"
        return "; ".join(parts) + f" ({how})"


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """The finding on the flow w' = -F(w), and on a given rule's update map.

    Attributes:
        stability: of the flow: STABLE (a locally stable stationary point, LSSP: every
            eigenvalue of J has a positive real part), UNSTABLE (some negative one),
            NON_HYPERBOLIC (one within `margin` of 0), or UNKNOWN.
        certified: whether that is proved rather than read off computed eigenvalues.
        method: what decided, in words.
        min_real_part: the smallest real part of an eigenvalue of J, or `None`.
        margin: the size below which a real part counts as 0, or `None`.
        eigenvalues: of J, sorted by real part, or `None`.
        smallest_symmetric: smallest eigenvalue of the symmetric part S, or `None`.
        symmetric: the finding on S (PD: own Hessians PD and flow stable, every game).
        symmetric_bound: the bound of that finding, or `None`.
        symmetric_norm: Frobenius norm of S, or `None`.
        antisymmetric_norm: Frobenius norm of A: 0 in a potential game, or `None`.
        update_radius: spectral radius per step of the rule's update map, or `None`.
        update_stability: what follows for the rule (NON_HYPERBOLIC: marginal).
        update_certified: whether that is proved.
        update_remark: what limits or explains the finding on the rule, in words.
        update_eigenvalues: of the rule's update map over one period, or `None`.
        residual: of the estimated eigenvalue, where it was computed.
        matvecs: Jacobian-vector products spent.
    """

    stability: Stability = Stability.UNKNOWN
    certified: bool = False
    method: str = ""
    min_real_part: float | None = None
    margin: float | None = None
    eigenvalues: tuple[complex, ...] | None = None
    smallest_symmetric: float | None = None
    symmetric: Curvature = Curvature.INCONCLUSIVE
    symmetric_bound: float | None = None
    symmetric_norm: float | None = None
    antisymmetric_norm: float | None = None
    update_radius: float | None = None
    update_stability: Stability = Stability.UNKNOWN
    update_certified: bool = False
    update_remark: str = ""
    update_eigenvalues: tuple[complex, ...] | None = None
    residual: float | None = None
    matvecs: int = 0

    def __str__(self) -> str:
        """Say it in lines."""
        words = {
            Stability.STABLE: "the flow is stable here (LSSP)",
            Stability.UNSTABLE: "the flow is unstable here",
            Stability.NON_HYPERBOLIC: "non-hyperbolic: an eigenvalue's real part is 0 "
            "within its margin, stability is open",
            Stability.UNKNOWN: "stability of the flow was not decided",
        }[self.stability]
        if self.stability in (Stability.STABLE, Stability.UNSTABLE):
            words += ", certified" if self.certified else ", estimated"
        parts = [words + (f" ({self.method})" if self.method else "")]
        if self.min_real_part is not None:
            text = f"smallest real part of J's eigenvalues {number(self.min_real_part)}"
            if self.margin is not None:
                text += f", margin {number(self.margin)}"
            if self.residual is not None:
                text += f", residual {number(self.residual)}"
            parts.append(text)
        if self.smallest_symmetric is not None:
            text = f"smallest eigenvalue of S {number(self.smallest_symmetric)}"
            if self.symmetric_bound is not None:
                text += f", bound {number(self.symmetric_bound)}"
            parts.append(f"{text}: {self.symmetric.name}")
        if self.antisymmetric_norm is not None and self.symmetric_norm is not None:
            parts.append(
                f"Frobenius norms: symmetric {number(self.symmetric_norm)}, "
                f"antisymmetric {number(self.antisymmetric_norm)}"
            )
        if self.update_radius is not None or self.update_remark:
            words = {
                Stability.STABLE: "the rule converges locally",
                Stability.UNSTABLE: "the rule diverges",
                Stability.NON_HYPERBOLIC: "the rule is marginal",
                Stability.UNKNOWN: "the rule's behaviour was not decided",
            }[self.update_stability]
            if self.update_radius is not None:
                words += f": spectral radius {self.update_radius:.12g}"
            if self.update_certified:
                words += ", certified"
            if self.update_remark:
                words += f" ({self.update_remark})"
            parts.append(words)
        return "\n".join(parts)


@dataclasses.dataclass(frozen=True)
class Stackelberg:
    """The finding on one player leading and the other one following.

    Attributes:
        leader: the leader's index; the other player follows.
        verdict: the finding.
        residual: the larger of the leader's and the follower's relative residual; it
            may be small where that of `Stationarity` is not.
        tolerance: what the residual was compared with.
        total_gradient: norm of the leader's total gradient.
        follower: the finding on the follower's own Hessian.
        total: the finding on the leader's total Hessian.
        smallest: smallest eigenvalue of the total Hessian, or `None`.
        bound: the bound of `total`, or `None`.
        total_hessian: the matrix of shape `(d, d)`, or `None`.
        remark: what limits or explains the finding, in words.
    """

    leader: int
    verdict: StackelbergVerdict
    residual: float
    tolerance: float
    total_gradient: float | None = None
    follower: Curvature = Curvature.INCONCLUSIVE
    total: Curvature = Curvature.INCONCLUSIVE
    smallest: float | None = None
    bound: float | None = None
    total_hessian: np.ndarray | None = None
    remark: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [
            f"{self.verdict.name}: {self.verdict.value}",
            f"residual {number(self.residual)}",
            f"follower {self.follower.name}",
        ]
        if self.smallest is not None:
            text = f"smallest total curvature {number(self.smallest)}"
            if self.bound is not None:
                text += f", bound {number(self.bound)}"
            parts.append(text)
        if self.remark:
            parts.append(self.remark)
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class TimescaleStability:
    """Stability of the flow with two time scales of ratio tau.

    Attributes:
        tau: the ratio of the time scales.
        stability: STABLE, UNSTABLE or NON_HYPERBOLIC.
        certified: whether that is proved.
        min_real_part: smallest real part of an eigenvalue of diag(I, tau I) J.
        margin: the size below which it counts as 0.
        eigenvalues: of diag(I, tau I) J, sorted by real part.
    """

    tau: float
    stability: Stability
    certified: bool
    min_real_part: float
    margin: float
    eigenvalues: tuple[complex, ...]


@dataclasses.dataclass(frozen=True)
class EquilibriumReport:
    """What was proved about a point, with which bound, and what is open.

    `str(report)` says it in words and numbers, `report.to_json()` in plain values.

    Attributes:
        verdict: what the findings allow to conclude.
        stationarity: whether the field vanishes.
        players: one finding per player; `certify` leaves them out where the point is
            not stationary.
        dynamics: the flow and the rule; `None` where the point is not stationary.
        stackelberg: one finding per leader, two players only.
        notes: what limits or explains the findings, in words.
        dtype: the precision of the arithmetic.
        point_dtype: the precision in which the point was computed.
        dimension: the number of scalar parameters, d.
        method: "dense" or "matrix-free".
        nash: `True` where the losses are assumed convex in their own parameters and
            the point is stationary: then it is a Nash equilibrium, differential or not.
        newton_distance: |J^-1 F|, an estimate of the distance to the nearby zero of F.
        zero_radius: a distance within which F certainly has a zero, given a Lipschitz
            constant of J; `None` where none was given or the test failed.
        polish_steps: Newton steps taken before the report.
        polish_distance: how far they moved the point.
        params: the point the report is about, in float64 where dense.
        matvecs: products with Hessians and Jacobians spent in all.
        batch_size: the number of examples in the fixed batch, where known.
    """

    verdict: Verdict
    stationarity: Stationarity
    players: tuple[PlayerCurvature, ...] = ()
    dynamics: Dynamics | None = None
    stackelberg: tuple[Stackelberg, ...] = ()
    notes: tuple[str, ...] = ()
    dtype: str = "float64"
    point_dtype: str = "float64"
    dimension: int = 0
    method: str = "dense"
    nash: bool | None = None
    newton_distance: float | None = None
    zero_radius: float | None = None
    polish_steps: int = 0
    polish_distance: float = 0.0
    params: Params | None = dataclasses.field(default=None, repr=False)
    matvecs: int = 0
    batch_size: int | None = None

    @property
    def silent(self) -> bool:
        """Whether the second-order test says nothing: every own Hessian is 0."""
        return bool(self.players) and all(player.silent for player in self.players)

    def __str__(self) -> str:
        """Say it in words and numbers."""
        lines = [f"verdict: {self.verdict.name}, {explain(self)}"]
        lines.append(
            f"point: {self.dimension} parameters, {self.method}, computed in "
            f"{self.point_dtype}, examined in {self.dtype}"
        )
        if self.polish_steps:
            lines.append(
                f"polish: {self.polish_steps} Newton steps moved the point by "
                f"{number(self.polish_distance)}"
            )
        lines.append(f"stationary: {self.stationarity}")
        if self.newton_distance is not None:
            text = f"nearby zero of F: at an estimated {number(self.newton_distance)}"
            if self.zero_radius is not None:
                text += f", certainly within {number(self.zero_radius)}"
            lines.append(text)
        lines += [f"player {player.player}: {player}" for player in self.players]
        if self.dynamics is not None:
            lines += [f"dynamics: {line}" for line in str(self.dynamics).split("\n")]
        lines += [f"player {item.leader} leading: {item}" for item in self.stackelberg]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Give everything but the point as dicts, lists, numbers and strings.

        Enums become their names, complex numbers pairs, and what is not finite `None`.
        """
        return {**plain(self), "explanation": explain(self)}


def conclude(
    stationarity: Stationarity, players: tuple[PlayerCurvature, ...]
) -> Verdict:
    """Conclude the verdict from the findings.

    NOT_STATIONARY if the residual is above its tolerance; CERTIFIED_DNE if every player
    is PD_CERTIFIED; REFUTED_DNE if some player is NOT_PSD_CERTIFIED (without
    constraints this refutes a local Nash equilibrium as well); else INCONCLUSIVE.

    Args:
        stationarity: the first finding.
        players: the second finding, one per player.

    Returns:
        The verdict.

    References:
        Ratliff, Burden, Sastry, "On the characterization of local Nash equilibria in
        continuous games", 2014, arXiv:1411.2168.
    """
    curvatures = [player.curvature for player in players]
    if not stationarity.stationary:
        return Verdict.NOT_STATIONARY
    if Curvature.NOT_PSD_CERTIFIED in curvatures:
        return Verdict.REFUTED_DNE
    if curvatures and all(c is Curvature.PD_CERTIFIED for c in curvatures):
        return Verdict.CERTIFIED_DNE
    return Verdict.INCONCLUSIVE


def explain(report: EquilibriumReport) -> str:
    """Say in one sentence what the verdict of a report rests on."""
    players, verdict = report.players, report.verdict
    if verdict is Verdict.NOT_STATIONARY:
        return verdict.value
    if verdict is Verdict.CERTIFIED_DNE:
        return (
            "a differential Nash equilibrium: stationary within tolerance, and every "
            "own Hessian that differentiation returned is certified positive definite"
        )
    if verdict is Verdict.REFUTED_DNE:
        who = _names(players, Curvature.NOT_PSD_CERTIFIED)
        return f"no local Nash equilibrium: {who} gains by moving alone"
    if report.nash:
        return (
            "a Nash equilibrium, if every loss is convex in its own parameters as "
            "assumed; not certified a differential one"
        )
    if report.silent:
        return "the second-order test is silent: every own Hessian is 0 in its bound"
    if all(
        p.curvature in (Curvature.PD_CERTIFIED, Curvature.PD_PROBABLE) for p in players
    ):
        return (
            "probably a differential Nash equilibrium, but "
            f"{_names(players, Curvature.PD_PROBABLE)} not certified"
        )
    silent = [player for player in players if player.silent]
    if silent:
        return f"the second-order test is silent for {_list(silent)}"
    return (
        f"the second-order test is open for {_names(players, Curvature.INCONCLUSIVE)}"
    )


def _names(players: tuple[PlayerCurvature, ...], curvature: Curvature) -> str:
    return _list([player for player in players if player.curvature is curvature])


def _list(players: list[PlayerCurvature]) -> str:
    return ", ".join(f"player {player.player}" for player in players)


def number(value: float) -> str:
    """Write a number with six digits."""
    return f"{value + 0.0:.6g}"  # no -0


def plain(value: Any) -> Any:
    """Turn a report into dicts, lists, numbers and strings; the point is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name != "params"
        }
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, complex | np.complexfloating):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
