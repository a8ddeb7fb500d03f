"""Editing with a trained model: inpainting, RePaint, SDEdit, ILVR."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.diffusion import samplers
from gamedyn.diffusion.rows import Rows, Sampler
from gamedyn.diffusion.sampling import Clip, Hook, as_clip, check_range, sample
from gamedyn.diffusion.schedules import Schedule


def replacement(
    known: jax.Array, mask: jax.Array, *, clip: Clip | tuple | None = None
) -> Hook:
    r"""Overwrite the known part after every reverse step, noised to the step's level.

    $$x \leftarrow m (a y + s z) + (1 - m) x .$$

    The law of what is filled in is wrong: the network sees fresh noise on the known
    part and never harmonises both. With x ~ N(0, [[1, .8], [.8, 1]]) and x2 = 1.5 known
    the mean of x1 comes out as .74 instead of 1.2. See `repaint`.

    Args:
        known: y, the data where the mask is one, shape (B, ...) or that of one example.
        mask: m, one where data are known, zero elsewhere; of the shape of `known`, or
            one that broadcasts to it with axes of length 1.
        clip: the range that sampling clips to, to check `known` here already.

    Returns:
        A hook for `sampling.sample`.

    Raises:
        ValueError: if the shape of the mask does not fit, its values are not in [0, 1],
            or `known` lies outside the range.
    """
    known, mask = jnp.asarray(known), jnp.asarray(mask)
    check_mask(mask, known.shape)
    hook = Replacement(known, mask)
    hook.check(as_clip(clip))
    return hook


@dataclasses.dataclass(frozen=True, eq=False)
class Replacement:
    """The hook of `replacement`: known data and mask."""

    known: jax.Array
    mask: jax.Array

    def check(self, clip: Clip | None) -> None:
        """Raise `ValueError` if known data lie outside the range of the clipping."""
        check_range("known", self.known, clip)

    def __call__(
        self, key: jax.Array, x: jax.Array, before: jax.Array, row: Rows
    ) -> jax.Array:
        """Overwrite the known part."""
        del before
        known = self.known
        if known.shape != x.shape[x.ndim - known.ndim :]:
            raise ValueError(
                f"known must have the shape of the samples {x.shape} or of one of "
                f"them, got {known.shape}"
            )
        noise = jax.random.normal(key, x.shape, x.dtype)
        return overwritten(x, known, self.mask, row, noise)


def overwritten(
    x: jax.Array, known: jax.Array, mask: jax.Array, row: Rows, noise: jax.Array
) -> jax.Array:
    """Overwrite the known part at the level that a row reached, with given noise.

    Args:
        x: the samples there, shape (B, ...).
        known: data, shape (B, ...) or that of one example.
        mask: one where they are known, broadcasting to `known`.
        row: the row of the sampler.
        noise: standard normal, of the shape of `x`.

    Returns:
        The samples, shape (B, ...).
    """
    lead = (1,) * (x.ndim - known.ndim)
    known = known.astype(x.dtype).reshape(lead + known.shape)
    mask = mask.astype(x.dtype).reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
    noised = row.next_signal * known + row.next_noise * noise
    return mask * noised + (1 - mask) * x


def check_mask(mask: jax.Array, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless a mask fits data of a shape."""
    fits = mask.ndim <= len(shape) and all(
        size in (1, full)
        for size, full in zip(mask.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            f"the mask must have the shape of the data {shape}, or lengths 1 in its "
            f"place, got {mask.shape}"
        )
    if is_known(mask) and mask.size:
        values = np.asarray(mask, np.float64)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"a mask is 1 where data are known and 0 elsewhere, got values from "
                f"{values.min()} to {values.max()}"
            )


def repaint(
    schedule: Schedule,
    *,
    jump_length: int = 10,
    resamples: int = 10,
    build: Callable[[Schedule], Sampler] = samplers.ddpm,
) -> Sampler:
    r"""Make RePaint's sampler, which repeats its steps to harmonise both parts.

    At the levels k = 0, j, 2 j, ... < T - j the samples jump back up by j steps,

    $$x_{k+j} = \sqrt{\bar\alpha_{k+j} / \bar\alpha_k}\, x_k +
      \sqrt{1 - \bar\alpha_{k+j} / \bar\alpha_k}\, z,$$

    and come down again, r - 1 times each. It goes with the hook of `replacement`. The
    law of what is filled in converges to the true one, slowly in r: in the example
    there the mean of x1 is 1.15 with r = 10 and ten times the evaluations.

    Args:
        schedule: the chain, respaced to 250 steps in the paper.
        jump_length: j.
        resamples: r, 1 for none.
        build: the sampler of single steps, one evaluation each.

    Returns:
        The sampler; T + (r - 1) j times the number of levels evaluations.

    Raises:
        ValueError: if a number is not positive, the jump does not fit the chain, or the
            sampler is of another kind.

    References:
        A. Lugmayr et al., RePaint: Inpainting using Denoising Diffusion Probabilistic
        Models, 2022. <https://arxiv.org/abs/2201.09865>
    """
    check_positive_integer("jump_length", jump_length)
    check_positive_integer("resamples", resamples)
    simple = build(schedule)
    rows, length = simple.rows, len(schedule.times)
    if simple.num_evaluations != length or rows.kept is not None:
        raise ValueError("RePaint needs a sampler of one evaluation and no memory")
    signal = np.asarray(schedule.signal)
    order, lifts = [], []
    if resamples > 1 and jump_length >= length:
        raise ValueError(
            f"a jump of {jump_length} steps does not fit a chain of {length}"
        )
    left = {k: resamples - 1 for k in range(0, length - jump_length, jump_length)}
    level, lift = length - 1, 1.0
    while level >= 0:
        # The step from `level` to the one below, which -1, the data, is too.
        order.append(length - 1 - level)
        lifts.append(lift)
        level, lift = level - 1, 1.0
        if left.get(level, 0):
            left[level] -= 1
            lift = signal[level + jump_length] / signal[level]
            level += jump_length
    lifts = np.array(lifts)
    rows = jax.tree.map(lambda leaf: leaf[np.array(order)], rows)
    # A step up is exact in one go: sums of normal numbers are normal.
    rows = rows._replace(lift=lifts, spread=np.sqrt(1 - lifts**2))
    return simple._replace(rows=rows)


def ilvr(
    reference: jax.Array, factor: int, *, stop: Any = 0, method: str = "cubic"
) -> Hook:
    r"""Keep the coarse content of a reference: iterative latent variable refinement.

    $$x \leftarrow x + \phi(a y + s z) - \phi(x),$$

    $\phi$ scaling pictures down by a factor and up again.

    Args:
        reference: y, shape (B, H, W, C) or (H, W, C).
        factor: of the scaling; it divides H and W.
        stop: refine only in steps that start at times t > `stop`.
        method: of `jax.image.resize`.

    Returns:
        A hook for `sampling.sample`.

    Raises:
        ValueError: if the factor does not divide the sides.

    References:
        J. Choi et al., ILVR: Conditioning Method for Denoising Diffusion Probabilistic
        Models, 2021. <https://arxiv.org/abs/2108.02938>
    """
    check_positive_integer("factor", factor)
    reference = jnp.asarray(reference)
    if reference.ndim not in (3, 4) or any(
        side % factor for side in reference.shape[-3:-1]
    ):
        raise ValueError(
            f"expected pictures whose sides are multiples of {factor}, got shape "
            f"{reference.shape}"
        )

    def coarse(x: jax.Array) -> jax.Array:
        number, height, width, channels = x.shape
        small = number, height // factor, width // factor, channels
        return jax.image.resize(jax.image.resize(x, small, method), x.shape, method)

    def refine(key: jax.Array, x: jax.Array, before: Any, row: Rows) -> jax.Array:
        del before
        noise = jax.random.normal(key, x.shape, x.dtype)
        target = overwritten(x, reference, jnp.ones((1,) * x.ndim), row, noise)
        refined = x + coarse(target) - coarse(x)
        return jnp.where(row.time > stop, refined, x)

    return refine


def edit(
    key: jax.Array,
    model: Callable[..., jax.Array],
    sampler: Sampler,
    guide: jax.Array,
    strength: float,
    *,
    clip: Clip | tuple | None = None,
    **options: Any,
) -> jax.Array:
    r"""Noise a guide part of the way and denoise it: SDEdit.

    $$x_t = a_t y + s_t z, \qquad \text{then the rows of the sampler from there.}$$

    Args:
        key: a PRNG key.
        model: as in `sampling.sample`.
        sampler: of the whole way.
        guide: y, shape (B, ...): a stroke painting, another model's sample.
        strength: the share of the sampler's rows that is done, in [0, 1]: 0 returns the
            guide; 1 samples freely, but for what the noisiest level keeps. The paper
            uses .3 to .6. Another share has another number of rows, and compiles again.
        clip: as in `sampling.sample`.
        **options: of `sampling.sample`.

    Returns:
        Edited examples, shape (B, ...).

    Raises:
        ValueError: if the strength is outside [0, 1], or the guide is outside the range
            of the clipping.

    References:
        C. Meng et al., SDEdit: Guided Image Synthesis and Editing with Stochastic
        Differential Equations, 2022. <https://arxiv.org/abs/2108.01073>
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in [0, 1], got {strength}")
    clip = as_clip(clip)
    guide = jnp.asarray(guide)
    check_range("guide", guide, clip)
    first = round((1 - strength) * sampler.num_evaluations)
    complete = sampler.rows.complete
    if complete is not None and 0 < first < sampler.num_evaluations:
        # To the next start of a step.
        first += int(not complete[first - 1])
    rest = samplers.start_at(sampler, first)
    if not rest.num_evaluations:
        return guide
    of_start, of_rest = jax.random.split(key)
    a, s = (
        jnp.asarray(level[0], guide.dtype)
        for level in (rest.rows.signal, rest.rows.noise)
    )
    start = a * guide + s * jax.random.normal(of_start, guide.shape, guide.dtype)
    return sample(of_rest, model, rest, start=start, clip=clip, **options).x
