"""Importance sampling of time steps, by how much each term of the bound scatters.

Train in rounds: the rows `times` and `terms` of `game.monitor` that `gamedyn.solve`
recorded in one round go into the history, and the next round's batches carry its
`probabilities`, without recompilation. With `gamedyn.train.fit` a round is a call
that resumes; between them the game's `losses.func.evaluate(params, batch)` gives times
and terms, and `Batches.load` hands the probabilities on.
"""

from typing import Any, NamedTuple

import numpy as np

from gamedyn.checks import check_positive_integer


class History(NamedTuple):
    """The latest terms of the bound at every time step, kept on the host.

    Attributes:
        terms: shape (T, length), the oldest first.
        counts: number of terms recorded, shape (T,), at most `length`.
    """

    terms: np.ndarray
    counts: np.ndarray


def history(num_steps: int, length: int = 10) -> History:
    """Make an empty history.

    Args:
        num_steps: of the chain, T.
        length: number of terms kept for each step.

    Returns:
        The empty history.

    Raises:
        ValueError: if a number is not a positive integer.
    """
    check_positive_integer("num_steps", num_steps)
    check_positive_integer("length", length)
    return History(np.zeros((num_steps, length)), np.zeros(num_steps, int))


def update(seen: History, times: Any, terms: Any) -> History:
    """Put recorded terms into the history, in the order given.

    Args:
        seen: the history.
        times: steps, any shape: the rows `times` of `game.monitor`.
        terms: of the bound, of the same shape.

    Returns:
        The new history; terms that are not finite are left out.

    Raises:
        ValueError: if the shapes differ.
    """
    times, terms = np.asarray(times), np.asarray(terms, np.float64)
    if times.shape != terms.shape:
        raise ValueError(
            f"expected a term for each step, got shapes {times.shape} and {terms.shape}"
        )
    values, counts = seen.terms.copy(), seen.counts.copy()
    for t, term in zip(times.ravel(), terms.ravel(), strict=True):
        if np.isfinite(term):
            values[t] = np.append(values[t, 1:], term)
            counts[t] = min(counts[t] + 1, values.shape[1])
    return History(values, counts)


def probabilities(seen: History, *, uniform: float = 1e-3) -> np.ndarray:
    r"""Return how often to draw each step, for `Batch.probabilities`.

    $$p_t \propto \sqrt{E\, L_t^2},$$

    mixed with a little of the uniform law, and that law alone until every step has a
    full history. The game divides by $T p_t$, so that its mean stays what it was.

    Args:
        seen: the history.
        uniform: the share of the uniform law.

    Returns:
        Shape (T,), float64, of sum 1.

    References:
        A. Nichol and P. Dhariwal, 2021, section 3.3.
        <https://arxiv.org/abs/2102.09672>

    Example:
        >>> seen = update(history(2, 1), [0, 1], [3.0, 1.0])
        >>> probabilities(seen, uniform=0.0)
        array([0.75, 0.25])
    """
    number, length = seen.terms.shape
    if np.any(seen.counts < length):
        return np.full(number, 1 / number)
    sizes = np.sqrt(np.mean(seen.terms**2, axis=1))
    if not sizes.sum() > 0:
        return np.full(number, 1 / number)
    return (1 - uniform) * sizes / sizes.sum() + uniform / number
