"""Moved to `gamedyn.workbench.race`; this path is kept for one version."""

from gamedyn._moved import forward

__getattr__ = forward(__name__, "gamedyn.workbench.race")
