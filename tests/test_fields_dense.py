"""Matrix-free fields against their definitions in dense numpy algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from polynomial_game import PolynomialGame

import gamedyn as gd

STEP = 0.1


def consensus(g, z, weight=1.0):
    return g.gradient(z) + weight * g.jacobian(z).T @ g.gradient(z)


def hamiltonian(g, z):
    return g.jacobian(z).T @ g.gradient(z)


def symplectic(g, z, weight=1.0):
    jacobian = g.jacobian(z)
    return g.gradient(z) + weight * (jacobian - jacobian.T).T @ g.gradient(z) / 2


def symplectic_aligned(g, z, epsilon=0.1):
    field, jacobian = g.gradient(z), g.jacobian(z)
    turned, slope = (jacobian - jacobian.T).T @ field / 2, jacobian.T @ field
    product = (field @ slope) * (turned @ slope) / len(z)
    return field + np.sign(product + epsilon) * turned


def penalised(g, z, weight=0.002, payer=1):
    field, jacobian = g.gradient(z).copy(), g.jacobian(z)
    block, result = g.blocks[payer], g.gradient(z).copy()
    for i, other in enumerate(g.blocks):
        if i != payer:
            result[block] += 2 * weight * jacobian[other, block].T @ field[other]
    return result


def competitive(g, z, coefficient=STEP):
    _, cross = g.parts_of_jacobian(z)
    return np.linalg.solve(np.eye(len(z)) + coefficient * cross, g.gradient(z))


def generalised_competitive(g, z):
    return competitive(g, z, 1.0)


def opponent_lookahead(g, z, step=STEP):
    _, cross = g.parts_of_jacobian(z)
    return g.gradient(z) - step * cross @ g.gradient(z)


def shaping(g, z):
    slopes, hessians = g.slopes(z), g.hessians(z)
    chi = np.zeros_like(z)
    for i, own in enumerate(g.blocks):
        for j, other in enumerate(g.blocks):
            if i != j:
                chi[own] += hessians[j][other, own].T @ slopes[i, other]
    return chi


def lola(g, z, step=STEP):
    return opponent_lookahead(g, z, step) - step * shaping(g, z)


def stable_opponent_shaping(g, z, step=STEP, a=0.5, b=0.1):
    looking, term = opponent_lookahead(g, z, step), -step * shaping(g, z)
    product, size = term @ looking, np.linalg.norm(g.gradient(z))
    p1 = 1 if product >= 0 else min(1, -a * (looking @ looking) / product)
    p2 = size**2 if size < b else 1
    return looking + min(p1, p2) * term


def level_k(g, z, step=STEP, level=3):
    def answer(point):
        result = np.zeros_like(z)
        for own in g.blocks:
            seen = point.copy()
            seen[own] = z[own]
            result[own] = g.gradient(seen)[own]
        return result

    point = z
    for _ in range(level - 1):
        point = z - step * answer(point)
    return answer(point)


def unrolled(g, z, step=STEP, num_steps=5):
    x, y = g.blocks
    point, sensitivity = z.copy(), np.zeros((y.stop - y.start, x.stop - x.start))
    for _ in range(num_steps):
        own = g.hessians(point)[1]
        sensitivity = sensitivity - step * (own[y, y] @ sensitivity + own[y, x])
        point[y] = point[y] - step * g.slopes(point)[1, y]
    slope = g.slopes(point)[0]
    result = g.gradient(z).copy()
    result[x] = slope[x] + sensitivity.T @ slope[y]
    return result


def local_symplectic_surgery(g, z, damping=0.0):
    field, jacobian = g.gradient(z), g.jacobian(z)
    normal = jacobian.T @ jacobian + damping * np.eye(len(z))
    return (field + jacobian.T @ np.linalg.solve(normal, jacobian.T @ field)) / 2


def inverse(matrix, right, damping):
    normal = matrix.T @ matrix + damping * np.eye(len(matrix))
    return np.linalg.solve(normal, matrix.T @ right)


def follow_the_ridge(g, z, ratio=1.0, damping=0.0):
    (x, y), field, jacobian = g.blocks, g.gradient(z), g.jacobian(z)
    result = field.copy()
    moved = jacobian[y, x] @ field[x]
    result[y] = ratio * field[y] - inverse(jacobian[y, y], moved, damping)
    return result


def gradient_descent_newton(g, z, damping=0.0):
    (_, y), field, jacobian = g.blocks, g.gradient(z), g.jacobian(z)
    result = field.copy()
    result[y] = inverse(jacobian[y, y], field[y], damping)
    return result


def complete_newton(g, z):
    (x, y), field, j = g.blocks, g.gradient(z), g.jacobian(z)
    schur = j[x, x] - j[x, y] @ np.linalg.solve(j[y, y], j[y, x])
    leader = np.linalg.solve(schur, field[x])
    return np.concatenate([leader, np.linalg.solve(j[y, y], field[y])])


def gradient(g, z):
    return g.gradient(z)


DENSE = {name: globals()[name] for name in gd.fields.names()}
TWO = [n for n, e in gd.fields.entries().items() if e.num_players == 2]
SEVERAL = [n for n in gd.fields.names() if n not in TWO]


def check(field, game, expected, tolerance):
    direction = jax.jit(field)(game.params)
    assert jax.tree.structure(direction) == jax.tree.structure(game.params)
    got = np.asarray(ravel_pytree(direction)[0], float)
    scale = np.linalg.norm(expected)
    assert np.linalg.norm(got - expected) <= tolerance * scale, (got, expected)
    return got


def compare(name, game, tolerance=1e-10, **options):
    field = gd.fields.make(name, game.game, STEP, **options)
    expected = DENSE[name](game, game.z, **options)
    got = check(field, game, expected, tolerance)
    # No field passes for another: only the gradient is the gradient.
    gap = np.linalg.norm(got - game.gradient(game.z))
    assert (gap > 1e-6 * np.linalg.norm(expected)) == (name != "gradient")


# Fields that take another form in zero-sum games of two; the others in the long run.
FORMS = ("symplectic", "competitive", "complete_newton", "gradient")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in FORMS else pytest.mark.slow)
        for n in gd.fields.names()
    ],
)
def test_quartic_zero_sum_game_of_two(name):
    compare(name, PolynomialGame("two pytrees", zero_sum=True))


@pytest.mark.parametrize("name", gd.fields.names())
def test_quartic_general_sum_game(name):
    several = name in SEVERAL
    compare(name, PolynomialGame("three pytrees" if several else "two pytrees"))


@pytest.mark.slow
@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", gd.fields.names())
def test_other_random_games(name, seed, degree):
    shapes = ["two scalars", "two pytrees"]
    if name in SEVERAL:
        shapes += ["three pytrees", "five players"]
    for shape in shapes:
        compare(name, PolynomialGame(shape, degree=degree, seed=seed))
    compare(
        name, PolynomialGame("two pytrees", degree=degree, seed=seed, zero_sum=True)
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n == "lola" else pytest.mark.slow)
        for n in gd.fields.names()
    ],
)
def test_float32(name):
    shape = "three pytrees" if name in SEVERAL else "two pytrees"
    game = PolynomialGame(shape, dtype=np.float32)
    field = gd.fields.make(name, game.game, STEP)
    expected = DENSE[name](game, game.z)
    conditions = [np.linalg.cond(game.jacobian(game.z))]
    for block in game.blocks:
        conditions.append(np.linalg.cond(game.jacobian(game.z)[block, block]))
    # Rounding, amplified by what is inverted; the solvers stop at eps^(3/4).
    eps = np.finfo(np.float32).eps
    inverts = gd.fields.entry(name).family == "inverse curvature"
    check(field, game, expected, 30 * eps ** (3 / 4) * max(conditions) ** inverts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("consensus", {"weight": 0.3}),
        ("symplectic", {"weight": -0.7}),
        ("penalised", {"weight": 0.5, "payer": 0}),
        ("level_k", {"level": 2}),
        ("unrolled", {"num_steps": 2}),
        ("stable_opponent_shaping", {"a": 0.01}),
        ("stable_opponent_shaping", {"b": 1000.0}),
        ("local_symplectic_surgery", {"damping": 0.1}),
        ("follow_the_ridge", {"ratio": 3.0, "damping": 0.2}),
        ("gradient_descent_newton", {"damping": 0.2}),
    ],
)
def test_options(name, options):
    compare(name, PolynomialGame("two pytrees", seed=7), **options)


def test_both_criteria_of_stable_shaping_are_met_somewhere():
    """At random points p1 and p2 both decide, in turn."""
    game = PolynomialGame("two pytrees")
    field = jax.jit(lambda z: gd.fields.stable_opponent_shaping(game.game, 1.0)(z))
    zero = np.zeros(game.size)
    for _ in range(50):  # a zero of the field, by Newton's method
        zero = zero - np.linalg.solve(game.jacobian(zero), game.gradient(zero))
    seen = set()
    random = np.random.default_rng(0)
    for scale in (0.0, 1e-3, 1e-2, 1.0, 1.0, 1.0, 1.0, 1.0):
        z = zero + scale * random.normal(size=game.size)
        looking = opponent_lookahead(game, z, 1.0)
        size, against = np.linalg.norm(game.gradient(z)), -shaping(game, z) @ looking
        seen.add((size < 0.1, against < 0))
        expected = stable_opponent_shaping(game, z, 1.0)
        got = ravel_pytree(field(game.unravel(jnp.asarray(z))))[0]
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert {small for small, _ in seen} == {True, False}
    assert {turned for small, turned in seen if not small} == {True, False}


@pytest.mark.slow
def test_competitive_forms_agree():
    """Two symmetric positive definite systems, as published, and the solvers."""
    game = PolynomialGame("two pytrees", zero_sum=True, own=0.0)
    x, y = game.blocks
    hessian, field = game.hessians(game.z)[0], game.gradient(game.z)
    h_xy, slope_x, slope_y = hessian[x, y], field[x], -field[y]
    for eta in (0.1, 1.0, 10.0):
        left = np.eye(len(slope_x)) + eta**2 * h_xy @ h_xy.T
        right = np.eye(len(slope_y)) + eta**2 * h_xy.T @ h_xy
        published = np.concatenate(
            [
                np.linalg.solve(left, slope_x + eta * h_xy @ slope_y),
                -np.linalg.solve(right, slope_y - eta * h_xy.T @ slope_x),
            ]
        )
        for solver in ("conjugate_gradient", "normal_equations"):
            made = gd.fields.competitive(game.game, eta, solver=solver)
            check(made, game, published, 1e-10)


@pytest.mark.slow
def test_products_need_a_gradient_field_only():
    """They can be made of a field in place of a game; the rest say they need losses."""
    game = PolynomialGame("two pytrees", zero_sum=True)
    plain = gd.fields.gradient(game.game)
    for name, entry in gd.fields.entries().items():
        if "losses" in entry.needs or name == "gradient":
            continue
        own = entry.make(lambda z, batch=None: plain(z, batch), STEP)
        check(own, game, DENSE[name](game, game.z), 1e-10)
