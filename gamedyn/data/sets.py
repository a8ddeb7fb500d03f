"""Named sets of pictures: found on disk, verified, and never downloaded."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.data import readers
from gamedyn.data.order import permutation, random_words
from gamedyn.data.readers import PathLike
from gamedyn.registry import Registry

ENVIRONMENT = "GAMEDYN_DATA"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Pictures with labels, checked against one another.

    Attributes:
        images: shape `(n, height, width, channels)`, uint8.
        labels: shape `(n,)`, int32, in `range(num_classes)`.
        num_classes: the number of classes.
        name: what the set is called in reports.
        split: which part of it this is.
        maximum: the value of a full pixel: 255, or 16 in scikit-learn's digits.
        classes: the names of the classes; empty if they have none.
        verified: whether every file had the checksum of the published one.

    Raises:
        TypeError: if `images` is not uint8 or `labels` holds no integers.
        ValueError: if a shape, a label or a pixel does not fit.
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
        """Check the arrays against one another."""
        check_positive_integer("num_classes", self.num_classes)
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.dtype != np.uint8:
            raise TypeError(f"{self.name}: images must be uint8, got {images.dtype}")
        if images.ndim != 4 or not images.size:
            raise ValueError(
                f"{self.name}: images must have the shape (n, height, width, channels)"
                f", none of them 0, got {images.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{self.name}: labels must be integers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"{self.name}: got labels of shape {labels.shape} for {len(images)} "
                "images, expected one each"
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


def check_num_classes(data: ImageSet, expected: int) -> None:
    """Raise `ValueError` unless a set has the number of classes a game is built for."""
    if data.num_classes != expected:
        raise ValueError(
            f"class count mismatch: {data.name} has {data.num_classes} classes, "
            f"expected {expected}"
        )


def scale(images: np.ndarray | jax.Array, maximum: int = 255, dtype=jnp.float32):
    """Scale pixels from 0 to `maximum` to the interval from -1 to 1, on the device.

    Args:
        images: uint8, any shape.
        maximum: the value of a full pixel, `ImageSet.maximum`.
        dtype: a float dtype.

    Returns:
        An array of the same shape and of `dtype`.

    Raises:
        TypeError: if the pixels are not uint8: scaling twice goes unnoticed otherwise.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"pixels must be uint8, got {images.dtype}")
    return jnp.asarray(images).astype(dtype) * (2.0 / maximum) - 1.0


# The SHA-256 of the content, uncompressed, of the published files.
_MNIST = {
    "train-images-idx3-ubyte": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}
_FASHION = {
    "train-images-idx3-ubyte": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}
# Batches 2 to 5 are checked for their format only.
_CIFAR10 = {
    "data_batch_1.bin": (
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
    ),
    "test_batch.bin": (
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
    ),
}

_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_DIGITS = tuple("0123456789")

_OBTAIN = {
    "mnist": (
        "the four gzip IDX files train-images-idx3-ubyte.gz, "
        "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz, from "
        "https://ossci-datasets.s3.amazonaws.com/mnist/, into the folder mnist"
    ),
    "fashion_mnist": (
        "the four gzip IDX files of the folder data/fashion of "
        "https://github.com/zalandoresearch/fashion-mnist, "
        "into the folder fashion-mnist"
    ),
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz and unpack its *.bin "
        "files into the folder cifar10"
    ),
    "adult": (
        "adult.data and adult.test from https://archive.ics.uci.edu/dataset/2/adult "
        "into the folder adult"
    ),
}
_FOLDERS = {
    "mnist": ("mnist", "MNIST/raw", ""),
    "fashion_mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", ""),
    "cifar10": ("cifar10", "cifar-10-batches-bin", ""),
    "adult": ("adult", ""),
}


def find(name: str, files: tuple[str, ...], root: PathLike | None) -> list[Path]:
    """Find all files of a named set in one folder.

    Args:
        name: the set.
        files: the names of its files.
        root: the data directory; the environment variable GAMEDYN_DATA if `None`.

    Returns:
        Their paths, in the order of `files`.

    Raises:
        FileNotFoundError: if the directory or a file is missing; the message says how
            to obtain the set.
    """
    advice = f"To obtain {name}: get {_OBTAIN[name]} of the data directory"
    given = root if root is not None else os.environ.get(ENVIRONMENT)
    if not given:
        raise FileNotFoundError(
            f"{name} needs its files: pass the data directory, or set {ENVIRONMENT}. "
            + advice
        )
    base = Path(given)
    if not base.is_dir():
        raise FileNotFoundError(f"the data directory {base} does not exist. " + advice)
    missing: list[str] = []
    for folder in _FOLDERS[name]:
        paths = [_either(base / folder / file) for file in files]
        found = [path for path in paths if path is not None]
        if len(found) == len(files):
            return found
        if found and not missing:
            missing = [
                file for file, path in zip(files, paths, strict=True) if path is None
            ]
    lacking = ", ".join(missing or files)
    raise FileNotFoundError(f"{name}: no {lacking} below {base}. " + advice)


def _either(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    if path.suffix != ".bin" and packed.is_file():
        return packed
    return path if path.is_file() else None


def verify_content(path: Path, content: bytes, expected: str | None) -> None:
    """Raise `ValueError` if a file's content has another SHA-256 than expected."""
    got = hashlib.sha256(content).hexdigest()
    if expected is not None and got != expected:
        raise ValueError(
            f"checksum mismatch: the content of {path} has SHA-256 {got}, expected "
            f"{expected}; get the file again, or pass verify=False for one of your own"
        )


def _load_idx_set(name, checksums, classes, split, root, verify) -> ImageSet:
    stem = {"train": "train", "test": "t10k"}[split]
    files = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    arrays = []
    for file, path, rank in zip(files, find(name, files, root), (3, 1), strict=True):
        array = readers.read_idx(path)
        if array.dtype != np.uint8 or array.ndim != rank:
            raise ValueError(
                f"{path}: got {array.dtype} of {array.ndim} dimensions, expected uint8 "
                f"of {rank}"
            )
        if verify:
            verify_content(path, readers.encode_idx(array), checksums[file])
        arrays.append(array)
    images, labels = arrays
    if images.shape[1:] != (28, 28):
        raise ValueError(
            f"{name}: got pictures of {images.shape[1:]}, expected (28, 28)"
        )
    return ImageSet(
        images[..., None], labels, 10, name, split, classes=classes, verified=verify
    )


def _load_cifar10(split: str, root: PathLike | None, verify: bool) -> ImageSet:
    files = {
        "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "batch_1": ("data_batch_1.bin",),
        "test": ("test_batch.bin",),
    }[split]
    parts = []
    for file, path in zip(files, find("cifar10", files, root), strict=True):
        parts.append(readers.read_cifar10(path))
        if verify:
            verify_content(path, path.read_bytes(), _CIFAR10.get(file))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    known = verify and all(file in _CIFAR10 for file in files)
    return ImageSet(
        images, labels, 10, "cifar10", split, classes=_CIFAR10_CLASSES, verified=known
    )


_HELD_OUT_DIGITS = 360


def _load_digits(split: str, root: PathLike | None, verify: bool) -> ImageSet:
    del root, verify  # the pictures come with scikit-learn
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = permutation(len(images), 0, 0)
    cut = len(images) - _HELD_OUT_DIGITS
    chosen = order[:cut] if split == "train" else order[cut:]
    pictures = images[chosen].reshape(-1, 8, 8, 1).astype(np.uint8)
    return ImageSet(pictures, labels[chosen], 10, "digits", split, 16, _DIGITS)


@dataclasses.dataclass(frozen=True)
class SetEntry:
    """A registered set.

    Attributes:
        read: `read(split, root, verify) -> ImageSet`.
        splits: its parts.
        summary: one line in words.
    """

    read: Callable[[str, PathLike | None, bool], ImageSet]
    splits: tuple[str, ...]
    summary: str


REGISTRY: Registry[SetEntry] = Registry("data set")
REGISTRY.add(
    "digits",
    SetEntry(
        _load_digits,
        ("train", "test"),
        "1,797 grey 8x8 digits of scikit-learn, 360 of them held out",
    ),
)
REGISTRY.add(
    "mnist",
    SetEntry(
        functools.partial(_load_idx_set, "mnist", _MNIST, _DIGITS),
        ("train", "test"),
        "60,000 + 10,000 grey 28x28 digits",
    ),
)
REGISTRY.add(
    "fashion_mnist",
    SetEntry(
        functools.partial(_load_idx_set, "fashion_mnist", _FASHION, _FASHION_CLASSES),
        ("train", "test"),
        "60,000 + 10,000 grey 28x28 articles of clothing",
    ),
)
REGISTRY.add(
    "cifar10",
    SetEntry(
        _load_cifar10,
        ("train", "test", "batch_1"),
        "50,000 + 10,000 RGB 32x32 pictures; batch_1 is the first 10,000",
    ),
)


def names() -> tuple[str, ...]:
    """The names of all registered sets."""
    return REGISTRY.names()


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
            scikit-learn, the others are files that the caller has obtained.
        split: a part of the set.
        root: the data directory, which holds the set's files or its folder; the
            environment variable GAMEDYN_DATA if `None`.
        verify: whether to compare checksums, where they are known.

    Returns:
        The pictures.

    Raises:
        FileNotFoundError: if the directory or a file is missing; the message says how
            to obtain the set.
        ValueError: if the name or the split is unknown, a file is damaged, or its
            checksum is another one.

    Example:
        >>> data = load("digits")
        >>> data.images.shape, data.num_classes
        ((1437, 8, 8, 1), 10)
    """
    entry = REGISTRY[name]
    if split not in entry.splits:
        raise ValueError(
            f"unknown split {split!r} of {name!r}; known: {', '.join(entry.splits)}"
        )
    return entry.read(split, root, verify)


def from_npz(path: PathLike, num_classes: int, *, split: str = "train") -> ImageSet:
    """Load one's own set: an npz file with the arrays `images` and `labels`.

    Args:
        path: the file; `images` as in `ImageSet`, or without the axis of channels.
        num_classes: the number of classes.
        split: what to call this part.

    Returns:
        The pictures.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError: if an array has another dtype.
        ValueError: if the file is damaged, lacks an array, or the arrays do not fit.
    """
    arrays = readers.read_npz(path)
    if not {"images", "labels"} <= arrays.keys():
        raise ValueError(
            f"{path}: got the arrays {', '.join(sorted(arrays))}, expected images and "
            "labels"
        )
    images = arrays["images"]
    images = images[..., None] if images.ndim == 3 else images
    return ImageSet(images, arrays["labels"], num_classes, Path(path).stem, split)


def from_folder(path: PathLike, *, split: str = "train") -> ImageSet:
    """Load one's own set: a folder of PNG pictures, or of a folder for each class.

    Args:
        path: the folder, see `readers.read_image_folder`.
        split: what to call this part.

    Returns:
        The pictures; those of a flat folder are of one class.

    Raises:
        NotADirectoryError: if there is no such folder.
        ValueError: if the folder or a picture is not as expected.
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

    The default is the fixed set of the protocol `stacked_mnist/veegan` if `data` is
    MNIST's training set.

    Args:
        data: grey pictures of 10 classes.
        number: how many stacks; they take `number * height * width * 3` bytes.
        seed: in 0 to 2**64 - 1; the same stacks on every machine.

    Returns:
        The stacks; that of classes a, b, c has the label 100 a + 10 b + c.

    Raises:
        ValueError: if `data` is not such a set or `number` is not positive.
    """
    _check_stackable(data)
    check_positive_integer("number", number)
    words = random_words(3 * number, seed).reshape(number, 3)
    chosen = (words % np.uint64(len(data))).astype(np.int64)
    images = np.moveaxis(data.images[chosen, :, :, 0], 1, -1)
    labels = data.labels[chosen] @ np.array([100, 10, 1], np.int32)
    name = f"stacked_{data.name}"
    return ImageSet(images, labels, 1000, name, data.split, data.maximum)


def stack(
    images: jax.Array, labels: jax.Array, key: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Stack three random pictures as channels, on the device: a fresh batch for a key.

    This is how the protocol `stacked_mnist/unrolled-quarter` draws its batches.

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
