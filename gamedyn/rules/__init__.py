"""Update rules: at which points the field is evaluated, and who moves when.

Every rule is a function that builds a `Rule` from optax transformations (or from the
step size that the scheme owns); `names`, `entries` and `make` give the registry.
"""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Within a family, tables show rules in the order of these imports.
from gamedyn.registry import missing as _missing
from gamedyn.rules.base import (
    InnerSolve as InnerSolve,
    Rule as Rule,
    RuleState as RuleState,
)
from gamedyn.rules.registry import (
    FAMILIES as FAMILIES,
    NEEDS as NEEDS,
    RuleEntry as RuleEntry,
    entries as entries,
    entry as entry,
    from_transformations as from_transformations,
    make as make,
    names as names,
    owned as owned,
    register as register,
    unregister as unregister,
)
from gamedyn.rules.turns import (
    alternating as alternating,
    simultaneous as simultaneous,
)
from gamedyn.rules.extragradient import (
    extragradient as extragradient,
    past_extragradient as past_extragradient,
)
from gamedyn.rules.optimistic import (
    fast_optimistic as fast_optimistic,
    optimistic as optimistic,
)
from gamedyn.rules.weak_minty import (
    bias_corrected_extragradient as bias_corrected_extragradient,
    curvature_extragradient as curvature_extragradient,
    half_step_extragradient as half_step_extragradient,
)
from gamedyn.rules.anchored import (
    anchored_descent as anchored_descent,
    anchored_extragradient as anchored_extragradient,
    decaying_anchor_extragradient as decaying_anchor_extragradient,
    halpern as halpern,
)
from gamedyn.rules.integrators import (
    proximal_point as proximal_point,
    runge_kutta as runge_kutta,
)
from gamedyn.rules.splitting import (
    adaptive_golden_ratio as adaptive_golden_ratio,
    alex_gda as alex_gda,
    forward_backward_forward as forward_backward_forward,
    forward_reflected_backward as forward_reflected_backward,
    projected_reflected_gradient as projected_reflected_gradient,
)
from gamedyn.rules.adaptive import (
    adaptive_mirror_prox as adaptive_mirror_prox,
    golden_ratio as golden_ratio,
    universal_mirror_prox as universal_mirror_prox,
)
from gamedyn.rules.constrained import (
    interior_point as interior_point,
)
from gamedyn.rules.simplices import (
    fictitious_play as fictitious_play,
    frank_wolfe as frank_wolfe,
    magnetic_mirror_descent as magnetic_mirror_descent,
    regret_matching as regret_matching,
    replicator as replicator,
)
from gamedyn.rules.stochastic import (
    compressed_descent as compressed_descent,
    reshuffled as reshuffled,
    stochastic_hamiltonian as stochastic_hamiltonian,
)
from gamedyn.rules.variance_reduction import (
    alternating_variance_reduced as alternating_variance_reduced,
    extragradient_variance_reduced as extragradient_variance_reduced,
    forward_reflected_variance_reduced as forward_reflected_variance_reduced,
    loopless_svrgda as loopless_svrgda,
    svre as svre,
)
from gamedyn.rules.competitive import (
    adaptive_competitive_gradient as adaptive_competitive_gradient,
    competitive_gradient as competitive_gradient,
)
from gamedyn.rules.wrappers import (
    anderson as anderson,
    averaged as averaged,
    lookahead as lookahead,
    restarted as restarted,
)
from gamedyn.rules import combinations as combinations

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
