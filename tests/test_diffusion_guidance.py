"""Guidance, conditions, inpainting and editing, against Gaussians known exactly."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gamedyn.diffusion import (
    exact,
    guidance,
    inpainting,
    process,
    samplers,
    sampling,
    schedules,
)

LINEAR = schedules.linear(1000)
CLASSES = (exact.mixture([[-1.0]], 0.3), exact.mixture([[1.0]], 0.5))
BOTH = exact.mixture([[-1.0], [1.0]], [0.3, 0.5])


def network(x, t, label):
    """The perfectly trained conditional network: classes 0 and 1, 2 for none."""
    laws = (*CLASSES, BOTH)
    each = jnp.stack([exact.model(law, LINEAR)(x, t) for law in laws])
    return each[label, jnp.arange(len(x))]


X = jnp.linspace(-2.0, 2.0, 6)[:, None]
T = jnp.array([5.0, 100.0, 300.0, 500.0, 700.0, 990.0])
LABELS = jnp.array([0, 1, 0, 1, 0, 1])


class TestClassifierFree:
    @staticmethod
    @functools.cache
    def parts():
        ask = jax.jit(network)
        return ask(X, T, LABELS), ask(X, T, jnp.full(6, 2))

    def test_both_conventions(self):
        """The traps of names: w is off at 0, s = 1 + w is off at 1."""
        with_it, without = self.parts()

        @jax.jit
        def guided(w, s):
            words = {"guidance": w} if s is None else {"scale": s}
            return guidance.classifier_free(network, LABELS, 2, **words)(X, T)

        by_w, by_s = guided(1.5, None), guided(None, 2.5)
        np.testing.assert_allclose(by_w, 2.5 * with_it - 1.5 * without, rtol=1e-10)
        np.testing.assert_allclose(by_w, by_s, rtol=1e-12)
        np.testing.assert_allclose(guided(0.0, None), with_it, rtol=1e-12)
        np.testing.assert_allclose(guided(None, 1.0), with_it, rtol=1e-12)
        np.testing.assert_allclose(guided(None, 0.0), without, rtol=1e-12)
        rows, w = guided(jnp.arange(6.0), None), jnp.arange(6.0)[:, None]
        np.testing.assert_allclose(rows, (1 + w) * with_it - w * without, rtol=1e-10)

    def test_limited_interval(self):
        with_it, without = self.parts()
        model = guidance.classifier_free(
            network, LABELS, 2, guidance=1.0, interval=(100, 500)
        )
        got = jax.jit(model)(X, T)
        inside = ((T >= 100) & (T <= 500))[:, None]
        expected = jnp.where(inside, 2 * with_it - without, with_it)
        np.testing.assert_allclose(got, expected, rtol=1e-10)

    def test_rescale(self):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 1)))
        condition = jnp.asarray([1.0, 2.0])

        def model(x, t, c):
            return jnp.sin(x * (1 + c.reshape(-1, 1, 1, 1)))

        t = jnp.zeros(2)
        got = guidance.classifier_free(
            model, condition, 0.0, guidance=3.0, rescale=0.7
        )(x, t)
        conditional, free = model(x, t, condition), model(x, t, 0 * condition)
        mixed = 4 * conditional - 3 * free
        for i in range(2):
            same = mixed[i] * np.std(conditional[i]) / np.std(mixed[i])
            expected = 0.7 * same + 0.3 * mixed[i]
            np.testing.assert_allclose(got[i], expected, rtol=1e-10)

    def test_learned_variance_is_not_guided(self):
        def model(x, t, label):
            nu = jnp.broadcast_to(label[:, None] / 7, x.shape)
            return jnp.concatenate([network(x, t, label), nu], axis=-1)

        got = jax.jit(
            guidance.classifier_free(
                model, LABELS, 2, guidance=1.5, learned_variance=True
            )
        )(X, T)
        with_it, without = self.parts()
        plain = 2.5 * with_it - 1.5 * without
        np.testing.assert_allclose(got[:, :1], plain, rtol=1e-12)
        np.testing.assert_allclose(got[:, 1], LABELS / 7)

    def test_off_reproduces_the_class_law_and_compiles_once(self):
        traces = []

        @jax.jit
        def run(key, sampler, weight, interval):
            traces.append(1)
            labels = jnp.ones(4000, jnp.int32)
            model = guidance.classifier_free(
                network, labels, 2, guidance=weight, interval=interval
            )
            return sampling.sample(key, model, sampler, (4000, 1), dtype=jnp.float64).x

        chain = schedules.respace(LINEAR, 50)
        sampler = samplers.ddim(chain)
        x = run(jax.random.key(0), sampler, 0.0, (0.0, 1000.0))
        mean, deviation = exact.affine_map(sampler, 1.0, 0.5).moments(0.0, 1.0)
        assert float(x.mean()) == pytest.approx(mean, abs=0.03)
        assert float(x.std()) == pytest.approx(deviation, abs=0.025)
        pushed = run(jax.random.key(0), sampler, 3.0, (0.0, 1000.0))
        assert float(pushed.mean()) > 1.05
        limited = run(jax.random.key(0), sampler, 3.0, (0.0, -1.0))
        np.testing.assert_allclose(limited, x, atol=1e-12)
        other = schedules.respace(LINEAR, 50, spacing="leading")
        run(jax.random.key(0), samplers.ddim(other, eta=0.5), 1.0, (200.0, 800.0))
        assert len(traces) == run._cache_size() == 1

    def test_conditions_are_any_tree(self):
        condition = {"text": jnp.ones((2, 3, 4)), "class": jnp.array([1, 2])}
        null = {"text": jnp.zeros(4), "class": 9}
        wide = guidance.null_like(null, condition)
        assert wide["text"].shape == (2, 3, 4)
        assert float(jnp.abs(wide["text"]).max()) == 0
        assert wide["class"].tolist() == [9, 9]
        assert wide["class"].dtype == condition["class"].dtype
        same = guidance.null_like(0, condition)
        assert same["class"].tolist() == [0, 0]
        with pytest.raises(ValueError, match="one example's"):
            guidance.null_like(jnp.zeros(2), jnp.ones(2))
        with pytest.raises(ValueError, match="null condition of the structure"):
            guidance.null_like((1, 2, 3), condition)

    def test_refusals_and_warning(self):
        for words in ({}, {"guidance": 1.0, "scale": 2.0}):
            with pytest.raises(ValueError, match="either guidance"):
                guidance.classifier_free(network, LABELS, 2, **words)
        with pytest.warns(UserWarning, match="never seen the null condition"):
            guidance.classifier_free(
                network, LABELS, 2, guidance=1.0, condition_dropout=0.0
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            guidance.classifier_free(
                network, LABELS, 2, guidance=1.0, condition_dropout=0.1
            )


def log_probability(wanted):
    """log p(y | x_t) of two equally likely classes, exactly."""

    def of(x, t):
        index = jnp.round(t).astype(int)
        a, s = jnp.asarray(LINEAR.signal)[index], jnp.asarray(LINEAR.noise)[index]
        logs = jnp.stack([exact.log_density(law, x, a, s) for law in CLASSES])
        return jax.nn.log_softmax(logs, axis=0)[wanted]

    return of


class TestClassifier:
    @pytest.mark.parametrize("kind", process.PREDICTIONS)
    def test_bayes(self, kind):
        """Score of the mixture plus gradient of the classifier: score of the class."""
        free = exact.model(BOTH, LINEAR, kind)
        guided = guidance.classifier(
            free, log_probability(1), 1.0, LINEAR, prediction=kind
        )
        np.testing.assert_allclose(
            jax.jit(guided)(X, T),
            jax.jit(exact.model(CLASSES[1], LINEAR, kind))(X, T),
            rtol=1e-8,
        )

    def test_the_shifted_mean(self):
        hook = guidance.classifier_mean(log_probability(0), 1.0)
        sampler = samplers.ddpm(schedules.respace(LINEAR, 200))
        x = jax.jit(
            lambda key, sampler: (
                sampling.sample(
                    key,
                    exact.model(BOTH, LINEAR),
                    sampler,
                    (2000, 1),
                    hook=hook,
                    dtype=jnp.float64,
                ).x
            )
        )(jax.random.key(0), sampler)
        assert float(x.mean()) == pytest.approx(-1, abs=0.04)
        assert float(x.std()) == pytest.approx(0.3, abs=0.04)
        with pytest.raises(ValueError, match="this sampler adds none"):
            sampling.sample(
                jax.random.key(0),
                exact.model(BOTH, LINEAR),
                samplers.dpm_solver(schedules.respace(LINEAR, 5)),
                (2, 1),
                hook=hook,
            )


def test_concatenated_conditions():
    apply = guidance.concatenated(lambda params, x, t: params * x.sum(-1) + t[:, None])
    x, c = jnp.ones((2, 3, 1)), jnp.full((2, 3, 2), 2.0)
    got = apply(jnp.asarray(2.0), x, jnp.array([0.0, 1.0]), c)
    np.testing.assert_allclose(got, [[10] * 3, [11] * 3])
    with pytest.raises(ValueError, match="last axis only"):
        apply(1.0, x, jnp.zeros(2), c[:, :2])
    fixed = guidance.conditioned(lambda x, t, c: x + c, 2.0)
    assert float(fixed(jnp.ones(()), None)) == 3


# x ~ N(0, [[1, .8], [.8, 1]]) with x2 = 1.5 known: x1 ~ N(1.2, .6^2).
PAIR = exact.mixture([[0.0, 0.0]], [[[1.0, 0.8], [0.8, 1.0]]])
KNOWN, MASK = jnp.array([0.0, 1.5]), jnp.array([0.0, 1.0])
CHAIN = schedules.respace(LINEAR, 250)


@jax.jit
def posterior_of(rows):
    """Mean and covariance through the library's own steps, by recursion.

    Each row is affine in x and three draws of noise: nine examples find its map.
    """

    def apply(row, x, noises):
        before, after, known = noises
        x = row.lift * x + row.spread * before
        said = sampling.read(row, x, exact.predict(PAIR, x, row.signal, row.noise))
        x = sampling.step(row, x, said, noise=after)
        return inpainting.overwritten(x, KNOWN, MASK, row, known)

    def body(carry, row):
        mean, covariance = carry
        units = jnp.eye(9)[:, 1:]  # the first example is zero
        points = apply(row, units[:, :2], jnp.split(units[:, 2:], 3, axis=1))
        offset = points[0]
        columns = (points[1:] - offset[None]).T
        move, spread = columns[:, :2], columns[:, 2:]
        mean = move @ mean + offset
        return (mean, move @ covariance @ move.T + spread @ spread.T), None

    (mean, covariance), _ = jax.lax.scan(body, (jnp.zeros(2), jnp.eye(2)), rows)
    return mean, covariance


def posterior_by_quadrature(chain, sampler, limit, grid):
    """Mean and deviation of x1, estimates of it clipped to [-limit, limit].

    After every overwriting x2 is N(a 1.5, s^2), whatever x1 is: x1 is a Markov chain
    on the line, and its density is moved from level to level. Given x1, the estimate
    u = g x + g' x2 is normal; clipped it has two atoms. The step is c u + c' x1 plus
    noise.
    """
    betas = chain.betas
    share = np.cumprod(1 - betas)
    width, here, there = grid[1] - grid[0], grid[None], grid[:, None]
    ndtr = scipy.special.ndtr

    def normal(x, variance):
        return np.exp(-(x**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    @functools.lru_cache(maxsize=16)
    def estimate(level, fresh):
        a, s2 = np.sqrt(share[level]), 1 - share[level]
        sigma = np.array([[1, 0.8], [0.8, 1]])
        gains = a * sigma @ np.linalg.inv(a**2 * sigma + s2 * np.eye(2))
        mean, variance = (0.0, 1.0) if fresh else (1.5 * a, s2)
        centre, spread = gains[0, 0] * here + gains[0, 1] * mean, gains[0, 1] ** 2
        spread = np.sqrt(spread * variance)
        atoms = (ndtr((side * centre - limit) / spread) for side in (-1, 1))
        return centre, spread, *atoms

    @functools.lru_cache(maxsize=16)
    def kernel(level, fresh):
        centre, spread, below, above = estimate(level, fresh)
        before, noise = share[level - 1], 1 - share[level]
        c = np.sqrt(before) * betas[level] / noise
        rest = there - np.sqrt(1 - betas[level]) * (1 - before) / noise * here
        variance = betas[level] * (1 - before) / noise
        total = (c * spread) ** 2 + variance
        # Between the atoms: a normal law of u, seen through noise, cut off.
        best = centre + c * spread**2 * (rest - c * centre) / total
        scale = spread * np.sqrt(variance / total)
        cut = ndtr((limit - best) / scale) - ndtr((-limit - best) / scale)
        return width * (
            below * normal(rest + c * limit, variance)
            + above * normal(rest - c * limit, variance)
            + cut * normal(rest - c * centre, total)
        )

    density, last = normal(grid, 1.0), None
    for level in np.searchsorted(chain.times, sampler.rows.time):
        if last is not None and level != last - 1:  # a jump up
            kept = share[level] / share[last - 1]
            up = normal(there - np.sqrt(kept) * here, 1 - kept)
            density = width * up @ density
        if level:
            density = kernel(level, last is None) @ density
        last = level
    centre, spread, _, _ = estimate(0, False)  # the last step is the estimate alone
    nodes = np.linspace(-9, 9, 1001)
    u = np.clip(centre[0][:, None] + spread * nodes, -limit, limit)
    first, second = (
        width * density @ (u**k @ normal(nodes, 1.0)) * (nodes[1] - nodes[0])
        for k in (1, 2)
    )
    return first, np.sqrt(second - first**2)


class TestInpainting:
    @pytest.mark.parametrize(
        ("resamples", "jump", "evaluations", "mean", "deviation"),
        [
            (1, 10, 250, 0.744264, 0.690965),
            (10, 1, 2491, 1.149841, 0.573921),
            (10, 10, 2410, 1.145073, 0.580059),
        ],
    )
    def test_posterior_exactly(self, resamples, jump, evaluations, mean, deviation):
        sampler = inpainting.repaint(CHAIN, jump_length=jump, resamples=resamples)
        assert sampler.num_evaluations == evaluations
        rows = jax.tree.map(jnp.asarray, sampler.rows)
        got, covariance = posterior_of(rows)
        assert float(got[0]) == pytest.approx(mean, abs=2e-6)
        assert float(jnp.sqrt(covariance[0, 0])) == pytest.approx(deviation, abs=2e-6)
        assert float(got[1]) == pytest.approx(1.5, abs=1e-9)
        assert float(covariance[1, 1]) == pytest.approx(0, abs=1e-9)

    CASES = (
        (50, 4, 5, 401, 10_000),
        pytest.param(250, 10, 10, 901, 5000, marks=pytest.mark.slow),
    )

    @pytest.mark.parametrize(("number", "resamples", "jump", "points", "size"), CASES)
    def test_clipped_posterior(self, number, resamples, jump, points, size):
        """Clipped estimates make it nonlinear: the density of x1 by quadrature."""
        chain = schedules.respace(LINEAR, number)
        sampler = inpainting.repaint(chain, jump_length=jump, resamples=resamples)
        grid = np.linspace(-6, 6, points)
        # In a range that holds everything it is the recursion above.
        wide = posterior_by_quadrature(chain, sampler, 40.0, grid)
        rows = jax.tree.map(jnp.asarray, sampler.rows)
        mean, covariance = posterior_of(rows)
        expected = float(mean[0]), float(jnp.sqrt(covariance[0, 0]))
        assert wide == pytest.approx(expected, abs=2e-6)
        narrow = posterior_by_quadrature(chain, sampler, 1.6, grid)
        for clip, (mean, deviation) in ((None, wide), (1.6, narrow)):
            x = self.painted(clip, size)(jax.random.key(3), sampler)
            np.testing.assert_allclose(x[:, 1], 1.5, rtol=1e-6)
            error = deviation / np.sqrt(size)
            assert float(x[:, 0].mean()) == pytest.approx(mean, abs=4 * error)
            assert float(x[:, 0].std()) == pytest.approx(deviation, abs=4 * error)
        assert np.subtract(wide, narrow).min() > 0.02  # far more than the scatter

    @staticmethod
    @functools.cache
    def painted(limit, size):
        clip = None if limit is None else (-limit, limit)
        hook = inpainting.replacement(KNOWN, MASK, clip=clip)
        model = exact.model(PAIR, LINEAR)
        return jax.jit(
            lambda key, sampler: (
                sampling.sample(key, model, sampler, (size, 2), clip=clip, hook=hook).x
            )
        )

    def test_a_range_without_the_data_is_refused_or_wrong(self):
        with pytest.raises(ValueError, match=r"known must lie in \[-1.0, 1.0\]"):
            inpainting.replacement(KNOWN, MASK, clip=(-1.0, 1.0))
        with pytest.raises(ValueError, match=r"known must lie in \[-1.0, 1.0\]"):
            sampling.sample(
                jax.random.key(0),
                exact.model(PAIR, LINEAR),
                samplers.ddim(CHAIN),
                (2, 2),
                clip=(-1.0, 1.0),
                hook=inpainting.replacement(KNOWN, MASK),
            )
        with pytest.raises(ValueError, match="guide must lie in"):
            inpainting.edit(
                jax.random.key(0),
                exact.model(PAIR, LINEAR),
                samplers.ddim(CHAIN),
                KNOWN[None],
                0.5,
                clip=(-1.0, 1.0),
            )

    def test_every_level_is_visited_as_often_as_the_paper_says(self):
        sampler = inpainting.repaint(CHAIN, jump_length=10, resamples=3)
        times, visits = np.unique(sampler.rows.time, return_counts=True)
        np.testing.assert_array_equal(times, CHAIN.times)
        assert visits[0] == 1
        assert set(visits[1:241]) == {3}
        assert set(visits[241:]) == {1}
        lifts = sampler.rows.lift
        np.testing.assert_allclose(lifts**2 + sampler.rows.spread**2, 1)
        assert np.sum(lifts != 1) == 2 * 24

    def test_masks(self):
        row = jax.tree.map(
            lambda leaf: jnp.asarray(leaf[-1]), samplers.ddpm(CHAIN).rows
        )
        x, known = jnp.zeros((2, 4, 3, 2)), jnp.ones((2, 4, 3, 2))
        for shape in ((4, 3, 2), (4, 3, 1), (2, 4, 3, 2), (3, 1), (2, 1, 1, 1)):
            mask = jnp.asarray(np.random.default_rng(0).integers(0, 2, shape), float)
            hook = inpainting.replacement(known, mask)
            got = hook(jax.random.key(0), x, x, row)
            np.testing.assert_array_equal(got, np.broadcast_to(mask, x.shape))
        for shape in ((4, 4, 2), (1, 2, 4, 3, 2), (3,), (5, 1, 1)):
            with pytest.raises(
                ValueError, match="mask must have the shape of the data"
            ):
                inpainting.replacement(known, jnp.ones(shape))
        with pytest.raises(ValueError, match="1 where data are known"):
            inpainting.replacement(known, jnp.full((4, 3, 2), 2.0))
        with pytest.raises(ValueError, match="shape of the samples"):
            inpainting.replacement(known[:, :1], jnp.ones(()))(
                jax.random.key(0), x, x, row
            )

    def test_refusals(self):
        with pytest.raises(ValueError, match="positive integer"):
            inpainting.repaint(CHAIN, jump_length=0)
        with pytest.raises(ValueError, match="a jump of 10 .* a chain of 5"):
            inpainting.repaint(schedules.respace(LINEAR, 5))
        with pytest.raises(ValueError, match="one evaluation and no memory"):
            inpainting.repaint(CHAIN, build=samplers.heun)
        with pytest.raises(ValueError, match="one evaluation and no memory"):
            inpainting.repaint(CHAIN, build=samplers.dpm_solver)


class TestEditing:
    @pytest.mark.parametrize("name", ["ddim", "heun"])
    def test_both_ends(self, name):
        """Nothing done returns the guide; everything done forgets it."""
        chain = schedules.respace(LINEAR, 30)
        sampler = samplers.make(name, chain)
        model = exact.model(BOTH, LINEAR)
        guide = jnp.full((500, 1), 0.7)
        run = functools.partial(
            inpainting.edit, jax.random.key(0), model, sampler, guide
        )
        np.testing.assert_array_equal(run(0.0), guide)
        whole = run(1.0)
        assert float((whole < 0).mean()) == pytest.approx(0.5, abs=0.08)
        part = run(0.1)
        assert float((part > 0).mean()) > 0.95
        with pytest.raises(ValueError, match="strength must lie in"):
            run(1.1)

    def test_ilvr_keeps_what_is_coarse(self):
        rng = np.random.default_rng(0)
        reference = jnp.asarray(np.kron(rng.uniform(-1, 1, (2, 2)), np.ones((4, 4))))
        reference = jnp.broadcast_to(reference[None, :, :, None], (3, 8, 8, 1))

        def model(x, t):
            return x  # of noise alone: the data are zero

        sampler = samplers.ddim(schedules.respace(LINEAR, 20))

        def means(x):
            return x.reshape(3, 2, 4, 2, 4).mean((2, 4))

        hook = inpainting.ilvr(reference, 4, method="linear")
        x = jax.jit(
            lambda key: (
                sampling.sample(
                    key, model, sampler, (3, 8, 8, 1), hook=hook, dtype=jnp.float64
                ).x
            )
        )(jax.random.key(0))

        def down(x):
            return jax.image.resize(x, (3, 2, 2, 1), "linear")

        row = jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), sampler.rows)
        once = hook(jax.random.key(0), jnp.zeros_like(x), x, row)
        up = jax.image.resize(down(reference), x.shape, "linear")
        np.testing.assert_allclose(once, up, atol=1e-9)
        assert (
            float(jnp.corrcoef(means(x).ravel(), means(reference).ravel())[0, 1]) > 0.9
        )
        off = inpainting.ilvr(reference, 4, stop=2000)
        same = off(jax.random.key(0), x, x, row)
        np.testing.assert_array_equal(same, x)
        with pytest.raises(ValueError, match="multiples of 3"):
            inpainting.ilvr(reference, 3)
