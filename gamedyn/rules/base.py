"""The protocol of an update rule, and what all rules share."""

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gamedyn._moved import forward
from gamedyn.checks import described, is_known, is_real_scalar
from gamedyn.fields import Field
from gamedyn.game import Batch, Params, PyTree, check_params
from gamedyn.geometry import Geometry, check_is_geometry, entropic, miss, per_player
from gamedyn.trees import flatten

RuleState = Any
Given = ParamSpec("Given")

# The kinds of geometry on which a scheme may be defined.
ANY = ("euclidean", "projected", "entropic")
PROJECTED = ("euclidean", "projected")
EUCLIDEAN = ("euclidean",)

# How far a start may be off the equations of its domain: a few roundings of float16.
_NEAR = 1e-3


def _params(params: Params, rule_state: RuleState) -> Params:
    del rule_state
    return params


class Rule(NamedTuple):
    """An update rule: a pair of pure functions, and what is known of them.

    A rule is a tuple of functions, hashable and static under jit; its step sizes may
    be traced values, so a sweep is a `vmap` over a function that builds the rule.

    Attributes:
        init: `init(params) -> rule_state`; copies, never aliases, the parameters.
        update: `update(field, params, rule_state, batches) -> (params, rule_state)`
            does one step; `batches` is a tuple of `num_batches` batches.
        num_batches: how many independent batches one step uses.
        output: `output(params, rule_state) -> params`, the point to report (an
            average, the slow weights); by default the current one.
        period: the number of steps after which the update map repeats.
        domain: `domain(params)`, a boolean scalar, says whether a run may start there;
            anywhere if `None`. Under jit, where `init` cannot see the values, `solve`
            makes a status of it.
    """

    init: Callable[[Params], RuleState]
    update: Callable[[Field, Params, RuleState, tuple[Batch, ...]], Any]
    num_batches: int = 1
    output: Callable[[Params, RuleState], Params] = _params
    period: int = 1
    domain: Callable[[Params], jax.Array] | None = None


class StepCount(NamedTuple):
    """The state of a rule that remembers only the number of its steps.

    Attributes:
        num_steps: the number of steps done.
    """

    num_steps: jax.Array


class InnerSolve(NamedTuple):
    """The report of an implicit rule on its inner solver, a node of its state.

    Attributes:
        residual: the residual the last inner solve ended with, a scalar.
        inner_steps: the number of inner steps it took.
        failed: whether any inner solve so far missed its tolerance; `solve` turns
            this into `Status.INNER_SOLVER`.
    """

    residual: jax.Array
    inner_steps: jax.Array
    failed: jax.Array


def build(
    init: Callable[[Params], RuleState],
    update: Callable[[Field, Params, RuleState, tuple[Batch, ...]], Any],
    *,
    num_batches: int = 1,
    output: Callable[[Params, RuleState], Params] = _params,
    period: int = 1,
    domain: Callable[[Params], jax.Array] | None = None,
) -> Rule:
    """Make a `Rule` whose functions check what they are given.

    Args:
        init: receives a private copy of the parameters, which it may store.
        update: receives exactly `num_batches` batches.
        num_batches: see `Rule`.
        output: see `Rule`.
        period: see `Rule`.
        domain: see `Rule`.

    Returns:
        The rule. Its `init` raises `TypeError` for parameters that are not a tuple of
        floating-point pytrees, its `update` raises `ValueError` when the number of
        batches is wrong.
    """

    def checked_init(params: Params) -> RuleState:
        check_params(params)
        return init(jax.tree.map(jnp.copy, params))

    def checked_update(
        field: Field,
        params: Params,
        rule_state: RuleState,
        batches: tuple[Batch, ...],
    ) -> tuple[Params, RuleState]:
        if type(batches) is not tuple or len(batches) != num_batches:
            got = len(batches) if type(batches) is tuple else type(batches).__name__
            raise ValueError(
                f"this rule takes a tuple of {num_batches} independent batches per "
                f"step, got {got}"
            )
        return update(field, params, rule_state, batches)

    return Rule(checked_init, checked_update, num_batches, output, period, domain)


class Stepper(NamedTuple):
    """The transformation and geometry of every player: how a direction moves a point.

    Attributes:
        optimizers: one optax transformation for all players, or one each.
        geometry: one geometry for all players, or a tuple of one each.
    """

    optimizers: tuple[optax.GradientTransformation, ...]
    geometry: Geometry | tuple[Geometry, ...]

    @property
    def domain(self) -> Callable[[Params], jax.Array] | None:
        """Where a run may start: on their domain, whoever's steps are entropic."""
        geometry = self.geometry
        each: Any = geometry if type(geometry) is tuple else (geometry,)
        if "entropic" not in [one.kind for one in each]:
            return None

        def inside(params: Params) -> jax.Array:
            domains = per_player(geometry, len(params), "geometry")
            pairs = zip(domains, params, strict=True)
            return _inside([(own, g) for g, own in pairs if g.kind == "entropic"])

        return inside

    def init(self, params: Params) -> tuple[Any, ...]:
        """Initialise every player's own transformation state.

        Raises:
            ValueError: if a player whose steps are entropic starts, as far as can be
                seen outside jit, off their domain or on its boundary.
        """
        optimizers = per_player(self.optimizers, len(params), "optimizer")
        domains = per_player(self.geometry, len(params), "geometry")
        for player, (domain, own) in enumerate(zip(domains, params, strict=True)):
            if domain.kind == "entropic":
                check_start(player, own, domain, "an entropic step", inside=True)
        return tuple(
            optimizer.init(own)
            for optimizer, own in zip(optimizers, params, strict=True)
        )

    def update(
        self, player: int, direction: PyTree, state: Any, base: Params
    ) -> tuple[PyTree, Any]:
        """Transform one player's direction into an update of their point.

        Args:
            player: who moves.
            direction: that player's component of the field.
            state: that player's transformation state.
            base: all players' base points, from which this step starts.

        Returns:
            The update, to be added, and the new transformation state.

        Raises:
            TypeError: if the transformation needs more than the direction, such as
                the value of a loss.
        """
        optimizer = per_player(self.optimizers, len(base), "optimizer")[player]
        try:
            return optimizer.update(direction, state, base[player])
        except TypeError as error:
            if "keyword-only argument" not in str(error):
                raise
            raise TypeError(
                f"the transformation of player {player} needs the value of a loss, "
                f"which a game does not have ({error})"
            ) from error

    def updates(
        self, directions: Params, states: tuple[Any, ...], base: Params
    ) -> tuple[Params, tuple[Any, ...]]:
        """Transform the directions of all players at once; see `update`."""
        pairs = [
            self.update(player, direction, state, base)
            for player, (direction, state) in enumerate(
                zip(directions, states, strict=True)
            )
        ]
        return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)

    def apply_one(self, player: int, params: Params, update: PyTree) -> PyTree:
        """Move one player by an update, on their own domain."""
        geometry = per_player(self.geometry, len(params), "geometry")[player]
        return geometry.apply(params[player], update)

    def apply(self, params: Params, updates: Params) -> Params:
        """Move all players at once."""
        return apply_updates(self.geometry, params, updates)


def stepper(
    optimizers: tuple[Any, ...],
    geometry: Any,
    *,
    supports: tuple[str, ...] = ANY,
    rule: str = "this rule",
) -> Stepper:
    """Check transformations and geometry when a rule is built, and bundle them.

    Args:
        optimizers: one optax transformation for all players, or one each.
        geometry: one geometry for all players, or a tuple of one each.
        supports: the kinds of geometry for which the scheme makes sense.
        rule: the name of the rule, for error messages.

    Returns:
        The bundle.

    Raises:
        TypeError: if an optimizer is not an optax transformation, or a geometry not a
            `Geometry`.
        ValueError: if no optimizer is given, or the scheme does not work on that
            geometry.
    """
    if not optimizers:
        raise ValueError(f"{rule} needs an optax transformation, got none")
    for optimizer in optimizers:
        hint = ""
        if isinstance(optimizer, Rule):
            hint = ": rules of rules are lookahead, averaged, restarted and anderson"
        elif hasattr(optimizer, "init") and hasattr(optimizer, "update"):
            continue
        elif type(optimizer) in (tuple, list):
            hint = f": one argument for each player, as in {rule}(*optimizers)"
        elif isinstance(optimizer, Geometry):
            hint = ": a geometry is given by name, geometry=..."
        elif callable(optimizer):
            hint = ": call it, with its step size"
        raise TypeError(
            f"{rule} takes optax transformations such as optax.sgd(0.1), "
            f"got {described(optimizer)}{hint}"
        )
    check_geometry(geometry, supports, rule)
    return Stepper(tuple(optimizers), geometry)


def check_rule(rule: Any, name: str = "") -> None:
    """Check that what a function takes for a rule is one.

    Args:
        rule: what was given.
        name: the function, for the message, if it is not the only one that takes rules.

    Raises:
        TypeError: if it is anything else; the message says how a rule is made of it.
    """
    if isinstance(rule, Rule):
        return
    if isinstance(rule, str):
        hint = f": gamedyn.rules.make({rule!r}, step_size) makes one of a name"
    elif hasattr(rule, "init") and hasattr(rule, "update"):
        hint = ": gamedyn.simultaneous(optimizer) makes a Rule of an optimizer"
    else:
        hint = ": one is gamedyn.extragradient(optax.sgd(0.1)), say"
    expected = f"{name} takes a Rule" if name else "expected a Rule"
    raise TypeError(f"{expected}, got {described(rule)}{hint}")


def of_a_rule(make: Callable[Given, Rule]) -> Callable[Given, Rule]:
    """Have a function that takes a rule first check it, before its other arguments.

    Raises:
        TypeError: when it is called with anything else.
    """

    @functools.wraps(make)
    def checked(*args: Given.args, **options: Given.kwargs) -> Rule:
        for rule in args[:1]:
            check_rule(rule, make.__name__)
        return make(*args, **options)

    return checked


def check_geometry(geometry: Any, supports: tuple[str, ...], rule: str) -> None:
    """Check that a scheme makes sense on the geometry it is given.

    Raises:
        TypeError: if it is not a `Geometry` or a tuple of them.
        ValueError: if its kind is not among those supported.
    """
    for one in geometry if type(geometry) is tuple else (geometry,):
        check_is_geometry(one, f"{rule} takes a Geometry")
        if one.kind not in supports:
            raise ValueError(
                f"{rule} is not defined on {one.kind} geometry, "
                f"only on {' or '.join(supports)}"
            )


class OnBoundary(ValueError):
    """A start that multiplicative steps cannot leave: some share is zero."""


def check_start(
    player: int, point: PyTree, geometry: Geometry, rule: str, *, inside: bool = False
) -> None:
    """Raise `ValueError` if a player's point is known and off their domain.

    Args:
        player: who, for the message.
        point: their parameters.
        geometry: the domain, of points without negative entries.
        rule: the rule, for the message.
        inside: whether every share has to be positive; if one is zero, the error is
            `OnBoundary`.
    """
    leaves = jax.tree.leaves(point)
    if not all(map(is_known, leaves)):
        return
    arrays = [np.asarray(leaf) for leaf in leaves]
    smallest = min(float(leaf.min(initial=np.inf)) for leaf in arrays)
    if geometry.miss is entropic.miss:  # without compiling anything
        total = sum(float(leaf.astype(float).sum()) for leaf in arrays)
        off, seen, equations = abs(total - 1), f"{total:.6g} as the sum", "sum to 1"
    else:
        off = float(_miss(point, geometry))
        seen = f"its equations off by {off:.3g}"
        equations = "fulfil the equations"
    if smallest < 0 or off > _NEAR:  # NaN is neither, a run says so itself
        raise ValueError(
            f"{rule} moves on the {geometry.domain}: player {player} starts with "
            f"{smallest:.3g} as the smallest entry and {seen}, expected a point of the "
            f"{geometry.domain}, positive entries that {equations}"
        )
    if inside and smallest == 0:
        raise OnBoundary(
            f"{rule} multiplies shares, and a share of 0 stays 0: player {player} "
            f"starts with such a share, expected positive entries that {equations}"
        )


def on_simplices(params: Params) -> jax.Array:
    """Whether every player is on the probability simplex, as `check_start`."""
    return _inside([(own, entropic) for own in params])


def _inside(pairs: list[tuple[PyTree, Geometry]]) -> jax.Array:
    """Whether points without negative entries fulfil the equations of their domains."""
    inside = jnp.array(True)
    for own, geometry in pairs:
        own = jax.tree.map(jnp.asarray, own)
        inside &= jnp.min(flatten(own), initial=0) >= 0
        inside &= miss(own, geometry) <= _NEAR
    return inside


_miss = jax.jit(miss, static_argnums=1)


def check_step_size(step_size: Any, rule: str) -> None:
    """Check the step size of a scheme that owns its step: one positive number.

    Raises:
        TypeError: if it is an optax transformation, a schedule, or no real scalar.
        ValueError: if it is known and not positive and finite.
    """
    if not is_real_scalar(step_size):
        raise TypeError(
            f"{rule} owns its step: it takes one positive number, not an optax "
            f"transformation or schedule, got {type(step_size).__name__}"
        )
    if is_known(step_size) and not 0 < float(step_size) < math.inf:
        raise ValueError(f"{rule} needs a positive step size, got {step_size}")


def check_players(params: Params, expected: int, rule: str) -> None:
    """Raise `ValueError` unless there are as many players as a rule is for."""
    if len(params) != expected:
        raise ValueError(f"{rule} is for {expected} players, got {len(params)}")


def project(geometry: Geometry | tuple[Geometry, ...], params: Params) -> Params:
    """Project all players' points, each onto their own domain."""
    domains = per_player(geometry, len(params), "geometry")
    return tuple(d.project(own) for d, own in zip(domains, params, strict=True))


def projected_output(
    geometry: Geometry | tuple[Geometry, ...],
) -> Callable[[Params, RuleState], Params]:
    """Report the projected point, for schemes whose iterates may leave the domain."""

    def output(params: Params, rule_state: RuleState) -> Params:
        del rule_state
        return project(geometry, params)

    return output


def initial_state(rule: Rule, params: Params) -> RuleState:
    """Initialise a rule at a point to be analysed, from which no run starts.

    It may be a vertex of a simplex, where multiplicative steps are defined, too.
    """
    try:
        return rule.init(params)
    except OnBoundary:
        return jax.jit(rule.init)(params)  # which does not see the values


def apply_updates(
    geometry: Geometry | tuple[Geometry, ...], params: Params, updates: Params
) -> Params:
    """Move all players by their updates, each on their own domain."""
    domains = per_player(geometry, len(params), "geometry")
    return tuple(
        domain.apply(point, update)
        for domain, point, update in zip(domains, params, updates, strict=True)
    )


if not TYPE_CHECKING:  # old names
    __getattr__ = forward(__name__, "gamedyn.trees")
