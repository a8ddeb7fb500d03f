"""The order of the modules: no circle, no arrow up, read from the sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up. A module may import those of its own line and of lines above it;
# the longest name that fits a module says where it is.
LAYERS = (
    (
        "gamedyn._moved",
        "gamedyn.checks",
        "gamedyn.files",
        "gamedyn.registry",
        "gamedyn.seeds",
        "gamedyn.text",
    ),
    ("gamedyn.data",),  # readers and sets know arrays and files, nothing of games
    ("gamedyn.game", "gamedyn.loops", "gamedyn.trees", "gamedyn.transformations"),
    ("gamedyn.treeplex", "gamedyn.geometry"),
    ("gamedyn.fields",),
    ("gamedyn.rules",),
    ("gamedyn.methods", "gamedyn.solve"),
    ("gamedyn.sweep", "gamedyn.divergences", "gamedyn.games"),
    ("gamedyn.analysis",),
    ("gamedyn",),  # the package's own names, those that are not loaded on first use
    ("gamedyn.nets",),
    ("gamedyn.gan", "gamedyn.diffusion"),
    ("gamedyn.metrics",),
    ("gamedyn.runtime", "gamedyn.train"),
    (
        "gamedyn.workbench",
        "gamedyn.plot",
        "gamedyn.recipes",
        "gamedyn.plugins",
        "gamedyn.tables",
    ),
    ("gamedyn.commands", "gamedyn.cli"),
    ("experiments", "benchmarks"),
)

# Old paths of modules that moved: they may point anywhere.
MOVED = "from gamedyn._moved import forward"

FOLDERS = ("gamedyn", "experiments", "benchmarks")


def module_name(path, root=ROOT):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root=ROOT):
    """Every module's name with its source, but for the old paths."""
    paths = {module_name(p, root): p for f in FOLDERS for p in (root / f).rglob("*.py")}
    texts = {name: path.read_text() for name, path in paths.items()}
    packages = {name for name, path in paths.items() if path.stem == "__init__"}
    # Such a module is a docstring and two statements.
    return {
        n: t for n, t in texts.items() if MOVED not in t or t.count("\n") > 30
    }, packages


def is_typing_only(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(name, source, modules, packages):
    """Name the modules that one module imports, wherever in it, typing apart."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if is_typing_only(child):
                for branch in child.orelse:
                    yield from walk(branch)
            else:
                yield child
                yield from walk(child)

    for node in walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                own = name.split(".") + ["."] * (name in packages)
                parent = own[: len(own) - node.level]
                base = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                target = full if full in modules else base
                if target in modules and target != name:
                    yield target


def graph(root=ROOT):
    texts, packages = sources(root)
    return {n: set(imports(n, t, texts, packages)) for n, t in texts.items()}


def layer(module):
    fits = [
        (len(unit), number)
        for number, units in enumerate(LAYERS)
        for unit in units
        if module == unit or module.startswith(unit + ".")
    ]
    return max(fits)[1]


def arrows_up(edges):
    return sorted(
        f"{name} imports {target}"
        for name, targets in edges.items()
        for target in targets
        if layer(target) > layer(name)
    )


def circles(edges):
    """Find the sets of modules that import one another (Tarjan, 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in edges[node]:
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in edges:
        if node not in index:
            visit(node)
    return found


def test_no_arrow_points_up():
    assert arrows_up(graph()) == []


def test_no_modules_import_one_another():
    assert circles(graph()) == []


def test_every_unit_is_there():
    """A name in the table that no module has would order nothing."""
    names = sources()[0]
    for units in LAYERS:
        for unit in units:
            assert any(n == unit or n.startswith(unit + ".") for n in names), unit


def test_no_module_grows_beyond_reading():
    lengths = {n: t.count("\n") for n, t in sources()[0].items() if "gamedyn" in n}
    assert {n: k for n, k in lengths.items() if k > 700} == {}


@pytest.mark.parametrize(
    ("line", "arrows", "rings"),
    [
        ("from gamedyn import rules", 1, 0),
        ("def f():\n    from gamedyn.rules.base import Rule", 1, 0),
        ("from .rules import base", 1, 0),
        ("from gamedyn.solve import x", 0, 1),
        ("if TYPE_CHECKING:\n    from gamedyn import rules", 0, 0),
        ("'''Text: from gamedyn import rules'''", 0, 0),
    ],
)
def test_planted_imports_are_seen(tmp_path, line, arrows, rings):
    """In a small house: fields below rules, sweep and solve side by side."""
    package = tmp_path / "gamedyn"
    (package / "rules").mkdir(parents=True)
    for path, text in {
        "__init__.py": "",
        "rules/__init__.py": "from gamedyn.rules.base import Rule",
        "rules/base.py": "",
        "methods.py": line if rings else "",
        "solve.py": "from gamedyn import methods",
        "fields.py": "" if rings else line,
    }.items():
        (package / path).write_text(text)
    edges = graph(tmp_path)
    assert len(arrows_up(edges)) == arrows
    assert len(circles(edges)) == rings
