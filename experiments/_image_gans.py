"""What the recipes for GANs of pictures share: networks, training, samples, metrics."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import gamedyn as gd
from gamedyn import data, gan, metrics, nets, train
from gamedyn.data import ImageSet, sets

_LATENT = 64
_SIZES = (8, 28, 32, 64)


@dataclasses.dataclass(frozen=True)
class Config:
    """The options of a recipe for pictures.

    Attributes:
        data: a registered set (digits, mnist, fashion_mnist, cifar10).
        data_dir: where its files are; the environment variable GAMEDYN_DATA by default.
        out: the folder of the run.
        resume: go on with the run in `out`.
        rule: a registered rule; those that take a transformation get Adam.
        loss: a registered loss.
        learning_rates: of the generator and of the discriminator.
        b1: Adam's first decay.
        b2: Adam's second decay.
        n_critic: steps of the discriminator for one of the generator.
        steps: of the generator.
        batch_size: real examples, and fakes, of one evaluation.
        width: channels of the widest pictures inside.
        norm: the discriminator's normalisation.
        augment: policies of differentiable augmentation, "translation,cutout" say.
        average: decay of the moving average that is sampled.
        checkpoint_every: steps.
        sample_every: steps between two grids of samples.
        seed: of parameters, latents and the order of the data.
    """

    data: str = "digits"
    data_dir: Path | None = None
    out: Path = Path("results/images")
    resume: tyro.conf.Suppress[bool] = False
    rule: str = "alternating"
    loss: str = "non_saturating"
    learning_rates: tuple[float, float] = (2e-4, 2e-4)
    b1: float = 0.5
    b2: float = 0.999
    n_critic: int = 1
    steps: int = 2000
    batch_size: int = 128
    width: int = 64
    norm: str = "batch"
    augment: str = ""
    average: float = 0.999
    checkpoint_every: int = 500
    sample_every: int = 500
    seed: int = 0


class Setup(NamedTuple):
    """What the options stand for."""

    training: ImageSet
    held_out: ImageSet
    generator: nets.Net
    discriminator: nets.Net
    game: gd.Game
    rule: gd.Rule
    conditional: bool


def setup(config: Config, *, conditional: bool) -> Setup:
    """Load the data, build networks, game and rule.

    Raises:
        FileNotFoundError: if the data are not there; the message says how to get them.
        ValueError: if a name is unknown or the pictures have a size without networks.
    """
    load = functools.partial(data.load, config.data, root=config.data_dir)
    training, held_out = load(split="train"), load(split="test")
    _, size, _, channels = training.images.shape
    if size not in _SIZES:
        raise ValueError(f"{config.data} has pictures of size {size}, not of {_SIZES}")
    classes = training.num_classes if conditional else None
    generator = nets.dcgan_generator(
        size,
        channels=channels,
        latent=_LATENT,
        width=config.width,
        condition="one_hot" if conditional else None,
        num_classes=classes,
    )
    discriminator = nets.dcgan_discriminator(
        size,
        channels=channels,
        width=config.width,
        norm=config.norm,
        condition="projection" if conditional else None,
        num_classes=classes,
    )
    game = gan.game(
        generator,
        discriminator,
        config.loss,
        latent=gan.normal(_LATENT),
        conditional=gan.conditional.classes(classes) if classes else None,
        augment=data.augment.policy(config.augment) if config.augment else None,
    )
    rule = make_rule(config)
    return Setup(training, held_out, generator, discriminator, game, rule, conditional)


def make_rule(config: Config) -> gd.Rule:
    """Make the rule: the lecture's algorithm unless another is asked for.

    Goodfellow et al. 2014, algorithm 1: `n_critic` steps of the discriminator, each on
    fresh examples, then one of the generator against the new discriminator.
    """
    adam = functools.partial(optax.adam, b1=config.b1, b2=config.b2)
    if config.rule == "alternating":
        order = (1,) * config.n_critic + (0,)
        steps = map(adam, config.learning_rates)
        return gd.alternating(*steps, order=order, resample=True)
    entries = gd.rules.entries()
    if config.rule in entries and not entries[config.rule].takes_transformation:
        return gd.rules.make(config.rule, config.learning_rates[0])
    return gd.rules.make(config.rule, config.learning_rates, transformation=adam)


def fit(config: Config, made: Setup) -> train.TrainState:
    """Train, with checkpoints, metrics and grids of samples in the run's folder."""
    key = jax.random.key(config.seed)
    start = tuple(
        net.init(jax.random.fold_in(key, player))
        for player, net in enumerate((made.generator, made.discriminator))
    )
    maximum = made.training.maximum

    def build(rows: Any, key: jax.Array) -> gan.Batch:
        labels = rows["labels"] if made.conditional else None
        return gan.Batch(sets.scale(rows["images"], maximum), key, labels)

    arrays = {"images": made.training.images, "labels": made.training.labels}
    batches = train.from_arrays(arrays, config.batch_size, build, seed=config.seed)
    latents = gan.normal(_LATENT)(jax.random.fold_in(key, 2), 64, jnp.float32)
    asked = (jnp.arange(64) % made.training.num_classes,) if made.conditional else ()

    def sampler(params: Any) -> jax.Array:
        return made.generator.apply(params[0], latents, *asked)

    grids = config.out / "samples"
    state = train.fit(
        made.game,
        made.rule,
        start,
        batches,
        num_steps=config.steps,
        key=jax.random.fold_in(key, 3),
        directory=config.out,
        checkpoint_every=min(config.checkpoint_every, config.steps),
        resume=config.resume,
        record=gan.monitor(made.game),
        log_every=50,
        callbacks=[train.sample_grid(sampler, grids, config.sample_every)],
        average=train.ema(config.average),
    )
    paths = train.sample_paths(grids) if grids.is_dir() else []
    if paths:
        train.write_gif(paths, config.out / "training.gif")
    return state


def generate(made: Setup, theta: Any, number: int, seed: int, labels: Any) -> Any:
    """Draw pictures, uint8, with standing statistics of batch normalisation."""
    latent, key = gan.normal(_LATENT), jax.random.key(seed)
    classes = np.arange(2000) % made.training.num_classes
    inputs = latent(jax.random.fold_in(key, 1), 2000, jnp.float32)
    batches = inputs.reshape(20, 100, _LATENT)
    if made.conditional:
        batches = batches, jnp.asarray(classes.reshape(20, 100))
    assert made.generator.statistics is not None
    statistics = jax.jit(made.generator.statistics)(theta, batches)
    pictures = gan.samples(
        made.generator,
        theta,
        key,
        number,
        latent=latent,
        labels=labels if made.conditional else None,
        statistics=statistics,
    )
    return metrics.quantise(pictures, made.training.maximum)


def measure(made: Setup, theta: Any, seed: int = 0) -> dict[str, float]:
    """Measure as many samples as there are held-out pictures (at most 10,000).

    Beside the samples stand the floor, real training pictures in their place, and the
    trivial baseline, the mean picture of each class.
    """
    training, held_out = made.training, made.held_out
    extractor = metrics.classifier(training, held_out)
    labels = held_out.labels
    number = len(labels)
    pictures = generate(made, theta, number, seed, labels)
    reference = extractor(held_out.images)
    asked = labels if made.conditional else None
    found = metrics.evaluate(
        pictures, reference, extractor, labels=asked, generator="ema"
    )
    floor = metrics.floor(training.images, reference, extractor, number=number)
    means = metrics.class_mean_pictures(
        training.images, training.labels, training.num_classes
    )
    baseline = metrics.evaluate(means[labels], reference, extractor)

    def nearest(images: np.ndarray) -> float:
        pixels = [
            x.reshape(len(x), -1).astype(float) for x in (images, training.images)
        ]
        distances = metrics.nearest_neighbour_distances(
            generated=pixels[0], reference=pixels[1]
        ).distances
        return float(np.median(distances))

    summary = {value.label: value.value for value in found.values()}
    summary |= {f"{v.label}, real": v.value for v in floor.values()}
    summary |= {f"{baseline['frechet'].label}, class means": baseline["frechet"].value}
    return summary | {
        "distance to the nearest training picture": nearest(pictures),
        "distance to the nearest training picture, held-out": nearest(held_out.images),
        "classifier's test accuracy": extractor.test_accuracy,
        "pictures": number,
    }


def stored_generator(config: Config) -> Any:
    """Read the averaged parameters of the generator of a run."""
    return train.load(config.out).arrays["average"]["0"]


def run(config: Config, *, conditional: bool) -> dict[str, Any]:
    """Train, then measure."""
    made = setup(config, conditional=conditional)
    state = fit(config, made)
    ending = train.Ending(state.status)
    summary = {"steps": int(state.step), "ending": ending.message}
    if ending != train.Ending.OK:
        return summary
    return summary | measure(made, state.averaged[0])


def sample(
    config: Config, number: int, seed: int, *, conditional: bool
) -> tuple[Path, Path]:
    """Draw samples of a run: a grid as PNG, and the pictures as npz."""
    made = setup(config, conditional=conditional)
    labels = np.arange(number) % made.training.num_classes
    pictures = generate(made, stored_generator(config), number, seed, labels)
    image, array = config.out / f"sample-{seed}.png", config.out / f"sample-{seed}.npz"
    shown = np.round(pictures * (255 / made.training.maximum)).astype(np.uint8)
    train.write_png(train.grid(shown), image)
    np.savez(array, images=pictures, labels=labels)
    return image, array


def evaluate(config: Config, *, conditional: bool) -> dict[str, float]:
    """Measure what a run has trained so far."""
    return measure(setup(config, conditional=conditional), stored_generator(config))
