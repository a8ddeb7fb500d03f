"""Perceptrons for diffusion models of points."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.embedding import (
    check_condition,
    check_given,
    check_times,
    precisely,
    sinusoidal,
)
from gamedyn.nets.net import Net, Params, check_choice, from_function


def point_mlp(
    dimensions: int = 2,
    *,
    widths: Sequence[int] = (128, 128, 128),
    frequencies: int = 64,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.silu,
    inputs: int | None = None,
    learned_variance: bool = False,
    condition: Literal["class", "vector"] | None = None,
    num_classes: int | None = None,
    condition_width: int | None = None,
    time_scale: float = 1.0,
    dtype: Any = jnp.float32,
) -> Net:
    r"""Make a perceptron of points, time and condition.

    $$y = f([x, s(\tau t), c]),$$

    s being `sinusoidal`, $\tau$ the time scale, c a unit vector for a class or the
    vector itself. Kernels start by LeCun's normal rule, the last at 0, so that the
    first prediction is 0.

    Args:
        dimensions: of the points predicted.
        widths: of the hidden layers.
        frequencies: entries of s, twice their number.
        activation: of the hidden layers.
        inputs: of the network, if x has more entries than the prediction.
        learned_variance: whether to return twice the entries, the second half for the
            variance.
        condition: "class": labels, (B,) and integer, `num_classes` being the null
            class; "vector": vectors, (B, condition_width). `apply` then takes it after
            t.
        num_classes: how many classes there are but for the null class, with "class".
        condition_width: entries of a vector, with "vector".
        time_scale: what t is multiplied by, see `unet`.
        dtype: of the parameters.

    Returns:
        The network: `apply(params, x, t, condition=None)` takes points, (B, inputs),
        and times, (B,), integer or floating, to predictions, (B, dimensions).

    Raises:
        ValueError: if an option is not one of those above, or the condition's options
            do not go together.

    Example:
        >>> net = point_mlp(2)
        >>> params = net.init(jax.random.key(0))
        >>> x, t = jnp.ones((5, 2), jnp.float32), jnp.arange(5)
        >>> net.apply(params, x, t).shape
        (5, 2)
    """
    inputs = dimensions if inputs is None else inputs
    numbers = {"dimensions": dimensions, "inputs": inputs}
    for name, value in numbers.items():
        check_positive_integer(name, value)
    for width in widths:
        check_positive_integer("every width", width)
    check_choice("condition", condition, (None, "class", "vector"))
    check_condition(condition, num_classes, condition_width)
    check_positive("time_scale", time_scale)
    classes = 0 if num_classes is None else num_classes + 1
    before = inputs + frequencies + classes + (condition_width or 0)
    sizes = [before, *widths, (1 + learned_variance) * dimensions]
    last = len(widths)

    def init(key: jax.Array) -> Params:
        keys = iter(jax.random.split(key, last + 1))
        layer = layers.drawing(keys, jax.nn.initializers.lecun_normal(), dtype)
        params = {f"dense{i}": layer(*two) for i, two in enumerate(pairwise(sizes))}
        params[f"dense{last}"] = jax.tree.map(jnp.zeros_like, params[f"dense{last}"])
        return params

    def apply(
        params: Params, x: jax.Array, t: jax.Array, given: Any = None
    ) -> jax.Array:
        if x.ndim != 2 or x.shape[1] != inputs:
            raise ValueError(f"expected points of shape (B, {inputs}), got {x.shape}")
        check_times(t, len(x))
        check_given(given, condition, num_classes, condition_width, len(x))
        t = time_scale * precisely(t, x.dtype)
        parts = [x, sinusoidal(t, frequencies, dtype=x.dtype)]
        if condition == "class":
            parts.append(jax.nn.one_hot(given, classes, dtype=x.dtype))
        elif condition == "vector":
            parts.append(given.astype(x.dtype))
        y = jnp.concatenate(parts, axis=1)
        for i in range(last):
            y = activation(layers.dense(params[f"dense{i}"], y))
        return layers.dense(params[f"dense{last}"], y)

    return from_function(init, apply)
