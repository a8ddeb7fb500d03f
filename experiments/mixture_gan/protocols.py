"""The protocols: data, evaluation, what passes, and what was published on them."""

import math
from typing import NamedTuple

import numpy as np

from gamedyn.data import mixtures
from gamedyn.metrics import mode_coverage

SAMPLES = 2500
"""Drawn from a generator to judge it."""


class Protocol(NamedTuple):
    """Data, what counts as a covered mode, and what a setting must reach.

    Attributes:
        data: a name of `gamedyn.data.mixtures`.
        share: of the samples, that must lie within 3 standard deviations of a mode for
            it to count as covered.
        quality: the share of high-quality samples that every seed must reach.
        complete: the share of seeds that must cover every mode.
    """

    data: str
    share: float
    quality: float
    complete: float

    def mixture(self) -> mixtures.PlaneMixture:
        """Build the data's law."""
        made = mixtures.make(self.data)
        assert isinstance(made, mixtures.PlaneMixture)
        return made


PROTOCOLS = {
    "ring": Protocol("ring8/pacgan", share=0.01, quality=0.85, complete=1.0),
    "grid": Protocol("grid25/pacgan", share=0.005, quality=0.60, complete=0.9),
}


class Scores(NamedTuple):
    """How good samples are; arrays of the leading shape of the samples.

    Attributes:
        modes: how many are covered, by the protocol's share of the samples.
        quality: the share of samples within 3 standard deviations of a mode.
        reverse_kl: KL from the histogram of these over the modes to the uniform one,
            in nats; NaN without any.
        touched: how many modes have at least one of these: the published count.
    """

    modes: np.ndarray
    quality: np.ndarray
    reverse_kl: np.ndarray
    touched: np.ndarray


def evaluate(protocol: Protocol, samples: np.ndarray) -> Scores:
    """Judge sets of samples, shape (..., n, 2)."""
    law = protocol.mixture()
    count = math.ceil(protocol.share * samples.shape[-2])
    rows = []
    for one in samples.reshape(-1, *samples.shape[-2:]):
        coverage = mode_coverage(one, law.centres, float(law.sigma), min_count=count)
        rows.append(
            (
                coverage.covered,
                coverage.high_quality,
                coverage.reverse_kl,
                coverage.covered_at(1),
            )
        )
    columns = zip(*rows, strict=True)
    return Scores(*(np.reshape(column, samples.shape[:-2]) for column in columns))


class Published(NamedTuple):
    """Modes, high-quality share and reverse KL of ten trials, each with its error."""

    method: str
    modes: tuple[float, float]
    quality: tuple[float, float]
    reverse_kl: tuple[float, float]


PUBLISHED = (
    Published("GAN", (6.3, 0.5), (0.982, 0.002), (0.45, 0.09)),
    Published("ALI", (6.6, 0.3), (0.976, 0.004), (0.36, 0.04)),
    Published("PacGAN2", (7.9, 0.1), (0.956, 0.020), (0.07, 0.03)),
    Published("PacGAN3", (7.8, 0.1), (0.977, 0.003), (0.10, 0.02)),
    Published("PacGAN4", (7.8, 0.1), (0.959, 0.014), (0.07, 0.02)),
)
"""Lin et al. 2018, arXiv:1712.04086, on `ring8/pacgan`: means and standard errors."""
