"""A run that is killed, however often and whenever, ends with the same bits."""

import json
import random
import signal
import time

import jax
import pytest
import train_worker
from numpy.testing import assert_array_equal

from gamedyn import train
from gamedyn.train import checkpoints

PAUSE = 0.02
PATIENCE = 180  # seconds


def plan(directory, game, num_steps, pause=PAUSE):
    options = {"game": game, "rule": "extra_adam", "every": 3, "saved": 3}
    return {"directory": directory, "num_steps": num_steps, "pause": pause, **options}


def wait_for(process, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def newest(folder):
    return max(checkpoints.steps(folder), default=0)


def kill_often(cache, run, kills, draw):
    """Kill a run again and again: between checkpoints, or in the midst of one."""
    folder = run["directory"] / "checkpoints"
    for number in range(kills):
        before = newest(folder)
        process = train_worker.start(cache, [run])
        wait_for(process, lambda before=before: newest(folder) > before)
        if number % 2:
            wait_for(process, lambda: any(folder.glob(".*.partial")))
            time.sleep(draw.uniform(0, 0.03))  # about what a checkpoint takes
        else:
            time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run was over too soon"


def terminate(cache, run):
    """A request to end is obeyed at once, with a checkpoint."""
    folder = run["directory"] / "checkpoints"
    before = newest(folder)
    process = train_worker.start(cache, [run])
    wait_for(process, lambda: newest(folder) > before)
    process.send_signal(signal.SIGTERM)
    (answer,) = train_worker.finish(process)
    assert answer["status"] == "INTERRUPTED"
    assert before < answer["step"] < run["num_steps"]
    assert newest(folder) == answer["step"]


def run_out_of_space(cache, run):
    """A full disk is an error that leaves the checkpoints as they were."""
    folder = run["directory"] / "checkpoints"
    stopped = newest(folder)
    # No file may grow beyond a size that the checkpoint's arrays exceed.
    process = train_worker.start(cache, [run], "--file-limit", 4096)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    error = json.loads(out.splitlines()[-1])["error"]
    assert error.startswith("checkpoint ")
    assert "could not be written" in error
    assert f"{stopped}] are untouched" in error
    assert newest(folder) == stopped
    assert not any(name.suffix == ".partial" for name in folder.iterdir())
    assert train.load(run["directory"]).step == stopped


def outcome(directory):
    times = ("seconds", "steps_per_second")
    rows = train.read_metrics(directory)
    plain = [{k: v for k, v in row.items() if k not in times} for row in rows]
    return train.load(directory).arrays, plain


def survives(directory, game, kills, num_steps):
    """One run meets everything in turn, and ends as if nothing had been."""
    cache, whole, killed = (directory / name for name in ("cache", "whole", "killed"))
    run = plan(killed, game, num_steps)
    draw, early = random.Random(kills), min(kills, 3)
    kill_often(cache, run, early, draw)
    terminate(cache, run)
    # While the metrics are few: later, their file would be the first to be too long.
    run_out_of_space(cache, run)
    kill_often(cache, run, kills - early, draw)
    runs = [plan(place, game, num_steps, pause=0) for place in (killed, whole)]
    for answer in train_worker.finish(train_worker.start(cache, runs)):
        assert (answer["status"], answer["step"]) == ("OK", num_steps)
    (arrays, rows), (expected, expected_rows) = outcome(killed), outcome(whole)
    jax.tree.map(assert_array_equal, arrays, expected)
    assert rows == expected_rows
    names = [path.name for path in (killed / "checkpoints").iterdir()]
    assert len(names) == 3
    assert all(name.isdecimal() for name in names), "a killed run's leavings remain"


@pytest.mark.parametrize(
    ("game", "kills"),
    [("mlp", 2), pytest.param("diffusion", 2, marks=pytest.mark.slow)],
)
def test_killed_terminated_out_of_space(game, kills, tmp_path):
    survives(tmp_path, game, kills, num_steps=120)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["mlp", "diffusion"])
def test_killed_fifty_times(game, tmp_path):
    survives(tmp_path, game, kills=50, num_steps=1500)
