"""Precision, recall, density and coverage, and the distance to the nearest picture."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.metrics import checks

_BLOCK_ENTRIES = 2**23  # distances held at a time


class Prdc(NamedTuple):
    """Precision, recall, density and coverage.

    Attributes:
        precision: share of generated points inside some reference point's ball.
        recall: share of reference points inside some generated point's ball.
        density: how many reference balls hold a generated point, on average, divided
            by k; 1 for equal laws, not bounded by 1.
        coverage: share of reference points whose ball holds a generated point.
    """

    precision: float
    recall: float
    density: float
    coverage: float


class Neighbours(NamedTuple):
    """The nearest reference point of each generated one.

    Attributes:
        distances: shape (n,), float64; exactly 0 for copies.
        indices: which reference point it is, shape (n,).
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

    With the ball $B(x)$ around x that reaches to the k-th nearest *other* point of its
    own set, reference points $x_1, \dots, x_m$ and generated points
    $y_1, \dots, y_n$:

    - precision: share of $y_j$ inside some $B(x_i)$;
    - recall: share of $x_i$ inside some $B(y_j)$;
    - density: $\frac{1}{kn} \sum_j \#\{i : y_j \in B(x_i)\}$;
    - coverage: share of $x_i$ with some $y_j \in B(x_i)$.

    A point on a boundary is inside ($\le$; the published code of density and coverage
    has $<$), and distances that agree to rounding are equal: a copy of the reference
    set has density (k + 1) / k and the rest 1. One outlier among the generated points
    has a ball that swallows the reference set: read coverage beside recall.

    For two samples of one law the expected coverage is
    $1 - \prod_{j<k} (m - 1 - j) / (m + n - 1 - j)$, near $1 - 2^{-k}$ for m = n, and
    the expected density is 1; precision and recall are below 1 and depend on n, m and
    d: quote real against real beside them.

    Args:
        generated: features y, shape (n, d).
        reference: features x, shape (m, d).
        num_neighbours: k of precision and recall, 3 in the paper.
        num_neighbours_coverage: k of density and coverage, 5 in the paper.

    Returns:
        The four numbers. Exchanging the sets exchanges precision and recall.

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
    # Distances do not change, but less is lost to cancellation.
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
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
    r"""Find the nearest reference point of each generated one: a memorisation check.

    $$\min_i |y_j - x_i|, \qquad j = 1, \dots, n.$$

    Held against the *training* pictures, the median shows copying where it is well
    below the same median of held-out real pictures.

    Args:
        generated: features y, shape (n, d).
        reference: features x, shape (m, d), of the training pictures.

    Returns:
        Distances and indices.

    Raises:
        TypeError: if the features are not real numbers.
        ValueError: if the shapes do not fit or a feature is not finite.

    Example:
        >>> found = nearest_neighbour_distances(
        ...     generated=[[0.0, 1.0], [3.0, 4.0]], reference=[[0.0, 0.0], [3.0, 4.0]]
        ... )
        >>> found.distances.tolist(), found.indices.tolist()
        ([1.0, 0.0], [0, 1])
    """
    y, x = checks.points(generated=generated, reference=reference)
    centre = x.mean(axis=0)
    blocks = _squared_distances(y - centre, x - centre)
    indices = np.concatenate([squares.argmin(axis=1) for _, squares, _ in blocks])
    # By differences, which leave nothing of the rounding errors of the squares.
    return Neighbours(np.linalg.norm(y - x[indices], axis=1), indices)


def _squared_radii(x: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """Squared distances to the k-th nearest other points, for several k."""
    radii = [np.empty(len(x)) for _ in ks]
    for rows, squares, _ in _squared_distances(x, x):
        # The point itself comes first, at distance 0.
        squares[np.arange(len(squares)), np.arange(len(x))[rows]] = 0
        squares.partition(sorted(set(ks)), axis=1)
        for radius, k in zip(radii, ks, strict=True):
            radius[rows] = squares[:, k]
    return radii


def _squared_distances(
    x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield blocks of rows, their squared distances, and how far these can be off.

    The expansion |x|^2 + |y|^2 - 2 x y is one matrix product; its rounding error is a
    multiple of the squared norms, not of the distance.
    """
    of_x, of_y = np.sum(x**2, axis=1), np.sum(y**2, axis=1)
    height = max(1, _BLOCK_ENTRIES // len(y))
    tolerance = 4 * (x.shape[1] + 4) * np.finfo(np.float64).eps
    for start in range(0, len(x), height):
        rows = slice(start, start + height)
        sums = of_x[rows, None] + of_y
        yield rows, np.maximum(sums - 2 * x[rows] @ y.T, 0), tolerance * sums
