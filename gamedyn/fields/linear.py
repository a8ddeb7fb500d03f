"""Linear systems without matrices: three Krylov methods and what is solved by them.

Derivatives of what `solve_definite` and `solve_square` return, in both modes, are those
of the linear system, solved by the same method; they do not run through the iterations.
Callers of `least_residual` see to that with `jax.lax.custom_linear_solve`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.game import PyTree
from gamedyn.loops import bounded_while
from gamedyn.trees import (
    add_scaled,
    inner,
    inverse_size,
    norm,
    resized,
    scale,
    subtract,
)

Linear = Callable[[PyTree], PyTree]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Krylov:
    """When an inner solver stops; static, so that it may stand in a pytree.

    Attributes:
        tolerance: the largest residual, relative to the right-hand side; by default
            eps^(3/4) of the coarsest leaf (1.8e-12 in float64, 6e-6 in float32).
        max_steps: the most steps.

    Raises:
        ValueError: if one of them is not positive.
    """

    tolerance: float | None = None
    max_steps: int = 100

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.tolerance is not None:
            check_positive("tolerance", self.tolerance)
        check_positive_integer("max_steps", self.max_steps)

    def goal(self, right: PyTree) -> float:
        """The tolerance for a right-hand side of these dtypes."""
        if self.tolerance is not None:
            return self.tolerance
        leaves = jax.tree.leaves(right)
        return max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves) ** 0.75


class Solved(NamedTuple):
    """A solution, its residual and its cost.

    Attributes:
        solution: the solution, of the structure of the right-hand side.
        residual: the norm of the right-hand side minus the system times the solution.
        steps: the number of steps, as a floating-point number.
    """

    solution: PyTree
    residual: jax.Array
    steps: jax.Array


def solve_definite(
    matvec: Linear,
    right: PyTree,
    how: Krylov,
    *,
    start: PyTree | None = None,
    size: jax.Array | None = None,
) -> Solved:
    """Solve a symmetric positive definite system by conjugate gradients.

    Args:
        matvec: the system, a linear function.
        right: the right-hand side, any pytree.
        how: when to stop.
        start: a first guess, taken if it is better than zero.
        size: what the residual is compared with, if larger than the norm of `right`.

    Returns:
        The solution; zero where `right` is zero.
    """
    right, start = _whole((right, start))
    goal, size = how.goal(right), _largest(right, size)

    def solve(matvec, b):
        # Where derivatives are solved for, b is theirs; near a fixed point `size`
        # vanishes and the tolerance is relative to it alone.
        limit = goal * jnp.maximum(norm(b), size)
        guess, rest = _guess(matvec, b, start, right)
        solution, residual, steps = _conjugate_gradient(
            matvec, rest, limit, how.max_steps
        )
        return _from_guess(guess, solution), (residual, steps)

    solution, (residual, steps) = jax.lax.custom_linear_solve(
        matvec, right, solve, symmetric=True, has_aux=True
    )
    return Solved(solution, residual, steps)


def solve_square(
    matvec: Linear,
    transposed: Linear,
    right: PyTree,
    how: Krylov,
    *,
    start: PyTree | None = None,
) -> Solved:
    """Solve any square system by conjugate gradients on its normal equations.

    Where the system is singular, the steps lead to the shortest of the points with the
    smallest residual.

    Args:
        matvec: the system, a linear function.
        transposed: its transpose.
        right: the right-hand side, any pytree.
        how: when to stop.
        start: a first guess, taken if it is better than zero.

    Returns:
        The solution; zero where `right` is zero.
    """
    right, start = _whole((right, start))
    goal, size = how.goal(right), norm(right)

    def solve(forward, backward, b, start):
        limit = goal * jnp.maximum(norm(b), size)
        guess, rest = _guess(forward, b, start, right)
        solution, residual, steps = _least_squares(
            forward, backward, rest, limit, how.max_steps
        )
        return _from_guess(guess, solution), (residual, steps)

    solution, (residual, steps) = jax.lax.custom_linear_solve(
        matvec,
        right,
        lambda _, b: solve(matvec, transposed, b, start),
        lambda _, b: solve(transposed, matvec, b, None),
        has_aux=True,
    )
    return Solved(solution, residual, steps)


def solve_damped(
    matvec: Linear, transposed: Linear, right: PyTree, damping: Any, how: Krylov
) -> PyTree:
    r"""Compute $(M^\top M + \lambda I)^{-1} M^\top b$, or $M^{-1} b$ without damping.

    Args:
        matvec: M, a linear function.
        transposed: its transpose.
        right: b, any pytree.
        damping: lambda, positive; `None` for none.
        how: when to stop.

    Returns:
        The solution.
    """
    if damping is None:
        return solve_square(matvec, transposed, right, how).solution

    def damped(vector):
        return add_scaled(transposed(matvec(vector)), damping, vector)

    return solve_definite(damped, transposed(right), how).solution


# jax 0.10's rule for the tangents of a linear solve fails where the system is constant
# and only the guess or some leaves of the right-hand side have a tangent. A custom rule
# gets all tangents written out, zeros included, so the identity with one mends that.


@jax.custom_jvp
def _whole(tree: PyTree) -> PyTree:
    return tree


@_whole.defjvp
def _(primals, tangents):
    return _whole(*primals), tangents[0]


def _largest(right: PyTree, size: jax.Array | None) -> jax.Array:
    return norm(right) if size is None else jnp.maximum(norm(right), size)


def _guess(matvec: Linear, b: PyTree, start: PyTree | None, right: PyTree):
    """Choose the better of a first guess and zero, and return it with its residual.

    Within the solver, where nothing is differentiated: at a fixed point rounding alone
    decides which is better, and compiled copies of the decision may differ. The guess
    is one for `right`: where derivatives are solved for, b is another, and starts at
    zero.
    """
    if start is None:
        return None, b
    rest = subtract(b, matvec(start))
    better = (norm(rest) < norm(b)) & (norm(subtract(b, right)) == 0)
    start = jax.tree.map(lambda x: jnp.where(better, x, jnp.zeros_like(x)), start)
    rest = jax.tree.map(lambda a, b: jnp.where(better, a, b), rest, b)
    return start, rest


def _from_guess(guess: PyTree | None, correction: PyTree) -> PyTree:
    return correction if guess is None else add_scaled(guess, 1, correction)


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Divide, giving zero where there is nothing to divide by."""
    usable = denominator != 0
    return jnp.where(usable, numerator / jnp.where(usable, denominator, 1), 0)


def _conjugate_gradient(matvec, right, limit, max_steps):
    """Hestenes and Stiefel, 1952, from zero: solution, residual, steps."""
    # In units of the right-hand side: squares of tiny ones would be nothing.
    by = inverse_size(right)
    right, limit = resized(by, right), by * limit
    square = inner(right, right)
    zero = jax.tree.map(jnp.zeros_like, right)

    def missed(iterate):
        return jnp.sqrt(iterate[3]) > limit

    def step(iterate):
        point, rest, direction, square = iterate
        image = matvec(direction)
        length = _ratio(square, inner(direction, image))
        point = add_scaled(point, length, direction)
        rest = add_scaled(rest, -length, image)
        after = inner(rest, rest)
        direction = add_scaled(rest, _ratio(after, square), direction)
        return point, rest, direction, after

    iterate = zero, right, right, square
    iterate, count = bounded_while(missed, step, iterate, max_steps)
    point, _, _, square = iterate
    return scale(1 / by, point), jnp.sqrt(square) / by, count.astype(square.dtype)


def _least_squares(matvec, transposed, right, limit, max_steps):
    """CGLS (Bjorck, 1996), from zero: solution, residual, steps."""
    # In units of the right-hand side and of the system, found by the first product:
    # squares of tiny images would be nothing, those of large ones too much.
    by = inverse_size(right)
    right, limit = resized(by, right), by * limit
    slope = transposed(right)
    of_system = inverse_size(slope)
    slope = resized(of_system, slope)
    first = inner(slope, slope)
    zero = jax.tree.map(jnp.zeros_like, right)
    tiny = jnp.finfo(first.dtype).eps ** 2

    def missed(iterate):
        _, rest, _, square = iterate
        return (norm(rest) > limit) & (square > tiny * first)

    def step(iterate):
        point, rest, direction, square = iterate
        image = scale(of_system, matvec(direction))
        length = _ratio(square, inner(image, image))
        point = add_scaled(point, length, direction)
        rest = add_scaled(rest, -length, image)
        slope = scale(of_system, transposed(rest))
        after = inner(slope, slope)
        direction = add_scaled(slope, _ratio(after, square), direction)
        return point, rest, direction, after

    iterate = zero, right, slope, first
    (point, rest, _, _), count = bounded_while(missed, step, iterate, max_steps)
    point = scale(1 / by, scale(of_system, point))
    return point, norm(rest) / by, count.astype(first.dtype)


_RESTART, _CYCLES = 30, 34  # directions kept, and how often they are begun anew


def least_residual(
    matvec: Callable[[jax.Array], jax.Array], right: jax.Array, tolerance: float
) -> jax.Array:
    r"""Solve any square system by minimising the residual over Krylov spaces.

    The iterates are those of GMRES. Images $q_i = A p_i$ are kept orthonormal, so that
    each step takes its share off the residual,

    $$x \leftarrow x + (q_i^\top r)\, p_i, \qquad r \leftarrow r - (q_i^\top r)\, q_i,$$

    and the next direction is the residual where the last step was a good one, else the
    last image: the former is better conditioned, the latter leads on where the residual
    is orthogonal to its image. After 30 directions it starts again from the residual
    that the point really has; at most 34 times.

    Args:
        matvec: the system A, linear.
        right: the right-hand side, shape (n,).
        tolerance: of the residual's norm, relative to that of `right`.

    Returns:
        The solution, shape (n,); zero where `right` is zero.

    References:
        Walker and Zhou, A simpler GMRES, 1994; Jiranek and Rozloznik, Adaptive version
        of simpler GMRES, 2010.
    """
    by = inverse_size(right).astype(right.dtype)
    right = resized(by, right)  # images of tiny directions would be nothing
    limit = tolerance * norm(right)
    eps = jnp.finfo(right.dtype).eps

    def missed(iterate):
        return norm(iterate[1]) > limit

    def cycle(iterate):
        blank = jnp.zeros((_RESTART, right.size), right.dtype)
        start = *iterate, iterate[1], blank, blank, jnp.zeros((), jnp.int32)
        (point, *_), _ = bounded_while(missed, step, start, _RESTART)
        return point, right - matvec(point)

    def step(state):
        point, rest, direction, points, images, count = state
        image = matvec(direction)
        size = norm(image)
        for _ in range(2):  # the second pass takes away what rounding left
            shares = images @ image
            image = image - shares @ images
            direction = direction - shares @ points
        length = norm(image)
        # An image within the span of the others is no new direction.
        weight = jnp.where(
            length > 8 * eps * size, 1 / jnp.where(length > 0, length, 1), 0
        )
        image, direction = weight * image, weight * direction
        share = image @ rest
        after = rest - share * image
        good = norm(after) < 0.9 * norm(rest)
        return (
            point + share * direction,
            after,
            jnp.where(good, after, image),
            points.at[count].set(direction),
            images.at[count].set(image),
            count + 1,
        )

    (point, _), _ = bounded_while(
        missed, cycle, (jnp.zeros_like(right), right), _CYCLES
    )
    return point / by
