"""The experiment on GAN landscapes: what it says holds at the points it examined."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import gan_landscape as experiment
from experiments.gan_landscape import SMOKE, Config, training
from gamedyn import analysis, recipes

# Compilation takes nearly all the time, and nothing here is about speed.
COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
PICTURES = {"curvature.png", "jacobian.png", "path.png", "samples.png"}


def run(config, folder):
    config = dataclasses.replace(config, out=folder / "results")
    # optax's Adam needs standard promotion.
    with jax.numpy_dtype_promotion("standard"):
        summary = recipes.run(experiment, config)
    assert all(summary["checks"].values()), summary
    files = {path.name: path for path in config.out.iterdir()}
    arrays = {f"{name}.npz" for name in config.cases}
    written = {"run.json", "summary.json", "findings.json", "table.txt"}
    assert set(files) == PICTURES | arrays | written
    assert json.loads(files["summary.json"].read_text()) == summary
    for name in PICTURES:
        assert files[name].read_bytes().startswith(b"\x89PNG")
        assert 10_000 < files[name].stat().st_size < 150_000
    findings = json.loads(files["findings.json"].read_text())
    assert list(findings) == list(config.cases)
    return config.out, summary, findings


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        return run(SMOKE, tmp_path_factory.mktemp("gan_landscape"))
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_short_run_says_what_it_should(short):
    out, summary, findings = short
    (name,) = SMOKE.cases
    points = findings[name]["points"]
    assert list(points) == ["start", "middle", "end"]
    table = (out / "table.txt").read_text()
    for label, point in points.items():
        assert point["verdict"] == "NOT_STATIONARY"
        assert point["residual"] > point["tolerance"]
        assert f"{label:8}{point['residual']:10.1e}  NOT_STATIONARY" in table
        assert point["flow"]["stability"] in ("stable", "unstable", "undecided")
    assert summary["conclusions"][name].startswith("stationary: no")
    for label in ("start", "middle"):
        cosines = np.array(findings[name]["path"][f"from the {label}"]["cosines"])
        assert cosines.shape == (SMOKE.num_positions,)
        assert np.all(np.abs(cosines) <= 1 + 1e-12)


def test_eigenvalues_are_those_of_the_dense_jacobian(short):
    """The last point again, from its file, by a dense matrix and numpy."""
    out, _, findings = short
    (name,) = SMOKE.cases
    case = training.in_float64(training.make(name, SMOKE))
    shapes = jax.eval_shape(case.init, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
    with np.load(out / f"{name}.npz") as points:
        end = ravel_pytree(zeros)[1](jnp.asarray(points["end"], jnp.float64))
    dense = jax.jit(analysis.game_jacobian, compiler_options=COMPILE)
    jacobian = np.asarray(dense(case.game, end, case.fixed))
    found = findings[name]["points"]["end"]
    cut = findings[name]["parameters"][0]
    for part, player in zip(
        (jacobian[:cut, :cut], jacobian[cut:, cut:]), found["players"], strict=True
    ):
        eigenvalues = np.linalg.eigvalsh((part + part.T) / 2)
        scale = np.abs(eigenvalues).max()
        assert player["smallest"] == pytest.approx(eigenvalues[0], abs=1e-2 * scale)
        assert player["largest"] == pytest.approx(eigenvalues[-1], abs=1e-2 * scale)
        if player["curvature"] == "NOT_PSD_CERTIFIED":
            assert eigenvalues[0] < 0
    eigenvalues = np.linalg.eigvals(jacobian)
    flow = found["flow"]
    assert flow["smallest real part"] == pytest.approx(
        eigenvalues.real.min(), abs=1e-2 * np.abs(eigenvalues).max()
    )
    if flow["stability"] != "undecided":
        assert (flow["stability"] == "unstable") == (eigenvalues.real.min() < 0)


@pytest.mark.parametrize(
    ("value", "residual", "converged", "expected"),
    [
        (-0.5 + 1j, 0.1, False, "unstable"),
        (-0.05 + 1j, 0.1, True, "undecided"),
        (0.5 + 0j, 0.1, True, "stable"),
        (0.5 + 0j, 0.1, False, "undecided"),
    ],
)
def test_flow_is_called_stable_only_where_that_is_settled(
    value, residual, converged, expected
):
    flow = SimpleNamespace(
        values=np.array([value]),
        residuals=np.array([residual]),
        converged=np.array([converged]),
    )
    assert experiment.stability(flow) == expected


def test_wrong_settings_are_named(tmp_path):
    out = tmp_path / "results"
    with pytest.raises(ValueError, match="expected cases among ring, .* got torus"):
        experiment.main(Config(out=out, cases=("torus",)))
    with pytest.raises(ValueError, match="even number of steps, got ring and 3"):
        experiment.main(Config(out=out, cases=("ring",), num_steps=3))
    assert not out.exists()


@pytest.mark.slow
def test_full_run(tmp_path):
    _, summary, _ = run(Config(), tmp_path)
    assert set(summary["conclusions"]) == {"ring", "ring_wgan_gp", "digits"}
