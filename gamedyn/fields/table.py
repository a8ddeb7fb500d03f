"""The registry of fields: how one positive number makes each of them, and its facts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gamedyn.fields.base import Field, gradient, is_zero_sum
from gamedyn.fields.competitive import competitive
from gamedyn.fields.corrected import consensus, hamiltonian, symplectic
from gamedyn.fields.lookahead import (
    level_k,
    lola,
    opponent_lookahead,
    stable_opponent_shaping,
)
from gamedyn.fields.newton import (
    complete_newton,
    follow_the_ridge,
    gradient_descent_newton,
    local_symplectic_surgery,
)
from gamedyn.fields.penalised import penalised
from gamedyn.fields.unrolled import unrolled
from gamedyn.game import Game
from gamedyn.registry import Registry

NEEDS = (
    "several players",
    "two players",
    "zero-sum",
    "losses",
    "own curvature",
    "invertible Jacobian",
    "the rule's step size",
)
"""What a field may need, in words.

- several players, two players, zero-sum: as they say;
- losses: it is made of a `Game`; the others are made of any field as well;
- own curvature: the follower's own Hessian is positive definite near the path;
- invertible Jacobian: J has an inverse there;
- the rule's step size: with another learning rate in the rule it is another method.
"""


class Work(NamedTuple):
    """Floating-point operations in units of one joint gradient of a game of networks.

    Attributes:
        flops: of one evaluation, the body of an inner loop counted once.
        inner: of which, the body of the inner loop.
    """

    flops: float
    inner: float = 0.0


class FieldEntry(NamedTuple):
    """A registered field.

    Attributes:
        family: the family of fields it belongs to, a few words.
        make: `make(game, step_size, **options) -> Field`.
        summary: one line in words.
        formula: the field in one line.
        source: authors, year, arXiv id.
        gradients: evaluations of the joint gradient F per evaluation, of an inner loop
            those of one turn.
        products: products with J or its transpose, or halves of them, likewise.
        work: what it costs in a zero-sum game of two.
        needs: what it needs, words of `NEEDS`.
        guarantee: what is known of it, in one line.
        general: what it costs in a general-sum game, where that differs.
        turns: the turns of the inner loop in a game of so many scalar parameters.
    """

    family: str
    make: Callable[..., Field]
    summary: str
    formula: str
    source: str
    gradients: int
    products: int
    work: Work
    needs: tuple[str, ...]
    guarantee: str
    general: Work | None = None
    turns: Callable[[int], int] | None = None

    @property
    def flops(self) -> float:
        """Of one evaluation in a zero-sum game, in units of one joint gradient."""
        return self.work.flops

    @property
    def num_players(self) -> int | None:
        """The number of players it is for; any if `None`."""
        return 2 if {"two players", "zero-sum"} & set(self.needs) else None

    def cost(self, size: int, *, zero_sum: bool = False) -> float:
        """Count an evaluation in joint gradients, every turn of an inner loop.

        Args:
            size: the number of scalar parameters of all players.
            zero_sum: whether the game is known to be zero-sum, of two players.
        """
        work = self.work if zero_sum or self.general is None else self.general
        turns = 1 if self.turns is None else self.turns(size)
        return work.flops + work.inner * (turns - 1)


_REGISTRY: Registry[FieldEntry] = Registry("field")


def names() -> tuple[str, ...]:
    """The names of all registered fields."""
    return _REGISTRY.names()


def entries() -> dict[str, FieldEntry]:
    """All registered fields by name."""
    return {name: _REGISTRY[name] for name in _REGISTRY}


def entry(name: str) -> FieldEntry:
    """Look a field up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def make(name: str, game: Game, step_size: Any = 0.1, **options: Any) -> Field:
    """Build a registered field from a game and one positive number.

    Args:
        name: a name from `names()`; hyphens are accepted.
        game: the game.
        step_size: the step size of the rule that will descend the field, may be traced;
            fields that foresee steps take it as the size of these.
        **options: further arguments of the field's builder.

    Returns:
        The field.

    Raises:
        TypeError: if it is no game.
        ValueError: if the name is unknown, or the game is not of the kind that the
            field needs.

    Example:
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> field = gd.fields.make("competitive", game, 0.1)
    """
    if not isinstance(game, Game):
        raise TypeError(f"fields are made by name of a Game, got {type(game).__name__}")
    found, reason = entry(name), misfit(name, game)
    if reason is not None:
        raise ValueError(f"the field {name!r} {reason}")
    return found.make(game, step_size, **options)


def misfit(name: str, game: Game) -> str | None:
    """Say why a field is not defined on a game.

    Args:
        name: the registered name.
        game: the game.

    Returns:
        The end of a sentence on the field, or `None` where it is defined.
    """
    needs, num_players = entry(name).needs, game.num_players
    if "zero-sum" in needs and not is_zero_sum(game):
        return "is for zero-sum games of two players, and this game is not one"
    if "two players" in needs and num_players != 2:
        return f"is for 2 players, this game has {num_players}"
    if "several players" in needs and num_players < 2:
        return "is for several players, this game has one"
    return None


def _register(name: str, entry: FieldEntry) -> None:
    if unknown := set(entry.needs) - set(NEEDS):
        raise ValueError(f"{name} needs {', '.join(sorted(unknown))}: not among NEEDS")
    _REGISTRY.add(name, entry)


def _plain(builder: Callable[..., Field], **fixed: Any) -> Callable[..., Field]:
    """Make a field that does not depend on the step size."""

    def make(game, step_size=None, **options):
        del step_size
        return builder(game, **{**fixed, **options})

    return make


def _most(size: int) -> int:
    """Turns of an exact Krylov method, which end at the number of unknowns."""
    return max(1, min(size, 100))


_register(
    "gradient",
    FieldEntry(
        "gradient",
        _plain(gradient),
        "everybody's gradient of their own loss",
        "F",
        "classical",
        1,
        0,
        Work(1.0),
        (),
        "stable where J's eigenvalues have positive real part, for small steps",
    ),
)

# Corrected by the Jacobian.

_CORRECTED = "corrected by the Jacobian"

_register(
    "consensus",
    FieldEntry(
        _CORRECTED,
        _plain(consensus),
        "the gradient, and with it half of its squared norm",
        "F + g J'F, g = 1",
        "Mescheder et al. 2017, arXiv:1705.10461",
        1,
        1,
        Work(2.8),
        (),
        "for large g every zero of F with invertible J attracts",
        general=Work(3.3),
    ),
)
_register(
    "hamiltonian",
    FieldEntry(
        _CORRECTED,
        _plain(hamiltonian),
        "half of the gradient's squared norm, descended jointly",
        "J'F",
        "Abernethy et al. 2019, arXiv:1906.02027",
        1,
        1,
        Work(2.8),
        (),
        "linear where J is invertible throughout; attracted by maxima too",
        general=Work(3.3),
    ),
)
_register(
    "symplectic",
    FieldEntry(
        _CORRECTED,
        _plain(symplectic),
        "the gradient with its rotation undone (SGA)",
        "F + l A'F, A = (J - J')/2, l = 1",
        "Balduzzi et al. 2018, arXiv:1802.05642",
        1,
        2,
        Work(2.3),
        (),
        "zeros of F attract where S is positive; for a fixed l, some others too",
        general=Work(4.35),
    ),
)
_register(
    "symplectic_aligned",
    FieldEntry(
        _CORRECTED,
        _plain(symplectic, alignment=0.1),
        "the same, the adjustment's sign chosen to leave unstable points (SGA)",
        "F + l A'F, l = sign(<F,J'F><A'F,J'F>/d + .1)",
        "Balduzzi et al. 2018, arXiv:1802.05642",
        1,
        2,
        Work(4.2),
        (),
        "attracted by stable zeros of F; led away from unstable ones while F is large",
        general=Work(4.35),
    ),
)
_register(
    "penalised",
    FieldEntry(
        _CORRECTED,
        _plain(penalised),
        "the second player also keeps the others' gradients small (ODE-GAN)",
        "F_1; F_2 + w d/dy |F_1|^2, w = .002",
        "Qin et al. 2020, arXiv:2010.15040",
        1,
        1,
        Work(1.65),
        ("several players",),
        "keeps the zeros of F; damps the second player's rotation",
    ),
)

# The local game solved.

_register(
    "competitive",
    FieldEntry(
        "the local game solved",
        lambda game, step_size, **options: competitive(game, step_size, **options),
        "the equilibrium of the local bilinear game (CGD)",
        "(I + h H_o)^-1 F",
        "Schaefer and Anandkumar 2019, arXiv:1905.12103",
        1,
        2,
        Work(3.55, 1.27),
        ("the rule's step size",),
        "bilinear: 1/sqrt(1 + h^2 s^2), the proximal point method",
        general=Work(4.75, 2.5),
        turns=_most,
    ),
)
_register(
    "generalised_competitive",
    FieldEntry(
        "the local game solved",
        lambda game, step_size, **options: competitive(
            game, **{"coefficient": 1.0, **options}
        ),
        "the same with a coefficient of its own inside the inverse (CGO)",
        "(I + a H_o)^-1 F, a = 1",
        "Vyas et al. 2023, arXiv:2205.14232",
        1,
        2,
        Work(3.55, 1.27),
        (),
        "bilinear: converges for small steps",
        general=Work(4.75, 2.5),
        turns=_most,
    ),
)

# Opponents foreseen.

_FORESEEN = "opponents foreseen"

_register(
    "opponent_lookahead",
    FieldEntry(
        _FORESEEN,
        opponent_lookahead,
        "the own gradient at the opponents' next point, to first order",
        "(I - h H_o) F",
        "Zhang and Lesser 2010",
        1,
        1,
        Work(2.3),
        (),
        "keeps the zeros of F; bilinear: extragradient",
    ),
)
_register(
    "lola",
    FieldEntry(
        _FORESEEN,
        lola,
        "look-ahead that also shapes the opponents' step, first-order (LOLA)",
        "(I - h H_o) F - h chi, chi_i = sum_j (D_ij l_j)' D_j l_i",
        "Foerster et al. 2018, arXiv:1709.04326",
        1,
        2,
        Work(3.8),
        ("losses",),
        "none: it may leave the zeros of F",
    ),
)
_register(
    "stable_opponent_shaping",
    FieldEntry(
        _FORESEEN,
        stable_opponent_shaping,
        "shaping as far as it does not turn the direction (SOS)",
        "(I - h H_o) F - p h chi, p by two criteria",
        "Letcher et al. 2019, arXiv:1811.08469",
        1,
        2,
        Work(3.8),
        ("losses",),
        "converges to stable zeros of F, avoids strict saddles",
    ),
)
_register(
    "level_k",
    FieldEntry(
        _FORESEEN,
        level_k,
        "answers to the opponents' answers, three deep",
        "F_i(z_i, w_-i), w = two foreseen steps",
        "Liu and Pavel 2022, arXiv:2210.16482",
        3,
        0,
        Work(2.75),
        (),
        "bilinear: level 2 is extragradient, a high one the proximal point method",
    ),
)
_register(
    "unrolled",
    FieldEntry(
        _FORESEEN,
        unrolled,
        "the first player differentiates through five steps of the second",
        "d/dx l_1(x, y_5(x)); d/dy l_2(x, y)",
        "Metz et al. 2017, arXiv:1611.02163",
        2,
        1,
        Work(3.1, 1.67),
        ("two players", "losses"),
        "xy: sqrt(1 - 9 h^2), the second player foreseen",
        turns=lambda size: 5,
    ),
)

# Inverse curvature.

_CURVATURE = "inverse curvature"

_register(
    "local_symplectic_surgery",
    FieldEntry(
        _CURVATURE,
        _plain(local_symplectic_surgery),
        "what of the gradient only local Nash equilibria attract (LSS)",
        "(I + J' J^-1) F / 2",
        "Mazumdar et al. 2019, arXiv:1901.00838",
        1,
        2,
        Work(8.3, 3.65),
        ("invertible Jacobian",),
        "attracted by local Nash equilibria only",
        general=Work(10.2, 4.1),
        turns=_most,
    ),
)
_register(
    "follow_the_ridge",
    FieldEntry(
        _CURVATURE,
        _plain(follow_the_ridge),
        "the follower stays on the ridge while the leader descends",
        "F_1; F_2 - (D_yy l_2)^-1 D_yx l_2 F_1",
        "Wang et al. 2020, arXiv:1910.07512",
        1,
        2,
        Work(3.8, 1.45),
        ("two players", "losses", "own curvature"),
        "attracted by local minimax points only, without rotation",
        turns=_most,
    ),
)
_register(
    "gradient_descent_newton",
    FieldEntry(
        _CURVATURE,
        _plain(gradient_descent_newton),
        "gradient for the leader, Newton's direction for the follower",
        "F_1; (D_yy l_2)^-1 F_2",
        "Zhang et al. 2021, arXiv:2006.14592",
        1,
        2,
        Work(3.15, 1.45),
        ("two players", "losses", "own curvature"),
        "local minimax points, at the rate of descent on the ridge",
        turns=_most,
    ),
)
_register(
    "complete_newton",
    FieldEntry(
        _CURVATURE,
        _plain(complete_newton),
        "Newton's direction for both, the leader's along the ridge",
        "(J^-1 (F_1, 0))_1; (D_yy l_2)^-1 F_2",
        "Zhang et al. 2021, arXiv:2006.14592",
        1,
        4,
        Work(8.6, 5.1),
        ("two players", "losses", "own curvature", "invertible Jacobian"),
        "zeros of F with invertible J; alternating with unit steps, quadratic",
        general=Work(9.9, 5.5),
        turns=_most,
    ),
)
