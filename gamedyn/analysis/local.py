"""A game near a point: its derivatives in float64, and how far to trust them."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn.analysis.jacobians import dense_jacobian, flat
from gamedyn.analysis.precision import (
    Limits,
    check_finite,
    float64,
    frozen,
    inspect,
    inspect_losses,
    point_dtype,
)
from gamedyn.analysis.verdicts import Curvature
from gamedyn.checks import described, is_known, is_real_scalar
from gamedyn.game import Batch, Game, Params, check_params, no_game

MANY = 1000
"""Dimension above which eigenvalues of non-symmetric matrices are left out."""

_CHUNK = 128
"""Columns of J at a time above `MANY` dimensions."""


@dataclasses.dataclass(frozen=True)
class Values:
    """Losses, field and Jacobian at a point; the blocks of player i by `slices[i]`."""

    point: np.ndarray
    losses: np.ndarray
    field: np.ndarray
    jacobian: np.ndarray
    slices: tuple[slice, ...]

    @functools.cached_property
    def scales(self) -> tuple[float, ...]:
        """The spectral norm |J_i|_2 of every player's block row."""
        return tuple(spectral_norm(self.jacobian[part]) for part in self.slices)

    def block(self, i: int, j: int) -> np.ndarray:
        """The block J_ij."""
        return self.jacobian[self.slices[i], self.slices[j]]


@functools.partial(jax.jit, static_argnames="chunk")
def _derivatives(
    game: Game, params: Params, batch: Batch, chunk: int | None
) -> tuple[jax.Array, ...]:
    """Compute losses, field and Jacobian; jit keeps what it compiled for a game."""
    field, point = flat(game, params, batch)
    losses = jnp.stack(game(params, batch))
    return losses, field(point), dense_jacobian(field, point, chunk=chunk)


class Local(NamedTuple):
    """How a game is differentiated, and what limits the trust in that."""

    slices: tuple[slice, ...]
    chunk: int | None
    low: dict[int, Limits]
    notes: tuple[str, ...]

    @classmethod
    def make(
        cls, game: Game, params: Params, batch: Batch, chunk: int | None
    ) -> "Local":
        """Trace and inspect losses, field and Jacobian.

        Args:
            game: the game, its arrays in float64.
            params: the point, in float64.
            batch: the batch, in float64.
            chunk: columns of J at a time; `None`: all, or 128 above 1000 parameters.

        Returns:
            What evaluates them.

        Raises:
            ValueError: if there are no parameters, or the losses cannot be traced or
                draw random numbers.
        """
        sizes = [ravel_pytree(own)[0].size for own in params]
        ends = np.cumsum(sizes).tolist()
        slices = tuple(
            slice(end - size, end) for end, size in zip(ends, sizes, strict=True)
        )
        if not ends[-1]:
            raise ValueError("the point has no parameters at all")
        if chunk is None and ends[-1] > MANY:
            chunk = _CHUNK
        per_loss = inspect_losses(game, params, batch)

        traced = _derivatives.trace(game, params, batch, chunk=chunk)
        whole = inspect(traced.jaxpr)
        low = {player: limits for player, limits in enumerate(per_loss) if limits.low}
        if whole.low and not low:
            low = dict.fromkeys(range(game.num_players), whole)
        notes = tuple(
            f"the loss of player {player} {limits.words}: findings on this player are "
            "PROBABLE at best"
            for player, limits in low.items()
        )
        return cls(slices, chunk, low, notes)

    def at(self, game: Game, params: Params, batch: Batch) -> Values:
        """Evaluate at a point, of the shapes that were traced.

        Args:
            game: the game.
            params: the point.
            batch: the batch.

        Returns:
            The values, as numpy arrays.

        Raises:
            ValueError: if one is not finite, or an own Hessian not symmetric.
        """
        arrays = _derivatives(game, params, batch, chunk=self.chunk)
        losses, field, matrix = map(np.asarray, arrays)
        point = np.asarray(ravel_pytree(params)[0])
        values = Values(point, losses, field, matrix, self.slices)
        for player, part in enumerate(self.slices):
            if not np.isfinite(losses[player]):
                raise ValueError(
                    f"the loss of player {player} is {losses[player]} at this point"
                )
            if not np.all(np.isfinite(field[part])):
                raise ValueError(
                    f"the gradient of player {player} is not finite at this point: "
                    "the loss is not smooth there, so no derivative test applies"
                )
            if not np.all(np.isfinite(matrix[part])):
                raise ValueError(
                    f"the second derivatives of the loss of player {player} are not "
                    "finite at this point (NaN Hessian): the loss is not smooth there, "
                    "so no second-order test applies"
                )
            _check_symmetric(values, player, bool(self.low.get(player)))
        return values


def check_point(game: Game, params: Params, batch: Batch) -> None:
    """Raise `TypeError` or `ValueError` unless this is a known point of a game."""
    if not isinstance(game, Game):
        raise no_game("expected a Game", game)
    if not all(map(is_known, jax.tree.leaves((game, params, batch)))):
        raise TypeError("certificates are made outside jit, got traced values")
    check_params(params, game.num_players)


def check_not_negative(name: str, value: float | None) -> None:
    """Raise `ValueError` if a number is given that is negative or not finite."""
    if value is not None and not is_real_scalar(value):
        raise TypeError(f"{name} must be a number, got {described(value)}")
    if value is not None and not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def default_tolerance(dtype: np.dtype) -> float:
    """The largest residual that counts as zero: sqrt(eps) of the point's precision."""
    return float(np.sqrt(float(jnp.finfo(dtype).eps)))


@contextlib.contextmanager
def in_float64(
    game: Game, params: Params, batch: Batch
) -> Iterator[tuple[Game, Params, Batch, np.dtype]]:
    """Enter float64 with game, point and batch cast exactly."""
    check_point(game, params, batch)
    dtype = point_dtype(params)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = float64(params, strict=True)
        check_finite(params)
        yield float64(game), params, float64(frozen(batch)), dtype


def ratio(norm: float, scale: float) -> float:
    """Divide a norm by its scale; 0/0 is 0, anything else over 0 infinite."""
    if scale:
        return norm / scale
    return 0.0 if norm == 0 else float("inf")


def spectral_norm(matrix: np.ndarray) -> float:
    """Compute |M|_2, to six digits where M is large."""
    largest = float(np.abs(matrix).max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    if min(matrix.shape) <= 300:
        return float(np.linalg.norm(matrix, 2))
    import scipy.sparse.linalg

    # Six digits by Lanczos: the norm is a yardstick, and singular values take seconds.
    matrix = matrix / largest
    operator = scipy.sparse.linalg.aslinearoperator(matrix)
    start = np.random.default_rng(0).normal(size=len(matrix))
    try:
        top = scipy.sparse.linalg.eigsh(
            operator @ operator.T,
            1,
            which="LA",
            v0=start,
            tol=1e-6,  # pyright: ignore[reportArgumentType]  # inferred from tol=0
            return_eigenvectors=False,
        )
    except scipy.sparse.linalg.ArpackNoConvergence:
        return largest * float(np.linalg.norm(matrix, 2))
    return largest * float(np.sqrt(top[0]))


def weaken(curvature: Curvature) -> Curvature:
    """Reduce a certified finding on matrices of low precision to a probable one."""
    return {
        Curvature.PD_CERTIFIED: Curvature.PD_PROBABLE,
        Curvature.NOT_PSD_CERTIFIED: Curvature.INCONCLUSIVE,
    }.get(curvature, curvature)


def _check_symmetric(values: Values, player: int, low: bool) -> None:
    block, part = values.block(player, player), values.slices[player]
    asymmetry = np.abs(block - block.T).max(initial=0.0)
    # What cancels in the Hessian may leave rounding errors of the size of the rest.
    scale = max(
        abs(values.losses[player]),
        np.abs(values.field[part]).max(initial=0.0),
        np.abs(values.jacobian[part]).max(initial=0.0),
    )
    relative, absolute = (1e-2, 1e-4) if low else (1e-6, 1e-10)
    if asymmetry > relative * np.abs(block).max(initial=0.0) and (
        asymmetry > absolute * scale
    ):
        raise ValueError(
            f"the own Hessian of player {player} is not symmetric: entries differ by "
            f"{asymmetry:.3g} from their transposes, the largest is "
            f"{np.abs(block).max():.3g}. A second derivative is always symmetric: a "
            "custom derivative rule in the loss, or a stop_gradient, is wrong"
        )
