"""Sets of pictures: the type, the table of named sets, and sets of one's own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn._moved import forward
from gamedyn.checks import check_positive_integer
from gamedyn.data import readers
from gamedyn.data.order import random_words
from gamedyn.data.readers import PathLike
from gamedyn.registry import Registry


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Pictures with labels, whose shapes, dtypes and ranges are checked.

    Attributes:
        images: shape `(n, height, width, channels)`, uint8.
        labels: shape `(n,)`, int32, in `range(num_classes)`.
        num_classes: the number of classes.
        name: the name of the set in reports.
        split: the part of the set, such as "train" or "test".
        maximum: the largest value of a pixel: 255, or 16 in scikit-learn's digits.
        classes: the names of the classes; empty if they have none.
        verified: whether every file had the checksum of the published one.

    Raises:
        TypeError: if `images` is not uint8, or `labels` are not integers.
        ValueError: if a shape is wrong, or a label, a pixel or the number of `classes`
            out of range.
    """

    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    name: str = "images"
    split: str = "train"
    maximum: int = 255
    classes: tuple[str, ...] = ()
    verified: bool = False

    def __post_init__(self) -> None:
        """Check the arrays, and convert the labels to int32."""
        check_positive_integer("num_classes", self.num_classes)
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8:
            raise TypeError(
                f"{self.name}: images must be uint8, got {images.dtype}"
                + _as_pixels(images)
            )
        if images.ndim != 4 or not images.size:
            raise ValueError(
                f"{self.name}: images must have the shape (n, height, width, channels)"
                f", none of them 0, got {images.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{self.name}: labels must be integers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            hot = labels.ndim == 2 and len(labels) == len(images)
            raise ValueError(
                f"{self.name}: got labels of shape {labels.shape} for {len(images)} "
                "images, expected one each"
                + ": of one-hot labels, labels.argmax(axis=1)"
                * hot
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"{self.name}: labels out of range: got {low} to {high}, expected 0 to "
                f"{self.num_classes - 1}"
            )
        if self.classes and len(self.classes) != self.num_classes:
            raise ValueError(
                f"{self.name}: got {len(self.classes)} names of classes, expected "
                f"{self.num_classes}"
            )
        if images.max() > self.maximum:
            raise ValueError(
                f"{self.name}: got the pixel {images.max()}, expected at most "
                f"{self.maximum}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.images)


def _as_pixels(images: np.ndarray) -> str:
    """Say how pictures of another dtype become pixels, if their range tells."""
    if images.dtype.kind not in "iuf" or not images.size:
        return ""
    low, high = float(np.min(images)), float(np.max(images))
    how = ""
    if images.dtype.kind in "iu" and low >= 0 and high <= 255:
        how = "images.astype(np.uint8)"
    elif low >= 0 and 1 < high <= 255:
        how = "np.rint(images).astype(np.uint8)"
    elif -1 <= low <= high <= 1:
        span = "255 * images" if low >= 0 else "127.5 * (images + 1)"
        how = f"np.rint({span}).astype(np.uint8)"
    return f" from {low:.4g} to {high:.4g}" + f": {how}" * bool(how)


_CHANNELS = (1, 3, 4)  # grey, RGB, RGB and transparency


def channels_last(images: np.ndarray) -> np.ndarray:
    """Bring pictures into the order of their axes that is used here.

    Args:
        images: shape `(n, height, width, channels)`; or, as other libraries store them,
            `(n, channels, height, width)`, if the shape leaves no doubt which of the
            two it is: one of the two axes has 1, 3 or 4 channels, or both have, and of
            the two readings one alone makes the pictures square.

    Returns:
        Shape `(n, height, width, channels)`.

    Raises:
        ValueError: if neither reading fits, or both.

    Example:
        >>> import numpy as np
        >>> channels_last(np.zeros((10, 3, 32, 32), np.uint8)).shape
        (10, 32, 32, 3)
    """
    if images.ndim != 4:
        raise ValueError(
            "pictures must have the shape (n, height, width, channels) or (n, "
            f"channels, height, width), got {images.shape}"
        )
    _, first, middle, last = images.shape
    ends, starts = last in _CHANNELS, first in _CHANNELS
    if ends and starts and (first == middle) != (middle == last):
        ends, starts = first == middle, middle == last
    if not ends and not starts:
        raise ValueError(
            f"of pictures of shape {images.shape} neither the last nor the second axis "
            "has 1, 3 or 4 channels"
        )
    if ends and starts and not first == middle == last == 1:
        raise ValueError(
            f"pictures of shape {images.shape} may have their channels in the second "
            "axis or in the last: build an ImageSet, whose channels are the last"
        )
    return images if ends else np.moveaxis(images, 1, -1)


def check_num_classes(data: ImageSet, expected: int) -> None:
    """Check that a set has the number of classes that a game is built for.

    Args:
        data: the set.
        expected: the number of classes.

    Raises:
        ValueError: if the set has another number of classes.
    """
    if data.num_classes != expected:
        raise ValueError(
            f"class count mismatch: {data.name} has {data.num_classes} classes, "
            f"expected {expected}"
        )


def scale(images: np.ndarray | jax.Array, maximum: int = 255, dtype=jnp.float32):
    """Scale pixels from {0, ..., `maximum`} to [-1, 1], on the device.

    Args:
        images: uint8, any shape.
        maximum: the largest value of a pixel, `ImageSet.maximum`.
        dtype: a float dtype.

    Returns:
        An array of the same shape and of `dtype`.

    Raises:
        TypeError: if the pixels are not uint8; otherwise scaling them twice would go
            unnoticed.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"pixels must be uint8, got {images.dtype}")
    return jnp.asarray(images).astype(dtype) * (2.0 / maximum) - 1.0


@dataclasses.dataclass(frozen=True)
class SetEntry:
    """A registered set.

    Attributes:
        read: `read(split, root, verify) -> ImageSet`.
        splits: the names of its parts.
        summary: one line in words.
        source: who published it.
    """

    read: Callable[[str, PathLike | None, bool], ImageSet]
    splits: tuple[str, ...]
    summary: str
    source: str


_REGISTRY: Registry[SetEntry] = Registry("data set")


def register(
    name: str,
    read: Callable[[str, PathLike | None, bool], ImageSet] | None = None,
    *,
    summary: str,
    source: str,
    splits: tuple[str, ...] = ("train", "test"),
) -> Any:
    """Register a set of pictures, so that `load` and `--data` of the recipes know it.

    Args:
        name: the name, in snake case.
        read: `read(split, root, verify) -> ImageSet`: the part to read, the data
            directory or `None`, and whether to compare checksums (see `load`). If
            `None`, a decorator is returned.
        summary: one line in words.
        source: who published it.
        splits: the names of its parts; recipes train on "train" and compare with
            "test".

    Returns:
        `read`, or the decorator.

    Raises:
        ValueError: if the name is taken.

    Example:
        >>> import numpy as np
        >>> @register("squares", summary="squares of two sizes", source="nobody")
        ... def squares(split, root, verify):
        ...     images = np.zeros((2, 8, 8, 1), np.uint8)
        ...     images[0, 3:5, 3:5] = images[1, 2:6, 2:6] = 255
        ...     return ImageSet(images, np.arange(2), 2, "squares", split)
        >>> len(load("squares", split="test"))
        2
        >>> unregister("squares")
    """
    facts = {"splits": splits, "summary": summary, "source": source}
    return _REGISTRY.register(name, lambda read: SetEntry(read, **facts), read)


def unregister(name: str) -> None:
    """Take a set out of the table again.

    Args:
        name: a name from `names()`.

    Raises:
        ValueError: if the name is unknown.
    """
    _REGISTRY.remove(name)


def names() -> tuple[str, ...]:
    """The names of all registered sets, in order of registration."""
    return _REGISTRY.names()


def entries() -> dict[str, SetEntry]:
    """All registered sets by name."""
    return _REGISTRY.entries()


def entry(name: str) -> SetEntry:
    """Look up a registered set.

    Args:
        name: a name from `names()`; hyphens are accepted.

    Returns:
        The entry.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.
    """
    return _REGISTRY[name]


def load(
    name: str = "digits",
    *,
    split: str = "train",
    root: PathLike | None = None,
    verify: bool = True,
) -> ImageSet:
    """Load a registered set.

    Args:
        name: a name from `names()`; hyphens are accepted. The digits come with
            scikit-learn; for the others the user has to obtain the files.
        split: the part of the set, one of its entry's `splits`.
        root: the data directory, with the set's files or its folder in it; if `None`,
            the environment variable GAMEDYN_DATA.
        verify: whether to compare checksums, where they are known.

    Returns:
        The pictures.

    Raises:
        FileNotFoundError: if the directory or a file is missing; the message says how
            to obtain the set.
        ValueError: if the name or the split is unknown, a file is damaged, or its
            checksum differs.
        TypeError: if the reader of the set does not return an `ImageSet`.

    Example:
        >>> data = load("digits")
        >>> data.images.shape, data.num_classes
        ((1437, 8, 8, 1), 10)
    """
    chosen = entry(name)
    if split not in chosen.splits:
        raise ValueError(
            f"unknown split {split!r} of {name!r}; known: {', '.join(chosen.splits)}"
        )
    data = chosen.read(split, root, verify)
    if not isinstance(data, ImageSet):
        raise TypeError(
            f"the reader of {name!r} must return an ImageSet, got {type(data).__name__}"
        )
    return data


def from_npz(
    path: PathLike, num_classes: int, *, split: str = "train", maximum: int = 255
) -> ImageSet:
    """Load a set of one's own from an npz file with the arrays `images` and `labels`.

    Args:
        path: the file; `images` as in `ImageSet`, with the channels before height and
            width (see `channels_last`), or without them.
        num_classes: the number of classes.
        split: the name of this part.
        maximum: the largest value of a pixel.

    Returns:
        The pictures.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError: if an array has another dtype.
        ValueError: if the file is damaged or lacks an array, the arrays' shapes or
            labels do not fit together, it is in doubt which axis has the channels, or
            the brightest pixel is 1, as in pictures cast from [0, 1].
    """
    arrays = readers.read_npz(path)
    if not {"images", "labels"} <= arrays.keys():
        raise ValueError(
            f"{path}: got the arrays {', '.join(sorted(arrays))}, expected images and "
            "labels"
        )
    images = arrays["images"]
    try:
        images = images[..., None] if images.ndim == 3 else channels_last(images)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    name = Path(path).stem
    made = ImageSet(images, arrays["labels"], num_classes, name, split, maximum)
    if images.max() == 1 < maximum:
        raise ValueError(
            f"{path}: the brightest pixel is 1 of {maximum}: np.rint(255 * images)."
            "astype(np.uint8) of pictures in [0, 1], or maximum=1"
        )
    return made


def from_folder(path: PathLike, *, split: str = "train") -> ImageSet:
    """Load a set of one's own from a folder of PNG pictures, or one folder per class.

    Args:
        path: the folder, see `readers.read_image_folder`.
        split: the name of this part.

    Returns:
        The pictures; without class folders, all are of one class.

    Raises:
        NotADirectoryError: if there is no such folder.
        ValueError: if the folder or a picture is not as `readers.read_image_folder`
            expects it.
    """
    images, labels, classes = readers.read_image_folder(path)
    number = max(len(classes), 1)
    return ImageSet(images, labels, number, Path(path).name, split, classes=classes)


def _check_stackable(data: ImageSet) -> None:
    if data.images.shape[-1] != 1 or data.num_classes != 10:
        raise ValueError(
            f"stacking needs grey pictures of 10 classes, got {data.name} with "
            f"{data.images.shape[-1]} channels and {data.num_classes} classes"
        )


def stacked(data: ImageSet, number: int = 128_000, *, seed: int = 0) -> ImageSet:
    """Stack three random pictures as the channels of one: a set of 1,000 classes.

    With MNIST's training set and the default `number`, it is the fixed set of the
    protocol `stacked_mnist/veegan`.

    Args:
        data: grey pictures of 10 classes.
        number: the number of stacks; they take `number * height * width * 3` bytes.
        seed: in 0 to 2**64 - 1; a seed gives the same stacks on every machine.

    Returns:
        The stacks; one of classes a, b, c has the label 100 a + 10 b + c.

    Raises:
        ValueError: if `data` is not grey or not of 10 classes, or `number` is not
            positive.
    """
    _check_stackable(data)
    check_positive_integer("number", number)
    words = random_words(3 * number, seed).reshape(number, 3)
    # The bias of the remainder is below len(data) / 2**64.
    chosen = (words % np.uint64(len(data))).astype(np.int64)
    images = np.moveaxis(data.images[chosen, :, :, 0], 1, -1)
    labels = data.labels[chosen] @ np.array([100, 10, 1], np.int32)
    name = f"stacked_{data.name}"
    return ImageSet(images, labels, 1000, name, data.split, data.maximum)


def stack(
    images: jax.Array, labels: jax.Array, key: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Draw a batch of stacks of three random pictures, on the device.

    The protocol `stacked_mnist/unrolled-quarter` draws a new batch like this in every
    step.

    Args:
        images: shape `(n, height, width, 1)`.
        labels: shape `(n,)`, integers in 0 to 9.
        key: a key of `jax.random`.
        number: the size of the batch, static.

    Returns:
        Stacks of shape `(number, height, width, 3)`, in the dtype of `images`, and
        labels 100 a + 10 b + c of shape `(number,)`, int32.

    Raises:
        ValueError: if `images` has another shape or `number` is not positive.
    """
    check_positive_integer("number", number)
    if images.ndim != 4 or images.shape[-1] != 1:
        raise ValueError(
            f"images must have the shape (n, height, width, 1), got {images.shape}"
        )
    chosen = jax.random.randint(key, (number, 3), 0, images.shape[0], jnp.int32)
    stacks = jnp.moveaxis(images[chosen, :, :, 0], 1, -1)
    places = jnp.array([[100, 10, 1]], jnp.int32)
    digits = labels[chosen].astype(jnp.int32)
    return stacks, jnp.sum(digits * places, axis=1, dtype=jnp.int32)


if not TYPE_CHECKING:  # old names
    __getattr__ = forward(__name__, "gamedyn.data.published")
