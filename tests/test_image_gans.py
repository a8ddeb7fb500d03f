"""The recipes for GANs of pictures: whole runs, their options, data of one's own."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from experiments import cgan, dcgan, stacked_mnist, wgan
from gamedyn import cli, data, nets, recipes, train
from gamedyn.recipes import image_gans, pictures

slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(quick_classifier):
    # optax's Adam mixes dtypes under x64.
    with jax.numpy_dtype_promotion("standard"):
        yield


# Whole runs.


def affine(inputs, outputs, shape, classes):
    """A network of one layer, quickly compiled, with a bias for each class."""

    def init(key):
        bias = 0.1 * jnp.arange(classes or 1, dtype=jnp.float32)
        return {"w": 0.1 * jnp.ones((inputs, outputs), jnp.float32), "b": bias}

    def apply(params, x, labels=None):
        y = x.reshape(len(x), -1) @ params["w"]
        bias = params["b"][jnp.zeros(len(x), int) if labels is None else labels]
        return jnp.tanh(y + bias[:, None]).reshape(len(x), *shape)

    return nets.from_function(init, apply)


@pytest.fixture
def small_networks(monkeypatch):
    """Let the recipes run with affine networks."""

    def generator(size, *, channels, latent, num_classes=None, **options):
        shape = size, size, channels
        return affine(latent, math.prod(shape), shape, num_classes)

    def discriminator(size, *, channels, num_classes=None, **options):
        return affine(size * size * channels, 1, (), num_classes)

    monkeypatch.setattr(nets, "dcgan_generator", generator)
    monkeypatch.setattr(nets, "dcgan_discriminator", discriminator)


RUNS = {
    "dcgan": "dcgan --norm layer --penalties r1,r2 --dtype bfloat16",
    "gradient_penalty": "wgan",
    "clip": "wgan --variant clip",
    "spectral": "wgan --variant spectral",
    "stacked": "stacked_mnist --pack 2",
}


@pytest.mark.parametrize(
    "run",
    [
        "dcgan",
        pytest.param("gradient_penalty", marks=slow),
        pytest.param("stacked", marks=slow),
    ],
)
def test_short_runs(run, small_networks, folder):
    check_run(RUNS[run])


@slow
@pytest.mark.parametrize("run", RUNS)
def test_short_runs_with_convolutions(run, folder):
    check_run(RUNS[run])


def check_run(command):
    recipe, *options = command.split()
    arguments = ["train", recipe, "--smoke", "--steps", "4", "--out", "run", *options]
    assert cli.main(arguments) == 0
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary.pop("ending") == "all steps were done"
    assert summary.pop("steps") == 4
    assert all(map(math.isfinite, summary.values()))
    assert summary["classifier's test accuracy"] > 0.8
    if recipe == "stacked_mnist":
        # 500 stacks of 1,000 triples: about 1000 (1 - .999^500) of them.
        assert summary["modes of 1,000, real"] == pytest.approx(394, abs=50)
        assert 1 <= summary["modes of 1,000"] <= 500
    else:
        means = summary["frechet[digits_cnn], class means"]
        assert 0 < summary["frechet[digits_cnn], real"] < means
    rows = train.read_metrics(Path("run"))
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_sampling_and_evaluating(small_networks, folder):
    check_sampling()


@slow
def test_sampling_and_evaluating_with_convolutions(folder):
    check_sampling()


def check_sampling():
    arguments = ["train", "cgan", "--smoke", "--steps", "4", "--sample-every", "2"]
    assert cli.main([*arguments, "--out", "run"]) == 0
    assert [path.name for path in train.sample_paths("run/samples")] == [
        "samples-00000002.png",
        "samples-00000004.png",
    ]
    assert Path("run/training.gif").is_file()
    assert cli.main(["sample", "run", "--number", "12", "--seed", "3"]) == 0
    with np.load("run/sample-3.npz") as stored:
        assert_array_equal(stored["labels"], np.arange(12) % 10)
        images = stored["images"]
    assert images.shape == (12, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.max() <= 16
    # The picture shows the array, row by row.
    shown = data.readers.read_png("run/sample-3.png")
    assert_array_equal(shown[:8, 9:17], np.round(images[1] * (255 / 16)))

    summary = json.loads(Path("run/summary.json").read_text())
    module, config = recipes.read_record(Path("run"))
    again = module.evaluate(config)
    assert again.pop("step") == 4
    again = {name: getattr(value, "value", value) for name, value in again.items()}
    assert again == {key: summary[key] for key in again}
    assert set(summary) - set(again) == {"steps", "ending", "seconds of training"}
    # Every metric is stored with what it depends on.
    stored = json.loads(Path("run/measurements.json").read_text())
    assert stored["step"] == 4
    full = stored["measurements"]
    assert set(again) - set(full) == {"classifier's test accuracy", "pictures"}
    for name, entry in full.items():
        assert entry["value"] == again[name]
    frechet = full["frechet[digits_cnn]"]
    assert len(frechet["weights"]) == 64
    counts = frechet["n_generated"], frechet["n_reference"], frechet["split"]
    assert counts == (360, 360, "test")
    whose = {entry["generator"] for name, entry in full.items() if "frechet" in name}
    assert whose == {"ema", "real", "baseline"}


@slow
def test_resumed_runs_and_several_devices_end_alike(folder):
    def ended(*options):
        assert cli.main(["train", "dcgan", *options]) == 0
        average = train.load(Path(options[1])).arrays["average"]
        return [np.asarray(leaf) for leaf in jax.tree.leaves(average)]

    short = ["--smoke", "--checkpoint-every", "3"]
    whole = ended("--out", "whole", "--steps", "6", *short)
    ended("--out", "part", "--steps", "3", *short)
    resumed = ended("--resume", "part", "--steps", "6")
    spread = ended("--out", "spread", "--steps", "6", "--devices", "2", *short)
    for one, two, three in zip(whole, resumed, spread, strict=True):
        assert_array_equal(one, two)
        assert_allclose(one, three, rtol=0, atol=1e-4)


# Options.


def drawn(net):
    """Random parameters of a network, without compiling its initialiser."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: 0.1 * generator.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(net.init, jax.random.key(0)),
    )


def test_penalties():
    config = dataclasses.replace(dcgan.SMOKE, norm="layer", penalties="r1, r2")
    terms = dcgan.setup(config).game.losses.func.terms
    assert [term.name for term in terms] == ["r1", "r2"]
    for change, message in (
        ({"norm": "batch"}, "normalisation couples the examples"),
        ({"penalties": "r3"}, "r3"),
        ({"penalties": "consistency"}, "those of gradients, got consistency"),
    ):
        with pytest.raises(ValueError, match=message):
            dcgan.setup(dataclasses.replace(config, **change))


def test_packing_and_conditions_exclude_each_other():
    with pytest.raises(ValueError, match="packing joins examples"):
        cgan.setup(dataclasses.replace(cgan.SMOKE, pack=2))


def test_bfloat16():
    config = dataclasses.replace(dcgan.SMOKE, dtype="bfloat16")
    kept, coarse = (dcgan.setup(c).discriminator for c in (dcgan.SMOKE, config))
    params = drawn(kept)
    x = np.random.default_rng(1).random((4, 8, 8, 1), np.float32)
    exact, rounded = (jax.jit(net.apply)(params, x) for net in (kept, coarse))
    assert rounded.dtype == jnp.float32
    error = float(jnp.max(jnp.abs(exact - rounded)) / jnp.max(jnp.abs(exact)))
    assert 1e-5 < error < 0.1


def test_too_many_devices():
    config = dataclasses.replace(dcgan.SMOKE, devices=99)
    with pytest.raises(ValueError, match="got 99 devices, there are"):
        dcgan.main(config)


def test_clipping_is_a_projection_of_the_critic():
    config = wgan.Config(variant="clip", clip=0.3, n_critic=2, learning_rate=0.1)
    rule = wgan.setup(config).rule
    params = (jnp.array([5.0, -5.0]), jnp.array([5.0, -0.05]))
    seen = []

    def field(params, batch):
        seen.append((batch, params))
        return jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])

    (theta, phi), _ = rule.update(field, params, rule.init(params), (0, 1, 2))
    # RMSProp's first step divides by sqrt(.01) |g|: it moves by lr / .1 = 1, the second
    # by .1 / sqrt(.0199).
    assert [batch for batch, _ in seen] == [0, 1, 2]
    assert_allclose(seen[1][1][1], [0.3, -0.3])
    assert_allclose(phi, [-0.3, -0.3])
    assert_allclose(theta, [4.0, -6.0], rtol=1e-6)
    with pytest.raises(ValueError, match="must be one of clip, gradient_penalty"):
        wgan.setup(dataclasses.replace(config, variant="clipp"))


def test_the_critics_of_the_variants():
    assert not wgan.setup(wgan.SMOKE).discriminator.batch_statistics
    made = wgan.setup(dataclasses.replace(wgan.SMOKE, variant="spectral"))
    params = drawn(made.discriminator)
    x = np.random.default_rng(1).random((3, 8, 8, 1), np.float32)
    # Kernels count by their direction only.
    longer = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 3 * leaf if path[-1].key == "kernel" else leaf, params
    )
    judge = jax.jit(made.discriminator.apply)
    assert_allclose(judge(params, x), judge(longer, x), rtol=1e-4)


# Metrics.


def constant(picture):
    """A network whose every picture is the same."""

    def apply(params, z):
        return jnp.broadcast_to(picture, (len(z), *picture.shape))

    return nets.from_function(lambda key: {}, apply)


def test_a_collapsed_generator_has_one_mode():
    config = dataclasses.replace(stacked_mnist.SMOKE, stacks=100)
    made = stacked_mnist.setup(config)
    picture = data.sets.scale(made.held_out.images[0], 16)
    found = stacked_mnist.measure(
        config, made._replace(generator=constant(picture)), {}
    )
    assert found["modes of 1,000"].value == 1
    assert found["reverse divergence"].value == pytest.approx(math.log(1000))
    assert found["reverse divergence, real"].value < 1.5


# Data of one's own.


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_own_file(digits, tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, images=digits.images[:200, :, :, 0], labels=digits.labels[:200])
    training, held_out = pictures.load(pictures.Options(data=str(path)))
    assert (len(training), len(held_out)) == (180, 20)
    assert training.num_classes == held_out.num_classes == 10

    def rows(*parts):
        joined = np.concatenate([part.images.reshape(len(part), -1) for part in parts])
        return joined[np.lexsort(joined.T)]

    whole = dataclasses.replace(
        digits, images=digits.images[:200], labels=digits.labels[:200]
    )
    assert_array_equal(rows(training, held_out), rows(whole))


def test_own_folder(digits, tmp_path):
    for index in range(120):
        train.write_png(15 * digits.images[index], tmp_path / f"{index}.png")
    config = dataclasses.replace(dcgan.SMOKE, data=f"{tmp_path}/")
    made = dcgan.setup(config)
    assert made.training.images.shape == (108, 8, 8, 1)
    # One class is nothing for a classifier to learn.
    picture = data.sets.scale(made.held_out.images[0])
    found = image_gans.measure(config, made._replace(generator=constant(picture)), {})
    frechet = found["frechet[random_conv]"], found["frechet[random_conv], real"]
    assert frechet[0].value > frechet[1].value
    assert found["pictures"] == 12


def test_bad_data(digits, tmp_path):
    def complain(error, message, **arrays):
        path = tmp_path / "bad.npz"
        np.savez(path, **arrays)
        with pytest.raises(error, match=message):
            dcgan.setup(dataclasses.replace(dcgan.SMOKE, data=str(path)))

    images, labels = digits.images[:150], digits.labels[:150]
    complain(ValueError, "got 50 pictures", images=images[:50], labels=labels[:50])
    complain(ValueError, "expected images and labels", images=images)
    complain(ValueError, "labels out of range", images=images, labels=labels - 5)
    complain(TypeError, "labels must be integers", images=images, labels=labels / 2)
    complain(TypeError, "must be uint8", images=images / 16, labels=labels)
    small = images[:, :6]
    complain(ValueError, r"pictures of 6 x 8 pixels", images=small, labels=labels)
    config = dataclasses.replace(dcgan.SMOKE, data=f"{tmp_path}/nowhere")
    with pytest.raises(NotADirectoryError, match="nowhere is not a folder"):
        dcgan.setup(config)
