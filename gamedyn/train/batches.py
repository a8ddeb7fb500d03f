"""Batches from the host: loaded ahead in a thread, finished inside the step."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from gamedyn.data.order import BatchOrder
from gamedyn.game import Batch, PyTree

Item = TypeVar("Item")
Made = TypeVar("Made")


class Batches(NamedTuple):
    """Where the batches of a run come from.

    Attributes:
        load: `load(index) -> arrays` on the host, a pure function of the number of the
            field evaluation (evaluation j of step k has index `num_batches * k + j`),
            so that a resumed run sees what the uninterrupted one saw. With several
            processes: this process's share, its leading axis the examples.
        build: `build(arrays, key) -> batch`, traced inside the step: scaling,
            augmentation, the game's own kind of batch. May be `Numbered`.
        resident: a pytree that stays on the devices, or `None`. If given, what `load`
            returns are row numbers into its leading axis, and `build` gets those rows.
    """

    load: Callable[[int], PyTree]
    build: "Callable[[PyTree, jax.Array], Batch] | Numbered"
    resident: PyTree = None


class Numbered(NamedTuple):
    """A function that makes batches and is told the number of the player's step.

    It stands for `build` in `Batches` and `from_arrays`, or for the function
    `key -> batch`, where a loss changes from step to step: a lazy penalty,
    `gamedyn.gan.lazy`, asks for the number of the discriminator's step. The number is
    derived from the step k of the run: no cut into calls and no resume changes it.

    Attributes:
        function: `function(arrays, key, number)`, or `function(key, number)`; `number`
            is an int32 scalar, traced.
        order: the word of moves of `gamedyn.alternating(..., resample=True)`, where
            every move has a batch and a number of its own: the number of moves that
            `player` made before, in all. If `None`, all batches of step k have the
            number k, as all other rules need it: an extragradient's two evaluations
            must agree on what is being minimised.
        player: whose steps are counted, the discriminator's of `gamedyn.gan.game`.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn import gan
        >>> build = Numbered(
        ...     lambda rows, key, number: gan.Batch(rows, key, step=number),
        ...     order=(1, 1, 0))
        >>> [int(build.number(jnp.int32(7), j, 3)) for j in range(3)]
        [14, 15, 16]
    """

    function: Callable[..., Batch]
    order: Sequence[int] | None = None
    player: int = 1

    def number(self, step: jax.Array, evaluation: int, num_batches: int) -> jax.Array:
        """Number the batch of an evaluation in step k.

        Raises:
            ValueError: if the rule has not one batch for each move of the order.
        """
        if self.order is None:
            return step
        moves = tuple(self.order)
        if len(moves) != num_batches or self.player not in moves:
            raise ValueError(
                f"the order of a rule with {num_batches} batches per step has so many "
                f"moves, one of player {self.player} among them; got {moves}"
            )
        before = moves[:evaluation].count(self.player)
        return moves.count(self.player) * step + before


def from_arrays(
    arrays: PyTree,
    batch_size: int,
    build: Callable[[PyTree, jax.Array], Batch] | Numbered,
    *,
    seed: int = 0,
    on_device: bool = False,
) -> Batches:
    """Draw batches from arrays, every epoch in a fresh order.

    The order is `gamedyn.data.BatchOrder`: a pure function of (seed, epoch), each
    process taking its part of every batch.

    Args:
        arrays: a pytree of host arrays with one leading axis, the examples.
        batch_size: the examples of one field evaluation, over all processes.
        build: `build(rows, key) -> batch`, traced inside the step; or `Numbered`.
        seed: of the order.
        on_device: keep the whole set on every device and gather there, which saves the
            transfer of each batch.

    Returns:
        The batches.

    Raises:
        ValueError: if the leading axes differ, or the batch is larger than the set or
            does not divide by the number of processes.

    Example:
        >>> import numpy as np
        >>> batches = from_arrays(np.arange(6.0), 2, lambda rows, key: rows, seed=1)
        >>> batches.load(0).shape
        (2,)
    """
    arrays = jax.tree.map(np.asarray, arrays)
    shapes = [leaf.shape for leaf in jax.tree.leaves(arrays)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"expected arrays with one common leading axis, the examples; got shapes "
            f"{', '.join(map(str, shapes)) or 'of no array'}"
        )
    (size,) = sizes.pop()
    order = BatchOrder(size, batch_size, seed, jax.process_index(), jax.process_count())
    if on_device:
        return Batches(
            lambda index: order.indices(index).astype(np.int32), build, arrays
        )

    def load(index: int) -> PyTree:
        rows = order.indices(index)
        return jax.tree.map(lambda leaf: leaf[rows], arrays)

    return Batches(load, build)


def stacked(load: Callable[[int], PyTree], indices: Iterable[int], length: int) -> Any:
    """Load several batches and stack them, repeating the last up to `length`.

    A call of fewer steps than usual then needs no program of its own.
    """
    loaded = [load(index) for index in indices]
    loaded += loaded[-1:] * (length - len(loaded))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *loaded)


def ahead(
    make: Callable[[Item], Made], items: Iterable[Item]
) -> Generator[tuple[Item, Made]]:
    """Yield every item with what is made of it, made one item ahead in a thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        before = None
        for item in items:
            current = item, thread.submit(make, item)
            if before is not None:
                yield before[0], before[1].result()
            before = current
        if before is not None:
            yield before[0], before[1].result()
