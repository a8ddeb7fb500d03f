"""Strict readers of standard formats: IDX, CIFAR-10 binary, npz, PNG, Adult.

Every reader checks magic numbers, sizes and ranges before it allocates memory, rejects
truncated files and trailing bytes, and never unpickles or evaluates what it reads.
"""

import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gamedyn.data.arrays import read_csv as read_csv
from gamedyn.data.arrays import read_npy as read_npy
from gamedyn.data.arrays import read_npz as read_npz
from gamedyn.data.bounded import (
    MOST_BYTES,
    MOST_INFLATED,
    check_size,
    inflate,
    inflated_size,
    read_bytes,
)
from gamedyn.data.bounded import PathLike as PathLike

_IDX_DTYPES = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def _gunzip(path: Path, data: bytes, limit: int) -> bytes:
    """Return the first `limit` bytes of a gzip file, and one more if there are more.

    Raises:
        ValueError: if it is damaged, truncated, or followed by other bytes.
    """
    try:
        content, ended, rest = inflate(data, limit, 31)
    except zlib.error as error:
        raise ValueError(f"{path} is not a sound gzip file: {error}") from error
    if len(content) <= limit and not ended:
        raise ValueError(f"{path} is truncated: its gzip stream does not end")
    if rest:
        raise ValueError(f"{path} has {len(rest)} trailing bytes after its gzip stream")
    return content


def _idx_layout(path: Path, head: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """Return dtype, shape and header length from the first bytes of an IDX file."""
    if len(head) < 4:
        raise ValueError(f"{path} is truncated: {len(head)} bytes, no IDX header")
    if head[:2] != b"\0\0" or head[2] not in _IDX_DTYPES:
        raise ValueError(
            f"{path} is not an IDX file: got the magic bytes {head[:4].hex()}, "
            "expected 0000, a type of 08 to 0e and the number of dimensions"
        )
    rank = head[3]
    if not 1 <= rank <= 8:
        raise ValueError(f"{path} announces {rank} dimensions, expected 1 to 8")
    start = 4 + 4 * rank
    if len(head) < start:
        raise ValueError(f"{path} is truncated in its IDX header")
    shape = struct.unpack(f">{rank}I", head[4:start])
    if 0 in shape:
        raise ValueError(f"{path} is empty: it announces the shape {shape}")
    return _IDX_DTYPES[head[2]], shape, start


def read_idx(path: PathLike) -> np.ndarray:
    """Read an IDX file, plain or gzip: the format of MNIST and sets like it.

    Whether the file is compressed is read from its first bytes, not from its name.

    Args:
        path: the file.

    Returns:
        A writable array of the announced shape, in the machine's byte order, of dtype
        uint8, int8, int16, int32, float32 or float64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the magic number is wrong, the file is shorter or longer than
            its header announces, or it announces more than 4 GiB.
    """
    path, data = read_bytes(path)
    packed = data[:2] == b"\x1f\x8b"
    head = data[:36]
    if packed:
        try:
            head = zlib.decompressobj(31).decompress(data, 36)
        except zlib.error as error:
            raise ValueError(f"{path} is not a sound gzip file: {error}") from error
    dtype, shape, start = _idx_layout(path, head)
    expected = start + math.prod(shape) * dtype.itemsize
    most = MOST_INFLATED * len(data) if packed else len(data)
    if expected > most:
        raise ValueError(
            f"{path} is truncated: its header announces the shape {shape}, "
            f"{expected} bytes, and the {len(data)} bytes of the file cannot hold them"
        )
    check_size(f"{path}, inflated,", expected, MOST_BYTES)
    content = _gunzip(path, data, expected) if packed else data
    if len(content) != expected:
        state = "is truncated" if len(content) < expected else "has trailing bytes"
        got = "more" if len(content) > expected else f"{len(content)}"
        raise ValueError(
            f"{path} {state}: got {got} bytes, expected {expected} for the shape "
            f"{shape}"
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def encode_idx(array: np.ndarray) -> bytes:
    """Encode an array as the content of an uncompressed IDX file.

    The inverse of `read_idx`.

    Args:
        array: an array of 1 to 8 dimensions, none of them 0, of a dtype of IDX.

    Returns:
        The bytes.

    Raises:
        TypeError: if IDX has no such dtype.
        ValueError: if the array is empty or its rank is not in 1 to 8.
    """
    array = np.asarray(array)
    codes = {dtype.newbyteorder("="): code for code, dtype in _IDX_DTYPES.items()}
    native = array.dtype.newbyteorder("=")
    if native not in codes:
        known = ", ".join(str(dtype) for dtype in codes)
        raise TypeError(f"IDX has no dtype {array.dtype}, expected one of {known}")
    if array.size == 0 or not 1 <= array.ndim <= 8:
        raise ValueError(
            f"expected a non-empty array of 1 to 8 dimensions, got {array.shape}"
        )
    code = codes[native]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(_IDX_DTYPES[code]).tobytes()


def read_cifar10(path: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of the binary version of CIFAR-10.

    A record is a label byte, then 1,024 red, 1,024 green and 1,024 blue bytes, each
    row by row.

    Args:
        path: the file.

    Returns:
        Images of shape `(n, 32, 32, 3)` and labels of shape `(n,)`, both uint8.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty or not a whole number of records, or a label is
            not in 0 to 9.
    """
    path, data = read_bytes(path)
    if not data or len(data) % 3073:
        raise ValueError(
            f"{path} is no CIFAR-10 binary file, or truncated: got {len(data)} bytes, "
            "expected a positive multiple of 3073"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    labels = records[:, 0].copy()
    if labels.max() > 9:
        where = int(np.argmax(labels > 9))
        raise ValueError(
            f"{path}: got the label {labels[where]} in record {where}, expected 0 to 9"
        )
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


_PNG_CHANNELS = {0: 1, 2: 3}  # by colour type: grey, RGB
_PNG_KINDS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_MOST_CHUNKS = 2**16
MOST_PIXELS = 2**24
"""How many pixels a picture may have unless `read_png` is told more: 4096 x 4096."""


def _check_png(
    path: Path, data: bytes, most: int
) -> tuple[tuple[int, int, int], bytes]:
    """Check all chunks of a PNG file.

    Returns:
        Height, width and channels, and the compressed pixels: the decoder never sees
        anything else of the file.

    Raises:
        ValueError: as `read_png`.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path} is not a PNG file: wrong signature")
    position, kinds, packed = 8, [], []
    while not kinds or kinds[-1] != b"IEND":
        if position + 12 > len(data):
            raise ValueError(f"{path} is truncated: no end chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError(f"{path} is truncated: no end chunk")
        if len(kinds) == _MOST_CHUNKS:
            raise ValueError(f"{path} has more than {_MOST_CHUNKS} chunks")
        body = data[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"{path}: wrong checksum in the chunk {kind!r}")
        if kind == b"IDAT":
            packed.append(body[4:])
        kinds.append(kind)
        position = end
    if position != len(data):
        raise ValueError(f"{path} has {len(data) - position} trailing bytes")
    if kinds[0] != b"IHDR" or data[8:12] != b"\0\0\0\r" or kinds.count(b"IHDR") != 1:
        raise ValueError(
            f"{path}: its first chunk must be its only header, of 13 bytes"
        )
    width, height, depth, colour, packing, filtering, interlace = struct.unpack(
        ">IIBBBBB", data[16:29]
    )
    # What a decoder must understand has a capital first letter.
    unknown = [kind for kind in kinds if not kind[0] & 32 and kind not in _PNG_KINDS]
    if packing or filtering or unknown:
        raise ValueError(
            f"{path}: got compression {packing}, filter method {filtering}, unknown "
            f"chunks {unknown}; expected 0, 0 and none"
        )
    if not 0 < width * height <= most:
        raise ValueError(f"{path}: got {height} x {width} pixels, expected 1 to {most}")
    if b"tRNS" in kinds:
        raise ValueError(f"{path} has transparency, expected grey or RGB alone")
    if depth != 8 or colour not in _PNG_CHANNELS or interlace:
        raise ValueError(
            f"{path}: got depth {depth}, colour type {colour}, interlace {interlace}; "
            "expected 8-bit grey (type 0) or RGB (type 2), not interlaced"
        )
    channels = _PNG_CHANNELS[colour]
    expected = height * (1 + width * channels)
    content = b"".join(packed)
    try:
        size, whole = inflated_size(content, expected)
    except zlib.error as error:
        raise ValueError(f"{path}: damaged pixels: {error}") from error
    if size != expected or not whole:
        raise ValueError(
            f"{path}: its pixels are truncated or too many, expected {expected} bytes"
        )
    return (height, width, channels), content


def read_png(path: PathLike, *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Read an 8-bit grey or RGB picture with pillow, which matplotlib brings.

    All chunks are checked before, and of those only the pixels are handed on, once they
    are known to be as many as the header says.

    Args:
        path: the file.
        most_pixels: how many pixels it may announce; a picture of nothing but black
            takes a thousand times less on disk than in memory.

    Returns:
        Pixels of shape `(height, width, channels)`, uint8, with 1 or 3 channels.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, truncated or followed by other bytes, has
            more pixels, or has a palette, transparency, 16 bits per channel or
            interlacing.
    """
    path, data = read_bytes(path)
    (height, width, channels), content = _check_png(path, data, most_pixels)
    from PIL import Image

    mode = {1: "L", 3: "RGB"}[channels]
    try:
        # Of an opened file pillow would limit the pixels on its own terms.
        picture = Image.frombytes(mode, (width, height), content, "zip", (mode,))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a sound PNG file: {error}") from error
    return np.array(picture).reshape(height, width, channels)


class Folder(NamedTuple):
    """The pictures of a folder.

    Attributes:
        images: shape `(n, height, width, channels)`, uint8, sorted by path.
        labels: shape `(n,)`, int32: the index of the class folder; zeros without class
            folders.
        classes: the names of the class folders, sorted; empty without class folders.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def read_image_folder(path: PathLike, *, most_pixels: int = MOST_PIXELS) -> Folder:
    """Read the PNG pictures of a folder, or of its subfolders, one per class.

    Any other file is an error, so that none is left out unnoticed; names that begin
    with a dot are ignored.

    Args:
        path: the folder.
        most_pixels: how many pixels a picture may announce. All together may take
            4 GiB.

    Returns:
        The pictures, in the order of their sorted paths.

    Raises:
        NotADirectoryError: if there is no such folder.
        ValueError: if it has no pictures, pictures beside class folders, an empty class
            folder, other files, damaged or too large pictures, or pictures of different
            shapes.
    """
    path = Path(path)
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder of pictures")
    folders = [child for child in _listing(path) if child.is_dir()]
    files = [child for child in _listing(path) if not child.is_dir()]
    if folders and files:
        raise ValueError(
            f"{path} holds files beside class folders ({files[0].name} beside "
            f"{folders[0].name}); expected the one or the other"
        )
    members: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders or [path]):
        inside = _listing(folder)
        if not inside:
            raise ValueError(f"{folder} holds no picture")
        members += inside
        labels += [label] * len(inside)
    images = np.empty(0, np.uint8)
    for number, member in enumerate(members):
        if member.suffix.lower() != ".png":
            raise ValueError(f"{member} is not a PNG picture, expected *.png")
        image = read_png(member, most_pixels=most_pixels)
        if not number:
            whole = len(members) * image.size
            check_size(f"{path}, {len(members)} pictures,", whole, MOST_BYTES)
            images = np.empty((len(members), *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise ValueError(
                f"{member}: got the shape {image.shape}, expected "
                f"{images.shape[1:]} like the pictures before it"
            )
        images[number] = image
    names = tuple(folder.name for folder in folders)
    return Folder(images, np.asarray(labels, np.int32), names)


def _listing(folder: Path) -> list[Any]:
    return sorted(child for child in folder.iterdir() if child.name[0] != ".")


class Census(NamedTuple):
    """The rows of a file of the Adult (Census Income) data.

    Attributes:
        numbers: shape `(n, 6)`, int64, the columns `CENSUS_NUMBERS`.
        words: shape `(n, 8)`, strings, the columns `CENSUS_WORDS`; "?" where unknown.
        target: shape `(n,)`, bool: whether the income exceeds 50K.
    """

    numbers: np.ndarray
    words: np.ndarray
    target: np.ndarray


CENSUS_NUMBERS = (
    "age",
    "fnlwgt",
    "education-num",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
)
CENSUS_WORDS = (
    "workclass",
    "education",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native-country",
)
_CENSUS_COLUMNS = (0, 2, 4, 10, 11, 12), (1, 3, 5, 6, 7, 8, 9, 13)
_NUMBER, _WORD = re.compile(r"\d{1,9}"), re.compile(r"[\w?&().-]{1,40}")
_MOST_CENSUS, _SHORTEST_ROW = 2**26, 40  # bytes


def read_census(path: PathLike) -> Census:
    """Read a file of the Adult (Census Income) data in its original format.

    Each line is a row of 15 fields, separated by a comma and a blank. `adult.data` ends
    with an empty line; `adult.test` starts with a line that begins with a bar, and has
    a dot after every target.

    Args:
        path: the file.

    Returns:
        The rows.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty, larger than 64 MiB or truncated within a line,
            or a line has another format; the message names the line.
    """
    path, data = read_bytes(path, _MOST_CENSUS)
    # Memory is taken by the line: short ones would take many times the file's size.
    if len(data) > 2**16 and data.count(b"\n") * _SHORTEST_ROW > len(data):
        raise ValueError(f"{path}: its lines are too short for 15 fields")
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file of ASCII: {error}") from error
    if lines[-1]:
        raise ValueError(f"{path} is truncated: its last line does not end")
    first = 1 if lines[0].startswith("|") else 0
    last = len(lines) - 1
    while last > first and not lines[last - 1]:
        last -= 1  # empty lines at the end
    if last == first:
        raise ValueError(f"{path} holds no rows")
    ending = "." if lines[first].endswith(".") else ""
    targets = {f"<=50K{ending}": False, f">50K{ending}": True}
    numbers = np.empty((last - first, 6), np.int64)
    words, target = [], np.empty(last - first, bool)
    for row, line in enumerate(lines[first:last]):
        fields = line.split(", ")
        where = f"{path}, line {first + row + 1}"
        if len(fields) != 15:
            raise ValueError(f"{where}: got {len(fields)} fields, expected 15")
        for column, index in enumerate(_CENSUS_COLUMNS[0]):
            if not _NUMBER.fullmatch(fields[index]):
                raise ValueError(
                    f"{where}: {CENSUS_NUMBERS[column]} must be a whole number, got "
                    f"{fields[index]!r}"
                )
            numbers[row, column] = int(fields[index])
        words.append([fields[index] for index in _CENSUS_COLUMNS[1]])
        for name, word in zip(CENSUS_WORDS, words[-1], strict=True):
            if not _WORD.fullmatch(word):
                raise ValueError(f"{where}: {name} must be a word, got {word!r}")
        if fields[14] not in targets:
            raise ValueError(
                f"{where}: the target must be {' or '.join(targets)}, got "
                f"{fields[14]!r}"
            )
        target[row] = targets[fields[14]]
    return Census(numbers, np.array(words), target)
