"""Divergences of Gaussian distributions, exact also where covariances are singular."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import is_known
from gamedyn.divergences import checks


def gaussian_kullback_leibler(
    mean0: Any, covariance0: Any, mean1: Any, covariance1: Any
) -> jax.Array:
    r"""Compute the Kullback-Leibler divergence of N0 from N1 in d dimensions.

    $$\mathrm{KL}(N_0 \| N_1) = \tfrac12 \bigl( \mathrm{tr}\, S_1^{-1} S_0
    + (m_1 - m_0)^\top S_1^{-1} (m_1 - m_0) - d + \log\det S_1 - \log\det S_0 \bigr).$$

    By the Cholesky factors, with $M = L_1^{-1} L_0$ lower triangular: half the sum of
    $M_{ii}^2 - 1 - 2 \log M_{ii}$ and of the squares below the diagonal, all of them
    non-negative. A matrix counts as singular when a pivot of its correlation matrix is
    at most 4 d times machine epsilon, so the units of the axes do not matter.

    Args:
        mean0: mean of N0, shape (d,).
        covariance0: symmetric, shape (d, d).
        mean1: mean of N1, shape (d,).
        covariance1: symmetric, positive definite, shape (d, d).

    Returns:
        The divergence in nats; $+\infty$ if `covariance0` is singular (N0 lives on a
        subspace), and by contract also, under `jit`, if `covariance1` is.

    Raises:
        ValueError: if the shapes do not fit, a known covariance is not symmetric, or
            `covariance1` is known and singular.
        TypeError: if the dtypes differ or are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn import divergences
        >>> zero, one = jnp.zeros(1), jnp.ones(1)
        >>> kl = divergences.gaussian_kullback_leibler(
        ...     zero, jnp.eye(1), one, 4 * jnp.eye(1)
        ... )
        >>> f"{kl:.4f}"
        '0.4431'
    """
    mean0, covariance0, mean1, covariance1 = _prepare(
        mean0, covariance0, mean1, covariance1
    )
    factor0, scale0, regular0 = _factor(covariance0)
    factor1, scale1, regular1 = _factor(covariance1)
    if is_known(regular1) and not regular1:
        raise ValueError(
            "covariance1 must be positive definite, got a singular or indefinite "
            "matrix: the second Gaussian has no density"
        )
    # In units of scale1 both factors are of order one.
    relative = jax.scipy.linalg.solve_triangular(
        factor1, (scale0 / scale1)[:, None] * factor0, lower=True
    )
    shift = jax.scipy.linalg.solve_triangular(
        factor1, (mean1 - mean0) / scale1, lower=True
    )
    diagonal = jnp.diagonal(relative)
    below = jnp.tril(relative, -1)
    terms = (diagonal - 1) * (diagonal + 1) - 2 * jnp.log(diagonal)
    value = (jnp.sum(terms) + jnp.sum(below**2) + jnp.sum(shift**2)) / 2
    return jnp.where(regular0 & regular1, value, jnp.inf)


def gaussian_wasserstein_squared(
    mean0: Any, covariance0: Any, mean1: Any, covariance1: Any
) -> jax.Array:
    r"""Compute $W_2^2$ of two Gaussians, the squared Frechet distance.

    $$W_2^2 = |m_0 - m_1|^2 + \mathrm{tr}\, S_0 + \mathrm{tr}\, S_1
    - 2\, \mathrm{tr} \bigl( S_0^{1/2} S_1 S_0^{1/2} \bigr)^{1/2}.$$

    The last trace is the sum of the singular values of $L_0^\top L_1$ for any factors
    $S = L L^\top$; these are made of the eigenvectors whose eigenvalues exceed
    d eps times the largest, so singular covariances (fewer samples than features) give
    full accuracy, and nothing is added to them. Symmetric in its arguments.

    Differentiable where both covariances are regular, by the closed form
    $\partial W_2^2 / \partial S_1 = I - T$ with
    $T = S_0^{1/2} (S_0^{1/2} S_1 S_0^{1/2})^{-1/2} S_0^{1/2}$, the optimal map
    (repeated eigenvalues do no harm); for singular ones the inverse is the
    pseudo-inverse, and the slope one of many. First derivatives only.

    Args:
        mean0: shape (d,).
        covariance0: symmetric positive semidefinite, shape (d, d).
        mean1: shape (d,).
        covariance1: symmetric positive semidefinite, shape (d, d).

    Returns:
        The squared distance, a scalar; rounding may leave it below zero by d eps times
        the traces.

    Raises:
        ValueError: if the shapes do not fit, or a known covariance is not symmetric or
            not positive semidefinite.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        D. C. Dowson and B. V. Landau, The Frechet distance between multivariate normal
        distributions, 1982. <https://doi.org/10.1016/0047-259X(82)90077-X>
        M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium, 2017. <https://arxiv.org/abs/1706.08500>
    """
    mean0, covariance0, mean1, covariance1 = _prepare(
        mean0, covariance0, mean1, covariance1
    )
    for name, matrix in (("covariance0", covariance0), ("covariance1", covariance1)):
        if is_known(matrix):
            values = np.linalg.eigvalsh(np.asarray(matrix, np.float64))
            slack = 10 * len(values) * float(jnp.finfo(matrix.dtype).eps)
            if values[0] < -slack * np.abs(values).max():
                raise ValueError(
                    f"{name} must be positive semidefinite, "
                    f"got the eigenvalue {values[0]}"
                )
    shift = jnp.sum((mean0 - mean1) ** 2)
    traces = jnp.trace(covariance0) + jnp.trace(covariance1)
    return shift + traces - 2 * _trace_of_root(covariance0, covariance1)


def frechet_squared(x: Any, y: Any) -> jax.Array:
    r"""Compute the squared Frechet distance between the Gaussian fits of two samples.

    $$|\bar x - \bar y|^2 + \mathrm{tr}\, S_x + \mathrm{tr}\, S_y
    - 2 \| X Y^\top \|_* / \sqrt{(n-1)(m-1)}$$

    with the centred matrices X, Y, their unbiased covariances $S_x$, $S_y$ and the sum
    of singular values $\| \cdot \|_*$: no covariance is formed or rooted. Name the
    extractor of the features with every value.

    Args:
        x: features, shape (n, d), n >= 2.
        y: features, shape (m, d), m >= 2.

    Returns:
        The squared distance, a scalar, differentiable once.

    Raises:
        ValueError: if the shapes do not fit or a sample has fewer than two points.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium, 2017. <https://arxiv.org/abs/1706.08500>
    """
    x, y = checks.points(x=x, y=y)
    if min(len(x), len(y)) < 2:
        raise ValueError(
            f"a covariance needs at least two points, got {len(x)} and {len(y)}"
        )
    mean_x, mean_y = jnp.mean(x, axis=0), jnp.mean(y, axis=0)
    x = (x - mean_x[None]) / (len(x) - 1) ** 0.5
    y = (y - mean_y[None]) / (len(y) - 1) ** 0.5
    traces = jnp.sum(x**2) + jnp.sum(y**2)
    return jnp.sum((mean_x - mean_y) ** 2) + traces - 2 * _cross_nuclear_norm(x, y)


def _prepare(mean0, covariance0, mean1, covariance1) -> list[jax.Array]:
    arrays = checks.floating(
        mean0=mean0, covariance0=covariance0, mean1=mean1, covariance1=covariance1
    )
    d = arrays[0].size
    expected = [(d,), (d, d), (d,), (d, d)]
    if [array.shape for array in arrays] != expected or d == 0:
        raise ValueError(
            f"expected means of shape (d,) and covariances of shape (d, d), "
            f"got {', '.join(str(array.shape) for array in arrays)}"
        )
    for name, matrix in (("covariance0", arrays[1]), ("covariance1", arrays[3])):
        if is_known(matrix):
            known = np.asarray(matrix, np.float64)
            gap = np.abs(known - known.T).max()
            largest = np.abs(known).max()
            if not gap <= 1e3 * float(jnp.finfo(matrix.dtype).eps) * largest < np.inf:
                raise ValueError(
                    f"{name} must be symmetric and finite, "
                    f"got entries that differ by {gap}"
                )
    return arrays


def _factor(covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Factor S = diag(scale) L L^T diag(scale); the identity where S is singular."""
    d = len(covariance)
    variances = jnp.diagonal(covariance)
    positive = jnp.all(variances > 0)
    scale = jnp.sqrt(jnp.where(positive, variances, 1))
    identity = jnp.eye(d, dtype=covariance.dtype)
    correlation = covariance / (scale[:, None] * scale[None, :])
    correlation = jnp.where(positive, correlation, identity)
    pivots = jnp.diagonal(jnp.linalg.cholesky(correlation)) ** 2
    threshold = 4 * d * jnp.finfo(covariance.dtype).eps
    # A failed factorisation is NaN, which is not greater than anything.
    regular = positive & jnp.all(pivots > threshold)
    # Once more where it is safe: the derivative of a failed one would be NaN.
    factor = jnp.linalg.cholesky(jnp.where(regular, correlation, identity))
    return factor, jnp.where(regular, scale, 1), regular


def _root(covariance: jax.Array) -> jax.Array:
    """Give L with S = L L^T, without the directions that are rounding errors."""
    values, vectors = jnp.linalg.eigh(covariance)
    threshold = len(values) * jnp.finfo(values.dtype).eps * values[-1]
    kept = values > jnp.maximum(threshold, 0)
    return vectors * jnp.sqrt(jnp.where(kept, values, 0))[None, :]


def _inverse_singular_values(values: jax.Array) -> jax.Array:
    threshold = len(values) * jnp.finfo(values.dtype).eps * jnp.max(values)
    kept = values > threshold
    return jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)


# Singular vectors and eigenvectors have no derivative where values repeat; the sums
# below have one, given in closed form.


@jax.custom_jvp
def _trace_of_root(s0: jax.Array, s1: jax.Array) -> jax.Array:
    product = _root(s0).T @ _root(s1)
    return jnp.sum(jnp.linalg.svd(product, compute_uv=False))


@_trace_of_root.defjvp
def _trace_of_root_jvp(primals, tangents):
    root0, root1 = map(_root, primals)
    u, values, vt = jnp.linalg.svd(root0.T @ root1, full_matrices=False)
    inverse = _inverse_singular_values(values)[None, :]
    left, right = root0 @ u, root1 @ vt.T
    slope0, slope1 = (right * inverse) @ right.T, (left * inverse) @ left.T
    tangent = jnp.sum(slope0 * tangents[0]) + jnp.sum(slope1 * tangents[1])
    return jnp.sum(values), tangent / 2


@jax.custom_jvp
def _cross_nuclear_norm(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sum the singular values of X Y^T, at most d of which are not zero."""
    small = jnp.linalg.qr(x, mode="r") @ jnp.linalg.qr(y, mode="r").T
    return jnp.sum(jnp.linalg.svd(small, compute_uv=False))


@_cross_nuclear_norm.defjvp
def _cross_nuclear_norm_jvp(primals, tangents):
    (qx, rx), (qy, ry) = map(jnp.linalg.qr, primals)
    u, values, vt = jnp.linalg.svd(rx @ ry.T, full_matrices=False)
    kept = _inverse_singular_values(values) > 0
    polar = (u * kept.astype(u.dtype)[None, :]) @ vt
    slope_x, slope_y = qx @ (polar @ ry), qy @ (polar.T @ rx)
    tangent = jnp.sum(slope_x * tangents[0]) + jnp.sum(slope_y * tangents[1])
    return jnp.sum(values), tangent
