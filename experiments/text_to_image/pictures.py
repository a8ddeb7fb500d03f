"""The pictures of the experiment."""

from typing import Any

from matplotlib.figure import Figure

from gamedyn import train

from . import captions, parser
from .scenes import Group, Scene

COLUMNS = {
    "renderer": "rendered",
    "picture": "embedding of\nthat picture",
    "prior": "embedding\nby the prior",
    "text": "embedding of\nthe caption",
    "picture, words withheld": "of that picture,\nno words",
    "prior, words withheld": "by the prior,\nno words",
    "text, words withheld": "of the caption,\nno words",
}


def samples(shown: dict[str, dict[str, Any]], rows: int = 6) -> Figure:
    """Draw the first pictures of every kind and source, captions beside them.

    Args:
        shown: for each kind of captions the scenes `wanted`, and pictures by the names
            of `COLUMNS`.
        rows: captions of each kind.

    Returns:
        The figure. Pictures without a mistake have a green frame, others a red one.
    """
    number = sum(min(rows, len(each["wanted"])) for each in shown.values())
    figure = Figure(figsize=(11, 1.15 * number + 1.2), layout="constrained")
    axes = iter(figure.subplots(number, len(COLUMNS), squeeze=False))
    for kind, each in shown.items():
        for row, wanted in enumerate(each["wanted"][:rows]):
            line = next(axes)
            label = captions.caption(wanted)
            words = label.split()
            broken = [words[i : i + 3] for i in range(0, len(words), 3)]
            line[0].set_ylabel(
                "\n".join([f"({kind})", *map(" ".join, broken)]),
                rotation=0,
                ha="right",
                va="center",
                fontsize=8,
            )
            for axis, name in zip(line, COLUMNS, strict=True):
                picture = each[name][row]
                right = parser.is_right(wanted, parser.parse(picture))
                axis.imshow(train.to_uint8(picture), interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(color="tab:green" if right else "tab:red", linewidth=2.5)
    for axis, title in zip(figure.axes, COLUMNS.values(), strict=False):
        axis.set_title(title, fontsize=9)
    figure.suptitle("Frames: green if the parser finds no mistake, else red")
    return figure


def reading(scene: Scene) -> str:
    """Say in words what was read off a picture, whatever it is."""

    def words(group: Group) -> str:
        return f"{group.count} {group.colour or '?'} {group.shape or '?'}"

    if scene.side is None:
        return "nothing"
    if scene.second is None:
        return f"{words(scene.first)} | {scene.side}"
    return f"{words(scene.first)} | {scene.side} of | {words(scene.second)}"


def save(figure: Figure, path: Any) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=80)
