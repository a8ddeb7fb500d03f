"""Update rules: at which points the field is evaluated, and who moves when.

Every rule is a function that builds a `Rule` from optax transformations (or from the
step size that the scheme owns); `names`, `entries` and `make` give the registry.
"""

import gamedyn.rules.table  # noqa: F401  fills the registry
from gamedyn.rules.adaptive import (
    adaptive_mirror_prox,
    golden_ratio,
    universal_mirror_prox,
)
from gamedyn.rules.anchored import (
    anchored_descent,
    anchored_extragradient,
    decaying_anchor_extragradient,
    halpern,
)
from gamedyn.rules.base import InnerSolve, Rule, RuleState
from gamedyn.rules.competitive import (
    adaptive_competitive_gradient,
    competitive_gradient,
)
from gamedyn.rules.constrained import interior_point
from gamedyn.rules.extrapolation import (
    extragradient,
    fast_optimistic,
    optimistic,
    past_extragradient,
)
from gamedyn.rules.integrators import proximal_point, runge_kutta
from gamedyn.rules.registry import (
    NEEDS,
    RuleEntry,
    entries,
    make,
    names,
    register,
    unregister,
)
from gamedyn.rules.simplices import (
    fictitious_play,
    frank_wolfe,
    magnetic_mirror_descent,
    regret_matching,
    replicator,
)
from gamedyn.rules.splitting import (
    adaptive_golden_ratio,
    alex_gda,
    forward_backward_forward,
    forward_reflected_backward,
    projected_reflected_gradient,
)
from gamedyn.rules.stochastic import (
    compressed_descent,
    reshuffled,
    stochastic_hamiltonian,
)
from gamedyn.rules.turns import alternating, simultaneous
from gamedyn.rules.variance_reduction import (
    alternating_variance_reduced,
    extragradient_variance_reduced,
    forward_reflected_variance_reduced,
    loopless_svrgda,
    svre,
)
from gamedyn.rules.weak_minty import (
    bias_corrected_extragradient,
    curvature_extragradient,
    half_step_extragradient,
)
from gamedyn.rules.wrappers import anderson, averaged, lookahead, restarted

__all__ = [
    "NEEDS",
    "InnerSolve",
    "Rule",
    "RuleEntry",
    "RuleState",
    "adaptive_competitive_gradient",
    "adaptive_golden_ratio",
    "adaptive_mirror_prox",
    "alex_gda",
    "alternating",
    "alternating_variance_reduced",
    "anchored_descent",
    "anchored_extragradient",
    "anderson",
    "averaged",
    "bias_corrected_extragradient",
    "competitive_gradient",
    "compressed_descent",
    "curvature_extragradient",
    "decaying_anchor_extragradient",
    "entries",
    "extragradient",
    "extragradient_variance_reduced",
    "fast_optimistic",
    "fictitious_play",
    "forward_backward_forward",
    "forward_reflected_backward",
    "forward_reflected_variance_reduced",
    "frank_wolfe",
    "golden_ratio",
    "half_step_extragradient",
    "halpern",
    "interior_point",
    "lookahead",
    "loopless_svrgda",
    "magnetic_mirror_descent",
    "make",
    "names",
    "optimistic",
    "past_extragradient",
    "projected_reflected_gradient",
    "proximal_point",
    "register",
    "regret_matching",
    "replicator",
    "reshuffled",
    "restarted",
    "runge_kutta",
    "simultaneous",
    "stochastic_hamiltonian",
    "svre",
    "universal_mirror_prox",
    "unregister",
]
