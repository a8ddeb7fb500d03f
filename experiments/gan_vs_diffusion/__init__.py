"""GANs and a diffusion model on the same data: quality, coverage, likelihood, cost.

Command:

    gamedyn train gan_vs_diffusion [--data ring grid digits] [--smoke]

One row for each way to sample: the alternating algorithm with Adam, R1 and R2; a
Wasserstein GAN with gradient penalty; and one diffusion model sampled by DDPM in 1,000
steps and DDIM in 50 and 10. Ring and grid are those of `mixture_gan`, whose settings
the GANs have here, means over seeds; the digits are scikit-learn's, one seed.

Papers: Wasserstein GAN with gradient penalty, arXiv:1704.00028; DDPM,
arXiv:2006.11239; DDIM, arXiv:2010.02502.

Expected (`README.md` beside this file has all rows): on the ring every model covers the
8 modes, with .932, .768 and .902 of high quality (DDPM-1000); on the digits Frechet
distances of 8.48, 16.7 and 14.9, real pictures 12.6. On one core training takes 9 to 32
s a run on ring and grid, 21, 35 and 128 s on the digits; `--smoke` 25 s.

The folder gets `table.csv`, `summary.json` and `samples-*.png`.
"""

import contextlib
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from . import pictures, points
from .rows import Sampling


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared."""

    data: tuple[str, ...] = ("ring", "grid", "digits")  # of ring, grid and digits
    out: Path = Path("results/gan_vs_diffusion")  # an empty folder for what comes out
    seeds: tuple[int, ...] = (100, 101, 102)  # of the runs on ring and grid
    samplings: tuple[str, ...] = ("ddpm-1000", "ddim-50", "ddim-10")  # sampler, steps
    tiny: bool = False  # small networks and a few steps: to see it run


SMOKE = Config(data=("ring",), seeds=(100,), samplings=("ddpm-20", "ddim-5"), tiny=True)
"""A few steps of tiny networks: that it runs, not that it learns."""


def main(config: Config) -> dict[str, Any]:
    """Train and sample everything, and write the table.

    Args:
        config: what to compare.

    Returns:
        The summary, as written to `summary.json`.

    Raises:
        FileExistsError: if the folder holds anything already.
        ValueError: if the data or a sampling are unknown.
    """
    from gamedyn import files, recipes, runtime

    if unknown := set(config.data) - {"ring", "grid", "digits"}:
        raise ValueError(f"data are ring, grid and digits, got {sorted(unknown)}")
    samplings = [Sampling.parse(text) for text in config.samplings]
    with _compiling_quickly(config.tiny), files.folder(config.out) as out:
        rows = []
        for name in config.data:
            part = pictures if name == "digits" else points
            added, figure = part.compare(config, name, samplings)
            figure.savefig(out / f"samples-{name}.png", dpi=90)
            rows += added
        with (out / "table.csv").open("w", newline="") as file:
            columns = dict.fromkeys(column for row in rows for column in row)
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
        summary = {
            "rows": rows,
            "config": recipes.to_json(config),
            "environment": runtime.environment(),
        }
        recipes.write_json(out / "summary.json", summary)
    return summary


@contextlib.contextmanager
def _compiling_quickly(tiny: bool) -> Iterator[None]:
    """Leave most optimisations out where compiling takes longer than what is run."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, before or tiny)
    try:
        yield
    finally:
        jax.config.update(name, before)
