"""Pictures of comparisons and analyses, by matplotlib alone.

Every function returns a figure: a notebook shows it, `figure.savefig(path)` writes it.
Dimensions as in `gamedyn.workbench.race`.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gamedyn.fields import Field
from gamedyn.game import Params
from gamedyn.text import for_mathtext
from gamedyn.workbench.analyse import Analysis, Finding, Spectrum
from gamedyn.workbench.race import full_field
from gamedyn.workbench.results import Comparison, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "0.82"
_SHADE = "#d3ecd6"
_MARKS = {"start": ("o", "black"), "solution": ("*", "crimson")}


def convergence(
    curves: Mapping[str, Curve] | Comparison,
    families: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> Figure:
    """Draw the natural residual of every rule, one panel per family of rules.

    Every panel shows all curves in grey, its own family in colour, so that families
    compare at a glance. Of curves that oscillate the upper envelope is drawn.

    Args:
        curves: a comparison, which has families and a title; or its curves, by row
            name.
        families: row names by family, in the order of the panels; one panel with all
            curves if `None`.
        title: of the figure.

    Returns:
        The figure.

    Example:
        >>> import gamedyn as gd
        >>> problem = gd.games.make("bilinear")
        >>> rows = gd.compare(problem, "optimistic", step_size=0.1, evaluations=100)
        >>> figure = gd.plot.convergence(rows)
        >>> len(figure.axes)
        1
    """
    if isinstance(curves, Comparison):
        families = curves.families() if families is None else families
        game = for_mathtext(curves.settings["game"])
        title = title or f"{game}: residual against work"
        curves = curves.curves
    if families is None:
        families = {"": list(curves)}
    columns = min(3, len(families))
    lines = -(-len(families) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.3 * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    levels = {name: _envelope(curve) for name, curve in curves.items()}
    low, high = _limits([level for _, level in levels.values()])
    # Far beyond the picture, the axes' own arithmetic overflows.
    levels = {
        name: (work, np.clip(level, low * 1e-3, high * 1e3))
        for name, (work, level) in levels.items()
    }

    # Per family a panel: all curves in grey, its own in colour.
    for axis, (family, names) in zip(axes.flat, families.items(), strict=False):
        for work, level in levels.values():
            axis.plot(work, level, color=_GREY, lw=0.7, zorder=1)
        for index, name in enumerate(names):
            axis.plot(
                *levels[name],
                color=f"C{index % 10}",
                ls=("-", "--")[index // 10 % 2],
                lw=1.5,
                label=for_mathtext(name.replace("_", " ")),
                zorder=2,
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(low, high)
        axis.set_title(for_mathtext(family), fontsize=10)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7, loc="best", framealpha=0.85)
    _close_grid(axes, len(families))
    figure.suptitle(title)
    figure.supxlabel("1 + gradient evaluations", fontsize=10)
    figure.supylabel("natural residual (upper envelope)", fontsize=10)
    return figure


def _envelope(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The largest median residual in bins that widen with the work, and where."""
    with np.errstate(all="ignore"):
        level = np.median(curve.residual, axis=0)
    level = np.where(np.isfinite(level) & (level > 0), level, np.nan)
    bins = np.floor(np.log(curve.evaluations + 1) / np.log(1.08))
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return curve.evaluations[starts] + 1, np.fmax.reduceat(level, starts)


def _close_grid(axes: np.ndarray, used: int) -> None:
    """Hide the panels that are left over; label those that are now the lowest."""
    columns = axes.shape[1]
    for axis in axes.flat[used:]:
        axis.axis("off")
    for axis in axes.flat[max(0, used - columns) : used]:
        axis.tick_params(labelbottom=True)


def _limits(levels: Sequence[np.ndarray]) -> tuple[float, float]:
    """Show what happens around the start: rounding and explosions fall outside."""
    start = np.nanmax([level[0] for level in levels])
    lowest = np.nanmin([np.nanmin(level) for level in levels])
    highest = np.nanmax([np.nanmax(level) for level in levels])
    # Divided, not multiplied: three times the largest number would overflow.
    return max(lowest / 3, 1e-16 * start), 3 * min(highest, 1e4 / 3 * start)


def phase(
    curves: Mapping[str, Curve] | Comparison,
    field: Field | None = None,
    start: Params | None = None,
    solutions: Sequence[Params] = (),
    title: str = "",
    *,
    points: int = 400,
) -> Figure:
    """Draw trajectories in the plane over the field's streamlines, one panel per rule.

    Args:
        curves: a comparison of two dimensions, which has a field, a start, solutions
            and a title; or curves, by row name, with `points` of two dimensions.
        field: the field whose negative is drawn, the direction of motion.
        start: the start; gives the parameters' structure.
        solutions: known solutions, marked with a star.
        title: of the figure.
        points: the most recorded points of each run to draw, from the start.

    Returns:
        The figure.

    Raises:
        TypeError: if curves come without a field and a start.
        ValueError: if the game does not have two dimensions.
    """
    if isinstance(curves, Comparison):
        problem = curves.problem
        field = full_field(problem)[0] if field is None else field
        start = problem.init(None) if start is None else start
        solutions = solutions or problem.solutions
        title = title or f"{for_mathtext(curves.settings['game'])}: trajectories"
        curves = curves.curves
    if field is None or start is None:
        raise TypeError("curves need a field and a start; a Comparison has them")
    flat, unravel = ravel_pytree(start)
    if flat.size != 2:
        raise ValueError(f"a phase portrait needs 2 dimensions, got {flat.size}")

    # The window, a square around the first solution, and the flow in it.
    ends = [np.asarray(ravel_pytree(solution)[0]) for solution in solutions]
    begin = np.asarray(flat)
    center = ends[0] if ends else begin
    radius = 1.6 * max(*(np.abs(p - center).max() for p in [begin, *ends]), 1e-6)
    grid = np.stack(
        np.meshgrid(*(np.linspace(c - radius, c + radius, 25) for c in center)), axis=-1
    )
    at = jax.jit(jax.vmap(lambda z: ravel_pytree(field(unravel(z)))[0]))
    flow = -np.asarray(at(jnp.asarray(grid.reshape(-1, 2), flat.dtype)))
    flow = flow.reshape(grid.shape)

    # Per rule a panel: streamlines, trajectory, start and solutions.
    columns = min(6, max(2, int(np.ceil(np.sqrt(len(curves))))))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.6 * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        axis.streamplot(
            grid[0, :, 0],
            grid[:, 0, 1],
            flow[..., 0],
            flow[..., 1],
            color=_GREY,
            linewidth=0.6,
            arrowsize=0.6,
            density=0.8,
            zorder=1,
        )
        path = np.empty((0, 2)) if curve.points is None else curve.points[:points]
        axis.plot(path[:, 0], path[:, 1], color="C0", lw=0.9, zorder=2)
        axis.plot(path[:, 0], path[:, 1], ".", color="C0", ms=2.5, zorder=2)
        for (mark, colour), where in zip(_MARKS.values(), ([begin], ends), strict=True):
            for point in where:
                axis.plot(*point, mark, color=colour, ms=7, zorder=3)
        axis.set_xlim(center[0] - radius, center[0] + radius)
        axis.set_ylim(center[1] - radius, center[1] + radius)
        axis.set_title(for_mathtext(name.replace("_", " ")), fontsize=8)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=7)
    _close_grid(axes, len(curves))
    figure.suptitle(f"{title}\ndot: start, star: solution, grey: gradient flow")
    figure.supxlabel("first player", fontsize=10)
    figure.supylabel("second player", fontsize=10)
    return figure


def spectrum(shown: Spectrum | Finding | Analysis, title: str = "") -> Figure:
    """Draw the eigenvalues of J, and of a rule's update map if there is one.

    The plane of J shows where the rule converges, or else the half plane in which the
    flow does; the map's eigenvalues stand beside the unit circle.

    Args:
        shown: an analysis, every point of which is one line of panels; one of its
            findings; or the `spectrum` of one.
        title: of the figure; by default that of the points.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no picture of any point.

    Example:
        >>> import gamedyn as gd
        >>> result = gd.analyse("quadratic", rule="extragradient", step_size=0.05)
        >>> len(gd.plot.spectrum(result).axes)
        2
    """
    lines = _spectra(shown)
    if not lines:
        raise ValueError("there is no picture: no eigenvalues were computed")
    panels = max(1 if one.update is None else 2 for _, one in lines)
    # In inches, since layouts that adapt themselves do not know of square axes.
    width, height, side = 5.4 * panels, 6.6, 4.4
    figure = Figure(figsize=(width, height * len(lines)))
    parts = figure.subfigures(len(lines), 1, squeeze=False)[:, 0]
    for part, (label, one) in zip(parts, lines, strict=True):
        axes = [
            part.add_axes(
                (
                    (5.4 * k + 0.8) / width,
                    1.2 / height,
                    side / width,
                    side / height,
                )
            )
            for k in range(1 if one.update is None else 2)
        ]
        _plane(axes[0], one)
        if one.update is not None:
            _unit_circle(axes[1], one.update, one.period)
        shown_as = title or for_mathtext(label)
        words = "; ".join(filter(None, (shown_as, for_mathtext(one.rule or ""))))
        words = "\n".join(textwrap.wrap(words, 50 * panels))
        part.suptitle(words, y=1 - 0.15 / height, va="top")
    return figure


def _spectra(shown: Spectrum | Finding | Analysis) -> list[tuple[str, Spectrum]]:
    """The pictures there are, with their titles."""
    if isinstance(shown, Spectrum):
        return [("", shown)]
    if isinstance(shown, Finding):
        return [] if shown.spectrum is None else [(shown.label, shown.spectrum)]
    name = shown.problem.info.name
    return [
        (f"{name}: {label}", spectrum)
        for finding in shown.findings
        for label, spectrum in _spectra(finding)
    ]


def _plane(axis: "Axes", shown: Spectrum) -> None:
    left, right, top = shown.limits
    if shown.region is not None:
        real, imaginary, radius = shown.region
        level = np.log(np.clip(np.nan_to_num(radius, nan=10.0), 0.1, 10.0))
        axis.contourf(real, imaginary, level, [-np.inf, 0.0], colors=[_SHADE])
        axis.contour(real, imaginary, level, [0.0], colors=["seagreen"], linewidths=1.2)
        inside = "the rule converges (spectral radius below 1)"
    elif shown.flow:
        axis.axvspan(0, right, color=_SHADE, lw=0, zorder=0)
        inside = "the flow is stable (positive real part)"
    else:
        inside = ""
    handles = []
    count = str(shown.eigenvalues.size)
    if shown.inside is not None:
        count += f", {shown.inside} inside"
    if inside:
        handles.append(Patch(facecolor=_SHADE, edgecolor="seagreen", label=inside))
    handles += axis.plot(
        np.real(shown.eigenvalues),
        np.imag(shown.eigenvalues),
        "x",
        color="crimson",
        ms=7,
        mew=1.6,
        ls="",
        zorder=3,
        label=f"eigenvalues of J ({count})",
    )
    _dress(axis, handles, "eigenvalues of J", shown.caption)
    axis.set_xlim(left, right)
    axis.set_ylim(-top, top)


def _unit_circle(axis: "Axes", eigenvalues: np.ndarray, period: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 400)
    axis.fill(np.cos(angle), np.sin(angle), color=_SHADE, lw=0, zorder=0)
    # On the circle, to rounding, is not inside: a marginal map does not converge.
    inside = np.sum(np.abs(eigenvalues) < 1 - 1e-9)
    handles = axis.plot(
        np.cos(angle), np.sin(angle), color="seagreen", lw=1.2, label="unit circle"
    )
    handles += axis.plot(
        np.real(eigenvalues),
        np.imag(eigenvalues),
        "x",
        color="C0",
        ms=7,
        mew=1.6,
        ls="",
        zorder=3,
        label=f"eigenvalues of the update map ({eigenvalues.size}, {inside} inside)",
    )
    largest = float(np.abs(eigenvalues).max())
    steps = "" if period == 1 else f" of {period} steps"
    radius = f"spectral radius {largest ** (1 / period):.6g} per step"
    _dress(axis, handles, f"the rule's own update map{steps}", radius)
    extent = 1.2 * max(1.0, largest)
    axis.set_xlim(-extent, extent)
    axis.set_ylim(-extent, extent)


def _dress(axis: "Axes", handles: list, title: str, caption: str) -> None:
    axis.axhline(0, color="0.5", lw=0.6, zorder=1)
    axis.axvline(0, color="0.5", lw=0.6, zorder=1)
    axis.set_aspect("equal")
    axis.grid(alpha=0.25)
    words = for_mathtext("\n".join(textwrap.wrap(caption, 62)), lines=True)
    axis.set_title(f"{title}\n{words}" if words else title, fontsize=10)
    axis.set_xlabel("real part")
    axis.set_ylabel("imaginary part")
    axis.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.11), fontsize=9
    )
