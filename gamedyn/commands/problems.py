"""The game that a command works on: registered, a matrix, or a function of yours."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from gamedyn.commands.shared import PluginFiles


@dataclasses.dataclass(frozen=True)
class OneGame:
    """The options of the commands that work on one game."""

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

    plugins: PluginFiles = ()
    """A file that registers games, rules, fields or methods of your own."""


def problem_of(config: OneGame) -> Any:
    """Build the problem that the command line names.

    Args:
        config: the options; at most one of game, matrix and function is given.

    Returns:
        The problem.

    Raises:
        ValueError: if several are given, or the one given is not good.
        OSError: if a file cannot be read.
    """
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


_MOST_MATRIX = 2**30  # bytes


def read_matrix(path: Path) -> Any:
    """Read a payoff matrix from a file.

    Args:
        path: the file; comma-separated numbers, one row a line (`data.readers.read_csv`
            says more), or numpy's format; at most 1 GiB.

    Returns:
        A float64 numpy array of shape `(m, n)`.

    Raises:
        ValueError: if the file does not hold a finite matrix of numbers; of text, line
            and column are named.
        OSError: if it cannot be read.
    """
    import numpy as np

    from gamedyn.data.arrays import read_csv, read_npy

    if path.suffix not in (".npy", ".csv"):
        raise ValueError(f"{path}: expected a .npy or .csv file")
    try:
        if path.suffix == ".npy":
            matrix = read_npy(path, most=_MOST_MATRIX)
        else:
            matrix = read_csv(path)
            if 1 in matrix.shape and matrix.size > 1:
                raise ValueError(f"one dimension of {matrix.size} numbers")
    except ValueError as error:
        raise ValueError(f"{path} does not hold a matrix of numbers: {error}") from None
    if matrix.dtype.kind not in "iuf":
        raise ValueError(f"{path} does not hold real numbers but {matrix.dtype}")
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{path} holds shape {matrix.shape}, expected two dimensions")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path} holds {np.sum(~np.isfinite(matrix))} NaN or infinity")
    converted = matrix.astype(np.float64)
    if not np.isfinite(converted).all():
        raise ValueError(f"{path} holds numbers too large for a float64")
    return converted


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
    from gamedyn import recipes
    from gamedyn.game import Game
    from gamedyn.games import Info, Problem
    from gamedyn.recipes import frames
    from gamedyn.workbench.problems import as_problem

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
    try:
        made = function()
    except SystemExit as error:  # it would pass for an end in good order
        where = f"{frames.words(error)}{frames.place(error)}"
        raise ValueError(f"--from: {name} ends the program: {where}") from error
    if isinstance(made, Problem):
        problem = made
    elif isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], Game):
        problem = as_problem(*made, caller=name)
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
