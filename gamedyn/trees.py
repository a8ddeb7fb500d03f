"""Arithmetic on pytrees, with scalars in one working dtype."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

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


def norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm over all entries of a tree; its slope at zero is zero."""
    square = inner(tree, tree)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


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
