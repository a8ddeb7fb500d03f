"""Transformers of patches for diffusion models (DiT)."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.attention import attention, check_heads, init_attention
from gamedyn.nets.embedding import Condition, embedding
from gamedyn.nets.net import Net, Params, from_function
from gamedyn.nets.normalisation import group_norm

_EPSILON = 1e-6
_FREQUENCIES = 256
# Of queries, keys and values as one kernel, too.
_PLAIN = jax.nn.initializers.glorot_uniform()
_SMALL = jax.nn.initializers.normal(0.02)
_ZEROS = jax.nn.initializers.zeros


def dit(
    channels: int = 4,
    *,
    patch: int = 2,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    expansion: int = 4,
    in_channels: int | None = None,
    learned_variance: bool = False,
    condition: Condition | None = None,
    num_classes: int | None = None,
    condition_width: int | None = None,
    time_scale: float = 1.0,
    unroll: int | bool = 1,
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a diffusion transformer with adaptive layer normalisation, by default S/2.

    Pictures become rows, one for each patch, plus fixed sines and cosines of its place;
    then blocks

    $$x \to x + g\, A((1 + s)\, N(x) + o), \qquad
    x \to x + g'\, M((1 + s')\, N(x) + o'),$$

    A attention, M a perceptron of one hidden layer with (the tanh form of) GELU, N
    layer normalisation without scale and offset, [o, s, g, o', s', g'] = K silu(e) + b,
    e = `embedding` of time and condition. At last rows become patches again, modulated
    by e too. The K of every block and of the end, and the last layer, start at 0
    (adaLN-Zero), so that every block starts as the identity and the first prediction
    is 0.

    | | patch | width | depth | heads | parameters |
    |---|---|---|---|---|---|
    | S/2 | 2 | 384 | 12 | 6 | 32 865 056 |
    | B/2 | 2 | 768 | 12 | 12 | 130 315 808 |
    | L/2 | 2 | 1024 | 24 | 16 | 457 840 672 |
    | XL/2 | 2 | 1152 | 28 | 16 | 674 834 720 |

    with 4 channels, `learned_variance` and 1000 classes, as in the paper.

    Args:
        channels: of the pictures predicted.
        patch: rows and columns of a patch.
        width: entries of a row.
        depth: number of blocks.
        heads: of the attention.
        expansion: width of the perceptron's hidden layer, in units of the width.
        in_channels: see `unet`.
        learned_variance: see `unet`.
        condition: see `unet`.
        num_classes: see `unet`.
        condition_width: see `unet`.
        time_scale: see `unet`.
        unroll: how many blocks are compiled one after the other, see `jax.lax.scan`:
            one block only, in a loop, compiles fastest.
        dtype: of the parameters.

    Returns:
        The network, like that of `unet`. H and W must be divisible by the patch.
        Parameters of the blocks have a leading axis for the depth.

    Raises:
        ValueError: if an option is not one of those above, the width is not a multiple
            of 4 and of the heads, or the condition's options do not go together.

    Example:
        >>> net = dit(1, width=16, depth=2, heads=2, condition="class", num_classes=3)
        >>> params = jax.jit(net.init)(jax.random.key(0))
        >>> x, t = jnp.ones((2, 4, 6, 1), jnp.float32), jnp.array([0, 999])
        >>> labels = jnp.array([1, 3])  # 3: the null class
        >>> jax.jit(net.apply)(params, x, t, labels).shape
        (2, 4, 6, 1)

    References:
        W. Peebles and S. Xie, Scalable Diffusion Models with Transformers, 2023.
        <https://arxiv.org/abs/2212.09748>
    """
    # Check the options.
    in_channels = channels if in_channels is None else in_channels
    for name, value in {
        "channels": channels,
        "patch": patch,
        "width": width,
        "depth": depth,
        "expansion": expansion,
        "in_channels": in_channels,
    }.items():
        check_positive_integer(name, value)
    check_heads(width, heads)
    if width % 4:
        raise ValueError(f"expected a width divisible by 4 for positions, got {width}")

    # The embedding of time and condition that every block reads.
    embed = embedding(
        _FREQUENCIES,
        width,
        condition=condition,
        num_classes=num_classes,
        condition_width=condition_width,
        time_scale=time_scale,
        endpoint=False,
        initializer=_SMALL,
        table=_SMALL,
    )
    tokens_width = condition_width if condition == "tokens" else None
    outputs = (1 + learned_variance) * channels

    # The parameters; those of all blocks are stacked, for one scan over them.
    def init_block(key: jax.Array) -> Params:
        layer = layers.drawing(_keys(key), _PLAIN, dtype)
        return {
            "modulation": layer(width, 6 * width, initializer=_ZEROS),
            "attention": init_attention(layer, width, tokens=tokens_width),
            "dense0": layer(width, expansion * width),
            "dense1": layer(expansion * width, width),
        }

    def init(key: jax.Array) -> Params:
        keys = _keys(key)
        layer = layers.drawing(keys, _PLAIN, dtype)
        return {
            "embedding": embed.init(layer),
            "stem": layer(patch * patch * in_channels, width),
            "blocks": jax.vmap(init_block)(jax.random.split(next(keys), depth)),
            "modulation": layer(width, 2 * width, initializer=_ZEROS),
            "dense": layer(width, patch * patch * outputs, initializer=_ZEROS),
        }

    # The network: patches to rows, the blocks, rows to patches.
    def apply(
        params: Params, x: jax.Array, t: jax.Array, condition: Any = None
    ) -> jax.Array:
        rows, columns = _grid(x, in_channels, patch)
        e = jax.nn.silu(embed.apply(params["embedding"], x, t, condition))
        tokens = condition if tokens_width else None

        def block(y: jax.Array, params: Params) -> tuple[jax.Array, None]:
            shift0, scale0, gate0, shift1, scale1, gate1 = _modulation(params, e, 6)
            z = _normalise(y) * (1 + scale0) + shift0
            y += gate0 * attention(params["attention"], z, heads=heads, tokens=tokens)
            z = _normalise(y) * (1 + scale1) + shift1
            z = jax.nn.gelu(layers.dense(params["dense0"], z))
            return y + gate1 * layers.dense(params["dense1"], z), None

        y = layers.dense(params["stem"], _patches(x, patch))
        y += jnp.asarray(positions(rows, columns, width), y.dtype)[None]
        y, _ = jax.lax.scan(block, y, params["blocks"], unroll=unroll)
        shift, scale = _modulation(params, e, 2)
        y = layers.dense(params["dense"], _normalise(y) * (1 + scale) + shift)
        y = y.reshape(-1, rows, columns, patch, patch, outputs)
        return y.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:3], outputs)

    return from_function(init, apply)


def positions(rows: int, columns: int, width: int) -> np.ndarray:
    r"""Embed the places of a grid by sines and cosines.

    $$p_{i,j} = [s(i), s(j)], \qquad
    s(i) = [\sin(\omega_k i), \cos(\omega_k i)]_{k < w/4}, \quad
    \omega_k = 10^{-16k/w}.$$

    Args:
        rows: of the grid.
        columns: of the grid.
        width: w, entries of p, divisible by 4.

    Returns:
        (rows columns, width), in float64.
    """
    omega = 1e4 ** -(np.arange(width // 4) / (width // 4))

    def embed(number: int) -> np.ndarray:
        angles = np.arange(number)[:, None] * omega[None]
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    place = np.zeros((rows, columns, width))
    place[..., : width // 2] = embed(rows)[:, None]
    place[..., width // 2 :] = embed(columns)[None]
    return place.reshape(rows * columns, width)


def _modulation(params: Params, e: jax.Array, number: int) -> list[jax.Array]:
    values = layers.dense(params["modulation"], e)[:, None]
    return jnp.split(values, number, axis=-1)


def _normalise(x: jax.Array) -> jax.Array:
    """Normalise every row by itself: examples of `group_norm` are rows here."""
    rows = x.reshape(-1, x.shape[-1])
    return group_norm(rows, 1, epsilon=_EPSILON).reshape(x.shape)


def _patches(x: jax.Array, patch: int) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def _grid(x: jax.Array, channels: int, patch: int) -> tuple[int, int]:
    fits = x.ndim == 4 and x.shape[3] == channels
    if not fits or x.shape[1] % patch or x.shape[2] % patch:
        raise ValueError(
            f"expected pictures of shape (B, H, W, {channels}) with H and W divisible "
            f"by {patch}, got {x.shape}"
        )
    return x.shape[1] // patch, x.shape[2] // patch


def _keys(key: jax.Array) -> Iterator[jax.Array]:
    return (jax.random.fold_in(key, i) for i in itertools.count())
