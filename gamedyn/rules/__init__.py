"""Update rules: at which points the field is evaluated, and who moves when.

Every rule is a function that builds a `Rule` from optax transformations (or from the
step size that the scheme owns); `names`, `entries` and `make` give the registry.
"""

from gamedyn.rules.anchored import anchored_extragradient, halpern
from gamedyn.rules.base import InnerSolve, Rule, RuleState
from gamedyn.rules.extrapolation import extragradient, optimistic, past_extragradient
from gamedyn.rules.integrators import proximal_point, runge_kutta
from gamedyn.rules.splitting import (
    adaptive_golden_ratio,
    alex_gda,
    forward_backward_forward,
    forward_reflected_backward,
    projected_reflected_gradient,
)
from gamedyn.rules.table import RuleEntry, entries, make, names
from gamedyn.rules.turns import alternating, simultaneous
from gamedyn.rules.wrappers import averaged, lookahead

__all__ = [
    "InnerSolve",
    "Rule",
    "RuleEntry",
    "RuleState",
    "adaptive_golden_ratio",
    "alex_gda",
    "alternating",
    "anchored_extragradient",
    "averaged",
    "entries",
    "extragradient",
    "forward_backward_forward",
    "forward_reflected_backward",
    "halpern",
    "lookahead",
    "make",
    "names",
    "optimistic",
    "past_extragradient",
    "projected_reflected_gradient",
    "proximal_point",
    "runge_kutta",
    "simultaneous",
]
