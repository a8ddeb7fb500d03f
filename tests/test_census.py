"""The census reader and table, on files made here; the real ones if they are given."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

import gamedyn as gd
from gamedyn.data import census, readers

ROW = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, "
    "White, Male, 2174, 0, 40, United-States, <=50K"
)


def row(age=40, race="White", sex="Male", country="Cuba", target="<=50K", work="?"):
    return (
        f"{age}, {work}, 1000, HS-grad, 9, Divorced, Sales, Husband, {race}, {sex}, 0, "
        f"{age % 3}, 38, {country}, {target}"
    )


def some_rows(number=60):
    return [
        row(
            20 + i,
            ("White", "Black")[i % 2],
            ("Male", "Female")[i // 2 % 2],
            ("Cuba", "United-States")[i // 3 % 2],
            ("<=50K", ">50K")[i % 7 == 0],
            ("?", "Private")[i % 5 > 0],
        )
        for i in range(number)
    ]


@pytest.fixture
def written(tmp_path):
    def write(lines, name="adult.data", ending="\n\n"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + ending)
        return path

    return write


def test_a_row(written):
    result = readers.read_census(written([ROW, row(target=">50K")]))
    assert result.numbers[0].tolist() == [39, 77516, 13, 2174, 0, 40]
    assert result.words[0].tolist() == [
        *("State-gov", "Bachelors", "Never-married", "Adm-clerical", "Not-in-family"),
        *("White", "Male", "United-States"),
    ]
    assert result.words[1, 0] == "?"
    assert result.target.tolist() == [False, True]


def test_the_form_of_the_test_file(written):
    lines = ["|1x3 Cross validator", ROW + ".", row(target=">50K.")]
    for ending in ("\n", "\n\n"):
        result = readers.read_census(written(lines, "adult.test", ending))
        assert result.target.tolist() == [False, True]


BAD = {
    "truncated": ([ROW], "", "its last line does not end"),
    "empty": ([], "\n", "holds no rows"),
    "short": ([ROW, ROW[:60]], "\n", "line 2: got 7 fields, expected 15"),
    "blank line": ([ROW, "", ROW], "\n", "line 2: got 1 fields"),
    "text": (
        [ROW.replace("39", "old", 1)],
        "\n",
        "age must be a whole number, got 'old'",
    ),
    "negative": ([ROW.replace("2174", "-2")], "\n", "capital-gain must be"),
    "word": ([ROW.replace("White", "Wh*te")], "\n", "race must be a word"),
    "target": ([ROW.replace("<=50K", "50K")], "\n", "the target must be"),
    "mixed dots": ([ROW, ROW + "."], "\n", "line 2: the target must be"),
    "other text": (["a b c"], "\n", "line 1: got 1 fields"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_mistakes_are_named(mistake, written):
    lines, ending, message = BAD[mistake]
    with pytest.raises(ValueError, match=message):
        readers.read_census(written(lines, ending=ending))


def test_no_text(tmp_path):
    path = tmp_path / "adult.data"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="not a text file"):
        readers.read_census(path)


def test_loading_by_name(written, tmp_path, monkeypatch):
    monkeypatch.delenv("GAMEDYN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="adult needs its files"):
        census.load()
    with pytest.raises(FileNotFoundError, match=r"no adult.test below .*archive.ics"):
        census.load("test", root=tmp_path)
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        census.load("valid")
    written(some_rows())
    with pytest.raises(ValueError, match="checksum mismatch"):
        census.load(root=tmp_path)
    assert len(census.load(root=tmp_path, verify=False).target) == 60
    with pytest.raises(FileNotFoundError, match="adult needs its files"):
        gd.games.adult_fairness()


def test_table(written):
    rows = readers.read_census(written(some_rows()))
    table = census.table(rows)
    assert len(table.names) == table.features.shape[1]
    np.testing.assert_allclose(table.features[:, :-1].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(table.features[:, :-1].std(axis=0), 1)
    assert (table.features[:, -1] == 1).all()
    # Nothing that is the same everywhere, and no sampling weight.
    assert not {"education-num", "capital-gain", "fnlwgt"} & set(table.names)
    loss = table.features[:, table.names.index("capital-loss")]
    raw = np.log([1 + (20 + i) % 3 for i in range(60)])
    np.testing.assert_allclose(loss, (raw - raw.mean()) / raw.std())
    for i, (sex, race) in enumerate(
        zip(rows.words[:, 6], rows.words[:, 5], strict=True)
    ):
        words = table.group_names[table.groups[i]].split()
        assert words == [
            "white" if race == "White" else "other",
            "men" if sex == "Male" else "women",
        ]
    assert table.labels.tolist() == [1.0 if t else -1.0 for t in rows.target]
    with pytest.raises(ValueError, match="every group needs a row"):
        census.table(readers.read_census(written([ROW, row()])))


def test_the_game_of_a_small_census(written, monkeypatch, tmp_path):
    """As `adult_fairness` builds it, on 60 rows."""
    written(some_rows())
    load = census.load
    monkeypatch.setattr(
        census, "load", lambda split, root: load(split, root=root, verify=False)
    )
    problem = gd.games.adult_fairness(str(tmp_path), mu=0.1)
    w, p = problem.solutions[0]
    field = gd.fields.gradient(problem.game)((w, p))
    assert gd.geometry.natural_residual((w, p), field, problem.geometry) < 1e-12
    assert problem.info.num_components == 60
    assert problem.info.name == "adult_fairness"
    assert p.shape == (4,)


REAL = os.environ.get("GAMEDYN_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="needs the files of the census")
def test_the_real_files():
    train, test = census.load("train"), census.load("test")
    assert train.target.sum() == 7841
    assert (~train.target).sum() == 24720
    assert test.target.sum() == 3846
    assert (~test.target).sum() == 12435
    unknown = [(rows.words == "?").any(axis=1).sum() for rows in (train, test)]
    assert unknown == [2399, 1221]
    problem = gd.games.adult_fairness()
    w, p = problem.solutions[0]
    field = gd.fields.gradient(problem.game)((w, p), jnp.arange(32561))
    assert gd.geometry.natural_residual((w, p), field, problem.geometry) < 1e-10
