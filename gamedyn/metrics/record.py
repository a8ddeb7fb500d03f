"""Measurements: values of metrics with all that they depend on, and `evaluate`."""

import dataclasses
from typing import Any

import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.data.order import permutation
from gamedyn.metrics import checks
from gamedyn.metrics.extractors import Extractor, Features
from gamedyn.metrics.frechet import frechet
from gamedyn.metrics.inception import STANDARD
from gamedyn.metrics.kernel import Spread, kid, kid_subsets
from gamedyn.metrics.neighbours import prdc
from gamedyn.metrics.scores import conditional_accuracy, inception_score_splits
from gamedyn.metrics.statistics import feature_stats

_STANDARD_NAMES = {
    "frechet": "FID",
    "kernel_distance": "KID",
    "classifier_score": "IS",
}
GENERATORS = ("raw", "ema", "real", "baseline")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The value of a metric, with all that it depends on.

    Two values are comparable only if they agree in everything but value, deviation,
    seed and generator. `dataclasses.asdict` makes a dictionary for JSON.

    Attributes:
        metric: "frechet", "kernel_distance", "precision", "recall", "density",
            "coverage", "classifier_score" or "accuracy".
        value: the number.
        extractor: the name of the extractor.
        weights: the hash of its weights.
        layer: the layer whose outputs are the features.
        resize: how pictures are resized.
        n_generated: the number of generated pictures.
        n_reference: the number of reference pictures; 0 if the metric needs none.
        split: the part of the data that the reference is, such as "test".
        seed: of the random subsets and shuffles.
        generator: "raw" (current weights), "ema" (averaged weights), "real" for real
            pictures, or "baseline" for a trivial generator, such as the mean pictures
            of the classes.
        protocol: what else the value depends on, in words.
        deviation: the standard deviation over subsets or splits, if there are any.
        test_accuracy: of the extractor as a classifier of held-out real pictures.
    """

    metric: str
    value: float
    extractor: str
    weights: str
    layer: str
    resize: str
    n_generated: int
    n_reference: int
    split: str
    seed: int
    generator: str
    protocol: str = ""
    deviation: float | None = None
    test_accuracy: float | None = None

    @property
    def label(self) -> str:
        """The printed name: FID, KID or IS only in the standard Inception features."""
        if self.extractor == STANDARD and self.metric in _STANDARD_NAMES:
            return _STANDARD_NAMES[self.metric]
        return f"{self.metric.replace('_', ' ')}[{self.extractor}]"

    def __str__(self) -> str:
        """Return name and value, with the deviation if there is one."""
        spread = "" if self.deviation is None else f" +- {self.deviation:.2g}"
        return f"{self.label} = {self.value:.4g}{spread}"


def evaluate(
    generated: Any,
    reference: Any,
    extractor: Extractor,
    *,
    labels: Any = None,
    generator: str = "raw",
    split: str = "test",
    seed: int = 0,
    num_neighbours: int = 3,
    num_neighbours_coverage: int = 5,
    subsets: int = 100,
    subset_size: int = 1000,
    splits: int = 1,
    batch_size: int = 250,
) -> dict[str, Measurement]:
    """Compare generated with real pictures, by every metric that applies.

    The kernel distance is computed over random subsets if both sets are larger than
    `subset_size`, else over the whole sets. Take as many generated pictures as
    reference ones, and quote the values of `floor` beside these.

    Args:
        generated: uint8, shape (n, H, W, C), see `quantise`; or their `Features`.
        reference: real pictures, uint8, shape (m, H, W, C); or their `Features`, so
            that they are not computed anew for every checkpoint.
        extractor: the extractor; given `Features` must come from it.
        labels: the classes that a conditional generator was asked for, shape (n,).
        generator: "raw", "ema", "real" or "baseline".
        split: the part of the data that the reference is, for the record.
        seed: of the random subsets and shuffles.
        num_neighbours: k of precision and recall.
        num_neighbours_coverage: k of density and coverage.
        subsets: the number of pairs of subsets of the kernel distance.
        subset_size: pictures per subset.
        splits: parts of the classifier score; 1 takes the whole set, 10 is usual for
            the Inception score.
        batch_size: pictures per batch of the extractor.

    Returns:
        Measurements by metric: "frechet", "kernel_distance", "precision", "recall",
        "density", "coverage"; "classifier_score" if the extractor is a classifier; and
        "accuracy" with labels.

    Raises:
        TypeError: if pictures are not uint8 or labels not integers.
        ValueError: if shapes do not fit together, labels are given but the extractor is
            not a classifier, features come from another extractor, or `generator` is
            unknown.

    Example:
        >>> from gamedyn.metrics import raw
        >>> real = np.arange(96, dtype=np.uint8).reshape(24, 2, 2, 1)
        >>> values = evaluate(real[:12], real[12:], raw())
        >>> print(values["frechet"], "by", values["frechet"].protocol)
        frechet[raw] = 0.1417 by squared
    """
    if generator not in GENERATORS:
        raise ValueError(f"generator must be one of {GENERATORS}, got {generator!r}")

    # The features of n generated and m reference pictures, unless they are given.
    y = _features("generated", generated, extractor, batch_size)
    x = _features("reference", reference, extractor, batch_size)
    n, m, d = len(y.features), len(x.features), y.features.shape[1]
    pair = {"generated": y.features, "reference": x.features}
    singular = f", singular: n <= d = {d}" if min(n, m) <= d else ""

    # The distances between the two sets, as (metric, value, protocol).
    results: list[tuple[str, float | Spread, str]] = [
        (
            "frechet",
            frechet(feature_stats(y.features), feature_stats(x.features)),
            "squared" + singular,
        )
    ]
    if min(n, m) > subset_size:
        value = kid_subsets(**pair, subsets=subsets, subset_size=subset_size, seed=seed)
        protocol = f"{subsets} subsets of {subset_size}"
        results.append(("kernel_distance", value, protocol))
    else:
        results.append(("kernel_distance", kid(**pair), "whole sets"))

    # Fidelity and diversity, by nearest neighbours.
    shares = prdc(
        **pair,
        num_neighbours=num_neighbours,
        num_neighbours_coverage=num_neighbours_coverage,
    )
    results += [
        ("precision", shares.precision, f"k = {num_neighbours}"),
        ("recall", shares.recall, f"k = {num_neighbours}"),
        ("density", shares.density, f"k = {num_neighbours_coverage}, <="),
        ("coverage", shares.coverage, f"k = {num_neighbours_coverage}, <="),
    ]

    # The scores that need a classifier.
    if y.probabilities is not None:
        score = inception_score_splits(y.probabilities, splits=splits, seed=seed)
        results.append(("classifier_score", score, f"{splits} splits"))
    if labels is not None:
        if y.probabilities is None:
            raise ValueError(
                f"an accuracy needs a classifier, got labels and {extractor.name}"
            )
        accuracy = conditional_accuracy(y.probabilities, labels)
        results.append(("accuracy", accuracy, "against the asked labels"))

    # Every value with all that it depends on.
    return {
        metric: measurement(
            metric,
            value,
            extractor,
            n_generated=n,
            n_reference=0 if metric in ("classifier_score", "accuracy") else m,
            split=split,
            seed=seed,
            generator=generator,
            protocol=protocol,
        )
        for metric, value, protocol in results
    }


def measurement(
    metric: str,
    value: float | Spread,
    extractor: Extractor,
    *,
    n_generated: int,
    generator: str,
    n_reference: int = 0,
    split: str = "",
    seed: int = 0,
    protocol: str = "",
) -> Measurement:
    """Make the `Measurement` of a value in the features of an extractor.

    Args:
        metric: the name of the metric.
        value: the value, or its mean and deviation over subsets.
        extractor: the extractor.
        n_generated: the number of generated pictures.
        generator: as in `evaluate`.
        n_reference: the number of reference pictures; 0 if the metric needs none.
        split: the part of the data that the reference is.
        seed: of the random subsets and shuffles.
        protocol: what else the value depends on, in words.

    Returns:
        The measurement.
    """
    spread = value if isinstance(value, Spread) else None
    return Measurement(
        metric,
        value.mean if isinstance(value, Spread) else value,
        extractor.name,
        extractor.weights,
        extractor.layer,
        extractor.resize,
        n_generated,
        n_reference,
        split,
        seed,
        generator,
        protocol,
        spread and spread.deviation,
        extractor.test_accuracy,
    )


def floor(
    real: Any, reference: Any, extractor: Extractor, *, number: int, **options: Any
) -> dict[str, Measurement]:
    """Evaluate real pictures as if they were generated: the values of a perfect model.

    Args:
        real: real pictures that are not in the reference, uint8, such as the training
            set.
        reference: as in `evaluate`.
        extractor: as in `evaluate`.
        number: the number of pictures drawn from `real`, without replacement; take as
            many as are generated.
        **options: options of `evaluate` except `labels` and `generator`; `seed` also
            decides which pictures are drawn.

    Returns:
        As `evaluate`.

    Raises:
        TypeError: as `evaluate`.
        ValueError: as `evaluate`, or if `number` exceeds `real`.
    """
    pictures = checks.pictures("real", real)
    check_positive_integer("number", number)
    if number > len(pictures):
        raise ValueError(f"got {len(pictures)} real pictures, expected {number}")
    chosen = permutation(len(pictures), options.get("seed", 0), 0)[:number]
    return evaluate(pictures[chosen], reference, extractor, generator="real", **options)


def class_mean_pictures(images: Any, labels: Any, num_classes: int) -> np.ndarray:
    """Average the pictures of each class: a baseline for conditional generators.

    A generator that returns the mean picture of the class asked for is accurate and has
    no variety; a trained one must be better by every metric. Index the result with the
    labels asked for.

    Args:
        images: uint8, shape (n, H, W, C).
        labels: their classes, shape (n,).
        num_classes: the number of classes.

    Returns:
        The means, rounded to uint8, shape (num_classes, H, W, C).

    Raises:
        TypeError: if the pictures are not uint8 or the labels not integers.
        ValueError: if the shapes do not fit together, a label is out of range, or a
            class has no pictures.

    Example:
        >>> pictures = np.array([10, 20, 90], np.uint8).reshape(3, 1, 1, 1)
        >>> class_mean_pictures(pictures, np.array([0, 0, 1]), 2).ravel().tolist()
        [15, 90]
    """
    pictures = checks.pictures("images", images)
    classes = checks.class_labels("labels", labels, len(pictures), num_classes)
    counts = np.bincount(classes, minlength=num_classes)
    if not counts.all():
        raise ValueError(f"no picture of the classes {np.flatnonzero(counts == 0)}")
    means = [pictures[classes == c].mean(axis=0) for c in range(num_classes)]
    return np.round(means).astype(np.uint8)


def _features(name: str, given: Any, extractor: Extractor, batch_size: int) -> Features:
    if not isinstance(given, Features):
        return extractor(checks.pictures(name, given), batch_size=batch_size)
    if given.source != extractor.source:
        raise ValueError(
            f"{name} features must come from {extractor.source}, got {given.source}"
        )
    return given
