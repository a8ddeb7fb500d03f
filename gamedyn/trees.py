"""Arithmetic on pytrees, with scalars in one working dtype."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.game import PyTree


def working_dtype(*trees: PyTree) -> Any:
    """Choose the dtype of scalars: the widest of the leaves, float32 at least."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(trees)]
    return max([jnp.dtype(jnp.float32), *dtypes], key=lambda d: jnp.finfo(d).bits)


def size(tree: PyTree) -> int:
    """Count the entries of all leaves."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree))


def copy(tree: PyTree) -> PyTree:
    """Copy every array, so that no two parts of a state share a buffer."""
    return jax.tree.map(jnp.copy, tree)


def select(condition: jax.Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    """Choose between two trees leaf by leaf, `condition` being a scalar."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), on_true, on_false)


def scale(weight: Any, tree: PyTree) -> PyTree:
    """Multiply every leaf by a scalar, in the leaf's own dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(weight, leaf.dtype) * leaf, tree)


def add(*trees: PyTree) -> PyTree:
    """Add trees leaf by leaf, from the left."""
    return jax.tree.map(lambda *leaves: functools.reduce(jnp.add, leaves), *trees)


def add_scaled(tree: PyTree, weight: Any, other: PyTree) -> PyTree:
    """Compute `tree + weight * other` leaf by leaf, in the leaf's own dtype."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(weight, b.dtype) * b, tree, other)


def subtract(left: PyTree, right: PyTree) -> PyTree:
    """Subtract one tree from another leaf by leaf."""
    return jax.tree.map(jnp.subtract, left, right)


def inner(left: PyTree, right: PyTree, dtype: Any = None) -> jax.Array:
    """Sum the products of all entries of two trees.

    Args:
        left: a tree.
        right: a tree of the same structure.
        dtype: of products and sum; the working dtype of both trees if `None`.

    Returns:
        A scalar of that dtype.
    """
    dtype = working_dtype(left, right) if dtype is None else dtype
    products = jax.tree.map(
        lambda a, b: jnp.sum(a.astype(dtype) * b.astype(dtype)), left, right
    )
    return functools.reduce(jnp.add, jax.tree.leaves(products), jnp.zeros((), dtype))


def magnitude(tree: PyTree) -> jax.Array:
    """Find the largest absolute value of all entries of a tree; NaN where one is."""
    dtype = working_dtype(tree)
    zero = jnp.zeros((), dtype)
    largest = [
        jnp.max(jnp.abs(leaf), initial=0).astype(dtype)
        for leaf in jax.tree.leaves(tree)
    ]
    return functools.reduce(jnp.maximum, largest, zero)


def unit(tree: PyTree) -> jax.Array:
    """Choose a power of two that makes products of a tree's entries harmless.

    Squares of the largest entries of `unit(tree) * tree` neither overflow nor fall into
    what underflows, nor do sums of 2^20 of them. It is 1 wherever that holds already,
    and constant between its jumps, so derivatives may run through what it scales.

    Args:
        tree: any pytree of floating-point arrays.

    Returns:
        A scalar of the working dtype.
    """
    largest = magnitude(tree)
    # With float64's range of 2^1022: squares from 2^-800 are held to all digits, and
    # 2^600 brings the smallest number there is above that, and the largest one down.
    span = -jnp.finfo(largest.dtype).minexp
    shift = 2.0 ** round(0.59 * span)
    up = largest < 2.0 ** round(-0.39 * span)
    down = (largest > 2.0 ** round(0.39 * span)) & jnp.isfinite(largest)
    one = jnp.ones((), largest.dtype)
    return jnp.where(up, shift * one, jnp.where(down, one / shift, one))


def resized(by: jax.Array, tree: PyTree) -> PyTree:
    """Multiply by a power of two from `unit` or `inverse_size`, for products to come.

    A compiler that knows all numbers would multiply squares, of factor and entry, and
    there would be no such numbers. A bound that nothing exceeds keeps it from that.

    Args:
        by: the factor.
        tree: what it was made for.

    Returns:
        The tree, every leaf in its own dtype.
    """

    def multiply(leaf: jax.Array) -> jax.Array:
        most = 2.0 ** round(0.9 * jnp.finfo(leaf.dtype).maxexp)
        bound = jnp.where(by == 1, jnp.inf, most).astype(leaf.dtype)
        return jnp.clip(by.astype(leaf.dtype) * leaf, -bound, bound)

    return jax.tree.map(multiply, tree)


def inverse_size(tree: PyTree) -> jax.Array:
    """Find the power of two that brings the largest entry of a tree to about 1.

    Args:
        tree: any pytree of floating-point arrays.

    Returns:
        A scalar of the working dtype, without a derivative; 1 for zeros and where an
        entry is not finite.
    """
    largest = magnitude(tree)
    proper = (largest > 0) & jnp.isfinite(largest)
    exponent = jnp.frexp(jnp.where(proper, largest, 1))[1]
    span = jnp.finfo(largest.dtype)
    exponent = jnp.clip(-exponent, int(span.minexp), int(span.maxexp) - 1)
    return jnp.ldexp(jnp.ones((), largest.dtype), exponent)


def norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm over all entries of a tree; its slope at zero is zero.

    What decides something is measured by this function: squares of 1e-23 vanish in
    float32, those of 1e23 overflow, and this does neither (`unit`).

    Args:
        tree: any pytree of floating-point arrays.

    Returns:
        A scalar of the working dtype.
    """
    by = unit(tree)
    dtype = by.dtype
    square = functools.reduce(
        jnp.add,
        [
            jnp.sum(resized(by, leaf.astype(dtype)) ** 2)
            for leaf in jax.tree.leaves(tree)
        ],
        jnp.zeros((), dtype),
    )
    zero = square == 0  # not where it is NaN
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)) / by)


def share(tree: PyTree, along: PyTree) -> jax.Array:
    r"""Compute $\langle a, b \rangle / |b|^2$, how much of b is in a; 0 where b is 0.

    Args:
        tree: a, any pytree of floating-point arrays.
        along: b, of the same structure.

    Returns:
        A scalar of the working dtype.
    """
    unit_a, unit_b = unit(tree), unit(along)
    a, b = resized(unit_a, tree), resized(unit_b, along)
    square = inner(b, b)
    zero = square == 0
    ratio = inner(a, b) / jnp.where(zero, 1, square)
    return jnp.where(zero, 0, ratio * (unit_b / unit_a))


def norm_on_host(array: np.ndarray) -> float:
    """The Euclidean norm (of a matrix: Frobenius') of a float64 array, as `norm`."""
    largest = float(np.abs(array).max(initial=0.0))
    if largest == 0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    scaled = float(np.linalg.norm(np.ldexp(array, -exponent)))
    with np.errstate(over="ignore"):
        return float(np.ldexp(scaled, exponent))


def flatten(tree: PyTree) -> jax.Array:
    """Lay all leaves out in one vector of the widest dtype."""
    dtype = working_dtype(tree)
    return jnp.concatenate(
        [leaf.ravel().astype(dtype) for leaf in jax.tree.leaves(tree)]
    )


def unflatten(vector: jax.Array, like: PyTree) -> PyTree:
    """Undo `flatten`, with the shapes and dtypes of `like`."""
    leaves, treedef = jax.tree.flatten(like)
    pieces = []
    first = 0
    for leaf in leaves:
        piece = vector[first : first + leaf.size]
        pieces.append(piece.reshape(leaf.shape).astype(leaf.dtype))
        first += leaf.size
    return jax.tree.unflatten(treedef, pieces)
