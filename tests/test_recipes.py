"""Recipes: found, run, resumed, sampled and evaluated by command."""

import dataclasses
import json
from pathlib import Path

import pytest

from gamedyn import cli, recipes

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


def test_the_recipes_of_the_checkout():
    image_gans = {"dcgan", "cgan", "wgan", "stacked_mnist"}
    assert {"gan_theory"} | image_gans <= set(recipes.names())
    assert all(recipes.summaries().values())
    assert not any(name.startswith("_") for name in recipes.names())


def test_own_recipe(here, capsys):
    arguments = ["mine.py", "--number", "5", "--folder", "data", "--out", "runs/a"]
    assert cli.main(["train", *arguments]) == 0
    assert "25" in capsys.readouterr().out
    assert json.loads((here / "runs/a/summary.json").read_text())["square"] == 25
    module, config = recipes.read_record(Path("runs/a"))
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
    assert cli.main(["sample", "run"]) == 0
    assert cli.main(["sample", "run", "--prompt", "a word"]) == 2
    assert "the recipe of run understands no words" in capsys.readouterr().err
