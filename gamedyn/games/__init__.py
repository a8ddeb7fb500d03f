"""The zoo of games: builders that return a `Problem`."""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Every public name on one line.
from gamedyn.registry import missing as _missing
from gamedyn.games.bimatrix import (
    battle_of_the_sexes as battle_of_the_sexes,
    bimatrix_game as bimatrix_game,
    chicken as chicken,
    half_matching_pennies as half_matching_pennies,
    ordinal_game as ordinal_game,
    ordinal_games as ordinal_games,
    prisoners_dilemma as prisoners_dilemma,
    shapley as shapley,
    stag_hunt as stag_hunt,
)
from gamedyn.games.control import (
    coupled_riccati as coupled_riccati,
    linear_quadratic_game as linear_quadratic_game,
)
from gamedyn.games.economics import (
    cournot as cournot,
    kelly as kelly,
    resource_allocation as resource_allocation,
    smooth_market as smooth_market,
    tullock as tullock,
)
from gamedyn.games.gan_like import (
    covariance_wgan as covariance_wgan,
    dirac_gan as dirac_gan,
    mean_wgan as mean_wgan,
    mlp_gan as mlp_gan,
    variance_gan as variance_gan,
)
from gamedyn.games.impossible import (
    impossibility as impossibility,
    market as market,
    market_with_minimum as market_with_minimum,
)
from gamedyn.games.landscapes import (
    ratio_game as ratio_game,
    ridge_1 as ridge_1,
    ridge_2 as ridge_2,
    ridge_3 as ridge_3,
    seesaw as seesaw,
    torus as torus,
    two_sided_pl as two_sided_pl,
)
from gamedyn.games.learning import (
    constrained_optimisation as constrained_optimisation,
    robust_least_squares as robust_least_squares,
)
from gamedyn.games.linear_quadratic import (
    balduzzi_two_player as balduzzi_two_player,
    bilinear as bilinear,
    constrained_bilinear as constrained_bilinear,
    quadratic as quadratic,
    quadratic_bilinear as quadratic_bilinear,
    scaled_bilinear as scaled_bilinear,
    stochastic_bilinear as stochastic_bilinear,
    symplectic_four_player as symplectic_four_player,
    tandem as tandem,
    weak_minty as weak_minty,
    worst_case as worst_case,
)
from gamedyn.games.problem import (
    SOLUTIONS as SOLUTIONS,
    Info as Info,
    Problem as Problem,
    domain_of as domain_of,
)
from gamedyn.games.real_data import (
    adult_fairness as adult_fairness,
    breast_cancer_auc as breast_cancer_auc,
    breast_cancer_logistic as breast_cancer_logistic,
    group_robust_logistic as group_robust_logistic,
)
from gamedyn.games.registry import (
    REGISTRY as REGISTRY,
    GameEntry as GameEntry,
    entries as entries,
    entry as entry,
    make as make,
    names as names,
    register as register,
    unregister as unregister,
)
from gamedyn.games.sequential import (
    KUHN as KUHN,
    iterated_prisoners_dilemma as iterated_prisoners_dilemma,
    kuhn_poker as kuhn_poker,
)
from gamedyn.games.simplex import (
    blotto as blotto,
    matching_pennies as matching_pennies,
    matching_pennies_logits as matching_pennies_logits,
    matrix_game as matrix_game,
    random_matrix as random_matrix,
    rock_paper_scissors as rock_paper_scissors,
    weighted_rock_paper_scissors as weighted_rock_paper_scissors,
)
from gamedyn.games.toys import (
    forsaken as forsaken,
    global_forsaken as global_forsaken,
    polar as polar,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
