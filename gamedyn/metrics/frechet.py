"""The Frechet distance between Gaussians fitted to features."""

import numpy as np

from gamedyn.divergences import gaussian_wasserstein_squared
from gamedyn.metrics.statistics import FeatureStats
from gamedyn.x64 import enable_x64


def frechet(stats1: FeatureStats, stats2: FeatureStats) -> float:
    r"""Compute the squared Frechet distance of two sets of features.

    $$D = |m_1 - m_2|^2 + \mathrm{tr}\, S_1 + \mathrm{tr}\, S_2
    - 2\, \mathrm{tr} \bigl( S_1^{1/2} S_2 S_1^{1/2} \bigr)^{1/2}$$

    with the means m and covariances S. It is computed in float64 whatever jax's flags
    (float32 is wrong by about 1 %), by the singular values of factors of the
    covariances, exact also if these are singular (n <= d): see
    `gamedyn.divergences.gaussian_wasserstein_squared`.

    Two samples of one distribution do not have distance 0: for n points of $N(0, I_d)$
    each, the mean is about $2d/n + d(d+1)/(2n)$. So compare at equal n only, and quote
    the distance of real from held-out real pictures beside it. This is the FID only in
    the features of the standard Inception network; `gamedyn.metrics.evaluate` keeps
    names and values together.

    Args:
        stats1: statistics of one set, of at least two points.
        stats2: statistics of the other set. The order does not matter.

    Returns:
        The distance, in squared units of the features. A negative value above -1e-8
        times the sum of the traces is rounding, and returned as 0; a more negative one
        is returned as it is.

    Raises:
        ValueError: if the dimensions differ or a set has fewer than two points.

    Example:
        >>> import numpy as np
        >>> from gamedyn.metrics import feature_stats
        >>> square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> near, far = feature_stats(square), feature_stats(square + 3)
        >>> round(frechet(near, far), 6)
        18.0

    References:
        M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium, 2017. <https://arxiv.org/abs/1706.08500>
    """
    if stats1.mean.shape != stats2.mean.shape:
        raise ValueError(
            f"features must have one dimension d, got {len(stats1.mean)} and "
            f"{len(stats2.mean)}"
        )
    covariance1, covariance2 = stats1.covariance, stats2.covariance
    with enable_x64(True):
        value = float(
            gaussian_wasserstein_squared(
                stats1.mean, covariance1, stats2.mean, covariance2
            )
        )
    traces = float(np.trace(covariance1) + np.trace(covariance2))
    return 0.0 if -1e-8 * traces < value < 0 else value
