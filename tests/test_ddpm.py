"""The recipe for diffusion models: short runs, its measures, its claims."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments import ddpm
from experiments.ddpm import expected
from gamedyn import cli, nets, recipes, train
from gamedyn.diffusion import exact
from gamedyn.recipes import diffusion_points as points

RESULTS = Path(ddpm.__file__).parent / "results"


@pytest.fixture(autouse=True)
def _standard_promotion():
    # optax's schedules mix dtypes under x64.
    with jax.numpy_dtype_promotion("standard"):
        yield


def config_of(**options):
    return ddpm.complete(dataclasses.replace(ddpm.SMOKE, **options))


# Whole runs. Both kinds of data go through the same loop and the same commands.


@pytest.mark.parametrize("data", ["ring8", "digits"])
def test_short_runs(data, folder, quick_classifier):
    options = ["--steps", "4", "--checkpoint-every", "2", "--chain", "50"]
    command = ["train", "ddpm", "--smoke", "--data", data, *options]
    assert cli.main([*command, "--out", "run"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary.pop("ending") == "all steps were done"
    assert all(map(math.isfinite, summary.values()))
    rows = train.read_metrics(Path("run"))
    assert math.isfinite(rows[-1]["loss"])

    def sample(*options):
        assert cli.main(["sample", "run", "--number", "12", *options]) == 0
        seed = options[1] if "--seed" in options else 0
        with np.load(f"run/sample-{seed}.npz") as stored:
            return stored["points" if data == "ring8" else "images"]

    # Checkpoint and seed make the sample, bit for bit.
    first = sample()
    assert Path("run/sample-0.png").stat().st_size > 100
    assert first.shape == ((12, 2) if data == "ring8" else (12, 8, 8, 1))
    assert_array_equal(sample(), first)
    # Another seed, and options given anew, make another.
    other = ("--seed", "1", "--sampler", "ddpm", "--sampling-steps", "3")
    assert np.mean(sample(*other) != first) > 0.5
    assert cli.main(["sample", "run", "--sampler", "ddin"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", ["--data ring8", "--rule extragradient", "--net dit"]
)
def test_resumed_runs_sample_alike(options, folder, quick_classifier):
    def ended(*more):
        assert cli.main(["train", "ddpm", *more]) == 0
        name = more[1]
        assert cli.main(["sample", name, "--number", "7"]) == 0
        with np.load(f"{name}/sample-0.npz") as stored:
            return stored[stored.files[0]]

    # A constant learning rate, so that a run can be prolonged.
    short = ["--smoke", "--checkpoint-every", "3", "--decay", "constant"]
    short += options.split()
    whole = ended("--out", "whole", "--steps", "6", *short)
    ended("--out", "part", "--steps", "3", *short)
    assert_array_equal(ended("--resume", "part", "--steps", "6"), whole)
    assert len(whole) == 7


@pytest.mark.slow
@pytest.mark.parametrize("data", expected.LINES)
def test_the_lines_are_reached(data, folder):
    """The whole of what the README promises: a few minutes on one core."""
    assert cli.main(["train", "ddpm", "--data", data, "--out", "run"]) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    # How long it takes is for a quiet machine to say.
    late = [line for line in expected.missed(data, summary) if "seconds" not in line]
    assert not late


@pytest.mark.parametrize("data", expected.LINES)
def test_the_stored_results_reach_the_lines(data):
    summary = json.loads((RESULTS / data / "summary.json").read_text())
    assert expected.missed(data, summary) == []
    module, config = recipes.read_record(RESULTS / data)
    assert module is ddpm
    default = ddpm.complete(ddpm.Config(data=data, out=config.out))
    assert config == default, "not the default options"
    readme = (RESULTS.parent / "README.md").read_text()
    for name in expected.LINES[data]:
        if name != "seconds of training":
            assert f"{summary[name]:.3g}".lstrip("0") in readme, name


def test_missed_lines_are_named():
    summary = json.loads((RESULTS / "digits" / "summary.json").read_text())
    wrong = summary | {"accuracy[digits_cnn]": 0.8, "recall[digits_cnn]": 0.3}
    assert [line.split(":")[0] for line in expected.missed("digits", wrong)] == [
        "accuracy[digits_cnn]",
        "recall[digits_cnn]",
    ]


# Measures


def with_net(made, apply):
    net = nets.from_function(lambda key: {}, apply)
    return made._replace(model=made.model._replace(net=net))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_exact_denoiser_has_no_excess(prediction):
    config = config_of(data="ring8", prediction=prediction, chain=1000)
    made = ddpm.setup(config)
    best = exact.model(made.points.law, made.model.chain, prediction)
    found = points.compare(config, with_net(made, lambda _, x, t: best(x, t)), {})
    excess, error, floor = found.values()
    assert excess == 0
    assert error == floor
    # Four million draws of the floor gave .2425 +- .0003.
    assert floor == pytest.approx(0.2425, abs=0.005)
    if prediction == "eps":
        silent = points.compare(config, with_net(made, lambda _, x, t: 0 * x), {})
        assert silent["squared error of the noise"] == pytest.approx(1, abs=0.01)


def test_judging_points():
    ring = points.point_set("ring8")
    true = points.true_points(ring, 20_000, 3)
    found = points.judge(ring, true, 0)
    assert found["sliced W1"] < 0.025
    assert found["within-mode standard deviation"] == pytest.approx(0.2, abs=0.003)
    assert found["mode weights, total variation"] < 0.02
    assert found["modes"] == 8
    assert found["high quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert found["- log p"] == pytest.approx(1.555, abs=0.03)  # the entropy
    # A shift by d moves projections by d |cos|, 2 d / pi on average.
    shifted = points.judge(ring, true + np.float32([0.5, 0]), 0)
    assert shifted["sliced W1"] == pytest.approx(1 / math.pi, abs=0.05)
    assert shifted["within-mode standard deviation"] > 0.2
    centres = np.float32(ring.law.means)
    step = np.float32(0.1)
    pairs = np.concatenate([centres + step, centres - step] * 1250)
    found = points.judge(ring, pairs, 0)
    assert found["within-mode standard deviation"] == pytest.approx(0.1, rel=0.01)


def test_sets_of_points():
    for name in ("grid25", "swissroll"):
        assert points.known(name)
        drawn = points.true_points(points.point_set(name), 1000, 0)
        assert drawn.dtype == np.float32
        assert 0.5 < drawn.std() < 1.5
    assert not points.known("digits")
    law = points.point_set("grid25").law
    assert_allclose(np.std(law.means), 1)
    assert points.judge(points.point_set("swissroll"), drawn, 0)["sliced W1"] < 0.1


# Networks and options


@pytest.mark.parametrize(
    ("data", "shape", "parameters"),
    [
        # Known counts of the unconditional networks, and a row for each of 11 classes.
        ("mnist", (28, 28, 1), 1_623_169 + 11 * 4 * 32),
        ("cifar10", (32, 32, 3), 35_746_307 + 11 * 4 * 128),
    ],
)
def test_networks_of_pictures(data, shape, parameters):
    config = ddpm.complete(ddpm.Config(data=data))
    net = ddpm.picture_net(config.net, shape, config.width, 10)
    params = jax.eval_shape(net.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    t, labels = (jax.ShapeDtypeStruct((2,), kind) for kind in (jnp.float32, jnp.int32))
    assert jax.eval_shape(net.apply, params, x, t, labels).shape == x.shape


@pytest.mark.parametrize("kind", ["mlp", "dit", "unet"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (16, 24, 3)])
def test_networks_fit_the_pictures(kind, shape):
    net = ddpm.picture_net(kind, shape, 16, 3)
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    t, labels = (jax.ShapeDtypeStruct((2,), kind) for kind in (jnp.float32, jnp.int32))
    assert jax.eval_shape(net.apply, params, x, t, labels).shape == x.shape


def test_bfloat16_tells_neighbouring_steps_apart():
    config = config_of(dtype="bfloat16", chain=1000)
    net = ddpm.setup(config).model.net
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: generator.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(net.init, jax.random.key(0)),
    )
    x, labels = jnp.ones((2, 8, 8, 1), jnp.float32), jnp.zeros(2, jnp.int32)
    y = net.apply(params, x, jnp.array([998.0, 999.0], jnp.float32), labels)
    assert y.dtype == jnp.float32
    assert not jnp.array_equal(y[0], y[1])


def test_guidance_compiles_nothing_of_its_own_at_zero():
    plain, guided = (ddpm.setup(config_of(guidance=w)) for w in (0.0, 1.0))
    theta = jax.eval_shape(plain.model.net.init, jax.random.key(0))
    asked = jax.ShapeDtypeStruct((4,), jnp.int32)

    def rows(made):
        drawn = jax.make_jaxpr(
            lambda theta, labels: made.model.draw(
                theta, jax.random.key(0), made.model.sampler, labels, (4, 8, 8, 1)
            )
        )(theta, asked)
        return "8,64]" in str(drawn)  # both halves of a guided batch, as rows

    assert [rows(plain), rows(guided)] == [False, True]


def test_bad_options():
    for options, message in (
        ({"data": "ring8", "net": "unet"}, "points need the net mlp"),
        ({"data": "ring8", "schedule": "cosin"}, "cosine"),
        ({"data": "ring8", "sampler": "ddin"}, "ddim"),
        ({"data": "ring8", "chain": 100, "sampling_steps": 200}, "100 steps cannot"),
        ({"data": "ring8", "rule": "alternatin"}, "alternating"),
    ):
        with pytest.raises(ValueError, match=message):
            ddpm.setup(config_of(**options))
    with pytest.raises(ValueError, match="net must be mlp, dit or unet"):
        ddpm.picture_net("vae", (8, 8, 1), 16, 10)


@pytest.mark.parametrize("rule", ["extragradient", "optimistic", "lookahead", "adam"])
def test_any_rule_of_one_player(rule):
    rule = ddpm.make_rule(config_of(rule=rule))
    params = ({"w": jnp.ones(3)},)
    state = rule.init(params)
    batches = (None,) * rule.num_batches
    moved, _ = jax.jit(lambda z, s: rule.update(lambda z, b: z, z, s, batches))(
        params, state
    )
    assert float(jnp.max(moved[0]["w"])) <= 1
