"""Several processes that train together: they agree, and end together."""

import atexit
import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from gamedyn.text import for_terminal
from gamedyn.train.checkpoints import CheckpointError

Result = TypeVar("Result")

# Seconds: between two looks whether another process has failed; for this one to end by
# itself thereafter; and to leave jax's service.
_LOOK, _GRACE, _LEAVE = 1.0, 5.0, 15.0
_runs = itertools.count()


def from_first(make: Callable[[], Result], like: Result) -> Result:
    """Call a function in process 0 only, and broadcast its result to all processes.

    Args:
        make: returns a tree of arrays.
        like: a tree of the same structure, shapes and dtypes.

    Returns:
        The tree that process 0 made, in every process.

    Raises:
        Exception: in process 0, what `make` raises.
        CheckpointError: in the other processes, when process 0 raises anything.
    """
    if jax.process_count() == 1:
        return make()
    from jax.experimental import multihost_utils

    made, problem = like, None
    if jax.process_index() == 0:
        try:
            made = make()
        except Exception as error:  # raised below: the other processes wait here
            problem = error
    fine = multihost_utils.broadcast_one_to_all(np.array(problem is None))
    if problem is not None:
        raise problem
    if not fine:
        raise CheckpointError("process 0 could not open the run's directory")
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(made))


def most(number: int) -> int:
    """Return the largest of the processes' numbers, in every process."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.array(number))))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """End all processes of a run if one of them fails.

    A process that fails leaves the others waiting for its part of a sum: in the
    program that they run on the devices, where no exception reaches them. So each looks
    every second whether another one has failed, which jax's coordination service knows
    from it. Then it says so on standard error, and ends with status 1, unless it has
    failed by itself within five seconds. The first to fail raises its own exception as
    ever, and does not wait at its end, as jax does, for processes that are gone.

    All processes must enter this equally often. With a single process it does nothing.

    Yields:
        Nothing.
    """
    client = _client() if jax.process_count() > 1 else None
    if client is None:
        yield
        return
    place, left = f"gamedyn/failed/{next(_runs)}", threading.Event()
    watch = threading.Thread(target=_watch, args=(client, place, left), daemon=True)
    watch.start()
    try:
        yield
    except BaseException as error:
        reason = f"process {jax.process_index()}: {type(error).__name__}: {error}"
        # Another one may have been first, or the service be gone with its process.
        with contextlib.suppress(Exception):
            client.key_value_set(place, reason[:1000])
        atexit.register(_leave)
        raise
    finally:
        left.set()


def _client() -> Any:
    # jax has no public way to its key-value store; without it nothing is watched.
    try:
        from jax._src.distributed import global_state

        client = global_state.client
    except (ImportError, AttributeError):
        return None
    known = all(hasattr(client, n) for n in ("key_value_set", "key_value_try_get"))
    return client if known else None


def _watch(client: Any, place: str, left: threading.Event) -> None:
    while not left.wait(_LOOK):
        try:
            reason = client.key_value_try_get(place)
        except Exception:  # not there, as long as all is well
            continue
        if left.wait(_GRACE):
            return
        print(
            f"gamedyn: another process has failed, this one waits for it in vain and "
            f"ends ({for_terminal(reason)})",
            file=sys.stderr,
            flush=True,
        )
        _leave()
        os._exit(1)


def _leave() -> None:
    """Leave jax's service, which waits for all processes, but for a short time only."""
    done = threading.Thread(target=_shut_down, daemon=True)
    done.start()
    done.join(_LEAVE)
    if done.is_alive():
        # It would be waited for once more, by jax's own handler.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(1)


def _shut_down() -> None:
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
