"""Geometries: projections against independent ones, entropic steps, residuals."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn.geometry import Geometry, natural_residual, per_player

geometry = gd.geometry

# Second implementations in numpy: the threshold is found by bisection, nothing sorted.


def simplex_by_bisection(point, scale=1.0):
    low, high = point.min() - scale, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(point - middle, 0).sum() > scale:
            low = middle
        else:
            high = middle
    return np.maximum(point - (low + high) / 2, 0)


def l1_ball_by_bisection(point, radius=1.0):
    if np.abs(point).sum() <= radius:
        return point
    return np.sign(point) * simplex_by_bisection(np.abs(point), radius)


def l2_ball_in_numpy(point, radius=1.0):
    norm = np.linalg.norm(point)
    return point if norm <= radius else point * (radius / norm)


SETS = {
    "box": (geometry.box(-0.5, 2.0), lambda v: np.minimum(np.maximum(v, -0.5), 2.0)),
    "non_negative": (geometry.non_negative(), lambda v: np.where(v > 0, v, 0)),
    "simplex": (geometry.simplex(), simplex_by_bisection),
    "simplex of scale 3": (
        geometry.simplex(3.0),
        lambda v: simplex_by_bisection(v, 3.0),
    ),
    "l1_ball": (geometry.l1_ball(), l1_ball_by_bisection),
    "l1_ball of radius 2": (
        geometry.l1_ball(2.0),
        lambda v: l1_ball_by_bisection(v, 2.0),
    ),
    "l2_ball": (geometry.l2_ball(), l2_ball_in_numpy),
    "l2_ball of radius 2": (
        geometry.l2_ball(2.0),
        lambda v: l2_ball_in_numpy(v, 2.0),
    ),
    "entropic": (geometry.entropic, simplex_by_bisection),
    "euclidean": (geometry.euclidean, lambda v: v),
}
PROJECT = {name: jax.jit(domain.project) for name, (domain, _) in SETS.items()}
SIZE = 4

numbers = st.floats(-10, 10, allow_subnormal=False)
vectors = st.lists(numbers, min_size=SIZE, max_size=SIZE).map(np.array)


@pytest.fixture(scope="module", params=SETS)
def name(request):
    return request.param


class TestProjections:
    @hypothesis.given(point=vectors)
    def test_equals_an_independent_projection(self, name, point):
        expected = SETS[name][1](point)
        np.testing.assert_allclose(PROJECT[name](point), expected, atol=1e-12)

    @hypothesis.given(point=vectors)
    def test_idempotent(self, name, point):
        once = PROJECT[name](point)
        np.testing.assert_allclose(PROJECT[name](once), once, atol=1e-14)

    @hypothesis.given(one=vectors, other=vectors)
    def test_firmly_non_expansive(self, name, one, other):
        moved = np.asarray(PROJECT[name](one)) - np.asarray(PROJECT[name](other))
        assert moved @ moved <= moved @ (one - other) + 1e-12

    def test_pytrees_are_projected_as_one_vector(self, name):
        domain, independent = SETS[name]
        tree = {"a": jnp.array([3.0, -1.0]), "b": [jnp.array(0.7), jnp.ones((1, 2))]}
        projected = domain.project(tree)
        assert jax.tree.structure(projected) == jax.tree.structure(tree)
        assert jax.tree.map(jnp.shape, projected) == jax.tree.map(jnp.shape, tree)
        flat = np.asarray(ravel_pytree(tree)[0])
        np.testing.assert_allclose(
            ravel_pytree(projected)[0], independent(flat), atol=1e-14
        )

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
    def test_keeps_the_dtype(self, name, dtype):
        domain, independent = SETS[name]
        point = jnp.array([3.0, -1.0, 0.5], dtype)
        projected = domain.project(point)
        assert projected.dtype == dtype
        expected = independent(np.asarray(point, np.float64))
        np.testing.assert_allclose(projected, expected, atol=4 * jnp.finfo(dtype).eps)

    def test_vmap(self, name):
        points = np.random.default_rng(0).normal(size=(5, SIZE))
        together = jax.vmap(SETS[name][0].project)(points)
        expected = np.stack([SETS[name][1](point) for point in points])
        np.testing.assert_allclose(together, expected, atol=1e-12)

    def test_derivative(self, name):
        # At a random point every one of these is smooth.
        point = np.array([0.9, -0.4, 1.3, 0.27])
        h = 1e-6
        columns = [
            (SETS[name][1](point + h * e) - SETS[name][1](point - h * e)) / (2 * h)
            for e in np.eye(SIZE)
        ]
        for mode in (jax.jacfwd, jax.jacrev):
            jacobian = mode(PROJECT[name])(jnp.asarray(point))
            np.testing.assert_allclose(jacobian, np.stack(columns, 1), atol=1e-8)

    @pytest.mark.parametrize(
        ("point", "expected"),
        [
            ([1e20, 0.0, 3.0], [1, 0, 0]),
            ([1e300, 1e300, 0.0], [1 / 2, 1 / 2, 0]),
            ([1e8, 1e8, 1e8 - 0.5], [1 / 2, 1 / 2, 0]),
            ([1e8 - 0.25, 1e8, 1e8 - 0.5], [1 / 3, 7 / 12, 1 / 12]),
            ([7.0, 7.0, 7.0], [1 / 3, 1 / 3, 1 / 3]),
        ],
    )
    def test_large_and_tied_entries(self, point, expected):
        point = jnp.array(point)
        np.testing.assert_allclose(
            geometry.simplex().project(point), expected, atol=1e-15
        )
        np.testing.assert_allclose(
            geometry.l1_ball().project(-point), np.negative(expected), atol=1e-15
        )

    def test_simplex_of_one_entry(self):
        assert geometry.simplex(2.5).project(jnp.array([-7.0])).tolist() == [2.5]

    def test_simplex_and_l1_ball_solve_the_quadratic_programme(self):
        point = np.array([0.8, -0.3, 0.6, 0.1])
        for name, constraint in (
            ("simplex", {"type": "eq", "fun": lambda v: v.sum() - 1}),
            ("l1_ball", {"type": "ineq", "fun": lambda v: 1 - np.abs(v).sum()}),
        ):
            bounds = [(0, None)] * SIZE if name == "simplex" else None
            solved = scipy.optimize.minimize(
                lambda v: np.sum((v - point) ** 2),
                np.full(SIZE, 0.2),
                bounds=bounds,
                constraints=constraint,
                options={"ftol": 1e-14, "maxiter": 500},
            )
            # How far SLSQP goes below 1e-5 differs between machines.
            np.testing.assert_allclose(PROJECT[name](point), solved.x, atol=1e-5)


class TestApply:
    def test_euclidean_adds(self):
        moved = geometry.euclidean.apply({"a": jnp.ones(2)}, {"a": jnp.arange(2.0)})
        assert moved["a"].tolist() == [1.0, 2.0]

    def test_projected_adds_and_projects(self):
        for name, (domain, independent) in SETS.items():
            if domain.kind == "projected":
                point, update = np.array([0.5, 0.5, 0.0]), np.array([0.3, -2.0, 1.0])
                moved = domain.apply(jnp.asarray(point), jnp.asarray(update))
                np.testing.assert_allclose(
                    moved, independent(point + update), atol=1e-14, err_msg=name
                )

    def test_own_projection(self):
        def onto_diagonal(point):
            return jnp.broadcast_to(jnp.mean(point), point.shape)

        domain = geometry.projected(onto_diagonal)
        assert domain.kind == "projected"
        moved = domain.apply(jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0]))
        assert moved.tolist() == [3.0, 3.0]

    def test_kinds(self):
        assert geometry.euclidean.kind == "euclidean"
        assert geometry.entropic.kind == "entropic"
        assert geometry.simplex().kind == "projected"


class TestEntropic:
    @hypothesis.given(point=vectors, update=vectors)
    def test_is_the_softmax_of_the_moved_logits(self, point, update):
        start = np.exp(point - point.max())
        start /= start.sum()
        weights = start * np.exp(update)
        moved = geometry.entropic.apply(jnp.asarray(start), jnp.asarray(update))
        np.testing.assert_allclose(moved, weights / weights.sum(), rtol=1e-11)

    @hypothesis.given(update=vectors, shift=numbers)
    def test_invariant_to_a_constant(self, update, shift):
        start = jnp.array([0.1, 0.2, 0.3, 0.4])
        one = geometry.entropic.apply(start, jnp.asarray(update))
        other = geometry.entropic.apply(start, jnp.asarray(update + shift))
        np.testing.assert_allclose(one, other, rtol=1e-12)

    def test_zero_update_changes_nothing(self):
        start = jnp.array([0.1, 0.2, 0.7])
        np.testing.assert_allclose(
            geometry.entropic.apply(start, jnp.zeros(3)), start, rtol=1e-15
        )

    @pytest.mark.parametrize("size", [1e3, 1e30, 1e300])
    def test_extreme_updates_stay_on_the_simplex(self, size):
        start = jnp.array([0.25, 0.25, 0.5])
        for signs in itertools.product((-1, 0, 1), repeat=3):
            update = size * jnp.array(signs, float)
            moved = np.asarray(geometry.entropic.apply(start, update))
            assert np.all(np.isfinite(moved))
            assert np.all(moved >= 0)
            np.testing.assert_allclose(moved.sum(), 1, rtol=1e-12)

    def test_a_zero_stays_zero(self):
        moved = geometry.entropic.apply(jnp.array([0.0, 0.5, 0.5]), jnp.arange(3.0))
        assert float(moved[0]) == 0
        np.testing.assert_allclose(moved[2] / moved[1], np.e, rtol=1e-12)

    def test_all_leaves_share_one_simplex(self):
        start = {"a": jnp.array(0.2), "b": jnp.array([[0.3, 0.5]])}
        update = {"a": jnp.array(1.0), "b": jnp.array([[-1.0, 0.0]])}
        weights = np.array([0.2, 0.3, 0.5]) * np.exp([1.0, -1.0, 0.0])
        moved = geometry.entropic.apply(start, update)
        np.testing.assert_allclose(
            ravel_pytree(moved)[0], weights / weights.sum(), rtol=1e-13
        )


class TestNaturalResidual:
    # Rock, paper, scissors, slightly loaded: a unique mixed equilibrium by algebra.
    A = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])

    @classmethod
    def setup_class(cls):
        system = np.block(
            [[cls.A, -np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]]
        )
        right = np.array([0.0, 0.0, 0.0, 1.0])
        cls.y = np.linalg.solve(system, right)[:3]
        system = np.block(
            [[cls.A.T, -np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]]
        )
        cls.x = np.linalg.solve(system, right)[:3]
        assert np.all(cls.x > 0)
        assert np.all(cls.y > 0)

    def field(self, x, y):
        return jnp.asarray(self.A @ y), jnp.asarray(-self.A.T @ x)

    @pytest.mark.parametrize("domain", [geometry.simplex(), geometry.entropic])
    def test_zero_at_the_mixed_equilibrium(self, domain):
        params = jnp.asarray(self.x), jnp.asarray(self.y)
        direction = self.field(self.x, self.y)
        # Not because the field vanished: the value of the game is not zero.
        assert float(natural_residual(params, direction, geometry.euclidean)) > 0.1
        assert float(natural_residual(params, direction, domain)) < 1e-15

    def test_positive_elsewhere_and_equal_to_its_definition(self):
        x, y = np.array([0.5, 0.2, 0.3]), np.array([0.1, 0.1, 0.8])
        direction = self.field(x, y)
        residual = natural_residual(
            (jnp.asarray(x), jnp.asarray(y)), direction, geometry.simplex()
        )
        parts = [
            z - simplex_by_bisection(z - np.asarray(slope))
            for z, slope in zip((x, y), direction, strict=True)
        ]
        np.testing.assert_allclose(residual, np.linalg.norm(parts), rtol=1e-12)
        assert residual > 0.1

    def test_exactly_zero_at_a_corner(self):
        # A dominant row and column: a pure equilibrium, with a strict gap.
        params = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
        direction = jnp.array([1.0, 3.0]), jnp.array([-0.5, -2.0])
        assert float(natural_residual(params, direction, geometry.simplex())) == 0
        assert float(natural_residual(params, direction, geometry.euclidean)) > 1

    def test_without_constraints_it_is_the_norm_of_the_field(self):
        # Exactly, also where z - (z - F) would have lost all digits.
        params = jnp.array([1e20]), {"a": jnp.array(1e20)}
        direction = jnp.array([3e-8]), {"a": jnp.array(4e-8)}
        residual = natural_residual(params, direction, geometry.euclidean)
        np.testing.assert_allclose(residual, 5e-8, rtol=1e-15)

    def test_one_geometry_each(self):
        params = jnp.array([0.5, 0.5]), jnp.array([0.0])
        direction = jnp.array([1.0, 1.0]), jnp.array([2.0])
        domains = geometry.simplex(), geometry.euclidean
        assert float(natural_residual(params, direction, domains)) == 2.0

    def test_keeps_float32(self):
        params = jnp.ones(2, jnp.float32), jnp.ones(2, jnp.float32)
        assert natural_residual(params, params, geometry.simplex()).dtype == jnp.float32


class TestPerPlayer:
    def test_one_for_all(self):
        assert per_player("a", 3, "thing") == ("a", "a", "a")
        assert per_player(("a",), 2, "thing") == ("a", "a")

    def test_one_each(self):
        assert per_player(("a", "b"), 2, "thing") == ("a", "b")

    def test_a_named_tuple_is_one_thing(self):
        box = geometry.box(0.0, 1.0)
        assert isinstance(box, Geometry)
        assert per_player(box, 2, "geometry") == (box, box)

    @pytest.mark.parametrize("count", [0, 3])
    def test_wrong_number(self, count):
        with pytest.raises(
            ValueError, match=f"geometry for all.*2 players, got {count}"
        ):
            per_player((geometry.euclidean,) * count, 2, "geometry")

    @pytest.mark.parametrize("wrong", ["simplex", geometry.simplex, None])
    def test_a_geometry_is_one(self, wrong):
        for given in (wrong, (geometry.euclidean, wrong)):
            with pytest.raises(TypeError, match="expected a Geometry, as .*got"):
                per_player(given, 2, "geometry")
        game, start = gd.zero_sum(lambda x, y: x * y), (jnp.ones(()), jnp.ones(()))
        with pytest.raises(TypeError, match="expected a Geometry"):
            gd.analysis.certify(game, start, geometry=wrong)

    def test_a_projection_for_the_wrong_number_of_players(self):
        game = gd.zero_sum(lambda x, y: x * y)
        start = jnp.ones(()), jnp.ones(())
        three = (geometry.non_negative(),) * 3
        rule = gd.simultaneous(optax.sgd(0.1), geometry=three)
        with pytest.raises(ValueError, match="geometry.*2 players, got 3"):
            gd.solve(game, rule, start, 1)
        rule = gd.simultaneous(optax.sgd(0.1))
        with pytest.raises(ValueError, match="geometry.*2 players, got 3"):
            gd.solve_until(
                game, rule, start, tolerance=0.1, max_steps=1, geometry=three
            )


class TestBuilders:
    @pytest.mark.parametrize(
        "build",
        [
            geometry.simplex,
            geometry.non_negative,
            geometry.l1_ball,
            geometry.l2_ball,
            lambda: geometry.box(0.0, 1.0),
            lambda: geometry.projected(optax.projections.projection_l2_ball),
        ],
    )
    def test_equal_arguments_give_the_identical_geometry(self, build):
        assert build() is build()

    def test_other_arguments_give_another(self):
        assert geometry.simplex(2.0) is not geometry.simplex(3.0)

    def test_no_retrace_for_a_rule_built_twice(self):
        traces = []

        def run(domain, z):
            traces.append(None)
            return domain.apply(z, z)

        jitted = jax.jit(run, static_argnums=0)
        for _ in range(2):
            jitted(geometry.l2_ball(2.0), jnp.ones(2))
        assert len(traces) == 1

    @pytest.mark.parametrize("projection", [3.0, None, [1, 2], np.ones(2)])
    def test_projection_is_not_a_function(self, projection):
        with pytest.raises(TypeError, match="a projection must be a function"):
            geometry.projected(projection)

    @pytest.mark.parametrize(
        "build",
        [
            lambda: geometry.box(1.0, 0.0),
            lambda: geometry.box(float("nan"), 0.0),
            lambda: geometry.simplex(0.0),
            lambda: geometry.simplex(float("nan")),
            lambda: geometry.l1_ball(-1.0),
            lambda: geometry.l2_ball(0.0),
        ],
    )
    def test_empty_or_meaningless_sets(self, build):
        with pytest.raises(ValueError, match="got"):
            build()
