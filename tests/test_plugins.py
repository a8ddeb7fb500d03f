"""Plugins: what users register themselves reaches the commands by name."""

import csv
import importlib.util
import subprocess
import sys
import textwrap

import pytest

import gamedyn as gd
from gamedyn import plugins
from gamedyn.cli import main

RULE = """
import gamedyn as gd

def tenth(step_size, **options):
    return gd.rules.make("extragradient", step_size / 10, **options)

gd.rules.register(
    "my_rule",
    make=tenth,
    family="mine",
    summary="extragradient with a tenth of the step",
    formula="z' = z - h/10 F(z - h/10 F(z))",
    source="a user's file",
    evaluations=2,
    guarantee="that of extragradient",
)
"""
FIELD_AND_GAME = """
import jax.numpy as jnp
import gamedyn as gd

@gd.fields.register(
    "my_field",
    family="mine",
    summary="consensus of a fixed weight",
    formula="F + J'F / 2",
    source="a user's file",
    work=3.0,
    products=1,
    guarantee="that of consensus",
)
def my_field(game, step_size):
    del step_size
    return gd.fields.consensus(game, 0.5)

@gd.games.register("my_game", summary="two numbers", source="a user's file")
def my_game():
    game = gd.zero_sum(lambda x, y: x * y)
    start = jnp.array(1.0), jnp.array(2.0)
    return gd.Problem(game, lambda key: start)
"""
RECIPE = """
import dataclasses, pathlib
import gamedyn as gd

@dataclasses.dataclass(frozen=True)
class Config:
    out: pathlib.Path = pathlib.Path('r')
    rule: str = 'simultaneous'

def main(config):
    return {'summary': gd.rules.entries()[config.rule].summary}

def evaluate(config):
    return main(config)
"""

pytestmark = pytest.mark.usefixtures("folder", "registries")


@pytest.fixture
def registries():
    """Take out again what a plugin registers, and forget that it was loaded."""
    loaded = set(plugins._LOADED)
    kinds = gd.rules, gd.fields, gd.games
    before = [set(kind.names()) for kind in kinds]
    yield
    plugins._LOADED.clear()
    plugins._LOADED.update(loaded)
    for kind, known in zip(kinds, before, strict=True):
        for name in set(kind.names()) - known:
            kind.unregister(name)


@pytest.fixture
def installed(folder, monkeypatch):
    """Announce plugins as an installed package does, by a folder of metadata."""

    def install(**entry_points):
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        info = folder / "site" / "my_package-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\n")
        text = "\n".join(["[gamedyn.plugins]", *lines])
        (info / "entry_points.txt").write_text(text)
        monkeypatch.syspath_prepend(folder / "site")
        return folder / "site"

    return install


def rows(path):
    with (path / "table.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def complaint(capsys, *arguments):
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    return error


def test_a_rule_of_a_file_is_compared_by_name(folder, capsys):
    (folder / "mine.py").write_text(RULE)
    options = ["--rules", "my-rule", "extragradient", "--steps", "200", "--out", "o"]
    assert main(["compare", "bilinear", "--plugin", "mine.py", *options]) == 0
    table = rows(folder / "o")
    own, known = table["my_rule"], table["extragradient"]
    assert float(own["step_size"]) == pytest.approx(10 * float(known["step_size"]))
    assert float(own["residual"]) == pytest.approx(float(known["residual"]))
    # A second command of the same process finds it loaded.
    assert main(["list", "rules", "--plugin", "mine.py"]) == 0
    assert "my_rule" in capsys.readouterr().out
    command = ["analyse", "bilinear", "--rule", "my_rule", "--step-size", "0.4"]
    assert main([*command, "--plugin", "mine.py", "--out", "a"]) == 0
    assert "my_rule" in (folder / "a" / "report.json").read_text()


def test_a_field_and_a_game_of_files_in_a_process_of_its_own(folder):
    (folder / "mine.py").write_text(RULE)
    (folder / "more.py").write_text(FIELD_AND_GAME)
    command = [sys.executable, "-m", "gamedyn.cli", "compare", "my_game"]
    command += ["--plugin", "mine.py", "--plugin", "more.py", "--out", "o"]
    command += ["--rules", "my_rule", "my_field", "--step-size", ".2", "--steps", "90"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert set(rows(folder / "o")) == {"my_rule", "my_field"}


def test_recipes_are_trained_with_plugins(folder, capsys):
    (folder / "mine.py").write_text(RULE)
    (folder / "recipe.py").write_text(RECIPE)
    options = ["--rule", "my_rule", "--plugin", "mine.py", "--out", "run"]
    assert main(["train", "recipe.py", *options]) == 0
    assert "tenth of the step" in capsys.readouterr().out
    command = ["evaluate", "run", "--plugin", "mine.py"]
    assert main([*command, "--recipe", "recipe.py"]) == 0
    assert "tenth of the step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no file"),
        ("\n1 / 0", "fails to load: ZeroDivisionError: division by zero (line 2)"),
        ("import sys\nsys.exit('bye')", "fails to load: SystemExit: bye (line 2)"),
        (
            "x = (",
            "fails to load: SyntaxError: '(' was never closed (broken.py, line 1)",
        ),
        ("import json\n\njson.loads('')", "line 1 column 1 (char 0) (line 3)"),
        (
            "import gamedyn as gd\ngd.rules.make('no_rule', 1.0)",
            "ValueError: unknown rule",
        ),
    ],
)
def test_a_broken_file_is_named(content, expected, folder, capsys):
    if content is not None:
        (folder / "broken.py").write_text(content)
    error = complaint(capsys, "list", "rules", "--plugin", "broken.py")
    assert "broken.py" in error
    assert expected in error


def test_a_failing_file_leaves_nothing_behind(folder):
    """But what it imported on the way, which is not executed again."""
    (folder / "helper.py").write_text(FIELD_AND_GAME)
    file = folder / "mine.py"
    file.write_text(f"import helper\n{RULE}\n1 / 0\n")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        gd.plugins.load(file)
    assert "my_rule" not in gd.rules.names()
    assert "my_field" in gd.fields.names()
    file.write_text(f"import helper\n{RULE}")
    gd.plugins.load(file)
    assert "my_rule" in gd.rules.names()


@pytest.mark.parametrize("value", ["my_module", "my_module:register"])
def test_a_failing_installed_plugin_says_so_again(value, installed):
    site = installed(mine=value)
    text = RULE + "\n1 / 0\n"
    if ":" in value:
        text = "def register():\n" + textwrap.indent(text, "    ")
    (site / "my_module.py").write_text(text)
    for _ in range(2):
        (failure,) = gd.plugins.load()
        assert "ZeroDivisionError" in failure
        assert "my_rule" not in gd.rules.names()


def test_gamedyns_own_entries_outlive_a_plugin_that_fails(folder):
    """A process of its own, in which the plugin is the first to load the games."""
    (folder / "mine.py").write_text("import gamedyn as gd\ngd.games.names()\n1 / 0\n")
    code = (
        "import gamedyn as gd\n"
        "try:\n    gd.plugins.load('mine.py')\n"
        "except ValueError:\n    assert 'bilinear' in gd.games.names()\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


def test_one_file_is_plugin_and_source_of_a_game(folder):
    text = RULE + "\ndef other():\n    return gd.games.make('bilinear')\n"
    (folder / "mine.py").write_text(text)
    options = ["--rules", "my_rule", "--step-size", ".2", "--steps", "9", "--out", "o"]
    command = ["compare", "--from", "mine.py:other", "--plugin", "mine.py", *options]
    assert main(command) == 0
    assert set(rows(folder / "o")) == {"my_rule"}


def test_one_file_is_plugin_and_recipe(folder, capsys):
    (folder / "own.py").write_text(RULE + RECIPE)
    options = ["--rule", "my_rule", "--out", "run"]
    assert main(["train", "--plugin", "own.py", "own.py", *options]) == 0
    assert "tenth of the step" in capsys.readouterr().out
    assert main(["evaluate", "--plugin=own.py", "run"]) == 0
    module = gd.recipes.load("own.py")
    assert gd.recipes.read_record(folder / "run")[0] is module
    (folder / "plain.py").write_text(RECIPE)
    before = gd.recipes.load("plain.py")
    (folder / "plain.py").write_text(RECIPE + "\nnew = 1\n")
    assert gd.recipes.load("plain.py").new == 1
    assert not hasattr(before, "new")


def test_a_file_named_like_a_module_of_python(folder):
    """One that nothing has imported before."""
    (folder / "this.py").write_text("import neighbour")
    (folder / "neighbour.py").write_text("")
    assert "this" not in sys.modules
    gd.plugins.load("this.py")
    assert "this" not in sys.modules
    spec = importlib.util.find_spec("this")
    assert not spec.origin.startswith(str(folder))


def test_a_file_named_like_an_installed_package(folder, installed):
    """It does not stand in for the package, which nothing has imported before."""
    site = installed()
    (site / "their_package").mkdir()
    (site / "their_package" / "__init__.py").write_text("theirs = True")
    (folder / "their_package.py").write_text("mine = True")
    assert gd.recipes.import_path(folder / "their_package.py").mine
    assert importlib.import_module("their_package").theirs


@pytest.mark.parametrize("value", ["my_module", "my_module:register"])
def test_installed_plugins_are_there_at_once(value, installed, capsys):
    site = installed(mine=value)
    text = RULE
    if ":" in value:  # a function that registers when it is called
        text = "def register():\n" + textwrap.indent(text, "    ")
    (site / "my_module.py").write_text(text)
    assert main(["list", "rules"]) == 0
    printed = capsys.readouterr()
    assert "my_rule" in printed.out
    assert printed.err == ""


def test_a_broken_installed_plugin_is_named_and_the_others_work(installed, capsys):
    site = installed(broken="my_broken", absent="my_absent:load", mine="my_good")
    (site / "my_broken.py").write_text("raise RuntimeError('out of\\norder')")
    (site / "my_good.py").write_text(RULE)
    assert main(["list", "rules"]) == 0
    printed = capsys.readouterr()
    assert "my_rule" in printed.out
    assert printed.err.splitlines() == [
        "gamedyn: warning: the plugin broken (my_broken) fails to load: "
        f"RuntimeError: out of order ({site / 'my_broken.py'}, line 1)",
        "gamedyn: warning: the plugin absent (my_absent:load) fails to load: "
        "ModuleNotFoundError: No module named 'my_absent'",
    ]


def test_a_notebook_loads_them_too(folder):
    (folder / "mine.py").write_text(RULE)
    assert gd.plugins.load("mine.py") == ()
    assert gd.plugins.load([folder / "mine.py"]) == ()  # once is enough
    problem = gd.games.make("bilinear")
    row = gd.compare(problem, "my_rule", step_size=0.2, evaluations=40).rows[0]
    assert row.evaluations_per_step == 2
