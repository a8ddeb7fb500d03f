"""Pairs of linear functions: transposes, modes, maps; and what materialising saves."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gamedyn import nets
from gamedyn.nets import attention, layers, linear

RNG = np.random.default_rng(0)
SHAPE = (3, 4, 5, 2)


def _plain_sum(x):
    return jnp.sum(x, (1, 2))


def _plain_repeat(x):
    return jnp.broadcast_to(x[:, None, None], (len(x), *SHAPE[1:3], x.shape[1]))


PAIRS = {
    "materialise": (linear.materialise, lambda x: x, SHAPE),
    "sum_pixels": (layers.sum_pixels, _plain_sum, SHAPE),
    "at_pixels": (
        lambda x: layers.at_pixels(x, jnp.empty((1, *SHAPE[1:3], 1))),
        _plain_repeat,
        SHAPE[::3],
    ),
}


def close(actual, expected, tolerance=1e-12):
    leaves = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def draw(*shape, dtype=jnp.float64):
    return jnp.asarray(RNG.normal(size=shape), dtype)


def everything(function, *args):
    """The value, both modes, both orders of them, and maps over first and last axes."""

    def loss(*args):
        leaves = jax.tree.leaves(function(*args))
        return sum(jnp.sum(jnp.sin(y) * y) for y in leaves)

    slope = jax.grad(loss, tuple(range(len(args))))
    moved = tuple(jnp.cos(3 * x) for x in args)
    twice = jax.grad(lambda *args: sum(jnp.sum(s**3) for s in slope(*args)))
    return (
        function(*args),
        slope(*args),
        jax.jvp(function, args, moved),
        jax.jvp(slope, args, moved),
        twice(*args),
    )


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_derivatives(name):
    function, plain, shape = PAIRS[name]
    x = draw(*shape)
    close(jax.jit(everything, static_argnums=0)(function, x), everything(plain, x))
    single = function(x.astype(jnp.float32))
    assert single.dtype == jnp.float32
    close(single, plain(x), 2e-6)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_maps_and_loops(name, axis):
    function, plain, shape = PAIRS[name]
    x = jnp.moveaxis(draw(6, *shape), 0, axis)
    close(jax.vmap(function, axis)(x), jax.vmap(plain, axis)(x))
    slope = jax.vmap(jax.grad(lambda x: jnp.sum(function(x) ** 3)), axis)
    close(slope(x), jax.vmap(jax.grad(lambda x: jnp.sum(plain(x) ** 3)), axis)(x))
    rows = jnp.moveaxis(x, axis, 0)
    _, found = lax.scan(lambda carry, x: (carry, function(x)), None, rows)
    close(found, jax.vmap(plain)(rows))


def test_scalars_and_numbers_are_materialised():
    close(jax.grad(lambda x: linear.materialise(x) ** 2)(3.0), 6.0)
    close(jax.vmap(linear.materialise)(jnp.arange(3)), np.arange(3))


def test_a_shared_batch_stays_shared():
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    x = jax.device_put(draw(4, 3, 3, 2), sharding)

    def loss(x):
        y = linear.materialise(2 * x)
        return jnp.sum(jnp.sin(layers.at_pixels(layers.sum_pixels(y), y)) * y)

    slope = jax.jit(jax.grad(loss))
    close(slope(x), slope(jax.device_put(x, jax.devices()[0])))
    assert slope(x).sharding.is_equivalent_to(sharding, 4)
    assert "all-gather" not in slope.lower(x).compile().as_text()


def test_what_is_materialised_is_computed_once():
    def products(keep):
        def run(x):
            y = keep(3 * x + 1)
            return jnp.sin(y), jnp.cos(y), jnp.sqrt(y)

        text = jax.jit(run).lower(jnp.ones((100, 100))).compile().as_text()
        return len(re.findall(r" multiply\(", text))

    plain = products(lambda x: x)
    assert products(linear.materialise) == 1 < plain
    if jax.__version_info__ < (0, 11):  # later, it would do
        assert products(lax.optimization_barrier) == plain


def test_without_the_mark_it_is_the_same(monkeypatch):
    monkeypatch.setattr(linear, "set_xla_metadata", None)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(linear.materialise(3 * x) ** 2)))
    close(slope(x := draw(4)), 18 * x)
    assert " call(" not in slope.lower(x).compile().as_text()


def _flops(blocks, levels=(), record=False):
    """What XLA counts for the gradient of a U-Net with so many blocks in a row."""
    net = nets.unet(
        1,
        width=8,
        multipliers=(1,),
        blocks=blocks,
        groups=4,
        attention_levels=levels,
        impl="direct",
    )
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)
    t = jax.ShapeDtypeStruct((4,), jnp.int32)

    def loss(params, x, t):
        return jnp.sum(net.apply(params, x, t) ** 2)

    def run(params, x, t):
        slope = jax.grad(loss)(params, x, t)
        return (loss(params, x, t), slope) if record else slope

    return jax.jit(run).lower(params, x, t).compile().cost_analysis()["flops"]


def test_every_block_costs_the_same():
    """Nothing of the blocks behind is computed again for a block further on."""
    one, two, four = map(_flops, (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=2e-3)


def test_a_loss_beside_its_gradient_costs_nothing():
    """XLA sees that the forward passes are the same, through every rule by hand."""
    alone = _flops(1, levels=(0,))
    assert _flops(1, levels=(0,), record=True) == pytest.approx(alone, rel=2e-3)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize(
    "activation", [None, jax.nn.silu, pytest.param(jnp.tanh, marks=pytest.mark.slow)]
)
def test_group_norm_with_modulation_and_activation(axis, activation):
    """Against the formula without a rule of its own, through second derivatives."""
    groups, channels, shape = 3, 6, (2, 3, 4, 6)
    x = draw(*shape) + 2
    arrays = x, *(draw(channels) for _ in range(2)), *(draw(2, 6) for _ in range(2))

    def plain(x, scale, offset, more, moved):
        grouped = x.reshape(2, 12, groups, -1)
        y = grouped - jnp.mean(grouped, (1, 3), keepdims=True)
        y = y * lax.rsqrt(jnp.mean(y**2, (1, 3), keepdims=True) + 1e-6)
        y = y.reshape(shape) * scale[None, None, None] + offset[None, None, None]
        y = y * (1 + more[:, None, None]) + moved[:, None, None]
        return y if activation is None else activation(y)

    def actual(x, scale, offset, more, moved):
        params = {"scale": scale, "offset": offset}
        given = x if axis else nets.swap_layout(x)
        options = {"modulation": (more, moved), "activation": activation}
        y = layers.group_norm(params, given, groups, axis, **options)
        return y if axis else nets.swap_layout(y)

    compiled = jax.jit(everything, static_argnums=0)
    close(compiled(actual, *arrays), compiled(plain, *arrays), 1e-10)


@pytest.mark.parametrize("heads", [1, 2])
def test_derivatives_of_attention(heads):
    arrays = draw(2, 3, 4), draw(2, 5, 4), draw(2, 5, 4)

    def plain(q, k, v):
        q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
        scores = jnp.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(q.shape[-1])
        y = jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores), v)
        return y.reshape(*y.shape[:2], -1)

    actual = functools.partial(attention.attend, heads=heads)
    compiled = jax.jit(everything, static_argnums=0)
    close(compiled(actual, *arrays), compiled(plain, *arrays), 1e-11)


def test_large_scores_do_not_overflow():
    q, k, v = draw(1, 3, 4, dtype=jnp.float32), draw(1, 3, 4, dtype=jnp.float32), None
    v = jnp.eye(3, 4, dtype=jnp.float32)[None]
    y = jax.jit(attention.attend)(1e4 * q, k, v)
    greatest = jnp.argmax(jnp.einsum("bnd,bmd->bnm", q, k), -1)
    close(jnp.argmax(y[..., :3], -1), greatest)
    slopes = jax.jit(jax.grad(lambda q: jnp.sum(attention.attend(q, k, v))))(q)
    assert np.isfinite(slopes).all()
