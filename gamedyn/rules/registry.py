"""The registry of rules: what is known of each, and how one number makes it."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from gamedyn.checks import is_known
from gamedyn.geometry import Geometry, entropic, euclidean
from gamedyn.registry import Registry
from gamedyn.rules.base import Rule, is_real_scalar

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
        takes_transformation: whether `transformation` and a tuple of step sizes, one
            for each player, may be given to `make`.
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
    takes_transformation: bool = False
    products: int = 0
    flops: float = 1.0
    needs: tuple[str, ...] = ()
    guarantee: str = ""


_REGISTRY: Registry[RuleEntry] = Registry("rule")


def names() -> tuple[str, ...]:
    """The names of all registered rules."""
    return _REGISTRY.names()


def entries() -> dict[str, RuleEntry]:
    """All registered rules by name."""
    return {name: _REGISTRY[name] for name in _REGISTRY}


def entry(name: str) -> RuleEntry:
    """Look a rule up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


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
    found = entry(name)
    if found.num_players not in (None, num_players):
        raise ValueError(
            f"{name} is for {found.num_players} players, got {num_players}"
        )
    if not found.takes_transformation and (
        "transformation" in options or isinstance(step_size, tuple)
    ):
        raise ValueError(
            f"{name} owns its steps: expected one step size and no transformation"
        )
    check_steps(step_size, name, schedules=found.takes_transformation)
    return found.make(step_size, num_players=num_players, geometry=geometry, **options)


def check_steps(step_size: Any, name: str, *, schedules: bool) -> None:
    """Check a step size, or a tuple of them, before a method is made of it.

    Args:
        step_size: what to check.
        name: the method, for messages.
        schedules: whether functions of the step's number will do.

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


def options_for(name: str, num_components: int | None) -> dict[str, Any]:
    """The options that a rule must be given for a problem of so many components."""
    if "finite sum" in entry(name).needs:
        return {"num_components": num_components}
    return {}


ANY = ("euclidean", "projected", "entropic")
PROJECTED = ("euclidean", "projected")
EUCLIDEAN = ("euclidean",)


def register(
    name: str,
    family: str,
    make: Callable[..., Rule],
    summary: str,
    formula: str,
    source: str,
    evaluations: int | Callable[[int], int] = 1,
    geometries: tuple[str, ...] = ANY,
    num_players: int | None = None,
    on_simplex: bool = False,
    *,
    guarantee: str,
    products: int = 0,
    flops: float | None = None,
    needs: tuple[str, ...] = (),
) -> None:
    """Add a rule to the registry; see `RuleEntry`.

    `flops` is the number of evaluations if not given. The needs that follow from
    `num_players` and `on_simplex` are added.

    Raises:
        ValueError: if the name is taken, or a need is not one of `NEEDS`.
    """
    count = evaluations if callable(evaluations) else lambda size: evaluations
    if num_players == 2:
        needs = ("two players", *needs)
    if on_simplex:
        needs = (*needs, "simplex")
    if unknown := set(needs) - set(NEEDS):
        raise ValueError(f"{name} needs {', '.join(sorted(unknown))}: not among NEEDS")
    _REGISTRY.add(
        name,
        RuleEntry(
            family,
            make,
            summary,
            formula,
            source,
            count,
            geometries,
            num_players,
            on_simplex,
            "transformation" in inspect.signature(make).parameters,
            products,
            float(count(1) if flops is None else flops),
            needs,
            guarantee,
        ),
    )


def unregister(name: str) -> None:
    """Take a rule out of the registry; an unknown name raises `ValueError`."""
    _REGISTRY.remove(name)


def each(transformation: Callable[..., Any], step_size: Any) -> tuple[Any, ...]:
    """Make one transformation for all players, or one for each step size."""
    sizes = step_size if isinstance(step_size, tuple) else (step_size,)
    return tuple(map(transformation, sizes))


def from_transformations(
    builder: Callable[..., Rule],
    plain: Callable[[Any], Any] = optax.sgd,
    **fixed: Any,
) -> Callable[..., Rule]:
    """Make a rule from transformations, by default plain steps of one size."""

    def make(
        step_size, *, num_players=2, geometry=euclidean, transformation=plain, **options
    ):
        del num_players
        steps = each(transformation, step_size)
        return builder(*steps, geometry=geometry, **{**fixed, **options})

    return make


def owned(builder: Callable[..., Rule], **fixed: Any) -> Callable[..., Rule]:
    """Make a rule whose scheme owns its step."""

    def make(step_size, *, num_players=2, geometry=euclidean, **options):
        del num_players
        return builder(step_size, geometry=geometry, **{**fixed, **options})

    return make


def wrapped(
    wrapper: Callable[..., Rule], inner: Callable[..., Rule], **fixed: Any
) -> Callable[..., Rule]:
    """Wrap a rule whose scheme owns its step."""

    def make(step_size, *, num_players=2, geometry=euclidean, **options):
        made = inner(step_size, num_players=num_players, geometry=geometry)
        return wrapper(made, **{**fixed, **options})

    return make


def wrapped_from_transformations(
    wrapper: Callable[..., Rule], builder: Callable[..., Rule], **fixed: Any
) -> Callable[..., Rule]:
    """Wrap a rule made from transformations."""

    def make(
        step_size,
        *,
        num_players=2,
        geometry=euclidean,
        transformation=optax.sgd,
        **options,
    ):
        del num_players
        made = builder(*each(transformation, step_size), geometry=geometry)
        return wrapper(made, **{**fixed, **options})

    return make


def on_simplices(builder: Callable[..., Rule], **fixed: Any) -> Callable[..., Rule]:
    """Make a rule that is defined by its entropic steps, whatever the geometry."""

    def make(step_size, *, num_players=2, geometry=entropic, **options):
        del num_players, geometry
        return builder(optax.sgd(step_size), geometry=entropic, **{**fixed, **options})

    return make
