"""Losses and penalties of GANs against naive forms, closed forms and known values."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gamedyn as gd
from gamedyn.gan import losses, penalties

BATCH = 64


def logits(seed, dtype=np.float64, size=BATCH):
    rng = np.random.default_rng(seed)
    return (2 * rng.standard_normal((2, size))).astype(dtype)


# Losses: probabilities and their logarithms, as the papers write them.


def _probability(x):
    return 1 / (1 + np.exp(-x))


def _log_d(x):
    return np.log(_probability(x)).mean()


def _log_not_d(x):
    return np.log(1 / (1 + np.exp(x))).mean()  # 1 - D, without its cancellation


def _value(r, f):
    return _log_d(r) + _log_not_d(f)


NAIVE = {  # (generator, discriminator)
    "minimax": (_value, lambda r, f: -_value(r, f)),
    "non_saturating": (lambda r, f: -_log_d(f), lambda r, f: -_value(r, f)),
    "least_squares": (
        lambda r, f: ((f - 1) ** 2).mean() / 2,
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
    ),
    "hinge": (
        lambda r, f: -f.mean(),
        lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
    ),
    "wasserstein": (
        lambda r, f: r.mean() - f.mean(),
        lambda r, f: f.mean() - r.mean(),
    ),
    "relativistic": (lambda r, f: -_log_d(f - r), lambda r, f: -_log_d(r - f)),
    "relativistic_zero_sum": (
        lambda r, f: _log_d(r - f),
        lambda r, f: -_log_d(r - f),
    ),
    "relativistic_average": (
        lambda r, f: -_log_d(f - r.mean()) - _log_not_d(r - f.mean()),
        lambda r, f: -_log_d(r - f.mean()) - _log_not_d(f - r.mean()),
    ),
}


@pytest.fixture(params=losses.names())
def name(request):
    return request.param


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_the_naive_forms(name, seed):
    real, fake = logits(seed)
    loss = losses.make(name)
    for found, expected in zip(loss[:2], NAIVE[name], strict=True):
        assert float(found(real, fake)) == pytest.approx(
            expected(real, fake), rel=1e-12, abs=1e-12
        )
        single = found(jnp.float32(real), jnp.float32(fake))
        assert single.dtype == jnp.float32
        assert float(single) == pytest.approx(expected(real, fake), rel=1e-5, abs=1e-5)


def test_losses_are_means_of_their_terms_in_any_shape(name):
    real, fake = logits(0).reshape(2, 4, 4, 4, 1)
    loss = losses.make(name)
    flat = logits(0)
    for index in range(2):
        total, terms = loss[index], loss[index + 2](real, fake)
        assert all(term.shape == real.shape for term in terms)
        expected = sum(float(term.mean()) for term in terms)
        assert float(total(real, fake)) == pytest.approx(expected, abs=1e-14)
        assert float(total(*flat)) == pytest.approx(expected, abs=1e-14)
    # One example at a time, where the losses are expectations.
    if losses.entry(name).expectation:
        mapped = jax.vmap(loss.discriminator)(*flat)
        assert float(mapped.mean()) == pytest.approx(
            float(loss.discriminator(*flat)), abs=1e-13
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_finite_for_huge_logits(name, dtype):
    @jax.jit
    def derivatives(real, fake):
        return [
            (
                jax.value_and_grad(function, (0, 1))(real, fake),
                jax.hessian(function, (0, 1))(real, fake),
            )
            for function in losses.make(name)[:2]
        ]

    signs = np.array([[1, 1, -1, -1], [1, -1, 1, -1]])
    for size in (1e3, 1e4):
        for array in jax.tree.leaves(derivatives(*jnp.asarray(size * signs, dtype))):
            assert array.dtype == dtype
            assert np.all(np.isfinite(array))


def test_non_saturating_slope_where_the_discriminator_is_sure():
    def slope(loss, x):
        return float(jax.grad(loss.generator, 1)(jnp.zeros(1), jnp.full(1, x))[0])

    assert slope(losses.non_saturating, -1000.0) == -1
    assert slope(losses.minimax, -1000.0) == 0
    assert slope(losses.non_saturating, 0.0) == slope(losses.minimax, 0.0) == -0.5


def _gradients(name, r, f):
    """The closed forms: d generator / df, d discriminator / d(r, f), times B."""
    s = _probability
    logistic = (-s(-r), s(f))
    return {
        "minimax": (-s(f), *logistic),
        "non_saturating": (-s(-f), *logistic),
        "least_squares": (f - 1, r - 1, f),
        "hinge": (-np.ones_like(f), -1.0 * (r < 1), 1.0 * (f > -1)),
        "wasserstein": (-np.ones_like(f), -np.ones_like(r), np.ones_like(f)),
        "relativistic": (-s(r - f), -s(f - r), s(f - r)),
        "relativistic_zero_sum": (-s(f - r), -s(f - r), s(f - r)),
        "relativistic_average": (
            -s(r.mean() - f) - s(r - f.mean()).mean(),
            -s(f.mean() - r) - s(f - r.mean()).mean(),
            s(f - r.mean()) + s(f.mean() - r).mean(),
        ),
    }[name]


def test_gradients_are_the_closed_forms(name):
    real, fake = logits(4)
    loss = losses.make(name)

    @jax.jit
    def gradients(real, fake):
        generator = jax.grad(loss.generator, 1)(real, fake)
        return generator, *jax.grad(loss.discriminator, (0, 1))(real, fake)

    found = gradients(real, fake)
    for gradient, expected in zip(found, _gradients(name, real, fake), strict=True):
        np.testing.assert_allclose(gradient * BATCH, expected, rtol=0, atol=1e-13)


def test_zero_sum_exactly_where_it_says_so(name):
    loss = losses.make(name)
    real, fake = logits(5)
    total = float(loss.generator(real, fake) + loss.discriminator(real, fake))
    assert (total == 0) == loss.zero_sum
    # The hinge pair sums to a constant while every logit lies in (-1, 1), only there.
    if name == "hinge":
        inside = loss.generator(real / 10, fake / 10) + loss.discriminator(
            real / 10, fake / 10
        )
        assert np.max(np.abs(logits(5) / 10)) < 1
        assert float(inside) == pytest.approx(2 - real.mean() / 10, abs=1e-13)


def test_values_at_the_solution(name):
    entry = losses.entry(name)
    # The discriminator cannot tell: logit 0, or 1/2 where the logit is the output.
    same = np.full(8, 0.5 if name == "least_squares" else 0.0)
    discriminator = float(entry.loss.discriminator(same, same))
    assert discriminator == pytest.approx(entry.discriminator_value, abs=1e-15)
    generator = float(entry.loss.generator(same, same))
    if entry.generator_value is not None:
        assert generator == pytest.approx(entry.generator_value, abs=1e-15)
    if name == "hinge":
        for constant in (-1.0, 0.3, 1.0):
            logit = np.full(8, constant)
            assert float(entry.loss.discriminator(logit, logit)) == pytest.approx(2)
            assert float(entry.loss.generator(logit, logit)) == -constant


P, Q = np.array([2, 5, 3]), np.array([4, 1, 5])  # tenths


@pytest.mark.parametrize(
    ("name", "best", "value"),
    [
        ("minimax", np.log(P / Q), 1.1814958168230563),
        ("non_saturating", np.log(P / Q), 1.1814958168230563),
        ("least_squares", P / (P + Q), 0.20208333333333334),
        ("hinge", np.sign(P - Q).astype(float), 1.2),
    ],
)
def test_optimal_discriminators(name, best, value):
    at_p, at_q = np.repeat(np.arange(3), P), np.repeat(np.arange(3), Q)

    @jax.jit
    def loss(logit):
        return losses.make(name).discriminator(logit[at_p], logit[at_q])

    assert float(loss(best)) == pytest.approx(value, abs=1e-14)
    if name != "hinge":
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(best), 0, atol=1e-15)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0):
        assert loss(best + size * rng.standard_normal(3)) >= loss(best)


def test_registry():
    assert set(losses.names()) == set(NAIVE)
    for name, entry in losses.entries().items():
        assert losses.make(name.replace("_", "-")) is entry.loss
        assert getattr(losses, name) is entry.loss
        assert entry.summary
        assert "L_G" in entry.formula
        assert "arXiv:" in entry.source
        assert hash(entry.loss) == hash(losses.make(name))
    with pytest.raises(ValueError, match="did you mean non_saturating"):
        losses.make("nonsaturating")


def test_bad_logits(name):
    loss = losses.make(name)
    for function in loss:
        if not callable(function):
            continue
        with pytest.raises(TypeError, match="floating-point, got dtype int"):
            function(np.arange(3), np.arange(3))
        with pytest.raises(TypeError, match="same dtype"):
            function(np.zeros(3), np.zeros(3, np.float32))
        with pytest.raises(ValueError, match="at least one logit"):
            function(np.zeros(0), np.zeros(0))
    if loss.paired:
        # (B,) against (B, 1) would broadcast to all pairs.
        with pytest.raises(ValueError, match="equal shapes"):
            loss.generator(np.zeros(3), np.zeros((3, 1)))
    else:
        assert np.isfinite(loss.discriminator(np.zeros(3), np.zeros((5, 1))))


# Penalties.

SHAPES = [(1, 3), (2, 3), (7, 3), (1, 4, 4, 3), (7, 4, 4, 3)]


def identity(key, x):
    del key
    return x


def penalty(name, augment=identity):
    function = penalties.entry(name).penalty
    if name == "consistency":
        return functools.partial(function, augment=augment, balanced=True)
    return function


@pytest.fixture(params=penalties.names())
def penalty_name(request):
    return request.param


def linear(w, x):
    return jnp.sum(x * w[None], axis=tuple(range(1, x.ndim)))


def smooth(params, x):
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ params["in"])
    return hidden @ params["out"]


def smooth_params(size, dtype=np.float64):
    rng = np.random.default_rng(3)
    return {
        "in": jnp.asarray(rng.standard_normal((size, 5)), dtype),
        "out": jnp.asarray(rng.standard_normal((5, 1)), dtype),
    }


def examples(shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, *shape)).astype(dtype)


def test_linear_critic_exactly(penalty_name):
    @jax.jit
    def run(scale):
        found = []
        for shape in SHAPES:
            real, fake = examples(shape)
            w = examples(shape, seed=1)[0, 0]
            w = scale * w / np.linalg.norm(w)
            key = jax.random.key(0)
            function = penalty(penalty_name)
            found.append(function(linear, w, real, fake, key, weight=7.0))
        return found

    for scale in (0.2, 3.0):
        expected = {
            "gradient_penalty": (scale - 1) ** 2,
            "lipschitz_penalty": max(0, scale - 1) ** 2,
            "zero_centred_penalty": scale**2,
            "r1": scale**2 / 2,
            "r2": scale**2 / 2,
            "dragan": (scale - 1) ** 2,
            "consistency": 0,
        }[penalty_name]
        for found in run(scale):
            assert found.shape == ()
            assert float(found) == pytest.approx(7 * expected, rel=1e-12)


def quadratic(params, x):
    del params
    return jnp.sum(x * x, axis=-1) / 2  # the gradient is x


def test_one_interpolation_for_each_example():
    size = 4096
    real, fake = np.ones((size, 1)), np.zeros((size, 1))

    @jax.jit
    def run(key):
        two_sided = penalties.gradient_penalty(
            quadratic, (), real, fake, key, weight=1.0
        )
        centred = penalties.zero_centred_penalty(
            quadratic, (), real, fake, key, weight=1.0
        )
        return two_sided, centred

    for seed in range(3):
        for found in run(jax.random.key(seed)):
            assert abs(float(found) - 1 / 3) < 4 * math.sqrt(4 / 45 / size)
    # Its share is uniform on (0, 1), and shared by all entries of the example.
    interpolate = jax.jit(penalties.interpolate)
    key = jax.random.key(7)
    points = np.asarray(interpolate(key, np.ones((size, 2, 3)), np.zeros((size, 2, 3))))
    assert np.all(points == points[:, :1, :1])
    share = np.sort(points[:, 0, 0])
    gap = np.max(np.abs(share - (np.arange(size) + 0.5) / size))
    assert gap < 1.95 / math.sqrt(size)  # Kolmogorov-Smirnov at 0.001
    real, fake = examples((5, 2))
    points = np.asarray(interpolate(key, real, fake))
    share = (points - fake) / (real - fake)
    np.testing.assert_allclose(share[:, 0], share[:, 1], rtol=1e-10)


def test_r1_and_r2_look_at_real_and_at_fake():
    real, fake = examples((6, 3))
    key = jax.random.key(0)
    for function, points in ((penalties.r1, real), (penalties.r2, fake)):
        found = function(quadratic, (), real, fake, key, weight=0.3)
        expected = 0.15 * np.mean(np.sum(np.square(points), axis=1))
        assert float(found) == pytest.approx(expected, rel=1e-13)


def test_dragan_looks_around_the_data():
    real = np.random.default_rng(0).choice([9.0, 11.0], (20_000, 1))
    nothing, key = np.zeros_like(real), jax.random.key(0)

    @jax.jit
    def run(scale):
        return penalties.dragan(
            quadratic, (), real, nothing, key, weight=1.0, scale=scale
        )

    # The standard deviation is 1: x + c u for u uniform on [0, 1).
    for scale in (0.5, 2.0):
        found = run(scale)
        mean = np.mean(np.square(real - 1))
        expected = mean + scale * (np.mean(real) - 1) + scale**2 / 3
        error = scale * 20 / math.sqrt(12 * real.size)
        assert abs(float(found) - expected) < 4 * error


def test_consistency():
    real, fake = examples((6, 3))
    w = jnp.array([1.0, -2.0, 0.5])
    key = jax.random.key(0)

    def shift(key, x):
        del key
        return x + 1

    run = functools.partial(penalties.consistency, linear, w, real, fake, key)
    assert float(run(augment=shift)) == pytest.approx(10 * 0.25)
    assert float(run(augment=shift, balanced=True)) == pytest.approx(2 * 10 * 0.25)

    def jitter(key, x):
        return x + jax.random.uniform(key, (1, 1), x.dtype)

    # Real and fake examples get augmentations of their own.
    same = functools.partial(penalties.consistency, linear, w, real, real, key)
    twice = float(same(augment=jitter, balanced=True))
    assert twice != pytest.approx(2 * float(same(augment=jitter)))
    with pytest.raises(ValueError, match="equal shapes"):
        run(augment=lambda key, x: x[:, :2])

    found = penalties.latent_consistency(linear, w, fake, fake + 1, weight=3.0)
    assert float(found) == pytest.approx(3 * 0.25)
    found = penalties.latent_diversity(fake, fake + 2, weight=3.0)
    assert float(found) == pytest.approx(-3 * 12)


@pytest.mark.parametrize(
    "penalty_name",
    ["gradient_penalty", "lipschitz_penalty", "dragan", "zero_centred_penalty"],
)
def test_zero_gradient_is_safe(penalty_name):
    dtype = np.float32  # the narrower range
    params = jax.tree.map(jnp.zeros_like, smooth_params(48, dtype))
    real, fake = examples((3, 4, 4, 3), dtype=dtype)

    def run(params):
        return penalty(penalty_name)(
            smooth, params, real, fake, jax.random.key(0), weight=1.0
        )

    @jax.jit
    def derivatives(params):
        second = jax.jvp(jax.grad(run), (params,), (params,))[1]
        return jax.value_and_grad(run)(params), second

    (value, gradient), second = derivatives(params)
    assert value.dtype == dtype
    two_sided = penalty_name in ("gradient_penalty", "dragan")
    assert float(value) == (1 if two_sided else 0)
    for leaf in jax.tree.leaves((gradient, second)):
        assert np.all(leaf == 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_norm_near_zero(dtype):
    direction = jnp.array([[0.6, 0.8]], dtype)

    def norm(g):
        return penalties.norm(g)[0]

    @jax.jit
    def derivatives(g):
        orders = (jax.grad(norm), jax.hessian(norm), jax.jacfwd(jax.hessian(norm)))
        return norm(g), *(order(g) for order in orders)

    for size in (1e-30, 1e-14, 1e-12, 1e-9, 1e-3, 1.0, 1e9):
        value, gradient, second, _ = derivatives(size * direction)
        assert np.all(np.isfinite(second))
        if size > 1e-13 or dtype == jnp.float64:
            assert float(value) == pytest.approx(size, rel=1e-6)
            np.testing.assert_allclose(gradient, direction, rtol=1e-5)
            square = second.reshape(2, 2) * size
            expected = np.eye(2) - np.outer(direction[0], direction[0])
            np.testing.assert_allclose(square, expected, atol=1e-5)
    for order in derivatives(jnp.zeros((1, 2), dtype)):
        assert np.all(order == 0)


def _central(function, point, direction, step=1e-5):
    ahead = function(point + step * direction)
    return (ahead - function(point - step * direction)) / (2 * step)


def test_derivatives_are_finite_and_right(penalty_name):
    """Also through the generator: nothing is stopped."""
    real, base = examples((4, 3))
    params, unravel = jax.flatten_util.ravel_pytree(smooth_params(3))
    function = penalty(penalty_name, augment=lambda key, x: x[:, ::-1])

    @jax.jit
    def run(theta, params):
        key = jax.random.key(2)
        return function(smooth, unravel(params), real, theta * base, key, weight=2.0)

    theta = jnp.array(0.7)
    direction = jnp.asarray(np.random.default_rng(9).standard_normal(params.shape))
    gradient = jax.jit(jax.grad(run, 1))
    slope = _central(lambda p: run(theta, p), params, direction)
    np.testing.assert_allclose(gradient(theta, params) @ direction, slope, rtol=1e-6)
    push = jax.jit(lambda at, along: jax.jvp(gradient, at, along)[1])
    second = push((theta, params), (jnp.zeros_like(theta), direction))
    numeric = _central(lambda p: gradient(theta, p), params, direction)
    np.testing.assert_allclose(second, numeric, rtol=1e-5, atol=1e-7)
    mixed = push((theta, params), (jnp.ones_like(theta), jnp.zeros_like(params)))
    numeric = _central(lambda t: gradient(t, params), theta, jnp.array(1.0))
    np.testing.assert_allclose(mixed, numeric, rtol=1e-5, atol=1e-7)
    assert penalties.entry(penalty_name).uses_fake == bool(np.any(mixed != 0))


def test_gradients_are_those_of_the_single_examples():
    real, _ = examples((5, 4, 4, 3))
    params = smooth_params(48)
    single = jax.vmap(jax.grad(lambda x: smooth(params, x[None])[0, 0]))
    single = jax.jit(single)(real)
    found = jax.jit(lambda x: penalties.input_gradients(smooth, params, x))(real)
    np.testing.assert_allclose(found, single, rtol=1e-13)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_eigenvalues_of_the_dirac_gan(name):
    loss = losses.make(name)
    zeros, key = jnp.zeros((1, 1)), jax.random.key(0)

    def critic(phi, x):
        return phi * x[:, 0]

    @jax.jit
    def jacobian(gamma):
        def generator(theta, phi):
            return loss.generator(critic(phi, zeros), critic(phi, theta + zeros))

        def discriminator(theta, phi):
            fake = theta + zeros
            base = loss.discriminator(critic(phi, zeros), critic(phi, fake))
            return base + penalties.r1(critic, phi, zeros, fake, key, weight=gamma)

        field = gd.fields.gradient(gd.general_sum(generator, discriminator))
        at = (jnp.array(0.0), jnp.array(0.0))
        return jnp.array(jax.jacobian(field)(at, None))

    for gamma in (0.0, 0.5, 1.0, 2.0):
        found = np.sort_complex(np.linalg.eigvals(np.asarray(jacobian(gamma))))
        root = np.sqrt(complex(gamma**2 - 1))
        expected = np.sort_complex(np.array([(gamma - root) / 2, (gamma + root) / 2]))
        np.testing.assert_allclose(found, expected, atol=1e-7)  # double at gamma = 1


def test_lazy_factor_and_lazily():
    for interval in (1, 4, 16):
        factors = [
            float(penalties.lazy_factor(step, interval=interval))
            for step in range(3 * interval)
        ]
        assert factors == 3 * [float(interval), *[0.0] * (interval - 1)]
    for dtype in (jnp.float32, jnp.float64):
        value = jnp.asarray(0.3, dtype)
        for step in (0, 1, 16):
            product = penalties.lazy_factor(step) * value
            lazily = jax.jit(lambda k, v=value: penalties.lazily(lambda: v, k))(step)
            assert product.dtype == lazily.dtype == dtype
            assert float(product) == float(lazily)
    for function in (penalties.lazy_factor, functools.partial(penalties.lazily, None)):
        with pytest.raises(ValueError, match="interval must be a positive integer"):
            function(0, interval=0)


def test_lazy_steps_end_where_full_ones_do():
    real, fake = examples((8, 2))
    key = jax.random.key(0)

    def distance(step_size):
        def descend(lazy):
            def step(params, k):
                def loss(params):
                    def term():
                        return penalties.r1(smooth, params, real, fake, key, weight=0.1)

                    r, f = smooth(params, real), smooth(params, fake)
                    base = losses.wasserstein.discriminator(r, f)
                    return base + (penalties.lazily(term, k) if lazy else term())

                gradient = jax.grad(loss)(params)
                return jax.tree.map(
                    lambda p, g: p - step_size * g, params, gradient
                ), None

            return jax.lax.scan(step, smooth_params(2), jnp.arange(16))[0]

        apart = jax.tree.map(jnp.subtract, descend(True), descend(False))
        return jax.flatten_util.ravel_pytree(apart)[0]

    far, near = (jnp.linalg.norm(jax.jit(distance)(size)) for size in (2e-4, 1e-4))
    assert float(far / near) == pytest.approx(4, rel=0.05)  # of second order


def test_lazy_adam():
    found = penalties.lazy_adam(1e-3, 0.0, 0.99)
    c = 16 / 17
    assert found == pytest.approx((1e-3 * c, 0.0, 0.99**c))
    # Over 17 steps Adam then forgets as much as over 16 before.
    assert found.b2**17 == pytest.approx(0.99**16)


def test_penalties_registry():
    for name, entry in penalties.entries().items():
        assert getattr(penalties, name) is entry.penalty
        assert entry.summary
        assert "E " in entry.formula
        assert "arXiv:" in entry.source
    with pytest.raises(ValueError, match="did you mean gradient_penalty"):
        penalties.entry("gradient_penalti")


def test_penalties_refuse_bad_input(penalty_name):
    run = penalty(penalty_name)
    real, fake = examples((4, 3))
    w, key = jnp.ones(3), jax.random.key(0)
    with pytest.raises(ValueError, match="weight must not be negative, got -1"):
        run(linear, w, real, fake, key, weight=-1)
    with pytest.raises(ValueError, match=r"shape \(4, ...\), got shape \(\)"):
        run(lambda w, x: jnp.mean(linear(w, x)), w, real, fake, key)
    with pytest.raises(TypeError, match="floating-point, got dtype int"):
        run(linear, w, jnp.ones((4, 3), int), jnp.ones((4, 3), int), key)
    with pytest.raises(ValueError, match="expected a batch of examples"):
        run(linear, w, real[:0], fake[:0], key)
    if penalty_name in ("gradient_penalty", "lipschitz_penalty"):
        with pytest.raises(ValueError, match="equal shapes"):
            run(linear, w, real, fake[:1], key)
        with pytest.raises(TypeError, match="same dtype"):
            run(linear, w, real, jnp.float32(fake), key)


def test_penalties_under_jit_with_a_traced_weight(penalty_name):
    real, fake = examples((4, 3))
    params, key = smooth_params(3), jax.random.key(0)
    run = functools.partial(penalty(penalty_name), smooth)
    jitted = jax.jit(lambda weight: run(params, real, fake, key, weight=weight))
    assert float(jitted(1.0)) > 0 or penalty_name == "consistency"
    np.testing.assert_allclose(jitted(3.0), 3 * jitted(1.0), rtol=1e-12)
