"""Networks whose layers are pure functions of parameters and inputs."""

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

__all__ = [
    "convolve",
    "convolve_transposed",
    "from_torch_conv2d",
    "from_torch_conv_transpose2d",
    "output_padding_for",
    "output_size",
    "preferred_layout",
    "same_padding",
    "swap_layout",
    "transposed_output_size",
]
