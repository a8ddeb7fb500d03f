"""Metrics of generated samples, each value with all that it depends on."""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Every public name on one line.
from gamedyn.registry import missing as _missing
from gamedyn.metrics.classifier import classifier as classifier
from gamedyn.metrics.extractors import (
    Extractor as Extractor,
    Features as Features,
    hash_arrays as hash_arrays,
    quantise as quantise,
    random_conv as random_conv,
    raw as raw,
)
from gamedyn.metrics.frechet import frechet as frechet
from gamedyn.metrics.inception import (
    inception as inception,
    resize_bilinear as resize_bilinear,
)
from gamedyn.metrics.kernel import (
    Spread as Spread,
    kid as kid,
    kid_subsets as kid_subsets,
)
from gamedyn.metrics.modes import (
    ModeCoverage as ModeCoverage,
    classify_channels as classify_channels,
    mode_coverage as mode_coverage,
    stacked_coverage as stacked_coverage,
)
from gamedyn.metrics.neighbours import (
    Neighbours as Neighbours,
    Prdc as Prdc,
    nearest_neighbour_distances as nearest_neighbour_distances,
    prdc as prdc,
)
from gamedyn.metrics.record import (
    Measurement as Measurement,
    class_mean_pictures as class_mean_pictures,
    evaluate as evaluate,
    floor as floor,
    measurement as measurement,
)
from gamedyn.metrics.scores import (
    conditional_accuracy as conditional_accuracy,
    inception_score as inception_score,
    inception_score_splits as inception_score_splits,
)
from gamedyn.metrics.statistics import (
    FeatureStats as FeatureStats,
    feature_stats as feature_stats,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
