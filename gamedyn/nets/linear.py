"""Linear functions with declared transposes, which every derivative uses.

Automatic differentiation transposes a linear function operation by operation, and what
comes out need not be fast where the function was. Here a pair of functions is declared
to be each other's transposes, and derivatives of any order and mode alternate between
the two. `materialise`, its own transpose, is the smallest of them.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

try:
    from jax.experimental.xla_metadata import set_xla_metadata
except ImportError:  # experimental: without it all is as right, but slower
    set_xla_metadata = None

Linear = Callable[..., jax.Array]


def transposes(
    first: Linear, second: Linear, axis: int | None = None
) -> tuple[Linear, Linear]:
    r"""Declare two linear functions A and B to be each other's transposes.

    $$\langle A x, y \rangle = \langle x, B y \rangle \quad \text{for all } x, y,$$

    which is not checked.

    Args:
        first: a function of one array and, by keyword, of static hashable values, in
            one dtype throughout. A primitive takes its name.
        second: its transpose, for the same values; perhaps the same function.
        axis: that of the batch, which both functions leave alone and which an axis
            mapped by `vmap` joins; `None` if all axes are alike to both.

    Returns:
        The two functions, differentiable in both modes any number of times, under
        `vmap` and `jit`.

    Example:
        >>> def total(x):
        ...     return jnp.sum(x, axis=1)
        >>> def repeated(x):
        ...     return jnp.broadcast_to(x[:, None], (len(x), 3))
        >>> a, b = transposes(total, repeated, axis=0)
        >>> jax.grad(lambda x: a(x)[0])(jnp.ones((2, 3))).tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """
    one = Primitive(first.__name__.strip("_"))
    other = one if second is first else Primitive(second.__name__.strip("_"))
    _define(one, other, first, axis)
    if other is not one:
        _define(other, one, second, axis)
    return one.bind, other.bind


def _define(
    one: Primitive, other: Primitive, function: Linear, axis: int | None
) -> None:
    def shape(x: Any, **static: Any) -> Any:
        given = jax.ShapeDtypeStruct(x.shape, x.dtype)
        result = jax.eval_shape(partial(function, **static), given)
        return x.update(shape=result.shape, weak_type=False)

    def transposed(cotangent: Any, x: Any, **static: Any) -> list[Any]:
        del x
        return [other.bind(cotangent, **static)]

    def batched(operands: Any, axes: Any, **static: Any) -> tuple[jax.Array, int]:
        (x,), (mapped,) = operands, axes
        if axis is None:
            return one.bind(x, **static), mapped
        x = jnp.moveaxis(x, mapped, axis)
        runs, batch = x.shape[axis : axis + 2]
        joined = x.reshape(*x.shape[:axis], runs * batch, *x.shape[axis + 2 :])
        y = one.bind(joined, **static)
        shape = *y.shape[:axis], runs, batch, *y.shape[axis + 1 :]
        return y.reshape(shape), axis

    static = list(inspect.signature(function).parameters)[1:]
    one.def_impl(jax.jit(function, static_argnames=static))
    one.def_abstract_eval(shape)
    ad.deflinear2(one, transposed)
    batching.primitive_batchers[one] = batched
    mlir.register_lowering(one, mlir.lower_fun(function, multiple_results=False))


@jax.jit
def _same(x: jax.Array) -> jax.Array:
    return x


def _materialise(x: jax.Array) -> jax.Array:
    if jax.default_backend() != "cpu" or set_xla_metadata is None:
        return x
    # The argument of a call that stays a call is an array in memory. It costs nothing:
    # the result is the same memory.
    with set_xla_metadata(inlineable="false"):
        return _same(x)


_bind_materialise, _ = transposes(_materialise, _materialise)


def materialise(x: jax.Array) -> jax.Array:
    """Return x as an array in memory: computed once, whatever uses it.

    On the CPU XLA joins cheap operations into the loops of all that follows them, so
    that sums of a deep network's gradients are added up again by each of their uses;
    and what is small is computed again for every pixel that it is spread over. This
    ends such loops at x, and in the reverse mode at its cotangent; it costs nothing
    else. On other backends, whose compilers weigh this themselves, it does nothing.

    Args:
        x: an array.

    Returns:
        The same array. Unlike `jax.lax.optimization_barrier`, which XLA up to that of
        jax 0.10 removes on the CPU before it joins operations, it is there when loops
        are made.

    Example:
        >>> float(jax.grad(lambda x: materialise(x) ** 2)(3.0))
        6.0
    """
    return _bind_materialise(jnp.asarray(x))
