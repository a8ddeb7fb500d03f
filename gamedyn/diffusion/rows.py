r"""Noise levels and rows: the tables that all samplers are.

A sampler is rows of coefficients, one row for each network evaluation, computed in
float64 on the host; `gamedyn.diffusion.sampling` runs them in one scan.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from gamedyn.diffusion.schedules import Schedule, edm_sigmas, sigmas


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
    r"""The coefficients around each network evaluation; every leaf has shape (rows,).

    $$\hat x = l x + p z, \qquad (\hat x_0, \hat\epsilon) = \text{network}(\hat x, t),$$
    $$x' = w_x \hat x + w_0 \hat x_0 + w_\epsilon \hat\epsilon + k_x \hat x^- +
      k_0 \hat x_0^- + k_\epsilon \hat\epsilon^- + d z',$$

    where the minus marks the row before. Coefficients that a sampler does not use are
    `None`.

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
            variance chooses; d is then only read for whether there is noise.
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
        """The number of network evaluations."""
        return len(self.rows.time)


def as_levels(chain: Schedule | Levels) -> Levels:
    """Return the levels of a schedule, noisiest first; levels stay as they are.

    Raises:
        ValueError: if the noise does not decrease from level to level.
        TypeError: if it is neither.
    """
    if not isinstance(chain, Schedule | Levels):
        raise TypeError(f"expected a Schedule or Levels, got {type(chain).__name__}")
    if isinstance(chain, Schedule):
        tables = chain.times, chain.signal, chain.noise
        return Levels(*(np.asarray(table)[::-1] for table in tables))
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
            `sampling.preconditioned`. Otherwise the chain of the network: x is
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
            f"the chain has noise-to-signal ratios from {known[0]:.4g} to "
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
    return sampler._replace(rows=row_slice(sampler.rows, slice(row, None)))


def moves(chain: Schedule | Levels) -> tuple[Levels, tuple[np.ndarray, ...]]:
    """Return levels, and (a, s, a', s') of the move that leaves each."""
    levels = as_levels(chain)
    after = np.append(levels.signal[1:], 1.0), np.append(levels.noise[1:], 0.0)
    return levels, (levels.signal, levels.noise, *after)


def added_variance(
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


def start_deviation(levels: Levels) -> np.ndarray:
    """Return the standard deviation of the start: that of pure noise."""
    unit = abs(levels.signal[0] ** 2 + levels.noise[0] ** 2 - 1) < 1e-6
    return np.asarray(1.0 if unit else levels.noise[0])


def interleaved(first: Rows, second: Rows) -> Rows:
    """Put the rows of two tables in turn."""
    return jax.tree.map(
        lambda a, b: np.stack([a, b], axis=1).reshape(-1), first, second
    )


def row_slice(rows: Rows, part: slice) -> Rows:
    """Keep some rows of a table."""
    return jax.tree.map(lambda leaf: leaf[part], rows)
