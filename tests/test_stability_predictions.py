"""The spectral radius of the update map foretells whether a run converges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.game import Game

RULES = (
    "simultaneous",
    "alternating",
    "negative_momentum",
    "complex_momentum",
    "lookahead",
    "extragradient",
    "extragradient_plus",
    "past_extragradient",
    "optimistic",
    "runge_kutta_4",
)
DIMENSIONS = 2, 2
STEPS = 5_000


def _losses(matrix, params, batch):
    """Quadratic losses whose field is `matrix @ z`: own blocks symmetric."""
    del batch
    x, y = params
    m = len(x)
    own = x @ matrix[:m, :m] @ x / 2, y @ matrix[m:, m:] @ y / 2
    return own[0] + x @ matrix[:m, m:] @ y, own[1] + y @ matrix[m:, :m] @ x


def random_matrix(random):
    """A game Jacobian with its own Hessians of either sign, general-sum or zero-sum."""
    m, n = DIMENSIONS
    own = [random.normal(size=(d, d)) / 2 for d in (m, n)]
    shift = random.uniform(-0.3, 1.0)
    cross = random.normal(size=(m, n))
    other = -cross.T if random.random() < 0.5 else random.normal(size=(n, m))
    return np.block(
        [
            [(own[0] + own[0].T) / 2 + shift * np.eye(m), cross],
            [other, (own[1] + own[1].T) / 2 + shift * np.eye(n)],
        ]
    )


def cases(count, seed):
    """Random (rule, matrix, step size), about as many stable as unstable ones."""
    random = np.random.default_rng(seed)
    zero = tuple(jnp.zeros(d) for d in DIMENSIONS)
    found = {True: [], False: []}
    while min(map(len, found.values())) < count // 2:
        name = RULES[random.integers(len(RULES))]
        matrix = random_matrix(random)
        step = 10 ** random.uniform(-2, 0) / np.linalg.norm(matrix, 2)
        game = Game(Partial(_losses, jnp.asarray(matrix)), 2)
        radius = gd.analysis.spectral_radius(game, gd.rules.make(name, step), zero)
        stable = radius < 1
        if abs(radius - 1) > 2e-3 and len(found[stable]) < count // 2:
            found[stable].append((name, matrix, step, float(radius)))
    return found[True] + found[False]


@functools.partial(jax.jit, static_argnums=0)
def log_distances(name, matrices, steps):
    """Log distances over the last 1,000 of 5,000 steps, started 1e-6 away."""

    def one(point):
        matrix, step = point
        start = tuple(jnp.full(d, 1e-6 / 2) for d in DIMENSIONS)
        rule = gd.rules.make(name, step)
        game = Game(Partial(_losses, matrix), 2)

        def record(params, state, batches, index):
            return jnp.log(optax.tree.norm(rule.output(params, state)))

        first = gd.solve(game, rule, start, STEPS - 1000)
        last = gd.solve(
            game,
            rule,
            first.params,
            1000,
            rule_state=first.rule_state,
            start=first.num_steps,
            record=record,
            every=10,
        )
        return last.trace, first.status

    return gd.sweep(one, (matrices, steps))


def check(count, seed):
    drawn = cases(count, seed)
    for name in {case[0] for case in drawn}:
        group = [case for case in drawn if case[0] == name]
        traces, status = log_distances(
            name,
            jnp.asarray(np.stack([case[1] for case in group])),
            jnp.asarray([case[2] for case in group]),
        )
        for (_, _, step, radius), trace, ended in zip(
            group, np.asarray(traces), status, strict=True
        ):
            told = name, step, radius
            grown = np.isnan(trace) | np.isposinf(trace)
            if ended == gd.Status.NON_FINITE or grown.any():
                assert radius > 1, told  # it grew out of the numbers
            elif np.isneginf(trace).any():
                assert radius < 1, told  # it shrank to zero
            else:
                slope = np.polyfit(np.arange(len(trace)), trace, 1)[0]
                assert np.sign(slope) == np.sign(radius - 1), told
    assert {case[3] > 1 for case in drawn} == {True, False}


def test_the_sign_of_the_slope_is_foretold():
    check(8, seed=0)


@pytest.mark.slow
def test_the_sign_of_the_slope_is_foretold_two_hundred_times():
    check(200, seed=1)
