"""From the picture's embedding, and the caption's words, to the picture, by diffusion.

As in DALL-E 2, the embedding is projected: into the vector of the time step, and into
tokens that stand beside those of the caption. In training each is put out at random, by
itself, so that one network knows all four conditionings, and guidance can push away
from the one without either.

References:
    A. Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents,
    2022, section 2.1. <https://arxiv.org/abs/2204.06125>
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import gamedyn as gd
from gamedyn import diffusion, nets
from gamedyn.nets import layers

from . import scenes
from .encoders import EMBEDDING

CHAIN = diffusion.schedules.linear(1000)
"""Noisier than the cosine one: in more than half of that one's steps the objects can be
read off the noisy picture, and nothing is left to learn from the caption."""

TOKENS = 4
"""Into how many tokens the embedding is projected."""

PREDICTION = "x0"
DROPPED_EMBEDDINGS, DROPPED_CAPTIONS = 0.1, 0.5

_KERNELS = jax.nn.initializers.lecun_normal()


class Condition(NamedTuple):
    """What the picture is to show; zeros stand for what is not told.

    Attributes:
        embedding: of the picture, unit vectors, (B, d).
        states: of the caption's words, (B, n, width).
    """

    embedding: jax.Array
    states: jax.Array


def decoder(
    *,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    patch: int = 4,
    embedding: int = EMBEDDING,
    states: int = 64,
) -> nets.Net:
    """Make the decoder: a diffusion transformer told the tokens of a condition.

    Args:
        width: of the transformer and of the tokens.
        depth: how many blocks.
        heads: of the attention.
        patch: rows and columns of a patch.
        embedding: entries d of the picture's embedding.
        states: entries of a word's state.

    Returns:
        The network: `apply(params, x, t, condition)`, x pictures of shape (B, 16, 16,
        3), t (B,), a `Condition`, to the prediction.
    """
    transformer = nets.dit(
        3,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        condition="tokens",
        condition_width=width,
    )

    def init(key: jax.Array) -> nets.net.Params:
        keys = iter(jax.random.split(key, 3))
        layer = layers.drawing(keys, _KERNELS, jnp.float32)
        return {
            "embedding": layer(embedding, TOKENS * width),
            "states": layer(states, width),
            "transformer": transformer.init(next(keys)),
        }

    def apply(
        params: nets.net.Params, x: jax.Array, t: jax.Array, condition: Condition
    ) -> jax.Array:
        root = math.sqrt(embedding)
        own = layers.dense(params["embedding"], root * condition.embedding)
        words = layers.dense(params["states"], condition.states)
        tokens = jnp.concatenate([own.reshape(len(x), TOKENS, width), words], axis=1)
        return transformer.apply(params["transformer"], x, t, tokens)

    return nets.from_function(init, apply)


def game(
    net: nets.Net, schedule: diffusion.schedules.Schedule | None = None
) -> gd.Game:
    """Make the game of one player who trains the decoder.

    Args:
        net: the decoder.
        schedule: the chain; by default `CHAIN`.

    Returns:
        The game; its batches are made by `batch`.
    """
    return diffusion.game(net, schedule or CHAIN, prediction=PREDICTION)


def batch(pictures: jax.Array, condition: Condition, key: jax.Array) -> diffusion.Batch:
    """Make a batch, some embeddings and some captions put out.

    Args:
        pictures: (B, 16, 16, 3), -1 to 1.
        condition: theirs.
        key: a PRNG key.

    Returns:
        The batch.
    """
    of_embeddings, of_captions, rest = jax.random.split(key, 3)
    number = len(pictures)
    told = jax.random.bernoulli(of_embeddings, 1 - DROPPED_EMBEDDINGS, (number, 1))
    read = jax.random.bernoulli(of_captions, 1 - DROPPED_CAPTIONS, (number, 1, 1))
    return diffusion.Batch(
        pictures,
        rest,
        Condition(
            jnp.where(told, condition.embedding, 0),
            jnp.where(read, condition.states, 0),
        ),
    )


def sample(
    net: nets.Net,
    params: Any,
    condition: Condition,
    key: jax.Array,
    sampler: diffusion.samplers.Sampler,
    guidance: Any,
) -> jax.Array:
    """Draw pictures.

    Args:
        net: the decoder.
        params: its parameters.
        condition: what they are to show, B of them.
        key: a PRNG key.
        sampler: of the chain that the decoder was trained on.
        guidance: w of guidance without a classifier, off at 0.

    Returns:
        Pictures, (B, 16, 16, 3), -1 to 1.
    """
    model = diffusion.guidance.classifier_free(
        lambda x, t, told: net.apply(params, x, t, told),
        condition,
        0.0,
        guidance=guidance,
        condition_dropout=DROPPED_EMBEDDINGS * DROPPED_CAPTIONS,
    )
    return diffusion.sample(
        key,
        model,
        sampler,
        (len(condition.embedding), scenes.SIZE, scenes.SIZE, 3),
        prediction=PREDICTION,
        clip=(-1.0, 1.0),
        dtype=condition.embedding.dtype,
    ).x
