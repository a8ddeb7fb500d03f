"""Pictures, by matplotlib alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

from gamedyn.fields import Field
from gamedyn.game import Params

if TYPE_CHECKING:
    from gamedyn.compare import Curve

_GREY = "0.82"
_MARKS = {"start": ("o", "black"), "solution": ("*", "crimson")}


def convergence(
    curves: "Mapping[str, Curve]", families: Mapping[str, Sequence[str]], title: str
) -> Figure:
    """Draw the natural residual of every rule, one panel per family of rules.

    Every panel shows all curves in grey, its own family in colour, so that families
    compare at a glance. Of curves that oscillate the upper envelope is drawn.

    Args:
        curves: by row name.
        families: row names by family, in the order of the panels.
        title: of the figure.

    Returns:
        The figure.
    """
    columns = min(3, len(families))
    lines = -(-len(families) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.3 * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    levels = {name: _envelope(curve) for name, curve in curves.items()}
    low, high = _limits([level for _, level in levels.values()])
    levels = {  # far beyond the picture, the axes' own arithmetic overflows
        name: (work, np.clip(level, low * 1e-3, high * 1e3))
        for name, (work, level) in levels.items()
    }
    for axis, (family, names) in zip(axes.flat, families.items(), strict=False):
        for work, level in levels.values():
            axis.plot(work, level, color=_GREY, lw=0.7, zorder=1)
        for index, name in enumerate(names):
            axis.plot(
                *levels[name],
                color=f"C{index % 10}",
                ls=("-", "--")[index // 10 % 2],
                lw=1.5,
                label=name.replace("_", " "),
                zorder=2,
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(low, high)
        axis.set_title(family, fontsize=10)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7, loc="best", framealpha=0.85)
    _close_grid(axes, len(families))
    figure.suptitle(title)
    figure.supxlabel("1 + gradient evaluations", fontsize=10)
    figure.supylabel("natural residual (upper envelope)", fontsize=10)
    return figure


def _envelope(curve: "Curve") -> tuple[np.ndarray, np.ndarray]:
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
    return max(lowest / 3, 1e-16 * start), min(highest * 3, 1e4 * start)


def phase(
    curves: "Mapping[str, Curve]",
    field: Field,
    start: Params,
    solutions: Sequence[Params],
    title: str,
    *,
    points: int = 400,
) -> Figure:
    """Draw trajectories in the plane over the field's streamlines, one panel per rule.

    Args:
        curves: by row name, with `points` of two dimensions.
        field: the field whose negative is drawn, the direction of motion.
        start: the start; gives the parameters' structure.
        solutions: known solutions, marked with a star.
        title: of the figure.
        points: how many recorded points of each run to draw at most, from the start.

    Returns:
        The figure.

    Raises:
        ValueError: if the game does not have two dimensions.
    """
    flat, unravel = ravel_pytree(start)
    if flat.size != 2:
        raise ValueError(f"a phase portrait needs 2 dimensions, got {flat.size}")
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
        axis.set_title(name.replace("_", " "), fontsize=8)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=7)
    _close_grid(axes, len(curves))
    figure.suptitle(f"{title}\ndot: start, star: solution, grey: gradient flow")
    figure.supxlabel("first player", fontsize=10)
    figure.supylabel("second player", fontsize=10)
    return figure
