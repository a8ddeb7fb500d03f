"""jax-cgd's competitive gradient descent in its own process, as `_torch_peer.py`.

The `step` method of its BCGD is empty in 1.0.4, so the optimizer does not move. The
steps are those of `generate_step_func`, the package's own function, called as
published, and jitted by the caller.
"""

import json
import sys
import time
from importlib import metadata

import jax
import jax.numpy as jnp
from jax_cgd import solvers
from jax_cgd.cgd import generate_step_func


def main():
    setting = json.loads(sys.stdin.readline())
    jax.config.update("jax_enable_x64", True)
    matrix, x, y = (
        jnp.asarray(setting[name], setting["dtype"]) for name in ("matrix", "x", "y")
    )
    step_size = setting["step_size"]

    def payoff(x, y):
        return x @ matrix @ y

    def fresh():
        """Return a step with its own solver, which stores the last solution."""
        return generate_step_func(step_size, solvers.GMRES(), payoff)

    jitted = jax.jit(fresh())
    version = f"jax-cgd {metadata.version('jax-cgd')}, jax {jax.__version__}"
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        num_steps, compiled = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        step, point, count = jitted if compiled else fresh(), (x, y), 0
        for _ in range(num_steps):
            *point, count, _ = step(*point, count)
        jax.block_until_ready(point)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        result = [player.tolist() for player in point]
        print(json.dumps({"result": result, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
