"""The experiment on the theory of GANs: its short run finds what it should."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import gan_theory

PICTURES = {
    "discriminator.png",
    "value.png",
    "parallel_lines.png",
    "generator_gradient.png",
}


def test_short_run_finds_what_it_should(tmp_path):
    config = dataclasses.replace(gan_theory.SMOKE, out=tmp_path / "results")
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        summary = gan_theory.main(config)
    assert summary["checks"]
    assert all(summary["checks"].values()), summary["findings"]
    for name in gan_theory.pairs():
        found = summary["findings"][name]
        assert 0.05 < found["js"] < np.log(2)
        assert found["limit of the value"] == pytest.approx(
            2 * found["js"] - np.log(4), abs=1e-5
        )
        assert found["final value"] < found["limit of the value"]

    files = {path.name: path for path in config.out.iterdir()}
    assert set(files) == PICTURES | {"summary.json"}
    assert json.loads(files["summary.json"].read_text()) == summary
    for name in PICTURES:
        assert files[name].read_bytes().startswith(b"\x89PNG")
        assert files[name].stat().st_size > 10_000

    with pytest.raises(FileExistsError, match="already holds results"):
        gan_theory.main(config)


def test_generator_gradients_in_closed_form():
    """With D fixed, the slope in t of the losses is t E D and t E (1 - D)."""
    found = gan_theory.generator_gradients()
    shift, logit = found["shift"], found["logit"]
    noise = np.linspace(-8, 8, 4001)
    masses = np.exp(-(noise**2) / 2) / np.sqrt(2 * np.pi) * (noise[1] - noise[0])
    # D at t + noise: its logit is t^2 / 2 - t (t + noise).
    at = -(shift[:, None] ** 2) / 2 - shift[:, None] * noise
    mean = (masses / (1 + np.exp(-at))).sum(1)
    np.testing.assert_allclose(found["saturating gradient"], shift * mean, atol=1e-9)
    np.testing.assert_allclose(
        found["non-saturating gradient"], shift * (1 - mean), atol=1e-9
    )
    probability = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(found["saturating slope"], -probability, atol=1e-12)
    np.testing.assert_allclose(
        found["non-saturating slope"], probability - 1, atol=1e-12
    )


def test_mixtures_are_what_they_say():
    for pair in gan_theory.pairs().values():
        for law in (pair.p, pair.q):
            density = np.exp(gan_theory.log_densities(law, pair.points))
            assert (density * pair.measure).sum() == pytest.approx(1, abs=1e-3)
