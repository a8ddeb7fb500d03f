"""Saddle problems on real data, with solutions computed by other methods."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem
from gamedyn.games.registry import register
from gamedyn.geometry import entropic as entropic_geometry
from gamedyn.geometry import euclidean, simplex


@functools.cache
def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, shape `(569, 30)`; labels, +1 for malignant, else -1."""
    from sklearn.datasets import load_breast_cancer

    features, benign = load_breast_cancer(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return features, 1.0 - 2.0 * benign


@register(
    "breast_cancer_logistic",
    summary="distributionally robust logistic regression on the breast-cancer data",
    source="Namkoong and Duchi, 2017, arXiv:1610.02581",
    shows="a strongly monotone saddle problem on real data",
    solution="Nash",
    zero_sum=True,
    domain="unconstrained, simplex",
    finite_sum=True,
)
def breast_cancer_logistic(
    mu: float = 0.01,
    rho: float = 1.0,
    *,
    batch_size: int = 32,
    scale: float | None = None,
) -> Problem:
    r"""Build robust logistic regression: an adversary reweights the n = 569 patients.

    $$\min_w \max_{p \in \Delta_n} \sum_i p_i \log(1 + e^{-b_i w^\top a_i})
      + \tfrac \mu 2 \|w\|^2 - \tfrac{\rho n}2 \|p - \tfrac1n 1\|^2.$$

    Features $a_i$ are standardised, labels $b_i$ are +1 for malignant. The adversary's
    parameters are $u = s p$, on the simplex of scale s. With $s = \sqrt n$, the
    default, their curvature is $\rho$ instead of $\rho n$ and one step size suits both
    players; s = 1 plays the textbook form, more than a hundred times stiffer.

    A batch is an array of indices, drawn with replacement: the loss is the mean over it
    of $n p_i \log(1 + e^{-b_i w^\top a_i})$ plus the regularisers, which are exact, so
    the field is unbiased for both players; `None` stands for all. The standard start is
    w = 0, p uniform.

    Args:
        mu: the weight of the regulariser of w, positive.
        rho: the weight of that of p, positive; the smaller, the stronger the adversary.
        batch_size: the number of indices that `sample` draws.
        scale: s, positive; the square root of n if `None`.

    Returns:
        The problem, with params of shapes `(30,)` and `(569,)`. Its solution comes from
        Newton's method on the maximum over p, which is a projection onto the simplex.

    Raises:
        ValueError: if a number is not positive.
    """
    features, labels = _breast_cancer()
    n, d = features.shape
    scale = float(np.sqrt(n)) if scale is None else scale
    for name, value in (("mu", mu), ("rho", rho), ("scale", scale)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    weights, probabilities = _robust_solution(float(mu), float(rho))
    arrays = [jnp.asarray(x, float) for x in (features, labels, mu, rho, scale)]
    start = jnp.zeros(d), jnp.full(n, scale / n)
    return Problem(
        zero_sum(Partial(_robust_logistic, *arrays), stochastic=True),
        Partial(_robust_start, start, arrays[-1]),
        ((jnp.asarray(weights, float), jnp.asarray(scale * probabilities, float)),),
        geometry=(euclidean, simplex(float(scale))),
        sample=_forms.index_sampler(n, batch_size),
        info=Info(num_components=n),
    )


def _robust_logistic(features, labels, mu, rho, scale, w, u, batch: Batch) -> jax.Array:
    n = features.shape[0]
    p = u / scale
    chosen = [_forms.rows_of(array, batch) for array in (features, labels, p)]
    margins = chosen[1] * (chosen[0] @ w)
    loss = n * jnp.mean(chosen[2] * jax.nn.softplus(-margins))
    return loss + 0.5 * mu * jnp.sum(w**2) - 0.5 * rho * n * jnp.sum((p - 1 / n) ** 2)


def _robust_start(standard, scale, key: Any):
    if key is None:
        return standard
    w, u = _forms.normal_start(standard, key)
    return w, scale * jax.nn.softmax(u)


@functools.cache
def _robust_solution(mu: float, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method with line search on the maximum over p, a smooth problem in w."""
    features, labels = _breast_cancer()
    rows = -labels[:, None] * features
    n, d = rows.shape

    def worst_case(w):
        losses = np.logaddexp(0.0, rows @ w)
        p = _project_to_simplex(1 / n + losses / (rho * n))
        penalty = mu / 2 * w @ w - rho * n / 2 * np.sum((p - 1 / n) ** 2)
        return p @ losses + penalty, p

    w = np.zeros(d)
    value, p = worst_case(w)
    for _ in range(100):
        pull = 1 / (1 + np.exp(-rows @ w))
        gradient = rows.T @ (p * pull) + mu * w
        # p moves with w: by the projected covariance of the support's gradients.
        slopes = (rows * pull[:, None])[p > 0]
        slopes = slopes - slopes.mean(axis=0)
        curvature = (rows * (p * pull * (1 - pull))[:, None]).T @ rows
        hessian = curvature + slopes.T @ slopes / (rho * n) + mu * np.eye(d)
        step, length = np.linalg.solve(hessian, gradient), 1.0
        if gradient @ step <= 1e-30:
            break
        while worst_case(w - length * step)[0] > value and length > 1e-8:
            length /= 2
        w = w - length * step
        value, p = worst_case(w)
    return w, p


def _project_to_simplex(point: np.ndarray) -> np.ndarray:
    falling = np.sort(point)[::-1]
    shifts = (np.cumsum(falling) - 1) / np.arange(1, point.size + 1)
    return np.maximum(point - shifts[np.flatnonzero(falling > shifts)[-1]], 0.0)


@register(
    "breast_cancer_auc",
    summary="area under the ROC curve as a saddle problem on the breast-cancer data",
    source="Ying et al., 2016, Stochastic online AUC maximization",
    shows="a linear saddle problem on imbalanced real data",
    solution="Nash",
    zero_sum=True,
    finite_sum=True,
)
def breast_cancer_auc(mu: float = 0.01, *, batch_size: int = 32) -> Problem:
    r"""Build AUC maximisation: a pairwise loss as a saddle problem over single samples.

    With scores $s = w^\top x$, the share q of positives (malignant) and indicators
    $1_\pm$ of the two classes, (w, a, b) minimise and alpha maximises the mean of

    $$(1-q)(s-a)^2 1_+ + q (s-b)^2 1_- + 2 (1+\alpha) \big( q s 1_- - (1-q) s 1_+ \big)
      - q(1-q) \alpha^2 + \tfrac \mu 2 \|w\|^2.$$

    At the solution a and b are the mean scores of the positives and negatives,
    $\alpha = b - a$, and the value is $q (1-q)$ times (the mean over pairs of
    $(1 - s_+ + s_-)^2$, less 1), plus the regulariser. A batch is an array of indices,
    the loss the mean over it; `None` stands for all. The standard start is 0.

    Args:
        mu: the weight of the regulariser, positive.
        batch_size: the number of indices that `sample` draws, with replacement.

    Returns:
        The problem, with params `({"w", "a", "b"}, alpha)`. Its solution comes from the
        linear equations that remain for w.

    Raises:
        ValueError: if `mu` or `batch_size` is not positive.
    """
    features, labels = _breast_cancer()
    n, d = features.shape
    if not mu > 0:
        raise ValueError(f"mu must be positive, got {mu}")
    w, a, b = _auc_solution(features, labels, float(mu))
    own = {"w": w, "a": a, "b": b}
    arrays = [jnp.asarray(x, float) for x in (features, labels > 0, mu)]
    solution = jax.tree.map(lambda x: jnp.asarray(x, float), (own, b - a))
    return Problem(
        zero_sum(Partial(_auc, *arrays), stochastic=True),
        Partial(_forms.normal_start, jax.tree.map(jnp.zeros_like, solution)),
        (solution,),
        sample=_forms.index_sampler(n, batch_size),
        info=Info(num_components=n),
    )


def _auc(features, positive, mu, own: Any, alpha, batch: Batch) -> jax.Array:
    share = jnp.mean(positive)
    is_positive = _forms.rows_of(positive, batch)
    scores = _forms.rows_of(features, batch) @ own["w"]
    # Each class weighs as much as the other one has samples.
    pro, con = (1 - share) * is_positive, share * (1 - is_positive)
    spread = pro * (scores - own["a"]) ** 2 + con * (scores - own["b"]) ** 2
    gap = 2 * (1 + alpha) * (con - pro) * scores
    penalty = 0.5 * mu * jnp.sum(own["w"] ** 2)
    return jnp.mean(spread + gap) - share * (1 - share) * alpha**2 + penalty


def _auc_solution(features, labels, mu: float) -> tuple[np.ndarray, float, float]:
    """Eliminate a, b and alpha; what remains is quadratic in w."""
    positives, negatives = features[labels > 0], features[labels < 0]
    share = len(positives) / len(features)
    weight = 2 * share * (1 - share)
    means = positives.mean(axis=0), negatives.mean(axis=0)
    gap = means[0] - means[1]
    within = np.cov(positives.T, bias=True) + np.cov(negatives.T, bias=True)
    hessian = weight * (within + np.outer(gap, gap)) + mu * np.eye(len(gap))
    w = np.linalg.solve(hessian, weight * gap)
    return w, float(means[0] @ w), float(means[1] @ w)


def breast_cancer_groups() -> np.ndarray:
    """Number the patients' groups: benign or malignant, mean radius small or large."""
    features, labels = _breast_cancer()
    return 2 * (labels > 0) + (features[:, 0] > np.median(features[:, 0]))


@register(
    "group_robust_logistic",
    summary="logistic regression for the worst of four groups, on the breast-cancer "
    "data",
    source="Sagawa et al., 2020, arXiv:1911.08731",
    shows="distributional robustness over groups, a linear adversary",
    solution="Nash",
    zero_sum=True,
    domain="unconstrained, simplex",
    finite_sum=True,
)
def group_robust_logistic(
    features: Any = None,
    labels: Any = None,
    groups: Any = None,
    *,
    mu: float = 0.01,
    batch_size: int = 32,
    entropic: bool = False,
) -> Problem:
    r"""Build group-robust logistic regression: an adversary weighs the groups.

    $$\min_w \max_{p \in \Delta_m} \sum_g p_g \ell_g(w) + \tfrac \mu 2 \|w\|^2, \qquad
      \ell_g(w) = \frac{1}{n_g} \sum_{i \in g} \log(1 + e^{-b_i w^\top a_i}).$$

    By default the patients of the breast-cancer data are grouped by diagnosis and by
    whether their mean radius exceeds the median. A batch is an array of indices, drawn
    with replacement: the loss is the mean over it of $n p_g / n_g$ times the sample's
    loss, hence unbiased, plus the regulariser; `None` stands for all. The standard
    start is w = 0, p uniform.

    Args:
        features: shape `(n, d)`; the breast-cancer data's, standardised, if `None`.
        labels: -1 or 1, shape `(n,)`.
        groups: the number of each sample's group, `0` to `m - 1`, shape `(n,)`.
        mu: the weight of the regulariser, positive.
        batch_size: the number of indices that `sample` draws.
        entropic: whether p takes entropic steps instead of projected ones.

    Returns:
        The problem, with params of shapes `(d,)` and `(m,)`. Its solution comes from
        Newton's method on the smoothed maximum, then on the conditions of optimality.

    Raises:
        ValueError: if `mu` is not positive, some but not all of the data are given,
            shapes do not fit, labels are not -1 or 1, or a group is empty.
    """
    given = (features, labels, groups)
    if any(x is None for x in given) and any(x is not None for x in given):
        raise ValueError("expected all of features, labels and groups, or none of them")
    if not mu > 0:
        raise ValueError(f"mu must be positive, got {mu}")
    if features is None:
        rows, signs = _breast_cancer()
        numbers = breast_cancer_groups()
    else:
        rows = np.asarray(_forms.as_array("features", features, 2), np.float64)
        signs = np.asarray(_forms.as_array("labels", labels, 1), np.float64)
        numbers = np.asarray(groups)
    n, d = rows.shape
    if signs.shape != (n,) or numbers.shape != (n,) or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"expected {n} labels and whole numbers of groups, got shapes "
            f"{signs.shape} and {numbers.shape} of {numbers.dtype}"
        )
    if not np.isin(signs, (-1, 1)).all():
        raise ValueError("labels must be -1 or 1")
    counts = np.bincount(numbers) if numbers.min() >= 0 else np.zeros(1)
    if not counts.all():
        raise ValueError(
            f"groups must be numbered from 0 without gaps, got {np.unique(numbers)}"
        )
    m = len(counts)
    signed = -signs[:, None] * rows
    w, p = _group_solution(signed, numbers, counts, float(mu))
    shares = n / counts[numbers]
    arrays = [jnp.asarray(x, float) for x in (signed, shares, mu)]
    start = jnp.zeros(d), jnp.full(m, 1 / m)
    payoff = Partial(_group_robust, *arrays, jnp.asarray(numbers))
    return Problem(
        zero_sum(payoff, stochastic=True),
        Partial(_robust_start, start, jnp.ones(())),
        ((jnp.asarray(w, float), jnp.asarray(p, float)),),
        geometry=(euclidean, entropic_geometry if entropic else simplex()),
        sample=_forms.index_sampler(n, batch_size),
        info=Info(num_components=n),
    )


def _group_robust(signed, shares, mu, groups, w, p, batch: Batch) -> jax.Array:
    rows, share, group = (_forms.rows_of(x, batch) for x in (signed, shares, groups))
    losses = share * p[group] * jax.nn.softplus(rows @ w)
    return jnp.mean(losses) + 0.5 * mu * jnp.sum(w**2)


def _group_solution(
    signed: np.ndarray, groups: np.ndarray, counts: np.ndarray, mu: float
) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method on ever sharper maxima, then on the conditions of optimality."""
    d, m = signed.shape[1], len(counts)

    def at(w):
        scores = signed @ w
        pull = 1 / (1 + np.exp(-scores))
        losses = np.bincount(groups, np.logaddexp(0, scores), m) / counts
        slopes = np.stack([signed[groups == g].T @ pull[groups == g] for g in range(m)])
        return losses, slopes / counts[:, None], pull

    def curvature(p, pull):
        weights = p[groups] / counts[groups] * pull * (1 - pull)
        return (signed * weights[:, None]).T @ signed + mu * np.eye(d)

    def smoothed(w, heat):
        losses = at(w)[0] / heat
        top = losses.max()
        return heat * (top + np.log(np.exp(losses - top).sum())) + mu / 2 * w @ w

    # Newton's method with line search on a smooth maximum, of ever smaller heat.
    w, p = np.zeros(d), np.full(m, 1 / m)
    for heat in 10.0 ** np.arange(0, -5, -1):
        for _ in range(50):
            losses, slopes, pull = at(w)
            p = np.exp((losses - losses.max()) / heat)
            p /= p.sum()
            gradient = p @ slopes + mu * w
            centred = slopes - p @ slopes
            spread = (centred * p[:, None]).T @ centred / heat
            step = np.linalg.solve(curvature(p, pull) + spread, gradient)
            if gradient @ step < 1e-16:
                break
            value, length = smoothed(w, heat), 1.0
            while smoothed(w - length * step, heat) > value and length > 1e-8:
                length /= 2
            w = w - length * step

    # Newton's method on the conditions of optimality: groups of positive weight are the
    # worst ones, all of the same loss, the level.
    active = np.flatnonzero(p > 1e-3)
    k = len(active)
    level = float(p @ at(w)[0])
    p = np.where(p > 1e-3, p, 0)
    for _ in range(20):
        losses, slopes, pull = at(w)
        worst = slopes[active]
        system = np.zeros((d + k + 1, d + k + 1))
        system[:d, :d], system[:d, d:-1] = curvature(p, pull), worst.T
        system[d:-1, :d], system[d:-1, -1] = worst, -1
        system[-1, d:-1] = 1
        gaps = np.concatenate(
            [p @ slopes + mu * w, losses[active] - level, [p.sum() - 1]]
        )
        step = np.linalg.solve(system, gaps)
        w, level = w - step[:d], level - step[-1]
        p[active] -= step[d:-1]
        if np.abs(step).max() <= 1e-15 * max(1.0, np.abs(w).max()):
            break
    losses = at(w)[0]
    if p.min() < 0 or losses.max() > level + 1e-9:
        raise ValueError("the groups that matter were not identified")
    return w, p


@register(
    "adult_fairness",
    summary="income predicted for the worst of four groups of sex and race, on adult "
    "census",
    source="Kohavi, 1996; Sagawa et al., 2020, arXiv:1911.08731",
    shows="fair risk at the scale of 32,561 rows",
    solution="Nash",
    zero_sum=True,
    domain="unconstrained, simplex",
    finite_sum=True,
    files="adult",
)
def adult_fairness(
    root: str | None = None,
    *,
    mu: float = 0.01,
    batch_size: int = 256,
    entropic: bool = False,
) -> Problem:
    """Build `group_robust_logistic` on the adult census data.

    Args:
        root: the data directory, with `adult.data` in it or in the folder `adult`; the
            environment variable GAMEDYN_DATA if `None`.
        mu: the weight of the regulariser, positive.
        batch_size: the number of indices that `sample` draws.
        entropic: whether p takes entropic steps instead of projected ones.

    Returns:
        The problem, with the groups of `gamedyn.data.census.table`.

    Raises:
        FileNotFoundError: if the file is missing; the message says how to obtain it.
        ValueError: if it is damaged.
    """
    from gamedyn.data import census  # the one game that reads files

    people = census.table(census.load("train", root=root))
    return group_robust_logistic(
        people.features,
        people.labels,
        people.groups,
        mu=mu,
        batch_size=batch_size,
        entropic=entropic,
    )
