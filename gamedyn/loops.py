"""Loops that end: bounded, and their decision to go on computed once."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

State = TypeVar("State")


def bounded_while(
    go_on: Callable[[State], Any],
    step: Callable[[State], State],
    state: State,
    limit: int | jax.Array,
    *,
    at_least: int = 0,
) -> tuple[State, jax.Array]:
    r"""Repeat a step while `go_on(state)`, at most `limit` times.

        decision = go_on(state)
        while decision: state = step(state); decision = go_on(state)

    The decision is a boolean of the carry, computed once, in the loop's body. With
    `jax.lax.while_loop` alone it would be computed twice under `vmap`, in the condition
    (does anybody go on?) and in the body (who does?). Compiled apart, two copies of one
    comparison may round differently, on processors with fused multiply-add say; where
    the first says go on and the second keeps everybody in place, the loop never ends.

    Args:
        go_on: `go_on(state)` says whether another step is wanted, a boolean scalar.
        step: `step(state)` returns the next state, of the same structure.
        state: where to begin, any pytree.
        limit: the largest number of steps, may be traced; numbers beyond int32 are as
            good as its largest.
        at_least: so many steps are done whatever `go_on` says, `limit` permitting.

    Returns:
        The last state, and the number of steps as an int32 scalar.

    Example:
        >>> halve = lambda x: x / 2
        >>> last, steps = bounded_while(lambda x: x > 1, halve, jnp.array(5.0), 100)
        >>> last.item(), steps.item()
        (0.625, 3)
    """

    def decide(state: State, count: jax.Array) -> jax.Array:
        return (go_on(state) | (count < at_least)) & (count < limit)

    def body(carry: tuple[State, jax.Array, jax.Array]) -> Any:
        state, count, _ = carry
        state, count = step(state), count + 1
        return state, count, decide(state, count)

    # The count is an int32; compared with a larger number it would wrap around.
    most = jnp.iinfo(jnp.int32).max
    limit, at_least = (
        min(number, most) if isinstance(number, int) else number
        for number in (limit, at_least)
    )

    zero = jnp.zeros((), jnp.int32)
    carry = state, zero, decide(state, zero)
    state, count, _ = jax.lax.while_loop(lambda carry: carry[2], body, carry)
    return state, count
