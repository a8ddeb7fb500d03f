"""Tracing losses again in float64: exact casts, frozen randomness, low precision."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from gamedyn.game import Batch, Game, Params, PyTree

_DRAWS = ("random_bits", "threefry2x32", "rng_uniform", "rng_bit_generator")
"""Primitives that draw random numbers."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What limits a float64 evaluation of a traced function.

    Attributes:
        casts: names of the low-precision types computed with inside.
        constants: names of the low-precision types of constants closed over.
        draws: whether random numbers are drawn inside.
    """

    casts: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()
    draws: bool = False

    @property
    def low(self) -> bool:
        """Whether anything is of a precision below float64."""
        return bool(self.casts or self.constants)

    @property
    def unit(self) -> float:
        """The largest unit roundoff of the types computed with."""
        names = self.casts or {"float64"}
        return max(float(jnp.finfo(name).eps) / 2 for name in names)

    @property
    def words(self) -> str:
        """The limits as the end of a sentence on a loss."""
        parts = []
        if self.casts:
            parts.append(f"casts to {_join(self.casts)} inside")
        if self.constants:
            parts.append(
                f"closes over {_join(self.constants)} constants (a "
                "jax.tree_util.Partial of the loss makes them leaves, cast exactly)"
            )
        return " and ".join(parts)

    def __or__(self, other: "Limits") -> "Limits":
        """Join two sets of limits."""
        return Limits(
            self.casts | other.casts,
            self.constants | other.constants,
            self.draws or other.draws,
        )


def inspect(closed: ClosedJaxpr, output: int | None = None) -> Limits:
    """Walk a jaxpr, and those inside it, for low precision and random draws.

    Args:
        closed: the traced function.
        output: follow only what this output depends on, at the top level; all if
            `None`.

    Returns:
        The limits.
    """
    outvars = closed.jaxpr.outvars
    live = _variables(outvars if output is None else [outvars[output]])
    limits = Limits()
    for eqn in reversed(closed.jaxpr.eqns):
        if output is None or live.intersection(eqn.outvars):
            live |= _variables(eqn.invars)
            limits |= _inspect_eqn(eqn)
    for variable in closed.jaxpr.constvars:
        if output is None or variable in live:
            limits |= Limits(constants=_low([variable]))
    for variable in outvars:
        if isinstance(variable, Literal):
            limits |= Limits(constants=_low([variable]))
    return limits


@jax.jit
def _losses(game: Game, params: Params, batch: Batch) -> tuple[jax.Array, ...]:
    return game(params, batch)


def inspect_losses(game: Game, params: Params, batch: Batch) -> tuple[Limits, ...]:
    """Trace the losses, and inspect what each of them depends on.

    Args:
        game: the game, its arrays in float64.
        params: the point, in float64.
        batch: the batch, in float64.

    Returns:
        The limits of every player's loss.

    Raises:
        ValueError: if the losses cannot be traced, or draw random numbers.
    """
    try:
        closed = _losses.trace(game, params, batch).jaxpr
    except Exception as reason:
        shapes = jax.tree.map(jnp.shape, params)
        hint = (
            "a stochastic game needs its fixed batch, got none"
            if batch is None
            else f"the batch has the shapes {jax.tree.map(jnp.shape, batch)}"
        )
        raise ValueError(
            f"the losses cannot be evaluated in float64 at a point of the shapes "
            f"{shapes}; {hint}. {type(reason).__name__}: {reason}"
        ) from reason
    each = tuple(inspect(closed, player) for player in range(game.num_players))
    for player, finding in enumerate(each):
        if finding.draws:
            raise ValueError(
                f"the loss of player {player} draws random numbers, and float64 draws "
                "others: freeze them, draw beforehand and pass them in the batch as "
                "arrays"
            )
    return each


def point_dtype(params: Params) -> np.dtype:
    """Return the precision a point was computed in: the lowest among its leaves."""
    dtypes = [
        np.dtype(getattr(leaf, "dtype", float)) for leaf in jax.tree.leaves(params)
    ]
    return max(
        dtypes, key=lambda dtype: float(jnp.finfo(dtype).eps), default=np.dtype(float)
    )


def float64(tree: PyTree, *, strict: bool = False) -> PyTree:
    """Cast every floating-point array of a tree to float64, which is exact.

    Args:
        tree: any pytree; integers, booleans and Python numbers are left alone.
        strict: whether to make arrays of Python numbers too.

    Returns:
        The tree, complex arrays as complex128.

    Raises:
        ValueError: if a leaf is a PRNG key.
    """

    def cast(leaf: Any) -> Any:
        if not hasattr(leaf, "dtype"):
            return jnp.asarray(leaf, jnp.float64) if strict else leaf
        if _is_key(leaf):
            raise ValueError(
                "the game holds a PRNG key: freeze its randomness, draw beforehand and "
                "pass the numbers as arrays"
            )
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return jnp.asarray(np.asarray(leaf).astype(np.complex128))
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(np.asarray(leaf).astype(np.float64))
        return leaf

    return jax.tree.map(cast, tree)


def frozen(batch: Batch) -> Batch:
    """Return a batch that holds no PRNG key.

    Raises:
        ValueError: if it holds one.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if _is_key(leaf):
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} is a PRNG key, and float64 draws "
                "other numbers from it: freeze the randomness, draw beforehand and "
                "pass the numbers in the batch as arrays"
            )
    return batch


def check_finite(params: Params) -> None:
    """Raise `ValueError` unless a point is finite, naming the first bad leaf."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.all(np.isfinite(leaf)):
            raise ValueError(
                f"the point is not finite at params{jax.tree_util.keystr(path)}"
            )


def _inspect_eqn(eqn: JaxprEqn) -> Limits:
    literals = [variable for variable in eqn.invars if isinstance(variable, Literal)]
    limits = Limits(
        casts=_low(eqn.outvars),
        constants=_low(literals),
        draws=eqn.primitive.name in _DRAWS,
    )
    for inner in inner_jaxprs(eqn):
        limits |= inspect(inner)
    return limits


def inner_jaxprs(equation: JaxprEqn) -> Iterator[ClosedJaxpr]:
    """Yield the programs inside an equation: a loop's body, a choice's branches."""
    # Since jax 0.12 some operations keep their parameters on an object of their own.
    params = getattr(equation.params.get("_prim"), "params", equation.params)
    yield from _jaxprs(params.values())


def _jaxprs(values: Any) -> Iterator[ClosedJaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value
        elif isinstance(value, Jaxpr):
            yield ClosedJaxpr(value, ())
        elif isinstance(value, tuple | list):
            yield from _jaxprs(value)


def _variables(atoms: Any) -> set[Any]:
    return {atom for atom in atoms if not isinstance(atom, Literal)}


def _low(variables: Any) -> frozenset[str]:
    """Name the floating-point types below float64 among variables."""
    names = set()
    for variable in variables:
        dtype = getattr(variable.aval, "dtype", None)
        if dtype is None or _is_key(variable.aval):
            continue
        if jnp.issubdtype(dtype, jnp.inexact) and dtype not in (
            np.dtype(np.float64),
            np.dtype(np.complex128),
        ):
            names.add(np.dtype(dtype).name)
    return frozenset(names)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _join(names: frozenset[str]) -> str:
    return " and ".join(sorted(names))
