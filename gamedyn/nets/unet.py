"""The U-Net of diffusion models."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.attention import attention, check_heads, init_attention
from gamedyn.nets.convolutions import Impl, Layout, preferred_layout, swap_layout
from gamedyn.nets.embedding import Condition, embedding
from gamedyn.nets.linear import materialise
from gamedyn.nets.net import Net, Params, check_choice, from_function
from gamedyn.nets.normalisation import init_scale_and_shift

_PLAIN = jax.nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
# Of queries, keys and values in one kernel, as if each were drawn by the former.
_THREE = jax.nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
_ZEROS = jax.nn.initializers.zeros


def unet(
    channels: int = 3,
    *,
    width: int = 128,
    multipliers: Sequence[int] = (1, 2, 2, 2),
    blocks: int = 2,
    attention_levels: Sequence[int] = (1,),
    heads: int = 1,
    groups: int = 32,
    modulation: Literal["shift", "scale_shift"] = "shift",
    in_channels: int | None = None,
    learned_variance: bool = False,
    condition: Condition | None = None,
    num_classes: int | None = None,
    condition_width: int | None = None,
    time_scale: float = 1.0,
    impl: Impl = "auto",
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make the U-Net of DDPM, by default that for CIFAR-10: 35 746 307 parameters.

    From level to level pictures halve, by convolutions of stride 2, and double again,
    by repetition and a convolution; a residual block on the way up takes what one on
    the way down has left, as further channels. A block is

    $$x \to S x + K_1 * \sigma(N_1(K_0 * \sigma(N_0(x)) + D e)),$$

    $\sigma$ = silu, N group normalisation with scale and offset, S a 1 x 1 convolution
    where channels change, e = $\sigma$(`embedding`) of time and condition. Attention
    between all pixels, x + attention(N(x)), follows every block of some levels, and
    stands between the two blocks in the middle. Kernels start by variance scaling
    (fan average, uniform), the last of every block, of attention and of the network at
    0, so that the first prediction is 0. There is no dropout.

    | pictures | width | multipliers | blocks | attention_levels | parameters |
    |---|---|---|---|---|---|
    | 32 x 32 x 3 | 128 | (1, 2, 2, 2) | 2 | (1,) | 35 746 307 |
    | 256 x 256 x 3 | 128 | (1, 1, 2, 2, 4, 4) | 2 | (4,) | 113 673 219 |
    | 28 x 28 x 1 | 64 | (1, 2, 2) | 2 | (1,) | 6 469 889 |
    | 28 x 28 x 1 | 32 | (1, 2, 2) | 2 | (1,) | 1 623 169 |
    | 28 x 28 x 1 | 16 | (1, 2, 2) | 1 | () | 267 313 |

    Args:
        channels: of the pictures predicted.
        width: channels on the first level.
        multipliers: channels of each level, in units of the width.
        blocks: residual blocks of a level on the way down; one more on the way up.
        attention_levels: levels with attention, 0 being that of the whole picture.
        heads: of the attention.
        groups: of the normalisations, a divisor of the width; 8 for narrow networks.
        modulation: "shift" as above, or "scale_shift": $(1 + s)\, N_1(\cdot) + o$ with
            [s, o] = D e (Improved DDPM).
        in_channels: of the input, if there are more than of the prediction: a picture
            as the condition, see `gamedyn.diffusion.guidance.concatenated`.
        learned_variance: whether to return twice the channels, the second half for the
            variance.
        condition: "class": labels, (B,) and integer, `num_classes` being the null
            class; "vector": vectors, (B, condition_width); "tokens": embedded text,
            (B, n, condition_width), whose mean joins the time and whose rows join the
            keys and values of every attention. `apply` then takes it after t.
        num_classes: how many classes there are but for the null class, with "class".
        condition_width: see `condition`.
        time_scale: what t is multiplied by: 1 if t counts steps, 0 to T - 1, 1000 if it
            lies in [0, 1] or is a quarter of the logarithm of a noise level.
        impl: of the convolutions, see `convolve`; here "auto" is "direct" on the CPU.
        dtype: of the parameters.

    Returns:
        The network: `apply(params, x, t, condition=None)` takes pictures, (B, H, W,
        in_channels), and times, (B,), integer or floating, to predictions, (B, H, W,
        channels). H and W must be divisible by 2 to the power of the levels less 1. In
        bfloat16, by `compute_in`, give times beyond 256 as integers.

    Raises:
        ValueError: if an option is not one of those above, channels do not come in
            groups or heads, or the condition's options do not go together.

    Example:
        >>> net = unet(1, width=8, multipliers=(1, 2), blocks=1, groups=4)
        >>> params = jax.jit(net.init)(jax.random.key(0))
        >>> x, t = jnp.ones((2, 6, 8, 1), jnp.float32), jnp.array([0, 999])
        >>> y = jax.jit(net.apply)(params, x, t)
        >>> y.shape, float(abs(y).max())
        ((2, 6, 8, 1), 0.0)

    References:
        J. Ho, A. Jain and P. Abbeel, Denoising Diffusion Probabilistic Models, 2020,
        appendix B. <https://arxiv.org/abs/2006.11239>

        A. Nichol and P. Dhariwal, Improved Denoising Diffusion Probabilistic Models,
        2021. <https://arxiv.org/abs/2102.09672>
    """
    # Check the options.
    in_channels = channels if in_channels is None else in_channels
    for name, value in {
        "channels": channels,
        "width": width,
        "blocks": blocks,
        "in_channels": in_channels,
    }.items():
        check_positive_integer(name, value)
    check_choice("modulation", modulation, ("shift", "scale_shift"))
    widths = _widths(width, multipliers)
    deepest = len(widths) - 1
    _check_levels(attention_levels, deepest)
    if groups < 1 or width % groups:
        raise ValueError(f"expected groups that divide the width {width}, got {groups}")
    for level in {*attention_levels, deepest}:
        check_heads(widths[level], heads)

    # The embedding of time and condition that every block reads.
    embed = embedding(
        width,
        4 * width,
        condition=condition,
        num_classes=num_classes,
        condition_width=condition_width,
        time_scale=time_scale,
    )
    tokens_width = condition_width if condition == "tokens" else None

    # The parameters, in the order of the network; `left` are the channels of what the
    # way down leaves for the way up.
    def init(key: jax.Array) -> Params:
        keys = (jax.random.fold_in(key, i) for i in itertools.count())
        layer = layers.drawing(keys, _PLAIN, dtype)

        def init_norm(channels: int) -> Params:
            return init_scale_and_shift(channels, dtype=dtype)

        def init_block(before: int, after: int) -> Params:
            params = {
                "norm0": init_norm(before),
                "conv0": layer(3, 3, before, after),
                "time": layer(4 * width, (2 if modulation != "shift" else 1) * after),
                "norm1": init_norm(after),
                "conv1": layer(3, 3, after, after, initializer=_ZEROS),
            }
            if before != after:
                params["skip"] = layer(1, 1, before, after)
            return params

        def init_attend(channels: int) -> Params:
            inner = init_attention(
                layer, channels, tokens=tokens_width, qkv=_THREE, out=_ZEROS
            )
            return {"norm": init_norm(channels), **inner}

        # The way down.
        params: Params = {
            "embedding": embed.init(layer),
            "stem": layer(3, 3, in_channels, width),
        }
        now, left = width, [width]
        for level, after in enumerate(widths):
            stage = params[f"down{level}"] = {}
            for i in range(blocks):
                stage[f"block{i}"] = init_block(now, after)
                if level in attention_levels:
                    stage[f"attention{i}"] = init_attend(after)
                now = after
                left.append(now)
            if level < deepest:
                stage["resize"] = layer(3, 3, now, now)
                left.append(now)

        # The middle and the way up, and the last layer.
        params["middle"] = {
            "block0": init_block(now, now),
            "attention0": init_attend(now),
            "block1": init_block(now, now),
        }
        for level, after in reversed([*enumerate(widths)]):
            stage = params[f"up{level}"] = {}
            for i in range(blocks + 1):
                stage[f"block{i}"] = init_block(now + left.pop(), after)
                if level in attention_levels:
                    stage[f"attention{i}"] = init_attend(after)
                now = after
            if level > 0:
                stage["resize"] = layer(3, 3, now, now)
        outputs = (1 + learned_variance) * channels
        params["norm"] = init_norm(now)
        params["conv"] = layer(3, 3, now, outputs, initializer=_ZEROS)
        return params

    # The network; `left` are the pictures that the way up takes again.
    def apply(
        params: Params, x: jax.Array, t: jax.Array, condition: Any = None
    ) -> jax.Array:
        _check_pictures(x, in_channels, 2**deepest)
        chosen = _chosen(impl)
        layout = preferred_layout(chosen)
        e = jax.nn.silu(embed.apply(params["embedding"], x, t, condition))
        tokens = condition if tokens_width else None
        conv, norm = _convolution(chosen, layout), _normalisation(groups, layout)

        def run(stage: Params, i: int, x: jax.Array) -> jax.Array:
            x = _block(stage[f"block{i}"], x, e, conv, norm, layout)
            name = f"attention{i}"
            if name not in stage:
                return x
            dense = layers.dense_of_rows if chosen == "direct" else layers.dense
            attend = partial(attention, heads=heads, tokens=tokens, dense=dense)
            return _attend(stage[name], x, norm, layout, attend)

        # The way down.
        x = swap_layout(x) if layout == "CHWN" else x
        x = conv(params["stem"], x)
        left = [x]
        for level in range(deepest + 1):
            stage = params[f"down{level}"]
            for i in range(blocks):
                x = run(stage, i, x)
                left.append(x)
            if level < deepest:
                x = conv(stage["resize"], x, stride=2)
                left.append(x)

        # The middle and the way up, and the last layer.
        x = run(params["middle"], 1, run(params["middle"], 0, x))
        for level in reversed(range(deepest + 1)):
            stage = params[f"up{level}"]
            for i in range(blocks + 1):
                joined = jnp.concatenate([x, left.pop()], axis=layout.index("C"))
                x = run(stage, i, materialise(joined))
            if level > 0:
                x = _upsample(stage["resize"], x, conv, chosen, layout)
        x = norm(params["norm"], x, activation=jax.nn.silu)
        x = conv(params["conv"], x)
        return swap_layout(x) if layout == "CHWN" else x

    return from_function(init, apply)


def _block(
    params: Params,
    x: jax.Array,
    e: jax.Array,
    conv: Callable[..., jax.Array],
    norm: Callable[..., jax.Array],
    layout: Layout,
) -> jax.Array:
    y = conv(params["conv0"], norm(params["norm0"], x, activation=jax.nn.silu))
    axis = layout.index("C")
    modulation = layers.dense(params["time"], e)
    options: dict[str, Any] = {"activation": jax.nn.silu}
    if modulation.shape[-1] == y.shape[axis]:
        everywhere = modulation.T if layout == "CHWN" else modulation
        y = materialise(y + layers.at_pixels(everywhere, y))
    else:
        options["modulation"] = jnp.split(modulation, 2, axis=-1)
    y = conv(params["conv1"], norm(params["norm1"], y, **options))
    return materialise(y + (conv(params["skip"], x) if "skip" in params else x))


def _attend(
    params: Params,
    x: jax.Array,
    norm: Callable[..., jax.Array],
    layout: Layout,
    attend: Callable[..., jax.Array],
) -> jax.Array:
    y = norm(params["norm"], x)
    y = swap_layout(y) if layout == "CHWN" else y
    batch, height, width, channels = y.shape
    rows = y.reshape(batch, height * width, channels)
    y = attend(params, rows).reshape(y.shape)
    return materialise(x + (swap_layout(y) if layout == "CHWN" else y))


def _upsample(
    params: Params,
    x: jax.Array,
    conv: Callable[..., jax.Array],
    impl: Impl,
    layout: Layout,
) -> jax.Array:
    # XLA's own transposed convolution multiplies by zeros; the others do not.
    if impl != "xla":
        return layers.conv_of_upsampled(params, x, impl=impl, layout=layout)
    return conv(params, layers.upsample(x))


def _chosen(impl: Impl) -> Impl:
    if impl != "auto":
        return impl
    return "direct" if jax.default_backend() == "cpu" else "xla"


def _convolution(impl: Impl, layout: Layout) -> Callable[..., jax.Array]:
    def conv(params: Params, x: jax.Array, stride: int = 1) -> jax.Array:
        window, _, inputs, outputs = params["kernel"].shape
        options = {"padding": window // 2, "impl": impl, "layout": layout}
        # One product and a scattering of its rows is the same as a gathering of rows
        # and one product, but its gradients, with respect to both arguments, gather the
        # same rows only once: half the time, unless the rows are many more.
        scatter = layout == "CHWN" and window == 3 and outputs <= 4 * inputs
        if scatter and stride == 1:
            return layers.conv_transposed(params, x, **options)
        return layers.conv(params, x, stride=stride, **options)

    return conv


def _normalisation(groups: int, layout: Layout) -> Callable[..., jax.Array]:
    axis = 0 if layout == "CHWN" else -1
    return partial(layers.group_norm, groups=groups, axis=axis)


def _widths(width: int, multipliers: Sequence[int]) -> list[int]:
    if not multipliers:
        raise ValueError("expected a multiplier for each level, got none")
    for multiplier in multipliers:
        check_positive_integer("every multiplier", multiplier)
    return [width * multiplier for multiplier in multipliers]


def _check_levels(levels: Sequence[int], deepest: int) -> None:
    known = range(deepest + 1)
    if any(level not in known for level in levels):
        raise ValueError(
            f"expected attention_levels from 0 to {deepest}, got {tuple(levels)}"
        )


def _check_pictures(x: jax.Array, channels: int, factor: int) -> None:
    if x.ndim != 4 or x.shape[3] != channels:
        raise ValueError(
            f"expected pictures of shape (B, H, W, {channels}), got {x.shape}"
        )
    if x.shape[1] % factor or x.shape[2] % factor:
        raise ValueError(
            f"expected rows and columns divisible by {factor}, since they are halved "
            f"from level to level, got {x.shape[1]} x {x.shape[2]}; pad the pictures "
            f"or leave a level out"
        )
