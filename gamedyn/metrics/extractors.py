"""Feature extractors: functions from pictures to features, with name and hash."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.metrics import checks
from gamedyn.nets.convolutions import convolve


class Features(NamedTuple):
    """The features of a set of pictures, in float64.

    Attributes:
        features: shape (n, d).
        probabilities: of the classes, shape (n, C); `None` if the extractor is not a
            classifier.
        source: the extractor's name and the hash of its weights.
    """

    features: np.ndarray
    probabilities: np.ndarray | None
    source: str


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A function from pictures to features, with all that a measurement records of it.

    Attributes:
        name: the name in printed values, `frechet[name]`.
        apply: `apply(images) -> (features, logits)`: uint8 pictures (B, H, W, C) to
            features (B, d) and logits (B, C), the latter `None` without a classifier.
        layer: the layer whose outputs are the features.
        weights: SHA-256 of the weights, hexadecimal; "none" without weights.
        resize: how pictures are resized for the network.
        shape: the shape of a picture, (H, W, C); `None` for an axis of any size.
        maximum: the largest value of a pixel, as in `gamedyn.data.ImageSet`.
        test_accuracy: of a classifier, on held-out pictures; `None` otherwise.
    """

    name: str
    apply: Callable[[np.ndarray], tuple[Any, Any]]
    layer: str
    weights: str = "none"
    resize: str = "none"
    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    maximum: int = 255
    test_accuracy: float | None = None

    @property
    def source(self) -> str:
        """The name with the hash of the weights."""
        return f"{self.name}:{self.weights}"

    def __call__(self, images: Any, *, batch_size: int = 250) -> Features:
        """Compute the features of all pictures, batch by batch.

        Args:
            images: uint8, shape (n, H, W, C): see `quantise`.
            batch_size: pictures per batch; it changes the result by rounding only.

        Returns:
            The features, and probabilities if the extractor is a classifier.

        Raises:
            TypeError: if the pictures are not uint8.
            ValueError: if their shape is not the extractor's, a pixel exceeds
                `maximum`, or `batch_size` is not a positive integer.
        """
        images = checks.pictures("images", images)
        check_positive_integer("batch_size", batch_size)
        expected = zip(self.shape, images.shape[1:], strict=True)
        if any(size is not None and size != got for size, got in expected):
            raise ValueError(
                f"{self.name} expected pictures of shape {self.shape}, "
                f"got {images.shape[1:]}"
            )
        if images.max() > self.maximum:
            raise ValueError(
                f"{self.name} expected pixels up to {self.maximum}, got {images.max()}"
            )
        size = min(batch_size, len(images))
        # Pad the last batch: with one shape for all, the network is compiled once.
        missing = -len(images) % size
        padded = np.concatenate([images, images[:1].repeat(missing, axis=0)])
        # By default accelerators round the factors of float32 products to ten bits.
        with jax.default_matmul_precision("float32"):
            parts = [
                self.apply(padded[start : start + size])
                for start in range(0, len(padded), size)
            ]
        features, logits = zip(*parts, strict=True)
        joined = _join(features, len(images))
        if logits[0] is None:
            return Features(joined, None, self.source)
        return Features(joined, _softmax(_join(logits, len(images))), self.source)


def quantise(images: Any, maximum: int = 255) -> np.ndarray:
    r"""Convert generated pictures in [-1, 1] to pixels, as real pictures have them.

    $$\mathrm{round}\bigl(\tfrac m2 (\min(\max(x, -1), 1) + 1)\bigr).$$

    Rounding down, or leaving out this step, shifts every statistic.

    Args:
        images: floating-point, any shape.
        maximum: m, the largest value of a pixel, 1 to 255.

    Returns:
        uint8 of the same shape.

    Raises:
        TypeError: if the pictures are not floating-point; otherwise quantising them
            twice would go unnoticed.
        ValueError: if a value is NaN, or `maximum` is out of range.

    Example:
        >>> quantise(np.array([-1.0, 0.0, 0.99, 1.5])).tolist()
        [0, 128, 254, 255]
    """
    array = np.asarray(images)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"pictures must be floating-point, got {array.dtype}")
    if not 1 <= maximum <= 255:
        raise ValueError(f"maximum must be from 1 to 255, got {maximum}")
    array = array.astype(np.float64)
    if np.isnan(array).any():
        raise ValueError(f"pictures hold {np.isnan(array).sum()} values that are NaN")
    return np.round((np.clip(array, -1, 1) + 1) * (maximum / 2)).astype(np.uint8)


def raw(maximum: int = 255) -> Extractor:
    """Make the extractor whose features are the pixels themselves, scaled to [0, 1].

    Args:
        maximum: the largest value of a pixel.

    Returns:
        The extractor `raw`, of H W C features.

    Example:
        >>> raw()(np.full((1, 1, 2, 1), 255, np.uint8)).features.tolist()
        [[1.0, 1.0]]
    """

    def apply(images: np.ndarray) -> tuple[np.ndarray, None]:
        return images.reshape(len(images), -1) / maximum, None

    return Extractor("raw", apply, "pixels", maximum=maximum)


def random_conv(channels: int = 3, seed: int = 0, *, maximum: int = 255) -> Extractor:
    r"""Make an extractor of fixed random weights: two convolutions, then channel means.

    For smoke tests. Compare values only if the hashes of the weights agree, that is,
    not across seeds.

    Args:
        channels: of the pictures.
        seed: of the weights.
        maximum: the largest value of a pixel.

    Returns:
        The extractor `random_conv`, of 64 features.

    Raises:
        ValueError: if `channels` is not a positive integer.
    """
    check_positive_integer("channels", channels)
    draw = np.random.default_rng(seed).standard_normal
    kernels = {
        f"kernel{i}": (draw(shape) * np.sqrt(2 / np.prod(shape[:3]))).astype(np.float32)
        for i, shape in enumerate([(3, 3, channels, 32), (3, 3, 32, 64)])
    }

    @jax.jit
    def network(kernels: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        x = images.astype(jnp.float32) * (2 / maximum) - 1
        for kernel in kernels.values():
            x = jax.nn.relu(convolve(x, kernel, stride=2, padding=1))
        return jnp.mean(x, axis=(1, 2))

    def apply(images: np.ndarray) -> tuple[jax.Array, None]:
        return network(kernels, jnp.asarray(images)), None

    return Extractor(
        "random_conv",
        apply,
        "channel means",
        hash_arrays(kernels),
        shape=(None, None, channels),
        maximum=maximum,
    )


def hash_arrays(arrays: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of arrays with their names, dtypes and shapes.

    Args:
        arrays: the arrays by name; their order does not matter.

    Returns:
        64 hexadecimal digits, the same on machines of either byte order.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {little.dtype.str} {array.shape}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def _join(parts: tuple[Any, ...], number: int) -> np.ndarray:
    return np.concatenate([np.asarray(part, np.float64) for part in parts])[:number]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
