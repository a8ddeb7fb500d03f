"""Game dynamics in JAX: games as pure losses, composable update rules, certificates."""

import importlib
from typing import TYPE_CHECKING, Any

from gamedyn import fields as fields
from gamedyn import geometry as geometry
from gamedyn import rules as rules
from gamedyn import transformations as transformations
from gamedyn.game import Game as Game
from gamedyn.game import general_sum as general_sum
from gamedyn.game import single_player as single_player
from gamedyn.game import zero_sum as zero_sum
from gamedyn.rules import Rule as Rule
from gamedyn.rules import adaptive_golden_ratio as adaptive_golden_ratio
from gamedyn.rules import alex_gda as alex_gda
from gamedyn.rules import alternating as alternating
from gamedyn.rules import anchored_extragradient as anchored_extragradient
from gamedyn.rules import averaged as averaged
from gamedyn.rules import extragradient as extragradient
from gamedyn.rules import forward_backward_forward as forward_backward_forward
from gamedyn.rules import forward_reflected_backward as forward_reflected_backward
from gamedyn.rules import halpern as halpern
from gamedyn.rules import lookahead as lookahead
from gamedyn.rules import optimistic as optimistic
from gamedyn.rules import past_extragradient as past_extragradient
from gamedyn.rules import projected_reflected_gradient as projected_reflected_gradient
from gamedyn.rules import proximal_point as proximal_point
from gamedyn.rules import runge_kutta as runge_kutta
from gamedyn.rules import simultaneous as simultaneous
from gamedyn.solve import Solution as Solution
from gamedyn.solve import Status as Status
from gamedyn.solve import solve as solve
from gamedyn.solve import solve_until as solve_until
from gamedyn.sweep import sweep as sweep

if TYPE_CHECKING:  # what type checkers and editors see of the names in _LAZY
    from gamedyn import analysis as analysis
    from gamedyn import data as data
    from gamedyn import diffusion as diffusion
    from gamedyn import divergences as divergences
    from gamedyn import games as games
    from gamedyn import gan as gan
    from gamedyn import methods as methods
    from gamedyn import metrics as metrics
    from gamedyn import nets as nets
    from gamedyn import plugins as plugins
    from gamedyn import recipes as recipes
    from gamedyn import runtime as runtime
    from gamedyn import train as train
    from gamedyn import workbench as workbench
    from gamedyn.analyse import analyse as analyse
    from gamedyn.games import Problem as Problem
    from gamedyn.workbench import plot as plot
    from gamedyn.workbench.compare import compare as compare

__version__ = "0.1.0"

_MODULES = (
    "analysis",
    "data",
    "diffusion",
    "divergences",
    "games",
    "gan",
    "methods",
    "metrics",
    "nets",
    "plugins",
    "recipes",
    "runtime",
    "train",
    "workbench",
)
# Loaded on first use: a module, or a name in one.
_LAZY = {
    **{name: f"gamedyn.{name}" for name in _MODULES},
    "Problem": "gamedyn.games:Problem",
    "analyse": "gamedyn.analyse:analyse",
    "compare": "gamedyn.workbench.compare:compare",
    "plot": "gamedyn.workbench.plot",
}

# Public is what was imported above by its own name, and what is loaded on first use.
__all__ = sorted(  # pyright: ignore[reportUnsupportedDunderAll]
    {"fields", "geometry", "rules", "transformations", *_LAZY}.union(
        name
        for name, value in globals().items()
        if getattr(value, "__module__", "").startswith("gamedyn.")
    )
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'gamedyn' has no attribute {name!r}")
    home, _, attribute = _LAZY[name].partition(":")
    module = importlib.import_module(home)
    value = getattr(module, attribute) if attribute else module
    # Kept: the import may have left a module of that name here in its place.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
