"""The registries as tables: complete, in the documentation and on the command line."""

import re
from pathlib import Path

import pytest

import gamedyn as gd
from gamedyn import methods, tables
from gamedyn.diffusion import samplers, schedules
from gamedyn.gan import losses, penalties

DOCS = Path(__file__).parent.parent / "docs"
REGISTRIES = {
    "games": gd.games,
    "rules": gd.rules,
    "fields": gd.fields,
    "methods": methods,
    "losses": losses,
    "penalties": penalties,
    "schedules": schedules,
    "samplers": samplers,
}
# What docs/hooks.py replaces.
MARK = re.compile(r"<!-- table: (\w+)(?:, linked to (\S+))? -->")


def row_names(text):
    return re.findall(r"^\| \[?`([^`]+)`", text, re.MULTILINE)


@pytest.mark.parametrize("name", REGISTRIES)
def test_a_table_has_every_entry(name):
    table, registry = tables.make(name), REGISTRIES[name]
    assert tuple(row[0] for row in table.rows) == registry.names()
    for first, entry in registry.entries().items():
        row = next(row for row in table.rows if row[0] == first)
        assert len(row) == len(table.columns)
        assert row[1].startswith(entry.summary)
        assert row[-1] == entry.source


@pytest.mark.parametrize("name", tables.names())
def test_markdown_is_one_row_a_name_and_one_cell_a_column(name):
    text = tables.markdown(name)
    table = tables.make(name)
    assert row_names(text) == [row[0] for row in table.rows]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    merged = ["formula", "source"][: 1 + (table.columns == tables.METHOD_COLUMNS)]
    cells = len(set(table.columns) - set(merged))
    assert {line.count("|") for line in lines} == {cells + 1}


def test_every_registered_name_is_in_the_documentation():
    pages = {path: path.read_text() for path in DOCS.rglob("*.md")}
    marks = [mark for text in pages.values() for mark in MARK.findall(text)]
    by_hand = {name for text in pages.values() for name in row_names(text)}
    shown = [row_names(tables.markdown(name, link=link)) for name, link in marks]
    shown = {name for names in shown for name in names}
    for registry in REGISTRIES.values():
        assert set(registry.names()) <= shown
        assert not set(registry.names()) & by_hand
    # Whatever is registered when the pages are built is on them.
    entry = gd.rules.entry("extragradient")
    gd.rules.register(
        "newcomer",
        entry.make,
        family="another",
        summary=entry.summary,
        formula=entry.formula,
        source=entry.source,
        guarantee="|a| < b",
        needs=("finite sum",),
    )
    try:
        text = tables.markdown("rules")
    finally:
        gd.rules.unregister("newcomer")
    line = next(line for line in text.splitlines() if "`newcomer`" in line)
    assert "finite sum" in line
    assert "&#124;a&#124; &lt; b" in line
    assert "newcomer" not in tables.markdown("rules")


def test_links_lead_to_the_builders():
    (link,) = [
        mark[1]
        for path in DOCS.rglob("*.md")
        for mark in MARK.findall(path.read_text())
        if mark[0] == "games"
    ]
    text = tables.markdown("games", link=link)
    assert f"[`bilinear`]({link.format('bilinear')})" in text
    assert (DOCS / link.split("#")[0]).is_file()


def test_costs_in_words():
    rows = {row[0]: row for row in tables.make("methods").rows}
    costs = slice(3, 6)
    assert rows["extragradient"][costs] == ("2", "0", "2")
    assert rows["alternating"][costs] == ("1", "0", "1.21")
    assert rows["proximal_point"][costs] == ("d + 2", "0", "6.7")
    assert rows["competitive_gradient"][3] == "4d + 4, at most 404"
    assert rows["interior_point"][5] == "dense"
    assert rows["consensus"][costs] == ("1", "1", "2.8")
    assert rows["ode_gan"][costs] == ("4", "4", "6.6")
    fields = {row[0]: row for row in tables.make("fields").rows}
    assert fields["symplectic"][5] == "2.3; general-sum 4.35"
    assert fields["unrolled"][5] == "3.1 + 1.67 for each further turn"


def test_unknown_tables_are_an_error():
    with pytest.raises(ValueError, match="unknown table 'rule'; known: games, rules"):
        tables.make("rule")
