"""Runs tests/without_x64 in a process where jax never knew float64."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest


@pytest.mark.skipif(
    not jax.config.read("jax_enable_x64"), reason="this process has x64 off already"
)
def test_without_x64(request):
    folder = pathlib.Path(__file__).parent / "without_x64"
    # A worker of pytest-xdist leaves marks that the inner pytest must not find.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    options = ["-q", "-p", "no:cacheprovider", "-m", request.config.option.markexpr]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        env=environment | {"GAMEDYN_TEST_X64": "0"},
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
