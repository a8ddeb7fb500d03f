"""Scenes of coloured shapes, all of them enumerable, and their pictures of 16 x 16.

A scene is one group of one to three equal objects on a side of the picture, or two
groups on opposite sides. Every attribute can be read off the picture exactly; see
`parser`.
"""

import itertools
from typing import NamedTuple

import numpy as np

SIZE = 16
OBJECT = 4  # rows and columns of every object

# Corners of the colour cube in [-1, 1]; the two left out belong to no scene.
COLOURS = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
    "white": (1, 1, 1),
}


def _template(rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows.split()])


# Any two differ in four pixels or more.
SHAPES = {
    "square": _template("#### #### #### ####"),
    "frame": _template("#### #..# #..# ####"),
    "cross": _template("#..# .##. .##. #..#"),
    "triangle": _template("#... ##.. ###. ####"),
}
COUNTS = (1, 2, 3)
OPPOSITE = {"top": "bottom", "left": "right", "bottom": "top", "right": "left"}
SIDES = tuple(OPPOSITE)

HELD_OUT = frozenset(
    {("red", "triangle"), ("green", "cross"), ("blue", "frame"), ("yellow", "square")}
)
"""Colours and shapes that training never shows together, only with others."""

# Where objects begin along their side, on even places, so that a network that sees the
# picture in patches has few phases to learn: single ones near the middle, so that no
# other side is as near, and groups with a gap between any two.
_ALONG = {1: ((4, 6, 8),), 2: ((2,), (10,)), 3: ((0,), (6,), (12,))}
_NEAR, _FAR = (0, 2), (10, 12)  # the same across: top and left, bottom and right


class Group(NamedTuple):
    """Equal objects beside one another.

    Attributes:
        count: how many, 1 to 3; what is read off a picture may have any number.
        colour: one of `COLOURS`; `None` if a picture shows none of them.
        shape: one of `SHAPES`; `None` if a picture shows none of them.
    """

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]: no one counts here
    colour: str | None
    shape: str | None

    @property
    def kind(self) -> tuple[str | None, str | None]:
        """Colour and shape."""
        return self.colour, self.shape


class Scene(NamedTuple):
    """One group on a side of the picture, or two on opposite sides.

    The groups of two differ in colour or shape: two squares above two equal ones are
    also two squares left of two.

    Attributes:
        first: a group.
        side: where it is, one of `SIDES`; `None` if a picture is empty.
        second: the group on the opposite side, or `None`.
    """

    first: Group
    side: str | None
    second: Group | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The one group or the two."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def canonical(self) -> "Scene":
        """The same picture told from its top or left: what a picture determines."""
        if self.second is None or self.side in ("top", "left"):
            return self
        return Scene(self.second, OPPOSITE[self.side or ""], self.first)


def one_group() -> list[Scene]:
    """List the 240 scenes of one group."""
    return [Scene(group, side) for group in _groups() for side in SIDES]


def two_groups() -> list[Scene]:
    """List the 13,680 scenes of two groups, each twice: from either side."""
    return [
        Scene(first, side, second)
        for first, second in itertools.product(_groups(), repeat=2)
        if first.kind != second.kind
        for side in SIDES
    ]


def is_held_out(scene: Scene) -> bool:
    """Say whether a scene has a colour and a shape that training keeps apart."""
    return any(group.kind in HELD_OUT for group in scene.groups)


def check(scene: Scene) -> None:
    """Raise `ValueError` unless a scene is one of those listed, saying why."""
    for group in scene.groups:
        for name, value, known in (
            ("count", group.count, COUNTS),
            ("colour", group.colour, tuple(COLOURS)),
            ("shape", group.shape, tuple(SHAPES)),
            ("side", scene.side, SIDES),
        ):
            if value not in known:
                raise ValueError(f"expected a {name} among {known}, got {value!r}")
    if scene.second is not None and scene.first.kind == scene.second.kind:
        raise ValueError(
            f"expected two groups that differ in colour or shape, got {scene}"
        )


def render(scene: Scene, seed: int | np.random.Generator) -> np.ndarray:
    """Draw a scene on black, its groups in rows a little off their places.

    Pixels are either background or of the object's full colour. Any two objects have a
    black pixel between them, diagonals included.

    Args:
        scene: what to draw.
        seed: decides the places; or a generator of random numbers.

    Returns:
        The picture, shape (16, 16, 3), float32, every number -1 or 1.

    Raises:
        ValueError: if an attribute of the scene is unknown.

    Example:
        >>> picture = render(Scene(Group(2, "red", "square"), "top"), seed=0)
        >>> picture.shape, int((picture[..., 0] > 0).sum())
        ((16, 16, 3), 32)
    """
    check(scene)
    rng = np.random.default_rng(seed)
    picture = np.full((SIZE, SIZE, 3), -1, np.float32)
    side = scene.side or ""
    for group, where in zip(scene.groups, (side, OPPOSITE[side]), strict=False):
        across = _NEAR if where in ("top", "left") else _FAR
        place = across[rng.integers(len(across))]
        for along in _ALONG[group.count]:
            offset = along[rng.integers(len(along))]
            vertical = where in ("top", "bottom")
            row, column = (place, offset) if vertical else (offset, place)
            window = picture[row : row + OBJECT, column : column + OBJECT]
            window[SHAPES[group.shape or ""]] = COLOURS[group.colour or ""]
    return picture


def draw(
    number: int, seed: int, *, held_out: bool = False, single: float = 0.25
) -> tuple[list[Scene], np.ndarray]:
    """Draw scenes at random, and their pictures.

    Args:
        number: how many.
        seed: decides scenes and places.
        held_out: whether from the scenes kept from training, or from the others.
        single: the share of scenes of one group; there are so few of them that a larger
            one would repeat them in every batch.

    Returns:
        The scenes, and pictures of shape (number, 16, 16, 3), uint8, 0 or 255.
    """
    rng = np.random.default_rng(seed)
    kinds = [
        [scene for scene in scenes if is_held_out(scene) == held_out]
        for scenes in (two_groups(), one_group())
    ]
    alone = rng.random(number) < single
    scenes = [kinds[kind][rng.integers(len(kinds[kind]))] for kind in alone.astype(int)]
    pictures = np.empty((number, SIZE, SIZE, 3), np.uint8)
    for picture, scene in zip(pictures, scenes, strict=True):
        picture[...] = np.where(render(scene, rng) > 0, 255, 0)
    return scenes, pictures


def _groups() -> list[Group]:
    return [Group(*each) for each in itertools.product(COUNTS, COLOURS, SHAPES)]
