"""Precision, recall, density and coverage, and the distance to the nearest picture."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.metrics import checks

_BLOCK_ENTRIES = 2**23  # distances in memory at a time


class Prdc(NamedTuple):
    """Precision, recall, density and coverage.

    Attributes:
        precision: the share of generated points in the ball of some reference point.
        recall: the share of reference points in the ball of some generated point.
        density: the mean number of reference balls that contain a generated point,
            divided by k; 1 for equal distributions, not bounded by 1.
        coverage: the share of reference points whose ball contains a generated point.
    """

    precision: float
    recall: float
    density: float
    coverage: float


class Neighbours(NamedTuple):
    """The nearest reference point of each generated one.

    Attributes:
        distances: shape (n,), float64; exactly 0 for copies.
        indices: the indices of the reference points, shape (n,).
    """

    distances: np.ndarray
    indices: np.ndarray


def prdc(
    *,
    generated: Any,
    reference: Any,
    num_neighbours: int = 3,
    num_neighbours_coverage: int = 5,
) -> Prdc:
    r"""Compute precision, recall, density and coverage by nearest neighbours.

    Let $x_1, \dots, x_m$ be the reference points, $y_1, \dots, y_n$ the generated ones,
    and $B$ the ball around a point whose radius is the distance to the k-th nearest
    *other* point of the same set:

    - precision: share of $y_j$ inside some $B(x_i)$;
    - recall: share of $x_i$ inside some $B(y_j)$;
    - density: $\frac{1}{kn} \sum_j \#\{i : y_j \in B(x_i)\}$;
    - coverage: share of $x_i$ with some $y_j \in B(x_i)$.

    Balls are closed ($\le$; the published code of density and coverage has $<$), and
    distances that agree up to rounding are equal: a copy of the reference set has
    density (k + 1) / k, and the other three are 1. The ball of a single generated
    outlier can contain the whole reference set: read coverage beside recall.

    For two samples of one distribution the expected coverage is
    $1 - \prod_{j<k} (m - 1 - j) / (m + n - 1 - j)$, near $1 - 2^{-k}$ for m = n, and
    the expected density is 1. Precision and recall are below 1 and depend on n, m and
    d: quote those of real against real pictures beside them.

    Args:
        generated: features y, shape (n, d).
        reference: features x, shape (m, d).
        num_neighbours: k of precision and recall, 3 in the paper.
        num_neighbours_coverage: k of density and coverage, 5 in the paper.

    Returns:
        The four numbers. Exchanging the two sets exchanges precision and recall.

    Raises:
        TypeError: if the features are not real numbers.
        ValueError: if the shapes do not fit, a feature is not finite or a set has at
            most k points.

    Example:
        >>> x, y = [[0.0], [1.0], [2.0], [3.0]], [[0.5], [10.0], [10.5], [11.0]]
        >>> prdc(
        ...     generated=y, reference=x, num_neighbours=1, num_neighbours_coverage=1
        ... )
        Prdc(precision=0.25, recall=1.0, density=0.5, coverage=0.5)

    References:
        T. Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing
        Generative Models, 2019. <https://arxiv.org/abs/1904.06991>
        M. F. Naeem et al., Reliable Fidelity and Diversity Metrics for Generative
        Models, 2020. <https://arxiv.org/abs/2002.09797>
    """
    y, x = checks.points(generated=generated, reference=reference)
    check_positive_integer("num_neighbours", num_neighbours)
    check_positive_integer("num_neighbours_coverage", num_neighbours_coverage)
    k, k_coverage = int(num_neighbours), int(num_neighbours_coverage)
    if min(len(x), len(y)) <= max(k, k_coverage):
        raise ValueError(
            f"{max(k, k_coverage)} neighbours need more points than that in each set, "
            f"got {len(y)} generated and {len(x)} reference points"
        )
    x, y, _ = _about_one(x, y)
    radii, radii_coverage = _squared_radii(x, (k, k_coverage))
    (radii_generated,) = _squared_radii(y, (k,))

    inside_generated = np.empty(len(x), bool)
    covered = np.empty(len(x), bool)
    inside_reference = np.zeros(len(y), bool)
    hits = 0
    for rows, squares, slack in _squared_distances(x, y):
        inside_generated[rows] = (squares <= radii_generated + slack).any(axis=1)
        inside_reference |= (squares <= radii[rows, None] + slack).any(axis=0)
        held = squares <= radii_coverage[rows, None] + slack
        covered[rows] = held.any(axis=1)
        hits += int(np.count_nonzero(held))
    return Prdc(
        precision=float(inside_reference.mean()),
        recall=float(inside_generated.mean()),
        density=hits / (k_coverage * len(y)),
        coverage=float(covered.mean()),
    )


def nearest_neighbour_distances(*, generated: Any, reference: Any) -> Neighbours:
    r"""Find the nearest reference point of each generated one: a test of memorisation.

    $$\min_i |y_j - x_i|, \qquad j = 1, \dots, n.$$

    Take the *training* pictures as reference: a median well below that of held-out real
    pictures indicates copies.

    Args:
        generated: features y, shape (n, d).
        reference: features x, shape (m, d), of the training pictures.

    Returns:
        The distances and the indices of the reference points.

    Raises:
        TypeError: if the features are not real numbers.
        ValueError: if the shapes do not fit or a feature is not finite.

    Example:
        >>> nearest = nearest_neighbour_distances(
        ...     generated=[[0.0, 1.0], [3.0, 4.0]], reference=[[0.0, 0.0], [3.0, 4.0]]
        ... )
        >>> nearest.distances.tolist(), nearest.indices.tolist()
        ([1.0, 0.0], [0, 1])
    """
    y, x = checks.points(generated=generated, reference=reference)
    x, y, exponent = _about_one(x, y)
    blocks = _squared_distances(y, x)
    indices = np.concatenate([squares.argmin(axis=1) for _, squares, _ in blocks])
    # From differences, since the squares above are rounded: copies have distance 0.
    distances = np.linalg.norm(y - x[indices], axis=1)
    return Neighbours(np.ldexp(distances, exponent), indices)


def _about_one(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Centre features, and divide them by a power of two, whose exponent is returned.

    Neither changes how distances compare; centred, less is lost to cancellation, and
    squares of numbers about one exist.
    """
    exponent = int(np.frexp(max(np.abs(x).max(), np.abs(y).max()))[1])
    x, y = np.ldexp(x, -exponent), np.ldexp(y, -exponent)
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
    # Again, after an offset: copies stay copies, as both are exact.
    again = int(np.frexp(max(np.abs(x).max(), np.abs(y).max()))[1])
    return np.ldexp(x, -again), np.ldexp(y, -again), exponent + again


def _squared_radii(x: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """Return the squared distances to the k-th nearest other points, for several k."""
    radii = [np.empty(len(x)) for _ in ks]
    for rows, squares, _ in _squared_distances(x, x):
        # The point itself, at distance 0, is first in the order: the k-th other point
        # has index k.
        squares[np.arange(len(squares)), np.arange(len(x))[rows]] = 0
        squares.partition(sorted(set(ks)), axis=1)
        for radius, k in zip(radii, ks, strict=True):
            radius[rows] = squares[:, k]
    return radii


def _squared_distances(
    x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield blocks of rows, their squared distances, and bounds of the rounding errors.

    The expansion |x|^2 + |y|^2 - 2 x y is one matrix product; its rounding error is
    relative to the squared norms, not to the distance.
    """
    of_x, of_y = np.sum(x**2, axis=1), np.sum(y**2, axis=1)
    height = max(1, _BLOCK_ENTRIES // len(y))
    tolerance = 4 * (x.shape[1] + 4) * np.finfo(np.float64).eps
    for start in range(0, len(x), height):
        rows = slice(start, start + height)
        sums = of_x[rows, None] + of_y
        yield rows, np.maximum(sums - 2 * x[rows] @ y.T, 0), tolerance * sums
