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
REGISTRIES = {"add_a_method": gd.rules, "add_a_field": gd.fields}


@pytest.fixture(params=REGISTRIES)
def tutorial(request):
    """A tutorial as a module; what it registers is taken out afterwards."""
    registry = REGISTRIES[request.param]
    before = registry.names()
    path = FOLDER / f"{request.param}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(registry.names()) == {*before, module.NAME}
    yield module
    registry.unregister(module.NAME)
    assert registry.names() == before


def test_every_tutorial_is_run_and_in_the_documentation():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(REGISTRIES)
    nav = (ROOT / "mkdocs.yml").read_text()
    assert all(f"tutorials/{name}.md" in nav for name in REGISTRIES)


def test_it_prints_what_it_says(tutorial, capsys):
    tutorial.main()
    source = Path(tutorial.__file__).read_text()
    block = re.search(r"# ```text\n(.*?)# ```\n", source, re.DOTALL)[1]
    promised = "".join(line[2:] or "\n" for line in block.splitlines(keepends=True))
    assert capsys.readouterr().out == promised


@pytest.mark.parametrize(
    ("name", "common", "at_least"),
    [
        ("add_a_method", "tests/test_rules_common.py", 15),
        ("add_a_field", "tests/test_fields_common.py", 7),
    ],
)
def test_it_has_the_properties_of_all_its_kind(name, common, at_least):
    """Its own command, on the tests that are quick; it has to select some."""
    source = (FOLDER / f"{name}.py").read_text()
    command = re.search(r"# \$ PYTHONPATH=(\S+) python (-m pytest [^\\]*)\\", source)
    files = ["tests/test_registry.py", common]
    assert all(name in source for name in files)
    run = subprocess.run(
        [sys.executable, *command[2].split(), "-q", "-m", "not slow", *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / command[1]}"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= at_least
