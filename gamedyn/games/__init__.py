"""The zoo of games: builders that return a `Problem`."""

from gamedyn.games.bimatrix import (
    battle_of_the_sexes,
    bimatrix_game,
    chicken,
    half_matching_pennies,
    ordinal_game,
    ordinal_games,
    prisoners_dilemma,
    shapley,
    stag_hunt,
)
from gamedyn.games.control import (
    coupled_riccati,
    linear_quadratic_game,
)
from gamedyn.games.economics import (
    cournot,
    kelly,
    resource_allocation,
    smooth_market,
    tullock,
)
from gamedyn.games.gan_like import (
    covariance_wgan,
    dirac_gan,
    mean_wgan,
    mlp_gan,
    variance_gan,
)
from gamedyn.games.impossible import (
    impossibility,
    market,
    market_with_minimum,
)
from gamedyn.games.landscapes import (
    ratio_game,
    ridge_1,
    ridge_2,
    ridge_3,
    seesaw,
    torus,
    two_sided_pl,
)
from gamedyn.games.learning import (
    constrained_optimisation,
    robust_least_squares,
)
from gamedyn.games.linear_quadratic import (
    balduzzi_two_player,
    bilinear,
    constrained_bilinear,
    quadratic,
    quadratic_bilinear,
    scaled_bilinear,
    stochastic_bilinear,
    symplectic_four_player,
    tandem,
    weak_minty,
    worst_case,
)
from gamedyn.games.problem import (
    REGISTRY,
    SOLUTIONS,
    GameEntry,
    Info,
    Problem,
    domain_of,
)
from gamedyn.games.real_data import (
    adult_fairness,
    breast_cancer_auc,
    breast_cancer_logistic,
    group_robust_logistic,
)
from gamedyn.games.sequential import (
    KUHN,
    iterated_prisoners_dilemma,
    kuhn_poker,
)
from gamedyn.games.simplex import (
    blotto,
    matching_pennies,
    matching_pennies_logits,
    matrix_game,
    random_matrix,
    rock_paper_scissors,
    weighted_rock_paper_scissors,
)
from gamedyn.games.toys import (
    forsaken,
    global_forsaken,
    polar,
)


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
    "GameEntry",
    "Info",
    "KUHN",
    "Problem",
    "REGISTRY",
    "SOLUTIONS",
    "adult_fairness",
    "balduzzi_two_player",
    "battle_of_the_sexes",
    "bilinear",
    "bimatrix_game",
    "blotto",
    "breast_cancer_auc",
    "breast_cancer_logistic",
    "chicken",
    "constrained_bilinear",
    "constrained_optimisation",
    "coupled_riccati",
    "cournot",
    "covariance_wgan",
    "dirac_gan",
    "domain_of",
    "entries",
    "forsaken",
    "global_forsaken",
    "group_robust_logistic",
    "half_matching_pennies",
    "impossibility",
    "iterated_prisoners_dilemma",
    "kelly",
    "kuhn_poker",
    "linear_quadratic_game",
    "make",
    "market",
    "market_with_minimum",
    "matching_pennies",
    "matching_pennies_logits",
    "matrix_game",
    "mean_wgan",
    "mlp_gan",
    "names",
    "ordinal_game",
    "ordinal_games",
    "polar",
    "prisoners_dilemma",
    "quadratic",
    "quadratic_bilinear",
    "random_matrix",
    "ratio_game",
    "resource_allocation",
    "ridge_1",
    "ridge_2",
    "ridge_3",
    "robust_least_squares",
    "rock_paper_scissors",
    "scaled_bilinear",
    "seesaw",
    "shapley",
    "smooth_market",
    "stag_hunt",
    "stochastic_bilinear",
    "symplectic_four_player",
    "tandem",
    "torus",
    "tullock",
    "two_sided_pl",
    "variance_gan",
    "weak_minty",
    "weighted_rock_paper_scissors",
    "worst_case",
]
