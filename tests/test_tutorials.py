"""The tutorials run, and print what they say they print."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gamedyn as gd

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "tutorials"


@pytest.fixture
def add_a_method():
    """The tutorial as a module; what it registers is taken out afterwards."""
    before = gd.rules.names()
    path = FOLDER / "add_a_method.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    gd.rules.unregister(module.NAME)
    assert gd.rules.names() == before


def test_add_a_method_prints_what_it_says(add_a_method, capsys):
    add_a_method.main()
    source = Path(add_a_method.__file__).read_text()
    block = re.search(r"# ```text\n(.*?)# ```\n", source, re.DOTALL)[1]
    promised = "".join(line[2:] or "\n" for line in block.splitlines(keepends=True))
    assert capsys.readouterr().out == promised


def test_add_a_method_has_the_properties_of_all_rules():
    """Its own command, on the tests that are quick; it has to select some."""
    source = (FOLDER / "add_a_method.py").read_text()
    command = re.search(r"# \$ PYTHONPATH=(\S+) python (-m pytest [^\\]*)\\", source)
    files = ["tests/test_registry.py", "tests/test_rules_common.py"]
    assert all(name in source for name in files)
    run = subprocess.run(
        [sys.executable, *command[2].split(), "-q", "-m", "not slow", *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / command[1]}"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 15
