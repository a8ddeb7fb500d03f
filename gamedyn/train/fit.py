"""Train a game: a host loop over one jitted, donated call of several steps."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gamedyn.checks import check_positive_integer
from gamedyn.fields import Field
from gamedyn.game import Game, Params, PyTree
from gamedyn.rules.base import Rule
from gamedyn.solve import _inner_status, _prepare, all_finite
from gamedyn.train import checkpoints, sharding
from gamedyn.train.averages import Average
from gamedyn.train.batches import Batches, ahead, stacked
from gamedyn.train.callbacks import STOP, Callback, as_callback, metrics_of
from gamedyn.train.describe import ingredients
from gamedyn.train.folder import (
    Origin,
    any_process,
    from_first,
    opened,
    origin_of,
)
from gamedyn.train.ledger import Ledger
from gamedyn.train.log import Row, progress_bar
from gamedyn.train.state import Carry, Ending, TrainState
from gamedyn.train.step import (
    Record,
    Source,
    batch_structure,
    begin,
    compiled,
    losses_of,
)

_SMALL = 2**17  # parameters up to which the CPU gains from several steps per call

_finite = jax.jit(all_finite)
_copied = jax.jit(partial(jax.tree.map, jnp.copy))


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
    """Do steps of a rule until `num_steps` are done, from the host.

    Does what `gamedyn.solve` does, step for step and key for key, for runs that are
    long, large or fed with data: evaluation j of step k gets its batch from
    `split(fold_in(key, k), num_batches)[j]`. The state is donated from call to call;
    `params` itself is copied first. Nothing is fetched from the device but every
    `log_every` steps.

    With a `directory` the run keeps checkpoints there, and the metrics in
    `metrics.jsonl`, one JSON object per line: `step` (the number of steps done),
    `seconds`, `steps_per_second`, and what `record` says of the last of these steps,
    before its update. A run that is killed at any moment and resumed ends, on the same
    machine, with the same bits and the same rows as one that was not.

    SIGTERM and Ctrl-C end the run after the current call, with a checkpoint, if `fit`
    runs in the main thread; a second Ctrl-C leaves at once.

    Args:
        game_or_field: a game, whose gradient field is descended, or any field.
        rule: the update rule.
        params: the start, a tuple with one floating-point pytree per player.
        batches: host data (`Batches`, see `from_arrays`), a function `key -> batch`
            traced in the step (`Numbered`, if it must know the step), or `None` for a
            deterministic game.
        num_steps: the number of steps in the end, those before a resume included.
        key: the PRNG key of the run.
        steps_per_call: steps in one compiled loop. "auto": 20 up to 2**17 parameters
            (on accelerators 10 in any case), else 1. More than 1 does not suit
            convolutions left to XLA's own on the CPU.
        directory: where checkpoints and metrics go; nothing is written if `None`.
        checkpoint_every: steps between two checkpoints; one at the end if `None`.
        resume: continue from the newest whole checkpoint in `directory`, or begin if
            there is none. "anyway": even where game, rule or `config` have changed, the
            structure of the state being the same.
        overwrite: remove an earlier run's checkpoints and metrics, instead of refusing.
        keep_last: how many of the newest checkpoints to keep.
        best: keep the checkpoint, too, for which this metric is best.
        best_mode: whether "min" or "max" is best.
        record: `record(params, rule_state, batches, step)` returns a pytree of scalars,
            evaluated before the update, where losses are shared with it. By default a
            game's losses on the first batch of the step, `loss_0` and so on.
        log_every: the steps between two rows of metrics.
        callbacks: functions `callback(state, metrics)`, or `Callback`s.
        average: an average of what the rule reports, such as `ema(0.999)`.
        mesh: spread each batch over the first axis of this mesh, see `data_mesh`;
            game and rule do not change. With several processes every process calls
            `fit`, and process 0 writes.
        config: anything of JSON values, stored with each checkpoint and compared on
            resume.
        progress: whether to show a bar; on a terminal only, if `None`.

    Returns:
        The state in the end, or where the run stopped; its `status` is an `Ending`. If
        the run became non-finite: the state of the last checkpoint (without
        `checkpoint_every`, of the last row).

    Raises:
        ValueError: if a number is not a positive integer, `directory` holds a run and
            neither `resume` nor `overwrite` is given, or a resumed run differs from the
            stored one; the message names every difference.
        TypeError: if `params` is not a tuple of floating-point pytrees.
        CheckpointError: if a checkpoint cannot be written, or all are damaged.

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
    for name, value in (
        ("num_steps", num_steps),
        ("log_every", log_every),
        ("keep_last", keep_last),
    ):
        check_positive_integer(name, value)
    _check_saving(directory, checkpoint_every, resume, best, best_mode)
    if resume and overwrite:
        raise ValueError("resume goes on with a run, overwrite removes it: choose one")
    log_every = min(log_every, num_steps)
    told = [as_callback(callback, log_every) for callback in callbacks]
    field, params, _ = _prepare(game_or_field, rule, params, rule_state=())
    if record is None and isinstance(game_or_field, Game):
        record = losses_of(game_or_field)

    about = {
        "config": config,
        "key": np.asarray(sharding.words(key)).tolist(),
        "num_batches": rule.num_batches,
        "batches": batch_structure(batches, key, rule.num_batches),
        "rule": ingredients(rule),
        "game": ingredients(game_or_field),
        "average": ingredients(average),
    }
    if steps_per_call == "auto":
        steps_per_call = _steps_per_call(params)
    else:
        check_positive_integer("steps_per_call", steps_per_call)
        about["steps_per_call"] = steps_per_call
    model = jax.jit(partial(begin, rule, average))(params)
    origin = Origin(sharding.host(model), 0.0, steps_per_call, 0)
    folder = None if directory is None else Path(directory)
    if folder is not None:
        enter = partial(opened, folder, origin, about, num_steps)
        enter = partial(enter, resume=resume, overwrite=overwrite)
        origin = from_first(enter, origin)
    about["steps_per_call"] = steps_per_call = int(origin.steps_per_call)

    call = compiled(
        field,
        rule,
        batches,
        key,
        record=record,
        average=average,
        steps_per_call=steps_per_call,
        mesh=mesh,
    )
    ledger = Ledger(
        folder if jax.process_index() == 0 else None,
        origin,
        about,
        keep_last=keep_last,
        best=best,
        best_mode=best_mode,
    )

    def revived(origin: Origin) -> Carry:
        return sharding.as_keys(sharding.place(origin.carry, mesh), model)

    def seen(carry: Carry, ending: Ending = Ending.OK) -> TrainState:
        _, point, state, mean = carry
        output = rule.output(point, state)
        step = int(carry.step)
        return TrainState(step, point, state, mean, key, output, ending, ledger.rows)

    start = int(origin.carry.step)
    periods = [log_every, *(callback.every for callback in told)]
    periods += [checkpoint_every or num_steps]
    spans = _spans(start, num_steps, steps_per_call, periods)
    load = partial(_load, batches, rule.num_batches, steps_per_call, mesh)
    words, resident = np.asarray(sharding.words(key)), None
    if isinstance(batches, Batches) and batches.resident is not None:
        resident = sharding.place(sharding.host(batches.resident), mesh)
    carry, ending, before = revived(origin), Ending.OK, None
    # The last good state is on the disk, or else a copy at the last row.
    kept = _copied(carry) if checkpoint_every is None else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_closed(ledger))
        signals = stack.enter_context(_signals())
        shown = progress if jax.process_index() == 0 else False
        tell = stack.enter_context(progress_bar(shown, start, num_steps))
        feed = stack.enter_context(contextlib.closing(ahead(load, spans)))
        for (begun, step), arrays in feed:
            count = np.int32(step - begun)
            carry, recorded, done = call(carry, count, words, arrays, resident)
            # Two calls are in flight at most, so that a signal is soon answered.
            jax.block_until_ready(before)
            before = done

            logs = step % log_every == 0
            due = [callback for callback in told if step % (callback.every or 1) == 0]
            saves = step == num_steps or step % (checkpoint_every or num_steps) == 0
            # Several processes must agree, so they wait for a step known to all.
            alone = bool(signals) and jax.process_count() == 1
            if not (logs or due or saves or alone):
                continue
            if not _finite(carry[1:]):
                ending = Ending.NON_FINITE
                break
            row, answers = ledger.measured(step, recorded), []
            for callback in due:
                answers.append(callback.function(seen(carry), dict(row)))
                row |= metrics_of(answers[-1])
            if logs or any(isinstance(answer, dict) for answer in answers):
                ledger.add(row)
            tell(step, row)
            if any_process(bool(signals)) and step < num_steps:
                ending = Ending.INTERRUPTED
            if any_process(STOP in answers):
                ending = Ending.STOPPED
            if saves or ending:
                ledger.save(step, carry)
            if ending:
                break
            if logs and kept is not None:
                kept = _copied(carry)

    if ending == Ending.NON_FINITE:
        carry = revived(_last_good(folder, origin)) if kept is None else kept
    elif ending == Ending.OK:
        ending = Ending(int(_inner_status(carry.rule_state)))
    return seen(carry, ending)


def _check_saving(directory, checkpoint_every, resume, best, best_mode) -> None:
    if checkpoint_every is not None:
        check_positive_integer("checkpoint_every", checkpoint_every)
    if resume not in (True, False, "anyway"):
        raise ValueError(f"resume is True, False or 'anyway', got {resume!r}")
    if best_mode not in ("min", "max"):
        raise ValueError(f"best_mode is 'min' or 'max', got {best_mode!r}")
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
    """Cut the steps into calls that end wherever something is due."""
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
    """Load what a call needs, shape (steps, evaluations, examples, ...)."""
    if not isinstance(batches, Batches):
        return None
    indices = range(num_batches * span[0], num_batches * span[1])
    flat = stacked(batches.load, indices, num_batches * steps_per_call)
    shape = (steps_per_call, num_batches)
    folded = jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), flat)
    return sharding.spread(folded, mesh)


def _last_good(folder: Path | None, origin: Origin) -> Origin:
    def newest() -> Origin:
        found = None
        if folder is not None:
            found = checkpoints.newest(folder / checkpoints.FOLDER)
        return origin if found is None else origin_of(found, origin.carry)

    return from_first(newest, origin)


@contextlib.contextmanager
def _closed(ledger: Ledger) -> Iterator[None]:
    """Finish the checkpoint in the making, except after a second Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        ledger.close(wait=False)
        raise
    except BaseException:
        ledger.close()
        raise
    ledger.close()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them, in the main thread."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: Any) -> None:
        del frame
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        if number == signal.SIGINT:
            print("\nfinishing the current steps; Ctrl-C again leaves", file=sys.stderr)

    earlier = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
