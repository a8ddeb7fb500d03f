"""Extremal eigenvalues of a symmetric operator by Lanczos.

Symbols: H the operator on n numbers, k the steps done, Q the orthonormal basis of the
Krylov space as rows, T the tridiagonal matrix with diagonal alpha and off-diagonal
beta, theta and s its eigenvalues (Ritz values) and eigenvectors, `scale` the largest
norm |H q| met, which stands for |H|. What is iterated is H / 2^e, e from the first
product, so that no unit of H is too small or too large (`Unit`).
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
from gamedyn.checks import check_positive_integer
from gamedyn.game import PyTree
from gamedyn.loops import bounded_while
from gamedyn.trees import norm, norm_on_host

_CHUNK = 10  # steps between two looks at the residuals


class Unit(NamedTuple):
    r"""A power of two that an operator is measured in, found by its first products.

    Where |H q| of the start is a moderate number, e stays 0. Else the start is tried
    again with $2^{-e} H$ in place of H, half of the factor before the product and half
    behind it: rounding does not change, and nothing under- or overflows on the way.

    Attributes:
        exponent: e, int32.
        tries: the number of products whose result was only a better unit, int32.
    """

    exponent: jax.Array
    tries: jax.Array

    @classmethod
    def one(cls) -> "Unit":
        """The unit to begin with."""
        return cls(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def apply(
        self, product: Callable[[jax.Array], jax.Array], vector: jax.Array
    ) -> jax.Array:
        """Multiply with the operator divided by the unit."""
        half = self.exponent // 2
        before = jnp.ldexp(jnp.ones((), vector.dtype), -half)
        after = jnp.ldexp(jnp.ones((), vector.dtype), half - self.exponent)
        return after * product(before * vector)

    def better(self, image: jax.Array) -> tuple["Unit", jax.Array]:
        """Take the unit from the first product, if it has to change.

        Args:
            image: the product with a vector of norm 1, divided by this unit.

        Returns:
            The unit, and whether it is another one.
        """
        size = norm(image)
        span = -jnp.finfo(image.dtype).minexp
        moderate = (size > 2.0 ** -(span // 2)) & (size < 2.0 ** (span // 2))
        # A zero may be an underflow, what is not finite an overflow: far to that side,
        # once.
        known = jnp.isfinite(size) & (size > 0)
        far = jnp.where(size == 0, -span, span)
        exponent = jnp.where(known, jnp.frexp(size)[1], far)
        change = ~moderate & (self.tries < jnp.where(known, 2, 1))
        unit = Unit(
            self.exponent + jnp.where(change, exponent, 0).astype(jnp.int32),
            self.tries + change.astype(jnp.int32),
        )
        return unit, change


class Tridiagonal(NamedTuple):
    """The state of a Lanczos run, arrays whose shapes do not depend on the steps done.

    Attributes:
        basis: Q in up to eight blocks of at least ten rows (the last one may be
            smaller), each of shape `(rows, n)`; rows from `steps` on are unused.
        vector: the next basis vector, shape `(n,)`.
        diagonal: alpha, shape `(num_steps,)`; entries from `steps` on are unused.
        off_diagonal: beta, shape `(num_steps,)`, beta[j] coupling rows j and j + 1; the
            last one meant, beta[steps - 1], is the norm of what T leaves out.
        scale: the largest norm |H q| met.
        steps: the number of steps done, k, int32; each costs one product.
        exhausted: whether the basis spans an invariant space: nothing is left out.
        unit: what alpha, beta and the scale are measured in.
    """

    basis: tuple[jax.Array, ...]
    vector: jax.Array
    diagonal: jax.Array
    off_diagonal: jax.Array
    scale: jax.Array
    steps: jax.Array
    exhausted: jax.Array
    unit: Unit


class LanczosResult(NamedTuple):
    """The ends of a symmetric operator's spectrum.

    Multiplicities stay unknown: from one start comes one copy of an eigenvalue.

    Attributes:
        values: the reported Ritz values, ascending, float64.
        vectors: their unit Ritz vectors, flat, shape `(pairs, n)`.
        images: the products H y of these, shape `(pairs, n)`, float64 on the host.
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
    images: np.ndarray
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
    loop; the host tests every ten steps whether the pairs asked for have converged.
    Memory: `num_steps * n` numbers. Called outside jit; `tridiagonalise` is the
    traceable part.

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
            are deflated: the results hold on their orthogonal complement.
        start: the start in place of a random one, of the structure of `like`.
        stop: `stop(diagonal, off_diagonal, scale)`, called every ten steps in place of
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
        >>> from gamedyn.analysis import lanczos
        >>> eigenvalues = jnp.linspace(-1.0, 2.0, 30)
        >>> result = lanczos(lambda v: eigenvalues * v, eigenvalues, jax.random.key(0))
        >>> print(f"{result.smallest:.4f} {result.largest:.4f}")
        -1.0000 2.0000

    References:
        Lanczos, "An iteration method for the solution of the eigenvalue problem of
        linear differential and integral operators", 1950.
        Parlett, The Symmetric Eigenvalue Problem, 1980, chapter 13.
    """
    # The operator, the known null directions, and the start.
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

    # Steps in compiled blocks, until the test between two of them is met.
    num_steps = min(num_steps, dimension)
    # Where nothing can end the run early, there is nothing to look for on the way.
    chunk = num_steps if tolerance == 0 and stop is None else _CHUNK
    state = _begin(flat, null, num_steps=num_steps)
    if not bool(jnp.all(jnp.isfinite(state.vector))):
        raise ValueError(
            "the start must be finite, and not 0 outside the null directions"
        )
    while True:
        goal = jnp.asarray(min(int(state.steps) + chunk, num_steps), jnp.int32)
        state = _advance(operator, like, null, state, goal)
        steps, exponent = int(state.steps), int(state.unit.exponent)
        scale = _in_units(float(state.scale), exponent)
        if not math.isfinite(scale):
            raise FloatingPointError(
                f"the operator returned a product that is not finite at step {steps}"
            )
        diagonal, off_diagonal = (
            np.ldexp(np.asarray(part[:steps], np.float64), exponent)
            for part in (state.diagonal, state.off_diagonal)
        )
        if bool(state.exhausted) or steps == num_steps:
            break
        if stop is not None:
            if stop(diagonal, off_diagonal, scale):
                break
        elif pairs_converged(diagonal, off_diagonal, num_pairs, tolerance * scale):
            break

    # The Ritz vectors at both ends, and their residuals by products of their own.
    ritz, vectors = tridiagonal_eigh(diagonal, off_diagonal)
    lower = min(num_pairs[0], steps)
    upper = min(num_pairs[1], steps - lower)
    chosen = [*range(lower), *range(steps - upper, steps)]
    weights = np.zeros((len(chosen), num_steps))
    weights[:, :steps] = vectors[:, chosen].T
    basis, unit = state.basis, state.unit
    del state
    ritz_vectors = _combine(basis, jnp.asarray(weights, dtype))
    del basis
    scaled = jnp.asarray(np.ldexp(ritz[chosen], -exponent), dtype)
    images, residuals = _images(operator, like, null, unit, ritz_vectors, scaled)
    residuals = np.ldexp(np.asarray(residuals, np.float64), exponent)
    null_residual = 0.0
    if len(null):
        zeros = jnp.zeros(len(null), dtype)
        norms = _images(operator, like, null[:0], unit, null, zeros)[1]
        null_residual = _in_units(float(jnp.max(norms)), exponent)
    return LanczosResult(
        values=ritz[chosen],
        vectors=ritz_vectors,
        images=np.ldexp(np.asarray(images, np.float64), exponent),
        residuals=residuals,
        converged=residuals <= tolerance * scale,
        ritz=ritz,
        diagonal=diagonal,
        off_diagonal=off_diagonal,
        scale=scale,
        steps=steps,
        exhausted=bool(off_diagonal[-1] <= breakdown(size, dtype) * scale),
        matvecs=steps + int(unit.tries) + len(chosen) + len(null),
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
    """Run up to `num_steps` steps of Lanczos, traceable.

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


def breakdown(size: int, dtype: Any) -> float:
    r"""Give the relative size of beta below which the Krylov space counts as exhausted.

    $$\max(10\,\epsilon, \min(100 \sqrt{n}\,\epsilon, 10^{-10})).$$

    Below 10 eps a normalised beta would be roundoff. In float64 the larger threshold
    also stops at the number of distinct eigenvalues; in float32 it would mistake a
    small component of the start for none.
    """
    eps = float(jnp.finfo(dtype).eps)
    return max(10 * eps, min(100 * math.sqrt(size) * eps, 1e-10))


def pairs_converged(
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
        length = norm_on_host(row)
        if not 0 < length < np.inf:
            raise ValueError(
                f"a null direction must have a finite norm > 0, got {length}"
            )
        row = row / length
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
def _combine(basis: tuple[jax.Array, ...], weights: jax.Array) -> jax.Array:
    parts = jnp.split(weights, _firsts(basis)[1:], axis=1)
    pairs = zip(parts, basis, strict=True)
    vectors = sum(part @ block for part, block in pairs)
    # Sums of orthonormal vectors with the weights of a unit vector: about 1.
    return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)


@jax.jit
def _images(operator, like, null, unit, vectors, values) -> tuple[jax.Array, jax.Array]:
    product = flattened(operator, like)

    def residual(pair):
        vector, value = pair
        image = unit.apply(product, vector)
        return image, norm(_deflate(image, null) - value * vector)

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
        vector=start / norm(start).astype(start.dtype),
        diagonal=zeros,
        off_diagonal=zeros,
        scale=zeros[0],
        steps=jnp.zeros((), jnp.int32),
        exhausted=jnp.array(False),
        unit=Unit.one(),
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
        image = state.unit.apply(product, q)
        unit, again = state.unit.better(image)
        again &= j == 0
        rest = image
        for _ in range(2):  # the second pass takes away what rounding left
            for first, block in zip(firsts, basis, strict=True):
                # Blocks that are still empty are not read: half of the traffic.
                rest = jax.lax.cond(j >= first, _deflate, _keep, rest, block)
            rest = _deflate(rest, null)
        beta = norm(rest).astype(dtype)
        scale = jnp.maximum(state.scale, norm(image).astype(dtype))
        exhausted = ~(beta > threshold * scale)  # true also where beta is NaN
        following = rest / jnp.where(exhausted, 1, beta)
        # In another unit the first step is done again, and writes over this one.
        return Tridiagonal(
            basis=basis,
            vector=jnp.where(again, q, following),
            diagonal=state.diagonal.at[j].set(q @ image),
            off_diagonal=state.off_diagonal.at[j].set(beta),
            scale=jnp.where(again, state.scale, scale),
            steps=j + jnp.where(again, 0, 1),
            exhausted=exhausted & ~again,
            unit=jax.tree.map(lambda a, b: jnp.where(again, a, b), unit, state.unit),
        )

    def unfinished(state):
        return ~state.exhausted & (state.steps < goal)

    return bounded_while(unfinished, step, state, goal - state.steps + 2)[0]


def _in_units(value: float, exponent: int) -> float:
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, exponent))


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
    """Diagonalise the Lanczos matrix; its last beta is no entry of it."""
    inner = off_diagonal[:-1]
    return np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
