"""Checks of arguments, with messages that say what was expected and what was got."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer


def is_known(value: Any) -> bool:
    """Whether a value is known now: not a tracer, whose value comes when it runs."""
    return not isinstance(value, Tracer)


def check_positive(name: str, value: Any) -> None:
    """Check that a value is positive; a tracer passes.

    Args:
        name: the name of the argument, for the message.
        value: a number.

    Raises:
        TypeError: if the value is no number.
        ValueError: if the value is known and not positive.
    """
    try:
        positive = not is_known(value) or value > 0
    except TypeError as error:
        what = f"{name} must be a positive number, got {value!r}"
        raise TypeError(what) from error
    if not positive:
        raise ValueError(f"{name} must be positive, got {value}")


def check_positive_integer(name: str, value: Any) -> None:
    """Check that a value is a static positive integer.

    Args:
        name: the name of the argument, for the message.
        value: the value.

    Raises:
        ValueError: if it is anything else, such as a bool or a float.
        TypeError: if it is traced.
    """
    if not is_known(value):
        raise TypeError(
            f"{name} must be known before tracing, a Python integer, got a traced "
            f"{value.aval}: make it a static argument of jit"
        )
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_output(what: str, value: Any, dtype: Any = None) -> None:
    """Check what a network returned: an array of real floating-point numbers.

    Args:
        what: who returned it, such as "the generator".
        value: the output.
        dtype: the dtype that it must have; any floating-point one if `None`.

    Raises:
        TypeError: if it is anything else.
    """
    got = getattr(value, "dtype", None)
    if got is None or not hasattr(value, "shape"):
        raise TypeError(f"{what} must return an array, got {type(value).__name__}")
    if not jnp.issubdtype(got, jnp.floating) or (dtype is not None and got != dtype):
        expected = "a real floating-point dtype" if dtype is None else f"dtype {dtype}"
        raise TypeError(
            f"{what} must return {expected}, got {got}: cast its output"
            + ("" if dtype is None else ", or its input")
        )


def check_words(start: str, words: Any, known: Collection[str], table: str) -> None:
    """Check that words are a tuple of known ones.

    Args:
        start: the beginning of the message, such as "my_rule needs".
        words: the words; a single string is none, which would be taken for its letters.
        known: the known words.
        table: the name of these.

    Raises:
        TypeError: if they are not a tuple of strings.
        ValueError: if one is unknown.
    """
    if type(words) is not tuple or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{start} {words!r}: expected a tuple of words")
    if unknown := [word for word in words if word not in known]:
        raise ValueError(
            f"{start} {', '.join(unknown)}: not among {table}, {', '.join(known)}"
        )
