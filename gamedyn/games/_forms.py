"""Helpers of the builders: checked arrays, fast small forms, starts, index batches."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from gamedyn.game import Params


def known(*values: Any) -> bool:
    """Whether no value is traced, so that all can be read."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def as_array(name: str, value: Any, ndim: int, dtype: Any = None) -> jax.Array:
    """Return an argument of a builder as a floating-point array, or raise `ValueError`.

    Args:
        name: the argument's name, for error messages.
        value: a number, nested lists, or an array; integers become the default dtype.
        ndim: the number of dimensions expected.
        dtype: the dtype wanted; the value's own if `None`.

    Returns:
        The array.

    Raises:
        ValueError: if it is not numeric and real, has another number of dimensions, is
            empty, or holds NaN or infinities.
    """
    try:
        given = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    floating = jnp.issubdtype(given.dtype, jnp.floating)
    if not floating and given.dtype.kind not in "biu":
        raise ValueError(f"{name} must hold real numbers, got dtype {given.dtype}")
    if given.ndim != ndim or 0 in given.shape:
        raise ValueError(
            f"{name} must be a non-empty array of {ndim} dimensions, "
            f"got shape {given.shape}"
        )
    # A Python or NumPy number has no dtype of its own: the default one is meant.
    plain = not floating or not hasattr(value, "dtype")
    array = jnp.asarray(given, dtype or (float if plain else None))
    if known(array) and not bool(jnp.all(jnp.isfinite(array))):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries")
    return array


def check_shape(name: str, array: jax.Array, shape: tuple[int, ...], of: str) -> None:
    """Raise `ValueError` unless an argument has the shape that another one demands."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape} {of}, got {array.shape}")


def widest(*arrays: Any) -> Any:
    """The widest floating-point dtype among what is given; `None` if there is none."""
    given = [array.dtype for array in arrays if hasattr(array, "dtype")]
    floating = [dtype for dtype in given if jnp.issubdtype(dtype, jnp.floating)]
    if not floating:
        return None
    widest = max(floating, key=lambda dtype: jnp.finfo(dtype).bits)
    return jax.dtypes.canonicalize_dtype(widest)


def offset(matrix: jax.Array, axis: int | None = None) -> np.ndarray | None:
    """Find the constants in payoffs beside which their differences are small.

    On a simplex a constant moves nobody, but rounds all that does.

    Args:
        matrix: the payoffs.
        axis: the strategies among which payoffs are compared; both players' if `None`.

    Returns:
        The middle of the payoffs, with as many dimensions as `matrix`; `None` where it
        is no larger than their differences, or the payoffs are traced.
    """
    if not known(matrix):
        return None
    dense = np.asarray(matrix)
    high = dense.max(axis=axis, keepdims=True)
    low = dense.min(axis=axis, keepdims=True)
    middle = low + (high - low) / 2
    return middle if np.abs(middle).max() > (high - low).max() else None


def bilinear_beside(
    matrix: jax.Array, constants: jax.Array, x: jax.Array, y: jax.Array
) -> jax.Array:
    r"""Evaluate $x^\top A y + x^\top C y$ where one of the two sums is 1.

    Args:
        matrix: A, shape `(m, n)`.
        constants: C, shape `(1, n)`, `(m, 1)` or `(1, 1)`, one for all strategies on an
            axis of length 1, whose player's derivatives leave it out.
        x: shape `(m,)`.
        y: shape `(n,)`.

    Returns:
        The scalar.
    """
    rows, columns = constants.shape
    given = constants * (x[:, None] if rows > 1 else 1)
    given = given * (y[None] if columns > 1 else 1)
    return bilinear(matrix, x, y) + jnp.sum(given)


def bilinear(matrix: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    r"""Evaluate $x^\top A y$ in the form that is fastest at its size.

    Many small games side by side run as fast as scalar code only if nothing in them is
    a matrix product: those of a batch do not fuse. Two by two, the second entries are
    reached by reversal, which keeps memory contiguous; up to 3 everything is a scalar,
    up to 10 one elementwise sum, above that a product, with the matrix on the right.

    Args:
        matrix: A, shape `(m, n)`.
        x: shape `(m,)`.
        y: shape `(n,)`.

    Returns:
        The scalar.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    m, n = matrix.shape
    if x.shape != (m,) or y.shape != (n,):
        raise ValueError(
            f"a matrix of shape {matrix.shape} needs params of shapes ({m},) and "
            f"({n},), got {x.shape} and {y.shape}"
        )
    if (m, n) == (2, 2):
        main, other = jnp.diagonal(matrix), jnp.diagonal(matrix[:, ::-1])
        return jnp.sum(x * (main * y + other * y[::-1]))
    if max(m, n) <= 3:
        columns = jnp.unstack(y)
        terms = [
            entry * matrix[i, j] * column
            for i, entry in enumerate(jnp.unstack(x))
            for j, column in enumerate(columns)
        ]
        return functools.reduce(jnp.add, terms)
    if max(m, n) <= 10:
        return jnp.sum(x * jnp.sum(matrix * y[None, :], axis=1))
    return x @ matrix @ y


def normal_start(standard: Params, key: Any) -> Params:
    """Start at the standard point without a key, else draw every entry from N(0, 1)."""
    if key is None:
        return standard
    leaves, treedef = jax.tree.flatten(standard)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(each, leaf.shape, leaf.dtype)
        for each, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, drawn)


def interior_start(standard: Params, key: Any) -> Params:
    """Start at the standard point without a key, else at softmax(N(0, I)) each."""
    if key is None:
        return standard
    return jax.tree.map(jax.nn.softmax, normal_start(standard, key))


def positive_start(standard: Params, key: Any) -> Params:
    """Start at the standard point without a key, else at |N(0, 1)| times it."""
    if key is None:
        return standard
    return jax.tree.map(
        lambda point, drawn: point * jnp.abs(drawn),
        standard,
        normal_start(standard, key),
    )


@functools.cache  # equal arguments give the identical function: no retracing
def box_start(lower: float, upper: float) -> Callable[..., Params]:
    """Make the start of a box: the standard point, or an evenly drawn one."""

    def start(standard: Params, key: Any) -> Params:
        if key is None:
            return standard
        # A normal variable pushed through its distribution function is uniform.
        return jax.tree.map(
            lambda drawn: lower + (upper - lower) * jax.scipy.special.ndtr(drawn),
            normal_start(standard, key),
        )

    return start


def ramp(size: int, dtype: Any = None) -> jax.Array:
    """Make the point of the simplex whose entries grow like 1, 2, ..., `size`."""
    weights = np.arange(1.0, size + 1)
    return jnp.asarray(weights / weights.sum(), dtype or float)


@functools.cache  # equal arguments give the identical function: no retracing
def index_sampler(num_components: int, batch_size: int) -> Callable[..., jax.Array]:
    """Make the sampler of a finite sum: indices drawn uniformly with replacement.

    Args:
        num_components: the number n of components.
        batch_size: how many are drawn.

    Returns:
        `sample(key) -> indices`, of shape `(batch_size,)`.

    Raises:
        ValueError: if `batch_size` is not a positive integer.
    """
    if isinstance(batch_size, bool) or not hasattr(batch_size, "__index__"):
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size}")

    def sample(key):
        return jax.random.randint(key, (batch_size,), 0, num_components)

    return sample


def rows_of(array: jax.Array, batch: Any) -> jax.Array:
    """The entries of a batch of indices; all of them if it is `None`."""
    return array if batch is None else array[batch]
