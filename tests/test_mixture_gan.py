"""The experiment on rings and grids: its evaluation, its claims, its short run."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gamedyn as gd
from experiments import mixture_gan
from experiments.mixture_gan import pictures, protocols, training
from experiments.mixture_gan.setting import networks as networks_of
from gamedyn import cli

RESULTS = Path(mixture_gan.__file__).parent / "results"
TINY = mixture_gan.SMOKE.setting("ring")


@pytest.fixture(autouse=True)
def compile_quickly():
    """Compiling takes far longer than these runs do."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(
    ("name", "data", "modes", "min_count"),
    [("ring", "ring8/pacgan", 8, 25), ("grid", "grid25/pacgan", 25, 13)],
)
def test_protocols(name, data, modes, min_count):
    protocol = protocols.PROTOCOLS[name]
    law = protocol.mixture()
    assert law.name == protocol.data == data
    assert law.points == 100_000
    assert len(law.centres) == modes
    assert math.ceil(protocol.share * protocols.SAMPLES) == min_count

    perfect = np.asarray(law.sample(jax.random.key(1), 2500))
    found = protocols.evaluate(protocol, perfect)
    error = math.sqrt(math.exp(-4.5) / 2500)
    assert found.modes == found.touched == modes
    assert found.quality == pytest.approx(1 - math.exp(-4.5), abs=4 * error)
    assert found.reverse_kl == pytest.approx((modes - 1) / 5000, rel=0.9)

    # One sample too few on the first mode, the rest on the last.
    few = np.repeat(np.asarray(law.centres)[[0, -1]], [min_count - 1, 2501], axis=0)
    found = protocols.evaluate(protocol, few[: protocols.SAMPLES])
    assert (found.modes, found.touched, found.quality) == (1, 2, 1)
    outside = np.full((2, 3, 100, 2), 100.0)
    found = protocols.evaluate(protocol, outside)
    assert found.modes.shape == (2, 3)
    assert not found.quality.any()
    assert np.isnan(found.reverse_kl).all()


def test_points_run_seeds_fastest():
    runs = training.points(TINY, (4, 5), (0.1, 0.2), ((1.0, 0.5), (3.0, 2.0)))
    assert runs.seed.tolist() == [4, 5] * 4
    np.testing.assert_allclose(runs.learning_rate, [0.1, 0.1, 0.2, 0.2] * 2, rtol=1e-6)
    assert runs.weight.tolist() == [1.0] * 4 + [3.0] * 4
    assert runs.last_weight.tolist() == [0.5] * 4 + [2.0] * 4


def test_undominated():
    rows = [
        {"modes": m, "quality": q} for m, q in ((8, 0.5), (7, 0.9), (7, 0.4), (6, 0.9))
    ]
    assert pictures.undominated(rows) == rows[:2]


def test_training_is_two_adam_steps_by_hand():
    """Data, stages, seeds and schedules wire up to the moves of the lecture."""
    setting = dataclasses.replace(TINY, num_steps=2, stages=1, penalties=())
    protocol = protocols.PROTOCOLS["grid"]
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        runs = training.train(protocol, setting, training.points(setting, (7, 8)))
    assert runs.samples.shape == (2, 1, protocols.SAMPLES, 2)
    assert runs.samples.dtype == np.float32
    assert runs.steps.tolist() == [2]
    assert runs.status.tolist() == [gd.Status.OK] * 2

    networks, data, steps, latents = jax.random.split(jax.random.key(8), 4)
    generator, discriminator = networks_of(setting)
    pair = generator, discriminator

    @jax.jit
    def init(key):
        keys = jax.random.split(key)
        return [net.init(key) for net, key in zip(pair, keys, strict=True)]

    params = init(networks)
    law = protocol.mixture()
    spread = float(np.std(np.asarray(law.centres)))
    law = jax.tree.map(lambda leaf: (leaf / spread).astype(jnp.float32), law)
    examples = jax.jit(lambda key: law.sample(key, 100_000))(data)
    latent = gd.gan.uniform(2)
    game = gd.gan.game(*pair, "non_saturating", latent=latent)

    @jax.jit
    def gradients(params, key):
        which, rest = jax.random.split(key)
        chosen = jax.random.randint(which, (32,), 0, 100_000, jnp.int32)
        batch = gd.gan.Batch(examples[chosen], rest)
        return [
            jax.grad(lambda z, p=player: game(z, batch)[p])(params)[player]
            for player in (0, 1)
        ]

    moments = [None, None]
    for step, rate in enumerate((2e-3, 1e-3)):  # the cosine, at its start and halfway
        for player, key in zip(
            (1, 0), jax.random.split(jax.random.fold_in(steps, step)), strict=True
        ):
            params[player], moments[player] = _adam(
                params[player],
                gradients(tuple(params), key)[player],
                moments[player],
                step + 1,
                rate,
            )
    z = latent(latents, protocols.SAMPLES, jnp.float32)
    expected = spread * np.asarray(jax.jit(generator.apply)(params[0], z))
    np.testing.assert_allclose(runs.samples[1, 0], expected, rtol=1e-3, atol=1e-4)


def _adam(params, gradient, moments, count, rate):
    """Do a step of Adam with beta1 .5, from its definition."""
    mean, square = moments or (jax.tree.map(np.zeros_like, gradient),) * 2
    mean = jax.tree.map(lambda m, g: 0.5 * m + 0.5 * g, mean, gradient)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradient)

    def moved(p, m, s):
        unbiased = m / (1 - 0.5**count), s / (1 - 0.999**count)
        return p - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)

    return jax.tree.map(moved, params, mean, square), (mean, square)


def test_short_run_reports(folder, capsys):
    command = ["train", "mixture_gan", "--smoke", "--out", "run"]
    with jax.numpy_dtype_promotion("standard"):
        assert cli.main(command) == 0
    assert "the run: run" in capsys.readouterr().out
    folder = folder / "run"
    names = ("run.json", "summary.json", "samples.png", "curves.png")
    assert {path.name for path in folder.iterdir()} == set(names)
    stored = json.loads((folder / "summary.json").read_text())
    found = stored["protocols"]["ring"]
    assert not found["passes"]  # 60 steps do not do it
    for label in ("chosen", "baseline"):
        entry = found[label]
        assert entry["evaluations"] == 60
        assert entry["steps"] == [20, 40, 60]
        last = np.array(entry["curves"]["quality"])[:, -1]
        assert last.shape == (2,)
        assert entry["mean"]["quality"] == pytest.approx(last.mean(), rel=1e-3)
        assert entry["standard_error"]["quality"] == pytest.approx(
            abs(last[1] - last[0]) / 2, rel=1e-3, abs=1e-6
        )
    config = dataclasses.replace(mixture_gan.SMOKE, out=folder)
    with pytest.raises(FileExistsError, match="already holds results"):
        mixture_gan.main(config)
    with pytest.raises(ValueError, match="protocols are .*got .'rings'"):
        mixture_gan.main(dataclasses.replace(config, protocols=("rings",)))


@pytest.mark.slow
def test_short_run_tunes(tmp_path):
    config = dataclasses.replace(mixture_gan.SMOKE, out=tmp_path, part="tune")
    with jax.numpy_dtype_promotion("standard"):
        rows = mixture_gan.main(config)["rows"]
    assert {row["loss"] for row in rows} == {"non_saturating", "relativistic"}
    assert {row["rule"] for row in rows} == {"alternating", "extra_adam"}
    assert (tmp_path / "front.png").stat().st_size > 10_000


@pytest.mark.slow
def test_short_run_compares_rules(tmp_path):
    config = dataclasses.replace(mixture_gan.SMOKE, out=tmp_path, part="rules")
    with jax.numpy_dtype_promotion("standard"):
        rows = mixture_gan.main(config)["rows"]
    rows = {row["rule"]: row for row in rows}
    assert rows["extragradient"]["form"] == "adam"
    assert rows["eag_c"]["form"] == "registered"
    assert rows["extragradient"]["evaluations"] == 60
    assert "Newton" in rows["proximal_point"]["reason"]
    assert "simplex" in rows["mirror_prox"]["reason"]


def test_results_are_what_the_readme_says():
    """The committed reports were made by the committed settings, and pass."""
    config = mixture_gan.Config()
    for name, protocol in protocols.PROTOCOLS.items():
        summary = json.loads((RESULTS / name / "summary.json").read_text())
        assert summary["config"]["report_seeds"] == list(range(100, 110))
        found = summary["protocols"][name]
        setting = dataclasses.asdict(config.setting(name))
        assert found["chosen"]["setting"] == json.loads(json.dumps(setting))
        curves = found["chosen"]["curves"]
        modes, quality = (np.array(curves[key])[:, -1] for key in ("modes", "quality"))
        assert len(modes) == 10
        number = len(protocol.mixture().centres)
        assert np.mean(modes == number) >= protocol.complete
        assert quality.min() >= protocol.quality
        assert found["passes"] is True
        for key, mean in found["chosen"]["mean"].items():
            last = np.array(curves[key])[:, -1]
            assert mean == pytest.approx(last.mean(), rel=1e-3)
            assert found["chosen"]["standard_error"][key] == pytest.approx(
                last.std(ddof=1) / 10**0.5, rel=1e-3, abs=1e-9
            )


def test_passes_asks_every_seed():
    protocol = protocols.PROTOCOLS["grid"]
    modes = np.full((10, 1), 25)
    quality = np.full((10, 1), 0.7)

    def passes(modes, quality):
        scores = protocols.Scores(modes, quality, quality, modes)
        return mixture_gan.passes(protocol, scores)

    assert passes(modes, quality)
    one, two = modes.copy(), modes.copy()
    one[:1] = two[:2] = 24
    assert passes(one, quality)
    assert not passes(two, quality)
    quality[3] = 0.59
    assert not passes(modes, quality)
