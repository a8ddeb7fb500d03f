"""Configure JAX for fast small loops, and describe the environment."""

import ctypes
import importlib.metadata as metadata
import os
import platform
import re
from typing import TYPE_CHECKING, Any

import jax

from gamedyn.registry import missing as _missing

_SMALL_LOOPS = "xla_cpu_small_while_loop_byte_threshold"
# The flag that says which operations XLA gives to its newer library of CPU kernels. Set
# it only for a jaxlib that knows it: another one would end the process.
_LIBRARY = "--xla_cpu_experimental_ynn_fusion_type"
_KNOWS_LIBRARY = ("0.10.1",)


def configure(
    *,
    x64: bool | None = None,
    small_loop_bytes: int | None = 65536,
    num_cpu_devices: int | None = None,
    compilation_cache: str | os.PathLike[str] | None = None,
    keep_memory: bool = False,
    eigen_products: bool = False,
) -> None:
    """Configure JAX for game dynamics; call it before the first computation.

    Importing gamedyn never sets a flag; this function does, on request.

    Args:
        x64: whether float64 is enabled; `None` leaves the setting unchanged.
        small_loop_bytes: loops that touch fewer bytes than this compile to a single
            machine kernel on the CPU, 2 to 11 times faster for games of 10 to 32
            dimensions; `None` leaves XLA's own bound: about 1 kB up to jaxlib 0.11,
            none in 0.12.
        num_cpu_devices: the number of virtual CPU devices, for sharded sweeps; `None`
            leaves it unchanged.
        compilation_cache: a directory where compiled programs are stored for later
            runs.
        keep_memory: let the C library keep freed memory until the process ends. By
            default it returns large buffers to the system, and mapping them again takes
            a fifth of the time of a convolutional net's training step on the CPU. Has
            an effect with glibc only.
        eigen_products: compute matrix products on the CPU with Eigen, XLA's older
            library, with AVX-512 a tenth faster than the default of jaxlib 0.10. Has no
            effect with other versions, or if XLA_FLAGS sets the choice already.

    Raises:
        RuntimeError: if the backend already runs, and a setting that it reads only at
            its start would change.
        ValueError: if a number is not positive.
    """
    for name, value in (
        ("small_loop_bytes", small_loop_bytes),
        ("num_cpu_devices", num_cpu_devices),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be positive, got {value}")
    # What differs from the present settings and is read when the backend starts.
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = f"{_SMALL_LOOPS}={small_loop_bytes}"
    present = re.findall(rf"{_SMALL_LOOPS}=\d+", flags)
    sets_flags = small_loop_bytes is not None and wanted not in present
    sets_devices = (
        num_cpu_devices is not None
        and jax.config.values["jax_num_cpu_devices"] != num_cpu_devices
    )
    sets_library = (
        eigen_products
        and metadata.version("jaxlib") in _KNOWS_LIBRARY
        and _LIBRARY not in flags
    )
    if (sets_flags or sets_devices or sets_library) and _backend_runs():
        raise RuntimeError(
            "configure() must come before the first computation: the backend already "
            "runs and would ignore its flags"
        )
    # Settings that the backend reads at its start.
    if sets_flags:
        flags = _with_backend_option(flags, wanted)
    if sets_library:
        flags = f"{flags} {_LIBRARY}=LIBRARY_FUSION_TYPE_REDUCE".strip()
    if sets_flags or sets_library:
        os.environ["XLA_FLAGS"] = flags
    if sets_devices:
        jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    # Settings that may change at any time.
    if x64 is not None:
        jax.config.update("jax_enable_x64", x64)
    if compilation_cache is not None:
        jax.config.update("jax_compilation_cache_dir", os.fspath(compilation_cache))
        # Small programs as well: by default only those that compile for long.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if keep_memory:
        _keep_memory()


def environment() -> dict[str, Any]:
    """Describe versions, devices, flags, threads and load, for records of measurements.

    Returns:
        JSON values by name; `None` where something is not installed or not known.
    """
    packages = ("jax", "jaxlib", "optax", "numpy", "scipy", "flax")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    import gamedyn

    device = jax.devices()[0]
    return {
        "gamedyn": gamedyn.__version__,
        "python": platform.python_version(),
        **versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "num_devices": jax.device_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        "load": _load(),
    }


def _load() -> list[float] | None:
    try:
        return [round(x, 2) for x in os.getloadavg()]
    except (AttributeError, OSError):  # not on this system, or not in this container
        return None


def _keep_memory() -> None:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    # No separate mapping for a large buffer; never trim the heap; one heap for all
    # threads. The negative numbers are glibc's names of these options.
    map_max, trim_threshold, arena_max = -4, -1, -8
    for option, value in ((map_max, 0), (trim_threshold, 2**31 - 1), (arena_max, 1)):
        mallopt(option, value)


def _backend_runs() -> bool:
    # A private name of jax: no public function answers without starting the backend.
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def _with_backend_option(flags: str, option: str) -> str:
    """Add an option to `--xla_backend_extra_options`, keeping the others."""
    prefix = "--xla_backend_extra_options="
    words, options = [], []
    for word in flags.split():
        if word.startswith(prefix):
            given = word.removeprefix(prefix).split(",")
            options += [o for o in given if not o.startswith(_SMALL_LOOPS)]
        else:
            words.append(word)
    return " ".join([*words, prefix + ",".join([*options, option])])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
