"""Layers as pure functions of plain dicts, with the functions that initialise them.

Pictures are NHWC or CHWN here: a network chooses the layout once, by
`preferred_layout`, and its parameters are the same in either. `kernel` has its outputs
on the last axis, `bias` is there or not.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.nets.convolutions import Layout, convolve, convolve_transposed, swap_layout
from gamedyn.nets.linear import materialise, transposes
from gamedyn.nets.net import Params, at_least_float32

Initializer = Callable[..., jax.Array]


def init_layer(
    key: jax.Array,
    shape: Sequence[int],
    *,
    initializer: Initializer,
    bias: bool = True,
    dtype: Any = jnp.float32,
) -> Params:
    """Draw a kernel, and set a bias to 0.

    Args:
        key: a PRNG key.
        shape: of the kernel: (inputs, outputs), or (kh, kw, inputs, outputs).
        initializer: `initializer(key, shape, dtype)`, as in `jax.nn.initializers`. It
            draws in float32, so that networks of any dtype start from one point.
        bias: whether there is a bias; without use in front of a normalisation.
        dtype: of the parameters.

    Returns:
        A dict of `kernel` and, if wanted, `bias`.
    """
    params = {"kernel": initializer(key, tuple(shape), jnp.float32).astype(dtype)}
    if bias:
        params["bias"] = jnp.zeros(shape[-1], dtype)
    return params


def drawing(
    keys: Iterator[jax.Array], initializer: Initializer, dtype: Any
) -> Callable[..., Params]:
    """Fix what the layers of a network have in common.

    Args:
        keys: PRNG keys, one taken for each layer.
        initializer: see `init_layer`.
        dtype: of the parameters.

    Returns:
        `layer(*shape, bias=True, initializer=initializer)`, which draws the next layer
        as `init_layer` does.
    """

    def layer(
        *shape: int, bias: bool = True, initializer: Initializer = initializer
    ) -> Params:
        return init_layer(
            next(keys), shape, initializer=initializer, bias=bias, dtype=dtype
        )

    return layer


def dense(params: Params, x: jax.Array) -> jax.Array:
    """Compute x K + b, for x of shape (B, ..., inputs)."""
    y = x @ params["kernel"]
    if "bias" not in params:
        return y
    return y + params["bias"].reshape(*(1,) * (y.ndim - 1), -1)


def dense_of_rows(params: Params, x: jax.Array) -> jax.Array:
    """Compute x K + b for x of shape (B, n, inputs), by a convolution.

    On the CPU the gradient of its kernel does not transpose all rows first, as that of
    `dense` does.
    """
    pointwise = {**params, "kernel": params["kernel"][None, None]}
    return conv(pointwise, x[:, :, None], impl="direct")[:, :, 0]


def dense_to_picture(
    params: Params, x: jax.Array, shape: Sequence[int], layout: Layout = "NHWC"
) -> jax.Array:
    """Compute x K + b as pictures, without a detour over another layout.

    Args:
        params: a kernel (inputs, H W C), its columns in the order of NHWC.
        x: vectors, (B, inputs).
        shape: of a picture, (H, W, C).
        layout: of the result.

    Returns:
        The pictures.
    """
    if layout == "NHWC":
        y = (x @ params["kernel"]).reshape(-1, *shape)
    else:
        # Moving channels to the front moves whole batches, contiguous here.
        y = params["kernel"].T @ x.T
        y = y.reshape(*shape, -1).transpose(2, 0, 1, 3)
    if "bias" not in params:
        return y
    bias = params["bias"].reshape(1, *shape)
    return y + (bias if layout == "NHWC" else swap_layout(bias))


def dense_of_picture(
    params: Params, x: jax.Array, layout: Layout = "NHWC"
) -> jax.Array:
    """Compute x K + b of flattened pictures, without a detour over another layout.

    Args:
        params: a kernel (H W C, outputs), its rows in the order of NHWC.
        x: the pictures.
        layout: theirs.

    Returns:
        Vectors, (B, outputs).
    """
    kernel = params["kernel"]
    if layout == "NHWC":
        y = x.reshape(len(x), -1) @ kernel
    else:
        channels, height, width, batch = x.shape
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
        y = (kernel.reshape(-1, kernel.shape[-1]).T @ x.reshape(-1, batch)).T
    return y + params["bias"][None] if "bias" in params else y


def conv(params: Params, x: jax.Array, **options: Any) -> jax.Array:
    """Convolve and add the bias; options are those of `convolve`."""
    return _add_bias(params, convolve(x, params["kernel"], **options), options)


def conv_transposed(params: Params, x: jax.Array, **options: Any) -> jax.Array:
    """Convolve transposed and add the bias; options are `convolve_transposed`'s."""
    y = convolve_transposed(x, params["kernel"], **options)
    return _add_bias(params, y, options)


def maxout(params: Params, x: jax.Array, pieces: int) -> jax.Array:
    r"""Take the largest of several affine functions for every unit.

    $$y_u = \max_{j} (x K + b)_{u,j}.$$

    Args:
        params: a dense layer with units times pieces outputs, pieces running faster.
        x: vectors, (B, inputs).
        pieces: how many functions there are for a unit.

    Returns:
        Vectors, (B, units).

    References:
        I. Goodfellow et al., Maxout Networks, 2013. <https://arxiv.org/abs/1302.4389>
    """
    y = dense(params, x)
    return jnp.max(y.reshape(len(x), -1, pieces), axis=-1)


def group_norm(
    params: Params,
    x: jax.Array,
    groups: int,
    axis: int = -1,
    *,
    epsilon: float = 1e-6,
    modulation: tuple[jax.Array, jax.Array] | None = None,
    activation: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    r"""Standardise pictures in groups of channels, scale and shift, and activate.

    $$y_{b,c} = f\big((1 + s_{b,c})\, (\gamma_c (x_{b,c} - \mu_{b,g}) /
    \sqrt{\sigma_{b,g}^2 + \epsilon} + \beta_c) + o_{b,c}\big), \qquad
    \mu_{b,g} = E_c\, \mu_{b,c}, \quad
    \sigma_{b,g}^2 = E_c\, \sigma_{b,c}^2 + \mathrm{Var}_c\, \mu_{b,c},$$

    the moments of every channel joined to those of its group g, in float32 at least.
    These are the numbers of `normalisation.group_norm`, `scale_and_shift` and f, but
    what is done with every pixel is one product, one sum and f, and the gradient reads
    every picture as few times as it can.

    Args:
        params: `scale` and `offset`, each (C,).
        x: pictures, NHWC or CHWN.
        groups: number of groups, a divisor of C.
        axis: that of the channels, 0 or -1.
        epsilon: added to the variance; 1e-6 in DDPM.
        modulation: s and o of every example, each (B, C); `None`: both are 0.
        activation: f, for every number by itself; `None`: the identity.

    Returns:
        The same shape and dtype.

    Raises:
        ValueError: if the number of channels is not divisible by `groups`.

    References:
        Y. Wu and K. He, Group Normalization, 2018. <https://arxiv.org/abs/1803.08494>
    """
    if groups < 1 or x.shape[axis] % groups:
        raise ValueError(
            f"expected a divisor of {x.shape[axis]} channels, got {groups}"
        )
    y = at_least_float32(x)
    mean, variance = _moments(y)
    # Everything from here to the last line is small.
    scale, offset = (
        params[name].astype(y.dtype).reshape((-1, 1) if axis == 0 else (1, -1))
        for name in ("scale", "offset")
    )
    if axis == 0:
        grouped, over = (groups, -1, mean.shape[1]), 1
    else:
        grouped, over = (mean.shape[0], groups, -1), 2
    means, variances = mean.reshape(grouped), variance.reshape(grouped)
    center = jnp.mean(means, over, keepdims=True)
    spread = jnp.mean(variances + (means - center) ** 2, over, keepdims=True)
    # Else XLA rewrites this for the gradient, and no longer sees that a forward pass
    # beside it is the same.
    spread = materialise(spread + epsilon)
    factor = jnp.broadcast_to(jax.lax.rsqrt(spread), means.shape)
    factor = scale * factor.reshape(mean.shape)
    center = jnp.broadcast_to(center, means.shape).reshape(mean.shape)
    shift = offset - center * factor
    if modulation is not None:
        more, moved = ((a.T if axis == 0 else a).astype(y.dtype) for a in modulation)
        factor, shift = factor * (1 + more), shift * (1 + more) + moved
    return _activated(activation, y, factor, shift).astype(x.dtype)


@jax.custom_jvp
def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute mean and variance over pixels, in either layout."""
    pixels = x.shape[1] * x.shape[2]
    mean = sum_pixels(x) / pixels
    return mean, sum_pixels((x - at_pixels(mean, x)) ** 2) / pixels


@_moments.defjvp
def _moments_jvp(primals: Any, tangents: Any) -> Any:
    # That the sum of all deviations is 0 is not seen by automatic differentiation.
    (x,), (moved,) = primals, tangents
    pixels = x.shape[1] * x.shape[2]
    mean, variance = _moments(x)
    deviation = x - at_pixels(mean, x)
    changes = sum_pixels(moved), 2 * sum_pixels(deviation * moved)
    return (mean, variance), tuple(change / pixels for change in changes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _activated(
    activation: Callable[[jax.Array], jax.Array] | None,
    x: jax.Array,
    factor: jax.Array,
    shift: jax.Array,
) -> jax.Array:
    """Compute f(x a + b), a and b being the same at all pixels."""
    y = x * at_pixels(factor, x) + at_pixels(shift, x)
    return y if activation is None else activation(y)


@_activated.defjvp
def _activated_jvp(activation: Any, primals: Any, tangents: Any) -> Any:
    x, factor, shift = primals
    moved_x, moved_factor, moved_shift = tangents
    wide = at_pixels(factor, x)
    moved = moved_x * wide + x * at_pixels(moved_factor, x)
    moved += at_pixels(moved_shift, x)
    if activation is not None:
        # The cotangent of `moved` is read by three sums. With a copy of x that XLA
        # does not know to be one, the slope is computed when it is needed, not kept.
        again = materialise(x) * wide + at_pixels(shift, x)
        _, moved = jax.jvp(activation, (again,), (materialise(moved),))
    return _activated(activation, *primals), moved


def _sum_pixels(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    del size
    if jax.default_backend() != "cpu":
        return jnp.sum(x, (1, 2))
    # XLA goes through memory in the order of the sums, unless they are a product.
    rows = x.reshape(x.shape[0], -1, x.shape[3])
    return (jnp.ones((len(rows), 1, rows.shape[1]), x.dtype) @ rows)[:, 0]


def _at_pixels(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    first, last = x.shape
    return jnp.broadcast_to(materialise(x)[:, None, None], (first, *size, last))


_bind_sum_pixels, _bind_at_pixels = transposes(_sum_pixels, _at_pixels, axis=0)


def sum_pixels(x: jax.Array) -> jax.Array:
    r"""Sum pictures over rows and columns, $s_{a,b} = \sum_{i,j} x_{a,i,j,b}$.

    Args:
        x: pictures, NHWC or CHWN.

    Returns:
        The sums, (B, C) or (C, B). Their transpose is `at_pixels`.
    """
    return _bind_sum_pixels(x, size=x.shape[1:3])


def at_pixels(values: jax.Array, x: jax.Array) -> jax.Array:
    r"""Repeat what `sum_pixels` returns at every pixel, $y_{a,i,j,b} = v_{a,b}$.

    Args:
        values: v, (B, C) or (C, B).
        x: pictures, NHWC or CHWN, of which only rows and columns are read.

    Returns:
        As many pictures, of the dtype of `values`. Their transpose is `sum_pixels`.
    """
    return _bind_at_pixels(values, size=x.shape[1:3])


def append_one_hot(x: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """Append unit vectors of the labels, (B,), to vectors, (B, inputs)."""
    classes = jax.nn.one_hot(labels, num_classes, dtype=x.dtype)
    return jnp.concatenate([x, classes], axis=1)


def check_labels(labels: Any, num_classes: int | None, batch: int) -> None:
    """Check that labels are there exactly if the network has classes, one an example.

    Raises:
        TypeError: if labels are missing, superfluous, or not integers.
        ValueError: if their shape is not (B,).
    """
    if num_classes is None:
        if labels is not None:
            raise TypeError("expected no labels: the network is not conditional")
        return
    if labels is None:
        raise TypeError(f"expected labels of {num_classes} classes after the input")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"expected labels of an integer dtype, got {labels.dtype}")
    if labels.shape != (batch,):
        raise ValueError(f"expected labels of shape ({batch},), got {labels.shape}")


def check_pictures(x: jax.Array, shape: tuple[int, int, int]) -> None:
    """Raise `ValueError` unless x is a batch of pictures of this shape."""
    if x.ndim != 4 or x.shape[1:] != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"expected pictures of shape (B, {expected}), got {x.shape}")


def label_planes(
    values: jax.Array, size: tuple[int, int], layout: Layout = "NHWC"
) -> jax.Array:
    """Repeat vectors, (B, C), at every pixel: pictures to concatenate as channels.

    Args:
        values: one vector for each example, unit vectors for one.
        size: rows and columns.
        layout: of the result.

    Returns:
        Pictures with C channels.
    """
    batch, channels = values.shape
    if layout == "NHWC":
        return jnp.broadcast_to(values[:, None, None], (batch, *size, channels))
    return jnp.broadcast_to(values.T[:, None, None], (channels, *size, batch))


def upsample(x: jax.Array) -> jax.Array:
    """Double rows and columns by repetition, in either layout."""
    first, height, width, last = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (first, height, 2, width, 2, last))
    return wide.reshape(first, 2 * height, 2 * width, last)


def conv_of_upsampled(params: Params, x: jax.Array, **options: Any) -> jax.Array:
    r"""Convolve `upsample(x)` with 3 x 3 pixels, padding 1, without repeating pixels.

    It is a transposed convolution of stride 2 and 4 x 4 pixels, per axis

    $$K'_b = K_{b-1} + K_b,$$

    K being zero outside: 16 products in place of 36 for each pixel of x.

    Args:
        params: a kernel (3, 3, inputs, outputs), perhaps a bias.
        x: pictures, (B, H, W, inputs), or in the layout of the options.
        options: `impl` and `layout`, see `convolve`.

    Returns:
        Pictures of 2H x 2W pixels.
    """
    kernel = params["kernel"]
    if options.get("impl") == "direct" and options.get("layout", "NHWC") == "NHWC":
        return _add_bias(params, _conv_of_upsampled(kernel, x), options)
    for axis in (0, 1):
        before, after = ([(0, 0)] * 4 for _ in range(2))
        before[axis], after[axis] = (1, 0), (0, 1)
        kernel = jnp.pad(kernel, before) + jnp.pad(kernel, after)
    return conv_transposed(
        {**params, "kernel": kernel}, x, stride=2, padding=1, **options
    )


def _conv_of_upsampled(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """Convolve x with 2 x 2 pixels for every other row and column, NHWC."""

    def parts(kernel: jax.Array, axis: int) -> list[tuple[jax.Array, tuple[int, int]]]:
        a, b, c = jnp.split(kernel, 3, axis=axis)
        even, odd = (a, b + c), (a + b, c)
        return [
            (jnp.concatenate(even, axis), (1, 0)),
            (jnp.concatenate(odd, axis), (0, 1)),
        ]

    rows = []
    for tall, vertical in parts(kernel, 0):
        columns = [
            convolve(x, small, padding=(vertical, horizontal), impl="direct")
            for small, horizontal in parts(tall, 1)
        ]
        rows.append(jnp.stack(columns, axis=3))
    batch, height, width, _ = x.shape
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, -1)


def average_pool(x: jax.Array) -> jax.Array:
    """Halve rows and columns, both even, by averages of four, in either layout."""
    first, height, width, last = x.shape
    return jnp.mean(x.reshape(first, height // 2, 2, width // 2, 2, last), (2, 4))


def _add_bias(params: Params, y: jax.Array, options: dict[str, Any]) -> jax.Array:
    if "bias" not in params:
        return y
    bias = params["bias"]
    if options.get("impl") == "direct" and options.get("layout", "NHWC") == "NHWC":
        return y + at_pixels(jnp.broadcast_to(bias[None], (len(y), len(bias))), y)
    bias = bias.reshape(1, 1, 1, -1)
    return y + (swap_layout(bias) if options.get("layout") == "CHWN" else bias)
