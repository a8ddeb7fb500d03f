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


def test_numpy_constants_of_two_precisions():
    """jax keeps a NumPy constant in the precision in which some trace converted it.

    `gamedyn.x64` works around that, where the fault is; where it is not, that can go.
    """
    matrix = np.eye(7)  # of a shape that no earlier program has, which would be right

    def form(x):
        return x @ matrix @ x

    with jax.enable_x64(True):
        kept = jax.make_jaxpr(form)(jnp.ones(7, jnp.float64))
    fault = ""
    with jax.enable_x64(False):
        try:
            value = form(jnp.ones(7, jnp.float32))
        except Exception as error:
            fault = str(error)
    del kept
    if not fault:
        assert value == 7
        pytest.skip("this jax has no such fault: gamedyn/x64.py need not mend it")
    assert "(f32[7,7]" in fault
    assert "(f64[7,7]" in fault


@pytest.mark.parametrize("first", [False, True])
def test_the_way_around_numpy_constants(first):
    from gamedyn.x64 import enable_x64

    matrix = np.eye(2) / 3
    inner = jax.jit(lambda x: x @ matrix)

    def form(x):
        return inner(x) @ (matrix @ x)

    kept = []
    for x64 in (first, not first, first):
        dtype = jnp.float64 if x64 else jnp.float32
        with enable_x64(x64), enable_x64(x64):
            kept.append(jax.make_jaxpr(form)(jnp.ones(2, dtype)))
            value = form(jnp.ones(2, dtype))
        assert value.dtype == dtype
        np.testing.assert_allclose(
            float(value), 2 / 9, rtol=4 * float(jnp.finfo(dtype).eps)
        )
