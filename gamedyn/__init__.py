"""Game dynamics in JAX: games as pure losses, composable update rules, certificates."""

import importlib
from typing import TYPE_CHECKING

from gamedyn import fields, geometry, rules
from gamedyn.game import Game, general_sum, single_player, zero_sum
from gamedyn.rules import (
    Rule,
    alternating,
    averaged,
    extragradient,
    lookahead,
    optimistic,
    past_extragradient,
    simultaneous,
)
from gamedyn.solve import Solution, Status, solve, solve_until
from gamedyn.sweep import sweep

if TYPE_CHECKING:
    from gamedyn import analysis, games, runtime

__version__ = "0.1.0"

_LAZY = ("analysis", "games", "plot", "runtime")


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f"gamedyn.{name}")
    raise AttributeError(f"module 'gamedyn' has no attribute {name!r}")


__all__ = [
    "Game",
    "Rule",
    "Solution",
    "Status",
    "alternating",
    "analysis",
    "averaged",
    "extragradient",
    "fields",
    "games",
    "general_sum",
    "geometry",
    "lookahead",
    "optimistic",
    "past_extragradient",
    "rules",
    "runtime",
    "simultaneous",
    "single_player",
    "solve",
    "solve_until",
    "sweep",
    "zero_sum",
]
