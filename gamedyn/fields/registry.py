"""The registry of fields: how one positive number makes each of them, and its facts."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from gamedyn.checks import check_words
from gamedyn.game import Game
from gamedyn.registry import Registry

if TYPE_CHECKING:
    from gamedyn.fields.base import Field

FAMILIES = (
    "gradient",
    "corrected by the Jacobian",
    "the local game solved",
    "opponents foreseen",
    "inverse curvature",
)
"""The families of fields, in the order in which names and tables show them."""

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
    make: Callable[..., "Field"]
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

    def misfit(self, game: Game) -> str | None:
        """Say why the field is not defined on a game.

        Args:
            game: the game.

        Returns:
            The end of a sentence on the field, or `None` where it is defined.
        """
        if "zero-sum" in self.needs and not game.zero_sum:
            return "is for zero-sum games of two players, and this game is not one"
        if "two players" in self.needs and game.num_players != 2:
            return f"is for 2 players, this game has {game.num_players}"
        if "several players" in self.needs and game.num_players < 2:
            return "is for several players, this game has one"
        return None

    def cost(self, size: int, *, zero_sum: bool = False) -> float:
        """Count an evaluation in joint gradients, every turn of an inner loop.

        Args:
            size: the number of scalar parameters of all players.
            zero_sum: whether the game is known to be zero-sum, of two players.
        """
        work = self.work if zero_sum or self.general is None else self.general
        turns = 1 if self.turns is None else self.turns(size)
        return work.flops + work.inner * (turns - 1)


REGISTRY: Registry[FieldEntry] = Registry("field", FAMILIES)


def names() -> tuple[str, ...]:
    """The names of all registered fields, in the order of their families."""
    return REGISTRY.names()


def entries() -> dict[str, FieldEntry]:
    """All registered fields by name, in the order of `FAMILIES`; others come last."""
    return REGISTRY.entries()


def entry(name: str) -> FieldEntry:
    """Look a field up; an unknown name raises `ValueError` with the nearest ones."""
    return REGISTRY[name]


def make(name: str, game: Game, step_size: Any = 0.1, **options: Any) -> "Field":
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
    field = entry(name)
    reason = field.misfit(game)
    if reason is not None:
        raise ValueError(f"the field {name!r} {reason}")
    return field.make(game, step_size, **options)


def register(
    name: str,
    make: Callable[..., "Field"] | None = None,
    *,
    family: str,
    summary: str,
    formula: str,
    source: str,
    guarantee: str,
    work: float | Work,
    general: float | Work | None = None,
    gradients: int = 1,
    products: int = 0,
    turns: Callable[[int], int] | None = None,
    needs: tuple[str, ...] = (),
) -> Any:
    """Add a field to the registry: one call beside its builder, or a decorator.

    The facts are those of `FieldEntry`, given by keyword.

    Args:
        name: the name, in snake case.
        make: `make(game, step_size, **options) -> Field`, which `without_step` makes of
            a builder without a step size; if `None`, the function that is decorated.
        family: one of `FAMILIES`, or another, which `names` puts last.
        summary: one line in words.
        formula: the field in one line.
        source: authors, year, arXiv id.
        guarantee: what is known of it, in one line.
        work: what it costs in a zero-sum game of two, in joint gradients; a `Work`
            where it has an inner loop.
        general: what it costs in a general-sum game, where that differs.
        gradients: evaluations of the joint gradient, of an inner loop those of one
            turn.
        products: products with J or its transpose, or halves of them, likewise.
        turns: the turns of the inner loop in a game of so many scalar parameters.
        needs: words of `NEEDS`.

    Returns:
        `make`, unchanged, or the decorator.

    Raises:
        TypeError: if `make` is not a function.
        ValueError: if a rule, field or method has the name, or a need is not one of
            `NEEDS`.
    """
    check_words(f"{name} needs", needs, NEEDS, "NEEDS")

    def describe(make: Callable[..., "Field"]) -> FieldEntry:
        return FieldEntry(
            family=family,
            make=make,
            summary=summary,
            formula=formula,
            source=source,
            gradients=gradients,
            products=products,
            work=_work(work),
            needs=needs,
            guarantee=guarantee,
            general=None if general is None else _work(general),
            turns=turns,
        )

    return REGISTRY.register(name, describe, make)


def unregister(name: str) -> None:
    """Take a field out of the registry; an unknown name raises `ValueError`."""
    REGISTRY.remove(name)


def _work(work: float | Work) -> Work:
    return work if isinstance(work, Work) else Work(float(work))


def without_step(builder: Callable[..., "Field"], **fixed: Any) -> Callable[..., Any]:
    """Make the field of a builder that takes no step size.

    Args:
        builder: `builder(game, **options) -> Field`.
        **fixed: options of the builder that this entry sets; a user may override them.

    Returns:
        A `make` for `register`.
    """

    def make(game, step_size=None, **options):
        del step_size
        return builder(game, **{**fixed, **options})

    return make


def krylov_turns(size: int) -> int:
    """Count the turns of an exact Krylov method: the unknowns, at most 100."""
    return max(1, min(size, 100))
