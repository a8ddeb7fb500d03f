"""The log of a run: a file of JSON lines, a progress bar, TensorBoard."""

import contextlib
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gamedyn import files
from gamedyn.train.checkpoints import CheckpointError

Row = dict[str, Any]


class Journal:
    """The rows of a run, in memory and in `metrics.jsonl`.

    Args:
        path: the file; if `None`, rows are kept in memory only.
    """

    def __init__(self, path: Path | None):
        """Start without rows; the file is touched by `restart` and `add` only."""
        self.path = path
        self.rows: list[Row] = []

    def restart(self, step: int = 0, expected: int = 0) -> None:
        """Go back to the rows logged up to a step, and drop later ones from the file.

        Args:
            step: the step of the checkpoint at which the run starts.
            expected: the number of rows at that checkpoint; fewer give a warning.
        """
        if self.path is None:
            return
        damage = []
        if step:
            with contextlib.suppress(FileNotFoundError):
                rows, damage = _read(self.path)
                self.rows = [row for row in rows if row["step"] <= step]
        if damage:
            aside = self.path.with_name(f"{self.path.name}.damaged")
            os.replace(self.path, aside)
            warnings.warn(
                f"{damage[0]}; it is left out, the file is kept as {aside.name}",
                stacklevel=4,
            )
        if len(self.rows) < expected:
            warnings.warn(
                f"{self.path} has {len(self.rows)} rows up to step {step}, expected "
                f"{expected}; the history is incomplete",
                stacklevel=4,
            )
        # Write the file anew: a crash may have left rows beyond `step`, or half a line.
        files.write_whole(self.path, "".join(map(_line, self.rows)))

    def add(self, row: Row) -> None:
        """Append one row."""
        self.rows.append(row)
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as error:
            raise files.named(error, self.path) from error


def read_metrics(path: str | os.PathLike[str]) -> list[Row]:
    """Read the metrics of a run.

    Args:
        path: a file `metrics.jsonl`, or the directory of a run.

    Returns:
        The rows in order; NaN and infinities, which are strings in the file, are floats
        again. A last line that a crash left incomplete is skipped.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if a line is damaged, or the file is a link or no plain file.
    """
    path = Path(path)
    rows, damage = _read(path / "metrics.jsonl" if path.is_dir() else path)
    if damage:
        raise CheckpointError(damage[0])
    return rows


def _read(path: Path) -> tuple[list[Row], list[str]]:
    """Read the intact rows, and say what is wrong with the other lines."""
    rows, damage = [], []
    try:
        with files.plain_file(path) as raw, io.BufferedReader(raw) as file:  # pyright: ignore
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # a crash cut it off
                try:
                    rows.append(_row(line))
                except ValueError as error:
                    damage.append(f"{path} is damaged in line {number}: {error}")
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror
        raise CheckpointError(f"{path} cannot be read: {reason}") from error
    return rows, damage


def _row(line: bytes) -> Row:
    row = files.parse_json(line)
    if not (isinstance(row, dict) and type(row.get("step")) is int):
        raise ValueError("it is no row with a step")
    return {
        key: _SPECIAL.get(value, value) if isinstance(value, str) else value
        for key, value in row.items()
    }


@contextlib.contextmanager
def progress_bar(
    show: bool | None, start: int, total: int
) -> Iterator[Callable[[int, Row], None]]:
    """Show a progress bar with the latest metrics on standard error.

    Args:
        show: whether to show it; if `None`, only on a terminal.
        start: the number of steps already done.
        total: the total number of steps.

    Yields:
        A function `update(step, row)`.
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
        TextColumn("{task.description}", markup=False),
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
        directory: the folder of the event files.

    Returns:
        A callback for `fit`; process 0 writes.

    Raises:
        ImportError: if tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "writing for TensorBoard needs the package tensorboardX, which is not "
            "installed; metrics.jsonl contains the same numbers"
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
    # JSON has no NaN or infinity: as strings, every JSON reader accepts the file.
    plain = {key: _plain(value) for key, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value
