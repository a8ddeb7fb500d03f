r"""Samplers as tables: each is rows of coefficients, one row per network evaluation.

Every published sampler here is linear in the example and in the network's estimates.
Its coefficients are computed in float64 on the host, and one scan runs them all: see
`gamedyn.diffusion.rows` and `gamedyn.diffusion.sampling`. Other numbers in a table
need no recompilation. Above each stands the published loop that its table replaces.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gamedyn.diffusion.process import VARIANCES
from gamedyn.diffusion.rows import Levels as Levels
from gamedyn.diffusion.rows import Rows as Rows
from gamedyn.diffusion.rows import Sampler as Sampler
from gamedyn.diffusion.rows import Weights as Weights
from gamedyn.diffusion.rows import (
    added_variance,
    interleaved,
    moves,
    row_slice,
    start_deviation,
)
from gamedyn.diffusion.rows import as_levels as as_levels
from gamedyn.diffusion.rows import edm_levels as edm_levels
from gamedyn.diffusion.rows import log_snr_levels as log_snr_levels
from gamedyn.diffusion.rows import start_at as start_at
from gamedyn.diffusion.schedules import Schedule
from gamedyn.nets.net import check_choice
from gamedyn.registry import Registry


class SamplerEntry(NamedTuple):
    """A registered sampler.

    Attributes:
        build: `build(schedule_or_levels, **options) -> Sampler`.
        summary: one line in words.
        source: authors, year, arXiv id.
        stochastic: whether fresh noise enters between start and end, by default.
        affine: whether it is affine in its input where the network is.
    """

    build: Callable[..., Sampler]
    summary: str
    source: str
    stochastic: bool
    affine: bool = True


_REGISTRY: Registry[SamplerEntry] = Registry("sampler")


def names() -> tuple[str, ...]:
    """The names of all registered samplers."""
    return _REGISTRY.names()


def entries() -> dict[str, SamplerEntry]:
    """All registered samplers by name."""
    return _REGISTRY.entries()


def entry(name: str) -> SamplerEntry:
    """Look a sampler up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def make(name: str, chain: Schedule | Levels, **options: Any) -> Sampler:
    """Build a registered sampler.

    Args:
        name: a name from `names()`; hyphens are accepted.
        chain: a schedule or levels.
        **options: of the sampler.

    Returns:
        The sampler.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.

    Example:
        >>> from gamedyn.diffusion import schedules
        >>> chain = schedules.respace(schedules.linear(1000), 10)
        >>> make("heun", chain).num_evaluations
        19
    """
    return entry(name).build(chain, **options)


def register(
    name: str,
    build: Callable[..., Sampler] | None = None,
    *,
    summary: str,
    source: str,
    stochastic: bool = False,
    affine: bool = True,
) -> Any:
    """Register a sampler, by a call or as a decorator.

    Args:
        name: the name, in snake case.
        build: `build(schedule_or_levels, **options) -> Sampler`.
        summary: one line in words.
        source: authors, year, arXiv id.
        stochastic: whether fresh noise enters between start and end, by default.
        affine: whether it is affine in its input where the network is.

    Returns:
        The builder; without one, the decorator.

    Raises:
        ValueError: if the name is taken.

    Example:
        >>> from gamedyn.diffusion import samplers, schedules
        >>> @samplers.register("half", summary="half the noise", source="this page")
        ... def half(chain):
        ...     return samplers.ddim(chain, eta=0.5)
        >>> samplers.make("half", schedules.linear(100)).num_evaluations
        100
        >>> samplers.unregister("half")
    """
    describe = functools.partial(
        SamplerEntry,
        summary=summary,
        source=source,
        stochastic=stochastic,
        affine=affine,
    )
    return _REGISTRY.register(name, describe, build)


def unregister(name: str) -> None:
    """Take a sampler out of the registry again; an unknown name raises `ValueError`."""
    _REGISTRY.remove(name)


# Ho et al. 2020, algorithm 2:
#
#     x = normal()
#     for t, a, s, a_next, s_next in levels:
#         eps = network(x, t)
#         x0 = (x - s * eps) / a
#         r = a / a_next
#         beta = s**2 - (r * s_next)**2
#         mean = a_next * beta / s**2 * x0 + r * s_next**2 / s**2 * x
#         x = mean + sigma * normal()         # sigma = 0 in the last step
def ddpm(chain: Schedule | Levels, *, variance: str = "small") -> Sampler:
    r"""Make the ancestral sampler: the posterior with the estimate in place of data.

    From (a, s) to (a', s'), with $r = a / a'$ and $\beta = s^2 - r^2 s'^2$:

    $$x' = \frac{a' \beta}{s^2} \hat x_0 + \frac{r s'^2}{s^2} x + \sigma z, \qquad
      \sigma^2 = \beta s'^2 / s^2 \text{ (small)},\ \beta \text{ (large)},$$

    or between them, as the network learned. No noise in the last step.

    Args:
        chain: a schedule, respaced perhaps; or levels.
        variance: "small", beta-tilde; "large", beta, whose samples fall apart when the
            chain is respaced to few steps; "learned", for a network with twice the
            channels.

    Returns:
        The sampler.

    Raises:
        ValueError: if the variance is unknown.

    References:
        J. Ho, A. Jain and P. Abbeel, 2020. <https://arxiv.org/abs/2006.11239>

        A. Nichol and P. Dhariwal, 2021. <https://arxiv.org/abs/2102.09672>
    """
    check_choice("variance", variance, VARIANCES)
    levels, (a, s, a_next, s_next) = moves(chain)
    ratio = a / a_next
    beta = added_variance(chain, a, s, a_next, s_next)
    small, last = beta * (s_next / s) ** 2, s_next == 0
    deviation = np.sqrt(np.where(last, 0.0, small if variance == "small" else beta))
    log_range = None
    if variance == "learned":
        # The last row adds no noise, so any finite number will do there.
        safe = np.where(last, beta, small)
        log_range = np.log(safe), np.log(beta)
    now = Weights(ratio * (s_next / s) ** 2, a_next * beta / s**2, np.zeros_like(a))
    rows = Rows(
        levels.times,
        a,
        s,
        a_next,
        s_next,
        now,
        deviation=deviation,
        log_range=log_range,
    )
    return Sampler(rows, start_deviation(levels))


register(
    "ddpm",
    ddpm,
    summary="ancestral: the posterior at the estimate",
    source="Ho et al., 2020, arXiv:2006.11239",
    stochastic=True,
)


# Song et al. 2020, equations 12 and 16:
#
#     x = normal()
#     for t, a, s, a_next, s_next in levels:
#         eps = network(x, t)
#         x0 = (x - s * eps) / a
#         sigma = eta * s_next / s * sqrt(s**2 - (a / a_next * s_next)**2)
#         x = a_next * x0 + sqrt(s_next**2 - sigma**2) * eps + sigma * normal()
def ddim(chain: Schedule | Levels, *, eta: float = 0.0) -> Sampler:
    r"""Make the sampler of implicit models: deterministic, or with noise.

    $$\sigma = \eta \frac{s'}{s} \sqrt{1 - \frac{a^2}{a'^2}} \text{ (for } a^2 + s^2 =
      1), \qquad x' = a' \hat x_0 + \sqrt{s'^2 - \sigma^2}\, \hat\epsilon + \sigma z .$$

    With `eta` = 1 it is `ddpm` with the small variance, exactly.

    Args:
        chain: a schedule, respaced perhaps; or levels.
        eta: from 0, no noise, to 1.

    Returns:
        The sampler; another `eta` needs no recompilation.

    Raises:
        ValueError: if `eta` is negative or exceeds what the noise levels allow.

    References:
        J. Song, C. Meng and S. Ermon, Denoising Diffusion Implicit Models, 2020.
        <https://arxiv.org/abs/2010.02502>
    """
    if not eta >= 0:
        raise ValueError(f"eta must not be negative, got {eta}")
    levels, (a, s, a_next, s_next) = moves(chain)
    deviation = eta * s_next / s * np.sqrt(added_variance(chain, a, s, a_next, s_next))
    if np.any(deviation > s_next):
        raise ValueError(f"eta={eta} asks for more noise than the levels have")
    kept = np.sqrt(s_next**2 - deviation**2)
    now = Weights(np.zeros_like(a), a_next, kept)
    rows = Rows(levels.times, a, s, a_next, s_next, now, deviation=deviation)
    return Sampler(rows, start_deviation(levels))


register(
    "ddim",
    ddim,
    summary="the estimated data with the estimated noise; eta adds fresh noise",
    source="Song et al., 2020, arXiv:2010.02502",
)


def ddim_inversion(chain: Schedule | Levels) -> Sampler:
    r"""Make the encoder: DDIM's deterministic step, run upwards from data to noise.

    $$x' = \frac{a'}{a} x + \Bigl(s' - \frac{a'}{a} s\Bigr) \hat\epsilon,$$

    from data (1, 0) to the noisiest level. Noise is read at the level that the step
    leaves; data themselves are read at the lowest level there is.

    Args:
        chain: the schedule or levels that `ddim` decodes with.

    Returns:
        The sampler; give `sampling.sample` the data as its `start`.

    References:
        J. Song, C. Meng and S. Ermon, 2020. <https://arxiv.org/abs/2010.02502>
    """
    levels, (a, s, a_next, s_next) = moves(chain)
    to_a, to_s, from_a, from_s = (table[::-1] for table in (a, s, a_next, s_next))
    read = np.maximum(np.arange(len(a)) - 1, 0)  # data are read at the lowest level
    ratio = to_a / from_a
    rows = Rows(
        levels.times[::-1][read],
        to_a[read],
        to_s[read],
        to_a,
        to_s,
        Weights(ratio, np.zeros_like(ratio), to_s - ratio * from_s),
    )
    return Sampler(rows, np.asarray(0.0))


# Lu et al. 2022, algorithm 2:
#
#     x, D = normal(), None
#     for t, a, s, a_next, s_next in levels:
#         x0 = (x - s * network(x, t)) / a
#         h = log(a_next / s_next) - log(a / s)
#         first or last step:  D = x0
#         otherwise:           D = x0 + h / (2 * h_before) * (x0 - x0_before)
#         x = s_next / s * x - a_next * expm1(-h) * D
#         x0_before, h_before = x0, h
def dpm_solver(chain: Schedule | Levels, *, order: int = 2) -> Sampler:
    r"""Make DPM-Solver++ (2M): a two-step method in the logarithm of signal to noise.

    With $\lambda = \log(a/s)$, $h = \lambda' - \lambda$, $q = (\lambda - \lambda^-)/h$:

    $$D = \hat x_0 + \frac{\hat x_0 - \hat x_0^-}{2 q}, \qquad
      x' = \frac{s'}s x - a' (e^{-h} - 1) D,$$

    with $D = \hat x_0$ in the first step and in the last, which goes to zero noise.

    Args:
        chain: a schedule, respaced perhaps (spacing "multistep" is the published one);
            or levels.
        order: 2; or 1, which is `ddim`.

    Returns:
        The sampler.

    Raises:
        ValueError: if the order is another.

    References:
        C. Lu et al., DPM-Solver++: Fast Solver for Guided Sampling of Diffusion
        Probabilistic Models, 2022. <https://arxiv.org/abs/2211.01095>
    """
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    levels, (a, s, a_next, s_next) = moves(chain)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(a) - np.log(s)
        step = np.append(np.diff(log_ratio), np.inf)
        share = np.zeros_like(a)
        share[1:] = 0.5 * step[1:] / step[:-1]
    share[-1] = 0.0
    if order == 1:
        share[:] = 0.0
    factor = -a_next * np.expm1(-step)
    zero = np.zeros_like(a)
    rows = Rows(
        levels.times,
        a,
        s,
        a_next,
        s_next,
        Weights(s_next / s, factor * (1 + share), zero),
        kept=Weights(zero, -factor * share, zero),
    )
    return Sampler(rows, start_deviation(levels))


register(
    "dpm_solver",
    dpm_solver,
    summary="DPM-Solver++ 2M: second order in the log of signal to noise",
    source="Lu et al., 2022, arXiv:2211.01095",
)


# Karras et al. 2022, algorithm 2 without its correction, in y = x / a:
#
#     y = sigma[0] * normal()
#     for sigma, sigma_next in levels:
#         raised = sigma * (1 + gamma)        # gamma = 0 without churn
#         y = y + sqrt(raised**2 - sigma**2) * churn_noise * normal()
#         eps = (y - denoised(y, raised)) / raised
#         y = y + (sigma_next - raised) * eps
def euler(chain: Schedule | Levels, **churn: float) -> Sampler:
    r"""Make Euler's method for the probability-flow ODE in sigma.

    $$y' = y + (\sigma' - \hat\sigma)\, \hat\epsilon, \qquad y = x/a,\ \sigma = s/a .$$

    Without churn this is `ddim` without noise.

    Args:
        chain: levels, such as `edm_levels()`; or a schedule.
        **churn: as in `heun`.

    Returns:
        The sampler.

    References:
        T. Karras et al., 2022. <https://arxiv.org/abs/2206.00364>
    """
    levels, rows = _churned(chain, **churn)
    ratio = rows.next_signal / rows.signal
    move = rows.next_noise - ratio * rows.noise
    now = Weights(ratio, np.zeros_like(ratio), move)
    return Sampler(rows._replace(now=now), start_deviation(levels))


register(
    "euler",
    euler,
    summary="Euler's method in sigma, churn as an option",
    source="Karras et al., 2022, arXiv:2206.00364",
)


# Karras et al. 2022, algorithm 2 (without churn, algorithm 1), in y = x / a:
#
#     y = sigma[0] * normal()
#     for sigma, sigma_next in levels:
#         raised = sigma * (1 + gamma)        # gamma = 0 without churn
#         y = y + sqrt(raised**2 - sigma**2) * churn_noise * normal()
#         eps = (y - denoised(y, raised)) / raised
#         ahead = y + (sigma_next - raised) * eps
#         if sigma_next > 0:
#             eps = (eps + (ahead - denoised(ahead, sigma_next)) / sigma_next) / 2
#         y = y + (sigma_next - raised) * eps
def heun(chain: Schedule | Levels, **churn: float) -> Sampler:
    r"""Make Heun's method for the probability-flow ODE, EDM's sampler.

    $$y' = \hat y + (\sigma' - \hat\sigma) \tfrac12 (\hat\epsilon +
      \hat\epsilon(\hat y + (\sigma' - \hat\sigma) \hat\epsilon, \sigma')),$$

    and Euler's step into zero noise: 2 N - 1 evaluations for N levels.

    Args:
        chain: levels, such as `edm_levels()`; or a schedule.
        **churn: `churn` (S_churn, 0 by default: no noise), `churn_low` and `churn_high`
            (the sigmas between which it acts), `churn_noise` (S_noise): noise is raised
            by the factor $1 + \min(S_{churn} / N, \sqrt2 - 1)$ before a step.

    Returns:
        The sampler; other churn needs no recompilation.

    References:
        T. Karras et al., Elucidating the Design Space of Diffusion-Based Generative
        Models, 2022. <https://arxiv.org/abs/2206.00364>
    """
    levels, first = _churned(chain, **churn)
    ratio = first.next_signal / first.signal
    move = first.next_noise - ratio * first.noise
    zero, one = np.zeros_like(ratio), np.ones_like(ratio)
    last = first.next_noise == 0
    predictor = first._replace(
        now=Weights(ratio, zero, move), kept=Weights(zero, zero, zero), complete=last
    )
    corrector = Rows(
        np.append(levels.times[1:], 0.0),
        first.next_signal,
        first.next_noise,
        first.next_signal,
        first.next_noise,
        Weights(zero, zero, move / 2),
        kept=Weights(ratio, zero, move / 2),
        lift=one,
        spread=zero,
        complete=np.ones_like(last),
    )
    rows = interleaved(predictor, corrector)
    return Sampler(row_slice(rows, slice(0, -1)), start_deviation(levels))


register(
    "heun",
    heun,
    summary="Heun's method in sigma, churn as an option",
    source="Karras et al., 2022, arXiv:2206.00364",
)


# Song et al. 2021, algorithm 1, with the reverse step of their equation 4 and the
# corrector of algorithms 4 and 5; here the corrector goes first:
#
#     x = normal()
#     for t, a, s, a_next, s_next in levels:
#         g, z = -network(x, t) / s, normal()
#         step = 2 * alpha * (snr * norm(z) / norm(g))**2
#         x = x + step * g + sqrt(2 * step) * z
#         g = -network(x, t) / s
#         x = (x + beta * g) / sqrt(1 - beta) + sqrt(beta) * normal()
def predictor_corrector(
    chain: Schedule | Levels,
    *,
    snr: float = 0.16,
    predictor: str = "reverse",
    corrector_first: bool = True,
) -> Sampler:
    r"""Make reverse steps with one Langevin correction per level.

    $$x' = \frac{x + \beta g}{\sqrt{1 - \beta}} + \sqrt\beta z; \qquad
      x' = x + \epsilon g + \sqrt{2 \epsilon} z, \quad
      \epsilon = 2 \alpha (r |z| / |g|)^2,$$

    g the score, norms averaged over the batch, $\alpha = 1 - \beta$ (1 for the
    variance-exploding process, whose predictor is $x + (\sigma^2 - \sigma'^2) g$). No
    noise in the last step.

    Args:
        chain: a schedule, respaced perhaps; or levels.
        snr: r, .16 as for pictures; strong in few dimensions.
        predictor: "reverse", the step above, whose noise has the variance beta; or
            "posterior", that of `ddpm` with the small variance. They bracket the true
            width of the data where steps are few.
        corrector_first: the order of the released code; otherwise the predictor goes
            first, and data themselves are not corrected.

    Returns:
        The sampler, of about two evaluations per level.

    Raises:
        ValueError: if the predictor is unknown, `snr` negative, or a beta 1.

    References:
        Y. Song et al., 2021. <https://arxiv.org/abs/2011.13456>
    """
    check_choice("predictor", predictor, ("reverse", "posterior"))
    if not snr >= 0:
        raise ValueError(f"snr must not be negative, got {snr}")
    levels, (a, s, a_next, s_next) = moves(chain)
    ratio = a / a_next
    added = added_variance(chain, a, s, a_next, s_next)
    last = s_next == 0
    zero = np.zeros_like(a)
    if predictor == "posterior":
        forward = ddpm(chain).rows._replace(langevin=zero)
    elif np.any(ratio == 0):
        raise ValueError("the predictor divides by sqrt(1 - beta), and a beta is 1")
    else:
        forward = Rows(
            levels.times,
            a,
            s,
            a_next,
            s_next,
            Weights(1 / ratio, zero, -added / (s * ratio)),
            deviation=np.where(last, 0.0, np.sqrt(added)),
            langevin=zero,
        )
    corrector = Rows(
        levels.times,
        a,
        s,
        a,
        s,
        Weights(np.ones_like(a), zero, zero),
        deviation=np.ones_like(a),
        langevin=2 * ratio**2 * snr**2,
    )
    if corrector_first:
        return Sampler(interleaved(corrector, forward), start_deviation(levels))
    # The first level is not corrected, nor are data.
    rows = row_slice(interleaved(corrector, forward), slice(1, None))
    return Sampler(rows, start_deviation(levels))


register(
    "predictor_corrector",
    predictor_corrector,
    summary="reverse steps with a Langevin correction at every level",
    source="Song et al., 2021, arXiv:2011.13456",
    stochastic=True,
    affine=False,
)


def _churned(
    chain: Schedule | Levels,
    *,
    churn: float = 0.0,
    churn_low: float = 0.0,
    churn_high: float = math.inf,
    churn_noise: float = 1.0,
) -> tuple[Levels, Rows]:
    """Return rows that raise the noise before each evaluation, without weights yet."""
    if not churn >= 0 or not churn_noise >= 0:
        raise ValueError(
            f"churn and churn_noise must not be negative, got {churn}, {churn_noise}"
        )
    levels, (a, s, a_next, s_next) = moves(chain)
    with np.errstate(divide="ignore"):
        sigma = s / a
    if np.any(~np.isfinite(sigma)):
        raise ValueError(
            "an ODE in sigma cannot start where no signal is left (zero terminal SNR); "
            "use ddpm, ddim or dpm_solver"
        )
    acts = (sigma >= churn_low) & (sigma <= churn_high)
    gamma = np.where(acts, min(churn / len(sigma), math.sqrt(2) - 1), 0.0)
    raised = sigma * (1 + gamma)
    exploding = np.all(a == 1)
    a_raised = np.ones_like(a) if exploding else 1 / np.sqrt(1 + raised**2)
    still = gamma == 0
    a_raised = np.where(still, a, a_raised)
    times = levels.times
    if churn:
        # Between levels the network's time is interpolated, as sigma is its clock.
        order = np.log(sigma[::-1])
        between = np.interp(np.log(raised), order, levels.times[::-1])
        times = raised if exploding and np.array_equal(times, s) else between
    rows = Rows(
        times,
        a_raised,
        np.where(still, s, raised * a_raised),
        a_next,
        s_next,
        Weights(a, a, a),  # to be replaced
        lift=a_raised / a,
        spread=a_raised * np.sqrt(raised**2 - sigma**2) * churn_noise,
    )
    return levels, rows
