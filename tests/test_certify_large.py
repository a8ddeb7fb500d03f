"""The matrix-free certificate: what it says, and that it never says too much."""

import functools
import json

import jax
import jax.numpy as jnp
import mlp_gan
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.analysis import Curvature, Stability, Verdict, certify_large
from gamedyn.analysis.krylov import _advance, _begin
from gamedyn.analysis.operators import own_hessian, symmetric_part

KEY = jax.random.key(0)


@Partial
def positive(x, y):
    return x @ x + 2 * x @ y - y @ y / 2


def certified(game, params, batch=None, **options):
    return certify_large(game, params, batch, KEY, **options)


ZERO = jnp.zeros(100, jnp.float32)


def test_positive_definite_is_probable_never_certified():
    report = certified(gd.zero_sum(positive), (ZERO, ZERO))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.method == "matrix-free"
    assert (report.dimension, report.point_dtype) == (200, "float32")
    for player, exact in zip(report.players, (2, 1), strict=True):
        assert player.curvature is Curvature.PD_PROBABLE
        assert player.converged
        np.testing.assert_allclose(player.smallest, exact, rtol=1e-6)
        assert player.smallest - player.bound > 0
        np.testing.assert_allclose(player.probability, 1 - 3e-6, rtol=1e-12)
    dynamics = report.dynamics
    assert dynamics.stability is Stability.STABLE
    assert not dynamics.certified
    assert dynamics.symmetric is Curvature.PD_PROBABLE
    assert dynamics.matvecs == 0  # a zero-sum game's S is made of the own Hessians
    assert report.matvecs == sum(player.matvecs for player in report.players)
    assert "probably a differential Nash equilibrium" in str(report)
    json.dumps(report.to_json())


def test_negative_curvature_is_refuted_with_a_witness():
    game = gd.general_sum(
        lambda x, y: x @ x - 1.01 * x[0] ** 2 + x @ y, lambda x, y: y @ y + 3 * x @ y
    )
    report = certified(game, (ZERO, ZERO), rule=gd.simultaneous(optax.sgd(0.01)))
    assert report.verdict is Verdict.REFUTED_DNE
    first, second = report.players
    assert first.curvature is Curvature.NOT_PSD_CERTIFIED
    np.testing.assert_allclose(first.quotient, -0.02, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(first.witness), 1, rtol=1e-6)
    np.testing.assert_allclose(np.abs(first.witness[0]), 1, rtol=1e-4)
    exact = 2 * np.sum(first.witness**2) - 2.02 * first.witness[0] ** 2
    np.testing.assert_allclose(exact, first.quotient, atol=1e-5)
    assert second.curvature is Curvature.PD_PROBABLE
    # J = [[2 - .., 1], [3, 2]]: S has the smallest eigenvalue of [[-.02, 2], [2, 2]].
    block = np.array([[-0.02, 2], [2, 2]])
    assert report.dynamics.symmetric is Curvature.NOT_PSD_CERTIFIED
    np.testing.assert_allclose(
        report.dynamics.smallest_symmetric, np.linalg.eigvalsh(block)[0], rtol=1e-4
    )
    radius = np.abs(1 - 0.01 * np.linalg.eigvals([[-0.02, 1], [3, 2]])).max()
    np.testing.assert_allclose(report.dynamics.update_radius, radius, atol=1e-5)
    assert report.dynamics.update_stability is Stability.UNSTABLE


def test_bilinear_games_are_silent():
    game = gd.zero_sum(lambda x, y: x @ y)
    report = certified(game, (ZERO, ZERO))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.silent
    assert "silent" in str(report)
    # Far from its solution the mixed blocks, not the own Hessians, set the scale.
    report = certified(game, (ZERO + 1, ZERO))
    assert report.verdict is Verdict.NOT_STATIONARY
    assert np.isfinite(report.stationarity.residual)
    assert "power steps" in report.stationarity.method


def scaled(scale, x, y):
    return scale * (x @ x + 2 * x @ y - y @ y / 2 + 1e-3 * x[0])


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_verdict_is_invariant_under_scaling(scale):
    zero = jnp.zeros(100)
    game = gd.zero_sum(Partial(scaled, jnp.asarray(scale)))
    report = certified(game, (zero, zero), tolerance=1e-8)
    assert report.verdict is Verdict.NOT_STATIONARY
    assert all(p.curvature is Curvature.PD_PROBABLE for p in report.players)
    np.testing.assert_allclose(
        report.stationarity.residual, 5e-4 / np.sqrt(2), rtol=0.5
    )
    report = certified(game, (zero, zero), tolerance=1e-2)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.dynamics.stability is Stability.STABLE


def test_known_null_directions():
    # Only sums x[0] + x[1] matter: (1, -1, 0, ...) is a null direction.
    def loss(x):
        return (x[0] + x[1]) ** 2 + x[2:] @ x[2:]

    null = jnp.zeros(50).at[0].set(1.0).at[1].set(-1.0)
    game = gd.single_player(loss)
    without = certified(game, (jnp.zeros(50),))
    assert without.players[0].curvature is Curvature.INCONCLUSIVE
    report = certified(game, (jnp.zeros(50),), null_directions=[[null]])
    assert report.players[0].curvature is Curvature.PD_PROBABLE
    assert report.players[0].dimension == 49
    assert "modulo 1 known null" in report.players[0].remark
    wrong = certified(game, (jnp.zeros(50),), null_directions=[[null.at[2].set(1.0)]])
    assert wrong.players[0].curvature is Curvature.INCONCLUSIVE
    assert "which are none" in wrong.players[0].remark


def test_randomness_in_the_batch_keeps_the_working_precision():
    def loss(x, key):
        noise = jax.random.uniform(key, x.shape, x.dtype)
        return (1 + noise) @ x**2

    game = gd.single_player(loss, stochastic=True)
    report = certified(game, (ZERO,), KEY)
    assert report.players[0].curvature is Curvature.PD_PROBABLE
    assert "float64" not in report.players[0].dtype
    assert any("random numbers" in note for note in report.notes)
    assert report.batch_size is None


def test_small_gan_is_reported_honestly():
    params, batch = mlp_gan.make(5, examples=64)
    game = gd.zero_sum(
        lambda g, d, batch: -mlp_gan.discriminator_loss(g, d, batch), stochastic=True
    )
    report = certified(game, params, batch)
    assert report.verdict is Verdict.NOT_STATIONARY
    assert report.batch_size == 64
    double = jax.tree.map(lambda x: x.astype(jnp.float64), (params, batch))
    matrix = np.asarray(jax.jit(gd.analysis.game_jacobian)(game, *double))
    split = ravel_pytree(params[0])[0].size
    blocks = matrix[:split, :split], matrix[split:, split:]
    for finding, block in zip(report.players, blocks, strict=True):
        exact = np.linalg.eigvalsh(block)
        norm = np.abs(exact).max()
        assert exact[0] <= finding.smallest + 1e-6 * norm
        np.testing.assert_allclose(finding.largest, exact[-1], atol=1e-5 * norm)
        assert finding.converged
        np.testing.assert_allclose(finding.smallest, exact[0], atol=1e-5 * norm)
        if finding.curvature is Curvature.NOT_PSD_CERTIFIED:
            np.testing.assert_allclose(
                finding.quotient,
                finding.witness @ block @ finding.witness,
                atol=1e-12 * norm,
            )
            assert finding.quotient < 0
        else:
            assert finding.smallest - finding.bound <= exact[0]
    exact = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    np.testing.assert_allclose(
        report.dynamics.smallest_symmetric, exact[0], atol=1e-4 * np.abs(exact).max()
    )


def test_batches_give_the_report_of_all_examples():
    def loss(x, rows):
        return jnp.mean(jnp.cos(rows @ x)) + x @ x

    rows = jnp.asarray(np.random.default_rng(0).normal(size=(64, 10)))
    game, point = gd.single_player(loss, stochastic=True), (jnp.full(10, 0.3),)
    whole = certified(game, point, rows)
    pieces = certified(game, point, batches=rows.reshape(4, 16, 10))
    assert pieces.batch_size == whole.batch_size == 64
    (a,), (b,) = pieces.players, whole.players
    assert a.curvature is b.curvature
    np.testing.assert_allclose([a.smallest, a.largest], [b.smallest, b.largest])
    np.testing.assert_allclose(pieces.stationarity.norms, whole.stationarity.norms)


def test_bad_input():
    game = gd.zero_sum(positive)
    bad = ZERO.at[3].set(jnp.nan)
    for call, error, match in (
        (lambda: certified(game, (bad, ZERO)), ValueError, "not finite"),
        (lambda: certified(game, (ZERO,)), ValueError, "2 players"),
        (lambda: certified(positive, (ZERO, ZERO)), TypeError, "Game"),
        (lambda: certified(game, (ZERO, ZERO), delta=2.0), ValueError, "delta"),
        (lambda: certified(game, (ZERO, ZERO), num_steps=0), ValueError, "num_steps"),
        (lambda: certified(game, (ZERO, ZERO), tolerance=-1), ValueError, "tolerance"),
        (
            lambda: certified(game, (ZERO, ZERO), ZERO, batches=ZERO),
            ValueError,
            "not both",
        ),
        (
            lambda: certified(game, (ZERO, ZERO), null_directions=[None]),
            ValueError,
            "each of the 2",
        ),
    ):
        with pytest.raises(error, match=match):
            call()
    rough = gd.single_player(lambda x: jnp.sum(jnp.sqrt(jnp.abs(x))))
    with pytest.raises(ValueError, match="not smooth"):
        certified(rough, (ZERO,))


def program_bytes(operator, num_steps):
    """What the compiled Lanczos loop holds beside its arguments."""
    size = ravel_pytree(operator.like)[0].size
    dtype = jax.tree.leaves(operator.like)[0].dtype
    null = jnp.zeros((0, size), dtype)
    flat = jax.ShapeDtypeStruct((size,), dtype)
    state = jax.eval_shape(functools.partial(_begin, num_steps=num_steps), flat, null)
    goal = jax.ShapeDtypeStruct((), jnp.int32)
    compiled = _advance.lower(operator, operator.like, null, state, goal).compile()
    analysis = compiled.memory_analysis()
    basis = num_steps * size * dtype.itemsize
    return analysis.temp_size_in_bytes, analysis.alias_size_in_bytes, basis, size


def test_the_basis_is_held_once():
    params, batch = mlp_gan.make(100)
    operator = own_hessian(mlp_gan.GAME, params, batch, player=1)
    temporary, alias, basis, size = program_bytes(operator, 50)
    assert alias >= basis
    activations = 256 * 100 * 4
    assert temporary < 12 * size * 4 + 80 * activations


@pytest.mark.slow
def test_gan_of_a_million_parameters():
    params, batch = mlp_gan.make(700)
    report = certified(mlp_gan.GAME, params, batch)
    assert report.dimension == 997_503
    for finding in report.players:
        assert finding.curvature in (
            Curvature.NOT_PSD_CERTIFIED,
            Curvature.INCONCLUSIVE,
            Curvature.PD_PROBABLE,
        )
        if finding.curvature is Curvature.NOT_PSD_CERTIFIED:
            assert finding.quotient < -finding.bound
        else:
            assert "with probability" in str(finding)
    operator = symmetric_part(mlp_gan.GAME, params, batch)
    temporary, alias, basis, _ = program_bytes(operator, 50)
    assert alias >= basis
    assert temporary + basis < 2e9
