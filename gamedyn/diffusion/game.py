"""Diffusion models as games of one player, and the batches of these games."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gamedyn.checks import check_output, check_positive, check_positive_integer
from gamedyn.diffusion.guidance import null_like
from gamedyn.diffusion.likelihood import DECODERS, bound_term, check_decoder
from gamedyn.diffusion.process import PREDICTIONS, convert, per_example, q_sample
from gamedyn.diffusion.sampling import preconditioned
from gamedyn.diffusion.schedules import Schedule
from gamedyn.game import Game
from gamedyn.nets.net import check_choice

WEIGHTINGS = ("plain", "noise", "min_snr")
"""Weights of the squared error of a prediction, see `game`."""

OBJECTIVES = ("simple", "hybrid", "bound")
"""What is minimised: the squared error, that and the bound, or the bound."""


class Batch(NamedTuple):
    """What the loss of a diffusion model is stochastic in.

    Attributes:
        x: data, shape (B, ...): pictures in [-1, 1], or points.
        key: a PRNG key; time steps, noise and dropped conditions are drawn from it.
        condition: a pytree of arrays, one row per example, or `None`.
        times: the indices of the steps, shape (B,), in place of drawn ones (in
            `edm_game` the sigmas): frozen randomness.
        noise: the noise, of the shape of `x`, likewise.
        probabilities: with which steps are drawn, shape (T,), see `importance`; `None`:
            uniformly.
    """

    x: Any
    key: Any
    condition: Any = None
    times: Any = None
    noise: Any = None
    probabilities: Any = None


class Evaluation(NamedTuple):
    """The loss of every example.

    Attributes:
        losses: shape (B,); the game's loss is their mean.
        times: indices of steps (or sigmas), shape (B,).
        errors: mean squared error of the prediction, without any weight, shape (B,).
        terms: terms of the bound in bits per dimension, shape (B,), or `None`.
    """

    losses: jax.Array
    times: jax.Array
    errors: jax.Array
    terms: jax.Array | None = None


def game(
    net: Any,
    schedule: Schedule,
    *,
    prediction: str = "eps",
    weighting: str = "plain",
    gamma: float = 5.0,
    objective: str = "simple",
    learned_variance: bool | None = None,
    decoder: str = "discretised",
    condition_dropout: float = 0.0,
    null: Any = None,
) -> Game:
    r"""Make the game of a network that predicts about noisy data.

    $$E_{t, x_0, \epsilon}\; w_t\, \tfrac1D \| y_t - f_\theta(a_t x_0 + s_t \epsilon, t)
      \|^2,$$

    y being the noise (the lecture's loss), the data, v or the score. One player: any
    rule trains it. Its batches are `Batch`es.

    | weighting | eps | x0 | v | score |
    |---|---|---|---|---|
    | plain | 1 | 1 | 1 | 1 |
    | noise: as if eps were compared | 1 | SNR | SNR/(SNR + 1) | $s^2$ |
    | min_snr, m = min(SNR, gamma) | m/SNR | m | m/(SNR + 1) | $m s^2$/SNR |

    Args:
        net: a `gamedyn.nets.Net`, or `apply(params, x, t[, condition])`, of pictures
            NHWC or points (B, d); t, shape (B,), are the schedule's times in the dtype
            of x.
        schedule: the chain.
        prediction: what the network predicts: one of `process.PREDICTIONS`.
        weighting: one of `WEIGHTINGS`.
        gamma: of "min_snr".
        objective: "simple"; "hybrid": that and T/1000 times a term of the bound, in
            bits per dimension, which trains only a learned variance; "bound": T times
            that term, which trains both.
        learned_variance: whether the network returns twice the channels, the second
            half being nu; by default for all objectives but "simple".
        decoder: the bound's, see `likelihood.bound`.
        condition_dropout: the share of conditions replaced by the null condition, .1
            or .2 for guidance without a classifier.
        null: the null condition: one value, or a pytree like an example's condition.

    Returns:
        The game; its params are the tuple `(theta,)`.

    Raises:
        ValueError: if a name is unknown, or the choices exclude one another; when
            evaluated, if the batch does not fit the game.
        TypeError: if the network is no function, or the schedule none.

    References:
        J. Ho, A. Jain and P. Abbeel, Denoising Diffusion Probabilistic Models, 2020.
        <https://arxiv.org/abs/2006.11239>

        A. Nichol and P. Dhariwal, Improved Denoising Diffusion Probabilistic Models,
        2021. <https://arxiv.org/abs/2102.09672>

        T. Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy,
        2023. <https://arxiv.org/abs/2303.09556>

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gamedyn import diffusion
        >>> silent = diffusion.game(lambda theta, x, t: theta * x,
        ...                         diffusion.schedules.cosine(100))
        >>> batch = diffusion.Batch(jnp.zeros((500, 9)), jax.random.key(0))
        >>> print(f"{silent((jnp.zeros(()),), batch)[0]:.1f}")  # the noise's variance
        1.0
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"expected a schedule from gamedyn.diffusion.schedules, got "
            f"{type(schedule).__name__}"
        )
    check_choice("prediction", prediction, PREDICTIONS)
    check_choice("weighting", weighting, WEIGHTINGS)
    check_choice("objective", objective, OBJECTIVES)
    check_choice("decoder", decoder, DECODERS)
    check_positive("gamma", gamma)
    _check_dropout(condition_dropout, null)
    learned = objective != "simple" if learned_variance is None else learned_variance
    if objective == "hybrid" and not learned:
        raise ValueError(
            "the hybrid objective trains a learned variance: expected "
            "learned_variance=True"
        )
    signal = np.asarray(schedule.signal)
    if prediction in ("eps", "score") and signal.min() <= 0:
        raise ValueError(
            f"the last step keeps no signal (zero terminal SNR), and {prediction} says "
            f"nothing about the data there; predict v or x0"
        )
    loss = DiffusionLoss(
        _as_function(net),
        schedule,
        prediction,
        _weights(schedule, prediction, weighting, gamma),
        objective,
        learned,
        decoder,
        condition_dropout,
        null,
    )
    return Game(Partial(loss), num_players=1)


def edm_game(
    net: Any,
    *,
    data_deviation: float = 0.5,
    log_mean: float = -1.2,
    log_deviation: float = 1.2,
    condition_dropout: float = 0.0,
    null: Any = None,
) -> Game:
    r"""Make EDM's game: a preconditioned denoiser over log-normal noise levels.

    $$E\; \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2} \tfrac1D \| D_\theta(x_0 +
      \sigma \epsilon, \sigma) - x_0 \|^2, \qquad \ln \sigma \sim N(-1.2, 1.2^2),$$

    in which the network's own output has weight one.

    Args:
        net: as in `game`; the t it is given is $\tfrac14 \ln \sigma$, and its inputs
            and targets have variance one.
        data_deviation: the standard deviation of the data.
        log_mean: of $\ln \sigma$.
        log_deviation: likewise.
        condition_dropout: as in `game`.
        null: as in `game`.

    Returns:
        The game. `sampling.preconditioned` makes the denoiser for samplers.

    Raises:
        ValueError: if a deviation is not positive.

    References:
        T. Karras et al., 2022. <https://arxiv.org/abs/2206.00364>
    """
    check_positive("data_deviation", data_deviation)
    check_positive("log_deviation", log_deviation)
    _check_dropout(condition_dropout, null)
    loss = PreconditionedLoss(
        _as_function(net),
        data_deviation,
        log_mean,
        log_deviation,
        condition_dropout,
        null,
    )
    return Game(Partial(loss), num_players=1)


@dataclasses.dataclass(frozen=True, eq=False)
class DiffusionLoss:
    """The loss of a diffusion model's game, a function of `(params, batch)`."""

    apply: Callable[..., Any]
    schedule: Schedule
    prediction: str
    weights: np.ndarray
    objective: str
    learned: bool
    decoder: str
    condition_dropout: float
    null: Any

    def __call__(self, params: Any, batch: Batch) -> tuple[jax.Array]:
        """Evaluate the loss."""
        return (jnp.mean(self.evaluate(params, batch).losses),)

    def evaluate(self, params: Any, batch: Batch) -> Evaluation:
        """Return the loss of every example, and its parts."""
        (theta,) = params
        x0 = _data(batch)

        # Draw a time step and noise for every example.
        of_time, of_noise, of_condition = jax.random.split(batch.key, 3)
        number = len(self.schedule.times)
        t, share = self._times(of_time, batch, x0, number)
        noise = batch.noise
        if noise is None:
            noise = jax.random.normal(of_noise, x0.shape, x0.dtype)
        x = q_sample(self.schedule, x0, t, noise)

        # Predict, and compare with the target of that kind.
        times = jnp.asarray(self.schedule.times, x0.dtype)[t]
        output = _predicted(self, theta, x, times, of_condition, batch)
        predicted = jnp.split(output, 2, axis=-1)[0] if self.learned else output
        if predicted.shape != x.shape:
            raise ValueError(
                f"the network must return {x.shape}, or twice its channels with "
                f"learned_variance, got {output.shape}"
            )
        a, s = (
            jnp.asarray(table, x0.dtype)[t]
            for table in (self.schedule.signal, self.schedule.noise)
        )
        target = convert(noise, x, a, s, "eps", self.prediction)
        if self.prediction in ("x0", "v"):
            # Straight from the data: no division by a vanishing signal.
            target = x0
            if self.prediction == "v":
                target = per_example(a, x0) * noise - per_example(s, x0) * x0
        errors = _mean_square(predicted - target)
        losses = jnp.asarray(self.weights, x0.dtype)[t] * errors

        # Add a term of the variational bound, or take it alone.
        terms = None
        if self.objective != "simple":
            check_decoder(x0, self.decoder)
            nats = bound_term(
                self.schedule,
                x0,
                x,
                t,
                output,
                prediction=self.prediction,
                variance="learned" if self.learned else "small",
                decoder=self.decoder,
                detach_mean=self.objective == "hybrid",
            )
            terms = nats / jnp.asarray(x0[0].size * math.log(2), x0.dtype)
            if self.objective == "hybrid":
                losses = losses + terms * (number / 1000)
            else:
                losses = terms * number
        return Evaluation(losses / share, t, errors, terms)

    def _times(self, key: jax.Array, batch: Batch, x0: Any, number: int) -> Any:
        """Draw steps, and T times the probability of each."""
        if batch.probabilities is None:
            t = jax.random.randint(key, x0.shape[:1], 0, number, jnp.int32)
            share = jnp.ones(x0.shape[:1], x0.dtype)
            return (t if batch.times is None else jnp.asarray(batch.times)), share
        law = jnp.asarray(batch.probabilities, x0.dtype)
        if law.shape != (number,):
            raise ValueError(
                f"expected a probability for each of {number} steps, got {law.shape}"
            )
        t = jax.random.categorical(key, jnp.log(law), shape=x0.shape[:1])
        t = t.astype(jnp.int32) if batch.times is None else jnp.asarray(batch.times)
        return t, number * law[t]


@dataclasses.dataclass(frozen=True, eq=False)
class PreconditionedLoss:
    """The loss of EDM's game, a function of `(params, batch)`."""

    apply: Callable[..., Any]
    data_deviation: float
    log_mean: float
    log_deviation: float
    condition_dropout: float
    null: Any

    def __call__(self, params: Any, batch: Batch) -> tuple[jax.Array]:
        """Evaluate the loss."""
        return (jnp.mean(self.evaluate(params, batch).losses),)

    def evaluate(self, params: Any, batch: Batch) -> Evaluation:
        """Return the loss of every example, and its parts."""
        (theta,) = params
        x0 = _data(batch)
        if batch.probabilities is not None:
            raise ValueError("noise levels are log-normal here, got probabilities")
        of_time, of_noise, of_condition = jax.random.split(batch.key, 3)
        sigma = batch.times
        if sigma is None:
            z = jax.random.normal(of_time, x0.shape[:1], x0.dtype)
            sigma = jnp.exp(self.log_mean + self.log_deviation * z)
        sigma = jnp.asarray(sigma, x0.dtype)
        noise = batch.noise
        if noise is None:
            noise = jax.random.normal(of_noise, x0.shape, x0.dtype)
        x = x0 + per_example(sigma, x0) * noise

        def network(x, t):
            output = _predicted(self, theta, x, t, of_condition, batch)
            if output.shape != x.shape:
                raise ValueError(
                    f"the network must return {x.shape}, got {output.shape}"
                )
            return output

        denoise = preconditioned(network, data_deviation=self.data_deviation)
        errors = _mean_square(denoise(x, sigma) - x0)
        variance = self.data_deviation**2
        weights = (sigma**2 + variance) / (sigma**2 * variance)
        return Evaluation(weights * errors, sigma, errors)


def monitor(
    diffusion_game: Game, *, num_bins: int = 10, terms: bool = True
) -> Callable[..., dict[str, jax.Array]]:
    """Make the `record` that monitors the training of a diffusion model.

    Args:
        diffusion_game: a game made by `game`.
        num_bins: number of equal parts into which the time steps are divided.
        terms: whether to return what `importance.update` needs, an array entry per
            example; without it all are scalars, as `gamedyn.train.fit` wants them.

    Returns:
        `record(params, rule_state, batches, step)`, for `gamedyn.solve` and
        `gamedyn.train.fit`: on the step's first batch, before the update, the loss, the
        squared error of the prediction, and its mean in every bin of steps (NaN in an
        empty one): compare these with `exact.noise_floor`, since a loss that does not
        go down may have reached its floor. With a bound also `times` and
        `terms`, for `importance.update`, see there.

    Raises:
        ValueError: if the number of bins is not a positive integer.
        TypeError: if the game is not made by `game`.
    """
    check_positive_integer("num_bins", num_bins)
    loss = diffusion_game.losses.func
    if not isinstance(loss, DiffusionLoss):
        raise TypeError("expected a game made by gamedyn.diffusion.game")
    number = len(loss.schedule.times)

    def record(params, rule_state, batches, step) -> dict[str, jax.Array]:
        del rule_state, step
        evaluated = loss.evaluate(params, batches[0])
        bins = jax.nn.one_hot(
            evaluated.times * num_bins // number, num_bins, dtype=evaluated.errors.dtype
        )
        row = {"loss": jnp.mean(evaluated.losses), "error": jnp.mean(evaluated.errors)}
        means = evaluated.errors @ bins / jnp.sum(bins, axis=0)
        row |= {f"error_bin_{i}": means[i] for i in range(num_bins)}
        if terms and evaluated.terms is not None:
            row |= {"times": evaluated.times, "terms": evaluated.terms}
        return row

    return record


def _as_function(net: Any) -> Callable[..., Any]:
    function = getattr(net, "apply", net)
    if not callable(function):
        raise TypeError(
            f"expected a Net or a function of parameters, x and t, got "
            f"{type(net).__name__}"
        )
    return function


def _check_dropout(share: float, null: Any) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"condition_dropout must lie in [0, 1), got {share}")
    if share and null is None:
        raise ValueError(
            f"condition_dropout={share} needs the null condition that is put in place "
            f"of the others"
        )


def _weights(
    schedule: Schedule, prediction: str, weighting: str, gamma: float
) -> np.ndarray:
    snr, noise = np.asarray(schedule.snr), np.asarray(schedule.noise)
    if weighting == "plain":
        return np.ones_like(snr)
    as_noise = {
        "eps": np.ones_like(snr),
        "x0": snr,
        "v": snr / (snr + 1),
        "score": noise**2,
    }[prediction]
    if weighting == "noise":
        return as_noise
    # min(SNR, gamma) / SNR times the weights above, with no 0 / 0 at zero SNR.
    return as_noise * np.minimum(1.0, gamma / np.maximum(snr, 1e-300))


def _data(batch: Any) -> jax.Array:
    if not isinstance(batch, Batch):
        raise TypeError(
            f"the batch of a diffusion model is a gamedyn.diffusion.Batch, got "
            f"{type(batch).__name__}"
        )
    x0 = jnp.asarray(batch.x)
    if x0.ndim < 2 or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise ValueError(
            f"expected floating-point data of shape (B, ...), got {x0.dtype} of shape "
            f"{x0.shape}"
        )
    return x0


def _predicted(
    loss: Any, theta: Any, x: jax.Array, t: jax.Array, key: jax.Array, batch: Batch
) -> jax.Array:
    """Evaluate the network, with some conditions dropped."""
    output = _applied(loss, theta, x, t, key, batch)
    check_output("the network", output, x.dtype)
    return output


def _applied(
    loss: Any, theta: Any, x: jax.Array, t: jax.Array, key: jax.Array, batch: Batch
) -> jax.Array:
    condition = batch.condition
    if condition is None:
        if loss.null is not None:
            raise ValueError("the game is conditional, and the batch has no condition")
        return loss.apply(theta, x, t)
    number = x.shape[0]
    for leaf in jax.tree.leaves(condition):
        if leaf.shape[:1] != (number,):
            raise ValueError(
                f"expected a condition for each of {number} examples, got shape "
                f"{leaf.shape}"
            )
    if loss.condition_dropout:
        dropped = jax.random.bernoulli(key, loss.condition_dropout, (number,))
        condition = jax.tree.map(
            lambda kept, null: jnp.where(
                dropped.reshape(-1, *(1,) * (kept.ndim - 1)), null, kept
            ),
            condition,
            null_like(loss.null, condition),
        )
    return loss.apply(theta, x, t, condition)


def _mean_square(x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(x).reshape(x.shape[0], -1), axis=1)
