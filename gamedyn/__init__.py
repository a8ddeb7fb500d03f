"""Game dynamics in JAX: games as pure losses, composable update rules, certificates."""

import importlib
from typing import TYPE_CHECKING, Any

from gamedyn import fields, geometry, rules, transformations
from gamedyn.game import Game, general_sum, single_player, zero_sum
from gamedyn.rules import (
    Rule,
    adaptive_golden_ratio,
    alex_gda,
    alternating,
    anchored_extragradient,
    averaged,
    extragradient,
    forward_backward_forward,
    forward_reflected_backward,
    halpern,
    lookahead,
    optimistic,
    past_extragradient,
    projected_reflected_gradient,
    proximal_point,
    runge_kutta,
    simultaneous,
)
from gamedyn.solve import Solution, Status, solve, solve_until
from gamedyn.sweep import sweep

if TYPE_CHECKING:
    from gamedyn import (
        analysis,
        data,
        diffusion,
        divergences,
        games,
        gan,
        methods,
        metrics,
        nets,
        runtime,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "Game",
    "Rule",
    "Solution",
    "Status",
    "adaptive_golden_ratio",
    "alex_gda",
    "alternating",
    "analysis",
    "anchored_extragradient",
    "averaged",
    "data",
    "diffusion",
    "divergences",
    "extragradient",
    "fields",
    "forward_backward_forward",
    "forward_reflected_backward",
    "games",
    "gan",
    "general_sum",
    "geometry",
    "halpern",
    "lookahead",
    "methods",
    "metrics",
    "nets",
    "optimistic",
    "past_extragradient",
    "projected_reflected_gradient",
    "proximal_point",
    "rules",
    "runge_kutta",
    "runtime",
    "simultaneous",
    "single_player",
    "solve",
    "solve_until",
    "sweep",
    "train",
    "transformations",
    "zero_sum",
]

# Loaded on first use.
_LAZY = (
    "analysis",
    "data",
    "diffusion",
    "divergences",
    "games",
    "gan",
    "methods",
    "metrics",
    "nets",
    "runtime",
    "train",
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"gamedyn.{name}")
    raise AttributeError(f"module 'gamedyn' has no attribute {name!r}")
