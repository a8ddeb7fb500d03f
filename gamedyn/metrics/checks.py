"""What metrics demand of their arguments; they compute in float64 on the host."""

from typing import Any

import numpy as np


def points(**values: Any) -> list[np.ndarray]:
    """Make float64 arrays of points, shape (n, d) with n, d >= 1 and one d, all finite.

    Args:
        **values: arrays of real numbers by the names that messages give them.

    Returns:
        The arrays, in the order given.

    Raises:
        TypeError: if an array does not hold real numbers.
        ValueError: if a shape is another, a number is not finite, or the dimensions
            differ.
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
    """Make a float64 array of distributions, shape (n, C), one for each row.

    Raises:
        ValueError: if the shape is another, a probability is negative or not a number,
            or a row does not sum to 1 within 1e-4.
    """
    (array,) = points(**{name: value})
    if array.min() < 0:
        raise ValueError(f"{name} must not be negative, got {array.min()}")
    totals = array.sum(axis=1)
    worst = totals[np.argmax(np.abs(totals - 1))]
    # Rows that float32 has normalised miss 1 by a little.
    if abs(worst - 1) > 1e-4:
        raise ValueError(f"{name} must sum to 1 in every row, got {worst}")
    return array


def pictures(name: str, value: Any) -> np.ndarray:
    """Raise unless pictures are uint8, shape (n, height, width, channels).

    Raises:
        TypeError: if the dtype is another: see `gamedyn.metrics.quantise`.
        ValueError: if the shape is another.
    """
    array = np.asarray(value)
    if array.dtype != np.uint8:
        raise TypeError(
            f"{name} must be uint8, got {array.dtype}: quantise generated pictures "
            "first, so that they take the path of the real ones"
        )
    if array.ndim != 4 or not array.size:
        raise ValueError(
            f"{name} must have the shape (n, height, width, channels), none of them 0, "
            f"got {array.shape}"
        )
    return array


def class_labels(name: str, value: Any, number: int, num_classes: int) -> np.ndarray:
    """Make an array of integer labels, shape (number,), in `range(num_classes)`.

    Raises:
        TypeError: if they are not integers.
        ValueError: if the shape is another or a label is out of range.
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
