"""Every registered rule on one protocol, at an equal budget of gradient evaluations."""

import dataclasses
from typing import Any

import jax
import numpy as np

import gamedyn as gd
from gamedyn import nets, rules

from .protocols import Protocol, evaluate
from .setting import MakeRule, Setting, adam, alternating, networks
from .training import points, train

ADAM_RATES = (5e-4, 1.5e-3, 5e-3)
STEP_SIZES = (0.03, 0.1, 0.3)

AS_REGISTERED = ("adam", "extra_adam", "optimistic_adam", "complex_momentum")
"""Rules named after their transformation, hence left as they are: these Adams have
beta1 .9 and a constant step size."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What a rule reached, means over the seeds, at the best of its step sizes.

    Attributes:
        rule: its registered name.
        form: "adam", "registered", or "" if it did not run.
        step_size: the one with most modes, of these the one with the best quality.
        modes: covered.
        quality: the share of high-quality samples.
        reverse_kl: in nats, over the seeds that have a high-quality sample.
        diverged: how many of the seeds ended non-finite; they count as they stood.
        evaluations: gradient evaluations, of both players, of one run.
        seconds: of one run.
        reason: why it did not run.
    """

    rule: str
    form: str = ""
    step_size: float | None = None
    modes: float | None = None
    quality: float | None = None
    reverse_kl: float | None = None
    diverged: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    reason: str = ""


def compare(
    protocol: Protocol,
    setting: Setting,
    seeds: tuple[int, ...],
    budget: int,
    name: str,
) -> Row:
    """Run one registered rule with every step size and seed, one program.

    Args:
        protocol: the data.
        setting: what is trained; its learning rate and length are not used.
        seeds: of the runs.
        budget: gradient evaluations of one run.
        name: of the rule.

    Returns:
        Its row of the table.
    """
    entry = rules.entries()[name]
    evaluations = entry.evaluations(_size(setting))
    if entry.on_simplex:
        return Row(name, reason="takes entropic steps: for players on a simplex")
    if missing := {"finite sum", "constraints"} & set(entry.needs):
        return Row(name, reason=f"needs what a GAN is not: {', '.join(missing)}")
    steps = budget // evaluations
    steps -= steps % setting.stages
    if not steps:
        return Row(
            name, reason=f"one step takes up to {evaluations:,} gradient evaluations"
        )
    setting = dataclasses.replace(setting, num_steps=steps)
    make_rule, form, sizes = _form(name)
    runs = points(setting, seeds, sizes)
    done = train(protocol, setting, runs, make_rule)
    shape = len(sizes), len(seeds)
    scores = evaluate(protocol, done.samples[:, -1])
    modes, quality, kl, _ = (leaf.reshape(shape) for leaf in scores)
    best = max(range(len(sizes)), key=lambda i: (modes[i].mean(), quality[i].mean()))
    finite = np.isfinite(kl[best])
    failed = done.status.reshape(shape)[best] == gd.Status.NON_FINITE
    return Row(
        name,
        form,
        sizes[best],
        round(float(modes[best].mean()), 3),
        round(float(quality[best].mean()), 4),
        round(float(kl[best][finite].mean()), 4) if finite.any() else None,
        int(failed.sum()),
        setting.num_steps * evaluations,
        round(done.seconds / len(runs.seed), 2),
    )


def _form(name: str) -> tuple[MakeRule, str, tuple[float, ...]]:
    """Say how a rule is made, in words too, and the step sizes to try."""
    if name == "alternating":
        return alternating, "adam", ADAM_RATES
    if rules.entries()[name].takes_transformation and name not in AS_REGISTERED:
        return (
            lambda rate, num_steps: rules.make(
                name, rate, transformation=lambda h: adam(h, num_steps)
            ),
            "adam",
            ADAM_RATES,
        )

    def registered(step_size: Any, num_steps: int) -> gd.Rule:
        del num_steps
        return rules.make(name, step_size)

    return registered, "registered", ADAM_RATES if "adam" in name else STEP_SIZES


def _size(setting: Setting) -> int:
    """Count the parameters of both players."""
    shapes = [jax.eval_shape(net.init, jax.random.key(0)) for net in networks(setting)]
    return nets.count_parameters(shapes)
