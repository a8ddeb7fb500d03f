"""Encoders of texts: numpy's numbers, padding, derivatives, what does not fit."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gamedyn import nets
from gamedyn.nets import attention

WORDS, LENGTH = 7, 5
OPTIONS = {"width": 8, "depth": 2, "heads": 2, "expansion": 2, "outputs": 3}
TOKENS = np.array([[3, 6, 1, 0, 0], [2, 2, 5, 4, 1], [4, 0, 0, 0, 0]])


@functools.cache
def case():
    net = nets.text_encoder(WORDS, LENGTH, **OPTIONS)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = functools.partial(jax.tree.map, lambda s: 0.4 * rng.normal(size=s.shape))
    return net, draw(shapes), jax.jit(net.apply)


def _norm(params, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * params["scale"] + params["offset"]


def _dense(params, x):
    return x @ params["kernel"] + params["bias"]


def _gelu(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _encode(params, words):
    """One text without padding, word by word."""
    x = params["words"]["kernel"][words] + params["places"]["kernel"][: len(words)]
    for i in range(2):
        block = params[f"block{i}"]
        q, k, v = np.split(
            _dense(block["attention"]["qkv"], _norm(block["norm0"], x)), 3, axis=-1
        )
        y = np.zeros_like(x)
        for row in range(len(words)):
            for own in (slice(0, 4), slice(4, 8)):
                powers = np.exp(k[:, own] @ q[row, own] / 2)
                y[row, own] = powers @ v[:, own] / powers.sum()
        x = x + _dense(block["attention"]["out"], y)
        y = _gelu(_dense(block["dense0"], _norm(block["norm1"], x)))
        x = x + _dense(block["dense1"], y)
    x = _norm(params["norm"], x)
    return _dense(params["dense"], x.mean(0)), x


def test_against_numpy():
    """Padded texts are what the words alone would be."""
    _, params, apply = case()
    text = apply(params, TOKENS)
    for row, tokens in enumerate(TOKENS):
        words = tokens[tokens > 0]
        vector, states = _encode(params, words)
        np.testing.assert_allclose(text.vector[row], vector, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            text.states[row, : len(words)], states, rtol=1e-9, atol=1e-12
        )
        np.testing.assert_array_equal(text.states[row, len(words) :], 0)


def test_no_words_are_no_nan():
    _, params, apply = case()
    text = apply(params, np.zeros((1, LENGTH), int))
    np.testing.assert_allclose(text.vector[0], params["dense"]["bias"])
    net, *_ = case()
    total = jax.jit(jax.grad(lambda p: jnp.sum(net.apply(p, TOKENS * 0).vector)))
    slope = total(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes_and_sizes(dtype):
    net = nets.text_encoder(WORDS, LENGTH, **OPTIONS, dtype=dtype)
    params = jax.eval_shape(net.init, jax.random.key(0))
    text = jax.eval_shape(net.apply, params, jnp.asarray(TOKENS))
    assert (text.vector.shape, text.vector.dtype) == ((3, 3), dtype)
    assert (text.states.shape, text.states.dtype) == ((3, LENGTH, 8), dtype)
    w, block = 8, 4 * 8 + (8 + 1) * 3 * 8 + (8 + 1) * 8 + (8 + 1) * 16 + (16 + 1) * 8
    expected = (WORDS + LENGTH) * w + 2 * w + (w + 1) * 3 + 2 * block
    assert nets.count_parameters(params) == expected


def test_a_mask_leaves_keys_out():
    rng = np.random.default_rng(3)
    q, k, v = (jnp.asarray(rng.normal(size=(2, n, 6))) for n in (4, 5, 5))
    there = jnp.array([[1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], bool)
    y = attention.attend(q, k, v, 3, there=there)
    some = np.array([0, 2, 4])
    few = attention.attend(q[:1], k[:1, some], v[:1, some], 3)
    np.testing.assert_allclose(y[:1], few, rtol=1e-12)
    np.testing.assert_allclose(y[1:], attention.attend(q, k, v, 3)[1:], rtol=1e-12)


def test_what_does_not_fit():
    net, params, _ = case()
    with pytest.raises(ValueError, match=r"shape \(B, 5\), got \(3, 4\)"):
        net.apply(params, TOKENS[:, :4])
    with pytest.raises(TypeError, match="numbers of words, got float64"):
        net.apply(params, jnp.ones((3, LENGTH)))
    with pytest.raises(ValueError, match="divisor of 64 channels, got 3 heads"):
        nets.text_encoder(WORDS, LENGTH, heads=3)
    with pytest.raises(ValueError, match="depth"):
        nets.text_encoder(WORDS, LENGTH, depth=0)
