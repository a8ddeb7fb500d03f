"""Checkpoints that were damaged, or made to do harm: an error, and nothing else."""

import copy
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tracemalloc
import warnings
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from gamedyn import train
from gamedyn.train import arrays, checkpoints

STEP = 40
TREE = {
    "step": np.asarray(STEP, np.int32),
    "params": ({"w": np.arange(6.0).reshape(2, 3)}, {"b": np.asarray([True, False])}),
    "rule_state": {"half": np.asarray(jnp.ones(3, jnp.bfloat16)), "none": np.zeros(0)},
}
METADATA = {"step": STEP, "about": {"steps_per_call": 4, "rule": {"a": "1"}}, "rows": 8}
HEADER, CHUNK, NOTE = "arrays/0/.zarray", "arrays/0/0.0", "arrays/_METADATA"
NAMES = ("manifest.json", "metadata.json", HEADER, CHUNK, NOTE)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A folder of checkpoints with one in it, to be copied."""
    folder = tmp_path_factory.mktemp("intact") / "checkpoints"
    checkpoints.write(checkpoints.place(folder, STEP), TREE, METADATA)
    return checkpoints.place(folder, STEP)


@pytest.fixture
def path(intact, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    return shutil.copytree(intact, folder / intact.name)


# Audit hooks stay for ever: this one looks only while there is a list to write into.
events = None


@pytest.fixture(scope="module", autouse=True)
def _watched():
    def hook(event, arguments):
        if events is not None and event in HEARD:
            events.append((event, arguments))

    sys.addaudithook(hook)


HEARD = {"open", "os.listdir", "os.scandir", "exec", "compile", "import"}
HEARD |= {"pickle.find_class", "subprocess.Popen", "os.system", "ctypes.dlopen"}


def tried(path):
    """Read a checkpoint that may be damaged; return it, or `None` for the error.

    No more memory is taken than ten times what is on the disk, nothing outside the
    folder is opened, nothing is executed or imported.
    """
    global events
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    opened = events = []
    tracemalloc.start()
    try:
        checkpoint = checkpoints.read(path)
    except train.CheckpointError as error:
        checkpoint, message = None, str(error)
        assert str(path) in message
        assert message.isprintable()
    finally:
        events = None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 * size + 2**19
    for event, arguments in opened:
        assert event == "open", (event, arguments)
        if not isinstance(arguments[0], int):  # one that is open already
            file = os.fspath(arguments[0])
            assert file in {str(p) for p in path.rglob("*")}
            assert not os.path.islink(file)
    return checkpoint


def written(checkpoint):
    """Whether what was read is what was written."""
    if checkpoint is None:
        return False
    state = checkpoints.fill(TREE, checkpoint.arrays)
    jax.tree.map(assert_array_equal, state, TREE)
    assert checkpoint.step == STEP
    return True


def consistent(path, **contents):
    """Replace files as an adversary would, who computes the checksums anew."""
    for name, content in contents.items():
        (path / name.replace("metadata", "metadata.json")).write_bytes(content)
    table = {
        file.relative_to(path).as_posix(): {
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in path.rglob("*")
        if file.is_file() and file.name != "manifest.json"
    }
    (path / "manifest.json").write_text(json.dumps({"files": table}))


def chunks(path):
    """The files that hold the arrays' numbers."""
    found = (path / "arrays").glob("*/*")
    return sorted(file for file in found if file.name != ".zarray")


def stored(path):
    return json.loads((path / "metadata.json").read_bytes())


def dumped(value):
    return json.dumps(value).encode()


# Every byte


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "bits", [1, pytest.param(8, marks=pytest.mark.slow)], ids=["one bit", "all bits"]
)
def test_no_byte_may_change(name, bits, path):
    file = path / name
    content = file.read_bytes()
    every = 1 if bits == 8 else max(1, len(content) // 100)
    places = range(0, len(content), every)
    changed = 0
    for place in places:
        for bit in range(place % 8, place % 8 + bits):
            other = bytearray(content)
            other[place] ^= 1 << bit % 8
            file.write_bytes(other)
            changed += not written(tried(path))
        file.write_bytes(content[:place])
        assert tried(path) is None or content[place:] == b"\n"
    # In the manifest alone there is what does not matter: the spaces.
    assert changed > 0.9 * bits * len(places)
    assert changed == bits * len(places) or name == "manifest.json"
    file.write_bytes(content + b" ")
    assert written(tried(path)) == (name == "manifest.json")
    file.write_bytes(content)
    assert written(tried(path))


# Malformed metadata and manifests

numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([-1, 0, 1, STEP, 2**31, 2**63, 10**400, 1e308, -0.0, 0.5, 40.0]),
)
words = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "/", "..", "a/b", "step", "params", "object", "float64", "S8"]
    ),
    st.sampled_from(
        ["O", "V8", "f8,f8", "(9,)f8", "datetime64[s]", "\x1b[2J", "\ud800"]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw, value):
    """A JSON value, of which a part somewhere is replaced, removed or added."""
    value = copy.deepcopy(value)
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        inner = [key for key in keys if isinstance(node[key], dict | list)]
        if inner and draw(st.booleans()):
            node = node[draw(st.sampled_from(inner))]
            continue
        act = draw(st.sampled_from(["replace", "remove", "add"]))
        if keys and act != "add":
            key = draw(st.sampled_from(keys))
            if act == "remove":
                del node[key]
            else:
                node[key] = draw(values)
        elif isinstance(node, dict):
            node[draw(words)] = draw(values)
        else:
            node.append(draw(values))
        return value


@st.composite
def garbled(draw, value):
    """A document that was JSON, spoilt as text."""
    text = json.dumps(value)
    place = draw(st.integers(0, len(text)))
    until = draw(st.integers(place, min(len(text), place + 9)))
    piece = draw(
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from([b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"\xff"]),
            st.sampled_from([b"[" * 9**4, b'{"a":' * 999, b'"a":1,"a":2', b"\x00"]),
        )
    )
    return text[:place].encode() + piece + text[until:].encode()


def check_metadata(path, data):
    value = stored(path)
    fitting = data.draw(
        st.one_of(mutated(value).map(dumped), garbled(value), values.map(dumped))
    )
    consistent(path, metadata=fitting)
    checkpoint = tried(path)
    if checkpoint is not None:
        # Such a lie is not to be found out, but what it says is what is there.
        nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(checkpoint.arrays))
        assert nbytes == sum(file.stat().st_size for file in chunks(path))
        assert type(checkpoint.step) is int
        assert checkpoint.step == STEP


def check_manifest(path, data):
    value = json.loads((path / "manifest.json").read_bytes())
    hostile = st.sampled_from(
        [
            "../../secret",
            "/etc/passwd",
            "/dev/zero",
            "C:\\secret",
            "a\0b",
            "",
            ".",
            "..",
        ]
    )
    other = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    added = hostile.map(lambda name: {"files": value["files"] | {name: other}})
    document = data.draw(
        st.one_of(st.one_of(mutated(value), values, added).map(dumped), garbled(value))
    )
    (path / "manifest.json").write_bytes(document)
    checkpoint = tried(path)
    assert checkpoint is None or written(checkpoint)


SPOILT = {"metadata": check_metadata, "manifest": check_manifest}


def check_spoilt(intact, tmp_path, what, examples):
    @hypothesis.settings(max_examples=examples, database=None)
    @hypothesis.given(st.data())
    def check(data):
        path = tmp_path / intact.name
        shutil.rmtree(path, ignore_errors=True)
        SPOILT[what](shutil.copytree(intact, path), data)

    check()


@pytest.mark.parametrize("what", SPOILT)
def test_malformed_documents_are_errors(what, intact, tmp_path):
    check_spoilt(intact, tmp_path, what, 60)


@pytest.mark.slow
@pytest.mark.parametrize("what", SPOILT)
def test_thousands_of_malformed_documents_are_errors(what, intact, tmp_path):
    check_spoilt(intact, tmp_path, what, 2500)


# Lies that agree with themselves

LIES = {
    "larger": ({"w": [[2**40], "float64"]}, "has 60 bytes, the structure has"),
    "negative": ({"w": [[-6, -8], "int8"]}, "no shape and dtype"),
    "fraction": ({"w": [[1.0], "int8"]}, "no shape and dtype"),
    "objects": ({"w": [[6], "object"]}, "no shape and dtype"),
    "text": ({"w": [[6], "<U2"]}, "no shape and dtype"),
    "short": ({"w": [[6]]}, "no shape and dtype"),
    "dimensions": ({"w": [[1] * 99 + [60], "int8"]}, "dim"),
    "vast": ({"w": [[0, 2**62, 2**62], "int8"]}, "large"),
    "inside": (
        {"a": [[58], "int8"], "a/b": [[2], "int8"]},
        "arrays in the array",
    ),
    "outside": (
        {"a/b": [[58], "int8"], "a": [[2], "int8"]},
        "arrays in the array",
    ),
    "deep": ({"a/" * 200: [[60], "int8"]}, "too deep"),
}


@pytest.mark.parametrize("kind", LIES)
def test_lies_about_arrays_are_found_out(kind, path):
    structure, message = LIES[kind]
    shutil.rmtree(path / "arrays")
    for index, (shape, *kinds) in enumerate(structure.values()):
        if all(isinstance(size, int) for size in shape) and min(shape) > 0:
            dtype = np.dtype(*kinds) if kinds else np.dtype("int8")
            header, chunk = arrays._files_of(index, tuple(shape))
            (path / header).parent.mkdir(parents=True)
            described = arrays._zarr(tuple(shape), dtype)
            (path / header).write_text(json.dumps(described))
            size = shape[0] if len(structure) > 1 else 60
            (path / chunk).write_bytes(bytes(size))
    consistent(path, metadata=dumped(stored(path) | {"structure": structure}))
    with pytest.raises(train.CheckpointError, match=re.escape(message)):
        checkpoints.read(path)
    assert tried(path) is None


LIES_ABOUT_THE_RUN = {
    "another step": ({"step": 39}, "it says that it is of step 39"),
    "no step": ({"step": True}, "'step' in metadata.json must be a number of steps"),
    "rows": ({"rows": "8"}, "'rows' in metadata.json must be a number of rows"),
    "score": ({"score": []}, "'score' in metadata.json must be a number or null"),
    "about": ({"about": 3}, "'about' in metadata.json must be a table"),
    "format": ({"format": "2"}, "has format '2', expected 2"),
}


@pytest.mark.parametrize("kind", LIES_ABOUT_THE_RUN)
def test_lies_about_the_run_are_found_out(kind, path):
    lie, message = LIES_ABOUT_THE_RUN[kind]
    consistent(path, metadata=dumped(stored(path) | lie))
    with pytest.raises(train.CheckpointError, match=re.escape(message)):
        checkpoints.read(path)
    assert tried(path) is None


OTHERWISE = {
    "compressed": {"compressor": {"id": "zstd", "level": 1}},
    "filtered": {"filters": [{"id": "delta"}]},
    "larger": {"shape": [2**20, 3], "chunks": [2, 3]},
    "in pieces": {"chunks": [1, 3]},
    "transposed": {"order": "F"},
    "objects": {"dtype": "|O"},
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_arrays_are_stored_in_one_way(kind, path):
    described = json.loads((path / HEADER).read_bytes()) | OTHERWISE[kind]
    consistent(path, **{HEADER: dumped(described)})
    with pytest.raises(train.CheckpointError, match="not what the structure says"):
        checkpoints.read(path)
    assert tried(path) is None


@pytest.mark.parametrize("folder", ["arrays", "arrays/0"])
def test_folders_are_no_links(folder, path):
    (path / folder).rename(path.parent / "elsewhere")
    (path / folder).symlink_to(path.parent / "elsewhere")
    with pytest.raises(train.CheckpointError, match="is no folder"):
        checkpoints.read(path)


def test_other_tools_read_the_arrays(path):
    import orbax.checkpoint as ocp

    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    with ocp.Checkpointer(handler) as reader:
        found = reader.restore((path / "arrays").absolute())
    names = list(stored(path)["structure"])
    state = checkpoints.read(path).arrays
    for index, array in found.items():
        node = state
        for part in names[int(index)].split("/"):
            node = node[part]
        assert_array_equal(np.asarray(array), node)


def test_a_state_of_another_step_is_found_out(path):
    tree = TREE | {"step": np.asarray(STEP + 1, np.int32)}
    shutil.rmtree(path)
    checkpoints.write(path, tree, METADATA)
    with pytest.raises(train.CheckpointError, match="its state is not of step 40"):
        checkpoints.read(path)


def test_truth_values_are_zero_or_one(path):
    assert (path / "arrays/1/0").read_bytes() == b"\x01\x00"
    consistent(path, **{"arrays/1/0": b"\x07\x00"})
    with pytest.raises(train.CheckpointError, match="arrays/1/0 has truth values"):
        checkpoints.read(path)


DOCUMENTS = {
    "nan": b'{"step": NaN}',
    "infinite": b'{"step": Infinity}',
    "too large": b'{"step": 1e999}',
    "long": b'{"step": ' + b"9" * 10_000 + b"}",
    "deep": b"[" * 10**5,
    "deep but closed": b"[" * 500 + b"]" * 500,
    "twice": b'{"files": {}, "files": {}}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "two bytes": "{}".encode("utf-16"),
    "no text": b"\xff\xfe\xfd",
    "empty": b"",
    "null": b"null",
    "many": b"[" + b"[]," * (2**20) + b"[]]",
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_are_read_strictly(kind, path):
    content = DOCUMENTS[kind]
    manifest = (path / "manifest.json").read_bytes()
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(train.CheckpointError, match="manifest.json cannot be read"):
        checkpoints.read(path)
    assert tried(path) is None
    (path / "manifest.json").write_bytes(manifest)
    consistent(path, metadata=content)
    with pytest.raises(train.CheckpointError, match="metadata.json (cannot be|is no)"):
        checkpoints.read(path)


def test_a_huge_document_is_not_read(path):
    for name in (HEADER, "metadata.json", "manifest.json"):
        os.truncate(path / name, 2**40)  # sparse: nothing on the disk
        with pytest.raises(
            train.CheckpointError, match=f"{Path(name).name} has more than"
        ):
            checkpoints.read(path)


def test_reading_takes_the_memory_of_the_arrays(tmp_path):
    path = checkpoints.place(tmp_path, 1)
    tree = {"a": np.ones((1000, 500)), "b": np.zeros((4, 10**6), np.int8)}
    checkpoints.write(path, tree, {"step": 1})
    tracemalloc.start()
    try:
        stored = checkpoints.read(path)
        assert tracemalloc.get_traced_memory()[1] < 8.1e6
    finally:
        tracemalloc.stop()
    jax.tree.map(assert_array_equal, stored.arrays, tree)


# Other things in the place of files


def linked(file):
    file.rename(file.with_name("real"))
    file.symlink_to("real")


def piped(file):
    file.unlink()
    os.mkfifo(file)


def folder(file):
    file.unlink()
    file.mkdir()


def device(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def bound(file):
    file.unlink()
    here = os.getcwd()
    os.chdir(file.parent)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("replace", [linked, piped, folder, device, bound])
def test_only_plain_files_are_opened(replace, name, path):
    replace(path / name)
    with pytest.raises(train.CheckpointError, match=f"{name} cannot be read: it is"):
        checkpoints.read(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_files_that_vanish_or_are_forbidden(error, name, path, monkeypatch):
    opens = os.open

    def refuse(file, *rest, **options):
        if os.fspath(file).endswith(name):
            raise error(1, "Not permitted", os.fspath(file))
        return opens(file, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(train.CheckpointError, match=f"is damaged: {name} "):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "name", ["../../secret", "/dev/zero", "C:\\secret", "a\0b", "", "..", "\x1b[2J"]
)
def test_names_in_the_manifest_lead_nowhere(name, path):
    (path.parents[1] / "secret").write_bytes(b"")
    manifest = json.loads((path / "manifest.json").read_bytes())
    code = hashlib.sha256(b"").hexdigest()
    manifest["files"][name] = {"bytes": 0, "sha256": code}
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert tried(path) is None
    with pytest.raises(train.CheckpointError, match="manifest.json lists '"):
        checkpoints.read(path)


# Writing


def test_writing_says_nothing(tmp_path, capfd, caplog):
    """Neither what orbax skips, nor the tracebacks of its threads."""
    checkpoints.write(checkpoints.place(tmp_path, STEP), TREE, METADATA)
    odd = {"step": np.zeros(2, arrays.DTYPES["uint2"])}  # orbax cannot store it
    with pytest.raises(train.CheckpointError, match="could not be written"):
        checkpoints.write(checkpoints.place(tmp_path, 3), odd, {"step": 3})
    assert "".join(capfd.readouterr()) == ""
    assert not [record for record in caplog.records if record.name == "absl"]


# The newest intact one is used

BESIDE = {
    "a file": lambda p: p.with_name("000000500").write_text("x"),
    "an empty folder": lambda p: p.with_name("000000500").mkdir(),
    "a link": lambda p: p.with_name("000000500").symlink_to(p.name),
    "a short name": lambda p: shutil.copytree(p, p.with_name("400")),
    "other digits": lambda p: shutil.copytree(p, p.with_name("٤٠٠")),
    "another number": lambda p: shutil.copytree(p, p.with_name("000000500")),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_what_is_no_checkpoint_is_named_and_passed_over(kind, path):
    BESIDE[kind](path)
    with pytest.warns(UserWarning, match="(500|400|٤٠٠) is damaged.*that of step 40"):
        assert written(train.load(path.parents[1]))
    # A run that starts here sets it aside.
    checkpoints.Store(path.parent, 2, 1).clean(STEP)
    assert checkpoints.steps(path.parent) == [STEP]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train.load(path.parents[1]).step == STEP


def test_other_files_do_not_matter(path):
    (path / ".DS_Store").write_bytes(b"x")
    (path / "notes").symlink_to("/etc")
    assert written(tried(path))
    # Not even a number that no run can reach: none of these is a step.
    for name in ("notes", "-1", "1.5", "²", "9" * 255, "0" * 250 + "90"):
        (path.parent / name).mkdir()
    assert written(train.load(path.parents[1]))
    checkpoints.Store(path.parent, 2, 1).clean(STEP)
    assert (path.parent / ("9" * 255)).is_dir()


@pytest.mark.parametrize("step", ["40", 40.0, True, [40]])
def test_what_is_no_step_is_named(step, path):
    with pytest.raises(TypeError, match="step must be an integer or None, got"):
        train.load(path.parents[1], step)


def test_a_file_in_place_of_all_checkpoints(path):
    shutil.rmtree(path.parent)
    path.parent.write_text("x")
    with pytest.raises(train.CheckpointError, match="checkpoints cannot be read"):
        train.load(path.parents[1])
