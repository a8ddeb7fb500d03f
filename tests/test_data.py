"""Data: readers on files written here, named sets, batch order, mixtures."""

import gzip
import io
import re
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import gamedyn.data
from gamedyn.data import (
    BatchOrder,
    Curve,
    ImageSet,
    PlaneMixture,
    mixtures,
    order,
    published,
    readers,
    sets,
)
from gamedyn.recipes import pictures as recipe

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


def _png(pixels, *, colour=None, depth=8, extra=b"", between=(), methods=(0, 0)):
    """Encode with one filter for each row in turn, independently of the reader."""
    height, width, channels = pixels.shape
    colour = {1: 0, 3: 2}[channels] if colour is None else colour
    flat = pixels.reshape(height, width * channels).astype(int)
    left = np.pad(flat, ((0, 0), (channels, 0)))[:, : flat.shape[1]]
    above = np.pad(flat, ((1, 0), (0, 0)))[:-1]
    forms = [flat, flat - left, flat - above, flat - (left + above) // 2]
    rows = [bytes([i % 4, *(forms[i % 4][i] % 256)]) for i in range(height)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, *methods, 0)
    packed = zlib.compress(b"".join(rows) + extra)
    chunks = [(b"IHDR", header), *between, (b"IDAT", packed)]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in [*chunks, (b"IEND", b"")]:
        crc = zlib.crc32(kind + body)
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)
    return out


def _npz(compressed=True, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def _cifar(labels, images):
    planes = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def _write(path, data):
    path.write_bytes(data)
    return path


def _valid_files():
    small = PICTURES[:3, :5, :4]
    idx = readers.encode_idx(small)
    colour = RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    return {
        "idx": (readers.read_idx, idx),
        "idx.gz": (readers.read_idx, gzip.compress(idx)),
        "cifar": (readers.read_cifar10, _cifar(LABELS[:2], colour)),
        "npz": (readers.read_npz, _npz(a=small, b=LABELS)),
        "npz stored": (readers.read_npz, _npz(False, a=small, b=LABELS)),
        "png": (readers.read_png, _png(PICTURES[0, :6, :6, None])),
    }


FILES = _valid_files()


# Readers


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path, dtype, packed):
    array = RNG.integers(0, 100, (3, 2, 4)).astype(dtype)
    data = readers.encode_idx(array)
    path = _write(tmp_path / "any name", gzip.compress(data) if packed else data)
    got = readers.read_idx(path)
    assert got.dtype == array.dtype
    assert got.flags.writeable
    np.testing.assert_array_equal(got, array)


def test_idx_header_is_the_published_one():
    assert readers.encode_idx(PICTURES)[:16] == struct.pack(">4I", 2051, 12, 28, 28)
    assert readers.encode_idx(LABELS)[:8] == struct.pack(">2I", 2049, 12)


def test_idx_refuses_what_it_cannot_encode():
    with pytest.raises(TypeError, match="int64"):
        readers.encode_idx(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="non-empty"):
        readers.encode_idx(np.zeros(0, np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no IDX header"),
        (struct.pack(">2I", 0x01000801, 1) + b"a", "not an IDX file"),
        (struct.pack(">2I", 0x00000701, 1) + b"a", "not an IDX file"),
        (struct.pack(">I", 0x00000800), "0 dimensions"),
        (struct.pack(">2I", 0x00000802, 1), "truncated in its IDX header"),
        (struct.pack(">2I", 0x00000801, 0), "is empty"),
        (struct.pack(">4I", 0x00000803, *[2**32 - 1] * 3), "cannot hold"),
        (struct.pack(">2I", 0x00000801, 3) + b"ab", "truncated"),
        (struct.pack(">2I", 0x00000801, 3) + b"abcd", "trailing"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_names_the_damage(tmp_path, data, message, packed):
    path = _write(tmp_path / "file", gzip.compress(data) if packed else data)
    with pytest.raises(ValueError, match=message):
        readers.read_idx(path)


def test_idx_refuses_bytes_after_the_gzip_stream_and_wrong_checksums(tmp_path):
    data = FILES["idx.gz"][1]
    for damaged, message in (
        (data + b"\0", "trailing"),
        (data + data, "trailing"),
        (data[:-1], "does not end"),
        (data[:-8] + bytes(8), "not a sound gzip"),
    ):
        with pytest.raises(ValueError, match=message):
            readers.read_idx(_write(tmp_path / "file", damaged))


def test_a_small_gzip_file_that_inflates_without_end_is_not_inflated(tmp_path):
    bomb = readers.encode_idx(LABELS) + bytes(50_000_000)
    with pytest.raises(ValueError, match="trailing"):
        readers.read_idx(_write(tmp_path / "file", gzip.compress(bomb, 1)))


def test_cifar_round_trip(tmp_path):
    images = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    got, labels = readers.read_cifar10(
        _write(tmp_path / "file", _cifar(LABELS[:3], images))
    )
    np.testing.assert_array_equal(got, images)
    np.testing.assert_array_equal(labels, LABELS[:3])


def test_cifar_names_the_damage(tmp_path):
    data = FILES["cifar"][1]
    for damaged in (b"", data[:-1], data + b"\0"):
        with pytest.raises(ValueError, match="multiple of 3073"):
            readers.read_cifar10(_write(tmp_path / "file", damaged))
    with pytest.raises(ValueError, match="label 10 in record 1"):
        readers.read_cifar10(
            _write(tmp_path / "file", data[:3073] + b"\n" + data[3074:])
        )


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_round_trip(tmp_path, compressed):
    arrays = {
        "images": PICTURES,
        "fortran": np.asfortranarray(RNG.normal(size=(3, 4))),
        "big": np.arange(5, dtype=">i4"),
        "scalar": np.float32(2.5),
        "names": np.array(["a", "bcd"]),
        "none": np.zeros((0, 3), np.complex64),
        "flags": np.array([True, False]),
    }
    path = _write(tmp_path / "file.npz", _npz(compressed, **arrays))
    got = readers.read_npz(path)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype.newbyteorder("=") == got[name].dtype


class _Spy:
    """Leaves a trace when it is unpickled."""

    loaded = False

    def __reduce__(self):
        return (_Spy._load, ())

    @staticmethod
    def _load():
        _Spy.loaded = True
        return _Spy()


def test_npz_refuses_objects_without_loading_them(tmp_path):
    objects = np.empty(1, object)
    objects[0] = _Spy()
    path = _write(tmp_path / "file.npz", _npz(a=objects))
    with pytest.raises(ValueError, match="never read"):
        readers.read_npz(path)
    assert not _Spy.loaded


def _with_undecodable_name(data):
    place = data.index(b"a.npy")
    flags = int.from_bytes(data[6:8], "little") | 0x800
    head = data[:6] + flags.to_bytes(2, "little") + data[8:place]
    return head + b"\xff" + data[place + 1 :]


def test_npz_names_the_damage(tmp_path):
    path = tmp_path / "file.npz"
    data = FILES["npz stored"][1]
    record = np.zeros(2, [("a", "i4")])
    for damaged, message in (
        (b"", "not a sound npz"),
        (data + b"\0", "before or after"),
        (b"\0" + data, "before or after"),
        (data.replace(b"(3, 5, 4)", b"(3, 5, 5)"), "is damaged"),
        (_npz(a=record), "unsupported npy header"),
        # A name in the local header that is no text in its announced encoding.
        (_with_undecodable_name(data), "is damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            readers.read_npz(_write(path, damaged))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(ValueError, match="is not an array"):
        readers.read_npz(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(ValueError, match="no array"):
        readers.read_npz(path)


@pytest.mark.parametrize("shape", [(7, 5, 1), (5, 7, 3)])
def test_png_round_trip(tmp_path, shape):
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    got = readers.read_png(_write(tmp_path / "a.png", _png(pixels)))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pixels)
    # Chunks that hold no pixels are passed over, whatever is in them.
    noted = _png(pixels, between=[(b"iCCP", b"\xff"), (b"acTL", b"")])
    np.testing.assert_array_equal(readers.read_png(_write(tmp_path / "b", noted)), got)


def test_png_names_the_damage(tmp_path):
    pixels = PICTURES[0, :4, :4, None]
    data = _png(pixels)
    flipped = bytearray(data)
    flipped[45] ^= 1
    for damaged, message in (
        (b"", "wrong signature"),
        (data[:-1], "truncated"),
        (data[:8], "truncated"),
        (data + b"\0", "trailing"),
        (bytes(flipped), "wrong checksum"),
        (_png(pixels, colour=3), "colour type 3"),
        (_png(pixels, depth=16), "depth 16"),
        (_png(pixels, between=[(b"tRNS", bytes(2))]), "transparency"),
        (_png(pixels, between=[(b"ABCD", b"x")]), "unknown chunks"),
        (_png(pixels, methods=(1, 0)), "compression 1"),
        (_png(pixels, methods=(0, 1)), "filter method 1"),
        (_png(pixels[:, :, [0, 0, 0]], colour=0), "too many"),
        (_png(pixels, extra=b"\0"), "too many"),
        (_png(np.zeros((0, 3, 1), np.uint8)), "0 x 3 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            readers.read_png(_write(tmp_path / "a.png", damaged))


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_an_error(tmp_path, kind):
    reader, data = FILES[kind]
    path = tmp_path / "file"
    reader(_write(path, data))
    for length in {*range(min(len(data), 300)), *range(0, len(data), 97)}:
        with pytest.raises(ValueError, match=re.escape(str(path))):
            reader(_write(path, data[:length]))


def _outcome(reader, path):
    try:
        reader(path)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_and_random_bytes_give_values_or_clear_errors(
    tmp_path_factory, kind, data
):
    reader, good = FILES[kind]
    form = data.draw(st.sampled_from(["random", "prefixed", "flipped", "spliced"]))
    noise = data.draw(st.binary(max_size=80))
    content = bytearray(good)
    if form == "random":
        content = bytearray(noise)
    elif form == "prefixed":
        content = content[: data.draw(st.integers(0, 40))] + noise
    elif form == "flipped":
        for _ in range(data.draw(st.integers(1, 5))):
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    else:
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 30))] = noise
    path = _write(tmp_path_factory.getbasetemp() / "fuzz", bytes(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = _outcome(reader, path)
    assert message is None or str(path) in message


@pytest.mark.parametrize(
    "reader", list(dict.fromkeys(reader for reader, _ in FILES.values()))
)
def test_missing_files_and_folders_are_named(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        reader(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="not a regular file"):
        reader(tmp_path)


def test_nothing_is_unpickled_or_evaluated():
    folder = Path(gamedyn.data.__file__).parent
    for file in folder.glob("*.py"):
        code = file.read_text()
        assert not re.search(r"import pickle|np\.load|allow_pickle|eval\(|exec\(", code)


# Folders of pictures


def _folder(path, classes=("cat", "dog"), number=2):
    for name in classes:
        (path / name).mkdir(parents=True)
        for i in range(number):
            _write(path / name / f"{i}.png", _png(PICTURES[i, :4, :4, None]))
    return path


def test_image_folder(tmp_path):
    data = sets.from_folder(_folder(tmp_path / "pets"))
    assert (data.name, data.classes, data.num_classes) == ("pets", ("cat", "dog"), 2)
    assert data.images.shape == (4, 4, 4, 1)
    assert data.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(data.images[3, ..., 0], PICTURES[1, :4, :4])
    flat = sets.from_folder(tmp_path / "pets" / "cat")
    assert (len(flat), flat.num_classes, flat.classes) == (2, 1, ())


def test_image_folder_errors(tmp_path):
    with pytest.raises(NotADirectoryError, match="nothing"):
        readers.read_image_folder(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no picture"):
        readers.read_image_folder(tmp_path)
    folder = _folder(tmp_path / "pets")
    (folder / ".hidden").touch()
    (folder / "cow").mkdir()
    with pytest.raises(ValueError, match="cow holds no picture"):
        readers.read_image_folder(folder)
    _write(folder / "cow" / "0.png", _png(PICTURES[0, :3, :4, None]))
    with pytest.raises(ValueError, match=r"got the shape \(3, 4, 1\)"):
        readers.read_image_folder(folder)
    _write(folder / "cow" / "0.png", b"").rename(folder / "cow" / "0.jpg")
    with pytest.raises(ValueError, match="not a PNG"):
        readers.read_image_folder(folder)
    (folder / "file.png").touch()
    with pytest.raises(ValueError, match="beside class folders"):
        readers.read_image_folder(folder)


# Named sets


def _mnist(root, *, packed=True, labels=LABELS, pictures=PICTURES):
    root.mkdir(parents=True, exist_ok=True)
    for stem in ("train", "t10k"):
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            data = readers.encode_idx(array)
            name = f"{stem}-{kind}-ubyte" + ".gz" * packed
            _write(root / name, gzip.compress(data) if packed else data)
    return root


def test_digits_are_embedded():
    train, test = (sets.load("digits", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.max() == train.maximum == 16
    assert np.bincount(test.labels).min() >= 25
    # No picture is lost: both parts together are scikit-learn's.
    from sklearn.datasets import load_digits

    both = np.concatenate([train.images, test.images]).reshape(1797, -1)
    everything = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, everything))
    scaled = sets.scale(train.images, train.maximum)
    assert scaled.dtype == jnp.float32
    assert (scaled.min(), scaled.max()) == (-1, 1)
    with pytest.raises(TypeError, match="uint8"):
        sets.scale(scaled)


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", ""])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_sets_are_found(tmp_path, monkeypatch, folder, packed):
    _mnist(tmp_path / folder, packed=packed)
    data = sets.load("mnist", root=tmp_path, verify=False)
    assert (data.images.shape, data.verified) == ((12, 28, 28, 1), False)
    assert data.labels.dtype == np.int32
    monkeypatch.setenv(published.ENVIRONMENT, str(tmp_path))
    data = sets.load("mnist", split="test", verify=False)
    np.testing.assert_array_equal(data.images[..., 0], PICTURES)


def test_checksums(tmp_path, monkeypatch):
    _mnist(tmp_path)
    with pytest.raises(ValueError, match="checksum mismatch.*train-images"):
        sets.load("mnist", root=tmp_path)
    import hashlib

    for kind, array in (("images-idx3", PICTURES), ("labels-idx1", LABELS)):
        digest = hashlib.sha256(readers.encode_idx(array)).hexdigest()
        monkeypatch.setitem(published._MNIST, f"train-{kind}-ubyte", digest)
    assert sets.load("mnist", root=tmp_path).verified


def test_cifar10_set(tmp_path):
    images = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    for i in range(1, 5):
        _write(tmp_path / f"data_batch_{i}.bin", _cifar(LABELS, images))
    with pytest.raises(FileNotFoundError, match=r"no data_batch_5\.bin .*toronto"):
        sets.load("cifar10", root=tmp_path)
    _write(tmp_path / "data_batch_5.bin", _cifar(LABELS, images))
    assert len(sets.load("cifar10", root=tmp_path, verify=False)) == 60
    assert len(sets.load("cifar10", split="batch_1", root=tmp_path, verify=False)) == 12
    with pytest.raises(ValueError, match="checksum mismatch"):
        sets.load("cifar10", root=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_wrong_directory_says_how_to_obtain_the_set(tmp_path, monkeypatch, name):
    monkeypatch.delenv(published.ENVIRONMENT, raising=False)
    for root, message in (
        (None, f"set {published.ENVIRONMENT}.*https://"),
        (tmp_path / "nothing", "does not exist.*https://"),
        (tmp_path, "below.*https://"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            sets.load(name, root=root)


def test_a_damaged_set_is_named(tmp_path):
    _mnist(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    good = file.read_bytes()
    _write(file, good[: len(good) // 2])
    with pytest.raises(ValueError, match="train-images.*does not end"):
        sets.load("mnist", root=tmp_path)
    _write(file, gzip.compress(readers.encode_idx(LABELS)))
    with pytest.raises(ValueError, match="1 dimensions, expected uint8 of 3"):
        sets.load("mnist", root=tmp_path)
    _mnist(tmp_path, pictures=PICTURES[:, :27])
    with pytest.raises(ValueError, match=r"\(27, 28\), expected \(28, 28\)"):
        sets.load("mnist", root=tmp_path, verify=False)
    _mnist(tmp_path, labels=LABELS[:11])
    with pytest.raises(ValueError, match="for 12 images"):
        sets.load("mnist", root=tmp_path, verify=False)
    _mnist(tmp_path, labels=LABELS + np.uint8(1))
    with pytest.raises(ValueError, match="out of range: got 1 to 10, expected 0 to 9"):
        sets.load("mnist", root=tmp_path, verify=False)


def test_unknown_names():
    with pytest.raises(ValueError, match="did you mean fashion_mnist"):
        sets.load("fashion-mnits")
    with pytest.raises(ValueError, match="unknown split 'valid'.*train, test"):
        sets.load("digits", split="valid")
    assert gamedyn.data.names() == ("digits", "mnist", "fashion_mnist", "cifar10")
    assert tuple(gamedyn.data.entries()) == gamedyn.data.names()
    assert gamedyn.data.entry("cifar10").splits == ("train", "test", "batch_1")
    assert all(e.summary and e.source for e in gamedyn.data.entries().values())


@pytest.fixture
def registered():
    """Names to take out again after the test."""
    names = {sets: [], mixtures: []}
    yield names
    for kind, taken in names.items():
        for name in taken:
            kind.unregister(name)
            assert name not in kind.names()


def test_a_registered_set_is_loaded_by_name(registered, tmp_path):
    asked = []

    @gamedyn.data.register("my_pictures", summary="twelve pictures", source="here")
    def read(split, root, verify):
        asked.append((split, root, verify))
        return ImageSet(PICTURES[..., None], LABELS, 10, "mine", split)

    registered[sets].append("my_pictures")
    assert "my_pictures" in gamedyn.data.names()
    data = gamedyn.data.load("my-pictures", split="test", root=tmp_path, verify=False)
    assert (data.name, data.split, len(data)) == ("mine", "test", 12)
    assert asked == [("test", tmp_path, False)]
    with pytest.raises(ValueError, match=r"registered already"):
        gamedyn.data.register("my_pictures", read, summary="again", source="here")
    with pytest.raises(ValueError, match="unknown split 'batch_1'.*train, test"):
        gamedyn.data.load("my_pictures", split="batch_1")
    # The recipes for pictures read their `--data` by the same call.
    training, held_out = recipe.load(recipe.Options(data="my_pictures"))
    assert (training.split, held_out.split) == ("train", "test")
    assert asked[1:] == [("train", None, True), ("test", None, True)]


def test_a_reader_returns_a_set(registered):
    facts = {"summary": "not a set", "source": "here", "splits": ("train",)}
    gamedyn.data.register("nothing", lambda *_: None, **facts)
    registered[sets].append("nothing")
    with pytest.raises(TypeError, match="'nothing' must return an ImageSet, got None"):
        gamedyn.data.load("nothing")


def test_registered_points(registered):
    def build():
        return mixtures.mixture([[0.0, 0.0], [3.0, 0.0]], 0.1)

    facts = {"summary": "two modes", "source": "this test", "points": 100}
    assert mixtures.register("pair/test", build, **facts) is build
    registered[mixtures].append("pair/test")
    data = mixtures.make("pair/test")
    assert (data.name, data.summary, data.source, data.points) == (
        "pair/test",
        *facts.values(),
    )
    assert mixtures.entry("pair/test") == mixtures.entries()["pair/test"]
    with pytest.raises(ValueError, match="unknown plane set"):
        mixtures.unregister("pair/tset")


def test_sets_of_ones_own(tmp_path):
    path = _write(tmp_path / "own.npz", _npz(images=PICTURES, labels=LABELS))
    data = sets.from_npz(path, 10)
    assert (data.name, data.images.shape) == ("own", (12, 28, 28, 1))
    sets.check_num_classes(data, 10)
    with pytest.raises(ValueError, match="own has 10 classes, expected 7"):
        sets.check_num_classes(data, 7)
    with pytest.raises(ValueError, match="out of range: got 0 to 9, expected 0 to 6"):
        sets.from_npz(path, 7)
    with pytest.raises(ValueError, match="got the arrays images, expected"):
        sets.from_npz(_write(path, _npz(images=PICTURES)), 10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": PICTURES[..., None] / 255}, TypeError, "uint8, got float64"),
        ({"images": PICTURES}, ValueError, "channels"),
        ({"labels": LABELS / 1}, TypeError, "integers"),
        ({"labels": LABELS.astype(int) - 1}, ValueError, "got -1 to 8"),
        ({"labels": LABELS[:5]}, ValueError, "for 12 images"),
        ({"classes": ("a", "b")}, ValueError, "2 names of classes"),
        ({"maximum": 16}, ValueError, "at most 16"),
        ({"num_classes": 0}, ValueError, "positive integer"),
    ],
)
def test_image_sets_check_their_arrays(change, error, message):
    good = {"images": PICTURES[..., None], "labels": LABELS, "num_classes": 10}
    ImageSet(**good)
    with pytest.raises(error, match=message):
        ImageSet(**(good | change))


def test_stacked():
    base = ImageSet(PICTURES[..., None], LABELS, 10, "base")
    data = sets.stacked(base, 500, seed=3)
    assert (data.images.shape, data.num_classes) == ((500, 28, 28, 3), 1000)
    again = sets.stacked(base, 500, seed=3)
    np.testing.assert_array_equal(data.images, again.images)
    assert not np.array_equal(data.images, sets.stacked(base, 500, seed=4).images)
    _check_stacks(data.images, data.labels)
    with pytest.raises(ValueError, match="3 channels and 1000 classes"):
        sets.stacked(data, 5)


def test_stack_on_the_device():
    images, labels = jnp.asarray(PICTURES[..., None]), jnp.asarray(LABELS)
    draw = jax.jit(lambda key: sets.stack(images, labels, key, 200))
    stacks, classes = draw(jax.random.key(0))
    assert (stacks.dtype, classes.dtype) == (jnp.uint8, jnp.int32)
    _check_stacks(np.asarray(stacks), np.asarray(classes))
    with pytest.raises(ValueError, match="height, width, 1"):
        sets.stack(stacks, classes, jax.random.key(0), 3)


def _check_stacks(stacks, labels):
    """Each channel is a picture of the class that its digit of the label says."""
    by_bytes = {
        p.tobytes(): int(label) for p, label in zip(PICTURES, LABELS, strict=True)
    }
    used = set()
    for pictures, label in zip(stacks, labels, strict=True):
        digits = [by_bytes[pictures[..., c].tobytes()] for c in range(3)]
        assert digits == [label // 100, label // 10 % 10, label % 10]
        used.update(pictures[..., c].tobytes() for c in range(3))
    assert len(used) == len(PICTURES)


# The order of batches


@given(size=st.integers(1, 200), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_each_epoch_is_a_permutation(size, seed, data):
    epoch = data.draw(st.integers(0, 2**64 - 1))
    got = order.permutation(size, seed, epoch)
    assert sorted(got.tolist()) == list(range(size))


def _philox(counter, key):
    """Four words of Philox4x64-10 in Python's integers, after Salmon et al."""
    low = 2**64 - 1
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            (right >> 64) ^ counter[1] ^ key[0],
            right & low,
            (left >> 64) ^ counter[3] ^ key[1],
            left & low,
        ]
        key = [key[0] + 0x9E3779B97F4A7C15 & low, key[1] + 0xBB67AE8584CAA73B & low]
    return counter


def test_the_words_are_those_of_philox():
    # The published vector of counter and key 0.
    assert _philox([0] * 4, [0, 0])[0] == 0x16554D9ECA36314C
    for seed, epoch in ((0, 0), (3, 2**64 - 1), (2**63, 17)):
        blocks = [_philox([i, 0, 0, 0], [seed, epoch]) for i in (1, 2, 3)]
        assert order.random_words(12, seed, epoch).tolist() == sum(blocks, [])


def test_the_order_is_the_same_on_every_machine():
    # Facts that must never change: a run resumed elsewhere sees the same batches.
    assert order.permutation(8, 1, 2).tolist() == [4, 2, 0, 6, 1, 5, 7, 3]
    words = [213000021201967259, 4455796210202625458]
    assert order.random_words(2, 0).tolist() == words


def test_epochs_and_seeds_differ_and_the_cache_is_read_only():
    first = order.permutation(100, 0, 0)
    assert not np.array_equal(first, order.permutation(100, 0, 1))
    assert not np.array_equal(first, order.permutation(100, 1, 0))
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 3


def test_positions_are_uniform():
    hits = np.zeros((5, 5))
    for epoch in range(2000):
        hits[np.arange(5), order.permutation(5, 7, epoch)] += 1
    # 25 binomials of mean 400 and standard deviation 18.
    assert abs(hits - 400).max() < 75


@given(size=st.integers(1, 60), data=st.data())
def test_an_epoch_shows_each_example_at_most_once(size, data):
    batch = data.draw(st.integers(1, size))
    steps = BatchOrder(size, batch, seed=5)
    assert steps.steps_per_epoch == size // batch
    for epoch in (0, 3):
        start = epoch * steps.steps_per_epoch
        seen = np.concatenate(
            [steps.indices(start + i) for i in range(steps.steps_per_epoch)]
        )
        assert len(set(seen.tolist())) == seen.size == size - size % batch
        np.testing.assert_array_equal(
            seen, order.permutation(size, 5, epoch)[: seen.size]
        )


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shards_are_disjoint_and_make_up_the_batch(count):
    whole = BatchOrder(48, 12, seed=2)
    shards = [BatchOrder(48, 12, 2, index, count) for index in range(count)]
    for step in range(9):
        parts = [shard.indices(step) for shard in shards]
        assert {part.shape for part in parts} == {(12 // count,)}
        np.testing.assert_array_equal(np.concatenate(parts), whole.indices(step))
    epoch = np.concatenate([s.indices(i) for s in shards for i in range(4)])
    assert sorted(epoch.tolist()) == list(range(48))


@given(st.integers(0, 40))
def test_resuming_continues_exactly(step):
    steps = BatchOrder(23, 5, seed=1)
    unbroken = list(steps.batches(0, 45))
    resumed = list(BatchOrder(23, 5, seed=1).batches(step, 45))
    np.testing.assert_array_equal(unbroken[step:], resumed)


def test_another_process_draws_the_same_order():
    code = (
        "from gamedyn.data import BatchOrder;"
        "print(BatchOrder(1000, 8, seed=9).indices(1234).tolist())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == str(BatchOrder(1000, 8, seed=9).indices(1234).tolist())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 11}, ValueError, "larger than the set: got batch_size 11"),
        ({"batch_size": 0}, ValueError, "positive integer"),
        ({"process_count": 3}, ValueError, "multiple of process_count 3"),
        ({"process_index": 1}, ValueError, "below process_count 1"),
        ({"process_index": -1}, ValueError, "process_index must be in 0"),
        ({"seed": -1}, ValueError, "seed must be in 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ],
)
def test_batch_order_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        BatchOrder(**({"size": 10, "batch_size": 4} | arguments))


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="step must be in 0"):
        BatchOrder(10, 4).indices(-1)


# Mixtures

MIXTURES = [n for n in mixtures.names() if isinstance(mixtures.make(n), PlaneMixture)]
CURVES = [n for n in mixtures.names() if isinstance(mixtures.make(n), Curve)]


def test_protocols_have_the_published_numbers():
    ring = mixtures.make("ring8/pacgan")
    np.testing.assert_allclose(ring.centres[1], [0.5**0.5] * 2, rtol=1e-6)
    assert (len(ring.centres), float(ring.sigma), ring.points) == (8, 0.01, 100_000)
    grid = mixtures.make("grid25/pacgan")
    ticks = (-4, -2, 0, 2, 4)
    centres = {tuple(centre) for centre in np.asarray(grid.centres)}
    assert centres == {(a, b) for a in ticks for b in ticks}
    wgan = mixtures.make("ring8/wgangp")
    np.testing.assert_allclose(jnp.linalg.norm(wgan.centres, axis=1), 2 / 1.414)
    np.testing.assert_allclose(wgan.sigma, 0.02 / 1.414)
    assert {"swissroll/wgangp"} < set(CURVES)


@pytest.mark.parametrize("name", MIXTURES)
def test_moments_and_mode_counts(name):
    data, number = mixtures.make(name), 50_000
    modes_of = len(data.centres)
    points, modes = mixtures.sample_with_modes(data, jax.random.key(0), number)
    np.testing.assert_array_equal(points, data.sample(jax.random.key(0), number))
    # Every mode is as likely: five standard deviations of a binomial.
    counts = np.bincount(modes, minlength=modes_of)
    bound = 5 * np.sqrt(number / modes_of)
    assert abs(counts - number / modes_of).max() < bound
    noise = (points - data.centres[modes]) / data.sigma
    np.testing.assert_allclose(noise.mean(0), 0, atol=5 / np.sqrt(number))
    np.testing.assert_allclose(jnp.cov(noise.T), np.eye(2), atol=0.04)
    total = np.cov(np.asarray(data.centres).T, ddof=0) + data.sigma**2 * np.eye(2)
    scale = float(total[0, 0])
    np.testing.assert_allclose(np.cov(points.T), total, atol=0.03 * scale)
    # The modes are far apart, so the nearest is the one that a point came from.
    nearest, distance = mixtures.assign(data, points)
    np.testing.assert_array_equal(nearest, modes)
    assert abs(float((distance < 3).mean()) - (1 - np.exp(-4.5))) < 0.003


@pytest.mark.parametrize("name", MIXTURES)
def test_log_density(name):
    data = mixtures.make(name)
    points = data.sample(jax.random.key(1), 50)
    got = mixtures.log_density(data, points)
    squares = ((points[:, None] - data.centres[None]) ** 2).sum(-1)
    kernels = np.exp(-squares / (2 * data.sigma**2)) / (2 * np.pi * data.sigma**2)
    np.testing.assert_allclose(got, np.log(kernels.mean(1)), rtol=1e-8)
    assert jnp.isfinite(mixtures.log_density(data, jnp.full(2, 1e3)))


def test_the_density_integrates_to_one():
    data = mixtures.mixture([[0.0, 0.0], [1.0, 0.5]], 0.3)
    ticks = jnp.linspace(-4, 5, 400)
    plane = jnp.stack(jnp.meshgrid(ticks, ticks), axis=-1)
    mass = jnp.exp(mixtures.log_density(data, plane)).sum() * (ticks[1] - ticks[0]) ** 2
    np.testing.assert_allclose(mass, 1, rtol=1e-9)


@pytest.mark.parametrize("name", mixtures.names())
def test_samples_are_pure_functions_of_the_key(name):
    data = mixtures.make(name)
    draw = jax.jit(lambda data, key: data.sample(key, 64))
    first = draw(data, jax.random.key(0))
    assert first.shape == (64, 2)
    np.testing.assert_array_equal(first, draw(data, jax.random.key(0)))
    assert not np.array_equal(first, draw(data, jax.random.key(1)))
    # Cast to float32 like any pytree of arrays.
    small = jax.tree.map(lambda x: x.astype(jnp.float32), data)
    assert small.sample(jax.random.key(0), 4).dtype == jnp.float32
    assert data.summary
    assert data.source


def test_curves():
    swiss = mixtures.make("swissroll/wgangp").sample(jax.random.key(0), 20_000)
    radius = 7.5 * jnp.linalg.norm(swiss, axis=1)
    # The radius is the angle, uniform in [1.5 pi, 4.5 pi], up to the noise.
    np.testing.assert_allclose(radius.mean(), 3 * np.pi, rtol=0.01)
    np.testing.assert_allclose(radius.std(), 3 * np.pi / np.sqrt(12), rtol=0.02)
    spiral = mixtures.make("spiral/archimedean").sample(jax.random.key(0), 20_000)
    radius = jnp.linalg.norm(spiral, axis=1)
    np.testing.assert_allclose(radius.mean(), 2 / 3, rtol=0.01)
    assert radius.max() < 1.1


def test_the_earlier_name_of_a_mixture_of_points():
    assert mixtures.Mixture is gamedyn.data.Mixture is PlaneMixture


def test_points_that_are_no_numbers_are_of_no_quality():
    data = mixtures.make("ring8/pacgan")
    _, distance = mixtures.assign(data, jnp.array([[jnp.nan, 0.0], [jnp.inf, 0.0]]))
    assert not (distance < 3).any()


def test_mixture_errors():
    data = mixtures.make("ring8/pacgan")
    with pytest.raises(ValueError, match="did you mean ring8/pacgan"):
        mixtures.make("ring8/pagcan")
    with pytest.raises(ValueError, match=r"shape \(modes, 2\), got \(3,\)"):
        mixtures.mixture(jnp.zeros(3), 0.1)
    with pytest.raises(ValueError, match="sigma must be positive"):
        mixtures.mixture(jnp.zeros((3, 2)), 0.0)
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\), got \(4, 3\)"):
        mixtures.assign(data, jnp.zeros((4, 3)))
    for name in ("ring8/pacgan", "swissroll/wgangp"):
        with pytest.raises(ValueError, match="positive integer"):
            mixtures.make(name).sample(jax.random.key(0), 0)
