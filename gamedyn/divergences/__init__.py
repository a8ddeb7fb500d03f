"""Divergences and distances between distributions, with gradients where they exist."""

from typing import TYPE_CHECKING

from gamedyn.divergences.contrastive import info_nce
from gamedyn.divergences.discrete import (
    jensen_shannon,
    kullback_leibler,
    reverse_kullback_leibler,
    total_variation,
)
from gamedyn.divergences.entropic import (
    Sinkhorn,
    SinkhornDivergence,
    sinkhorn,
    sinkhorn_divergence,
)
from gamedyn.divergences.gaussian import (
    frechet_squared,
    gaussian_kullback_leibler,
    gaussian_wasserstein_squared,
)
from gamedyn.divergences.kernels import (
    energy_distance_squared,
    kid_kernel,
    maximum_mean_discrepancy_squared,
    rbf_kernel,
)
from gamedyn.divergences.monte_carlo import (
    Estimate,
    estimate_jensen_shannon,
    estimate_kullback_leibler,
    estimate_total_variation,
)
from gamedyn.divergences.neighbours import PrecisionRecall, precision_recall
from gamedyn.divergences.transport import (
    KantorovichRubinstein,
    Transport,
    TransportDual,
    cost_matrix,
    extend_critic,
    kantorovich_rubinstein,
    optimal_transport,
    optimal_transport_dual,
    sliced_wasserstein,
    wasserstein,
    wasserstein_1d,
)
from gamedyn.registry import missing as _missing

__all__ = [
    "Estimate",
    "KantorovichRubinstein",
    "PrecisionRecall",
    "Sinkhorn",
    "SinkhornDivergence",
    "Transport",
    "TransportDual",
    "cost_matrix",
    "energy_distance_squared",
    "estimate_jensen_shannon",
    "estimate_kullback_leibler",
    "estimate_total_variation",
    "extend_critic",
    "frechet_squared",
    "gaussian_kullback_leibler",
    "gaussian_wasserstein_squared",
    "info_nce",
    "jensen_shannon",
    "kantorovich_rubinstein",
    "kid_kernel",
    "kullback_leibler",
    "maximum_mean_discrepancy_squared",
    "optimal_transport",
    "optimal_transport_dual",
    "precision_recall",
    "rbf_kernel",
    "reverse_kullback_leibler",
    "sinkhorn",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "total_variation",
    "wasserstein",
    "wasserstein_1d",
]

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
