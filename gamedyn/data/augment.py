r"""Random augmentation of pictures on the device, differentiable in the pictures.

An augmentation is a function `augment(key, x)` of a PRNG key and a batch of pictures,
shape (B, H, W, C), that returns pictures of the same shape and dtype; each picture is
transformed with its own random numbers. Used in the `build` of `gamedyn.train.Batches`
they augment the data; applied to real and fake pictures alike, they are the
differentiable augmentation of a GAN.

References:
    S. Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, 2020.
    <https://arxiv.org/abs/2006.10738>
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def compose(*augments: Augment) -> Augment:
    """Apply augmentations one after the other, each with its own key.

    Args:
        *augments: functions `augment(key, x)`.

    Returns:
        The composition, in the order given; without arguments, the identity.
    """
    return functools.partial(_compose, augments)


def with_probability(probability: Any, augment: Augment) -> Augment:
    """Apply an augmentation to each picture with some probability.

    Args:
        probability: in [0, 1]; may be traced, for adaptive augmentation.
        augment: the augmentation.

    Returns:
        An augmentation that leaves the other pictures unchanged.

    References:
        T. Karras et al., Training Generative Adversarial Networks with Limited Data,
        2020. <https://arxiv.org/abs/2006.06676>
    """
    return functools.partial(_with_probability, probability, augment)


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Mirror each picture left to right with probability 1/2.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).

    Returns:
        Pictures of the same shape.
    """
    mirrored = jax.random.bernoulli(key, 0.5, _per_picture(x))
    return jnp.where(mirrored, x[:, :, ::-1], x)


def brightness(key: jax.Array, x: jax.Array, *, strength: Any = 1.0) -> jax.Array:
    r"""Add a random number to each picture: $x + s\,(u - 1/2)$, u uniform on [0, 1).

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        strength: s, in the units of x.

    Returns:
        Pictures of the same shape.
    """
    return x + strength * (_uniform(key, x) - 0.5)


def saturation(key: jax.Array, x: jax.Array, *, strength: Any = 2.0) -> jax.Array:
    r"""Scale the saturation of each picture: $\bar x + s\,u\,(x - \bar x)$.

    $\bar x$ is the mean of a pixel over its channels, u uniform on [0, 1).

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        strength: s.

    Returns:
        Pictures of the same shape; pictures of one channel are unchanged.
    """
    grey = jnp.mean(x, axis=-1, keepdims=True)
    return grey + strength * _uniform(key, x) * (x - grey)


def contrast(key: jax.Array, x: jax.Array, *, strength: Any = 1.0) -> jax.Array:
    r"""Scale the contrast of each picture: $\bar x + (1 + s\,(u - 1/2))(x - \bar x)$.

    $\bar x$ is the mean of the picture, u uniform on [0, 1).

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        strength: s.

    Returns:
        Pictures of the same shape.
    """
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    return mean + (1 + strength * (_uniform(key, x) - 0.5)) * (x - mean)


def translate(
    key: jax.Array, x: jax.Array, *, ratio: float = 0.125, fill: float = 0.0
) -> jax.Array:
    """Shift each picture by a random whole number of pixels in both directions.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        ratio: the largest shift as a share of the height and of the width, rounded to
            whole pixels.
        fill: the value of pixels that are shifted in from outside.

    Returns:
        Pictures of the same shape.
    """
    number, height, width, channels = x.shape
    reach = tuple(round(ratio * size) for size in (height, width))
    padding = ((0, 0), (reach[0],) * 2, (reach[1],) * 2, (0, 0))
    # A shift is a crop of the padded picture, with a random corner.
    padded = jnp.pad(x, padding, constant_values=fill)
    limits = jnp.array([2 * reach[0] + 1, 2 * reach[1] + 1])
    starts = jax.random.randint(key, (number, 2), 0, limits[None, :])

    def crop(picture: jax.Array, start: jax.Array) -> jax.Array:
        origin = start[0], start[1], jnp.zeros_like(start[0])
        return jax.lax.dynamic_slice(picture, origin, (height, width, channels))

    return jax.vmap(crop)(padded, starts)


def cutout(
    key: jax.Array, x: jax.Array, *, ratio: float = 0.5, fill: float = 0.0
) -> jax.Array:
    """Blank a rectangle of each picture, with its centre uniform over the picture.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        ratio: the rectangle's sides as a share of the picture's, rounded to whole
            pixels; a rectangle is cut at the edge of the picture.
        fill: the value of the rectangle.

    Returns:
        Pictures of the same shape.
    """
    number, height, width, _ = x.shape
    inside = jnp.ones((), bool)
    for axis, size in enumerate((height, width)):
        side = round(ratio * size)
        draw = jax.random.fold_in(key, axis)
        start = jax.random.randint(draw, (number, 1), 0, size) - side // 2
        place = jnp.arange(size)[None, :]
        within = (place >= start) & (place < start + side)
        inside = inside & jnp.expand_dims(within, (2 - axis, 3))
    return jnp.where(inside, jnp.asarray(fill, x.dtype), x)


def policy(names: str) -> Augment:
    """Compose the policies named in a string, as the paper's code does.

    Args:
        names: names of `POLICIES`, separated by commas: `"color,translation,cutout"`.

    Returns:
        The augmentation; for the empty string, the identity.

    Raises:
        ValueError: if a name is unknown.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in POLICIES:
            raise ValueError(
                f"unknown augmentation {name!r}, expected some of {', '.join(POLICIES)}"
            )
    return compose(*(POLICIES[name] for name in chosen))


def _compose(augments: tuple[Augment, ...], key: Any, x: jax.Array) -> jax.Array:
    for index, augment in enumerate(augments):
        x = augment(jax.random.fold_in(key, index), x)
    return x


def _with_probability(
    probability: Any, augment: Augment, key: jax.Array, x: jax.Array
) -> jax.Array:
    # Augment all pictures, then choose: shapes inside jit cannot depend on the draw.
    chance, draw = jax.random.split(key)
    moved = jax.random.bernoulli(chance, probability, _per_picture(x))
    return jnp.where(moved, augment(draw, x), x)


def _per_picture(x: jax.Array) -> tuple[int, ...]:
    return (x.shape[0],) + (1,) * (x.ndim - 1)


def _uniform(key: jax.Array, x: jax.Array) -> jax.Array:
    return jax.random.uniform(key, _per_picture(x), x.dtype)


POLICIES: dict[str, Augment] = {
    "flip": flip,
    "color": compose(brightness, saturation, contrast),
    "translation": translate,
    "cutout": cutout,
}
"""The policies of differentiable augmentation by their published names."""
