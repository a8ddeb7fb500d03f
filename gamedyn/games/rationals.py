"""Floats as fractions: whole numbers with a unit, and the grid that was rounded."""

import math
from fractions import Fraction

import numpy as np

# The most multiples of a unit that numbers are taken for.
_FINEST = 2**20


def to_integers(array: np.ndarray) -> tuple[np.ndarray, Fraction]:
    """Write floats as whole numbers times a power of two, exactly.

    Args:
        array: finite floats.

    Returns:
        An array of Python's integers of the same shape, and their unit.
    """
    ratios = [entry.as_integer_ratio() for entry in array.ravel().tolist()]
    common = max(below for _, below in ratios)
    numbers = np.empty(len(ratios), object)
    numbers[:] = [above * (common // below) for above, below in ratios]
    return numbers.reshape(array.shape), Fraction(1, common)


def on_grid(numbers: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Undo the rounding of numbers that were multiples of one unit.

    A payoff of .3 is no float, and of 1e9 + .3 only the first digits are left, so that
    what ties in a game no longer does in its floats. If there is a unit of which all
    numbers are multiples to within the rounding, so coarse that this is no accident,
    the multiples are meant.

    Args:
        numbers: Python's integers, the smallest of which is 0.
        rounding: by how much each may be off, of the same shape.

    Returns:
        The multiples, or the numbers themselves where there is no such unit.
    """
    spread, worst = int(numbers.max()), rounding.max()
    if spread <= 2 * worst:  # all of them are one number
        return numbers * 0
    # Two different fractions with such denominators lie farther apart than what
    # rounding does to either.
    finest = math.isqrt(int(spread / (16 * worst))) if worst else _FINEST
    steps, shares = 1, numbers * Fraction(1, spread)
    errors = rounding + shares * rounding.flat[numbers.argmax()]  # the spread's own
    for share, error in zip(shares.ravel(), errors.ravel(), strict=True):
        finer = (steps * share).limit_denominator(max(1, min(finest, _FINEST) // steps))
        if abs(finer - steps * share) * spread > steps * error:
            return numbers
        steps *= finer.denominator
    multiples = np.empty(numbers.size, object)
    multiples[:] = [round(share * steps) for share in shares.ravel()]
    return multiples.reshape(numbers.shape)
