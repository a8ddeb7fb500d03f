"""The Adult (Census Income) data: found on disk, verified, turned into features."""

from typing import NamedTuple

import numpy as np

from gamedyn.data import readers
from gamedyn.data.published import find, verify_content
from gamedyn.data.readers import CENSUS_NUMBERS, CENSUS_WORDS, Census, PathLike

# The SHA-256 of the published files.
_FILES = {
    "train": (
        "adult.data",
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    ),
    "test": (
        "adult.test",
        "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
    ),
}

# What becomes a column of zeros and ones. Education has its number; a country of
# origin is told apart from the United States only.
_CATEGORIES = {
    "workclass": (
        "Private",
        "Self-emp-not-inc",
        "Self-emp-inc",
        "Federal-gov",
        "Local-gov",
        "State-gov",
    ),
    "marital-status": (
        "Married-civ-spouse",
        "Divorced",
        "Never-married",
        "Separated",
        "Widowed",
    ),
    "occupation": (
        "Tech-support",
        "Craft-repair",
        "Other-service",
        "Sales",
        "Exec-managerial",
        "Prof-specialty",
        "Handlers-cleaners",
        "Machine-op-inspct",
        "Adm-clerical",
        "Farming-fishing",
        "Transport-moving",
        "Protective-serv",
    ),
    "relationship": ("Husband", "Wife", "Own-child", "Not-in-family", "Unmarried"),
    "race": ("White", "Black", "Asian-Pac-Islander"),
    "sex": ("Female",),
    "native-country": ("United-States",),
}


def load(
    split: str = "train", *, root: PathLike | None = None, verify: bool = True
) -> Census:
    """Load the census data from the caller's files.

    Args:
        split: "train" (32,561 rows) or "test" (16,281).
        root: the data directory, which holds the files or the folder `adult`; the
            environment variable GAMEDYN_DATA if `None`.
        verify: whether to compare checksums.

    Returns:
        The rows.

    Raises:
        FileNotFoundError: if the directory or a file is missing; the message says how
            to obtain the set.
        ValueError: if the split is unknown, the file damaged, or its checksum another.
    """
    if split not in _FILES:
        raise ValueError(f"unknown split {split!r} of adult; known: train, test")
    file, checksum = _FILES[split]
    path = find("adult", (file,), root)[0]
    if verify:
        verify_content(path, path.read_bytes(), checksum)
    return readers.read_census(path)


class Table(NamedTuple):
    """Features of a classifier, with the groups that it should be fair to.

    Attributes:
        features: shape `(n, d)`, float64, standardised, and a column of ones.
        labels: shape `(n,)`, 1 for an income above 50K, else -1.
        groups: shape `(n,)`, the number of each row's group.
        names: of the columns.
        group_names: of the groups.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    names: tuple[str, ...]
    group_names: tuple[str, ...]


def table(census: Census) -> Table:
    """Turn the census into features, labels and the groups of sex and race.

    Numbers (gains and losses as log(1 + x), without the sampling weight `fnlwgt`) and
    zero-one columns of the categories are standardised; columns that do not vary are
    left out. The groups are women and men, white and not.

    Args:
        census: the rows.

    Returns:
        The table.

    Raises:
        ValueError: if a group is empty.
    """
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(CENSUS_NUMBERS, census.numbers.T, strict=True):
        if name.startswith("capital"):
            columns[name] = np.log1p(column)
        elif name != "fnlwgt":
            columns[name] = column.astype(np.float64)
    words: dict[str, np.ndarray] = dict(zip(CENSUS_WORDS, census.words.T, strict=True))
    for name, categories in _CATEGORIES.items():
        for category in categories:
            columns[f"{name}: {category}"] = (words[name] == category).astype(float)
    varying = {name: c for name, c in columns.items() if c.std() > 0}
    features = np.stack([(c - c.mean()) / c.std() for c in varying.values()], axis=1)
    features = np.append(features, np.ones((len(features), 1)), axis=1)
    groups = 2 * (words["sex"] == "Male") + (words["race"] == "White")
    group_names = "other women", "white women", "other men", "white men"
    counts = np.bincount(groups, minlength=4)
    if not counts.all():
        found = dict(zip(group_names, counts.tolist(), strict=True))
        raise ValueError(f"every group needs a row, got {found}")
    labels = np.where(census.target, 1.0, -1.0)
    return Table(features, labels, groups, (*varying, "one"), group_names)
