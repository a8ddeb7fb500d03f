"""Convergence rates measured on a finished run."""

from typing import NamedTuple

import numpy as np

_STAY = 4  # points at least below the floor: one may be a pass


class MeasuredRate(NamedTuple):
    """The geometric rate of a run, per field evaluation.

    Attributes:
        rate: r in `distance ~ r ** evaluations`; NaN where there are too few points.
        evaluations: n, the evaluations until the distance fell below the floor for good
            (all of them if it never did).
        reached: whether it did.
        change: factor by which the distance changed over the fitted half.
        spread: largest over smallest distance in the fitted half.
    """

    rate: float
    evaluations: int
    reached: bool
    change: float
    spread: float


def measured_rate(
    distances: np.ndarray, evaluations: np.ndarray, *, floor: float = 1e-12
) -> MeasuredRate:
    r"""Fit the rate of convergence to a curve of distances.

    $$r = \exp(\text{slope of the least-squares line through } (k, \log d_k)),$$

    over the second half of the n evaluations before the distance falls below `floor`
    times its start for good (back to within a factor of 100 of it may be rounding, more
    is a pass): the first half may be transient, what lies below the floor is rounding.
    Where some distances lie below a tenth of the line, the run passes near the
    solution, and the line is fitted to the local maxima alone.

    Args:
        distances: distances to the solution, shape `(m,)`, the first one at the start;
            what follows the first non-finite one is left out.
        evaluations: field evaluations spent before each, shape `(m,)`, increasing.
        floor: where to stop looking, relative to the first distance.

    Returns:
        The measured rate.

    Raises:
        ValueError: if the shapes differ or are not one-dimensional.

    Example:
        >>> import numpy as np
        >>> steps = np.arange(100)
        >>> print(f"{measured_rate(0.9**steps, steps).rate:.3f}")
        0.900
    """
    distances, evaluations = np.asarray(distances, float), np.asarray(evaluations)
    if distances.shape != evaluations.shape or distances.ndim != 1:
        raise ValueError(
            f"distances and evaluations must be vectors of one length, "
            f"got shapes {distances.shape} and {evaluations.shape}"
        )
    finite = np.isfinite(distances)
    end = len(distances) if finite.all() else int(np.argmin(finite))
    distances, evaluations = distances[:end], evaluations[:end]
    stop, reached = end - 1, False
    if end:
        small = distances < floor * distances[0]
        # The first one below it behind the last one that is well above it again.
        above = np.flatnonzero(distances > 100 * floor * distances[0])
        begin = int(above[-1]) + 1 if above.size else 0
        reached = bool(small[begin:].any()) and end - begin >= _STAY
        if reached:
            stop = begin + int(np.argmax(small[begin:]))
    total = int(evaluations[stop]) if end else 0
    window = (evaluations >= total / 2) & (evaluations <= total) & (distances > 0)
    if reached:
        window[stop:] = False
    if window.sum() < 3:
        return MeasuredRate(np.nan, total, reached, np.nan, np.nan)
    x, y = evaluations[window], np.log(distances[window])
    slope, level = np.polyfit(x - x[0], y, 1)
    if np.any(y < slope * (x - x[0]) + level - np.log(10)):
        top = np.flatnonzero((y[1:-1] >= y[:-2]) & (y[1:-1] >= y[2:])) + 1
        if len(top) >= 3:
            slope = np.polyfit(x[top] - x[0], y[top], 1)[0]
    change, spread = np.exp(slope * (x[-1] - x[0])), np.exp(y.max() - y.min())
    return MeasuredRate(np.exp(slope), total, reached, float(change), float(spread))
