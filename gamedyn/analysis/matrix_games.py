"""Moved to `gamedyn.analysis.gaps` and `gamedyn.games.equilibria`."""

from gamedyn._moved import forward

__getattr__ = forward(
    __name__, "gamedyn.analysis.gaps", "gamedyn.games.equilibria", "gamedyn.geometry"
)
