r"""Captions and pictures as points of one sphere: two encoders, trained by contrast.

B pairs of a caption and its picture have embeddings t_i and p_i of length 1. Each
caption is to find its picture among the B, and each picture its caption: the loss is
`gamedyn.divergences.info_nce`, one player's, in the parameters of both encoders and in
the logarithm of the scale.

References:
    A. Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, 2021. <https://arxiv.org/abs/2103.00020>
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import gamedyn as gd
from gamedyn import divergences, nets
from gamedyn.nets import layers
from gamedyn.nets.normalisation import (
    group_norm,
    init_scale_and_shift,
    scale_and_shift,
)
from gamedyn.nets.text import Text

from . import captions, scenes

EMBEDDING = 64
"""Entries of the embeddings."""

_LARGEST_SCALE = 100.0  # of e^s, and its start 1/.07, as in the paper
_FIRST_SCALE = 1 / 0.07
_KERNELS = jax.nn.initializers.lecun_normal()


class Pairs(NamedTuple):
    """Captions with their pictures.

    Attributes:
        tokens: words by number, (B, 8), int32.
        pictures: (B, 16, 16, 3), -1 to 1.
    """

    tokens: jax.Array
    pictures: jax.Array


class Encoders(NamedTuple):
    """Two networks that go together: their embeddings have the same size."""

    text: nets.Net
    picture: nets.Net

    def init(self, key: jax.Array, dtype: Any = jnp.float32) -> dict[str, Any]:
        """Draw the parameters of both, beside s, in one dict."""
        keys = jax.random.split(key)
        return {
            "text": self.text.init(keys[0]),
            "picture": self.picture.init(keys[1]),
            "log_scale": jnp.asarray(math.log(_FIRST_SCALE), dtype),
        }


def encoders(
    *, width: int = 64, depth: int = 2, embedding: int = EMBEDDING
) -> Encoders:
    """Make the two encoders of the experiment.

    Args:
        width: of the caption's transformer; channels of the largest pictures inside are
            half as many.
        depth: blocks of the transformer.
        embedding: entries of the embeddings.

    Returns:
        The networks: `nets.text_encoder` of captions, `picture_encoder`.
    """
    text = nets.text_encoder(
        len(captions.VOCABULARY),
        captions.LENGTH,
        width=width,
        depth=depth,
        outputs=embedding,
    )
    return Encoders(text, picture_encoder(width=width // 2, embedding=embedding))


def picture_encoder(
    *, width: int = 32, embedding: int = EMBEDDING, dtype: Any = jnp.float32
) -> nets.Net:
    """Make a small convolutional network of pictures.

    Three convolutions of 3 x 3 pixels to w, 2w and 2w channels, of stride 1, 2 and 2,
    each followed by group normalisation and swish; then, as it matters where things
    are, a dense layer of all the 4 x 4 pixels that are left, scaled to length 1.

    Args:
        width: w.
        embedding: entries of the result.
        dtype: of the parameters.

    Returns:
        The network: pictures, (B, 16, 16, 3), to unit vectors, (B, embedding).
    """
    widths, strides = (3, width, 2 * width, 2 * width), (1, 2, 2)
    pixels = (scenes.SIZE // 4) ** 2

    def init(key: jax.Array) -> nets.net.Params:
        layer = layers.drawing(iter(jax.random.split(key, 4)), _KERNELS, dtype)
        params = {}
        for i in range(3):
            params[f"conv{i}"] = layer(3, 3, widths[i], widths[i + 1], bias=False)
            params[f"norm{i}"] = init_scale_and_shift(widths[i + 1], dtype=dtype)
        params["output"] = layer(pixels * widths[-1], embedding)
        return params

    def apply(params: nets.net.Params, x: jax.Array) -> jax.Array:
        layers.check_pictures(x, (scenes.SIZE, scenes.SIZE, 3))
        layout = nets.preferred_layout()
        axis = layout.index("C") - (4 if layout == "NHWC" else 0)
        x = nets.swap_layout(x) if layout == "CHWN" else x
        for i, stride in enumerate(strides):
            x = layers.conv(
                params[f"conv{i}"], x, stride=stride, padding=1, layout=layout
            )
            x = group_norm(x, 4, axis)
            x = jax.nn.silu(scale_and_shift(params[f"norm{i}"], x, axis))
        return unit(layers.dense_of_picture(params["output"], x, layout))

    return nets.from_function(init, apply)


def encode_texts(both: Encoders, params: dict[str, Any], tokens: jax.Array) -> Text:
    """Embed captions.

    Args:
        both: the encoders.
        params: what `both.init` returns.
        tokens: words by number, (B, 8).

    Returns:
        Their unit vectors, (B, d), and the states of their words, (B, 8, width).
    """
    text = both.text.apply(params["text"], tokens)
    return text._replace(vector=unit(text.vector))


def encode_pictures(
    both: Encoders, params: dict[str, Any], pictures: jax.Array
) -> jax.Array:
    """Embed pictures, (B, 16, 16, 3), as unit vectors, (B, d)."""
    return both.picture.apply(params["picture"], pictures)


def game(both: Encoders) -> gd.Game:
    """Make the game of one player who trains both encoders.

    Args:
        both: the encoders.

    Returns:
        The game; its batch are `Pairs`, its parameters `(both.init(key),)`. e^s is at
        most 100.
    """

    def loss(params: dict[str, Any], batch: Pairs) -> jax.Array:
        texts = encode_texts(both, params, batch.tokens).vector
        pictures = encode_pictures(both, params, batch.pictures)
        scale = jnp.minimum(jnp.exp(params["log_scale"]), _LARGEST_SCALE)
        return divergences.info_nce(texts, pictures, scale)

    return gd.single_player(loss, stochastic=True)


def retrieval(texts: jax.Array, pictures: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Measure how often the nearest picture is the caption's own, and the reverse.

    Args:
        texts: unit vectors of the captions, (B, d), no two of which mean the same.
        pictures: unit vectors of their pictures.

    Returns:
        The two shares; 1/B by chance.
    """
    products = texts @ pictures.T
    own = jnp.arange(len(texts))
    of_texts, of_pictures = (
        jnp.mean(jnp.argmax(products, axis) == own) for axis in (1, 0)
    )
    return of_texts, of_pictures


def unit(x: jax.Array) -> jax.Array:
    """Scale vectors, (B, d), to length 1; those of length 0 stay."""
    squares = jnp.sum(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(squares + jnp.finfo(x.dtype).tiny)
