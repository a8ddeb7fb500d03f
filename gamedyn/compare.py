"""Moved to `gamedyn.workbench.compare`; this path is kept for one version."""

from gamedyn._moved import forward

__getattr__ = forward(
    __name__,
    "gamedyn.workbench.compare",
    "gamedyn.workbench.results",
    "gamedyn.workbench.summaries",
    call="compare",
)
