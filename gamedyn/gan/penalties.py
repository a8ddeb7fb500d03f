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
- `key` is a PRNG key, ignored by the penalties that draw nothing.

n denotes the Euclidean norm over all axes but the first of the gradient, with respect
to one example, of its logit (of the sum of its logits, if it has several).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.divergences import checks
from gamedyn.registry import Registry

Discriminator = Callable[[Any, jax.Array], jax.Array]


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
    return {name: _REGISTRY[name] for name in _REGISTRY}


def entry(name: str) -> PenaltyEntry:
    """Look a penalty up; an unknown name raises `ValueError` with the nearest ones."""
    return _REGISTRY[name]


def input_gradients(
    discriminator: Discriminator, params: Any, points: Any
) -> jax.Array:
    r"""Compute the gradient of every example's logit with respect to the example.

    $$g_i = \nabla_{x_i} \sum_j D(x_j),$$

    one reverse pass, right as long as $D(x_j)$ depends on no other example.

    Args:
        discriminator: `discriminator(params, x)` returns logits, shape (B, ...).
        params: its parameters.
        points: the examples, shape (B, ...).

    Returns:
        The gradients, same shape.

    Raises:
        ValueError: if there is no example, or the logits are not one batch of the same
            length.
        TypeError: if the examples are not floating-point.
    """
    (points,) = checks.floating(points=points)
    _check_batch(points)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(_logits(discriminator, params, x))

    return jax.grad(total)(points)


def norm(values: jax.Array) -> jax.Array:
    r"""Compute each example's Euclidean norm, differentiable twice also at zero.

    $$n_i = \Big(\sum_{a} g_{ia}^2\Big)^{1/2}$$

    over all axes but the first. Nothing is added under the root, so values are exact.
    At zero the derivatives are taken as 0; sums of squares below $t^{2/3}$, t the
    smallest normal number of the dtype, count as zero (norms below 2.3e-13 in float32,
    1.3e-103 in float64), as the root's second derivative would overflow.

    Args:
        values: shape (B, ...).

    Returns:
        The norms, shape (B,).
    """
    squares = squared_norm(values)
    positive = squares > float(jnp.finfo(squares.dtype).tiny) ** (2 / 3)
    # Two selections: the root's derivative is never taken at zero.
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def squared_norm(values: jax.Array) -> jax.Array:
    r"""Compute each example's squared norm, $\sum_a g_{ia}^2$.

    Args:
        values: shape (B, ...).

    Returns:
        The squares, shape (B,).
    """
    return jnp.sum(jnp.square(values), axis=tuple(range(1, values.ndim)))


def interpolate(key: jax.Array, real: Any, fake: Any) -> jax.Array:
    r"""Draw a point on the segment between each real example and its fake.

    $$\hat x_i = a_i x_i + (1 - a_i) \tilde x_i, \qquad a_i \sim U[0, 1),$$

    one a for each example, shared by all its entries.

    Args:
        key: a PRNG key.
        real: shape (B, ...).
        fake: same shape and dtype.

    Returns:
        The points, same shape.

    Raises:
        ValueError: if the shapes differ or hold no example.
        TypeError: if the dtypes differ or are not floating-point.
    """
    real, fake = checks.floating(real=real, fake=fake)
    checks.same_shape(real=real, fake=fake)
    _check_batch(real)
    shape = (real.shape[0],) + (1,) * (real.ndim - 1)
    share = jax.random.uniform(key, shape, real.dtype)
    return share * real + (1 - share) * fake


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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: examples of the data, shape (B, ...).
        fake: examples of the generator, same shape and dtype.
        key: a PRNG key, for a.
        weight: the paper's lambda; 0.1 for points in the plane.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: if shapes differ, there is no example, the logits are not one batch
            of the same length, or a known weight is negative.
        TypeError: if the dtypes differ or are not floating-point.

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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: examples of the data, shape (B, ...).
        fake: examples of the generator, same shape and dtype.
        key: a PRNG key, for a.
        weight: the paper's lambda.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: as `gradient_penalty`.
        TypeError: as `gradient_penalty`.

    References:
        H. Petzka, A. Fischer and D. Lukovnicov, On the Regularization of Wasserstein
        GANs, 2018. <https://arxiv.org/abs/1709.08894>
    """
    points = interpolate(key, real, fake)
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, jnp.square(jax.nn.relu(norm(gradients) - 1)))


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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: examples of the data, shape (B, ...).
        fake: examples of the generator, same shape and dtype.
        key: a PRNG key, for a.
        weight: the paper's lambda.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: as `gradient_penalty`.
        TypeError: as `gradient_penalty`.

    References:
        H. Thanh-Tung, T. Tran and S. Venkatesh, Improving Generalization and Stability
        of Generative Adversarial Networks, 2019. <https://arxiv.org/abs/1902.03984>
    """
    points = interpolate(key, real, fake)
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, squared_norm(gradients))


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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: examples of the data, shape (B, ...).
        fake: ignored.
        key: ignored.
        weight: the paper's gamma.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: if there is no example, the logits are not one batch of the same
            length, or a known weight is negative.
        TypeError: if the examples are not floating-point.

    References:
        L. Mescheder, A. Geiger and S. Nowozin, Which Training Methods for GANs do
        actually Converge?, 2018. <https://arxiv.org/abs/1801.04406>
    """
    del fake, key
    gradients = input_gradients(discriminator, params, real)
    return _weighted(weight, 0.5 * squared_norm(gradients))


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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: ignored.
        fake: examples of the generator, shape (B, ...).
        key: ignored.
        weight: the paper's gamma.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: as `r1`.
        TypeError: as `r1`.

    References:
        L. Mescheder, A. Geiger and S. Nowozin, Which Training Methods for GANs do
        actually Converge?, 2018. <https://arxiv.org/abs/1801.04406>
    """
    del real, key
    gradients = input_gradients(discriminator, params, fake)
    return _weighted(weight, 0.5 * squared_norm(gradients))


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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: examples of the data, shape (B, ...).
        fake: ignored.
        key: a PRNG key, for u.
        weight: the paper's lambda.
        scale: c, the size of the noise in standard deviations.

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: as `r1`.
        TypeError: as `r1`.

    References:
        N. Kodali et al., On Convergence and Stability of GANs, 2017.
        <https://arxiv.org/abs/1705.07215>
    """
    del fake
    (real,) = checks.floating(real=real)
    _check_batch(real)
    noise = jax.random.uniform(key, real.shape, real.dtype)
    points = real + scale * jnp.std(real) * noise
    gradients = input_gradients(discriminator, params, points)
    return _weighted(weight, jnp.square(norm(gradients) - 1))


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

    Args:
        discriminator: see the module.
        params: its parameters.
        real: examples of the data, shape (B, ...).
        fake: examples of the generator, shape (B', ...); ignored unless `balanced`.
        key: a PRNG key, split in two: for the real and for the fake examples.
        augment: `augment(key, x)` returns T x for a batch.
        weight: the paper's lambda.
        balanced: whether the generator's examples are included (bCR instead of CR).

    Returns:
        The penalty, a scalar.

    Raises:
        ValueError: as `r1`, or if T changes the shape.
        TypeError: if the examples are not floating-point.

    References:
        H. Zhang et al., Consistency Regularization for Generative Adversarial Networks,
        2020. <https://arxiv.org/abs/1910.12027>

        Z. Zhao et al., Improved Consistency Regularization for GANs, 2021.
        <https://arxiv.org/abs/2002.04724>
    """
    key_real, key_fake = jax.random.split(key)
    (real,) = checks.floating(real=real)
    _check_batch(real)
    moved = augment(key_real, real)
    penalty = _consistency(discriminator, params, real, moved, weight)
    if balanced:
        (fake,) = checks.floating(fake=fake)
        _check_batch(fake)
        moved = augment(key_fake, fake)
        penalty = penalty + _consistency(discriminator, params, fake, moved, weight)
    return penalty


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
    _check_batch(fake)
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
    _check_batch(fake)
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


def _check_batch(points: jax.Array) -> None:
    if points.ndim == 0 or points.size == 0:
        raise ValueError(
            f"expected a batch of examples, shape (B, ...) with B >= 1, "
            f"got shape {points.shape}"
        )


def _logits(discriminator: Discriminator, params: Any, x: jax.Array) -> jax.Array:
    logits = jnp.asarray(discriminator(params, x))
    if logits.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"the discriminator must return one logit (or more) per example, "
            f"shape ({x.shape[0]}, ...), got shape {logits.shape}"
        )
    return logits


def _consistency(
    discriminator: Discriminator, params: Any, x: jax.Array, moved: Any, weight: Any
) -> jax.Array:
    moved = jnp.asarray(moved)
    checks.same_shape(examples=x, moved=moved)
    difference = _logits(discriminator, params, x) - _logits(
        discriminator, params, moved
    )
    return _weighted(weight, jnp.square(difference))


def _weighted(weight: Any, values: jax.Array) -> jax.Array:
    if is_known(weight) and not weight >= 0:
        raise ValueError(f"weight must not be negative, got {weight}")
    return weight * jnp.mean(values)


_REGISTRY.add(
    "gradient_penalty",
    PenaltyEntry(
        gradient_penalty,
        "gradients of length 1 between real and fake examples",
        "lambda E (n(a x + (1 - a) G(z)) - 1)^2",
        "Gulrajani et al. 2017, arXiv:1704.00028",
        uses_fake=True,
    ),
)
_REGISTRY.add(
    "lipschitz_penalty",
    PenaltyEntry(
        lipschitz_penalty,
        "gradients no longer than 1 between real and fake examples",
        "lambda E max(0, n(a x + (1 - a) G(z)) - 1)^2",
        "Petzka, Fischer and Lukovnicov 2018, arXiv:1709.08894",
        uses_fake=True,
    ),
)
_REGISTRY.add(
    "zero_centred_penalty",
    PenaltyEntry(
        zero_centred_penalty,
        "short gradients between real and fake examples",
        "lambda E n(a x + (1 - a) G(z))^2",
        "Thanh-Tung, Tran and Venkatesh 2019, arXiv:1902.03984",
        uses_fake=True,
    ),
)
_REGISTRY.add(
    "r1",
    PenaltyEntry(
        r1,
        "short gradients at real examples",
        "gamma/2 E n(x)^2",
        "Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406",
        uses_fake=False,
    ),
)
_REGISTRY.add(
    "r2",
    PenaltyEntry(
        r2,
        "short gradients at fake examples",
        "gamma/2 E n(G(z))^2",
        "Mescheder, Geiger and Nowozin 2018, arXiv:1801.04406",
        uses_fake=True,
    ),
)
_REGISTRY.add(
    "dragan",
    PenaltyEntry(
        dragan,
        "gradients of length 1 around real examples",
        "lambda E (n(x + s u/2) - 1)^2, s the standard deviation, u ~ U[0, 1)",
        "Kodali et al. 2017, arXiv:1705.07215",
        uses_fake=False,
    ),
)
_REGISTRY.add(
    "consistency",
    PenaltyEntry(
        consistency,
        "equal logits of examples before and after augmentation",
        "lambda E (D(x) - D(T x))^2",
        "Zhang et al. 2020, arXiv:1910.12027",
        uses_fake=True,
        differentiates=False,
    ),
)
