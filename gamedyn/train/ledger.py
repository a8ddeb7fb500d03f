"""What a run writes: rows of metrics, checkpoints, and the time spent."""

import time
import warnings
from pathlib import Path
from typing import Any

import jax

from gamedyn.train import checkpoints
from gamedyn.train.checkpoints import Store
from gamedyn.train.folder import METRICS, Origin
from gamedyn.train.log import Journal, Row
from gamedyn.train.sharding import host
from gamedyn.train.state import Carry


class Ledger:
    """The metrics and checkpoints of a run, in memory and, if it has a folder, on disk.

    Args:
        folder: the run's directory; `None` keeps the rows of metrics in memory only.
        origin: where the run starts.
        about: the description of the run, stored with every checkpoint.
        around: that of where it runs, stored as well.
        keep_last: how many of the newest checkpoints to keep.
        best: a metric; the checkpoint at which it is best is kept as well.
        best_mode: whether "min" or "max" is best.

    Attributes:
        reached: the newest step whose metrics were fetched.
    """

    def __init__(
        self,
        folder: Path | None,
        origin: Origin,
        about: dict[str, Any],
        around: dict[str, Any],
        *,
        keep_last: int,
        best: str | None,
        best_mode: str,
    ):
        """Go back to the origin: drop later rows, set damaged checkpoints aside."""
        step = int(origin.carry.step)
        self._metadata, self._best = {"about": about, **around}, best
        self.reached = step
        self._journal, self._store = Journal(None), None
        if folder is not None:
            sign = 0 if best is None else 1 if best_mode == "min" else -1
            self._store = Store(folder / checkpoints.FOLDER, keep_last, sign)
            self._store.clean(step)
            self._journal = Journal(folder / METRICS)
            self._journal.restart(step, int(origin.rows))
        self._saved = step
        # The last row's step and time, for the speed; and what to add to the clock to
        # get the seconds spent on the run, those before a resume included.
        self._mark = step, time.perf_counter()
        self._before = float(origin.seconds) - self._mark[1]

    @property
    def rows(self) -> list[Row]:
        """All rows so far."""
        return self._journal.rows

    @property
    def saved(self) -> int | None:
        """The step of the newest complete checkpoint, `None` without any."""
        return None if self._store is None else self._store.saved

    def measured(self, step: int, recorded: dict[str, jax.Array]) -> Row:
        """Fetch the metrics of a step, and make a row of them.

        Args:
            step: the number of steps done.
            recorded: the metrics on the device, scalars by name.

        Returns:
            The row: step, seconds, the speed since the last row, and the metrics.
        """
        numbers = {name: value.item() for name, value in recorded.items()}
        self.reached = step
        past, then = self._mark
        now = time.perf_counter()
        speed = (step - past) / max(now - then, 1e-9)
        times = {"seconds": self._before + now, "steps_per_second": speed}
        return {"step": step, **times, **numbers}

    def add(self, row: Row) -> None:
        """Log a row."""
        self._mark = row["step"], time.perf_counter()
        self._journal.add(row)

    def save(self, step: int, carry: Carry) -> None:
        """Write a checkpoint in the background; nothing without a folder."""
        if self._store is None:
            return
        metadata = {
            **self._metadata,
            "seconds": self._before + time.perf_counter(),
            "rows": len(self.rows),
            "score": self._score(),
        }
        self._saved = step
        self._store.save(step, host(carry), metadata)

    def close(self) -> None:
        """Finish the checkpoint that is being written."""
        if self._store is None:
            return
        try:
            self._store.wait()
        finally:
            self._store.close()
        if self._best and not any(self._best in row for row in self.rows):
            warnings.warn(
                f"no row has the metric {self._best!r}, so no checkpoint is kept as "
                f"the best; the last row has {', '.join((self.rows or [{}])[-1])}",
                stacklevel=3,
            )

    def _score(self) -> float | None:
        """Return the metric's newest finite value since the previous checkpoint."""
        # An older value would be of a state that an earlier checkpoint has stored.
        for row in reversed(self.rows):
            if row["step"] <= self._saved:
                break
            if self._best in row:
                value = float(row[self._best])
                return value if abs(value) < float("inf") else None
        return None
