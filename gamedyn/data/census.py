"""The Adult (Census Income) data: read, verified, and turned into features."""

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

# The categories that become columns of zeros and ones. Those without a column (rare
# ones, and one that follows from the others) are zero in all columns of their kind.
# Education is left out, since "education-num" says the same.
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
    """Load the census data from the user's files.

    Args:
        split: "train" (32,561 rows) or "test" (16,281).
        root: the data directory, with the files or the folder `adult` in it; if `None`,
            the environment variable GAMEDYN_DATA.
        verify: whether to compare checksums.

    Returns:
        The rows.

    Raises:
        FileNotFoundError: if the directory or a file is missing; the message says how
            to obtain the set.
        ValueError: if the split is unknown, the file is damaged, or its checksum
            differs.
    """
    if split not in _FILES:
        raise ValueError(f"unknown split {split!r} of adult; known: train, test")
    file, checksum = _FILES[split]
    path = find("adult", (file,), root)[0]
    if verify:
        verify_content(path, path.read_bytes(), checksum)
    return readers.read_census(path)


class Table(NamedTuple):
    """Features and labels for a classifier, and the groups it should be fair to.

    Attributes:
        features: shape `(n, d)`, float64: standardised columns, then a column of ones.
        labels: shape `(n,)`, float64: 1 for an income above 50K, else -1.
        groups: shape `(n,)`, integers: the index of each row's group.
        names: the names of the columns.
        group_names: the names of the groups.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    names: tuple[str, ...]
    group_names: tuple[str, ...]


def table(census: Census) -> Table:
    """Turn the census into features, labels, and groups by sex and race.

    The features are the numbers (capital gains and losses as log(1 + x), without the
    sampling weight `fnlwgt`) and one column of zeros and ones for each category, all
    standardised; constant columns are left out. The four groups are women and men,
    white and not.

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
        sizes = dict(zip(group_names, counts.tolist(), strict=True))
        raise ValueError(f"every group needs a row, got {sizes}")
    labels = np.where(census.target, 1.0, -1.0)
    return Table(features, labels, groups, (*varying, "one"), group_names)
