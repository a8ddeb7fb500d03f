"""Reading files of weights that torch wrote, without torch and without trusting them.

A `.pth` file is a zip archive of raw arrays and one pickle that describes them. A
pickle is a program, which can call any function that it names. This is the only module
that runs one, and only after these checks:

- its operations are among those that a dictionary of arrays needs (`_OPERATIONS`), and
  their number and the memory they allocate are bounded;
- it may name four objects, which stand for functions of this module, strings or an
  `OrderedDict`; any other name is rejected before anything is called;
- every array must be contiguous and lie within its storage, whose member of the archive
  must have exactly the announced size.

Members must be stored without compression, and are never extracted to disk.
"""

import collections
import io
import math
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np

from gamedyn.data.bounded import read_bytes

_MOST_FILE = 2**30  # bytes; Inception has 9e7
_MOST_MEMBERS = 20_000  # Inception has 6e2
_MOST_PICKLE = 2**20  # bytes; Inception's has 1e5
# Hashing nested tuples recurses on the C stack, unchecked; and one byte makes an object
# of many. Inception's has 3e3 tuples, flat, and 4e3 other objects of this kind.
_MOST_OBJECTS = 20_000

_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

# The operations that torch's protocol 2 writes for an ordered dictionary of tensors.
_OPERATIONS = frozenset(
    [
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
        *("BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    ]
)

# The start of a file in torch's format before zip archives: a pickled magic number.
_OLD_FORMAT = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_CONVERT = (
    "convert it where torch is installed: "
    "np.savez('weights.npz', **{k: v.numpy() for k, v in "
    "torch.load(path, weights_only=True).items()})"
)

_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a state dict of float32 and int64 tensors from a zip `.pth` file.

    Args:
        path: the file.

    Returns:
        The arrays by name, in torch's layouts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, larger than 1 GiB, of the format before zip
            archives, or contains anything but a dictionary of such tensors; the message
            says what.
    """
    path, data = read_bytes(path, _MOST_FILE)
    if data.startswith(_OLD_FORMAT):
        raise ValueError(f"{path} has torch's format before zip archives; {_CONVERT}")
    # Counted before the list of them is made, each entry of which takes memory.
    if data.count(b"PK\1\2") > _MOST_MEMBERS:
        raise ValueError(f"{path} has more than {_MOST_MEMBERS} members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _check_table(_read_archive(archive))
    except _DAMAGE as error:
        raise ValueError(f"{path} is no table of weights: {error}") from error


def _read_archive(archive: zipfile.ZipFile) -> Any:
    names = archive.namelist()
    programs = [name for name in names if name.endswith("/data.pkl")]
    if len(programs) != 1 or len(set(names)) != len(names):
        raise ValueError(
            f"expected one data.pkl and every name once, got {len(programs)} among "
            f"{len(names)} members"
        )
    root = programs[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names:
        order = _read_member(archive, f"{root}byteorder", 16)
        if order != b"little":
            raise ValueError(f"expected little-endian numbers, got {order!r}")
    program = _read_member(archive, programs[0], _MOST_PICKLE)
    _check_program(program)
    return _WeightsUnpickler(program, archive, f"{root}data/").load()


def _read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, expected stored bytes")
    if entry.file_size > most:
        raise ValueError(f"{name} has {entry.file_size} bytes, at most {most} expected")
    return archive.read(entry)


def _check_program(program: bytes) -> None:
    """Check that a pickle has only operations that a dictionary of arrays needs.

    Raises:
        ValueError: if it has others, too many, or bytes after its end.
    """
    with warnings.catch_warnings():
        # The parser warns of escapes in damaged names, which are rejected below.
        warnings.simplefilter("ignore")
        objects = end = 0
        for operation, argument, position in pickletools.genops(program):
            if operation.name not in _OPERATIONS:
                raise ValueError(
                    f"the pickle holds {operation.name}, which no table needs"
                )
            objects += operation.name.startswith(("TUPLE", "EMPTY", "MARK", "REDUCE"))
            # Unpickling allocates a memo as long as the largest index that is stored.
            stores = operation.name in ("BINPUT", "LONG_BINPUT")
            if objects > _MOST_OBJECTS or (stores and argument > len(program)):  # type: ignore[operator]
                raise ValueError("the pickle is larger than that of any table expected")
            end = (position or 0) + 1
    if end != len(program):
        raise ValueError(f"{len(program) - end} bytes follow the pickle")


class _WeightsUnpickler(pickle.Unpickler):
    """An unpickler that accepts four names and one kind of persistent object."""

    def __init__(self, program: bytes, archive: zipfile.ZipFile, folder: str):
        super().__init__(io.BytesIO(program))
        self._archive, self._folder = archive, folder
        # Each storage is read once, though tensors may share it; all tensors together
        # take at most this many bytes, though they may overlap.
        self._storages: dict[Any, np.ndarray] = {}
        left = 4 * sum(entry.file_size for entry in archive.infolist())

        # Created anew for each file: what a pickle does to it affects no other file.
        def rebuild(storage, offset, shape, strides, requires_grad, hooks, *rest):
            nonlocal left
            del requires_grad, hooks, rest
            array = _view(storage, offset, shape, strides)
            left -= array.nbytes
            if left < 0:
                raise ValueError("the tensors take many times the bytes of the file")
            return array.astype(array.dtype.newbyteorder("="))

        self._names = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): rebuild,
            # Strings, which a pickle can neither call nor change.
            ("torch", "FloatStorage"): "FloatStorage",
            ("torch", "LongStorage"): "LongStorage",
        }

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return what one of the four accepted names stands for; reject any other."""
        try:
            return self._names[module_name, global_name]
        except KeyError:
            raise ValueError(
                f"the pickle names {module_name}.{global_name}, which is refused"
            ) from None

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Read a storage, whose member must have exactly the announced size."""
        match pid:
            case ("storage", str(tag), str(key), str(), int(numel)):
                pass
            case _:
                raise ValueError("the pickle asks for something other than a storage")
        if tag not in _DTYPES or not re.fullmatch(r"[0-9]{1,9}", key) or numel < 0:
            raise ValueError(f"the storage {key!r} of {numel} {tag!r} is refused")
        if pid not in self._storages:
            data = _read_member(self._archive, self._folder + key, _MOST_FILE)
            expected = numel * _DTYPES[tag].itemsize
            if len(data) != expected:
                raise ValueError(
                    f"the storage {key} has {len(data)} bytes, expected {expected}"
                )
            self._storages[pid] = np.frombuffer(data, _DTYPES[tag])
        return self._storages[pid]


def _view(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    """Return a contiguous array of a storage, after checking that it lies within."""
    if (
        not isinstance(storage, np.ndarray)
        or not (isinstance(shape, tuple) and isinstance(strides, tuple))
        or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
        or len(shape) != len(strides)
        or len(shape) > 8
    ):
        raise ValueError("a tensor is described by something other than sizes")
    size = math.prod(shape)
    if offset + size > len(storage):
        raise ValueError(
            f"a tensor of shape {shape} at {offset} exceeds its storage of "
            f"{len(storage)} numbers"
        )
    for axis, (length, stride) in enumerate(zip(shape, strides, strict=True)):
        if length > 1 and stride != math.prod(shape[axis + 1 :]):
            raise ValueError(
                f"a tensor of shape {shape} has the strides {strides}, expected "
                f"contiguous ones"
            )
    return storage[offset : offset + size].reshape(shape)


def _check_table(table: Any) -> dict[str, np.ndarray]:
    if not isinstance(table, dict) or not all(
        isinstance(name, str) and isinstance(array, np.ndarray)
        for name, array in table.items()
    ):
        raise ValueError("expected a dict of named arrays and nothing else")
    return dict(table)
