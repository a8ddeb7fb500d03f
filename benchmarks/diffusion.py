"""A U-Net's training steps and samples against torch's and diffusers'."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import _measure
import _our_gan
import _our_unet
import gan
import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from gamedyn import diffusion

ONE = [(os.cpu_count() or 1) - 1]  # the core that this process is pinned to, too
CHECKED_STEPS = 3
TOLERANCE = {"cpu": 1e-4, "gpu": 2e-2}  # a GPU computes products in TF32 or bfloat16
SAMPLING_STEPS = 50
BATCHES = {"cpu": (16, 64), "gpu": (128,)}
SAMPLES = {"cpu": 16, "gpu": 256}
EDGE = {"cpu": 1024, "gpu": 8192}  # of the matrices whose products are the ceiling
LEAST_SPEED, MOST_OVERHEAD = 0.8, 1.1
INSTALL_TORCH = (
    "torch is not installed, its rows are left out. Put it into an environment of its "
    "own, `python -m venv torchenv && torchenv/bin/pip install torch==2.13.0 numpy "
    "diffusers`, and give `--torch-python torchenv/bin/python`."
)


class Side:
    """One of the two processes, with its candidates."""

    def __init__(self, python, script, setting):
        self.worker = _measure.Worker(python, script)
        self.about = self.worker.ask(setting)

    def __call__(self, task, name="", number=0):
        answer = self.worker.ask([task, name, number])
        return _measure.Sample(answer["result"], answer["wall"], answer["cpu"])

    def calls(self, task, number=0):
        names = self.about["candidates"]
        return {name: partial(self, task, name, number) for name in names}


def main(smoke: bool, torch_python: str | None = None) -> _measure.Report:
    _measure.prepare()
    jax.config.update("jax_enable_x64", False)
    report = _measure.Report(__file__, __doc__)
    if torch_python is None and importlib.util.find_spec("torch"):
        torch_python = sys.executable
    if torch_python is None:
        report.notes.append(INSTALL_TORCH)
    case = "tiny" if smoke else "digits"
    results = _device(report, case, "cpu", torch_python, smoke)
    if gan._gpu() and not smoke:
        more = _device(report, "cifar10", "gpu", torch_python, smoke)
        results = [
            on_cpu + on_gpu for on_cpu, on_gpu in zip(results, more, strict=True)
        ]
    else:
        report.notes.append("No GPU that jax can use: its rows are left out.")
    training, sampling, profiles = results
    compared = ["gamedyn is faster by", "by CPU time", "target", "difference"]
    report.table(
        "A training step",
        ["on", "batch", "candidate", "first, s", "ms", "of CPU time", "pictures/s"]
        + ["of the ceiling", *compared],
        training,
    )
    report.table(
        f"Sampling by DDIM in {SAMPLING_STEPS} steps",
        ["on", "batch", "candidate", "ms per step", "ms of the bare network"]
        + ["step / bare network", "pictures/s", "of the ceiling", *compared],
        sampling,
    )
    kinds = [*_our_gan.KINDS, "elementwise"]
    report.table(
        "Where the time of gamedyn's training step goes, ms",
        ["on", "batch", *kinds, "of the wall time"],
        [_shares(*measured, kinds) for measured in profiles],
    )
    report.notes += [
        "CPU: DDPM's U-Net of 1,623,169 parameters, 28 x 28 x 1, width 32, multipliers "
        "(1, 2, 2), two blocks, attention at 14 x 14, 8 groups. GPU: that for CIFAR-10 "
        "of 35,746,307 parameters. A training step is the loss of the noise at drawn "
        f"times, its gradient and Adam ({_our_unet.STEP_SIZE:g}), float32 on a CPU; "
        "gamedyn's state is donated, and no loss is fetched. Each side has its own "
        "process, on a CPU pinned to the same core.",
        "torch is eager on a CPU, with fused Adam; the row of torch compared with the "
        "target is the faster of its two memory formats. diffusers stands for its "
        "UNet2DModel of the same configuration, in the same loops. All start from the "
        "same parameters, by name, none of which is zero. The losses before the first "
        f"and after each of {CHECKED_STEPS} steps on given times and noise, and the "
        "samples from one start, agree as shown, relative to the largest entry.",
        "gamedyn's sampler is one compiled function of all its steps; the bare network "
        "is compiled alone and called once per step. torch samples step by step.",
        "The ceiling is the speed of large matrix products on the same device, the "
        "faster of both sides, in float32 on a CPU and bfloat16 on a GPU. The flops of "
        "a picture are XLA's count with its own convolutions, in training three times "
        "those of the forward pass.",
        "gamedyn runs with `runtime.configure(keep_memory=True)`. The third table sums "
        "jax's profile.",
    ]
    return report


def _arrays(case, batch):
    """The common start by name, the data, and the inputs of the comparison."""
    rng = np.random.default_rng(0)
    shape = batch, case.pixels, case.pixels, case.channels
    schedule = diffusion.schedules.linear(_our_unet.STEPS)
    checked = CHECKED_STEPS + 1
    floats = {
        "x": rng.uniform(-1, 1, size=shape),
        "eps": rng.normal(size=(checked, *shape)),
        "start": rng.normal(size=shape),
        "signal": schedule.signal,
        "noise": schedule.noise,
        "table": _our_unet.table(SAMPLING_STEPS)[1],
    }
    leaves = tree_leaves_with_path(_our_unet.drawn(case.net()))
    floats |= {
        f"params/{keystr(path, simple=True, separator='/')}": v for path, v in leaves
    }
    arrays = {name: np.asarray(array, np.float32) for name, array in floats.items()}
    times = rng.integers(_our_unet.STEPS, size=(checked, batch))
    return {**arrays, "times": times.astype(np.int32)}


@contextlib.contextmanager
def _sides(report, name, batch, device, torch_python, smoke):
    """Start both processes, and check that their networks have the same size."""
    case = _our_unet.CASES[name]
    levels = len(case.options["multipliers"])
    setting = {
        **{key: case.options[key] for key in ("blocks", "groups")},
        **{"case": name, "levels": levels, "device": device, "smoke": smoke},
        "cores": ONE if device == "cpu" else list(range(os.cpu_count() or 1)),
    }
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "arrays.npz", **_arrays(case, batch))
        setting["file"] = str(folder / "arrays.npz")
        scripts = {"_our_unet.py": sys.executable, "_torch_unet.py": torch_python}
        sides = []
        for script, python in scripts.items():
            if python is not None:
                sides.append(Side(python, script, setting))
                stack.callback(sides[-1].worker.close)
                record = {"kind": "versions", "device": device, "batch": batch}
                report.records.append({**record, **sides[-1].about})
        for side in sides:
            if side.about["parameters"] != case.parameters:
                raise SystemExit(
                    f"expected {case.parameters} parameters, got "
                    f"{side.about['parameters']}"
                )
        yield sides


def _agreement(report, what, sides, task, device, batch):
    """Compare every candidate's results with gamedyn's."""
    if task == "check":
        results = [side(task).result for side in sides]
        values = {name: each for result in results for name, each in result.items()}
    else:
        calls = {k: call for side in sides for k, call in side.calls(task).items()}
        values = {name: call().result for name, call in calls.items()}
    return {
        name: report.agreement(
            what,
            _measure.difference(value, values["gamedyn"]),
            TOLERANCE[device],
            candidate=name,
            device=device,
            batch=batch,
        )
        for name, value in values.items()
        if name != "gamedyn"
    }


def _device(report, name, device, torch_python, smoke):
    case = _our_unet.CASES[name]
    start = partial(
        _sides, report, name, device=device, torch_python=torch_python, smoke=smoke
    )
    on = "GPU" if device == "gpu" else "1 core"
    rounds, flops = 2 if smoke else 9, _flops(case)
    training, profiles, ceiling = [], [], None
    for batch in (2,) if smoke else BATCHES[device]:
        with start(batch=batch) as sides:
            agrees = _agreement(report, "losses", sides, "check", device, batch)
            ceiling = ceiling or _ceiling(report, sides, device, smoke)
            timings = _measure.interleave(
                {k: c for s in sides for k, c in s.calls("train", 1).items()},
                rounds=rounds,
                least=0,
            )
            profile = sides[0]("profile", "gamedyn", 3).result
        report.finding(
            "profile", profile["share"], device=device, batch=batch, ms=profile["ms"]
        )
        profiles.append((on, str(batch), profile))
        training += _training(
            report, timings, agrees, on, device, batch, 3 * flops / ceiling, smoke
        )
    batch = 2 if smoke else SAMPLES[device]
    with start(batch=batch) as sides:
        agrees = _agreement(report, "samples", sides, "samples", device, batch)
        steps = {k: c for s in sides for k, c in s.calls("sample").items()}
        bare = {
            f"bare {k}": c
            for s in sides
            for k, c in s.calls("forward", SAMPLING_STEPS).items()
        }
        # Each sampler is timed next to its network, under the same load.
        order = [name for k in steps for name in (k, f"bare {k}")]
        calls = {name: (steps | bare)[name] for name in order}
        timings = _measure.interleave(calls, rounds=rounds, least=0)
    sampling = _sampling(
        report, timings, agrees, on, device, batch, flops / ceiling, smoke
    )
    return training, sampling, profiles


def _training(report, timings, agrees, on, device, batch, cost, smoke):
    rows = []
    for name, timing in timings.items():
        report.measurement(
            name, timing, task="training step", device=device, batch=batch
        )
        rows.append(
            (
                on,
                str(batch),
                name,
                f"{timing.first:.1f}",
                f"{1e3 * timing.median:.1f}",
                f"{1e3 * timing.cpu_median:.1f}",
                f"{batch / timing.median:,.1f}",
                f"{cost * batch / timing.median:.0%}",
                *_compared(timings, name),
                "",
                agrees.get(name, ""),
            )
        )
    torches = {k: t.median for k, t in timings.items() if k.startswith("torch")}
    if torches and batch == BATCHES[device][0] and not smoke:
        best = min(torches, key=torches.__getitem__)
        ours = [t.median for k, t in timings.items() if k.startswith("gamedyn")]
        goal = report.target(
            f"training: time of {best} / gamedyn",
            torches[best] / min(ours),
            at_least=LEAST_SPEED if device == "cpu" else 1.0,
            device=device,
            batch=batch,
        )
        index = list(timings).index(best)
        rows[index] = (*rows[index][:-2], goal, rows[index][-1])
    return rows


def _sampling(report, timings, agrees, on, device, batch, cost, smoke):
    rows = []
    for name in (name for name in timings if not name.startswith("bare ")):
        timing, bare = timings[name], timings[f"bare {name}"]
        for task, each in (("sampling", timing), ("bare network", bare)):
            report.measurement(
                name, each, task=task, device=device, batch=batch, steps=SAMPLING_STEPS
            )
        overhead, goal = timing.median / bare.median, ""
        if name.startswith("gamedyn") and not smoke:
            goal = report.target(
                "sampling: time of a step / bare network",
                overhead,
                at_most=MOST_OVERHEAD,
                candidate=name,
                device=device,
            )
        rows.append(
            (
                on,
                str(batch),
                name,
                f"{1e3 * timing.median / SAMPLING_STEPS:.1f}",
                f"{1e3 * bare.median / SAMPLING_STEPS:.1f}",
                f"{overhead:.3f}",
                f"{batch / timing.median:,.2f}",
                f"{cost * SAMPLING_STEPS * batch / timing.median:.0%}",
                *_compared(timings, name),
                goal,
                agrees.get(name, ""),
            )
        )
    return rows


def _compared(timings, name):
    """How many times faster gamedyn is, by wall time and by CPU time."""
    if name.startswith("gamedyn"):
        return "", ""
    timing, ours = timings[name], timings["gamedyn"]
    wall, cpu = timing.median / ours.median, timing.cpu_median / ours.cpu_median
    return f"{wall:.2f}", f"{cpu:.2f}"


def _ceiling(report, sides, device, smoke):
    edge = 64 if smoke else EDGE[device]
    best = max(side("ceiling", "", edge).result for side in sides)
    report.finding("flops per second of large products", best, device=device)
    return best


def _flops(case):
    """Count the flops of a forward pass of one picture, with XLA's convolutions."""
    net = case.net(impl="xla")
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, case.pixels, case.pixels, case.channels), np.float32)
    t = jax.ShapeDtypeStruct((1,), np.float32)
    return jax.jit(net.apply).lower(params, x, t).cost_analysis()["flops"]


def _shares(on, batch, profile, kinds):
    spent = (f"{profile['ms'].get(kind, 0):.1f}" for kind in kinds)
    return on, batch, *spent, f"{profile['share']:.0%}"


if __name__ == "__main__":
    _measure.command(main)
