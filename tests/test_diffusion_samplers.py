"""Samplers against closed forms: moments, orders, identities, laws of mixtures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gamedyn import nets
from gamedyn.diffusion import exact, process, samplers, sampling, schedules

LINEAR, COSINE = schedules.linear(1000), schedules.cosine(1000)
GAUSSIAN = exact.mixture([[1.0]], 0.5)
NAMES = samplers.names()


def ring():
    angles = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return exact.mixture(centres, 0.2, np.arange(1, 9))


RING = ring()


@functools.cache
def runner(chain="linear", law="gaussian", **options):
    """Jit once what many tests run; the sampler is its argument."""
    table = {"linear": LINEAR, "cosine": COSINE, "edm": None}[chain]
    options = {"prediction": "x0" if chain == "edm" else "eps", **options}
    truth = {"gaussian": GAUSSIAN, "ring": RING}[law]
    model = exact.model(truth, table, options["prediction"])
    size = truth.means.shape[1]
    options.setdefault("number", 2000)
    number = options.pop("number")
    dtype = options.pop("dtype", jnp.float64)

    @jax.jit
    def run(key, sampler):
        shape = (number, size)
        return sampling.sample(key, model, sampler, shape, dtype=dtype, **options)

    return run


def model_of_tests(x, t):
    """Nonlinear, and sensitive to the time it is fed."""
    t = t.reshape(-1, *(1,) * (x.ndim - 1)) / 1000
    return jnp.sin(2 * x) * (1 - t) + 0.2 * x * t


START = jnp.asarray(np.random.default_rng(3).normal(size=(5, 2)))


@functools.cache
def run_small(**options):
    """One jitted function for all samplers: one program for each kind of table."""
    return jax.jit(
        lambda key, sampler, start: (
            sampling.sample(key, model_of_tests, sampler, start=start, **options).x
        )
    )


@jax.jit
def walk(sampler, model_chain):
    """Gain, offset and variance of a sampler through its own steps, on N(1, .5^2).

    Example i gets unit noise in row i alone; two more find gain and offset.
    """
    rows = sampler.rows
    number = len(rows.time)
    start = jnp.zeros((number + 2, 1)).at[number].set(1.0)
    kept = sampling.Kept(*3 * (jnp.zeros_like(start),))

    def body(carry, inputs):
        x, kept = carry
        index, row = inputs
        eps = exact.predict(GAUSSIAN, x, row.signal, row.noise)
        said = sampling.read(row, x, eps)
        noise = jnp.zeros_like(x).at[index].set(1.0)
        return (sampling.step(row, x, said, kept=kept, noise=noise), (x, *said)), None

    def body_kept(carry, inputs):
        (x, memory), none = body(carry, inputs)
        return (x, sampling.Kept(*memory)), none

    (x, _), _ = jax.lax.scan(body_kept, (start, kept), (jnp.arange(number), rows))
    offset, gain = x[-1, 0], x[-2, 0] - x[-1, 0]
    return gain, offset, jnp.sum((x[:-2, 0] - offset) ** 2)


def moments(sampler, start=1.0):
    gain, offset, variance = map(float, walk(sampler, 0))
    return offset, np.sqrt(gain**2 * start**2 + variance)


class TestMoments:
    """Every sampler of one Gaussian is affine: known to six digits."""

    @pytest.mark.parametrize(
        ("number", "chain", "small", "large", "ddim"),
        [
            (
                1000,
                LINEAR,
                (0.99999, 0.49611),
                (0.99999, 0.500752),
                (0.996833, 0.498495),
            ),
            (1000, COSINE, (1.0, 0.497993), (1.0, 0.500418), (0.999975, 0.499189)),
            (50, LINEAR, (0.99999, 0.4441), (0.99999, 0.511719), (0.997005, 0.471403)),
            (50, COSINE, (1.0, 0.467744), (1.0, 0.507563), (0.999976, 0.48445)),
        ],
        ids=["linear-1000", "cosine-1000", "linear-50", "cosine-50"],
    )
    def test_ancestral_and_implicit(self, number, chain, small, large, ddim):
        """Traps: variances from the old betas; wrong noise with eta = 1."""
        kept = schedules.respace(chain, number)
        cases = [
            (samplers.ddpm(kept), small),
            (samplers.ddpm(kept, variance="large"), large),
            (samplers.ddim(kept), ddim),
            (samplers.ddim(kept, eta=1.0), small),
            (samplers.dpm_solver(kept, order=1), ddim),
            (samplers.euler(kept), ddim),
        ]
        for sampler, expected in cases:
            assert moments(sampler) == pytest.approx(expected, abs=1e-6)
            predicted = exact.affine_map(sampler, 1.0, 0.5).moments(0.0, 1.0)
            assert predicted == pytest.approx(expected, abs=1e-6)

    def test_heun_on_the_edm_grid(self):
        for number, expected in (
            (10, (0.992378, 0.609798)),
            (40, (0.993689, 0.504877)),
        ):
            sampler = samplers.heun(samplers.edm_levels(schedules.edm_sigmas(number)))
            assert sampler.num_evaluations == 2 * number - 1
            assert moments(sampler, 80.0) == pytest.approx(expected, abs=1e-6)
            found = exact.affine_map(sampler, 1.0, 0.5)
            assert found.moments(0.0, 80.0) == pytest.approx(expected, abs=1e-6)

    def test_limits_of_many_steps(self):
        gain, offset = exact.flow(1.0, 0.5, LINEAR.signal[-1], LINEAR.noise[-1])
        assert (offset, gain) == pytest.approx((0.996824, 0.500008), abs=1e-6)
        gain, offset = exact.flow(1.0, 0.5, 1.0, 80.0)
        assert (offset, 80 * gain) == pytest.approx((0.993750, 0.499990), abs=1e-6)

    def test_noise_floor(self):
        assert exact.noise_floor(LINEAR, 0.5).mean() == pytest.approx(
            0.173053, abs=1e-6
        )
        assert exact.noise_floor(COSINE, 0.5).mean() == pytest.approx(
            0.327653, abs=1e-6
        )

    def test_churn_matches_the_recursion(self):
        levels = samplers.edm_levels(schedules.edm_sigmas(18))
        sampler = samplers.heun(levels, churn=20.0, churn_low=0.05, churn_high=50.0)
        x = runner("edm", number=40_000)(jax.random.key(0), sampler).x
        mean, deviation = exact.affine_map(sampler, 1.0, 0.5).moments(0.0, 80.0)
        assert float(x.mean()) == pytest.approx(mean, abs=4 * 0.5 / 200)
        assert float(x.std()) == pytest.approx(deviation, rel=4 / np.sqrt(80_000))
        still = exact.affine_map(samplers.heun(levels), 1.0, 0.5)
        assert still.variance == 0
        assert exact.affine_map(sampler, 1.0, 0.5).variance > 0.01

    def test_langevin_is_not_affine(self):
        with pytest.raises(ValueError, match="affine"):
            exact.affine_map(samplers.predictor_corrector(LINEAR), 1.0, 0.5)


def slope(errors, numbers):
    return -np.polyfit(np.log(numbers), np.log(errors), 1)[0]


class TestOrders:
    """Slopes against the true map of the ODE, not against (1, .5)."""

    @pytest.mark.parametrize(
        ("build", "order", "slack"),
        [(samplers.euler, 1, 0.1), (samplers.heun, 2, 0.2)],
    )
    def test_on_the_edm_grid(self, build, order, slack):
        numbers = [64, 128, 256, 512]
        gain, offset = exact.flow(1.0, 0.5, 1.0, 80.0)
        found = [
            exact.affine_map(
                build(samplers.edm_levels(schedules.edm_sigmas(n))), 1.0, 0.5
            )
            for n in numbers
        ]
        assert slope([abs(f.gain - gain) for f in found], numbers) == pytest.approx(
            order, abs=slack
        )

    @pytest.mark.parametrize(("order", "expected"), [(1, 1.0), (2, 2.0)])
    def test_in_the_log_of_signal_to_noise(self, order, expected):
        """On lambda in [-4, 4]; the map to lambda = 4 alone, without the last step."""
        numbers = [40, 80, 160, 320, 640]
        lam = np.array([-4.0, 4.0])
        a, s = 1 / np.sqrt(1 + np.exp(-2 * lam)), 1 / np.sqrt(1 + np.exp(2 * lam))
        variance = a**2 * 0.25 + s**2
        gain = np.sqrt(variance[1] / variance[0])
        offset = a[1] - gain * a[0]
        errors = []
        for number in numbers:
            grid = np.linspace(*lam, number + 1)
            levels = samplers.Levels(
                grid[::-1],
                1 / np.sqrt(1 + np.exp(-2 * grid)),
                1 / np.sqrt(1 + np.exp(2 * grid)),
            )
            sampler = samplers.dpm_solver(levels, order=order)
            rows = jax.tree.map(lambda leaf: leaf[:-1], sampler.rows)
            found = exact.affine_map(sampler._replace(rows=rows), 1.0, 0.5)
            errors.append((abs(found.gain - gain), abs(found.offset - offset)))
        if order == 2:
            assert errors[0][0] == pytest.approx(1.22e-3, rel=0.01)
        for error in np.transpose(errors):
            assert slope(error, numbers) == pytest.approx(expected, abs=0.03)

    def test_levels_uniform_in_the_log_of_signal_to_noise(self):
        """Between two steps of the chain, whose times they get."""
        known = np.log(LINEAR.signal / LINEAR.noise)
        levels = samplers.log_snr_levels(LINEAR, 9, known[900], known[100])
        lam = np.log(levels.signal / levels.noise)
        np.testing.assert_allclose(lam, np.linspace(known[900], known[100], 9))
        np.testing.assert_allclose(levels.signal**2 + levels.noise**2, 1)
        np.testing.assert_allclose(levels.times[[0, -1]], [900, 100])
        index = np.searchsorted(-known, -lam[4])  # in the middle, between two times
        assert index - 1 < levels.times[4] < index
        rows = samplers.dpm_solver(levels).rows
        assert rows.next_noise[-1] == 0  # data follow the last
        np.testing.assert_allclose(rows.kept.x0[1:-1] / rows.now.x0[1:-1], -1 / 3)


class TestIdentities:
    def test_ddim_with_eta_one_is_ddpm(self):
        """On a nonlinear network, same noise: equal, not only in law."""
        chain = schedules.respace(LINEAR, 50)
        one, two, other = (
            run_small()(jax.random.key(2), sampler, START)
            for sampler in (
                samplers.ddpm(chain),
                samplers.ddim(chain, eta=1.0),
                samplers.ddim(chain, eta=0.5),
            )
        )
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-9)
        assert float(jnp.abs(one - other).max()) > 0.1

    def test_euler_is_ddim_and_first_order_dpm(self):
        chain = schedules.respace(LINEAR, 20)
        one, two, three = (
            run_small()(jax.random.key(2), sampler, START)
            for sampler in (
                samplers.ddim(chain),
                samplers.euler(chain),
                samplers.dpm_solver(chain, order=1),
            )
        )
        np.testing.assert_allclose(two, one, atol=1e-8)
        np.testing.assert_allclose(three, one, atol=1e-8)

    def test_one_network_serves_both_families(self):
        """Euler in sigma on a chain, through the network of the chain."""
        sigma = schedules.sigmas(schedules.respace(LINEAR, 20))[::-1]
        key = jax.random.key(4)
        inside = samplers.euler(samplers.edm_levels(sigma, schedule=LINEAR))
        x = runner("linear", "ring", number=64)(key, inside).x
        model = process.variance_exploding(exact.model(RING, LINEAR), LINEAR, "eps")
        outside = samplers.euler(samplers.edm_levels(sigma))
        start = jax.random.normal(jax.random.fold_in(key, 20), (64, 2), jnp.float64)
        scaled = start * np.sqrt(1 + sigma[0] ** 2)
        y = jax.jit(
            lambda start, sampler: sampling.sample(
                key, model, sampler, start=start, prediction="x0"
            )
        )(scaled, outside)
        np.testing.assert_allclose(x, y.x, atol=1e-7)

    def test_inversion_round_trip(self):
        """Decoding what was encoded returns it, to first order in the step."""
        x = exact.draw(RING, jax.random.key(1), 200, jnp.float64)
        model = exact.model(RING, LINEAR)

        @jax.jit
        def there_and_back(encoder, decoder):
            key = jax.random.key(0)
            latent = sampling.sample(key, model, encoder, start=x).x
            return latent, sampling.sample(key, model, decoder, start=latent).x

        errors = []
        for number in (100, 400):
            chain = schedules.respace(LINEAR, number)
            encoder, decoder = samplers.ddim_inversion(chain), samplers.ddim(chain)
            latent, back = there_and_back(encoder, decoder)
            errors.append(float(jnp.sqrt(jnp.mean((back - x) ** 2))))
        assert errors[-1] < 0.02
        assert slope(errors, [100, 400]) > 0.9
        assert float(latent.std()) == pytest.approx(1, abs=0.15)

    def test_step_and_inverse_cancel_where_the_noise_is_constant(self):
        """A network that says the same at both ends inverts exactly, also from data."""
        chain = schedules.respace(LINEAR, 10)

        def model(x, t):
            return 0.3 * jnp.ones_like(x)

        x = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)
        key = jax.random.key(0)
        up = sampling.sample(key, model, samplers.ddim_inversion(chain), start=x).x
        back = sampling.sample(key, model, samplers.ddim(chain), start=up).x
        np.testing.assert_allclose(back, x, atol=1e-12)


class TestSecondImplementation:
    """Plain loops after the papers, in numpy."""

    @staticmethod
    def f(x, t):
        return np.sin(2 * x) * (1 - t / 1000) + 0.2 * x * t / 1000

    START = np.asarray(START)

    def run(self, sampler, key=None, scale=1, **options):
        key = jax.random.key(0) if key is None else key
        start = jnp.asarray(self.START * scale)
        return run_small(**options)(key, sampler, start)

    def test_golden_ddim_of_diffusers(self):
        """Their fixture, with clipping."""
        sample = np.arange(768).reshape(3, 8, 8, 4) / 768
        sample = jnp.asarray(sample.transpose(3, 0, 1, 2))
        chain = schedules.respace(LINEAR, 10, spacing="leading")

        def model(x, t):
            t = t.reshape(-1, 1, 1, 1)
            return x * t / (t + 1)

        got = sampling.sample(
            jax.random.key(0),
            model,
            samplers.ddim(chain),
            start=sample,
            clip=(-1.0, 1.0),
        ).x
        assert float(jnp.abs(got).sum()) == pytest.approx(172.00652, abs=5e-5)
        assert float(jnp.abs(got).mean()) == pytest.approx(0.2239668, abs=5e-7)

    @pytest.mark.parametrize("spacing", ["multistep", "trailing"])
    @pytest.mark.parametrize("number", [5, 20])
    def test_dpm_solver(self, number, spacing):
        chain = schedules.respace(LINEAR, number, spacing=spacing)
        a = np.append(chain.signal[::-1], 1.0)
        s = np.append(chain.noise[::-1], 0.0)
        x, before = self.START, None
        for i, t in enumerate(chain.times[::-1]):
            clean = (x - s[i] * self.f(x, t)) / a[i]
            estimate = clean
            if i == number - 1:
                x = clean
                break
            lam = np.log(a[: number + 1] / np.maximum(s, 1e-300))
            h = lam[i + 1] - lam[i]
            if before is not None:
                r = (lam[i] - lam[i - 1]) / h
                estimate = clean + (clean - before) / (2 * r)
            x = s[i + 1] / s[i] * x - a[i + 1] * np.expm1(-h) * estimate
            before = clean
        np.testing.assert_allclose(
            self.run(samplers.dpm_solver(chain)), x, rtol=0, atol=1e-10
        )

    def test_heun(self):
        sigma = np.append(schedules.edm_sigmas(9), 0.0)
        x = self.START * 80
        for now, to in zip(sigma, sigma[1:], strict=False):
            d = (x - self.f(x, now)) / now
            y = x + (to - now) * d
            if to > 0:
                y = x + (to - now) * (d + (y - self.f(y, to)) / to) / 2
            x = y
        sampler = samplers.heun(samplers.edm_levels(sigma[:-1]))
        got = self.run(sampler, scale=80, prediction="x0")
        np.testing.assert_allclose(got, x, rtol=1e-10, atol=1e-10)

    def test_ddpm_by_betas(self):
        """After Ho et al., algorithm 2: in betas and eps, with the noise handed in."""
        chain = schedules.respace(LINEAR, 25)
        key = jax.random.key(5)
        x = self.START
        for row, i in enumerate(range(24, -1, -1)):
            beta, share = chain.betas[i], chain.signal[i] ** 2
            eps = self.f(x, chain.times[i])
            x = (x - beta / np.sqrt(1 - share) * eps) / np.sqrt(1 - beta)
            if i:
                drawn = jax.random.split(jax.random.fold_in(key, row), 3)[1]
                z = np.asarray(jax.random.normal(drawn, x.shape, jnp.float64))
                x = x + np.sqrt(chain.posterior_variance[i]) * z
        got = self.run(samplers.ddpm(chain), key)
        np.testing.assert_allclose(got, x, rtol=0, atol=1e-9)

    def test_learned_variance_lies_between(self):
        chain = schedules.respace(LINEAR, 25)

        @jax.jit
        def run(nu):
            def model(x, t):
                said = model_of_tests(x, t)
                nus = jnp.broadcast_to(nu, x.shape)
                return jnp.concatenate([said, nus], axis=-1)

            return sampling.sample(
                jax.random.key(5),
                model,
                samplers.ddpm(chain, variance="learned"),
                start=jnp.asarray(self.START),
                learned_variance=True,
            ).x

        def fixed(variance):
            return self.run(samplers.ddpm(chain, variance=variance), jax.random.key(5))

        np.testing.assert_allclose(run(-1.0), fixed("small"), atol=1e-9)
        np.testing.assert_allclose(run(1.0), fixed("large"), atol=1e-9)

    @pytest.mark.parametrize("corrector_first", [True, False])
    def test_predictor_corrector(self, corrector_first):
        chain = schedules.respace(LINEAR, 6)
        sampler = samplers.predictor_corrector(
            chain, snr=0.1, corrector_first=corrector_first
        )
        assert sampler.num_evaluations == (12 if corrector_first else 11)
        key, x, row = jax.random.key(7), self.START, 0

        def noise():
            drawn = jax.random.split(jax.random.fold_in(key, row), 3)[1]
            return np.asarray(jax.random.normal(drawn, x.shape, jnp.float64))

        def norm(v):
            return np.mean(np.linalg.norm(v, axis=1))

        for i in range(5, -1, -1):
            beta, s, t = chain.betas[i], chain.noise[i], chain.times[i]
            if corrector_first or i < 5:
                z, score = noise(), -self.f(x, t) / s
                size = 2 * (1 - beta) * (0.1 * norm(z) / norm(score)) ** 2
                x = x + size * score + np.sqrt(2 * size) * z
                row += 1
            z = noise()
            x = (x - beta * self.f(x, t) / s) / np.sqrt(1 - beta)
            x = x + (np.sqrt(beta) * z if i else 0)
            row += 1
        got = self.run(sampler, key)
        np.testing.assert_allclose(got, x, rtol=1e-8, atol=1e-9)


class TestCommonProperties:
    """Every registered sampler."""

    @pytest.mark.parametrize("name", NAMES)
    def test_law_in_float32(self, name):
        dtype = jnp.float32
        chain = schedules.respace(LINEAR, 100)
        sampler = samplers.make(name, chain)
        run = runner("linear", number=4000, dtype=dtype, record=True)
        got = run(jax.random.key(3), sampler)
        assert got.x.dtype == dtype
        assert got.x.shape == (4000, 1)
        assert got.trajectory.shape == (sampler.num_evaluations, 4000, 1)
        np.testing.assert_array_equal(got.trajectory[-1], got.x)
        mean, deviation = 1.0, 0.49
        if samplers.entries()[name].affine:
            mean, deviation = exact.affine_map(sampler, 1.0, 0.5).moments(0.0, 1.0)
        slack = 0.0 if samplers.entries()[name].affine else 0.02
        assert float(got.x.mean()) == pytest.approx(mean, abs=0.032 + slack)
        assert float(got.x.std()) == pytest.approx(deviation, abs=0.025 + slack)

    @pytest.mark.parametrize("name", NAMES)
    def test_entry(self, name):
        entry = samplers.entries()[name]
        assert name.isidentifier()
        assert entry.summary
        assert "\n" not in entry.summary
        assert "arXiv" in entry.source
        sampler = samplers.make(name.replace("_", "-"), LINEAR)
        assert sampler.rows.next_noise[-1] == 0
        assert sampler.rows.next_signal[-1] == 1
        assert {leaf.shape for leaf in jax.tree.leaves(sampler.rows)} == {
            (sampler.num_evaluations,)
        }
        for leaf in jax.tree.leaves(sampler):
            assert leaf.dtype == (bool if leaf.dtype == bool else np.float64)
            assert np.all(np.isfinite(leaf))

    @pytest.mark.parametrize("name", NAMES)
    def test_the_network_is_fed_the_original_times(self, name):
        """Trap: the index in the respaced chain instead of its step.

        A network that answers with its time, read as the data, shows it in the end.
        """
        chain = schedules.respace(COSINE, 7)
        sampler = samplers.make(name, chain)
        assert set(sampler.rows.time) == set(chain.times)
        last = jax.tree.map(lambda leaf: leaf[-1:], sampler.rows)
        end = run_clock(
            jax.random.key(0), sampler._replace(rows=last), jnp.ones((3, 2))
        )
        np.testing.assert_allclose(end, chain.times[0], rtol=1e-9)

    @pytest.mark.parametrize("name", NAMES)
    def test_float64(self, name):
        sampler = samplers.make(name, schedules.respace(LINEAR, 5))
        x = run_small()(jax.random.key(0), sampler, START)
        assert x.dtype == jnp.float64
        assert x.shape == START.shape
        assert bool(jnp.all(jnp.isfinite(x)))

    @pytest.mark.parametrize("kind", process.PREDICTIONS[1:])
    def test_predictions_of_any_kind_sample_the_same(self, kind):
        sampler = samplers.ddpm(schedules.respace(LINEAR, 8))
        got, expected = (
            runner("linear", number=16, prediction=prediction)(
                jax.random.key(1), sampler
            ).x
            for prediction in (kind, "eps")
        )
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)

    OTHER = {
        "ddpm": {"variance": "large"},
        "ddim": {"eta": 0.7},
        "dpm_solver": {"order": 1},
        "euler": {"churn": 3.0},
        "heun": {"churn": 3.0, "churn_noise": 1.01},
        "predictor_corrector": {"snr": 0.3},
    }

    @pytest.mark.parametrize("name", NAMES)
    def test_one_compilation_for_all_numbers(self, name):
        """Other steps, spacings, schedules and options; on pictures, not square."""
        traces = []

        @jax.jit
        def run(key, sampler, start):
            traces.append(1)
            return sampling.sample(
                key,
                model_of_tests,
                sampler,
                start=start,
                clip=(-1.0, 1.0),
                prediction="x0",
            ).x

        def picture(seed, chain, **options):
            sampler = samplers.make(name, chain, **options)
            start = jnp.linspace(-2.0, 2.0, 30).reshape(2, 5, 3, 1)
            return run(jax.random.key(seed), sampler, start)

        chain = schedules.respace(LINEAR, 12)
        first = picture(0, chain)
        assert first.shape == (2, 5, 3, 1)
        assert float(jnp.abs(first).max()) <= 1 + 1e-9
        others = [
            picture(0, chain, **self.OTHER[name]),
            picture(0, schedules.respace(COSINE, 12)),
            picture(0, schedules.respace(LINEAR, 12, spacing="leading")),
        ]
        for other in others:
            assert bool(jnp.all(jnp.isfinite(other)))
            assert not np.allclose(first, other)
        # The key matters where the sampler says that it is stochastic.
        equal = bool(jnp.all(first == picture(1, chain)))
        assert equal != samplers.entries()[name].stochastic
        assert len(traces) == run._cache_size() == 1


@jax.jit
def run_clock(key, sampler, start):
    """Sample a network that answers with the time it is fed."""

    def model(x, t):
        return jnp.broadcast_to(t[:, None], x.shape)

    return sampling.sample(key, model, sampler, start=start, prediction="x0").x


def test_no_branches_in_the_loop():
    """Trap: cond and switch stall accelerators."""
    for name in NAMES:
        sampler = samplers.make(name, schedules.respace(LINEAR, 5))
        text = str(
            jax.make_jaxpr(
                lambda key, sampler: (
                    sampling.sample(key, model_of_tests, sampler, (2, 2)).x
                )
            )(jax.random.key(0), sampler)
        )
        assert "cond[" not in text
        assert text.count("scan[") >= 1


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver", "euler"])
def test_a_step_costs_what_the_network_costs(name):
    """Flops of the loop's body, which XLA counts once: no avoidable work in it."""
    net = nets.unet(1, width=16, multipliers=(1, 2, 2), blocks=1, groups=8, impl="xla")
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((8, 28, 28, 1), jnp.float32)
    t = jax.ShapeDtypeStruct((8,), jnp.float32)

    def run(params, key, sampler):
        def model(x, t):
            return net.apply(params, x, t)

        clip = (-1.0, 1.0)
        return sampling.sample(key, model, sampler, x.shape, clip=clip).x

    def flops(function, *inputs):
        return jax.jit(function).lower(*inputs).cost_analysis()["flops"]

    bare = flops(net.apply, params, x, t)
    counted = [
        flops(
            run,
            params,
            jax.random.key(0),
            samplers.make(name, schedules.respace(LINEAR, number)),
        )
        for number in (10, 50)
    ]
    assert counted[0] == pytest.approx(counted[1], rel=1e-3)
    assert bare < counted[1] < 1.01 * bare


class TestClipping:
    def test_wrong_for_data_outside_its_range(self):
        """Trap: clipping left on for points; it is off by default."""
        chain = schedules.respace(LINEAR, 100)
        key = jax.random.key(0)
        cut = runner("linear", number=4000, clip=(-1.0, 1.0))(
            key, samplers.ddpm(chain)
        ).x
        assert float(cut.mean()) < 0.9

    def test_dynamic(self):
        x0 = np.random.default_rng(0).normal(size=(4, 6, 5)) * [
            [[0.1]],
            [[1]],
            [[2]],
            [[3]],
        ]
        got = sampling.Clip(quantile=0.9)(jnp.asarray(x0))
        for picture, ours in zip(x0, got, strict=True):
            bound = max(np.quantile(np.abs(picture), 0.9), 1.0)
            expected = np.clip(picture, -bound, bound) / bound
            np.testing.assert_allclose(ours, expected, atol=1e-12)
        assert float(jnp.abs(got).max()) <= 1

    def test_noise_follows_the_clipped_data(self):
        row = jax.tree.map(
            lambda leaf: jnp.asarray(leaf[0]), samplers.ddim(LINEAR).rows
        )
        x, eps = jnp.full((1, 1), 2.0), jnp.full((1, 1), 0.5)
        for keep in (True, False):
            clip = sampling.Clip(keep_noise=keep)
            said = sampling.read(row, x, eps, clip=clip)
            assert float(said.x0[0, 0]) == 1
            again = float(row.signal * said.x0[0, 0] + row.noise * said.eps[0, 0])
            assert (abs(again - 2.0) < 1e-12) == (not keep)

    def test_refusals(self):
        with pytest.raises(ValueError, match="low < high"):
            sampling.Clip(1.0, -1.0)
        with pytest.raises(ValueError, match="quantile"):
            sampling.Clip(quantile=1.5)
        with pytest.raises(ValueError, match="symmetric"):
            sampling.Clip(0.0, 1.0, quantile=0.9)


class TestTerminal:
    CHAIN = schedules.zero_terminal_snr(LINEAR)

    @pytest.mark.parametrize(
        ("name", "kind"), [("ddpm", "x0"), ("ddim", "v"), ("dpm_solver", "v")]
    )
    def test_starts_from_pure_noise(self, name, kind):
        sampler = samplers.make(name, schedules.respace(self.CHAIN, 100))
        model = exact.model(GAUSSIAN, self.CHAIN, kind)
        x = jax.jit(
            lambda key, sampler: (
                sampling.sample(
                    key, model, sampler, (4000, 1), prediction=kind, dtype=jnp.float64
                ).x
            )
        )(jax.random.key(0), sampler)
        assert float(x.mean()) == pytest.approx(1.0, abs=0.03)
        assert float(x.std()) == pytest.approx(0.49, abs=0.04)

    def test_eps_is_impossible(self):
        with pytest.raises(ValueError, match="predict v or x0"):
            sampling.sample(
                jax.random.key(0),
                model_of_tests,
                samplers.ddpm(self.CHAIN),
                (2, 2),
            )
        with pytest.raises(ValueError, match="zero terminal SNR"):
            samplers.heun(self.CHAIN)
        with pytest.raises(ValueError, match="a beta is 1"):
            samplers.predictor_corrector(self.CHAIN)


def test_refusals():
    chain = schedules.respace(LINEAR, 5)
    with pytest.raises(ValueError, match="did you mean ddim"):
        samplers.make("dim", chain)
    with pytest.raises(ValueError, match="variance must be one of"):
        samplers.ddpm(chain, variance="middle")
    with pytest.raises(ValueError, match="eta must not be negative"):
        samplers.ddim(chain, eta=-0.1)
    with pytest.raises(ValueError, match="more noise than"):
        samplers.ddim(chain, eta=9.0)
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        samplers.dpm_solver(chain, order=3)
    with pytest.raises(ValueError, match="must not be negative"):
        samplers.heun(chain, churn=-1.0)
    with pytest.raises(ValueError, match="predictor must be one of"):
        samplers.predictor_corrector(chain, predictor="ancestral")
    with pytest.raises(ValueError, match="snr must not"):
        samplers.predictor_corrector(chain, snr=-1.0)
    with pytest.raises(ValueError, match="noise levels that decrease"):
        samplers.ddim(samplers.Levels([1, 2], [1.0, 1.0], [1.0, 2.0]))
    with pytest.raises(ValueError, match="one shape"):
        samplers.ddim(samplers.Levels([1], [1.0, 1.0], [1.0, 2.0]))
    with pytest.raises(ValueError, match="the chain has"):
        samplers.edm_levels([1e6, 1.0], schedule=LINEAR)
    with pytest.raises(ValueError, match="row must lie in"):
        samplers.start_at(samplers.ddim(chain), 6)
    with pytest.raises(ValueError, match="middle of a step"):
        samplers.start_at(samplers.heun(chain), 1)

    def run(sampler=None, model=model_of_tests, shape=(2, 2), **options):
        sampler = samplers.ddim(chain) if sampler is None else sampler
        return sampling.sample(jax.random.key(0), model, sampler, shape, **options)

    with pytest.raises(ValueError, match="prediction must be one of"):
        run(prediction="noise")
    with pytest.raises(ValueError, match="either a shape or a start"):
        run(start=jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match="twice the channels"):
        run(samplers.ddpm(chain, variance="learned"))
    with pytest.raises(TypeError, match=r"range of the data, \(low, high\)"):
        run(clip=True)
    with pytest.raises(TypeError, match="expected a sampler .* got Schedule"):
        run(chain)
    with pytest.raises(TypeError, match="expected a Schedule or Levels, got list"):
        samplers.ddim([0.1, 0.2])
    encoder = samplers.ddim_inversion(chain)
    with pytest.raises(ValueError, match="clipping is on, so start must lie in"):
        run(encoder, shape=None, start=jnp.full((2, 2), 9.0), clip=[-1, 1])
    with pytest.raises(ValueError, match="predict the shape of its input"):
        run(model=lambda x, t: jnp.concatenate([x, x], axis=-1))


@functools.cache
def truth():
    x = exact.draw(RING, jax.random.key(100), 20_000, jnp.float64)
    return np.asarray(x)


def judge(x):
    """Sliced distance on 64 fixed projections, width of the modes, surprise."""
    directions = np.random.default_rng(0).normal(size=(64, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    ours, theirs = (np.sort(v @ directions.T, axis=0) for v in (x, truth()))
    distance = np.abs(ours - theirs).mean()
    centres = RING.means
    near = ((x[:, None] - centres) ** 2).sum(-1).argmin(1)
    shares = np.bincount(near, minlength=8) / len(x)
    total_variation = np.abs(shares - RING.weights).sum() / 2
    width = np.sqrt(((x - centres[near]) ** 2).mean())
    surprise = -float(exact.log_density(RING, jnp.asarray(x)).mean())
    return distance, total_variation, width, surprise


class TestMixture:
    """The ring of eight modes with the exact network, 20,000 samples."""

    def run(self, sampler, chain="linear"):
        run = runner(chain, "ring", number=20_000, dtype=jnp.float32)
        return judge(np.asarray(run(jax.random.key(8), sampler).x, np.float64))

    def test_the_measure_sees_no_difference_in_true_samples(self):
        x = np.asarray(exact.draw(RING, jax.random.key(7), 20_000, jnp.float64))
        distance, total_variation, width, surprise = judge(x)
        assert distance < 0.024  # .0133 and three times its scatter
        assert total_variation < 0.015
        assert width == pytest.approx(0.2, abs=0.002)
        assert surprise == pytest.approx(1.555, abs=0.02)

    @pytest.mark.slow
    def test_a_thousand_ancestral_steps_pass(self):
        """The pass line, .02, and what it scatters by; modes 1.5 % too narrow."""
        distance, total_variation, width, surprise = self.run(samplers.ddpm(LINEAR))
        assert distance < 0.024
        assert total_variation < 0.016
        assert width == pytest.approx(0.1971, abs=0.0025)
        assert surprise == pytest.approx(1.527, abs=0.025)

    @pytest.mark.parametrize(
        ("name", "number", "spacing", "distance", "width", "surprise"),
        [
            ("ddpm", 50, "trailing", 0.0354, 0.1716, 1.284),
            ("ddim", 10, "trailing", 0.0779, 0.2172, 1.723),
            ("dpm_solver", 20, "multistep", 0.0382, 0.1575, 1.175),
            ("heun", 10, None, 0.1232, 0.2539, 2.180),
            pytest.param(
                *("heun", 40, None, 0.0172, 0.2014, 1.574), marks=pytest.mark.slow
            ),
            pytest.param(
                *("ddim", 50, "leading", 0.0222, 0.1919, 1.478),
                marks=pytest.mark.slow,
            ),
            pytest.param(
                *("dpm_solver", 10, "multistep", 0.0445, 0.1952, 1.502),
                marks=pytest.mark.slow,
            ),
            pytest.param(
                *("euler", 18, None, 0.0750, 0.2323, 1.902), marks=pytest.mark.slow
            ),
        ],
    )
    def test_few_steps_are_not_exact(
        self, name, number, spacing, distance, width, surprise
    ):
        """Each as far from the truth as it was measured to be, none closer."""
        chain = "edm" if spacing is None else "linear"
        levels = (
            samplers.edm_levels(schedules.edm_sigmas(number))
            if spacing is None
            else schedules.respace(LINEAR, number, spacing=spacing)
        )
        got = self.run(samplers.make(name, levels), chain)
        assert got[0] == pytest.approx(distance, abs=0.02)
        assert got[2] == pytest.approx(width, abs=0.004)
        assert got[3] == pytest.approx(surprise, abs=0.05)

    def test_the_two_predictors_bracket_the_width(self):
        """In two dimensions the published strength of the corrector widens."""
        chain = schedules.respace(LINEAR, 100)
        build = samplers.predictor_corrector
        got = self.run(build(chain, predictor="posterior"))
        assert got[0] == pytest.approx(0.0184, abs=0.012)
        assert got[2] == pytest.approx(0.1843, abs=0.004)
        assert got[3] == pytest.approx(1.403, abs=0.05)
        assert 0.2 < self.run(build(chain))[2] < 0.215
