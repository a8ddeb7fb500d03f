"""Data: strict readers, named sets, a census, mixtures, the order of batches."""

from gamedyn.data import augment, census, mixtures, order, readers, sets
from gamedyn.data.mixtures import Curve, Mixture
from gamedyn.data.order import BatchOrder
from gamedyn.data.sets import ImageSet, load, names

__all__ = [
    "BatchOrder",
    "Curve",
    "ImageSet",
    "Mixture",
    "augment",
    "census",
    "load",
    "mixtures",
    "names",
    "order",
    "readers",
    "sets",
]
