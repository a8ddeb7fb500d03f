"""Pictures of a board: performance profiles and the map of outcomes."""

import io

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from . import games
from .pairs import OUTCOMES
from .scores import Board, profile

COLOURS = {
    "solved": "#2e8b57",
    "slow": "#a8d8a8",
    "other Nash": "#4a90d9",
    "not Nash": "#8e44ad",
    "stationary": "#c9a6dd",
    "noise": "#f2d16b",
    "cycled": "#f39c3d",
    "stalled": "#b8b8b8",
    "diverged": "#c0392b",
}
"""Of the outcomes."""

RATIOS = np.logspace(0, 2, 200)
"""Where profiles are drawn."""

DRAWN = 8
"""How many methods have a colour in each panel."""


def profiles(board: Board) -> Figure:
    """Draw the performance profile of every group of games, one panel each.

    Only methods that are for all games of a group are drawn; the best by the area under
    the curve, over the logarithm of the ratio, in colour.

    Args:
        board: the results.

    Returns:
        The figure.
    """
    groups = [group for group in board.groups() if group != "traps"]
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.0 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    names = board.methods()
    for axis, group in zip(axes.flat, groups, strict=False):
        costs = board.costs(group)
        flat = costs.reshape(len(names), -1)
        curves = profile(flat, RATIOS)
        whole = np.logical_not(np.isnan(flat).any(axis=1))
        order = [i for i in np.argsort(-curves.mean(axis=1), kind="stable") if whole[i]]
        for index in order[DRAWN:]:
            axis.step(RATIOS, curves[index], where="post", color="0.85", lw=0.7)
        for rank, index in enumerate(order[:DRAWN]):
            axis.step(
                RATIOS,
                curves[index],
                where="post",
                color=f"C{rank}",
                ls=("-", "--")[rank % 2],
                lw=1.6,
                label=names[index].replace("_", " "),
            )
        axis.set_xscale("log")
        axis.set_xlim(1, RATIOS[-1])
        axis.set_ylim(0, 1.01)
        axis.grid(alpha=0.25)
        axis.set_title(
            f"{games.GROUPS[group]}\n{costs.shape[1]} games x {costs.shape[2]} seeds, "
            f"{int(whole.sum())} methods",
            fontsize=10,
        )
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis in list(axes.flat)[len(groups) :]:
        axis.axis("off")
    figure.suptitle("Performance profiles: the eight of the largest area in colour")
    figure.supxlabel(
        "evaluations to tolerance, in multiples of the best method's", fontsize=10
    )
    figure.supylabel("share of problems solved", fontsize=10)
    return figure


def outcome_map(board: Board) -> Figure:
    """Draw what became of each method on each game: the most frequent outcome.

    Args:
        board: the results.

    Returns:
        The figure; white where a method is not for a game.
    """
    kinds, names = list(OUTCOMES), board.methods()
    groups = board.groups()
    listed = [(group, entry) for group in groups for entry in board.games_of(group)]
    values = np.full((len(names), len(listed)), np.nan)
    for column, (_, entry) in enumerate(listed):
        for row, name in enumerate(names):
            result = board.result(entry, name)
            if result["inapplicable"] is None:
                values[row, column] = kinds.index(commonest(result["outcomes"]))
    figure = Figure(
        figsize=(4.0 + 0.19 * len(listed), 3.0 + 0.145 * len(names)),
        layout="constrained",
    )
    axis = figure.subplots()
    colours = ListedColormap([COLOURS[kind] for kind in kinds])
    axis.imshow(
        values,
        cmap=colours,
        vmin=-0.5,
        vmax=len(kinds) - 0.5,
        aspect="auto",
        interpolation="none",
    )
    axis.set_yticks(range(len(names)), [n.replace("_", " ") for n in names], fontsize=7)
    axis.set_xticks(
        range(len(listed)),
        [entry.name.replace("_", " ") for _, entry in listed],
        rotation=90,
        fontsize=7,
    )
    axis.set_xticks(np.arange(-0.5, len(listed)), minor=True)
    axis.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axis.grid(which="minor", color="white", lw=0.5)
    axis.tick_params(which="both", length=0)
    edge = 0
    for group in groups:
        count = len(board.games_of(group))
        axis.text(
            edge + count / 2 - 0.5, -1.0, group, ha="center", va="bottom", fontsize=9
        )
        edge += count
        axis.axvline(edge - 0.5, color="black", lw=1.0)
    handles = [Patch(facecolor=COLOURS[kind], label=kind) for kind in kinds]
    handles.append(Patch(facecolor="white", edgecolor="0.6", label="n/a"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def commonest(outcomes: list[str]) -> str:
    """The most frequent outcome; of several the first in the order of `OUTCOMES`."""
    return max(OUTCOMES, key=outcomes.count)


def as_png(figure: Figure) -> bytes:
    """Draw a figure as a picture of few colours, a third of the size."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    picture = Image.open(drawn).convert("RGB").quantize(128)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()
