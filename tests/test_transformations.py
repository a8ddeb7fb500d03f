"""Negative and complex momentum as optax transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gamedyn.transformations import complex_momentum, negative_momentum

GRADIENTS = np.random.default_rng(0).normal(size=(6, 3))


def run(transformation, dtype=jnp.float64):
    params = jnp.zeros(3, dtype)
    state = transformation.init(params)
    for gradient in GRADIENTS:
        updates, state = transformation.update(
            jnp.asarray(gradient, dtype), state, params
        )
        params = optax.apply_updates(params, updates)
    return params, state


def test_negative_momentum_is_heavy_ball():
    buffer, expected = np.zeros(3), np.zeros(3)
    for gradient in GRADIENTS:
        buffer = -0.5 * buffer + gradient
        expected = expected - 0.1 * buffer
    np.testing.assert_allclose(run(negative_momentum(0.1))[0], expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("beta", [0.8 * np.exp(0.3j * np.pi), 0.9j, -0.3])
def test_complex_momentum_against_numpy(beta, dtype):
    buffer, expected = np.zeros(3, complex), np.zeros(3)
    for gradient in GRADIENTS:
        buffer = beta * buffer - gradient
        expected = expected + (0.1 * buffer).real
    params, state = run(complex_momentum(0.1, beta), dtype)
    eps = jnp.finfo(dtype).eps
    np.testing.assert_allclose(params, expected, atol=20 * eps)
    (memory,) = (leaf for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert memory.dtype == (jnp.complex64 if dtype == jnp.float32 else jnp.complex128)


def test_default_complex_momentum():
    explicit = run(complex_momentum(0.1, 0.9 * np.exp(1j * np.pi / 8)))[0]
    np.testing.assert_allclose(run(complex_momentum(0.1))[0], explicit, rtol=1e-13)


def test_real_complex_momentum_is_heavy_ball():
    ours, _ = run(complex_momentum(0.1, -0.5))
    np.testing.assert_allclose(ours, run(negative_momentum(0.1))[0], rtol=1e-13)


def test_complex_momentum_takes_traced_values_schedules_and_company():
    @jax.jit
    def final(step_size, beta):
        return run(complex_momentum(step_size, beta))[0]

    beta = 0.9 * np.exp(0.2j)
    expected, _ = run(complex_momentum(0.1, beta))
    np.testing.assert_allclose(final(jnp.float64(0.1), jnp.asarray(beta)), expected)
    scheduled = complex_momentum(lambda count: jnp.where(count < 9, 0.1, 0.0), beta)
    np.testing.assert_allclose(run(scheduled)[0], expected)
    clipped = optax.chain(optax.clip(0.1), complex_momentum(0.1, beta))
    assert np.max(np.abs(run(clipped)[0])) < 0.2


def test_an_unstable_momentum_is_an_error():
    for momentum in (1.0, -1.5, 1j, complex("nan")):
        with pytest.raises(ValueError, match="inside the unit circle"):
            complex_momentum(0.1, momentum)
