"""The command `gamedyn analyse`: what it finds, writes and says to bad input."""

import dataclasses
import importlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gamedyn as gd
from gamedyn.analysis import (
    ConstrainedReport,
    ConstrainedVerdict,
    EquilibriumReport,
    Stability,
    Verdict,
    certify_constrained,
    mode_radii,
    modewise,
    spectral_radius,
    stability_region,
)
from gamedyn.cli import main
from gamedyn.commands.analyse import read_points
from gamedyn.workbench import plot
from gamedyn.workbench.analyse import analyse
from gamedyn.workbench.race import full_field

pytestmark = pytest.mark.usefixtures("folder")


def complaint(capsys, *arguments):
    assert main(["analyse", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    return error


def finding(name, **options):
    problem = gd.games.make(name)
    points = [("here", problem.solutions[0])]
    return analyse(problem, points, **options).findings[0]


# What is found.


@pytest.mark.parametrize(
    ("name", "rule", "verdict", "stability"),
    [
        ("bilinear", "extragradient", "INCONCLUSIVE", "STABLE"),
        ("bilinear", "simultaneous", "INCONCLUSIVE", "UNSTABLE"),
        ("quadratic", "optimistic", "CERTIFIED_DNE", "STABLE"),
        ("dirac_gan", "alternating", "INCONCLUSIVE", "NON_HYPERBOLIC"),
        ("symplectic_four_player", "optimistic", "CERTIFIED_DNE", "STABLE"),
        ("forsaken", "runge_kutta_4", "REFUTED_DNE", "STABLE"),
    ],
)
def test_unconstrained_games(name, rule, verdict, stability):
    found = finding(name, rule=rule, step_size=0.03)
    report, spectrum = found.report, found.spectrum
    assert report.verdict is Verdict[verdict]
    assert report.dynamics.update_stability is Stability[stability]
    problem = gd.games.make(name)
    jacobian = gd.analysis.game_jacobian(problem.game, problem.solutions[0])
    expected = np.sort_complex(np.linalg.eigvals(jacobian))
    np.testing.assert_allclose(np.sort_complex(spectrum.eigenvalues), expected)
    radius = np.abs(spectrum.update).max() ** (1 / spectrum.period)
    np.testing.assert_allclose(radius, report.dynamics.update_radius, rtol=1e-9)
    # A rule in which players take turns has no region in this plane, and says so.
    assert (spectrum.region is None) == (rule == "alternating")
    assert ("alternating depends on more" in str(found)) == (rule == "alternating")
    if spectrum.region is not None:
        modes = mode_radii(
            gd.rules.make(rule, 0.03), spectrum.eigenvalues, problem.game.num_players
        )
        np.testing.assert_allclose(modes.max(), radius, rtol=1e-6)


def test_constrained_games_are_not_given_to_the_unconstrained_tests():
    found = finding("matching_pennies", rule="extragradient", step_size=0.2)
    assert found.report.verdict is ConstrainedVerdict.NASH_EQUILIBRIUM
    assert found.report.nash_conv == 0
    assert found.report.update_stability is Stability.STABLE
    assert "own curvature" in found.report.not_tested
    assert found.spectrum.region is None
    assert not found.spectrum.flow

    problem = gd.games.matching_pennies()
    half = jnp.array([0.5, 0.5])
    for x, verdict, gain in (
        ([0.9, 0.1], "NOT_AN_EQUILIBRIUM", 0.8),
        ([0.9, 0.3], "INFEASIBLE", None),
    ):
        point = jnp.array(x), half
        report = analyse(problem, [("p", point)]).findings[0].report
        assert report.verdict is ConstrainedVerdict[verdict]
        if gain:
            np.testing.assert_allclose(report.nash_conv, gain, atol=1e-12)
            np.testing.assert_allclose(report.exploitability, gain / 2, atol=1e-12)


def test_constrained_games_without_a_matrix():
    def lose(x, y):
        return jnp.sum((x - 2.0) ** 2) - jnp.sum((y - 2.0) ** 2) + x @ y

    box, simplex = gd.geometry.box(0.0, 1.0), gd.geometry.simplex()
    start = jnp.ones(2), jnp.ones(2)
    problem = gd.games.Problem(gd.zero_sum(lose), lambda key: start, geometry=box)
    corner = [("corner", start)]
    report = analyse(problem, corner).findings[0].report
    assert report.verdict is ConstrainedVerdict.FIRST_ORDER
    assert report.nash_conv is None
    assert "exploitability" in report.not_tested
    report = analyse(problem, corner, own_loss_convex=True).findings[0].report
    assert report.verdict is ConstrainedVerdict.NASH_EQUILIBRIUM
    inside = [("inside", (start[0] / 2, start[1]))]
    report = analyse(problem, inside).findings[0].report
    assert report.verdict is ConstrainedVerdict.NOT_STATIONARY
    # On simplices, but not linear in one's own strategy: no matrix stands for it.
    problem = gd.games.Problem(gd.zero_sum(lose), lambda key: start, geometry=simplex)
    middle = jnp.full(2, 0.5)
    report = analyse(problem, [("middle", (middle, middle))]).findings[0].report
    assert report.nash_conv is None
    assert report.variational_gap == pytest.approx(0, abs=1e-12)


def test_three_players_on_simplices():
    losses = np.random.default_rng(0).normal(size=(3, 2, 3, 2))

    def loss(i):
        return lambda x, y, z: jnp.einsum("abc,a,b,c->", losses[i], x, y, z)

    point = tuple(jnp.full(k, 1 / k) for k in (2, 3, 2))
    problem = gd.games.Problem(
        gd.general_sum(*map(loss, range(3))),
        lambda key: point,
        geometry=gd.geometry.simplex(),
    )
    report = analyse(problem, [("uniform", point)]).findings[0].report
    assert report.verdict is ConstrainedVerdict.NOT_AN_EQUILIBRIUM
    expected = gd.analysis.nash_conv(tuple(losses), point)
    np.testing.assert_allclose(report.nash_conv, expected, rtol=1e-12)


def test_a_finite_sum_uses_all_components():
    found = finding("stochastic_bilinear")
    assert found.report.batch_size == 100
    assert "all 100 components" in str(found)


CONSTRAINED = [
    name
    for name, entry in gd.games.entries().items()
    if entry.domain != "unconstrained" and not entry.files
]


# One game of every domain; the others say the same of more.
FIRST = {gd.games.entry(name).domain: name for name in reversed(CONSTRAINED)}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FIRST.values() else [pytest.mark.slow])
        for name in CONSTRAINED
    ],
)
def test_certify_knows_what_the_command_knows(name):
    problem = gd.games.make(name)
    point = problem.solutions[0] if problem.solutions else problem.init(None)
    batch = full_field(problem)[1]
    report = gd.analysis.certify(problem.game, point, batch, geometry=problem.geometry)
    assert isinstance(report, ConstrainedReport)
    (finding,) = analyse(problem, point).findings
    assert report.verdict is finding.report.verdict
    assert str(report) == str(finding.report)
    if problem.solutions:
        assert report.verdict.name in ("NASH_EQUILIBRIUM", "FIRST_ORDER")


def test_the_dilemma_is_a_nash_equilibrium_on_its_domain_only():
    problem = gd.games.prisoners_dilemma()
    (point,) = problem.solutions
    blind = gd.analysis.certify(problem.game, point)
    assert isinstance(blind, EquilibriumReport)
    assert blind.verdict is Verdict.NOT_STATIONARY
    rule = gd.rules.make("extragradient", 0.1, geometry=problem.geometry)
    report = gd.analysis.certify(
        problem.game, point, geometry=problem.geometry, rule=rule
    )
    assert report.verdict is ConstrainedVerdict.NASH_EQUILIBRIUM
    assert report.update_stability is Stability.STABLE
    assert len(report.update_eigenvalues) == 4
    json.dumps(report.to_json(), allow_nan=False)
    for wrong in ({"error": 0.1}, {"polish": 1}, {"lipschitz": 1.0}, {"exact": True}):
        with pytest.raises(ValueError, match="the players are constrained"):
            gd.analysis.certify(problem.game, point, geometry=problem.geometry, **wrong)
    with pytest.raises(ValueError, match="expected one geometry"):
        gd.analysis.certify(problem.game, point, geometry=(gd.geometry.euclidean,) * 3)


def test_the_tolerance_of_constrained_points_can_be_chosen():
    problem = gd.games.matching_pennies()
    point = jnp.array([0.5 + 1e-4, 0.5 - 1e-4]), jnp.array([0.5, 0.5])
    for tolerance, verdict in (
        (None, ConstrainedVerdict.NOT_AN_EQUILIBRIUM),
        (1e-2, ConstrainedVerdict.NASH_EQUILIBRIUM),
    ):
        report = certify_constrained(
            problem.game, point, geometry=problem.geometry, tolerance=tolerance
        )
        assert report.verdict is verdict


# The forms in which it is called.


def test_a_problem_a_point_a_game():
    problem = gd.games.quadratic()
    everything = analyse(problem)
    assert [f.label for f in everything.findings] == ["the known solution"]
    zero = problem.solutions[0]
    (here,) = analyse(problem, at=zero).findings
    assert here.label == "the point given"
    assert str(here) == str(everything.findings[0])
    (alone,) = analyse(problem.game, zero).findings
    assert str(alone.report) == str(here.report)
    text = str(everything)
    assert text.startswith(f"quadratic: {problem.info.summary}\n\nthe known solution")
    assert "CERTIFIED_DNE" in text
    saved = everything.to_json()
    assert saved["points"][0]["report"]["verdict"] == "CERTIFIED_DNE"
    unsolved = dataclasses.replace(problem, solutions=())
    with pytest.raises(ValueError, match="no solution of quadratic is known; give a"):
        analyse(unsolved)
    with pytest.raises(
        TypeError, match=r"analyse needs a point of the Game: .*\(game, at"
    ):
        analyse(problem.game)
    with pytest.raises(TypeError, match="with at a tuple of 2 pytrees"):
        analyse(problem.game, [0.0, 0.0])
    with pytest.raises(TypeError, match="analyse takes a Problem, .* got int"):
        analyse(3)
    assert str(analyse("quadratic")) == text
    assert analyse("quadratic") != everything
    assert len({here, here.spectrum, alone, everything}) == 4


def test_the_old_keyword_is_taken_for_one_version():
    problem = gd.games.make("bilinear")
    point = problem.solutions[0]
    for call in (
        lambda **options: analyse(problem, **options).findings[0].report,
        lambda **options: gd.analysis.certify(problem.game, point, **options),
    ):
        expected = str(call(own_loss_convex=True))
        assert expected != str(call())
        with pytest.warns(DeprecationWarning, match="is now own_loss_convex"):
            assert str(call(own_cost_convex=True)) == expected
        with pytest.raises(TypeError, match="got both"):
            call(own_cost_convex=True, own_loss_convex=True)


def test_a_rule_of_ones_own_has_its_own_domains():
    rule, notes = gd.extragradient(optax.sgd(0.1)), []
    for options in ({"rule": rule}, {"rule": "extragradient", "step_size": 0.1}):
        (item,) = analyse("prisoners_dilemma", **options).findings
        assert "constraints included" not in str(item)
        notes.append("keeps to the domains it was built with" in str(item))
    assert notes == [True, False]


def test_a_rule_is_as_good_as_its_name():
    problem = gd.games.quadratic()
    named = analyse(problem, rule="extragradient", step_size=0.05).findings[0]
    made = gd.extragradient(optax.sgd(0.05))
    given = analyse(problem, rule=made, step_size=0.05).findings[0]
    assert str(given) == str(named)
    np.testing.assert_array_equal(
        given.spectrum.region.radius, named.spectrum.region.radius
    )
    # Without its step size the scale of the plane is unknown, the update map is not.
    plain = analyse(problem, rule=made).findings[0]
    assert plain.report.dynamics.update_radius == (named.report.dynamics.update_radius)
    assert plain.spectrum.region is None
    assert "step size of the given rule is not known" in str(plain)
    with pytest.raises(ValueError, match="belong together"):
        analyse(problem, step_size=0.05)
    with pytest.raises(TypeError, match="a rule is a name or a Rule"):
        analyse(problem, rule=3, step_size=0.05)
    with pytest.raises(TypeError, match="got the function extragradient: build"):
        analyse(problem, rule=gd.extragradient)
    with pytest.raises(TypeError, match="step_size must be a positive number"):
        analyse(problem, rule="extragradient", step_size="auto")


def test_the_old_module_can_be_called_and_imported_from():
    old = importlib.import_module("gamedyn.analyse")
    result = old(gd.games.quadratic())
    assert result.findings[0].report.verdict is Verdict.CERTIFIED_DNE
    with pytest.warns(DeprecationWarning, match=r"gamedyn\.workbench\.analyse"):
        assert old.analyse is analyse
    for name, home in (
        ("matrix_games.nash_conv", "gaps"),
        ("report.Verdict", "verdicts"),
    ):
        module, name = name.split(".")
        moved = importlib.import_module(f"gamedyn.analysis.{module}")
        with pytest.warns(DeprecationWarning, match=rf"gamedyn\.analysis\.{home}"):
            assert getattr(moved, name) is getattr(gd.analysis, name)


def test_one_player():
    game = gd.single_player(lambda x: x @ x + x[0] * x[1])
    zero = (jnp.zeros(2),)
    problem = gd.games.Problem(game, lambda key: zero, (zero,))
    found = analyse(problem, [("zero", zero)], rule="simultaneous", step_size=0.5)
    spectrum = found.findings[0].spectrum
    assert found.findings[0].report.verdict is Verdict.CERTIFIED_DNE
    assert spectrum.region is not None
    with pytest.raises(ValueError, match="at least two players"):
        analyse(problem, [("zero", zero)], taus=[1.0])


# The region.


@pytest.mark.parametrize("name", ["extragradient", "lookahead", "complex_momentum"])
def test_the_region_is_where_the_rule_converges(name):
    rule = gd.rules.make(name, 0.3)
    region = stability_region(rule, (-4.0, 9.0, 7.0))
    assert region.radius.shape == (region.imaginary.size, region.real.size)
    np.testing.assert_array_equal(region.radius, region.radius[::-1])
    zero = jnp.array(0.0), jnp.array(0.0)
    random = np.random.default_rng(1)
    inside = []
    for _ in range(4):
        i, k = (int(random.integers(size)) for size in region.radius.shape)
        a, b = float(region.real[k]), float(region.imaginary[i])
        game = gd.general_sum(
            lambda x, y, a=a, b=b: a / 2 * x**2 - b * x * y,
            lambda x, y, a=a, b=b: a / 2 * y**2 + b * x * y,
        )
        expected = spectral_radius(game, rule, zero)
        np.testing.assert_allclose(region.radius[i, k], expected, rtol=1e-6)
        inside.append(expected < 1)
    assert np.mean(region.radius < 1) > 0.01


def test_closed_forms():
    h, values = 0.3, np.array([1.0, 2j, -0.5 + 1j, 6.0 - 2j])
    z = h * values
    for name, expected in (
        ("simultaneous", 1 - z),
        ("extragradient", 1 - z + z**2),
        ("runge_kutta_4", 1 - z + z**2 / 2 - z**3 / 6 + z**4 / 24),
        ("proximal_point", 1 / (1 + z)),
    ):
        radii = mode_radii(gd.rules.make(name, h), values)
        np.testing.assert_allclose(radii, np.abs(expected), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("name", "num_players", "expected"),
    [
        ("simultaneous", 3, True),
        ("optimistic", 2, True),
        ("alternating", 2, False),
        ("alternating", 4, False),
        ("negative_momentum", 2, False),
    ],
)
def test_which_rules_depend_on_eigenvalues_alone(name, num_players, expected):
    rule = gd.rules.make(name, 0.1, num_players=num_players)
    assert modewise(rule, gd.rules.make(name, 0.1), num_players, 0.1) is expected


# What is written and printed.


def test_the_command_writes_everything(folder, capsys):
    command = ["analyse", "quadratic", "--rule", "extragradient", "--step-size", ".05"]
    command += ["--taus", "1", "2", "--out", "here"]
    assert main(command) == 0
    out = folder / "here"
    assert {path.name for path in out.iterdir()} == {
        "report.json",
        "report.html",
        "spectrum.png",
    }
    printed = " ".join(capsys.readouterr().out.split())
    assert "CERTIFIED_DNE" in printed
    assert "tau 2 STABLE, certified" in printed
    assert "the rule converges locally: spectral radius 0.834" in printed
    report = json.loads((out / "report.json").read_text())
    assert "--out here" in report["command"]
    assert report["environment"]["jax"]
    assert report["game"]["name"] == "quadratic"
    assert report["settings"]["rule"] == "extragradient"
    (point,) = report["points"]
    assert point["point"] == [[[0.0]], [[0.0]]]
    assert point["report"]["verdict"] == "CERTIFIED_DNE"
    expected = [[1, -10], [1, 10]]
    np.testing.assert_allclose(sorted(point["eigenvalues"]), expected, rtol=1e-12)
    assert len(point["update_eigenvalues"]) == 2
    assert point["timescales"][1]["stability"] == "STABLE"
    page = (out / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page.replace("http-equiv", "")
    assert "CERTIFIED_DNE" in page


@pytest.mark.parametrize(
    "command",
    [
        ["dirac-gan"],
        ["matching-pennies"],
        ["matching-pennies", "--rule", "multiplicative-weights", "--step-size", "1"],
        ["forsaken", "--at", "-0.1,0.2"],
        ["bilinear", "--rule", "adam", "--step-size", "0.1", "--own-cost-convex"],
        ["bilinear", "--own-loss-convex"],
        ["--matrix", "m.csv", "--simplex"],
        ["--from", "mine.py:make", "--at", "0.2,0.1", "--polish", "9"],
    ],
)
def test_other_runs(command, folder):
    (folder / "m.csv").write_text("1,-2\n-1,3\n")
    (folder / "mine.py").write_text(
        "import gamedyn as gd\nimport jax.numpy as jnp\n\n\ndef make():\n"
        "    game = gd.zero_sum(lambda x, y: x**2 + x**3 + 2 * x * y - y**2)\n"
        "    return game, (jnp.array(1.0), jnp.array(2.0))\n"
    )
    assert main(["analyse", *command, "--out", "o"]) == 0
    assert (folder / "o" / "spectrum.png").stat().st_size > 5000
    (point,) = json.loads((folder / "o" / "report.json").read_text())["points"]
    if "mine.py:make" in command:
        assert point["report"]["verdict"] == "CERTIFIED_DNE"
        assert np.abs(point["point"]).max() < 1e-9
        assert point["report"]["polish_steps"] > 0
    if "--simplex" in command:
        assert point["report"]["verdict"] == "NASH_EQUILIBRIUM"
    if "forsaken" in command:
        assert point["report"]["verdict"] == "NOT_STATIONARY"


TWO = """
import dataclasses

import gamedyn as gd
import jax.numpy as jnp


def make():
    game = gd.zero_sum(lambda x, y: (x**2 - 1) ** 2 - y**2)
    zero = jnp.array(0.0)
    ends = tuple((jnp.array(x), zero) for x in (1.0, 0.0))
    return gd.games.Problem(game, lambda key: (zero, zero), ends)
"""


def test_several_solutions(folder, capsys):
    (folder / "two.py").write_text(TWO)
    source = ["--from", "two.py:make"]
    assert main(["analyse", *source, "--out", "both"]) == 0
    report = json.loads((folder / "both" / "report.json").read_text())
    verdicts = [point["report"]["verdict"] for point in report["points"]]
    assert verdicts == ["CERTIFIED_DNE", "REFUTED_DNE"]
    assert (folder / "both" / "spectrum-1.png").exists()
    one = ["analyse", *source, "--at", "equilibrium:1", "--out", "one"]
    assert main(one) == 0
    report = json.loads((folder / "one" / "report.json").read_text())
    assert [point["label"] for point in report["points"]] == ["solution 1"]
    for wrong in ("equilibrium:2", "equilibrium:x", "equilibrium:-1"):
        assert "2 known solutions" in complaint(capsys, *source, "--at", wrong)


def test_points_from_files(folder):
    problem = gd.games.make("quadratic_bilinear", dim=3)
    x, y = np.arange(3.0), np.array([4.0, 5.0, 6.0], np.float32)
    np.savez("plain.npz", x, y)
    np.savez("named.npz", first=x, second=y)
    np.savez("integers.npz", np.arange(3), y)
    for name in ("plain.npz", "named.npz", "integers.npz"):
        ((label, point),) = read_points(problem, name)
        assert name in label
        np.testing.assert_array_equal(point[0], x)
        np.testing.assert_array_equal(point[1], y)
        assert point[1].dtype == jnp.float32  # the tolerance follows from it
    ((_, point),) = read_points(problem, "0,1,2,4,5,6")
    flat = np.asarray(ravel_pytree(jax.tree.map(np.float64, point))[0])
    np.testing.assert_array_equal(flat, [0, 1, 2, 4, 5, 6])


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bilinaer"], "did you mean bilinear"),
        (["--at", "1,2,3"], "--at has 3 numbers, the game has 2"),
        (["--at", "1,nan"], "NaN and infinity are not read"),
        (["--at", "1,two"], "--at must be equilibrium, finite numbers"),
        (["--at", "none.npz"], "none.npz"),
        (["--at", "equilibrium:1"], "1 known solutions"),
        (["--rule", "extragradient"], "belong together"),
        (["--step-size", "0.1"], "belong together"),
        (["--rule", "extragradeint", "--step-size", "0.1"], "extragradient"),
        (["--rule", "extragradient", "--step-size", "0"], "must be positive"),
        (["--rule", "extragradient", "--step-size", "-1"], "must be positive"),
        (["--rule", "extragradient", "--step-size", "nan"], "must be positive"),
        (["--rule", "extragradient", "--step-size", "auto"], "must be a number"),
        (["--rule", "multiplicative-weights", "--step-size", "1"], "simplex"),
        (["--error", "-1"], "error must be finite and not negative"),
        (["--polish", "-1"], "polish must be a number"),
        (["--taus", "0"], "tau must be positive"),
        (["matching-pennies", "--polish", "3"], "constrained"),
        (["--simplex"], "--simplex goes with --matrix"),
        (["--from", "nofile.py:make"], "no file nofile.py"),
        (["breast-cancer-auc", "--at", "1"], "the game has"),
    ],
)
def test_bad_arguments_are_one_line(arguments, expected, capsys, folder):
    assert expected in complaint(capsys, *arguments)
    assert not list(folder.iterdir()), "nothing may be left behind"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([np.ones(1)], "holds 1 arrays, the game has 2"),
        ([np.ones(1), np.ones(2)], "arr_1 has shape (2,), the game expects (1,)"),
        ([np.ones(1), np.full(1, np.nan)], "arr_1 holds 1 NaN"),
        ([np.ones(1), np.array([None])], "does not hold arrays of numbers"),
        ([np.ones(1), np.ones(1, complex)], "not real numbers"),
        (b"nothing", "does not hold arrays of numbers"),
        (b"", "does not hold arrays of numbers"),
    ],
)
def test_bad_point_files(content, expected, capsys, folder):
    if isinstance(content, bytes):
        (folder / "p.npz").write_bytes(content)
    else:
        np.savez("p.npz", *content)
    error = complaint(capsys, "quadratic", "--at", "p.npz")
    assert expected in error
    assert "p.npz" in error


def test_an_array_file_is_not_a_point_file(folder, capsys):
    np.save("p.npy", np.ones(2))
    (folder / "p.npy").rename(folder / "p.npz")
    error = complaint(capsys, "bilinear", "--at", "p.npz")
    assert "not a .npz file" in error


def test_no_known_solution(folder, capsys):
    (folder / "mine.py").write_text(
        "import gamedyn as gd\nimport jax.numpy as jnp\n\n\ndef make():\n"
        "    game = gd.zero_sum(lambda x, y: jnp.abs(x) * y)\n"
        "    return game, (jnp.array(1.0), jnp.array(2.0))\n"
    )
    error = complaint(capsys, "--from", "mine.py:make")
    assert "give a point" in error


def test_large_games_have_no_picture(monkeypatch):
    monkeypatch.setattr("gamedyn.workbench.analyse.MANY", 1)
    found = finding("bilinear")
    assert found.spectrum is None
    assert "no picture" in str(found)


def test_the_picture_shows_every_eigenvalue():
    for name in ("bilinear", "symplectic_four_player"):
        for step_size in (1e-3, 0.1, 20.0):
            found = finding(name, rule="simultaneous", step_size=step_size).spectrum
            left, right, top = found.limits
            assert np.all(left < found.eigenvalues.real)
            assert np.all(found.eigenvalues.real < right)
            assert np.all(np.abs(found.eigenvalues.imag) < top)
            assert math.isfinite(top)
    figure = plot.spectrum(found, "title")
    assert len(figure.axes) == 2
    # A finding and a whole analysis bring their titles; every point has its line.
    problem = gd.games.quadratic()
    points = [("zero", problem.solutions[0]), ("start", problem.init(None))]
    analysis = analyse(problem, points, rule="extragradient", step_size=0.05)
    figure = plot.spectrum(analysis)
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles == [
        "quadratic: zero; extragradient, step size 0.05",
        "quadratic: start",
    ]
    assert len(figure.axes) == 3
    (part,) = plot.spectrum(analysis.findings[0]).subfigs
    assert part.get_suptitle() == "zero; extragradient, step size 0.05"
    nothing = dataclasses.replace(analysis.findings[0], spectrum=None)
    with pytest.raises(ValueError, match="there is no picture"):
        plot.spectrum(nothing)


def test_other_methods_than_rules_have_their_own_update_map():
    found = finding("bilinear", rule="consensus", step_size=0.5)
    radius = found.report.dynamics.update_radius
    np.testing.assert_allclose(radius, math.hypot(0.5, 0.5), rtol=1e-9)
    assert found.report.dynamics.update_stability is Stability.STABLE
    assert found.spectrum.region is None
    assert "consensus is more than a rule on the gradient" in str(found)
    with pytest.raises(ValueError, match="unknown rule or method 'consensis'"):
        finding("bilinear", rule="consensis", step_size=0.5)
