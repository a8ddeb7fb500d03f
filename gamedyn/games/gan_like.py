"""Generative adversarial games small enough for closed forms."""

import difflib
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.checks import check_positive_integer
from gamedyn.game import Batch, general_sum, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import box


@register(
    "dirac_gan",
    summary="the smallest GAN: a point mass against a linear discriminator",
    source="Mescheder et al., 2018, arXiv:1801.04406",
    shows="GAN training that circles without a gradient penalty",
    solution="Nash",
    zero_sum=True,
)
def dirac_gan(kind: str = "minimax", regularisation: float = 0.0) -> Problem:
    r"""Build the Dirac-GAN: data at 0, the generator at theta, the critic psi times x.

    $$\ell_\psi = -h(\theta\psi) - h(0) + \tfrac \gamma 2 \psi^2, \qquad
      h(t) = -\log(1 + e^{-t}),$$

    and theta minimises $h(\theta\psi) + h(0)$ (minimax) or $-h(-\theta\psi)$
    (non-saturating); in the Wasserstein game h(t) = t. The penalty is R1, the squared
    gradient of the critic at the data. Without it the solution 0 is a centre; with it
    the eigenvalues of J are $\gamma/2 \pm \sqrt{\gamma^2/4 - h'(0)^2}$, $h'(0)$ being
    1/2, or 1 for Wasserstein. The standard start is (1, 1).

    Args:
        kind: "minimax", "non_saturating" or "wasserstein".
        regularisation: the weight gamma of R1, not negative. In the two zero-sum games
            its negative is added to the generator's loss, to whom it is constant.

    Returns:
        The problem, with params `(theta, psi)`, both scalars.

    Raises:
        ValueError: if the kind is unknown or the regularisation negative.
    """
    gamma = _forms.as_array("regularisation", regularisation, 0)
    if _forms.known(gamma) and gamma < 0:
        raise ValueError(f"regularisation must not be negative, got {gamma}")
    games = {
        "minimax": lambda: zero_sum(Partial(_minimax, gamma)),
        "non_saturating": lambda: general_sum(
            _non_saturating_generator, Partial(_critic, gamma)
        ),
        "wasserstein": lambda: zero_sum(Partial(_wasserstein, gamma)),
    }
    if kind not in games:
        near = difflib.get_close_matches(str(kind), games, n=1, cutoff=0)[0]
        raise ValueError(
            f"unknown kind {kind!r}; did you mean {near}? known: {', '.join(games)}"
        )
    one, zero = jnp.ones_like(gamma), jnp.zeros_like(gamma)
    return Problem(
        games[kind](), Partial(_forms.normal_start, (one, one)), ((zero, zero),)
    )


def _minimax(gamma: jax.Array, theta: jax.Array, psi: jax.Array) -> jax.Array:
    return -_critic(gamma, theta, psi)


def _critic(gamma: jax.Array, theta: jax.Array, psi: jax.Array) -> jax.Array:
    score = jax.nn.log_sigmoid(theta * psi) - math.log(2)
    return 0.5 * gamma * psi**2 - score


def _non_saturating_generator(theta: jax.Array, psi: jax.Array) -> jax.Array:
    return -jax.nn.log_sigmoid(-theta * psi)


def _wasserstein(gamma: jax.Array, theta: jax.Array, psi: jax.Array) -> jax.Array:
    return theta * psi - 0.5 * gamma * psi**2


@register(
    "mean_wgan",
    summary="learn a mean with a linear critic: bilinear, with noise of the samples",
    source="Daskalakis et al., 2018, arXiv:1711.00141",
    shows="last iterates of optimistic methods, with and without noise",
    solution="Nash",
    zero_sum=True,
)
def mean_wgan(mean: Any = (3.0, 4.0), *, batch_size: int = 64) -> Problem:
    r"""Build the Wasserstein GAN of a shifted normal distribution.

    $$f(\theta, w) = \mathbb E\, w^\top x - \mathbb E\, w^\top (\theta + z)
      = \langle w, v - \theta \rangle, \qquad x \sim N(v, I),\ z \sim N(0, I).$$

    A batch is a pair of samples of x - v and of z, `None` stands for the expectation.
    The standard start is 0 for theta and (1, ..., 1) for w; the solution is theta = v,
    w = 0.

    Args:
        mean: v, shape `(d,)`.
        batch_size: the number of samples of x and of z that `sample` draws.

    Returns:
        The problem, with params `(theta, w)` of shape `(d,)` each.

    Raises:
        ValueError: if the mean is not a vector, or `batch_size` not a positive integer.
    """
    target = _forms.as_array("mean", mean, 1)
    check_positive_integer("batch_size", batch_size)
    zeros = jnp.zeros_like(target)
    return Problem(
        zero_sum(Partial(_mean_critic, target), stochastic=True),
        Partial(_forms.normal_start, (zeros, jnp.ones_like(target))),
        ((target, jnp.copy(zeros)),),
        sample=Partial(_pairs(batch_size), target),
        info=Info(has_mean=True),
    )


def _mean_critic(mean, theta: jax.Array, w: jax.Array, batch: Batch) -> jax.Array:
    gap = mean - theta
    if batch is not None:
        real, latent = batch
        gap = gap + jnp.mean(real, axis=0) - jnp.mean(latent, axis=0)
    return jnp.sum(w * gap)


@functools.cache
def _pairs(batch_size: int):
    """The sampler of two independent standard normal samples."""

    def sample(like: jax.Array, key: jax.Array) -> Batch:
        shape = batch_size, like.shape[0]
        real, latent = jax.random.split(key)
        return tuple(jax.random.normal(k, shape, like.dtype) for k in (real, latent))

    return sample


@register(
    "covariance_wgan",
    summary="learn a covariance with a quadratic critic: many generators fit",
    source="Daskalakis et al., 2018, arXiv:1711.00141",
    shows="solutions that form a manifold",
    solution="Nash",
    zero_sum=True,
)
def covariance_wgan(
    covariance: Any = ((2.0, 0.5), (0.5, 1.0)), *, batch_size: int = 64
) -> Problem:
    r"""Build the Wasserstein GAN of a centred normal distribution.

    $$f(V, W) = \mathbb E\, x^\top W x - \mathbb E\, (Vz)^\top W (Vz)
      = \langle W, \Sigma - V V^\top \rangle, \qquad
      x \sim N(0, \Sigma),\ z \sim N(0, I).$$

    Solutions are all V with $VV^\top = \Sigma$, and all W with $W + W^\top = 0$;
    measure $\|VV^\top - \Sigma\|$. A batch is a pair of samples of N(0, I), of which
    the first is turned into x, `None` stands for the expectation. The standard start is
    the identity for both.

    Args:
        covariance: Sigma, symmetric and positive definite, shape `(d, d)`.
        batch_size: the number of samples of x and of z that `sample` draws.

    Returns:
        The problem, with params `(V, W)` of shape `(d, d)` each; its solution is the
        symmetric root of Sigma, and W = 0 (none under tracing).

    Raises:
        ValueError: if the covariance is not symmetric positive definite.
    """
    sigma = _forms.as_array("covariance", covariance, 2)
    d, dtype = sigma.shape[0], sigma.dtype
    _forms.check_shape("covariance", sigma, (d, d), "")
    check_positive_integer("batch_size", batch_size)
    root, solutions = jnp.linalg.cholesky(sigma), ()
    if _forms.known(sigma):
        dense = np.asarray(sigma, np.float64)
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
        rounding = 100 * float(jnp.finfo(dtype).eps) * float(np.abs(dense).max())
        if values.min() <= 0 or np.abs(dense - dense.T).max() > rounding:
            raise ValueError("covariance must be symmetric and positive definite")
        symmetric = jnp.asarray((vectors * np.sqrt(values)) @ vectors.T, dtype)
        solutions = ((symmetric, jnp.zeros((d, d), dtype)),)
    start = jnp.eye(d, dtype=dtype), jnp.eye(d, dtype=dtype)
    return Problem(
        zero_sum(Partial(_covariance_critic, sigma, root), stochastic=True),
        Partial(_forms.normal_start, start),
        solutions,
        sample=Partial(_pairs(batch_size), sigma),
        info=Info(has_mean=True),
    )


def _covariance_critic(sigma, root, V: jax.Array, W: jax.Array, batch: Batch):
    if batch is None:
        return jnp.sum(W * (sigma - V @ V.T))
    real, latent = batch[0] @ root.T, batch[1] @ V.T
    return jnp.mean(jnp.sum(real @ W * real, axis=1)) - jnp.mean(
        jnp.sum(latent @ W * latent, axis=1)
    )


@register(
    "variance_gan",
    summary="learn a variance with one number each, in a box",
    source="Yang et al., 2022, arXiv:2206.10575",
    shows="projected methods against interior points, nonconvex",
    solution="Nash",
    zero_sum=True,
    domain="box",
)
def variance_gan(variance: float = 2.0) -> Problem:
    r"""Build the one-dimensional GAN of a variance.

    $$f(\theta, \varphi) = \mathbb E\, \varphi x^2 - \mathbb E\, \varphi \theta^2 z^2
      = \varphi (\sigma^2 - \theta^2), \qquad
      \mathbb E x^2 = \sigma^2,\ \mathbb E z^2 = 1.$$

    The source plays on the disc $\theta^2 + \varphi^2 \le 4$, which couples the
    players' domains; here everybody has the interval [-2, 2] around it, with the same
    solutions inside: $\theta = \pm\sigma$, $\varphi = 0$. The standard start is (1, 1).

    Args:
        variance: $\sigma^2$, in (0, 4) and not 1, where the generator would start.

    Returns:
        The problem, with scalar params.

    Raises:
        ValueError: if the variance is not in (0, 4).
    """
    target = _forms.as_array("variance", variance, 0)
    if _forms.known(target) and not 0 < target < 4:
        raise ValueError(f"variance must be in (0, 4), got {variance}")
    one, zero, root = jnp.ones_like(target), jnp.zeros_like(target), jnp.sqrt(target)
    return Problem(
        zero_sum(Partial(_variance_critic, target)),
        Partial(_forms.box_start(-2.0, 2.0), (one, one)),
        ((root, zero), (-root, zero)),
        geometry=box(-2.0, 2.0),
    )


def _variance_critic(target, theta: jax.Array, phi: jax.Array) -> jax.Array:
    return phi * (target - theta**2)


@register(
    "mlp_gan",
    summary="two small networks: a GAN on eight points around a ring",
    source="Goodfellow et al., 2014, arXiv:1406.2661; the ring: Metz et al., 2017",
    shows="mode collapse, and any rule on networks",
    solution="none",
    finite_sum=True,
)
def mlp_gan(
    points: Any = None,
    *,
    width: int = 16,
    latent: int = 2,
    batch_size: int = 32,
    seed: int = 0,
) -> Problem:
    r"""Build a non-saturating GAN of two tanh networks, latent-h-h-2 and 2-h-h-1.

    $$\ell_\theta = \tfrac1n \sum_i \log(1 + e^{-D(G(z_i))}), \qquad
      \ell_\varphi = \tfrac1n \sum_i \log(1 + e^{-D(x_i)}) + \log(1 + e^{D(G(z_i))}).$$

    The data and the latents are fixed pairs, so that the game is a finite sum: a batch
    is an array of indices, `None` stands for all. For fresh latents, deeper networks
    and other losses use `gamedyn.gan`; for other data give the points, of a mixture of
    `gamedyn.data.mixtures` say.

    Args:
        points: the data, shape `(n, 2)`; 256 points of a ring of eight modes, at radius
            1 with deviation 0.02, if `None`.
        width: h.
        latent: the number of latent dimensions.
        batch_size: the number of indices that `sample` draws, with replacement.
        seed: of the latents, the ring and the standard start, drawn by NumPy.

    Returns:
        The problem, with params `(generator, discriminator)`, each a list of pairs of
        matrix and offset. No solution is known in the parameters.

    Raises:
        ValueError: if the points have another shape, or a number is not positive.
    """
    for name, value in (("width", width), ("latent", latent)):
        check_positive_integer(name, value)
    random = np.random.default_rng(seed)
    if points is None:
        angles = 2 * np.pi * random.integers(8, size=256) / 8
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = (ring + 0.02 * random.normal(size=ring.shape)).tolist()
    real = _forms.as_array("points", points, 2)
    n, dtype = real.shape[0], real.dtype
    _forms.check_shape("points", real, (n, 2), "in the plane")

    def layers(*sizes):
        return [
            (
                jnp.asarray(random.normal(size=(m, k)) / np.sqrt(m), dtype),
                jnp.zeros(k, dtype),
            )
            for m, k in zip(sizes, sizes[1:], strict=False)
        ]

    latents = jnp.asarray(random.normal(size=(n, latent)), dtype)
    start = layers(latent, width, width, 2), layers(2, width, width, 1)
    return Problem(
        general_sum(
            Partial(_generator, latents),
            Partial(_discriminator, real, latents),
            stochastic=True,
        ),
        Partial(_network_start, start),
        sample=_forms.index_sampler(n, batch_size),
        info=Info(num_components=n),
    )


def _network_start(standard, key: Any):
    if key is None:
        return standard
    # Biases are drawn too: from N(0, 1 / fan-in) like everything else.
    return jax.tree.map(
        lambda leaf: leaf / leaf.shape[0] ** 0.5, _forms.normal_start(standard, key)
    )


def _network(layers, x: jax.Array) -> jax.Array:
    for matrix, offset in layers[:-1]:
        x = jnp.tanh(x @ matrix + offset[None])
    matrix, offset = layers[-1]
    return x @ matrix + offset[None]


def _generator(latents, generator, discriminator, batch: Batch) -> jax.Array:
    fake = _network(generator, _forms.rows_of(latents, batch))
    return jnp.mean(jax.nn.softplus(-_network(discriminator, fake)))


def _discriminator(real, latents, generator, discriminator, batch: Batch) -> jax.Array:
    fake = _network(generator, _forms.rows_of(latents, batch))
    scores = _network(discriminator, _forms.rows_of(real, batch))
    return jnp.mean(jax.nn.softplus(-scores)) + jnp.mean(
        jax.nn.softplus(_network(discriminator, fake))
    )
