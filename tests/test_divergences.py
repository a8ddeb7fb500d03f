"""Divergences: known digits, properties, gradients, dtypes, bad input."""

import functools
import itertools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from jax.scipy.stats import norm

from gamedyn import divergences as dv
from gamedyn.gan import theory

LOG_2 = math.log(2)
FLOATS = [jnp.float32, jnp.float64]

seeds = st.integers(0, 2**31)


def distribution(rng, n, zeros=False):
    weights = rng.exponential(size=n) * (rng.uniform(size=n) > (0.3 if zeros else 0))
    weights[rng.integers(n)] += 0.1
    return weights / weights.sum()


def cloud(rng, n, d=2, shift=0.0):
    return rng.normal(size=(n, d)) + shift


def covariance(rng, d, rank=None):
    factor = rng.normal(size=(d, rank or d))
    return factor @ factor.T


# ---- worked cases: discrete distributions and the line

P = jnp.array([0.1, 0.2, 0.3, 0.4])
Q = jnp.full(4, 0.25)
Q0 = jnp.array([0.5, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("divergence", "p", "q", "expected"),
    [
        (dv.kullback_leibler, P, Q, 0.10644013528622),
        (dv.kullback_leibler, Q, P, 0.12177727428717),
        (dv.reverse_kullback_leibler, P, Q, 0.12177727428717),
        (dv.jensen_shannon, P, Q, 0.027865613457277),
        (theory.value_at_optimum, P, Q, -1.3305631342053),
        (dv.total_variation, P, Q, 0.2),
        (dv.kullback_leibler, P, Q0, math.inf),
        (dv.kullback_leibler, Q0, P, 1.2628643221541),
        (dv.jensen_shannon, P, Q0, 0.34858446189521),
        (dv.total_variation, P, Q0, 0.7),
        (dv.jensen_shannon, Q0, Q0[::-1], 0.69314718055995),
    ],
)
def test_discrete_digits(divergence, p, q, expected):
    np.testing.assert_allclose(divergence(p, q), expected, rtol=1e-12)


def test_optimal_discriminator_digits():
    expected = [0.2857142857, 0.4444444444, 0.5454545455, 0.6153846154]
    best = theory.optimal_discriminator(P, Q)
    np.testing.assert_allclose(best, expected, rtol=1e-9)
    np.testing.assert_allclose(
        theory.optimal_discriminator_from_log(jnp.log(P), jnp.log(Q)), best, rtol=1e-14
    )
    np.testing.assert_allclose(theory.value(best, P, Q), -1.3305631342053, rtol=1e-12)


def normal_grid(dtype=None):
    x, step = jnp.linspace(-18, 18, 4001, retstep=True, dtype=dtype)
    measure = jnp.full(x.shape, step)
    return norm.pdf(x), norm.pdf(x, 1, 2), measure


def test_two_normals_digits():
    first, second, measure = normal_grid()
    js = dv.jensen_shannon(first, second, measure=measure)
    np.testing.assert_allclose(js, 0.128174973054, rtol=1e-11)
    zero, one, unit = jnp.zeros(1), jnp.ones(1), jnp.eye(1)
    kl = dv.gaussian_kullback_leibler(zero, unit, one, 4 * unit)
    np.testing.assert_allclose(kl, 0.44314718055995, rtol=1e-13)
    np.testing.assert_allclose(
        dv.kullback_leibler(first, second, measure=measure), kl, rtol=1e-11
    )
    w2 = dv.gaussian_wasserstein_squared(zero, unit, one, 4 * unit)
    np.testing.assert_allclose(w2, 2, rtol=1e-14)


def test_wasserstein_1d_of_two_normals():
    # Equal masses at the quantiles of the middles: the integral's midpoint rule.
    quantiles = scipy.stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    w1 = dv.wasserstein_1d(quantiles, 1 + 2 * quantiles)
    np.testing.assert_allclose(w1, 1.1666309411754, rtol=1e-5)


def test_energy_distance_digits():
    x, y = jnp.array([0.0, 2.0, 5.0]), jnp.array([1.0, 1.5])
    value = dv.energy_distance_squared(x[:, None], y[:, None])
    np.testing.assert_allclose(value, 1.361111111111, rtol=1e-12)
    np.testing.assert_allclose(
        value, scipy.stats.energy_distance(x, y) ** 2, rtol=1e-12
    )


# ---- worked cases: transport between weighted clouds

X = np.array([[0.0, 0], [1, 0], [0, 2]])
Y = np.array([[1.0, 1], [2, 0], [0, -1], [3, 2]])
A = np.array([0.5, 0.25, 0.25])


def test_discrete_transport_digits():
    np.testing.assert_allclose(dv.wasserstein(X, Y, A), 1.603553390593, rtol=1e-12)
    result = dv.kantorovich_rubinstein(X, Y, A)
    np.testing.assert_allclose(result.value, 1.603553390593, rtol=1e-12)
    np.testing.assert_allclose(
        dv.wasserstein(X, Y, A, p=2, root=False), 3.25, rtol=1e-12
    )
    np.testing.assert_allclose(dv.wasserstein(X, Y, A, p=2), 3.25**0.5, rtol=1e-12)
    # The heavy point split in two: four against four.
    split = X[[0, 0, 1, 2]]
    brute = min(
        np.linalg.norm(split - Y[list(order)], axis=1).mean()
        for order in itertools.permutations(range(4))
    )
    np.testing.assert_allclose(brute, 1.603553390593, rtol=1e-12)


# ---- worked cases: Gaussians

M1, M2 = jnp.array([0.0, 1, 2]), jnp.array([1.0, 1, 0])
S1 = jnp.array([[2, 0.5, 0], [0.5, 1, 0.3], [0, 0.3, 1.5]])
S2 = jnp.array([[1, 0, 0.2], [0, 2, -0.4], [0.2, -0.4, 3]])


def test_frechet_digits():
    value = dv.gaussian_wasserstein_squared(M1, S1, M2, S2)
    np.testing.assert_allclose(value, 5.8517329112903, rtol=1e-13)
    root = (jnp.sum((M1 - M2) ** 2) + jnp.trace(S1) + jnp.trace(S2) - value) / 2
    np.testing.assert_allclose(root, 4.8241335443549, rtol=1e-13)


# ---- worked cases: kernels, precision and recall

KERNEL_X = jnp.array([[1.0, 0], [0, 1], [1, 1], [2, -1]])
KERNEL_Y = jnp.array([[0.0, 0], [1, 2], [-1, 1]])


@pytest.mark.parametrize(
    ("kernel", "biased", "expected"),
    [
        (dv.kid_kernel, False, -1.0625),
        (dv.kid_kernel, True, 6.903645833333),
        (dv.rbf_kernel(1.0), True, 0.356891901597),
        (dv.rbf_kernel(1.0), False, -0.081940625831),
    ],
)
@pytest.mark.parametrize("block", [None, 1, 3])
def test_kernel_digits(kernel, biased, expected, block):
    value = dv.maximum_mean_discrepancy_squared(
        KERNEL_X, KERNEL_Y, kernel, biased=biased, block=block
    )
    np.testing.assert_allclose(value, expected, rtol=2e-11)


def test_precision_and_recall_digits():
    real = jnp.array([[0.0, 0], [1, 0], [0, 1], [5, 5]])
    fake = jnp.array([[0.5, 0], [0, 0.4], [12, 12], [12, 12.5]])
    found = dv.precision_recall(generated=fake, reference=real, num_neighbours=1)
    assert found == (0.5, 0.75)
    swapped = dv.precision_recall(generated=real, reference=fake, num_neighbours=1)
    assert swapped == (0.75, 0.5)


def test_precision_and_recall_outlier_and_duplicates():
    reference = jnp.array([0.0, 1, 2, 3])[:, None]
    generated = jnp.array([0.5, 10, 10.5, 11])[:, None]
    found = dv.precision_recall(
        generated=generated, reference=reference, num_neighbours=1
    )
    assert found == (0.25, 1.0)
    same = jnp.ones((10, 2))
    assert dv.precision_recall(generated=same, reference=same) == (1.0, 1.0)


# ---- properties of discrete divergences


@hypothesis.given(seeds, st.sampled_from([1, 2, 6]))
def test_discrete_properties(seed, n):
    rng = np.random.default_rng(seed)
    p, q = distribution(rng, n, zeros=True), distribution(rng, n, zeros=True)
    kl, js, tv = (
        f(p, q).item()
        for f in (dv.kullback_leibler, dv.jensen_shannon, dv.total_variation)
    )
    assert kl >= -1e-15
    assert math.isinf(kl) == bool(np.any((q == 0) & (p > 0)))
    assert -1e-15 <= js <= LOG_2 + 1e-15
    assert js == pytest.approx(dv.jensen_shannon(q, p).item(), abs=1e-15)
    assert tv <= math.sqrt(max(kl, 0) / 2) + 1e-7  # Pinsker
    best = theory.optimal_discriminator(p, q)
    assert theory.value(best, p, q).item() == pytest.approx(
        -math.log(4) + 2 * js, abs=1e-14
    )
    # No other discriminator is better.
    assert theory.value(rng.uniform(size=n), p, q) <= theory.value(best, p, q) + 1e-15


def everything(dtype):
    """Every divergence as a function of two weight vectors, or of two clouds."""
    key = jax.random.key(0)
    x = jnp.array([[0.0, 0], [1, 0.5], [-1, 2], [0.5, -1]], dtype)
    y = jnp.array([[0.2, 0.1], [1.5, 0], [-1.3, -2], [3, 1]], dtype)
    p, q = (
        jnp.array([0.1, 0.2, 0.3, 0.4], dtype),
        jnp.array([0.4, 0.1, 0.2, 0.3], dtype),
    )
    s = jnp.array([[2, 0.5], [0.5, 1]], dtype)
    t = jnp.array([[1, -0.2], [-0.2, 3]], dtype)
    kernel = dv.rbf_kernel(1.0)
    epsilon = 0.5
    return {
        "kl": (dv.kullback_leibler, (p,), (q,)),
        "reverse kl": (dv.reverse_kullback_leibler, (p,), (q,)),
        "js": (dv.jensen_shannon, (p,), (q,)),
        "tv": (dv.total_variation, (p,), (q,)),
        "gaussian kl": (dv.gaussian_kullback_leibler, (x[0], s), (y[0], t)),
        "gaussian w2": (dv.gaussian_wasserstein_squared, (x[0], s), (y[0], t)),
        "frechet": (dv.frechet_squared, (x,), (y,)),
        "w1 line": (dv.wasserstein_1d, (x[:, 0],), (y[:, 0],)),
        "w2 line": (
            lambda a, b: dv.wasserstein_1d(a, b, p, p, p=2), (x[:, 0],), (y[:, 0],)
        ),
        "w1.5 line": (
            lambda a, b: dv.wasserstein_1d(a, b, p=1.5), (x[:, 0],), (y[:, 0],)
        ),
        "w1 weights": (
            lambda a, b: dv.wasserstein_1d(x[:, 0], x[:, 0], a, b), (p,), (q,)
        ),
        "sliced": (
            lambda a, b: dv.sliced_wasserstein(key, a, b, num_directions=20), (x,), (y,)
        ),
        "sinkhorn divergence": (
            lambda a, b: dv.sinkhorn_divergence(a, b, epsilon=epsilon).value, (x,), (y,)
        ),
        "sinkhorn weights": (
            lambda a, b: dv.sinkhorn_divergence(x, x, a, b, epsilon=epsilon).value,
            (p,),
            (q,),
        ),
        "mmd rbf": (
            lambda a, b: dv.maximum_mean_discrepancy_squared(a, b, kernel, biased=True),
            (x,),
            (y,),
        ),
        "mmd kid": (
            lambda a, b: dv.maximum_mean_discrepancy_squared(
                a, b, dv.kid_kernel, biased=True
            ),
            (x,),
            (y,),
        ),
        "energy": (dv.energy_distance_squared, (x,), (y,)),
    }  # fmt: skip


NAMES = sorted(everything(jnp.float32))


def check_slope(function, arguments):
    """Compare a gradient with a difference quotient, along one direction.

    The direction keeps the mass of weights and the symmetry of covariances.
    """
    rng = np.random.default_rng(0)

    def direction(leaf):
        step = rng.normal(size=leaf.shape)
        if leaf.ndim == 1:
            return step - step.mean()
        return step + step.T if leaf.shape in [(2, 2), (3, 3)] else step

    both = jax.jit(jax.value_and_grad(function))
    arguments = jax.tree.map(jnp.asarray, arguments)
    steps = jax.tree.map(direction, arguments)
    ahead, behind = (
        both(
            jax.tree.map(lambda z, s, sign=sign: z + sign * 1e-5 * s, arguments, steps)
        )
        for sign in (1.0, -1.0)
    )
    quotient = (ahead[0] - behind[0]) / 2e-5
    slope = sum(
        jnp.vdot(g, s).item()
        for g, s in zip(
            jax.tree.leaves(both(arguments)[1]), jax.tree.leaves(steps), strict=True
        )
    )
    assert slope == pytest.approx(quotient.item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_every_divergence(name, dtype):
    """Dtype kept, zero on equal inputs, positive else, finite gradients at both."""
    function, first, second = everything(dtype)[name]

    def divergence(pair):
        return function(*pair[0], *pair[1])

    both = jax.jit(jax.value_and_grad(divergence))
    value, gradient = both((first, second))
    assert value.dtype == dtype
    assert value > 1e-3
    zero, gradient_at_zero = both((first, first))
    scale = float(jnp.finfo(dtype).eps)
    if "sinkhorn" in name:
        assert abs(zero) <= scale**0.6  # its tolerance
    else:
        assert abs(zero) <= (1000 if "kid" in name else 20) * scale
    for leaf in jax.tree.leaves((gradient, gradient_at_zero)):
        assert leaf.dtype == dtype
        assert jnp.all(jnp.isfinite(leaf))
    if dtype == jnp.float64:
        np.testing.assert_allclose(value, divergence((first, second)), rtol=1e-9)
        check_slope(divergence, (first, second))


@pytest.mark.parametrize("name", ["kl", "js", "w1 line", "w2 line", "gaussian kl"])
def test_under_vmap(name):
    function, first, second = everything(jnp.float64)[name]
    stacked = [jnp.stack([a, b]) for a, b in zip(first, second, strict=True)]
    swapped = [leaf[::-1] for leaf in stacked]
    values = jax.vmap(function)(*stacked, *swapped)
    np.testing.assert_allclose(values[0], function(*first, *second), rtol=1e-13)
    np.testing.assert_allclose(values[1], function(*second, *first), rtol=1e-13)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_at_zero_probability(dtype):
    p = jnp.array([0.5, 0.5, 0, 0], dtype)
    q = jnp.array([0.5, 0.25, 0.25, 0], dtype)
    for divergence in (dv.kullback_leibler, dv.jensen_shannon, dv.total_variation):
        for pair in ((p, q), (q, p)):
            for gradient in jax.jit(jax.grad(divergence, (0, 1)))(*pair):
                assert jnp.all(jnp.isfinite(gradient))
    slope = jax.grad(dv.kullback_leibler)(p, q)
    np.testing.assert_allclose(slope, [1, LOG_2 + 1, 0, 0], rtol=1e-6)


def test_disjoint_supports_give_infinity_not_nan():
    p, q = Q0, Q0[::-1]
    for function in (dv.kullback_leibler, jax.jit(dv.kullback_leibler)):
        assert function(p, q) == jnp.inf
        assert function(q, p) == jnp.inf
    assert dv.total_variation(p, q) == 1
    assert dv.jensen_shannon(p, q) == pytest.approx(LOG_2, rel=1e-15)
    certain = theory.optimal_discriminator(p, q)
    assert theory.value(certain, p, q) == 0
    assert theory.value(1 - certain, p, q) == -jnp.inf

    estimate = dv.estimate_kullback_leibler(
        jax.random.key(0),
        lambda x: norm.logpdf(x),
        lambda x: jnp.where(x > 0, jnp.log(2.0) + norm.logpdf(x), -jnp.inf),
        jax.random.normal,
        num_samples=100,
    )
    assert estimate == (jnp.inf, jnp.inf, 100)


def test_batches_of_distributions():
    p, q = jnp.stack([P, Q]), jnp.stack([Q, P])
    np.testing.assert_allclose(
        dv.kullback_leibler(p, q), [0.10644013528622, 0.12177727428717], rtol=1e-12
    )


def test_tiny_probabilities():
    for small in (1e-17, 1e-300, 5e-324):
        tiny = np.array([1 - small, small])
        js = dv.jensen_shannon(tiny, tiny[::-1])
        assert js == pytest.approx(LOG_2, rel=1e-15)
        assert dv.kullback_leibler(tiny, Q0[:2]) == pytest.approx(LOG_2)
        assert dv.kullback_leibler(tiny, tiny) == 0


# ---- Monte Carlo


def test_monte_carlo_within_its_standard_error():
    def log_q(x):
        return norm.logpdf(x, 1.0, 2.0)

    def sample_q(key):
        return 1 + 2 * jax.random.normal(key)

    first, second, measure = normal_grid()
    options = {"num_samples": 20_000}
    both = (norm.logpdf, log_q, jax.random.normal, sample_q)
    key = jax.random.key(1)
    for estimate, exact in [
        (
            dv.estimate_kullback_leibler(key, *both[:3], **options),
            0.44314718055995,
        ),
        (dv.estimate_jensen_shannon(key, *both, **options), 0.128174973054),
        (
            dv.estimate_total_variation(key, *both, **options),
            dv.total_variation(first, second, measure=measure).item(),
        ),
    ]:
        assert 0 < estimate.standard_error < 0.02
        assert abs(estimate.value - exact) < 4 * estimate.standard_error
        assert estimate.num_samples == 20_000


def test_monte_carlo_standard_error_is_right():
    """Over many runs, the estimates scatter as each says it does."""

    def run(key):
        return dv.estimate_jensen_shannon(
            key,
            norm.logpdf,
            lambda x: norm.logpdf(x, 1.0, 2.0),
            jax.random.normal,
            lambda key: 1 + 2 * jax.random.normal(key),
            num_samples=500,
        )

    runs = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(2), 1000))
    assert jnp.std(runs.value) == pytest.approx(
        jnp.mean(runs.standard_error).item(), rel=0.08
    )
    off = abs(jnp.mean(runs.value) - 0.128174973054)
    assert off < 4 * jnp.std(runs.value) / 1000**0.5


def test_monte_carlo_of_equal_and_disjoint_densities():
    def at(mean):
        return lambda x: norm.logpdf(x, mean), lambda key: mean + jax.random.normal(key)

    (log_p, sample_p), (log_q, sample_q) = at(0.0), at(200.0)
    key = jax.random.key(3)
    for function in (dv.estimate_jensen_shannon, dv.estimate_total_variation):
        same = function(key, log_p, log_p, sample_p, sample_p, num_samples=10)
        assert same == (0, 0, 10)
        apart = function(key, log_p, log_q, sample_p, sample_q, num_samples=10)
        limit = LOG_2 if function is dv.estimate_jensen_shannon else 1
        assert apart.value == pytest.approx(limit, rel=1e-15)


def test_monte_carlo_gradients():
    """By reparametrisation, the gradient in the mean of p is that of KL, m / 4."""

    def divergence(mean):
        return dv.estimate_kullback_leibler(
            jax.random.key(0),
            lambda x: norm.logpdf(x, mean),
            lambda x: norm.logpdf(x, 0.0, 2.0),
            lambda key: mean + jax.random.normal(key),
            num_samples=20_000,
        ).value

    assert jax.grad(divergence)(1.0) == pytest.approx(0.25, abs=0.01)
    distant = jax.grad(
        lambda mean: (
            dv.estimate_total_variation(
                jax.random.key(0),
                norm.logpdf,
                lambda x: norm.logpdf(x, mean),
                jax.random.normal,
                lambda key: mean + jax.random.normal(key),
                num_samples=10,
            ).value
        )
    )(100.0)
    assert distant == 0


# ---- Gaussians


def frechet_by_roots(mean0, s0, mean1, s1):
    root = scipy.linalg.sqrtm(s0).real
    inner = np.linalg.eigvalsh(root @ s1 @ root)
    return (
        np.sum((mean0 - mean1) ** 2)
        + np.trace(s0)
        + np.trace(s1)
        - 2 * np.sum(np.sqrt(inner))
    )


@hypothesis.given(seeds, st.sampled_from([1, 2, 5]))
@hypothesis.settings(max_examples=12)
def test_gaussian_properties(seed, d):
    rng = np.random.default_rng(seed)
    m0, m1 = rng.normal(size=(2, d))
    s0, s1 = covariance(rng, d, d + 2), covariance(rng, d, d + 2)
    first = dv.gaussian_wasserstein_squared(m0, s0, m1, s1).item()
    scale = np.trace(s0) + np.trace(s1)
    assert first == pytest.approx(frechet_by_roots(m0, s0, m1, s1), abs=1e-9 * scale)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]

    def turned(s):
        s = turn @ s @ turn.T
        return (s + s.T) / 2

    for other in (
        dv.gaussian_wasserstein_squared(m1, s1, m0, s0),
        dv.gaussian_wasserstein_squared(turn @ m0, turned(s0), turn @ m1, turned(s1)),
    ):
        assert first == pytest.approx(other.item(), abs=1e-12 * (scale + 10))
    # A shift of one mean moves the mean term exactly.
    shifted = dv.gaussian_wasserstein_squared(m0 + 3, s0, m0, s1)
    still = dv.gaussian_wasserstein_squared(m0, s0, m0, s1)
    assert (shifted - still).item() == pytest.approx(9 * d, abs=1e-12 * (scale + 9 * d))

    kl = dv.gaussian_kullback_leibler(m0, s0, m1, s1).item()
    inverse = np.linalg.inv(s1)
    by_hand = (
        np.trace(inverse @ s0)
        + (m1 - m0) @ inverse @ (m1 - m0)
        - d
        + np.linalg.slogdet(s1)[1]
        - np.linalg.slogdet(s0)[1]
    ) / 2
    assert kl == pytest.approx(by_hand, rel=1e-6, abs=1e-9)
    # Units of the axes do not matter, however far apart.
    units = 10.0 ** rng.integers(-8, 8, d)
    grid = np.outer(units, units)
    other = dv.gaussian_kullback_leibler(units * m0, grid * s0, units * m1, grid * s1)
    assert kl == pytest.approx(other.item(), rel=1e-9)


@pytest.mark.parametrize(("d", "rank"), [(50, 5), (200, 20), (10, 1), (6, 6)])
def test_frechet_of_singular_covariances(d, rank):
    rng = np.random.default_rng(0)
    mean, s = np.zeros(d), covariance(rng, d, rank)
    trace = np.trace(s)
    assert abs(dv.gaussian_wasserstein_squared(mean, s, mean, s)) < 1e-12 * trace
    nothing = np.zeros((d, d))
    assert dv.gaussian_wasserstein_squared(mean, s, mean, nothing) == pytest.approx(
        trace
    )
    # Commuting matrices, some eigenvalues zero in one, in the other, in both.
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    values = rng.exponential(size=(2, d)) * (rng.uniform(size=(2, d)) < 0.5)
    first, second = ((turn * v) @ turn.T for v in values)
    first, second = (first + first.T) / 2, (second + second.T) / 2
    expected = np.sum(np.diff(np.sqrt(values), axis=0) ** 2)
    value = dv.gaussian_wasserstein_squared(mean, first, mean, second).item()
    assert value == pytest.approx(expected, abs=1e-12 * values.sum())
    if d == 10:
        slope = jax.grad(dv.gaussian_wasserstein_squared, 3)(mean, first, mean, second)
        assert jnp.all(jnp.isfinite(slope))


@pytest.mark.parametrize(("n", "m", "d"), [(6, 9, 20), (40, 30, 3), (4, 20, 10)])
def test_frechet_of_features(n, m, d):
    rng = np.random.default_rng(1)
    x, y = cloud(rng, n, d), 2 * cloud(rng, m, d, 0.5)
    value = dv.frechet_squared(x, y)
    expected = dv.gaussian_wasserstein_squared(
        x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    assert abs(dv.frechet_squared(x, x)) < 1e-12 * x.size
    if n != 40:
        check_slope(lambda clouds: dv.frechet_squared(*clouds), (x, y))


def test_gaussian_gradients_at_repeated_eigenvalues():
    m = jnp.zeros(3)

    def symmetric(s):
        return (s + s.T) / 2

    def w2(s0, s1):
        return dv.gaussian_wasserstein_squared(m, symmetric(s0), m, symmetric(s1))

    identity = jnp.eye(3)
    np.testing.assert_allclose(jax.grad(w2, 1)(identity, identity), 0, atol=1e-14)
    # I - T with the optimal map T = S1^{-1/2} for S0 = I.
    np.testing.assert_allclose(
        jax.grad(w2, 1)(identity, 4 * identity), identity / 2, atol=1e-14
    )
    check_slope(lambda pair: w2(*pair), (identity, 4 * identity))


def test_gaussian_kl_of_singular_covariances():
    m, unit = jnp.zeros(2), jnp.eye(2)
    flat = jnp.outer(jnp.array([1.0, 3.0]), jnp.array([1.0, 3.0])) / 7
    assert dv.gaussian_kullback_leibler(m, flat, m, unit) == jnp.inf
    assert dv.gaussian_kullback_leibler(m, jnp.zeros((2, 2)), m, unit) == jnp.inf
    with pytest.raises(ValueError, match="covariance1 must be positive definite"):
        dv.gaussian_kullback_leibler(m, unit, m, flat)
    assert jax.jit(dv.gaussian_kullback_leibler)(m, unit, m, flat) == jnp.inf
    gradient = jax.grad(dv.gaussian_kullback_leibler, 1)(m, flat, m, unit)
    assert jnp.all(jnp.isfinite(gradient))
    # Ill-scaled is not singular.
    thin = jnp.diag(jnp.array([1.0, 1e-20]))
    assert dv.gaussian_kullback_leibler(m, thin, m, thin) == 0


# ---- transport


@functools.partial(jax.jit, static_argnames=("p", "root"))
def on_the_line(x, y, a, b, p=1, root=True):
    return dv.wasserstein_1d(x, y, a, b, p=p, root=root)


@functools.partial(jax.jit, static_argnames="p")
def sliced_on_the_line(key, x, y, a, b, p):
    x, y = x[:, None], y[:, None]
    return dv.sliced_wasserstein(key, x, y, a, b, p=p, num_directions=3)


@hypothesis.given(seeds, st.sampled_from([(6, 6), (7, 4)]), st.booleans())
@hypothesis.settings(max_examples=8)
def test_transport_on_the_line(seed, sizes, ties):
    """Sorting = linear program = scipy; with weights, ties and zero weights."""
    rng = np.random.default_rng(seed)
    n, m = sizes
    x, y = rng.normal(size=n), rng.normal(size=m)
    if ties:
        x, y = np.round(x), np.round(y)
    a, b = distribution(rng, n, zeros=True), distribution(rng, m, zeros=True)
    key = jax.random.key(0)
    for weights in ((a, b), (None, None)):
        found = on_the_line(x, y, *weights).item()
        clouds = x[:, None], y[:, None], *weights
        assert found == pytest.approx(
            scipy.stats.wasserstein_distance(x, y, *weights), abs=1e-12
        )
        assert found == pytest.approx(dv.wasserstein(*clouds), abs=1e-10)
        squared = on_the_line(x, y, *weights, p=2, root=False).item()
        exact = dv.wasserstein(*clouds, p=2, root=False)
        assert squared == pytest.approx(exact, abs=1e-10)
        assert found <= squared**0.5 + 1e-12
        # On the line the directions are +1 and -1, and both see the same.
        for p, one in ((1, found), (2, squared**0.5)):
            found = sliced_on_the_line(key, x, y, *weights, p=p).item()
            assert found == pytest.approx(one, abs=1e-7)


def check_duality(rng, n, m, d, weighted):
    x, y = cloud(rng, n, d), cloud(rng, m, d, 0.5)
    weights = (distribution(rng, n, True), distribution(rng, m, True))
    a, b = weights if weighted else (None, None)
    cost = np.asarray(dv.cost_matrix(x, y))
    primal = dv.optimal_transport(cost, a, b, method="linear program")
    dual = dv.optimal_transport_dual(cost, a, b)
    critic = dv.kantorovich_rubinstein(x, y, a, b)
    values = [primal.value, dual.value, critic.value]
    if n == m and not weighted:
        assigned = dv.optimal_transport(cost, a, b)
        assert np.count_nonzero(assigned.plan) == n
        values.append(assigned.value)
    assert np.ptp(values) <= 1e-10
    np.testing.assert_allclose(
        primal.plan.sum(1), np.full(n, 1 / n) if a is None else a, atol=1e-12
    )
    np.testing.assert_allclose(
        primal.plan.sum(0), np.full(m, 1 / m) if b is None else b, atol=1e-12
    )
    assert np.all(dual.f[:, None] + dual.g[None, :] <= cost + 1e-12)
    assert critic.lipschitz <= 1 + 1e-9
    union = np.concatenate([x, y])
    np.testing.assert_allclose(
        dv.extend_critic(critic, union), critic.critic, atol=1e-12
    )
    apart = rng.normal(size=(20, d)) * 5
    steps = np.abs(np.diff(dv.extend_critic(critic, apart)))
    assert np.all(steps <= np.linalg.norm(np.diff(apart, axis=0), axis=1) + 1e-12)


@hypothesis.given(seeds, st.sampled_from([(1, 1, 1), (9, 4, 1), (6, 12, 3)]))
@hypothesis.settings(max_examples=12)
def test_primal_equals_dual(seed, sizes):
    n, m, d = sizes
    rng = np.random.default_rng(seed)
    check_duality(rng, n, m, d, weighted=True)
    check_duality(rng, n, n, d, weighted=False)


@pytest.mark.parametrize("n", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("weighted", [False, True])
def test_primal_equals_dual_of_larger_clouds(n, weighted):
    check_duality(np.random.default_rng(n), n, n, 2, weighted)


@functools.partial(jax.jit, static_argnames="p")
def sliced(key, x, y, p):
    return dv.sliced_wasserstein(key, x, y, p=p, num_directions=16)


@hypothesis.given(seeds)
@hypothesis.settings(max_examples=5)
def test_transport_moves_and_scales(seed):
    rng = np.random.default_rng(seed)
    x, y = cloud(rng, 7), cloud(rng, 5)
    for p in (1, 2):
        base = dv.wasserstein(x, y, p=p)
        assert dv.wasserstein(x + 3, y + 3, p=p) == pytest.approx(base, abs=1e-9)
        assert dv.wasserstein(-2 * x, -2 * y, p=p) == pytest.approx(2 * base, abs=1e-9)
        assert dv.wasserstein(x, x + 3, p=p) == pytest.approx(3 * 2**0.5, abs=1e-9)
        assert sliced(jax.random.key(seed), x, y, p=p) <= base
    assert dv.wasserstein(x, y) <= dv.wasserstein(x, y, p=2) + 1e-12
    assert dv.wasserstein(x, x[::-1]) == 0
    assert dv.kantorovich_rubinstein(x, x).value == pytest.approx(0, abs=1e-12)


def test_huge_and_tiny_costs():
    rng = np.random.default_rng(0)
    cost = rng.uniform(size=(5, 6))
    base = dv.optimal_transport(cost).value
    for scale in (1e32, 1e-32):
        for solve in (dv.optimal_transport, dv.optimal_transport_dual):
            assert solve(scale * cost).value == pytest.approx(scale * base, rel=1e-9)
    assert dv.optimal_transport(0 * cost).value == 0


def test_gradient_of_exact_transport_by_its_plan():
    rng = np.random.default_rng(0)
    x, y = cloud(rng, 5), cloud(rng, 7)
    plan = dv.optimal_transport(dv.cost_matrix(x, y, p=2)).plan
    slope = jax.grad(lambda x: jnp.sum(plan * dv.cost_matrix(x, y, p=2)))(x)
    step = 1e-5 * rng.normal(size=x.shape)
    slope = np.asarray(slope)
    ahead, behind = (
        dv.wasserstein(x + s * step, y, p=2, root=False) for s in (1.0, -1.0)
    )
    assert (ahead - behind) / 2 == pytest.approx(np.sum(slope * step), rel=1e-6)


# ---- entropic transport


def test_sinkhorn_approaches_the_exact_cost():
    rng = np.random.default_rng(0)
    x, y = cloud(rng, 40), cloud(rng, 30, shift=0.5)
    a, b = distribution(rng, 40), distribution(rng, 30)
    cost = dv.cost_matrix(x, y)
    exact = dv.optimal_transport(cost, a, b).value
    run = jax.jit(lambda epsilon: dv.sinkhorn(cost, a, b, epsilon=epsilon))
    errors, iterations = [], []
    for epsilon in (1.0, 0.3, 0.1, 0.03):
        found = run(epsilon)
        assert found.converged
        assert found.epsilon == epsilon
        assert found.marginal_error < 1e-9
        np.testing.assert_allclose(found.plan.sum(0), b, atol=1e-12)
        assert jnp.abs(found.plan.sum(1) - a).sum() == pytest.approx(
            found.marginal_error.item(), abs=1e-12
        )
        # The two costs differ by epsilon times the divergence from a b^T.
        independent = (a[:, None] * b[None, :]).ravel()
        extra = epsilon * dv.kullback_leibler(found.plan.ravel(), independent)
        assert found.regularised_cost == pytest.approx(
            (found.transport_cost + extra).item(), abs=1e-8
        )
        assert exact < found.transport_cost < found.regularised_cost
        errors.append(found.transport_cost.item() - exact)
        iterations.append(found.num_iterations.item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 20
    assert iterations == sorted(iterations)


@functools.partial(jax.jit, static_argnames="p")
def entropic(x, y, a, b, p):
    return dv.sinkhorn_divergence(x, y, a, b, epsilon=1.0, p=p)


@hypothesis.given(seeds, st.sampled_from([1, 2]))
@hypothesis.settings(max_examples=8)
def test_sinkhorn_divergence_is_a_divergence(seed, p):
    rng = np.random.default_rng(seed)
    x, y = cloud(rng, 6), cloud(rng, 5)
    a, b = distribution(rng, 6, True), distribution(rng, 5)
    assert entropic(x, y, a, b, p=p).value > 0
    assert abs(entropic(x, x, a, a, p=p).value) < 1e-8
    # The same cloud in another order, the weights with it.
    assert abs(entropic(x, x[::-1], a, a[::-1], p=p).value) < 1e-8


def test_sinkhorn_gradients():
    rng = np.random.default_rng(0)
    cost = jnp.asarray(dv.cost_matrix(cloud(rng, 5), cloud(rng, 4)))
    a, b = jnp.array([0.0, 0.4, 0.1, 0.2, 0.3]), jnp.full(4, 0.25)

    def run(cost, a, epsilon):
        return dv.sinkhorn(cost, a, b, epsilon=epsilon, tolerance=1e-14)

    # The envelope theorem: the plan is the slope in the cost, f that in the weights.
    found = run(cost, a, 0.4)
    slopes = jax.grad(lambda *z: run(*z).regularised_cost, (0, 1))(cost, a, 0.4)
    np.testing.assert_allclose(slopes[0], found.plan, atol=1e-12)
    centred = [z - jnp.mean(z) for z in (slopes[1], found.f)]
    np.testing.assert_allclose(*centred, atol=1e-12)
    # Once and twice; logits keep the mass.
    logits = jnp.asarray(rng.normal(size=5))

    def transport_cost(cost, logits, epsilon):
        return run(cost, jax.nn.softmax(logits), epsilon).transport_cost

    arguments = (cost, logits, jnp.array(0.4))
    check_slope(lambda z: transport_cost(*z), arguments)
    along = jnp.asarray(rng.normal(size=5))
    twice = jax.jit(
        lambda z: jax.jvp(
            lambda z: jax.grad(transport_cost, 1)(cost, z, 0.4), (z,), (along,)
        )
    )
    ahead, behind = (twice(logits + s * along)[0] for s in (1e-5, -1e-5))
    np.testing.assert_allclose(
        twice(logits)[1], (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-7
    )
    slope = jax.grad(lambda a: run(cost, a, 0.4).transport_cost)(a)
    assert jnp.all(jnp.isfinite(slope))


def test_sinkhorn_that_stops_early_says_so():
    cost = dv.cost_matrix(KERNEL_X, KERNEL_Y)
    found = dv.sinkhorn(cost, epsilon=1e-3, max_iterations=3)
    assert not found.converged
    assert found.num_iterations == 3
    assert found.marginal_error > 1e-3


# ---- kernels


@pytest.mark.parametrize("dtype", FLOATS)
def test_kernel_distances_in_blocks(dtype):
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(cloud(rng, n, 3), dtype) for n in (53, 38))
    rtol = 1e-12 if dtype == jnp.float64 else 2e-4
    for biased, kernel in ((False, dv.rbf_kernel(1.5)), (True, dv.kid_kernel)):
        whole, *parts = (
            dv.maximum_mean_discrepancy_squared(x, y, kernel, biased=biased, block=b)
            for b in (None, 7, 1000)
        )
        np.testing.assert_allclose(parts, [whole] * 2, rtol=rtol, atol=rtol / 10)


def test_unbiased_discrepancy_has_mean_zero():
    def draw(key):
        x, y = jax.random.normal(key, (2, 12, 2))
        return dv.maximum_mean_discrepancy_squared(x, y, dv.rbf_kernel(1.0))

    values = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 2000))
    assert abs(values.mean()) < 4 * values.std() / 2000**0.5
    assert values.min() < 0


def test_discrepancy_in_float32_keeps_its_digits():
    """A million terms and more, of which the small difference must survive."""
    rng = np.random.default_rng(0)
    x, y = cloud(rng, 1200, 2), cloud(rng, 1100, 2, 0.3)
    kernel = dv.rbf_kernel(1.0)
    exact = dv.maximum_mean_discrepancy_squared(x, y, kernel)
    single = dv.maximum_mean_discrepancy_squared(
        jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), kernel
    )
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, exact, rtol=1e-4)


@hypothesis.given(seeds)
@hypothesis.settings(max_examples=10)
def test_energy_distance_properties(seed):
    rng = np.random.default_rng(seed)
    x, y = cloud(rng, 9, 1), cloud(rng, 6, 1)
    found = dv.energy_distance_squared(x, y)
    expected = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert found == pytest.approx(expected, abs=1e-12)


# ---- GAN theory


def test_logits_and_probabilities_agree():
    logits = jnp.array([-3.0, -0.5, 1.0, 2.0])
    expected = theory.value(jax.nn.sigmoid(logits), P, Q)
    np.testing.assert_allclose(theory.value_of_logits(logits, P, Q), expected)
    # Far out, where the probabilities round to 0 and 1.
    assert jnp.isfinite(theory.value_of_logits(200 * logits, P, Q))
    best = theory.optimal_logit(jnp.log(P), jnp.log(Q))
    value = theory.value_of_logits(best, P, Q)
    np.testing.assert_allclose(value, theory.value_at_optimum(P, Q), rtol=1e-14)
    slope = jax.grad(theory.value_of_logits)(best, P, Q)
    np.testing.assert_allclose(slope, 0, atol=1e-15)


def test_optimal_discriminator_outside_the_supports():
    p, q = jnp.array([1.0, 0, 0]), jnp.array([0, 1.0, 0])
    expected = [1, 0, 0.5]
    np.testing.assert_array_equal(theory.optimal_discriminator(p, q), expected)
    with np.errstate(divide="ignore"):
        logs = np.log(p), np.log(q)
    found = theory.optimal_discriminator_from_log(*logs)
    np.testing.assert_array_equal(found, expected)
    # Densities far below the smallest number still have a ratio.
    far = theory.optimal_logit(norm.logpdf(100.0), norm.logpdf(100.0, 1.0))
    assert far == pytest.approx(-99.5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_value_by_quadrature(dtype):
    first, second, measure = normal_grid(dtype)
    best = theory.optimal_discriminator(first, second)
    found = theory.value(best, first, second, measure=measure)
    assert found.dtype == dtype
    expected = -math.log(4) + 2 * 0.128174973054
    tolerance = 1e-11 if dtype == jnp.float64 else 1e-6
    assert found == pytest.approx(expected, rel=tolerance)
    at_optimum = theory.value_at_optimum(first, second, measure=measure)
    assert at_optimum == pytest.approx(expected, rel=tolerance)


# ---- bad input

POINTS = jnp.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dv.kullback_leibler(P, Q[:3]), ValueError, "equal shapes"),
        (lambda: dv.jensen_shannon(2 * P, Q), ValueError, "p must sum to 1, got 2"),
        (lambda: dv.total_variation(P, Q - 1), ValueError, "q must not be negative"),
        (lambda: dv.total_variation(P, Q * jnp.nan), ValueError, "q must not be"),
        (lambda: dv.kullback_leibler(1.0, 1.0), ValueError, "at least one prob"),
        (lambda: dv.kullback_leibler([0, 1], [1, 0]), TypeError, "got dtype int"),
        (
            lambda: dv.kullback_leibler(P, Q.astype(jnp.float32)),
            TypeError,
            "same dtype, got float64 and float32",
        ),
        (
            lambda: dv.kullback_leibler(P, Q, measure=jnp.full(4, 0.5)),
            ValueError,
            "p must sum to 1, got 0.5",
        ),
        (
            lambda: dv.gaussian_wasserstein_squared(M1, S1, M2[:2], S2),
            ValueError,
            r"got \(3,\), \(3, 3\), \(2,\), \(3, 3\)",
        ),
        (
            lambda: dv.gaussian_wasserstein_squared(M1, jnp.triu(S1), M2, S2),
            ValueError,
            "covariance0 must be symmetric",
        ),
        (
            lambda: dv.gaussian_wasserstein_squared(M1, -S1, M2, S2),
            ValueError,
            "covariance0 must be positive semidefinite",
        ),
        (lambda: dv.frechet_squared(POINTS[:1], POINTS), ValueError, "at least two"),
        (lambda: dv.wasserstein_1d(POINTS, POINTS), ValueError, "on the line"),
        (lambda: dv.wasserstein_1d(P, Q, p=0.5), ValueError, "1 <= p < inf, got 0.5"),
        (lambda: dv.wasserstein_1d(P, Q, P[:3]), ValueError, r"shape \(4,\)"),
        (lambda: dv.wasserstein_1d(P, Q, 2 * P), ValueError, "a must sum to 1"),
        (
            lambda: dv.sliced_wasserstein(jax.random.key(0), POINTS, POINTS[:, :1]),
            ValueError,
            "one dimension d",
        ),
        (lambda: dv.wasserstein(X, Y[:, :1]), ValueError, "one dimension d"),
        (lambda: dv.wasserstein(X, Y[0]), ValueError, r"got shape \(2,\)"),
        (lambda: dv.wasserstein(X, Y, 2 * A), ValueError, "a must sum to 1"),
        (lambda: dv.optimal_transport(X * np.nan), ValueError, "must be a number"),
        (
            lambda: dv.optimal_transport(X, method="assignment"),
            ValueError,
            "got 3 and 2 points",
        ),
        (lambda: dv.optimal_transport(X, method="emd"), ValueError, "got 'emd'"),
        (
            lambda: jax.jit(lambda c: dv.optimal_transport(c).value)(X),
            TypeError,
            "runs on the host, but cost is traced",
        ),
        (lambda: dv.sinkhorn(S1, epsilon=0.0), ValueError, "epsilon must be positive"),
        (
            lambda: dv.sinkhorn(S1, epsilon=1.0, start=M2[:2]),
            ValueError,
            r"b: \(3,\), start: \(2,\)",
        ),
        (lambda: dv.sinkhorn(M1, epsilon=1.0), ValueError, r"shape \(n, m\)"),
        (
            lambda: dv.sinkhorn(S1, M1, epsilon=1.0),
            ValueError,
            "a must sum to 1, got 3",
        ),
        (lambda: dv.rbf_kernel(-1.0), ValueError, "bandwidth must be positive"),
        (
            lambda: dv.maximum_mean_discrepancy_squared(
                POINTS, POINTS[:1], dv.kid_kernel
            ),
            ValueError,
            "at least two points on each side, got 3 and 1",
        ),
        (
            lambda: dv.maximum_mean_discrepancy_squared(
                POINTS, POINTS, lambda x, y: jnp.sum(x * y)
            ),
            ValueError,
            "a kernel must give shape",
        ),
        (
            lambda: dv.precision_recall(generated=POINTS, reference=POINTS),
            ValueError,
            "num_neighbours = 3 needs more points",
        ),
        (
            lambda: dv.estimate_kullback_leibler(
                jax.random.key(0),
                norm.logpdf,
                norm.logpdf,
                jax.random.normal,
                num_samples=1,
            ),
            ValueError,
            "needs 2 samples, got 1",
        ),
        (
            lambda: dv.estimate_kullback_leibler(
                jax.random.key(0),
                norm.logpdf,
                norm.logpdf,
                lambda key: jax.random.normal(key, (2,)),
                num_samples=5,
            ),
            ValueError,
            r"a scalar at one point, got shape \(2,\)",
        ),
        (lambda: theory.value(3 * P, P, Q), ValueError, r"lie in \[0, 1\]"),
        (lambda: theory.value(P, P, Q[:3]), ValueError, "equal shapes"),
        (lambda: theory.optimal_discriminator(P, Q[:3]), ValueError, "equal shapes"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_divergence_stops_a_gradient():
    for name, (function, first, second) in everything(jnp.float64).items():
        assert "stop_gradient" not in str(jax.make_jaxpr(function)(*first, *second)), (
            name
        )


# Pairs.


def test_info_nce_against_the_definition():
    x, y = np.random.default_rng(0).normal(size=(2, 7, 5))
    scale, total = 3.0, 0.0
    for i in range(7):
        for products in (
            [x[i] @ y[j] for j in range(7)],
            [x[j] @ y[i] for j in range(7)],
        ):
            powers = [math.exp(scale * product) for product in products]
            total -= math.log(powers[i] / sum(powers)) / 14
    for dtype, rtol in ((jnp.float64, 1e-12), (jnp.float32, 1e-5)):
        one, other = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
        loss = jax.jit(dv.info_nce)(one, other, scale)
        assert loss.dtype == dtype
        np.testing.assert_allclose(loss, total, rtol=rtol)
        np.testing.assert_allclose(dv.info_nce(other, one, scale), total, rtol=rtol)


def test_info_nce_where_it_is_known():
    # Nothing told apart: log B. Orthogonal vectors: softmax of (s, 0, ..., 0).
    draw = jax.random.normal(jax.random.key(0), (2, 32, 8))
    np.testing.assert_allclose(dv.info_nce(*draw, 0.0), math.log(32), rtol=1e-12)
    same = jnp.eye(5)
    expected = math.log(1 + 4 * math.exp(-2.0))
    np.testing.assert_allclose(dv.info_nce(same, same, 2.0), expected, rtol=1e-12)
    assert dv.info_nce(same, same, 100.0) < 1e-40
    wrong = jnp.roll(same, 1, axis=0)
    assert dv.info_nce(same, wrong, 100.0) == pytest.approx(100)
    slope = jax.grad(dv.info_nce)(1e3 * same, same, 1e3)
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_info_nce_bounds_mutual_information():
    """Normals of correlation r, compared by the logarithm of their density ratio.

    (r x y - r^2 (x^2 + y^2) / 2) / (1 - r^2), but for a constant.
    """
    r, batch = 0.9, 64
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, batch))
    y = r * x + math.sqrt(1 - r * r) * rng.normal(size=x.shape)
    ones = np.ones_like(x)
    left = np.stack([x, x * x, ones], -1)
    right = np.stack([r * y, -r * r / 2 * ones, -r * r / 2 * y * y], -1) / (1 - r * r)
    losses = jax.vmap(lambda a, b: dv.info_nce(a, b, 1.0))(left, right)
    information = -math.log(1 - r * r) / 2
    found = math.log(batch) - float(losses.mean())
    assert 0.9 * information < found < information


def test_info_nce_rejects_what_is_no_pair():
    one = jnp.ones((3, 2))
    with pytest.raises(ValueError, match=r"one shape \(B, d\), got \(3, 2\), \(2, 2\)"):
        dv.info_nce(one, one[:2], 1.0)
    with pytest.raises(ValueError, match=r"scalar for the scale, got shape \(3,\)"):
        dv.info_nce(one, one, jnp.ones(3))
    with pytest.raises(TypeError, match="y must be real and floating"):
        dv.info_nce(one, jnp.ones((3, 2), int), 1.0)
