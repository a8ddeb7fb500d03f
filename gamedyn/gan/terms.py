"""Terms that are added to the losses of a GAN's players."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gamedyn.checks import check_positive_integer
from gamedyn.gan import penalties


class Play(NamedTuple):
    """One evaluation of a GAN, as the terms of the losses see it.

    Attributes:
        generate: `generate(z)` returns fakes, the condition being that of `fake`.
        judge: `judge(phi, x)` returns the logits of examples as D sees them, the
            condition being the batch's.
        phi: the discriminator's parameters.
        real: real examples as D sees them: augmented, packed.
        fake: fakes as D sees them.
        latent: z.
        view: `view(x)` augments and packs examples, as D sees them.
        target: the real examples, unaltered.
        picture: G(z), unaltered.
        labels: the conditions of the real examples, or `None`.
        fake_labels: those of the fakes.
        classes: the class logits of an auxiliary classifier, of real and fake examples.
        step: the batch's step.
    """

    generate: Callable[[jax.Array], jax.Array]
    judge: Callable[[Any, jax.Array], jax.Array]
    phi: Any
    real: jax.Array
    fake: jax.Array
    latent: jax.Array
    view: Callable[[jax.Array], jax.Array]
    target: jax.Array
    picture: jax.Array
    labels: Any
    fake_labels: Any
    classes: tuple[Any, Any]
    step: Any


class Term(NamedTuple):
    """A term of the losses, with the players who pay it.

    Attributes:
        name: its name in monitors.
        generator: `generator(play, key)` returns the term of the generator's loss;
            `None` for none.
        discriminator: that of the discriminator's, likewise. Both get the same key.
        uses_fake: whether the discriminator's part looks at the generator's examples.
        differentiates: whether it takes gradients of single examples' logits, hence
            needs a discriminator that treats the examples one by one.
    """

    name: str
    generator: Callable[[Play, Any], jax.Array] | None = None
    discriminator: Callable[[Play, Any], jax.Array] | None = None
    uses_fake: bool = True
    differentiates: bool = False


def lazy(penalty: Callable[..., jax.Array], *, interval: int = 16) -> Term:
    """Apply a penalty in every `interval`-th step only, that many times as strong.

    The step is the batch's: `Batch.step`, the number of the discriminator's step. With
    Adam, see `penalties.lazy_adam`.

    Args:
        penalty: one of `gamedyn.gan.penalties`, its weight bound by
            `functools.partial`.
        interval: 16 in the paper.

    Returns:
        The term, for the `penalties` of `game`.

    Raises:
        ValueError: if the interval is not a positive integer, or the generator pays
            too; in the game, if the batch has no step.

    References:
        T. Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020,
        appendix B. <https://arxiv.org/abs/1912.04958>
    """
    check_positive_integer("interval", interval)
    eager = as_term(penalty)
    if eager.generator is not None or eager.discriminator is None:
        raise ValueError(f"{eager.name} is not a penalty of the discriminator alone")
    return eager._replace(
        name=f"lazy_{eager.name}",
        discriminator=functools.partial(_lazily, eager.discriminator, interval),
    )


def latent_consistency(
    *, weight: Any = 5.0, diversity: Any = 0.5, scale: Any = 0.03
) -> Term:
    r"""Make the latent consistency regulariser (zCR), a term of both players.

    $$L_D \mathrel{+}= \lambda_D E (D(G(z)) - D(G(z + \delta)))^2, \qquad
      L_G \mathrel{+}= -\lambda_G E \|G(z) - G(z + \delta)\|^2,
      \qquad \delta \sim N(0, \sigma^2 I).$$

    Args:
        weight: lambda_D.
        diversity: lambda_G.
        scale: sigma.

    Returns:
        The term, for the `penalties` of `game`.

    References:
        Z. Zhao et al., Improved Consistency Regularization for GANs, 2021.
        <https://arxiv.org/abs/2002.04724>
    """

    def moved(play: Play, key: Any) -> jax.Array:
        noise = jax.random.normal(key, play.latent.shape, play.latent.dtype)
        return play.generate(play.latent + scale * noise)

    def generator(play: Play, key: Any) -> jax.Array:
        return penalties.latent_diversity(
            play.picture, moved(play, key), weight=diversity
        )

    def discriminator(play: Play, key: Any) -> jax.Array:
        return penalties.latent_consistency(
            play.judge, play.phi, play.fake, play.view(moved(play, key)), weight=weight
        )

    return Term("latent_consistency", generator, discriminator)


def as_term(penalty: Callable[..., jax.Array] | Term) -> Term:
    """Return a penalty as a term of the discriminator; a term stays as it is.

    Args:
        penalty: a `Term`, or a function with the signature of `gamedyn.gan.penalties`;
            a registered one has the facts of its entry, others are assumed to look at
            the fakes and at no gradients.

    Returns:
        The term.
    """
    if isinstance(penalty, Term):
        return penalty
    layers = [penalty]
    while isinstance(layers[-1], functools.partial):
        layers.append(layers[-1].func)
    term = Term(
        getattr(layers[-1], "__name__", "penalty"),
        discriminator=functools.partial(_pay, penalty),
    )
    for layer in layers:
        for name, entry in penalties.entries().items():
            if entry.penalty is layer:
                return term._replace(
                    name=name,
                    uses_fake=entry.uses_fake,
                    differentiates=entry.differentiates,
                )
    return term


def _pay(penalty: Callable[..., jax.Array], play: Play, key: Any) -> jax.Array:
    return penalty(play.judge, play.phi, play.real, play.fake, key)


def _lazily(
    part: Callable[[Play, Any], jax.Array], interval: int, play: Play, key: Any
) -> jax.Array:
    if play.step is None:
        raise ValueError(
            "a lazy penalty needs to know the step: expected Batch.step, got None"
        )
    return penalties.lazily(lambda: part(play, key), play.step, interval=interval)
