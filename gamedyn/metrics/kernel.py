"""The kernel distance (KID) between two sets of features."""

from typing import Any, NamedTuple

import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.data.order import permutation
from gamedyn.divergences import kid_kernel
from gamedyn.metrics import checks

_BLOCK_ENTRIES = 2**22  # kernel values in memory at a time


class Spread(NamedTuple):
    """Mean and standard deviation over subsets of a sample.

    The deviation measures how much subsets differ; it is not the standard error of the
    mean.

    Attributes:
        mean: the mean over the N subsets.
        deviation: the standard deviation over them, with divisor N.
    """

    mean: float
    deviation: float


def kid(*, generated: Any, reference: Any) -> float:
    r"""Compute the squared kernel distance of two sets of features, unbiased.

    $$\frac{1}{m(m-1)} \sum_{i \ne j} k(x_i, x_j)
    + \frac{1}{n(n-1)} \sum_{i \ne j} k(y_i, y_j)
    - \frac{2}{mn} \sum_{i,j} k(x_i, y_j), \qquad k(a, b) = (a^\top b / d + 1)^3.$$

    It is computed in float64, in blocks of rows. Unlike the Frechet distance it is
    unbiased: for two samples of one distribution its mean is 0, and about half of the
    values are negative; they are not clipped. It is the KID only in the features of the
    standard Inception network.

    Args:
        generated: features y, shape (n, d), n >= 2.
        reference: features x, shape (m, d), m >= 2.

    Returns:
        The estimate, symmetric in the two sets.

    Raises:
        TypeError: if the features are not real numbers.
        ValueError: if the shapes do not fit, a feature is not finite or a set has
            fewer than two points.

    Example:
        >>> kid(generated=[[1.0], [2.0]], reference=[[0.0], [1.0]])
        9.5

    References:
        M. Binkowski et al., Demystifying MMD GANs, 2018.
        <https://arxiv.org/abs/1801.01401>
    """
    y, x = checks.points(generated=generated, reference=reference)
    return _kid(x, y)


def kid_subsets(
    *,
    generated: Any,
    reference: Any,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> Spread:
    """Compute `kid` of random pairs of subsets, the protocol of the literature.

    Args:
        generated: features, shape (n, d).
        reference: features, shape (m, d).
        subsets: the number of pairs of subsets.
        subset_size: points per subset, at most n and m, drawn without replacement.
        seed: of the subsets; a seed gives the same subsets on every machine.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        TypeError: as `kid`.
        ValueError: as `kid`, or if `subset_size` exceeds a set.

    References:
        M. Binkowski et al., Demystifying MMD GANs, 2018.
        <https://arxiv.org/abs/1801.01401>
    """
    y, x = checks.points(generated=generated, reference=reference)
    check_positive_integer("subsets", subsets)
    check_positive_integer("subset_size", subset_size)
    if subset_size > min(len(x), len(y)):
        raise ValueError(
            f"subset_size must be at most the size of each set, got {subset_size} for "
            f"{len(y)} generated and {len(x)} reference points"
        )
    values = [
        _kid(
            x[permutation(len(x), seed, 2 * i)[:subset_size]],
            y[permutation(len(y), seed, 2 * i + 1)[:subset_size]],
        )
        for i in range(subsets)
    ]
    return Spread(float(np.mean(values)), float(np.std(values)))


def _kid(x: np.ndarray, y: np.ndarray) -> float:
    if min(len(x), len(y)) < 2:
        raise ValueError(
            f"the unbiased estimate needs at least two points in each set, got "
            f"{len(y)} generated and {len(x)} reference points"
        )
    return _mean(x) + _mean(y) - 2 * _sum(x, y) / (len(x) * len(y))


def _mean(x: np.ndarray) -> float:
    """Average the kernel over all pairs of two different points."""
    # Subtract the pairs of a point with itself, which would bias the estimate.
    diagonal = np.sum((np.sum(x**2, axis=1) / x.shape[1] + 1) ** 3)
    return (_sum(x, x) - float(diagonal)) / (len(x) * (len(x) - 1))


def _sum(x: np.ndarray, y: np.ndarray) -> float:
    rows = max(1, _BLOCK_ENTRIES // len(y))
    kernel: Any = kid_kernel  # plain arithmetic, so that numpy's arrays stay numpy's
    return float(sum(kernel(x[i : i + rows], y).sum() for i in range(0, len(x), rows)))
