"""Files read whole, and streams inflated, within bounds that are known beforehand."""

import os
import stat
import zlib
from pathlib import Path

PathLike = str | os.PathLike[str]

MOST_BYTES = 2**32
"""How many bytes a file may have, and may announce, unless a reader is told more."""

# One byte of a deflate stream expands to at most 1032 bytes: a bound on what a file of
# known size can contain, whatever its header says.
MOST_INFLATED = 1032

# Where bytes are only counted: how many are fed at a time, and how many come out.
_FED, _PIECE = 2**16, 2**20


def read_bytes(path: PathLike, most: int = MOST_BYTES) -> tuple[Path, bytes]:
    """Read a regular file whole.

    Args:
        path: the file.
        most: how many bytes it may have.

    Returns:
        Its path and its content.

    Raises:
        FileNotFoundError: if there is no such file, or it is a folder or a device.
        ValueError: if it is larger.
        OSError: if it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"{path} {what}")
    with path.open("rb") as file:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise FileNotFoundError(f"{path} is not a regular file")
        check_size(str(path), about.st_size, most)
        return path, file.read(about.st_size)


def check_size(where: str, size: int, most: int) -> None:
    """Check a size in bytes, before any memory is taken for it.

    Raises:
        ValueError: if it is above the most that is allowed.
    """
    if size > most:
        raise ValueError(f"{where} has {size} bytes, at most {most} are read")


def inflate(data: bytes, limit: int, wbits: int) -> tuple[bytes, bool, bytes]:
    """Decompress at most `limit` bytes, and one more if there are more.

    Returns:
        The bytes, whether the stream ends with them, and what follows the stream.

    Raises:
        zlib.error: if the stream is damaged.
    """
    stream = zlib.decompressobj(wbits)
    content = stream.decompress(data, limit)
    if not stream.eof:  # more content, or only the checksum after it, is left
        content += stream.decompress(stream.unconsumed_tail, 1)
    return content, stream.eof, stream.unused_data


def inflated_size(data: bytes, limit: int) -> tuple[int, bool]:
    """Count the bytes of a zlib stream, up to `limit` and one more, and keep none.

    Returns:
        The number, and whether the data are one stream that ends there.

    Raises:
        zlib.error: if the stream is damaged.
    """
    stream, size = zlib.decompressobj(), 0
    for start in range(0, len(data), _FED):
        fed = data[start : start + _FED]
        while not stream.eof and size <= limit:
            most = min(_PIECE, limit + 1 - size)
            piece = stream.decompress(fed, most)
            fed = stream.unconsumed_tail
            size += len(piece)
            if len(piece) < most:
                break
        if stream.eof or size > limit:
            rest = len(data) > start + _FED or stream.unused_data
            return size, stream.eof and not rest
    return size, False
