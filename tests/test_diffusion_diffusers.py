"""Steps of the samplers against diffusers' schedulers, value by value.

`oracles/make_diffusers_golden.py` wrote what is compared; it names its environment.
"""

import decimal
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gamedyn.diffusion import process, samplers, sampling, schedules

FOLDER = Path(__file__).parent / "oracles"


def script():
    path = FOLDER / "make_diffusers_golden.py"
    spec = importlib.util.spec_from_file_location("make_diffusers_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MADE = script()
CHAINS = {name: schedules.from_betas(MADE.betas(name)) for name in MADE.SCHEDULES}
VARIANCES = dict(zip(MADE.VARIANCES, process.VARIANCES, strict=True))
KINDS = dict(zip(MADE.PREDICTIONS, ("eps", "x0", "v"), strict=True))
CLIPS = {
    "off": None,
    "kept": sampling.Clip(keep_noise=True),
    "anew": sampling.Clip(),
}


@functools.cache
def golden():
    with np.load(FOLDER / "diffusers.npz") as file:
        return dict(file)


def entries(name):
    """Entries of a fixture, as examples of one number each."""
    return jnp.asarray(golden()[name])[:, None]


def agree(got, expected, tolerance):
    got, expected = np.asarray(got).reshape(expected.shape), np.asarray(expected)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert error < tolerance


@functools.partial(jax.jit, static_argnames=("kind", "clip"))
def moved(rows, kind, clip):
    """Do each of some rows of a sampler from the same examples."""
    x, output, nu, noise = map(entries, ("x", "output", "nu", "noise"))

    def move(row):
        said = sampling.read(row, x, output, prediction=kind, clip=clip)
        return sampling.step(row, x, said, noise=noise, nu=nu)

    return jax.lax.map(move, rows)


def some(sampler, indices):
    indices = np.asarray(indices)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[indices], sampler.rows)


def test_schedules_are_the_published_ones():
    """Theirs is in float32, hence the tolerance."""
    for schedule, theirs, rtol in zip(
        MADE.SCHEDULES, golden()["float32 tables"], (1e-6, 2e-5), strict=True
    ):
        ours = schedules.make(schedule, 1000)
        np.testing.assert_allclose(ours.betas, MADE.betas(schedule), rtol=1e-10)
        np.testing.assert_allclose(ours.signal[::20] ** 2, theirs, rtol=rtol)


@pytest.mark.parametrize("schedule", MADE.SCHEDULES)
def test_forward_process(schedule):
    chain, (x, noise) = CHAINS[schedule], map(entries, ("x", "noise"))
    for t, theirs in zip(
        MADE.TIMES, golden()["forward"][MADE.SCHEDULES.index(schedule)], strict=True
    ):
        index = np.full(len(x), t)
        noisy = process.q_sample(chain, x, index, noise)
        agree(noisy, theirs[0], 1e-13)
        a, s = chain.signal[t], chain.noise[t]
        agree(process.convert(noise, noisy, a, s, "eps", "v"), theirs[1], 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("schedule", MADE.SCHEDULES)
def test_ancestral_steps(schedule, variance, kind):
    theirs = golden()["ddpm"]
    for names, name in (
        (MADE.SCHEDULES, schedule),
        (MADE.VARIANCES, variance),
        (MADE.PREDICTIONS, kind),
    ):
        theirs = theirs[names.index(name)]
    sampler = samplers.ddpm(CHAINS[schedule], variance=VARIANCES[variance])
    rows = some(sampler, 999 - np.array(MADE.TIMES))
    for clip, expected in zip((None, sampling.Clip()), theirs, strict=True):
        got = moved(rows, KINDS[kind], clip)
        for t, one, two in zip(MADE.TIMES, got, expected, strict=True):
            # Their beta is 1 - abar / abar_, rounded: 2e-16 of 4e-5 in cosine's first
            # steps. See `test_small_betas_are_ours` for whose error it is.
            agree(one, two, 5e-12 if schedule == "cosine" and t < 3 else 1e-12)
    assert np.abs(theirs[0] - theirs[1]).max() > 0.1  # clipping matters


@pytest.mark.parametrize("schedule", MADE.SCHEDULES)
def test_small_betas_are_ours(schedule):
    """The coefficients of the first steps in forty decimal digits."""
    with decimal.localcontext(prec=40):
        kept = [1 - decimal.Decimal(float(b)) for b in MADE.betas(schedule)[:3]]
        shares = [kept[0], kept[0] * kept[1], kept[0] * kept[1] * kept[2]]
        for t in (1, 2):
            now, before = shares[t], shares[t - 1]
            beta, noise = 1 - kept[t], 1 - now
            expected = (
                before.sqrt() * beta / noise,
                kept[t].sqrt() * (1 - before) / noise,
                (beta * (1 - before) / noise).sqrt(),
            )
            chain = CHAINS[schedule]
            rows = samplers.ddpm(chain).rows
            got = [leaf[-1 - t] for leaf in (rows.now.x0, rows.now.x, rows.deviation)]
            np.testing.assert_allclose(got, [float(v) for v in expected], rtol=1e-14)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", MADE.SCHEDULES)
def test_implicit_steps(schedule, kind, clip):
    theirs = golden()["ddim"]
    for names, name in (
        (MADE.SCHEDULES, schedule),
        (MADE.PREDICTIONS, kind),
        (MADE.CLIPS, clip),
    ):
        theirs = theirs[names.index(name)]
    for number, of_number in zip(MADE.DDIM_STEPS, theirs, strict=True):
        chain = schedules.respace(CHAINS[schedule], number, spacing="leading")
        for eta, expected in zip(MADE.ETAS, of_number, strict=True):
            rows = some(samplers.ddim(chain, eta=eta), MADE.ddim_rows(number))
            got = moved(rows, KINDS[kind], CLIPS[clip])
            for one, two in zip(got, expected, strict=True):
                agree(one, two, 1e-12)


def test_dynamic_threshold():
    """All entries of a picture count for its quantile. Theirs is in float32."""
    row = jax.tree.map(
        lambda leaf: jnp.asarray(leaf)[999 - 300],
        samplers.ddpm(CHAINS["linear"]).rows,
    )
    x, output = (jnp.asarray(golden()[name])[None] for name in ("all x", "all output"))
    said = sampling.read(row, x, output, clip=sampling.Clip(quantile=0.9))
    agree(said.x0, golden()["dynamic threshold"], 1e-6)


@functools.partial(jax.jit, static_argnames="kind")
def solved(sampler, kind):
    def model(x, t):
        return MADE.nonlinear(jnp, x, t[:, None])

    key = jax.random.key(0)
    start = entries("x")
    return sampling.sample(key, model, sampler, start=start, prediction=kind).x


@pytest.mark.parametrize("kind", KINDS)
def test_multistep_solver(kind):
    """Whole loops; theirs does its arithmetic in float32 tables."""
    for number, expected in zip(
        MADE.SOLVER_STEPS,
        golden()["dpm_solver"][MADE.PREDICTIONS.index(kind)],
        strict=True,
    ):
        chain = schedules.respace(CHAINS["linear"], number, spacing="multistep")
        agree(solved(samplers.dpm_solver(chain), KINDS[kind]), expected, 1e-6)
