"""Properties that every registered rule has, on small games of one to five players."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rule_cases
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.rules import Rule

NAMES = gd.rules.names()
ENTRIES = gd.rules.entries()
STEP = 0.05

# Two partial evaluations make a joint one, and the order of the players matters.
IN_TURN = (
    "alternating",
    "alex_gda",
    "negative_momentum",
    "inner_steps",
    "primal_dual",
    "anderson",
    "alternating_optimistic",
    "alternating_variance_reduced",
)
# The players' step sizes differ.
UNEQUAL = ("two_time_scales", "two_time_scale_adam", "slingshot")
# Which entries are kept depends on their place.
RANDOM = ("quantised_descent", "diana", "vr_diana")
NEWTON = ("proximal_point", "halpern", "interior_point")
KRYLOV = ("competitive_gradient", "adaptive_competitive_gradient")

# The builders that take optax transformations.
FROM_TRANSFORMATIONS = {
    "simultaneous": gd.rules.simultaneous,
    "alternating": gd.rules.alternating,
    "extragradient": gd.rules.extragradient,
    "extragradient_both": functools.partial(gd.rules.extragradient, moments="both"),
    "past_extragradient": gd.rules.past_extragradient,
    "optimistic": gd.rules.optimistic,
    "runge_kutta": gd.rules.runge_kutta,
    "forward_backward_forward": gd.rules.forward_backward_forward,
    "forward_reflected_backward": gd.rules.forward_reflected_backward,
    "projected_reflected_gradient": gd.rules.projected_reflected_gradient,
    "alex_gda": gd.rules.alex_gda,
}

# The builders that own their step.
OWNED = {
    "anchored_extragradient": gd.rules.anchored_extragradient,
    "proximal_point": gd.rules.proximal_point,
    "adaptive_golden_ratio": gd.rules.adaptive_golden_ratio,
}


def promotion(name):
    """Adam multiplies integers with floats, so it cannot run under strict promotion."""
    return jax.numpy_dtype_promotion("standard" if "adam" in name else "strict")


def _polymatrix(matrices, params, batch):
    """Every player descends `z_i . sum_j M_ij z_j`, plus a little quartic."""
    del batch
    return tuple(
        sum(z @ (m @ other) for m, other in zip(row, params, strict=True))
        + 0.05 * jnp.sum(z**4)
        for z, row in zip(params, matrices, strict=True)
    )


def polymatrix(matrices):
    return gd.Game(Partial(_polymatrix, matrices), len(matrices))


def matrices(num_players, seed=0, dtype=jnp.float64):
    """Strongly monotone: antisymmetric coupling, the identity for oneself."""
    generator = np.random.default_rng(seed)
    blocks = 0.5 * generator.normal(size=(num_players, num_players, 2, 2))
    blocks = blocks - blocks.transpose(1, 0, 3, 2)
    blocks[np.arange(num_players), np.arange(num_players)] += np.eye(2)
    return jnp.asarray(blocks, dtype)


def start(num_players, dtype=jnp.float64):
    """Inside the simplex, so that it serves every rule."""
    shares = [0.3 + 0.1 * player for player in range(num_players)]
    return tuple(jnp.array([share, 1 - share], dtype) for share in shares)


def batches(name):
    return rule_cases.batches(name, make(name))


def make(name, step_size=STEP, num_players=2, **more):
    return rule_cases.make(name, step_size, num_players, **more)


def players_of(name, among=(1, 2, 3, 5)):
    only = ENTRIES[name].num_players
    return [n for n in among if only in (None, n)]


TRACES = {name: 0 for name in NAMES}


@functools.cache
def jitted(name):
    """One compiled step per rule, shared by all tests: it takes the step size and the
    game as arguments and donates params and state."""

    def step(step_size, game, params, rule_state):
        TRACES[name] += 1
        rule = make(name, step_size, len(params))
        return rule.update(
            gd.fields.gradient(game),
            params,
            rule_state,
            rule_cases.batches(name, rule),
        )

    return jax.jit(step, donate_argnums=(2, 3))


def run(name, step_size, game, params, num_steps):
    """Do steps in a Python loop."""
    params = jax.tree.map(jnp.copy, params)
    state = make(name, STEP, len(params)).init(params)
    if name == "adaptive_golden_ratio":  # its state holds the step size
        state = state._replace(step_size=jnp.asarray(step_size, jnp.float64))
    with promotion(name):
        for _ in range(num_steps):
            params, state = jitted(name)(step_size, game, params, state)
    return params, state


def specs(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def assert_close(got, expected, tolerance=1e-12):
    got, expected = rule_cases.plain_keys(got), rule_cases.plain_keys(expected)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_protocol(name):
    rule = make(name)
    assert isinstance(rule, Rule)
    assert hash(rule) is not None
    assert list(inspect.signature(rule.init).parameters) == ["params"]
    assert list(inspect.signature(rule.update).parameters) == [
        "field",
        "params",
        "rule_state",
        "batches",
    ]
    assert list(inspect.signature(rule.output).parameters) == ["params", "rule_state"]
    assert rule.num_batches >= 1
    assert rule.period >= 1
    entry = ENTRIES[name]
    assert entry.summary
    assert entry.formula
    assert entry.source
    assert entry.evaluations(4) >= 1
    assert make(name.replace("_", "-")).num_batches == rule.num_batches


TREES = {
    "scalars": (1.0, 2.0),
    "vectors": ([1.0, 2.0], [1.0, 2.0, 3.0]),
    "nested": ({"a": [1.0, 2.0], "b": {"c": 3.0}}, [[1.0, 2.0], [3.0, 4.0]]),
    "empty leaf": ({"a": [1.0], "none": []}, [2.0, 1.0]),
}


def tree(kind, dtype):
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype),
        TREES[kind],
        is_leaf=lambda node: isinstance(node, list),
    )


def linear_field(params, batch=None):
    del batch
    return jax.tree.map(lambda leaf: 0.5 * leaf, params)


@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", NAMES)
def test_structure_shapes_and_dtypes_are_kept(name, dtype):
    """Traced, not run: `cond` and `scan` insist on equal types themselves."""

    def through_control_flow(params):
        rule = make(name, STEP, len(params))
        carry = params, rule.init(params)

        def step(carry, _):
            update = functools.partial(rule.update, linear_field)
            moved = update(*carry, rule_cases.batches(name, rule))
            return jax.lax.cond(jnp.array(True), lambda: moved, lambda: carry), None

        after = jax.lax.scan(step, carry, length=2)[0]
        return carry, after, rule.output(*after)

    with promotion(name):
        points = [tree(kind, dtype) for kind in TREES]
        points += [start(n, dtype) for n in players_of(name)]
        for params in points:
            if len(params) not in players_of(name):
                continue
            before, after, output = jax.eval_shape(through_control_flow, params)
            assert specs(before) == specs(after)
            assert specs(before[0]) == specs(params)
            assert specs(output) == specs(params)


@pytest.mark.parametrize("name", [n for n in NAMES if not ENTRIES[n].on_simplex])
def test_dtypes_may_differ_between_leaves(name):
    params = (jnp.ones(2, jnp.float32), {"a": jnp.ones(3), "b": jnp.float32(1)})
    rule = make(name)

    def step(params):
        with promotion(name):
            state = rule.init(params)
            after = rule.update(linear_field, params, state, batches(name))
            return (params, state), after

    before, after = jax.eval_shape(step, params)
    assert specs(before) == specs(after)


@pytest.mark.parametrize("name", rule_cases.variants_slow(NAMES))
def test_jit_is_eager_and_scan_is_a_loop(name):
    params, game = start(2), polymatrix(matrices(2))
    rule = make(name)
    with promotion(name):
        state = rule.init(params)
        eager = rule.update(gd.fields.gradient(game), params, state, batches(name))
        assert_close(run(name, STEP, game, params, 1), eager)

        draw = {}
        if "finite sum" in ENTRIES[name].needs:
            draw = {"key": jax.random.key(0), "sample": lambda _: batches(name)[0]}
        many = jax.jit(lambda game, z: gd.solve(game, rule, z, 60, **draw))(
            game, params
        )
        params, state = run(name, STEP, game, params, 60)
        assert int(many.status) == gd.Status.OK
        assert_close((many.params, many.rule_state), (params, state), 1e-10)
        assert_close(many.output, rule.output(params, state), 1e-10)

    if not ENTRIES[name].on_simplex:  # strongly monotone, with its solution at 0
        assert optax.tree.norm(many.output) < 0.9 * optax.tree.norm(start(2))


@pytest.mark.parametrize("name", rule_cases.variants_slow(NAMES))
def test_vmap_over_step_sizes_is_a_loop(name):
    params, game = start(2), polymatrix(matrices(2))
    step_sizes = jnp.array([0.03, 0.05, 0.08])

    def init(step_size):
        return params, make(name, step_size).init(params)

    def update(step_size, params, state):
        field = gd.fields.gradient(game)
        return make(name, step_size).update(field, params, state, batches(name))

    with promotion(name):
        carry, update = jax.vmap(init)(step_sizes), jax.jit(jax.vmap(update))
        for _ in range(3):
            carry = update(step_sizes, *carry)
    for i, step_size in enumerate(step_sizes):
        alone = run(name, step_size, game, params, 3)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], carry), alone, 1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_recompiled(name):
    params = start(2)
    run(name, STEP, polymatrix(matrices(2)), params, 1)
    run(name, jnp.float64(STEP), polymatrix(matrices(2)), params, 1)
    traces = TRACES[name]
    first, _ = run(name, jnp.float64(STEP), polymatrix(matrices(2)), params, 5)
    other, _ = run(name, jnp.float64(0.2), polymatrix(matrices(2, seed=1)), params, 5)
    run(name, jnp.float64(0.3), polymatrix(matrices(2, seed=2)), params, 1)
    assert TRACES[name] == traces
    gap = optax.tree.norm(jax.tree.map(jnp.subtract, first, other))
    assert gap > 1e-3


@pytest.mark.parametrize(
    "name", rule_cases.variants_slow(n for n in NAMES if not ENTRIES[n].on_simplex)
)
def test_a_zero_field_moves_nobody(name):
    params = tree("nested", jnp.float32)
    rule = make(name)

    @jax.jit
    def steps(params):
        def zero(point, batch):
            del batch
            return jax.tree.map(jnp.zeros_like, point)

        def step(_, carry):
            return rule.update(zero, *carry, batches(name))

        return jax.lax.fori_loop(0, 6, step, (params, rule.init(params)))

    with promotion(name):
        after, state = steps(params)
    # The barrier of the interior-point method pushes a little, by itself.
    assert_close(after, params, 1e-5 if name == "interior_point" else 0)
    for leaf in jax.tree.leaves(rule_cases.plain_keys(state)):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("name", [n for n in NAMES if ENTRIES[n].on_simplex])
def test_entropic_steps_stay_on_the_simplex(name):
    params, _ = run(name, STEP, polymatrix(matrices(2)), start(2), 50)
    for own in params:
        np.testing.assert_allclose(own.sum(), 1, rtol=1e-12)
        assert own.min() > 0


@pytest.mark.parametrize(
    "num_players", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 5))]
)
@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in IN_TURN + UNEQUAL + RANDOM]
)
def test_relabelled_players_do_the_same(name, num_players):
    """For two players this is (f, -f) against (-f, f), plus their own terms."""
    order = np.roll(np.arange(num_players), 1)
    blocks = matrices(num_players)
    params = start(num_players)
    plain, _ = run(name, STEP, polymatrix(blocks), params, 5)
    relabelled, _ = run(
        name,
        STEP,
        polymatrix(blocks[order][:, order]),
        tuple(params[i] for i in order),
        5,
    )
    assert_close(relabelled, tuple(plain[i] for i in order), 1e-11)


@pytest.mark.parametrize("name", IN_TURN + UNEQUAL)
def test_the_order_of_moves_matters(name):
    blocks, params = matrices(2), start(2)
    plain, _ = run(name, STEP, polymatrix(blocks), params, 5)
    swapped, _ = run(name, STEP, polymatrix(blocks[::-1, ::-1]), params[::-1], 5)
    assert np.max(np.abs(swapped[0] - plain[1])) > 1e-4


@pytest.mark.parametrize("name", rule_cases.variants_slow(NAMES))
def test_one_player_descends(name):
    if ENTRIES[name].num_players == 2:
        with pytest.raises(ValueError, match="for 2 players, got 1"):
            make(name, STEP, 1)
        return
    params = start(1)
    after, _ = run(name, STEP, polymatrix(matrices(1)), params, 3)
    assert np.all(np.isfinite(after[0]))
    assert np.max(np.abs(after[0] - params[0])) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_state_does_not_alias_params(name):
    params = jax.tree.map(jnp.copy, start(2))
    state = make(name).init(params)
    leaves = jax.tree.leaves(rule_cases.plain_keys((params, state)))
    leaves = [leaf for leaf in leaves if leaf.size]
    pointers = [leaf.unsafe_buffer_pointer() for leaf in leaves]
    assert len(set(pointers)) == len(pointers)
    with promotion(name):
        jitted(name)(STEP, polymatrix(matrices(2)), params, state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_input_is_an_error(name):
    rule, params = make(name), start(2)
    state = rule.init(params)
    for wrong in ((None,) * (rule.num_batches + 1), (), None, [None]):
        with pytest.raises(ValueError, match="tuple of"):
            rule.update(linear_field, params, state, wrong)
    with pytest.raises(TypeError, match="floating-point"):
        rule.init((jnp.arange(2), jnp.ones(2)))
    with pytest.raises(TypeError, match="must be a tuple"):
        rule.init(list(params))
    if ENTRIES[name].num_players is not None:
        with pytest.raises(ValueError, match="players, got 3"):
            make(name, STEP, 3)
    for kind, domain in {
        "projected": gd.geometry.box(-1.0, 1.0),
        "entropic": gd.geometry.entropic,
    }.items():
        if kind not in ENTRIES[name].geometries:
            with pytest.raises(ValueError, match=f"not defined on {kind}"):
                make(name, STEP, geometry=domain)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if "projected" in ENTRIES[n].geometries]
)
def test_projected_steps_stay_in_the_set(name):
    rule = make(name, 0.5, geometry=gd.geometry.box(0.0, 0.75))
    if ENTRIES[name].on_simplex:
        return

    def step(params):
        state = rule.init(params)
        after = rule.update(
            lambda z, batch: jax.tree.map(lambda leaf: leaf - 2, z),
            params,
            state,
            batches(name),
        )
        return rule.output(*after)

    with promotion(name):
        for own in step(start(2)):
            assert own.min() >= 0
            assert own.max() <= 0.75
    wrong = make(name, STEP, geometry=(gd.geometry.simplex(),) * 3)
    with pytest.raises(ValueError, match="geometry"):
        wrong.init(start(2))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NEWTON + KRYLOV])
def test_evaluations_are_counted_rightly(name):
    """Counted in the second step, in Python; two partial ones make a joint one."""
    calls = []

    def field(params, batch):
        calls.append(batch)
        return params

    rule, params = make(name), start(2)
    with promotion(name), jax.disable_jit():
        state = rule.init(params)
        params, state = rule.update(field, params, state, batches(name))
        calls.clear()
        rule.update(field, params, state, batches(name))
    share = 2 if name in IN_TURN else 1
    # Snapshots, which are not renewed here, amortise to one more.
    amortised = "finite sum" in ENTRIES[name].needs and not name.startswith("reshuff")
    assert len(calls) == share * (ENTRIES[name].evaluations(4) - amortised)


@pytest.mark.parametrize("name", NEWTON)
def test_newton_evaluations_are_one_jacobian_and_two_values(name):
    assert ENTRIES[name].evaluations(4) == 6


@pytest.mark.parametrize("name", NAMES)
def test_lowers_for_tpu(name):
    """The dense Newton step of `proximal_point` (LU) lowers too."""
    rule = make(name)

    def step(matrix, params, state):
        field = gd.fields.gradient(polymatrix(matrix))
        return rule.update(field, params, state, batches(name))

    params = start(2, jnp.float32)
    arguments = matrices(2, dtype=jnp.float32), params, rule.init(params)
    with promotion(name):
        exported = jax.export.export(jax.jit(step), platforms=["tpu"])(*arguments)
    assert exported.platforms == ("tpu",)


def test_matrix_free_proximal_point_lowers_for_tpu():
    rule = gd.rules.proximal_point(0.1)
    params = (jnp.ones(200, jnp.float32),)

    def step(params):
        return rule.update(linear_field, params, rule.init(params), (None,))

    exported = jax.export.export(jax.jit(step), platforms=["tpu"])(params)
    assert exported.platforms == ("tpu",)


# Transformations.


@pytest.mark.parametrize("name", FROM_TRANSFORMATIONS)
def test_transformations_are_checked(name):
    builder = FROM_TRANSFORMATIONS[name]
    with pytest.raises(ValueError, match="needs an optax transformation"):
        builder()
    with pytest.raises(TypeError, match="takes optax transformations"):
        builder(0.1)
    with pytest.raises(TypeError, match="takes a Geometry"):
        builder(optax.sgd(0.1), geometry="simplex")
    with pytest.raises(ValueError, match="expected one optimizer"):
        builder(*[optax.sgd(0.1)] * 3).init(start(2))
    needs_value = builder(optax.polyak_sgd())
    params = start(2)
    with pytest.raises(TypeError, match="needs the value of a loss"):
        needs_value.update(linear_field, params, needs_value.init(params), (None,))


@pytest.mark.parametrize("name", FROM_TRANSFORMATIONS)
def test_works_with_schedules_clipping_and_accumulation(name):
    game, params = polymatrix(matrices(2)), start(2)
    schedule = optax.cosine_decay_schedule(0.1, 20)
    clipped = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(schedule))
    patient = optax.MultiSteps(clipped, every_k_schedule=2).gradient_transformation()
    rule = FROM_TRANSFORMATIONS[name](patient, optax.adam(schedule))

    update = jax.jit(functools.partial(rule.update, gd.fields.gradient(game)))
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic
        after, state = params, rule.init(params)
        for _ in range(4):
            after, state = update(after, state, (None,))
    for before, own in zip(params, after, strict=True):
        assert before.dtype == own.dtype
        assert np.all(np.isfinite(own))
        assert np.max(np.abs(before - own)) > 1e-4


@pytest.mark.parametrize("name", OWNED)
def test_a_scheme_that_owns_its_step_takes_one_positive_number(name):
    builder = OWNED[name]
    for wrong in (
        optax.sgd(0.1),
        optax.cosine_decay_schedule(0.1, 20),
        "0.1",
        True,
        0.1j,
        jnp.ones(2),
    ):
        with pytest.raises(TypeError, match="one positive number"):
            builder(wrong)
    for wrong in (0.0, -0.1, float("nan"), float("inf"), jnp.array(-1.0)):
        with pytest.raises(ValueError, match="positive step size"):
            builder(wrong)
    with pytest.raises(ValueError, match="not defined on entropic"):
        builder(0.1, geometry=gd.geometry.entropic)
    with pytest.raises(TypeError, match="takes a Geometry"):
        builder(0.1, geometry=abs)
    for right in (1, 0.5, np.float32(0.1), jnp.array(0.1)):
        assert isinstance(builder(right), Rule)


def test_options_are_checked():
    with pytest.raises(ValueError, match="variant must be one of eag_c"):
        gd.rules.anchored_extragradient(0.1, variant="eag")
    with pytest.raises(ValueError, match="order must be 2 or 4"):
        gd.rules.runge_kutta(optax.sgd(0.1), order=3)
    with pytest.raises(ValueError, match="tolerance must be positive"):
        gd.rules.proximal_point(0.1, tolerance=0.0)
    for wrong in (0, 2.0, True):
        with pytest.raises(ValueError, match="max_steps must be a positive integer"):
            gd.rules.proximal_point(0.1, max_steps=wrong)
    for wrong in (1.0, 1.7, float("nan")):
        with pytest.raises(ValueError, match="golden_ratio must lie in"):
            gd.rules.adaptive_golden_ratio(0.1, golden_ratio=wrong)
    with pytest.raises(ValueError, match="max_step must be positive"):
        gd.rules.adaptive_golden_ratio(0.1, max_step=0)
    with pytest.raises(ValueError, match="for 2 players, got 3"):
        gd.rules.alex_gda(optax.sgd(0.1)).init(start(3))
    with pytest.raises(TypeError, match="takes a Rule"):
        gd.rules.halpern(optax.sgd(0.1))
    with pytest.raises(ValueError, match="did you mean extragradient"):
        gd.rules.make("extragradent", 0.1)


def test_schedules_of_alternating_players_advance_with_their_own_moves():
    """Two critic steps per turn: the critic's schedule is two steps further."""
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    rule = gd.rules.alternating(optax.sgd(schedule), order=(1, 1, 0))
    params = (jnp.float64(0), jnp.float64(0))

    def constant(point, batch):
        del point, batch
        return (jnp.float64(1), jnp.float64(1))

    with jax.numpy_dtype_promotion("standard"):
        params, _ = rule.update(constant, params, rule.init(params), (None,))
    np.testing.assert_allclose(params, (-1, -1.75), rtol=1e-12)


def test_resampling_uses_one_batch_per_evaluation():
    def field(params, batch):
        del params
        return (jnp.float64(batch),)

    rule = gd.rules.make("stochastic_extragradient", 1.0, num_players=1)
    params = (jnp.float64(0),)
    moved, _ = rule.update(field, params, rule.init(params), (5.0, 7.0))
    assert moved[0] == -7.0

    turns = gd.rules.alternating(optax.sgd(1.0), order=(0, 0), resample=True)
    moved, _ = turns.update(field, params, turns.init(params), (5.0, 7.0))
    assert moved[0] == -12.0
