r"""Where GAN training ends: neither minimum nor saddle point of a loss, but of a game?

Command:

    gamedyn train gan_landscape [--out results/gan_landscape] [--smoke]

Paper: H. Berard et al., A Closer Look at the Optimization Landscapes of Generative
Adversarial Networks, 2020, arXiv:1906.04848.

Three GANs are trained in float32 by alternating Adam, as the lecture has it, and looked
at in float64 at the start, in the middle and at the end, on one large batch whose
examples and latents are fixed:

- `ring`: tanh networks on eight modes of a circle, non-saturating loss;
- `ring_wgan_gp`: the same networks, Wasserstein loss with gradient penalty;
- `digits`: DCGAN without normalisation on scikit-learn's digits, 8 x 8 pixels,
  non-saturating loss with R1.

At each point (`table.txt`, all numbers in `findings.json`):

- the verdict of `gamedyn.analysis.certify_large`, with the residual it rests on;
- the ends of both players' own Hessians by Lanczos. A certified negative curvature
  means that this player gains by moving alone: no point like that is a local Nash
  equilibrium, however small its residual;
- the eigenvalue of the game's Jacobian J of the smallest real part, by Arnoldi. Where
  every real part is positive, the flow is attracted all the same: a locally stable
  stationary point (LSSP).

Pictures: the ends of the own spectra (`curvature.png`), Ritz values of J in the complex
plane (`jacobian.png`), angle and length of the flow along the straight line from an
earlier point to the last (`path.png`), what the generators draw (`samples.png`).

Expected (seed 0; numbers and pictures in `README.md` beside this file; 5 minutes of
processor time on one core of a 2-core x86-64 server): no end is stationary, both
players have certified negative curvature at every point of every case, and the flow is
unstable at all of them: neither Nash equilibrium nor LSSP.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn import analysis
from gamedyn.analysis.verdicts import conclude
from gamedyn.seeds import seed_key

CASES = ("ring", "ring_wgan_gp", "digits")
POINTS = ("start", "middle", "end")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    out: Path = Path("results/gan_landscape")  # an empty folder for what comes out
    seed: int = 0  # of networks, data and the starts of Lanczos and Arnoldi
    cases: tuple[str, ...] = CASES  # which GANs, of `CASES`
    num_steps: int = 3000  # of training, even
    batch_size: int = 128  # real examples of every move in training
    width: int = 64  # hidden units on the ring; of DCGAN a quarter as many channels
    depth: int = 2  # hidden layers of the ring's networks
    learning_rate: float = 1e-3  # Adam's, with b1 = 0.5
    examples: int = 256  # of the fixed batch
    num_products: int = 50  # the most steps of a Lanczos or Arnoldi run
    num_eigenvalues: int = 8  # shown of either end of an own spectrum
    num_positions: int = 41  # on the line between two points


SMOKE = Config(
    cases=("ring",),
    num_steps=400,
    batch_size=64,
    width=16,
    depth=1,
    examples=128,
    num_products=40,
    num_eigenvalues=4,
    num_positions=13,
)
"""One small GAN, trained for a moment."""


def examine(case: Any, params: Any, config: Config, key: jax.Array) -> dict[str, Any]:
    """Find out what kind of point this is, in float64; called under x64.

    Args:
        case: the GAN, see `training.Case`.
        params: the point, in float64.
        config: how many products to spend.
        key: for the starts.

    Returns:
        Numbers for the table and the pictures.
    """
    keys = jax.random.split(key, 4)
    game, batch, steps = case.game, case.fixed, config.num_products
    report = analysis.certify_large(game, params, batch, keys[0], num_steps=steps)
    stationary = dataclasses.replace(report.stationarity, stationary=True)
    numbers: dict[str, Any] = {
        "verdict": report.verdict.name,
        "residual": report.stationarity.residual,
        "tolerance": report.stationarity.tolerance,
        "gradient norms": list(report.stationarity.norms),
        "verdict of the curvature alone": conclude(stationary, report.players).name,
        "smallest eigenvalue of S": report.dynamics.smallest_symmetric,
        "players": [],
    }
    for player, finding in enumerate(report.players):
        # All steps, for the values further inside, from programs compiled already.
        ends = analysis.own_spectrum(
            game,
            params,
            batch,
            keys[1 + player],
            player=player,
            num_steps=steps,
            tolerance=0.0,
        )
        count = config.num_eigenvalues
        numbers["players"].append(
            {
                "curvature": finding.curvature.name,
                "smallest": finding.smallest,
                "largest": finding.largest,
                "error": finding.bound,
                "residual": finding.residual,
                "along the witness": finding.quotient,
                "converged": finding.converged,
                "remark": finding.remark,
                "ends": [*ends.ritz[:count].tolist(), *ends.ritz[-count:].tolist()],
            }
        )
    operator = analysis.operators.jacobian(game, params, batch)
    flow = analysis.arnoldi(
        operator, operator.like, keys[3], num_steps=steps, num_pairs=2
    )
    numbers["flow"] = {
        "stability": stability(flow),
        "smallest real part": float(flow.values[0].real),
        "imaginary part": float(abs(flow.values[0].imag)),
        "residual": float(flow.residuals[0]),
        "scale": flow.scale,
        "ritz": [[z.real, z.imag] for z in flow.ritz.tolist()],
        "estimates": flow.estimates.tolist(),
    }
    return numbers


def stability(flow: Any) -> str:
    """Say how the flow behaves near a point, as far as the estimates allow.

    A residual is no bound on the error of an eigenvalue of a non-normal matrix, so that
    this is an estimate as well; a real part within it of 0 decides nothing.
    """
    real, residual = float(flow.values[0].real), float(flow.residuals[0])
    if real < -residual:
        return "unstable"
    return "stable" if real > residual and flow.converged[0] else "undecided"


def paths(case: Any, points: list[Any], config: Config) -> dict[str, Any]:
    """Follow the flow along the lines from the start and the middle to the end."""
    positions = np.linspace(-0.1, 1.1, config.num_positions)
    measure = jax.jit(
        lambda first, second, batch: analysis.path_angle(
            case.game, first, second, batch, positions=jnp.asarray(positions)
        )
    )
    numbers = {"positions": positions.tolist()}
    for name, first in zip(POINTS[:-1], points[:-1], strict=True):
        angle = measure(first, points[-1], case.fixed)
        numbers[f"from the {name}"] = {
            "cosines": np.asarray(angle.cosines).tolist(),
            "norms": np.asarray(angle.norms).tolist(),
        }
    return numbers


def conclusion(point: dict[str, Any]) -> str:
    """Say of a point in words whether it is a DNE, an LSSP, neither."""
    players = zip(("generator", "discriminator"), point["players"], strict=True)
    negative = [
        name for name, player in players if player["curvature"] == "NOT_PSD_CERTIFIED"
    ]
    flow = point["flow"]
    words = [
        f"stationary: {'no' if point['verdict'] == 'NOT_STATIONARY' else 'yes'} "
        f"(residual {point['residual']:.1e}, tolerance {point['tolerance']:.1e})",
        "curvature of a Nash equilibrium: "
        + (
            f"no, the {' and the '.join(negative)} could gain by moving alone"
            if negative
            else "not refuted"
        ),
        f"flow of an LSSP: {_ANSWERS[flow['stability']]} (smallest real part "
        f"{flow['smallest real part']:.2g}, residual {flow['residual']:.1g})",
    ]
    return "; ".join(words)


_ANSWERS = {"stable": "yes", "unstable": "no, it leaves", "undecided": "undecided"}


def check(cases: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Compare with what the module's docstring expects."""
    ends = [case["points"]["end"] for case in cases.values()]
    every = [point for case in cases.values() for point in case["points"].values()]
    return {
        "no point passes for an equilibrium that it is not": all(
            point["verdict"] == "NOT_STATIONARY" for point in every
        ),
        "a generator gains by moving alone at every end": all(
            end["players"][0]["curvature"] == "NOT_PSD_CERTIFIED" for end in ends
        ),
        "negative curvatures are evaluated again": all(
            player["along the witness"] + player["error"] < 0
            for point in every
            for player in point["players"]
            if player["curvature"] == "NOT_PSD_CERTIFIED"
        ),
        "S bounds the flow from below": all(
            point["smallest eigenvalue of S"]
            <= point["flow"]["smallest real part"] + 1e-3 * point["flow"]["scale"]
            for point in every
        ),
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment and write `config.out`.

    Args:
        config: what to run.

    Returns:
        The summary: conclusions, checks, seconds.

    Raises:
        ValueError: if a case is unknown, or the number of steps odd.
        FileExistsError: if the folder holds anything already.
    """
    from gamedyn import files

    from . import pictures, training

    begin = time.perf_counter()
    unknown = set(config.cases) - set(CASES)
    if unknown or config.num_steps % 2:
        raise ValueError(
            f"expected cases among {', '.join(CASES)} and an even number of steps, got "
            f"{', '.join(config.cases)} and {config.num_steps}"
        )
    with files.folder(config.out) as out:
        cases, samples, seconds = {}, {}, {}
        for name in config.cases:
            started = time.perf_counter()
            case = training.make(name, config)
            points = training.train(case, config)
            samples[name] = [case.draw(params) for params in points]
            flat = [np.asarray(ravel_pytree(params)[0]) for params in points]
            np.savez(out / f"{name}.npz", **dict(zip(POINTS, flat, strict=True)))
            trained = time.perf_counter()
            with jax.enable_x64(True):
                wide = training.in_float64(case)
                points = [training.in_float64(params) for params in points]
                keys = jax.random.split(seed_key(config.seed), len(points))
                each = zip(POINTS, points, keys, strict=True)
                cases[name] = {
                    "parameters": [len(ravel_pytree(own)[0]) for own in points[0]],
                    "points": {
                        point: examine(wide, params, config, key)
                        for point, params, key in each
                    },
                    "path": paths(wide, points, config),
                }
            cases[name]["conclusion"] = conclusion(cases[name]["points"]["end"])
            seconds[name] = {
                "training": round(trained - started, 1),
                "analysis": round(time.perf_counter() - trained, 1),
            }
            print(table(name, cases[name]), flush=True)
        for name, figure in {
            "curvature.png": pictures.curvature(cases),
            "jacobian.png": pictures.jacobian(cases),
            "path.png": pictures.path(cases),
            "samples.png": pictures.samples(samples),
        }.items():
            figure.savefig(out / name, dpi=90)
        (out / "table.txt").write_text(
            "\n".join(table(name, case) for name, case in cases.items())
        )
        (out / "findings.json").write_text(json.dumps(cases) + "\n")
    return {
        "conclusions": {name: case["conclusion"] for name, case in cases.items()},
        "checks": check(cases),
        "seconds": seconds | {"all": round(time.perf_counter() - begin, 1)},
    }


def table(name: str, case: dict[str, Any]) -> str:
    """Write what was found about one GAN as text."""
    head = f"{'':8}{'residual':>10}  {'verdict':16}{'if stationary':16}"
    for player in ("generator", "discriminator"):
        head += f"{player + ' min':>18}{'max':>10}"
    lines = [
        f"{name}, {' + '.join(map(str, case['parameters']))} parameters",
        head + f"{'min Re eig J':>22}  flow",
    ]
    for label, point in case["points"].items():
        row = f"{label:8}{point['residual']:10.1e}  {point['verdict']:16}"
        row += f"{point['verdict of the curvature alone']:16}"
        for player in point["players"]:
            mark = "*" if player["curvature"] == "NOT_PSD_CERTIFIED" else " "
            row += f"{player['smallest']:17.2e}{mark}{player['largest']:10.2e}"
        flow = point["flow"]
        real = f"{flow['smallest real part']:.2e} +- {flow['residual']:.0e}"
        lines.append(row + f"{real:>22}  {flow['stability']}")
    lines += ["*: certified negative", f"At the end: {case['conclusion']}."]
    return "\n".join(lines) + "\n"
