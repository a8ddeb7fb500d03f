r"""A transposed convolution is the gradient of a convolution: in numbers and pictures.

Command:

    gamedyn train transposed_convolution [--out results/transposed_convolution]

Paper: V. Dumoulin and F. Visin, A guide to convolution arithmetic for deep learning,
2016, arXiv:1603.07285.

A convolution is linear in its input, $u \mapsto A u$, so the gradient of
$\langle A u, x \rangle$ with respect to u is $A^\top x$: the matrix of the convolution,
transposed. That is the layer with which DCGAN's generator enlarges pictures. For nine
settings of kernel k, stride s, padding p and output padding, with random kernels and
pictures in float64, the same numbers come from

- the definition, a loop of numpy: $y_{is - p + a} \mathrel{+}= x_i W_a$ (`reference`);
- the gradient of a convolution, by reverse-mode differentiation (`gradient`);
- its matrix, found column by column, transposed (`matrix`);
- a convolution of x with s - 1 zeros between its pixels, kernel flipped (`dilation`);
- `jax.lax.conv_transpose`, kernel flipped and padding k - 1 - p (`lax`);
- `gamedyn.nets.convolve_transposed` with the weights of a torch layer, in both of its
  implementations (`matmul`, `xla`).

Expected: every relative error, and the gap in $\langle A u, x \rangle =
\langle u, A^\top x \rangle$ (`adjoint`), below 1e-12 (about 1e-16). The kernel that is
not flipped has the right shape and wrong numbers: error above 0.5 (1.2 to 1.7). Where
s divides k every pixel in the interior is painted equally often; with k = 3, s = 2
once, twice or four times: the checkerboard.

The table is in `errors.txt`; pictures: `matrix.png`, `painting.png`,
`checkerboard.png`. 15 seconds on one CPU core, most of it compilation; `--smoke` 6.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gamedyn import nets

from .definition import (
    DIMENSIONS,
    Setting,
    convolution,
    interior_counts,
    output_size,
    scatter,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    # An empty folder for what comes out.
    out: Path = Path("results/transposed_convolution")
    seed: int = 0  # of the kernels and the pictures
    num_settings: int = 9  # how many of `SETTINGS` to go through
    batch_size: int = 2  # pictures
    size: int = 5  # rows and columns of the small pictures
    inputs: int = 3  # channels of the small pictures
    outputs: int = 2  # channels of the large ones
    tolerance: float = 1e-12  # the largest relative error allowed


SETTINGS = tuple(
    Setting(*numbers)
    for numbers in (
        (4, 2, 1, 0),
        (3, 2, 1, 1),
        (4, 1, 0, 0),
        (5, 2, 2, 1),
        (3, 1, 1, 0),
        (7, 1, 0, 0),
        (2, 2, 0, 0),
        (6, 2, 2, 0),
        (5, 3, 1, 0),
    )
)

SMOKE = Config(num_settings=2, size=4)
"""The two layers of DCGAN and of its checkerboard."""


def forms(x: jax.Array, weight: jax.Array, setting: Setting) -> dict[str, jax.Array]:
    """Compute the transposed convolution in every way, and without the flip."""
    k, s, p, e = setting
    rows = output_size(setting, x.shape[1])
    shape = (len(x), rows, rows, weight.shape[1])

    def of_one(u):
        return convolution(u, weight, setting)

    # The gradient of <A u, x>; A is linear, so that any u does.
    gradient = jax.grad(lambda u: jnp.vdot(of_one(u), x))(jnp.zeros(shape, x.dtype))
    single = jnp.zeros((1, *shape[1:]), x.dtype)
    matrix = jax.jacfwd(of_one)(single).reshape(x[0].size, single.size)
    by_matrix = (x.reshape(len(x), -1) @ matrix).reshape(shape)
    upright = weight.transpose(2, 3, 0, 1)
    flipped = upright[::-1, ::-1]
    pads = [(k - 1 - p, k - 1 - p + e)] * 2

    def dilated(kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), pads, lhs_dilation=(s, s), dimension_numbers=DIMENSIONS
        )

    kernel = nets.from_torch_conv_transpose2d(weight)
    layer = functools.partial(
        nets.convolve_transposed, x, kernel, stride=s, padding=p, output_padding=e
    )
    return {
        "gradient": gradient,
        "matrix": by_matrix,
        "dilation": dilated(flipped),
        "lax": lax.conv_transpose(
            x, flipped, (s, s), pads, dimension_numbers=DIMENSIONS
        ),
        "matmul": layer(impl="matmul"),
        "xla": layer(impl="xla"),
        "not flipped": dilated(upright),
    }


def errors(config: Config, setting: Setting) -> dict[str, float]:
    """Compare every form with the definition.

    Returns:
        By name the relative error, and of the adjoint identity the relative gap.
    """
    draw = np.random.default_rng((config.seed, *setting)).normal
    n, k = config.size, setting.kernel
    x = draw(size=(config.batch_size, n, n, config.inputs))
    weight = draw(size=(config.inputs, config.outputs, k, k))
    reference = scatter(x, weight, setting)
    u = draw(size=reference.shape)
    with jax.enable_x64(True):
        arrays = jnp.asarray(x), jnp.asarray(weight)
        outputs = {name: np.asarray(y) for name, y in forms(*arrays, setting).items()}
        image = np.asarray(convolution(jnp.asarray(u), arrays[1], setting))
    result = {
        name: float(np.linalg.norm(y - reference) / np.linalg.norm(reference))
        for name, y in outputs.items()
    }
    gap = np.vdot(image, x) - np.vdot(u, reference)
    sizes = np.linalg.norm(u) * np.linalg.norm(reference)
    return result | {"adjoint": float(abs(gap) / sizes)}


def check(
    config: Config, measured: dict[str, dict[str, float]], counts: dict[str, list[int]]
) -> dict[str, bool]:
    """Compare with what the module's docstring expects."""
    rows = {setting: measured[str(tuple(setting))] for setting in _settings(config)}
    right = [
        error
        for row in rows.values()
        for name, error in row.items()
        if name != "not flipped"
    ]
    return {
        "every form is the transposed convolution": max(right) < config.tolerance,
        "the flip matters": all(row["not flipped"] > 0.5 for row in rows.values()),
        "even where the stride divides the kernel": all(
            (len(counts[str(tuple(setting))]) == 1)
            == (setting.kernel % setting.stride == 0)
            for setting in rows
        ),
    }


def _settings(config: Config) -> tuple[Setting, ...]:
    return SETTINGS[: config.num_settings]


def main(config: Config) -> dict[str, Any]:
    """Run the experiment and write `config.out`.

    Args:
        config: what to run.

    Returns:
        The summary: relative errors by setting, counts of overlaps, checks.

    Raises:
        FileExistsError: if the folder holds anything already.
    """
    from gamedyn import files

    from . import pictures

    with files.folder(config.out) as out:
        settings = _settings(config)
        measured = {str(tuple(s)): errors(config, s) for s in settings}
        counts = {str(tuple(s)): interior_counts(s) for s in settings}
        for name, figure in {
            "matrix.png": pictures.matrices(),
            "painting.png": pictures.painting(),
            "checkerboard.png": pictures.checkerboard(),
        }.items():
            figure.savefig(out / name, dpi=95)
        (out / "errors.txt").write_text(table(measured))
    print(table(measured))
    rounded = {
        setting: {name: float(f"{error:.1e}") for name, error in row.items()}
        for setting, row in measured.items()
    }
    return {
        "errors": rounded,
        "times a pixel is painted": counts,
        "checks": check(config, measured, counts),
    }


def table(measured: dict[str, dict[str, float]]) -> str:
    """Write the errors as lines of text, a row per setting."""
    names = list(next(iter(measured.values())))
    lines = [f"{'(k, s, p, op)':16}" + "".join(f"{name:>13}" for name in names)]
    for setting, row in measured.items():
        cells = "".join(f"{row[name]:13.1e}" for name in names)
        lines.append(f"{setting:16}{cells}")
    return "\n".join(lines) + "\n"
