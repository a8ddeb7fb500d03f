"""Analysis: Jacobians of games and of update maps, measured and predicted rates."""

from gamedyn.analysis.jacobians import game_jacobian
from gamedyn.analysis.rates import MeasuredRate, measured_rate
from gamedyn.analysis.updates import (
    SpectralRadius,
    UpdateJacobian,
    spectral_radius,
    update_jacobian,
)

__all__ = [
    "MeasuredRate",
    "SpectralRadius",
    "UpdateJacobian",
    "game_jacobian",
    "measured_rate",
    "spectral_radius",
    "update_jacobian",
]
