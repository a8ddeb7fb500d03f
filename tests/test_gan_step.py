"""A composed GAN step does the arithmetic of a hand-written one, and no more."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn import gan, nets
from gamedyn.train.step import begin, compiled, step_of

BATCH = 32
OPTIMIZER = functools.partial(optax.adam, 2e-4, b1=0.5)
RULES = {
    "alternating": gd.alternating(OPTIMIZER(), order=(1, 0), resample=True),
    "simultaneous": gd.simultaneous(OPTIMIZER()),
}
LATENT = {"dcgan": 16, "mlp": 2}
SHAPE = {"dcgan": (8, 8, 1), "mlp": (2,)}
# What is counted is settled before machine code is made: make it fast.
OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@functools.cache
def networks(name):
    if name == "mlp":
        hidden = (64,) * 4
        return (
            nets.mlp((2, *hidden, 2)),
            nets.mlp((2, *hidden, 1), output_shape=()),
        )
    return (
        nets.dcgan_generator(8, latent=LATENT[name], width=16),
        nets.dcgan_discriminator(8, width=16),
    )


def sample(name, key):
    of_data, of_latents = jax.random.split(key)
    real = jax.random.uniform(of_data, (BATCH, *SHAPE[name]), jnp.float32, -1, 1)
    return gan.Batch(real, of_latents)


def losses(name, theta, phi, batch):
    """Both losses, the logits and the fakes, as one writes them for one's own GAN."""
    generator, discriminator = networks(name)
    # The key that `gan.game` draws from, for equal numbers.
    key = jax.random.split(batch.key, 4)[0]
    latent = jax.random.normal(key, (BATCH, LATENT[name]), jnp.float32)
    real = discriminator.apply(phi, batch.real)
    fake = discriminator.apply(phi, generator.apply(theta, latent))
    own = jnp.mean(jax.nn.softplus(-fake))
    critic = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
    return own, critic, real, fake


def by_hand(name, method, carry, key):
    """A training step without games and rules, its metrics returned."""
    step, (theta, phi), states, _ = carry
    optimizer = OPTIMIZER()
    number = {"alternating": 2, "simultaneous": 1}[method]
    keys = jax.random.split(jax.random.fold_in(key, step), number)
    first, *rest = (sample(name, k) for k in keys)
    second = rest[0] if rest else first

    def critic(phi):
        own, loss, real, fake = losses(name, theta, phi, first)
        return loss, (own, real, fake)

    (loss, (own, real, fake)), slope = jax.value_and_grad(critic, has_aux=True)(phi)
    change, state_d = optimizer.update(slope, states[1], phi)
    moved = optax.apply_updates(phi, change)
    seen = moved if rest else phi
    slope = jax.grad(lambda theta: losses(name, theta, seen, second)[0])(theta)
    change, state_g = optimizer.update(slope, states[0], theta)
    row = {
        "accuracy_fake": jnp.mean((fake < 0).astype(jnp.float32)),
        "accuracy_real": jnp.mean((real > 0).astype(jnp.float32)),
        "logit_fake": jnp.mean(fake),
        "logit_real": jnp.mean(real),
        "loss_discriminator": loss,
        "loss_generator": own,
    }
    params = optax.apply_updates(theta, change), moved
    return carry._replace(
        step=step + 1, params=params, rule_state=(state_g, state_d)
    ), row


def start(pair):
    """Numbers of a usual size; drawing the networks' own compiles for long."""
    rng = np.random.default_rng(0)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: tuple(net.init(key) for net in pair))
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.1 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


def training(name, method, *, recorded=True):
    """The call of `train.fit`, and its arguments."""
    pair = networks(name)
    game = gan.game(*pair, "non_saturating", latent=gan.normal(LATENT[name]))
    key = jax.random.key(1)
    parts = step_of(
        gd.fields.gradient(game),
        RULES[method],
        functools.partial(sample, name),
        average=None,
        mesh=None,
    )
    call = compiled(
        parts,
        key,
        record=gan.monitor(game) if recorded else None,
        steps_per_call=1,
        mesh=None,
    )
    params = start(pair)
    carry = begin(RULES[method], None, params)
    return call, (carry, np.int32(1), np.asarray(jax.random.key_data(key)), None, None)


def program(function, *arguments):
    with jax.numpy_dtype_promotion("standard"):  # optax.adam under x64
        return function.lower(*arguments).compile(compiler_options=OPTIONS)


@functools.cache
def programs(name, method, *, recorded=True):
    """The compiled call of `train.fit`, and its arguments."""
    call, arguments = training(name, method, recorded=recorded)
    return program(call, *arguments), arguments


@pytest.fixture(
    scope="module",
    params=[("mlp", "alternating"), ("mlp", "simultaneous"), ("dcgan", "alternating")],
    ids="-".join,
)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def composed(case):
    return programs(*case)


@pytest.fixture(scope="module")
def hand_written(case, composed):
    arguments = composed[1][0], jax.random.key(1)
    function = jax.jit(functools.partial(by_hand, *case))
    return program(function, *arguments), arguments


def flops(program):
    return program.cost_analysis()["flops"]


def test_flops_are_those_of_a_hand_written_step(composed, hand_written):
    ours, theirs = flops(composed[0]), flops(hand_written[0])
    assert theirs > 1e6
    assert abs(ours / theirs - 1) < 0.01


def test_it_computes_the_same(composed, hand_written):
    theirs, expected = hand_written[0](*hand_written[1])
    carry, *arguments = composed[1]
    ours, row, _ = composed[0](jax.tree.map(jnp.copy, carry), *arguments)
    assert row.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(row[key], value, rtol=1e-5, atol=1e-6)
    # Adam's first step is a sign, which rounding decides where the gradient is tiny:
    # compare its moments.
    for a, b in zip(
        jax.tree.leaves(ours.rule_state),
        jax.tree.leaves(theirs.rule_state),
        strict=True,
    ):
        limit = 1e-4 * float(np.max(np.abs(b)))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=limit)


def test_the_state_is_donated(composed):
    carry = composed[1][0]
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(carry.params))
    assert state > 3 * parameters  # Adam's two moments
    assert composed[0].memory_analysis().alias_size_in_bytes == state


def test_what_is_logged_is_nearly_free():
    logged, silent = (
        flops(programs("mlp", "alternating", recorded=recorded)[0])
        for recorded in (True, False)
    )
    assert silent < logged < 1.01 * silent


def test_it_compiles_once():
    call, (carry, *arguments) = training("mlp", "simultaneous")
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            before, (carry, _, done) = carry, call(carry, *arguments)
    assert int(done) == -3
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))
    assert call._cache_size() == 1
