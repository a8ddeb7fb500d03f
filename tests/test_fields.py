"""Fields: exact derivatives, exact mixed blocks, and no work done twice."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd

# A random cubic game: with z all players' numbers in a row, and symmetric tensors B, T,
#   loss_i(z) = c_i z + B_i[z, z] / 2 + T_i[z, z, z] / 6, so
#   gradient  = (c_i + B_i z + T_i[z, z] / 2)[own], Jacobian rows = (B_i + T_i z)[own].

SHAPES = {
    "two scalars": (np.zeros(()), np.zeros(())),
    "one player": ({"w": np.zeros((2, 2)), "b": np.zeros(2)},),
    "three pytrees": (
        np.zeros(()),
        {"a": np.zeros(2), "b": [np.zeros((1, 2)), np.zeros(())]},
        (np.zeros(3), {}),
    ),
    "five players": tuple(np.zeros(size) for size in (1, 2, 1, 3, 2)),
}


def cubic(coefficients, *params):
    linear, square, cube = coefficients
    z, _ = ravel_pytree(params)
    return linear @ z + z @ square @ z / 2 + (cube @ z @ z) @ z / 6


class CubicGame:
    """The game together with its derivatives, worked out in numpy."""

    def __init__(self, name):
        rng = np.random.default_rng(sum(map(ord, name)))
        template = SHAPES[name]
        flat, self.unravel = ravel_pytree(jax.tree.map(jnp.asarray, template))
        self.size, self.num_players = flat.size, len(template)
        sizes = [ravel_pytree(own)[0].size for own in template]
        stops = np.cumsum([0, *sizes])
        self.blocks = [slice(a, b) for a, b in zip(stops[:-1], stops[1:], strict=True)]
        d = self.size
        self.linear = rng.normal(size=(self.num_players, d))
        square = rng.normal(size=(self.num_players, d, d))
        self.square = square + square.transpose(0, 2, 1)
        cube = rng.normal(size=(self.num_players, d, d, d))
        self.cube = sum(
            cube.transpose(0, *(1 + np.array(order)))
            for order in [
                (0, 1, 2),
                (0, 2, 1),
                (1, 0, 2),
                (1, 2, 0),
                (2, 0, 1),
                (2, 1, 0),
            ]
        )
        parts = zip(self.linear, self.square, self.cube, strict=True)
        losses = [
            Partial(cubic, jax.tree.map(jnp.asarray, coefficients))
            for coefficients in parts
        ]
        self.game = gd.general_sum(*losses)
        self.z = rng.normal(size=d)
        self.params = self.unravel(jnp.asarray(self.z))

    def gradient(self, z):
        rows = [
            (c + b @ z + t @ z @ z / 2)[block]
            for c, b, t, block in zip(
                self.linear, self.square, self.cube, self.blocks, strict=True
            )
        ]
        return np.concatenate(rows)

    def jacobian(self, z):
        rows = [
            (b + t @ z)[block]
            for b, t, block in zip(self.square, self.cube, self.blocks, strict=True)
        ]
        return np.concatenate(rows)


@pytest.fixture(
    scope="module",
    params=[
        "two scalars",
        "three pytrees",
        pytest.param("one player", marks=pytest.mark.slow),
        pytest.param("five players", marks=pytest.mark.slow),
    ],
)
def case(request):
    return CubicGame(request.param)


class TestGradient:
    def test_equals_closed_form(self, case):
        direction = jax.jit(gd.fields.gradient(case.game))(case.params)
        assert jax.tree.structure(direction) == jax.tree.structure(case.params)
        np.testing.assert_allclose(
            ravel_pytree(direction)[0], case.gradient(case.z), rtol=1e-12, atol=1e-11
        )

    def test_jacobian_has_the_exact_mixed_blocks(self, case):
        field = gd.fields.gradient(case.game)

        def flat_field(z):
            return ravel_pytree(field(case.unravel(z)))[0]

        for mode in (jax.jacfwd, jax.jacrev):
            jacobian = jax.jit(mode(flat_field))(jnp.asarray(case.z))
            np.testing.assert_allclose(
                jacobian, case.jacobian(case.z), rtol=1e-12, atol=1e-11
            )

    def test_jacobian_equals_finite_differences(self, case):
        field = jax.jit(gd.fields.gradient(case.game))

        def flat_field(z):
            return np.asarray(ravel_pytree(field(case.unravel(jnp.asarray(z))))[0])

        h = 1e-3  # the field is quadratic: central differences are exact
        columns = [
            (flat_field(case.z + h * e) - flat_field(case.z - h * e)) / (2 * h)
            for e in np.eye(case.size)
        ]
        jacobian = np.stack(columns, axis=1)
        np.testing.assert_allclose(jacobian, case.jacobian(case.z), atol=1e-8)

    def test_products_equal_the_dense_jacobian(self, case):
        field = gd.fields.gradient(case.game)
        vector = np.random.default_rng(1).normal(size=case.size)
        tree = case.unravel(jnp.asarray(vector))
        jacobian = case.jacobian(case.z)
        forward = jax.jit(gd.fields.jvp)(field, case.params, tree)
        backward = jax.jit(gd.fields.vjp)(field, case.params, tree)
        assert jax.tree.structure(backward) == jax.tree.structure(case.params)
        np.testing.assert_allclose(
            ravel_pytree(forward)[0], jacobian @ vector, rtol=1e-11, atol=1e-10
        )
        np.testing.assert_allclose(
            ravel_pytree(backward)[0], jacobian.T @ vector, rtol=1e-11, atol=1e-10
        )

    def test_detached_opponents_would_be_noticed(self):
        # The same field with the other players stopped has no mixed blocks.
        case = CubicGame("two scalars")

        def stopped(params):
            def own_loss(own, i):
                others = jax.lax.stop_gradient(params)
                return case.game(others[:i] + (own,) + others[i + 1 :])[i]

            return tuple(jax.grad(own_loss)(own, i) for i, own in enumerate(params))

        jacobian = jax.jacfwd(stopped)(case.params)
        assert float(jacobian[0][1]) == 0
        assert abs(case.jacobian(case.z)[0, 1]) > 0.1

    def test_no_retrace_for_another_game(self):
        traces = []

        @jax.jit
        def evaluate(field, params):
            traces.append(None)
            return field(params)

        for scale in (1.0, 2.0, 3.0):
            game = gd.zero_sum(Partial(_scaled_product, jnp.array(scale)))
            direction = evaluate(
                gd.fields.gradient(game), (jnp.array(2.0), jnp.array(5.0))
            )
            assert tuple(map(float, direction)) == (5 * scale, -2 * scale)
        assert len(traces) == 1

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
    def test_keeps_the_dtype(self, dtype):
        field = gd.fields.gradient(gd.zero_sum(lambda x, y: x @ y))
        direction = field((jnp.ones(2, dtype), jnp.ones(2, dtype)))
        assert {leaf.dtype for leaf in direction} == {jnp.dtype(dtype)}

    def test_stochastic_game(self):
        game = gd.general_sum(
            lambda x, y, batch: jnp.mean(batch["a"]) * x * y,
            lambda x, y, batch: y * batch["b"],
            stochastic=True,
        )
        field = gd.fields.gradient(game)
        batch = {"a": jnp.array([1.0, 2.0, 6.0]), "b": jnp.array(7.0)}
        params = jnp.array(5.0), jnp.array(2.0)
        assert tuple(map(float, field(params, batch))) == (6.0, 7.0)
        ones = jnp.array(1.0), jnp.array(1.0)
        product = gd.fields.jvp(field, params, ones, batch)
        assert tuple(map(float, product)) == (3.0, 0.0)
        product = gd.fields.vjp(field, params, ones, batch)
        assert tuple(map(float, product)) == (0.0, 3.0)

    def test_wrong_number_of_players(self):
        field = gd.fields.gradient(gd.zero_sum(lambda x, y: x * y))
        with pytest.raises(ValueError, match="2 players, got 3"):
            field((jnp.ones(()),) * 3)


def _scaled_product(a, x, y):
    return a * x * y


class TestAsField:
    def test_game_becomes_its_gradient(self):
        game = gd.zero_sum(lambda x, y: x * y)
        direction = gd.fields.as_field(game)((jnp.array(2.0), jnp.array(3.0)))
        assert tuple(map(float, direction)) == (3.0, -2.0)

    def test_field_stays_itself(self):
        def field(params, batch=None):
            return params

        assert gd.fields.as_field(field) is field

    def test_neither(self):
        with pytest.raises(TypeError, match="expected a Game or a field.*got float"):
            gd.fields.as_field(3.0)  # type: ignore


class TestNoisy:
    FIELD = staticmethod(
        gd.fields.noisy(
            lambda params, batch: jax.tree.map(lambda z: 2 * z, params), 3.0
        )
    )
    PARAMS = jnp.array(1.0), {"a": jnp.arange(3.0), "b": jnp.zeros((2, 2))}

    def test_mean_and_variance(self):
        keys = jax.random.split(jax.random.key(0), 20_000)
        flat = jax.jit(
            jax.vmap(lambda key: ravel_pytree(self.FIELD(self.PARAMS, key))[0])
        )
        draws = np.asarray(flat(keys))
        expected = 2 * np.asarray(ravel_pytree(self.PARAMS)[0])
        error = 3 / np.sqrt(len(draws))
        np.testing.assert_allclose(draws.mean(axis=0), expected, atol=5 * error)
        # Independent coordinates, also across players and leaves.
        covariance = np.cov(draws.T)
        np.testing.assert_allclose(
            covariance, 9 * np.eye(len(expected)), atol=5 * 9 * np.sqrt(2 / len(draws))
        )

    def test_same_key_same_noise(self):
        one, same, other = (
            ravel_pytree(self.FIELD(self.PARAMS, jax.random.key(seed)))[0]
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(one, same)
        assert np.all(np.asarray(one) != np.asarray(other))

    def test_no_noise(self):
        field = gd.fields.noisy(lambda params, batch: params, 0.0)
        direction = field(self.PARAMS, jax.random.key(0))
        np.testing.assert_array_equal(
            ravel_pytree(direction)[0], ravel_pytree(self.PARAMS)[0]
        )

    def test_keeps_the_dtype(self):
        field = gd.fields.noisy(lambda params, batch: params, 0.1)
        params = jnp.ones(2, jnp.float32), jnp.ones(2, jnp.float64)
        direction = field(params, jax.random.key(0))
        assert [leaf.dtype for leaf in direction] == [jnp.float32, jnp.float64]

    def test_jacobian_is_that_of_the_field(self):
        vector = jax.tree.map(jnp.ones_like, self.PARAMS)
        product = gd.fields.jvp(self.FIELD, self.PARAMS, vector, jax.random.key(0))
        np.testing.assert_array_equal(ravel_pytree(product)[0], np.full(8, 2.0))


class TestWork:
    """Counted in flops of the compiled program, on a game of two small networks."""

    LATENT = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    REAL = np.random.default_rng(1).normal(size=(64, 2)).astype(np.float32)

    @staticmethod
    def network(params, x):
        return jnp.tanh(x @ params["in"]) @ params["out"]

    @staticmethod
    def init(seed, sizes):
        rng = np.random.default_rng(seed)
        inner, hidden, outer = sizes
        weights = rng.normal(size=(inner, hidden)), rng.normal(size=(hidden, outer))
        names = ("in", "out")
        return {
            name: jnp.asarray(w / 4, jnp.float32)
            for name, w in zip(names, weights, strict=True)
        }

    @classmethod
    def losses(cls, generator, discriminator):
        fake = cls.network(discriminator, cls.network(generator, cls.LATENT))
        real = cls.network(discriminator, cls.REAL)
        own = jax.nn.softplus(-fake).mean()
        critic = jax.nn.softplus(fake).mean() + jax.nn.softplus(-real).mean()
        return own, critic

    @classmethod
    def setup_class(cls):
        cls.params = cls.init(2, (8, 32, 2)), cls.init(3, (2, 64, 1))
        cls.game = gd.general_sum(
            lambda g, d: cls.losses(g, d)[0], lambda g, d: cls.losses(g, d)[1]
        )
        cls.field = gd.fields.gradient(cls.game)
        cls.simultaneous = staticmethod(cls.step(gd.simultaneous(optax.sgd(0.1))))
        cls.whole = cls.flops(cls.simultaneous)

    @classmethod
    def flops(cls, function):
        compiled = jax.jit(function).lower(cls.params).compile()
        return compiled.cost_analysis()["flops"]

    @classmethod
    def step(cls, rule):
        state = rule.init(cls.params)
        batches = (None,) * rule.num_batches
        return lambda params: rule.update(cls.field, params, state, batches)[0]

    def by_hand(self, params):
        """Both gradients from one forward pass, written out."""
        g, d = params
        slope_g = jax.grad(lambda g: self.losses(g, d)[0])(g)
        slope_d = jax.grad(lambda d: self.losses(g, d)[1])(d)
        return jax.tree.map(lambda z, s: z - 0.1 * s, (g, d), (slope_g, slope_d))

    def test_composed_step_costs_what_a_hand_written_one_does(self):
        composed = self.simultaneous
        for ours, theirs in zip(
            jax.tree.leaves(jax.jit(composed)(self.params)),
            jax.tree.leaves(jax.jit(self.by_hand)(self.params)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert self.whole <= 1.001 * self.flops(self.by_hand)

    def test_forward_passes_are_shared(self):
        # Never one reverse pass through all losses per player.
        own = self.flops(lambda params: self.field(params)[0])
        critic = self.flops(lambda params: self.field(params)[1])
        both = self.flops(self.field)
        assert both < 0.95 * (own + critic)

        def pulled_back(params):
            _, pull = jax.vjp(self.game, params)
            one, zero = jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
            return pull((one, zero))[0][0], pull((zero, one))[0][1]

        assert both <= self.flops(pulled_back)

    def test_one_component_pays_only_for_itself(self):
        def by_hand(params):
            return jax.grad(lambda d: self.losses(params[0], d)[1])(params[1])

        critic = self.flops(lambda params: self.field(params)[1])
        assert critic <= 1.001 * self.flops(by_hand)
        assert critic < 0.8 * self.flops(self.field)

    def test_alternation_costs_one_evaluation_and_a_forward_pass(self):
        turns = self.flops(self.step(gd.alternating(optax.sgd(0.1))))
        assert self.whole < turns < 1.5 * self.whole

    def test_extragradient_costs_two_evaluations(self):
        twice = self.flops(self.step(gd.extragradient(optax.sgd(0.1))))
        assert 1.9 * self.whole < twice < 2.05 * self.whole

    def test_losses_recorded_before_the_update_are_nearly_free(self):
        step = self.simultaneous
        with_losses = self.flops(lambda params: (step(params), self.game(params)))
        assert with_losses < 1.02 * self.whole
