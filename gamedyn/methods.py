"""Methods: a field and a rule under the name of the publication that joined them.

Every registered rule is a method on the gradient field, every registered field is one
with simultaneous plain steps, and some published ones are neither.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from gamedyn import fields, rules
from gamedyn.fields import Field
from gamedyn.fields.table import FieldEntry
from gamedyn.fields.table import misfit as field_misfit
from gamedyn.game import Game
from gamedyn.geometry import Geometry, euclidean
from gamedyn.registry import Registry
from gamedyn.rules import Rule, RuleEntry, alternating, simultaneous
from gamedyn.rules.registry import check_steps


class MethodEntry(NamedTuple):
    """A method: which field, which rule, and what is known of the two together.

    Attributes:
        family: a few words.
        summary: one line in words.
        formula: in one line.
        source: authors, year, arXiv id.
        field: the registered field.
        rule: the registered rule whose facts hold, of geometry and evaluations.
        make: `make(game, step_size, num_players, geometry, **options)` gives field and
            rule.
        guarantee: what is proven of the two, in one line.
    """

    family: str
    summary: str
    formula: str
    source: str
    field: str
    rule: str
    make: Callable[..., tuple[Field, Rule]]
    guarantee: str

    @property
    def field_entry(self) -> FieldEntry:
        """What is known of the field."""
        return fields.entry(self.field)

    @property
    def rule_entry(self) -> RuleEntry:
        """What is known of the rule."""
        return rules.entries()[self.rule]

    @property
    def geometries(self) -> tuple[str, ...]:
        """The kinds of geometry on which the rule is defined."""
        return self.rule_entry.geometries

    @property
    def on_simplex(self) -> bool:
        """Whether every player needs a simplex."""
        return self.rule_entry.on_simplex

    @property
    def needs(self) -> tuple[str, ...]:
        """What the two need, in words."""
        both = *self.field_entry.needs, *self.rule_entry.needs
        return tuple(dict.fromkeys(both))

    @property
    def num_players(self) -> int | None:
        """The number of players it is for; any if `None`."""
        return self.field_entry.num_players or self.rule_entry.num_players

    @property
    def flops(self) -> float:
        """Of a step in a zero-sum game of two networks, in units of a joint gradient.

        Of inner loops one turn is counted. What the field adds to a gradient is paid
        in every evaluation; what moving in turn costs is paid by the gradient alone.
        """
        more = self.field_entry.flops - 1
        return self.rule_entry.flops + (more and self.rule_entry.evaluations(1) * more)

    def gradients(self, size: int) -> int:
        """Count evaluations of the joint gradient in a step, of inner loops one turn.

        Args:
            size: the number of scalar parameters of all players.
        """
        return self.rule_entry.evaluations(size) * self.field_entry.gradients

    def products(self, size: int) -> int:
        """Count products with J, its transpose or halves of them, likewise."""
        each = self.field_entry.products
        return self.rule_entry.products + self.rule_entry.evaluations(size) * each

    def evaluations(self, size: int, *, zero_sum: bool = False) -> int:
        """Count a step in joint gradients; a corrected field by its operations.

        Args:
            size: the number of scalar parameters of all players.
            zero_sum: whether the game is zero-sum, of two players.

        Returns:
            The count, rounded up.
        """
        each = self.field_entry.cost(size, zero_sum=zero_sum)
        return math.ceil(self.rule_entry.evaluations(size) * each)


_NAMED: Registry[MethodEntry] = Registry("method")


def names() -> tuple[str, ...]:
    """The names of all methods: rules, fields, and what is neither."""
    return tuple(entries())


def entries() -> dict[str, MethodEntry]:
    """All methods by name."""
    found = {name: _of_rule(name, entry) for name, entry in rules.entries().items()}
    for name, entry in fields.entries().items():
        if name != "gradient":
            found[name] = _of_field(name, entry)
    return found | {name: _NAMED[name] for name in _NAMED}


def entry(name: str) -> MethodEntry:
    """Look a method up; an unknown name raises `ValueError` with the nearest ones."""
    table: Registry[MethodEntry] = Registry("rule or method")
    for known, found in entries().items():
        table.add(known, found)
    return table[name]


def make(
    name: str,
    game: Game,
    step_size: Any,
    *,
    num_players: int | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
    **options: Any,
) -> tuple[Field, Rule]:
    """Build field and rule of a method from one positive number.

    Args:
        name: a name from `names()`; hyphens are accepted.
        game: the game.
        step_size: the step size, may be traced.
        num_players: checked against the game, if given.
        geometry: one for all players, or a tuple of one each.
        **options: further arguments of the rule's builder, of the field's where the
            method is a field with plain steps, or of the named method.

    Returns:
        The field and the rule, to be given to `solve`.

    Raises:
        TypeError: if the step size is no number, or the game is none.
        ValueError: if the name is unknown, a known step size is not positive, or the
            method is not for such a game or geometry.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> field, rule = gd.methods.make("consensus", game, 0.5)
        >>> gd.solve(field, rule, (jnp.array(1.0), jnp.array(1.0)), 100).status.item()
        0
    """
    if not isinstance(game, Game):
        raise TypeError(f"methods are made of a Game, got {type(game).__name__}")
    if num_players not in (None, game.num_players):
        raise ValueError(f"expected {num_players} players, got {game.num_players}")
    found = entry(name)
    check_steps(step_size, name, schedules=found.rule_entry.takes_transformation)
    reason = misfit(name, game)
    if reason is not None:
        raise ValueError(f"the method {name!r} {reason}")
    return found.make(
        game, step_size, num_players=game.num_players, geometry=geometry, **options
    )


def misfit(name: str, game: Game) -> str | None:
    """Say why a method is not defined on a game; the end of a sentence, or `None`."""
    found = entry(name)
    reason = field_misfit(found.field, game)
    only = found.rule_entry.num_players
    if reason is None and only not in (None, game.num_players):
        return f"is for {only} players, this game has {game.num_players}"
    return reason


def _of_rule(name: str, found: RuleEntry) -> MethodEntry:
    def build(game, step_size, *, num_players, geometry, **options):
        rule = rules.make(
            name, step_size, num_players=num_players, geometry=geometry, **options
        )
        return fields.gradient(game), rule

    facts = found.family, found.summary, found.formula, found.source
    return MethodEntry(*facts, "gradient", name, build, found.guarantee)


def _of_field(name: str, found: FieldEntry) -> MethodEntry:
    def build(game, step_size, *, num_players, geometry, **options):
        del num_players
        field = fields.make(name, game, step_size, **options)
        return field, simultaneous(optax.sgd(step_size), geometry=geometry)

    facts = found.family, found.summary, f"z' = z - h V, V = {found.formula}"
    own = name, "simultaneous", build, found.guarantee
    return MethodEntry(*facts, found.source, *own)


def _newton(name: str) -> Callable[..., tuple[Field, Rule]]:
    """Alternate, the follower with Newton's full step."""

    def build(game, step_size, *, num_players, geometry, **options):
        del num_players
        steps = optax.sgd(step_size), optax.sgd(1.0)
        return fields.make(name, game, **options), alternating(
            *steps, geometry=geometry
        )

    return build


def _ode_gan(game, step_size, *, num_players, geometry, **options):
    rule = rules.make(
        "runge_kutta_4", step_size, num_players=num_players, geometry=geometry
    )
    return fields.penalised(game, **options), rule


def _adaptive(
    builder: Callable[..., Field], transformation: Callable[..., Any], **fixed: Any
) -> Callable[..., tuple[Field, Rule]]:
    """Simultaneous steps of an adaptive transformation on a field."""

    def build(game, step_size, *, num_players, geometry, **options):
        del num_players
        rule = simultaneous(transformation(step_size), geometry=geometry)
        return builder(game, step_size, **{**fixed, **options}), rule

    return build


_NAMED.add(
    "gradient_descent_newton",
    MethodEntry(
        "inverse curvature",
        "the leader descends, then the follower takes a full Newton step",
        "x' = x - h F_1(x, y); y' = y - (D_yy l_2)^-1 F_2(x', y)",
        "Zhang et al. 2021, arXiv:2006.14592",
        "gradient_descent_newton",
        "alternating",
        _newton("gradient_descent_newton"),
        "local minimax points: linear, at the rate of descent on the ridge",
    ),
)
_NAMED.add(
    "complete_newton",
    MethodEntry(
        "inverse curvature",
        "Newton steps along the ridge, then full ones for the follower; h = 1",
        "x' = x - h (J^-1 (F_1, 0))_1; y' = y - (D_yy l_2)^-1 F_2(x', y)",
        "Zhang et al. 2021, arXiv:2006.14592",
        "complete_newton",
        "alternating",
        _newton("complete_newton"),
        "local minimax points: quadratic for h = 1",
    ),
)
_NAMED.add(
    "ode_gan",
    MethodEntry(
        "following the flow",
        "Runge-Kutta steps, the second player keeping the first's gradient small",
        "runge_kutta_4 on F_1; F_2 + w d/dy |F_1|^2, w = .002",
        "Qin et al. 2020, arXiv:2010.15040",
        "penalised",
        "runge_kutta_4",
        _ode_gan,
        "none; follows the flow to fourth order, keeps the zeros of F",
    ),
)
_NAMED.add(
    "consensus_rmsprop",
    MethodEntry(
        "corrected by the Jacobian",
        "consensus of weight 10 with RMSProp steps, as published for GANs",
        "z' = z - h rmsprop(F + 10 J'F)",
        "Mescheder et al. 2017, arXiv:1705.10461",
        "consensus",
        "simultaneous",
        _adaptive(
            lambda game, step_size, weight: fields.consensus(game, weight),
            optax.rmsprop,
            weight=10.0,
        ),
        "none with adaptive steps",
    ),
)
_NAMED.add(
    "unrolled_adam",
    MethodEntry(
        "opponents foreseen",
        "unrolled five steps, with Adam steps, as published for GANs",
        "z' = z - h adam(d/dx l_1(x, y_5(x)); F_2)",
        "Metz et al. 2017, arXiv:1611.02163",
        "unrolled",
        "adam",
        _adaptive(fields.unrolled, optax.adam),
        "none with adaptive steps",
    ),
)
