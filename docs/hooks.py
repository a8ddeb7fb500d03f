"""Three touches at build time: docstrings' examples, formulas, the table of games."""

import html
import re

import griffe
from latex2mathml.converter import convert


class Examples(griffe.Extension):
    """Reads an `Example:` section like `Examples:`, the title that griffe knows."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rename the section of one object's docstring."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )


def on_page_markdown(markdown: str, **kwargs) -> str:
    """Put the registry of games in the place that asks for it."""
    del kwargs
    mark = "<!-- table of games -->"
    if mark not in markdown:
        return markdown
    from gamedyn import games

    head = "name", "players", "domain", "solution", "what it is", "what it shows"
    rows = [head, ("---",) * len(head)]
    for name, game in games.entries().items():
        kind = "zero-sum" if game.zero_sum else "general"
        players = f"{game.num_players} {kind}" + ", finite sum" * game.finite_sum
        facts = game.domain, game.solution, game.summary, game.shows
        rows.append((f"[`{name}`](#gamedyn.games.{name})", players, *facts))
    kinds = "".join(f"- {kind}: {words}.\n" for kind, words in games.SOLUTIONS.items())
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return markdown.replace(mark, f"{table}\nThe kinds of solution:\n\n{kinds}")


_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)


def on_page_content(content: str, **kwargs) -> str:
    """Replace TeX by MathML, so that a page needs no script to show its formulas."""
    del kwargs

    def render(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        return convert(html.unescape(match[2]), display=display)

    return _FORMULA.sub(render, content)
