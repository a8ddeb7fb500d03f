"""Train the three parts of the experiment, one after the other.

Encoders first; frozen, they embed all captions and pictures, and prior and decoder are
trained on what they say.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import gamedyn as gd
from gamedyn import nets, train
from gamedyn.data import sets

from . import captions, decoder, encoders, prior, scenes

_CHUNK = 500  # examples embedded at once


@dataclasses.dataclass(frozen=True)
class Stage:
    """How one part is trained: with Adam, its rate falling to zero along a cosine.

    Attributes:
        steps: of the rule.
        batch_size: examples of each.
        learning_rate: the first, after the warm-up.
        warmup: steps in which the rate rises from zero.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 0


class Embedded(NamedTuple):
    """What frozen encoders say of captions and their pictures.

    Attributes:
        texts: unit vectors of the captions, (N, d).
        states: of the captions' words, (N, 8, width).
        pictures: unit vectors of the pictures, (N, d).
    """

    texts: Any
    states: Any
    pictures: Any


def examples(number: int, seed: int, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw captions, as numbers of words, and their pictures.

    Args:
        number: how many.
        seed: decides scenes and places.
        **options: of `scenes.draw`.

    Returns:
        Shapes (number, 8), int32, and (number, 16, 16, 3), uint8.
    """
    drawn, pictures = scenes.draw(number, seed, **options)
    return captions.tokens([captions.caption(scene) for scene in drawn]), pictures


def embed(
    both: encoders.Encoders,
    params: dict[str, Any],
    arrays: tuple[np.ndarray, np.ndarray],
) -> Embedded:
    """Embed captions and pictures with trained encoders.

    Args:
        both: the encoders.
        params: theirs.
        arrays: what `examples` returns.

    Returns:
        What they say.
    """
    chunks = [
        jax.device_get(
            _say(both, params, *(array[start : start + _CHUNK] for array in arrays))
        )
        for start in range(0, len(arrays[0]), _CHUNK)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)


@functools.partial(jax.jit, static_argnums=0)
def _say(
    both: encoders.Encoders, params: Any, tokens: jax.Array, pictures: jax.Array
) -> Embedded:
    text = encoders.encode_texts(both, params, tokens)
    seen = encoders.encode_pictures(both, params, sets.scale(pictures))
    return Embedded(text.vector, text.states, seen)


def fit_encoders(
    both: encoders.Encoders,
    arrays: tuple[np.ndarray, np.ndarray],
    stage: Stage,
    key: jax.Array,
    **options: Any,
) -> train.TrainState:
    """Train the encoders of captions and pictures by contrast.

    Args:
        both: the encoders.
        arrays: what `examples` returns.
        stage: how.
        key: of parameters and batches.
        **options: of `train.fit`.

    Returns:
        The state in the end; `params[0]` are the parameters of both.
    """

    def build(rows: tuple[jax.Array, jax.Array], key: jax.Array) -> encoders.Pairs:
        del key
        return encoders.Pairs(rows[0], sets.scale(rows[1]))

    return _fit(encoders.game(both), both, arrays, build, stage, key, **options)


def fit_prior(
    net: nets.Net, embedded: Embedded, stage: Stage, key: jax.Array, **options: Any
) -> train.TrainState:
    """Train the prior on embeddings of captions and of their pictures.

    Args:
        net: the prior.
        embedded: what the encoders say.
        stage: how.
        key: of parameters and batches.
        **options: of `train.fit`.

    Returns:
        The state in the end.
    """

    def build(rows: tuple[jax.Array, jax.Array], key: jax.Array) -> Any:
        return prior.batch(*rows, key)

    arrays = embedded.texts, embedded.pictures
    return _fit(prior.game(net), net, arrays, build, stage, key, **options)


def fit_decoder(
    net: nets.Net,
    embedded: Embedded,
    pictures: np.ndarray,
    stage: Stage,
    key: jax.Array,
    **options: Any,
) -> train.TrainState:
    """Train the decoder on pictures, their embeddings and their captions' words.

    Args:
        net: the decoder.
        embedded: what the encoders say.
        pictures: (N, 16, 16, 3), uint8.
        stage: how.
        key: of parameters and batches.
        **options: of `train.fit`.

    Returns:
        The state in the end.
    """

    def build(rows: tuple[jax.Array, ...], key: jax.Array) -> Any:
        told = decoder.Condition(rows[0], rows[1])
        return decoder.batch(sets.scale(rows[2]), told, key)

    arrays = embedded.pictures, embedded.states, pictures
    return _fit(decoder.game(net), net, arrays, build, stage, key, **options)


def rule_of(stage: Stage) -> gd.Rule:
    """Make the rule of a stage."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0 if stage.warmup else stage.learning_rate,
        stage.learning_rate,
        stage.warmup,
        stage.steps,
    )
    return gd.simultaneous(optax.adam(rate, b2=0.99))


def _fit(
    game: gd.Game,
    net: Any,
    arrays: Any,
    build: Any,
    stage: Stage,
    key: jax.Array,
    **options: Any,
) -> train.TrainState:
    keys = jax.random.split(key)
    return train.fit(
        game,
        rule_of(stage),
        (jax.jit(net.init)(keys[0]),),
        train.from_arrays(arrays, stage.batch_size, build),
        num_steps=stage.steps,
        key=keys[1],
        **options,
    )
