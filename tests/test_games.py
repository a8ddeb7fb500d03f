"""Every registered game has every property that users rely on."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn import games
from gamedyn.games import _forms

RANDOM = np.random.default_rng(1)

# Three members each of the families, alike in shapes.
FAMILIES = {
    "bilinear": [{"matrix": RANDOM.normal(size=(2, 3))} for _ in range(3)],
    "quadratic": [{"A": RANDOM.normal(size=(4, 2))} for _ in range(3)],
    "quadratic_bilinear": [{"dim": 5, "seed": seed} for seed in range(3)],
    "weak_minty": [{"rho": rho} for rho in (-0.3, -0.2, 0.1)],
    "symplectic_four_player": [{"epsilon": e} for e in (-0.1, 0.0, 0.1)],
    "stochastic_bilinear": [{"num_components": 6, "seed": s} for s in range(3)],
    "polar": [{"a": a} for a in (1 / 3, 1, 3)],
    "dirac_gan": [{"regularisation": r} for r in (0, 0.3, 1.0)],
    "matrix_game": [{"seed": seed} for seed in range(3)],
    "cournot": [{"demand": demand} for demand in (5, 10.0, 20)],
    "breast_cancer_logistic": [{"mu": mu} for mu in (0.01, 0.1, 1.0)],
    "breast_cancer_auc": [{"mu": mu} for mu in (0.01, 0.1, 1.0)],
}
VARIANTS = [{"kind": kind} for kind in ("non_saturating", "wasserstein")]
CASES = [pytest.param(name, {}, id=name) for name in games.names()] + [
    pytest.param("dirac_gan", options, id=options["kind"]) for options in VARIANTS
]
every_game = pytest.mark.parametrize(("name", "options"), CASES)

built = functools.cache(lambda name, *options: games.make(name, **dict(options)))


def _build(name, options):
    return built(name, *options.items())


@jax.jit
def _losses(problem, params):
    return problem.game(params)


@jax.jit
def _field(problem, params):
    return gd.fields.gradient(problem.game)(params)


@jax.jit
def _jacobian(problem, params):
    return gd.analysis.game_jacobian(problem.game, params)


@jax.jit
def _residual(problem, params):
    direction = gd.fields.gradient(problem.game)(params)
    return gd.geometry.natural_residual(params, direction, problem.geometry)


def _point(problem):
    """A point without any symmetry."""
    return problem.init(jax.random.key(3))


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


@every_game
def test_losses_are_scalars_and_the_field_is_finite(name, options):
    problem = _build(name, options)
    for params in (problem.init(None), _point(problem)):
        losses, field = _losses(problem, params), _field(problem, params)
        assert len(losses) == len(params) == problem.game.num_players
        assert all(loss.shape == () and jnp.isfinite(loss) for loss in losses)
        assert jax.tree.structure(field) == jax.tree.structure(params)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(field))
        if problem.game.zero_sum:
            assert losses[0] + losses[1] == 0


@every_game
def test_zero_sum_flag_is_not_forgotten(name, options):
    problem = _build(name, options)
    adds_up = sum(_losses(problem, _point(problem))) == 0
    assert problem.game.zero_sum == bool(adds_up and problem.game.num_players == 2)


@every_game
def test_facts_are_stamped(name, options):
    problem = _build(name, options)
    entry = games.entries()[name]
    assert problem.info.name == name
    assert problem.info.summary == entry.summary != ""
    assert problem.info.source == entry.source != ""


@every_game
def test_solutions_are_stationary(name, options):
    problem = _build(name, options)
    assert problem.solutions
    for solution in problem.solutions:
        size = max(1.0, float(jnp.max(jnp.abs(ravel_pytree(solution)[0]))))
        assert _residual(problem, solution) < 100 * jnp.finfo(float).eps * size
        # The start is somewhere else.
        assert _residual(problem, problem.init(None)) > 1e-3


@every_game
def test_starts_are_reproducible_and_in_the_domain(name, options):
    problem = _build(name, options)
    geometries = gd.geometry.per_player(
        problem.geometry, problem.game.num_players, "geometry"
    )
    starts = [problem.init(key) for key in (None, jax.random.key(0), jax.random.key(1))]
    for start in starts:
        for point, geometry in zip(start, geometries, strict=True):
            if geometry.kind != "euclidean":
                assert all(jnp.all(leaf > 0) for leaf in jax.tree.leaves(point))
                np.testing.assert_allclose(geometry.project(point), point, atol=1e-12)
    again = ravel_pytree(problem.init(jax.random.key(0)))[0]
    assert jnp.all(again == ravel_pytree(starts[1])[0])
    assert jnp.any(again != ravel_pytree(starts[2])[0])


@every_game
def test_jacobian_equals_finite_differences(name, options):
    """A stop_gradient would leave the field as it is, but not its mixed blocks."""
    problem = _build(name, options)
    params, unravel = ravel_pytree(_point(problem))

    @jax.jit
    def field(flat):
        return ravel_pytree(gd.fields.gradient(problem.game)(unravel(flat)))[0]

    step = 1e-5
    tangents = jnp.eye(params.size)[:60]  # the robust game has 599
    ahead, behind = (
        jax.vmap(field)(params[None] + s * tangents) for s in (step, -step)
    )
    differences = (ahead - behind) / (2 * step)
    exact = jax.vmap(lambda v: jax.jvp(field, (params,), (v,))[1])(tangents)
    scale = jnp.max(jnp.abs(exact))
    np.testing.assert_allclose(differences, exact, atol=1e-8 * float(scale) + 1e-9)


def _primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _primitives(inner)


@every_game
def test_no_stop_gradient_in_losses_and_field(name, options):
    problem = _build(name, options)
    params = problem.init(None)
    for function in (problem.game, gd.fields.gradient(problem.game)):
        names = set(_primitives(jax.make_jaxpr(function)(params).jaxpr))
        assert names
        assert not any("stop" in primitive for primitive in names)


@every_game
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_casting_the_problem_casts_everything(name, options, dtype):
    problem = _cast(_build(name, options), dtype)
    for params in (problem.init(None), _point(problem), *problem.solutions):
        field = _field(problem, params)
        assert {leaf.dtype for leaf in jax.tree.leaves((params, field))} == {
            jnp.dtype(dtype)
        }
    for solution in problem.solutions:
        size = max(1.0, float(jnp.max(jnp.abs(ravel_pytree(solution)[0]))))
        assert _residual(problem, solution) < 300 * jnp.finfo(dtype).eps * size


@pytest.mark.parametrize("name", FAMILIES)
def test_other_members_of_a_family_do_not_retrace(name):
    traces = []

    @jax.jit
    def direction(problem, key):
        traces.append(problem)
        batch = None if problem.sample is None else problem.sample(key)
        return gd.fields.gradient(problem.game)(problem.init(key), batch)

    members = [games.make(name, **options) for options in FAMILIES[name]]
    values = [direction(member, jax.random.key(0)) for member in members]
    assert len(traces) == 1
    assert len({ravel_pytree(value)[0].tobytes() for value in values}) == 3


@pytest.mark.parametrize("name", FAMILIES)
def test_problems_can_be_mapped_over(name):
    members = [games.make(name, **options) for options in FAMILIES[name]]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    params = _point(members[0])
    mapped = jax.vmap(_field, in_axes=(0, None))(together, params)
    for i, member in enumerate(members):
        one = ravel_pytree(_field(member, params))[0]
        row = ravel_pytree(jax.tree.map(lambda leaf, i=i: leaf[i], mapped))[0]
        np.testing.assert_allclose(row, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        ("bilinear", lambda s: games.bilinear(s * jnp.ones((2, 2)))),
        ("quadratic", lambda s: games.quadratic(A=s * jnp.ones((2, 2)))),
        ("weak_minty", lambda s: games.weak_minty(1.0, -0.1 * s)),
        ("symplectic_four_player", games.symplectic_four_player),
        ("polar", games.polar),
        ("dirac_gan", lambda s: games.dirac_gan("minimax", s)),
        ("matrix_game", lambda s: games.matrix_game(s * jnp.eye(3))),
        ("cournot", lambda s: games.cournot(2, slope=s)),
    ],
)
def test_parameters_may_be_traced(name, builder):
    def norm(scale):
        problem = builder(scale)
        assert problem.info.name == name
        return ravel_pytree(_field(problem, problem.init(None)))[0]

    scales = jnp.array([0.5, 1.0])
    mapped = jax.vmap(norm)(scales)
    np.testing.assert_allclose(mapped[1], norm(1.0), rtol=1e-12, atol=1e-14)


entries = st.floats(-5, 5, allow_subnormal=False)


SHAPES = st.sampled_from([(1, 1), (2, 2), (3, 2), (4, 7), (3, 12)])  # one of each form


@hypothesis.given(st.data(), SHAPES)
def test_bilinear_field_in_every_form(data, shape):
    """The form depends on the size: scalars, reversal, sums, products."""
    m, n = shape
    matrix, b, c, x, y = (
        data.draw(hnp.arrays(np.float64, shape, elements=entries))
        for shape in ((m, n), m, n, m, n)
    )
    problem = games.bilinear(matrix, b, c)
    field = _field(problem, (jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(field[0], matrix @ y + b, atol=1e-11)
    np.testing.assert_allclose(field[1], -(matrix.T @ x + c), atol=1e-11)
    for x, y in problem.solutions:
        np.testing.assert_allclose(matrix @ y + b, 0, atol=1e-6)
        np.testing.assert_allclose(matrix.T @ x + c, 0, atol=1e-6)


@hypothesis.given(SHAPES, st.integers(0, 99))
def test_quadratic_jacobian_has_the_exact_blocks(shape, seed):
    m, n = shape
    random = np.random.default_rng(seed)
    P, A, Q = (random.normal(size=shape) for shape in ((m, m), (m, n), (n, n)))
    problem = games.quadratic(P + P.T, A, Q + Q.T)
    exact = np.block([[P + P.T, A], [-A.T, Q + Q.T]])
    jacobian = _jacobian(problem, problem.init(None))
    np.testing.assert_allclose(jacobian, exact, atol=1e-12)


def test_bilinear_solutions():
    random = np.random.default_rng(0)
    square, b = random.normal(size=(3, 3)), random.normal(size=3)
    x, y = games.bilinear(square, b, b).solutions[0]
    np.testing.assert_allclose(y, -np.linalg.solve(square, b), rtol=1e-10)
    np.testing.assert_allclose(x, -np.linalg.solve(square.T, b), rtol=1e-10)
    wide = random.normal(size=(2, 4))
    y = games.bilinear(wide, b=b[:2]).solutions[0][1]
    np.testing.assert_allclose(y, -np.linalg.pinv(wide) @ b[:2], rtol=1e-10)
    # Three rows cannot be met by two columns.
    assert games.bilinear(wide[:, :2].T @ wide[:, :1], b=[1.0, 1.0]).solutions == ()


def test_integer_and_single_precision_matrices():
    assert games.bilinear([[1, 2], [3, 4]]).init(None)[0].dtype == float
    assert games.matrix_game(np.eye(2, dtype=np.int32)).init(None)[0].dtype == float
    single = games.bilinear(np.eye(2, dtype=np.float32), b=[1, 2])
    leaves = jax.tree.leaves((single, single.init(jax.random.key(0))))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}


NAN = [[1.0, np.nan]]
BAD = {
    "one-dimensional": (lambda: games.bilinear([1.0, 2.0]), r"2 dimensions.*\(2,\)"),
    "ragged": (lambda: games.bilinear([[1.0], [1.0, 2.0]]), "matrix must be an array"),
    "text": (lambda: games.bilinear([["a"]]), "matrix must hold real numbers"),
    "complex": (lambda: games.bilinear([[1j]]), "matrix must hold real numbers"),
    "empty": (lambda: games.bilinear(np.zeros((0, 2))), r"non-empty.*\(0, 2\)"),
    "nan": (lambda: games.bilinear(NAN), "matrix must be finite"),
    "nan on simplices": (lambda: games.matrix_game(NAN), "matrix must be finite"),
    "vector": (lambda: games.matrix_game([1.0]), "2 dimensions"),
    "offset b": (lambda: games.bilinear([[1, 2]], b=[1, 2]), r"b must have.*\(1,\)"),
    "offset c": (lambda: games.bilinear([[1, 2]], c=[1]), r"c must have.*\(2,\)"),
    "nan in b": (lambda: games.bilinear([[1.0]], b=[np.inf]), "b must be finite"),
    "shape of P": (lambda: games.quadratic(np.eye(2)), r"P must have.*\(1, 1\)"),
    "asymmetric": (
        lambda: games.quadratic([[0, 1], [0, 0]], np.eye(2)),
        "P must be symmetric",
    ),
    "dim": (lambda: games.quadratic_bilinear(0), "dim must be a positive integer"),
    "mu": (lambda: games.quadratic_bilinear(2, mu=3), "0 < mu <= smoothness"),
    "rho": (lambda: games.weak_minty(2, -1), r"\|L rho\| <= 1"),
    "kind": (lambda: games.dirac_gan("minmax"), "did you mean minimax"),
    "penalty": (lambda: games.dirac_gan(regularisation=-1), "must not be negative"),
    "array for number": (lambda: games.polar([1.0]), "0 dimensions"),
    "players": (lambda: games.cournot(0), "num_players must be a positive integer"),
    "price": (lambda: games.cournot(demand=1, cost=2), "demand > cost"),
    "components": (lambda: games.stochastic_bilinear(0), "num_components"),
    "batch size": (lambda: games.stochastic_bilinear(batch_size=0), "batch_size"),
    "fraction": (lambda: games.breast_cancer_auc(batch_size=1.5), "batch_size"),
    "no ridge": (lambda: games.breast_cancer_auc(0), "mu must be positive"),
    "no adversary": (lambda: games.breast_cancer_logistic(rho=0), "rho must be"),
    "name": (lambda: games.make("bilinaer"), "did you mean bilinear"),
    "params": (
        lambda: games.bilinear(np.eye(2)).game((jnp.ones(2), jnp.ones(3))),
        r"params of shapes \(2,\) and \(2,\)",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_mistakes_are_named(mistake):
    call, message = BAD[mistake]
    with pytest.raises(ValueError, match=message):
        call()


FINITE_SUMS = ["stochastic_bilinear", "breast_cancer_logistic", "breast_cancer_auc"]


@pytest.mark.parametrize("name", FINITE_SUMS)
def test_minibatches_are_unbiased(name):
    """The mean over all components, or all pairs of neighbours, is the full game."""
    problem = _build(name, {})
    field, n = gd.fields.gradient(problem.game), problem.info.num_components
    params = _point(problem)
    full = ravel_pytree(jax.jit(field)(params, jnp.arange(n)))[0]
    indices = jnp.arange(n)
    for batches in (indices[:, None], jnp.stack([indices, (indices + 1) % n], axis=1)):
        each = jax.jit(jax.vmap(field, in_axes=(None, 0)))(params, batches)
        mean = ravel_pytree(jax.tree.map(lambda leaf: leaf.mean(axis=0), each))[0]
        np.testing.assert_allclose(mean, full, rtol=1e-10, atol=1e-11)
    without = ravel_pytree(_field(problem, params))[0]
    np.testing.assert_allclose(without, full, rtol=1e-12, atol=1e-12)
    loss = jax.jit(lambda batch: problem.game(params, batch)[0])
    losses, whole = jax.vmap(loss)(indices[:, None]), loss(indices)
    np.testing.assert_allclose(losses.mean(), whole, rtol=1e-11)


@pytest.mark.parametrize("name", FINITE_SUMS)
def test_a_repeated_index_counts_twice(name):
    problem = _build(name, {})
    params = _point(problem)

    def losses(*batch):
        return problem.game(params, jnp.array(batch))[0]

    both = (2 * losses(3) + losses(5)) / 3
    np.testing.assert_allclose(losses(3, 5, 3), both, rtol=1e-12)


@pytest.mark.parametrize("name", FINITE_SUMS)
def test_samples_are_indices(name):
    problem = _build(name, {})
    with jax.debug_key_reuse(True):
        batches = jax.vmap(problem.sample)(jax.random.split(jax.random.key(0), 2000))
    assert jnp.issubdtype(batches.dtype, jnp.integer)
    assert batches.min() == 0
    assert batches.max() == problem.info.num_components - 1
    size = problem.sample(jax.random.key(0)).shape
    assert (
        games.make(name, batch_size=7).sample(jax.random.key(0)).shape == (7,) != size
    )


def test_fast_forms_agree_with_the_product():
    random = np.random.default_rng(2)
    for m, n in [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (1, 4), (10, 7), (11, 2)]:
        arrays = [random.normal(size=shape) for shape in ((m, n), m, n)]
        matrix, x, y = map(jnp.asarray, arrays)
        np.testing.assert_allclose(_forms.bilinear(matrix, x, y), x @ matrix @ y)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_games_have_no_product_to_batch(size):
    """A product of matrices in a sweep does not fuse."""
    problem = games.bilinear(np.eye(size))
    params = problem.init(None)
    jaxpr = jax.make_jaxpr(gd.fields.gradient(problem.game))(params).jaxpr
    assert "dot_general" not in set(_primitives(jaxpr))
