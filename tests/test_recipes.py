"""Recipes: found, run, resumed, sampled and evaluated by command."""

import ast
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import optax
import pytest

import gamedyn as gd
from gamedyn import cli, recipes
from gamedyn.recipes.rules import named_rule

OWN = '''"""A recipe of one's own."""
import dataclasses
from pathlib import Path

@dataclasses.dataclass(frozen=True)
class Config:
    """Options."""
    out: Path = Path("here")
    number: int = 3
    rates: tuple[float, float] = (0.1, 0.2)
    folder: Path | None = None

def main(config):
    return {"square": config.number ** 2, "rate": config.rates[1]}
'''


@pytest.fixture
def here(folder):
    (folder / "mine.py").write_text(OWN)
    return folder


def complaint(capsys, *arguments):
    assert cli.main(["train", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_the_recipes_of_the_package():
    image_gans = {"dcgan", "cgan", "wgan", "stacked_mnist"}
    assert {"gan_theory"} | image_gans <= set(recipes.names())
    assert all(recipes.summaries().values())
    assert not any(name.startswith("_") for name in recipes.names())


def alone(name):
    """Whether a recipe is about itself alone: not a study of others, not the papers."""
    return name not in ("gan_vs_diffusion", "papers")


def test_recipes_import_one_another_relatively():
    """The package that holds them has one name in a checkout, another installed."""
    home = recipes.shipped()
    for file in home.rglob("*.py"):
        if "papers" not in file.relative_to(home).parts:
            assert not any(
                name.partition(".")[0] == "experiments" for name in imports_of(file)
            ), file


def test_installed_recipes_are_part_of_the_package(folder):
    """As in the wheel, which tests/wheel.py installs: there is no `experiments`."""
    left_out = shutil.ignore_patterns("__pycache__", "papers", "results")
    package = folder / "site/gamedyn"
    shutil.copytree(Path(cli.__file__).parent, package, ignore=left_out)
    shutil.copytree(recipes.shipped(), package / "experiments", ignore=left_out)
    code = """if True:
        import sys
        from gamedyn.recipes import load, lookup, names
        module = load("gan-vs-diffusion")
        assert "experiments" not in sys.modules
        print(module.__file__, module.__name__, lookup.reference(module), *names())
        """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    file, module, name, *names = done.stdout.split()
    assert Path(file).is_relative_to(package)
    assert (module, name) == (f"gamedyn.experiments.{name}", "gan_vs_diffusion")
    assert set(names) == set(recipes.names()) - {"papers"}


@pytest.mark.parametrize("name", list(filter(alone, recipes.names())))
def test_recipes_travel(name, folder):
    """Copied to elsewhere under another name, they need nothing of `experiments`."""
    source = recipes.load(name)
    home = Path(source.__file__).parent
    for file in home.glob("*.py"):
        assert not any(name.startswith("..") for name in imports_of(file)), file
    shutil.copytree(home, f"my_{name}", ignore=shutil.ignore_patterns("results"))
    module = recipes.load(f"my_{name}")
    assert module.__name__ == f"my_{name}"
    assert recipes.to_json(module.Config()) == recipes.to_json(source.Config())


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize(
    "run",
    sorted(recipes.shipped().glob("*/results/**/run.json")),
    ids=lambda run: str(run.parent.relative_to(recipes.shipped())),
)
def test_stored_records_still_load(run):
    module, config = recipes.read_record(run.parent)
    assert module.__name__.startswith("experiments.")
    assert config.out == run.parent


def test_a_name_is_the_packages_own_recipe(folder, monkeypatch):
    """A folder `experiments` here, even first on the path, replaces nothing."""
    for name in ("dcgan", "stranger"):
        (folder / "experiments" / name).mkdir(parents=True)
        (folder / "experiments" / name / "__init__.py").write_text("1 / 0")
    (folder / "experiments/__init__.py").write_text("1 / 0")
    assert "stranger" not in recipes.names()
    with pytest.raises(ValueError, match="unknown recipe 'stranger'"):
        recipes.load("stranger")
    monkeypatch.syspath_prepend(folder)
    kept = {name: module for name, module in sys.modules.items() if ours(name)}
    try:
        for name in kept:
            del sys.modules[name]
        module = recipes.load("dcgan")
        assert Path(module.__file__).parents[1] == recipes.shipped()
        assert Path(sys.modules["experiments"].__file__).parent == recipes.shipped()
    finally:
        for name in filter(ours, list(sys.modules)):
            del sys.modules[name]
        sys.modules.update(kept)


def ours(name):
    return name.partition(".")[0] == "experiments"


def test_another_package_of_the_name_is_in_the_way(folder, monkeypatch, capsys):
    foreign = types.ModuleType("experiments")
    foreign.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "experiments", foreign)
    message = complaint(capsys, "dcgan", "--smoke")
    assert "an 'experiments' other than gamedyn's is imported already" in message
    assert str(folder) in message


def test_recipes_named_like_other_modules(folder):
    (folder / "json.py").write_text(OWN)
    (folder / "in_parts").mkdir()
    (folder / "in_parts/__init__.py").write_text(f"{OWN}\nfrom . import part\n")
    (folder / "in_parts/part.py").write_text("")
    assert recipes.load("json.py").main is not None
    assert sys.modules["json"] is json
    for path in ("in_parts", "in_parts/__init__.py"):
        assert recipes.load(path).part.__name__ == "in_parts.part"


def test_runs_and_recipes_that_moved(here, capsys):
    (here / "mine.py").write_text(
        OWN.replace("    folder:", "    resume: bool = False\n    folder:")
        + "\n\ndef evaluate(config):\n    return {'number': config.number}\n"
    )
    assert cli.main(["train", "mine.py", "--number", "5", "--out", "run"]) == 0
    (here / "runs").mkdir()
    shutil.move("run", "runs/moved")
    assert cli.main(["evaluate", "runs/moved", "--recipe", "mine.py"]) == 0
    shutil.move("mine.py", "runs/ours.py")
    capsys.readouterr()
    assert cli.main(["evaluate", "runs/moved", "--recipe", "runs/ours.py"]) == 0
    assert "5" in capsys.readouterr().out
    module, config = recipes.read_record(Path("runs/moved"), "runs/ours.py")
    assert module.evaluate(config) == {"number": 5}
    module, config = recipes.resume(Path("runs/moved"), "runs/ours.py")
    assert config == module.Config(Path("runs/moved"), 5, resume=True)
    # It goes on under its new path.
    recipes.run(module, config)
    _, config = recipes.read_record(Path("runs/moved"), "runs/ours.py")
    assert config.number == 5


def test_a_recipe_of_a_folder_has_its_name(here, monkeypatch):
    (here / "own").mkdir()
    shutil.move("mine.py", "own/__init__.py")
    (here / "own/__init__.py").write_text(OWN.replace('Path("here")', "Path()"))
    assert cli.main(["train", "own/__init__.py"]) == 0
    assert recipes.read_record(Path("results/own"), "own")[1].number == 3
    monkeypatch.chdir("own")
    assert cli.main(["train", "."]) == 0
    assert Path("results/own/run.json").is_file()


def test_rules_of_recipes_may_be_named_with_hyphens():
    rule = named_rule("extragradient-plus", (0.1, 0.2), optax.adam)
    assert isinstance(rule, gd.Rule)
    with pytest.raises(ValueError, match="unknown rule 'extragradiet'"):
        named_rule("extragradiet", 0.1, optax.adam)


def test_a_record_runs_nothing_of_the_current_folder(here):
    recipes.write_json(Path("run.json"), {"recipe": "mine.py", "config": {}})
    with pytest.raises(ValueError, match="mine.py, which is not registered here"):
        recipes.read_record(Path())


def test_own_recipe(here, capsys):
    arguments = ["mine.py", "--number", "5", "--folder", "data", "--out", "runs/a"]
    assert cli.main(["train", *arguments]) == 0
    assert "25" in capsys.readouterr().out
    assert json.loads((here / "runs/a/summary.json").read_text())["square"] == 25
    module, config = recipes.read_record(Path("runs/a"), "mine.py")
    assert config == module.Config(Path("runs/a"), 5, (0.1, 0.2), Path("data"))


def test_bad_commands(here, capsys):
    assert "unknown recipe 'dcgam'; did you mean dcgan?" in complaint(capsys, "dcgam")
    (here / "empty.py").write_text("x = 1\n")
    assert "is no recipe: it has no main" in complaint(capsys, "empty.py")
    (here / "broken.py").write_text("1 / 0\n")
    assert "fails to load: ZeroDivisionError" in complaint(capsys, "broken.py")
    assert "has no short run" in complaint(capsys, "mine.py", "--smoke")
    assert "is not the folder of a run" in complaint(
        capsys, "mine.py", "--resume", "nowhere"
    )
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "mine.py", "--numbr", "3"])
    assert caught.value.code == 2
    assert "--number" in capsys.readouterr().err
    for command in ("sample", "evaluate"):
        assert cli.main([command, "nowhere"]) == 2
        assert "is not the folder of a run" in capsys.readouterr().err


def test_damaged_record(here):
    (here / "run.json").write_text('{"recipe": ')
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        recipes.read_record(here)


def test_unknown_options_of_a_record(here):
    module = recipes.load("mine.py")
    with pytest.raises(ValueError, match="does not know: colour"):
        recipes.from_json(module.Config, {"colour": 1})
    config = module.Config(number=4)
    assert recipes.from_json(module.Config, recipes.to_json(config)) == config


def test_a_mistake_does_not_occupy_the_folder(here, capsys):
    (here / "picky.py").write_text(
        OWN.replace("    folder:", "    resume: bool = False\n    folder:").replace(
            "    return {",
            "    if config.number < 0:\n"
            "        raise ValueError('negative')\n"
            "    (config.out / 'weights').write_text('')\n"
            "    return {",
        )
    )
    options = ["picky.py", "--out", "here"]
    assert "negative" in complaint(capsys, *options, "--number", "-1")
    assert cli.main(["train", *options, "--number", "4"]) == 0
    assert json.loads((here / "here/run.json").read_text())["config"]["number"] == 4
    assert "holds something already" in complaint(capsys, *options)


def test_missing_data_and_unknown_names(here):
    module = recipes.load("dcgan")
    config = dataclasses.replace(module.SMOKE, out=here / "run")
    missing = dataclasses.replace(config, data="mnist", data_dir=here)
    with pytest.raises(FileNotFoundError, match="mnist"):
        module.main(missing)
    for option, name in (("data", "digit"), ("rule", "alternatin"), ("loss", "hing")):
        with pytest.raises(ValueError, match=name):
            module.main(dataclasses.replace(config, **{option: name}))
    with pytest.raises(ValueError, match="larger than the set"):
        module.main(dataclasses.replace(config, batch_size=5000))


def test_prompts_for_recipes_without_words(here, capsys):
    (here / "mine.py").write_text(
        OWN + "\n\ndef sample(config, number, seed):\n    return []\n"
    )
    assert cli.main(["train", "mine.py", "--out", "run"]) == 0
    command = ["sample", "run", "--recipe", "mine.py"]
    assert cli.main(command) == 0
    assert cli.main([*command, "--prompt", "a word"]) == 2
    assert "the recipe of run understands no words" in capsys.readouterr().err
