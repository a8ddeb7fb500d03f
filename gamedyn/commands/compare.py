"""`gamedyn compare`: rules side by side on one game."""

import dataclasses
import sys

from gamedyn.commands.problems import OneGame, problem_of
from gamedyn.commands.shared import console, free_folder, load_plugins, positive
from gamedyn.text import for_terminal


@dataclasses.dataclass(frozen=True)
class Compare(OneGame):
    """Compare update rules on a game: table, curves, phase portrait, predicted rates.

    Every rule gets the same number of gradient evaluations. The game is a registered
    one (`gamedyn list games`), a payoff matrix of yours, or a Python function of yours.

    Examples:
        gamedyn compare bilinear
        gamedyn compare --matrix payoff.csv --simplex
        gamedyn compare --from my_game.py:make_game --rules extragradient optimistic
    """

    rules: tuple[str, ...] = ()
    """Rules to compare (`gamedyn list rules`) or other methods (`gamedyn list
    methods`); all rules that apply by default."""

    steps: int = 4000
    """Budget of gradient evaluations for each rule: a rule that evaluates the field
    twice per step does half as many steps."""

    step_size: str = "auto"
    """One number for all rules, or `auto`: tune each over 41 step sizes from 1e-3/L to
    10/L in one sweep, with the same budget, and over up to three more decades where
    the best was at the end."""

    seeds: int = 1
    """Number of starts (and noise sequences); the table shows medians over them."""

    noise: float = 0.0
    """Standard deviation of Gaussian noise on every coordinate of the field."""

    seed: int = 0
    """Seed of the random starts, noise and minibatches."""


def run(config: Compare, command: str) -> None:
    """Compare, print the table, write the folder.

    Args:
        config: the options.
        command: the command line, for the report.
    """
    from rich.box import SIMPLE_HEAD
    from rich.measure import Measurement
    from rich.progress import Progress
    from rich.table import Table

    from gamedyn import files, runtime

    # Bad numbers are refused before jax starts.
    step_size = config.step_size
    if step_size != "auto":
        step_size = positive("--step-size", step_size, "auto or ")
    for name, value in (("--steps", config.steps), ("--seeds", config.seeds)):
        if value < 1:
            raise ValueError(f"{name} must be a positive number, got {value}")
    runtime.configure(x64=config.x64)
    load_plugins(config.plugins)

    from gamedyn.workbench import report, results
    from gamedyn.workbench.compare import applicable, compare
    from gamedyn.workbench.mean_field import full_field

    # Compare, into a folder that appears whole or not at all.
    problem = problem_of(config)
    names = tuple(name for word in config.rules for name in word.split(",") if name)
    if config.rules and not names:
        raise ValueError("--rules names no rule")
    out = config.out or free_folder(problem.info.name)
    shown = console()
    with files.folder(out) as folder:
        with Progress(console=shown, transient=True) as progress:
            task = progress.add_task("", total=len(names or applicable(problem)))
            done = 0

            def show(name: str) -> None:
                nonlocal done
                progress.update(task, completed=done, description=name)
                done += 1

            comparison = compare(
                problem,
                names or None,
                evaluations=config.steps,
                step_size=step_size,
                seeds=config.seeds,
                noise=config.noise,
                seed=config.seed,
                progress=show,
            )
        field, _ = full_field(problem)
        for failure in report.write(comparison, folder, field, command):
            print(f"gamedyn: warning: {failure}", file=sys.stderr)
        written = sorted(path.name for path in folder.iterdir())

    # The table.
    numbers = results.footnotes(comparison.rows)
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for title, _ in results.columns(comparison):
        words = title in ("rule", "behaviour", "status")
        table.add_column(title, justify="left" if words else "right", no_wrap=True)
    colours = {"converging": "green", "diverging": "red"}
    for row in comparison.rows:
        table.add_row(
            *map(for_terminal, results.cells(row, numbers)),
            style=colours.get(row.behaviour, "yellow"),
        )
    shown.print(for_terminal(results.headline(comparison)))
    # A number that is cut off is lost; a line that the terminal wraps is only ugly.
    needed = Measurement.get(shown, shown.options.update(width=999), table).maximum
    shown.width = max(shown.width, needed)
    shown.print(table)

    # What its marks mean, and where the files are.
    shown.print(results.LEGEND)
    for key, number in numbers.items():
        shown.print(f"[{number}] {results.NOTES[key]}")
    shown.print(f"written to {for_terminal(out)}: {', '.join(written)}")
