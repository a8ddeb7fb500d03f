"""How a command ends: with a true sentence and a conventional exit status, anywhere."""

import codecs
import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any

from gamedyn.text import for_terminal

BAD_INPUT = 2
UNEXPECTED = 1
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_USUAL = (ValueError, TypeError, OSError, ImportError)


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int):
        """Take the number of the signal."""
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end what is inside in good order.

    The first raises `Interrupted`, so that half-written files are removed; another one
    ends the process at once. A signal that was ignored before (nohup) stays so.
    """
    earlier: dict[int, Any] = {}

    def end(number: int, frame: Any) -> None:
        del frame
        for other in earlier:
            signal.signal(other, signal.SIG_DFL)
        raise Interrupted(number)

    # Python sets handlers in the main thread only.
    if threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                earlier[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            # `None` stands for a handler set outside Python, which cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def say(error: BaseException, trace: bool = False) -> int:
    """Print how a command failed or was interrupted, in one line.

    Args:
        error: what ended it.
        trace: whether to print the whole traceback before.

    Returns:
        The exit status: 128 and the number of the signal; 141 if nobody reads the
        output any more, as if by SIGPIPE; 2 if the input is to blame; else 1.
    """
    if isinstance(error, Unwritable) and error.errno == errno.EPIPE:
        return 128 + 13  # nobody listens any more, and that is no error
    if trace:
        _print("".join(traceback.format_exception(error)).rstrip(), lines=True)
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "signal", signal.SIGINT)
        words = ["interrupted", *getattr(error, "__notes__", ())]
        _print(f"gamedyn: {', '.join(words)}")
        return 128 + number
    text, status = _blame(error)
    hint = "" if status == BAD_INPUT or trace else "; --traceback shows where"
    _print(f"gamedyn: error: {text}{hint}")
    return status


def _blame(error: BaseException) -> tuple[str, int]:
    """Say what went wrong, and whether the input is to blame."""
    from gamedyn.recipes import frames

    if (text := _no_platform(error)) is not None:
        return text, BAD_INPUT
    if isinstance(error, Unwritable):
        return f"the output cannot be written: {error.strerror}", UNEXPECTED
    # What a user's own code raises is said with its line.
    if where := frames.place(error):
        return f"{frames.words(error)}{where}", BAD_INPUT
    foreign = type(error).__module__.partition(".")[0] in ("jax", "jaxlib")
    ours = type(error) is RuntimeError or type(error).__module__.startswith("gamedyn")
    words = " ".join(str(error).split())
    if words and not foreign and (isinstance(error, _USUAL) or ours):
        return words, BAD_INPUT
    return frames.words(error), UNEXPECTED


def _no_platform(error: BaseException) -> str | None:
    """Say that jax found none of the platforms asked for, if that is the error."""
    trace = traceback.extract_tb(error.__traceback__)
    asked = os.environ.get("JAX_PLATFORMS")
    if not asked or not any("xla_bridge.py" in frame.filename for frame in trace[-3:]):
        return None
    return (
        f"jax finds no platform of JAX_PLATFORMS={asked}; there are "
        f"{', '.join(_platforms())}"
    )


def _platforms() -> list[str]:
    """Name the platforms that jax finds if it may choose."""
    import jax

    try:
        jax.config.update("jax_platforms", "")
        return sorted({device.platform for device in jax.devices()} | {"cpu"})
    except Exception:  # what broke one platform may break them all
        return ["cpu"]


def _print(text: str, lines: bool = False) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(for_terminal(text, lines=lines), file=sys.stderr, flush=True)


class Unwritable(Exception):
    """The standard output cannot be written.

    Attributes:
        errno: the system's number of the reason.
        strerror: its words.
    """

    def __init__(self, error: OSError):
        """Take the reason."""
        super().__init__(error.errno, error.strerror)
        self.errno, self.strerror = error.errno, error.strerror


class _Output:
    """A stream whose failures are told from those of files."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._watched():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python would try once more at the end, and complain.
            with contextlib.suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)
            raise Unwritable(error) from error


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Make output possible wherever it goes: closed, or of a small alphabet."""
    kept = sys.stdout, sys.stderr, warnings.formatwarning
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who started us
                setattr(sys, name, stack.enter_context(open(os.devnull, "w")))
            _in_letters_of(getattr(sys, name))
        sys.stdout, warnings.formatwarning = _Output(sys.stdout), _warning
        try:
            yield
        finally:
            sys.stdout, sys.stderr, warnings.formatwarning = kept


def _in_letters_of(stream: Any) -> None:
    """Have a stream write letters that its encoding lacks with others."""
    encoding = codecs.lookup(getattr(stream, "encoding", None) or "utf8").name
    if not encoding.startswith("utf") and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="gamedyn.plain")


def _warning(message: Any, category: Any, *place: Any, **more: Any) -> str:
    del place, more
    kind = "" if category is UserWarning else f"{category.__name__}: "
    words = " ".join(str(message).split())
    return for_terminal(f"gamedyn: warning: {kind}{words}") + "\n"


@contextlib.contextmanager
def wide_enough() -> Iterator[None]:
    """Tell the parser of a width that its help fits in: below, it never ends."""
    kept = os.environ.get("COLUMNS")
    width = str(kept or "")
    if width.isdecimal() and int(width) < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["COLUMNS"] = kept


_NARROWEST = 60

# What signs are written with where there are only those of ASCII; letters lose their
# accents, and frames are lines.
_PLAIN = dict(zip("–—−×·•✓✗‘’“”", "---x.*vx''\"\"", strict=True))
_PLAIN |= {"…": "...", "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "‖": "||"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Write letters of a larger alphabet with those of ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    words = []
    for letter in error.object[error.start : error.end]:
        bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
        frame = "-" if unicodedata.name(letter, "").startswith("BOX") else None
        escaped = letter.encode("ascii", "backslashreplace").decode()
        words.append(_PLAIN.get(letter) or bare or frame or escaped)
    return "".join(words), error.end


codecs.register_error("gamedyn.plain", _plain)
