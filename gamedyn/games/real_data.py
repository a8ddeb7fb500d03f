"""Saddle problems on real data, with solutions found by other means."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.game import Batch, zero_sum
from gamedyn.games import _forms
from gamedyn.games.problem import Info, Problem, register
from gamedyn.geometry import euclidean, simplex


@functools.cache
def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, shape `(569, 30)`; labels, +1 for malignant, else -1."""
    from sklearn.datasets import load_breast_cancer

    features, benign = load_breast_cancer(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    return features, 1.0 - 2.0 * benign


@register(
    "distributionally robust logistic regression on the breast-cancer data",
    "Namkoong and Duchi, 2017, arXiv:1610.02581",
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
    "area under the ROC curve as a saddle problem on the breast-cancer data",
    "Ying et al., 2016, Stochastic online AUC maximization",
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
