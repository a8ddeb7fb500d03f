"""Loops end: their decision to go on is computed once and carried."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn import fields, methods
from gamedyn.analysis import spectra
from gamedyn.analysis.krylov import tridiagonalise
from gamedyn.analysis.precision import inner_jaxprs
from gamedyn.divergences import sinkhorn, sinkhorn_divergence
from gamedyn.fields.linear import Krylov, least_residual, solve_definite, solve_square
from gamedyn.loops import bounded_while
from gamedyn.rules.integrators import resolvent


def floating_conditions(jaxpr, where=()):
    """Find every `while` whose condition works on floating-point numbers."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "while" and _floats(equation.params["cond_jaxpr"].jaxpr):
            yield "/".join((*where, name))
        for inner in inner_jaxprs(equation):
            yield from floating_conditions(inner.jaxpr, (*where, name))


def _floats(jaxpr):
    """Whether an equation, however deep, reads or makes a floating-point number."""
    for equation in jaxpr.eqns:
        for variable in (*equation.invars, *equation.outvars):
            if jnp.issubdtype(variable.aval.dtype, jnp.inexact):
                return True
        if any(_floats(inner.jaxpr) for inner in inner_jaxprs(equation)):
            return True
    return False


def offenders(function, *arguments):
    """Walk a function's program as it is and under `vmap`."""
    alone = jax.make_jaxpr(function)(*arguments)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), arguments)
    many = jax.make_jaxpr(jax.vmap(function))(*stacked)
    return [*floating_conditions(alone.jaxpr), *floating_conditions(many.jaxpr)]


def test_bounded_while_counts_and_stops():
    def run(start, limit, at_least=0):
        return bounded_while(
            lambda x: x > 1, lambda x: x / 2, start, limit, at_least=at_least
        )

    assert [float(x) for x in run(jnp.array(5.0), 100)] == [0.625, 3]
    assert [float(x) for x in run(jnp.array(5.0), 2)] == [1.25, 2]
    assert [float(x) for x in run(jnp.array(0.5), 100)] == [0.5, 0]
    assert [float(x) for x in run(jnp.array(0.5), 100, 2)] == [0.125, 2]
    assert [float(x) for x in run(jnp.array(0.5), 0, 2)] == [0.5, 0]
    starts = jnp.array([5.0, 0.5, 1e3])
    last, counts = jax.vmap(run, (0, None))(starts, 100)
    np.testing.assert_array_equal(counts, [3, 0, 10])
    np.testing.assert_array_equal(last, [0.625, 0.5, 1e3 / 1024])
    # Limits that no int32 holds are no limits.
    for limit in (2**31 - 1, 2**31, 2**32, 3 * 10**9):
        assert run(jnp.array(5.0), limit)[1] == 3
        assert run(jnp.array(5.0, jnp.float32), limit)[1] == 3
    # A traced limit, and derivatives through the steps done.
    assert jax.jit(run)(jnp.array(5.0), 2)[1] == 2
    assert jax.jvp(lambda x: run(x, 9)[0], (5.0,), (1.0,))[1] == 0.125


def test_a_planted_loop_is_found():
    def planted(x):
        return jax.lax.while_loop(lambda y: y > 1.0, lambda y: y / 2, x)

    def hidden(x):
        return jax.jit(lambda y: jax.lax.cond(y > 0, planted, lambda z: z, y))(x)

    assert offenders(planted, jnp.array(5.0)) == ["while", "while"]
    assert offenders(hidden, jnp.array(5.0))
    assert not offenders(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y, x), 1.0)


@functools.cache
def _smooth():
    return gd.games.quadratic()


@functools.cache
def _simplex():
    return gd.games.matching_pennies()


_OPTIONS = {
    "interior_point": {"constraints": lambda params: params[0] - 10.0},
}


@pytest.fixture
def as_optax_promotes():
    """Adam multiplies its moments by Python and NumPy numbers of other dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("as_optax_promotes")
@pytest.mark.parametrize("name", methods.names())
def test_no_method_decides_twice(name):
    """Every rule and every field, as one step of a vmapped sweep has them."""
    entry = methods.entry(name)
    problem = _simplex() if entry.on_simplex else _smooth()
    options = dict(_OPTIONS.get(name, {}))
    if "finite sum" in entry.needs:
        options["num_components"] = 3
    field, rule = methods.make(
        name, problem.game, 0.1, geometry=problem.geometry, **options
    )
    start = problem.init(jax.random.key(0))

    def run(params):
        batch = jnp.zeros(1, jnp.int32) if "finite sum" in entry.needs else None

        def pushed(params, at=None):
            del at
            return field(params, None)

        state = rule.init(params)
        return rule.update(pushed, params, state, (batch,) * rule.num_batches)

    assert offenders(run, start) == []


def _definite(x):
    return solve_definite(lambda v: 2 * v, x, Krylov()).solution


def _square(x):
    return solve_square(lambda v: 2 * v, lambda v: 2 * v, x, Krylov()).solution


def _implicit(x):
    """Above the size up to which the systems are dense."""
    point = (jnp.tile(x, 100),)
    return resolvent(lambda z: z, point, 0.1, tolerance=1e-6, max_steps=3)


def _until(x):
    field = fields.gradient(gd.single_player(lambda z: jnp.sum(z**2)))
    rule = gd.simultaneous(optax.sgd(0.1))
    return gd.solve_until(field, rule, (x,), tolerance=1e-3, max_steps=9).params


def _sinkhorn(x):
    return sinkhorn(jnp.abs(x[:, None] - x[None, :]), epsilon=0.5).f


def _divergence(x):
    return sinkhorn_divergence(x[:, None], x[:, None] + 1, epsilon=0.5)


def _krylov_basis(x):
    return tridiagonalise(lambda v: 2 * v, x, x, 3)


def _arnoldi(x):
    key = jax.random.key(0)
    partial = jax.tree_util.Partial(lambda v: 2 * v)
    return spectra._arnoldi(partial, x, key, num_steps=3)


@pytest.mark.parametrize(
    "solver",
    [
        _definite,
        _square,
        _implicit,
        _until,
        _sinkhorn,
        _divergence,
        _krylov_basis,
        _arnoldi,
    ],
)
def test_no_solver_decides_twice(solver):
    assert offenders(solver, jnp.array([0.5, 1.0, 2.0])) == []


def test_only_one_file_has_a_while_loop():
    """So that the walk above cannot miss one that no method reaches."""
    folder = Path(gd.__file__).parent
    users = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "lax.while_loop(" in path.read_text()
    ]
    assert users == ["loops.py"]


# The steps after which 41 step sizes at once have spent `evaluations`.
def _sweep(name, problem, evaluations):
    entry = methods.entry(name)
    size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(problem.init(None)))
    per_step = entry.evaluations(size, zero_sum=problem.game.zero_sum)
    num_steps = max(1, evaluations // per_step)
    grid = jnp.logspace(-3, 1, 41)

    def run(step_size):
        field, rule = methods.make(
            name, problem.game, step_size, geometry=problem.geometry
        )
        return gd.solve(field, rule, problem.init(None), num_steps).num_steps

    return jax.jit(lambda grid: gd.sweep(run, grid))(grid), num_steps


def _swept(names):
    """Those that one number makes on the bilinear game, or on a simplex."""
    return [
        name
        for name in names
        if not {"finite sum", "constraints"} & set(methods.entry(name).needs)
    ]


@pytest.mark.usefixtures("as_optax_promotes")
@pytest.mark.parametrize("name", _swept(gd.rules.names()))
def test_a_sweep_of_step_sizes_ends(name):
    """With underflowing numbers: 4,000 evaluations, most step sizes being solved."""
    entry = methods.entry(name)
    problem = _simplex() if entry.on_simplex else gd.games.bilinear()
    done, num_steps = _sweep(name, problem, 4000)
    assert done.shape == (41,)
    assert jnp.all((done >= 0) & (done <= num_steps))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "kind", ["near identity", "rotating", "indefinite", "singular"]
)
def test_least_residual_against_dense_algebra(kind, dtype):
    rng = np.random.default_rng(3)
    n = 60
    noise = rng.normal(size=(n, n)) / np.sqrt(n)
    matrix = {
        "near identity": np.eye(n) + 0.3 * noise,
        "rotating": np.eye(n) + 2 * (noise - noise.T),
        "indefinite": np.diag(np.where(np.arange(n) < 4, -1.0, 1.0)) + 0.2 * noise,
        "singular": np.diag(np.arange(n) % 5.0),
    }[kind]
    right = matrix @ rng.normal(size=n)
    tolerance = float(jnp.finfo(dtype).eps) ** 0.75
    a, b = jnp.asarray(matrix, dtype), jnp.asarray(right, dtype)
    solve = jax.jit(lambda b: least_residual(lambda v: a @ v, b, tolerance))
    for scale in (1.0, 1e-3, 1e3):
        solution = np.asarray(solve(scale * b), float)
        rest = np.linalg.norm(matrix @ solution - scale * right)
        assert rest <= 3 * tolerance * np.linalg.norm(scale * right)
    assert not np.any(solve(0 * b))
    both = jax.jit(jax.vmap(solve))(jnp.stack([b, -2 * b]))
    np.testing.assert_allclose(
        both[1], -2 * both[0], rtol=0, atol=1e3 * tolerance * np.abs(both[0]).max()
    )


def test_large_implicit_steps_are_those_of_the_dense_equation():
    """150 parameters: the Newton systems are solved without a matrix."""
    rng = np.random.default_rng(0)
    matrix = jnp.asarray(rng.normal(size=(75, 75)) / 8)
    problem = gd.games.bilinear(matrix)
    start = problem.init(jax.random.key(0))
    rule = gd.proximal_point(2.0)
    reached = jax.jit(lambda z: gd.solve(problem.game, rule, z, 1).params)(start)
    zero = np.zeros((75, 75))
    jacobian = np.block([[zero, matrix], [-matrix.T, zero]])
    z = np.concatenate([np.ravel(leaf) for leaf in start])
    expected = np.linalg.solve(np.eye(150) + 2.0 * jacobian, z)
    np.testing.assert_allclose(np.concatenate(reached), expected, atol=1e-10)
