"""Strict readers of standard formats: IDX, CIFAR-10 binary, npz, PNG, Adult.

Every reader checks magic numbers, sizes and ranges before it allocates memory, rejects
truncated files and trailing bytes, and never unpickles or evaluates what it reads.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PathLike = str | Path

# One byte of a deflate stream expands to at most 1032 bytes: a bound on what a file of
# known size can contain, whatever its header says.
_MOST_INFLATED = 1032

_IDX_DTYPES = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def _read(path: PathLike) -> tuple[Path, bytes]:
    path = Path(path)
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{path} {what}")
    return path, path.read_bytes()


def _inflate(data: bytes, limit: int, wbits: int) -> tuple[bytes, bool, bytes]:
    """Decompress at most `limit` bytes, and one more if there are more.

    Returns:
        The bytes, whether the stream ends with them, and what follows the stream.
    """
    stream = zlib.decompressobj(wbits)
    content = stream.decompress(data, limit)
    if not stream.eof:  # more content, or only the checksum after it, is left
        content += stream.decompress(stream.unconsumed_tail, 1)
    return content, stream.eof, stream.unused_data


def _gunzip(path: Path, data: bytes, limit: int) -> bytes:
    """Return the first `limit` bytes of a gzip file, and one more if there are more.

    Raises:
        ValueError: if it is damaged, truncated, or followed by other bytes.
    """
    try:
        content, ended, rest = _inflate(data, limit, 31)
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
        ValueError: if the magic number is wrong, or the file is shorter or longer than
            its header announces.
    """
    path, data = _read(path)
    packed = data[:2] == b"\x1f\x8b"
    head = data[:36]
    if packed:
        try:
            head = zlib.decompressobj(31).decompress(data, 36)
        except zlib.error as error:
            raise ValueError(f"{path} is not a sound gzip file: {error}") from error
    dtype, shape, start = _idx_layout(path, head)
    expected = start + math.prod(shape) * dtype.itemsize
    most = _MOST_INFLATED * len(data) if packed else len(data)
    if expected > most:
        raise ValueError(
            f"{path} is truncated: its header announces the shape {shape}, "
            f"{expected} bytes, and the {len(data)} bytes of the file cannot hold them"
        )
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
    path, data = _read(path)
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


# The header that numpy writes for an array of numbers or fixed-length strings: a Python
# dictionary. It is matched, never evaluated; object arrays (pickles) and records do not
# match.
_NPY_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[biufcSU]\d{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}(?:, \d{1,18})*)?),?\), \}\s*"
)


def _parse_npy(where: str, data: bytes) -> np.ndarray:
    """Parse the content of an npy file; `where` names it in messages."""
    if len(data) < 12 or data[:6] != b"\x93NUMPY":
        raise ValueError(f"{where} is not an npy array: wrong magic string")
    if data[6] not in (1, 2):
        raise ValueError(f"{where}: got the npy version {data[6]}, expected 1 or 2")
    size, start = (2, 10) if data[6] == 1 else (4, 12)
    end = start + int.from_bytes(data[8 : 8 + size], "little")
    if end > len(data):
        raise ValueError(f"{where} is truncated in its npy header")
    match = _NPY_HEADER.fullmatch(data[start:end].decode("latin-1"))
    if match is None:
        raise ValueError(
            f"{where}: unsupported npy header; expected an array of booleans, numbers "
            "or strings of fixed length (objects, which are pickles, are never read)"
        )
    try:
        dtype = np.dtype(match[1])
    except TypeError as error:
        raise ValueError(f"{where}: unknown dtype {match[1]!r}") from error
    shape = tuple(int(length) for length in match[3].split(",") if length.strip())
    if len(shape) > 32:
        raise ValueError(f"{where}: got {len(shape)} dimensions, expected at most 32")
    expected = end + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(
            f"{where} is truncated or has trailing bytes: got {len(data)} bytes, "
            f"expected {expected} for the shape {shape} of {dtype}"
        )
    order = "F" if match[2] == "True" else "C"
    if not len(data) - end:
        return np.empty(shape, dtype)
    array = np.frombuffer(data, dtype, offset=end).reshape(shape, order=order)
    return array.astype(dtype.newbyteorder("="))


# The exceptions of the standard library for damaged archives.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,  # encrypted; NotImplementedError is one too
)


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file, plain or compressed, without pickle.

    Args:
        path: the file.

    Returns:
        The arrays by name, writable and in the machine's byte order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the archive or an array in it is damaged, truncated, encrypted or
            followed by other bytes, or contains anything but arrays of booleans,
            numbers and strings of fixed length; object arrays are rejected.
    """
    path, data = _read(path)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS as error:
        raise ValueError(f"{path} is not a sound npz file: {error}") from error
    entries = archive.infolist()
    # An archive starts with its first member and ends with a record of 22 bytes.
    first = min((entry.header_offset for entry in entries), default=0)
    if first or data[-22:-18] != b"PK\5\6":
        raise ValueError(f"{path} has bytes before or after its archive")
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        where = f"{path}:{entry.filename}"
        if not entry.filename.endswith(".npy"):
            raise ValueError(f"{where} is not an array, expected *.npy")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{where}: unsupported compression")
        if entry.file_size > _MOST_INFLATED * len(data):
            raise ValueError(
                f"{where} is truncated: it announces {entry.file_size} bytes"
            )
        name = entry.filename.removesuffix(".npy")
        if name in arrays:
            raise ValueError(f"{path} holds two arrays {name!r}")
        try:
            content = archive.read(entry)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{where} is damaged: {error}") from error
        arrays[name] = _parse_npy(where, content)
    if not arrays:
        raise ValueError(f"{path} holds no array")
    return arrays


_PNG_CHANNELS = {0: 1, 2: 3}  # by colour type: grey, RGB
_MOST_PIXELS = 2**26


def _check_png(path: Path, data: bytes) -> tuple[int, bytes]:
    """Check all chunks of a PNG file.

    Returns:
        The number of channels, and a PNG file of the essential chunks only: the decoder
        never sees the others.

    Raises:
        ValueError: as `read_png`.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path} is not a PNG file: wrong signature")
    position, kinds, packed, kept = 8, [], [], [data[:8]]
    while not kinds or kinds[-1] != b"IEND":
        length, kind = struct.unpack_from(">I4s", data.ljust(position + 8), position)
        end = position + 12 + length
        if position + 8 > len(data) or end > len(data):
            raise ValueError(f"{path} is truncated: no end chunk")
        body = data[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"{path}: wrong checksum in the chunk {kind!r}")
        if kind == b"IDAT":
            packed.append(body[4:])
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            kept.append(data[position:end])
        kinds.append(kind)
        position = end
    if position != len(data):
        raise ValueError(f"{path} has {len(data) - position} trailing bytes")
    if kinds[0] != b"IHDR" or data[8:12] != b"\0\0\0\r" or kinds.count(b"IHDR") != 1:
        raise ValueError(
            f"{path}: its first chunk must be its only header, of 13 bytes"
        )
    width, height, depth, colour, _, _, interlace = struct.unpack(
        ">IIBBBBB", data[16:29]
    )
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError(
            f"{path}: got {height} x {width} pixels, expected 1 to {_MOST_PIXELS}"
        )
    if b"tRNS" in kinds:
        raise ValueError(f"{path} has transparency, expected grey or RGB alone")
    if depth != 8 or colour not in _PNG_CHANNELS or interlace:
        raise ValueError(
            f"{path}: got depth {depth}, colour type {colour}, interlace {interlace}; "
            "expected 8-bit grey (type 0) or RGB (type 2), not interlaced"
        )
    channels = _PNG_CHANNELS[colour]
    expected = height * (1 + width * channels)
    try:
        content, ended, rest = _inflate(b"".join(packed), expected, 15)
    except zlib.error as error:
        raise ValueError(f"{path}: damaged pixels: {error}") from error
    if len(content) != expected or not ended or rest:
        raise ValueError(
            f"{path}: its pixels are truncated or too many, expected {expected} bytes"
        )
    return channels, b"".join(kept)


def read_png(path: PathLike) -> np.ndarray:
    """Read an 8-bit grey or RGB picture with matplotlib's PNG reader.

    Args:
        path: the file.

    Returns:
        Pixels of shape `(height, width, channels)`, uint8, with 1 or 3 channels.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, truncated or followed by other bytes, or has
            a palette, transparency, 16 bits per channel or interlacing.
    """
    path, data = _read(path)
    channels, essential = _check_png(path, data)
    from matplotlib.image import imread

    try:
        pixels = imread(io.BytesIO(essential), format="png")
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise ValueError(f"{path} is not a sound PNG file: {error}") from error
    pixels = np.rint(255.0 * pixels).astype(np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


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


def read_image_folder(path: PathLike) -> Folder:
    """Read the PNG pictures of a folder, or of its subfolders, one per class.

    Any other file is an error, so that none is left out unnoticed; names that begin
    with a dot are ignored.

    Args:
        path: the folder.

    Returns:
        The pictures, in the order of their sorted paths.

    Raises:
        NotADirectoryError: if there is no such folder.
        ValueError: if it has no pictures, pictures beside class folders, an empty class
            folder, other files, damaged pictures, or pictures of different shapes.
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
    images: list[np.ndarray] = []
    labels: list[int] = []
    for label, folder in enumerate(folders or [path]):
        members = _listing(folder)
        if not members:
            raise ValueError(f"{folder} holds no picture")
        for member in members:
            if member.suffix.lower() != ".png":
                raise ValueError(f"{member} is not a PNG picture, expected *.png")
            image = read_png(member)
            if images and image.shape != images[0].shape:
                raise ValueError(
                    f"{member}: got the shape {image.shape}, expected "
                    f"{images[0].shape} like the pictures before it"
                )
            images.append(image)
            labels.append(label)
    names = tuple(folder.name for folder in folders)
    return Folder(np.stack(images), np.asarray(labels, np.int32), names)


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
        ValueError: if the file is empty or truncated within a line, or a line has
            another format; the message names the line.
    """
    path, data = _read(path)
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
