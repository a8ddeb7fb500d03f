"""Training on the host: equal to `solve`, exact to resume, safe on disk."""

import dataclasses
import errno
import functools
import json
import math
import os
import re
import shutil
import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from numpy.testing import assert_allclose, assert_array_equal

import gamedyn as gd
from gamedyn import diffusion, files, gan, train
from gamedyn.train import checkpoints, describe

KEY = jax.random.key(7)


@pytest.fixture(autouse=True, scope="module")
def _compile_once(tmp_path_factory):
    # Most runs below are the same program: a resumed one compiles anew.
    old = {
        name: jax.config.values[name]
        for name in (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
        )
    }
    directory = str(tmp_path_factory.mktemp("cache"))
    for name, value in zip(old, (directory, 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in old.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def _optax_promotes():
    # Adam's schedule mixes dtypes under x64.
    with jax.numpy_dtype_promotion("standard"):
        yield


# A linear generator against a quadratic critic, data from the key or from arrays.


def fake(theta, z):
    return z @ theta["w"] + theta["b"][None]


def judge(phi, x):
    return x @ phi["v"] + (x * x) @ phi["u"]


def generator_loss(theta, phi, batch):
    return -jnp.mean(judge(phi, fake(theta, batch[1])))


def critic_loss(theta, phi, batch):
    gap = judge(phi, fake(theta, batch[1])) - judge(phi, batch[0])
    return jnp.mean(gap) + 0.5 * sum(jnp.sum(p * p) for p in phi.values())


GAME = gd.general_sum(generator_loss, critic_loss, stochastic=True)


def start(width=3, dtype=jnp.float64):
    theta = {"w": jnp.eye(width, 2, dtype=dtype), "b": jnp.zeros(2, dtype)}
    return theta, {"v": jnp.ones(2, dtype), "u": jnp.full(2, -0.1, dtype)}


def sample(key, number=8):
    real, latent = jax.random.split(key)
    shift = jnp.asarray([1.0, -1.0])[None]
    x = shift + 0.1 * jax.random.normal(real, (number, 2))
    return x, jax.random.normal(latent, (number, 3))


def arrays(number=24):
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(number, 2)), "row": np.arange(number)}


def build(rows, key):
    return rows["x"], jax.random.normal(key, (rows["x"].shape[0], 3))


class Played(NamedTuple):
    """A game, its start, batches of a key or of rows and a key, a rule to keep."""

    game: gd.Game
    start: Callable[[], Any]
    sample: Callable[..., Any]
    build: Callable[..., Any]
    rule: str


def denoise(theta, x, t):
    return x @ theta["w"] + t[:, None] * theta["b"][None]


# What is guaranteed of a run is guaranteed whatever is trained.
PLAYED = {
    "gan": Played(GAME, start, sample, build, "adam_turns"),
    "diffusion": Played(
        diffusion.game(denoise, diffusion.schedules.linear(50)),
        lambda: ({"w": jnp.eye(2), "b": jnp.zeros(2)},),
        lambda key: diffusion.Batch(*sample(key)[:1], jax.random.fold_in(key, 2)),
        lambda rows, key: diffusion.Batch(rows["x"], key),
        "extra_adam",
    ),
}


RULES = {
    "sgd": lambda: gd.simultaneous(optax.sgd(0.05)),
    "adam_turns": lambda: gd.alternating(optax.adam(1e-2, b1=0.5)),
    "two_critic_steps": lambda: gd.alternating(
        optax.sgd(0.05), order=(1, 1, 0), resample=True
    ),
    "extra_adam": lambda: gd.extragradient(
        optax.adam(1e-2, b1=0.5), moments="both", resample=True
    ),
    "lookahead": lambda: gd.lookahead(
        gd.alternating(optax.adam(1e-2)), period=3, strength=0.5
    ),
    "optimistic": lambda: gd.optimistic(optax.sgd(0.05)),
}


def fit(rule="sgd", batches=sample, *, num_steps=20, game=GAME, **options):
    rule = RULES[rule]() if isinstance(rule, str) else rule
    options = {"key": KEY, "steps_per_call": 4, "log_every": 5} | options
    params = options.pop("params", None) or start()
    return train.fit(game, rule, params, batches, num_steps=num_steps, **options)


@functools.cache
def solved(rule, played="gan", num_steps=20):
    game, start, sample, *_ = PLAYED[played]
    run = jax.jit(
        lambda z: gd.solve(
            game,
            RULES[rule](),
            z,
            num_steps,
            key=KEY,
            sample=sample,
            record=lambda z, state, batches, step: (game(z, batches[0]), z),
        )
    )
    return run(start())


def same(left, right):
    jax.tree.map(assert_array_equal, left, right)


def close(left, right, tolerance=1e-12):
    jax.tree.map(lambda a, b: assert_allclose(a, b, tolerance, tolerance), left, right)


def timeless(rows):
    times = ("seconds", "steps_per_second")
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


def state_of(run):
    return run.step, run.params, run.rule_state, run.average


# The loop


# Several batches per step: extra_adam; a loop with three is below.
@pytest.mark.parametrize("rule", ["sgd", "extra_adam", "lookahead"])
def test_fit_does_what_solve_does(rule):
    expected = solved(rule)
    run = fit(rule)
    close(run.params, expected.params)
    close(run.rule_state, expected.rule_state)
    close(run.output, expected.output)
    assert run.status == gd.Status.OK == train.Ending.OK
    assert run.step == 20
    assert [row["step"] for row in run.history] == [5, 10, 15, 20]
    for row in run.history:
        for player, losses in enumerate(expected.trace[0]):
            # The row after k steps tells of step k - 1.
            assert_allclose(row[f"loss_{player}"], losses[row["step"] - 1], 1e-12)


@pytest.mark.parametrize("steps_per_call", [1, 10, "auto"])
def test_how_a_run_is_cut_into_calls_changes_nothing(steps_per_call):
    run = fit("extra_adam", steps_per_call=steps_per_call)
    close(run.params, solved("extra_adam").params)


def test_float32_stays_float32():
    run = fit(
        params=start(dtype=jnp.float32),
        batches=lambda key: jax.tree.map(jnp.float32, sample(key)),
        average=train.ema(0.9),
    )
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((run.params, run.average))}
    assert dtypes == {jnp.dtype(jnp.float32)}
    close(run.params, solved("sgd").params, 1e-4)


def test_the_callers_arrays_survive_donation():
    params = start()
    first = fit(params=params, average=train.uniform())
    again = fit(params=params, average=train.uniform())
    same(state_of(first), state_of(again))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_a_field_and_no_batches():
    run = train.fit(
        lambda params, batch: params,
        gd.simultaneous(optax.sgd(0.5)),
        (jnp.ones(3),),
        None,
        num_steps=3,
        key=KEY,
    )
    assert_allclose(run.params[0], np.full(3, 0.125))
    assert timeless(run.history) == [{"step": 3}]


def test_old_style_keys_draw_the_same():
    words = jax.random.PRNGKey(3)
    expected = fit(key=jax.random.key(3), num_steps=5)
    same(fit(key=words, num_steps=5).params, expected.params)


# Averages


def outputs(played="gan"):
    trace = solved("sgd", played).trace[1]
    after = jax.tree.map(
        lambda a, z: np.concatenate([np.asarray(a), np.asarray(z)[None]]),
        trace,
        solved("sgd", played).params,
    )
    return [jax.tree.map(lambda a, t=t: a[t], after) for t in range(21)]


@pytest.mark.parametrize(
    ("played", "kind", "begin"),
    [
        ("gan", "ema", 0),
        ("gan", "ema", 12),
        ("gan", "uniform", 0),
        ("gan", "uniform", 12),
        ("diffusion", "ema", 12),
        ("gan", "warmup", 0),
        ("gan", "warmup", 12),
    ],
)
def test_averages_against_a_loop(played, kind, begin):
    points = outputs(played)
    if kind in ("ema", "warmup"):
        average = train.ema(0.5, begin, warmup=kind == "warmup")
        mean = points[begin]
        for t, point in enumerate(points[begin + 1 :], 1):
            decay = min(0.5, (1 + t) / (10 + t)) if kind == "warmup" else 0.5
            mean = jax.tree.map(lambda m, z, b=decay: b * m + (1 - b) * z, mean, point)
    else:
        average = train.uniform(begin)
        mean = jax.tree.map(lambda *z: np.mean(z, axis=0), *points[begin + 1 :])
    game, start, batches, *_ = PLAYED[played]
    run = fit(batches=batches, game=game, params=start(), average=average)
    close(run.averaged, mean)
    assert train.averaged_params(run) is run.average
    close(run.output, points[20])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16])
def test_averages_keep_to_strict_promotion(dtype):
    point = (jnp.ones(2, dtype),)
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    with jax.numpy_dtype_promotion("strict"):
        for average in (
            train.ema(0.5),
            train.ema(0.5, warmup=True),
            train.uniform(3),
            train.ema_half_life(100, 10, ramp=0.05),
        ):
            mean = jax.jit(average.update)(average.init(point), point, jnp.int32(5))
            assert mean[0].dtype == wide
            assert_allclose(mean[0], 1.0)


def test_half_life():
    weight = train.ema_half_life(1000, 10).weight(jnp.float64(3))
    assert_allclose((1 - float(weight)) ** 100, 0.5, 1e-12)  # after 1000 examples
    ramp = train.ema_half_life(1000, 10, ramp=0.05).weight
    assert_allclose(1 - float(ramp(jnp.float64(40))), 0.5 ** (10 / 20), 1e-12)
    assert_allclose(ramp(jnp.float64(10**6)), weight, 1e-6)


@pytest.mark.parametrize(("start", "steps"), [(0, 400), (100, 400)])
def test_a_warmed_up_average_forgets_the_start(start, steps):
    left = {}
    for warmup in (False, True):
        weight = jax.vmap(train.ema(0.999, start, warmup=warmup).weight)
        kept = 1 - weight(jnp.arange(1.0, start + steps + 1))
        assert_allclose(kept[:start], 0)
        left[warmup] = float(jnp.prod(kept[start:]))
    assert_allclose(left[False], 0.999**steps, 1e-12)
    # prod (1 + t) / (10 + t) = 10! / ((steps + 2) ... (steps + 10))
    expected = math.factorial(10) / math.prod(range(steps + 2, steps + 11))
    assert_allclose(left[True], expected, 1e-12)
    # In the long run the two are one average.
    late = jnp.float64(start + 8990)
    plain, warm = (train.ema(0.999, start, warmup=w).weight for w in (False, True))
    assert warm(late - 1) > plain(late - 1)
    assert_allclose(warm(late), plain(late), 1e-12)


def test_averages_check_their_numbers():
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1, got 1"):
        train.ema(1)
    with pytest.raises(ValueError, match="start must be a whole number"):
        train.uniform(-1)
    with pytest.raises(ValueError, match="half_life must be positive"):
        train.ema_half_life(0, 1)


# Data


@pytest.mark.parametrize("on_device", [False, True])
def test_batches_of_arrays_follow_the_order(on_device):
    data = arrays()
    batches = train.from_arrays(data, 6, build, seed=5, on_device=on_device)
    run = fit("two_critic_steps", batches, num_steps=7, log_every=7)
    order = gd.data.BatchOrder(24, 6, 5)
    rule, z = RULES["two_critic_steps"](), start()
    state = rule.init(z)
    update = jax.jit(functools.partial(rule.update, gd.fields.gradient(GAME)))
    for step in range(7):
        keys = jax.random.split(jax.random.fold_in(KEY, step), 3)
        drawn = tuple(
            (
                jnp.asarray(data["x"][order.indices(3 * step + j)]),
                jax.random.normal(keys[j], (6, 3)),
            )
            for j in range(3)
        )
        z, state = update(z, state, drawn)
    close(run.params, z)


def test_arrays_must_agree():
    with pytest.raises(ValueError, match=r"one common leading axis.*\(24, 2\), \(3,\)"):
        train.from_arrays({"a": np.zeros((24, 2)), "b": np.zeros(3)}, 2, build)
    with pytest.raises(ValueError, match="batch is larger than the set"):
        train.from_arrays(arrays(), 25, build)


def test_an_error_in_loading_is_the_callers():
    def load(index):
        if index >= 6:
            raise RuntimeError("no such shard")
        return arrays(8)

    with pytest.raises(RuntimeError, match="no such shard"):
        fit(batches=train.Batches(load, build), steps_per_call=1)
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


# Losses that change from step to step


def lazy_game(term):
    """An R1 penalty on the quadratic critic, whose gradients are not constant."""
    return gan.game(fake, judge, "wasserstein", latent=gan.normal(3), penalties=(term,))


R1 = functools.partial(gan.penalties.r1, weight=0.2)
LAZY, EAGER = lazy_game(gan.lazy(R1, interval=4)), lazy_game(R1)
CRITIC_FIRST = (1, 1, 0)


def numbered(order=None):
    return train.Numbered(
        lambda rows, key, number: gan.Batch(rows["x"], key, step=number), order
    )


def lazily_by_hand(order, num_steps, rate=0.05):
    """The lazy penalty, the critic's moves counted: what `gan.lazy` is to do."""
    data, rows = arrays(), gd.data.BatchOrder(24, 6, 5)
    word, params = order or (0, 1), start()
    plain, factors = lazy_game(lambda *args: jnp.zeros(())), []

    @jax.jit
    def gradients(params, batch, factor):
        def paid(phi):
            *_, penalty = EAGER((params[0], phi), batch)
            *_, loss = plain((params[0], phi), batch)
            return loss + factor * (penalty - loss)

        theta = jax.grad(lambda theta: plain((theta, params[1]), batch)[0])(params[0])
        return theta, jax.grad(paid)(params[1])

    moves = 0
    for step in range(num_steps):
        keys = jax.random.split(
            jax.random.fold_in(KEY, step), len(word) if order else 1
        )
        for j, player in enumerate(word):
            at = j if order else 0
            examples = data["x"][rows.indices(len(keys) * step + at)]
            batch = gan.Batch(jnp.asarray(examples), keys[at])
            factor = 4.0 if moves % 4 == 0 else 0.0
            slope = gradients(params, batch, jnp.asarray(factor))[player]
            moved = jax.tree.map(lambda z, g: z - rate * g, params[player], slope)
            params = (*params[:player], moved, *params[player + 1 :])
            if player == 1:
                moves += 1
                factors.append(factor)
    assert sum(factors) == moves
    return params


@pytest.mark.parametrize("order", [None, CRITIC_FIRST])
def test_lazy_penalties_know_the_step(order, tmp_path):
    batches = train.from_arrays(arrays(), 6, numbered(order), seed=5)
    options = {"order": order, "resample": True} if order else {}
    rule = gd.alternating(optax.sgd(0.05), **options)
    run = functools.partial(
        train.fit, LAZY, rule, start(), batches, key=KEY, steps_per_call=3, log_every=4
    )
    expected = lazily_by_hand(order, 16)
    whole = run(num_steps=16)
    close(whole.params, expected)
    # Cut within a period of the penalty, resumed, and spread over devices.
    parts = {"directory": tmp_path, "resume": True, "mesh": train.data_mesh()}
    run(num_steps=6, **parts)
    close(run(num_steps=16, **parts).params, expected)


def test_lazy_and_full_penalties_agree_to_second_order():
    """16 steps, the penalty in four of them or in all; no generator moves."""

    def end(game, rate, source):
        rule = gd.simultaneous(optax.set_to_zero(), optax.sgd(rate))
        run = fit(rule, source, num_steps=16, game=game, log_every=16)
        return jax.flatten_util.ravel_pytree(run.params[1])[0]

    # The same examples always: batches that differ would differ in first order.
    x, key = jnp.asarray(arrays()["x"]), jax.random.key(1)
    source = train.Numbered(lambda _, number: gan.Batch(x, key, step=number))
    gaps = [
        float(jnp.abs(end(LAZY, rate, source) - end(EAGER, rate, source)).max())
        for rate in (1e-3, 1e-4)
    ]
    assert 80 < gaps[0] / gaps[1] < 120


def test_numbers_fit_the_rule():
    number = train.Numbered(build, (0, 1, 1)).number
    counted = [[int(number(jnp.int32(k), j, 3)) for j in range(3)] for k in range(3)]
    assert counted == [[0, 0, 1], [2, 2, 3], [4, 4, 5]]
    # Both evaluations of an extragradient step minimise the same loss.
    alike = train.Numbered(build).number
    assert [int(alike(jnp.int32(5), j, 2)) for j in range(2)] == [5, 5]
    with pytest.raises(ValueError, match=r"1 batches per step.*got \(1, 1, 0\)"):
        fit("sgd", train.from_arrays(arrays(), 6, numbered(CRITIC_FIRST)), game=LAZY)
    with pytest.raises(ValueError, match="at least one of player 1"):
        train.Numbered(build, (0, 0)).number(jnp.int32(0), 0, 2)


# Resume

KEEPING = [
    ("gan", "adam_turns"),
    ("gan", "extra_adam"),
    ("gan", "lookahead"),
    ("gan", "optimistic"),
    ("diffusion", "extra_adam"),
]


@pytest.mark.parametrize(("played", "rule"), KEEPING)
def test_resumed_equals_uninterrupted(played, rule, tmp_path):
    game, start, _, build, _ = PLAYED[played]
    average = train.ema(0.9, warmup=rule == "lookahead")
    if rule == "optimistic":
        average = train.uniform(4)
    batches = train.from_arrays(arrays(), 6, build)
    options = {"average": average, "checkpoint_every": 5}
    options |= {"game": game, "params": start()}
    whole = fit(rule, batches, directory=tmp_path / "whole", **options)
    options |= {"directory": tmp_path / "parts", "resume": True}
    fit(rule, batches, num_steps=10, **options)
    run = fit(rule, batches, **options)
    same(state_of(run), state_of(whole))
    rows = train.read_metrics(tmp_path / "parts")
    assert timeless(rows) == timeless(train.read_metrics(tmp_path / "whole"))
    assert rows == run.history
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert jax.tree.structure(run.rule_state) == jax.tree.structure(whole.rule_state)


def kept(played, directory, **options):
    """Do 20 steps with checkpoints at 5, 10, 15 and 20, or what is left of them."""
    game, start, batches, _, rule = PLAYED[played]
    options = {"checkpoint_every": 5, "keep_last": 4, "resume": True} | options
    options = {"game": game, "params": start(), "batches": batches} | options
    return fit(options.pop("rule", rule), directory=directory, **options)


@pytest.fixture(scope="module", params=PLAYED)
def finished(request, tmp_path_factory):
    """Where a run is, to be copied, its state in the end, and how to resume it."""
    directory = tmp_path_factory.mktemp("run")
    with jax.numpy_dtype_promotion("standard"):
        run = kept(request.param, directory)
    return directory, run, functools.partial(kept, request.param)


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.fixture
def resume(finished):
    return finished[2]


of_the_gan = pytest.mark.parametrize("finished", ["gan"], indirect=True)


@of_the_gan
def test_load_gives_plain_arrays(finished):
    directory, run, _ = finished
    stored = train.load(directory)
    assert stored.step == 20
    same(stored.arrays["params"]["0"]["w"], run.params[0]["w"])
    same(stored.arrays["rule_state"]["0"]["0"]["mu"]["b"], run.rule_state[0][0].mu["b"])
    assert isinstance(stored.arrays["params"]["0"]["w"], np.ndarray)
    assert stored.metadata["structure"]["params/1/v"] == [[2], "float64"]
    assert train.load(directory, 5).step == 5
    with pytest.raises(FileNotFoundError, match=r"step 6 .* one of \[5, 10, 15, 20\]"):
        train.load(directory, 6)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        train.load(directory / "nowhere")


def test_every_kind_of_leaf_is_stored(tmp_path):
    tree = {
        "half": jnp.asarray([1.5, 2], jnp.bfloat16),
        "none": jnp.zeros((0, 3), jnp.int8),
        "a/b.c": (jnp.asarray(True), [jnp.asarray(3 + 4j)]),
        "key": jax.random.key(1),
    }
    plain = train.sharding.host(tree)
    checkpoints.write(tmp_path / "7", plain, {"step": 7})
    restored = checkpoints.fill(plain, checkpoints.read(tmp_path / "7").arrays)
    same(restored, plain)
    assert jax.tree.map(lambda a: a.dtype, restored) == jax.tree.map(
        lambda a: a.dtype, plain
    )
    same(
        train.sharding.key_data(train.sharding.as_keys(restored, tree)["key"]),
        plain["key"],
    )


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 3)
    checkpoints.write(tmp_path / "7", {"a": np.ones(2)}, {"step": 7})
    monkeypatch.undo()
    with pytest.raises(train.CheckpointError, match="has format 3, expected 2"):
        checkpoints.read(tmp_path / "7")


def test_a_finished_run_is_returned_as_it_is(finished, copy, resume):
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if "manifest" in p.name}
    same(state_of(resume(copy)), state_of(finished[1]))
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_resume_in_an_empty_directory_begins(finished, tmp_path, resume):
    same(state_of(resume(tmp_path / "new")), state_of(finished[1]))


def test_rows_beyond_the_checkpoint_are_cut(finished, copy, resume):
    shutil.rmtree(copy / "checkpoints" / "000000020")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "los')  # killed while it wrote
    run = resume(copy)
    assert timeless(run.history) == timeless(finished[1].history)
    assert timeless(train.read_metrics(copy)) == timeless(run.history)


@of_the_gan
def test_lost_rows_are_warned_of(copy, resume):
    (copy / "metrics.jsonl").unlink()
    with pytest.warns(UserWarning, match="has 0 rows up to step 20, expected 4"):
        resume(copy)


@of_the_gan
def test_an_earlier_run_is_not_overwritten_unasked(copy, resume):
    with pytest.raises(ValueError, match="holds a run already.*overwrite=True"):
        resume(copy, resume=False)
    run = resume(copy, resume=False, overwrite=True, num_steps=5)
    assert run.step == 5
    assert checkpoints.steps(copy / "checkpoints") == [5]


@of_the_gan
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"params": start(4), "batches": lambda key: sample(key)},
            r"params/0/w: stored \[\[3, 2\], 'float64'\], got \[\[4, 2\], 'float64'\]",
        ),
        (
            {"params": (start()[0], start()[1] | {"extra": jnp.ones(1)})},
            r"params/1/extra: stored nothing, got \[\[1\], 'float64'\]",
        ),
        ({"rule": "sgd"}, r"rule_state/0/0/count: stored .* got nothing"),
        (
            {"rule": gd.alternating(optax.adam(1e-3, b1=0.5))},
            r"step_size: stored -0.01, got -0.001",
        ),
        (
            {"batches": functools.partial(sample, number=4)},
            r"batches/0/0: stored \[\[8, 2\], 'float64'\], got \[\[4, 2\], 'float64'\]",
        ),
        ({"config": {"width": 3}}, r"config: stored None, got \{'width': 3\}"),
        ({"key": jax.random.key(1)}, r"key: stored \[0, 7\], got \[0, 1\]"),
        ({"steps_per_call": 2}, r"steps_per_call: stored 4, got 2"),
        ({"average": train.ema(0.9)}, r"average/0/b: stored nothing, got"),
        ({"num_steps": 10}, r"has done 20 steps, more than num_steps=10"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_another_run_is_not_resumed(copy, change, message, resume):
    if "params" in change:  # the game of another width needs other latents
        change |= {"batches": lambda key: (sample(key)[0], jnp.ones((8, 4)))}
    with pytest.raises(ValueError, match=message):
        resume(copy, **change)


@of_the_gan
def test_another_rate_anyway(copy, resume):
    rule = gd.alternating(optax.adam(1e-3, b1=0.5))
    run = resume(copy, rule=rule, resume="anyway", num_steps=25)
    assert run.step == 25


def test_ingredients_see_what_is_closed_over():
    def of(**options):
        return describe.ingredients(gd.extragradient(optax.adam(1e-3, **options)))

    assert of() == of()
    assert list(describe.differences(of(), of(b1=0.5)))
    game = gd.games.make("bilinear").game
    assert describe.ingredients(game) == describe.ingredients(game)
    other = dataclasses.replace(game, zero_sum=False)
    assert describe.differences(
        describe.ingredients(game), describe.ingredients(other)
    ) == ["zero_sum: stored True, got False"]


def test_averages_are_described_as_before():
    # Checkpoints hold these descriptions: with another one no old run is resumed.
    plain = {"weight": "ema.<locals>.<lambda>"}
    plain |= {"weight.decay": "0.9", "weight.start": "3"}
    assert describe.ingredients(train.ema(0.9, 3)) == plain
    warm = describe.ingredients(train.ema(0.9, 3, warmup=True))
    assert describe.differences(plain, warm)


# Damage


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def data_file(folder):
    """The largest array's numbers."""
    found = (folder / "arrays").glob("*/*")
    return max(found, key=lambda file: (file.name != ".zarray", file.stat().st_size))


DAMAGE = {
    "truncated": (lambda folder: cut(data_file(folder)), r"bytes, expected"),
    "flipped": (lambda folder: flip(data_file(folder)), "content that was written"),
    "missing": (lambda folder: data_file(folder).unlink(), "is missing"),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "manifest.json is missing",
    ),
    "half a manifest": (lambda folder: cut_half(folder), "cannot be read"),
    "metadata": (
        lambda folder: flip(folder / "metadata.json"),
        "metadata.json does not have the content",
    ),
    "empty": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "is missing"),
}


def cut_half(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(kind, finished, copy):
    damage, reason = DAMAGE[kind]
    damage(copy / "checkpoints" / "000000020")
    with pytest.warns(
        UserWarning, match=f"000000020 is damaged.*{reason}.*using that of step 15"
    ):
        assert train.load(copy).step == 15
    with pytest.raises(train.CheckpointError, match="000000020 is damaged"):
        train.load(copy, 20)


def test_a_run_goes_on_before_the_damage(finished, copy, resume):
    for step in (15, 20):
        DAMAGE["flipped"][0](copy / "checkpoints" / f"{step:09d}")
    with pytest.warns(UserWarning, match="damaged") as warned:
        run = resume(copy)
    assert len(warned) == 2
    same(state_of(run), state_of(finished[1]))
    assert timeless(run.history) == timeless(finished[1].history)
    assert checkpoints.steps(copy / "checkpoints") == [5, 10, 15, 20]
    assert train.load(copy).step == 20


def test_nothing_whole_is_an_error(copy, resume):
    for path in (copy / "checkpoints").iterdir():
        DAMAGE["truncated"][0](path)
    with pytest.raises(
        train.CheckpointError,
        match="every checkpoint is damaged.*020 is.*005 is damaged",
    ):
        resume(copy)


@of_the_gan
def test_every_byte_counts(finished, copy):
    path = copy / "checkpoints" / "000000020"
    for file in (path / "metadata.json", data_file(path)):
        name = file.name
        content = file.read_bytes()
        flip(file)
        with pytest.raises(train.CheckpointError, match=name):
            checkpoints.read(path)
        file.write_bytes(content)
    checkpoints.read(path)


@of_the_gan
def test_a_full_disk_is_a_clear_error(copy, finished, monkeypatch, resume):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shutil.rmtree(copy / "checkpoints" / "000000020")
    monkeypatch.setattr(checkpoints, "_sync", full)
    with pytest.raises(
        train.CheckpointError,
        match=r"000000020 could not be written: the disk is full.*\[5, 10, 15\]",
    ):
        resume(copy)
    monkeypatch.undo()
    left = sorted(path.name for path in (copy / "checkpoints").iterdir())
    assert left == ["000000005", "000000010", "000000015"]
    same(state_of(resume(copy)), state_of(finished[1]))


def test_a_full_disk_leaves_a_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    files.write_whole(path, "old\n")

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*metrics\.jsonl"):
        files.write_whole(path, "new\n")
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert path.read_text() == "old\n"


# Which checkpoints are kept


def test_the_last_and_the_best_are_kept(tmp_path):
    def score(state, metrics):
        return {"score": abs(state.step - 10) + jnp.float32(0.5)}

    run = fit(
        directory=tmp_path,
        num_steps=30,
        checkpoint_every=5,
        keep_last=2,
        best="score",
        callbacks=[score],
    )
    assert checkpoints.steps(tmp_path / "checkpoints") == [10, 25, 30]
    assert [row["score"] for row in run.history][:2] == [5.5, 0.5]
    # Resumed, the best is still known.
    options = {"best": "score", "callbacks": [score], "resume": True}
    fit(directory=tmp_path, num_steps=40, checkpoint_every=5, **options)
    assert checkpoints.steps(tmp_path / "checkpoints") == [10, 35, 40]
    assert train.load(tmp_path, 10).metadata["score"] == 0.5


def test_a_misspelt_best_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="no row has the metric 'los_0'.*loss_0"):
        fit(directory=tmp_path, best="los_0", best_mode="max")


def test_saving_needs_a_directory():
    with pytest.raises(ValueError, match="checkpoint_every and best needs a directory"):
        fit(checkpoint_every=5, best="loss_0")
    with pytest.raises(ValueError, match="checkpoint_every must be a positive integer"):
        fit(checkpoint_every=0)
    with pytest.raises(ValueError, match="overwrite removes it: choose one"):
        fit(directory="anywhere", resume=True, overwrite=True)
    with pytest.raises(ValueError, match="best_mode is 'min' or 'max', got 'least'"):
        fit(best_mode="least")


# How a run ends


def test_endings_and_statuses_are_told_apart():
    statuses = {status.name: int(status) for status in gd.Status}
    for ending in train.Ending:
        assert ending.message
        if ending in (train.Ending.INTERRUPTED, train.Ending.STOPPED):
            assert int(ending) not in statuses.values()
        else:
            assert statuses[ending.name] == ending


def explode(params, batch):
    """Fine for a while, then infinite."""
    return jax.tree.map(lambda z: -z * z, params)


@pytest.mark.parametrize("saved", [False, True])
def test_a_run_that_diverges_leaves_its_last_good_state(saved, tmp_path):
    options = {"directory": tmp_path, "checkpoint_every": 3} if saved else {}
    run = train.fit(
        explode,
        gd.simultaneous(optax.sgd(1.0)),
        (jnp.ones(2),),
        None,
        num_steps=30,
        key=KEY,
        log_every=3,
        **options,
    )
    assert run.status == gd.Status.NON_FINITE
    assert 0 < run.step < 15
    assert run.step % 3 == 0
    assert np.isfinite(run.params[0]).all()
    z = 1.0
    for _ in range(run.step):
        z += z * z
    assert_allclose(run.params[0], [z, z], 1e-12)
    if saved:
        assert checkpoints.steps(tmp_path / "checkpoints")[-1] == run.step
        assert np.isfinite(train.load(tmp_path).arrays["params"]["0"]).all()


def test_a_callback_stops_the_run(tmp_path):
    calls = []

    def enough(state, metrics):
        calls.append((state.step, metrics["loss_0"], state.history))
        return train.STOP if state.step == 6 else None

    run = fit(directory=tmp_path, callbacks=[train.Callback(enough, 3)])
    assert run.status == train.Ending.STOPPED
    assert [call[0] for call in calls] == [3, 6]
    assert run.step == train.load(tmp_path).step == 6
    # Off the logging grid a row is written only for metrics that come back.
    assert [row["step"] for row in run.history] == [5]


def test_a_callback_may_add_metrics_and_nothing_else():
    run = fit(callbacks=[train.Callback(lambda s, m: {"fid": 1.0}, 7)])
    assert [row["step"] for row in run.history] == [5, 7, 10, 14, 15, 20]
    assert run.history[1]["fid"] == 1.0
    with pytest.raises(TypeError, match="None, STOP or a dictionary of metrics, got 3"):
        fit(callbacks=[lambda state, metrics: 3])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint(number, tmp_path, capsys):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def knock(state, metrics):
        if state.step == 10:
            os.kill(os.getpid(), number)

    run = fit(directory=tmp_path, callbacks=[knock])
    assert run.status == train.Ending.INTERRUPTED
    assert run.step == 10
    assert train.load(tmp_path).step == 10
    assert handlers == (
        signal.getsignal(signal.SIGTERM),
        signal.getsignal(signal.SIGINT),
    )
    again = fit(directory=tmp_path, resume=True)
    same(again.params, fit().params)
    assert ("Ctrl-C again" in capsys.readouterr().err) == (number == signal.SIGINT)


def test_a_second_interrupt_leaves_at_once(capsys):
    def insist(state, metrics):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(callbacks=[insist])


def test_other_threads_leave_signals_alone():
    steps = []
    thread = threading.Thread(target=lambda: steps.append(fit(num_steps=5).step))
    thread.start()
    thread.join()
    assert steps == [5]


# What is logged


MISTAKES = {
    "key must be one key": {"key": 0},
    "batches must be a function of (key), got list of 2": {"batches": [1, 2]},
    "batches must be a function of (key), got one of ()": {"batches": lambda: 1},
    "record must be a function of (params, rule_state, b": {"record": lambda z: {}},
    "callbacks must be a list or tuple": {"callbacks": lambda state, row: None},
    "callbacks must be a list or tuple of them, got None": {"callbacks": None},
    "a callback must be a function of (state, metrics)": {
        "callbacks": [print.__name__]
    },
    "metrics), got one of (state)": {"callbacks": [lambda state: None]},
    "average must be Average or None, got str": {"average": "ema"},
    "mesh must be Mesh or None, got str": {"mesh": "x"},
    "metric 'a' must be a number": {"callbacks": [lambda s, r: {"a": np.ones(3)}]},
    "config must be made of JSON": {"config": {"a": np.ones(2)}, "directory": "run"},
}


@pytest.mark.parametrize("said", MISTAKES)
def test_mistakes_are_said_in_one_line(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    game = gd.zero_sum(lambda x, y: x * y)
    start = jnp.ones(()), jnp.ones(())
    options = {"batches": None, "key": jax.random.key(0), "num_steps": 4}
    with pytest.raises(TypeError, match=re.escape(said)):
        train.fit(
            game, gd.simultaneous(optax.sgd(0.1)), start, **options | MISTAKES[said]
        )
    assert not list(tmp_path.iterdir())


def test_a_stochastic_game_without_batches_is_said():
    game = gd.zero_sum(lambda x, y, b: x * y + b.mean() * x, stochastic=True)
    start, rule = (jnp.ones(()), jnp.ones(())), gd.simultaneous(optax.sgd(0.1))
    with pytest.raises(
        ValueError, match=r"needs batches: pass a function of a key, or"
    ):
        train.fit(game, rule, start, None, num_steps=4, key=jax.random.key(0))


def test_record_is_named_by_path_and_must_be_scalar():
    def record(params, rule_state, batches, step):
        return {"norm": {"g": optax.tree.norm(params[0])}, "at": step}

    run = fit(record=record)
    assert [row["at"] for row in run.history] == [4, 9, 14, 19]
    assert_allclose(
        run.history[0]["norm/g"], optax.tree.norm(outputs()[4][0]), rtol=1e-12
    )
    with pytest.raises(ValueError, match=r"scalars, got shape \(2,\) at 'v'"):
        fit(record=lambda params, *rest: {"v": params[1]["v"]})
    with pytest.raises(ValueError, match="'seconds', which the log uses itself"):
        fit(record=lambda *rest: {"seconds": jnp.ones(())})


def test_numbers_that_json_lacks(tmp_path):
    numbers = {"a": jnp.nan, "b": jnp.inf, "c": -jnp.inf, "d": 0.1}
    fit(
        directory=tmp_path,
        record=lambda *rest: {k: jnp.asarray(v) for k, v in numbers.items()},
    )
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text.split("\n")[0], parse_constant=pytest.fail)["b"] == (
        "Infinity"
    )
    row = train.read_metrics(tmp_path)[0]
    assert_array_equal([row[k] for k in numbers], list(numbers.values()))


def test_progress_is_shown_on_request_only(capsys):
    fit()
    assert capsys.readouterr() == ("", "")
    fit(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "20/20" in err
    assert "loss_0" in err


def test_tensorboard_gets_every_row(monkeypatch, tmp_path):
    written = []

    class SummaryWriter:
        def __init__(self, directory):
            assert directory == os.fspath(tmp_path)

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            pass

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    run = fit(callbacks=[train.tensorboard(tmp_path)])
    assert ("loss_1", run.history[2]["loss_1"], 15) in written


def test_tensorboard_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="needs the package tensorboardX"):
        train.tensorboard(tmp_path)


# Pictures


def test_bytes_and_grids():
    x = np.linspace(-1.2, 1.2, 1000)
    expected = np.clip(np.rint(127.5 * x + 127.5), 0, 255)
    assert_array_equal(train.to_uint8(x), expected)
    assert train.to_uint8(np.float32(x)).dtype == np.uint8
    pictures = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3, 1)
    canvas = train.grid(pictures, columns=2)
    assert canvas.shape == (8, 7, 1)
    assert_array_equal(canvas[3:5, 4:7], pictures[3])
    assert not canvas[6:8, 4:7].any()
    assert not canvas[2].any()
    with pytest.raises(ValueError, match=r"\(N, H, W, C\).*got shape \(2, 3, 1\)"):
        train.grid(pictures[0])


def test_sample_grids_make_a_film(tmp_path):
    from PIL import Image

    z = jax.random.normal(jax.random.key(0), (6, 3))

    def sampler(params):
        x = fake(params[0], z)
        return jnp.tanh(x)[:, None, :, None] * jnp.ones((6, 4, 2, 3))

    draw = train.sample_grid(sampler, tmp_path, 8, rows=2, columns=3)
    run = fit(callbacks=[draw], average=train.ema(0.5))
    paths = train.sample_paths(tmp_path)
    assert [path.name for path in paths] == [
        "samples-00000008.png",
        "samples-00000016.png",
    ]
    with Image.open(paths[0]) as picture:
        assert picture.size == (8, 9)
    assert run.step == 20
    film = train.write_gif(paths, tmp_path / "film.gif")
    with Image.open(film) as frames:
        assert frames.n_frames == 2
    assert sorted(p.name for p in tmp_path.iterdir())[0] == "film.gif"
    with pytest.raises(ValueError, match="needs 8 samples, the sampler returned 6"):
        fit(callbacks=[train.sample_grid(sampler, tmp_path, 8, rows=2, columns=4)])
    train.write_png(np.zeros((5, 4, 1)), tmp_path / "small.png")
    with pytest.raises(ValueError, match="pictures of one size, got 2"):
        train.write_gif([paths[0], tmp_path / "small.png"], tmp_path / "bad.gif")


def test_checked_numbers():
    with pytest.raises(ValueError, match="num_steps must be a positive integer, got 0"):
        fit(num_steps=0)
    with pytest.raises(ValueError, match="steps_per_call must be a positive integer"):
        fit(steps_per_call=0)
    with pytest.raises(TypeError, match="expected a Rule"):
        fit(rule=optax.sgd(0.1))
    with pytest.raises(ValueError, match="resume is True, False or 'anyway'"):
        fit(resume="yes")
