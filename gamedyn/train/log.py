"""The record of a run: a file of JSON lines, a progress bar, TensorBoard."""

import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gamedyn.files import named, write_whole

Row = dict[str, Any]


class Journal:
    """The rows of a run, in memory and in `metrics.jsonl`.

    Args:
        path: the file; rows are kept in memory alone if `None`.
    """

    def __init__(self, path: Path | None):
        """Begin with no row, and touch nothing."""
        self.path = path
        self.rows: list[Row] = []

    def restart(self, step: int = 0, expected: int = 0) -> None:
        """Go back to the rows that a checkpoint at `step` knew.

        Args:
            step: rows of later steps are dropped, from the file, too.
            expected: how many rows there were; fewer are warned of.
        """
        if self.path is None:
            return
        if step and self.path.exists():
            self.rows = [r for r in read_metrics(self.path) if r["step"] <= step]
        if len(self.rows) < expected:
            warnings.warn(
                f"{self.path} has {len(self.rows)} rows up to step {step}, expected "
                f"{expected}; the history is incomplete",
                stacklevel=4,
            )
        write_whole(self.path, "".join(map(_line, self.rows)))

    def add(self, row: Row) -> None:
        """Append one row."""
        self.rows.append(row)
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise named(error, self.path) from error


def read_metrics(path: str | os.PathLike[str]) -> list[Row]:
    """Read a run's rows.

    Args:
        path: a file `metrics.jsonl`, or the directory of a run.

    Returns:
        The rows in order; numbers that JSON lacks are floats again. A last line cut
        short by a crash is left out.
    """
    path = Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    lines = path.read_text("utf-8").split("\n")
    return [_revived(json.loads(line)) for line in lines[:-1]]


@contextlib.contextmanager
def progress_bar(
    show: bool | None, start: int, total: int
) -> Iterator[Callable[[int, Row], None]]:
    """Show a bar on standard error.

    Args:
        show: whether to; on a terminal only, if `None`.
        start: the steps already done.
        total: all steps.

    Yields:
        `update(step, row)`.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda step, row: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=start)

        def update(step: int, row: Row) -> None:
            shown = {k: v for k, v in row.items() if k not in ("step", "seconds")}
            text = "  ".join(
                f"{'steps/s' if k == 'steps_per_second' else k} {v:.4g}"
                for k, v in shown.items()
                if isinstance(v, int | float)
            )
            bar.update(task, completed=step, description=text or None)

        yield update


def tensorboard(directory: str | os.PathLike[str]) -> Callable[[Any, Row], None]:
    """Make a callback that writes the metrics for TensorBoard.

    Args:
        directory: where the event files go.

    Returns:
        The callback; process 0 writes.

    Raises:
        ImportError: if tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "writing for TensorBoard needs the package tensorboardX, which is not "
            "installed; metrics.jsonl holds the same numbers"
        ) from error
    import jax

    writer = SummaryWriter(os.fspath(directory)) if jax.process_index() == 0 else None

    def write(state: Any, metrics: Row) -> None:
        if writer is None:
            return
        for name, value in metrics.items():
            writer.add_scalar(name, value, int(state.step))
        writer.flush()

    return write


_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _line(row: Row) -> str:
    # JSON has no NaN: it is written as a string, so that any reader takes the file.
    plain = {key: _plain(value) for key, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _revived(row: Row) -> Row:
    return {
        key: _SPECIAL.get(value, value) if isinstance(value, str) else value
        for key, value in row.items()
    }
