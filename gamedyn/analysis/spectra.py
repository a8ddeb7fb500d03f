"""Spectra at network size: ends, Arnoldi estimates, density and trace, no matrix."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.krylov import (
    LanczosResult,
    Unit,
    breakdown,
    check_operator,
    flattened,
    lanczos,
    tridiagonal_eigh,
    tridiagonalise,
)
from gamedyn.analysis.operators import (
    as_callable,
    full_data,
    own_hessian,
    symmetric_part,
)
from gamedyn.analysis.updates import moving_parts
from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.fields import Field, as_field
from gamedyn.game import Batch, Game, Params, PyTree, check_params
from gamedyn.loops import bounded_while
from gamedyn.rules.base import Rule
from gamedyn.trees import norm, norm_on_host, select

_MOST_POINTS = 100_000  # of a density's grid


def own_spectrum(
    game: Game,
    params: Params,
    batch: Batch,
    key: jax.Array,
    *,
    player: int,
    batches: Batch = None,
    **options: Any,
) -> LanczosResult:
    """Find the extremal eigenvalues of one player's own Hessian.

    Args:
        game: the game.
        params: the point, one pytree per player.
        batch: the fixed batch.
        key: a PRNG key for the start.
        player: whose Hessian.
        batches: batches along a leading axis, averaged over, in place of `batch`.
        **options: of `lanczos`.

    Returns:
        Both ends, with explicit residuals.
    """
    operator = own_hessian(game, params, batch, player=player)
    if batches is not None:
        operator = full_data(operator, batches)
    return lanczos(operator, operator.like, key, **options)


def symmetric_spectrum(
    game_or_field: Game | Field,
    params: Params,
    batch: Batch,
    key: jax.Array,
    *,
    batches: Batch = None,
    **options: Any,
) -> LanczosResult:
    """Find the extremal eigenvalues of S, the symmetric part of the game Jacobian.

    Args:
        game_or_field: a game, or any field.
        params: the point, one pytree per player.
        batch: the fixed batch.
        key: a PRNG key for the start.
        batches: batches along a leading axis, averaged over, in place of `batch`.
        **options: of `lanczos`.

    Returns:
        Both ends, with explicit residuals.
    """
    operator = symmetric_part(game_or_field, params, batch)
    if batches is not None:
        operator = full_data(operator, batches)
    return lanczos(operator, operator.like, key, **options)


class ArnoldiResult(NamedTuple):
    """Estimates of a non-symmetric operator's eigenvalues; nothing is proved.

    Attributes:
        values: the reported Ritz values, the wanted end first, complex.
        residuals: |J y - theta y| of their unit Ritz vectors y, from products of their
            own; some eigenvalue of a matrix that close to J is theta itself.
        converged: whether each residual is at most `tolerance * scale`.
        ritz: all Ritz values, the wanted end first.
        estimates: |h_{k+1,k}| |s_k| of all of them, the recurrence's residuals.
        scale: the largest norm |J q| met.
        steps: the number of steps done.
        exhausted: whether the Krylov space was exhausted: all its eigenvalues are here.
        matvecs: the number of products spent.
        tolerance: relative, what `converged` was decided by.
        dtype: the precision of the products.
    """

    values: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    ritz: np.ndarray
    estimates: np.ndarray
    scale: float
    steps: int
    exhausted: bool
    matvecs: int
    tolerance: float
    dtype: str


def arnoldi(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    key: jax.Array,
    *,
    num_steps: int = 50,
    num_pairs: int = 2,
    which: Literal["smallest_real", "largest_real", "largest_modulus"] = (
        "smallest_real"
    ),
    tolerance: float | None = None,
) -> ArnoldiResult:
    r"""Estimate eigenvalues of a non-symmetric operator from one Krylov space.

    $$J Q_k = Q_k H_k + h_{k+1,k}\, q_{k+1} e_k^\top, \qquad
      |J y - \theta y| = |h_{k+1,k}|\, |s_k|,$$

    with two passes of classical Gram-Schmidt per step, in one compiled loop. For
    non-normal J a small residual does not mean a small error. Memory: `num_steps * n`
    numbers. Called outside jit.

    Args:
        operator: `operator(vector) -> vector`, linear.
        like: a vector or pytree of the structure the operator acts on.
        key: a PRNG key for the Gaussian start.
        num_steps: the most steps, k.
        num_pairs: how many pairs to report, with two products more for each.
        which: the end of the spectrum that is wanted.
        tolerance: relative to |J|, of the residuals; `sqrt(eps)` if `None`.

    Returns:
        The estimates.

    Raises:
        ValueError: if a number is out of range, or `which` is unknown.
        TypeError: if the vectors are not real, or the operator changes their structure.
        FloatingPointError: if a product is not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import gamedyn as gd
        >>> from gamedyn.analysis.operators import jacobian
        >>> game = gd.zero_sum(lambda x, y: x**2 / 2 + 2 * x * y - y**2 / 2)
        >>> operator = jacobian(game, (jnp.array(0.0), jnp.array(0.0)))
        >>> result = arnoldi(operator, operator.like, jax.random.key(0))
        >>> print(f"{result.values[0]:.3f}")
        1.000+2.000j

    References:
        Arnoldi, "The principle of minimized iterations in the solution of the matrix
        eigenvalue problem", 1951.
    """
    check_positive_integer("num_steps", num_steps)
    check_positive_integer("num_pairs", num_pairs)
    orders = {
        "smallest_real": np.real,
        "largest_real": lambda values: -np.real(values),
        "largest_modulus": lambda values: -np.abs(values),
    }
    if which not in orders:
        raise ValueError(f"which must be one of {', '.join(orders)}, got {which!r}")
    operator = as_callable(operator)
    like = jax.tree.map(jnp.asarray, like)
    size, dtype = check_operator(operator, like)
    if tolerance is None:
        tolerance = float(np.sqrt(jnp.finfo(dtype).eps))
    num_steps = min(num_steps, size)
    basis, hessenberg, steps, scale, unit = _arnoldi(
        operator, like, key, num_steps=num_steps
    )
    steps, scale = int(steps), float(scale)
    if not np.isfinite(scale):
        raise FloatingPointError(
            f"the operator returned a product that is not finite at step {steps}"
        )
    square = np.asarray(hessenberg, np.float64)[:steps, :steps]
    last = float(hessenberg[steps, steps - 1])
    ritz, vectors = np.linalg.eig(square)
    order = np.lexsort((-np.imag(ritz), orders[which](ritz)))
    ritz, vectors = ritz[order], vectors[:, order]
    count = min(num_pairs, steps)
    weights = np.zeros((count, num_steps), complex)
    weights[:, :steps] = vectors[:, :count].T
    parts = (f(x) for x in (weights, ritz[:count]) for f in (np.real, np.imag))
    parts = [jnp.asarray(part, dtype) for part in parts]
    residuals = _complex_residuals(operator, like, basis, unit, *parts)
    residuals = np.asarray(residuals, float)
    whole = np.ldexp(1.0, int(unit.exponent))  # up to here all was in this unit
    return ArnoldiResult(
        values=whole * ritz[:count],
        residuals=whole * residuals,
        converged=residuals <= tolerance * scale,
        ritz=whole * ritz,
        estimates=whole * abs(last) * np.abs(vectors[-1]),
        scale=float(whole * scale),
        steps=steps,
        exhausted=bool(last <= breakdown(size, dtype) * scale),
        matvecs=steps + int(unit.tries) + 2 * count,
        tolerance=float(tolerance),
        dtype=str(dtype),
    )


def update_spectrum(
    game_or_field: Game | Field,
    rule: Rule,
    params: Params,
    batch: Batch,
    key: jax.Array,
    *,
    warmup: int = 10,
    **options: Any,
) -> ArnoldiResult:
    """Estimate the largest eigenvalues of a rule's update map, its memory included.

    The matrix-free form of `update_jacobian`: products are derivatives of one cycle of
    the rule along (params, rule state), after `warmup` updates at the point.

    Args:
        game_or_field: a game, or any field.
        rule: the update rule.
        params: the point, one pytree per player.
        batch: the fixed batch of every evaluation.
        key: a PRNG key for the start.
        warmup: the least number of updates at the point before.
        **options: of `arnoldi`.

    Returns:
        The estimates, of the map of one period, largest modulus first.
    """
    check_params(params)
    field = as_callable(as_field(game_or_field))
    params = jax.tree.map(jnp.asarray, params)
    warmup = -(-warmup // rule.period) * rule.period
    state = _settle(rule)(field, params, batch, warmup)
    operator = jax.tree_util.Partial(_update_product(rule), field, batch, params, state)
    like = jax.eval_shape(
        lambda params, state: moving_parts((params, state))[0], params, state
    )
    example = jnp.zeros(like.shape, like.dtype)
    return arnoldi(operator, example, key, which="largest_modulus", **options)


class SpectralDensity(NamedTuple):
    """The density of a symmetric operator's eigenvalues, of integral 1.

    Attributes:
        grid: where it is evaluated, shape `(m,)`.
        density: its mean over the starts, shape `(m,)`.
        spread: its standard error over the starts, shape `(m,)`; NaN with one start.
        nodes: Ritz values of all starts, concatenated.
        weights: of the nodes, of sum 1.
        width: the standard deviation of the Gaussian put on every node.
        matvecs: the number of products spent.
    """

    grid: np.ndarray
    density: np.ndarray
    spread: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    width: float
    matvecs: int


def spectral_density(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    key: jax.Array,
    *,
    num_starts: int = 8,
    num_steps: int = 50,
    grid: np.ndarray | None = None,
    width: float | None = None,
) -> SpectralDensity:
    r"""Estimate the density of the whole spectrum by stochastic Lanczos quadrature.

    $$\phi(t) = \frac1{n_v} \sum_{l=1}^{n_v} \sum_j (\tau_j^l)^2
      g_\sigma(t - \theta_j^l),$$

    tau the first components of the eigenvectors of T, g a Gaussian of integral 1. Times
    n it counts eigenvalues. Called outside jit.

    Args:
        operator: `operator(vector) -> vector`, symmetric and linear.
        like: a vector or pytree of the structure the operator acts on.
        key: a PRNG key for the starts.
        num_starts: n_v, independent starts, run one after the other.
        num_steps: Lanczos steps of each.
        grid: where to evaluate; if `None`, 400 points that cover the spectrum, or more
            (up to 100,000) for three in a sigma.
        width: sigma; if `None`, a hundredth of the spectrum's width, or of the value
            where all are one but for rounding (0.01 where that is zero).

    Returns:
        The density.

    Raises:
        ValueError: if a number is out of range.
        FloatingPointError: if a product is not finite.

    References:
        Lin, Saad, Yang, "Approximating spectral densities of large matrices", 2016,
        arXiv:1308.5467.
        Ghorbani, Krishnan, Xiao, "An investigation into neural net optimization via
        Hessian eigenvalue density", 2019, arXiv:1901.10159.
    """
    check_positive_integer("num_starts", num_starts)
    check_positive_integer("num_steps", num_steps)
    operator = as_callable(operator)
    like = jax.tree.map(jnp.asarray, like)
    size, dtype = check_operator(operator, like)
    runs = _tridiagonals(
        operator,
        like,
        key,
        num_steps=min(num_steps, size),
        num_starts=num_starts,
    )
    nodes, weights, matvecs = [], [], 0
    *parts, unit = runs
    for diagonal, off_diagonal, steps, exponent, tries in zip(
        *map(np.asarray, (*parts, *unit)), strict=True
    ):
        matvecs += int(steps + tries)
        if not np.all(np.isfinite(off_diagonal[:steps])):
            raise FloatingPointError(
                "the operator returned a product that is not finite"
            )
        ritz, vectors = tridiagonal_eigh(
            np.ldexp(diagonal[:steps].astype(float), exponent),
            np.ldexp(off_diagonal[:steps].astype(float), exponent),
        )
        nodes.append(ritz)
        weights.append(vectors[0] ** 2)
    everything = np.concatenate(nodes)
    low, high = float(everything.min()), float(everything.max())
    if width is None:
        # Values that differ by rounding are one value, and one value has no width.
        largest = max(abs(low), abs(high))
        one = high - low <= 100 * float(jnp.finfo(dtype).eps) * largest
        width = (largest if one else high - low) / 100 or 0.01
    check_positive("width", width)
    if grid is None:
        low, high = low - 5 * width, high + 5 * width
        points = min(max(400, 3 * (high - low) / width), _MOST_POINTS)
        grid = np.linspace(low, high, int(points))
    grid = np.asarray(grid, np.float64)

    def smooth(ritz, weight):
        bumps = np.exp(-0.5 * ((grid[:, None] - ritz) / width) ** 2)
        return bumps @ weight / (width * np.sqrt(2 * np.pi))

    curves = np.stack([smooth(*pair) for pair in zip(nodes, weights, strict=True)])
    spread = np.full(len(grid), np.nan)
    if num_starts > 1:
        # In units of the highest curve, whose square may be none.
        top = curves.max() or 1.0
        spread = top * (curves / top).std(axis=0, ddof=1) / np.sqrt(num_starts)
    return SpectralDensity(
        grid=grid,
        density=curves.mean(axis=0),
        spread=spread,
        nodes=everything,
        weights=np.concatenate(weights) / num_starts,
        width=float(width),
        matvecs=matvecs,
    )


class TraceEstimate(NamedTuple):
    """A trace estimated from random vectors.

    Attributes:
        value: the mean of the samples.
        standard_error: of that mean; NaN with one sample.
        num_samples: the number of products spent.
    """

    value: float
    standard_error: float
    num_samples: int


def trace(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    key: jax.Array,
    *,
    num_samples: int = 100,
) -> TraceEstimate:
    r"""Estimate the trace of an operator with random signs (Hutchinson).

    $$\operatorname{tr} H \approx \frac1m \sum_{l=1}^m z_l^\top H z_l, \qquad
      \operatorname{Var}(z^\top H z) = 2 \big( |H|_F^2 - \sum_i H_{ii}^2 \big)$$

    for symmetric H. Called outside jit.

    Args:
        operator: `operator(vector) -> vector`, linear.
        like: a vector or pytree of the structure the operator acts on.
        key: a PRNG key for the signs.
        num_samples: m.

    Returns:
        The estimate with its standard error.

    References:
        Hutchinson, "A stochastic estimator of the trace of the influence matrix for
        Laplacian smoothing splines", 1989.
    """
    check_positive_integer("num_samples", num_samples)
    operator = as_callable(operator)
    like = jax.tree.map(jnp.asarray, like)
    check_operator(operator, like)
    samples = _traces(operator, like, key, num_samples=num_samples)
    samples = np.asarray(samples, np.float64)
    error = np.nan
    if num_samples > 1:
        gaps = samples - samples.mean()
        error = norm_on_host(gaps) / np.sqrt(num_samples * (num_samples - 1))
    return TraceEstimate(float(samples.mean()), float(error), num_samples)


@partial(jax.jit, static_argnames="num_steps")
def _arnoldi(operator, like, key, *, num_steps: int):
    product = flattened(operator, like)
    template = jax.eval_shape(lambda v: ravel_pytree(v)[0], like)
    size, dtype = template.size, template.dtype
    threshold = breakdown(size, dtype)

    def keep_going(carry):
        return ~carry[-1] & (carry[3] < num_steps)

    def step(carry):
        basis, hessenberg, q, j, before, unit, _ = carry
        basis = basis.at[j].set(q)
        rest = unit.apply(product, q)
        other, again = unit.better(rest)
        again &= j == 0
        scale = jnp.maximum(before, norm(rest).astype(dtype))
        column = jnp.zeros(num_steps, dtype)
        for _ in range(2):
            part = basis @ rest
            rest = rest - part @ basis
            column = column + part
        beta = norm(rest).astype(dtype)
        exhausted = ~(beta > threshold * scale)
        hessenberg = hessenberg.at[:num_steps, j].set(column).at[j + 1, j].set(beta)
        rest = rest / jnp.where(exhausted, 1, beta)
        # In another unit the first step is done again, and writes over this one.
        following = rest, j + 1, scale, unit, exhausted
        first = q, j, before, other, jnp.array(False)
        return basis, hessenberg, *select(again, first, following)

    start = jax.random.normal(key, (size,), dtype)
    carry = (
        jnp.zeros((num_steps, size), dtype),
        jnp.zeros((num_steps + 1, num_steps), dtype),
        start / norm(start).astype(dtype),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), dtype),
        Unit.one(),
        jnp.array(False),
    )
    carry, _ = bounded_while(keep_going, step, carry, num_steps + 2)
    basis, hessenberg, _, steps, scale, unit, _ = carry
    return basis, hessenberg, steps, scale, unit


@jax.jit
def _complex_residuals(operator, like, basis, unit, real, imaginary, a, b):
    product = flattened(operator, like)

    def residual(pair):
        x, y, a, b = pair
        x, y = x @ basis, y @ basis
        length = jnp.sqrt(x @ x + y @ y)
        x, y = x / length, y / length
        # (J - a - ib)(x + iy), its real and imaginary part
        upper = unit.apply(product, x) - a * x + b * y
        lower = unit.apply(product, y) - a * y - b * x
        return norm((upper, lower))

    return jax.lax.map(residual, (real, imaginary, a, b))


@partial(jax.jit, static_argnames=("num_steps", "num_starts"))
def _tridiagonals(operator, like, key, *, num_steps: int, num_starts: int):
    flat = jax.eval_shape(lambda v: ravel_pytree(v)[0], like)

    def one(key):
        start = jax.random.normal(key, flat.shape, flat.dtype)
        state = tridiagonalise(operator, like, start, num_steps)
        return state.diagonal, state.off_diagonal, state.steps, state.unit

    return jax.lax.map(one, jax.random.split(key, num_starts))


@partial(jax.jit, static_argnames="num_samples")
def _traces(operator, like, key, *, num_samples: int) -> jax.Array:
    product = flattened(operator, like)
    flat = jax.eval_shape(lambda v: ravel_pytree(v)[0], like)

    def sample(key):
        signs = jax.random.rademacher(key, flat.shape, flat.dtype)
        return signs @ product(signs)

    return jax.lax.map(sample, jax.random.split(key, num_samples))


# A rule is static: these are functions of it, so that jit finds them again.


@functools.cache
def _settle(rule: Rule) -> Callable[..., Any]:
    @jax.jit
    def settle(field, params, batch, num_steps):
        batches = (batch,) * rule.num_batches
        return jax.lax.fori_loop(
            0,
            num_steps,
            lambda _, state: rule.update(field, params, state, batches)[1],
            rule.init(params),
        )

    return settle


@functools.cache
def _update_product(rule: Rule) -> Callable[..., jax.Array]:
    def product(field, batch, params, state, vector):
        point, rebuild = moving_parts((params, state))
        batches = (batch,) * rule.num_batches

        def cycle(point):
            after = rebuild(point)
            for _ in range(rule.period):
                after = rule.update(field, after[0], after[1], batches)
            return moving_parts(after)[0]

        return jax.jvp(cycle, (point,), (vector,))[1]

    return product
