"""The zoo of games: builders that return a `Problem`."""

from gamedyn.games.economics import cournot
from gamedyn.games.gan_like import dirac_gan
from gamedyn.games.linear_quadratic import (
    bilinear,
    quadratic,
    quadratic_bilinear,
    stochastic_bilinear,
    symplectic_four_player,
    weak_minty,
)
from gamedyn.games.problem import REGISTRY, GameEntry, Info, Problem
from gamedyn.games.real_data import breast_cancer_auc, breast_cancer_logistic
from gamedyn.games.simplex import matching_pennies, matrix_game, rock_paper_scissors
from gamedyn.games.toys import forsaken, global_forsaken, polar


def names() -> tuple[str, ...]:
    """The names of all registered games, in alphabetical order."""
    return tuple(sorted(REGISTRY))


def entries() -> dict[str, GameEntry]:
    """All registered games by name."""
    return {name: REGISTRY[name] for name in names()}


def make(name: str, **kwargs) -> Problem:
    """Build a registered game.

    Args:
        name: a name from `names()`; hyphens are accepted.
        **kwargs: arguments of the builder.

    Returns:
        The problem.

    Raises:
        ValueError: if the name is unknown; the nearest names are suggested.
    """
    return REGISTRY[name].make(**kwargs)


__all__ = [
    "REGISTRY",
    "GameEntry",
    "Info",
    "Problem",
    "bilinear",
    "breast_cancer_auc",
    "breast_cancer_logistic",
    "cournot",
    "dirac_gan",
    "entries",
    "forsaken",
    "global_forsaken",
    "make",
    "matching_pennies",
    "matrix_game",
    "names",
    "polar",
    "quadratic",
    "quadratic_bilinear",
    "rock_paper_scissors",
    "stochastic_bilinear",
    "symplectic_four_player",
    "weak_minty",
]
