"""Strict readers of arrays: npy, npz, and matrices as comma-separated numbers.

No other part of the package reads such files of users. Headers are matched, never
evaluated; nothing is unpickled; what a header announces is compared with the size of
the file before memory is taken for it.
"""

import array
import io
import math
import re
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from gamedyn import text
from gamedyn.data.bounded import (
    MOST_BYTES,
    MOST_INFLATED,
    PathLike,
    check_size,
    read_bytes,
)

# The header of an npy file is a Python dictionary of three items, which writers set in
# different orders, quotes and blanks. Object arrays (pickles) and records do not match.
_ITEM = r"""\s*['"](?:
    descr['"]\s*:\s*['"](?P<descr{0}>[<>|=]?[biufcSU]\d{{1,9}})['"]
  | fortran_order['"]\s*:\s*(?P<order{0}>True|False)
  | shape['"]\s*:\s*\((?P<shape{0}>[\d,L\ ]*)\)
)\s*"""
_HEADER = re.compile(
    r"\{" + ",".join(map(_ITEM.format, range(3))) + r",?\s*\}\s*", re.ASCII | re.VERBOSE
)
_SHAPE = re.compile(r"(?:(\d{1,18})L?(?:, *(\d{1,18})L?)*,?)? *", re.ASCII)
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes; numpy reads no longer ones either
_MOST_AXES = 32
_PIECE = 2**20  # bytes


def _parse_npy(where: str, stream: Any, size: int, most: int) -> np.ndarray:
    """Read one array.

    Args:
        where: its file, for messages.
        stream: the content.
        size: the number of bytes in it.
        most: the most bytes that the array may have.

    Returns:
        The array, writable and in the machine's byte order.

    Raises:
        ValueError: if it is damaged, too large, or no array of numbers or strings.
    """
    head = stream.read(8)
    if head[:6] != _MAGIC:
        raise ValueError(f"{where} is not an npy array: wrong magic string")
    if len(head) < 8 or head[6] not in (1, 2, 3):
        got = head[6] if len(head) > 6 else "none"
        raise ValueError(f"{where}: got the npy version {got}, expected 1, 2 or 3")
    width = 2 if head[6] == 1 else 4
    digits = stream.read(width)
    length = int.from_bytes(digits, "little")
    start = 8 + width + length
    if len(digits) < width or start > size:
        raise ValueError(f"{where} is truncated in its npy header")
    if length > _LONGEST_HEADER:
        raise ValueError(
            f"{where}: its npy header has {length} bytes, at most {_LONGEST_HEADER} "
            "are read"
        )
    dtype, order, shape = _parse_header(where, stream.read(length).decode("latin-1"))
    expected = math.prod(shape) * dtype.itemsize
    if size != start + expected:
        raise ValueError(
            f"{where} is truncated or has trailing bytes: got {size} bytes, expected "
            f"{start + expected} for the shape {shape} of {dtype}"
        )
    check_size(where, expected, most)
    content = np.empty(expected, np.uint8)
    for place in range(0, expected, _PIECE):
        wanted = min(_PIECE, expected - place)
        piece = stream.read(wanted)
        if len(piece) != wanted:
            raise ValueError(f"{where} is truncated: got fewer bytes than it announces")
        content[place : place + wanted] = np.frombuffer(piece, np.uint8)
    if stream.read(1):  # the end, where an archive compares checksums
        raise ValueError(f"{where} has trailing bytes")
    if not expected:
        return np.empty(shape, dtype.newbyteorder("="))
    if dtype.kind == "b" and content.max() > 1:
        raise ValueError(f"{where}: a boolean is {content.max()}, expected 0 or 1")
    found = content.view(dtype).reshape(shape, order=order)
    found = found.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U":
        largest = content.view(f"{dtype.str[0]}u4").max()
        if largest > 0x10FFFF:
            raise ValueError(f"{where}: a character is {largest}, which is none")
    return found


def _parse_header(where: str, header: str) -> tuple[np.dtype, Any, tuple[int, ...]]:
    """Parse an npy header: dtype, order and shape.

    Raises:
        ValueError: if it is anything but what is expected, or describes no array.
    """
    match = _HEADER.fullmatch(header)
    found = match.groupdict() if match else {}
    items = {name[:-1]: value for name, value in found.items() if value is not None}
    if len(items) != 3 or not _SHAPE.fullmatch(items["shape"]):
        raise ValueError(
            f"{where}: unsupported npy header; expected an array of booleans, numbers "
            "or strings of fixed length (objects, which are pickles, are never read)"
        )
    try:
        dtype = np.dtype(items["descr"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: unknown dtype {items['descr']!r}") from error
    shape = tuple(int(length) for length in re.findall(r"\d+", items["shape"]))
    if len(shape) > _MOST_AXES:
        raise ValueError(
            f"{where}: got {len(shape)} dimensions, expected at most {_MOST_AXES}"
        )
    # Numpy multiplies the lengths even where one of them is zero.
    if not dtype.itemsize or math.prod(filter(None, shape)) * dtype.itemsize >= 2**63:
        raise ValueError(f"{where}: there is no array of shape {shape} of {dtype}")
    return dtype, "F" if items["order"] == "True" else "C", shape


def read_npy(path: PathLike, *, most: int = MOST_BYTES) -> np.ndarray:
    """Read the array of an npy file, without pickle.

    Args:
        path: the file.
        most: how many bytes the file may have.

    Returns:
        The array, writable and in the machine's byte order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, truncated, too large or followed by other
            bytes, or holds anything but an array of booleans, numbers or strings of
            fixed length.
    """
    path, data = read_bytes(path, most)
    return _parse_npy(str(path), io.BytesIO(data), len(data), most)


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
_MOST_MEMBERS = 10_000


def read_npz(path: PathLike, *, most: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file, plain or compressed, without pickle.

    Args:
        path: the file.
        most: how many bytes the file may have, and all arrays in it together.

    Returns:
        The arrays by name, writable and in the machine's byte order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the archive or an array in it is damaged, truncated, encrypted,
            too large or followed by other bytes, or contains anything but arrays of
            booleans, numbers and strings of fixed length; object arrays are rejected.
    """
    path, data = read_bytes(path, most)
    if data[:6] == _MAGIC:
        raise ValueError(f"{path} is not a .npz file but a .npy file, of one array")
    # Counted before the list of them is made, each entry of which takes memory.
    if data.count(b"PK\1\2") > _MOST_MEMBERS:
        raise ValueError(f"{path} has more than {_MOST_MEMBERS} members")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS as error:
        raise ValueError(f"{path} is not a sound npz file: {error}") from error
    entries = archive.infolist()
    # An archive starts with its first member and ends with a record of 22 bytes.
    first = min((entry.header_offset for entry in entries), default=0)
    if first or data[-22:-18] != b"PK\5\6":
        raise ValueError(f"{path} has bytes before or after its archive")
    _check_members(path, entries, len(data), most)
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        where = f"{path}:{name!r}"
        if name in arrays:
            raise ValueError(f"{path} holds two arrays {name!r}")
        try:
            stream = _Member(where, archive.open(entry))
        except _ZIP_ERRORS as error:
            raise ValueError(f"{where} is damaged: {error}") from error
        try:
            arrays[name] = _parse_npy(where, stream, entry.file_size, most)
        except ValueError:
            while stream.read(_PIECE):  # a wrong checksum explains all that is wrong
                pass
            raise
    if not arrays:
        raise ValueError(f"{path} holds no array")
    return arrays


class _Member:
    """The content of a member of an archive; errors name it."""

    def __init__(self, where: str, stream: Any):
        self._where, self._stream = where, stream

    def read(self, number: int) -> bytes:
        try:
            return self._stream.read(number)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{self._where} is damaged: {error}") from error


def _check_members(path: PathLike, entries: Any, size: int, most: int) -> None:
    """Check what the list of an archive's members says, before one is opened.

    Raises:
        ValueError: if a member is no array, compressed in another way, or announces
            more than its bytes can hold; or if all together announce too much, or share
            their bytes.
    """
    for entry in entries:
        where = f"{path}:{entry.filename!r}"
        if not entry.filename.endswith(".npy"):
            raise ValueError(f"{where} is not an array, expected *.npy")
        steps = PurePosixPath(entry.filename).parts
        if ".." in steps or steps[0] == "/":
            raise ValueError(f"{where}: the name leads out of the archive")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{where}: unsupported compression")
        packed = entry.compress_type == zipfile.ZIP_DEFLATED
        if entry.file_size > entry.compress_size * (MOST_INFLATED if packed else 1):
            raise ValueError(
                f"{where} is truncated: it announces {entry.file_size} bytes"
            )
    if sum(entry.compress_size for entry in entries) > size:
        raise ValueError(f"{path}: its members share their bytes")
    whole = sum(entry.file_size for entry in entries)
    check_size(f"{path}, inflated,", whole, most)


_CELL = re.compile(r"([^,\r\n]*)(,|\r\n|\n|\r|\Z)")
_EMPTY_LINES = re.compile(r"(?:[ \t]*(?:\r\n|\n|\r)){1,500}")
_MOST_TEXT = 2**28  # bytes


def read_csv(path: PathLike) -> np.ndarray:
    """Read a matrix of comma-separated numbers, one row a line.

    Empty lines are ignored, also a byte order mark, blanks around a number, and quotes
    around it. There is no header, and the decimal sign is a point.

    Args:
        path: the file, in UTF-8, of at most 256 MiB.

    Returns:
        The matrix, float64, of shape `(m, n)`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a cell is no finite number (see `text.number`), rows have
            different lengths, or the file has no rows or is no text; the message names
            line and column.
    """
    path, data = read_bytes(path, _MOST_TEXT)
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a text in UTF-8: {error.reason} at byte {error.start}"
        ) from None
    del data
    numbers = array.array("d")
    line, column, width, rows, place = 1, 1, 0, 0, 0
    while place < len(content):
        empty = _EMPTY_LINES.match(content, place) if column == 1 else None
        if empty is not None:
            place, skipped = empty.end(), empty.group()
            line += skipped.count("\n") + skipped.count("\r") - skipped.count("\r\n")
            continue
        match = _CELL.match(content, place)
        assert match is not None  # it matches everywhere
        cell, end = match.groups()
        place = match.end()
        if column > 1 or end == "," or cell.strip(" \t"):
            cell = cell.strip(" \t")
            if len(cell) > 1 and cell[0] == cell[-1] == '"':
                cell = cell[1:-1]
            try:
                numbers.append(text.number(cell))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {line}, column {column}: {error}{_hint(cell, line)}"
                ) from None
            column += 1
        if end == ",":
            if place == len(content):
                raise ValueError(f"{path}, line {line}: its last cell is empty")
            continue
        if column > 1:
            width, rows = width or column - 1, rows + 1
            if column - 1 != width:
                lengths = sorted((width, column - 1))
                raise ValueError(
                    f"{path}, line {line}: rows of different lengths {lengths}"
                )
        line, column = line + 1, 1
    if not rows:
        raise ValueError(f"{path} holds no numbers")
    return np.frombuffer(numbers, np.float64).reshape(rows, width)


def _hint(cell: str, line: int) -> str:
    """Say how a table that this cell is from would be read."""
    if (
        cell[:1] == '"'
        or ";" in cell
        or "\t" in cell
        or re.search(r"\d +[\d.+-]", cell)
    ):
        return ": commas separate the numbers of a row, the decimal sign is a point"
    if re.match(r"(?!nan|inf)[^\W\d_]", cell, re.IGNORECASE) and line == 1:
        return "; there are no headers, and no names of rows"
    return ""
