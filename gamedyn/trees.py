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


def inner(left: PyTree, right: PyTree) -> jax.Array:
    """Sum the products of all entries of two trees, in their working dtype."""
    dtype = working_dtype(left, right)
    products = [
        jnp.sum(a.astype(dtype) * b.astype(dtype))
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    ]
    return functools.reduce(jnp.add, products, jnp.zeros((), dtype))


def norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm over all entries of a tree; its slope at zero is zero."""
    square = inner(tree, tree)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


def scale(weight: Any, tree: PyTree) -> PyTree:
    """Multiply every leaf by a scalar, in the leaf's own dtype."""
    return jax.tree.map(lambda leaf: jnp.asarray(weight, leaf.dtype) * leaf, tree)


def add_scaled(tree: PyTree, weight: Any, other: PyTree) -> PyTree:
    """Compute `tree + weight * other` leaf by leaf, in the leaf's own dtype."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(weight, b.dtype) * b, tree, other)


def subtract(left: PyTree, right: PyTree) -> PyTree:
    """Subtract one tree from another leaf by leaf."""
    return jax.tree.map(jnp.subtract, left, right)


def size(tree: PyTree) -> int:
    """Count the entries of all leaves."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree))
