"""Rules for stochastic games: reshuffled samples, the Hamiltonian, compression."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gamedyn.checks import check_positive_integer
from gamedyn.game import Batch, Params
from gamedyn.geometry import Geometry, euclidean, per_player
from gamedyn.rules.base import (
    EUCLIDEAN,
    PROJECTED,
    Rule,
    apply_updates,
    build,
    check_geometry,
    check_step_size,
    of_a_rule,
    stepper,
)
from gamedyn.rules.registry import from_transformations, owned, register
from gamedyn.rules.variance_reduction import (
    Snapshot,
    batch_size,
    check_components,
    check_indices,
    first_snapshot,
    fresh_key,
    refreshed,
    tossed,
)
from gamedyn.trees import add, copy, flatten, scale, size, subtract, unflatten


class ReshuffledState(NamedTuple):
    """The state of a reshuffled rule.

    Attributes:
        inner: the inner rule's state.
        order: the indices in the order of this epoch, shape `(n,)`.
        position: how many of them are used up.
        epoch: how many epochs are over.
    """

    inner: Any
    order: jax.Array
    position: jax.Array
    epoch: jax.Array


@of_a_rule
def reshuffled(
    rule: Rule, *, num_components: int | None = None, key: jax.Array | None = None
) -> Rule:
    r"""Feed a rule on a finite sum without replacement, every epoch in a new order.

    The order of epoch e is a random permutation made from `fold_in(key, e)`. Each step
    takes the next indices of it, as many as the batch that it is given holds (one, if
    that is no index array), and gives them to all evaluations of the step; what does
    not fill a batch at the end of an epoch is left out.

    Args:
        rule: the rule; it must use one batch per step.
        num_components: n, the number of components of the sum.
        key: of the orders; `jax.random.key(0)` if `None`.

    Returns:
        The rule; it looks at no more of its batch than the size.

    Raises:
        TypeError: if `rule` is not a `Rule`.
        ValueError: if `num_components` is missing or no positive integer, the rule uses
            several batches, or a batch is larger than n.

    References:
        Emmanouilidis, Vidal and Loizou, Stochastic extragradient with random
        reshuffling, 2024, arXiv:2403.07148.
    """
    if rule.num_batches != 1:
        raise ValueError(
            f"reshuffled gives one sample to the whole step, this rule takes "
            f"{rule.num_batches}"
        )
    n = check_components(num_components, "reshuffled")

    def permuted(epoch):
        return jax.random.permutation(jax.random.fold_in(fresh_key(key), epoch), n)

    def init(params):
        zero = jnp.zeros((), jnp.int32)
        order = permuted(zero).astype(jnp.int32)
        return ReshuffledState(rule.init(params), order, zero, jnp.copy(zero))

    def update(field, params, rule_state, batches):
        inner, order, position, epoch = rule_state
        taken = batch_size(batches[0]) or 1
        if taken > n:
            raise ValueError(f"a batch of {taken} indices, of {n} components")
        over = position + taken > n
        epoch = epoch + over.astype(jnp.int32)
        order = jax.lax.cond(
            over, lambda: permuted(epoch).astype(jnp.int32), lambda: order
        )
        position = jnp.where(over, 0, position)
        sample = jax.lax.dynamic_slice(order, (position,), (taken,))
        params, inner = rule.update(field, params, inner, (sample,))
        return params, ReshuffledState(inner, order, position + taken, epoch)

    return build(
        init,
        update,
        output=lambda params, rule_state: rule.output(params, rule_state.inner),
        period=rule.period,
        domain=rule.domain,
    )


def stochastic_hamiltonian(
    *optimizers: optax.GradientTransformation,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Descend half the squared norm of the field, on two independent samples.

    $$z^+ = z - \tfrac\eta2 \bigl(J_i(z)^\top F_j(z) + J_j(z)^\top F_i(z)\bigr),$$

    whose expectation is the gradient of $\tfrac12\|F\|^2$: with one sample it would not
    be. Attracted by every critical point, also by maxima. Two field evaluations and two
    products with transposed Jacobians per step.

    Args:
        *optimizers: one optax transformation for all players, or one each.
        geometry: euclidean only: on a domain the minima of the norm are others.

    Returns:
        The rule, with `num_batches = 2`.

    Raises:
        TypeError: if an optimizer is not an optax transformation.
        ValueError: if the geometry is not euclidean.

    References:
        Loizou et al., Stochastic Hamiltonian gradient methods for smooth games, 2020,
        arXiv:2007.04202.
    """
    steps = stepper(
        optimizers, geometry, supports=EUCLIDEAN, rule="stochastic_hamiltonian"
    )

    def update(field, params, rule_state, batches):
        (first, pull_first), (second, pull_second) = (
            jax.vjp(lambda z, batch=batch: field(z, batch), params) for batch in batches
        )
        slopes = add(pull_first(second)[0], pull_second(first)[0])
        changes, rule_state = steps.updates(scale(0.5, slopes), rule_state, params)
        return steps.apply(params, changes), rule_state

    return build(steps.init, update, num_batches=2)


class CompressedState(NamedTuple):
    """The state of compressed descent.

    Attributes:
        memory: what every worker remembers of their field, `None` without memory.
        snapshot: that of the variance reduction, `None` without one.
        key: from which the entries kept are drawn.
    """

    memory: tuple[Params, ...] | None
    snapshot: Snapshot | None
    key: jax.Array


def compressed_descent(
    step_size: float | jax.Array,
    *,
    share: float = 0.25,
    memory: bool = False,
    num_workers: int = 1,
    num_components: int | None = None,
    probability: float | None = None,
    key: jax.Array | None = None,
    geometry: Geometry | tuple[Geometry, ...] = euclidean,
) -> Rule:
    r"""Descend along the workers' fields, compressed at random.

    $$g = \frac1M \sum_m h_m + Q(F_m(z) - h_m), \qquad
      h_m^+ = h_m + \alpha\,Q(F_m(z) - h_m), \qquad z^+ = P(z - \eta g).$$

    Q keeps k of the d entries at random, all players together, and multiplies them by
    d/k, which makes it unbiased. Without memory, $h_m = 0$ throughout, it is quantised
    descent (QSGDA); with memory and $\alpha = k/d$ it is DIANA, whose error dies out at
    a solution. Given `num_components`, every $F_m$ is the variance-reduced estimator of
    `loopless_svrgda` (VR-DIANA). One field evaluation per worker and step, with
    variance reduction two and the share of a full one.

    Args:
        step_size: eta, one positive number for all players.
        share: k/d in (0, 1]; at least one entry is kept.
        memory: whether the workers remember.
        num_workers: M; every worker has its own batch.
        num_components: n, the number of components of a finite sum, for variance
            reduction.
        probability: of a new snapshot after a step; the batch's share of the sum, if
            `None`.
        key: of the entries kept and of the coins; `jax.random.key(0)` if `None`.
        geometry: euclidean or projected, one for all players, or a tuple of one each.

    Returns:
        The rule, with `num_batches = num_workers`.

    Raises:
        TypeError: if `step_size` is not a real scalar.
        ValueError: if it is not positive, `share` not in (0, 1], a count no positive
            integer, or the geometry entropic.

    References:
        Beznosikov et al., Stochastic gradient descent-ascent: unified theory and new
        efficient methods, 2023, arXiv:2202.07262.
    """
    check_step_size(step_size, "compressed_descent")
    check_geometry(geometry, PROJECTED, "compressed_descent")
    check_positive_integer("num_workers", num_workers)
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    if num_components is not None:
        check_components(num_components, "compressed_descent")

    def init(params):
        per_player(geometry, len(params), "geometry")
        zero = jax.tree.map(jnp.zeros_like, params)
        return CompressedState(
            tuple(copy(zero) for _ in range(num_workers)) if memory else None,
            None if num_components is None else first_snapshot(params, key),
            jax.random.fold_in(fresh_key(key), 1),
        )

    def update(field, params, rule_state, batches):
        remembered, snapshot, own_key = rule_state

        # A new snapshot if one is due, and a key for every worker.
        own_key, *keys = jax.random.split(own_key, num_workers + 1)
        if num_components is not None:
            check_indices(batches, "compressed_descent")
            snapshot = refreshed(snapshot, field, params, num_components)

        def slope(batch: Batch) -> Params:
            if snapshot is None:
                return field(params, batch)
            return snapshot.estimate(field, params, batch)

        # Every worker sends the compressed news beyond what is remembered of them.
        directions, states = [], []
        for worker, (batch, coins) in enumerate(zip(batches, keys, strict=True)):
            known = None if remembered is None else remembered[worker]
            news = slope(batch)
            news = news if known is None else subtract(news, known)
            kept = keep_some(coins, news, share)
            directions.append(kept if known is None else add(known, kept))
            if known is not None:
                states.append(add(known, scale(_kept_share(news, share), kept)))

        # The step, and the coin that says whether the snapshot is renewed.
        mean = scale(1 / num_workers, add(*directions))
        moved = apply_updates(geometry, params, scale(-step_size, mean))
        if num_components is not None:
            snapshot = tossed(snapshot, batches[0], num_components, probability)
        memory_after = None if remembered is None else tuple(states)
        return moved, CompressedState(memory_after, snapshot, own_key)

    return build(init, update, num_batches=num_workers)


def keep_some(key: jax.Array, tree: Params, share: float) -> Params:
    """Keep k random entries of a tree, multiplied by d/k; unbiased.

    Args:
        key: which ones.
        tree: the tree of d entries.
        share: k/d; k is rounded, one at the least.

    Returns:
        The tree with zeros elsewhere.
    """
    vector = flatten(tree)
    kept = _number_kept(vector.size, share)
    chosen = jax.random.permutation(key, vector.size)[:kept]
    # Multiplied by d/k: without, the direction is too short by that factor on average.
    mask = jnp.zeros_like(vector).at[chosen].set(vector.size / max(kept, 1))
    return unflatten(vector * mask, tree)


def _number_kept(num_entries: int, share: float) -> int:
    return min(num_entries, max(1, round(share * num_entries)))


def _kept_share(tree: Params, share: float) -> float:
    num_entries = size(tree)
    return _number_kept(num_entries, share) / max(num_entries, 1)


# The registered rules.

register(
    "stochastic_hamiltonian",
    from_transformations(stochastic_hamiltonian),
    family="stochastic",
    summary="descent on half the squared norm of the field, on two independent samples",
    formula="z' = z - h/2 (J_i' F_j + J_j' F_i)",
    source="Loizou et al. 2020, arXiv:2007.04202",
    guarantee="stochastic bilinear: linear up to a ball of noise",
    evaluations=2,
    geometries=EUCLIDEAN,
    products=2,
    flops=3.4,
    needs=("independent batches",),
)
register(
    "quantised_descent",
    owned(compressed_descent),
    family="stochastic",
    summary="simultaneous steps along a quarter of the entries, at random (QSGDA)",
    formula="z' = z - h Q(F_i(z)), Q unbiased",
    source="Beznosikov et al. 2023, arXiv:2202.07262",
    guarantee="strongly monotone and cocoercive: linear up to a ball of noise",
    geometries=PROJECTED,
)
register(
    "diana",
    owned(compressed_descent, memory=True),
    family="stochastic",
    summary="simultaneous steps from compressed differences to what is remembered",
    formula="d = Q(F_i(z) - m); z' = z - h (m + d); m' = m + a d",
    source="Mishchenko et al. 2019, arXiv:1901.09269",
    guarantee="strongly monotone and cocoercive: linear without noise of compression",
    geometries=PROJECTED,
)


def _vr_diana(step_size, *, num_components=None, **options):
    check_components(num_components, "vr_diana")
    return compressed_descent(
        step_size, memory=True, num_components=num_components, **options
    )


register(
    "vr_diana",
    owned(_vr_diana),
    family="stochastic",
    summary="DIANA with variance-reduced fields",
    formula="d = Q(F_i(z) - F_i(w) + F(w) - m); z' = z - h (m + d); m' = m + a d",
    source="Beznosikov et al. 2023, arXiv:2202.07262",
    guarantee="strongly monotone and cocoercive: linear",
    evaluations=3,
    geometries=PROJECTED,
    flops=2,
    needs=("finite sum",),
)
