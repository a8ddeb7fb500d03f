"""The standard Inception network, from the user's file of weights."""

import functools
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gamedyn.data import readers
from gamedyn.metrics import checks
from gamedyn.metrics.extractors import Extractor
from gamedyn.metrics.torch_files import read_state_dict
from gamedyn.nets.convolutions import convolve

STANDARD = "inception"  # the one extractor whose values are called FID, KID and IS
SIZE = 299

_NORMALISATION = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-3
_CLASSES = 1008
_TOLERANCE = 1e-3

# conv(name, x, outputs, window, stride, padding): convolution, normalisation, rectifier
# (one such function computes, another collects the shapes of the weights).
_Conv = Callable[..., Any]


def inception(
    path: str | os.PathLike[str],
    *,
    acceptance: tuple[Any, Any] | None = None,
) -> Extractor:
    """Read the weights of the standard Inception network, and return an extractor.

    It is the network of December 2015 in the form of `pt_inception-2015-12-05`:
    pictures are resized to 299 pixels by TensorFlow 1's rule (`resize_bilinear`) and
    scaled by (x - 128) / 128; the features are the 2048 channel means of the last
    layer, with 1008 logits without bias. Nothing is downloaded. Grey pictures become
    three equal channels; for 28x28 pictures the features say little.

    Values are called FID, KID and IS only if the features agree with those of a
    reference implementation. Without `acceptance` the extractor is called
    `inception_unaccepted`, and its values `frechet[inception_unaccepted]`.

    Args:
        path: an `.npz` file of the state dict's arrays, or the `.pth` file itself, read
            without torch by `gamedyn.metrics.torch_files`. If the name ends with eight
            hexadecimal digits, as in torch's hub, the file's SHA-256 must start with
            them.
        acceptance: pictures (n, H, W, C), uint8, and their features by a reference
            implementation, shape (n, 2048).

    Returns:
        The extractor `inception`, or `inception_unaccepted`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, an array is missing, unknown, or of another
            shape or dtype, the hash differs, or the features differ by more than 1e-3.

    References:
        C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision,
        2015. <https://arxiv.org/abs/1512.00567>
        M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium, 2017. <https://arxiv.org/abs/1706.08500>
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    promised = re.search(r"-([0-9a-f]{8})\.\w+$", path.name)
    if promised and not digest.startswith(promised[1]):
        raise ValueError(
            f"{path} promises a SHA-256 that begins with {promised[1]}, got {digest}"
        )
    is_npz = path.suffix == ".npz"
    arrays = readers.read_npz(path) if is_npz else read_state_dict(path)
    params = _fold(_check_arrays(path, arrays))

    def apply(images: np.ndarray) -> tuple[jax.Array, jax.Array]:
        if images.shape[-1] not in (1, 3):
            raise ValueError(
                f"inception expected pictures of 1 or 3 channels, got {images.shape}"
            )
        rgb = np.broadcast_to(images, (*images.shape[:3], 3))
        return _features_and_logits(params, jnp.asarray(rgb))

    extractor = Extractor(
        f"{STANDARD}_unaccepted" if acceptance is None else STANDARD,
        apply,
        "pool, 2048",
        digest,
        f"TensorFlow 1 bilinear to {SIZE}",
    )
    if acceptance is not None:
        images, features = acceptance
        actual = extractor(images).features
        (expected,) = checks.points(features=features)
        if expected.shape != actual.shape:
            raise ValueError(
                f"expected reference features of shape {actual.shape}, got "
                f"{expected.shape}"
            )
        error = np.abs(actual - expected).max()
        if not error <= _TOLERANCE:
            raise ValueError(
                f"the features differ from the reference by {error}, at most "
                f"{_TOLERANCE} is accepted"
            )
    return extractor


def resize_bilinear(images: jax.Array, size: int) -> jax.Array:
    r"""Resize pictures by the bilinear rule of TensorFlow 1.

    Row i of the N new ones is interpolated at $i\, n / N$ between the n old rows.
    Unlike `jax.image.resize`, the rule does not align the centres of pixels and does
    not smooth before it reduces the size.

    Args:
        images: floating-point, shape (B, H, W, C).
        size: N, the new number of rows and of columns.

    Returns:
        Pictures of shape (B, size, size, C).

    Example:
        >>> row = jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)
        >>> resize_bilinear(row, 4)[0, 0, :, 0].tolist()
        [0.0, 2.0, 4.0, 4.0]
    """
    for axis in (1, 2):
        length = images.shape[axis]
        # In integers, hence exact: in float32 some whole numbers would be rounded down.
        low, rest = np.divmod(np.arange(size) * length, size)
        high = np.minimum(low + 1, length - 1)
        shape = [1] * 4
        shape[axis] = size
        share = jnp.asarray((rest / size).reshape(shape), images.dtype)
        below, above = (jnp.take(images, rows, axis=axis) for rows in (low, high))
        images = below + (above - below) * share
    return images


def table() -> dict[str, tuple[int, ...]]:
    """List the arrays that a file of weights must contain, in torch's layouts.

    Returns:
        Shapes by name; every array is float32.

    Example:
        >>> shapes = table()
        >>> len(shapes), shapes["Mixed_5b.branch1x1.conv.weight"]
        (472, (64, 192, 1, 1))
    """
    return dict(_table())


@functools.cache
def _table() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name, x, outputs, window, stride=1, padding="SAME"):
        height, width = _both(window)
        shapes[f"{name}.conv.weight"] = (outputs, x.shape[-1], height, width)
        for array in _NORMALISATION:
            shapes[f"{name}.bn.{array}"] = (outputs,)
        kernel = jnp.zeros((height, width, x.shape[-1], outputs), x.dtype)
        return convolve(x, kernel, stride=stride, padding=padding, impl="xla")

    picture = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    features = jax.eval_shape(functools.partial(_network, record), picture)
    shapes["fc.weight"] = (_CLASSES, features.shape[-1])
    shapes["fc.bias"] = (_CLASSES,)
    return shapes


def _check_arrays(
    path: Path, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Check names, shapes, dtypes and values; drop torch's counters of batches."""
    expected = _table()
    counter = ".bn.num_batches_tracked"
    kept = {
        name: array
        for name, array in arrays.items()
        if not (
            name.endswith(counter)
            and name.removesuffix(counter) + ".conv.weight" in expected
        )
    }
    missing, unknown = expected.keys() - kept.keys(), kept.keys() - expected.keys()
    if missing or unknown:
        raise ValueError(
            f"{path} is not the standard Inception network: {len(missing)} arrays are "
            f"missing {sorted(missing)[:3]}, {len(unknown)} unknown "
            f"{sorted(unknown)[:3]}"
        )
    for name, array in kept.items():
        if array.shape != expected[name] or array.dtype != np.float32:
            raise ValueError(
                f"{path}: {name} must be float32 of shape {expected[name]}, got "
                f"{array.dtype} of {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} holds numbers that are not finite")
        if name.endswith("running_var") and array.min() < 0:
            raise ValueError(f"{path}: {name} must not be negative")
    return kept


def _fold(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fold the normalisation into each convolution, in float64: kernel and bias."""
    params: dict[str, Any] = {"fc": jnp.asarray(arrays["fc.weight"].T)}
    for name in (key.removesuffix(".conv.weight") for key in arrays if ".conv." in key):
        weight, bias, mean, variance = (
            arrays[f"{name}.bn.{array}"].astype(np.float64) for array in _NORMALISATION
        )
        factor = weight / np.sqrt(variance + _EPSILON)
        kernel = arrays[f"{name}.conv.weight"] * factor[:, None, None, None]
        params[name] = (
            jnp.asarray(kernel.transpose(2, 3, 1, 0).astype(np.float32)),
            jnp.asarray((bias - mean * factor).astype(np.float32)),
        )
    return params


@jax.jit
def _features_and_logits(
    params: dict[str, Any], images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def conv(name, x, outputs, window, stride=1, padding="SAME"):
        del outputs, window  # the kernel's shape, checked against the table
        kernel, bias = params[name]
        # Without gradients XLA's own is as fast, and needs no memory for patches.
        y = convolve(x, kernel, stride=stride, padding=padding, impl="xla")
        return jax.nn.relu(y + bias[None, None, None])

    x = resize_bilinear(images.astype(jnp.float32), SIZE)
    features = _network(conv, (x - 128) / 128)
    return features, features @ params["fc"]


# The architecture. `conv` computes a layer, or records the shapes of its weights.


def _network(conv: _Conv, x: Any) -> Any:
    x = conv("Conv2d_1a_3x3", x, 32, 3, 2, "VALID")
    x = conv("Conv2d_2a_3x3", x, 32, 3, 1, "VALID")
    x = conv("Conv2d_2b_3x3", x, 64, 3)
    x = _max_pool(x)
    x = conv("Conv2d_3b_1x1", x, 80, 1)
    x = conv("Conv2d_4a_3x3", x, 192, 3, 1, "VALID")
    x = _max_pool(x)
    for name, pooled in (("5b", 32), ("5c", 64), ("5d", 64)):
        x = _block_a(functools.partial(_branch, conv, f"Mixed_{name}"), x, pooled)
    x = _block_b(functools.partial(_branch, conv, "Mixed_6a"), x)
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        x = _block_c(functools.partial(_branch, conv, f"Mixed_{name}"), x, inner)
    x = _block_d(functools.partial(_branch, conv, "Mixed_7a"), x)
    x = _block_e(functools.partial(_branch, conv, "Mixed_7b"), x, _average_pool(x))
    # In the graph of 2015 this block pools by the maximum, unlike the one before it.
    pooled = _max_pool(x, 1, "SAME")
    x = _block_e(functools.partial(_branch, conv, "Mixed_7c"), x, pooled)
    return jnp.mean(x, axis=(1, 2))


_ROW, _COLUMN = (1, 7), (7, 1)


def _block_a(branch: _Conv, x: Any, pooled: int) -> Any:
    return _concatenate(
        branch("1x1", x, (64, 1)),
        branch("5x5", x, (48, 1), (64, 5)),
        branch("3x3dbl", x, (64, 1), (96, 3), (96, 3)),
        branch("_pool", _average_pool(x), (pooled, 1)),
    )


def _block_b(branch: _Conv, x: Any) -> Any:
    return _concatenate(
        branch("3x3", x, (384, 3), shrink=True),
        branch("3x3dbl", x, (64, 1), (96, 3), (96, 3), shrink=True),
        _max_pool(x),
    )


def _block_c(branch: _Conv, x: Any, c: int) -> Any:
    double = (c, 1), (c, _COLUMN), (c, _ROW), (c, _COLUMN), (192, _ROW)
    return _concatenate(
        branch("1x1", x, (192, 1)),
        branch("7x7", x, (c, 1), (c, _ROW), (192, _COLUMN)),
        branch("7x7dbl", x, *double),
        branch("_pool", _average_pool(x), (192, 1)),
    )


def _block_d(branch: _Conv, x: Any) -> Any:
    long = (192, 1), (192, _ROW), (192, _COLUMN), (192, 3)
    return _concatenate(
        branch("3x3", x, (192, 1), (320, 3), shrink=True),
        branch("7x7x3", x, *long, shrink=True),
        _max_pool(x),
    )


def _block_e(branch: _Conv, x: Any, pooled: Any) -> Any:
    single = branch("3x3_1", x, (384, 1))
    double = branch("3x3dbl", x, (448, 1), (384, 3))
    return _concatenate(
        branch("1x1", x, (320, 1)),
        branch("3x3_2a", single, (384, (1, 3))),
        branch("3x3_2b", single, (384, (3, 1))),
        branch("3x3dbl_3a", double, (384, (1, 3))),
        branch("3x3dbl_3b", double, (384, (3, 1))),
        branch("_pool", pooled, (192, 1)),
    )


def _branch(
    conv: _Conv,
    block: str,
    name: str,
    x: Any,
    *layers: tuple[int, int | tuple[int, int]],
    shrink: bool = False,
) -> Any:
    """Apply layers (outputs, window) in turn; several are numbered in their names."""
    for i, (outputs, window) in enumerate(layers, 1):
        number = f"_{i}" if len(layers) > 1 else ""
        last = (2, "VALID") if shrink and i == len(layers) else ()
        x = conv(f"{block}.branch{name}{number}", x, outputs, window, *last)
    return x


def _concatenate(*pictures: Any) -> Any:
    return jnp.concatenate(pictures, axis=-1)


def _max_pool(x: Any, stride: int = 2, padding: str = "VALID") -> Any:
    window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
    lowest = np.array(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, window, strides, padding)


def _average_pool(x: Any) -> Any:
    """Average over 3x3 neighbours, not counting those outside the picture."""

    def total(y):
        zero = np.array(0, x.dtype)
        return lax.reduce_window(y, zero, lax.add, (1, 3, 3, 1), (1,) * 4, "SAME")

    return total(x) / total(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def _both(window: int | tuple[int, int]) -> tuple[int, int]:
    return window if isinstance(window, tuple) else (window, window)
