"""Data: strict readers, named sets, a census, mixtures, the order of batches."""

from gamedyn.data import augment, census, mixtures, order, published, readers, sets
from gamedyn.data.mixtures import Curve, PlaneMixture
from gamedyn.data.mixtures import Mixture as Mixture  # the earlier name
from gamedyn.data.order import BatchOrder
from gamedyn.data.sets import (
    ImageSet,
    entries,
    entry,
    load,
    names,
    register,
    unregister,
)

__all__ = [
    "BatchOrder",
    "Curve",
    "ImageSet",
    "PlaneMixture",
    "augment",
    "census",
    "entries",
    "entry",
    "load",
    "mixtures",
    "names",
    "order",
    "published",
    "readers",
    "register",
    "sets",
    "unregister",
]
