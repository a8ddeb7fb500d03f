"""Fields with inverse curvature, by Krylov methods on products with the Jacobian."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import check_positive, is_known
from gamedyn.fields.base import (
    Field,
    as_field,
    check_game,
    check_num_players,
    gradient,
)
from gamedyn.fields.linear import Krylov, solve_damped
from gamedyn.fields.registry import Work, krylov_turns, register, without_step
from gamedyn.game import Batch, Game, Params, PyTree
from gamedyn.trees import add_scaled, scale, subtract


def local_symplectic_surgery(
    game_or_field: Game | Field,
    *,
    damping: Any = 0.0,
    tolerance: float | None = None,
    max_steps: int = 100,
) -> Field:
    r"""Change the gradient so that only local Nash equilibria attract (LSS).

    $$\tfrac12 (I + J^\top J^{-1}) F, \qquad
      J^{-1} \to (J^\top J + \lambda I)^{-1} J^\top \text{ with damping } \lambda.$$

    On a purely antisymmetric J, a bilinear game say, the field vanishes everywhere.
    Where J is singular the shortest least-squares solution takes the place of
    $J^{-1} F$.

    Args:
        game_or_field: a game, or any field F.
        damping: lambda, not negative; .1 is used in later comparisons.
        tolerance: of the inner residual, relative; by default eps^(3/4).
        max_steps: the most inner steps, of one product with J and one with its
            transpose each.

    Returns:
        The field.

    Raises:
        ValueError: if a number is out of range.

    References:
        Mazumdar, Jordan, Sastry, On finding local Nash equilibria (and only local Nash
        equilibria) in zero-sum games, 2019, arXiv:1901.00838.
    """
    how = Krylov(tolerance, max_steps)
    field, damping = as_field(game_or_field), _checked(damping)
    return Partial(_local_symplectic_surgery, field, damping, how)


def follow_the_ridge(
    game: Game,
    *,
    ratio: Any = 1.0,
    damping: Any = 0.0,
    tolerance: float | None = None,
    max_steps: int = 100,
) -> Field:
    r"""Let the follower stay on the ridge while the leader descends.

    $$x: \; \partial_x \ell_1, \qquad y: \; c\, \partial_y \ell_2 -
      (\partial^2_{yy} \ell_2)^{-1} \partial^2_{yx} \ell_2 \, \partial_x \ell_1.$$

    Player 0 leads. At a critical point of a zero-sum game the eigenvalues of the
    field's Jacobian are real, those of the Schur complement
    $f_{xx} - f_{xy} f_{yy}^{-1} f_{yx}$ and of $c\, \partial^2_{yy} \ell_2$: exactly
    the local minimax points attract. Needs $\partial^2_{yy} \ell_2 > 0$ near the path.

    Args:
        game: a game of two players.
        ratio: c, the ratio of the follower's step size to the leader's.
        damping: lambda in $(H^2 + \lambda I)^{-1} H$, which then replaces the inverse.
        tolerance: of the inner residual, relative; by default eps^(3/4).
        max_steps: the most inner steps, of two Hessian-vector products each; 5 to 20
            for networks.

    Returns:
        The field.

    Raises:
        TypeError: if it is not given a game.
        ValueError: if a number is out of range; at evaluation, if there are not two
            players.

    References:
        Wang, Zhang, Ba, On solving minimax optimization locally: a follow-the-ridge
        approach, 2020, arXiv:1910.07512.
    """
    check_positive("ratio", ratio)
    how = Krylov(tolerance, max_steps)
    field = gradient(check_game(game, "follow_the_ridge"))
    return Partial(_follow_the_ridge, field, ratio, _checked(damping), how)


def gradient_descent_newton(
    game: Game,
    *,
    damping: Any = 0.0,
    tolerance: float | None = None,
    max_steps: int = 100,
) -> Field:
    r"""Descend for the leader, take Newton's direction for the follower.

    $$x: \; \partial_x \ell_1, \qquad
      y: \; (\partial^2_{yy} \ell_2)^{-1} \partial_y \ell_2.$$

    Published as alternating steps with learning rates (eta, 1): the follower sees the
    leader's move, which `methods.make("gradient_descent_newton", ...)` builds.

    Args:
        game: a game of two players; player 0 leads.
        damping: see `follow_the_ridge`.
        tolerance: of the inner residual, relative; by default eps^(3/4).
        max_steps: the most inner steps, of two Hessian-vector products each.

    Returns:
        The field.

    Raises:
        TypeError, ValueError: see `follow_the_ridge`.

    References:
        Zhang, Wu, Poupart, Yu, Newton-type methods for minimax optimization, 2021,
        arXiv:2006.14592.
    """
    how = Krylov(tolerance, max_steps)
    field = gradient(check_game(game, "gradient_descent_newton"))
    return Partial(_gradient_descent_newton, field, _checked(damping), how)


def complete_newton(
    game: Game,
    *,
    damping: Any = 0.0,
    tolerance: float | None = None,
    max_steps: int = 100,
) -> Field:
    r"""Take Newton's direction for both, the leader's along the ridge.

    $$x: \; (H_{xx} - H_{xy} H_{yy}^{-1} H_{yx})^{-1} \partial_x \ell_1, \qquad
      y: \; (\partial^2_{yy} \ell_2)^{-1} \partial_y \ell_2,$$

    the blocks being those of J, whatever the game's kind. The leader's direction is the
    first part of the solution of $J (u, v) = (\partial_x \ell_1, 0)$: no inverse within
    an inverse. Published as alternating steps with learning rates 1, locally quadratic.

    Args:
        game: a game of two players; player 0 leads.
        damping: lambda in $(M^\top M + \lambda I)^{-1} M^\top$, which then replaces
            the inverses.
        tolerance: of the inner residuals, relative; by default eps^(3/4).
        max_steps: the most inner steps of each.

    Returns:
        The field.

    Raises:
        TypeError, ValueError: see `follow_the_ridge`.

    References:
        Zhang, Wu, Poupart, Yu, Newton-type methods for minimax optimization, 2021,
        arXiv:2006.14592.
    """
    how = Krylov(tolerance, max_steps)
    field = gradient(check_game(game, "complete_newton"))
    return Partial(_complete_newton, field, _checked(damping), how)


def _checked(damping: Any) -> Any:
    """The damping, or `None` where there is none."""
    if not is_known(damping):
        return damping
    if not damping >= 0:
        raise ValueError(f"damping must not be negative, got {damping}")
    return damping if damping > 0 else None


def _local_symplectic_surgery(
    field: Field, damping: Any, how: Krylov, params: Params, batch: Batch = None
) -> Params:
    direction, product = jax.linearize(lambda z: field(z, batch), params)
    transposed = _transpose(product, params)
    solution = solve_damped(product, transposed, direction, damping, how)
    return scale(0.5, add_scaled(direction, 1, transposed(solution)))


def _follow_the_ridge(
    field: Field,
    ratio: Any,
    damping: Any,
    how: Krylov,
    params: Params,
    batch: Batch = None,
) -> Params:
    check_num_players(params, 2, "follow_the_ridge")
    x, y = params
    leader, follower = field(params, batch)
    moved = jax.jvp(lambda x: field((x, y), batch)[1], (x,), (leader,))[1]
    correction = _newton(field, moved, damping, how, params, batch)
    return leader, subtract(scale(ratio, follower), correction)


def _gradient_descent_newton(
    field: Field, damping: Any, how: Krylov, params: Params, batch: Batch = None
) -> Params:
    check_num_players(params, 2, "gradient_descent_newton")
    leader, follower = field(params, batch)
    return leader, _newton(field, follower, damping, how, params, batch)


def _complete_newton(
    field: Field, damping: Any, how: Krylov, params: Params, batch: Batch = None
) -> Params:
    check_num_players(params, 2, "complete_newton")
    (leader, follower), product = jax.linearize(lambda z: field(z, batch), params)
    right = leader, jax.tree.map(jnp.zeros_like, follower)
    transposed = _transpose(product, params)
    along_ridge = solve_damped(product, transposed, right, damping, how)[0]
    return along_ridge, _newton(field, follower, damping, how, params, batch)


def _newton(
    field: Field, right: PyTree, damping: Any, how: Krylov, params: Params, batch: Batch
) -> PyTree:
    """Apply the inverse of the follower's own Hessian, which is its own transpose."""
    x, y = params
    _, product = jax.linearize(lambda y: field((x, y), batch)[1], y)
    return solve_damped(product, product, right, damping, how)


def _transpose(product: Any, like: Params) -> Any:
    return lambda vector: jax.linear_transpose(product, like)(vector)[0]


# The registered fields.

register(
    "local_symplectic_surgery",
    without_step(local_symplectic_surgery),
    family="inverse curvature",
    summary="what of the gradient only local Nash equilibria attract (LSS)",
    formula="(I + J' J^-1) F / 2",
    source="Mazumdar et al. 2019, arXiv:1901.00838",
    guarantee="attracted by local Nash equilibria only",
    products=2,
    work=Work(8.3, 3.65),
    general=Work(10.2, 4.1),
    turns=krylov_turns,
    needs=("invertible Jacobian",),
)
register(
    "follow_the_ridge",
    without_step(follow_the_ridge),
    family="inverse curvature",
    summary="the follower stays on the ridge while the leader descends",
    formula="F_1; F_2 - (D_yy l_2)^-1 D_yx l_2 F_1",
    source="Wang et al. 2020, arXiv:1910.07512",
    guarantee="attracted by local minimax points only, without rotation",
    products=2,
    work=Work(3.8, 1.45),
    turns=krylov_turns,
    needs=("two players", "losses", "own curvature"),
)
register(
    "gradient_descent_newton",
    without_step(gradient_descent_newton),
    family="inverse curvature",
    summary="gradient for the leader, Newton's direction for the follower",
    formula="F_1; (D_yy l_2)^-1 F_2",
    source="Zhang et al. 2021, arXiv:2006.14592",
    guarantee="local minimax points, at the rate of descent on the ridge",
    products=2,
    work=Work(3.15, 1.45),
    turns=krylov_turns,
    needs=("two players", "losses", "own curvature"),
)
register(
    "complete_newton",
    without_step(complete_newton),
    family="inverse curvature",
    summary="Newton's direction for both, the leader's along the ridge",
    formula="(J^-1 (F_1, 0))_1; (D_yy l_2)^-1 F_2",
    source="Zhang et al. 2021, arXiv:2006.14592",
    guarantee="zeros of F with invertible J; alternating with unit steps, quadratic",
    products=4,
    work=Work(8.6, 5.1),
    general=Work(9.9, 5.5),
    turns=krylov_turns,
    needs=("two players", "losses", "own curvature", "invertible Jacobian"),
)
