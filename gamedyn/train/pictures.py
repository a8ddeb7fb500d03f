"""Pictures of a run: grids of samples, and an animation of them."""

import io
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gamedyn.checks import check_positive_integer
from gamedyn.files import write_whole
from gamedyn.train.callbacks import Callback


def to_uint8(x: Any) -> np.ndarray:
    """Convert values in [-1, 1] to bytes: `clip(round(127.5 x + 127.5), 0, 255)`.

    Args:
        x: floats of any shape; uint8 is returned unchanged.

    Returns:
        uint8, of the same shape.

    Example:
        >>> to_uint8([-1.0, 0.0, 1.0, 2.0]).tolist()
        [0, 128, 255, 255]
    """
    x = np.asarray(x)
    if x.dtype == np.uint8:
        return x
    return np.clip(np.round(127.5 * x.astype(np.float64) + 127.5), 0, 255).astype(
        np.uint8
    )


def grid(pictures: Any, columns: int | None = None, *, gap: int = 1) -> np.ndarray:
    """Arrange pictures in a grid, row by row, on a black background.

    Args:
        pictures: shape (N, H, W, C), C 1 or 3: uint8, or floats in [-1, 1].
        columns: pictures per row; if `None`, the square root of N, rounded up.
        gap: pixels between two pictures.

    Returns:
        One picture, uint8, of shape (H', W', C).

    Raises:
        ValueError: if `pictures` has another shape, or `columns` is not a positive
            integer.

    Example:
        >>> import numpy as np
        >>> grid(np.zeros((6, 8, 8, 3)), columns=3).shape
        (17, 26, 3)
    """
    pictures = to_uint8(pictures)
    if pictures.ndim != 4 or pictures.shape[3] not in (1, 3) or not len(pictures):
        raise ValueError(
            f"expected pictures of shape (N, H, W, C) with C 1 or 3, got shape "
            f"{pictures.shape}"
        )
    number, height, width, channels = pictures.shape
    columns = math.ceil(math.sqrt(number)) if columns is None else columns
    check_positive_integer("columns", columns)
    rows = -(-number // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    canvas = np.zeros(shape, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def write_png(picture: Any, path: str | os.PathLike[str]) -> Path:
    """Write one picture as PNG, atomically.

    Args:
        picture: shape (H, W, C), C 1 or 3: uint8, or floats in [-1, 1].
        path: the file; its folder is created.

    Returns:
        The path.

    Raises:
        ValueError: if `picture` has another shape.
    """
    return _write(_image(to_uint8(picture)), Path(path), format="PNG")


def write_gif(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    milliseconds: int = 100,
) -> Path:
    """Write an animation of pictures of one size, such as those of `sample_grid`.

    Args:
        paths: the pictures, in order.
        out: the GIF file, written atomically.
        milliseconds: how long each is shown; the last one ten times as long.

    Returns:
        The path of the animation.

    Raises:
        ValueError: if there is no picture, or their sizes differ.
    """
    from PIL import Image

    frames = []
    for path in paths:
        with Image.open(path) as picture:
            frames.append(picture.convert("RGB"))
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) != 1:
        raise ValueError(
            f"an animation needs pictures of one size, got {len(frames)} pictures of "
            f"sizes {sizes}"
        )
    durations = [milliseconds] * (len(frames) - 1) + [10 * milliseconds]
    return _write(
        frames[0],
        Path(out),
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
    )


def sample_grid(
    sampler: Callable[[Any], Any],
    directory: str | os.PathLike[str],
    every: int,
    *,
    rows: int = 8,
    columns: int = 8,
    averaged: bool = True,
) -> Callback:
    """Make a callback that regularly writes a grid of samples.

    Args:
        sampler: `sampler(params) -> pictures` of shape (N, H, W, C), N at least
            `rows * columns`, always from the same latents so that the grids can be
            compared, such as `lambda params: generator.apply(params[0], z)`; it is
            jitted.
        directory: the folder for `samples-00001000.png` and so on.
        every: steps between two grids.
        rows: of the grid.
        columns: of the grid.
        averaged: whether to sample with the averaged parameters, if the run has an
            average.

    Returns:
        The callback; process 0 writes.

    Raises:
        ValueError: if a number is not a positive integer; in the run, if the sampler
            returns too few pictures.
    """
    for name, value in (("every", every), ("rows", rows), ("columns", columns)):
        check_positive_integer(name, value)
    sample = jax.jit(sampler)

    def draw(state: Any, metrics: dict[str, Any]) -> None:
        del metrics
        pictures = np.asarray(sample(state.averaged if averaged else state.output))
        if len(pictures) < rows * columns:
            raise ValueError(
                f"a grid of {rows} by {columns} needs {rows * columns} samples, the "
                f"sampler returned {len(pictures)}"
            )
        if jax.process_index() == 0:
            path = Path(directory) / f"samples-{int(state.step):08d}.png"
            write_png(grid(pictures[: rows * columns], columns), path)

    return Callback(draw, every)


def sample_paths(directory: str | os.PathLike[str]) -> list[Path]:
    """List the pictures of `sample_grid` in the order of their steps."""
    pattern = re.compile(r"samples-\d+\.png")
    return sorted(p for p in Path(directory).iterdir() if pattern.fullmatch(p.name))


def _image(pixels: np.ndarray) -> Any:
    from PIL import Image

    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(
            f"expected a picture of shape (H, W, C) with C 1 or 3, got shape "
            f"{pixels.shape}"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _write(image: Any, path: Path, **options: Any) -> Path:
    # Encode in memory first: only complete files are written.
    buffer = io.BytesIO()
    image.save(buffer, **options)
    write_whole(path, buffer.getvalue())
    return path
