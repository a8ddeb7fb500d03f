"""Diffusion models: games of one player, and samplers as tables."""

from gamedyn.diffusion import (
    exact,
    guidance,
    importance,
    inpainting,
    likelihood,
    process,
    rows,
    samplers,
    sampling,
    schedules,
)
from gamedyn.diffusion.game import Batch, Evaluation, edm_game, game, monitor
from gamedyn.diffusion.sampling import Clip, preconditioned, sample

__all__ = [
    "Batch",
    "Clip",
    "Evaluation",
    "edm_game",
    "exact",
    "game",
    "guidance",
    "importance",
    "inpainting",
    "likelihood",
    "monitor",
    "preconditioned",
    "process",
    "rows",
    "sample",
    "samplers",
    "sampling",
    "schedules",
]
