"""Train generators on a protocol: runs over seeds and step sizes in one program."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gamedyn as gd
from gamedyn import gan

from .protocols import SAMPLES, Protocol
from .setting import LATENTS, RULES, MakeRule, Setting, game, networks


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
    # The data, as the networks see them, and what is trained.
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
        params, rule_state = carry
        solution = gd.solve(
            game(setting, generator, discriminator, weight),
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

    # Compile a stage of all runs, then do one stage after the other.
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
        carry, stage_end = step(runs, carry, first + index)
        seen.append(jax.tree.map(np.asarray, stage_end))
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
