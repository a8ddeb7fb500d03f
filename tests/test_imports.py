"""`import gamedyn` stays as light as jax and optax."""

import subprocess
import sys

HEAVY = {"flax", "matplotlib", "orbax", "rich", "scipy.optimize", "sklearn", "tyro"}


def _loaded_by(statement):
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(run.stdout.split())


def test_import_leaves_heavy_libraries_alone():
    # Whatever jax and optax load themselves is theirs to answer for.
    added = _loaded_by("import gamedyn") - _loaded_by("import jax, optax")
    assert "gamedyn" in added
    assert not added & HEAVY
