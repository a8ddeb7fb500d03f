"""Add a field: from a formula to a registered, tested and compared field, in one file.

Run it from the root of the repository: `python docs/tutorials/add_a_field.py`.
"""

# %% [markdown]
# A *rule* says at which points the field is evaluated and who moves when; a *field*
# says where the players are pushed. Extragradient is a rule: it follows $F$ at a
# point ahead. To first order that point can be left out,
#
# $$F(z - h F(z)) \approx F(z) - h J(z) F(z), \qquad J = DF,$$
#
# and what stands on the right is a field. `opponent_lookahead` has only the blocks of
# $J$ that couple the players; this one lets everybody foresee their own step, too.
# As a field it goes with any rule. [Add a method](add_a_method.md) tells of rules.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.trees import add_scaled

# %% [markdown]
# ## The field, and its entry beside it
#
# A field is a function of `(params, batch)` without memory. We return a `Partial` of a
# function at module level, so that the field is a pytree: another game, or another
# step size, is no new program for `jit`. `gd.fields.jvp` multiplies with the Jacobian
# without forming it, on any pytrees, for any number of players.
#
# The call of `register` is all it takes: an entry says how a game and one positive
# number make the field, and what is known of it. Costs are in evaluations of the joint
# gradient on a game of two networks; tests hold them to the compiler's count.


# %%
def taylor_extragradient(game_or_field, step_size):
    r"""Follow the gradient at the point ahead, to first order.

    $$F - h J F.$$

    On linear games, with steps of the same size, it is extragradient exactly. One
    product with the Jacobian.

    Args:
        game_or_field: a game, or any field F.
        step_size: h, the step that is foreseen.

    Returns:
        The field.
    """
    return Partial(_ahead, gd.fields.as_field(game_or_field), step_size)


def _ahead(field, step_size, params, batch=None):
    direction = field(params, batch)
    # J F, and minus: with J'F and plus it would be `consensus`.
    turned = gd.fields.jvp(field, params, direction, batch)
    return add_scaled(direction, -jnp.asarray(step_size), turned)


NAME = "taylor_extragradient"
gd.fields.register(
    NAME,
    taylor_extragradient,
    family="opponents foreseen",
    summary="the gradient at everybody's next point, to first order",
    formula="(I - h J) F",
    source="a Taylor expansion of extragradient, Korpelevich 1976",
    guarantee="linear games: extragradient",
    work=2.6,
    products=1,
)

# %% [markdown]
# ## Does it do what the formula says?
#
# On a linear game the steps have to be those of extragradient, to the last digits. In
# general one step differs by the neglected term: $h$ times $h^2$, an eighth when $h$ is
# halved.


# %%
def gap_after_one_step(game, start, step_size):
    """Measure how far the field's step ends from extragradient's."""
    plain = gd.simultaneous(optax.sgd(step_size))
    ahead = gd.extragradient(optax.sgd(step_size))
    field = taylor_extragradient(game, step_size)
    ours = gd.solve(field, plain, start, 1).params
    theirs = gd.solve(game, ahead, start, 1).params
    return optax.tree.norm(jax.tree.map(jnp.subtract, ours, theirs))


def check_against_extragradient():
    """Compare on a linear game, and count the order of the error on another."""
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    start = jnp.ones(3), jnp.arange(3.0)
    linear = gd.zero_sum(lambda x, y: x @ matrix @ y + x @ x / 2)
    assert gap_after_one_step(linear, start, 0.1) < 1e-14
    bent = gd.zero_sum(lambda x, y: jnp.tanh(x @ matrix @ y) + jnp.sum(x**4))
    gaps = [gap_after_one_step(bent, start, h) for h in (1e-2, 5e-3)]
    print(f"linear: extragradient; else halving h divides the gap by {ratio(gaps):.1f}")


def ratio(pair):
    """Divide the first by the second."""
    return float(pair[0] / pair[1])


# %% [markdown]
# ## The properties that all fields have
#
# Tests of the library run over the registry, so they are written for our field already;
# they only have to know this file:
#
# ```console
# $ PYTHONPATH=docs/tutorials python -m pytest -p add_a_field -k taylor_extragradient \
#       tests/test_registry.py tests/test_fields_common.py
# ```
#
# ## Compared
#
# A field is a method by itself, with simultaneous plain steps, and is compared by name
# like any other. Rates are per evaluation of the joint gradient.


# %%
def compare_on(problem):
    """Print what the methods did, and hold their rates to the predicted ones."""
    names = NAME, "opponent_lookahead", "extragradient", "simultaneous"
    result = gd.compare(problem, names, evaluations=1500)
    print(f"\n{problem.info.name:20} evaluations to 1e-10    rate   predicted")
    for row in result.rows:
        rates = f"{row.measured:7.3f} {row.predicted:11.3f}"
        print(f"{row.name:20} {row.to_tolerance or 'never':>20} {rates}")
        assert row.agrees, row


def main():
    """Check, then compare."""
    check_against_extragradient()
    compare_on(gd.games.quadratic())


if __name__ == "__main__":
    gd.runtime.configure(x64=True)
    main()

# %% [markdown]
# It prints:
#
# ```text
# linear: extragradient; else halving h divides the gap by 7.9
#
# quadratic            evaluations to 1e-10    rate   predicted
# taylor_extragradient                  222   0.901       0.901
# opponent_lookahead                    288   0.923       0.923
# extragradient                         148   0.855       0.855
# simultaneous                        never   0.995       0.995
# ```
#
# The steps are extragradient's, 74 of them. They cost three evaluations instead of two,
# since a product with $J$ costs more than a second gradient, and they are fewer than
# `opponent_lookahead` needs, which leaves the own Hessians out.
#
# ## What else
#
# - To stay, function and call move together into the module of their family in
#   `gamedyn/fields/`, whose `__init__.py` names the function; the checks become tests.
# - `gd.fields.unregister("taylor_extragradient")` takes it out again.
# - With a rule of its own, say Runge-Kutta, it is a published combination:
#   `gd.methods.register` takes the two under one name.
