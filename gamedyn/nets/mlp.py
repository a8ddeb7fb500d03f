"""Multilayer perceptrons."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.net import Net, Params, check_choice, check_num_classes
from gamedyn.nets.normalisation import (
    Normalise,
    init_scale_and_shift,
    normalising,
)


def mlp(
    sizes: Sequence[int],
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    output_activation: Callable[[jax.Array], jax.Array] | None = None,
    output_shape: Sequence[int] | None = None,
    batch_norm: bool = False,
    condition: Literal["one_hot"] | None = None,
    num_classes: int | None = None,
    initializer: layers.Initializer | None = None,
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a multilayer perceptron.

    $$h_0 = x, \qquad h_{i+1} = a(h_i K_i + b_i) \;\text{for } i < n, \qquad
    y = h_n K_n + b_n.$$

    Args:
        sizes: inputs, widths of the hidden layers, outputs.
        activation: a, `jax.nn.leaky_relu` with slope .2 in many discriminators.
        output_activation: applied to y, `jnp.tanh` for pictures in [-1, 1].
        output_shape: of the output for one example, `(sizes[-1],)` by default: `()` for
            a discriminator, (28, 28, 1) for a generator of pictures.
        batch_norm: standardise over the batch, with scale and offset instead of b, in
            front of every activation of a hidden layer.
        condition: "one_hot" appends the class, a unit vector, to the input; `apply`
            then takes labels after x. `sizes[0]` does not count it.
        num_classes: how many classes there are, with a condition.
        initializer: of the kernels, as in `jax.nn.initializers`; by default LeCun's
            normal one, of variance 1 / inputs. Biases start at 0.
        dtype: of the parameters.

    Returns:
        The network. Inputs of more axes, pictures, are flattened. Its parameters are
        `dense0` and so on, with `kernel` and `bias`, and `norm0` and so on.

    Raises:
        ValueError: if sizes are not at least two positive integers, the output shape
            does not have `sizes[-1]` entries, or condition and classes do not go
            together.

    Example:
        >>> discriminator = mlp((2, 128, 128, 1), output_shape=())
        >>> params = discriminator.init(jax.random.key(0))
        >>> discriminator.apply(params, jnp.ones((5, 2), jnp.float32)).shape
        (5,)
    """
    if len(sizes) < 2:
        raise ValueError(f"expected the sizes of inputs and outputs, got {sizes}")
    for size in sizes:
        check_positive_integer("every size", size)
    check_choice("condition", condition, (None, "one_hot"))
    check_num_classes(condition, num_classes)
    shape = (sizes[-1],) if output_shape is None else tuple(output_shape)
    if math.prod(shape) != sizes[-1]:
        raise ValueError(f"expected {sizes[-1]} outputs in shape {shape}")
    initializer = initializer or jax.nn.initializers.lecun_normal()
    inputs = sizes[0] + (num_classes or 0)
    last = len(sizes) - 2

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, last + 1))
        layer = layers.drawing(keys, initializer, dtype)
        params: Params = {}
        for i, (before, after) in enumerate(pairwise([inputs, *sizes[1:]])):
            normalised = batch_norm and i < last
            params[f"dense{i}"] = layer(before, after, bias=not normalised)
            if normalised:
                params[f"norm{i}"] = init_scale_and_shift(after, dtype=dtype)
        return params

    def forward(
        normalise: Normalise, params: Params, x: jax.Array, labels: Any = None
    ) -> jax.Array:
        layers.check_labels(labels, num_classes, len(x))
        x = x.reshape(len(x), -1)
        if num_classes is not None:
            x = layers.append_one_hot(x, labels, num_classes)
        for i in range(last):
            x = layers.dense(params[f"dense{i}"], x)
            if batch_norm:
                name = f"norm{i}"
                x = normalise(name, x, -1, params[name])
            x = activation(x)
        x = layers.dense(params[f"dense{last}"], x).reshape(len(x), *shape)
        return output_activation(x) if output_activation else x

    return normalising(init, forward, batch_norm=batch_norm)
