"""Values as JSON holds them: results to be kept, and options to be read again.

JSON has no NaN and no infinity; here they are the strings "NaN", "Infinity" and
"-Infinity", as in JSON's own words for them in Python and JavaScript.
"""

import collections.abc
import dataclasses
import datetime
import enum
import math
import types
import typing
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_LISTED = 1000  # entries of an array that are written one by one
_DEEPEST = 60  # levels of containers
_DIGITS = 4000  # of an integer; Python reads 4,300 at most
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Misfit(ValueError):
    """What was read is no option, or none of its type; the message names it."""


class _Unfit(Exception):
    """A value that JSON cannot hold; the message says what it is."""


def plain(value: Any, name: str) -> Any:
    """Convert a value to what JSON can hold, leaving out what cannot be converted.

    Arrays and scalars of jax and numpy become numbers and nested lists, an array of
    more than 1,000 entries its shape, dtype, mean, minimum and maximum; tuples and sets
    lists, NamedTuples and dataclasses dictionaries, paths and dates strings.

    Args:
        value: the value.
        name: what it is, for the warning.

    Returns:
        Dictionaries, lists, strings, finite numbers, booleans and `None`.

    Warns:
        UserWarning: names whatever was left out, and its type.
    """
    converted, unfit = converted_and_unfit(value)
    warn_of(unfit, name)
    return converted


def converted_and_unfit(value: Any) -> tuple[Any, list[str]]:
    """Convert a value as `plain` does; return also, in words, what is left out."""
    unfit: list[str] = []
    return _converted(value, "", unfit, ()), unfit


def warn_of(unfit: list[str], name: str) -> None:
    """Warn of what is left out of a file, if anything is."""
    if unfit:
        warnings.warn(
            f"{name} is written without what JSON cannot hold: {', '.join(unfit)}",
            stacklevel=3,
        )


def _converted(value: Any, place: str, unfit: list[str], above: tuple[int, ...]) -> Any:
    """Convert a value; at a place where that fails stands `None`."""
    try:
        if id(value) in above or len(above) > _DEEPEST:
            raise _Unfit("a value inside itself, or too deep")
        inside = (*above, id(value))
        entries = _entries(value)
        if entries is not None:
            found: dict[str, Any] = {}
            for key, entry in entries:
                text = str(key) if str(key) not in found else repr(key)
                where = f"{place}.{text}" if place else text
                before = len(unfit)
                made = _converted(entry, where, unfit, inside)
                if made is not None or len(unfit) == before:
                    found[text] = made
            return found
        items = _items(value)
        if items is not None:
            return [
                _converted(item, f"{place}[{i}]", unfit, inside)
                for i, item in enumerate(items)
            ]
        return _leaf(value)
    except Exception as error:  # whatever a foreign value's own methods raise
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        why = f": {error}" if str(error) else ""
        unfit.append(f"{place or 'all'} ({kind.removeprefix('builtins.')}{why})")
        return None


def _entries(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the named entries of a container, `None` if it has none."""
    if isinstance(value, Mapping):
        return list(value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    fields = getattr(value, "_fields", None)
    if isinstance(value, tuple) and fields is not None:
        return list(zip(fields, value, strict=True))
    return None


def _items(value: Any) -> list[Any] | None:
    """Return the items of a container without names, `None` if it is none."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return None
    if isinstance(value, collections.abc.Set):
        return sorted(value, key=str)
    if isinstance(value, collections.abc.Sequence):
        return list(value)
    return None


def _leaf(value: Any) -> Any:
    """Convert what is no container."""
    if isinstance(value, enum.Enum):
        return _leaf(value.value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) >= 10**_DIGITS:
            raise _Unfit(f"more than {_DIGITS} digits")
        return int(value)
    if isinstance(value, float):
        return _number(float(value))
    if isinstance(value, complex):
        return {"real": _number(value.real), "imag": _number(value.imag)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if hasattr(value, "__array__") or hasattr(value, "dtype"):
        return _array(value)
    raise _Unfit


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _array(value: Any) -> Any:
    """Convert an array or a scalar of an array library."""
    import jax

    if isinstance(value, jax.Array) and jax.numpy.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    dtype = str(array.dtype)
    if array.dtype.kind == "V" and array.dtype.names is None:  # bfloat16 and its kin
        array = array.astype(np.float32)
    elif array.dtype.kind in "mM":
        array = array.astype(str)
    if array.size > _LISTED:
        return {"shape": list(array.shape), "dtype": dtype, **_statistics(array)}
    unfit: list[str] = []
    listed = array.tolist()
    if isinstance(listed, np.ndarray | np.generic):  # a dtype that Python lacks
        listed = float(listed)
    converted = _converted(listed, "", unfit, ())
    if unfit:
        raise _Unfit(f"an array of {dtype}")
    return converted


def _statistics(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind not in "biuf":
        return {}
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return {"not_finite": int(array.size)}
    return {
        "mean": _number(float(finite.mean())),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "not_finite": int(array.size - finite.size),
    }


def typed(value: Any, hint: Any, name: str) -> Any:
    """Give a value that was read from JSON the type of an option.

    Args:
        value: of JSON.
        hint: the type of the option. Types that are not known here take any value.
        name: the option, for the message.

    Returns:
        The value: a tuple for a list, a `Path` for a string, and so on.

    Raises:
        Misfit: if the value is not of that type.
    """
    try:
        return _typed(value, hint)
    except _Unfit:
        shown = f"{value!r:.60}" + "..." * (len(repr(value)) > 60)
        wanted = hint.__name__ if isinstance(hint, type) else str(hint)
        raise Misfit(
            f"the option {name} must be {wanted.replace('typing.', '')}, got {shown}"
        ) from None


def _typed(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _typed(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        for arm in arguments:
            try:
                return _typed(value, arm)
            except _Unfit:
                continue
        raise _Unfit
    if origin is typing.Literal:
        for word in arguments:
            if type(word) is type(value) and word == value:
                return word
        raise _Unfit
    kind = origin or hint
    if kind in (None, type(None)):
        return _fit(value, value is None)
    if kind is bool:
        return _fit(value, isinstance(value, bool))
    if kind is int:
        return _fit(value, isinstance(value, int) and not isinstance(value, bool))
    if kind is float:
        return _float(value)
    if kind is str:
        return _fit(value, isinstance(value, str))
    if not isinstance(kind, type):
        return value
    if issubclass(kind, Path):
        return kind(_fit(value, isinstance(value, str) and "\0" not in value))
    if issubclass(kind, enum.Enum):
        return _member(value, kind)
    if dataclasses.is_dataclass(kind):
        return from_json(kind, _fit(value, isinstance(value, dict)))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(value, kind)
    if kind is tuple:
        return _tuple(value, arguments)
    if kind in _CONTAINERS:
        items = _fit(value, isinstance(value, list))
        made = [_typed(item, arguments[0]) for item in items] if arguments else items
        return _CONTAINERS[kind](made)
    if kind in (dict, collections.abc.Mapping):
        entries = _fit(value, isinstance(value, dict)).items()
        if not arguments:
            return dict(entries)
        return {_key(k, arguments[0]): _typed(v, arguments[1]) for k, v in entries}
    return value


_CONTAINERS: dict[Any, Any] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
    collections.abc.Iterable: tuple,
}


def _fit(value: Any, fits: bool) -> Any:
    if not fits:
        raise _Unfit
    return value


def _float(value: Any) -> float:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unfit
    try:
        return _fit(float(value), math.isfinite(value))
    except OverflowError:
        raise _Unfit from None


def _tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    items = _fit(value, isinstance(value, list))
    if not arguments:
        return tuple(items)
    if arguments[-1] is Ellipsis:
        return tuple(_typed(item, arguments[0]) for item in items)
    _fit(items, len(items) == len(arguments))
    return tuple(map(_typed, items, arguments))


def _named_tuple(value: Any, kind: Any) -> Any:
    hints = typing.get_type_hints(kind)
    entries = _fit(value, isinstance(value, dict) and set(value) == set(kind._fields))
    return kind(**{k: _typed(v, hints.get(k, Any)) for k, v in entries.items()})


def _member(value: Any, kind: Any) -> Any:
    for member in kind:
        if type(member.value) is type(value) and member.value == value:
            return member
    raise _Unfit


def _key(text: str, hint: Any) -> Any:
    """Read a dictionary's key, which JSON knows as a string."""
    if hint not in (int, float):
        return _typed(text, hint)
    try:
        return hint(text)
    except ValueError:
        raise _Unfit from None


def to_json(config: Any) -> dict[str, Any]:
    """Convert the options of a recipe to what JSON can hold."""
    return plain(
        {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
        },
        "the record of the options",
    )


def from_json(config_type: Any, values: dict[str, Any]) -> Any:
    """Rebuild the options of a recipe from JSON.

    Args:
        config_type: the recipe's `Config`.
        values: its options by name.

    Returns:
        An instance.

    Raises:
        Misfit: a ValueError, if an option is unknown, or of another type.
    """
    try:
        hints = typing.get_type_hints(config_type, include_extras=True)
    except Exception as error:  # an annotation is any expression
        what = f"{type(error).__name__}: {error}"
        raise Misfit(
            f"the types of the recipe's options are unknown: {what}"
        ) from error
    known = {field.name for field in dataclasses.fields(config_type) if field.init}
    unknown = sorted(set(values) - known)
    if unknown:
        raise Misfit(
            f"the run has options that the recipe does not know: {', '.join(unknown)}"
        )
    return config_type(
        **{name: typed(value, hints[name], name) for name, value in values.items()}
    )
