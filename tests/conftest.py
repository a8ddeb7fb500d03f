"""Strict flags for every test, set before jax's backend starts."""

import functools
import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import numpy as np
import pytest

PROFILE = os.environ.get("GAMEDYN_TEST_PROFILE", "thorough")
if PROFILE == "quick":
    # The suite compiles thousands of small programs: without LLVM's optimiser, each in
    # one piece and with XLA's plainer code for fused loops, in half of the time.
    flags = ["--xla_backend_optimization_level=0"]
    flags += ["--xla_cpu_parallel_codegen_split_count=1"]
    if jax.__version_info__ < (0, 11):  # others end the process: it is gone
        flags += ["--xla_cpu_use_fusion_emitters=false"]
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))

X64 = os.environ.get("GAMEDYN_TEST_X64", "1") != "0"

jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # for the tests of sharded sweeps

# The first example compiles, so no deadline fits. `make test` asks for "quick".
hypothesis.settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=40)
hypothesis.settings.load_profile(PROFILE)

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
    path = list(sys.path)
    yield tmp_path
    # What was imported from it must not stand in for another test's.
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def quick_classifier(request, tmp_path_factory, monkeypatch):
    """Measure by a linear classifier, in slow tests by the project's own."""
    from gamedyn import metrics

    if request.node.get_closest_marker("slow"):
        cache = tmp_path_factory.getbasetemp() / "classifiers"
        short = functools.partial(metrics.classifier, num_steps=100, cache=cache)
    else:
        short = linear_classifier
    monkeypatch.setattr(metrics, "classifier", short)


def linear_classifier(training, test):
    """Fit the classes by least squares: right on nine of ten digits, and at once."""
    from gamedyn import metrics

    def features(images):
        return images.reshape(len(images), -1) / training.maximum - 0.5

    classes = np.eye(training.num_classes)[training.labels]
    weights = np.linalg.lstsq(features(training.images), classes, rcond=None)[0]

    def apply(images):
        x = features(np.asarray(images))
        return x, 10 * (x @ weights)

    accuracy = np.mean(apply(test.images)[1].argmax(1) == test.labels)
    return metrics.Extractor(
        "digits_cnn",
        apply,
        "pixels",
        metrics.hash_arrays({"weights": weights}),
        maximum=training.maximum,
        test_accuracy=float(accuracy),
    )


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Forget compiled programs between modules, before a worker fills the machine."""
    yield
    if _resident_bytes() > 3 * 2**30:
        jax.clear_caches()
        gc.collect()


def _resident_bytes():
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
