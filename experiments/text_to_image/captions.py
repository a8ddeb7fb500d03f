"""Captions: scenes in words, the words as numbers, and the way back.

caption  = group ("at the top" | "at the bottom" | "on the left" | "on the right")
         | group ("above" | "below" | "left of" | "right of") group
group    = "one" colour shape | ("two" | "three") colour shapes
"""

import difflib
from collections.abc import Sequence

import numpy as np

from .scenes import (
    COLOURS,
    SHAPES,
    SIDES,
    Group,
    Scene,
    check,
)

_NUMBERS = {1: "one", 2: "two", 3: "three"}
_PLURALS = {shape: shape + ("es" if shape[-1] == "s" else "s") for shape in SHAPES}
_POSITIONS = dict(
    zip(
        SIDES,
        ("at the top", "on the left", "at the bottom", "on the right"),
        strict=True,
    )
)
_RELATIONS = dict(zip(SIDES, ("above", "left of", "below", "right of"), strict=True))

LENGTH = 8
"""Words of the longest caption."""

PADDING = 0
VOCABULARY = (
    "<padding>",
    *_NUMBERS.values(),
    *COLOURS,
    *SHAPES,
    *_PLURALS.values(),
    *dict.fromkeys(" ".join([*_POSITIONS.values(), *_RELATIONS.values()]).split()),
)
"""All words by number; 0 fills short captions up."""

_ALIASES = {"a": "one"}
_NUMBER_OF = {word: number for number, word in enumerate(VOCABULARY) if number}


def caption(scene: Scene) -> str:
    """Describe a scene.

    Args:
        scene: what to describe, from the first group's point of view.

    Returns:
        The caption.

    Raises:
        ValueError: if an attribute of the scene is unknown.

    Example:
        >>> caption(Scene(Group(2, "red", "cross"), "top", Group(1, "blue", "square")))
        'two red crosses above one blue square'
    """
    check(scene)
    side = scene.side or ""
    if scene.second is None:
        return f"{_words(scene.first)} {_POSITIONS[side]}"
    return f"{_words(scene.first)} {_RELATIONS[side]} {_words(scene.second)}"


def scene(text: str) -> Scene:
    """Understand a caption: the inverse of `caption`.

    Args:
        text: the caption; spaces and capitals do not matter.

    Returns:
        The scene.

    Raises:
        ValueError: if a word is unknown, naming the nearest known ones; or if the words
            make no caption, with an example of one.

    Example:
        >>> scene("Three white frames on the left")
        Scene(first=Group(count=3, colour='white', shape='frame'), side='left', \
second=None)
    """
    words = _known_words(text)
    first, rest = _group(words[:3]), words[3:]
    sides, relations = (
        {where: side for side, where in phrases.items()}
        for phrases in (_POSITIONS, _RELATIONS)
    )
    second = _group(rest[-3:])
    position, relation = " ".join(rest), " ".join(rest[:-3])
    if first and position in sides:
        return Scene(first, sides[position])
    if first and second and relation in relations:
        scene = Scene(first, relations[relation], second)
        check(scene)
        return scene
    raise ValueError(
        "expected a caption such as 'two red crosses at the top' or 'one blue square "
        f"left of three white frames', got {text!r}"
    )


def tokens(texts: str | Sequence[str]) -> np.ndarray:
    """Turn captions into the numbers of their words.

    Args:
        texts: a caption or several; any known words in any order.

    Returns:
        Shape (number of captions, 8), int32, short captions filled up with 0.

    Raises:
        ValueError: if a word is unknown, naming the nearest known ones, or a caption
            has no word or more than eight.

    Example:
        >>> tokens("one red square at the top").tolist()
        [[1, 4, 9, 17, 18, 19, 0, 0]]
    """
    texts = [texts] if isinstance(texts, str) else texts
    rows = np.full((len(texts), LENGTH), PADDING, np.int32)
    for row, text in zip(rows, texts, strict=True):
        words = _known_words(text)
        if not 0 < len(words) <= LENGTH:
            raise ValueError(
                f"expected a caption of 1 to {LENGTH} words, got {len(words)}: {text!r}"
            )
        row[: len(words)] = [_NUMBER_OF[word] for word in words]
    return rows


def text(row: np.ndarray) -> str:
    """Turn the numbers of one caption back into words."""
    return " ".join(VOCABULARY[number] for number in row if number != PADDING)


def _known_words(text: str) -> list[str]:
    words = [_ALIASES.get(word, word) for word in text.lower().split()]
    for word in words:
        if word not in _NUMBER_OF:
            near = difflib.get_close_matches(word, _NUMBER_OF, n=3, cutoff=0.5)
            hint = "nearest: " if near else "known: "
            hint += ", ".join(near or _NUMBER_OF)
            raise ValueError(f"unknown word {word!r} in {text!r}; {hint}")
    return words


def _words(group: Group) -> str:
    shape = group.shape or ""
    noun = shape if group.count == 1 else _PLURALS[shape]
    return f"{_NUMBERS[group.count]} {group.colour} {noun}"


def _group(words: Sequence[str]) -> Group | None:
    """Understand the three words of a group; `None` if they are not."""
    if len(words) != 3:
        return None
    counts = {word: count for count, word in _NUMBERS.items()}
    shapes = {noun: shape for shape, noun in _PLURALS.items()} | dict(
        zip(SHAPES, SHAPES, strict=True)
    )
    number, colour, noun = words
    if number not in counts or colour not in COLOURS or noun not in shapes:
        return None
    group = Group(counts[number], colour, shapes[noun])
    return group if _words(group) == " ".join(words) else None
