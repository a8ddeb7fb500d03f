r"""Treeplexes: the strategies of one player of a sequential game, in sequence form.

A player decides at several points; which of them is reached depends on the player's
own earlier actions. A sequence is an action at a decision point, and its entry in a
strategy is the product of the player's probabilities along the way to it. Then payoffs
are linear in every player's strategy, and the strategies form a polytope glued from
simplices:

$$\sum_{a \in I} x_a = x_{p(I)} \quad \text{at every decision point } I,
  \qquad x \ge 0,$$

p(I) being the sequence that leads to I; at the roots the sum is 1.

References:
    von Stengel, "Efficient computation of behavior strategies", 1996.
    Hoda, Gilpin, Pena, Sandholm, "Smoothing techniques for computing Nash equilibria of
    sequential games", 2010.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Level(NamedTuple):
    """Decision points whose subtrees have one shape, to be treated side by side.

    Attributes:
        sequences: those of every point, k rows.
        parents: the sequence that leads to every point, -1 at a root.
        followers: for every action, what may follow it: the number of a level and one
            row of it for each of the k points.
    """

    sequences: tuple[tuple[int, ...], ...]
    parents: tuple[int, ...]
    followers: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]

    def alike(self) -> list[tuple[list[int], list[tuple[int, np.ndarray]]]]:
        """Group the actions whose followers are alike.

        Returns:
            Pairs: the actions, g of them, and what follows them: the number of a level
            and rows of it, shape `(k, g, count)`.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for action, after in enumerate(self.followers):
            groups.setdefault(tuple(kind for kind, _ in after), []).append(action)
        return [
            (
                actions,
                [
                    (
                        kind,
                        np.array([self._rows(a, kind) for a in actions]).transpose(
                            2, 0, 1
                        ),
                    )
                    for kind in dict.fromkeys(kinds)
                ],
            )
            for kinds, actions in groups.items()
        ]

    def _rows(self, action: int, kind: int) -> list[tuple[int, ...]]:
        return [rows for number, rows in self.followers[action] if number == kind]


def _height(form: tuple) -> int:
    return 1 + max((_height(after) for action in form for after in action), default=0)


@dataclasses.dataclass(frozen=True)
class Treeplex:
    """A player's decision points and the sequences that lead to them; static.

    The sequences of decision point i stand side by side, those of earlier points before
    them. The empty sequence, always 1, is left out.

    Attributes:
        parents: for every decision point the sequence that leads to it, -1 at a root.
        sizes: the number of actions at every decision point.

    Raises:
        ValueError: if the two differ in length, a size is not positive, or a parent is
            no earlier sequence.

    Example:
        >>> tree = Treeplex(parents=(-1, 1), sizes=(2, 3))  # the second action leads on
        >>> tree.num_sequences
        5
        >>> uniform(tree).tolist()[2] == 1 / 6
        True
    """

    parents: tuple[int, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that the points are numbered from the roots on."""
        if len(self.parents) != len(self.sizes) or not self.sizes:
            raise ValueError(
                f"expected one parent and one size per decision point, got "
                f"{len(self.parents)} and {len(self.sizes)}"
            )
        for point, (parent, size) in enumerate(
            zip(self.parents, self.sizes, strict=True)
        ):
            if size < 1:
                raise ValueError(f"decision point {point} has {size} actions")
            if not -1 <= parent < self.starts[point]:
                raise ValueError(
                    f"the parent of decision point {point} must be an earlier "
                    f"sequence, below {self.starts[point]}, or -1; got {parent}"
                )

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """The first sequence of every decision point."""
        return tuple(np.cumsum((0, *self.sizes))[:-1].tolist())

    @property
    def num_sequences(self) -> int:
        """The length of a strategy."""
        return sum(self.sizes)

    def children(self, sequence: int) -> tuple[int, ...]:
        """The decision points that a sequence leads to."""
        return tuple(i for i, parent in enumerate(self.parents) if parent == sequence)

    @functools.cached_property
    def levels(self) -> tuple["Level", ...]:
        """The decision points that look alike from there on, together; leaves first."""
        # A point's form: for each action, the forms of what follows it.
        forms: dict[int, tuple] = {}
        for point in reversed(range(len(self.sizes))):
            forms[point] = tuple(
                tuple(sorted(forms[child] for child in self.children(sequence)))
                for sequence in range(*self.block(point).indices(self.num_sequences))
            )
        alike: dict[tuple, list[int]] = {}
        for point in sorted(forms, key=lambda point: _height(forms[point])):
            alike.setdefault(forms[point], []).append(point)
        numbers = {form: number for number, form in enumerate(alike)}
        levels = []
        for form, points in alike.items():
            followers = []
            for action, after in enumerate(form):
                below = [
                    sorted(
                        self.children(self.starts[p] + action), key=forms.__getitem__
                    )
                    for p in points
                ]
                followers.append(
                    tuple(
                        (numbers[kind], tuple(alike[kind].index(c[i]) for c in below))
                        for i, kind in enumerate(after)
                    )
                )
            starts = np.array([self.starts[p] for p in points])
            levels.append(
                Level(
                    tuple(
                        map(tuple, (starts[:, None] + np.arange(len(form))).tolist())
                    ),
                    tuple(self.parents[p] for p in points),
                    tuple(followers),
                )
            )
        return tuple(levels)

    def block(self, point: int) -> slice:
        """The sequences of a decision point."""
        start = self.starts[point]
        return slice(start, start + self.sizes[point])


def constraints(tree: Treeplex) -> tuple[np.ndarray, np.ndarray]:
    """Write a treeplex as equations, `matrix @ x == right`, for linear programmes.

    Args:
        tree: the treeplex.

    Returns:
        The matrix, with one row per decision point, and the right-hand side.
    """
    matrix = np.zeros((len(tree.sizes), tree.num_sequences))
    right = np.zeros(len(tree.sizes))
    for point, parent in enumerate(tree.parents):
        matrix[point, tree.block(point)] = 1
        if parent < 0:
            right[point] = 1
        else:
            matrix[point, parent] -= 1
    return matrix, right


def uniform(tree: Treeplex) -> np.ndarray:
    """The strategy that takes all actions with equal probability, everywhere."""
    probabilities = np.repeat(1 / np.array(tree.sizes), tree.sizes)
    return np.asarray(from_behaviour(tree, probabilities))


def from_behaviour(tree: Treeplex, probabilities: Any) -> jax.Array:
    """Turn probabilities at every decision point into a strategy in sequence form.

    Args:
        tree: the treeplex.
        probabilities: shape `(num_sequences,)`, summing to 1 at every decision point.

    Returns:
        The strategy, of the same shape.
    """
    probabilities = jnp.asarray(probabilities)
    _check(tree, probabilities)
    return _from_roots(
        tree,
        probabilities.dtype,
        lambda number, mass: mass * probabilities[_rows(tree.levels[number])],
    )


def _rows(level: Level) -> np.ndarray:
    return np.array(level.sequences)


def _from_roots(
    tree: Treeplex, dtype: Any, fill: Callable[[int, jax.Array], jax.Array]
) -> jax.Array:
    """Fill a strategy, a parent's level before its children's: `fill(number, mass)`.

    `mass` holds the entries of the parents, shape `(k, 1)`; the answer has one row per
    decision point.
    """
    filled, places = jnp.ones(1, dtype), {-1: 0}  # the empty sequence, at the roots
    for number in reversed(range(len(tree.levels))):
        level = tree.levels[number]
        mass = filled[np.array([places[parent] for parent in level.parents])]
        rows = fill(number, mass[:, None])
        for row in level.sequences:
            for sequence in row:
                places[sequence] = len(places)
        filled = jnp.concatenate([filled, rows.ravel()])
    return filled[np.array([places[i] for i in range(tree.num_sequences)])]


def best_response(tree: Treeplex, slope: jax.Array) -> jax.Array:
    r"""Minimise a linear function over a treeplex, from the leaves up.

    $$V_I = \min_{a \in I} \Big( g_a + \sum_{I' : p(I') = a} V_{I'} \Big).$$

    Args:
        tree: the treeplex.
        slope: g, shape `(num_sequences,)`.

    Returns:
        A vertex of the least value, a deterministic strategy.
    """
    _check(tree, slope)
    sums = _from_leaves(tree, slope, lambda number, values: jnp.min(values, axis=1))

    def take(number, mass):
        best = jnp.argmin(sums[number], axis=1)
        size = len(tree.levels[number].followers)
        return mass * jax.nn.one_hot(best, size, dtype=slope.dtype)

    return _from_roots(tree, slope.dtype, take)


def miss(tree: Treeplex, strategy: jax.Array) -> jax.Array:
    r"""Measure how far a point is from the strategies of a treeplex.

    $$\max_{I, a} \Big( \big| \textstyle\sum_{a \in I} x_a - x_{p(I)} \big|,\ -x_a
      \Big).$$

    Args:
        tree: the treeplex.
        strategy: x, shape `(num_sequences,)`.

    Returns:
        A scalar, 0 for a strategy, NaN where x has NaN.
    """
    _check(tree, strategy)
    worst = -jnp.min(strategy)
    for level in tree.levels:
        off = jnp.sum(strategy[_rows(level)], axis=1) - _masses(level, strategy)
        worst = jnp.maximum(worst, jnp.max(jnp.abs(off)))
    return jnp.maximum(worst, 0)


def _masses(level: Level, strategy: jax.Array) -> jax.Array:
    """What leads to each point of a level: the parents' entries, 1 at a root."""
    parents = np.array(level.parents)
    return jnp.where(parents < 0, jnp.ones((), strategy.dtype), strategy[parents])


def gap(tree: Treeplex, strategy: jax.Array, slope: jax.Array) -> jax.Array:
    r"""Measure how much less a best response costs than a strategy.

    $$\max_u \langle g, x - u \rangle = \sum_I \sum_{a \in I} x_a \Big( g_a +
      \sum_{I' : p(I') = a} V_{I'} - V_I \Big),$$

    V being the values of `best_response`: a sum of non-negative terms, so that slopes
    with a large common part at a decision point cost no digits.

    Args:
        tree: the treeplex.
        strategy: x, shape `(num_sequences,)`.
        slope: g, of the same shape.

    Returns:
        A scalar.
    """
    _check(tree, strategy)
    _check(tree, slope)
    sums = _from_leaves(tree, slope, lambda number, values: jnp.min(values, axis=1))
    excess = [
        jnp.sum(strategy[_rows(level)] * (own - jnp.min(own, axis=1, keepdims=True)))
        for level, own in zip(tree.levels, sums, strict=True)
    ]
    return functools.reduce(jnp.add, excess)


def _from_leaves(
    tree: Treeplex,
    slope: jax.Array,
    value: Callable[[int, jax.Array], jax.Array],
) -> list[jax.Array]:
    """Add to the slopes of all actions the values of the points that follow them.

    Returns one array of shape `(points, actions)` per level; `value(number, array)`
    makes the values of a level's points from it.
    """
    sums: list[jax.Array] = []
    values: list[jax.Array] = []
    for number, level in enumerate(tree.levels):
        columns = [
            sum(
                (values[kind][np.array(rows)] for kind, rows in after),
                slope[_rows(level)[:, action]],
            )
            for action, after in enumerate(level.followers)
        ]
        sums.append(jnp.stack(columns, axis=1))
        values.append(value(number, sums[number]))
    return sums


def _check(tree: Treeplex, array: jax.Array) -> None:
    if array.shape != (tree.num_sequences,):
        raise ValueError(
            f"a strategy of this treeplex has shape ({tree.num_sequences},), got "
            f"{array.shape}"
        )


def entropic_step(tree: Treeplex, strategy: jax.Array, update: jax.Array) -> jax.Array:
    r"""Take the mirror step of the dilated entropy.

    $$x^+ = \arg\max_x\ \langle u, x \rangle
      - \sum_I x_{p(I)} \operatorname{KL}(b_I \,\|\, b^{\text{old}}_I), \qquad
      b_a = x_a / x_{p(I)},$$

    solved from the leaves up: $b_a \propto b^{\text{old}}_a \exp(u_a + \sum V)$ with
    $V_I = \log \sum_a b^{\text{old}}_a \exp(u_a + \sum V)$, summed over the decision
    points that follow a. On one decision point it is the multiplicative step.

    No action that was played gets a probability below a 256th of the dtype's rounding,
    which its sums do not notice: products of smaller ones along the tree underflow, and
    what is 0 once would stay 0 for ever, however good it becomes.

    Args:
        tree: the treeplex.
        strategy: the point, strictly inside: an action of probability 0 keeps it.
        update: u, minus the step size times the gradient.

    Returns:
        The new strategy.

    References:
        Hoda, Gilpin, Pena, Sandholm, 2010.
    """
    _check(tree, strategy)
    _check(tree, update)
    past = []
    for level in tree.levels:
        own = strategy[_rows(level)]
        mass = _masses(level, strategy)[:, None]
        # What is never reached has no probabilities: uniform ones, without 0/0.
        even = jnp.full_like(own, 1 / own.shape[1])
        past.append(
            jnp.log(jnp.where(mass > 0, own / jnp.where(mass > 0, mass, 1), even))
        )
    sums = _from_leaves(
        tree,
        update,
        lambda number, values: jax.nn.logsumexp(past[number] + values, axis=1),
    )

    least = jnp.finfo(strategy.dtype).eps / 256

    def play(number, mass):
        probabilities = jax.nn.softmax(past[number] + sums[number], axis=1)
        played = past[number] > -jnp.inf
        return mass * jnp.where(played, jnp.maximum(probabilities, least), 0)

    return _from_roots(tree, strategy.dtype, play)


class _Ramp(NamedTuple):
    """A function that is 0 up to `at[0]`, then piecewise linear and increasing.

    Attributes:
        at: the knots, rising.
        value: what it is there, rising from 0.
        slope: its slope behind the last knot.
    """

    at: jax.Array
    value: jax.Array
    slope: jax.Array


def project(tree: Treeplex, point: jax.Array) -> jax.Array:
    r"""Project onto a treeplex, exactly: $\arg\min_x \|x - c\|^2$.

    Let $\lambda_I$ be the multiplier of decision point I. Its sequences fulfil
    $x_a - c_a + \sum_{I'} \lambda_{I'}(x_a) \ge \lambda_I$, with equality where
    $x_a > 0$; so each $x_a$ is a piecewise linear, increasing function of $\lambda_I$,
    and so is their sum, whose inverse gives $\lambda_I$ as a function of the mass
    $x_{p(I)}$. These functions are built from the leaves up, as knots, and read off
    from the roots down.

    Args:
        tree: the treeplex.
        point: c, shape `(num_sequences,)`.

    Returns:
        The nearest strategy.

    References:
        Hoda, Gilpin, Pena, Sandholm, 2010.
    """
    _check(tree, point)
    actions: list[list[_Ramp]] = []
    sums: list[_Ramp] = []
    for level in tree.levels:
        # Actions with the like behind them are one array, and so are those followers
        # that are alike: what is traced does not grow with the number of either.
        ramps = []
        for alike, after in level.alike():
            followers = [
                jax.tree.map(lambda leaf, rows=rows: leaf[rows], sums[kind])
                for kind, rows in after
            ]
            ramps.append(_action(point[_rows(level)[:, alike]], followers))
        actions.append(ramps)
        sums.append(_add(ramps))

    def read(number, mass):
        multiplier = _invert(sums[number], mass)[:, None]
        entries = [_evaluate(ramp, multiplier)[..., 0] for ramp in actions[number]]
        order = [action for alike, _ in tree.levels[number].alike() for action in alike]
        return jnp.concatenate(entries, axis=1)[:, np.argsort(order)]

    return _from_roots(tree, point.dtype, read)


# Functions stand side by side in arrays: (points, actions, followers, knots).


def _add(ramps: list[_Ramp]) -> _Ramp:
    """The sum over the actions of every point."""
    count = len(ramps[0].at)
    knots = jnp.sort(jnp.concatenate([r.at.reshape(count, -1) for r in ramps], axis=1))
    values = [jnp.sum(_evaluate(ramp, knots[:, None]), axis=1) for ramp in ramps]
    slopes = [jnp.sum(ramp.slope, axis=1) for ramp in ramps]
    total = functools.partial(functools.reduce, jnp.add)
    return _Ramp(knots, total(values), total(slopes))


def _action(wishes: jax.Array, followers: list[_Ramp]) -> _Ramp:
    """Sequences' entries as functions of the multiplier of their decision point."""
    value, steepness = jnp.zeros_like(wishes)[..., None], jnp.ones_like(wishes)
    if followers:
        flat = [ramp.value.reshape(*wishes.shape, -1) for ramp in followers]
        value = jnp.sort(jnp.concatenate(flat, axis=-1))
    pull = jnp.zeros_like(value)
    for ramp in followers:
        pull += jnp.sum(_invert(ramp, value[:, :, None]), axis=2)
        steepness += jnp.sum(1 / ramp.slope, axis=2)
    return _Ramp(value - wishes[..., None] + pull, value, 1 / steepness)


def _evaluate(ramp: _Ramp, at: jax.Array) -> jax.Array:
    return jnp.maximum(_interpolate(ramp.at, ramp.value, ramp.slope, at), 0)


def _invert(ramp: _Ramp, value: jax.Array) -> jax.Array:
    return _interpolate(ramp.value, ramp.at, 1 / ramp.slope, value)


def _interpolate(x, y, last, at: jax.Array) -> jax.Array:
    """Interpolate between rising knots (last axis), with slope `last` behind them."""
    run, rise = jnp.diff(x), jnp.diff(y)
    slopes = jnp.where(run > 0, rise / jnp.where(run > 0, run, 1), 0)
    slopes = jnp.concatenate([slopes, last[..., None]], axis=-1)
    # Of knots that coincide the last one is taken, so no slope of 0 / 0 is used. It is
    # picked by comparing all: a search is a loop, and its gathers are slow to compile.
    behind = x[..., None, :] <= at[..., :, None]
    true = jnp.ones_like(behind[..., :1])
    behind = jnp.concatenate([true, behind[..., 1:], ~true], axis=-1)
    here = behind[..., :-1] & ~behind[..., 1:]

    def pick(knots):
        return jnp.sum(jnp.where(here, knots[..., None, :], 0), axis=-1)

    return pick(y) + pick(slopes) * (at - pick(x))
