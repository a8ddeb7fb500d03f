"""Train games on the host: a loop over a jitted step, checkpoints, logs, averages."""

from gamedyn.train.averages import Average, ema, ema_half_life, uniform
from gamedyn.train.batches import Batches, Numbered, from_arrays
from gamedyn.train.callbacks import STOP, Callback
from gamedyn.train.checkpoints import Checkpoint, CheckpointError, load
from gamedyn.train.fit import fit
from gamedyn.train.log import read_metrics, tensorboard
from gamedyn.train.pictures import (
    grid,
    sample_grid,
    sample_paths,
    to_uint8,
    write_gif,
    write_png,
)
from gamedyn.train.sharding import data_mesh
from gamedyn.train.state import Ending, TrainState, averaged_params

__all__ = [
    "STOP",
    "Average",
    "Batches",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "Ending",
    "Numbered",
    "TrainState",
    "averaged_params",
    "data_mesh",
    "ema",
    "ema_half_life",
    "fit",
    "from_arrays",
    "grid",
    "load",
    "read_metrics",
    "sample_grid",
    "sample_paths",
    "tensorboard",
    "to_uint8",
    "uniform",
    "write_gif",
    "write_png",
]
