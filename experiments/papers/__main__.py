"""Run pages and write them where they lie, the overview included."""

import argparse
import json
import sys

from experiments.papers import verdict
from experiments.papers.page import FOLDER, check, expected, names, overview, run, write

HEADING = """# Published results, reproduced

Each page holds a paper's claim against what gamedyn measures: numbers with the
tolerance that was stated before, and, where a paper shows a curve only, a claim in
words that was made an inequality before the first run. A row that does not hold says
so. The table shows one row of each page.

"""

FOOTER = """
`python -m experiments.papers` runs all pages and writes them anew, `python -m
experiments.papers NAME ...` some of them. The numbers of a page are in its
`measured.json`; `tests/test_papers.py` holds them against `expected.json`.
"""


def page_of_pages() -> str:
    """Write the overview of the stored measurements."""
    found = {
        name: json.loads((FOLDER / name / "measured.json").read_text())
        for name in names()
        if (FOLDER / name / "measured.json").exists()
    }
    return HEADING + overview(found) + FOOTER


def main(arguments: list[str]) -> int:
    """Run the command.

    Args:
        arguments: of the command line.

    Returns:
        1 if a row does not hold and its page does not say why, else 0.
    """
    parser = argparse.ArgumentParser(prog="experiments.papers", description=__doc__)
    parser.add_argument("pages", nargs="*", metavar="NAME", help="pages, all if none")
    parser.add_argument(
        "--smoke", action="store_true", help="the sizes of the tests; write nothing"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.pages) - set(names()):
        known = ", ".join(names())
        parser.error(f"no page {', '.join(sorted(unknown))}; there are {known}")
    surprises = 0
    for name in options.pages or names():
        measured, curves = run(name, small=options.smoke)
        rows = check(expected(name), measured["numbers"], full=measured["full"])
        surprises += sum(not row.holds and not row.explained for row in rows)
        print(
            f"{name}: {verdict(name, measured)} ({measured['seconds']} s)", flush=True
        )
        if not options.smoke:
            write(name, measured, curves, FOLDER / name)
            (FOLDER / "README.md").write_text(page_of_pages())
    return int(surprises > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
