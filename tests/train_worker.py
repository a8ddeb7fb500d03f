"""A process that trains: to be killed, to be one of several, to have many devices.

`train_worker.py RUNS` does one run after the other; RUNS is JSON, a list of tables with
the keyword arguments of `do`. It prints a line of JSON for each.
"""

import argparse
import functools
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn import diffusion, gan, nets, train
from gamedyn.gan import penalties


def start(cache, runs, *options):
    """Start such a process; compiled programs are kept in a folder for the next one."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONWARNINGS": "error",
    }
    runs = [run | {"directory": str(run["directory"])} for run in runs]
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(runs), *map(str, options)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, patience=300):
    """Return what it answered to each run."""
    out, err = process.communicate(timeout=patience)
    assert process.returncode == 0, err[-3000:]
    return [json.loads(line) for line in out.split("\n") if line.startswith("{")]


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=json.loads)
    parser.add_argument("--devices", type=int, default=1, help="of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--address", default="")
    parser.add_argument("--file-limit", type=int, default=0, help="bytes of a file")
    return parser.parse_args()


def mlp():
    """Two tanh networks in plain arrays: game, params, build, examples."""
    import mlp_gan

    params, (examples, _) = mlp_gan.make(8, dtype=jnp.float64)

    def build(rows, key):
        return rows, jax.random.normal(key, (rows.shape[0], 16), rows.dtype)

    return mlp_gan.GAME, params, build, examples


def players(generator, discriminator, loss, **options):
    """A game of networks and its start."""

    @jax.jit
    def init(key):
        return generator.init(key), discriminator.init(jax.random.fold_in(key, 1))

    game = gan.game(generator, discriminator, loss, latent=gan.normal(4), **options)
    return game, init(jax.random.key(0))


@functools.cache
def dcgan8():
    """Convolutions and batch normalisation, whose moments are those of all examples."""
    # XLA's convolutions, for they compile fastest.
    options = {"width": 2, "dtype": jnp.float64, "impl": "xla"}
    generator = nets.dcgan_generator(8, latent=4, **options)
    discriminator = nets.dcgan_discriminator(8, **options)
    assert discriminator.batch_statistics
    game, params = players(generator, discriminator, "non_saturating")
    # Scales that differ, so that a shard's own moments would show.
    examples = np.random.default_rng(0).normal(size=(256, 8, 8, 1))
    examples = np.tanh(examples * np.linspace(0.1, 2, 256)[:, None, None, None])
    return game, params, gan.Batch, examples


@functools.cache
def wgan_gp():
    """A critic with a gradient penalty that is applied every third step."""
    penalty = functools.partial(penalties.gradient_penalty, weight=0.1)
    game, params = players(
        nets.mlp((4, 8, 2), dtype=jnp.float64),
        nets.mlp((2, 8, 8, 1), output_shape=(), dtype=jnp.float64),
        "wasserstein",
        penalties=[gan.lazy(penalty, interval=3)],
    )

    def build(rows, key, number):
        return gan.Batch(rows, key, step=number)

    examples = np.random.default_rng(0).normal(size=(256, 2)) + np.array([[2.0, 0.0]])
    return game, params, train.Numbered(build), examples


@functools.cache
def denoiser():
    """A diffusion model of points: one player, and noise drawn in the loss."""
    net = nets.point_mlp(2, widths=(8,), frequencies=8, dtype=jnp.float64)
    game = diffusion.game(net, diffusion.schedules.cosine(100))
    examples = np.random.default_rng(0).normal(size=(256, 2)) + np.array([[2.0, 0.0]])
    params = (jax.jit(net.init)(jax.random.key(0)),)
    return game, params, diffusion.Batch, examples


GAMES = {"mlp": mlp, "dcgan8": dcgan8, "wgan_gp": wgan_gp, "diffusion": denoiser}

RULES = {
    "sgd": lambda: gd.simultaneous(optax.sgd(0.05)),
    "extra_adam": lambda: gd.extragradient(
        optax.adam(1e-3, b1=0.5), moments="both", resample=True
    ),
}


def fail(number, kind):
    """Fail in one process, in a callback: by an error, or killed from outside."""

    def callback(state, metrics):
        del state, metrics
        if jax.process_index() == number:
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("no such shard")

    return callback


def do(
    directory, game, rule, *, num_steps, every, saved, pause=0.0, mesh=0, failing=()
):
    """Begin a run or go on with it, over `mesh` devices.

    Rows come `every` so many steps, and a pause with them; checkpoints when `saved`.
    `failing` is the number of a process, and how it fails after the first row.
    """
    elsewhere.clear()
    failures = [fail(*failing)] if failing else []
    played, params, build, examples = GAMES[game]()
    state = train.fit(
        played,
        RULES[rule](),
        params,
        train.from_arrays(np.asarray(examples), 32, build, seed=1),
        num_steps=num_steps,
        key=jax.random.key(2),
        steps_per_call=1,
        directory=directory,
        checkpoint_every=saved,
        log_every=every,
        keep_last=3,
        resume=True,
        callbacks=[lambda state, metrics: time.sleep(pause), *failures],
        average=train.ema(0.9),
        mesh=train.data_mesh(jax.devices()[:mesh]) if mesh else None,
    )
    spread = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params)}
    return {
        "status": state.status.name,
        "step": state.step,
        "devices": sorted(spread),
        "processes": jax.process_count(),
        "elsewhere": len(elsewhere),
    }


# What was said of runs that went on elsewhere; any other warning is an error.
elsewhere = []


def show(message, *place):
    del place
    elsewhere.append(str(message))


def main(arguments):
    warnings.filterwarnings("always", message="the run in .* goes on elsewhere")
    warnings.showwarning = show
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    if arguments.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            arguments.address, arguments.processes, arguments.process
        )
    if arguments.file_limit:
        import resource

        limit = (arguments.file_limit, arguments.file_limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    for run in arguments.runs:
        try:
            answer = do(**run)
        except train.CheckpointError as error:
            # On stderr orbax's threads write in between.
            print(json.dumps({"error": str(error)}), flush=True)
            raise
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main(parse())
