"""Deep convolutional generators and discriminators."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.convolutions import Impl, Layout, preferred_layout, swap_layout
from gamedyn.nets.net import Net, Params, check_choice, check_num_classes
from gamedyn.nets.normalisation import (
    Normalise,
    group_norm,
    init_scale_and_shift,
    normalising,
    scale_and_shift,
)
from gamedyn.nets.spectral import spectrally_normalised

Norm = Literal["batch", "layer", "none", "spectral"]
Size = Literal[8, 28, 32, 64]

# Rows of the generator's first picture, and how often its size doubles.
_STAGES = {8: (2, 2), 28: (7, 2), 32: (4, 3), 64: (4, 4)}
_INITIALIZER = jax.nn.initializers.normal(0.02)


def dcgan_generator(
    size: Size = 28,
    *,
    channels: int = 1,
    latent: int = 128,
    width: int = 64,
    condition: Literal["one_hot", "embedding", "batch_norm"] | None = None,
    num_classes: int | None = None,
    norm: Norm = "batch",
    bias: bool = True,
    impl: Impl = "auto",
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a generator of transposed convolutions.

    A dense layer, then transposed convolutions of kernel 4, stride 2, padding 1, with
    normalisation and ReLU between them and tanh at the end; w is the width:

    | size | pictures |
    |---|---|
    | 8 | 2 x 2 x 2w, 4 x 4 x w, 8 x 8 |
    | 28 | 7 x 7 x 2w, 14 x 14 x w, 28 x 28 |
    | 32 | 4 x 4 x 4w, 8 x 8 x 2w, 16 x 16 x w, 32 x 32 |
    | 64 | 4 x 4 x 8w, 8 x 8 x 4w, 16 x 16 x 2w, 32 x 32 x w, 64 x 64 |

    The paper's first layer, a transposed convolution of a 1 x 1 picture, is this dense
    layer. Kernels start at N(0, .02^2), scales at N(1, .02^2), the rest at 0.

    Args:
        size: rows and columns of the pictures.
        channels: of the pictures: 1 or 3, or any other number.
        latent: entries of z; 100 in the paper and in most code.
        width: w, channels of the last hidden layer.
        condition: how the class comes in: "one_hot" or "embedding" (as long as z)
            appended to z, or "batch_norm", with scales and offsets for each class.
            `apply` then takes labels after z.
        num_classes: how many classes there are, with a condition.
        norm: "batch"; "layer", which does not couple the examples; "none"; or
            "spectral", see `spectrally_normalised`.
        bias: whether layers have one where no normalisation follows. Without, the
            parameters are those of torch's example.
        impl: of the convolutions, see `convolve`.
        dtype: of the parameters.

    Returns:
        The network: z, (B, latent), to pictures, (B, size, size, channels), in [-1, 1].

    Raises:
        ValueError: if an option is not one of those above, or options do not go
            together.

    Example:
        >>> generator = dcgan_generator(8, latent=100)
        >>> params = jax.jit(generator.init)(jax.random.key(0))
        >>> jax.jit(generator.apply)(params, jnp.ones((2, 100), jnp.float32)).shape
        (2, 8, 8, 1)

    References:
        A. Radford, L. Metz and S. Chintala, Unsupervised Representation Learning with
        Deep Convolutional Generative Adversarial Networks, 2016.
        <https://arxiv.org/abs/1511.06434>
    """
    check_choice("condition", condition, (None, "one_hot", "embedding", "batch_norm"))
    base, stages = _check(size, channels, width, norm)
    check_positive_integer("latent", latent)
    check_num_classes(condition, num_classes)
    if condition == "batch_norm" and norm != "batch":
        raise ValueError(f"condition 'batch_norm' expected norm 'batch', got {norm!r}")
    widths = [width * 2**i for i in reversed(range(stages))]
    classes = num_classes or 0
    inputs = latent + {"one_hot": classes, "embedding": latent}.get(condition or "", 0)

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 2 * stages + 2))
        layer = layers.drawing(keys, _INITIALIZER, dtype)
        inner_bias = bias and not _has_offset(norm)
        params = {"dense": layer(inputs, base * base * widths[0], bias=inner_bias)}
        for i, (before, after) in enumerate(pairwise([*widths, channels])):
            if condition == "batch_norm":  # all classes start alike, at 1
                params[f"norm{i}"] = init_scale_and_shift(
                    before, num_classes=classes, dtype=dtype
                )
            elif _has_offset(norm):
                params[f"norm{i}"] = _init_norm(next(keys), before, dtype)
            last = i == stages - 1
            params[f"conv{i}"] = layer(
                4, 4, before, after, bias=bias if last else inner_bias
            )
        if condition == "embedding":
            params["classes"] = layer(classes, latent, bias=False)
        return params

    def forward(
        normalise: Normalise, params: Params, z: jax.Array, labels: Any = None
    ) -> jax.Array:
        layers.check_labels(labels, num_classes, len(z))
        layout = preferred_layout(impl)
        normal = _normalisation(norm, normalise, params, layout)
        norm_labels = labels if condition == "batch_norm" else None

        # Append the condition to the latents.
        if condition == "one_hot":
            z = layers.append_one_hot(z, labels, classes)
        elif condition == "embedding":
            embedded = params["classes"]["kernel"][labels]
            z = jnp.concatenate([z, embedded], axis=1)

        # Double the picture, stage by stage.
        shape = (base, base, widths[0])
        x = layers.dense_to_picture(params["dense"], z, shape, layout)
        for i in range(stages):
            x = jax.nn.relu(normal(f"norm{i}", x, norm_labels))
            x = layers.conv_transposed(
                params[f"conv{i}"], x, stride=2, padding=1, impl=impl, layout=layout
            )
        x = jnp.tanh(x)
        return swap_layout(x) if layout == "CHWN" else x

    net = normalising(init, forward, batch_norm=norm == "batch")
    return spectrally_normalised(net) if norm == "spectral" else net


def dcgan_discriminator(
    size: Size = 28,
    *,
    channels: int = 1,
    width: int = 64,
    condition: Literal["one_hot", "embedding", "projection", "auxiliary"] | None = None,
    num_classes: int | None = None,
    norm: Norm = "batch",
    bias: bool = True,
    impl: Impl = "auto",
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a discriminator of strided convolutions, the mirror of `dcgan_generator`.

    Convolutions of kernel 4, stride 2, padding 1 to w, 2w, ... channels, each followed
    by LeakyReLU of slope .2 and, but for the first, preceded in that by normalisation;
    a dense layer on the last picture h, of 2 x 2, 7 x 7, 4 x 4 or 4 x 4 pixels.

    Args:
        size: rows and columns of the pictures.
        channels: of the pictures; m times as many for packs of m.
        width: w.
        condition: how the class comes in: "one_hot", a plane of ones and planes of
            zeros as further channels; "embedding", one learned plane; "projection",
            which adds $\langle e_y, h \rangle$ to the logit; "auxiliary", which takes
            no labels but returns the classes' logits too.
        num_classes: how many classes there are, with a condition.
        norm: "batch", "layer", "none" or "spectral". A gradient penalty excludes the
            first.
        bias: as in `dcgan_generator`.
        impl: of the convolutions, see `convolve`.
        dtype: of the parameters.

    Returns:
        The network: pictures, (B, size, size, channels), to logits, (B,); with
        "auxiliary" to the pair of logits, (B,), and class logits, (B, num_classes);
        with another condition it takes labels after the pictures.

    Raises:
        ValueError: if an option is not one of those above, options do not go together,
            or pictures have another shape.

    References:
        A. Radford, L. Metz and S. Chintala, Unsupervised Representation Learning with
        Deep Convolutional Generative Adversarial Networks, 2016.
        <https://arxiv.org/abs/1511.06434>

        T. Miyato and M. Koyama, cGANs with Projection Discriminator, 2018.
        <https://arxiv.org/abs/1802.05637>

        A. Odena, C. Olah and J. Shlens, Conditional Image Synthesis with Auxiliary
        Classifier GANs, 2017. <https://arxiv.org/abs/1610.09585>
    """
    conditions = (None, "one_hot", "embedding", "projection", "auxiliary")
    check_choice("condition", condition, conditions)
    base, stages = _check(size, channels, width, norm)
    check_num_classes(condition, num_classes)
    widths = [width * 2**i for i in range(stages)]
    classes = num_classes or 0
    inputs = channels + {"one_hot": classes, "embedding": 1}.get(condition or "", 0)
    features = base * base * widths[-1]

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, 2 * stages + 2))
        layer = layers.drawing(keys, _INITIALIZER, dtype)
        inner_bias = bias and not _has_offset(norm)
        params = {}
        for i, (before, after) in enumerate(pairwise([inputs, *widths])):
            first = i == 0
            params[f"conv{i}"] = layer(
                4, 4, before, after, bias=bias if first else inner_bias
            )
            if _has_offset(norm) and not first:
                params[f"norm{i}"] = _init_norm(next(keys), after, dtype)
        params["dense"] = layer(features, 1, bias=bias)
        if condition == "auxiliary":
            params["classes"] = layer(features, classes, bias=bias)
        elif condition == "embedding":
            params["classes"] = layer(classes, size * size, bias=False)
        elif condition == "projection":
            params["classes"] = layer(classes, features, bias=False)
        return params

    def forward(
        normalise: Normalise, params: Params, x: jax.Array, labels: Any = None
    ) -> Any:
        layers.check_pictures(x, (size, size, channels))
        expected = None if condition == "auxiliary" else num_classes
        layers.check_labels(labels, expected, len(x))
        layout = preferred_layout(impl)
        normal = _normalisation(norm, normalise, params, layout)
        x = swap_layout(x) if layout == "CHWN" else x

        # Append the condition as further channels.
        if condition == "one_hot":
            vectors = jax.nn.one_hot(labels, classes, dtype=x.dtype)
            planes = layers.label_planes(vectors, (size, size), layout)
            x = jnp.concatenate([x, planes], axis=layout.index("C"))
        elif condition == "embedding":
            plane = params["classes"]["kernel"][labels].reshape(-1, size, size, 1)
            plane = swap_layout(plane) if layout == "CHWN" else plane
            x = jnp.concatenate([x, plane], axis=layout.index("C"))

        # Halve the picture, stage by stage.
        for i in range(stages):
            x = layers.conv(
                params[f"conv{i}"], x, stride=2, padding=1, impl=impl, layout=layout
            )
            x = jax.nn.leaky_relu(normal(f"norm{i}", x) if i else x, 0.2)

        # The logits, and those of the classes or what the class adds to them.
        logits = layers.dense_of_picture(params["dense"], x, layout)[:, 0]
        if condition == "auxiliary":
            return logits, layers.dense_of_picture(params["classes"], x, layout)
        if condition == "projection":
            # All classes' products cost less than gathering long vectors.
            by_class = {"kernel": params["classes"]["kernel"].T}
            products = layers.dense_of_picture(by_class, x, layout)
            logits += jnp.take_along_axis(products, labels[:, None], axis=1)[:, 0]
        return logits

    net = normalising(init, forward, batch_norm=norm == "batch")
    return spectrally_normalised(net) if norm == "spectral" else net


def _check(size: int, channels: int, width: int, norm: str) -> tuple[int, int]:
    if size not in _STAGES:
        known = ", ".join(map(str, _STAGES))
        raise ValueError(f"size must be one of {known}, got {size!r}")
    check_positive_integer("channels", channels)
    check_positive_integer("width", width)
    check_choice("norm", norm, ("batch", "layer", "none", "spectral"))
    return _STAGES[size]


def _has_offset(norm: str) -> bool:
    return norm in ("batch", "layer")


def _init_norm(key: jax.Array, channels: int, dtype: Any) -> Params:
    return init_scale_and_shift(channels, key=key, deviation=0.02, dtype=dtype)


def _normalisation(
    norm: str, normalise: Normalise, params: Params, layout: Layout
) -> Callable[..., jax.Array]:
    axis = 0 if layout == "CHWN" else -1

    def normal(name: str, x: jax.Array, labels: Any = None) -> jax.Array:
        if norm == "batch":
            return normalise(name, x, axis, params[name], labels)
        if not _has_offset(norm):
            return x
        return scale_and_shift(params[name], group_norm(x, 1, axis), axis)

    return normal
