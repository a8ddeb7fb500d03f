r"""Samplers as tables: each is rows of coefficients, one row per network evaluation.

Every published sampler here is linear in the example and in what the network says of
it. Its coefficients are computed in float64 on the host; one scan runs them all, see
`gamedyn.diffusion.sampling`. Another number in a table never compiles anything anew.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from gamedyn.diffusion.process import VARIANCES
from gamedyn.diffusion.schedules import Schedule, edm_sigmas, sigmas
from gamedyn.nets.net import check_choice
from gamedyn.registry import Registry


class Levels(NamedTuple):
    """Noise levels to be visited, x = a x0 + s eps, noisiest first; data come last.

    Attributes:
        times: what the network is fed at each, shape (n,).
        signal: a, shape (n,).
        noise: s, positive, shape (n,).
    """

    times: np.ndarray
    signal: np.ndarray
    noise: np.ndarray


class Weights(NamedTuple):
    """Factors of an example, of its estimated data and of its estimated noise."""

    x: Any
    x0: Any
    eps: Any


class Rows(NamedTuple):
    r"""What happens around each network evaluation; every leaf has shape (rows,).

    $$\hat x = l x + p z, \qquad (\hat x_0, \hat\epsilon) = \text{network}(\hat x, t),$$
    $$x' = w_x \hat x + w_0 \hat x_0 + w_\epsilon \hat\epsilon + k_x \hat x^- +
      k_0 \hat x_0^- + k_\epsilon \hat\epsilon^- + d z',$$

    where the minus marks the row before. What a sampler has no use for is `None`.

    Attributes:
        time: t, what the network is fed.
        signal: a of the level at which the prediction is read.
        noise: s there.
        next_signal: a of the level reached.
        next_noise: s there, zero for data.
        now: the weights w.
        kept: the weights k.
        lift: l.
        spread: p.
        deviation: d, the standard deviation of fresh noise.
        log_range: (log beta-tilde, log beta), between which a network that learned its
            variance chooses; d then only says whether there is noise.
        langevin: $2 \alpha r^2$ in rows that are a Langevin correction, else zero.
        complete: whether the row ends a step; halves of one do not count as levels.
    """

    time: Any
    signal: Any
    noise: Any
    next_signal: Any
    next_noise: Any
    now: Weights
    kept: Weights | None = None
    lift: Any = None
    spread: Any = None
    deviation: Any = None
    log_range: tuple[Any, Any] | None = None
    langevin: Any = None
    complete: Any = None


class Sampler(NamedTuple):
    """A sampler: pass it through `jax.jit` as an argument.

    Attributes:
        rows: the table.
        start: the standard deviation of the noise that sampling starts from.
    """

    rows: Rows
    start: Any

    @property
    def num_evaluations(self) -> int:
        """How often the network is evaluated."""
        return len(self.rows.time)


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


def as_levels(chain: Schedule | Levels) -> Levels:
    """Return the levels of a schedule, noisiest first; levels stay as they are.

    Raises:
        ValueError: if the noise does not decrease from level to level.
        TypeError: if it is neither.
    """
    if not isinstance(chain, Schedule | Levels):
        raise TypeError(f"expected a Schedule or Levels, got {type(chain).__name__}")
    if isinstance(chain, Schedule):
        return Levels(*(np.asarray(leaf)[::-1] for leaf in _marginals(chain)))
    levels = Levels(*(np.asarray(leaf, np.float64) for leaf in chain))
    shapes = {leaf.shape for leaf in levels}
    if len(shapes) != 1 or len(shapes.pop()) != 1:
        raise ValueError(
            f"levels are three arrays of one shape (n,), got "
            f"{', '.join(str(leaf.shape) for leaf in levels)}"
        )
    with np.errstate(divide="ignore"):
        ratios = levels.noise / levels.signal
    if np.any(levels.noise <= 0) or np.any(np.diff(ratios) >= 0):
        raise ValueError("expected noise levels that decrease and stay above zero")
    return levels


def edm_levels(noises: Any = None, *, schedule: Schedule | None = None) -> Levels:
    r"""Make levels of the process $x = x_0 + \sigma \epsilon$, or of a chain, by sigma.

    Args:
        noises: decreasing, shape (N,); `schedules.edm_sigmas(18)` by default.
        schedule: `None` for a network that takes sigma as its time, such as
            `sampling.preconditioned`. Otherwise the chain that the network knows: x is
            scaled by $1/\sqrt{1 + \sigma^2}$, times are interpolated in log sigma.

    Returns:
        The levels.

    Raises:
        ValueError: if the noises do not decrease, or leave the range of the chain.
    """
    noises = np.asarray(edm_sigmas(18) if noises is None else noises, np.float64)
    if schedule is None:
        return as_levels(Levels(noises, np.ones_like(noises), noises))
    known = sigmas(schedule)
    slack = 1 + 1e-9
    if noises.max() > known[-1] * slack or noises.min() < known[0] / slack:
        raise ValueError(
            f"the chain knows noise-to-signal ratios from {known[0]:.4g} to "
            f"{known[-1]:.4g}, got {noises.min():.4g} to {noises.max():.4g}"
        )
    signal = 1 / np.sqrt(1 + noises**2)
    finite = np.isfinite(known)
    times = np.interp(
        np.log(noises), np.log(known[finite]), np.asarray(schedule.times)[finite]
    )
    return as_levels(Levels(times, signal, noises * signal))


def log_snr_levels(
    schedule: Schedule, num_steps: int, low: float, high: float
) -> Levels:
    r"""Make levels of a chain, uniform in $\lambda = \log(a/s)$ from `low` to `high`.

    Args:
        schedule: the chain; times between its steps are interpolated.
        num_steps: how many steps; there is one level for each, and `high` is the target
            of none: data follow the last.
        low: $\lambda$ where sampling starts.
        high: $\lambda$ of the last level.

    Returns:
        The levels.
    """
    return edm_levels(np.exp(-np.linspace(low, high, num_steps)), schedule=schedule)


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
    levels, (a, s, a_next, s_next) = _moves(chain)
    ratio = a / a_next
    beta = _added(chain, a, s, a_next, s_next)
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
    return Sampler(rows, _start(levels))


def ddim(chain: Schedule | Levels, *, eta: float = 0.0) -> Sampler:
    r"""Make the sampler of implicit models: deterministic, or with noise.

    $$\sigma = \eta \frac{s'}{s} \sqrt{1 - \frac{a^2}{a'^2}} \text{ (for } a^2 + s^2 =
      1), \qquad x' = a' \hat x_0 + \sqrt{s'^2 - \sigma^2}\, \hat\epsilon + \sigma z .$$

    With `eta` = 1 it is `ddpm` with the small variance, exactly.

    Args:
        chain: a schedule, respaced perhaps; or levels.
        eta: from 0, no noise, to 1.

    Returns:
        The sampler; another `eta` compiles nothing anew.

    Raises:
        ValueError: if `eta` is negative or exceeds what the noise levels allow.

    References:
        J. Song, C. Meng and S. Ermon, Denoising Diffusion Implicit Models, 2020.
        <https://arxiv.org/abs/2010.02502>
    """
    if not eta >= 0:
        raise ValueError(f"eta must not be negative, got {eta}")
    levels, (a, s, a_next, s_next) = _moves(chain)
    deviation = eta * s_next / s * np.sqrt(_added(chain, a, s, a_next, s_next))
    if np.any(deviation > s_next):
        raise ValueError(f"eta={eta} asks for more noise than the levels have")
    kept = np.sqrt(s_next**2 - deviation**2)
    now = Weights(np.zeros_like(a), a_next, kept)
    rows = Rows(levels.times, a, s, a_next, s_next, now, deviation=deviation)
    return Sampler(rows, _start(levels))


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
    levels, (a, s, a_next, s_next) = _moves(chain)
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
    levels, (a, s, a_next, s_next) = _moves(chain)
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
    return Sampler(rows, _start(levels))


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
    return Sampler(rows._replace(now=now), _start(levels))


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
        The sampler; other churn compiles nothing anew.

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
    rows = _interleaved(predictor, corrector)
    return Sampler(_row_slice(rows, slice(0, -1)), _start(levels))


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
    levels, (a, s, a_next, s_next) = _moves(chain)
    ratio = a / a_next
    added = _added(chain, a, s, a_next, s_next)
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
        return Sampler(_interleaved(corrector, forward), _start(levels))
    # The first level is not corrected, nor are data.
    rows = _row_slice(_interleaved(corrector, forward), slice(1, None))
    return Sampler(rows, _start(levels))


def start_at(sampler: Sampler, row: int) -> Sampler:
    """Leave out the first rows of a sampler, to start from a less noisy level.

    Args:
        sampler: the sampler.
        row: how many rows to leave out, from 0 to all of them.

    Returns:
        The sampler of the rows that remain.

    Raises:
        ValueError: if there are fewer rows, or the cut is in the middle of a step.
    """
    number = sampler.num_evaluations
    if not 0 <= row <= number:
        raise ValueError(f"row must lie in 0 ... {number}, got {row}")
    complete = sampler.rows.complete
    if complete is not None and row and not complete[row - 1]:
        raise ValueError(f"row {row} is in the middle of a step, choose {row + 1}")
    return sampler._replace(rows=_row_slice(sampler.rows, slice(row, None)))


def _marginals(schedule: Schedule) -> tuple[Any, Any, Any]:
    return schedule.times, schedule.signal, schedule.noise


def _moves(chain: Schedule | Levels) -> tuple[Levels, tuple[np.ndarray, ...]]:
    """Return levels, and (a, s, a', s') of the move that leaves each."""
    levels = as_levels(chain)
    after = np.append(levels.signal[1:], 1.0), np.append(levels.noise[1:], 0.0)
    return levels, (levels.signal, levels.noise, *after)


def _added(
    chain: Schedule | Levels, a: Any, s: Any, a_next: Any, s_next: Any
) -> np.ndarray:
    r"""Return the variance $s^2 - (a/a')^2 s'^2$ that the forward step adds."""
    if isinstance(chain, Schedule):
        return np.asarray(chain.betas)[::-1]  # to all digits
    ratio = a / a_next
    unit = np.abs(a**2 + s**2 - 1) < 1e-9
    with np.errstate(divide="ignore"):
        # On the unit circle this is 1 - ratio^2, without cancellation.
        return np.where(
            unit, -np.expm1(2 * np.log(ratio)), s**2 - (ratio * s_next) ** 2
        )


def _start(levels: Levels) -> np.ndarray:
    """Return the standard deviation of the start: of pure noise, whatever a keeps."""
    unit = abs(levels.signal[0] ** 2 + levels.noise[0] ** 2 - 1) < 1e-6
    return np.asarray(1.0 if unit else levels.noise[0])


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
    levels, (a, s, a_next, s_next) = _moves(chain)
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


def _interleaved(first: Rows, second: Rows) -> Rows:
    """Put the rows of two tables in turn."""
    return _map(lambda a, b: np.stack([a, b], axis=1).reshape(-1), first, second)


def _row_slice(rows: Rows, part: slice) -> Rows:
    return _map(lambda leaf: leaf[part], rows)


def _map(function: Callable[..., Any], *trees: Any) -> Any:
    return jax.tree.map(function, *trees)


_REGISTRY: Registry[SamplerEntry] = Registry("sampler")
_KARRAS = "Karras et al., 2022, arXiv:2206.00364"
_HO = "Ho et al., 2020, arXiv:2006.11239"
for _name, _entry in {
    "ddpm": SamplerEntry(ddpm, "ancestral: the posterior at the estimate", _HO, True),
    "ddim": SamplerEntry(
        ddim,
        "the estimated data with the estimated noise; eta adds fresh noise",
        "Song et al., 2020, arXiv:2010.02502",
        False,
    ),
    "dpm_solver": SamplerEntry(
        dpm_solver,
        "DPM-Solver++ 2M: second order in the log of signal to noise",
        "Lu et al., 2022, arXiv:2211.01095",
        False,
    ),
    "euler": SamplerEntry(
        euler, "Euler's method in sigma, churn as an option", _KARRAS, False
    ),
    "heun": SamplerEntry(
        heun, "Heun's method in sigma, churn as an option", _KARRAS, False
    ),
    "predictor_corrector": SamplerEntry(
        predictor_corrector,
        "reverse steps with a Langevin correction at every level",
        "Song et al., 2021, arXiv:2011.13456",
        True,
        affine=False,
    ),
}.items():
    _REGISTRY.add(_name, _entry)


def names() -> tuple[str, ...]:
    """The names of all registered samplers."""
    return _REGISTRY.names()


def entries() -> dict[str, SamplerEntry]:
    """All registered samplers by name."""
    return {name: _REGISTRY[name] for name in _REGISTRY}


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
    return _REGISTRY[name].build(chain, **options)
