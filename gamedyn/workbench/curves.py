"""What is said of a curve: when it met a tolerance for good, and where it is going.

A run may pass through a solution and leave it again. Whatever is said of a run is
therefore said of its envelope: a tolerance is met from the evaluation on from which the
curve stays below it, and a curve shrinks if its maxima do.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

_STAY = 4  # points at least that a curve must stay below a tolerance to have met it
_BLOCKS = 8  # pieces of a run whose maxima are compared
_END = 16  # points at most that the end of a curve is made of
_LEVEL = math.log(30)  # how much the maxima of what is called marginal may differ
_TREND = 0.02  # a smaller change of the log maxima between blocks counts as none


class Precision(NamedTuple):
    """What a run in a dtype can reach, relative to its start.

    Attributes:
        tolerance: the residual whose cost in evaluations is looked for.
        floor: the distance below which curves are rounding.
        marginal: the |log| of a predicted rate below which it is 1 up to rounding.
        eps: the spacing of the dtype at 1.
    """

    tolerance: float
    floor: float
    marginal: float
    eps: float


def precision(dtype: Any) -> Precision:
    r"""Derive the tolerances of a dtype from its spacing eps.

    $$t = 10^{\operatorname{round}(\frac23 \log_{10} \mathrm{eps})}, \qquad
      \text{floor} = \max(t / 100,\ 8\,\mathrm{eps}), \qquad
      \text{marginal} = \max(10^{-9},\ 256\,\mathrm{eps}),$$

    1e-10, 1e-12 and 1e-9 in float64; 1e-5, 1e-6 and 3e-5 in float32.

    Args:
        dtype: a floating-point dtype.

    Returns:
        The tolerances.

    Example:
        >>> precision("float64").tolerance, precision("float32").tolerance
        (1e-10, 1e-05)
    """
    eps = float(jnp.finfo(dtype).eps)
    tolerance = 10.0 ** round(2 / 3 * math.log10(eps))
    floor = max(tolerance / 100, 8 * eps)
    return Precision(tolerance, floor, max(1e-9, 256 * eps), eps)


def reached(
    curve: np.ndarray,
    evaluations: np.ndarray,
    tolerance: float | np.ndarray,
    *,
    stay: int = 1,
) -> np.ndarray:
    """Find the cost from which on a measure stays below its tolerance to the end.

    Args:
        curve: the measure, the last axis along the run.
        evaluations: what was spent at each point.
        tolerance: relative to the first point.
        stay: the number of points that must follow from there, the first included; all
            of them where a curve has fewer.

    Returns:
        Evaluations, infinite where it is above at the end (or not a number).
    """
    above = ~(curve <= tolerance * curve[..., :1])
    # The point behind the last one above.
    behind = curve.shape[-1] - np.argmax(above[..., ::-1], axis=-1)
    behind = np.where(above.any(axis=-1), behind, 0)
    behind = np.where(
        (behind > curve.shape[-1] - stay) & (behind > 0), curve.shape[-1], behind
    )
    padded = np.append(evaluations.astype(float), np.inf)
    return padded[behind]


def solved(
    curve: np.ndarray, evaluations: np.ndarray, tolerance: float | np.ndarray
) -> np.ndarray:
    """`reached` for a single run's word: four points must follow, not one by accident.

    Args:
        curve: the measure, the last axis along the run.
        evaluations: what was spent at each point.
        tolerance: relative to the first point.

    Returns:
        Evaluations, infinite where it is above at the end (or not a number).
    """
    return reached(curve, evaluations, tolerance, stay=_STAY)


def pieces(evaluations: np.ndarray, count: int) -> np.ndarray:
    """Give the first index of each of so many pieces of a run, of equal work."""
    edges = evaluations[-1] * np.arange(count) / count
    starts = np.searchsorted(evaluations, edges)
    return np.minimum(starts, len(evaluations) - 1)


def maxima(curve: np.ndarray, evaluations: np.ndarray, count: int) -> np.ndarray:
    """Take the maxima of pieces of equal work, along the last axis.

    Args:
        curve: not negative; what is not a number counts as infinite.
        evaluations: what was spent at each point.
        count: the number of pieces.

    Returns:
        The maxima, with `count` in place of the last axis.
    """
    curve = np.where(np.isnan(curve), np.inf, curve)
    return np.maximum.reduceat(curve, pieces(evaluations, count), axis=-1)


def last_quarter(curve: np.ndarray, evaluations: np.ndarray) -> np.ndarray:
    """Give the points of the last quarter of the work, along the last axis."""
    return curve[..., pieces(evaluations, 4)[3] :]


def end(curve: np.ndarray) -> float:
    """Give the last finite value of a curve, of its envelope where it goes up and down.

    Args:
        curve: one run, shape `(m,)`.

    Returns:
        The last value, or the largest of the last few where one of them is more than
        twice the one before; NaN if none is finite.
    """
    finite = curve[np.isfinite(curve)]
    if not finite.size:
        return math.nan
    few = finite[-min(_END, max(2, finite.size // _BLOCKS)) :]
    swings = bool(np.any(few[1:] / 2 > few[:-1]))
    return float(few.max() if swings else few[-1])


def direction(curves: np.ndarray, evaluations: np.ndarray) -> str:
    """Say in a word where curves go: "converging", "marginal", "diverging", "unclear".

    The run is cut into eight pieces of equal work. Curves converge, or diverge, where
    the maxima of the last two are well below, or above, those of the four before; or
    where all maxima of the second half fall, or grow, at a speed that lasts: that of a
    power of the work does, that of an approach to a level does not. They are marginal
    where all maxima are alike, to a factor of 30; a run that bursts now and then, or
    stands far below its start, is unclear.

    Args:
        curves: not negative, shape `(s, m)`; medians over s are judged.
        evaluations: what was spent at each point, shape `(m,)`.

    Returns:
        The word, or "too short" for fewer than 16 points.
    """
    if curves.shape[-1] < 2 * _BLOCKS:
        return "too short"
    tiny = np.finfo(float).tiny
    with np.errstate(all="ignore"):
        tops = np.log(np.maximum(maxima(curves, evaluations, _BLOCKS), tiny))
        tops = np.median(tops, axis=0)
    if not np.isfinite(tops).all():
        return "diverging"
    before, after = tops[2:6], tops[6:]
    steps = np.diff(tops[3:])
    early, late = tops[5] - tops[3], tops[7] - tops[5]
    lasting = abs(late) > _TREND and late / early > 0.5 if early else False
    # What was falling, or growing, once and stands now does neither.
    falls = after.max() < before.min() - 0.35 or (lasting and bool((steps < 0).all()))
    if falls and late < -_TREND:
        return "converging"
    grows = after.min() > before.max() + 0.35 or (lasting and bool((steps > 0).all()))
    if grows and late > _TREND:
        return "diverging"
    return "marginal" if np.ptp(tops) < _LEVEL else "unclear"
