"""The `gamedyn` command."""

import dataclasses
import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

_EXIT_BAD_INPUT = 2


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare update rules on a game: table, curves, phase portrait, predicted rates.

    Every rule gets the same number of gradient evaluations. The game is a registered
    one (`gamedyn list games`), a payoff matrix of yours, or a Python function of yours.

    Examples:
        gamedyn compare bilinear
        gamedyn compare --matrix payoff.csv --simplex
        gamedyn compare --from my_game.py:make_game --rules extragradient optimistic
    """

    game: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="GAME")] = (
        None
    )
    """A registered game; `bilinear` if nothing else is given."""

    rules: tuple[str, ...] = ()
    """Registered rules to compare (`gamedyn list rules`); all that apply by default."""

    steps: int = 4000
    """Budget of gradient evaluations for each rule: a rule that evaluates the field
    twice per step does half as many steps."""

    step_size: str = "auto"
    """One number for all rules, or `auto`: tune each over 41 step sizes from 1e-3/L to
    10/L in one sweep, with the same budget."""

    seeds: int = 1
    """Number of starts (and noise sequences); the table shows medians over them."""

    matrix: Annotated[Path | None, tyro.conf.arg(metavar="FILE.{npy,csv}")] = None
    """A payoff matrix: the row player minimises x' A y, the column player maximises."""

    simplex: bool = False
    """Play the matrix with mixed strategies."""

    source: Annotated[
        str | None, tyro.conf.arg(name="from", metavar="FILE.py:FUNCTION")
    ] = None
    """A function without arguments that returns a Problem, or a Game and its start."""

    noise: float = 0.0
    """Standard deviation of Gaussian noise on every coordinate of the field."""

    seed: int = 0
    """Seed of the random starts, noise and minibatches."""

    x64: bool = True
    """Compute in float64."""

    out: Path | None = None
    """Folder for the results; must not hold any yet. By default the first free one of
    results/GAME, results/GAME-2, ..."""


@dataclasses.dataclass(frozen=True)
class List:
    """Print a registry: names, one line each, and the source."""

    what: Annotated[Literal["games", "rules"], tyro.conf.Positional]
    """Which registry."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; bad input prints one line and gives exit code 2.

    Args:
        arguments: the command line without the program's name; from `sys.argv` if
            `None`.

    Returns:
        The exit code.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    commands = {"compare": Compare, "list": List}
    config = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="gamedyn",
        description="Game dynamics: compare optimizers on games.",
        args=arguments,
    )
    try:
        if isinstance(config, List):
            _list(config.what)
        else:
            _compare(config, shlex.join(["gamedyn", *arguments]))
    except KeyboardInterrupt:
        print("gamedyn: interrupted, nothing was written", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        message = " ".join(str(error).split())
        print(f"gamedyn: error: {message}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


def _console() -> Any:
    """A console that is wide enough for the tables where it leads into a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=126)


def _list(what: str) -> None:
    from rich.table import Table

    from gamedyn import games, rules

    entries: dict[str, Any] = games.entries() if what == "games" else rules.entries()
    table = Table(box=None, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    table.add_column("source")
    for name, entry in entries.items():
        table.add_row(name, entry.summary, entry.source)
    _console().print(table)


def _compare(config: Compare, command: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.measure import Measurement
    from rich.progress import Progress
    from rich.table import Table

    from gamedyn import runtime

    step_size = _step_size(config.step_size)
    for name, value in (("--steps", config.steps), ("--seeds", config.seeds)):
        if value < 1:
            raise ValueError(f"{name} must be a positive number, got {value}")
    runtime.configure(x64=config.x64)

    from gamedyn import report
    from gamedyn.compare import NOTES, applicable, compare, full_field

    problem = _problem(config)
    names = tuple(name for word in config.rules for name in word.split(",") if name)
    out = config.out or _free_folder(problem.info.name)
    console = _console()
    with report.folder(out) as folder:
        with Progress(console=console, transient=True) as progress:
            total = len(names or applicable(problem, problem.game.num_players))
            task = progress.add_task("", total=total)
            done = 0

            def show(name: str) -> None:
                nonlocal done
                progress.update(task, completed=done, description=name)
                done += 1

            comparison = compare(
                problem,
                names,
                evaluations=config.steps,
                step_size=step_size,
                seeds=config.seeds,
                noise=config.noise,
                seed=config.seed,
                progress=show,
            )
        report.write(comparison, folder, full_field(problem)[0], command)
        written = sorted(path.name for path in folder.iterdir())
    numbers = report.footnotes(comparison.rows)
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for title, _ in report.COLUMNS:
        words = title in ("rule", "behaviour", "status")
        table.add_column(title, justify="left" if words else "right", no_wrap=True)
    colours = {"converging": "green", "diverging": "red"}
    for row in comparison.rows:
        table.add_row(
            *report.cells(row, numbers), style=colours.get(row.behaviour, "yellow")
        )
    console.print(report.headline(comparison), highlight=False)
    # A number that is cut off is lost; a line that the terminal wraps is only ugly.
    needed = Measurement.get(console, console.options.update(width=999), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
    console.print(report.LEGEND, highlight=False)
    for key, number in numbers.items():
        console.print(f"[{number}] {NOTES[key]}", markup=False, highlight=False)
    console.print(f"written to {out}: {', '.join(written)}", highlight=False)


def _step_size(text: str) -> Any:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"--step-size must be auto or a number, got {text}") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"--step-size must be positive and finite, got {text}")
    return value


def _problem(config: Compare) -> Any:
    """Build the problem that the command line names."""
    from gamedyn import games

    given = [
        name
        for name, value in (
            ("GAME", config.game),
            ("--matrix", config.matrix),
            ("--from", config.source),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"give one of {' and '.join(given)}, not several")
    if config.simplex and config.matrix is None:
        raise ValueError("--simplex goes with --matrix")
    if config.matrix is not None:
        matrix = read_matrix(config.matrix)
        problem = (
            games.matrix_game(matrix) if config.simplex else games.bilinear(matrix)
        )
        facts = dataclasses.replace(problem.info, name=config.matrix.stem)
        return dataclasses.replace(problem, info=facts)
    if config.source is not None:
        return load_problem(config.source)
    return games.make(config.game or "bilinear")


def read_matrix(path: Path) -> Any:
    """Read a payoff matrix from a file.

    Args:
        path: the file; comma-separated numbers, one row a line, or numpy's format.

    Returns:
        A float64 numpy array of shape `(m, n)`.

    Raises:
        ValueError: if the file does not hold a finite matrix of numbers.
        OSError: if it cannot be read.
    """
    import numpy as np

    if path.suffix not in (".npy", ".csv"):
        raise ValueError(f"{path}: expected a .npy or .csv file")
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:
            rows = [
                [float(cell) for cell in line.split(",")]
                for line in path.read_text("utf-8").splitlines()
                if line.strip()
            ]
            lengths = sorted({len(row) for row in rows})
            if len(lengths) != 1:
                raise ValueError(f"rows of different lengths {lengths}")
            matrix = np.array(rows)
            if 1 in matrix.shape and matrix.size > 1:
                raise ValueError(f"one dimension of {matrix.size} numbers")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} does not hold a matrix of numbers: {error}") from None
    if matrix.dtype.kind not in "iuf":
        raise ValueError(f"{path} does not hold real numbers but {matrix.dtype}")
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{path} holds shape {matrix.shape}, expected two dimensions")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path} holds {np.sum(~np.isfinite(matrix))} NaN or infinity")
    return matrix.astype(np.float64)


def load_problem(source: str) -> Any:
    """Load a user's own problem from `FILE.py:FUNCTION`.

    Args:
        source: the file and the name of a function in it without arguments, which
            returns a `Problem`, or a `Game` and its initial params.

    Returns:
        The problem.

    Raises:
        ValueError: if the file or function does not exist, or returns something else.
    """
    import jax

    from gamedyn.game import Game
    from gamedyn.games import Info, Problem

    file, _, name = source.rpartition(":")
    if not file or not name:
        raise ValueError(f"--from must be FILE.py:FUNCTION, got {source}")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"--from: there is no file {file}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--from: {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # so that it finds its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        kind = type(error).__name__
        raise ValueError(f"--from: {file} fails to load: {kind}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"--from: {file} has no function {name}")
    made = function()
    if isinstance(made, Problem):
        problem = made
    elif isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], Game):
        game, start = made
        problem = Problem(game, jax.tree_util.Partial(_fixed_start, start))
    else:
        raise ValueError(
            f"--from: {name} must return a Problem, or a Game and its initial params, "
            f"got {type(made).__name__}"
        )
    if problem.info == Info():
        facts = Info(
            name=name, summary=f"{name} of {path.name}", source="the user's own"
        )
        problem = dataclasses.replace(problem, info=facts)
    return problem


def _fixed_start(start: Any, key: Any) -> Any:
    """Start at the user's point; further seeds start in its neighbourhood."""
    import jax
    from jax.flatten_util import ravel_pytree

    flat, unravel = ravel_pytree(start)
    if key is None:
        return unravel(flat)
    return unravel(flat + jax.random.normal(key, flat.shape, flat.dtype))


def _free_folder(name: str) -> Path:
    """The first folder of results/NAME, results/NAME-2, ... that is still free."""
    root, number = Path("results"), 1
    while True:
        path = root / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            return path
        number += 1


if __name__ == "__main__":
    sys.exit(main())
