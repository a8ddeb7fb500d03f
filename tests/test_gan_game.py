"""The game of a GAN: its losses term by term, its gradients, what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn import gan
from gamedyn.gan import conditional, losses, penalties

SIZE = 3


def generator(theta, z):
    return jnp.tanh(z @ theta["a"]) @ theta["b"]


def discriminator(phi, x):
    return (jnp.tanh(x @ phi["a"]) @ phi["b"])[:, 0]


def network(key, sizes, dtype):
    a, b = jax.random.split(key)
    return {
        "a": jax.random.normal(a, sizes[:2], dtype),
        "b": jax.random.normal(b, sizes[1:], dtype),
    }


def start(inputs=SIZE, latents=2, dtype=jnp.float64, seed=0):
    g, d = jax.random.split(jax.random.key(seed))
    return network(g, (latents, 5, SIZE), dtype), network(d, (inputs, 4, 1), dtype)


def data(number=8, dtype=jnp.float64, **fields):
    real = jax.random.normal(jax.random.key(7), (number, SIZE), dtype)
    return gan.Batch(real, jax.random.key(8), **fields)


def make(loss="non_saturating", **options):
    options = {"latent": gan.normal(2), **options}
    return gan.game(generator, discriminator, loss, **options)


def fakes_of(game, params, batch):
    """Latents and fakes, through the record of the game's own evaluation."""
    z = jax.random.normal(jax.random.key(11), (len(batch.real), 2), batch.real.dtype)
    return z, generator(params[0], z)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", losses.names())
def test_losses_are_those_of_the_logits(name, dtype):
    params = start(dtype=dtype)
    z, fake = fakes_of(None, params, data(dtype=dtype))
    batch = data(dtype=dtype, latent=z)
    got = make(name)(params, batch)
    pair = losses.make(name)
    real, false = discriminator(params[1], batch.real), discriminator(params[1], fake)
    expected = pair.generator(real, false), pair.discriminator(real, false)
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == jnp.float32 else 0)
    assert all(value.dtype == dtype for value in got)


def test_latents_come_from_the_key():
    params, game = start(), make()
    same, other = data(), data()._replace(key=jax.random.key(9))
    assert game(params, same) == game(params, same)
    assert game(params, same)[0] != game(params, other)[0]


BOUND = {
    name: functools.partial(
        entry.penalty,
        weight=0.3,
        **({"augment": lambda key, x: 1.1 * x} if name == "consistency" else {}),
    )
    for name, entry in penalties.entries().items()
}


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein"])
def test_penalties_are_the_discriminators(name, loss):
    params = start()
    z, fake = fakes_of(None, params, data())
    batch = data(latent=z)
    plain, paid = make(loss), make(loss, penalties=(BOUND[name],))
    before, after = plain(params, batch), paid(params, batch)
    if name not in ("gradient_penalty", "lipschitz_penalty", "zero_centred_penalty"):
        key = jax.random.fold_in(jax.random.split(batch.key, 4)[3], 0)
        expected = BOUND[name](discriminator, params[1], batch.real, fake, key)
        np.testing.assert_allclose(after[1] - before[1], expected, rtol=1e-9)
    assert after[1] > before[1]
    # The generator's gradient does not know of it.
    first, second = (
        gd.fields.gradient(game)(params, batch)[0] for game in (plain, paid)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), first, second
    )
    closed = plain.zero_sum and not penalties.entry(name).uses_fake
    assert paid.zero_sum == closed
    if closed:
        assert after[0] == -after[1]
    else:
        assert after[0] == before[0]


def test_linear_critic_pays_exactly():
    w = jnp.array([3.0, 0.0, 4.0])
    game = gan.game(
        generator,
        lambda w, x: x @ w,
        "wasserstein",
        latent=gan.normal(2),
        penalties=(BOUND["gradient_penalty"],),
    )
    batch = data()
    theta = start()[0]
    plain = gan.game(generator, lambda w, x: x @ w, "wasserstein", latent=gan.normal(2))
    difference = game((theta, w), batch)[1] - plain((theta, w), batch)[1]
    np.testing.assert_allclose(difference, 0.3 * 16, rtol=1e-12)


def test_gradient_is_that_of_finite_differences():
    game = make("relativistic", penalties=(BOUND["r2"], BOUND["gradient_penalty"]))
    params, batch = start(), data()
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    direction = jax.random.normal(jax.random.key(5), flat.shape)
    field = gd.fields.gradient(game)(params, batch)
    for player in range(2):
        own = tuple(
            jax.tree.map(lambda x, on=float(i == player): x * on, part)
            for i, part in enumerate(unflatten(direction))
        )
        step = jax.flatten_util.ravel_pytree(own)[0]
        h = 1e-6
        ahead, behind = (
            game(unflatten(flat + s * h * step), batch)[player] for s in (1, -1)
        )
        slope = sum(
            jnp.vdot(a, b)
            for a, b in zip(
                jax.tree.leaves(field[player]),
                jax.tree.leaves(own[player]),
                strict=True,
            )
        )
        np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-6)


def test_alternation_sees_the_new_discriminator():
    game, params, batch = make(), start(), data()
    field = gd.fields.gradient(game)
    rule = gd.alternating(optax.sgd(0.1), order=(1, 0))
    new, _ = rule.update(field, params, rule.init(params), (batch,))
    theta, phi = params
    phi = jax.tree.map(lambda p, g: p - 0.1 * g, phi, field((theta, phi), batch)[1])
    theta = jax.tree.map(lambda p, g: p - 0.1 * g, theta, field((theta, phi), batch)[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), new, (theta, phi)
    )


def test_zero_sum_game_is_skew():
    game = make("minimax", penalties=(BOUND["r1"],))
    params, batch = start(), data()
    jacobian = gd.analysis.game_jacobian(game, params, batch)
    size = sum(leaf.size for leaf in jax.tree.leaves(params[0]))
    upper, lower = jacobian[:size, size:], jacobian[size:, :size]
    assert float(jnp.abs(upper).max()) > 1e-3
    np.testing.assert_allclose(upper, -lower.T, atol=1e-12)


def test_packing():
    phi = network(jax.random.key(3), (2 * SIZE, 4, 1), jnp.float64)
    params, batch = (start()[0], phi), data()
    z, fake = fakes_of(None, params, batch)
    game = make("hinge", pack=2, penalties=(BOUND["r1"],))
    got = game(params, batch._replace(latent=z))[1]
    pairs = [jnp.concatenate([x[::2], x[1::2]], axis=1) for x in (batch.real, fake)]
    expected = losses.make("hinge").discriminator(
        *(discriminator(phi, x) for x in pairs)
    ) + BOUND["r1"](discriminator, phi, *pairs, None)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="multiple of pack=2, got shape"):
        game(params, data(7))


def test_augmentation_is_of_both_and_in_both_losses():
    def shift(key, x):
        return x + jax.random.uniform(key, (x.shape[0], 1), x.dtype)

    params, batch = start(), data()
    z, fake = fakes_of(None, params, batch)
    batch = batch._replace(latent=z)
    keys = jax.random.split(jax.random.split(batch.key, 4)[2])
    logits = [
        discriminator(params[1], shift(key, x))
        for key, x in zip(keys, (batch.real, fake), strict=True)
    ]
    got = make("relativistic", augment=shift)(params, batch)
    pair = losses.make("relativistic")
    expected = pair.generator(*logits), pair.discriminator(*logits)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_lazy_penalty():
    params = start()
    lazy = make(penalties=(gan.lazy(BOUND["r1"], interval=4),))
    eager, plain = make(penalties=(BOUND["r1"],)), make()
    base, full = plain(params, data())[1], eager(params, data())[1]
    for step in range(6):
        got = lazy(params, data(step=jnp.asarray(step)))[1]
        expected = base + 4 * (full - base) * float(step % 4 == 0)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="Batch.step"):
        lazy(params, data())
    with pytest.raises(ValueError, match="not a penalty of the discriminator alone"):
        gan.lazy(gan.latent_consistency())


def test_lazy_steps_differ_in_second_order_only():
    """16 SGD steps with the lazy term, and with the full one."""

    def run(term, rate):
        game = make(penalties=(term,))
        rule = gd.alternating(optax.set_to_zero(), optax.sgd(rate))
        field, params = gd.fields.gradient(game), start()
        state = rule.init(params)
        update = jax.jit(lambda *now: rule.update(field, *now))
        for step in range(16):
            params, state = update(params, state, (data(step=jnp.asarray(step)),))
        return jax.flatten_util.ravel_pytree(params[1])[0]

    gaps = [
        float(jnp.abs(run(gan.lazy(BOUND["r1"]), rate) - run(BOUND["r1"], rate)).max())
        for rate in (1e-3, 1e-4)
    ]
    assert 80 < gaps[0] / gaps[1] < 120


def test_latent_consistency_has_two_owners():
    params = start()
    z, fake = fakes_of(None, params, data())
    batch = data(latent=z)
    term = gan.latent_consistency(weight=2.0, diversity=0.5, scale=0.1)
    got = np.subtract(make(penalties=(term,))(params, batch), make()(params, batch))
    key = jax.random.fold_in(jax.random.split(batch.key, 4)[3], 0)
    moved = generator(params[0], z + 0.1 * jax.random.normal(key, z.shape))
    distance = np.mean(np.sum((fake - moved) ** 2, axis=1))
    change = discriminator(params[1], fake) - discriminator(params[1], moved)
    np.testing.assert_allclose(
        got, [-0.5 * distance, 2 * np.mean(change**2)], rtol=1e-9
    )


def one_hot(labels, dtype):
    return jax.nn.one_hot(labels, 3, dtype=dtype)


def conditional_generator(theta, z, labels):
    return generator(theta, jnp.concatenate([z, one_hot(labels, z.dtype)], 1))


def conditional_discriminator(phi, x, labels):
    return discriminator(phi, jnp.concatenate([x, one_hot(labels, x.dtype)], 1))


LABELS = jnp.array([0, 1, 2, 0, 1, 2, 1, 1])


def conditional_game(**options):
    return gan.game(
        conditional_generator,
        conditional_discriminator,
        "minimax",
        latent=gan.normal(2),
        conditional=conditional.classes(3, **options),
    )


def test_conditional_game():
    params = start(SIZE + 3, 5)
    z = jax.random.normal(jax.random.key(1), (8, 2))
    batch = data(labels=LABELS, latent=z)
    got = conditional_game()(params, batch)[1]
    fake = conditional_generator(params[0], z, LABELS)
    expected = losses.make("minimax").discriminator(
        *(conditional_discriminator(params[1], x, LABELS) for x in (batch.real, fake))
    )
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert conditional_game().zero_sum

    permuted = conditional_game(fakes="permuted")(params, batch)[1]
    assert permuted != got
    order = jax.random.permutation(jax.random.split(batch.key, 4)[1], LABELS)
    assert sorted(order.tolist()) == sorted(LABELS.tolist())
    fake = conditional_generator(params[0], z, order)
    expected = losses.make("minimax").discriminator(
        conditional_discriminator(params[1], batch.real, LABELS),
        conditional_discriminator(params[1], fake, order),
    )
    np.testing.assert_allclose(permuted, expected, rtol=1e-12)


def test_auxiliary_classifier():
    def two_heads(phi, x):
        return discriminator(phi, x), jnp.tanh(x) @ jnp.ones((SIZE, 3))

    def game(weight):
        return gan.game(
            conditional_generator,
            two_heads,
            "minimax",
            latent=gan.normal(2),
            conditional=conditional.classes(3, auxiliary=weight),
        )

    params = start(SIZE, 5)
    z = jax.random.normal(jax.random.key(1), (8, 2))
    batch = data(labels=LABELS, latent=z)
    assert not game(1.0).zero_sum
    got = np.subtract(game(2.0)(params, batch), game(1.0)(params, batch))
    fake = conditional_generator(params[0], z, LABELS)
    entropy = [
        optax.softmax_cross_entropy_with_integer_labels(
            jnp.tanh(x) @ jnp.ones((SIZE, 3)), LABELS
        ).mean()
        for x in (batch.real, fake)
    ]
    np.testing.assert_allclose(got, [entropy[1], sum(entropy)], rtol=1e-9)
    with pytest.raises(ValueError, match=r"must return logits, got a tuple"):
        gan.game(generator, two_heads, "hinge", latent=gan.normal(2))(start(), data())
    with pytest.raises(ValueError, match=r"must return \(logits, class logits\), got"):
        gan.game(
            conditional_generator,
            discriminator,
            "hinge",
            latent=gan.normal(2),
            conditional=conditional.classes(3, auxiliary=1.0),
        )(params, batch)


def test_pictures_to_pictures():
    real = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
    given = jax.random.normal(jax.random.key(1), (4, 6, 6, 2))

    def translate(theta, z, picture):
        return theta * picture[..., :1] + 0 * z[:, :1, None, None]

    def judge(phi, x, picture):
        return phi * jnp.sum(x * picture[..., :1], axis=(1, 2, 3))

    def game(weight):
        return gan.game(
            translate,
            judge,
            "non_saturating",
            latent=gan.normal(1),
            conditional=conditional.pictures(reconstruction=weight),
        )

    params = (jnp.array(0.5), jnp.array(0.1))
    batch = gan.Batch(real, jax.random.key(2), given)
    got = np.subtract(game(10.0)(params, batch), game(0.0)(params, batch))
    distance = np.abs(np.asarray(real - 0.5 * given[..., :1])).mean()
    np.testing.assert_allclose(got, [10 * distance, 0], rtol=1e-12)
    with pytest.raises(ValueError, match="one condition picture per example"):
        game(1.0)(params, batch._replace(labels=given[:, :3]))


def test_monitor_shares_the_step():
    game = make(penalties=(BOUND["gradient_penalty"],))
    params, batch = start(), data()
    record = gan.monitor(game)(params, None, (batch,), 0)
    np.testing.assert_allclose(
        [record["loss_generator"], record["loss_discriminator"]], game(params, batch)
    )
    assert record["gradient_penalty_discriminator"] > 0
    assert 0 <= record["accuracy_real"] <= 1
    z = gan.normal(2)(jax.random.split(batch.key, 4)[0], 8, batch.real.dtype)
    logits = discriminator(params[1], generator(params[0], z))
    np.testing.assert_allclose(record["logit_fake"], logits.mean(), rtol=1e-12)
    np.testing.assert_allclose(record["accuracy_fake"], np.mean(logits < 0))
    with pytest.raises(TypeError, match="made by gamedyn.gan.game"):
        gan.monitor(gd.zero_sum(lambda x, y: x * y))


def test_samples_do_not_depend_on_the_batch():
    theta = start()[0]
    key = jax.random.key(4)
    draw = functools.partial(
        gan.samples, generator, theta, key, 23, latent=gan.normal(2), dtype=jnp.float64
    )
    whole = draw()
    assert whole.shape == (23, SIZE)
    np.testing.assert_allclose(draw(batch_size=5), whole, atol=1e-15)
    expected = generator(theta, gan.normal(2)(key, 23, jnp.float64))
    np.testing.assert_allclose(whole, expected, atol=1e-15)
    labelled = gan.samples(
        conditional_generator,
        start(latents=5)[0],
        key,
        8,
        latent=gan.normal(2),
        labels=LABELS,
        batch_size=3,
        dtype=jnp.float64,
    )
    np.testing.assert_allclose(
        labelled,
        conditional_generator(
            start(latents=5)[0], gan.normal(2)(key, 8, jnp.float64), LABELS
        ),
        atol=1e-15,
    )
    with pytest.raises(ValueError, match="expected 23 labels, got 8"):
        draw(labels=LABELS)


def test_latents():
    z = gan.normal(4)(jax.random.key(0), 4000, jnp.float32)
    assert z.shape == (4000, 4)
    assert z.dtype == jnp.float32
    assert abs(float(z.mean())) < 0.04
    assert abs(float(z.std()) - 1) < 0.03
    u = gan.uniform(2, 0.0, 3.0)(jax.random.key(0), 4000, jnp.float64)
    assert 0 <= float(u.min()) < 0.01 < 2.99 < float(u.max()) < 3
    with pytest.raises(ValueError, match="positive integer"):
        gan.normal(0)
    with pytest.raises(ValueError, match="high must be above low"):
        gan.uniform(2, 1.0, 1.0)


def test_refusals():
    class Coupled:
        apply = staticmethod(discriminator)
        batch_statistics = True

    def build(**options):
        return gan.game(generator, Coupled, "minimax", latent=gan.normal(2), **options)

    for name in BOUND:
        if name == "consistency":
            build(penalties=(BOUND[name],))
            continue
        with pytest.raises(ValueError, match=f"{name} differentiates each example"):
            build(penalties=(BOUND[name],))
    with pytest.raises(ValueError, match="lazy_r1 differentiates"):
        build(penalties=(gan.lazy(BOUND["r1"]),))
    with pytest.raises(ValueError, match="non_saturating"):
        make("non_saturting")
    with pytest.raises(ValueError, match="packing joins"):
        make(pack=2, conditional=conditional.classes(3))
    with pytest.raises(ValueError, match="positive integer"):
        make(pack=0)
    with pytest.raises(TypeError, match="the generator must be a Net or a function"):
        gan.game(3, discriminator, "hinge")
    with pytest.raises(ValueError, match="fakes with the labels of the batch"):
        gan.game(
            generator,
            discriminator,
            "hinge",
            penalties=(BOUND["gradient_penalty"],),
            conditional=conditional.classes(3, fakes="permuted"),
        )
    with pytest.raises(ValueError, match="fakes must be"):
        conditional.classes(3, fakes="fresh")


def test_bad_batches():
    params = start()
    with pytest.raises(TypeError, match="gamedyn.gan.Batch, got ArrayImpl"):
        make()(params, data().real)
    with pytest.raises(ValueError, match="has labels, and the game is not"):
        make()(params, data(labels=LABELS))
    with pytest.raises(ValueError, match=r"conditional on classes\(3\), and the batch"):
        conditional_game()(start(SIZE + 3, 5), data())
    with pytest.raises(ValueError, match="labels must be in 0 to 2, got 0 to 3"):
        conditional_game()(start(SIZE + 3, 5), data(labels=LABELS.at[0].set(3)))
    with pytest.raises(TypeError, match="labels must be integers, got dtype float64"):
        conditional_game()(start(SIZE + 3, 5), data(labels=LABELS.astype(float)))
    with pytest.raises(ValueError, match=r"labels of shape \(8,\), got \(4,\)"):
        conditional_game()(start(SIZE + 3, 5), data(labels=LABELS[:4]))
    with pytest.raises(ValueError, match=r"data's shape \(8, 2\), got \(8, 3\)"):
        make()(params, data()._replace(real=jnp.ones((8, 2))))
    with pytest.raises(ValueError, match=r"one logit per example, shape \(8,\)"):
        gan.game(
            generator,
            lambda phi, x: jnp.sum(discriminator(phi, x)),
            "hinge",
            latent=gan.normal(2),
        )(params, data())


def test_one_trace_for_every_batch():
    game = make(penalties=(BOUND["gradient_penalty"],))
    traces = []

    @jax.jit
    def step(params, batch):
        traces.append(None)
        return gd.fields.gradient(game)(params, batch)

    for seed in range(3):
        step(start(seed=seed), data()._replace(key=jax.random.key(seed)))
    assert len(traces) == 1
