"""Guidance and conditions: functions from a model to a guided model."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gamedyn.diffusion.process import PREDICTIONS, convert, per_example
from gamedyn.diffusion.rows import Rows
from gamedyn.diffusion.sampling import Hook, Model
from gamedyn.diffusion.schedules import Schedule
from gamedyn.nets.net import check_choice

ConditionalModel = Callable[[jax.Array, jax.Array, Any], jax.Array]
"""`model(x, t, condition)`: a network with its parameters closed over."""


def conditioned(model: ConditionalModel, condition: Any) -> Model:
    """Fix the condition of a model, without guidance.

    Args:
        model: `model(x, t, condition)`.
        condition: a pytree of arrays, one row per example.

    Returns:
        `model(x, t)`.
    """
    return lambda x, t: model(x, t, condition)


def classifier_free(
    model: ConditionalModel,
    condition: Any,
    null: Any,
    *,
    guidance: Any = None,
    scale: Any = None,
    interval: tuple[Any, Any] | None = None,
    rescale: Any = 0.0,
    learned_variance: bool = False,
    condition_dropout: float | None = None,
) -> Model:
    r"""Apply classifier-free guidance: away from unconditional predictions.

    $$(1 + w)\, \epsilon_c - w\, \epsilon_u = \epsilon_u + s\, (\epsilon_c -
      \epsilon_u), \qquad s = 1 + w .$$

    Two published conventions, two names: w is Ho and Salimans', off at 0; s is the
    `guidance_scale` of most programs, off at 1. The same formula serves every kind of
    prediction. What it samples for w > 0 is no simple law, and not
    $p(x) p(y | x)^{1 + w}$. Both passes go through the network as one batch.

    Args:
        model: `model(x, t, condition)`, trained with conditions dropped.
        condition: a pytree of arrays, one row per example.
        null: what replaced dropped conditions: a pytree of the same structure, or one
            value for all leaves; each broadcasts to a leaf.
        guidance: w, a scalar or one per example. Either it or `scale`.
        scale: s.
        interval: (low, high): guide only while low <= t <= high, in the model's own
            time (Kynkaanniemi et al. 2024).
        rescale: phi: the share, from 0 to 1, of the guided output whose standard
            deviation per example is set back to that of the conditional one; .7 where
            it is used (Lin et al. 2023).
        learned_variance: whether the last axis holds nu, too, which is not guided.
        condition_dropout: the share of conditions that training dropped, if known;
            zero warns, since the network then never learned to predict without.

    Returns:
        `model(x, t)`. All numbers may be traced, so that others need no recompilation.

    Raises:
        ValueError: if not exactly one of `guidance` and `scale` is given.

    References:
        J. Ho and T. Salimans, Classifier-Free Diffusion Guidance, 2022.
        <https://arxiv.org/abs/2207.12598>

        T. Kynkaanniemi et al., Applying Guidance in a Limited Interval Improves Sample
        and Distribution Quality in Diffusion Models, 2024.
        <https://arxiv.org/abs/2404.07724>

        S. Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed,
        2023. <https://arxiv.org/abs/2305.08891>
    """
    if (guidance is None) == (scale is None):
        raise ValueError(
            "expected either guidance (w, off at 0) or scale (s = 1 + w, off at 1), "
            "got both or neither"
        )
    if condition_dropout is not None and not condition_dropout:
        warnings.warn(
            "guidance compares the prediction with the one for the null condition, and "
            "this network was trained with condition_dropout=0, so that it has never "
            "seen the null condition, and its output there is arbitrary; train with "
            "condition_dropout=0.1 or so, or use guidance.classifier",
            stacklevel=2,
        )
    nulls = null_like(null, condition)

    def guided(x: jax.Array, t: jax.Array) -> jax.Array:
        weight = scale if guidance is None else 1 + jnp.asarray(guidance, x.dtype)
        weight = jnp.broadcast_to(jnp.asarray(weight, x.dtype), t.shape)
        if interval is not None:
            low, high = (jnp.asarray(end, t.dtype) for end in interval)
            weight = jnp.where((low <= t) & (t <= high), weight, 1)
        both = jax.tree.map(lambda *two: jnp.concatenate(two), condition, nulls)
        output = model(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both)
        with_it, without = jnp.split(output, 2)
        nu = None
        if learned_variance:
            with_it, nu = jnp.split(with_it, 2, axis=-1)
            without, _ = jnp.split(without, 2, axis=-1)
        mixed = without + per_example(weight, x) * (with_it - without)
        # Where the guided output vanishes, so does its rescaled form.
        spread = _deviation(mixed)
        ratio = _deviation(with_it) / jnp.where(spread > 0, spread, 1)
        share = per_example(rescale, x)
        mixed = mixed * (share * ratio + 1 - share)
        return mixed if nu is None else jnp.concatenate([mixed, nu], axis=-1)

    return guided


def null_like(null: Any, condition: Any) -> Any:
    """Broadcast the null condition to the shape of a batch of conditions.

    Args:
        null: a pytree of the structure of `condition`, or one value for all leaves.
        condition: a pytree of arrays, one row per example.

    Returns:
        A pytree like `condition`.

    Raises:
        ValueError: if a leaf does not broadcast.
    """
    treedef = jax.tree.structure(condition)
    leaves = jax.tree.leaves(null)
    if jax.tree.structure(null) != treedef:
        if len(leaves) != 1:
            raise ValueError(
                f"expected a null condition of the structure {treedef} or one value, "
                f"got {jax.tree.structure(null)}"
            )
        leaves = leaves * treedef.num_leaves
    wide = []
    for leaf, like in zip(leaves, jax.tree.leaves(condition), strict=True):
        like = jnp.asarray(like)
        value = jnp.asarray(leaf, like.dtype)
        if value.ndim >= like.ndim and value.ndim:
            raise ValueError(
                f"the null condition stands for one example's, of shape "
                f"{like.shape[1:]}; got shape {value.shape}"
            )
        wide.append(jnp.broadcast_to(value, like.shape))
    return jax.tree.unflatten(treedef, wide)


def classifier(
    model: Model,
    log_probability: Callable[[jax.Array, jax.Array], jax.Array],
    scale: Any,
    schedule: Schedule,
    *,
    prediction: str = "eps",
) -> Model:
    r"""Apply classifier guidance: push predictions up the classifier's gradient.

    $$\hat\epsilon - s\, w\, \nabla_x \log p(y | x_t),$$

    turned back into the model's kind of prediction. For deterministic samplers; see
    `classifier_mean` for the ancestral one.

    Args:
        model: `model(x, t)`.
        log_probability: `log_probability(x, t)`, of the wanted classes, one number per
            example, each a function of that example alone.
        scale: w, a scalar or one per example.
        schedule: the chain that model and classifier know; t are its times.
        prediction: what the model predicts.

    Returns:
        `model(x, t)`.

    References:
        P. Dhariwal and A. Nichol, Diffusion Models Beat GANs on Image Synthesis, 2021.
        <https://arxiv.org/abs/2105.05233>
    """
    check_choice("prediction", prediction, PREDICTIONS)

    def guided(x: jax.Array, t: jax.Array) -> jax.Array:
        index = jnp.searchsorted(jnp.asarray(schedule.times, t.dtype), t)
        a = jnp.asarray(schedule.signal, x.dtype)[index]
        s = jnp.asarray(schedule.noise, x.dtype)[index]
        eps = convert(model(x, t), x, a, s, prediction, "eps")
        slope = jax.grad(lambda x: jnp.sum(log_probability(x, t)))(x)
        eps = eps - per_example(scale, x) * per_example(s, x) * slope
        return convert(eps, x, a, s, "eps", prediction)

    return guided


def classifier_mean(
    log_probability: Callable[[jax.Array, jax.Array], jax.Array], scale: Any
) -> Hook:
    r"""Apply classifier guidance to ancestral steps: shift the mean of each.

    $$\mu + w\, \sigma^2\, \nabla_x \log p(y | x_t),$$

    with the variance of the sampler's own noise (a learned one counts as beta).

    Args:
        log_probability: as in `classifier`.
        scale: w.

    Returns:
        A hook for `sampling.sample`.

    References:
        P. Dhariwal and A. Nichol, 2021. <https://arxiv.org/abs/2105.05233>
    """

    def shift(key: jax.Array, x: jax.Array, before: jax.Array, row: Rows) -> jax.Array:
        del key
        if row.deviation is None:
            raise ValueError(
                "the mean is shifted by the noise of a step, and this sampler adds "
                "none; use guidance.classifier"
            )
        t = jnp.full(x.shape[:1], row.time, x.dtype)
        slope = jax.grad(lambda x: jnp.sum(log_probability(x, t)))(before)
        return x + per_example(scale, x) * row.deviation**2 * slope

    return shift


def concatenated(network: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    r"""Give a network a picture as its condition: further channels of its input.

    $$f([x_t, c], t),$$

    for super-resolution, colouring, inpainting by training.

    Args:
        network: `network(params, x, t)` for the channels of both.

    Returns:
        `network(params, x, t, condition)`; null conditions are pictures of zeros.

    Raises:
        ValueError: when called, if condition and x differ but for the last axis.

    References:
        C. Saharia et al., Image Super-Resolution via Iterative Refinement, 2021.
        <https://arxiv.org/abs/2104.07636>
    """

    def apply(params: Any, x: jax.Array, t: jax.Array, condition: jax.Array) -> Any:
        if condition.shape[:-1] != x.shape[:-1]:
            raise ValueError(
                f"expected a condition that differs from x, {x.shape}, in its last "
                f"axis only, got {condition.shape}"
            )
        joined = jnp.concatenate([x, condition.astype(x.dtype)], axis=-1)
        return network(params, joined, t)

    return apply


def _deviation(x: jax.Array) -> jax.Array:
    """Return every example's standard deviation, shaped to multiply it."""
    return jnp.std(x, axis=tuple(range(1, x.ndim)), keepdims=True)
