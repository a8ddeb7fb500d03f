"""Scores from a classifier's probabilities."""

from typing import Any

import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.data.order import permutation
from gamedyn.metrics import checks
from gamedyn.metrics.kernel import Spread


def inception_score(probabilities: Any) -> float:
    r"""Compute the score of a classifier's sureness and of the variety of its answers.

    $$\exp \Bigl( \frac 1n \sum_j \mathrm{KL}\bigl( p(c \mid y_j) \,\|\, p(c) \bigr)
    \Bigr), \qquad p(c) = \frac 1n \sum_j p(c \mid y_j),$$

    from 1 to the number of classes. It ignores the real data: never quote it alone. It
    is the Inception score only with the probabilities of the standard Inception network
    (of its logits without bias); otherwise a classifier score.

    Args:
        probabilities: shape (n, C), every row a distribution.

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
    # 0 log 0 = 0; where the mean is 0, so is every p.
    ratio = np.divide(p, mean, out=np.ones_like(p), where=p > 0)
    return float(np.exp(np.mean(np.sum(p * np.log(ratio), axis=1))))


def inception_score_splits(
    probabilities: Any, *, splits: int = 10, seed: int = 0
) -> Spread:
    """Compute `inception_score` over parts of the sample, the protocol of the paper.

    Not the score of the whole: a part has fewer examples to show its variety with. The
    sample is shuffled first, since ordered by class it would score 1.

    Args:
        probabilities: shape (n, C), n >= splits.
        splits: how many parts.
        seed: of the shuffling, the same on every machine.

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
    """Compute the share of pictures that the classifier takes for the asked class.

    Quote the classifier's accuracy on real test pictures beside it.

    Args:
        probabilities: shape (n, C).
        labels: the classes that the generator was asked for, shape (n,), integers.

    Returns:
        A share from 0 to 1.

    Raises:
        TypeError: if the labels are no integers.
        ValueError: if a shape does not fit, a row is no distribution or a label is out
            of range.

    Example:
        >>> conditional_accuracy([[0.9, 0.1], [0.6, 0.4]], [0, 1])
        0.5
    """
    p = checks.probabilities("probabilities", probabilities)
    asked = checks.class_labels("labels", labels, *p.shape)
    return float(np.mean(p.argmax(axis=1) == asked))
