"""Published pairs of a perceptron as generator and a maxout discriminator."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.mlp import mlp
from gamedyn.nets.net import Net, Params, from_function

_INITIALIZER = jax.nn.initializers.normal(0.02)


def pacgan_generator(
    *, latent: int = 2, width: int = 400, outputs: int = 2, dtype: Any = jnp.float32
) -> Net:
    """Make PacGAN's generator of points in the plane.

    Four hidden layers with batch normalisation in front of ReLU, a bias in the last
    layer only besides; kernels start at N(0, .02^2).

    Args:
        latent: entries of z, N(0, 1).
        width: of the hidden layers.
        outputs: entries of a point.
        dtype: of the parameters.

    Returns:
        The network: z, (B, latent), to points, (B, outputs).

    Raises:
        ValueError: if a size is not a positive integer.

    References:
        Z. Lin et al., PacGAN: The power of two samples in generative adversarial
        networks, 2018. <https://arxiv.org/abs/1712.04086>
    """
    sizes = (latent, *[width] * 4, outputs)
    return mlp(sizes, batch_norm=True, initializer=_INITIALIZER, dtype=dtype)


def pacgan_discriminator(
    *,
    inputs: int = 2,
    width: int = 200,
    pieces: int = 5,
    num_layers: int = 3,
    dtype: Any = jnp.float32,
) -> Net:
    """Make PacGAN's discriminator of points: maxout layers, and a linear one.

    Args:
        inputs: entries of a point; m times as many for packs of m.
        width: units of a layer.
        pieces: affine functions for a unit.
        num_layers: how many maxout layers.
        dtype: of the parameters.

    Returns:
        The network: points, (B, ...), flattened, to logits, (B,).

    Raises:
        ValueError: if a size is not a positive integer.

    References:
        Z. Lin et al., PacGAN: The power of two samples in generative adversarial
        networks, 2018. <https://arxiv.org/abs/1712.04086>
    """
    _check(inputs=inputs, width=width, pieces=pieces, num_layers=num_layers)

    def init(key: jax.Array) -> Params:
        shapes = {
            f"maxout{i}": (width if i else inputs, width * pieces)
            for i in range(num_layers)
        }
        return _init(key, {**shapes, "dense": (width, 1)}, dtype)

    def apply(params: Params, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for i in range(num_layers):
            x = layers.maxout(params[f"maxout{i}"], x, pieces)
        return layers.dense(params["dense"], x)[:, 0]

    return from_function(init, apply)


def mirza_osindero_generator(
    *,
    num_classes: int = 10,
    latent: int = 100,
    output_shape: Sequence[int] = (28, 28, 1),
    dtype: Any = jnp.float32,
) -> Net:
    """Make the generator of the first conditional GAN.

    z to 200 ReLU and the class to 1000 ReLU, both to 1200 ReLU, these to sigmoids: here
    2 sigmoid - 1, as pictures are in [-1, 1]. Without the paper's dropout.

    Args:
        num_classes: how many classes there are.
        latent: entries of z, uniform on [0, 1] in the paper.
        output_shape: of a picture.
        dtype: of the parameters.

    Returns:
        The network: z, (B, latent), and labels, (B,), to pictures,
        (B, *output_shape).

    Raises:
        ValueError: if a size is not a positive integer.

    References:
        M. Mirza and S. Osindero, Conditional Generative Adversarial Nets, 2014.
        <https://arxiv.org/abs/1411.1784>
    """
    _check(num_classes=num_classes, latent=latent)
    shape = tuple(output_shape)
    pixels = _pixels(shape)

    def init(key: jax.Array) -> Params:
        shapes = {
            "latent": (latent, 200),
            "classes": (num_classes, 1000),
            "joint": (1200, 1200),
            "dense": (1200, pixels),
        }
        return _init(key, shapes, dtype)

    def apply(params: Params, z: jax.Array, labels: Any = None) -> jax.Array:
        layers.check_labels(labels, num_classes, len(z))
        classes = jax.nn.one_hot(labels, num_classes, dtype=z.dtype)
        x = jnp.concatenate(
            [
                jax.nn.relu(layers.dense(params["latent"], z)),
                jax.nn.relu(layers.dense(params["classes"], classes)),
            ],
            axis=1,
        )
        x = jax.nn.relu(layers.dense(params["joint"], x))
        x = 2 * jax.nn.sigmoid(layers.dense(params["dense"], x)) - 1
        return x.reshape(len(z), *shape)

    return from_function(init, apply)


def mirza_osindero_discriminator(
    *,
    num_classes: int = 10,
    input_shape: Sequence[int] = (28, 28, 1),
    dtype: Any = jnp.float32,
) -> Net:
    """Make the discriminator of the first conditional GAN.

    Pictures to 240 maxout units of 5 pieces and the class to 50 of 5, both to 240 of 4
    pieces, these to a logit. Without the paper's dropout.

    Args:
        num_classes: how many classes there are.
        input_shape: of a picture.
        dtype: of the parameters.

    Returns:
        The network: pictures, (B, *input_shape), and labels, (B,), to logits, (B,).

    Raises:
        ValueError: if a size is not a positive integer.

    References:
        M. Mirza and S. Osindero, Conditional Generative Adversarial Nets, 2014.
        <https://arxiv.org/abs/1411.1784>
    """
    _check(num_classes=num_classes)
    pixels = _pixels(input_shape)

    def init(key: jax.Array) -> Params:
        shapes = {
            "picture": (pixels, 240 * 5),
            "classes": (num_classes, 50 * 5),
            "joint": (240 + 50, 240 * 4),
            "dense": (240, 1),
        }
        return _init(key, shapes, dtype)

    def apply(params: Params, x: jax.Array, labels: Any = None) -> jax.Array:
        layers.check_labels(labels, num_classes, len(x))
        classes = jax.nn.one_hot(labels, num_classes, dtype=x.dtype)
        x = jnp.concatenate(
            [
                layers.maxout(params["picture"], x.reshape(len(x), -1), 5),
                layers.maxout(params["classes"], classes, 5),
            ],
            axis=1,
        )
        x = layers.maxout(params["joint"], x, 4)
        return layers.dense(params["dense"], x)[:, 0]

    return from_function(init, apply)


def _init(key: jax.Array, shapes: dict[str, tuple[int, int]], dtype: Any) -> Params:
    keys = iter(jax.random.split(key, len(shapes)))
    layer = layers.drawing(keys, _INITIALIZER, dtype)
    return {name: layer(*shape) for name, shape in shapes.items()}


def _pixels(shape: Sequence[int]) -> int:
    pixels = 1
    for size in shape:
        check_positive_integer("every size of a picture", size)
        pixels *= size
    return pixels


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        check_positive_integer(name, size)
