"""Moved to `extragradient` and `optimistic`."""

from gamedyn._moved import forward

__getattr__ = forward(
    __name__, "gamedyn.rules.extragradient", "gamedyn.rules.optimistic"
)
