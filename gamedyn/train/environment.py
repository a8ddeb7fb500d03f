"""Where a run runs, and what it computes there: to be compared when it is resumed."""

import hashlib
import platform
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.extend import core
from jax.sharding import Mesh
from jaxlib.version import __version__ as jaxlib_version

import gamedyn
from gamedyn.train.describe import digest


def environment(mesh: Mesh | None) -> dict[str, Any]:
    """Describe what the last bits of a run depend on besides the run itself.

    Args:
        mesh: the mesh of the run, or `None`.

    Returns:
        JSON values: "versions" of Python and the packages, and "devices": their
        platform, kind and number, the number of processes, and the mesh's axes.
    """
    devices = [_default_device()] if mesh is None else list(mesh.devices.flat)
    kind = devices[0].device_kind
    return {
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "jaxlib": jaxlib_version,
            "numpy": np.__version__,
            "optax": optax.__version__,
            "gamedyn": gamedyn.__version__,
        },
        "devices": {
            "platform": devices[0].platform,
            "kind": _processor() if devices[0].platform == "cpu" else kind,
            "number": len(devices),
            "processes": jax.process_count(),
            "mesh": {} if mesh is None else dict(mesh.shape),
        },
    }


def _default_device() -> Any:
    chosen = jax.config.values.get("jax_default_device")
    return chosen if hasattr(chosen, "platform") else jax.local_devices()[0]


def _processor() -> str:
    """Name the processor: compiled programs differ with what it can do."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = model[1] if model else platform.processor()
    return f"{platform.machine()} {name}".strip()


def program(*traced: core.ClosedJaxpr) -> str:
    """Identify traced functions by their operations and constants.

    The same functions give the same string in every process, as long as jax traces them
    alike; so it is compared between equal versions only. Names of functions and of
    variables do not matter, nor the place in the source.

    Args:
        *traced: the functions' programs.

    Returns:
        The number of operations, and a hash.
    """
    writer = _Writer()
    for each in traced:
        writer.value(each)
    return f"{writer.operations} operations {writer.code.hexdigest()[:12]}"


class _Writer:
    """Write programs into a hash, a repeated one by its number."""

    def __init__(self):
        self.code, self.operations = hashlib.sha256(), 0
        self._known: dict[int, tuple[int, Any]] = {}

    def word(self, text: str) -> None:
        # An address in memory may stand in what an object says of itself.
        self.code.update(re.sub(r"0x[0-9a-f]+", "", text).encode() + b"\0")

    def value(self, value: Any) -> None:
        if isinstance(value, core.ClosedJaxpr):
            self.value(value.jaxpr)
            self.value(value.consts)
        elif isinstance(value, core.Jaxpr):
            self._jaxpr(value)
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            self.word(digest(value))
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                self.word(str(key))
                self.value(value[key])
        elif isinstance(value, set | frozenset):
            self.value(sorted(map(str, value)))
        elif isinstance(value, list | tuple):
            self.word(f"{len(value)}")
            for part in value:
                self.value(part)
        elif callable(value) and not isinstance(value, type):
            self.word(type(value).__qualname__)
        else:
            self.word(str(value))

    def _jaxpr(self, jaxpr: core.Jaxpr) -> None:
        known = id(jaxpr) in self._known
        number, _ = self._known.setdefault(id(jaxpr), (len(self._known), jaxpr))
        self.word(f"program {number}")
        if known:
            return
        variables: dict[Any, int] = {}

        def atom(var: Any) -> None:
            if isinstance(var, core.Literal):
                self.value(var.val)
            else:
                self.word(f"v{variables.setdefault(var, len(variables))}")
            self.word(var.aval.str_short())

        for var in (*jaxpr.constvars, *jaxpr.invars):
            atom(var)
        for operation in jaxpr.eqns:
            self.operations += 1
            self.word(operation.primitive.name)
            for var in (*operation.invars, *operation.outvars):
                atom(var)
            self.value({k: v for k, v in operation.params.items() if k != "name"})
        for var in jaxpr.outvars:
            atom(var)
