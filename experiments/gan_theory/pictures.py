"""The four pictures."""

import numpy as np
from matplotlib.figure import Figure

from .laws import Pair, Trained, log_densities


def discriminator(cases: dict[str, Pair], trained: dict[str, Trained]) -> Figure:
    """Draw D in training against D*, on the line and in the plane, and its error."""
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(2, 3)
    line = [name for name, pair in cases.items() if pair.points.shape[1] == 1]
    (plane,) = [name for name in cases if name not in line]
    for axis, name in zip(axes[0, :2], line, strict=True):
        pair, run = cases[name], trained[name]
        x = np.asarray(pair.points[:, 0])
        for law, colour, label in ((pair.p, "C0", "data p"), (pair.q, "C1", "fake q")):
            density = np.exp(log_densities(law, pair.points))
            axis.fill_between(x, density, color=colour, alpha=0.25, lw=0, label=label)
        early = len(run.steps) // 20
        for row, style in ((0, ":"), (early, "--"), (-1, "-")):
            axis.plot(
                x,
                run.probabilities[row],
                style,
                color="C3",
                lw=1.6,
                label=f"D, step {run.steps[row]}",
            )
        axis.plot(x, run.best, color="black", lw=3.5, alpha=0.35, label="D* = p/(p+q)")
        axis.set(title=name, xlabel="x", xlim=(-5, 5), ylim=(0, 1.45))
        axis.legend(fontsize=8, ncols=2, loc="upper center")
    axis = axes[0, 2]
    for name, run in trained.items():
        axis.semilogy(run.steps, run.errors, label=name)
    axis.set(
        title="the error falls",
        xlabel="step",
        ylabel="max |D − D*| where 99 % of the mass is",
    )
    axis.grid(alpha=0.25, which="both")
    axis.legend(fontsize=8)

    pair, run = cases[plane], trained[plane]
    side = np.unique(np.asarray(pair.points[:, 0]))
    shape = (len(side), len(side))
    last = run.probabilities[-1]
    mass = np.add(
        *(np.exp(log_densities(law, pair.points)) for law in (pair.p, pair.q))
    )
    rank = np.sort(mass)[::-1]
    edge = rank[np.searchsorted(np.cumsum(rank), 0.99 * rank.sum())]
    for axis, values, title, colours, top in (
        (axes[1, 0], run.best, "D* in the plane", "RdBu_r", 1.0),
        (axes[1, 1], last, f"D, step {run.steps[-1]}", "RdBu_r", 1.0),
        (axes[1, 2], np.abs(last - run.best), "|D − D*|", "magma", 0.2),
    ):
        shown = axis.pcolormesh(
            side, side, values.reshape(shape), cmap=colours, vmin=0, vmax=top
        )
        axis.contour(
            side, side, mass.reshape(shape), [edge], colors="lime", linewidths=1.2
        )
        axis.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        figure.colorbar(shown, ax=axis, shrink=0.9)
    figure.suptitle(
        "Against a fixed generator, the trained discriminator approaches "
        "D* = p/(p+q)\n(green: the region that holds 99 % of the mass)"
    )
    return figure


def value(trained: dict[str, Trained]) -> Figure:
    """Draw the value along training and its distance from the limit."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (name, run) in enumerate(trained.items()):
        colour = f"C{index}"
        left.axhline(run.limit, color=colour, ls="--", lw=1)
        left.plot(run.steps, run.values, color=colour, label=name)
        gap = np.maximum(run.limit - run.values, 1e-9)
        right.semilogy(run.steps, gap, color=colour, label=name)
    left.plot([], [], "k--", lw=1, label="−log 4 + 2 JS(p, q)")
    lowest = -np.log(4)
    left.axhline(lowest, color="0.5", ls=":", label="−log 4, where p = q")
    highest = max(run.limit for run in trained.values())
    room = highest - lowest
    left.set(
        title="V(D, G) in training",
        xlabel="step",
        ylabel="value",
        ylim=(lowest - 0.15 * room, highest + 0.1 * room),
    )
    left.legend(fontsize=8, loc=(0.58, 0.2))
    right.set(
        title="distance from the limit",
        xlabel="step",
        ylabel="−log 4 + 2 JS − V(D, G)",
    )
    right.grid(alpha=0.25, which="both")
    right.legend(fontsize=8)
    figure.suptitle("The value approaches −log 4 + 2 JS(p, q) from below")
    return figure


def parallel_lines(lines: dict[str, np.ndarray]) -> Figure:
    """Draw two parallel lines, and their divergences by the distance."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    left.plot([0, 0], [0, 1], color="C0", lw=4, label="data")
    for distance, alpha in ((0.3, 0.35), (0.6, 0.6), (0.9, 1.0)):
        label = "generator at three distances t" if alpha == 1.0 else None
        left.plot([distance] * 2, [0, 1], color="C1", lw=4, alpha=alpha, label=label)
    left.annotate(
        "", (0.6, 0.5), (0, 0.5), arrowprops={"arrowstyle": "<->", "color": "0.3"}
    )
    left.text(0.13, 0.54, "t", color="0.3", ha="center")
    left.set(xlim=(-0.3, 1.3), ylim=(-0.1, 1.45), xlabel="$x_1$", ylabel="$x_2$")
    left.set_title("two parallel lines")
    left.legend(fontsize=8, loc="upper center")

    distance = lines["distance"]
    apart = distance != 0
    for side in (distance < 0, distance > 0):
        label = "JS = log 2: no slope" if side[-1] else None
        right.plot(distance[side], lines["js"][side], "C3", lw=2, label=label)
        right.plot(0, np.log(2), "o", mec="C3", mfc="white", zorder=3)
    right.plot(
        0, lines["js"][~apart], "o", color="C3", zorder=3, label="JS = 0 at t = 0"
    )
    right.plot(
        distance, lines["primal"], color="C0", lw=2, label="$W_1$ = |t|, over couplings"
    )
    right.plot(
        distance[::4],
        lines["dual"][::4],
        "x",
        color="black",
        label="$W_1$, best 1-Lipschitz critic",
    )
    right.set(xlabel="distance t", ylabel="divergence", ylim=(-0.06, 1.45))
    right.set_title("exact divergences")
    right.grid(alpha=0.25)
    right.legend(fontsize=8, ncols=2, loc="upper center")
    figure.suptitle(
        "Disjoint supports: JS cannot tell how far apart they are, $W_1$ can"
    )
    return figure


def generator_gradient(gradients: dict[str, np.ndarray]) -> Figure:
    """Draw both generator losses, their slopes, and the gradient of a generator."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    names = {"saturating": "log(1 − D)", "non-saturating": "−log D"}
    logit = gradients["logit"]
    probability = 1 / (1 + np.exp(-logit))
    for index, (name, formula) in enumerate(names.items()):
        style = {"color": ("C3", "C0")[index], "lw": 2, "label": f"{name}: {formula}"}
        left.plot(probability, gradients[f"{name} loss"], **style)
        middle.plot(logit, np.abs(gradients[f"{name} slope"]), **style)
        size = np.abs(gradients[f"{name} gradient"])
        right.semilogy(gradients["shift"][1:], size[1:], **style)
    left.set(
        title="the losses",
        xlabel="D(G(z))",
        ylabel="generator's loss",
        ylim=(-5.5, 7.5),
    )
    middle.axvspan(logit.min(), -3, color="0.9")
    middle.text(-7.7, 0.5, "D is sure:\nG(z) is fake", fontsize=9, va="center")
    middle.set(
        title="slope in D's logit",
        xlabel="logit of D(G(z))",
        ylabel="|d loss / d logit|",
        xlim=(-8, 8),
        ylim=(0, 1.35),
    )
    right.set(
        title="data N(0, 1), generator N(t, 1), D = D*",
        xlabel="t, how far off the generator is",
        ylabel="|d E loss / dt|",
        xlim=(0, 8),
    )
    for axis in (left, middle, right):
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, loc="upper right")
    right.legend(fontsize=8, loc="lower left")
    figure.suptitle(
        "Where D is confident the saturating loss gives the generator no gradient, "
        "the non-saturating one does"
    )
    return figure
