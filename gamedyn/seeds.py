"""Keys from the seeds that users give: every bit of a seed counts, everywhere."""

import operator
from typing import Any

import jax

LIMIT = 2**63
"""Seeds are integers from 0 to `LIMIT - 1`."""


def check_seed(name: str, seed: Any) -> int:
    """Check that a value is a seed.

    Args:
        name: the name of the argument or option, for the message.
        seed: the value.

    Returns:
        The seed as Python's integer.

    Raises:
        ValueError: if it is no integer from 0 to 2**63 - 1.
    """
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < LIMIT:
        raise ValueError(
            f"{name} must be an integer from 0 to 2**63 - 1 = {LIMIT - 1}, got {seed}"
        )
    return number


def seed_key(seed: int, offset: int = 0) -> jax.Array:
    """Make the PRNG key of a seed, the same one with and without x64.

    `jax.random.key` drops the upper 32 bits of a seed where x64 is off, so that
    2**32 + k would start as k does. Seeds below 2**32 have jax's own keys.

    Args:
        seed: an integer from 0 to 2**63 - 1.
        offset: a small number to add, for a second key; the sum starts again at 0.

    Returns:
        The key.

    Raises:
        ValueError: if the seed is none.

    Example:
        >>> import jax
        >>> from gamedyn.seeds import seed_key
        >>> jax.random.key_data(seed_key(2**32 + 5)).tolist()
        [1, 5]
        >>> bool(seed_key(5) == jax.random.key(5))
        True
    """
    number = (check_seed("the seed", seed) + offset) % LIMIT
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        return jax.random.key(number)
