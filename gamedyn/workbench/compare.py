"""Compare update rules on one problem: tune, run, measure, and predict.

Dimensions as in `gamedyn.workbench.race`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, overload

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from gamedyn import methods
from gamedyn import rules as registry
from gamedyn.checks import check_positive, check_positive_integer
from gamedyn.game import Game, Params
from gamedyn.games import Problem
from gamedyn.rules import Rule
from gamedyn.seeds import seed_key
from gamedyn.workbench.curves import precision
from gamedyn.workbench.mean_field import (
    check_batches,
    full_field,
    has_mean,
    num_batches,
)
from gamedyn.workbench.points import known_solutions, scales, targets
from gamedyn.workbench.problems import as_problem, by_name, no_rule
from gamedyn.workbench.race import Race, draw_starts, misfit, racer
from gamedyn.workbench.results import NOTES, TOLERANCE, Comparison, Curve, Row
from gamedyn.workbench.summaries import Entrant, summarise
from gamedyn.workbench.tuning import GRID, Judge, Tuned, tune

__all__ = [
    "GRID",
    "NOTES",
    "REFERENCE",
    "SAMPLED",
    "TOLERANCE",
    "Comparison",
    "Curve",
    "Row",
    "Rules",
    "applicable",
    "compare",
]

Rules: TypeAlias = (
    str
    | Rule
    | tuple[str, Rule]
    | Mapping[str, Rule]
    | Iterable[str | Rule | tuple[str, Rule]]
    | None
)
"""What `compare` takes as rules: names, rules, and rules with labels, mixed freely."""

REFERENCE = "extragradient"
"""At whose tuned step a rule is shown that no step size makes contract."""

SAMPLED = (
    "simultaneous",
    "alternating",
    "extragradient",
    "stochastic_extragradient",
    "averaged_extragradient",
    "optimistic",
    "adam",
    "extra_adam",
)
"""The rules that are also run on minibatches of a finite sum, if none are named."""


def applicable(problem: Problem, num_players: int | None = None) -> tuple[str, ...]:
    """Name the registered rules that are defined on a problem's domains.

    Args:
        problem: the problem.
        num_players: its number of players; that of its game if `None`.

    Returns:
        Names, in the order of the registry.
    """
    n = problem.game.num_players if num_players is None else num_players
    return tuple(name for name in registry.names() if misfit(name, problem, n) is None)


@overload
def compare(
    problem: Problem | str,
    rules: Rules = None,
    *,
    evaluations: int = 4000,
    step_size: float | Literal["auto"] = "auto",
    seeds: int = 1,
    noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[str], None] = ...,
    names: Rules = None,
) -> Comparison: ...


@overload
def compare(
    problem: Game,
    start: Params,
    rules: Rules = None,
    *,
    evaluations: int = 4000,
    step_size: float | Literal["auto"] = "auto",
    seeds: int = 1,
    noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[str], None] = ...,
    names: Rules = None,
) -> Comparison: ...


# The second argument is a game's start or a problem's rules, as the overloads say.
def compare(  # pyright: ignore[reportInconsistentOverload]
    problem: Problem | Game | str,
    start: Any = None,
    rules: Rules = None,
    *,
    evaluations: int = 4000,
    step_size: float | Literal["auto"] = "auto",
    seeds: int = 1,
    noise: float = 0.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda name: None,
    names: Rules = None,
) -> Comparison:
    r"""Run rules side by side on a game, with equal budgets of field evaluations.

    Call it as `compare(problem, rules)` or `compare(game, start, rules)`. Every row
    holds the measured rate r per field evaluation beside the predicted one,

    $$r = \exp(\text{slope of } \log d_k), \qquad
      p = \rho\bigl(D\Phi(z^*)\bigr)^{1/e},$$

    $d_k$ the distance to the solution $z^*$ after k evaluations, $\Phi$ the rule's own
    update map, its memory included, e the evaluations it takes, $\rho$ the spectral
    radius; see `analysis.measured_rate` and `analysis.update_jacobian`.

    Every word is said of the upper envelope of the natural residual: a tolerance is met
    from the evaluation on from which the residual stays below it.

    With `step_size="auto"` every registered rule is tuned by one vmapped sweep over the
    41 step sizes `GRID / L`, L the spectral norm of the game's Jacobian at the start
    along the affine hull of the domains, each with the full budget: the fewest
    evaluations until the natural residual is below 1e-10 of its start for good win (in
    float32 1e-5, see `curves.precision`; where none gets there, the smallest residual
    over the last eighth), ties go to the smallest step. Where the best is the first or
    the last of them, more decades are tried, up to three. Tuning uses the median over
    the seeds.

    A stochastic problem is measured against its mean field: the finite sum, the
    declared mean, or else a mean over many frozen batches with its standard error;
    without a known mean its rules run on batches only. Rates are predicted at the known
    solution nearest to the end of a run; where none is known, or the run went
    elsewhere, at its own end, polished by Newton's method.

    Args:
        problem: a problem; the name of a registered game; or a deterministic game.
        start: where a game starts, a tuple of one pytree per player. A problem has its
            own start: its rules come second.
        rules: names of registered rules or other methods (`methods.names()`), `Rule`
            objects, pairs `(label, rule)`, or a mapping of labels to rules; a single
            name, rule or pair will do. A `Rule` has no step size to tune: it runs as it
            is, on the gradient field and on the domains that it was built with,
            whatever those of the problem are. All registered rules that apply if
            `None`.
        evaluations: the budget of joint field evaluations for each rule.
        step_size: one positive number for all registered rules, or "auto".
        seeds: the number s of starts (and noise sequences); numbers are their medians.
            The first start is the problem's own.
        noise: standard deviation of Gaussian noise added to every coordinate of the
            field.
        seed: the seed of the random keys.
        progress: called with each row's name before it runs.
        names: the former name of `rules`.

    Returns:
        The comparison: `rows`, one per rule, and `curves` by the rows' names; `print`
        shows a table.

    Raises:
        TypeError: if a game comes without a start, a problem with one, something else
            is among the rules, or the step size is neither a number nor "auto".
        ValueError: if a name is unknown or not defined on the problem, a label occurs
            twice, no rule is given, or a number is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> import gamedyn as gd
        >>> game = gd.zero_sum(lambda x, y: x * y)
        >>> start = jnp.array(1.0), jnp.array(1.0)
        >>> mine = ("mine", gd.optimistic(optax.sgd(0.3)))
        >>> comparison = gd.compare(
        ...     game, start, ["extragradient", mine], step_size=0.5, evaluations=200
        ... )
        >>> [(row.name, row.behaviour) for row in comparison.rows]
        [('extragradient', 'converging'), ('mine', 'converging')]
    """
    # The problem and the rules, in whichever of the two forms they are given.
    problem = by_name(problem)
    if isinstance(problem, Problem) and start is not None and rules is None:
        start, rules = None, start
    if rules is not None and names is not None:
        raise TypeError("compare takes rules or, as they were called, names: not both")
    problem = as_problem(problem, start, caller="compare")
    check_positive_integer("evaluations", evaluations)
    check_positive_integer("seeds", seeds)
    if step_size != "auto":
        if isinstance(step_size, str):
            raise TypeError(
                f'step_size must be a positive number or "auto", got {step_size!r}'
            )
        check_positive("step_size", step_size)
    if not noise >= 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    if noise and problem.sample is not None:
        raise ValueError("noise is for deterministic games; this one is stochastic")

    check_batches(problem)

    # Starts, keys, and the step sizes in units of 1/L.
    starts = draw_starts(problem, seeds, seed)
    first = jax.tree.map(lambda leaf: leaf[0], starts)
    field, batch = full_field(problem)
    to = precision(ravel_pytree(first)[0].dtype)
    scale = scales(problem, field, first, to)
    grid = GRID / scale.lipschitz
    if step_size != "auto":
        grid = np.array([float(step_size)])
    entrants = _entrants(problem, rules if names is None else names, noise > 0)
    keys = jax.random.split(seed_key(seed), seeds)
    known = known_solutions(problem, field, scale, to)
    judge = Judge(to, scale.rounding, known.bounded, known.continuum)

    def runs_of(entrant: Entrant) -> Callable[[np.ndarray], Race]:
        return racer(
            problem,
            entrant.method,
            starts,
            evaluations,
            keys,
            sampled=entrant.sampled,
            noise=noise,
            unit=scale.unit,
        )

    def tuned(entrant: Entrant, run: Callable[[np.ndarray], Race]) -> Tuned:
        if isinstance(entrant.method, Rule):
            return tune(run, np.ones(1), judge, widen=False)
        return tune(run, grid, judge, widen=step_size == "auto")

    references: dict[bool, float] = {}

    def reference(sampled: bool) -> float:
        """Extragradient's tuned step, computed when first asked for."""
        if sampled not in references:
            entrant = Entrant(REFERENCE, REFERENCE, sampled)
            references[sampled] = tuned(entrant, runs_of(entrant)).step_size
        return references[sampled]

    # One race per row, of which the best step size is kept.
    runs: list[Tuned] = []
    for entrant in entrants:
        progress(entrant.label)
        run = runs_of(entrant)
        best = tuned(entrant, run)
        if entrant.method == REFERENCE:
            references[entrant.sampled] = best.step_size
        if (
            not best.contracts
            and step_size == "auto"
            and isinstance(entrant.method, str)
        ):
            size = reference(entrant.sampled)
            best = Tuned(run(np.array([size])), size, False, ("no_contraction",))
        runs.append(best)

    # Where each of them ended, and what it did.
    races = [best.race for best in runs]
    places = targets(problem, field, first, known, races, scale, to)
    rows, curves = [], {}
    for entrant, best, target in zip(entrants, runs, places, strict=True):
        row, curve = summarise(
            entrant,
            best.race,
            best.step_size,
            problem,
            field,
            target,
            scale,
            to,
            best.notes,
        )
        rows.append(row)
        curves[entrant.label] = curve

    settings = {
        "game": problem.info.name,
        "evaluations": evaluations,
        "step_size": step_size,
        "seeds": seeds,
        "noise": noise,
        "seed": seed,
        "lipschitz": scale.lipschitz,
        "tolerance": to.tolerance,
        "floor": to.floor,
        "dimension": int(sum(leaf.size for leaf in jax.tree.leaves(first))),
        "dtype": str(ravel_pytree(first)[0].dtype),
        "full_batch": None if batch is None else int(jax.tree.leaves(batch)[0].size),
        "mean_of": num_batches(field),
    }
    return Comparison(problem, settings, tuple(rows), curves)


def _entrants(problem: Problem, rules: Rules, noisy: bool) -> list[Entrant]:
    """List the rows: which rules run, and which of them on minibatches."""
    given = _labelled(rules)
    if rules is not None and not given:
        raise ValueError("no rules to compare: name one, or give None for all")
    n = problem.game.num_players
    for name in (method for _, method in given if isinstance(method, str)):
        reason = misfit(name, problem, n)
        if reason is not None:
            raise ValueError(f"the rule {name!r} {reason}")
    chosen = given or [(name, name) for name in applicable(problem, n)]
    labels = [label for label, _ in chosen]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a rule is named twice in {', '.join(labels)}")

    # In full: not what only exists on minibatches, nor, unless there is nothing to
    # sample, rules whose independent samples make a difference only where there is.
    stochastic = noisy or problem.sample is not None
    known = has_mean(problem)
    everyone = [Entrant(*pair) for pair in chosen]
    needs = {
        entrant.label: methods.entry(entrant.method).needs
        if isinstance(entrant.method, str)
        else ()
        for entrant in everyone
    }
    entrants = [
        entrant
        for entrant in everyone
        if known
        and "finite sum" not in needs[entrant.label]
        and (
            noisy
            or "independent batches" not in needs[entrant.label]
            or (given and not stochastic)
        )
    ]

    # On minibatches: whatever was asked for, else a selection.
    if problem.sample is not None:
        entrants += [
            entrant._replace(label=f"{entrant.label} (sampled)", sampled=True)
            for entrant in everyone
            if given or entrant.label in SAMPLED or "finite sum" in needs[entrant.label]
        ]
    return entrants


def _labelled(rules: Rules) -> list[tuple[str, str | Rule]]:
    """Bring what `compare` takes as rules into pairs of a label and a method."""
    if rules is None:
        return []
    match rules:  # a Rule is a tuple, too
        case str() | Rule():
            rules = [rules]
        case (str() as label, Rule() as rule) if isinstance(rules, tuple):
            rules = [(label, rule)]
    items = rules.items() if isinstance(rules, Mapping) else rules
    if not isinstance(items, Iterable):
        raise no_rule(_RULES, rules)
    pairs: list[tuple[str, str | Rule]] = []
    for item in items:
        match item:
            case str():
                name = item.replace("-", "_")
                pairs.append((name, name))
            case Rule():
                pairs.append((f"rule {len(pairs) + 1}", item))
            case (str() as label, Rule() as rule):
                pairs.append((label, rule))
            case _:
                raise no_rule(_RULES, item)
    return pairs


_RULES = (
    "rules are names, Rule objects, pairs (label, Rule) or a mapping of labels to Rules"
)
