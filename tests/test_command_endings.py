"""How commands end: by signals, without output, in strange places, with errors."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gamedyn import cli, files
from gamedyn.commands import ending, listing
from gamedyn.recipes import lookup
from gamedyn.text import for_terminal

pytestmark = pytest.mark.usefixtures("folder")
posix = pytest.mark.skipif(os.name == "nt", reason="signals and devices of POSIX")


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

# A recipe that gets a signal at a moment of its choice.
RECIPE = '''"""A recipe of one's own."""
import dataclasses, os, signal
from pathlib import Path
import jax, jax.numpy as jnp, optax
import gamedyn as gd
from gamedyn import train

@dataclasses.dataclass(frozen=True)
class Config:
    out: Path = Path("here")
    resume: bool = False
    steps: int = 40
    when: str = ""
    signal: int = 0

def at(config, moment):
    if config.when.startswith(moment + ","):
        for _ in range(config.when.count(",")):
            os.kill(os.getpid(), config.signal)

def main(config):
    at(config, "reading")
    game = gd.zero_sum(lambda x, y: x * y)
    start = jnp.ones(()), jnp.ones(())
    training = lambda state, row: at(config, f"step {state.step}")
    state = train.fit(
        game, gd.simultaneous(optax.sgd(.1)), start, None, progress=False,
        num_steps=config.steps, key=jax.random.key(0), directory=config.out,
        checkpoint_every=20, resume=config.resume, callbacks=[training], log_every=10)
    if state.status == train.Ending.INTERRUPTED:
        return {"steps": state.step}
    at(config, "measuring")
    return {"steps": state.step, "measured": True}

def sample(config, number, seed):
    at(config, "sampling")
    path = config.out / "sample.txt"
    path.write_text("x")
    at(config, "sampled")
    return [path]

def evaluate(config):
    at(config, "evaluating")
    return {"value": 1}
'''


@pytest.fixture
def here(folder):
    assert threading.current_thread() is threading.main_thread()
    (folder / "mine.py").write_text(RECIPE)
    return folder


def ended(capsys, *arguments):
    """Run a command; return its exit status and what it says on stderr, one line."""
    capsys.readouterr()
    status = cli.main(list(arguments))
    error = capsys.readouterr().err
    return status, error.strip().removeprefix(_NOTICE).strip()


_NOTICE = "finishing the current steps; press Ctrl-C again to exit at once"


def train_until(capsys, when, name):
    number = getattr(signal, name)
    options = [f"--when={when},", f"--signal={int(number)}", "--out=run"]
    status, error = ended(capsys, "train", "mine.py", *options)
    assert status == 128 + number
    return error


# Signals.

GO_ON = "go on with: gamedyn train mine.py --resume run"


@posix
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_reading_data(name, here, capsys):
    error = train_until(capsys, "reading", name)
    assert error == "gamedyn: interrupted, nothing was written"
    assert not (here / "run").exists()


@posix
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(("when", "step"), [("step 10", 10), ("step 30", 30)])
def test_a_signal_while_training(name, when, step, here, capsys):
    error = train_until(capsys, when, name)
    saved = f"the checkpoint of step {step} is saved in run"
    assert error == f"gamedyn: interrupted, {saved}; {GO_ON}"
    resumed = ["train", "mine.py", "--resume", "run", "--when", ""]
    assert cli.main(resumed) == 0
    assert json.loads((here / "run/summary.json").read_text())["steps"] == 40


@posix
def test_a_second_signal_while_training(here, capsys):
    """It ends at once, without a checkpoint: what is saved is the one before."""
    error = train_until(capsys, "step 30,", "SIGINT")
    saved = "the checkpoint of step 20 is saved in run"
    assert error == f"gamedyn: interrupted, {saved}; {GO_ON}"


@posix
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_measuring(name, here, capsys):
    error = train_until(capsys, "measuring", name)
    saved = "the checkpoint of step 40 is saved in run"
    assert error == f"gamedyn: interrupted, {saved}; {GO_ON}"
    hidden = {path.name for path in here.rglob(".*")}
    assert hidden <= {".lock", ".zarray"}


@posix
def test_a_signal_while_sampling_and_evaluating(here, capsys):
    assert cli.main(["train", "mine.py", "--out", "run"]) == 0
    number = int(signal.SIGTERM)
    nothing, some = "nothing was written", "written to run so far: sample.txt"
    for command, when, said in (
        ("sample", "sampling", nothing),
        ("sample", "sampled", some),
        ("evaluate", "evaluating", nothing),
    ):
        options = ["--recipe=mine.py", f"--when={when},", f"--signal={number}"]
        status, error = ended(capsys, command, "run", *options)
        assert (status, error) == (143, f"gamedyn: interrupted, {said}")


@posix
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_comparing_leaves_nothing(name, folder, capsys, monkeypatch):
    number = getattr(signal, name)

    def compare(*arguments, **options):
        assert [path.name for path in (folder / "a").iterdir()]  # the hidden folder
        os.kill(os.getpid(), number)

    monkeypatch.setattr("gamedyn.workbench.compare.compare", compare)
    status, error = ended(capsys, "compare", "bilinear", "--out", "a/b")
    assert (status, error) == (
        128 + number,
        "gamedyn: interrupted, nothing was written",
    )
    assert not list(folder.iterdir())


@posix
def test_handlers_are_put_back_and_ignored_signals_stay_ignored():
    names = [getattr(signal, name) for name in SIGNALS]
    before = [signal.getsignal(number) for number in names]
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending.signals():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(ending.Interrupted):
                os.kill(os.getpid(), signal.SIGTERM)
            # Another one ends the process at once.
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, kept)
    assert [signal.getsignal(number) for number in names] == before


# Output.


@pytest.fixture
def output(monkeypatch):
    """Put another stream in the place of the standard output."""

    def put(stream):
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return put


@posix
def test_nobody_reads_the_output(output, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        output(stream)
        assert cli.main(["list", "losses"]) == 141
    assert capsys.readouterr().err == ""


@posix
@pytest.mark.parametrize("buffered", [False, True])
def test_the_output_is_full(buffered, output, capsys):
    size = -1 if buffered else 0
    with io.TextIOWrapper(open("/dev/full", "wb", size), write_through=True) as stream:
        output(stream)
        assert cli.main(["list", "losses"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "the output cannot be written: No space left on device" in error


def test_the_output_is_closed(output):
    output(None)
    assert cli.main(["list", "losses"]) == 0
    assert sys.stdout is None


@pytest.mark.parametrize("encoding", ["ascii", slow("latin-1"), slow("cp1252")])
def test_the_output_has_few_letters(encoding, output):
    stream = output(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert cli.main(["list", "rules"]) == 0
    stream.flush()
    words = stream.buffer.getvalue().decode(encoding)
    assert "alternating" in words


def test_letters_are_written_with_others():
    text = "‖x‖ ≤ 1 – é 中 ─ …"
    assert text.encode("ascii", "gamedyn.plain") == b"||x|| <= 1 - e \\u4e2d - ..."


@pytest.mark.parametrize("columns", ["1", "5", "39", "0", "junk"])
def test_narrow_terminals(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    for arguments in (["--help"], ["compare", "--help"], ["train", "dcgan", "--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0
    assert cli.main(["list", "losses"]) == 0
    assert os.environ["COLUMNS"] == columns


# What is broken is named, and the rest works.


def test_a_broken_recipe_is_named_and_the_others_listed(folder, monkeypatch, capsys):
    home = folder / "experiments"
    (home / "in_parts").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "in_parts/__init__.py").write_text('"""In parts."""')
    (home / "fine.py").write_text('"""A fine recipe."""')
    broken = {
        "syntax": b"x = (",
        "bytes": b"# \xff\xfe",
        "zero": b"x = 1\0",
        "deep": b"(" * 5000 + b")" * 5000,
    }
    for name, text in broken.items():
        (home / f"{name}.py").write_bytes(text)
    (home / "folder.py").mkdir()
    monkeypatch.setattr(lookup, "shipped", lambda: home)
    for name in list(sys.modules):
        if name.partition(".")[0] == "experiments":
            monkeypatch.delitem(sys.modules, name)
    with pytest.warns(UserWarning, match="is broken") as caught:
        assert cli.main(["list", "recipes"]) == 0
    printed = capsys.readouterr().out
    assert "A fine recipe." in printed
    assert "In parts." in printed
    named = {str(each.message).split()[2] for each in caught}
    assert named == {*broken, "folder"}
    status, error = ended(capsys, "train", "syntax")
    assert status == 2
    assert "SyntaxError" in error


def test_warnings_are_one_line():
    text = ending._warning("several\nlines", UserWarning, "file.py", 3)
    assert text == "gamedyn: warning: several lines\n"
    text = ending._warning("old", DeprecationWarning, "file.py", 3, line=None)
    assert text == "gamedyn: warning: DeprecationWarning: old\n"


# Errors.


def failing(error):
    def run(config):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("name"), "KeyError: 'name'"),
        (AssertionError(), "AssertionError"),
        (MemoryError("8 GB"), "MemoryError: 8 GB"),
        (ZeroDivisionError("division\nby zero"), "ZeroDivisionError: division by zero"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (OverflowError("int too large"), "OverflowError: int too large"),
        (ValueError(), "ValueError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unexpected_error_is_one_line(error, said, capsys, monkeypatch):
    monkeypatch.setattr(listing, "run", failing(error))
    status, line = ended(capsys, "list", "losses")
    assert status == 1
    assert line == f"gamedyn: error: {said}; --traceback shows where"


@pytest.mark.parametrize(
    "arguments",
    [("--traceback", "list", "losses"), ("list", "--traceback", "losses")],
)
def test_all_of_an_error_is_shown_on_request(arguments, capsys, monkeypatch):
    monkeypatch.setattr(listing, "run", failing(KeyError("name")))
    status, text = ended(capsys, *arguments)
    assert status == 1
    assert text.startswith("Traceback (most recent call last):")
    assert "in failing" not in text
    assert "raise error" in text
    assert text.endswith("gamedyn: error: KeyError: 'name'")


def test_all_of_an_error_is_shown_and_does_nothing_to_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(listing, "run", failing(ValueError("a\x1b[31m\nb\u202e")))
    _, text = ended(capsys, "list", "losses", "--traceback")
    assert text == for_terminal(text, lines=True)
    assert "ValueError: a\\x1b[31m\nb\\u202e" in text


def test_a_file_of_ones_own_that_ends_the_program(folder, capsys):
    """It says so, and the status is none of success."""
    (folder / "mine.py").write_text("import sys\ndef game():\n    sys.exit(0)\n")
    status, text = ended(capsys, "compare", "--from", "mine.py:game")
    assert status == 2
    assert "game ends the program: SystemExit: 0" in text
    assert "mine.py, line 3, in game" in text


@posix
@pytest.mark.parametrize("there", [True, False])
def test_results_go_where_a_link_leads(there, folder):
    if there:
        (folder / "real").mkdir()
    (folder / "out").symlink_to("real")
    with files.folder(Path("out")) as made:
        (made / "report.txt").write_text("text")
    assert (folder / "out").is_symlink()
    assert (folder / "real" / "report.txt").read_text() == "text"
    with pytest.raises(FileExistsError), files.folder(Path("out")):
        pass


def test_an_error_of_jax_is_no_bad_input(capsys, monkeypatch):
    import jax

    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    monkeypatch.setattr(listing, "run", failing(error))
    status, line = ended(capsys, "list", "losses")
    assert status == 1
    assert "JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory; --traceback" in line


def test_what_fails_in_a_file_of_ones_own_has_its_last_line(folder, capsys):
    body = "import helper\n\ndef main(config):\n    helper.work({})\n"
    text = RECIPE[: RECIPE.index("def main")] + body
    (folder / "mine.py").write_text(text)
    helper = folder / "helper.py"
    helper.write_text("import jax\n\ndef work(x):\n    return x['key']\n")
    (folder / "game.py").write_text("def make():\n    return 1 / 0\n")
    (folder / "loads.py").write_text("import helper\n\nhelper.work({})\n")
    inside = f"KeyError: 'key' ({helper}, line 4, in work)"
    for arguments, said in (
        (("train", "mine.py"), inside),
        (("train", "loads.py"), f"{folder / 'loads.py'} fails to load: {inside}"),
        (("list", "losses", "--plugin", "loads.py"), inside),
        (
            ("compare", "--from", "game.py:make"),
            f"ZeroDivisionError: division by zero ({folder / 'game.py'}, line 2, "
            f"in make)",
        ),
    ):
        status, line = ended(capsys, *arguments)
        assert status == 2
        assert line.count("\n") == 0
        assert line.endswith(said)


@pytest.mark.parametrize(
    "platform", ["cuda", pytest.param("no", marks=pytest.mark.slow)]
)
def test_a_platform_that_is_not_there(platform, folder):
    import jax

    if jax.default_backend() != "cpu":
        pytest.skip("there is an accelerator")
    environment = {**os.environ, "JAX_PLATFORMS": platform}
    done = process("compare", "bilinear", env=environment)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines[-1] == (
        f"gamedyn: error: jax finds no platform of JAX_PLATFORMS={platform}; "
        f"there are cpu"
    )
    assert "Traceback" not in done.stderr


def process(*arguments, shell="", **options):
    command = [sys.executable, "-m", "gamedyn.cli", *arguments]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, **options)


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "status"),
    [("| head -n 1", 0), (">&-", 0), (">/dev/full", 1), ("2>&-", 0)],
)
def test_outputs_of_a_process(shell, status, folder):
    done = process("list", "losses", shell=shell)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_a_process_that_compares_is_ended(name, folder):
    command = [sys.executable, "-m", "gamedyn.cli", "compare", "quadratic", "--out=a/b"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (folder / "a").exists():
        assert running.poll() is None
    running.send_signal(getattr(signal, name))
    _, error = running.communicate(timeout=120)
    assert running.returncode == 128 + getattr(signal, name)
    assert error.strip().endswith("gamedyn: interrupted, nothing was written")
    assert not list(folder.iterdir())


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"HOME": None}, {"TERM": "dumb"}, {"COLUMNS": "1"}, {"PYTHONIOENCODING": "ascii"}],
)
def test_environments_of_a_process(changes, folder):
    environment = {**os.environ, **changes}
    environment = {k: v for k, v in environment.items() if v is not None}
    done = process("compare", "--steps=20", "--rules=alternating", env=environment)
    assert done.returncode == 0, done.stderr
    assert "alternating" in done.stdout
