"""Linear-quadratic games: their field is affine, their rates are known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.checks import check_positive_integer
from gamedyn.game import Batch, Game, Params, general_sum, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import non_negative


@register(
    "bilinear",
    summary="bilinear, x'Ay + b'x + c'y; without a matrix the scalar game xy",
    source="classical",
    shows="simultaneous descent spirals out, alternating descent circles",
    solution="Nash",
    zero_sum=True,
)
def bilinear(matrix: Any = None, b: Any = None, c: Any = None) -> Problem:
    r"""Build the bilinear game, the smallest one on which gradient descent rotates.

    $$f(x, y) = x^\top A y + b^\top x + c^\top y, \qquad
      J = \begin{pmatrix} 0 & A \\ -A^\top & 0 \end{pmatrix}.$$

    Simultaneous descent spirals out, alternating descent circles, extragradient and
    optimistic descent converge. The standard start is x = (1, ..., 1) and
    y = (2, ..., 2): from (1, 1) some rules hit the scalar game's solution by chance.

    Args:
        matrix: A, shape `(m, n)`; the scalar game xy if `None`.
        b: offset of x, shape `(m,)`; none if `None`.
        c: offset of y, shape `(n,)`; none if `None`.

    Returns:
        The problem, with params of shapes `(m,)` and `(n,)`. Its solution is the one
        of least norm, `-pinv(A)' c` and `-pinv(A) b`, where there is a continuum; there
        is none where the offsets leave none, or under tracing with offsets.

    Raises:
        ValueError: if the matrix is not two-dimensional, shapes do not fit, or an entry
            is not a finite real number.

    Example:
        >>> from gamedyn import games
        >>> x, y = games.bilinear([[2.0]], b=[1.0]).solutions[0]
        >>> y.item()
        -0.5
    """
    dtype = _forms.widest(matrix, b, c)
    matrix = _forms.as_array("matrix", [[1.0]] if matrix is None else matrix, 2, dtype)
    (m, n), dtype = matrix.shape, matrix.dtype
    if b is not None:
        b = _forms.as_array("b", b, 1, dtype)
        _forms.check_shape("b", b, (m,), "like the rows of the matrix")
    if c is not None:
        c = _forms.as_array("c", c, 1, dtype)
        _forms.check_shape("c", c, (n,), "like the columns of the matrix")
    start = jnp.ones(m, dtype), jnp.full(n, 2, dtype)
    return Problem(
        zero_sum(Partial(_bilinear, matrix, b, c)),
        Partial(_forms.normal_start, start),
        _bilinear_solutions(matrix, b, c),
    )


def _bilinear(
    matrix: jax.Array,
    b: jax.Array | None,
    c: jax.Array | None,
    x: jax.Array,
    y: jax.Array,
) -> jax.Array:
    value = _forms.bilinear(matrix, x, y)
    if b is not None:
        value = value + jnp.sum(b * x)
    if c is not None:
        value = value + jnp.sum(c * y)
    return value


def _bilinear_solutions(matrix, b, c) -> tuple[Params, ...]:
    (m, n), dtype = matrix.shape, matrix.dtype
    if b is None and c is None:
        return ((jnp.zeros(m, dtype), jnp.zeros(n, dtype)),)
    if not _forms.known(matrix, b, c):
        return ()
    dense = np.asarray(matrix, np.float64)
    x, y = _least_squares(dense.T, c), _least_squares(dense, b)
    if x is None or y is None:
        return ()
    return ((jnp.asarray(x, dtype), jnp.asarray(y, dtype)),)


def _least_squares(matrix: np.ndarray, offset: Any) -> np.ndarray | None:
    """The least solution of `matrix @ z = -offset`; `None` if there is none."""
    if offset is None:
        return np.zeros(matrix.shape[1])
    offset = np.asarray(offset, np.float64)
    z = -np.linalg.lstsq(matrix, offset, rcond=None)[0]
    missed = np.linalg.norm(matrix @ z + offset)
    return z if missed <= 1e-8 * np.linalg.norm(offset) else None


@register(
    "quadratic",
    summary="quadratic, x'Px/2 + x'Ay - y'Qy/2; stiff by default, J = 1 +- 10i",
    source="classical",
    shows="strongly monotone rates, rotation that dominates",
    solution="Nash",
    zero_sum=True,
)
def quadratic(P: Any = None, A: Any = None, Q: Any = None) -> Problem:
    r"""Build the quadratic game, strongly monotone where P and Q are positive definite.

    $$f(x, y) = \tfrac12 x^\top P x + x^\top A y - \tfrac12 y^\top Q y, \qquad
      J = \begin{pmatrix} P & A \\ -A^\top & Q \end{pmatrix}.$$

    The default is the stiff scalar game with eigenvalues $1 \pm 10i$, in which rotation
    dominates. The standard start is all ones, the solution 0.

    Args:
        P: symmetric, shape `(m, m)`; the identity if `None`.
        A: the interaction, shape `(m, n)`; 10 if `None`.
        Q: symmetric, shape `(n, n)`; the identity if `None`.

    Returns:
        The problem, with params of shapes `(m,)` and `(n,)`.

    Raises:
        ValueError: if a matrix is not two-dimensional, P or Q is not symmetric, shapes
            do not fit, or an entry is not a finite real number.

    References:
        The stiff game: Balduzzi et al., 2018, arXiv:1802.05642.
    """
    dtype = _forms.widest(P, A, Q)
    A = _forms.as_array("A", [[10.0]] if A is None else A, 2, dtype)
    (m, n), dtype = A.shape, A.dtype
    P = _symmetric("P", np.eye(m) if P is None else P, m, dtype)
    Q = _symmetric("Q", np.eye(n) if Q is None else Q, n, dtype)
    ones = jnp.ones(m, dtype), jnp.ones(n, dtype)
    convex = not _forms.known(P, Q) or all(
        np.linalg.eigvalsh(np.asarray(own, np.float64)).min() >= 0 for own in (P, Q)
    )
    return Problem(
        zero_sum(Partial(_quadratic, P, A, Q)),
        Partial(_forms.normal_start, ones),
        ((jnp.zeros_like(ones[0]), jnp.zeros_like(ones[1])),),
        info=Info(solution="Nash" if convex else "stationary"),
    )


def _symmetric(name: str, value: Any, size: int, dtype: Any) -> jax.Array:
    matrix = _forms.as_array(name, value, 2, dtype)
    _forms.check_shape(name, matrix, (size, size), "to fit A")
    if _forms.known(matrix):
        gap = float(jnp.max(jnp.abs(matrix - matrix.T)))
        rounding = 100 * float(jnp.finfo(dtype).eps) * float(jnp.max(jnp.abs(matrix)))
        if gap > rounding:
            raise ValueError(f"{name} must be symmetric, it is off by {gap:.3g}")
    return matrix


def _quadratic(P, A, Q, x: jax.Array, y: jax.Array) -> jax.Array:
    own = _forms.bilinear(P, x, x) - _forms.bilinear(Q, y, y)
    return 0.5 * own + _forms.bilinear(A, x, y)


@register(
    "quadratic_bilinear",
    summary="random quadratic-bilinear game of given strong monotonicity and "
    "smoothness",
    source="Hsieh et al., 2020, arXiv:2003.10162",
    shows="rates under strong monotonicity, with and without noise",
    solution="Nash",
    zero_sum=True,
)
def quadratic_bilinear(
    dim: int = 50, *, mu: float = 1.0, smoothness: float = 2.0, seed: int = 0
) -> Problem:
    r"""Build a random `quadratic` game of `dim` parameters for each player.

    P and Q are random symmetric with eigenvalues, A random with singular values, evenly
    spaced in $[\mu, L]$: the field is $\mu$-strongly monotone.

    Args:
        dim: the number of parameters of each player.
        mu: the smallest eigenvalue, positive.
        smoothness: the largest one, L.
        seed: of the random rotations, drawn by NumPy.

    Returns:
        The problem.

    Raises:
        ValueError: if `dim` is not a positive integer, or not `0 < mu <= smoothness`.
    """
    if isinstance(dim, bool) or not hasattr(dim, "__index__") or dim < 1:
        raise ValueError(f"dim must be a positive integer, got {dim!r}")
    if not 0 < mu <= smoothness:
        raise ValueError(
            f"expected 0 < mu <= smoothness, got mu={mu}, smoothness={smoothness}"
        )
    random = np.random.default_rng(seed)
    bases = np.linalg.qr(random.normal(size=(4, dim, dim)))[0]
    spectrum = np.linspace(mu, smoothness, dim)
    P, Q = ((basis * spectrum) @ basis.T for basis in bases[:2])
    A = (bases[2] * spectrum) @ bases[3].T
    # Exactly symmetric, and without a dtype of their own: the default one is meant.
    return quadratic(*(m.tolist() for m in ((P + P.T) / 2, A, (Q + Q.T) / 2)))


@register(
    "weak_minty",
    summary="quadratic on which the weak Minty inequality holds with equality, F "
    "repels from 0",
    source="Pethick et al., 2023, arXiv:2302.09029",
    shows="where extragradient with a small update step stops converging",
    solution="stationary",
    zero_sum=True,
)
def weak_minty(L: float = 1.0, rho: float = -0.1) -> Problem:
    r"""Build the quadratic on which the weak Minty variational inequality is tight.

    $$f(x, y) = c\,xy + \tfrac d2 (x^2 - y^2), \qquad
      d = L^2 \rho, \quad c = \sqrt{L^2 - L^4 \rho^2},$$

    so that $\|F(z)\| = L \|z\|$ and $\langle F(z), z \rangle = \rho \|F(z)\|^2$. With
    look-ahead step 1/L and update step $\alpha/L$, EG+ converges if and only if
    $\rho > -(1 - \alpha)/(2L)$. The standard start is (1, 1), the solution 0.

    Args:
        L: the Lipschitz constant, positive.
        rho: the weak Minty constant, negative for a game that is not monotone.

    Returns:
        The problem, with scalar params.

    Raises:
        ValueError: if L is not positive, or `abs(L * rho) > 1`.
    """
    dtype = _forms.widest(L, rho)
    bound, minty = (
        _forms.as_array(name, x, 0, dtype) for name, x in (("L", L), ("rho", rho))
    )
    if _forms.known(bound, minty) and not (bound > 0 and abs(bound * minty) <= 1):
        raise ValueError(f"expected L > 0 and |L rho| <= 1, got L={L}, rho={rho}")
    d = bound**2 * minty
    one, zero = jnp.ones_like(d), jnp.zeros_like(d)
    return Problem(
        zero_sum(Partial(_weak_minty, jnp.sqrt(bound**2 - d**2), d)),
        Partial(_forms.normal_start, (one, one)),
        ((zero, zero),),
        info=_convex_if_positive(d),
    )


def _weak_minty(c: jax.Array, d: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return c * x * y + 0.5 * d * (x**2 - y**2)


@register(
    "symplectic_four_player",
    summary="four players in a rotation, weakly attracted to 0",
    source="Balduzzi et al., 2018, arXiv:1802.05642",
    shows="symplectic adjustment against optimism, with four players",
    solution="Nash",
    num_players=4,
)
def symplectic_four_player(epsilon: float = 0.01) -> Problem:
    r"""Build the four-player game on which symplectic adjustment was shown.

    $$\ell_i(w) = \tfrac \epsilon 2 w_i^2 + \sum_{j>i} w_i w_j - \sum_{j<i} w_i w_j.$$

    The eigenvalues of J are $\epsilon \pm (\sqrt2 + 1) i$ and
    $\epsilon \pm (\sqrt2 - 1) i$: 0 attracts for positive epsilon, repels for negative.
    The standard start is all ones.

    Args:
        epsilon: the weight of the own quadratic.

    Returns:
        The problem, with one scalar per player.
    """
    weight = _forms.as_array("epsilon", epsilon, 0)
    one, zero = jnp.ones_like(weight), jnp.zeros_like(weight)
    return Problem(
        Game(Partial(_four_player, weight), num_players=4),
        Partial(_forms.normal_start, (one,) * 4),
        ((zero,) * 4,),
        info=_convex_if_positive(weight),
    )


def _convex_if_positive(curvature: jax.Array) -> Info:
    """Nobody gains by leaving 0 if the own curvature of all players is not negative."""
    stationary = _forms.known(curvature) and curvature < 0
    return Info(solution="stationary" if stationary else "Nash")


def _four_player(epsilon: jax.Array, params: Params, batch: Batch) -> tuple[Any, ...]:
    del batch
    return tuple(
        0.5 * epsilon * own**2 + own * (sum(params[i + 1 :]) - sum(params[:i]))
        for i, own in enumerate(params)
    )


@register(
    "stochastic_bilinear",
    summary="finite sum of bilinear games, one coordinate pair each, with random "
    "offsets",
    source="Chavdarova et al., 2019, arXiv:1904.08598",
    shows="variance reduction, stochastic extragradient",
    solution="Nash",
    zero_sum=True,
    finite_sum=True,
)
def stochastic_bilinear(
    num_components: int = 100, *, batch_size: int = 1, seed: int = 0
) -> Problem:
    r"""Build the bilinear finite sum on which variance reduction was shown.

    $$f(x, y) = \frac1n \sum_i \big( x^\top A_i y + b_i^\top x + c_i^\top y \big),
      \qquad [A_i]_{kl} = 1 \iff k = l = i,$$

    with n = d components and $b_i, c_i \sim N(0, I/d)$. A batch is an array of indices,
    the loss the mean over it; `None` stands for all. The standard start is all ones.

    Args:
        num_components: n, also the number d of parameters of each player.
        batch_size: the number of indices that `sample` draws, with replacement.
        seed: of the offsets, drawn by NumPy.

    Returns:
        The problem, with `info.num_components = n`.

    Raises:
        ValueError: if `num_components` or `batch_size` is not a positive integer.
    """
    n = num_components
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"num_components must be a positive integer, got {n!r}")
    b, c = np.random.default_rng(seed).normal(size=(2, n, n)) / np.sqrt(n)
    ones = jnp.ones(n), jnp.ones(n)
    # The mean field is (y / n + mean b, -x / n - mean c).
    x, y = (jnp.asarray(-n * offset.mean(0), float) for offset in (c, b))
    payoff = Partial(_component_mean, jnp.asarray(b, float), jnp.asarray(c, float))
    return Problem(
        zero_sum(payoff, stochastic=True),
        Partial(_forms.normal_start, ones),
        ((x, y),),
        sample=_forms.index_sampler(n, batch_size),
        info=Info(num_components=n),
    )


def _component_mean(b, c, x: jax.Array, y: jax.Array, batch: Batch) -> jax.Array:
    # A_i has one entry, so x'A_i y is the product of two coordinates.
    components = (
        _forms.rows_of(x, batch) * _forms.rows_of(y, batch)
        + _forms.rows_of(b, batch) @ x
        + _forms.rows_of(c, batch) @ y
    )
    return jnp.mean(components)


@register(
    "balduzzi_two_player",
    summary="two players in a rotation, attracted to 0, circling it or repelled",
    source="Balduzzi et al., 2018, arXiv:1802.05642",
    shows="attraction, a centre and repulsion by the sign of one number",
    solution="Nash",
)
def balduzzi_two_player(epsilon: float = 0.1) -> Problem:
    r"""Build the two-player game whose stability is the sign of one number.

    $$\ell_1 = \tfrac \epsilon 2 x^2 + xy, \qquad
      \ell_2 = \tfrac \epsilon 2 y^2 - xy.$$

    The eigenvalues of J are $\epsilon \pm i$. The standard start is (1, 1), the
    solution 0.

    Args:
        epsilon: the weight of the own quadratic.

    Returns:
        The problem, with scalar params.
    """
    weight = _forms.as_array("epsilon", epsilon, 0)
    one, zero = jnp.ones_like(weight), jnp.zeros_like(weight)
    return Problem(
        general_sum(
            Partial(_pulled, weight, jnp.ones_like(weight)),
            Partial(_pushed, weight, jnp.ones_like(weight)),
        ),
        Partial(_forms.normal_start, (one, one)),
        ((zero, zero),),
        info=_convex_if_positive(weight),
    )


def _pulled(weight: jax.Array, rotation, x: jax.Array, y: jax.Array) -> jax.Array:
    return 0.5 * weight * x**2 + rotation * x * y


def _pushed(weight: jax.Array, rotation, x: jax.Array, y: jax.Array) -> jax.Array:
    return 0.5 * weight * y**2 - rotation * x * y


@register(
    "tandem",
    summary="two riders who pay for pedalling together and for standing still",
    source="Letcher et al., 2019, arXiv:1811.08469",
    shows="arrogance: opponent shaping that leaves the line of solutions",
    solution="Nash",
)
def tandem() -> Problem:
    r"""Build the tandem game, with a line of solutions.

    $$\ell_1 = (x + y)^2 - 2x, \qquad \ell_2 = (x + y)^2 - 2y.$$

    All points with x + y = 1 are Nash, of total loss 0. A LOLA step of size $\alpha$
    has the fixed line $x + y = (1 - 2\alpha)/(1 - 4\alpha)$ instead. The standard start
    is (1, 0.5).

    Returns:
        The problem, with scalar params and the solution of least norm.
    """
    point = [jnp.array(value, float) for value in (1.0, 0.5)]
    half = jnp.array(0.5, float)
    return Problem(
        general_sum(_tandem_first, _tandem_second),
        Partial(_forms.normal_start, tuple(point)),
        ((half, jnp.copy(half)),),
    )


def _tandem_first(x: jax.Array, y: jax.Array) -> jax.Array:
    return (x + y) ** 2 - 2 * x


def _tandem_second(x: jax.Array, y: jax.Array) -> jax.Array:
    return (x + y) ** 2 - 2 * y


@register(
    "constrained_bilinear",
    summary="a weakly attracted rotation on the quadrant, with the solution in its "
    "corner",
    source="Yang et al., 2022, arXiv:2206.10575",
    shows="projected methods against interior points",
    solution="Nash",
    domain="non-negative",
)
def constrained_bilinear(epsilon: float = 0.1) -> Problem:
    r"""Build the rotation of `balduzzi_two_player` with both players not negative.

    $$F(x, y) = \begin{pmatrix} \epsilon & 1 \\ -1 & \epsilon \end{pmatrix}
      \begin{pmatrix} x \\ y \end{pmatrix}, \qquad x, y \ge 0.$$

    The standard start is (1, 1), the solution 0; the source takes steps of 0.1.

    Args:
        epsilon: the attraction, positive.

    Returns:
        The problem, with scalar params.

    Raises:
        ValueError: if epsilon is not positive.
    """
    weight = _forms.as_array("epsilon", epsilon, 0)
    if _forms.known(weight) and not weight > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    one, zero = jnp.ones_like(weight), jnp.zeros_like(weight)
    return Problem(
        general_sum(
            Partial(_pulled, weight, jnp.ones_like(weight)),
            Partial(_pushed, weight, jnp.ones_like(weight)),
        ),
        Partial(_forms.positive_start, (one, one)),
        ((zero, zero),),
        geometry=non_negative(),
    )


@register(
    "scaled_bilinear",
    summary="two bilinear games of unequal size, drawn with probabilities 0.2 and 0.8",
    source="Pethick et al., 2023, arXiv:2302.09029",
    shows="Lipschitz constants that depend on the sample",
    solution="Nash",
    zero_sum=True,
    finite_sum=True,
)
def scaled_bilinear(*, batch_size: int = 1) -> Problem:
    r"""Build the finite sum of one steep and four flat bilinear games.

    $$f_0 = 3 (x - 1)(y - 1), \qquad f_1 = \dots = f_4 = \tfrac12 xy :$$

    the first one is drawn with probability 1/5, the flat one with 4/5. The mean is
    $xy - \tfrac35 (x + y - 1)$, of Lipschitz constant 1. A batch is an array of
    indices, the loss the mean over it; `None` stands for all. The standard start is
    (1, 2), the solution (3/5, 3/5).

    Args:
        batch_size: the number of indices that `sample` draws, with replacement.

    Returns:
        The problem, with scalar params and `info.num_components = 5`.

    Raises:
        ValueError: if `batch_size` is not a positive integer.
    """
    scales = jnp.array([3.0, 0.5, 0.5, 0.5, 0.5], float)
    centres = jnp.array([1.0, 0.0, 0.0, 0.0, 0.0], float)
    start = jnp.array(1.0, float), jnp.array(2.0, float)
    solution = jnp.array(0.6, float), jnp.array(0.6, float)
    return Problem(
        zero_sum(Partial(_scaled_mean, scales, centres), stochastic=True),
        Partial(_forms.normal_start, start),
        (solution,),
        sample=_forms.index_sampler(5, batch_size),
        info=Info(num_components=5),
    )


def _scaled_mean(scales, centres, x: jax.Array, y: jax.Array, batch: Batch):
    scale, centre = _forms.rows_of(scales, batch), _forms.rows_of(centres, batch)
    return jnp.mean(scale * (x - centre) * (y - centre))


@register(
    "worst_case",
    summary="the saddle problem on which first-order methods are as slow as they can "
    "be",
    source="Ouyang and Xu, 2021, arXiv:1808.02901; Yoon and Ryu, 2021, "
    "arXiv:2102.07922",
    shows="lower bounds: information travels one coordinate a step",
    solution="Nash",
    zero_sum=True,
)
def worst_case(dim: int = 20) -> Problem:
    r"""Build the quadratic saddle problem behind the lower bounds.

    $$f(x, y) = \tfrac12 x^\top H x - h^\top x - \langle Ax - b, y \rangle, \qquad
      H = 2 A^\top A, \quad b = \tfrac14 1, \quad h = \tfrac14 e_d,$$

    with A a quarter of the matrix with ones on the antidiagonal and -1 beside each of
    them. The standard start is 0; in the solution x = (1, 2, ..., d).

    Args:
        dim: d, the number of parameters of each player.

    Returns:
        The problem.

    Raises:
        ValueError: if `dim` is not a positive integer.
    """
    check_positive_integer("dim", dim)
    A, b, h = _worst_case_arrays(dim)
    x = np.linalg.solve(A, b)
    y = np.linalg.solve(A.T, 2 * A.T @ (A @ x) - h)
    arrays = [jnp.asarray(array, float) for array in (A, b, h)]
    zeros = jnp.zeros(dim, float), jnp.zeros(dim, float)
    return Problem(
        zero_sum(Partial(_worst_case, *arrays)),
        Partial(_forms.normal_start, zeros),
        ((jnp.asarray(x, float), jnp.asarray(y, float)),),
    )


def _worst_case_arrays(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    antidiagonal = np.eye(dim)[:, ::-1] - np.eye(dim, k=1)[:, ::-1]
    h = np.zeros(dim)
    h[dim - 1] = 0.25  # the last entry; jax drops a write behind the end silently
    return antidiagonal / 4, np.full(dim, 0.25), h


def _worst_case(A, b, h, x: jax.Array, y: jax.Array) -> jax.Array:
    image = x @ A.T
    return jnp.sum(image**2) - jnp.sum(h * x) - jnp.sum((image - b) * y)
