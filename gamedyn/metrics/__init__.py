"""Metrics of generated samples, each value with all that it depends on."""

from gamedyn.metrics.classifier import classifier
from gamedyn.metrics.extractors import (
    Extractor,
    Features,
    hash_arrays,
    quantise,
    random_conv,
    raw,
)
from gamedyn.metrics.frechet import frechet
from gamedyn.metrics.inception import inception, resize_bilinear
from gamedyn.metrics.kernel import Spread, kid, kid_subsets
from gamedyn.metrics.modes import (
    ModeCoverage,
    classify_channels,
    mode_coverage,
    stacked_coverage,
)
from gamedyn.metrics.neighbours import (
    Neighbours,
    Prdc,
    nearest_neighbour_distances,
    prdc,
)
from gamedyn.metrics.record import (
    Measurement,
    class_mean_pictures,
    evaluate,
    floor,
    measurement,
)
from gamedyn.metrics.scores import (
    conditional_accuracy,
    inception_score,
    inception_score_splits,
)
from gamedyn.metrics.statistics import FeatureStats, feature_stats

__all__ = [
    "Extractor",
    "FeatureStats",
    "Features",
    "Measurement",
    "ModeCoverage",
    "Neighbours",
    "Prdc",
    "Spread",
    "class_mean_pictures",
    "classifier",
    "classify_channels",
    "conditional_accuracy",
    "evaluate",
    "feature_stats",
    "floor",
    "frechet",
    "hash_arrays",
    "inception",
    "inception_score",
    "inception_score_splits",
    "kid",
    "kid_subsets",
    "measurement",
    "mode_coverage",
    "nearest_neighbour_distances",
    "prdc",
    "quantise",
    "random_conv",
    "raw",
    "resize_bilinear",
    "stacked_coverage",
]
