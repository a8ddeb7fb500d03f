"""Train games on the host: a loop over a jitted step, checkpoints, logs, averages."""

from typing import TYPE_CHECKING

# ruff: noqa: I001  Every public name on one line.
from gamedyn.registry import missing as _missing
from gamedyn.train.averages import (
    Average as Average,
    ema as ema,
    ema_half_life as ema_half_life,
    uniform as uniform,
)
from gamedyn.train.batches import (
    Batches as Batches,
    Numbered as Numbered,
    from_arrays as from_arrays,
)
from gamedyn.train.callbacks import (
    STOP as STOP,
    Callback as Callback,
)
from gamedyn.train.checkpoints import (
    Checkpoint as Checkpoint,
    CheckpointError as CheckpointError,
    load as load,
)
from gamedyn.train.conversion import convert as convert
from gamedyn.train.fit import fit as fit
from gamedyn.train.locks import (
    LockedError as LockedError,
    locked as locked,
)
from gamedyn.train.log import (
    read_metrics as read_metrics,
    tensorboard as tensorboard,
)
from gamedyn.train.pictures import (
    grid as grid,
    sample_grid as sample_grid,
    sample_paths as sample_paths,
    to_uint8 as to_uint8,
    write_gif as write_gif,
    write_png as write_png,
)
from gamedyn.train.processes import together as together
from gamedyn.train.sharding import data_mesh as data_mesh
from gamedyn.train.signals import Interrupted as Interrupted
from gamedyn.train.state import (
    Ending as Ending,
    TrainState as TrainState,
    averaged_params as averaged_params,
)

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
