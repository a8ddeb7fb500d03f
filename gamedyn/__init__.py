"""Game dynamics in JAX: games as pure losses, composable update rules, certificates."""

# ruff: noqa: I001  Every public name on one line.
import gc
import importlib
from typing import TYPE_CHECKING, Any

# What is imported here lives as long as the process. Looking for garbage among it, and
# again among all objects of jax, takes longer than the modules of this package do.
_collecting = gc.isenabled()
gc.disable()
try:
    from gamedyn import (
        fields as fields,
        geometry as geometry,
        rules as rules,
        transformations as transformations,
    )
    from gamedyn.game import (
        Game as Game,
        general_sum as general_sum,
        single_player as single_player,
        zero_sum as zero_sum,
    )
    from gamedyn.registry import missing as _missing
    from gamedyn.rules import (
        Rule as Rule,
        adaptive_golden_ratio as adaptive_golden_ratio,
        alex_gda as alex_gda,
        alternating as alternating,
        anchored_extragradient as anchored_extragradient,
        averaged as averaged,
        extragradient as extragradient,
        forward_backward_forward as forward_backward_forward,
        forward_reflected_backward as forward_reflected_backward,
        halpern as halpern,
        lookahead as lookahead,
        optimistic as optimistic,
        past_extragradient as past_extragradient,
        projected_reflected_gradient as projected_reflected_gradient,
        proximal_point as proximal_point,
        runge_kutta as runge_kutta,
        simultaneous as simultaneous,
    )
    from gamedyn.solve import (
        Solution as Solution,
        Status as Status,
        solve as solve,
        solve_until as solve_until,
    )
    from gamedyn.sweep import sweep as sweep
finally:
    if _collecting:
        gc.enable()

if TYPE_CHECKING:  # what type checkers and editors see of the names in _LAZY
    from gamedyn import (
        analysis as analysis,
        data as data,
        diffusion as diffusion,
        divergences as divergences,
        games as games,
        gan as gan,
        methods as methods,
        metrics as metrics,
        nets as nets,
        plugins as plugins,
        recipes as recipes,
        runtime as runtime,
        train as train,
        workbench as workbench,
    )
    from gamedyn.workbench.analyse import analyse as analyse
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
    "analyse": "gamedyn.workbench.analyse:analyse",
    "compare": "gamedyn.workbench.compare:compare",
    "plot": "gamedyn.workbench.plot",
}

# Where a name is looked for that is not here.
_BESIDE = tuple(
    f"gamedyn.{name}"
    for name in ("games", "rules", "fields", "geometry", "transformations", "analysis")
)

# Public is what was imported above by its own name, and what is loaded on first use.
__all__ = sorted(  # pyright: ignore[reportUnsupportedDunderAll]
    {"fields", "geometry", "rules", "transformations", *_LAZY}.union(
        name
        for name, value in globals().items()
        if name[0] != "_" and getattr(value, "__module__", "").startswith("gamedyn.")
    )
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        return _missing(__name__, beside=_BESIDE)(name)
    home, _, attribute = _LAZY[name].partition(":")
    module = importlib.import_module(home)
    value = getattr(module, attribute) if attribute else module
    # Kept: the import may have left a module of that name here in its place.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
