"""Lookahead and averaging against closed forms and plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gamedyn as gd

XY = gd.zero_sum(lambda x, y: x * y)
START = (jnp.float64(1.0), jnp.float64(0.5))
ORIGIN = (jnp.float64(0), jnp.float64(0))


def trajectory(rule, num_steps, pick=lambda params, state: params):
    """Points before every step and after the last one."""

    @jax.jit
    def run(params):
        def record(params, state, *_):
            return jnp.stack(pick(params, state))

        solution = gd.solve(XY, rule, params, num_steps, record=record)
        last = record(solution.params, solution.rule_state)
        return jnp.concatenate([solution.trace, last[None]])

    return np.asarray(run(START))


def descend(z, step_size):
    return z - step_size * np.array([z[1], -z[0]])


@pytest.mark.parametrize("step_size", [0.1, 0.4])
@pytest.mark.parametrize("strength", [0.3, 0.5])
@pytest.mark.parametrize("period", [2, 5, 6])
def test_lookahead_factor_per_cycle(period, strength, step_size):
    rule = gd.lookahead(
        gd.simultaneous(optax.sgd(step_size)), period=period, strength=strength
    )
    factor = abs(1 - strength + strength * (1 + 1j * step_size) ** period)
    radius = gd.analysis.spectral_radius(XY, rule, ORIGIN)
    np.testing.assert_allclose(radius, factor ** (1 / period), rtol=1e-10)
    norms = np.linalg.norm(trajectory(rule, 4 * period), axis=1)[::period]
    np.testing.assert_allclose(norms[1:] / norms[:-1], factor, rtol=1e-12)


def test_lookahead_tames_what_diverges_alone():
    inner = gd.simultaneous(optax.sgd(0.3))
    assert gd.analysis.spectral_radius(XY, inner, ORIGIN) > 1
    rule = gd.lookahead(inner, period=5, strength=0.5)
    assert gd.analysis.spectral_radius(XY, rule, ORIGIN) < 1


def test_lookahead_of_full_strength_is_the_inner_rule():
    inner = gd.optimistic(optax.sgd(0.2))
    rule = gd.lookahead(inner, period=3, strength=1.0)
    np.testing.assert_allclose(trajectory(rule, 20), trajectory(inner, 20), atol=1e-15)


def test_lookahead_reports_the_slow_weights():
    rule = gd.lookahead(gd.simultaneous(optax.sgd(0.2)), period=4, strength=0.5)
    fast = trajectory(rule, 12)
    slow = trajectory(rule, 12, rule.output)
    for step in range(13):
        np.testing.assert_array_equal(slow[step], fast[step - step % 4])


def test_nested_lookahead_against_numpy():
    inner = gd.lookahead(gd.simultaneous(optax.sgd(0.3)), period=2, strength=0.6)
    rule = gd.lookahead(inner, period=6, strength=0.4)
    assert rule.period == 6
    assert gd.lookahead(inner, period=5, strength=0.4).period == 10

    for period, ours in ((6, rule), (5, gd.lookahead(inner, period=5, strength=0.4))):
        z = slow = slower = np.asarray(START)
        expected = [z]
        for step in range(1, 31):
            z = descend(z, 0.3)
            if step % 2 == 0:
                z = slow = slow + 0.6 * (z - slow)
            if step % period == 0:
                z = slow = slower = slower + 0.4 * (z - slower)
            expected.append(z)
        np.testing.assert_allclose(trajectory(ours, 30), expected, atol=1e-13)


def test_lookahead_is_joint_and_not_per_player():
    """A critic with two moves per turn: both players go back at the same time."""
    turns = gd.alternating(optax.sgd(0.3), order=(1, 1, 0))
    ours = trajectory(gd.lookahead(turns, period=3, strength=0.5), 12)

    def numpy_run(separately):
        z, slow, moves = list(START), list(START), [0, 0]
        for step in range(1, 13):
            for player in (1, 1, 0):
                z[player] += 0.3 * (z[0] if player else -z[1])
                moves[player] += 1
                if separately and moves[player] % 3 == 0:
                    slow[player] += 0.5 * (z[player] - slow[player])
                    z[player] = slow[player]
            if not separately and step % 3 == 0:
                slow = [s + 0.5 * (f - s) for s, f in zip(slow, z, strict=True)]
                z = list(slow)
        return np.asarray(z)

    np.testing.assert_allclose(ours[-1], numpy_run(separately=False), atol=1e-13)
    assert np.max(np.abs(ours[-1] - numpy_run(separately=True))) > 1e-2


def test_averages_against_numpy():
    inner = gd.extragradient(optax.sgd(0.3))
    points = trajectory(inner, 25)
    uniform = gd.averaged(inner)
    np.testing.assert_allclose(trajectory(uniform, 25), points, atol=1e-15)
    got = trajectory(uniform, 25, uniform.output)
    means = np.cumsum(points, axis=0) / np.arange(1, 27)[:, None]
    np.testing.assert_allclose(got, means, atol=1e-14)

    smooth = gd.averaged(inner, kind="exponential", decay=0.9)
    mean, expected = points[0], [points[0]]
    for z in points[1:]:
        mean = 0.9 * mean + 0.1 * z
        expected.append(mean)
    got = trajectory(smooth, 25, smooth.output)
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_average_of_the_slow_weights():
    inner = gd.lookahead(gd.simultaneous(optax.sgd(0.3)), period=3, strength=0.5)
    rule = gd.averaged(inner)
    assert rule.period == 3
    slow = trajectory(inner, 12, inner.output)
    got = trajectory(rule, 12, rule.output)
    np.testing.assert_allclose(
        got, np.cumsum(slow, axis=0) / np.arange(1, 14)[:, None], atol=1e-14
    )


def test_the_average_of_a_cycle_is_its_centre():
    rule = gd.averaged(gd.alternating(optax.sgd(0.1)))
    average = np.linalg.norm(trajectory(rule, 4000, rule.output), axis=1)
    current = np.linalg.norm(trajectory(rule, 4000), axis=1)
    assert average[-1] < 0.02
    assert current[-1] > 0.5


def test_options_are_checked():
    inner = gd.simultaneous(optax.sgd(0.1))
    for period in (0, -1, 2.0):
        with pytest.raises(ValueError, match="period must be a positive integer"):
            gd.lookahead(inner, period=period, strength=0.5)
    for strength in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="strength must lie in"):
            gd.lookahead(inner, period=2, strength=strength)
    with pytest.raises(ValueError, match="kind must be"):
        gd.averaged(inner, kind="median")
    with pytest.raises(ValueError, match="decay"):
        gd.averaged(inner, decay=0.9)
    with pytest.raises(ValueError, match="decay"):
        gd.averaged(inner, kind="exponential")
    with pytest.raises(ValueError, match="decay must lie in"):
        gd.averaged(inner, kind="exponential", decay=1.0)
