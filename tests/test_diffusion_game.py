"""The game of a diffusion model: losses by hand, gradients, draws, training."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn import diffusion
from gamedyn.diffusion import exact, importance, likelihood, process, schedules

CHAIN = schedules.linear(1000)
SHORT = schedules.linear(50)
CHAINS = {
    "linear": CHAIN,
    "short": SHORT,
    "respaced": schedules.respace(CHAIN, 50),
    "terminal": schedules.zero_terminal_snr(CHAIN),
}
SIZE = 6
TIMES = np.array([0, 3, 250, 600, 998, 999])


def net(theta, x, t):
    """Something nonlinear in everything."""
    t = t[:, None] / 1000
    return jnp.tanh(x @ theta["a"] + t * theta["b"][None]) + theta["c"][None] * x


def twice(theta, x, t):
    return jnp.concatenate([net(theta, x, t), jnp.tanh(theta["d"][None] * x)], axis=-1)


def start(dtype=jnp.float64):
    rng = np.random.default_rng(1)
    numbers = {"a": (2, 2), "b": (2,), "c": (2,), "d": (2,)}
    return {k: jnp.asarray(rng.normal(size=v), dtype) for k, v in numbers.items()}


def batch(dtype=jnp.float64, **fields):
    rng = np.random.default_rng(2)
    x, noise = rng.uniform(-1, 1, (SIZE, 2)), rng.normal(size=(SIZE, 2))
    fields = {"times": TIMES, "noise": jnp.asarray(noise, dtype), **fields}
    return diffusion.Batch(jnp.asarray(x, dtype), jax.random.key(5), **fields)


@functools.cache
def evaluation(function=net, chain="linear", **options):
    game = diffusion.game(function, CHAINS[chain], **options)
    return jax.jit(lambda theta, batch: game.losses.func.evaluate((theta,), batch))


class TestSimpleLosses:
    @pytest.mark.parametrize(
        ("weighting", "dtype"),
        [
            ("plain", jnp.float32),
            ("plain", jnp.float64),
            ("noise", jnp.float64),
            ("min_snr", jnp.float64),
        ],
    )
    @pytest.mark.parametrize("prediction", process.PREDICTIONS)
    def test_by_hand(self, prediction, weighting, dtype):
        theta, data = start(dtype), batch(dtype)
        options = {"prediction": prediction, "weighting": weighting}
        found = evaluation(**options)(theta, data)
        share = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[TIMES][:, None]
        a, s, snr = np.sqrt(share), np.sqrt(1 - share), share / (1 - share)
        x0, noise = (np.asarray(v, np.float64) for v in (data.x, data.noise))
        x = jnp.asarray(a * x0 + s * noise, dtype)
        said = np.asarray(net(theta, x, jnp.asarray(TIMES, dtype)), np.float64)
        target = {"eps": noise, "x0": x0, "v": a * noise - s * x0, "score": -noise / s}
        least = np.minimum(snr, 5)
        weights = {
            "plain": dict.fromkeys(process.PREDICTIONS, 1.0),
            "noise": {"eps": 1.0, "x0": snr, "v": snr / (snr + 1), "score": s**2},
            "min_snr": {
                "eps": least / snr,
                "x0": least,
                "v": least / (snr + 1),
                "score": least * s**2 / snr,
            },
        }[weighting][prediction]
        expected = np.mean(weights * (said - target[prediction]) ** 2, axis=1)
        assert found.losses.dtype == dtype
        rtol = 2e-4 if dtype == jnp.float32 else 1e-9
        np.testing.assert_allclose(found.losses, expected, rtol=rtol)
        if weighting == "plain":
            np.testing.assert_array_equal(found.losses, found.errors)

    @pytest.mark.parametrize("prediction", ["x0", "v", "score"])
    def test_noise_weighting_compares_noise(self, prediction):
        """One network, read as different predictions, has one loss."""
        theta, data = start(), batch()
        index = jnp.asarray(TIMES)
        a, s = jnp.asarray(CHAIN.signal)[index], jnp.asarray(CHAIN.noise)[index]

        def converted(theta, x, t):
            eps = net(theta, x, t)
            return process.convert(eps, x, a, s, "eps", prediction)

        expected = evaluation()(theta, data).losses
        game = diffusion.game(
            converted, CHAIN, prediction=prediction, weighting="noise"
        )
        got = jax.jit(game.losses.func.evaluate)((theta,), data).losses
        np.testing.assert_allclose(got, expected, rtol=1e-7)

    def test_the_exact_network_reaches_the_floor(self):
        """Also: the mean of the loss is over uniform steps and all dimensions."""
        law = exact.mixture([[1.0]], 0.5)
        model = exact.model(law, CHAIN)
        game = diffusion.game(lambda theta, x, t: model(x, t) + theta, CHAIN)
        x = exact.draw(law, jax.random.key(0), 20_000, jnp.float64)
        data = diffusion.Batch(x, jax.random.key(1))
        losses = jax.jit(lambda theta: game((theta,), data)[0])
        floor = exact.noise_floor(CHAIN, 0.5).mean()
        assert floor == pytest.approx(0.173053, abs=1e-6)
        assert float(losses(jnp.zeros(()))) == pytest.approx(floor, abs=0.01)
        assert float(losses(jnp.ones(()))) == pytest.approx(floor + 1, abs=0.02)

    def test_network_is_fed_the_original_times(self):
        kept = schedules.respace(CHAIN, 10)
        seen = {}

        def asked(theta, x, t):
            seen["t"] = t
            return x

        game = diffusion.game(asked, kept)
        game((start(),), batch(times=np.array([0, 1, 2, 9, 9, 9])))
        np.testing.assert_allclose(seen["t"], [99, 199, 299, 999, 999, 999])

    def test_zero_terminal_snr(self):
        for weighting in ("plain", "noise", "min_snr"):
            options = {"prediction": "v", "weighting": weighting}
            found = evaluation(chain="terminal", **options)(start(), batch())
            assert bool(jnp.all(jnp.isfinite(found.losses)))
        for prediction in ("eps", "score"):
            with pytest.raises(ValueError, match="predict v or x0"):
                diffusion.game(net, CHAINS["terminal"], prediction=prediction)


class TestBound:
    OPTIONS = {"decoder": "gaussian"}

    def gradients(self, **options):
        game = diffusion.game(twice, CHAIN, **options)
        return jax.jit(jax.grad(lambda theta: game((theta,), batch())[0]))(start())

    def test_hybrid_trains_the_mean_by_the_error_alone(self):
        """Traps: a mean that is not detached, a term not scaled by T / 1000."""
        simple = self.gradients(learned_variance=True)
        hybrid = self.gradients(objective="hybrid", **self.OPTIONS)
        bound = self.gradients(objective="bound", **self.OPTIONS)
        for name in "abc":
            np.testing.assert_allclose(hybrid[name], simple[name], rtol=1e-9)
            assert float(jnp.abs(bound[name]).max()) > 0
        assert float(jnp.abs(simple["d"]).max()) == 0
        # T = 1000: hybrid has 1 times the term, the bound 1000 times.
        np.testing.assert_allclose(1000 * hybrid["d"], bound["d"], rtol=1e-9)

    def test_scale_with_other_lengths(self):
        data = batch(times=np.array([0, 3, 10, 20, 48, 49]))
        parts = {
            objective: evaluation(
                twice, "respaced", objective=objective, **self.OPTIONS
            )(start(), data)
            for objective in ("hybrid", "bound")
        }
        one, two = parts["hybrid"], parts["bound"]
        np.testing.assert_allclose(one.losses, one.errors + 0.05 * one.terms)
        np.testing.assert_allclose(two.losses, 50 * two.terms)
        np.testing.assert_allclose(one.terms, two.terms)

    def test_terms_are_the_bounds(self):
        """Averaged over all steps, T times the term is the bound in bits."""
        number = len(SHORT.times)
        x = jnp.full((number, 2), 0.4)
        noise = jax.random.normal(jax.random.key(0), x.shape)
        data = diffusion.Batch(
            x, jax.random.key(0), times=np.arange(number), noise=noise
        )
        found = evaluation(twice, "short", objective="bound", **self.OPTIONS)(
            start(), data
        )
        t = jnp.arange(number)
        noisy = process.q_sample(SHORT, x, t, noise)
        output = twice(start(), noisy, t.astype(float))
        nats = likelihood.bound_term(
            SHORT, x, noisy, t, output, variance="learned", decoder="gaussian"
        )
        bits = float(jnp.sum(nats)) / 2 / math.log(2)
        assert float(jnp.mean(found.losses)) == pytest.approx(bits, rel=1e-10)

    def test_stop_gradient_only_where_the_definition_has_it(self):
        for options, expected in (
            ({}, False),
            ({"objective": "bound", "decoder": "gaussian"}, False),
            ({"objective": "hybrid", "decoder": "gaussian"}, True),
        ):
            function = twice if options else net
            game = diffusion.game(function, CHAIN, **options)
            text = str(jax.make_jaxpr(game)((start(),), batch()))
            assert ("stop_gradient" in text) == expected


class TestImportance:
    def test_history(self):
        seen = importance.history(3, 2)
        uniform = np.full(3, 1 / 3)
        np.testing.assert_allclose(importance.probabilities(seen), uniform)
        seen = importance.update(seen, [0, 1, 2, 0], [9.0, 2.0, 3.0, 1.0])
        np.testing.assert_allclose(importance.probabilities(seen), uniform)
        seen = importance.update(seen, [[0, 1], [2, 2]], [[1.0, 2.0], [4.0, np.nan]])
        assert seen.counts.tolist() == [2, 2, 2]
        assert seen.terms.tolist() == [[1, 1], [2, 2], [3, 4]]
        sizes = np.sqrt([1, 4, 12.5])
        expected = 0.99 * sizes / sizes.sum() + 0.01 / 3
        got = importance.probabilities(seen, uniform=0.01)
        np.testing.assert_allclose(got, expected)
        assert got.sum() == pytest.approx(1)
        silent = importance.update(importance.history(2, 1), [0, 1], [0.0, 0.0])
        np.testing.assert_allclose(importance.probabilities(silent), 0.5)
        with pytest.raises(ValueError, match="a term for each step"):
            importance.update(seen, [0], [1.0, 2.0])

    def test_the_mean_stays_what_it_was(self):
        number = len(SHORT.times)
        x = jnp.full((number, 2), 0.4)
        noise = jax.random.normal(jax.random.key(0), x.shape)
        data = diffusion.Batch(x, jax.random.key(0), None, np.arange(number), noise)
        law = np.linspace(1, 3, number)
        law = law / law.sum()
        evaluate = evaluation(chain="short")
        plain = evaluate(start(), data).losses
        drawn = evaluate(start(), data._replace(probabilities=law)).losses
        np.testing.assert_allclose(law @ drawn, plain.mean(), rtol=1e-10)

    def test_draws_follow_the_probabilities(self):
        law = np.zeros(50)
        law[[3, 40]] = 0.25, 0.75
        data = diffusion.Batch(
            jnp.zeros((4000, 2)), jax.random.key(1), probabilities=law
        )
        found = evaluation(chain="short")(start(), data)
        times, counts = np.unique(found.times, return_counts=True)
        assert times.tolist() == [3, 40]
        assert counts[0] / 4000 == pytest.approx(0.25, abs=0.03)
        with pytest.raises(ValueError, match="each of 50 steps"):
            evaluation(chain="short")(start(), data._replace(probabilities=law[1:]))


class TestConditions:
    def test_dropped_as_often_as_asked(self):
        seen = {}

        def asked(theta, x, t, condition):
            seen.update(condition)
            return x

        game = diffusion.game(
            asked,
            SHORT,
            condition_dropout=0.2,
            null={"label": 10, "vector": jnp.full(3, -1.0)},
        )
        condition = {"label": jnp.full(5000, 3), "vector": jnp.ones((5000, 3))}
        data = diffusion.Batch(jnp.zeros((5000, 2)), jax.random.key(0), condition)
        game((start(),), data)
        dropped = np.asarray(seen["label"]) == 10
        assert dropped.mean() == pytest.approx(0.2, abs=0.03)
        assert set(np.unique(seen["label"])) == {3, 10}
        # All parts of a condition are dropped together.
        np.testing.assert_array_equal(
            seen["vector"], np.where(dropped[:, None], -1.0, np.ones((5000, 3)))
        )

    def test_refusals(self):
        with pytest.raises(ValueError, match="needs the null condition"):
            diffusion.game(net, SHORT, condition_dropout=0.1)
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
            diffusion.game(net, SHORT, condition_dropout=1.0, null=0)
        game = diffusion.game(lambda *a: a[1], SHORT, condition_dropout=0.1, null=0)
        with pytest.raises(ValueError, match="has no condition"):
            game((start(),), batch(times=None))
        with pytest.raises(ValueError, match="a condition for each of 6"):
            game((start(),), batch(times=None, condition=jnp.zeros(5)))


class TestPreconditioned:
    def test_the_networks_own_output_has_weight_one(self):
        theta, sigma = start(), jnp.array([0.01, 0.1, 0.5, 1.0, 10.0, 80.0])
        data = batch(times=sigma)
        game = diffusion.edm_game(net, data_deviation=0.5)
        found = game.losses.func.evaluate((theta,), data)
        s = np.asarray(sigma)[:, None]
        root = np.sqrt(s**2 + 0.25)
        x0, noise = np.asarray(data.x), np.asarray(data.noise)
        x = x0 + s * noise
        said = net(theta, jnp.asarray(x / root), jnp.log(sigma) / 4)
        target = (x0 - 0.25 / root**2 * x) / (0.5 * s / root)
        expected = np.mean((np.asarray(said) - target) ** 2, axis=1)
        np.testing.assert_allclose(found.losses, expected, rtol=1e-9)
        denoise = diffusion.preconditioned(lambda x, t: net(theta, x, t))
        error = np.mean((denoise(jnp.asarray(x), sigma) - x0) ** 2, axis=1)
        np.testing.assert_allclose(found.errors, error, rtol=1e-9)

    def test_log_normal_levels(self):
        game = diffusion.edm_game(lambda theta, x, t: x)
        data = diffusion.Batch(jnp.zeros((4000, 1), jnp.float32), jax.random.key(0))
        found = jax.jit(lambda: game.losses.func.evaluate((start(),), data))()
        logs = np.log(found.times)
        assert found.losses.dtype == jnp.float32
        assert logs.mean() == pytest.approx(-1.2, abs=0.08)
        assert logs.std() == pytest.approx(1.2, abs=0.06)
        with pytest.raises(ValueError, match="log-normal here"):
            game((start(),), data._replace(probabilities=np.ones(2) / 2))
        with pytest.raises(ValueError, match="data_deviation must be positive"):
            diffusion.edm_game(net, data_deviation=0.0)


class TestTraining:
    """Any rule trains it: the best linear network of a Gaussian is known."""

    @pytest.mark.parametrize(
        "build",
        [gd.simultaneous, gd.extragradient],
        ids=["simultaneous", "extragradient"],
    )
    def test_reaches_the_floor(self, build):
        """Features s x and s, over the variance of x: eps* is linear in them."""
        chain = schedules.cosine(20)
        a, s = jnp.asarray(chain.signal), jnp.asarray(chain.noise)

        def linear(theta, x, t):
            index = t.astype(int)
            a_t, s_t = a[index][:, None], s[index][:, None]
            return s_t * (x * theta[0] - a_t * theta[1]) / (a_t**2 / 4 + s_t**2)

        game = diffusion.game(linear, chain)

        def sample(key):
            one, two = jax.random.split(key)
            x = 1 + 0.5 * jax.random.normal(one, (256, 1))
            return diffusion.Batch(x, two)

        record = diffusion.monitor(game, num_bins=4)
        solution = jax.jit(
            lambda theta: gd.solve(
                game,
                build(optax.sgd(0.1)),
                (theta,),
                400,
                key=jax.random.key(0),
                sample=sample,
                record=record,
            )
        )(jnp.zeros(2))
        np.testing.assert_allclose(solution.params[0], [1, 1], atol=0.06)
        floor = exact.noise_floor(chain, 0.5)
        errors = solution.trace["error"][200:]
        assert float(errors.mean()) == pytest.approx(floor.mean(), abs=0.02)
        for i in range(4):
            got = np.nanmean(solution.trace[f"error_bin_{i}"][200:])
            assert got == pytest.approx(floor[5 * i : 5 * i + 5].mean(), abs=0.04)

    def test_monitor_gives_what_importance_needs(self):
        game = diffusion.game(twice, SHORT, objective="bound", decoder="gaussian")
        record = diffusion.monitor(game)
        row = record((start(),), None, (batch(times=None),), 0)
        assert row["times"].shape == row["terms"].shape == (SIZE,)
        seen = importance.update(importance.history(50), row["times"], row["terms"])
        assert seen.counts.sum() == SIZE
        assert float(row["loss"]) == pytest.approx(
            float(game((start(),), batch(times=None))[0])
        )
        with pytest.raises(TypeError, match="made by gamedyn.diffusion.game"):
            diffusion.monitor(gd.single_player(lambda x: x**2))

    def test_importance_in_rounds(self):
        """From recorded losses to the next round's batches: the loss scatters less."""
        law = exact.mixture([[1.0]], 0.5)
        model = exact.model(law, SHORT)

        def wide(theta, x, t):
            return jnp.concatenate([model(x, t), theta * jnp.ones_like(x)], axis=-1)

        game = diffusion.game(wide, SHORT, objective="bound", decoder="gaussian")

        @jax.jit
        def train(theta, key, probabilities):
            def sample(key):
                one, two = jax.random.split(key)
                x = exact.draw(law, one, 256, jnp.float64)
                return diffusion.Batch(x, two, probabilities=probabilities)

            rule = gd.simultaneous(optax.sgd(0.01))
            record = diffusion.monitor(game)
            return gd.solve(
                game, rule, (theta,), 10, key=key, sample=sample, record=record
            )

        seen, theta = importance.history(50), jnp.zeros(())
        scatter, means = [], []
        for number in range(3):
            probabilities = importance.probabilities(seen)
            solution = train(theta, jax.random.key(number), probabilities)
            rows, (theta,) = solution.trace, solution.params
            seen = importance.update(seen, rows["times"], rows["terms"])
            losses = rows["terms"] / probabilities[rows["times"]]
            scatter.append(float(losses.std()))
            means.append(float(losses.mean()))
        assert train._cache_size() == 1
        assert np.ptp(importance.probabilities(seen)) > 0.02
        assert max(scatter[1:]) < 0.5 * scatter[0]
        error = 4 * scatter[0] / math.sqrt(2560)
        assert abs(means[1] - means[0]) < error + 0.1 * abs(means[0])

    def test_monitor_for_fit(self):
        """Without terms every entry is a scalar."""
        game = diffusion.game(twice, SHORT, objective="bound", decoder="gaussian")

        def build(key):
            return batch(times=None, noise=None)._replace(key=key)

        with jax.numpy_dtype_promotion("standard"):
            state = gd.train.fit(
                game,
                gd.simultaneous(optax.sgd(1e-3)),
                (start(),),
                build,
                num_steps=2,
                key=jax.random.key(0),
                record=diffusion.monitor(game, num_bins=2, terms=False),
                log_every=1,
            )
        assert {"loss", "error", "error_bin_0", "error_bin_1"} <= set(state.history[0])

    def test_one_trace_for_many_batches(self):
        traces = []

        def counted(theta, x, t):
            traces.append(1)
            return net(theta, x, t)

        game = diffusion.game(counted, CHAIN)
        run = jax.jit(lambda game, theta, batch: game((theta,), batch)[0])
        for seed in range(3):
            data = batch(times=None, noise=None)._replace(key=jax.random.key(seed))
            run(game, start(), data)
        assert len(traces) == 1
        with jax.debug_key_reuse(True):
            evaluation()(start(), data)


def test_refusals():
    with pytest.raises(ValueError, match="did you mean 'eps'"):
        diffusion.game(net, CHAIN, prediction="epss")
    with pytest.raises(ValueError, match="did you mean 'min_snr'"):
        diffusion.game(net, CHAIN, weighting="minsnr")
    with pytest.raises(ValueError, match="did you mean 'hybrid'"):
        diffusion.game(net, CHAIN, objective="hybird")
    with pytest.raises(ValueError, match="gamma must be positive"):
        diffusion.game(net, CHAIN, gamma=0.0)
    with pytest.raises(ValueError, match="learned_variance=True"):
        diffusion.game(net, CHAIN, objective="hybrid", learned_variance=False)
    with pytest.raises(TypeError, match="a Net or a function"):
        diffusion.game(3, CHAIN)
    with pytest.raises(TypeError, match="expected a schedule .* got str"):
        diffusion.game(net, "cosine")
    game = diffusion.game(net, CHAIN)
    with pytest.raises(TypeError, match="gamedyn.diffusion.Batch"):
        game((start(),), (1, 2))
    with pytest.raises(ValueError, match="floating-point data"):
        game((start(),), batch()._replace(x=jnp.zeros((6, 2), jnp.int32)))
    with pytest.raises(ValueError, match="twice its channels"):
        diffusion.game(twice, CHAIN)((start(),), batch())
    with pytest.raises(ValueError, match="must lie in 0 ... 999"):
        game((start(),), batch(times=np.full(6, 1000)))
    bound = diffusion.game(twice, CHAIN, objective="bound")
    with pytest.raises(ValueError, match="pictures in"):
        bound((start(),), batch()._replace(x=jnp.full((6, 2), 2.0)))
