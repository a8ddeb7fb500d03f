"""What decides anything decides alike in all units, with any offset, in any order.

A table of deciders. Each draws an input (arrays), decides on it, and says how input and
answer move when the units change, a constant is added, players, strategies or points
change places, or one of them is there twice. The verdict must stay, the values follow.
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import gamedyn as gd
from gamedyn import analysis, divergences
from gamedyn.games import Problem
from gamedyn.games.sequential import KUHN, _kuhn_losses

EXPONENTS = {"float64": 150, "float32": 30}
OFFSET = 1e9  # in units of the input's spread
RELATIVE = 1e-6


class Answer(NamedTuple):
    """What a decider says: words that must stay, numbers that follow the input.

    `values` are in the input's units to the power of the decider's `degree`.
    """

    verdict: Any
    values: Any = ()


@dataclasses.dataclass(frozen=True)
class Decider:
    """One decider.

    Attributes:
        draw: `draw(random) -> arrays`, the input.
        decide: `decide(*arrays) -> Answer`.
        degree: by which power of the units the values follow.
        unit: the arrays' degrees, one each; their units are those of the input.
        highest: the largest power of ten of the units, where powers of them are met.
        shift: `shift(arrays, c) -> arrays` adds what does not matter, or None.
        moved: `moved(values, c) -> values` that are due after it.
        reorder: `reorder(arrays, random) -> arrays`, or None.
        repeat: `repeat(arrays, random) -> arrays` with something twice, or None.
        dtypes: in which it decides.
    """

    draw: Callable[[np.random.Generator], tuple[Any, ...]]
    decide: Callable[..., Answer]
    degree: float = 1
    unit: tuple[int, ...] = (1,)
    highest: int | None = None
    shift: Callable[[Any, float], Any] | None = None
    moved: Callable[[Any, float], Any] = lambda values, c: values
    reorder: Callable[[Any, np.random.Generator], Any] | None = None
    repeat: Callable[[Any, np.random.Generator], Any] | None = None
    dtypes: tuple[str, ...] = ("float64",)


# Matrix games. Integers: ties, duplicates and continua come up often.


def integers(*shapes, low=-3, high=3):
    def draw(random):
        # A game in which nothing matters has no units.
        while True:
            arrays = tuple(
                random.integers(low, high + 1, shape).astype(float) for shape in shapes
            )
            if all(np.ptp(array) > 0 for array in arrays):
                return arrays

    return draw


def matrix_value(matrix):
    found = analysis.zero_sum_value(matrix)
    spread = np.ptp(matrix)
    conv = np.max(found.row @ matrix) - np.min(matrix @ found.column)
    assert conv <= 1e-6 * spread, "no equilibrium"
    assert abs(found.gap) <= 1e-6 * spread, found.gap
    return Answer((), [found.value])


def poker_value(matrix):
    found = gd.games.equilibria.sequence_form_value(matrix, *KUHN)
    assert abs(found.gap) <= 1e-9 * np.abs(matrix).max()
    return Answer((), [found.value])


def extreme_equilibria(a, b):
    """All of them, told apart by what does not depend on the order of the actions."""
    found = analysis.bimatrix_equilibria((a, b))
    for pair in found:
        assert analysis.check_bimatrix((a, b), pair, tolerance=1e-6).equilibrium
    paid = sorted(float(x @ a @ y + x @ b @ y) for x, y in found)
    supports = sorted((int((x > 0).sum()), int((y > 0).sum())) for x, y in found)
    return Answer((len(found), supports, bool(found.complete)), [paid])


def mixed(*sizes):
    def draw(random):
        return tuple(random.dirichlet(np.ones(size)) for size in sizes)

    return draw


def draw_bimatrix_point(random):
    return *integers((3, 4), (3, 4))(random), *mixed(3, 4)(random)


@jax.jit
def gaps(losses, strategies):
    return [
        analysis.nash_conv(losses, strategies),
        analysis.exploitability(losses, strategies),
    ]


def exploit(a, b, x, y):
    return Answer((), gaps((a, b), (x, y)))


def shuffle_games(count):
    """The rows of all matrices change places alike, then the columns."""

    def reorder(arrays, random):
        rows = random.permutation(arrays[0].shape[0])
        columns = random.permutation(arrays[0].shape[1])
        matrices = [array[rows][:, columns] for array in arrays[:count]]
        strategies = [
            array[order]
            for array, order in zip(arrays[count:], (rows, columns), strict=False)
        ]
        return *matrices, *strategies

    return reorder


def repeat_row(arrays, random):
    row = random.integers(arrays[0].shape[0])
    return tuple(np.vstack([array, array[row : row + 1]]) for array in arrays)


def repeat_row_unplayed(arrays, random):
    *matrices, x, y = arrays
    return *repeat_row(matrices, random), np.append(x, 0.0), y


def add_to_all(count):
    def shift(arrays, c):
        return *(array + c for array in arrays[:count]), *arrays[count:]

    return shift


def plus(values, c):
    return [value + c for value in values]


# Spectra and certificates.


def draw_symmetric(random):
    basis = np.linalg.qr(random.standard_normal((8, 8)))[0]
    values = random.choice([-2.0, -1.0, 0.5, 1.0, 1.0, 3.0], 8)
    values[:2] = (values.min() - 1, values.max() + 1)
    return ((basis * values) @ basis.T,)


def ends_of_spectrum(matrix):
    matrix = jnp.asarray(matrix)
    matrix = (matrix + matrix.T) / 2
    found = analysis.lanczos(
        Partial(jnp.matmul, matrix), matrix[0], jax.random.key(0), num_steps=8
    )
    assert np.all(found.converged)
    return Answer(tuple(map(bool, found.converged)), [found.smallest, found.largest])


def symmetric_sign(matrix):
    found = analysis.certify_symmetric((matrix + matrix.T) / 2)
    return Answer((bool(found.positive), bool(found.negative)), [found.smallest])


def similar(arrays, random):
    order = random.permutation(len(arrays[0]))
    return *(array[order][:, order] for array in arrays[:1]), *arrays[1:]


def density(matrix):
    found = analysis.spectral_density(
        Partial(jnp.matmul, jnp.asarray(matrix)),
        jnp.asarray(matrix[0]),
        jax.random.key(0),
        num_steps=8,
        num_starts=2,
    )
    area = np.trapezoid(found.density, found.grid)
    assert abs(area - 1) < 0.05, area
    return Answer(())


def draw_quadratic(random):
    """Two players' Hessians of signs that are told apart, and slopes of 0 or 1."""
    own = []
    for _ in range(2):
        basis = np.linalg.qr(random.standard_normal((2, 2)))[0]
        own.append((basis * random.choice([-1.0, 0.5, 2.0], 2)) @ basis.T)
    return (
        np.stack([(h + h.T) / 2 for h in own]),
        random.integers(-2, 3, (2, 2, 2)).astype(float),
        random.integers(0, 2, (2, 2)) * float(random.random() < 0.3),
    )


def quadratic_game(own, cross, slopes, constant=0.0):
    return gd.general_sum(
        Partial(_loss, own[0], cross[0], slopes[0], constant),
        Partial(_other_loss, own[1], cross[1], slopes[1], constant),
    )


def _loss(own, cross, slope, constant, x, y):
    return x @ own @ x / 2 + x @ cross @ y + slope @ x + constant


def _other_loss(own, cross, slope, constant, x, y):
    return _loss(own, cross, slope, constant, y, x)


def certificate(own, cross, slopes, constant=None):
    dtype = own.dtype
    constant = np.zeros((), dtype) if constant is None else constant.astype(dtype)
    game = quadratic_game(own, cross, slopes, constant)
    found = analysis.certify(game, (np.zeros(2, dtype), np.zeros(2, dtype)))
    return Answer(
        (found.verdict, tuple(player.curvature for player in found.players)),
        [player.smallest for player in found.players],
    )


def large_certificate(own, cross, slopes):
    game = quadratic_game(*map(jnp.asarray, (own, cross, slopes)))
    point = jnp.zeros(2, own.dtype), jnp.zeros(2, own.dtype)
    found = analysis.certify_large(game, point, None, jax.random.key(0))
    return Answer(
        (found.verdict, tuple(player.curvature for player in found.players)),
        [player.smallest for player in found.players],
    )


def with_constant(arrays, c):
    return *arrays[:3], np.asarray(c)


def swap_coordinates(arrays, random):
    own, cross, slopes, *rest = arrays
    order = random.permutation(2)
    return (
        own[:, order][:, :, order],
        cross[:, order][:, :, order],
        slopes[:, order],
        *rest,
    )


def stability(matrix):
    matrix = np.asarray(matrix)
    return Answer(bool(analysis.lyapunov_certificate(matrix).stable))


def rate(distances):
    found = analysis.measured_rate(np.asarray(distances), np.arange(len(distances)))
    return Answer((found.evaluations, found.reached), [found.rate])


def draw_distances(random):
    return (random.uniform(0.7, 0.9) ** np.arange(60) * random.uniform(0.5, 2, 60),)


# Loops: a game's field and a tolerance, in one unit.


@jax.jit
def settle(slope, tolerance, scale):
    game = gd.zero_sum(Partial(_saddle, slope))
    start = jnp.ones_like(slope[0]), jnp.ones_like(slope[0])
    rule = gd.extragradient(optax.sgd(0.3 / scale))
    return gd.solve_until(game, rule, start, tolerance=tolerance, max_steps=200)


def settled(slope, tolerance):
    found = settle(jnp.asarray(slope), jnp.asarray(tolerance), np.max(np.abs(slope)))
    verdict = gd.Status(int(found.status)).name, int(found.num_steps)
    return Answer(verdict, [np.sort(found.params[0])])


def _saddle(matrix, x, y):
    return x @ matrix @ x / 2 + x @ matrix @ y - y @ matrix @ y / 2


def draw_saddle(random):
    basis = np.linalg.qr(random.standard_normal((2, 2)))[0]
    matrix = (basis * random.uniform(0.5, 1, 2)) @ basis.T
    return (matrix + matrix.T) / 2, np.asarray(1e-3)


# Transport and divergences.


def transport(cost):
    found = divergences.optimal_transport(cost)
    return Answer((), [found.value])


def transport_dual(cost):
    found = divergences.optimal_transport_dual(cost)
    return Answer((), [found.value])


sinkhorn = jax.jit(divergences.sinkhorn)


def entropic(cost):
    found = sinkhorn(jnp.asarray(cost), epsilon=0.2 * np.ptp(cost))
    return Answer(bool(found.converged), [found.transport_cost, found.regularised_cost])


def draw_cost(random):
    return (random.uniform(0, 1, (4, 4)),)


def shuffle_cost(arrays, random):
    (cost,) = arrays
    return (cost[random.permutation(4)][:, random.permutation(4)],)


def draw_clouds(random):
    return random.standard_normal((12, 3)), random.standard_normal((12, 3)) + 0.5


def translate(arrays, c):
    return tuple(array + c for array in arrays)


def shuffle_points(arrays, random):
    return tuple(array[random.permutation(len(array))] for array in arrays)


def double_points(arrays, random):
    del random
    return tuple(np.concatenate([array, array]) for array in arrays)


def of_clouds(function, *, wrap=jnp.asarray):
    if wrap is jnp.asarray:
        function = jax.jit(function)

    def decide(x, y):
        return Answer((), [function(wrap(x), wrap(y))])

    return decide


def clouds(function, *, degree=1.0, repeat=double_points, wrap=jnp.asarray, top=None):
    return Decider(
        draw_clouds,
        of_clouds(function, wrap=wrap),
        degree=degree,
        unit=(1, 1),
        highest=top,
        shift=translate,
        reorder=shuffle_points,
        repeat=repeat,
        dtypes=("float64", "float32") if wrap is jnp.asarray else ("float64",),
    )


def of_gaussians(function):
    def decide(mean0, covariance0, mean1, covariance1):
        arrays = (mean0, covariance0, mean1, covariance1)
        return Answer((), [function(*map(jnp.asarray, arrays))])

    return decide


def draw_gaussians(random):
    roots = random.standard_normal((2, 3, 3))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(3)
    means = random.standard_normal((2, 3))
    return means[0], covariances[0], means[1], covariances[1]


def shuffle_gaussians(arrays, random):
    order = random.permutation(3)
    return tuple(
        array[order] if array.ndim == 1 else array[order][:, order] for array in arrays
    )


def gaussians(function, degree):
    return Decider(
        draw_gaussians,
        of_gaussians(function),
        degree=degree,
        unit=(1, 2, 1, 2),
        highest=75,
        shift=lambda arrays, c: (arrays[0] + c, arrays[1], arrays[2] + c, arrays[3]),
        reorder=shuffle_gaussians,
        dtypes=("float64",),
    )


# Comparisons: the whole way from a game to a verdict.


def compared(matrix):
    matrix = jnp.asarray(matrix)
    game = gd.zero_sum(Partial(_saddle, matrix))
    start = jnp.ones_like(matrix[0]), jnp.ones_like(matrix[0])
    return verdicts(Problem(game, Partial(_given, start)))


def _given(start, key):
    del key
    return start


def verdicts(problem):
    found = gd.compare(
        problem, ("simultaneous", "extragradient", "optimistic"), evaluations=600
    )
    rows = [(row.name, row.behaviour, row.to_tolerance) for row in found.rows]
    steps = [1 / row.step_size for row in found.rows]
    return Answer(tuple(rows), steps)


def compared_on_simplices(matrix):
    problem = gd.games.matrix_game(matrix)
    found = gd.compare(problem, ("extragradient", "optimistic"), evaluations=400)
    rows = [(row.name, row.behaviour) for row in found.rows]
    return Answer(tuple(rows), [1 / row.step_size for row in found.rows])


DECIDERS = {
    "zero_sum_value": Decider(
        integers((3, 4)),
        matrix_value,
        shift=add_to_all(1),
        moved=plus,
        reorder=shuffle_games(1),
        repeat=repeat_row,
    ),
    "sequence_form_value": Decider(lambda random: (_kuhn_losses(),), poker_value),
    "bimatrix_equilibria": Decider(
        integers((3, 3), (3, 3)),
        extreme_equilibria,
        unit=(1, 1),
        shift=add_to_all(2),
        moved=lambda values, c: [np.add(values[0], 2 * c)],
        reorder=shuffle_games(2),
    ),
    "exploitability": Decider(
        draw_bimatrix_point,
        exploit,
        unit=(1, 1, 0, 0),
        shift=add_to_all(2),
        reorder=shuffle_games(2),
        repeat=repeat_row_unplayed,
        dtypes=("float64", "float32"),
    ),
    "lanczos": Decider(
        draw_symmetric,
        ends_of_spectrum,
        reorder=similar,
        dtypes=("float64", "float32"),
    ),
    "certify_symmetric": Decider(draw_symmetric, symmetric_sign, reorder=similar),
    "spectral_density": Decider(
        draw_symmetric, density, reorder=similar, dtypes=("float64", "float32")
    ),
    "lyapunov_certificate": Decider(
        lambda random: (random.standard_normal((3, 3)) + 1.5 * np.eye(3),),
        stability,
        reorder=similar,
    ),
    "certify": Decider(
        draw_quadratic,
        certificate,
        unit=(1, 1, 1),
        shift=with_constant,
        reorder=swap_coordinates,
        dtypes=("float64", "float32"),
    ),
    "certify_large": Decider(
        draw_quadratic,
        large_certificate,
        unit=(1, 1, 1),
        reorder=swap_coordinates,
        dtypes=("float64", "float32"),
    ),
    "measured_rate": Decider(draw_distances, rate, degree=0),
    "solve_until": Decider(
        draw_saddle,
        settled,
        degree=0,
        unit=(1, 1),
        reorder=similar,
        dtypes=("float64", "float32"),
    ),
    "optimal_transport": Decider(
        draw_cost, transport, shift=add_to_all(1), moved=plus, reorder=shuffle_cost
    ),
    "optimal_transport_dual": Decider(
        draw_cost, transport_dual, shift=add_to_all(1), moved=plus, reorder=shuffle_cost
    ),
    "sinkhorn": Decider(
        draw_cost,
        entropic,
        shift=add_to_all(1),
        moved=plus,
        reorder=shuffle_cost,
        dtypes=("float64", "float32"),
    ),
    "wasserstein": clouds(divergences.wasserstein, wrap=np.asarray),
    "sliced_wasserstein": clouds(
        lambda x, y: divergences.sliced_wasserstein(jax.random.key(0), x, y), top=70
    ),
    "energy_distance_squared": clouds(divergences.energy_distance_squared),
    "frechet_squared": clouds(
        divergences.frechet_squared, degree=2, repeat=None, top=70
    ),
    "precision_recall": clouds(
        lambda x, y: jnp.stack(divergences.precision_recall(generated=x, reference=y)),
        degree=0,
        repeat=None,
        top=70,
    ),
    "gaussian_kullback_leibler": gaussians(divergences.gaussian_kullback_leibler, 0),
    "gaussian_wasserstein_squared": gaussians(
        divergences.gaussian_wasserstein_squared, 2
    ),
    "compare": Decider(
        lambda random: draw_saddle(random)[:1], compared, reorder=similar
    ),
    "compare on simplices": Decider(
        integers((3, 3)),
        compared_on_simplices,
        shift=add_to_all(1),
        reorder=shuffle_games(1),
    ),
}
# Small forms of these are in test_compare_verdicts and test_scale.
SLOW = {"compare", "compare on simplices", "certify_large"}


def cases(condition=lambda decider: True):
    """Every decider that answers to a change, in every dtype; long ones are slow."""
    return [
        pytest.param(
            name, dtype, id=f"{name}-{dtype}", marks=[pytest.mark.slow] * (name in SLOW)
        )
        for name, decider in DECIDERS.items()
        if condition(decider)
        for dtype in decider.dtypes
    ]


def answer(decider, arrays, dtype):
    return decider.decide(*(np.asarray(array).astype(dtype) for array in arrays))


def agree(found, due, dtype, unit=1.0, spread=0.0):
    """The same words, and numbers to 1e-6 of themselves, or of what the input spans."""
    assert found.verdict == due.verdict
    tolerance = RELATIVE if dtype == "float64" else 2e-4
    for one, other in zip(found.values, due.values, strict=True):
        one, other = np.asarray(one, np.longdouble), np.asarray(other, np.longdouble)
        # Compared in the units of the original input: squares of 1e150 exist nowhere.
        one = one / np.longdouble(unit)
        scale = max(np.abs(other).max(initial=0), spread)
        np.testing.assert_allclose(
            one.astype(float),
            other.astype(float),
            rtol=tolerance,
            atol=tolerance * float(scale),
        )


seeds = st.integers(0, 2**16)


def randomness(name, seed):
    return np.random.default_rng([zlib.crc32(name.encode()), seed])


@pytest.mark.parametrize(("name", "dtype"), cases())
@hypothesis.given(seed=seeds, data=st.data())
def test_units_change_no_verdict_and_scale_the_values(name, dtype, seed, data):
    decider = DECIDERS[name]
    top = EXPONENTS[dtype]
    if decider.highest is not None:
        top = min(top, decider.highest * top // 150)
    exponent = data.draw(st.integers(-top, top))
    arrays = decider.draw(randomness(name, seed))
    unit = np.longdouble(10) ** exponent
    scaled = tuple(
        (np.asarray(array) * unit**degree).astype(dtype)
        for array, degree in zip(arrays, decider.unit, strict=True)
    )
    agree(
        answer(decider, scaled, dtype),
        answer(decider, arrays, dtype),
        dtype,
        unit**decider.degree,
        spread=1e-3,
    )


@pytest.mark.parametrize(("name", "dtype"), cases(lambda d: d.shift is not None))
@hypothesis.given(seed=seeds, data=st.data())
def test_what_does_not_matter_may_be_added(name, dtype, seed, data):
    decider = DECIDERS[name]
    # What a dtype keeps of the input beside a constant: 1e9 of it in float64.
    top = OFFSET if dtype == "float64" else 1.0
    constant = data.draw(st.sampled_from([-1.0, 1.0, 10.0, 1e3, 1e6, top]))
    constant = float(np.clip(constant, -top, top))
    arrays = decider.draw(randomness(name, seed))
    before = answer(decider, arrays, dtype)
    after = answer(decider, decider.shift(arrays, constant), dtype)
    due = Answer(before.verdict, decider.moved(before.values, constant))
    agree(after, due, dtype, spread=1.0)


def check_unmoved(change, name, dtype, seed):
    """Neither the verdict nor a value answers to a change of the input."""
    decider, random = DECIDERS[name], randomness(name, seed)
    arrays = decider.draw(random)
    before = answer(decider, arrays, dtype)
    after = answer(decider, change(decider)(arrays, random), dtype)
    agree(after, before, dtype, spread=1e-3)


@pytest.mark.parametrize(("name", "dtype"), cases(lambda d: d.reorder is not None))
@hypothesis.given(seed=seeds)
def test_order_changes_no_verdict(name, dtype, seed):
    check_unmoved(lambda decider: decider.reorder, name, dtype, seed)


@pytest.mark.parametrize(("name", "dtype"), cases(lambda d: d.repeat is not None))
@hypothesis.given(seed=seeds)
def test_what_is_there_twice_changes_no_verdict(name, dtype, seed):
    check_unmoved(lambda decider: decider.repeat, name, dtype, seed)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@hypothesis.given(seed=seeds)
def test_players_may_change_places(dtype, seed):
    own, cross, slopes = draw_quadratic(randomness("players", seed))
    there = answer(DECIDERS["certify"], (own, cross, slopes), dtype)
    back = answer(DECIDERS["certify"], (own[::-1], cross[::-1], slopes[::-1]), dtype)
    assert back.verdict == (there.verdict[0], there.verdict[1][::-1])
