"""The pictures, `gamedyn.workbench.plot`, under the package's own name."""

from gamedyn.workbench.plot import *  # noqa: F403
