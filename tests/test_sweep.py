"""Sweeps: equal to a loop, in bounded memory, over all devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd

START = jnp.array(1.0), jnp.array(1.0)
XY = gd.zero_sum(lambda x, y: x * y)


def final(step_size):
    rule = gd.extragradient(optax.sgd(step_size))
    return gd.solve(XY, rule, START, 60).params


def closed_form(step_size):
    """Of two extragradient steps' worth: z = x + iy turns by 1 - a^2 + ia each step."""
    z = (1 + 1j) * (1 - step_size**2 + 1j * step_size) ** 60
    return np.stack([z.real, z.imag], axis=1)


STEP_SIZES = np.linspace(0.05, 0.8, 11)
OPTIONS = [
    {},
    *({"chunk": chunk} for chunk in (1, 4, 11)),
    *({"chunk": chunk, "devices": "all"} for chunk in (None, 1, 4, 100)),
]


class TestEqualsALoop:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_closed_form(self, options):
        run = jax.jit(lambda points: gd.sweep(final, points, **options))
        x, y = run(jnp.asarray(STEP_SIZES))
        expected = closed_form(STEP_SIZES)
        np.testing.assert_allclose(np.stack([x, y], 1), expected, rtol=1e-9, atol=1e-14)

    @pytest.mark.parametrize("num_points", [1, 2, 3, 8])
    def test_numbers_of_points_that_devices_do_not_divide(self, num_points):
        points = jnp.arange(1.0, num_points + 1)
        for chunk in (None, 1, 2):
            squares = gd.sweep(lambda x: x**2, points, chunk=chunk, devices="all")
            assert squares.tolist() == [float(i * i) for i in range(1, num_points + 1)]

    def test_numpy_points(self):
        assert gd.sweep(lambda x: 2 * x, np.arange(3.0)).tolist() == [0.0, 2.0, 4.0]


class TestPoints:
    @pytest.mark.parametrize("options", OPTIONS[:3] + OPTIONS[-3:], ids=str)
    def test_nested_pytrees_in_and_out(self, options):
        points = {
            "a": jnp.arange(5.0),
            "b": (jnp.arange(10.0).reshape(5, 2), [jnp.arange(5)]),
        }

        def run(point):
            assert point["a"].shape == ()
            assert point["b"][0].shape == (2,)
            return {"sum": point["a"] + point["b"][0].sum(), "count": point["b"][1]}

        result = jax.jit(lambda points: gd.sweep(run, points, **options))(points)
        assert result["sum"].tolist() == [1.0 + 5 * i for i in range(5)]
        assert result["count"][0].tolist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("options", [{"chunk": 2}, {"devices": "all"}], ids=str)
    def test_keys(self, options):
        keys = jax.random.split(jax.random.key(0), 5)
        field = gd.fields.noisy(gd.fields.gradient(XY), 0.1)
        rule = gd.simultaneous(optax.sgd(0.1))

        def run(key):
            return gd.solve(field, rule, START, 10, key=key).params

        together = jax.jit(lambda keys: gd.sweep(run, keys, **options))(keys)
        alone = jax.jit(run)
        for i, key in enumerate(keys):
            np.testing.assert_allclose(together[0][i], alone(key)[0], rtol=1e-12)

    @pytest.mark.parametrize("options", [{"chunk": 2}, {"devices": "all"}], ids=str)
    def test_games(self, options):
        matrices = np.random.default_rng(0).normal(size=(3, 2, 2))
        games = gd.zero_sum(Partial(_bilinear, jnp.asarray(matrices)))
        start = jnp.ones(2), jnp.ones(2)

        def run(game):
            return gd.solve(game, gd.simultaneous(optax.sgd(0.1)), start, 1).params

        x, y = gd.sweep(run, games, **options)
        np.testing.assert_allclose(x, 1 - 0.1 * matrices.sum(axis=2), rtol=1e-13)
        np.testing.assert_allclose(y, 1 + 0.1 * matrices.sum(axis=1), rtol=1e-13)

    def test_problems(self):
        matrices = np.random.default_rng(0).normal(size=(3, 2, 2))
        problems = [gd.games.make("bilinear", matrix=matrix) for matrix in matrices]
        stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
        start = jnp.ones(2), jnp.ones(2)
        losses = gd.sweep(lambda problem: problem.game(start)[0], stack)
        expected = [problem.game(start)[0] for problem in problems]
        np.testing.assert_allclose(losses, expected, rtol=1e-13)

    def test_solve_until_one_after_the_other(self):
        def run(step_size):
            rule = gd.extragradient(optax.sgd(step_size))
            return gd.solve_until(XY, rule, START, tolerance=1e-3, max_steps=5000)

        step_sizes = np.array([0.1, 0.3, 0.5])
        solution = jax.jit(lambda points: gd.sweep(run, points, chunk=1))(step_sizes)
        factor = np.sqrt(1 - step_sizes**2 + step_sizes**4)
        expected = np.ceil(np.log(1e-3 / np.sqrt(2)) / np.log(factor))
        assert solution.num_steps.tolist() == expected.tolist()
        assert set(solution.status.tolist()) == {int(gd.Status.CONVERGED)}


def _bilinear(matrix, x, y):
    return x @ matrix @ y


class TestDevices:
    def test_points_really_are_spread(self):
        assert len(jax.devices()) == 2
        points = jnp.linspace(0.1, 0.5, 8)
        result = jax.jit(lambda points: gd.sweep(final, points, devices="all"))(points)
        shards = result[0].addressable_shards
        assert {shard.device for shard in shards} == set(jax.devices())
        assert [shard.data.shape for shard in shards] == [(4,), (4,)]

    def test_the_compiled_program_has_two_partitions(self):
        def text(devices):
            run = jax.jit(lambda points: gd.sweep(final, points, devices=devices))
            return run.lower(jnp.ones(8)).compile().as_text()

        assert "num_partitions=2" in text("all")
        assert "num_partitions=2" not in text(None)
        # Every device works on its half, nothing is exchanged.
        assert "all-gather" not in text("all")
        assert "all-reduce" not in text("all")

    def test_chosen_devices(self):
        second = jax.devices()[1]
        result = gd.sweep(lambda x: 2 * x, jnp.arange(3.0), devices=[second])
        assert result.tolist() == [0.0, 2.0, 4.0]
        assert {shard.device for shard in result.addressable_shards} == {second}

    def test_numbers_do_not_depend_on_them(self):
        points = jnp.asarray(STEP_SIZES)
        one, two = (
            jax.jit(lambda p, d=d: gd.sweep(final, p, devices=d))(points)
            for d in (None, "all")
        )
        np.testing.assert_allclose(one[0], two[0], rtol=1e-12, atol=1e-15)


class TestMemory:
    NUM_POINTS, NUM_STEPS = 20_000, 1000
    BUDGET = 64 * 2**20  # bytes; all trajectories together are 320 MB

    @classmethod
    def temporary_bytes(cls, **options):
        def length(step_size):
            rule = gd.extragradient(optax.sgd(step_size))
            trace = gd.solve(
                XY,
                rule,
                START,
                cls.NUM_STEPS,
                record=lambda params, rule_state, batches, step: params,
            ).trace
            # Needs the whole trajectory, and its end first.
            x, y = trace[0] - trace[0][-1], trace[1] - trace[1][-1]
            return jnp.sum(jnp.sort(jnp.hypot(x, y))[::7])

        run = jax.jit(lambda points: gd.sweep(length, points, **options))
        compiled = run.lower(jnp.ones(cls.NUM_POINTS)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def test_chunks_bound_it(self):
        everything = self.temporary_bytes()
        assert everything > 4 * self.BUDGET
        for chunk in (1, 256):
            assert self.temporary_bytes(chunk=chunk) < self.BUDGET
        assert self.temporary_bytes(chunk=256, devices="all") < self.BUDGET

    def test_it_grows_with_the_chunk(self):
        small, large = (self.temporary_bytes(chunk=chunk) for chunk in (100, 1000))
        assert 5 * small < large < 15 * small


class TestErrors:
    @pytest.mark.parametrize(
        "points",
        [
            {"a": jnp.arange(3.0), "b": jnp.arange(4.0)},
            jnp.array(1.0),
            jnp.zeros((0, 2)),
            {},
            None,
        ],
    )
    def test_points(self, points):
        with pytest.raises(ValueError, match="share one leading axis"):
            gd.sweep(lambda point: point, points)

    @pytest.mark.parametrize("chunk", [0, -1, 2.0, True])
    def test_chunk(self, chunk):
        with pytest.raises(ValueError, match="chunk must be a positive integer"):
            gd.sweep(lambda point: point, jnp.ones(3), chunk=chunk)

    @pytest.mark.parametrize("devices", [[], (), "cpu", ""])
    def test_devices(self, devices):
        with pytest.raises(ValueError, match="devices must be 'all' or"):
            gd.sweep(lambda point: point, jnp.ones(3), devices=devices)
