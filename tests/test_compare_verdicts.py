"""What a comparison says of a run holds: passes, units, ties, estimates, dtypes."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdicts import judge

import gamedyn as gd
from gamedyn.cli import main
from gamedyn.workbench import curves, plot, tuning
from gamedyn.workbench.compare import applicable, compare
from gamedyn.workbench.mean_field import full_field, num_batches, standard_error
from gamedyn.workbench.points import scales, tangent
from gamedyn.workbench.race import norm
from gamedyn.workbench.results import columns

F64 = curves.precision("float64")
STEPS = np.arange(1001)
CYCLE = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])


# Curves: a tolerance is met for good, and words are said of the envelope.


@pytest.mark.parametrize("last", range(997, 1001))
def test_a_pass_meets_no_tolerance_wherever_the_run_ends(last):
    curve = np.where(STEPS % 4 == 0, 1e-17, 1 / (1 + STEPS))
    curve[0] = 1.0
    curve, steps = curve[: last + 1], STEPS[: last + 1]
    assert curves.solved(curve, steps, 1e-10) == np.inf
    assert not gd.analysis.measured_rate(curve, steps).reached
    assert curves.direction(curve[None], steps) == "converging"
    assert curves.end(curve) == pytest.approx(1e-3, rel=0.1)


def test_a_tolerance_is_met_from_where_the_curve_stays_below():
    curve = np.where(STEPS < 500, 0.9 ** np.minimum(STEPS, 100), 1e-13)
    curve[300] = 1e-12
    assert curves.solved(curve, STEPS, 1e-10) == 500
    assert curves.reached(np.append(curve, 1.0), np.arange(1002), 1e-10) == np.inf


WORDS = {
    "geometric": (0.99**STEPS, "converging"),
    "one over the work": (1 / (1.0 + STEPS), "converging"),
    "one over its root": ((1.0 + STEPS) ** -0.5, "converging"),
    "oscillating": (0.99**STEPS * np.abs(np.cos(STEPS)), "converging"),
    "level": (2 + np.cos(STEPS / 50), "marginal"),
    "cycle through zero": (np.abs(np.cos(STEPS / 9)), "marginal"),
    "down to a level": (1 + 9 * 0.95**STEPS, "marginal"),
    "up to a level": (1 - 0.9 * 0.95**STEPS, "marginal"),
    "bursts": (np.where(STEPS % 700 < 20, 1.0, 1e-3), "unclear"),
    "stuck far below": (1 / np.minimum(1 + STEPS, 100.0), "unclear"),
    "growing": (1.01**STEPS, "diverging"),
    "growing slowly": ((1.0 + STEPS) ** 0.5, "diverging"),
    "growing and passing": (1.01**STEPS * np.abs(np.sin(STEPS)), "diverging"),
}


@pytest.mark.parametrize("name", WORDS)
@given(exponent=st.integers(-150, 150), unit=st.integers(1, 50))
def test_words_know_no_unit(name, exponent, unit):
    curve, word = WORDS[name]
    scaled = curve * 10.0**exponent
    assert curves.direction(scaled[None], unit * STEPS) == word


def test_the_rate_of_an_oscillating_curve_is_its_envelopes():
    curve = 0.99**STEPS * np.abs(np.cos(1.3 * STEPS)) + 0.99**STEPS * 1e-9
    rate = gd.analysis.measured_rate(curve, STEPS).rate
    assert rate == pytest.approx(0.99, abs=2e-4)


@given(exponent=st.integers(-150, 150), size=st.integers(1, 5))
def test_norms_neither_under_nor_overflow(exponent, size):
    vector = 10.0**exponent * np.arange(1.0, size + 1)
    assert norm((jnp.asarray(vector),)) == pytest.approx(
        10.0**exponent * np.linalg.norm(np.arange(1.0, size + 1)), rel=1e-12
    )


# Tuning: the range of step sizes does not end where its best may lie outside.


def synthetic(best, judge_rates=None):
    """Races whose rate per step is the better the nearer to a best step size."""

    def run(steps):
        rates = 1 - 0.1 / (1 + np.log10(steps / best)[:, None, None] ** 2)
        residual = rates ** STEPS[None, None]
        empty = np.zeros((len(steps), 1))
        return gd.workbench.race.Race(
            None, False, 1, 1, 1, False, STEPS, residual, None, None, None,
            empty[..., None], empty.astype(int),
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("best", "notes"),
    [
        (0.1, ()),
        (10.0, ()),
        (200.0, ("wider",)),
        (3e-5, ("wider",)),
        (1e7, ("wider", "edge")),
    ],
)
def test_a_range_that_ends_too_early_is_widened(best, notes):
    import gamedyn.workbench.race  # noqa: F401

    judge = tuning.Judge(F64, 0.0, bounded=False, continuum=False)
    tuned = tuning.tune(synthetic(best), tuning.GRID, judge, widen=True)
    if best == 10.0:  # the last of the usual ones: whether it is the best is looked at
        notes = ("wider",)
    assert tuned.notes == notes
    if "edge" not in notes:
        assert tuned.step_size == pytest.approx(best, rel=0.2)
    fixed = tuning.tune(synthetic(best), tuning.GRID, judge, widen=False)
    assert fixed.notes == ()


# What does not matter to a game does not matter to its comparison.


@pytest.mark.parametrize("constant", [1.0, 100.0, 1e6, 1e9])
def test_a_constant_moves_nobody_on_a_simplex(constant):
    problem = gd.games.matrix_game(CYCLE + constant)
    shifted = gd.zero_sum(lambda x, y: x @ jnp.asarray(CYCLE + constant) @ y)
    for one in (problem, dataclasses.replace(problem, game=shifted)):
        field, _ = full_field(one)
        found = scales(one, field, one.init(None), F64).lipschitz
        assert found == pytest.approx(3**0.5, rel=1e-6)
    x, y = problem.init(None)
    assert problem.game((x, y))[0] == pytest.approx(x @ CYCLE @ y + constant)


def test_the_affine_hull_of_a_projection_is_found():
    geometries = gd.geometry.simplex(), gd.geometry.box(0.0, 1.0), gd.geometry.euclidean
    game = gd.general_sum(*(lambda x, y, z: jnp.sum(x) + jnp.sum(y) + z,) * 3)
    start = jnp.ones(3) / 3, jnp.ones(2), jnp.array(1.0)
    problem = gd.games.Problem(game, lambda key: start, geometry=geometries)
    expected = np.eye(6)
    expected[:3, :3] -= 1 / 3
    np.testing.assert_allclose(tangent(problem, start), expected, atol=1e-12)
    kuhn = gd.games.make("kuhn_poker")
    hull = tangent(kuhn, kuhn.init(None))
    # 12 sequences and 6 decision points each: one equation for every decision point.
    assert round(np.trace(hull)) == 12


@functools.cache
def tuned_on(exponent, constant):
    matrix = 10.0**exponent * (CYCLE + constant)
    problem = gd.games.matrix_game(matrix, solve=False)
    return compare(problem, ["extragradient"], evaluations=600)


@pytest.mark.parametrize(
    ("exponent", "constant"),
    [
        (-150, 1e6),
        pytest.param(30, 0.0, marks=pytest.mark.slow),
        pytest.param(150, 0.0, marks=pytest.mark.slow),
        pytest.param(0, 1e9, marks=pytest.mark.slow),
    ],
)
def test_units_and_constants_change_no_row(exponent, constant):
    plain, other = tuned_on(0, 0.0).rows[0], tuned_on(exponent, constant).rows[0]
    assert other.to_tolerance == plain.to_tolerance == 338
    assert other.behaviour == plain.behaviour == "converging"
    assert other.step_size * 10.0**exponent == pytest.approx(plain.step_size, rel=1e-6)
    assert other.measured == pytest.approx(plain.measured, abs=1e-3)


@pytest.mark.parametrize(
    "matrix",
    [
        [[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]],
        pytest.param(
            [[-1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_duplicated_strategies_leave_the_distance_blank(matrix):
    problem = gd.games.matrix_game(matrix)
    row = compare(problem, ["extragradient"], step_size=0.25, evaluations=600).rows[0]
    assert row.behaviour == "converging"
    assert row.distance is None
    assert "continuum" in row.notes
    assert row.agrees
    assert row.predicted < 1


# Passes, rest, dtypes, unknown solutions.


@pytest.mark.parametrize("evaluations", [398, 400])
def test_a_rule_that_passes_the_solution_has_not_solved(evaluations):
    row = compare("bilinear", ["feg"], step_size=1.0, evaluations=evaluations).rows[0]
    assert row.to_tolerance is row.solved_in is None
    assert row.behaviour == "converging"
    assert row.residual > 1e-3
    assert "passes" in row.notes


def test_an_excursion_beyond_the_start_refuses_no_step():
    row = compare("bilinear", ["feg"], evaluations=800).rows[0]
    assert row.behaviour == "converging"
    assert "no_contraction" not in row.notes


def test_a_run_that_starts_at_the_solution_is_at_rest_and_has_pictures(tmp_path):
    problem = gd.games.bilinear([[1.0, -1.0], [-1.0, 1.0]])
    solution = problem.solutions[0]
    problem = dataclasses.replace(problem, init=lambda key: solution)
    found = compare(problem, ["extragradient"], evaluations=40)
    row = found.rows[0]
    assert (row.behaviour, row.to_tolerance) == ("at rest", 0)
    assert "rest" in row.notes
    plot.convergence(found).savefig(tmp_path / "picture.png")


def test_tolerances_follow_the_dtype():
    with jax.enable_x64(False):
        found = compare("bilinear", ["extragradient"], evaluations=600)
    row = found.rows[0]
    assert row.behaviour == "converging"
    assert row.to_tolerance == 170
    assert row.agrees
    assert columns(found)[3] == ("to 1e-5", "to_tolerance")
    assert "to 1e-5" in str(found)


def test_a_rate_is_predicted_where_the_runs_arrive():
    game = gd.zero_sum(lambda x, y: (x - 1) ** 2 / 2 + x * y - (y + 2) ** 2 / 2)
    start = jnp.array(1.0), jnp.array(1.0)
    for step, word in ((0.5, "converging"), (1.5, "diverging")):
        rows = compare(game, start, ["simultaneous"], step_size=step, evaluations=100)
        if word == "converging":
            assert rows.rows[0].predicted == pytest.approx(0.5**0.5)
            assert rows.rows[0].agrees
            assert "polished" in rows.rows[0].notes
        else:
            assert rows.rows[0].behaviour == word
            assert "no_solution" in rows.rows[0].notes
        assert rows.rows[0].distance is None


# Stochastic problems are measured against their mean.


def noisy_quadratic(solutions=()):
    game = gd.zero_sum(
        lambda x, y, e: (x - e) ** 2 / 2 + x * y - y**2 / 2, stochastic=True
    )
    start = jnp.array(1.0), jnp.array(1.0)
    draw = lambda key: 3 * jax.random.normal(key)  # noqa: E731
    return gd.games.Problem(game, lambda key: start, solutions, sample=draw)


def test_an_unknown_mean_is_estimated_and_its_error_said():
    problem = noisy_quadratic()
    found = compare(problem, ["simultaneous"], step_size=0.1, evaluations=800)
    assert [row.name for row in found.rows] == ["simultaneous (sampled)"]
    row = found.rows[0]
    assert {"estimated", "stochastic"} <= set(row.notes)
    assert row.behaviour == "noise floor"
    assert found.settings["mean_of"] == 4096
    field, _ = full_field(problem)
    error = standard_error(field, problem.init(None))
    assert error == pytest.approx(3 / 64, rel=0.1)
    assert row.error >= error / 2
    mean = field(problem.init(None))
    assert abs(float(mean[0]) - 2) < 4 * error
    # Far fewer where a batch is large.
    large = dataclasses.replace(problem, sample=lambda key: jnp.zeros(10**6))
    assert num_batches(full_field(large)[0]) == 16


def test_a_stochastic_game_needs_something_to_draw_from():
    game = noisy_quadratic().game
    with pytest.raises(ValueError, match="give a Problem with sample="):
        compare(game, (jnp.array(1.0), jnp.array(1.0)), "adam")


def test_noise_free_ends_of_sampled_runs_are_no_noise_floor():
    problem = gd.games.make("robust_least_squares")
    names, step = ["loopless_svrgda", "stochastic_extragradient"], 0.0032
    found = compare(problem, names, step_size=step, evaluations=12_000)
    reduced, noisy = found.rows
    assert reduced.behaviour == "converging"
    assert reduced.to_tolerance is not None
    assert noisy.behaviour == "noise floor"
    assert noisy.residual > 1e6 * reduced.residual


# A picture that fails costs no numbers.


def test_a_picture_that_fails_costs_no_numbers(folder, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise ValueError("Axis limits cannot be NaN\nor infinite")

    monkeypatch.setattr("gamedyn.workbench.plot.convergence", fail)
    command = ["compare", "--rules", "extragradient", "--steps", "20"]
    assert main([*command, "--step-size", ".1", "--out", "o"]) == 0
    files = {path.name for path in (folder / "o").iterdir()}
    assert {"table.csv", "summary.json", "phase.png", "report.html"} <= files
    assert "convergence.png" not in files
    assert json.loads((folder / "o" / "summary.json").read_text())["rows"]
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "convergence.png could not be drawn: ValueError: Axis limits" in line


# An independent run of twice the budget agrees.

QUICK = {
    "quadratic": ("simultaneous",),
    "forsaken": ("extragradient",),
    "matching_pennies": ("multiplicative_weights",),
    "bilinear": ("feg",),
    "torus": ("alternating",),
}
VARIANTS = {
    "a cycle with a constant": lambda: gd.games.matrix_game(CYCLE + 100),
    "a duplicated strategy": lambda: gd.games.matrix_game(CYCLE[:, [0, 1, 2, 0]]),
    "a rectangle": lambda: gd.games.bilinear([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]),
    "a large unit": lambda: gd.games.bilinear(1e20 * np.eye(2)),
    "a regularised critic": lambda: gd.games.make("dirac_gan", regularisation=0.5),
}
RULES = (
    *("alternating", "optimistic", "feg", "adam", "negative_momentum", "lookahead"),
    *("averaged_extragradient", "past_extragradient", "halpern", "runge_kutta_4"),
)
ON_SIMPLICES = ("mirror_prox", "multiplicative_weights", "regret_matching")


def check(problem, rules, evaluations):
    found = compare(problem, rules, evaluations=evaluations)
    wrong = [
        judge(problem, row, evaluations)
        for row in found.rows
        if row.rule and "(sampled)" not in row.name
    ]
    assert not any(wrong), "\n".join(filter(None, wrong)) + f"\n{found}"


@pytest.mark.parametrize("name", QUICK)
def test_a_run_twice_as_long_agrees(name):
    check(gd.games.make(name), list(QUICK[name]), 300)


def zoo():
    return [*(n for n, e in gd.games.entries().items() if not e.files), *VARIANTS]


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo())
def test_a_run_twice_as_long_agrees_on_every_game(name):
    problem = VARIANTS[name]() if name in VARIANTS else gd.games.make(name)
    # Two rules on every game, and of the others some on each.
    first = 3 * zoo().index(name) % len(RULES)
    others = (RULES + RULES)[first : first + 3] + ON_SIMPLICES[first % 3 :][:1]
    rules = ("extragradient", "simultaneous", *others)
    rules = [rule for rule in rules if rule in applicable(problem)]
    with jax.numpy_dtype_promotion("standard"):
        check(problem, rules, 1000)


def test_the_zoo_is_large_enough():
    assert len(zoo()) >= 60


FLOORS = {
    "mean_wgan": (0.1, 8000),
    "covariance_wgan": (0.02, 8000),
    "scaled_bilinear": (0.02, 8000),
    "robust_least_squares": (None, 8000),
    "noisy quadratic": (0.1, 8000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_is_that_of_a_long_run(name):
    step, evaluations = FLOORS[name]
    problem = noisy_quadratic() if name not in gd.games.names() else gd.games.make(name)
    rules = ["extragradient"]
    options = {} if step is None else {"step_size": step}
    short = compare(problem, rules, evaluations=evaluations, **options).rows[-1]
    assert short.behaviour == "noise floor", short
    again = {"step_size": short.step_size, "seed": 1}
    long = compare(problem, rules, evaluations=5 * evaluations, **again).rows[-1]
    assert long.behaviour == "noise floor", long
    error = np.hypot(short.error, long.error)
    assert abs(short.residual - long.residual) < 4 * error + 0.05 * long.residual
