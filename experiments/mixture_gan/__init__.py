"""GANs on rings and grids: chosen on some seeds, reported on others.

Command:

    gamedyn train mixture_gan --part tune|report|rules [--out ...] [--smoke]

`tune` tries losses, penalties, packing and rules on seeds 0 to 4; `report` runs the
chosen setting and the plain alternating algorithm on seeds 100 to 109; `rules` gives
every registered rule the same budget of gradient evaluations. The data are in
`protocols.py`, networks, game and rules in `setting.py`.

Paper: the data and their evaluation are PacGAN's, Z. Lin, A. Khetan, G. Fanti and
S. Oh, 2018, arXiv:1712.04086.

Expected of `report`, means and standard errors of ten seeds: ring, 8.0 +- .0 of 8 modes
and .942 +- .003 of high quality (without penalties 6.3 +- .3 and .959 +- .003); grid,
25.0 +- .0 of 25 and .863 +- .004 (9.9 +- .6 and .881 +- .016). 5 and 10 minutes of
processor time, `tune` 10, `rules` 25, on one core of a 2-core x86-64 server busy with
other work. `README.md` has more, and the pictures.
"""

import csv
import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

import gamedyn as gd

from . import comparison, pictures
from .protocols import PROTOCOLS, PUBLISHED, Protocol, Scores, evaluate
from .setting import RULES, Setting
from .training import Point, Runs, points, train

SETTINGS = {
    "ring": Setting(),
    "grid": Setting(
        weight=0.05, last_weight=0.005, batch_size=256, depth=4, num_steps=5000
    ),
}
"""What was chosen on seeds 0 to 4."""

COMPARED = {"width": 64, "batch_size": 64}
"""What differs where the rules are compared: smaller networks and batches."""

TINY = {"num_steps": 60, "stages": 3, "width": 16, "depth": 2, "batch_size": 32}
"""What differs in the short run."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    part: Literal["tune", "report", "rules"] = "report"  # what to do, see above
    out: Path = Path("results/mixture_gan")  # an empty folder for tables and pictures
    protocols: tuple[str, ...] = ("ring", "grid")  # the rules: on the first alone
    tune_seeds: tuple[int, ...] = tuple(range(5))  # to confirm the chosen settings on
    try_seeds: tuple[int, ...] = (0, 1)  # to try others on beside them, in short runs
    report_seeds: tuple[int, ...] = tuple(range(100, 110))  # to report the chosen on
    rule_seeds: tuple[int, ...] = tuple(range(3))  # to compare the rules on
    tune_steps: int = 1500  # gradient evaluations of the short runs
    budget: int = 2000  # gradient evaluations of every rule
    rules: tuple[str, ...] = ()  # names of the rules to compare, all if empty
    tiny: bool = False  # small networks and few steps, `TINY`: to see it run

    def setting(self, protocol: str, **changes: Any) -> Setting:
        """Say what is trained on a protocol."""
        tiny = TINY if self.tiny else {}
        return dataclasses.replace(SETTINGS[protocol], **(changes | tiny))


SMOKE = Config(
    protocols=("ring",),
    tune_seeds=(0, 1),
    report_seeds=(100, 101),
    rule_seeds=(0,),
    tune_steps=60,
    budget=60,
    rules=("extragradient", "eag_c", "proximal_point", "mirror_prox"),
    tiny=True,
)
"""A few steps of tiny networks: that it runs, not that it learns."""


def main(config: Config) -> dict[str, Any]:
    """Run one part of the experiment and write its folder.

    Args:
        config: what to run.

    Returns:
        The summary, as written to `summary.json`.

    Raises:
        FileExistsError: if the folder holds anything already.
        ValueError: if a protocol is unknown.
    """
    from gamedyn import files, recipes, runtime

    if unknown := set(config.protocols) - set(PROTOCOLS):
        raise ValueError(f"protocols are {list(PROTOCOLS)}, got {sorted(unknown)}")
    begin = time.process_time()
    with files.folder(config.out) as out:
        part = {"tune": tune, "report": report_chosen, "rules": compare_rules}
        results = part[config.part](config, out)
        summary = {
            **results,
            "config": recipes.to_json(config),
            "environment": runtime.environment(),
            "processor_seconds": round(time.process_time() - begin, 1),
        }
        recipes.write_json(out / "summary.json", summary)
    return summary


def report_chosen(config: Config, out: Path) -> dict[str, Any]:
    """Run chosen setting and baseline on the seeds of the report."""
    results: dict[str, Any] = {}
    drawn: dict[str, dict[str, tuple[Runs, Scores]]] = {}
    for name in config.protocols:
        protocol, setting = PROTOCOLS[name], config.setting(name)
        drawn[name] = {}
        results[name] = {}
        for label, tried in (("chosen", setting), ("baseline", plain(setting))):
            runs = train(protocol, tried, points(tried, config.report_seeds))
            scores = evaluate(protocol, runs.samples)
            drawn[name][label] = runs, scores
            results[name][label] = describe(tried, runs, scores)
            print(name, label, results[name][label]["mean"], flush=True)
        results[name]["passes"] = passes(protocol, drawn[name]["chosen"][1])
    pictures.samples(drawn).savefig(out / "samples.png", dpi=110)
    pictures.curves(drawn).savefig(out / "curves.png", dpi=70)
    published = [row._asdict() for row in PUBLISHED]
    return {"protocols": results, "published": published}


def plain(setting: Setting) -> Setting:
    """Turn a setting into the baseline: the same lengths, the lecture's loss alone."""
    return dataclasses.replace(
        setting, loss="non_saturating", penalties=(), pack=1, rule="alternating"
    )


def passes(protocol: Protocol, scores: Scores) -> bool:
    """Say whether the last step of every run reaches what the protocol asks for."""
    modes, quality = scores.modes[:, -1], scores.quality[:, -1]
    complete = modes == len(protocol.mixture().centres)
    return bool(
        complete.mean() >= protocol.complete and quality.min() >= protocol.quality
    )


def describe(setting: Setting, runs: Runs, scores: Scores) -> dict[str, Any]:
    """Put runs of one setting into plain numbers: last step, curves, cost."""
    last = {name: leaf[:, -1] for name, leaf in scores._asdict().items()}
    number = len(runs.status)
    return {
        "setting": dataclasses.asdict(setting),
        "mean": {name: _round(np.mean(leaf)) for name, leaf in last.items()},
        "standard_error": {
            name: _round(np.std(leaf, ddof=1) / number**0.5)
            for name, leaf in last.items()
        },
        "evaluations": setting.num_steps * RULES[setting.rule].evaluations,
        "seconds_per_run": round(runs.seconds / number, 1),
        "compile_seconds": round(runs.compile_seconds, 1),
        "diverged": int(np.sum(runs.status == gd.Status.NON_FINITE)),
        "steps": runs.steps.tolist(),
        "curves": {
            name: [[_round(x) for x in row] for row in leaf]
            for name, leaf in scores._asdict().items()
        },
    }


def tune(config: Config, out: Path) -> dict[str, Any]:
    """Confirm and try settings, one program per rule, loss, packing and length."""
    rows = []
    chosen = {name: config.setting(name) for name in config.protocols}
    for name, setting in chosen.items():
        rows += _tuning_rows(name, setting, points(setting, config.tune_seeds))
    for name, setting in chosen.items():
        for tried, weights in candidates(setting, config.tune_steps):
            runs = points(tried, config.try_seeds, weights=weights)
            rows += _tuning_rows(name, tried, runs)
    _write_csv(rows, out / "tuning.csv")
    pictures.front(rows, config.protocols).savefig(out / "front.png", dpi=110)
    return {"rows": rows}


def candidates(
    chosen: Setting, num_steps: int
) -> list[tuple[Setting, tuple[tuple[float, float], ...]]]:
    """List what else is tried, all short: settings, and their pairs of weights."""
    short = dataclasses.replace(chosen, num_steps=num_steps)
    alone = dataclasses.replace(plain(short), weight=0.0, last_weight=0.0)
    falls = tuple((chosen.weight, chosen.weight * fall) for fall in (1.0, 0.1, 1e-3))
    return [
        (alone, ()),
        (dataclasses.replace(alone, pack=2), ()),
        (short, falls),
        (dataclasses.replace(short, loss="relativistic"), falls[1:]),
        # Two gradient evaluations a step.
        (dataclasses.replace(short, rule="extra_adam", num_steps=num_steps // 2), ()),
    ]


def _tuning_rows(name: str, tried: Setting, runs: Point) -> list[dict[str, Any]]:
    protocol = PROTOCOLS[name]
    done = train(protocol, tried, runs)
    scores = evaluate(protocol, done.samples[:, -1])
    rows = []
    for first, last in dict.fromkeys(zip(*map(_listed, runs[2:]), strict=True)):
        mine = (np.asarray(runs.weight) == np.float32(first)) & (
            np.asarray(runs.last_weight) == np.float32(last)
        )
        modes, quality, kl, touched = (leaf[mine] for leaf in scores)
        rows.append(
            {
                "protocol": name,
                "rule": tried.rule,
                "loss": tried.loss,
                "penalties": "+".join(tried.penalties),
                "weight": _round(first),
                "last_weight": _round(last),
                "pack": tried.pack,
                "seeds": len(modes),
                "steps": tried.num_steps,
                "evaluations": tried.num_steps * RULES[tried.rule].evaluations,
                "modes": _round(modes.mean()),
                "fewest_modes": int(modes.min()),
                "touched": _round(touched.mean()),
                "quality": _round(quality.mean()),
                "lowest_quality": _round(quality.min()),
                "reverse_kl": _round(kl.mean()),
                "seconds_per_run": _round(done.seconds / len(done.status)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _listed(array: Any) -> list[float]:
    return np.asarray(array).tolist()


def compare_rules(config: Config, out: Path) -> dict[str, Any]:
    """Run every registered rule on the first protocol with an equal budget."""
    name = config.protocols[0]
    setting = config.setting(name, **COMPARED)
    names = config.rules or gd.rules.names()
    rows = []
    for rule in names:
        row = comparison.compare(
            PROTOCOLS[name], setting, config.rule_seeds, config.budget, rule
        )
        print(row, flush=True)
        rows.append(dataclasses.asdict(row))
    _write_csv(rows, out / "rules.csv")
    pictures.rules(rows, PROTOCOLS[name]).savefig(out / "rules.png", dpi=110)
    return {"protocol": name, "rows": rows}


def _round(value: Any) -> float | None:
    """Round to five digits; JSON knows no NaN."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
