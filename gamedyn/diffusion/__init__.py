"""Diffusion models: games of one player, and samplers as tables."""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Every public name on one line.
from gamedyn.registry import missing as _missing
from gamedyn.diffusion import (
    exact as exact,
    guidance as guidance,
    importance as importance,
    inpainting as inpainting,
    likelihood as likelihood,
    process as process,
    rows as rows,
    samplers as samplers,
    sampling as sampling,
    schedules as schedules,
)
from gamedyn.diffusion.game import (
    Batch as Batch,
    Evaluation as Evaluation,
    edm_game as edm_game,
    game as game,
    monitor as monitor,
)
from gamedyn.diffusion.sampling import (
    Clip as Clip,
    preconditioned as preconditioned,
    sample as sample,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
