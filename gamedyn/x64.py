"""jax's float64 mode, entered and left without a trace in its memory of constants."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

_lock = threading.Lock()
_put_aside: list[Callable[[Any], Any]] = []  # jax's own conversion, once per entry


@contextlib.contextmanager
def enable_x64(enabled: bool = True) -> Iterator[None]:
    """Enter `jax.enable_x64`, and keep no NumPy array in the precision that it sets.

    A NumPy array that a traced function closes over is converted once, for as long as
    some trace holds it, and jax does not ask in which mode that was: after a trace in
    float64 it enters float32 programs as float64, which fail; after one in float32,
    float64 gets half of its digits. In here every array is converted for itself.

    Args:
        enabled: whether jax computes in float64 inside.

    Yields:
        Nothing.
    """
    with jax.enable_x64(enabled), _constants_for_themselves():
        yield


@contextlib.contextmanager
def _constants_for_themselves() -> Iterator[None]:
    try:
        from jax._src.dtypes import canonicalize_dtype, canonicalize_value_handlers
        from jax._src.literals import TypedNdArray

        handlers = canonicalize_value_handlers
    except ImportError:  # another jax: tests/test_backend_sanity.py tells
        yield
        return

    def convert(array: np.ndarray) -> TypedNdArray:
        return TypedNdArray(np.asarray(array, canonicalize_dtype(array.dtype)))

    # Runs side by side may end in any order: the last one out puts jax's own back.
    with _lock:
        _put_aside.append(_put_aside[0] if _put_aside else handlers[np.ndarray])
        handlers[np.ndarray] = convert
    try:
        yield
    finally:
        with _lock:
            kept = _put_aside.pop()
            if not _put_aside:
                handlers[np.ndarray] = kept
