"""Competitive gradients: the Nash equilibrium of the bilinear local game."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import check_positive
from gamedyn.fields.base import Field, Static, as_field, coupling, is_zero_sum
from gamedyn.fields.linear import Krylov, Linear, Solved, solve_definite, solve_square
from gamedyn.fields.registry import Work, krylov_turns, register, without_step
from gamedyn.game import Batch, Game, Params
from gamedyn.trees import add_scaled, norm, scale, size, subtract


def competitive(
    game_or_field: Game | Field,
    coefficient: Any,
    *,
    tolerance: float | None = None,
    max_steps: int = 100,
    solver: Literal["auto", "conjugate_gradient", "normal_equations"] = "auto",
) -> Field:
    r"""Step to the Nash equilibrium of the local game: competitive gradient descent.

    $$(I + \alpha H_o)^{-1} F,$$

    H_o being the cross blocks of the Jacobian, for any number of players. With the
    rule's own step size eta for alpha it is CGD, the equilibrium of the game that is
    bilinear around z and regularised by $|\Delta|^2 / 2\eta$; with another number it is
    the generalised method (CGO). Where own Hessians vanish, CGD is the proximal point
    method. In a rule with another learning rate it is neither.

    In a zero-sum game of two, H_o is antisymmetric. Eliminating one player gives

    $$(I + \alpha^2 H_{xy} H_{yx}) d_x = \partial_x f + \alpha H_{xy} \partial_y f,
      \qquad d_y = -\partial_y f + \alpha H_{yx} d_x \qquad (H = \nabla^2 f),$$

    symmetric positive definite, solved by conjugate gradients for the player with fewer
    parameters. Other games are solved by conjugate gradients on the normal equations.
    No matrix is formed.

    Args:
        game_or_field: a game, or any field F.
        coefficient: alpha, the step size for CGD.
        tolerance: of the residual relative to the right-hand side, by default
            eps^(3/4). A field has no memory to report a miss in: the rule
            `competitive_gradient` does, and starts warm.
        max_steps: the most inner steps.
        solver: "auto" as above; "conjugate_gradient" only in zero-sum games of two.

    Returns:
        The field.

    Raises:
        ValueError: if `solver` is unknown or does not fit the game, or a number is not
            positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import gamedyn as gd
        >>> field = gd.fields.competitive(gd.zero_sum(lambda x, y: x * y), 1.0)
        >>> [round(leaf.item(), 6) for leaf in field((jnp.array(1.0), jnp.array(3.0)))]
        [2.0, 1.0]

    References:
        Schaefer, Anandkumar, Competitive gradient descent, 2019, arXiv:1905.12103;
        Vyas, Bullins, Azizzadenesheli, Competitive gradient optimization, 2023,
        arXiv:2205.14232.
    """
    check_positive("coefficient", coefficient)
    chosen = choose_solver(game_or_field, solver)
    how = Krylov(tolerance, max_steps)
    return Partial(_competitive, as_field(game_or_field), coefficient, chosen, how)


def choose_solver(game_or_field: Game | Field, solver: str) -> Static:
    """Decide whether to use the symmetric form, which only some games have.

    Raises:
        ValueError: if `solver` is unknown, or does not fit the game.
    """
    solvers = ("auto", "conjugate_gradient", "normal_equations")
    if solver not in solvers:
        raise ValueError(f"solver must be one of {', '.join(solvers)}, got {solver!r}")
    zero_sum = is_zero_sum(game_or_field)
    if solver == "conjugate_gradient" and not zero_sum:
        raise ValueError(
            "conjugate_gradient is for zero-sum games of two players, and this one is "
            "not known to be: expected solver='normal_equations' or 'auto'"
        )
    return Static(zero_sum and solver != "normal_equations")


def _competitive(
    field: Field,
    coefficient: Any,
    definite: Static,
    how: Krylov,
    params: Params,
    batch: Batch = None,
) -> Params:
    def weigh(tree):
        return scale(coefficient, tree)

    direction, coupled = linearised(field, params, batch)
    return solve_coupled(
        lambda vector: weigh(coupled(vector)), direction, how, definite=definite.value
    ).solution


def linearised(
    field: Field, params: Params, batch: Batch
) -> tuple[Params, Callable[[Params], Params]]:
    """Evaluate the field, and prepare products with the cross blocks H_o there."""
    return jax.linearize(coupling(field, params, batch), params)


def solve_coupled(
    coupled: Linear,
    right: Params,
    how: Krylov,
    *,
    definite: bool,
    start: Params | None = None,
) -> Solved:
    r"""Solve $(I + B) d = b$ for cross blocks B; see `competitive`.

    Args:
        coupled: B, a linear function of one pytree per player.
        right: b.
        how: when to stop.
        definite: whether there are two players and B is antisymmetric.
        start: a first guess.

    Returns:
        The solution; its residual is relative to the right-hand side of the system
        that was solved.
    """
    if not definite:

        def system(vector):
            return add_scaled(vector, 1, coupled(vector))

        def transposed(vector):
            pulled = jax.linear_transpose(coupled, right)(vector)[0]
            return add_scaled(vector, 1, pulled)

        solved = solve_square(system, transposed, right, how, start=start)
        return solved._replace(residual=_relative(solved.residual, norm(right)))

    # Two players, p with fewer parameters, and q: B v = (B_pq v_q, B_qp v_p).
    p = 0 if size(right[0]) <= size(right[1]) else 1
    q = 1 - p

    def answer(own):
        """B_qp times a vector of p."""
        return coupled(_pair(p, own, jax.tree.map(jnp.zeros_like, right[q])))[q]

    def echo(other):
        """B_pq times a vector of q."""
        return coupled(_pair(q, other, jax.tree.map(jnp.zeros_like, right[p])))[p]

    reduced = subtract(right[p], echo(right[q]))
    whole = jnp.maximum(norm(right), norm(reduced))
    solved = solve_definite(
        lambda own: subtract(own, echo(answer(own))),
        reduced,
        how,
        start=None if start is None else start[p],
        size=whole,
    )
    other = subtract(right[q], answer(solved.solution))
    return Solved(
        _pair(p, solved.solution, other),
        _relative(solved.residual, whole),
        solved.steps,
    )


def _pair(player: int, own: Any, other: Any) -> Params:
    return (own, other) if player == 0 else (other, own)


def _relative(residual: jax.Array, size: jax.Array) -> jax.Array:
    return residual / jnp.where(size > 0, size, 1)


# The registered fields.

register(
    "competitive",
    lambda game, step_size, **options: competitive(game, step_size, **options),
    family="the local game solved",
    summary="the equilibrium of the local bilinear game (CGD)",
    formula="(I + h H_o)^-1 F",
    source="Schaefer and Anandkumar 2019, arXiv:1905.12103",
    guarantee="bilinear: 1/sqrt(1 + h^2 s^2), the proximal point method",
    products=2,
    work=Work(3.55, 1.27),
    general=Work(4.75, 2.5),
    turns=krylov_turns,
    needs=("the rule's step size",),
)
register(
    "generalised_competitive",
    without_step(competitive, coefficient=1.0),
    family="the local game solved",
    summary="the same with a coefficient of its own inside the inverse (CGO)",
    formula="(I + a H_o)^-1 F, a = 1",
    source="Vyas et al. 2023, arXiv:2205.14232",
    guarantee="bilinear: converges for small steps",
    products=2,
    work=Work(3.55, 1.27),
    general=Work(4.75, 2.5),
    turns=krylov_turns,
)
