"""Theory meets measurement: the engine behind `gamedyn compare`."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd
from gamedyn.workbench.compare import GRID, NOTES, compare
from gamedyn.workbench.evaluations import count_evaluations

QUICK = ("simultaneous", "alternating", "extragradient", "optimistic", "lookahead")
SEVERAL = (
    *QUICK,
    "adam",
    "adaptive_golden_ratio",
    "alex_gda",
    "anderson",
    "averaged_extragradient",
    "complex_momentum",
    "eag_v",
    "negative_momentum",
    "past_extragradient",
    "proximal_point",
    "runge_kutta_2",
    "runge_kutta_4",
)


@pytest.fixture(scope="module")
def at_one_tenth():
    """Rules of every kind on x*y at step .1."""
    # Adam's bias correction mixes dtypes, inside optax.
    with jax.numpy_dtype_promotion("standard"):
        return compare(gd.games.make("bilinear"), SEVERAL, step_size=0.1)


@pytest.fixture(scope="module")
def tuned():
    return compare(gd.games.make("bilinear"), QUICK)


def by_name(comparison):
    return {row.name: row for row in comparison.rows}


def autonomous(comparison):
    rows = [row for row in comparison.rows if row.predicted is not None]
    assert len(rows) >= 4
    return rows


def check_theory(comparison):
    """Judge every autonomous rule from the curves themselves, by the stated bound."""
    for row in autonomous(comparison):
        curve = comparison.curves[row.name]
        distance = curve.distance[0]
        below = distance < 1e-12 * distance[0]
        stop = int(below.argmax()) if below.any() else len(distance) - 1
        if not np.isfinite(distance).all():
            stop = int(np.isfinite(distance).argmin()) - 1
        n = int(curve.evaluations[stop])
        if below.any() and (n < 40 or row.predicted < 0.2):
            assert row.solved_in == n, row
            assert row.measured is None
            continue
        log_p = math.log(row.predicted)
        if abs(log_p) < 1e-9:
            ratio = distance.max() / distance.min()
            assert ratio < 10, row
            assert row.behaviour == "marginal"
            continue
        window = curve.evaluations[:stop] >= n / 2
        if window.sum() < 3:  # it was there within a few periods
            assert below.any(), row
            assert row.measured is None
            continue
        x, y = curve.evaluations[:stop][window], np.log(distance[:stop][window])
        slope = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0][0]
        assert abs(slope - log_p) <= 0.02 * abs(log_p) + 2 / n, row
        assert row.behaviour == ("converging" if slope < 0 else "diverging")
        if "diverged" in row.notes:  # a run that ends in overflow has no rate
            assert row.measured is None
            continue
        assert row.measured == pytest.approx(math.exp(slope), abs=1e-3)
        assert row.agrees


def test_rules_at_one_tenth_meet_their_prediction(at_one_tenth):
    assert {row.name for row in at_one_tenth.rows} == set(SEVERAL)
    check_theory(at_one_tenth)


@pytest.mark.slow
def test_every_rule_at_one_tenth_meets_its_prediction():
    with jax.numpy_dtype_promotion("standard"):
        check_theory(compare(gd.games.make("bilinear"), step_size=0.1))


def test_tuned_rules_meet_their_prediction(tuned):
    check_theory(tuned)


@pytest.mark.slow
def test_every_tuned_rule_meets_its_prediction():
    with jax.numpy_dtype_promotion("standard"):
        check_theory(compare(gd.games.make("bilinear")))


def test_a_predictor_that_always_says_one_fails(at_one_tenth, tuned):
    for comparison in (at_one_tenth, tuned):
        rows = tuple(
            dataclasses.replace(row, predicted=1.0) if row.predicted else row
            for row in comparison.rows
        )
        fooled = dataclasses.replace(comparison, rows=rows)
        with pytest.raises(AssertionError):
            check_theory(fooled)
        assert not all(row.agrees for row in rows if row.measured is not None)


def test_words_at_one_tenth(at_one_tenth):
    rows = by_name(at_one_tenth)
    assert rows["simultaneous"].behaviour == "diverging"
    assert rows["alternating"].behaviour == "marginal"
    assert rows["extragradient"].behaviour == "converging"
    assert rows["runge_kutta_2"].behaviour == "diverging"
    assert rows["extragradient"].predicted == pytest.approx(0.995037687728**0.5)
    assert rows["eag_v"].predicted is None
    assert "not_autonomous" in rows["eag_v"].notes
    assert "not_differentiable" in rows["adam"].notes
    assert all(key in NOTES for row in at_one_tenth.rows for key in row.notes)


def test_budget_is_counted_in_evaluations(at_one_tenth):
    rows = by_name(at_one_tenth)
    for row in rows.values():
        assert row.evaluations <= 4000
        assert row.evaluations > 4000 - 5 * row.evaluations_per_step
        curve = at_one_tenth.curves[row.name]
        assert curve.evaluations[-1] == row.evaluations
        assert curve.residual.shape == (1, len(curve.evaluations))
    assert rows["runge_kutta_4"].evaluations_per_step == 4


def test_tuning_finds_the_best_of_the_grid(tuned):
    rows = by_name(tuned)
    bound = tuned.settings["lipschitz"]
    assert bound == pytest.approx(1.0)
    for row in rows.values():
        assert np.isclose(row.step_size * bound, GRID).any()
    # Closed form: extragradient contracts by sqrt(1 - a^2 + a^4) per step.
    needed = [
        2 * math.ceil(math.log(1e-10) / (0.5 * math.log(1 - a**2 + a**4)))
        for a in GRID[GRID < 0.999]
    ]
    row = rows["extragradient"]
    assert row.step_size == pytest.approx(GRID[int(np.argmin(needed))])
    assert row.to_tolerance == pytest.approx(min(needed), abs=4)


def test_rules_that_nothing_makes_contract_stand_at_extragradients_step(tuned):
    rows = by_name(tuned)
    for name in ("simultaneous", "alternating"):
        assert "no_contraction" in rows[name].notes
        assert rows[name].step_size == rows["extragradient"].step_size
    for name in ("extragradient", "optimistic", "lookahead"):
        assert "no_contraction" not in rows[name].notes
    alone = compare(gd.games.make("bilinear"), ["simultaneous"])
    assert alone.rows[0].step_size == rows["extragradient"].step_size


def test_a_run_that_explodes_is_shown_as_diverged_with_a_finite_point():
    row = compare(gd.games.make("bilinear"), ["simultaneous"], step_size=1e3).rows[0]
    assert row.status == "DIVERGED"
    assert row.behaviour == "diverging"
    assert "diverged" in row.notes
    assert math.isfinite(row.residual)
    assert math.isfinite(row.distance)


def test_seeds_are_medians_over_starts():
    names = ("extragradient",)
    many = compare(gd.games.make("bilinear"), names, step_size=0.5, seeds=5)
    curve = many.curves["extragradient"]
    assert curve.residual.shape[0] == 5
    assert len(np.unique(curve.residual[:, 0])) == 5
    assert many.rows[0].residual == pytest.approx(np.median(curve.residual[:, -1]))


def test_noise_leaves_a_floor():
    row = compare(
        gd.games.make("bilinear"), ["extragradient"], step_size=0.3, noise=1e-3
    ).rows[0]
    assert row.behaviour == "noise floor"
    assert 1e-5 < row.residual < 1e-1
    assert row.predicted is None


def test_float32_reaches_its_own_floor():
    with jax.enable_x64(False):
        found = compare(gd.games.make("bilinear"), ["extragradient"], step_size=0.5)
    assert found.settings["dtype"] == "float32"
    assert found.rows[0].agrees


def test_rectangular_games_have_a_continuum_of_solutions():
    matrix = np.random.default_rng(0).normal(size=(2, 3))
    row = compare(gd.games.bilinear(matrix), ["extragradient"]).rows[0]
    assert "continuum" in row.notes
    assert row.agrees
    assert row.predicted < 1


def test_games_without_known_solutions():
    start = jnp.array([1.0]), jnp.array([2.0])
    problem = gd.games.Problem(
        gd.zero_sum(lambda x, y: jnp.sum(x * y)), lambda key: start
    )
    row = compare(problem, ["extragradient"], step_size=0.5).rows[0]
    assert row.distance is None
    assert row.measured == pytest.approx((1 - 0.25 + 0.0625) ** 0.25, abs=1e-3)


def test_real_data_is_solved_in_full_and_floors_on_minibatches():
    problem = gd.games.make("breast_cancer_logistic")
    found = compare(problem, ["optimistic"], step_size=0.63, evaluations=2000)
    full, sampled = found.rows
    residual = found.curves[full.name].residual[0]
    assert full.name == "optimistic"
    assert residual[-1] < 1e-4 * residual[0]
    assert full.distance < 1e-4  # to a solution found by other means
    assert full.agrees
    assert sampled.name == "optimistic (sampled)"
    assert sampled.behaviour == "noise floor"
    assert sampled.residual > 100 * full.residual


def test_variance_reduction_runs_on_minibatches_alone():
    problem = gd.games.make("stochastic_bilinear", num_components=4)
    names = ["extragradient_variance_reduced", "stochastic_extragradient"]
    found = compare(problem, names, step_size=0.5, evaluations=9000)
    assert [row.name for row in found.rows] == [f"{name} (sampled)" for name in names]
    reduced, noisy = found.rows
    assert reduced.residual < 1e-3 * noisy.residual
    assert reduced.evaluations_per_step == 3


def test_numbers_and_names_are_checked():
    problem = gd.games.make("bilinear")
    for bad in ({"evaluations": 0}, {"seeds": 0}, {"step_size": -1.0}, {"noise": -1}):
        with pytest.raises(ValueError, match="must"):
            compare(problem, **bad)
    with pytest.raises(ValueError, match="did you mean"):
        compare(problem, ["extra_gradient"])
    with pytest.raises(ValueError, match="simplex"):
        compare(problem, ["mirror_prox"])
    with pytest.raises(ValueError, match="is for finite sums"):
        compare(problem, ["svre"])
    with pytest.raises(ValueError, match="needs inequality constraints"):
        compare(problem, ["interior_point"])
    with pytest.raises(ValueError, match="is for 2 players, this game has 4"):
        compare(gd.games.make("symplectic_four_player"), ["inner_steps"])
    with pytest.raises(ValueError, match="twice"):
        compare(problem, ["optimistic", "optimistic"])


def test_corrected_fields_meet_their_prediction_at_their_honest_cost():
    names = ("consensus", "competitive", "competitive_gradient", "two_time_scales")
    found = compare(gd.games.make("bilinear"), names, evaluations=1200, step_size=0.5)
    rows = by_name(found)
    assert set(rows) == set(names)
    for row in rows.values():
        assert row.agrees or row.name == "two_time_scales", row
    assert rows["consensus"].evaluations_per_step == 3
    assert rows["consensus"].notes == ("corrected",)
    assert "implicit" in rows["competitive"].notes
    radius = rows["consensus"].predicted ** 3
    np.testing.assert_allclose(radius, np.hypot(0.5, 0.5), rtol=1e-9)
    assert rows["two_time_scales"].behaviour == "diverging"


def test_a_field_that_does_not_fit_the_game_says_so():
    with pytest.raises(ValueError, match="'follow_the_ridge' is for 2 players, this"):
        compare(gd.games.make("symplectic_four_player"), ("follow_the_ridge",))


# What a notebook gives: a game and its start, names and rules in any mixture.


@pytest.fixture(scope="module")
def mixed():
    """A game and its start, and one rule in every form."""
    rules = [
        "past-extragradient",
        gd.extragradient(optax.sgd(0.1)),
        ("mine", gd.lookahead(gd.simultaneous(optax.sgd(0.1)), period=5, strength=0.5)),
    ]
    game = gd.zero_sum(lambda x, y: x * y)
    return gd.compare(game, (1.0, jnp.array(2.0)), rules, evaluations=400)


def test_a_game_and_its_start_names_and_rules(mixed, at_one_tenth):
    assert [row.name for row in mixed.rows] == ["past_extragradient", "rule 2", "mine"]
    assert [row.rule for row in mixed.rows] == ["past_extragradient", None, None]
    named, unlabelled, labelled = mixed.rows
    assert named.step_size == pytest.approx(0.5, rel=0.2)
    assert unlabelled.step_size is labelled.step_size is None
    assert unlabelled.notes == ("own", "polished")
    assert "own" not in named.notes
    # The same rules by name and step size have the same rates.
    rows = by_name(at_one_tenth)
    for row, name in ((unlabelled, "extragradient"), (labelled, "lookahead")):
        assert row.evaluations_per_step == rows[name].evaluations_per_step
        assert row.measured == pytest.approx(rows[name].measured, rel=1e-3)


def test_rules_of_ones_own_meet_their_prediction():
    rules = {"a": gd.runge_kutta(optax.sgd(0.5)), "b": gd.alternating(optax.adam(0.1))}
    with jax.numpy_dtype_promotion("standard"):
        found = gd.compare(gd.games.make("quadratic"), rules, evaluations=400)
    assert [row.name for row in found.rows] == ["a", "b"]
    assert found.rows[0].agrees
    assert found.rows[0].evaluations_per_step == 4
    assert found.rows[1].evaluations_per_step == 1
    assert found.rows[1].predicted is None  # Adam has no Jacobian at the solution


def test_rules_of_ones_own_run_on_minibatches_too():
    problem = gd.games.make("stochastic_bilinear", num_components=4)
    rule = gd.extragradient(optax.sgd(0.2), resample=True)
    found = gd.compare(problem, rule, evaluations=400)
    assert [row.name for row in found.rows] == ["rule 1", "rule 1 (sampled)"]
    assert found.rows[1].behaviour == "noise floor"


def test_one_name_will_do_by_any_keyword():
    problem = gd.games.make("bilinear")
    options = {"step_size": 0.1, "evaluations": 20}
    for given in ({"rules": "optimistic"}, {"names": ["optimistic"]}):
        rows = gd.compare(problem, **given, **options).rows
        assert [row.name for row in rows] == ["optimistic"]
    game, start = problem.game, problem.init(None)
    rows = gd.compare(game, rules=("optimistic",), start=start, **options).rows
    assert [row.name for row in rows] == ["optimistic"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["game"], {}, r"needs a point of the Game: compare\(game, start"),
        (["game", ["optimistic"]], {}, "needs a point of the Game"),
        ([3], {}, "takes a Problem, .* or a Game and a point, got int"),
        (["problem", "optimistic", "optimistic"], {}, "takes a start with a Game"),
        (["problem"], {"rules": "adam", "names": "adam"}, "not both"),
        (["problem", 3], {}, "rules are names, Rule objects, .* got int"),
        (["problem", [("a", "adam")]], {}, "rules are names, .* got tuple"),
        (["problem", "adam", "sgd"], {}, r"as one list: compare\(problem, \["),
        (["problem", gd.extragradient], {}, "got the function extragradient: build"),
        (["problem", [gd.extragradient]], {}, "got the function extragradient: build"),
        (["problem", "adam"], {"step_size": "Auto"}, 'positive number or "auto", got'),
        (
            ["problem", "adam"],
            {"step_size": None},
            "step_size must be a positive number",
        ),
    ],
)
def test_what_is_no_game_or_no_rule_is_one_line(arguments, options, message):
    problem = gd.games.make("bilinear")
    known = {"game": problem.game, "problem": problem}
    given = [known.get(one, one) if isinstance(one, str) else one for one in arguments]
    with pytest.raises(TypeError, match=message) as error:
        gd.compare(*given, **options)
    assert len(str(error.value).splitlines()) == 1


def test_labels_and_starts_are_checked():
    problem = gd.games.make("bilinear")
    rule = gd.simultaneous(optax.sgd(0.1))
    with pytest.raises(ValueError, match="twice in adam, adam"):
        gd.compare(problem, ["adam", ("adam", rule)])
    with pytest.raises(ValueError, match="parameters of 2 players, got 1"):
        gd.compare(problem.game, (1.0,), rule)
    for nothing in ([], (), {}):
        with pytest.raises(ValueError, match="no rules to compare"):
            gd.compare(problem, nothing)
    with pytest.raises(TypeError, match="init must be a function of a key"):
        gd.Problem(problem.game, (1.0, 1.0))
    with pytest.raises(ValueError, match="unknown game 'bilinea'"):
        gd.compare("bilinea")


def test_a_registered_game_and_a_labelled_rule_will_do():
    mine = ("mine", gd.simultaneous(optax.sgd(0.1)))
    comparison = gd.compare("bilinear", mine, evaluations=20)
    assert comparison.problem.info.name == "bilinear"
    assert [row.name for row in comparison.rows] == ["mine"]
    # Nothing was tuned, and nothing says so.
    assert "tuned" not in str(comparison)
    assert "step size" not in str(comparison).splitlines()[0]
    both = gd.compare("bilinear", ["optimistic", mine], evaluations=20)
    assert "each registered rule tuned over 41" in str(both)
    assert both != comparison
    assert len({both, comparison, *both.curves.values()}) == 4


def test_rules_of_ones_own_keep_to_their_domains_and_the_row_says_so():
    problem = gd.games.make("prisoners_dilemma")
    rules = ["extragradient", gd.extragradient(optax.sgd(0.1))]
    named, own = gd.compare(problem, rules, step_size=0.1, evaluations=20).rows
    assert "domains" in own.notes
    assert "domains" not in named.notes
    free = gd.compare("bilinear", rules[1], evaluations=20).rows[0]
    assert "domains" not in free.notes


def test_pictures_of_a_comparison():
    comparison = gd.compare("bilinear", QUICK[:2], step_size=0.1, evaluations=20)
    given = gd.plot.convergence(comparison.curves, comparison.families(), "title")
    figure = gd.plot.convergence(comparison)
    assert [axis.get_title() for axis in figure.axes] == [
        axis.get_title() for axis in given.axes
    ]
    assert given.get_suptitle() == "title"
    assert figure.get_suptitle() == "bilinear: residual against work"
    figure = gd.plot.phase(comparison)
    assert [axis.get_title() for axis in figure.axes[:2]] == list(QUICK[:2])
    assert figure.get_suptitle().startswith("bilinear: trajectories\n")
    with pytest.raises(TypeError, match="curves need a field and a start"):
        gd.plot.phase(comparison.curves)


def test_a_comparison_prints_as_a_table(mixed):
    lines = str(mixed).splitlines()
    assert lines[0].startswith("game in 2 dimensions, float64; 400 gradient")
    assert [line.split()[0] for line in lines[2:6]] == [
        "rule",
        "past_extragradient",
        "rule",
        "mine",
    ]
    assert "a rule of the caller's own" in str(mixed)
    assert repr(mixed) == str(mixed)


# Counted otherwise in the registry: snapshots of a finite sum as they amortise, line
# searches and stochastic Jacobians by the publications.
OTHERWISE = {
    "adaptive_competitive_gradient",
    "alternating_variance_reduced",
    "competitive_gradient",
    "curvature_extragradient_plus",
    "extragradient_variance_reduced",
    "forward_reflected_variance_reduced",
    "loopless_svrgda",
    "stochastic_hamiltonian",
    "svre",
    "vr_diana",
}


def test_evaluations_are_counted_from_a_rules_program():
    plain, finite = gd.games.make("bilinear"), gd.games.make("stochastic_bilinear")
    differing = set()
    for name, entry in gd.rules.entries().items():
        if {"simplex", "constraints"} & set(entry.needs):
            continue
        problem, options = plain, {}
        if "finite sum" in entry.needs:
            problem = finite
            options = {"num_components": problem.info.num_components}
        rule = gd.rules.make(name, 0.1, **options)
        size = sum(leaf.size for leaf in jax.tree.leaves(problem.init(None)))
        with jax.numpy_dtype_promotion("standard"):
            count = count_evaluations(rule, problem)
        if count != entry.evaluations(size):
            differing.add(name)
    assert differing == OTHERWISE
