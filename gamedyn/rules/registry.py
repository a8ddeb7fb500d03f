"""The registry of rules: what is known of each, and how one number makes it."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import optax

from gamedyn._moved import forward
from gamedyn.checks import (
    check_positive_integer,
    check_words,
    is_known,
    is_real_scalar,
)
from gamedyn.fields.registry import REGISTRY as FIELDS
from gamedyn.geometry import Geometry, euclidean
from gamedyn.registry import Registry
from gamedyn.rules.base import ANY, Rule

FAMILIES = (
    "moves in turn or at once",
    "looking ahead",
    "anchored to the start",
    "following the flow",
    "field and constraint split",
    "entropic steps",
    "best responses and regrets",
    "stochastic",
    "the local game solved",
)
"""The families of rules, in the order in which names and tables show them."""

NEEDS = (
    "two players",
    "zero-sum",
    "simplex",
    "finite sum",
    "constraints",
    "independent batches",
)
"""What a rule may need of a game, in words.

- two players, zero-sum: as they say;
- simplex: every player has a probability simplex;
- finite sum: the field is a mean over components, and batches are arrays of their
  indices (`num_components` says how many there are);
- constraints: inequality constraints, given as a function (`constraints`);
- independent batches: makes a difference only where batches differ.
"""


class RuleEntry(NamedTuple):
    """A registered rule.

    Attributes:
        family: the family of rules it belongs to, a few words.
        make: `make(step_size, num_players=2, geometry=euclidean, **options) -> Rule`.
        summary: one line in words.
        formula: the update in one line.
        source: authors, year, arXiv id.
        evaluations: joint field evaluations per step, given the number of scalar
            parameters of all players; evaluations on the whole of a finite sum are
            counted as they amortise over the steps.
        geometries: the kinds of geometry on which the rule is defined.
        num_players: the number of players it is for; any if `None`.
        on_simplex: whether it takes its own entropic steps, hence is for games whose
            every player has a simplex.
        products: products of the field's Jacobian, or its transpose, with a vector, per
            step.
        flops: floating-point operations per step on a game of two networks, in units
            of one joint gradient; of an inner loop one iteration is counted, and new
            snapshots of finite sums are not. NaN where dense matrices of all parameters
            make it no multiple of a gradient.
        needs: what it needs of a game, words of `NEEDS`.
        guarantee: what is proven of it, in one line.
    """

    family: str
    make: Callable[..., Rule]
    summary: str
    formula: str
    source: str
    evaluations: Callable[[int], int]
    geometries: tuple[str, ...]
    num_players: int | None = None
    on_simplex: bool = False
    products: int = 0
    flops: float = 1.0
    needs: tuple[str, ...] = ()
    guarantee: str = ""

    @property
    def takes_transformation(self) -> bool:
        """Whether `transformation` and a step size for each player may be given."""
        return "transformation" in inspect.signature(self.make).parameters


REGISTRY: Registry[RuleEntry] = Registry("rule", FAMILIES, beside=FIELDS)


def names() -> tuple[str, ...]:
    """The names of all registered rules, in the order of their families."""
    return REGISTRY.names()


def entries() -> dict[str, RuleEntry]:
    """All registered rules by name, in the order of `FAMILIES`; others come last."""
    return REGISTRY.entries()


def entry(name: str) -> RuleEntry:
    """Look a rule up; an unknown name raises `ValueError` with the nearest ones."""
    return REGISTRY[name]


def make(
    name: str,
    step_size: Any,
    *,
    num_players: int = 2,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
    **options: Any,
) -> Rule:
    """Build a registered rule from one positive number.

    Args:
        name: a name from `names()`; hyphens are accepted.
        step_size: the step size, may be traced; for rules that take a transformation
            also a tuple, one for each player (two time scales).
        num_players: the number of players.
        geometry: one for all players, or a tuple of one each.
        **options: further arguments of the rule's builder; `transformation`, for rules
            that take one: the function of a step size that takes the place of plain
            steps, `functools.partial(optax.adam, b1=0.5)` say; `num_components` for
            rules on finite sums, `constraints` for those that need them.

    Returns:
        The rule.

    Raises:
        TypeError: if the step size is no number; a schedule is one where the rule takes
            transformations.
        ValueError: if the name is unknown, a known step size is not positive and
            finite, the rule is not for that many players, not
            defined on that geometry, owns its steps and is given a transformation or
            a tuple of step sizes, or needs the components of a finite sum or
            constraints and is given none.

    Example:
        >>> import gamedyn as gd
        >>> rule = gd.rules.make("extragradient", 0.1)
    """
    rule = entry(name)
    if rule.num_players not in (None, num_players):
        raise ValueError(f"{name} is for {rule.num_players} players, got {num_players}")
    if not rule.takes_transformation and (
        "transformation" in options or isinstance(step_size, tuple)
    ):
        raise ValueError(
            f"{name} owns its steps: expected one step size and no transformation"
        )
    check_steps(step_size, name, schedules=rule.takes_transformation)
    return rule.make(step_size, num_players=num_players, geometry=geometry, **options)


def check_steps(step_size: Any, name: str, *, schedules: bool) -> None:
    """Check a step size, or a tuple of them, before a method is made of it.

    Args:
        step_size: what to check.
        name: the method, for messages.
        schedules: whether schedules, functions of the number of steps, are allowed.

    Raises:
        TypeError: if one is no real scalar.
        ValueError: if one is known and not positive and finite.
    """
    for one in step_size if isinstance(step_size, tuple) else (step_size,):
        if schedules and callable(one):
            continue
        if not is_real_scalar(one):
            raise TypeError(
                f"the step size of {name} must be a positive number, got {one!r}"
            )
        if is_known(one) and not 0 < float(one) < math.inf:
            raise ValueError(
                f"the step size of {name} must be positive and finite, got {one}"
            )


def register(
    name: str,
    make: Callable[..., Rule] | None = None,
    *,
    family: str,
    summary: str,
    formula: str,
    source: str,
    guarantee: str,
    evaluations: int | Callable[[int], int] = 1,
    geometries: tuple[str, ...] = ANY,
    num_players: int | None = None,
    on_simplex: bool = False,
    products: int = 0,
    flops: float | None = None,
    needs: tuple[str, ...] = (),
) -> Any:
    """Add a rule to the registry: one call beside its builder, or a decorator.

    The facts are those of `RuleEntry`, given by keyword. `from_transformations` and
    `owned`, here, and the functions of `combinations` make a `make` of a builder.

    Args:
        name: the name, in snake case.
        make: `make(step_size, num_players=2, geometry=euclidean, **options) -> Rule`;
            if `None`, the function that is decorated.
        family: one of `FAMILIES`, or another, which `names` puts last.
        summary: one line in words.
        formula: the update in one line.
        source: authors, year, arXiv id.
        guarantee: what is proven, in one line.
        evaluations: joint field evaluations per step, a number or a function of the
            number of scalar parameters.
        geometries: the kinds of geometry on which the rule is defined.
        num_players: the number of players it is for; any if `None`.
        on_simplex: whether every player needs a simplex.
        products: products with the field's Jacobian or its transpose, per step.
        flops: operations per step in units of one joint gradient; the number of
            evaluations if `None`.
        needs: words of `NEEDS`; "two players" and "simplex" are added where
            `num_players` and `on_simplex` say so.

    Returns:
        `make`, unchanged, or the decorator.

    Raises:
        TypeError: if `make` is not a function.
        ValueError: if a rule, field or method has the name, a need is not one of
            `NEEDS`, a geometry no kind of geometry, or the evaluations are not
            positive.

    Example:
        >>> import gamedyn as gd
        >>> make = gd.rules.register(
        ...     "halved",
        ...     lambda step_size, **options: gd.rules.make(
        ...         "simultaneous", step_size / 2, **options
        ...     ),
        ...     family="moves in turn or at once",
        ...     summary="simultaneous steps of half the size",
        ...     formula="z' = z - h/2 F(z)",
        ...     source="an example",
        ...     guarantee="that of simultaneous steps",
        ... )
        >>> "halved" in gd.rules.names()
        True
        >>> gd.rules.unregister("halved")
    """
    check_words(f"{name} needs", needs, NEEDS, "NEEDS")
    check_words(f"{name} is for the geometries", geometries, ANY, "the kinds")
    if not callable(evaluations):
        check_positive_integer(f"the evaluations of {name}", evaluations)
    count = evaluations if callable(evaluations) else _always(evaluations)
    if num_players == 2:
        needs = ("two players", *needs)
    if on_simplex:
        needs = (*needs, "simplex")

    def describe(make: Callable[..., Rule]) -> RuleEntry:
        return RuleEntry(
            family=family,
            make=make,
            summary=summary,
            formula=formula,
            source=source,
            evaluations=count,
            geometries=geometries,
            num_players=num_players,
            on_simplex=on_simplex,
            products=products,
            flops=float(count(1) if flops is None else flops),
            needs=needs,
            guarantee=guarantee,
        )

    return REGISTRY.register(name, describe, make)


@functools.cache
def _always(count: int) -> Callable[[int], int]:
    """The same count for all sizes."""
    return lambda size: count


def unregister(name: str) -> None:
    """Take a rule out of the registry; an unknown name raises `ValueError`."""
    REGISTRY.remove(name)


def each(transformation: Callable[..., Any], step_size: Any) -> tuple[Any, ...]:
    """Make one transformation for all players, or one for each step size."""
    sizes = step_size if isinstance(step_size, tuple) else (step_size,)
    return tuple(map(transformation, sizes))


def from_transformations(
    builder: Callable[..., Rule],
    plain: Callable[[Any], Any] = optax.sgd,
    **fixed: Any,
) -> Callable[..., Rule]:
    """Let one positive number make a rule from transformations.

    Args:
        builder: `builder(*optimizers, geometry=..., **options) -> Rule`.
        plain: the function of a step size that makes the transformation, where a user
            gives no other.
        **fixed: options of the builder that this entry sets; a user may override them.

    Returns:
        A `make` for `register`, which takes any transformation, and one step size for
        all players or a tuple of one each.

    Example:
        >>> import gamedyn as gd
        >>> make = from_transformations(gd.rules.extragradient, resample=True)
        >>> make(0.1).num_batches
        2
    """

    def make(
        step_size, *, num_players=2, geometry=euclidean, transformation=plain, **options
    ):
        del num_players
        steps = each(transformation, step_size)
        return builder(*steps, geometry=geometry, **{**fixed, **options})

    return make


def owned(builder: Callable[..., Rule], **fixed: Any) -> Callable[..., Rule]:
    """Let one positive number make a rule whose scheme owns its step.

    Args:
        builder: `builder(step_size, geometry=..., **options) -> Rule`.
        **fixed: options of the builder that this entry sets; a user may override them.

    Returns:
        A `make` for `register`, which takes one step size and no transformation.
    """

    def make(step_size, *, num_players=2, geometry=euclidean, **options):
        del num_players
        return builder(step_size, geometry=geometry, **{**fixed, **options})

    return make


if not TYPE_CHECKING:  # old names
    __getattr__ = forward(__name__, "gamedyn.rules.base", "gamedyn.rules.combinations")
