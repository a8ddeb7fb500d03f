"""Attention between pixels, patches or tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gamedyn.nets import layers
from gamedyn.nets.linear import materialise
from gamedyn.nets.net import Params, at_least_float32


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    heads: int = 1,
    *,
    there: jax.Array | None = None,
) -> jax.Array:
    r"""Compute multi-head attention: averages of values, weighted by queries and keys.

    $$y = \text{softmax}(q k^T / \sqrt{d})\, v,$$

    d = C / heads, each head with its own d channels of the four. The softmax is taken
    in float32 at least.

    Args:
        q: queries, (B, n, C).
        k: keys, (B, m, C).
        v: values, (B, m, C).
        heads: number of heads, a divisor of C.
        there: mask of the keys, boolean, (B, m): true for the words of a text, false
            for padding. All true if `None`.

    Returns:
        The averages, (B, n, C).

    Raises:
        ValueError: if the number of channels is not divisible by `heads`.

    References:
        A. Vaswani et al., Attention Is All You Need, 2017.
        <https://arxiv.org/abs/1706.03762>
    """
    check_heads(q.shape[-1], heads)
    batch, inside = len(q), q.shape[-1] // heads

    def split(a: jax.Array) -> jax.Array:
        """Make every head an example of its own."""
        a = a.reshape(batch, -1, heads, inside).swapaxes(1, 2)
        return a.reshape(batch * heads, -1, inside)

    q, k, v = map(split, (q, k, v))
    # Queries are fewer numbers than scores.
    scores = at_least_float32(jnp.einsum("bnd,bmd->bnm", q * inside**-0.5, k))
    if there is not None:
        # The least number rather than minus infinity: no NaN where nothing is there.
        least = jnp.finfo(scores.dtype).min
        there = jnp.repeat(there, heads, axis=0)[:, None]
        scores = jnp.where(there, scores, least)
    y = materialise(_averages(scores, v))
    y = y.reshape(batch, heads, -1, inside).swapaxes(1, 2)
    return y.reshape(batch, -1, heads * inside)


@jax.custom_jvp
def _averages(scores: jax.Array, values: jax.Array) -> jax.Array:
    """Compute softmax(scores) values, (N, n, m) by (N, m, d)."""
    return _averages_and_weights(scores, values)[0]


@_averages.defjvp
def _averages_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # As dy = (e dv + e ds v - sum(e ds) y) / sum(e), whose transpose goes through the
    # weights once: its sum is one over channels of y, not over all weights.
    (scores, values), (moved_scores, moved_values) = primals, tangents
    y, weights, total = _averages_and_weights(scores, values)
    moved = weights * moved_scores
    change = jnp.sum(moved, -1, keepdims=True)
    top = weights.astype(y.dtype) @ moved_values + moved.astype(y.dtype) @ values
    rest = at_least_float32(top) - change * at_least_float32(y)
    return y, (rest / total).astype(y.dtype)


def _averages_and_weights(
    scores: jax.Array, values: jax.Array
) -> tuple[jax.Array, ...]:
    """Compute averages, their unnormalised weights, and the sums of these."""
    scores = materialise(scores)
    greatest = lax.stop_gradient(jnp.max(scores, -1, keepdims=True))
    weights = materialise(jnp.exp(scores - greatest))
    total = materialise(jnp.sum(weights, -1, keepdims=True))
    y = at_least_float32(weights.astype(values.dtype) @ values) / total
    return y.astype(values.dtype), weights, total


def init_attention(
    layer: Callable[..., Params],
    width: int,
    *,
    tokens: int | None = None,
    qkv: layers.Initializer | None = None,
    out: layers.Initializer | None = None,
) -> Params:
    """Draw the parameters of `attention`.

    Args:
        layer: draws a layer, see `layers.drawing`.
        width: C.
        tokens: entries of the tokens of a condition; `None`: there are none.
        qkv: the initializer of queries, keys and values; `None`: the network's.
        out: that of the last layer; `None`: the network's.

    Returns:
        A dict of `qkv`, (C, 3C), `out`, (C, C), and perhaps `tokens`, (tokens, 2C).
    """
    first = {} if qkv is None else {"initializer": qkv}
    last = {} if out is None else {"initializer": out}
    params = {
        "qkv": layer(width, 3 * width, **first),
        "out": layer(width, width, **last),
    }
    if tokens is not None:
        params["tokens"] = layer(tokens, 2 * width)
    return params


def attention(
    params: Params,
    x: jax.Array,
    *,
    heads: int = 1,
    tokens: Any = None,
    there: jax.Array | None = None,
    dense: Callable[..., jax.Array] = layers.dense,
) -> jax.Array:
    r"""Let every row of x attend to all rows, and to the tokens of a condition.

    $$q, k, v = x K + b, \qquad k', v' = c K' + b', \qquad
    y = \text{attend}(q, [k, k'], [v, v'])\, K'' + b''.$$

    Args:
        params: see `init_attention`.
        x: (B, n, C).
        heads: see `attend`.
        tokens: c, (B, m, tokens), if the parameters are for them.
        there: mask of rows and tokens, (B, n + m), see `attend`.
        dense: `dense(params, rows)`, what computes the affine functions.

    Returns:
        (B, n, C).

    References:
        A. Nichol et al., GLIDE: Towards Photorealistic Image Generation and Editing
        with Text-Guided Diffusion Models, 2021, for the keys of text beside those of
        pixels. <https://arxiv.org/abs/2112.10741>
    """
    q, k, v = jnp.split(dense(params["qkv"], x), 3, axis=-1)
    if "tokens" in params:
        more = dense(params["tokens"], tokens.astype(x.dtype))
        more_k, more_v = jnp.split(more, 2, axis=-1)
        k = jnp.concatenate([k, more_k], axis=1)
        v = jnp.concatenate([v, more_v], axis=1)
    return dense(params["out"], attend(q, k, v, heads, there=there))


def check_heads(width: int, heads: int) -> None:
    """Raise `ValueError` unless the number of channels is divisible by `heads`."""
    if heads < 1 or width % heads:
        raise ValueError(f"expected a divisor of {width} channels, got {heads} heads")
