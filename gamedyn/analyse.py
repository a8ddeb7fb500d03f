"""Moved to `gamedyn.workbench.analyse` and `gamedyn.analysis`."""

from gamedyn._moved import forward

__getattr__ = forward(
    __name__,
    "gamedyn.workbench.analyse",
    "gamedyn.analysis.regions",
    "gamedyn.analysis.constrained",
    call="analyse",
)
