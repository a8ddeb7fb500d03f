"""Text to image as DALL-E 2 has it, small: captions of coloured shapes, 16 x 16 pixels.

Command:

    gamedyn train text_to_image [--out results/text_to_image] [--seed 1] [--smoke]
    gamedyn sample results/text_to_image --prompt "two red squares above one blue cross"
    gamedyn evaluate results/text_to_image

Scenes of one or two groups of one to three equal objects are rendered with captions
(colour, shape, count, position, relation). Four of the twenty pairs of colour and shape
never occur in training. Then, each a game of one player and trained by Adam:

1. encoders of captions and of pictures, by contrast (`encoders`, as CLIP);
2. a prior, which draws the embedding of a picture for that of a caption, by diffusion
   (`prior`);
3. a decoder, which draws the picture for its embedding and the states of the caption's
   words, by diffusion (`decoder`).

An exact parser reads the pictures; what counts is the share of attributes that are as
the caption says, for pairs seen in training and for those held out. Beside it stand
chance, the renderer, and the ablations: the caption's embedding in place of the prior's
draw, the true picture's embedding, and each of them with the caption's words withheld
from the decoder.

Papers: A. Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP
Latents, 2022, arXiv:2204.06125; A. Radford et al., 2021, arXiv:2103.00020.

Expected, default options, seeds 0 and 1 (`README.md` beside this file has the rest):
attributes as the caption says, .951 and .948 for pairs seen in training, .797 and .789
for those held out; chance is .30 to .32. Training takes 17 and 14 minutes on one core
of a 2-core x86-64 server, the core shared with other work.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from gamedyn import diffusion, recipes, train
from gamedyn.data import sets
from gamedyn.recipes.pictures import over, write_npz
from gamedyn.seeds import seed_key

from . import (
    captions,
    decoder,
    encoders,
    parser,
    pictures,
    prior,
    scenes,
    training,
)
from .scenes import Scene
from .training import Embedded, Stage

PARTS = ("encoders", "prior", "decoder")
SOURCES = ("prior", "text", "picture")
"""Whose embedding the decoder gets: the prior's, the caption's, the true picture's."""

_CHUNK = 128  # pictures drawn at once
_UNSEEN = 10**6  # added to seeds of what is drawn after training


@dataclasses.dataclass(frozen=True)
class Config:
    """The options."""

    out: Path = Path("results/text_to_image")  # the folder of the run
    resume: tyro.conf.Suppress[bool] = False  # go on with the run in `out`
    examples: int = 40_000  # captions with their pictures, for training
    width: int = 128  # of the decoder
    depth: int = 4  # of the decoder
    patch: int = 4  # of the decoder
    text_width: int = 64  # of the caption's transformer
    prior_width: int = 256  # of the prior's layers
    steps: tuple[int, int, int] = (500, 8000, 4000)  # encoders, prior, decoder
    batch_sizes: tuple[int, int, int] = (256, 256, 64)  # of each
    learning_rates: tuple[float, float, float] = (2e-3, 1e-3, 2e-3)  # of each, at first
    average: float = 0.995  # decay of the moving averages that are used afterwards
    guidance: float = 1.0  # w of the decoder's guidance, off at 0
    sampling_steps: int = 25  # of the prior and of the decoder, by DDIM
    captions: int = 256  # how many of each kind have their pictures scored
    seed: int = 0  # of scenes, parameters and the order of the data


SMOKE = Config(
    examples=256,
    width=16,
    depth=1,
    text_width=16,
    prior_width=16,
    steps=(4, 4, 4),
    batch_sizes=(16, 16, 16),
    sampling_steps=2,
    captions=16,
)
"""A few seconds, in which nothing is learned."""


class Parts(NamedTuple):
    """The three parts: networks, or their parameters."""

    encoders: Any
    prior: Any
    decoder: Any


def networks(config: Config) -> Parts:
    """Make the networks.

    Raises:
        ValueError: if an option does not fit.
    """
    return Parts(
        encoders.encoders(width=config.text_width),
        prior.prior(width=config.prior_width),
        decoder.decoder(
            width=config.width,
            depth=config.depth,
            patch=config.patch,
            states=config.text_width,
        ),
    )


def main(config: Config) -> dict[str, Any]:
    """Train the parts one after the other, then measure."""
    made = networks(config)
    arrays = training.examples(config.examples, config.seed)
    keys = jax.random.split(seed_key(config.seed), len(PARTS))
    stages = [
        Stage(*numbers, warmup=min(100, numbers[0] // 10))
        for numbers in zip(
            config.steps, config.batch_sizes, config.learning_rates, strict=True
        )
    ]
    summary: dict[str, Any] = {}
    params, embedded = [], None
    for name, net, stage, key in zip(PARTS, made, stages, keys, strict=True):
        inputs: tuple[Any, ...] = (arrays,)
        if name != "encoders":
            embedded = embedded or training.embed(made.encoders, params[0], arrays)
            inputs = (embedded,) if name == "prior" else (embedded, arrays[1])
        state = getattr(training, f"fit_{name}")(
            net,
            *inputs,
            stage,
            key,
            directory=config.out / name,
            checkpoint_every=min(1000, stage.steps),
            resume=config.resume,
            average=train.ema(config.average),
            config={"examples": config.examples, "seed": config.seed},
        )
        ending = train.Ending(state.status)
        summary[f"{name}: seconds"] = round(state.history[-1]["seconds"], 1)
        if over(state):
            return summary | {"ending": f"{name}: {ending.message}"}
        params.append(state.averaged[0])
    return summary | measure(config, made, Parts(*params))


def measure(config: Config, made: Parts, params: Parts) -> dict[str, Any]:
    """Score pictures of captions with pairs seen in training and of held-out ones.

    Writes `scores.json`, with the share of each attribute, and `samples.png`; the next
    time `scores-2.json` and so on.
    """
    of_prior, of_decoder = jax.random.split(seed_key(config.seed, _UNSEEN))
    scores: dict[str, Any] = {}
    shown = {}
    seen, _ = scenes.draw(config.captions, config.seed)
    for kind in ("held-in", "held-out"):
        wanted, rendered = scenes.draw(
            config.captions, config.seed + _UNSEEN, held_out=kind == "held-out"
        )
        tokens = captions.tokens([captions.caption(scene) for scene in wanted])
        true = np.asarray(sets.scale(rendered))
        noise = 0.3 * np.random.default_rng(0).standard_normal(true.shape)
        scores[f"{kind}, renderer"] = score(wanted, true)
        scores[f"{kind}, renderer with noise"] = score(wanted, true + noise)
        scores[f"{kind}, chance"] = parser.chance(wanted, seen)
        embedded = training.embed(made.encoders, params.encoders, (tokens, rendered))
        shown[kind] = {"wanted": wanted, "renderer": true}
        for source in SOURCES:
            told = condition(config, made, params, embedded, source, of_prior)
            for name, said in (
                (source, told),
                (f"{source}, words withheld", without_words(told)),
            ):
                drawn = paint(config, made, params, said, of_decoder)
                shown[kind][name] = drawn
                scores[f"{kind}, {name}"] = score(wanted, drawn)
    recipes.write_json(recipes.beside(config.out / "scores.json"), scores)
    picture = recipes.beside(config.out / "samples.png")
    pictures.save(pictures.samples(shown), picture)
    return {f"{name}: attributes": s["attributes"] for name, s in scores.items()}


def score(wanted: list[Scene], drawn: np.ndarray) -> dict[str, float]:
    """Read pictures and compare them with the scenes asked for.

    Args:
        wanted: the scenes.
        drawn: their pictures.

    Returns:
        See `parser.score`; where scenes have pairs of colour and shape that are held
        out, also the share of these of which both are right, `held_out_pairs`.
    """
    parsed = [parser.parse(picture) for picture in drawn]
    scores = parser.score(wanted, parsed)
    pairs = [
        group.kind in {other.kind for other in read.groups}
        for scene, read in zip(wanted, parsed, strict=True)
        for group in scene.groups
        if group.kind in scenes.HELD_OUT
    ]
    return scores | ({"held_out_pairs": float(np.mean(pairs))} if pairs else {})


def condition(
    config: Config,
    made: Parts,
    params: Parts,
    embedded: Embedded,
    source: str,
    key: jax.Array,
) -> decoder.Condition:
    """Say what the decoder is told: an embedding of one of `SOURCES`, and the words."""
    if source == "prior":
        sampler = _sampler(prior.CHAIN, config)
        vectors = _draw(made.prior, params.prior, embedded.texts, key, sampler)
    else:
        vectors = embedded.texts if source == "text" else embedded.pictures
    return decoder.Condition(jax.device_get(vectors), embedded.states)


def without_words(told: decoder.Condition) -> decoder.Condition:
    """Withhold the caption's words."""
    return told._replace(states=np.zeros_like(told.states))


_draw = jax.jit(prior.sample, static_argnums=0)
_paint = jax.jit(decoder.sample, static_argnums=0)


def paint(
    config: Config, made: Parts, params: Parts, told: decoder.Condition, key: jax.Array
) -> np.ndarray:
    """Draw a picture for each condition, in chunks of one size."""
    number = len(told.embedding)
    sampler, drawn = _sampler(decoder.CHAIN, config), []
    chunk = min(number, _CHUNK)
    for start in range(0, number, chunk):
        rows = np.arange(start, start + chunk) % number
        part = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), told)
        own = jax.random.fold_in(key, start)
        guidance = jnp.asarray(config.guidance, part.embedding.dtype)
        drawn.append(_paint(made.decoder, params.decoder, part, own, sampler, guidance))
    return np.concatenate(drawn)[:number]


def sample(
    config: Config, number: int, seed: int, prompt: str | None = None
) -> tuple[Path, Path]:
    """Draw pictures of a caption, or of captions at random, half of them held out.

    Writes a grid as PNG, eight screen pixels for each, and an npz with the pictures,
    the captions and what the parser reads off the pictures.

    Raises:
        ValueError: if a word is unknown, naming the nearest known ones.
    """
    if prompt is None:
        asked = [
            captions.caption(scene)
            for held_out in (False, True)
            for scene in scenes.draw(number, seed + _UNSEEN, held_out=held_out)[0]
        ][number // 2 : number // 2 + number]
    else:
        asked = number * [prompt]
    tokens = captions.tokens(asked)
    made, params = networks(config), stored(config)
    text = jax.jit(encoders.encode_texts, static_argnums=0)(
        made.encoders, params.encoders, tokens
    )
    embedded = Embedded(*jax.device_get(text), pictures=None)
    of_prior, of_decoder = jax.random.split(seed_key(seed))
    told = condition(config, made, params, embedded, "prior", of_prior)
    drawn = paint(config, made, params, told, of_decoder)
    image, array = (config.out / f"sample-{seed}.{kind}" for kind in ("png", "npz"))
    train.write_png(train.grid(drawn).repeat(8, axis=0).repeat(8, axis=1), image)
    write_npz(
        array,
        images=train.to_uint8(drawn),
        captions=asked,
        read=[pictures.reading(parser.parse(picture)) for picture in drawn],
    )
    return image, array


def evaluate(config: Config) -> dict[str, Any]:
    """Measure what a run has trained so far."""
    return measure(config, networks(config), stored(config))


def stored(config: Config) -> Parts:
    """Read the averaged parameters of the parts of a run."""
    return Parts(
        *(train.load(config.out / name).arrays["average"]["0"] for name in PARTS)
    )


def _sampler(
    chain: diffusion.schedules.Schedule, config: Config
) -> diffusion.samplers.Sampler:
    return diffusion.samplers.ddim(
        diffusion.schedules.respace(chain, config.sampling_steps)
    )
