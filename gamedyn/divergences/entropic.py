"""Entropic transport: Sinkhorn's algorithm in the log domain, with its epsilon."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.divergences import checks
from gamedyn.divergences.transport import cost_matrix
from gamedyn.loops import bounded_while


class Sinkhorn(NamedTuple):
    """An entropic coupling, optimal for the cost regularised by `epsilon`.

    Attributes:
        transport_cost: <P, C>, what to compare with the exact value. Before
            convergence P is not quite feasible, so it bounds nothing.
        regularised_cost: <P, C> + epsilon KL(P | a b^T) = a.f + b.g.
        epsilon: the strength of the regularisation, in units of the cost.
        f: potential of the rows, shape (n,).
        g: potential of the columns, shape (m,).
        plan: P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon), shape (n, m).
        marginal_error: |P 1 - a|_1 (the other marginal is exact).
        num_iterations: the number of updates of both potentials.
        converged: whether `marginal_error` reached the tolerance.
    """

    transport_cost: jax.Array
    regularised_cost: jax.Array
    epsilon: jax.Array
    f: jax.Array
    g: jax.Array
    plan: jax.Array
    marginal_error: jax.Array
    num_iterations: jax.Array
    converged: jax.Array


class SinkhornDivergence(NamedTuple):
    """A debiased entropic divergence.

    Attributes:
        value: the divergence, zero for equal inputs.
        epsilon: the strength of the regularisation, in units of the cost.
        marginal_error: the largest of the three problems'.
        num_iterations: those of the problem between the two clouds.
        converged: whether all three reached the tolerance.
    """

    value: jax.Array
    epsilon: jax.Array
    marginal_error: jax.Array
    num_iterations: jax.Array
    converged: jax.Array


def sinkhorn(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    epsilon: Any,
    tolerance: float | None = None,
    max_iterations: int = 10_000,
    start: Any = None,
) -> Sinkhorn:
    r"""Solve the entropic transport problem by Sinkhorn's algorithm.

    $$\min_{P 1 = a,\; P^\top 1 = b} \langle P, C \rangle
    + \varepsilon\, \mathrm{KL}(P \| a b^\top),$$

    by turns, in the log domain,

    $$f_i \leftarrow -\varepsilon \log \sum_j b_j e^{(g_j - C_{ij}) / \varepsilon},
    \qquad
    g_j \leftarrow -\varepsilon \log \sum_i a_i e^{(f_i - C_{ij}) / \varepsilon}.$$

    Iterations grow like the cost's scale over epsilon: choose it relative to that,
    such as `0.05 * cost.mean()`. Points of zero weight are allowed. Traceable (under
    `vmap` all problems iterate until the slowest has converged) and differentiable to
    any order in cost, weights and epsilon: the potentials by the implicit function
    theorem, one linear system of n unknowns, correct as far as the iteration has
    converged.

    Args:
        cost: the matrix C, shape (n, m); infinite where a pair is forbidden.
        a: weights of the rows, summing to 1; uniform if `None`.
        b: weights of the columns.
        epsilon: positive, in units of the cost; may be traced.
        tolerance: the marginal error at which to stop; machine epsilon to the power
            0.6 if `None` (4e-10 in float64, 7e-5 in float32, where a cost much above
            epsilon may keep the error from it).
        max_iterations: after which to stop anyway.
        start: a potential of the columns to start from, such as the `g` of a similar
            problem, shape (m,); zero if `None`.

    Returns:
        Both costs, the potentials, the plan, and how far it converged. Where no
        coupling avoids the forbidden pairs it does not, and `marginal_error` stays; the
        costs are infinite where a point has no pair at all.

    Raises:
        ValueError: if the shapes do not fit, known weights are no distributions, or
            epsilon, tolerance or `max_iterations` are not positive.
        TypeError: if the dtypes differ or are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn import divergences
        >>> cost = jnp.array([[0.0, 1.0], [1.0, 3.0]])
        >>> for epsilon in (1.0, 0.1):
        ...     solved = divergences.sinkhorn(cost, epsilon=epsilon)
        ...     print(f"{solved.transport_cost:.3f}")
        1.189
        1.003

    References:
        M. Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport,
        2013. <https://arxiv.org/abs/1306.0895>
    """
    (cost,) = checks.floating(cost=cost)
    if cost.ndim != 2 or 0 in cost.shape:
        raise ValueError(f"cost must have shape (n, m), got shape {cost.shape}")
    check_positive("epsilon", epsilon)
    check_positive_integer("max_iterations", max_iterations)
    target = _tolerance(tolerance, cost.dtype)
    check_positive("tolerance", target)
    a = checks.weights("a", a, cost.shape[0], cost.dtype)
    b = checks.weights("b", b, cost.shape[1], cost.dtype)
    epsilon = jnp.asarray(epsilon, cost.dtype)

    start = jnp.zeros_like(b) if start is None else jnp.asarray(start, cost.dtype)
    checks.same_shape(b=b, start=start)
    # Costs about their rows' and columns' least ones: what is the same for all pairs of
    # a point moves its potential and nothing else, but would cost the others digits.
    low_f = _least(cost, jnp.zeros_like(b))
    low_g = _least(cost.T, low_f)
    centred = cost - low_f[:, None] - low_g[None, :]
    f, g, error, num_iterations = _potentials(
        centred,
        a,
        b,
        epsilon,
        jnp.asarray(target, cost.dtype),
        max_iterations,
        start - low_g,
    )
    plan = a[:, None] * _kernel(f, g, centred, epsilon) * b[None, :]
    f, g = f + low_f, g + low_g
    # Mass that may go nowhere costs infinitely much.
    stuck = jnp.any(_stuck(cost, b) & (a > 0)) | jnp.any(_stuck(cost.T, a) & (b > 0))
    return Sinkhorn(
        transport_cost=jnp.where(
            stuck, jnp.inf, jnp.sum(plan * jnp.where(_allowed(cost), cost, 0))
        ),
        regularised_cost=jnp.where(stuck, jnp.inf, jnp.sum(a * f) + jnp.sum(b * g)),
        epsilon=epsilon,
        f=f,
        g=g,
        plan=plan,
        marginal_error=error,
        num_iterations=num_iterations,
        converged=error <= target,
    )


def sinkhorn_divergence(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    epsilon: Any,
    p: float = 2,
    tolerance: float | None = None,
    max_iterations: int = 10_000,
) -> SinkhornDivergence:
    r"""Compute the debiased entropic divergence of two weighted clouds.

    $$S_\varepsilon(a, b) = OT_\varepsilon(a, b) - \tfrac12 OT_\varepsilon(a, a)
    - \tfrac12 OT_\varepsilon(b, b),$$

    all three the regularised cost with the same epsilon: non-negative for p = 1 and 2,
    zero for equal inputs (to the tolerance), tending to $W_p^p$ as epsilon falls. The
    two problems of a cloud with itself have one potential each and are solved by
    averaged updates, $f \leftarrow (f + T f) / 2$, which halve the error every time.

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        a: weights of x, summing to 1; uniform if `None`.
        b: weights of y.
        epsilon: positive, in units of the cost $|x_i - y_j|^p$; may be traced.
        p: the order, 1 <= p < inf, static.
        tolerance: as in `sinkhorn`, for each of the three problems.
        max_iterations: as in `sinkhorn`, likewise.

    Returns:
        The divergence and how far the iterations converged; differentiable as
        `sinkhorn`.

    Raises:
        ValueError: as `sinkhorn` and `cost_matrix`.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        J. Feydy et al., Interpolating between Optimal Transport and MMD using Sinkhorn
        Divergences, 2018. <https://arxiv.org/abs/1810.08278>
    """
    x, y = checks.points(x=x, y=y)
    a = checks.weights("a", a, len(x), x.dtype)
    b = checks.weights("b", b, len(y), y.dtype)
    check_positive("epsilon", epsilon)
    target = _tolerance(tolerance, x.dtype)
    selves = [
        _self_potential(
            cost_matrix(points, points, p=p),
            weights,
            jnp.asarray(epsilon, x.dtype),
            jnp.asarray(target, x.dtype),
            max_iterations,
        )
        for points, weights in ((x, a), (y, b))
    ]
    (f, error_f), (g, error_g) = selves
    # From the potential of y with itself, equal clouds are solved at once.
    across = sinkhorn(
        cost_matrix(x, y, p=p),
        a,
        b,
        epsilon=epsilon,
        tolerance=tolerance,
        max_iterations=max_iterations,
        start=g,
    )
    error = jnp.maximum(across.marginal_error, jnp.maximum(error_f, error_g))
    return SinkhornDivergence(
        value=across.regularised_cost - jnp.sum(a * f) - jnp.sum(b * g),
        epsilon=across.epsilon,
        marginal_error=error,
        num_iterations=across.num_iterations,
        converged=error <= target,
    )


def _tolerance(given: float | None, dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) ** 0.6 if given is None else given


def _allowed(cost) -> jax.Array:
    """Which pairs are not forbidden; a NaN is none of them, and has to be seen."""
    return cost != jnp.inf


def _stuck(cost, weights) -> jax.Array:
    """Which rows have no column of any weight to go to."""
    return ~jnp.any(_allowed(cost) & (weights > 0)[None, :], axis=1)


def _least(cost, potential) -> jax.Array:
    """The least allowed cost of every row, less the columns' potential."""
    allowed = _allowed(cost)
    reduced = jnp.where(allowed, cost, 0) - potential[None, :]
    least = jnp.min(jnp.where(allowed, reduced, jnp.inf), axis=1)
    return jnp.where(jnp.any(allowed, axis=1), least, 0)


def _kernel(f, g, cost, epsilon) -> jax.Array:
    allowed = _allowed(cost)
    exponents = (f[:, None] + g[None, :] - jnp.where(allowed, cost, 0)) / epsilon
    return jnp.where(allowed, jnp.exp(jnp.where(allowed, exponents, 0)), 0)


def _update(potential, cost, log_weights, epsilon) -> jax.Array:
    """Give the row potential that goes with a column potential."""
    exponents = (potential[None, :] - cost) / epsilon + log_weights[None, :]
    largest = jnp.max(exponents, axis=1)
    # Where nothing is allowed, the potential is anything: there is no plan.
    some = largest != -jnp.inf
    largest = jnp.where(some, largest, 0)
    sums = jnp.sum(jnp.exp(exponents - largest[:, None]), axis=1)
    return -epsilon * (jnp.log(jnp.where(some, sums, 1)) + largest)


@jax.custom_jvp
def _potentials(cost, a, b, epsilon, tolerance, max_iterations, start):
    """Iterate; an update of f measures the marginal error of the pair before it."""
    log_a, log_b = jnp.log(a), jnp.log(b)
    stuck = _stuck(cost, b)

    def missed(carry):
        return ~(carry[3] <= tolerance)

    def iterate(carry):
        _, _, f, _ = carry
        g = _update(f, cost.T, log_a, epsilon)
        following = _update(g, cost, log_b, epsilon)
        gaps = jnp.where(stuck, 1, jnp.abs(jnp.expm1((f - following) / epsilon)))
        return f, g, following, jnp.sum(a * gaps)

    first = _update(start, cost, log_b, epsilon)
    carry = first, start, first, jnp.full((), jnp.inf, cost.dtype)
    carry, steps = bounded_while(missed, iterate, carry, max_iterations)
    f, g, _, error = carry
    return f, g, error, steps


@_potentials.defjvp
def _potentials_jvp(primals, tangents):
    r"""Differentiate the two fixed-point equations at the solution.

    With K the kernel, $\dot f + K (b \dot g) = r$ and $\dot g + K^\top (a \dot f) = s$,
    where r and s hold the direct effects of cost, weights and epsilon. Inserting the
    second in the first leaves n equations, singular in the constant that may move from
    f to g: a rank-one term fixes it.
    """
    cost, a, b, epsilon, *_ = primals
    d_cost, d_a, d_b, d_epsilon, *_ = tangents
    f, g, error, steps = _potentials(*primals)
    kernel = _kernel(f, g, cost, epsilon)
    cost = jnp.where(_allowed(cost), cost, 0)  # its kernel is 0
    rows, columns = kernel * b[None, :], kernel.T * a[None, :]
    d_cost_f = jnp.sum(rows * d_cost, axis=1)
    d_cost_g = jnp.sum(columns * d_cost.T, axis=1)
    slope_f = f + jnp.sum(rows * (g[None, :] - cost), axis=1)
    slope_g = g + jnp.sum(columns * (f[None, :] - cost.T), axis=1)
    r = d_cost_f - epsilon * (kernel @ d_b) + d_epsilon * slope_f / epsilon
    s = d_cost_g - epsilon * (kernel.T @ d_a) + d_epsilon * slope_g / epsilon
    system = jnp.eye(len(a), dtype=a.dtype) - rows @ columns + a[None, :]
    d_f = jnp.linalg.solve(system, r - rows @ s)
    d_g = s - columns @ d_f
    # The error is what it is; iterations have no derivative.
    no_steps = jnp.zeros(steps.shape, jax.dtypes.float0)
    return (f, g, error, steps), (d_f, d_g, jnp.zeros_like(error), no_steps)


@jax.custom_jvp
def _self_potential(cost, weights, epsilon, tolerance, max_iterations):
    """Solve the problem of a distribution with itself: one potential for both sides."""
    log_weights = jnp.log(weights)

    def measure(potential):
        following = _update(potential, cost, log_weights, epsilon)
        gaps = jnp.expm1((potential - following) / epsilon)
        return following, jnp.sum(weights * jnp.abs(gaps))

    def missed(carry):
        return ~(carry[2] <= tolerance)

    def iterate(carry):
        potential, following, _ = carry
        potential = (potential + following) / 2
        return potential, *measure(potential)

    start = jnp.zeros_like(weights)
    carry = start, *measure(start)
    carry, _ = bounded_while(missed, iterate, carry, max_iterations)
    potential, following, error = carry
    # With its conjugate on the other side, the dual is off by the error squared only.
    return (potential + following) / 2, error


@_self_potential.defjvp
def _self_potential_jvp(primals, tangents):
    r"""Differentiate the fixed point: $\dot f + K (a \dot f) = r$."""
    cost, weights, epsilon, *_ = primals
    d_cost, d_weights, d_epsilon, *_ = tangents
    potential, error = _self_potential(*primals)
    kernel = _kernel(potential, potential, cost, epsilon)
    rows = kernel * weights[None, :]
    slope = potential + jnp.sum(rows * (potential[None, :] - cost), axis=1)
    r = jnp.sum(rows * d_cost, axis=1) - epsilon * (kernel @ d_weights)
    r = r + d_epsilon * slope / epsilon
    system = jnp.eye(len(weights), dtype=weights.dtype) + rows
    return (potential, error), (jnp.linalg.solve(system, r), jnp.zeros_like(error))
