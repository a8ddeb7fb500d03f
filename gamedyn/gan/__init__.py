"""Generative adversarial networks as games."""

from gamedyn.gan import losses, penalties, theory

__all__ = ["losses", "penalties", "theory"]
