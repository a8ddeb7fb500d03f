"""From latents to examples: the laws of the latents, and sampling a generator."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer

Latent = Callable[[jax.Array, int, Any], jax.Array]
"""`latent(key, number, dtype)` draws that many latents, shape (number, ...)."""


def normal(size: int) -> Latent:
    r"""Make the standard normal law, $z \sim N(0, I)$.

    Args:
        size: the dimension.

    Returns:
        `latent(key, number, dtype)`, which draws an array of shape (number, size).

    Raises:
        ValueError: if the size is not a positive integer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> normal(3)(jax.random.key(0), 5, jnp.float32).shape
        (5, 3)
    """
    check_positive_integer("size", size)
    return functools.partial(_normal, size)


def uniform(size: int, low: float = -1.0, high: float = 1.0) -> Latent:
    r"""Make the uniform law on a cube, $z \sim U[a, b)^d$.

    Args:
        size: the dimension, d.
        low: a.
        high: b, greater than a.

    Returns:
        `latent(key, number, dtype)`, which draws an array of shape (number, size).

    Raises:
        ValueError: if the size is not a positive integer, or b is not above a.
    """
    check_positive_integer("size", size)
    if not low < high:
        raise ValueError(f"high must be above low, got low={low} and high={high}")
    return functools.partial(_uniform, size, low, high)


def _normal(size: int, key: jax.Array, number: int, dtype: Any) -> jax.Array:
    return jax.random.normal(key, (number, size), dtype)


def _uniform(
    size: int, low: float, high: float, key: jax.Array, number: int, dtype: Any
) -> jax.Array:
    return jax.random.uniform(key, (number, size), dtype, low, high)


def samples(
    generator: Any,
    theta: Any,
    key: jax.Array,
    number: int,
    *,
    latent: Latent = normal(128),  # noqa: B008 (immutable)
    labels: Any = None,
    statistics: Any = None,
    batch_size: int = 500,
    dtype: Any = jnp.float32,
) -> np.ndarray:
    """Draw examples from a trained generator, on the host.

    The latents are drawn at once, so that the examples do not depend on `batch_size`,
    given standing statistics where the generator has batch normalisation.

    Args:
        generator: as in `game`.
        theta: its parameters.
        key: a PRNG key; the same key gives the same latents at every checkpoint.
        number: number of examples.
        latent: the law of z.
        labels: the condition of each example, shape (number, ...), if it takes one.
        statistics: the standing statistics of its batch normalisation.
        batch_size: number that the network generates at once.
        dtype: of the latents.

    Returns:
        Examples of shape (number, ...).

    Raises:
        ValueError: if a number is not positive, or that of the labels differs.
    """
    check_positive_integer("number", number)
    check_positive_integer("batch_size", batch_size)
    if labels is not None and len(labels) != number:
        raise ValueError(f"expected {number} labels, got {len(labels)}")
    z = latent(key, number, dtype)
    inputs = (z,) if labels is None else (z, jnp.asarray(labels))
    options = {} if statistics is None else {"statistics": statistics}
    apply = jax.jit(as_function("generator", generator))
    size = min(batch_size, number)
    parts = []
    for start in range(0, number, size):
        # The last batch is filled up from the front: one shape, one compilation.
        index = np.arange(start, start + size) % number
        part = apply(theta, *(x[index] for x in inputs), **options)
        parts.append(np.asarray(part)[: number - start])
    return np.concatenate(parts)


def as_function(what: str, net: Any) -> Callable[..., Any]:
    """Return the function of parameters and inputs of a network."""
    function = getattr(net, "apply", net)
    if not callable(function):
        raise TypeError(
            f"the {what} must be a Net or a function of parameters and inputs, got "
            f"{type(net).__name__}"
        )
    return function
