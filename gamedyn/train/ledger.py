"""What a run keeps of itself: rows of metrics, checkpoints, the time it took."""

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
    """The rows and checkpoints of a run; on disk where there is a folder.

    Args:
        folder: the run's directory, `None` to keep rows in memory alone.
        origin: where the run begins.
        about: what the run is made of, stored with every checkpoint.
        keep_last: how many checkpoints to keep.
        best: the metric for which the best one is kept, too.
        best_mode: "min" or "max".
    """

    def __init__(
        self,
        folder: Path | None,
        origin: Origin,
        about: dict[str, Any],
        *,
        keep_last: int,
        best: str | None,
        best_mode: str,
    ):
        """Go back to the origin: later rows and damaged checkpoints make way."""
        step = int(origin.carry.step)
        self._about, self._best = about, best
        self._journal, self._store = Journal(None), None
        if folder is not None:
            sign = 0 if best is None else 1 if best_mode == "min" else -1
            self._store = Store(folder / checkpoints.FOLDER, keep_last, sign)
            self._store.clean(step)
            self._journal = Journal(folder / METRICS)
            self._journal.restart(step, int(origin.rows))
        self._saved = step
        self._mark = step, time.perf_counter()
        self._before = float(origin.seconds) - self._mark[1]

    @property
    def rows(self) -> list[Row]:
        """All rows so far."""
        return self._journal.rows

    def measured(self, step: int, recorded: dict[str, jax.Array]) -> Row:
        """Fetch what a step recorded, and say how fast it went since the last row."""
        numbers = {name: value.item() for name, value in recorded.items()}
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
        """Write a checkpoint, in the background."""
        if self._store is None:
            return
        metadata = {
            "about": self._about,
            "seconds": self._before + time.perf_counter(),
            "rows": len(self.rows),
            "score": self._score(),
        }
        self._saved = step
        self._store.save(step, host(carry), metadata)

    def close(self, wait: bool = True) -> None:
        """Finish the checkpoint in the making; without `wait`, leave at once."""
        if self._store is None:
            return
        try:
            if wait:
                self._store.wait()
        finally:
            self._store.close(wait)
        if self._best and not any(self._best in row for row in self.rows):
            warnings.warn(
                f"no row has the metric {self._best!r}, so no checkpoint is the best "
                f"by it; the last row has {', '.join((self.rows or [{}])[-1])}",
                stacklevel=3,
            )

    def _score(self) -> float | None:
        """The newest value of the metric since the checkpoint before."""
        for row in reversed(self.rows):
            if row["step"] <= self._saved:
                break
            if self._best in row:
                value = float(row[self._best])
                return value if abs(value) < float("inf") else None
        return None
