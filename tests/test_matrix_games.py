"""Zero-sum matrix games on simplices against their linear programmes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn.workbench.compare import compare

VALUES = (
    -0.044277052429,
    0.389831246302,
    0.153585999836,
    0.305147261023,
    0.339362567514,
)
MATRICES = np.stack(
    [np.random.default_rng(s).normal(size=(5, 7)) for s in range(len(VALUES))]
)
UNIFORM = jnp.full(5, 1 / 5), jnp.full(7, 1 / 7)


def gap(matrix, params):
    """The duality gap: what best responses would gain, both players together."""
    x, y = params
    return jnp.max(x @ matrix) - jnp.min(matrix @ y)


def gaps(rule, num_steps, every=None):
    """Duality gaps of the output on all five matrices, over the run or at its end."""

    @jax.jit
    def run(matrices):
        def one(matrix):
            def record(params, state, batches, step):
                return gap(matrix, rule.output(params, state))

            problem = gd.games.matrix_game(matrix, solve=False)
            solution = gd.solve(
                problem.game,
                rule,
                UNIFORM,
                num_steps,
                record=record if every else None,
                every=every or 1,
            )
            return solution.trace, gap(matrix, solution.output), solution.output

        return gd.sweep(one, matrices)

    return run(jnp.asarray(MATRICES))


@pytest.mark.parametrize(
    ("rule", "evaluations"),
    [
        (gd.extragradient(optax.sgd(0.25), geometry=gd.geometry.simplex()), 2),
        (gd.optimistic(optax.sgd(0.12), geometry=gd.geometry.simplex()), 1),
    ],
    ids=["extragradient", "optimistic"],
)
def test_projected_methods_close_the_gap(rule, evaluations):
    _, end, (x, y) = gaps(rule, 20_000 // evaluations)
    assert np.all(end < 1e-6), end
    assert np.all(end > -1e-12)
    values = np.einsum("si,sij,sj->s", x, MATRICES, y)
    np.testing.assert_allclose(values, VALUES, atol=1e-6)


def test_optimistic_multiplicative_weights_close_the_gap():
    rule = gd.rules.make("optimistic_multiplicative_weights", 0.25)
    _, end, _ = gaps(rule, 100_000)
    assert np.all(end < 1e-6), end


def test_averaged_extragradient_has_an_o_of_one_over_t_gap():
    rule = gd.averaged(gd.extragradient(optax.sgd(0.1), geometry=gd.geometry.simplex()))
    trace, _, _ = gaps(rule, 10_000, every=100)
    steps = 100 * np.arange(trace.shape[1])
    window = steps >= 1000
    for curve in np.asarray(trace):
        slope = np.polyfit(np.log(steps[window]), np.log(curve[window]), 1)[0]
        assert slope == pytest.approx(-1, abs=0.15)


def test_multiplicative_weights_do_not_converge_and_say_so():
    rule = gd.rules.make("multiplicative_weights", 0.1)
    _, end, _ = gaps(rule, 20_000)
    assert np.all(end > 1e-2)
    row = compare(gd.games.matrix_game(MATRICES[0]), ["multiplicative_weights"]).rows[0]
    assert "no_contraction" in row.notes
    assert row.behaviour != "converging"
    assert row.residual > 1e-3
