"""Damaged files for every reader, and a process that looks at what reading them does.

`python readers_worker.py COUNT SEED FOLDER` reads COUNT damaged files and prints, as
JSON, what went wrong: other errors than the documented ones, much memory, and whatever
was opened beside the file, imported, executed or unpickled.
"""

import gzip
import io
import json
import random
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np

from gamedyn.data import readers, sets
from gamedyn.metrics.torch_files import read_state_dict

RNG = np.random.default_rng(0)
ROW = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, "
    "White, Male, 2174, 0, 40, United-States, <=50K\n"
)
# What torch writes for {"w": tensor([0.5, -2.0])}.
PROGRAM = (
    b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00wctorch._utils\n"
    b"_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89"
    b"ccollections\nOrderedDict\n)RtRu."
)


def png(header, packed):
    """A PNG file of a header of 13 bytes and compressed pixels."""
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        out += struct.pack(">I", len(body)) + kind + body + crc
    return out


def npy(array):
    """An npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive(method=zipfile.ZIP_DEFLATED, **members):
    """A zip file of members; `__` in a name stands for a slash, `_` for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def from_npz(path):
    """The reader of one's own pictures, whose dtypes are part of its errors."""
    try:
        return sets.from_npz(path, 10)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def corpus():
    """Per reader good contents: the reader, what is inside, and how that is wrapped."""
    images = RNG.integers(0, 256, (4, 6, 5), dtype=np.uint8)
    labels = np.arange(4, dtype=np.uint8)
    idx = readers.encode_idx(images)
    numbers = npy(RNG.normal(size=(3, 4)))
    header = struct.pack(">IIBBBBB", 5, 6, 8, 0, 0, 0, 0)
    rows = b"".join(bytes([i % 5]) + images[0, i].tobytes() for i in range(6))
    floats = struct.pack("<2f", 0.5, -2.0)
    table = b'1, 2.5,-3e2\r\n\r\n"4",.5,6.\n'
    colour = RNG.integers(0, 256, (2, 3073), dtype=np.uint8) % 10

    def whole(content):
        return content

    def weights(program):
        return archive(zipfile.ZIP_STORED, a__data_pkl=program, a__data__0=floats)

    return [
        (readers.read_idx, idx, whole),
        (readers.read_idx, idx, gzip.compress),
        (readers.read_idx, gzip.compress(idx), whole),
        (readers.read_cifar10, colour.tobytes(), whole),
        (readers.read_npy, numbers, whole),
        (readers.read_npy, npy(np.asfortranarray(images)), whole),
        (readers.read_npy, npy(np.array(["a", "bcd"])), whole),
        (readers.read_npz, archive(arr__0_npy=numbers, b_npy=npy(labels)), whole),
        (readers.read_npz, numbers, lambda content: archive(a_npy=content)),
        (readers.read_npz, numbers, lambda content: archive(0, a_npy=content)),
        (from_npz, archive(images_npy=npy(images), labels_npy=npy(labels)), whole),
        (
            from_npz,
            npy(images),
            lambda content: archive(images_npy=content, labels_npy=npy(labels)),
        ),
        (readers.read_png, png(header, zlib.compress(rows)), whole),
        (readers.read_png, header, lambda content: png(content, zlib.compress(rows))),
        (readers.read_png, rows, lambda content: png(header, zlib.compress(content))),
        (readers.read_csv, table, whole),
        (readers.read_census, (3 * ROW).encode(), whole),
        (read_state_dict, weights(PROGRAM), whole),
        (read_state_dict, PROGRAM, weights),
    ]


NUMBERS = [0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63]
WORDS = [b"9" * 18, b"0", b"-1", b"1_0", b"|O", b"<U9", b",", b"\n", b"PK\1\2", b"True"]


def damage(draw, content):
    """Truncate, flip, cut, repeat, insert noise or words, overwrite numbers."""
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        place = draw.randrange(len(content) + 1)
        length = draw.choice([1, 2, 4, 8, draw.randrange(1, 60)])
        form = draw.randrange(8)
        if form == 0:
            del content[place:]
        elif form == 1 and content:
            content[place % len(content)] ^= 1 << draw.randrange(8)
        elif form == 2:
            del content[place : place + length]
        elif form == 3:
            content[place:place] = content[place : place + length]
        elif form == 4:
            content[place:place] = draw.randbytes(length)
        elif form == 5:
            content[place : place + length] = draw.choice(WORDS)
        elif form == 6:
            order = draw.choice(["big", "little"])
            number = draw.choice(NUMBERS) % 2 ** (8 * min(length, 8))
            content[place : place + length] = number.to_bytes(length, order)
        else:
            content[place : place + length] = bytes(length)
    return bytes(content)


def outcome(reader, path):
    """Read; return what is wrong about how that ended, or `None`."""
    try:
        reader(path)
    except (ValueError, FileNotFoundError) as error:
        if type(error) not in (ValueError, FileNotFoundError):
            return f"{type(error).__name__}: {error}"
        if str(path) not in str(error):
            return f"the file is not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


WATCH = {}  # the path that may be opened, while one is read, and what else was done


def hook(event, arguments):
    """Note what a reader has no business to do; a hook stays in its process."""
    if "path" not in WATCH or event == "open" and str(arguments[0]) == WATCH["path"]:
        return
    if event.split(".")[0] in (
        *("open", "exec", "compile", "import", "os", "subprocess", "pickle"),
        *("marshal", "socket", "ctypes", "shutil", "code", "tempfile", "glob"),
    ):
        WATCH["seen"].append(f"{event} {arguments!r}"[:200])


ALLOWANCE = 2**22  # bytes: what a small file may announce, and Python's own objects


def check(count, seed, folder):
    """Read damaged files; return what went wrong, as texts."""
    draw, path, wrong = random.Random(seed), Path(folder) / "file", []
    files = corpus()
    for reader, content, wrap in files:
        path.write_bytes(wrap(content))
        reader(path)  # loads what is loaded on first use
    if not WATCH:
        WATCH["seen"] = []
        sys.addaudithook(hook)
    tracemalloc.start()
    for number in range(count):
        reader, content, wrap = files[number % len(files)]
        data = wrap(damage(draw, content))
        path.write_bytes(data)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        WATCH["path"] = str(path)
        said = outcome(reader, path)
        del WATCH["path"]
        seen = WATCH["seen"]
        peak = tracemalloc.get_traced_memory()[1] - before
        if peak > 10 * len(data) + ALLOWANCE:
            said = f"{said}; {peak} bytes of memory for {len(data)}"
        if seen:
            said = f"{said}; {seen}"
            seen.clear()
        if said is not None:
            wrong.append(f"file {number}, {reader.__name__}: {said}")
    tracemalloc.stop()
    return wrong


if __name__ == "__main__":
    print(json.dumps(check(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
