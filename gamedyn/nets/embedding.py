"""Embeddings of time and condition for the networks of diffusion models."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.nets import layers
from gamedyn.nets.net import Params, check_choice

Condition = Literal["class", "vector", "tokens"]


class Embedding(NamedTuple):
    """A network's vector of time and condition.

    Attributes:
        init: `init(layer)` returns the parameters, drawn by `layers.drawing`.
        apply: `apply(params, x, t, condition)` returns vectors, (B, width); of x only
            the shape is used.
    """

    init: Callable[[Callable[..., Params]], Params]
    apply: Callable[..., jax.Array]


def sinusoidal(
    t: jax.Array,
    width: int,
    *,
    period: float = 1e4,
    endpoint: bool = True,
    dtype: Any = jnp.float32,
) -> jax.Array:
    r"""Embed numbers as sines and cosines of geometrically spaced frequencies.

    $$[\sin(\omega_0 t), \ldots, \sin(\omega_{n-1} t), \cos(\omega_0 t), \ldots,
    \cos(\omega_{n-1} t)], \qquad \omega_i = P^{-i/(n-1)},$$

    n = width / 2. Numbers are resolved if they differ by about 1 or more: scale
    what lies in [0, 1].

    Args:
        t: numbers, (B,), integer or floating.
        width: entries of a vector, even.
        period: P.
        endpoint: whether the last frequency is 1/P, as above and in DDPM; otherwise
            $\omega_i = P^{-i/n}$, as in Transformers and DiT.
        dtype: of the result. Angles are computed in float32 at least.

    Returns:
        Vectors, (B, width).

    Raises:
        ValueError: if the width is odd or less than 4, or the period not positive.

    Example:
        >>> sinusoidal(jnp.array([0, 1]), 4).round(4).tolist()[0]
        [0.0, 0.0, 1.0, 1.0]

    References:
        A. Vaswani et al., Attention Is All You Need, 2017.
        <https://arxiv.org/abs/1706.03762>
    """
    check_positive("period", period)
    if width < 4 or width % 2:
        raise ValueError(f"expected an even width of 4 or more, got {width}")
    half = width // 2
    powers = np.arange(half) / (half - 1 if endpoint else half)
    # bfloat16 would round steps above 256, and angles more so.
    t = precisely(t, dtype)
    angles = t[:, None] * jnp.asarray(period**-powers, t.dtype)[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1).astype(dtype)


def embedding(
    frequencies: int,
    width: int,
    *,
    condition: Condition | None = None,
    num_classes: int | None = None,
    condition_width: int | None = None,
    time_scale: float = 1.0,
    endpoint: bool = True,
    initializer: layers.Initializer | None = None,
    table: layers.Initializer | None = None,
) -> Embedding:
    r"""Make the embedding of time and condition for networks of pictures.

    $$K_1\, \text{silu}(K_0\, s(\tau t) + b_0) + b_1 + c,$$

    s being `sinusoidal`, $\tau$ the time scale, and c a row of a table for a class, an
    affine function of a vector, or that of the mean of tokens.

    The null condition of classifier-free guidance is one class more, `num_classes`,
    for classes, and zeros for vectors and tokens.

    Args:
        frequencies: entries of s, twice their number.
        width: of the vector.
        condition: "class", "vector", "tokens", or `None`.
        num_classes: how many classes there are but for the null class, with "class".
        condition_width: entries of a vector or token, with the other two.
        time_scale: what t is multiplied by.
        endpoint: see `sinusoidal`.
        initializer: of the kernels; `None`: the network's.
        table: of the classes; `None`: N(0, 1).

    Returns:
        The pair of functions. The second raises `TypeError` if the condition is
        missing, superfluous or of the wrong kind of dtype, `ValueError` if its shape
        or that of t does not fit.

    Raises:
        ValueError: if the numbers do not go with the condition, or are not positive.

    References:
        J. Ho, A. Jain and P. Abbeel, Denoising Diffusion Probabilistic Models, 2020.
        <https://arxiv.org/abs/2006.11239>

        J. Ho and T. Salimans, Classifier-Free Diffusion Guidance, 2022.
        <https://arxiv.org/abs/2207.12598>
    """
    check_condition(condition, num_classes, condition_width)
    check_positive("time_scale", time_scale)
    drawn = {} if initializer is None else {"initializer": initializer}
    table = table or jax.nn.initializers.normal(1.0)

    def init(layer: Callable[..., Params]) -> Params:
        params = {
            "dense0": layer(frequencies, width, **drawn),
            "dense1": layer(width, width, **drawn),
        }
        if num_classes is not None:
            rows = num_classes + 1
            params["classes"] = layer(rows, width, bias=False, initializer=table)
        if condition_width is not None:
            params["condition"] = layer(condition_width, width)
        return params

    def apply(params: Params, x: jax.Array, t: jax.Array, given: Any) -> jax.Array:
        check_times(t, len(x))
        check_given(given, condition, num_classes, condition_width, len(x))
        dtype = params["dense0"]["kernel"].dtype
        t = time_scale * precisely(t, dtype)
        y = sinusoidal(t, frequencies, endpoint=endpoint, dtype=dtype)
        y = jax.nn.silu(layers.dense(params["dense0"], y))
        y = layers.dense(params["dense1"], y)
        if condition is None:
            return y
        if condition == "class":
            return y + params["classes"]["kernel"][given]
        pooled = jnp.mean(given, axis=1) if condition == "tokens" else given
        return y + layers.dense(params["condition"], pooled.astype(dtype))

    return Embedding(init, apply)


def check_condition(
    condition: str | None, num_classes: int | None, condition_width: int | None
) -> None:
    """Raise `ValueError` unless the numbers that go with a condition are there."""
    check_choice("condition", condition, (None, *get_args(Condition)))
    wanted = {
        "num_classes": (num_classes, condition == "class"),
        "condition_width": (condition_width, condition in ("vector", "tokens")),
    }
    for name, (number, needed) in wanted.items():
        if (number is not None) != needed:
            expected = "a number" if needed else "none"
            raise ValueError(
                f"condition {condition!r} expected {expected} for {name}, got {number}"
            )
        if number is not None:
            check_positive_integer(name, number)


def check_times(t: jax.Array, batch: int) -> None:
    """Raise `ValueError` unless there is one time for each example."""
    if t.shape != (batch,):
        raise ValueError(f"expected times of shape ({batch},), got {t.shape}")


def check_given(
    given: Any,
    condition: str | None,
    num_classes: int | None,
    condition_width: int | None,
    batch: int,
) -> None:
    """Check a batch's conditions against the kind that the network takes.

    Raises:
        TypeError: if they are missing, superfluous, or of the wrong kind of dtype.
        ValueError: if their shape does not fit.
    """
    if condition is None or condition == "class":
        layers.check_labels(given, num_classes, batch)
        return
    shape = (batch, condition_width)
    if condition == "tokens":
        shape = (batch, "n", condition_width)
    expected = f"({', '.join(map(str, shape))})"
    if given is None:
        raise TypeError(f"expected a condition of shape {expected}, got none")
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise TypeError(f"expected a floating-point condition, got {given.dtype}")
    fits = given.ndim == len(shape) and 0 not in given.shape
    if not fits or (given.shape[0], given.shape[-1]) != (batch, condition_width):
        raise ValueError(f"expected a condition of shape {expected}, got {given.shape}")


def precisely(t: jax.Array, dtype: Any) -> jax.Array:
    """Cast times to a dtype, or to float32 if that has more bits."""
    return t.astype(dtype if jnp.finfo(dtype).bits > 32 else jnp.float32)
