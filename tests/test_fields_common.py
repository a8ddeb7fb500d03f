"""Properties that every registered field has."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rule_cases
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from polynomial_game import PolynomialGame

import gamedyn as gd
from gamedyn.analysis import update_jacobian
from gamedyn.fields import NEEDS
from gamedyn.fields.competitive import linearised

NAMES = gd.fields.names()
ENTRIES = gd.fields.entries()
STEP = 0.1


def some(*fast):
    """All names, those not named left to the long run."""
    return [
        pytest.param(name, marks=() if name in fast else pytest.mark.slow)
        for name in NAMES
    ]


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_complete(name):
    entry = ENTRIES[name]
    assert set(entry.needs) <= set(NEEDS)
    for words in (entry.family, entry.summary, entry.formula, entry.source):
        assert words
        assert "\n" not in words
    assert entry.guarantee
    assert "\n" not in entry.guarantee
    assert entry.gradients >= 1
    assert entry.products >= 0
    assert (entry.turns is None) == (entry.work.inner == 0)
    for zero_sum in (True, False):
        costs = [entry.cost(size, zero_sum=zero_sum) for size in (1, 2, 1000)]
        assert sorted(costs) == costs
        assert costs[0] >= 1
    arguments = list(inspect.signature(entry.make).parameters)
    assert arguments[:2] in (["game", "step_size"], ["game_or_field", "step_size"])
    field = gd.fields.make(name.replace("_", "-"), curved(2), STEP)
    assert isinstance(field, Partial)


# Any pytrees, any number of players.


def _curved(scale, params, batch):
    """Everybody's own bowl, bent, and products of bounded sums of all players."""
    own = [_sum(lambda leaf: leaf**2, z) + _sum(jnp.sin, z) / 4 for z in params]
    sums = [jnp.tanh(_sum(lambda leaf: leaf, z)) for z in params]
    shift = 0 if batch is None else batch
    return tuple(
        bowl + scale * sums[i] * (sums[i - 1] + i * sum(sums) + shift)
        for i, bowl in enumerate(own)
    )


def _sum(function, tree):
    leaves = [jnp.sum(function(leaf)) for leaf in jax.tree.leaves(tree)]
    dtype = max((leaf.dtype for leaf in leaves), key=lambda d: d.itemsize)
    return sum(leaf.astype(dtype) for leaf in leaves)


def curved(num_players, scale=1.0):
    return gd.Game(Partial(_curved, jnp.float32(scale)), num_players)


def points(dtype):
    ones = functools.partial(jnp.ones, dtype=dtype)
    nested = {"a": ones(2), "b": {"c": ones(()), "empty": ones(0)}}
    yield from ((ones(()),) * n for n in (1, 2, 3))
    yield nested, [ones((2, 2)), ones(3)]
    yield nested, (ones(1),), ones(2)


def specs(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def fits(name, params):
    only = ENTRIES[name].num_players
    several = "several players" in ENTRIES[name].needs
    return only in (None, len(params)) and len(params) > several


@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", NAMES)
def test_structure_shapes_and_dtypes_are_kept(name, dtype):
    for params in points(dtype):
        game = gd.Game(Partial(_curved, jnp.asarray(1, dtype)), len(params))
        if not fits(name, params):
            with pytest.raises(ValueError, match=f"the field '{name}' is for"):
                gd.fields.make(name, game, STEP)
            continue
        field = gd.fields.make(name, game, STEP)

        def loop(params, field=field):
            return jax.lax.scan(lambda z, _: (field(z), None), params, length=2)[0]

        assert specs(jax.eval_shape(loop, params)) == specs(params)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_may_differ_between_leaves(name):
    def losses(params, batch):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        return _curved(jnp.float64(1), wide, batch)

    params = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(())}, jnp.ones(2, "float32")
    field = gd.fields.make(name, gd.Game(Partial(losses), 2), STEP)
    assert specs(jax.eval_shape(field, params)) == specs(params)


@pytest.mark.parametrize("name", NAMES)
def test_no_stop_gradient_and_the_batch_reaches_the_losses(name):
    params = jnp.float32(0.3), jnp.float32(0.2)
    field = gd.fields.make(name, curved(2), STEP)
    program = jax.make_jaxpr(field)(params, jnp.float32(0.1))
    assert "stop_gradient" not in str(program)
    batch = program.jaxpr.invars[-1]
    used = [v for equation in program.jaxpr.eqns for v in equation.invars]
    assert any(v is batch for v in used)


@pytest.mark.parametrize("name", NAMES)
def test_another_game_is_the_same_program(name):
    """Step size and arrays are leaves, options static: jit finds equal structures."""
    one, other = (
        gd.fields.make(name, curved(2, s), h) for s, h in ((1, 0.1), (2, 0.2))
    )
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert hash(jax.tree.structure(one)) == hash(jax.tree.structure(other))
    # Game and step size may be traced, too.
    params = jnp.float32(1), jnp.float32(2)
    traced = jax.eval_shape(
        lambda game, h, z: gd.fields.make(name, game, h)(z),
        curved(2),
        jnp.float64(0.1),
        params,
    )
    assert specs(traced) == specs(params)


# Derivatives.


# More players are a matter of the definitions, which test_fields_dense.py looks at.
def general(name):
    del name
    return PolynomialGame("two scalars", own=3.0)


@pytest.mark.parametrize(
    "name",
    some(
        "symplectic_aligned",
        "competitive",
        "stable_opponent_shaping",
    ),
)
def test_update_jacobian_equals_finite_differences(name):
    """Of the step on the field, so that nothing is held constant within it."""
    case = general(name)
    field = gd.fields.make(name, case.game, STEP)
    rule = gd.simultaneous(optax.sgd(0.3))
    found = update_jacobian(field, rule, case.params)
    assert found.status == gd.Status.OK

    @jax.jit
    def step(z):
        after, _ = rule.update(field, case.unravel(z), rule.init(case.params), (None,))
        return ravel_pytree(after)[0]

    h = 1e-5
    columns = [
        (step(case.z + h * e) - step(case.z - h * e)) / (2 * h)
        for e in np.eye(case.size)
    ]
    expected = np.stack(columns, axis=1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.matrix, expected, atol=1e-7 * scale)
    # Held constant, the corrections would have another Jacobian.
    plain = np.eye(case.size) - 0.3 * case.jacobian(case.z)
    assert (np.abs(expected - plain).max() > 1e-3) == (name != "gradient")


@pytest.mark.parametrize("name", some("competitive"))
def test_reverse_mode_agrees_with_forward_mode(name):
    case = general(name)
    field = gd.fields.make(name, case.game, STEP)

    def flat(z):
        return ravel_pytree(field(case.unravel(z)))[0]

    forward = jax.jit(jax.jacfwd(flat))(case.z)
    backward = jax.jit(jax.jacrev(flat))(case.z)
    np.testing.assert_allclose(forward, backward, atol=1e-9 * np.abs(forward).max())


@pytest.mark.parametrize("name", some("competitive"))
def test_vmap_over_step_sizes_is_a_loop(name):
    case = general(name)

    @jax.jit
    def at(step_size):
        return ravel_pytree(gd.fields.make(name, case.game, step_size)(case.params))[0]

    sizes = jnp.array([0.03, 0.1, 0.3])
    together = jax.jit(jax.vmap(at))(sizes)
    np.testing.assert_allclose(together, jnp.stack(list(map(at, sizes))), rtol=1e-9)


# Composition.

RULES = {
    "adam": lambda: gd.extragradient(optax.adam(0.1), moments="both"),
    "clipped in turn": lambda: gd.alternating(
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    ),
    "lookahead": lambda: gd.lookahead(
        gd.rules.runge_kutta(optax.sgd(0.1)), period=2, strength=0.5
    ),
    "averaged": lambda: gd.averaged(gd.optimistic(optax.sgd(0.1))),
    "projected": lambda: gd.past_extragradient(
        optax.sgd(0.1), geometry=gd.geometry.box(-1.0, 1.0)
    ),
    "entropic": lambda: gd.simultaneous(optax.sgd(0.1), geometry=gd.geometry.entropic),
}


def carried(field, rule, params, batches=None):
    """Two steps in a scan, which insists on equal types itself."""
    batches = (None,) * rule.num_batches if batches is None else batches
    field = gd.fields.at_batch(field, None)

    def steps(params):
        carry = params, rule.init(params)
        after, _ = jax.lax.scan(
            lambda c, _: (rule.update(field, *c, batches), None), carry, length=2
        )
        return rule.output(*after)

    with jax.numpy_dtype_promotion("standard"):  # Adam's own arithmetic
        return jax.eval_shape(steps, params)


@pytest.mark.parametrize("name", some("competitive"))
def test_composes_with_schemes_transformations_geometries_and_wrappers(name):
    params = {"w": jnp.full(2, 0.25, "float32")}, jnp.full(2, 0.5, "float32")
    field = gd.fields.make(name, curved(2), STEP)
    for make in RULES.values():
        assert specs(carried(field, make(), params)) == specs(params)


# The schemes above stand for the others, which are left to the long run.
@pytest.mark.slow
@pytest.mark.parametrize("name", gd.rules.names())
def test_every_rule_takes_a_coupled_field(name):
    params = jnp.full(2, 0.5, "float32"), jnp.full(2, 0.5, "float32")
    field = gd.fields.competitive(curved(2), STEP)
    rule = rule_cases.make(name, STEP)
    got = carried(field, rule, params, rule_cases.batches(name, rule))
    assert specs(got) == specs(params)


# Work and memory.


@functools.cache
def networks(zero_sum):
    """A GAN of perceptrons, 32-128-128-392 and 392-128-128-1, on 64 examples."""

    def init(seed, sizes):
        random = np.random.default_rng(seed)
        pairs = zip(sizes, sizes[1:], strict=False)
        return [
            jnp.asarray(random.normal(size=s) / np.sqrt(s[0]), "float32") for s in pairs
        ]

    def network(weights, x):
        for inner in weights[:-1]:
            x = jnp.tanh(x @ inner)
        return x @ weights[-1]

    random = np.random.default_rng(2)
    latent = jnp.asarray(random.normal(size=(64, 32)), "float32")
    real = jnp.asarray(random.normal(size=(64, 392)), "float32")

    def value(g, d):
        real_part = jax.nn.softplus(-network(d, real)).mean()
        return -real_part - jax.nn.softplus(network(d, network(g, latent))).mean()

    def non_saturating(g, d):
        return jax.nn.softplus(-network(d, network(g, latent))).mean()

    params = init(0, (32, 128, 128, 392)), init(1, (392, 128, 128, 1))
    if zero_sum:
        return gd.zero_sum(value), params
    return gd.general_sum(non_saturating, lambda g, d: -value(g, d)), params


def flops(function, params):
    return jax.jit(function).lower(params).compile().cost_analysis()["flops"]


@functools.cache
def unit(zero_sum):
    game, params = networks(zero_sum)
    return flops(gd.fields.gradient(game), params)


@pytest.mark.parametrize(
    "zero_sum", [True, pytest.param(False, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", some("consensus", "symplectic", "competitive"))
def test_declared_flops(name, zero_sum):
    entry, (game, params) = ENTRIES[name], networks(zero_sum)
    declared = entry.work if zero_sum or entry.general is None else entry.general
    measured = flops(gd.fields.make(name, game, 0.01), params) / unit(zero_sum)
    assert abs(measured - declared.flops) < 0.15 * measured
    if zero_sum and name == "symplectic":
        assert measured < 2.4
    if zero_sum and name == "consensus":
        assert measured < 2.9


PUBLISHED = [n for n in gd.methods.names() if n not in (*gd.rules.names(), *NAMES)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if "consensus" in name else pytest.mark.slow)
        for name in PUBLISHED
    ],
)
def test_declared_flops_of_published_combinations(name):
    game, params = networks(True)
    field, rule = gd.methods.make(name, game, 0.01)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        measured = flops(
            lambda carry: rule.update(field, *carry, (None,)),
            (params, rule.init(params)),
        )
    measured = measured / unit(True)
    assert abs(measured - gd.methods.entry(name).flops) < 0.15 * measured


@pytest.mark.slow
@pytest.mark.parametrize("zero_sum", [True, False])
@pytest.mark.parametrize("name", [n for n in NAMES if ENTRIES[n].turns is not None])
def test_declared_flops_of_a_turn(name, zero_sum):
    """A turn more of what the inner loop does, written out, costs so much more."""
    game, params = networks(zero_sum)
    field = gd.fields.gradient(game)
    entry = ENTRIES[name]
    declared = entry.work if zero_sum or entry.general is None else entry.general

    def turns(count, z):
        if name == "unrolled":

            def foreseen(x):
                y = z[1]
                for _ in range(count):
                    slope = jax.grad(lambda y: game((x, y))[1])(y)
                    y = jax.tree.map(lambda a, b: a - 0.01 * b, y, slope)
                return game((x, y))[0]

            return jax.grad(foreseen)(z[0])
        products = []
        if "competitive" in name:
            _, cross = linearised(field, z, None)
            products = [cross]
            if not zero_sum:
                products.append(lambda v: jax.linear_transpose(cross, z)(v)[0])
        if name in ("local_symplectic_surgery", "complete_newton"):
            _, whole = jax.linearize(field, z)
            products = [whole, lambda v: jax.linear_transpose(whole, z)(v)[0]]
        if name not in ("local_symplectic_surgery",) and "competitive" not in name:
            _, own = jax.linearize(lambda y: field((z[0], y))[1], z[1])
            products += [lambda v: (v[0], own(v[1]))] * 2
        for _ in range(count):
            for product in products:
                z = product(z)
        return z

    more, fewer = (flops(functools.partial(turns, n), params) for n in (3, 2))
    measured = (more - fewer) / unit(zero_sum)
    assert abs(measured - declared.inner) < 0.15 * measured


@pytest.mark.parametrize("made", ["field", "rule"])
def test_memory_of_competitive_descent_on_a_million_parameters(made):
    """Six copies of the parameters, arguments and results among them."""

    def value(g, d):
        hidden = jnp.tanh(jnp.tanh(jnp.ones((8, 500), "float32") @ g[0]) @ g[1])
        return jnp.mean(jnp.tanh(jnp.tanh(hidden @ d[0]) @ d[1]))

    game = gd.zero_sum(value)
    weights = tuple(jax.ShapeDtypeStruct((500, 500), "float32") for _ in range(2))
    params = weights, weights
    copy = sum(leaf.size for leaf in jax.tree.leaves(params)) * 4
    assert copy == 4_000_000
    rule = gd.simultaneous(optax.sgd(0.1))
    field = gd.fields.competitive(game, 0.1)
    if made == "rule":
        rule, field = gd.rules.competitive_gradient(0.1), gd.fields.gradient(game)

    def step(params, state):
        return rule.update(field, params, state, (None,))

    state = jax.eval_shape(rule.init, params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()
    memory = compiled.memory_analysis()
    total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    assert total < 6 * copy, total / copy


@pytest.mark.parametrize("name", some("competitive"))
def test_lowers_for_tpu(name):
    params = {"w": jnp.ones(2, "float32")}, jnp.ones(3, "float32")
    field = gd.fields.make(name, curved(2), STEP)
    exported = jax.export.export(jax.jit(field), platforms=["tpu"])(params)
    assert exported.platforms == ("tpu",)


# Bad input.


def test_what_is_not_for_this_game_says_so():
    several, pair, one = curved(3), curved(2), curved(1)
    with pytest.raises(ValueError, match="zero-sum games of two players, and this"):
        gd.fields.competitive(pair, 0.1, solver="conjugate_gradient")
    with pytest.raises(ValueError, match="solver must be one of auto"):
        gd.fields.competitive(pair, 0.1, solver="cholesky")
    with pytest.raises(ValueError, match="'follow_the_ridge' is for 2 players, this"):
        gd.fields.make("follow_the_ridge", several, 0.1)
    with pytest.raises(ValueError, match="is for several players, this game has one"):
        gd.fields.make("penalised", one, 0.1)
    with pytest.raises(ValueError, match="unrolled is for 2 players, got 3"):
        gd.fields.unrolled(several, 0.1)((jnp.float32(1),) * 3)
    with pytest.raises(ValueError, match="3 players and payer=3"):
        gd.fields.penalised(several, payer=3)((jnp.float32(1),) * 3)
    with pytest.raises(ValueError, match="did you mean consensus"):
        gd.fields.make("consensis", pair, 0.1)
    with pytest.raises(TypeError, match="expected a Game or a field"):
        gd.fields.consensus(3.0)  # type: ignore


@pytest.mark.parametrize("name", [n for n in NAMES if "losses" in ENTRIES[n].needs])
def test_a_field_alone_has_no_losses(name):
    field = gd.fields.gradient(curved(2))
    with pytest.raises(TypeError, match=f"{name} is made of losses: expected a Game"):
        ENTRIES[name].make(field, STEP)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: gd.fields.competitive(g, 0.0), "coefficient must be positive"),
        (lambda g: gd.fields.competitive(g, 0.1, tolerance=0), "tolerance must be"),
        (lambda g: gd.fields.competitive(g, 0.1, max_steps=0), "max_steps must be"),
        (lambda g: gd.fields.lola(g, -0.1), "step_size must be positive"),
        (lambda g: gd.fields.level_k(g, 0.1, level=0), "level must be a positive"),
        (lambda g: gd.fields.unrolled(g, 0.1, num_steps=1.5), "num_steps must be"),
        (lambda g: gd.fields.penalised(g, 0.0), "weight must be positive"),
        (lambda g: gd.fields.follow_the_ridge(g, ratio=0), "ratio must be positive"),
        (lambda g: gd.fields.complete_newton(g, damping=-1), "damping must not be"),
        (lambda g: gd.fields.stable_opponent_shaping(g, 0.1, a=1.0), "a must lie in"),
        (lambda g: gd.rules.competitive_gradient(0.0), "positive step size"),
        (
            lambda g: gd.rules.adaptive_competitive_gradient(0.1, decay=1.0),
            "decay must lie in",
        ),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make(curved(2))


# Methods.


def test_methods_are_rules_fields_and_named_ones():
    known = gd.methods.names()
    assert len(set(known)) == len(known)
    assert set(known) >= set(gd.rules.names()) | set(NAMES) - {"gradient"}
    assert not set(gd.rules.names()) & set(NAMES)
    for name, entry in gd.methods.entries().items():
        assert entry.field in NAMES, name
        assert entry.rule in gd.rules.names(), name
        assert entry.summary, name
        assert entry.source, name
        assert entry.evaluations(4) >= entry.rule_entry.evaluations(4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n not in ENTRIES else pytest.mark.slow)
        for n in gd.methods.names()
        if n not in gd.rules.names()
    ],
)
def test_every_method_takes_a_step(name):
    params = jnp.full(2, 0.5, "float32"), jnp.full(2, 0.5, "float32")
    field, rule = gd.methods.make(name, curved(2), STEP)
    assert specs(carried(field, rule, params)) == specs(params)


def test_methods_refuse_what_they_are_not_for():
    with pytest.raises(ValueError, match="'complete_newton' is for 2 players, this"):
        gd.methods.make("complete_newton", curved(3), 0.1)
    with pytest.raises(ValueError, match="'alex_gda' is for 2 players, this"):
        gd.methods.make("alex_gda", curved(3), 0.1)
    with pytest.raises(ValueError, match="expected 3 players, got 2"):
        gd.methods.make("consensus", curved(2), 0.1, num_players=3)
    with pytest.raises(ValueError, match="unknown rule or method 'consensis'"):
        gd.methods.make("consensis", curved(2), 0.1)
    with pytest.raises(ValueError, match="not defined on projected"):
        gd.methods.make("ode_gan", curved(2), 0.1, geometry=gd.geometry.box(0.0, 1.0))


def test_corrected_fields_cost_what_they_compute():
    entry = gd.methods.entry("consensus")
    assert entry.evaluations(2, zero_sum=True) == 3
    assert entry.evaluations(2) == 4
    assert gd.methods.entry("ode_gan").evaluations(2) == 7
    assert gd.methods.entry("extragradient").evaluations(2) == 2
    few, many = (gd.methods.entry("competitive").evaluations(n) for n in (2, 50))
    assert 5 < few < many


@pytest.mark.parametrize("name", NAMES)
def test_where_they_are_evaluated_is_checked(name):
    field = gd.fields.make(name, curved(2), STEP)
    with pytest.raises(TypeError, match="floating-point numbers, got dtype int32"):
        field((jnp.ones(2, "int32"),) * 2)
    with pytest.raises(TypeError, match="must be a tuple"):
        field([jnp.ones(2)] * 2)
    with pytest.raises(ValueError, match="2 players, got 3"):
        field((jnp.ones(2),) * 3)
