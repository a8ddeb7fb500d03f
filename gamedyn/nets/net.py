"""A network as a few pure functions, and what wraps one network in another."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = Any
Statistics = Any


class Net(NamedTuple):
    """A network: pure functions of parameters and inputs, without state.

    A generator maps latents z, (B, d), to examples, (B, ...); a discriminator maps
    examples to logits, (B,), or to a pair (logits, class logits) if it has an auxiliary
    classifier. Conditional ones take the condition after their input: labels, (B,) and
    integer, or pictures. Pictures are NHWC with values in [-1, 1]. The tuple is
    hashable: pass it as a static argument, or close over it.

    Attributes:
        init: `init(key)` returns the parameters, nested dicts of arrays.
        apply: `apply(params, x, *args, statistics=None)` returns the output. Without
            `statistics`, batch normalisation uses the mean and variance of the batch
            at hand, as in training; with them it uses those, so that the output for
            one example no longer depends on the others.
        statistics: `statistics(params, batches)` collects what `apply` takes under that
            name: see `gamedyn.nets.normalisation.standing_statistics`. `None` if the
            network has no batch normalisation.
        batch_statistics: whether training couples the examples of a batch, which
            gradient penalties exclude.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[..., Any]
    statistics: Callable[[Params, Any], Statistics] | None = None
    batch_statistics: bool = False


def from_function(
    init: Callable[[jax.Array], Params], apply: Callable[..., Any]
) -> Net:
    """Make a network of two pure functions.

    Args:
        init: `init(key)` returns the parameters.
        apply: `apply(params, x, *args)` returns the output, each example's without
            regard to the others.

    Returns:
        The network. Its `apply` raises `ValueError` if it is given statistics.

    Example:
        >>> line = from_function(lambda key: jnp.ones(2), lambda w, x: x @ w)
        >>> line.apply(line.init(jax.random.key(0)), jnp.ones((3, 2))).tolist()
        [2.0, 2.0, 2.0]
    """

    def checked(params: Params, x: Any, *args: Any, statistics: Any = None) -> Any:
        if statistics is not None:
            raise ValueError(
                "expected no statistics: the network has no batch normalisation"
            )
        return apply(params, x, *args)

    return Net(init, checked)


def compute_in(net: Net, dtype: Any) -> Net:
    """Let a network compute in another dtype, such as bfloat16.

    Parameters and floating inputs are cast on the way in, the output is cast back to
    the dtype of the parameters: these, their gradients, the optimizer's state and the
    losses keep their precision. So do the moments of batch normalisation and the
    singular values of spectral normalisation, taken in float32 at least.

    Args:
        net: the network.
        dtype: a floating-point dtype.

    Returns:
        The network that computes in `dtype`.

    Raises:
        TypeError: if `dtype` is not floating-point.

    References:
        P. Micikevicius et al., Mixed Precision Training, 2018.
        <https://arxiv.org/abs/1710.03740>
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"expected a floating-point dtype, got {dtype}")

    def apply(params: Params, x: Any, *args: Any, statistics: Any = None) -> Any:
        kept = _floating_dtype(params)
        params, x, args = _cast((params, x, args), dtype)
        return _cast(net.apply(params, x, *args, statistics=statistics), kept)

    def statistics(params: Params, batches: Any) -> Statistics:
        assert net.statistics is not None  # for the type checker
        return net.statistics(*_cast((params, batches), dtype))

    return net._replace(apply=apply, statistics=net.statistics and statistics)


def concatenate_condition(net: Net) -> Net:
    r"""Give a network its condition as further channels of its input.

    $$y = f([x, c]),$$

    joined on the last axis: a discriminator of pairs of pictures, or of a point beside
    a vector. `net` is built for the channels of both.

    Args:
        net: the network f.

    Returns:
        The network of (x, c), whose shapes must agree but for the last axis.

    References:
        P. Isola et al., Image-to-Image Translation with Conditional Adversarial
        Networks, 2017. <https://arxiv.org/abs/1611.07004>
    """

    def join(x: jax.Array, condition: jax.Array) -> jax.Array:
        if x.shape[:-1] != condition.shape[:-1] or x.dtype != condition.dtype:
            raise ValueError(
                f"expected an input and a condition that differ in their last axis "
                f"only, got {x.dtype} {x.shape} and {condition.dtype} {condition.shape}"
            )
        return jnp.concatenate([x, condition], axis=-1)

    def apply(params: Params, x: Any, condition: Any, *, statistics: Any = None) -> Any:
        return net.apply(params, join(x, condition), statistics=statistics)

    def statistics(params: Params, batches: Any) -> Statistics:
        assert net.statistics is not None  # for the type checker
        return net.statistics(params, join(*batches))

    return net._replace(apply=apply, statistics=net.statistics and statistics)


def count_parameters(params: Params) -> int:
    """Count the numbers in a tree of arrays.

    Args:
        params: the parameters, or what `jax.eval_shape` says of them.

    Returns:
        How many numbers they hold.

    Example:
        >>> count_parameters({"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)})
        9
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def at_least_float32(x: jax.Array) -> jax.Array:
    """Cast floating-point numbers of fewer bits to float32, for sums of many."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def check_choice(name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Raise `ValueError` unless a value is among the choices, naming the nearest."""
    if value not in choices:
        known = [choice for choice in choices if choice is not None]
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {listed}, got {value!r}{hint}")


def check_num_classes(condition: str | None, num_classes: int | None) -> None:
    """Raise `ValueError` unless there are classes exactly if there is a condition."""
    if (condition is None) != (num_classes is None):
        raise ValueError(
            f"num_classes goes with a condition: got condition={condition!r} and "
            f"num_classes={num_classes!r}"
        )


def _cast(tree: Any, dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return jax.tree.map(cast, tree)


def _floating_dtype(params: Params) -> Any:
    for leaf in jax.tree.leaves(params):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.dtype
    raise TypeError("expected parameters with a floating-point array, got none")
