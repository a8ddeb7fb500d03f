"""The compiled part of training: one call does one or several steps."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gamedyn.fields import Field
from gamedyn.game import Batch, Game, Params, PyTree
from gamedyn.rules.base import Rule, RuleState
from gamedyn.train import sharding
from gamedyn.train.averages import Average
from gamedyn.train.batches import Batches, Numbered, stacked
from gamedyn.train.describe import Structure, names, structure
from gamedyn.train.environment import program
from gamedyn.train.state import Carry

Source = Batches | Numbered | Callable[[jax.Array], Batch] | None
Record = Callable[[Params, RuleState, tuple[Batch, ...], jax.Array], PyTree]


def losses_of(game: Game) -> Record:
    """Return the default `record`: a game's losses on the first batch of the step."""

    def record(params, rule_state, batches, step):
        del rule_state, step
        losses = game(params, batches[0])
        return {f"loss_{player}": loss for player, loss in enumerate(losses)}

    return record


def begin(rule: Rule, average: Average | None, params: Params) -> Carry:
    """Return the state before the first step."""
    rule_state = rule.init(params)
    output = rule.output(params, rule_state)
    mean = None if average is None else average.init(output)
    return Carry(jnp.zeros((), jnp.int32), params, rule_state, mean)


def draw(
    source: Source,
    key: jax.Array,
    step: jax.Array,
    num_batches: int,
    arrays: PyTree,
    resident: PyTree,
    mesh: Mesh | None,
) -> tuple[Batch, ...]:
    """Make the batches of a step, with the same keys as `gamedyn.solve`.

    Args:
        source: where batches come from.
        key: the PRNG key of the run.
        step: k, the index of the step, an int32 scalar.
        num_batches: the number of batches per step.
        arrays: what was loaded for this step, shape (num_batches, examples, ...).
        resident: the arrays that stay on the devices, or `None`.
        mesh: the mesh over which the examples are spread, or `None`.

    Returns:
        The batches, a tuple of `num_batches`.
    """
    if source is None:
        return (None,) * num_batches
    keys = jax.random.split(jax.random.fold_in(key, step), num_batches)
    function = source.build if isinstance(source, Batches) else source
    made = []
    for j in range(num_batches):
        given = (keys[j],)
        if isinstance(source, Batches):
            rows = jax.tree.map(lambda leaf, j=j: leaf[j], arrays)
            if resident is not None:
                rows = _rows(rows, resident)
            given = (rows, *given)
        if isinstance(function, Numbered):
            batch = function.function(*given, function.number(step, j, num_batches))
        else:
            batch = function(*given)
        made.append(sharding.constrain(batch, mesh))
    return tuple(made)


def _rows(indices: jax.Array, resident: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[indices], resident)


class Step(NamedTuple):
    """A step in two parts, each traced once for all its uses.

    Attributes:
        draw: `draw(key, step, arrays, resident) -> batches`, see `draw`.
        advance: `advance(carry, batches) -> carry`, the update and the average.
    """

    draw: Callable[..., tuple[Batch, ...]]
    advance: Callable[[Carry, tuple[Batch, ...]], Carry]


def step_of(
    field: Field, rule: Rule, source: Source, average: Average | None, mesh: Mesh | None
) -> Step:
    """Make the parts of a step, of the arguments of `fit`."""

    def drawn(key, step, arrays, resident):
        return draw(source, key, step, rule.num_batches, arrays, resident, mesh)

    def advance(carry: Carry, batches: tuple[Batch, ...]) -> Carry:
        count, params, rule_state, mean = carry
        params, rule_state = rule.update(field, params, rule_state, batches)
        count = count + 1
        if average is not None and mean is not None:
            mean = average.update(mean, rule.output(params, rule_state), count)
        return Carry(count, params, rule_state, mean)

    # Inline: what computes the same as the gradients, a loss for the log, is shared.
    return Step(jax.jit(drawn, inline=True), jax.jit(advance, inline=True))


def traced(
    step: Step, source: Source, key: jax.Array, carry: Carry, num_batches: int
) -> tuple[Structure, Callable[[], str]]:
    """Return the structure of a step's batches, and how to identify the step."""
    arrays = None
    if isinstance(source, Batches):
        arrays = stacked(source.load, [0], num_batches)
        arrays = jax.tree.map(_of_all_processes, arrays)
        if source.resident is not None:  # where the rows come from does not matter
            arrays = jax.eval_shape(_rows, arrays, source.resident)
    drawn = step.draw.trace(key, carry.step, arrays, None)  # pyright: ignore

    @functools.cache
    def identity() -> str:
        moved = step.advance.trace(carry, drawn.out_info)  # pyright: ignore
        return program(drawn.jaxpr, moved.jaxpr)

    return structure(drawn.out_info), identity


def _of_all_processes(leaf: np.ndarray) -> jax.ShapeDtypeStruct:
    number, examples, *rest = leaf.shape
    shape = (number, examples * jax.process_count(), *rest)
    return jax.ShapeDtypeStruct(shape, jnp.result_type(leaf))


def compiled(
    parts: Step,
    key: jax.Array,
    *,
    record: Record | None,
    steps_per_call: int,
    mesh: Mesh | None,
) -> Callable[..., tuple[Carry, dict[str, jax.Array], jax.Array]]:
    """Compile the function that does up to `steps_per_call` steps.

    The number of steps is an argument, so that one program serves calls of every
    length, and the result does not depend on how a run is cut into calls, to the bit.

    Args:
        parts: the parts of a step.
        key: a key of the run's kind; its value is passed as `key_data`.
        record: as in `fit`, or `None`.
        steps_per_call: the most steps in a call.
        mesh: as in `fit`.

    Returns:
        `call(carry, count, key_data, arrays, resident) -> (carry, row, done)`: does
        `count` steps. `carry` is donated; `key_data` is that of the run's key; `row` is
        what the last step recorded; `done` is an array to wait for, since `carry` is
        donated to the next call.
    """

    def recorded(carry: Carry, batches: tuple[Batch, ...]) -> dict[str, jax.Array]:
        if record is None:
            return {}
        return scalars(record(carry.params, carry.rule_state, batches, carry.step))

    def step(carry: Carry, key, arrays, resident):
        batches = parts.draw(key, carry.step, arrays, resident)
        # Before the update: losses computed here are shared with its gradients.
        row = recorded(carry, batches)
        return parts.advance(carry, batches), row

    def call(carry: Carry, count, key_data, arrays, resident):
        own = sharding.as_keys(key_data, key)

        def one(index, state):
            rows = jax.tree.map(lambda leaf: leaf[index], arrays)
            return step(state[0], own, rows, resident)

        if steps_per_call == 1:
            carry, row = one(0, (carry, None))
        else:
            shapes = jax.eval_shape(lambda: one(0, (carry, None))[1])
            # The loop keeps the row of its last step; this one is never read.
            blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            carry, row = jax.lax.fori_loop(0, count, one, (carry, blank))
        # Negated, so that it does not share the buffer of the step, which is donated.
        return carry, row, -carry.step

    layout = None if mesh is None else sharding.replicated(mesh)
    return jax.jit(call, donate_argnums=0, out_shardings=layout)


def scalars(recorded: PyTree) -> dict[str, jax.Array]:
    """Flatten what `record` returned into scalars named by their paths.

    Args:
        recorded: a pytree of scalars.

    Returns:
        Scalars by name: `{"loss": {"d": x}}` gives `{"loss/d": x}`; a single scalar is
        called "value".

    Raises:
        ValueError: if a leaf is not a scalar, or has the name of a column that the log
            writes itself.
    """
    row = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(recorded):
        name = "/".join(names(path)) or "value"
        if jnp.shape(leaf) != ():
            raise ValueError(
                f"record must return scalars, got shape {jnp.shape(leaf)} at {name!r}"
            )
        if name in ("step", "seconds", "steps_per_second"):
            raise ValueError(f"record returned {name!r}, which the log uses itself")
        row[name] = jnp.asarray(leaf)
    return row
