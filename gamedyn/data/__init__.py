"""Data: strict readers, named sets, mixtures of the plane, the order of batches."""

from gamedyn.data import augment, mixtures, order, readers, sets
from gamedyn.data.mixtures import Curve, Mixture
from gamedyn.data.order import BatchOrder
from gamedyn.data.sets import ImageSet, load, names

__all__ = [
    "BatchOrder",
    "Curve",
    "ImageSet",
    "Mixture",
    "augment",
    "load",
    "mixtures",
    "names",
    "order",
    "readers",
    "sets",
]
