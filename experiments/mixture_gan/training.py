"""Train generators on a protocol: runs over seeds and step sizes in one program."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from experiments.mixture_gan.protocols import SAMPLES, Protocol
from gamedyn import gan, nets
from gamedyn.gan import penalties
from gamedyn.rules.base import Rule

MakeRule = Callable[[Any, int], Rule]
"""`make_rule(learning_rate, num_steps)`; the learning rate may be traced."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained, and for how long.

    Attributes:
        rule: a name of `RULES`.
        loss: a name of `gamedyn.gan.losses`.
        penalties: names of `gamedyn.gan.penalties`, all of one weight.
        weight: their first weight.
        last_weight: their last; from stage to stage the weight falls geometrically.
        learning_rate: Adam's first, falling to zero along a cosine.
        num_steps: of the rule.
        stages: looked at after each; divides `num_steps`.
        batch_size: real examples of every move.
        latent: the law of z, "normal" or "uniform" on [-1, 1), of 2 dimensions.
        width: hidden units in each layer, of both networks.
        depth: hidden layers, ReLU, of both networks.
        pack: how many points the discriminator sees at once.
    """

    rule: str = "alternating"
    loss: str = "non_saturating"
    penalties: tuple[str, ...] = ("r1", "r2")
    weight: float = 0.2
    last_weight: float = 2e-4
    learning_rate: float = 2e-3
    num_steps: int = 6000
    stages: int = 10
    batch_size: int = 128
    latent: Literal["normal", "uniform"] = "uniform"
    width: int = 128
    depth: int = 3
    pack: int = 1


class Point(NamedTuple):
    """What differs between the runs of one program; arrays with a leading axis."""

    seed: jax.Array
    learning_rate: jax.Array
    weight: jax.Array
    last_weight: jax.Array


class Runs(NamedTuple):
    """What training leaves behind.

    Attributes:
        steps: done at each stage's end, shape (stages,).
        samples: shape (runs, stages, SAMPLES, 2), from one set of latents per run.
        status: the worst `gamedyn.Status` of each run.
        seconds: of all runs together, without compiling; of processor time, which
            other programs on the machine do not lengthen.
        compile_seconds: of compiling.
    """

    steps: np.ndarray
    samples: np.ndarray
    status: np.ndarray
    seconds: float
    compile_seconds: float


def adam(learning_rate: Any, num_steps: int) -> optax.GradientTransformation:
    """Make the Adam of these experiments: beta1 .5, along a cosine to zero."""
    schedule = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.adam(schedule, b1=0.5)


def alternating(learning_rate: Any, num_steps: int) -> Rule:
    """Make the lecture's algorithm: D moves, then G, each on fresh examples."""
    optimizer = adam(learning_rate, num_steps)
    return gd.alternating(optimizer, order=(1, 0), resample=True)


def extra_adam(learning_rate: Any, num_steps: int) -> Rule:
    """Make extragradient with Adam, its moments and its cosine moving twice a step."""
    return gd.extragradient(adam(learning_rate, 2 * num_steps), moments="both")


class Choice(NamedTuple):
    """A rule to choose, and its gradient evaluations (of both players) per step."""

    make: MakeRule
    evaluations: int


LATENTS = {"normal": gan.normal, "uniform": gan.uniform}

RULES = {"alternating": Choice(alternating, 1), "extra_adam": Choice(extra_adam, 2)}


def points(
    setting: Setting,
    seeds: tuple[int, ...],
    learning_rates: tuple[float, ...] = (),
    weights: tuple[tuple[float, float], ...] = (),
) -> Point:
    """Combine weights, learning rates and seeds, the seeds running fastest."""
    learning_rates = learning_rates or (setting.learning_rate,)
    weights = weights or ((setting.weight, setting.last_weight),)
    rows = [(s, r, *w) for w in weights for r in learning_rates for s in seeds]
    seed, *numbers = zip(*rows, strict=True)
    return Point(
        jnp.array(seed, jnp.int32), *(jnp.array(n, jnp.float32) for n in numbers)
    )


def networks(setting: Setting) -> tuple[nets.Net, nets.Net]:
    """Build the generator and the discriminator."""
    hidden = (setting.width,) * setting.depth
    mlp = functools.partial(nets.mlp, initializer=jax.nn.initializers.he_normal())
    generator = mlp((2, *hidden, 2))
    return generator, mlp((2 * setting.pack, *hidden, 1), output_shape=())


def train(
    protocol: Protocol,
    setting: Setting,
    runs: Point,
    make_rule: MakeRule | None = None,
) -> Runs:
    """Train on one protocol with one rule and one loss, all runs at once.

    Every run draws its own training set, of the protocol's size; the networks see it
    divided by the standard deviation of the modes' coordinates. One program does one
    stage of all runs; the weight of the penalties is constant within a stage.

    Args:
        protocol: the data.
        setting: loss, networks and lengths; `runs` stands above its numbers.
        runs: the points.
        make_rule: the rule, the setting's by default.

    Returns:
        Samples of the rule's reported generator after every stage.
    """
    make_rule = make_rule or RULES[setting.rule].make
    law = protocol.mixture()
    spread = float(jnp.std(law.centres))
    law = jax.tree.map(lambda leaf: (leaf / spread).astype(jnp.float32), law)
    generator, discriminator = networks(setting)
    latent = LATENTS[setting.latent](2)
    period = setting.num_steps // setting.stages

    def start(run: Point) -> Any:
        keys = jax.random.split(_keys(run)[0])
        params = tuple(
            net.init(key)
            for net, key in zip((generator, discriminator), keys, strict=True)
        )
        return params, make_rule(run.learning_rate, setting.num_steps).init(params)

    def stage(run: Point, carry: Any, index: jax.Array) -> Any:
        _, of_data, of_steps, of_latents = _keys(run)
        examples = law.sample(of_data, law.points)

        def sample(key: jax.Array) -> gan.Batch:
            which, rest = jax.random.split(key)
            size = (setting.batch_size,)
            chosen = jax.random.randint(which, size, 0, law.points, jnp.int32)
            return gan.Batch(examples[chosen], rest)

        done = index.astype(jnp.float32) / max(setting.stages - 1, 1)
        weight = run.weight * (run.last_weight / run.weight) ** done
        game = gan.game(
            generator,
            discriminator,
            setting.loss,
            latent=latent,
            penalties=tuple(
                functools.partial(penalties.entry(name).penalty, weight=weight)
                for name in setting.penalties
            ),
            pack=setting.pack,
        )
        params, rule_state = carry
        solution = gd.solve(
            game,
            make_rule(run.learning_rate, setting.num_steps),
            params,
            period,
            key=of_steps,
            sample=sample,
            rule_state=rule_state,
            start=index * period,
        )
        z = latent(of_latents, SAMPLES, jnp.float32)
        samples = spread * generator.apply(solution.output[0], z)
        return (solution.params, solution.rule_state), (samples, solution.status)

    begin = time.process_time()
    carry = jax.jit(lambda runs: gd.sweep(start, runs))(runs)
    first = jnp.zeros((), jnp.int32)
    step = jax.jit(
        lambda runs, carry, index: gd.sweep(lambda x: stage(*x, index), (runs, carry))
    )
    step = step.lower(runs, carry, first).compile()
    compiled = time.process_time()
    seen = []
    for index in range(setting.stages):
        carry, found = step(runs, carry, first + index)
        seen.append(jax.tree.map(np.asarray, found))
    samples, status = (np.stack(leaf, axis=1) for leaf in zip(*seen, strict=True))
    return Runs(
        period * np.arange(1, setting.stages + 1),
        samples,
        status.max(axis=1),
        time.process_time() - compiled,
        compiled - begin,
    )


def _keys(run: Point) -> jax.Array:
    """Keys of a run: of its networks, its data, its steps, its final latents."""
    return jax.random.split(jax.random.key(run.seed), 4)
