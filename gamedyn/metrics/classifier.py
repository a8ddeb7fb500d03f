"""A small classifier, trained on the user's data: the extractor for small pictures."""

import functools
import io
import os
import re
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from gamedyn.checks import check_positive_integer
from gamedyn.data import readers
from gamedyn.data.sets import ImageSet, check_num_classes, scale
from gamedyn.files import write_whole
from gamedyn.game import single_player
from gamedyn.metrics.extractors import Extractor, hash_arrays
from gamedyn.nets.convolutions import convolve, output_size
from gamedyn.rules import simultaneous
from gamedyn.seeds import seed_key
from gamedyn.solve import Status, solve
from gamedyn.x64 import enable_x64

ENVIRONMENT = "GAMEDYN_CACHE"

_VERSION = 1  # of network and training: part of the key of stored weights
_BATCH = 128
_LEARNING_RATE = 2e-3
_WIDTHS = (32, 64, 128)  # channels of the convolutions, features

Params = dict[str, Any]


def classifier(
    train: ImageSet,
    test: ImageSet,
    *,
    num_steps: int = 1500,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
) -> Extractor:
    """Train a classifier, or load its cached weights, and return it as an extractor.

    The network has two convolutions (5x5 with 32 channels, of stride 2 from 16 pixels
    on; 3x3 with 64 channels, of stride 2) and a layer of 128 units, whose outputs are
    the features; each with a rectifier. It is trained with Adam and a cosine schedule,
    in float32, by `gamedyn.solve`, in about half a minute for 28x28 pictures on two
    cores. The features of such a classifier are the usual choice for pictures of
    digits; for photographs they say little.

    The weights are cached in `<train.name>_cnn-<key>.npz`, where the key is a hash of
    data and settings. A damaged file is reported and replaced. Training is reproducible
    to the bit on one machine only: compare values only if the hashes of the weights
    agree.

    Args:
        train: the training set.
        test: held-out pictures, for the accuracy.
        num_steps: steps, with batches of 128.
        seed: of the initial weights and the batches.
        cache: the folder of the cached weights; if `None`, the one in the environment
            variable GAMEDYN_CACHE, else `~/.cache/gamedyn`.

    Returns:
        The extractor `<train.name>_cnn`, with probabilities and test accuracy.

    Raises:
        ValueError: if the sets differ in shape, maximum or number of classes, or are
            equal, or training diverges.

    References:
        G. Gidel et al., A Variational Inequality Perspective on Generative Adversarial
        Networks, 2019, for features of a digit classifier in place of Inception's.
        <https://arxiv.org/abs/1802.10551>
    """
    check_positive_integer("num_steps", num_steps)
    _check_sets(train, test)
    shape = (*train.images.shape[1:], train.num_classes)
    key = hash_arrays(
        {
            "train images": train.images,
            "train labels": train.labels,
            "test images": test.images,
            "test labels": test.labels,
            "settings": np.array([_VERSION, num_steps, seed, train.maximum, *shape]),
        }
    )
    name = re.sub(r"[^\w-]+", "_", train.name) + "_cnn"
    path = _cache_folder(cache) / f"{name}-{key[:16]}.npz"
    # In float32 even where the caller computes in float64: it is one network.
    with enable_x64(False):
        stored = _read(path, shape)
        if stored is not None:
            return _extractor(name, train, *stored)
        weights = _train(train, shape, num_steps, seed)
        extractor = _extractor(name, train, weights, 0.0)
        probabilities = extractor(test.images).probabilities
        assert probabilities is not None  # for the type checker
        accuracy = float(np.mean(probabilities.argmax(axis=1) == test.labels))
    _write(path, weights, accuracy)
    return _extractor(name, train, weights, accuracy)


def _check_sets(train: ImageSet, test: ImageSet) -> None:
    check_num_classes(test, train.num_classes)
    if test.images.shape[1:] != train.images.shape[1:] or test.maximum != train.maximum:
        raise ValueError(
            f"test pictures must have the shape and maximum of the training pictures, "
            f"{train.images.shape[1:]} up to {train.maximum}, "
            f"got {test.images.shape[1:]} up to {test.maximum}"
        )
    if np.array_equal(train.images, test.images):
        raise ValueError(
            f"test pictures must not be those of the training set, got "
            f"{train.name} ({train.split}) for both"
        )


# The network.


def _first_stride(size: int) -> int:
    return 1 if size < 16 else 2


def _shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the kernels' shapes by layer, for pictures and classes (H, W, C, K)."""
    *size, channels, classes = shape
    after = [
        output_size(
            output_size(n, 5, stride=_first_stride(min(size)), padding=2),
            3,
            stride=2,
            padding=1,
        )
        for n in size
    ]
    first, second, features = _WIDTHS
    return {
        "convolution1": (5, 5, channels, first),
        "convolution2": (3, 3, first, second),
        "hidden": (after[0] * after[1] * second, features),
        "output": (features, classes),
    }


def _initialise(shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Draw kernels of variance 2 / inputs (He et al., 2015), and set biases to 0."""
    draw = np.random.default_rng(seed).standard_normal
    params = {}
    for name, kernel in _shapes(shape).items():
        deviation = np.sqrt(2 / np.prod(kernel[:-1]))
        params[f"{name}.kernel"] = (draw(kernel) * deviation).astype(np.float32)
        params[f"{name}.bias"] = np.zeros(kernel[-1], np.float32)
    return params


@functools.partial(jax.jit, static_argnames="maximum")
def _network(
    params: Params, images: jax.Array, maximum: int
) -> tuple[jax.Array, jax.Array]:
    """Compute features, shape (B, 128), and logits, shape (B, K), of uint8 pictures."""
    x = scale(images, maximum)
    strides = {"convolution1": _first_stride(min(x.shape[1:3])), "convolution2": 2}
    for name, stride in strides.items():
        kernel, bias = params[f"{name}.kernel"], params[f"{name}.bias"]
        x = convolve(x, kernel, stride=stride, padding=len(kernel) // 2)
        x = jax.nn.relu(x + bias[None, None, None])
    x = x.reshape(len(x), -1) @ params["hidden.kernel"]
    features = jax.nn.relu(x + params["hidden.bias"][None])
    return features, features @ params["output.kernel"] + params["output.bias"][None]


def _extractor(
    name: str, data: ImageSet, weights: Params, accuracy: float
) -> Extractor:
    height, width, channels = data.images.shape[1:]
    return Extractor(
        name,
        lambda images: _network(weights, jnp.asarray(images), data.maximum),
        "penultimate",
        hash_arrays(weights),
        shape=(height, width, channels),
        maximum=data.maximum,
        test_accuracy=accuracy,
    )


# Its training: a game of one player.


def _loss(maximum: int, params: Params, batch: tuple[jax.Array, jax.Array]):
    images, labels = batch
    _, logits = _network(params, images, maximum)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _draw(images: jax.Array, labels: jax.Array, key: jax.Array):
    chosen = jax.random.randint(key, (_BATCH,), 0, len(labels), jnp.int32)
    return images[chosen], labels[chosen]


@functools.partial(jax.jit, static_argnames=("num_steps", "maximum"))
def _fit(params, images, labels, key, *, num_steps: int, maximum: int):
    game = single_player(functools.partial(_loss, maximum), stochastic=True)
    rule = simultaneous(
        optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, num_steps))
    )
    sample = Partial(_draw, images, labels)
    solution = solve(game, rule, (params,), num_steps, key=key, sample=sample)
    return solution.params[0], solution.status


def _train(
    train: ImageSet, shape: tuple[int, ...], num_steps: int, seed: int
) -> dict[str, np.ndarray]:
    # optax's schedules mix integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        params, status = _fit(
            {k: jnp.asarray(v) for k, v in _initialise(shape, seed).items()},
            jnp.asarray(train.images),
            jnp.asarray(train.labels),
            seed_key(seed),
            num_steps=num_steps,
            maximum=train.maximum,
        )
    if int(status) == Status.NON_FINITE:
        raise ValueError(f"the classifier of {train.name} diverged in training")
    return {name: np.asarray(array) for name, array in params.items()}


# Its weights on disk.


def _cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    chosen = cache or os.environ.get(ENVIRONMENT)
    return Path(chosen) if chosen else Path.home() / ".cache" / "gamedyn"


def _read(
    path: Path, shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], float] | None:
    """Read cached weights and test accuracy; `None` if missing or damaged."""
    if not path.exists():
        return None
    expected: dict[str, Any] = {"test_accuracy": ((), np.dtype(np.float64))}
    for name, kernel in _shapes(shape).items():
        expected[f"{name}.kernel"] = kernel, np.dtype(np.float32)
        expected[f"{name}.bias"] = kernel[-1:], np.dtype(np.float32)
    try:
        arrays = readers.read_npz(path)
        got = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if got != expected:
            raise ValueError(f"{path} holds {got}, expected {expected}")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError(f"{path} holds numbers that are not finite")
    except ValueError as error:
        warnings.warn(
            f"training anew, since the cached classifier is damaged: {error}",
            stacklevel=3,
        )
        return None
    accuracy = float(arrays.pop("test_accuracy"))
    return arrays, accuracy


def _write(path: Path, weights: dict[str, np.ndarray], accuracy: float) -> None:
    arrays: dict[str, Any] = {**weights, "test_accuracy": np.float64(accuracy)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())
