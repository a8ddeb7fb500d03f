"""The three pictures."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .definition import Setting, interior_counts, matrix, overlaps, scatter

KERNEL = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])


def matrices() -> Figure:
    """Draw the matrix of a small strided convolution, and its transpose."""
    setting, size = Setting(3, 2, 1, 1), 6
    forward = matrix(setting, KERNEL, size)
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(0.75, 2.6, 0.8))
    shades: dict[str, Any] = {"cmap": "turbo", "vmin": 0.0, "vmax": 10.0}
    left.imshow(KERNEL, **shades)
    for (i, j), value in np.ndenumerate(KERNEL):
        colour = "black" if 1 < value < 9 else "white"
        left.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour)
    left.set_title("kernel, 3 × 3")
    left.set_axis_off()
    for axis, entries, name in (
        (middle, forward, "convolution A: 6 × 6 pixels → 3 × 3"),
        (right, forward.T, "transposed $A^⊤$:\n3 × 3 → 6 × 6"),
    ):
        axis.imshow(np.where(entries == 0, np.nan, entries), **shades)
        rows, columns = entries.shape
        for lines, along in ((rows, axis.axhline), (columns, axis.axvline)):
            for line in range(lines + 1):
                thick = line % (6 if lines == 36 else 3) == 0
                along(line - 0.5, color="0.4" if thick else "0.9", lw=0.6)
        axis.set_title(name)
        axis.set_xlabel("input pixel, row by row")
        axis.set_ylabel("output pixel, row by row")
        axis.set_xticks(range(0, columns, 6 if columns == 36 else 3))
        axis.set_yticks(range(0, rows, 6 if rows == 36 else 3))
    figure.suptitle(
        "A convolution (k = 3, s = 2, p = 1) as a matrix, and the transposed one: the "
        "same entries, 0 where white"
    )
    return figure


def painting() -> Figure:
    """Draw how input pixels paint the kernel, and how the paintings add up."""
    setting = Setting(4, 2, 0, 0)
    ramp = np.array([0.4, 1.0, 0.8, 0.3])
    kernel = np.outer(ramp, ramp)
    x = np.array([[1.0, 0.7, 0.4], [0.8, 0.2, 0.9], [0.5, 1.0, 0.6]])
    first, two = np.zeros_like(x), np.zeros_like(x)
    first[0, 0], two[0, :2] = x[0, 0], x[0, :2]
    figure = Figure(figsize=(12.5, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 4)
    colours = ("C1", "C2")
    shades: dict[str, Any] = {"cmap": "Greys", "vmin": 0.0}
    upper[0].imshow(kernel, vmax=1.6, **shades)
    upper[0].set_title("the kernel, 4 × 4")
    lower[0].axis("off")
    names = ("one pixel paints", "its neighbour, too", "all nine")
    for column, (name, part) in enumerate(zip(names, (first, two, x), strict=True), 1):
        y = scatter(part[None, :, :, None], kernel[None, None], setting)[0, :, :, 0]
        above, below = upper[column], lower[column]
        above.imshow(part, vmax=1.2, **shades)
        above.set_title(name)
        below.imshow(y, vmax=1.6, **shades)
        for (i, j), value in np.ndenumerate(part):
            colour = "white" if value > 0.6 else "black"
            above.text(j, i, f"{value:g}", ha="center", va="center", color=colour)
        for pixel in range(min(column, 2)):
            style = {"fill": False, "edgecolor": colours[pixel], "lw": 2.5}
            above.add_patch(Rectangle((pixel - 0.46, -0.46), 0.92, 0.92, **style))
            below.add_patch(Rectangle((2 * pixel - 0.46, -0.46), 3.92, 3.92, **style))
    for axis in (*upper, *lower):
        axis.set_xticks([])
        axis.set_yticks([])
    upper[1].set_ylabel("input x, 3 × 3")
    lower[1].set_ylabel("output $A^⊤ x$, 8 × 8")
    figure.suptitle(
        "Every input pixel paints the kernel, s = 2 pixels apart; where the paintings "
        "overlap, they add"
    )
    return figure


def checkerboard() -> Figure:
    """Draw how often every pixel is painted with k = 4, 3 and 5."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    settings = (Setting(4, 2, 1, 0), Setting(3, 2, 1, 1), Setting(5, 2, 2, 1))
    for axis, setting in zip(axes, settings, strict=True):
        counts = overlaps(setting, 7)
        shown = axis.imshow(counts, cmap="viridis", vmin=0, vmax=9)
        for (i, j), count in np.ndenumerate(counts):
            colour = "black" if count > 5 else "white"
            axis.text(
                j, i, f"{count:.0f}", ha="center", va="center", color=colour, fontsize=8
            )
        inside = ", ".join(map(str, interior_counts(setting)))
        verdict = "even" if setting.kernel % setting.stride == 0 else "a checkerboard"
        axis.set_title(
            f"k = {setting.kernel}, s = {setting.stride}: {inside} inside\n{verdict}"
        )
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(shown, ax=axes, shrink=0.8, label="times painted")
    figure.suptitle(
        "How often each output pixel is painted by 7 × 7 input pixels: evenly where "
        "the stride divides k"
    )
    return figure
