"""Mean and covariance of features, accumulated in parts without cancellation."""

import dataclasses
from typing import Any

import numpy as np

from gamedyn.metrics import checks


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureStats:
    r"""Count, mean and scatter matrix of a set of features, in float64.

    The statistics of two parts are merged by

    $$\delta = m_b - m_a, \quad m = m_a + \delta\, n_b / n, \quad
    M = M_a + M_b + \delta \delta^\top n_a n_b / n,$$

    so nothing cancels if the mean is much larger than the deviations (computed from the
    sums of x and $x x^\top$, a covariance is wrong by 71 % at a mean of 1e4 and
    deviations of 1e-3), and any division into parts gives the statistics of the whole.

    Attributes:
        count: n, the number of points.
        mean: m, shape (d,).
        scatter: M, the sum of $(x - m)(x - m)^\top$, shape (d, d).

    Example:
        >>> import numpy as np
        >>> points = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
        >>> parts = feature_stats(points[:1]) + feature_stats(points[1:])
        >>> parts.count, parts.mean.tolist(), parts.covariance.tolist()
        (3, [2.0, 2.0], [[4.0, 3.0], [3.0, 3.0]])

    References:
        T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for Computing the Sample
        Variance: Analysis and Recommendations, 1983.
        <https://doi.org/10.1080/00031305.1983.10483115>
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance M / (n - 1), singular where n <= d.

        Raises:
            ValueError: if there are fewer than two points.
        """
        if self.count < 2:
            raise ValueError(
                f"a covariance needs at least two points, got {self.count}"
            )
        return self.scatter / (self.count - 1)

    def __add__(self, other: "FeatureStats") -> "FeatureStats":
        """Merge the statistics of two disjoint sets of points.

        Raises:
            ValueError: if the dimensions differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"points must have one dimension d, got {len(self.mean)} and "
                f"{len(other.mean)}"
            )
        count = self.count + other.count
        delta = other.mean - self.mean
        between = np.outer(delta, delta) * (self.count * other.count / count)
        return FeatureStats(
            count,
            self.mean + delta * (other.count / count),
            self.scatter + other.scatter + between,
        )


def feature_stats(features: Any) -> FeatureStats:
    """Compute the statistics of a set of features; those of several sets can be added.

    Args:
        features: shape (n, d), n >= 1, of any real dtype.

    Returns:
        The statistics.

    Raises:
        TypeError: if the features are not real numbers.
        ValueError: if the shape differs or a feature is not finite.
    """
    (points,) = checks.points(features=features)
    mean = points.mean(axis=0)
    centred = points - mean
    # Correct the rounding error of the mean, which matters if the mean is large.
    rest = centred.mean(axis=0)
    centred -= rest
    return FeatureStats(len(points), mean + rest, centred.T @ centred)
