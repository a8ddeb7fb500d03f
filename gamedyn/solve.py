"""Run a rule on a game: the only loops over steps in the library."""

import enum
import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import (
    check_function,
    check_key,
    check_positive,
    check_positive_integer,
    described,
    dtype_of,
    is_known,
)
from gamedyn.fields import Field, as_field
from gamedyn.game import (
    Batch,
    Game,
    Params,
    PyTree,
    check_losses,
    check_params,
    is_stochastic,
)
from gamedyn.geometry import Geometry, euclidean, natural_residual
from gamedyn.loops import bounded_while
from gamedyn.rules.base import InnerSolve, Rule, RuleState, check_rule
from gamedyn.trees import select

_MOST_STEPS = 2**31 - 1  # steps are counted in int32
_BLOCK = 100  # steps between two tests for finiteness
_DRAW_AHEAD_BYTES = 2**20  # batches of a block are drawn at once up to this size


class Status(enum.IntEnum):
    """How a computation ended; held as an int32 array, `message` says it in words."""

    OK = 0
    CONVERGED = 1
    MAX_STEPS = 2
    NON_FINITE = 3
    INNER_SOLVER = 4
    NOT_DIFFERENTIABLE = 5
    NOT_AUTONOMOUS = 6
    INFEASIBLE = 7

    @property
    def message(self) -> str:
        """One sentence for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.OK: "all steps were done",
    Status.CONVERGED: "the residual reached the tolerance",
    Status.MAX_STEPS: "the residual did not reach the tolerance in the steps allowed",
    Status.NON_FINITE: "the run became non-finite; the last finite block is kept",
    Status.INNER_SOLVER: "an inner solver missed its tolerance",
    Status.NOT_DIFFERENTIABLE: "the update map has no finite Jacobian at this point",
    Status.NOT_AUTONOMOUS: "the update map changes from step to step",
    Status.INFEASIBLE: "the point lies outside the players' domains",
}


class Solution(NamedTuple):
    """Where a run ended.

    Attributes:
        params: the last finite point, one pytree per player.
        output: the point the rule reports (an average, the slow weights, or `params`).
        rule_state: the rule's state; with `start=num_steps` it continues the run.
        trace: what `record` returned, stacked along a leading axis, or `None`. Rows of
            blocks after a run became non-finite are NaN (zero where not floating).
        status: a `Status`, as an int32 array.
        num_steps: the number of steps behind `params`, counted from step 0.
    """

    params: Params
    output: Params
    rule_state: RuleState
    trace: PyTree
    status: jax.Array
    num_steps: jax.Array


def solve(
    game_or_field: Game | Field,
    rule: Rule,
    params: Params,
    num_steps: int,
    *,
    key: jax.Array | None = None,
    sample: Callable[[jax.Array], Batch] | None = None,
    record: Callable[[Params, RuleState, tuple[Batch, ...], jax.Array], PyTree]
    | None = None,
    every: int = 1,
    rule_state: RuleState | None = None,
    start: int | jax.Array = 0,
) -> Solution:
    """Run a rule for `num_steps` steps, in one scan.

    A plain traceable function: call it under `jax.jit` (an eager call retraces each
    time), map it with `gamedyn.sweep`. Evaluation j of step k draws its batch from
    `split(fold_in(key, k), num_batches)[j]`, so a continued run draws what the
    uninterrupted one drew. Finiteness is tested once per block of about 100 steps (of
    `every` steps, where that is more): a block that ends non-finite leaves the run at
    the block's start. Both derivative modes work; a gradient through such a run is NaN.

    Args:
        game_or_field: a game, whose gradient field is descended, or any field.
        rule: the update rule.
        params: the start, a tuple with one floating-point pytree per player.
        num_steps: the number of steps, a static positive integer.
        key: a PRNG key, for stochastic games.
        sample: `sample(key) -> batch`; without it the batch is the key itself.
        record: `record(params, rule_state, batches, step) -> pytree`, called before
            the update, where losses computed from the same batch are shared with it.
        every: the number of steps between two records; must divide `num_steps`.
        rule_state: the state of a run to be continued, instead of `rule.init(params)`.
        start: the index of the first step, for a continued run.

    Returns:
        The solution, with status OK, NON_FINITE, INNER_SOLVER, or INFEASIBLE where the
        start is outside the rule's domain.

    Raises:
        ValueError: if `num_steps` or `every` is not a positive integer, `every` does
            not divide `num_steps`, or `sample` comes without a key.
        TypeError: if `params` is not a tuple of floating-point pytrees.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> rule = gd.optimistic(optax.sgd(0.3))
        >>> run = jax.jit(lambda z: gd.solve(game, rule, z, 200))
        >>> solution = run((jnp.array(1.0), jnp.array(1.0)))
        >>> gd.Status(int(solution.status)).name
        'OK'
    """
    # Check the arguments, and choose the size of a block.
    feasible, given = _feasible(rule, params, rule_state), rule_state
    field, params, rule_state = prepare(game_or_field, rule, params, rule_state)
    if given is not None:
        _check_state(rule, params, given)
    if key is None and sample is None:
        check_without_batch(game_or_field, params)
    check_positive_integer("num_steps", num_steps)
    check_positive_integer("every", every)
    if num_steps % every:
        raise ValueError(f"every={every} does not divide num_steps={num_steps}")
    size = _block_size(num_steps, every)
    stride = every if record is not None else None
    if record is not None:
        check_function("record", record, "params", "rule_state", "batches", "step")
    inputs, batches_at = _draw(key, sample, rule.num_batches, ahead=size)
    start = _first_step(start, num_steps)

    # Three nested scans: a block of segments, a segment of steps.
    def step(carry, x):
        params, state = carry
        return rule.update(field, params, state, batches_at(x)), None

    def segment(carry, x, length):
        """Record, then take `length` steps."""
        index, xs = x
        row = None
        if record is not None:
            params, state = carry
            first = jax.tree.map(lambda leaf: leaf[0], xs)
            row = _arrays(record(params, state, batches_at(first), index))
        return _scan(step, carry, xs, length)[0], row

    def block(carry, first_step, length):
        """Take `length` steps, a record every `stride` of them; keep them if finite."""
        current, done, alive = carry
        indices = first_step + jnp.arange(length, dtype=jnp.int32)
        each = stride or length
        xs = _fold((indices, inputs(indices)), length // each)
        xs = (xs[0][:, 0], xs[1])
        after, rows = _scan(lambda state, x: segment(state, x, each), current, xs)
        kept = alive & all_finite(after)
        rows = jax.tree.map(lambda row: _blank_unless(alive, row), rows)
        done = done + jnp.where(kept, length, 0)
        return (select(kept, after, current), done, kept), rows

    # All blocks, and a shorter one for the steps that are left over.
    num_blocks, rest = divmod(num_steps, size)
    carry = (params, rule_state), start, all_finite((params, rule_state))
    firsts = start + size * jnp.arange(num_blocks, dtype=jnp.int32)
    carry, trace = _scan(lambda c, first: block(c, first, size), carry, firsts)
    trace = _unfold(trace)
    if rest:
        carry, tail = block(carry, start + num_blocks * size, rest)
        trace = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), trace, tail)

    # The status: of several faults, the one that came first.
    (params, rule_state), done, alive = carry
    status = jnp.where(alive, inner_status(rule_state), Status.NON_FINITE)
    status = jnp.where(feasible, status, Status.INFEASIBLE)
    return _solution(rule, params, rule_state, trace, status, done)


def solve_until(
    game_or_field: Game | Field,
    rule: Rule,
    params: Params,
    *,
    tolerance: float | jax.Array,
    max_steps: int | jax.Array,
    residual: Callable[[Params, Params], jax.Array] | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
    check_every: int = 1,
    key: jax.Array | None = None,
    sample: Callable[[jax.Array], Batch] | None = None,
    rule_state: RuleState | None = None,
    start: int | jax.Array = 0,
) -> Solution:
    r"""Step until the natural residual $\|z - P(z - F(z))\|$ is at most `tolerance`.

    The residual is taken at the point before an update, where its field evaluation is
    shared with the step. Under `vmap` everyone waits for the slowest run: sweep it with
    `chunk=1`.

    Args:
        game_or_field: a game, whose gradient field is descended, or any field.
        rule: the update rule.
        params: the start, a tuple with one floating-point pytree per player.
        tolerance: the residual at which to stop, positive.
        max_steps: the number of steps after which to stop anyway.
        residual: `residual(params, direction) -> scalar` in place of the natural one,
            `direction` being the field at `params` with the step's first batch.
        geometry: the players' domains, for the natural residual.
        check_every: the number of steps between two checks.
        key: as in `solve`.
        sample: as in `solve`.
        rule_state: as in `solve`.
        start: as in `solve`.

    Returns:
        The solution, with status CONVERGED, MAX_STEPS, NON_FINITE, INNER_SOLVER or
        INFEASIBLE; no trace.

    Raises:
        ValueError: if `tolerance` is not positive, `max_steps` or `check_every` not a
            positive integer, or `sample` comes without a key.
        TypeError: if `params` is not a tuple of floating-point pytrees.
    """
    # Check the arguments.
    feasible, given = _feasible(rule, params, rule_state), rule_state
    field, params, rule_state = prepare(game_or_field, rule, params, rule_state)
    if given is not None:
        _check_state(rule, params, given)
    if key is None and sample is None:
        check_without_batch(game_or_field, params)
    check_positive("tolerance", tolerance)
    if is_known(max_steps):
        check_positive_integer("max_steps", max_steps)
    check_positive_integer("check_every", check_every)
    if residual is not None:
        check_function("residual", residual, "params", "direction")
    draw = _batches_of_step(key, sample, rule.num_batches)
    start = _first_step(start, max_steps)
    max_steps = jnp.minimum(jnp.asarray(max_steps, jnp.int32), _MOST_STEPS - start)
    last = start + max_steps

    # One round: measure the residual, then take `check_every` steps unless it is small.
    def measure(point, direction):
        if residual is not None:
            size = residual(point, direction)
            if jnp.shape(size) != ():
                raise ValueError(
                    f"residual must return a scalar, got {described(size)}"
                )
            return size
        return natural_residual(point, direction, geometry)

    def advance(carry):
        current, step, _ = carry
        direction = field(current[0], draw(step)[0])
        converged = measure(current[0], direction) <= tolerance

        def one_step(index, state):
            return rule.update(field, state[0], state[1], draw(index))

        ahead = step + jnp.minimum(check_every, last - step)
        if check_every == 1:
            after = one_step(step, current)
        else:
            after = jax.lax.fori_loop(step, ahead, one_step, current)
        finite = all_finite(after)
        moved = ~converged & finite
        status = jnp.where(converged, Status.CONVERGED, Status.OK)
        status = jnp.where(~converged & ~finite, Status.NON_FINITE, status)
        step = jnp.where(moved, ahead, step)
        return select(moved, after, current), step, status.astype(jnp.int32)

    # Rounds until one of them sets the status.
    healthy = jnp.where(all_finite((params, rule_state)), Status.OK, Status.NON_FINITE)
    carry = (params, rule_state), start, healthy.astype(jnp.int32)
    rounds = -(-max_steps // check_every)
    carry, _ = bounded_while(lambda c: c[2] == Status.OK, advance, carry, rounds)
    (params, rule_state), done, status = carry

    # The status; the residual at the very last point has not been measured yet.
    final = measure(params, field(params, draw(done)[0])) <= tolerance
    at_end = jnp.where(final, Status.CONVERGED, Status.MAX_STEPS)
    status = jnp.where(status == Status.OK, at_end, status)
    fault = inner_status(rule_state)
    status = jnp.where((status != Status.NON_FINITE) & (fault > 0), fault, status)
    status = jnp.where(feasible, status, Status.INFEASIBLE)
    return _solution(rule, params, rule_state, None, status, done)


def all_finite(tree: PyTree) -> jax.Array:
    """Whether every floating-point (or complex) entry of a pytree is finite."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    finite = jnp.array(True)
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            # One reduction; NaN fails the comparison, too.
            finite &= jnp.max(jnp.abs(leaf), initial=0) < jnp.inf
    return finite


def _feasible(rule: Rule, params: Params, rule_state: RuleState) -> jax.Array:
    """Whether a run starts where its rule is defined.

    True for a continued run, and for a start that is not finite, which has a status of
    its own.
    """
    domain = rule.domain if isinstance(rule, Rule) else None
    if rule_state is not None or domain is None:
        return jnp.array(True)
    check_params(params)
    params = jax.tree.map(jnp.asarray, params)
    return domain(params) | ~all_finite(params)


def prepare(
    game_or_field: Game | Field, rule: Rule, params: Params, rule_state: RuleState
) -> tuple[Field, Params, RuleState]:
    """Check the arguments of a run, and bring them into the form that its loop takes.

    Args:
        game_or_field: a game, whose gradient field is descended, or any field.
        rule: the update rule.
        params: the start, a tuple with one floating-point pytree per player.
        rule_state: the state of a run to be continued; `rule.init(params)` if `None`.

    Returns:
        The field, the parameters as arrays, and the rule's state.

    Raises:
        ValueError: if a game has another number of players than `params`.
        TypeError: if `rule` is no `Rule`, or `params` not a tuple of floating-point
            pytrees.
    """
    check_rule(rule)
    num_players = game_or_field.num_players if isinstance(game_or_field, Game) else None
    if isinstance(game_or_field, Game):
        check_losses(game_or_field)
    check_params(params, num_players)
    params = jax.tree.map(jnp.asarray, params)
    field = as_field(game_or_field)
    if not isinstance(game_or_field, Game | Partial):  # those of this package are
        field = _checked(field)
    state = rule.init(params) if rule_state is None else rule_state
    return field, params, state


def _check_state(rule: Rule, params: Params, rule_state: RuleState) -> None:
    """Check that the state of a continued run has the structure of this rule's.

    Raises:
        ValueError: if it has another.
    """
    expected = jax.tree.structure(jax.eval_shape(rule.init, params))
    if jax.tree.structure(rule_state) != expected:
        raise ValueError(
            "rule_state is not a state of this rule for these params: expected the "
            f"rule_state of a Solution, got {described(rule_state)}"
        )


def check_without_batch(
    game_or_field: Game | Field,
    params: Params,
    advice: str = "pass key=jax.random.key(0), and sample=, unless its batch is a key",
) -> None:
    """Check, where a run has no key, that a game made for batches does without.

    So does one whose losses at the batch `None` are a mean; and a function is evaluated
    once, since a loss is easily taken for a field. `advice` says what to pass.

    Raises:
        ValueError: if a stochastic game needs a batch.
        TypeError: if a function is no field.
    """
    game = isinstance(game_or_field, Game)
    if not (
        is_stochastic(game_or_field) if game else inspect.isfunction(game_or_field)
    ):
        return
    try:
        jax.eval_shape(game_or_field, params, None)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".split("\n")[0]
        if game:
            raise ValueError(
                f"a stochastic game needs batches: {advice}; without, its losses fail "
                f"({why})"
            ) from error
        raise TypeError(
            "expected a Game or a field(params, batch), got a function that fails as a "
            f"field ({why}); gamedyn.zero_sum or general_sum makes a Game of losses"
        ) from error


def _checked(field: Field) -> Field:
    """Say of a field in one line that it returns what no step can be made of."""

    def kinds(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: f"{jnp.result_type(x)}{jnp.shape(x)}", tree)

    @functools.wraps(field)
    def checked(params: Params, batch: Batch = None) -> Params:
        direction = field(params, batch)
        if jax.tree.structure(direction) != jax.tree.structure(params) or kinds(
            direction
        ) != kinds(params):
            raise TypeError(
                f"the field must return what the parameters are, {kinds(params)}, got "
                f"{kinds(direction)}"
            )
        return direction

    return checked


def _first_step(start: Any, num_steps: Any) -> jax.Array:
    """Bring the index of the first step into int32, if all that follow fit, too."""
    if is_known(start):
        index = operator.index(start)
        most = _MOST_STEPS - (int(num_steps) if is_known(num_steps) else 0)
        if not 0 <= index <= most:
            raise ValueError(
                f"steps are counted from 0 to 2**31 - 1 = {_MOST_STEPS}, got "
                f"start={index}"
                + (f" and {int(num_steps)} steps" if is_known(num_steps) else "")
            )
    return jnp.asarray(start, jnp.int32)


def _batches_of_step(
    key: Any, sample: Any, num_batches: int
) -> Callable[[jax.Array], tuple[Batch, ...]]:
    """Give the function that draws the batches of the step with a given index."""
    if sample is not None:
        check_function("sample", sample, "key")
    if key is None:
        if sample is not None:
            raise ValueError("sample was given without a key to draw from")
        return lambda step: (None,) * num_batches
    check_key(key)

    def draw(step):
        keys = jax.random.split(jax.random.fold_in(key, step), num_batches)
        return tuple(
            keys[j] if sample is None else sample(keys[j]) for j in range(num_batches)
        )

    return draw


def _draw(
    key: Any, sample: Any, num_batches: int, ahead: int
) -> tuple[Callable[[jax.Array], PyTree], Callable[[PyTree], tuple[Batch, ...]]]:
    """Choose the inputs of a scan over steps, and how batches are made of them.

    The batches of a block of `ahead` steps are drawn at once while they are small: the
    keys are the same, hence the trajectory too, and without a random generator inside
    the loop over a small game compiles to a single kernel.

    Returns:
        A function from step indices to the scan's inputs, and one from the input of a
        step to its batches.
    """
    draw = _batches_of_step(key, sample, num_batches)
    if key is None:
        return lambda indices: None, lambda x: (None,) * num_batches
    shapes = jax.tree.leaves(jax.eval_shape(draw, jnp.zeros((), jnp.int32)))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in shapes)
    if ahead * size > _DRAW_AHEAD_BYTES:
        return lambda indices: indices, draw
    return jax.vmap(draw), lambda x: x


def _block_size(num_steps: int, every: int) -> int:
    """Choose a multiple of `every` near 100 that divides `num_steps`, if there is one.

    A remainder would be a second copy of the step to compile.
    """
    nearest = max(1, round(_BLOCK / every)) * every
    fits = [
        size
        for size in range(every, 2 * _BLOCK + 1, every)
        if num_steps % size == 0 and 2 * size >= _BLOCK
    ]
    best = min(fits, key=lambda size: abs(size - _BLOCK), default=nearest)
    return min(best, num_steps)


def _scan(body: Callable[..., Any], carry: Any, xs: Any, length: int | None = None):
    """Scan, without a loop where there is only one turn."""
    leaves = jax.tree.leaves(xs)
    turns = leaves[0].shape[0] if leaves else length
    if turns != 1:
        return jax.lax.scan(body, carry, xs, length=length)
    carry, row = body(carry, jax.tree.map(lambda leaf: leaf[0], xs))
    return carry, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], row)


def _fold(tree: PyTree, pieces: int) -> PyTree:
    """Split the leading axis in two; sizes are written out, a leaf may be empty."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(pieces, len(leaf) // pieces, *leaf.shape[1:]), tree
    )


def _unfold(tree: PyTree) -> PyTree:
    """Join the two leading axes again."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]),
        tree,
    )


def _arrays(row: PyTree) -> PyTree:
    """Check that what `record` returned can be stacked.

    Raises:
        TypeError: if it cannot.
    """
    for leaf in jax.tree.leaves(row):
        if dtype_of(leaf) is None:
            raise TypeError(
                f"record must return a pytree of arrays, got {described(leaf)} in it"
            )
    return row


def _blank_unless(alive: jax.Array, rows: jax.Array) -> jax.Array:
    if jnp.issubdtype(rows.dtype, jax.dtypes.prng_key):
        return rows
    floating = jnp.issubdtype(rows.dtype, jnp.inexact)
    blank = jnp.full((), jnp.nan if floating else 0, rows.dtype)
    return jnp.where(alive, rows, blank)


def inner_status(rule_state: RuleState) -> jax.Array:
    """Return INNER_SOLVER if an inner solver reports a failure in a state, else OK.

    Args:
        rule_state: the state of any rule; each `InnerSolve` in it is looked at.

    Returns:
        A `Status`, as an integer array of shape ().
    """
    nodes = jax.tree.leaves(rule_state, is_leaf=lambda x: isinstance(x, InnerSolve))
    failed = jnp.array(False)
    for node in nodes:
        if isinstance(node, InnerSolve):
            failed |= node.failed
    return jnp.where(failed, Status.INNER_SOLVER, Status.OK)


def _solution(rule, params, rule_state, trace, status, done) -> Solution:
    return Solution(
        params=params,
        output=rule.output(params, rule_state),
        rule_state=rule_state,
        trace=trace,
        status=jnp.asarray(status, jnp.int32),
        num_steps=done,
    )
