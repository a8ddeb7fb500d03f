"""What the recipes for pictures share: options, data, the run's folder, metrics.

A recipe has a dataclass of options and `setup(config)`, which loads the data and builds
networks, game and rule; `commands` adds how it trains and how it draws.
"""

import dataclasses
import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import gamedyn as gd
from gamedyn import data, metrics, train
from gamedyn.data import ImageSet, readers, sets
from gamedyn.data.order import permutation
from gamedyn.files import write_whole
from gamedyn.recipes.lookup import Commands
from gamedyn.recipes.records import write_values
from gamedyn.seeds import seed_key

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
        data_dir: folder of the registered sets' files; by default the environment
            variable GAMEDYN_DATA.
    """

    data: str = "digits"
    data_dir: Path | None = None
    out: Path = Path("results/images")  # the folder of the run
    resume: tyro.conf.Suppress[bool] = False  # go on with the run in `out`
    steps: int = 2000  # of the generator
    batch_size: int = 128  # real examples, and fakes, of one evaluation
    width: int = 64  # channels of the widest pictures inside the networks
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the networks' computations
    devices: int = 1  # over how many each batch is spread
    average: float = 0.999  # decay of the moving average that is sampled
    checkpoint_every: int = 500  # steps between two checkpoints
    sample_every: int = 500  # steps between two grids of samples
    seed: int = 0  # of parameters, latents and the order of the data


class Setup(Protocol):
    """What a recipe's `setup` returns, as far as all recipes agree."""

    @property
    def training(self) -> ImageSet:
        """The pictures to train on."""
        ...

    @property
    def held_out(self) -> ImageSet:
        """The pictures to compare with."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether pictures are asked for by class."""
        ...


Sets = tuple[ImageSet, ImageSet]
Metrics = dict[str, metrics.Measurement | float]
Draw = Callable[[int, int, Any], np.ndarray]
"""`draw(number, seed, labels)` returns pictures, uint8, of the classes asked for."""
Build = Callable[[jax.Array, jax.Array | None, jax.Array], Any]
"""`build(pictures, labels, key)` returns a batch; there are labels in a conditional
recipe only."""


def load(options: Options) -> Sets:
    """Load what to train on and what is held out.

    Raises:
        FileNotFoundError: if the data are not there; the message says how to get them.
        ValueError: if the name is unknown, or pictures of one's own do not fit.
    """
    name = options.data
    if name.endswith(".npz"):
        labels = readers.read_npz(name).get("labels", np.zeros(1, int))
        # The set itself checks the arrays.
        countable = labels.dtype.kind in "iu"
        number = int(labels.max(initial=0)) + 1 if countable else 1
        whole = sets.from_npz(name, number)
        if number > len(whole):
            raise ValueError(
                f"{name}: got the label {number - 1} among {len(whole)} pictures, "
                "expected the classes 0, 1, 2, ..."
            )
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


def fit(
    options: Options,
    made: Setup,
    game: gd.Game,
    rule: gd.Rule,
    start: tuple[Any, ...],
    build: Build,
    sampler: Callable[[Any, jax.Array | None], jax.Array],
    record: Callable[..., Any],
) -> train.TrainState:
    """Train, with checkpoints, metrics and grids of samples in the run's folder.

    Args:
        options: of the recipe.
        made: data, networks, game and rule of these options.
        game: what is trained.
        rule: by which rule.
        start: the parameters of every player.
        build: makes a batch of pictures in [-1, 1].
        sampler: `sampler(params, labels)` returns 64 pictures, always the same for the
            same parameters.
        record: see `gamedyn.train.fit`.

    Returns:
        The state at the end.

    Raises:
        ValueError: if there are not as many devices, or the batch fits no data.
    """
    # Batches of pictures in [-1, 1], with labels where the recipe is conditional.
    maximum = made.training.maximum

    def finish(rows: Any, key: jax.Array) -> Any:
        labels = rows["labels"] if made.conditional else None
        return build(sets.scale(rows["images"], maximum), labels, key)

    arrays = {"images": made.training.images, "labels": made.training.labels}
    batches = train.from_arrays(arrays, options.batch_size, finish, seed=options.seed)

    # Grids of the same latents, ordered by class.
    labels = jnp.arange(64) % made.training.num_classes if made.conditional else None
    grids = options.out / "samples"
    draw = train.sample_grid(
        lambda params: sampler(params, labels), grids, options.sample_every
    )

    state = train.fit(
        game,
        rule,
        start,
        batches,
        num_steps=options.steps,
        key=jax.random.fold_in(seed_key(options.seed), 3),
        directory=options.out,
        checkpoint_every=min(options.checkpoint_every, options.steps),
        resume=options.resume,
        record=record,
        log_every=50,
        callbacks=[draw],
        average=train.ema(options.average),
        mesh=mesh(options),
    )

    # One film of all grids, those before a resume included.
    paths = train.sample_paths(grids) if grids.is_dir() else []
    if paths:
        train.write_gif(paths, options.out / "training.gif")
    return state


def mesh(options: Options) -> Any:
    """Make the mesh of the devices asked for, `None` for one.

    Raises:
        ValueError: if there are not as many.
    """
    present = jax.devices()
    if not 1 <= options.devices <= len(present):
        raise ValueError(f"got {options.devices} devices, there are {len(present)}")
    return train.data_mesh(present[: options.devices]) if options.devices > 1 else None


def measure(made: Setup, draw: Draw, most: int = _MOST) -> Metrics:
    """Measure as many samples as there are held-out pictures (at most `most`).

    Beside the samples stand the floor, real training pictures in their place, and the
    trivial baseline, the mean picture of each class.
    """
    # The features: of a classifier of the set, or random where there are no classes.
    training, held_out = made.training, made.held_out
    if training.num_classes > 1:
        extractor = metrics.classifier(training, held_out)
    else:
        channels = training.images.shape[3]
        extractor = metrics.random_conv(channels, maximum=training.maximum)

    # Samples, real pictures and class means, each against the held-out pictures.
    labels = held_out.labels[:most]
    pictures = draw(len(labels), 0, labels)
    reference = extractor(held_out.images[:most])
    asked = labels if made.conditional else None
    report = metrics.evaluate(
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
    summary: Metrics = {value.label: value for value in report.values()}
    summary |= {f"{value.label}, real": value for value in floor.values()}
    summary[f"{baseline.label}, class means"] = baseline

    # How near samples come to the pictures trained on.
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


def commands(
    setup: Callable[[Any], Any],
    fit: Callable[..., train.TrainState],
    generate: Callable[..., np.ndarray],
    measure: Callable[..., Metrics],
) -> Commands:
    """Make what a recipe for pictures can do, of how its options are set up.

    Args:
        setup: `setup(config)` loads the data and builds networks, game and rule.
        fit: `fit(config, made)` trains and returns the state at the end.
        generate: `generate(made, theta, number, seed, labels)` draws pictures, uint8,
            with the first player's parameters.
        measure: `measure(config, made, theta)` returns their metrics.

    Returns:
        `main`, `sample` and `evaluate`, see `gamedyn.recipes`. `main` stores the
        metrics with all that they depend on in `measurements.json`; `evaluate` returns
        them so.
    """

    def main(config: Any) -> dict[str, Any]:
        """Train, then measure."""
        made = setup(config)
        state = fit(config, made)
        summary = ending(state)
        if over(state):
            return summary
        report = measure(config, made, state.averaged[0])
        full = {
            name: dataclasses.asdict(value)
            for name, value in report.items()
            if isinstance(value, metrics.Measurement)
        }
        content = {"step": int(state.step), "measurements": full}
        write_values(config.out / "measurements.json", content)
        return summary | {
            name: value.value if isinstance(value, metrics.Measurement) else value
            for name, value in report.items()
        }

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
        write_npz(array, images=pictures, **asked)
        return image, array

    def evaluate(config: Any) -> dict[str, Any]:
        """Measure what a run has trained, each metric with what it depends on."""
        stored = train.load(config.out)
        theta = stored.arrays["average"]["0"]
        return {"step": stored.step} | measure(config, setup(config), theta)

    return Commands(main, sample, evaluate)


def ending(state: train.TrainState) -> dict[str, Any]:
    """Say how a run ended, and how long it took, compiling included."""
    return {
        "steps": int(state.step),
        "ending": train.Ending(state.status).message,
        "seconds of training": state.history[-1]["seconds"],
    }


def over(state: train.TrainState) -> bool:
    """Whether a run is not to be measured: it went wrong, or was asked to end."""
    return state.status != train.Ending.OK or bool(state.signal)


def write_npz(path: Path, **arrays: Any) -> None:
    """Write arrays so that the file is whole or not there; a link is replaced."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def stored(config: Options) -> Any:
    """Read the averaged parameters of a run's first player."""
    return train.load(config.out).arrays["average"]["0"]
