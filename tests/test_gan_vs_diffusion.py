"""The comparison of GANs and diffusion: its measures, its short run, its results."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from experiments import ddpm, gan_vs_diffusion
from experiments.gan_vs_diffusion import points
from experiments.gan_vs_diffusion.rows import Sampling, rounded, steady_share
from experiments.mixture_gan import protocols
from gamedyn import cli, train
from gamedyn.diffusion import exact, schedules
from gamedyn.recipes import diffusion_points as diffused

RESULTS = Path(gan_vs_diffusion.__file__).parent / "results"


@pytest.fixture(autouse=True)
def _standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("data", ["ring", "grid", "digits"])
def test_short_run(data, folder, quick_classifier):
    command = ["train", "gan_vs_diffusion", "--smoke", "--data", data]
    assert cli.main([*command, "--out", "run"]) == 0
    rows = json.loads(Path("run/summary.json").read_text())["rows"]
    assert [row["evaluations per sample"] for row in rows] == [1, 1, 20, 5, 0]
    assert all(row["gradient evaluations"] > 0 for row in rows[:-1])
    with Path("run/table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5
    assert Path(f"run/samples-{data}.png").stat().st_size > 5000


def test_bad_options(tmp_path):
    with pytest.raises(ValueError, match="data are ring, grid and digits, got"):
        gan_vs_diffusion.main(gan_vs_diffusion.Config(("rings",), tmp_path / "run"))
    assert Sampling.parse("dpm_solver-10") == ("dpm_solver", 10)
    for text in ("ddim", "ddim-", "-3", "ddim-0", "ddim-x"):
        with pytest.raises(ValueError, match=f"such as ddim-50, got '{text}'"):
            Sampling.parse(text)


def test_times_leave_compiling_out():
    state = train.fit(
        lambda z, batch: z,
        gd.simultaneous(optax.sgd(0.1)),
        (jnp.ones(2),),
        None,
        num_steps=4,
        key=jax.random.key(0),
        log_every=1,
    )
    seconds = [10.0, 11.0, 12.0, 13.0]
    rows = [row | {"seconds": s} for row, s in zip(state.history, seconds, strict=True)]
    # Four steps at a second each, of thirteen seconds.
    assert steady_share(state._replace(history=rows)) == pytest.approx(4 / 13)
    assert steady_share(state._replace(history=rows[:1])) == 1
    assert rounded(1.23456) == 1.235
    assert rounded(float("nan")) is None


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_true_points_are_good(name):
    protocol = protocols.PROTOCOLS[name]
    made = diffused.point_set(protocol.data)
    x = diffused.true_points(made, protocols.SAMPLES, 0)[None]
    found = points.judge(protocol, made.law, x)
    assert found["modes"] == len(made.law.means)
    assert found["high quality"] == pytest.approx(0.989, abs=0.01)
    assert found["sliced W1"][0] < 0.06


def test_likelihood_of_the_exact_denoiser():
    """It is that of the law with the chain's least noise added."""
    config = ddpm.complete(ddpm.Config(data="grid25"))
    made = ddpm.setup(config)
    law, chain = made.points.law, made.model.chain
    best, x = exact.model(law, chain), jnp.asarray(points.held_out(made, 5))
    found = points.log_likelihood(made, lambda theta, x, t: best(x, t))((), x)
    least = schedules.sigmas(chain)[0]
    expected = exact.log_density(law, x, 1.0, float(least))
    assert found == pytest.approx(float(jnp.mean(expected)), abs=0.02)


@pytest.mark.parametrize("data", ["ring", "grid", "digits"])
def test_stored_results(data):
    summary = json.loads((RESULTS / data / "summary.json").read_text())
    rows = {row["method"]: row for row in summary["rows"]}
    assert len(rows) == 6
    default = gan_vs_diffusion.Config()
    assert tuple(summary["config"]["seeds"]) == default.seeds
    assert not summary["config"]["tiny"]
    # What is drawn in one evaluation is drawn faster; fewer steps cost less.
    times = [row["seconds per 1,000 samples"] for row in rows.values()]
    assert times[0] < times[4] < times[3] < times[2]
    ddpm_row = rows["diffusion, DDPM-1000"]
    assert ddpm_row["evaluations per sample"] == 1000
    readme = (RESULTS.parent / "README.md").read_text()
    names = ["sliced W1"] if data != "digits" else ["Frechet distance"]
    for method, row in rows.items():
        for name in names:
            assert f"{row[name]:.3g}".lstrip("0") in readme, (method, name)
    assert np.isfinite(times).all()
