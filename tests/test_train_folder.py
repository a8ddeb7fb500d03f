"""A run's folder: what a resume compares, who may write, what a signal leaves."""

import errno
import functools
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_array_equal

import gamedyn as gd
from gamedyn import train
from gamedyn.train import checkpoints, describe, environment, signals

GAME = gd.zero_sum(lambda x, y, b: jnp.mean(b) * x * y + 0.1 * x, stochastic=True)
ROWS = np.arange(24.0).reshape(12, 2)


def build(rows, key):
    return rows + 0.1 * jax.random.normal(key, rows.shape, rows.dtype)


def doubled(rows, key):
    return 2 * build(rows, key)


# Alike in name and constants: only the program tells them apart.
doubled.__qualname__ = build.__qualname__


def fit(directory=None, batches=None, *, num_steps=6, game=GAME, **options):
    batches = train.from_arrays(ROWS, 4, build, seed=1) if batches is None else batches
    options = {"steps_per_call": 2, "log_every": 2, "key": jax.random.key(0)} | options
    rule = options.pop("rule", None) or gd.simultaneous(optax.sgd(0.05))
    params = (jnp.ones(()), jnp.ones(()))
    return train.fit(
        game, rule, params, batches, num_steps=num_steps, directory=directory, **options
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of 4 steps, with checkpoints at 2 and 4."""
    directory = tmp_path_factory.mktemp("run")
    fit(directory, num_steps=4, checkpoint_every=2)
    return directory


@pytest.fixture
def copy(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "copy")


# What a resume compares


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            train.from_arrays(ROWS + 1e-9, 4, build, seed=1),
            r"fingerprint/arrays/: stored float64\[12, 2\] \w+, got float64\[12, 2\]",
        ),
        (train.from_arrays(ROWS, 4, build, seed=2), r"seed: stored 1, got 2"),
        (train.from_arrays(ROWS[:8], 4, build, seed=1), r"size: stored 12, got 8"),
        (train.from_arrays(ROWS, 6, build, seed=1), r"batch_size: stored 4, got 6"),
        (
            train.from_arrays(ROWS, 4, lambda rows, key: build(rows, key), seed=1),
            r"data/build.: stored build, got <lambda>",
        ),
        (
            train.from_arrays(ROWS, 4, doubled, seed=1),
            r"the program of a step: stored \d+ operations \w+, got \d+ operations",
        ),
        (
            train.Batches(lambda index: ROWS[:4], build),
            r"data/load: stored nothing, got <lambda>",
        ),
    ],
    ids=["values", "seed", "size", "batch", "name", "body", "own"],
)
def test_other_data_order_or_build_is_not_resumed(batches, message, copy):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=message):
        fit(copy, batches, resume=True)
    assert before == {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    assert fit(copy, batches, resume="anyway").step == 6


def test_another_loss_of_the_same_name_is_not_resumed(copy):
    def loss(x, y, b):
        return jnp.mean(b) * x * y + 0.2 * x

    loss.__qualname__ = "<lambda>"
    other = gd.zero_sum(loss, stochastic=True)
    with pytest.raises(ValueError, match="the program of a step: stored"):
        fit(copy, game=other, resume=True)


def test_a_configuration_is_json_from_the_start(tmp_path):
    options = {"config": {"clip": float("inf"), "widths": (3, 4)}, "resume": True}
    fit(tmp_path, num_steps=2, **options)
    stored = train.load(tmp_path).metadata["about"]["config"]
    assert stored == {"clip": "Infinity", "widths": [3, 4]}
    assert fit(tmp_path, **options).step == 6
    with pytest.raises(ValueError, match="config/clip: stored Infinity, got 1.0"):
        fit(tmp_path, resume=True, config=options["config"] | {"clip": 1.0})
    with pytest.raises(TypeError, match="not JSON serializable"):
        fit(tmp_path, resume=True, config={"a": object()})


def test_the_same_data_elsewhere_are_resumed(copy):
    whole = fit()
    on_device = train.from_arrays(
        ROWS.copy(order="F"), 4, build, seed=1, on_device=True
    )
    run = fit(copy, on_device, resume=True, record=lambda *rest: {"other": rest[-1]})
    assert_array_equal(run.params, whole.params)


def test_batches_of_ones_own_declare_what_they_are(tmp_path):
    class Loader:
        def __call__(self, index):
            return ROWS[index % 3 : index % 3 + 4]

    def source(version):
        return train.Batches(Loader(), build, fingerprint={"version": version})

    fit(tmp_path, source("a"), num_steps=2)
    with pytest.raises(ValueError, match="fingerprint/version: stored a, got b"):
        fit(tmp_path, source("b"), resume=True)
    assert fit(tmp_path, source("a"), resume=True).step == 6


def test_large_arrays_are_sampled_from_start_to_end(monkeypatch):
    monkeypatch.setattr(describe, "_BLOCKS", 3)
    array = np.zeros(10 * 2**16, np.uint8)
    same = describe.digest(array)
    for place, seen in [(0, True), (-1, True), (4 * 2**16, True), (2 * 2**16, False)]:
        changed = array.copy()
        changed[place] = 1
        assert (describe.digest(changed) != same) == seen
    assert describe.digest(np.zeros((2, 0))).startswith("float64[2, 0]")
    assert describe.digest(np.array([{}, "a"], object)) == "object[2]"
    small = np.arange(6.0).reshape(2, 3)
    assert describe.digest(small.T.copy().T) == describe.digest(small)


def test_what_identifies_a_program_is_stable_and_distinguishes():
    def of(function):
        return environment.program(jax.jit(function).trace(jnp.ones(3)).jaxpr)

    table = jnp.arange(3.0)
    functions = [
        lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + table, x),
        lambda x: jax.lax.fori_loop(0, 4, lambda i, x: x + table, x),
        lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + 2 * table, x),
        lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x + (table + 1), x),
        lambda x: jax.nn.relu(x) * 2.0,
        lambda x: jax.nn.relu(x) * 3.0,
        lambda x: jax.nn.relu(x) - x,
        lambda x: x - jax.nn.relu(x),
    ]
    codes = [of(function) for function in functions]
    assert len(set(codes)) == len(functions)
    assert [of(function) for function in functions] == codes


@pytest.mark.slow
def test_what_identifies_a_program_depends_on_no_process():
    script = (
        "import jax, test_train_folder as t; from gamedyn import train;"
        "import tempfile; d = tempfile.mkdtemp(); t.fit(d);"
        "print(train.load(d).metadata['about']['program'])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ
            | {"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
            | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# Where it ran


def test_checkpoints_say_where_they_were_made(begun):
    metadata = train.load(begun).metadata
    assert metadata["versions"]["jax"] == jax.__version__
    assert metadata["versions"]["jaxlib"] == importlib.metadata.version("jaxlib")
    assert {"python", "numpy", "optax", "gamedyn"} < metadata["versions"].keys()
    devices = metadata["devices"]
    assert devices["platform"] == "cpu"
    assert (devices["number"], devices["processes"], devices["mesh"]) == (1, 1, {})


def test_going_on_elsewhere_is_said(copy, monkeypatch):
    monkeypatch.setattr(optax, "__version__", "0.0.1")
    mesh = train.data_mesh()
    with pytest.warns(
        UserWarning,
        match=r"not bit for bit.*versions/optax: stored [\d.]+, got 0\.0\.1; "
        r"devices/number: stored 1, got 2; devices/mesh/data: stored nothing, got 2",
    ):
        run = fit(copy, resume=True, mesh=mesh)
    np.testing.assert_allclose(run.params, fit().params, 1e-12)
    # From now on that is where it runs; the program is not compared across versions.
    assert fit(copy, resume=True, mesh=mesh, num_steps=8).step == 8
    batches = train.from_arrays(ROWS, 4, doubled, seed=1)
    with pytest.warns(UserWarning, match="devices/number: stored 2, got 1"):
        assert fit(copy, batches, resume=True, num_steps=9).step == 9


# One at a time


def test_a_folder_in_use_is_left_alone(copy):
    def second(state, metrics):
        with pytest.raises(
            train.LockedError, match=f"{copy} is in use .* process {os.getpid()} on "
        ):
            fit(copy, resume=True)
        with pytest.raises(train.LockedError):
            fit(copy, overwrite=True)
        assert train.load(copy).step == 4  # reading needs no lock

    run = fit(copy, resume=True, callbacks=[second])
    assert_array_equal(run.params, fit().params)
    assert sorted(path.name for path in copy.iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
    ]


HOLDER = """
import os, sys, time
from gamedyn import train
with train.locked(sys.argv[1]):
    if hasattr(os, "fork") and os.fork() == 0:  # a worker that outlives it
        print("child", os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(0.2)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline().split()[1])
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(train.LockedError, match=f"process {process.pid} on "),
            train.locked(tmp_path),
        ):
            pass
        process.kill()
        process.wait()
        assert (tmp_path / ".lock").exists()
        with train.locked(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} on ")
        assert not (tmp_path / ".lock").exists()
    finally:
        process.stdout.close()
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/null")]
)
def test_a_lock_that_is_no_plain_file_is_refused(make, tmp_path):
    make(tmp_path / ".lock")
    with pytest.raises(OSError, match="lock"), train.locked(tmp_path):
        pass


# Damage


def damaged_lines(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0][:9] + b"\xff" + lines[0][9:]
    path.write_bytes(b"".join(lines))


def test_a_damaged_line_of_metrics_is_named(copy):
    metrics = copy / "metrics.jsonl"
    damaged_lines(metrics)
    content = metrics.read_bytes()
    with pytest.raises(
        train.CheckpointError, match="metrics.jsonl is damaged in line 1"
    ):
        train.read_metrics(copy)
    with pytest.warns(UserWarning, match="metrics.jsonl") as warned:
        run = fit(copy, resume=True)
    assert "line 1" in str(warned[0].message)
    assert "1 rows up to step 4, expected 2" in str(warned[1].message)
    assert [row["step"] for row in run.history] == [4, 6]
    assert (copy / "metrics.jsonl.damaged").read_bytes() == content
    assert train.read_metrics(copy) == run.history


@pytest.mark.parametrize(
    "line", ['{"step": NaN}', "[]", '{"a": 1}', '{"step": 2', "{" * 9**4]
)
def test_rows_are_read_strictly(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": "NaN"}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(train.CheckpointError, match="damaged in line 2"):
        train.read_metrics(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(train.CheckpointError, match="it is a link"):
        train.read_metrics(path)


def test_only_leavings_of_its_own_are_removed(copy, tmp_path):
    (copy / "checkpoints" / ".mine").mkdir()
    (copy / "checkpoints" / ".000000006.partial").symlink_to(tmp_path)
    (tmp_path / "precious").write_text("kept")
    fit(copy, resume=True)
    assert (tmp_path / "precious").exists()
    assert (copy / "checkpoints" / ".mine").exists()
    names = sorted(path.name for path in (copy / "checkpoints").iterdir())
    assert names == [".mine", "000000004", "000000006"]


def test_a_linked_folder_of_checkpoints_is_refused(copy, tmp_path):
    (copy / "checkpoints").rename(tmp_path / "other")
    (copy / "checkpoints").symlink_to(tmp_path / "other")
    with pytest.raises(train.CheckpointError, match="checkpoints is a link"):
        train.load(copy)
    with pytest.raises(train.CheckpointError, match="checkpoints is a link"):
        fit(copy, resume=True)


def test_names_with_slashes_stay_apart(tmp_path):
    tree = {"a/b": np.ones(2), "a": {"b": np.zeros(2)}, "~1": np.ones(1)}
    path = checkpoints.place(tmp_path, 3)
    checkpoints.write(path, tree, {"step": 3})
    stored = checkpoints.read(path)
    assert set(stored.metadata["structure"]) == {"a~1b", "a/b", "~01"}
    jax.tree.map(assert_array_equal, checkpoints.fill(tree, stored.arrays), tree)


def test_checkpoints_of_the_first_format_are_converted(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with tarfile.open(Path(__file__).with_name("checkpoint_format1.tar.gz")) as file:
        file.extractall(tmp_path, filter="data")
    with pytest.raises(train.CheckpointError, match="has format 1.*train.convert"):
        train.load(tmp_path)
    with monkeypatch.context() as patch:  # one that cannot be written stays as it was
        patch.setattr(checkpoints.arrays, "write", full)
        with pytest.raises(train.CheckpointError, match="the disk is full"):
            train.convert(tmp_path)
    assert train.convert(tmp_path) == [7]
    assert train.convert(tmp_path) == []
    stored = train.load(tmp_path)
    assert stored.step == 7
    assert stored.metadata["structure"]["params/1/e"] == [[0, 3], "float64"]
    assert_array_equal(stored.arrays["params"]["0"]["w"], [[0, 1, 2], [3, 4, 5]])
    assert stored.arrays["params"]["0"]["half"].dtype == jnp.bfloat16
    assert stored.arrays["params"]["1"]["c"] == 1 + 2j
    place = tmp_path / "checkpoints" / "000000007"
    shutil.rmtree(place)
    place.with_name(f"{place.name}.format1").rename(place)
    (place / "arrays" / "_METADATA").write_text("{}")
    with pytest.raises(train.CheckpointError, match="_METADATA does not have the cont"):
        train.convert(tmp_path)


# Signals

needs_hangups = pytest.mark.skipif(
    not hasattr(signal, "SIGHUP"), reason="Windows hangs nothing up"
)


def knock(number, at, *state):
    if state[0].step == at:
        os.kill(os.getpid(), number)


@needs_hangups
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_signal_left_is_said(number, saved, tmp_path):
    options = {"directory": tmp_path} if saved else {}
    run = fit(callbacks=[functools.partial(knock, number, 2)], **options)
    assert run.status == train.Ending.INTERRUPTED
    assert (run.step, run.signal) == (2, number)
    assert run.saved == (2 if saved else None)
    if saved:
        assert train.load(tmp_path).step == 2


def test_a_signal_in_the_last_call_is_not_forgotten(tmp_path):
    run = fit(tmp_path, callbacks=[functools.partial(knock, signal.SIGTERM, 6)])
    assert run.status == train.Ending.OK
    assert (run.step, run.saved, run.signal) == (6, 6, signal.SIGTERM)
    again = fit(tmp_path, resume=True)
    assert (again.step, again.saved, again.signal) == (6, 6, 0)


def test_a_second_interrupt_says_what_is_saved(tmp_path):
    def insist(state, metrics):
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        KeyboardInterrupt, match="after step 4 or later; step 2 is saved"
    ):
        fit(tmp_path, checkpoint_every=2, callbacks=[insist])
    with pytest.raises(train.Interrupted, match="nothing is saved") as caught:
        fit(callbacks=[insist])
    assert caught.value.signal == signal.SIGTERM
    assert (caught.value.step, caught.value.saved) == (4, None)


@needs_hangups
def test_what_was_ignored_stays_ignored():
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.noted() as came:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_metadata_are_plain_json(begun):
    path = begun / "checkpoints" / "000000004" / "metadata.json"
    assert json.loads(path.read_text())["step"] == 4
