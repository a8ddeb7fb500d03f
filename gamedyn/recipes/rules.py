"""The rule that a recipe's options name."""

from collections.abc import Callable
from typing import Any

import optax

import gamedyn as gd


def named_rule(
    name: str,
    step_sizes: Any,
    transformation: Callable[[Any], optax.GradientTransformation],
    *,
    num_players: int = 2,
) -> gd.Rule:
    """Make a registered rule, with the recipe's optimizer if it takes one.

    Args:
        name: of the rule.
        step_sizes: one, or one for each player; rules that take no transformation get
            the first.
        transformation: from a step size to an optimizer, `optax.adam` for example.
        num_players: of the game.

    Returns:
        The rule.

    Raises:
        ValueError: if the name is unknown.
    """
    if not gd.rules.entry(name).takes_transformation:
        first = step_sizes[0] if isinstance(step_sizes, tuple) else step_sizes
        return gd.rules.make(name, first, num_players=num_players)
    return gd.rules.make(
        name, step_sizes, transformation=transformation, num_players=num_players
    )
