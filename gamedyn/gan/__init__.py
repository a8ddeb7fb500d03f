"""Generative adversarial networks as games."""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Every public name on one line.
from gamedyn.registry import missing as _missing
from gamedyn.gan import (
    conditional as conditional,
    gradients as gradients,
    losses as losses,
    penalties as penalties,
    theory as theory,
)
from gamedyn.gan.game import (
    PLAYERS as PLAYERS,
    Batch as Batch,
    game as game,
    monitor as monitor,
    packed as packed,
)
from gamedyn.gan.sampling import (
    normal as normal,
    samples as samples,
    uniform as uniform,
)
from gamedyn.gan.terms import (
    Play as Play,
    Term as Term,
    latent_consistency as latent_consistency,
    lazy as lazy,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
