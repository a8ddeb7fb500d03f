"""Moved to `gamedyn.workbench.report`; this path is kept for one version."""

from gamedyn._moved import forward

__getattr__ = forward(
    __name__, "gamedyn.workbench.report", "gamedyn.workbench.results", "gamedyn.files"
)
