import jax.numpy as jnp


def test_default_dtype_is_float32():
    assert jnp.zeros(()).dtype == jnp.float32
