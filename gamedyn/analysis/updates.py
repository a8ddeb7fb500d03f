"""The Jacobian of a rule's own update map, optimizer memory included."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.fields import Field, as_field
from gamedyn.game import Batch, Game, Params, PyTree, check_params
from gamedyn.rules.base import InnerSolve, Rule, RuleState, check_rule, initial_state
from gamedyn.solve import Status

_AUTONOMY_TOLERANCE = 1e-9
"""Relative change of the Jacobian between two cycles above which the map counts as
changing in time; rounding stays far below, the slowest schedules in use far above."""


class UpdateJacobian(NamedTuple):
    """The Jacobian of the map that one cycle of a rule applies.

    Attributes:
        matrix: derivative of the inexact leaves of (params, rule state) after one cycle
            with respect to those before, complex leaves as real and imaginary part; a
            numpy array of shape `(n, n)`.
        status: OK; NOT_DIFFERENTIABLE where an entry is not finite (Adam at its fixed
            point with `eps_root=0`) or short moves do not follow the matrix (kinks,
            steps that depend on the direction only); NOT_AUTONOMOUS where the next
            cycles have another Jacobian (schedules, anchors, uniform averages) or the
            rule draws random numbers.
        period: the number of steps in one cycle.
    """

    matrix: np.ndarray
    status: Status
    period: int


class SpectralRadius(float):
    """A spectral radius per step: a float with a status that says why it may be NaN.

    Attributes:
        status: OK, NOT_DIFFERENTIABLE or NOT_AUTONOMOUS; the latter two are NaN.
    """

    status: Status

    def __new__(cls, value: float, status: Status):
        """Attach the status to the number."""
        radius = super().__new__(cls, value)
        radius.status = status
        return radius


def update_jacobian(
    game_or_field: Game | Field,
    rule: Rule,
    params: Params,
    batch: Batch = None,
    *,
    warmup: int = 10,
) -> UpdateJacobian:
    r"""Differentiate the true update map of a rule, its memory included.

    $$\frac{\partial (z_{t+k}, s_{t+k})}{\partial (z_t, s_t)}, \qquad
      k = \text{the rule's period},$$

    over the floating-point leaves of parameters z and rule state s. Counters and flags
    are frozen at what they are after `warmup` updates at the point. Called outside jit.

    Args:
        game_or_field: a game, or any field.
        rule: the update rule.
        params: the point z at which to differentiate, usually an equilibrium.
        batch: the batch of every evaluation.
        warmup: the least number of updates at the point before, which fill the memory.

    Returns:
        The matrix with its status.

    Raises:
        ValueError: if `warmup` is not a positive integer.
        TypeError: if a parameter is not a real floating-point number.
    """
    check_params(params)
    check_positive_integer("warmup", warmup)
    check_rule(rule, "the Jacobian of an update")
    field, period = as_field(game_or_field), rule.period
    batches = (batch,) * rule.num_batches
    params = jax.tree.map(jnp.asarray, params)

    @jax.jit
    def settle(state, num_steps):
        return settled(field, rule, params, state, batches, num_steps)

    @jax.jit
    def differentiate(state):
        matrix = cycle_jacobian(field, rule, params, state, batches)
        return matrix, _is_kinked(field, rule, params, state, batches, matrix)

    warmup = -(-warmup // period) * period
    state = settle(initial_state(rule, params), warmup)
    matrix, kinked = map(np.asarray, differentiate(state))
    # Seven more cycles: enough to tell a schedule, prime to the usual periods.
    later = np.asarray(differentiate(settle(state, 7 * period))[0])
    if not np.all(np.isfinite([matrix, later])) or kinked:
        status = Status.NOT_DIFFERENTIABLE
    elif _draws(state) or np.max(np.abs(later - matrix)) > _AUTONOMY_TOLERANCE * max(
        1.0, np.max(np.abs(matrix))
    ):
        status = Status.NOT_AUTONOMOUS
    else:
        status = Status.OK
    return UpdateJacobian(matrix, status, period)


def spectral_radius(
    game_or_field: Game | Field,
    rule: Rule,
    params: Params,
    batch: Batch = None,
    *,
    warmup: int = 10,
) -> SpectralRadius:
    r"""Predict a rule's local rate: the spectral radius of its own update map.

    $$\rho = \max |\lambda(\text{update Jacobian})|^{1/k}, \qquad
      \|z_t - z^*\| \sim \rho^t .$$

    Args:
        game_or_field: a game, or any field.
        rule: the update rule.
        params: the equilibrium.
        batch: the batch of every evaluation.
        warmup: see `update_jacobian`.

    Returns:
        The radius per step: below 1 stable, above 1 unstable. A float that carries the
        status of the Jacobian and is NaN where that is not OK.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> zero = (jnp.array(0.0), jnp.array(0.0))
        >>> rule = gd.alternating(optax.sgd(0.1))
        >>> rate = gd.analysis.spectral_radius(game, rule, zero)
        >>> print(f"{rate:.4f}")
        1.0000
    """
    matrix, status, period = update_jacobian(
        game_or_field, rule, params, batch, warmup=warmup
    )
    if status != Status.OK:
        return SpectralRadius(float("nan"), status)
    moduli = np.abs(np.linalg.eigvals(matrix))
    return SpectralRadius(float(moduli.max()) ** (1 / period), status)


def settled(
    field: Field,
    rule: Rule,
    params: Params,
    state: RuleState,
    batches: tuple[Batch, ...],
    num_steps: Any,
) -> RuleState:
    """Update a rule's memory at a point that is held fixed; traceable.

    Args:
        field: the field.
        rule: the update rule.
        params: the point.
        state: the memory before.
        batches: the batches of every step.
        num_steps: how many updates, may be traced.

    Returns:
        The memory after.
    """
    return jax.lax.fori_loop(
        0, num_steps, lambda _, s: rule.update(field, params, s, batches)[1], state
    )


def cycle_jacobian(
    field: Field,
    rule: Rule,
    params: Params,
    state: RuleState,
    batches: tuple[Batch, ...],
) -> jax.Array:
    """Differentiate one cycle of a rule, its memory included; traceable.

    Args:
        field: the field.
        rule: the update rule.
        params: the point.
        state: the rule's memory there.
        batches: the batches of every step.

    Returns:
        The matrix of shape `(n, n)` of `UpdateJacobian`.
    """
    return jax.jacfwd(_cycle(field, rule, params, state, batches))(
        moving_parts((params, state))[0]
    )


def _cycle(field, rule, params, state, batches):
    """The map of one cycle on the vector of `moving_parts`."""
    _, rebuild = moving_parts((params, state))

    def cycle(vector):
        after = jax.lax.fori_loop(
            0,
            rule.period,
            lambda _, carry: rule.update(field, carry[0], carry[1], batches),
            rebuild(vector),
        )
        return moving_parts(after)[0]

    return cycle


def _is_kinked(field, rule, params, state, batches, matrix) -> jax.Array:
    """Whether short moves of the point do not follow the matrix.

    Two lengths that agree with each other and not with the matrix tell a kink, or a
    map that is homogeneous without being linear, from curvature.
    """
    cycle = _cycle(field, rule, params, state, batches)
    vector, _ = moving_parts((params, state))
    size = moving_parts(params)[0].size
    eps = float(jnp.finfo(vector.dtype).eps)
    scale = jnp.maximum(1, jnp.max(jnp.abs(vector[:size]), initial=0))
    # A fixed direction along no axis.
    direction = jnp.cos(1.0 + 2 * jnp.arange(size, dtype=vector.dtype))
    direction = jnp.zeros_like(vector).at[:size].set(direction)
    expected = matrix @ direction
    lengths = jnp.stack([scale * eps**0.4, scale * eps**0.5])
    # Mapped, not called thrice: the update is compiled once.
    points = vector[None] + jnp.append(0, lengths)[:, None] * direction[None]
    here, *there = jax.lax.map(cycle, points)
    far, near = ((y - here) / s for y, s in zip(there, lengths, strict=True))
    gap = jnp.linalg.norm(near - expected)
    drift = jnp.linalg.norm(far - near)
    return (gap > 0.01 * jnp.linalg.norm(expected)) & (drift < 0.1 * gap)


def moving_parts(tree: PyTree) -> tuple[jax.Array, Any]:
    """Flatten the inexact leaves of a tree into one real vector; freeze the others.

    The reports of inner solvers are left out: nothing is iterated on them.
    """
    leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_report)
    moving = [
        i
        for i, leaf in enumerate(leaves)
        if not _is_report(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]

    def reals(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            leaf = jnp.stack([leaf.real, leaf.imag])
        return leaf.ravel()

    dtype = jnp.result_type(*(reals(leaves[i]).dtype for i in moving))
    parts = [reals(leaves[i]).astype(dtype) for i in moving]
    sizes = np.cumsum([part.size for part in parts])[:-1]

    def rebuild(vector):
        filled = list(leaves)
        for i, part in zip(moving, jnp.split(vector, sizes), strict=True):
            shape, kind = leaves[i].shape, leaves[i].dtype
            if jnp.issubdtype(kind, jnp.complexfloating):
                real, imaginary = part.reshape(2, *shape)
                filled[i] = jax.lax.complex(real, imaginary).astype(kind)
            else:
                filled[i] = part.reshape(shape).astype(kind)
        return jax.tree.unflatten(treedef, filled)

    return jnp.concatenate(parts), rebuild


def _draws(state: RuleState) -> bool:
    return any(
        jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        for leaf in jax.tree.leaves(state)
    )


def _is_report(node: Any) -> bool:
    return isinstance(node, InnerSolve)
