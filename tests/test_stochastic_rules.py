"""Rules on finite sums and under compression: unbiased, and they converge."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn.rules.stochastic import keep_some
from gamedyn.rules.variance_reduction import Snapshot

N = 6
STEP = 0.1
RANDOM = np.random.default_rng(0)
MATRICES = RANDOM.normal(size=(N, 4, 4))
OFFSETS = RANDOM.normal(size=(N, 4))
# Strongly monotone on average, though its components are not.
MEAN = np.eye(4) + np.block(
    [[np.zeros((2, 2)), RANDOM.normal(size=(2, 2))], [np.zeros((2, 4))]]
)
MEAN[2:, :2] = -MEAN[:2, 2:].T
MATRICES += MEAN - MATRICES.mean(axis=0)


def field(params, batch):
    """The mean over a batch of A_i z + b_i, for players of two parameters each."""
    z = jnp.concatenate(params)
    a, b = jnp.asarray(MATRICES)[batch], jnp.asarray(OFFSETS)[batch]
    slope = jnp.mean(a @ z + b, axis=0)
    return slope[:2], slope[2:]


def component(i, z):
    return MATRICES[i] @ z + OFFSETS[i]


def full(z):
    return MEAN @ z + OFFSETS.mean(axis=0)


def split(z):
    return jnp.asarray(z[:2]), jnp.asarray(z[2:])


Z, W, OLD = RANDOM.normal(size=(3, 4))
SOLUTION = -np.linalg.solve(MEAN, OFFSETS.mean(axis=0))


@functools.cache
def stepped(rule):
    return jax.jit(functools.partial(rule.update, field))


def snapshot(point, due=False):
    return Snapshot(split(point), split(full(point)), jnp.array(due), jax.random.key(0))


def moved(rule, state, *indices, point=Z):
    """One step on given components, as one vector."""
    batches = tuple(jnp.array([i], jnp.int32) for i in indices)
    return np.concatenate(stepped(rule)(split(point), state, batches)[0])


def over_all(rule, state, repeat=1):
    """The mean over all (tuples of) components, exactly."""
    every = itertools.product(range(N), repeat=repeat)
    return np.mean([moved(rule, state, *i) for i in every], axis=0)


def test_loopless_svrgda_is_unbiased():
    rule = gd.rules.loopless_svrgda(STEP, num_components=N)
    np.testing.assert_allclose(
        over_all(rule, snapshot(W)), Z - STEP * full(Z), atol=1e-13
    )
    # The trap: with the snapshot's gradient taken at the current point nothing would
    # depend on the component.
    ends = [moved(rule, snapshot(W), i) for i in range(N)]
    assert np.ptp(ends, axis=0).min() > 1e-3
    # At the snapshot there is no noise, and a due snapshot is taken at the point.
    for state in (snapshot(Z), snapshot(W, due=True)):
        for i in range(N):
            np.testing.assert_allclose(
                moved(rule, state, i), Z - STEP * full(Z), atol=1e-13
            )


def test_svre_is_extragradient_on_average():
    rule = gd.rules.svre(STEP, num_components=N)
    expected = Z - STEP * full(Z - STEP * full(Z))
    got = over_all(rule, snapshot(W), repeat=2)
    np.testing.assert_allclose(got, expected, atol=1e-13)
    one = moved(rule, snapshot(W), 1, 4)
    middle = Z - STEP * (component(1, Z) - component(1, W) + full(W))
    due = Z - STEP * (component(4, middle) - component(4, W) + full(W))
    np.testing.assert_allclose(one, due, atol=1e-13)


def test_extragradient_variance_reduced_is_unbiased():
    rule = gd.rules.extragradient_variance_reduced(
        STEP, num_components=N, probability=0.25
    )
    between = 0.75 * Z + 0.25 * W
    middle = between - STEP * full(W)
    np.testing.assert_allclose(
        over_all(rule, snapshot(W)), between - STEP * full(middle), atol=1e-13
    )
    for weight in (0.0, 0.5):
        other = gd.rules.extragradient_variance_reduced(
            STEP, num_components=N, weight=weight
        )
        between = weight * Z + (1 - weight) * W
        middle = between - STEP * full(W)
        due = between - STEP * (full(W) + component(2, middle) - component(2, W))
        np.testing.assert_allclose(moved(other, snapshot(W), 2), due, atol=1e-13)


def test_forward_reflected_variance_reduced():
    rule = gd.rules.forward_reflected_variance_reduced(STEP, num_components=N)
    np.testing.assert_allclose(
        over_all(rule, snapshot(W)), Z - STEP * full(Z), atol=1e-13
    )
    # In the step after the coin the snapshot is new, the reflection at the old one.
    due = Z - STEP * (2 * full(Z) - full(W))
    np.testing.assert_allclose(over_all(rule, snapshot(W, due=True)), due, atol=1e-13)


def test_alternating_variance_reduced_is_unbiased():
    rule = gd.rules.alternating_variance_reduced(STEP, num_components=N)
    state = rule.init(split(W))._replace(
        slope=split(full(W)), num_steps=jnp.array(1, jnp.int32)
    )
    x = Z[:2] - STEP * full(Z)[:2]
    y = Z[2:] - STEP * full(np.concatenate([x, Z[2:]]))[2:]
    got = over_all(rule, state, repeat=2)
    np.testing.assert_allclose(got, np.concatenate([x, y]), atol=1e-13)
    with pytest.raises(ValueError, match="for 2 players, got 3"):
        rule.init((jnp.ones(1),) * 3)


def test_variance_reduced_diana_without_compression_is_svrgda():
    rule = gd.rules.make("vr_diana", STEP, num_components=N, share=1.0)
    state = rule.init(split(Z))._replace(snapshot=snapshot(W))
    np.testing.assert_allclose(over_all(rule, state), Z - STEP * full(Z), atol=1e-13)


def test_samples_of_stochastic_extragradient():
    """Independent samples give extragradient on average, the same sample does not."""
    expected = Z - STEP * full(Z - STEP * full(Z))
    independent = gd.extragradient(optax.sgd(STEP), resample=True)
    state = independent.init(split(Z))
    got = over_all(independent, state, repeat=2)
    np.testing.assert_allclose(got, expected, atol=1e-13)
    same = gd.extragradient(optax.sgd(STEP))
    got = over_all(same, state)
    due = np.mean(
        [Z - STEP * component(i, Z - STEP * component(i, Z)) for i in range(N)],
        axis=0,
    )
    np.testing.assert_allclose(got, due, atol=1e-13)
    assert np.max(np.abs(got - expected)) > 1e-3


def test_stochastic_hamiltonian_is_unbiased():
    rule = gd.rules.make("stochastic_hamiltonian", STEP)
    got = over_all(rule, rule.init(split(Z)), repeat=2)
    np.testing.assert_allclose(got, Z - STEP * MEAN.T @ full(Z), atol=1e-13)
    # One sample for both factors would give another field.
    same = np.mean([moved(rule, rule.init(split(Z)), i, i) for i in range(N)], axis=0)
    assert np.max(np.abs(same - got)) > 1e-2


def test_stochastic_hamiltonian_rate():
    """On a deterministic bilinear game every mode contracts by 1 - h s^2."""
    matrix = jnp.diag(jnp.array([1.0, 2.0]))
    game = gd.zero_sum(lambda x, y: x @ matrix @ y)
    rule = gd.rules.make("stochastic_hamiltonian", 0.4)
    radius = gd.analysis.spectral_radius(game, rule, (jnp.zeros(2), jnp.zeros(2)))
    np.testing.assert_allclose(radius, 0.6, rtol=1e-12)


def test_bias_correction_uses_its_samples_as_published():
    """The same sample at z and at the point before, a fresh one at the middle."""
    rule = gd.rules.bias_corrected_extragradient(0.3, weight=0.25)
    state = rule.init(split(Z))._replace(
        previous=split(OLD), ahead=split(W), num_steps=jnp.array(3, jnp.int32)
    )
    got = moved(rule, state, 1, 4)
    corrected = W - OLD + 0.3 * component(1, OLD)
    middle = Z - 0.3 * component(1, Z) + 0.75 * corrected
    due = Z - 0.25 * 0.3 * component(4, middle)
    np.testing.assert_allclose(got, due, atol=1e-13)
    box = gd.geometry.box(-0.5, 0.5)
    rule = gd.rules.bias_corrected_extragradient(0.3, weight=0.25, geometry=box)
    inside = np.clip(middle, -0.5, 0.5)
    due = Z - 0.25 * (middle - inside + 0.3 * component(4, inside))
    np.testing.assert_allclose(moved(rule, state, 1, 4), due, atol=1e-13)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.74])
def test_compression_is_unbiased(share):
    """All outcomes are equally likely, and their mean is the vector."""
    vector = jnp.asarray(Z)
    keys = jax.random.split(jax.random.key(3), 600)
    draws = jax.jit(jax.vmap(lambda k: keep_some(k, (vector,), share)[0]))(keys)
    kept = round(share * 4)
    assert np.all(np.sum(np.asarray(draws) != 0, axis=1) == kept)
    outcomes, counts = np.unique(np.asarray(draws), axis=0, return_counts=True)
    number = len(list(itertools.combinations(range(4), kept)))
    assert len(outcomes) == number
    np.testing.assert_allclose(outcomes.mean(axis=0), Z, rtol=1e-12)
    spread = np.sqrt(600 / number * (1 - 1 / number))
    assert np.abs(counts - 600 / number).max() < 4 * spread


def test_diana_in_its_own_words():
    rule = gd.rules.make("diana", STEP, share=0.5, num_workers=2)
    assert rule.num_batches == 2
    state = rule.init(split(Z))
    memory = np.stack([W, OLD])
    state = state._replace(memory=tuple(split(h) for h in memory))
    batches = tuple(jnp.array([i], jnp.int32) for i in (1, 4))
    params, after = stepped(rule)(split(Z), state, batches)
    changed = [np.concatenate(h) - m for h, m in zip(after.memory, memory, strict=True)]
    news = [component(i, Z) - m for i, m in zip((1, 4), memory, strict=True)]
    for change, new in zip(changed, news, strict=True):
        kept = change != 0
        assert kept.sum() == 2
        np.testing.assert_allclose(change[kept], new[kept], rtol=1e-12)  # a d/k = 1
    direction = np.mean([m + 2 * c for m, c in zip(memory, changed, strict=True)], 0)
    np.testing.assert_allclose(np.concatenate(params), Z - STEP * direction, atol=1e-13)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 4))
def solve(rule, num_steps, size, key, record):
    def sample(key):
        return jax.random.randint(key, (size,), 0, N, dtype=jnp.int32)

    return gd.solve(
        field, rule, split(Z), num_steps, key=key, sample=sample, record=record
    )


def run(rule, num_steps, size=1, seed=0, record=None):
    return solve(rule, num_steps, size, jax.random.key(seed), record)


def distance(solution):
    return np.linalg.norm(np.concatenate(solution.output) - SOLUTION)


REDUCED = [
    ("svre", 0.05),
    ("extragradient_variance_reduced", 0.05),
    ("loopless_svrgda", 0.03),
    ("forward_reflected_variance_reduced", 0.03),
    ("alternating_variance_reduced", 0.03),
    ("vr_diana", 0.01),
]


@pytest.mark.parametrize(("name", "step_size"), REDUCED)
def test_variance_reduction_reaches_the_solution(name, step_size):
    rule = gd.rules.make(name, step_size, num_components=N)
    assert distance(run(rule, 6000)) < 1e-9


def test_without_variance_reduction_noise_remains():
    for name in ("simultaneous", "extragradient", "stochastic_extragradient"):
        assert distance(run(gd.rules.make(name, 0.05), 6000)) > 1e-3


COUPLINGS = 1 + RANDOM.normal(size=(N, 2))


def bilinear_field(params, batch):
    """The mean over a batch of x . (c_i y), coordinate by coordinate."""
    x, y = params
    scale = jnp.mean(jnp.asarray(COUPLINGS)[batch], axis=0)
    return scale * y, -scale * x


@functools.partial(jax.jit, static_argnums=0)
def distance_on_bilinear(rule):
    def sample(key):
        return jax.random.randint(key, (1,), 0, N, dtype=jnp.int32)

    solution = gd.solve(
        bilinear_field, rule, split(Z), 8000, key=jax.random.key(1), sample=sample
    )
    return optax.tree.norm(solution.params)


def test_stochastic_bilinear_game():
    """Independent samples diverge with a constant step, reduced variance converges."""
    for name in ("svre", "extragradient_variance_reduced"):
        rule = gd.rules.make(name, 0.1, num_components=N)
        assert distance_on_bilinear(rule) < 1e-8
    assert distance_on_bilinear(gd.rules.make("stochastic_extragradient", 0.1)) > 1


def test_snapshots_are_memoryless():
    """The number of steps between two snapshots is geometric, counted from the last."""
    rule = gd.rules.svre(1e-3, num_components=N)

    def due_now(params, rule_state, *_):
        del params
        return rule_state.due

    due = run(rule, 30_000, record=due_now).trace
    gaps = np.diff(np.flatnonzero(due))
    p = 1 / N
    assert due[0]
    np.testing.assert_allclose(gaps.mean(), N, rtol=4 * np.sqrt((1 - p) / len(gaps)))
    for k in (1, 2, 3, 10):
        share, expected = np.mean(gaps >= k), (1 - p) ** (k - 1)
        spread = np.sqrt(expected * (1 - expected) / len(gaps))
        assert abs(share - expected) <= 4 * spread + 1e-12
    # Larger batches renew more often, by default so that the cost stays the same.
    more = run(rule, 3000, size=3, record=due_now).trace
    assert abs(np.mean(more) - 0.5) < 0.05


def test_coins_are_the_callers():
    """Another key, other coins; the same key, the same run; both kinds of keys."""

    def due(params, rule_state, *_):
        del params
        return rule_state.due

    @jax.jit
    def coins(key):
        rule = gd.rules.loopless_svrgda(1e-3, num_components=N, key=key)
        sample = lambda key: jnp.zeros(1, jnp.int32)  # noqa: E731
        run = functools.partial(gd.solve, field, rule, split(Z), 200, key=key)
        return run(sample=sample, record=due).trace

    zero, one = jax.random.key(0), jax.random.key(1)
    np.testing.assert_array_equal(coins(zero), coins(jax.random.key(0)))
    assert np.any(coins(one) != coins(zero))

    def first(key):
        return gd.rules.svre(0.1, num_components=N, key=key).init(split(Z)).key

    assert first(None) == first(zero) == first(jax.random.PRNGKey(0)) != first(one)


@pytest.mark.parametrize("size", [1, 3])
def test_reshuffling_shows_everything_once_an_epoch(size):
    calls = []

    def watched(params, batch):
        calls.append(np.asarray(batch).tolist())
        return params

    rule = gd.rules.make("reshuffled_extragradient", 1e-3, num_components=7)
    params = (jnp.ones(2),)
    state = rule.init(params)
    given = (jnp.zeros(size, jnp.int32),)
    per_epoch = 7 // size
    with jax.disable_jit():
        for _ in range(3 * per_epoch):
            params, state = rule.update(watched, params, state, given)
    first, second = calls[::2], calls[1::2]
    assert first == second  # the same sample in both halves
    epochs = [sum(first[e * per_epoch : (e + 1) * per_epoch], []) for e in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == per_epoch * size
        assert set(epoch) <= set(range(7))
    assert epochs[0] != epochs[1] != epochs[2]
    # The order is made from the key and the epoch alone.
    key = jax.random.fold_in(jax.random.key(0), 1)
    expected = jax.random.permutation(key, 7)[: per_epoch * size]
    assert epochs[1] == expected.tolist()


def test_reshuffling_beats_replacement():
    with_order = gd.rules.make("reshuffled_extragradient", 0.02, num_components=N)
    drawn = gd.extragradient(optax.sgd(0.02))
    floors = []
    for rule in (with_order, drawn):
        ends = [distance(run(rule, 3000, seed=seed)) for seed in range(4)]
        floors.append(np.mean(ends))
    assert floors[0] < 0.6 * floors[1]


def test_options_are_checked():
    builders = (
        gd.rules.svre,
        gd.rules.loopless_svrgda,
        gd.rules.extragradient_variance_reduced,
        gd.rules.forward_reflected_variance_reduced,
        gd.rules.alternating_variance_reduced,
    )
    for builder in builders:
        with pytest.raises(ValueError, match="is for finite sums: give num_components"):
            builder(0.1)
        with pytest.raises(ValueError, match="num_components must be a positive"):
            builder(0.1, num_components=0)
        with pytest.raises(ValueError, match="not defined on entropic"):
            builder(0.1, num_components=3, geometry=gd.geometry.entropic)
        rule = builder(0.1, num_components=N)
        params = split(Z)
        for wrong in (None, jnp.ones(2), jnp.array(1), jnp.zeros((2, 2), jnp.int32)):
            batches = (wrong,) * rule.num_batches
            with pytest.raises(ValueError, match="one-dimensional arrays of indices"):
                rule.update(field, params, rule.init(params), batches)
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="probability must lie in"):
            gd.rules.svre(0.1, num_components=3, probability=wrong)
    with pytest.raises(ValueError, match="weight must lie in"):
        gd.rules.extragradient_variance_reduced(0.1, num_components=3, weight=1.0)
    with pytest.raises(ValueError, match="share must lie in"):
        gd.rules.compressed_descent(0.1, share=0.0)
    inner = gd.extragradient(optax.sgd(0.1), resample=True)
    with pytest.raises(ValueError, match="one sample to the whole step"):
        gd.rules.reshuffled(inner, num_components=3)
    with pytest.raises(TypeError, match="takes a Rule"):
        gd.rules.reshuffled(optax.sgd(0.1), num_components=3)
    rule = gd.rules.reshuffled(gd.simultaneous(optax.sgd(0.1)), num_components=3)
    wrong = (jnp.zeros(4, jnp.int32),)
    state = rule.init(split(Z))
    with pytest.raises(ValueError, match="batch of 4 indices, of 3 components"):
        rule.update(field, split(Z), state, wrong)
