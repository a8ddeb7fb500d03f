"""The command: what it writes, what it prints, and what it says to bad input."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gamedyn.cli import main

GOOD = ["compare", "bilinear", "--rules", "simultaneous", "extragradient"]


pytestmark = pytest.mark.usefixtures("folder")


def read_table(folder):
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def complaint(capsys, *arguments):
    """Run with bad input; return the one line it says."""
    try:
        code = main(list(arguments))
    except SystemExit as stop:  # bad usage ends inside the parser
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2, error
    return error


def test_compare_writes_everything(folder, capsys):
    assert main([*GOOD, "--steps", "200", "--out", "here"]) == 0
    out = folder / "here"
    assert {path.name for path in out.iterdir()} == {
        "table.csv",
        "summary.json",
        "trajectories.npz",
        "convergence.png",
        "phase.png",
        "report.html",
    }
    rows = read_table(out)
    assert [row["name"] for row in rows] == ["simultaneous", "extragradient"]
    summary = json.loads((out / "summary.json").read_text())
    assert "--out here" in summary["command"]
    assert summary["settings"]["evaluations"] == 200
    assert summary["environment"]["jax"]
    assert summary["rows"][1]["step_size"] == float(rows[1]["step_size"])
    with np.load(out / "trajectories.npz") as curves:
        assert curves["extragradient/residual"].shape == (1, 101)
        assert curves["extragradient/points"].shape == (101, 2)
    page = (out / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    printed = capsys.readouterr().out
    assert "no step size contracts" in " ".join(printed.split())
    assert "diverging" in printed
    assert "converging" in printed


def test_default_folder_counts_up(folder):
    command = [
        "compare",
        "--rules",
        "alternating",
        "--steps",
        "20",
        "--step-size",
        ".1",
    ]
    assert main(command) == 0
    assert main(command) == 0
    assert {path.name for path in (folder / "results").iterdir()} == {
        "bilinear",
        "bilinear-2",
    }


def test_results_are_never_overwritten(folder, capsys):
    (folder / "full").mkdir()
    (folder / "full" / "precious").write_text("data")
    error = complaint(capsys, *GOOD, "--out", "full")
    assert "already holds results" in error
    assert (folder / "full" / "precious").read_text() == "data"
    assert [path.name for path in folder.iterdir()] == ["full"]


def test_an_empty_folder_is_used(folder):
    (folder / "empty").mkdir()
    assert main([*GOOD, "--steps", "20", "--step-size", "1", "--out", "empty"]) == 0
    assert (folder / "empty" / "table.csv").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_unwritable_folder(folder, capsys):
    # A file where a folder should be stops everybody, also an administrator.
    (folder / "file").write_text("")
    error = complaint(capsys, *GOOD, "--out", "file/below")
    assert "file" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["compare", "bilinaer"], "did you mean bilinear"),
        (["compare", "bilinear", "--rules", "extragradeint"], "extragradient"),
        (["compare", "bilinear", "--rules", "complet-newton"], "complete_newton"),
        (["compare", "bilinear", "--rules", "zzzz"], "known: simultaneous, "),
        (["compare", "quadratic", "--rules", "regret-matching"], "for simplices"),
        (["compare", "quadratic", "--rules", "svre"], "this game has no components"),
        (["compare", "quadratic", "--rules", "interior-point"], "constraints"),
        (["compare", "symplectic-four-player", "--rules", "unrolled"], "2 players"),
        (["compare", "--steps", "0"], "--steps must be a positive"),
        (["compare", "--steps", "-3"], "--steps must be a positive"),
        (["compare", "--seeds", "0"], "--seeds must be a positive"),
        (["compare", "--step-size", "0"], "--step-size must be positive"),
        (["compare", "--step-size", "-1"], "--step-size must be positive"),
        (["compare", "--step-size", "nan"], "--step-size must be positive"),
        (["compare", "--step-size", "big"], "auto or a number, got big"),
        (["compare", "--noise", "-1"], "noise must not be negative"),
        (["compare", "--simplex"], "--simplex goes with --matrix"),
        (["compare", "bilinear", "--matrix", "m.csv"], "give one of"),
        (["compare", "--rules", "multiplicative-weights"], "simplex"),
        (["compare", "--matrix", "none.csv"], "none.csv"),
        (["compare", "--from", "nofile.py:make"], "no file nofile.py"),
        (["compare", "--from", "nothing"], "FILE.py:FUNCTION"),
    ],
)
def test_bad_arguments_are_one_line(arguments, expected, capsys, folder):
    error = complaint(capsys, *arguments)
    assert expected in error
    assert len(error.strip().splitlines()) == 1
    assert not list(folder.iterdir()), "nothing may be left behind"


@pytest.mark.parametrize("arguments", [["compare", "--steps", "many"], ["list", "x"]])
def test_bad_usage_has_exit_code_2(arguments, capsys):
    complaint(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("nan.csv", "1,nan\n2,3\n", "NaN"),
        ("text.csv", "1,two\n3,4\n", "matrix of numbers"),
        ("ragged.csv", "1,2\n3\n", "different lengths"),
        ("line.csv", "1,2,3\n", "one dimension"),
        ("column.csv", "1\n2\n", "one dimension"),
        ("empty.csv", "", "holds no numbers"),
        ("m.txt", "1,2\n3,4\n", ".npy or .csv"),
        ("flat.npy", np.ones(3), "two dimensions"),
        ("cube.npy", np.ones((2, 2, 2)), "two dimensions"),
        ("nan.npy", np.array([[1.0, np.nan]]), "NaN"),
        ("complex.npy", np.ones((2, 2), complex), "real numbers"),
        ("objects.npy", np.array([[1, "a"]], object), "matrix of numbers"),
        ("text.npy", np.array([["a", "b"]]), "real numbers"),
        ("broken.npy", "not numpy", "matrix of numbers"),
    ],
)
def test_bad_matrix_files(name, content, expected, capsys, folder):
    if isinstance(content, str):
        (folder / name).write_text(content)
    else:
        np.save(folder / name, content)
    error = complaint(capsys, "compare", "--matrix", name)
    assert expected in error
    assert name in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["m.csv", "m.npy"])
def test_own_matrix(name, folder):
    matrix = np.array([[1.0, -1.0], [-0.5, 1.0]])
    if name == "m.npy":
        np.save(folder / name, matrix)
    else:
        (folder / name).write_text("1, -1\n-0.5, 1\n")
    command = ["compare", "--matrix", name, "--simplex", "--steps", "400", "--out", "o"]
    command += ["--rules", "extragradient", "optimistic-multiplicative-weights"]
    assert main(command) == 0
    rows = read_table(folder / "o")
    assert len(rows) == 2
    assert all(float(row["residual"]) < 1e-2 for row in rows)


OWN = """
import jax.numpy as jnp
import gamedyn as gd
from neighbour import STRENGTH

def make_game():
    game = gd.general_sum(lambda x, y: x**2 / 2 + STRENGTH * x * y,
                          lambda x, y: y**2 / 2 - STRENGTH * x * y)
    return game, (jnp.array(1.0), jnp.array(2.0))

def make_nothing():
    return 3

def make_vector():
    return gd.zero_sum(lambda x, y: jnp.stack([x, y])), (jnp.array(1.0), jnp.array(2.0))

def make_integers():
    return gd.zero_sum(lambda x, y: x * y), (jnp.array(1), jnp.array(2))
"""


def test_own_functions(folder, capsys):
    (folder / "my_game.py").write_text(OWN)
    (folder / "neighbour.py").write_text("STRENGTH = 3.0")
    command = ["compare", "--steps", "400", "--rules", "extragradient"]
    assert main([*command, "--from", "my_game.py:make_game", "--out", "o"]) == 0
    row = read_table(folder / "o")[0]
    assert float(row["residual"]) < 1e-9
    assert json.loads((folder / "o" / "summary.json").read_text())["game"]["name"] == (
        "make_game"
    )
    for function, expected in (
        ("make_nothing", "got int"),
        ("make_vector", "must be a scalar"),
        ("make_integers", "floating-point"),
        ("missing", "no function missing"),
    ):
        error = complaint(capsys, *command, "--from", f"my_game.py:{function}")
        assert expected in error
        assert len(error.strip().splitlines()) == 1
    (folder / "broken.py").write_text("1 / 0")
    error = complaint(capsys, *command, "--from", "broken.py:make")
    assert "ZeroDivisionError" in error


LISTS = "games rules fields methods losses penalties schedules samplers"


@pytest.mark.parametrize("what", LISTS.split())
def test_list(what, capsys):
    from gamedyn import tables

    assert main(["list", what]) == 0
    printed = capsys.readouterr().out
    table = tables.make(what)
    assert all(row[0] in printed for row in table.rows)
    assert all(line in printed for line in table.legend)
    if table.columns == tables.METHOD_COLUMNS:
        for row in table.rows:
            assert all(word in printed for cell in row for word in cell.split())


def test_installed_command_in_a_process_of_its_own(folder):
    command = [sys.executable, "-m", "gamedyn.cli", *GOOD, "--step-size", ".1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "diverging" in words
    assert "converging" in words
    assert (folder / "results" / "bilinear" / "report.html").exists()
