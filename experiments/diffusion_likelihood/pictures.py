"""The pictures of bounds, of their terms and of the digits' bits."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from . import Config, Digits, Ring

_VARIANCES = {
    "small": (r"$\tilde\beta$", "C0"),
    "large": (r"$\beta$", "C1"),
    "learned": ("learned", "C2"),
    "best decoder": (r"$\beta$, best in the last step", "C4"),
}


def exact(config: "Config", ring: "Ring") -> Figure:
    """Draw the ring's bits by bound and by ODE against the truth."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, row in ring.bounds.items():
        schedule, _, variance = name.partition(", ")
        label, colour = _VARIANCES[variance]
        style = "--" if schedule == "cosine" else "-"
        gaps = np.array(row) - ring.truth
        left.loglog(
            config.steps,
            gaps,
            style,
            color=colour,
            marker=".",
            label=f"{schedule}, variance {label}",
        )
    left.set(
        title=f"bound less the truth ({ring.truth:.4f} bits per dimension)",
        xlabel="steps of the chain, T",
        ylabel="gap / bits per dimension",
    )
    for index, (name, row) in enumerate(ring.flow.items()):
        gaps = np.abs(np.array(row) - ring.truth)
        right.loglog(
            4 * np.array(config.flow_steps),
            gaps,
            color=f"C{index + 3}",
            marker=".",
            label=name,
        )
    right.set(
        title="probability-flow ODE, |mean − truth|",
        xlabel="network evaluations (4 in each Runge-Kutta step)",
        ylabel="error / bits per dimension",
    )
    for axis in (left, right):
        axis.grid(alpha=0.25, which="both")
        axis.legend(fontsize=8)
    low, high = left.get_ylim()
    left.set_ylim(low / 4, high)  # room for the legend
    left.legend(fontsize=8, loc="lower left")
    figure.suptitle(
        "Eight Gaussians on a ring with the exact denoiser: likelihood by two ways"
    )
    return figure


def terms(of_ring: "Ring", of_digits: "Digits") -> Figure:
    """Draw the terms of both bounds, step by step."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, rows, size, title in (
        (left, of_ring.terms, 2, "ring, exact denoiser"),
        (right, of_digits.terms, 64, "held-out digits, trained perceptron"),
    ):
        for name, row in rows.items():
            variance = name.removeprefix("bound, ")
            label, colour = _VARIANCES[variance]
            values = row / (size * np.log(2))
            index = np.arange(len(values))
            axis.loglog(
                index[1:] + 1,
                np.maximum(values[1:], 1e-12),
                color=colour,
                lw=1,
                label=f"variance {label}: sum {values[1:].sum():.3f}, "
                f"$L_0$ = {values[0]:.3f}",
            )
        axis.set(title=title, xlabel="step t + 1", ylabel="$L_t$ / bits per dimension")
        axis.grid(alpha=0.25, which="both")
        axis.legend(fontsize=8)
    figure.suptitle("Terms of the variational bound: what every step costs")
    return figure


def digits(results: "Digits") -> Figure:
    """Draw bits per dimension of the digits by method, beside simple models."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axis = figure.subplots()
    methods = list(results.by_set["held out"])
    labels = [
        *results.baselines,
        *(
            f"diffusion, bound,\nvariance {_VARIANCES[m.removeprefix('bound, ')][0]}"
            if m.startswith("bound")
            else "diffusion, ODE"
            for m in methods
        ),
    ]
    place = np.arange(len(labels))
    simple, own = place[: len(results.baselines)], place[len(results.baselines) :]
    axis.barh(simple, list(results.baselines.values()), 0.6, color="0.7")
    for shift, name, colour in ((0.2, "held out", "C0"), (-0.2, "training", "C1")):
        values = [results.by_set[name][method] for method in methods]
        axis.barh(own + shift, values, 0.36, color=colour, label=f"{name} digits")
    for y, value in [
        *zip(simple, results.baselines.values(), strict=True),
        *zip(own + 0.2, results.by_set["held out"].values(), strict=True),
        *zip(own - 0.2, results.by_set["training"].values(), strict=True),
    ]:
        axis.text(value, y, f" {value:.2f}", va="center", fontsize=8)
    axis.set_yticks(place, labels)
    axis.invert_yaxis()
    axis.set(
        xlabel="bits per dimension (lower is better)",
        title="Digits of 8 × 8 pixels and 17 grey levels",
    )
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside right upper", fontsize=8
    )
    axis.margins(x=0.1)
    return figure
