r"""Augmentation on the device: random maps of pictures, differentiable in the picture.

An augmentation is a function `augment(key, x)` of a PRNG key and a batch of pictures,
shape (B, H, W, C), that returns pictures of the same shape and dtype; every picture is
moved by a draw of its own. They serve as augmentation of the data (in the `build` of
`gamedyn.train.Batches`) and, applied to real and fake pictures alike, as differentiable
augmentation of a GAN.

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
    """Apply one augmentation after the other, each with a key of its own.

    Args:
        *augments: functions `augment(key, x)`.

    Returns:
        The composition, in the order given; of none, the identity.
    """
    return functools.partial(_compose, augments)


def with_probability(probability: Any, augment: Augment) -> Augment:
    """Apply an augmentation to each picture with some probability.

    Args:
        probability: in [0, 1], may be traced.
        augment: what to apply.

    Returns:
        The augmentation.

    References:
        T. Karras et al., Training Generative Adversarial Networks with Limited Data,
        2020. <https://arxiv.org/abs/2006.06676>
    """
    return functools.partial(_with_probability, probability, augment)


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Mirror half of the pictures left to right.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).

    Returns:
        Pictures of the same shape.
    """
    mirrored = jax.random.bernoulli(key, 0.5, _per_picture(x))
    return jnp.where(mirrored, x[:, :, ::-1], x)


def brightness(key: jax.Array, x: jax.Array, *, strength: Any = 1.0) -> jax.Array:
    r"""Add to each picture a number, $x + s\,(u - 1/2)$, u uniform on [0, 1).

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        strength: s, in the units of x.

    Returns:
        Pictures of the same shape.
    """
    return x + strength * (_uniform(key, x) - 0.5)


def saturation(key: jax.Array, x: jax.Array, *, strength: Any = 2.0) -> jax.Array:
    r"""Stretch the colours about each pixel's grey, $\bar x + s\,u\,(x - \bar x)$.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        strength: s.

    Returns:
        Pictures of the same shape; those of one channel unchanged.
    """
    grey = jnp.mean(x, axis=-1, keepdims=True)
    return grey + strength * _uniform(key, x) * (x - grey)


def contrast(key: jax.Array, x: jax.Array, *, strength: Any = 1.0) -> jax.Array:
    r"""Stretch each picture about its mean, $\bar x + (1 + s\,(u - 1/2))(x - \bar x)$.

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
    """Shift each picture by whole pixels, at most a share of its size.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        ratio: the largest shift as a share of the height and the width, rounded.
        fill: the value of what comes in from outside.

    Returns:
        Pictures of the same shape.
    """
    number, height, width, channels = x.shape
    reach = tuple(round(ratio * size) for size in (height, width))
    padding = ((0, 0), (reach[0],) * 2, (reach[1],) * 2, (0, 0))
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
    """Blank a rectangle of each picture, its centre uniform over the picture.

    Args:
        key: a PRNG key.
        x: pictures, shape (B, H, W, C).
        ratio: the rectangle's sides as a share of the picture's, rounded.
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
    """Compose policies named in one string, as their paper's codes do.

    Args:
        names: names of `POLICIES`, with commas between: `"color,translation,cutout"`.

    Returns:
        The augmentation; of the empty string, the identity.

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
