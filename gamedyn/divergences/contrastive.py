"""The contrastive loss of matched pairs."""

from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.divergences.checks import floating


def info_nce(x: Any, y: Any, scale: Any) -> jax.Array:
    r"""Compute the contrastive loss of B pairs of vectors, in both directions.

    Each $x_i$ is to find its $y_i$ among the B, and each $y_i$ its $x_i$:

    $$L = -\frac1{2B} \sum_i \left( \log \frac{e^{l_{ii}}}{\sum_j e^{l_{ij}}}
    + \log \frac{e^{l_{ii}}}{\sum_j e^{l_{ji}}} \right), \qquad
    l_{ij} = s \langle x_i, y_j \rangle .$$

    In expectation $\log B - L$ is a lower bound of the mutual information of x and y,
    at most $\log B$ nats; $L = \log B$ where all products are equal.

    Args:
        x: vectors, (B, d), of length 1 where the products are to be cosines.
        y: their partners, row by row, (B, d).
        scale: s, a scalar: the inverse temperature.

    Returns:
        The loss in nats, a scalar.

    Raises:
        TypeError: if a dtype is not real and floating, or two differ.
        ValueError: if x and y are not of one shape (B, d), or the scale is no scalar.

    Example:
        >>> float(info_nce(jnp.eye(4), jnp.eye(4), 0.0))  # log 4
        1.386...
        >>> float(info_nce(jnp.eye(4), jnp.eye(4), 50.0)) < 1e-6
        True

    References:
        A. van den Oord, Y. Li and O. Vinyals, Representation Learning with Contrastive
        Predictive Coding, 2018. <https://arxiv.org/abs/1807.03748>

        A. Radford et al., Learning Transferable Visual Models From Natural Language
        Supervision, 2021. <https://arxiv.org/abs/2103.00020>
    """
    x, y = floating(x=x, y=y)
    scale = jnp.asarray(scale, x.dtype)
    if x.ndim != 2 or x.shape != y.shape or 0 in x.shape:
        raise ValueError(
            f"expected x and y of one shape (B, d), got {x.shape}, {y.shape}"
        )
    if scale.ndim:
        raise ValueError(f"expected a scalar for the scale, got shape {scale.shape}")
    logits = scale * (x @ y.T)
    of_x, of_y = (jax.nn.logsumexp(logits, axis=axis) for axis in (1, 0))
    return jnp.mean((of_x + of_y) / 2 - jnp.diagonal(logits))
