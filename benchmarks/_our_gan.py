"""gamedyn's GAN steps in their own process: one answer for each line of JSON.

The first line is the setting (see `gan.py`), each later one a task and a number of
steps. `_torch_gan.py` has the same interface.
"""

import contextlib
import glob
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gamedyn as gd
from gamedyn import gan, nets

STEP_SIZE, DECAY = 2e-4, 0.5
SCAN = 20  # steps of one scan
CENTRES = 2 * np.stack([f(np.arange(8) * np.pi / 4) for f in (np.cos, np.sin)], axis=1)
SIGMA = 0.02


class Case(NamedTuple):
    """Two networks, the batch size, and the shapes of latents and examples."""

    generator: nets.Net
    discriminator: nets.Net
    batch: int
    latent: int
    shape: tuple[int, ...]

    @property
    def game(self) -> gd.Game:
        pair = self.generator, self.discriminator
        return gan.game(*pair, "non_saturating", latent=gan.normal(self.latent))


def make(name: str, *, smoke: bool = False, dtype: str = "float32", **options) -> Case:
    """Make a case: "mlp", or "dcgan" or "sngan" followed by the pictures' size."""
    cast = partial(nets.compute_in, dtype=dtype) if dtype != "float32" else lambda n: n
    if name == "mlp":
        hidden = (16 if smoke else 128,) * 4
        generator = nets.mlp((2, *hidden, 2))
        discriminator = nets.mlp((2, *hidden, 1), output_shape=())
        batch, latent, shape = 256, 2, (2,)
    elif name.startswith("dcgan"):
        size = 8 if smoke else int(name.removeprefix("dcgan"))
        channels, latent = (1 if size in (8, 28) else 3), 100
        options |= {"channels": channels, "width": 8 if smoke else 64}
        generator = nets.dcgan_generator(size, latent=latent, **options)
        discriminator = nets.dcgan_discriminator(size, **options)
        batch, shape = 128, (size, size, channels)
    else:
        generator, discriminator = nets.sngan_generator(), nets.sngan_discriminator()
        batch, latent, shape = 64, 128, (32, 32, 3)
    return Case(cast(generator), cast(discriminator), batch, latent, shape)


def rule() -> gd.Rule:
    """The discriminator moves first, then the generator, each with its own batch."""
    adam = optax.adam(STEP_SIZE, b1=DECAY)
    return gd.alternating(adam, order=(1, 0), resample=True)


def initial(case: Case) -> Any:
    init = jax.jit(lambda a, b: (case.generator.init(a), case.discriminator.init(b)))
    return init(*jax.random.split(jax.random.key(0)))


def sample(case: Case, real: jax.Array | None, key: jax.Array) -> gan.Batch:
    """Make a batch: of given pictures, or of points of the plane drawn here."""
    if real is None:
        key, mode, noise = jax.random.split(key, 3)
        modes = jax.random.randint(mode, (case.batch,), 0, len(CENTRES))
        noise = jax.random.normal(noise, (case.batch, 2), jnp.float32)
        real = jnp.asarray(CENTRES, jnp.float32)[modes] + SIGMA * noise
    return gan.Batch(real, key)


class State(NamedTuple):
    params: Any
    rule_state: Any
    step: jax.Array


def single(case: Case) -> Any:
    """Compile one step; the state is donated."""
    field, method = gd.fields.gradient(case.game), rule()

    def step(state, key, real):
        keys = jax.random.split(jax.random.fold_in(key, state.step), method.num_batches)
        batches = tuple(sample(case, real, k) for k in keys)
        moved = method.update(field, state.params, state.rule_state, batches)
        return State(*moved, state.step + 1)

    return jax.jit(step, donate_argnums=0)


def scanned(case: Case, num_steps: int) -> Any:
    """Compile a scan of such steps."""

    def steps(state, key, real):
        solution = gd.solve(
            case.game,
            rule(),
            state.params,
            num_steps,
            key=key,
            sample=partial(sample, case, real),
            rule_state=state.rule_state,
            start=state.step,
        )
        return State(solution.params, solution.rule_state, solution.num_steps)

    return jax.jit(steps, donate_argnums=0)


class Candidate:
    """A step, or a scan of steps, and the state it has reached."""

    def __init__(self, step: Any, num_steps: int, case: Case, arrays: dict):
        self.step, self.num_steps = step, num_steps
        self.key, self.real = jax.random.key(1), arrays["real"][0, 0]
        self.real = None if case.shape == (2,) else jnp.asarray(self.real)
        self.program = None
        params = initial(case)
        self.state = State(params, rule().init(params), jnp.zeros((), jnp.int32))

    def __call__(self, num_steps: int) -> None:
        inputs = self.key, self.real
        if self.program is None:  # part of the first call
            self.program = self.step.lower(self.state, *inputs).compile()
        for _ in range(num_steps // self.num_steps):
            self.state = self.program(self.state, *inputs)
        jax.block_until_ready(self.state)


def check(case: Case, arrays: dict[str, np.ndarray]) -> list[list[float]]:
    """Both losses on the first batch, at the start and after each step."""
    method, game, field = rule(), case.game, gd.fields.gradient(case.game)
    params = initial(case)
    state = method.init(params)

    def batches(index):
        reals, latents = arrays["real"][index], arrays["latent"][index]
        key = jax.random.key(0)  # unused, since the latents are given
        pairs = zip(reals, latents, strict=True)
        return tuple(gan.Batch(x, key, latent=z) for x, z in pairs)

    update, losses = jax.jit(partial(method.update, field)), jax.jit(game)
    first = batches(0)[0]
    history = [losses(params, first)]
    for index in range(len(arrays["real"])):
        params, state = update(params, state, batches(index))
        history.append(losses(params, first))
    return np.asarray(history).tolist()


KINDS = {
    "products": "dot|ynn|cublas|gemm|conv",
    "patches gathered": "concatenate|bitcast_concatenate",
    "patches scattered": "pad|slice",
    "sums over the batch": "wrapped_reduce|reduce",
    "copies": "copy|transpose|bitcast_bitcast",
}


def profile(candidate: Candidate, num_steps: int, device: str) -> dict[str, Any]:
    """Profile a step: milliseconds by kind of operation."""
    instruction = r"^\s+(?:ROOT )?%?(\S+) = "
    names = set(re.findall(instruction, candidate.program.as_text(), re.M))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            begun = time.perf_counter()
            candidate(num_steps)
            wall = time.perf_counter() - begun
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        planes = jax.profiler.ProfileData.from_file(path).planes
        spent = Counter()
        for plane in planes:
            for line in plane.lines:
                # On a GPU count the kernels, on a CPU the program's operations.
                kernels = plane.name.startswith("/device:") and "Stream" in line.name
                for event in line.events:
                    if kernels or (device == "cpu" and event.name in names):
                        spent[_kind(event.name)] += event.duration_ns
    per_step = 1e-6 / num_steps
    return {
        "ms": {kind: per_step * t for kind, t in spent.most_common()},
        "share": 1e-9 * sum(spent.values()) / wall,
    }


def _kind(name: str) -> str:
    kinds = (kind for kind, pattern in KINDS.items() if re.match(pattern, name))
    return next(kinds, "elementwise")


def candidates(case: Case, setting: dict, arrays: dict) -> dict[str, Candidate]:
    made = {"gamedyn": Candidate(single(case), 1, case, arrays)}
    if setting["scan"]:
        loop = scanned(case, SCAN)
        made[f"gamedyn, scan of {SCAN}"] = Candidate(loop, SCAN, case, arrays)
    if setting["device"] == "gpu":
        half = make(setting["case"], smoke=setting["smoke"], dtype="bfloat16")
        made["gamedyn, bfloat16"] = Candidate(single(half), 1, half, arrays)
    return made


def occupy(cores: list[int], device: str, *, eigen_products: bool = True) -> None:
    """Use these cores and this device, in place of the parent's one pinned core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    flags = os.environ.get("XLA_FLAGS", "").split()
    pinned = "--xla_cpu_multi_thread_eigen=false"
    if len(cores) > 1:
        flags = [flag for flag in flags if flag != pinned]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    if device == "gpu":
        jax.config.update("jax_platforms", None)
    on_cpu = device == "cpu"
    gd.runtime.configure(keep_memory=on_cpu, eigen_products=on_cpu and eigen_products)


def main():
    setting = json.loads(sys.stdin.readline())
    if setting["smoke"]:
        jax.config.update("jax_disable_most_optimizations", True)
    occupy(setting["cores"], setting["device"])
    case = make(setting["case"], smoke=setting["smoke"])
    with np.load(setting["file"], allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("real", "latent")}
    made = candidates(case, setting, arrays)
    about = {
        "jax": jax.__version__,
        "candidates": list(made),
        "parameters": nets.count_parameters(initial(case)),
        "device": jax.devices()[0].device_kind,
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        task, number = json.loads(line)
        answer: dict[str, Any] = {}
        wall, cpu = time.perf_counter(), time.process_time()
        if task == "check":
            answer["result"] = check(case, arrays)
        elif task == "profile":
            answer["result"] = profile(made["gamedyn"], number, setting["device"])
        else:
            made[task](number)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(json.dumps({"result": None, **answer, "wall": wall, "cpu": cpu}))
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
