"""Published results reproduced: each paper's claim, our number, the deviation.

Command:

    python -m experiments.papers [NAME ...]     # writes into the pages' folders
    gamedyn train papers [--pages NAME ...]     # writes into results/papers

Every page is a folder: what is measured in `__init__.py`, what the paper says in
`expected.json`, what came out in `measured.json`, `README.md` and `curve.png`. All of
them take a few minutes on one CPU core, each less than one; `--smoke` runs small ones.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.papers.page import check, expected, names, overview, run, write

__all__ = ["Config", "SMOKE", "check", "expected", "main", "names"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    out: Path = Path("results/papers")  # an empty folder for what comes out
    pages: tuple[str, ...] = ()  # which, all if empty
    small: bool = False  # whether to run them in the sizes of the tests


SMOKE = Config(
    pages=("fiez_time_scales", "mescheder_dirac_gan", "pethick_forsaken"), small=True
)
"""Three pages in the sizes of the tests."""


def main(config: Config) -> dict[str, Any]:
    """Run pages and write them into `config.out`.

    Args:
        config: which pages, and where to.

    Returns:
        By page, how many rows hold.

    Raises:
        ValueError: if a page is unknown.
        FileExistsError: if the folder holds anything already.
    """
    from gamedyn import files

    chosen = config.pages or names()
    if unknown := set(chosen) - set(names()):
        raise ValueError(
            f"unknown pages {', '.join(sorted(unknown))}; expected some of "
            f"{', '.join(names())}"
        )
    summary, found = {}, {}
    with files.folder(config.out) as out:
        for name in chosen:
            found[name], curves = run(name, small=config.small)
            write(name, found[name], curves, out / name)
            summary[name] = verdict(name, found[name])
        (out / "README.md").write_text(overview(found))
    return summary


def verdict(name: str, measured: dict[str, Any]) -> str:
    """Say how many rows of a page hold, and which do not."""
    rows = check(expected(name), measured["numbers"], full=measured["full"])
    failing = [row.quantity for row in rows if not row.holds]
    words = f"{len(rows) - len(failing)} of {len(rows)} rows hold"
    return words + (f"; not: {'; '.join(failing)}" if failing else "")
