"""The installed jax computes what numpy computes.

jax 0.10.2 got half of these rows wrong on the CPU, without a warning or a NaN
(https://github.com/jax-ml/jax/issues/39103); a sweep over a small game is exactly
this pattern.
"""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("dtype", "num_rows"), [(jnp.float64, 32_768), (jnp.float32, 32_769)]
)
def test_vmapped_matvec_then_sum(dtype, num_rows):
    if dtype == jnp.float64 and not jax.config.read("jax_enable_x64"):
        pytest.skip("needs x64")
    rows = np.random.default_rng(0).normal(size=(num_rows, 3)).astype(dtype)
    with jax.default_device(jax.devices("cpu")[0]):
        matrix = jnp.eye(3, dtype=dtype)
        squared_norms = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))
        actual = np.asarray(squared_norms(rows))
    assert actual.dtype == dtype
    np.testing.assert_allclose(
        actual, (rows**2).sum(axis=1), rtol=8 * jnp.finfo(dtype).eps
    )


@pytest.mark.parametrize("package", ["jax", "jaxlib"])
def test_known_bad_versions_are_not_installed(package):
    assert importlib.metadata.version(package) not in {"0.10.2", "0.11.1"}
