"""The named sets of pictures: found on disk, verified, and never downloaded."""

import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from gamedyn.data import readers
from gamedyn.data.order import permutation
from gamedyn.data.readers import PathLike
from gamedyn.data.sets import ImageSet, register

ENVIRONMENT = "GAMEDYN_DATA"

# The SHA-256 of the uncompressed content of the published files: it does not depend on
# how a mirror has compressed them.
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
# No checksums of batches 2 to 5: only their format is checked, and a set with them is
# not called verified.
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
    """Find all files of a named set in one folder of the data directory.

    Args:
        name: the name of the set.
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
        present = [path for path in paths if path is not None]
        if len(present) == len(files):
            return present
        # Report the folder that has some of the files: the user means that one.
        if present and not missing:
            missing = [
                file for file, path in zip(files, paths, strict=True) if path is None
            ]
    lacking = ", ".join(missing or files)
    raise FileNotFoundError(f"{name}: no {lacking} below {base}. " + advice)


def _either(path: Path) -> Path | None:
    """Return the path of a file, compressed or not, or `None` if there is neither."""
    # CIFAR-10's files are compressed as one archive, never one by one.
    packed = path.with_name(path.name + ".gz")
    if path.suffix != ".bin" and packed.is_file():
        return packed
    return path if path.is_file() else None


def verify_content(path: Path, content: bytes, expected: str | None) -> None:
    """Check the SHA-256 of a file's content.

    Args:
        path: the file, for the message.
        content: its bytes.
        expected: the SHA-256, hexadecimal; any if `None`.

    Raises:
        ValueError: if the SHA-256 differs.
    """
    got = hashlib.sha256(content).hexdigest()
    if expected is not None and got != expected:
        raise ValueError(
            f"checksum mismatch: the content of {path} has SHA-256 {got}, expected "
            f"{expected}; get the file again, or pass verify=False for your own file"
        )


_HELD_OUT_DIGITS = 360  # a fifth of the 1,797


def _load_digits(split: str, root: PathLike | None, verify: bool) -> ImageSet:
    del root, verify  # the pictures come with scikit-learn
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # Shuffled with a fixed seed: the same pictures are held out on every machine.
    order = permutation(len(images), 0, 0)
    cut = len(images) - _HELD_OUT_DIGITS
    chosen = order[:cut] if split == "train" else order[cut:]
    pictures = images[chosen].reshape(-1, 8, 8, 1).astype(np.uint8)
    return ImageSet(pictures, labels[chosen], 10, "digits", split, 16, _DIGITS)


register(
    "digits",
    _load_digits,
    summary="1,797 grey 8x8 digits of scikit-learn, 360 of them held out",
    source="E. Alpaydin, C. Kaynak, 1998, UCI repository",
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


register(
    "mnist",
    functools.partial(_load_idx_set, "mnist", _MNIST, _DIGITS),
    summary="60,000 + 10,000 grey 28x28 digits",
    source="Y. LeCun et al., 1998",
)
register(
    "fashion_mnist",
    functools.partial(_load_idx_set, "fashion_mnist", _FASHION, _FASHION_CLASSES),
    summary="60,000 + 10,000 grey 28x28 articles of clothing",
    source="H. Xiao et al., 2017, arXiv:1708.07747",
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


register(
    "cifar10",
    _load_cifar10,
    summary="50,000 + 10,000 RGB 32x32 pictures; batch_1 is the first 10,000",
    source="A. Krizhevsky, 2009",
    splits=("train", "test", "batch_1"),
)
