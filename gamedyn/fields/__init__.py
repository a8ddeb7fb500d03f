"""Fields: the direction in which the players are pushed, to be descended.

A field is `field(params, batch=None) -> direction`, without memory. Corrected fields
are matrix-free: they take products with the Jacobian of the gradient, on any pytrees.
Call them under jit; eagerly the same derivatives are computed several times. `names`,
`entries` and `make` give the registry.
"""

from gamedyn.fields.base import (
    Field,
    as_field,
    at_batch,
    gradient,
    is_zero_sum,
    jvp,
    noisy,
    vjp,
)
from gamedyn.fields.competitive import competitive
from gamedyn.fields.corrected import consensus, hamiltonian, symplectic
from gamedyn.fields.lookahead import (
    level_k,
    lola,
    opponent_lookahead,
    stable_opponent_shaping,
)
from gamedyn.fields.newton import (
    complete_newton,
    follow_the_ridge,
    gradient_descent_newton,
    local_symplectic_surgery,
)
from gamedyn.fields.penalised import penalised
from gamedyn.fields.table import FieldEntry, entries, entry, make, names
from gamedyn.fields.unrolled import unrolled

__all__ = [
    "Field",
    "FieldEntry",
    "as_field",
    "at_batch",
    "competitive",
    "complete_newton",
    "consensus",
    "entries",
    "entry",
    "follow_the_ridge",
    "gradient",
    "gradient_descent_newton",
    "hamiltonian",
    "is_zero_sum",
    "jvp",
    "level_k",
    "local_symplectic_surgery",
    "lola",
    "make",
    "names",
    "noisy",
    "opponent_lookahead",
    "penalised",
    "stable_opponent_shaping",
    "symplectic",
    "unrolled",
    "vjp",
]
