"""What the recipes for GANs of pictures share: networks, training, samples, metrics.

A recipe names its options, a dataclass, and says by `setup(config)` what they stand
for; `recipe(setup)` makes its commands.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import gamedyn as gd
from gamedyn import data, gan, metrics, nets, recipes, train
from gamedyn.data import ImageSet, readers, sets
from gamedyn.data.order import permutation

LATENT_SIZE = 64
LATENT = gan.normal(LATENT_SIZE)
_SIZES = (8, 28, 32, 64)
_MOST = 10_000  # pictures to measure
_FEWEST = 100  # pictures of one's own, of which a tenth is held out


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of every recipe for pictures.

    Attributes:
        data: a registered set (digits, mnist, fashion_mnist, cifar10), or a part of it
            to train on (cifar10:batch_1, the first of its files); the path of an .npz
            file of one's own, with the arrays images (uint8) and labels; or that
            of a folder of PNG pictures or of one such folder for each class, with a
            slash in it (./pictures). A tenth of one's own pictures is held out.
        data_dir: where the files of the registered sets are; the environment variable
            GAMEDYN_DATA by default.
        out: the folder of the run.
        resume: go on with the run in `out`.
        steps: of the generator.
        batch_size: real examples, and fakes, of one evaluation.
        width: channels of the widest pictures inside.
        dtype: in which the networks compute; parameters and losses stay float32.
        devices: over how many each batch is spread.
        average: decay of the moving average that is sampled.
        checkpoint_every: steps.
        sample_every: steps between two grids of samples.
        seed: of parameters, latents and the order of the data.
    """

    data: str = "digits"
    data_dir: Path | None = None
    out: Path = Path("results/images")
    resume: tyro.conf.Suppress[bool] = False
    steps: int = 2000
    batch_size: int = 128
    width: int = 64
    dtype: Literal["float32", "bfloat16"] = "float32"
    devices: int = 1
    average: float = 0.999
    checkpoint_every: int = 500
    sample_every: int = 500
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """The options of a recipe that leaves loss, rule and penalties open.

    Attributes:
        rule: a registered rule; those that take a transformation get Adam.
        loss: a registered loss.
        learning_rates: of the generator and of the discriminator.
        b1: Adam's first decay.
        b2: Adam's second decay.
        n_critic: steps of the discriminator for one of the generator, if alternating.
        norm: the discriminator's normalisation: batch, layer, spectral or none.
        penalties: on the discriminator's gradients, "r1,r2" say; not with batch norm.
        penalty_weight: of each.
        augment: policies of differentiable augmentation, "translation,cutout" say.
        pack: how many pictures the discriminator sees at once (PacGAN).
    """

    rule: str = "alternating"
    loss: str = "non_saturating"
    learning_rates: tuple[float, float] = (2e-4, 2e-4)
    b1: float = 0.5
    b2: float = 0.999
    n_critic: int = 1
    norm: str = "batch"
    penalties: str = ""
    penalty_weight: float = 10.0
    augment: str = ""
    pack: int = 1


Sets = tuple[ImageSet, ImageSet]
Found = dict[str, metrics.Measurement | float]


class Setup(NamedTuple):
    """What the options stand for."""

    training: ImageSet
    held_out: ImageSet
    generator: nets.Net
    discriminator: nets.Net
    game: gd.Game
    rule: gd.Rule
    conditional: bool = False


def load(options: Options) -> Sets:
    """Load what to train on and what is held out.

    Raises:
        FileNotFoundError: if the data are not there; the message says how to get them.
        ValueError: if the name is unknown, or pictures of one's own do not fit.
    """
    name = options.data
    if name.endswith(".npz"):
        labels = readers.read_npz(name).get("labels", np.zeros(1, int))
        # What is wrong with the arrays, the set itself will say.
        countable = labels.dtype.kind in "iu"
        whole = sets.from_npz(name, int(labels.max(initial=0)) + 1 if countable else 1)
    elif os.sep in name:
        whole = sets.from_folder(name)
    else:
        name, _, split = name.partition(":")
        read = functools.partial(data.load, name, root=options.data_dir)
        return read(split=split or "train"), read(split="test")
    if len(whole) < _FEWEST:
        raise ValueError(f"{name}: got {len(whole)} pictures, expected {_FEWEST}")

    def part(split: str, rows: np.ndarray) -> ImageSet:
        images, labels = whole.images[rows], whole.labels[rows]
        return dataclasses.replace(whole, images=images, labels=labels, split=split)

    rows = permutation(len(whole), 0, 0)
    held_out = len(whole) // 10
    return part("train", rows[held_out:]), part("test", rows[:held_out])


def networks(
    options: Options,
    training: ImageSet,
    *,
    norm: str,
    conditional: bool = False,
    pack: int = 1,
) -> tuple[nets.Net, nets.Net]:
    """Make generator and discriminator for the pictures of a set.

    Raises:
        ValueError: if there are no networks for their size.
    """
    _, height, size, channels = training.images.shape
    if height != size or size not in _SIZES:
        raise ValueError(
            f"{options.data} has pictures of {height} x {size} pixels, expected "
            f"squares of {', '.join(map(str, _SIZES))}"
        )
    classes = training.num_classes if conditional else None
    generator = nets.dcgan_generator(
        size,
        channels=channels,
        latent=LATENT_SIZE,
        width=options.width,
        condition="one_hot" if conditional else None,
        num_classes=classes,
    )
    discriminator = nets.dcgan_discriminator(
        size,
        channels=pack * channels,
        width=options.width,
        norm=norm,
        condition="projection" if conditional else None,
        num_classes=classes,
    )
    if options.dtype == "float32":
        return generator, discriminator
    return (
        nets.compute_in(generator, options.dtype),
        nets.compute_in(discriminator, options.dtype),
    )


def setup(
    config: Config,
    *,
    conditional: bool = False,
    load: Callable[[Any], Sets] = load,
) -> Setup:
    """Load the data, build networks, game and rule.

    Raises:
        FileNotFoundError: as `load`.
        ValueError: as `load` and `networks`, or if a name is unknown.
    """
    training, held_out = load(config)
    generator, discriminator = networks(
        config,
        training,
        norm=config.norm,
        conditional=conditional,
        pack=config.pack,
    )
    classes = training.num_classes
    game = gan.game(
        generator,
        discriminator,
        config.loss,
        latent=LATENT,
        penalties=gradient_penalties(config.penalties, config.penalty_weight),
        conditional=gan.conditional.classes(classes) if conditional else None,
        pack=config.pack,
        augment=data.augment.policy(config.augment) if config.augment else None,
    )
    rule = make_rule(config)
    return Setup(training, held_out, generator, discriminator, game, rule, conditional)


def gradient_penalties(names: str, weight: float) -> list[Callable[..., jax.Array]]:
    """Look penalties up, their names separated by commas, and give each a weight.

    Raises:
        ValueError: if one is unknown, or does not penalise gradients.
    """
    found = []
    for name in filter(None, names.split(",")):
        entry = gan.penalties.entry(name.strip())
        if not entry.differentiates:
            raise ValueError(f"penalties are those of gradients, got {name}")
        found.append(functools.partial(entry.penalty, weight=weight))
    return found


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


def fit(config: Options, made: Setup) -> train.TrainState:
    """Train, with checkpoints, metrics and grids of samples in the run's folder.

    Raises:
        ValueError: if there are not as many devices, or the batch fits no data.
    """
    present = jax.devices()
    if not 1 <= config.devices <= len(present):
        raise ValueError(f"got {config.devices} devices, there are {len(present)}")
    mesh = train.data_mesh(present[: config.devices]) if config.devices > 1 else None
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
    latents = LATENT(jax.random.fold_in(key, 2), 64, jnp.float32)
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
        mesh=mesh,
    )
    paths = train.sample_paths(grids) if grids.is_dir() else []
    if paths:
        train.write_gif(paths, config.out / "training.gif")
    return state


def generate(made: Setup, theta: Any, number: int, seed: int, labels: Any) -> Any:
    """Draw pictures, uint8, with standing statistics of batch normalisation."""
    key, statistics = jax.random.key(seed), None
    if made.generator.statistics is not None:
        inputs = LATENT(jax.random.fold_in(key, 1), 2000, jnp.float32)
        batches = inputs.reshape(20, 100, LATENT_SIZE)
        if made.conditional:
            classes = np.arange(2000) % made.training.num_classes
            batches = batches, jnp.asarray(classes.reshape(20, 100))
        statistics = jax.jit(made.generator.statistics)(theta, batches)
    pictures = gan.samples(
        made.generator,
        theta,
        key,
        number,
        latent=LATENT,
        labels=labels if made.conditional else None,
        statistics=statistics,
    )
    return metrics.quantise(pictures, made.training.maximum)


def measure(config: Options, made: Setup, theta: Any) -> Found:
    """Measure as many samples as there are held-out pictures (at most 10,000).

    Beside the samples stand the floor, real training pictures in their place, and the
    trivial baseline, the mean picture of each class.
    """
    del config
    training, held_out = made.training, made.held_out
    if training.num_classes > 1:
        extractor = metrics.classifier(training, held_out)
    else:
        channels = training.images.shape[3]
        extractor = metrics.random_conv(channels, maximum=training.maximum)
    labels = held_out.labels[:_MOST]
    pictures = generate(made, theta, len(labels), 0, labels)
    reference = extractor(held_out.images[:_MOST])
    asked = labels if made.conditional else None
    found = metrics.evaluate(
        pictures, reference, extractor, labels=asked, generator="ema"
    )
    number = min(len(labels), len(training))
    floor = metrics.floor(training.images, reference, extractor, number=number)
    means = metrics.class_mean_pictures(
        training.images, training.labels, training.num_classes
    )
    baseline = metrics.evaluate(
        means[labels], reference, extractor, generator="baseline"
    )["frechet"]
    summary: Found = {value.label: value for value in found.values()}
    summary |= {f"{value.label}, real": value for value in floor.values()}
    summary[f"{baseline.label}, class means"] = baseline
    for images, generator, whose in (
        (pictures, "ema", ""),
        (held_out.images, "real", ", held-out"),
    ):
        distance = _nearest(images[:1000], training, generator)
        summary[f"{distance.metric}{whose}"] = distance
    if extractor.test_accuracy is not None:
        summary["classifier's test accuracy"] = extractor.test_accuracy
    return summary | {"pictures": len(pictures)}


def _nearest(
    images: np.ndarray, training: ImageSet, generator: str
) -> metrics.Measurement:
    """Measure how far pictures are from those trained on, none of them repeated."""
    pixels = [x.reshape(len(x), -1).astype(float) for x in (images, training.images)]
    distances = metrics.nearest_neighbour_distances(
        generated=pixels[0], reference=pixels[1]
    ).distances
    return metrics.measurement(
        "distance to the nearest training picture",
        float(np.median(distances)),
        metrics.raw(),
        n_generated=len(images),
        generator=generator,
        n_reference=len(training),
        split=training.split,
        protocol=f"median of Euclidean distances, full pixels {training.maximum}",
    )


Command = Callable[..., Any]


def recipe(
    setup: Callable[[Any], Setup], measure: Command = measure
) -> tuple[Command, Command, Command]:
    """Make what a recipe for pictures can do, of how its options are set up.

    Args:
        setup: `setup(config)` loads the data and builds networks, game and rule.
        measure: `measure(config, made, theta)` returns the metrics of a generator.

    Returns:
        `main`, `sample` and `evaluate`, see `gamedyn.recipes`. The metrics are stored
        with all that they depend on, in `measurements.json`.
    """

    def measured(config: Any, made: Setup, theta: Any, step: int) -> dict[str, Any]:
        found = measure(config, made, theta)
        full = {
            name: dataclasses.asdict(value)
            for name, value in found.items()
            if isinstance(value, metrics.Measurement)
        }
        content = {"step": step, "measurements": full}
        recipes.write_json(config.out / "measurements.json", content)
        return {
            name: value.value if isinstance(value, metrics.Measurement) else value
            for name, value in found.items()
        }

    def main(config: Any) -> dict[str, Any]:
        """Train, then measure."""
        made = setup(config)
        state = fit(config, made)
        ending = train.Ending(state.status)
        summary = {"steps": int(state.step), "ending": ending.message}
        if ending != train.Ending.OK:
            return summary
        return summary | measured(config, made, state.averaged[0], int(state.step))

    def sample(config: Any, number: int, seed: int) -> tuple[Path, Path]:
        """Draw samples of a run: a grid as PNG, and the pictures as npz."""
        made = setup(config)
        labels = np.arange(number) % made.training.num_classes
        theta = train.load(config.out).arrays["average"]["0"]
        pictures = generate(made, theta, number, seed, labels)
        image, array = (config.out / f"sample-{seed}.{kind}" for kind in ("png", "npz"))
        shown = np.round(pictures * (255 / made.training.maximum)).astype(np.uint8)
        train.write_png(train.grid(shown), image)
        asked = {"labels": labels} if made.conditional else {}
        np.savez(array, images=pictures, **asked)
        return image, array

    def evaluate(config: Any) -> dict[str, Any]:
        """Measure what a run has trained so far."""
        stored = train.load(config.out)
        theta = stored.arrays["average"]["0"]
        return measured(config, setup(config), theta, stored.step)

    return main, sample, evaluate
