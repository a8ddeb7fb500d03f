"""Recipes: modules that train something whole, found by name or path, run by command.

A recipe is a module, or a package, with

- `main(config) -> summary`, which trains into the folder `config.out` and returns what
  is to be printed, a mapping of names to values;
- `Config`, the frozen dataclass of its options, each with a default; among them
  `out: Path`, and `resume: bool` if it can go on with what is in that folder;
- if it has samples and metrics, `sample(config, number, seed) -> paths` and
  `evaluate(config) -> summary`, both for the run in `config.out`; `sample` may take a
  fourth argument, `prompt=None`, the words of what is to be shown;
- optionally `SMOKE`, a `Config` of a few seconds;
- optionally `complete(config) -> config`, which fills in what the options leave open,
  before they are stored.

`main`, `sample` and `evaluate` may come in one piece, as `Commands`. The recipes that
come with the package are known by their names, the modules of the folder `shipped()`:
`gamedyn/experiments` where it is installed, `experiments` in a checkout. Any other is
known by its path, a copy of one of them for example, or by the name under which a
plugin registers it.

The folder of a run holds `run.json`: which recipe (its name and the SHA-256 of its
source), its options, the command, date, commit and environment, and the same for every
time that it went on; at the end also `summary.json`, what `main` returned, and
`evaluation-1.json` and so on, what `evaluate` did. It is written once the run is
accepted: by `gamedyn.train.fit`, or when a recipe with its own loop says `started()`.

A folder may come from anybody. It is data: the options are checked against the recipe's
types, and no recipe is imported because a record names its path.

What the recipes share is in the modules of this package: `pictures` (options, data,
training and metrics of pictures), `image_gans`, `diffusion_models`,
`diffusion_pictures`, `diffusion_points`, `rules`. A recipe itself shows its options,
data, networks, game and rule.
"""

from typing import TYPE_CHECKING

from gamedyn.recipes.folders import RECORD
from gamedyn.recipes.lookup import (
    Commands,
    import_path,
    load,
    named_after,
    names,
    register,
    shipped,
    summaries,
    unregister,
)
from gamedyn.recipes.records import (
    beside,
    evaluate,
    read_record,
    resume,
    run,
    started,
    write_json,
    write_values,
)
from gamedyn.recipes.values import from_json, to_json
from gamedyn.registry import missing as _missing

__all__ = [
    "RECORD",
    "Commands",
    "beside",
    "evaluate",
    "from_json",
    "import_path",
    "load",
    "named_after",
    "names",
    "read_record",
    "register",
    "resume",
    "run",
    "shipped",
    "started",
    "summaries",
    "to_json",
    "unregister",
    "write_json",
    "write_values",
]

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
