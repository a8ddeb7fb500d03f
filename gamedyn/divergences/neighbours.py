"""Precision and recall of generated samples, by nearest neighbours."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.divergences import checks
from gamedyn.divergences.transport import squared_distances
from gamedyn.trees import inverse_size, resized

_BLOCK_ENTRIES = 2**22  # distances held at a time


class PrecisionRecall(NamedTuple):
    """Two shares between 0 and 1.

    Attributes:
        precision: generated points inside some reference point's ball.
        recall: reference points inside some generated point's ball.
    """

    precision: jax.Array
    recall: jax.Array


def precision_recall(
    *, generated: Any, reference: Any, num_neighbours: int = 3
) -> PrecisionRecall:
    r"""Compute precision and recall of generated features.

    Around every point of a set lies the ball that reaches its k-th nearest neighbour
    in the same set, itself not counted; the balls together stand for the set's
    support. A point on a boundary is inside; repeated points have radius 0 from k
    copies on. Precision and recall of two equal laws are below 1 and depend on sample
    size and dimension: quote real against real beside them.

    Args:
        generated: features, shape (n, d), n > k.
        reference: features, shape (m, d), m > k.
        num_neighbours: k, 3 in the paper.

    Returns:
        Precision and recall. Exchanging the sets exchanges the two.

    Raises:
        ValueError: if the shapes do not fit or a set has at most k points.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        T. Kynkaanniemi et al., Improved Precision and Recall Metric for Assessing
        Generative Models, 2019. <https://arxiv.org/abs/1904.06991>
    """
    generated, reference = checks.points(generated=generated, reference=reference)
    check_positive_integer("num_neighbours", num_neighbours)
    smallest = min(len(generated), len(reference))
    if smallest <= num_neighbours:
        raise ValueError(
            f"num_neighbours = {num_neighbours} needs more points than that in each "
            f"set, got {smallest}"
        )
    return PrecisionRecall(
        _share_inside(generated, reference, num_neighbours),
        _share_inside(reference, generated, num_neighbours),
    )


def _share_inside(x: jax.Array, centres: jax.Array, k: int) -> jax.Array:
    """Compute the share of x inside some ball around a centre."""
    # From the first centre, in units of the largest coordinate, so that squares exist.
    origin = centres[:1]
    x, centres = x - origin, centres - origin
    by = inverse_size((x, centres)).astype(x.dtype)
    x, centres = resized(by, (x, centres))
    at_once = max(1, _BLOCK_ENTRIES // max(len(x), len(centres)))

    def squared_radius(centre):
        # The point itself is among the smallest: its distance is exactly zero.
        near = squared_distances(centre[None], centres)[0]
        return -jax.lax.top_k(-near, k + 1)[0][k]

    radii = jax.lax.map(squared_radius, centres, batch_size=min(at_once, len(centres)))

    def is_inside(point):
        return jnp.any(squared_distances(point[None], centres)[0] <= radii)

    inside = jax.lax.map(is_inside, x, batch_size=min(at_once, len(x)))
    share = jnp.mean(inside.astype(x.dtype))
    # A NaN is inside of nothing, which must not pass for a low share.
    finite = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(centres))
    return jnp.where(finite, share, jnp.nan)
