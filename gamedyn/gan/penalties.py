"""Penalties on the discriminator: on its gradients in the inputs, on its consistency.

Weight clipping is no penalty but a projection of the critic's parameters: give the rule
the geometry `gamedyn.geometry.box(-c, c)` for that player.

Every registered penalty is a pure function

    penalty(discriminator, params, real, fake, key, *, weight, ...) -> scalar

to be added to the discriminator's loss, where

- `discriminator(params, x)` returns the logits of a batch, shape (B, ...); whatever
  else it needs (labels, say) is closed over. It must treat the examples one by one: the
  gradients of all of them come from one reverse pass over the sum of the logits, which
  is wrong with batch normalisation;
- `params` are the discriminator's;
- `real` and `fake` are batches of one shape (B, ...) and dtype; nothing is stopped, so
  the mixed derivatives with respect to the generator behind `fake` are there;
- `key` is a PRNG key, ignored by the penalties that draw nothing;
- `weight` is the paper's factor.

Each raises `ValueError` if there is no example, the shapes of real and fake examples
differ where both are looked at, the logits are not one batch of the same length, or a
known weight is negative; `TypeError` if the dtypes differ or are not floating-point.
Each says below what is its own. `make` binds the options of one, `register` adds one.

n denotes the Euclidean norm over all axes but the first of the gradient, with respect
to one example, of its logit (of the sum of its logits, if it has several).
"""

# What all penalties take stands above, once.
# ruff: noqa: D417

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.divergences import checks
from gamedyn.gan.gradients import (
    Discriminator,
    check_batch,
    input_gradients,
    interpolate,
    logits_of,
    norm,
    squared_norm,
)
from gamedyn.registry import Registry


class PenaltyEntry(NamedTuple):
    """A registered penalty.

    Attributes:
        penalty: the function.
        summary: one line in words.
        formula: the term in one line.
        source: authors, year, arXiv id.
        uses_fake: whether it looks at the generator's examples (consistency does if
            balanced). One that does not is constant for the generator, so that giving
            the generator its negative makes a zero-sum game with the same gradients.
        differentiates: whether it takes the gradients of single examples' logits, so
            that batch normalisation in the discriminator makes it wrong.
    """

    penalty: Callable[..., jax.Array]
    summary: str
    formula: str
    source: str
    uses_fake: bool
    differentiates: bool = True


_REGISTRY: Registry[PenaltyEntry] = Registry("penalty")


def names() -> tuple[str, ...]:
    """The names of all registered penalties."""
    return _REGISTRY.names()


def entries() -> dict[str, PenaltyEntry]:
    """All registered penalties by name."""
    return _REGISTRY.entries()


def entry(name: str) -> PenaltyEntry:
    """Look a penalty up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def make(name: str, **options: Any) -> Callable[..., jax.Array]:
    """Return a registered penalty with its options bound.

    Args:
        name: a name from `names()`; hyphens are accepted.
        **options: of the penalty: its `weight`, say.

    Returns:
        `penalty(discriminator, params, real, fake, key)`, for the `penalties` of
        `gamedyn.gan.game`.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if the penalty has no such option.

    Example:
        >>> from gamedyn.gan import penalties
        >>> penalties.make("r1", weight=1.0).keywords
        {'weight': 1.0}
    """
    penalty = entry(name).penalty
    inspect.signature(penalty).bind_partial(**options)
    return functools.partial(penalty, **options)


def register(
    name: str,
    penalty: Callable[..., jax.Array] | None = None,
    *,
    summary: str,
    formula: str,
    source: str,
    uses_fake: bool = True,
    differentiates: bool = True,
) -> Any:
    """Register a penalty, by a call or as a decorator.

    Args:
        name: the name, in snake case.
        penalty: a function as the module describes it.
        summary: one line in words.
        formula: the term in one line.
        source: authors, year, arXiv id.
        uses_fake: whether it looks at the generator's examples, see `PenaltyEntry`.
        differentiates: whether it takes the gradients of single examples' logits.

    Returns:
        The penalty; without one, the decorator.

    Raises:
        ValueError: if the name is taken.
    """
    describe = functools.partial(
        PenaltyEntry,
        summary=summary,
        formula=formula,
        source=source,
        uses_fake=uses_fake,
        differentiates=differentiates,
    )
    return _REGISTRY.register(name, describe, penalty)


def unregister(name: str) -> None:
    """Take a penalty out of the registry again; an unknown name raises `ValueError`."""
    _REGISTRY.remove(name)


def gradient_penalty(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    weight: Any = 10.0,
) -> jax.Array:
    r"""Compute the two-sided gradient penalty of WGAN-GP.

    $$\lambda\, E\, (n(\hat x) - 1)^2, \qquad \hat x = a x + (1 - a) \tilde x.$$

    Called as every penalty is, see the module: `key` draws a.

    Args:
        weight: the paper's lambda; 0.1 for points in the plane.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gamedyn.gan import penalties
        >>> x, w = jnp.ones((5, 2)), jnp.array([0.0, 3.0])
        >>> print(penalties.gradient_penalty(
        ...     lambda w, x: x @ w, w, x, -x, jax.random.key(0), weight=0.1))
        0.4

    References:
        I. Gulrajani et al., Improved Training of Wasserstein GANs, 2017.
        <https://arxiv.org/abs/1704.00028>
    """
    points = interpolate(key, real, fake)
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, jnp.square(norm(gradients) - 1))


register(
    "gradient_penalty",
    gradient_penalty,
    summary="gradients of length 1 between real and fake examples",
    formula="lambda E (n(a x + (1 - a) G(z)) - 1)^2",
    source="Gulrajani et al. 2017, arXiv:1704.00028",
    uses_fake=True,
)


def lipschitz_penalty(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    weight: Any = 10.0,
) -> jax.Array:
    r"""Compute the one-sided gradient penalty, that of WGAN-LP.

    $$\lambda\, E \max(0, n(\hat x) - 1)^2, \qquad \hat x = a x + (1 - a) \tilde x.$$

    A critic with gradients shorter than 1 is 1-Lipschitz too and pays nothing.

    Called as every penalty is, see the module: `key` draws a.

    Args:
        weight: the paper's lambda.

    References:
        H. Petzka, A. Fischer and D. Lukovnicov, On the Regularization of Wasserstein
        GANs, 2018. <https://arxiv.org/abs/1709.08894>
    """
    points = interpolate(key, real, fake)
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, jnp.square(jax.nn.relu(norm(gradients) - 1)))


register(
    "lipschitz_penalty",
    lipschitz_penalty,
    summary="gradients no longer than 1 between real and fake examples",
    formula="lambda E max(0, n(a x + (1 - a) G(z)) - 1)^2",
    source="Petzka, Fischer and Lukovnicov 2018, arXiv:1709.08894",
    uses_fake=True,
)


def zero_centred_penalty(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    weight: Any = 10.0,
) -> jax.Array:
    r"""Compute the zero-centred gradient penalty between real and fake examples.

    $$\lambda\, E\, n(\hat x)^2, \qquad \hat x = a x + (1 - a) \tilde x.$$

    Called as every penalty is, see the module: `key` draws a.

    Args:
        weight: the paper's lambda.

    References:
        H. Thanh-Tung, T. Tran and S. Venkatesh, Improving Generalization and Stability
        of Generative Adversarial Networks, 2019. <https://arxiv.org/abs/1902.03984>
    """
    points = interpolate(key, real, fake)
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, squared_norm(gradients))


register(
    "zero_centred_penalty",
    zero_centred_penalty,
    summary="short gradients between real and fake examples",
    formula="lambda E n(a x + (1 - a) G(z))^2",
    source="Thanh-Tung, Tran and Venkatesh 2019, arXiv:1902.03984",
    uses_fake=True,
)


def r1(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    weight: Any = 10.0,
) -> jax.Array:
    r"""Compute R1, the squared gradients at real examples.

    $$\frac{\gamma}{2} E\, n(x)^2.$$

    Some codes leave the 1/2 out: their 10 is 20 here.

    Called as every penalty is, see the module: `fake` and `key` are ignored.

    Args:
        weight: the paper's gamma.

    References:
        L. Mescheder, A. Geiger and S. Nowozin, Which Training Methods for GANs do
        actually Converge?, 2018. <https://arxiv.org/abs/1801.04406>
    """
    del fake, key
    gradients = input_gradients(discriminator, params, real)
    return _weighted(weight, 0.5 * squared_norm(gradients))


register(
    "r1",
    r1,
    summary="short gradients at real examples",
    formula="gamma/2 E n(x)^2",
    source="Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406",
    uses_fake=False,
)


def r2(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    weight: Any = 10.0,
) -> jax.Array:
    r"""Compute R2, the squared gradients at the generator's examples.

    $$\frac{\gamma}{2} E\, n(\tilde x)^2.$$

    Called as every penalty is, see the module: `real` and `key` are ignored.

    Args:
        weight: the paper's gamma.

    References:
        L. Mescheder, A. Geiger and S. Nowozin, Which Training Methods for GANs do
        actually Converge?, 2018. <https://arxiv.org/abs/1801.04406>
    """
    del real, key
    gradients = input_gradients(discriminator, params, fake)
    return _weighted(weight, 0.5 * squared_norm(gradients))


register(
    "r2",
    r2,
    summary="short gradients at fake examples",
    formula="gamma/2 E n(G(z))^2",
    source="Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406",
    uses_fake=True,
)


def dragan(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    weight: Any = 10.0,
    scale: Any = 0.5,
) -> jax.Array:
    r"""Compute the gradient penalty around real examples, that of DRAGAN.

    $$\lambda\, E\, (n(x + c\, s\, u) - 1)^2, \qquad u \sim U[0, 1),$$

    u drawn for every entry, s the standard deviation of all entries of the batch. Codes
    differ in the noise; this one is neither centred nor clipped.

    Called as every penalty is, see the module: `key` draws u, `fake` is
    ignored.

    Args:
        weight: the paper's lambda.
        scale: c, the size of the noise in standard deviations.

    References:
        N. Kodali et al., On Convergence and Stability of GANs, 2017.
        <https://arxiv.org/abs/1705.07215>
    """
    del fake
    (real,) = checks.floating(real=real)
    check_batch(real)
    noise = jax.random.uniform(key, real.shape, real.dtype)
    points = real + scale * jnp.std(real) * noise
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, jnp.square(norm(gradients) - 1))


register(
    "dragan",
    dragan,
    summary="gradients of length 1 around real examples",
    formula="lambda E (n(x + s u/2) - 1)^2, s the standard deviation, u ~ U[0, 1)",
    source="Kodali et al. 2017, arXiv:1705.07215",
    uses_fake=False,
)


def consistency(
    discriminator: Discriminator,
    params: Any,
    real: Any,
    fake: Any,
    key: Any,
    /,
    *,
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    weight: Any = 10.0,
    balanced: bool = False,
) -> jax.Array:
    r"""Compute the consistency regulariser: augmentation should not move the logits.

    $$\lambda\, E\, (D(x) - D(T x))^2,$$

    plus, if `balanced`, the same at the generator's examples, with a T of their own.

    Called as every penalty is, see the module: `key` is split in two, for real
    and fake examples, of which there may be another number.

    Args:
        augment: `augment(key, x)` returns T x for a batch.
        weight: the paper's lambda.
        balanced: whether the generator's examples are included (bCR instead of CR).

    References:
        H. Zhang et al., Consistency Regularization for Generative Adversarial Networks,
        2020. <https://arxiv.org/abs/1910.12027>

        Z. Zhao et al., Improved Consistency Regularization for GANs, 2021.
        <https://arxiv.org/abs/2002.04724>
    """
    key_real, key_fake = jax.random.split(key)
    (real,) = checks.floating(real=real)
    check_batch(real)
    moved = augment(key_real, real)
    penalty = _consistency(discriminator, params, real, moved, weight)
    if balanced:
        (fake,) = checks.floating(fake=fake)
        check_batch(fake)
        moved = augment(key_fake, fake)
        penalty = penalty + _consistency(discriminator, params, fake, moved, weight)
    return penalty


register(
    "consistency",
    consistency,
    summary="equal logits of examples before and after augmentation",
    formula="lambda E (D(x) - D(T x))^2",
    source="Zhang et al. 2020, arXiv:1910.12027",
    uses_fake=True,
    differentiates=False,
)


def latent_consistency(
    discriminator: Discriminator, params: Any, fake: Any, moved: Any, *, weight: Any
) -> jax.Array:
    r"""Compute the discriminator's part of latent consistency regularisation (zCR).

    $$\lambda\, E\, (D(G(z)) - D(G(z + \delta)))^2.$$

    Args:
        discriminator: see the module.
        params: its parameters.
        fake: G(z), shape (B, ...).
        moved: G(z + delta), same shape and dtype.
        weight: lambda.

    Returns:
        The penalty, a scalar; to be added to the discriminator's loss.

    Raises:
        ValueError: if the shapes differ or hold no example, the logits are not one
            batch of the same length, or a known weight is negative.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        Z. Zhao et al., Improved Consistency Regularization for GANs, 2021.
        <https://arxiv.org/abs/2002.04724>
    """
    fake, moved = checks.floating(fake=fake, moved=moved)
    check_batch(fake)
    return _consistency(discriminator, params, fake, moved, weight)


def latent_diversity(fake: Any, moved: Any, *, weight: Any) -> jax.Array:
    r"""Compute the generator's part of latent consistency regularisation (zCR).

    $$-\lambda\, E\, \| G(z) - G(z + \delta) \|^2,$$

    the norm over all axes but the first.

    Args:
        fake: G(z), shape (B, ...).
        moved: G(z + delta), same shape and dtype.
        weight: lambda.

    Returns:
        A scalar, never positive; to be added to the generator's loss.

    Raises:
        ValueError: if the shapes differ or hold no example, or a known weight is
            negative.
        TypeError: if the dtypes differ or are not floating-point.

    References:
        Z. Zhao et al., Improved Consistency Regularization for GANs, 2021.
        <https://arxiv.org/abs/2002.04724>
    """
    fake, moved = checks.floating(fake=fake, moved=moved)
    checks.same_shape(fake=fake, moved=moved)
    check_batch(fake)
    return -_weighted(weight, squared_norm(fake - moved))


def lazy_factor(step: Any, *, interval: int = 16) -> jax.Array:
    r"""Compute the factor of a penalty that is applied every `interval` steps only.

    $$c_k = \begin{cases} m & m \text{ divides } k \\ 0 & \text{otherwise}
      \end{cases}, \qquad m = \text{interval}.$$

    Over a period the term weighs as much as if it were applied in every step. To save
    its computation too, apply it through `lazily`. Plain gradient descent needs no
    other change; for Adam see `lazy_adam`.

    Args:
        step: the discriminator's step number k, an integer, may be traced.
        interval: m; 16 in the paper.

    Returns:
        The factor, a scalar whose dtype gives way to that of what it multiplies.

    Raises:
        ValueError: if the interval is not a positive integer.

    References:
        T. Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020,
        section 3.1 and appendix B. <https://arxiv.org/abs/1912.04958>
    """
    check_positive_integer("interval", interval)
    return jnp.where(jnp.asarray(step) % interval == 0, float(interval), 0.0)


def lazily(
    penalty: Callable[[], jax.Array], step: Any, *, interval: int = 16
) -> jax.Array:
    r"""Compute a penalty times `lazy_factor`, and only when that is not zero.

    $$c_k\, P.$$

    Args:
        penalty: a function of nothing that returns the scalar P.
        step: the discriminator's step number k, an integer, may be traced.
        interval: m; 16 in the paper.

    Returns:
        The scalar, in the dtype of P. Under `jax.vmap` over the step both cases are
        computed.

    Raises:
        ValueError: if the interval is not a positive integer.

    References:
        T. Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020,
        section 3.1 and appendix B. <https://arxiv.org/abs/1912.04958>
    """
    check_positive_integer("interval", interval)

    def apply() -> jax.Array:
        return interval * penalty()

    shape = jax.eval_shape(apply)
    return jax.lax.cond(
        jnp.asarray(step) % interval == 0,
        apply,
        lambda: jnp.zeros(shape.shape, shape.dtype),
    )


class LazyAdam(NamedTuple):
    """Adam's parameters for a loss with a lazy penalty."""

    learning_rate: Any
    b1: Any
    b2: Any


def lazy_adam(learning_rate: Any, b1: Any, b2: Any, *, interval: int = 16) -> LazyAdam:
    r"""Correct Adam's parameters for a lazy penalty.

    $$c = \frac{m}{m + 1}, \qquad
      \alpha \to c\, \alpha, \quad \beta_1 \to \beta_1^c, \quad \beta_2 \to \beta_2^c.$$

    Args:
        learning_rate: alpha, with the penalty in every step.
        b1: beta_1, likewise.
        b2: beta_2, likewise.
        interval: m, the number of steps for one of the penalty.

    Returns:
        The corrected `(learning_rate, b1, b2)`.

    Raises:
        ValueError: if the interval is not a positive integer.

    References:
        T. Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020,
        appendix B. <https://arxiv.org/abs/1912.04958>
    """
    check_positive_integer("interval", interval)
    share = interval / (interval + 1)
    return LazyAdam(share * learning_rate, b1**share, b2**share)


def _consistency(
    discriminator: Discriminator, params: Any, x: jax.Array, moved: Any, weight: Any
) -> jax.Array:
    moved = jnp.asarray(moved)
    checks.same_shape(examples=x, moved=moved)
    difference = logits_of(discriminator, params, x) - logits_of(
        discriminator, params, moved
    )
    return _weighted(weight, jnp.square(difference))


def _weighted(weight: Any, values: jax.Array) -> jax.Array:
    if is_known(weight) and not weight >= 0:
        raise ValueError(f"weight must not be negative, got {weight}")
    return weight * jnp.mean(values)
