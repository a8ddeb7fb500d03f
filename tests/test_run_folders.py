"""The folder of a run: received ones execute nothing, and records are true."""

import contextlib
import dataclasses
import datetime
import enum
import hashlib
import json
import os
import subprocess
from collections import deque, namedtuple
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gamedyn as gd
from gamedyn import cli, recipes
from gamedyn.recipes import folders, origin, values
from gamedyn.seeds import seed_key

OWN = '''"""A recipe of one's own."""
import dataclasses
from pathlib import Path
import jax, jax.numpy as jnp, optax
import gamedyn as gd
from gamedyn import train

@dataclasses.dataclass(frozen=True)
class Config:
    """Options."""
    out: Path = Path("here")
    resume: bool = False
    steps: int = 4
    rate: float = 0.1
    data: Path | None = None

def main(config):
    if config.rate < 0:
        raise ValueError("a negative rate")
    game = gd.zero_sum(lambda x, y: x * y)
    start = jnp.ones(()), jnp.ones(())
    state = train.fit(
        game, gd.simultaneous(optax.sgd(config.rate)), start, None, progress=False,
        num_steps=config.steps, key=jax.random.key(0), directory=config.out,
        checkpoint_every=2, resume=config.resume, config={"rate": config.rate})
    return {"steps": state.step}

def sample(config, number, seed):
    return []

def evaluate(config):
    return {"rate": config.rate}
'''
# What must never run: it leaves a file where the test looks.
TRAP = "from pathlib import Path\nPath({!r}).write_text('caught')\n"

pytestmark = pytest.mark.usefixtures("folder")
posix = pytest.mark.skipif(os.name == "nt", reason="files of POSIX")


@pytest.fixture
def run(folder):
    """The folder of a short run of a recipe of one's own, at step 4."""
    (folder / "mine.py").write_text(OWN)
    assert cli.main(["train", "mine.py", "--out", "run"]) == 0
    return folder / "run"


def record(run):
    return json.loads((run / "run.json").read_text())


def edit(run, **changes):
    (run / "run.json").write_text(json.dumps(record(run) | changes))


def content(run):
    return {
        str(path.relative_to(run)): (path.read_bytes(), path.lstat().st_mtime_ns)
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }


def complaint(capsys, *arguments):
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


READERS = [
    ("sample", "run"),
    ("evaluate", "run"),
    ("train", "mine.py", "--resume", "run"),
]


# Nothing of a received folder is executed.


@pytest.mark.parametrize("command", READERS[:2])
@pytest.mark.parametrize("kind", ["file", "package", "inside", "relative"])
def test_a_recorded_path_is_not_followed(command, kind, run, folder, capsys):
    trap = TRAP.format(str(folder / "caught"))
    place = folder / "trap.py"
    if kind == "package":
        place = folder / "trap"
        place.mkdir()
        (place / "__init__.py").write_text(trap)
    else:
        place = run / "trap.py" if kind == "inside" else place
        place.write_text(trap)
    said = "trap.py" if kind == "relative" else str(place)
    edit(run, recipe=said)
    error = complaint(capsys, *command)
    assert f"--recipe {said}" in error
    assert not (folder / "caught").exists()


def test_a_recorded_name_is_compared_before_anything_is_imported(run, folder, capsys):
    (folder / "trap.py").write_text(TRAP.format(str(folder / "caught")))
    edit(run, recipe="dcgan")
    for command in (
        ("train", "trap.py", "--resume", "run"),
        ("sample", "run", "--recipe", "trap.py"),
    ):
        assert "is a run of dcgan, not of trap.py" in complaint(capsys, *command)
    assert not (folder / "caught").exists()


def test_a_recipe_of_a_plugin_is_known_by_its_name(folder, capsys):
    (folder / "mine.py").write_text(OWN)
    text = f"import gamedyn as gd, sys\nsys.path.append({str(folder)!r})\n"
    (folder / "plug.py").write_text(text + "gd.recipes.register('my_own', 'mine')\n")
    try:
        gd.plugins.load("plug.py")
        assert recipes.summaries()["my_own"] == "A recipe of one's own."
        assert cli.main(["train", "my-own", "--out", "run"]) == 0
        assert record(folder / "run")["recipe"] == "my_own"
        assert cli.main(["evaluate", "run"]) == 0
        assert "0.1" in capsys.readouterr().out
        with pytest.raises(ValueError, match="registered already"):
            recipes.register("my_own", "other")
    finally:
        recipes.unregister("my_own")
    assert "unknown recipe 'my-own'" in complaint(capsys, "train", "my-own")
    assert "my_own, which is not registered here" in complaint(capsys, "sample", "run")
    with pytest.raises(ValueError, match="comes with gamedyn"):
        recipes.register("dcgan", "other")
    with pytest.raises(TypeError, match="got int"):
        recipes.register("other", 3)  # pyright: ignore[reportArgumentType]


def test_a_changed_recipe_is_said(run, folder):
    file = folder / "mine.py"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record(run)["recipe_sha256"] == before
    recipes.read_record(run, "mine.py")  # no warning, which would be an error
    file.write_text(OWN + "\n# changed\n")
    now = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.warns(UserWarning, match=f"{before[:12]} and is {now[:12]}"):
        recipes.read_record(run, "mine.py")


def test_the_hash_of_a_package_is_that_of_its_python_files(folder):
    (folder / "own/part").mkdir(parents=True)
    (folder / "own/results").mkdir()
    names = ("own/__init__.py", "own/part/__init__.py", "own/part/x.py")
    for name in names:
        (folder / name).write_text("")
    first = origin.digest(folder / "own/__init__.py")
    (folder / "own/results/big.py").write_text("other")
    (folder / "own/notes.txt").write_text("other")
    assert origin.digest(folder / "own/__init__.py") == first
    (folder / names[2]).write_text("x = 1")
    second = origin.digest(folder / "own/__init__.py")
    (folder / names[2]).rename(folder / "own/part/y.py")
    assert len({first, second, origin.digest(folder / "own/__init__.py")}) == 3


# What is read is data.

DAMAGED = {
    "cut": b'{"recipe": ',
    "nan": b'{"recipe": "mine", "config": {"rate": NaN}}',
    "list": b"[1, 2]",
    "number": b"3",
    "no config": b'{"recipe": "mine"}',
    "recipe is a list": b'{"recipe": ["mine"], "config": {}}',
    "config is a list": b'{"recipe": "mine", "config": [["out", 1]]}',
    "deep": b"[" * 200_000,
    "not text": b"\xff\xfe\x00",
    "many digits": b'{"recipe": "mine", "config": {"steps": ' + b"9" * 9000 + b"}}",
    "hash": b'{"recipe": "mine", "config": {}, "recipe_sha256": 3}',
    "continuations": b'{"recipe": "mine", "config": {}, "continuations": 3}',
    "beyond floats": b'{"recipe": "mine", "config": {}, "continuations": [1e999]}',
    "twice": b'{"recipe": "mine", "config": {}, "config": {}}',
    "large": b" " * (2**24 + 1),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_records_are_one_line(damage, run, capsys):
    (run / "run.json").write_bytes(DAMAGED[damage])
    before = content(run)
    for command in READERS[1:]:
        assert "run.json is damaged" in complaint(capsys, *command)
    assert content(run) == before


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    """A folder that holds a record only."""
    path = tmp_path_factory.mktemp("received")
    content = {"recipe": "dcgan", "recipe_sha256": "0" * 64, "config": {"steps": 4}}
    (path / "run.json").write_text(json.dumps(content | {"continuations": []}))
    return path, (path / "run.json").read_bytes()


@given(st.data())
def test_any_byte_of_a_record_may_be_damaged(received, data):
    """The record is read, or a ValueError says what is wrong with it."""
    run, good = received
    place = data.draw(st.integers(0, len(good) - 1))
    by = data.draw(st.binary(max_size=3))
    ends = data.draw(st.sampled_from([place, place + 1, len(good)]))
    (run / "run.json").write_bytes(good[:place] + by + good[ends:])
    try:
        record = folders.read(run)
    except ValueError as error:
        message = str(error)
    else:
        assert isinstance(record.recipe, str)
        assert isinstance(record.config, dict)
        message = "run.json is damaged"
    assert "run.json is damaged" in message


@posix
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "circle", "nowhere"])
def test_a_record_that_is_no_file(kind, run, capsys):
    path = run / "run.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"device": "/dev/zero", "circle": path, "nowhere": "/nowhere"}
        path.symlink_to(targets[kind])
    for command in READERS:
        assert "run.json" in complaint(capsys, *command)


@posix
@pytest.mark.parametrize("name", ["sample-0.npz", "samples", "summary.json", "a/b/c"])
def test_links_that_lead_out_are_refused(name, run, folder, capsys):
    (folder / "precious").mkdir()
    (folder / "precious/file").write_text("data")
    path = run / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    target = "precious" if name == "samples" else "precious/file"
    path.symlink_to(folder / target)
    for command in READERS:
        error = complaint(capsys, *command)
        assert f"{name} is a link that leads out" in error
    assert (folder / "precious/file").read_text() == "data"


@posix
def test_links_inside_of_a_folder_are_kept(run, folder):
    (run / "latest").symlink_to("checkpoints")
    (folder / "elsewhere").symlink_to(run)
    recipes.read_record(folder / "elsewhere", "mine.py")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"colour": 1}, "does not know: colour"),
        ({"steps": "4"}, "the option steps must be int, got '4'"),
        ({"steps": 4.5}, "the option steps must be int, got 4.5"),
        ({"steps": True}, "the option steps must be int, got True"),
        ({"rate": "high"}, "the option rate must be float, got 'high'"),
        ({"rate": 10**400}, "the option rate must be float"),
        ({"data": ["a"]}, "the option data must be"),
        ({"data": "a\0b"}, "the option data must be"),
        ({"resume": "yes"}, "the option resume must be bool, got 'yes'"),
    ],
)
def test_options_of_other_types_are_named(change, expected, run, capsys):
    edit(run, config=record(run)["config"] | change)
    for command in (("evaluate", "run", "--recipe", "mine.py"), READERS[2]):
        assert expected in complaint(capsys, *command)


def test_the_folder_of_a_run_is_the_one_given(run, folder, capsys):
    edit(run, config=record(run)["config"] | {"out": str(folder / "other")})
    assert recipes.read_record(run, "mine.py")[1].out == run
    command = ["evaluate", "run", "--recipe", "mine.py", "--out", "other"]
    assert "--out is the folder of the run" in complaint(capsys, *command)


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


Pair = namedtuple("Pair", "x y")  # noqa: PYI024


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Options:
    flag: bool = True
    number: int = 3
    rate: float = float("nan")
    word: Literal["a", "b", 1] = 1
    either: int | str | None = "x"
    path: Path | None = Path("a/b")
    pair: tuple[float, int] = (float("inf"), 2)
    many: tuple[tuple[str, ...], ...] = (("a",), ())
    colour: Colour = Colour.TWO
    inner: Inner = Inner(float("-inf"))
    table: Any = None
    marked: Annotated[float, "mark"] = 1e300


def test_options_come_back_as_they_were():
    config = Options()
    stored = json.loads(json.dumps(recipes.to_json(config), allow_nan=False))
    again = recipes.from_json(Options, stored)
    assert np.isnan(again.rate)
    assert dataclasses.replace(again, rate=0.0) == dataclasses.replace(config, rate=0.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(dataclasses.fields(Options)), JSON)
def test_any_value_is_an_option_or_a_named_error(field, value):
    with contextlib.suppress(values.Misfit):
        assert isinstance(recipes.from_json(Options, {field.name: value}), Options)


# What is recorded.


def test_a_record_says_what_was_run_and_when(run):
    said = record(run)
    assert said["command"] == "gamedyn train mine.py --out run"
    date = datetime.datetime.fromisoformat(said["date"])
    assert date.utcoffset() == datetime.timedelta(0)
    assert abs((datetime.datetime.now(datetime.UTC) - date).total_seconds()) < 600
    assert said["environment"]["jax"] == jax.__version__
    assert said["config"] == {
        "out": "run", "resume": False, "steps": 4, "rate": 0.1, "data": None
    }  # fmt: skip
    assert "continuations" not in said


def test_a_continuation_is_added_to_the_record(run):
    first = record(run)
    assert cli.main(["train", "mine.py", "--resume", "run", "--steps", "6"]) == 0
    assert cli.main(["train", "mine.py", "--resume", "run", "--steps", "8"]) == 0
    said = record(run)
    for name in ("command", "date", "environment"):
        assert said[name] == first[name]
    assert said["config"]["steps"] == 8
    steps = [(entry["step"], entry["changed"]) for entry in said["continuations"]]
    assert steps == [(4, {"steps": [4, 6]}), (6, {"steps": [6, 8]})]
    assert said["continuations"][1]["command"].endswith("--resume run --steps 8")
    assert said["continuations"][1]["environment"]["jax"] == jax.__version__
    assert recipes.read_record(run, "mine.py")[1].steps == 8


@pytest.mark.parametrize(
    "options",
    [("--rate", ".2"), ("--rate", "-1"), ("--steps", "2"), ("--steps", "0")],
)
def test_a_refused_continuation_changes_no_byte(options, run, capsys):
    before = content(run)
    complaint(capsys, "train", "mine.py", "--resume", "run", *options)
    assert content(run) == before


def test_a_refused_run_leaves_nothing(folder, capsys):
    (folder / "mine.py").write_text(OWN)
    for options in (("--rate", "-1"), ("--steps", "0")):
        complaint(capsys, "train", "mine.py", "--out", "new/run", *options)
        assert not (folder / "new").exists()


def test_a_record_is_there_from_the_first_step(folder):
    """Whatever ends the run, it can be resumed."""
    look = "callbacks=[lambda *_: print((config.out / 'run.json').read_text())], "
    (folder / "mine.py").write_text(OWN.replace("checkpoint_every", f"{look}log_every"))
    assert cli.main(["train", "mine.py", "--out", "run"]) == 0


OWN_LOOP = (
    OWN[: OWN.index("def main")]
    + """
from gamedyn import recipes

def main(config):
    recipes.started(7)
    assert (config.out / "run.json").is_file()
    return {}
"""
)


def test_a_recipe_with_a_loop_of_its_own_says_when_it_starts(folder):
    (folder / "mine.py").write_text(OWN_LOOP)
    assert cli.main(["train", "mine.py", "--out", "run"]) == 0
    assert cli.main(["train", "mine.py", "--resume", "run"]) == 0
    assert [entry["step"] for entry in record(folder / "run")["continuations"]] == [7]


def test_what_a_recipe_without_fit_leaves_can_be_gone_on_with(folder, capsys):
    body = "\ndef main(config):\n    (config.out / 'part').write_text('')\n    1 / 0\n"
    (folder / "mine.py").write_text(OWN[: OWN.index("def main")] + body)
    complaint(capsys, "train", "mine.py", "--out", "run")
    assert {path.name for path in (folder / "run").iterdir()} == {"part", "run.json"}


def test_an_evaluation_is_a_new_record(run, capsys):
    before = content(run)
    command = ["evaluate", "run", "--recipe", "mine.py"]
    assert cli.main(command) == 0
    assert cli.main([*command, "--rate", "3"]) == 0
    assert "written to run/evaluation-2.json" in capsys.readouterr().out
    after = content(run)
    assert {name: after[name] for name in before} == before
    new = [json.loads((run / f"evaluation-{n}.json").read_text()) for n in (1, 2)]
    assert [each["summary"] for each in new] == [{"rate": 0.1}, {"rate": 3.0}]
    assert [each["changed"] for each in new] == [{}, {"rate": [0.1, 3.0]}]
    assert new[1]["command"].endswith("--rate 3")
    assert new[1]["recipe_sha256"] == record(run)["recipe_sha256"]
    assert new[1]["date"]


def test_the_commit_of_a_checkout(folder):
    file = folder / "mine.py"
    file.write_text("x = 1")
    assert origin.commit(file) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    (folder / "other.py").write_text("x = 1")
    for words in (["init", "-q"], ["add", "mine.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    expected = {"hash": head.stdout.strip(), "dirty": False}
    assert origin.commit(file, patience=20) == expected
    file.write_text("x = 2")
    assert origin.commit(file, patience=20) == expected | {"dirty": True}
    assert origin.commit(file, patience=1e-9) is None
    assert origin.commit(folder / "other.py", patience=20) is None  # not part of it


# Results of any type are kept.


@dataclasses.dataclass
class Result:
    value: Any
    where: Path


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (jnp.float32(0.5), 0.5),
        (jnp.asarray(2, jnp.int32), 2),
        (jnp.asarray(True), True),
        (jnp.asarray(1.5, jnp.bfloat16), 1.5),
        (jnp.asarray([1.5, jnp.nan], jnp.bfloat16), [1.5, "NaN"]),
        (np.float64("inf"), "Infinity"),
        (np.int8(3), 3),
        (np.bool_(True), True),
        (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.array([]), []),
        (np.array(1 + 2j), {"real": 1.0, "imag": 2.0}),
        (np.array(["a"]), ["a"]),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (float("-inf"), "-Infinity"),
        ((1, (2.0, "x")), [1, [2.0, "x"]]),
        (Pair(1, np.float32(2)), {"x": 1, "y": 2.0}),
        (Result(np.float32(0.5), Path("a/b")), {"value": 0.5, "where": "a/b"}),
        ({"b", "a"}, ["a", "b"]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({1: "a", None: 2, (0, 1): 3}, {"1": "a", "None": 2, "(0, 1)": 3}),
        (Colour.RED, "red"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (jax.random.key(3), [0, 3]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_of_any_type_are_written(value, expected):
    made = values.plain({"it": value}, "summary.json")
    assert made == {"it": expected}
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_a_large_array_is_described():
    array = np.arange(2000.0).reshape(2, 1000)
    array[0, 0] = np.nan
    assert values.plain(array, "it") == {
        "shape": [2, 1000],
        "dtype": "float64",
        "mean": 1000.0,
        "min": 1.0,
        "max": 1999.0,
        "not_finite": 1,
    }


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "object"),
        (len, "builtin_function_or_method"),
        (b"bytes", "bytes"),
        (iter([]), "list_iterator"),
        (CYCLE, "list"),
        (10**5000, "int"),
        (np.array([object()]), "ndarray"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_named_and_the_rest_written(value, kind):
    summary = {"good": 1, "bad": value, "deep": [{"bad": value, "good": 2}]}
    with pytest.warns(UserWarning, match=r"summary\.json.*: bad.*" + kind) as caught:
        made = values.plain(summary, "summary.json")
    assert len(caught) == 1
    assert "deep[0].bad" in str(caught[0].message)
    assert made["good"] == 1
    assert made["deep"][0]["good"] == 2
    assert json.loads(json.dumps(made, allow_nan=False)) == made


RESULTS = """
import numpy as np

def main(config):
    return {"loss": jnp.float32(.25), "curve": jnp.ones(3), "model": jax.jit(sum),
            "bad": float("nan"), "where": config.out, 3: (1, 2)}
"""


def test_a_summary_of_arrays_is_written_and_printed(folder, capsys):
    (folder / "mine.py").write_text(OWN[: OWN.index("def main")] + RESULTS)
    with pytest.warns(UserWarning, match="model"):
        assert cli.main(["train", "mine.py", "--out", "run"]) == 0
    assert json.loads((folder / "run/summary.json").read_text()) == {
        "loss": 0.25,
        "curve": [1.0, 1.0, 1.0],
        "bad": "NaN",
        "where": "run",
        "3": [1, 2],
    }
    printed = capsys.readouterr().out
    assert "0.25" in printed
    assert "[1. 1. 1.]" in printed


@pytest.mark.parametrize("returned", ["None", "3", "[1]"])
def test_a_recipe_that_returns_no_table_loses_nothing(returned, folder):
    body = f"\ndef main(config):\n    return {returned}\n"
    (folder / "mine.py").write_text(OWN[: OWN.index("def main")] + body)
    assert cli.main(["train", "mine.py", "--out", "run"]) == 0
    assert json.loads((folder / "run/summary.json").read_text()) == eval(returned)


# Seeds.


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1, 2**32 + 7, 2**63 - 1])
def test_every_bit_of_a_seed_counts(seed, x64):
    with jax.enable_x64(x64):
        words = jax.random.key_data(seed_key(seed)).tolist()
        if seed < 2**32:
            assert seed_key(seed) == jax.random.key(np.uint32(seed))
    assert words == [seed >> 32, seed % 2**32]


def test_keys_of_seeds_under_jit_and_with_an_offset():
    with jax.enable_x64(False):
        drawn = jax.jit(lambda: jax.random.normal(seed_key(2**40 + 1), (2,)))()
        assert (drawn == jax.random.normal(seed_key(2**40 + 1), (2,))).all()
    assert seed_key(2**63 - 1, 1) == seed_key(0)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 1.5, "1", True, None])
def test_what_is_no_seed_is_named(seed):
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*63 - 1"):
        seed_key(seed)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_commands_name_the_range_of_seeds(seed, run, capsys):
    for command in (
        ("sample", "run", "--recipe", "mine.py", f"--seed={seed}"),
        ("train", "dcgan", "--smoke", f"--seed={seed}", "--out", "new"),
    ):
        assert "2**63 - 1" in complaint(capsys, *command)


@pytest.mark.slow
def test_comparisons_name_the_range_of_seeds(capsys):
    command = ("compare", "bilinear", "--rules", "simultaneous", f"--seed={2**63}")
    assert "2**63 - 1" in complaint(capsys, *command)


def test_records_of_earlier_versions_are_read(run):
    said = record(run)
    (run / "run.json").write_text(
        json.dumps({name: said[name] for name in ("recipe", "config", "environment")})
    )
    assert folders.read(run).digest is None
    assert recipes.read_record(run, "mine.py")[1].steps == 4
