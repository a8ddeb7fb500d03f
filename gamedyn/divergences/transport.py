"""Wasserstein distances: in one dimension, sliced, and exact on the host."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.divergences import checks
from gamedyn.trees import inverse_size

_DIRECTIONS_AT_ONCE = 16


def cost_matrix(x: Any, y: Any, *, p: float = 1) -> jax.Array:
    r"""Compute the transport cost $C_{ij} = |x_i - y_j|^p$, Euclidean.

    By differences, coordinate by coordinate, not by scalar products: coincident points
    cost exactly 0, and their slope is 0 (a subgradient for p = 1).

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        p: the order, 1 <= p < inf, static.

    Returns:
        The matrix, shape (n, m).

    Raises:
        ValueError: if the shapes do not fit or p is not static, finite and >= 1.
        TypeError: if the dtypes differ or are not floating-point.
    """
    checks.order(p)
    x, y = checks.points(x=x, y=y)
    if p == 2:
        return squared_distances(x, y)
    return _power(distances(x, y), p)


def wasserstein_1d(
    x: Any, y: Any, a: Any = None, b: Any = None, *, p: float = 1, root: bool = True
) -> jax.Array:
    r"""Compute $W_p$ of two distributions on the line, exactly, by sorting.

    $$W_p^p = \int_0^1 |F^{-1}(t) - G^{-1}(t)|^p \, dt$$

    with the quantile functions: sorted points are matched in their order; with
    weights or unequal numbers one term per interval of the merged cumulative sums.
    Traceable, and differentiable almost everywhere in points and weights.

    Args:
        x: shape (n,).
        y: shape (m,), same dtype.
        a: weights of x, shape (n,), summing to 1; uniform if `None`.
        b: weights of y, shape (m,).
        p: the order, 1 <= p < inf, static.
        root: whether to take the p-th root; otherwise the result is $W_p^p$.

    Returns:
        The distance, a scalar; at distance 0 the slope of the root is taken as 0.

    Raises:
        ValueError: if the shapes do not fit, known weights are no distribution, or p
            is not static, finite and >= 1.
        TypeError: if the dtypes differ or are not floating-point.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn import divergences
        >>> x, y = jnp.array([0.0, 2.0, 5.0]), jnp.array([1.0, 1.5])
        >>> f"{divergences.wasserstein_1d(x, y):.4f}"
        '1.7500'
    """
    checks.order(p)
    x, y = checks.floating(x=x, y=y)
    if x.ndim != 1 or y.ndim != 1 or 0 in (x.size, y.size):
        raise ValueError(
            f"expected points on the line, shapes (n,) and (m,), "
            f"got {x.shape} and {y.shape}"
        )
    if a is None and b is None and x.size == y.size:
        x, y = jnp.sort(x), jnp.sort(y)
        widths = jnp.full(x.size, 1 / x.size, x.dtype)
    else:
        a = checks.weights("a", a, x.size, x.dtype)
        b = checks.weights("b", b, y.size, y.dtype)
        widths, x, y = _quantile_merge(x, y, a, b)
    differences = x - y
    if not root:
        return jnp.sum(widths * _power_of_size(differences, p))
    # In units of the largest difference, no power of which is too small or too large.
    by = inverse_size(differences).astype(x.dtype)
    total = jnp.sum(widths * _power_of_size(by * differences, p))
    return _power(total, 1 / p) / by


def sliced_wasserstein(
    key: jax.Array,
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    p: float = 2,
    num_directions: int = 128,
    root: bool = True,
) -> jax.Array:
    r"""Estimate the sliced Wasserstein distance by random projections on lines.

    $$SW_p^p = E_\theta\, W_p^p(\theta^\top x, \theta^\top y), \qquad
    \theta \text{ uniform on the sphere},$$

    a lower bound of $W_p$ that needs sorting only; equal to it on the line.

    Args:
        key: a PRNG key, for the directions.
        x: points, shape (n, d).
        y: points, shape (m, d).
        a: weights of x, shape (n,); uniform if `None`.
        b: weights of y, shape (m,).
        p: the order, 1 <= p < inf, static.
        num_directions: over how many directions to average.
        root: whether to take the p-th root of the average; otherwise $SW_p^p$.

    Returns:
        The distance, a scalar, differentiable as `wasserstein_1d`.

    Raises:
        ValueError: as `wasserstein_1d`, or if `num_directions` is not a positive
            integer.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        N. Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.
        <https://doi.org/10.1007/s10851-014-0506-3>
    """
    x, y = checks.points(x=x, y=y)
    check_positive_integer("num_directions", num_directions)
    normal = jax.random.normal(key, (num_directions, x.shape[1]), x.dtype)
    directions = normal / jnp.linalg.norm(normal, axis=1, keepdims=True)
    # In units of the largest coordinate about the first point, as there.
    centre = x[:1]
    x, y = x - centre, y - centre
    by = inverse_size((x, y)).astype(x.dtype) if root else jnp.ones((), x.dtype)
    x, y = by * x, by * y

    def along(direction):
        return wasserstein_1d(x @ direction, y @ direction, a, b, p=p, root=False)

    at_once = min(_DIRECTIONS_AT_ONCE, num_directions)
    total = jnp.mean(jax.lax.map(along, directions, batch_size=at_once))
    return _power(total, 1 / p) / by if root else total


class Transport(NamedTuple):
    """An optimal coupling.

    Attributes:
        value: the optimal cost <P, C>.
        plan: the coupling P, shape (n, m), with marginals a and b.
    """

    value: float
    plan: np.ndarray


class TransportDual(NamedTuple):
    """Optimal potentials.

    Attributes:
        value: a.f + b.g, equal to the optimal cost.
        f: shape (n,).
        g: shape (m,), with f_i + g_j <= C_ij.
    """

    value: float
    f: np.ndarray
    g: np.ndarray


class KantorovichRubinstein(NamedTuple):
    """The Wasserstein-1 distance with the critic that attains it.

    Attributes:
        value: E_x critic - E_y critic, the distance.
        points: the union of both supports, x above y, shape (n + m, d).
        critic: its values there, shape (n + m,); `extend_critic` gives it elsewhere.
        lipschitz: its largest slope between two distinct points of the union, 1 but
            for rounding (below, where the distance is 0).
    """

    value: float
    points: np.ndarray
    critic: np.ndarray
    lipschitz: float


def optimal_transport(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    method: Literal["auto", "assignment", "linear program"] = "auto",
) -> Transport:
    r"""Solve the transport problem over couplings exactly, on the host.

    $$\min_{P \ge 0} \langle P, C \rangle, \qquad P 1 = a, \quad P^\top 1 = b.$$

    Equal numbers of equally heavy points are an assignment problem (a second at
    n = 1000); everything else is a linear program (HiGHS; a tenth of a second at
    n = 100, three seconds at n = 300). Always in float64. Not
    traceable: use `sinkhorn` under `jit`. Where the plan is unique, the gradient of the
    value in the points is that of `jnp.sum(plan * cost_matrix(x, y))` with the plan
    held fixed.

    Args:
        cost: the matrix C, shape (n, m); infinite where a pair is forbidden.
        a: weights of the rows, summing to 1; uniform if `None`.
        b: weights of the columns.
        method: "auto" as above, or one of the two by name.

    Returns:
        The optimal cost and coupling.

    Raises:
        ValueError: if the shapes do not fit, a cost is NaN or -inf, no coupling avoids
            the forbidden pairs, the weights are no distributions, or the method is
            unknown or does not apply.
        TypeError: if an argument is traced.
        RuntimeError: if the linear program was not solved.

    Example:
        >>> import numpy as np
        >>> from gamedyn import divergences
        >>> cost = np.array([[0.0, 1.0], [1.0, 3.0]])
        >>> divergences.optimal_transport(cost).value
        1.0
    """
    cost, a, b = _prepare_host(cost, a, b)
    n, m = cost.shape
    if method not in ("auto", "assignment", "linear program"):
        raise ValueError(
            f"method must be 'auto', 'assignment' or 'linear program', got {method!r}"
        )
    is_assignment = n == m and bool(np.all(a == a[0]) and np.all(b == a[0]))
    if method == "assignment" and not is_assignment:
        raise ValueError(
            f"an assignment needs equally many points of equal weight, "
            f"got {n} and {m} points"
        )
    if is_assignment and method != "linear program":
        plan = _assignment(cost)
    else:
        plan = _refined(
            cost,
            a,
            b,
            a[:, None] * b[None, :],
            lambda reduced, allowed: _primal_program(reduced, allowed, a, b),
        ).plan
    return Transport(float(np.sum(plan * np.where(plan > 0, cost, 0))), plan)


def optimal_transport_dual(cost: Any, a: Any = None, b: Any = None) -> TransportDual:
    r"""Solve the dual of the transport problem exactly, on the host.

    $$\max_{f, g}\; a^\top f + b^\top g, \qquad f_i + g_j \le C_{ij},$$

    by a linear program of its own, independent of the primal one. The potentials are
    made feasible to rounding by two conjugations, so the value is a lower bound of
    every coupling's cost even where the solver is inexact.

    Args:
        cost: as in `optimal_transport`.
        a: as in `optimal_transport`.
        b: as in `optimal_transport`.

    Returns:
        The optimal value and potentials.

    Raises:
        ValueError: as `optimal_transport`.
        TypeError: if an argument is traced.
        RuntimeError: if the linear program was not solved.
    """
    cost, a, b = _prepare_host(cost, a, b)
    plan = optimal_transport(cost, a, b).plan

    def improve(reduced: np.ndarray, allowed: np.ndarray) -> _Improved:
        return _Improved(*_dual_program(reduced, allowed, a, b), plan)

    f, g, _ = _refined(cost, a, b, plan, improve)
    return TransportDual(float(a @ f + b @ g), f, g)


def wasserstein(
    x: Any, y: Any, a: Any = None, b: Any = None, *, p: float = 1, root: bool = True
) -> float:
    r"""Compute $W_p$ of two discrete distributions exactly, on the host.

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        a: weights of x, summing to 1; uniform if `None`.
        b: weights of y.
        p: the order, 1 <= p < inf; the cost is the Euclidean distance to that power.
        root: whether to take the p-th root; otherwise the result is $W_p^p$.

    Returns:
        The distance.

    Raises:
        ValueError: as `optimal_transport` and `cost_matrix`.
        TypeError: if an argument is traced.
        RuntimeError: if the linear program was not solved.

    References:
        G. Peyre and M. Cuturi, Computational Optimal Transport, 2018.
        <https://arxiv.org/abs/1803.00567>
    """
    checks.order(p)
    lengths = _distances_on_host(_points_on_host("x", x), _points_on_host("y", y))
    # In units of the largest one, no power of which is too small or too large.
    largest = float(lengths.max()) or 1.0
    value = max(optimal_transport((lengths / largest) ** p, a, b).value, 0.0)
    if root:
        return largest * value ** (1 / p)
    with np.errstate(over="ignore"):
        return float(np.power(largest, p) * value)


def kantorovich_rubinstein(
    x: Any, y: Any, a: Any = None, b: Any = None
) -> KantorovichRubinstein:
    r"""Compute $W_1$ by its dual: the best 1-Lipschitz critic, on the host.

    $$W_1 = \max_{\mathrm{Lip}(h) \le 1} E_x h(x) - E_y h(y).$$

    The linear program gives potentials with $f_i + g_j \le |x_i - y_j|$; the critic is
    $h(z) = \min_j |z - y_j| - g_j$, 1-Lipschitz everywhere, being a minimum of such
    functions, and no worse: $h(x_i) \ge f_i$, $h(y_j) \le -g_j$. A Wasserstein GAN
    trains a network to be this function.

    Args:
        x: points, shape (n, d).
        y: points, shape (m, d).
        a: weights of x, summing to 1; uniform if `None`.
        b: weights of y.

    Returns:
        The distance and its critic on the union of the supports.

    Raises:
        ValueError: as `optimal_transport`.
        TypeError: if an argument is traced.
        RuntimeError: if the linear program was not solved.

    Example:
        >>> import numpy as np
        >>> from gamedyn import divergences
        >>> x, y = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])
        >>> result = divergences.kantorovich_rubinstein(x, y)
        >>> result.value, result.lipschitz
        (5.0, 1.0)

    References:
        M. Arjovsky, S. Chintala and L. Bottou, Wasserstein GAN, 2017.
        <https://arxiv.org/abs/1701.07875>
    """
    x, y = _points_on_host("x", x), _points_on_host("y", y)
    cost = _distances_on_host(x, y)
    _, a, b = _prepare_host(cost, a, b)
    g = optimal_transport_dual(cost, a, b).g
    union = np.concatenate([x, y])
    critic = np.min(_distances_on_host(union, y) - g[None, :], axis=1)
    distances = _distances_on_host(union, union)
    apart = distances > 0
    slopes = np.abs(critic[:, None] - critic[None, :])[apart] / distances[apart]
    value = float(a @ critic[: len(x)] - b @ critic[len(x) :])
    return KantorovichRubinstein(
        value, union, critic, float(np.max(slopes, initial=0.0))
    )


def extend_critic(result: KantorovichRubinstein, z: Any) -> np.ndarray:
    r"""Evaluate the optimal critic anywhere: $h(z) = \min_k h(z_k) + |z - z_k|$.

    The largest 1-Lipschitz function with the given values on the union of the supports.

    Args:
        result: what `kantorovich_rubinstein` returned.
        z: points, shape (k, d).

    Returns:
        The critic there, shape (k,).

    Raises:
        ValueError: if the shape does not fit.
        TypeError: if z is traced.
    """
    distances = _distances_on_host(_points_on_host("z", z), result.points)
    return np.min(distances + result.critic[None, :], axis=1)


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Compute all squared distances by differences, shapes (n, d), (m, d) -> (n, m)."""
    return jnp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1)


def distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """Compute all distances, shapes (n, d), (m, d) -> (n, m), in any unit of length."""
    by = inverse_size((x, y)).astype(x.dtype)
    return safe_sqrt(squared_distances(by * x, by * y)) / by


def safe_sqrt(values: jax.Array) -> jax.Array:
    """Take roots whose slope at zero is zero instead of infinite."""
    zero = values == 0  # not where it is NaN
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, values)))


def _power(values: jax.Array, exponent: float) -> jax.Array:
    """Raise non-negative values to a power; below one, the slope at zero is zero."""
    if exponent == 1:
        return values
    if exponent == 0.5:
        return safe_sqrt(values)
    zero = values == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, values) ** exponent)


def _power_of_size(differences: jax.Array, p: float) -> jax.Array:
    return differences**2 if p == 2 else _power(jnp.abs(differences), p)


def _quantile_merge(x, y, a, b) -> tuple[jax.Array, ...]:
    """Find the intervals on which both quantile functions are constant, and both."""
    rank_x, rank_y = jnp.argsort(x), jnp.argsort(y)
    x, y = x[rank_x], y[rank_y]
    levels_x, levels_y = jnp.cumsum(a[rank_x]), jnp.cumsum(b[rank_y])
    levels = jnp.sort(jnp.concatenate([levels_x, levels_y]))
    below = jnp.concatenate([jnp.zeros(1, levels.dtype), levels[:-1]])
    middles = (below + levels) / 2
    # Above its last level a quantile function keeps its last value.
    at_x = jnp.minimum(jnp.searchsorted(levels_x, middles), x.size - 1)
    at_y = jnp.minimum(jnp.searchsorted(levels_y, middles), y.size - 1)
    return levels - below, x[at_x], y[at_y]


def _on_host(name: str, value: Any) -> np.ndarray:
    if not is_known(value):
        raise TypeError(
            f"exact transport runs on the host, but {name} is traced: call it outside "
            f"jit, or use sinkhorn inside"
        )
    array = np.asarray(value)
    # Numpy knows neither bfloat16 nor float16 by the name of jax.
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be real and floating-point, got dtype {array.dtype}"
        )
    return array


def _points_on_host(name: str, value: Any) -> np.ndarray:
    array = _on_host(name, value).astype(np.float64)
    if array.ndim != 2 or array.shape[0] == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must hold finite points, shape (n, d) with n >= 1, "
            f"got shape {array.shape}"
        )
    return array


def _distances_on_host(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"points must have one dimension d, got {x.shape[1]} and {y.shape[1]}"
        )
    centre, largest = x[:1], 1.0
    x, y = x - centre, y - centre
    largest = max(np.abs(x).max(initial=0.0), np.abs(y).max(initial=0.0))
    exponent = int(np.frexp(largest)[1])
    return np.ldexp(cdist(np.ldexp(x, -exponent), np.ldexp(y, -exponent)), exponent)


def _prepare_host(
    cost: Any, a: Any, b: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cost = _on_host("cost", cost).astype(np.float64)
    if cost.ndim != 2 or 0 in cost.shape:
        raise ValueError(f"cost must have shape (n, m), got shape {cost.shape}")
    if not np.all(cost > -np.inf):  # also where NaN
        raise ValueError(
            "a cost must be a number, or +inf for a forbidden pair, got NaN or -inf"
        )
    masses = []
    for name, value, size in (("a", a, cost.shape[0]), ("b", b, cost.shape[1])):
        if value is None:
            masses.append(np.full(size, 1 / size))
            continue
        value = _on_host(name, value)
        if value.shape != (size,):
            raise ValueError(
                f"{name} must have one weight per point, shape ({size},), "
                f"got shape {value.shape}"
            )
        checks.probabilities(name, value)
        value = value.astype(np.float64)
        # Rounding only, after the check: both sides must carry the same mass.
        masses.append(value / value.sum())
    return cost, masses[0], masses[1]


# Linear programs are solved to an absolute tolerance: beside a large cost, what is
# small would be lost, though it may be all that an optimal plan pays. So potentials
# lower the costs to what is left to be decided, larger costs are cut to what no better
# plan can afford, and the program is solved again, until nothing is left.

_ROUNDS = 12  # at most; each gains six digits, and the first is nearly always enough
_AFFORDABLE = 1e3  # times what is left: a share of 1/1000 would cost all of it
_GAINED = 0.1  # of what was left; less is a sign that smaller shares pay more
_INFEASIBLE = "no coupling avoids all forbidden pairs (infinite costs)"
_SETTLED = 1e-9  # of what the plan pays


class _Improved(NamedTuple):
    """Potentials, and a plan."""

    f: np.ndarray
    g: np.ndarray
    plan: np.ndarray


def _refined(
    cost: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    plan: np.ndarray,
    improve: Callable[[np.ndarray, np.ndarray], _Improved],
) -> _Improved:
    """Solve the transport problem for costs of any unit, offset and range.

    Args:
        cost: the matrix, infinite where a pair is forbidden.
        a: weights of the rows.
        b: weights of the columns.
        plan: any coupling.
        improve: `improve(costs, allowed)` solves it for costs between 0 and 1.

    Returns:
        Feasible potentials, and the best plan met.
    """
    allowed = np.isfinite(cost)
    finite = np.where(allowed, cost, 0)

    def conjugated(f: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Feasible to rounding, and nowhere lower. Nothing bounds a row of forbidden
        # pairs only; its mass is 0, or the program fails.
        def least(values: np.ndarray, axis: int) -> np.ndarray:
            lowest = np.min(np.where(allowed, values, np.inf), axis=axis)
            return np.where(np.isfinite(lowest), lowest, 0)

        g = least(costs - f[:, None], 0)
        return least(costs - g[None, :], 1), g

    def paid(plan: np.ndarray, costs: np.ndarray) -> float:
        if np.any(plan[~allowed] > 0):
            return math.inf
        return float(np.sum(plan * costs))

    # Costs about their rows' and columns' least ones.
    first_f, first_g = conjugated(np.zeros(len(a)), finite)
    costs = np.maximum(finite - first_f[:, None] - first_g[None, :], 0)
    f, g = np.zeros(len(a)), np.zeros(len(b))
    affordable, before = _AFFORDABLE, math.inf
    for _ in range(_ROUNDS):
        reduced = np.maximum(costs - f[:, None] - g[None, :], 0)
        left = paid(plan, reduced)
        if math.isfinite(left) and left <= _SETTLED * paid(plan, costs):
            break
        if not left <= _GAINED * before:
            affordable *= _AFFORDABLE
        before = left
        largest = np.max(reduced, initial=0, where=allowed) or 1.0
        most = min(affordable * left, largest)
        found = improve(np.minimum(reduced / most, 1), allowed)
        f, g = conjugated(f + most * found.f, costs)
        if not paid(plan, costs) <= paid(found.plan, costs):
            plan = found.plan
    return _Improved(*conjugated(first_f + f, finite), plan)


def _assignment(cost: np.ndarray) -> np.ndarray:
    """Match equally many points of equal weight, by successive shortest paths."""
    from scipy.optimize import linear_sum_assignment

    lowest = cost.min(axis=1, keepdims=True)
    costs = cost - np.where(np.isfinite(lowest), lowest, 0)
    try:
        rows, columns = linear_sum_assignment(costs)
    except ValueError as reason:
        raise ValueError(_INFEASIBLE) from reason
    paid = costs[rows, columns].sum()
    if 0 < 1e3 * paid < costs.max():
        # Beside the largest, small ones were lost; what no better matching can afford
        # is cut, and they are all there is.
        rows, columns = linear_sum_assignment(np.minimum(costs, 2 * paid))
    plan = np.zeros_like(cost)
    plan[rows, columns] = 1 / len(cost)
    return plan


def _primal_program(
    cost: np.ndarray, allowed: np.ndarray, a: np.ndarray, b: np.ndarray
) -> _Improved:
    from scipy.sparse import csr_array

    n, m = cost.shape
    # Columns of the constraint matrix are the entries of P, row by row.
    rows = np.concatenate([np.repeat(np.arange(n), m), n + np.tile(np.arange(m), n)])
    columns = np.tile(np.arange(n * m), 2)
    marginals = csr_array((np.ones(2 * n * m), (rows, columns)), shape=(n + m, n * m))
    upper = np.where(allowed.ravel(), np.inf, 0)
    solved = _linear_program(
        cost.ravel(),
        # The last equation follows from the others.
        A_eq=marginals[:-1],
        b_eq=np.concatenate([a, b])[:-1],
        bounds=np.stack([np.zeros(n * m), upper], axis=1),
    )
    potentials = np.append(solved.eqlin.marginals, 0)
    plan = np.maximum(solved.x, 0).reshape(n, m)
    return _Improved(potentials[:n], potentials[n:], plan)


def _dual_program(
    cost: np.ndarray, allowed: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.sparse import csr_array

    n, m = cost.shape
    rows = np.tile(np.arange(n * m), 2)
    columns = np.concatenate([np.repeat(np.arange(n), m), n + np.tile(np.arange(m), n)])
    sums = csr_array((np.ones(2 * n * m), (rows, columns)), shape=(n * m, n + m))
    bounds = np.tile([-np.inf, np.inf], (n + m, 1))
    bounds[0] = 0  # a constant may move from f to g
    some = np.flatnonzero(allowed)
    solved = _linear_program(
        -np.concatenate([a, b]), A_ub=sums[some], b_ub=cost.ravel()[some], bounds=bounds
    )
    return solved.x[:n], solved.x[n:]


def _linear_program(objective: np.ndarray, **constraints: Any) -> Any:
    from scipy.optimize import linprog

    options = {
        "primal_feasibility_tolerance": 1e-10,
        "dual_feasibility_tolerance": 1e-10,
    }
    result = linprog(objective, method="highs", options=options, **constraints)
    if result.status == 2:
        raise ValueError(_INFEASIBLE)
    if result.status != 0:
        raise RuntimeError(f"HiGHS did not solve the transport: {result.message}")
    return result
