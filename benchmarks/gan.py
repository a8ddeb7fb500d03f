"""A GAN's training steps against torch's, and the flops of a step of each rule."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import _measure
import _our_gan
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

import gamedyn as gd
from gamedyn import gan

ALL_CORES = list(range(os.cpu_count() or 1))  # this process is pinned to the last
CHECKED_STEPS = 3
TOLERANCE = {"cpu": 1e-4, "gpu": 1e-2}  # a GPU computes products in TF32
# Steps per sample on a CPU.
NUM_STEPS = {"mlp": 100, "dcgan28": 3}
TARGETS = {"mlp": ("torch", 2.0), "dcgan28": ("torch, channels last", 1.0)}
# Flops are counted before machine code is generated: generate it quickly.
COUNTING = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
GPU_CASES = ("dcgan32", "dcgan64", "sngan32")
INSTALL_TORCH = (
    "torch is not installed, its rows are left out. Put it into an environment of its "
    "own, `python -m venv torchenv && torchenv/bin/pip install torch==2.13.0 numpy`, "
    "and give `--torch-python torchenv/bin/python`."
)


class Side:
    """One of the two processes, with its candidates."""

    def __init__(self, python, script, setting):
        self.worker = _measure.Worker(python, script)
        self.about = self.worker.ask(setting)

    def __call__(self, task, number=0):
        answer = self.worker.ask([task, number])
        return _measure.Sample(answer["result"], answer["wall"], answer["cpu"])

    def tasks(self, num_steps):
        return {
            name: partial(self, name, num_steps) for name in self.about["candidates"]
        }


def arrays(case):
    """The common start by name, and the batches of the comparison."""
    rng = np.random.default_rng(0)
    lead = CHECKED_STEPS, 2, case.batch
    if case.shape == (2,):
        modes = rng.integers(len(_our_gan.CENTRES), size=lead)
        noise = _our_gan.SIGMA * rng.normal(size=(*lead, 2))
        real = _our_gan.CENTRES[modes] + noise
    else:
        real = rng.uniform(-1, 1, size=(*lead, *case.shape))
    floats = {
        "real": real,
        "latent": rng.normal(size=(*lead, case.latent)),
        "centres": _our_gan.CENTRES,
        "sigma": np.asarray(_our_gan.SIGMA),
    }
    leaves = tree_leaves_with_path(_our_gan.initial(case))
    floats |= {keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {name: np.asarray(array, np.float32) for name, array in floats.items()}


def main(smoke: bool, torch_python: str | None = None) -> _measure.Report:
    _measure.prepare()
    jax.config.update("jax_disable_most_optimizations", smoke)
    jax.config.update("jax_enable_x64", False)
    report = _measure.Report(__file__, __doc__)
    if torch_python is None and importlib.util.find_spec("torch"):
        torch_python = sys.executable
    if torch_python is None:
        report.notes.append(INSTALL_TORCH)

    # Time the steps: on one core, on all cores, and on a GPU if there is one.
    rows, profiles = [], []
    one = ALL_CORES[-1:]
    for name in NUM_STEPS:
        for cores in (one,) if smoke or len(ALL_CORES) == 1 else (one, ALL_CORES):
            more, profile = _steps(report, name, cores, "cpu", torch_python, smoke)
            rows += more
            profiles += profile
    if _gpu() and not smoke:
        for name in GPU_CASES:
            python = torch_python if name.startswith("dcgan") else None
            more, profile = _steps(report, name, ALL_CORES, "gpu", python, smoke)
            rows += more
            profiles += profile
    else:
        report.notes.append("No GPU that jax can use: its rows are left out.")

    # Report speed, the profile of a step, and the flops of every rule.
    report.table(
        "Steps per second",
        ["case", "on", "candidate", "first, s", "ms per step", "of CPU time", "steps/s"]
        + ["gamedyn is faster by", "by CPU time", "target", "difference"],
        rows,
    )
    kinds = [*_our_gan.KINDS, "elementwise"]
    report.table(
        "Where the time of gamedyn's step goes, ms",
        ["case", "on", *kinds, "of the wall time"],
        [_shares(*measured, kinds) for measured in profiles],
    )
    report.table(
        "Flops of a rule's step, in units of one joint gradient",
        ["rule", "evaluations", *NUM_STEPS],
        _rules(report, smoke),
    )

    # Say how all this was measured.
    report.notes += [
        "dcgan28: width 64, latents of 100, batch 128; mlp: a ring of 8 Gaussians, 4 "
        "hidden layers of 128, batch 256, data drawn in the step. Non-saturating loss, "
        "float32, a step is one move of the discriminator and one of the generator by "
        f"Adam ({_our_gan.STEP_SIZE:g}, b1 {_our_gan.DECAY:g}), each with new latents; "
        "the state is donated, no loss is fetched. Each side has its own process on "
        "the cores named; both start from the same parameters, and their losses on one "
        f"batch agree to {TOLERANCE['cpu']:g} relative over {CHECKED_STEPS} steps on "
        "given latents (the difference shown).",
        "torch is eager, with fused Adam (except in the row `torch`), without running "
        "statistics, without a graph of the fakes in the discriminator's move, and "
        "without gradients of the discriminator's weights in the generator's.",
        "gamedyn runs with `runtime.configure(keep_memory=True, eigen_products=True)`. "
        "The second table sums jax's profile; on several cores times overlap.",
        "Flops are XLA's count of the compiled step, loops counted once; for dcgan28 "
        "with XLA's own convolutions, which have as many flops as the matrix products. "
        "Left out: rules on the simplex, and those that invert a dense Jacobian: "
        f"{', '.join(_left_out())}.",
        "The count of a rule that evaluates the field once more in its first step, in "
        "a conditional, includes that evaluation: past_extragradient, anchored_popov.",
    ]
    return report


def _steps(report, name, cores, device, torch_python, smoke):
    """Time one case on given cores or a GPU; return table rows and a profile."""
    case = _our_gan.make(name, smoke=smoke)
    scan = name == "mlp" or device == "gpu"
    num_steps = _our_gan.SCAN if smoke or device == "gpu" else NUM_STEPS[name]
    on = "GPU" if device == "gpu" else f"{len(cores)} core{'s' * (len(cores) > 1)}"
    setting = {"case": name, "cores": cores, "device": device, "smoke": smoke}
    with contextlib.ExitStack() as stack:
        # Start both sides from the same arrays.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "arrays.npz", **arrays(case))
        setting |= {"file": str(folder / "arrays.npz"), "scan": scan}
        scripts = {"_our_gan.py": sys.executable, "_torch_gan.py": torch_python}
        sides = [Side(p, s, setting) for s, p in scripts.items() if p is not None]
        for side in sides:
            stack.callback(side.worker.close)

        # Before anything is timed, both must compute the same.
        numbers = {side.about["parameters"] for side in sides}
        if len(numbers) > 1:
            raise SystemExit(f"{name}: the networks have {numbers} parameters")
        agrees = ""
        if len(sides) == 2:
            ours, theirs = (side("check").result for side in sides)
            gap = max(_measure.difference(other, ours) for other in theirs)
            agrees = report.agreement(
                f"losses of {CHECKED_STEPS} steps",
                gap,
                TOLERANCE[device],
                case=name,
                on=on,
            )

        # Time the candidates in turn, then profile gamedyn's step.
        timings = _measure.interleave(
            {k: call for side in sides for k, call in side.tasks(num_steps).items()},
            rounds=2 if smoke else 9,
            least=0,
        )
        profile = sides[0]("profile", 3 if name != "mlp" else num_steps).result
    report.records += [
        {"kind": "versions", "case": name, "on": on, **side.about} for side in sides
    ]
    report.finding("profile", profile["share"], case=name, on=on, ms=profile["ms"])

    # Compare every candidate with gamedyn's single step.
    best = timings["gamedyn"]
    rows = []
    for candidate, timing in timings.items():
        report.measurement(candidate, timing, case=name, on=on, num_steps=num_steps)
        wall, cpu = timing.median / best.median, timing.cpu_median / best.cpu_median
        goal, ratios = "", ("", "")
        if candidate != "gamedyn":
            ratios = f"{wall:.2f}", f"{cpu:.2f}"
            report.finding(
                "gamedyn is faster by",
                wall,
                cpu=cpu,
                candidate=candidate,
                case=name,
                on=on,
            )
        if TARGETS.get(name, ("",))[0] == candidate and len(cores) == 1 and not smoke:
            goal = report.target(
                f"time {candidate} / gamedyn",
                wall,
                at_least=TARGETS[name][1],
                case=name,
                on=on,
            )
        rows.append(
            (
                name,
                on,
                candidate,
                f"{timing.first:.1f}",
                f"{1e3 * timing.median / num_steps:.2f}",
                f"{1e3 * timing.cpu_median / num_steps:.2f}",
                f"{num_steps / timing.median:,.1f}",
                *ratios,
                goal,
                agrees if candidate.startswith("torch") else "",
            )
        )
    return rows, [(name, on, profile)]


def _gpu():
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return shutil.which("nvidia-smi") and plugins


def _shares(case, on, profile, kinds):
    spent = (f"{profile['ms'].get(kind, 0):.2f}" for kind in kinds)
    return case, on, *spent, f"{profile['share']:.0%}"


def _dense(entry):
    return entry.evaluations(1000) != entry.evaluations(2000)


def _left_out():
    unfit = {"simplex", "finite sum", "constraints"}
    return [
        name
        for name, entry in gd.rules.entries().items()
        if unfit & set(entry.needs) or _dense(entry)
    ]


def _rules(report, smoke):
    """Compile a step of every rule, and count its flops."""
    names = [name for name in gd.rules.names() if name not in _left_out()]
    names = ["simultaneous", "alternating"] if smoke else names
    cases = {"mlp": {}} if smoke else {"mlp": {}, "dcgan28": {"impl": "xla"}}
    counts = {}
    for case_name, options in cases.items():
        case = _our_gan.make(case_name, smoke=smoke, **options)
        params = jax.eval_shape(lambda case=case: _our_gan.initial(case))
        field, batch = gd.fields.gradient(case.game), _batch(case)
        unit = _flops(field, params, batch)
        for name in names:
            rule = gd.rules.make(name, 1e-3)
            state = jax.eval_shape(rule.init, params)
            batches = (batch,) * rule.num_batches
            count = _flops(partial(rule.update, field), params, state, batches) / unit
            report.finding("flops / joint gradient", count, rule=name, case=case_name)
            counts[name, case_name] = f"{count:.2f}"
    return [
        (
            name,
            str(gd.rules.entries()[name].evaluations(2)),
            *(counts.get((name, case), "") for case in NUM_STEPS),
        )
        for name in names
    ]


def _batch(case):
    """Describe a batch with given latents: drawing them would be counted too."""
    return jax.eval_shape(
        lambda: gan.Batch(
            jnp.zeros((case.batch, *case.shape)),
            jax.random.key(0),
            latent=jnp.zeros((case.batch, case.latent)),
        )
    )


def _flops(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=COUNTING)
    return compiled.cost_analysis()["flops"]


if __name__ == "__main__":
    _measure.command(main)
