"""Games: their losses, what passes through jit, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.game import check_params

X, Y = jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0, -1.0])
MATRICES = [np.random.default_rng(seed).normal(size=(2, 3)) for seed in range(3)]


def bilinear(matrix, x, y):
    return x @ matrix @ y


def test_zero_sum_losses_are_the_payoff_and_its_negative():
    game = gd.zero_sum(Partial(bilinear, jnp.asarray(MATRICES[0])))
    expected = np.asarray(X) @ MATRICES[0] @ np.asarray(Y)
    losses = game((X, Y))
    assert isinstance(losses, tuple)
    np.testing.assert_allclose(losses, [expected, -expected], rtol=1e-14)
    assert game.zero_sum
    assert game.num_players == 2


def test_general_sum_gives_every_loss_all_players_in_order():
    game = gd.general_sum(
        lambda a, b, c: a - 10 * b + 100 * c,
        lambda a, b, c: a * b * c,
        lambda a, b, c: c - a,
    )
    losses = game((jnp.array(2.0), jnp.array(3.0), jnp.array(5.0)))
    assert [float(loss) for loss in losses] == [472.0, 30.0, 3.0]
    assert not game.zero_sum
    assert game.num_players == 3


def test_single_player_is_minimisation():
    game = gd.single_player(lambda x: jnp.sum(x["w"] ** 2))
    assert game.num_players == 1
    (loss,) = game(({"w": X},))
    assert float(loss) == 5.0


@pytest.mark.parametrize(
    ("game", "params", "expected"),
    [
        (
            gd.zero_sum(lambda x, y, batch: x * y + batch, stochastic=True),
            (2.0, 3.0),
            (13.0, -13.0),
        ),
        (
            gd.general_sum(
                lambda x, y, batch: x * batch,
                lambda x, y, batch: y - batch,
                stochastic=True,
            ),
            (2.0, 3.0),
            (14.0, -4.0),
        ),
        (gd.single_player(lambda x, batch: x * batch, stochastic=True), (2.0,), (14,)),
    ],
)
def test_stochastic_games_get_the_batch(game, params, expected):
    params = tuple(map(jnp.asarray, params))
    assert tuple(map(float, game(params, jnp.array(7.0)))) == expected


def test_deterministic_games_ignore_the_batch():
    game = gd.zero_sum(lambda x, y: x * y)
    assert float(game((jnp.array(2.0), jnp.array(3.0)), "anything")[0]) == 6.0


class TestAsPytree:
    def test_arrays_of_a_partial_are_the_leaves(self):
        matrix = jnp.asarray(MATRICES[0])
        for game in (
            gd.zero_sum(Partial(bilinear, matrix)),
            gd.single_player(Partial(bilinear, matrix)),
        ):
            (leaf,) = jax.tree.leaves(game)
            assert leaf is matrix

    @pytest.mark.parametrize("kind", [gd.zero_sum, gd.general_sum])
    def test_games_of_one_kind_have_one_structure(self, kind):
        first, second = (
            kind(Partial(bilinear, jnp.asarray(matrix))) for matrix in MATRICES[:2]
        )
        assert jax.tree.structure(first) == jax.tree.structure(second)

    def test_an_ordinary_function_is_static(self):
        def payoff(x, y):
            return x * y

        one, other = gd.zero_sum(payoff), gd.zero_sum(payoff)
        assert jax.tree.leaves(one) == []
        assert jax.tree.structure(one) == jax.tree.structure(other)
        assert jax.tree.structure(one) != jax.tree.structure(
            gd.general_sum(payoff, payoff)
        )

    def test_no_retrace_for_another_matrix(self):
        traces = []

        @jax.jit
        def losses(game, params):
            traces.append(None)
            return game(params)

        for matrix in MATRICES:
            game = gd.zero_sum(Partial(bilinear, jnp.asarray(matrix)))
            expected = np.asarray(X) @ matrix @ np.asarray(Y)
            np.testing.assert_allclose(losses(game, (X, Y))[0], expected, rtol=1e-13)
        assert len(traces) == 1

    def test_an_inner_closure_would_retrace(self):
        # What the three games above are compared with: the counter does count.
        traces = []

        @jax.jit
        def losses(game, params):
            traces.append(None)
            return game(params)

        for matrix in MATRICES:
            losses(gd.zero_sum(lambda x, y, a=matrix: x @ a @ y), (X, Y))
        assert len(traces) == len(MATRICES)

    def test_vmap_over_a_stack_of_games(self):
        stack = gd.zero_sum(Partial(bilinear, jnp.stack(MATRICES)))
        values = jax.vmap(lambda game: game((X, Y))[1])(stack)
        expected = [-np.asarray(X) @ a @ np.asarray(Y) for a in MATRICES]
        np.testing.assert_allclose(values, expected, rtol=1e-13)

    def test_leaves_can_be_cast(self):
        game = gd.zero_sum(Partial(bilinear, jnp.asarray(MATRICES[0])))
        single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), game)
        params = X.astype(jnp.float32), Y.astype(jnp.float32)
        assert single(params)[0].dtype == jnp.float32

    def test_is_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            gd.zero_sum(bilinear).num_players = 3  # type: ignore


class TestErrors:
    ONE = jnp.array(1.0)

    @pytest.mark.parametrize(
        ("payoff", "error", "message"),
        [
            (lambda x, y: jnp.stack([x, y]), ValueError, r"player 0.*scalar.*\(2,\)"),
            (lambda x, y: x[None] * y, ValueError, r"player 0.*shape \(1,\)"),
            (lambda x, y: (x > y).astype(int), TypeError, "floating-point.*int"),
            (lambda x, y: x * y * (1 + 0j), TypeError, "floating-point.*complex"),
        ],
    )
    def test_loss_is_not_a_real_scalar(self, payoff, error, message):
        with pytest.raises(error, match=message):
            gd.zero_sum(payoff)((self.ONE, self.ONE))

    def test_the_player_with_the_bad_loss_is_named(self):
        game = gd.general_sum(lambda x, y: x, lambda x, y: jnp.stack([x, y]))
        with pytest.raises(ValueError, match="loss of player 1 must be a scalar"):
            game((self.ONE, self.ONE))

    @pytest.mark.parametrize("count", [1, 3])
    def test_wrong_number_of_losses(self, count):
        game = gd.Game(Partial(lambda params, batch: (params[0],) * count), 2)
        with pytest.raises(ValueError, match=f"expected 2 losses.*got {count}"):
            game((self.ONE, self.ONE))

    def test_losses_are_not_a_tuple(self):
        game = gd.Game(Partial(lambda params, batch: params[0] * params[1]), 2)
        with pytest.raises(TypeError, match="tuple of losses"):
            game((self.ONE, self.ONE))

    @pytest.mark.parametrize("num_players", [1, 3])
    def test_wrong_number_of_players(self, num_players):
        with pytest.raises(ValueError, match=f"of 2 players, got {num_players}"):
            gd.zero_sum(lambda x, y: x * y)((self.ONE,) * num_players)

    @pytest.mark.parametrize("value", [1, 1j, True, jnp.array([1, 2])])
    def test_parameters_are_not_real_floating_numbers(self, value):
        params = self.ONE, {"weights": {"a": value}}
        with pytest.raises(
            TypeError, match=r"real floating-point.*\[1\]\['weights'\]\['a'\]"
        ):
            gd.zero_sum(lambda x, y: x)(params)

    def test_parameters_hold_a_key(self):
        with pytest.raises(TypeError, match="real floating-point"):
            check_params((jax.random.key(0),))

    @pytest.mark.parametrize(
        "params", [[jnp.ones(()), jnp.ones(())], jnp.ones(2), {"x": jnp.ones(2)}, None]
    )
    def test_params_are_not_a_tuple(self, params):
        with pytest.raises(TypeError, match="params must be a tuple"):
            gd.zero_sum(lambda x, y: x * y)(params)

    def test_errors_appear_when_traced(self):
        game = gd.zero_sum(lambda x, y: x * y)
        rule_of = jax.jit(lambda params: game(params))
        with pytest.raises(ValueError, match="players"):
            rule_of((self.ONE,))

    @pytest.mark.parametrize("loss", [3.0, "loss", None])
    def test_loss_is_not_a_function(self, loss):
        for builder in (gd.zero_sum, gd.general_sum, gd.single_player):
            with pytest.raises(TypeError, match="a loss must be a function"):
                builder(loss)

    def test_no_loss(self):
        with pytest.raises(ValueError, match="at least one loss"):
            gd.general_sum()
