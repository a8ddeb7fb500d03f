"""The field on the whole of a stochastic problem: exact, or a mean with its error."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from gamedyn.fields import Field, at_batch, gradient
from gamedyn.game import Batch, Params, general_sum, zero_sum
from gamedyn.games import Problem

BATCHES = 4096
"""The most batches over which an endless stream is averaged."""

_ENTRIES = 2**22  # entries of all these batches together, at most
_FEWEST = 16  # batches, however large they are
_CHUNK = 512  # batches whose fields are held in memory at a time


def has_mean(problem: Problem) -> bool:
    """Whether the field on the whole problem is known and not estimated.

    Args:
        problem: the problem.

    Returns:
        True where losses are deterministic, a finite sum, or declared to have a mean.
    """
    info = problem.info
    return problem.sample is None or info.has_mean or info.num_components is not None


def check_batches(problem: Problem) -> None:
    """Check that a stochastic problem says where its batches come from.

    Args:
        problem: the problem.

    Raises:
        ValueError: if the losses fail without a batch and there is none to give them.
    """
    if problem.sample is not None or problem.info.num_components is not None:
        return
    stochastic = (
        general_sum(_nothing, stochastic=True),
        zero_sum(_nothing, stochastic=True),
    )
    kinds = {game.losses.func for game in stochastic}
    if getattr(problem.game.losses, "func", None) not in kinds:
        return
    try:
        jax.eval_shape(problem.game, problem.init(None))
    except Exception as error:  # whatever the losses make of None
        raise ValueError(
            "the game is stochastic and there is nothing to draw its batches from: "
            "give a Problem with sample=, a function of a key"
        ) from error


def _nothing(*given: Any) -> Any:
    return given[0]


def full_field(problem: Problem) -> tuple[Field, Batch]:
    r"""The deterministic field of a problem, and the batch it is evaluated at.

    Where batches are drawn from an endless stream and no mean is declared, the field is
    the mean over B frozen batches,

    $$\bar F(z) = \frac1B \sum_{b=1}^B F(z, \xi_b),$$

    B = 4096, or fewer where that many batches have more than $2^{22}$ entries. Its
    `standard_error` says how far that is from the expectation.

    Args:
        problem: the problem.

    Returns:
        The gradient field, and `None`, where the losses need no batch or have a mean;
        the field over all components of a finite sum, and their indices; else the mean
        over many batches, and `None`.
    """
    field = gradient(problem.game)
    if problem.info.num_components is not None:
        batch = jnp.arange(problem.info.num_components)
        return at_batch(field, batch), batch
    if has_mean(problem):
        return field, None
    return Partial(_mean, field, _frozen(problem)), None


def fixed_batch(problem: Problem) -> Batch:
    """The one batch that stands for a problem where derivatives are proved.

    Args:
        problem: the problem.

    Returns:
        `None` where the losses need no batch or have a mean, all indices of a finite
        sum, else one draw.
    """
    if has_mean(problem):
        return full_field(problem)[1]
    assert problem.sample is not None  # else it has a mean
    return problem.sample(jax.random.key(0))


def num_batches(field: Field) -> int | None:
    """The number of batches that a field is a mean over; `None` if it is exact."""
    if isinstance(field, Partial) and field.func is _mean:
        return len(jax.tree.leaves(field.args[1])[0])
    return None


def standard_error(field: Field, point: Params) -> float:
    r"""How far an estimated field may be from the expectation, in one norm.

    $$\sqrt{\tfrac1B \operatorname{tr} \operatorname{Cov}_b F(z, \xi_b)}.$$

    Args:
        field: what `full_field` returns.
        point: the point z.

    Returns:
        The standard error; 0 where the field is exact.
    """
    if not isinstance(field, Partial) or num_batches(field) is None:
        return 0.0
    each = np.asarray(jax.jit(_each)(*field.args, point), np.float64)
    return float(np.linalg.norm(each.std(axis=0, ddof=1) / np.sqrt(len(each))))


def _frozen(problem: Problem) -> Batch:
    """Draw the batches, as many as their size allows."""
    draw = problem.sample
    assert draw is not None
    shapes = jax.eval_shape(draw, jax.random.key(0))
    size = max(1, sum(leaf.size for leaf in jax.tree.leaves(shapes)))
    count = int(np.clip(_ENTRIES // size, _FEWEST, BATCHES))
    keys = jax.random.split(jax.random.key(2**31 - 1), count)
    return jax.jit(lambda keys: jax.lax.map(draw, keys, batch_size=_CHUNK))(keys)


def _mean(field: Field, batches: Batch, params: Params, batch: Batch = None) -> Params:
    del batch
    fields = _map(lambda fixed: field(params, fixed), batches)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), fields)


def _each(field: Field, batches: Batch, params: Params) -> jax.Array:
    return _map(lambda fixed: ravel_pytree(field(params, fixed))[0], batches)


def _map(function: Any, batches: Batch) -> Any:
    count = len(jax.tree.leaves(batches)[0])
    if count <= _CHUNK:
        return jax.vmap(function)(batches)
    return jax.lax.map(function, batches, batch_size=_CHUNK)
