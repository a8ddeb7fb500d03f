"""Checks of the arguments of divergences."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import is_known

_QUADRATURE_TOLERANCE = 1e-3  # of the mass: what a grid may miss


def floating(**values: Any) -> list[jax.Array]:
    """Make arrays of one real floating-point dtype.

    Args:
        **values: arrays by the names that messages give them.

    Returns:
        The arrays, in the order given.

    Raises:
        TypeError: if a dtype is not real and floating, or two dtypes differ.
    """
    arrays = {name: jnp.asarray(value) for name, value in values.items()}
    first = next(iter(arrays))
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be real and floating-point, got dtype {array.dtype}"
            )
        if array.dtype != arrays[first].dtype:
            raise TypeError(
                f"{first} and {name} must have the same dtype, "
                f"got {arrays[first].dtype} and {array.dtype}"
            )
    return list(arrays.values())


def same_shape(**arrays: jax.Array | np.ndarray) -> None:
    """Raise `ValueError` unless arrays have the same shape."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name}: {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected equal shapes, got {got}")


def probabilities(
    name: str, value: jax.Array | np.ndarray, measure: Any = None
) -> None:
    """Raise `ValueError` unless known values are a distribution along the last axis.

    Args:
        name: what messages call it.
        value: the probabilities, or the densities at the nodes of a quadrature.
        measure: the weights of that quadrature, if any.
    """
    if value.ndim == 0 or value.shape[-1] == 0:
        raise ValueError(
            f"{name} must hold at least one probability, got shape {value.shape}"
        )
    if not is_known(value) or (measure is not None and not is_known(measure)):
        return
    values = np.asarray(value, np.float64)
    if not np.all(values >= 0):  # also where NaN
        raise ValueError(f"{name} must not be negative, got {values.min()}")
    tolerance = math.sqrt(float(jnp.finfo(value.dtype).eps))
    if measure is not None:
        values = values * np.asarray(measure, np.float64)
        tolerance = max(tolerance, _QUADRATURE_TOLERANCE)
    totals = np.sum(values, axis=-1)
    worst = np.ravel(totals)[np.argmax(np.abs(np.ravel(totals) - 1))]
    if not abs(worst - 1) <= tolerance:
        raise ValueError(f"{name} must sum to 1, got {worst}")


def points(**values: Any) -> list[jax.Array]:
    """Make arrays of points, shape (n, d) with n >= 1 and one d.

    Raises:
        ValueError: if a shape is another, or the dimensions differ.
        TypeError: as `floating`.
    """
    arrays = floating(**values)
    for name, array in zip(values, arrays, strict=True):
        if array.ndim != 2 or array.shape[0] == 0:
            raise ValueError(
                f"{name} must hold points, shape (n, d) with n >= 1, "
                f"got shape {array.shape}"
            )
    dimensions = {
        name: array.shape[1] for name, array in zip(values, arrays, strict=True)
    }
    if len(set(dimensions.values())) > 1:
        raise ValueError(f"points must have one dimension d, got {dimensions}")
    return arrays


def weights(name: str, value: Any, size: int, dtype: Any) -> jax.Array:
    """Make the weights of `size` points, uniform if `value` is `None`.

    Raises:
        ValueError: if the shape is not `(size,)`, or known weights are negative or
            do not sum to 1.
        TypeError: if the dtype is not that of the points.
    """
    if value is None:
        return jnp.full(size, 1 / size, dtype)
    array = jnp.asarray(value)
    if array.shape != (size,):
        raise ValueError(
            f"{name} must have one weight per point, shape ({size},), "
            f"got shape {array.shape}"
        )
    if array.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, got {array.dtype}")
    probabilities(name, array)
    return array


def order(p: Any) -> None:
    """Raise `ValueError` unless the order of a Wasserstein distance is static, >= 1."""
    if not isinstance(p, int | float) or not 1 <= p < math.inf:
        raise ValueError(f"p must be a static number, 1 <= p < inf, got {p!r}")


def unit_interval(name: str, value: jax.Array) -> None:
    """Raise `ValueError` unless known values lie in [0, 1]."""
    if is_known(value):
        values = np.asarray(value, np.float64)
        if not np.all((values >= 0) & (values <= 1)):
            raise ValueError(
                f"{name} must lie in [0, 1], got values from {values.min()} "
                f"to {values.max()}"
            )
