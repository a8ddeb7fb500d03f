r"""From the caption's embedding to the picture's, by diffusion.

Many pictures fit a caption, and the contrast puts the two embeddings near one another
only. The prior draws the picture's from its law given the caption's: a chain of vectors
$x_t = a_t \sqrt d\, p + s_t \epsilon$, p of length 1 in $R^d$, with a network that
predicts the data, trained by the mean squared error.

References:
    A. Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents,
    2022, section 2.2. <https://arxiv.org/abs/2204.06125>
"""

import math

import jax
import jax.numpy as jnp

import gamedyn as gd
from gamedyn import diffusion, nets

from .encoders import EMBEDDING, unit

CHAIN = diffusion.schedules.cosine(1000)


def prior(*, embedding: int = EMBEDDING, width: int = 256, depth: int = 3) -> nets.Net:
    """Make the network of the prior: `nets.point_mlp` of x, t and the condition.

    Args:
        embedding: entries d of both embeddings.
        width: of its hidden layers.
        depth: how many there are.

    Returns:
        The network: `apply(params, x, t, condition)`, x of shape (B, d), t (B,), the
        captions' embeddings (B, d), scaled as x is, to the data predicted.
    """
    return nets.point_mlp(
        embedding,
        widths=depth * (width,),
        condition="vector",
        condition_width=embedding,
    )


def game(
    net: nets.Net, schedule: diffusion.schedules.Schedule | None = None
) -> gd.Game:
    """Make the game of one player who trains the prior.

    Args:
        net: the prior's network.
        schedule: the chain; by default `CHAIN`.

    Returns:
        The game; its batches are made by `batch`.
    """
    return diffusion.game(net, schedule or CHAIN, prediction="x0")


def batch(texts: jax.Array, pictures: jax.Array, key: jax.Array) -> diffusion.Batch:
    """Make a batch of both embeddings, unit vectors of shape (B, d)."""
    root = math.sqrt(texts.shape[1])
    return diffusion.Batch(root * pictures, key, root * texts)


def sample(
    net: nets.Net,
    params: nets.net.Params,
    texts: jax.Array,
    key: jax.Array,
    sampler: diffusion.samplers.Sampler,
    *,
    draws: int = 2,
) -> jax.Array:
    """Draw pictures' embeddings for captions' ones.

    Args:
        net: the prior's network.
        params: its parameters.
        texts: unit vectors, (B, d).
        key: a PRNG key.
        sampler: of the chain that the prior was trained on.
        draws: for each caption; the one nearest to it is kept, as in the paper.

    Returns:
        Unit vectors, (B, d).

    Raises:
        ValueError: if there is no draw.
    """
    if draws < 1:
        raise ValueError(f"expected at least one draw, got {draws}")
    several = math.sqrt(texts.shape[1]) * jnp.repeat(texts, draws, axis=0)
    drawn = diffusion.sample(
        key,
        lambda x, t: net.apply(params, x, t, several),
        sampler,
        several.shape,
        prediction="x0",
        dtype=texts.dtype,
    )
    candidates = unit(drawn.x).reshape(len(texts), draws, -1)
    products = jnp.einsum("bd,bnd->bn", texts, candidates)
    best = jnp.argmax(products, axis=1)
    return jnp.take_along_axis(candidates, best[:, None, None], axis=1)[:, 0]
