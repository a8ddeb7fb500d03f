"""A GAN of two tanh networks, 16-h-h-2 and 2-h-h-1, in plain arrays."""

import functools

import jax
import jax.numpy as jnp

import gamedyn as gd


def network(weights, x):
    *hidden, (matrix, offset) = weights
    for inner, shift in hidden:
        x = jnp.tanh(x @ inner + shift[None])
    return x @ matrix + offset[None]


def generator_loss(g, d, batch):
    return jnp.mean(jax.nn.softplus(-network(d, network(g, batch[1]))))


def discriminator_loss(g, d, batch):
    real, fake = network(d, batch[0]), network(d, network(g, batch[1]))
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


GAME = gd.general_sum(generator_loss, discriminator_loss, stochastic=True)


@functools.partial(jax.jit, static_argnames=("width", "dtype", "examples"))
def make(width, *, dtype=jnp.float32, examples=256, seed=0):
    """Parameters of both networks, and a batch of real examples and latents."""

    def layers(key, sizes):
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(keys, sizes, sizes[1:], strict=False)
        return [
            (jax.random.normal(k, (m, n), jnp.float32) * m**-0.5, jnp.zeros(n))
            for k, m, n in pairs
        ]

    g, d, real, latent = jax.random.split(jax.random.key(seed), 4)
    angle = jax.random.uniform(real, (examples,), jnp.float32, 0, 6.28)
    batch = (
        jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1),
        jax.random.normal(latent, (examples, 16), jnp.float32),
    )
    params = layers(g, (16, width, width, 2)), layers(d, (2, width, width, 1))
    return jax.tree.map(lambda x: x.astype(dtype), (params, batch))
