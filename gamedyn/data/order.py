"""The order of examples, a pure function of (seed, epoch): resumable and sharded."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from gamedyn.checks import check_positive_integer


def _check_word(name: str, value: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} must be in 0 to 2**64 - 1, got {value}")


def random_words(number: int, seed: int, stream: int = 0) -> np.ndarray:
    """Draw 64-bit words from the counter-based generator Philox, key (seed, stream).

    numpy promises that the raw words of a bit generator are the same on every machine
    and in every version; it does not promise this of permutations and bounded integers.

    Args:
        number: the number of words.
        seed: in 0 to 2**64 - 1.
        stream: in 0 to 2**64 - 1.

    Returns:
        Words of shape `(number,)`, uint64.

    Raises:
        TypeError: if `seed` or `stream` is no integer.
        ValueError: if one is out of range, or `number` is not positive.

    References:
        J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011.
        <https://doi.org/10.1145/2063384.2063405>
    """
    check_positive_integer("number", number)
    _check_word("seed", seed)
    _check_word("stream", stream)
    key = np.array([seed, stream], np.uint64)
    return np.random.Philox(key=key).random_raw(number)


@functools.lru_cache(maxsize=4)
def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """Permute `range(size)` for one epoch, in the same way on every machine.

    The permutation is the stable argsort of `size` random words.

    Args:
        size: the number of examples.
        seed: in 0 to 2**64 - 1.
        epoch: in 0 to 2**64 - 1.

    Returns:
        Indices of shape `(size,)`, int64, read-only.

    Raises:
        TypeError: if `seed` or `epoch` is no integer.
        ValueError: if one is out of range, or `size` is not positive.

    Example:
        >>> permutation(8, seed=0, epoch=0).tolist()
        [0, 2, 1, 5, 4, 3, 6, 7]
    """
    order = np.argsort(random_words(size, seed, epoch), kind="stable").astype(np.int64)
    order.flags.writeable = False  # the cache returns this array to every caller
    return order


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """The examples of each batch, as a function of its number: there is no state.

    Each epoch is a new permutation of the examples, cut into batches; the examples that
    do not fill the last batch are left out of that epoch. With several processes each
    gets a contiguous part of every global batch. Concatenated in the order of the
    processes, the parts are the batch of a single process, so that the number of
    processes does not change what a step sees.

    Args:
        size: the number of examples.
        batch_size: the size of the global batch, over all processes.
        seed: in 0 to 2**64 - 1.
        process_index: the index of this process.
        process_count: the number of processes; must divide `batch_size`.

    Raises:
        TypeError: if `seed` is not an integer.
        ValueError: if the batch is larger than the set, its size is not a multiple of
            the number of processes, or a number is out of range.

    Example:
        >>> order = BatchOrder(size=10, batch_size=4, seed=1)
        >>> order.steps_per_epoch, order.indices(0).shape, order.epoch(5)
        (2, (4,), 2)
    """

    size: int
    batch_size: int
    seed: int = 0
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("size", "batch_size", "process_count"):
            check_positive_integer(name, getattr(self, name))
        _check_word("seed", self.seed)
        _check_word("process_index", self.process_index)
        if self.batch_size > self.size:
            raise ValueError(
                f"the batch is larger than the set: got batch_size {self.batch_size}, "
                f"expected at most {self.size}"
            )
        if self.process_index >= self.process_count:
            raise ValueError(
                f"process_index must be below process_count {self.process_count}, got "
                f"{self.process_index}"
            )
        if self.batch_size % self.process_count:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of process_count "
                f"{self.process_count}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """The number of full batches in an epoch."""
        return self.size // self.batch_size

    @property
    def local_batch_size(self) -> int:
        """The number of examples in this process's part of a batch."""
        return self.batch_size // self.process_count

    def epoch(self, step: int) -> int:
        """Return the epoch of a batch, both counted from 0."""
        return step // self.steps_per_epoch

    def indices(self, step: int) -> np.ndarray:
        """Return the examples of a batch.

        Args:
            step: the number of the batch, counted from 0 over all epochs.

        Returns:
            Indices of shape `(local_batch_size,)`, int64.

        Raises:
            TypeError: if `step` is not an integer.
            ValueError: if it is negative.
        """
        _check_word("step", step)
        epoch, position = divmod(int(step), self.steps_per_epoch)
        start = position * self.batch_size + self.process_index * self.local_batch_size
        order = permutation(int(self.size), int(self.seed), epoch)
        return order[start : start + self.local_batch_size].copy()

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Iterate over batches.

        Args:
            start: the number of the first batch; to resume after k batches, start at k.
            stop: the number of the batch to end before; without end if `None`.

        Yields:
            `indices(step)` for each batch.
        """
        step = start
        while stop is None or step < stop:
            yield self.indices(step)
            step += 1
