"""Checks of static arguments: what was got, what was expected."""

from typing import Any

from jax.core import Tracer


def is_known(value: Any) -> bool:
    """Whether a value can be looked at now, being no traced one."""
    return not isinstance(value, Tracer)


def check_positive(name: str, value: Any) -> None:
    """Raise `ValueError` unless a value, if it is known, is positive."""
    if is_known(value) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def check_positive_integer(name: str, value: Any) -> None:
    """Raise `ValueError` unless a value is a static positive integer."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
