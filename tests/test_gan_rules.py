"""Every registered rule, field and method trains a GAN, or says why it cannot."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rule_cases

import gamedyn as gd
from gamedyn import data, gan, nets

ENTRIES = gd.rules.entries()
NOT_GANS = {"simplex", "finite sum", "constraints"}  # needs that no GAN meets
TRAINS = [name for name, entry in ENTRIES.items() if not NOT_GANS & set(entry.needs)]
ON_SIMPLEX = [name for name, entry in ENTRIES.items() if entry.on_simplex]

STEPS = 50
KEY = jax.random.key(1)
BATCH = 8  # one example of every mode
# Smooth, and small enough for the dense Newton steps of the implicit rules.
GENERATOR = nets.mlp((2, 8, 2), activation=jnp.tanh)
DISCRIMINATOR = nets.mlp((2, 8, 1), activation=jnp.tanh, output_shape=())
GAME = gan.game(GENERATOR, DISCRIMINATOR, "non_saturating", latent=gan.normal(2))
# Compilation takes nearly all the time, and nothing here is about speed.
COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


# The others take the same code a longer while to compile.
FIELDS = [
    pytest.param(
        name,
        marks=()
        if name in ("gradient", "consensus", "competitive")
        else pytest.mark.slow,
    )
    for name in gd.fields.names()
]
# Methods that are neither a rule nor a field.
NAMED = [
    pytest.param(name, marks=() if name == "consensus_rmsprop" else pytest.mark.slow)
    for name in gd.methods.names()
    if name not in ENTRIES and name not in gd.fields.names()
]


def promotion(name):
    """Adam multiplies integers with floats, so it cannot run under strict promotion."""
    return jax.numpy_dtype_promotion("standard" if "adam" in name else "strict")


@functools.cache
def start(dtype):
    def init():
        keys = jax.random.split(jax.random.key(0))
        params = GENERATOR.init(keys[0]), DISCRIMINATOR.init(keys[1])
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    return jax.jit(init, compiler_options=COMPILE)()


def draw(dtype, key):
    """Noisy points around eight modes on a circle, and latents; one draw for both."""
    noise = jax.random.uniform(key, (2, BATCH, 2), dtype, -1, 1)
    modes = jnp.asarray(data.mixtures.ring(BATCH, 1.0), dtype)
    return gan.Batch(modes + dtype(0.1) * noise[0], key, latent=noise[1])


def losses(params, rule_state, batches, step):
    del rule_state, step
    return GAME(params, batches[0])


def train(game_or_field, rule, dtype, sample, record=losses):
    def run(params):
        return gd.solve(
            game_or_field, rule, params, STEPS, key=KEY, sample=sample, record=record
        )

    return jax.jit(run, compiler_options=COMPILE)(start(dtype))


def check(solution, dtype):
    """Finite losses at every step, and every array of both players moved."""
    assert int(solution.status) == gd.Status.OK
    assert int(solution.num_steps) == STEPS
    trace = np.stack(solution.trace)
    assert trace.shape == (2, STEPS)
    assert np.all(np.isfinite(trace))
    assert len(np.unique(trace[1])) > STEPS // 2  # every step has its own batch
    for point in (solution.params, solution.output):
        before, after = (jax.tree.leaves_with_path(p) for p in (start(dtype), point))
        for (path, old), (_, new) in zip(before, after, strict=True):
            assert new.dtype == dtype, path
            assert np.all(np.isfinite(new)), path
            assert np.any(np.asarray(new) != np.asarray(old)), path


@pytest.mark.parametrize("name", rule_cases.one_of_each_kind(TRAINS))
def test_rule_trains_a_gan(name):
    with promotion(name):
        rule = gd.rules.make(name, 0.01)
        sample = functools.partial(draw, jnp.float32)
        check(train(GAME, rule, jnp.float32, sample), jnp.float32)


@pytest.mark.parametrize("name", ["alternating", "past_extragradient"])
def test_rule_trains_a_gan_in_float64(name):
    rule = gd.rules.make(name, 0.01)
    sample = functools.partial(draw, jnp.float64)
    check(train(GAME, rule, jnp.float64, sample), jnp.float64)


@pytest.mark.parametrize("name", FIELDS)
def test_field_trains_a_gan(name):
    rule = gd.rules.make("simultaneous", 0.01)
    sample = functools.partial(draw, jnp.float32)
    field = gd.fields.make(name, GAME, 0.01)
    check(train(field, rule, jnp.float32, sample), jnp.float32)


@pytest.mark.parametrize("name", NAMED)
def test_named_method_trains_a_gan(name):
    with promotion(name):
        field, rule = gd.methods.make(name, GAME, 0.01)
        sample = functools.partial(draw, jnp.float32)
        check(train(field, rule, jnp.float32, sample), jnp.float32)


def test_noisy_field_trains_a_gan():
    """Its batch is the key of the noise, so that the game's own one is fixed."""
    fixed = draw(jnp.float32, jax.random.key(3))
    gradient = gd.fields.gradient(GAME)
    field = gd.fields.noisy(lambda params, batch: gradient(params, fixed), 0.1)

    def record(params, rule_state, batches, step):
        del rule_state, batches, step
        return GAME(params, fixed)

    rule = gd.rules.make("simultaneous", 0.01)
    check(train(field, rule, jnp.float32, None, record), jnp.float32)


@pytest.mark.parametrize("name", sorted(set(ENTRIES) - set(TRAINS) - set(ON_SIMPLEX)))
def test_rule_with_other_needs_says_so(name):
    with pytest.raises(ValueError, match="num_components=|constraints="):
        gd.rules.make(name, 0.01)
    rule = rule_cases.make(name, 0.01)
    if "finite sum" in ENTRIES[name].needs and name != "reshuffled_extragradient":
        sample = functools.partial(draw, jnp.float32)
        with pytest.raises(ValueError, match="one-dimensional arrays of indices"):
            gd.solve(GAME, rule, start(jnp.float32), STEPS, key=KEY, sample=sample)


@pytest.mark.parametrize("name", ON_SIMPLEX)
def test_rule_on_simplices_refuses_a_gan(name):
    """Entropic steps take logarithms of parameters: networks have negative ones."""
    rule = gd.rules.make(name, 0.01)
    sample = functools.partial(draw, jnp.float32)
    message = r"player 0 starts with -\d\.\d+.* expected a point of the simplex"
    with pytest.raises(ValueError, match=message):
        gd.solve(GAME, rule, start(jnp.float32), STEPS, key=KEY, sample=sample)


def test_rule_on_simplices_ends_at_once_where_nothing_can_be_seen():
    """Under jit the start has no values to look at: the run says what became of it."""
    rule = gd.rules.make("multiplicative_weights", 0.01)
    sample = functools.partial(draw, jnp.float32)
    solution = train(GAME, rule, jnp.float32, sample, record=None)
    assert int(solution.status) == gd.Status.INFEASIBLE
    assert "outside the players' domains" in gd.Status(int(solution.status)).message
    assert int(solution.num_steps) == 0
    before, after = map(jax.tree.leaves, (start(jnp.float32), solution.params))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
