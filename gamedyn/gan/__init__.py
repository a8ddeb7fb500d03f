"""Generative adversarial networks as games."""

from gamedyn.gan import theory

__all__ = ["theory"]
