"""Registries: names, hyphens, and help for the misspelt."""

import pytest

import gamedyn as gd
from gamedyn.registry import Registry


@pytest.fixture
def registry():
    registry = Registry("rule")
    for number, name in enumerate(["extragradient", "past_extragradient", "adam"]):
        registry.add(name, number)
    return registry


def test_order_of_registration(registry):
    assert registry.names() == ("extragradient", "past_extragradient", "adam")
    assert list(registry) == list(registry.names())


@pytest.mark.parametrize("name", ["past_extragradient", "past-extragradient"])
def test_hyphens_are_accepted(registry, name):
    assert registry[name] == 1


@pytest.mark.parametrize(
    ("name", "nearest", "others"),
    [
        ("extragradeint", "extragradient", "adam"),
        ("past-extragrad", "past_extragradient", "adam"),
        ("adma", "adam", "extragradient"),
    ],
)
def test_unknown_names_suggest_the_nearest(registry, name, nearest, others):
    with pytest.raises(ValueError, match=f"unknown rule '{name}'; did you") as caught:
        registry[name]
    assert nearest in str(caught.value)
    assert others not in str(caught.value)


def test_nothing_near_lists_all(registry):
    with pytest.raises(
        ValueError, match="known: extragradient, past_extragradient, adam"
    ):
        registry["zzzzzz"]


def test_the_message_is_one_line(registry):
    with pytest.raises(ValueError, match="unknown") as caught:
        registry["extragradeint"]
    assert "\n" not in str(caught.value)


def test_duplicates_are_refused(registry):
    with pytest.raises(ValueError, match="the rule 'adam' is registered already"):
        registry.add("adam", 7)
    assert registry["adam"] == 2


@pytest.mark.parametrize("table", [gd.rules, gd.games], ids=["rules", "games"])
class TestTheTwoTables:
    def test_names_are_snake_case_and_unique(self, table):
        names = table.names()
        assert len(names) == len(set(names)) > 10
        assert all(name.isidentifier() and name == name.lower() for name in names)
        assert tuple(table.entries()) == names

    def test_entries_have_a_line_and_a_source(self, table):
        for name, entry in table.entries().items():
            assert entry.summary, name
            assert "\n" not in entry.summary, name
            assert entry.source, name

    def test_unknown_names(self, table):
        misspelt = table.names()[0][:-1] + "zz"
        arguments = (0.1,) if table is gd.rules else ()
        with pytest.raises(ValueError, match=f"did you mean.*{table.names()[0]}"):
            table.make(misspelt, *arguments)
