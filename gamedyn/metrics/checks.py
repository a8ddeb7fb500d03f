"""Checks of the arguments of metrics, which compute in float64 on the host."""

from typing import Any

import numpy as np


def points(**values: Any) -> list[np.ndarray]:
    """Convert sets of points to float64, and check that they are finite and of one d.

    Args:
        **values: arrays of real numbers, shape (n, d) with n, d >= 1, by the names that
            messages give them.

    Returns:
        The arrays, in the order given.

    Raises:
        TypeError: if an array does not hold real numbers.
        ValueError: if an array has another shape, a number is not finite, or the
            dimensions d differ.
    """
    arrays = {}
    for name, value in values.items():
        array = np.asarray(value)
        # "V" is how numpy sees bfloat16 and its relatives.
        if array.dtype.kind not in "iufV":
            raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
        if array.ndim != 2 or not array.size:
            raise ValueError(
                f"{name} must hold points, shape (n, d) with n, d >= 1, "
                f"got shape {array.shape}"
            )
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            bad = np.count_nonzero(~np.isfinite(array).all(axis=1))
            raise ValueError(f"{name} must be finite, {bad} of {len(array)} are not")
        arrays[name] = array
    dimensions = {name: array.shape[1] for name, array in arrays.items()}
    if len(set(dimensions.values())) > 1:
        raise ValueError(f"points must have one dimension d, got {dimensions}")
    return list(arrays.values())


def probabilities(name: str, value: Any) -> np.ndarray:
    """Convert probabilities to float64, and check that each row is a distribution.

    Args:
        name: the name of the array, for messages.
        value: shape (n, C).

    Returns:
        The array.

    Raises:
        TypeError: if the array does not hold real numbers.
        ValueError: if it has another shape, a probability is negative or NaN, or a row
            does not sum to 1 within 1e-4.
    """
    (array,) = points(**{name: value})
    if array.min() < 0:
        raise ValueError(f"{name} must not be negative, got {array.min()}")
    totals = array.sum(axis=1)
    worst = totals[np.argmax(np.abs(totals - 1))]
    # Rows normalised in float32 do not sum to 1 exactly.
    if abs(worst - 1) > 1e-4:
        raise ValueError(f"{name} must sum to 1 in every row, got {worst}")
    return array


def pictures(name: str, value: Any) -> np.ndarray:
    """Check that pictures are uint8 of shape (n, height, width, channels).

    Args:
        name: the name of the array, for messages.
        value: the pictures.

    Returns:
        The array.

    Raises:
        TypeError: if it has another dtype: see `gamedyn.metrics.quantise`.
        ValueError: if it has another shape, or one with a 0.
    """
    array = np.asarray(value)
    if array.dtype != np.uint8:
        raise TypeError(
            f"{name} must be uint8, got {array.dtype}: quantise generated pictures "
            "first, so that they are processed like the real ones"
        )
    if array.ndim != 4 or not array.size:
        raise ValueError(
            f"{name} must have the shape (n, height, width, channels), none of them 0, "
            f"got {array.shape}"
        )
    return array


def class_labels(name: str, value: Any, number: int, num_classes: int) -> np.ndarray:
    """Check that labels are integers in `range(num_classes)`, one per example.

    Args:
        name: the name of the array, for messages.
        value: the labels, shape (number,).
        number: the number of examples.
        num_classes: the number of classes.

    Returns:
        The array.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if the array has another shape, or a label is out of range.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.shape != (number,):
        raise ValueError(
            f"{name} must be one each, shape ({number},), got shape {array.shape}"
        )
    if array.size and not 0 <= array.min() <= array.max() < num_classes:
        raise ValueError(
            f"{name} must be in 0 to {num_classes - 1}, got {array.min()} to "
            f"{array.max()}"
        )
    return array
