"""Schedules, respacing, the forward process, and conversions of predictions."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gamedyn.diffusion import process, schedules

NAMES = schedules.names()


def wide(x):
    return np.asarray(x, np.float64)


class TestSchedules:
    def test_registry(self):
        assert len(NAMES) == len(set(NAMES)) >= 6
        for name, entry in schedules.entries().items():
            assert name.isidentifier()
            assert entry.summary
            assert "\n" not in entry.summary
            assert entry.source
            assert inspect.signature(entry.build).parameters["num_steps"]
        with pytest.raises(ValueError, match="did you mean cosine"):
            schedules.make("cosin", 10)

    @pytest.mark.parametrize("num_steps", [30, 1000])
    @pytest.mark.parametrize("name", NAMES)
    def test_tables_agree_with_products_of_betas(self, name, num_steps):
        table = schedules.make(name, num_steps)
        alphas = 1 - table.betas
        shares = np.cumprod(alphas)
        before = np.append(1.0, shares[:-1])
        assert all(leaf.shape == (num_steps,) for leaf in table)
        assert all(leaf.dtype == np.float64 for leaf in table)
        assert np.all(np.diff(table.signal) < 0)
        assert np.all(np.diff(table.noise) > -1e-16)
        np.testing.assert_allclose(table.signal**2, shares, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(table.noise**2, 1 - shares, rtol=1e-10)
        np.testing.assert_allclose(table.snr, shares / (1 - shares), rtol=1e-9)
        variance = table.betas * (1 - before) / (1 - shares)
        np.testing.assert_allclose(table.posterior_variance, variance, rtol=1e-9)
        np.testing.assert_allclose(
            table.posterior_x0, np.sqrt(before) * table.betas / (1 - shares), rtol=1e-9
        )
        np.testing.assert_allclose(
            table.posterior_x,
            np.sqrt(alphas) * (1 - before) / (1 - shares),
            rtol=1e-9,
            atol=1e-12,
        )
        for logs in (table.log_small, table.log_large, table.log_betas):
            assert np.all(np.isfinite(logs))
        assert table.log_small[0] == table.log_small[1] == table.log_large[0]
        np.testing.assert_allclose(np.exp(table.log_small[1:]), variance[1:], 1e-9)

    def test_published_values(self):
        linear, cosine = schedules.linear(1000), schedules.cosine(1000)
        assert linear.betas[[0, -1]] == pytest.approx([1e-4, 0.02])
        assert linear.signal[-1] ** 2 == pytest.approx(4.035830e-5, rel=1e-6)
        assert linear.signal[-1] == pytest.approx(0.006353, abs=5e-7)
        assert cosine.signal[-1] ** 2 == pytest.approx(2.42877e-9, rel=1e-5)
        assert schedules.linear(100).betas[[0, -1]] == pytest.approx([1e-3, 0.2])
        # Diffusers' constants of the variance, computed there in float32.
        assert linear.posterior_variance[0] == pytest.approx(0, abs=1e-20)
        assert linear.posterior_variance[487] == pytest.approx(0.009791572, abs=5e-10)
        assert linear.posterior_variance[999] == pytest.approx(0.019999984, abs=5e-10)
        u = np.linspace(0, 1, 11)[1:]
        vp = schedules.variance_preserving(10)
        sigma = np.sqrt(np.expm1(0.5 * 19.9 * u**2 + 0.1 * u))
        np.testing.assert_allclose(schedules.sigmas(vp), sigma, rtol=1e-12)
        logistic = 1 / (1 + np.exp(-(u * 6 - 3)))
        share = (1 / (1 + np.exp(-3.0)) - logistic) / np.tanh(1.5)
        sigmoid = schedules.sigmoid(10).signal ** 2
        np.testing.assert_allclose(sigmoid[:-1], share[:-1], rtol=1e-10)
        assert np.sqrt(schedules.quadratic(50).betas) == pytest.approx(
            np.linspace(np.sqrt(0.002), np.sqrt(0.4), 50)
        )

    def test_float64_tables_keep_digits_that_float32_loses(self):
        """Trap: 1 - abar of the first steps, subtracted in float32."""
        table = schedules.linear(1000)
        exact = -np.expm1(np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000))))
        careless = 1 - np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float32))
        ours = np.asarray(table.noise, np.float32) ** 2
        assert abs(ours[0] / exact[0] - 1) < 3e-7
        assert abs(careless[0] / exact[0] - 1) > 1e-4

    def test_zero_terminal_snr(self):
        chain = schedules.linear(1000)
        table = schedules.zero_terminal_snr(chain)
        assert table.signal[-1] == 0
        assert table.noise[-1] == 1
        assert table.betas[-1] == 1
        assert table.signal[0] == pytest.approx(chain.signal[0], rel=1e-12)
        last = chain.signal[-1]
        expected = (chain.signal - last) * chain.signal[0] / (chain.signal[0] - last)
        np.testing.assert_allclose(table.signal, expected, rtol=1e-10, atol=1e-16)

    def test_edm_sigmas(self):
        got = schedules.edm_sigmas(5)

        def root(v):
            return v ** (1 / 7)

        expected = [
            (root(80.0) + i / 4 * (root(0.002) - root(80.0))) ** 7 for i in range(5)
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-12)

    def test_refusals(self):
        for betas in ([0.1, 1.0], [0.0, 0.1], [0.1, np.nan], [-0.1]):
            with pytest.raises(ValueError, match="strictly between 0 and 1"):
                schedules.from_betas(betas)
        with pytest.raises(ValueError, match="strictly between 0 and 1, got 1.0"):
            schedules.linear(20)
        with pytest.raises(ValueError, match="shape"):
            schedules.from_betas([[0.1]])
        with pytest.raises(ValueError, match="expected 2 times"):
            schedules.from_betas([0.1, 0.2], times=[1])
        with pytest.raises(ValueError, match="positive integer"):
            schedules.cosine(0)
        with pytest.raises(ValueError, match="0 < low <= high"):
            schedules.variance_preserving(10, low=2.0, high=1.0)
        with pytest.raises(ValueError, match="0 < low < high"):
            schedules.edm_sigmas(10, low=1.0, high=0.5)
        with pytest.raises(ValueError, match="strictly between 0 and 1, got -0.0001"):
            schedules.linear(1000, low=-1e-4)
        with pytest.raises(ValueError, match="expected start < end, got 3 and -3"):
            schedules.sigmoid(10, start=3, end=-3)
        with pytest.raises(ValueError, match="tau must be positive"):
            schedules.sigmoid(10, tau=0.0)
        with pytest.raises(ValueError, match="offset must not be negative"):
            schedules.cosine(10, offset=-1.0)
        with pytest.raises(ValueError, match="at least two steps"):
            schedules.zero_terminal_snr(schedules.from_betas([0.1]))


class TestRespacing:
    def test_index_sets(self):
        chain = schedules.linear(1000)

        def times(number, spacing):
            kept = schedules.respace(chain, number, spacing=spacing).times
            return kept[::-1].astype(int).tolist()

        assert times(50, "leading")[:2] == [980, 960]
        assert times(50, "leading")[-1] == 0
        assert times(50, "trailing")[:2] == [999, 979]
        assert times(50, "trailing")[-1] == 19
        assert times(7, "trailing")[0] == 999
        assert times(10, "multistep") == [
            *(999, 899, 799, 699, 599, 500, 400, 300, 200, 100)
        ]
        assert times(4, "linspace") == [999, 666, 333, 0]
        assert times(3, "quadratic") == [999, 250, 0]
        assert times(3, [1, 5, 9]) == [9, 5, 1]
        for spacing in schedules.SPACINGS:
            assert times(1, spacing) == ([0] if spacing == "leading" else [999])

    @pytest.mark.parametrize("name", NAMES)
    def test_all_tables_follow_from_the_new_betas(self, name):
        """Trap: posterior variances of a respaced chain looked up in the old one."""
        chain = schedules.make(name, 1000)
        kept = schedules.respace(chain, 30)
        indices = kept.times.astype(int)
        np.testing.assert_allclose(kept.signal, chain.signal[indices], rtol=1e-12)
        np.testing.assert_allclose(kept.noise, chain.noise[indices], rtol=1e-12)
        shares = chain.signal[indices] ** 2
        before = np.append(1.0, shares[:-1])
        betas = 1 - shares / before
        variance = betas * (1 - before) / (1 - shares)
        np.testing.assert_allclose(kept.betas, betas, rtol=1e-9)
        np.testing.assert_allclose(kept.posterior_variance, variance, rtol=1e-9)
        assert np.all(kept.posterior_variance[1:] > 1.5 * chain.posterior_variance[1])

    def test_keeping_all_changes_nothing(self):
        chain = schedules.cosine(100)
        same = schedules.respace(chain, 100)
        for got, expected in zip(same, chain, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-9)

    def test_refusals(self):
        chain = schedules.linear(100)
        with pytest.raises(ValueError, match="100 steps cannot be respaced to 101"):
            schedules.respace(chain, 101)
        with pytest.raises(ValueError, match="did you mean 'trailing'"):
            schedules.respace(chain, 10, spacing="trail")
        with pytest.raises(ValueError, match="repeats some"):
            schedules.respace(chain, 90, spacing="quadratic")
        with pytest.raises(ValueError, match="must lie in 0 ... 99"):
            schedules.respace(chain, 2, spacing=[3, 100])
        with pytest.raises(ValueError, match="2 integer indices"):
            schedules.respace(chain, 2, spacing=[1, 2, 3])
        with pytest.raises(ValueError, match="must increase"):
            schedules.respace(chain, 2, spacing=[4, 3])


@pytest.fixture(params=[jnp.float32, jnp.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


class TestProcess:
    CHAIN = schedules.linear(1000)

    def data(self, dtype):
        rng = np.random.default_rng(0)
        x0, noise = rng.normal(size=(2, 4, 3, 2))
        return jnp.asarray(x0, dtype), jnp.asarray(noise, dtype)

    def test_q_sample_and_posterior(self, dtype):
        x0, noise = self.data(dtype)
        t = np.array([0, 1, 500, 999])
        x = process.q_sample(self.CHAIN, x0, t, noise)
        shares = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
        share = shares[t][:, None, None]
        tolerance = 50 * jnp.finfo(dtype).eps
        expected = np.sqrt(share) * wide(x0) + np.sqrt(1 - share) * wide(noise)
        assert x.dtype == dtype
        np.testing.assert_allclose(x, expected, rtol=0, atol=tolerance)
        law = process.posterior(self.CHAIN, x0, x, t)
        assert {leaf.dtype for leaf in law} == {jnp.dtype(dtype)}
        assert law.variance.shape == (4, 1, 1)
        np.testing.assert_allclose(law.mean[0], x0[0], atol=tolerance)
        assert law.variance[0] == 0
        # Bayes, by precisions: prior N(a_ x0, s_^2), likelihood of x_t given x_{t-1}.
        for i, step in ((1, 1), (2, 500), (3, 999)):
            beta = self.CHAIN.betas[step]
            a, s = np.sqrt(shares[step - 1]), np.sqrt(1 - shares[step - 1])
            precision = 1 / s**2 + (1 - beta) / beta
            mean = a * wide(x0[i]) / s**2 + np.sqrt(1 - beta) * wide(x[i]) / beta
            np.testing.assert_allclose(law.mean[i], mean / precision, rtol=1e-4)
            assert float(law.variance[i, 0, 0]) == pytest.approx(1 / precision, 1e-5)
            # Trap: the variance, not the standard deviation.
            assert float(jnp.exp(law.log_variance[i, 0, 0])) == pytest.approx(
                1 / precision, 1e-5
            )

    def test_learned_variance_is_between_by_logarithms(self, dtype):
        """Trap: a geometric mean, not an arithmetic one; no log of zero at t = 0."""
        x0, _ = self.data(dtype)
        t = np.array([0, 1, 2, 999])

        def at(nu, kind="learned"):
            return process.log_variance(self.CHAIN, t, x0, kind, jnp.full_like(x0, nu))

        small, large = at(0, "small"), process.at(self.CHAIN.log_betas, t, x0)
        np.testing.assert_allclose(at(-1), np.broadcast_to(small, x0.shape))
        np.testing.assert_allclose(at(1), np.broadcast_to(large, x0.shape))
        middle = np.broadcast_to((small + large) / 2, x0.shape)
        np.testing.assert_allclose(at(0), middle, rtol=1e-6)
        assert np.all(np.isfinite(at(-1)))
        with pytest.raises(ValueError, match="needs nu"):
            process.log_variance(self.CHAIN, t, x0, "learned")

    @pytest.mark.parametrize("circle", [True, False])
    @pytest.mark.parametrize("source", process.PREDICTIONS)
    def test_conversions_are_consistent(self, source, circle, dtype):
        """Every kind of the truth converts to every other kind of the truth."""
        x0, eps = self.data(dtype)
        a = np.array([0.9, 0.5, 0.1, 0.999])
        s = np.sqrt(1 - a**2) if circle else np.array([0.3, 2.0, 1.0, 0.7])
        wide_a, wide_s = a[:, None, None], s[:, None, None]
        clean, drawn = wide(x0), wide(eps)
        x = jnp.asarray(wide_a * clean + wide_s * drawn, dtype)
        root = np.sqrt(wide_a**2 + wide_s**2)
        truth = {
            "x0": clean,
            "eps": drawn,
            "v": (wide_a * drawn - wide_s * clean) / root,
            "score": -drawn / wide_s,
        }
        given = jnp.asarray(truth[source], dtype)
        tolerance = 300 * jnp.finfo(dtype).eps
        said = process.estimate(given, x, a, s, source)
        np.testing.assert_allclose(said.x0, x0, atol=tolerance)
        np.testing.assert_allclose(said.eps, eps, atol=tolerance)
        for target in process.PREDICTIONS:
            got = process.convert(given, x, a, s, source, target)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, truth[target], rtol=0, atol=20 * tolerance)

    def test_variance_exploding_recovers_the_chains_network(self):
        chain = schedules.cosine(200)
        x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
        t = np.array([3, 100, 190])
        seen = []

        def model(x, t):
            seen.append(t)
            return x * 0.3

        denoise = process.variance_exploding(model, chain, "eps")
        sigma = jnp.asarray(schedules.sigmas(chain)[t])
        got = denoise(x, sigma)
        np.testing.assert_allclose(seen[0], t, rtol=1e-9)
        inside = x / np.sqrt(1 + sigma[:, None] ** 2)
        np.testing.assert_allclose(got, x - sigma[:, None] * 0.3 * inside, rtol=1e-9)

    def test_refusals(self):
        x0, noise = self.data(jnp.float64)
        with pytest.raises(ValueError, match="did you mean 'eps'"):
            process.estimate(noise, x0, 0.6, 0.8, "epsilon")
        with pytest.raises(ValueError, match="did you mean 'score'"):
            process.convert(noise, x0, 0.6, 0.8, "eps", "scores")
        with pytest.raises(ValueError, match="shape of its input"):
            process.estimate(noise[..., :1], x0, 0.6, 0.8, "eps")
        with pytest.raises(ValueError, match="must lie in 0 ... 999, got 0 to 1000"):
            process.q_sample(self.CHAIN, x0, np.array([0, 1, 2, 1000]), noise)
        with pytest.raises(ValueError, match="one time step per example"):
            process.q_sample(self.CHAIN, x0, np.array([0, 1]), noise)
        with pytest.raises(TypeError, match="expected integers"):
            process.q_sample(self.CHAIN, x0, jnp.zeros(4), noise)
        with pytest.raises(ValueError, match="variance must be one of"):
            process.log_variance(self.CHAIN, np.zeros(4, int), x0, "medium")


def test_a_schedule_is_an_argument_of_jit():
    traces = []

    @jax.jit
    def noised(chain, x0, t, noise):
        traces.append(1)
        return process.q_sample(chain, x0, t, noise)

    x0 = jnp.ones((2, 1), jnp.float32)
    for name in NAMES:
        chain = schedules.make(name, 50)
        got = noised(chain, x0, np.array([0, 20]), x0)
        expected = chain.signal[[0, 20]] + chain.noise[[0, 20]]
        np.testing.assert_allclose(got[:, 0], expected, rtol=1e-6)
    assert len(traces) == 1
