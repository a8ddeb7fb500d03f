"""Registered rules with what they need, for the tests over the registry."""

import jax
import jax.numpy as jnp

import gamedyn as gd

ENTRIES = gd.rules.entries()
COMPONENTS = 4


def roomy(params):
    """Constraints that no small point touches: every array within a ball."""
    return jax.tree.map(lambda leaf: jnp.sum(leaf**2) - 100, params)


def options(name, num_components=COMPONENTS):
    """The options that a rule cannot do without."""
    needs = ENTRIES[name.replace("-", "_")].needs
    given = {"num_components": num_components} if "finite sum" in needs else {}
    return given | ({"constraints": roomy} if "constraints" in needs else {})


def make(name, step_size, num_players=2, **more):
    return gd.rules.make(
        name, step_size, num_players=num_players, **{**options(name), **more}
    )


def batches(name, rule):
    """Batches of a deterministic game; indices where the rule insists on them."""
    if "finite sum" in ENTRIES[name].needs:
        return (jnp.arange(2, dtype=jnp.int32),) * rule.num_batches
    return (None,) * rule.num_batches


def plain_keys(tree):
    """Replace keys by their numbers, for comparisons."""

    def plain(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key_data(leaf)
        return leaf

    return jax.tree.map(plain, tree)


def has_keys(tree):
    return any(
        jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        for leaf in jax.tree.leaves(tree)
    )
