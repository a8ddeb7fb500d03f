"""Registered rules with what they need, for the tests over the registry."""

import jax
import jax.numpy as jnp
import pytest

import gamedyn as gd

ENTRIES = gd.rules.entries()
COMPONENTS = 4

# Their code is that of another registered rule, with other numbers in it.
VARIANTS = frozenset(
    {
        "adaptive_extragradient_plus",
        "alternating",
        "alternating_optimistic",
        "averaged_extragradient",
        "diana",
        "eag_c",
        "eag_v",
        "exponentially_averaged_extragradient",
        "extragradient_plus",
        "forward_reflected_backward",
        "forward_reflected_variance_reduced",
        "generalised_optimistic",
        "half_step_extragradient",
        "halpern",
        "inner_steps",
        "interior_point",
        "loopless_svrgda",
        "momentum_extragradient",
        "multiplicative_weights",
        "nested_lookahead",
        "optimistic_adam",
        "optimistic_mirror_descent",
        "optimistic_multiplicative_weights",
        "past_extra_adam",
        "predictive_regret_matching_plus",
        "primal_dual",
        "quantised_descent",
        "regret_matching_plus",
        "reshuffled_extragradient",
        "restarted_feg",
        "runge_kutta_4",
        "slingshot",
        "stochastic_extragradient",
        "stochastic_extragradient_plus",
        "svre",
        "two_time_scale_adam",
        "two_time_scales",
        "vr_diana",
    }
)


# One or a few of every family, so that all kinds of programs are among them: with
# periods, memories, branches, roots, inner solvers, geometries, other players' moves.
KINDS = frozenset(
    {
        "adam",
        "adaptive_golden_ratio",
        "alex_gda",
        "anchored_popov",
        "anderson",
        "competitive_gradient",
        "curvature_extragradient_plus",
        "extra_adam",
        "extragradient",
        "extragradient_variance_reduced",
        "forward_backward_forward",
        "lookahead",
        "mirror_prox",
        "negative_momentum",
        "optimistic",
        "past_extragradient",
        "proximal_point",
        "regret_matching",
        "replicator",
        "runge_kutta_2",
        "simultaneous",
    }
)


def variants_slow(names):
    """Parametrise over rules where each compiles programs: variants only slowly."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in VARIANTS else [])
        for name in names
    ]


def one_of_each_kind(names):
    """Parametrise over rules where each compiles for long: most only slowly."""
    return [
        pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow])
        for name in names
    ]


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
