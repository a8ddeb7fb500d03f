"""Games without an attracting solution: every reasonable method has to cycle."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.game import general_sum, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Problem
from gamedyn.games.registry import register


def _at_zero(game) -> Problem:
    start = jnp.array(0.5, float), jnp.array(0.3, float)
    zero = jnp.zeros((), float)
    return Problem(game, Partial(_forms.normal_start, start), ((zero, jnp.copy(zero)),))


@register(
    "impossibility",
    summary="zero-sum, its only critical point worst for both players: all methods "
    "cycle",
    source="Letcher, 2021, arXiv:2005.12649",
    shows="honesty: no reasonable method converges",
    solution="stationary",
    zero_sum=True,
)
def impossibility() -> Problem:
    r"""Build the zero-sum game in which no reasonable method can converge.

    $$f(x, y) = xy - \tfrac12 x^2 + \tfrac12 y^2 + \tfrac14 x^4 - \tfrac14 y^4.$$

    0 is the only critical point, a strict maximum of both players' own losses, and the
    eigenvalues of J there are $-1 \pm i$: a method that ends there is not to be
    trusted elsewhere. The losses are coercive, so all others cycle. The standard start
    is (0.5, 0.3).

    Returns:
        The problem, with scalar params.
    """
    return _at_zero(zero_sum(_impossibility))


def _impossibility(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * y - 0.5 * x**2 + 0.5 * y**2 + 0.25 * x**4 - 0.25 * y**4


@register(
    "market",
    summary="two firms whose only critical point is worst for both: all methods cycle",
    source="Letcher, 2021, arXiv:2005.12649",
    shows="honesty: no reasonable method converges, general-sum",
    solution="stationary",
)
def market() -> Problem:
    r"""Build the general-sum game in which no reasonable method can converge.

    $$\ell_1 = xy - \tfrac12 x^2 + \tfrac16 x^6 + \tfrac14 g, \qquad
      \ell_2 = -xy - \tfrac12 y^2 + \tfrac16 y^6 - \tfrac14 g, \qquad
      g = \frac{y^4}{1 + x^2} - \frac{x^4}{1 + y^2}.$$

    The eigenvalues of J at the critical point 0 are $-1 \pm i$. The standard start is
    (0.5, 0.3).

    Returns:
        The problem, with scalar params.
    """
    return _at_zero(general_sum(_market_first, _market_second))


def _trade(x: jax.Array, y: jax.Array) -> jax.Array:
    return 0.25 * (y**4 / (1 + x**2) - x**4 / (1 + y**2))


def _market_first(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * y - 0.5 * x**2 + x**6 / 6 + _trade(x, y)


def _market_second(x: jax.Array, y: jax.Array) -> jax.Array:
    return -x * y - 0.5 * y**2 + y**6 / 6 - _trade(x, y)


@register(
    "market_with_minimum",
    summary="the market with a strict local minimum hidden in a tiny disc",
    source="Letcher, 2021, arXiv:2005.12649",
    shows="solutions that a method finds by its start only",
    solution="local Nash",
)
def market_with_minimum(radius: float = 0.01) -> Problem:
    r"""Build the `market` whose critical point is a strict minimum for both players.

    $$\ell_1 = \tfrac16 x^6 - x^2 + h + xy + \tfrac14 g, \qquad
      \ell_2 = \tfrac16 y^6 - h - xy - \tfrac14 g,$$

    with the g of the market, $r^2 = x^2 + y^2$ and

    $$h = \tfrac12 (r^2 - s^2) \ \text{ if } r \ge s, \qquad
      h = \frac{(y^2 - 3x^2)(r^2 - s^2)}{2 s^2} \ \text{ otherwise}.$$

    Outside of the disc of radius s it is the market up to a constant; the losses are
    continuous, with a kink on the circle. At 0 the eigenvalues of J are $1 \pm i$. The
    standard start is (0.5, 0.3).

    Args:
        radius: s, positive.

    Returns:
        The problem, with scalar params.

    Raises:
        ValueError: if the radius is not positive.
    """
    size = _forms.as_array("radius", radius, 0)
    if _forms.known(size) and not size > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    start = jnp.full_like(size, 0.5), jnp.full_like(size, 0.3)
    zero = jnp.zeros_like(size)
    return Problem(
        general_sum(Partial(_hidden_first, size), Partial(_hidden_second, size)),
        Partial(_forms.normal_start, start),
        ((zero, zero),),
    )


def _hidden(s: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    excess = 0.5 * (x**2 + y**2 - s**2)
    return jnp.where(excess >= 0, excess, excess * (y**2 - 3 * x**2) / s**2)


def _hidden_first(s: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return x**6 / 6 - x**2 + _hidden(s, x, y) + x * y + _trade(x, y)


def _hidden_second(s: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return y**6 / 6 - _hidden(s, x, y) - x * y - _trade(x, y)
