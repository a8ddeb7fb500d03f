"""Fields: the direction in which the players are pushed, to be descended.

A field is `field(params, batch=None) -> direction`, without memory. Corrected fields
are matrix-free: they take products with the Jacobian of the gradient, on any pytrees.
Call them under jit; eagerly the same derivatives are computed several times. `names`,
`entries` and `make` give the registry.
"""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Within a family, tables show fields in the order of these imports.
from gamedyn.registry import missing as _missing
from gamedyn.fields.base import (
    Field as Field,
    as_field as as_field,
    at_batch as at_batch,
    gradient as gradient,
    is_zero_sum as is_zero_sum,
    jvp as jvp,
    noisy as noisy,
    vjp as vjp,
)
from gamedyn.fields.registry import (
    FAMILIES as FAMILIES,
    NEEDS as NEEDS,
    FieldEntry as FieldEntry,
    Work as Work,
    entries as entries,
    entry as entry,
    make as make,
    names as names,
    register as register,
    unregister as unregister,
    without_step as without_step,
)
from gamedyn.fields.corrected import (
    consensus as consensus,
    hamiltonian as hamiltonian,
    symplectic as symplectic,
)
from gamedyn.fields.penalised import (
    penalised as penalised,
)
from gamedyn.fields.competitive import (
    competitive as competitive,
)
from gamedyn.fields.foreseen import (
    level_k as level_k,
    lola as lola,
    opponent_lookahead as opponent_lookahead,
    stable_opponent_shaping as stable_opponent_shaping,
)
from gamedyn.fields.unrolled import (
    unrolled as unrolled,
)
from gamedyn.fields.newton import (
    complete_newton as complete_newton,
    follow_the_ridge as follow_the_ridge,
    gradient_descent_newton as gradient_descent_newton,
    local_symplectic_surgery as local_symplectic_surgery,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
