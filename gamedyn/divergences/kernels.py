"""Distances between samples by kernels: maximum mean discrepancy, energy distance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.divergences import checks
from gamedyn.divergences.transport import distances, squared_distances

Kernel = Callable[[jax.Array, jax.Array], jax.Array]

_BLOCK_ENTRIES = 2**22  # kernel values held at a time


def rbf_kernel(bandwidth: Any) -> Kernel:
    r"""Make the Gaussian kernel $k(x, y) = \exp(-|x - y|^2 / (2 \sigma^2))$.

    Args:
        bandwidth: $\sigma$, positive; may be traced.

    Returns:
        The kernel of two sets of points: (n, d), (m, d) -> (n, m).

    Raises:
        ValueError: if the bandwidth is not positive.
    """
    check_positive("bandwidth", bandwidth)

    def kernel(x: jax.Array, y: jax.Array) -> jax.Array:
        sigma = jnp.asarray(bandwidth, x.dtype)
        # Divided first: the square of a small length is none.
        return jnp.exp(-squared_distances(x / sigma, y / sigma) / 2)

    return kernel


def kid_kernel(x: jax.Array, y: jax.Array) -> jax.Array:
    r"""Compute the polynomial kernel of the Kernel Inception Distance.

    $$k(x, y) = (x^\top y / d + 1)^3$$

    with the feature dimension d; KID is the unbiased squared discrepancy under it.

    Args:
        x: shape (n, d).
        y: shape (m, d).

    Returns:
        The kernel values, shape (n, m).

    References:
        M. Binkowski et al., Demystifying MMD GANs, 2018.
        <https://arxiv.org/abs/1801.01401>
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def maximum_mean_discrepancy_squared(
    x: Any, y: Any, kernel: Kernel, *, biased: bool = False, block: int | None = None
) -> jax.Array:
    r"""Compute the squared maximum mean discrepancy of two samples.

    Unbiased, without the diagonals, and negative at times (do not clip it):

    $$\frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j)
    + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
    - \frac{2}{nm} \sum_{ij} k(x_i, y_j);$$

    biased, with them and divided by $n^2$ and $m^2$, it is never negative and 0 for
    equal inputs. Computed in blocks of rows, summed in float64 where that is enabled.

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        kernel: (n, d), (m, d) -> (n, m), such as `rbf_kernel(1.0)` or `kid_kernel`.
        biased: which of the two.
        block: rows at a time; about four million kernel values if `None`.

    Returns:
        The estimate, a scalar; differentiable.

    Raises:
        ValueError: if the shapes do not fit, `block` is not a positive integer, or
            a sample has a single point and the form is unbiased.
        TypeError: if the dtypes differ or are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn import divergences
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]])
        >>> y = jnp.array([[0.0, 0.0], [1.0, 2.0], [-1.0, 1.0]])
        >>> kernel = divergences.kid_kernel
        >>> divergences.maximum_mean_discrepancy_squared(x, y, kernel).item()
        -1.0625

    References:
        A. Gretton et al., A Kernel Two-Sample Test, 2012.
        <https://jmlr.org/papers/v13/gretton12a.html>
    """
    x, y = checks.points(x=x, y=y)
    if block is not None:
        check_positive_integer("block", block)
    if not biased and min(len(x), len(y)) < 2:
        raise ValueError(
            f"the unbiased form needs at least two points on each side, "
            f"got {len(x)} and {len(y)}"
        )
    within = _mean(x, x, kernel, block, diagonal=biased) + _mean(
        y, y, kernel, block, diagonal=biased
    )
    across = _mean(x, y, kernel, block, diagonal=True)
    return (within - 2 * across).astype(x.dtype)


def energy_distance_squared(
    x: Any, y: Any, *, biased: bool = True, block: int | None = None
) -> jax.Array:
    r"""Compute the energy distance of two samples, in its squared form.

    $$2\, E|X - Y| - E|X - X'| - E|Y - Y'|,$$

    the squared discrepancy under the kernel $-|x - y|$; on the line it is
    $2 \int (F - G)^2$. (`scipy.stats.energy_distance` is its root.)

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        biased: with the pairs of a point with itself: the distance of the two
            empirical distributions, never negative. Otherwise without.
        block: rows at a time, as in `maximum_mean_discrepancy_squared`.

    Returns:
        The squared distance, a scalar; differentiable (coincident points have slope
        zero).

    Raises:
        ValueError: as `maximum_mean_discrepancy_squared`.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        G. J. Szekely and M. L. Rizzo, Energy statistics, 2013.
        <https://doi.org/10.1016/j.jspi.2013.03.018>
    """
    return maximum_mean_discrepancy_squared(
        x, y, _minus_distance, biased=biased, block=block
    )


def _minus_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    return -distances(x, y)


def _mean(
    x: jax.Array, y: jax.Array, kernel: Kernel, block: int | None, *, diagonal: bool
) -> jax.Array:
    """Average a kernel over all pairs, or over those of different points."""
    n, m = len(x), len(y)
    block = min(n, block or max(1, _BLOCK_ENTRIES // m))
    wide = jax.dtypes.canonicalize_dtype(jnp.float64)
    columns = jnp.arange(m)

    def block_sum(inputs):
        rows, indices = inputs
        values = kernel(rows, y)
        if values.shape != (block, m):
            raise ValueError(
                f"a kernel must give shape (n, m) = {(block, m)}, got {values.shape}"
            )
        counted = (indices < n)[:, None]
        if not diagonal:
            counted = counted & (indices[:, None] != columns[None, :])
        # Row by row, so that without float64 no sum has more than max(n, m) terms.
        return jnp.sum(jnp.sum(jnp.where(counted, values, 0), axis=1, dtype=wide))

    # The last block is filled up with copies that are not counted.
    num_blocks = -(-n // block)
    indices = jnp.arange(num_blocks * block)
    rows = x[jnp.minimum(indices, n - 1)].reshape(num_blocks, block, x.shape[1])
    sums = jax.lax.map(
        jax.checkpoint(block_sum), (rows, indices.reshape(num_blocks, block))
    )
    pairs = n * m if diagonal else n * (m - 1)
    return jnp.sum(sums) / pairs
