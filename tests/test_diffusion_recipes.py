"""The experiments on exact diffusion and on likelihoods: their short runs."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import diffusion_exact, diffusion_likelihood
from gamedyn import recipes

FILES = {
    "exact": {"chain.png", "gaussian.png", "mixture.png", "samplers.csv"},
    "likelihood": {"exact.png", "terms.png", "digits.png"},
}


def run(recipe, folder, files):
    config = dataclasses.replace(recipe.SMOKE, out=folder / "results")
    # optax's Adam mixes dtypes under x64.
    with jax.numpy_dtype_promotion("standard"):
        summary = recipes.run(recipe, config)
    assert all(summary["checks"].values()), summary
    found = {path.name: path for path in config.out.iterdir()}
    assert set(found) == files | {"run.json", "summary.json"}
    assert json.loads(found["summary.json"].read_text()) == summary
    for name, path in found.items():
        if name.endswith(".png"):
            assert path.read_bytes().startswith(b"\x89PNG")
            assert 20_000 < path.stat().st_size < 600_000
    with pytest.raises(FileExistsError, match="already holds results"):
        recipe.main(config)
    return summary, found


def test_exact(tmp_path):
    summary, found = run(diffusion_exact, tmp_path, FILES["exact"])
    assert summary["entropy"] == pytest.approx(1.555, abs=1e-3)
    assert len(summary["checks"]) == 5
    lines = found["samplers.csv"].read_text().splitlines()
    assert len(lines) == 2 + len(diffusion_exact.SAMPLERS)
    # The Gaussian's limits: beta-tilde too narrow, beta too wide.
    narrow, wide = (
        summary["gaussian"][f"{name}, linear"]["50"][1]
        for name in ("ddpm", "ddpm, beta")
    )
    assert narrow < 0.5 < wide


def test_likelihood(tmp_path):
    summary, _ = run(diffusion_likelihood, tmp_path, FILES["likelihood"])
    simple = summary["digits, bits per dimension"]["simple models"]
    assert simple["uniform"] == pytest.approx(np.log2(17), abs=1e-5)
    assert simple["every pixel alone"] < simple["uniform"]


def test_bits_of_levels_are_those_of_a_discrete_law():
    """A density constant on every bin has the bits of its bins' probabilities."""
    shares = np.array([0.5, 0.25, 0.25])
    log_density = np.log(shares * diffusion_likelihood.LEVELS / 2)
    bits = diffusion_likelihood.of_levels(-(shares @ log_density))
    assert bits == pytest.approx(1.5)
