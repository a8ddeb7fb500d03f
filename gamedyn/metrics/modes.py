"""Mode coverage: of a known mixture, and of stacked digits."""

import math
from typing import Any, NamedTuple

import numpy as np

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.metrics import checks
from gamedyn.metrics.extractors import Extractor

OK = "ok"
NO_SAMPLE = "no sample is of high quality"


class ModeCoverage(NamedTuple):
    r"""How a set of samples covers K modes.

    Attributes:
        covered: the number of modes with at least `min_count` samples of high quality.
        high_quality: the share of the samples that are of high quality.
        reverse_kl: $\sum_k p_k \log (K p_k)$ with the normalised histogram p, in nats.
        jensen_shannon: the Jensen-Shannon divergence between p and the uniform
            distribution, in nats.
        entropy: the entropy of p, in nats.
        histogram: samples of high quality per mode, shape (K,).
        status: "ok", or why divergences and entropy are NaN.
    """

    covered: int
    high_quality: float
    reverse_kl: float
    jensen_shannon: float
    entropy: float
    histogram: np.ndarray
    status: str

    def covered_at(self, min_count: int) -> int:
        """Count the modes with at least `min_count` samples of high quality.

        A single sample is a low requirement; 1 % of the samples (25 of 2,500) is common
        too.

        Args:
            min_count: a positive integer.

        Returns:
            The number of these modes.

        Raises:
            ValueError: if `min_count` is not a positive integer.
        """
        check_positive_integer("min_count", min_count)
        return int(np.count_nonzero(self.histogram >= min_count))


def mode_coverage(
    samples: Any,
    centres: Any,
    sigma: Any,
    *,
    n_sigma: float = 3,
    min_count: int = 1,
) -> ModeCoverage:
    r"""Assign samples to the modes of a mixture of round Gaussians.

    Each sample belongs to its nearest centre c, and is of high quality if
    $|y - c| < 3 \sigma$. With the normalised histogram p of these samples over the K
    modes,

    $$\mathrm{KL} = \sum_k p_k \log (K p_k) = \log K - H(p).$$

    In the plane, exact samples of the mixture are of high quality with probability
    $1 - e^{-9/2} = .9889$, and their KL is about (K - 1) / (2n).

    Args:
        samples: shape (n, d). A sample that is not finite belongs to no mode.
        centres: shape (K, d).
        sigma: the standard deviation of the modes, positive.
        n_sigma: the distance, in deviations, below which a sample is of high quality.
        min_count: samples of high quality that a covered mode has at least.

    Returns:
        The coverage. If no sample is of high quality, the divergences are NaN and the
        status says so.

    Raises:
        TypeError: if samples or centres are not real numbers.
        ValueError: if the shapes do not fit, a centre is not finite, or a number is
            not positive.

    Example:
        >>> coverage = mode_coverage([[0.1], [0.0], [5.2]], [[0.0], [1.0]], 0.1)
        >>> coverage.covered, coverage.histogram.tolist()
        (1, [2, 0])
        >>> round(coverage.high_quality, 2)
        0.67

    References:
        A. Srivastava et al., VEEGAN: Reducing Mode Collapse in GANs using Implicit
        Variational Learning, 2017. <https://arxiv.org/abs/1705.07761>
    """
    check_positive("sigma", sigma)
    check_positive("n_sigma", n_sigma)
    y = np.asarray(samples, np.float64)
    finite = np.isfinite(y)
    # Samples that are not finite count in n, but belong to no mode.
    y, c = checks.points(samples=np.where(finite, y, 0), centres=centres)
    squares = np.stack([np.sum((y - centre) ** 2, axis=1) for centre in c], axis=1)
    modes = squares.argmin(axis=1)
    near = np.sqrt(squares.min(axis=1)) < float(n_sigma) * float(sigma)
    near &= finite.all(axis=1)
    return _summarise(np.bincount(modes[near], minlength=len(c)), len(y), min_count)


def classify_channels(images: Any, extractor: Extractor) -> np.ndarray:
    """Classify each channel of stacked pictures as a picture of its own.

    Args:
        images: uint8, shape (n, H, W, 3).
        extractor: a classifier of grey pictures.

    Returns:
        Probabilities, shape (n, 3, C).

    Raises:
        TypeError: if the pictures are not uint8.
        ValueError: if the extractor is not a classifier, or expects another shape.
    """
    stacks = checks.pictures("images", images)
    channels = np.moveaxis(stacks, 3, 1).reshape(-1, *stacks.shape[1:3], 1)
    probabilities = extractor(channels).probabilities
    if probabilities is None:
        raise ValueError(f"expected a classifier, got {extractor.name}")
    return probabilities.reshape(len(stacks), stacks.shape[3], -1)


def stacked_coverage(probabilities: Any, *, min_count: int = 1) -> ModeCoverage:
    r"""Count the triples of classes among stacked pictures.

    The mode of a picture of three channels is (a, b, c), the most probable class of
    each channel; every sample counts as of high quality. n pictures drawn uniformly
    cover $1000\,(1 - .999^n)$ triples of ten digits on average. Blurred pictures, which
    the classifier cannot recognise, add spurious modes.

    Args:
        probabilities: shape (n, 3, C), one distribution for each channel, by
            `classify_channels`.
        min_count: pictures that a covered triple has at least.

    Returns:
        The coverage of the C^3 modes a C^2 + b C + c; the divergences compare with the
        uniform distribution.

    Raises:
        TypeError: if the probabilities are not real numbers.
        ValueError: if the shape differs or a row is not a distribution.

    References:
        L. Metz et al., Unrolled Generative Adversarial Networks, 2017.
        <https://arxiv.org/abs/1611.02163>
    """
    p = np.asarray(probabilities)
    if p.ndim != 3 or p.shape[1] != 3:
        raise ValueError(
            f"probabilities must have the shape (n, 3, classes), got {p.shape}"
        )
    classes = p.shape[2]
    flat = checks.probabilities("probabilities", p.reshape(-1, classes))
    triples = flat.argmax(axis=1).reshape(-1, 3)
    modes = triples @ np.array([classes**2, classes, 1])
    histogram = np.bincount(modes, minlength=classes**3)
    return _summarise(histogram, len(p), min_count)


def _summarise(histogram: np.ndarray, number: int, min_count: int) -> ModeCoverage:
    total = int(histogram.sum())
    divergences = math.nan, math.nan, math.nan
    if total:
        # JS = (KL(p | m) + KL(u | m)) / 2 with the midpoint m of p and the uniform u.
        p, uniform = histogram / total, 1 / len(histogram)
        middle = (p + uniform) / 2
        uniform_part = np.sum(np.log(uniform / middle)) * uniform
        divergences = (
            _sum_p_log(p, p / uniform),
            float(_sum_p_log(p, p / middle) + uniform_part) / 2,
            -_sum_p_log(p, p),
        )
    coverage = ModeCoverage(
        0, total / number, *divergences, histogram, OK if total else NO_SAMPLE
    )
    return coverage._replace(covered=coverage.covered_at(min_count))


def _sum_p_log(p: np.ndarray, ratio: np.ndarray) -> float:
    """Sum p log ratio, with 0 log 0 = 0."""
    return float(np.sum(p * np.log(np.where(p > 0, ratio, 1))))
