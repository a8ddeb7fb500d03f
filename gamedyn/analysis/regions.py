"""Stability regions: where in the plane of J's eigenvalues a rule converges."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.updates import cycle_jacobian, settled
from gamedyn.rules.base import Rule
from gamedyn.x64 import enable_x64

_POINTS = 121  # of the grid, along the upper half of the imaginary axis
_CHUNK = 2048  # linear games in one compiled call
_WARMUP = 10  # updates that fill the rule's memory, at least
_AGREEMENT = 1e-5  # of spectral radii; a defective eigenvalue 0 moves by 1e-16 ** (1/3)


class Region(NamedTuple):
    r"""Where in the plane of $\lambda(J)$ a rule converges.

    Attributes:
        real: the grid's real parts, shape `(n,)`.
        imaginary: the grid's imaginary parts, shape `(m,)`.
        radius: spectral radius per step of the rule's update map on the linear game
            whose J has the eigenvalues $\lambda, \bar\lambda$, shape `(m, n)`.
    """

    real: np.ndarray
    imaginary: np.ndarray
    radius: np.ndarray


def stability_region(
    rule: Rule, limits: tuple[float, float, float], num_players: int = 2
) -> Region:
    """Evaluate a rule's own update map over a grid of eigenvalues.

    Args:
        rule: the rule, for two players, or for one if there is only one.
        limits: left, right, and upper end; the lower half mirrors the upper one.
        num_players: of the game.

    Returns:
        The region. It is about other games too only if `modewise`.
    """
    left, right, top = limits
    upper = np.linspace(0.0, top, _POINTS)
    real = np.linspace(left, right, round((right - left) / top * (_POINTS - 1)) + 1)
    grid = real[None, :] + 1j * upper[:, None]
    half = mode_radii(rule, grid.ravel(), num_players).reshape(grid.shape)
    return Region(
        real,
        np.concatenate([-upper[:0:-1], upper]),
        np.concatenate([half[:0:-1], half]),
    )


def mode_radii(rule: Rule, eigenvalues: Any, num_players: int = 2) -> np.ndarray:
    r"""Compute a rule's rate on the linear games of given eigenvalues.

    Of two scalar players, or one player of two parameters, with

    $$J = \begin{pmatrix} a & -b \\ b & a \end{pmatrix}, \qquad \lambda = a \pm b i,$$

    the spectral radius of the Jacobian of the rule's own update map, all of them in one
    compiled call.

    Args:
        rule: the rule, for as many players.
        eigenvalues: one $\lambda$ per game, complex, shape `(n,)`.
        num_players: 1, or anything above for two.

    Returns:
        The radii per step, shape `(n,)`; infinite where the map has no finite Jacobian.
    """
    values = np.asarray(eigenvalues, complex)
    padded = np.pad(values, (0, -len(values) % _CHUNK))  # one shape, compiled once
    shapes = ((2,),) if num_players == 1 else ((), ())
    chunks = np.split(
        _rotations(np.real(padded), np.imag(padded)), len(padded) // _CHUNK
    )
    radii = [_linear_radii(rule, shapes, chunk) for chunk in chunks]
    return np.concatenate(radii)[: len(values)]


def _rotations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrices with the eigenvalues a + ib and a - ib."""
    return np.stack([np.stack([a, -b], -1), np.stack([b, a], -1)], -2)


def _linear_radii(
    rule: Rule, shapes: tuple[tuple[int, ...], ...], matrices: np.ndarray
) -> np.ndarray:
    """Spectral radii per step at the zero of linear fields, all in one jit."""
    with enable_x64(True), jax.numpy_dtype_promotion("standard"):
        jacobians = np.asarray(_linear_jacobians(rule, shapes)(jnp.asarray(matrices)))
    finite = np.isfinite(jacobians).all(axis=(-2, -1))
    radii = np.full(len(jacobians), np.inf)
    moduli = np.abs(np.linalg.eigvals(jacobians[finite]))
    radii[finite] = moduli.max(axis=-1) ** (1 / rule.period)
    return radii


@functools.lru_cache(maxsize=8)
def _linear_jacobians(
    rule: Rule, shapes: tuple[tuple[int, ...], ...]
) -> Callable[[jax.Array], jax.Array]:
    """Compile the Jacobians of a rule's update map at the zero of linear fields."""
    warmup = -(-_WARMUP // rule.period) * rule.period

    def jacobian(matrix):
        start = tuple(jnp.zeros(shape, matrix.dtype) for shape in shapes)
        unravel = ravel_pytree(start)[1]

        def field(params, batch=None):
            del batch
            return unravel(matrix @ ravel_pytree(params)[0])

        batches = (None,) * rule.num_batches
        state = settled(field, rule, start, rule.init(start), batches, warmup)
        return cycle_jacobian(field, rule, start, state, batches)

    return jax.jit(jax.vmap(jacobian))


def modewise(
    rule: Rule, shown: Rule, num_players: int, step_size: float, *, trials: int = 4
) -> bool:
    """Test whether a rule's rate on a linear game depends on J's eigenvalues alone.

    Found out by experiment: its update map on random games that mix all players has to
    have the spectral radius that the eigenvalues of J give one by one. Rules in which
    the players differ or take turns fail.

    Args:
        rule: the rule.
        shown: the same for two players, or for one if there is only one.
        num_players: of the game.
        step_size: sets the scale of the random games.
        trials: how many to try.

    Returns:
        Whether all agree.
    """
    random = np.random.default_rng(0)
    n, size = num_players, 2 * num_players
    modes = random.uniform(-1, 1, (trials, n, 2)) / step_size
    # Of every scale: where h is small against 1/|J|, all rules look alike.
    modes *= np.logspace(-1, 0.3, trials)[:, None, None]
    matrices = np.zeros((trials, size, size))
    for k, (a, b) in enumerate(np.moveaxis(modes, 1, 0).swapaxes(1, 2)):
        part = slice(2 * k, 2 * k + 2)
        matrices[:, part, part] = _rotations(a, b)
    mix = np.eye(size) + 0.5 * random.normal(size=(trials, size, size)) / math.sqrt(
        size
    )
    matrices = mix @ matrices @ np.linalg.inv(mix)
    together = _linear_radii(rule, ((2,),) * n, matrices)
    values = (modes[..., 0] + 1j * modes[..., 1]).ravel()
    alone = mode_radii(shown, values, n).reshape(trials, n).max(axis=1)
    return bool(np.allclose(together, alone, rtol=_AGREEMENT, atol=_AGREEMENT))
