"""Pin this process, and every thread pool in it, to one core; import it first."""

import os

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
_EIGEN = "--xla_cpu_multi_thread_eigen=false"
if _EIGEN not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_EIGEN}".strip()
if hasattr(os, "sched_setaffinity"):  # also the size of XLA's own thread pool
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
