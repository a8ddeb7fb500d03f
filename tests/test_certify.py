"""Equilibrium reports: known points, exact arithmetic, invariances, bad input."""

import fractions
import functools
import json
import time
import warnings

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn.analysis import certify, precision
from gamedyn.analysis.certificates import (
    certify_symmetric,
    exact_sign,
    lyapunov_certificate,
    stein_certificate,
    symmetrise,
)
from gamedyn.analysis.flow import timescale_stability
from gamedyn.analysis.jacobians import (
    game_jacobian,
    hamiltonian,
    own_hessians,
    split,
)
from gamedyn.analysis.local import spectral_norm
from gamedyn.analysis.verdicts import (
    Curvature,
    Stability,
    StackelbergVerdict,
    Verdict,
)

jacobian_of = jax.jit(game_jacobian, static_argnames="chunk")
own_hessians_of = jax.jit(own_hessians, static_argnames="chunk")

PD, NOT_PSD = Curvature.PD_CERTIFIED, Curvature.NOT_PSD_CERTIFIED
OPEN = Curvature.INCONCLUSIVE
DNE, REFUTED = Verdict.CERTIFIED_DNE, Verdict.REFUTED_DNE
SILENT = Verdict.INCONCLUSIVE
DSE = StackelbergVerdict.CERTIFIED_DSE

ZERO = jnp.array(0.0), jnp.array(0.0)
PAIRS = jnp.zeros(2), jnp.zeros(2)
ROOT = (np.sqrt(5) - 1) / 2
OTHER_ROOT = -(1 + np.sqrt(5)) / 2


def dirac_gan(g):
    return gd.general_sum(
        lambda x, y: -jnp.log(1 + jnp.exp(x * y)),
        lambda x, y: jnp.log(1 + jnp.exp(x * y)) + jnp.log(2.0) + g / 2 * y**2,
    )


def non_saturating(x, y):
    return jnp.log(1 + jnp.exp(-x * y))


def v11(x, y):
    (a, b), (c, d) = x, y
    return a**2 / 2 + a * c + b * d - c**2 / 2


def v12(x, y):
    (a, b), (c, d) = x, y
    own = (2 * a**2 + 2 * a * b + b**2) / 2 - (c**2 + c * d + 3 * d**2) / 2
    return own + 3 * a * c - b * d + a * d / 2


GAMES = {
    "V1": gd.zero_sum(lambda x, y: x * y),
    "V2": gd.zero_sum(lambda x, y: x**2 / 2 + 2 * x * y - y**2 / 2),
    "V3": gd.zero_sum(lambda x, y: -(x**2) / 2 + 3 * x * y - 2 * y**2),
    "V4": gd.zero_sum(lambda x, y: -3 * x**2 + 4 * x * y - y**2),
    "V5": gd.zero_sum(lambda x, y: x**4 / 4 - y**4 / 4 + x * y),
    "V6": gd.zero_sum(lambda x, y: x**3 + x * y - y**4 / 4),
    "V7": gd.general_sum(lambda x, y: x**2 + 3 * x * y, lambda x, y: y**2 + 3 * x * y),
    "V8": gd.general_sum(
        lambda x, y, z: x**2 / 2 + 2 * x * y - x * z,
        lambda x, y, z: y**2 / 2 - 2 * x * y + y * z / 2,
        lambda x, y, z: z**2 + x * z - y * z / 2 + z**4 / 10,
    ),
    "V9": dirac_gan(0.5),
    "V10": gd.zero_sum(lambda x, y: x**3 / 3 - x + x * y - y**2 / 2),
    "V11": gd.zero_sum(v11),
    "V12": gd.zero_sum(v12),
    "V13": gd.zero_sum(lambda x, y: x**2 / 2 - y**2 / 2 + 0.001 * x),
    "V14": gd.zero_sum(lambda x, y: 5e-15 * x**2 + x * y - y**2 / 2),
}
POINTS = {
    "V8": (*ZERO, jnp.array(0.0)),
    "V10": (jnp.array(ROOT), jnp.array(ROOT)),
    "V11": PAIRS,
    "V12": PAIRS,
}


@functools.cache
def report(name):
    return certify(GAMES[name], POINTS.get(name, ZERO))


def conjugate(real, imaginary):
    return [complex(real, -imaginary), complex(real, imaginary)]


# id, verdict, own curvatures, eigenvalues of J, own Hessians' smallest eigenvalues,
# stability of the flow
VERDICTS = [
    ("V1", SILENT, [OPEN] * 2, conjugate(0, 1), [0, 0], "NON_HYPERBOLIC"),
    ("V2", DNE, [PD] * 2, conjugate(1, 2), [1, 1], "STABLE"),
    ("V3", REFUTED, [NOT_PSD, PD], conjugate(1.5, 1.6583123952), [-1, 4], "STABLE"),
    ("V4", REFUTED, [NOT_PSD, PD], [-2, -2], [-6, 2], "UNSTABLE"),
    ("V5", SILENT, [OPEN] * 2, conjugate(0, 1), [0, 0], "NON_HYPERBOLIC"),
    ("V6", SILENT, [OPEN] * 2, conjugate(0, 1), [0, 0], "NON_HYPERBOLIC"),
    ("V7", DNE, [PD] * 2, [-1, 5], [2, 2], "UNSTABLE"),
    (
        "V8",
        DNE,
        [PD] * 3,
        [*conjugate(1.106484135143, 2.251898830504), 1.787031729714],
        [1, 1, 2],
        "STABLE",
    ),
    ("V9", SILENT, [OPEN, PD], conjugate(0.25, 0.4330127019), [0, 0.5], "STABLE"),
    (
        "V10",
        DNE,
        [PD] * 2,
        conjugate(1.118033988750, 0.993009555593),
        [1.2360679775, 1],
        "STABLE",
    ),
    (
        "V11",
        SILENT,
        [OPEN] * 2,
        [*conjugate(0, 1), *conjugate(1, 1)],
        [0, 0],
        "NON_HYPERBOLIC",
    ),
    ("V14", DNE, [PD] * 2, conjugate(0.5, 0.8660254), [1e-14, 1], "STABLE"),
]


@pytest.mark.parametrize(
    ("name", "verdict", "curvatures", "spectrum", "own", "stability"),
    VERDICTS,
    ids=[row[0] for row in VERDICTS],
)
def test_verdict_table(name, verdict, curvatures, spectrum, own, stability):
    found = report(name)
    assert found.verdict is verdict
    assert found.stationarity.stationary
    assert found.stationarity.residual < 1e-15
    assert [player.curvature for player in found.players] == curvatures
    smallest = [player.smallest for player in found.players]
    np.testing.assert_allclose(smallest, own, rtol=1e-9, atol=1e-16)
    # The table's digits; V4's eigenvalue is defective.
    atol = 1e-6 if name == "V4" else 6e-8 if name == "V14" else 6e-11
    np.testing.assert_allclose(
        found.dynamics.eigenvalues, spectrum, rtol=1e-9, atol=atol
    )
    assert found.dynamics.stability is Stability[stability]
    assert found.dynamics.certified == (stability != "NON_HYPERBOLIC")


def test_v8_symmetric_and_antisymmetric_part():
    jacobian = jacobian_of(GAMES["V8"], POINTS["V8"])
    symmetric, antisymmetric = map(np.asarray, split(jacobian))
    np.testing.assert_allclose(np.linalg.eigvalsh(symmetric), [1, 1, 2], rtol=1e-12)
    norm = float(np.linalg.norm(antisymmetric))
    np.testing.assert_allclose(norm, 3.2403703492, rtol=1e-10)
    np.testing.assert_allclose(report("V8").dynamics.antisymmetric_norm, norm)
    assert report("V8").dynamics.symmetric is PD


@pytest.mark.parametrize("g", [0.0, 0.5, 1.0, 3.0])
def test_v9_spectrum_formula(g):
    found = certify(dirac_gan(g), ZERO)
    root = np.sqrt(complex(g**2 - 1))
    expected = sorted([(g - root) / 2, (g + root) / 2], key=lambda v: (v.real, v.imag))
    np.testing.assert_allclose(
        found.dynamics.eigenvalues, expected, rtol=1e-9, atol=1e-7 if g == 1 else 1e-15
    )
    assert found.verdict is Verdict.INCONCLUSIVE


def test_v9_non_saturating_without_penalty_rotates():
    game = gd.general_sum(
        non_saturating, lambda x, y: jnp.log(1 + jnp.exp(x * y)) + jnp.log(2.0)
    )
    found = certify(game, ZERO, rule=gd.simultaneous(optax.sgd(0.1)))
    np.testing.assert_allclose(found.dynamics.eigenvalues, conjugate(0, 0.5))
    np.testing.assert_allclose(found.dynamics.update_radius, 1.001249219725, rtol=1e-12)


def test_v10_at_its_other_stationary_point():
    found = certify(GAMES["V10"], (jnp.array(OTHER_ROOT),) * 2)
    assert found.verdict is REFUTED
    np.testing.assert_allclose(
        found.dynamics.eigenvalues, [-2.98513548, 0.7490675], rtol=3e-9, atol=6e-8
    )
    np.testing.assert_allclose(found.players[0].smallest, -3.2360679775, rtol=1e-10)
    np.testing.assert_allclose(found.stackelberg[0].smallest, -np.sqrt(5), rtol=1e-12)
    assert found.stackelberg[0].verdict is StackelbergVerdict.REFUTED_DSE


def test_v12_against_numpy():
    found = report("V12")
    expected = np.array(
        [[2, 1, 3, 0.5], [1, 1, 0, -1], [-3, 0, 1, 0.5], [-0.5, 1, 0.5, 3]]
    )
    np.testing.assert_array_equal(jacobian_of(GAMES["V12"], PAIRS), expected)
    spectrum = np.linalg.eigvals(expected)
    np.testing.assert_allclose(
        found.dynamics.eigenvalues,
        spectrum[np.lexsort((spectrum.imag, spectrum.real))],
        rtol=1e-9,
    )
    assert found.verdict is DNE
    leader = found.stackelberg[0]
    assert leader.verdict is DSE
    assert "strict local minimax" in leader.remark
    schur = expected[:2, :2] - expected[:2, 2:] @ np.linalg.solve(
        expected[2:, 2:], expected[2:, :2]
    )
    np.testing.assert_allclose(leader.total_hessian, schur, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_v13_is_not_stationary_at_any_scale_until_polished(scale):
    game = gd.zero_sum(lambda x, y: scale * (x**2 / 2 - y**2 / 2 + 0.001 * x))
    found = certify(game, ZERO, tolerance=1e-8)
    assert found.verdict is Verdict.NOT_STATIONARY
    np.testing.assert_allclose(found.stationarity.residual, 0.001, rtol=1e-12)
    np.testing.assert_allclose(found.stationarity.norms, [scale * 0.001, 0])
    assert found.players == ()
    assert found.dynamics is None
    assert "nothing else is concluded" in str(found)
    polished = certify(game, ZERO, tolerance=1e-8, polish=1)
    assert polished.verdict is DNE
    np.testing.assert_allclose(polished.polish_distance, 0.001, rtol=1e-12)
    np.testing.assert_allclose(polished.params, (-0.001, 0), atol=1e-18)


@pytest.mark.parametrize(
    ("error", "curvature"), [(0.0, PD), (5e-15, PD), (1e-14, OPEN), (1e-12, OPEN)]
)
def test_v14_depends_on_the_error_allowed(error, curvature):
    found = certify(GAMES["V14"], ZERO, error=error)
    assert found.players[0].curvature is curvature
    assert found.verdict is (DNE if curvature is PD else Verdict.INCONCLUSIVE)


RULES = {
    "sim": lambda step: gd.simultaneous(optax.sgd(step)),
    "alt": lambda step: gd.alternating(optax.sgd(step)),
    "EG": lambda step: gd.extragradient(optax.sgd(step)),
}
RADII = [
    ("V1", "sim", 0.1, 1.004987562112),
    ("V1", "alt", 0.1, 1),
    ("V1", "EG", 0.1, 0.995037687728),
    ("V1", "sim", 1.0, np.sqrt(2)),
    ("V1", "EG", 1.0, 1),
    ("V2", "sim", 0.1, 0.921954445729),
    ("V2", "sim", 0.4, 1),
    ("V2", "sim", 0.5, 1.118033988750),
    ("V2", "alt", 0.5, 0.5),
    ("V2", "EG", 0.4, 0.2),
    ("V2", "EG", 0.5, 0.25),
    ("V3", "sim", 0.1, 0.866025403784),
    ("V7", "sim", 0.1, 1.1),
    ("V8", "sim", 0.1, 0.917418512901),
    ("V8", "sim", 0.5, 1.211344185562),
    ("V8", "EG", 0.1, 0.868765579379),
    ("V8", "EG", 0.5, 0.904854735894),
    ("V9", "sim", 0.1, 0.975961064797),
    ("V10", "sim", 0.1, 0.893730318399),
    ("V11", "sim", 0.1, 1.004987562112),
]


@pytest.mark.parametrize(("name", "rule", "step", "radius"), RADII)
def test_radius_of_a_rule(name, rule, step, radius):
    found = certify(GAMES[name], POINTS.get(name, ZERO), rule=RULES[rule](step))
    # alt at .5 on V2 has a double eigenvalue.
    rtol = 1e-6 if (name, rule) == ("V2", "alt") else 2e-12
    np.testing.assert_allclose(found.dynamics.update_radius, radius, rtol=rtol)
    expected = (
        Stability.NON_HYPERBOLIC
        if radius == 1
        else Stability.STABLE
        if radius < 1
        else Stability.UNSTABLE
    )
    assert found.dynamics.update_stability is expected
    assert found.dynamics.update_certified == (radius != 1)


def test_v1_alternating_map():
    matrix = gd.analysis.update_jacobian(GAMES["V1"], RULES["alt"](0.1), ZERO).matrix
    spectrum = np.sort_complex(np.linalg.eigvals(matrix))
    np.testing.assert_allclose(spectrum, conjugate(0.995, 0.0998749218), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, rtol=1e-14)


def test_a_rule_without_a_jacobian_says_so():
    found = certify(GAMES["V2"], ZERO, rule=gd.simultaneous(optax.adam(0.1)))
    assert found.dynamics.update_radius is None
    assert "NOT_DIFFERENTIABLE" in str(found)


class TestFalseFriends:
    def test_bilinear_nash_is_not_refuted_and_not_certified(self):
        found = report("V1")
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.silent
        assert "the second-order test is silent" in str(found)
        assert "own Hessian 0 within its bound" in str(found)
        assert "not an equilibrium" not in str(found)
        assert found.dynamics.stability is Stability.NON_HYPERBOLIC
        convex = certify(GAMES["V1"], ZERO, own_loss_convex=True)
        assert convex.nash
        assert convex.verdict is Verdict.INCONCLUSIVE
        assert "if every loss is convex in its own parameters" in str(convex)

    def test_stable_but_not_nash(self):
        found = report("V3")
        assert found.verdict is REFUTED
        assert found.dynamics.stability is Stability.STABLE
        assert found.dynamics.symmetric is NOT_PSD
        witness = found.players[0].witness
        assert witness is not None
        np.testing.assert_allclose(np.abs(witness), [1])
        np.testing.assert_allclose(found.players[0].quotient, -1)
        leader = found.stackelberg[0]
        assert leader.verdict is DSE
        np.testing.assert_allclose(leader.smallest, 1.25, rtol=1e-12)
        assert "strict local minimax" in leader.remark

    def test_minimax_but_neither_stable_nor_nash(self):
        found = report("V4")
        assert found.verdict is REFUTED
        assert found.dynamics.stability is Stability.UNSTABLE
        leader, follower = found.stackelberg
        assert leader.verdict is DSE
        np.testing.assert_allclose(leader.smallest, 2, rtol=1e-12)
        assert follower.verdict is StackelbergVerdict.REFUTED_DSE

    def test_equal_two_jets_get_equal_reports(self):
        assert str(report("V5")) == str(report("V6"))
        assert report("V5").to_json() == report("V6").to_json()
        assert report("V5").verdict is Verdict.INCONCLUSIVE

    def test_nash_but_unstable(self):
        found = report("V7")
        assert found.verdict is DNE
        assert found.dynamics.stability is Stability.UNSTABLE
        assert found.dynamics.certified
        assert found.dynamics.antisymmetric_norm == 0

    def test_stable_gan_whose_generator_is_open(self):
        found = report("V9")
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.players[0].silent
        assert not found.silent
        assert found.dynamics.stability is Stability.STABLE
        assert found.dynamics.certified
        assert "silent for player 0" in str(found)


class TestStackelberg:
    def test_v9_total_hessian_is_not_the_schur_complement(self):
        leader, other = report("V9").stackelberg
        np.testing.assert_allclose(leader.total_hessian, [[1]], rtol=1e-12)
        jacobian = np.asarray(jacobian_of(GAMES["V9"], ZERO))
        schur = jacobian[0, 0] - jacobian[0, 1] * jacobian[1, 0] / jacobian[1, 1]
        np.testing.assert_allclose(schur, 0.5)
        assert leader.verdict is DSE
        assert other.verdict is StackelbergVerdict.INCONCLUSIVE

    def test_v10_schur(self):
        found = report("V10").stackelberg[0]
        np.testing.assert_allclose(found.smallest, np.sqrt(5), rtol=1e-12)
        assert found.verdict is DSE

    @pytest.mark.parametrize("leader", [0, 1])
    def test_second_derivative_of_the_response_counts(self, leader):
        # The follower answers sin(x): the leader minimises x^2/2 + c sin(x).
        c = 0.5
        lead = [lambda x, y: x**2 / 2 + c * y, lambda x, y: (y - jnp.sin(x)) ** 2 / 2]
        swapped = [lambda x, y: lead[1](y, x), lambda x, y: lead[0](y, x)]
        game = gd.general_sum(*(lead if leader == 0 else swapped))
        x = -0.4
        for _ in range(50):
            x -= (x + c * np.cos(x)) / (1 - c * np.sin(x))
        point = (jnp.array(x), jnp.array(np.sin(x)))
        found = certify(game, point if leader == 0 else point[::-1])
        assert found.verdict is Verdict.NOT_STATIONARY  # for both at once
        item = found.stackelberg[leader]
        assert item.verdict is DSE
        assert item.residual < 1e-15
        np.testing.assert_allclose(item.smallest, 1 - c * np.sin(x), rtol=1e-12)

    def test_against_differentiating_two_newton_steps_of_the_follower(self):
        rng = np.random.default_rng(3)
        w, v = jnp.asarray(rng.normal(size=(2, 5)))

        def first(x, y):
            z = jnp.concatenate([x, y])
            return jnp.sum(jnp.sin(w * z)) + jnp.sum(y) * x[0] + x @ x

        def second(x, y):
            z = jnp.concatenate([x, y])
            return jnp.sum(jnp.cos(v * z)) + 10 * y @ y + y[0] * x[1] + y[2] * x[0] ** 2

        @jax.jit
        def step(x, y):
            hessian = jax.hessian(second, 1)(x, y)
            return y - jnp.linalg.solve(hessian, jax.grad(second, 1)(x, y))

        x, y = jnp.array([0.3, -0.2]), jnp.zeros(3)
        for _ in range(30):
            y = step(x, y)
        value = lambda x: first(x, step(x, step(x, y)))  # noqa: E731
        found = certify(gd.general_sum(first, second), (x, y), tolerance=1e3)
        item = found.stackelberg[0]
        expected = jax.jit(jax.hessian(value))(x)
        np.testing.assert_allclose(item.total_hessian, expected, rtol=1e-9)
        np.testing.assert_allclose(
            item.total_gradient, jnp.linalg.norm(jax.jit(jax.grad(value))(x)), rtol=1e-9
        )

    def test_a_follower_off_its_best_response_ends_it(self):
        found = certify(GAMES["V3"], (jnp.array(0.0), jnp.array(0.5)))
        assert found.stackelberg[0].verdict is StackelbergVerdict.NOT_STATIONARY


def test_timescales_of_v4():
    taus = [1, 2, 3, 4, 10]
    found = timescale_stability(GAMES["V4"], ZERO, taus)
    assert [item.tau for item in found] == taus
    expected = [
        [-2, -2],
        conjugate(-1, 2.6457513),
        conjugate(0, 3.4641016),
        conjugate(1, 3.8729833),
        [4, 10],
    ]
    for item, spectrum in zip(found, expected, strict=True):
        np.testing.assert_allclose(item.eigenvalues, spectrum, atol=1e-6)
    names = [item.stability.name for item in found]
    assert names == ["UNSTABLE", "UNSTABLE", "NON_HYPERBOLIC", "STABLE", "STABLE"]
    assert [item.certified for item in found] == [True, True, False, True, True]


def test_timescales_take_the_fast_player():
    slow = timescale_stability(GAMES["V4"], ZERO, [4.0], fast=1)[0]
    fast = timescale_stability(GAMES["V4"], ZERO, [0.25], fast=0)[0]
    np.testing.assert_allclose(
        np.array(fast.eigenvalues) * 4, slow.eigenvalues, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("taus", "fast"), [([0.0], 1), ([-1.0], 1), ([np.inf], 1), ([1.0], 2)]
)
def test_timescales_refuse(taus, fast):
    with pytest.raises(ValueError, match="tau|fast"):
        timescale_stability(GAMES["V4"], ZERO, taus, fast=fast)


# --- Jacobians -----------------------------------------------------------------------


def test_own_hessians_are_the_diagonal_blocks_chunked_or_not():
    game, params = quadratic((2, 1, 3), np.random.default_rng(0))
    jacobian = np.asarray(jacobian_of(game, params))
    for chunk in (None, 1, 4, 100):
        np.testing.assert_allclose(
            jacobian_of(game, params, chunk=chunk), jacobian, rtol=1e-14
        )
        blocks = own_hessians_of(game, params, chunk=chunk)
        for block, part in zip(blocks, parts((2, 1, 3)), strict=True):
            np.testing.assert_allclose(block, jacobian[part, part], rtol=1e-12)
    mapped = jax.jit(jax.vmap(lambda x: own_hessians(GAMES["V10"], (x, x))[0]))
    np.testing.assert_allclose(mapped(jnp.array([1.0, 2.0])).ravel(), [2, 4])
    with pytest.raises(ValueError, match="chunk must be"):
        jacobian_of(game, params, chunk=0)


def test_split_and_hamiltonian():
    matrix = jnp.array([[1.0, 4.0], [-2.0, 3.0]])
    symmetric, antisymmetric = split(matrix)
    np.testing.assert_array_equal(symmetric, [[1, 1], [1, 3]])
    np.testing.assert_array_equal(antisymmetric, [[0, 3], [-3, 0]])
    with pytest.raises(ValueError, match="square"):
        split(jnp.zeros((2, 3)))
    point = jnp.array(0.7), jnp.array(-0.2)
    game = GAMES["V10"]
    field = ravel_pytree(gd.fields.gradient(game)(point))[0]
    np.testing.assert_allclose(hamiltonian(game, point), field @ field / 2)
    gradient = ravel_pytree(jax.grad(lambda z: hamiltonian(game, z))(point))[0]
    np.testing.assert_allclose(gradient, jacobian_of(game, point).T @ field, rtol=1e-12)


# --- certificates --------------------------------------------------------------------

HILBERT = [
    (2, PD, None, None),
    (4, PD, None, None),
    (6, PD, None, None),
    (8, PD, None, None),
    (10, PD, 1.09325e-13, 2.85e-15),
    (11, PD, 3.39933e-15, 3.16e-15),
    (12, OPEN, 1.06749e-16, 3.46e-15),
    (13, OPEN, 8.35e-19, 3.78e-15),
]


@pytest.mark.parametrize(("size", "curvature", "smallest", "shift"), HILBERT)
def test_hilbert_matrices(size, curvature, smallest, shift):
    matrix = scipy.linalg.hilbert(size)
    found = certify_symmetric(matrix)
    assert found.curvature is curvature
    if smallest is not None:
        # The smallest eigenvalue is only computed to about 1e-16.
        np.testing.assert_allclose(found.smallest, smallest, rtol=1e-4, atol=3e-17)
        np.testing.assert_allclose(found.shift, shift, rtol=2e-3)
    assert certify_symmetric(matrix, exact=True).curvature is PD


@pytest.mark.parametrize(
    ("diagonal", "curvature"),
    [
        ((1, 1e-14), PD),
        ((1, 1e-17), OPEN),
        ((1, -1e-14), NOT_PSD),
        ((1, 0), OPEN),
        ((0,), OPEN),
        ((1e-300, 2e-300), PD),
        ((5e-324, 5e-324), PD),
        ((1e300, -1e300), NOT_PSD),
        ((1e-300, -1e-310), NOT_PSD),
    ],
)
def test_diagonal_matrices(diagonal, curvature):
    found = certify_symmetric(np.diag(np.array(diagonal, float)))
    assert found.curvature is curvature
    truth = exact_sign(np.diag(np.array(diagonal, float)))
    assert truth == np.sign(min(diagonal))
    np.testing.assert_allclose(found.smallest, min(diagonal))


def test_certificates_refuse_what_is_no_symmetric_matrix():
    with pytest.raises(ValueError, match="square"):
        certify_symmetric(np.ones((2, 3)))
    with pytest.raises(ValueError, match="symmetric"):
        certify_symmetric(np.array([[1.0, 2.0], [3.0, 4.0]]))
    with pytest.raises(ValueError, match="finite"):
        certify_symmetric(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="error"):
        certify_symmetric(np.eye(2), error=-1.0)


def test_error_is_allowed_for_on_both_sides():
    for value, error, curvature in [
        (1.0, 0.5, PD),
        (1.0, 1.0, OPEN),
        (-1.0, 0.5, NOT_PSD),
        (-1.0, 1.1, OPEN),
        (1.0, 1e308, OPEN),
    ]:
        assert certify_symmetric(value * np.eye(2), error=error).curvature is curvature


def test_symmetrise_bounds_what_it_changed():
    matrix, error = symmetrise(np.array([[2.0, 1.0], [1.0, 3.0]]))
    assert error == 0
    matrix, error = symmetrise(np.array([[2.0, 1.0], [1.5, 3.0]]))
    np.testing.assert_array_equal(matrix, [[2, 1.25], [1.25, 3]])
    assert 0.25 <= error < 0.26


STABILITY = {
    "V1": (False, False, True),
    "V2": (True, False, False),
    "V3": (True, False, False),
    "V4": (False, True, True),
    "V7": (False, True, True),
    "V8": (True, False, False),
    "V9": (True, False, False),
}


@pytest.mark.parametrize("name", STABILITY)
def test_stability_certificates(name):
    stable, unstable, map_unstable = STABILITY[name]
    jacobian = np.asarray(jacobian_of(GAMES[name], POINTS.get(name, ZERO)))
    for scale in (1e-200, 1.0, 1e200):
        assert lyapunov_certificate(scale * jacobian) == (stable, unstable)
    step = np.eye(len(jacobian)) - 0.1 * jacobian
    assert stein_certificate(step) == (stable, map_unstable)


def test_stability_certificates_allow_for_an_error():
    assert lyapunov_certificate(np.eye(2), error=0.4).stable
    assert not lyapunov_certificate(np.eye(2), error=1.1).stable
    assert stein_certificate(np.eye(2) / 2, error=0.4).stable
    assert not stein_certificate(np.eye(2) / 2, error=0.6).stable


def rational(matrix):
    return [[fractions.Fraction(float(x)) for x in row] for row in matrix]


def sign_by_rational_elimination(rows):
    """1: positive definite, 0: positive semidefinite and singular, -1: neither."""
    rows = [list(row) for row in rows]
    while rows:
        diagonal = [row[i] for i, row in enumerate(rows)]
        if min(diagonal) < 0:
            return -1
        k = max(range(len(rows)), key=diagonal.__getitem__)
        if diagonal[k] == 0:
            return -1 if any(any(row) for row in rows) else 0
        top, pivot = rows[k], diagonal[k]
        factors = [row[k] / pivot for row in rows]
        keep = [i for i in range(len(rows)) if i != k]
        rows = [[rows[i][j] - factors[i] * top[j] for j in keep] for i in keep]
    return 1


def random_symmetric(count, seed):
    """Matrices of sizes 2 to 12, a third of them near the edge, some singular."""
    rng = np.random.default_rng(seed)
    groups = {}
    for size in range(2, 13):
        number = count // 11 + (size - 2 < count % 11)
        basis = np.linalg.qr(rng.normal(size=(number, size, size)))[0]
        values = 10 ** rng.uniform(-17, 1, (number, size))
        values *= np.where(rng.random((number, size)) < 0.1, -1, 1)
        kind = rng.integers(4, size=number)
        trace = np.abs(values).sum(-1)
        edge = rng.uniform(-8, 8, number) * (size + 3) * 2.0**-53 * trace
        values[:, 1:] = np.where(
            (kind == 1)[:, None], np.abs(values[:, 1:]), values[:, 1:]
        )
        values[:, 0] = np.where(kind == 1, edge, values[:, 0])
        values = np.where((kind == 2)[:, None], 10 ** rng.uniform(-4, 0), 1) * values
        matrices = (basis * values[:, None, :]) @ np.swapaxes(basis, -1, -2)
        # Integers make exactly singular ones.
        factor = rng.integers(-9, 10, (number, size, size - 1)).astype(float)
        singular = factor @ np.swapaxes(factor, -1, -2)
        singular *= 2.0 ** rng.integers(-30, 30, number)[:, None, None]
        matrices = np.where((kind == 3)[:, None, None], singular, matrices)
        groups[size] = (matrices + np.swapaxes(matrices, -1, -2)) / 2
    return groups


def check_certificates(count, seed):
    """Compare with exact rational arithmetic: all near-singular ones and a sample."""
    open_ones = exact = 0
    for size, matrices in random_symmetric(count, seed).items():
        found = certify_symmetric(matrices)
        assert not np.any(found.positive & found.negative)
        bound, smallest = found.shift, found.smallest
        norm = np.maximum(np.abs(found.smallest), np.abs(found.largest))
        near = (np.abs(smallest) < 1e-11 * norm) | (np.abs(smallest) < 10 * bound)
        near[:: max(1, len(near) // 10)] = True
        # Far from singular, the computed eigenvalue is truth enough.
        assert np.all((found.positive == (smallest > 0))[~near])
        assert np.all((found.negative == (smallest < 0))[~near])
        for i in np.flatnonzero(near):
            rows = rational(matrices[i])
            truth = sign_by_rational_elimination(rows)
            assert not found.positive[i] or truth == 1
            assert not found.negative[i] or truth == -1
            if not found.positive[i] and not found.negative[i]:
                margin = 3 * fractions.Fraction(float(bound[i]))
                for sign, wrong in ((-1, 1), (1, -1)):
                    shifted = [list(row) for row in rows]
                    for j in range(size):
                        shifted[j][j] += sign * margin
                    # Not above 3 bounds, and not below -3 bounds.
                    assert sign_by_rational_elimination(shifted) != wrong
        exact += int(near.sum())
        open_ones += int(np.sum(~found.positive & ~found.negative))
    print(
        f"\n{count} matrices, {exact} of them decided exactly: "
        f"{open_ones / count:.2%} INCONCLUSIVE"
    )
    assert open_ones < count / 2


def test_certificates_against_rational_arithmetic():
    check_certificates(2_000, seed=0)


@pytest.mark.slow
def test_certificates_against_rational_arithmetic_in_full():
    check_certificates(100_000, seed=1)


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_exact_sign_against_rational_elimination(size):
    rng = np.random.default_rng(size)
    for _ in range(30):
        factor = rng.integers(-3, 4, (size, rng.integers(1, size + 1))).astype(float)
        signs = rng.choice([1, 1, 1, -1], factor.shape[1])
        matrix = (factor * signs) @ factor.T * 2.0 ** rng.integers(-60, 60)
        matrix += np.diag(rng.choice([0, 0, 2.0**-70], size))
        assert exact_sign(matrix) == sign_by_rational_elimination(rational(matrix))


# --- properties on generated games ---------------------------------------------------

SHAPES = [(1,), (4,), (1, 1), (2, 3), (6, 1), (1, 2, 3), (2, 1, 1, 2), (1,) * 5]
PAIR_SHAPES = [shape for shape in SHAPES if len(shape) == 2]


def polynomial(matrix, cubic, scale, center, rotations, *params):
    moved = [r.T @ p for r, p in zip(rotations, params, strict=True)]
    z = jnp.concatenate(moved) - center
    return scale * (z @ matrix @ z / 2 + cubic @ z**3)


def parts(shape):
    ends = np.cumsum(shape).tolist()
    return [slice(e - s, e) for e, s in zip(ends, shape, strict=True)]


def quadratic(shape, rng, *, kinds=None, scale=1.0, rotate=False, zero_sum=False):
    """A game whose stationary point is known; own Hessians of the kinds asked for."""
    d = sum(shape)
    matrices = rng.normal(size=(len(shape), d, d))
    matrices = matrices + np.swapaxes(matrices, 1, 2)
    kinds = kinds or ["positive"] * len(shape)
    for i, (part, kind) in enumerate(zip(parts(shape), kinds, strict=True)):
        size = shape[i]
        values = rng.uniform(0.1, 3, size)
        if kind == "negative":
            values[0] *= -1
        basis = scipy.linalg.qr(rng.normal(size=(size, size)))[0]
        block = (basis * values) @ basis.T * (kind != "zero")
        sign = -1 if zero_sum and i else 1
        matrices[0 if zero_sum else i][part, part] = sign * (block + block.T) / 2
    cubic = rng.normal(size=(len(shape), d))
    center = rng.normal(size=d)
    rotations = [
        scipy.linalg.qr(rng.normal(size=(s, s)))[0] if rotate else np.eye(s)
        for s in shape
    ]
    losses = [
        Partial(
            polynomial,
            jnp.asarray(matrices[i]),
            jnp.asarray(cubic[i]),
            jnp.asarray(scale),
            jnp.asarray(center),
            tuple(map(jnp.asarray, rotations)),
        )
        for i in range(1 if zero_sum else len(shape))
    ]
    game = gd.zero_sum(*losses) if zero_sum else gd.general_sum(*losses)
    params = tuple(
        jnp.asarray(r @ center[part])
        for r, part in zip(rotations, parts(shape), strict=True)
    )
    return game, params


@st.composite
def cases(draw, shapes=tuple(SHAPES)):
    shape = draw(st.sampled_from(shapes))
    kind = st.sampled_from(["positive", "positive", "negative", "zero"])
    kinds = draw(st.lists(kind, min_size=len(shape), max_size=len(shape)))
    return shape, kinds, draw(st.integers(0, 2**32 - 1))


def expected_verdict(kinds):
    if "negative" in kinds:
        return REFUTED
    return DNE if set(kinds) == {"positive"} else Verdict.INCONCLUSIVE


def summary(found):
    """What must not change with the scale of the losses or the coordinates."""
    return (
        found.verdict,
        [player.curvature for player in found.players],
        found.dynamics.stability,
        found.dynamics.symmetric,
        [item.verdict for item in found.stackelberg],
    )


@hypothesis.given(cases(), st.integers(-8, 8))
def test_scaling_the_losses_changes_no_verdict(case, exponent):
    shape, kinds, seed = case
    one = certify(*quadratic(shape, np.random.default_rng(seed), kinds=kinds))
    scaled = certify(
        *quadratic(
            shape, np.random.default_rng(seed), kinds=kinds, scale=10.0**exponent
        )
    )
    assert one.verdict is expected_verdict(kinds)
    assert summary(one) == summary(scaled)
    np.testing.assert_allclose(
        scaled.stationarity.residuals, one.stationarity.residuals, atol=1e-14
    )


@hypothesis.given(cases())
def test_orthogonal_coordinates_change_no_verdict(case):
    shape, kinds, seed = case
    # The point is rounded, and with it the curvature of what should be zero.
    one, turned = (
        certify(
            *quadratic(shape, np.random.default_rng(seed), kinds=kinds, rotate=rotate),
            error=1e-12,
        )
        for rotate in (False, True)
    )
    assert turned.verdict is expected_verdict(kinds)
    assert summary(one) == summary(turned)
    for player, other in zip(one.players, turned.players, strict=True):
        np.testing.assert_allclose(
            player.smallest, other.smallest, rtol=1e-9, atol=1e-12
        )


@hypothesis.given(cases(tuple(PAIR_SHAPES)))
def test_two_player_zero_sum_implications(case):
    shape, kinds, seed = case
    rng = np.random.default_rng(seed)
    game, params = quadratic(shape, rng, kinds=kinds, zero_sum=True)
    jacobian = np.asarray(jacobian_of(game, params))
    symmetric = np.asarray(split(jacobian).symmetric)
    first, second = parts(shape)
    assert not symmetric[first, second].any()
    blocks = scipy.linalg.block_diag(*own_hessians_of(game, params))
    np.testing.assert_allclose(symmetric, blocks, rtol=1e-12, atol=1e-12)
    without_the_shortcut = gd.fields.gradient(game)
    np.testing.assert_allclose(
        jacobian_of(without_the_shortcut, params), jacobian, rtol=1e-12, atol=1e-12
    )
    found = certify(game, params)
    np.testing.assert_allclose(
        found.dynamics.smallest_symmetric,
        np.linalg.eigvalsh(symmetric)[0],
        rtol=1e-9,
        atol=1e-14,
    )
    if found.verdict is DNE:
        assert found.dynamics.symmetric is PD
        assert found.dynamics.smallest_symmetric > 0
        assert found.dynamics.stability is Stability.STABLE
        assert [item.verdict for item in found.stackelberg] == [DSE, DSE]
        taus = timescale_stability(game, params, [0.1, 1, 7])
        assert all(item.stability is Stability.STABLE for item in taus)
    if found.stackelberg[0].verdict is DSE:
        assert timescale_stability(game, params, [1e4])[0].stability is Stability.STABLE


@hypothesis.given(cases(), st.booleans())
def test_a_definite_symmetric_part_gives_a_stable_equilibrium(case, dominant):
    shape, _, seed = case
    rng = np.random.default_rng(seed)
    game, params = quadratic(shape, rng)
    if dominant:  # own Hessians that outweigh the mixed blocks
        ridge = 20.0
        game = add_ridge(game, len(shape), ridge, params)
    found = certify(game, params)
    spectrum = np.array(found.dynamics.eigenvalues)
    if found.dynamics.symmetric is PD:
        assert all(player.curvature is PD for player in found.players)
        assert found.verdict is DNE
        assert found.dynamics.stability is Stability.STABLE
        assert found.dynamics.certified
        assert spectrum.real.min() >= found.dynamics.smallest_symmetric - 1e-10
    assert found.dynamics.symmetric is PD or not dominant


def add_ridge(game, number, ridge, params):
    losses = [
        Partial(
            functools.partial(ridged, i),
            game,
            jnp.asarray(ridge),
            params[i],
        )
        for i in range(number)
    ]
    return gd.general_sum(*losses)


def ridged(player, game, ridge, center, *params):
    return game(params)[player] + ridge * jnp.sum((params[player] - center) ** 2)


@hypothesis.given(
    st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (2, 3), (1, 2, 3)])
)
def test_potential_games_have_real_spectra(seed, shape):
    rng = np.random.default_rng(seed)
    d = sum(shape)
    matrix = rng.normal(size=(d, d))
    potential = Partial(
        polynomial,
        jnp.asarray(matrix + matrix.T),
        jnp.zeros(d),
        jnp.asarray(1.0),
        jnp.zeros(d),
        tuple(jnp.eye(s) for s in shape),
    )
    game = gd.general_sum(*[potential] * len(shape))
    found = certify(game, tuple(jnp.zeros(s) for s in shape))
    np.testing.assert_allclose(np.imag(found.dynamics.eigenvalues), 0, atol=1e-7)
    smallest = np.linalg.eigvalsh(matrix + matrix.T)[0]
    np.testing.assert_allclose(found.dynamics.min_real_part, smallest, rtol=1e-6)
    if smallest < 0:
        assert found.dynamics.stability is Stability.UNSTABLE


def closed_forms(jacobian, step, beta, sizes):
    d = len(jacobian)
    eye, zero = np.eye(d), np.zeros((d, d))
    turns = eye
    for part in parts(sizes):
        rows = np.zeros((d, d))
        rows[part] = jacobian[part]
        turns = (eye - step * rows) @ turns
    past = np.block([[eye - 2 * step * jacobian, step * jacobian], [eye, zero]])
    heavy = np.block([[(1 + beta) * eye - step * jacobian, -beta * eye], [eye, zero]])
    return turns, past, heavy


@pytest.mark.parametrize("seed", range(3))
def test_update_maps_have_the_spectra_of_their_closed_forms(seed):
    step, beta = 0.05, 0.3
    game, params = quadratic((2, 1, 3), np.random.default_rng(seed))
    jacobian = np.asarray(jacobian_of(game, params))
    rules = (
        gd.alternating(optax.sgd(step), order=(0, 1, 2)),
        gd.past_extragradient(optax.sgd(step)),
        gd.simultaneous(optax.sgd(step, momentum=beta)),
    )
    forms = closed_forms(jacobian, step, beta, (2, 1, 3))
    for rule, form in zip(rules, forms, strict=True):
        matrix = gd.analysis.update_jacobian(game, rule, params).matrix
        # Nonzero spectra, compared by the traces of their powers.
        found = [np.trace(np.linalg.matrix_power(matrix, k)) for k in range(1, 9)]
        expected = [np.trace(np.linalg.matrix_power(form, k)) for k in range(1, 9)]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


# --- precision -----------------------------------------------------------------------


def smooth(x, y):
    return jnp.cosh(x - 0.3) + jnp.sin(x) * y - jnp.cosh(y + 0.1) + 0.1 * x * y


def test_a_float32_iterate_is_certified_without_the_flag_and_polished():
    with jax.enable_x64(False):
        game = gd.zero_sum(smooth)
        run = jax.jit(lambda z: gd.solve(game, RULES["EG"](0.2), z, 300).params)
        params = run((jnp.array(1.0), jnp.array(1.0)))
        assert params[0].dtype == jnp.float32
        found = certify(game, params)
        polished = certify(game, params, polish=5)
        assert jnp.zeros(()).dtype == jnp.float32  # the flag is as before
    assert found.verdict is DNE
    assert found.point_dtype == "float32"
    assert 1e-10 < found.stationarity.residual <= found.stationarity.tolerance
    np.testing.assert_allclose(found.stationarity.tolerance, 2.0**-11.5)
    assert polished.verdict is DNE
    assert 0 < polished.polish_distance < 1e-6
    assert polished.polish_steps >= 1
    assert polished.stationarity.residual < 1e-15
    assert "moved the point by" in str(polished)
    assert polished.params[0].dtype == np.float64


def test_the_point_is_cast_exactly():
    third = np.float32(1) / np.float32(3)
    game = gd.single_player(lambda x: (x - float(third)) ** 2)
    found = certify(game, (jnp.asarray(third),))
    assert found.stationarity.residual == 0
    assert found.verdict is DNE


def test_float32_leaves_of_a_game_are_cast_exactly():
    matrix = jnp.eye(2, dtype=jnp.float32)
    game = gd.single_player(Partial(lambda m, x: x @ m @ x, matrix))
    found = certify(game, (jnp.zeros(2, jnp.float32),))
    assert found.verdict is DNE
    assert found.notes == ()


def casts(x, y):
    low = x.astype(jnp.float32)
    return (low**2).astype(jnp.float64) + y**2


def test_a_loss_that_casts_inside_is_probable_and_named():
    game = gd.general_sum(casts, lambda x, y: y**2 + x)
    found = certify(game, ZERO)
    assert [player.curvature for player in found.players] == [
        Curvature.PD_PROBABLE,
        PD,
    ]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert any("loss of player 0 casts to float32" in note for note in found.notes)
    assert not found.dynamics.certified
    assert "probably a differential Nash" in str(found)
    assert found.players[0].bound > 1e-8


def test_a_loss_that_closes_over_float32_is_probable_and_named():
    matrix = jnp.eye(2, dtype=jnp.float32)
    for loss in (lambda x: x @ matrix @ x, jax.jit(lambda x: x @ matrix @ x)):
        found = certify(gd.single_player(loss), (jnp.zeros(2),))
        assert found.players[0].curvature is Curvature.PD_PROBABLE
        assert "closes over float32 constants" in found.notes[0]
    concave = certify(gd.single_player(lambda x: -x @ matrix @ x), (jnp.zeros(2),))
    assert concave.players[0].curvature is Curvature.INCONCLUSIVE
    assert concave.verdict is Verdict.INCONCLUSIVE


def test_a_cast_hidden_in_a_derivative_rule_is_found():
    @jax.custom_jvp
    def square(x):
        return x**2

    @square.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return x**2, 2 * x * t.astype(jnp.float32).astype(jnp.float64)

    found = certify(gd.single_player(lambda x: square(x) + x**2), (jnp.array(0.0),))
    assert found.players[0].curvature is Curvature.PD_PROBABLE


def test_a_cast_hidden_in_an_implicit_solve_is_found():
    """Also where jax keeps the program inside on an object of its own."""

    def half(x):
        def solve(_, start):
            return (start.astype(jnp.float32) / 2).astype(jnp.float64)

        return jax.lax.custom_root(lambda y: 2 * y - x, x, solve, lambda g, b: b / 2)

    game = gd.single_player(lambda x: half(x) ** 2)
    (limits,) = precision.inspect_losses(game, (jnp.array(1.0),), None)
    assert limits.casts == {"float32"}


def test_exact_arithmetic_settles_small_open_cases():
    matrix = jnp.asarray(scipy.linalg.hilbert(12))
    game = gd.single_player(Partial(lambda m, x: x @ m @ x / 2, matrix))
    assert certify(game, (jnp.zeros(12),)).verdict is Verdict.INCONCLUSIVE
    assert certify(game, (jnp.zeros(12),), exact=True).verdict is DNE


def test_newton_kantorovich():
    game = gd.single_player(lambda x: x**2 / 2 + x**3 / 6 + 1e-9 * x)
    found = certify(game, (jnp.array(0.0),), lipschitz=1.0)
    assert found.verdict is DNE
    np.testing.assert_allclose(found.newton_distance, 1e-9, rtol=1e-6)
    np.testing.assert_allclose(found.zero_radius, 2e-9, rtol=1e-6)
    np.testing.assert_allclose(found.players[0].bound, 2e-9, rtol=1e-4)
    failed = certify(game, (jnp.array(0.0),), lipschitz=1e9)
    assert failed.verdict is Verdict.INCONCLUSIVE
    assert any("Newton-Kantorovich" in note for note in failed.notes)


def test_polish_says_where_it_stops():
    game = gd.single_player(lambda x: x**4 / 4 + x)  # J vanishes at 0
    found = certify(game, (jnp.array(0.0),), polish=3)
    assert found.verdict is Verdict.NOT_STATIONARY
    assert any("polish stopped" in note for note in found.notes)


# --- the report ----------------------------------------------------------------------


def test_a_report_is_words_and_plain_values():
    for name in GAMES:
        found = report(name)
        text = json.dumps(found.to_json(), allow_nan=False)
        assert json.loads(text)["verdict"] == found.verdict.name
        assert found.verdict.name in str(found)
        assert "-0," not in str(found)
    data = certify(GAMES["V2"], ZERO, rule=RULES["sim"](0.1)).to_json()
    assert data["players"][0]["curvature"] == "PD_CERTIFIED"
    assert data["dynamics"]["stability"] == "STABLE"
    np.testing.assert_allclose(data["dynamics"]["update_radius"], 0.921954445729)


def test_players_may_hold_trees_or_nothing():
    game = gd.general_sum(
        lambda x, y: jnp.sum(x["a"] ** 2) + x["b"] ** 2, lambda x, y: x["b"]
    )
    point = ({"a": jnp.zeros((2, 2)), "b": jnp.array(0.0)}, ())
    found = certify(game, point)
    assert found.verdict is DNE
    assert [player.dimension for player in found.players] == [5, 0]


@pytest.mark.parametrize("scale", [1e-160, 1.0, 1e200])
def test_norm_of_a_large_matrix(scale):
    matrix = scale * np.random.default_rng(0).normal(size=(310, 400))
    found, expected = spectral_norm(matrix), scale * np.linalg.norm(matrix / scale, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def matrix_game(size, closed):
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)))
    if closed:
        return gd.zero_sum(lambda x, y: x @ matrix @ y)
    return gd.zero_sum(Partial(lambda m, x, y: x @ m @ y, matrix))


@pytest.mark.parametrize("closed", [False, True])
def test_a_matrix_game_is_silent(closed):
    found = certify(matrix_game(40, closed), (jnp.zeros(40), jnp.zeros(40)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.silent
    assert found.dynamics.smallest_symmetric == 0


@pytest.mark.slow
@pytest.mark.parametrize("closed", [False, True])
def test_a_large_matrix_game_within_twenty_seconds(closed):
    game = matrix_game(1000, closed)
    start = time.perf_counter()
    found = certify(game, (jnp.zeros(1000), jnp.zeros(1000)))
    elapsed = time.perf_counter() - start
    print(f"\n1000 x 1000 matrix game, closed over: {closed}: {elapsed:.1f} s")
    assert found.silent
    assert found.dynamics.stability is Stability.UNKNOWN
    assert elapsed < 20


# --- bad input -----------------------------------------------------------------------


def noisy_payoff(x, y, batch):
    return x * y + x * jnp.mean(batch)


def drawing(x, y, batch):
    return x * y + jax.random.normal(jax.random.key(0), ()) * x + 0 * batch


class TestBadInput:
    def test_not_finite(self):
        with pytest.raises(ValueError, match=r"not finite at params\[1\]"):
            certify(GAMES["V1"], (jnp.array(0.0), jnp.array(jnp.nan)))

    def test_wrong_number_of_players(self):
        with pytest.raises(ValueError, match="expected the parameters of 2 players"):
            certify(GAMES["V1"], (jnp.array(0.0),))

    def test_wrong_structure(self):
        with pytest.raises(ValueError, match=r"cannot be evaluated .*\(3,\)"):
            certify(GAMES["V11"], (jnp.zeros(3), jnp.zeros(2)))
        with pytest.raises(TypeError, match="tuple"):
            certify(GAMES["V1"], [0.0, 0.0])
        with pytest.raises(TypeError, match="Game"):
            certify(lambda x, y: x * y, ZERO)
        with pytest.raises(ValueError, match="no parameters"):
            certify(gd.single_player(lambda x: jnp.array(0.0)), ((),))

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (lambda x: jnp.abs(x) ** 1.5, "second derivatives .* not smooth"),
            (lambda x: jnp.sqrt(x**2), "gradient .* not smooth"),
            (lambda x: jnp.log(x), "loss of player 0 is -inf"),
        ],
    )
    def test_not_smooth(self, loss, message):
        with pytest.raises(ValueError, match=message):
            certify(gd.single_player(loss), (jnp.array(0.0),))

    def test_stochastic_without_a_batch(self):
        game = gd.zero_sum(noisy_payoff, stochastic=True)
        with pytest.raises(ValueError, match="needs its fixed batch, got none"):
            certify(game, ZERO)
        found = certify(game, ZERO, jnp.zeros(7))
        assert found.stationarity.stationary
        assert found.batch_size == 7

    @pytest.mark.parametrize("key", [jax.random.key(0), {"k": jax.random.key(1)}])
    def test_keys_are_refused(self, key):
        game = gd.zero_sum(noisy_payoff, stochastic=True)
        with pytest.raises(ValueError, match="freeze the randomness"):
            certify(game, ZERO, key)

    @pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
    def test_losses_that_draw_are_refused(self, wrap):
        game = gd.zero_sum(wrap(drawing), stochastic=True)
        with pytest.raises(ValueError, match="draws random numbers"):
            certify(game, ZERO, jnp.zeros(()))
        old = gd.zero_sum(
            lambda x, y, key: x * y * jax.random.normal(key), stochastic=True
        )
        with pytest.raises(ValueError, match="draws random numbers"):
            certify(old, ZERO, jax.random.PRNGKey(0))

    def test_a_faulty_custom_derivative_is_named(self):
        @jax.custom_jvp
        def product(x):
            return x[0] * x[1]

        @product.defjvp
        def _(primals, tangents):
            (x,), (t,) = primals, tangents
            # The second entry hides its dependence on x[0].
            return x[0] * x[1], x[1] * t[0] + jax.lax.stop_gradient(x[0]) * t[1]

        game = gd.single_player(lambda x: product(x) + x @ x)
        with pytest.raises(ValueError, match="not symmetric.*custom derivative"):
            certify(game, (jnp.array([1.0, 2.0]),))

    def test_inside_jit(self):
        with pytest.raises(TypeError, match="outside jit"):
            jax.jit(lambda x: certify(GAMES["V1"], (x, x)).verdict.name)(jnp.array(0.0))

    @pytest.mark.parametrize(
        "options",
        [{"error": -1.0}, {"tolerance": np.nan}, {"polish": -1}, {"polish": 1.5}],
    )
    def test_options(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            certify(GAMES["V1"], ZERO, **options)

    def test_a_wrong_promise_of_convexity_is_noted(self):
        found = certify(GAMES["V3"], ZERO, own_loss_convex=True)
        assert found.nash is False
        assert any("own_loss_convex=True is wrong" in note for note in found.notes)

    def test_rounding_noise_is_no_faulty_derivative(self):
        # The own Hessian cancels to nothing, what is left need not be symmetric.
        a = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

        def loss(x, y):
            return jnp.sum(jnp.tanh(a @ x)) - jnp.sum(jnp.tanh(a @ x + 0 * y)) + x @ y

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = certify(gd.zero_sum(loss), (jnp.ones(3) / 3, jnp.zeros(3)))
        assert found.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_STATIONARY)


def test_a_follower_that_hardly_curves_leaves_the_leader_open():
    """The answer's slope 1e200 has no square in float64."""
    game = gd.zero_sum(lambda x, y: x * y - 5e-201 * y**2)
    found = certify(game, (jnp.array(0.0), jnp.array(0.0)))
    leader = found.stackelberg[0]
    assert leader.verdict is StackelbergVerdict.INCONCLUSIVE
    assert "too fast" in leader.remark
