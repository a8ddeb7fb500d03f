"""The pictures of the chain and of the samplers."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from gamedyn.diffusion import exact, schedules

if TYPE_CHECKING:
    from . import Chain, Row

_SIDE = 3.2
_NAMES = {
    "ddpm": r"DDPM, $\tilde\beta$",
    "ddpm, beta": r"DDPM, $\beta$",
    "ddim": "DDIM",
    "dpm_solver": "DPM-Solver++ 2M",
    "euler": "Euler, EDM levels",
    "heun": "Heun, EDM levels",
    "predictor_corrector": "predictor-corrector",
}
_COLOURS = {name: f"C{i}" for i, name in enumerate(_NAMES)}


def chain(
    chain: "Chain",
    law: exact.GaussianMixture,
    schedule: schedules.Schedule,
    points: int = 1000,
) -> Figure:
    """Draw forward and reverse chains over the exact densities."""
    columns = len(chain.shown)
    figure = Figure(figsize=(2.1 * columns, 7.4), layout="constrained")
    axes = figure.subplots(3, columns, sharex=True, sharey=True)
    side = np.linspace(-_SIDE, _SIDE, 120)
    grid = jnp.asarray(
        np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), jnp.float32
    )
    density = jax.jit(lambda a, s: exact.log_density(law, grid, a, s))
    rows = (
        ("forward: noise is added", chain.forward, "C0"),
        ("reverse: DDPM", chain.ddpm, "C3"),
        ("reverse: DDIM", chain.ddim, "C2"),
    )
    for column, t in enumerate(chain.shown):
        a, s = (1.0, 0.0) if t < 0 else (schedule.signal[t], schedule.noise[t])
        values = np.exp(density(jnp.float32(a), jnp.float32(s)))
        for row, (_, samples, colour) in enumerate(rows):
            axis = axes[row, column]
            axis.pcolormesh(
                side,
                side,
                values.reshape(len(side), -1),
                cmap="Greys",
                vmin=0,
                vmax=1.6 * values.max(),
                rasterized=True,
            )
            axis.plot(*samples[column, :points].T, ".", ms=1.2, color=colour, alpha=0.5)
            axis.set(aspect="equal", xlim=(-_SIDE, _SIDE), ylim=(-_SIDE, _SIDE))
            axis.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        title = "data" if t < 0 else f"after step {t + 1}"
        axes[0, column].set_title(f"{title}\n$\\bar\\alpha$ = {a**2:.2g}", fontsize=9)
        axes[2, column].set_xlabel("$x_1$")
    for row, (label, _, _) in enumerate(rows):
        arrow = "time runs to the right" if row == 0 else "time runs to the left"
        axes[row, 0].set_ylabel(f"{label}\n({arrow})\n$x_2$", fontsize=9)
    figure.suptitle(
        "The chain of a mixture of eight Gaussians: samples over the exact density "
        "(grey) of every step"
    )
    return figure


def gaussian(curves: dict[str, dict[str, list[float]]]) -> Figure:
    """Draw what every sampler makes of one Gaussian, by network evaluations."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rows in curves.items():
        sampler, _, schedule = name.rpartition(", ")
        style = {
            "color": _COLOURS[sampler],
            "ls": "--" if schedule == "cosine" else "-",
            "marker": ".",
            "label": _NAMES[sampler] + (", cosine" if schedule == "cosine" else ""),
        }
        x = rows["evaluations"]
        left.loglog(x, np.maximum(np.abs(np.array(rows["mean"]) - 1), 1e-7), **style)
        right.loglog(x, np.abs(np.array(rows["deviation"]) - 0.5), **style)
    left.set(ylabel="|mean − 1|, cut off at 1e-7", title="error of the mean")
    right.set(ylabel="|deviation − .5|", title="error of the standard deviation")
    for axis in (left, right):
        axis.set_xlabel("network evaluations")
        axis.grid(alpha=0.25, which="both")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.suptitle(
        "N(1, .5²) with its exact denoiser: mean and deviation by recursion, no "
        "sampling"
    )
    return figure


def mixture(rows: "list[Row]", entropy: float) -> Figure:
    """Draw distance, width and surprise on the ring, by network evaluations."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    floor = rows[0].scores
    for name in _NAMES:
        chosen = [row for row in rows if row.sampler == name]
        x = [row.evaluations for row in chosen]
        style = {"color": _COLOURS[name], "marker": ".", "label": _NAMES[name]}
        axes[0].loglog(x, [row.scores.distance for row in chosen], **style)
        axes[1].semilogx(x, [row.scores.width for row in chosen], **style)
        axes[2].semilogx(x, [row.scores.surprise for row in chosen], **style)
    truth = {"color": "black", "ls": ":"}
    axes[0].axhline(floor.distance, label="true samples", **truth)
    axes[1].axhline(0.2, label="truth", **truth)
    axes[2].axhline(entropy, label="entropy", **truth)
    axes[0].set(ylabel="sliced $W_1$ to true samples", title="distance")
    axes[1].set(
        ylabel="deviation around the nearest centre",
        title="width of the modes",
        ylim=(0.1, 0.35),
    )
    axes[2].set(
        ylabel="−E log p under the truth / nat", title="surprise", ylim=(0.8, 3)
    )
    for axis in axes:
        axis.set_xlabel("network evaluations")
        axis.grid(alpha=0.25, which="both")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.suptitle("Eight modes on a ring with their exact denoiser")
    return figure
