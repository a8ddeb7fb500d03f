"""Scores computed from a classifier's probabilities."""

from typing import Any

import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.data.order import permutation
from gamedyn.metrics import checks
from gamedyn.metrics.kernel import Spread


def inception_score(probabilities: Any) -> float:
    r"""Compute the classifier score: confident predictions of many different classes.

    $$\exp \Bigl( \frac 1n \sum_j \mathrm{KL}\bigl( p(c \mid y_j) \,\|\, p(c) \bigr)
    \Bigr), \qquad p(c) = \frac 1n \sum_j p(c \mid y_j),$$

    between 1 and the number of classes. It ignores the real data: never quote it alone.
    It is the Inception score only with the probabilities of the standard Inception
    network (from its logits without bias).

    Args:
        probabilities: shape (n, C), each row a distribution.

    Returns:
        The score.

    Raises:
        TypeError: if the probabilities are not real numbers.
        ValueError: if the shape is another or a row is no distribution.

    Example:
        >>> round(inception_score([[0.75, 0.25], [0.25, 0.75]]), 4)
        1.1398

    References:
        T. Salimans et al., Improved Techniques for Training GANs, 2016.
        <https://arxiv.org/abs/1606.03498>
    """
    p = checks.probabilities("probabilities", probabilities)
    mean = p.mean(axis=0)
    # 0 log 0 = 0: a ratio of 1 where p is 0, also where the mean is 0.
    ratio = np.divide(p, mean, out=np.ones_like(p), where=p > 0)
    return float(np.exp(np.mean(np.sum(p * np.log(ratio), axis=1))))


def inception_score_splits(
    probabilities: Any, *, splits: int = 10, seed: int = 0
) -> Spread:
    """Compute `inception_score` over parts of the sample, the protocol of the paper.

    On average it is lower than the score of the whole sample, since a part with fewer
    examples has less variety. The sample is shuffled first, since the parts of a sample
    ordered by class would score 1.

    Args:
        probabilities: shape (n, C), n >= splits.
        splits: the number of parts.
        seed: of the shuffling; a seed gives the same order on every machine.

    Returns:
        Mean and standard deviation over the parts.

    Raises:
        TypeError: as `inception_score`.
        ValueError: as `inception_score`, or if there are fewer rows than parts.
    """
    p = checks.probabilities("probabilities", probabilities)
    check_positive_integer("splits", splits)
    if splits > len(p):
        raise ValueError(f"got {len(p)} examples for {splits} splits")
    parts = np.array_split(p[permutation(len(p), seed, 0)], splits)
    scores = [inception_score(part) for part in parts]
    return Spread(float(np.mean(scores)), float(np.std(scores)))


def conditional_accuracy(probabilities: Any, labels: Any) -> float:
    r"""Compute the share of pictures classified as the class that was asked for.

    $$\frac 1n \, \#\{j : \arg\max_c p(c \mid y_j) = c_j\}.$$

    Quote the classifier's accuracy on held-out real pictures beside it.

    Args:
        probabilities: shape (n, C), each row a distribution.
        labels: the classes that the generator was asked for, shape (n,), integers.

    Returns:
        A share between 0 and 1.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if the shapes do not fit together, a row is not a distribution, or a
            label is out of range.

    Example:
        >>> conditional_accuracy([[0.9, 0.1], [0.6, 0.4]], [0, 1])
        0.5
    """
    p = checks.probabilities("probabilities", probabilities)
    asked = checks.class_labels("labels", labels, *p.shape)
    return float(np.mean(p.argmax(axis=1) == asked))
