"""Fields corrected by products with the Jacobian: the rotation is damped or undone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.fields.base import Field, as_field, cross_jvp, is_zero_sum, jvp
from gamedyn.fields.registry import register, without_step
from gamedyn.game import Batch, Game, Params
from gamedyn.trees import add_scaled, inner, resized, scale, size, subtract, unit


def consensus(game_or_field: Game | Field, weight: Any = 1.0) -> Field:
    r"""Descend the gradient and, together, half of its squared norm.

    $$F + \gamma J^\top F, \qquad J^\top F = \nabla \tfrac12 \|F\|^2.$$

    On the game xy, $\rho = \sqrt{(1 - \eta\gamma)^2 + \eta^2}$. Codes that
    differentiate $\|F\|^2$ mean twice our weight by theirs. One vector-Jacobian
    product.

    Args:
        game_or_field: a game, or any field F.
        weight: gamma; .01 to 1 on small games, 10 with RMSProp for GANs.

    Returns:
        The field.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> field = gd.fields.consensus(gd.zero_sum(lambda x, y: x * y), 0.5)
        >>> [leaf.item() for leaf in field((jnp.array(2.0), jnp.array(4.0)))]
        [5.0, 0.0]

    References:
        Mescheder, Nowozin, Geiger, The numerics of GANs, 2017, arXiv:1705.10461.
    """
    return Partial(_consensus, as_field(game_or_field), weight)


def _consensus(field: Field, weight: Any, params: Params, batch: Batch = None):
    # J^T F, with the transpose: J F leads away from the solution of a bilinear game.
    direction, pull = jax.vjp(lambda z: field(z, batch), params)
    return add_scaled(direction, weight, pull(direction)[0])


def hamiltonian(game_or_field: Game | Field) -> Field:
    r"""Descend half of the gradient's squared norm, jointly.

    $$J^\top F = \nabla \tfrac12 \|F\|^2.$$

    On a bilinear game every mode contracts by $1 - \eta\sigma^2$. It is attracted by
    every zero of F, maxima included. One vector-Jacobian product.

    Args:
        game_or_field: a game, or any field F.

    Returns:
        The field.

    References:
        Abernethy, Lai, Wibisono, Last-iterate convergence rates for min-max
        optimization, 2019, arXiv:1906.02027.
    """
    return Partial(_hamiltonian, as_field(game_or_field))


def _hamiltonian(field: Field, params: Params, batch: Batch = None) -> Params:
    direction, pull = jax.vjp(lambda z: field(z, batch), params)
    return pull(direction)[0]


def symplectic(
    game_or_field: Game | Field, weight: Any = 1.0, *, alignment: Any = None
) -> Field:
    r"""Undo the rotation of the gradient: symplectic gradient adjustment (SGA).

    $$F + \lambda A^\top F, \qquad A^\top F = \tfrac12 (J^\top F - J F);$$

    with alignment, the sign of lambda is that of

    $$\langle F, J^\top F\rangle \langle A^\top F, J^\top F\rangle / d + \epsilon,$$

    d being the number of scalar parameters of all players. On the game xy with
    $\lambda = 1$, $\rho = \sqrt{(1-\eta)^2 + \eta^2}$. Without alignment it may
    converge to unstable points. In a zero-sum game of two A holds just the cross
    blocks, and two mixed Jacobian-vector products do (2.3 joint gradients in all); in
    other games, or with alignment, one product with J and one with its transpose.

    Args:
        game_or_field: a game, or any field F.
        weight: lambda, with alignment its absolute value.
        alignment: epsilon, .1 as published; `None` keeps the weight as it is. Near a
            zero of F any positive epsilon decides alone, and the sign is positive; with
            0 unstable points are left from nearby too, but the adjustment may vanish.

    Returns:
        The field.

    References:
        Balduzzi et al., The mechanics of n-player differentiable games, 2018,
        arXiv:1802.05642.
    """
    field = as_field(game_or_field)
    if alignment is not None:
        return Partial(_aligned, field, weight, alignment)
    if is_zero_sum(game_or_field):
        return Partial(_symplectic_zero_sum, field, weight)
    return Partial(_symplectic, field, weight)


def _symplectic_zero_sum(
    field: Field, weight: Any, params: Params, batch: Batch = None
) -> Params:
    direction = field(params, batch)
    turned = cross_jvp(field, params, direction, batch)  # A F = -A^T F
    return subtract(direction, scale(weight, turned))


def _symplectic(field: Field, weight: Any, params: Params, batch: Batch = None):
    direction, adjustment, _ = _parts(field, params, batch)
    return add_scaled(direction, weight, adjustment)


def _aligned(
    field: Field, weight: Any, alignment: Any, params: Params, batch: Batch = None
) -> Params:
    direction, adjustment, slope = _parts(field, params, batch)
    # All in units of their own: what is added overflows or vanishes only where it
    # outweighs the product, or is outweighed, whatever the digits.
    trees = direction, adjustment, slope
    units = tuple(map(unit, trees))
    a, b, c = map(resized, units, trees)
    product = inner(a, c) * inner(b, c) / size(params)
    bias = jnp.asarray(alignment, product.dtype)
    for by in (*units, units[2]):
        bias = bias * by
    sign = jnp.sign(product + bias)
    weight = sign * jnp.asarray(weight, sign.dtype)
    return add_scaled(direction, weight, adjustment)


def _parts(field: Field, params: Params, batch: Batch):
    """F, the adjustment (J^T F - J F)/2, and J^T F."""
    direction, pull = jax.vjp(lambda z: field(z, batch), params)
    slope = pull(direction)[0]
    turned = jvp(field, params, direction, batch)
    return direction, scale(0.5, subtract(slope, turned)), slope


# The registered fields.

register(
    "consensus",
    without_step(consensus),
    family="corrected by the Jacobian",
    summary="the gradient, and with it half of its squared norm",
    formula="F + g J'F, g = 1",
    source="Mescheder et al. 2017, arXiv:1705.10461",
    guarantee="for large g every zero of F with invertible J attracts",
    products=1,
    work=2.8,
    general=3.3,
)
register(
    "hamiltonian",
    without_step(hamiltonian),
    family="corrected by the Jacobian",
    summary="half of the gradient's squared norm, descended jointly",
    formula="J'F",
    source="Abernethy et al. 2019, arXiv:1906.02027",
    guarantee="linear where J is invertible throughout; attracted by maxima too",
    products=1,
    work=2.8,
    general=3.3,
)
register(
    "symplectic",
    without_step(symplectic),
    family="corrected by the Jacobian",
    summary="the gradient with its rotation undone (SGA)",
    formula="F + l A'F, A = (J - J')/2, l = 1",
    source="Balduzzi et al. 2018, arXiv:1802.05642",
    guarantee="zeros of F attract where S is positive; for a fixed l, some others too",
    products=2,
    work=2.3,
    general=4.35,
)
register(
    "symplectic_aligned",
    without_step(symplectic, alignment=0.1),
    family="corrected by the Jacobian",
    summary="the same, the adjustment's sign chosen to leave unstable points (SGA)",
    formula="F + l A'F, l = sign(<F,J'F><A'F,J'F>/d + .1)",
    source="Balduzzi et al. 2018, arXiv:1802.05642",
    guarantee="attracted by stable zeros of F; "
    "led away from unstable ones while F is large",
    products=2,
    work=4.2,
    general=4.35,
)
