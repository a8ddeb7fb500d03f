"""`import gamedyn` stays as light as jax and optax, and shows what it has."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import gamedyn as gd

HEAVY = {"flax", "matplotlib", "orbax", "rich", "scipy.optimize", "sklearn", "tyro"}
MOVED = ("compare", "race", "report")


def _loaded_by(statement):
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(run.stdout.split())


def test_import_leaves_heavy_libraries_alone():
    # Whatever jax and optax load themselves is theirs to answer for.
    added = _loaded_by("import gamedyn") - _loaded_by("import jax, optax")
    assert "gamedyn" in added
    assert not added & HEAVY
    assert not added & {"gamedyn.games", "gamedyn.workbench", "gamedyn.plugins"}


def test_public_names_are_there_and_shown():
    assert {"Problem", "analyse", "compare", "plot", "solve"} <= set(gd.__all__)
    assert dir(gd) == gd.__all__ == sorted(set(gd.__all__))
    for name in gd.__all__:
        getattr(gd, name)
    with pytest.raises(AttributeError, match="no attribute 'comparison'"):
        _ = gd.comparison
    assert gd.Problem is gd.games.Problem


def test_type_checkers_see_what_is_loaded_on_first_use():
    tree = ast.parse(Path(gd.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for statement in block.body:
        for alias in statement.names:
            assert alias.asname == alias.name
            seen[alias.name] = f"{statement.module}.{alias.name}"
    assert seen == {name: home.replace(":", ".") for name, home in gd._LAZY.items()}


@pytest.mark.parametrize("name", MOVED)
def test_old_paths_warn_and_work(name, monkeypatch):
    # The import puts the old module into the package; afterwards it is as it was.
    monkeypatch.setitem(vars(gd), name, None)
    old = importlib.import_module(f"gamedyn.{name}")
    new = importlib.import_module(f"gamedyn.workbench.{name}")
    public = next(
        key
        for key, value in vars(new).items()
        if getattr(value, "__module__", "") == new.__name__ and key[0] != "_"
    )
    with pytest.warns(DeprecationWarning, match=f"moved to gamedyn.workbench.{name}"):
        assert getattr(old, public) is getattr(new, public)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = old.nothing


@pytest.mark.parametrize(
    ("old", "names", "new"),
    [
        (
            "rules.base",
            "add copy inner scale select subtract unflatten working_dtype",
            "trees",
        ),
        ("rules.registry", "EUCLIDEAN PROJECTED on_simplices", "rules.base"),
        (
            "rules.registry",
            "wrapped wrapped_from_transformations",
            "rules.combinations",
        ),
        ("games.problem", "GameEntry REGISTRY register", "games.registry"),
        ("data.sets", "ENVIRONMENT find verify_content", "data.published"),
    ],
)
def test_old_names_warn_and_work(old, names, new):
    module = importlib.import_module(f"gamedyn.{old}")
    home = importlib.import_module(f"gamedyn.{new}")
    for name in names.split():
        with pytest.warns(DeprecationWarning, match=f"moved to gamedyn.{new}.{name}"):
            assert getattr(module, name) is getattr(home, name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_public_names_hold_after_modules_of_that_name_were_imported():
    code = """
import warnings
warnings.simplefilter("error")
import gamedyn as gd
assert gd.plot is gd.workbench.plot
import gamedyn.compare, gamedyn.plot
assert gd.plot.convergence is gd.workbench.plot.convergence
problem = gd.games.make("bilinear")
rows = gd.compare(problem, "optimistic", step_size=0.1, evaluations=20).rows
assert rows[0].name == "optimistic"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_in_the_package_uses_an_old_path():
    moved = {
        path.stem
        for path in Path(gd.__file__).parent.glob("*.py")
        if "forward(" in path.read_text() and path.stem not in ("_moved", "cli")
    }
    assert moved >= set(MOVED)
    for module in pkgutil.walk_packages(gd.__path__, "gamedyn."):
        if module.name.removeprefix("gamedyn.") in moved:
            continue
        source = Path(importlib.util.find_spec(module.name).origin).read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "gamedyn":
                assert not moved & {alias.name for alias in node.names} - set(
                    gd.__all__
                )
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in {f"gamedyn.{name}" for name in moved}
