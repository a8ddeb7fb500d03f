r"""Conditional GANs: how labels or pictures enter the game.

$$V(\theta, \phi) = E_{x, y} \log D(x, y) + E_{z, y} \log(1 - D(G(z, y), y)),$$

the law of y being that of the data in both terms. How a network takes its condition
(one-hot concatenation, label planes, embedding, conditional batch normalisation,
projection, concatenated pictures) is the network's business, see `gamedyn.nets`: here
stands what the game does with it.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gamedyn.checks import check_positive_integer, is_known
from gamedyn.gan.terms import Play, Term


class Conditional(NamedTuple):
    """How a game uses the labels of its batches.

    Attributes:
        name: what it is.
        check: `check(labels, real)` returns the labels, or raises `ValueError`.
        fake_labels: `fake_labels(key, labels)` returns the conditions of the fakes.
        shares_labels: whether these are the labels of the batch.
        auxiliary: whether the discriminator has a second head, of class logits.
        terms: further terms of the losses.
    """

    name: str
    check: Callable[[Any, jax.Array], Any]
    fake_labels: Callable[[Any, Any], Any]
    shares_labels: bool = True
    auxiliary: bool = False
    terms: tuple[Term, ...] = ()


def classes(
    num_classes: int,
    *,
    fakes: Literal["own", "permuted"] = "own",
    auxiliary: float | None = None,
) -> Conditional:
    r"""Condition on class labels.

    With an auxiliary classifier the discriminator returns (logits, class logits), and

    $$L_D \mathrel{+}= \lambda\, (CE(x, y) + CE(G(z, y), y)), \qquad
      L_G \mathrel{+}= \lambda\, CE(G(z, y), y),$$

    CE the cross-entropy of the class logits. Some codes halve the discriminator's sum.

    Args:
        num_classes: labels are 0 to num_classes - 1.
        fakes: the fakes have the labels of the batch in their order (`"own"`) or
            permuted: both follow the law of the data.
        auxiliary: lambda, the weight of an auxiliary classifier (1 in the paper), or
            `None`.

    Returns:
        The condition, for `gamedyn.gan.game`.

    Raises:
        ValueError: if a number or `fakes` is out of range; in the game, if labels are
            not (B,) integers or, where their values are known, out of range.

    References:
        M. Mirza and S. Osindero, Conditional Generative Adversarial Nets, 2014.
        <https://arxiv.org/abs/1411.1784>

        A. Odena, C. Olah and J. Shlens, Conditional Image Synthesis with Auxiliary
        Classifier GANs, 2017. <https://arxiv.org/abs/1610.09585>
    """
    check_positive_integer("num_classes", num_classes)
    if fakes not in ("own", "permuted"):
        raise ValueError(f"fakes must be 'own' or 'permuted', got {fakes!r}")
    if auxiliary is not None and is_known(auxiliary) and not auxiliary >= 0:
        raise ValueError(f"auxiliary must not be negative, got {auxiliary}")

    def check(labels: Any, real: jax.Array) -> jax.Array:
        return check_labels(labels, real.shape[0], num_classes)

    weight = 0.0 if auxiliary is None else auxiliary

    def loss(class_logits: jax.Array, labels: jax.Array) -> jax.Array:
        if class_logits.shape != (*labels.shape, num_classes):
            raise ValueError(
                f"the auxiliary classifier must return class logits of shape "
                f"{(*labels.shape, num_classes)}, got {class_logits.shape}"
            )
        log_probabilities = jax.nn.log_softmax(class_logits, axis=-1)
        chosen = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)
        return -weight * jnp.mean(chosen)

    def on_real(play: Play, key: Any) -> jax.Array:
        del key
        return loss(play.classes[0], play.labels)

    def on_fake(play: Play, key: Any) -> jax.Array:
        del key
        return loss(play.classes[1], play.fake_labels)

    terms = (
        Term("class_real", discriminator=on_real, uses_fake=False),
        Term("class_fake", generator=on_fake, discriminator=on_fake),
    )
    return Conditional(
        name=f"classes({num_classes})",
        check=check,
        fake_labels=_own if fakes == "own" else _permuted,
        shares_labels=fakes == "own",
        auxiliary=auxiliary is not None,
        terms=terms if auxiliary is not None else (),
    )


def pictures(*, reconstruction: float = 100.0) -> Conditional:
    r"""Condition on pictures: the batch's `labels` are the pictures to translate.

    The generator gets (z, picture), the discriminator (x, picture), and

    $$L_G \mathrel{+}= \lambda\, E\, |x - G(z, c)|,$$

    the mean over all entries.

    Args:
        reconstruction: lambda, 100 in pix2pix; 0 for none.

    Returns:
        The condition, for `gamedyn.gan.game`.

    Raises:
        ValueError: if the weight is negative; in the game, if there is not one picture
            per example.

    References:
        P. Isola et al., Image-to-Image Translation with Conditional Adversarial
        Networks, 2017. <https://arxiv.org/abs/1611.07004>
    """
    if is_known(reconstruction) and not reconstruction >= 0:
        raise ValueError(f"reconstruction must not be negative, got {reconstruction}")

    def distance(play: Play, key: Any) -> jax.Array:
        del key
        return reconstruction * jnp.mean(jnp.abs(play.target - play.picture))

    return Conditional(
        name="pictures",
        check=_check_pictures,
        fake_labels=_own,
        terms=(Term("reconstruction", generator=distance),) if reconstruction else (),
    )


def check_labels(labels: Any, number: int, num_classes: int) -> jax.Array:
    """Check class labels: their shape, their dtype and, where known, their range.

    Args:
        labels: integers.
        number: how many are expected.
        num_classes: labels are 0 to num_classes - 1.

    Returns:
        The labels, int32, shape (number,).

    Raises:
        ValueError: if the shape is another or a label is out of range.
        TypeError: if they are no integers.
    """
    if is_known(labels):
        labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    if labels.shape != (number,):
        raise ValueError(f"expected labels of shape {(number,)}, got {labels.shape}")
    if is_known(labels) and not bool(((labels >= 0) & (labels < num_classes)).all()):
        raise ValueError(
            f"labels must be in 0 to {num_classes - 1}, got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return labels.astype(jnp.int32)


def _own(key: Any, labels: Any) -> Any:
    del key
    return labels


def _permuted(key: Any, labels: Any) -> Any:
    return jax.random.permutation(key, labels)


def _check_pictures(labels: Any, real: jax.Array) -> jax.Array:
    labels = jnp.asarray(labels)
    if labels.shape[:-1] != real.shape[:-1]:
        raise ValueError(
            f"expected one condition picture per example, shape "
            f"({', '.join(map(str, real.shape[:-1]))}, channels), got {labels.shape}"
        )
    return labels
