"""What a Lanczos run proves of a spectrum: bounds beyond its ends, and witnesses.

Symbols as in `gamedyn.analysis.krylov`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gamedyn.analysis.krylov import flattened, tridiagonal_eigh
from gamedyn.analysis.operators import as_callable
from gamedyn.analysis.precision import Limits, float64, inspect
from gamedyn.checks import check_positive_integer
from gamedyn.game import PyTree
from gamedyn.trees import norm_on_host
from gamedyn.x64 import enable_x64


def kuczynski_wozniakowski(dimension: int, num_steps: int, delta: float) -> float:
    r"""Bound the relative error of the smallest Ritz value a priori.

    $$P\big(\theta_{\min} - \lambda_{\min} > e\,(\lambda_{\max} - \lambda_{\min})\big)
      \le \delta, \qquad
      e = \Big( \frac{\ln(1.648 \sqrt{n}/\delta)}{2k - 1} \Big)^2,$$

    for a start drawn uniformly from the sphere and exact arithmetic.

    Args:
        dimension: n.
        num_steps: k.
        delta: the probability of failure allowed, between 0 and 1.

    Returns:
        e, at most 1; 0 where k reaches n.

    Example:
        >>> from gamedyn.analysis import kuczynski_wozniakowski
        >>> print(f"{kuczynski_wozniakowski(10**6, 100, 1e-6):.5f}")
        0.01137

    References:
        Kuczynski, Wozniakowski, "Estimating the largest eigenvalue by the power and
        Lanczos algorithms with a random start", SIAM J. Matrix Anal. Appl. 13, 1992.
    """
    check_positive_integer("dimension", dimension)
    check_positive_integer("num_steps", num_steps)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    if num_steps >= dimension:
        return 0.0
    e = (math.log(1.648 * math.sqrt(dimension) / delta) / (2 * num_steps - 1)) ** 2
    return min(e, 1.0)


class SpectrumBounds(NamedTuple):
    """Probabilistic bounds of the spectrum, from the random start of a Lanczos run.

    Attributes:
        lower: the smallest eigenvalue is no less, with `probability`.
        upper: the largest eigenvalue is no more, with `probability`.
        a_priori: the lower bound of Kuczynski and Wozniakowski alone, -inf if vacuous.
        a_posteriori: the lower bound from the Lanczos polynomial alone.
        probability: of each statement by itself, 1 - 3 delta.
        allowance: what was taken off for rounding, an estimate.
    """

    lower: float
    upper: float
    a_priori: float
    a_posteriori: float
    probability: float
    allowance: float


def spectrum_bounds(
    diagonal: np.ndarray,
    off_diagonal: np.ndarray,
    dimension: int,
    *,
    delta: float = 1e-6,
    allowance: float = 0.0,
) -> SpectrumBounds:
    r"""Bound the spectrum from outside, in probability over the random start.

    The better one of two bounds. A priori, with e of `kuczynski_wozniakowski` used at
    both ends, needing e < 1/2 and holding with probability 1 - 2 delta:

    $$\lambda_{\min} \ge \theta_{\min} - \tfrac{e}{1 - 2e}
      (\theta_{\max} - \theta_{\min}).$$

    A posteriori, holding with probability 1 - delta: the last residual is the Lanczos
    polynomial of H applied to the start q, so its component along a unit eigenvector v
    of lambda_min gives

    $$|q^\top v| \prod_{i=1}^k (\theta_i - \lambda_{\min}) \le \prod_{j=1}^k \beta_j,
      \qquad P(|q^\top v| \le t) \le t \sqrt{2n/\pi},$$

    and lambda_min is no less than the root of the product below theta_min. Both are
    theorems in exact arithmetic about the fixed operator; rounding enters by
    `allowance`.

    Args:
        diagonal: of T, shape `(k,)`.
        off_diagonal: of T and the last residual, shape `(k,)`.
        dimension: n.
        delta: the probability of failure of one statement, between 0 and 1.
        allowance: what to take off for rounding.

    Returns:
        The bounds.

    References:
        Kuczynski, Wozniakowski, as in `kuczynski_wozniakowski`.
        van Dorsselaer, Hochstenbach, van der Vorst, "Computing probabilistic bounds
        for extreme eigenvalues of symmetric matrices with the Lanczos method", SIAM J.
        Matrix Anal. Appl. 22, 2000.
    """
    # In a unit of its own: the product below is of numbers about 1.
    largest = max(np.abs(diagonal).max(), np.abs(off_diagonal).max())
    exponent = int(np.frexp(largest)[1]) if np.isfinite(largest) else 0
    diagonal, off_diagonal = (
        np.ldexp(part, -exponent) for part in (diagonal, off_diagonal)
    )
    allowance = float(np.ldexp(allowance, -exponent))
    ritz = tridiagonal_eigh(diagonal, off_diagonal)[0]
    width = ritz[-1] - ritz[0]
    e = kuczynski_wozniakowski(dimension, len(ritz), delta)
    slack = e / (1 - 2 * e) * width if e < 0.5 else math.inf
    a_priori = ritz[0] - slack
    with np.errstate(divide="ignore"):
        budget = float(np.sum(np.log(off_diagonal)))
    budget += 0.5 * math.log(2 * dimension / math.pi) - math.log(delta)
    a_posteriori = ritz[0] - _root(ritz - ritz[0], budget)
    above = min(slack, _root(ritz[-1] - ritz, budget))

    def in_units(value: float) -> float:
        return float(np.ldexp(value, exponent))

    return SpectrumBounds(
        lower=in_units(max(a_priori, a_posteriori) - allowance),
        upper=in_units(ritz[-1] + above + allowance),
        a_priori=in_units(a_priori - allowance),
        a_posteriori=in_units(a_posteriori - allowance),
        probability=1 - 3 * delta,
        allowance=in_units(allowance),
    )


class RayleighQuotient(NamedTuple):
    """The curvature along one direction, evaluated again with its error bound.

    Attributes:
        quotient: v'Hv of the unit vector v.
        error: bound on the error of the quotient. The rounding of v'(Hv) is bounded,
            that of differentiation estimated by (n + 100) u |H|.
        residual: |Hv - (v'Hv) v|.
        noise: |Hv - (Hv in working precision)|, or 0 where that is the same.
        dtype: the precision of the product.
        trusted: whether the product is of the operator itself: nothing in it is of a
            precision below the leaves', and float64 differs by no more than rounding.
        remark: the low precision inside, in words.
        matvecs: the number of products spent.
    """

    quotient: float
    error: float
    residual: float
    noise: float
    dtype: str
    trusted: bool
    remark: str
    matvecs: int

    @property
    def negative(self) -> bool:
        """Whether the direction is a witness of negative curvature."""
        return self.trusted and self.quotient + self.error < 0


def rayleigh_quotient(
    operator: Callable[[PyTree], PyTree],
    like: PyTree,
    vector: jax.Array,
    *,
    scale: float,
    image: jax.Array | None = None,
) -> RayleighQuotient:
    r"""Evaluate the curvature along a direction with a fresh product, in float64.

    $$q = \frac{v^\top H v}{v^\top v}, \qquad
      e = \gamma_{2n+2} |v|^\top |Hv| + (n + 100)\, u\, |H|,$$

    a witness of negative curvature where q + e < 0, whatever the vector came from. The
    leaves of the operator are cast to float64, which is exact, and it is traced anew,
    unless it draws random numbers: others would be drawn, so that the working precision
    is kept, and u is that one's.

    Args:
        operator: `operator(vector) -> vector`, a pytree whose arrays are leaves.
        like: a vector or pytree of the structure the operator acts on.
        vector: the direction v, flat, shape `(n,)`.
        scale: an estimate of |H|.
        image: the product Hv in working precision, where it is known.

    Returns:
        The quotient with its error.
    """
    operator = as_callable(operator)
    like = jax.tree.map(jnp.asarray, like)
    dtype = np.dtype(vector.dtype)
    known = image is not None
    if image is None:
        image = _product(operator, like, vector)
    working = np.asarray(image, np.float64)
    double = dtype == np.float64
    again = not double and not _inspect(operator, like, vector).draws
    fresh, limits = working, Limits()
    if again or double:
        with enable_x64(True), jax.numpy_dtype_promotion("standard"):
            arguments = (operator, like, vector)
            arguments = float64(arguments) if again else arguments
            limits = _inspect(*arguments)
            fresh = np.asarray(_product(*arguments)) if again else fresh
    direction = np.asarray(vector, np.float64)
    norm = norm_on_host(direction)
    direction, fresh, working = direction / norm, fresh / norm, working / norm
    unit = limits.unit if again or double else float(jnp.finfo(dtype).eps) / 2
    size, quotient = direction.size, float(direction @ fresh)
    gamma = (2 * size + 2) * 2.0**-53
    error = gamma / (1 - gamma) * float(np.abs(direction) @ np.abs(fresh))
    error = 1.01 * (error + (size + 100) * unit * scale)
    noise = norm_on_host(fresh - working)
    return RayleighQuotient(
        quotient=quotient,
        error=error,
        residual=norm_on_host(fresh - quotient * direction),
        noise=noise,
        dtype="float64" if again or double else dtype.name,
        # float32 leaves differences of 1e-6 |H|; another operator is much further off.
        trusted=not limits.low
        and bool(np.isfinite(quotient) and noise <= 1e-2 * scale),
        remark=limits.words,
        matvecs=(not known) + again,
    )


def _inspect(operator, like, vector) -> Limits:
    return inspect(_product.trace(operator, like, vector).jaxpr)


@jax.jit
def _product(operator, like, vector) -> jax.Array:
    return flattened(operator, like)(vector)


def _root(gaps: np.ndarray, budget: float) -> float:
    """The x > 0 at which `sum(log(gaps + x)) == budget`, by bisection."""
    if budget == -math.inf:
        return 0.0
    low, high = -700.0, 700.0
    for _ in range(100):
        middle = (low + high) / 2
        if np.sum(np.log(gaps + math.exp(middle))) > budget:
            high = middle
        else:
            low = middle
    return math.exp(high)
