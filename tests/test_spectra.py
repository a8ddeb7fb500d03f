"""Arnoldi, spectral density, trace and path angle against dense matrices."""

import jax
import jax.numpy as jnp
import mlp_gan
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.analysis.operators import jacobian
from gamedyn.analysis.path import path_angle
from gamedyn.analysis.spectra import (
    arnoldi,
    own_spectrum,
    spectral_density,
    symmetric_spectrum,
    trace,
    update_spectrum,
)

KEY = jax.random.key(0)


def product(matrix, vector):
    return vector @ matrix.T


MATRIX = jnp.asarray(np.random.default_rng(0).normal(size=(40, 40)))
OPERATOR = Partial(product, MATRIX)
SYMMETRIC = Partial(product, MATRIX + MATRIX.T)


def test_arnoldi_finds_the_whole_spectrum_of_a_small_matrix():
    result = arnoldi(OPERATOR, MATRIX[0], KEY, num_steps=60, num_pairs=3)
    exact = np.linalg.eigvals(MATRIX)
    assert result.steps == 40
    np.testing.assert_allclose(
        np.sort_complex(result.ritz), np.sort_complex(exact), atol=1e-10
    )
    np.testing.assert_allclose(result.values.real.min(), exact.real.min(), atol=1e-10)
    assert np.all(result.residuals < 1e-10)
    assert np.all(result.converged)
    assert result.matvecs == 46


@pytest.mark.parametrize("which", ["smallest_real", "largest_real", "largest_modulus"])
def test_arnoldi_residuals_are_those_of_the_vectors(which):
    result = arnoldi(OPERATOR, MATRIX[0], KEY, num_steps=15, num_pairs=4, which=which)
    np.testing.assert_allclose(result.residuals, result.estimates[:4], rtol=1e-6)
    assert not result.converged.any()
    orders = {
        "smallest_real": result.ritz.real,
        "largest_real": -result.ritz.real,
        "largest_modulus": -np.abs(result.ritz),
    }
    assert np.all(np.diff(orders[which]) >= -1e-12)


def test_arnoldi_on_a_game_with_known_eigenvalues():
    game = gd.zero_sum(lambda x, y: x @ x / 2 + 2 * x @ y - y @ y / 2)
    operator = jacobian(game, (jnp.zeros(30), jnp.zeros(30)))
    result = arnoldi(operator, operator.like, KEY)
    assert result.exhausted
    assert result.steps == 2
    np.testing.assert_allclose(result.values, [1 + 2j, 1 - 2j], atol=1e-12)
    with pytest.raises(ValueError, match="which"):
        arnoldi(operator, operator.like, KEY, which="smallest")
    with pytest.raises(FloatingPointError, match="not finite"):
        arnoldi(lambda v: v * jnp.nan, jnp.ones(3), KEY)


@pytest.mark.parametrize(
    ("rule", "radius"),
    [
        (gd.simultaneous(optax.sgd(0.1)), 0.921954445729),
        (gd.extragradient(optax.sgd(0.5)), 0.25),
        (gd.alternating(optax.sgd(0.5)), 0.5),
        (gd.lookahead(gd.simultaneous(optax.sgd(0.1)), period=3, strength=1.0), None),
    ],
    ids=["simultaneous", "extragradient", "alternating", "lookahead"],
)
def test_update_spectrum_is_that_of_the_dense_map(rule, radius):
    game = gd.zero_sum(lambda x, y: x**2 / 2 + 2 * x * y - y**2 / 2)
    zero = jnp.array(0.0), jnp.array(0.0)
    result = update_spectrum(game, rule, zero, None, KEY)
    found = abs(result.values[0]) ** (1 / rule.period)
    dense = gd.analysis.spectral_radius(game, rule, zero)
    np.testing.assert_allclose(found, dense, atol=1e-7)
    if radius is not None:
        np.testing.assert_allclose(found, radius, atol=1e-7)


def test_density_has_integral_one_and_the_right_moments():
    found = spectral_density(SYMMETRIC, MATRIX[0], KEY, num_starts=20, num_steps=40)
    exact = np.linalg.eigvalsh(MATRIX + MATRIX.T)
    step = found.grid[1] - found.grid[0]
    np.testing.assert_allclose(found.density.sum() * step, 1, atol=1e-3)
    np.testing.assert_allclose(found.weights.sum(), 1, rtol=1e-12)
    for power in (1, 2):
        mean = found.weights @ found.nodes**power
        error = 5 * np.std(exact**power) / np.sqrt(20 * 40 / 2)
        np.testing.assert_allclose(mean, np.mean(exact**power), atol=error)
    assert found.matvecs == 20 * 40
    assert np.all(found.spread[found.density > 1e-3] > 0)


def test_density_of_the_identity_is_one_bump():
    found = spectral_density(lambda v: v, jnp.ones(30), KEY, num_starts=2, num_steps=9)
    assert found.matvecs == 2
    np.testing.assert_allclose(found.nodes, 1, rtol=1e-12)
    np.testing.assert_allclose(found.grid[found.density.argmax()], 1, atol=found.width)


def test_trace_lies_within_its_standard_error():
    found = trace(SYMMETRIC, MATRIX[0], KEY, num_samples=400)
    matrix = np.asarray(MATRIX + MATRIX.T)
    expected = np.sqrt(2 * (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2)) / 400)
    np.testing.assert_allclose(found.standard_error, expected, rtol=0.15)
    assert abs(found.value - np.trace(matrix)) < 4 * found.standard_error
    diagonal = trace(lambda v: 2 * v, jnp.ones(7), KEY, num_samples=3)
    assert diagonal.value == 14
    assert diagonal.standard_error == 0
    assert np.isnan(trace(lambda v: v, jnp.ones(7), KEY, num_samples=1).standard_error)


def test_spectra_of_a_network_game_match_the_dense_ones():
    params, batch = mlp_gan.make(3, dtype=jnp.float64, examples=32)
    matrix = np.asarray(jax.jit(gd.analysis.game_jacobian)(mlp_gan.GAME, params, batch))
    size = sum(leaf.size for leaf in jax.tree.leaves(params[0]))
    own = own_spectrum(
        mlp_gan.GAME, params, batch, KEY, player=1, num_steps=60, tolerance=0.0
    )
    exact = np.linalg.eigvalsh(matrix[size:, size:])
    np.testing.assert_allclose(own.values, exact[[0, -1]], atol=1e-12)
    pieces = jax.tree.map(lambda x: x.reshape(4, 8, -1), batch)
    both = symmetric_spectrum(
        mlp_gan.GAME, params, None, KEY, batches=pieces, num_steps=100, tolerance=0.0
    )
    exact = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    np.testing.assert_allclose(both.values, exact[[0, -1]], atol=1e-10)


def rotation_and_attraction():
    return gd.zero_sum(lambda x, y: x**2 / 2 + 2 * x * y - y**2 / 2)


def test_path_angle_has_the_expected_numbers():
    one, zero = jnp.array(1.0), jnp.array(0.0)
    positions = jnp.array([0.0, 0.5, 0.9, 1.0, 1.5])
    found = jax.jit(
        lambda first, second: path_angle(
            rotation_and_attraction(), first, second, positions=positions
        )
    )((one, zero), (zero, zero))
    root = 1 / np.sqrt(5)
    np.testing.assert_allclose(found.cosines[:3], 0.447213595500, rtol=1e-9)
    np.testing.assert_allclose(found.cosines[4], -root, rtol=1e-9)
    assert np.isnan(found.cosines[3])
    assert found.defined.tolist() == [True, True, True, False, True]
    np.testing.assert_allclose(
        found.norms, np.sqrt(5) * np.abs(1 - positions), atol=1e-15
    )


def test_path_angle_on_networks_and_its_default_grid():
    first, batch = mlp_gan.make(3, examples=16)
    second, _ = mlp_gan.make(3, examples=16, seed=1)
    found = jax.jit(lambda a, b, c: path_angle(mlp_gan.GAME, a, b, c))(
        first, second, batch
    )
    assert found.positions.shape == (100,)
    np.testing.assert_allclose(
        found.positions[jnp.array([0, -1])], [-0.1, 1.1], rtol=1e-6
    )
    assert np.all(np.abs(found.cosines) <= 1 + 1e-6)
    assert found.cosines.dtype == jnp.float32


def test_path_angle_of_bad_points():
    game, zero = rotation_and_attraction(), jnp.array(0.0)
    with pytest.raises(ValueError, match="one structure"):
        path_angle(game, (zero, zero), (zero, jnp.zeros(2)))
    with pytest.raises(ValueError, match="vector"):
        path_angle(game, (zero, zero), (zero, zero), positions=zero)
    same = path_angle(game, (zero + 1, zero), (zero + 1, zero))
    assert not same.defined.any()
    assert np.all(np.isnan(same.cosines))
