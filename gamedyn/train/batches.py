"""Batches: loaded ahead on the host in a thread, completed inside the compiled step."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from gamedyn.data.order import BatchOrder
from gamedyn.game import Batch, PyTree
from gamedyn.train.describe import ingredients

Item = TypeVar("Item")
Made = TypeVar("Made")


class Batches(NamedTuple):
    """Where the batches of a run come from: loaded on the host, completed in the step.

    Attributes:
        load: `load(index) -> arrays` on the host, a pure function of the number of the
            field evaluation (evaluation j of step k has index `num_batches * k + j`),
            so that a resumed run sees the same data as an uninterrupted one. The
            arrays' leading axis is that of the examples; with several processes, each
            loads its own share.
        build: `build(arrays, key) -> batch`, traced inside the step: scaling,
            augmentation, the batch type that the game expects. May be `Numbered`.
        resident: a pytree that stays on the devices, or `None`. If given, `load`
            returns indices into its leading axis, shape (examples,), and `build` gets
            the rows at these indices.
        fingerprint: JSON values that identify the data and their order, stored with the
            checkpoints and compared on resume. If `None`, what `load` closes over,
            numbers and hashes of arrays, and the resident arrays; of an object of
            another class only its name.
    """

    load: Callable[[int], PyTree]
    build: "Callable[[PyTree, jax.Array], Batch] | Numbered"
    resident: PyTree = None
    fingerprint: Any = None


class Numbered(NamedTuple):
    """A function that makes batches and also gets the number of the player's step.

    Use it in place of `build` in `Batches` and `from_arrays`, or of the function
    `key -> batch`, if a loss changes from step to step: a lazy penalty,
    `gamedyn.gan.lazy`, needs the number of the discriminator's step. The number
    depends on the step k of the run alone, so neither `steps_per_call` nor a resume
    changes it.

    Attributes:
        function: `function(arrays, key, number)`, or `function(key, number)`; `number`
            is an int32 scalar, traced.
        order: `None`: all batches of step k have the number k. This suits every rule
            that evaluates one loss several times: an extragradient's two evaluations
            must minimise the same function. Otherwise the `order` given to
            `gamedyn.alternating(..., resample=True)`, where each move has a batch of
            its own: its number counts the earlier moves of `player`, over all steps.
        player: the player whose moves are counted; 1 is the discriminator of
            `gamedyn.gan.game`.

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
        """Compute the number that `function` gets.

        Args:
            step: k, the index of the step, an int32 scalar.
            evaluation: j, the index of the batch within the step.
            num_batches: how many batches the rule takes per step.

        Returns:
            The number, an int32 scalar.

        Raises:
            ValueError: if the rule does not take one batch for each move of `order`,
                or `player` makes no move in it.
        """
        if self.order is None:
            return step
        moves = tuple(self.order)
        if len(moves) != num_batches or self.player not in moves:
            raise ValueError(
                f"the order of a rule with {num_batches} batches per step must have so "
                f"many moves, at least one of player {self.player}; got {moves}"
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
    """Draw batches from arrays, shuffled anew in every epoch.

    The order is `gamedyn.data.BatchOrder`: a pure function of (seed, epoch); each
    process takes its part of every batch.

    Args:
        arrays: a pytree of host arrays with one leading axis, the examples.
        batch_size: examples per field evaluation, over all processes.
        build: `build(rows, key) -> batch`, traced inside the step; or `Numbered`.
        seed: of the shuffling.
        on_device: keep the whole set on every device and gather there, which saves the
            transfer of each batch.

    Returns:
        The batches, to be passed to `fit`.

    Raises:
        ValueError: if the leading axes differ, or the batch size exceeds the number of
            examples or is not a multiple of the number of processes.

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
    fingerprint = {
        "arrays": ingredients(arrays),
        "size": size,
        "batch_size": int(batch_size),
        "seed": int(seed),
    }
    if on_device:
        # Only indices are transferred; `fit` puts the arrays on the devices once.
        return Batches(
            lambda index: order.indices(index).astype(np.int32),
            build,
            arrays,
            fingerprint,
        )

    def load(index: int) -> PyTree:
        rows = order.indices(index)
        return jax.tree.map(lambda leaf: leaf[rows], arrays)

    return Batches(load, build, fingerprint=fingerprint)


def stacked(load: Callable[[int], PyTree], indices: Iterable[int], length: int) -> Any:
    """Load several batches and stack them, repeating the last up to `length`.

    With a constant length, a call of fewer steps than usual needs no compilation of its
    own; it does not use the repeated ones.
    """
    loaded = [load(index) for index in indices]
    loaded += loaded[-1:] * (length - len(loaded))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *loaded)


def ahead(
    make: Callable[[Item], Made], items: Iterable[Item]
) -> Generator[tuple[Item, Made]]:
    """Yield `(item, make(item))` for each item, the next one being made in a thread."""
    # One ahead hides the loading behind a step; more would only hold more in memory.
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        before = None
        for item in items:
            current = item, thread.submit(make, item)
            if before is not None:
                yield before[0], before[1].result()
            before = current
        if before is not None:
            yield before[0], before[1].result()
