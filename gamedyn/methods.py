"""Methods: a field and a rule together, named after the paper that combined them.

Every registered rule is a method on the gradient field, every registered field is one
with simultaneous plain steps, and published combinations of the two have entries of
their own.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import optax

from gamedyn import fields, rules
from gamedyn.fields import Field, FieldEntry
from gamedyn.game import Game
from gamedyn.geometry import Geometry, euclidean
from gamedyn.registry import Registry, normalised, unknown
from gamedyn.registry import missing as _missing
from gamedyn.rules import Rule, RuleEntry, alternating, simultaneous
from gamedyn.rules.registry import REGISTRY as RULES
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
        return rules.entry(self.rule)

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

    def misfit(self, game: Game) -> str | None:
        """Say why the method is not defined on a game.

        Args:
            game: the game.

        Returns:
            The end of a sentence on the method, or `None` where it is defined.
        """
        reason = self.field_entry.misfit(game)
        expected = self.rule_entry.num_players
        if reason is None and expected not in (None, game.num_players):
            return f"is for {expected} players, this game has {game.num_players}"
        return reason

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


# Published combinations.
_REGISTRY: Registry[MethodEntry] = Registry("method", beside=RULES)


def names() -> tuple[str, ...]:
    """The names of all methods: rules, fields, and published combinations."""
    return tuple(dict.fromkeys((*rules.names(), *_fields(), *_REGISTRY.names())))


def entries() -> dict[str, MethodEntry]:
    """All methods by name."""
    return {name: entry(name) for name in names()}


def entry(name: str) -> MethodEntry:
    """Look a method up; an unknown name raises `ValueError` with the nearest ones."""
    key = normalised(name)
    if key in _REGISTRY:
        return _REGISTRY[key]
    if key in _fields():
        return _of_field(key)
    if key in rules.names():
        return _of_rule(key)
    raise unknown("rule or method", name, names())


def register(
    name: str,
    make: Callable[..., tuple[Field, Rule]] | None = None,
    *,
    family: str,
    summary: str,
    formula: str,
    source: str,
    guarantee: str,
    field: str,
    rule: str,
) -> Any:
    """Add a combination of field and rule: one call beside its builder, or a decorator.

    The facts are those of `MethodEntry`, given by keyword.

    Args:
        name: the name, in snake case; it may be that of its field, and then means this.
        make: `make(game, step_size, num_players, geometry, **options)` gives field and
            rule; if `None`, the function that is decorated.
        family: a few words.
        summary: one line in words.
        formula: in one line.
        source: authors, year, arXiv id.
        guarantee: what is proven of the two, in one line.
        field: the registered field that it is made of.
        rule: the registered rule whose facts hold, of geometry and evaluations.

    Returns:
        `make`, unchanged, or the decorator.

    Raises:
        TypeError: if `make` is not a function.
        ValueError: if a rule, a method or another field has the name, or there is no
            such field or rule.
    """
    fields.entry(field)  # which refuse unknown names
    rules.entry(rule)

    def describe(make: Callable[..., tuple[Field, Rule]]) -> MethodEntry:
        return MethodEntry(
            family=family,
            summary=summary,
            formula=formula,
            source=source,
            field=field,
            rule=rule,
            make=make,
            guarantee=guarantee,
        )

    return _REGISTRY.register(name, describe, make, above=field)


def unregister(name: str) -> None:
    """Take a combination out again; an unknown name raises `ValueError`."""
    _REGISTRY.remove(name)


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
    method = entry(name)
    check_steps(step_size, name, schedules=method.rule_entry.takes_transformation)
    reason = method.misfit(game)
    if reason is not None:
        raise ValueError(f"the method {name!r} {reason}")
    return method.make(
        game, step_size, num_players=game.num_players, geometry=geometry, **options
    )


def misfit(name: str, game: Game) -> str | None:
    """Say why a method is not defined on a game; see `MethodEntry.misfit`."""
    return entry(name).misfit(game)


def _fields() -> tuple[str, ...]:
    """The fields that are methods; the gradient is the field of every rule."""
    return tuple(name for name in fields.names() if name != "gradient")


def _of_rule(name: str) -> MethodEntry:
    """A rule as a method: on the gradient field."""
    facts = rules.entry(name)

    def build(game, step_size, *, num_players, geometry, **options):
        rule = rules.make(
            name, step_size, num_players=num_players, geometry=geometry, **options
        )
        return fields.gradient(game), rule

    return MethodEntry(
        family=facts.family,
        summary=facts.summary,
        formula=facts.formula,
        source=facts.source,
        field="gradient",
        rule=name,
        make=build,
        guarantee=facts.guarantee,
    )


def _of_field(name: str) -> MethodEntry:
    """A field as a method: with simultaneous plain steps."""
    facts = fields.entry(name)

    def build(game, step_size, *, num_players, geometry, **options):
        del num_players
        field = fields.make(name, game, step_size, **options)
        return field, simultaneous(optax.sgd(step_size), geometry=geometry)

    return MethodEntry(
        family=facts.family,
        summary=facts.summary,
        formula=f"z' = z - h V, V = {facts.formula}",
        source=facts.source,
        field=name,
        rule="simultaneous",
        make=build,
        guarantee=facts.guarantee,
    )


# The published combinations.


def _newton(name: str) -> Callable[..., tuple[Field, Rule]]:
    """Alternate, the follower with Newton's full step."""

    def build(game, step_size, *, num_players, geometry, **options):
        del num_players
        steps = optax.sgd(step_size), optax.sgd(1.0)
        return fields.make(name, game, **options), alternating(
            *steps, geometry=geometry
        )

    return build


register(
    "gradient_descent_newton",
    _newton("gradient_descent_newton"),
    family="inverse curvature",
    summary="the leader descends, then the follower takes a full Newton step",
    formula="x' = x - h F_1(x, y); y' = y - (D_yy l_2)^-1 F_2(x', y)",
    source="Zhang et al. 2021, arXiv:2006.14592",
    guarantee="local minimax points: linear, at the rate of descent on the ridge",
    field="gradient_descent_newton",
    rule="alternating",
)
register(
    "complete_newton",
    _newton("complete_newton"),
    family="inverse curvature",
    summary="Newton steps along the ridge, then full ones for the follower; h = 1",
    formula="x' = x - h (J^-1 (F_1, 0))_1; y' = y - (D_yy l_2)^-1 F_2(x', y)",
    source="Zhang et al. 2021, arXiv:2006.14592",
    guarantee="local minimax points: quadratic for h = 1",
    field="complete_newton",
    rule="alternating",
)


@register(
    "ode_gan",
    family="following the flow",
    summary="Runge-Kutta steps, the second player keeping the first's gradient small",
    formula="runge_kutta_4 on F_1; F_2 + w d/dy |F_1|^2, w = .002",
    source="Qin et al. 2020, arXiv:2010.15040",
    guarantee="none; follows the flow to fourth order, keeps the zeros of F",
    field="penalised",
    rule="runge_kutta_4",
)
def _ode_gan(game, step_size, *, num_players, geometry, **options):
    rule = rules.make(
        "runge_kutta_4", step_size, num_players=num_players, geometry=geometry
    )
    return fields.penalised(game, **options), rule


@register(
    "consensus_rmsprop",
    family="corrected by the Jacobian",
    summary="consensus of weight 10 with RMSProp steps, as published for GANs",
    formula="z' = z - h rmsprop(F + 10 J'F)",
    source="Mescheder et al. 2017, arXiv:1705.10461",
    guarantee="none with adaptive steps",
    field="consensus",
    rule="simultaneous",
)
def _consensus_rmsprop(game, step_size, *, num_players, geometry, weight=10.0):
    del num_players
    rule = simultaneous(optax.rmsprop(step_size), geometry=geometry)
    return fields.consensus(game, weight), rule


@register(
    "unrolled_adam",
    family="opponents foreseen",
    summary="unrolled five steps, with Adam steps, as published for GANs",
    formula="z' = z - h adam(d/dx l_1(x, y_5(x)); F_2)",
    source="Metz et al. 2017, arXiv:1611.02163",
    guarantee="none with adaptive steps",
    field="unrolled",
    rule="adam",
)
def _unrolled_adam(game, step_size, *, num_players, geometry, **options):
    del num_players
    rule = simultaneous(optax.adam(step_size), geometry=geometry)
    return fields.unrolled(game, step_size, **options), rule


if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
