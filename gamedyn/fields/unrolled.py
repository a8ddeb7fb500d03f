"""The gradient through an opponent's next steps."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.fields.base import Field, Static, check_game, check_num_players
from gamedyn.fields.registry import Work, register
from gamedyn.game import Batch, Game, Params, check_params
from gamedyn.trees import add_scaled


def unrolled(game: Game, step_size: Any, *, num_steps: int = 5) -> Field:
    r"""Let player 0 differentiate through k descent steps of player 1.

    $$x: \; \frac{d}{dx} \ell_1(x, y_k(x)), \qquad y_0 = y, \quad
      y_{m+1} = y_m - \eta \partial_y \ell_2(x, y_m); \qquad y: \; \partial_y \ell_2,$$

    the total derivative, at the same batch throughout. On the game xy with all step
    sizes eta and simultaneous steps, $\rho = \sqrt{1 - (2k - 1) \eta^2}$. Needs the
    memory of k steps.

    Args:
        game: a game of two players; player 0 is the generator of a GAN.
        step_size: eta, the steps of player 1 that are foreseen.
        num_steps: k; 5 to 10 in GANs.

    Returns:
        The field.

    Raises:
        TypeError: if it is not given a game.
        ValueError: if a number is not positive; at evaluation, if there are not two
            players.

    References:
        Metz et al., Unrolled generative adversarial networks, 2017, arXiv:1611.02163.
    """
    check_positive("step_size", step_size)
    check_positive_integer("num_steps", num_steps)
    check_game(game, "unrolled")
    return Partial(_unrolled, game, step_size, Static(num_steps))


def _unrolled(
    game: Game, step_size: Any, num_steps: Static, params: Params, batch: Batch = None
) -> Params:
    check_num_players(params, 2, "unrolled")
    check_params(params)
    x, y = params

    def slope(x, y):
        return jax.grad(lambda y: game((x, y), batch)[1])(y)

    def foreseen(x):
        def step(y, _):
            return add_scaled(y, -jnp.asarray(step_size), slope(x, y)), None

        last, _ = jax.lax.scan(step, y, length=num_steps.value)
        return game((x, last), batch)[0]

    return jax.grad(foreseen)(x), slope(x, y)


# The registered fields.

register(
    "unrolled",
    unrolled,
    family="opponents foreseen",
    summary="the first player differentiates through five steps of the second",
    formula="d/dx l_1(x, y_5(x)); d/dy l_2(x, y)",
    source="Metz et al. 2017, arXiv:1611.02163",
    guarantee="xy: sqrt(1 - 9 h^2), the second player foreseen",
    gradients=2,
    products=1,
    work=Work(3.1, 1.67),
    turns=lambda size: 5,
    needs=("two players", "losses"),
)
