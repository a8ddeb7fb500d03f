"""One run on one device, on eight, in two processes: the same losses."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gamedyn import train
from gamedyn.train import checkpoints

WORKER = Path(__file__).with_name("train_worker.py")
PATIENCE = 240  # seconds


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONWARNINGS": "error",
    }


def run(environment, directory, *options, processes=1, terminate=False):
    """Train in one or several processes, and return what each answers.

    With `terminate`, the last one gets SIGTERM once there is a checkpoint.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, directory, *map(str, options)]
            + ["--processes", str(processes), "--process", str(index)]
            + ["--address", address],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    answers = []
    try:
        while terminate and not checkpoints.steps(directory / "checkpoints"):
            assert started[-1].poll() is None, started[-1].communicate()[1][-3000:]
            time.sleep(0.01)
        if terminate:
            started[-1].terminate()
        for process in started:
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, err[-3000:]
            answers.append(json.loads(out.split("\n")[-2]))
    finally:
        for process in started:
            process.kill()
    return answers


def losses(directory):
    rows = train.read_metrics(directory)
    return np.array([[row["loss_0"], row["loss_1"]] for row in rows])


@pytest.fixture(scope="module")
def single(environment, tmp_path_factory):
    directory = tmp_path_factory.mktemp("single")
    (answer,) = run(environment, directory, "--every", 2)
    assert answer == {"status": "OK", "step": 20, "devices": [1], "processes": 1}
    return directory


def agree(directory, single):
    assert len(losses(single)) == 10
    assert_allclose(losses(directory), losses(single), rtol=1e-5)
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-10),
        train.load(directory).arrays,
        train.load(single).arrays,
    )


def test_eight_devices(environment, single, tmp_path):
    options = ("--every", 2, "--devices", 8)
    (answer,) = run(environment, tmp_path, *options, "--mesh", 8, "--num-steps", 10)
    assert answer["devices"] == [8]
    # What eight devices began, one goes on with.
    (answer,) = run(environment, tmp_path, *options)
    assert (answer["step"], answer["devices"]) == (20, [1])
    agree(tmp_path, single)


def test_two_processes(environment, single, tmp_path):
    # What one process began, two go on with, two devices each.
    shutil.copytree(single, tmp_path / "resumed")
    for step in (18, 20):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / f"{step:09d}")
    options = ("--every", 2, "--devices", 2, "--mesh", 4)
    for name in ("both", "resumed"):
        answers = run(environment, tmp_path / name, *options, processes=2)
        for answer in answers:
            assert answer == {
                "status": "OK",
                "step": 20,
                "devices": [4],
                "processes": 2,
            }
        agree(tmp_path / name, single)


def test_a_signal_to_one_process_ends_both(environment, tmp_path):
    options = ("--every", 2, "--mesh", 2, "--pause", 0.02, "--num-steps", 5000)
    answers = run(environment, tmp_path, *options, processes=2, terminate=True)
    first, second = answers
    assert first == second
    assert first["status"] == "INTERRUPTED"
    assert train.load(tmp_path).step == first["step"] < 5000


def test_the_mesh_changes_nothing_here():
    import mlp_gan
    import optax

    import gamedyn as gd

    params, (examples, _) = mlp_gan.make(8, dtype=jax.numpy.float64)

    def build(rows, key):
        return rows, jax.random.normal(key, (rows.shape[0], 16), rows.dtype)

    def fit(mesh, batches):
        rule = gd.simultaneous(optax.sgd(0.05))
        return train.fit(
            mlp_gan.GAME,
            rule,
            params,
            batches,
            num_steps=4,
            key=jax.random.key(0),
            log_every=1,
            mesh=mesh,
        )

    mesh = train.data_mesh()
    for on_device in (False, True):
        batches = train.from_arrays(
            np.asarray(examples), 32, build, on_device=on_device
        )
        alone, spread = fit(None, batches), fit(mesh, batches)
        for one, other in zip(alone.history, spread.history, strict=True):
            assert_allclose(one["loss_1"], other["loss_1"], rtol=1e-12)
        leaf = jax.tree.leaves(spread.params)[0]
        assert leaf.sharding.is_fully_replicated
        assert len(leaf.sharding.device_set) == jax.device_count() == 2
    odd = train.from_arrays(np.asarray(examples), 31, build)
    with pytest.raises(ValueError, match=r"multiple of 2 examples.*shape \(31, 2\)"):
        fit(mesh, odd)
