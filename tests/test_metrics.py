"""Metrics against closed forms, second methods and the traps they are known for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from gamedyn import divergences, metrics
from gamedyn.data import mixtures


def _points(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _stats(mean, covariance, count=1001):
    """Statistics with exactly these moments."""
    covariance = np.asarray(covariance, float)
    return metrics.FeatureStats(
        count, np.asarray(mean, float), covariance * (count - 1)
    )


# Feature statistics


@given(cuts=st.lists(st.integers(1, 59), max_size=6), seed=st.integers(0, 10))
def test_statistics_of_any_split_are_those_of_the_whole(cuts, seed):
    x = _points(seed, 60, 5) @ _points(seed + 1, 5, 5) + 3
    bounds = [0, *sorted(set(cuts)), 60]
    parts = [
        metrics.feature_stats(x[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)
    ]
    merged = sum(parts[1:], start=parts[0])
    assert merged.count == 60
    np.testing.assert_allclose(merged.mean, x.mean(axis=0), rtol=1e-12)
    expected = np.cov(x, rowvar=False)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(merged.covariance, expected, 1e-12, 1e-12 * largest)


def test_statistics_survive_a_mean_far_above_the_deviations():
    noise = np.random.default_rng(0).choice([-1.0, 1.0], (4000, 2)) * 2**-10
    x = 1e4 + noise  # exact in float64
    naive = (x.T @ x - len(x) * np.outer(x.mean(0), x.mean(0))) / (len(x) - 1)
    expected = np.cov(noise, rowvar=False)
    assert np.abs(naive / expected - 1).max() > 0.01  # the trap
    whole = metrics.feature_stats(x)
    parts = metrics.feature_stats(x[:1500]) + metrics.feature_stats(x[1500:])
    for stats in (whole, parts):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(stats.covariance, expected, 1e-8, 1e-8 * scale)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64])
def test_statistics_are_float64_whatever_the_features(dtype):
    x = jnp.asarray(_points(0, 20, 3), dtype)
    stats = metrics.feature_stats(x)
    assert stats.mean.dtype == stats.covariance.dtype == np.float64
    wide = np.asarray(x).astype(np.float64)
    np.testing.assert_allclose(stats.covariance, np.cov(wide, rowvar=False), 1e-12)


def test_statistics_refuse_what_has_none():
    one = metrics.feature_stats([[1.0, 2.0]])
    with pytest.raises(ValueError, match="at least two points, got 1"):
        _ = one.covariance
    with pytest.raises(ValueError, match="must be finite, 1 of 2"):
        metrics.feature_stats([[1.0], [math.nan]])
    with pytest.raises(ValueError, match="one dimension d, got 2 and 1"):
        _ = one + metrics.feature_stats([[1.0]])
    with pytest.raises(TypeError, match="real numbers"):
        metrics.feature_stats([["a"]])
    with pytest.raises(ValueError, match="shape"):
        metrics.feature_stats(np.zeros((0, 3)))


# Frechet distance


def _frechet_by_eigenvalues(stats1, stats2):
    values, vectors = np.linalg.eigh(stats1.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = root @ stats2.covariance @ root
    values = np.linalg.eigvalsh((inner + inner.T) / 2)
    cross = np.sum(np.sqrt(np.maximum(values, 0)))
    traces = np.trace(stats1.covariance) + np.trace(stats2.covariance)
    return np.sum((stats1.mean - stats2.mean) ** 2) + traces - 2 * cross


def _frechet_by_sqrtm(stats1, stats2):
    root = scipy.linalg.sqrtm(stats1.covariance @ stats2.covariance)
    traces = np.trace(stats1.covariance) + np.trace(stats2.covariance)
    return np.sum((stats1.mean - stats2.mean) ** 2) + traces - 2 * np.trace(root).real


ZERO2, ZERO3 = np.zeros(2), np.zeros(3)
FRECHET = {
    "commuting": (
        ((1, 2, 3), np.diag([1, 4, 9])),
        ((0, 0, 1), np.diag([4, 1, 9])),
        11.0,
        1e-12,
    ),
    "two dimensions": (
        (ZERO2, [[2, 1], [1, 2]]),
        (ZERO2, np.diag([4, 1])),
        0.7712204476543416,
        1e-12,
    ),
    "rank one": (
        (ZERO3, np.outer([3, 4, 0], [3, 4, 0])),
        (ZERO3, np.eye(3)),
        18.0,
        1e-10,
    ),
    "orthogonal ranges": ((ZERO2, np.diag([1, 0])), (ZERO2, np.diag([0, 1])), 2, 1e-12),
    "identical": (((1, 2), [[2, 1], [1, 2]]), ((1, 2), [[2, 1], [1, 2]]), 0.0, 1e-12),
    "wide": (
        (np.zeros(256), np.eye(256)),
        (np.ones(256), np.eye(256)),
        256.0,
        1e-10,
    ),
}


@pytest.mark.parametrize("case", FRECHET)
def test_frechet_of_known_gaussians(case):
    first, second, expected, tolerance = FRECHET[case]
    stats1, stats2 = _stats(*first), _stats(*second)
    for value in (metrics.frechet(stats1, stats2), metrics.frechet(stats2, stats1)):
        assert isinstance(value, float)
        assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert value >= 0


@pytest.mark.slow
def test_frechet_of_as_many_features_as_inception_has():
    d = 2048
    value = metrics.frechet(
        _stats(np.zeros(d), np.eye(d)), _stats(np.ones(d), np.eye(d))
    )
    assert value == pytest.approx(d, rel=1e-9)


def test_frechet_agrees_with_two_other_forms_and_ignores_the_flag_of_jax():
    x, y = _points(0, 100, 12) @ _points(1, 12, 12), _points(2, 80, 12) + 1
    stats = metrics.feature_stats(x), metrics.feature_stats(y)
    value = metrics.frechet(*stats)
    assert value == pytest.approx(_frechet_by_eigenvalues(*stats), rel=1e-9)
    assert value == pytest.approx(_frechet_by_sqrtm(*stats), rel=1e-9)
    with jax.enable_x64(False):
        assert metrics.frechet(*stats) == value


def test_frechet_of_fewer_points_than_features():
    x, y = _points(0, 10, 40), _points(1, 15, 40) + 0.1
    stats = metrics.feature_stats(x), metrics.feature_stats(y)
    value = metrics.frechet(*stats)
    # The sum of singular values of the cross product of centred data.
    cross = (x - x.mean(0)) @ (y - y.mean(0)).T
    nuclear = np.linalg.svd(cross, compute_uv=False).sum() / math.sqrt(9 * 14)
    traces = x.var(axis=0, ddof=1).sum() + y.var(axis=0, ddof=1).sum()
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + traces - 2 * nuclear
    assert value == pytest.approx(expected, rel=1e-9)
    assert value == pytest.approx(_frechet_by_eigenvalues(*stats), rel=1e-5)
    assert value == pytest.approx(float(divergences.frechet_squared(x, y)), rel=1e-9)


def test_frechet_under_scaling_and_orthogonal_maps():
    x, y = _points(0, 50, 6), 2 * _points(1, 60, 6)
    rotation = np.linalg.qr(_points(2, 6, 6))[0]

    def value(move):
        return metrics.frechet(
            metrics.feature_stats(move(x)), metrics.feature_stats(move(y))
        )

    plain = value(lambda z: z)
    assert value(lambda z: 7 * z) == pytest.approx(49 * plain, rel=1e-10)
    assert value(lambda z: z @ rotation + 3) == pytest.approx(plain, rel=1e-10)


def test_frechet_of_one_law_has_the_predicted_bias():
    d, n, draws = 16, 500, 40
    rng = np.random.default_rng(0)
    eigenvalues = np.linspace(0.5, 2, d)
    exact = _stats(np.zeros(d), np.diag(eigenvalues), 10**9)
    both, one = [], []
    for _ in range(draws):
        stats = [
            metrics.feature_stats(rng.standard_normal((n, d)) * np.sqrt(eigenvalues))
            for _ in range(2)
        ]
        both.append(metrics.frechet(*stats))
        one.append(metrics.frechet(stats[0], exact))
    pairs = np.add.outer(eigenvalues, eigenvalues)
    products = np.outer(eigenvalues, eigenvalues) * (1 + np.eye(d))
    expected = 2 * eigenvalues.sum() / n + np.sum(products / pairs) / n
    for values, prediction in ((both, expected), (one, expected / 2)):
        error = np.std(values) / math.sqrt(draws)
        # The prediction is of first order in 1 / n: 3 % are left for the rest.
        assert abs(np.mean(values) - prediction) < 4 * error + 0.03 * prediction
        assert error < 0.03 * prediction


def test_frechet_refuses_other_dimensions():
    with pytest.raises(ValueError, match="one dimension d, got 2 and 3"):
        metrics.frechet(_stats(ZERO2, np.eye(2)), _stats(ZERO3, np.eye(3)))


# Kernel distance


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([[0.0], [1.0]], [[1.0], [2.0]], 9.5),
        ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, -1.0]], -3.125),
    ],
)
def test_kid_without_the_diagonal(x, y, expected):
    assert metrics.kid(generated=y, reference=x) == expected
    assert metrics.kid(generated=x, reference=y) == expected


def test_kid_is_that_of_the_divergences_in_blocks_and_any_order(monkeypatch):
    x, y = _points(0, 41, 7), _points(1, 33, 7) + 0.3
    value = metrics.kid(generated=y, reference=x)
    theirs = divergences.maximum_mean_discrepancy_squared(x, y, divergences.kid_kernel)
    assert value == pytest.approx(float(theirs), rel=1e-11)
    permuted = metrics.kid(generated=y[::-1], reference=x)
    assert permuted == pytest.approx(value, rel=1e-11)
    monkeypatch.setitem(metrics.kid.__globals__, "_BLOCK_ENTRIES", 100)
    assert metrics.kid(generated=y, reference=x) == pytest.approx(value, rel=1e-11)


def test_kid_of_one_law_is_unbiased():
    rng = np.random.default_rng(0)
    values = [
        metrics.kid(
            generated=rng.standard_normal((100, 8)),
            reference=rng.standard_normal((100, 8)),
        )
        for _ in range(200)
    ]
    error = np.std(values) / math.sqrt(200)
    assert abs(np.mean(values)) < 4 * error < 0.02  # with the diagonal: .163
    assert min(values) < 0


def test_kid_of_large_features_keeps_its_digits():
    x = 1000 + _points(0, 50, 64)
    y = 1000 + _points(1, 50, 64) + 1e-2
    # Exact integers decide: the same sums in Python's rationals.
    x, y = np.round(x * 64) / 64, np.round(y * 64) / 64
    value = metrics.kid(generated=y, reference=x)

    def total(a, b, skip):
        inner = [[int(v) for v in row] for row in (64 * a) @ (64 * b).T]
        unit = 64 * 64 * 64
        return sum(
            (v + unit) ** 3
            for i, row in enumerate(inner)
            for j, v in enumerate(row)
            if not (skip and i == j)
        ), unit**3

    (within_x, unit), (within_y, _) = total(x, x, True), total(y, y, True)
    across, _ = total(x, y, False)
    exact = (50 * (within_x + within_y) - 2 * 49 * across) / (unit * 50 * 50 * 49)
    # Kernel values are 1e18 here; float64 keeps 16 digits of them.
    assert abs(value - exact) < 1e-14 * 1e18


def test_kid_subsets_without_replacement():
    x, y = _points(0, 60, 4), _points(1, 50, 4) + 0.5
    whole = metrics.kid(generated=y, reference=x[:50])
    same = metrics.kid_subsets(generated=y, reference=x[:50], subsets=3, subset_size=50)
    assert same.mean == pytest.approx(whole, rel=1e-12)
    assert same.deviation == pytest.approx(0, abs=1e-12 * abs(whole))
    parts = [
        metrics.kid_subsets(
            generated=y, reference=x, subsets=20, subset_size=20, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    assert parts[0] == parts[1] != parts[2]
    assert abs(parts[0].mean - metrics.kid(generated=y, reference=x)) < (
        4 * parts[0].deviation / math.sqrt(20)
    )
    with pytest.raises(ValueError, match="subset_size must be at most"):
        metrics.kid_subsets(generated=y, reference=x, subset_size=51)


def test_kid_needs_two_points():
    with pytest.raises(ValueError, match="at least two points"):
        metrics.kid(generated=[[1.0]], reference=[[1.0], [2.0]])


# Precision, recall, density, coverage


def test_prdc_of_the_worked_case():
    result = metrics.prdc(
        generated=[[0.5], [10.0], [10.5], [11.0]],
        reference=[[0.0], [1.0], [2.0], [3.0]],
        num_neighbours=1,
        num_neighbours_coverage=1,
    )
    assert result == (0.25, 1.0, 0.5, 0.5)


def test_prdc_counts_boundaries_and_copies():
    equal = np.full((10, 2), 0.1)
    options = {"num_neighbours": 3, "num_neighbours_coverage": 3}
    result = metrics.prdc(generated=equal, reference=equal, **options)
    assert result == (1, 1, pytest.approx(10 / 3), 1)
    # A generator that copies: every ball holds its centre and k neighbours, the k-th
    # on the boundary. Rounding must not push it out, however far the origin is.
    x = _points(0, 300, 17) + 50
    copied = metrics.prdc(generated=x[::-1], reference=x)
    assert copied == (1, 1, pytest.approx(6 / 5), 1)


def _prdc_by_definition(x, y, k, k_coverage):
    def distances(a, b):
        return np.sqrt(np.sum((a[:, None] - b[None]) ** 2, axis=2))

    def radii(a, k):
        return np.sort(distances(a, a), axis=1)[:, k]

    inside = distances(x, y) <= radii(x, k)[:, None]
    inside_coverage = distances(x, y) <= radii(x, k_coverage)[:, None]
    inside_generated = distances(x, y) <= radii(y, k)[None]
    return (
        inside.any(axis=0).mean(),
        inside_generated.any(axis=1).mean(),
        inside_coverage.sum() / (k_coverage * len(y)),
        inside_coverage.any(axis=1).mean(),
    )


def test_prdc_by_definition_in_blocks_and_swapped(monkeypatch):
    x, y = _points(0, 90, 3), 0.7 * _points(1, 70, 3) + 0.4
    result = metrics.prdc(generated=y, reference=x)
    assert result == pytest.approx(_prdc_by_definition(x, y, 3, 5), abs=1e-14)
    swapped = metrics.prdc(generated=x, reference=y)
    assert (swapped.precision, swapped.recall) == (result.recall, result.precision)
    theirs = divergences.precision_recall(generated=y, reference=x)
    assert result.precision == pytest.approx(float(theirs.precision))
    assert result.recall == pytest.approx(float(theirs.recall))
    monkeypatch.setitem(metrics.prdc.__globals__, "_BLOCK_ENTRIES", 1000)
    assert metrics.prdc(generated=y, reference=x) == result


def test_prdc_of_one_law_has_the_expected_coverage_and_density():
    m, n, k, draws = 220, 180, 5, 60
    rng = np.random.default_rng(0)
    result = [
        metrics.prdc(
            generated=rng.standard_normal((n, 3)), reference=rng.standard_normal((m, 3))
        )
        for _ in range(draws)
    ]
    missed = math.prod((m - 1 - j) / (m + n - 1 - j) for j in range(k))
    for name, expected in (("coverage", 1 - missed), ("density", 1.0)):
        values = [getattr(each, name) for each in result]
        error = np.std(values) / math.sqrt(draws)
        assert abs(np.mean(values) - expected) < 4 * error
        assert error < 0.02


def test_prdc_checks_its_arguments():
    x = _points(0, 4, 2)
    with pytest.raises(ValueError, match="5 neighbours need more points"):
        metrics.prdc(generated=x, reference=x)
    with pytest.raises(ValueError, match="positive integer"):
        metrics.prdc(generated=x, reference=x, num_neighbours=0)
    with pytest.raises(TypeError):
        metrics.prdc(x, x)


def test_nearest_neighbours_are_exact_for_copies():
    x = _points(0, 200, 30) + 100
    y = np.concatenate([x[[7, 11]], x[[3]] + 1e-9, _points(1, 50, 30) + 100])
    result = metrics.nearest_neighbour_distances(generated=y, reference=x)
    direct = np.linalg.norm(y[:, None] - x[None], axis=2)
    assert result.indices[:3].tolist() == [7, 11, 3]
    assert result.distances[:2].tolist() == [0, 0]
    np.testing.assert_allclose(result.distances, direct.min(axis=1), rtol=1e-12)


# Scores of a classifier


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        (np.full((12, 5), 0.2), 1.0),
        (np.eye(5)[np.arange(20) % 5], 5.0),
        (np.eye(5)[np.full(20, 2)], 1.0),
        ([[0.75, 0.25], [0.25, 0.75]], 1.1397535284773888),
    ],
)
def test_inception_score_of_known_answers(probabilities, expected):
    assert metrics.inception_score(probabilities) == pytest.approx(expected, rel=1e-13)


def test_inception_score_of_splits_is_shuffled():
    ordered = np.eye(10)[np.repeat(np.arange(10), 100)]
    spread = metrics.inception_score_splits(ordered)
    assert 9 < spread.mean < 10  # in order, every split would have the score 1
    assert spread.deviation < 0.3
    assert metrics.inception_score_splits(ordered) == spread
    whole = metrics.inception_score_splits(ordered, splits=1)
    assert whole == (pytest.approx(10), 0)
    with pytest.raises(ValueError, match="got 2 examples for 10 splits"):
        metrics.inception_score_splits(np.eye(2))


def test_scores_check_probabilities_and_labels():
    with pytest.raises(ValueError, match="sum to 1"):
        metrics.inception_score([[0.5, 0.6]])
    with pytest.raises(ValueError, match="negative"):
        metrics.inception_score([[1.5, -0.5]])
    with pytest.raises(ValueError, match="0 to 1, got 0 to 2"):
        metrics.conditional_accuracy(np.eye(2), [0, 2])
    with pytest.raises(TypeError, match="integers"):
        metrics.conditional_accuracy(np.eye(2), [0.0, 1.0])
    with pytest.raises(ValueError, match="shape"):
        metrics.conditional_accuracy(np.eye(2), [0])
    assert metrics.conditional_accuracy(np.eye(4), [0, 1, 2, 0]) == 0.75


# Modes


def test_mode_coverage_of_a_known_histogram():
    counts = (300, 0, 100, 100, 200, 100, 100, 100)
    centres = mixtures.ring(8, 2.0)
    samples = np.repeat(centres, counts, axis=0) + 0.01
    result = metrics.mode_coverage(samples, centres, 0.02)
    assert result.histogram.tolist() == list(counts)
    assert result.covered == 7
    assert result.high_quality == 1
    assert result.entropy == pytest.approx(1.8343719702816235, rel=1e-13)
    assert result.reverse_kl == pytest.approx(0.2450695713982122, rel=1e-13)
    assert result.jensen_shannon == pytest.approx(0.06972907821495153, rel=1e-13)
    assert (result.covered_at(101), result.covered_at(300)) == (2, 1)
    assert result.status == "ok"
    uniform = np.full(8, 1 / 8)
    theirs = divergences.jensen_shannon(result.histogram / 1000, uniform)
    assert result.jensen_shannon == pytest.approx(float(theirs), rel=1e-12)


def test_mode_coverage_of_one_mode_and_of_none():
    centres = mixtures.ring(8, 2.0)
    one = metrics.mode_coverage(centres[[3, 3]], centres, 0.02)
    assert one.covered == 1
    assert one.reverse_kl == pytest.approx(2.0794415416798357, rel=1e-14)
    none = metrics.mode_coverage(np.zeros((5, 2)), centres, 0.02)
    assert (none.covered, none.high_quality) == (0, 0)
    assert np.isnan([none.reverse_kl, none.jensen_shannon, none.entropy]).all()
    assert none.status == "no sample is of high quality"


@pytest.mark.parametrize("name", ["ring8/pacgan", "grid25/pacgan"])
def test_mode_coverage_of_a_perfect_sampler(name):
    mixture = mixtures.make(name)
    n, modes = 100_000, len(mixture.centres)
    samples = np.asarray(mixture.sample(jax.random.key(0), n))
    result = metrics.mode_coverage(samples, mixture.centres, mixture.sigma)
    share = 1 - math.exp(-4.5)
    deviation = math.sqrt(share * (1 - share) / n)
    assert abs(result.high_quality - share) < 4 * deviation
    assert result.covered == result.covered_at(n // 100) == modes
    # 2 n KL is chi-squared with K - 1 degrees of freedom.
    chi = 2 * result.histogram.sum() * result.reverse_kl
    assert abs(chi - (modes - 1)) < 4 * math.sqrt(2 * (modes - 1))


def test_mode_coverage_ignores_and_counts_what_is_not_finite():
    samples = [[0.0, 0.0], [math.nan, 0.0], [math.inf, 0.0], [1.0, 0.0]]
    result = metrics.mode_coverage(samples, [[0.0, 0.0], [1.0, 0.0]], 0.1)
    assert result.histogram.tolist() == [1, 1]
    assert result.high_quality == 0.5
    # The boundary is outside.
    edge = metrics.mode_coverage([[3.0]], [[0.0]], 1.0)
    assert edge.covered == 0
    with pytest.raises(ValueError, match="sigma must be positive"):
        metrics.mode_coverage(samples, [[0.0, 0.0]], 0.0)


def test_stacked_coverage_of_a_perfect_sampler():
    n = 1000
    digits = np.random.default_rng(0).integers(0, 10, (n, 3))
    result = metrics.stacked_coverage(np.eye(10)[digits])
    triples, counts = np.unique(digits @ [100, 10, 1], return_counts=True)
    assert result.covered == len(triples)
    assert result.covered_at(2) == np.sum(counts >= 2)
    expected = 1000 * (1 - 0.999**n)
    assert abs(result.covered - expected) < 4 * 10  # standard deviation: about 10
    assert result.reverse_kl == pytest.approx(math.log(1000) - result.entropy)
    assert result.histogram[triples].tolist() == counts.tolist()
    with pytest.raises(ValueError, match=r"\(n, 3, classes\)"):
        metrics.stacked_coverage(np.eye(10))
