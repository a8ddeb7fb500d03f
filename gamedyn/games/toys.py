"""Nonconvex games of two scalars, on which convergence cannot be taken for granted."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import general_sum, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Problem
from gamedyn.games.registry import register


def _scalars(*values: float) -> tuple[jax.Array, ...]:
    return tuple(jnp.array(value, float) for value in values)


@register(
    "forsaken",
    summary="a local minimax point that every usual method misses for a spurious cycle",
    source="Hsieh et al., 2021, arXiv:2006.09065",
    shows="spurious cycles that attract every usual method",
    solution="stationary",
    zero_sum=True,
)
def forsaken() -> Problem:
    r"""Build the Forsaken game: extragradient ends on a cycle instead of the solution.

    $$f(x, y) = x (y - 0.45) + \phi(x) - \phi(y), \qquad
      \phi(z) = \tfrac{z^2}4 - \tfrac{z^4}2 + \tfrac{z^6}6.$$

    There is one critical point, where the eigenvalues of J have positive real part:
    the flow is attracted from nearby, but not from far. The standard start is
    (0.5, 0.5).

    Returns:
        The problem, with scalar params.
    """
    return Problem(
        zero_sum(_forsaken),
        Partial(_forms.normal_start, _scalars(0.5, 0.5)),
        (_scalars(*_forsaken_solution()),),
    )


def _forsaken(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * (y - 0.45) + _forsaken_well(x) - _forsaken_well(y)


def _forsaken_well(z: jax.Array) -> jax.Array:
    return z**2 / 4 - z**4 / 2 + z**6 / 6


def _forsaken_solution() -> np.ndarray:
    """Newton's method on F = 0 from nearby, to machine precision."""
    slope = np.polynomial.Polynomial([0, 0.5, 0, -2, 0, 1])
    z = np.array([0.1, 0.4])
    for _ in range(10):
        x, y = z
        field = np.array([y - 0.45 + slope(x), slope(y) - x])
        jacobian = np.array([[slope.deriv()(x), 1], [-1, slope.deriv()(y)]])
        z = z - np.linalg.solve(jacobian, field)
    return z


@register(
    "global_forsaken",
    summary="Forsaken's well made global: extragradient with a small update step "
    "converges",
    source="Pethick et al., 2022, arXiv:2302.09831",
    shows="extragradient under the weak Minty inequality",
    solution="Nash",
    zero_sum=True,
)
def global_forsaken() -> Problem:
    r"""Build the GlobalForsaken game, weak Minty everywhere, with a limit cycle.

    $$f(x, y) = xy + \phi(x) - \phi(y), \qquad
      \phi(z) = \tfrac{2 z^6}{21} - \tfrac{z^4}3 + \tfrac{z^2}3.$$

    The standard start is (1, 1), the solution 0.

    Returns:
        The problem, with scalar params.
    """
    return Problem(
        zero_sum(_global_forsaken),
        Partial(_forms.normal_start, _scalars(1.0, 1.0)),
        (_scalars(0.0, 0.0),),
    )


def _global_forsaken(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * y + _global_well(x) - _global_well(y)


def _global_well(z: jax.Array) -> jax.Array:
    return 2 * z**6 / 21 - z**4 / 3 + z**2 / 3


@register(
    "polar",
    summary="an attracting solution inside a repelling and an attracting cycle; not "
    "zero-sum",
    source="Pethick et al., 2022, arXiv:2302.09831",
    shows="limit cycles whose fate depends on the step size",
    solution="Nash",
)
def polar(a: float = 1 / 3) -> Problem:
    r"""Build the polar game: a common potential plus a rotation.

    $$\ell_1 = V - xy, \quad \ell_2 = V + xy, \qquad
      V = \tfrac{a}{32} \big(\tfrac{16}3 r^6 - \tfrac{25}2 r^4 + 9 r^2\big), \quad
      r^2 = x^2 + y^2,$$

    $$F = (\psi(x, y) - y,\ \psi(y, x) + x), \qquad
      \psi(x, y) = \tfrac{a}{16} x (r^2 - 1)(16 r^2 - 9).$$

    For the flow the solution 0 attracts, the cycle r = 3/4 repels and the cycle r = 1
    attracts; the eigenvalues of J at 0 are $9a/16 \pm i$. The standard start is
    (0.9, 0.9).

    Args:
        a: the strength of the potential; the source uses 1/3 and 3.

    Returns:
        The problem, with scalar params.
    """
    strength = _forms.as_array("a", a, 0)
    start, zero = jnp.full_like(strength, 0.9), jnp.zeros_like(strength)
    return Problem(
        general_sum(Partial(_polar_first, strength), Partial(_polar_second, strength)),
        Partial(_forms.normal_start, (start, start)),
        ((zero, zero),),
    )


def _potential(a: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    square = x**2 + y**2
    return a / 32 * (16 / 3 * square**3 - 25 / 2 * square**2 + 9 * square)


def _polar_first(a: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return _potential(a, x, y) - x * y


def _polar_second(a: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return _potential(a, x, y) + x * y
