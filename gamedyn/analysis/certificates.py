r"""Proofs in floating-point arithmetic that a matrix is definite, or stable.

Symbols: u = 2^-53 the unit roundoff, $\gamma_k = k u / (1 - k u)$, A a symmetric matrix
of float64 entries, err a bound on |A_true - A|_2. Matrices are first scaled by a power
of two so that their largest entry lies in [1/2, 1): that is exact, and what underflows
then is far below the slack in the bounds.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gamedyn.analysis.verdicts import Curvature
from gamedyn.trees import norm_on_host

UNIT = 2.0**-53
"""The unit roundoff u of float64."""

_SLACK = 1.01
"""Covers the rounding in the bounds themselves."""


class SymmetricCertificate(NamedTuple):
    """What is proved of the sign of symmetric matrices; every array has a batch shape.

    Attributes:
        positive: whether the matrix is proved positive definite.
        negative: whether it is proved to have a negative eigenvalue.
        smallest: computed smallest eigenvalue, an estimate.
        largest: computed largest eigenvalue, an estimate.
        shift: c, by which the matrix was shifted before its Cholesky factorisation.
        witness: eigenvector computed with `smallest`, shape `(..., n)`.
        quotient: v'Av of the witness v, an estimate.
        allowance: e, a proved bound on the error of the quotient.
    """

    positive: np.ndarray
    negative: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    shift: np.ndarray
    witness: np.ndarray
    quotient: np.ndarray
    allowance: np.ndarray

    @property
    def curvature(self) -> Curvature:
        """The finding on a single matrix."""
        if self.positive:
            return Curvature.PD_CERTIFIED
        if self.negative:
            return Curvature.NOT_PSD_CERTIFIED
        return Curvature.INCONCLUSIVE


def certify_symmetric(
    matrices: np.ndarray, *, error: float | np.ndarray = 0.0, exact: bool = False
) -> SymmetricCertificate:
    r"""Prove symmetric matrices positive definite, or not positive semidefinite.

    Positive definite, if all $A_{ii} > c$ and the Cholesky factorisation of $A - cI$
    succeeds in floating-point arithmetic, with

    $$c = 1.01 \frac{\gamma_{n+1}}{1 - \gamma_{n+1}} \sum_i |A_{ii}| + \text{err}
          + 2u\,(\max_i |A_{ii}| + \text{err}).$$

    Not positive semidefinite, if the computed eigenvector v of the smallest eigenvalue
    is a witness: $v^\top A v + e < 0$, with

    $$e = \gamma_{2n+2} |v|^\top |A| |v| + \text{err}\, v^\top v.$$

    Args:
        matrices: A, shape `(..., n, n)`, exactly symmetric.
        error: err, a bound on |A_true - A|_2, broadcast over the batch shape.
        exact: whether to settle what stays open, where `error` is 0 and n <= 20, in
            exact rational arithmetic. Only an exactly singular positive semidefinite
            matrix stays open then.

    Returns:
        The certificates.

    Raises:
        ValueError: if a matrix is not square, not symmetric or not finite, or the error
            is negative or not finite.

    Example:
        >>> import numpy as np
        >>> matrices = np.stack([np.diag([1.0, d]) for d in (1e-14, 1e-17, -1e-14)])
        >>> proofs = certify_symmetric(matrices)
        >>> proofs.positive.tolist(), proofs.negative.tolist()
        ([True, False, False], [False, False, True])

    References:
        Rump, "Verification of positive definiteness", BIT Numerical Mathematics, 2006.
        Higham, "Accuracy and Stability of Numerical Algorithms", chapter 10, 2002.
    """
    matrices = np.asarray(matrices, np.float64)
    _check_square(matrices)
    if not np.array_equal(matrices, np.swapaxes(matrices, -1, -2)):
        raise ValueError("expected exactly symmetric matrices; use `symmetrise` first")
    size = matrices.shape[-1]
    error = np.broadcast_to(np.asarray(error, np.float64), matrices.shape[:-2])
    if not np.all(np.isfinite(error) & (error >= 0)):
        raise ValueError(f"an error must be finite and not negative, got {error}")
    if size == 0:
        none = np.full(matrices.shape[:-2], np.inf)
        return SymmetricCertificate(
            none > 0, none < 0, none, -none, error, matrices.sum(-1), none, error
        )
    scaled, exponent = _scale(matrices)
    with np.errstate(over="ignore"):
        scaled_error = np.minimum(np.ldexp(error, -exponent), 1e100)  # ample
    diagonal = np.abs(np.diagonal(scaled, axis1=-2, axis2=-1))
    gamma = _gamma(size + 1)
    shift = (
        _SLACK * gamma / (1 - gamma) * diagonal.sum(-1)
        + scaled_error
        + 2 * UNIT * (diagonal.max(-1) + scaled_error)
    )
    if scaled.any():
        values, vectors = np.linalg.eigh(scaled)
    else:
        values, vectors = (
            np.zeros(scaled.shape[:-1]),
            np.broadcast_to(np.eye(size), scaled.shape),
        )
    witness = vectors[..., :, 0]
    quotient, allowance = _quotient(scaled, witness, scaled_error)
    positive = _cholesky_succeeds(scaled, shift)
    negative = np.array(quotient + allowance < 0)
    if exact and size <= 20:
        for index in np.argwhere(~positive & ~negative & (error == 0)):
            sign = exact_sign(matrices[tuple(index)])
            positive[tuple(index)], negative[tuple(index)] = sign > 0, sign < 0
    return SymmetricCertificate(
        positive,
        negative,
        np.ldexp(values[..., 0], exponent),
        np.ldexp(values[..., -1], exponent),
        np.maximum(np.ldexp(shift, exponent), error),
        witness,
        np.ldexp(quotient, exponent),
        np.maximum(np.ldexp(allowance, exponent), error),
    )


def symmetrise(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    r"""Make a matrix exactly symmetric, and bound what that may have changed.

    $$A = \tfrac12 (H + H^\top), \qquad
      \text{err} = \tfrac12 |H - H^\top|_2 + u |A|_F,$$

    0 where H is symmetric already; the norm is bounded by the smaller of the Frobenius
    norm and the largest row sum.

    Args:
        matrix: H, shape `(n, n)`.

    Returns:
        A and err.

    Raises:
        ValueError: if the matrix is not square or not finite.
    """
    matrix = np.asarray(matrix, np.float64)
    _check_square(matrix)
    difference = matrix - matrix.T
    if not difference.any():
        return matrix, 0.0
    symmetric = (matrix + matrix.T) / 2
    rows = np.abs(difference).sum(axis=1).max()
    norm = min(norm_on_host(difference), rows)
    return symmetric, _SLACK * (norm / 2 + UNIT * norm_on_host(symmetric))


def exact_sign(matrix: np.ndarray) -> int:
    r"""Decide the definiteness of one symmetric matrix in exact integer arithmetic.

    Symmetric elimination without division (Bareiss), pivots from the diagonal: a
    negative diagonal entry of a Schur complement, or a zero diagonal beside a non-zero
    entry, proves a negative eigenvalue. Floats are integers times a power of two, so no
    rounding takes place. Meant for n <= 20.

    Args:
        matrix: shape `(n, n)`, exactly symmetric.

    Returns:
        1 if positive definite, 0 if positive semidefinite and singular, -1 if it has a
        negative eigenvalue.

    Raises:
        ValueError: if the matrix is not square, symmetric and finite.
    """
    matrix = np.asarray(matrix, np.float64)
    _check_square(matrix)
    if matrix.ndim != 2 or not np.array_equal(matrix, matrix.T):
        raise ValueError(
            f"expected one symmetric matrix, got shape {matrix.shape}"
            + ("" if matrix.ndim != 2 else ", not symmetric")
        )
    pairs = [[float(x).as_integer_ratio() for x in row] for row in matrix]
    common = max((d for row in pairs for _, d in row), default=1)
    rows = [[n * (common // d) for n, d in row] for row in pairs]
    previous = 1
    # The rows that remain are the Schur complement times a positive number.
    while rows:
        diagonal = [row[i] for i, row in enumerate(rows)]
        if min(diagonal) < 0:
            return -1
        pivot = next((i for i, value in enumerate(diagonal) if value > 0), None)
        if pivot is None:
            return -1 if any(any(row) for row in rows) else 0
        top, value = rows[pivot], diagonal[pivot]
        keep = [i for i in range(len(rows)) if i != pivot]
        rows = [
            [(value * rows[i][j] - top[i] * top[j]) // previous for j in keep]
            for i in keep
        ]
        previous = value
    return 1


class StabilityCertificate(NamedTuple):
    """What is proved of the spectrum of one non-symmetric matrix.

    Attributes:
        stable: whether every eigenvalue is proved to lie on the stable side.
        unstable: whether some eigenvalue is proved to lie on the other side.
    """

    stable: bool
    unstable: bool


def lyapunov_certificate(
    jacobian: np.ndarray, *, error: float = 0.0
) -> StabilityCertificate:
    r"""Prove that the flow $\dot w = -J w$ is stable, or that it is not.

    A symmetric P with P and $J^\top P + P J$ positive definite proves that every
    eigenvalue of J has a positive real part. If $J^\top P + P J$ is positive definite
    and P has a negative eigenvalue, some eigenvalue of J has a negative real part. P
    solves $J^\top P + P J = I$ approximately; the proof is about the matrices that come
    out, computed to within

    $$2 \gamma_{n+2} \big| |J|^\top |P| \big|_2 + 2 |P|_2\, \text{err}.$$

    Args:
        jacobian: J, shape `(n, n)`.
        error: err, a bound on |J_true - J|_2.

    Returns:
        The certificate.

    Raises:
        ValueError: if the matrix is not square or not finite.
    """
    jacobian, error = _scale_one(jacobian, error)
    size = len(jacobian)
    if size == 0:
        return StabilityCertificate(True, False)
    import scipy.linalg

    solution = _solve(
        lambda: scipy.linalg.solve_continuous_lyapunov(jacobian.T, np.eye(size))
    )
    if solution is None:
        return StabilityCertificate(False, False)
    half = jacobian.T @ solution
    bound = 2 * _gamma(size + 2) * _norm(np.abs(jacobian).T @ np.abs(solution))
    bound += 2 * _norm(solution) * error
    if not certify_symmetric(half + half.T, error=bound).positive:
        return StabilityCertificate(False, False)
    proof = certify_symmetric(solution)
    return StabilityCertificate(bool(proof.positive), bool(proof.negative))


def stein_certificate(
    matrix: np.ndarray, *, error: float = 0.0
) -> StabilityCertificate:
    r"""Prove that the map $w \mapsto M w$ is a contraction in some norm, or that not.

    A symmetric P with P and $P - M^\top P M$ positive definite proves that the spectral
    radius of M is below 1; with $P - M^\top P M$ positive definite and a negative
    eigenvalue of P it is above 1. The second matrix is computed to within

    $$3 \gamma_{2n+2} \big| |M|^\top |P| |M| + |P| \big|_2
      + |P|_2 (2 |M|_2 + \text{err})\, \text{err}.$$

    Args:
        matrix: M, shape `(n, n)`.
        error: err, a bound on |M_true - M|_2.

    Returns:
        The certificate.

    Raises:
        ValueError: if the matrix is not square or not finite.
    """
    matrix = np.asarray(matrix, np.float64)
    _check_square(matrix)
    size = len(matrix)
    if size == 0:
        return StabilityCertificate(True, False)
    import scipy.linalg

    solution = _solve(
        lambda: scipy.linalg.solve_discrete_lyapunov(matrix.T, np.eye(size))
    )
    if solution is None or np.abs(matrix).max() > 1e100:
        return StabilityCertificate(False, False)
    product = matrix.T @ solution @ matrix
    difference, asymmetry = symmetrise(solution - product)
    magnitude = np.abs(matrix)
    bound = (
        3
        * _gamma(2 * size + 2)
        * _norm(magnitude.T @ np.abs(solution) @ magnitude + np.abs(solution))
    )
    bound += _norm(solution) * (2 * _norm(matrix) + error) * error + asymmetry
    if not certify_symmetric(difference, error=bound).positive:
        return StabilityCertificate(False, False)
    proof = certify_symmetric(solution)
    return StabilityCertificate(bool(proof.positive), bool(proof.negative))


def _check_square(matrices: np.ndarray) -> None:
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"expected square matrices, got shape {matrices.shape}")
    if not np.all(np.isfinite(matrices)):
        raise ValueError("expected finite matrices, got an infinity or a NaN")


def _gamma(k: int) -> float:
    return k * UNIT / (1 - k * UNIT)


def _scale(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring the largest entry of every matrix into [1/2, 1), by a power of two."""
    _, exponent = np.frexp(np.abs(matrices).max(axis=(-2, -1)))
    return np.ldexp(matrices, -exponent[..., None, None]), exponent


def _scale_one(matrix: np.ndarray, error: float) -> tuple[np.ndarray, float]:
    matrix = np.asarray(matrix, np.float64)
    _check_square(matrix)
    if matrix.size == 0:
        return matrix, error
    scaled, exponent = _scale(matrix)
    with np.errstate(over="ignore"):
        return scaled, float(np.minimum(np.ldexp(error, -exponent), 1e100))


def _norm(matrix: np.ndarray) -> float:
    """Bound the spectral norm from above."""
    return float(_SLACK * np.linalg.norm(matrix, 2))


def _quotient(
    matrices: np.ndarray, vectors: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute v'Av and a bound on its error, for A of largest entry below 1."""
    size = matrices.shape[-1]

    def form(matrices, vectors):
        return np.sum(vectors * (matrices @ vectors[..., None])[..., 0], axis=-1)

    quotient = form(matrices, vectors)
    total = form(np.abs(matrices), np.abs(vectors))
    squares = np.sum(vectors**2, axis=-1)
    # The last term is for products that underflow.
    allowance = _gamma(2 * size + 2) * total + error * squares + size**2 * 1e-300
    return quotient, _SLACK * allowance


def _cholesky_succeeds(matrices: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Try the Cholesky factorisation of A - cI, all at once or one by one."""
    size = matrices.shape[-1]
    diagonal = np.diagonal(matrices, axis1=-2, axis2=-1)
    succeeded = np.array(np.all(diagonal > shift[..., None], axis=-1))
    shifted = matrices - shift[..., None, None] * np.eye(size)
    for index in np.argwhere(succeeded):
        try:
            factor = np.linalg.cholesky(shifted[tuple(index)])
        except np.linalg.LinAlgError:
            succeeded[tuple(index)] = False
        else:
            succeeded[tuple(index)] = np.all(np.isfinite(factor))
    return succeeded


def _solve(equation: Callable[[], np.ndarray]) -> np.ndarray | None:
    """Solve a matrix equation for a symmetric matrix of size 1; `None` if singular."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            solution = equation()
        except (np.linalg.LinAlgError, ValueError):
            return None
    if not np.all(np.isfinite(solution)) or not solution.any():
        return None
    return _scale((solution + solution.T) / 2)[0]
