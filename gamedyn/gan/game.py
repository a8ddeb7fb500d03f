r"""The GAN as a game: two networks, a loss of their logits, and further terms.

Player 0 is the generator G with parameters theta, player 1 the discriminator D with
phi; each minimises their own loss,

$$L_G = g(r, f) + \text{terms of G}, \qquad L_D = d(r, f) + \text{terms of D},$$

where r = D(x) are the logits of real examples, f = D(G(z)) those of fakes, and (g, d)
is a loss of `gamedyn.gan.losses`. Nothing is stopped: each player differentiates their
own parameters only, and the mixed derivatives stay whole. Real and fake examples go
through D as two batches.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from gamedyn.checks import check_output, check_positive_integer
from gamedyn.game import Game
from gamedyn.gan import losses as registered
from gamedyn.gan.conditional import Conditional
from gamedyn.gan.losses import Loss
from gamedyn.gan.sampling import Latent, as_function, normal
from gamedyn.gan.terms import Play, Term, as_term

Augment = Callable[[jax.Array, jax.Array], jax.Array]

PLAYERS = ("generator", "discriminator")
"""The players of a GAN, in the order of its params."""


class Batch(NamedTuple):
    """The batch of a GAN's game: data, and the key of all randomness.

    Attributes:
        real: examples of the data, shape (B, ...).
        key: a PRNG key; the latents, and all other randomness, are drawn from it.
        labels: conditions of the examples: class labels, shape (B,), int32, or
            pictures; `None` for a game without conditions.
        latent: the latents themselves, shape (B, ...), in place of those drawn from
            the key: frozen randomness, as certificates need it.
        step: the number of the discriminator's step, for penalties applied lazily.
    """

    real: Any
    key: Any
    labels: Any = None
    latent: Any = None
    step: Any = None


def game(
    generator: Any,
    discriminator: Any,
    loss: Loss | str,
    *,
    latent: Latent = normal(128),  # noqa: B008 (immutable)
    penalties: Sequence[Callable[..., jax.Array] | Term] = (),
    conditional: Conditional | None = None,
    pack: int = 1,
    augment: Augment | None = None,
) -> Game:
    r"""Make the game of a generator against a discriminator.

    $$\min_\theta L_G(\theta, \phi), \qquad \min_\phi L_D(\theta, \phi).$$

    Its batches are `Batch`es. The game is zero-sum if the loss is and no term breaks
    it: a penalty that does not look at the fakes is then taken from the generator's
    loss too, where it is constant, so that the losses add up to exactly zero and no
    gradient changes.

    Args:
        generator: a `gamedyn.nets.Net`, or `apply(theta, z[, condition])`, that
            returns examples.
        discriminator: a `gamedyn.nets.Net`, or `apply(phi, x[, condition])`, that
            returns logits, one per example; with an auxiliary classifier
            `apply(phi, x)`, which returns the pair (logits, class logits).
        loss: a pair from `gamedyn.gan.losses`, or its name.
        latent: the law of z: `latent(key, number, dtype)`.
        penalties: functions of `gamedyn.gan.penalties`, their weight bound by
            `functools.partial`, paid by the discriminator; or `Term`s.
        conditional: how the batch's labels enter, see `gamedyn.gan.conditional`.
        pack: how many examples the discriminator sees at once, concatenated along the
            last axis: PacGAN. It divides the batch.
        augment: `augment(key, x)`, differentiable in x: what D sees of real and of
            fake examples, in both losses (Zhao et al. 2020, arXiv:2006.10738).

    Returns:
        The game; its params are the tuple `(theta, phi)`.

    Raises:
        ValueError: if the loss is unknown, a penalty that differentiates single
            examples meets batch normalisation in the discriminator, or packing meets
            conditions; when evaluated, if the batch does not fit the game.
        TypeError: if a network is no function.

    References:
        I. Goodfellow et al., Generative Adversarial Networks, 2014.
        <https://arxiv.org/abs/1406.2661>

        Z. Lin et al., PacGAN: The power of two samples in generative adversarial
        networks, 2018. <https://arxiv.org/abs/1712.04086>

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gamedyn import gan
        >>> dirac = gan.game(lambda theta, z: 0 * z + theta,
        ...                  lambda phi, x: phi * x[:, 0],
        ...                  "minimax", latent=gan.normal(1))
        >>> batch = gan.Batch(jnp.zeros((4, 1)), jax.random.key(0))
        >>> dirac.zero_sum, f"{dirac((jnp.ones(()), jnp.zeros(())), batch)[1]:.4f}"
        (True, '1.3863')
    """
    pair = registered.make(loss) if isinstance(loss, str) else loss
    terms = tuple(map(as_term, penalties))
    if conditional is not None:
        terms += conditional.terms
    check_positive_integer("pack", pack)
    if pack > 1 and conditional is not None:
        raise ValueError(
            f"packing joins examples of different conditions: got pack={pack} with "
            f"conditional={conditional.name!r}, expected one of the two"
        )
    for term in terms:
        if term.differentiates and getattr(discriminator, "batch_statistics", False):
            raise ValueError(
                f"{term.name} differentiates each example's logit alone, and batch "
                f"normalisation couples the examples: expected a discriminator without "
                f"it (layer, instance, group or spectral normalisation are fine)"
            )
        if (
            conditional is not None
            and not conditional.shares_labels
            and term.differentiates
            and term.uses_fake
        ):
            raise ValueError(
                f"{term.name} judges real and fake examples under one condition: "
                f"expected fakes with the labels of the batch (fakes='own'), got fresh "
                f"ones"
            )
    closed = all(
        term.generator is None and not (term.discriminator and term.uses_fake)
        for term in terms
    )
    losses = GanLosses(
        as_function("generator", generator),
        as_function("discriminator", discriminator),
        pair,
        latent,
        terms,
        conditional,
        pack,
        augment,
        zero_sum=pair.zero_sum and closed,
    )
    return Game(Partial(losses), num_players=2, zero_sum=losses.zero_sum)


@dataclasses.dataclass(frozen=True)
class GanLosses:
    """The losses of a GAN's game, a function of `(params, batch)`."""

    generator: Callable[..., Any]
    discriminator: Callable[..., Any]
    loss: Loss
    latent: Latent
    terms: tuple[Term, ...]
    conditional: Conditional | None
    pack: int
    augment: Augment | None
    zero_sum: bool

    def __call__(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Evaluate both losses."""
        *_, losses = self.evaluate(params, batch)
        return losses

    def evaluate(self, params: Any, batch: Batch) -> tuple[Any, Any, dict, Any]:
        """Return real logits, fake logits, the terms by name, and the losses."""
        theta, phi = params
        real, labels = self._check(batch)

        # Bind each player's condition.
        law, condition, view, drawn = jax.random.split(batch.key, 4)

        fake_labels = None
        generate, judge, judge_fake = (
            self.generator,
            self.discriminator,
            self.discriminator,
        )
        if self.conditional is not None:
            fake_labels = self.conditional.fake_labels(condition, labels)
            generate = _given(generate, fake_labels)
            if not self.conditional.auxiliary:
                judge, judge_fake = _given(judge, labels), _given(judge, fake_labels)

        # Draw latents and generate.
        latent = batch.latent
        if latent is None:
            latent = self.latent(law, real.shape[0], real.dtype)
        picture = generate(theta, latent)
        check_output("the generator", picture, real.dtype)
        if picture.shape != real.shape:
            raise ValueError(
                f"the generator must return examples of the data's shape {real.shape}, "
                f"got {picture.shape}"
            )

        # Judge real and fake examples, augmented and packed.
        key_real, key_fake = jax.random.split(view)
        seen, fake = self._view(key_real, real), self._view(key_fake, picture)
        real_logits, real_classes = self._judge(judge, phi, seen)
        fake_logits, fake_classes = self._judge(judge_fake, phi, fake)

        # Add each term to the loss of the player who pays it.
        play = Play(
            generate=functools.partial(generate, theta),
            judge=lambda phi, x: self._judge(judge, phi, x)[0],
            phi=phi,
            real=seen,
            fake=fake,
            latent=latent,
            view=functools.partial(self._view, key_fake),
            target=real,
            picture=picture,
            labels=labels,
            fake_labels=fake_labels,
            classes=(real_classes, fake_classes),
            step=batch.step,
        )
        paid = [
            self.loss.generator(real_logits, fake_logits),
            self.loss.discriminator(real_logits, fake_logits),
        ]
        named = {}
        for index, term in enumerate(self.terms):
            key = jax.random.fold_in(drawn, index)
            for player, part in enumerate((term.generator, term.discriminator)):
                if part is not None:
                    value = part(play, key)
                    named[f"{term.name}_{PLAYERS[player]}"] = value
                    paid[player] = paid[player] + value
        if self.zero_sum:
            # The discriminator's own terms do not depend on theta.
            paid[0] = -paid[1]
        return real_logits, fake_logits, named, tuple(paid)

    def _check(self, batch: Batch) -> tuple[jax.Array, Any]:
        if not isinstance(batch, Batch):
            raise TypeError(
                f"the batch of a GAN is a gamedyn.gan.Batch, got {type(batch).__name__}"
            )
        real = jnp.asarray(batch.real)
        if not jnp.issubdtype(real.dtype, jnp.floating):
            raise TypeError(
                f"the examples must be real floating-point numbers, got {real.dtype}"
            )
        if real.ndim == 0 or real.shape[0] % self.pack:
            raise ValueError(
                f"expected a batch of examples whose number is a multiple of "
                f"pack={self.pack}, got shape {real.shape}"
            )
        if self.conditional is None and batch.labels is not None:
            raise ValueError("the batch has labels, and the game is not conditional")
        if self.conditional is not None and batch.labels is None:
            raise ValueError(
                f"the game is conditional on {self.conditional.name}, and the batch "
                f"has no labels"
            )
        if self.conditional is None:
            return real, None
        return real, self.conditional.check(batch.labels, real)

    def _view(self, key: jax.Array, x: jax.Array) -> jax.Array:
        if self.augment is not None:
            x = self.augment(key, x)
        return packed(x, self.pack)

    def _judge(self, judge: Callable[..., Any], phi: Any, x: jax.Array) -> Any:
        """Return logits and, of an auxiliary classifier, class logits."""
        output = judge(phi, x)
        auxiliary = self.conditional is not None and self.conditional.auxiliary
        if isinstance(output, tuple) != auxiliary:
            expected = "(logits, class logits)" if auxiliary else "logits"
            got = "one array" if auxiliary else "a tuple"
            raise ValueError(f"the discriminator must return {expected}, got {got}")
        logits, classes = output if auxiliary else (output, None)
        check_output("the discriminator", logits)
        if logits.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"the discriminator must return one logit per example, shape "
                f"({x.shape[0]},), got shape {logits.shape}"
            )
        return logits, classes


def monitor(gan_game: Game) -> Callable[..., dict[str, jax.Array]]:
    """Make the `record` that monitors the training of a GAN.

    Args:
        gan_game: a game made by `game`.

    Returns:
        `record(params, rule_state, batches, step)`, for `gamedyn.solve` and
        `gamedyn.train.fit`: on the step's first batch, before the update, both losses,
        the mean logits of real and fake examples, the shares that the discriminator
        gets right, and each term. What it computes is shared with the step.

    Raises:
        TypeError: if the game is not a GAN's.
    """
    losses = gan_game.losses.func
    if not isinstance(losses, GanLosses):
        raise TypeError("expected a game made by gamedyn.gan.game")

    def record(params, rule_state, batches, step) -> dict[str, jax.Array]:
        del rule_state, step
        real, fake, named, values = losses.evaluate(params, batches[0])
        return {
            "loss_generator": values[0],
            "loss_discriminator": values[1],
            "logit_real": jnp.mean(real),
            "logit_fake": jnp.mean(fake),
            "accuracy_real": jnp.mean((real > 0).astype(real.dtype)),
            "accuracy_fake": jnp.mean((fake < 0).astype(fake.dtype)),
            **named,
        }

    return record


def packed(x: jax.Array, number: int) -> jax.Array:
    """Concatenate groups of neighbouring examples along the last axis.

    Args:
        x: examples, shape (B, ..., C).
        number: how many make one, m; it divides B.

    Returns:
        Shape (B/m, ..., m C).

    Example:
        >>> import jax.numpy as jnp
        >>> packed(jnp.arange(6.0).reshape(6, 1), 3)
        Array([[0., 1., 2.],
               [3., 4., 5.]], dtype=...)
    """
    if number == 1:
        return x
    groups = x.reshape(x.shape[0] // number, number, *x.shape[1:])
    return jnp.concatenate([groups[:, i] for i in range(number)], axis=-1)


def _given(function: Callable[..., Any], condition: Any) -> Callable[..., Any]:
    return lambda params, x: function(params, x, condition)
