"""Lanczos against dense eigenvalues, and its traps."""

import functools

import jax
import jax.numpy as jnp
import mlp_gan
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.analysis.bounds import (
    kuczynski_wozniakowski,
    rayleigh_quotient,
    spectrum_bounds,
)
from gamedyn.analysis.krylov import lanczos, tridiagonalise
from gamedyn.analysis.operators import (
    full_data,
    jacobian,
    jacobian_transposed,
    own_hessian,
    symmetric_part,
)

KEY = jax.random.key(0)
DTYPES = [jnp.float32, jnp.float64]


def diagonal(entries, vector):
    return entries * vector


def product(matrix, vector):
    return vector @ matrix


def symmetric(eigenvalues, seed=0):
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return basis @ np.diag(eigenvalues) @ basis.T


def dense_hessian(operator):
    """The matrix of an operator in float64, by its products with the unit vectors."""
    flat, unravel = ravel_pytree(operator.like)

    @jax.jit
    def columns(operator):
        return jax.lax.map(
            lambda v: ravel_pytree(operator(unravel(v)))[0],
            jnp.eye(flat.size, dtype=flat.dtype),
            batch_size=64,
        )

    return np.asarray(columns(operator))


def check_against_dense(width, num_steps, top):
    """The part of the checks that the small and the large network share."""
    params, batch = mlp_gan.make(width, dtype=jnp.float64)
    operator = own_hessian(mlp_gan.GAME, params, batch, player=1)
    matrix = dense_hessian(operator)
    matrix = (matrix + matrix.T) / 2
    eigenvalues = np.linalg.eigvalsh(matrix)
    norm = np.abs(eigenvalues).max()
    for dtype, tolerance in ((jnp.float64, 1e-12), (jnp.float32, 1e-6)):
        cast = jax.tree.map(lambda x, t=dtype: x.astype(t), operator)
        result = lanczos(
            cast,
            cast.like,
            KEY,
            num_steps=num_steps,
            num_pairs=(2, top),
            tolerance=0.0,
        )
        assert result.dtype == np.dtype(dtype).name
        error = np.abs(result.ritz[[0, -1]] - eigenvalues[[0, -1]]).max() / norm
        assert error < tolerance, (dtype, error)
        # No ghosts: the reported pairs are as far apart as the true eigenvalues.
        np.testing.assert_allclose(
            result.values[2:], eigenvalues[-top:], atol=50 * tolerance * norm
        )
        vectors = np.asarray(result.vectors, np.float64)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=1e-5)
        # Residuals against the matrix, where they are above the rounding of a product.
        true = np.linalg.norm(
            vectors @ matrix - result.values[:, None] * vectors, axis=1
        )
        floor = 20 * float(jnp.finfo(dtype).eps) * norm
        above = np.maximum(true, result.residuals) > floor
        ratios = result.residuals[above] / true[above]
        assert np.all((ratios > 0.5) & (ratios < 2)), ratios
    # Before convergence, every residual is above rounding.
    early = lanczos(
        operator,
        operator.like,
        KEY,
        num_steps=num_steps,
        num_pairs=(2, top),
        stop=lambda *_: True,
    )
    assert early.steps == 10
    vectors = np.asarray(early.vectors)
    true = np.linalg.norm(vectors @ matrix - early.values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(early.residuals, true, rtol=1e-6)


def test_matches_dense_eigenvalues_of_a_small_network():
    check_against_dense(15, 100, top=4)


@pytest.mark.slow
def test_matches_dense_eigenvalues_of_a_network_of_4417_parameters():
    check_against_dense(64, 100, top=6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("entries", "steps"),
    [
        (np.ones(200), 1),
        (np.zeros(200), 1),
        (np.repeat([1.0, 2.0, 5.0], [100, 60, 40]), 3),
        (np.append(np.zeros(195), np.arange(1.0, 6.0)), None),
        (np.tile(np.arange(1.0, 11.0), 20), None),
        (np.append(np.ones(199), -1.0), None),
        (np.ones(1), 1),
        (np.array([1.0, 2.0]), 2),
    ],
    ids=["I", "0", "three", "rank 5", "ten", "one negative", "n = 1", "n = 2"],
)
def test_ends_cleanly_where_the_krylov_space_does(entries, steps, dtype):
    entries = jnp.asarray(entries, dtype)
    result = lanczos(Partial(diagonal, entries), entries, KEY, num_steps=60)
    if steps is not None:
        assert result.steps == steps
        assert result.exhausted or steps == entries.size
    slack = 20 * float(jnp.finfo(dtype).eps) * float(jnp.max(jnp.abs(entries)))
    assert np.all(np.isfinite(result.ritz))
    np.testing.assert_allclose(result.smallest, entries.min(), atol=slack)
    np.testing.assert_allclose(result.largest, entries.max(), atol=slack)
    # No spurious value: each one lies on an eigenvalue, 0 only where it is one.
    if steps is not None:
        distances = np.abs(result.ritz[:, None] - np.asarray(entries, float)).min(
            axis=1
        )
        assert distances.max() <= slack
    assert np.all(result.residuals <= slack)
    assert np.all(result.converged)


def test_ten_distinct_eigenvalues_stop_at_step_ten_in_float64():
    entries = jnp.tile(jnp.arange(1.0, 11.0), 20)
    assert lanczos(Partial(diagonal, entries), entries, KEY).steps == 10


def test_stops_early_and_counts_every_product():
    calls = []

    def counted(entries, vector):
        jax.debug.callback(lambda: calls.append(0))
        return entries * vector

    entries = jnp.concatenate([jnp.linspace(0, 1, 500), jnp.array([-3.0, 4.0])])
    result = lanczos(Partial(counted, entries), entries, KEY, num_steps=200)
    jax.effects_barrier()
    assert result.steps < 50
    assert result.steps % 10 == 0
    assert np.all(result.converged)
    assert len(calls) == result.matvecs == result.steps + 2
    np.testing.assert_allclose(result.values, [-3, 4], atol=1e-10)
    calls.clear()
    full = lanczos(Partial(counted, entries), entries, KEY, num_steps=40, tolerance=0.0)
    jax.effects_barrier()
    assert full.steps == 40
    assert len(calls) == full.matvecs == 42


def test_unconverged_pairs_say_so():
    entries = jnp.linspace(0, 1, 2000)
    result = lanczos(Partial(diagonal, entries), entries, KEY, num_steps=10)
    assert not result.converged.any()
    assert result.smallest > 0.001


def test_any_pytree_and_a_start_of_ones_own():
    scale = {
        "a": jnp.arange(1.0, 5.0).reshape(2, 2),
        "b": (jnp.array(7.0), jnp.zeros(0)),
    }

    def operator(scale, vector):
        return jax.tree.map(jnp.multiply, scale, vector)

    result = lanczos(Partial(operator, scale), scale, KEY)
    np.testing.assert_allclose(result.ritz, [1, 2, 3, 4, 7], rtol=1e-12)
    start = jax.tree.map(jnp.zeros_like, scale) | {"a": jnp.eye(2)}
    result = lanczos(Partial(operator, scale), scale, KEY, start=start)
    np.testing.assert_allclose(result.ritz, [1, 4], rtol=1e-12)


def test_null_directions_are_deflated():
    eigenvalues = np.append(np.linspace(1, 2, 48), [0.0, 0.0])
    matrix = jnp.asarray(symmetric(eigenvalues))
    null = [jnp.asarray(v) for v in np.linalg.eigh(matrix)[1][:, :2].T]
    operator = Partial(product, matrix)
    without = lanczos(operator, matrix[0], KEY)
    assert abs(without.smallest) < 1e-10
    # A dependent third one changes nothing.
    result = lanczos(
        operator, matrix[0], KEY, null_directions=[*null, null[0] + null[1]]
    )
    assert result.dimension == 48
    np.testing.assert_allclose(result.smallest, 1.0, rtol=1e-9)
    assert result.null_residual < 1e-12
    wrong = lanczos(operator, matrix[0], KEY, null_directions=[matrix[0]])
    assert wrong.null_residual > 0.1
    with pytest.raises(ValueError, match="span the whole space"):
        lanczos(lambda v: v, jnp.ones(2), KEY, null_directions=list(jnp.eye(2)))


def test_bad_input():
    ones = jnp.ones(3)
    for like, operator, error, match in (
        (ones.astype(complex), lambda v: v, TypeError, "complex128"),
        (ones, lambda v: v.astype(complex), TypeError, "complex128"),
        (ones, lambda v: v[:2], TypeError, "structure"),
        (ones, 3, TypeError, "function"),
        (jnp.zeros(0), lambda v: v, ValueError, "at least one"),
        (ones, lambda v: v * jnp.nan, FloatingPointError, "not finite"),
    ):
        with pytest.raises(error, match=match):
            lanczos(operator, like, KEY)
    with pytest.raises(ValueError, match="num_steps"):
        lanczos(lambda v: v, ones, KEY, num_steps=0)
    with pytest.raises(ValueError, match="num_pairs"):
        lanczos(lambda v: v, ones, KEY, num_pairs=(0, 0))
    with pytest.raises(TypeError, match="null direction"):
        lanczos(lambda v: v, ones, KEY, null_directions=[jnp.ones(4)])


def test_a_priori_bound_has_the_published_numbers():
    for n, k, expected in (
        (10**4, 100, 0.00904),
        (10**6, 100, 0.01137),
        (10**6, 400, 0.00071),
        (10**8, 100, 0.01398),
        (10**4, 50, 0.03652),
        (10**6, 50, 0.04596),
    ):
        np.testing.assert_allclose(
            kuczynski_wozniakowski(n, k, 1e-6), expected, atol=5.1e-6
        )
    assert kuczynski_wozniakowski(5, 5, 1e-6) == 0
    with pytest.raises(ValueError, match="delta"):
        kuczynski_wozniakowski(5, 5, 1.0)


SPECTRA = {
    "uniform": np.linspace(0, 1, 200),
    "outlier": np.append(0.0, np.linspace(0.1, 1, 199)),
    "crowded at 0": np.linspace(0, 1, 200) ** 3,
}


@functools.cache
def runs(spectrum, num_steps):
    entries = jnp.asarray(SPECTRA[spectrum])
    starts = jax.random.normal(jax.random.key(1), (1000, entries.size))

    @jax.jit
    def tridiagonals(entries, starts):
        def one(start):
            state = tridiagonalise(Partial(diagonal, entries), start, start, num_steps)
            return state.diagonal, state.off_diagonal

        return jax.vmap(one)(starts)

    return tuple(map(np.asarray, tridiagonals(entries, starts)))


@pytest.mark.parametrize("spectrum", list(SPECTRA))
@pytest.mark.parametrize("num_steps", [pytest.param(10, marks=pytest.mark.slow), 20])
def test_bounds_hold_as_often_as_they_say(spectrum, num_steps):
    delta, exact = 0.05, SPECTRA[spectrum]
    found = [
        spectrum_bounds(*pair, exact.size, delta=delta)
        for pair in zip(*runs(spectrum, num_steps), strict=True)
    ]
    assert found[0].probability == 1 - 3 * delta
    fail = {
        name: np.mean([getattr(bounds, name) > exact[0] for bounds in found])
        for name in ("a_priori", "a_posteriori", "lower")
    }
    assert fail["a_priori"] <= 2 * delta, fail
    assert fail["a_posteriori"] <= delta + 3 * np.sqrt(delta / 1000), fail
    assert fail["lower"] <= 3 * delta, fail
    assert np.mean([bounds.upper < exact[-1] for bounds in found]) <= 3 * delta


def test_bounds_scale_with_the_operator():
    alpha, beta = (x[0] for x in runs("outlier", 20))
    one = spectrum_bounds(alpha, beta, 200)
    tiny = spectrum_bounds(1e-8 * alpha, 1e-8 * beta, 200)
    np.testing.assert_allclose(tiny.lower, 1e-8 * one.lower, rtol=1e-9)
    np.testing.assert_allclose(tiny.upper, 1e-8 * one.upper, rtol=1e-9)


def test_witness_is_evaluated_again_in_float64():
    entries = jnp.linspace(-1e-3, 1, 300).astype(jnp.float32)
    vector = jnp.zeros(300, jnp.float32).at[0].set(2.0)
    found = rayleigh_quotient(Partial(diagonal, entries), entries, vector, scale=1.0)
    assert found.dtype == "float64"
    assert found.matvecs == 2
    assert found.negative
    np.testing.assert_allclose(found.quotient, float(entries[0]), rtol=1e-15)
    assert 0 < found.error < 1e-12
    # Exactly zero curvature is no witness.
    found = rayleigh_quotient(
        Partial(diagonal, jnp.zeros(300, jnp.float32)), entries, vector, scale=0.0
    )
    assert not found.negative


def test_witness_of_a_random_or_low_operator_is_not_trusted_beyond_its_precision():
    like = jnp.ones(50, jnp.float32)

    def noisy(key, vector):
        return -vector * (1 + 0.1 * jax.random.normal(key, vector.shape, vector.dtype))

    found = rayleigh_quotient(Partial(noisy, KEY), like, like, scale=1.0)
    assert found.dtype == "float32"
    assert found.matvecs == 1
    assert found.error > 1e-6

    def low(vector):
        return -vector.astype(jnp.float32).astype(vector.dtype)

    found = rayleigh_quotient(low, like, like, scale=1.0)
    assert not found.trusted
    assert "float32" in found.remark


def game_of_three():
    return gd.general_sum(
        lambda x, y, z: jnp.sum(x**3) + x @ y * 2 + x[0] * jnp.sin(z["a"]),
        lambda x, y, z: y @ y - x[0] * y[1] + jnp.cos(y[0]) * z["a"] ** 2,
        lambda x, y, z: z["a"] ** 4 + z["a"] * x[1] * y[0],
    )


@pytest.mark.parametrize("zero_sum", [False, True])
def test_products_match_the_dense_jacobian(zero_sum):
    if zero_sum:
        game = gd.zero_sum(lambda x, y: jnp.sum(x**3) + jnp.sin(x[0] * y[1]) - y @ y)
        params = jnp.array([0.3, -0.7]), jnp.array([1.1, 0.4])
    else:
        game, params = (
            game_of_three(),
            (
                jnp.array([0.3, -0.7]),
                jnp.array([1.1, 0.4]),
                {"a": jnp.array(0.6)},
            ),
        )
    matrix = np.asarray(jax.jit(gd.analysis.game_jacobian)(game, params))
    assert np.abs(matrix - matrix.T).max() > 0.1
    flat, unravel = ravel_pytree(params)
    vector = jnp.asarray(np.random.default_rng(0).normal(size=flat.size))
    for build, expected in (
        (jacobian, matrix),
        (jacobian_transposed, matrix.T),
        (symmetric_part, (matrix + matrix.T) / 2),
    ):
        actual = jax.jit(lambda f, v: f(v))(build(game, params), unravel(vector))
        np.testing.assert_allclose(
            ravel_pytree(actual)[0], expected @ vector, atol=1e-13
        )
    own = own_hessian(game, params, player=1)(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(own, matrix[2:4, 2:4] @ [1.0, 2.0], atol=1e-13)


def test_symmetric_part_by_lanczos_is_that_of_the_dense_matrix():
    game = game_of_three()
    params = jnp.array([0.3, -0.7]), jnp.array([1.1, 0.4]), {"a": jnp.array(0.6)}
    matrix = np.asarray(jax.jit(gd.analysis.game_jacobian)(game, params))
    operator = symmetric_part(game, params)
    result = lanczos(operator, operator.like, KEY)
    np.testing.assert_allclose(
        result.ritz, np.linalg.eigvalsh((matrix + matrix.T) / 2), atol=1e-12
    )


def test_full_data_is_the_operator_of_all_examples():
    params, (real, latent) = mlp_gan.make(5, dtype=jnp.float64, examples=60)
    whole = own_hessian(mlp_gan.GAME, params, (real, latent), player=1)
    pieces = real.reshape(4, 15, -1), latent.reshape(4, 15, -1)
    averaged = full_data(whole, pieces)
    vector = jax.tree.map(jnp.ones_like, whole.like)
    apply = jax.jit(lambda f, v: f(v))
    for a, b in zip(
        jax.tree.leaves(apply(averaged, vector)),
        jax.tree.leaves(apply(whole, vector)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-14)
    weighted = full_data(whole, pieces, weights=[2, 0, 0, 0])
    first = own_hessian(
        mlp_gan.GAME, params, jax.tree.map(lambda x: x[0], pieces), player=1
    )
    for a, b in zip(
        jax.tree.leaves(apply(weighted, vector)),
        jax.tree.leaves(apply(first, vector)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-14)
    for bad in ((real.reshape(4, 15, -1), latent), (), (jnp.zeros((0, 2)),)):
        with pytest.raises(ValueError, match="leading axis"):
            full_data(whole, bad)
    with pytest.raises(ValueError, match="one weight per batch"):
        full_data(whole, pieces, weights=[1, 2])
    with pytest.raises(TypeError, match="operator"):
        full_data(lambda v: v, pieces)


def test_bad_operators():
    game = game_of_three()
    params = jnp.ones(2), jnp.ones(2), {"a": jnp.ones(())}
    with pytest.raises(ValueError, match="player from 0 to 2"):
        own_hessian(game, params, player=3)
    with pytest.raises(TypeError, match="need a Game"):
        own_hessian(gd.fields.gradient(game), params, player=0)
    with pytest.raises(ValueError, match="3 players"):
        jacobian(game, params[:2])


def test_another_point_or_batch_does_not_trace_again():
    traces = []

    def loss(x, batch):
        traces.append(0)
        return jnp.sum(batch * x**4)

    game = gd.single_player(loss, stochastic=True)
    batch = jnp.arange(1.0, 31.0)

    def ends(point):
        operator = own_hessian(game, (point,), batch, player=0)
        return lanczos(operator, operator.like, KEY)

    ends(jnp.ones(30))
    before = len(traces)
    result = ends(2 * jnp.ones(30))
    assert len(traces) == before
    np.testing.assert_allclose(result.largest, 12 * 4 * 30, rtol=1e-9)


def test_the_program_does_not_grow_with_the_number_of_steps():
    entries = jnp.ones(20)

    def size(num_steps):
        jaxpr = jax.make_jaxpr(
            lambda d, v: tridiagonalise(Partial(diagonal, d), v, v, num_steps)
        )(entries, entries)
        return str(jaxpr).count("\n")

    assert size(400) <= 1.1 * size(100)
