"""Vertices of the polytopes of best responses, in whole numbers."""

import math
from typing import NamedTuple

import numpy as np


class Vertex(NamedTuple):
    """A vertex of the polytope of a player's best responses.

    Attributes:
        shares: the player's strategy, as whole numbers of no particular sum.
        labels: a set of bits: i for an action i of the player's own that is not played,
            d + j for a best response j of the other's, d being the number of actions.
    """

    shares: tuple[int, ...]
    labels: int


def vertices(payoffs: np.ndarray) -> list[Vertex]:
    r"""Enumerate the vertices of $\{x \ge 0 : x^\top P \le 1\}$ but for the origin.

    The double description method: the cone over the orthant is cut by one inequality
    after the other. An edge that a cut meets joins two rays which share more of the
    inequalities than any third one does, so that ties need no perturbation; and whole
    numbers without a common divisor name every ray once.

    Args:
        payoffs: P, positive integers of Python's, shape `(d, k)`, of the other player.

    Returns:
        The vertices.

    References:
        Motzkin, Raiffa, Thompson, Thrall, "The double description method", 1953.
        Avis, Rosenberg, Savani, von Stengel, "Enumeration of Nash equilibria for
        two-player games", 2010.
    """
    d, k = payoffs.shape
    # The last coordinate is the height in the cone; no ray but the first ones is flat.
    flat, unplayed = 1 << (d + k), (1 << d) - 1
    rays = np.eye(d + 1, dtype=object)
    zeros = np.array([unplayed ^ (1 << i) | flat for i in range(d)] + [unplayed])
    for j in range(k):
        slack = rays[:, d] - rays[:, :d].dot(payoffs[:, j])
        inside, outside = np.flatnonzero(slack > 0), np.flatnonzero(slack < 0)
        bit = np.int64(1 << (d + j))
        cut, cut_zeros = [], []
        for p in inside:
            common = zeros[p] & zeros[outside]
            # An edge lies on d - 1 of the inequalities, and so on these at least.
            for q in outside[np.bitwise_count(common) >= d - 1]:
                both = zeros[p] & zeros[q]
                if np.count_nonzero((zeros & both) == both) == 2:
                    ray = rays[q] * slack[p] - rays[p] * slack[q]
                    cut.append(ray // math.gcd(*ray))
                    cut_zeros.append(both | bit)
        kept = np.flatnonzero(slack >= 0)
        touching = np.where(slack[kept] == 0, bit, 0).astype(np.int64)
        rays = np.vstack([rays[kept], *cut])
        zeros = np.append(zeros[kept] | touching, cut_zeros).astype(np.int64)
    return [
        Vertex(tuple(ray[:d]), int(labels))
        for ray, labels in zip(rays, zeros, strict=True)
        if any(ray[:d])
    ]
