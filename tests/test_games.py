"""Every registered game has every property that users rely on."""

import functools
from typing import NamedTuple

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
    "weak_minty": [{"rho": rho} for rho in (0.1, 0.2, 0.3)],
    "symplectic_four_player": [{"epsilon": e} for e in (0.1, 0.2, 0.3)],
    "stochastic_bilinear": [{"num_components": 6, "seed": s} for s in range(3)],
    "polar": [{"a": a} for a in (1 / 3, 1, 3)],
    "dirac_gan": [{"regularisation": r} for r in (0, 0.3, 1.0)],
    "matrix_game": [{"seed": seed} for seed in range(3)],
    "cournot": [{"demand": demand} for demand in (5, 10.0, 20)],
    "breast_cancer_logistic": [{"mu": mu} for mu in (0.01, 0.1, 1.0)],
    "breast_cancer_auc": [{"mu": mu} for mu in (0.01, 0.1, 1.0)],
    "balduzzi_two_player": [{"epsilon": e} for e in (0.1, 0.2, 0.3)],
    "constrained_bilinear": [{"epsilon": e} for e in (0.1, 0.2, 0.3)],
    "market_with_minimum": [{"radius": r} for r in (2.0, 3.0, 4.0)],
    "torus": [{"weights": (1.0, w)} for w in (1.2, 1.5, 1.7)],
    "mean_wgan": [{"mean": (m, 1.0)} for m in (1.0, 2, 3)],
    "covariance_wgan": [{"covariance": ((m, 1.0), (1.0, 2.0))} for m in (1.0, 2, 3)],
    "variance_gan": [{"variance": v} for v in (0.5, 2, 3)],
    "mlp_gan": [{"width": 3, "seed": seed} for seed in range(3)],
    "random_matrix": [{"seed": seed} for seed in range(3)],
    "weighted_rock_paper_scissors": [{"weights": (1, 2, w)} for w in (2, 3, 4)],
    "bimatrix_game": [{"seed": seed} for seed in (0, 3, 4)],
    "ordinal_game": [{"index": index} for index in (0, 1, 7)],
    "iterated_prisoners_dilemma": [{"discount": d} for d in (0, 0.5, 0.96)],
    "linear_quadratic_game": [
        {
            "A": RANDOM.normal(size=(2, 2)) / 2,
            "B": (np.eye(2), np.ones((2, 1))),
            "Q": (np.eye(2), np.diag([2.0, 1.0])),
            "R": (np.eye(2), np.eye(1)),
        }
        for _ in range(3)
    ],
    "tullock": [{"num_players": 2, "prize": prize} for prize in (1.0, 2, 3)],
    "kelly": [{"gains": (2.0, gain)} for gain in (2.1, 2.2, 2.3)],
    "resource_allocation": [{"quantities": (10.0, q)} for q in (10, 20, 30)],
    "smooth_market": [{"num_players": 3, "seed": seed} for seed in range(3)],
    "robust_least_squares": [{"seed": seed} for seed in range(3)],
    "constrained_optimisation": [
        {"P": [[2.0]], "q": [q], "G": [[1.0]], "h": [1.0]} for q in (-1, -2, -3)
    ],
    "group_robust_logistic": [{"mu": mu} for mu in (0.01, 0.1, 1.0)],
}
# What has nothing to set that another member of the same shape could differ in.
SINGLE = {
    *("forsaken", "global_forsaken", "matching_pennies", "rock_paper_scissors"),
    *("tandem", "scaled_bilinear", "worst_case", "impossibility", "market", "seesaw"),
    *("two_sided_pl", "ridge_1", "ridge_2", "ridge_3", "ratio_game", "kuhn_poker"),
    "leduc_poker",
    *("matching_pennies_logits", "blotto", "shapley", "prisoners_dilemma", "stag_hunt"),
    *("chicken", "battle_of_the_sexes", "half_matching_pennies", "adult_fairness"),
}
NAMES = [name for name, entry in games.entries().items() if not entry.files]
VARIANTS = [
    ("dirac_gan", {"kind": "non_saturating"}),
    ("dirac_gan", {"kind": "wasserstein"}),
    ("kuhn_poker", {"entropic": True}),
    ("group_robust_logistic", {"entropic": True}),
]
# Their programs take seconds to compile; what is their own is tested elsewhere, too.
LARGE = {"leduc_poker"}
CASES = [
    pytest.param(name, {}, id=name, marks=[pytest.mark.slow] if name in LARGE else [])
    for name in NAMES
] + [
    pytest.param(name, options, id=f"{name}-{next(iter(options.values()))}")
    for name, options in VARIANTS
]
every_game = pytest.mark.parametrize(("name", "options"), CASES)


def mostly_slow(values):
    """Every third one, and all of them in the slow tests."""
    return [
        value
        if number % 3 == 0
        else pytest.param(*getattr(value, "values", (value,)), marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]


built = functools.cache(lambda name, *options: games.make(name, **dict(options)))


def _build(name, options):
    return built(name, *options.items())


def test_every_game_is_a_family_or_single():
    assert set(games.names()) == {*FAMILIES, *SINGLE}
    assert not FAMILIES.keys() & SINGLE


@jax.jit
def _losses(problem, params):
    return problem.game(params)


@jax.jit
def _field(problem, params):
    return gd.fields.gradient(problem.game)(params)


@jax.jit
def _jacobian(problem, params):
    return gd.analysis.game_jacobian(problem.game, params)


def _point(problem):
    """A point without any symmetry."""
    return problem.init(jax.random.key(3))


def _cast(tree, dtype):
    def cast(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return jax.tree.map(cast, tree)


# Everything that is asked of a game is computed by one compiled function.


class Look(NamedTuple):
    """What a game does at its standard start, at random ones, and at its solutions."""

    points: tuple  # standard start, starts of the keys 3, 4 and 3, solutions
    losses: tuple
    field: tuple
    residual: jax.Array
    projected: tuple


@jax.jit
def _look(problem, points):
    def at(params):
        field = gd.fields.gradient(problem.game)(params)
        residual = gd.geometry.natural_residual(params, field, problem.geometry)
        domains = gd.geometry.per_player(problem.geometry, len(params), "geometry")
        inside = tuple(d.project(z) for d, z in zip(domains, params, strict=True))
        return problem.game(params), field, residual, inside

    return Look(points, *jax.vmap(at)(points))


@functools.cache
def _points(name, *options):
    # Drawn op by op: the draws of a shape compile once for all games.
    problem = built(name, *options)
    starts = [problem.init(k) for k in (None, *map(jax.random.key, (3, 4, 3)))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *starts, *problem.solutions)


@functools.cache
def _looked(name, dtype, *options):
    problem, points = built(name, *options), _points(name, *options)
    return jax.tree.map(np.asarray, _look(*_cast((problem, points), dtype)))


def _look_at(name, options, dtype=jnp.float64):
    return _looked(name, dtype, *options.items())


def _sizes(tree):
    """The largest absolute entry at every point."""
    leaves = [
        np.abs(leaf).reshape(len(leaf), -1).max(1) for leaf in jax.tree.leaves(tree)
    ]
    return np.max(leaves, axis=0)


@every_game
def test_losses_are_scalars_and_the_field_is_finite(name, options):
    problem, look = _build(name, options), _look_at(name, options)
    assert len(look.losses) == len(look.points) == problem.game.num_players
    assert all(loss.shape == look.residual.shape for loss in look.losses)
    assert jax.tree.structure(look.field) == jax.tree.structure(look.points)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(look[1:4]))
    if problem.game.zero_sum:
        assert np.all(np.add(*look.losses) == 0)


@every_game
def test_zero_sum_flag_is_not_forgotten(name, options):
    problem, look = _build(name, options), _look_at(name, options)
    adds_up = np.all(np.abs(sum(look.losses)[:3]) < 1e-12)
    assert problem.game.zero_sum == bool(adds_up and problem.game.num_players == 2)


@every_game
def test_facts_are_stamped_and_true(name, options):
    problem = _build(name, options)
    entry = games.entries()[name]
    for fact in ("summary", "source", "shows"):
        assert getattr(problem.info, fact) == getattr(entry, fact) != ""
        assert "\n" not in getattr(entry, fact)
    assert problem.info.name == name
    assert problem.info.solution == entry.solution in games.SOLUTIONS
    assert problem.game.num_players == entry.num_players
    assert games.domain_of(problem) == entry.domain
    assert (problem.info.num_components is not None) == entry.finite_sum
    if not options:
        assert problem.game.zero_sum == entry.zero_sum


@every_game
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_solutions_are_stationary(name, options, dtype):
    problem, look = _build(name, options), _look_at(name, options, dtype)
    assert bool(problem.solutions) == (problem.info.solution != "none")
    single = _cast(problem, dtype)
    starts = [jax.eval_shape(single.init, key) for key in (None, jax.random.key(0))]
    for tree in (look, *starts):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype(dtype)}
    # Rounding is relative to the point, and to the terms that cancel in the field.
    scales = [np.maximum(1, _sizes(tree)) for tree in (look.points, look.field)]
    rounding = 300 * jnp.finfo(dtype).eps * scales[0] * scales[1][0]
    assert np.all(look.residual[4:] < rounding[4:]), look.residual
    # The start is somewhere else.
    assert look.residual[0] > 1e-3


@every_game
def test_kind_of_solution(name, options):
    """Own curvature at the solutions of unconstrained games tells the kinds apart."""
    problem = _build(name, options)
    if games.domain_of(problem) != "unconstrained" or not problem.solutions:
        return
    jacobian = np.asarray(_jacobian(problem, problem.solutions[0]))
    sizes = [ravel_pytree(own)[0].size for own in problem.solutions[0]]
    ends = np.cumsum([0, *sizes])
    blocks = [jacobian[a:b, a:b] for a, b in zip(ends, ends[1:], strict=False)]
    least = [np.linalg.eigvalsh((b + b.T) / 2).min() for b in blocks]
    convex = min(least) > -1e-9 * np.abs(jacobian).max()
    assert convex == (problem.info.solution in ("Nash", "local Nash"))
    if problem.info.solution == "minimax":
        schur = blocks[0] - jacobian[: ends[1], ends[1] :] @ np.linalg.solve(
            blocks[1], jacobian[ends[1] :, : ends[1]]
        )
        assert least[1] > 0
        assert np.linalg.eigvalsh((schur + schur.T) / 2).min() > 0


@every_game
def test_starts_are_reproducible_and_in_the_domain(name, options):
    problem, look = _build(name, options), _look_at(name, options)
    domains = gd.geometry.per_player(
        problem.geometry, problem.game.num_players, "geometry"
    )
    for point, inside, domain in zip(look.points, look.projected, domains, strict=True):
        if domain.kind != "euclidean":
            starts = [np.asarray(leaf)[:4] for leaf in jax.tree.leaves(point)]
            # Strictly inside, as entropic steps need it.
            assert domain.domain == "box" or all((z > 0).all() for z in starts)
            for got, z in zip(jax.tree.leaves(inside), starts, strict=True):
                np.testing.assert_allclose(got[:4], z, atol=1e-12 * np.abs(z).max())
    for leaf in jax.tree.leaves(look.points):
        assert np.all(leaf[1] == leaf[3])
        assert leaf.size == 0 or np.any(leaf[1] != leaf[2])


@pytest.mark.parametrize(("name", "options"), mostly_slow(CASES))
def test_jacobian_equals_finite_differences(name, options):
    """A stop_gradient would leave the field as it is, but not its mixed blocks."""
    problem = _build(name, options)
    start = jax.tree.map(lambda leaf: leaf[1], _look_at(name, options).points)
    params, unravel = ravel_pytree(start)
    # At most 12 directions: random ones where there are more parameters.
    tangents = np.eye(params.size)
    if params.size > 12:
        tangents = np.random.default_rng(0).normal(size=(12, params.size))

    @jax.jit
    def both(problem, tangents):
        def field(flat):
            return ravel_pytree(gd.fields.gradient(problem.game)(unravel(flat)))[0]

        step = 1e-5
        ahead, behind = (
            jax.vmap(field)(params[None] + s * tangents) for s in (step, -step)
        )
        exact = jax.vmap(lambda v: jax.jvp(field, (params,), (v,))[1])(tangents)
        return (ahead - behind) / (2 * step), exact

    differences, exact = both(problem, jnp.asarray(tangents))
    scale = jnp.max(jnp.abs(exact))
    np.testing.assert_allclose(differences, exact, atol=1e-7 * float(scale) + 1e-9)


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
    params = jax.tree.map(lambda leaf: leaf[0], _look_at(name, options).points)
    # The jaxpr of the field holds the losses.
    jaxpr = jax.make_jaxpr(gd.fields.gradient(problem.game))(params).jaxpr
    names = set(_primitives(jaxpr))
    assert names
    assert not any("stop" in primitive for primitive in names)


@pytest.mark.parametrize("name", mostly_slow(FAMILIES))
def test_members_of_a_family_do_not_retrace_and_can_be_mapped_over(name):
    traces = []

    @jax.jit
    def direction(problem, params, batch):
        traces.append(problem)
        return gd.fields.gradient(problem.game)(params, batch)

    members = [games.make(name, **options) for options in FAMILIES[name]]
    key = jax.random.key(0)
    samples = [None if m.sample is None else m.sample(key) for m in members]
    points = [members[0].init(key)] * 3
    values = list(map(direction, members, points, samples))
    assert len(traces) == 1
    assert len({ravel_pytree(value)[0].tobytes() for value in values}) == 3
    together = [
        jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        for trees in (members, points, samples)
    ]
    mapped = jax.vmap(direction)(*together)
    for i, value in enumerate(values):
        one = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(value)])
        row = np.concatenate([np.ravel(leaf[i]) for leaf in jax.tree.leaves(mapped)])
        np.testing.assert_allclose(row, one, rtol=1e-11, atol=1e-11)


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
        ("balduzzi_two_player", games.balduzzi_two_player),
        ("constrained_bilinear", games.constrained_bilinear),
        ("market_with_minimum", games.market_with_minimum),
        ("torus", lambda s: games.torus(s * jnp.ones(2))),
        ("mean_wgan", lambda s: games.mean_wgan(s * jnp.ones(2))),
        ("covariance_wgan", lambda s: games.covariance_wgan(s * jnp.eye(2))),
        ("variance_gan", games.variance_gan),
        (
            "weighted_rock_paper_scissors",
            lambda s: games.weighted_rock_paper_scissors(s * jnp.arange(1.0, 4)),
        ),
        (
            "bimatrix_game",
            lambda s: games.bimatrix_game(s * jnp.eye(2), jnp.ones((2, 2))),
        ),
        (
            "iterated_prisoners_dilemma",
            lambda s: games.make("iterated_prisoners_dilemma", discount=s / 2),
        ),
        ("tullock", lambda s: games.tullock(2, prize=s)),
        ("kelly", lambda s: games.kelly(quantity=1000 * s)),
        (
            "resource_allocation",
            lambda s: games.resource_allocation(quantities=50 * s * jnp.ones(2)),
        ),
        ("smooth_market", lambda s: games.smooth_market(2, curvature=s)),
        ("robust_least_squares", lambda s: games.robust_least_squares(penalty=1 + s)),
        (
            "constrained_optimisation",
            lambda s: games.constrained_optimisation(
                s * jnp.eye(2), jnp.ones(2), jnp.ones((1, 2)), jnp.zeros(1)
            ),
        ),
        (
            "linear_quadratic_game",
            lambda s: games.linear_quadratic_game(
                s * jnp.eye(2) / 2,
                [jnp.eye(2)],
                [jnp.eye(2)],
                [jnp.eye(2)],
                solve=False,
            ),
        ),
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


FINITE_SUMS = [name for name in NAMES if games.entries()[name].finite_sum]


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
