"""Data parallelism: parameters on every device, the examples of a batch divided."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gamedyn.game import PyTree


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Make the mesh for data-parallel training: all devices along one axis.

    Args:
        devices: the devices; if `None`, all devices of all processes.

    Returns:
        A mesh with one axis, "data".
    """
    devices = jax.devices() if devices is None else list(devices)
    # With Auto axes the compiler places the all-reduces; game and rule do not change.
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of parameters: complete on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Copy a tree from the host to the device, or to every device of a mesh.

    The result does not share memory with `tree`: it is donated to the first step, and a
    run that becomes non-finite goes back to the arrays on the host.
    """
    if mesh is None:
        return jax.tree.map(jnp.array, tree)
    layout = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(layout, leaf.copy()), tree
    )


def spread(stack: PyTree, mesh: Mesh | None) -> PyTree:
    """Put stacked batches on the devices, the examples divided among those of a mesh.

    Args:
        stack: host arrays of shape (steps, evaluations, examples, ...), this process's
            share of the examples.
        mesh: the mesh; the default device if `None`.

    Returns:
        Arrays of the same shape, over all processes.

    Raises:
        ValueError: if the number of examples is not a multiple of that of the devices.
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
    """Divide the examples of a batch among the devices, inside a traced function.

    Leaves whose leading axis is not a multiple of the devices are left to the compiler.
    """
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
    """Copy a replicated tree to the host, PRNG keys as their data (uint32).

    It is a copy even on the CPU, where numpy could share the memory of an array: the
    next step, to which the array is donated, overwrites that memory.
    """
    return jax.tree.map(lambda leaf: np.array(key_data(leaf)), tree)


def as_keys(tree: PyTree, like: PyTree) -> PyTree:
    """Turn the data of keys back into keys wherever `like` has a key."""

    def restore(leaf: Any, model: Any) -> Any:
        if not is_key(model):
            return leaf
        return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(model))

    return jax.tree.map(restore, tree, like)


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed PRNG key."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def key_data(leaf: Any) -> Any:
    """Return the data of a PRNG key, and any other leaf unchanged."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
