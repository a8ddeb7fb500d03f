"""Where arrays live: parameters on every device, the examples of a batch spread out."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gamedyn.game import PyTree


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make the mesh for data-parallel training: all devices in one row.

    Args:
        devices: which devices; all of all processes if `None`.

    Returns:
        A mesh with the one axis "data".
    """
    devices = jax.devices() if devices is None else list(devices)
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of parameters: whole, on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Copy a tree from the host to where a run keeps its state."""
    if mesh is None:
        return jax.tree.map(jnp.array, tree)
    layout = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(layout, leaf.copy()), tree
    )


def spread(stack: PyTree, mesh: Mesh | None) -> PyTree:
    """Put stacked batches, shape (steps, evaluations, examples, ...), on the devices.

    Raises:
        ValueError: if the examples do not divide by the devices.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, stack)
    axis = mesh.axis_names[0]
    layout = NamedSharding(mesh, PartitionSpec(None, None, axis))
    own = sum(d.process_index == jax.process_index() for d in mesh.devices.flat)

    def put(leaf: np.ndarray) -> jax.Array:
        if leaf.ndim < 3 or leaf.shape[2] % own:
            raise ValueError(
                f"a batch is spread over the {own} devices of this process: expected "
                f"a multiple of {own} examples, got arrays of shape {leaf.shape[2:]}"
            )
        return jax.make_array_from_process_local_data(layout, leaf)

    return jax.tree.map(put, stack)


def constrain(batch: PyTree, mesh: Mesh | None) -> PyTree:
    """Spread the examples of a batch inside a traced function, where they divide."""
    if mesh is None:
        return batch
    axis = mesh.axis_names[0]
    layout = NamedSharding(mesh, PartitionSpec(axis))

    def spread_out(leaf: jax.Array) -> jax.Array:
        if is_key(leaf) or leaf.ndim == 0 or leaf.shape[0] % mesh.shape[axis]:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, layout)

    return jax.tree.map(spread_out, batch)


def host(tree: PyTree) -> PyTree:
    """Copy a replicated tree to the host, keys as their words.

    A copy even on the CPU, where an array and its view share memory that the next,
    donated, step overwrites.
    """
    return jax.tree.map(lambda leaf: np.array(words(leaf)), tree)


def as_keys(tree: PyTree, like: PyTree) -> PyTree:
    """Turn words back into keys wherever `like` has a key."""

    def restore(leaf: Any, model: Any) -> Any:
        if not is_key(model):
            return leaf
        return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(model))

    return jax.tree.map(restore, tree, like)


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed PRNG key."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def words(leaf: Any) -> Any:
    """The words of a key, any other leaf as it is."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
