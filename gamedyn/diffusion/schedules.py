"""Noise schedules as tables, computed in float64 on the host and cast once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.nets.net import check_choice
from gamedyn.registry import Registry

_MOST = 0.999  # the largest beta of the schedules that would otherwise reach one
SPACINGS = ("trailing", "leading", "linspace", "multistep", "quadratic")
"""Ways to choose the time steps of a respaced chain, see `respace`."""


class Schedule(NamedTuple):
    r"""The tables of a chain $q(x_t | x_0) = N(a_t x_0, s_t^2)$, t = 0, ..., T-1.

    With $\bar\alpha_t = \prod_{u \le t} (1 - \beta_u)$ and $\bar\alpha_{-1} = 1$:
    $a_t = \sqrt{\bar\alpha_t}$ and $s_t = \sqrt{1 - \bar\alpha_t}$. All leaves are
    numpy arrays of shape (T,) in float64; what uses them casts them once to the dtype
    of its data. A pytree: pass it through `jax.jit` as an argument.

    Attributes:
        times: what the network is fed at each index: the step of the original chain,
            also after respacing.
        betas: the variance that each step adds, in (0, 1).
        signal: $a_t$.
        noise: $s_t$, from the logarithms: 1 minus a float32 near 1 has no digits.
        snr: $a_t^2 / s_t^2$.
        posterior_x0: $\sqrt{\bar\alpha_{t-1}} \beta_t / (1 - \bar\alpha_t)$, the factor
            of $x_0$ in the mean of $q(x_{t-1} | x_t, x_0)$.
        posterior_x: $\sqrt{\alpha_t} (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t)$, that
            of $x_t$.
        posterior_variance: $\tilde\beta_t = \beta_t (1 - \bar\alpha_{t-1}) /
            (1 - \bar\alpha_t)$; zero at t = 0.
        log_small: $\log \tilde\beta_t$, at t = 0 that of t = 1 (Nichol and Dhariwal
            2021).
        log_large: $\log \beta_t$, at t = 0 likewise $\log \tilde\beta_1$ (Ho et al.
            2020).
        log_betas: $\log \beta_t$.
    """

    times: Any
    betas: Any
    signal: Any
    noise: Any
    snr: Any
    posterior_x0: Any
    posterior_x: Any
    posterior_variance: Any
    log_small: Any
    log_large: Any
    log_betas: Any


class ScheduleEntry(NamedTuple):
    """A registered schedule.

    Attributes:
        build: `build(num_steps, **options) -> Schedule`.
        summary: one line in words.
        source: authors, year, arXiv id.
    """

    build: Callable[..., Schedule]
    summary: str
    source: str


_REGISTRY: Registry[ScheduleEntry] = Registry("schedule")


def names() -> tuple[str, ...]:
    """The names of all registered schedules."""
    return _REGISTRY.names()


def entries() -> dict[str, ScheduleEntry]:
    """All registered schedules by name."""
    return _REGISTRY.entries()


def entry(name: str) -> ScheduleEntry:
    """Look a schedule up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def make(name: str, num_steps: int, **options: Any) -> Schedule:
    """Build a registered schedule.

    Args:
        name: a name from `names()`; hyphens are accepted.
        num_steps: the length of the chain.
        **options: of the schedule.

    Returns:
        The schedule.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.

    Example:
        >>> print(f"{make('cosine', 1000).signal[-1] ** 2:.5e}")
        2.42877e-09
    """
    return entry(name).build(num_steps, **options)


def register(
    name: str,
    build: Callable[..., Schedule] | None = None,
    *,
    summary: str,
    source: str,
) -> Any:
    """Register a schedule, by a call or as a decorator.

    Args:
        name: the name, in snake case.
        build: `build(num_steps, **options) -> Schedule`, by `from_betas` say.
        summary: one line in words.
        source: authors, year, arXiv id.

    Returns:
        The builder; without one, the decorator.

    Raises:
        ValueError: if the name is taken.

    Example:
        >>> from gamedyn.diffusion import schedules
        >>> @schedules.register("constant", summary="one beta", source="this page")
        ... def constant(num_steps, beta=0.02):
        ...     return schedules.from_betas([beta] * num_steps)
        >>> schedules.make("constant", 3, beta=0.5).betas
        array([0.5, 0.5, 0.5])
        >>> schedules.unregister("constant")
    """
    describe = functools.partial(ScheduleEntry, summary=summary, source=source)
    return _REGISTRY.register(name, describe, build)


def unregister(name: str) -> None:
    """Take a schedule out of the registry again; `ValueError` if it is unknown."""
    _REGISTRY.remove(name)


def from_betas(betas: Any, times: Any = None) -> Schedule:
    r"""Make the tables of a chain from its betas.

    $$q(x_t | x_{t-1}) = N(\sqrt{1 - \beta_t}\, x_{t-1},\ \beta_t).$$

    Args:
        betas: shape (T,), each in (0, 1).
        times: what the network is fed, shape (T,), increasing; 0, ..., T-1 by default.

    Returns:
        The schedule.

    Raises:
        ValueError: if a beta is outside (0, 1), or the shapes are others.

    Example:
        >>> schedule = from_betas([0.1, 0.5])
        >>> schedule.signal**2
        array([0.9 , 0.45])
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not betas.size:
        raise ValueError(f"betas must have the shape (T,), got {betas.shape}")
    if not np.all((betas > 0) & (betas < 1)):
        wrong = betas[~((betas > 0) & (betas < 1))][0]
        raise ValueError(
            f"betas must lie strictly between 0 and 1, got {wrong} among {betas.size}"
        )
    return _tables(np.cumsum(np.log1p(-betas)), times)


def linear(num_steps: int, *, low: float = 1e-4, high: float = 0.02) -> Schedule:
    """Make the linear schedule: beta from `low` to `high` in equal steps.

    Both ends are those of 1000 steps, and are scaled by 1000 / `num_steps`. The last
    step keeps .0064 of the signal: see `zero_terminal_snr`.

    Args:
        num_steps: the length of the chain, T; the scaled `high` must stay below 1.
        low: the first beta of 1000.
        high: the last one.

    Returns:
        The schedule.

    Raises:
        ValueError: if a beta falls outside (0, 1).

    References:
        J. Ho, A. Jain and P. Abbeel, Denoising Diffusion Probabilistic Models, 2020.
        <https://arxiv.org/abs/2006.11239>
    """
    check_positive_integer("num_steps", num_steps)
    scale = 1000 / num_steps
    return from_betas(np.linspace(low * scale, high * scale, num_steps))


register(
    "linear",
    linear,
    summary="beta from 1e-4 to .02 in equal steps",
    source="Ho et al., 2020, arXiv:2006.11239",
)


def quadratic(num_steps: int, *, low: float = 1e-4, high: float = 0.02) -> Schedule:
    """Make the schedule whose square root of beta grows linearly; else as `linear`."""
    check_positive_integer("num_steps", num_steps)
    scale = 1000 / num_steps
    roots = np.linspace((low * scale) ** 0.5, (high * scale) ** 0.5, num_steps)
    return from_betas(roots**2)


register(
    "quadratic",
    quadratic,
    summary="the square root of beta in equal steps",
    source="Song et al., 2020, arXiv:2010.02502, its published code",
)


def cosine(num_steps: int, *, offset: float = 0.008) -> Schedule:
    r"""Make the cosine schedule, which destroys pictures more evenly than the linear.

    $$\bar\alpha(u) \propto \cos^2\Bigl(\frac{u + .008}{1.008} \frac\pi2\Bigr),
      \qquad
      \beta_t = \min(1 - \bar\alpha(\tfrac{t+1}T) / \bar\alpha(\tfrac tT), .999).$$

    With noise predictions of pictures, clip every step: $1/a_T$ is 20,000.

    Args:
        num_steps: the length of the chain, T.
        offset: keeps the first betas from vanishing; not negative.

    Returns:
        The schedule.

    Raises:
        ValueError: if the offset is negative.

    References:
        A. Nichol and P. Dhariwal, Improved Denoising Diffusion Probabilistic Models,
        2021. <https://arxiv.org/abs/2102.09672>
    """
    if not offset >= 0:
        raise ValueError(f"offset must not be negative, got {offset}")

    def share(u):
        return np.cos((u + offset) / (1 + offset) * np.pi / 2) ** 2

    return _from_share(num_steps, share)


register(
    "cosine",
    cosine,
    summary="abar a squared cosine: pictures fade evenly",
    source="Nichol and Dhariwal, 2021, arXiv:2102.09672",
)


def sigmoid(
    num_steps: int, *, start: float = -3.0, end: float = 3.0, tau: float = 1.0
) -> Schedule:
    r"""Make the sigmoid schedule, for larger pictures.

    $$\bar\alpha(u) = \frac{S(e/\tau) - S((u (e - b) + b)/\tau)}{S(e/\tau) - S(b/\tau)},
      \qquad S(v) = 1 / (1 + e^{-v}),$$

    betas from its ratios, at most .999.

    Args:
        num_steps: the length of the chain, T.
        start: b.
        end: e, above b.
        tau: the temperature, positive.

    Returns:
        The schedule.

    Raises:
        ValueError: if `end` is not above `start`, or `tau` not positive.

    References:
        A. Jabri, D. Fleet and T. Chen, Scalable Adaptive Computation for Iterative
        Generation, 2022. <https://arxiv.org/abs/2212.11972>
    """
    if not start < end:
        raise ValueError(f"expected start < end, got {start} and {end}")
    check_positive("tau", tau)

    def logistic(v):
        return 1 / (1 + np.exp(-v / tau))

    def share(u):
        top = logistic(end)
        return (top - logistic(u * (end - start) + start)) / (top - logistic(start))

    return _from_share(num_steps, share)


register(
    "sigmoid",
    sigmoid,
    summary="abar a logistic curve from -3 to 3",
    source="Jabri et al., 2022, arXiv:2212.11972",
)


def variance_preserving(
    num_steps: int, *, low: float = 0.1, high: float = 20.0
) -> Schedule:
    r"""Sample the continuous variance-preserving process at u = (t + 1) / T.

    $$\log \bar\alpha(u) = -\tfrac12 (\beta_1 - \beta_0) u^2 - \beta_0 u, \qquad
      dx = -\tfrac12 \beta(u) x\, du + \sqrt{\beta(u)}\, dW .$$

    Args:
        num_steps: the length of the chain, T.
        low: $\beta_0$.
        high: $\beta_1$.

    Returns:
        The schedule; `times` counts steps, u = (time + 1) / T.

    References:
        Y. Song et al., Score-Based Generative Modeling through Stochastic Differential
        Equations, 2021. <https://arxiv.org/abs/2011.13456>
    """
    check_positive_integer("num_steps", num_steps)
    if not 0 < low <= high:
        raise ValueError(f"expected 0 < low <= high, got low={low} and high={high}")
    u = np.arange(1, num_steps + 1) / num_steps
    return _tables(-((high - low) / 2 * u**2 + low * u), None)


register(
    "variance_preserving",
    variance_preserving,
    summary="the continuous process with beta from .1 to 20, sampled",
    source="Song et al., 2021, arXiv:2011.13456",
)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    r"""Shift and stretch a schedule so that its last step keeps no signal.

    $$a_t \leftarrow (a_t - a_{T-1}) \frac{a_0}{a_0 - a_{T-1}}.$$

    Sampling starts from pure noise; training should see that, too. A network that
    predicts eps has no information there: predict v or x0.

    Args:
        schedule: any schedule of at least two steps.

    Returns:
        The schedule; its last beta is 1.

    References:
        S. Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed,
        2023. <https://arxiv.org/abs/2305.08891>

    Example:
        >>> zero_terminal_snr(linear(1000)).signal[-1]
        np.float64(0.0)
    """
    signal = np.asarray(schedule.signal, np.float64)
    if len(signal) < 2:
        raise ValueError("expected a schedule of at least two steps, got one")
    first, last = signal[0], signal[-1]
    with np.errstate(divide="ignore"):
        shifted = np.log((signal - last) * first / (first - last))
    return _tables(2 * shifted, schedule.times)


@register(
    "zero_terminal_snr",
    summary="linear, shifted so that the last step keeps no signal; not for eps",
    source="Lin et al., 2023, arXiv:2305.08891",
)
def _linear_to_zero(num_steps: int) -> Schedule:
    return zero_terminal_snr(linear(num_steps))


def respace(
    schedule: Schedule, num_steps: int, *, spacing: str | Sequence[int] = "trailing"
) -> Schedule:
    r"""Keep some steps of a chain: the same marginals, fewer and larger steps.

    $$\beta'_i = 1 - \bar\alpha_{S_i} / \bar\alpha_{S_{i-1}},$$

    and every other table follows from $\beta'$; the network is still fed the original
    times.

    Args:
        schedule: the chain, of T steps.
        num_steps: how many to keep, n, at most T.
        spacing: which. "trailing", T - 1, T - 1 - T/n, ...: starts where the noise
            does; "leading", i (T // n), never visits the top of the chain while
            sampling starts there; "linspace", 0 to T - 1 in n points; "multistep", the
            same in n + 1 points, without the zero; "quadratic", squares of a linspace;
            or the increasing indices themselves.

    Returns:
        The schedule of n steps.

    Raises:
        ValueError: if n is greater than T, the spacing is unknown, or indices repeat.

    References:
        A. Nichol and P. Dhariwal, 2021. <https://arxiv.org/abs/2102.09672>

    Example:
        >>> respace(linear(1000), 4).times
        array([249., 499., 749., 999.])
    """
    check_positive_integer("num_steps", num_steps)
    length = len(schedule.times)
    if num_steps > length:
        raise ValueError(
            f"a chain of {length} steps cannot be respaced to {num_steps}, which is "
            f"more than it has"
        )
    if isinstance(spacing, str):
        check_choice("spacing", spacing, SPACINGS)
        indices = _indices(length, num_steps, spacing)
    else:
        indices = np.asarray(spacing)
        if indices.shape != (num_steps,) or indices.dtype.kind not in "iu":
            raise ValueError(
                f"expected {num_steps} integer indices, got {indices.dtype} of shape "
                f"{indices.shape}"
            )
        if np.any(indices < 0) or np.any(indices >= length):
            raise ValueError(f"indices must lie in 0 ... {length - 1}, got {indices}")
    if np.any(np.diff(indices) <= 0):
        raise ValueError(
            f"the indices of {num_steps} of {length} steps must increase, and "
            f"spacing={spacing!r} repeats some; take fewer steps or another spacing"
        )
    signal, noise = (
        np.asarray(table, np.float64)[indices]
        for table in (schedule.signal, schedule.noise)
    )
    with np.errstate(divide="ignore"):
        # Each where it has more digits.
        fine = noise < signal
        log_share = np.where(fine, np.log1p(-(noise**2)), 2 * np.log(signal))
    return _tables(log_share, np.asarray(schedule.times)[indices])


def edm_sigmas(
    num_steps: int, *, low: float = 0.002, high: float = 80.0, rho: float = 7.0
) -> np.ndarray:
    r"""Make the noise levels of EDM, from the largest to the smallest.

    $$\sigma_i = \Bigl(\sigma_{\max}^{1/\rho} + \frac{i}{N-1} (\sigma_{\min}^{1/\rho} -
      \sigma_{\max}^{1/\rho})\Bigr)^\rho, \qquad i = 0, \dots, N-1.$$

    Args:
        num_steps: how many, N, at least 2; the step to zero noise follows the last.
        low: the smallest.
        high: the largest.
        rho: how densely small ones are set; 7 balances the truncation errors.

    Returns:
        Shape (N,), float64.

    Raises:
        ValueError: if `num_steps` is below 2, or not 0 < low < high.

    References:
        T. Karras et al., Elucidating the Design Space of Diffusion-Based Generative
        Models, 2022. <https://arxiv.org/abs/2206.00364>
    """
    check_positive_integer("num_steps", num_steps)
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, got {num_steps}")
    if not 0 < low < high:
        raise ValueError(f"expected 0 < low < high, got low={low} and high={high}")
    ends = high ** (1 / rho), low ** (1 / rho)
    return np.linspace(*ends, num_steps) ** rho


def sigmas(schedule: Schedule) -> np.ndarray:
    r"""Return the noise-to-signal ratios $\sigma_t = s_t / a_t$, increasing."""
    with np.errstate(divide="ignore"):
        return np.asarray(schedule.noise) / np.asarray(schedule.signal)


def _indices(length: int, num_steps: int, spacing: str) -> np.ndarray:
    count = np.arange(num_steps)
    if spacing == "leading":
        indices = count * (length // num_steps)
    elif spacing == "linspace":
        # One step alone is the last, where sampling starts.
        first = 0 if num_steps > 1 else length - 1
        indices = np.linspace(first, length - 1, num_steps)
    elif spacing == "multistep":
        indices = np.linspace(0, length - 1, num_steps + 1)[1:]
    elif spacing == "quadratic":
        first = 0 if num_steps > 1 else (length - 1) ** 0.5
        indices = np.linspace(first, (length - 1) ** 0.5, num_steps) ** 2
    else:
        indices = (length - count * (length / num_steps))[::-1]
        indices = np.round(indices) - 1
    return np.round(indices).astype(int)


def _from_share(num_steps: int, share: Callable[[Any], Any]) -> Schedule:
    """Take betas from the ratios of a function that falls from one to about zero."""
    check_positive_integer("num_steps", num_steps)
    values = share(np.arange(num_steps + 1) / num_steps)
    return from_betas(np.minimum(1 - values[1:] / values[:-1], _MOST))


def _tables(log_share: np.ndarray, times: Any) -> Schedule:
    r"""Make all tables from $\log \bar\alpha$, which decreases from below zero."""
    length = len(log_share)
    if times is None:
        times = np.arange(length)
    times = np.asarray(times, np.float64)
    if times.shape != log_share.shape:
        raise ValueError(f"expected {length} times, got shape {times.shape}")
    if np.any(np.diff(times) <= 0):
        raise ValueError("times must increase")
    before = np.concatenate([[0.0], log_share[:-1]])
    with np.errstate(divide="ignore"):
        betas = -np.expm1(log_share - before)
        noise_squared = -np.expm1(log_share)  # 1 - abar, to all digits
        noise_before = -np.expm1(before)
        small = betas * noise_before / noise_squared
        log_betas = np.log(betas)
        log_small = np.log(small)
    # Zero variance at t = 0 has no logarithm; the next one stands in.
    log_small[0] = log_small[1] if length > 1 else np.log(1e-20)
    return Schedule(
        times=times,
        betas=betas,
        signal=np.exp(log_share / 2),
        noise=np.sqrt(noise_squared),
        snr=np.exp(log_share) / noise_squared,
        posterior_x0=np.exp(before / 2) * betas / noise_squared,
        posterior_x=np.exp((log_share - before) / 2) * noise_before / noise_squared,
        posterior_variance=small,
        log_small=log_small,
        log_large=np.concatenate([log_small[:1], log_betas[1:]]),
        log_betas=log_betas,
    )
