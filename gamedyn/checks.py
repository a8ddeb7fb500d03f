"""Checks of arguments, with messages that say what was expected and what was got."""

import inspect
import reprlib
import types
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
        positive = not is_known(value) or bool(value > 0)
    except (TypeError, ValueError):
        got = described(value) if np.ndim(value) else repr(value)
        raise TypeError(f"{name} must be a positive number, got {got}") from None
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
            f"{name} must be a positive integer that is known when jit traces, got a "
            f"traced {value.aval}: close over it, or name it in static_argnames"
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


def described(value: Any) -> str:
    """Say what a value is, in a few words: its type, and what tells it from others.

    Args:
        value: anything, of any size.

    Returns:
        Words for a message, after "got".

    Example:
        >>> described("sgd"), described([1, 2]), described(np.ones(3))
        ("str 'sgd'", 'list of 2', 'ndarray of shape (3,)')
    """
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, str | bool | int | float | complex):
        return f"{kind} {reprlib.repr(value)}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{kind} of shape {value.shape}"
    if type(value) in (tuple, list, dict, set):
        return f"{kind} of {len(value)}"
    if callable(value) or isinstance(value, types.ModuleType):
        if not isinstance(getattr(value, "__name__", None), str):
            return kind
        return f"{kind} {value.__name__}"
    return kind


def dtype_of(leaf: Any) -> Any:
    """The dtype that jax gives a leaf of a pytree; `None` if that is no array."""
    if isinstance(leaf, str | bytes | type | np.dtype):
        return None  # where jax would take it for the name of a dtype
    try:
        return jnp.result_type(leaf)
    except (TypeError, ValueError):
        return None


def check_function(name: str, function: Any, *arguments: str, hint: str = "") -> None:
    """Check that a function can be called with some arguments; it is not called.

    Args:
        name: what it is, for the message.
        function: the function; of one whose signature is unknown nothing is checked.
        *arguments: the names of the arguments.
        hint: what to do otherwise, for the end of the message.

    Raises:
        TypeError: if it is no function, or takes other arguments.
    """
    expected = ", ".join(arguments)
    if not callable(function):
        got = described(function)
        raise TypeError(f"{name} must be a function of ({expected}), got {got}{hint}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        got = ", ".join(map(str, signature.parameters.values()))
        raise TypeError(
            f"{name} must be a function of ({expected}), got one of ({got}){hint}"
        ) from None


def check_key(key: Any) -> None:
    """Check that a value is one key of `jax.random`, new style or old; a tracer passes.

    Raises:
        TypeError: if it is anything else, such as a seed or several keys.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if shape == () if typed else dtype == np.uint32 and shape and len(shape) == 1:
        return
    hint = f": jax.random.key({key})" if isinstance(key, int) else ""
    raise TypeError(
        "key must be one key, as jax.random.key(0) makes it, got "
        f"{described(key)}{hint}"
    )


def check_share(name: str, value: Any, *, zero: bool, one: bool) -> None:
    """Check that a value lies between 0 and 1; a tracer passes.

    Args:
        name: the name of the argument, for the message.
        value: the value.
        zero: whether it may be 0.
        one: whether it may be 1.

    Raises:
        TypeError: if it is no number.
        ValueError: if it lies outside.
    """
    if not is_known(value):
        return
    where = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
    try:
        inside = bool(0 < value < 1 or zero and value == 0 or one and value == 1)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number in {where}, got {described(value)}"
        ) from error
    if not inside:
        raise ValueError(f"{name} must lie in {where}, got {value}")


def is_real_scalar(value: Any) -> bool:
    """Whether a value is a real number, or an array of no dimension that holds one."""
    # A bool is an int to Python; an array of them, or of complex numbers, is none.
    return (
        isinstance(value, int | float | np.number | np.ndarray | jax.Array)
        and not isinstance(value, bool)
        and jnp.shape(value) == ()
        and jnp.result_type(value).kind in "iuf"
    )
