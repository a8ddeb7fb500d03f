"""Damaged files, bombs and lies: documented errors, bounded memory, nothing else."""

import gzip
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import readers_worker as worker
from hypothesis import given, settings

from gamedyn import text
from gamedyn.data import readers, sets
from gamedyn.metrics.torch_files import read_state_dict


def write(path, data):
    path.write_bytes(data)
    return path


def in_a_process(tmp_path, count, seed):
    script = Path(worker.__file__)
    command = [sys.executable, str(script), str(count), str(seed), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("count", "seed"), [(300, 0), pytest.param(15_000, 1, marks=pytest.mark.slow)]
)
def test_damaged_files_give_documented_errors_and_nothing_else(tmp_path, count, seed):
    """Bounded memory; nothing else opened, imported, executed or unpickled."""
    assert in_a_process(tmp_path, count, seed) == []


@pytest.mark.parametrize(
    ("crime", "word"),
    [
        (lambda path: Path(os.devnull).read_bytes(), "open"),
        (lambda path: pickle.loads(b"cos\ngetcwd\n."), "pickle.find_class"),
        (lambda path: eval("1 + 1"), "compile"),
        (lambda path: len(bytearray(10**8)), "bytes of memory"),
        (lambda path: 1 / 0, "ZeroDivisionError"),
        (lambda path: int("?"), "not named"),
    ],
)
def test_the_watch_sees_planted_crimes(tmp_path, monkeypatch, crime, word):
    def reader(path):
        if path.read_bytes() != b"good":
            crime(path)

    files = [(reader, b"good", lambda content: content)]
    monkeypatch.setattr(worker, "corpus", lambda: files)
    said = worker.check(4, 0, tmp_path)
    assert said
    assert all(word in line for line in said)


DTYPES = ["b1", "u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c8", "S3", "<U2"]


@settings(max_examples=60)
@given(data=st.data())
def test_arrays_of_every_kind_come_back_and_lies_about_them_do_not(
    tmp_path_factory, data
):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    array = np.zeros(shape, dtype)
    if array.size and array.dtype.kind in "iuf":
        array[...] = np.arange(array.size).reshape(shape)
    order = data.draw(st.sampled_from([np.asfortranarray, np.ascontiguousarray]))
    content = worker.npy(order(array) if array.ndim else array)
    path = write(tmp_path_factory.getbasetemp() / "a.npy", content)
    got = readers.read_npy(path)
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype.newbyteorder("=")
    assert got.flags.writeable
    lie = data.draw(st.sampled_from(["more", "less"]))
    write(path, content + b"\0" if lie == "more" else content[:-1])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        readers.read_npy(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }",
        "{'shape': (2,2), 'fortran_order': False, 'descr': '<f8'}\n",
        '{"descr": "<f8", "shape": (2L, 2L,), "fortran_order": False}   \n',
    ],
)
def test_headers_of_other_writers_are_read(tmp_path, header):
    head = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()
    path = write(tmp_path / "a.npy", head + np.arange(4.0).tobytes())
    assert readers.read_npy(path).tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 999999999999999999), }",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (999999999999999999,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f8', 'descr': '<f8', 'shape': (1,), }",
        "{'descr': '<f7', 'fortran_order': False, 'shape': (1,), }",
        "__import__('os').system('true')",
        "(" * 9000,
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }" + " " * 20_000,
    ],
)
def test_lying_headers_are_refused_at_once(tmp_path, header):
    head = b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header.encode()
    path = write(tmp_path / "a.npy", head + bytes(8))
    with traced(10_000_000), pytest.raises(ValueError, match=re.escape(str(path))):
        readers.read_npy(path)


class traced:  # noqa: N801  it reads as a statement
    """Check the peak of what is allocated inside, and the time."""

    def __init__(self, most):
        self.most = most

    def __enter__(self):
        tracemalloc.start()
        self.start = time.process_time()

    def __exit__(self, *error):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if error[0] is None:
            assert peak < self.most
            assert time.process_time() - self.start < 5


def overlapping(number=50):
    """A zip bomb: every member's entry leads to the same bytes."""
    big = worker.archive(a_npy=worker.npy(np.zeros(2**20, np.uint8)))
    start, end = big.index(b"PK\1\2"), big.index(b"PK\5\6")
    names = [b"%05d" % k for k in range(number)]  # as long as a.npy
    entries = b"".join(big[start:end].replace(b"a.npy", name) for name in names)
    counts = (0, 0, number, number, len(entries), start, 0)
    return big[:start] + entries + struct.pack("<4s4H2LH", b"PK\5\6", *counts)


def black(*shape):
    header = struct.pack(">IIBBBBB", *shape, 8, 2, 0, 0, 0)
    return worker.png(header, zlib.compress(bytes(2**20)))


def chunks():
    chunk = struct.pack(">I4sI", 0, b"tEXt", zlib.crc32(b"tEXt"))
    return black(64, 64)[:33] + chunk * 70_000


def members():
    one = worker.npy(np.zeros(1))
    return worker.archive(0, **{f"x{k}_npy": one for k in range(10_001)})


BOMBS = {
    "a picture of 67 million pixels": (readers.read_png, lambda: black(8192, 8192)),
    "a picture of many chunks": (readers.read_png, chunks),
    "an archive of many members": (readers.read_npz, members),
    "members that share their bytes": (readers.read_npz, overlapping),
    "an IDX of four gigabytes": (
        readers.read_idx,
        lambda: gzip.compress(
            struct.pack(">4I", 0x803, 2**16, 2**8, 2**8) + bytes(2**22), 1
        ),
    ),
    "lines without numbers": (readers.read_csv, lambda: b"\n" * 2**20),
    "cells without numbers": (readers.read_csv, lambda: b"," * 2**20),
    "short lines": (readers.read_census, lambda: b"a\n" * 2**20),
    "a pickle of nothing": (
        read_state_dict,
        lambda: worker.archive(0, a__data_pkl=b"\x80\x02" + b"}" * 2**19 + b"."),
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_is_announced_takes_no_memory_before_it_is_checked(tmp_path, kind):
    reader, make = BOMBS[kind]
    data = make()
    path = write(tmp_path / "file", data)
    expected = pytest.raises(ValueError, match="file")
    with traced(10 * len(data) + 2**22), expected as error:
        reader(path)
    assert "\n" not in str(error.value)


def test_a_number_of_pixels_can_be_allowed(tmp_path):
    pixels = bytes(5000 * 4001)
    header = struct.pack(">IIBBBBB", 4000, 5000, 8, 0, 0, 0, 0)
    path = write(tmp_path / "a.png", worker.png(header, zlib.compress(pixels)))
    with pytest.raises(ValueError, match=f"5000 x 4000 pixels, expected 1 to {2**24}"):
        readers.read_png(path)
    assert readers.read_png(path, most_pixels=2**25).shape == (5000, 4000, 1)
    write(tmp_path / "b.png", worker.png(header, zlib.compress(pixels[:-1])))
    with pytest.raises(ValueError, match="truncated or too many"):
        readers.read_png(tmp_path / "b.png", most_pixels=2**25)


def test_sparse_files_and_devices_are_refused(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**33)
    for reader in (readers.read_npy, readers.read_npz, readers.read_png):
        with pytest.raises(ValueError, match="huge has 8589934592 bytes, at most"):
            reader(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="not a regular file"):
            readers.read_csv(tmp_path / "pipe")


def test_members_are_neither_encrypted_nor_elsewhere(tmp_path):
    path = tmp_path / "a.npz"
    good = worker.archive(0, a_npy=worker.npy(np.ones(2)))
    place = good.index(b"PK\1\2")
    locked = bytearray(good)
    locked[6] |= 1
    locked[place + 8] |= 1
    outside = worker.archive(0, **{"..__a_npy": worker.npy(np.ones(2))})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.npy", worker.npy(np.ones(2)))
    for data in (bytes(locked), outside, buffer.getvalue()):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            readers.read_npz(write(path, data))


# Numbers


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"\xef\xbb\xbf1,2\n3,4\n", [[1, 2], [3, 4]]),
        (b"1,2\r\n3,4", [[1, 2], [3, 4]]),
        (b"1,2\r3,4\r", [[1, 2], [3, 4]]),
        (b'"1", +2.\n\n .5 ,-4E-1\n \t \n', [[1, 2], [0.5, -0.4]]),
        (b"7", [[7]]),
    ],
)
def test_tables_of_numbers(tmp_path, content, rows):
    got = readers.read_csv(write(tmp_path / "a.csv", content))
    assert got.dtype == np.float64
    assert got.tolist() == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1_0,2\n3,4", "line 1, column 1: '1_0' is not a number: .* underscores"),
        ("1,2\n3,0x1F", "line 2, column 2: '0x1F' .* decimal digits"),
        ("1,٣\n3,4", "line 1, column 2: .* digits 0 to 9"),
        ("1,−1\n3,4", "line 1, column 2: "),
        ('"1,5",2\n', "commas separate .*decimal sign"),
        ("1,5;2,5\n1,5;2,5", "column 2: '5;2' .*commas separate.*decimal sign"),
        ("1\t2\n3\t4", "commas separate"),
        ("1.0 2.0\n", "commas separate"),
        ("a,b\n1,2", "line 1, column 1: 'a' is not a number.* no headers"),
        ("1,2,\n3,4,", "line 1, column 3: an empty text"),
        ("1,2,", "line 1: its last cell is empty"),
        ("1,,2\n", "line 1, column 2: an empty text"),
        ("1,nan\n2,3", "line 1, column 2: 'nan' is not finite"),
        ("1,-Infinity\n2,3", "not finite"),
        ("1,1e999\n2,3", "too large for a float64"),
        ("1,1e-999\n2,3", "too small for a float64"),
        ("1,2\n\n3\n", r"line 3: rows of different lengths \[1, 2\]"),
        ("1,2\x0b3,4", "column 2"),
        ("1,2\x003,4", "column 2"),
        (f"1,{'9' * 1000}", "more than 400 characters"),
        ("\n \n", "holds no numbers"),
        ("", "holds no numbers"),
    ],
)
def test_what_is_no_number_is_named_by_line_and_column(tmp_path, content, message):
    path = write(tmp_path / "a.csv", content.encode())
    with pytest.raises(ValueError, match=message) as error:
        readers.read_csv(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


def test_other_encodings_are_named(tmp_path):
    for encoding in ("utf-16", "latin-1"):
        path = write(tmp_path / "a.csv", "1,2\n3,4é".encode(encoding))
        with pytest.raises(ValueError, match="not a text in UTF-8"):
            readers.read_csv(path)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_as_it_was_written(value):
    assert text.number(repr(value)) == value
    assert text.number(f"{value:.17e}") == value


@given(written=st.text(max_size=12))
def test_whatever_is_a_number_is_one_to_python(written):
    try:
        value = text.number(written)
    except ValueError:
        return
    assert value == float(written)
    assert "_" not in written


# Pictures


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 3, 8, 8), (5, 8, 8, 3)),
        ((5, 1, 8, 7), (5, 8, 7, 1)),
        ((5, 4, 9, 8), (5, 9, 8, 4)),
        ((5, 8, 8, 3), (5, 8, 8, 3)),
        ((5, 8, 6, 1), (5, 8, 6, 1)),
        ((5, 3, 3, 1), (5, 3, 3, 1)),  # square if the last axis has the channels
        ((5, 1, 3, 3), (5, 3, 3, 1)),
        ((5, 8, 6), (5, 8, 6, 1)),
    ],
)
def test_pictures_with_channels_first_are_recognised(tmp_path, shape, expected):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "pictures.npz"
    np.savez(path, images=images, labels=np.arange(5) % 2)
    data = sets.from_npz(path, 2)
    assert data.images.shape == expected
    if shape != expected and len(shape) == 4:
        for channel in range(expected[-1]):
            np.testing.assert_array_equal(data.images[..., channel], images[:, channel])


LABELS = np.arange(5) % 2


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.ones((5, 3, 3, 3), np.uint8), LABELS, "second axis or in the last"),
        (np.ones((5, 1, 28, 1), np.uint8), LABELS, "second axis or in the last"),
        (np.ones((5, 28, 28, 7), np.uint8), LABELS, "neither the last nor the second"),
        (np.ones((5, 784), np.uint8), LABELS, r"must have the shape.*\(5, 784\)"),
        (np.ones((5, 8, 8)) / 2, LABELS, r"from 0\.5 to 0\.5: np\.rint\(255 \* images"),
        (-np.ones((5, 8, 8), "f4"), LABELS, r"127\.5 \* \(images \+ 1\)"),
        (200 * np.ones((5, 8, 8)), LABELS, r"from 200 to 200: np\.rint\(images\)"),
        (np.full((5, 8, 8), 9), LABELS, r"from 9 to 9: images\.astype\(np\.uint8\)"),
        (np.ones((5, 8, 8), np.uint8), LABELS, "the brightest pixel is 1 of 255"),
        (np.full((5, 8, 8), 9, np.uint8), np.eye(5)[:, :2], "labels must be integers"),
        (np.full((5, 8, 8), 9, np.uint8), np.eye(5, dtype=int), "one-hot labels"),
        (np.full((5, 8, 8), 9, np.uint8), LABELS[:4], r"labels of shape \(4,\) for 5"),
        (np.full((5, 8, 8), 9, np.uint8), LABELS - 1, "out of range"),
    ],
)
def test_pictures_in_another_form_are_refused_with_a_hint(
    tmp_path, images, labels, message
):
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    with pytest.raises((TypeError, ValueError), match=message) as error:
        sets.from_npz(tmp_path / "a.npz", 5)
    assert "\n" not in str(error.value)


def test_labels_are_needed(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.ones((5, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="got the arrays images, expected images and"):
        sets.from_npz(tmp_path / "a.npz", 5)
