"""The GANs whose landscapes are looked at, and their training."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn import data, gan, nets
from gamedyn import train as training
from gamedyn.gan import penalties
from gamedyn.seeds import seed_key

if TYPE_CHECKING:
    from . import Config


class Case(NamedTuple):
    """A GAN to train.

    Attributes:
        game: the game.
        init: `init(key)` draws the parameters.
        batches: for `gamedyn.train.fit`.
        moves: the order of the players' moves in a step.
        fixed: the large batch, its latents included, on which points are examined.
        draw: what a generator makes of fixed latents.
    """

    game: gd.Game
    init: Callable[[jax.Array], Any]
    batches: Any
    moves: tuple[int, ...]
    fixed: gan.Batch
    draw: Callable[[Any], np.ndarray]


def make(name: str, config: "Config") -> Case:
    """Build one of the cases."""
    key = seed_key(config.seed, 1)
    return _digits(config, key) if name == "digits" else _ring(name, config, key)


def _ring(name: str, config: "Config", key: jax.Array) -> Case:
    latent, hidden = 2, (config.width,) * config.depth
    generator = nets.mlp((latent, *hidden, 2), activation=jnp.tanh)
    discriminator = nets.mlp((2, *hidden, 1), activation=jnp.tanh, output_shape=())
    # Wider than the published ring, whose modes a small network does not reach.
    mixture = data.mixtures.mixture(data.mixtures.ring(8, 1.0).astype(np.float32), 0.1)

    def points(key: jax.Array, number: int) -> jax.Array:
        return data.mixtures.sample_with_modes(mixture, key, number)[0]

    def batch(key: jax.Array) -> gan.Batch:
        return gan.Batch(points(key, config.batch_size), jax.random.fold_in(key, 1))

    wasserstein = name == "ring_wgan_gp"
    game = gan.game(
        generator,
        discriminator,
        "wasserstein" if wasserstein else "non_saturating",
        latent=gan.normal(latent),
        penalties=[functools.partial(penalties.gradient_penalty, weight=0.1)]
        if wasserstein
        else [],
    )
    moves = (1, 1, 1, 0) if wasserstein else (1, 0)
    real = points(jax.random.fold_in(key, 2), config.examples)
    return _case(game, (generator, discriminator), batch, moves, real, latent, key)


def _digits(config: "Config", key: jax.Array) -> Case:
    width, latent = config.width // 4, 16
    generator = nets.dcgan_generator(8, latent=latent, width=width, norm="none")
    discriminator = nets.dcgan_discriminator(8, width=width, norm="none")
    images = data.sets.load("digits")
    game = gan.game(
        generator,
        discriminator,
        "non_saturating",
        latent=gan.normal(latent),
        penalties=[functools.partial(penalties.r1, weight=1.0)],
    )

    def build(rows: jax.Array, key: jax.Array) -> gan.Batch:
        return gan.Batch(data.sets.scale(rows, images.maximum), key)

    batches = training.from_arrays(
        images.images, config.batch_size, build, seed=config.seed, on_device=True
    )
    chosen = jax.random.permutation(key, len(images.images))[: config.examples]
    real = data.sets.scale(images.images[np.asarray(chosen)], images.maximum)
    return _case(game, (generator, discriminator), batches, (1, 0), real, latent, key)


def _case(game, networks, batches, moves, real, latent, key) -> Case:
    of_penalty, of_latents = jax.random.split(jax.random.fold_in(key, 3))
    fixed = gan.Batch(
        real, of_penalty, latent=gan.normal(latent)(of_latents, len(real), real.dtype)
    )
    generate = jax.jit(networks[0].apply)

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 2)
        return tuple(net.init(k) for net, k in zip(networks, keys, strict=True))

    def draw(params: Any) -> np.ndarray:
        return np.asarray(generate(params[0], fixed.latent))

    return Case(game, init, batches, moves, fixed, draw)


def train(case: Case, config: "Config") -> list[Any]:
    """Train, and return the parameters at the start, in the middle, at the end."""
    params = jax.jit(case.init)(seed_key(config.seed))
    points = [params]

    def keep(state: Any, metrics: Any) -> None:
        del metrics
        points.append(jax.tree.map(np.array, state.params))

    adam = optax.adam(config.learning_rate, b1=0.5)
    state = training.fit(
        case.game,
        gd.alternating(adam, order=case.moves, resample=True),
        params,
        case.batches,
        num_steps=config.num_steps,
        key=seed_key(config.seed),
        callbacks=[training.Callback(keep, config.num_steps // 2)],
        progress=False,
    )
    if state.status != gd.Status.OK:
        raise FloatingPointError(f"training failed at step {state.step}")
    return points


def in_float64(tree: Any) -> Any:
    """Cast what is floating-point to float64, exactly; a `Case`'s fixed batch alone."""
    if isinstance(tree, Case):
        return tree._replace(fixed=in_float64(tree.fixed))

    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.float64) if floating else leaf

    return jax.tree.map(cast, tree)
