"""Published results: every page within what was expected, the pages up to date."""

import copy
import dataclasses
import functools
import json

import pytest

from experiments import papers
from experiments.papers import page
from experiments.papers.__main__ import page_of_pages

NAMES = page.names()


def stored(name):
    return json.loads((page.FOLDER / name / "measured.json").read_text())


@functools.cache
def measured(name, *, small):
    return page.run(name, small=small)


def failing(rows):
    """The rows that neither hold nor say why not, and those that say so and hold."""
    return [row for row in rows if row.holds == bool(row.explained)]


def test_there_are_fifteen_pages():
    assert len(NAMES) == 15


@pytest.mark.parametrize("name", NAMES)
def test_what_is_expected_is_complete(name):
    claims = page.expected(name)
    assert set(claims) == {"claim", "source", "headline", "rows"}
    assert len(claims["claim"]) > 80
    assert set(claims["source"]) == {"authors", "title", "year", "arxiv", "where"}
    assert all(claims["source"].values())
    quantities = [row["quantity"] for row in claims["rows"]]
    assert len(quantities) == len(set(quantities))
    assert claims["headline"] in quantities
    for row in claims["rows"]:
        assert row["basis"] in page.BASES
        kinds = {"expected", "at_least", "at_most"} & set(row)
        assert len(kinds) == 1
        assert ("tolerance" in row) == (kinds == {"expected"})
        assert row.get("tolerance", 1) > 0
        optional = {"tolerance", "only_in_full", "explained"}
        assert set(row) <= {"quantity", "basis"} | kinds | optional


@pytest.mark.parametrize("name", NAMES)
def test_small_form_is_within_what_is_expected(name):
    found, curves = measured(name, small=True)
    rows = page.check(page.expected(name), found["numbers"], full=False)
    assert rows
    assert not failing(rows)
    assert page.load(name).draw(curves).axes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_full_form_is_within_what_is_expected(name):
    found, _ = measured(name, small=False)
    rows = page.check(page.expected(name), found["numbers"])
    assert not failing(rows)
    assert found["seconds"] < 120  # a page is meant to take less than a minute
    before = page.check(page.expected(name), stored(name)["numbers"])
    assert [row.holds for row in rows] == [row.holds for row in before]


@pytest.mark.parametrize("name", NAMES)
def test_stored_numbers_are_within_what_is_expected(name):
    found = stored(name)
    assert found["full"]
    assert found["seconds"] < 60
    assert not failing(page.check(page.expected(name), found["numbers"]))
    readme = (page.FOLDER / name / "README.md").read_text()
    assert readme == page.page(name, found)
    picture = page.FOLDER / name / "curve.png"
    assert picture.stat().st_size < 60_000


def test_overview_is_up_to_date():
    assert (page.FOLDER / "README.md").read_text() == page_of_pages()


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_number_is_noticed(name):
    """Every single row fails if what it expects is moved beyond its tolerance."""
    claims, numbers = page.expected(name), stored(name)["numbers"]
    for index, row in enumerate(claims["rows"]):
        if row.get("explained"):
            continue
        wrong = copy.deepcopy(claims)
        moved = wrong["rows"][index]
        number = numbers[row["quantity"]]
        if "expected" in row:
            moved["expected"] = number + 1.001 * row["tolerance"]
        elif "at_least" in row:
            moved["at_least"] = number + 1e-9 * max(1, abs(number))
        else:
            moved["at_most"] = number - 1e-9 * max(1, abs(number))
        rows = page.check(wrong, numbers)
        assert [r.quantity for r in rows if not r.holds and not r.explained] == [
            row["quantity"]
        ]


def test_a_missing_number_does_not_hold():
    name = NAMES[0]
    claims, numbers = page.expected(name), dict(stored(name)["numbers"])
    del numbers[claims["rows"][0]["quantity"]]
    assert not page.check(claims, numbers)[0].holds
    assert "| none |" in page.page(name, {**stored(name), "numbers": numbers})


def test_the_recipe_writes_pages(tmp_path, monkeypatch):
    name = "mescheder_dirac_gan"
    monkeypatch.setattr(papers, "run", measured)
    config = dataclasses.replace(papers.SMOKE, out=tmp_path / "p", pages=(name,))
    assert papers.main(config) == {name: "15 of 15 rows hold"}
    assert (tmp_path / "p" / name / "curve.png").stat().st_size > 1000
    assert name in (tmp_path / "p" / "README.md").read_text()
    with pytest.raises(ValueError, match="unknown pages nobody"):
        papers.main(dataclasses.replace(config, pages=("nobody",)))
    with pytest.raises(ValueError, match="unknown page 'nobody'"):
        page.load("nobody")
