"""`gamedyn analyse`: what a point of a game is, and what a rule does near it."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any

import tyro

from gamedyn.commands.problems import OneGame, problem_of
from gamedyn.commands.shared import console, free_folder, load_plugins, positive
from gamedyn.text import for_terminal, number


@dataclasses.dataclass(frozen=True)
class Analyse(OneGame):
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
    """Ratios of the second player's speed to the first's."""

    own_loss_convex: Annotated[bool, tyro.conf.arg(aliases=["--own-cost-convex"])] = (
        False
    )
    """Assume that every loss is convex in the player's own parameters: a stationary
    point is then a Nash equilibrium."""


def run(config: Analyse, command: str) -> None:
    """Analyse, print what follows for every point, write the folder.

    Args:
        config: the options.
        command: the command line, for the report.
    """
    from rich.table import Table

    from gamedyn import files, runtime

    if (config.rule is None) != (config.step_size is None):
        raise ValueError("--rule and --step-size belong together, got only one")
    step_size = None
    if config.step_size is not None:
        step_size = positive("--step-size", config.step_size)
    runtime.configure(x64=config.x64)
    load_plugins(config.plugins)

    from gamedyn.workbench import report
    from gamedyn.workbench.analyse import analyse

    # Analyse, into a folder that appears whole or not at all.
    problem = problem_of(config)
    points = read_points(problem, config.at)
    out = config.out or free_folder(problem.info.name)
    with files.folder(out) as folder:
        analysis = analyse(
            problem,
            points,
            rule=config.rule,
            step_size=step_size,
            error=config.error,
            polish=config.polish,
            taus=config.taus,
            own_loss_convex=config.own_loss_convex,
        )
        report.write_analysis(analysis, folder, command)
        written = sorted(path.name for path in folder.iterdir())

    # One table of keys and sentences per point.
    shown = console()
    info = problem.info
    shown.print(for_terminal(f"{info.name}: {info.summary}"))
    for finding in analysis.findings:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        last = None
        for key, text in finding.lines():
            table.add_row("" if key == last else key, for_terminal(text))
            last = key
        shown.print(f"\n{for_terminal(finding.label)}", style="bold underline")
        shown.print(table)
    shown.print(f"\nwritten to {for_terminal(out)}: {', '.join(written)}")


def read_points(problem: Any, text: str) -> list[tuple[str, Any]]:
    """Read points of a problem from a text.

    Args:
        problem: the problem.
        text: `equilibrium`, `equilibrium:K`, all parameters as numbers separated by
            commas, or a `.npz` file with one array per parameter array, in order.

    Returns:
        Pairs of a label and a point.

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
        made = [jnp.asarray(array) for array in _read_leaves(Path(text), leaves)]
        return [(f"the point of {Path(text).name}", jax.tree.unflatten(treedef, made))]
    try:
        numbers = np.array([number(part) for part in text.split(",")])
    except ValueError as error:
        raise ValueError(
            "--at must be equilibrium, finite numbers separated by commas, or a .npz "
            f"file, got {text}: {error}"
        ) from None
    size = sum(leaf.size for leaf in leaves)
    if numbers.size != size:
        raise ValueError(f"--at has {numbers.size} numbers, the game has {size}")
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


_MOST_POINT = 2**30  # bytes


def _read_leaves(path: Path, leaves: list[Any]) -> list[Any]:
    """Read one array of an .npz file for every leaf, in order, of floating point."""
    import numpy as np

    from gamedyn.data.arrays import read_npz

    try:
        arrays = list(read_npz(path, most=_MOST_POINT).items())
    except ValueError as error:
        raise ValueError(f"{path} does not hold arrays of numbers: {error}") from None
    # Numpy numbers the arrays that were given no names.
    if all(re.fullmatch(r"arr_[0-9]{1,9}", name) for name, _ in arrays):
        arrays.sort(key=lambda pair: int(pair[0].removeprefix("arr_")))
    if len(arrays) != len(leaves):
        raise ValueError(
            f"{path} holds {len(arrays)} arrays, the game has {len(leaves)}"
        )
    made = []
    for (name, array), leaf in zip(arrays, leaves, strict=True):
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{path}: {name} holds {array.dtype}, not real numbers")
        if array.shape != leaf.shape:
            raise ValueError(
                f"{path}: {name} has shape {array.shape}, the game expects {leaf.shape}"
            )
        # Tolerances follow from how exact the numbers are, not from the game.
        exact = array.dtype.kind != "f" or array.dtype.itemsize > 8
        with np.errstate(over="ignore"):
            array = array.astype(np.float64) if exact else array
        if not np.isfinite(array).all():
            bad = np.sum(~np.isfinite(array))
            raise ValueError(f"{path}: {name} holds {bad} NaN or infinity")
        made.append(array)
    return made
