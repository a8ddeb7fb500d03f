"""Networks whose layers are pure functions of parameters and inputs."""

# ruff: noqa: I001  Every public name on one line.
import importlib
from typing import TYPE_CHECKING, Any

from gamedyn.nets import (
    attention as attention,
    embedding as embedding,
    layers as layers,
    linear as linear,
    normalisation as normalisation,
    spectral as spectral,
)
from gamedyn.registry import missing as _missing
from gamedyn.nets.convolutions import (
    convolve as convolve,
    convolve_transposed as convolve_transposed,
    from_torch_conv2d as from_torch_conv2d,
    from_torch_conv_transpose2d as from_torch_conv_transpose2d,
    output_padding_for as output_padding_for,
    output_size as output_size,
    preferred_layout as preferred_layout,
    same_padding as same_padding,
    swap_layout as swap_layout,
    transposed_output_size as transposed_output_size,
)
from gamedyn.nets.dcgan import (
    dcgan_discriminator as dcgan_discriminator,
    dcgan_generator as dcgan_generator,
)
from gamedyn.nets.dit import dit as dit
from gamedyn.nets.embedding import sinusoidal as sinusoidal
from gamedyn.nets.maxout import (
    mirza_osindero_discriminator as mirza_osindero_discriminator,
    mirza_osindero_generator as mirza_osindero_generator,
    pacgan_discriminator as pacgan_discriminator,
    pacgan_generator as pacgan_generator,
)
from gamedyn.nets.mlp import mlp as mlp
from gamedyn.nets.net import (
    Net as Net,
    compute_in as compute_in,
    concatenate_condition as concatenate_condition,
    count_parameters as count_parameters,
    from_function as from_function,
)
from gamedyn.nets.patch import patch_discriminator as patch_discriminator
from gamedyn.nets.points import point_mlp as point_mlp
from gamedyn.nets.resnet import (
    sngan_discriminator as sngan_discriminator,
    sngan_generator as sngan_generator,
)
from gamedyn.nets.spectral import spectrally_normalised as spectrally_normalised
from gamedyn.nets.text import text_encoder as text_encoder
from gamedyn.nets.unet import unet as unet

if TYPE_CHECKING:
    from gamedyn.nets.adapters import from_linen as from_linen, from_nnx as from_nnx


def __getattr__(name: str) -> Any:
    # These alone need flax, which takes a while to import.
    if name in ("from_linen", "from_nnx"):
        return getattr(importlib.import_module("gamedyn.nets.adapters"), name)
    return _missing(__name__)(name)
