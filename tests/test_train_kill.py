"""A run that is killed, however often and whenever, ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from numpy.testing import assert_array_equal

from gamedyn import train
from gamedyn.train import checkpoints

WORKER = Path(__file__).with_name("train_worker.py")
PAUSE = 0.02
PATIENCE = 180  # seconds


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    # Compiled programs are kept, so that a restart is quick.
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONWARNINGS": "error",
    }


def begin(environment, directory, *options):
    return subprocess.Popen(
        [sys.executable, WORKER, directory, "--rule", "extra_adam", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.split("\n")[-2])


def wait_for(process, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def newest(folder):
    return max(checkpoints.steps(folder), default=0)


def kill_often(environment, directory, kills, draw, options):
    """Kill a run again and again: between checkpoints, or in the midst of one."""
    folder = directory / "checkpoints"
    for number in range(kills):
        before = newest(folder)
        process = begin(environment, directory, *options)
        wait_for(process, lambda before=before: newest(folder) > before)
        if number % 2:
            wait_for(process, lambda: any(folder.glob(".*.partial")))
            time.sleep(draw.uniform(0, 0.03))  # about what a checkpoint takes
        else:
            time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over too soon"


def outcome(directory):
    times = ("seconds", "steps_per_second")
    rows = train.read_metrics(directory)
    plain = [{k: v for k, v in row.items() if k not in times} for row in rows]
    return train.load(directory).arrays, plain


def survives(environment, directory, kills, num_steps):
    options = ("--num-steps", str(num_steps), "--every", "3", "--pause", str(PAUSE))
    whole, killed = directory / "whole", directory / "killed"
    reference = begin(environment, whole, *options[:4])
    assert finish(reference)["status"] == "OK"
    kill_often(environment, killed, kills, random.Random(kills), options)
    answer = finish(begin(environment, killed, *options[:4]))
    assert (answer["status"], answer["step"]) == ("OK", num_steps)
    (arrays, rows), (expected, expected_rows) = outcome(killed), outcome(whole)
    jax.tree.map(assert_array_equal, arrays, expected)
    assert rows == expected_rows
    names = [path.name for path in (killed / "checkpoints").iterdir()]
    assert len(names) == 3
    assert all(name.isdecimal() for name in names), "a killed run's leavings remain"


def test_killed_three_times(environment, tmp_path):
    survives(environment, tmp_path, kills=3, num_steps=120)


@pytest.mark.slow
def test_killed_fifty_times(environment, tmp_path):
    survives(environment, tmp_path, kills=50, num_steps=1500)


def test_terminated_then_out_of_space_then_done(environment, tmp_path):
    options = ("--num-steps", "60", "--every", "3", "--pause", str(PAUSE))
    folder = tmp_path / "checkpoints"
    process = begin(environment, tmp_path, *options)
    wait_for(process, lambda: checkpoints.steps(folder))
    process.send_signal(signal.SIGTERM)
    answer = finish(process)
    assert answer["status"] == "INTERRUPTED"
    stopped = answer["step"]
    assert 0 < stopped < 60
    assert checkpoints.steps(folder)[-1] == stopped

    # No file may grow beyond a size that the checkpoint's arrays exceed.
    process = begin(environment, tmp_path, *options, "--file-limit", "4096")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "CheckpointError: checkpoint" in err
    assert "could not be written" in err
    assert f"{stopped}] are untouched" in err
    assert checkpoints.steps(folder)[-1] == stopped
    assert not any(name.suffix == ".partial" for name in folder.iterdir())
    assert train.load(tmp_path).step == stopped

    assert finish(begin(environment, tmp_path, *options[:4]))["step"] == 60
