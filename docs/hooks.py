"""Touches at build time: examples, public names, formulas, tables, tutorials."""

import ast
import html
import re

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


class Reading(griffe.Extension):
    """What griffe does not read by itself: `Example:` sections and public names."""

    def __init__(self) -> None:
        """Start with no imported name."""
        super().__init__()
        self._imported: list[griffe.Alias] = []

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Give one object's section `Example:` the title that griffe knows."""
        del kwargs
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )

    def on_alias_instance(self, *, alias: griffe.Alias, node, **kwargs) -> None:
        """Let `from module import name as name` make the name public."""
        del kwargs
        if isinstance(node, ast.ImportFrom):
            self._imported.append(alias)
            if (alias.name, alias.name) in {
                (one.name, one.asname) for one in node.names
            }:
                alias.public = True

    def on_package(self, **kwargs) -> None:
        """Show a public name beside the submodule of the same name, which hides it."""
        del kwargs
        for alias in self._imported:
            members = alias.parent.members
            # A wildcard is gone: the names that it stood for are in its place.
            if alias.is_public and members.get(alias.name, alias) is not alias:
                members[f"{alias.name} itself"] = alias


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
