"""Nonconvex games whose solutions are of different kinds: minimax, Nash, or neither."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import general_sum, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Problem
from gamedyn.games.registry import register
from gamedyn.geometry import box


def _scalars(*values: float) -> tuple[jax.Array, ...]:
    return tuple(jnp.array(value, float) for value in values)


def _zero_sum(payoff, start: tuple[float, float], *solutions) -> Problem:
    return Problem(
        zero_sum(payoff),
        Partial(_forms.normal_start, _scalars(*start)),
        tuple(_scalars(*solution) for solution in solutions),
    )


@register(
    "seesaw",
    summary="a sine wave that a linear player tilts: many Nash points in a row",
    source="a toy of Hamiltonian type",
    shows="nonconvex rotation around several solutions",
    solution="Nash",
    zero_sum=True,
)
def seesaw() -> Problem:
    r"""Build the seesaw: $f(x, y) = -c\, y \sin(c \pi x)$, c = 0.95.

    y = 0 with x = k/c, k any integer, are Nash: there f = 0 whatever one player does.
    The eigenvalues of J are $\pm c^2 \pi i$. The standard start is (0.3, 0.5).

    Returns:
        The problem, with scalar params and the solutions of k = -1, 0, 1.
    """
    return _zero_sum(_seesaw, (0.3, 0.5), *((k / 0.95, 0.0) for k in (-1, 0, 1)))


def _seesaw(x: jax.Array, y: jax.Array) -> jax.Array:
    return -0.95 * y * jnp.sin(0.95 * np.pi * x)


@register(
    "two_sided_pl",
    summary="neither convex nor concave, yet its gradients dominate the gaps",
    source="Yang et al., 2020, arXiv:2002.09621",
    shows="global linear convergence without convexity",
    solution="Nash",
    zero_sum=True,
)
def two_sided_pl() -> Problem:
    r"""Build the game that fulfils the Polyak-Lojasiewicz inequality on both sides.

    $$f(x, y) = x^2 + 3 \sin^2 x \sin^2 y - 4 y^2 - 10 \sin^2 y.$$

    The standard start is (10, 10), the solution 0.

    Returns:
        The problem, with scalar params.
    """
    return _zero_sum(_two_sided_pl, (10.0, 10.0), (0.0, 0.0))


def _two_sided_pl(x: jax.Array, y: jax.Array) -> jax.Array:
    waves = jnp.sin(x) ** 2, jnp.sin(y) ** 2
    return x**2 + 3 * waves[0] * waves[1] - 4 * y**2 - 10 * waves[1]


@register(
    "ridge_1",
    summary="a quadratic whose minimax point repels gradient descent-ascent",
    source="Wang et al., 2020, arXiv:1910.07512",
    shows="a solution that only ridge-following methods keep",
    solution="minimax",
    zero_sum=True,
)
def ridge_1() -> Problem:
    r"""Build the quadratic $f(x, y) = -3x^2 - y^2 + 4xy$ with a repelling solution.

    0 is minimax: y is at its maximum and the maximum over y is $x^2$. The eigenvalues
    of J are -2 and -2. The standard start is (1, 0.5).

    Returns:
        The problem, with scalar params.
    """
    return _zero_sum(_ridge_1, (1.0, 0.5), (0.0, 0.0))


def _ridge_1(x: jax.Array, y: jax.Array) -> jax.Array:
    return -3 * x**2 - y**2 + 4 * x * y


@register(
    "ridge_2",
    summary="a quadratic whose critical point attracts gradients but solves nothing",
    source="Wang et al., 2020, arXiv:1910.07512",
    shows="a point that gradient descent-ascent should not converge to",
    solution="stationary",
    zero_sum=True,
)
def ridge_2() -> Problem:
    r"""Build the quadratic $f(x, y) = 3x^2 + y^2 + 4xy$: 0 attracts and solves nothing.

    0 is a minimum in y, who maximises. The eigenvalues of J are 2 and 2. The standard
    start is (1, 0.5).

    Returns:
        The problem, with scalar params; its "solution" 0 is stationary, no more.
    """
    return _zero_sum(_ridge_2, (1.0, 0.5), (0.0, 0.0))


def _ridge_2(x: jax.Array, y: jax.Array) -> jax.Array:
    return 3 * x**2 + y**2 + 4 * x * y


@register(
    "ridge_3",
    summary="a minimax point on a curved ridge that repels gradient descent-ascent",
    source="Wang et al., 2020, arXiv:1910.07512",
    shows="ridge-following where the ridge is no straight line",
    solution="minimax",
    zero_sum=True,
)
def ridge_3() -> Problem:
    r"""Build the curved ridge, minimax at 0.

    $$f(x, y) = \big(4x^2 - (y - 3x + \tfrac{x^3}{20})^2 - \tfrac{y^4}{10}\big)
      e^{-(x^2 + y^2)/100}.$$

    At 0 the Hessian is [[-10, 6], [6, -2]], its Schur complement 8, and the eigenvalues
    of J are -4 and -4. The standard start is (0.5, 0.5).

    Returns:
        The problem, with scalar params.
    """
    return _zero_sum(_ridge_3, (0.5, 0.5), (0.0, 0.0))


def _ridge_3(x: jax.Array, y: jax.Array) -> jax.Array:
    hill = 4 * x**2 - (y - 3 * x + 0.05 * x**3) ** 2 - 0.1 * y**4
    return hill * jnp.exp(-0.01 * (x**2 + y**2))


@register(
    "torus",
    summary="two angles, each with a place of its own, that avoid one another",
    source="Mazumdar et al., 2019, arXiv:1901.00838",
    shows="basins of several local Nash points, some of them unstable",
    solution="local Nash",
)
def torus(
    weights: Sequence[float] = (0.5, 0.5), phases: Sequence[float] = (0.0, 0.0)
) -> Problem:
    r"""Build the game on the torus.

    $$\ell_i = -a_i \cos(\theta_i - \phi_i) + \cos(\theta_i - \theta_j).$$

    With the weights 1/2 and the phases 0 the points $\pm(\arccos \frac14, -\arccos
    \frac14)$ are local Nash and attract; $(\pi, 0)$ and $(0, \pi)$ are local Nash and
    do not. The standard start is (1, 0.5).

    Args:
        weights: $a_1$ and $a_2$.
        phases: $\phi_1$ and $\phi_2$; papers differ in them.

    Returns:
        The problem, with scalar params. Its solutions are all local Nash points, with
        angles in $(-\pi, \pi]$; none under tracing.

    Raises:
        ValueError: if there are not two weights and two phases.
    """
    pull, place = (
        _forms.as_array(name, value, 1)
        for name, value in (("weights", weights), ("phases", phases))
    )
    for name, array in (("weights", pull), ("phases", place)):
        _forms.check_shape(name, array, (2,), "for two players")
    points = _local_nash(pull, place) if _forms.known(pull, place) else ()
    dtype = pull.dtype
    return Problem(
        general_sum(
            Partial(_angle, pull[0], place[0]), Partial(_other_angle, pull[1], place[1])
        ),
        Partial(_forms.normal_start, (jnp.ones((), dtype), jnp.full((), 0.5, dtype))),
        tuple(tuple(jnp.asarray(z, dtype) for z in point) for point in points),
    )


def _angle(weight, phase, own: jax.Array, other: jax.Array) -> jax.Array:
    return -weight * jnp.cos(own - phase) + jnp.cos(own - other)


def _other_angle(weight, phase, other: jax.Array, own: jax.Array) -> jax.Array:
    return _angle(weight, phase, own, other)


def _local_nash(weights: Any, phases: Any) -> tuple[np.ndarray, ...]:
    """Newton's method from a grid; kept where both own curvatures are positive."""
    a, place = np.asarray(weights, np.float64), np.asarray(phases, np.float64)
    points: list[np.ndarray] = []
    grid = np.linspace(-np.pi, np.pi, 25)[1:] - 0.05
    field = curvature = np.full(2, np.nan)
    for z in map(np.array, itertools.product(grid, grid)):
        for _ in range(40):
            gap, own = z[0] - z[1], z - place
            field = a * np.sin(own) - np.sin(gap) * np.array([1, -1])
            curvature = a * np.cos(own) - np.cos(gap)
            mixed = np.cos(gap)
            jacobian = np.array([[curvature[0], mixed], [mixed, curvature[1]]])
            if abs(np.linalg.det(jacobian)) < 1e-12:
                break
            z = z - np.linalg.solve(jacobian, field)
        # Into (-pi, pi]; pi itself must not become -pi by rounding.
        z = z - 2 * np.pi * np.ceil((z - np.pi) / (2 * np.pi) - 1e-9)
        if np.abs(field).max() > 1e-14 or curvature.min() <= 1e-9:
            continue
        if all(np.abs(z - other).max() > 1e-6 for other in points):
            points.append(z)
    return tuple(sorted(points, key=lambda point: tuple(np.round(point, 9))))


@register(
    "ratio_game",
    summary="a quotient of bilinear functions on the unit square",
    source="Yang et al., 2022, arXiv:2206.10575",
    shows="constrained play on which gradient descent-ascent cycles",
    solution="Nash",
    zero_sum=True,
    domain="box",
)
def ratio_game() -> Problem:
    r"""Build the ratio game on $[0, 1]^2$.

    $$f(x, y) = \frac{-1.2xy + 0.9y - 0.3}{0.1x + 0.4y + 0.4}.$$

    The solution is (0.95194102, 0.05048525), of value -0.60582305; the own Hessians
    vanish there, the eigenvalues of J are $\pm 2.328342i$. The standard start is
    (0.5, 0.5).

    Returns:
        The problem, with scalar params.
    """
    return Problem(
        zero_sum(_ratio),
        Partial(_forms.box_start(0.0, 1.0), _scalars(0.5, 0.5)),
        (_scalars(*_ratio_solution()),),
        geometry=box(0.0, 1.0),
    )


def _ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    return (-1.2 * x * y + 0.9 * y - 0.3) / (0.1 * x + 0.4 * y + 0.4)


def _ratio_solution() -> tuple[float, float]:
    """F = 0 says that numerator and denominator are parallel, with factor v = f."""
    value = np.polynomial.Polynomial([0, 1])
    x, y = (0.9 - 0.4 * value) / 1.2, -value / 12
    gap = -1.2 * x * y + 0.9 * y - 0.3 - value * (0.1 * x + 0.4 * y + 0.4)
    points = [(x(root), y(root)) for root in gap.roots() if np.isreal(root)]
    inside = [p for p in points if min(p) > 0 and max(p) < 1]
    return float(np.real(inside[0][0])), float(np.real(inside[0][1]))
