"""Read the scene off a picture, and compare it with the one that was asked for."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, signal

from .scenes import (
    COLOURS,
    OBJECT,
    SHAPES,
    SIZE,
    Group,
    Scene,
)

ATTRIBUTES = ("count", "colour", "shape", "place")

_FEWEST = 4  # pixels of an object; fewer are specks
_TOLERANCE = 3  # pixels in which a shape may differ from its template
_BITS = np.array([4, 2, 1])
_CODES = {int(_BITS @ np.greater(each, 0)): name for name, each in COLOURS.items()}
_DIAGONALS_TOO = np.ones((3, 3), int)
_AXES = (("top", "bottom"), ("left", "right"))


class _Object(NamedTuple):
    colour: str | None
    shape: str | None
    centre: tuple[float, float]  # row and column from the picture's middle

    @property
    def kind(self) -> tuple[str | None, str | None]:
        return self.colour, self.shape


def parse(picture: np.ndarray) -> Scene:
    """Read the scene off a picture, exactly if it was rendered.

    Every channel is on or off, by its sign. Connected pixels that are on somewhere are
    an object (fewer than four of them are ignored); its colour is its pixels' most
    frequent one, its shape that of the template from which it differs in the fewest
    pixels, at most three. Objects are split into sides across or along, whichever makes
    purer groups of different kinds, or else whichever they are farther apart in.

    Args:
        picture: shape (16, 16, 3), finite, -1 to 1 by its meaning.

    Returns:
        The canonical scene. Colour or shape are `None` where there is none known, and
        an empty picture has a count of 0 and no side.

    Raises:
        ValueError: if the picture has another shape or is not finite.

    Example:
        >>> from gamedyn import recipes
        >>> render = recipes.load("text_to_image").scenes.render
        >>> scene = Scene(Group(3, "blue", "cross"), "left", Group(1, "red", "square"))
        >>> parse(render(scene, seed=1)) == scene
        True
    """
    picture = np.asarray(picture)
    if picture.shape != (SIZE, SIZE, 3):
        raise ValueError(
            f"expected a picture of shape {(SIZE, SIZE, 3)}, got {picture.shape}"
        )
    if not np.isfinite(picture).all():
        raise ValueError("expected a picture of finite numbers")
    objects = _objects(picture > 0)
    if not objects:
        return Scene(Group(0, None, None), None)
    axis = min((0, 1), key=lambda axis: _implausibility(objects, axis))
    halves = [half for half in _split(objects, axis) if half]
    groups = [Group(len(half), *_most_frequent(half)) for half in halves]
    side = _AXES[axis][int(halves[0][0].centre[axis] >= 0)]
    return Scene(groups[0], side, *groups[1:])


def compare(wanted: Scene, parsed: Scene) -> dict[str, list[bool]]:
    """Say which attributes of a scene another one has.

    The parsed groups are assigned to the wanted ones as fits best; a missing group has
    nothing right. The place (position of one group, relation of two) is right if there
    are as many groups as wanted, on the sides wanted.

    Args:
        wanted: the scene asked for.
        parsed: what was read off the picture.

    Returns:
        For every one of `ATTRIBUTES` whether it is right: for each wanted group, and
        once for the place.
    """
    wanted, parsed = wanted.canonical, parsed.canonical
    missing = Group(0, None, None)
    candidates = [*parsed.groups, missing] if wanted.second else [*parsed.groups]
    chosen: dict[str, list[bool]] = {}
    for assigned in permutations(candidates, len(wanted.groups)):
        marks = {
            name: [
                getattr(got, name) == getattr(group, name)
                for group, got in zip(wanted.groups, assigned, strict=True)
            ]
            for name in ATTRIBUTES[:3]
        }
        placed = assigned == parsed.groups and parsed.side == wanted.side
        marks["place"] = [placed]
        if not chosen or _number(marks) > _number(chosen):
            chosen = marks
    return chosen


def is_right(wanted: Scene, parsed: Scene) -> bool:
    """Say whether all attributes are as wanted."""
    return all(map(all, compare(wanted, parsed).values()))


def score(wanted: Sequence[Scene], parsed: Iterable[Scene]) -> dict[str, float]:
    """Average over scenes which attributes are right.

    Args:
        wanted: the scenes asked for.
        parsed: what was read off the pictures, in the same order.

    Returns:
        The share right of each of `ATTRIBUTES`, of all of them together (`attributes`),
        and of the scenes without any mistake (`scenes`).

    Raises:
        ValueError: if there is no scene, or the numbers of scenes differ.
    """
    marks = [compare(*pair) for pair in zip(wanted, parsed, strict=True)]
    if not marks:
        raise ValueError("expected at least one scene, got none")
    each = {name: [m for mark in marks for m in mark[name]] for name in ATTRIBUTES}
    shares = {name: float(np.mean(each[name])) for name in ATTRIBUTES}
    shares["attributes"] = float(np.mean(sum(each.values(), [])))
    shares["scenes"] = float(np.mean([all(map(all, m.values())) for m in marks]))
    return shares


def chance(wanted: Sequence[Scene], drawn: Sequence[Scene], seed: int = 0) -> dict:
    """Score perfect pictures of scenes that have nothing to do with those wanted.

    Args:
        wanted: the scenes asked for.
        drawn: scenes as training has them, of which one is drawn for each.
        seed: decides which.

    Returns:
        As `score`.
    """
    rows = np.random.default_rng(seed).integers(len(drawn), size=len(wanted))
    return score(wanted, [drawn[row] for row in rows])


def _objects(on: np.ndarray) -> list[_Object]:
    codes = on @ _BITS
    labelled: Any = ndimage.label(codes > 0, _DIAGONALS_TOO)
    labels = labelled[0]
    objects = []
    for number, window in enumerate(ndimage.find_objects(labels), 1):
        mask = labels[window] == number
        if mask.sum() < _FEWEST:
            continue
        code = int(np.bincount(codes[window][mask]).argmax())
        centre = tuple((s.start + s.stop - SIZE) / 2 for s in window)
        objects.append(_Object(_CODES.get(code), _shape(mask), centre))
    return objects


def _shape(mask: np.ndarray) -> str | None:
    """Name the nearest template, wherever it lies in the mask's window."""
    if max(mask.shape) > OBJECT + 1:
        return None
    distances = {
        shape: mask.sum() + template.sum() - 2 * _overlap(mask, template).max()
        for shape, template in SHAPES.items()
    }
    nearest = min(distances, key=lambda shape: distances[shape])
    return nearest if distances[nearest] <= _TOLERANCE else None


def _overlap(mask: np.ndarray, template: np.ndarray) -> np.ndarray:
    return signal.correlate2d(mask.astype(int), template.astype(int))


def _split(objects: Sequence[_Object], axis: int) -> tuple[list[_Object], ...]:
    return (
        [each for each in objects if each.centre[axis] < 0],
        [each for each in objects if each.centre[axis] >= 0],
    )


def _most_frequent(objects: Sequence[_Object]) -> tuple[str | None, str | None]:
    colour, _ = Counter(each.colour for each in objects).most_common(1)[0]
    shape, _ = Counter(each.shape for each in objects).most_common(1)[0]
    return colour, shape


def _implausibility(objects: Sequence[_Object], axis: int) -> tuple[float, ...]:
    halves = [half for half in _split(objects, axis) if half]
    kinds = [_most_frequent(half) for half in halves]
    strangers = sum(
        each.kind != kind
        for half, kind in zip(halves, kinds, strict=True)
        for each in half
    )
    alike = len(kinds) == 2 and kinds[0] == kinds[1]
    return strangers, alike, -min(abs(each.centre[axis]) for each in objects)


def _number(marks: dict[str, list[bool]]) -> int:
    return sum(map(sum, marks.values()))
