"""Count the field evaluations of a rule that is in no registry."""

from typing import Any

import jax
from jax.tree_util import Partial

from gamedyn.analysis.precision import inner_jaxprs
from gamedyn.fields import gradient
from gamedyn.game import Batch, Params
from gamedyn.games import Problem
from gamedyn.rules import Rule

_MARK = "evaluation_of_one_player"


def count_evaluations(rule: Rule, problem: Problem) -> int:
    """Count the joint field evaluations in one step of a rule, from its program.

    One joint evaluation is every player's component once: players who move in turn and
    look at their own components alone cost one together, as dead code costs nothing. A
    loop of fixed length counts all its turns, one that tests a condition a single turn.
    Of several branches the cheapest counts: the others are a first step's, or those of
    a rare refresh.

    Args:
        rule: the rule.
        problem: where it runs; only shapes matter.

    Returns:
        The count, rounded up, at least 1.

    Example:
        >>> import optax
        >>> import gamedyn as gd
        >>> from gamedyn.workbench.evaluations import count_evaluations
        >>> problem = gd.games.bilinear()
        >>> count_evaluations(gd.alternating(optax.sgd(0.1)), problem)
        1
        >>> count_evaluations(gd.runge_kutta(optax.sgd(0.1)), problem)
        4
    """
    field = Partial(_evaluate, gradient(problem.game))

    def update(key: jax.Array) -> Any:
        params = problem.init(key)
        batch = None if problem.sample is None else problem.sample(key)
        batches = (batch,) * rule.num_batches
        return rule.update(field, params, rule.init(params), batches)

    jaxpr = jax.make_jaxpr(update)(jax.random.key(0)).jaxpr
    evaluations = _count(jaxpr, [True] * len(jaxpr.outvars))
    return max(1, -(-evaluations // problem.game.num_players))


def _evaluate(field: Any, params: Params, batch: Batch = None) -> Params:
    """Evaluate every player's component as a program of its own, known by its name."""

    def component(params, batch, player):
        return field(params, batch)[player]

    component.__name__ = _MARK
    marked = jax.jit(component, static_argnums=2)
    return tuple(marked(params, batch, player) for player in range(len(params)))


def _count(jaxpr: Any, needed: list[bool]) -> int:
    """Count the marked programs that the needed outputs depend on, from the end."""
    live = {id(v) for v, need in zip(jaxpr.outvars, needed, strict=True) if need}
    total = 0
    for equation in reversed(jaxpr.eqns):
        outputs = [id(v) in live for v in equation.outvars]
        if not any(outputs):
            continue
        live.update(map(id, equation.invars))
        if _MARK in str(equation.params.get("name", "")):
            total += 1
            continue
        parts = [closed.jaxpr for closed in inner_jaxprs(equation)]
        counts = [
            _count(part, outputs if len(part.outvars) == len(outputs) else _all(part))
            for part in parts
        ]
        kind = equation.primitive.name
        if kind == "cond":
            total += min(counts, default=0)
        else:
            total += sum(counts) * (equation.params["length"] if kind == "scan" else 1)
    return total


def _all(jaxpr: Any) -> list[bool]:
    return [True] * len(jaxpr.outvars)
