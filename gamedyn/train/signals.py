"""Signals that ask a run to end: noted at once, obeyed after a call."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupted(KeyboardInterrupt):
    """A second Ctrl-C ended `fit` at once.

    Attributes:
        signal: the number of the first signal.
        step: the number of steps done, at least.
        saved: the step of the newest complete checkpoint, `None` without any.
    """

    def __init__(self, signal: int, step: int, saved: int | None):
        """Say what is lost."""
        kept = "nothing is saved" if saved is None else f"step {saved} is saved"
        super().__init__(f"interrupted after step {step} or later; {kept}")
        self.signal, self.step, self.saved = signal, step, saved


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """Note signals instead of obeying them, if this is the main thread.

    Signals that are ignored, as SIGHUP is under nohup, stay so.

    Yields:
        The numbers of the signals that came. A SIGINT after any other raises
        `KeyboardInterrupt`.
    """
    came: list[int] = []
    # Python sets handlers in the main thread only; elsewhere signals stay as they are.
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: Any) -> None:
        del frame
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        if number == signal.SIGINT:
            message = (
                "\nfinishing the current steps; press Ctrl-C again to exit at once"
            )
            # The terminal may be gone, or in the midst of another line.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                print(message, file=sys.stderr)

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    heeded = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, note) for number in heeded}
    try:
        yield came
    finally:
        for number, handler in earlier.items():
            # `None` stands for a handler set outside Python, which cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
