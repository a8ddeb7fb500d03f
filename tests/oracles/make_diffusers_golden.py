"""Write diffusers.npz: steps of diffusers' schedulers, for test_diffusion_diffusers.py.

diffusers and torch are no dependencies. In an environment of their own:

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 diffusers==0.42.1 numpy
    torchenv/bin/python tests/oracles/make_diffusers_golden.py

The schedulers' tables are float32; they are overwritten by float64 ones, computed here
from the published formulas, so that what is compared is the arithmetic of the steps.
Steps act on every entry alone: of each picture a few entries are kept.
"""

import itertools
from pathlib import Path

import numpy as np

SCHEDULES = ("linear", "cosine")
VARIANCES = ("fixed_small", "fixed_large", "learned_range")
PREDICTIONS = ("epsilon", "sample", "v_prediction")
TIMES = (999, 500, 2, 1, 0)
DDIM_STEPS = (5, 50, 1000)
ETAS = (0.0, 0.7, 1.0)
CLIPS = ("off", "kept", "anew")  # "anew": noise made again from the clipped data
SOLVER_STEPS = (5, 10, 20)
SHAPE = (4, 3, 8, 8)
KEPT = np.random.default_rng(1).choice(np.prod(SHAPE), 8, replace=False)


def betas(schedule):
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, 1000)
    u = np.arange(1001) / 1000
    share = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - share[1:] / share[:-1], 0.999)


def ddim_rows(number):
    """The first, the middle and the last step."""
    return (0, number // 2, number - 1)


def nonlinear(xp, x, t):
    """What the multistep solver asks; `xp` is numpy or torch."""
    return xp.sin(2 * x) * (1 - t / 1000) + 0.2 * x * t / 1000


def main():
    import diffusers
    import torch

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=SHAPE), rng.normal(size=SHAPE)]
    arrays.append(rng.uniform(-1, 1, size=SHAPE))
    x, output, nu = map(torch.from_numpy, arrays)

    def generator():
        return torch.Generator().manual_seed(3)

    noise = torch.randn(SHAPE, generator=generator(), dtype=torch.float64)

    def kept(tensor):
        return tensor.numpy().reshape(-1)[KEPT]

    def schedulers(build, schedule, **options):
        named = {"linear": "linear", "cosine": "squaredcos_cap_v2"}[schedule]
        scheduler = build(beta_schedule=named, **options)
        published = scheduler.alphas_cumprod.numpy()
        table = torch.from_numpy(betas(schedule))
        scheduler.betas, scheduler.alphas = table, 1 - table
        scheduler.alphas_cumprod = torch.cumprod(1 - table, 0)
        scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0).double()
        return scheduler, published

    golden = {
        "x": kept(x),
        "output": kept(output),
        "nu": kept(nu),
        "noise": kept(noise),
        "versions": np.array([torch.__version__, diffusers.__version__]),
    }

    ddpm, tables, forward = [], [], []
    for schedule in SCHEDULES:
        for variance, prediction, clip in itertools.product(
            VARIANCES, PREDICTIONS, (False, True)
        ):
            scheduler, _ = schedulers(
                diffusers.DDPMScheduler,
                schedule,
                variance_type=variance,
                prediction_type=prediction,
                clip_sample=clip,
            )
            said = output
            if variance == "learned_range":
                said = torch.cat([output, nu], dim=1)
            for t in TIMES:
                after = scheduler.step(said, t, x, generator=generator()).prev_sample
                ddpm.append(kept(after))
        scheduler, published = schedulers(diffusers.DDPMScheduler, schedule)
        tables.append(published[::20])
        for t in TIMES:
            index = torch.full(SHAPE[:1], t)
            forward.append(kept(scheduler.add_noise(x, noise, index)))
            forward.append(kept(scheduler.get_velocity(x, noise, index)))
    lead = len(SCHEDULES), len(VARIANCES), len(PREDICTIONS), 2, len(TIMES)
    golden["ddpm"] = np.reshape(ddpm, (*lead, -1))
    golden["float32 tables"] = np.stack(tables)
    golden["forward"] = np.reshape(forward, (len(SCHEDULES), len(TIMES), 2, -1))

    scheduler, _ = schedulers(
        diffusers.DDPMScheduler,
        "linear",
        thresholding=True,
        dynamic_thresholding_ratio=0.9,
        sample_max_value=1e9,
        clip_sample=False,
    )
    golden["all x"], golden["all output"] = x.numpy()[0], output.numpy()[0]
    first = scheduler.step(output, 300, x, generator=generator()).pred_original_sample
    golden["dynamic threshold"] = first.numpy()[0].astype(np.float64)

    ddim = []
    for schedule, prediction, clip in itertools.product(SCHEDULES, PREDICTIONS, CLIPS):
        scheduler, _ = schedulers(
            diffusers.DDIMScheduler,
            schedule,
            prediction_type=prediction,
            clip_sample=clip != "off",
            timestep_spacing="leading",
        )
        for number, eta in itertools.product(DDIM_STEPS, ETAS):
            scheduler.set_timesteps(number)
            for row in ddim_rows(number):
                after = scheduler.step(
                    output,
                    int(scheduler.timesteps[row]),
                    x,
                    eta=eta,
                    use_clipped_model_output=clip == "anew",
                    variance_noise=noise if eta else None,
                )
                ddim.append(kept(after.prev_sample))
    lead = len(SCHEDULES), len(PREDICTIONS), len(CLIPS), len(DDIM_STEPS), len(ETAS), 3
    golden["ddim"] = np.reshape(ddim, (*lead, -1))

    solver = []
    for prediction, number in itertools.product(PREDICTIONS, SOLVER_STEPS):
        scheduler = diffusers.DPMSolverMultistepScheduler(
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule="linear",
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            timestep_spacing="linspace",
            final_sigmas_type="zero",
            prediction_type=prediction,
        )
        scheduler.alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas("linear")))
        scheduler.set_timesteps(number)
        state = x.clone()
        for t in scheduler.timesteps:
            said = nonlinear(torch, state, float(t))
            state = scheduler.step(said, t, state).prev_sample
        solver.append(kept(state))
    golden["dpm_solver"] = np.reshape(
        solver, (len(PREDICTIONS), len(SOLVER_STEPS), len(KEPT))
    )
    np.savez_compressed(Path(__file__).with_name("diffusers.npz"), **golden)


if __name__ == "__main__":
    main()
