"""Augmentations: what they do to each picture, and their derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gamedyn.data import augment

ALL = {
    **augment.POLICIES,
    "with_probability": augment.with_probability(0.5, augment.brightness),
}


def pictures(number=64, size=8, channels=3, dtype=jnp.float64, seed=0):
    return jax.random.normal(
        jax.random.key(seed), (number, size, size, channels), dtype
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", ALL)
def test_shape_dtype_and_derivative(name, dtype):
    x = pictures(4, dtype=dtype)
    move = functools.partial(ALL[name], jax.random.key(1))
    y, tangent = jax.jvp(move, (x,), (jnp.ones_like(x),))
    assert y.shape == tangent.shape == x.shape
    assert y.dtype == dtype
    cotangent = pictures(4, dtype=dtype, seed=2)
    _, pull = jax.vjp(move, x)
    # <v, J 1> = <J^T v, 1>
    np.testing.assert_allclose(
        jnp.vdot(cotangent, tangent), jnp.sum(pull(cotangent)[0]), rtol=2e-4
    )


@pytest.mark.parametrize("name", ALL)
def test_pictures_move_independently(name):
    x = jnp.broadcast_to(pictures(1), (64, 8, 8, 3))
    y = np.asarray(ALL[name](jax.random.key(3), x))
    assert len(np.unique(y.reshape(64, -1).round(12), axis=0)) > 1
    other = np.asarray(ALL[name](jax.random.key(4), x))
    assert not np.array_equal(y, other)


def test_flip_mirrors_half():
    x = pictures(400)
    y = augment.flip(jax.random.key(0), x)
    mirrored = np.all(np.asarray(y == x[:, :, ::-1]), axis=(1, 2, 3))
    kept = np.all(np.asarray(y == x), axis=(1, 2, 3))
    assert np.all(mirrored ^ kept)
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / 20


def test_brightness_adds_one_number():
    x = pictures()
    shift = np.asarray(augment.brightness(jax.random.key(0), x, strength=0.4) - x)
    np.testing.assert_allclose(shift, shift[:, :1, :1, :1] + 0 * shift, atol=1e-14)
    assert -0.2 <= shift.min() < shift.max() < 0.2


def test_saturation_keeps_grey_and_contrast_keeps_mean():
    x = pictures()
    coloured = augment.saturation(jax.random.key(0), x)
    np.testing.assert_allclose(coloured.mean(-1), x.mean(-1), atol=1e-12)
    ratio = np.asarray(coloured - x.mean(-1, keepdims=True))
    spread = np.asarray(x - x.mean(-1, keepdims=True))
    factor = ratio[:, 0, 0, 0] / spread[:, 0, 0, 0]
    np.testing.assert_allclose(ratio, factor[:, None, None, None] * spread, atol=1e-9)
    assert 0 <= factor.min() < factor.max() < 2

    stretched = augment.contrast(jax.random.key(0), x)
    np.testing.assert_allclose(stretched.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-12)
    share = np.asarray(stretched.std((1, 2, 3)) / x.std((1, 2, 3)))
    assert 0.5 <= share.min() < share.max() < 1.5


def test_translate_shifts_by_whole_pixels():
    x = pictures(300, size=8)
    y = np.asarray(augment.translate(jax.random.key(0), x, ratio=0.25, fill=7.0))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=7.0)
    shifts = set()
    for picture, source in zip(y, padded, strict=True):
        matches = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(picture, source[i : i + 8, j : j + 8])
        ]
        assert len(matches) == 1
        shifts.update(matches)
    assert len(shifts) == 25


def test_cutout_blanks_one_rectangle():
    y = np.asarray(augment.cutout(jax.random.key(0), jnp.ones((300, 8, 10, 2))))
    areas = set()
    for picture in y:
        blank = picture[..., 0] == 0
        np.testing.assert_array_equal(blank, picture[..., 1] == 0)
        rows, columns = blank.any(1), blank.any(0)
        np.testing.assert_array_equal(blank, rows[:, None] & columns[None])
        areas.add((int(rows.sum()), int(columns.sum())))
    assert max(areas) == (4, 5)
    assert {rows for rows, _ in areas} == {2, 3, 4}


def test_with_probability():
    x = pictures(400)
    y = augment.with_probability(0.25, augment.brightness)(jax.random.key(0), x)
    moved = np.any(np.asarray(y != x), axis=(1, 2, 3))
    assert abs(moved.mean() - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    for share in (0.0, 1.0):
        z = augment.with_probability(share, augment.brightness)(jax.random.key(0), x)
        assert bool(jnp.any(z != x)) == bool(share)


def test_policy():
    x = pictures()
    key = jax.random.key(5)
    np.testing.assert_array_equal(augment.policy("")(key, x), x)
    np.testing.assert_array_equal(
        augment.policy("color, cutout")(key, x),
        augment.compose(augment.POLICIES["color"], augment.cutout)(key, x),
    )
    with pytest.raises(ValueError, match="unknown augmentation 'colour'"):
        augment.policy("colour")
