"""Running a sampler: one scan over its rows, one network evaluation in each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_output, is_known
from gamedyn.diffusion.process import (
    PREDICTIONS,
    Estimate,
    estimate,
    interpolated,
    per_example,
)
from gamedyn.diffusion.rows import Rows, Sampler
from gamedyn.nets.net import check_choice
from gamedyn.solve import Status, all_finite

Model = Callable[[jax.Array, jax.Array], jax.Array]
"""`model(x, t)` predicts about x, (B, ...), at times t, (B,): a closed-over network."""

Hook = Callable[[jax.Array, jax.Array, jax.Array, Rows], jax.Array]
"""`hook(key, x, before, row)` changes x, just reached from `before` by `row`."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """How estimated data are kept in the range of the data.

    Attributes:
        low: the least value.
        high: the greatest.
        quantile: `None`: cut off. Otherwise dynamic: the bound of an example is this
            quantile of its absolute values if that exceeds `high`, and what is cut off
            there is scaled back to `high`; the range must be symmetric.
        keep_noise: keep the predicted noise as it was, as diffusers does, rather than
            the noise that leads from the clipped data to x.

    References:
        C. Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep
        Language Understanding, 2022. <https://arxiv.org/abs/2205.11487>
    """

    low: float = -1.0
    high: float = 1.0
    quantile: float | None = None
    keep_noise: bool = False

    def __post_init__(self):
        """Check the range."""
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got {self.low} and {self.high}")
        if self.quantile is None:
            return
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1], got {self.quantile}")
        if self.low != -self.high:
            raise ValueError(
                f"a dynamic range is symmetric, got {self.low} to {self.high}"
            )

    def __call__(self, x0: jax.Array) -> jax.Array:
        """Return the data, clipped."""
        if self.quantile is None:
            return jnp.clip(x0, self.low, self.high)
        sizes = jnp.abs(x0).reshape(x0.shape[0], -1)
        bound = jnp.maximum(jnp.quantile(sizes, self.quantile, axis=1), self.high)
        bound = per_example(bound, x0)
        return jnp.clip(x0, -bound, bound) * (self.high / bound)


def as_clip(clip: Clip | Sequence[float] | None) -> Clip | None:
    """Return a range as a `Clip`; (low, high) stands for one.

    Raises:
        TypeError: if it is anything else.
    """
    if clip is None or isinstance(clip, Clip):
        return clip
    if isinstance(clip, tuple | list) and len(clip) == 2:
        return Clip(clip[0], clip[1])
    raise TypeError(
        f"clip is the range of the data, (low, high) or a Clip, got {clip!r}"
    )


class Sample(NamedTuple):
    """The result of sampling.

    Attributes:
        x: the examples, shape (B, ...).
        trajectory: the examples after every row, shape (rows, B, ...), or `None`; where
            a step has several rows, `rows.complete` says which end one.
        status: a `gamedyn.Status`, as an int32 array: OK, or NON_FINITE where an
            example is not finite.
    """

    x: jax.Array
    trajectory: jax.Array | None = None
    status: jax.Array | None = None


class Kept(NamedTuple):
    """Examples and estimates of the row before, for multistep samplers."""

    x: jax.Array
    x0: jax.Array
    eps: jax.Array


def sample(
    key: jax.Array,
    model: Model,
    sampler: Sampler,
    shape: Sequence[int] | None = None,
    *,
    start: jax.Array | None = None,
    prediction: str = "eps",
    clip: Clip | tuple[float, float] | None = None,
    learned_variance: bool = False,
    hook: Hook | None = None,
    record: bool = False,
    dtype: Any = jnp.float32,
) -> Sample:
    """Run the reverse process from noise to data.

    A plain traceable function: call it under `jax.jit`, with the network's parameters,
    the sampler, and scales of guidance as arguments. Other values of these
    need no recompilation.

    Args:
        key: a PRNG key; row i draws from `fold_in(key, i)`, the start from
            `fold_in(key, rows)`.
        model: `model(x, t)`, with t of shape (B,), in the units of the sampler's times.
        sampler: from `gamedyn.diffusion.samplers`.
        shape: (B, ...), if there is no `start`.
        start: where to start, in place of noise.
        prediction: what the model predicts: one of `process.PREDICTIONS`.
        clip: the range of the data, to which estimates of them are clipped: (-1, 1) for
            pictures. Off by default: points and latents have no such range.
        learned_variance: whether the model returns twice the channels (on the last
            axis), the second half being nu.
        hook: called after every row that completes a step; see `inpainting`.
        record: whether to return the trajectory.
        dtype: of the noise to start from.

    Returns:
        The examples, with a status: where the sampler is traced, it is not known before
        whether the prediction says anything about its first level.

    Raises:
        ValueError: if the prediction is unknown or known to be impossible, the shape of
            the model's output differs, start and shape are both given or both missing,
            or data that are encoded or partly known lie outside the range of the
            clipping.
        TypeError: if the sampler or the range is none, or the model's output is of
            another dtype than the noise.

    Example:
        >>> from gamedyn.diffusion import exact, samplers, schedules
        >>> chain = schedules.linear(1000)
        >>> gaussian = exact.mixture([[1.0]], 0.5)
        >>> sampler = samplers.ddim(schedules.respace(chain, 50))
        >>> model = exact.model(gaussian, chain)
        >>> x = jax.jit(lambda key, sampler: sample(key, model, sampler, (4000, 1)).x)(
        ...     jax.random.key(0), sampler)
        >>> abs(float(x.mean()) - 1) < 0.03
        True
    """
    # Check what is known before anything is traced.
    if (start is None) == (shape is None):
        raise ValueError("expected either a shape or a start, got both or neither")
    if not isinstance(sampler, Sampler):
        raise TypeError(
            f"expected a sampler from gamedyn.diffusion.samplers, got "
            f"{type(sampler).__name__}"
        )
    _check(sampler, prediction, learned_variance)
    clip = as_clip(clip)
    if is_known(sampler.start) and not np.any(sampler.start):
        check_range("start", start, clip)  # data, to be encoded
    check_hook = getattr(hook, "check", None)
    if check_hook is not None:
        check_hook(clip)

    # Start from noise, or as given, in one dtype with the tables.
    number = sampler.num_evaluations
    if start is None:
        assert shape is not None
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"the noise has a floating-point dtype, got {dtype}")
        noise = jax.random.normal(jax.random.fold_in(key, number), shape, dtype)
        start = jnp.asarray(sampler.start, dtype) * noise
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.floating):
        raise TypeError(
            f"sampling starts from real floating-point numbers, got {start.dtype}"
        )
    rows = jax.tree.map(lambda leaf: _cast(leaf, start.dtype), sampler.rows)

    def body(carry, inputs):
        x, kept = carry
        index, row = inputs
        keys = jax.random.split(jax.random.fold_in(key, index), 3)
        if row.lift is not None:
            x = row.lift * x + row.spread * jax.random.normal(keys[0], x.shape, x.dtype)
        output = model(x, jnp.full(x.shape[:1], row.time, x.dtype))
        check_output("the model", output, x.dtype)
        nu = None
        if learned_variance:
            output, nu = jnp.split(output, 2, axis=-1)
        estimates = read(row, x, output, prediction=prediction, clip=clip)
        noise = None
        if row.deviation is not None:
            noise = jax.random.normal(keys[1], x.shape, x.dtype)
        after = step(row, x, estimates, kept=kept, noise=noise, nu=nu)
        if hook is not None:
            changed = hook(keys[2], after, x, row)
            whole = row.complete is None
            after = changed if whole else jnp.where(row.complete, changed, after)
        memory = None if row.kept is None else Kept(x, *estimates)
        return (after, memory), after if record else None

    kept = None if rows.kept is None else Kept(*3 * (jnp.zeros_like(start),))
    inputs = jnp.arange(number, dtype=jnp.int32), rows
    (x, _), trajectory = jax.lax.scan(body, (start, kept), inputs)
    status = jnp.where(all_finite(x), Status.OK, Status.NON_FINITE)
    return Sample(x, trajectory, status.astype(jnp.int32))


def read(
    row: Rows,
    x: jax.Array,
    output: jax.Array,
    *,
    prediction: str = "eps",
    clip: Clip | None = None,
) -> Estimate:
    """Read data and noise out of the network's output at a row, clipped if asked for.

    Args:
        row: one row of a sampler's table.
        x: the examples that the network saw.
        output: of the network, of the same shape.
        prediction: one of `process.PREDICTIONS`.
        clip: the range of the data.

    Returns:
        The estimates.
    """
    estimates = estimate(output, x, row.signal, row.noise, prediction)
    if clip is None:
        return estimates
    x0 = clip(estimates.x0)
    if clip.keep_noise:
        return Estimate(x0, estimates.eps)
    return Estimate(x0, (x - row.signal * x0) / row.noise)


def step(
    row: Rows,
    x: jax.Array,
    estimates: Estimate,
    *,
    kept: Kept | None = None,
    noise: jax.Array | None = None,
    nu: jax.Array | None = None,
) -> jax.Array:
    """Apply one row of a sampler, given the network's estimates: see `rows.Rows`.

    Args:
        row: one row of the table, in the dtype of `x`.
        x: the examples that the network saw.
        estimates: of the data and the noise in them.
        kept: examples and estimates of the row before, for multistep samplers.
        noise: standard normal, for rows that add noise.
        nu: the second half of the output, of a network that learned its variance.

    Returns:
        The examples at the level reached.
    """
    after = _combined(row.now, x, estimates.x0, estimates.eps)
    if row.kept is not None:
        assert kept is not None
        after = after + _combined(row.kept, *kept)
    if row.deviation is None:
        return after
    assert noise is not None
    deviation = row.deviation
    if row.log_range is not None:
        assert nu is not None
        learned = jnp.exp(interpolated(nu, *row.log_range) / 2)
        deviation = jnp.where(deviation > 0, learned, 0)
    if row.langevin is not None:
        score = -estimates.eps / row.noise
        size = row.langevin * (_norm(noise) / _norm(score)) ** 2
        corrects = row.langevin > 0
        after = after + jnp.where(corrects, size, 0) * score
        deviation = jnp.where(corrects, jnp.sqrt(2 * size), deviation)
    return after + deviation * noise


def preconditioned(
    network: Callable[[jax.Array, jax.Array], jax.Array], *, data_deviation: float = 0.5
) -> Model:
    r"""Make EDM's denoiser of a network whose inputs and outputs have variance one.

    $$D(x, \sigma) = c_{skip} x + c_{out} F(c_{in} x, \tfrac14 \ln \sigma),$$
    $$c_{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad
      c_{out} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad
      c_{in} = \frac1{\sqrt{\sigma^2 + \sigma_d^2}} .$$

    Args:
        network: `network(x, c_noise)`, F.
        data_deviation: the standard deviation of the data, $\sigma_d$.

    Returns:
        `model(x, sigma)`, with prediction "x0".

    References:
        T. Karras et al., 2022. <https://arxiv.org/abs/2206.00364>
    """

    def model(x: jax.Array, sigma: jax.Array) -> jax.Array:
        variance = sigma**2 + data_deviation**2
        skip = per_example(data_deviation**2 / variance, x)
        out = per_example(sigma * data_deviation / jnp.sqrt(variance), x)
        inside = per_example(1 / jnp.sqrt(variance), x)
        return skip * x + out * network(inside * x, jnp.log(sigma) / 4)

    return model


def check_range(name: str, value: Any, clip: Clip | None) -> None:
    """Raise `ValueError` if known data lie outside the range of the clipping."""
    if clip is None or not is_known(value):
        return
    values = np.asarray(value)
    # Rounding of pictures scaled to the range is forgiven.
    slack = 1e-6 * (clip.high - clip.low)
    if values.size and not (
        values.min() >= clip.low - slack and values.max() <= clip.high + slack
    ):
        raise ValueError(
            f"clipping is on, so {name} must lie in [{clip.low}, {clip.high}], got "
            f"values from {values.min():.4g} to {values.max():.4g}; scale the data, or "
            f"leave clip out"
        )


def _check(sampler: Sampler, prediction: str, learned_variance: bool) -> None:
    check_choice("prediction", prediction, PREDICTIONS)
    rows = sampler.rows
    if rows.log_range is not None and not learned_variance:
        raise ValueError(
            "the sampler takes the variance from the network: expected "
            "learned_variance=True and a network with twice the channels"
        )
    if is_known(rows.signal) and prediction in ("eps", "score"):
        signal = np.asarray(rows.signal)
        if signal.size and signal.min() <= 0:
            raise ValueError(
                f"no signal is left where sampling starts (zero terminal SNR), so that "
                f"{prediction} says nothing about the data there; predict v or x0"
            )


def _cast(leaf: Any, dtype: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _combined(weights: Any, x: Any, x0: Any, eps: Any) -> jax.Array:
    return weights.x * x + weights.x0 * x0 + weights.eps * eps


def _norm(x: jax.Array) -> jax.Array:
    """Return the norm of an example, averaged over the batch."""
    squares = jnp.sum(jnp.square(x).reshape(x.shape[0], -1), axis=1)
    return jnp.mean(jnp.sqrt(squares))
