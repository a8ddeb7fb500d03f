"""Learning problems as games: robust regression, constraints with multipliers."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, Params, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import euclidean, non_negative


@register(
    "robust_least_squares",
    summary="least squares against an adversary who moves the observations",
    source="El Ghaoui and Lebret, 1997",
    shows="a strongly concave inner player with a closed form",
    solution="Nash",
    zero_sum=True,
    finite_sum=True,
)
def robust_least_squares(
    features: Any = None,
    targets: Any = None,
    *,
    penalty: float = 3.0,
    batch_size: int = 1,
    seed: int = 0,
) -> Problem:
    r"""Build robust least squares.

    $$\min_x \max_y \|Ax - y\|^2 - \lambda \|y - y_0\|^2, \qquad \lambda > 1.$$

    The inner maximum is at $y = y_0 + (y_0 - Ax)/(\lambda - 1)$, of value
    $\frac{\lambda}{\lambda - 1} \|Ax - y_0\|^2$: x is the ordinary least-squares
    solution. A batch is an array of indices of rows; the loss is n times the mean of
    their terms, hence unbiased; `None` stands for all. The standard start is x = 0,
    y = 0.

    Args:
        features: A, shape `(n, d)`, of full column rank; random, 20 x 5, if `None`.
        targets: $y_0$, shape `(n,)`; random if `None`.
        penalty: lambda, above 1.
        batch_size: the number of indices that `sample` draws, with replacement.
        seed: of the default data, drawn by NumPy.

    Returns:
        The problem, with params of shapes `(d,)` and `(n,)` (no solution under
        tracing).

    Raises:
        ValueError: if the penalty is not above 1, or shapes do not fit.
    """
    random = np.random.default_rng(seed)
    dtype = _forms.widest(features, targets, penalty)
    if features is None:
        features = random.normal(size=(20, 5)).tolist()
    A = _forms.as_array("features", features, 2, dtype)
    (n, d), dtype = A.shape, A.dtype
    if targets is None:
        targets = random.normal(size=n).tolist()
    y0 = _forms.as_array("targets", targets, 1, dtype)
    _forms.check_shape("targets", y0, (n,), "like the rows of features")
    weight = _forms.as_array("penalty", penalty, 0, dtype)
    if _forms.known(weight) and not weight > 1:
        raise ValueError(f"penalty must exceed 1, got {penalty}")
    solutions: tuple[Params, ...] = ()
    if _forms.known(A, y0, weight):
        dense, given = np.asarray(A, np.float64), np.asarray(y0, np.float64)
        x = np.linalg.lstsq(dense, given, rcond=None)[0]
        y = given + (given - dense @ x) / (float(weight) - 1)
        solutions = ((jnp.asarray(x, dtype), jnp.asarray(y, dtype)),)
    return Problem(
        zero_sum(Partial(_robust_squares, A, y0, weight), stochastic=True),
        Partial(_forms.normal_start, (jnp.zeros(d, dtype), jnp.zeros(n, dtype))),
        solutions,
        sample=_forms.index_sampler(n, batch_size),
        info=Info(num_components=n, solution="" if solutions else "none"),
    )


def _robust_squares(A, y0, weight, x: jax.Array, y: jax.Array, batch: Batch):
    rows, moved, given = (_forms.rows_of(array, batch) for array in (A, y, y0))
    terms = (rows @ x - moved) ** 2 - weight * (moved - given) ** 2
    return A.shape[0] * jnp.mean(terms)


@register(
    "constrained_optimisation",
    summary="a quadratic under linear constraints, with multipliers as the second "
    "player",
    source="Arrow, Hurwicz and Uzawa, 1958",
    shows="a projected dual, multipliers that oscillate",
    solution="Nash",
    zero_sum=True,
    domain="unconstrained, non-negative",
)
def constrained_optimisation(
    P: Any = None, q: Any = None, G: Any = None, h: Any = None
) -> Problem:
    r"""Build the Lagrangian of a quadratic programme.

    $$\min_x \max_{\lambda \ge 0} \tfrac12 x^\top P x + q^\top x
      + \lambda^\top (G x - h).$$

    x is the primal solution exactly if $(x, \lambda)$ is a solution of the game. By
    default three variables have a weakly curved objective, and of three constraints two
    are active. The standard start is x = 0, lambda = 1.

    Args:
        P: symmetric, positive definite, shape `(d, d)`.
        q: shape `(d,)`.
        G: the rows of the constraints $Gx \le h$, shape `(m, d)`.
        h: shape `(m,)`.

    Returns:
        The problem, with params of shapes `(d,)` and `(m,)`. Its solution comes from
        trying all sets of active constraints, up to m = 12 (not under tracing).

    Raises:
        ValueError: if shapes do not fit, P is not positive definite, or some but not
            all arguments are given.
    """
    given = (P, q, G, h)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError("expected all of P, q, G and h, or none of them")
    if P is None:
        P = np.diag([0.2, 0.1, 0.3]).tolist()
        q = [-1.0, -1.0, -1.0]
        G = [[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.0, 1.0, -2.0]]
        h = [1.0, 2.0, 0.0]
    dtype = _forms.widest(P, q, G, h)
    P = _forms.as_array("P", P, 2, dtype)
    (d, _), dtype = P.shape, P.dtype
    q, h = (_forms.as_array(name, x, 1, dtype) for name, x in (("q", q), ("h", h)))
    G = _forms.as_array("G", G, 2, dtype)
    m = G.shape[0]
    for name, array, shape in (("P", P, (d, d)), ("q", q, (d,)), ("G", G, (m, d))):
        _forms.check_shape(name, array, shape, "to fit P")
    _forms.check_shape("h", h, (m,), "like the rows of G")
    solutions: tuple[Params, ...] = ()
    if _forms.known(P, q, G, h):
        dense = [np.asarray(x, np.float64) for x in (P, q, G, h)]
        if (
            not np.allclose(dense[0], dense[0].T)
            or np.linalg.eigvalsh(dense[0])[0] <= 0
        ):
            raise ValueError("P must be symmetric and positive definite")
        pair = _active_sets(*dense) if m <= 12 else None
        if pair is not None:
            solutions = (tuple(jnp.asarray(z, dtype) for z in pair),)
    return Problem(
        zero_sum(Partial(_lagrangian, P, q, G, h)),
        Partial(_lagrangian_start, (jnp.zeros(d, dtype), jnp.ones(m, dtype))),
        solutions,
        geometry=(euclidean, non_negative()),
        info=Info(solution="" if solutions else "none"),
    )


def _lagrangian(P, q, G, h, x: jax.Array, multipliers: jax.Array) -> jax.Array:
    slack = x @ G.T - h
    return _forms.bilinear(P, x, x) / 2 + jnp.sum(q * x) + jnp.sum(multipliers * slack)


def _lagrangian_start(standard: Params, key: Any) -> Params:
    if key is None:
        return standard
    x, multipliers = _forms.normal_start(standard, key)
    return x, jnp.abs(multipliers)


def _active_sets(P, q, G, h) -> tuple[np.ndarray, np.ndarray] | None:
    """Try every set of active constraints; `None` if none fulfils the conditions."""
    m, d = G.shape
    for size in range(min(m, d) + 1):
        for active in itertools.combinations(range(m), size):
            rows = G[list(active)]
            system = np.block([[P, rows.T], [rows, np.zeros((size, size))]])
            if np.linalg.cond(system) > 1e12:
                continue
            z = np.linalg.solve(system, np.append(-q, h[list(active)]))
            multipliers = np.zeros(m)
            multipliers[list(active)] = z[d:]
            violated = np.max(G @ z[:d] - h, initial=0) > 1e-9
            if not violated and multipliers.min(initial=0) >= 0:
                return z[:d], multipliers
    return None
