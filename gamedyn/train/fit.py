"""Train a game: a loop on the host over one compiled call of several steps."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gamedyn.checks import (
    check_function,
    check_key,
    check_positive_integer,
    described,
)
from gamedyn.fields import Field
from gamedyn.game import Game, Params, PyTree
from gamedyn.rules.base import Rule
from gamedyn.solve import (
    all_finite,
    check_without_batch,
    inner_status,
    prepare,
)
from gamedyn.train import checkpoints, sharding, watch
from gamedyn.train.averages import Average
from gamedyn.train.batches import Batches, Numbered, ahead, stacked
from gamedyn.train.callbacks import STOP, Callback, as_callback, metrics_of
from gamedyn.train.checkpoints import CheckpointError
from gamedyn.train.describe import ingredients, plain
from gamedyn.train.environment import environment
from gamedyn.train.folder import Origin, opened, origin_of
from gamedyn.train.ledger import Ledger
from gamedyn.train.locks import locked
from gamedyn.train.log import Row, progress_bar
from gamedyn.train.processes import from_first, most, together
from gamedyn.train.signals import Interrupted, noted
from gamedyn.train.state import Carry, Ending, TrainState
from gamedyn.train.step import (
    Record,
    Source,
    begin,
    compiled,
    losses_of,
    step_of,
    traced,
)

# The number of parameters up to which several steps per call are faster on the CPU:
# above it a step takes so long that the time to start one is negligible.
_SMALL = 2**17

_finite = jax.jit(all_finite)
_copied = jax.jit(partial(jax.tree.map, jnp.copy))


@together()
def fit(
    game_or_field: Game | Field,
    rule: Rule,
    params: Params,
    batches: Source,
    *,
    num_steps: int,
    key: jax.Array,
    steps_per_call: int | Literal["auto"] = "auto",
    directory: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool | Literal["anyway"] = False,
    overwrite: bool = False,
    keep_last: int = 2,
    best: str | None = None,
    best_mode: Literal["min", "max"] = "min",
    record: Record | None = None,
    log_every: int = 100,
    callbacks: Sequence[Callback | Callable[[TrainState, Row], Any]] = (),
    average: Average | None = None,
    mesh: Mesh | None = None,
    config: dict[str, Any] | None = None,
    progress: bool | None = None,
) -> TrainState:
    """Train for `num_steps` steps of a rule, with a loop on the host.

    Does what `gamedyn.solve` does, step for step and key for key, for runs that are
    long, large or fed with data: evaluation j of step k gets its batch from
    `split(fold_in(key, k), num_batches)[j]`. `params` is copied first; from then on the
    state is donated from call to call, so that it is in memory only once. Metrics are
    fetched only every `log_every` steps.

    With a `directory` the run keeps checkpoints there, and the metrics in
    `metrics.jsonl`, one JSON object per line: `step` (the number of steps done),
    `seconds`, `steps_per_second`, and what `record` returned for the last of these
    steps, before its update. A run that is killed at any moment and resumed ends with
    the same bits and the same rows as one that was not, where the compiled step repeats
    its bits: on CPUs of one kind, with the same versions and the same mesh; on GPUs
    only under `XLA_FLAGS=--xla_gpu_deterministic_ops=true`. A checkpoint says where it
    was made, and going on elsewhere gives a warning.

    SIGTERM, SIGHUP and Ctrl-C end the run after the current call, with a checkpoint, if
    `fit` runs in the main thread; the state says which `signal` came and what is
    `saved`. A second Ctrl-C exits without one, but finishes one that is begun. One run
    at a time writes into a directory: a lock keeps others out. Of several processes
    that train together all end if one fails, see `together`.

    Args:
        game_or_field: a game, whose gradient field is descended, or any field.
        rule: the update rule.
        params: the start, a tuple with one floating-point pytree per player.
        batches: host data (`Batches`, see `from_arrays`), a function `key -> batch`
            traced in the step (`Numbered`, if it needs the number of the step), or
            `None` for a deterministic game.
        num_steps: total number of steps, including those before a resume.
        key: the PRNG key of the run.
        steps_per_call: steps in one compiled loop. "auto": 20 up to 2**17 parameters
            (always 10 on accelerators), else 1. With XLA's own convolutions on the CPU
            choose 1: inside a loop they are slower.
        directory: where checkpoints and metrics go; nothing is written if `None`.
        checkpoint_every: steps between two checkpoints; one at the end if `None`.
        resume: continue from the newest intact checkpoint in `directory`, or start
            afresh if there is none. "anyway": even if game, rule, data, their order or
            `config` have changed, as long as the state has the same structure.
        overwrite: remove an earlier run's checkpoints and metrics, instead of raising
            an error.
        keep_last: how many of the newest checkpoints to keep.
        best: also keep the checkpoint at which this metric is best.
        best_mode: whether "min" or "max" is best.
        record: `record(params, rule_state, batches, step)` returns a pytree of scalars,
            evaluated before the update, where losses are shared with it. By default a
            game's losses on the first batch of the step, `loss_0` and so on.
        log_every: steps between two rows of metrics.
        callbacks: functions `callback(state, metrics)`, or `Callback`s.
        average: an average of the point that the rule reports, such as `ema(0.999)`.
        mesh: spread each batch over the first axis of this mesh, see `data_mesh`;
            game and rule do not change. With several processes every process calls
            `fit`, and process 0 writes.
        config: anything made of JSON values, stored with each checkpoint and compared
            on resume.
        progress: whether to show a progress bar; if `None`, only on a terminal.

    Returns:
        The final state, or the state where the run was stopped; its `status` is an
        `Ending`. If the run became non-finite: the state of the last checkpoint, or,
        without `checkpoint_every`, that of the last logged row.

    Raises:
        ValueError: if a number is not a positive integer, a stochastic game is given no
            batches, `directory` holds a run and
            neither `resume` nor `overwrite` is given, or a resumed run differs from the
            stored one; the message names every difference.
        TypeError: if `params` is no tuple of floating-point pytrees, `key` is no key,
            a function takes other arguments, or `config` is not made of JSON values.
        CheckpointError: if a checkpoint cannot be written, or all are damaged.
        LockedError: if another run writes into `directory`.
        Interrupted: a `KeyboardInterrupt`, at a second Ctrl-C.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> import gamedyn as gd
        >>> from gamedyn import train
        >>> game = gd.zero_sum(lambda x, y, noise: x * y + noise * x, stochastic=True)
        >>> state = train.fit(
        ...     game, gd.extragradient(optax.sgd(0.5)), (jnp.ones(()), jnp.ones(())),
        ...     lambda key: 0.1 * jax.random.normal(key), num_steps=200,
        ...     key=jax.random.key(0), log_every=50, average=train.uniform(100))
        >>> state.step, len(state.history), state.status == gd.Status.OK
        (200, 4, True)
    """
    # Check the arguments now: what is wrong with them must not wait for hours.
    for name, value in (
        ("num_steps", num_steps),
        ("log_every", log_every),
        ("keep_last", keep_last),
    ):
        check_positive_integer(name, value)
    _check_saving(directory, checkpoint_every, resume, overwrite, best, best_mode)
    log_every = min(log_every, num_steps)
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, Callback):
        got = described(callbacks)
        raise TypeError(f"callbacks must be a list or tuple of them, got {got}")
    calls_back = [as_callback(callback, log_every) for callback in callbacks]
    field, params, _ = prepare(game_or_field, rule, params, rule_state=())
    check_key(key)
    if batches is None:
        advice = "pass a function of a key, or train.from_arrays(...)"
        check_without_batch(game_or_field, params, advice)
    elif not isinstance(batches, Batches | Numbered):
        hint = "; data are train.from_arrays(...)"
        check_function("batches", batches, "key", hint=hint)
    for name, value, kind in (("average", average, Average), ("mesh", mesh, Mesh)):
        if not isinstance(value, kind | None):
            got = described(value)
            raise TypeError(f"{name} must be {kind.__name__} or None, got {got}")
    if record is not None:
        check_function("record", record, "params", "rule_state", "batches", "step")
    if record is None and isinstance(game_or_field, Game):
        record = losses_of(game_or_field)

    # Describe the run: a checkpoint stores this, and a resume compares it. Of
    # `steps_per_call` only a choice of the caller's is compared; "auto" keeps to what
    # the stored run had.
    parts = step_of(field, rule, batches, average, mesh)
    model = jax.jit(partial(begin, rule, average))(params)
    folder = None if directory is None else Path(directory)
    about, around = {}, {}
    if steps_per_call == "auto":
        steps_per_call = _steps_per_call(params)
    else:
        check_positive_integer("steps_per_call", steps_per_call)
        about["steps_per_call"] = steps_per_call

    with contextlib.ExitStack() as stack:
        # Start at step 0, or where the run in `directory` left off. Process 0 reads,
        # and keeps others out until the end.
        origin = Origin(sharding.host(model), 0.0, steps_per_call, 0)
        if folder is not None:
            around = environment(mesh)
            shapes, identity = traced(parts, batches, key, model, rule.num_batches)
            about["batches"] = shapes
            about |= _describe(game_or_field, rule, batches, key, average, config)

            def enter() -> Origin:
                stack.enter_context(locked(folder))
                return opened(
                    folder,
                    origin,
                    about,
                    identity,
                    around,
                    num_steps,
                    resume=resume,
                    overwrite=overwrite,
                )

            origin = from_first(enter, origin)
            about["program"] = identity()
        about["steps_per_call"] = steps_per_call = int(origin.steps_per_call)
        start = int(origin.carry.step)

        # Compile the steps, and open the log and the checkpoints. Process 0 writes.
        call = compiled(
            parts, key, record=record, steps_per_call=steps_per_call, mesh=mesh
        )
        ledger = Ledger(
            folder if jax.process_index() == 0 else None,
            origin,
            about,
            around,
            keep_last=keep_last,
            best=best,
            best_mode=best_mode,
        )

        def on_device(origin: Origin) -> Carry:
            return sharding.as_keys(sharding.place(origin.carry, mesh), model)

        def state_of(carry: Carry, status: Ending = Ending.OK) -> TrainState:
            _, point, state, mean = carry
            return TrainState(
                int(carry.step),
                point,
                state,
                mean,
                key,
                rule.output(point, state),
                status,
                ledger.rows,
                ended_by or (signals[0] if signals else 0),
                ledger.saved,
            )

        # Cut the steps into calls that end wherever something is due; the data of the
        # next call are loaded while the current one runs.
        periods = [log_every, *(callback.every for callback in calls_back)]
        periods += [checkpoint_every or num_steps]
        spans = _spans(start, num_steps, steps_per_call, periods)
        load = partial(_load, batches, rule.num_batches, steps_per_call, mesh)
        key_data, resident = np.asarray(sharding.key_data(key)), None
        if isinstance(batches, Batches) and batches.resident is not None:
            resident = sharding.place(sharding.host(batches.resident), mesh)

        # A run that becomes non-finite goes back to its last good state: to the newest
        # checkpoint, or, without any, to a copy made at the last row.
        carry, status = on_device(origin), Ending.OK
        kept = _copied(carry) if checkpoint_every is None else None

        signals, ended_by = stack.enter_context(noted()), 0
        stack.enter_context(_closed(ledger, signals))
        watch.started(folder, start, about)
        shown = progress if jax.process_index() == 0 else False
        report = stack.enter_context(progress_bar(shown, start, num_steps))
        feed = stack.enter_context(contextlib.closing(ahead(load, spans)))
        previous = None
        for (begun, step), arrays in feed:
            # Start a call, and wait for the one before it: two are in flight at most,
            # so that a signal is answered soon.
            count = np.int32(step - begun)
            carry, recorded, done = call(carry, count, key_data, arrays, resident)
            jax.block_until_ready(previous)
            previous = done

            # Go on at once unless something is due, since reading a result waits for
            # it. Several processes must act on a signal at the same step, so they do
            # it where something is due anyway.
            logs = step % log_every == 0
            due = [each for each in calls_back if step % (each.every or 1) == 0]
            saves = step == num_steps or step % (checkpoint_every or num_steps) == 0
            interrupted = bool(signals) and jax.process_count() == 1
            if not (logs or due or saves or interrupted):
                continue
            if not _finite(carry[1:]):
                status = Ending.NON_FINITE
                break

            # Fetch the metrics, call back, log.
            row, answers = ledger.measured(step, recorded), []
            for callback in due:
                answers.append(callback.function(state_of(carry), dict(row)))
                row |= metrics_of(answers[-1])
            if logs or any(isinstance(answer, dict) for answer in answers):
                ledger.add(row)
            report(step, row)

            # Save what is due, and what an early end would lose.
            ended_by = most(signals[0] if signals else 0)
            if ended_by and step < num_steps:
                status = Ending.INTERRUPTED
            if most(STOP in answers):
                status = Ending.STOPPED
            if saves or status:
                ledger.save(step, carry)
            if status:
                break
            if logs and kept is not None:
                kept = _copied(carry)

    # Return the state reached, or the last good one.
    if status == Ending.NON_FINITE:
        carry = on_device(_last_good(folder, origin)) if kept is None else kept
    elif status == Ending.OK:
        status = Ending(int(inner_status(carry.rule_state)))
    return watch.ended(state_of(carry, status))


def _describe(
    game_or_field: Game | Field,
    rule: Rule,
    batches: Source,
    key: jax.Array,
    average: Average | None,
    config: dict[str, Any] | None,
) -> dict[str, Any]:
    """Describe what a run depends on, as JSON values."""
    about = {
        "config": _plain_config(config),
        "key": np.asarray(sharding.key_data(key)).tolist(),
        "num_batches": rule.num_batches,
        "data": _source(batches),
        "rule": ingredients(rule),
        "game": ingredients(game_or_field),
        "average": ingredients(average),
    }
    return plain(about)


def _plain_config(config: dict[str, Any] | None) -> Any:
    try:
        return plain(config)
    except (TypeError, ValueError) as error:
        raise type(error)(f"config must be made of JSON values: {error}") from error


def _source(batches: Source) -> dict[str, Any]:
    """Describe where batches come from: the data, their order, and the functions."""
    if isinstance(batches, Batches) and batches.fingerprint is not None:
        build = {f"build.{k}": v for k, v in ingredients(batches.build).items()}
        return {"fingerprint": batches.fingerprint, **build}
    return dict(ingredients(batches))


def _check_saving(
    directory, checkpoint_every, resume, overwrite, best, best_mode
) -> None:
    if checkpoint_every is not None:
        check_positive_integer("checkpoint_every", checkpoint_every)
    if resume not in (True, False, "anyway"):
        raise ValueError(f"resume is True, False or 'anyway', got {resume!r}")
    if best_mode not in ("min", "max"):
        raise ValueError(f"best_mode is 'min' or 'max', got {best_mode!r}")
    if resume and overwrite:
        raise ValueError(
            "resume continues an earlier run, overwrite removes it: choose one"
        )
    wanting = {
        "checkpoint_every": checkpoint_every,
        "resume": resume or None,
        "best": best,
    }
    named = [name for name, value in wanting.items() if value is not None]
    if directory is None and named:
        raise ValueError(f"{' and '.join(named)} needs a directory, got none")


def _steps_per_call(params: Params) -> int:
    if jax.default_backend() != "cpu":
        return 10
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return 20 if size <= _SMALL else 1


def _spans(
    start: int, num_steps: int, longest: int, periods: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield (first step, step after the last) of each call.

    A call has at most `longest` steps and ends at every multiple of every period.
    """
    while start < num_steps:
        due = (start + period - start % period for period in periods)
        stop = min(start + longest, num_steps, *due)
        yield start, stop
        start = stop


def _load(
    batches: Source,
    num_batches: int,
    steps_per_call: int,
    mesh: Mesh | None,
    span: tuple[int, int],
) -> PyTree:
    """Load the data of a call, arrays of shape (steps, evaluations, examples, ...)."""
    if not isinstance(batches, Batches):
        return None
    indices = range(num_batches * span[0], num_batches * span[1])
    flat = stacked(batches.load, indices, num_batches * steps_per_call)
    shape = (steps_per_call, num_batches)
    folded = jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), flat)
    return sharding.spread(folded, mesh)


def _last_good(folder: Path | None, origin: Origin) -> Origin:
    """Return to the newest checkpoint, or to the origin if there is none."""

    def newest() -> Origin:
        checkpoint = None
        if folder is not None:
            checkpoint = checkpoints.newest(folder / checkpoints.FOLDER)
        return origin if checkpoint is None else origin_of(checkpoint, origin)

    return from_first(newest, origin)


@contextlib.contextmanager
def _closed(ledger: Ledger, signals: list[int]) -> Iterator[None]:
    """Finish a checkpoint that is being written; tell who leaves what is saved."""
    try:
        yield
        ledger.close()
    except KeyboardInterrupt:
        # Python waits for the thread anyway; but who insists is not made to wait here.
        with contextlib.suppress(KeyboardInterrupt, CheckpointError):
            ledger.close()
        number = signals[0] if signals else int(signal.SIGINT)
        raise Interrupted(number, ledger.reached, ledger.saved) from None
    except BaseException:
        ledger.close()
        raise
