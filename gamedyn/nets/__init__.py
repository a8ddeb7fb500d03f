"""Networks whose layers are pure functions of parameters and inputs."""

import importlib
from typing import TYPE_CHECKING, Any

from gamedyn.nets import (
    attention,
    embedding,
    layers,
    linear,
    normalisation,
    spectral,
)
from gamedyn.nets.convolutions import (
    convolve,
    convolve_transposed,
    from_torch_conv2d,
    from_torch_conv_transpose2d,
    output_padding_for,
    output_size,
    preferred_layout,
    same_padding,
    swap_layout,
    transposed_output_size,
)
from gamedyn.nets.dcgan import dcgan_discriminator, dcgan_generator
from gamedyn.nets.dit import dit
from gamedyn.nets.embedding import sinusoidal
from gamedyn.nets.maxout import (
    mirza_osindero_discriminator,
    mirza_osindero_generator,
    pacgan_discriminator,
    pacgan_generator,
)
from gamedyn.nets.mlp import mlp
from gamedyn.nets.net import (
    Net,
    compute_in,
    concatenate_condition,
    count_parameters,
    from_function,
)
from gamedyn.nets.patch import patch_discriminator
from gamedyn.nets.points import point_mlp
from gamedyn.nets.resnet import sngan_discriminator, sngan_generator
from gamedyn.nets.spectral import spectrally_normalised
from gamedyn.nets.text import text_encoder
from gamedyn.nets.unet import unet

if TYPE_CHECKING:
    from gamedyn.nets.adapters import from_linen, from_nnx

__all__ = [
    "Net",
    "attention",
    "compute_in",
    "concatenate_condition",
    "convolve",
    "convolve_transposed",
    "count_parameters",
    "dcgan_discriminator",
    "dcgan_generator",
    "dit",
    "embedding",
    "from_function",
    "from_linen",
    "from_nnx",
    "from_torch_conv2d",
    "from_torch_conv_transpose2d",
    "layers",
    "linear",
    "mirza_osindero_discriminator",
    "mirza_osindero_generator",
    "mlp",
    "normalisation",
    "output_padding_for",
    "output_size",
    "pacgan_discriminator",
    "pacgan_generator",
    "patch_discriminator",
    "point_mlp",
    "preferred_layout",
    "same_padding",
    "sinusoidal",
    "sngan_discriminator",
    "sngan_generator",
    "spectral",
    "spectrally_normalised",
    "swap_layout",
    "text_encoder",
    "transposed_output_size",
    "unet",
]


def __getattr__(name: str) -> Any:
    # These alone need flax, which takes a while to import.
    if name in ("from_linen", "from_nnx"):
        return getattr(importlib.import_module("gamedyn.nets.adapters"), name)
    raise AttributeError(f"module 'gamedyn.nets' has no attribute {name!r}")
