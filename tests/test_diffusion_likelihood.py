"""Likelihoods: the variational bound and the flow, against closed forms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gamedyn.diffusion import exact, likelihood, process, sampling, schedules

LINEAR = schedules.linear(1000)
GAUSSIAN = exact.mixture([[1.0]], 0.5)


def ring():
    angles = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return exact.mixture(centres, 0.2, np.arange(1, 9))


RING = ring()


class TestMixtures:
    LAW = exact.mixture(
        [[0.0, 1.0], [2.0, -1.0]],
        [[[1.0, 0.8], [0.8, 1.0]], [[0.3, -0.1], [-0.1, 0.2]]],
        [1.0, 3.0],
    )

    def noised(self, x, a, s):
        parts = [
            weight
            * scipy.stats.multivariate_normal(
                a * mean, a**2 * np.array(covariance) + s**2 * np.eye(2)
            ).pdf(x)
            for weight, mean, covariance in zip(
                [0.25, 0.75],
                np.array([[0.0, 1.0], [2.0, -1.0]]),
                [[[1.0, 0.8], [0.8, 1.0]], [[0.3, -0.1], [-0.1, 0.2]]],
                strict=True,
            )
        ]
        return np.log(sum(parts))

    @pytest.mark.parametrize(("a", "s"), [(1.0, 0.0), (0.6, 0.8), (1.0, 3.0)])
    def test_density_and_score(self, a, s):
        x = np.random.default_rng(0).normal(size=(6, 2))
        got = exact.log_density(self.LAW, jnp.asarray(x), a, s)
        np.testing.assert_allclose(got, self.noised(x, a, s), rtol=1e-10)
        h = 1e-5
        slopes = np.stack(
            [
                (self.noised(x + h * e, a, s) - self.noised(x - h * e, a, s)) / (2 * h)
                for e in np.eye(2)
            ],
            axis=1,
        )
        score = exact.score(self.LAW, jnp.asarray(x), a, s)
        np.testing.assert_allclose(score, slopes, rtol=1e-6, atol=1e-6)
        # Tweedie: E[x0 | x] = (x + s^2 score) / a.
        np.testing.assert_allclose(
            exact.denoise(self.LAW, jnp.asarray(x), a, s),
            (x + s**2 * slopes) / a,
            rtol=1e-6,
            atol=1e-6,
        )
        if s:
            eps = exact.predict(self.LAW, jnp.asarray(x), a, s)
            for kind in process.PREDICTIONS:
                got = exact.predict(self.LAW, jnp.asarray(x), a, s, kind)
                expected = process.convert(eps, jnp.asarray(x), a, s, "eps", kind)
                np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9)

    def test_samples(self):
        x = np.asarray(exact.draw(self.LAW, jax.random.key(0), 20_000, jnp.float64))
        mean = 0.25 * np.array([0, 1]) + 0.75 * np.array([2, -1])
        np.testing.assert_allclose(x.mean(0), mean, atol=0.04)
        entropy = -exact.log_density(self.LAW, jnp.asarray(x)).mean()
        grid = np.linspace(-5, 5, 150)
        points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
        logs = self.noised(points, 1.0, 0.0)
        integral = -np.sum(np.exp(logs) * logs) * (grid[1] - grid[0]) ** 2
        assert float(entropy) == pytest.approx(integral, abs=0.03)

    def test_float32(self):
        x = jnp.zeros((3, 2), jnp.float32)
        t = jnp.array([0.0, 500.0, 999.0], jnp.float32)
        for kind in process.PREDICTIONS:
            assert exact.model(self.LAW, LINEAR, kind)(x, t).dtype == jnp.float32
            assert exact.model(self.LAW, None, kind)(x, t + 1).dtype == jnp.float32

    def test_refusals(self):
        with pytest.raises(ValueError, match=r"shape \(K, d\)"):
            exact.mixture([1.0], 0.5)
        with pytest.raises(ValueError, match="deviations must be positive"):
            exact.mixture([[1.0]], 0.0)
        with pytest.raises(ValueError, match="deviations must be a number"):
            exact.mixture([[1.0]], [0.1, 0.2])
        with pytest.raises(ValueError, match="covariances of shape"):
            exact.mixture([[1.0]], np.eye(2)[None])
        with pytest.raises(ValueError, match="symmetric"):
            exact.mixture([[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]])
        with pytest.raises(ValueError, match="variances must be positive"):
            exact.mixture([[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]])
        with pytest.raises(ValueError, match="1 positive weights"):
            exact.mixture([[1.0]], 0.5, [0.0])
        with pytest.raises(ValueError, match="expected points of shape"):
            exact.score(GAUSSIAN, jnp.zeros((2, 2)), 1.0, 1.0)


class TestExactBound:
    @pytest.mark.parametrize(
        ("variance", "steps", "total", "gap"),
        [
            ("large", 3.9133, 0.84048, 0.11469),
            ("small", 4.3685, 1.29574, 0.56995),
        ],
    )
    def test_reference_totals(self, variance, steps, total, gap):
        found = exact.gaussian_bound(LINEAR, 1.0, 0.5, variance)
        assert found.prior == pytest.approx(2.5e-5, abs=5e-7)
        assert found.steps.sum() == pytest.approx(steps, abs=5e-5)
        assert found.decoder == pytest.approx(-3.0728, abs=5e-5)
        assert found.total == pytest.approx(total, abs=1e-5)
        assert found.total - found.entropy == pytest.approx(gap, abs=1e-5)
        assert found.entropy == pytest.approx(0.72579, abs=5e-6)

    def test_the_best_decoder_leaves_little(self):
        best = 1 / (4 + LINEAR.snr[0])
        found = exact.gaussian_bound(LINEAR, 1.0, 0.5, "large", best)
        assert found.total - found.entropy == pytest.approx(0.00111, abs=1e-5)

    @pytest.mark.parametrize("variance", ["small", "large"])
    @pytest.mark.parametrize("name", schedules.names())
    def test_never_below_the_entropy(self, name, variance):
        for number in (30, 1000):
            chain = schedules.make(name, number)
            found = exact.gaussian_bound(chain, 1.0, 0.5, variance)
            assert found.total > found.entropy
            assert np.all(found.steps >= 0)

    @pytest.mark.parametrize("variance", ["small", "large"])
    def test_terms_by_quadrature(self, variance):
        """The library's terms, integrated exactly: they are quadratic in x0 and eps."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(3)
        weights = weights / weights.sum()
        number = len(LINEAR.times)
        t = np.repeat(np.arange(number), 9)
        x0 = np.tile(np.repeat(1 + 0.5 * nodes, 3), number)[:, None]
        noise = np.tile(nodes, 3 * number)[:, None]
        x0, noise = jnp.asarray(x0), jnp.asarray(noise)
        x = process.q_sample(LINEAR, x0, t, noise)
        output = jax.jit(exact.model(GAUSSIAN, LINEAR))(x, jnp.asarray(t, float))
        terms = jax.jit(
            lambda *arrays: likelihood.bound_term(
                LINEAR, *arrays, variance=variance, decoder="gaussian"
            )
        )(x0, x, jnp.asarray(t), output)
        weight = np.outer(weights, weights).reshape(-1)
        means = np.asarray(terms).reshape(number, 9) @ weight
        expected = exact.gaussian_bound(LINEAR, 1.0, 0.5, variance)
        np.testing.assert_allclose(means[1:], expected.steps, rtol=1e-8)
        assert means[0] == pytest.approx(expected.decoder, rel=1e-9)

    def test_by_sampling(self):
        chain = schedules.respace(LINEAR, 50)
        x0 = 1 + 0.5 * jax.random.normal(jax.random.key(0), (4000, 1), jnp.float64)
        model = exact.model(GAUSSIAN, LINEAR)
        found = jax.jit(
            lambda key, x0: likelihood.bound(
                key, model, x0, chain, variance="large", decoder="gaussian"
            )
        )(jax.random.key(1), x0)
        expected = exact.gaussian_bound(chain, 1.0, 0.5, "large")
        assert found.terms.shape == (50, 4000)
        error = float(found.total.std()) / math.sqrt(4000)
        assert float(found.total.mean()) == pytest.approx(expected.total, abs=5 * error)
        assert error < 0.03
        np.testing.assert_allclose(
            found.bits_per_dimension, found.total / math.log(2), rtol=1e-12
        )
        np.testing.assert_allclose(
            found.terms.mean(1)[1:], expected.steps, rtol=0.2, atol=0.01
        )


class TestDecoder:
    log_likelihood = staticmethod(jax.jit(likelihood.discretised_log_likelihood))

    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
    @pytest.mark.parametrize("deviation", [0.002, 0.05, 1.0])
    def test_bins_are_a_distribution(self, deviation, dtype):
        values = np.arange(256) / 127.5 - 1
        for mean in (-1.0, 0.3, 1.5):
            logs = self.log_likelihood(
                jnp.asarray(values, dtype),
                jnp.full(256, mean, dtype),
                jnp.full(256, 2 * np.log(deviation), dtype),
            )
            assert logs.dtype == dtype
            assert bool(jnp.all(jnp.isfinite(logs)))
            assert float(jnp.sum(jnp.exp(logs))) == pytest.approx(1, abs=2e-5)
            edges = np.append(-np.inf, np.append(values[1:] - 1 / 255, np.inf))
            law = scipy.stats.norm(mean, deviation)
            expected = np.diff(law.cdf(edges))
            np.testing.assert_allclose(np.exp(logs), expected, rtol=0, atol=1e-5)

    def test_far_tails_have_values_and_gradients(self):
        """cdf differences are zero there; the logarithm is not."""

        def loss(mean, log_variance):
            return likelihood.discretised_log_likelihood(
                jnp.array([0.9, -1.0, 1.0]), mean, log_variance
            ).sum()

        mean, log_variance = jnp.full(3, -0.9), jnp.full(3, -9.0)
        slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(mean, log_variance)
        assert all(bool(jnp.all(jnp.isfinite(slope))) for slope in slopes)
        got = likelihood.discretised_log_likelihood(
            jnp.array([0.9]), jnp.array([-0.9]), jnp.array([-9.0])
        )
        assert float(got[0]) == pytest.approx(
            scipy.stats.norm.logsf((1.8 - 1 / 255) * np.exp(4.5)), rel=1e-5
        )

    def test_bits(self):
        nats = jnp.array([3072 * np.log(2)])
        assert float(likelihood.bits_per_dimension(nats, 3072)[0]) == pytest.approx(1)
        assert float(
            likelihood.bits_per_dimension(nats, 3072, dequantised=True)[0]
        ) == pytest.approx(8)

    def test_refusals(self):
        model = exact.model(GAUSSIAN, LINEAR)
        key, x = jax.random.key(0), jnp.full((2, 1), 1.5)
        with pytest.raises(ValueError, match="discretised decoder knows pictures"):
            likelihood.bound(key, model, x, LINEAR)
        with pytest.raises(ValueError, match="clipping is on, so x0"):
            likelihood.bound(
                key, model, x, LINEAR, decoder="gaussian", clip=(-1.0, 1.0)
            )
        with pytest.raises(ValueError, match="decoder must be one of"):
            likelihood.bound(key, model, x, LINEAR, decoder="normal")


class TestFlow:
    X = exact.draw(RING, jax.random.key(11), 200, jnp.float64)

    def gap(self, **options):
        """What a function of sigma_max finds, less the truth."""
        truth = exact.log_density(RING, self.X)
        model = exact.model(RING, None, "x0")
        run = jax.jit(
            lambda high: (
                likelihood.flow_log_likelihood(
                    model, self.X, num_steps=100, high=high, **options
                ).log_likelihood
            )
        )
        return run, lambda high: np.asarray(run(high) - truth)

    def test_with_the_exact_prior(self):
        prior = functools.partial(exact.log_density, RING, signal=1.0, noise=80.0)
        _, gap = self.gap(prior=prior)
        assert np.abs(gap(80.0)).max() < 5e-4

    def test_the_normal_prior_ignores_means_unless_it_is_wide(self):
        run, gap = self.gap()
        found = gap(80.0)
        assert abs(found.mean()) < 2e-3
        assert 5e-3 < np.abs(found).max() < 3e-2
        assert np.abs(gap(1e3)).max() < 3e-3
        assert run._cache_size() == 1

    @pytest.mark.parametrize(
        "gaussian", [False, pytest.param(True, marks=pytest.mark.slow)]
    )
    def test_hutchinson_is_unbiased(self, gaussian):
        """In float32, through a chain's own network."""
        law = exact.mixture([[0.5, 0.0, -0.5]], [np.diag([1.0, 0.25, 0.5])])
        x = exact.draw(law, jax.random.key(1), 30)
        chain = schedules.variance_preserving(1000)
        model = process.variance_exploding(exact.model(law, chain), chain, "eps")

        @jax.jit
        def estimate(key):
            return likelihood.flow_log_likelihood(
                model,
                x,
                num_steps=30,
                low=0.02,
                high=60.0,
                key=key,
                num_probes=100 if gaussian else 1,
                gaussian_probes=gaussian,
            ).log_likelihood

        got = estimate(jax.random.key(2))
        truth = exact.log_density(law, x)
        assert got.dtype == jnp.float32
        # Signs are exact for a diagonal Jacobian, normal numbers scatter.
        assert gaussian or float(jnp.abs(got - truth).max()) < 0.1
        assert abs(float((got - truth).mean())) < (0.6 if gaussian else 0.05)

    def test_latents_are_the_flows(self):
        x = jnp.linspace(-1.0, 2.0, 7)[:, None]
        found = jax.jit(
            lambda x: likelihood.flow_log_likelihood(
                exact.model(GAUSSIAN, None, "x0"), x, num_steps=100
            )
        )(x)
        gain, offset = exact.flow(1.0, 0.5, 1.0, 80.0)
        np.testing.assert_allclose(found.latent, (x - offset) / gain, rtol=1e-4)

    def test_refusals(self):
        for words in ({"num_steps": 0}, {"num_probes": 0}):
            with pytest.raises(ValueError, match="positive integer"):
                likelihood.flow_log_likelihood(lambda x, s: x, self.X, **words)


def test_range_check_sees_known_data_only():
    clip = sampling.Clip()
    sampling.check_range("x", jnp.array([1.0, -1.0]), clip)
    sampling.check_range("x", jnp.array([3.0]), None)
    jax.jit(lambda x: sampling.check_range("x", x, clip) or x)(jnp.array([3.0]))
    with pytest.raises(ValueError, match="got values from 0.5 to 255"):
        sampling.check_range("x", np.array([0.5, 255.0]), clip)
