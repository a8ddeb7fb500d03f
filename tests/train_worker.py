"""A process that trains: to be killed, to be one of several, to have many devices."""

import argparse
import json
import os
import time


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--game", default="mlp")
    parser.add_argument("--rule", default="sgd")
    parser.add_argument("--num-steps", type=int, default=20)
    parser.add_argument("--every", type=int, default=5, help="checkpoints and rows")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds at each row")
    parser.add_argument("--devices", type=int, default=1, help="of each process")
    parser.add_argument("--mesh", type=int, default=0, help="devices to spread over")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--address", default="")
    parser.add_argument("--file-limit", type=int, default=0, help="bytes of a file")
    return parser.parse_args()


def mlp(jax, jnp):
    """The GAN of two tanh networks: game, params, build, examples."""
    import mlp_gan

    params, (examples, _) = mlp_gan.make(8, dtype=jnp.float64)

    def build(rows, key):
        return rows, jax.random.normal(key, (rows.shape[0], 16), rows.dtype)

    return mlp_gan.GAME, params, build, examples


GAMES = {"mlp": mlp}


def main(arguments):
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    if arguments.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            arguments.address, arguments.processes, arguments.process
        )
    import jax.numpy as jnp
    import numpy as np
    import optax

    import gamedyn as gd
    from gamedyn import train

    rules = {
        "sgd": lambda: gd.alternating(optax.sgd(0.05)),
        "extra_adam": lambda: gd.extragradient(
            optax.adam(1e-3, b1=0.5), moments="both", resample=True
        ),
    }
    game, params, build, examples = GAMES[arguments.game](jax, jnp)
    batches = train.from_arrays(np.asarray(examples), 32, build, seed=1)

    def pause(state, metrics):
        time.sleep(arguments.pause)

    if arguments.file_limit:
        import resource

        limit = (arguments.file_limit, arguments.file_limit)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    devices = jax.devices()[: arguments.mesh]
    state = train.fit(
        game,
        rules[arguments.rule](),
        params,
        batches,
        num_steps=arguments.num_steps,
        key=jax.random.key(2),
        steps_per_call=2,
        directory=arguments.directory,
        checkpoint_every=arguments.every,
        log_every=arguments.every,
        keep_last=3,
        resume=True,
        callbacks=[pause],
        average=train.ema(0.9),
        mesh=train.data_mesh(devices) if arguments.mesh else None,
    )
    spread = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params)}
    answer = {
        "status": state.status.name,
        "step": state.step,
        "devices": sorted(spread),
        "processes": jax.process_count(),
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main(parse())
