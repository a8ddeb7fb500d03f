"""Extremal eigenvalues of a symmetric operator by Lanczos, and what they prove.

Symbols: H the operator on n numbers, k the steps done, Q the orthonormal basis of the
Krylov space as rows, T the tridiagonal matrix with diagonal alpha and off-diagonal
beta, theta and s its eigenvalues (Ritz values) and eigenvectors, `scale` the largest
norm |H q| met, which stands for |H|.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.operators import as_callable
from gamedyn.analysis.precision import Findings, float64, inspect
from gamedyn.checks import check_positive_integer
from gamedyn.game import PyTree
from gamedyn.loops import bounded_while

_CHUNK = 10  # steps between two looks at the residuals


class Tridiagonal(NamedTuple):
    """The state of a Lanczos run, arrays of fixed shape whatever the steps done.

    Attributes:
        basis: Q in up to eight blocks of at least ten rows (the last one may be
            smaller), each of shape `(rows, n)`; rows from `steps` on are not meant.
        vector: the next basis vector, shape `(n,)`.
        diagonal: alpha, shape `(num_steps,)`; entries from `steps` on are not meant.
        off_diagonal: beta, shape `(num_steps,)`, beta[j] coupling rows j and j + 1; the
            last one meant, beta[steps - 1], is the norm of what T leaves out.
        scale: the largest norm |H q| met.
        steps: the number of steps done, k, int32; each costs one product.
        exhausted: whether the basis spans an invariant space: nothing is left out.
    """

    basis: tuple[jax.Array, ...]
    vector: jax.Array
    diagonal: jax.Array
    off_diagonal: jax.Array
    scale: jax.Array
    steps: jax.Array
    exhausted: jax.Array


class LanczosResult(NamedTuple):
    """The ends of a symmetric operator's spectrum.

    Multiplicities are not a result: one start finds one copy of an eigenvalue.

    Attributes:
        values: the reported Ritz values, ascending, float64.
        vectors: their unit Ritz vectors, flat, shape `(pairs, n)`.
        images: the products H y of these, shape `(pairs, n)`.
        residuals: |H y - theta y| of each, from one product more, not from T.
        converged: whether each residual is at most `tolerance * scale`.
        ritz: all Ritz values, ascending, shape `(steps,)`, float64.
        diagonal: of T, cut to the steps used.
        off_diagonal: of T, as long; its last entry is what T leaves out.
        scale: the largest norm |H q| met, which stands for |H|.
        steps: the number of steps done.
        exhausted: whether the Krylov space was exhausted before `num_steps`.
        matvecs: the number of products spent.
        dimension: n, less the known null directions.
        tolerance: relative, what `converged` was decided by.
        dtype: the precision of the products.
        null_residual: the largest |H v| over the known null directions v, or 0.
    """

    values: np.ndarray
    vectors: jax.Array
    images: jax.Array
    residuals: np.ndarray
    converged: np.ndarray
    ritz: np.ndarray
    diagonal: np.ndarray
    off_diagonal: np.ndarray
    scale: float
    steps: int
    exhausted: bool
    matvecs: int
    dimension: int
    tolerance: float
    dtype: str
    null_residual: float

    @property
    def smallest(self) -> float:
        """The smallest Ritz value; the smallest eigenvalue is no larger."""
        return float(self.ritz[0])

    @property
    def largest(self) -> float:
        """The largest Ritz value; the largest eigenvalue is no smaller."""
        return float(self.ritz[-1])


def lanczos(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    key: jax.Array,
    *,
    num_steps: int = 50,
    num_pairs: tuple[int, int] = (1, 1),
    tolerance: float | None = None,
    null_directions: Sequence[PyTree] | None = None,
    start: PyTree | None = None,
    stop: Callable[[np.ndarray, np.ndarray, float], bool] | None = None,
) -> LanczosResult:
    r"""Find the extremal eigenvalues of a symmetric operator, both ends.

    $$\beta_j q_{j+1} = H q_j - \alpha_j q_j - \beta_{j-1} q_{j-1},
      \qquad \alpha_j = q_j^\top H q_j,$$

    each new vector orthogonalised against all before it by two passes of classical
    Gram-Schmidt, so that no eigenvalue appears twice. The steps run in one compiled
    loop; every ten the host looks whether the wanted pairs have converged. Memory:
    `num_steps * n` numbers. Called outside jit; `tridiagonalise` is the traceable part.

    The operator must be fixed (batch, keys, no dropout). Give it as an `Operator` or a
    `jax.tree_util.Partial` whose arrays are leaves: arrays closed over are compiled in.

    Args:
        operator: `operator(vector) -> vector`, symmetric and linear.
        like: a vector or pytree of the structure the operator acts on.
        key: a PRNG key for the Gaussian start.
        num_steps: the most steps; a space of fewer dimensions takes fewer.
        num_pairs: how many pairs to report at the lower and at the upper end.
        tolerance: relative to |H|, what a residual must fall to; `sqrt(eps)` if `None`,
            where the error of an isolated eigenvalue is about eps. With 0 all steps are
            done.
        null_directions: known null directions, each of the structure of `like`; they
            are deflated: what is found holds on their orthogonal complement.
        start: the start in place of a random one, of the structure of `like`.
        stop: `stop(diagonal, off_diagonal, scale)`, asked every ten steps in place of
            the test for convergence.

    Returns:
        Ritz values, residuals and flags.

    Raises:
        ValueError: if a number is out of range, the structure of start or of a null
            direction differs, or the null directions span the whole space.
        TypeError: if the vectors are not real, or the operator changes their structure
            or dtype.
        FloatingPointError: if a product is not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gamedyn.analysis.lanczos import lanczos
        >>> eigenvalues = jnp.linspace(-1.0, 2.0, 30)
        >>> result = lanczos(lambda v: eigenvalues * v, eigenvalues, jax.random.key(0))
        >>> print(f"{result.smallest:.4f} {result.largest:.4f}")
        -1.0000 2.0000

    References:
        Lanczos, "An iteration method for the solution of the eigenvalue problem of
        linear differential and integral operators", 1950.
        Parlett, The Symmetric Eigenvalue Problem, 1980, chapter 13.
    """
    check_positive_integer("num_steps", num_steps)
    if len(num_pairs) != 2 or min(num_pairs) < 0 or not sum(num_pairs):
        raise ValueError(
            f"num_pairs must be the pairs wanted at the lower and at the upper end, "
            f"got {num_pairs}"
        )
    operator = as_callable(operator)
    like = jax.tree.map(jnp.asarray, like)
    size, dtype = check_operator(operator, like)
    null = _orthonormal(null_directions, like, size, dtype)
    dimension = size - len(null)
    if not dimension:
        raise ValueError(f"the null directions span the whole space of {size} numbers")
    if tolerance is None:
        tolerance = math.sqrt(jnp.finfo(dtype).eps)
    if start is None:
        flat = _gaussian(key, size=size, dtype=dtype)
    else:
        _check_structure("start", start, like)
        flat = ravel_pytree(start)[0].astype(dtype)
    num_steps = min(num_steps, dimension)
    # Where nothing can end the run early, there is nothing to look for on the way.
    chunk = num_steps if tolerance == 0 and stop is None else _CHUNK
    state = _begin(flat, null, num_steps=num_steps)
    while True:
        goal = jnp.asarray(min(int(state.steps) + chunk, num_steps), jnp.int32)
        state = _advance(operator, like, null, state, goal)
        steps, scale = int(state.steps), float(state.scale)
        if not math.isfinite(scale):
            raise FloatingPointError(
                f"the operator returned a product that is not finite at step {steps}"
            )
        diagonal = np.asarray(state.diagonal[:steps], np.float64)
        off_diagonal = np.asarray(state.off_diagonal[:steps], np.float64)
        if bool(state.exhausted) or steps == num_steps:
            break
        if stop is not None:
            if stop(diagonal, off_diagonal, scale):
                break
        elif settled(diagonal, off_diagonal, num_pairs, tolerance * scale):
            break
    ritz, vectors = tridiagonal_eigh(diagonal, off_diagonal)
    lower = min(num_pairs[0], steps)
    upper = min(num_pairs[1], steps - lower)
    chosen = [*range(lower), *range(steps - upper, steps)]
    weights = np.zeros((len(chosen), num_steps))
    weights[:, :steps] = vectors[:, chosen].T
    basis = state.basis
    del state
    ritz_vectors = _combine(basis, jnp.asarray(weights, dtype))
    del basis
    images, residuals = _images(
        operator, like, null, ritz_vectors, jnp.asarray(ritz[chosen], dtype)
    )
    residuals = np.asarray(residuals, np.float64)
    null_residual = 0.0
    if len(null):
        zeros = jnp.zeros(len(null), dtype)
        norms = _images(operator, like, null[:0], null, zeros)[1]
        null_residual = float(jnp.max(norms))
    return LanczosResult(
        values=ritz[chosen],
        vectors=ritz_vectors,
        images=images,
        residuals=residuals,
        converged=residuals <= tolerance * scale,
        ritz=ritz,
        diagonal=diagonal,
        off_diagonal=off_diagonal,
        scale=scale,
        steps=steps,
        exhausted=bool(off_diagonal[-1] <= breakdown(size, dtype) * scale),
        matvecs=steps + len(chosen) + len(null),
        dimension=dimension,
        tolerance=float(tolerance),
        dtype=str(dtype),
        null_residual=null_residual,
    )


def tridiagonalise(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    start: jax.Array,
    num_steps: int,
    null: jax.Array | None = None,
) -> Tridiagonal:
    """Do up to `num_steps` Lanczos steps; a plain traceable function.

    One loop, which ends early where the Krylov space is exhausted; see `lanczos`.

    Args:
        operator: `operator(vector) -> vector`, symmetric and linear.
        like: a vector or pytree of the structure the operator acts on.
        start: the start, flat, shape `(n,)`; need not be of norm 1.
        num_steps: the most steps, static.
        null: orthonormal directions to stay orthogonal to, shape `(m, n)`.

    Returns:
        The state after the last step.
    """
    if null is None:
        null = jnp.zeros((0, start.size), start.dtype)
    return _steps(operator, like, null, _first(start, null, num_steps), num_steps)


def kuczynski_wozniakowski(dimension: int, num_steps: int, delta: float) -> float:
    r"""Bound the relative error of the smallest Ritz value a priori.

    $$P\big(\theta_{\min} - \lambda_{\min} > e\,(\lambda_{\max} - \lambda_{\min})\big)
      \le \delta, \qquad
      e = \Big( \frac{\ln(1.648 \sqrt{n}/\delta)}{2k - 1} \Big)^2,$$

    for a start drawn uniformly from the sphere and exact arithmetic.

    Args:
        dimension: n.
        num_steps: k.
        delta: the probability of failure allowed, between 0 and 1.

    Returns:
        e, at most 1; 0 where k reaches n.

    Example:
        >>> from gamedyn.analysis.lanczos import kuczynski_wozniakowski
        >>> print(f"{kuczynski_wozniakowski(10**6, 100, 1e-6):.5f}")
        0.01137

    References:
        Kuczynski, Wozniakowski, "Estimating the largest eigenvalue by the power and
        Lanczos algorithms with a random start", SIAM J. Matrix Anal. Appl. 13, 1992.
    """
    check_positive_integer("dimension", dimension)
    check_positive_integer("num_steps", num_steps)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    if num_steps >= dimension:
        return 0.0
    e = (math.log(1.648 * math.sqrt(dimension) / delta) / (2 * num_steps - 1)) ** 2
    return min(e, 1.0)


class SpectrumBounds(NamedTuple):
    """What a random start says about the eigenvalues beyond the outermost Ritz values.

    Attributes:
        lower: the smallest eigenvalue is no less, with `probability`.
        upper: the largest eigenvalue is no more, with `probability`.
        a_priori: the lower bound of Kuczynski and Wozniakowski alone, -inf if vacuous.
        a_posteriori: the lower bound from the Lanczos polynomial alone.
        probability: of each statement by itself, 1 - 3 delta.
        allowance: what was taken off for rounding, an estimate.
    """

    lower: float
    upper: float
    a_priori: float
    a_posteriori: float
    probability: float
    allowance: float


def spectrum_bounds(
    diagonal: np.ndarray,
    off_diagonal: np.ndarray,
    dimension: int,
    *,
    delta: float = 1e-6,
    allowance: float = 0.0,
) -> SpectrumBounds:
    r"""Bound the spectrum from outside, in probability over the random start.

    The better one of two bounds. A priori, with e of `kuczynski_wozniakowski` used at
    both ends, needing e < 1/2 and holding with probability 1 - 2 delta:

    $$\lambda_{\min} \ge \theta_{\min} - \tfrac{e}{1 - 2e}
      (\theta_{\max} - \theta_{\min}).$$

    A posteriori, holding with probability 1 - delta: the last residual is the Lanczos
    polynomial of H applied to the start q, so its component along a unit eigenvector v
    of lambda_min gives

    $$|q^\top v| \prod_{i=1}^k (\theta_i - \lambda_{\min}) \le \prod_{j=1}^k \beta_j,
      \qquad P(|q^\top v| \le t) \le t \sqrt{2n/\pi},$$

    and lambda_min is no less than the root of the product below theta_min. Both are
    theorems in exact arithmetic about the fixed operator; rounding enters by
    `allowance`.

    Args:
        diagonal: of T, shape `(k,)`.
        off_diagonal: of T and the last residual, shape `(k,)`.
        dimension: n.
        delta: the probability of failure of one statement, between 0 and 1.
        allowance: what to take off for rounding.

    Returns:
        The bounds.

    References:
        Kuczynski, Wozniakowski, as in `kuczynski_wozniakowski`.
        van Dorsselaer, Hochstenbach, van der Vorst, "Computing probabilistic bounds
        for extreme eigenvalues of symmetric matrices with the Lanczos method", SIAM J.
        Matrix Anal. Appl. 22, 2000.
    """
    ritz = tridiagonal_eigh(diagonal, off_diagonal)[0]
    width = ritz[-1] - ritz[0]
    e = kuczynski_wozniakowski(dimension, len(ritz), delta)
    slack = e / (1 - 2 * e) * width if e < 0.5 else math.inf
    a_priori = ritz[0] - slack
    with np.errstate(divide="ignore"):
        budget = float(np.sum(np.log(off_diagonal)))
    budget += 0.5 * math.log(2 * dimension / math.pi) - math.log(delta)
    a_posteriori = ritz[0] - _root(ritz - ritz[0], budget)
    above = min(slack, _root(ritz[-1] - ritz, budget))
    return SpectrumBounds(
        lower=float(max(a_priori, a_posteriori) - allowance),
        upper=float(ritz[-1] + above + allowance),
        a_priori=float(a_priori - allowance),
        a_posteriori=float(a_posteriori - allowance),
        probability=1 - 3 * delta,
        allowance=float(allowance),
    )


class RayleighQuotient(NamedTuple):
    """The curvature along one direction, examined again by itself.

    Attributes:
        quotient: v'Hv of the unit vector v.
        error: bound on the error of the quotient. The rounding of v'(Hv) is bounded,
            that of differentiation estimated by (n + 100) u |H|.
        residual: |Hv - (v'Hv) v|.
        noise: |Hv - (Hv in working precision)|, or 0 where that is the same.
        dtype: the precision of the product.
        trusted: whether the product is of the operator itself: nothing in it is of a
            precision below the leaves', and float64 differs by no more than rounding.
        remark: what is of low precision inside, in words.
        matvecs: the number of products spent.
    """

    quotient: float
    error: float
    residual: float
    noise: float
    dtype: str
    trusted: bool
    remark: str
    matvecs: int

    @property
    def negative(self) -> bool:
        """Whether the direction is a witness of negative curvature."""
        return self.trusted and self.quotient + self.error < 0


def rayleigh_quotient(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    vector: jax.Array,
    *,
    scale: float,
    image: jax.Array | None = None,
) -> RayleighQuotient:
    r"""Evaluate the curvature along a direction with a fresh product, in float64.

    $$q = \frac{v^\top H v}{v^\top v}, \qquad
      e = \gamma_{2n+2} |v|^\top |Hv| + (n + 100)\, u\, |H|,$$

    a witness of negative curvature where q + e < 0, whatever the vector came from. The
    leaves of the operator are cast to float64, which is exact, and it is traced anew,
    unless it draws random numbers: others would be drawn, so that the working precision
    is kept, and u is that one's.

    Args:
        operator: `operator(vector) -> vector`, a pytree whose arrays are leaves.
        like: a vector or pytree of the structure the operator acts on.
        vector: the direction v, flat, shape `(n,)`.
        scale: an estimate of |H|.
        image: the product Hv in working precision, where it is known.

    Returns:
        The quotient with its error.
    """
    operator = as_callable(operator)
    like = jax.tree.map(jnp.asarray, like)
    dtype = np.dtype(vector.dtype)
    known = image is not None
    if image is None:
        image = _product(operator, like, vector)
    working = np.asarray(image, np.float64)
    double = dtype == np.float64
    again = not double and not _inspect(operator, like, vector).draws
    fresh, found = working, Findings()
    if again or double:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            arguments = (operator, like, vector)
            arguments = float64(arguments) if again else arguments
            found = _inspect(*arguments)
            fresh = np.asarray(_product(*arguments)) if again else fresh
    direction = np.asarray(vector, np.float64)
    norm = float(np.linalg.norm(direction))
    direction, fresh, working = direction / norm, fresh / norm, working / norm
    unit = found.unit if again or double else float(jnp.finfo(dtype).eps) / 2
    size, quotient = direction.size, float(direction @ fresh)
    gamma = (2 * size + 2) * 2.0**-53
    error = gamma / (1 - gamma) * float(np.abs(direction) @ np.abs(fresh))
    error = 1.01 * (error + (size + 100) * unit * scale)
    noise = float(np.linalg.norm(fresh - working))
    return RayleighQuotient(
        quotient=quotient,
        error=error,
        residual=float(np.linalg.norm(fresh - quotient * direction)),
        noise=noise,
        dtype="float64" if again or double else dtype.name,
        # float32 leaves differences of 1e-6 |H|; another operator is much further off.
        trusted=not found.low and bool(np.isfinite(quotient) and noise <= 1e-2 * scale),
        remark=found.words,
        matvecs=(not known) + again,
    )


def _inspect(operator, like, vector) -> Findings:
    return inspect(_product.trace(operator, like, vector).jaxpr)


def breakdown(size: int, dtype: Any) -> float:
    r"""Give the relative size of beta below which the Krylov space counts as exhausted.

    $$\max(10\,\epsilon, \min(100 \sqrt{n}\,\epsilon, 10^{-10})).$$

    Below 10 eps a normalised beta would be roundoff. In float64 the larger threshold
    also stops at the number of distinct eigenvalues; in float32 it would mistake a
    small component of the start for none.
    """
    eps = float(jnp.finfo(dtype).eps)
    return max(10 * eps, min(100 * math.sqrt(size) * eps, 1e-10))


def settled(
    diagonal: np.ndarray,
    off_diagonal: np.ndarray,
    num_pairs: tuple[int, int],
    threshold: float,
) -> bool:
    """Whether the recurrence's residuals of the wanted pairs are below a threshold.

    Good enough for stopping: it is after convergence to rounding that they are false.
    """
    lower, upper = num_pairs
    if len(diagonal) < lower + upper:
        return False
    vectors = tridiagonal_eigh(diagonal, off_diagonal)[1]
    residuals = off_diagonal[-1] * np.abs(vectors[-1])
    wanted = np.concatenate([residuals[:lower], residuals[len(residuals) - upper :]])
    return bool(np.all(wanted <= threshold))


def check_operator(operator: Callable[[PyTree], PyTree], like: PyTree) -> tuple:
    """Check that an operator maps real vectors to vectors of their kind.

    Args:
        operator: the operator.
        like: an example vector.

    Returns:
        The number of entries and the dtype of the flat vector.

    Raises:
        ValueError: if the vectors are empty.
        TypeError: if they are not real and floating, or the operator changes their
            structure or dtype.
    """
    for leaf in jax.tree.leaves(like):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"an operator's vectors must be real floating-point numbers, "
                f"got dtype {leaf.dtype}"
            )
    image = _apply.eval_shape(operator, like)  # remembered from call to call
    _check_structure("the operator's result", image, like)
    flat = jax.eval_shape(lambda v: ravel_pytree(v)[0], like)
    if not flat.size:
        raise ValueError("an operator needs vectors of at least one number, got none")
    return flat.size, flat.dtype


def _check_structure(what: str, tree: PyTree, like: PyTree) -> None:
    def kinds(tree):
        return jax.tree.map(lambda x: (jnp.shape(x), str(jnp.result_type(x))), tree)

    if kinds(tree) != kinds(like):
        raise TypeError(
            f"{what} must have the structure of the vectors, {kinds(like)}, "
            f"got {kinds(tree)}"
        )


def _orthonormal(
    directions: Sequence[PyTree] | None, like: PyTree, size: int, dtype: Any
) -> jax.Array:
    """Turn null directions into orthonormal rows; dependent ones are left out."""
    rows = []
    for direction in directions or ():
        _check_structure("a null direction", direction, like)
        row = np.asarray(ravel_pytree(direction)[0], np.float64)
        norm = np.linalg.norm(row)
        if not np.isfinite(norm) or norm == 0:
            raise ValueError(
                f"a null direction must have a finite norm > 0, got {norm}"
            )
        row = row / norm
        for _ in range(2):
            for other in rows:
                row = row - (other @ row) * other
        left = np.linalg.norm(row)
        if left > 1e-6:
            rows.append(row / left)
    stacked = np.stack(rows) if rows else np.zeros((0, size))
    return jnp.asarray(stacked, dtype)


@partial(jax.jit, static_argnames=("size", "dtype"))
def _gaussian(key: jax.Array, *, size: int, dtype: Any) -> jax.Array:
    return jax.random.normal(key, (size,), dtype)


@partial(jax.jit, static_argnames="num_steps")
def _begin(start: jax.Array, null: jax.Array, *, num_steps: int) -> Tridiagonal:
    return _first(start, null, num_steps)


@partial(jax.jit, donate_argnums=3)
def _advance(operator, like, null, state: Tridiagonal, goal) -> Tridiagonal:
    return _steps(operator, like, null, state, goal)


@jax.jit
def _apply(operator: Callable[[PyTree], PyTree], vector: PyTree) -> PyTree:
    return operator(vector)


@jax.jit
def _product(operator, like, vector) -> jax.Array:
    return flattened(operator, like)(vector)


@jax.jit
def _combine(basis: tuple[jax.Array, ...], weights: jax.Array) -> jax.Array:
    parts = jnp.split(weights, _firsts(basis)[1:], axis=1)
    pairs = zip(parts, basis, strict=True)
    vectors = sum(part @ block for part, block in pairs)
    return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)


@jax.jit
def _images(operator, like, null, vectors, values) -> tuple[jax.Array, jax.Array]:
    product = flattened(operator, like)

    def residual(pair):
        vector, value = pair
        image = product(vector)
        return image, jnp.linalg.norm(_deflate(image, null) - value * vector)

    return jax.lax.map(residual, (vectors, values))


def _first(start: jax.Array, null: jax.Array, num_steps: int) -> Tridiagonal:
    for _ in range(2):
        start = _deflate(start, null)
    zeros = jnp.zeros(num_steps, start.dtype)
    # At most eight blocks, so that the program does not grow with the steps.
    rows = max(_CHUNK, -(-num_steps // 8))
    return Tridiagonal(
        basis=tuple(
            jnp.zeros((min(rows, num_steps - first), start.size), start.dtype)
            for first in range(0, num_steps, rows)
        ),
        vector=start / jnp.linalg.norm(start),
        diagonal=zeros,
        off_diagonal=zeros,
        scale=zeros[0],
        steps=jnp.zeros((), jnp.int32),
        exhausted=jnp.array(False),
    )


def _steps(operator, like, null, state: Tridiagonal, goal) -> Tridiagonal:
    product = flattened(operator, like)
    size, dtype = state.vector.size, state.vector.dtype
    threshold = breakdown(size, dtype)
    firsts = _firsts(state.basis)

    def step(state):
        j, q = state.steps, state.vector
        basis = tuple(
            _with_row(block, j - first, q)
            for first, block in zip(firsts, state.basis, strict=True)
        )
        image = product(q)
        scale = jnp.maximum(state.scale, jnp.linalg.norm(image))
        rest = image
        for _ in range(2):  # the second pass takes away what rounding left
            for first, block in zip(firsts, basis, strict=True):
                # Blocks that are still empty are not read: half of the traffic.
                rest = jax.lax.cond(j >= first, _deflate, _keep, rest, block)
            rest = _deflate(rest, null)
        beta = jnp.linalg.norm(rest)
        exhausted = ~(beta > threshold * scale)  # true also where beta is NaN
        following = rest / jnp.where(exhausted, 1, beta).astype(dtype)
        return Tridiagonal(
            basis=basis,
            vector=following,
            diagonal=state.diagonal.at[j].set(q @ image),
            off_diagonal=state.off_diagonal.at[j].set(beta),
            scale=scale,
            steps=j + 1,
            exhausted=exhausted,
        )

    more = goal - state.steps
    return bounded_while(lambda state: ~state.exhausted, step, state, more)[0]


def flattened(
    operator: Callable[[PyTree], PyTree], like: PyTree
) -> Callable[[jax.Array], jax.Array]:
    """Turn an operator on pytrees like `like` into one on flat vectors."""
    unravel = ravel_pytree(like)[1]
    return lambda vector: ravel_pytree(operator(unravel(vector)))[0]


def _deflate(vector: jax.Array, rows: jax.Array) -> jax.Array:
    return vector - (rows @ vector) @ rows if len(rows) else vector


def _firsts(basis: tuple[jax.Array, ...]) -> list[int]:
    """The index of the first row of every block."""
    return [0, *itertools.accumulate(len(block) for block in basis[:-1])]


def _keep(vector: jax.Array, rows: jax.Array) -> jax.Array:
    del rows
    return vector


def _with_row(block: jax.Array, index: jax.Array, row: jax.Array) -> jax.Array:
    """Set one row, if the index lies in the block."""
    inside = (index >= 0) & (index < len(block))
    index = jnp.clip(index, 0, len(block) - 1)
    return block.at[index].set(jnp.where(inside, row, block[index]))


def tridiagonal_eigh(
    diagonal: np.ndarray, off_diagonal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Diagonalise the Lanczos matrix; its last beta leads out of it and is left out."""
    inner = off_diagonal[:-1]
    return np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))


def _root(gaps: np.ndarray, budget: float) -> float:
    """The x > 0 at which `sum(log(gaps + x)) == budget`, found by bisection."""
    if budget == -math.inf:
        return 0.0
    low, high = -700.0, 700.0
    for _ in range(100):
        middle = (low + high) / 2
        if np.sum(np.log(gaps + math.exp(middle))) > budget:
            high = middle
        else:
            low = middle
    return math.exp(high)
