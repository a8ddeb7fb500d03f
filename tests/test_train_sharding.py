"""One run on one device, on eight, in two processes: the same losses."""

import shutil
import socket
import time

import jax
import numpy as np
import optax
import pytest
import train_worker
from numpy.testing import assert_allclose

import gamedyn as gd
from gamedyn import train
from gamedyn.train import checkpoints

GAMES = ("dcgan8", "wgan_gp", "diffusion")


def plan(directory, game, num_steps=24, **options):
    options = {"rule": "sgd", "every": 2, "saved": 8} | options
    return {"directory": directory, "game": game, "num_steps": num_steps, **options}


def pair(cache, runs):
    """Start two processes, of two devices each, that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--devices", 2, "--processes", 2, "--address", address)
    return [
        train_worker.start(cache, runs, *options, "--process", index)
        for index in range(2)
    ]


def losses_of(row):
    losses = [value for name, value in row.items() if name.startswith("loss_")]
    assert losses
    return losses


def agree(directory, single):
    losses = []
    for run in (directory, single):
        rows = train.read_metrics(run)
        assert [row["step"] for row in rows] == list(range(2, 26, 2))
        losses.append([losses_of(row) for row in rows])
    assert_allclose(*losses, rtol=1e-5, err_msg=str(directory))
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-10),
        train.load(directory).arrays,
        train.load(single).arrays,
    )


def test_layouts_agree_and_resume_each_other(tmp_path):
    check_layouts(tmp_path, {"both": ["wgan_gp"], "resumed": ["wgan_gp"]})


@pytest.mark.slow
def test_all_layouts_agree_and_resume_each_other(tmp_path):
    check_layouts(tmp_path, {"both": GAMES, "resumed": GAMES})


# All in one, for processes are dear: all games in each.
def check_layouts(tmp_path, in_processes):
    """Compare layouts; two processes do some games anew, and go on with some."""

    def at(name, game):
        return tmp_path / f"{name}-{game}"

    named = {game for games in in_processes.values() for game in games}
    games = [game for game in GAMES if game in named]
    cache, runs = tmp_path / "cache", []
    for game in games:
        runs += [
            plan(at("one", game), game),
            plan(at("eight", game), game, num_steps=20, mesh=8),
            plan(at("eight", game), game),  # what eight devices began, one goes on with
        ]
    answers = train_worker.finish(train_worker.start(cache, runs, "--devices", 8))
    assert [answer["devices"] for answer in answers] == len(games) * [[1], [8], [1]]
    assert [answer["step"] for answer in answers] == len(games) * [24, 20, 24]
    assert [answer["elsewhere"] for answer in answers] == len(games) * [0, 0, 1]
    for game in games:
        agree(at("eight", game), at("one", game))

    # What one process began, two go on with, and the last run would take very long.
    for game in in_processes["resumed"]:
        shutil.copytree(at("one", game), at("resumed", game))
        shutil.rmtree(at("resumed", game) / "checkpoints" / "000000024")
    places = [(name, game) for name, some in in_processes.items() for game in some]
    runs = [plan(at(name, game), game, mesh=4) for name, game in places]
    long = tmp_path / "long"
    runs += [plan(long, "wgan_gp", num_steps=5000, pause=0.02, mesh=4)]
    processes = pair(cache, runs)
    try:
        while not checkpoints.steps(long / "checkpoints"):
            for process in processes:
                assert process.poll() is None, process.communicate()[1][-3000:]
            time.sleep(0.01)
        processes[1].terminate()  # a signal to one ends both
        first, second = map(train_worker.finish, processes)
    finally:
        for process in processes:
            process.kill()
    warned = [answer.pop("elsewhere") for answer in first]
    assert warned == [int(name == "resumed") for name, _ in places] + [0]
    assert not any(answer.pop("elsewhere") for answer in second)  # it does not read
    assert first == second
    done = {"status": "OK", "step": 24, "devices": [4], "processes": 2}
    assert first[:-1] == len(places) * [done]
    assert first[-1]["status"] == "INTERRUPTED"
    assert train.load(long).step == first[-1]["step"] < 5000
    for name, game in places:
        agree(at(name, game), at("one", game))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1, "error"),
        pytest.param(0, "error", marks=pytest.mark.slow),
        pytest.param(1, "killed", marks=pytest.mark.slow),
        pytest.param(0, "killed", marks=pytest.mark.slow),
    ],
)
def test_one_process_that_fails_ends_all(number, kind, tmp_path):
    run = plan(tmp_path / "run", "diffusion", 5000, mesh=4, failing=(number, kind))
    processes = pair(tmp_path / "cache", [run])
    try:
        failed = processes.pop(number)
        _, first = failed.communicate(timeout=120)
        begun = time.monotonic()
        _, second = processes[0].communicate(timeout=60)
        assert time.monotonic() - begun < 60
        assert 0 not in (failed.returncode, processes[0].returncode)
    finally:
        for process in [failed, *processes]:
            process.kill()
    if kind == "error":
        assert "RuntimeError: no such shard" in first.splitlines()
        assert f"(process {number}: RuntimeError: no such shard)" in second


def test_the_mesh_changes_nothing_here():
    game, params, build, examples = train_worker.mlp()
    examples = np.asarray(examples)

    def fit(mesh, batch_size=32, on_device=False):
        return train.fit(
            game,
            gd.simultaneous(optax.sgd(0.05)),
            params,
            train.from_arrays(examples, batch_size, build, on_device=on_device),
            num_steps=4,
            key=jax.random.key(0),
            steps_per_call=1,
            log_every=1,
            mesh=mesh,
        )

    mesh, alone = train.data_mesh(), fit(None)
    for on_device in (False, True):
        spread = fit(mesh, on_device=on_device)
        for one, other in zip(alone.history, spread.history, strict=True):
            assert_allclose(losses_of(one), losses_of(other), rtol=1e-12)
        leaf = jax.tree.leaves(spread.params)[0]
        assert leaf.sharding.is_fully_replicated
        assert len(leaf.sharding.device_set) == jax.device_count() == 2
    with pytest.raises(ValueError, match=r"multiple of 2 examples.*shape \(31, 2\)"):
        fit(mesh, batch_size=31)
