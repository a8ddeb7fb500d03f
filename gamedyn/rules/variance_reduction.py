"""Variance reduction on finite sums: estimators corrected by a snapshot.

The batch is an array of indices of components; the full field is the field at all of
them. Coins are tossed from a key in the rule's state, which the builder is given.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.fields import Field
from gamedyn.game import Batch, Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.rules.base import (
    PROJECTED,
    Rule,
    apply_updates,
    build,
    check_geometry,
    check_players,
    check_step_size,
)
from gamedyn.rules.registry import owned, register
from gamedyn.rules.turns import IN_TURN_FLOPS
from gamedyn.trees import add, scale, subtract


class Snapshot(NamedTuple):
    """A point at which the full field is known.

    Attributes:
        point: the point w.
        slope: the full field there, F(w).
        due: whether the next step begins with a new snapshot.
        key: of the coins.
    """

    point: Params
    slope: Params
    due: jax.Array
    key: jax.Array

    def estimate(self, field: Field, params: Params, batch: Batch) -> Params:
        """Estimate the full field at a point from one batch: F_i(z) - F_i(w) + F(w)."""
        # The same components at both points: with others it would add noise.
        change = subtract(field(params, batch), field(self.point, batch))
        return add(change, self.slope)


def fresh_key(key: jax.Array | None) -> jax.Array:
    """The given key, or the default one; a key of numbers becomes a typed one."""
    if key is None:
        return jax.random.key(0)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


def first_snapshot(params: Params, key: jax.Array | None) -> Snapshot:
    """Make the snapshot before the first step, which will renew it."""
    slope = jax.tree.map(jnp.zeros_like, params)
    # Folded in, so that the state never holds the caller's own buffer.
    own_key = jax.random.fold_in(fresh_key(key), 0)
    point = jax.tree.map(jnp.copy, params)
    return Snapshot(point, slope, jnp.array(True), own_key)


def refreshed(
    snapshot: Snapshot, field: Field, params: Params, num_components: int
) -> Snapshot:
    """Take a new snapshot if one is due; only then is the full field evaluated."""
    everything = jnp.arange(num_components)
    point, slope = jax.lax.cond(
        snapshot.due,
        lambda: (params, field(params, everything)),
        lambda: (snapshot.point, snapshot.slope),
    )
    return snapshot._replace(point=point, slope=slope)


def tossed(
    snapshot: Snapshot, batch: Batch, num_components: int, probability: Any
) -> Snapshot:
    """Toss the coin that says whether the next step renews the snapshot."""
    if probability is None:
        probability = min(1.0, (batch_size(batch) or 1) / num_components)
    key, coin = jax.random.split(snapshot.key)
    return snapshot._replace(due=jax.random.bernoulli(coin, probability), key=key)


def batch_size(batch: Batch) -> int | None:
    """The number of indices in a batch, `None` if it is not an array of indices."""
    if getattr(batch, "ndim", None) == 1 and jnp.issubdtype(batch.dtype, jnp.integer):
        return batch.shape[0]
    return None


def check_components(num_components: int | None, rule: str) -> int:
    """Raise `ValueError` unless the number of components of a finite sum is given."""
    if num_components is None:
        raise ValueError(
            f"{rule} is for finite sums: give num_components=, the number of "
            f"components over which the field is a mean (`problem.info.num_components`)"
        )
    check_positive_integer("num_components", num_components)
    return int(num_components)


def check_indices(batches: tuple[Batch, ...], rule: str) -> None:
    """Raise `ValueError` unless all batches are one-dimensional arrays of indices."""
    for batch in batches:
        if batch_size(batch) is None:
            got = getattr(batch, "dtype", type(batch).__name__)
            raise ValueError(
                f"{rule} is for finite sums, whose batches are one-dimensional arrays "
                f"of indices, got {got}"
            )


def _build(
    name: str,
    step: Callable[..., Params],
    step_size: Any,
    num_components: int | None,
    probability: Any,
    key: jax.Array | None,
    geometry: Any,
    num_batches: int = 1,
) -> Rule:
    """Make a variance-reduced rule from its step.

    `step(field, params, before, snapshot, move, batches)` returns the new parameters;
    `move(base, direction)` steps by the step size and projects.
    """
    check_step_size(step_size, name)
    check_geometry(geometry, PROJECTED, name)
    n = check_components(num_components, name)
    if probability is not None and is_known(probability) and not 0 < probability <= 1:
        raise ValueError(f"probability must lie in (0, 1], got {probability}")

    def init(params):
        per_player(geometry, len(params), "geometry")
        return first_snapshot(params, key)

    def move(base, direction):
        return apply_updates(geometry, base, scale(-step_size, direction))

    def update(field, params, rule_state, batches):
        check_indices(batches, name)
        snapshot = refreshed(rule_state, field, params, n)
        moved = step(field, params, rule_state.point, snapshot, move, batches)
        return moved, tossed(snapshot, batches[0], n, probability)

    return build(init, update, num_batches=num_batches)


def svre(
    step_size: float | jax.Array,
    *,
    num_components: int | None = None,
    probability: float | None = None,
    key: jax.Array | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extragradient whose both half steps are variance reduced (SVRE).

    $$d_i(z) = F_i(z) - F_i(w) + F(w), \qquad \bar z = P(z - \eta d_i(z)), \qquad
      z^+ = P(z - \eta d_j(\bar z)),$$

    with independent i and j. After every step the snapshot w is renewed with the given
    probability: the number of steps between two snapshots is geometric, counted from
    the last one. Four component evaluations per step, and the share of a full one;
    mapped over with `vmap`, every step pays for the full one.

    Args:
        step_size: eta, one positive number for all players; 1/(40L) in theory.
        num_components: n, the number of components of the sum.
        probability: of a new snapshot after a step; the batch's share of the sum, if
            `None`, which is 1/n for single indices.
        key: of the coins, kept in the state; `jax.random.key(0)` if `None`.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule, with `num_batches = 2`; batches are arrays of indices.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `num_components` is missing, `probability`
            not in (0, 1], the geometry entropic, or a batch no array of indices.

    References:
        Chavdarova, Gidel, Fleuret and Lacoste-Julien, Reducing noise in GAN training
        with variance reduced extragradient, 2019, arXiv:1904.08598.
    """

    def step(field, params, before, snapshot, move, batches):
        del before
        first, second = batches
        middle = move(params, snapshot.estimate(field, params, first))
        return move(params, snapshot.estimate(field, middle, second))

    return _build(
        "svre",
        step,
        step_size,
        num_components,
        probability,
        key,
        geometry,
        num_batches=2,
    )


def extragradient_variance_reduced(
    step_size: float | jax.Array,
    *,
    num_components: int | None = None,
    probability: float | None = None,
    weight: float | None = None,
    key: jax.Array | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Extragradient from between point and snapshot, half of it with the full field.

    $$\tilde z = \alpha z + (1 - \alpha) w, \qquad \bar z = P(\tilde z - \eta F(w)),
      \qquad z^+ = P\bigl(\tilde z - \eta\,(F(w) + F_i(\bar z) - F_i(w))\bigr),$$

    and w becomes $z^+$ with probability p (EG-VR). Two component evaluations per step,
    and the share of a full one.

    Args:
        step_size: eta, one positive number for all players; below $\sqrt p / L$.
        num_components: n, the number of components of the sum.
        probability: p; the batch's share of the sum, if `None`.
        weight: alpha in [0, 1); 1 - p, if `None`.
        key: of the coins, kept in the state; `jax.random.key(0)` if `None`.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule; batches are arrays of indices.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: as `svre`, or if `weight` is outside [0, 1).

    References:
        Alacaoglu and Malitsky, Stochastic variance reduction for variational inequality
        methods, 2022, arXiv:2102.08352.
    """
    if weight is not None and is_known(weight) and not 0 <= weight < 1:
        raise ValueError(f"weight must lie in [0, 1), got {weight}")

    def step(field, params, before, snapshot, move, batches):
        del before
        (batch,) = batches
        alpha = weight
        if alpha is None:
            share = min(1.0, (batch_size(batch) or 1) / (num_components or 1))
            alpha = 1 - (share if probability is None else probability)
        gap = subtract(params, snapshot.point)
        between = add(snapshot.point, scale(alpha, gap))
        middle = move(between, snapshot.slope)
        return move(between, snapshot.estimate(field, middle, batch))

    return _build(
        "extragradient_variance_reduced",
        step,
        step_size,
        num_components,
        probability,
        key,
        geometry,
    )


def loopless_svrgda(
    step_size: float | jax.Array,
    *,
    num_components: int | None = None,
    probability: float | None = None,
    key: jax.Array | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Simultaneous descent along a variance-reduced field (L-SVRGDA).

    $$z^+ = P\bigl(z - \eta\,(F_i(z) - F_i(w) + F(w))\bigr), \qquad
      w \leftarrow z \text{ with probability } p.$$

    Like simultaneous descent it needs strong monotonicity (or cocoercivity). Two
    component evaluations per step, and the share of a full one.

    Args:
        step_size: eta, one positive number for all players.
        num_components: n, the number of components of the sum.
        probability: p; the batch's share of the sum, if `None`.
        key: of the coins, kept in the state; `jax.random.key(0)` if `None`.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule; batches are arrays of indices.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: as `svre`.

    References:
        Beznosikov et al., Stochastic gradient descent-ascent: unified theory and new
        efficient methods, 2023, arXiv:2202.07262.
    """

    def step(field, params, before, snapshot, move, batches):
        del before
        return move(params, snapshot.estimate(field, params, batches[0]))

    return _build(
        "loopless_svrgda", step, step_size, num_components, probability, key, geometry
    )


def forward_reflected_variance_reduced(
    step_size: float | jax.Array,
    *,
    num_components: int | None = None,
    probability: float | None = None,
    key: jax.Array | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Forward-reflected-backward with the snapshot of the step before (VR-FoRB).

    $$z^+ = P\bigl(z - \eta\,(F(w) + F_i(z) - F_i(w_-))\bigr),$$

    w being renewed to $z^+$ with probability p, and $w_-$ the snapshot that the step
    before used: where w has just been renewed, the direction is
    $F(z) + F_i(z) - F_i(w_-)$, a reflection. Two component evaluations per step, and
    the share of a full one.

    Args:
        step_size: eta, one positive number for all players.
        num_components: n, the number of components of the sum.
        probability: p; the batch's share of the sum, if `None`.
        key: of the coins, kept in the state; `jax.random.key(0)` if `None`.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule; batches are arrays of indices.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: as `svre`.

    References:
        Alacaoglu, Malitsky and Cevher, Forward-reflected-backward method with variance
        reduction, 2021.
    """

    def step(field, params, before, snapshot, move, batches):
        (batch,) = batches
        change = subtract(field(params, batch), field(before, batch))
        return move(params, add(snapshot.slope, change))

    return _build(
        "forward_reflected_variance_reduced",
        step,
        step_size,
        num_components,
        probability,
        key,
        geometry,
    )


class AlternatingSnapshotState(NamedTuple):
    """The state of alternating variance reduction.

    Attributes:
        point: the point w of the snapshot.
        slope: the full field there, F(w).
        num_steps: the number of steps done since.
    """

    point: Params
    slope: Params
    num_steps: jax.Array


def alternating_variance_reduced(
    step_size: float | jax.Array,
    *,
    num_components: int | None = None,
    period: int | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Alternate, each move along a variance-reduced partial gradient (VR-AGDA).

    $$x^+ = P\bigl(x - \eta\,(\partial_x F_i(x, y) - \partial_x F_i(w) +
      \partial_x F(w))\bigr), \qquad
      y^+ = P\bigl(y - \eta\,(\partial_y F_j(x^+, y) - \partial_y F_j(w) +
      \partial_y F(w))\bigr),$$

    every player in turn, each with their own sample. The snapshot w is the point from
    `period` steps before at the most, renewed when so many steps have passed since the
    last one. Two component evaluations per step, and the share of a full one.

    Args:
        step_size: eta, one positive number for both players.
        num_components: n, the number of components of the sum.
        period: the steps between two snapshots; as many as it takes for the samples of
            one player to add up to n, if `None`.
        geometry: euclidean or projected, one for both players, or a tuple of one each.

    Returns:
        The rule, for two players, with `num_batches = 2`; batches are arrays of
        indices.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `num_components` is missing, `period` no
            positive integer, the geometry entropic, a batch no array of indices, or
            there are not two players.

    References:
        Yang, Kiyavash and He, Global convergence and variance-reduced optimization for
        a class of nonconvex-nonconcave minimax problems, 2020, arXiv:2002.09621.
    """
    check_step_size(step_size, "alternating_variance_reduced")
    check_geometry(geometry, PROJECTED, "alternating_variance_reduced")
    n = check_components(num_components, "alternating_variance_reduced")
    if period is not None:
        check_positive_integer("period", period)

    def init(params):
        check_players(params, 2, "alternating_variance_reduced")
        per_player(geometry, 2, "geometry")
        slope = jax.tree.map(jnp.zeros_like, params)
        return AlternatingSnapshotState(params, slope, jnp.zeros((), jnp.int32))

    def update(field, params, rule_state, batches):
        check_indices(batches, "alternating_variance_reduced")
        every = period or -(-n // (batch_size(batches[0]) or 1))
        point, slope = jax.lax.cond(
            rule_state.num_steps == 0,
            lambda: (params, field(params, jnp.arange(n))),
            lambda: (rule_state.point, rule_state.slope),
        )
        domains = per_player(geometry, 2, "geometry")
        for player, batch in enumerate(batches):
            change = subtract(field(params, batch)[player], field(point, batch)[player])
            step = scale(-step_size, add(change, slope[player]))
            moved = domains[player].apply(params[player], step)
            params = params[:player] + (moved,) + params[player + 1 :]
        count = (rule_state.num_steps + 1) % every
        return params, AlternatingSnapshotState(point, slope, count)

    return build(init, update, num_batches=2, period=period or n)


# The registered rules.

register(
    "svre",
    owned(svre),
    family="stochastic",
    summary="extragradient, both half steps variance reduced",
    formula="d_i(z) = F_i(z) - F_i(w) + F(w); u = z - h d_i(z); z' = z - h d_j(u)",
    source="Chavdarova et al. 2019, arXiv:1904.08598",
    guarantee="strongly monotone: linear in O(n + L/mu) for h = 1/(40L)",
    evaluations=5,
    geometries=PROJECTED,
    flops=4,
    needs=("finite sum", "independent batches"),
)
register(
    "extragradient_variance_reduced",
    owned(extragradient_variance_reduced),
    family="stochastic",
    summary="extragradient from between point and snapshot, variance reduced (EG-VR)",
    formula="v = a z + (1-a) w; u = v - h F(w); z' = v - h (F(w) + F_i(u) - F_i(w))",
    source="Alacaoglu and Malitsky 2022, arXiv:2102.08352",
    guarantee="monotone: O(n + sqrt(n) L/eps); strongly: linear, O(n + sqrt(n) L/mu)",
    evaluations=3,
    geometries=PROJECTED,
    flops=2,
    needs=("finite sum",),
)
register(
    "loopless_svrgda",
    owned(loopless_svrgda),
    family="stochastic",
    summary="simultaneous steps, variance reduced (L-SVRGDA)",
    formula="z' = z - h (F_i(z) - F_i(w) + F(w))",
    source="Beznosikov et al. 2023, arXiv:2202.07262",
    guarantee="strongly monotone and cocoercive: linear",
    evaluations=3,
    geometries=PROJECTED,
    flops=2,
    needs=("finite sum",),
)
register(
    "forward_reflected_variance_reduced",
    owned(forward_reflected_variance_reduced),
    family="stochastic",
    summary="forward-reflected-backward, variance reduced (VR-FoRB)",
    formula="z' = z - h (F(w) + F_i(z) - F_i(w-))",
    source="Alacaoglu et al. 2021",
    guarantee="monotone: converges almost surely; strongly monotone: linear",
    evaluations=3,
    geometries=PROJECTED,
    flops=2,
    needs=("finite sum",),
)
register(
    "alternating_variance_reduced",
    owned(alternating_variance_reduced),
    family="stochastic",
    summary="alternating steps, each move variance reduced (VR-AGDA)",
    formula="x' = x - h d_i(x, y); y' = y - h d_j(x', y), d_i = F_i(z) - F_i(w) + F(w)",
    source="Yang et al. 2020, arXiv:2002.09621",
    guarantee="two-sided Polyak-Lojasiewicz: linear",
    evaluations=3,
    geometries=PROJECTED,
    num_players=2,
    flops=2 * IN_TURN_FLOPS,
    needs=("finite sum", "independent batches"),
)
