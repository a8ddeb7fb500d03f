"""Configuration, each in a process of its own: the backend starts only once."""

import json
import os
import platform
import subprocess
import sys

import pytest

OPTION = "xla_cpu_small_while_loop_byte_threshold"
BEGIN = """
import os
import platform
import jax
import jax.numpy as jnp
import gamedyn as gd

def flags():
    return os.environ.get("XLA_FLAGS", "")

def started():
    from jax._src import xla_bridge
    return xla_bridge.backends_are_initialized()
"""


def run(code, **environment):
    """Run lines in a fresh process; what they print is one JSON value."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XLA_", "JAX_"))
    }
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + code],
        env=clean | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_importing_sets_nothing():
    code = """
import json
json_ = [flags(), jax.config.read("jax_enable_x64"),
         jax.config.jax_num_cpu_devices, started()]
print(json.dumps(json_))
"""
    text, x64, devices, started = run(code)
    assert text == ""
    assert x64 is False
    assert devices == -1
    assert started is False


def test_everything_at_once_before_the_backend():
    code = """
import json
assert not started()
gd.runtime.configure(x64=True, num_cpu_devices=3)
assert not started()
first = flags()
gd.runtime.configure(x64=True, num_cpu_devices=3)  # again: nothing changes
assert flags() == first
total = jax.jit(lambda x: jax.lax.fori_loop(0, 10, lambda _, z: z + x, x))(0.1)
devices = len(jax.devices())
gd.runtime.configure(x64=True, num_cpu_devices=3)  # and after the start: still nothing
print(json.dumps([first, str(total.dtype), devices]))
"""
    flags, dtype, devices = run(code)
    assert flags == f"--xla_backend_extra_options={OPTION}=65536"
    assert dtype == "float64"
    assert devices == 3


def test_products_by_eigen():
    code = """
import json
import importlib.metadata as metadata
version = metadata.version("jaxlib")
gd.runtime.configure(eigen_products=True, small_loop_bytes=None)
first = flags()
product = jax.jit(lambda x: x @ x).lower(jnp.ones((64, 64))).compile()
gd.runtime._KNOWS_LIBRARY = ()
gd.runtime.configure(eigen_products=True, small_loop_bytes=None)
print(json.dumps([version, first, "ynn" in product.as_text()]))
"""
    version, flags, newer = run(code)
    if version == "0.10.1":
        option = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE"
        assert flags == option
        assert not newer
    else:
        assert flags == ""


def test_the_users_own_flags_are_kept():
    code = """
import json
gd.runtime.configure()
first = flags()
gd.runtime.configure(small_loop_bytes=2048)
jnp.zeros(())
print(json.dumps([first, flags()]))
"""
    given = (
        "--xla_cpu_enable_fast_math=false "
        f"--xla_backend_extra_options=xla_cpu_disable_loop_unrolling,{OPTION}=655360 "
        "--xla_force_host_platform_device_count=2"
    )
    first, second = run(code, XLA_FLAGS=given)
    for text, size in ((first, 65536), (second, 2048)):
        words = text.split()
        assert words[:2] == [
            "--xla_cpu_enable_fast_math=false",
            "--xla_force_host_platform_device_count=2",
        ]
        assert words[2] == (
            "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling,"
            f"{OPTION}={size}"
        )
        assert len(words) == 3


def test_too_late():
    code = """
import json
jnp.zeros(())
assert started()
messages = []
for options in ({}, {"small_loop_bytes": None, "num_cpu_devices": 2}):
    try:
        gd.runtime.configure(x64=True, **options)
    except RuntimeError as error:
        messages.append(str(error))
refused = flags(), jax.config.read("jax_enable_x64")
# What can still be changed, can be.
gd.runtime.configure(small_loop_bytes=None, x64=True)
print(json.dumps([messages, refused, jax.config.read("jax_enable_x64")]))
"""
    messages, refused, x64 = run(code)
    assert len(messages) == 2
    assert all("before the first computation" in message for message in messages)
    assert refused == ["", False]
    assert x64 is True


def test_bad_numbers():
    code = """
import json
messages = []
for options in ({"small_loop_bytes": 0}, {"num_cpu_devices": -1}):
    try:
        gd.runtime.configure(**options)
    except ValueError as error:
        messages.append(str(error))
print(json.dumps([messages, flags()]))
"""
    messages, flags = run(code)
    assert [message.split()[0] for message in messages] == [
        "small_loop_bytes",
        "num_cpu_devices",
    ]
    assert flags == ""


@pytest.mark.parametrize("late", [False, True])
def test_compilation_cache_is_filled_and_read(tmp_path, late):
    # An entry is written under a name that begins with the function's; a second process
    # finds it. On some processors entries are rejected when read, which is no error.
    code = f"""
import json
if {late}:
    jax.jit(lambda x: x + 1)(jnp.zeros(()))
gd.runtime.configure(
    small_loop_bytes=None, compilation_cache={str(tmp_path / "cache")!r}
)
@jax.jit
def polynomial(x):
    return x * x + 3
print(json.dumps(float(polynomial(jnp.array(2.0)))))
"""
    for _ in range(1 if late else 2):
        assert run(code) == 7.0
    entries = list((tmp_path / "cache").glob("jit_polynomial-*-cache"))
    assert len(entries) == 1


def test_the_threshold_reaches_the_compiler():
    # This loop touches about 2 kB: XLA turns it into a call of one kernel only with
    # the larger threshold, and marks that call. XLA's own depends on the version.
    code = """
import json
OPTIONS
def run(matrix, z):
    step = lambda z, _: (jnp.tanh(z @ matrix), None)
    return jax.lax.scan(step, z, length=1000)[0]
text = jax.jit(run).lower(jnp.ones((20, 20)), jnp.ones(20)).compile().as_text()
print(json.dumps("xla_cpu_small_call" in text))
"""
    assert run(code.replace("OPTIONS", "gd.runtime.configure()")) is True
    small = "gd.runtime.configure(small_loop_bytes=256)"
    assert run(code.replace("OPTIONS", small)) is False


def test_environment():
    code = """
import json
gd.runtime.configure(x64=True, num_cpu_devices=2)
print(json.dumps(gd.runtime.environment(), allow_nan=False))
"""
    result = run(code, OMP_NUM_THREADS="1")
    import jax

    import gamedyn

    assert result["gamedyn"] == gamedyn.__version__
    assert result["jax"] == jax.__version__
    assert result["python"] == ".".join(map(str, sys.version_info[:3]))
    assert result["num_devices"] == 2
    assert result["x64"] is True
    assert result["OMP_NUM_THREADS"] == "1"
    assert OPTION in result["XLA_FLAGS"]
    assert result["cores"] >= result["usable_cores"] >= 1
    assert result["device"].startswith("cpu")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_kept_on_request():
    """A large buffer comes from the heap, and the heap does not shrink."""
    program = """
import ctypes, sys
import numpy as np
import gamedyn as gd
Fields = type("Fields", (ctypes.Structure,), {"_fields_": [
    (name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
        "uordblks", "fordblks", "keepcost")]})
libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Fields
if sys.argv[1] == "keep":
    gd.runtime.configure(keep_memory=True)
before = libc.mallinfo2()
buffer = np.ones(2**26, np.uint8)
during = libc.mallinfo2()
del buffer
after = libc.mallinfo2()
print(during.hblks > before.hblks, after.arena >= 2**26)
"""
    for mode, expected in (("keep", "False True"), ("default", "True False")):
        done = subprocess.run(
            [sys.executable, "-c", program, mode],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
