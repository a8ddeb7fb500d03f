"""Moved to `foreseen`."""

from gamedyn._moved import forward

__getattr__ = forward(__name__, "gamedyn.fields.foreseen")
