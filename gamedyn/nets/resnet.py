"""Residual generator and discriminator of 32 x 32 pictures (SNGAN)."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.convolutions import Impl, Layout, preferred_layout, swap_layout
from gamedyn.nets.net import Net, Params, check_choice, check_num_classes
from gamedyn.nets.normalisation import (
    Normalise,
    init_scale_and_shift,
    normalising,
)
from gamedyn.nets.spectral import spectrally_normalised

_SIZE, _BASE = 32, 4
_PLAIN = jax.nn.initializers.glorot_uniform()
# Of the two convolutions of a block, as if drawn by the former times sqrt(2).
_RESIDUAL = jax.nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


def sngan_generator(
    *,
    channels: int = 3,
    latent: int = 128,
    width: int = 256,
    condition: Literal["batch_norm"] | None = None,
    num_classes: int | None = None,
    impl: Impl = "auto",
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make the residual generator of SNGAN for 32 x 32 pictures.

    A dense layer to 4 x 4 pixels, three blocks that each double rows and columns,

    $$x \to U x * K_s + (\rho(U \rho(x) * K_0)) * K_1, \qquad
    \rho = \text{ReLU} \circ \text{batch norm},$$

    U repeating pixels, K_s of 1 x 1 and the others of 3 x 3 pixels; then batch norm,
    ReLU, a 3 x 3 convolution and tanh. Kernels start as Glorot's uniform, those of the
    blocks' inner convolutions $\sqrt 2$ larger.

    Args:
        channels: of the pictures.
        latent: entries of z.
        width: channels inside.
        condition: "batch_norm" for scales and offsets for each class; `apply` then
            takes labels after z.
        num_classes: how many classes there are, with a condition.
        impl: of the convolutions, see `convolve`.
        dtype: of the parameters.

    Returns:
        The network: z, (B, latent), to pictures, (B, 32, 32, channels), in [-1, 1].

    Raises:
        ValueError: if an option is not one of those above, or condition and classes do
            not go together.

    References:
        T. Miyato et al., Spectral Normalization for Generative Adversarial Networks,
        2018, table 4. <https://arxiv.org/abs/1802.05957>
    """
    for name, value in (("channels", channels), ("latent", latent), ("width", width)):
        check_positive_integer(name, value)
    check_choice("condition", condition, (None, "batch_norm"))
    check_num_classes(condition, num_classes)
    blocks = int(math.log2(_SIZE // _BASE))

    def init_norm(classes: int | None = num_classes) -> Params:
        return init_scale_and_shift(width, num_classes=classes, dtype=dtype)

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 3 * blocks + 2))
        layer = layers.drawing(keys, _PLAIN, dtype)
        params = {"dense": layer(latent, _BASE * _BASE * width)}
        for i in range(blocks):
            params[f"block{i}"] = {
                "norm0": init_norm(),
                "conv0": layer(3, 3, width, width, initializer=_RESIDUAL),
                "norm1": init_norm(),
                "conv1": layer(3, 3, width, width, initializer=_RESIDUAL),
                "skip": layer(1, 1, width, width),
            }
        # The last one has no classes.
        params["norm"] = init_norm(None)
        params["conv"] = layer(3, 3, width, channels)
        return params

    def forward(
        normalise: Normalise, params: Params, z: jax.Array, labels: Any = None
    ) -> jax.Array:
        layers.check_labels(labels, num_classes, len(z))
        layout = preferred_layout(impl)
        axis, conv = layout.index("C"), _convolution(impl, layout)

        def activate(name: str, norm: Params, x: jax.Array, labels: Any) -> jax.Array:
            return jax.nn.relu(normalise(name, x, axis, norm, labels))

        shape = (_BASE, _BASE, width)
        x = layers.dense_to_picture(params["dense"], z, shape, layout)
        for i in range(blocks):
            block = params[f"block{i}"]
            y = activate(f"block{i}/norm0", block["norm0"], x, labels)
            y = conv(block["conv0"], layers.upsample(y))
            y = activate(f"block{i}/norm1", block["norm1"], y, labels)
            # A convolution of one pixel may as well come before the repetition.
            skip = layers.upsample(conv(block["skip"], x))
            x = skip + conv(block["conv1"], y)
        x = jnp.tanh(conv(params["conv"], activate("norm", params["norm"], x, None)))
        return swap_layout(x) if layout == "CHWN" else x

    return normalising(init, forward)


def sngan_discriminator(
    *,
    channels: int = 3,
    width: int = 128,
    condition: Literal["projection"] | None = None,
    num_classes: int | None = None,
    squarings: int | None = 8,
    impl: Impl = "auto",
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make the residual discriminator of SNGAN for 32 x 32 pictures.

    Four blocks, $x \to x + \rho(\rho(x) * K_0) * K_1$ with $\rho$ = ReLU (none at the
    input of the first), the first two followed by averages over 2 x 2 pixels and with a
    1 x 1 convolution of x; then ReLU, the sum h over all pixels, and a dense layer.
    Every kernel is divided by its spectral norm; for the hinge loss.

    Args:
        channels: of the pictures.
        width: channels inside.
        condition: "projection" adds $\langle e_y, h \rangle$ to the logit, e normalised
            too; `apply` then takes labels after the pictures.
        num_classes: how many classes there are, with a condition.
        squarings: of the power iteration, see `spectral_norm`.
        impl: of the convolutions, see `convolve`.
        dtype: of the parameters.

    Returns:
        The network: pictures, (B, 32, 32, channels), to logits, (B,).

    Raises:
        ValueError: if an option is not one of those above, or condition and classes do
            not go together.

    References:
        T. Miyato et al., Spectral Normalization for Generative Adversarial Networks,
        2018, table 4. <https://arxiv.org/abs/1802.05957>

        T. Miyato and M. Koyama, cGANs with Projection Discriminator, 2018.
        <https://arxiv.org/abs/1802.05637>
    """
    for name, value in (("channels", channels), ("width", width)):
        check_positive_integer(name, value)
    check_choice("condition", condition, (None, "projection"))
    check_num_classes(condition, num_classes)
    blocks, halved = 4, 2

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 2 * blocks + halved + 2))
        layer = layers.drawing(keys, _PLAIN, dtype)
        params: Params = {}
        for i in range(blocks):
            before = channels if i == 0 else width
            params[f"block{i}"] = {
                "conv0": layer(3, 3, before, width, initializer=_RESIDUAL),
                "conv1": layer(3, 3, width, width, initializer=_RESIDUAL),
            }
            if i < halved:
                params[f"block{i}"]["skip"] = layer(1, 1, before, width)
        params["dense"] = layer(width, 1)
        if num_classes is not None:
            params["classes"] = layer(num_classes, width, bias=False)
        return params

    def forward(_: Any, params: Params, x: jax.Array, labels: Any = None) -> jax.Array:
        layers.check_pictures(x, (_SIZE, _SIZE, channels))
        layers.check_labels(labels, num_classes, len(x))
        layout = preferred_layout(impl)
        conv = _convolution(impl, layout)
        x = swap_layout(x) if layout == "CHWN" else x
        for i in range(blocks):
            block = params[f"block{i}"]
            y = conv(block["conv0"], x if i == 0 else jax.nn.relu(x))
            y = conv(block["conv1"], jax.nn.relu(y))
            if i < halved:
                # As above: a convolution of one pixel commutes with the average.
                x = conv(block["skip"], layers.average_pool(x))
                y = layers.average_pool(y)
            x = x + y
        h = jnp.sum(jax.nn.relu(x), axis=(1, 2))
        h = h.T if layout == "CHWN" else h
        logits = layers.dense(params["dense"], h)[:, 0]
        if num_classes is not None:
            logits += jnp.sum(h * params["classes"]["kernel"][labels], axis=1)
        return logits

    net = normalising(init, forward, batch_norm=False)
    return spectrally_normalised(net, squarings=squarings)


def _convolution(impl: Impl, layout: Layout) -> Callable[..., jax.Array]:
    def conv(params: Params, x: jax.Array) -> jax.Array:
        padding = params["kernel"].shape[0] // 2
        return layers.conv(params, x, padding=padding, impl=impl, layout=layout)

    return conv
