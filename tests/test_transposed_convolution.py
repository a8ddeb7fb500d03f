"""The experiment on transposed convolutions: its numbers, pictures and counts."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from experiments import transposed_convolution as experiment
from experiments.transposed_convolution import (
    SETTINGS,
    SMOKE,
    Config,
    Setting,
    definition,
)
from gamedyn import recipes

PICTURES = {"matrix.png", "painting.png", "checkerboard.png"}


def run(config, folder):
    config = dataclasses.replace(config, out=folder / "results")
    summary = recipes.run(experiment, config)
    assert all(summary["checks"].values()), summary
    assert len(summary["errors"]) == config.num_settings
    files = {path.name: path for path in config.out.iterdir()}
    assert set(files) == PICTURES | {"run.json", "summary.json", "errors.txt"}
    assert json.loads(files["summary.json"].read_text()) == summary
    for name in PICTURES:
        assert files[name].read_bytes().startswith(b"\x89PNG")
        assert 10_000 < files[name].stat().st_size < 150_000
    return summary


def test_short_run_finds_what_it_should(tmp_path):
    summary = run(SMOKE, tmp_path)
    assert summary["times a pixel is painted"] == {
        "(4, 2, 1, 0)": [4],
        "(3, 2, 1, 1)": [1, 2, 4],
    }
    with pytest.raises(FileExistsError, match="already holds results"):
        experiment.main(dataclasses.replace(SMOKE, out=tmp_path / "results"))


@pytest.mark.slow
def test_all_settings(tmp_path):
    run(Config(), tmp_path)


@pytest.mark.parametrize("setting", SETTINGS)
def test_definition_is_a_full_convolution_of_spread_pixels(setting):
    """Scipy's own convolution of x with zeros in between, cropped by the padding."""
    k, s, p, e = setting
    draw = np.random.default_rng(1).normal
    x, weight = draw(size=(2, 5, 5, 2)), draw(size=(2, 3, k, k))
    got = experiment.scatter(x, weight, setting)
    spread = np.zeros((2, 4 * s + 1 + e, 4 * s + 1 + e, 2))
    spread[:, : 4 * s + 1 : s, : 4 * s + 1 : s] = x
    rows = experiment.output_size(setting, 5)
    assert got.shape == (2, rows, rows, 3)
    for b, o in np.ndindex(2, 3):
        full = sum(signal.convolve2d(spread[b, ..., c], weight[c, o]) for c in range(2))
        np.testing.assert_allclose(
            got[b, ..., o], full[p:, p:][:rows, :rows], atol=1e-12
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_every_form_keeps_the_precision(dtype):
    setting = Setting(3, 2, 1, 1)
    draw = np.random.default_rng(2).normal
    x, weight = draw(size=(1, 3, 3, 1)), draw(size=(1, 1, 3, 3))
    expected = experiment.scatter(x, weight, setting)
    found = experiment.forms(jnp.asarray(x, dtype), jnp.asarray(weight, dtype), setting)
    wrong = found.pop("not flipped")
    tolerance = 100 * float(jnp.finfo(dtype).eps)
    for name, y in found.items():
        assert y.dtype == dtype, name
        np.testing.assert_allclose(y, expected, atol=tolerance, err_msg=name)
    assert wrong.shape == expected.shape
    assert np.abs(np.asarray(wrong) - expected).max() > 0.1


def test_pictured_matrix_is_that_of_the_layer():
    from experiments.transposed_convolution import pictures

    setting = Setting(3, 2, 1, 1)
    matrix = definition.matrix(setting, pictures.KERNEL, 6)
    assert matrix.shape == (9, 36)
    x = np.random.default_rng(3).normal(size=9)
    painted = experiment.scatter(
        x.reshape(1, 3, 3, 1), pictures.KERNEL[None, None], setting
    )
    np.testing.assert_allclose(matrix.T @ x, painted.ravel(), rtol=1e-5, atol=1e-5)
    assert set(np.unique(matrix)) == {0, *range(1, 10)}


def test_float64_is_left_as_it_was(tmp_path):
    before = jax.config.jax_enable_x64
    experiment.errors(SMOKE, SETTINGS[0])
    assert jax.config.jax_enable_x64 == before
