"""Losses of generative adversarial networks, as functions of the critic's logits."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.divergences import checks
from gamedyn.registry import Registry

Terms = tuple[jax.Array, ...]


class Loss(NamedTuple):
    """A pair of losses, each a function of (real logits, fake logits).

    The logits are what the discriminator returns, before any sigmoid, for a batch of
    the data and for one of the generator: any shape (a patch discriminator returns a
    map), one dtype. The tuple is hashable: pass it as a static argument.

    Attributes:
        generator: `generator(real, fake)` returns what the generator minimises, a
            scalar: the sum of the means of its terms.
        discriminator: what the discriminator minimises, likewise.
        generator_terms: the per-example form: `generator_terms(real, fake)` returns a
            tuple of arrays, each with the shape of the logits it comes from.
        discriminator_terms: the discriminator's, likewise.
        zero_sum: whether the two losses add up to exactly zero.
        paired: whether real and fake logits are compared index by index, so that they
            must have one shape.
    """

    generator: Callable[[Any, Any], jax.Array]
    discriminator: Callable[[Any, Any], jax.Array]
    generator_terms: Callable[[Any, Any], Terms]
    discriminator_terms: Callable[[Any, Any], Terms]
    zero_sum: bool = False
    paired: bool = False


class LossEntry(NamedTuple):
    r"""A registered loss.

    Values are those at the solution, where the generator has the distribution of the
    data and the discriminator is optimal.

    Attributes:
        loss: the pair.
        summary: one line in words.
        formula: both losses in one line; r and f are the logits of real and fake
            examples, E the mean, sp the softplus.
        source: authors, year, arXiv id.
        generator_value: the generator's loss at the solution; `None` where it depends
            on which of the optimal discriminators is taken, or is not known.
        discriminator_value: the discriminator's loss there; `None` if not known.
        expectation: whether the losses are expectations over independent examples; if
            not, a term depends on the whole batch.
    """

    loss: Loss
    summary: str
    formula: str
    source: str
    generator_value: float | None = None
    discriminator_value: float | None = None
    expectation: bool = True


_REGISTRY: Registry[LossEntry] = Registry("loss", things=Loss)


def names() -> tuple[str, ...]:
    """The names of all registered losses."""
    return _REGISTRY.names()


def entries() -> dict[str, LossEntry]:
    """All registered losses by name."""
    return _REGISTRY.entries()


def entry(name: str) -> LossEntry:
    """Look a loss up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def make(name: str) -> Loss:
    """Return a registered loss.

    Args:
        name: a name from `names()`; hyphens are accepted.

    Returns:
        The pair of losses.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from gamedyn.gan import losses
        >>> loss = losses.make("non-saturating")
        >>> print(f"{loss.generator(jnp.zeros(4), jnp.zeros(4)):.4f}")
        0.6931
    """
    return entry(name).loss


def register(
    name: str,
    loss: Loss | None = None,
    *,
    summary: str,
    formula: str,
    source: str,
    generator_value: float | None = None,
    discriminator_value: float | None = None,
    expectation: bool = True,
) -> Any:
    """Register a pair of losses.

    Args:
        name: the name, in snake case.
        loss: the pair, from `from_terms` say.
        summary: one line in words.
        formula: both losses in one line, see `LossEntry`.
        source: authors, year, arXiv id.
        generator_value: the generator's loss at the solution, if it is known and one.
        discriminator_value: the discriminator's, likewise.
        expectation: whether the losses are expectations over independent examples.

    Returns:
        The pair; without one, a function that registers the pair it is given.

    Raises:
        TypeError: if it is no `Loss`.
        ValueError: if the name is taken.

    Example:
        >>> from gamedyn.gan import losses
        >>> linear = losses.register(
        ...     "linear",
        ...     losses.from_terms(lambda real, fake: (-real, fake)),
        ...     summary="the Wasserstein loss once more",
        ...     formula="L_D = E f - E r, L_G = -L_D",
        ...     source="this page",
        ... )
        >>> losses.make("linear").zero_sum
        True
        >>> losses.unregister("linear")
    """
    describe = functools.partial(
        LossEntry,
        summary=summary,
        formula=formula,
        source=source,
        generator_value=generator_value,
        discriminator_value=discriminator_value,
        expectation=expectation,
    )
    return _REGISTRY.register(name, describe, loss)


def unregister(name: str) -> None:
    """Take a loss out of the registry again; an unknown name raises `ValueError`."""
    _REGISTRY.remove(name)


def _negated(terms: Callable[[Any, Any], Terms], real: Any, fake: Any) -> Terms:
    return tuple(-term for term in terms(real, fake))


def _checked(
    terms: Callable[[Any, Any], Terms], paired: bool, real: Any, fake: Any
) -> Terms:
    real, fake = checks.floating(real=real, fake=fake)
    if paired:
        checks.same_shape(real=real, fake=fake)
    for name, logits in (("real", real), ("fake", fake)):
        if logits.size == 0:
            raise ValueError(
                f"{name} must hold at least one logit, got shape {logits.shape}"
            )
    return terms(real, fake)


def _sum_of_means(
    terms: Callable[[Any, Any], Terms], real: Any, fake: Any
) -> jax.Array:
    means = [jnp.mean(term) for term in terms(real, fake)]
    return functools.reduce(operator.add, means)


def from_terms(
    discriminator: Callable[[Any, Any], Terms],
    generator: Callable[[Any, Any], Terms] | None = None,
    *,
    paired: bool = False,
) -> Loss:
    r"""Build a pair of losses from their terms for single examples.

    $$L_D = \sum_k E\, d_k(r, f), \qquad L_G = \sum_k E\, g_k(r, f).$$

    Args:
        discriminator: `discriminator(real, fake)` returns the tuple of the d, arrays
            of the logits' shapes.
        generator: the g, likewise; `None` for the zero-sum game, $L_G = -L_D$.
        paired: whether real and fake logits are compared index by index.

    Returns:
        The pair. It raises `TypeError` for logits that are not floating-point or differ
        in dtype, `ValueError` if there are none, or their shapes differ where they are
        paired.
    """
    discriminator_terms = functools.partial(_checked, discriminator, paired)
    if generator is None:
        generator_terms = functools.partial(_negated, discriminator_terms)
    else:
        generator_terms = functools.partial(_checked, generator, paired)
    return Loss(
        generator=functools.partial(_sum_of_means, generator_terms),
        discriminator=functools.partial(_sum_of_means, discriminator_terms),
        generator_terms=generator_terms,
        discriminator_terms=discriminator_terms,
        zero_sum=generator is None,
        paired=paired,
    )


# With D the sigmoid of a logit, log D = -softplus(-logit) and
# log(1 - D) = -softplus(logit): no sigmoid is ever formed.
_softplus = jax.nn.softplus


def _negative_log_real(logits: jax.Array) -> jax.Array:
    return _softplus(-logits)


def _negative_log_fake(logits: jax.Array) -> jax.Array:
    return _softplus(logits)


def _logistic_discriminator(real: jax.Array, fake: jax.Array) -> Terms:
    return _negative_log_real(real), _negative_log_fake(fake)


minimax: Loss = register(
    "minimax",
    from_terms(_logistic_discriminator),
    summary="saturating, the zero-sum game of the value function",
    formula="L_D = E sp(-r) + E sp(f), L_G = -L_D",
    source="Goodfellow et al. 2014, arXiv:1406.2661",
    generator_value=-math.log(4),
    discriminator_value=math.log(4),
)
r"""The minimax (saturating) loss, the zero-sum game of the value function.

$$L_D = E\, \mathrm{sp}(-r) + E\, \mathrm{sp}(f), \qquad L_G = -L_D,$$

that is $-E \log D(x) - E \log(1 - D(G(z)))$ with $D = \sigma(\text{logit})$. The first
term is constant for the generator and kept, so that the game is exactly zero-sum. Its
gradient with respect to f, $-\sigma(f)$, vanishes where the discriminator is sure.

References:
    I. Goodfellow et al., Generative Adversarial Networks, 2014.
    <https://arxiv.org/abs/1406.2661>
"""


def _non_saturating_generator(real: jax.Array, fake: jax.Array) -> Terms:
    del real
    return (_negative_log_real(fake),)


non_saturating: Loss = register(
    "non_saturating",
    from_terms(_logistic_discriminator, _non_saturating_generator),
    summary="the generator raises log D of its examples",
    formula="L_D = E sp(-r) + E sp(f), L_G = E sp(-f)",
    source="Goodfellow et al. 2014, arXiv:1406.2661",
    generator_value=math.log(2),
    discriminator_value=math.log(4),
)
r"""The non-saturating loss: the generator raises log D of its examples.

$$L_D = E\, \mathrm{sp}(-r) + E\, \mathrm{sp}(f), \qquad L_G = E\, \mathrm{sp}(-f).$$

The gradient with respect to f, $-\sigma(-f)$, is -1 where the discriminator is sure.

References:
    I. Goodfellow et al., Generative Adversarial Networks, 2014, section 3.
    <https://arxiv.org/abs/1406.2661>
"""


def _least_squares_discriminator(real: jax.Array, fake: jax.Array) -> Terms:
    return 0.5 * jnp.square(real - 1), 0.5 * jnp.square(fake)


def _least_squares_generator(real: jax.Array, fake: jax.Array) -> Terms:
    del real
    return (0.5 * jnp.square(fake - 1),)


least_squares: Loss = register(
    "least_squares",
    from_terms(_least_squares_discriminator, _least_squares_generator),
    summary="squared distance of the logits to 1 and 0",
    formula="L_D = E(r - 1)^2/2 + E f^2/2, L_G = E(f - 1)^2/2",
    source="Mao et al. 2017, arXiv:1611.04076",
    generator_value=0.125,
    discriminator_value=0.25,
)
r"""The least-squares loss, on logits (no sigmoid before it).

$$L_D = \tfrac12 E (r - 1)^2 + \tfrac12 E f^2, \qquad L_G = \tfrac12 E (f - 1)^2.$$

References:
    X. Mao et al., Least Squares Generative Adversarial Networks, 2017.
    <https://arxiv.org/abs/1611.04076>
"""


def _hinge_discriminator(real: jax.Array, fake: jax.Array) -> Terms:
    return jax.nn.relu(1 - real), jax.nn.relu(1 + fake)


def _hinge_generator(real: jax.Array, fake: jax.Array) -> Terms:
    del real
    return (-fake,)


hinge: Loss = register(
    "hinge",
    from_terms(_hinge_discriminator, _hinge_generator),
    summary="margins of the logits, a linear loss for the generator",
    formula="L_D = E max(0, 1 - r) + E max(0, 1 + f), L_G = -E f",
    source="Lim and Ye 2017, arXiv:1705.02894",
    generator_value=None,
    discriminator_value=2.0,
)
r"""The hinge loss.

$$L_D = E \max(0, 1 - r) + E \max(0, 1 + f), \qquad L_G = -E f.$$

At a kink the derivative is taken as 0.

References:
    J. H. Lim and J. C. Ye, Geometric GAN, 2017. <https://arxiv.org/abs/1705.02894>
"""


def _wasserstein_discriminator(real: jax.Array, fake: jax.Array) -> Terms:
    return -real, fake


wasserstein: Loss = register(
    "wasserstein",
    from_terms(_wasserstein_discriminator),
    summary="difference of the critic's means, for a Lipschitz critic",
    formula="L_D = E f - E r, L_G = -L_D",
    source="Arjovsky, Chintala and Bottou 2017, arXiv:1701.07875",
    generator_value=0.0,
    discriminator_value=0.0,
)
r"""The Wasserstein loss, for a critic kept Lipschitz by other means.

$$L_D = E f - E r, \qquad L_G = E r - E f.$$

Keep the critic Lipschitz by a term from `gamedyn.gan.penalties`, by spectral
normalisation, or by clipping, which is the geometry `gamedyn.geometry.box`.

References:
    M. Arjovsky, S. Chintala and L. Bottou, Wasserstein GAN, 2017.
    <https://arxiv.org/abs/1701.07875>
"""


def _relativistic_discriminator(real: jax.Array, fake: jax.Array) -> Terms:
    return (_negative_log_real(real - fake),)


def _relativistic_generator(real: jax.Array, fake: jax.Array) -> Terms:
    return (_negative_log_real(fake - real),)


relativistic: Loss = register(
    "relativistic",
    from_terms(_relativistic_discriminator, _relativistic_generator, paired=True),
    summary="real and fake examples compared in pairs",
    formula="L_D = E sp(-(r - f)), L_G = E sp(-(f - r))",
    source="Jolicoeur-Martineau 2018, arXiv:1807.00734",
    generator_value=math.log(2),
    discriminator_value=math.log(2),
)
r"""The relativistic pairing loss: is the real example more real than its fake?

$$L_D = E\, \mathrm{sp}(-(r - f)), \qquad L_G = E\, \mathrm{sp}(-(f - r)),$$

r and f paired index by index. Meant to go with the penalties R1 and R2.

References:
    A. Jolicoeur-Martineau, The Relativistic Discriminator, 2018.
    <https://arxiv.org/abs/1807.00734>

    Y. Huang et al., The GAN Is Dead; Long Live the GAN!, 2025.
    <https://arxiv.org/abs/2501.05441>
"""

relativistic_zero_sum: Loss = register(
    "relativistic_zero_sum",
    from_terms(_relativistic_discriminator, paired=True),
    summary="the relativistic pairing as a zero-sum game",
    formula="L_D = E sp(-(r - f)), L_G = -L_D",
    source="Jolicoeur-Martineau 2018, arXiv:1807.00734",
    generator_value=-math.log(2),
    discriminator_value=math.log(2),
)
r"""The zero-sum version of `relativistic`.

$$L_D = E\, \mathrm{sp}(-(r - f)), \qquad L_G = -L_D.$$

References:
    A. Jolicoeur-Martineau, The Relativistic Discriminator, 2018.
    <https://arxiv.org/abs/1807.00734>
"""


def _relativistic_average_discriminator(real: jax.Array, fake: jax.Array) -> Terms:
    return (
        _negative_log_real(real - jnp.mean(fake)),
        _negative_log_fake(fake - jnp.mean(real)),
    )


def _relativistic_average_generator(real: jax.Array, fake: jax.Array) -> Terms:
    return (
        _negative_log_fake(real - jnp.mean(fake)),
        _negative_log_real(fake - jnp.mean(real)),
    )


relativistic_average: Loss = register(
    "relativistic_average",
    from_terms(_relativistic_average_discriminator, _relativistic_average_generator),
    summary="every example compared with the mean of the other kind",
    formula="L_D = E sp(E f - r) + E sp(f - E r), L_G = E sp(E r - f) + E sp(r - E f)",
    source="Jolicoeur-Martineau 2018, arXiv:1807.00734",
    generator_value=math.log(4),
    discriminator_value=math.log(4),
    expectation=False,
)
r"""The relativistic average loss: every example against the mean of the other kind.

$$L_D = E\, \mathrm{sp}(-(r - E f)) + E\, \mathrm{sp}(f - E r), \qquad
  L_G = E\, \mathrm{sp}(-(f - E r)) + E\, \mathrm{sp}(r - E f).$$

The means are those of the batch, so the losses are no expectations over examples.

References:
    A. Jolicoeur-Martineau, The Relativistic Discriminator, 2018.
    <https://arxiv.org/abs/1807.00734>
"""
