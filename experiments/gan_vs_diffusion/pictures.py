"""The digits: GANs as in `cgan` and `wgan`, diffusion as in `ddpm`."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gamedyn import train
from gamedyn.recipes import diffusion_pictures as diffused
from gamedyn.recipes import image_gans

from .. import cgan, ddpm, wgan
from .rows import (
    Cost,
    Sampling,
    row,
    size,
    timed,
    trained,
)

_TIMED = 360
_MEASURES = {
    "frechet[digits_cnn]": "Frechet distance",
    "precision[digits_cnn]": "precision",
    "recall[digits_cnn]": "recall",
    "coverage[digits_cnn]": "coverage",
    "accuracy[digits_cnn]": "classified as asked",
    "distance to the nearest training picture": "nearest training picture",
}

GANS = {
    "cGAN, Adam + R1 + R2": (
        cgan,
        cgan.Config(
            norm="layer",
            penalties="r1,r2",
            penalty_weight=1.0,
            width=32,
            batch_size=64,
            steps=2000,
            average=0.99,
        ),
        2,
    ),
    "WGAN-GP, no classes": (wgan, wgan.Config(), 6),
}
"""Recipe, options, gradient evaluations per step."""


def compare(
    config: Any, name: str, samplings: list[Sampling]
) -> tuple[list[dict[str, Any]], Any]:
    """Train and sample every model on the digits.

    Returns:
        The rows, and a figure of samples.
    """
    rows, shown = [], {}
    tiny = {"steps": 4, "width": 8, "checkpoint_every": 4, "sample_every": 4}
    for method, (recipe, options, moves) in GANS.items():
        options = dataclasses.replace(options, **(tiny if config.tiny else {}))
        made = recipe.setup(options)
        state, spent = _trained(image_gans.fit, options, made)
        theta = state.averaged[0]
        cost = Cost(size(state.params), options.steps * moves, spent)
        labels = made.held_out.labels[:_TIMED]
        generator = made.generator
        latents = image_gans.LATENT(jax.random.key(0), _TIMED, np.float32)
        asked = (labels,) if made.conditional else ()
        draw = functools.partial(jax.jit(generator.apply), theta, latents, *asked)
        seconds = timed(draw, _TIMED)
        scores = image_gans.measure(options, made, theta)
        rows.append(row(name, method, cost, 1, seconds, _renamed(scores)))
        shown[method] = image_gans.generate(made, theta, 50, 0, np.arange(50) % 10)
        print(rows[-1], flush=True)
    options = ddpm.Config()
    if config.tiny:
        options = dataclasses.replace(options, chain=50, **tiny)
    options = ddpm.complete(options)
    made = ddpm.setup(options)
    state, spent = _trained(diffused.fit, options, made)
    theta = state.averaged[0]
    cost = Cost(size(state.params), options.steps, spent)
    scores: dict[str, Any] = {}
    for sampling in samplings:
        options = dataclasses.replace(
            options, sampler=sampling.sampler, sampling_steps=sampling.steps
        )
        made = ddpm.setup(options)

        labels = made.held_out.labels[:_TIMED]
        draw = functools.partial(diffused.generate, made, theta, _TIMED, 0, labels)
        seconds = timed(draw, _TIMED)
        scores = diffused.measure(options, made, theta)
        evaluations = made.model.sampler.num_evaluations
        rows.append(
            row(name, sampling.title, cost, evaluations, seconds, _renamed(scores))
        )
        labels = np.arange(50) % 10
        shown[sampling.title] = diffused.generate(made, theta, 50, 0, labels)
        print(rows[-1], flush=True)
    real = {measure: scores.get(f"{measure}, real") for measure in _MEASURES}
    real["accuracy[digits_cnn]"] = scores["classifier's test accuracy"]
    nearest = "distance to the nearest training picture"
    real[nearest] = scores[f"{nearest}, held-out"]
    rows.append(row(name, "real pictures", Cost(0, 0, 0.0), 0, 0.0, _renamed(real)))
    shown["real pictures"] = made.held_out.images[:50]
    return rows, figure(shown)


def _trained(fit: Any, options: Any, made: Any) -> tuple[train.TrainState, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(options, out=Path(folder) / "run")
        return trained(functools.partial(fit, run, made))


def _renamed(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        title: getattr(scores[measure], "value", scores[measure])
        for measure, title in _MEASURES.items()
        if measure in scores
    }


def figure(shown: dict[str, np.ndarray]) -> Any:
    """Draw samples side by side, ten in a row; asked for as 0 to 9 where asked."""
    from matplotlib.figure import Figure

    lines = -(-len(shown) // 3)
    drawing = Figure(figsize=(9.6, 2.0 * lines), layout="constrained")
    panels = drawing.subplots(lines, 3, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, (title, images) in zip(panels.flat, shown.items(), strict=False):
        grid = train.grid(np.round(images * (255 / 16)).astype(np.uint8), 10)
        axes.imshow(grid[:, :, 0], cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=10)
    return drawing
