"""Strict flags for every test, set before jax's backend starts."""

import gc
import os

os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest

X64 = os.environ.get("GAMEDYN_TEST_X64", "1") != "0"

jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # for the tests of sharded sweeps

# The first example compiles, so no deadline fits. `make test` asks for "quick".
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=40)
hypothesis.settings.load_profile(os.environ.get("GAMEDYN_TEST_PROFILE", "thorough"))

# Tracing makes many small objects that live: looking for cycles among them at Python's
# own pace is a tenth of the suite's time.
gc.set_threshold(50_000, 20, 100)

# These run in a process of their own, see test_without_x64.py.
collect_ignore = ["without_x64"] if X64 else []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Run commands in a folder of their own; the backend runs already, so no flags."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gamedyn.runtime.configure", lambda **kwargs: None)
    return tmp_path
