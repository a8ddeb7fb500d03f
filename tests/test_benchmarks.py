"""Every benchmark runs at smoke size, and writes what it should where it should."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("[!_]*.py"))


def run(script, *arguments):
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        check=False,
    )


# What they measure compiles for long.
LONG = ("certify.py", "diffusion.py", "gan.py")


@pytest.mark.parametrize("script", LONG)
def test_a_long_one_knows_its_options(script):
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--smoke" in done.stdout


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, marks=[pytest.mark.slow] if script in LONG else [])
        for script in SCRIPTS
    ],
)
def test_smoke(script, tmp_path):
    done = run(script, "--smoke", "--out", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    name = pathlib.Path(script).stem
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.jsonl", f"{name}.md"}
    lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
    environment, *records = [json.loads(line) for line in lines]
    assert environment["kind"] == "environment"
    assert environment["smoke"]
    measurements = [r for r in records if r["kind"] == "measurement"]
    assert len(measurements) > 2
    assert all(r["median_s"] > 0 and r["rounds"] >= 1 for r in measurements)
    assert name in (tmp_path / f"{name}.md").read_text()
    assert str(ROOT) not in "".join(lines)


def test_scripts_are_there():
    expected = {
        "certify.py",
        "diffusion.py",
        "gan.py",
        "overhead.py",
        "peers.py",
        "startup.py",
        "sweeps.py",
    }
    assert expected <= set(SCRIPTS)
