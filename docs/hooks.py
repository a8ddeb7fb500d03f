"""Two touches at build time: docstrings' examples and formulas."""

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
