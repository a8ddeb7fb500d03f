"""Competitive gradients with memory: warm, adaptive, and with a reported residual."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive, is_known
from gamedyn.fields.base import Field, is_zero_sum
from gamedyn.fields.competitive import linearised, solve_coupled
from gamedyn.fields.linear import Krylov
from gamedyn.game import Batch, Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.rules.base import (
    PROJECTED,
    InnerSolve,
    Rule,
    apply_updates,
    build,
    check_geometry,
    check_step_size,
)
from gamedyn.rules.registry import owned, register
from gamedyn.trees import scale, working_dtype


class CompetitiveState(NamedTuple):
    """The state of competitive gradient descent.

    Attributes:
        start: the solution of the last inner system, where the next one starts; `()`
            without warm starts.
        inner: the inner solver's report, its residual relative to the right-hand side.
    """

    start: Any
    inner: InnerSolve


class AdaptiveCompetitiveState(NamedTuple):
    """The state of adaptive competitive gradient descent.

    Attributes:
        start: as in `CompetitiveState`.
        inner: as in `CompetitiveState`.
        squares: v, the moving average of squared gradients.
        num_steps: the number of steps done.
    """

    start: Any
    inner: InnerSolve
    squares: Params
    num_steps: jax.Array


def competitive_gradient(
    step_size: float | jax.Array,
    *,
    tolerance: float | None = None,
    max_steps: int = 100,
    warm_start: bool = True,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Step to the Nash equilibrium of the bilinear local game (CGD).

    $$z^+ = z - \eta (I + \eta H_o)^{-1} F(z).$$

    The steps of `simultaneous` on `fields.competitive`, with a memory: the inner solver
    starts at its last solution, and reports its residual. On a bilinear game
    $\rho = 1/\sqrt{1 + \eta^2\sigma^2}$. Solved by conjugate gradients, for one player,
    where the field is known to be the gradient of a zero-sum game of two; otherwise by
    conjugate gradients on the normal equations. For any number of players.

    Args:
        step_size: eta, one positive number for all players. The scheme owns its step.
        tolerance: of the inner residual relative to the right-hand side; by default
            eps^(3/4) of the coarsest parameter.
        max_steps: the most inner steps.
        warm_start: whether to start from the last solution, one more copy of the
            parameters. Saves steps only where the direction changes little from step to
            step: a small game's residual starts lower but falls no faster.
        geometry: euclidean, or projected after the step (unproven).

    Returns:
        The rule; its state holds an `InnerSolve`. A solve that misses the tolerance
        makes `solve` end with `Status.INNER_SOLVER`.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it, `tolerance` or `max_steps` is not positive, or the geometry
            is entropic.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: 10 * x * y)
        >>> rule = gd.rules.competitive_gradient(1.0)
        >>> start = (jnp.array(1.0), jnp.array(1.0))
        >>> solution = jax.jit(lambda z: gd.solve(game, rule, z, 5))(start)
        >>> print(f"{abs(solution.params[0]):.4f}")
        0.0000

    References:
        Schaefer, Anandkumar, Competitive gradient descent, 2019, arXiv:1905.12103.
    """
    check_step_size(step_size, "competitive_gradient")
    check_geometry(geometry, PROJECTED, "competitive_gradient")
    how = Krylov(tolerance, max_steps)

    def init(params):
        per_player(geometry, len(params), "geometry")
        return CompetitiveState(_cold(params, warm_start), _nothing_yet(params))

    def update(field, params, rule_state, batches):
        root = jnp.sqrt(jnp.asarray(step_size, working_dtype(params)))
        change, solution, report = _competitive_step(
            field,
            params,
            batches[0],
            lambda tree: scale(root, tree),
            rule_state,
            how,
            warm_start,
        )
        after = apply_updates(geometry, params, change)
        return after, CompetitiveState(solution, report)

    return build(init, update)


def adaptive_competitive_gradient(
    step_size: float | jax.Array = 1e-3,
    *,
    decay: float = 0.99,
    eps: float = 1e-5,
    tolerance: float | None = None,
    max_steps: int = 100,
    warm_start: bool = True,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Competitive steps whose sizes follow the gradients' second moments (ACGD).

    $$v^+ = \beta v + (1 - \beta) F^2, \qquad
      D = \operatorname{diag}\Big(\frac{\eta}{\sqrt{\hat v^+} + \epsilon}\Big), \qquad
      z^+ = z - D^{1/2} (I + D^{1/2} H_o D^{1/2})^{-1} D^{1/2} F(z),$$

    $\hat v = v / (1 - \beta^t)$ as in Adam. With D = eta I it is CGD. For GANs. At a
    fixed point v vanishes and, as in Adam, its root has no derivative: there is no
    spectral radius. The steps grow towards eta / epsilon on the way there.

    Args:
        step_size: eta; 1e-3 as published.
        decay: beta, in [0, 1).
        eps: epsilon, positive.
        tolerance: see `competitive_gradient`.
        max_steps: see `competitive_gradient`.
        warm_start: see `competitive_gradient`.
        geometry: see `competitive_gradient`.

    Returns:
        The rule; its state holds an `InnerSolve`, see `competitive_gradient`.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if a number is out of range, or the geometry is entropic.

    References:
        Schaefer, Zheng, Anandkumar, Implicit competitive regularization in GANs, 2020,
        arXiv:1910.05852.
    """
    name = "adaptive_competitive_gradient"
    check_step_size(step_size, name)
    check_geometry(geometry, PROJECTED, name)
    check_positive("eps", eps)
    if is_known(decay) and not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")
    how = Krylov(tolerance, max_steps)

    def init(params):
        per_player(geometry, len(params), "geometry")
        return AdaptiveCompetitiveState(
            _cold(params, warm_start),
            _nothing_yet(params),
            jax.tree.map(jnp.zeros_like, params),
            jnp.zeros((), jnp.int32),
        )

    def update(field, params, rule_state, batches):
        count = rule_state.num_steps + 1
        direction = field(params, batches[0])
        squares = jax.tree.map(
            lambda v, g: decay * v + (1 - decay) * g**2, rule_state.squares, direction
        )

        def root(v):
            correction = 1 - jnp.asarray(decay, v.dtype) ** count.astype(v.dtype)
            step = jnp.asarray(step_size, v.dtype)
            return jnp.sqrt(step / (jnp.sqrt(v / correction) + eps))

        roots = jax.tree.map(root, squares)
        change, solution, report = _competitive_step(
            field,
            params,
            batches[0],
            lambda tree: jax.tree.map(jnp.multiply, roots, tree),
            rule_state,
            how,
            warm_start,
        )
        after = apply_updates(geometry, params, change)
        return after, AdaptiveCompetitiveState(solution, report, squares, count)

    return build(init, update)


def _competitive_step(
    field: Field,
    params: Params,
    batch: Batch,
    weigh: Callable[[Params], Params],
    state: CompetitiveState | AdaptiveCompetitiveState,
    how: Krylov,
    warm_start: bool,
) -> tuple[Params, Any, InnerSolve]:
    """The change -R (I + R H_o R)^-1 R F, R being `weigh`; the next start; a report."""
    direction, coupled = linearised(field, params, batch)
    right = weigh(direction)
    solved = solve_coupled(
        lambda vector: weigh(coupled(weigh(vector))),
        right,
        how,
        definite=is_zero_sum(field),
        start=state.start if warm_start else None,
    )
    dtype = state.inner.residual.dtype
    # Not `residual > goal`: a NaN is a failure, too.
    failed = state.inner.failed | ~(solved.residual <= how.goal(right))
    report = InnerSolve(
        solved.residual.astype(dtype), solved.steps.astype(jnp.int32), failed
    )
    change = scale(-1, weigh(solved.solution))
    return change, solved.solution if warm_start else (), report


def _cold(params: Params, warm_start: bool) -> Any:
    return jax.tree.map(jnp.zeros_like, params) if warm_start else ()


def _nothing_yet(params: Params) -> InnerSolve:
    zero = jnp.zeros((), working_dtype(params))
    return InnerSolve(zero, jnp.zeros((), jnp.int32), jnp.array(False))


# The registered rules.


def _krylov_evaluations(size: int) -> int:
    """Count as many turns of the inner solver as there are parameters, at most 100."""
    return 4 + 4 * min(size, 100)


register(
    "competitive_gradient",
    owned(competitive_gradient),
    family="the local game solved",
    summary="step to the equilibrium of the local bilinear game, warm-started (CGD)",
    formula="z' = z - h (I + h H_o)^-1 F(z)",
    source="Schaefer and Anandkumar 2019, arXiv:1905.12103",
    guarantee="bilinear: 1/sqrt(1 + h^2 s^2), the proximal point method",
    evaluations=_krylov_evaluations,
    geometries=PROJECTED,
    products=4,
    flops=7.2,
)
register(
    "adaptive_competitive_gradient",
    owned(adaptive_competitive_gradient),
    family="the local game solved",
    summary="competitive steps, sizes following the gradients' second moments (ACGD)",
    formula="z' = z - R (I + R H_o R)^-1 R F(z), R^2 = diag(h/(sqrt(v) + eps))",
    source="Schaefer et al. 2020, arXiv:1910.05852",
    guarantee="none",
    evaluations=_krylov_evaluations,
    geometries=PROJECTED,
    products=4,
    flops=7.2,
)
