"""Optax transformations made for games: negative and complex momentum."""

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.checks import is_known
from gamedyn.game import PyTree
from gamedyn.registry import missing as _missing


def negative_momentum(
    step_size: optax.ScalarOrSchedule, momentum: float = -0.5
) -> optax.GradientTransformation:
    r"""Heavy ball with a momentum below zero.

    $$m^+ = \beta m + F, \qquad z^+ = z - \eta m^+.$$

    For `alternating`, on one player: `alternating(negative_momentum(h), optax.sgd(h))`
    converges on bilinear games where plain alternation cycles. In `simultaneous` no
    real momentum converges on them.

    Args:
        step_size: eta, at most one over the largest singular value.
        momentum: beta; -1/2 as published.

    Returns:
        `optax.sgd` with that momentum.

    References:
        Gidel et al., Negative momentum for improved game dynamics, 2019,
        arXiv:1807.04740.
    """
    return optax.sgd(step_size, momentum=momentum)


class ComplexMomentumState(NamedTuple):
    """The state of complex momentum.

    Attributes:
        buffer: minus mu, complex, of the structure of the parameters.
    """

    buffer: PyTree


def complex_momentum(
    step_size: optax.ScalarOrSchedule,
    momentum: complex = 0.9 * complex(math.cos(math.pi / 8), math.sin(math.pi / 8)),
) -> optax.GradientTransformation:
    r"""Momentum with a complex coefficient, of which the real part is applied.

    $$\mu^+ = \beta\mu - F, \qquad z^+ = z + \operatorname{Re}(\alpha\mu^+), \qquad
      \beta, \mu \text{ complex}.$$

    Converges also in `simultaneous`, on bilinear games for small steps and large
    $|\beta|$ (with the default momentum, $\alpha\sigma = .05$ converges and .1 does
    not). The buffer is complex64, or complex128 for float64 parameters.

    Args:
        step_size: alpha, real; a schedule is allowed.
        momentum: beta; by default $.9 e^{i\pi/8}$, the published setting for GANs.

    Returns:
        The transformation.

    Raises:
        ValueError: if `momentum` is known and not inside the unit circle.

    References:
        Lorraine et al., Complex momentum for optimization in games, 2022,
        arXiv:2102.08431.
    """
    if is_known(momentum) and not abs(momentum) < 1:
        raise ValueError(f"momentum must lie inside the unit circle, got {momentum}")

    def init(params: PyTree) -> ComplexMomentumState:
        return ComplexMomentumState(
            jax.tree.map(lambda p: jnp.zeros(p.shape, _complex_dtype(p)), params)
        )

    def update(updates, state, params=None):
        del params
        # The buffer holds -mu, so that the step is a descent like any other's.
        buffer = jax.tree.map(
            lambda g, m: jnp.asarray(momentum, m.dtype) * m + g.astype(m.dtype),
            updates,
            state.buffer,
        )
        real = jax.tree.map(lambda g, m: m.real.astype(g.dtype), updates, buffer)
        return real, ComplexMomentumState(buffer)

    return optax.chain(
        optax.GradientTransformation(init, update),
        optax.scale_by_learning_rate(step_size),
    )


def _complex_dtype(leaf: jax.Array) -> type:
    return jnp.complex128 if leaf.dtype == jnp.float64 else jnp.complex64


if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
