"""Data: strict readers, named sets, a census, mixtures, the order of batches."""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Every public name on one line.
from gamedyn.registry import missing as _missing
from gamedyn.data import (
    augment as augment,
    census as census,
    mixtures as mixtures,
    order as order,
    published as published,
    readers as readers,
    sets as sets,
)
from gamedyn.data.mixtures import (
    Curve as Curve,
    PlaneMixture as PlaneMixture,
)
from gamedyn.data.mixtures import Mixture as Mixture  # the earlier name
from gamedyn.data.order import BatchOrder as BatchOrder
from gamedyn.data.sets import (
    ImageSet as ImageSet,
    entries as entries,
    entry as entry,
    load as load,
    names as names,
    register as register,
    unregister as unregister,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
