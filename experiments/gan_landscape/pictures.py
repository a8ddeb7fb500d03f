"""The four pictures."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"start": "0.6", "middle": "C1", "end": "C3"}
PLAYERS = ("generator", "discriminator")


def _grid(rows: int, columns: int, width: float = 4.4, height: float = 3.1) -> Any:
    size = max(width * columns, 7.5), height * rows + 0.7
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _linear_below(largest: float) -> float:
    """Where a symmetric logarithmic axis goes over to a linear one: a decade."""
    return 10.0 ** np.floor(np.log10(1e-2 * largest))


def curvature(cases: dict[str, Any]) -> Figure:
    """Draw both ends of both players' own spectra."""
    figure, axes = _grid(2, len(cases))
    for column, (name, case) in enumerate(cases.items()):
        for row, player in enumerate(PLAYERS):
            axis = axes[row, column]
            largest = 0.0
            for label, point in case["points"].items():
                ends = np.array(point["players"][row]["ends"])
                largest = max(largest, np.abs(ends).max())
                rank, half = np.arange(len(ends)), len(ends) // 2
                style = {"ms": 4, "color": COLOURS[label]}
                axis.plot(rank[:half], ends[:half], "o-", **style, label=label)
                axis.plot(rank[half:], ends[half:], "o-", **style)
            axis.axhline(0, color="black", lw=0.8)
            axis.set_yscale("symlog", linthresh=_linear_below(largest))
            axis.set_xticks([])
            axis.set_title(f"{name}: {player}")
            axis.grid(alpha=0.25)
        axes[1, column].set_xlabel("smallest … | … largest eigenvalues")
    axes[0, 0].legend(fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("own curvature")
    figure.suptitle(
        "Ends of the own Hessians\nbelow 0: that player could gain by moving alone"
    )
    return figure


def jacobian(cases: dict[str, Any]) -> Figure:
    """Draw Ritz values of J in the complex plane, settled ones filled."""
    figure, axes = _grid(1, len(cases), height=4.2)
    for axis, (name, case) in zip(axes[0], cases.items(), strict=True):
        widest = 0.0
        for label, point in case["points"].items():
            flow = point["flow"]
            real, imaginary = np.array(flow["ritz"]).T
            settled = np.array(flow["estimates"]) < 1e-2 * flow["scale"]
            widest = max(widest, np.abs(flow["ritz"]).max())
            style = {"s": 22, "edgecolors": COLOURS[label], "linewidths": 1.0}
            axis.scatter(
                real[settled],
                imaginary[settled],
                c=COLOURS[label],
                label=f"{label}: {flow['stability']}",
                **style,
            )
            axis.scatter(
                real[~settled], imaginary[~settled], facecolors="none", **style
            )
        axis.axvspan(-1.3 * widest, 0, color="0.93", zorder=0)
        axis.axvline(0, color="black", lw=0.8)
        axis.set_xscale("symlog", linthresh=_linear_below(widest))
        axis.set_yscale("symlog", linthresh=_linear_below(widest))
        axis.set_xlim(-1.3 * widest, 1.3 * widest)
        axis.set_ylim(-1.3 * widest, 1.3 * widest)
        axis.set(title=name, xlabel="real part")
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=7)
        axis.legend(
            fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3
        )
    axes[0, 0].set_ylabel("imaginary part")
    figure.suptitle(
        "Ritz values of the game's Jacobian by Arnoldi (filled: settled to 1 %)\n"
        "grey half-plane: the flow leaves"
    )
    return figure


def path(cases: dict[str, Any]) -> Figure:
    """Draw angle and norm of the flow along lines that lead to the last point."""
    figure, axes = _grid(2, len(cases), height=2.7)
    for column, (name, case) in enumerate(cases.items()):
        upper, lower = axes[:, column]
        positions, largest = case["path"]["positions"], 0.0
        for label in ("start", "middle"):
            curve = case["path"][f"from the {label}"]
            colour = COLOURS[label]
            upper.plot(
                positions, curve["cosines"], color=colour, label=f"from the {label}"
            )
            lower.semilogy(positions, curve["norms"], color=colour)
            largest = max(largest, np.nanmax(np.abs(curve["cosines"])))
        upper.axhline(0, color="black", lw=0.8)
        for axis in (upper, lower):
            axis.axvline(1, color=COLOURS["end"], lw=0.8, ls="--")
            axis.grid(alpha=0.25)
        upper.set(title=name, ylim=(-1.2 * largest, 1.2 * largest))
        lower.set_xlabel("a: 0 the earlier point, 1 the last")
    axes[0, 0].set_ylabel("cosine of line and flow")
    axes[1, 0].set_ylabel("norm of the flow")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(
        "The flow on the way to the last point\n"
        "a change of sign at 1 is attraction, a bump is rotation"
    )
    return figure


def samples(drawn: dict[str, list[np.ndarray]]) -> Figure:
    """Draw what the generators make of the same latents at the three points."""
    figure, axes = _grid(len(drawn), 3, width=3.0, height=2.9)
    for row, (name, points) in enumerate(drawn.items()):
        for axis, label, x in zip(axes[row], COLOURS, points, strict=True):
            axis.set_title(f"{name}, {label}")
            axis.set_xticks([])
            axis.set_yticks([])
            if x.ndim == 2:
                axis.plot(*x.T, ".", ms=2, color="C0")
                axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
                continue
            framed = np.pad(x[:36, :, :, 0], ((0, 0), (1, 1), (1, 1)))
            grid = framed.reshape(6, 6, 10, 10).transpose(0, 2, 1, 3)
            axis.imshow(grid.reshape(60, 60), cmap="gray", vmin=-1, vmax=1)
    figure.suptitle("What the generators make of the same latents")
    return figure
