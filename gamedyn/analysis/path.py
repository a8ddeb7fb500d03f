"""The path angle between the flow and the straight line from one point to another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.fields import Field, as_field
from gamedyn.game import Batch, Game, Params, check_params
from gamedyn.trees import inner, norm, resized, unit


class PathAngle(NamedTuple):
    """The flow seen along a straight line between two points.

    Attributes:
        positions: a, shape `(m,)`; 0 is the first point, 1 the second.
        cosines: between the line and the flow v = -F, shape `(m,)`: positive where the
            flow moves towards the second point; NaN where it vanishes.
        norms: |v|, shape `(m,)`.
        defined: whether the flow has a direction there, shape `(m,)`.
    """

    positions: jax.Array
    cosines: jax.Array
    norms: jax.Array
    defined: jax.Array


def path_angle(
    game_or_field: Game | Field,
    first: Params,
    second: Params,
    batch: Batch = None,
    *,
    positions: jax.Array | None = None,
) -> PathAngle:
    r"""Measure the angle between the flow and the straight line between two points.

    $$p(a) = w_0 + a (w_1 - w_0), \qquad
      c(a) = \frac{\langle w_1 - w_0, v(p(a)) \rangle}{|w_1 - w_0|\,|v(p(a))|},
      \qquad v = -F.$$

    Towards an equilibrium at a = 1, rotation alone shows as a bump, attraction alone as
    a switch of sign, both together as both. A plain traceable function: call it under
    `jax.jit`. The points on the line are evaluated one at a time.

    Args:
        game_or_field: a game, or any field F.
        first: w_0, one pytree per player.
        second: w_1, of the same structure, another point.
        batch: the batch of every evaluation.
        positions: a, shape `(m,)`; 100 points on [-0.1, 1.1] if `None`.

    Returns:
        Cosines and norms; where the flow vanishes, NaN and `defined` false.

    Raises:
        ValueError: if the structures of the points differ, or `positions` is no vector.
        TypeError: if a parameter is not a real floating-point number.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> from gamedyn.analysis import path_angle
        >>> game = gd.zero_sum(lambda x, y: x**2 / 2 + 2 * x * y - y**2 / 2)
        >>> one, zero = jnp.array(1.0), jnp.array(0.0)
        >>> angle = path_angle(game, (one, zero), (zero, zero))
        >>> print(f"{angle.cosines[0]:.4f}")
        0.4472

    References:
        Berard, Gidel, Almahairi, Vincent, Lacoste-Julien, "A closer look at the
        optimization landscapes of generative adversarial networks", 2019,
        arXiv:1906.04848.
    """
    check_params(first)
    check_params(second, len(first))
    field = as_field(game_or_field)
    first, second = (jax.tree.map(jnp.asarray, point) for point in (first, second))
    shapes = [jax.tree.map(jnp.shape, point) for point in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"the two points must have one structure, got {shapes[0]} and {shapes[1]}"
        )
    line = jax.tree.map(jnp.subtract, second, first)
    length = norm(line)
    line_unit = unit(line)
    in_units = resized(line_unit, line)
    if positions is None:
        positions = jnp.asarray(np.linspace(-0.1, 1.1, 100), length.dtype)
    positions = jnp.asarray(positions, length.dtype)
    if positions.ndim != 1:
        raise ValueError(f"positions must be a vector, got shape {positions.shape}")

    def at(a):
        # The end is taken itself, so that a flow that vanishes there vanishes exactly.
        point = jax.tree.map(
            lambda w0, w1, d: jnp.where(a == 1, w1, w0 + a.astype(d.dtype) * d),
            first,
            second,
            line,
        )
        flow = jax.tree.map(jnp.negative, field(point, batch))
        flow_unit = unit(flow)
        size = norm(flow)
        product = inner(in_units, resized(flow_unit, flow))
        return product, size, size * flow_unit

    products, norms, lengths = jax.lax.map(at, positions)
    defined = (norms > 0) & (length > 0)
    cosines = products / jnp.where(defined, lengths * (length * line_unit), 1)
    return PathAngle(positions, jnp.where(defined, cosines, jnp.nan), norms, defined)
