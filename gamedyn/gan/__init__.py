"""Generative adversarial networks as games."""

from gamedyn.gan import conditional, losses, penalties, theory
from gamedyn.gan.game import PLAYERS, Batch, game, monitor, packed
from gamedyn.gan.sampling import normal, samples, uniform
from gamedyn.gan.terms import Play, Term, latent_consistency, lazy

__all__ = [
    "PLAYERS",
    "Batch",
    "Play",
    "Term",
    "conditional",
    "game",
    "latent_consistency",
    "lazy",
    "losses",
    "monitor",
    "normal",
    "packed",
    "penalties",
    "samples",
    "theory",
    "uniform",
]
