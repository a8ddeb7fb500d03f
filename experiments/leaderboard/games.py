"""The games of the board: how each is built, measured, and grouped."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gamedyn as gd
from gamedyn.analysis import game_jacobian, variational_gap
from gamedyn.game import Params
from gamedyn.games import Problem
from gamedyn.geometry import per_player
from gamedyn.workbench.mean_field import full_field
from gamedyn.workbench.race import norm

MEASURES = {
    "distance": "distance to the nearest known solution",
    "residual": "natural residual |z - P(z - F(z))|; |F(z)| without constraints",
    "exploitability": "NashConv: what best responses would gain, summed over players",
}
"""What is followed until it has fallen far enough."""

GROUPS = {
    "free": "two players, no constraints",
    "several": "three and more players, no constraints",
    "sets": "constraints, other than simplices alone",
    "simplex": "mixed strategies",
    "traps": "what stands still is no equilibrium",
    "noisy": "stochastic",
}
"""Which games are scored together: methods are defined on all of a group, or on few."""

NOISE = 0.1
"""Standard deviation of the noise on each coordinate of the field, in units of the
field's root mean square at the standard start."""


class Entry(NamedTuple):
    """One game of the board.

    Attributes:
        name: on the board, unique in its track.
        game: the registered name.
        group: a key of `GROUPS`.
        measure: a key of `MEASURES`.
        options: of the game's builder.
        noise: in the stochastic track: whether the noise is Gaussian and added; the
            problem's own minibatches otherwise.
    """

    name: str
    game: str
    group: str
    measure: str
    options: tuple[tuple[str, Any], ...] = ()
    noise: bool = False


def _entries(group: str, measure: str, *names: str, noise: bool = False) -> list[Entry]:
    return [Entry(name, name, group, measure, noise=noise) for name in names]


DETERMINISTIC = (
    *_entries(
        "free",
        "distance",
        "balduzzi_two_player",
        "bilinear",
        "dirac_gan",
        "forsaken",
        "global_forsaken",
        "market_with_minimum",
        "polar",
        "quadratic",
        "ridge_1",
        "ridge_3",
        "two_sided_pl",
        "weak_minty",
        "worst_case",
    ),
    # Here solutions form a continuum.
    *_entries("free", "residual", "covariance_wgan", "tandem"),
    *_entries(
        "several",
        "distance",
        "cournot",
        "half_matching_pennies",
        "smooth_market",
        "symplectic_four_player",
    ),
    *_entries(
        "sets",
        "residual",
        "constrained_bilinear",
        "kelly",
        "tullock",
    ),
    *_entries(
        "simplex",
        "exploitability",
        "matching_pennies",
        "random_matrix",
        "rock_paper_scissors",
    ),
    *_entries("traps", "distance", "impossibility", "ridge_2"),
)

STOCHASTIC = (
    *_entries(
        "noisy",
        "distance",
        "bilinear",
        "cournot",
        "quadratic",
        noise=True,
    ),
    *_entries("noisy", "exploitability", "matching_pennies", noise=True),
    # Minibatches.
    *_entries("noisy", "distance", "robust_least_squares"),
    Entry(
        "stochastic_bilinear",
        "stochastic_bilinear",
        "noisy",
        "distance",
        (("num_components", 10),),
    ),
    *_entries("noisy", "distance", "scaled_bilinear"),
)

TRACKS = {"deterministic": DETERMINISTIC, "stochastic": STOCHASTIC}
"""The games of each track."""


def entry(track: str, name: str) -> Entry:
    """Look a game of a track up.

    Raises:
        ValueError: if there is no such track or game.
    """
    for entry in TRACKS.get(track, ()):
        if entry.name == name:
            return entry
    raise ValueError(
        f"the track {track!r} has no game {name!r}; tracks and games: "
        f"{ {key: [e.name for e in games] for key, games in TRACKS.items()} }"
    )


class Facts(NamedTuple):
    """What is measured once of a game.

    Attributes:
        problem: the problem.
        lipschitz: L, the spectral norm of the Jacobian at the standard start.
        noise: standard deviation of the noise, 0 where there is none.
        curved: per player, whether the own Hessian at the known solution is regular.
        regular: whether the Jacobian is regular there.
    """

    problem: Problem
    lipschitz: float
    noise: float
    curved: tuple[bool, ...]
    regular: bool


@functools.lru_cache(maxsize=2)
def facts(entry: Entry) -> Facts:
    """Build a game and measure it."""
    problem = gd.games.make(entry.game, **dict(entry.options))
    field, _ = full_field(problem)
    start = problem.init(None)
    lipschitz = float(np.linalg.norm(np.asarray(game_jacobian(field, start)), 2)) or 1.0
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(field(start))])
    level = NOISE * float(np.sqrt(np.mean(flat**2))) if entry.noise else 0.0
    at = problem.solutions[0] if problem.solutions else start
    jacobian = np.asarray(game_jacobian(field, at))
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(player)) for player in at]
    ends = np.cumsum([0, *sizes])
    spans = zip(ends[:-1], ends[1:], strict=True)
    curved = tuple(_regular(jacobian[i:j, i:j], jacobian) for i, j in spans)
    return Facts(problem, lipschitz, level, curved, _regular(jacobian, jacobian))


def _regular(block: np.ndarray, jacobian: np.ndarray) -> bool:
    """Whether a block of the Jacobian has an inverse, beyond rounding."""
    smallest = np.linalg.svd(block, compute_uv=False)[-1]
    return bool(smallest > 1e-10 * np.linalg.norm(jacobian, 2))


def gap(entry: Entry, problem: Problem) -> Callable[[Params, Params], jax.Array] | None:
    """Give the measure of exploitability, for games of mixed strategies.

    Own losses are linear in own strategies there: the gap of the variational inequality
    is NashConv.
    """
    if entry.measure != "exploitability":
        return None

    def measure(output: Params, direction: Params) -> jax.Array:
        # Outside the domain the gap says nothing: the way back is added.
        inside = nearest(output)
        way = jax.tree.map(jnp.subtract, output, inside)
        exploited = variational_gap(inside, direction, geometries)
        return jnp.maximum(exploited, 0.0) + norm(way)

    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")

    def nearest(output: Params) -> Params:
        pairs = zip(geometries, output, strict=True)
        return tuple(geometry.project(point) for geometry, point in pairs)

    return measure


def domain(problem: Problem) -> str:
    """Name the domains of the players."""
    return gd.games.domain_of(problem)


def unconstrained(problem: Problem) -> bool:
    """Whether no player has a constraint."""
    geometries = per_player(problem.geometry, problem.game.num_players, "geometry")
    return all(geometry.kind == "euclidean" for geometry in geometries)
