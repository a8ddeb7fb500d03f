"""Touches at build time: docstrings' examples, formulas, tables, tutorials."""

import html
import re

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


class Examples(griffe.Extension):
    """Reads an `Example:` section like `Examples:`, the title that griffe knows."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Rename the section of one object's docstring."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )


_MARK = re.compile(r"<!-- table: (\w+)(?:, linked to (\S+))? -->")


def on_page_markdown(markdown: str, **kwargs) -> str:
    """Put the registries' tables in the places that ask for them."""
    del kwargs
    if not _MARK.search(markdown):
        return markdown
    from gamedyn import tables

    return _MARK.sub(lambda m: tables.markdown(m[1], link=m[2] or ""), markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make a page of every tutorial: its comments are the text, its code is shown."""
    for file in list(files):
        if file.src_uri.startswith("tutorials/") and file.src_uri.endswith(".py"):
            page = file.src_uri.removesuffix(".py") + ".md"
            text = _page_of(file.content_string)
            files.append(File.generated(config, page, content=text))
    return files


def _page_of(source: str) -> str:
    """Turn a script in cells, `# %%`, into Markdown."""
    _, docstring, cells = source.split('"""', 2)
    title, *rest = docstring.strip().split("\n", 1)
    parts = [f"# {title.removesuffix('.')}", *rest]
    for cell in cells.split("\n# %%")[1:]:
        kind, _, body = cell.partition("\n")
        if kind.strip() == "[markdown]":
            lines = body.strip().split("\n")
            parts.append("\n".join(re.sub("^# ?", "", line) for line in lines))
        else:
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


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
