"""Many runs at once: map a function over points, in chunks, over devices."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from gamedyn.checks import (
    check_function,
    check_positive_integer,
    described,
    dtype_of,
)
from gamedyn.game import PyTree


def sweep(
    run: Callable[[PyTree], PyTree],
    points: PyTree,
    *,
    chunk: int | None = None,
    devices: Sequence[Any] | Literal["all"] | None = None,
) -> PyTree:
    """Evaluate `run` at every point of a grid, side by side.

    A step size, a start, a seed, a payoff matrix or a whole `Problem` can be what a
    point holds. A plain traceable function: call it under `jax.jit`.

    Args:
        run: one point -> pytree of results, traceable.
        points: a pytree whose leaves have one leading axis, the points.
        chunk: how many points to hold in memory at a time; all if `None`. `chunk=1`
            runs one after the other, best for `solve_until` and for a handful of tiny
            games.
        devices: the devices to spread the points over, "all" for every device of the
            default backend, `None` for no sharding.

    Returns:
        The results, stacked along the same leading axis.

    Raises:
        TypeError: if `run` is no function of one point, or `points` no arrays.
        ValueError: if there is no point, the leading axes differ, `chunk` is not a
            positive integer, or `devices` names none.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> gd.sweep(lambda x: x**2, jnp.arange(4.0)).tolist()
        [0.0, 1.0, 4.0, 9.0]
    """
    check_function("run", run, "point")
    for leaf in jax.tree.leaves(points):
        if dtype_of(leaf) is None:
            raise TypeError(
                f"points must be arrays, or a pytree of arrays, got {described(leaf)}"
            )
    hint = ""
    if isinstance(points, list | range):
        hint = ": a list of numbers is jnp.array([...])"
    points = jax.tree.map(jnp.asarray, points)
    leading = {leaf.shape[:1] for leaf in jax.tree.leaves(points)}
    if len(leading) != 1 or leading & {(), (0,)}:
        raise ValueError(
            f"the leaves of points must share one leading axis of at least one point, "
            f"got {sorted(leading)}{hint}"
        )
    if chunk is not None:
        check_positive_integer("chunk", chunk)
    ((num_points,),) = leading

    def local(points: PyTree) -> PyTree:
        if chunk is None or chunk >= len(jax.tree.leaves(points)[0]):
            return jax.vmap(run)(points)
        return jax.lax.map(run, points, batch_size=None if chunk == 1 else chunk)

    if devices is None:
        return local(points)
    if isinstance(devices, str | int) and devices != "all" or not devices:
        raise ValueError(
            f"devices must be 'all' or a sequence of devices, got {devices!r}"
        )
    devices = jax.devices() if devices == "all" else list(devices)
    mesh = Mesh(devices, ("points",), axis_types=(AxisType.Auto,))
    spread = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=PartitionSpec("points"),
        out_specs=PartitionSpec("points"),
        check_vma=False,
    )
    # Every device gets equally many: the last point is repeated, and cut off again.
    padding = -num_points % len(devices)
    padded = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[-1:], padding, axis=0)]),
        points,
    )
    return jax.tree.map(lambda leaf: leaf[:num_points], spread(padded))
