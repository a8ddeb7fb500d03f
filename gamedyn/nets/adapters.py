"""Flax modules as networks.

Both of flax's interfaces are adapted to pure functions of parameters in plain dicts.
Batch normalisation takes the batch's own moments in training and its running state is
thrown away: flax's `momentum`, the decay of that state (torch's is 1 minus it), has no
effect. Standing statistics are collected afterwards instead and passed to `apply`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax.errors import InvalidRngError

from gamedyn.nets.net import Net, Params, Statistics, from_function
from gamedyn.nets.normalisation import Moments, batch_moments, standing_statistics


def from_linen(
    module: linen.Module,
    *example_inputs: Any,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> Net:
    """Make a network of a flax linen module.

    Args:
        module: the module. Its only collections may be parameters and the running
            state of `BatchNorm`; dropout, which draws, is refused.
        *example_inputs: inputs as `apply` gets them after the parameters, or
            `jax.ShapeDtypeStruct`s.
        training: further keyword arguments of the module's call, such as
            `{"train": True}`, under which batch normalisation uses the batch.
        evaluation: the same for calls with statistics, under which it uses the running
            state.

    Returns:
        The network. Parameters are nested as the module's own; statistics go by the
        path of each `BatchNorm`.

    Raises:
        ValueError: if the module draws random numbers, or holds other state.

    Example:
        >>> net = from_linen(linen.Dense(3), jnp.ones((1, 2), jnp.float32))
        >>> params = net.init(jax.random.key(0))
        >>> params["kernel"].shape
        (2, 3)
        >>> net.apply(params, jnp.ones((5, 2), jnp.float32)).shape
        (5, 3)
    """
    training, evaluation = dict(training or {}), dict(evaluation or {})

    def variables(key: jax.Array) -> Any:
        # Of the examples only the shapes matter.
        inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example_inputs)
        return module.init(key, *inputs, **training)

    def init(key: jax.Array) -> Params:
        return variables(key).get("params", {})

    def apply(params: Params, x: Any, *args: Any, statistics: Any = None) -> Any:
        if statistics is None:
            return run(params, x, *args)[0]
        state: dict[str, Any] = {}
        for path, each in statistics.items():
            place = state
            for name in path.split("/"):
                place = place.setdefault(name, {})
            place.update(mean=each["mean"], var=each["variance"])
        held = {"params": params, "batch_stats": state}
        return module.apply(held, x, *args, **evaluation)

    def run(params: Params, *args: Any) -> tuple[Any, dict[str, Moments]]:
        moments: dict[str, Moments] = {}

        def observe(call: Any, inputs: Any, options: Any, context: Any) -> Any:
            layer = context.module
            if isinstance(layer, linen.BatchNorm) and context.method_name == "__call__":
                if layer.axis not in (-1, inputs[0].ndim - 1):
                    raise ValueError(
                        f"expected BatchNorm with axis -1, got {layer.axis}"
                    )
                moments["/".join(layer.path)] = batch_moments(inputs[0])
            return call(*inputs, **options)

        with linen.intercept_methods(observe):
            y, _ = module.apply(
                {"params": params}, *args, mutable=["batch_stats"], **training
            )
        return y, moments

    def statistics(params: Params, batches: Any) -> Statistics:
        return standing_statistics(lambda *args: run(params, *args)[1], batches)

    try:
        shapes = jax.eval_shape(variables, jax.random.key(0))
        state = _batch_norm_state(shapes)
        jax.eval_shape(run, shapes.get("params", {}), *example_inputs)
    except InvalidRngError as error:
        raise ValueError(
            "expected a module that draws no random numbers; pass noise as an input "
            "instead of dropout"
        ) from error
    if not state:
        return from_function(init, lambda params, *args: run(params, *args)[0])
    return Net(init, apply, statistics, batch_statistics=True)


def from_nnx(make_module: Callable[[nnx.Rngs], nnx.Module] | nnx.Module) -> Net:
    """Make a network of a flax NNX module.

    Args:
        make_module: a function of `nnx.Rngs` that makes the module; or a module, whose
            parameters `init` then returns whatever the key. Its only state may be
            parameters and that of `nnx.BatchNorm`; dropout, which draws, is refused.
            `train()` and `eval()` of a copy switch batch normalisation.

    Returns:
        The network. Parameters are nested as the module's own; statistics go by the
        path of each `BatchNorm`.

    Raises:
        ValueError: if the module holds other state, such as that of random numbers.

    Example:
        >>> net = from_nnx(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
        >>> params = net.init(jax.random.key(0))
        >>> net.apply(params, jnp.ones((5, 2), jnp.float32)).shape
        (5, 3)
    """

    def make(key: jax.Array) -> nnx.Module:
        if isinstance(make_module, nnx.Module):
            return make_module
        return make_module(nnx.Rngs(key))

    abstract = nnx.eval_shape(make, jax.random.key(0))
    definition, param_state, norm_state, rest = nnx.split(
        abstract, nnx.Param, nnx.BatchStat, ...
    )
    if jax.tree.leaves(rest):
        paths = ["/".join(map(str, path)) for path, _ in nnx.to_flat_state(rest)]
        raise ValueError(
            f"expected no state but that of BatchNorm, got {paths}; pass noise as an "
            f"input instead of dropout"
        )

    def init(key: jax.Array) -> Params:
        params = nnx.to_pure_dict(nnx.state(make(key), nnx.Param))
        return jax.tree.map(jnp.copy, params)

    def merge(params: Params) -> tuple[Any, dict[str, nnx.BatchNorm]]:
        filled = jax.tree.map(lambda x: x, param_state)
        nnx.replace_by_pure_dict(filled, params)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), norm_state)
        # A copy: batch normalisation writes its state, a traced value.
        module = nnx.merge(definition, filled, zeros, rest, copy=True)
        norms = {
            "/".join(map(str, path)): layer
            for path, layer in nnx.iter_modules(module)
            if isinstance(layer, nnx.BatchNorm)
        }
        return module, norms

    def run(params: Params, *args: Any) -> tuple[Any, dict[str, Moments]]:
        module, norms = merge(params)
        module.train()
        for layer in norms.values():
            layer.momentum = 0.0  # the state becomes the batch's moments
        y = module(*args)
        moments = {
            name: {"mean": layer.mean[...], "variance": layer.var[...]}
            for name, layer in norms.items()
        }
        return y, moments

    def apply(params: Params, x: Any, *args: Any, statistics: Any = None) -> Any:
        if statistics is None:
            return run(params, x, *args)[0]
        module, norms = merge(params)
        module.eval()
        for name, layer in norms.items():
            layer.mean[...] = statistics[name]["mean"]
            layer.var[...] = statistics[name]["variance"]
        return module(x, *args)

    def statistics(params: Params, batches: Any) -> Statistics:
        return standing_statistics(lambda *args: run(params, *args)[1], batches)

    if not jax.tree.leaves(norm_state):
        return from_function(init, lambda params, *args: run(params, *args)[0])
    return Net(init, apply, statistics, batch_statistics=True)


def _batch_norm_state(variables: Mapping[str, Any]) -> Any:
    state = variables.get("batch_stats", {})
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    others = (set(variables) - {"params", "batch_stats"}) | (names - {"mean", "var"})
    if others:
        raise ValueError(
            f"expected no state but that of BatchNorm, got {sorted(others)}"
        )
    return state
