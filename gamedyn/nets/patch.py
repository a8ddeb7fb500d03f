"""The discriminator that judges patches of a picture, one by one."""

from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.convolutions import Impl, preferred_layout, swap_layout
from gamedyn.nets.net import Net, Params, check_choice
from gamedyn.nets.normalisation import (
    Normalise,
    group_norm,
    init_scale_and_shift,
    normalising,
    scale_and_shift,
)

_INITIALIZER = jax.nn.initializers.normal(0.02)
_MOST = 8  # channels never exceed 8 w


def patch_discriminator(
    *,
    channels: int = 3,
    width: int = 64,
    num_halvings: int = 3,
    norm: Literal["batch", "instance", "none"] = "batch",
    impl: Impl = "auto",
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a discriminator with a logit for each patch (PatchGAN).

    Convolutions of kernel 4 and padding 1: as many of stride 2 as there are halvings,
    to w, 2w, 4w, ... channels, one of stride 1 to twice as many again (at most 8 w in
    all), and one of stride 1 to the logits. LeakyReLU of slope .2 follows each but the
    last, normalisation comes between but for the first and the last. A logit sees

    | halvings | 1 | 2 | 3 |
    |---|---|---|---|
    | pixels, a square of | 16 | 34 | 70 |

    Losses take the map of logits as it is: means run over patches and examples alike.
    For pairs of pictures build it for the channels of both, and wrap it in
    `concatenate_condition`.

    Args:
        channels: of the pictures.
        width: w.
        num_halvings: how often rows and columns are halved.
        norm: "batch", "instance" or "none"; a gradient penalty excludes the first.
        impl: of the convolutions, see `convolve`.
        dtype: of the parameters.

    Returns:
        The network: pictures, (B, H, W, channels), of any size that leaves a logit, to
        logits, (B, H', W').

    Raises:
        ValueError: if an option is not one of those above, or pictures are too small or
            have another number of channels.

    Example:
        >>> net = patch_discriminator(channels=6, width=4)
        >>> params = jax.jit(net.init)(jax.random.key(0))
        >>> jax.jit(net.apply)(params, jnp.ones((2, 64, 64, 6), jnp.float32)).shape
        (2, 6, 6)

    References:
        P. Isola et al., Image-to-Image Translation with Conditional Adversarial
        Networks, 2017, appendix 6.1.2. <https://arxiv.org/abs/1611.07004>
    """
    for name, value in (
        ("channels", channels),
        ("width", width),
        ("num_halvings", num_halvings),
    ):
        check_positive_integer(name, value)
    check_choice("norm", norm, ("batch", "instance", "none"))
    widths = [width * min(2**i, _MOST) for i in range(num_halvings + 1)]
    last = len(widths)

    def normalised(i: int) -> bool:
        return norm != "none" and 0 < i < last

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 2 * last + 1))
        layer = layers.drawing(keys, _INITIALIZER, dtype)
        params: Params = {}
        for i, (before, after) in enumerate(pairwise([channels, *widths, 1])):
            params[f"conv{i}"] = layer(4, 4, before, after, bias=not normalised(i))
            if normalised(i):
                params[f"norm{i}"] = init_scale_and_shift(
                    after, key=next(keys), deviation=0.02, dtype=dtype
                )
        return params

    def forward(normalise: Normalise, params: Params, x: jax.Array) -> jax.Array:
        if x.ndim != 4 or x.shape[3] != channels:
            raise ValueError(
                f"expected pictures of shape (B, H, W, {channels}), got {x.shape}"
            )
        layout = preferred_layout(impl)
        axis = 0 if layout == "CHWN" else -1
        x = swap_layout(x) if layout == "CHWN" else x
        for i in range(last + 1):
            stride = 2 if i < num_halvings else 1
            x = layers.conv(
                params[f"conv{i}"],
                x,
                stride=stride,
                padding=1,
                impl=impl,
                layout=layout,
            )
            if norm == "batch" and normalised(i):
                x = normalise(f"norm{i}", x, axis, params[f"norm{i}"])
            elif normalised(i):
                y = group_norm(x, x.shape[axis], axis)
                x = scale_and_shift(params[f"norm{i}"], y, axis)
            x = x if i == last else jax.nn.leaky_relu(x, 0.2)
        return (swap_layout(x) if layout == "CHWN" else x)[..., 0]

    return normalising(init, forward, batch_norm=norm == "batch")
