"""The `gamedyn` command."""

import dataclasses
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

_EXIT_BAD_INPUT = 2


@dataclasses.dataclass(frozen=True)
class _OneGame:
    """What the commands that work on one game share."""

    game: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="GAME")] = (
        None
    )
    """A registered game; `bilinear` if nothing else is given."""

    matrix: Annotated[Path | None, tyro.conf.arg(metavar="FILE.{npy,csv}")] = None
    """A payoff matrix: the row player minimises x' A y, the column player maximises."""

    simplex: bool = False
    """Play the matrix with mixed strategies."""

    source: Annotated[
        str | None, tyro.conf.arg(name="from", metavar="FILE.py:FUNCTION")
    ] = None
    """A function without arguments that returns a Problem, or a Game and its start."""

    x64: bool = True
    """Compute in float64."""

    out: Path | None = None
    """Folder for the results; must not hold any yet. By default the first free one of
    results/GAME, results/GAME-2, ..."""


@dataclasses.dataclass(frozen=True)
class Compare(_OneGame):
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
    10/L in one sweep, with the same budget."""

    seeds: int = 1
    """Number of starts (and noise sequences); the table shows medians over them."""

    noise: float = 0.0
    """Standard deviation of Gaussian noise on every coordinate of the field."""

    seed: int = 0
    """Seed of the random starts, noise and minibatches."""


@dataclasses.dataclass(frozen=True)
class Analyse(_OneGame):
    """Say what a point of a game is, with proof where there is one, and what is open.

    Stationarity, every player's own curvature, stability of the gradient flow and of a
    rule, in words and numbers; the eigenvalues of J in the complex plane, with the
    region in which the rule converges. On constrained domains: the natural residual
    and, in matrix games, the exploitability.

    Examples:
        gamedyn analyse quadratic --rule extragradient --step-size 0.05
        gamedyn analyse --from my_game.py:make_game --at 0.5,-1 --polish 10
        gamedyn analyse dirac-gan --taus 0.1 1 10
    """

    at: Annotated[
        str, tyro.conf.arg(metavar="{equilibrium[:K],X0,X1,...,FILE.npz}")
    ] = "equilibrium"
    """The point: the known solutions, or the K-th of them, counted from 0; or numbers,
    all players' parameters in order; or a file with one array per parameter array, in
    order."""

    rule: str | None = None
    """A rule (`gamedyn list rules`), or another method (`gamedyn list methods`), whose
    local convergence to examine."""

    step_size: str | None = None
    """Its step size."""

    error: float = 0.0
    """What to allow for errors of differentiation: an absolute bound on every own
    Hessian and on J, in the spectral norm."""

    polish: int = 0
    """The most Newton steps to take towards a zero of the field beforehand."""

    taus: tuple[float, ...] = ()
    """Ratios of time scales, the second player moving so many times as fast."""

    own_cost_convex: bool = False
    """Your word that every loss is convex in the player's own parameters: a stationary
    point is then a Nash equilibrium."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train by a recipe: a name under experiments/, or the path of your own module.

    Every recipe has options of its own: `gamedyn train RECIPE --help`. All of them take

        --resume DIR   go on with the run in DIR, with its options unless given anew
        --smoke        a run of a few seconds

    Your own module needs a dataclass Config, with `out: Path`, and main(config).

    Examples:
        gamedyn train dcgan --data mnist --rule extragradient --steps 2000
        gamedyn train dcgan --resume results/dcgan --steps 4000
        gamedyn train my_recipe.py --out results/mine
    """

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """The recipe."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draw samples from what a run has trained: pictures and an array.

    Options of the recipe may follow the folder, in place of those of the run.

    Examples:
        gamedyn sample results/dcgan --number 100
        gamedyn sample results/ddpm --sampler ddim --sampling-steps 50
        gamedyn sample results/text_to_image --prompt "one red cross at the top"
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""

    number: int = 64
    """How many."""

    seed: int = 0
    """Of the latents."""

    prompt: str | None = None
    """What they are to show, for recipes that understand words."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure what a run has trained by the metrics of its recipe.

    Options of the recipe may follow the folder, in place of those of the run.

    Examples:
        gamedyn evaluate results/dcgan
        gamedyn evaluate results/ddpm --guidance 1
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""


@dataclasses.dataclass(frozen=True)
class List:
    """Print a registry: names, one line each, and the source."""

    what: Annotated[
        Literal[
            "games",
            "rules",
            "fields",
            "methods",
            "losses",
            "penalties",
            "schedules",
            "samplers",
            "recipes",
        ],
        tyro.conf.Positional,
    ]
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
    command = shlex.join(["gamedyn", *arguments])
    commands = {
        "compare": Compare,
        "analyse": Analyse,
        "train": Train,
        "sample": Sample,
        "evaluate": Evaluate,
        "list": List,
    }
    own, of_recipe = _split(arguments)
    config = tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="gamedyn",
        description="Game dynamics: compare optimizers, analyse equilibria, train.",
        args=own,
    )
    try:
        match config:
            case List():
                _list(config.what)
            case Analyse():
                _analyse(config, command)
            case Compare():
                _compare(config, command)
            case Train():
                _train(config.recipe, of_recipe)
            case Sample():
                _sample(config, of_recipe)
            case Evaluate():
                _evaluate(config, of_recipe)
    except KeyboardInterrupt:
        print("gamedyn: interrupted, nothing was written", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        message = " ".join(str(error).split())
        print(f"gamedyn: error: {message}", file=sys.stderr)
        return _EXIT_BAD_INPUT
    return 0


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Tell the command's own options from those that are the recipe's business."""
    match arguments:
        case ["train", *_]:
            return arguments[:2], arguments[2:]
        case ["sample" | "evaluate", run, *options] if not run.startswith("-"):
            import argparse

            known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
            known.add_argument("-h", "--help", action="store_true")
            names = ("number", "seed", "prompt")
            for name in names:
                known.add_argument(f"--{name}")
            ours, others = known.parse_known_args(options)
            if ours.help:
                return [arguments[0], "--help"], []
            given = {name: getattr(ours, name) for name in names}
            words = [
                (f"--{name}", value)
                for name, value in given.items()
                if value is not None
            ]
            return [*arguments[:2], *(word for pair in words for word in pair)], others
        case _:
            return arguments, []


def _console() -> Any:
    """A console that is wide enough for the tables where it leads into a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=126)


def _list(what: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, header_style="bold")
    shown.add_column("name", no_wrap=True)
    if what == "recipes":
        from gamedyn import recipes

        shown.add_column("what it is", overflow="fold")
        for name, summary in recipes.summaries().items():
            shown.add_row(name, summary)
        _console().print(shown)
        return

    from gamedyn import tables

    table = tables.make(what)
    if table.columns == tables.METHOD_COLUMNS:
        # Nine columns are too many for a terminal: all words stand in one.
        shown.add_column("what it is", overflow="fold")
        for title in ("gradients", "products", "flops"):
            shown.add_column(title, overflow="fold", max_width=14)
        for name, summary, formula, *costs, needs, proven, source in table.rows:
            lines = [formula, f"proven: {proven}", f"needs: {needs}" * bool(needs)]
            rest = "\n".join(escape(line) for line in (*lines, source) if line)
            shown.add_row(name, f"{escape(summary)}\n[dim]{rest}[/dim]\n", *costs)
    else:
        for title in table.columns[1:]:
            shown.add_column(title, overflow="fold")
        for name, *cells in table.rows:
            shown.add_row(name, *map(escape, cells))
    _console().print(shown)
    for line in table.legend:
        print(line)


def _train(recipe: str, arguments: list[str]) -> None:
    import argparse

    from gamedyn import recipes

    general = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    general.add_argument("--resume", type=Path)
    general.add_argument("--smoke", action="store_true")
    options, own = general.parse_known_args(arguments)

    from gamedyn import runtime

    runtime.configure(keep_memory=True, eigen_products=True)
    module = recipes.load(recipe)
    if options.resume is not None:
        stored, default = recipes.read_record(options.resume)
        if stored.__file__ != module.__file__:
            raise ValueError(
                f"{options.resume} is a run of {stored.__name__}, not of {recipe}"
            )
        if not hasattr(default, "resume"):
            raise ValueError(f"{recipe} cannot resume a run")
        default = dataclasses.replace(default, resume=True)
    else:
        default = module.Config()
        if options.smoke:
            if not hasattr(module, "SMOKE"):
                raise ValueError(f"{recipe} has no short run")
            default = module.SMOKE
        default = dataclasses.replace(default, out=_free_folder(Path(recipe).stem))
    description = f"""{module.__doc__ or recipe}

    --resume DIR goes on with the run in DIR; --smoke is a run of a few seconds."""
    config = tyro.cli(
        module.Config,
        prog=f"gamedyn train {recipe}",
        description=description,
        args=own,
        default=default,
    )
    _print_summary(recipes.run(module, config))
    print(f"the run: {config.out}")


def _sample(config: Sample, of_recipe: list[str]) -> None:
    import inspect

    if config.number < 1:
        raise ValueError(f"--number must be positive, got {config.number}")
    module, run = _changed("sample", config.run, of_recipe)
    if not hasattr(module, "sample"):
        raise ValueError(f"the recipe of {config.run} draws no samples")
    asked = {}
    if config.prompt is not None:
        if "prompt" not in inspect.signature(module.sample).parameters:
            raise ValueError(f"the recipe of {config.run} understands no words")
        asked["prompt"] = config.prompt
    for path in module.sample(run, config.number, config.seed, **asked):
        print(path)


def _changed(command: str, run: Path, of_recipe: list[str]) -> tuple[Any, Any]:
    """Read the recipe of a run and its options, some of them given anew."""
    from gamedyn import recipes

    module, stored = recipes.read_record(run)
    if not of_recipe:
        return module, stored
    given = tyro.cli(
        module.Config,
        prog=f"gamedyn {command} {run}",
        description="Options of the recipe, given anew.",
        args=of_recipe,
        default=stored,
    )
    return module, given


def _evaluate(config: Evaluate, of_recipe: list[str]) -> None:
    module, run = _changed("evaluate", config.run, of_recipe)
    if not hasattr(module, "evaluate"):
        raise ValueError(f"the recipe of {config.run} has no metrics")
    _print_summary(module.evaluate(run))


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for name, value in summary.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(escape(name), escape(shown))
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

    from gamedyn.workbench import report
    from gamedyn.workbench.compare import NOTES, applicable, compare
    from gamedyn.workbench.race import full_field

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


def _analyse(config: Analyse, command: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from gamedyn import runtime

    if (config.rule is None) != (config.step_size is None):
        raise ValueError("--rule and --step-size belong together, got only one")
    step_size = None
    if config.step_size is not None:
        step_size = _positive("--step-size", config.step_size)
    runtime.configure(x64=config.x64)

    from gamedyn.analyse import analyse
    from gamedyn.workbench import report

    problem = _problem(config)
    points = read_points(problem, config.at)
    out = config.out or _free_folder(problem.info.name)
    with report.folder(out) as folder:
        analysis = analyse(
            problem,
            points,
            rule=config.rule,
            step_size=step_size,
            error=config.error,
            polish=config.polish,
            taus=config.taus,
            own_cost_convex=config.own_cost_convex,
        )
        report.write_analysis(analysis, folder, command)
        written = sorted(path.name for path in folder.iterdir())
    console = _console()
    info = problem.info
    console.print(f"{info.name}: {info.summary}", markup=False, highlight=False)
    for finding in analysis.findings:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        last = None
        for key, text in finding.lines():
            table.add_row(Text("" if key == last else key), Text(text))
            last = key
        console.print(f"\n{finding.label}", markup=False, style="bold underline")
        console.print(table)
    console.print(f"\nwritten to {out}: {', '.join(written)}", highlight=False)


def _step_size(text: str) -> Any:
    return text if text == "auto" else _positive("--step-size", text, "auto or ")


def _positive(option: str, text: str, otherwise: str = "") -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{option} must be {otherwise}a number, got {text}") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{option} must be positive and finite, got {text}")
    return value


def _problem(config: _OneGame) -> Any:
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


def read_points(problem: Any, text: str) -> list[tuple[str, Any]]:
    """Find the points of a problem that a text names.

    Args:
        problem: the problem.
        text: `equilibrium`, `equilibrium:K`, all parameters as numbers separated by
            commas, or a `.npz` file with one array per parameter array, in order.

    Returns:
        What to call each point, and the point.

    Raises:
        ValueError: if no solution is known, or the numbers do not fit the game.
        OSError: if the file cannot be read.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.flatten_util import ravel_pytree

    word, _, index = text.partition(":")
    if word == "equilibrium":
        return _known_solutions(problem, index, text)
    start = jax.eval_shape(problem.init, None)
    leaves, treedef = jax.tree.flatten(start)
    if text.endswith(".npz"):
        arrays = _read_arrays(Path(text))
        if len(arrays) != len(leaves):
            raise ValueError(
                f"{text} holds {len(arrays)} arrays, the game has {len(leaves)}"
            )
        for (name, array), leaf in zip(arrays, leaves, strict=True):
            if array.shape != leaf.shape:
                raise ValueError(
                    f"{text}: {name} has shape {array.shape}, the game expects "
                    f"{leaf.shape}"
                )
            if not np.isfinite(array).all():
                bad = np.sum(~np.isfinite(array))
                raise ValueError(f"{text}: {name} holds {bad} NaN or infinity")
        made = [jnp.asarray(array) for _, array in arrays]
        return [(f"the point of {Path(text).name}", jax.tree.unflatten(treedef, made))]
    try:
        numbers = np.array([float(number) for number in text.split(",")])
    except ValueError:
        raise ValueError(
            "--at must be equilibrium, numbers separated by commas, or a .npz file, "
            f"got {text}"
        ) from None
    size = sum(leaf.size for leaf in leaves)
    if numbers.size != size:
        raise ValueError(f"--at has {numbers.size} numbers, the game has {size}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"--at must be finite, got {text}")
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), start)
    flat, unravel = ravel_pytree(zeros)
    return [("the point given", unravel(jnp.asarray(numbers, flat.dtype)))]


def _known_solutions(problem: Any, index: str, text: str) -> list[tuple[str, Any]]:
    """All known solutions of a problem, or the one of an index in words."""
    several = len(problem.solutions)
    if not several:
        raise ValueError(
            f"no solution of {problem.info.name} is known; give a point: --at "
            "x0,x1,... or --at FILE.npz"
        )
    if text == "equilibrium":
        chosen = range(several)
    elif index.isdecimal() and int(index) < several:
        chosen = [int(index)]
    else:
        raise ValueError(
            f"{problem.info.name} has {several} known solutions, counted from 0; "
            f"got --at {text}"
        )
    return [
        ("the known solution" if several == 1 else f"solution {k}", solution)
        for k, solution in enumerate(problem.solutions)
        if k in chosen
    ]


def _read_arrays(path: Path) -> list[tuple[str, Any]]:
    """The arrays of a .npz file, in order, as floating-point numbers."""
    import zipfile

    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it is not a .npz file")
        with loaded as file:
            names = list(file.files)
            numbered = [name for name in names if re.fullmatch(r"arr_\d+", name)]
            if len(numbered) == len(names):
                names.sort(key=lambda name: int(name.removeprefix("arr_")))
            arrays = [(name, file[name]) for name in names]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold arrays of numbers: {error}") from None
    for name, array in arrays:
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{path}: {name} holds {array.dtype}, not real numbers")
    return [
        (name, array if array.dtype.kind == "f" else array.astype(np.float64))
        for name, array in arrays
    ]


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

    from gamedyn import recipes
    from gamedyn.game import Game
    from gamedyn.games import Info, Problem

    file, _, name = source.rpartition(":")
    if not file or not name:
        raise ValueError(f"--from must be FILE.py:FUNCTION, got {source}")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"--from: there is no file {file}")
    try:
        module = recipes.import_path(path)
    except ValueError as error:
        raise ValueError(f"--from: {error}") from error
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
