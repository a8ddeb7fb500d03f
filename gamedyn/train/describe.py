"""Descriptions of what a run depends on, as strings that can be stored and compared."""

import dataclasses
import enum
import functools
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from gamedyn.files import parse_json
from gamedyn.game import PyTree
from gamedyn.text import for_terminal
from gamedyn.train.sharding import key_data

Structure = dict[str, list[Any]]

_BLOCK, _BLOCKS = 2**16, 2**12  # what is read of an array to identify it


def names(path: tuple[Any, ...]) -> list[str]:
    """Return the keys of a leaf's path as strings, alike for dicts and tuples."""
    return [jax.tree_util.keystr((entry,), simple=True) for entry in path]


def joined(path: tuple[Any, ...]) -> str:
    """Return a leaf's path as one string, which `parts` takes apart again.

    As in a JSON pointer (RFC 6901), "~" and "/" of a key become "~0" and "~1".
    """
    escaped = (key.replace("~", "~0").replace("/", "~1") for key in names(path))
    return "/".join(escaped)


def parts(name: str) -> list[str]:
    """Return the keys in a string that `joined` made."""
    return [key.replace("~1", "/").replace("~0", "~") for key in name.split("/")]


def structure(tree: PyTree) -> Structure:
    """List every leaf of a tree by path: its shape and dtype."""
    return {
        joined(path): [list(np.shape(leaf)), str(leaf.dtype)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def ingredients(thing: Any) -> dict[str, str]:
    """Describe a function by its name and the constants that it closes over.

    Rules, games and transformations are functions that close over numbers and other
    functions; listing these distinguishes Adam at 1e-3 from Adam at 1e-4. Global
    variables and the attributes of unknown objects are not looked at.

    Args:
        thing: a function, NamedTuple, dataclass, container or constant.

    Returns:
        A dictionary from paths to names of functions, numbers, and hashes of arrays.

    Example:
        >>> def power(n):
        ...     return lambda x: x**n
        >>> ingredients(power(3))
        {'': 'power.<locals>.<lambda>', 'n': '3'}
    """
    table: dict[str, str] = {}
    _walk("", thing, table, {})
    return table


def _walk(path: str, thing: Any, table: dict[str, str], seen: dict[int, Any]) -> None:
    word, parts = _look(thing)
    if word is not None:
        table[path] = word
    if id(thing) in seen:  # its parts are listed already
        return
    # Keep the object alive: a later one at its address would have the same id.
    seen[id(thing)] = thing
    for name, part in parts.items():
        _walk(f"{path}.{name}" if path else str(name), part, table, seen)


def _look(thing: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the string that stands for an object, if any, and its parts by name."""
    if isinstance(thing, enum.Enum):
        return str(thing), {}
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
        return repr(thing), {}
    if isinstance(thing, np.ndarray | np.generic | jax.Array):
        return digest(thing), {}
    if isinstance(thing, Partial | functools.partial):
        return None, {"function": thing.func, **_numbered(thing.args), **thing.keywords}
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = dataclasses.fields(thing)
        return type(thing).__qualname__, {
            field.name: getattr(thing, field.name, None) for field in fields
        }
    if isinstance(thing, list | tuple):
        fields = getattr(thing, "_fields", None)
        if fields is not None:
            return None, dict(zip(fields, thing, strict=True))
        return None, _numbered(thing)
    if isinstance(thing, dict):
        return None, {str(key): value for key, value in thing.items()}
    if isinstance(thing, type):
        return thing.__qualname__, {}
    function = getattr(thing, "__wrapped__", thing)  # below jax.jit and others
    if hasattr(function, "__func__"):
        return None, {"method": function.__func__, "self": function.__self__}
    if hasattr(function, "__code__"):
        return function.__qualname__, _closure(function)
    return type(thing).__qualname__, {}


def plain(value: Any) -> Any:
    """Return what JSON makes of a value: lists of tuples, and strings of NaN.

    Raises:
        TypeError: if it is not made of JSON values.
        ValueError: if it is nested too deeply.
    """
    value = json.loads(json.dumps(value), parse_constant=str)
    return parse_json(json.dumps(value).encode())


def _numbered(things: Iterable[Any]) -> dict[str, Any]:
    return {str(index): thing for index, thing in enumerate(things)}


def _closure(function: Any) -> dict[str, Any]:
    parts = _numbered(function.__defaults__ or ())
    parts |= function.__kwdefaults__ or {}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            parts[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return parts


def digest(array: Any) -> str:
    """Describe an array by its dtype, its shape and the start of a SHA-256.

    The hash is that of all its bytes in row-major order; beyond 256 MiB, of 4,096
    blocks of 64 KiB at equal distances, the last of which may be shorter. A scalar is
    written out instead.

    Args:
        array: an array of numpy or jax, or a PRNG key.

    Returns:
        Such as `"float64[24, 2] 9a3c5e07d1f2"`.
    """
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            return f"{array.dtype}{list(array.shape)} of several processes"
        array = key_data(array)
    array = np.asarray(array)
    if array.ndim == 0:
        return f"{array} ({array.dtype})"
    if array.dtype.hasobject or not array.dtype.itemsize:  # it has no bytes of its own
        return f"{array.dtype}{list(array.shape)}"
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    code = hashlib.sha256()
    # Of a larger array as many blocks, at equal distances, from its start to its end.
    number = max(1, -(-content.size // _BLOCK))
    picked = range(number)
    if number > _BLOCKS:
        picked = (i * (number - 1) // (_BLOCKS - 1) for i in range(_BLOCKS))
    for block in picked:
        code.update(content[block * _BLOCK : (block + 1) * _BLOCK].data)
    return f"{array.dtype}{list(array.shape)} {code.hexdigest()[:12]}"


def differences(stored: Any, given: Any, path: str = "") -> list[str]:
    """List the differences between two nested dictionaries, one line each.

    Args:
        stored: the description in a checkpoint, JSON values.
        given: the description of the present run.
        path: the path of both dictionaries, for the messages.

    Returns:
        Lines such as `"params/0/w: stored [[2, 3], 'float32'], got [...]"`.
    """
    if isinstance(stored, dict) and isinstance(given, dict):
        lines = []
        for key in [*stored, *(key for key in given if key not in stored)]:
            inner = f"{path}/{for_terminal(key)}" if path else for_terminal(key)
            if key not in given:
                lines.append(f"{inner}: stored {_short(stored[key])}, got nothing")
            elif key not in stored:
                lines.append(f"{inner}: stored nothing, got {_short(given[key])}")
            else:
                lines += differences(stored[key], given[key], inner)
        return lines
    if stored == given:
        return []
    return [f"{path}: stored {_short(stored)}, got {_short(given)}"]


def _short(value: Any) -> str:
    text = for_terminal(value)
    return text if len(text) <= 80 else text[:77] + "..."
