"""Moved to `gamedyn.analysis.verdicts`."""

from gamedyn._moved import forward

__getattr__ = forward(__name__, "gamedyn.analysis.verdicts")
