"""Gradients of a discriminator's logits in its inputs, and their norms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.divergences import checks

Discriminator = Callable[[Any, jax.Array], jax.Array]


def input_gradients(
    discriminator: Discriminator, params: Any, points: Any
) -> jax.Array:
    r"""Compute the gradient of every example's logit with respect to the example.

    $$g_i = \nabla_{x_i} \sum_j D(x_j),$$

    one reverse pass, right as long as $D(x_j)$ depends on no other example.

    Args:
        discriminator: `discriminator(params, x)` returns logits, shape (B, ...).
        params: its parameters.
        points: the examples, shape (B, ...).

    Returns:
        The gradients, same shape.

    Raises:
        ValueError: if there is no example, or the logits are not one batch of the same
            length.
        TypeError: if the examples are not floating-point.
    """
    (points,) = checks.floating(points=points)
    check_batch(points)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(logits_of(discriminator, params, x))

    return jax.grad(total)(points)


def norm(values: jax.Array) -> jax.Array:
    r"""Compute each example's Euclidean norm, differentiable twice also at zero.

    $$n_i = \Big(\sum_{a} g_{ia}^2\Big)^{1/2}$$

    over all axes but the first. Nothing is added under the root, so values are exact.
    At zero the derivatives are taken as 0; sums of squares below $t^{2/3}$, t the
    smallest normal number of the dtype, count as zero (norms below 2.3e-13 in float32,
    1.3e-103 in float64), as the root's second derivative would overflow.

    Args:
        values: shape (B, ...).

    Returns:
        The norms, shape (B,).
    """
    squares = squared_norm(values)
    positive = squares > float(jnp.finfo(squares.dtype).tiny) ** (2 / 3)
    # Two selections: the root's derivative is never taken at zero.
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def squared_norm(values: jax.Array) -> jax.Array:
    r"""Compute each example's squared norm, $\sum_a g_{ia}^2$.

    Args:
        values: shape (B, ...).

    Returns:
        The squares, shape (B,).
    """
    return jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)))


def interpolate(key: jax.Array, real: Any, fake: Any) -> jax.Array:
    r"""Draw a point on the segment between each real example and its fake.

    $$\hat x_i = a_i x_i + (1 - a_i) \tilde x_i, \qquad a_i \sim U[0, 1),$$

    one a for each example, shared by all its entries.

    Args:
        key: a PRNG key.
        real: shape (B, ...).
        fake: same shape and dtype.

    Returns:
        The points, same shape.

    Raises:
        ValueError: if the shapes differ or hold no example.
        TypeError: if the dtypes differ or are not floating-point.
    """
    real, fake = checks.floating(real=real, fake=fake)
    checks.same_shape(real=real, fake=fake)
    check_batch(real)
    shape = (real.shape[0],) + (1,) * (real.ndim - 1)
    share = jax.random.uniform(key, shape, real.dtype)
    return share * real + (1 - share) * fake


def logits_of(discriminator: Discriminator, params: Any, x: jax.Array) -> jax.Array:
    """Evaluate the discriminator, `ValueError` if it returns no batch like x."""
    logits = jnp.asarray(discriminator(params, x))
    if logits.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"the discriminator must return one logit (or more) per example, "
            f"shape ({x.shape[0]}, ...), got shape {logits.shape}"
        )
    return logits


def check_batch(points: jax.Array) -> None:
    """Raise `ValueError` if there is no example."""
    if points.ndim == 0 or points.size == 0:
        raise ValueError(
            f"expected a batch of examples, shape (B, ...) with B >= 1, "
            f"got shape {points.shape}"
        )
