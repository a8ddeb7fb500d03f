"""Add a method: from a formula to a registered, tested and compared rule, in one file.

Run it from the root of the repository: `python docs/tutorials/add_a_method.py`.
"""

# %% [markdown]
# We want to know how good an idea is. The proximal point method,
#
# $$z^+ = z - h F(z^+),$$
#
# converges on every monotone game with every step size, but each step is an equation.
# Extragradient may be read as two rounds of the fixed-point iteration
# $w \leftarrow z - h F(w)$ for that equation, begun at $w = z$. What does a third
# round bring?
#
# $$w_1 = z - h F(z), \qquad w_2 = z - h F(w_1), \qquad z^+ = z - h F(w_2).$$
#
# Taken to convergence the iteration is known (Cevher et al., 2023, call it clairvoyant
# extragradient); cut off after three rounds it is in none of the registries. Let us
# write it down, check it, register it, and see.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn.rules.base import Rule, build, stepper

# %% [markdown]
# ## The update
#
# A rule is a pair of pure functions: `init(params)` makes what has to be remembered
# between steps, `update(field, params, rule_state, batches)` does one step. `stepper`
# bundles, for every player, an optax transformation with a geometry: `updates` turns a
# direction into a step, `apply` takes it, on the player's own domain. `build` adds the
# checks that all rules have.
#
# Written this way the method works for any number of players, any pytrees and dtypes,
# with Adam in the place of plain steps, and on boxes and simplices. There is no loop
# over steps here, nothing is logged, nothing is stopped from being differentiated.


# %%
def three_rounds(*optimizers, geometry=gd.geometry.euclidean) -> Rule:
    r"""Step along the field at a point found by two rounds of looking ahead.

    $$w_1 = z - h F(z), \qquad w_2 = z - h F(w_1), \qquad z^+ = z - h F(w_2).$$

    On a bilinear game $\rho = |1 - a^2| \sqrt{1 + a^2}$, $a = h \sigma$. Three field
    evaluations per step.

    Args:
        *optimizers: one optax transformation for all players, or one each; its state
            advances once per step, with the last evaluation.
        geometry: one for all players, or a tuple of one each.

    Returns:
        The rule.

    References:
        The iteration until it converges: Cevher et al., 2023, arXiv:2301.03931.
    """
    step = stepper(optimizers, geometry, rule="three_rounds")

    def update(field, params, rule_state, batches):
        point, state = params, rule_state
        for _ in range(3):
            updates, state = step.updates(field(point, *batches), rule_state, params)
            point = step.apply(params, updates)
        return point, state

    return build(step.init, update)


# %% [markdown]
# ## Does it do what the formula says?
#
# On the bilinear game $xy$ one step is a matrix. With $a = h$ its eigenvalues are
# $1 - ia + (ia)^2 - (ia)^3 = (1 - a^2)(1 - ia)$ and its conjugate, so
#
# $$\rho = |1 - a^2| \sqrt{1 + a^2}.$$
#
# `analysis.spectral_radius` differentiates the true update, whatever it is, and knows
# nothing of our algebra. The two have to agree, in float64 and in float32; and two
# things can be read off the formula: at $a = 1$ one step solves $xy$ exactly, and the
# method is stable while $a^2$ is below the golden ratio, $a < 1.272$.


# %%
def radius_on_xy(step_size):
    """What the algebra says."""
    return abs(1 - step_size**2) * np.sqrt(1 + step_size**2)


def check_the_radius():
    """Compare it with the radius of the update itself."""
    game = gd.zero_sum(lambda x, y: x * y)
    print("step size   by algebra   of the update")
    for dtype, step_sizes in (
        (jnp.float64, (0.5, 1.0, 1.25, 1.3)),
        (jnp.float32, (0.5,)),
    ):
        origin = jnp.zeros((), dtype), jnp.zeros((), dtype)
        for step_size in step_sizes:
            rule = three_rounds(optax.sgd(step_size))
            radius = gd.analysis.spectral_radius(game, rule, origin)
            expected = radius_on_xy(step_size)
            print(f"{step_size:9.2f}   {expected:10.4f}   {radius:13.4f}")
            # Where both eigenvalues vanish, theirs is the square root of an error.
            error = 20 * float(jnp.finfo(dtype).eps)
            assert abs(radius - expected) < (error if expected > 0 else error**0.5)


# %% [markdown]
# One number on one game is a weak test. A second, independent implementation is a
# better one: where the players' own Hessians vanish, three rounds are level-3 gradient
# play, which is a *field* of the library, made by another formula. The two have to
# agree step for step on a random bilinear game with three players, and to differ once
# the players have Hessians of their own.


# %%
def three_players(own):
    """Everybody's loss: a bilinear part with each opponent, `own` times a bowl."""
    blocks = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 2)) / 4)

    def loss(player):
        def of(*z):
            others = [z[player] @ blocks[player, j] @ z[j] for j in range(3)]
            cross = sum(others) - others[player]
            return cross + own * jnp.sum(z[player] ** 2)

        return of

    return gd.general_sum(*map(loss, range(3)))


def check_against_level_3():
    """Compare ten steps with those of a second implementation."""
    start = tuple(jnp.asarray(z) for z in np.random.default_rng(1).normal(size=(3, 2)))
    for own, same in ((0.0, True), (0.5, False)):
        game = three_players(own)
        level_3 = gd.fields.level_k(game, 0.3, level=3)
        plain = gd.simultaneous(optax.sgd(0.3))
        ours = gd.solve(game, three_rounds(optax.sgd(0.3)), start, 10).params
        theirs = gd.solve(level_3, plain, start, 10).params
        gap = optax.tree.norm(jax.tree.map(jnp.subtract, ours, theirs))
        assert (gap < 1e-12) == same, (own, gap)
    print("level-3 gradient play: the same on a bilinear game, and only there")


# %% [markdown]
# ## Registered
#
# One call beside the builder adds a method. An entry of the registry says how one
# positive number makes it, and what is known of it. `from_transformations` makes the
# former of a builder like ours; then any
# optax transformation, and a tuple of step sizes, one for each player, can be given by
# name. The columns are held to what is measured by tests: 3 evaluations of the joint
# gradient per step, by counting them, and so as many flops, by the compiler's count.


# %%
NAME = "three_rounds"
gd.rules.register(
    NAME,
    family="looking ahead",
    make=gd.rules.from_transformations(three_rounds),
    summary="extragradient with one more round of looking ahead",
    formula="w1 = z - h F(z); w2 = z - h F(w1); z' = z - h F(w2)",
    source="Cevher et al. 2023, arXiv:2301.03931, cut off after three rounds",
    evaluations=3,
    flops=3.0,
    products=0,
    needs=(),
    guarantee="bilinear: |1 - a^2| sqrt(1 + a^2), a = hs; linear for h < 1.272/L",
)

# %% [markdown]
# From here on the method is one of the library's: `gd.rules.make("three_rounds", 0.1)`
# and `gd.methods.make` build it, comparisons and tables have it.
#
# ## The properties that all rules have
#
# Tests of the library are written over the registries, so they are written for our
# method already. All they have to know is this file, which pytest imports before it
# collects them:
#
# ```console
# $ PYTHONPATH=docs/tutorials python -m pytest -p add_a_method -k three_rounds \
#       tests/test_registry.py tests/test_rules_common.py tests/test_rule_costs.py \
#       tests/test_theory_and_practice.py
# ```
#
# That is: dtypes and shapes are kept in every pytree, under `jit`, `vmap`, `scan` and
# `cond`; nothing is recompiled for another step size or game; a zero field moves
# nobody; renaming the players renames the result; wrong input is an error; evaluations
# and flops are those declared; on every smooth game of the zoo a perturbation grows by
# the predicted radius.
#
# ## Compared
#
# `gd.compare` tunes every method by the same grid of 41 step sizes with the same budget
# of field evaluations, and sets the measured rate beside the predicted one. Rates are
# per *evaluation*: a step of ours costs three. We take a bilinear game whose singular
# values are spread, since on $xy$ itself the case is settled, and a quadratic one.


# %%
def compare_on(problem):
    """Print what the rules did, and hold their rates to the predicted ones."""
    found = gd.compare(problem, (NAME, "extragradient", "optimistic"), evaluations=1500)
    print(f"\n{problem.info.name:14} evaluations to 1e-10    rate   predicted")
    for row in found.rows:
        rates = f"{row.measured:7.3f} {row.predicted:11.3f}"
        print(f"{row.name:14} {row.to_tolerance:20} {rates}")
        assert row.agrees, row


def main():
    """Check, then compare."""
    check_the_radius()
    check_against_level_3()
    compare_on(gd.games.bilinear(jnp.diag(jnp.array([1.0, 0.5]))))
    compare_on(gd.games.quadratic())


if __name__ == "__main__":
    gd.runtime.configure(x64=True)
    main()

# %% [markdown]
# It prints:
#
# ```text
# step size   by algebra   of the update
#      0.50       0.8385          0.8385
#      1.00       0.0000          0.0000
#      1.25       0.9004          0.9004
#      1.30       1.1317          1.1317
#      0.50       0.8385          0.8385
# level-3 gradient play: the same on a bilinear game, and only there
#
# bilinear       evaluations to 1e-10    rate   predicted
# three_rounds                    381   0.943       0.943
# extragradient                   624   0.965       0.965
# optimistic                      640   0.966       0.966
#
# quadratic      evaluations to 1e-10    rate   predicted
# three_rounds                     54   0.644       0.644
# extragradient                   148   0.855       0.855
# optimistic                       67   0.708       0.711
# ```
#
# So the third round pays on these two: its longer steps are worth more than they cost.
# Two games prove little; the leaderboard asks all of them.
#
# ## What else
#
# - To stay, the builder and the call of `register` move together into the module of
#   their family in `gamedyn/rules/`, whose `__init__.py` names the builder. Then
#   `gamedyn list rules`, the documentation's table of [methods](../methods.md),
#   `gamedyn compare GAME --rules three-rounds`, `gamedyn analyse` and the recipes have
#   it, too, and `gamedyn train leaderboard` ranks it: all of them read the
#   registry. The checks above become tests, and the changelog gets a line.
# - While it is tried out, a session that has imported this file has it everywhere;
#   `gd.rules.unregister("three_rounds")` takes it out again, before a cell that
#   registers it runs anew.
# - A method that changes *where the players are pushed* instead is a field:
#   [add a field](add_a_field.md). A published combination of both is one call of
#   `gd.methods.register`.
