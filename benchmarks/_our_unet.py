"""gamedyn's U-Net in its own process: one answer for each line of JSON.

The first line is the setting (see `diffusion.py`), each later one a task, a candidate
and a number. `_torch_unet.py` has the same interface.
"""

import contextlib
import json
import sys
import time
from functools import partial
from typing import Any, NamedTuple

import _our_gan
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import keystr, tree_map_with_path

import gamedyn as gd
from gamedyn import diffusion, nets

STEP_SIZE, STEPS = 2e-4, 1000


class Case(NamedTuple):
    """A network's options, the shape of its pictures, and its number of parameters."""

    options: dict[str, Any]
    pixels: int
    channels: int
    parameters: int

    def net(self, **options: Any) -> nets.Net:
        return nets.unet(self.channels, **self.options, **options)


CASES = {
    "digits": Case(
        {"width": 32, "multipliers": (1, 2, 2), "blocks": 2, "groups": 8},
        28,
        1,
        1_623_169,
    ),
    "cifar10": Case(
        {"width": 128, "multipliers": (1, 2, 2, 2), "blocks": 2, "groups": 32},
        32,
        3,
        35_746_307,
    ),
    "tiny": Case(
        {"width": 4, "multipliers": (1, 2), "blocks": 1, "groups": 2}, 8, 1, 11_621
    ),
}


def drawn(net: nets.Net) -> Any:
    """Draw parameters: scales near 1, all others small.

    The usual start, with layers that are zero, would leave most of the network unused
    in the comparison.
    """
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        center = 1.0 if keystr(path[-1:], simple=True) == "scale" else 0.0
        return np.float32(center + 0.05 * rng.normal(size=leaf.shape))

    return tree_map_with_path(draw, jax.eval_shape(net.init, jax.random.key(0)))


def table(num_steps: int) -> tuple[diffusion.samplers.Sampler, np.ndarray]:
    """Return DDIM, and its table as rows of (t, a, s, a', s')."""
    chain = diffusion.schedules.linear(STEPS)
    sampler = diffusion.samplers.ddim(diffusion.schedules.respace(chain, num_steps))
    rows = sampler.rows
    columns = rows.time, rows.signal, rows.noise, rows.next_signal, rows.next_noise
    return sampler, np.stack([np.asarray(column, np.float32) for column in columns], 1)


class Candidate:
    """A network with its game and its sampler, each compiled at its first use."""

    def __init__(self, net: nets.Net, arrays: dict[str, Any]):
        self.net, self.arrays = net, arrays
        self.game = diffusion.game(net, diffusion.schedules.linear(STEPS))
        self.rule = gd.simultaneous(optax.adam(STEP_SIZE))
        self.sampler, _ = table(len(arrays["table"]))
        self.x, self.start = (jnp.asarray(arrays[name]) for name in ("x", "start"))
        self.key = jax.random.key(0)
        self.program, self.draw, self.predict = None, None, None
        self.params = jax.tree.map(jnp.asarray, drawn(net))
        self.state = self.initial()

    def initial(self) -> Any:
        params = (jax.tree.map(jnp.copy, self.params),)
        return params, self.rule.init(params), jnp.zeros((), jnp.int32)

    def step(self, state, key, x, times=None, noise=None):
        params, rule_state, count = state
        key = jax.random.fold_in(key, count)
        batch = diffusion.Batch(x, key, times=times, noise=noise)
        field = gd.fields.gradient(self.game)
        return *self.rule.update(field, params, rule_state, (batch,)), count + 1

    def __call__(self, num_steps: int) -> None:
        """Train for some steps; the state is donated."""
        if self.program is None:  # compilation counts in the first call
            step = jax.jit(self.step, donate_argnums=0)
            self.program = step.lower(self.state, self.key, self.x).compile()
        for _ in range(num_steps):
            self.state = self.program(self.state, self.key, self.x)
        jax.block_until_ready(self.state)

    def sample(self) -> jax.Array:
        """Sample with DDIM, all steps in one compiled function."""
        if self.draw is None:

            def draw(params, sampler, start):
                model = partial(self.net.apply, params)
                return diffusion.sample(self.key, model, sampler, start=start).x

            self.draw = jax.jit(draw)
        return jax.block_until_ready(self.draw(self.params, self.sampler, self.start))

    def forward(self, number: int) -> None:
        """Evaluate the bare network, one call after the other."""
        if self.predict is None:
            self.predict = jax.jit(self.net.apply)
        t = jnp.full(len(self.start), 500, self.start.dtype)
        for _ in range(number):
            y = self.predict(self.params, self.start, t)
        jax.block_until_ready(y)

    def check(self) -> list[float]:
        """Return the loss before each step, with given times and noise."""

        @jax.jit
        def step(state, times, noise):
            batch = diffusion.Batch(self.x, self.key, times=times, noise=noise)
            (loss,) = self.game(state[0], batch)
            return loss, self.step(state, self.key, self.x, times, noise)

        state, losses = self.initial(), []
        for pair in zip(self.arrays["times"], self.arrays["eps"], strict=True):
            loss, state = step(state, *map(jnp.asarray, pair))
            losses.append(float(loss))
        return losses


def ceiling(device: str, edge: int) -> float:
    """Flops per second of large matrix products, in float32 or, on a GPU, bfloat16."""
    dtype = jnp.bfloat16 if device == "gpu" else jnp.float32
    matrix = jnp.ones((edge, edge), dtype) / edge
    product = jax.jit(lambda a, b: a @ b)
    result, seconds = product(matrix, matrix), []
    for _ in range(9):
        begun = time.perf_counter()
        for _ in range(10):
            result = product(matrix, result)
        jax.block_until_ready(result)
        seconds.append(time.perf_counter() - begun)
    return 10 * 2 * edge**3 / float(np.median(seconds))


def main():
    setting = json.loads(sys.stdin.readline())
    if setting["smoke"]:
        jax.config.update("jax_disable_most_optimizations", True)
    # Eigen would compute the convolutions as well, more slowly.
    _our_gan.occupy(setting["cores"], setting["device"], eigen_products=False)
    case, device = CASES[setting["case"]], setting["device"]
    with np.load(setting["file"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if "/" not in name}
    forms = {"gamedyn": case.net()}
    if device == "gpu":
        forms["gamedyn, bfloat16"] = nets.compute_in(case.net(), jnp.bfloat16)
    made = {name: Candidate(net, arrays) for name, net in forms.items()}
    (number,) = {nets.count_parameters(each.params) for each in made.values()}
    about = {
        "jax": jax.__version__,
        "candidates": list(made),
        "parameters": number,
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        task, name, number = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        result: Any = None
        if task == "check":
            result = {name: each.check() for name, each in made.items()}
        elif task == "profile":
            result = _our_gan.profile(made[name], number, device)
        elif task == "ceiling":
            result = ceiling(device, number)
        elif task == "samples":
            result = made[name].sample().tolist()
        elif task == "sample":
            made[name].sample()
        elif task == "forward":
            made[name].forward(number)
        else:
            made[name](number)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"result": result, "wall": wall, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
