"""Generative adversarial games small enough to know everything about."""

import difflib
import math

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.game import general_sum, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Problem, register


@register(
    "the smallest GAN: a point mass against a linear discriminator",
    "Mescheder et al., 2018, arXiv:1801.04406",
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
