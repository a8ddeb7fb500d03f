"""What the registry says a step costs, against the flops of the compiled program."""

import functools
import math

import jax
import jax.numpy as jnp
import mlp_gan
import pytest
import rule_cases

import gamedyn as gd

ENTRIES = gd.rules.entries()
NETWORKS = {
    name: entry
    for name, entry in ENTRIES.items()
    if "simplex" not in entry.needs and not math.isnan(entry.flops)
}
# Those whose code is that of another one are counted in the long run of tests.
QUICK = (
    "simultaneous",
    "alternating",
    "extragradient",
    "past_extragradient",
    "runge_kutta_4",
    "inner_steps",
    "fast_optimistic",
    "curvature_extragradient_plus",
    "bias_corrected_extragradient",
    "proximal_point",
    "adaptive_mirror_prox",
    "anderson",
    "stochastic_hamiltonian",
    "svre",
    "diana",
)
EXAMPLES = 1024
# What is counted is settled before machine code is made: make it fast.
OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def payoff(g, d, batch):
    return -mlp_gan.discriminator_loss(g, d, batch)


FIELD = gd.fields.gradient(gd.zero_sum(payoff, stochastic=True))


@functools.cache
def game():
    """Two networks of some thousand parameters, and a batch."""
    return mlp_gan.make(64, examples=EXAMPLES)


def flops(function, *arguments):
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        compiled = jax.jit(function).lower(*arguments).compile(compiler_options=OPTIONS)
    return compiled.cost_analysis()["flops"]


@functools.cache
def unit():
    return flops(FIELD, *game())


def step_flops(name):
    """Count a step in the middle of a run.

    Flags and counters are constants, so that branches of the first step drop out.
    """
    params, batch = game()
    rule = gd.rules.make(name, 1e-3, **rule_cases.options(name, EXAMPLES))
    indices = "finite sum" in ENTRIES[name].needs

    def field(params, index):
        # A component sum as large as the batch: all evaluations cost the same.
        chosen = jax.tree.map(lambda x: x[index], batch) if indices else batch
        return FIELD(params, chosen)

    given = jax.ShapeDtypeStruct((EXAMPLES,), jnp.int32) if indices else None
    state = jax.eval_shape(rule.init, params)
    leaves, treedef = jax.tree.flatten(state)
    moving = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

    def constant(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return jnp.full(leaf.shape, leaf.dtype != bool, leaf.dtype)

    fixed = [
        None if moves else constant(leaf)
        for moves, leaf in zip(moving, leaves, strict=True)
    ]

    def step(params, floats, batches):
        floats = iter(floats)
        filled = [next(floats) if m else f for m, f in zip(moving, fixed, strict=True)]
        return rule.update(field, params, treedef.unflatten(filled), batches)

    floats = [leaf for moves, leaf in zip(moving, leaves, strict=True) if moves]
    return flops(step, params, floats, (given,) * rule.num_batches)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in NETWORKS
    ],
)
def test_flops_are_those_declared(name):
    measured = step_flops(name) / unit()
    assert abs(measured / ENTRIES[name].flops - 1) < 0.15, measured


def test_only_dense_methods_declare_no_flops():
    without = {name for name, entry in ENTRIES.items() if math.isnan(entry.flops)}
    assert without == {"interior_point"}
