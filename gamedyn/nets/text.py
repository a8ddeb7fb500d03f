"""Transformers that encode short texts."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.attention import attention, check_heads, init_attention
from gamedyn.nets.net import Net, Params, from_function
from gamedyn.nets.normalisation import (
    group_norm,
    init_scale_and_shift,
    scale_and_shift,
)

_PLAIN = jax.nn.initializers.lecun_normal()
_ROWS = jax.nn.initializers.normal(0.5)


class Text(NamedTuple):
    """The output of a text encoder.

    Attributes:
        vector: of the whole text, (B, outputs).
        states: of its words, (B, n, width), zero at padding.
    """

    vector: jax.Array
    states: jax.Array


def text_encoder(
    vocabulary: int,
    length: int,
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    expansion: int = 4,
    outputs: int = 64,
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a small transformer of texts, whose words are given as integers.

    x is the sum of a word's vector and its place's; then blocks

    $$x \to x + A(N(x)), \qquad x \to x + M(N(x)),$$

    A attention among the words without padding, M a perceptron of one hidden layer with
    (the tanh form of) GELU, N layer normalisation. N(x) are the states of the words;
    their mean goes through a dense layer to the text's vector.

    Args:
        vocabulary: number of words, 0 included, which pads short texts: it is neither
            attended to nor averaged.
        length: n, numbers of a text.
        width: entries of x.
        depth: number of blocks.
        heads: of the attention, a divisor of the width.
        expansion: width of the perceptron's hidden layer, in units of the width.
        outputs: entries of the text's vector.
        dtype: of the parameters.

    Returns:
        The network: `apply(params, tokens)` takes numbers, (B, n), integers below the
        vocabulary, to `Text`.

    Raises:
        ValueError: if an option is not positive, or the heads do not divide the width.

    Example:
        >>> net = text_encoder(10, 4, width=8, heads=2, outputs=3)
        >>> params = jax.jit(net.init)(jax.random.key(0))
        >>> text = jax.jit(net.apply)(params, jnp.array([[5, 1, 0, 0], [1, 5, 3, 9]]))
        >>> text.vector.shape, text.states.shape, float(abs(text.states[0, 2:]).max())
        ((2, 3), (2, 4, 8), 0.0)

    References:
        A. Vaswani et al., Attention Is All You Need, 2017.
        <https://arxiv.org/abs/1706.03762>

        A. Radford et al., Learning Transferable Visual Models From Natural Language
        Supervision, 2021. <https://arxiv.org/abs/2103.00020>
    """
    for name, value in {
        "vocabulary": vocabulary,
        "length": length,
        "width": width,
        "depth": depth,
        "expansion": expansion,
        "outputs": outputs,
    }.items():
        check_positive_integer(name, value)
    check_heads(width, heads)

    def init(key: jax.Array) -> Params:
        keys = (jax.random.fold_in(key, i) for i in itertools.count())
        layer = layers.drawing(keys, _PLAIN, dtype)
        params = {
            "words": layer(vocabulary, width, bias=False, initializer=_ROWS),
            "places": layer(length, width, bias=False, initializer=_ROWS),
            "norm": init_scale_and_shift(width, dtype=dtype),
            "dense": layer(width, outputs),
        }
        for i in range(depth):
            params[f"block{i}"] = {
                "norm0": init_scale_and_shift(width, dtype=dtype),
                "attention": init_attention(layer, width),
                "norm1": init_scale_and_shift(width, dtype=dtype),
                "dense0": layer(width, expansion * width),
                "dense1": layer(expansion * width, width),
            }
        return params

    def apply(params: Params, tokens: jax.Array) -> Text:
        _check_tokens(tokens, length)
        there = tokens != 0
        words, places = (
            jnp.asarray(params[name]["kernel"]) for name in ("words", "places")
        )
        x = words[tokens] + places[None]
        for i in range(depth):
            block = params[f"block{i}"]
            y = _normalised(block["norm0"], x)
            x += attention(block["attention"], y, heads=heads, there=there)
            y = layers.dense(block["dense0"], _normalised(block["norm1"], x))
            x += layers.dense(block["dense1"], jax.nn.gelu(y))
        x = jnp.where(there[..., None], _normalised(params["norm"], x), 0)
        number = jnp.sum(there, axis=1, keepdims=True, dtype=x.dtype)
        mean = jnp.sum(x, axis=1) / jnp.maximum(number, 1)
        return Text(layers.dense(params["dense"], mean), x)

    return from_function(init, apply)


def _normalised(params: Params, x: jax.Array) -> jax.Array:
    """Normalise every word by itself: examples of `group_norm` are words here."""
    rows = x.reshape(-1, x.shape[-1])
    return scale_and_shift(params, group_norm(rows, 1)).reshape(x.shape)


def _check_tokens(tokens: jax.Array, length: int) -> None:
    if tokens.ndim != 2 or tokens.shape[1] != length:
        raise ValueError(f"expected tokens of shape (B, {length}), got {tokens.shape}")
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens are numbers of words, got {tokens.dtype}")
