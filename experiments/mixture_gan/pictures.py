"""The pictures: samples, curves, modes against quality, rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .protocols import PROTOCOLS, Protocol, Scores
from .training import Runs

_COLOURS = {"chosen": "C0", "baseline": "C1"}
_TITLES = {"chosen": "chosen setting", "baseline": "plain alternating GAN"}


def samples(drawn: Mapping[str, Mapping[str, tuple[Runs, Scores]]]) -> Figure:
    """Draw the last samples of the median run, by quality, over the data's modes."""
    figure = Figure(figsize=(8.4, 4.2 * len(drawn)), layout="constrained")
    axes = figure.subplots(len(drawn), 2, squeeze=False)
    for line, (name, settings) in zip(axes, drawn.items(), strict=True):
        law = PROTOCOLS[name].mixture()
        centres = np.asarray(law.centres)
        reach = 1.3 * np.abs(centres).max()
        for axis, (label, (runs, scores)) in zip(line, settings.items(), strict=True):
            quality = scores.quality[:, -1]
            run = np.argsort(quality)[len(quality) // 2]
            axis.plot(*runs.samples[run, -1].T, ".", ms=1.5, color=_COLOURS[label])
            axis.scatter(
                *centres.T, s=130, lw=0.8, facecolors="none", edgecolors="black"
            )
            axis.set(
                title=f"{name}, {_TITLES[label]}\n{scores.modes[run, -1]} of "
                f"{len(centres)} modes, {quality[run]:.1%} high quality",
                xlabel="$x_1$",
                ylabel="$x_2$",
                xlim=(-reach, reach),
                ylim=(-reach, reach),
                aspect="equal",
            )
    figure.suptitle("2,500 samples of the median run (circles: the data's modes)")
    return figure


def curves(drawn: Mapping[str, Mapping[str, tuple[Runs, Scores]]]) -> Figure:
    """Draw modes, quality and reverse KL of every run over the steps."""
    figure = Figure(figsize=(13, 3.6 * len(drawn) + 0.4), layout="constrained")
    axes = figure.subplots(len(drawn), 3, squeeze=False)
    for line, (name, settings) in zip(axes, drawn.items(), strict=True):
        protocol = PROTOCOLS[name]
        number = len(protocol.mixture().centres)
        for label, (runs, scores) in settings.items():
            values = (scores.modes, scores.quality, scores.reverse_kl)
            for axis, leaf in zip(line, values, strict=True):
                style = {"color": _COLOURS[label]}
                axis.plot(runs.steps, leaf.T, lw=0.7, alpha=0.45, **style)
                mean = [
                    np.nanmean(c) if np.isfinite(c).any() else np.nan for c in leaf.T
                ]
                axis.plot(runs.steps, mean, lw=2.4, label=_TITLES[label], **style)
        line[0].axhline(number, color="black", ls=":", lw=1)
        line[1].axhline(
            protocol.quality, color="black", ls=":", lw=1, label="asked for"
        )
        line[0].set(ylabel=f"modes covered, of {number}", ylim=(-0.04 * number, None))
        line[1].set(ylabel="share of high quality", ylim=(-0.03, 1.03))
        line[2].set(ylabel="reverse KL / nat", yscale="log")
        for axis in line:
            axis.set(title=name, xlabel="step")
            axis.grid(alpha=0.25)
        line[1].legend(fontsize=8, loc="lower right")
    figure.suptitle("Every seed (thin) and the mean (thick)")
    return figure


def front(rows: Sequence[dict[str, Any]], protocols: Sequence[str]) -> Figure:
    """Draw modes against quality of all settings tried, and the best of both."""
    figure = Figure(figsize=(5.4 * len(protocols), 5), layout="constrained")
    axes = figure.subplots(1, len(protocols), squeeze=False)[0]
    for axis, name in zip(axes, protocols, strict=True):
        protocol = PROTOCOLS[name]
        tried = [row for row in rows if row["protocol"] == name]
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in tried:
            groups.setdefault(_group(row), []).append(row)
        for index, (label, members) in enumerate(groups.items()):
            axis.plot(
                [row["quality"] for row in members],
                [row["modes"] for row in members],
                "osD^vP"[index % 6],
                color=f"C{index}",
                ms=8,
                alpha=0.85,
                label=label,
            )
        # Only settings of one length compare.
        length = min(row["evaluations"] for row in tried)
        short = [row for row in tried if row["evaluations"] == length]
        best = sorted(undominated(short), key=lambda row: row["quality"])
        axis.step(
            [row["quality"] for row in best],
            [row["modes"] for row in best],
            "k--",
            where="pre",
            lw=1,
            label=f"front at {length:,} evaluations",
        )
        axis.axvline(protocol.quality, color="0.5", ls=":", label="quality asked for")
        axis.set(
            title=name,
            xlabel="share of high quality, mean over seeds",
            ylabel="modes covered, mean over seeds",
        )
        axis.grid(alpha=0.25)
    shown: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(
        shown.values(), shown, fontsize=8, loc="outside lower center", ncols=3
    )
    return figure


def undominated(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the rows that no other beats in modes and quality."""

    def beats(left: dict[str, Any], right: dict[str, Any]) -> bool:
        pair = [(left[key], right[key]) for key in ("modes", "quality")]
        return all(a >= b for a, b in pair) and any(a > b for a, b in pair)

    return [row for row in rows if not any(beats(other, row) for other in rows)]


def rules(rows: Sequence[dict[str, Any]], protocol: Protocol) -> Figure:
    """Draw modes and quality of every rule that ran, the best first."""
    ran = [row for row in rows if row["modes"] is not None]
    ran.sort(key=lambda row: (row["modes"], row["quality"]))
    figure = Figure(figsize=(10, 0.28 * len(ran) + 1.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    labels = [f"{row['rule']} ({_FORMS[row['form']]})" for row in ran]
    colours = ["C0" if row["form"] == "adam" else "C1" for row in ran]
    left.barh(labels, [row["modes"] for row in ran], color=colours)
    right.barh(labels, [row["quality"] for row in ran], color=colours)
    number = len(protocol.mixture().centres)
    left.set(xlabel=f"modes covered, of {number}", xlim=(0, number))
    right.set(xlabel="share of high quality", xlim=(0, 1))
    left.margins(y=0.01)
    for axis in (left, right):
        axis.grid(alpha=0.25, axis="x")
        axis.tick_params(axis="y", labelsize=8)
    evaluations = max(row["evaluations"] for row in ran)
    figure.suptitle(f"{protocol.data}: at most {evaluations:,} gradient evaluations")
    return figure


_FORMS = {"adam": "Adam", "registered": "as registered"}


def _group(row: dict[str, Any]) -> str:
    words = [row["penalties"].upper().replace("+", " + ") or "no penalty"]
    words += [f"{row['evaluations']:,} evaluations"]
    if row["loss"] != "non_saturating":
        words.insert(0, row["loss"])
    if row["rule"] != "alternating":
        words.insert(0, row["rule"].replace("_", " "))
    if row["pack"] > 1:
        words.append(f"pack {row['pack']}")
    return ", ".join(words)
